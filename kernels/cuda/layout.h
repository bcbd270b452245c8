// How packed weights lie in memory: the one description, for lreorg_fast/cdfnet/cuda_packing.py,
// the kernels and the launches.
//
// A matrix is cut into tiles of 16 outputs x 16 inputs, the left operand of one tensor core
// instruction, padded with zeros. A tile is 512 bytes in the order in which a warp's lanes take it:
// lane l = 4 g + t has 16 bytes, four pairs of 16-bit weights,
//   (g, 2t) (g, 2t+1) | (g+8, 2t) .. | (g, 2t+8) .. | (g+8, 2t+8) ..     as (output, input).
// float32 weights are three tiles of bfloat16 one after the other, whose sum they are.
//
// A group of blocks divides outputs: each owns the same number of tiles of 16 outputs, those that
// exceed the matrix being zero. The blob is
//   weights  [rank in the group][block of the network][phase 0 to 3][section][input tile][row tile]
//   biases   float32 [block of the network][hidden add | hidden scale, shift | add | scale | shift]
// with the sections of a phase in the order of for_each_section: the order in which they are used.
//
// Hidden layers of a dense subnet are padded to whole tiles one by one, so that unit u of layer i
// is hidden row 16 growth_tiles i + u. The tiles of scale and shift alternate in products that both
// of their results are needed from at once, and follow each other (all of scale first) in the
// hidden part.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define LREORG_HOST_DEVICE __host__ __device__
#else
#define LREORG_HOST_DEVICE
#endif

namespace lreorg::cuda {

constexpr std::uint32_t kTile = 16;
constexpr std::uint32_t kTileBytes = 512;
constexpr std::uint32_t kPanelTiles = 4;  // row tiles that a product has in registers at a time
constexpr std::uint32_t kHiddenLayers = 4;
constexpr std::uint32_t kRoles = 3;  // add, scale, shift

// What runs between two exchanges, in the order of disentangling. Phase 0 and 2 change stream 1,
// the others stream 2; phases 2 and 3 have an exchange inside.
enum Phase : std::uint32_t { kConditionAdd, kConditionScale, kDenseAdd, kDenseScale, kPhases };

LREORG_HOST_DEVICE constexpr std::uint32_t divide_up(std::uint32_t a, std::uint32_t b) {
  return (a + b - 1) / b;
}

LREORG_HOST_DEVICE constexpr bool is_dense(std::uint32_t phase) {
  return phase >= kDenseAdd;
}

// Subnets that a phase evaluates: add, or scale and shift.
LREORG_HOST_DEVICE constexpr std::uint32_t subnets(std::uint32_t phase) {
  return 1 + phase % 2;
}

struct Geometry {
  std::uint32_t dim_tiles;      // of the inputs of a product
  std::uint32_t growth_tiles;   // of one hidden layer
  std::uint32_t num_blocks;     // of the network
  std::uint32_t group;          // blocks that share the outputs
  std::uint32_t weight_planes;  // tiles that make a tile of weights
  std::uint32_t column_tiles;   // of the streams that one block owns

  LREORG_HOST_DEVICE constexpr Geometry(std::uint32_t dim, std::uint32_t growth,
                                        std::uint32_t blocks, std::uint32_t blocks_of_group,
                                        std::uint32_t planes)
      : dim_tiles(divide_up(dim, kTile)),
        growth_tiles(divide_up(growth, kTile)),
        num_blocks(blocks),
        group(blocks_of_group),
        weight_planes(planes),
        column_tiles(divide_up(divide_up(dim, kTile), blocks_of_group)) {}

  LREORG_HOST_DEVICE constexpr std::uint32_t columns() const {  // of all blocks
    return group * column_tiles * kTile;
  }
  LREORG_HOST_DEVICE constexpr std::uint32_t hidden_tiles() const {  // of one subnet
    return kHiddenLayers * growth_tiles;
  }
  // Row tiles of the hidden part that one block owns.
  LREORG_HOST_DEVICE constexpr std::uint32_t hidden_share(std::uint32_t phase) const {
    return divide_up(subnets(phase) * hidden_tiles(), group);
  }
  LREORG_HOST_DEVICE constexpr std::uint32_t hidden_rows(std::uint32_t phase) const {
    return group * hidden_share(phase) * kTile;
  }
  // Tiles of the matrices between hidden layers: 1, 2 and 3 layers wide.
  LREORG_HOST_DEVICE constexpr std::uint32_t chain_tiles(std::uint32_t phase) const {
    return subnets(phase) * 6 * growth_tiles * growth_tiles;
  }
  // Floats of a network block's biases, and where the parts begin.
  LREORG_HOST_DEVICE constexpr std::uint32_t hidden_bias(std::uint32_t phase) const {
    return phase == kDenseAdd ? 0 : hidden_rows(kDenseAdd);
  }
  LREORG_HOST_DEVICE constexpr std::uint32_t output_bias(std::uint32_t phase) const {
    const std::uint32_t hidden = hidden_rows(kDenseAdd) + hidden_rows(kDenseScale);
    return hidden + (phase == kDenseAdd ? 0 : columns());
  }
  LREORG_HOST_DEVICE constexpr std::uint32_t biases() const {
    return hidden_rows(kDenseAdd) + hidden_rows(kDenseScale) + kRoles * columns();
  }
};

enum class Part : std::uint32_t {
  hidden,  // inputs to pre-activations of the hidden layers
  direct,  // inputs to outputs
  chain,   // hidden layers to later hidden layers: one row of tiles, in the order of layer, subnet,
           // row tile, input tile
  output,  // hidden layers to outputs
};

struct Section {
  Part part;
  std::uint32_t first;  // row tile, among those of this block and part
  std::uint32_t rows;   // tiles
  std::uint32_t depth;  // input tiles

  LREORG_HOST_DEVICE constexpr std::uint32_t tiles() const { return rows * depth; }
};

// Calls visit(Section) for what one block reads in a phase, in this order.
template <class Visit>
LREORG_HOST_DEVICE inline void for_each_section(const Geometry& geometry, std::uint32_t phase,
                                                Visit&& visit) {
  const auto rows = [](std::uint32_t first, std::uint32_t end) {
    return end - first < kPanelTiles ? end - first : kPanelTiles;
  };
  if (is_dense(phase)) {
    const std::uint32_t end = geometry.hidden_share(phase);
    for (std::uint32_t first = 0; first < end; first += kPanelTiles) {
      visit(Section{Part::hidden, first, rows(first, end), geometry.dim_tiles});
    }
  }
  const std::uint32_t end = subnets(phase) * geometry.column_tiles;
  for (std::uint32_t first = 0; first < end; first += kPanelTiles) {
    visit(Section{Part::direct, first, rows(first, end), geometry.dim_tiles});
    if (!is_dense(phase)) continue;
    if (first == 0) visit(Section{Part::chain, 0, 1, geometry.chain_tiles(phase)});
    visit(Section{Part::output, first, rows(first, end), geometry.hidden_tiles()});
  }
}

// Bytes of a phase's weights for one block.
LREORG_HOST_DEVICE inline std::uint64_t phase_bytes(const Geometry& geometry, std::uint32_t phase) {
  std::uint64_t tiles = 0;
  for_each_section(geometry, phase, [&](const Section& section) { tiles += section.tiles(); });
  return tiles * geometry.weight_planes * kTileBytes;
}

// Bytes of all weights of a group; biases follow.
LREORG_HOST_DEVICE inline std::uint64_t weights_bytes(const Geometry& geometry) {
  std::uint64_t bytes = 0;
  for (std::uint32_t phase = 0; phase < kPhases; ++phase) bytes += phase_bytes(geometry, phase);
  return bytes * geometry.num_blocks * geometry.group;
}

}  // namespace lreorg::cuda
