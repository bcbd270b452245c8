// How weights lie in memory: the part of the packed format that kernels read. csrc/core/packed.h
// describes the block around it.
//
// A matrix (outputs x inputs) is cut into panels of kPanel outputs ("columns" of the product), the
// last panel padded. Within a panel the inputs follow each other; neighbouring inputs of one column
// lie side by side where an instruction multiplies them together:
//
//   float32   [panel][input][kPanel]
//   bfloat16  [panel][input / 2][kPanel][2]
//   int8      [panel][input / 4][kPanel][4] unsigned, weight = scale[column] * (value - 128); float
//             scales [panel][kPanel] follow the last panel
//
// Inputs are padded to a multiple of kGroup with weights that are zero.
//
// The pairs of bfloat16 and quadruples of int8 are what the dot-product instructions of AVX-512
// and the tiles of AMX both read, so one block serves every machine.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lreorg {

inline constexpr std::size_t kPanel = 16;
// Inputs per group: one AMX tile of bfloat16, and what shares a scale when activations are int8.
inline constexpr std::size_t kGroup = 32;
inline constexpr int kInt8Offset = 128;

enum class WeightType : std::uint32_t { float32 = 0, bfloat16 = 1, int8 = 2 };
inline constexpr std::size_t kWeightTypes = 3;

// static: files that are compiled for one instruction set must not share functions with others, as
// the linker would be free to keep the widest copy for all.
static constexpr std::size_t round_up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

static constexpr std::size_t weight_bytes(WeightType type) {
  return type == WeightType::float32 ? 4 : type == WeightType::bfloat16 ? 2 : 1;
}

static constexpr std::size_t panel_bytes(WeightType type, std::size_t inputs) {
  return round_up(inputs, kGroup) * kPanel * weight_bytes(type);
}

}  // namespace lreorg
