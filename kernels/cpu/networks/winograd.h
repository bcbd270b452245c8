// 3x3 convolutions by minimal filtering (Winograd; Lavin and Gray 2016): 2x2 results take 16
// products at stride 1 and 25 at stride 2, where the sum has 36, at the price of adding on both
// sides.
//
// At stride 2 the odd pixels meet two taps, of which three products make two results, and the even
// pixels meet one tap.
//
// It pays where the bfloat16 products are the bottleneck, which they are with AVX512-BF16. With AMX
// they are not.
#pragma once

#include <cstddef>

#include "cpu/networks/pointwise.h"

namespace lreorg::cpu::networks {

// Weights are packed as [out / kWinogradPanel][edge * edge][in / 2][kWinogradPanel][2] bfloat16,
// the elements of a transformed kernel in row-major order; edge is stride + 3.
inline constexpr std::size_t kWinogradPanel = 32;

// Zero padding of 1. Maps are bfloat16. Stride is 1 or 2; height and width are multiples of twice
// the stride, channels of kWinogradPanel.
struct Winograd {
  Size size;  // of the input
  std::size_t stride;
  std::size_t out_channels;
  const void* in;
  const void* weights;
  const float* bias;  // (out_channels) or null
  float leak;         // slope of a leaky ReLU that follows; 1 for none
  void* out;
  std::size_t edge() const { return stride + 3; }
  std::size_t out_height() const { return size.height / stride; }
  std::size_t out_width() const { return size.width / stride; }
  std::size_t tiles() const { return size.pictures * (out_height() / 2) * (out_width() / 2); }
  // Tiles that are computed together: their transformed inputs stay in the second-level cache.
  std::size_t block() const { return stride == 1 ? 48 : 36; }
};

// Bytes that a thread needs, aligned to 64.
std::size_t winograd_scratch(const Winograd& w);

// Tiles first .. last, at most block(), counted row by row through all pictures.
void winograd(const Winograd& w, std::size_t first, std::size_t last, void* scratch);

// Whether this build has it and this CPU gains by it.
bool winograd_pays();

}  // namespace lreorg::cpu::networks
