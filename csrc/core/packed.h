// Packed weights: one self-describing block of memory that any backend or file can hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>

#include "core/layout.h"
#include "core/memory.h"

namespace lreorg {

// Little-endian, at the start of a packed block; the payload follows it at once.
struct PackedHeader {
  char magic[8];  // "LREORGPK"
  std::uint32_t version;
  std::uint32_t header_bytes;
  std::uint32_t dim;
  std::uint32_t cond_dim;
  std::uint32_t num_blocks;
  std::uint32_t growth;
  float clamp;
  std::uint32_t weight_type;  // WeightType
  std::uint32_t panel;        // output columns per panel
  std::uint32_t group;        // what inputs are padded to a multiple of
  std::uint64_t payload_bytes;
  std::uint64_t checksum;  // of the payload and of the header with this field 0
};
static_assert(sizeof(PackedHeader) == 64, "the header is part of the file format");

// A matrix given for packing: row-major doubles, or a vector when columns is 0.
struct Source {
  const double* data;
  std::size_t rows;
  std::size_t columns;
};

class PackedWeights {
 public:
  // Rounds once from float64 and packs; `find` returns the source of a tensor's name. Throws
  // std::invalid_argument on a wrong size, a value that is not finite or one that overflows.
  static PackedWeights pack(const Shape& shape, WeightType type,
                            const std::function<Source(const std::string&)>& find);

  // Copies and checks a packed block: size, magic, version, shape, checksum. Throws
  // std::invalid_argument that says what is wrong.
  static PackedWeights from_bytes(std::string_view bytes);

  std::string_view bytes() const;
  const Shape& shape() const { return shape_; }
  WeightType type() const { return type_; }
  const Layout& layout() const { return layout_; }
  const std::byte* data(const Tensor& tensor) const;
  const float* vector(const Tensor& tensor) const;
  // int8 only: one scale per output.
  const float* scales(const Tensor& matrix) const;

 private:
  PackedWeights(const Shape& shape, WeightType type);
  PackedHeader make_header() const;
  std::byte* payload() const { return memory_.data() + sizeof(PackedHeader); }

  Shape shape_;
  WeightType type_;
  Layout layout_;
  Memory memory_;  // header and payload
};

}  // namespace lreorg
