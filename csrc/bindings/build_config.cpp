#include "build_config.h"

#include <string>

#include "cpu/kernels.h"
#ifdef LREORG_CUDA
#include "cuda/device.h"
#endif

namespace py = pybind11;

namespace lreorg::bindings {
namespace {

#if defined(__clang__)
constexpr const char* kCompiler = "Clang " __clang_version__;
#else
constexpr const char* kCompiler = "GCC " __VERSION__;
#endif

#ifdef LREORG_CUDA
std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

py::dict describe(const LreorgCudaDevice& device) {
  py::dict info;
  info["name"] = std::string(device.name);
  info["compute_capability"] = py::make_tuple(device.major, device.minor);
  info["multiprocessors"] = device.multiprocessors;
  info["memory_bytes"] = device.memory_bytes;
  return info;
}
#endif

}  // namespace

py::dict build_config() {
  py::list supported;
  const cpu::KernelList list = cpu::all_kernels();
  for (std::size_t i = 0; i < list.size; ++i) {
    if (list.items[i]->supported()) supported.append(list.items[i]->name);
  }
  py::dict config;
  config["version"] = LREORG_VERSION;
  config["compiler"] = kCompiler;
  config["cpu_kernels"] = supported;
  config["cuda_architectures"] = LREORG_CUDA_ARCHS;
  return config;
}

py::dict cuda_devices() {
  py::dict result;
  py::list devices;
  result["runtime"] = py::none();
  result["driver"] = py::none();
  result["reason"] = py::none();
#ifdef LREORG_CUDA
  result["built"] = true;
  const LreorgCudaVersions versions = lreorg_cuda_versions();
  result["runtime"] = version_text(versions.runtime);
  if (versions.driver > 0) result["driver"] = version_text(versions.driver);
  const char* reason = nullptr;
  const int count = lreorg_cuda_device_count(&reason);
  for (int i = 0; i < count && reason == nullptr; ++i) {
    LreorgCudaDevice device{};
    reason = lreorg_cuda_device(i, &device);
    if (reason == nullptr) devices.append(describe(device));
  }
  if (reason != nullptr) result["reason"] = reason;
#else
  result["built"] = false;
  result["reason"] = LREORG_CUDA_REASON;
#endif
  result["devices"] = devices;
  return result;
}

}  // namespace lreorg::bindings
