// Runs the reorganization of kernels/cuda/reorganize.h on a small case without Python, so that
// compute-sanitizer sees nothing else.
//
//   memory_check group DIM BLOCKS GROWTH WEIGHT_TYPE TIER   prints the group to pack weights for
//   memory_check run FILE                                   runs a case of bench/gpu/sanitizer.py
//
// A case is run twice into poisoned memory. It prints one line of JSON: what ran, the largest and
// the root mean square error, and whether both results were bit for bit the same.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "cuda/reorganize.h"
#include "probe.h"

namespace {

// The head of a case file, little-endian; the arrays follow in the order of their counts.
struct Head {
  LreorgCudaShape shape;
  int32_t weight_type;
  int32_t exact;
  int32_t tier;
  int32_t tokens;
  int32_t weight_bytes;
  int32_t num_constants;  // floats
  int32_t num_steps;
  int32_t num_lanes;
  int32_t num_inputs;  // the first values
  int32_t num_values;
  int32_t output;  // number of the value that `expected` holds
};

struct Case {
  Head head;
  std::vector<std::uint8_t> weights;
  std::vector<float> constants;
  std::vector<LreorgCudaStep> steps;
  std::vector<LreorgCudaLane> lanes;
  std::vector<float> inputs;
  std::vector<float> expected;

  std::size_t value_size() const { return std::size_t(head.tokens) * head.shape.dim; }
};

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(1);
}

template <class T>
std::vector<T> read(std::FILE* file, std::size_t count) {
  std::vector<T> values(count);
  if (std::fread(values.data(), sizeof(T), count, file) != count) fail("the case file is short");
  return values;
}

Case read_case(const char* path) {
  std::FILE* file = std::fopen(path, "rb");
  if (file == nullptr) fail(std::string("cannot open ") + path);
  Case made;
  made.head = read<Head>(file, 1)[0];
  const Head& head = made.head;
  made.weights = read<std::uint8_t>(file, head.weight_bytes);
  made.constants = read<float>(file, head.num_constants);
  made.steps = read<LreorgCudaStep>(file, head.num_steps);
  made.lanes = read<LreorgCudaLane>(file, head.num_lanes);
  made.inputs = read<float>(file, head.num_inputs * made.value_size());
  made.expected = read<float>(file, made.value_size());
  std::fclose(file);
  return made;
}

template <class T>
T* on_device(const std::vector<T>& values) {
  T* memory = allocate<T>(std::max<std::size_t>(1, values.size()));
  check(cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
        "copy to the device");
  return memory;
}

// All values in memory of their own, so that a step past one of them is found.
std::vector<float*> values_of(const Case& given) {
  std::vector<float*> values;
  const std::size_t size = given.value_size();
  for (int32_t i = 0; i < given.head.num_values; ++i) {
    values.push_back(allocate<float>(size));
    check(cudaMemset(values[i], 0xff, size * sizeof(float)), "poison");  // NaN
    if (i >= given.head.num_inputs) continue;
    check(cudaMemcpy(values[i], given.inputs.data() + i * size, size * sizeof(float),
                     cudaMemcpyHostToDevice),
          "copy to the device");
  }
  return values;
}

// One run on a stream of its own: the output, after the status was found to be good.
std::vector<float> result(const Case& given, LreorgCudaPlan& plan) {
  const Head& head = given.head;
  const std::vector<float*> values = values_of(given);
  cudaStream_t stream;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  LreorgCudaCall call{};
  call.shape = head.shape;
  call.weight_type = head.weight_type;
  call.exact = head.exact;
  call.tier = head.tier;
  call.weights = on_device(given.weights);
  call.constants = on_device(given.constants);
  call.steps = on_device(given.steps);
  call.lanes = on_device(given.lanes);
  call.host_steps = given.steps.data();
  call.host_lanes = given.lanes.data();
  call.num_steps = head.num_steps;
  call.num_lanes = head.num_lanes;
  call.values = values.data();
  call.num_values = head.num_values;
  call.tokens = head.tokens;
  call.stream = stream;
  if (const char* reason = lreorg_cuda_plan(&call, 0, &plan)) fail(reason);
  call.scratch = allocate<std::byte>(std::max<std::uint64_t>(1, plan.scratch_bytes));
  call.scratch_bytes = plan.scratch_bytes;
  call.status = allocate<int32_t>(LREORG_CUDA_STATUS_WORDS);
  check(cudaMemset(call.scratch, 0xff, plan.scratch_bytes), "poison");
  check(cudaMemset(call.status, 0xff, LREORG_CUDA_STATUS_WORDS * sizeof(int32_t)), "poison");
  check(cudaDeviceSynchronize(), "before the call");
  if (const char* reason = lreorg_cuda_run(&call, &plan)) fail(reason);
  check(cudaStreamSynchronize(stream), "reorganize");
  int32_t status[LREORG_CUDA_STATUS_WORDS];
  check(cudaMemcpy(status, call.status, sizeof(status), cudaMemcpyDeviceToHost), "status");
  if (status[LREORG_CUDA_STATUS_FAILED] != 0) {
    fail("a wait took too long: thread block " + std::to_string(status[LREORG_CUDA_STATUS_BLOCK]) +
         ", step " + std::to_string(status[LREORG_CUDA_STATUS_STEP]) + ", layer " +
         std::to_string(status[LREORG_CUDA_STATUS_LAYER]) + ", phase " +
         std::to_string(status[LREORG_CUDA_STATUS_PHASE]) + ", expected " +
         std::to_string(status[LREORG_CUDA_STATUS_EXPECTED]));
  }
  std::vector<float> output(given.value_size());
  check(cudaMemcpy(output.data(), values[head.output], output.size() * sizeof(float),
                   cudaMemcpyDeviceToHost),
        "output");
  return output;
}

int run(const char* path) {
  const Case given = read_case(path);
  LreorgCudaPlan plan{};
  const std::vector<float> first = result(given, plan);
  const std::vector<float> second = result(given, plan);
  double largest = 0, squares = 0;
  for (std::size_t i = 0; i < first.size(); ++i) {
    const double error = std::abs(double{first[i]} - given.expected[i]);
    largest = std::max(largest, error);
    squares += error * error;
  }
  const bool same = std::memcmp(first.data(), second.data(), first.size() * sizeof(float)) == 0;
  // NaN is no JSON; the sum of squares keeps one.
  const bool finite = std::isfinite(squares);
  std::printf(
      "{\"tier\": %d, \"group\": %d, \"tile\": %d, \"groups\": %d, \"shared_bytes\": %d, "
      "\"launches\": %d, \"finite\": %s, \"max_error\": %g, \"rms_error\": %g, \"same\": %s}\n",
      plan.tier, plan.group, plan.tile, plan.groups, plan.shared_bytes, plan.launches,
      finite ? "true" : "false", finite ? largest : 0.0,
      finite ? std::sqrt(squares / static_cast<double>(first.size())) : 0.0,
      same ? "true" : "false");
  return 0;
}

int group(char** numbers) {
  const LreorgCudaShape shape{std::atoi(numbers[0]), std::atoi(numbers[1]), std::atoi(numbers[2]),
                              2.0f};
  std::printf("%d\n", lreorg_cuda_group(&shape, std::atoi(numbers[3]), std::atoi(numbers[4]), 0));
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string verb = count > 1 ? arguments[1] : "";
  if (verb == "group" && count == 7) return group(arguments + 2);
  if (verb == "run" && count == 3) return run(arguments[2]);
  fail("usage: memory_check group DIM BLOCKS GROWTH WEIGHT_TYPE TIER | memory_check run FILE");
}
