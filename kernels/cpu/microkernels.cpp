// The CPU microkernels, written once with the compiler's vector types and compiled once per
// instruction set (LREORG_VARIANT). Nothing here may include a header with inline code: the linker
// would be free to keep that code's wide variant for the whole program.
//
// A row's result never depends on how many rows are computed with it: every block size sums over
// the depth in the same order. Batches therefore equal single calls bit for bit.
#include "cpu/kernels.h"

#ifndef LREORG_VARIANT
#error "LREORG_VARIANT names the instruction set that this file is compiled for"
#endif
#define LREORG_CONCATENATE(a, b) a##b
#define LREORG_SUPPORTED(variant) LREORG_CONCATENATE(variant, _supported)
#define LREORG_STRING(x) #x
#define LREORG_NAME(variant) LREORG_STRING(variant)

namespace lreorg::cpu {

bool LREORG_SUPPORTED(LREORG_VARIANT)();

namespace LREORG_VARIANT {

extern const Kernels kernels;

namespace {

// kRows x kVectors accumulators, the kVectors weights and one broadcast fit the register file.
#if defined(__AVX512F__)
constexpr std::size_t kVectorBytes = 64, kRows = 14;
#elif defined(__AVX2__)
constexpr std::size_t kVectorBytes = 32, kRows = 6;
#elif defined(__aarch64__)
constexpr std::size_t kVectorBytes = 16, kRows = 6;
#else
constexpr std::size_t kVectorBytes = 16, kRows = 2;
#endif
constexpr std::size_t kLanes = kVectorBytes / sizeof(float);
constexpr std::size_t kVectors = kPanel / kLanes;

typedef float Vector __attribute__((vector_size(kVectorBytes)));
typedef std::uint32_t Bits __attribute__((vector_size(kVectorBytes)));
typedef std::uint16_t HalfBits __attribute__((vector_size(kVectorBytes / 2)));

inline __attribute__((always_inline)) Vector load(const float* from) {
  Vector value;
  __builtin_memcpy(&value, from, sizeof(value));
  return value;
}

// A bfloat16 is the upper half of a float.
inline __attribute__((always_inline)) Vector load(const std::uint16_t* from) {
  HalfBits half;
  __builtin_memcpy(&half, from, sizeof(half));
  const Bits bits = __builtin_convertvector(half, Bits) << 16;
  Vector value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

template <typename Weight, std::size_t Rows>
void block(const Product& p, std::size_t row, std::size_t column, const Weight* panel) {
  const float* in = p.in + row * p.in_stride;
  Vector sum[Rows][kVectors] = {};
  for (std::size_t k = 0; k < p.depth; ++k) {
    Vector weight[kVectors];
    for (std::size_t v = 0; v < kVectors; ++v) weight[v] = load(panel + k * kPanel + v * kLanes);
    for (std::size_t r = 0; r < Rows; ++r) {
      const float a = in[r * p.in_stride + k];
      for (std::size_t v = 0; v < kVectors; ++v) sum[r][v] += a * weight[v];
    }
  }
  const std::size_t valid = p.columns - column < kPanel ? p.columns - column : kPanel;
  for (std::size_t r = 0; r < Rows; ++r) {
    float* out = p.out + (row + r) * p.out_stride + column;
    float values[kPanel];
    __builtin_memcpy(values, sum[r], sizeof(values));
    if (p.accumulate) {
      for (std::size_t c = 0; c < valid; ++c) out[c] += values[c];
    } else {
      for (std::size_t c = 0; c < valid; ++c) out[c] = values[c];
    }
  }
}

// Runs block<Weight, rows> for a number of rows that is known only at run time.
template <typename Weight, std::size_t Rows>
void rest(const Product& p, std::size_t row, std::size_t column, const Weight* panel,
          std::size_t rows) {
  if (rows == Rows) {
    block<Weight, Rows>(p, row, column, panel);
  } else if constexpr (Rows > 1) {
    rest<Weight, Rows - 1>(p, row, column, panel, rows);
  }
}

template <typename Weight>
void product(const Product& p) {
  const Weight* panel = static_cast<const Weight*>(p.panels);
  // Panels outside, rows inside: a panel (16 KB at depth 512 in bfloat16) is read from memory once
  // and then stays in the first-level cache.
  for (std::size_t column = 0; column < p.columns; column += kPanel, panel += p.depth * kPanel) {
    std::size_t row = 0;
    for (; row + kRows <= p.rows; row += kRows) block<Weight, kRows>(p, row, column, panel);
    if (row < p.rows) rest<Weight, kRows>(p, row, column, panel, p.rows - row);
  }
}

inline float from_bits(std::uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

inline std::uint32_t to_bits(float value) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  return bits;
}

// exp(x), about 1 ulp for x in [-87, 87] and clamped outside: 2^n * e^r with |r| <= ln(2)/2 and a
// polynomial of degree 6 (Cephes expf). Free of branches and calls, so that loops vectorize.
inline float exponential(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  x = x > 87.0f ? 87.0f : x;
  x = x < -87.0f ? -87.0f : x;
  const float shifted = x * 1.44269504088896341f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float y = 1.9875691500e-4f;
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.0f;
  return y * from_bits((to_bits(shifted) - to_bits(kRound) + 127u) << 23);
}

// e(x) = exp(c (2 sigmoid(x) - 1)) of Eq. 1.
inline float scale_of(float x, float clamp) {
  return exponential(clamp * (2.0f / (1.0f + exponential(-x)) - 1.0f));
}

template <typename Change>
inline __attribute__((always_inline)) void couple(const Coupling& c, Change change) {
  for (std::size_t row = 0; row < c.rows; ++row) {
    float* __restrict stream = c.stream + row * c.stream_stride;
    for (std::size_t i = 0; i < c.dim; ++i) stream[i] = change(stream[i], row * c.subnet_stride, i);
  }
}

void add(const Coupling& c) {
  couple(c, [&](float x, std::size_t row, std::size_t i) {
    return x + (c.shift[row + i] + c.shift_constant[i]);
  });
}

void subtract(const Coupling& c) {
  couple(c, [&](float x, std::size_t row, std::size_t i) {
    return x - (c.shift[row + i] + c.shift_constant[i]);
  });
}

void scale_shift(const Coupling& c) {
  couple(c, [&](float x, std::size_t row, std::size_t i) {
    return x * scale_of(c.scale[row + i] + c.scale_constant[i], c.clamp) +
           (c.shift[row + i] + c.shift_constant[i]);
  });
}

void unscale_shift(const Coupling& c) {
  couple(c, [&](float x, std::size_t row, std::size_t i) {
    return (x - (c.shift[row + i] + c.shift_constant[i])) /
           scale_of(c.scale[row + i] + c.scale_constant[i], c.clamp);
  });
}

void leaky(std::size_t rows, std::size_t columns, float* values, std::size_t stride,
           const float* constant, float slope) {
  for (std::size_t row = 0; row < rows; ++row) {
    float* __restrict line = values + row * stride;
    for (std::size_t i = 0; i < columns; ++i) {
      const float x = line[i] + constant[i];
      line[i] = x > 0.0f ? x : slope * x;
    }
  }
}

}  // namespace

const Kernels kernels = {
    LREORG_NAME(LREORG_VARIANT),
    LREORG_SUPPORTED(LREORG_VARIANT),
    product<float>,
    product<std::uint16_t>,
    add,
    subtract,
    scale_shift,
    unscale_shift,
    leaky,
};

}  // namespace LREORG_VARIANT
}  // namespace lreorg::cpu
