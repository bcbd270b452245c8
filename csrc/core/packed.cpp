#include "core/packed.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

static_assert(std::endian::native == std::endian::little, "the packed format is little-endian");

namespace lreorg {
namespace {

constexpr char kMagic[9] = "LREORGPK";
constexpr std::uint32_t kVersion = 2;
// The tensors of a block, each of them in cache lines of its own (layout.h).
constexpr std::size_t kTensorsOfBlock = kRoles + kRoles * (5 + kHiddenLayers - 1);
constexpr std::size_t kLeastBlockBytes = kTensorsOfBlock * 64;

// FNV-1a over 64-bit words: it catches damage, not malice, and runs at memory speed.
std::uint64_t checksum(const PackedHeader& header, const std::byte* payload) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto mix = [&hash](const std::byte* data, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; i += sizeof(std::uint64_t)) {
      std::uint64_t word;
      std::memcpy(&word, data + i, sizeof(word));
      hash = (hash ^ word) * 0x100000001b3u;
    }
  };
  PackedHeader unsigned_header = header;
  unsigned_header.checksum = 0;
  mix(reinterpret_cast<const std::byte*>(&unsigned_header), sizeof(unsigned_header));
  mix(payload, header.payload_bytes);
  return hash;
}

void store(double value, float* to) {
  const float rounded = static_cast<float>(value);
  if (!std::isfinite(rounded)) throw std::invalid_argument("a weight does not fit float32.");
  *to = rounded;
}

void store(double value, std::uint16_t* to) {
  // Round the double's 52-bit fraction to bfloat16's 7 bits, half to even, in one step: through
  // float it would be rounded twice.
  constexpr int kDropped = 52 - 7;
  std::uint64_t bits = std::bit_cast<std::uint64_t>(value);
  bits += ((std::uint64_t{1} << (kDropped - 1)) - 1) + ((bits >> kDropped) & 1);
  bits &= ~((std::uint64_t{1} << kDropped) - 1);
  const float rounded = static_cast<float>(std::bit_cast<double>(bits));
  if (!std::isfinite(rounded)) throw std::invalid_argument("a weight does not fit bfloat16.");
  *to = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(rounded) >> 16);
}

// The weights of `Inputs` neighbouring inputs lie together per column, see packing.h. What pads the
// panels is there already.
template <std::size_t Inputs, typename Weight, typename Store>
void pack_panels(const Tensor& tensor, const double* source, std::size_t depth, Weight* panel,
                 Store store_weight) {
  for (std::size_t first = 0; first < tensor.outputs; first += kPanel, panel += depth * kPanel) {
    const std::size_t columns = std::min(kPanel, tensor.outputs - first);
    for (std::size_t c = 0; c < columns; ++c) {
      const double* row = source + (first + c) * tensor.inputs;
      for (std::size_t k = 0; k < tensor.inputs; ++k) {
        store_weight(first + c, row[k], panel + (k / Inputs * kPanel + c) * Inputs + k % Inputs);
      }
    }
  }
}

// Symmetric, one scale per output: the largest weight becomes 127.
void pack_int8(const Tensor& tensor, const double* source, std::byte* to) {
  std::memset(to, kInt8Offset, panels_bytes(WeightType::int8, tensor.outputs, tensor.inputs));
  float* scales =
      reinterpret_cast<float*>(to + panels_bytes(WeightType::int8, tensor.outputs, tensor.inputs));
  for (std::size_t i = 0; i < tensor.outputs; ++i) {
    double largest = 0;
    for (std::size_t k = 0; k < tensor.inputs; ++k) {
      largest = std::max(largest, std::abs(source[i * tensor.inputs + k]));
    }
    store(largest / 127, scales + i);
  }
  pack_panels<4>(tensor, source, round_up(tensor.inputs, kGroup),
                 reinterpret_cast<std::uint8_t*>(to),
                 [scales](std::size_t output, double weight, std::uint8_t* at) {
                   const double scale = scales[output];
                   const double value = scale > 0 ? std::nearbyint(weight / scale) : 0;
                   *at = static_cast<std::uint8_t>(kInt8Offset + std::clamp(value, -127., 127.));
                 });
}

void pack_matrix(const Tensor& tensor, const double* source, WeightType type, std::byte* to) {
  const auto plain = [](std::size_t, double weight, auto* at) { store(weight, at); };
  const std::size_t depth = round_up(tensor.inputs, kGroup);
  if (type == WeightType::float32) {
    pack_panels<1>(tensor, source, depth, reinterpret_cast<float*>(to), plain);
  } else if (type == WeightType::bfloat16) {
    pack_panels<2>(tensor, source, depth, reinterpret_cast<std::uint16_t*>(to), plain);
  } else {
    pack_int8(tensor, source, to);
  }
}

void pack_tensor(const Tensor& tensor, const Source& source, WeightType type, std::byte* to) {
  if (source.rows != tensor.outputs || source.columns != tensor.inputs) {
    throw std::invalid_argument("it is " + std::to_string(source.rows) + " x " +
                                std::to_string(source.columns) + " but must be " +
                                std::to_string(tensor.outputs) + " x " +
                                std::to_string(tensor.inputs) + ".");
  }
  const double* end = source.data + source.rows * std::max<std::size_t>(source.columns, 1);
  if (!std::all_of(source.data, end, [](double value) { return std::isfinite(value); })) {
    throw std::invalid_argument("it holds values that are not finite.");
  }
  if (!tensor.is_vector()) {
    pack_matrix(tensor, source.data, type, to);
    return;
  }
  for (std::size_t i = 0; i < tensor.outputs; ++i) {
    store(source.data[i], reinterpret_cast<float*>(to) + i);
  }
}

void require(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument("packed weights: " + message);
}

PackedHeader read_header(std::string_view bytes) {
  PackedHeader header;
  require(bytes.size() >= sizeof(header), "the block is shorter than its header.");
  std::memcpy(&header, bytes.data(), sizeof(header));
  require(std::memcmp(header.magic, kMagic, sizeof(header.magic)) == 0, "the magic is wrong.");
  require(header.version == kVersion, "version " + std::to_string(header.version) +
                                          " is unknown; this build reads version " +
                                          std::to_string(kVersion) + ".");
  require(header.header_bytes == sizeof(header), "the header has an unknown size.");
  require(header.panel == kPanel && header.group == kGroup,
          "the panel width or the group is not the one of this build.");
  require(header.weight_type < kWeightTypes, "the weight type is unknown.");
  require(header.payload_bytes == bytes.size() - sizeof(header) &&
              header.payload_bytes % sizeof(std::uint64_t) == 0,
          "the payload is truncated or too long.");
  return header;
}

}  // namespace

PackedWeights::PackedWeights(const Shape& shape, WeightType type)
    : shape_(shape),
      type_(type),
      layout_(make_layout(shape, type)),
      memory_(sizeof(PackedHeader) + layout_.payload_bytes) {}

PackedHeader PackedWeights::make_header() const {
  PackedHeader header{};
  std::memcpy(header.magic, kMagic, sizeof(header.magic));
  header.version = kVersion;
  header.header_bytes = sizeof(header);
  header.dim = shape_.dim;
  header.cond_dim = shape_.cond_dim;
  header.num_blocks = shape_.num_blocks;
  header.growth = shape_.growth;
  header.clamp = shape_.clamp;
  header.weight_type = static_cast<std::uint32_t>(type_);
  header.panel = kPanel;
  header.group = kGroup;
  header.payload_bytes = layout_.payload_bytes;
  header.checksum = checksum(header, payload());
  return header;
}

PackedWeights PackedWeights::pack(const Shape& shape, WeightType type,
                                  const std::function<Source(const std::string&)>& find) {
  PackedWeights packed(shape, type);
  for (const BlockTensors& block : packed.layout_.blocks) {
    block.for_each([&](const Tensor& tensor) {
      try {
        pack_tensor(tensor, find(tensor.name), type, packed.payload() + tensor.offset);
      } catch (const std::invalid_argument& error) {
        throw std::invalid_argument(tensor.name + ": " + error.what());
      }
    });
  }
  const PackedHeader header = packed.make_header();
  std::memcpy(packed.memory_.data(), &header, sizeof(header));
  return packed;
}

PackedWeights PackedWeights::from_bytes(std::string_view bytes) {
  const PackedHeader header = read_header(bytes);
  // Before anything is made in the size that the header asks for, which may be damaged.
  const std::byte* payload = reinterpret_cast<const std::byte*>(bytes.data()) + sizeof(header);
  require(header.checksum == checksum(header, payload), "the checksum is wrong.");
  const Shape shape{header.dim, header.cond_dim, header.num_blocks, header.growth, header.clamp};
  const WeightType type = static_cast<WeightType>(header.weight_type);
  // A layout takes memory for each block, and a header of 64 bytes can ask for 65,536 of them
  // (hundreds of megabytes; found by tests/fuzz/packed_fuzzer.cpp).
  require(shape.num_blocks <= header.payload_bytes / kLeastBlockBytes,
          "the payload is too short for its number of blocks.");
  require(header.payload_bytes == make_layout(shape, type).payload_bytes,
          "the payload does not have the size that the shape asks for.");
  PackedWeights packed(shape, type);
  std::memcpy(packed.memory_.data(), bytes.data(), bytes.size());
  return packed;
}

std::string_view PackedWeights::bytes() const {
  return {reinterpret_cast<const char*>(memory_.data()),
          sizeof(PackedHeader) + layout_.payload_bytes};
}

const std::byte* PackedWeights::data(const Tensor& tensor) const {
  return payload() + tensor.offset;
}

const float* PackedWeights::vector(const Tensor& tensor) const {
  return reinterpret_cast<const float*>(data(tensor));
}

const float* PackedWeights::scales(const Tensor& matrix) const {
  const std::size_t panels = panels_bytes(type_, matrix.outputs, matrix.inputs);
  return reinterpret_cast<const float*>(data(matrix) + panels);
}

}  // namespace lreorg
