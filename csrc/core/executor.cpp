#include "core/executor.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "cpu/team.h"

namespace lreorg {
namespace {

// Tokens are independent, so long inputs run in chunks: the streams of a chunk stay in the cache
// while the weights pass by, and the scratch memory is bounded.
constexpr std::size_t kTokensPerChunk = 64;
// With fewer tokens threads share products by columns, with more they part: no more waiting for
// each other, at the cost of reading the weights once for each.
constexpr std::size_t kTokensPerGroup = 48;
// Below about 50 microseconds of work a second thread is not worth waking.
constexpr std::size_t kMultipliesPerThread = std::size_t{4} << 20;

std::size_t useful_threads(const Shape& shape, const Program& program, std::size_t tokens,
                           std::size_t threads) {
  const std::size_t groups = std::max<std::size_t>(tokens / kTokensPerGroup, 1);
  const std::size_t columns = (shape.dim + kGroup - 1) / kGroup;
  const std::size_t subnets = 2 * kRoles * shape.num_blocks;
  const std::size_t work =
      program.steps().size() * subnets * shape.dim * (shape.dim + shape.hidden()) * tokens;
  return std::min({threads, groups * columns, 1 + work / kMultipliesPerThread});
}

}  // namespace

// What one call needs. Kept for the next one, so that calls do not allocate.
struct Executor::Workspace {
  std::vector<std::unique_ptr<Scratch>> groups;
  std::vector<std::vector<float*>> values;  // per thread: where a chunk's values lie
};

// Borrows a workspace for one call and hands it back.
class Executor::Lease {
 public:
  explicit Lease(const Executor& owner) : owner_(owner) {
    const std::unique_lock lock = soon(owner_.mutex_);
    if (lock.owns_lock() && !owner_.idle_.empty()) {
      workspace_ = std::move(owner_.idle_.back());
      owner_.idle_.pop_back();
    } else {
      workspace_ = std::make_unique<Workspace>();
    }
  }
  ~Lease() {
    const std::unique_lock lock = soon(owner_.mutex_);
    if (lock.owns_lock()) owner_.idle_.push_back(std::move(workspace_));
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  Workspace& operator*() { return *workspace_; }

 private:
  // The lock is held for nanoseconds, or for ever: in a child of fork(), which then makes a
  // workspace for each call.
  static std::unique_lock<std::mutex> soon(std::mutex& mutex) {
    constexpr int kTries = 1000;
    std::unique_lock lock(mutex, std::defer_lock);
    for (int i = 0; i < kTries && !lock.try_lock(); ++i) std::this_thread::yield();
    return lock;
  }

  const Executor& owner_;
  std::unique_ptr<Workspace> workspace_;
};

// One call of run() as a job of the team.
class Executor::Call final : public cpu::Job {
 public:
  Call(const Executor& owner, Workspace& workspace, const Program& program,
       std::span<const float* const> inputs, std::span<float* const> outputs, std::size_t tokens)
      : model_{*owner.weights_, owner.kernels_, owner.arithmetic(), owner.constants_.data()},
        workspace_(workspace),
        program_(program),
        inputs_(inputs),
        outputs_(outputs),
        tokens_(tokens) {}

  void start(std::size_t size) override {
    groups_ = std::clamp<std::size_t>(tokens_ / kTokensPerGroup, 1, size);
    const std::size_t chunk = std::min(kTokensPerChunk, (tokens_ + groups_ - 1) / groups_);
    const std::size_t results = program_.num_values() - program_.num_inputs();
    while (workspace_.groups.size() < groups_) {
      workspace_.groups.push_back(std::make_unique<Scratch>());
    }
    for (std::size_t g = 0; g < groups_; ++g) {
      Scratch& scratch = *workspace_.groups[g];
      scratch.reserve(model_.weights.shape(), model_.arithmetic.operand,
                      program_.most_lanes() * chunk, results * chunk * model_.weights.shape().dim);
      scratch.barrier.reset(first_thread(g + 1, size) - first_thread(g, size));
    }
    if (workspace_.values.size() < size) workspace_.values.resize(size);
    for (std::vector<float*>& values : workspace_.values) values.resize(program_.num_values());
  }

  void work(std::size_t rank, std::size_t size) override {
    const ThreadSetup setup(model_.kernels);
    std::size_t group = 0;
    while (first_thread(group + 1, size) <= rank) ++group;
    const std::size_t first = first_thread(group, size);
    const std::size_t end = tokens_ * (group + 1) / groups_;
    for (std::size_t start = tokens_ * group / groups_; start < end; start += kTokensPerChunk) {
      const std::size_t count = std::min(kTokensPerChunk, end - start);
      Pass pass(model_, *workspace_.groups[group], count, rank - first,
                first_thread(group + 1, size) - first);
      chunk(pass, *workspace_.groups[group], workspace_.values[rank], start, count);
    }
  }

  void cancel() override {
    for (std::size_t g = 0; g < groups_; ++g) workspace_.groups[g]->barrier.cancel();
  }

 private:
  struct ThreadSetup {
    explicit ThreadSetup(const cpu::Kernels& kernels) : leave(kernels.leave_thread) {
      if (kernels.enter_thread) kernels.enter_thread();
    }
    ~ThreadSetup() {
      if (leave) leave();
    }
    ThreadSetup(const ThreadSetup&) = delete;
    ThreadSetup& operator=(const ThreadSetup&) = delete;
    void (*leave)();
  };

  std::size_t first_thread(std::size_t group, std::size_t size) const {
    return size * group / groups_;
  }

  void chunk(Pass& pass, Scratch& scratch, std::vector<float*>& values, std::size_t start,
             std::size_t count) {
    const std::size_t dim = model_.weights.shape().dim;
    const std::size_t num_inputs = program_.num_inputs();
    for (std::size_t i = 0; i < program_.num_values(); ++i) {
      // Inputs are only read; the program writes each of its results once, see Program.
      values[i] = i < num_inputs ? const_cast<float*>(inputs_[i]) + start * dim
                                 : scratch.values.data() + (i - num_inputs) * count * dim;
    }
    for (const Step& step : program_.steps()) pass.run(step, values);
    const Range columns = pass.columns();
    for (std::size_t i = 0; i < outputs_.size() && !columns.empty(); ++i) {
      const float* from = values[static_cast<std::size_t>(program_.outputs()[i])] + columns.first;
      float* to = outputs_[i] + start * dim + columns.first;
      for (std::size_t t = 0; t < count; ++t) {
        std::memcpy(to + t * dim, from + t * dim, columns.size() * sizeof(float));
      }
    }
  }

  Model model_;
  Workspace& workspace_;
  const Program& program_;
  std::span<const float* const> inputs_;
  std::span<float* const> outputs_;
  std::size_t tokens_;
  std::size_t groups_ = 1;
};

Executor::Executor(std::shared_ptr<const PackedWeights> weights, std::vector<float> constants,
                   const cpu::Kernels& kernels, bool exact)
    : weights_(std::move(weights)),
      constants_(std::move(constants)),
      kernels_(kernels),
      exact_(exact) {
  const Shape& shape = weights_->shape();
  const std::size_t per_keyword = kRoles * shape.num_blocks * shape.dim;
  if (constants_.size() % per_keyword != 0) {
    throw std::invalid_argument("keyword constants do not fit the packed weights.");
  }
  num_keywords_ = constants_.size() / per_keyword;
}

Executor::~Executor() = default;

const cpu::Arithmetic& Executor::arithmetic() const {
  const std::size_t type = static_cast<std::size_t>(weights_->type());
  return exact_ ? kernels_.exact[type] : kernels_.fast[type];
}

void Executor::run(const Program& program, std::span<const float* const> inputs,
                   std::span<float* const> outputs, std::size_t tokens, std::size_t threads) const {
  if (inputs.size() != program.num_inputs() || outputs.size() != program.outputs().size()) {
    throw std::invalid_argument("the number of inputs or outputs is not the program's.");
  }
  if (program.num_keywords() > num_keywords_) {
    throw std::invalid_argument("the program names a keyword that this executor lacks.");
  }
  if (tokens == 0) return;
  Lease workspace(*this);
  Call call(*this, *workspace, program, inputs, outputs, tokens);
  cpu::Team::shared().run(useful_threads(weights_->shape(), program, tokens, threads), call);
}

}  // namespace lreorg
