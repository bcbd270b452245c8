#include "tensorrt/plugin.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "tensorrt/log.h"

namespace lreorg::tensorrt {
namespace {

using nvinfer1::DataType;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;

// What configurePlugin and onShapeChange answer.
constexpr std::int32_t kOk = 0;
constexpr std::int32_t kFailed = 1;

void check(const char* failure) {
  if (failure != nullptr) throw std::runtime_error(std::string(failure) + ".");
}

std::int32_t weight_type_of(DataType type) {
  switch (type) {
    case DataType::kBF16:
      return LREORG_CUDA_BFLOAT16;
    case DataType::kHALF:
      return LREORG_CUDA_FLOAT16;
    case DataType::kFLOAT:
      return LREORG_CUDA_FLOAT32;
    default:
      throw std::invalid_argument("matrices must be float32, float16 or bfloat16.");
  }
}

// The largest shapes of a profile.
std::vector<PluginTensorDesc> largest(const DynamicPluginTensorDesc* in, std::int32_t count) {
  std::vector<PluginTensorDesc> result;
  for (std::int32_t i = 0; i < count; ++i) {
    result.push_back(in[i].desc);
    result.back().dims = in[i].max;
  }
  return result;
}

}  // namespace

ReorganizePlugin::OnDevice::OnDevice(const NodeProgram& program) {
  const auto upload = [](const auto& items, void** to) {
    // A program without steps has no data and must have an address.
    const std::uint64_t bytes = items.size() * sizeof(items[0]);
    constexpr std::int32_t kNothing = 0;
    check(bytes > 0 ? lreorg_cuda_upload(items.data(), bytes, to)
                    : lreorg_cuda_upload(&kNothing, sizeof(kNothing), to));
  };
  upload(program.steps(), &steps);
  try {
    upload(program.lanes(), &lanes);
  } catch (...) {
    lreorg_cuda_free(steps);
    throw;
  }
}

ReorganizePlugin::OnDevice::~OnDevice() {
  lreorg_cuda_free(steps);
  lreorg_cuda_free(lanes);
}

ReorganizePlugin::ReorganizePlugin(NodeProgram program, float clamp, std::int64_t workspace_bytes)
    : program_(std::move(program)), clamp_(clamp), workspace_bytes_(workspace_bytes) {
  values_.resize(static_cast<std::size_t>(program_.num_values()));
  output_of_.assign(values_.size(), -1);
  for (std::int32_t i = 0; i < program_.num_outputs(); ++i) {
    const std::int32_t value = program_.outputs()[static_cast<std::size_t>(i)];
    if (value >= program_.num_inputs()) output_of_[static_cast<std::size_t>(value)] = i;
  }
}

nvinfer1::IPluginCapability* ReorganizePlugin::getCapabilityInterface(
    nvinfer1::PluginCapabilityType type) noexcept {
  switch (type) {
    case nvinfer1::PluginCapabilityType::kCORE:
      return static_cast<nvinfer1::IPluginV3OneCore*>(this);
    case nvinfer1::PluginCapabilityType::kBUILD:
      return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
    case nvinfer1::PluginCapabilityType::kRUNTIME:
      return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
  }
  return nullptr;
}

nvinfer1::IPluginV3* ReorganizePlugin::clone() noexcept {
  return guarded<nvinfer1::IPluginV3*>(nullptr, [&] {
    auto copy = std::make_unique<ReorganizePlugin>(program_, clamp_, workspace_bytes_);
    copy->on_device_ = on_device_;
    copy->sizes_ = sizes_;
    return copy.release();
  });
}

std::int32_t ReorganizePlugin::configurePlugin(const DynamicPluginTensorDesc* in,
                                               std::int32_t inputs, const DynamicPluginTensorDesc*,
                                               std::int32_t) noexcept {
  return guarded(kFailed, [&] {
    const Sizes found = sizes(largest(in, inputs));
    workspace_bytes_ = std::max(workspace_bytes_, static_cast<std::int64_t>(found.workspace.bytes));
    return kOk;
  });
}

std::int32_t ReorganizePlugin::getOutputDataTypes(DataType* types, std::int32_t outputs,
                                                  const DataType*, std::int32_t) const noexcept {
  if (outputs != program_.num_outputs()) return kFailed;
  std::fill_n(types, outputs, DataType::kFLOAT);
  return kOk;
}

std::int32_t ReorganizePlugin::getOutputShapes(const nvinfer1::DimsExprs* in, std::int32_t inputs,
                                               const nvinfer1::DimsExprs*, std::int32_t,
                                               nvinfer1::DimsExprs* out, std::int32_t outputs,
                                               nvinfer1::IExprBuilder&) noexcept {
  if (inputs != program_.node_inputs() || outputs != program_.num_outputs()) {
    log_error("the node has " + std::to_string(inputs) + " inputs and " + std::to_string(outputs) +
              " outputs; its program asks for " + std::to_string(program_.node_inputs()) + " and " +
              std::to_string(program_.num_outputs()) + "; export the file again.");
    return kFailed;
  }
  std::fill_n(out, outputs, in[0]);
  return kOk;
}

bool ReorganizePlugin::supportsFormatCombination(std::int32_t position,
                                                 const DynamicPluginTensorDesc* all,
                                                 std::int32_t inputs,
                                                 std::int32_t outputs) noexcept {
  if (inputs != program_.node_inputs() || outputs != program_.num_outputs()) return false;
  const PluginTensorDesc& asked = all[position].desc;
  if (asked.format != nvinfer1::TensorFormat::kLINEAR) return false;
  const std::int32_t of_model = position - program_.num_inputs();
  if (of_model < 0 || of_model >= kModelInputs || !is_matrix(static_cast<Input>(of_model))) {
    return asked.type == DataType::kFLOAT;
  }
  if (of_model > kCondition) {
    return asked.type == all[program_.num_inputs() + kCondition].desc.type;
  }
  return asked.type == DataType::kFLOAT || asked.type == DataType::kHALF ||
         asked.type == DataType::kBF16;
}

std::size_t ReorganizePlugin::getWorkspaceSize(const DynamicPluginTensorDesc* in,
                                               std::int32_t inputs, const DynamicPluginTensorDesc*,
                                               std::int32_t) const noexcept {
  return guarded<std::size_t>(0, [&] { return sizes(largest(in, inputs)).workspace.bytes; });
}

std::int32_t ReorganizePlugin::onShapeChange(const PluginTensorDesc* in, std::int32_t inputs,
                                             const PluginTensorDesc*, std::int32_t) noexcept {
  return guarded(kFailed, [&] {
    sizes_ = sizes({in, static_cast<std::size_t>(inputs)});
    // The device may choose other sizes than where the engine was built.
    if (workspace_bytes_ > 0 &&
        sizes_.workspace.bytes > static_cast<std::uint64_t>(workspace_bytes_)) {
      throw std::runtime_error("this device needs " + std::to_string(sizes_.workspace.bytes) +
                               " bytes of workspace and the engine was built with " +
                               std::to_string(workspace_bytes_) + "; build it on this device.");
    }
    return kOk;
  });
}

std::int32_t ReorganizePlugin::enqueue(const PluginTensorDesc*, const PluginTensorDesc*,
                                       const void* const* inputs, void* const* outputs,
                                       void* workspace, cudaStream_t stream) noexcept {
  if (sizes_.shape.tokens() == 0) return kOk;
  const char* failure = on_device_ == nullptr
                            ? "the plugin was not attached to a context"
                            : queue(inputs, outputs, static_cast<std::byte*>(workspace), stream);
  if (failure == nullptr) return kOk;
  return guarded(kFailed, [&] {
    log_error(std::string(failure) + ".");
    return kFailed;
  });
}

nvinfer1::IPluginV3* ReorganizePlugin::attachToContext(nvinfer1::IPluginResourceContext*) noexcept {
  return guarded<nvinfer1::IPluginV3*>(nullptr, [&] {
    auto copy = std::make_unique<ReorganizePlugin>(program_, clamp_, workspace_bytes_);
    copy->on_device_ = std::make_shared<const OnDevice>(program_);
    return copy.release();
  });
}

const nvinfer1::PluginFieldCollection* ReorganizePlugin::getFieldsToSerialize() noexcept {
  using nvinfer1::PluginFieldType;
  fields_[0] = {"clamp", &clamp_, PluginFieldType::kFLOAT32, 1};
  fields_[1] = {"program", program_.attribute().data(), PluginFieldType::kINT32,
                static_cast<std::int32_t>(program_.attribute().size())};
  fields_[2] = {"workspace_bytes", &workspace_bytes_, PluginFieldType::kINT64, 1};
  serialized_.nbFields = static_cast<std::int32_t>(fields_.size());
  serialized_.fields = fields_.data();
  return &serialized_;
}

ReorganizePlugin::Sizes ReorganizePlugin::sizes(std::span<const PluginTensorDesc> inputs) const {
  std::vector<Extents> shapes;
  for (const PluginTensorDesc& desc : inputs) {
    shapes.emplace_back(desc.dims.d, static_cast<std::size_t>(std::max(desc.dims.nbDims, 0)));
  }
  Sizes result;
  result.shape = node_shape(program_, shapes, clamp_);
  const auto first_matrix = static_cast<std::size_t>(program_.num_inputs() + kCondition);
  result.weight_type = weight_type_of(inputs[first_matrix].type);
  std::int32_t device = 0;
  check(lreorg_cuda_current_device(&device));
  const LreorgCudaCall asked = call(result);
  check(lreorg_cuda_plan(&asked, device, &result.plan));
  result.workspace = make_workspace(
      program_, result.shape,
      lreorg_cuda_weights_bytes(&result.shape.network, result.weight_type, result.plan.group),
      result.plan.scratch_bytes);
  return result;
}

// Without what lies on the device.
LreorgCudaCall ReorganizePlugin::call(const Sizes& sizes) const {
  LreorgCudaCall result{};
  result.shape = sizes.shape.network;
  result.weight_type = sizes.weight_type;
  result.tier = LREORG_CUDA_AUTO;
  result.host_steps = program_.steps().data();
  result.host_lanes = program_.lanes().data();
  result.num_steps = static_cast<std::int32_t>(program_.steps().size());
  result.num_lanes = static_cast<std::int32_t>(program_.lanes().size());
  result.num_values = program_.num_values();
  result.tokens = sizes.shape.tokens();
  return result;
}

// Nothing here allocates, waits or keeps anything of a call: weights are packed anew, since they
// may be refitted, and that is 64 MB to and from memory beside 640 exchanges.
const char* ReorganizePlugin::queue(const void* const* inputs, void* const* outputs,
                                    std::byte* workspace, void* stream) {
  const Workspace& at = sizes_.workspace;
  const auto num_inputs = static_cast<std::size_t>(program_.num_inputs());
  for (std::size_t i = 0; i < values_.size(); ++i) {
    if (i < num_inputs) {
      values_[i] = static_cast<float*>(const_cast<void*>(inputs[i]));  // never written
    } else if (output_of_[i] >= 0) {
      values_[i] = static_cast<float*>(outputs[output_of_[i]]);
    } else {
      values_[i] =
          reinterpret_cast<float*>(workspace + at.values + (i - num_inputs) * at.value_bytes);
    }
  }
  const void* const* model = inputs + num_inputs;
  const LreorgCudaMatrices matrices{model[kCondition],
                                    model[kHidden],
                                    model[kChain],
                                    model[kDirect],
                                    model[kOutput],
                                    static_cast<const float*>(model[kHiddenBias]),
                                    static_cast<const float*>(model[kOutputBias])};
  LreorgCudaCall asked = call(sizes_);
  asked.weights = workspace + at.weights;
  asked.constants = static_cast<const float*>(model[kConstants]);
  asked.steps = static_cast<const LreorgCudaStep*>(on_device_->steps);
  asked.lanes = static_cast<const LreorgCudaLane*>(on_device_->lanes);
  asked.values = values_.data();
  asked.scratch = workspace + at.scratch;
  asked.scratch_bytes = sizes_.plan.scratch_bytes;
  asked.status = reinterpret_cast<std::int32_t*>(workspace + at.status);
  asked.stream = stream;
  const char* failure = nullptr;
  if (asked.num_steps > 0) {
    failure = lreorg_cuda_pack(&asked.shape, asked.weight_type, sizes_.plan.group, &matrices,
                               workspace + at.weights, stream);
    if (failure == nullptr) failure = lreorg_cuda_run(&asked, &sizes_.plan);
  }
  // Outputs that are inputs, or the same value as another output.
  const auto bytes = static_cast<std::uint64_t>(asked.tokens) *
                     static_cast<std::uint64_t>(asked.shape.dim) * sizeof(float);
  for (std::size_t i = 0; failure == nullptr && i < program_.outputs().size(); ++i) {
    const float* value = values_[static_cast<std::size_t>(program_.outputs()[i])];
    if (value != outputs[i]) failure = lreorg_cuda_copy(outputs[i], value, bytes, stream);
  }
  return failure;
}

}  // namespace lreorg::tensorrt
