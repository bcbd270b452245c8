#include "cpu/team.h"

#include <algorithm>
#include <thread>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace lreorg::cpu {
namespace {

// A pause is 40 to 140 cycles: 20 to 50 microseconds of spinning, then the core is offered to
// others, then the thread sleeps until it is woken. Longer spinning gains nothing on quiet cores,
// and on busy ones it takes away the time of the very thread that it waits for.
constexpr int kSpins = 1000;
constexpr int kYields = 50;

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Waits until the value is another one.
void wait_while(const std::atomic<std::uint32_t>& value, std::uint32_t is) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != is) return;
    pause();
  }
  for (int i = 0; i < kYields; ++i) {
    if (value.load(std::memory_order_acquire) != is) return;
    std::this_thread::yield();
  }
  while (value.load(std::memory_order_acquire) == is) value.wait(is, std::memory_order_acquire);
}

Team* shared_team = nullptr;

// The old team's memory is given up: its locks may be held by threads that the child lacks. OpenMP
// would wait for its lost threads for ever.
void replace_after_fork() {
  shared_team = new Team;
}

}  // namespace

void Barrier::reset(std::size_t size) {
  size_ = static_cast<std::uint32_t>(size);
  cancelled_.store(false, std::memory_order_relaxed);
  arrived_.store(0, std::memory_order_relaxed);
}

Barrier::Ticket Barrier::arrive() {
  const Ticket ticket = phase_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    // Nobody arrives for the next phase before this one ends.
    arrived_.store(0, std::memory_order_relaxed);
    // Adds, as cancel() does: a ticket taken after either of the two is never the last value.
    phase_.fetch_add(1, std::memory_order_acq_rel);
    if (size_ > 1) phase_.notify_all();
  }
  return ticket;
}

void Barrier::wait(Ticket ticket) {
  // A ticket from after cancel() would never be called up.
  if (!cancelled_.load(std::memory_order_acquire)) wait_while(phase_, ticket);
  if (cancelled_.load(std::memory_order_acquire)) throw Cancelled{};
}

void Barrier::cancel() {
  cancelled_.store(true, std::memory_order_release);
  phase_.fetch_add(1, std::memory_order_acq_rel);
  phase_.notify_all();
}

struct Team::Worker {
  std::thread thread;
  bool stop = false;
  alignas(64) std::atomic<std::uint32_t> jobs{0};  // how many it was told to do
};

Team& Team::shared() {
  static const bool made = [] {
    shared_team = new Team(torch_openmp());
#if defined(__unix__) || defined(__APPLE__)
    pthread_atfork(nullptr, nullptr, replace_after_fork);
#endif
    return true;
  }();
  static_cast<void>(made);
  return *shared_team;
}

Team::Team(const OpenMP* openmp) : openmp_(openmp) {}

Team::~Team() {
  for (const auto& worker : workers_) {
    worker->stop = true;
    worker->jobs.fetch_add(1, std::memory_order_release);
    worker->jobs.notify_one();
    worker->thread.join();
  }
}

void Team::grow(std::size_t threads) {
  while (workers_.size() + 1 < threads) {
    auto worker = std::make_unique<Worker>();
    Worker& made = *worker;
    const std::size_t rank = workers_.size() + 1;
    workers_.push_back(std::move(worker));
    try {
      made.thread = std::thread([this, &made, rank] { loop(made, rank); });
    } catch (...) {
      workers_.pop_back();
      throw;
    }
  }
}

void Team::loop(Worker& worker, std::size_t rank) {
  for (std::uint32_t done = 0;; ++done) {
    wait_while(worker.jobs, done);
    if (worker.stop) return;
    attempt(rank);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

void Team::attempt(std::size_t rank) {
  try {
    job_->work(rank, size_);
  } catch (const Cancelled&) {
    // The thread that failed has told why.
  } catch (...) {
    {
      const std::lock_guard lock(error_mutex_);
      if (!error_) error_ = std::current_exception();
    }
    job_->cancel();
  }
}

void Team::run(std::size_t threads, Job& job) {
  const std::unique_lock lock(busy_, std::try_to_lock);
  if (threads <= 1 || !lock.owns_lock()) {
    job.start(1);
    job.work(0, 1);
    return;
  }
  const bool openmp = openmp_ != nullptr && openmp_->max_threads() > 1;
  if (openmp) threads = std::min(threads, static_cast<std::size_t>(openmp_->max_threads()));
  job.start(threads);
  job_ = &job;
  size_ = threads;
  if (!openmp || !run_on_openmp()) run_on_workers();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

// False, and nothing done, when the runtime gives fewer threads than the job is set up for: it may,
// inside of somebody's parallel region or at a limit of the system.
bool Team::run_on_openmp() {
  struct Region {
    Team& team;
    std::atomic<bool> short_of_threads{false};
  } region{*this};
  const auto body = [](void* data) {
    Region& shared = *static_cast<Region*>(data);
    Team& team = shared.team;
    // Every thread sees the same numbers, so all of them work or none does.
    if (static_cast<std::size_t>(team.openmp_->num_threads()) < team.size_) {
      shared.short_of_threads.store(true, std::memory_order_relaxed);
      return;
    }
    const std::size_t rank = static_cast<std::size_t>(team.openmp_->thread_num());
    if (rank < team.size_) team.attempt(rank);
  };
  // All of the runtime's threads, even if the job needs fewer: asked for another number, it would
  // end the others and make them again for PyTorch's next operator.
  openmp_->parallel(body, &region, static_cast<unsigned>(openmp_->max_threads()), 0);
  return !region.short_of_threads.load(std::memory_order_relaxed);
}

void Team::run_on_workers() {
  grow(size_);
  running_.store(static_cast<std::uint32_t>(size_ - 1), std::memory_order_relaxed);
  for (std::size_t i = 0; i + 1 < size_; ++i) {
    workers_[i]->jobs.fetch_add(1, std::memory_order_release);
    workers_[i]->jobs.notify_one();
  }
  attempt(0);
  for (std::uint32_t left; (left = running_.load(std::memory_order_acquire)) != 0;) {
    wait_while(running_, left);
  }
}

}  // namespace lreorg::cpu
