#include "core/layout.h"

#include <cmath>
#include <stdexcept>

namespace lreorg {
namespace {

constexpr std::uint32_t kLargestCount = 65536;  // the limit of CDFNetConfig
constexpr std::size_t kAlignment = 64;

// Hands out offsets in the order in which a pass reads the tensors.
class Allocator {
 public:
  explicit Allocator(WeightType type) : type_(type) {}

  Tensor matrix(std::string name, std::size_t outputs, std::size_t inputs) {
    return take(std::move(name), outputs, inputs, matrix_bytes(type_, outputs, inputs));
  }
  Tensor vector(std::string name, std::size_t outputs) {
    return take(std::move(name), outputs, 0, outputs * sizeof(float));
  }
  std::size_t bytes() const { return next_; }

 private:
  Tensor take(std::string name, std::size_t outputs, std::size_t inputs, std::size_t bytes) {
    Tensor tensor{std::move(name), outputs, inputs, next_};
    next_ += round_up(bytes, kAlignment);
    return tensor;
  }

  WeightType type_;
  std::size_t next_ = 0;
};

const char* const kRoleNames[kRoles] = {"add", "scale", "shift"};

DenseSubnet make_dense(Allocator& allocator, const Shape& shape, const std::string& name) {
  DenseSubnet subnet;
  subnet.hidden = allocator.matrix(name + ".hidden", shape.hidden(), shape.dim);
  subnet.hidden_bias = allocator.vector(name + ".hidden_bias", shape.hidden());
  subnet.direct = allocator.matrix(name + ".direct", shape.dim, shape.dim);
  subnet.output_bias = allocator.vector(name + ".output_bias", shape.dim);
  for (std::size_t i = 1; i < kHiddenLayers; ++i) {
    subnet.chain[i - 1] =
        allocator.matrix(name + ".chain." + std::to_string(i), shape.growth, i * shape.growth);
  }
  subnet.output = allocator.matrix(name + ".output", shape.dim, shape.hidden());
  return subnet;
}

void check_count(const char* field, std::uint32_t value) {
  if (value < 1 || value > kLargestCount) {
    throw std::invalid_argument(std::string(field) + " is " + std::to_string(value) +
                                "; allowed are 1 to " + std::to_string(kLargestCount) + ".");
  }
}

}  // namespace

WeightType weight_type(const std::string& name) {
  for (std::size_t i = 0; i < kWeightTypes; ++i) {
    const WeightType type = static_cast<WeightType>(i);
    if (name == weight_type_name(type)) return type;
  }
  throw std::invalid_argument("weight type '" + name +
                              "' is unknown; use float32, bfloat16 or int8.");
}

const char* weight_type_name(WeightType type) {
  static const char* const names[kWeightTypes] = {"float32", "bfloat16", "int8"};
  return names[static_cast<std::size_t>(type)];
}

std::size_t panels_bytes(WeightType type, std::size_t outputs, std::size_t inputs) {
  return round_up(outputs, kPanel) / kPanel * panel_bytes(type, inputs);
}

std::size_t matrix_bytes(WeightType type, std::size_t outputs, std::size_t inputs) {
  const std::size_t scales = type == WeightType::int8 ? round_up(outputs, kPanel) : 0;
  return panels_bytes(type, outputs, inputs) + scales * sizeof(float);
}

void Shape::validate() const {
  check_count("dim", dim);
  check_count("cond_dim", cond_dim);
  check_count("num_blocks", num_blocks);
  check_count("growth", growth);
  if (!(std::isfinite(clamp) && clamp > 0)) {
    throw std::invalid_argument("clamp is " + std::to_string(clamp) +
                                "; it must be finite and above 0.");
  }
}

void BlockTensors::for_each(const std::function<void(const Tensor&)>& visit) const {
  for (const Tensor& tensor : condition) visit(tensor);
  for (const DenseSubnet& subnet : dense) {
    visit(subnet.hidden);
    visit(subnet.hidden_bias);
    visit(subnet.direct);
    visit(subnet.output_bias);
    for (const Tensor& tensor : subnet.chain) visit(tensor);
    visit(subnet.output);
  }
}

Layout make_layout(const Shape& shape, WeightType type) {
  shape.validate();
  Allocator allocator(type);
  Layout layout;
  for (std::uint32_t b = 0; b < shape.num_blocks; ++b) {
    const std::string name = "blocks." + std::to_string(b);
    BlockTensors block;
    for (std::size_t role = 0; role < kRoles; ++role) {
      block.condition[role] =
          allocator.matrix(name + ".condition." + kRoleNames[role], shape.dim, shape.dim);
    }
    for (std::size_t role = 0; role < kRoles; ++role) {
      block.dense[role] = make_dense(allocator, shape, name + ".dense." + kRoleNames[role]);
    }
    layout.blocks.push_back(std::move(block));
  }
  layout.payload_bytes = allocator.bytes();
  return layout;
}

}  // namespace lreorg
