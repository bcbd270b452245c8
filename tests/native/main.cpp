// native_test [--concurrent | text]: runs all tests, those in which threads meet, or those whose
// name holds the text.
#include <chrono>
#include <cstdio>
#include <cstring>

#include "suites.h"
#include "variants.h"

namespace {

bool chosen(const lreorg::test::Test& test, const char* argument) {
  return std::strcmp(argument, "--concurrent") == 0 ? test.concurrent
                                                    : std::strstr(test.name, argument) != nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace lreorg::test;
  for (const lreorg::cpu::Kernels& kernels : variants()) std::printf("kernels: %s\n", kernels.name);
  int count = 0;
  const std::vector<Test>* const suites[] = {
      &packed_tests,         &executor_tests,        &team_tests,
      &cuda_primitive_tests, &cuda_reorganize_tests, &cuda_reorganize_tests_sm80,
#ifdef LREORG_TEST_TENSORRT
      &cuda_repack_tests,    &tensorrt_tests,
#endif
  };
  for (const std::vector<Test>* suite : suites) {
    for (const Test& test : *suite) {
      if (argc > 1 && !chosen(test, argv[1])) continue;
      std::printf("%s ... ", test.name);
      std::fflush(stdout);  // if it aborts, its name is the last that was said
      const auto start = std::chrono::steady_clock::now();
      test.run();
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      std::printf("%.2f s\n", seconds.count());
      ++count;
    }
  }
  std::printf("%d tests passed\n", count);
  return count > 0 ? 0 : 1;
}
