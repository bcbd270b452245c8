// A persistent team of threads for work of microseconds: idle threads spin briefly and then park.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <vector>

#include "cpu/openmp.h"

namespace lreorg::cpu {

// Thrown out of Barrier::wait when another thread of the job has failed.
struct Cancelled {};

// Lets threads wait for each other, in two halves so that work fits in between: whoever has arrived
// may go on with what the others do not touch, and waits later.
class Barrier {
 public:
  using Ticket = std::uint32_t;

  // Not while threads use it.
  void reset(std::size_t size);

  Ticket arrive();
  void wait(Ticket ticket);
  void arrive_and_wait() { wait(arrive()); }

  // Makes every wait throw Cancelled, now and until the next reset.
  void cancel();

 private:
  std::uint32_t size_ = 1;
  std::atomic<bool> cancelled_{false};
  alignas(64) std::atomic<std::uint32_t> arrived_{0};
  alignas(64) std::atomic<std::uint32_t> phase_{0};
};

class Job {
 public:
  // Called once, on the calling thread, before the others begin.
  virtual void start(std::size_t /*size*/) {}
  virtual void work(std::size_t rank, std::size_t size) = 0;
  // Called when a thread's work has thrown: cancel the barriers that others may wait at.
  virtual void cancel() {}

 protected:
  ~Job() = default;
};

// A process has one team. Where PyTorch is loaded its OpenMP threads do the work, for the reason
// that openmp.h gives. Otherwise the team has threads of its own: it grows to the largest size that
// was asked for, and they leave the cores within about 50 microseconds after a job and keep the
// affinity that they inherit.
class Team {
 public:
  // After fork() the child has another team, with threads of its own: neither threads nor OpenMP
  // survive a fork.
  static Team& shared();

  // `openmp` may be null.
  explicit Team(const OpenMP* openmp = nullptr);
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team();

  // Calls job.work(rank, size) on `size` threads at once, the caller being rank 0, and returns when
  // all are done. Size is `threads`, or 1 while another thread's job has the team: callers then
  // neither wait for each other nor share cores. The first exception is thrown here.
  void run(std::size_t threads, Job& job);

 private:
  struct Worker;

  bool run_on_openmp();
  void run_on_workers();
  void grow(std::size_t threads);
  void loop(Worker& worker, std::size_t rank);
  void attempt(std::size_t rank);

  const OpenMP* openmp_;
  std::mutex busy_;  // held by the job that has the team
  std::vector<std::unique_ptr<Worker>> workers_;
  Job* job_ = nullptr;
  std::size_t size_ = 0;
  std::mutex error_mutex_;
  std::exception_ptr error_;
  alignas(64) std::atomic<std::uint32_t> running_{0};
};

}  // namespace lreorg::cpu
