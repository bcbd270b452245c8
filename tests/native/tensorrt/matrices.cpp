#include "tensorrt/matrices.h"

namespace lreorg::test {
namespace {

const char* const kRoleNames[kRoles] = {"add", "scale", "shift"};

}  // namespace

Values stacked(const Network& network, const std::string& group, const std::string& part) {
  Values result;
  for (std::uint32_t block = 0; block < network.shape.num_blocks; ++block) {
    for (const char* role : kRoleNames) {
      const Values& tensor =
          network.tensors.at("blocks." + std::to_string(block) + "." + group + "." + role + part);
      result.insert(result.end(), tensor.begin(), tensor.end());
    }
  }
  return result;
}

Values chains(const Network& network) {
  const std::size_t g = network.shape.growth, all = network.shape.hidden();
  Values result(network.shape.num_blocks * kRoles * all * all);
  for (std::size_t layer = 1; layer < kHiddenLayers; ++layer) {
    const Values of_layer = stacked(network, "dense", ".chain." + std::to_string(layer));
    const std::size_t width = layer * g;
    for (std::size_t i = 0; i < of_layer.size(); ++i) {
      const std::size_t subnet = i / (g * width), row = i / width % g, column = i % width;
      result[(subnet * all + layer * g + row) * all + column] = of_layer[i];
    }
  }
  return result;
}

}  // namespace lreorg::test
