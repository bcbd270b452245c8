// Waits that end. Where one takes too long the status words say which, and the block stops waiting
// for anything: it goes on to its end, so that no other block waits for it, and gives out NaN.
#pragma once

#include "cuda/primitives.h"
#include "cuda/reorganize.h"

namespace lreorg::cuda {

struct Watchdog {
  static constexpr std::uint64_t kPatienceNs = 2'000'000'000;
  // LREORG_CUDA_STATUS_FAILED
  static constexpr unsigned kWeights = 1;
  static constexpr unsigned kExchange = 2;

  volatile unsigned* gave_up;  // in shared memory
  unsigned* status;            // LREORG_CUDA_STATUS_WORDS
  unsigned step = 0;
  unsigned layer = 0;
  unsigned phase = 0;
  mutable bool over = false;  // this thread has given up: even a look at a barrier may sleep

  LREORG_DEVICE bool failed() const { return *gave_up != 0; }

  template <class Ready>
  LREORG_DEVICE void await(Ready&& ready, unsigned reason, unsigned expected) const {
    if (over || ready()) return;
    const std::uint64_t start = time_ns();
    while (!ready()) {
      over = failed();
      if (over) return;
      if (time_ns() - start > kPatienceNs) return report(reason, expected);
    }
  }

  // For the producer, who waits for consumers: whatever holds them up is theirs to report.
  template <class Ready>
  LREORG_DEVICE void follow(Ready&& ready) const {
    while (!ready() && !failed()) {
    }
  }

  LREORG_DEVICE void report(unsigned reason, unsigned expected) const {
    over = true;
    *gave_up = 1;
    if (load_acquire(status) != 0) return;  // what failed first matters
    status[LREORG_CUDA_STATUS_BLOCK] = block_index();
    status[LREORG_CUDA_STATUS_STEP] = step;
    status[LREORG_CUDA_STATUS_LAYER] = layer;
    status[LREORG_CUDA_STATUS_PHASE] = phase;
    status[LREORG_CUDA_STATUS_EXPECTED] = expected;
    store_release(status, reason);
  }
};

}  // namespace lreorg::cuda
