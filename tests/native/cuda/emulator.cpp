#include "cuda/emulator.h"

#include <bit>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "cuda/machine.h"

namespace lreorg::cuda {
namespace {

using emulator::AsyncBarrier;
using emulator::AsyncCopy;
using emulator::Block;
using emulator::Cluster;
using emulator::kLanes;
using emulator::machine;
using emulator::NamedBarrier;
using emulator::Operands;
using emulator::RemoteStore;
using emulator::Thread;
using emulator::Wait;
using emulator::Warp;

// One in so many calls of a primitive that orders memory lets other warps run.
constexpr unsigned kYieldOnceIn = 16;

constexpr std::uint64_t kMark = 0x6C72656F72670000u;  // of initialized barriers, plus the offset
constexpr std::size_t kVectorBytes = 16;

// Whoever has met the warp at a barrier releases its stores too.
void share_stores(Warp& warp) {
  std::vector<RemoteStore>& known = warp.block->stores;
  known.insert(known.end(), warp.stores.begin(), warp.stores.end());
  warp.stores.clear();
}

void synchronize(const Wait& wait, unsigned index, unsigned count) {
  machine->meet(wait, {}, [=](Warp& warp) {
    NamedBarrier& barrier = warp.block->named[index];
    if (barrier.arrived > 0 && barrier.count != count) {
      machine->fail("a barrier of two counts of threads: " + std::to_string(barrier.count) +
                    " and " + std::to_string(count));
    }
    barrier.count = count;
    barrier.arrived += kLanes;
    if (barrier.arrived < count) {
      barrier.waiting.push_back(&warp);
      return false;
    }
    barrier.arrived = 0;
    share_stores(warp);
    for (Warp* other : std::exchange(barrier.waiting, {})) {
      share_stores(*other);
      machine->wake(*other);
    }
    return true;
  });
}

AsyncBarrier& find(Block& block, std::size_t offset) {
  for (AsyncBarrier& known : block.barriers) {
    if (known.offset != offset) continue;
    std::uint64_t mark;
    std::memcpy(&mark, block.shared + offset, sizeof(mark));
    if (mark != kMark + offset) machine->fail("a barrier whose bytes were overwritten");
    return known;
  }
  machine->fail("a barrier that was not initialized");
}

AsyncBarrier& find(Barrier* barrier) {
  Block& block = *machine->current().block;
  return find(block, block.offset(barrier, sizeof(Barrier), alignof(Barrier)));
}

std::size_t index_of(const Block& block, const AsyncBarrier& barrier) {
  return static_cast<std::size_t>(&barrier - block.barriers.data());
}

std::size_t index_of(Barrier* barrier) {
  return index_of(*machine->current().block, find(barrier));
}

void arrive(AsyncBarrier& barrier) {
  if (barrier.pending == 0) {
    machine->fail("more arrivals at the barrier at " + std::to_string(barrier.offset) +
                  " than it was initialized for");
  }
  --barrier.pending;
  ++machine->progress;
  machine->finish_phase(barrier);
  machine->yield_once_in(kYieldOnceIn);
}

// The destination is undefined from here on.
AsyncCopy begin_copy(void* shared, const void* global, std::size_t bytes) {
  machine->current().block->offset(shared, bytes, kVectorBytes);
  if (reinterpret_cast<std::uintptr_t>(global) % kVectorBytes != 0) {
    machine->fail("a global address that is no multiple of 16");
  }
  std::memset(shared, 0xFF, bytes);
  ++machine->progress;
  return {static_cast<std::byte*>(shared), static_cast<const std::byte*>(global), bytes};
}

// The block that a primitive on other blocks' shared memory reaches.
Block& reach(unsigned rank) {
  Block& own = *machine->current().block;
  const Cluster& cluster = *own.cluster;
  if (rank >= cluster.blocks.size()) machine->fail("a block outside the cluster");
  Block& target = *cluster.blocks[rank];
  if (target.live == 0) machine->fail("shared memory of a block that has ended");
  if (cluster.phase == 0 && &target != &own) {
    machine->fail("shared memory of a block before the first cluster barrier: it may not run yet");
  }
  return target;
}

template <class T>
void store_remote(T* own, unsigned rank, T value) {
  const Thread& thread = machine->current();
  Warp& warp = *thread.warp;
  const std::size_t offset = thread.block->offset(own, sizeof(T), sizeof(T));
  const Block& target = reach(rank);
  RemoteStore store{&target, target.shared + offset, {}, sizeof(T)};
  std::memcpy(store.value.data(), &value, sizeof(T));
  if (&target == thread.block || warp.stores_early) {
    std::memcpy(store.to, &value, sizeof(T));
  } else {
    warp.stores.push_back(store);
  }
  machine->yield_once_in(kYieldOnceIn * kLanes);
}

const void* matrix_row(const Warp& warp, unsigned lane) {
  const void* row = warp.operands[lane].a;
  warp.block->offset(row, kVectorBytes, kVectorBytes);
  return row;
}

// ldmatrix: matrix i has its rows in lanes 8 i to 8 i + 7.
void load_matrices(std::uint32_t* r, const void* row, unsigned count, const char* name) {
  machine->meet({name}, {r, row, nullptr}, [=](Warp& warp) {
    for (unsigned matrix = 0; matrix < count; ++matrix) {
      for (unsigned i = 0; i < 8; ++i) {
        const auto* from = static_cast<const std::byte*>(matrix_row(warp, 8 * matrix + i));
        for (unsigned pair = 0; pair < 4; ++pair) {
          auto* to = static_cast<std::uint32_t*>(warp.operands[4 * i + pair].c);
          std::memcpy(to + matrix, from + 4 * pair, 4);
        }
      }
    }
    return true;
  });
}

float widen(std::uint32_t bits, Bfloat16) {
  return std::bit_cast<float>(bits << 16);
}

float widen(std::uint32_t bits, Float16) {
  const std::uint32_t sign = (bits & 0x8000u) << 16;
  std::uint32_t magnitude = (bits & 0x7FFFu) << 13;
  if (magnitude >= 0x0F800000u) {  // infinite or not a number
    return std::bit_cast<float>(sign | 0x7F800000u | (magnitude & 0x007FFFFFu));
  }
  // Exponents are biased by 15 there and by 127 here; the product also makes denormals normal.
  const float scaled = std::bit_cast<float>(magnitude) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(scaled));
}

template <class Kind>
void multiply_warp(const Warp& warp, Kind kind) {
  float a[16][16];
  float b[16][8];
  float c[16][8];
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    const unsigned g = lane / 4;
    const unsigned t = lane % 4;
    const auto* left = static_cast<const std::uint32_t*>(warp.operands[lane].a);
    const auto* right = static_cast<const std::uint32_t*>(warp.operands[lane].b);
    const auto* sum = static_cast<const float*>(warp.operands[lane].c);
    for (unsigned half = 0; half < 2; ++half) {
      const unsigned shift = 16 * half;
      for (unsigned i = 0; i < 4; ++i) {
        a[g + 8 * (i % 2)][2 * t + half + 8 * (i / 2)] = widen(left[i] >> shift & 0xFFFFu, kind);
      }
      for (unsigned i = 0; i < 2; ++i) {
        b[2 * t + half + 8 * i][g] = widen(right[i] >> shift & 0xFFFFu, kind);
        c[g + 8 * i][2 * t + half] = sum[2 * i + half];
      }
    }
  }
  for (unsigned m = 0; m < 16; ++m) {
    for (unsigned k = 0; k < 16; ++k) {
      for (unsigned n = 0; n < 8; ++n) c[m][n] += a[m][k] * b[k][n];
    }
  }
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    auto* sum = static_cast<float*>(warp.operands[lane].c);
    for (unsigned i = 0; i < 4; ++i) sum[i] = c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
  }
}

template <class Kind>
void multiply_lane(float* c, const std::uint32_t* a, const std::uint32_t* b, Kind kind,
                   const char* name) {
  machine->meet({name}, {c, a, b}, [=](Warp& warp) {
    multiply_warp(warp, kind);
    return true;
  });
}

std::uint32_t round_bits(float value, Bfloat16) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return 0x7FFFu;
  return (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
}

std::uint32_t round_bits(float value, Float16) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return 0x7FFFu;
  if (magnitude >= 0x477FF000u) return sign | 0x7C00u;  // 65520 and more round to infinity
  if (magnitude < 0x38800000u) {
    // Below 2^-14 the step is 2^-24: the addition rounds to it.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return sign | (std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(0.5f));
  }
  return sign | ((magnitude - 0x38000000u + 0xFFFu + (magnitude >> 13 & 1u)) >> 13);
}

}  // namespace

void sync_warp() {
  machine->meet({"sync_warp"}, {}, [](Warp&) { return true; });
}

void sync_block() {
  synchronize({"sync_block"}, 0, block_threads());
}

void sync_threads_of(unsigned barrier, unsigned count) {
  if (barrier == 0 || barrier >= emulator::kNamedBarriers) {
    machine->fail("sync_threads_of has barriers 1 to 15");
  }
  if (count == 0 || count % kLanes != 0 || count > block_threads()) {
    machine->fail("sync_threads_of of a part of a warp, or of more threads than there are");
  }
  synchronize({"sync_threads_of", barrier, count}, barrier, count);
}

void cluster_arrive() {
  machine->meet({"cluster_arrive"}, {}, [](Warp& warp) {
    if (warp.at_cluster_barrier) machine->fail("cluster_arrive twice without cluster_wait");
    Cluster& cluster = *warp.block->cluster;
    warp.at_cluster_barrier = true;
    warp.cluster_phase = cluster.phase;
    const std::vector<RemoteStore> stores = machine->take_stores(nullptr);
    cluster.released.insert(cluster.released.end(), stores.begin(), stores.end());
    cluster.arrived += kLanes;
    ++machine->progress;
    machine->finish_cluster_phase(cluster);
    return true;
  });
}

void cluster_wait() {
  machine->meet({"cluster_wait"}, {}, [](Warp& warp) {
    if (!warp.at_cluster_barrier) machine->fail("cluster_wait without cluster_arrive");
    Cluster& cluster = *warp.block->cluster;
    if (cluster.phase == warp.cluster_phase) {
      cluster.waiting.push_back(&warp);
      return false;
    }
    warp.at_cluster_barrier = false;
    return true;
  });
}

void store_cluster(std::uint32_t* own, unsigned rank, std::uint32_t value) {
  store_remote(own, rank, value);
}
void store_cluster(float* own, unsigned rank, float value) {
  store_remote(own, rank, value);
}
void store_cluster(uint2* own, unsigned rank, uint2 value) {
  store_remote(own, rank, value);
}
void store_cluster(uint4* own, unsigned rank, uint4 value) {
  store_remote(own, rank, value);
}

void barrier_init(Barrier* barrier, unsigned arrivals) {
  Block& block = *machine->current().block;
  const std::size_t offset = block.offset(barrier, sizeof(Barrier), alignof(Barrier));
  for (const AsyncBarrier& known : block.barriers) {
    if (known.offset == offset) machine->fail("a barrier that is initialized twice");
  }
  if (arrivals == 0) machine->fail("a barrier of no arrivals");
  barrier->mark = kMark + offset;
  block.barriers.push_back({offset, arrivals, arrivals});
}

void barrier_arrive(Barrier* barrier) {
  arrive(find(barrier));
}

void barrier_expect(Barrier* barrier, unsigned bytes) {
  AsyncBarrier& found = find(barrier);
  found.bytes += bytes;
  arrive(found);
}

void barrier_arrive_cluster(Barrier* own, unsigned rank) {
  const std::size_t offset =
      machine->current().block->offset(own, sizeof(Barrier), alignof(Barrier));
  Block& target = reach(rank);
  const std::size_t index = index_of(target, find(target, offset));
  emulator::perform(machine->take_stores(&target));
  machine->land_later(target, {{}, index, 0});
  ++machine->progress;
  machine->yield_once_in(kYieldOnceIn);
}

bool barrier_try_wait(Barrier* barrier, unsigned parity) {
  if (parity > 1) machine->fail("barrier_try_wait of a parity that is neither 0 nor 1");
  machine->yield_once_in(kYieldOnceIn);
  const std::size_t index = index_of(barrier);
  Thread& thread = machine->current();
  std::vector<AsyncBarrier>& barriers = thread.block->barriers;
  if (barriers[index].parity != parity) return true;
  if (machine->random.once_in(kYieldOnceIn)) return false;
  const auto offset = static_cast<long long>(barriers[index].offset);
  barriers[index].waiting.push_back(&thread);
  machine->block({"barrier_try_wait", offset, parity}, true);
  if (barriers[index].parity != parity) return true;
  std::erase(barriers[index].waiting, &thread);
  return false;
}

void load_bulk(void* shared, const void* global, unsigned bytes, Barrier* barrier) {
  if (bytes == 0 || bytes % kVectorBytes != 0) machine->fail("load_bulk takes multiples of 16");
  const std::size_t index = index_of(barrier);
  machine->land_later(*machine->current().block,
                      {{begin_copy(shared, global, bytes)}, index, bytes});
  machine->yield_once_in(kYieldOnceIn);
}

void load_async16(void* shared, const void* global) {
  machine->current().open_copies.push_back(begin_copy(shared, global, kVectorBytes));
}

void barrier_arrive_async(Barrier* barrier) {
  Thread& thread = machine->current();
  const std::size_t index = index_of(barrier);
  machine->land_later_in_order(thread, {std::exchange(thread.open_copies, {}), index, 0});
  ++machine->progress;
  machine->yield_once_in(kYieldOnceIn);
}

void load_matrix4(std::uint32_t (&r)[4], const void* row) {
  load_matrices(r, row, 4, "load_matrix4");
}
void load_matrix2(std::uint32_t (&r)[2], const void* row) {
  load_matrices(r, row, 2, "load_matrix2");
}

void multiply(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
              Bfloat16 kind) {
  multiply_lane(c, a, b, kind, "multiply of bfloat16");
}
void multiply(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
              Float16 kind) {
  multiply_lane(c, a, b, kind, "multiply of float16");
}

std::uint32_t to_pair(float low, float high, Bfloat16 kind) {
  return round_bits(low, kind) | round_bits(high, kind) << 16;
}
std::uint32_t to_pair(float low, float high, Float16 kind) {
  return round_bits(low, kind) | round_bits(high, kind) << 16;
}
float to_float(std::uint16_t bits, Bfloat16 kind) {
  return widen(bits, kind);
}
float to_float(std::uint16_t bits, Float16 kind) {
  return widen(bits, kind);
}

unsigned load_acquire(const unsigned* address) {
  Thread& thread = machine->current();
  if (thread.polled == address && thread.polled_value == *address) {
    machine->poll(address);
  } else {
    machine->yield_once_in(kYieldOnceIn);
  }
  thread.polled = address;
  thread.polled_value = *address;
  return thread.polled_value;
}

void store_release(unsigned* address, unsigned value) {
  machine->yield_once_in(kYieldOnceIn);
  *address = value;
  machine->notify(address);
}

void add_release(unsigned* address, unsigned value) {
  machine->yield_once_in(kYieldOnceIn);
  *address += value;
  machine->notify(address);
}

std::uint64_t time_ns() {
  return machine->time_ns();
}

}  // namespace lreorg::cuda
