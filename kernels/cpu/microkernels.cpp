// The CPU microkernels, written once with the compiler's vector types and compiled once per
// instruction set (LREORG_VARIANT). Nothing here may include a header whose inline code other files
// share: the linker would be free to keep that code's wide variant for the whole program.
//
// A row's result never depends on how many rows are computed with it: every block size sums over
// the depth in the same order. Batches therefore equal single calls bit for bit.
#include "cpu/blocks.h"
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

// kMostRows x kVectors accumulators, the kVectors weights and one broadcast fit the register file.
#if defined(__AVX512F__)
constexpr std::size_t kVectorBytes = 64, kMostRows = 14;
#elif defined(__AVX2__)
constexpr std::size_t kVectorBytes = 32, kMostRows = 5;
#elif defined(__aarch64__)
constexpr std::size_t kVectorBytes = 16, kMostRows = 6;
#else
constexpr std::size_t kVectorBytes = 16, kMostRows = 2;
#endif
constexpr std::size_t kLanes = kVectorBytes / sizeof(float);
constexpr std::size_t kVectors = kPanel / kLanes;

typedef float Vector __attribute__((vector_size(kVectorBytes)));
typedef std::uint32_t Bits __attribute__((vector_size(kVectorBytes)));

template <typename To, typename From>
inline __attribute__((always_inline)) To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}

template <typename To>
inline __attribute__((always_inline)) To load(const void* from) {
  To value;
  __builtin_memcpy(&value, from, sizeof(value));
  return value;
}

// The weights of `inputs` neighbouring inputs lie together in one word per column; part() is the
// i-th of them.
struct Float32Weights {
  static constexpr std::size_t kInputs = 1;
  static constexpr WeightType kType = WeightType::float32;
  static Vector part(Bits word, std::size_t) { return bit_cast<Vector>(word); }
};
struct Bfloat16Weights {
  static constexpr std::size_t kInputs = 2;
  static constexpr WeightType kType = WeightType::bfloat16;
  // A bfloat16 is the upper half of a float.
  static Vector part(Bits word, std::size_t i) {
    return bit_cast<Vector>(i == 0 ? word << 16 : word & 0xFFFF0000u);
  }
};
struct Int8Weights {
  static constexpr std::size_t kInputs = 4;
  static constexpr WeightType kType = WeightType::int8;
  static Vector part(Bits word, std::size_t i) {
    typedef std::int32_t Integers __attribute__((vector_size(kVectorBytes)));
    const Bits value = (word >> static_cast<std::uint32_t>(8 * i)) & 0xFFu;
    return __builtin_convertvector(bit_cast<Integers>(value) - kInt8Offset, Vector);
  }
};

// Adds the products of `inputs` neighbouring inputs.
template <typename Weights, std::size_t Rows>
inline __attribute__((always_inline)) void multiply_word(Vector (&sum)[Rows][kVectors],
                                                         const std::byte* words, const float* in,
                                                         std::size_t stride, std::size_t inputs) {
  Bits word[kVectors];
  for (std::size_t v = 0; v < kVectors; ++v) word[v] = load<Bits>(words + v * kVectorBytes);
  for (std::size_t i = 0; i < inputs; ++i) {
    Vector weight[kVectors];
    for (std::size_t v = 0; v < kVectors; ++v) weight[v] = Weights::part(word[v], i);
    for (std::size_t r = 0; r < Rows; ++r) {
      const float a = in[r * stride + i];
      for (std::size_t v = 0; v < kVectors; ++v) sum[r][v] += a * weight[v];
    }
  }
}

template <typename Weights, std::size_t Rows>
inline __attribute__((always_inline)) void store(Vector (&sum)[Rows][kVectors],
                                                 const float* column_scale, float* out,
                                                 std::size_t stride, std::size_t columns,
                                                 bool accumulate) {
  const std::size_t valid = columns < kPanel ? columns : kPanel;
  for (std::size_t r = 0; r < Rows; ++r, out += stride) {
    if constexpr (Weights::kType == WeightType::int8) {
      for (std::size_t v = 0; v < kVectors; ++v) {
        sum[r][v] *= load<Vector>(column_scale + v * kLanes);
      }
    }
    float values[kPanel];
    __builtin_memcpy(values, sum[r], sizeof(values));
    if (accumulate) {
      for (std::size_t c = 0; c < valid; ++c) out[c] += values[c];
    } else {
      for (std::size_t c = 0; c < valid; ++c) out[c] = values[c];
    }
  }
}

// Bytes from the words of one set of neighbouring inputs to the next set's.
constexpr std::size_t kWordBytes = kPanel * sizeof(float);

template <typename Weights, std::size_t Rows>
void block(const Product& p, std::size_t row, std::size_t column, Panel panel) {
  const std::byte* words = panel.words;
  const float* in = static_cast<const float*>(p.in.values) + row * kGroup;
  Vector sum[Rows][kVectors] = {};
  for (std::size_t k = 0; k < p.depth; k += kGroup, in += p.in.stride) {
    for (std::size_t i = 0; i < kGroup; i += Weights::kInputs, words += kWordBytes) {
      prefetch(words, panel.ahead);
      multiply_word<Weights, Rows>(sum, words, in + i, kGroup, Weights::kInputs);
    }
  }
  store<Weights, Rows>(sum, p.column_scale + column, p.out + row * p.out_stride + column,
                       p.out_stride, p.columns - column, p.accumulate);
}

template <typename Weights, std::size_t Rows>
void short_block(const ShortProduct& p, std::size_t row, std::size_t column, Panel panel) {
  const std::byte* words = panel.words;
  const float* in = p.in + row * p.stride;
  Vector sum[Rows][kVectors] = {};
  for (std::size_t k = 0; k < p.depth; k += Weights::kInputs, words += kWordBytes) {
    // The padding of the weights has no activations here.
    const std::size_t left = p.depth - k;
    multiply_word<Weights, Rows>(sum, words, in + k, p.stride,
                                 left < Weights::kInputs ? left : Weights::kInputs);
  }
  store<Weights, Rows>(sum, p.column_scale + column, p.out + row * p.stride + column, p.stride,
                       p.columns - column, true);
}

template <typename Weights>
struct Blocks {
  static constexpr std::size_t kRows = kMostRows;
  static constexpr WeightType kType = Weights::kType;
  template <std::size_t Rows>
  static void run(const Product& p, std::size_t row, std::size_t column, Panel panel) {
    block<Weights, Rows>(p, row, column, panel);
  }
};
// Of few rows: their distance is no constant here, and more pointers than these would not stay in
// registers.
template <typename Weights>
struct ShortBlocks {
  static constexpr std::size_t kRows = kMostRows < 4 ? kMostRows : 4;
  static constexpr WeightType kType = Weights::kType;
  template <std::size_t Rows>
  static void run(const ShortProduct& p, std::size_t row, std::size_t column, Panel panel) {
    short_block<Weights, Rows>(p, row, column, panel);
  }
};

template <typename Weights>
void product(const Product& p) {
  for_blocks<Blocks<Weights>>(p, p.next);
}

template <typename Weights>
void short_product(const ShortProduct& p) {
  for_blocks<ShortBlocks<Weights>>(p, p.panels);
}

// The copies of float32 are not rounded, only ordered.
void order(const Rounding& x) {
  float* out = static_cast<float*>(x.out);
  for (std::size_t column = 0; column < x.columns; column += kGroup, out += x.stride) {
    const std::size_t valid = x.columns - column < kGroup ? x.columns - column : kGroup;
    for (std::size_t row = 0; row < x.rows; ++row) {
      const float* in = x.in + row * x.in_stride + column;
      for (std::size_t i = 0; i < kGroup; ++i) out[row * kGroup + i] = i < valid ? in[i] : 0.0f;
    }
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

// Weights of any type are widened to float32: both ways of multiplying are the same.
constexpr Arithmetic kWidened[kWeightTypes] = {
    {OperandType::float32, product<Float32Weights>, order},
    {OperandType::float32, product<Bfloat16Weights>, order},
    {OperandType::float32, product<Int8Weights>, order},
};

}  // namespace

const Kernels kernels = {
    LREORG_NAME(LREORG_VARIANT),
    LREORG_SUPPORTED(LREORG_VARIANT),
    {kWidened[0], kWidened[1], kWidened[2]},
    {kWidened[0], kWidened[1], kWidened[2]},
    {short_product<Float32Weights>, short_product<Bfloat16Weights>, short_product<Int8Weights>},
    add,
    subtract,
    scale_shift,
    unscale_shift,
    leaky,
    nullptr,
    nullptr,
};

}  // namespace LREORG_VARIANT
}  // namespace lreorg::cpu
