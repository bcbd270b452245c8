// What TensorRT asks of a plugin library: makers of plugins, and a place for its logger. These two
// functions are all that the library exports.
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tensorrt/log.h"
#include "tensorrt/plugin.h"

namespace lreorg::tensorrt {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

constexpr float kDefaultClamp = 2.0f;  // as lreorg_fast.CDFNetConfig

class ReorganizeCreator final : public nvinfer1::IPluginCreatorV3One {
 public:
  const char* getPluginName() const noexcept override { return kName; }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return &names_; }

  nvinfer1::IPluginV3* createPlugin(const char*, const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase) noexcept override {
    return guarded<nvinfer1::IPluginV3*>(nullptr, [&] { return create(fields).release(); });
  }

 private:
  static std::unique_ptr<ReorganizePlugin> create(const nvinfer1::PluginFieldCollection* given) {
    float clamp = kDefaultClamp;
    std::vector<std::int32_t> program;
    std::int64_t workspace_bytes = 0;
    const std::int32_t count = given == nullptr ? 0 : given->nbFields;
    for (std::int32_t i = 0; i < count; ++i) {
      const PluginField& field = given->fields[i];
      const std::string name = field.name == nullptr ? "" : field.name;
      if (name == "clamp") clamp = single<float>(field, PluginFieldType::kFLOAT32);
      if (name == "program") program = integers(field);
      if (name == "workspace_bytes") {
        workspace_bytes = single<std::int64_t>(field, PluginFieldType::kINT64);
      }
    }
    if (!std::isfinite(clamp) || clamp <= 0) {
      throw std::invalid_argument("attribute 'clamp' is " + std::to_string(clamp) +
                                  "; it must be positive.");
    }
    // No default: another program than the network's would hide something else, or nothing.
    if (program.empty()) {
      throw std::invalid_argument("attribute 'program' is missing; export the file again.");
    }
    return std::make_unique<ReorganizePlugin>(NodeProgram(std::move(program)), clamp,
                                              workspace_bytes);
  }

  template <class Value>
  static Value single(const PluginField& field, PluginFieldType type) {
    if (field.type != type || field.length != 1 || field.data == nullptr) {
      throw std::invalid_argument("attribute '" + std::string(field.name) +
                                  "' has another type than the node's description.");
    }
    Value value;
    std::memcpy(&value, field.data, sizeof(value));
    return value;
  }

  // Parsers of ONNX hand integers over as 32 or as 64 bits.
  static std::vector<std::int32_t> integers(const PluginField& field) {
    const bool wide = field.type == PluginFieldType::kINT64;
    if ((!wide && field.type != PluginFieldType::kINT32) || field.length < 0 ||
        field.data == nullptr) {
      throw std::invalid_argument("attribute 'program' must be integers.");
    }
    std::vector<std::int32_t> result;
    for (std::int32_t i = 0; i < field.length; ++i) {
      const std::int64_t value = wide ? static_cast<const std::int64_t*>(field.data)[i]
                                      : static_cast<const std::int32_t*>(field.data)[i];
      if (value != static_cast<std::int32_t>(value)) {
        throw std::invalid_argument("attribute 'program' holds a number beyond 32 bits.");
      }
      result.push_back(static_cast<std::int32_t>(value));
    }
    return result;
  }

  // Where a node lacks an attribute TensorRT only warns: createPlugin then takes the default of
  // CDFNetConfig, or refuses.
  std::array<PluginField, 2> fields_{
      PluginField{"clamp", &kDefaultClamp, PluginFieldType::kFLOAT32, 1},
      PluginField{"program", nullptr, PluginFieldType::kINT32, 0}};
  nvinfer1::PluginFieldCollection names_{static_cast<std::int32_t>(fields_.size()), fields_.data()};
};

}  // namespace
}  // namespace lreorg::tensorrt

#define LREORG_EXPORT __attribute__((visibility("default")))

extern "C" LREORG_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
  lreorg::tensorrt::set_logger_finder(finder);
}

extern "C" LREORG_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(
    std::int32_t& count) {
  static lreorg::tensorrt::ReorganizeCreator creator;
  static nvinfer1::IPluginCreatorInterface* const creators[] = {&creator};
  count = 1;
  return creators;
}

namespace {

// Some hosts open plugin libraries without asking them for anything: Triton Inference Server,
// DeepStream, trtexec --staticPlugins. For them the library registers itself, with the TensorRT
// that is loaded, if the environment says so. Not always: the registry is that of the process, and
// other builders in it would find the plugin without having chosen it.
constexpr const char* kRegister = "LREORG_TENSORRT_REGISTER";

__attribute__((constructor)) void register_if_asked() {
  const char* asked = std::getenv(kRegister);
  if (asked == nullptr || std::strcmp(asked, "1") != 0) return;
  using Get = nvinfer1::IPluginRegistry* (*)();
  const auto get = reinterpret_cast<Get>(dlsym(RTLD_DEFAULT, "getPluginRegistry"));
  nvinfer1::IPluginRegistry* registry = get == nullptr ? nullptr : get();
  std::int32_t count = 0;
  nvinfer1::IPluginCreatorInterface* const* creators = getCreators(count);
  if (registry == nullptr ||
      !registry->registerCreator(*creators[0], lreorg::tensorrt::kNamespace)) {
    lreorg::tensorrt::log_error(std::string(kRegister) +
                                " is 1, but TensorRT is not loaded or refuses the plugin.");
  }
}

}  // namespace
