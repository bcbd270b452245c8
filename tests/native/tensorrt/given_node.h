// A node as TensorRT would hand it to the plugin: its inputs in memory, and their descriptions.
#pragma once

#include <NvInferRuntime.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "network.h"

namespace lreorg::test {

struct Input {
  std::vector<std::int64_t> extents;
  nvinfer1::DataType type;
  std::vector<std::byte> data;
};

nvinfer1::PluginTensorDesc desc_of(const std::vector<std::int64_t>& extents,
                                   nvinfer1::DataType type);

class Node {
 public:
  // `values`: the program's inputs, each (faces x rows x dim).
  Node(const Network& network, std::size_t keywords, std::int32_t weight_type, std::int64_t faces,
       std::int64_t rows, const std::vector<std::vector<float>>& values);

  std::vector<Input> inputs;  // in the order of docs/export.md

  std::vector<nvinfer1::PluginTensorDesc> descs() const;
  // With batches from 1 to `most`.
  std::vector<nvinfer1::DynamicPluginTensorDesc> dynamic(std::int64_t most) const;
  std::vector<const void*> addresses() const;

 private:
  std::size_t num_values_;
};

}  // namespace lreorg::test
