// A reorganization as data: what lreorg_fast/cdfnet/schedule.py plans, in integers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lreorg {

// In a lane: stream 1 starts at zero, or a result that nobody reads.
inline constexpr std::int32_t kNone = -1;

enum class Direction { disentangle, fuse };

// One pass of CDFNet over all tokens. Values are numbered; each is (tokens x dim).
struct Lane {
  std::int32_t keyword;
  std::int32_t in1;  // kNone: zeros
  std::int32_t in2;
  std::int32_t out1;  // kNone: not used
  std::int32_t out2;  // kNone: not used
};

// Passes that do not depend on each other and run as one batch.
struct Step {
  Direction direction;
  std::vector<Lane> lanes;
};

class Program {
 public:
  // Values 0 .. num_inputs - 1 are given; every other one is written by exactly one lane, in an
  // earlier step than those that read it. Throws std::invalid_argument otherwise.
  Program(std::int32_t num_inputs, std::vector<Step> steps, std::vector<std::int32_t> outputs);

  std::size_t num_inputs() const { return num_inputs_; }
  std::size_t num_values() const { return num_values_; }
  std::size_t num_keywords() const { return num_keywords_; }  // one more than the largest index
  std::size_t most_lanes() const { return most_lanes_; }
  const std::vector<Step>& steps() const { return steps_; }
  const std::vector<std::int32_t>& outputs() const { return outputs_; }

 private:
  std::size_t num_inputs_;
  std::size_t num_values_;
  std::size_t num_keywords_ = 0;
  std::size_t most_lanes_ = 0;
  std::vector<Step> steps_;
  std::vector<std::int32_t> outputs_;
};

}  // namespace lreorg
