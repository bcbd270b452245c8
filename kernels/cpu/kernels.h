// The arithmetic of one CDFNet step on a CPU, as a table of functions per instruction set.
//
// All of it works on ranges of columns that the caller chooses, so that threads can share a step.
// A row's result never depends on which rows or columns are computed with it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "packing.h"

namespace lreorg::cpu {

// What a product reads as its left side.
//   float32   the activations themselves, row-major
//   bfloat16  rounded copies, [input / kGroup][row][kGroup]
//   int8      the same order; each row has a scale for each group of inputs
// In the copies a row's group has a fixed distance to the next row's, and is one row of an AMX tile.
enum class OperandType { float32, bfloat16, int8 };

// One row's group of int8 activations: activation = scale * value. The sum of the values times
// -128 cancels the offset of the weights.
struct Int8Group {
  float scale;
  std::int32_t offset;
};

struct Operand {
  const void* values;
  std::size_t stride;       // elements: from row to row (float32), from group to group (the copies)
  const Int8Group* groups;  // int8 only: [input / kGroup][row], as far apart as stride / kGroup
};

// out (rows x columns) = or += in (rows x depth) * panels.
struct Product {
  std::size_t rows;
  std::size_t depth;
  std::size_t columns;
  Operand in;
  const void* panels;         // of these columns, see packing.h
  const float* column_scale;  // int8 weights only, of these columns
  float* out;
  std::size_t out_stride;
  bool accumulate;
};

// Makes the copies from columns of a row-major matrix; `columns` starts at a group's first.
struct Rounding {
  std::size_t rows;
  std::size_t columns;  // a last group that is not full is padded with zeros
  const float* in;
  std::size_t in_stride;
  void* out;           // the first group's first row
  std::size_t stride;  // elements from group to group
  Int8Group* groups;   // int8 only
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

// How products with one type of weights are made.
struct Arithmetic {
  OperandType operand;
  void (*product)(const Product&);
  void (*round)(const Rounding&);  // null when the operand is float32
};

struct Kernels {
  const char* name;
  bool (*supported)();
  Arithmetic fast[kWeightTypes];   // by WeightType; activations as the instructions like them
  Arithmetic exact[kWeightTypes];  // float32 activations
  void (*add)(const Coupling&);            // stream += shift
  void (*subtract)(const Coupling&);       // stream -= shift
  void (*scale_shift)(const Coupling&);    // stream = stream * e(scale) + shift
  void (*unscale_shift)(const Coupling&);  // stream = (stream - shift) / e(scale)
  // values (rows x columns) = leaky_relu(values + constant), in place.
  void (*leaky)(std::size_t rows, std::size_t columns, float* values, std::size_t stride,
                const float* constant, float slope);
  // Set up and give back what a thread needs around products; null where it needs nothing.
  void (*enter_thread)();
  void (*leave_thread)();
};

// All variants that this build has, fastest first; the last one runs everywhere.
struct KernelList {
  const Kernels* const* items;
  std::size_t size;
};
KernelList all_kernels();

}  // namespace lreorg::cpu
