// Weights for the latency kernel, element by element from the description in cuda/layout.h: what
// every other way of packing them is compared with.
#pragma once

#include <string>
#include <vector>

#include "cuda/kernel.h"
#include "network.h"

namespace lreorg::test {

using namespace lreorg::cuda;

using Bfloat = Precision<Bfloat16, 1, 1>;
using BfloatExact = Precision<Bfloat16, 1, 3>;
using Half = Precision<Float16, 1, 1>;
using Single = Precision<Bfloat16, 3, 3>;

inline const char* const kRoleNamesOfCuda[] = {"add", "scale", "shift"};

template <class P>
double kept(double value) {
  float rest = static_cast<float>(value);
  double sum = 0;
  for (int plane = 0; plane < P::kWeightPlanes; ++plane) {
    const float part = to_float(to_bits(rest, typename P::Kind{}), typename P::Kind{});
    sum += part;
    rest -= part;
  }
  return sum;
}

// Weights as a precision keeps them.
template <class P>
Network kept(const Network& network) {
  Network result = network;
  for (auto& [name, values] : result.tensors) {
    if (name.find("bias") != std::string::npos) continue;
    for (double& value : values) value = kept<P>(value);
  }
  return result;
}

// All weights of a group.
template <class P>
class Packer {
 public:
  Packer(const Network& network, const Geometry& geometry)
      : network_(network),
        geometry_(geometry),
        dim_(network.shape.dim),
        growth_(network.shape.growth) {
    for (rank_ = 0; rank_ < geometry.group; ++rank_) {
      for (block_ = 0; block_ < geometry.num_blocks; ++block_) {
        for (phase_ = 0; phase_ < kPhases; ++phase_) {
          for_each_section(geometry, phase_, [this](const Section& section) { pack(section); });
        }
      }
    }
    for (block_ = 0; block_ < geometry.num_blocks; ++block_) pack_biases();
  }

  std::vector<std::uint16_t> weights;
  std::vector<float> biases;

 private:
  struct Unit {
    std::size_t subnet, layer, unit;
  };

  Unit unit(std::size_t tile, std::size_t i) const {
    const std::size_t of_subnet = tile % geometry_.hidden_tiles();
    return {tile / geometry_.hidden_tiles(), of_subnet / geometry_.growth_tiles,
            of_subnet % geometry_.growth_tiles * kTile + i};
  }
  const Values& tensor(std::size_t subnet, const std::string& part) const {
    const std::string role = kRoleNamesOfCuda[subnets(phase_) - 1 + subnet];
    const std::string name = is_dense(phase_) ? "dense." + role + "." + part : "condition." + role;
    return network_.tensors.at("blocks." + std::to_string(block_) + "." + name);
  }

  double hidden(std::size_t tile, std::size_t i, std::size_t input) const {
    const Unit at = unit(rank_ * geometry_.hidden_share(phase_) + tile, i);
    if (at.subnet >= subnets(phase_) || at.unit >= growth_ || input >= dim_) return 0;
    return tensor(at.subnet, "hidden")[(at.layer * growth_ + at.unit) * dim_ + input];
  }
  std::size_t column(std::size_t tile, std::size_t i) const {
    return (rank_ * geometry_.column_tiles + tile / subnets(phase_)) * kTile + i;
  }
  double direct(std::size_t tile, std::size_t i, std::size_t input) const {
    if (column(tile, i) >= dim_ || input >= dim_) return 0;
    return tensor(tile % subnets(phase_), "direct")[column(tile, i) * dim_ + input];
  }
  double output(std::size_t tile, std::size_t i, std::size_t k, std::size_t j) const {
    const Unit from = unit(k, j);
    if (column(tile, i) >= dim_ || from.unit >= growth_) return 0;
    return tensor(tile % subnets(phase_),
                  "output")[column(tile, i) * 4 * growth_ + from.layer * growth_ + from.unit];
  }
  double chain(std::size_t layer, std::size_t subnet, std::size_t row, std::size_t k,
               std::size_t j) const {
    const Unit from = unit(k, j);
    if (row >= growth_ || from.unit >= growth_) return 0;
    return tensor(
        subnet,
        "chain." + std::to_string(layer))[row * layer * growth_ + from.layer * growth_ + from.unit];
  }

  void pack(const Section& section) {
    if (section.part == Part::chain) return pack_chain();
    for (std::size_t k = 0; k < section.depth; ++k) {
      for (std::size_t r = section.first; r < section.first + section.rows; ++r) {
        tile([&](std::size_t i, std::size_t j) {
          if (section.part == Part::hidden) return hidden(r, i, k * kTile + j);
          if (section.part == Part::direct) return direct(r, i, k * kTile + j);
          return output(r, i, k, j);
        });
      }
    }
  }
  void pack_chain() {
    for (std::size_t layer = 1; layer < cuda::kHiddenLayers; ++layer) {
      for (std::size_t s = 0; s < subnets(phase_); ++s) {
        for (std::size_t row = 0; row < geometry_.growth_tiles; ++row) {
          for (std::size_t k = 0; k < layer * geometry_.growth_tiles; ++k) {
            tile([&](std::size_t i, std::size_t j) {
              return chain(layer, s, row * kTile + i, k, j);
            });
          }
        }
      }
    }
  }

  template <class Element>
  void tile(Element element) {
    const std::size_t first = weights.size();
    weights.resize(first + P::kWeightPlanes * 256);
    for (std::size_t i = 0; i < kTile; ++i) {
      for (std::size_t j = 0; j < kTile; ++j) {
        const std::size_t at =
            first + (4 * (i % 8) + j % 8 / 2) * 8 + j / 8 * 4 + i / 8 * 2 + j % 2;
        float rest = static_cast<float>(element(i, j));
        for (int plane = 0; plane < P::kWeightPlanes; ++plane) {
          const std::uint16_t bits = to_bits(rest, typename P::Kind{});
          weights[at + plane * 256] = bits;
          rest -= to_float(bits, typename P::Kind{});
        }
      }
    }
  }

  void pack_biases() {
    for (phase_ = kDenseAdd; phase_ < kPhases; ++phase_) {
      for (std::size_t row = 0; row < geometry_.hidden_rows(phase_); ++row) {
        const Unit at = unit(row / kTile, row % kTile);
        const bool real = at.subnet < subnets(phase_) && at.unit < growth_;
        biases.push_back(!real ? 0.0f
                               : static_cast<float>(tensor(
                                     at.subnet, "hidden_bias")[at.layer * growth_ + at.unit]));
      }
    }
    for (phase_ = kDenseAdd; phase_ < kPhases; ++phase_) {
      for (std::size_t s = 0; s < subnets(phase_); ++s) {
        for (std::size_t c = 0; c < geometry_.columns(); ++c) {
          biases.push_back(c < dim_ ? static_cast<float>(tensor(s, "output_bias")[c]) : 0.0f);
        }
      }
    }
  }

  const Network& network_;
  const Geometry geometry_;
  const std::size_t dim_, growth_;
  std::uint32_t rank_ = 0, block_ = 0, phase_ = 0;
};

}  // namespace lreorg::test
