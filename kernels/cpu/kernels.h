// The arithmetic of one CDFNet step on a CPU, as a table of functions per instruction set.
//
// Weights are packed in panels of kPanel output columns: for every input index, kPanel weights lie
// side by side, and the last panel is padded with zeros. All variants read the same layout, so one
// packed file serves every machine. Activations are row-major float, one row per token.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lreorg::cpu {

inline constexpr std::size_t kPanel = 16;

// out (rows x columns) = or += in (rows x depth) * panels. Strides count floats.
struct Product {
  std::size_t rows;
  std::size_t depth;
  std::size_t columns;
  const float* in;
  std::size_t in_stride;
  const void* panels;  // float or bfloat16, by the function that is called
  float* out;
  std::size_t out_stride;
  bool accumulate;
};

// stream (rows x dim) changes by what a subnet said about the other stream.
struct Coupling {
  std::size_t rows;
  std::size_t dim;
  float* stream;
  std::size_t stream_stride;
  const float* scale;           // before the clamp; additive couplings do not read it
  const float* scale_constant;  // dim floats added to each row of scale
  const float* shift;
  const float* shift_constant;  // dim floats added to each row of shift
  std::size_t subnet_stride;    // row stride of scale and shift
  float clamp;
};

struct Kernels {
  const char* name;
  bool (*supported)();
  void (*product_float32)(const Product&);
  void (*product_bfloat16)(const Product&);
  void (*add)(const Coupling&);            // stream += shift
  void (*subtract)(const Coupling&);       // stream -= shift
  void (*scale_shift)(const Coupling&);    // stream = stream * e(scale) + shift
  void (*unscale_shift)(const Coupling&);  // stream = (stream - shift) / e(scale)
  // values (rows x columns) = leaky_relu(values + constant), in place.
  void (*leaky)(std::size_t rows, std::size_t columns, float* values, std::size_t stride,
                const float* constant, float slope);
};

// All variants that this build has, widest first; the last one runs everywhere.
struct KernelList {
  const Kernels* const* items;
  std::size_t size;
};
KernelList all_kernels();

}  // namespace lreorg::cpu
