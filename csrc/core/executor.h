// Runs programs on packed weights with one set of CPU kernels, on the calling thread.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "core/packed.h"
#include "core/program.h"
#include "cpu/kernels.h"

namespace lreorg {

// Scratch memory of one running call.
struct Workspace {
  std::vector<float> values;   // results of the program's steps
  std::vector<float> stream1;  // lanes x tokens rows
  std::vector<float> stream2;
  std::vector<float> subnet;  // what the subnets said, the same rows
};

// Immutable after construction; any number of threads may call run() at the same time, each with a
// workspace of its own from the pool.
class Executor {
 public:
  // `constants` holds the keyword terms c(k) of the condition subnets, [keyword][block][add, scale,
  // shift][dim].
  Executor(std::shared_ptr<const PackedWeights> weights, std::vector<float> constants,
           const cpu::Kernels& kernels);

  // inputs and outputs are (tokens x dim) row-major, in the program's order. An output may not
  // overlap an input. Throws std::invalid_argument when they do not fit the program.
  void run(const Program& program, const std::vector<const float*>& inputs,
           const std::vector<float*>& outputs, std::size_t tokens) const;

  const PackedWeights& weights() const { return *weights_; }
  const cpu::Kernels& kernels() const { return kernels_; }
  std::size_t num_keywords() const { return num_keywords_; }

 private:
  class Pass;
  class Lease;

  void run_chunk(const Program& program, Workspace& workspace, std::vector<const float*> values,
                 const std::vector<float*>& outputs, std::size_t tokens) const;

  std::shared_ptr<const PackedWeights> weights_;
  std::vector<float> constants_;
  const cpu::Kernels& kernels_;
  std::size_t num_keywords_;
  std::size_t stream_stride_;
  std::size_t subnet_stride_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> idle_;  // guarded by mutex_
};

}  // namespace lreorg
