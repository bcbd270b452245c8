#include <cuda_runtime_api.h>

#include <cstring>

#include "cuda/device.h"

LreorgCudaVersions lreorg_cuda_versions() {
  int runtime = 0;
  int driver = 0;
  // Neither call needs a driver: where it is missing the second reports version 0.
  if (cudaRuntimeGetVersion(&runtime) != cudaSuccess) runtime = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
  return {runtime, driver};
}

int32_t lreorg_cuda_device_count(const char** reason) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    // The error is sticky for cudaGetLastError; the next caller must not find it.
    cudaGetLastError();
    *reason = cudaGetErrorString(status);
    return 0;
  }
  *reason = count > 0 ? nullptr : "no CUDA device";
  return count;
}

const char* lreorg_cuda_device(int32_t index, LreorgCudaDevice* device) {
  cudaDeviceProp properties;
  const cudaError_t status = cudaGetDeviceProperties(&properties, index);
  if (status != cudaSuccess) {
    cudaGetLastError();
    return cudaGetErrorString(status);
  }
  std::strncpy(device->name, properties.name, sizeof(device->name) - 1);
  device->name[sizeof(device->name) - 1] = '\0';
  device->major = properties.major;
  device->minor = properties.minor;
  device->multiprocessors = properties.multiProcessorCount;
  device->memory_bytes = properties.totalGlobalMem;
  return nullptr;
}
