#include "tensorrt/node.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/program.h"

namespace lreorg::tensorrt {
namespace {

constexpr std::array<const char*, kModelInputs> kInputNames{
    "constants", "condition", "hidden", "hidden_bias", "chain", "direct", "output", "output_bias"};
constexpr std::int32_t kLaneWords = 5;
constexpr std::int64_t kRolesOfBlock = 3;
constexpr std::int64_t kHiddenLayersOfSubnet = 4;
// Of what lreorg_cuda_plan takes.
constexpr std::int64_t kMostExtent = 65536;
constexpr std::int64_t kMostTokens = std::int64_t{1} << 31;

[[noreturn]] void refuse(const std::string& message) {
  throw std::invalid_argument(message);
}

// Reads the attribute word by word.
class Words {
 public:
  explicit Words(const std::vector<std::int32_t>& words) : words_(words) {}

  std::int32_t next() {
    if (at_ == words_.size()) refuse("attribute 'program' ends too early.");
    return words_[at_++];
  }
  // A number of things of which each takes at least so many words: a damaged file must not make
  // anything large.
  std::int32_t count(std::size_t words_of_each) {
    const std::int32_t number = next();
    if (number < 0 || static_cast<std::size_t>(number) * words_of_each > words_.size() - at_) {
      refuse("attribute 'program' holds a number that is out of range.");
    }
    return number;
  }
  bool ended() const { return at_ == words_.size(); }

 private:
  const std::vector<std::int32_t>& words_;
  std::size_t at_ = 0;
};

std::string text(Extents extents) {
  std::string result = "(";
  for (std::size_t i = 0; i < extents.size(); ++i) {
    result += (i > 0 ? ", " : "") + std::to_string(extents[i]);
  }
  return result + ")";
}

template <std::size_t rank>
void require(Extents extents, const std::array<std::int64_t, rank>& expected, const char* name) {
  const Extents wanted(expected);
  if (extents.size() == rank && std::equal(extents.begin(), extents.end(), wanted.begin())) return;
  refuse("input '" + std::string(name) + "' has shape " + text(extents) + "; it must be " +
         text(wanted) + ".");
}

std::uint64_t aligned(std::uint64_t bytes) {
  return (bytes + 255) / 256 * 256;
}

}  // namespace

const char* input_name(Input input) {
  return kInputNames[static_cast<std::size_t>(input)];
}

NodeProgram::NodeProgram(std::vector<std::int32_t> attribute) : attribute_(std::move(attribute)) {
  Words words(attribute_);
  num_inputs_ = words.next();
  num_values_ = words.next();
  const std::int32_t num_outputs = words.count(1);
  for (std::int32_t i = 0; i < num_outputs; ++i) outputs_.push_back(words.next());
  const std::int32_t num_steps = words.count(2);
  std::vector<Step> steps;
  for (std::int32_t i = 0; i < num_steps; ++i) {
    const std::int32_t direction = words.next();
    if (direction != 0 && direction != 1) refuse("attribute 'program' has an unknown direction.");
    const std::int32_t num_lanes = words.count(kLaneWords);
    steps_.push_back({direction, static_cast<std::int32_t>(lanes_.size()), num_lanes});
    steps.push_back({static_cast<Direction>(direction), {}});
    for (std::int32_t l = 0; l < num_lanes; ++l) {
      const std::int32_t keyword = words.next();
      const std::int32_t in1 = words.next(), in2 = words.next();
      const std::int32_t out1 = words.next(), out2 = words.next();
      lanes_.push_back({keyword, in1, in2, out1, out2});
      steps.back().lanes.push_back({keyword, in1, in2, out1, out2});
    }
  }
  if (!words.ended()) refuse("attribute 'program' is longer than it says.");
  if (outputs_.empty()) refuse("attribute 'program' has no output.");
  const Program checked(num_inputs_, std::move(steps), outputs_);
  if (checked.num_values() != static_cast<std::size_t>(num_values_)) {
    refuse("attribute 'program' has another number of values than it says.");
  }
  if (num_values_ > lreorg_cuda_most_values()) {
    refuse("attribute 'program' has " + std::to_string(num_values_) + " values; at most " +
           std::to_string(lreorg_cuda_most_values()) + " are possible.");
  }
  num_keywords_ = static_cast<std::int32_t>(checked.num_keywords());
}

NodeShape node_shape(const NodeProgram& program, std::span<const Extents> shapes, float clamp) {
  const auto count = static_cast<std::size_t>(program.num_inputs());
  if (shapes.size() != static_cast<std::size_t>(program.node_inputs())) {
    refuse("the node has " + std::to_string(shapes.size()) + " inputs; its program asks for " +
           std::to_string(program.node_inputs()) + ".");
  }
  const Extents latent = shapes[0];
  if (latent.size() != 3) refuse("input 0 has shape " + text(latent) + "; it must be (N, T, D).");
  for (std::size_t i = 1; i < count; ++i) {
    require<3>(shapes[i], {latent[0], latent[1], latent[2]}, "of a value");
  }
  for (const std::int64_t extent : {latent[0], latent[1]}) {
    if (extent < 0 || extent > kMostTokens) {
      refuse("input 0 has shape " + text(latent) + "; N and T must be 0 to 2^31.");
    }
  }
  const auto model = [&](Input input) { return shapes[count + static_cast<std::size_t>(input)]; };
  const Extents hidden = model(kHidden);
  const Extents constants = model(kConstants);
  if (hidden.size() != 4 || hidden[2] % kHiddenLayersOfSubnet != 0) {
    refuse("input 'hidden' has shape " + text(hidden) + "; it must be (n, 3, 4 g, D).");
  }
  if (constants.size() != 4 || constants[0] < program.num_keywords()) {
    refuse("input 'constants' has shape " + text(constants) + "; it must be (K, n, 3, D) with " +
           std::to_string(program.num_keywords()) + " keywords at least.");
  }
  const std::int64_t n = hidden[0], dim = latent[2], all = hidden[2], r = kRolesOfBlock;
  for (const std::int64_t extent : {n, dim, all / kHiddenLayersOfSubnet}) {
    if (extent < 1 || extent > kMostExtent) {
      refuse("blocks, columns and growth must be 1 to 65536; input 'hidden' has shape " +
             text(hidden) + ".");
    }
  }
  require<4>(constants, {constants[0], n, r, dim}, input_name(kConstants));
  require<4>(model(kCondition), {n, r, dim, dim}, input_name(kCondition));
  require<4>(hidden, {n, r, all, dim}, input_name(kHidden));
  require<3>(model(kHiddenBias), {n, r, all}, input_name(kHiddenBias));
  require<4>(model(kChain), {n, r, all, all}, input_name(kChain));
  require<4>(model(kDirect), {n, r, dim, dim}, input_name(kDirect));
  require<4>(model(kOutput), {n, r, dim, all}, input_name(kOutput));
  require<3>(model(kOutputBias), {n, r, dim}, input_name(kOutputBias));
  const auto narrow = [](std::int64_t extent) { return static_cast<std::int32_t>(extent); };
  return {
      latent[0], latent[1], {narrow(dim), narrow(n), narrow(all / kHiddenLayersOfSubnet), clamp}};
}

Workspace make_workspace(const NodeProgram& program, const NodeShape& shape,
                         std::uint64_t weights_bytes, std::uint64_t scratch_bytes) {
  Workspace result;
  const auto tokens = static_cast<std::uint64_t>(shape.tokens());
  result.value_bytes =
      aligned(tokens * static_cast<std::uint64_t>(shape.network.dim) * sizeof(float));
  // Room for every value that is no input: an output that is one as well costs little.
  const auto between = static_cast<std::uint64_t>(program.num_values() - program.num_inputs());
  result.weights = result.values + between * result.value_bytes;
  result.scratch = result.weights + aligned(weights_bytes);
  result.status = result.scratch + aligned(scratch_bytes);
  result.bytes = result.status + aligned(LREORG_CUDA_STATUS_WORDS * sizeof(std::int32_t));
  return result;
}

}  // namespace lreorg::tensorrt
