// The arithmetic of one CDFNet step on a CPU, as a table of functions per instruction set.
//
// All of it works on ranges of columns that the caller chooses, so that threads can share a step.
// A row's result never depends on which rows or columns are computed with it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "packing.h"

namespace lreorg::cpu {

// What a product reads as its left side: copies of the activations in this type, ordered
// [input / kGroup][row][kGroup] and padded with zeros. A row's group thus has a fixed distance to
// the next row's, so that all rows of a block are reached from one pointer by constant offsets, and
// it is one row of an AMX tile.
enum class OperandType { float32, bfloat16, int8 };

// One row's group of int8 activations: activation = scale * value. The sum of the values times
// -128 cancels the offset of the weights.
struct Int8Group {
  float scale;
  std::int32_t offset;
};

struct Operand {
  const void* values;
  std::size_t stride;       // elements from group to group
  const Int8Group* groups;  // int8 only: [input / kGroup][row], as far apart as stride / kGroup
};

// out (rows x columns) = or += in (rows x depth) * panels.
struct Product {
  std::size_t rows;
  std::size_t depth;
  std::size_t columns;
  Operand in;
  const void* panels;         // of these columns, see packing.h
  const void* next;           // what will be multiplied after them: asked for during the last panel
  const float* column_scale;  // int8 weights only, of these columns
  float* out;
  std::size_t out_stride;
  bool accumulate;
};

// out += in * panels, for small depths: the activations are read where they are, row-major.
struct ShortProduct {
  std::size_t rows;
  std::size_t depth;
  std::size_t columns;
  const float* in;
  const void* panels;
  const float* column_scale;
  float* out;
  std::size_t stride;  // of in and out
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
  void (*round)(const Rounding&);
};

struct Kernels {
  const char* name;
  bool (*supported)();
  Arithmetic fast[kWeightTypes];   // by WeightType; activations as the instructions like them
  Arithmetic exact[kWeightTypes];  // float32 activations
  void (*short_product[kWeightTypes])(const ShortProduct&);
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
