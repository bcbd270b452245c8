// Test-only: kernels/cuda's C surface on a machine without a device, so that the plugin library
// links without the CUDA sources. tests/native/tensorrt/launchers.cpp runs the kernels.
#include "cuda/model.h"

namespace {
constexpr const char* kNone = "there is no device";
}  // namespace

int64_t lreorg_cuda_most_values() {
  return 256;
}
uint64_t lreorg_cuda_weights_bytes(const LreorgCudaShape*, int32_t, int32_t) {
  return 0;
}
const char* lreorg_cuda_plan(const LreorgCudaCall*, int32_t, LreorgCudaPlan*) {
  return kNone;
}
const char* lreorg_cuda_run(const LreorgCudaCall*, const LreorgCudaPlan*) {
  return kNone;
}
const char* lreorg_cuda_pack(const LreorgCudaShape*, int32_t, int32_t, const LreorgCudaMatrices*,
                             void*, void*) {
  return kNone;
}
const char* lreorg_cuda_current_device(int32_t*) {
  return kNone;
}
const char* lreorg_cuda_upload(const void*, uint64_t, void**) {
  return kNone;
}
void lreorg_cuda_free(void*) {}
const char* lreorg_cuda_copy(void*, const void*, uint64_t, void*) {
  return kNone;
}
