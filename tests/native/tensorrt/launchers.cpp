#include "tensorrt/launchers.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <utility>

#include "allocations.h"
#include "check.h"
#include "cuda/model.h"
#include "cuda/packer.h"
#include "cuda/repack.h"

namespace lreorg::test::launchers {
namespace {

constexpr std::uint32_t kGroup = 2;
constexpr std::uint32_t kSlotBytes = 8192;
constexpr std::uint32_t kSlots = 3;

std::size_t seen_allocations = 0;
std::map<void*, std::unique_ptr<std::byte[]>> memory;

// Clears a failure that was asked for.
const char* take(const char*& failure) {
  return std::exchange(failure, nullptr);
}

Geometry geometry_of(const LreorgCudaShape& shape, std::int32_t weight_type, std::uint32_t group) {
  const std::uint32_t planes = weight_type == LREORG_CUDA_FLOAT32 ? 3 : 1;
  return {static_cast<std::uint32_t>(shape.dim), static_cast<std::uint32_t>(shape.growth),
          static_cast<std::uint32_t>(shape.num_blocks), group, planes};
}

std::uint32_t groups_of(const LreorgCudaCall& call, std::int32_t step) {
  const auto tiles = static_cast<std::uint32_t>((call.tokens + kTokens - 1) / kTokens);
  return tiles * static_cast<std::uint32_t>(call.host_steps[step].num_lanes);
}

std::uint32_t widest(const LreorgCudaCall& call) {
  std::uint32_t groups = 1;
  for (std::int32_t i = 0; i < call.num_steps; ++i) groups = std::max(groups, groups_of(call, i));
  return groups;
}

template <class P>
void run(const LreorgCudaCall& call) {
  const Geometry geometry = geometry_of(call.shape, call.weight_type, kGroup);
  const SharedMap map(geometry, P::kActivationPlanes, kSlotBytes, kSlots);
  Parameters parameters{geometry, map};
  parameters.dim = static_cast<std::uint32_t>(call.shape.dim);
  parameters.clamp = call.shape.clamp;
  parameters.weights = static_cast<const std::byte*>(call.weights);
  parameters.biases = reinterpret_cast<const float*>(parameters.weights + weights_bytes(geometry));
  parameters.constants = call.constants;
  parameters.steps = call.steps;
  parameters.lanes = call.lanes;
  parameters.tokens = call.tokens;
  parameters.status = reinterpret_cast<unsigned*>(call.status);
  parameters.scratch = static_cast<std::byte*>(call.scratch);
  parameters.most_pieces = most_pieces(geometry, P::kActivationPlanes);
  std::copy_n(call.values, call.num_values, parameters.values);
  std::memset(call.status, 0, LREORG_CUDA_STATUS_WORDS * 4);
  for (std::int32_t step = 0; step < call.num_steps; ++step) {
    parameters.first_step = static_cast<std::uint32_t>(step);
    parameters.num_steps = 1;
    parameters.num_lanes = static_cast<std::uint32_t>(call.host_steps[step].num_lanes);
    parameters.groups = groups_of(call, step);
    std::memset(call.scratch, 0, std::size_t{parameters.groups} * kCounterBytes);
    emulator::Launch launch;
    launch.grid = kGroup * parameters.groups;
    launch.threads = kBlockThreads;
    launch.shared_bytes = map.bytes();
    launch.cooperative = true;
    emulator::emulate(launch, [&] { reorganize<P, GridExchange>(parameters); });
  }
}

template <class Planes>
void pack(const LreorgCudaShape& shape, std::int32_t weight_type, std::int32_t group,
          const LreorgCudaMatrices& given, void* weights) {
  using Weight = typename Planes::Weight;
  const auto matrix = [](const void* data) { return static_cast<const Weight*>(data); };
  const Repack<Planes> repack(
      geometry_of(shape, weight_type, static_cast<std::uint32_t>(group)),
      static_cast<std::uint32_t>(shape.dim), static_cast<std::uint32_t>(shape.growth),
      {matrix(given.condition), matrix(given.hidden), matrix(given.chain), matrix(given.direct),
       matrix(given.output), given.hidden_bias, given.output_bias});
  constexpr std::uint32_t kThreads = 3;
  for (std::uint32_t part = 0; part < repack.parts(); ++part) {
    for (std::uint32_t t = 0; t < kThreads; ++t) repack.write(part, t, kThreads, weights);
  }
}

template <class Kind>
std::vector<std::byte> as_bits(const Values& values) {
  std::vector<std::byte> result(values.size() * 2);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t bits = to_bits(static_cast<float>(values[i]), Kind{});
    std::memcpy(result.data() + 2 * i, &bits, 2);
  }
  return result;
}

}  // namespace

std::size_t allocations_at_run() {
  return seen_allocations;
}

std::size_t uploads() {
  return memory.size();
}

Failures& failures() {
  static Failures asked;
  return asked;
}

std::uint64_t& more_scratch() {
  static std::uint64_t bytes = 0;
  return bytes;
}

std::vector<std::byte> as_weights(const Values& values, std::int32_t weight_type) {
  if (weight_type == LREORG_CUDA_BFLOAT16) return as_bits<Bfloat16>(values);
  if (weight_type == LREORG_CUDA_FLOAT16) return as_bits<Float16>(values);
  std::vector<std::byte> result(values.size() * sizeof(float));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto value = static_cast<float>(values[i]);
    std::memcpy(result.data() + sizeof(float) * i, &value, sizeof(value));
  }
  return result;
}

Network kept(const Network& network, std::int32_t weight_type) {
  if (weight_type == LREORG_CUDA_BFLOAT16) return test::kept<Bfloat>(network);
  if (weight_type == LREORG_CUDA_FLOAT16) return test::kept<Half>(network);
  return test::kept<Single>(network);
}

}  // namespace lreorg::test::launchers

using namespace lreorg::test::launchers;

int64_t lreorg_cuda_most_values() {
  return lreorg::cuda::kMostValues;
}

uint64_t lreorg_cuda_weights_bytes(const LreorgCudaShape* shape, int32_t weight_type,
                                   int32_t group) {
  const auto geometry = geometry_of(*shape, weight_type, static_cast<std::uint32_t>(group));
  return lreorg::cuda::weights_bytes(geometry) +
         std::uint64_t{geometry.num_blocks} * geometry.biases() * sizeof(float);
}

const char* lreorg_cuda_plan(const LreorgCudaCall* call, int32_t device, LreorgCudaPlan* plan) {
  CHECK(device == 7);
  const std::uint32_t planes = call->weight_type == LREORG_CUDA_FLOAT32 ? 3 : 1;
  *plan = {};
  plan->tier = LREORG_CUDA_GRID;
  plan->group = kGroup;
  plan->groups = static_cast<std::int32_t>(widest(*call));
  plan->scratch_bytes =
      lreorg::cuda::grid_scratch(geometry_of(call->shape, call->weight_type, kGroup), planes,
                                 widest(*call)) +
      more_scratch();
  return take(failures().plan);
}

const char* lreorg_cuda_run(const LreorgCudaCall* call, const LreorgCudaPlan* plan) {
  CHECK(call->scratch_bytes >= plan->scratch_bytes);
  seen_allocations = lreorg::test::allocations();
  if (const char* failure = take(failures().run)) return failure;
  if (call->weight_type == LREORG_CUDA_BFLOAT16) run<lreorg::test::Bfloat>(*call);
  if (call->weight_type == LREORG_CUDA_FLOAT16) run<lreorg::test::Half>(*call);
  if (call->weight_type == LREORG_CUDA_FLOAT32) run<lreorg::test::Single>(*call);
  return nullptr;
}

const char* lreorg_cuda_pack(const LreorgCudaShape* shape, int32_t weight_type, int32_t group,
                             const LreorgCudaMatrices* matrices, void* weights, void*) {
  if (const char* failure = take(failures().pack)) return failure;
  if (weight_type == LREORG_CUDA_FLOAT32) {
    pack<lreorg::cuda::Planes32>(*shape, weight_type, group, *matrices, weights);
  } else {
    pack<lreorg::cuda::Planes16>(*shape, weight_type, group, *matrices, weights);
  }
  return nullptr;
}

const char* lreorg_cuda_current_device(int32_t* device) {
  *device = 7;
  return nullptr;
}

const char* lreorg_cuda_upload(const void* data, uint64_t bytes, void** to) {
  if (const char* failure = take(failures().upload)) return failure;
  auto copy = std::make_unique<std::byte[]>(bytes);
  std::memcpy(copy.get(), data, bytes);
  *to = copy.get();
  memory[*to] = std::move(copy);
  return nullptr;
}

void lreorg_cuda_free(void* of_upload) {
  CHECK(of_upload == nullptr || memory.erase(of_upload) == 1);
}

const char* lreorg_cuda_copy(void* to, const void* from, uint64_t bytes, void*) {
  std::memcpy(to, from, bytes);
  return nullptr;
}
