// Winograd's convolution with AVX512-BF16. Compiled with these instructions; nothing here may
// include a header with inline code of its own, except for the intrinsics, which are always
// inlined.
#include "cpu/networks/winograd.h"

#include <immintrin.h>

#include <cstdint>

namespace lreorg::cpu::networks {
namespace {

constexpr std::size_t kLanes = 16;
constexpr std::size_t kRows = 12;  // 12 x 2 accumulators, 2 weights and a broadcast of 32 registers
constexpr std::size_t kPadding =
    32;  // of a row in scratch, so that rows differ in their cache sets

typedef std::uint16_t Bfloat16;

#define LREORG_INLINE inline __attribute__((always_inline))

LREORG_INLINE __m512 load(const Bfloat16* from) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

LREORG_INLINE void store(Bfloat16* to, __m512 value) {
  const __m256bh half = _mm512_cvtneps_pbh(value);
  __builtin_memcpy(to, &half, sizeof(half));
}

// One direction of F(2, 3): from four pixels, two of them new, to two results.
struct Stride1 {
  static constexpr std::size_t kStride = 1, kEdge = 4;
  // B^T d
  static LREORG_INLINE void spread(const __m512* d, __m512* to, std::size_t step) {
    to[0] = _mm512_sub_ps(d[0], d[2]);
    to[step] = _mm512_add_ps(d[1], d[2]);
    to[2 * step] = _mm512_sub_ps(d[2], d[1]);
    to[3 * step] = _mm512_sub_ps(d[1], d[3]);
  }
  // A^T m
  static LREORG_INLINE void gather(const __m512* m, __m512* to, std::size_t step) {
    to[0] = _mm512_add_ps(m[0], _mm512_add_ps(m[1], m[2]));
    to[step] = _mm512_sub_ps(m[1], _mm512_add_ps(m[2], m[3]));
  }
};

// From five pixels, four of them new: F(2, 2) of the odd ones (the first, third and fifth), then
// the even ones as they are.
struct Stride2 {
  static constexpr std::size_t kStride = 2, kEdge = 5;
  static LREORG_INLINE void spread(const __m512* d, __m512* to, std::size_t step) {
    to[0] = _mm512_sub_ps(d[0], d[2]);
    to[step] = d[2];
    to[2 * step] = _mm512_sub_ps(d[4], d[2]);
    to[3 * step] = d[1];
    to[4 * step] = d[3];
  }
  static LREORG_INLINE void gather(const __m512* m, __m512* to, std::size_t step) {
    to[0] = _mm512_add_ps(m[0], _mm512_add_ps(m[1], m[3]));
    to[step] = _mm512_add_ps(m[1], _mm512_add_ps(m[2], m[4]));
  }
};

struct Scratch {
  std::size_t stride;  // elements from tile to tile
  Bfloat16* inputs;    // [edge * edge][block][stride]
  float* sums;         // [edge * edge][block][kWinogradPanel]
  Bfloat16* zeros;     // one pixel

  Scratch(const Winograd& w, void* memory)
      : stride(w.size.channels + kPadding),
        inputs(static_cast<Bfloat16*>(memory)),
        sums(reinterpret_cast<float*>(inputs + w.edge() * w.edge() * w.block() * stride)),
        zeros(
            reinterpret_cast<Bfloat16*>(sums + w.edge() * w.edge() * w.block() * kWinogradPanel)) {}

  static std::size_t bytes(const Winograd& w) {
    const Scratch layout(w, nullptr);
    return reinterpret_cast<std::size_t>(layout.zeros + w.size.channels);
  }
};

struct Tile {
  std::size_t picture, y, x;  // of its first output pixel

  Tile(const Winograd& w, std::size_t index) {
    const std::size_t columns = w.out_width() / 2, rows = w.out_height() / 2;
    x = index % columns * 2;
    y = index / columns % rows * 2;
    picture = index / columns / rows;
  }
};

template <typename Scheme>
void transform_input(const Winograd& w, const Tile& tile, const Scratch& scratch,
                     std::size_t index) {
  constexpr std::size_t kEdge = Scheme::kEdge;
  const std::size_t channels = w.size.channels;
  const Bfloat16* pixels[kEdge][kEdge];
  for (std::size_t i = 0; i < kEdge; ++i) {
    for (std::size_t j = 0; j < kEdge; ++j) {
      // Wraps where it is outside.
      const std::size_t y = tile.y * Scheme::kStride + i - 1, x = tile.x * Scheme::kStride + j - 1;
      const bool inside = y < w.size.height && x < w.size.width;
      const std::size_t at = ((tile.picture * w.size.height + y) * w.size.width + x) * channels;
      pixels[i][j] = inside ? static_cast<const Bfloat16*>(w.in) + at : scratch.zeros;
    }
  }
  Bfloat16* to = scratch.inputs + index * scratch.stride;
  const std::size_t plane = w.block() * scratch.stride;
  for (std::size_t c = 0; c < channels; c += kLanes) {
    __m512 half[kEdge][kEdge];  // columns first
    for (std::size_t i = 0; i < kEdge; ++i) {
      __m512 line[kEdge];
      for (std::size_t j = 0; j < kEdge; ++j) line[j] = load(pixels[i][j] + c);
      Scheme::spread(line, &half[0][i], kEdge);
    }
    for (std::size_t j = 0; j < kEdge; ++j) {
      __m512 done[kEdge];
      Scheme::spread(half[j], done, 1);
      for (std::size_t i = 0; i < kEdge; ++i) store(to + (i * kEdge + j) * plane + c, done[i]);
    }
  }
}

// sums (Rows x kWinogradPanel) = inputs (Rows x 2 pairs) * weights.
template <std::size_t Rows>
void product(const Bfloat16* inputs, std::size_t stride, const Bfloat16* weights, std::size_t pairs,
             float* sums) {
  __m512 low[Rows], high[Rows];
  for (std::size_t r = 0; r < Rows; ++r) low[r] = high[r] = _mm512_setzero_ps();
  for (std::size_t k = 0; k < pairs; ++k) {
    const Bfloat16* at = weights + k * 2 * kWinogradPanel;
    const __m512bh w0 = (__m512bh)_mm512_loadu_si512(at);
    const __m512bh w1 = (__m512bh)_mm512_loadu_si512(at + kWinogradPanel);
    for (std::size_t r = 0; r < Rows; ++r) {
      std::int32_t pair;
      __builtin_memcpy(&pair, inputs + r * stride + 2 * k, sizeof(pair));
      const __m512bh a = (__m512bh)_mm512_set1_epi32(pair);
      low[r] = _mm512_dpbf16_ps(low[r], a, w0);
      high[r] = _mm512_dpbf16_ps(high[r], a, w1);
    }
  }
  for (std::size_t r = 0; r < Rows; ++r) {
    _mm512_storeu_ps(sums + r * kWinogradPanel, low[r]);
    _mm512_storeu_ps(sums + r * kWinogradPanel + kLanes, high[r]);
  }
}

using Product = void (*)(const Bfloat16*, std::size_t, const Bfloat16*, std::size_t, float*);
constexpr Product kProducts[kRows] = {product<1>, product<2>,  product<3>,  product<4>,
                                      product<5>, product<6>,  product<7>,  product<8>,
                                      product<9>, product<10>, product<11>, product<12>};

template <typename Scheme>
void transform_output(const Winograd& w, const Tile& tile, const Scratch& scratch,
                      std::size_t index, std::size_t panel) {
  constexpr std::size_t kEdge = Scheme::kEdge;
  const std::size_t plane = w.block() * kWinogradPanel;
  const __m512 leak = _mm512_set1_ps(w.leak);
  for (std::size_t c = 0; c < kWinogradPanel; c += kLanes) {
    const std::size_t channel = panel * kWinogradPanel + c;
    const __m512 bias = w.bias ? _mm512_loadu_ps(w.bias + channel) : _mm512_setzero_ps();
    const float* from = scratch.sums + index * kWinogradPanel + c;
    __m512 half[2][kEdge];
    for (std::size_t i = 0; i < kEdge; ++i) {
      __m512 line[kEdge];
      for (std::size_t j = 0; j < kEdge; ++j) {
        line[j] = _mm512_loadu_ps(from + (i * kEdge + j) * plane);
      }
      Scheme::gather(line, &half[0][i], kEdge);
    }
    for (std::size_t j = 0; j < 2; ++j) {
      __m512 done[2];
      Scheme::gather(half[j], done, 1);
      for (std::size_t i = 0; i < 2; ++i) {
        const __m512 value = _mm512_add_ps(done[i], bias);
        const __mmask16 negative = _mm512_cmp_ps_mask(value, _mm512_setzero_ps(), _CMP_LT_OQ);
        const std::size_t row = tile.picture * w.out_height() + tile.y + i;
        const std::size_t at = (row * w.out_width() + tile.x + j) * w.out_channels + channel;
        store(static_cast<Bfloat16*>(w.out) + at, _mm512_mask_mul_ps(value, negative, value, leak));
      }
    }
  }
}

template <typename Scheme>
void convolve(const Winograd& w, std::size_t first, std::size_t last, const Scratch& scratch) {
  const std::size_t count = last - first, pairs = w.size.channels / 2;
  for (std::size_t t = 0; t < count; ++t) {
    transform_input<Scheme>(w, Tile(w, first + t), scratch, t);
  }
  const Bfloat16* weights = static_cast<const Bfloat16*>(w.weights);
  for (std::size_t panel = 0; panel < w.out_channels / kWinogradPanel; ++panel) {
    for (std::size_t p = 0; p < Scheme::kEdge * Scheme::kEdge; ++p) {
      for (std::size_t t = 0; t < count; t += kRows) {
        const std::size_t rows = count - t < kRows ? count - t : kRows;
        const std::size_t at = p * w.block() + t;
        kProducts[rows - 1](scratch.inputs + at * scratch.stride, scratch.stride, weights, pairs,
                            scratch.sums + at * kWinogradPanel);
      }
      weights += pairs * 2 * kWinogradPanel;
    }
    for (std::size_t t = 0; t < count; ++t) {
      transform_output<Scheme>(w, Tile(w, first + t), scratch, t, panel);
    }
  }
}

}  // namespace

std::size_t winograd_scratch(const Winograd& w) {
  return Scratch::bytes(w);
}

void winograd(const Winograd& w, std::size_t first, std::size_t last, void* memory) {
  const Scratch scratch(w, memory);
  __builtin_memset(scratch.zeros, 0, w.size.channels * sizeof(Bfloat16));
  (w.stride == 1 ? convolve<Stride1> : convolve<Stride2>)(w, first, last, scratch);
}

}  // namespace lreorg::cpu::networks
