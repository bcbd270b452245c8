// How fast thread blocks take weights through a ring of shared-memory slots, as the latency kernel
// does: one warp issues copies that run by themselves, eight warps read the slots. One line of JSON
// for each number of blocks, ring and source.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>

#include "cuda/primitives.h"
#include "probe.h"

namespace {

using namespace lreorg::cuda;

constexpr unsigned kReaders = 8;  // warps
constexpr unsigned kThreads = 32 * (1 + kReaders);
constexpr unsigned kMostSlots = 32;
constexpr std::size_t kRegion = std::size_t{2} << 30;  // all that is read of memory

struct Ring {
  unsigned slots;
  unsigned slot_bytes;
};

struct Work {
  const std::byte* source;
  std::size_t region;  // bytes of each block, a multiple of the slot
  unsigned chunks;     // that each block reads, beginning its region again and again
};

__global__ void fill(uint4* words, std::size_t count) {
  const std::size_t stride = std::size_t{gridDim.x} * blockDim.x;
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    const auto x = static_cast<unsigned>(i * 2654435761u);
    words[i] = {x, x ^ 0x9e3779b9u, ~x, x >> 7};
  }
}

__device__ bool wait(Barrier* barrier, unsigned parity) {
  const std::uint64_t start = time_ns();
  while (!barrier_try_wait(barrier, parity)) {
    if (time_ns() - start > kMostWaitNs) return false;
  }
  return true;
}

__device__ void load(std::byte* slot, const std::byte* source, unsigned bytes, Barrier* full) {
  if constexpr (kBulkLoads) {
    if (lane() == 0) {
      barrier_expect(full, bytes);
      load_bulk(slot, source, bytes, full);
    }
  } else {
    for (unsigned i = 16 * lane(); i < bytes; i += 16 * 32) load_async16(slot + i, source + i);
    barrier_arrive_async(full);
  }
}

__device__ void produce(Work work, Ring ring, std::byte* slots, Barrier* full, Barrier* empty,
                        unsigned* late) {
  const std::byte* source = work.source + block_index() * work.region;
  std::size_t at = 0;
  for (unsigned chunk = 0; chunk < work.chunks; ++chunk) {
    const unsigned slot = chunk % ring.slots, use = chunk / ring.slots;
    if (use > 0 && !wait(empty + slot, (use - 1) % 2)) {
      *late = 1;
      return;
    }
    sync_warp();
    load(slots + slot * ring.slot_bytes, source + at, ring.slot_bytes, full + slot);
    at = at + ring.slot_bytes == work.region ? 0 : at + ring.slot_bytes;
  }
}

__device__ uint4 consume(Work work, Ring ring, const std::byte* slots, Barrier* full,
                         Barrier* empty, unsigned* late) {
  uint4 sum{};
  for (unsigned chunk = 0; chunk < work.chunks; ++chunk) {
    const unsigned slot = chunk % ring.slots;
    if (!wait(full + slot, chunk / ring.slots % 2)) {
      *late = 1;
      return sum;
    }
    const uint4* words = reinterpret_cast<const uint4*>(slots + slot * ring.slot_bytes);
    for (unsigned i = thread() - 32; i < ring.slot_bytes / 16; i += 32 * kReaders) {
      const uint4 word = words[i];
      sum = {sum.x ^ word.x, sum.y ^ word.y, sum.z ^ word.z, sum.w ^ word.w};
    }
    sync_warp();
    if (lane() == 0) barrier_arrive(empty + slot);
  }
  return sum;
}

// sums: [0 .. 3] the exclusive or of all that was read, [4] a wait took too long.
__global__ void __launch_bounds__(kThreads) stream(Work work, Ring ring, unsigned* sums) {
  __shared__ Barrier full[kMostSlots], empty[kMostSlots];
  if (thread() == 0) {
    for (unsigned slot = 0; slot < ring.slots; ++slot) {
      barrier_init(full + slot, kBulkLoads ? 1 : 32);
      barrier_init(empty + slot, kReaders);
    }
    fence_barrier_init();
  }
  sync_block();
  std::byte* slots = dynamic_shared();
  if (warp() == 0) {
    produce(work, ring, slots, full, empty, sums + 4);
  } else {
    const uint4 sum = consume(work, ring, slots, full, empty, sums + 4);
    atomicXor(sums, sum.x);
    atomicXor(sums + 1, sum.y);
    atomicXor(sums + 2, sum.z);
    atomicXor(sums + 3, sum.w);
  }
  sync_block();  // the copies end before the block does
}

// The same sums by plain loads.
__global__ void expect(Work work, unsigned slot_bytes, unsigned* sums) {
  const std::byte* source = work.source + blockIdx.x * work.region;
  uint4 sum{};
  for (unsigned chunk = 0; chunk < work.chunks; ++chunk) {
    const std::size_t at = std::size_t{chunk} * slot_bytes % work.region;
    const uint4* words = reinterpret_cast<const uint4*>(source + at);
    for (unsigned i = threadIdx.x; i < slot_bytes / 16; i += blockDim.x) {
      const uint4 word = words[i];
      sum = {sum.x ^ word.x, sum.y ^ word.y, sum.z ^ word.z, sum.w ^ word.w};
    }
  }
  atomicXor(sums, sum.x);
  atomicXor(sums + 1, sum.y);
  atomicXor(sums + 2, sum.z);
  atomicXor(sums + 3, sum.w);
}

// Milliseconds of one launch.
float launch(unsigned blocks, Work work, Ring ring, unsigned* sums, cudaEvent_t (&events)[2]) {
  check(cudaMemset(sums, 0, 5 * sizeof(unsigned)), "cudaMemset");
  check(cudaEventRecord(events[0]), "event");
  stream<<<blocks, kThreads, ring.slots * ring.slot_bytes>>>(work, ring, sums);
  check(cudaGetLastError(), "launch");
  check(cudaEventRecord(events[1]), "event");
  check(cudaEventSynchronize(events[1]), "stream");
  float ms = 0;
  check(cudaEventElapsedTime(&ms, events[0], events[1]), "event");
  return ms;
}

bool right(unsigned blocks, Work work, Ring ring, const unsigned* sums) {
  unsigned* expected = allocate<unsigned>(4);
  check(cudaMemset(expected, 0, 4 * sizeof(unsigned)), "cudaMemset");
  expect<<<blocks, 256>>>(work, ring.slot_bytes, expected);
  unsigned found[5], wanted[4];
  check(cudaMemcpy(wanted, expected, sizeof(wanted), cudaMemcpyDeviceToHost), "expect");
  check(cudaMemcpy(found, sums, sizeof(found), cudaMemcpyDeviceToHost), "stream");
  check(cudaFree(expected), "cudaFree");
  return found[4] == 0 && std::equal(wanted, wanted + 4, found);
}

void measure(const char* from, bool cached, unsigned blocks, Work work, Ring ring) {
  cudaEvent_t events[2];
  for (cudaEvent_t& event : events) check(cudaEventCreate(&event), "event");
  unsigned* sums = allocate<unsigned>(5);
  const float first = launch(blocks, work, ring, sums, events);
  const float ms = cached ? launch(blocks, work, ring, sums, events) : first;
  const bool is_right = right(blocks, work, ring, sums);
  const double bytes = static_cast<double>(work.chunks) * ring.slot_bytes * blocks;
  std::printf(
      "{\"from\": \"%s\", \"blocks\": %u, \"slots\": %u, \"slot_bytes\": %u, \"gb_per_second\": "
      "%.1f, \"gb_per_second_per_block\": %.2f, \"wrong\": %d}\n",
      from, blocks, ring.slots, ring.slot_bytes, bytes / ms * 1e-6, bytes / ms / blocks * 1e-6,
      is_right ? 0 : 1);
  std::fflush(stdout);
  check(cudaFree(sums), "cudaFree");
  for (cudaEvent_t event : events) check(cudaEventDestroy(event), "event");
}

}  // namespace

int main() {
  const cudaDeviceProp properties = device_properties();
  const unsigned all = properties.multiProcessorCount;
  std::byte* source = allocate<std::byte>(kRegion);
  fill<<<4 * all, 256>>>(reinterpret_cast<uint4*>(source), kRegion / sizeof(uint4));
  check(cudaDeviceSynchronize(), "fill");
  for (const unsigned slot_bytes : {4096u, 8192u, 16384u, 32768u}) {
    for (const unsigned kilobytes : {64u, 128u, 192u}) {
      const Ring ring{std::min(kMostSlots, kilobytes * 1024 / slot_bytes), slot_bytes};
      const std::size_t shared = std::size_t{ring.slots} * slot_bytes;
      if (shared + 2048 > properties.sharedMemPerBlockOptin) continue;
      check(cudaFuncSetAttribute(stream, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared)),
            "shared memory");
      for (const unsigned blocks : {1u, 16u, all}) {
        // A third of the second-level cache, all blocks together; at most 1 MB each.
        const std::size_t part =
            std::min<std::size_t>(1 << 20, properties.l2CacheSize / 3 / blocks) / slot_bytes;
        const std::size_t region = std::max<std::size_t>(1, part) * slot_bytes;
        measure("cache", true, blocks, {source, region, (32u << 20) / slot_bytes}, ring);
        // Several times the cache, read once.
        const std::size_t own = std::min<std::size_t>(256 << 20, kRegion / blocks);
        const unsigned chunks = static_cast<unsigned>(own / slot_bytes);
        measure("memory", false, blocks, {source, std::size_t{chunks} * slot_bytes, chunks}, ring);
      }
    }
  }
  return 0;
}
