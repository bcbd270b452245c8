// The state of an emulated launch, and who runs next.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda/emulator.h"
#include "cuda/fiber.h"

namespace lreorg::emulator {

constexpr unsigned kLanes = 32;
constexpr std::uint32_t kAllLanes = 0xFFFFFFFFu;
constexpr unsigned kNamedBarriers = 16;

class Source {
 public:
  explicit Source(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 0x2545F4914F6CDD1Du) {}
  std::uint32_t next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::uint32_t>(state_ >> 33);
  }
  std::size_t below(std::size_t count) { return next() % count; }
  bool once_in(unsigned times) { return next() % times == 0; }

 private:
  std::uint64_t state_;
};

struct Block;
struct Warp;

// What a thread waits for, for the report of a deadlock.
struct Wait {
  const char* what = nullptr;  // null: it can go on
  long long place = -1;        // offset in the block's shared memory, or the number of a barrier
  long long value = -1;        // parity, count of threads
  bool operator==(const Wait&) const = default;
};

std::string describe(const Wait& wait);

struct AsyncCopy {
  std::byte* to;
  const std::byte* from;
  std::size_t bytes;
};

// Copies, or none, that land together, later, and then count at a barrier.
struct Landing {
  std::vector<AsyncCopy> copies;
  std::size_t barrier;      // of the block
  std::size_t transaction;  // bytes to count; 0: an arrival
};

struct Thread {
  Context context;
  Identity identity;
  Block* block = nullptr;
  Warp* warp = nullptr;
  Wait wait;
  bool may_time_out = false;  // of its wait: it says no after a while
  bool done = false;
  std::vector<AsyncCopy> open_copies;  // of load_async16, before an arrival
  std::deque<Landing> landings;        // of its arrivals, in order
  const unsigned* polled = nullptr;    // by load_acquire, last
  unsigned polled_value = 0;
};

// What the lanes give to a primitive of the whole warp.
struct Operands {
  void* c;
  const void* a;
  const void* b;
};

struct RemoteStore {
  const Block* target;
  std::byte* to;
  std::array<std::byte, 16> value;
  std::size_t bytes;
};

void perform(const std::vector<RemoteStore>& stores);

struct Warp {
  Block* block = nullptr;
  Thread* threads = nullptr;  // 32
  std::uint32_t ready = kAllLanes;
  std::uint32_t ended = 0;
  bool queued = false;
  Wait meeting;  // the primitive in which lanes meet
  std::uint32_t met = 0;
  std::array<Operands, kLanes> operands;
  bool at_cluster_barrier = false;  // between arrival and wait
  std::uint64_t cluster_phase = 0;  // at its arrival
  std::vector<RemoteStore> stores;  // since it last synchronized with others
  bool stores_early = false;        // they are seen at once, until its next arrival
};

struct NamedBarrier {
  unsigned arrived = 0;
  unsigned count = 0;
  std::vector<Warp*> waiting;
};

struct AsyncBarrier {
  std::size_t offset;
  unsigned arrivals;
  unsigned pending;
  long long bytes = 0;  // expected and not yet there
  unsigned parity = 0;  // of the phase that is not over
  std::vector<Thread*> waiting = {};
};

struct Cluster {
  std::vector<Block*> blocks;
  unsigned live = 0;  // threads
  unsigned arrived = 0;
  std::uint64_t phase = 0;
  std::vector<Warp*> waiting;
  std::vector<RemoteStore> released;
};

struct Block {
  unsigned index = 0;
  Cluster* cluster = nullptr;
  std::unique_ptr<std::byte[]> memory;
  std::byte* shared = nullptr;
  std::size_t shared_bytes = 0;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  unsigned live = 0;
  std::array<NamedBarrier, kNamedBarriers> named;
  std::vector<AsyncBarrier> barriers;
  std::vector<RemoteStore> stores;  // of warps that have synchronized since

  // Offset of an address of this block's shared memory.
  std::size_t offset(const void* address, std::size_t bytes, std::size_t alignment) const;
};

class Machine {
 public:
  Machine(const Launch& launch, const std::function<void()>& kernel);
  void run();

  Source random;
  std::uint64_t progress = 0;  // counts what other threads may wait for

  // Of the thread that runs.
  Thread& current() { return *current_; }
  void block(const Wait& wait, bool may_time_out = false);
  void yield();
  void yield_once_in(unsigned times) {
    if (random.once_in(times)) yield();
  }
  // Throws an Error that names the thread that runs; it ends the launch.
  [[noreturn]] void fail(const std::string& text);

  void wake(Thread& thread);
  void wake(Warp& warp);

  // All lanes of a warp meet in a primitive; work happens once, when the last one comes, and says
  // whether the warp goes on. Otherwise it waits until it is woken.
  template <class Work>
  void meet(const Wait& wait, const Operands& operands, Work&& work);

  void land_later(Block& block, Landing landing);
  void land_later_in_order(Thread& owner, Landing landing);  // after those that owner gave before
  void finish_phase(AsyncBarrier& barrier);
  void finish_cluster_phase(Cluster& cluster);
  // What the warp that runs has stored into `target`, or all blocks if null, and what it knows to
  // be stored by its block. They are no longer kept.
  std::vector<RemoteStore> take_stores(const Block* target);
  void poll(const unsigned* address);
  void notify(const unsigned* address);

  std::uint64_t time_ns() const { return time_; }

 private:
  struct Flight {
    Block* block;
    Thread* owner;  // its oldest landing is meant
    Landing landing;
  };

  static void enter();
  void wake(Warp& warp, std::uint32_t lanes);
  void start(unsigned cluster, std::size_t first_stack);
  void start(Block& block, std::size_t first_stack);
  void run_all();
  void run_warp(Warp& warp);
  Context& choose(Warp& warp);  // a lane that is to run now
  void finish_thread();
  void leave(bool last);  // a thread that cannot go on
  void land(std::size_t flight);
  bool land_one();
  bool pass_time();
  std::string deadlock() const;

  const Launch launch_;
  const std::function<void()>& kernel_;
  Stacks stacks_;
  Context scheduler_;
  Thread* current_ = nullptr;
  unsigned first_lane_ = 0;  // of this turn
  std::vector<std::unique_ptr<Cluster>> clusters_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<Warp*> runnable_;
  std::vector<Flight> flights_;
  std::vector<Thread*> polling_;
  unsigned live_ = 0;
  unsigned land_once_in_;
  std::uint64_t time_ = 0;
  std::uint64_t progress_then_ = 0;
  int idle_rounds_ = 0;
  std::exception_ptr error_;  // of a thread
};

// The launch that runs: the primitives are functions without an object.
extern Machine* machine;

template <class Work>
void Machine::meet(const Wait& wait, const Operands& operands, Work&& work) {
  Thread& thread = current();
  Warp& warp = *thread.warp;
  if (warp.ended != 0) fail(std::string(wait.what) + " without lanes that have ended");
  if (warp.met == 0) warp.meeting = wait;
  if (warp.meeting != wait) {
    fail("lanes of one warp meet in " + describe(warp.meeting) + " and in " + describe(wait));
  }
  const unsigned lane = thread.identity.thread % kLanes;
  warp.operands[lane] = operands;
  warp.met |= 1u << lane;
  if (warp.met != kAllLanes) return block(wait);
  warp.met = 0;
  if (!work(warp)) return block(wait);
  wake(warp);
}

}  // namespace lreorg::emulator
