#include "core/layout.h"

#include <cmath>
#include <stdexcept>

#include "cpu/kernels.h"

namespace lreorg {
namespace {

constexpr std::uint32_t kLargestCount = 65536;  // the limit of CDFNetConfig
constexpr std::size_t kAlignment = 64;

std::size_t round_up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Hands out offsets in the order in which a pass reads the tensors.
class Allocator {
 public:
  explicit Allocator(WeightType type) : weight_bytes_(weight_bytes(type)) {}

  Tensor matrix(std::string name, std::size_t outputs, std::size_t inputs) {
    const std::size_t elements = round_up(outputs, cpu::kPanel) * inputs;
    return take(std::move(name), outputs, inputs, elements * weight_bytes_);
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

  std::size_t weight_bytes_;
  std::size_t next_ = 0;
};

DenseTensors make_dense(Allocator& allocator, const Shape& shape, const std::string& name,
                        std::size_t subnets) {
  DenseTensors dense;
  dense.wide = allocator.matrix(name + ".wide", subnets * shape.subnet_width(), shape.dim);
  dense.bias = allocator.vector(name + ".bias", subnets * shape.subnet_width());
  for (std::size_t s = 0; s < subnets; ++s) {
    const std::string subnet = name + ".subnets." + std::to_string(s);
    DenseTail tail;
    for (std::size_t i = 1; i < kHiddenLayers; ++i) {
      tail.chain[i - 1] =
          allocator.matrix(subnet + ".chain." + std::to_string(i), shape.growth, i * shape.growth);
    }
    tail.output = allocator.matrix(subnet + ".output", shape.dim, shape.hidden());
    dense.subnets.push_back(std::move(tail));
  }
  return dense;
}

void visit_dense(const DenseTensors& dense, const std::function<void(const Tensor&)>& visit) {
  visit(dense.wide);
  visit(dense.bias);
  for (const DenseTail& tail : dense.subnets) {
    for (const Tensor& chain : tail.chain) visit(chain);
    visit(tail.output);
  }
}

void check_count(const char* field, std::uint32_t value) {
  if (value < 1 || value > kLargestCount) {
    throw std::invalid_argument(std::string(field) + " is " + std::to_string(value) +
                                "; allowed are 1 to " + std::to_string(kLargestCount) + ".");
  }
}

}  // namespace

WeightType weight_type(const std::string& name) {
  if (name == "float32") return WeightType::float32;
  if (name == "bfloat16") return WeightType::bfloat16;
  throw std::invalid_argument("weight type '" + name + "' is unknown; use float32 or bfloat16.");
}

const char* weight_type_name(WeightType type) {
  return type == WeightType::float32 ? "float32" : "bfloat16";
}

std::size_t weight_bytes(WeightType type) {
  return type == WeightType::float32 ? 4 : 2;
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
  visit(condition_add);
  visit(condition_scale_shift);
  visit_dense(dense_add, visit);
  visit_dense(dense_scale_shift, visit);
}

Layout make_layout(const Shape& shape, WeightType type) {
  shape.validate();
  Allocator allocator(type);
  Layout layout;
  for (std::uint32_t b = 0; b < shape.num_blocks; ++b) {
    const std::string name = "blocks." + std::to_string(b);
    BlockTensors block;
    block.condition_add = allocator.matrix(name + ".condition_add", shape.dim, shape.dim);
    block.condition_scale_shift =
        allocator.matrix(name + ".condition_scale_shift", std::size_t{2} * shape.dim, shape.dim);
    block.dense_add = make_dense(allocator, shape, name + ".dense_add", 1);
    block.dense_scale_shift = make_dense(allocator, shape, name + ".dense_scale_shift", 2);
    layout.blocks.push_back(std::move(block));
  }
  layout.payload_bytes = allocator.bytes();
  return layout;
}

}  // namespace lreorg
