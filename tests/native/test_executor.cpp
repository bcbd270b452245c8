// Whole programs on every variant, type of weights and number of threads.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "allocations.h"
#include "check.h"
#include "core/executor.h"
#include "network.h"
#include "suites.h"
#include "variants.h"

namespace lreorg::test {
namespace {

constexpr WeightType kTypes[] = {WeightType::float32, WeightType::bfloat16, WeightType::int8};
constexpr std::size_t kKeywords = 2;

// Two lanes apart, then two lanes back, of which each leaves another half unused. Inputs s, f';
// outputs f, r (keyword 0), f (1), s (0), loss (1).
Program make_program() {
  return Program(2,
                 {{Direction::disentangle, {{0, kNone, 0, 2, 3}, {1, kNone, 0, 4, kNone}}},
                  {Direction::fuse, {{0, 1, 3, kNone, 5}, {1, 4, 3, 6, kNone}}}},
                 {2, 3, 4, 5, 6});
}
constexpr std::size_t kOutputs = 5;

struct Latents {
  Latents(std::size_t count, std::size_t width) : tokens(count), dim(width) {
    Random random(tokens * 1000 + dim);
    for (std::vector<float>& rows : inputs) {
      rows.resize(tokens * dim);
      for (float& x : rows) x = static_cast<float>(2 * random.next());
    }
  }
  std::size_t tokens;
  std::size_t dim;
  std::vector<float> inputs[2];
};

using Results = std::vector<std::vector<float>>;

void run_into(const Executor& executor, const Program& program, const Latents& latents,
              std::size_t threads, Results& results) {
  const float* in[2] = {latents.inputs[0].data(), latents.inputs[1].data()};
  float* out[kOutputs];
  for (std::size_t i = 0; i < kOutputs; ++i) out[i] = results[i].data();
  executor.run(program, in, out, latents.tokens, threads);
}

Results run(const Executor& executor, const Latents& latents, std::size_t threads) {
  Results results(kOutputs, std::vector<float>(latents.tokens * latents.dim));
  run_into(executor, make_program(), latents, threads, results);
  return results;
}

// The program for one token, naively.
std::vector<Values> expected(const Network& network, const Latents& latents, std::size_t token) {
  const auto row = [&](std::size_t input) {
    const float* from = latents.inputs[input].data() + token * latents.dim;
    return Values(from, from + latents.dim);
  };
  const Values zeros(latents.dim, 0);
  Values f = zeros, r = row(0), f1 = zeros, r1 = row(0);
  network.disentangle(f, r, 0);
  network.disentangle(f1, r1, 1);
  Values loss = row(1), s = r, loss1 = f1, s1 = r;
  network.fuse(loss, s, 0);
  network.fuse(loss1, s1, 1);
  return {f, r, f1, s, loss1};
}

double limit(cpu::OperandType type) {
  // Against the same rounded weights. float32: some hundred roundings of 6e-8 and the error of exp;
  // measured 4e-6. Rounded activations: 2^-9, or 1/254 of the largest of 32, in 24 products there
  // and back; measured 0.018 and 0.071.
  constexpr double kLimits[] = {2e-5, 0.05, 0.2};
  return kLimits[static_cast<std::size_t>(type)];
}

template <typename Use>
void for_each_executor(const Network& network, Use use) {
  for (const WeightType type : kTypes) {
    const std::shared_ptr<const PackedWeights> weights = network.pack(type);
    const Network as_kept = network.rounded(type);
    for (const cpu::Kernels& kernels : variants()) {
      for (const bool exact : {false, true}) {
        const Executor executor(weights, network.constants, kernels, exact);
        CHECK(!exact || executor.operand() == cpu::OperandType::float32);
        use(executor, as_kept);
      }
    }
  }
}

void check_close(const Executor& executor, const Network& network, const Latents& latents,
                 const Results& results) {
  double largest = 0;
  for (const std::size_t token : {std::size_t{0}, latents.tokens / 2, latents.tokens - 1}) {
    const std::vector<Values> right = expected(network, latents, token);
    for (std::size_t i = 0; i < kOutputs; ++i) {
      for (std::size_t c = 0; c < latents.dim; ++c) {
        const double error = std::abs(results[i][token * latents.dim + c] - right[i][c]);
        CHECK(std::isfinite(error));
        largest = std::max(largest, error);
      }
    }
  }
  if (largest >= limit(executor.operand())) {
    std::fprintf(stderr, "%s: error %g\n", executor.kernels().name, largest);
  }
  CHECK(largest < limit(executor.operand()));
}

void programs_follow_the_equations() {
  constexpr std::uint32_t kShapes[][3] = {{1, 1, 1}, {40, 9, 3}, {96, 8, 1}, {130, 20, 1}};
  for (const auto& [dim, growth, blocks] : kShapes) {
    const Network network = random_network(dim, growth, blocks, kKeywords);
    for_each_executor(network, [&](const Executor& executor, const Network& as_kept) {
      for (const std::size_t tokens : {1, 33}) {
        const Latents latents(tokens, executor.weights().shape().dim);
        check_close(executor, as_kept, latents, run(executor, latents, 1));
      }
    });
  }
}

void threads_and_chunks_change_nothing() {
  const Network network = random_network(70, 9, 1, kKeywords);
  for_each_executor(network, [&](const Executor& executor, const Network& as_kept) {
    for (const std::size_t tokens : {65, 129}) {
      const Latents latents(tokens, 70);
      const Results alone = run(executor, latents, 1);
      check_close(executor, as_kept, latents, alone);
      for (const std::size_t threads : {2, 5}) CHECK(run(executor, latents, threads) == alone);
    }
  });
  CHECK(threads_with_tiles() == 0);
}

// Four threads of the caller share an executor and the process's team.
void callers_share_an_executor() {
  const Network network = random_network(70, 12, 1, kKeywords);
  for_each_executor(network, [&](const Executor& executor, const Network&) {
    const Latents latents(33, 70);
    const Results right = run(executor, latents, 1);
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; ++i) {
      callers.emplace_back([&] {
        for (int repeat = 0; repeat < 3; ++repeat) CHECK(run(executor, latents, 2) == right);
      });
    }
    for (std::thread& caller : callers) caller.join();
  });
}

void a_second_run_does_not_allocate() {
  const Network network = random_network(70, 9, 1, kKeywords);
  const Program program = make_program();
  for_each_executor(network, [&](const Executor& executor, const Network&) {
    const Latents large(100, 70), small(14, 70);
    Results of_large(kOutputs, std::vector<float>(large.inputs[0].size()));
    Results of_small(kOutputs, std::vector<float>(small.inputs[0].size()));
    run_into(executor, program, large, 3, of_large);
    const std::size_t before = allocations();
    for (int repeat = 0; repeat < 2; ++repeat) {
      run_into(executor, program, large, 3, of_large);
      run_into(executor, program, small, 2, of_small);
      run_into(executor, program, small, 1, of_small);
    }
    CHECK(allocations() == before);
  });
}

void wrong_calls_are_refused() {
  const Network network = random_network(5, 2, 1, 1);
  const cpu::Kernels& kernels = variants().back();
  const auto weights = network.pack(WeightType::float32);
  const Executor executor(weights, network.constants, kernels, false);
  const Latents latents(3, 5);
  CHECK_THROWS(std::invalid_argument, "keyword", run(executor, latents, 1));
  CHECK_THROWS(std::invalid_argument, "number of inputs",
               executor.run(make_program(), {}, {}, 3, 1));
  CHECK_THROWS(std::invalid_argument, "do not fit",
               Executor(weights, std::vector<float>(7), kernels, false));
  CHECK_THROWS(std::invalid_argument, "not known yet",
               Program(1, {{Direction::fuse, {{0, 3, 0, 1, 2}}}}, {1}));
}

}  // namespace

const std::vector<Test> executor_tests = {
    {"programs follow the equations", false, programs_follow_the_equations},
    {"threads and chunks change nothing", true, threads_and_chunks_change_nothing},
    {"callers share an executor", true, callers_share_an_executor},
    {"a second run does not allocate", false, a_second_run_does_not_allocate},
    {"wrong calls are refused", false, wrong_calls_are_refused},
};

}  // namespace lreorg::test
