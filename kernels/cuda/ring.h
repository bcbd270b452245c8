// A block's weights, pulled through a ring of slots in shared memory: one warp asks for them in the
// order of use, as far ahead as there are slots, across phases, exchanges and steps; the others
// take them. One chunk has one slot whatever its size, so that both sides count the same without
// knowing more than the order of chunks.
#pragma once

#include "cuda/layout.h"
#include "cuda/primitives.h"
#include "cuda/watchdog.h"

namespace lreorg::cuda {

constexpr unsigned kWarpThreads = 32;
constexpr unsigned kConsumerWarps = 8;
constexpr unsigned kConsumers = kConsumerWarps * kWarpThreads;
constexpr unsigned kBlockThreads = kConsumers + kWarpThreads;  // the last warp is the producer

// Input tiles of a section that one chunk holds.
LREORG_HOST_DEVICE constexpr std::uint32_t chunk_depth(const Geometry& geometry,
                                                       std::uint32_t slot_bytes,
                                                       std::uint32_t rows) {
  return slot_bytes / (rows * geometry.weight_planes * kTileBytes);
}

struct Ring {
  std::byte* slots;
  Barrier* full;   // [slots]
  Barrier* empty;  // [slots]
  std::uint32_t slot_bytes;
  std::uint32_t num_slots;
  std::uint32_t slot = 0;
  std::uint32_t round = 0;  // times that the ring was gone around
  std::uint32_t chunk = 0;

  // A thread copies for itself where the machine has no bulk copies: then all lanes arrive.
  LREORG_DEVICE void init() const {
    for (std::uint32_t i = 0; i < num_slots; ++i) {
      barrier_init(full + i, kBulkLoads ? 1 : kWarpThreads);
      barrier_init(empty + i, kConsumerWarps);
    }
  }

  LREORG_DEVICE std::byte* bytes() const {
    return slots + static_cast<std::size_t>(slot) * slot_bytes;
  }

  LREORG_DEVICE void advance() {
    ++chunk;
    if (++slot < num_slots) return;
    slot = 0;
    ++round;
  }

  // For consumers: the next chunk, once it is there.
  LREORG_DEVICE const std::byte* take(const Watchdog& watchdog) const {
    watchdog.await([&] { return barrier_try_wait(full + slot, round % 2); }, Watchdog::kWeights,
                   chunk);
    return bytes();
  }

  // For consumers: their warp has read it.
  LREORG_DEVICE void release() {
    sync_warp();
    if (lane() == 0) barrier_arrive(empty + slot);
    advance();
  }

  // For the producer: asks for the next chunk once its slot is free. Bulk copies are one lane's
  // work; the others must not follow it, as nothing would keep them from falling a round behind.
  LREORG_DEVICE void load(const std::byte* from, std::uint32_t size, const Watchdog& watchdog) {
    // The first round finds the slots free: the phase before the first counts as over.
    watchdog.follow([&] { return barrier_try_wait(empty + slot, (round + 1) % 2); });
    if (watchdog.failed()) return;
    if constexpr (kBulkLoads) {
      barrier_expect(full + slot, size);
      load_bulk(bytes(), from, size, full + slot);
    } else {
      for (std::uint32_t at = lane() * 16; at < size; at += kWarpThreads * 16) {
        load_async16(bytes() + at, from + at);
      }
      barrier_arrive_async(full + slot);
    }
    advance();
  }
};

}  // namespace lreorg::cuda
