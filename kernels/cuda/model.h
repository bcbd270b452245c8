// What who runs the recurrence without torch needs beside reorganize.h: weights given as matrices,
// and a little memory. A C surface, so that no CUDA header leaves kernels/cuda. Texts that are
// returned are static, never freed, and end a sentence.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/reorganize.h"

extern "C" {

// Device memory, row-major: the arrays of lreorg_fast/cdfnet/coupling.py. n blocks, roles add,
// scale, shift, D = dim, g = growth. Matrices are of the weight type, float32 as plain float32.
struct LreorgCudaMatrices {
  const void* condition;     // (n, 3, D, D)
  const void* hidden;        // (n, 3, 4g, D)
  const void* chain;         // (n, 3, 4g, 4g)
  const void* direct;        // (n, 3, D, D)
  const void* output;        // (n, 3, D, 4g)
  const float* hidden_bias;  // (n, 3, 4g)
  const float* output_bias;  // (n, 3, D)
};

// Puts one launch on the stream that writes `weights` (lreorg_cuda_weights_bytes, 16-byte aligned)
// as lreorg_cuda_run reads them. Neither allocates nor synchronises; may be captured in a CUDA
// graph. Null, or what failed.
const char* lreorg_cuda_pack(const LreorgCudaShape* shape, int32_t weight_type, int32_t group,
                             const LreorgCudaMatrices* matrices, void* weights, void* stream);

const char* lreorg_cuda_current_device(int32_t* device);

// Copies to new memory of the current device and waits; lreorg_cuda_free takes it back.
const char* lreorg_cuda_upload(const void* data, uint64_t bytes, void** memory);
void lreorg_cuda_free(void* memory);

// From device to device, on the stream.
const char* lreorg_cuda_copy(void* to, const void* from, uint64_t bytes, void* stream);

}  // extern "C"
