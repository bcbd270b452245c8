// 3x3 convolutions of stride 1 by Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray 2016):
// 16 multiplications where the sum has 36, at the price of adding on both sides.
//
// It pays where the bfloat16 products are the bottleneck, which they are with AVX512-BF16. With AMX
// they are not.
#pragma once

#include <cstddef>

#include "cpu/networks/pointwise.h"

namespace lreorg::cpu::networks {

// Weights are packed as [out / kWinogradPanel][16][in / 2][kWinogradPanel][2] bfloat16, the 16
// elements of a transformed kernel in row-major order.
inline constexpr std::size_t kWinogradPanel = 32;
inline constexpr std::size_t kWinogradElements = 16;
// Tiles that are computed together: their transformed inputs stay in the second-level cache.
inline constexpr std::size_t kWinogradTiles = 48;

// Zero padding of 1: the result has the size of the input. Height and width are even, channels
// multiples of kWinogradPanel. Maps are bfloat16.
struct Winograd {
  Size size;  // of the input
  std::size_t out_channels;
  const void* in;
  const void* weights;
  void* out;
  std::size_t tiles() const { return size.pictures * (size.height / 2) * (size.width / 2); }
};

// Bytes that a thread needs, aligned to 64.
std::size_t winograd_scratch(const Winograd& w);

// Tiles first .. last, at most kWinogradTiles, counted row by row through all pictures.
void winograd(const Winograd& w, std::size_t first, std::size_t last, void* scratch);

// Whether this build has it and this CPU gains by it.
bool winograd_pays();

}  // namespace lreorg::cpu::networks
