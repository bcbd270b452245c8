// How the vector kernels walk a product: panels outside, blocks of rows inside. A panel (16 KB at
// depth 512 in bfloat16) is read from memory once and then stays in the first-level cache.
//
// Everything is in an unnamed namespace: each file that is compiled for an instruction set has to
// have its own copy, since the linker may keep any one of several equal inline functions for the
// whole program.
#pragma once

#include "cpu/kernels.h"

namespace lreorg::cpu {
namespace {

// Weights are asked for twice ahead of the multiplications: a whole panel ahead from memory, and
// shortly before from the second-level cache. One face on two cores (bfloat16 products, Zen 4) took
// 57 ms without, 36 with one distance of 2 KB, and 33 with both.
constexpr std::size_t kNearBytes = 1024;

struct Panel {
  const std::byte* words;
  std::ptrdiff_t ahead;  // bytes to the panel that comes next
};

inline __attribute__((always_inline)) void prefetch(const std::byte* words, std::ptrdiff_t ahead) {
  __builtin_prefetch(words + ahead, 0, 2);
  __builtin_prefetch(words + kNearBytes, 0, 3);
}

// Calls Call::run<rows> for a number of rows that is known only at run time.
template <typename Call, std::size_t Rows, typename P>
void with_rows(const P& p, std::size_t row, std::size_t column, Panel panel, std::size_t rows) {
  if (rows == Rows) {
    Call::template run<Rows>(p, row, column, panel);
  } else if constexpr (Rows > 1) {
    with_rows<Call, Rows - 1>(p, row, column, panel, rows);
  }
}

// Call has kRows, the most rows of a block, and kType, the type of the weights. Blocks of rows are
// of about equal size.
template <typename Call, typename P>
void for_blocks(const P& p, const void* next) {
  const std::byte* panel = static_cast<const std::byte*>(p.panels);
  const std::size_t blocks = (p.rows + Call::kRows - 1) / Call::kRows;
  const std::size_t bytes = panel_bytes(Call::kType, p.depth);
  for (std::size_t column = 0; column < p.columns; column += kPanel, panel += bytes) {
    const bool last = column + kPanel >= p.columns;
    const Panel here = {panel, last ? static_cast<const std::byte*>(next) - panel
                                    : static_cast<std::ptrdiff_t>(bytes)};
    for (std::size_t b = 0; b < blocks; ++b) {
      const std::size_t first = p.rows * b / blocks;
      with_rows<Call, Call::kRows>(p, first, column, here, p.rows * (b + 1) / blocks - first);
    }
  }
}

}  // namespace
}  // namespace lreorg::cpu
