// The node lreorg::LreorgReorganize of docs/export.md: its attributes, its inputs and their shapes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cuda/reorganize.h"

namespace lreorg::tensorrt {

inline constexpr const char* kName = "LreorgReorganize";
inline constexpr const char* kVersion = "1";
inline constexpr const char* kNamespace = "lreorg";

// Inputs after the program's own, in order.
enum Input : std::int32_t {
  kConstants,
  kCondition,
  kHidden,
  kHiddenBias,
  kChain,
  kDirect,
  kOutput,
  kOutputBias,
  kModelInputs,
};
const char* input_name(Input input);

// The five matrices have one type; everything else is float32.
constexpr bool is_matrix(Input input) {
  return input == kCondition || input == kHidden || input == kChain || input == kDirect ||
         input == kOutput;
}

// The attribute `program`, checked; lanes and steps as the launches take them.
class NodeProgram {
 public:
  NodeProgram() = default;
  // Throws std::invalid_argument that says what is wrong.
  explicit NodeProgram(std::vector<std::int32_t> attribute);

  const std::vector<std::int32_t>& attribute() const { return attribute_; }
  const std::vector<LreorgCudaStep>& steps() const { return steps_; }
  const std::vector<LreorgCudaLane>& lanes() const { return lanes_; }
  const std::vector<std::int32_t>& outputs() const { return outputs_; }  // numbers of values
  std::int32_t num_inputs() const { return num_inputs_; }
  std::int32_t num_values() const { return num_values_; }
  std::int32_t num_outputs() const { return static_cast<std::int32_t>(outputs_.size()); }
  std::int32_t num_keywords() const { return num_keywords_; }
  // Of the node.
  std::int32_t node_inputs() const { return num_inputs_ + kModelInputs; }

 private:
  std::vector<std::int32_t> attribute_;
  std::vector<LreorgCudaStep> steps_;
  std::vector<LreorgCudaLane> lanes_;
  std::vector<std::int32_t> outputs_;
  std::int32_t num_inputs_ = 0;
  std::int32_t num_values_ = 0;
  std::int32_t num_keywords_ = 0;
};

using Extents = std::span<const std::int64_t>;

// What the shapes of a node's inputs say, all of them compared with each other.
struct NodeShape {
  std::int64_t faces = 0;
  std::int64_t rows = 0;  // of one face
  LreorgCudaShape network{};

  std::int64_t tokens() const { return faces * rows; }
};

// `shapes`: of all inputs of the node, in order. Throws std::invalid_argument that names the input.
NodeShape node_shape(const NodeProgram& program, std::span<const Extents> shapes, float clamp);

// Where things lie in the workspace of one call, in bytes from its start; each is aligned to 256.
struct Workspace {
  std::uint64_t value_bytes = 0;  // of one of the values between inputs and outputs
  std::uint64_t values = 0;
  std::uint64_t weights = 0;
  std::uint64_t scratch = 0;
  std::uint64_t status = 0;
  std::uint64_t bytes = 0;
};
Workspace make_workspace(const NodeProgram& program, const NodeShape& shape,
                         std::uint64_t weights_bytes, std::uint64_t scratch_bytes);

}  // namespace lreorg::tensorrt
