// How the blocks of a group give each other what each of them computed: by distributed shared
// memory within a cluster, or through global memory. Both are policies of the same kernel:
//   begin, end        all threads of the block
//   push, wait        consumers; push(slab), then at some later time wait(slab), always by turns
//
// One meeting for each exchange suffices, though what is pushed overwrites what products read:
//   - What one exchange overwrites (the copy of a stream, or the hidden layers) is not read again
//     between its last use and the push, and at least one other meeting lies in between, at which
//     every block arrives after that last use: the copies are of streams 1 and 2 by turns, and each
//     is read only in the phase (of one exchange, or two) before the other one is pushed; the
//     hidden layers are read between their own exchange and that of the stream which follows. A
//     pass ends with a meeting of nothing, as the next one pushes anew.
//   - A block that pushes has waited for that other meeting, so all others have done their reading.
#pragma once

#include "cuda/products.h"

namespace lreorg::cuda {

// Rows in shared memory of which the block of rank r owns the bytes [r share, (r + 1) share).
struct Slab {
  std::byte* data;
  std::uint32_t rows;
  std::uint32_t pitch;
  std::uint32_t share;  // a multiple of 16

  LREORG_DEVICE std::uint32_t pieces() const { return rows * share / 16; }
  LREORG_DEVICE uint4* piece(unsigned rank, unsigned index) const {
    const unsigned of_row = share / 16;
    return reinterpret_cast<uint4*>(data + index / of_row * pitch + rank * share) + index % of_row;
  }
};

LREORG_DEVICE Slab nothing() {
  return {nullptr, 0, 0, 16};
}

// Calls use(rank, piece) for this thread's part of the other blocks' pieces, each block's
// neighbours first, so that not all turn to the same one at once.
template <class Use>
LREORG_DEVICE void for_each_piece(const Slab& slab, unsigned group, unsigned rank, Use&& use) {
  const unsigned pieces = slab.pieces();
  for (unsigned i = thread(); i < pieces * (group - 1); i += kConsumers) {
    use((rank + 1 + i / pieces) % group, i % pieces);
  }
}

// Pushes into the other blocks' shared memory. Each warp arrives at every block for what it pushed.
// Two barriers by turns: an arrival for the meeting after the next cannot overtake one for this
// meeting, because its block has waited for the next one, at which every block arrived after all of
// its arrivals for this one.
struct ClusterExchange {
  Barrier* meetings;  // [kMeetings]
  unsigned group;
  unsigned rank;
  unsigned count = 0;

  LREORG_DEVICE void init() const {
    for (unsigned i = 0; i < 2; ++i) barrier_init(meetings + i, group * kConsumerWarps);
  }
  // No block stores into one that does not run yet, or has ended.
  LREORG_DEVICE void begin() const { meet(); }
  LREORG_DEVICE void end() const { meet(); }

  LREORG_DEVICE void push(const Slab& slab) const {
    for_each_piece(slab, group, rank, [&](unsigned to, unsigned index) {
      uint4* own = slab.piece(rank, index);
      store_cluster(own, to, *own);
    });
    sync_warp();
    if (lane() < group) barrier_arrive_cluster(meetings + count % 2, lane());
  }

  LREORG_DEVICE void wait(const Slab&, const Watchdog& watchdog) {
    watchdog.await([&] { return barrier_try_wait_cluster(meetings + count % 2, count / 2 % 2); },
                   Watchdog::kExchange, count);
    ++count;
    sync_consumers();
  }

 private:
  LREORG_DEVICE static void meet() {
    cluster_arrive();
    cluster_wait();
  }
};

// Through global memory: a buffer for each parity, [rank][piece], and a counter of arrivals that
// starts at 0 with each launch. The blocks must run at the same time. A block writes the buffer of
// a parity again after it waited for the exchange between, at which all arrived after having read
// it.
struct GridExchange {
  uint4* buffers;  // [2][group][most_pieces]
  unsigned* counter;
  std::uint32_t most_pieces;
  unsigned group;
  unsigned rank;
  unsigned count = 0;

  LREORG_DEVICE void init() const {}
  LREORG_DEVICE void begin() const { sync_block(); }
  LREORG_DEVICE void end() const {}

  LREORG_DEVICE void push(const Slab& slab) const {
    for (unsigned i = thread(); i < slab.pieces(); i += kConsumers) {
      *buffer(rank, i) = *slab.piece(rank, i);
    }
    sync_consumers();
    if (thread() == 0) add_release(counter, 1);
  }

  LREORG_DEVICE void wait(const Slab& slab, const Watchdog& watchdog) {
    if (thread() == 0) {
      const unsigned all = (count + 1) * group;
      watchdog.await([&] { return load_acquire(counter) >= all; }, Watchdog::kExchange, count);
    }
    sync_consumers();
    for_each_piece(slab, group, rank, [&](unsigned from, unsigned index) {
      *slab.piece(from, index) = *buffer(from, index);
    });
    ++count;
    sync_consumers();
  }

 private:
  LREORG_DEVICE uint4* buffer(unsigned of, unsigned index) const {
    return buffers + (static_cast<std::size_t>(count % 2 * group + of) * most_pieces + index);
  }
};

}  // namespace lreorg::cuda
