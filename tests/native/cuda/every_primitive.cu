// Calls every primitive of kernels/cuda/primitives.h, so that a build tells whether each is what
// the assembler of each architecture takes. It is never run.
#include "cuda/primitives.h"

namespace lreorg::test {

using namespace lreorg::cuda;

template <class Kind>
__device__ void multiply_rows(float (&c)[4], const std::byte* rows, Kind kind) {
  std::uint32_t a[4];
  std::uint32_t b[2];
  load_matrix4(a, rows + 16 * lane());
  load_matrix2(b, rows + 16 * (lane() % 16));
  multiply(c, a, b, kind);
  std::uint32_t planes[3];
  split_pair(c[0], c[1], planes, kind);
  c[2] += exp(to_float(static_cast<std::uint16_t>(planes[2]), kind));
  c[3] += to_float(to_bits(c[2], kind), kind);
}

__device__ void load(std::byte* to, const std::byte* from, Barrier* barrier) {
  constexpr unsigned kBytes = 512;
  if constexpr (kBulkLoads) {
    if (lane() == 0) barrier_expect(barrier, kBytes);
    if (lane() == 0) load_bulk(to, from, kBytes, barrier);
  } else {
    load_async16(to + 16 * lane(), from + 16 * lane());
    barrier_arrive_async(barrier);
  }
}

__device__ void exchange(std::byte* rows, Barrier* barrier) {
  if constexpr (kBulkLoads) {
    const unsigned rank = (cluster_rank() + 1) % cluster_size();
    cluster_arrive();
    cluster_wait();
    store_cluster(reinterpret_cast<std::uint32_t*>(rows) + thread(), rank, cluster_index());
    store_cluster(reinterpret_cast<float*>(rows) + thread(), rank, 1.0f);
    store_cluster(reinterpret_cast<uint2*>(rows) + thread(), rank, make_uint2(1, 2));
    store_cluster(reinterpret_cast<uint4*>(rows) + thread(), rank, make_uint4(1, 2, 3, 4));
    barrier_arrive_cluster(barrier, rank);
    while (!barrier_try_wait_cluster(barrier, 1)) sync_warp();
    cluster_arrive();
    cluster_wait();
  }
}

__global__ void every_primitive(const std::byte* from, float* to, unsigned* counter) {
  auto* barrier = reinterpret_cast<Barrier*>(dynamic_shared());
  std::byte* rows = dynamic_shared() + 1024;
  const std::uint64_t start = time_ns();
  if (thread() == 0) barrier_init(barrier, kBulkLoads ? 1 : 32);
  fence_barrier_init();
  sync_block();
  if (warp() == 0) load(rows, from, barrier);
  while (!barrier_try_wait(barrier, 0)) {
    if (time_ns() - start > 1000000000) return;
  }
  float c[4] = {};
  multiply_rows(c, rows, Bfloat16{});
  multiply_rows(c, rows, Float16{});
  sync_threads_of(1, block_threads());
  exchange(rows, barrier);
  if (thread() == 0) {
    barrier_arrive(barrier);
    add_release(counter, 1);
    store_release(counter + 1, load_acquire(counter));
  }
  sync_warp();
  to[block_index() * block_threads() + thread()] = c[0] + c[1] + c[2] + c[3];
}

}  // namespace lreorg::test
