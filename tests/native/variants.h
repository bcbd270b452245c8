// The kernels that the tests run: what this machine supports, and the tiles of AMX through the
// model in tiles.h.
#pragma once

#include <deque>

#include "cpu/kernels.h"

namespace lreorg::test {

const std::deque<cpu::Kernels>& variants();

// How many threads are now between enter_thread and leave_thread of the emulated variants.
int threads_with_tiles();

}  // namespace lreorg::test
