// Test-only: a library in place of libnvinfer, libnvinfer_plugin and libnvonnxparser, with the nine
// C functions that the Python bindings of TensorRT import. It has a plugin registry that loads
// libraries as TensorRT does, and nothing else: no builder, no runtime, no parser.
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#define STANDIN extern "C" __attribute__((visibility("default")))

namespace {

using namespace nvinfer1;

// What was logged last, for the test.
std::string last_message;

class Log final : public ILogger {
 public:
  void log(Severity, const AsciiChar* message) noexcept override { last_message = message; }
};

class Finder final : public ILoggerFinder {
 public:
  ILogger* findLogger() override { return &log_; }

 private:
  Log log_;
};

class Registry final : public IPluginRegistry {
 public:
#if NV_TENSORRT_MAJOR < 11
  bool registerCreator(IPluginCreator&, const AsciiChar*) noexcept override { return false; }
  IPluginCreator* const* getPluginCreatorList(std::int32_t* count) const noexcept override {
    *count = 0;
    return nullptr;
  }
  IPluginCreator* getPluginCreator(const AsciiChar*, const AsciiChar*,
                                   const AsciiChar*) noexcept override {
    return nullptr;
  }
  bool deregisterCreator(const IPluginCreator&) noexcept override { return false; }
#endif
  void setErrorRecorder(IErrorRecorder*) noexcept override {}
  IErrorRecorder* getErrorRecorder() const noexcept override { return nullptr; }
  bool isParentSearchEnabled() const override { return true; }
  void setParentSearchEnabled(bool) override {}

  void* loadLibrary(const AsciiChar* path) noexcept override {
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      last_message = dlerror();
      return nullptr;
    }
    using SetFinder = void (*)(ILoggerFinder*);
    using GetCreators = IPluginCreatorInterface* const* (*)(std::int32_t&);
    const auto set = reinterpret_cast<SetFinder>(dlsym(library, "setLoggerFinder"));
    const auto get = reinterpret_cast<GetCreators>(dlsym(library, "getCreators"));
    if (set == nullptr || get == nullptr) return nullptr;
    set(&finder_);
    std::int32_t count = 0;
    IPluginCreatorInterface* const* creators = get(count);
    for (std::int32_t i = 0; i < count; ++i) creators_.push_back(creators[i]);
    return library;
  }
  void deregisterLibrary(void* library) noexcept override {
    creators_.clear();
    dlclose(library);
  }
  bool registerCreator(IPluginCreatorInterface& creator, const AsciiChar*) noexcept override {
    creators_.push_back(&creator);
    return true;
  }
  IPluginCreatorInterface* const* getAllCreators(std::int32_t* count) const noexcept override {
    *count = static_cast<std::int32_t>(creators_.size());
    return creators_.data();
  }
  IPluginCreatorInterface* getCreator(const AsciiChar* name, const AsciiChar* version,
                                      const AsciiChar* of_namespace) noexcept override {
    for (IPluginCreatorInterface* any : creators_) {
      if (std::string(any->getInterfaceInfo().kind) != "PLUGIN CREATOR_V3ONE") continue;
      auto* creator = static_cast<IPluginCreatorV3One*>(any);
      if (creator->getPluginName() == std::string(name) &&
          creator->getPluginVersion() == std::string(version) &&
          creator->getPluginNamespace() == std::string(of_namespace)) {
        return creator;
      }
    }
    return nullptr;
  }
  bool deregisterCreator(const IPluginCreatorInterface&) noexcept override { return false; }
  IPluginResource* acquirePluginResource(const AsciiChar*, IPluginResource*) noexcept override {
    return nullptr;
  }
  std::int32_t releasePluginResource(const AsciiChar*) noexcept override { return 1; }
#ifndef LREORG_WITHOUT_RECURSIVE
  IPluginCreatorInterface* const* getAllCreatorsRecursive(std::int32_t* count) noexcept override {
    return getAllCreators(count);
  }
#endif

 private:
  std::vector<IPluginCreatorInterface*> creators_;
  Finder finder_;
};

Registry registry;

}  // namespace

STANDIN IPluginRegistry* getPluginRegistry() {
  return &registry;
}
STANDIN IPluginRegistry* getBuilderPluginRegistry(std::int32_t) {
  return &registry;
}
STANDIN void* createInferBuilder_INTERNAL(void*, std::int32_t) {
  return nullptr;
}
STANDIN void* createInferRefitter_INTERNAL(void*, void*, std::int32_t) {
  return nullptr;
}
STANDIN void* createInferRuntime_INTERNAL(void*, std::int32_t) {
  return nullptr;
}
STANDIN void* createNvOnnxParser_INTERNAL(void*, void*, std::int32_t) {
  return nullptr;
}
STANDIN void* createNvOnnxParserRefitter_INTERNAL(void*, void*, std::int32_t) {
  return nullptr;
}
STANDIN std::int32_t getNvOnnxParserVersion() {
  return 0;
}
STANDIN bool initLibNvInferPlugins(void*, const char*) {
  return true;
}

// For the test: what the plugin said through TensorRT's logger, "" from the second time on.
STANDIN const char* standin_said() {
  static std::string said;
  said = last_message;
  last_message.clear();
  return said.c_str();
}
