// How long a group of thread blocks takes to give each other their values: through the distributed
// shared memory of a cluster, or through global memory (L2) with a counter. One line of JSON for
// each way, group size and slice. A slice of 0 bytes is the barrier alone.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "cuda/primitives.h"
#include "probe.h"

namespace {

using namespace lreorg::cuda;

constexpr unsigned kThreads = 256;
constexpr unsigned kWarmUp = 64;
constexpr unsigned kRounds = 2000;
constexpr unsigned kLate = 1u << 24;  // more than all words that can be wrong

struct Setting {
  unsigned group;  // blocks that exchange
  unsigned slice;  // 16-byte words that each of them gives to all
};

struct Result {
  long long cycles;
  unsigned long long ns;
  unsigned wrong;  // words that were not what their sender meant, or a wait that took too long
};

// Other in every round, so that a word of an earlier round is seen.
__device__ uint4 word(unsigned round, unsigned rank, unsigned index) {
  return {round, rank, index, round * 2654435761u ^ rank};
}

__device__ bool equal(uint4 a, uint4 b) {
  return a.x == b.x && a.y == b.y && a.z == b.z && a.w == b.w;
}

__device__ unsigned count_wrong(const uint4* received, Setting setting, unsigned round) {
  unsigned wrong = 0;
  for (unsigned i = thread(); i < setting.group * setting.slice; i += kThreads) {
    wrong += !equal(received[i], word(round, i / setting.slice, i % setting.slice));
  }
  return wrong;
}

// Every block stores its slice into all blocks of its cluster.
struct ThroughCluster {
  static constexpr bool kCluster = true;

  __device__ static unsigned round(Setting setting, unsigned number, unsigned rank, uint4* shared,
                                   uint4*, unsigned*) {
    // Two buffers: who stores into one again has passed the barrier of the round between, which
    // all had reached after reading it.
    uint4* received = shared + (number % 2) * setting.group * setting.slice;
    for (unsigned i = thread(); i < setting.group * setting.slice; i += kThreads) {
      const unsigned index = i % setting.slice;
      store_cluster(received + rank * setting.slice + index, i / setting.slice,
                    word(number, rank, index));
    }
    cluster_arrive();
    cluster_wait();
    return count_wrong(received, setting, number);
  }
};

// Every block stores its slice once, counts itself, waits for the others and reads all slices.
struct ThroughMemory {
  static constexpr bool kCluster = false;

  __device__ static unsigned round(Setting setting, unsigned number, unsigned rank, uint4* shared,
                                   uint4* memory, unsigned* counter) {
    uint4* buffer = memory + (number % 2) * setting.group * setting.slice;
    for (unsigned i = thread(); i < setting.slice; i += kThreads) {
      __stcg(buffer + rank * setting.slice + i, word(number, rank, i));
    }
    sync_block();
    bool late = false;
    if (thread() == 0) {
      add_release(counter, 1);
      const std::uint64_t start = time_ns();
      while (!late && load_acquire(counter) < setting.group * (number + 1)) {
        late = time_ns() - start > kMostWaitNs;
      }
    }
    if (__syncthreads_or(late)) return kLate;
    for (unsigned i = thread(); i < setting.group * setting.slice; i += kThreads) {
      shared[i] = __ldcg(buffer + i);  // by the thread that compares it
    }
    return count_wrong(shared, setting, number);
  }
};

template <class Way>
__global__ void __launch_bounds__(kThreads)
    exchange(Setting setting, uint4* memory, unsigned* counters, Result* results) {
  uint4* shared = reinterpret_cast<uint4*>(dynamic_shared());
  const unsigned group = block_index() / setting.group;
  const unsigned rank = Way::kCluster ? cluster_rank() : block_index() % setting.group;
  if constexpr (Way::kCluster) {
    cluster_arrive();  // nobody stores into a block that has not begun
    cluster_wait();
  }
  uint4* own_memory = memory + group * 2 * setting.group * setting.slice;
  unsigned wrong = 0;
  long long cycles = 0;
  unsigned long long ns = 0;
  for (unsigned number = 0; number < kWarmUp + kRounds && wrong < kLate; ++number) {
    if (number == kWarmUp) {
      cycles = clock64();
      ns = time_ns();
    }
    wrong += Way::round(setting, number, rank, shared, own_memory, counters + 32 * group);
  }
  if (wrong != 0) atomicAdd(&results[block_index()].wrong, wrong);
  if (thread() == 0) {
    results[block_index()].cycles = clock64() - cycles;
    results[block_index()].ns = time_ns() - ns;
  }
  if constexpr (Way::kCluster) {
    cluster_arrive();  // nor into one that has ended
    cluster_wait();
  }
}

void print(const char* how, Setting setting, unsigned groups, const std::vector<Result>& results) {
  unsigned long long wrong = 0;
  Result slowest{};
  for (const Result& result : results) {
    wrong += result.wrong;
    slowest.cycles = std::max(slowest.cycles, result.cycles);
    slowest.ns = std::max(slowest.ns, result.ns);
  }
  std::printf(
      "{\"how\": \"%s\", \"group\": %u, \"groups\": %u, \"slice_bytes\": %u, \"cycles\": %.1f, "
      "\"ns\": %.1f, \"wrong\": %llu}\n",
      how, setting.group, groups, 16 * setting.slice, static_cast<double>(slowest.cycles) / kRounds,
      static_cast<double>(slowest.ns) / kRounds, wrong);
  std::fflush(stdout);
}

template <class Way>
class Launch {
 public:
  explicit Launch(Setting setting) : setting_(setting) {
    const unsigned words = std::max(1u, setting.group * setting.slice);
    shared_bytes_ = 2 * words * sizeof(uint4);
    check(cudaFuncSetAttribute(exchange<Way>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes_)),
          "shared memory");
    if (Way::kCluster && setting.group > 8) {
      check(cudaFuncSetAttribute(exchange<Way>, cudaFuncAttributeNonPortableClusterSizeAllowed, 1),
            "cluster of more than 8 blocks");
    }
  }

  // So many groups run at once.
  unsigned most_groups(const cudaDeviceProp& properties) {
    if (!Way::kCluster) return properties.multiProcessorCount / setting_.group;
    const cudaLaunchConfig_t config = configuration(1);
    int clusters = 0;
    if (cudaOccupancyMaxActiveClusters(&clusters, exchange<Way>, &config) != cudaSuccess) {
      cudaGetLastError();  // the device has no clusters of this size
      return 0;
    }
    return clusters;
  }

  void run(const char* how, unsigned groups) {
    const unsigned blocks = groups * setting_.group;
    uint4* memory = allocate<uint4>(2 * blocks * std::max(1u, setting_.slice));
    unsigned* counters = allocate<unsigned>(32 * groups);  // a line of cache each
    Result* results = allocate<Result>(blocks);
    check(cudaMemset(counters, 0, 32 * groups * sizeof(unsigned)), "cudaMemset");
    check(cudaMemset(results, 0, blocks * sizeof(Result)), "cudaMemset");
    const cudaLaunchConfig_t config = configuration(groups);
    check(cudaLaunchKernelEx(&config, exchange<Way>, setting_, memory, counters, results), how);
    std::vector<Result> found(blocks);
    check(cudaMemcpy(found.data(), results, blocks * sizeof(Result), cudaMemcpyDeviceToHost), how);
    print(how, setting_, groups, found);
    check(cudaFree(memory), "cudaFree");
    check(cudaFree(counters), "cudaFree");
    check(cudaFree(results), "cudaFree");
  }

 private:
  cudaLaunchConfig_t configuration(unsigned groups) {
    attribute_ = {};
    if (Way::kCluster) {
      attribute_.id = cudaLaunchAttributeClusterDimension;
      attribute_.val.clusterDim = {setting_.group, 1, 1};
    } else {
      attribute_.id = cudaLaunchAttributeCooperative;
      attribute_.val.cooperative = 1;
    }
    cudaLaunchConfig_t config{};
    config.gridDim = groups * setting_.group;
    config.blockDim = kThreads;
    config.dynamicSmemBytes = shared_bytes_;
    config.attrs = &attribute_;
    config.numAttrs = 1;
    return config;
  }

  Setting setting_;
  std::size_t shared_bytes_;
  cudaLaunchAttribute attribute_;
};

template <class Way>
void measure(const char* how, Setting setting, const cudaDeviceProp& properties) {
  Launch<Way> launch(setting);
  const unsigned most = launch.most_groups(properties);
  if (most == 0) {
    std::printf("{\"how\": \"%s\", \"group\": %u, \"problem\": \"no such group fits\"}\n", how,
                setting.group);
    return;
  }
  launch.run(how, 1);
  if (most > 1) launch.run(how, most);
}

}  // namespace

int main() {
  const cudaDeviceProp properties = device_properties();
  const unsigned all = properties.multiProcessorCount;
  // What a group of 16 tokens exchanges: 512 columns of 16 bits, and 128 hidden values of a subnet.
  constexpr unsigned kWords[] = {0, 16 * 128 * 2 / 16, 16 * 512 * 2 / 16};
  for (const unsigned words : kWords) {
    for (const unsigned group : {1u, 2u, 4u, 8u, 16u}) {
      const Setting setting{group, words / group};
      if (properties.major >= 9) measure<ThroughCluster>("cluster", setting, properties);
      measure<ThroughMemory>("memory", setting, properties);
    }
    // All blocks of the device as one group; the slices do not always divide the values.
    measure<ThroughMemory>("memory", {all, (words + all - 1) / all}, properties);
  }
  return 0;
}
