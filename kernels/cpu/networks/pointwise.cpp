// The passes of pointwise.h, written once with the compiler's vector types and compiled once per
// instruction set (LREORG_VARIANT). Nothing here may include a header with inline code that the
// linker could choose for the whole program.
#include "cpu/networks/pointwise.h"

#include <cstdint>

#define LREORG_CONCATENATE(a, b) a##b
#define LREORG_SUPPORTED(variant) LREORG_CONCATENATE(variant, _supported)
#define LREORG_STRING(x) #x
#define LREORG_NAME(variant) LREORG_STRING(variant)

namespace lreorg::cpu {

bool LREORG_SUPPORTED(LREORG_VARIANT)();

namespace networks::LREORG_VARIANT {

extern const PointwiseVariant pointwise;

namespace {

#if defined(__AVX512F__)
constexpr std::size_t kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr std::size_t kVectorBytes = 32;
#else
constexpr std::size_t kVectorBytes = 16;
#endif
constexpr std::size_t kLanes = kVectorBytes / sizeof(float);
constexpr float kLeak = 0.2f;
constexpr float kFilter[4] = {0.25f, 0.75f, 0.75f, 0.25f};  // [1 3 3 1], of gain 2 per direction
constexpr std::size_t kColours = 3;

typedef float Vector __attribute__((vector_size(kVectorBytes)));
typedef std::int32_t Ints __attribute__((vector_size(kVectorBytes)));
typedef std::uint32_t Bits __attribute__((vector_size(kVectorBytes)));
typedef std::uint16_t HalfBits __attribute__((vector_size(kVectorBytes / 2)));
typedef std::uint16_t Bfloat16;

#define LREORG_INLINE inline __attribute__((always_inline))

template <typename To, typename From>
LREORG_INLINE To reinterpret(const From& value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  __builtin_memcpy(&result, &value, sizeof(result));
  return result;
}

LREORG_INLINE Vector widen(HalfBits half) {
  return reinterpret<Vector>(__builtin_convertvector(half, Bits) << 16);
}

// To nearest, ties to even; what is not a number stays so.
LREORG_INLINE HalfBits narrow(Vector value) {
  const Bits bits = reinterpret<Bits>(value);
  const Bits rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const Bits quiet = bits >> 16 | 0x40;
  return __builtin_convertvector(value == value ? rounded : quiet, HalfBits);
}

// `Full` says that all lanes are there; else `count` of them are, and the others read as zero.
template <bool Full>
LREORG_INLINE Vector load(const float* from, std::size_t count) {
  Vector value = {};
  __builtin_memcpy(&value, from, Full ? sizeof(value) : count * sizeof(float));
  return value;
}

template <bool Full>
LREORG_INLINE Vector load(const Bfloat16* from, std::size_t count) {
  HalfBits half = {};
  __builtin_memcpy(&half, from, Full ? sizeof(half) : count * sizeof(Bfloat16));
  return widen(half);
}

template <bool Full>
LREORG_INLINE void store(float* to, Vector value, std::size_t count) {
  __builtin_memcpy(to, &value, Full ? sizeof(value) : count * sizeof(float));
}

template <bool Full>
LREORG_INLINE void store(Bfloat16* to, Vector value, std::size_t count) {
  const HalfBits half = narrow(value);
  __builtin_memcpy(to, &half, Full ? sizeof(half) : count * sizeof(Bfloat16));
}

LREORG_INLINE float sum(Vector value) {
  float total = 0.0f;
  for (std::size_t i = 0; i < kLanes; ++i) total += value[i];
  return total;
}

template <bool Full>
struct Lanes {
  std::size_t channel;
  std::size_t count;

  template <typename T>
  LREORG_INLINE Vector get(const T* from) const {
    return load<Full>(from + channel, count);
  }
  template <typename T>
  LREORG_INLINE void put(T* to, Vector value) const {
    store<Full>(to + channel, value, count);
  }
};

// Calls body for whole vectors of channels and once for what is left.
template <typename Body>
LREORG_INLINE void for_channels(std::size_t channels, const Body& body) {
  std::size_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) body(Lanes<true>{c, kLanes});
  if (c < channels) body(Lanes<false>{c, channels - c});
}

LREORG_INLINE Vector leaky(Vector value) {
  const Vector small = value * kLeak;
  return value > small ? value : small;
}

// What is not a number stays so, because it fails both comparisons.
template <typename Value>
LREORG_INLINE Value clamped(Value value, Value limit) {
  value = value > limit ? limit : value;
  return value < -limit ? -limit : value;
}

// The activation's numbers of one picture and row.
struct ActivationRow {
  const float* gain;
  const float* bias;
  const float* noise;
  const float* next_style;
  Vector limit;

  ActivationRow(const Activation& a, const Size& size, std::size_t picture, std::size_t y)
      : gain(a.gain + picture * size.channels),
        bias(a.bias),
        noise(a.noise ? a.noise + picture * a.noise_stride + y * size.width : nullptr),
        next_style(a.next_style ? a.next_style + picture * size.channels : nullptr),
        limit(Vector{} + a.limit) {}

  LREORG_INLINE float offset(std::size_t x) const { return noise ? noise[x] : 0.0f; }
  template <bool Full>
  LREORG_INLINE Vector apply(Vector value, float offset, Lanes<Full> lanes) const {
    return clamped(leaky(value * lanes.get(gain) + (lanes.get(bias) + offset)), limit);
  }
};

// Doubling a line with [1 3 3 1] / 4 weights two neighbours: this pixel's own with 3/4 and, on the
// side where it lies, the next with 1/4. Outside of the line is zero.
struct Neighbours {
  std::size_t near;
  std::size_t far;
  float far_weight;

  Neighbours(std::size_t fine, std::size_t length) : near(fine / 2), far(near), far_weight(0.0f) {
    if (fine % 2 == 0 ? near > 0 : near + 1 < length) {
      far = fine % 2 == 0 ? near - 1 : near + 1;
      far_weight = kFilter[0];
    }
  }
};

float doubled(const float* plane, const Neighbours& rows, const Neighbours& columns,
              std::size_t width) {
  const float* near = plane + rows.near * width;
  const float* far = plane + rows.far * width;
  const float near_sum = kFilter[1] * near[columns.near] + columns.far_weight * near[columns.far];
  const float far_sum = kFilter[1] * far[columns.near] + columns.far_weight * far[columns.far];
  return kFilter[1] * near_sum + rows.far_weight * far_sum;
}

void put_colours(const Colour& colour, float limit, const Size& size, std::size_t picture,
                 std::size_t y, std::size_t x, const Vector* sums) {
  const std::size_t pixels = size.height * size.width;
  for (std::size_t k = 0; k < kColours; ++k) {
    float value = clamped(sum(sums[k]) + colour.bias[k], limit);
    if (colour.skip) {
      const std::size_t height = size.height / 2, width = size.width / 2;
      const float* plane = colour.skip + (picture * kColours + k) * height * width;
      value += doubled(plane, Neighbours(y, height), Neighbours(x, width), width);
    }
    colour.picture[(picture * kColours + k) * pixels + y * size.width + x] = value;
  }
}

template <typename T, bool WithOut, bool WithColour>
void finish_rows(const Finish& f, std::size_t first, std::size_t last) {
  const Size& size = f.size;
  const std::size_t channels = size.channels;
  for (std::size_t row = first; row < last; ++row) {
    const std::size_t picture = row / size.height, y = row % size.height;
    const ActivationRow activation(f.activation, size, picture, y);
    const float* weights = WithColour ? f.colour.weights + picture * kColours * channels : nullptr;
    const T* in = static_cast<const T*>(f.in) + row * size.width * channels;
    T* out = WithOut ? static_cast<T*>(f.out) + row * size.width * channels : nullptr;
    for (std::size_t x = 0; x < size.width; ++x) {
      const float offset = activation.offset(x);
      Vector sums[kColours] = {};
      for_channels(channels, [&](auto lanes) {
        const Vector value = activation.apply(lanes.get(in + x * channels), offset, lanes);
        if constexpr (WithColour) {
          for (std::size_t k = 0; k < kColours; ++k) {
            sums[k] += value * lanes.get(weights + k * channels);
          }
        }
        if constexpr (WithOut) {
          lanes.put(out + x * channels, value * lanes.get(activation.next_style));
        }
      });
      if constexpr (WithColour)
        put_colours(f.colour, f.activation.limit, size, picture, y, x, sums);
    }
  }
}

template <typename T>
void finish(const Finish& f, std::size_t first, std::size_t last) {
  const auto rows = !f.colour.picture ? finish_rows<T, true, false>
                    : f.out           ? finish_rows<T, true, true>
                                      : finish_rows<T, false, true>;
  rows(f, first, last);
}

// Four lines of the transposed convolution's result, each in two phases.
template <typename T>
struct FilterRows {
  const T* phase[4][2];
  float weight[4];

  FilterRows(const UpFinish& f, std::size_t picture, std::size_t y) {
    const std::size_t half[2] = {f.size.height / 2 + 1, f.size.height / 2};
    const std::size_t wide[2] = {f.size.width / 2 + 1, f.size.width / 2};
    for (std::size_t k = 0; k < 4; ++k) {
      // Line y - 1 + k; outside of 0 .. height it is zero and another one is read in its place.
      const bool inside = y + k >= 1 && y + k <= f.size.height + 1;
      const std::size_t line = inside ? y + k - 1 : y;
      weight[k] = inside ? kFilter[k] : 0.0f;
      for (std::size_t odd = 0; odd < 2; ++odd) {
        const std::size_t start = (picture * half[line % 2] + line / 2) * wide[odd];
        phase[k][odd] =
            static_cast<const T*>(f.phases[line % 2 * 2 + odd]) + start * f.size.channels;
      }
    }
  }
};

constexpr std::size_t kRingChannels = 128;

// One row of the result for `channels` <= kRingChannels channels from `begin` on. The filter goes
// down the columns first; the last four sums are kept.
template <typename T>
void up_finish_block(const UpFinish& f, const FilterRows<T>& rows, const ActivationRow& activation,
                     T* out, std::size_t begin, std::size_t channels) {
  const std::size_t stride = f.size.channels;
  float ring[4][kRingChannels] = {};
  for (std::size_t q = 0; q < f.size.width + 2; ++q) {
    float* sums = ring[q % 4];
    const bool inside = q <= f.size.width;
    const std::size_t at = q / 2 * stride + begin;
    const T* from[4];
    for (std::size_t k = 0; k < 4; ++k) from[k] = inside ? rows.phase[k][q % 2] + at : nullptr;
    const float* before[3] = {ring[(q + 1) % 4], ring[(q + 2) % 4], ring[(q + 3) % 4]};
    const float offset = q >= 2 ? activation.offset(q - 2) : 0.0f;
    for_channels(channels, [&](auto lanes) {
      Vector down = {};
      if (inside) {
        for (std::size_t k = 0; k < 4; ++k) down += rows.weight[k] * lanes.get(from[k]);
      }
      if (q >= 2) {
        Vector value = kFilter[3] * down;
        for (std::size_t k = 0; k < 3; ++k) value += kFilter[k] * lanes.get(before[k]);
        auto shifted = lanes;
        shifted.channel += begin;
        value = activation.apply(value, offset, shifted);
        shifted.put(out + (q - 2) * stride, value * shifted.get(activation.next_style));
      }
      lanes.put(sums, down);
    });
  }
}

template <typename T>
void up_finish(const UpFinish& f, std::size_t first, std::size_t last) {
  const Size& size = f.size;
  for (std::size_t row = first; row < last; ++row) {
    const std::size_t picture = row / size.height, y = row % size.height;
    const FilterRows<T> rows(f, picture, y);
    const ActivationRow activation(f.activation, size, picture, y);
    T* out = static_cast<T*>(f.out) + row * size.width * size.channels;
    for (std::size_t begin = 0; begin < size.channels; begin += kRingChannels) {
      const std::size_t left = size.channels - begin;
      up_finish_block(f, rows, activation, out, begin, left < kRingChannels ? left : kRingChannels);
    }
  }
}

// 0 at the first, 2 at the last, 1 in between.
LREORG_INLINE std::size_t border(std::size_t at, std::size_t length) {
  return at == 0 ? 0 : at + 1 == length ? 2 : 1;
}

template <typename T>
void prelu(const Prelu& p, std::size_t first, std::size_t last) {
  const Size& size = p.size;
  for (std::size_t row = first; row < last; ++row) {
    const float* line = p.bias + border(row % size.height, size.height) * 3 * size.channels;
    for (std::size_t x = 0; x < size.width; ++x) {
      const float* bias = line + border(x, size.width) * size.channels;
      const std::size_t at = (row * size.width + x) * size.channels;
      for_channels(size.channels, [&](auto lanes) {
        const Vector value = lanes.get(static_cast<const T*>(p.in) + at) + lanes.get(bias);
        lanes.put(static_cast<T*>(p.out) + at,
                  value > Vector{} ? value : value * lanes.get(p.slope));
      });
    }
  }
}

template <typename T>
void row_sums(const RowSums& r, std::size_t first, std::size_t last) {
  const std::size_t channels = r.size.channels, width = r.size.width;
  for (std::size_t row = first; row < last; ++row) {
    const T* in = static_cast<const T*>(r.in) + row * width * channels;
    for_channels(channels, [&](auto lanes) {
      Vector total = {};
      for (std::size_t x = 0; x < width; ++x) total += lanes.get(in + x * channels);
      lanes.put(r.out + row * channels, total);
    });
  }
}

template <typename T>
void gated_sum(const GatedSum& g, std::size_t first, std::size_t last) {
  const Size& size = g.size;
  const std::size_t wide = size.width * g.stride;
  for (std::size_t row = first; row < last; ++row) {
    // Heights are multiples of the stride, so counting rows through all pictures holds for both.
    const float* gate = g.gate + row / size.height * size.channels;
    const float* offset = g.offset + row / size.height * size.channels;
    for (std::size_t x = 0; x < size.width; ++x) {
      const std::size_t at = (row * size.width + x) * size.channels;
      const std::size_t from = (row * g.stride * wide + x * g.stride) * size.channels;
      for_channels(size.channels, [&](auto lanes) {
        const Vector value =
            lanes.get(static_cast<const T*>(g.in) + at) * lanes.get(gate) + lanes.get(offset);
        lanes.put(static_cast<T*>(g.out) + at,
                  value + lanes.get(static_cast<const T*>(g.shortcut) + from));
      });
    }
  }
}

// Where a line of the fine map lies between two of the coarse one.
struct Between {
  std::size_t before, after;
  float weight;  // of the latter

  Between(std::size_t fine, std::size_t fine_length, std::size_t length) {
    const float step =
        fine_length > 1 ? static_cast<float>(length - 1) / static_cast<float>(fine_length - 1) : 0;
    const float position = step * static_cast<float>(fine);
    before = static_cast<std::size_t>(position);
    if (before >= length) before = length - 1;
    after = before + 1 < length ? before + 1 : before;
    weight = position - static_cast<float>(before);
  }
};

template <typename T>
void stretched_sum(const StretchedSum& s, std::size_t first, std::size_t last) {
  const Size& size = s.size;
  for (std::size_t row = first; row < last; ++row) {
    const Between y(row % size.height, size.height, s.coarse_height);
    const std::size_t line = s.coarse_width * size.channels;
    const T* plane = static_cast<const T*>(s.coarse) + row / size.height * s.coarse_height * line;
    for (std::size_t x = 0; x < size.width; ++x) {
      const Between column(x, size.width, s.coarse_width);
      const T* before = plane + column.before * size.channels;
      const T* after = plane + column.after * size.channels;
      const float weights[4] = {(1 - y.weight) * (1 - column.weight),
                                (1 - y.weight) * column.weight, y.weight * (1 - column.weight),
                                y.weight * column.weight};
      const std::size_t at = (row * size.width + x) * size.channels;
      for_channels(size.channels, [&](auto lanes) {
        Vector value = lanes.get(static_cast<const T*>(s.fine) + at);
        value += weights[0] * lanes.get(before + y.before * line);
        value += weights[1] * lanes.get(after + y.before * line);
        value += weights[2] * lanes.get(before + y.after * line);
        value += weights[3] * lanes.get(after + y.after * line);
        lanes.put(static_cast<T*>(s.out) + at, value);
      });
    }
  }
}

template <typename T>
constexpr Pointwise functions() {
  return {finish<T>, up_finish<T>, prelu<T>, row_sums<T>, gated_sum<T>, stretched_sum<T>};
}

}  // namespace

const PointwiseVariant pointwise = {LREORG_NAME(LREORG_VARIANT),
                                    LREORG_SUPPORTED(LREORG_VARIANT),
                                    {functions<float>(), functions<Bfloat16>()}};

}  // namespace networks::LREORG_VARIANT
}  // namespace lreorg::cpu
