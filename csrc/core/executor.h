// Runs programs on packed weights with one set of CPU kernels and the process's team of threads.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/packed.h"
#include "core/pass.h"
#include "core/program.h"
#include "core/scratch.h"
#include "cpu/kernels.h"

namespace lreorg {

// Immutable after construction; any number of threads may call run() at the same time, each with
// scratch memory of its own from the pool.
class Executor {
 public:
  // `constants` holds the keyword terms c(k) of the condition subnets, [keyword][block][add, scale,
  // shift][dim]. `exact`: activations stay float32 even where rounding them would be faster.
  Executor(std::shared_ptr<const PackedWeights> weights, std::vector<float> constants,
           const cpu::Kernels& kernels, bool exact);
  ~Executor();

  // inputs and outputs are (tokens x dim) row-major, in the program's order. An output may not
  // overlap an input. Results do not depend on `threads`, the most that may work on it. Throws
  // std::invalid_argument when they do not fit the program.
  void run(const Program& program, std::span<const float* const> inputs,
           std::span<float* const> outputs, std::size_t tokens, std::size_t threads) const;

  const PackedWeights& weights() const { return *weights_; }
  const cpu::Kernels& kernels() const { return kernels_; }
  cpu::OperandType operand() const { return arithmetic().operand; }
  std::size_t num_keywords() const { return num_keywords_; }

 private:
  struct Workspace;
  class Lease;
  class Call;

  const cpu::Arithmetic& arithmetic() const;

  std::shared_ptr<const PackedWeights> weights_;
  std::vector<float> constants_;
  const cpu::Kernels& kernels_;
  bool exact_;
  std::size_t num_keywords_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> idle_;  // guarded by mutex_
};

}  // namespace lreorg
