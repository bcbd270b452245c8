// Threads for work that alternates with PyTorch's own.
#pragma once

#include <cstddef>

#include "cpu/team.h"

namespace lreorg::cpu::networks {

// Runs the job as Team does, but on the OpenMP threads of the PyTorch in this process where there
// are some (Linux, libgomp's interface). They still spin for the next convolution when a pass
// begins, and a second team would have to take the cores away from them: a pass of 0.03 ms took
// 0.4 ms then. Elsewhere the job runs on Team::shared().
void run_beside_torch(std::size_t threads, Job& job);

}  // namespace lreorg::cpu::networks
