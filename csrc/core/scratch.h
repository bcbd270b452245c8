// Memory of one running call.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include "core/layout.h"
#include "core/memory.h"
#include "cpu/kernels.h"
#include "cpu/team.h"

namespace lreorg {

// A row-major matrix of floats.
class Matrix {
 public:
  void reserve(std::size_t rows, std::size_t columns);

  float* row(std::size_t index) const {
    return reinterpret_cast<float*>(memory_.data()) + index * stride_;
  }
  std::size_t stride() const { return stride_; }

 private:
  Memory memory_;
  std::size_t stride_ = 0;
};

// A matrix's copy in the form that products read, see cpu::OperandType.
class RoundedCopy {
 public:
  void reserve(cpu::OperandType type, std::size_t rows, std::size_t columns);

  cpu::Operand operand() const { return {values_.data(), stride_, groups()}; }
  // Rounds rows [first, first + x.rows) and columns from `column`, a group's first; x says what.
  cpu::Rounding target(std::size_t first_row, std::size_t column) const;

 private:
  cpu::Int8Group* groups() const { return reinterpret_cast<cpu::Int8Group*>(groups_.data()); }

  Memory values_;
  Memory groups_;
  std::size_t stride_ = 0;
  std::size_t element_bytes_ = 0;
};

// What the threads that share a range of tokens share.
struct Scratch {
  cpu::Barrier barrier;
  std::vector<float> values;  // results of the program's steps
  std::array<Matrix, 2> streams;
  std::array<RoundedCopy, 2> stream_copies;
  Matrix scale;  // what the subnets said
  Matrix shift;
  std::array<Matrix, 2> hidden;  // of the dense subnets that run together
  std::array<RoundedCopy, 2> hidden_copies;

  void reserve(const Shape& shape, cpu::OperandType type, std::size_t rows, std::size_t floats);
};

}  // namespace lreorg
