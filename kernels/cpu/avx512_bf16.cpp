// Dot products of AVX-512: two bfloat16 (vdpbf16ps) or four bytes (vpdpbusd) per lane. Streams,
// exp and everything else elementwise stay with the avx512 variant.
//
// The copies that products read put 32 inputs of a row beside the next row's, so that all rows of a
// block are reached from one pointer by constant offsets: the loops hold nothing but multiply
// instructions with a broadcast operand.
#include <immintrin.h>

#include "cpu/blocks.h"
#include "cpu/kernels.h"

namespace lreorg::cpu {

namespace avx512_bf16 {

extern const Arithmetic bfloat16, int8;

namespace {

// Rows x (1 or 2) accumulators, a word of weights and a broadcast fit 32 registers.
constexpr std::size_t kRowsBfloat16 = 28;
constexpr std::size_t kRowsInt8 = 14;

inline __m512i broadcast(const void* from) {
  std::int32_t word;
  __builtin_memcpy(&word, from, sizeof(word));
  return _mm512_set1_epi32(word);
}

inline void store(const Product& p, std::size_t row, std::size_t column, __m512 sum) {
  const std::size_t valid = p.columns - column;
  const __mmask16 mask =
      valid < kPanel ? static_cast<__mmask16>((1u << valid) - 1) : static_cast<__mmask16>(0xFFFF);
  float* out = p.out + row * p.out_stride + column;
  if (p.accumulate) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, out));
  _mm512_mask_storeu_ps(out, mask, sum);
}

template <std::size_t Rows>
void block_bfloat16(const Product& p, std::size_t row, std::size_t column, Panel panel) {
  const std::byte* words = panel.words;
  const std::uint16_t* in = static_cast<const std::uint16_t*>(p.in.values) + row * kGroup;
  __m512 sum[Rows];
#pragma GCC unroll 28
  for (std::size_t r = 0; r < Rows; ++r) sum[r] = _mm512_setzero_ps();
  const std::size_t groups = (p.depth + kGroup - 1) / kGroup;
  for (std::size_t g = 0; g < groups; ++g, in += p.in.stride) {
#pragma GCC unroll 4
    for (std::size_t pair = 0; pair < kGroup / 2; ++pair, words += 64) {
      prefetch(words, panel.ahead);
      const __m512bh weight = (__m512bh)_mm512_loadu_si512(words);
#pragma GCC unroll 28
      for (std::size_t r = 0; r < Rows; ++r) {
        sum[r] = _mm512_dpbf16_ps(sum[r], weight, (__m512bh)broadcast(in + r * kGroup + 2 * pair));
      }
    }
  }
#pragma GCC unroll 28
  for (std::size_t r = 0; r < Rows; ++r) store(p, row + r, column, sum[r]);
}

template <std::size_t Rows>
void block_int8(const Product& p, std::size_t row, std::size_t column, Panel panel) {
  const std::byte* words = panel.words;
  const std::int8_t* in = static_cast<const std::int8_t*>(p.in.values) + row * kGroup;
  const Int8Group* group = p.in.groups + row;
  __m512 sum[Rows];
#pragma GCC unroll 14
  for (std::size_t r = 0; r < Rows; ++r) sum[r] = _mm512_setzero_ps();
  const std::size_t groups = (p.depth + kGroup - 1) / kGroup;
  for (std::size_t g = 0; g < groups; ++g, in += p.in.stride, group += p.in.stride / kGroup) {
    __m512i whole[Rows];
#pragma GCC unroll 14
    for (std::size_t r = 0; r < Rows; ++r) whole[r] = broadcast(&group[r].offset);
#pragma GCC unroll 8
    for (std::size_t quad = 0; quad < kGroup / 4; ++quad, words += 64) {
      prefetch(words, panel.ahead);
      const __m512i weight = _mm512_loadu_si512(words);
#pragma GCC unroll 14
      for (std::size_t r = 0; r < Rows; ++r) {
        whole[r] = _mm512_dpbusd_epi32(whole[r], weight, broadcast(in + r * kGroup + 4 * quad));
      }
    }
#pragma GCC unroll 14
    for (std::size_t r = 0; r < Rows; ++r) {
      sum[r] =
          _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[r]), _mm512_set1_ps(group[r].scale), sum[r]);
    }
  }
  const __m512 scale = _mm512_loadu_ps(p.column_scale + column);
#pragma GCC unroll 14
  for (std::size_t r = 0; r < Rows; ++r) {
    store(p, row + r, column, _mm512_mul_ps(sum[r], scale));
  }
}

struct Bfloat16Blocks {
  static constexpr std::size_t kRows = kRowsBfloat16;
  static constexpr WeightType kType = WeightType::bfloat16;
  template <std::size_t Rows>
  static void run(const Product& p, std::size_t row, std::size_t column, Panel panel) {
    block_bfloat16<Rows>(p, row, column, panel);
  }
};

struct Int8Blocks {
  static constexpr std::size_t kRows = kRowsInt8;
  static constexpr WeightType kType = WeightType::int8;
  template <std::size_t Rows>
  static void run(const Product& p, std::size_t row, std::size_t column, Panel panel) {
    block_int8<Rows>(p, row, column, panel);
  }
};

template <typename Blocks>
void product(const Product& p) {
  for_blocks<Blocks>(p, p.next);
}

inline __mmask16 tail_mask(std::size_t columns, std::size_t start) {
  const std::size_t left = columns > start ? columns - start : 0;
  return left < kPanel ? static_cast<__mmask16>((1u << left) - 1) : static_cast<__mmask16>(0xFFFF);
}

// The two halves of a row's group; columns past the end are zero.
struct Halves {
  __m512 low;
  __m512 high;
};

inline Halves load_group(const Rounding& x, std::size_t row, std::size_t column) {
  const float* in = x.in + row * x.in_stride + column;
  return {_mm512_maskz_loadu_ps(tail_mask(x.columns, column), in),
          _mm512_maskz_loadu_ps(tail_mask(x.columns, column + kPanel), in + kPanel)};
}

void round_bfloat16(const Rounding& x) {
  std::uint16_t* out = static_cast<std::uint16_t*>(x.out);
  for (std::size_t column = 0; column < x.columns; column += kGroup, out += x.stride) {
    for (std::size_t row = 0; row < x.rows; ++row) {
      const Halves a = load_group(x, row, column);
      const __m512bh both = _mm512_cvtne2ps_pbh(a.high, a.low);
      __builtin_memcpy(out + row * kGroup, &both, sizeof(both));
    }
  }
}

// Compared as integers, in which a NaN is the largest: as the scale it then makes the results NaN,
// where the maximum of floats would lose it and leave something that looks like a result.
inline float largest_magnitude(const Halves& a) {
  const std::int32_t bits = _mm512_reduce_max_epi32(_mm512_max_epi32(
      _mm512_castps_si512(_mm512_abs_ps(a.low)), _mm512_castps_si512(_mm512_abs_ps(a.high))));
  float largest;
  __builtin_memcpy(&largest, &bits, sizeof(largest));
  return largest;
}

void round_int8(const Rounding& x) {
  std::int8_t* out = static_cast<std::int8_t*>(x.out);
  Int8Group* groups = x.groups;
  for (std::size_t column = 0; column < x.columns;
       column += kGroup, out += x.stride, groups += x.stride / kGroup) {
    for (std::size_t row = 0; row < x.rows; ++row) {
      const Halves a = load_group(x, row, column);
      const float largest = largest_magnitude(a);
      // Below this the reciprocal overflows; such a group is zero at any precision.
      const float inverse = largest > 1e-30f ? 127.0f / largest : 0.0f;
      const __m512i low = _mm512_cvtps_epi32(_mm512_mul_ps(a.low, _mm512_set1_ps(inverse)));
      const __m512i high = _mm512_cvtps_epi32(_mm512_mul_ps(a.high, _mm512_set1_ps(inverse)));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + row * kGroup), _mm512_cvtsepi32_epi8(low));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + row * kGroup + kPanel),
                       _mm512_cvtsepi32_epi8(high));
      // Unsigned, as what is not finite makes sums that overflow.
      const auto sum =
          static_cast<std::uint32_t>(_mm512_reduce_add_epi32(_mm512_add_epi32(low, high)));
      groups[row] = {largest * (1.0f / 127.0f), static_cast<std::int32_t>(0u - kInt8Offset * sum)};
    }
  }
}

}  // namespace

const Arithmetic bfloat16 = {OperandType::bfloat16, product<Bfloat16Blocks>, round_bfloat16};
const Arithmetic int8 = {OperandType::int8, product<Int8Blocks>, round_int8};

}  // namespace avx512_bf16
}  // namespace lreorg::cpu
