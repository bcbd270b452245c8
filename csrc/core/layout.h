// Shape of a folded CDFNet and where each of its tensors lies in the packed payload.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace lreorg {

inline constexpr std::size_t kHiddenLayers = 4;  // of a dense subnet, Eq. 2
inline constexpr float kLeakySlope = 0.01f;

enum class WeightType : std::uint32_t { float32 = 0, bfloat16 = 1 };

WeightType weight_type(const std::string& name);
const char* weight_type_name(WeightType type);
std::size_t weight_bytes(WeightType type);

struct Shape {
  std::uint32_t dim;
  std::uint32_t cond_dim;
  std::uint32_t num_blocks;
  std::uint32_t growth;
  float clamp;

  // Throws std::invalid_argument when a field is out of range.
  void validate() const;
  std::size_t hidden() const { return kHiddenLayers * growth; }
  std::size_t subnet_width() const { return hidden() + dim; }
};

// A matrix (outputs x inputs) in panels, or a vector of `outputs` floats when inputs is 0.
struct Tensor {
  std::string name;
  std::size_t outputs;
  std::size_t inputs;
  std::size_t offset;  // bytes from the start of the payload, a multiple of 64

  bool is_vector() const { return inputs == 0; }
};

// What remains of one dense subnet after the wide product: hidden layer i > 0 reads the i layers
// before it (growth x i growth), and the output reads all four (dim x 4 growth).
struct DenseTail {
  std::array<Tensor, kHiddenLayers - 1> chain;
  Tensor output;
};

// One (add) or two (scale, shift) dense subnets that read the same stream. For each subnet the wide
// product makes 4 growth hidden pre-activations, then dim outputs.
struct DenseTensors {
  Tensor wide;
  Tensor bias;
  std::vector<DenseTail> subnets;
};

struct BlockTensors {
  Tensor condition_add;          // dim x dim
  Tensor condition_scale_shift;  // 2 dim x dim: scale, then shift
  DenseTensors dense_add;
  DenseTensors dense_scale_shift;

  void for_each(const std::function<void(const Tensor&)>& visit) const;
};

struct Layout {
  std::vector<BlockTensors> blocks;
  std::size_t payload_bytes;
};

Layout make_layout(const Shape& shape, WeightType type);

}  // namespace lreorg
