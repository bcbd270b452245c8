// What the native tests share: a check that ends the program, and the list of tests.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace lreorg::test {

// static: this header is also read by files that are compiled for one instruction set.
static inline void check(bool condition, const char* what, const char* file, int line) {
  if (condition) return;
  std::fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
  std::abort();
}

#define CHECK(condition) ::lreorg::test::check((condition), #condition, __FILE__, __LINE__)

// The statement throws an Exception whose what() contains the text.
#define CHECK_THROWS(Exception, text, ...)                                \
  do {                                                                    \
    bool thrown = false;                                                  \
    try {                                                                 \
      __VA_ARGS__;                                                        \
    } catch (const Exception& error) {                                    \
      thrown = std::string(error.what()).find(text) != std::string::npos; \
      if (!thrown) std::fprintf(stderr, "it said: %s\n", error.what());   \
    }                                                                     \
    CHECK(thrown);                                                        \
  } while (false)

struct Test {
  const char* name;
  bool concurrent;  // threads meet in it: what a search for data races must run
  void (*run)();
};

// Not changed by what the linker or the standard library does, unlike <random>'s distributions.
class Random {
 public:
  explicit Random(unsigned long long seed) : state_(seed * 2 + 1) {}
  // Even in [-1, 1), of variance 1/3.
  double next() {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<double>(static_cast<long long>(state_)) / 9223372036854775808.0;
  }

 private:
  unsigned long long state_;
};

}  // namespace lreorg::test
