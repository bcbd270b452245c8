#include "core/scratch.h"

namespace lreorg {
namespace {

// Tiles of AMX read whole blocks of this many rows.
constexpr std::size_t kRowBlock = 16;

void reserve_bytes(Memory& memory, std::size_t bytes) {
  if (memory.size() < bytes) memory = Memory(bytes);
}

// A row of a power of two bytes would put the same column of every row into one cache set.
std::size_t row_stride(std::size_t columns) {
  const std::size_t rounded = round_up(columns, kPanel);
  return rounded % 256 == 0 ? rounded + kPanel : rounded;
}

}  // namespace

void Matrix::reserve(std::size_t rows, std::size_t columns) {
  stride_ = row_stride(columns);
  reserve_bytes(memory_, rows * stride_ * sizeof(float));
}

void RoundedCopy::reserve(cpu::OperandType type, std::size_t rows, std::size_t columns) {
  static constexpr std::size_t kBytes[] = {4, 2, 1};  // by OperandType
  const bool int8 = type == cpu::OperandType::int8;
  const std::size_t padded_rows = round_up(rows, kRowBlock);
  const std::size_t groups = round_up(columns, kGroup) / kGroup;
  element_bytes_ = kBytes[static_cast<std::size_t>(type)];
  stride_ = padded_rows * kGroup;
  reserve_bytes(values_, groups * stride_ * element_bytes_);
  if (int8) reserve_bytes(groups_, groups * padded_rows * sizeof(cpu::Int8Group));
}

cpu::Rounding RoundedCopy::target(std::size_t first_row, std::size_t column) const {
  const std::size_t group = column / kGroup;
  cpu::Rounding x{};
  x.out = values_.data() + (group * stride_ + first_row * kGroup) * element_bytes_;
  x.stride = stride_;
  x.groups = groups() ? groups() + group * (stride_ / kGroup) + first_row : nullptr;
  return x;
}

void Scratch::reserve(const Shape& shape, cpu::OperandType type, std::size_t rows,
                      std::size_t floats) {
  if (values.size() < floats) values.resize(floats);
  scale.reserve(rows, shape.dim);
  shift.reserve(rows, shape.dim);
  for (std::size_t i = 0; i < 2; ++i) {
    streams[i].reserve(rows, shape.dim);
    stream_copies[i].reserve(type, rows, shape.dim);
    hidden[i].reserve(rows, shape.hidden());
    hidden_copies[i].reserve(type, rows, shape.hidden());
  }
}

}  // namespace lreorg
