// The packed block, and the two things that kernels do with it: rounding activations and products.
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>

#include "check.h"
#include "core/memory.h"
#include "core/scratch.h"
#include "network.h"
#include "suites.h"
#include "variants.h"

namespace lreorg::test {
namespace {

constexpr WeightType kTypes[] = {WeightType::float32, WeightType::bfloat16, WeightType::int8};

void blocks_survive_and_damage_is_found() {
  for (const WeightType type : kTypes) {
    const Network network = random_network(9, 3, 2, 1);
    const std::string bytes(network.pack(type)->bytes());
    CHECK(PackedWeights::from_bytes(bytes).bytes() == bytes);
    // Not the shape's fields: what they ask for is checked against the size before the checksum.
    for (std::size_t at = sizeof(PackedHeader); at < bytes.size(); at += 61) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ 4);
      CHECK_THROWS(std::invalid_argument, "checksum", PackedWeights::from_bytes(damaged));
    }
    for (std::size_t length = 0; length < bytes.size(); length += 97) {
      CHECK_THROWS(std::invalid_argument, "packed weights",
                   PackedWeights::from_bytes(std::string_view(bytes).substr(0, length)));
    }
  }
}

// Activations of one product and the values that it really reads.
struct Activations {
  Activations(const cpu::Arithmetic& arithmetic, std::size_t rows, std::size_t columns)
      : columns_(columns), read_(rows * columns) {
    Random random(rows * 131 + columns);
    matrix_.reserve(rows, columns);
    copy_.reserve(arithmetic.operand, rows, columns);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < columns; ++c) {
        matrix_.row(r)[c] = static_cast<float>(random.next());
        read_[r * columns + c] = matrix_.row(r)[c];
      }
    }
    cpu::Rounding x = copy_.target(0, 0);
    x.rows = rows;
    x.columns = columns;
    x.in = matrix_.row(0);
    x.in_stride = matrix_.stride();
    arithmetic.round(x);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < round_up(columns, kGroup); ++c)
        read_back(arithmetic.operand, x, r, c);
    }
  }

  cpu::Operand operand() const { return copy_.operand(); }
  double read(std::size_t row, std::size_t column) const { return read_[row * columns_ + column]; }

 private:
  // What lies in the copy at a column, which may be padding.
  void read_back(cpu::OperandType type, const cpu::Rounding& x, std::size_t row,
                 std::size_t column) {
    const std::size_t at = column / kGroup * x.stride + row * kGroup + column % kGroup;
    const double exact = column < columns_ ? matrix_.row(row)[column] : 0;
    double value;
    if (type == cpu::OperandType::float32) {
      value = static_cast<const float*>(x.out)[at];
      CHECK(value == exact);
    } else if (type == cpu::OperandType::bfloat16) {
      const std::uint32_t bits = std::uint32_t{static_cast<const std::uint16_t*>(x.out)[at]} << 16;
      value = std::bit_cast<float>(bits);
      CHECK(value == rounded({exact}, 1, WeightType::bfloat16)[0]);
    } else {
      const cpu::Int8Group& group = x.groups[column / kGroup * (x.stride / kGroup) + row];
      const std::int8_t* values = static_cast<const std::int8_t*>(x.out) + at;
      value = double{group.scale} * *values;
      CHECK(std::abs(value - exact) <= 0.501 * group.scale);
      CHECK(group.offset == -kInt8Offset * sum(values - column % kGroup));
    }
    if (column >= columns_) {
      CHECK(value == 0);
    } else {
      read_[row * columns_ + column] = value;
    }
  }
  static int sum(const std::int8_t* values) { return std::accumulate(values, values + kGroup, 0); }

  std::size_t columns_;
  Values read_;
  Matrix matrix_;
  RoundedCopy copy_;
};

constexpr float kBefore = 0.25f;

// out (rows x stride), of which a product has written (rows x outputs), against the definition.
// float32 sums of about unit size over at most a few hundred terms.
template <typename Read>
void check_sums(const std::vector<float>& out, std::size_t stride, const Tensor& tensor,
                const Values& matrix, bool accumulate, Read read) {
  for (std::size_t at = 0; at < out.size(); ++at) {
    const std::size_t column = at % stride;
    const bool written = column < tensor.outputs;
    double expected = accumulate || !written ? kBefore : 0;
    for (std::size_t i = 0; i < tensor.inputs && written; ++i) {
      expected += read(at / stride, i) * matrix[column * tensor.inputs + i];
    }
    CHECK(std::abs(out[at] - expected) < 5e-6);
  }
}

const float* scales(const PackedWeights& weights, const Tensor& tensor) {
  return weights.type() == WeightType::int8 ? weights.scales(tensor) : nullptr;
}

void check_product(const cpu::Arithmetic& arithmetic, const PackedWeights& weights,
                   const Tensor& tensor, const Values& matrix, std::size_t rows) {
  const bool accumulate = rows % 2 == 0;
  const Activations activations(arithmetic, rows, tensor.inputs);
  const std::size_t stride = tensor.outputs + 3;
  std::vector<float> out(rows * stride, kBefore);
  arithmetic.product({rows, tensor.inputs, tensor.outputs, activations.operand(),
                      weights.data(tensor), weights.data(tensor), scales(weights, tensor),
                      out.data(), stride, accumulate});
  check_sums(out, stride, tensor, matrix, accumulate,
             [&](std::size_t row, std::size_t i) { return activations.read(row, i); });
}

void check_short_product(const cpu::Kernels& kernels, const PackedWeights& weights,
                         const Tensor& tensor, const Values& matrix, std::size_t rows) {
  Random random(rows);
  const std::size_t stride = tensor.outputs + tensor.inputs + 1;
  std::vector<float> in(rows * stride);
  for (float& x : in) x = static_cast<float>(random.next());
  std::vector<float> out(rows * stride, kBefore);
  kernels.short_product[static_cast<std::size_t>(weights.type())](
      {rows, tensor.inputs, tensor.outputs, in.data(), weights.data(tensor),
       scales(weights, tensor), out.data(), stride});
  check_sums(out, stride, tensor, matrix, true,
             [&](std::size_t row, std::size_t i) { return in[row * stride + i]; });
}

void check_products(const cpu::Kernels& kernels, const Network& network, WeightType type) {
  constexpr std::size_t kRows[] = {1,  2,  3,  4,  5,  6,  7,  13, 14, 15,
                                   16, 17, 24, 25, 28, 29, 31, 32, 33, 40};
  const std::size_t index = static_cast<std::size_t>(type);
  const std::shared_ptr<const PackedWeights> weights = network.pack(type);
  const Network as_kept = network.rounded(type);
  const DenseSubnet& subnet = weights->layout().blocks[0].dense[kShift];
  const Tensor& chain = subnet.chain[1];
  for (const std::size_t rows : kRows) {
    for (const Tensor* tensor : {&subnet.hidden, &subnet.direct, &chain, &subnet.output}) {
      const Values& matrix = as_kept.tensors.at(tensor->name);
      check_product(kernels.fast[index], *weights, *tensor, matrix, rows);
      check_product(kernels.exact[index], *weights, *tensor, matrix, rows);
    }
    check_short_product(kernels, *weights, chain, as_kept.tensors.at(chain.name), rows);
  }
}

void products_follow_the_definition() {
  constexpr std::uint32_t kShapes[][2] = {{1, 1}, {31, 4}, {33, 5}, {64, 8}, {70, 17}};
  for (const cpu::Kernels& kernels : variants()) {
    if (kernels.enter_thread) kernels.enter_thread();
    for (const auto& [dim, growth] : kShapes) {
      const Network network = random_network(dim, growth, 1, 1);
      for (const WeightType type : kTypes) check_products(kernels, network, type);
    }
    if (kernels.leave_thread) kernels.leave_thread();
  }
}

}  // namespace

const std::vector<Test> packed_tests = {
    {"blocks survive and damage is found", false, blocks_survive_and_damage_is_found},
    {"products follow the definition", false, products_follow_the_definition},
};

}  // namespace lreorg::test
