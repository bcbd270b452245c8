// What lies between the convolutions of the generator and the encoder, as a table of functions per
// instruction set: one pass over memory each, where a framework makes several.
//
// Maps are (pictures, height, width, channels), dense, of float or bfloat16 (upper halves of
// floats); everything else is float. Functions work on a range of rows of the result, counted
// through all pictures, so that threads can share them; a row never depends on the range.
#pragma once

#include <cstddef>

namespace lreorg::cpu::networks {

enum Element : std::size_t { kFloat32, kBfloat16, kElements };

struct Size {
  std::size_t pictures, height, width, channels;
  std::size_t rows() const { return pictures * height; }
};

// Follows a modulated convolution: leaky_relu(value * gain + noise + bias), of slope 0.2, then
// clamped to [-limit, limit].
struct Activation {
  const float* gain;         // (pictures, channels)
  const float* bias;         // (channels)
  const float* noise;        // (pictures or 1, height, width) or null
  std::size_t noise_stride;  // from picture to picture; 0 shares one map
  const float* next_style;   // (pictures, channels), of the convolution that reads the result
  float limit;               // infinity for none
};

// A 1x1 convolution of the activated values to three colours, clamped as they are, and added to the
// doubled picture so far.
struct Colour {
  const float* weights;  // (pictures, 3, channels)
  const float* bias;     // 3
  const float* skip;     // (pictures, 3, height / 2, width / 2) or null
  float* picture;        // (pictures, 3, height, width)
};

struct Finish {
  Size size;
  Activation activation;
  const void* in;
  void* out;      // null when only the colours are wanted
  Colour colour;  // picture is null for none
};

// `size` is the result's. The phases (even and odd rows, in them even and odd columns) of a
// transposed convolution of stride 2, (height + 1) x (width + 1) pixels without the last line:
// the even phases have half the size plus one. A 4x4 filter of gain 4 goes over them first.
struct UpFinish {
  Size size;
  Activation activation;
  const void* phases[4];
  void* out;
};

// PReLU after a convolution whose bias differs at the borders. At least two pixels wide and high.
struct Prelu {
  Size size;
  const void* in;
  void* out;
  const float* bias;   // (3 x 3, channels): first, inner, last row times the same for columns
  const float* slope;  // (channels)
};

struct RowSums {
  Size size;
  const void* in;
  float* out;  // (pictures, height, channels)
};

// out = in * gate + offset + shortcut; the shortcut is read at every `stride`-th pixel.
struct GatedSum {
  Size size;
  const void* in;
  const float* gate;    // (pictures, channels)
  const float* offset;  // (pictures, channels)
  const void* shortcut;
  std::size_t stride;
  void* out;
};

// out = fine + the coarse map stretched bilinearly, corner on corner.
struct StretchedSum {
  Size size;
  const void* fine;
  const void* coarse;
  std::size_t coarse_height, coarse_width;
  void* out;
};

template <typename Arguments>
using RowFunction = void (*)(const Arguments&, std::size_t first, std::size_t last);

struct Pointwise {
  RowFunction<Finish> finish;
  RowFunction<UpFinish> up_finish;
  RowFunction<Prelu> prelu;
  RowFunction<RowSums> row_sums;
  RowFunction<GatedSum> gated_sum;
  RowFunction<StretchedSum> stretched_sum;
};

struct PointwiseVariant {
  const char* name;
  bool (*supported)();
  Pointwise of[kElements];
};

// All variants of this build, fastest first; the last one runs everywhere.
struct PointwiseList {
  const PointwiseVariant* const* items;
  std::size_t size;
};
PointwiseList pointwise_variants();

// Whether the CPU multiplies bfloat16 itself (AVX512-BF16, AMX-BF16), so that it gains speed.
bool multiplies_bfloat16();

}  // namespace lreorg::cpu::networks
