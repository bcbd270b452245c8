// kernels/cuda/primitives.h as plain C++: CUDA threads are fibers of one thread of the system, run
// in an order drawn from a seed, and every primitive that waits lets others run.
//
// What a GPU leaves open is decided against the kernel where that is possible: shared memory starts
// as 0xFF (not a number), copies that run by themselves leave 0xFF until they land at some later
// moment, what is stored into another block's shared memory may stay unseen until a barrier
// releases it or be seen at once, and clusters run one after the other in any order unless the
// launch is cooperative. Reported, by an Error from emulate: a state in which no thread can go on,
// with what each of them waits for; lanes that miss in a primitive of whole warps or are in
// different ones; barriers that are not initialized, overwritten, or arrived at too often;
// addresses outside the block's shared memory or not aligned; stores into blocks that may not run
// yet or have ended; and copies that nobody waited for.
//
// Not modelled: time, bank conflicts, the number of registers, the order of memory among blocks or
// between the parts of a barrier (plain stores are seen at once), proxies (fence_barrier_init does
// nothing), and the rounding inside the tensor cores, whose sums are taken here in float32, one
// product after the other.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

namespace lreorg::emulator {

struct Launch {
  unsigned grid = 1;
  unsigned cluster = 1;
  unsigned threads = 32;
  std::size_t shared_bytes = 0;
  std::uint64_t seed = 0;
  bool cooperative = false;  // all blocks run at the same time
  // Lets the time pass when no thread can go on, for watchdogs to end it, and lets blocks end
  // before their copies land.
  bool watchdog = false;
};

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Runs the kernel in every thread of the launch. Throws Error where it does what it must not.
void emulate(const Launch& launch, const std::function<void()>& kernel);

// Of the thread that runs.
struct Identity {
  unsigned thread;
  unsigned threads;
  unsigned block;
  unsigned cluster_rank;
  unsigned cluster_size;
  std::byte* shared;
};
extern const Identity* identity;

}  // namespace lreorg::emulator

namespace lreorg::cuda {

// As on sm_90 and later. See the end of this file for kernels as on sm_80.
#ifndef LREORG_EMULATE_BULK_LOADS
#define LREORG_EMULATE_BULK_LOADS 1
#endif
constexpr bool kBulkLoads = LREORG_EMULATE_BULK_LOADS;

inline unsigned thread() {
  return emulator::identity->thread;
}
inline unsigned block_threads() {
  return emulator::identity->threads;
}
inline unsigned lane() {
  return thread() % 32;
}
inline unsigned warp() {
  return thread() / 32;
}
inline unsigned block_index() {
  return emulator::identity->block;
}
inline std::byte* dynamic_shared() {
  return emulator::identity->shared;
}

void sync_warp();
void sync_block();
void sync_threads_of(unsigned barrier, unsigned count);

inline unsigned cluster_rank() {
  return emulator::identity->cluster_rank;
}
inline unsigned cluster_size() {
  return emulator::identity->cluster_size;
}
inline unsigned cluster_index() {
  return block_index() / cluster_size();
}
void cluster_arrive();
void cluster_wait();
void store_cluster(std::uint32_t* own, unsigned rank, std::uint32_t value);
void store_cluster(float* own, unsigned rank, float value);
void store_cluster(uint2* own, unsigned rank, uint2 value);
void store_cluster(uint4* own, unsigned rank, uint4 value);

// What it counts is kept elsewhere; the bytes are a mark that shows whether they are overwritten.
struct alignas(8) Barrier {
  std::uint64_t mark;
};
void barrier_init(Barrier* barrier, unsigned arrivals);
inline void fence_barrier_init() {}
void barrier_arrive(Barrier* barrier);
void barrier_expect(Barrier* barrier, unsigned bytes);
bool barrier_try_wait(Barrier* barrier, unsigned parity);
// Releases what the thread's warp has stored into that block, and all warps that it has met since.
void barrier_arrive_cluster(Barrier* own, unsigned rank);
inline bool barrier_try_wait_cluster(Barrier* barrier, unsigned parity) {
  return barrier_try_wait(barrier, parity);
}

void load_bulk(void* shared, const void* global, unsigned bytes, Barrier* barrier);
void load_async16(void* shared, const void* global);
void barrier_arrive_async(Barrier* barrier);

void load_matrix4(std::uint32_t (&r)[4], const void* row);
void load_matrix2(std::uint32_t (&r)[2], const void* row);

struct Bfloat16 {};
struct Float16 {};
void multiply(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], Bfloat16);
void multiply(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], Float16);

std::uint32_t to_pair(float low, float high, Bfloat16);
std::uint32_t to_pair(float low, float high, Float16);
float to_float(std::uint16_t bits, Bfloat16);
float to_float(std::uint16_t bits, Float16);
inline float exp(float x) {
  return std::exp(x);
}

unsigned load_acquire(const unsigned* address);
void store_release(unsigned* address, unsigned value);
void add_release(unsigned* address, unsigned value);
std::uint64_t time_ns();

}  // namespace lreorg::cuda

// Kernels that are compiled for the other way of loading have a namespace of their own, since the
// program holds both.
#if !LREORG_EMULATE_BULK_LOADS
namespace lreorg::cuda_without_bulk_loads {
using namespace cuda;
}
#define cuda cuda_without_bulk_loads
#endif
