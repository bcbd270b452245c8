// What a launch is given.
#pragma once

#include "cuda/reorganize.h"
#include "cuda/shared_memory.h"

namespace lreorg::cuda {

constexpr int kMostValues = 256;

struct Parameters {
  Geometry geometry;
  SharedMap shared;
  std::uint32_t dim = 0;
  float clamp = 0;
  const std::byte* weights = nullptr;
  const float* biases = nullptr;
  const float* constants = nullptr;
  const LreorgCudaStep* steps = nullptr;  // of the program
  const LreorgCudaLane* lanes = nullptr;
  std::int64_t tokens = 0;
  unsigned* status = nullptr;
  std::byte* scratch = nullptr;  // GridExchange: a counter line for each group, then buffers
  std::uint32_t first_step = 0;
  std::uint32_t num_steps = 0;
  std::uint32_t num_lanes = 0;  // of each of these steps
  std::uint32_t first_group = 0;
  std::uint32_t groups = 0;  // of this launch
  std::uint32_t most_pieces = 0;
  float* values[kMostValues] = {};
};

constexpr std::uint32_t kCounterBytes = 128;  // a cache line for each group's counter

// What a group exchanges at most, in pieces of 16 bytes from one block.
LREORG_HOST_DEVICE constexpr std::uint32_t most_pieces(const Geometry& geometry,
                                                       std::uint32_t planes) {
  const std::uint32_t copies = planes * kTokens * geometry.column_tiles * kTile * 2 / 16;
  const std::uint32_t hidden = kTokens * geometry.hidden_share(kDenseScale) * kTile * 4 / 16;
  return copies > hidden ? copies : hidden;
}

LREORG_HOST_DEVICE constexpr std::uint64_t grid_scratch(const Geometry& geometry,
                                                        std::uint32_t planes,
                                                        std::uint64_t groups) {
  const std::uint64_t buffers = std::uint64_t{2} * geometry.group * most_pieces(geometry, planes);
  return groups * (kCounterBytes + buffers * 16);
}

// Which phase of which network block of which step comes when: for those who ask for weights and
// those who use them alike.
template <class Visit>
LREORG_DEVICE void for_each_phase(std::uint32_t direction, std::uint32_t num_blocks,
                                  Visit&& visit) {
  for (std::uint32_t i = 0; i < num_blocks * kPhases; ++i) {
    const std::uint32_t at = direction == 0 ? i : num_blocks * kPhases - 1 - i;
    visit(at / kPhases, at % kPhases, i + 1 == num_blocks * kPhases);
  }
}

}  // namespace lreorg::cuda
