// From the pre-activations of a dense subnet's hidden layers to the layers themselves. Every block
// does it for itself: it is small, and an exchange for each layer would cost more. A warp takes one
// subnet for 8 tokens, and needs no other one.
#pragma once

#include "cuda/products.h"
#include "cuda/shared_memory.h"

namespace lreorg::cuda {

constexpr float kLeakySlope = 0.01f;

// Walks the tiles of a section of one row, chunk by chunk.
template <class P>
struct Tiles {
  Ring& ring;
  Watchdog& watchdog;
  std::uint32_t most;  // of a chunk
  std::uint32_t taken = 0;
  const std::byte* chunk = nullptr;

  LREORG_DEVICE const std::byte* next() {
    if (taken == most) {
      ring.release();
      taken = 0;
    }
    if (taken == 0) chunk = ring.take(watchdog);
    return chunk + taken++ * P::kWeightPlanes * kTileBytes;
  }
  LREORG_DEVICE void finish() {
    if (taken > 0) ring.release();
  }
};

template <class P>
struct Chain {
  const Geometry& geometry;
  const SharedMap& map;
  std::byte* hidden;
  const std::byte* before;
  unsigned subnet;  // of this warp; beyond the phase's: it only follows
  unsigned half;    // of the tile's tokens

  LREORG_DEVICE Operand operand() const {
    return {hidden, map.hidden_pitch, kTokens * map.hidden_pitch, 2 * kTokens * map.hidden_pitch};
  }

  // What came from the inputs, then plus `sums`, through the activation, to the hidden layers.
  LREORG_DEVICE void activate(const float (&sums)[4], std::uint32_t tile) const {
    const Operand to = operand();
#pragma unroll
    for (unsigned i = 0; i < 2; ++i) {
      const unsigned row = tile * kTile + lane() / 4 + 8 * i;
      const unsigned token = 8 * half + lane() % 4 * 2;
      float pair[2];
#pragma unroll
      for (unsigned j = 0; j < 2; ++j) {
        const auto* of_token =
            reinterpret_cast<const float*>(before + (token + j) * map.before_pitch);
        const float x = of_token[subnet * geometry.hidden_tiles() * kTile + row] + sums[2 * i + j];
        pair[j] = x > 0 ? x : kLeakySlope * x;
      }
      store_pair<P>(to, subnet, token, row, pair[0], pair[1]);
    }
  }

  LREORG_DEVICE void load(std::uint32_t (&tokens)[P::kActivationPlanes][2],
                          std::uint32_t tile) const {
    const unsigned token = 8 * half + lane() % 8;
    const unsigned column = tile * kTile + lane() / 8 % 2 * 8;
#pragma unroll
    for (int plane = 0; plane < P::kActivationPlanes; ++plane) {
      load_matrix2(tokens[plane], operand().at(plane, subnet, token, column));
    }
  }

  LREORG_DEVICE void run(std::uint32_t subnets_of_phase, Tiles<P> tiles) const {
    const std::uint32_t width = geometry.growth_tiles;
    const bool mine = subnet < subnets_of_phase;
    const float zero[4] = {0, 0, 0, 0};
    for (std::uint32_t row = 0; mine && row < width; ++row) activate(zero, row);
    for (std::uint32_t layer = 1; layer < kHiddenLayers; ++layer) {
      sync_warp();  // the layer before is there
      for (std::uint32_t i = 0; i < subnets_of_phase * width; ++i) {
        float sums[4] = {0, 0, 0, 0};
        for (std::uint32_t k = 0; k < layer * width; ++k) {
          const std::byte* tile = tiles.next();
          if (i / width != subnet) continue;
          Weights<P> weights;
          std::uint32_t tokens[P::kActivationPlanes][2];
          load_weights<P>(weights, tile);
          load(tokens, k);
          multiply_planes<P>(sums, weights, tokens);
        }
        if (i / width == subnet) activate(sums, layer * width + i % width);
      }
    }
    tiles.finish();
  }
};

}  // namespace lreorg::cuda
