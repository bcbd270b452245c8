// The team of threads: who works, who waits, what happens to exceptions, and fork().
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "cpu/team.h"
#include "suites.h"

namespace lreorg::test {
namespace {

using cpu::Barrier;
using cpu::Job;
using cpu::Team;

// Every thread passes many barriers and looks whether the others have done what they should have
// before.
class Phases : public Job {
 public:
  explicit Phases(int phases) : phases_(phases) {}

  void start(std::size_t size) override {
    done_.assign(size, 0);
    barrier_.reset(size);
  }
  void work(std::size_t rank, std::size_t size) override {
    CHECK(size == done_.size() && done_[rank] == 0);
    for (int phase = 1; phase <= phases_; ++phase) {
      step(rank, phase);
      done_[rank] = phase;
      const Barrier::Ticket ticket = barrier_.arrive();
      if (phase % 2 == 0) std::this_thread::yield();  // between the halves of a barrier
      barrier_.wait(ticket);
      for (const int done : done_) CHECK(done == phase);
      barrier_.arrive_and_wait();
    }
  }
  void cancel() override { barrier_.cancel(); }

  std::size_t size() const { return done_.size(); }
  bool finished() const {
    return std::all_of(done_.begin(), done_.end(), [this](int done) { return done == phases_; });
  }

 protected:
  virtual void step(std::size_t, int) {}

 private:
  int phases_;
  std::vector<int> done_;  // not atomic: the barrier is what orders it
  Barrier barrier_;
};

void run_phases(Team& team, std::size_t threads, int phases) {
  Phases job(phases);
  team.run(threads, job);
  CHECK(job.finished());
}

void jobs_of_any_size_follow_each_other() {
  Team team;
  for (int repeat = 0; repeat < 40; ++repeat) {
    for (const std::size_t threads : {3, 1, 2, 5, 4, 0, 2}) {
      Phases job(3);
      team.run(threads, job);
      CHECK(job.finished() && job.size() == std::max<std::size_t>(threads, 1));
    }
  }
}

void teams_come_and_go() {
  for (int repeat = 0; repeat < 20; ++repeat) {
    Team team;
    if (repeat % 3 != 0) run_phases(team, 1 + static_cast<std::size_t>(repeat % 4), 2);
  }
}

// Throws in some threads, while the others wait at a barrier or are on their way to it.
class Failing final : public Phases {
 public:
  Failing(std::vector<std::size_t> ranks, int phase)
      : Phases(4), ranks_(std::move(ranks)), phase_(phase) {}

 private:
  void step(std::size_t rank, int phase) override {
    if (phase != phase_ || std::find(ranks_.begin(), ranks_.end(), rank) == ranks_.end()) return;
    throw std::runtime_error("rank " + std::to_string(rank));
  }
  std::vector<std::size_t> ranks_;
  int phase_;
};

void exceptions_reach_the_caller() {
  Team team;
  for (int repeat = 0; repeat < 10; ++repeat) {
    for (int phase = 1; phase <= 4; ++phase) {
      for (const std::size_t rank : {0, 1, 2}) {
        Failing job({rank}, phase);
        CHECK_THROWS(std::runtime_error, "rank " + std::to_string(rank), team.run(3, job));
        run_phases(team, 3, 2);
      }
      Failing all({0, 1, 2}, phase);
      CHECK_THROWS(std::runtime_error, "rank ", team.run(3, all));
    }
  }
  Failing alone({0}, 2);
  CHECK_THROWS(std::runtime_error, "rank 0", team.run(1, alone));
}

class FailingStart final : public Job {
  void start(std::size_t) override { throw std::runtime_error("start"); }
  void work(std::size_t, std::size_t) override { CHECK(false); }
};

void a_job_that_cannot_start_leaves_the_team_free() {
  Team team;
  for (const std::size_t threads : {1, 3}) {
    FailingStart job;
    CHECK_THROWS(std::runtime_error, "start", team.run(threads, job));
    run_phases(team, 3, 2);
  }
}

void a_cancelled_barrier_lets_nobody_wait() {
  Barrier barrier;
  barrier.reset(2);
  const Barrier::Ticket early = barrier.arrive();
  std::thread canceller([&barrier] { barrier.cancel(); });
  const auto is_cancelled = [](auto&& wait) {
    try {
      wait();
    } catch (const cpu::Cancelled&) {
      return true;
    }
    return false;
  };
  CHECK(is_cancelled([&] { barrier.wait(early); }));
  canceller.join();
  CHECK(is_cancelled([&] { barrier.arrive_and_wait(); }));
  CHECK(is_cancelled([&] { barrier.arrive_and_wait(); }));
  barrier.reset(1);
  CHECK(!is_cancelled([&] { barrier.arrive_and_wait(); }));
}

void callers_do_not_wait_for_each_other() {
  Team team;
  std::atomic<int> shared{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      for (int repeat = 0; repeat < 40; ++repeat) {
        Phases job(3);
        team.run(3, job);
        CHECK(job.finished() && (job.size() == 3 || job.size() == 1));
        if (job.size() == 3) ++shared;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(shared > 0);
}

// A runtime as PyTorch loads one, except that its threads are made for each region.
thread_local unsigned region_size = 1;
thread_local unsigned region_rank = 0;
std::atomic<unsigned> most_threads{4};   // what it says
std::atomic<unsigned> given_threads{4};  // what it gives, which may be fewer
std::atomic<int> regions{0};

void run_region(void (*body)(void*), void* data, unsigned threads, unsigned) {
  ++regions;
  const unsigned size = std::min(threads, given_threads.load());
  std::vector<std::thread> others;
  const auto enter = [=](unsigned rank) {
    region_size = size;
    region_rank = rank;
    body(data);
    region_size = 1;
    region_rank = 0;
  };
  for (unsigned rank = 1; rank < size; ++rank) others.emplace_back(enter, rank);
  enter(0);
  for (std::thread& other : others) other.join();
}

const cpu::OpenMP kRuntime = {
    run_region,
    [] { return static_cast<int>(most_threads); },
    [] { return static_cast<int>(region_size); },
    [] { return static_cast<int>(region_rank); },
};

void threads_of_a_loaded_runtime_do_the_work() {
  Team team(&kRuntime);
  for (const unsigned given : {4u, 3u, 2u, 1u}) {
    given_threads = given;
    for (const std::size_t threads : {2, 3, 4, 6, 1}) {
      const int before = regions;
      Phases job(3);
      team.run(threads, job);
      // No more than the runtime says; on threads of its own where it gives fewer.
      CHECK(job.finished() && job.size() == std::min<std::size_t>(threads, 4));
      CHECK(regions == before + (threads > 1 ? 1 : 0));
      Failing failing({job.size() - 1}, 2);
      CHECK_THROWS(std::runtime_error, "rank ", team.run(threads, failing));
    }
  }
  most_threads = 1;
  const int before = regions;
  run_phases(team, 3, 3);
  CHECK(regions == before);
}

// The exit status of a child that does the work, or is killed after a while.
template <typename Work>
int status_of_child(Work work) {
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    alarm(60);
    work();
    _exit(0);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  return status;
}

void a_forked_child_has_a_team_of_its_own() {
  run_phases(Team::shared(), 3, 3);
  for (int repeat = 0; repeat < 5; ++repeat) {
    const int status = status_of_child([] {
      run_phases(Team::shared(), 3, 3);
      run_phases(Team::shared(), 2, 3);
      CHECK(status_of_child([] { run_phases(Team::shared(), 2, 3); }) == 0);
    });
    CHECK(status == 0);
    run_phases(Team::shared(), 3, 3);
  }
}

void fork_while_a_job_runs() {
  std::atomic<bool> stop{false};
  std::atomic<bool> inside{false};
  std::thread busy([&] {
    while (!stop) {
      inside = true;
      run_phases(Team::shared(), 3, 20);
    }
  });
  while (!inside) std::this_thread::yield();
  for (int repeat = 0; repeat < 10; ++repeat) {
    CHECK(status_of_child([] {
            Phases job(3);
            Team::shared().run(3, job);
            CHECK(job.finished() && job.size() == 3);  // the busy thread's job is not the child's
          }) == 0);
  }
  stop = true;
  busy.join();
}

double cpu_seconds() {
  timespec time;
  CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Idle threads leave the cores: while the only other thread is blocked, the process needs none.
void idle_threads_park() {
  Team team;
  run_phases(team, 4, 20);
  const double before = cpu_seconds();
  const timespec interval{0, 300'000'000};
  CHECK(nanosleep(&interval, nullptr) == 0);
  // One thread that went on spinning would need 0.3 seconds, or its share of a busy core.
  CHECK(cpu_seconds() - before < 0.03);
}

}  // namespace

const std::vector<Test> team_tests = {
    {"jobs of any size follow each other", true, jobs_of_any_size_follow_each_other},
    {"teams come and go", true, teams_come_and_go},
    {"exceptions reach the caller", true, exceptions_reach_the_caller},
    {"a job that cannot start leaves the team free", true,
     a_job_that_cannot_start_leaves_the_team_free},
    {"a cancelled barrier lets nobody wait", true, a_cancelled_barrier_lets_nobody_wait},
    {"callers do not wait for each other", true, callers_do_not_wait_for_each_other},
    {"threads of a loaded runtime do the work", true, threads_of_a_loaded_runtime_do_the_work},
    {"a forked child has a team of its own", true, a_forked_child_has_a_team_of_its_own},
    {"fork while a job runs", true, fork_while_a_job_runs},
    {"idle threads park", true, idle_threads_park},
};

}  // namespace lreorg::test
