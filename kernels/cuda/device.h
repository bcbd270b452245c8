// What CUDA devices there are: a C surface, so that no CUDA header leaves kernels/cuda.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct LreorgCudaDevice {
  char name[256];
  int32_t major;  // compute capability
  int32_t minor;
  int32_t multiprocessors;
  uint64_t memory_bytes;
};

struct LreorgCudaVersions {
  int32_t runtime;  // as CUDA counts: 1000 major + 10 minor
  int32_t driver;   // newest CUDA that the driver supports; 0 where there is no driver
};

LreorgCudaVersions lreorg_cuda_versions();

// Number of usable devices. 0 with an explanation in `reason` where there is none; the text is
// static and never freed, and null where there are devices.
int32_t lreorg_cuda_device_count(const char** reason);

// Fills `device`; returns null, or a static text that says what failed.
const char* lreorg_cuda_device(int32_t index, LreorgCudaDevice* device);

}  // extern "C"
