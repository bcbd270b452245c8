#include "core/pass.h"

#include <algorithm>
#include <cstring>

namespace lreorg {
namespace {

constexpr Role kAdditive[] = {kAdd};
constexpr Role kAffine[] = {kScale, kShift};

// The products of a block in the order in which they run, so that each can ask for the next one's
// weights.
using Part = Pass::Part;
constexpr Pass::Stage kForward[] = {
    {Part::condition, kAdd}, {Part::condition, kScale}, {Part::condition, kShift},
    {Part::hidden, kAdd},    {Part::direct, kAdd},      {Part::output, kAdd},
    {Part::hidden, kScale},  {Part::hidden, kShift},    {Part::direct, kScale},
    {Part::direct, kShift},  {Part::output, kScale},    {Part::output, kShift},
};
constexpr Pass::Stage kInverse[] = {
    {Part::hidden, kScale},    {Part::hidden, kShift},    {Part::direct, kScale},
    {Part::direct, kShift},    {Part::output, kScale},    {Part::output, kShift},
    {Part::hidden, kAdd},      {Part::direct, kAdd},      {Part::output, kAdd},
    {Part::condition, kScale}, {Part::condition, kShift}, {Part::condition, kAdd},
};

// An even share of `total`, cut at multiples of `unit`.
Range share(std::size_t total, std::size_t unit, std::size_t rank, std::size_t size) {
  const std::size_t units = (total + unit - 1) / unit;
  return {std::min(total, units * rank / size * unit),
          std::min(total, units * (rank + 1) / size * unit)};
}

}  // namespace

Pass::Pass(const Model& model, Scratch& scratch, std::size_t tokens, std::size_t rank,
           std::size_t size)
    : model_(model),
      shape_(model.weights.shape()),
      scratch_(scratch),
      tokens_(tokens),
      rank_(rank),
      size_(size),
      columns_(share(shape_.dim, kGroup, rank, size)),
      hidden_columns_(share(shape_.hidden(), kPanel, rank, size)) {}

void Pass::run(const Step& step, std::span<float* const> values) {
  step_ = &step;
  copy_in(values);
  const std::size_t lanes = step.lanes.size();
  const std::size_t last = shape_.num_blocks - 1;
  if (step.direction == Direction::disentangle) {
    for (std::size_t b = 0; b <= last; ++b) {
      forward(b, b == last ? lanes_using(&Lane::out2) : lanes);
    }
  } else {
    for (std::size_t b = last + 1; b-- > 0;) {
      inverse(b, b == 0 ? lanes_using(&Lane::out1) : lanes);
    }
  }
  copy_out(values);
}

// Eq. 1 and 2. The last change of stream 2 is made for the first `lanes` lanes only: those after
// them have no use for it.
void Pass::forward(std::size_t block, std::size_t lanes) {
  const std::size_t all = step_->lanes.size();
  condition(block, kAdditive, all, 0, model_.kernels.add);
  condition(block, kAffine, all, 1, model_.kernels.scale_shift);
  dense(block, kAdditive, all, 0, model_.kernels.add);
  dense(block, kAffine, lanes, 1, model_.kernels.scale_shift);
}

// Eq. 3 and 4; here stream 1 changes last.
void Pass::inverse(std::size_t block, std::size_t lanes) {
  const std::size_t all = step_->lanes.size();
  dense(block, kAffine, all, 1, model_.kernels.unscale_shift);
  dense(block, kAdditive, all, 0, model_.kernels.subtract);
  condition(block, kAffine, all, 1, model_.kernels.unscale_shift);
  condition(block, kAdditive, lanes, 0, model_.kernels.subtract);
}

void Pass::condition(std::size_t block, Roles roles, std::size_t lanes, std::size_t to,
                     Couple couple) {
  if (lanes == 0) return;
  const std::size_t rows = lanes * tokens_;
  const std::size_t from = 1 - to;
  const RoundedCopy& in = scratch_.stream_copies[from];
  for (const Role role : roles) product(block, {Part::condition, role}, in, rows, out(role));
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    cpu::Coupling c = coupling({lane * tokens_, (lane + 1) * tokens_}, to);
    c.scale_constant = constant(lane, block, kScale);
    c.shift_constant = constant(lane, block, roles.back());
    couple(c);
  }
  finish(to, rows);
}

// A dense subnet in four parts: the stream's products for all hidden layers at once, the stream's
// product for the output (while slower threads still do the first), the short chain between the
// hidden layers, and their share of the output.
void Pass::dense(std::size_t block, Roles roles, std::size_t lanes, std::size_t to, Couple couple) {
  if (lanes == 0) return;
  const std::size_t rows = lanes * tokens_;
  const std::size_t from = 1 - to;
  const auto& subnets = model_.weights.layout().blocks[block].dense;
  const RoundedCopy& in = scratch_.stream_copies[from];
  for (const Role role : roles) {
    product(block, {Part::hidden, role}, in, rows, scratch_.hidden[slot(role)]);
  }
  const cpu::Barrier::Ticket ticket = scratch_.barrier.arrive();
  for (const Role role : roles) product(block, {Part::direct, role}, in, rows, out(role));
  scratch_.barrier.wait(ticket);
  for (const Role role : roles) chain(subnets[role], role, share(rows, 1, rank_, size_));
  scratch_.barrier.arrive_and_wait();
  for (const Role role : roles) {
    product(block, {Part::output, role}, scratch_.hidden_copies[slot(role)], rows, out(role));
  }
  cpu::Coupling c = coupling({0, rows}, to);
  c.scale_constant = model_.weights.vector(subnets[kScale].output_bias) + columns_.first;
  c.shift_constant = model_.weights.vector(subnets[roles.back()].output_bias) + columns_.first;
  couple(c);
  finish(to, rows);
}

void Pass::chain(const DenseSubnet& subnet, Role role, Range rows) {
  if (rows.empty()) return;
  const std::size_t growth = shape_.growth;
  const Matrix& hidden = scratch_.hidden[slot(role)];
  const float* bias = model_.weights.vector(subnet.hidden_bias);
  float* values = hidden.row(rows.first);
  for (std::size_t i = 0; i < kHiddenLayers; ++i) {
    float* layer = values + i * growth;
    if (i > 0) {
      const Tensor& matrix = subnet.chain[i - 1];
      const std::size_t type = static_cast<std::size_t>(model_.weights.type());
      model_.kernels.short_product[type]({rows.size(), matrix.inputs, growth, values,
                                          model_.weights.data(matrix), column_scales(matrix, 0),
                                          layer, hidden.stride()});
    }
    model_.kernels.leaky(rows.size(), growth, layer, hidden.stride(), bias + i * growth,
                         kLeakySlope);
  }
  round(hidden, scratch_.hidden_copies[slot(role)], rows, {0, shape_.hidden()});
}

void Pass::product(std::size_t block, Stage stage, const RoundedCopy& in, std::size_t rows,
                   const Matrix& out) {
  const Range columns = columns_of(stage);
  if (columns.empty()) return;
  const Tensor& matrix = tensor(block, stage);
  // The output adds to what its direct part has left there.
  model_.arithmetic.product({rows, matrix.inputs, columns.size(), in.operand(),
                             panels(block, stage), panels_after(block, stage),
                             column_scales(matrix, columns.first), out.row(0) + columns.first,
                             out.stride(), stage.part == Part::output});
}

const Tensor& Pass::tensor(std::size_t block, Stage stage) const {
  const BlockTensors& tensors = model_.weights.layout().blocks[block];
  const DenseSubnet& dense = tensors.dense[stage.role];
  switch (stage.part) {
    case Part::condition:
      return tensors.condition[stage.role];
    case Part::hidden:
      return dense.hidden;
    case Part::direct:
      return dense.direct;
    default:
      return dense.output;
  }
}

Range Pass::columns_of(Stage stage) const {
  return stage.part == Part::hidden ? hidden_columns_ : columns_;
}

const std::byte* Pass::panels(std::size_t block, Stage stage) const {
  const Tensor& matrix = tensor(block, stage);
  const std::size_t first = columns_of(stage).first / kPanel;
  return model_.weights.data(matrix) + first * panel_bytes(model_.weights.type(), matrix.inputs);
}

// Of this thread's next product; after the last of a pass, those of the pass that may follow.
const std::byte* Pass::panels_after(std::size_t block, Stage stage) const {
  const bool forward = step_->direction == Direction::disentangle;
  const std::span<const Stage> order = forward ? std::span(kForward) : std::span(kInverse);
  const auto next = std::find(order.begin(), order.end(), stage) + 1;
  if (next != order.end()) return panels(block, *next);
  const std::size_t last = shape_.num_blocks - 1;
  const bool turn = block == (forward ? last : 0);
  return turn ? panels(block, forward ? kInverse[0] : kForward[0])
              : panels(forward ? block + 1 : block - 1, order.front());
}

void Pass::round(const Matrix& matrix, const RoundedCopy& copy, Range rows, Range columns) {
  if (columns.empty()) return;
  cpu::Rounding x = copy.target(rows.first, columns.first);
  x.rows = rows.size();
  x.columns = columns.size();
  x.in = matrix.row(rows.first) + columns.first;
  x.in_stride = matrix.stride();
  model_.arithmetic.round(x);
}

// A stream has changed: nobody reads it before all have written their columns.
void Pass::finish(std::size_t stream, std::size_t rows) {
  round(scratch_.streams[stream], scratch_.stream_copies[stream], {0, rows}, columns_);
  scratch_.barrier.arrive_and_wait();
}

void Pass::copy_in(std::span<float* const> values) {
  const std::size_t lanes = step_->lanes.size();
  for (std::size_t i = 0; i < 2; ++i) {
    for (std::size_t lane = 0; lane < lanes && !columns_.empty(); ++lane) {
      const std::int32_t from = i == 0 ? step_->lanes[lane].in1 : step_->lanes[lane].in2;
      for (std::size_t t = 0; t < tokens_; ++t) {
        float* to = scratch_.streams[i].row(lane * tokens_ + t) + columns_.first;
        if (from == kNone) {
          std::fill_n(to, columns_.size(), 0.0f);
        } else {
          std::memcpy(to, values[static_cast<std::size_t>(from)] + t * shape_.dim + columns_.first,
                      columns_.size() * sizeof(float));
        }
      }
    }
    round(scratch_.streams[i], scratch_.stream_copies[i], {0, lanes * tokens_}, columns_);
  }
  scratch_.barrier.arrive_and_wait();
}

void Pass::copy_out(std::span<float* const> values) {
  for (std::size_t lane = 0; lane < step_->lanes.size() && !columns_.empty(); ++lane) {
    const std::int32_t results[2] = {step_->lanes[lane].out1, step_->lanes[lane].out2};
    for (std::size_t i = 0; i < 2; ++i) {
      if (results[i] == kNone) continue;
      float* to = values[static_cast<std::size_t>(results[i])];
      for (std::size_t t = 0; t < tokens_; ++t) {
        const float* row = scratch_.streams[i].row(lane * tokens_ + t);
        std::memcpy(to + t * shape_.dim + columns_.first, row + columns_.first,
                    columns_.size() * sizeof(float));
      }
    }
  }
}

std::size_t Pass::lanes_using(std::int32_t Lane::* result) const {
  std::size_t lanes = step_->lanes.size();
  while (lanes > 0 && step_->lanes[lanes - 1].*result == kNone) --lanes;
  return lanes;
}

cpu::Coupling Pass::coupling(Range rows, std::size_t stream) const {
  cpu::Coupling c{};
  c.rows = rows.size();
  c.dim = columns_.size();
  c.stream = scratch_.streams[stream].row(rows.first) + columns_.first;
  c.stream_stride = scratch_.streams[stream].stride();
  c.scale = scratch_.scale.row(rows.first) + columns_.first;
  c.shift = scratch_.shift.row(rows.first) + columns_.first;
  c.subnet_stride = scratch_.shift.stride();
  c.clamp = shape_.clamp;
  return c;
}

const float* Pass::constant(std::size_t lane, std::size_t block, Role role) const {
  const std::size_t keyword = static_cast<std::size_t>(step_->lanes[lane].keyword);
  return model_.constants + ((keyword * shape_.num_blocks + block) * kRoles + role) * shape_.dim +
         columns_.first;
}

// Null for other weights than int8, which have none.
const float* Pass::column_scales(const Tensor& matrix, std::size_t first) const {
  const bool int8 = model_.weights.type() == WeightType::int8;
  return int8 ? model_.weights.scales(matrix) + first : nullptr;
}

}  // namespace lreorg
