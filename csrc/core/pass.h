// One thread's share of one step of a program.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "core/packed.h"
#include "core/program.h"
#include "core/scratch.h"
#include "cpu/kernels.h"

namespace lreorg {

// What a pass reads of its executor.
struct Model {
  const PackedWeights& weights;
  const cpu::Kernels& kernels;
  const cpu::Arithmetic& arithmetic;
  // Keyword terms c(k) of the condition subnets, [keyword][block][add, scale, shift][dim].
  const float* constants;
};

// Half-open.
struct Range {
  std::size_t first;
  std::size_t end;

  std::size_t size() const { return end - first; }
  bool empty() const { return end <= first; }
};

// Threads of a group divide the columns of every product, in groups of kGroup, and each changes
// the same columns of the streams that its products told it about: between a product and the
// coupling nobody waits. Only the short chains divide the rows.
class Pass {
 public:
  // A product of a block. The parts of a dense subnet are those of DenseSubnet.
  enum class Part { condition, hidden, direct, output };
  struct Stage {
    Part part;
    Role role;

    bool operator==(const Stage&) const = default;
  };

  Pass(const Model& model, Scratch& scratch, std::size_t tokens, std::size_t rank,
       std::size_t size);

  // All lanes of a step through all blocks. Stream i of a lane starts as values[lane.in]; results
  // are written to values. Each is (tokens x dim).
  void run(const Step& step, std::span<float* const> values);

  Range columns() const { return columns_; }

 private:
  using Couple = void (*)(const cpu::Coupling&);
  using Roles = std::span<const Role>;

  void forward(std::size_t block, std::size_t lanes);
  void inverse(std::size_t block, std::size_t lanes);
  void condition(std::size_t block, Roles roles, std::size_t lanes, std::size_t to, Couple couple);
  void dense(std::size_t block, Roles roles, std::size_t lanes, std::size_t to, Couple couple);
  void chain(const DenseSubnet& subnet, Role role, Range rows);
  void product(std::size_t block, Stage stage, const RoundedCopy& in, std::size_t rows,
               const Matrix& out);
  const Tensor& tensor(std::size_t block, Stage stage) const;
  Range columns_of(Stage stage) const;
  const std::byte* panels(std::size_t block, Stage stage) const;
  const std::byte* panels_after(std::size_t block, Stage stage) const;
  // From the first of some columns; null where weights have none.
  const float* column_scales(const Tensor& matrix, std::size_t first) const;
  void round(const Matrix& matrix, const RoundedCopy& copy, Range rows, Range columns);
  void finish(std::size_t stream, std::size_t rows);
  void copy_in(std::span<float* const> values);
  void copy_out(std::span<float* const> values);
  std::size_t lanes_using(std::int32_t Lane::* result) const;
  cpu::Coupling coupling(Range rows, std::size_t stream) const;
  const Matrix& out(Role role) const { return role == kScale ? scratch_.scale : scratch_.shift; }
  // Where a dense subnet's hidden layers lie: two subnets run together at most.
  static std::size_t slot(Role role) { return role == kShift ? 1 : 0; }
  const float* constant(std::size_t lane, std::size_t block, Role role) const;

  const Model& model_;
  const Shape& shape_;
  Scratch& scratch_;
  std::size_t tokens_;
  std::size_t rank_;
  std::size_t size_;
  Range columns_;         // of dim
  Range hidden_columns_;  // of 4 growth
  const Step* step_ = nullptr;
};

}  // namespace lreorg
