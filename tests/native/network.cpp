#include "network.h"

#include <algorithm>
#include <cmath>

#include "check.h"

namespace lreorg::test {
namespace {

const char* const kRoleNames[kRoles] = {"add", "scale", "shift"};

// out (outputs) += matrix (outputs x inputs) * x (inputs)
void multiply_add(const Values& matrix, const Values& x, std::size_t inputs, Values& out) {
  CHECK(matrix.size() == out.size() * inputs && x.size() >= inputs);
  for (std::size_t o = 0; o < out.size(); ++o) {
    for (std::size_t i = 0; i < inputs; ++i) out[o] += matrix[o * inputs + i] * x[i];
  }
}

// To 8 significant bits, half to even.
double to_bfloat16(double x) {
  int exponent;
  const double mantissa = std::frexp(x, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(mantissa, 8)), exponent - 8);
}

void round_int8(double* row, std::size_t inputs) {
  double largest = 0;
  for (std::size_t i = 0; i < inputs; ++i) largest = std::max(largest, std::abs(row[i]));
  const double scale = static_cast<float>(largest / 127);
  for (std::size_t i = 0; i < inputs && scale > 0; ++i) {
    row[i] = scale * std::clamp(std::nearbyint(row[i] / scale), -127.0, 127.0);
  }
}

}  // namespace

Values rounded(const Values& matrix, std::size_t outputs, WeightType type) {
  Values result = matrix;
  const std::size_t inputs = matrix.size() / outputs;
  for (std::size_t o = 0; o < outputs && type == WeightType::int8; ++o) {
    round_int8(result.data() + o * inputs, inputs);
  }
  for (double& x : result) {
    if (type == WeightType::float32) x = static_cast<float>(x);
    if (type == WeightType::bfloat16) x = to_bfloat16(x);
  }
  return result;
}

std::shared_ptr<const PackedWeights> Network::pack(WeightType type) const {
  const Layout layout = make_layout(shape, type);
  std::map<std::string, Source> sources;
  for (const BlockTensors& block : layout.blocks) {
    block.for_each([&](const Tensor& tensor) {
      sources[tensor.name] = {tensors.at(tensor.name).data(), tensor.outputs, tensor.inputs};
    });
  }
  return std::make_shared<const PackedWeights>(PackedWeights::pack(
      shape, type, [&sources](const std::string& name) { return sources.at(name); }));
}

Network Network::rounded(WeightType type) const {
  Network result = *this;
  for (const BlockTensors& block : make_layout(shape, type).blocks) {
    block.for_each([&](const Tensor& tensor) {
      result.tensors[tensor.name] = test::rounded(tensors.at(tensor.name), tensor.outputs,
                                                  tensor.is_vector() ? WeightType::float32 : type);
    });
  }
  return result;
}

const Values& Network::at(std::size_t block, const std::string& name) const {
  return tensors.at("blocks." + std::to_string(block) + "." + name);
}

Values Network::condition(std::size_t block, Role role, std::size_t keyword,
                          const Values& x) const {
  const float* constant =
      constants.data() + ((keyword * shape.num_blocks + block) * kRoles + role) * shape.dim;
  Values out(constant, constant + shape.dim);
  multiply_add(at(block, std::string("condition.") + kRoleNames[role]), x, shape.dim, out);
  return out;
}

Values Network::dense(std::size_t block, Role role, const Values& x) const {
  const std::string name = std::string("dense.") + kRoleNames[role];
  Values hidden = at(block, name + ".hidden_bias");
  multiply_add(at(block, name + ".hidden"), x, shape.dim, hidden);
  for (std::size_t i = 0; i < kHiddenLayers; ++i) {
    const std::size_t before = i * shape.growth;
    const auto begin = hidden.begin() + static_cast<std::ptrdiff_t>(before);
    Values layer(begin, begin + shape.growth);
    if (i > 0) {
      multiply_add(at(block, name + ".chain." + std::to_string(i)), hidden, before, layer);
    }
    for (std::size_t g = 0; g < shape.growth; ++g) {
      hidden[before + g] = layer[g] > 0 ? layer[g] : kLeakySlope * layer[g];
    }
  }
  Values out = at(block, name + ".output_bias");
  multiply_add(at(block, name + ".direct"), x, shape.dim, out);
  multiply_add(at(block, name + ".output"), hidden, shape.hidden(), out);
  return out;
}

double Network::coupling(double x) const {
  return std::exp(shape.clamp * (2 / (1 + std::exp(-x)) - 1));
}

void Network::disentangle(Values& h1, Values& h2, std::size_t keyword) const {
  const auto add = [&](const Values& change) {
    for (std::size_t i = 0; i < shape.dim; ++i) h1[i] += change[i];
  };
  const auto scale_shift = [&](const Values& scale, const Values& shift) {
    for (std::size_t i = 0; i < shape.dim; ++i) h2[i] = h2[i] * coupling(scale[i]) + shift[i];
  };
  for (std::size_t b = 0; b < shape.num_blocks; ++b) {
    add(condition(b, kAdd, keyword, h2));
    scale_shift(condition(b, kScale, keyword, h1), condition(b, kShift, keyword, h1));
    add(dense(b, kAdd, h2));
    scale_shift(dense(b, kScale, h1), dense(b, kShift, h1));
  }
}

void Network::fuse(Values& g1, Values& g2, std::size_t keyword) const {
  const auto subtract = [&](const Values& change) {
    for (std::size_t i = 0; i < shape.dim; ++i) g1[i] -= change[i];
  };
  const auto unscale_shift = [&](const Values& scale, const Values& shift) {
    for (std::size_t i = 0; i < shape.dim; ++i) g2[i] = (g2[i] - shift[i]) / coupling(scale[i]);
  };
  for (std::size_t b = shape.num_blocks; b-- > 0;) {
    unscale_shift(dense(b, kScale, g1), dense(b, kShift, g1));
    subtract(dense(b, kAdd, g2));
    unscale_shift(condition(b, kScale, keyword, g1), condition(b, kShift, keyword, g1));
    subtract(condition(b, kAdd, keyword, g2));
  }
}

Network random_network(std::uint32_t dim, std::uint32_t growth, std::uint32_t blocks,
                       std::size_t keywords) {
  Network network{{dim, 1, blocks, growth, 1.0f}, {}, {}};
  Random random(dim * 1000 + growth * 10 + blocks);
  for (const BlockTensors& block : make_layout(network.shape, WeightType::float32).blocks) {
    block.for_each([&](const Tensor& tensor) {
      // Products a third as large as what they read: more, and blocks amplify rounding errors.
      const std::size_t inputs = std::max<std::size_t>(tensor.inputs, 1);
      const double size = tensor.is_vector() ? 0.2 : 0.5 / std::sqrt(static_cast<double>(inputs));
      Values values(tensor.outputs * inputs);
      for (double& x : values) x = static_cast<float>(size * random.next());
      network.tensors[tensor.name] = std::move(values);
    });
  }
  network.constants.resize(keywords * blocks * kRoles * dim);
  for (float& x : network.constants) x = static_cast<float>(0.3 * random.next());
  return network;
}

}  // namespace lreorg::test
