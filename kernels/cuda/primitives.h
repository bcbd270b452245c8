// What the CUDA kernels ask of the machine, as plain functions: indices, barriers, clusters, copies
// that run by themselves, tensor cores, and the grid's memory order. The kernels hold no PTX.
//
// LREORG_EMULATE_CUDA takes the same functions from tests/native/cuda/emulator.h, so that the very
// sources of the kernels run, as plain C++, on a machine without a GPU. Rules that the emulator
// checks and the machine only assumes:
//   - All 32 lanes of a warp call sync_warp, sync_block, sync_threads_of, cluster_arrive,
//     cluster_wait, load_matrix* and multiply together. A block is a whole number of warps.
//   - A thread waits for the cluster barrier before it arrives again, and stores into another
//     block's shared memory only between the first completed cluster barrier and that block's end.
//   - Copies that run by themselves are waited for before the block ends.
//
// Instructions as in the PTX ISA 9.0. What is of sm_90 traps on older architectures; kBulkLoads and
// the launch keep the kernels from it.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef LREORG_EMULATE_CUDA

#include "cuda/emulator.h"
#define LREORG_DEVICE inline

#else

#define LREORG_DEVICE __device__ __forceinline__

namespace lreorg::cuda {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define LREORG_HOPPER 1
#else
#define LREORG_HOPPER 0
#endif

// load_bulk and barrier_expect are there; load_async16 and barrier_arrive_async are everywhere.
constexpr bool kBulkLoads = LREORG_HOPPER;

// Indices. Blocks and grids have one dimension.
LREORG_DEVICE unsigned thread() {
  return threadIdx.x;
}
LREORG_DEVICE unsigned block_threads() {
  return blockDim.x;
}
LREORG_DEVICE unsigned lane() {
  return threadIdx.x % 32;
}
LREORG_DEVICE unsigned warp() {
  return threadIdx.x / 32;
}
LREORG_DEVICE unsigned block_index() {
  return blockIdx.x;
}

// The block's dynamic shared memory.
LREORG_DEVICE std::byte* dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char lreorg_dynamic_shared[];
  return reinterpret_cast<std::byte*>(lreorg_dynamic_shared);
}

// As the instructions on shared memory take it.
LREORG_DEVICE std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// Barriers of a block.
LREORG_DEVICE void sync_warp() {
  __syncwarp();
}
LREORG_DEVICE void sync_block() {
  __syncthreads();
}
// `count` threads, whole warps, meet at one of the barriers 1 to 15.
LREORG_DEVICE void sync_threads_of(unsigned barrier, unsigned count) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(count) : "memory");
}

// Clusters. A launch without one, and every launch before sm_90, has clusters of one block.
LREORG_DEVICE unsigned cluster_rank() {
#if LREORG_HOPPER
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
#else
  return 0;
#endif
}

LREORG_DEVICE unsigned cluster_size() {
#if LREORG_HOPPER
  unsigned size;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
#else
  return 1;
#endif
}

// Of this cluster in the grid.
LREORG_DEVICE unsigned cluster_index() {
#if LREORG_HOPPER
  unsigned index;
  asm("mov.u32 %0, %%clusterid.x;" : "=r"(index));
  return index;
#else
  return blockIdx.x;
#endif
}

// What a thread wrote before cluster_arrive, in any block's shared memory, is there for all threads
// of the cluster after their cluster_wait.
LREORG_DEVICE void cluster_arrive() {
#if LREORG_HOPPER
  __syncwarp();  // .aligned wants the warp in step
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#else
  __trap();
#endif
}

LREORG_DEVICE void cluster_wait() {
#if LREORG_HOPPER
  __syncwarp();
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
  __trap();
#endif
}

#if LREORG_HOPPER
// Where block `rank` of the cluster has what this block has at `own`.
LREORG_DEVICE std::uint32_t cluster_address(const void* own, unsigned rank) {
  std::uint32_t address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(own)), "r"(rank));
  return address;
}
#endif

// Stores where block `rank` of the cluster has what this block has at `own`. `rank` may be this
// block's.
LREORG_DEVICE void store_cluster(std::uint32_t* own, unsigned rank, std::uint32_t value) {
#if LREORG_HOPPER
  asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(cluster_address(own, rank)), "r"(value)
               : "memory");
#else
  __trap();
#endif
}

LREORG_DEVICE void store_cluster(float* own, unsigned rank, float value) {
  store_cluster(reinterpret_cast<std::uint32_t*>(own), rank, __float_as_uint(value));
}

LREORG_DEVICE void store_cluster(uint2* own, unsigned rank, uint2 value) {
#if LREORG_HOPPER
  asm volatile("st.shared::cluster.v2.u32 [%0], {%1, %2};" ::"r"(cluster_address(own, rank)),
               "r"(value.x), "r"(value.y)
               : "memory");
#else
  __trap();
#endif
}

LREORG_DEVICE void store_cluster(uint4* own, unsigned rank, uint4 value) {
#if LREORG_HOPPER
  asm volatile(
      "st.shared::cluster.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(cluster_address(own, rank)),
      "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w)
      : "memory");
#else
  __trap();
#endif
}

// A barrier in shared memory that also counts copies (PTX's mbarrier). A phase ends when `arrivals`
// have arrived and all expected bytes are there; phases are told apart by their parity, the first
// being 0. An arrival releases, a wait that succeeds acquires, among the threads of the block.
struct alignas(8) Barrier {
  std::uint64_t state;
};

// One thread calls it, then fence_barrier_init, before a sync_block that all users pass.
LREORG_DEVICE void barrier_init(Barrier* barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals)
               : "memory");
}

LREORG_DEVICE void fence_barrier_init() {
#if LREORG_HOPPER
  // The second is for load_bulk, which reaches the barrier and its destination by another way.
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

LREORG_DEVICE void barrier_arrive(Barrier* barrier) {
  asm volatile(
      "{\n"
      ".reg .b64 state;\n"
      "mbarrier.arrive.shared.b64 state, [%0];\n"
      "}\n" ::"r"(shared_address(barrier))
      : "memory");
}

// Arrives, and makes the phase wait for `bytes` more of load_bulk.
LREORG_DEVICE void barrier_expect(Barrier* barrier, unsigned bytes) {
#if LREORG_HOPPER
  asm volatile(
      "{\n"
      ".reg .b64 state;\n"
      "mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1;\n"
      "}\n" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
#else
  __trap();
#endif
}

// Whether the phase of this parity is over. May sleep a while before it says no.
LREORG_DEVICE bool barrier_try_wait(Barrier* barrier, unsigned parity) {
  unsigned over;
#if LREORG_HOPPER
  constexpr unsigned kMostSleepNs = 1000000;  // the callers look at the clock in between
  asm volatile(
      "{\n"
      ".reg .pred over;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2, %3;\n"
      "selp.u32 %0, 1, 0, over;\n"
      "}\n"
      : "=r"(over)
      : "r"(shared_address(barrier)), "r"(parity), "r"(kMostSleepNs)
      : "memory");
#else
  asm volatile(
      "{\n"
      ".reg .pred over;\n"
      "mbarrier.test_wait.parity.shared.b64 over, [%1], %2;\n"
      "selp.u32 %0, 1, 0, over;\n"
      "}\n"
      : "=r"(over)
      : "r"(shared_address(barrier)), "r"(parity)
      : "memory");
#endif
  return over != 0;
}

// A barrier that blocks of a cluster arrive at: arrives where block `rank` has what this block has
// at `own`. What the thread saw or wrote before, in any block's shared memory, is there for who
// sees the phase over by barrier_try_wait_cluster.
LREORG_DEVICE void barrier_arrive_cluster(Barrier* own, unsigned rank) {
#if LREORG_HOPPER
  asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(
                   cluster_address(own, rank))
               : "memory");
#else
  __trap();
#endif
}

LREORG_DEVICE bool barrier_try_wait_cluster(Barrier* barrier, unsigned parity) {
#if LREORG_HOPPER
  unsigned over;
  asm volatile(
      "{\n"
      ".reg .pred over;\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 over, [%1], %2;\n"
      "selp.u32 %0, 1, 0, over;\n"
      "}\n"
      : "=r"(over)
      : "r"(shared_address(barrier)), "r"(parity)
      : "memory");
  return over != 0;
#else
  __trap();
  return true;
#endif
}

// Copies `bytes` of global memory, both addresses and the number multiples of 16, and then counts
// them at the barrier. One thread calls it, after barrier_expect.
LREORG_DEVICE void load_bulk(void* shared, const void* global, unsigned bytes, Barrier* barrier) {
#if LREORG_HOPPER
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(shared)),
      "l"(__cvta_generic_to_global(global)), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
#else
  __trap();
#endif
}

// Copies 16 bytes at addresses that are multiples of 16.
LREORG_DEVICE void load_async16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)),
               "l"(__cvta_generic_to_global(global))
               : "memory");
}

// Arrives once all that this thread copied by load_async16 so far is there. It counts among the
// barrier's arrivals.
LREORG_DEVICE void barrier_arrive_async(Barrier* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(barrier))
               : "memory");
}

// ldmatrix: lane 8 i + r gives the address of row r (16 bytes) of matrix i (8 x 8 of 16 bits). r[i]
// becomes the pair of elements (row lane / 4, columns 2 (lane % 4) and the next) of matrix i.
LREORG_DEVICE void load_matrix4(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// Two matrices; lanes 16 to 31 give an address too, which is not read.
LREORG_DEVICE void load_matrix2(std::uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

// Kinds of 16-bit numbers.
struct Bfloat16 {};
struct Float16 {};

// c += a b of a warp: a is 16 x 16, b 16 x 8, c 16 x 8. With g = lane / 4, t = lane % 4, the lower
// half of a pair first:
//   a[0] (g, 2t) (g, 2t+1)      a[1] (g+8, 2t) ..      a[2] (g, 2t+8) ..     a[3] (g+8, 2t+8) ..
//   b[0] (2t, g) (2t+1, g)      b[1] (2t+8, g) (2t+9, g)
//   c[0] (g, 2t)   c[1] (g, 2t+1)   c[2] (g+8, 2t)   c[3] (g+8, 2t+1)
// So load_matrix4 of tokens' rows (column-major b: row = token, 16 columns) gives two tiles' b.
#define LREORG_MULTIPLY(Kind, name)                                                     \
  LREORG_DEVICE void multiply(float (&c)[4], const std::uint32_t (&a)[4],               \
                              const std::uint32_t (&b)[2], Kind) {                      \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." name "." name                 \
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                       \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));   \
  }
LREORG_MULTIPLY(Bfloat16, "bf16")
LREORG_MULTIPLY(Float16, "f16")
#undef LREORG_MULTIPLY

// Rounds to nearest even; the lower half of the word is `low`.
LREORG_DEVICE std::uint32_t to_pair(float low, float high, Bfloat16) {
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

LREORG_DEVICE std::uint32_t to_pair(float low, float high, Float16) {
  std::uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

LREORG_DEVICE float to_float(std::uint16_t bits, Bfloat16) {
  return __uint_as_float(static_cast<std::uint32_t>(bits) << 16);
}

LREORG_DEVICE float to_float(std::uint16_t bits, Float16) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// e to the x, within 2 units in the last place.
LREORG_DEVICE float exp(float x) {
  return expf(x);
}

// Global memory among blocks. What a block's threads wrote before a sync_block that comes before an
// add_release is there for who sees its sum by load_acquire, and for his block after a sync_block.
LREORG_DEVICE unsigned load_acquire(const unsigned* address) {
  unsigned value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
               : "=r"(value)
               : "l"(__cvta_generic_to_global(address))
               : "memory");
  return value;
}

LREORG_DEVICE void store_release(unsigned* address, unsigned value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(address)),
               "r"(value)
               : "memory");
}

LREORG_DEVICE void add_release(unsigned* address, unsigned value) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(address)),
               "r"(value)
               : "memory");
}

// A clock of the whole device, for watchdogs: on some devices it only ticks once a microsecond.
LREORG_DEVICE std::uint64_t time_ns() {
  std::uint64_t time;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
  return time;
}

}  // namespace lreorg::cuda

#endif  // LREORG_EMULATE_CUDA

namespace lreorg::cuda {

template <class Kind>
LREORG_DEVICE std::uint16_t to_bits(float value, Kind kind) {
  return static_cast<std::uint16_t>(to_pair(value, 0.0f, kind));
}

// Two numbers as sums of kPlanes 16-bit numbers each, the largest first: each plane is what the
// planes before it leave, rounded. Three planes of bfloat16 are a float32 of normal size exactly.
template <int kPlanes, class Kind>
LREORG_DEVICE void split_pair(float low, float high, std::uint32_t (&planes)[kPlanes], Kind kind) {
#pragma unroll
  for (int plane = 0; plane < kPlanes; ++plane) {
    planes[plane] = to_pair(low, high, kind);
    low -= to_float(static_cast<std::uint16_t>(planes[plane]), kind);
    high -= to_float(static_cast<std::uint16_t>(planes[plane] >> 16), kind);
  }
}

}  // namespace lreorg::cuda
