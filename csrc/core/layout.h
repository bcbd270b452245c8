// Shape of a folded CDFNet and where each of its tensors lies in the packed payload.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "packing.h"

namespace lreorg {

inline constexpr std::size_t kHiddenLayers = 4;  // of a dense subnet, Eq. 2
inline constexpr float kLeakySlope = 0.01f;

WeightType weight_type(const std::string& name);
const char* weight_type_name(WeightType type);

// Bytes of a matrix's panels, and with the scales of int8.
std::size_t panels_bytes(WeightType type, std::size_t outputs, std::size_t inputs);
std::size_t matrix_bytes(WeightType type, std::size_t outputs, std::size_t inputs);

struct Shape {
  std::uint32_t dim;
  std::uint32_t cond_dim;
  std::uint32_t num_blocks;
  std::uint32_t growth;
  float clamp;

  // Throws std::invalid_argument when a field is out of range.
  void validate() const;
  std::size_t hidden() const { return kHiddenLayers * growth; }
};

// A matrix (outputs x inputs) in panels, or a vector of `outputs` floats when inputs is 0.
struct Tensor {
  std::string name;
  std::size_t outputs;
  std::size_t inputs;
  std::size_t offset;  // bytes from the start of the payload, a multiple of 64

  bool is_vector() const { return inputs == 0; }
};

// A condition block's subnets, or a dense block's.
enum Role : std::size_t { kAdd = 0, kScale = 1, kShift = 2 };
inline constexpr std::size_t kRoles = 3;

// A dense subnet, split by what its layers read: the stream's part of the four hidden layers in one
// (4 growth x dim), the stream's part of the output (dim x dim); then hidden layer i > 0 reads the
// i layers before it (growth x i growth), and the output reads all four (dim x 4 growth).
struct DenseSubnet {
  Tensor hidden;
  Tensor hidden_bias;
  Tensor direct;
  Tensor output_bias;
  std::array<Tensor, kHiddenLayers - 1> chain;
  Tensor output;
};

struct BlockTensors {
  std::array<Tensor, kRoles> condition;  // dim x dim each
  std::array<DenseSubnet, kRoles> dense;

  void for_each(const std::function<void(const Tensor&)>& visit) const;
};

struct Layout {
  std::vector<BlockTensors> blocks;
  std::size_t payload_bytes;
};

Layout make_layout(const Shape& shape, WeightType type);

}  // namespace lreorg
