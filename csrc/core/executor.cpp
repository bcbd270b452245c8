#include "core/executor.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace lreorg {
namespace {

// Tokens are independent, so long inputs run in chunks: the streams of a chunk stay in the cache
// while the weights pass by, and the workspace is bounded.
constexpr std::size_t kTokensPerChunk = 64;

// A row of a power of two bytes would put the same column of every row into one cache set.
std::size_t row_stride(std::size_t width) {
  const std::size_t rounded = (width + cpu::kPanel - 1) / cpu::kPanel * cpu::kPanel;
  return rounded % 256 == 0 ? rounded + cpu::kPanel : rounded;
}

void reserve(std::vector<float>& buffer, std::size_t floats) {
  if (buffer.size() < floats) buffer.resize(floats);
}

}  // namespace

// Borrows a workspace for one call and hands it back.
class Executor::Lease {
 public:
  explicit Lease(const Executor& owner) : owner_(owner) {
    const std::lock_guard lock(owner_.mutex_);
    if (owner_.idle_.empty()) {
      workspace_ = std::make_unique<Workspace>();
    } else {
      workspace_ = std::move(owner_.idle_.back());
      owner_.idle_.pop_back();
    }
  }
  ~Lease() {
    const std::lock_guard lock(owner_.mutex_);
    owner_.idle_.push_back(std::move(workspace_));
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  Workspace& operator*() { return *workspace_; }

 private:
  const Executor& owner_;
  std::unique_ptr<Workspace> workspace_;
};

// One step of a program: all its lanes through all blocks, in the workspace's streams.
class Executor::Pass {
 public:
  Pass(const Executor& owner, const Step& step, Workspace& workspace, std::size_t tokens)
      : owner_(owner),
        kernels_(owner.kernels_),
        shape_(owner.weights_->shape()),
        step_(step),
        tokens_(tokens),
        h1_(workspace.stream1.data()),
        h2_(workspace.stream2.data()),
        subnet_(workspace.subnet.data()) {}

  void run() {
    const auto& blocks = owner_.weights_->layout().blocks;
    const std::size_t last = blocks.size() - 1;
    if (step_.direction == Direction::disentangle) {
      for (std::size_t b = 0; b <= last; ++b) {
        forward(blocks[b], b, b == last ? lanes_using(&Lane::out2) : step_.lanes.size());
      }
    } else {
      for (std::size_t b = last + 1; b-- > 0;) {
        inverse(blocks[b], b, b == 0 ? lanes_using(&Lane::out1) : step_.lanes.size());
      }
    }
  }

 private:
  using Couple = void (*)(const cpu::Coupling&);

  // Eq. 1 and 2. The last change of stream 2 is made for the first `lanes` lanes only: those after
  // them have no use for it.
  void forward(const BlockTensors& block, std::size_t b, std::size_t lanes) {
    condition_add(block, b, all_lanes(), kernels_.add);
    condition_scale_shift(block, b, kernels_.scale_shift);
    dense(block.dense_add, all_lanes(), h2_, h1_, kernels_.add);
    dense(block.dense_scale_shift, lanes, h1_, h2_, kernels_.scale_shift);
  }

  // Eq. 3 and 4; here stream 1 changes last.
  void inverse(const BlockTensors& block, std::size_t b, std::size_t lanes) {
    dense(block.dense_scale_shift, all_lanes(), h1_, h2_, kernels_.unscale_shift);
    dense(block.dense_add, all_lanes(), h2_, h1_, kernels_.subtract);
    condition_scale_shift(block, b, kernels_.unscale_shift);
    condition_add(block, b, lanes, kernels_.subtract);
  }

  void condition_add(const BlockTensors& block, std::size_t b, std::size_t lanes, Couple couple) {
    product(block.condition_add, lanes, h2_, owner_.stream_stride_, subnet_, false);
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      cpu::Coupling c = coupling(lane, 1, h1_);
      c.shift = subnet_row(lane);
      c.shift_constant = constant(lane, b, 0);
      couple(c);
    }
  }

  void condition_scale_shift(const BlockTensors& block, std::size_t b, Couple couple) {
    product(block.condition_scale_shift, all_lanes(), h1_, owner_.stream_stride_, subnet_, false);
    for (std::size_t lane = 0; lane < all_lanes(); ++lane) {
      cpu::Coupling c = coupling(lane, 1, h2_);
      c.scale = subnet_row(lane);
      c.scale_constant = constant(lane, b, 1);
      c.shift = subnet_row(lane) + shape_.dim;
      c.shift_constant = constant(lane, b, 2);
      couple(c);
    }
  }

  // A dense subnet in three parts: the products with the stream of all five layers at once, the
  // short chain of the hidden layers, and the hidden layers' share of the output.
  void dense(const DenseTensors& tensors, std::size_t lanes, const float* from, float* to,
             Couple couple) {
    if (lanes == 0) return;
    product(tensors.wide, lanes, from, owner_.stream_stride_, subnet_, false);
    const float* bias = reinterpret_cast<const float*>(owner_.weights_->data(tensors.bias));
    for (std::size_t s = 0; s < tensors.subnets.size(); ++s) {
      const std::size_t start = s * shape_.subnet_width();
      chain(tensors.subnets[s], lanes, subnet_ + start, bias + start);
    }
    cpu::Coupling c = coupling(0, lanes, to);
    const std::size_t shift = (tensors.subnets.size() - 1) * shape_.subnet_width();
    c.scale = subnet_ + shape_.hidden();
    c.scale_constant = bias + shape_.hidden();
    c.shift = subnet_ + shift + shape_.hidden();
    c.shift_constant = bias + shift + shape_.hidden();
    couple(c);
  }

  void chain(const DenseTail& tail, std::size_t lanes, float* values, const float* bias) {
    const std::size_t growth = shape_.growth;
    for (std::size_t i = 0; i < kHiddenLayers; ++i) {
      float* layer = values + i * growth;
      if (i > 0) product(tail.chain[i - 1], lanes, values, owner_.subnet_stride_, layer, true);
      kernels_.leaky(lanes * tokens_, growth, layer, owner_.subnet_stride_, bias + i * growth,
                     kLeakySlope);
    }
    product(tail.output, lanes, values, owner_.subnet_stride_, values + shape_.hidden(), true);
  }

  void product(const Tensor& tensor, std::size_t lanes, const float* in, std::size_t in_stride,
               float* out, bool accumulate) const {
    const cpu::Product p{lanes * tokens_,
                         tensor.inputs,
                         tensor.outputs,
                         in,
                         in_stride,
                         owner_.weights_->data(tensor),
                         out,
                         owner_.subnet_stride_,
                         accumulate};
    if (owner_.weights_->type() == WeightType::float32) {
      kernels_.product_float32(p);
    } else {
      kernels_.product_bfloat16(p);
    }
  }

  cpu::Coupling coupling(std::size_t lane, std::size_t lanes, float* stream) const {
    cpu::Coupling c{};
    c.rows = lanes * tokens_;
    c.dim = shape_.dim;
    c.stream = stream + lane * tokens_ * owner_.stream_stride_;
    c.stream_stride = owner_.stream_stride_;
    c.subnet_stride = owner_.subnet_stride_;
    c.clamp = shape_.clamp;
    return c;
  }

  const float* subnet_row(std::size_t lane) const {
    return subnet_ + lane * tokens_ * owner_.subnet_stride_;
  }

  const float* constant(std::size_t lane, std::size_t b, std::size_t role) const {
    const std::size_t keyword = static_cast<std::size_t>(step_.lanes[lane].keyword);
    const std::size_t row = (keyword * shape_.num_blocks + b) * 3 + role;
    return owner_.constants_.data() + row * shape_.dim;
  }

  std::size_t all_lanes() const { return step_.lanes.size(); }

  // Number of leading lanes that include every lane whose `result` is used.
  std::size_t lanes_using(std::int32_t Lane::* result) const {
    std::size_t lanes = step_.lanes.size();
    while (lanes > 0 && step_.lanes[lanes - 1].*result == kNone) --lanes;
    return lanes;
  }

  const Executor& owner_;
  const cpu::Kernels& kernels_;
  const Shape& shape_;
  const Step& step_;
  std::size_t tokens_;
  float* h1_;
  float* h2_;
  float* subnet_;
};

Executor::Executor(std::shared_ptr<const PackedWeights> weights, std::vector<float> constants,
                   const cpu::Kernels& kernels)
    : weights_(std::move(weights)), constants_(std::move(constants)), kernels_(kernels) {
  const Shape& shape = weights_->shape();
  const std::size_t per_keyword = std::size_t{3} * shape.num_blocks * shape.dim;
  if (constants_.size() % per_keyword != 0) {
    throw std::invalid_argument("keyword constants do not fit the packed weights.");
  }
  num_keywords_ = constants_.size() / per_keyword;
  stream_stride_ = row_stride(shape.dim);
  subnet_stride_ = row_stride(2 * shape.subnet_width());
}

void Executor::run(const Program& program, const std::vector<const float*>& inputs,
                   const std::vector<float*>& outputs, std::size_t tokens) const {
  if (inputs.size() != program.num_inputs() || outputs.size() != program.outputs().size()) {
    throw std::invalid_argument("the number of inputs or outputs is not the program's.");
  }
  if (program.num_keywords() > num_keywords_) {
    throw std::invalid_argument("the program names a keyword that this executor lacks.");
  }
  Lease workspace(*this);
  const std::size_t dim = weights_->shape().dim;
  for (std::size_t start = 0; start < tokens; start += kTokensPerChunk) {
    const std::size_t count = std::min(kTokensPerChunk, tokens - start);
    std::vector<const float*> values = inputs;
    std::vector<float*> results = outputs;
    for (const float*& value : values) value += start * dim;
    for (float*& result : results) result += start * dim;
    run_chunk(program, *workspace, std::move(values), results, count);
  }
}

void Executor::run_chunk(const Program& program, Workspace& workspace,
                         std::vector<const float*> values, const std::vector<float*>& outputs,
                         std::size_t tokens) const {
  const std::size_t dim = weights_->shape().dim;
  const std::size_t rows = program.most_lanes() * tokens;
  reserve(workspace.values, (program.num_values() - program.num_inputs()) * tokens * dim);
  reserve(workspace.stream1, rows * stream_stride_);
  reserve(workspace.stream2, rows * stream_stride_);
  reserve(workspace.subnet, rows * subnet_stride_);

  const auto copy_in = [&](std::int32_t value, std::size_t lane, std::vector<float>& stream) {
    for (std::size_t t = 0; t < tokens; ++t) {
      float* row = stream.data() + (lane * tokens + t) * stream_stride_;
      if (value == kNone) {
        std::fill_n(row, dim, 0.0f);
      } else {
        std::memcpy(row, values[value] + t * dim, dim * sizeof(float));
      }
    }
  };
  const auto copy_out = [&](std::int32_t value, std::size_t lane,
                            const std::vector<float>& stream) {
    if (value == kNone) return;
    float* to = workspace.values.data() + (values.size() - program.num_inputs()) * tokens * dim;
    for (std::size_t t = 0; t < tokens; ++t) {
      const float* row = stream.data() + (lane * tokens + t) * stream_stride_;
      std::memcpy(to + t * dim, row, dim * sizeof(float));
    }
    values.push_back(to);  // results are numbered in this order, see Program
  };

  for (const Step& step : program.steps()) {
    for (std::size_t lane = 0; lane < step.lanes.size(); ++lane) {
      copy_in(step.lanes[lane].in1, lane, workspace.stream1);
      copy_in(step.lanes[lane].in2, lane, workspace.stream2);
    }
    Pass(*this, step, workspace, tokens).run();
    for (std::size_t lane = 0; lane < step.lanes.size(); ++lane) {
      copy_out(step.lanes[lane].out1, lane, workspace.stream1);
      copy_out(step.lanes[lane].out2, lane, workspace.stream2);
    }
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    std::memcpy(outputs[i], values[program.outputs()[i]], tokens * dim * sizeof(float));
  }
}

}  // namespace lreorg
