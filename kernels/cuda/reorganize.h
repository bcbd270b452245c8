// The recurrence on a CUDA device: a C surface, so that no CUDA header leaves kernels/cuda. See
// docs/latency_kernel.md. Nothing here allocates, synchronises or keeps state between calls; calls
// from several threads and on several streams are fine as long as each has its own scratch and
// status. Texts that are returned are static, never freed, and end a sentence.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

// How weights are stored.
enum LreorgCudaWeights : int32_t {
  LREORG_CUDA_BFLOAT16 = 0,
  LREORG_CUDA_FLOAT16 = 1,
  LREORG_CUDA_FLOAT32 = 2,  // as three planes of bfloat16
};

// How the blocks of a group meet.
enum LreorgCudaTier : int32_t {
  LREORG_CUDA_AUTO = 0,     // in a call only: the first of the others that the device can run
  LREORG_CUDA_CLUSTER = 1,  // a thread-block cluster, sm_90 and up
  LREORG_CUDA_GRID = 2,     // counters in scratch, a cooperative launch
};

struct LreorgCudaShape {
  int32_t dim;
  int32_t num_blocks;
  int32_t growth;
  float clamp;
};

// As csrc/core/program.h; -1 is none. Values are numbered.
struct LreorgCudaLane {
  int32_t keyword;
  int32_t in1;  // -1: zeros
  int32_t in2;
  int32_t out1;  // -1: not used
  int32_t out2;  // -1: not used
};

struct LreorgCudaStep {
  int32_t direction;  // 0 disentangle, 1 fuse
  int32_t first_lane;
  int32_t num_lanes;
};

// What will run.
struct LreorgCudaPlan {
  int32_t tier;            // never LREORG_CUDA_AUTO
  int32_t group;           // blocks that share one tile of tokens, as lreorg_cuda_group says
  int32_t tile;            // tokens of a group
  int32_t groups;          // of the widest launch: tiles of tokens times lanes of a step
  int32_t shared_bytes;    // of each block
  int32_t launches;        // of kernels
  uint64_t scratch_bytes;  // what LreorgCudaCall::scratch must hold
};

// Words of LreorgCudaCall::status. The first is nonzero where a wait inside a kernel took longer
// than about two seconds: the results of that group, at least, are NaN, and the others say where.
enum LreorgCudaStatus : int32_t {
  LREORG_CUDA_STATUS_FAILED = 0,    // 1: weights did not arrive, 2: other blocks did not
  LREORG_CUDA_STATUS_BLOCK = 1,     // thread block
  LREORG_CUDA_STATUS_STEP = 2,      // of the program
  LREORG_CUDA_STATUS_LAYER = 3,     // block of the network
  LREORG_CUDA_STATUS_PHASE = 4,     // 0 condition add, 1 condition scale and shift, 2, 3 dense
  LREORG_CUDA_STATUS_EXPECTED = 5,  // number of the chunk or meeting that was waited for
  LREORG_CUDA_STATUS_WORDS = 8,
};

struct LreorgCudaCall {
  LreorgCudaShape shape;
  int32_t weight_type;     // LreorgCudaWeights
  int32_t exact;           // 1: products read float32 activations, not copies in 16 bits. bfloat16
                           // weights only; float32 weights always do, whatever is said here
  int32_t tier;            // LreorgCudaTier
  const void* weights;     // device, 16-byte aligned: lreorg_fast/cdfnet/cuda_packing.py's blob
  const float* constants;  // device: c(k), [keyword][block][add, scale, shift][dim]
  // The program, on the device for the kernels and on the host for the launches.
  const LreorgCudaStep* steps;
  const LreorgCudaLane* lanes;
  const LreorgCudaStep* host_steps;
  const LreorgCudaLane* host_lanes;
  int32_t num_steps;
  int32_t num_lanes;
  // Host array of device pointers: inputs, outputs and what lies between, each (tokens x dim)
  // float32, row-major, none overlapping. At most lreorg_cuda_most_values().
  float* const* values;
  int32_t num_values;
  int64_t tokens;
  void* scratch;  // device, 256-byte aligned
  uint64_t scratch_bytes;
  int32_t* status;  // device, LREORG_CUDA_STATUS_WORDS words; set to 0 by the call's launches
  void* stream;     // cudaStream_t of the current device
};

// Chooses tier and sizes for a device, by the call's shape, weight_type, exact, tier, tokens and
// the host's program; pointers to device memory may still be null. Null, or why it cannot run.
const char* lreorg_cuda_plan(const LreorgCudaCall* call, int32_t device, LreorgCudaPlan* plan);

// Puts the launches on the stream, which must be of the current device, the one of the plan. Null,
// or what failed. May be captured in a CUDA graph.
const char* lreorg_cuda_run(const LreorgCudaCall* call, const LreorgCudaPlan* plan);

// Blocks that share one tile, for which weights must be packed: 16, 8, 4, 2 or 1. `tier` may be
// LREORG_CUDA_AUTO. 0 where the device cannot be asked, or cannot run the tier at all.
int32_t lreorg_cuda_group(const LreorgCudaShape* shape, int32_t weight_type, int32_t tier,
                          int32_t device);

// Size of the packed weights.
uint64_t lreorg_cuda_weights_bytes(const LreorgCudaShape* shape, int32_t weight_type,
                                   int32_t group);

// Largest number of values of a program.
int64_t lreorg_cuda_most_values();

}  // extern "C"
