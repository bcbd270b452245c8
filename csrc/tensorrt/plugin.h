// The TensorRT plugin of one LreorgReorganize node. Compiles against TensorRT 10.9 and up and 11.
#pragma once

#include <NvInferRuntime.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "cuda/model.h"
#include "tensorrt/node.h"

namespace lreorg::tensorrt {

// Calls of one execution context come one after the other; other contexts have clones.
class ReorganizePlugin final : public nvinfer1::IPluginV3,
                               public nvinfer1::IPluginV3OneCore,
                               public nvinfer1::IPluginV3OneBuild,
                               public nvinfer1::IPluginV3OneRuntime {
 public:
  // `workspace_bytes`: what the engine was built with, 0 where that is not known.
  ReorganizePlugin(NodeProgram program, float clamp, std::int64_t workspace_bytes);

  nvinfer1::IPluginCapability* getCapabilityInterface(
      nvinfer1::PluginCapabilityType type) noexcept override;
  nvinfer1::IPluginV3* clone() noexcept override;

  const char* getPluginName() const noexcept override { return kName; }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

  std::int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* in, std::int32_t inputs,
                               const nvinfer1::DynamicPluginTensorDesc* out,
                               std::int32_t outputs) noexcept override;
  std::int32_t getOutputDataTypes(nvinfer1::DataType* types, std::int32_t outputs,
                                  const nvinfer1::DataType* input_types,
                                  std::int32_t inputs) const noexcept override;
  std::int32_t getOutputShapes(const nvinfer1::DimsExprs* in, std::int32_t inputs,
                               const nvinfer1::DimsExprs* shape_inputs,
                               std::int32_t num_shape_inputs, nvinfer1::DimsExprs* out,
                               std::int32_t outputs,
                               nvinfer1::IExprBuilder& builder) noexcept override;
  bool supportsFormatCombination(std::int32_t position,
                                 const nvinfer1::DynamicPluginTensorDesc* all, std::int32_t inputs,
                                 std::int32_t outputs) noexcept override;
  std::int32_t getNbOutputs() const noexcept override { return program_.num_outputs(); }
  std::size_t getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* in, std::int32_t inputs,
                               const nvinfer1::DynamicPluginTensorDesc* out,
                               std::int32_t outputs) const noexcept override;

  std::int32_t onShapeChange(const nvinfer1::PluginTensorDesc* in, std::int32_t inputs,
                             const nvinfer1::PluginTensorDesc* out,
                             std::int32_t outputs) noexcept override;
  std::int32_t enqueue(const nvinfer1::PluginTensorDesc* in, const nvinfer1::PluginTensorDesc* out,
                       const void* const* inputs, void* const* outputs, void* workspace,
                       cudaStream_t stream) noexcept override;
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext* context) noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override;

 private:
  // Steps and lanes in device memory, as the kernels read them: the same for all calls.
  struct OnDevice {
    explicit OnDevice(const NodeProgram& program);  // throws std::runtime_error
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;
    ~OnDevice();

    void* steps = nullptr;
    void* lanes = nullptr;
  };
  // What depends on shapes and the device alone.
  struct Sizes {
    NodeShape shape;
    std::int32_t weight_type = 0;
    LreorgCudaPlan plan{};
    Workspace workspace;
  };

  Sizes sizes(std::span<const nvinfer1::PluginTensorDesc> inputs) const;
  LreorgCudaCall call(const Sizes& sizes) const;
  const char* queue(const void* const* inputs, void* const* outputs, std::byte* workspace,
                    void* stream);

  NodeProgram program_;
  float clamp_;
  std::int64_t workspace_bytes_;
  std::shared_ptr<const OnDevice> on_device_;  // of a context
  Sizes sizes_;
  std::vector<float*> values_;           // of the call that is being queued
  std::vector<std::int32_t> output_of_;  // the output that a value is written to, or -1
  std::array<nvinfer1::PluginField, 3> fields_;
  nvinfer1::PluginFieldCollection serialized_;
};

}  // namespace lreorg::tensorrt
