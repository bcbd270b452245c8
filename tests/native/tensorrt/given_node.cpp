#include "tensorrt/given_node.h"

#include <algorithm>
#include <cstring>

#include "cuda/reorganize.h"
#include "tensorrt/launchers.h"
#include "tensorrt/matrices.h"

namespace lreorg::test {
namespace {

using nvinfer1::DataType;

DataType type_of(std::int32_t weight_type) {
  if (weight_type == LREORG_CUDA_BFLOAT16) return DataType::kBF16;
  return weight_type == LREORG_CUDA_FLOAT16 ? DataType::kHALF : DataType::kFLOAT;
}

Input floats(std::vector<std::int64_t> extents, const float* data, std::size_t count) {
  Input result{std::move(extents), DataType::kFLOAT, std::vector<std::byte>(count * sizeof(float))};
  std::memcpy(result.data.data(), data, result.data.size());
  return result;
}

}  // namespace

nvinfer1::PluginTensorDesc desc_of(const std::vector<std::int64_t>& extents, DataType type) {
  nvinfer1::PluginTensorDesc result{};
  result.dims.nbDims = static_cast<std::int32_t>(extents.size());
  std::copy(extents.begin(), extents.end(), result.dims.d);
  result.type = type;
  result.format = nvinfer1::TensorFormat::kLINEAR;
  return result;
}

Node::Node(const Network& network, std::size_t keywords, std::int32_t weight_type,
           std::int64_t faces, std::int64_t rows, const std::vector<std::vector<float>>& values)
    : num_values_(values.size()) {
  const std::int64_t n = network.shape.num_blocks, dim = network.shape.dim, r = kRoles;
  const auto all = static_cast<std::int64_t>(network.shape.hidden());
  const auto matrix = [&](std::vector<std::int64_t> extents, const Values& data) {
    inputs.push_back(
        {std::move(extents), type_of(weight_type), launchers::as_weights(data, weight_type)});
  };
  const auto vector = [&](std::vector<std::int64_t> extents, const Values& data) {
    const std::vector<float> narrow(data.begin(), data.end());
    inputs.push_back(floats(std::move(extents), narrow.data(), narrow.size()));
  };
  for (const std::vector<float>& value : values) {
    inputs.push_back(floats({faces, rows, dim}, value.data(), value.size()));
  }
  inputs.push_back(floats({static_cast<std::int64_t>(keywords), n, r, dim},
                          network.constants.data(), network.constants.size()));
  matrix({n, r, dim, dim}, stacked(network, "condition", ""));
  matrix({n, r, all, dim}, stacked(network, "dense", ".hidden"));
  vector({n, r, all}, stacked(network, "dense", ".hidden_bias"));
  matrix({n, r, all, all}, chains(network));
  matrix({n, r, dim, dim}, stacked(network, "dense", ".direct"));
  matrix({n, r, dim, all}, stacked(network, "dense", ".output"));
  vector({n, r, dim}, stacked(network, "dense", ".output_bias"));
}

std::vector<nvinfer1::PluginTensorDesc> Node::descs() const {
  std::vector<nvinfer1::PluginTensorDesc> result;
  for (const Input& input : inputs) result.push_back(desc_of(input.extents, input.type));
  return result;
}

std::vector<nvinfer1::DynamicPluginTensorDesc> Node::dynamic(std::int64_t most) const {
  std::vector<nvinfer1::DynamicPluginTensorDesc> result;
  for (const nvinfer1::PluginTensorDesc& desc : descs()) {
    nvinfer1::DynamicPluginTensorDesc any{desc, desc.dims, desc.dims, desc.dims};
    if (result.size() < num_values_) {
      any.desc.dims.d[0] = -1;
      any.min.d[0] = 1;
      any.max.d[0] = most;
    }
    result.push_back(any);
  }
  return result;
}

std::vector<const void*> Node::addresses() const {
  std::vector<const void*> result;
  for (const Input& input : inputs) result.push_back(input.data.data());
  return result;
}

}  // namespace lreorg::test
