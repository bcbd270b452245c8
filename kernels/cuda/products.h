// Products of a block's weights with its tile of tokens on tensor cores: weights are the left
// operand, tokens the right one. The warps divide the inputs: warp w takes input tiles w, w + 8,
// ... so that all of them have work whatever the number of row tiles, and a token's operand is read
// once for all row tiles of a panel.
#pragma once

#include "cuda/ring.h"

namespace lreorg::cuda {

constexpr unsigned kTokens = 16;  // of a tile: two of the instruction's 8 columns
constexpr unsigned kHalves = kTokens / 8;

// How numbers are multiplied: weights and activations are sums of planes of 16-bit numbers. Of
// their products those are taken that matter: i + j below the larger number of planes, the smallest
// first.
template <class KindOfNumber, int kWeights, int kActivations>
struct Precision {
  using Kind = KindOfNumber;
  static constexpr int kWeightPlanes = kWeights;
  static constexpr int kActivationPlanes = kActivations;
  static constexpr int kOrders = kWeights > kActivations ? kWeights : kActivations;
};

// Copies of activations that products read, [plane][source][token][pitch] in bytes.
struct Operand {
  std::byte* data;
  std::uint32_t pitch;         // an odd multiple of 16: rows lie in different banks
  std::uint32_t source_bytes;  // 0: both subnets read the same
  std::uint32_t plane_bytes;

  LREORG_DEVICE std::byte* at(unsigned plane, unsigned source, unsigned token,
                              unsigned input) const {
    return data + plane * plane_bytes + source * source_bytes + token * pitch + 2 * input;
  }
};

// The copies of two neighbouring tokens' values of one input.
template <class P>
LREORG_DEVICE void store_pair(const Operand& operand, unsigned source, unsigned token,
                              unsigned input, float first, float second) {
  std::uint32_t planes[P::kActivationPlanes];
  split_pair(first, second, planes, typename P::Kind{});
#pragma unroll
  for (int plane = 0; plane < P::kActivationPlanes; ++plane) {
    std::byte* at = operand.at(plane, source, token, input);
    *reinterpret_cast<std::uint16_t*>(at) = static_cast<std::uint16_t>(planes[plane]);
    *reinterpret_cast<std::uint16_t*>(at + operand.pitch) =
        static_cast<std::uint16_t>(planes[plane] >> 16);
  }
}

// [row tile][token half][c of the instruction]
using Sums = float[kPanelTiles][kHalves][4];

LREORG_DEVICE void clear(Sums& sums) {
#pragma unroll
  for (unsigned i = 0; i < kPanelTiles * kHalves * 4; ++i) sums[i / 8][i / 4 % 2][i % 4] = 0;
}

template <class P>
using Weights = std::uint32_t[P::kWeightPlanes][4];

template <class P>
LREORG_DEVICE void load_weights(Weights<P>& weights, const std::byte* tile) {
#pragma unroll
  for (int plane = 0; plane < P::kWeightPlanes; ++plane) {
    const uint4 four = *reinterpret_cast<const uint4*>(tile + plane * kTileBytes + 16 * lane());
    weights[plane][0] = four.x;
    weights[plane][1] = four.y;
    weights[plane][2] = four.z;
    weights[plane][3] = four.w;
  }
}

// c += weights * tokens, all planes that matter.
template <class P>
LREORG_DEVICE void multiply_planes(float (&c)[4], const Weights<P>& weights,
                                   const std::uint32_t (&tokens)[P::kActivationPlanes][2]) {
#pragma unroll
  for (int order = P::kOrders - 1; order >= 0; --order) {
#pragma unroll
    for (int i = 0; i <= order; ++i) {
      if (i < P::kWeightPlanes && order - i < P::kActivationPlanes) {
        multiply(c, weights[i], tokens[order - i], typename P::Kind{});
      }
    }
  }
}

// The right operands of both halves of the tile at one input tile.
template <class P>
LREORG_DEVICE void load_tokens(std::uint32_t (&tokens)[kHalves][P::kActivationPlanes][2],
                               const Operand& operand, unsigned source, unsigned input) {
  const unsigned token = lane() / 16 * 8 + lane() % 8;
  const unsigned column = input + lane() / 8 % 2 * 8;
#pragma unroll
  for (int plane = 0; plane < P::kActivationPlanes; ++plane) {
    std::uint32_t four[4];
    load_matrix4(four, operand.at(plane, source, token, column));
    tokens[0][plane][0] = four[0];
    tokens[0][plane][1] = four[1];
    tokens[1][plane][0] = four[2];
    tokens[1][plane][1] = four[3];
  }
}

// This warp's share of a section: sums += weights * operand. With two sources, row tiles read them
// by turns.
template <class P, unsigned kSources>
LREORG_DEVICE void product(Sums& sums, const Geometry& geometry, const Section& section,
                           const Operand& operand, Ring& ring, Watchdog& watchdog) {
  const std::uint32_t most = chunk_depth(geometry, ring.slot_bytes, section.rows);
  for (std::uint32_t first = 0; first < section.depth; first += most) {
    const std::uint32_t end = section.depth - first < most ? section.depth : first + most;
    const std::byte* chunk = ring.take(watchdog);
    std::uint32_t k = first + (warp() + kConsumerWarps - first % kConsumerWarps) % kConsumerWarps;
    for (; k < end; k += kConsumerWarps) {
      std::uint32_t tokens[kSources][kHalves][P::kActivationPlanes][2];
#pragma unroll
      for (unsigned source = 0; source < kSources; ++source) {
        load_tokens<P>(tokens[source], operand, source, k * kTile);
      }
      const std::byte* tile = chunk + (k - first) * section.rows * P::kWeightPlanes * kTileBytes;
#pragma unroll
      for (unsigned row = 0; row < kPanelTiles; ++row) {
        if (row >= section.rows) break;
        Weights<P> weights;
        load_weights<P>(weights, tile + row * P::kWeightPlanes * kTileBytes);
#pragma unroll
        for (unsigned half = 0; half < kHalves; ++half) {
          multiply_planes<P>(sums[row][half], weights, tokens[row % kSources][half]);
        }
      }
    }
    ring.release();
  }
}

// The warps' shares are added in one place, always in the same order. Elements are numbered as
// "units": two neighbouring tokens of one row,
//   unit = 128 row tile + 64 token half + 32 row half + lane
// with the row lane / 4 + 8 row half of its tile, and the tokens 8 token half + 2 (lane % 4) and
// the next. Consumer c always has the units u with u % 256 = c, in every phase: what belongs to a
// unit needs no synchronisation.
constexpr unsigned kTileUnits = 128;
constexpr unsigned kPartialWarps = kConsumerWarps / 2;
constexpr unsigned kPartialBytes = kPartialWarps * kPanelTiles * kTileUnits * sizeof(float2);

LREORG_DEVICE unsigned unit_row(unsigned unit) {
  return unit / kTileUnits * kTile + unit % 32 / 4 + unit / 32 % 2 * 8;
}
LREORG_DEVICE unsigned unit_token(unsigned unit) {
  return unit / 64 % 2 * 8 + unit % 4 * 2;
}

LREORG_DEVICE void sync_consumers() {
  sync_threads_of(1, kConsumers);
}

template <class Use>
LREORG_DEVICE void for_each_sum(Sums& sums, std::uint32_t rows, float2* share, Use&& use) {
#pragma unroll
  for (unsigned row = 0; row < kPanelTiles; ++row) {
    if (row >= rows) break;
#pragma unroll
    for (unsigned part = 0; part < 4; ++part) {
      float* pair = sums[row][part / 2] + part % 2 * 2;
      use(share[row * kTileUnits + part * 32 + lane()], pair);
    }
  }
}

// Adds the upper warps' shares to the lower warps' and leaves those in `partial`, for `total`. Half
// of the memory that all shares would take, for one more meeting.
LREORG_DEVICE void gather(Sums& sums, std::uint32_t rows, float2* partial) {
  float2* share = partial + warp() % kPartialWarps * (kPanelTiles * kTileUnits);
  const auto put = [](float2& place, float* pair) { place = {pair[0], pair[1]}; };
  const auto add = [](float2& place, float* pair) {
    place = {pair[0] + place.x, pair[1] + place.y};
  };
  if (warp() >= kPartialWarps) for_each_sum(sums, rows, share, put);
  sync_consumers();
  if (warp() < kPartialWarps) for_each_sum(sums, rows, share, add);
  sync_consumers();
}

// Of a unit of the panel.
LREORG_DEVICE float2 total(const float2* partial, unsigned unit) {
  float2 sum = partial[unit];
#pragma unroll
  for (unsigned i = 1; i < kPartialWarps; ++i) {
    const float2 next = partial[i * (kPanelTiles * kTileUnits) + unit];
    sum.x += next.x;
    sum.y += next.y;
  }
  return sum;
}

}  // namespace lreorg::cuda
