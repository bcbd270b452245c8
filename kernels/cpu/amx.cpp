// Tiles of AMX: 16 rows x 32 bfloat16 activations times 32 x 16 weights per instruction.
//
// A group of a rounded copy (16 rows of 64 bytes) is one tile as it lies, and so is a group of a
// panel. int8 weights are widened to bfloat16, exactly, in a buffer of one panel's group: the
// activations then keep bfloat16's precision, and reading half the bytes is what pays.
//
// LREORG_EMULATE_TILES compiles the same code against a plain C++ model of the instructions
// (tests/native/tiles.h), so that it is tested on machines without AMX.
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#ifdef LREORG_EMULATE_TILES
#include "tiles.h"
#else
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#include "cpu/kernels.h"

namespace lreorg::cpu {
namespace amx {

extern const Arithmetic bfloat16, int8;
bool request_permission();
void enter_thread();
void leave_thread();

namespace {

constexpr std::size_t kTileRows = 16;
constexpr std::size_t kTileBytes = 64;  // per row

// Tiles: 0 to 3 sums, 4 and 5 activations of two blocks of rows, 6 and 7 weights of two panels.
struct alignas(64) Configuration {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {kTileBytes, kTileBytes, kTileBytes, kTileBytes,
                                 kTileBytes, kTileBytes, kTileBytes, kTileBytes};
  std::uint8_t rows[16] = {kTileRows, kTileRows, kTileRows, kTileRows,
                           kTileRows, kTileRows, kTileRows, kTileRows};
};
static_assert(sizeof(Configuration) == 64, "the layout is the instruction's");

// Sums of one 16 x 16 tile to the rows and columns that exist.
void store(const Product& p, std::size_t row, std::size_t column, const float* sums) {
  const std::size_t rows = p.rows - row < kTileRows ? p.rows - row : kTileRows;
  const std::size_t columns = p.columns - column < kPanel ? p.columns - column : kPanel;
  for (std::size_t r = 0; r < rows; ++r, sums += kPanel) {
    float* out = p.out + (row + r) * p.out_stride + column;
    for (std::size_t c = 0; c < columns; ++c) {
      const float value = p.column_scale ? sums[c] * p.column_scale[column + c] : sums[c];
      out[c] = p.accumulate ? out[c] + value : value;
    }
  }
}

// From memory to the second-level cache, a pair of panels ahead: tiles are loaded faster than the
// hardware's own prefetching follows.
void prefetch(const std::byte* from, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; i += kTileBytes) __builtin_prefetch(from + i, 0, 2);
}

// [8 quads][16 columns][4] bytes to [16 pairs][16 columns][2] bfloat16. Whole numbers below 256 are
// exact in bfloat16, the upper half of a float.
#ifdef __AVX512VBMI__
// The bytes' magnitudes look up both halves of their bfloat16: nine instructions for 64 weights,
// where arithmetic takes twenty. At the speed at which one core reads memory there is time for
// about ten.
struct Bfloat16Bytes {
  alignas(64) std::uint8_t low[128] = {};
  alignas(64) std::uint8_t high[128] = {};

  constexpr Bfloat16Bytes() {
    for (unsigned magnitude = 1; magnitude < 128; ++magnitude) {
      unsigned exponent = 0;
      while (magnitude >> (exponent + 1)) ++exponent;
      const unsigned bits = (127 + exponent) << 7 | ((magnitude << (7 - exponent)) & 0x7F);
      low[magnitude] = static_cast<std::uint8_t>(bits & 0xFF);
      high[magnitude] = static_cast<std::uint8_t>(bits >> 8);
    }
  }
};
constexpr Bfloat16Bytes kBfloat16Bytes;

class Int8Widener {
 public:
  Int8Widener() {
    for (int half = 0; half < 2; ++half) {
      low_[half] = _mm512_load_si512(kBfloat16Bytes.low + 64 * half);
      high_[half] = _mm512_load_si512(kBfloat16Bytes.high + 64 * half);
    }
  }

  void widen(const std::byte* group, std::byte* to) const {
    // Within 128 bits the halves meet as [column][4]; the first two of each column are one pair's.
    const __m512i first =
        _mm512_setr_epi32(0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(1));
    const __m512i sign_bit = _mm512_set1_epi8(static_cast<char>(kInt8Offset));
    for (std::size_t quad = 0; quad < kGroup / 4; ++quad, group += 64, to += 128) {
      const __m512i value = _mm512_xor_si512(_mm512_loadu_si512(group), sign_bit);
      const __m512i magnitude = _mm512_abs_epi8(value);
      const __m512i low = _mm512_permutex2var_epi8(low_[0], magnitude, low_[1]);
      const __m512i high = _mm512_permutex2var_epi8(high_[0], magnitude, high_[1]);
      const __m512i with_sign = _mm512_or_si512(high, _mm512_and_si512(value, sign_bit));
      const __m512i even = _mm512_unpacklo_epi8(low, with_sign);
      const __m512i odd = _mm512_unpackhi_epi8(low, with_sign);
      _mm512_store_si512(to, _mm512_permutex2var_epi32(even, first, odd));
      _mm512_store_si512(to + 64, _mm512_permutex2var_epi32(even, second, odd));
    }
  }

 private:
  __m512i low_[2];
  __m512i high_[2];
};
#else
class Int8Widener {
 public:
  void widen(const std::byte* group, std::byte* to) const {
    for (std::size_t quad = 0; quad < kGroup / 4; ++quad) {
      for (std::size_t i = 0; i < 4; ++i) {
        for (std::size_t c = 0; c < kPanel; ++c) {
          const int value = static_cast<int>(group[(quad * kPanel + c) * 4 + i]) - kInt8Offset;
          const float weight = static_cast<float>(value);
          __builtin_memcpy(to + ((2 * quad + i / 2) * kPanel + c) * 4 + 2 * (i % 2),
                           reinterpret_cast<const std::byte*>(&weight) + 2, 2);
        }
      }
    }
  }
};
#endif

// One group of a panel as a tile of bfloat16.
struct Bfloat16Panels {
  static constexpr WeightType kType = WeightType::bfloat16;
  const std::byte* tile(const std::byte* group, std::byte*) const { return group; }
};
struct Int8Panels {
  static constexpr WeightType kType = WeightType::int8;
  const Int8Widener widener;
  const std::byte* tile(const std::byte* group, std::byte* buffer) const {
    widener.widen(group, buffer);
    return buffer;
  }
};

// Two blocks of rows times two panels; what lies past the end is computed with a neighbour's data
// (blocks) or left out (panels) and not stored.
template <typename Panels>
void quarter(const Product& p, std::size_t row, std::size_t column, const std::byte* panel,
             std::ptrdiff_t ahead) {
  const Panels panels{};
  const bool second_rows = row + kTileRows < p.rows;
  const bool second_panel = column + kPanel < p.columns;
  const std::size_t next_panel = panel_bytes(Panels::kType, p.depth);
  const std::size_t group_bytes = panel_bytes(Panels::kType, kGroup);
  const std::uint16_t* in = static_cast<const std::uint16_t*>(p.in.values) + row * kGroup;
  alignas(64) std::byte buffer[kTileRows * kTileBytes];
  const std::size_t groups = (p.depth + kGroup - 1) / kGroup;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (std::size_t g = 0; g < groups; ++g, in += p.in.stride, panel += group_bytes) {
    prefetch(panel + ahead, group_bytes);
    if (second_panel) prefetch(panel + next_panel + ahead, group_bytes);
    _tile_loadd(4, in, kTileBytes);
    _tile_loadd(6, panels.tile(panel, buffer), kTileBytes);
    _tile_dpbf16ps(0, 4, 6);
    if (second_panel) {
      _tile_loadd(7, panels.tile(panel + next_panel, buffer), kTileBytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    if (second_rows) {
      _tile_loadd(5, in + kTileRows * kGroup, kTileBytes);
      _tile_dpbf16ps(2, 5, 6);
      if (second_panel) _tile_dpbf16ps(3, 5, 7);
    }
  }
  alignas(64) float sums[kTileRows * kPanel];
  _tile_stored(0, sums, kTileBytes);
  store(p, row, column, sums);
  if (second_panel) {
    _tile_stored(1, sums, kTileBytes);
    store(p, row, column + kPanel, sums);
  }
  if (second_rows) {
    _tile_stored(2, sums, kTileBytes);
    store(p, row + kTileRows, column, sums);
  }
  if (second_rows && second_panel) {
    _tile_stored(3, sums, kTileBytes);
    store(p, row + kTileRows, column + kPanel, sums);
  }
}

template <typename Panels>
void product(const Product& p) {
  const std::byte* panel = static_cast<const std::byte*>(p.panels);
  const std::size_t bytes = 2 * panel_bytes(Panels::kType, p.depth);
  for (std::size_t column = 0; column < p.columns; column += 2 * kPanel, panel += bytes) {
    const bool last = column + 2 * kPanel >= p.columns;
    const std::ptrdiff_t ahead =
        last ? static_cast<const std::byte*>(p.next) - panel : static_cast<std::ptrdiff_t>(bytes);
    for (std::size_t row = 0; row < p.rows; row += 2 * kTileRows) {
      quarter<Panels>(p, row, column, panel, ahead);
    }
  }
}

// To the nearest, ties to even; a NaN stays one. The streams stay finite or the call is refused, so
// the sum cannot wrap.
void round_bfloat16(const Rounding& x) {
  std::uint16_t* out = static_cast<std::uint16_t*>(x.out);
  for (std::size_t column = 0; column < x.columns; column += kGroup, out += x.stride) {
    const std::size_t valid = x.columns - column < kGroup ? x.columns - column : kGroup;
    for (std::size_t row = 0; row < x.rows; ++row) {
      const float* in = x.in + row * x.in_stride + column;
      for (std::size_t c = 0; c < kGroup; ++c) {
        std::uint32_t bits = 0;
        if (c < valid) __builtin_memcpy(&bits, in + c, sizeof(bits));
        const std::uint32_t nan = (bits & 0x7FFFFFFFu) > 0x7F800000u ? 0x00400000u : 0u;
        const std::uint32_t rounded = nan ? bits | nan : bits + 0x7FFFu + ((bits >> 16) & 1u);
        out[row * kGroup + c] = static_cast<std::uint16_t>(rounded >> 16);
      }
    }
  }
}

}  // namespace

const Arithmetic bfloat16 = {OperandType::bfloat16, product<Bfloat16Panels>, round_bfloat16};
const Arithmetic int8 = {OperandType::bfloat16, product<Int8Panels>, round_bfloat16};

// Linux gives a process the tile state only when it asks.
bool request_permission() {
#if defined(LREORG_EMULATE_TILES)
  return true;
#elif defined(__linux__)
  constexpr long kArchReqXcompPerm = 0x1023;
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kTileData) == 0;
#else
  return false;
#endif
}

void enter_thread() {
  const Configuration configuration;
  _tile_loadconfig(&configuration);
}

// Tiles that are in use make every context switch save 8 KB.
void leave_thread() {
  _tile_release();
}

}  // namespace amx
}  // namespace lreorg::cpu
