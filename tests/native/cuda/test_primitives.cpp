// The emulator of kernels/cuda/primitives.h: each primitive against plain C++, and each fault that
// it must find.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "cuda/primitives.h"
#include "suites.h"

namespace lreorg::test {
namespace {

using namespace lreorg::cuda;
using emulator::emulate;
using emulator::Error;
using emulator::Launch;

constexpr std::uint64_t kSeeds = 24;

template <class T>
T* shared_at(std::size_t offset) {
  return reinterpret_cast<T*>(dynamic_shared() + offset);
}

// Numbers that bfloat16, float16 and sums of a few products hold exactly.
std::vector<float> small_integers(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> numbers(count);
  for (float& number : numbers) number = std::floor(static_cast<float>(random.next()) * 8.0f);
  return numbers;
}

void wait(Barrier* barrier, unsigned parity) {
  while (!barrier_try_wait(barrier, parity)) {
  }
}

// How many of the seeds make `wrong` say yes.
template <class Wrong>
std::uint64_t found(Wrong wrong) {
  std::uint64_t count = 0;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) count += wrong(seed) ? 1 : 0;
  return count;
}

// Rows and columns of the elements of a lane, as the PTX ISA lists them for m16n8k16.
struct Place {
  unsigned row, column;
};
Place place_a(unsigned i) {
  const unsigned row = i < 2 || (i >= 4 && i < 6) ? lane() / 4 : lane() / 4 + 8;
  return {row, lane() % 4 * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
}
Place place_b(unsigned i) {
  return {lane() % 4 * 2 + (i & 1) + (i >= 2 ? 8 : 0), lane() / 4};
}
Place place_c(unsigned i) {
  return {i < 2 ? lane() / 4 : lane() / 4 + 8, lane() % 4 * 2 + (i & 1)};
}

template <class Kind>
void multiplies_like_a_plain_product() {
  const std::vector<float> a = small_integers(16 * 16, 1);
  const std::vector<float> b = small_integers(16 * 8, 2);
  const std::vector<float> c = small_integers(16 * 8, 3);
  std::vector<float> result(16 * 8);
  const auto at = [](const std::vector<float>& matrix, unsigned columns, Place place) {
    return matrix[place.row * columns + place.column];
  };
  emulate({}, [&] {
    std::uint32_t left[4], right[2];
    float sums[4];
    for (unsigned i = 0; i < 4; ++i) {
      left[i] = to_pair(at(a, 16, place_a(2 * i)), at(a, 16, place_a(2 * i + 1)), Kind{});
      sums[i] = at(c, 8, place_c(i));
    }
    for (unsigned i = 0; i < 2; ++i) {
      right[i] = to_pair(at(b, 8, place_b(2 * i)), at(b, 8, place_b(2 * i + 1)), Kind{});
    }
    multiply(sums, left, right, Kind{});
    for (unsigned i = 0; i < 4; ++i) {
      result[place_c(i).row * 8 + place_c(i).column] = sums[i];
    }
  });
  for (unsigned m = 0; m < 16; ++m) {
    for (unsigned n = 0; n < 8; ++n) {
      float sum = c[m * 8 + n];
      for (unsigned k = 0; k < 16; ++k) sum += a[m * 16 + k] * b[k * 8 + n];
      CHECK(result[m * 8 + n] == sum);
    }
  }
}

// Rows of activations, read by ldmatrix, are the right operand of a product with the identity.
void loads_matrices_as_right_operands() {
  constexpr unsigned kRowBytes = 48;  // 16 columns and a pad of 16 bytes
  const std::vector<float> tokens = small_integers(16 * 16, 4);
  std::vector<float> four(16 * 16), two(8 * 16);
  emulate({.shared_bytes = 16 * kRowBytes}, [&] {
    if (lane() < 16) {
      for (unsigned k = 0; k < 16; ++k) {
        shared_at<std::uint16_t>(lane() * kRowBytes)[k] =
            to_bits(tokens[lane() * 16 + k], Bfloat16{});
      }
    }
    sync_warp();
    std::uint32_t identity[4];
    for (unsigned i = 0; i < 4; ++i) {
      const Place low = place_a(2 * i), high = place_a(2 * i + 1);
      identity[i] = to_pair(low.row == low.column, high.row == high.column, Bfloat16{});
    }
    std::uint32_t right[4];
    const unsigned token = lane() % 8 + lane() / 16 * 8;
    load_matrix4(right, shared_at<void>(token * kRowBytes + lane() / 8 % 2 * 16));
    for (unsigned tile = 0; tile < 2; ++tile) {
      float sums[4] = {};
      const std::uint32_t b[2] = {right[2 * tile], right[2 * tile + 1]};
      multiply(sums, identity, b, Bfloat16{});
      for (unsigned i = 0; i < 4; ++i) {
        four[(place_c(i).column + 8 * tile) * 16 + place_c(i).row] = sums[i];
      }
    }
    std::uint32_t first[2];
    load_matrix2(first, shared_at<void>(lane() % 8 * kRowBytes + lane() / 8 % 2 * 16));
    float sums[4] = {};
    multiply(sums, identity, first, Bfloat16{});
    for (unsigned i = 0; i < 4; ++i) two[place_c(i).column * 16 + place_c(i).row] = sums[i];
  });
  CHECK(four == tokens);
  CHECK(two == std::vector<float>(tokens.begin(), tokens.begin() + 8 * 16));
}

template <class Kind>
void rounds_to_the_nearest_even(std::uint16_t infinity) {
  for (std::uint32_t bits = 0; bits < infinity; ++bits) {
    const float lower = to_float(static_cast<std::uint16_t>(bits), Kind{});
    CHECK(to_bits(lower, Kind{}) == bits);
    CHECK(to_bits(-lower, Kind{}) == (bits | 0x8000u));
    if (bits + 1 == infinity) break;
    const float upper = to_float(static_cast<std::uint16_t>(bits + 1), Kind{});
    const float middle = lower + (upper - lower) / 2;
    CHECK(to_bits(middle, Kind{}) == bits + bits % 2);
    if (lower == 0.0f) continue;
    CHECK(to_bits(std::nextafter(middle, lower), Kind{}) == bits);
    CHECK(to_bits(std::nextafter(middle, upper), Kind{}) == bits + 1);
  }
  CHECK(to_bits(INFINITY, Kind{}) == infinity);
  CHECK(std::isinf(to_float(infinity, Kind{})));
  CHECK(std::isnan(to_float(to_bits(NAN, Kind{}), Kind{})));
}

void splits_exactly_into_three_planes() {
  Random random(5);
  for (int i = 0; i < 20000; ++i) {
    const auto x = std::ldexp(static_cast<float>(random.next()), i % 60 - 30);
    const auto y = static_cast<float>(random.next());
    std::uint32_t planes[3];
    split_pair(x, y, planes, Bfloat16{});
    float low = 0.0f, high = 0.0f;
    for (int plane = 2; plane >= 0; --plane) {
      low += to_float(static_cast<std::uint16_t>(planes[plane]), Bfloat16{});
      high += to_float(static_cast<std::uint16_t>(planes[plane] >> 16), Bfloat16{});
    }
    CHECK(low == x && high == y);
  }
}

// A producer's warp pulls rows through a ring of two slots; a second warp adds them up. `Load` is
// the way of loading; `waits`: whether the reader waits for them.
constexpr unsigned kRows = 7;
constexpr unsigned kRow = 64;  // floats
constexpr unsigned kSlots = 2;

void load_by_bulk(float* slot, const float* row, Barrier* full) {
  if (lane() != 0) return;
  barrier_expect(full, kRow * sizeof(float));
  load_bulk(slot, row, kRow * sizeof(float), full);
}

void load_by_lanes(float* slot, const float* row, Barrier* full) {
  for (unsigned i = 4 * lane(); i < kRow; i += 4 * 32) load_async16(slot + i, row + i);
  barrier_arrive_async(full);
}

struct Way {
  void (*load)(float*, const float*, Barrier*);
  unsigned arrivals;
};
constexpr Way kWays[] = {{load_by_bulk, 1}, {load_by_lanes, 32}};

std::vector<float> ring_sums(const float* rows, const Way& way, bool waits, bool guards,
                             std::uint64_t seed) {
  std::vector<float> sums(kRow, 0.0f);
  const std::size_t barriers = kSlots * kRow * sizeof(float);
  emulate({.threads = 64, .shared_bytes = barriers + 2 * kSlots * sizeof(Barrier), .seed = seed},
          [&] {
            auto* full = shared_at<Barrier>(barriers);
            Barrier* free = full + kSlots;
            for (unsigned slot = 0; thread() == 0 && slot < kSlots; ++slot) {
              barrier_init(full + slot, way.arrivals);
              barrier_init(free + slot, 1);
            }
            fence_barrier_init();
            sync_block();
            for (unsigned row = 0; row < kRows; ++row) {
              const unsigned slot = row % kSlots, parity = row / kSlots % 2;
              auto* at = shared_at<float>(slot * kRow * sizeof(float));
              if (warp() == 0) {
                if (guards) wait(free + slot, parity ^ 1);
                // A lane that has yet to look at the barrier when another one has loaded may find a
                // phase later than it asks for, and never the one that it waits for.
                sync_warp();
                way.load(at, rows + row * kRow, full + slot);
              } else {
                if (waits) wait(full + slot, parity);
                sync_warp();
                for (unsigned i = lane(); i < kRow; i += 32) sums[i] += at[i];
                sync_warp();
                if (lane() == 0) barrier_arrive(free + slot);
              }
            }
            sync_block();  // not before the last copies have landed, whether or not they were read
            if (warp() != 0) return;
            for (unsigned row = kRows - kSlots; row < kRows; ++row) {
              wait(full + row % kSlots, row / kSlots % 2);
            }
          });
  return sums;
}

struct alignas(16) Rows {
  float values[kRows * kRow];
};

void copies_land_before_the_wait_ends() {
  Rows rows;
  std::vector<float> expected(kRow, 0.0f);
  const std::vector<float> numbers = small_integers(kRows * kRow, 6);
  std::copy(numbers.begin(), numbers.end(), rows.values);
  for (unsigned i = 0; i < kRows * kRow; ++i) expected[i % kRow] += rows.values[i];
  for (const Way& way : kWays) {
    const auto failures = [&](bool waits, bool guards) {
      return found([&](std::uint64_t seed) {
        try {
          return ring_sums(rows.values, way, waits, guards, seed) != expected;
        } catch (const Error&) {
          return true;
        }
      });
    };
    CHECK(failures(true, true) == 0);
    // Without the reader's wait it reads what has not landed, without the producer's the ring is
    // overwritten; either way a barrier may be arrived at too often.
    CHECK(failures(false, true) > kSeeds / 2);
    CHECK(failures(true, false) > kSeeds / 2);
  }
}

// Every block of a cluster gives every other one a number for each thread; true where some thread
// did not find them all.
enum class Omit { kNothing, kFirstBarrier, kWait, kSecondArrival };

bool exchange_fails(Omit omit, std::uint64_t seed) {
  constexpr unsigned kBlocks = 4, kThreads = 64;
  bool wrong = false;
  emulate({.grid = 2 * kBlocks,
           .cluster = kBlocks,
           .threads = kThreads,
           .shared_bytes = kBlocks * kThreads * sizeof(uint4),
           .seed = seed},
          [&] {
            auto* own = shared_at<uint4>(cluster_rank() * kThreads * sizeof(uint4)) + thread();
            if (omit != Omit::kFirstBarrier) {
              cluster_arrive();
              cluster_wait();
            }
            for (unsigned round = 0; round < 3; ++round) {
              const unsigned value = round + 10 * thread() + 1000 * block_index();
              for (unsigned rank = 0; rank < cluster_size(); ++rank) {
                store_cluster(own, rank, uint4{value, value + 1, value + 2, value + 3});
              }
              cluster_arrive();
              if (omit == Omit::kSecondArrival) cluster_arrive();
              if (omit != Omit::kWait) cluster_wait();
              for (unsigned rank = 0; rank < kBlocks; ++rank) {
                const uint4 got = shared_at<uint4>(0)[rank * kThreads + (thread() + 7) % kThreads];
                const unsigned from = cluster_index() * kBlocks + rank;
                const unsigned expected = round + 10 * ((thread() + 7) % kThreads) + 1000 * from;
                wrong = wrong || got.x != expected || got.w != expected + 3;
              }
              if (omit == Omit::kWait) cluster_wait();
              cluster_arrive();  // all have read
              cluster_wait();
            }
          });
  return wrong;
}

// The same by barriers that the blocks arrive at, one thread for its block; `waits`: whether the
// readers wait for the arrivals.
bool exchange_by_barriers_fails(bool waits, std::uint64_t seed) {
  constexpr unsigned kBlocks = 4, kThreads = 64;
  bool wrong = false;
  emulate({.grid = kBlocks,
           .cluster = kBlocks,
           .threads = kThreads,
           .shared_bytes = 16 + kBlocks * kThreads * sizeof(float),
           .seed = seed},
          [&] {
            auto* arrived = shared_at<Barrier>(0);
            auto* values = shared_at<float>(16);
            if (thread() == 0) barrier_init(arrived, kBlocks);
            fence_barrier_init();
            cluster_arrive();
            cluster_wait();
            const auto value = static_cast<float>(1000 * block_index() + thread());
            for (unsigned rank = 0; rank < kBlocks; ++rank) {
              store_cluster(values + block_index() * kThreads + thread(), rank, value);
            }
            sync_block();
            if (thread() < kBlocks) barrier_arrive_cluster(arrived, thread());
            while (waits && !barrier_try_wait_cluster(arrived, 0)) {
            }
            for (unsigned rank = 0; rank < kBlocks; ++rank) {
              const unsigned other = kThreads - 1 - thread();
              const auto expected = static_cast<float>(1000 * rank + other);
              wrong = wrong || values[rank * kThreads + other] != expected;
            }
            cluster_arrive();
            cluster_wait();
            wait(arrived, 0);
          });
  return wrong;
}

void clusters_exchange() {
  CHECK(found([](std::uint64_t seed) { return exchange_by_barriers_fails(true, seed); }) == 0);
  CHECK(found([](std::uint64_t seed) { return exchange_by_barriers_fails(false, seed); }) >
        kSeeds / 2);

  CHECK(found([](std::uint64_t seed) { return exchange_fails(Omit::kNothing, seed); }) == 0);
  CHECK(found([](std::uint64_t seed) { return exchange_fails(Omit::kWait, seed); }) > kSeeds / 2);
  CHECK_THROWS(Error, "before the first cluster barrier", exchange_fails(Omit::kFirstBarrier, 0));
  CHECK_THROWS(Error, "cluster_arrive twice", exchange_fails(Omit::kSecondArrival, 0));
}

// All blocks of a grid add and wait for the others, twice, and then find what the others wrote.
void grids_exchange() {
  constexpr unsigned kBlocks = 5;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    unsigned counter = 0;
    unsigned values[2][kBlocks] = {};
    const auto kernel = [&] {
      for (unsigned round = 0; round < 2; ++round) {
        if (thread() == 40) values[round][block_index()] = 1 + round + block_index();
        sync_block();
        if (thread() == 0) {
          add_release(&counter, 1);
          while (load_acquire(&counter) < (round + 1) * kBlocks) {
          }
        }
        sync_block();
        for (unsigned block = 0; block < kBlocks; ++block) {
          CHECK(values[round][block] == 1 + round + block);
        }
      }
    };
    emulate({.grid = kBlocks, .threads = 64, .seed = seed, .cooperative = true}, kernel);
    counter = 0;
    CHECK_THROWS(Error, "load_acquire",
                 emulate({.grid = kBlocks, .threads = 64, .seed = seed}, kernel));
  }
}

// Two warps of three pass numbers through shared memory.
bool handover_fails(bool synchronized, std::uint64_t seed) {
  bool wrong = false;
  emulate({.threads = 96, .shared_bytes = 64 * sizeof(unsigned), .seed = seed}, [&] {
    if (warp() == 2) return sync_threads_of(2, 32);
    shared_at<unsigned>(0)[thread()] = thread();
    if (synchronized) sync_threads_of(1, 64);
    wrong = wrong || shared_at<unsigned>(0)[63 - thread()] != 63 - thread();
  });
  return wrong;
}

void named_barriers_order() {
  CHECK(found([](std::uint64_t seed) { return handover_fails(true, seed); }) == 0);
  CHECK(found([](std::uint64_t seed) { return handover_fails(false, seed); }) == kSeeds);
}

// Lanes write in turns that differ: without sync_warp one finds what another has yet to write.
void lanes_are_not_in_step() {
  for (const bool synchronized : {true, false}) {
    const std::uint64_t count = found([&](std::uint64_t seed) {
      bool wrong = false;
      emulate({.shared_bytes = 32 * sizeof(unsigned), .seed = seed}, [&] {
        shared_at<unsigned>(0)[lane()] = lane();
        if (synchronized) sync_warp();
        const unsigned next = (lane() + 1) % 32;
        wrong = wrong || shared_at<unsigned>(0)[next] != next;
      });
      return wrong;
    });
    CHECK(count == (synchronized ? 0 : kSeeds));
  }
}

void faults_of_warps_are_reported() {
  const auto run = [](auto kernel) { emulate({.threads = 64, .shared_bytes = 1024}, kernel); };
  CHECK_THROWS(Error, "threads 1 to 31: sync_warp", run([] {
                 static std::uint64_t never;
                 if (thread() == 0) {
                   auto* barrier = shared_at<Barrier>(8);
                   barrier_init(barrier, 1);
                   wait(barrier, 0);
                   ++never;
                 }
                 sync_warp();
               }));
  CHECK_THROWS(Error, "sync_block", run([] {
                 if (lane() == 3) return;
                 for (int i = 0; i < 2; ++i) sync_block();
               }));
  CHECK_THROWS(Error, "meet in", run([] {
                 std::uint32_t r[4];
                 float c[4] = {};
                 const std::uint32_t b[2] = {};
                 load_matrix4(r, shared_at<void>(0));
                 if (lane() == 5) return multiply(c, r, b, Bfloat16{});
                 multiply(c, r, b, Float16{});
               }));
  CHECK_THROWS(Error, "threads 0 to 31: sync_block", run([] {
                 if (warp() == 0) sync_block();
               }));
  CHECK_THROWS(Error, "no multiple of 16", run([] {
                 std::uint32_t r[2];
                 load_matrix2(r, shared_at<void>(lane() * 8));
               }));
  CHECK_THROWS(Error, "outside the block's shared memory", run([] {
                 std::uint32_t r[4];
                 load_matrix4(r, shared_at<void>(1024 - 16 + lane() * 16));
               }));
}

void faults_of_barriers_are_reported() {
  alignas(16) static const float source[8] = {};
  const auto run = [](auto kernel) {
    emulate({.shared_bytes = 64}, [&] {
      if (lane() == 0) kernel(shared_at<Barrier>(0));
    });
  };
  CHECK_THROWS(Error, "not initialized", run([](Barrier* barrier) { barrier_arrive(barrier); }));
  CHECK_THROWS(Error, "overwritten", run([](Barrier* barrier) {
                 barrier_init(barrier, 1);
                 *shared_at<float>(4) = 1.0f;
                 barrier_arrive(barrier);
               }));
  CHECK_THROWS(Error, "more arrivals", run([](Barrier* barrier) {
                 barrier_init(barrier, 1);
                 barrier_expect(barrier, 32);
                 barrier_arrive(barrier);
               }));
  CHECK_THROWS(Error, "lacks 0 of 1 arrivals and 16 bytes", run([](Barrier* barrier) {
                 barrier_init(barrier, 1);
                 barrier_expect(barrier, 32);
                 load_bulk(shared_at<void>(16), source, 16, barrier);
                 wait(barrier, 0);
               }));
  CHECK_THROWS(
      Error, "before all that is on its way", for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
        emulate({.shared_bytes = 64, .seed = seed}, [&] {
          if (lane() != 0) return;
          barrier_init(shared_at<Barrier>(0), 1);
          load_bulk(shared_at<void>(16), source, 16, shared_at<Barrier>(0));
        });
      });
  CHECK_THROWS(Error, "before an arrival for its load_async16",
               run([](Barrier*) { load_async16(shared_at<void>(16), source); }));
  CHECK_THROWS(Error, "no multiple of 16",
               run([](Barrier*) { load_async16(shared_at<void>(16), source + 1); }));
}

void phases_alternate() {
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    unsigned arrived = 0;
    emulate({.threads = 96, .shared_bytes = 8, .seed = seed}, [&] {
      auto* barrier = shared_at<Barrier>(0);
      if (thread() == 0) barrier_init(barrier, 96);
      fence_barrier_init();
      sync_block();
      for (unsigned phase = 0; phase < 5; ++phase) {
        ++arrived;
        barrier_arrive(barrier);
        wait(barrier, phase % 2);
        CHECK(arrived >= 96 * (phase + 1) && arrived <= 96 * (phase + 2));
      }
    });
  }
}

void watchdogs_run_out() {
  constexpr std::uint64_t kPatienceNs = 2'000'000'000;
  bool given_up = false;
  const auto kernel = [&] {
    auto* barrier = shared_at<Barrier>(0);
    if (thread() == 0) barrier_init(barrier, 1);
    sync_warp();
    const std::uint64_t start = time_ns();
    while (!barrier_try_wait(barrier, 0)) {
      given_up = time_ns() - start > kPatienceNs;
      if (given_up) return;
    }
  };
  CHECK_THROWS(Error, "barrier_try_wait at 0 of 0", emulate({.shared_bytes = 8}, kernel));
  CHECK(!given_up);
  emulate({.shared_bytes = 8, .watchdog = true}, kernel);
  CHECK(given_up);
}

}  // namespace

const std::vector<Test> cuda_primitive_tests = {
    {"emulated multiply of bfloat16", false, multiplies_like_a_plain_product<Bfloat16>},
    {"emulated multiply of float16", false, multiplies_like_a_plain_product<Float16>},
    {"emulated load_matrix", false, loads_matrices_as_right_operands},
    {"emulated rounding", false,
     [] {
       rounds_to_the_nearest_even<Bfloat16>(0x7F80);
       rounds_to_the_nearest_even<Float16>(0x7C00);
       splits_exactly_into_three_planes();
     }},
    {"emulated copies land late", false, copies_land_before_the_wait_ends},
    {"emulated clusters exchange", false, clusters_exchange},
    {"emulated grids exchange", false, grids_exchange},
    {"emulated named barriers", false, named_barriers_order},
    {"emulated lanes are not in step", false, lanes_are_not_in_step},
    {"emulated faults of warps", false, faults_of_warps_are_reported},
    {"emulated faults of barriers", false, faults_of_barriers_are_reported},
    {"emulated phases of a barrier", false, phases_alternate},
    {"emulated watchdogs", false, watchdogs_run_out},
};

}  // namespace lreorg::test
