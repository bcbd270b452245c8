// Weights given as matrices, and memory: see model.h.
#include <cuda_runtime.h>

#include "cuda/model.h"
#include "cuda/repack.h"

namespace {

using namespace lreorg::cuda;

constexpr unsigned kThreads = 256;

template <class Planes>
__global__ void __launch_bounds__(kThreads)
    repack_kernel(const __grid_constant__ Repack<Planes> repack, void* weights) {
  repack.write(blockIdx.x, threadIdx.x, kThreads, weights);
}

// Null, or the text of what failed; the next caller must not find it.
const char* text(cudaError_t status) {
  if (status == cudaSuccess) return nullptr;
  cudaGetLastError();
  return cudaGetErrorString(status);
}

template <class Planes>
const char* pack(const LreorgCudaShape& shape, std::int32_t group, const LreorgCudaMatrices& given,
                 void* weights, cudaStream_t stream) {
  using Weight = typename Planes::Weight;
  const auto dim = static_cast<std::uint32_t>(shape.dim);
  const auto growth = static_cast<std::uint32_t>(shape.growth);
  const Geometry geometry(dim, growth, static_cast<std::uint32_t>(shape.num_blocks),
                          static_cast<std::uint32_t>(group), Planes::kPlanes);
  const auto matrix = [](const void* data) { return static_cast<const Weight*>(data); };
  const Repack<Planes> repack(
      geometry, dim, growth,
      {matrix(given.condition), matrix(given.hidden), matrix(given.chain), matrix(given.direct),
       matrix(given.output), given.hidden_bias, given.output_bias});
  repack_kernel<Planes><<<repack.parts(), kThreads, 0, stream>>>(repack, weights);
  return text(cudaGetLastError());
}

}  // namespace

const char* lreorg_cuda_pack(const LreorgCudaShape* shape, int32_t weight_type, int32_t group,
                             const LreorgCudaMatrices* matrices, void* weights, void* stream) {
  if (group < 1) return "the group is none";
  const auto on = static_cast<cudaStream_t>(stream);
  switch (weight_type) {
    case LREORG_CUDA_BFLOAT16:
    case LREORG_CUDA_FLOAT16:
      return pack<Planes16>(*shape, group, *matrices, weights, on);
    case LREORG_CUDA_FLOAT32:
      return pack<Planes32>(*shape, group, *matrices, weights, on);
  }
  return "weight_type is none of bfloat16, float16 and float32";
}

const char* lreorg_cuda_current_device(int32_t* device) {
  int index = 0;
  const char* failure = text(cudaGetDevice(&index));
  *device = index;
  return failure;
}

const char* lreorg_cuda_upload(const void* data, uint64_t bytes, void** memory) {
  const char* failure = text(cudaMalloc(memory, bytes));
  if (failure != nullptr) return failure;
  failure = text(cudaMemcpy(*memory, data, bytes, cudaMemcpyHostToDevice));
  if (failure != nullptr) lreorg_cuda_free(*memory);
  return failure;
}

void lreorg_cuda_free(void* memory) {
  // While the process ends there may be no driver any more, and nothing to take back.
  if (cudaFree(memory) != cudaSuccess) cudaGetLastError();
}

const char* lreorg_cuda_copy(void* to, const void* from, uint64_t bytes, void* stream) {
  return text(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice,
                              static_cast<cudaStream_t>(stream)));
}
