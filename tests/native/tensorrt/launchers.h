// kernels/cuda's C surface on the CPU: the plugin's calls reach the latency kernel's own sources in
// the emulator. Memory of the "device" is that of the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "network.h"

namespace lreorg::test::launchers {

// Memory that was uploaded and not freed again.
std::size_t uploads();

// What the next call of that function answers instead of working; null: it works.
struct Failures {
  const char* upload = nullptr;
  const char* plan = nullptr;
  const char* pack = nullptr;
  const char* run = nullptr;
};
Failures& failures();

// allocations() when lreorg_cuda_run was last called.
std::size_t allocations_at_run();

// Bytes of scratch beyond what a plan needs, as of a device that chooses other sizes.
std::uint64_t& more_scratch();

// An array as a node's input of a LreorgCudaWeights, and a network whose matrices were rounded so.
std::vector<std::byte> as_weights(const Values& values, std::int32_t weight_type);
Network kept(const Network& network, std::int32_t weight_type);

}  // namespace lreorg::test::launchers
