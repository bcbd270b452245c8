// Weights as matrices (the arrays of lreorg_fast/cdfnet/coupling.py) in the order of layout.h, one
// thread for each 16 bytes: what cuda_packing.py does on the host, for callers who are given plain
// matrices in device memory. Plain C++ but for the markers, so that it runs on the CPU in tests.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda/layout.h"

namespace lreorg::cuda {

// Row-major; n blocks, roles add, scale, shift, D columns, g = growth.
template <class Weight>
struct Matrices {
  const Weight* condition;   // (n, 3, D, D)
  const Weight* hidden;      // (n, 3, 4g, D)
  const Weight* chain;       // (n, 3, 4g, 4g), layer i in rows i g and columns 0 .. i g
  const Weight* direct;      // (n, 3, D, D)
  const Weight* output;      // (n, 3, D, 4g)
  const float* hidden_bias;  // (n, 3, 4g)
  const float* output_bias;  // (n, 3, D)
};

// The bits of the planes whose sum a weight is: 16-bit weights are kept as they are.
struct Planes16 {
  using Weight = std::uint16_t;
  static constexpr std::uint32_t kPlanes = 1;

  LREORG_HOST_DEVICE static void split(Weight weight, std::uint16_t (&bits)[kPlanes]) {
    bits[0] = weight;
  }
};

// Three of bfloat16 hold a float32: each the nearest to what those before it leave, half to even.
struct Planes32 {
  using Weight = float;
  static constexpr std::uint32_t kPlanes = 3;

  LREORG_HOST_DEVICE static void split(Weight weight, std::uint16_t (&bits)[kPlanes]) {
    float rest = weight;
    for (std::uint32_t plane = 0; plane < kPlanes; ++plane) {
      std::uint32_t word;
      std::memcpy(&word, &rest, sizeof(word));
      const bool finite = (word & 0x7F800000u) != 0x7F800000u;
      if (finite)
        word += 0x7FFFu + ((word >> 16) & 1);
      else if (word << 9 != 0)
        word |= 0x400000u;  // a NaN stays one without its low bits
      word &= 0xFFFF0000u;
      bits[plane] = static_cast<std::uint16_t>(word >> 16);
      float part;
      std::memcpy(&part, &word, sizeof(part));
      rest -= part;
    }
  }
};

template <class Planes>
class Repack {
 public:
  using Weight = typename Planes::Weight;

  Repack(const Geometry& geometry, std::uint32_t dim, std::uint32_t growth,
         const Matrices<Weight>& matrices)
      : geometry_(geometry), dim_(dim), growth_(growth), from_(matrices) {
    for (std::uint32_t phase = 0; phase < kPhases; ++phase) {
      phase_offset_[phase + 1] = phase_offset_[phase] + phase_bytes(geometry, phase);
    }
  }

  // Parts that can be written at the same time: a phase of a network block of one rank, and then
  // the biases of a network block.
  LREORG_HOST_DEVICE std::uint32_t parts() const {
    return (geometry_.group * kPhases + 1) * geometry_.num_blocks;
  }

  // One thread's share of a part; `blob` is what LreorgCudaCall::weights points to.
  LREORG_HOST_DEVICE void write(std::uint32_t part, std::uint32_t thread, std::uint32_t threads,
                                void* blob) const {
    const std::uint32_t weights = geometry_.group * geometry_.num_blocks * kPhases;
    auto* bytes = static_cast<unsigned char*>(blob);
    if (part >= weights) {
      float* biases = reinterpret_cast<float*>(bytes + phase_offset_[kPhases] *
                                                           geometry_.num_blocks * geometry_.group);
      write_biases(part - weights, thread, threads, biases);
      return;
    }
    const std::uint32_t phase = part % kPhases;
    const Place at{part / kPhases / geometry_.num_blocks, part / kPhases % geometry_.num_blocks,
                   phase};
    std::uint64_t offset =
        (std::uint64_t{at.rank} * geometry_.num_blocks + at.block) * phase_offset_[kPhases] +
        phase_offset_[phase];
    for_each_section(geometry_, phase, [&](const Section& section) {
      write_section(at, section, thread, threads, reinterpret_cast<std::uint16_t*>(bytes + offset));
      offset += std::uint64_t{section.tiles()} * Planes::kPlanes * kTileBytes;
    });
  }

 private:
  static constexpr std::uint32_t kLanes = 32;
  static constexpr std::uint32_t kLaneValues = 8;
  static constexpr std::uint64_t kZero = ~std::uint64_t{0};

  struct Place {
    std::uint32_t rank, block, phase;
  };
  // A tile of a section: row tile of this rank and input tile, or a place in the chain.
  struct Tile {
    std::uint32_t row, input, layer, subnet;
  };

  LREORG_HOST_DEVICE void write_section(const Place& at, const Section& section,
                                        std::uint32_t thread, std::uint32_t threads,
                                        std::uint16_t* to) const {
    for (std::uint32_t item = thread; item < section.tiles() * kLanes; item += threads) {
      const std::uint32_t index = item / kLanes;
      const Tile tile = section.part == Part::chain ? chain_tile(at.phase, index)
                                                    : Tile{section.first + index % section.rows,
                                                           index / section.rows, 0, 0};
      const Weight* matrix = matrix_of(at.phase, section.part);
      std::uint16_t* lane = to + std::uint64_t{index} * Planes::kPlanes * (kTileBytes / 2) +
                            item % kLanes * kLaneValues;
      const std::uint32_t g = item % kLanes / 4;
      const std::uint32_t t = item % 4;
      for (std::uint32_t e = 0; e < kLaneValues; ++e) {
        const std::uint64_t from =
            source(at, section.part, tile, e / 2 % 2 * 8 + g, e / 4 * 8 + 2 * t + e % 2);
        std::uint16_t bits[Planes::kPlanes];
        Planes::split(from == kZero ? Weight{} : matrix[from], bits);
        for (std::uint32_t plane = 0; plane < Planes::kPlanes; ++plane) {
          lane[plane * (kTileBytes / 2) + e] = bits[plane];
        }
      }
    }
  }

  // In the order of layer, subnet, row tile, input tile.
  LREORG_HOST_DEVICE Tile chain_tile(std::uint32_t phase, std::uint32_t index) const {
    const std::uint32_t tiles = geometry_.growth_tiles;
    std::uint32_t layer = 1;
    while (index >= subnets(phase) * layer * tiles * tiles) {
      index -= subnets(phase) * layer * tiles * tiles;
      ++layer;
    }
    const std::uint32_t of_subnet = layer * tiles * tiles;
    return {index % of_subnet / (layer * tiles), index % (layer * tiles), layer, index / of_subnet};
  }

  LREORG_HOST_DEVICE const Weight* matrix_of(std::uint32_t phase, Part part) const {
    if (part == Part::hidden) return from_.hidden;
    if (part == Part::chain) return from_.chain;
    if (part == Part::output) return from_.output;
    return is_dense(phase) ? from_.direct : from_.condition;
  }

  // A unit of a hidden layer: its row among the 4 g of the subnet, and whether it is one at all.
  struct Unit {
    std::uint32_t subnet, row;
    bool real;
  };
  LREORG_HOST_DEVICE Unit unit(std::uint32_t padded_row) const {
    const std::uint32_t padded_growth = geometry_.growth_tiles * kTile;
    const std::uint32_t of_subnet = padded_row % (kHiddenLayers * padded_growth);
    const std::uint32_t in_layer = of_subnet % padded_growth;
    return {padded_row / (kHiddenLayers * padded_growth),
            of_subnet / padded_growth * growth_ + in_layer, in_layer < growth_};
  }

  LREORG_HOST_DEVICE std::uint64_t index(const Place& at, std::uint32_t subnet, std::uint64_t rows,
                                         std::uint64_t columns, std::uint32_t row,
                                         std::uint32_t column) const {
    const std::uint64_t role = std::uint64_t{at.block} * kRoles + subnets(at.phase) - 1 + subnet;
    return (role * rows + row) * columns + column;
  }

  // Where in its matrix the element (i, j) of a tile is; kZero for padding.
  LREORG_HOST_DEVICE std::uint64_t source(const Place& at, Part part, const Tile& tile,
                                          std::uint32_t i, std::uint32_t j) const {
    const std::uint32_t hidden = kHiddenLayers * growth_;
    const std::uint32_t input = tile.input * kTile + j;
    if (part == Part::hidden) {
      const Unit to = unit((at.rank * geometry_.hidden_share(at.phase) + tile.row) * kTile + i);
      if (to.subnet >= subnets(at.phase) || !to.real || input >= dim_) return kZero;
      return index(at, to.subnet, hidden, dim_, to.row, input);
    }
    if (part == Part::chain) {
      const Unit from = unit(input);
      const std::uint32_t row = tile.row * kTile + i;
      if (row >= growth_ || !from.real) return kZero;
      return index(at, tile.subnet, hidden, hidden, tile.layer * growth_ + row, from.row);
    }
    const std::uint32_t subnet = tile.row % subnets(at.phase);
    const std::uint32_t column =
        (at.rank * geometry_.column_tiles + tile.row / subnets(at.phase)) * kTile + i;
    if (column >= dim_) return kZero;
    if (part == Part::output) {
      const Unit from = unit(input);
      return from.real ? index(at, subnet, dim_, hidden, column, from.row) : kZero;
    }
    return input < dim_ ? index(at, subnet, dim_, dim_, column, input) : kZero;
  }

  LREORG_HOST_DEVICE void write_biases(std::uint32_t block, std::uint32_t thread,
                                       std::uint32_t threads, float* biases) const {
    float* to = biases + std::uint64_t{block} * geometry_.biases();
    for (std::uint32_t item = thread; item < geometry_.biases(); item += threads) {
      to[item] = bias(block, item);
    }
  }

  LREORG_HOST_DEVICE float bias(std::uint32_t block, std::uint32_t item) const {
    for (std::uint32_t phase = kDenseAdd; phase < kPhases; ++phase) {
      const Place at{0, block, phase};
      const std::uint32_t hidden_row = item - geometry_.hidden_bias(phase);
      if (item >= geometry_.hidden_bias(phase) && hidden_row < geometry_.hidden_rows(phase)) {
        const Unit to = unit(hidden_row);
        if (to.subnet >= subnets(phase) || !to.real) return 0;
        return from_.hidden_bias[index(at, to.subnet, kHiddenLayers * growth_, 1, to.row, 0)];
      }
      const std::uint32_t column = item - geometry_.output_bias(phase);
      if (item >= geometry_.output_bias(phase) && column < subnets(phase) * geometry_.columns()) {
        const std::uint32_t of_subnet = column % geometry_.columns();
        if (of_subnet >= dim_) return 0;
        return from_.output_bias[index(at, column / geometry_.columns(), dim_, 1, of_subnet, 0)];
      }
    }
    return 0;
  }

  Geometry geometry_;
  std::uint32_t dim_;
  std::uint32_t growth_;
  Matrices<Weight> from_;
  std::uint64_t phase_offset_[kPhases + 1] = {};
};

}  // namespace lreorg::cuda
