#include "core/program.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace lreorg {
namespace {

void require(bool condition, std::size_t step, const char* message) {
  if (!condition) {
    throw std::invalid_argument("program, step " + std::to_string(step) + ": " + message);
  }
}

}  // namespace

Program::Program(std::int32_t num_inputs, std::vector<Step> steps,
                 std::vector<std::int32_t> outputs)
    : steps_(std::move(steps)), outputs_(std::move(outputs)) {
  if (num_inputs < 1) throw std::invalid_argument("program: it needs at least one input.");
  num_inputs_ = static_cast<std::size_t>(num_inputs);
  std::int32_t next = num_inputs;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const std::int32_t known = next;
    for (const Lane& lane : steps_[i].lanes) {
      require(lane.keyword >= 0, i, "a keyword index is negative.");
      require(lane.in1 >= kNone && lane.in1 < known, i, "stream 1 is not known yet.");
      require(lane.in2 >= 0 && lane.in2 < known, i, "stream 2 is not known yet.");
      require(lane.out1 != kNone || lane.out2 != kNone, i, "a lane has no result.");
      for (const std::int32_t out : {lane.out1, lane.out2}) {
        require(out == kNone || out == next, i, "results must be numbered in order.");
        if (out != kNone) ++next;
      }
      num_keywords_ = std::max(num_keywords_, static_cast<std::size_t>(lane.keyword) + 1);
    }
    require(!steps_[i].lanes.empty(), i, "it has no lane.");
    most_lanes_ = std::max(most_lanes_, steps_[i].lanes.size());
  }
  num_values_ = static_cast<std::size_t>(next);
  for (const std::int32_t output : outputs_) {
    require(output >= 0 && output < next, steps_.size(), "an output is not a value.");
  }
}

}  // namespace lreorg
