// The instructions of AMX that kernels/cpu/amx.cpp uses, as plain C++: the pseudocode of Intel's
// Software Developer's Manual, volume 2 (LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TDPBF16PS,
// TILERELEASE), with the faults that a processor would raise as aborts.
//
// static and without the standard library's inline functions: who includes this may be compiled for
// one instruction set, see kernels/cpu/microkernels.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "check.h"

namespace lreorg::test::tiles {

static constexpr int kTiles = 8;  // palette 1
static constexpr int kRows = 16;
static constexpr int kRowBytes = 64;
static constexpr int kColumns = kRowBytes / 4;

struct Tile {
  int rows;
  int row_bytes;
  unsigned char data[kRows][kRowBytes];
};

// Of one thread, as the registers are.
struct State {
  bool configured;
  Tile tiles[kTiles];
};
static thread_local State state;

static inline Tile& tile(int index) {
  CHECK(index >= 0 && index < kTiles);
  CHECK(state.configured && state.tiles[index].rows > 0);
  return state.tiles[index];
}

static inline void load_configuration(const void* from) {
  unsigned char memory[64];
  __builtin_memcpy(memory, from, sizeof(memory));
  CHECK(memory[0] == 1);                               // palette
  for (int i = 1; i < 16; ++i) CHECK(memory[i] == 0);  // start_row, reserved
  state = {};
  for (int i = 0; i < 16; ++i) {
    std::uint16_t row_bytes;
    __builtin_memcpy(&row_bytes, memory + 16 + 2 * i, sizeof(row_bytes));
    const int rows = memory[48 + i];
    CHECK(row_bytes <= kRowBytes && rows <= kRows);
    CHECK((row_bytes == 0) == (rows == 0));
    CHECK(i < kTiles || rows == 0);
    if (i >= kTiles) continue;
    state.tiles[i].rows = rows;
    state.tiles[i].row_bytes = row_bytes;
  }
  state.configured = true;
}

static inline void release() {
  state = {};
}

static inline void zero(int to) {
  __builtin_memset(tile(to).data, 0, sizeof(Tile::data));
}

static inline void load(int to, const void* base, std::size_t stride) {
  Tile& made = tile(to);
  zero(to);
  for (int row = 0; row < made.rows; ++row) {
    __builtin_memcpy(
        made.data[row],
        static_cast<const unsigned char*>(base) + static_cast<std::size_t>(row) * stride,
        static_cast<std::size_t>(made.row_bytes));
  }
}

static inline void store(int from, void* base, std::size_t stride) {
  const Tile& stored = tile(from);
  for (int row = 0; row < stored.rows; ++row) {
    __builtin_memcpy(static_cast<unsigned char*>(base) + static_cast<std::size_t>(row) * stride,
                     stored.data[row], static_cast<std::size_t>(stored.row_bytes));
  }
}

// Denormals are zero, read or written.
static inline float flush(float x) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  if ((bits & 0x7F800000u) == 0) bits &= 0x80000000u;
  __builtin_memcpy(&x, &bits, sizeof(bits));
  return x;
}

static inline float widen(const unsigned char* bfloat16) {
  float x = 0;
  __builtin_memcpy(reinterpret_cast<unsigned char*>(&x) + 2, bfloat16, 2);
  return flush(x);
}

static inline float multiply_add(float a, float b, float sum) {
  return flush(__builtin_fmaf(a, b, sum));
}

static inline void multiply_add_bfloat16(int to, int left, int right) {
  CHECK(to != left && to != right && left != right);
  Tile& c = tile(to);
  const Tile& a = tile(left);
  const Tile& b = tile(right);
  CHECK(a.row_bytes % 4 == 0 && b.row_bytes % 4 == 0 && c.row_bytes % 4 == 0);
  CHECK(c.rows == a.rows && c.row_bytes == b.row_bytes && a.row_bytes / 4 == b.rows);
  for (int m = 0; m < c.rows; ++m) {
    float even[kColumns] = {};
    float odd[kColumns] = {};
    for (int k = 0; k < b.rows; ++k) {
      const float first = widen(a.data[m] + 4 * k);
      const float second = widen(a.data[m] + 4 * k + 2);
      for (int n = 0; n < c.row_bytes / 4; ++n) {
        even[n] = multiply_add(first, widen(b.data[k] + 4 * n), even[n]);
        odd[n] = multiply_add(second, widen(b.data[k] + 4 * n + 2), odd[n]);
      }
    }
    for (int n = 0; n < c.row_bytes / 4; ++n) {
      float sum;
      __builtin_memcpy(&sum, c.data[m] + 4 * n, sizeof(sum));
      sum = flush(flush(sum) + flush(even[n] + odd[n]));
      __builtin_memcpy(c.data[m] + 4 * n, &sum, sizeof(sum));
    }
  }
}

}  // namespace lreorg::test::tiles

// The compiler's own, where it has them, are functions or macros.
#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig lreorg::test::tiles::load_configuration
#define _tile_release lreorg::test::tiles::release
#define _tile_zero lreorg::test::tiles::zero
#define _tile_loadd lreorg::test::tiles::load
#define _tile_stored lreorg::test::tiles::store
#define _tile_dpbf16ps lreorg::test::tiles::multiply_add_bfloat16
