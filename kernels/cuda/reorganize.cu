// What runs for a call, and its launches.
#include <cuda_runtime.h>

#include <algorithm>

#include "cuda/kernel.h"
#include "cuda/reorganize.h"

namespace {

using namespace lreorg::cuda;

using Bfloat = Precision<Bfloat16, 1, 1>;
using BfloatExact = Precision<Bfloat16, 1, 3>;
using Half = Precision<Float16, 1, 1>;
using Single = Precision<Bfloat16, 3, 3>;

template <class P, class Exchange>
__global__ void __launch_bounds__(kBlockThreads, 1)
    reorganize_kernel(const __grid_constant__ Parameters parameters) {
  reorganize<P, Exchange>(parameters);
}

// Clusters are of sm_90; the launches keep them from what is older.
template <class P>
const void* kernel_of(std::int32_t tier) {
  return tier == LREORG_CUDA_CLUSTER
             ? reinterpret_cast<const void*>(&reorganize_kernel<P, ClusterExchange>)
             : reinterpret_cast<const void*>(&reorganize_kernel<P, GridExchange>);
}

struct Variant {
  std::int32_t weight_type;
  bool exact;
  std::uint32_t weight_planes;
  std::uint32_t activation_planes;
  const void* (*kernel)(std::int32_t tier);
};

constexpr Variant kVariants[] = {
    {LREORG_CUDA_BFLOAT16, false, 1, 1, kernel_of<Bfloat>},
    {LREORG_CUDA_BFLOAT16, true, 1, 3, kernel_of<BfloatExact>},
    {LREORG_CUDA_FLOAT16, false, 1, 1, kernel_of<Half>},
    {LREORG_CUDA_FLOAT32, false, 3, 3, kernel_of<Single>},
    {LREORG_CUDA_FLOAT32, true, 3, 3, kernel_of<Single>},
};

const Variant* find_variant(std::int32_t weight_type, bool exact) {
  for (const Variant& variant : kVariants) {
    if (variant.weight_type == weight_type && variant.exact == exact) return &variant;
  }
  return nullptr;
}

constexpr std::uint32_t kMostGroup = 16;
constexpr std::uint32_t kPortableGroup = 8;
// Slots by size: fewer meetings per byte with large ones, but at least some in flight with small.
constexpr std::uint32_t kSlotSizes[] = {16384, 8192, 6144, 4096};
constexpr std::uint32_t kMostSlots = 12;
constexpr std::uint32_t kFewSlots = 3;

Geometry geometry_of(const LreorgCudaShape& shape, std::uint32_t group, std::uint32_t planes) {
  return Geometry(static_cast<std::uint32_t>(shape.dim), static_cast<std::uint32_t>(shape.growth),
                  static_cast<std::uint32_t>(shape.num_blocks), group, planes);
}

// False where not even a small ring fits beside the rest. Sizes are checked in 64 bits first.
bool fit_shared(const Geometry& geometry, std::uint32_t planes, std::int64_t limit,
                SharedMap* map) {
  const std::int64_t widest = std::max(geometry.columns(), geometry.hidden_rows(kDenseScale));
  if (widest * kTokens * 2 > limit) return false;
  for (const std::uint32_t size : kSlotSizes) {
    if (size < kPanelTiles * geometry.weight_planes * kTileBytes) continue;
    for (std::uint32_t count = kMostSlots; count >= kFewSlots; --count) {
      *map = SharedMap(geometry, planes, size, count);
      if (map->bytes() <= limit) return true;
    }
  }
  return false;
}

bool attribute(int* value, cudaDeviceAttr which, int device) {
  if (cudaDeviceGetAttribute(value, which, device) == cudaSuccess) return true;
  cudaGetLastError();  // the next caller must not find it
  return false;
}

struct Device {
  int major = 0;
  int multiprocessors = 0;
  int shared_bytes = 0;
  int cooperative = 0;

  bool ask(int index) {
    return attribute(&major, cudaDevAttrComputeCapabilityMajor, index) &&
           attribute(&multiprocessors, cudaDevAttrMultiProcessorCount, index) &&
           attribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, index) &&
           attribute(&cooperative, cudaDevAttrCooperativeLaunch, index);
  }
};

// A launch's shape, which cudaLaunchKernelExC and the occupancy queries take alike.
struct Launch {
  cudaLaunchConfig_t config = {};
  cudaLaunchAttribute attributes[1] = {};

  Launch(std::int32_t tier, unsigned group, unsigned groups, unsigned shared_bytes,
         cudaStream_t stream) {
    config.gridDim = dim3(group * groups);
    config.blockDim = dim3(kBlockThreads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = attributes;
    config.numAttrs = 1;
    if (tier == LREORG_CUDA_CLUSTER) {
      attributes[0].id = cudaLaunchAttributeClusterDimension;
      attributes[0].val.clusterDim.x = group;
      attributes[0].val.clusterDim.y = 1;
      attributes[0].val.clusterDim.z = 1;
    } else {
      attributes[0].id = cudaLaunchAttributeCooperative;
      attributes[0].val.cooperative = 1;
    }
  }
};

// Lets the kernel have all the shared memory that the current device gives, whatever this call
// needs: the attribute is the kernel's, and another thread may be about to launch with more.
cudaError_t allow(const void* kernel, std::int32_t tier, unsigned group) {
  int device = 0;
  int most = 0;
  cudaError_t status = cudaGetDevice(&device);
  if (status == cudaSuccess) {
    status = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  }
  if (status == cudaSuccess) {
    status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
  }
  if (status == cudaSuccess && tier == LREORG_CUDA_CLUSTER && group > kPortableGroup) {
    status = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  }
  return status;
}

// Whether the device can hold one cluster of this size, with code that knows clusters: what a
// driver compiled from an older architecture's PTX runs on newer devices too, and would trap there.
bool cluster_runs(const void* kernel, unsigned group, unsigned shared_bytes) {
  cudaFuncAttributes loaded = {};
  if (cudaFuncGetAttributes(&loaded, kernel) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  if (loaded.ptxVersion < 90) return false;
  Launch launch(LREORG_CUDA_CLUSTER, group, 1, shared_bytes, nullptr);
  int clusters = 0;
  if (allow(kernel, LREORG_CUDA_CLUSTER, group) == cudaSuccess &&
      cudaOccupancyMaxActiveClusters(&clusters, kernel, &launch.config) == cudaSuccess) {
    return clusters > 0;
  }
  cudaGetLastError();
  return false;
}

// Groups of the grid tier that run at the same time.
int grid_groups(const void* kernel, const Device& device, unsigned group, unsigned shared_bytes) {
  int blocks = 0;
  if (allow(kernel, LREORG_CUDA_GRID, group) != cudaSuccess ||
      cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, kBlockThreads, shared_bytes) !=
          cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return blocks * device.multiprocessors / static_cast<int>(group);
}

// The largest power of two up to kMostGroup that leaves no block without columns.
std::uint32_t most_group(const LreorgCudaShape& shape) {
  std::uint32_t group = kMostGroup;
  while (group > 1 && group > divide_up(static_cast<std::uint32_t>(shape.dim), kTile)) group /= 2;
  return group;
}

struct Choice {
  std::int32_t tier;
  std::uint32_t group;
};

// The group depends neither on tokens nor on `exact`: weights are packed for it once. Its sizes are
// probed with the sparsest variant; plan() then says where another one does not fit.
const char* choose(const LreorgCudaShape& shape, std::int32_t weight_type, std::int32_t tier,
                   int index, Device* device, Choice* choice) {
  if (shape.dim < 1 || shape.growth < 1 || shape.num_blocks < 1 || shape.dim > 65536 ||
      shape.growth > 65536 || shape.num_blocks > 65536) {
    return "dim, growth and num_blocks must be 1 to 65536";
  }
  const Variant* variant = find_variant(weight_type, false);
  if (variant == nullptr) return "weight_type is none of bfloat16, float16 and float32";
  if (!device->ask(index)) return "the device cannot be asked for its properties";
  if (device->major < 8) return "it needs compute capability 8.0 or newer";
  SharedMap map(geometry_of(shape, 1, 1), 1, 0, 0);
  const bool automatic = tier == LREORG_CUDA_AUTO;
  if (automatic || tier == LREORG_CUDA_CLUSTER) {
    for (std::uint32_t group = most_group(shape); group >= 1 && device->major >= 9; group /= 2) {
      const Geometry geometry = geometry_of(shape, group, variant->weight_planes);
      if (!fit_shared(geometry, variant->activation_planes, device->shared_bytes, &map)) continue;
      if (!cluster_runs(variant->kernel(LREORG_CUDA_CLUSTER), group, map.bytes())) continue;
      *choice = {LREORG_CUDA_CLUSTER, group};
      return nullptr;
    }
    if (!automatic) {
      return device->major < 9
                 ? "clusters need compute capability 9.0 or newer"
                 : "no cluster fits (dim or growth is too large for shared memory, or the "
                   "kernels were not built for 9.0 or newer)";
    }
  }
  if (automatic || tier == LREORG_CUDA_GRID) {
    if (device->cooperative == 0) return "the device has no cooperative launch";
    const std::uint32_t group = most_group(shape);
    const Geometry geometry = geometry_of(shape, group, variant->weight_planes);
    if (!fit_shared(geometry, variant->activation_planes, device->shared_bytes, &map)) {
      return "dim or growth is too large for the device's shared memory";
    }
    if (grid_groups(variant->kernel(LREORG_CUDA_GRID), *device, group, map.bytes()) < 1) {
      return "the device does not run one group of blocks at the same time";
    }
    *choice = {LREORG_CUDA_GRID, group};
    return nullptr;
  }
  return "tier is none of auto, cluster and grid";
}

// Consecutive steps of one lane make one launch. A step of several has one of its own, in which its
// lanes are groups of their own: they run at the same time, and what follows reads across groups.
struct Span {
  std::int32_t first;
  std::int32_t count;
  std::int32_t lanes;
};

Span span_from(const LreorgCudaCall& call, std::int32_t first) {
  const auto lanes = [&](std::int32_t step) { return call.host_steps[step].num_lanes; };
  Span span{first, 1, lanes(first)};
  while (span.lanes == 1 && first + span.count < call.num_steps && lanes(first + span.count) == 1) {
    ++span.count;
  }
  return span;
}

std::int64_t tiles(const LreorgCudaCall& call) {
  return (call.tokens + kTokens - 1) / kTokens;
}

// Groups of one launch: those of the grid tier wait for each other's blocks, so all must run.
std::int64_t most_groups(const LreorgCudaPlan& plan) {
  return plan.tier == LREORG_CUDA_GRID ? plan.groups : (std::int64_t{1} << 30) / kMostGroup;
}

template <class Use>
const char* for_each_launch(const LreorgCudaCall& call, std::int64_t most, Use&& use) {
  for (std::int32_t step = 0; step < call.num_steps;) {
    const Span span = span_from(call, step);
    const std::int64_t groups = tiles(call) * span.lanes;
    for (std::int64_t first = 0; first < groups; first += most) {
      const char* failure = use(span, first, std::min(most, groups - first));
      if (failure != nullptr) return failure;
    }
    step += span.count;
  }
  return nullptr;
}

const char* checked_program(const LreorgCudaCall& call) {
  if (call.num_values < 1 || call.num_values > kMostValues) {
    return "the program has more values than lreorg_cuda_most_values()";
  }
  if (call.tokens < 0 || call.tokens > (std::int64_t{1} << 31)) {
    return "the number of tokens is negative or above 2^31";
  }
  for (std::int32_t i = 0; i < call.num_steps; ++i) {
    const LreorgCudaStep& step = call.host_steps[i];
    if (step.num_lanes < 1 || step.first_lane < 0 ||
        step.first_lane > call.num_lanes - step.num_lanes) {
      return "a step's lanes are outside the program";
    }
  }
  for (std::int32_t i = 0; i < call.num_lanes; ++i) {
    const LreorgCudaLane& lane = call.host_lanes[i];
    for (const std::int32_t value : {lane.in1, lane.in2, lane.out1, lane.out2}) {
      if (value < -1 || value >= call.num_values) return "a lane names a value that is not there";
    }
    if (lane.in2 < 0 || lane.keyword < 0) return "a lane has no second input, or no keyword";
  }
  return nullptr;
}

// Null, or the text of what failed.
const char* text(cudaError_t status) {
  if (status == cudaSuccess) return nullptr;
  cudaGetLastError();
  return cudaGetErrorString(status);
}

}  // namespace

int64_t lreorg_cuda_most_values() {
  return kMostValues;
}

uint64_t lreorg_cuda_weights_bytes(const LreorgCudaShape* shape, int32_t weight_type,
                                   int32_t group) {
  const Variant* variant = find_variant(weight_type, false);
  if (variant == nullptr || group < 1) return 0;
  const Geometry geometry =
      geometry_of(*shape, static_cast<std::uint32_t>(group), variant->weight_planes);
  return weights_bytes(geometry) +
         std::uint64_t{geometry.num_blocks} * geometry.biases() * sizeof(float);
}

int32_t lreorg_cuda_group(const LreorgCudaShape* shape, int32_t weight_type, int32_t tier,
                          int32_t device) {
  Device asked;
  Choice choice;
  return choose(*shape, weight_type, tier, device, &asked, &choice) == nullptr
             ? static_cast<int32_t>(choice.group)
             : 0;
}

const char* lreorg_cuda_plan(const LreorgCudaCall* call, int32_t index, LreorgCudaPlan* plan) {
  Device device;
  Choice choice;
  const char* refusal = choose(call->shape, call->weight_type, call->tier, index, &device, &choice);
  if (refusal == nullptr) refusal = checked_program(*call);
  if (refusal != nullptr) return refusal;
  const Variant* variant = find_variant(call->weight_type, call->exact != 0);
  if (variant == nullptr) {
    return "float16 weights have no exact activations; take bfloat16 or float32 weights";
  }
  const Geometry geometry = geometry_of(call->shape, choice.group, variant->weight_planes);
  SharedMap map(geometry, variant->activation_planes, 0, 0);
  if (!fit_shared(geometry, variant->activation_planes, device.shared_bytes, &map)) {
    return "dim or growth is too large for the device's shared memory with exact activations";
  }
  std::int64_t widest = 1;
  for (std::int32_t i = 0; i < call->num_steps; ++i) {
    widest = std::max(widest, tiles(*call) * call->host_steps[i].num_lanes);
  }
  *plan = {};
  plan->tier = choice.tier;
  plan->group = static_cast<int32_t>(choice.group);
  plan->tile = kTokens;
  plan->shared_bytes = static_cast<int32_t>(map.bytes());
  std::int64_t most = most_groups(*plan);
  if (choice.tier == LREORG_CUDA_GRID) {
    most = grid_groups(variant->kernel(choice.tier), device, choice.group, map.bytes());
    if (most < 1) return "the device does not run one group of blocks at the same time";
    const std::int64_t together = std::min(most, widest);
    plan->scratch_bytes =
        grid_scratch(geometry, variant->activation_planes, static_cast<std::uint64_t>(together));
    most = together;
  } else if (!cluster_runs(variant->kernel(choice.tier), choice.group, map.bytes())) {
    return "the device does not run a cluster of this size with these activations";
  }
  plan->groups = static_cast<int32_t>(std::min(most, widest));
  for_each_launch(*call, most, [&](const Span&, std::int64_t, std::int64_t) -> const char* {
    ++plan->launches;
    return nullptr;
  });
  return nullptr;
}

const char* lreorg_cuda_run(const LreorgCudaCall* call, const LreorgCudaPlan* plan) {
  const Variant* variant = find_variant(call->weight_type, call->exact != 0);
  if (variant == nullptr) return "the plan is not of this call";
  if (plan->scratch_bytes > call->scratch_bytes) return "scratch is smaller than the plan says";
  const auto stream = static_cast<cudaStream_t>(call->stream);
  const auto group = static_cast<unsigned>(plan->group);
  const Geometry geometry = geometry_of(call->shape, group, variant->weight_planes);
  SharedMap map(geometry, variant->activation_planes, 0, 0);
  if (!fit_shared(geometry, variant->activation_planes, plan->shared_bytes, &map)) {
    return "the plan is not of this call";
  }
  const void* kernel = variant->kernel(plan->tier);
  Parameters parameters{geometry, map};
  parameters.dim = static_cast<std::uint32_t>(call->shape.dim);
  parameters.clamp = call->shape.clamp;
  parameters.weights = static_cast<const std::byte*>(call->weights);
  parameters.biases = reinterpret_cast<const float*>(parameters.weights + weights_bytes(geometry));
  parameters.constants = call->constants;
  parameters.steps = call->steps;
  parameters.lanes = call->lanes;
  parameters.tokens = call->tokens;
  parameters.status = reinterpret_cast<unsigned*>(call->status);
  parameters.scratch = static_cast<std::byte*>(call->scratch);
  parameters.most_pieces = most_pieces(geometry, variant->activation_planes);
  std::copy_n(call->values, call->num_values, parameters.values);
  const char* failure = text(allow(kernel, plan->tier, group));
  if (failure != nullptr) return failure;
  failure = text(cudaMemsetAsync(call->status, 0, LREORG_CUDA_STATUS_WORDS * 4, stream));
  if (failure != nullptr) return failure;
  return for_each_launch(
      *call, most_groups(*plan),
      [&](const Span& span, std::int64_t first, std::int64_t groups) -> const char* {
        parameters.first_step = static_cast<std::uint32_t>(span.first);
        parameters.num_steps = static_cast<std::uint32_t>(span.count);
        parameters.num_lanes = static_cast<std::uint32_t>(span.lanes);
        parameters.first_group = static_cast<std::uint32_t>(first);
        parameters.groups = static_cast<std::uint32_t>(groups);
        if (plan->tier == LREORG_CUDA_GRID) {
          const auto bytes = static_cast<std::size_t>(groups) * kCounterBytes;
          const char* failed = text(cudaMemsetAsync(call->scratch, 0, bytes, stream));
          if (failed != nullptr) return failed;
        }
        Launch launch(plan->tier, group, static_cast<unsigned>(groups), map.bytes(), stream);
        void* arguments[] = {&parameters};
        return text(cudaLaunchKernelExC(&launch.config, kernel, arguments));
      });
}
