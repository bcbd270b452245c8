// Runs an engine of lf.export.tensorrt without Python: reads its inputs as raw float32 files, runs
// it and writes its outputs the same way.
//
//   render ENGINE FACES [PLUGIN]
//
// reads NAME.f32 for every input and writes NAME.f32 for every output in the working folder. PLUGIN
// is liblreorg_tensorrt_MAJOR.so, for engines that were built with it. What comes out is refused if
// anything in it is not finite: the host must look before it shows a picture. The random draw of a
// replacement, and the checks of the result, are the host's as well: docs/export.md.
#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

class Logger final : public nvinfer1::ILogger {
  void log(Severity severity, const char* message) noexcept override {
    if (severity <= Severity::kWARNING) std::fprintf(stderr, "TensorRT: %s\n", message);
  }
};

void require(bool condition, const std::string& what) {
  if (!condition) throw std::runtime_error(what);
}

void check(cudaError_t status, const char* what) {
  require(status == cudaSuccess, std::string(what) + ": " + cudaGetErrorString(status));
}

std::vector<char> read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  require(file.good(), "cannot read " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Free {
  void operator()(void* memory) const { cudaFree(memory); }
};
using DeviceMemory = std::unique_ptr<void, Free>;

int run(const std::string& engine_path, int faces, const char* plugin) {
  Logger logger;
  const std::unique_ptr<nvinfer1::IRuntime> runtime(nvinfer1::createInferRuntime(logger));
  require(runtime != nullptr, "there is no TensorRT runtime");
  // Before the engine is read: it names the plugin that it needs.
  if (plugin != nullptr) {
    require(runtime->getPluginRegistry().loadLibrary(plugin) != nullptr,
            std::string("cannot load ") + plugin);
  }
  const std::vector<char> plan = read(engine_path);
  const std::unique_ptr<nvinfer1::ICudaEngine> engine(
      runtime->deserializeCudaEngine(plan.data(), plan.size()));
  require(engine != nullptr, engine_path + " is of another GPU or version, or needs its plugin");
  const std::unique_ptr<nvinfer1::IExecutionContext> context(engine->createExecutionContext());
  require(context != nullptr, "cannot make a context");

  cudaStream_t stream = nullptr;
  check(cudaStreamCreate(&stream), "stream");
  std::map<std::string, DeviceMemory> memory;
  std::map<std::string, std::size_t> bytes;
  for (const bool inputs : {true, false}) {  // the shapes of outputs follow from those of inputs
    for (int i = 0; i < engine->getNbIOTensors(); ++i) {
      const char* name = engine->getIOTensorName(i);
      if ((engine->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT) != inputs) continue;
      require(engine->getTensorDataType(name) == nvinfer1::DataType::kFLOAT,
              std::string(name) + " is not float32");
      nvinfer1::Dims shape = inputs ? engine->getTensorShape(name) : context->getTensorShape(name);
      if (inputs && shape.d[0] == -1) shape.d[0] = faces;
      if (inputs) {
        require(context->setInputShape(name, shape), "no profile holds so many faces");
      }
      std::size_t size = sizeof(float);
      for (int d = 0; d < shape.nbDims; ++d) size *= static_cast<std::size_t>(shape.d[d]);
      void* address = nullptr;
      check(cudaMalloc(&address, size), "memory");
      memory[name].reset(address);
      bytes[name] = size;
      require(context->setTensorAddress(name, address), "address");
      if (!inputs) continue;
      const std::vector<char> given = read(std::string(name) + ".f32");
      require(given.size() == size,
              std::string(name) + ".f32 must have " + std::to_string(size) + " bytes");
      check(cudaMemcpyAsync(address, given.data(), size, cudaMemcpyHostToDevice, stream), "copy");
      check(cudaStreamSynchronize(stream), "copy");
    }
  }
  require(context->enqueueV3(stream), "TensorRT refuses the call");
  check(cudaStreamSynchronize(stream), "the call");

  for (int i = 0; i < engine->getNbIOTensors(); ++i) {
    const char* name = engine->getIOTensorName(i);
    if (engine->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT) continue;
    std::vector<float> made(bytes[name] / sizeof(float));
    check(cudaMemcpy(made.data(), memory[name].get(), bytes[name], cudaMemcpyDeviceToHost), "copy");
    for (const float value : made) {
      require(std::isfinite(value), std::string(name) + " is not finite, so it is withheld");
    }
    std::ofstream(std::string(name) + ".f32", std::ios::binary)
        .write(reinterpret_cast<const char*>(made.data()),
               static_cast<std::streamsize>(bytes[name]));
    std::printf("%s.f32: %zu floats\n", name, made.size());
  }
  check(cudaStreamDestroy(stream), "stream");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    std::fprintf(stderr, "usage: render ENGINE FACES [PLUGIN]\n");
    return 2;
  }
  try {
    return run(argv[1], std::stoi(argv[2]), argc > 3 ? argv[3] : nullptr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
