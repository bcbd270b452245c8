#include "cuda/machine.h"

#include <bit>
#include <cstring>
#include <numeric>
#include <utility>

namespace lreorg::emulator {

Machine* machine = nullptr;
const Identity* identity = nullptr;

namespace {

constexpr std::size_t kStackBytes = 256 * 1024;  // only what is touched takes memory
constexpr std::size_t kMostStacks = 16384;       // each takes two of the system's 65530 mappings
constexpr std::size_t kSharedAlignment = 1024;
constexpr std::size_t kMostClusterBlocks = 16;

// A warp goes on as long as it can, but for one lane's turn in so many.
constexpr unsigned kLanesPerTurn = 256;

// When no thread can go on, waits that may time out do. If so many rounds of that lead to nothing
// that another thread could wait for, nothing will come.
constexpr int kIdleRounds = 8;
constexpr int kIdleRoundsWithWatchdog = 1000;
constexpr std::uint64_t kRoundNs = 1000;
constexpr std::uint64_t kRoundNsWithWatchdog = 100'000'000;

void require(bool condition, const char* text) {
  if (!condition) throw Error(text);
}

const Launch& checked(const Launch& launch) {
  require(launch.threads > 0 && launch.threads % kLanes == 0 && launch.threads <= 1024,
          "a block has 32 to 1024 threads, in whole warps");
  require(launch.cluster > 0 && launch.cluster <= kMostClusterBlocks,
          "a cluster has 1 to 16 blocks");
  require(launch.grid > 0 && launch.grid % launch.cluster == 0, "a grid is of whole clusters");
  return launch;
}

std::size_t stacks(const Launch& launch) {
  const std::size_t blocks = launch.cooperative ? launch.grid : launch.cluster;
  require(blocks * launch.threads <= kMostStacks, "too many threads at the same time");
  return blocks * launch.threads;
}

}  // namespace

void perform(const std::vector<RemoteStore>& stores) {
  for (const RemoteStore& store : stores) std::memcpy(store.to, store.value.data(), store.bytes);
}

std::string describe(const Wait& wait) {
  std::string text = wait.what;
  if (wait.place >= 0) text += " at " + std::to_string(wait.place);
  if (wait.value >= 0) text += " of " + std::to_string(wait.value);
  return text;
}

std::size_t Block::offset(const void* address, std::size_t bytes, std::size_t alignment) const {
  const auto begin = reinterpret_cast<std::uintptr_t>(shared);
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  if (at < begin || at + bytes > begin + shared_bytes) {
    machine->fail("an address outside the block's shared memory");
  }
  if (at % alignment != 0) {
    machine->fail("a shared address that is no multiple of " + std::to_string(alignment));
  }
  return at - begin;
}

Machine::Machine(const Launch& launch, const std::function<void()>& kernel)
    : random(launch.seed),
      launch_(checked(launch)),
      kernel_(kernel),
      stacks_(stacks(launch), kStackBytes) {
  // From copies that land soon to copies that land only when nothing else is left to do.
  constexpr unsigned kPaces[] = {2, 8, 64, 1u << 30};
  land_once_in_ = kPaces[random.below(std::size(kPaces))];
}

void Machine::run() {
  const unsigned count = launch_.grid / launch_.cluster;
  std::vector<unsigned> order(count);
  std::iota(order.begin(), order.end(), 0u);
  for (std::size_t i = count; i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  for (std::size_t i = 0; i < count; ++i) {
    start(order[i], launch_.cooperative ? i * launch_.cluster * std::size_t{launch_.threads} : 0);
    if (!launch_.cooperative || i + 1 == count) run_all();
  }
}

void Machine::start(unsigned cluster, std::size_t first_stack) {
  clusters_.push_back(std::make_unique<Cluster>());
  Cluster& made = *clusters_.back();
  made.live = launch_.cluster * launch_.threads;
  for (unsigned rank = 0; rank < launch_.cluster; ++rank) {
    blocks_.push_back(std::make_unique<Block>());
    Block& block = *blocks_.back();
    block.index = cluster * launch_.cluster + rank;
    block.cluster = &made;
    made.blocks.push_back(&block);
    start(block, first_stack + std::size_t{rank} * launch_.threads);
  }
}

void Machine::start(Block& block, std::size_t first_stack) {
  block.shared_bytes = launch_.shared_bytes;
  block.memory = std::make_unique<std::byte[]>(launch_.shared_bytes + kSharedAlignment);
  void* aligned = block.memory.get();
  std::size_t space = launch_.shared_bytes + kSharedAlignment;
  block.shared =
      static_cast<std::byte*>(std::align(kSharedAlignment, launch_.shared_bytes, aligned, space));
  std::memset(block.shared, 0xFF, block.shared_bytes);
  block.live = launch_.threads;
  live_ += block.live;
  block.threads = std::vector<Thread>(launch_.threads);
  block.warps = std::vector<Warp>(launch_.threads / kLanes);
  for (Warp& warp : block.warps) {
    warp.block = &block;
    warp.threads = &block.threads[static_cast<std::size_t>(&warp - block.warps.data()) * kLanes];
    warp.queued = true;
    runnable_.push_back(&warp);
  }
  for (unsigned i = 0; i < launch_.threads; ++i) {
    Thread& thread = block.threads[i];
    thread.block = &block;
    thread.warp = &block.warps[i / kLanes];
    thread.identity = {
        i,           launch_.threads, block.index, block.index % launch_.cluster, launch_.cluster,
        block.shared};
    prepare(thread.context, stacks_.stack(first_stack + i), stacks_.bytes(), &Machine::enter);
  }
}

void Machine::enter() {
  arrived();
  try {
    machine->kernel_();
    machine->finish_thread();
  } catch (...) {
    machine->error_ = std::current_exception();
  }
  machine->leave(true);
}

void Machine::run_all() {
  while (live_ > 0) {
    if (!flights_.empty() && random.once_in(land_once_in_)) land_one();
    if (runnable_.empty()) {
      if (!land_one() && !pass_time()) throw Error(deadlock());
      continue;
    }
    const std::size_t chosen = random.below(runnable_.size());
    Warp& warp = *runnable_[chosen];
    run_warp(warp);
    if (error_ != nullptr) std::rethrow_exception(error_);
    if (warp.ready != 0) continue;
    // What ran may have made others runnable, at the end; this one is where it was.
    warp.queued = false;
    std::swap(runnable_[chosen], runnable_.back());
    runnable_.pop_back();
  }
  blocks_.clear();
  clusters_.clear();
}

void Machine::run_warp(Warp& warp) {
  first_lane_ = random.next() % kLanes;
  switch_context(scheduler_, choose(warp));
  identity = nullptr;
}

Context& Machine::choose(Warp& warp) {
  const std::uint32_t turned = std::rotr(warp.ready, static_cast<int>(first_lane_));
  current_ =
      &warp.threads[(static_cast<unsigned>(std::countr_zero(turned)) + first_lane_) % kLanes];
  identity = &current_->identity;
  ++time_;
  return current_->context;
}

void Machine::leave(bool last) {
  Context& left = current_->context;
  Warp& warp = *current_->warp;
  const bool turn_ends = error_ != nullptr || warp.ready == 0 || random.once_in(kLanesPerTurn);
  switch_context(left, turn_ends ? scheduler_ : choose(warp), last);
}

void Machine::yield() {
  switch_context(current_->context, scheduler_);
}

void Machine::block(const Wait& wait, bool may_time_out) {
  Thread& thread = current();
  thread.wait = wait;
  thread.may_time_out = may_time_out;
  thread.warp->ready &= ~(1u << thread.identity.thread % kLanes);
  leave(false);
  thread.wait.what = nullptr;
}

void Machine::fail(const std::string& text) {
  const Thread& thread = current();
  throw Error("block " + std::to_string(thread.identity.block) + ", thread " +
              std::to_string(thread.identity.thread) + ": " + text);
}

void Machine::wake(Thread& thread) {
  wake(*thread.warp, 1u << thread.identity.thread % kLanes);
}

void Machine::wake(Warp& warp) {
  wake(warp, kAllLanes);
}

void Machine::wake(Warp& warp, std::uint32_t lanes) {
  warp.ready |= lanes;
  if (!std::exchange(warp.queued, true)) runnable_.push_back(&warp);
}

void Machine::finish_thread() {
  Thread& thread = current();
  Block& block = *thread.block;
  Warp& warp = *thread.warp;
  if (warp.met != 0) fail("it ends while lanes of its warp wait in " + describe(warp.meeting));
  if (!thread.open_copies.empty()) fail("it ends before an arrival for its load_async16");
  if (warp.at_cluster_barrier) fail("it ends between cluster_arrive and cluster_wait");
  const unsigned lane = thread.identity.thread % kLanes;
  thread.done = true;
  warp.ended |= 1u << lane;
  warp.ready &= ~(1u << lane);
  ++progress;
  --live_;
  --block.live;
  --block.cluster->live;
  finish_cluster_phase(*block.cluster);
  if (block.live > 0) return;
  for (const Flight& flight : flights_) {
    if (flight.block != &block) continue;
    if (!launch_.watchdog) fail("its block ends before all that is on its way there has landed");
  }
  std::erase_if(flights_, [&](const Flight& flight) { return flight.block == &block; });
}

std::vector<RemoteStore> Machine::take_stores(const Block* target) {
  Warp& warp = *current().warp;
  std::vector<RemoteStore> taken;
  for (std::vector<RemoteStore>* stores : {&warp.block->stores, &warp.stores}) {
    std::erase_if(*stores, [&](const RemoteStore& store) {
      if (target != nullptr && store.target != target) return false;
      taken.push_back(store);
      return true;
    });
  }
  // A later store must not be seen before an earlier one to the same place.
  if (warp.stores.empty() && warp.block->stores.empty()) warp.stores_early = random.once_in(4);
  return taken;
}

void Machine::finish_cluster_phase(Cluster& cluster) {
  if (cluster.arrived == 0 || cluster.arrived != cluster.live) return;
  cluster.arrived = 0;
  ++cluster.phase;
  perform(std::exchange(cluster.released, {}));
  for (Warp* warp : std::exchange(cluster.waiting, {})) {
    warp->at_cluster_barrier = false;
    wake(*warp);
  }
}

void Machine::finish_phase(AsyncBarrier& barrier) {
  if (barrier.pending > 0 || barrier.bytes != 0) return;
  barrier.pending = barrier.arrivals;
  barrier.parity ^= 1u;
  ++progress;
  for (Thread* thread : std::exchange(barrier.waiting, {})) wake(*thread);
}

void Machine::land_later(Block& block, Landing landing) {
  flights_.push_back({&block, nullptr, std::move(landing)});
}

void Machine::land_later_in_order(Thread& owner, Landing landing) {
  owner.landings.push_back(std::move(landing));
  flights_.push_back({owner.block, &owner, {}});
}

bool Machine::land_one() {
  if (flights_.empty()) return false;
  land(random.below(flights_.size()));
  return true;
}

void Machine::land(std::size_t index) {
  std::swap(flights_[index], flights_.back());
  Flight flight = std::move(flights_.back());
  flights_.pop_back();
  if (flight.owner != nullptr) {
    flight.landing = std::move(flight.owner->landings.front());
    flight.owner->landings.pop_front();
  }
  for (const AsyncCopy& copy : flight.landing.copies) {
    std::memcpy(copy.to, copy.from, copy.bytes);
  }
  AsyncBarrier& barrier = flight.block->barriers[flight.landing.barrier];
  ++progress;
  barrier.bytes -= static_cast<long long>(flight.landing.transaction);
  if (flight.landing.transaction == 0) {
    require(barrier.pending > 0, "more arrivals on their way than the barrier was made for");
    --barrier.pending;
  }
  finish_phase(barrier);
}

void Machine::poll(const unsigned* address) {
  Thread& thread = current();
  polling_.push_back(&thread);
  thread.polled = address;
  block({"load_acquire"}, true);
  std::erase(polling_, &thread);  // its patience may have ended
}

void Machine::notify(const unsigned* address) {
  ++progress;
  std::erase_if(polling_, [&](Thread* thread) {
    if (thread->polled != address) return false;
    wake(*thread);
    return true;
  });
}

bool Machine::pass_time() {
  if (std::exchange(progress_then_, progress) != progress) idle_rounds_ = 0;
  if (++idle_rounds_ > (launch_.watchdog ? kIdleRoundsWithWatchdog : kIdleRounds)) return false;
  time_ += launch_.watchdog ? kRoundNsWithWatchdog : kRoundNs;
  for (const auto& block : blocks_) {
    for (Thread& thread : block->threads) {
      if (thread.wait.what != nullptr && thread.may_time_out) wake(thread);
    }
  }
  return !runnable_.empty();
}

// One line for neighbouring threads that wait for the same.
std::string Machine::deadlock() const {
  std::string text = "no thread can go on:";
  for (const auto& block : blocks_) {
    const std::vector<Thread>& threads = block->threads;
    for (std::size_t i = 0; i < threads.size();) {
      std::size_t end = i + 1;
      while (end < threads.size() && threads[end].done == threads[i].done &&
             threads[end].wait == threads[i].wait) {
        ++end;
      }
      text += "\n  block " + std::to_string(block->index) + ", threads " + std::to_string(i) +
              " to " + std::to_string(end - 1) + ": ";
      text += threads[i].done ? "ended" : describe(threads[i].wait);
      i = end;
    }
    for (const AsyncBarrier& barrier : block->barriers) {
      text += "\n  block " + std::to_string(block->index) + ", barrier at " +
              std::to_string(barrier.offset) + ": parity " + std::to_string(barrier.parity) +
              ", lacks " + std::to_string(barrier.pending) + " of " +
              std::to_string(barrier.arrivals) + " arrivals and " + std::to_string(barrier.bytes) +
              " bytes";
    }
  }
  return text;
}

void emulate(const Launch& launch, const std::function<void()>& kernel) {
  Machine made(launch, kernel);
  Machine* const before = std::exchange(machine, &made);
  struct Restore {
    Machine* before;
    ~Restore() {
      machine = before;
      identity = nullptr;
    }
  } restore{before};
  made.run();
}

}  // namespace lreorg::emulator
