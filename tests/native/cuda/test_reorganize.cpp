// The latency kernel's own sources in the emulator, against networks computed naively in double
// precision.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "cuda/packer.h"
#include "suites.h"

namespace lreorg::test {
namespace {

using namespace lreorg::cuda;
using emulator::emulate;
using emulator::Launch;

// Two keywords: residual 0 and key feature 1 of the input in one step, a fusion with a given
// feature, then the same recovery as in a reorganization.
constexpr int kInputs = 2;
constexpr int kValues = 8;
const std::vector<LreorgCudaLane> kLanes = {
    {0, -1, 0, -1, 2}, {1, -1, 0, 3, -1}, {0, 1, 2, 4, 5}, {1, -1, 5, -1, 6}, {1, 3, 6, -1, 7}};
const std::vector<LreorgCudaStep> kSteps = {{0, 0, 2}, {1, 2, 1}, {0, 3, 1}, {1, 4, 1}};

struct Case {
  std::uint32_t dim, growth, blocks, group;
  std::int64_t tokens;
  std::uint64_t seed;
  std::uint32_t slot_bytes = 8192;
  std::uint32_t slots = 3;
};

using Table = std::vector<std::vector<float>>;

Table inputs(const Case& which) {
  Random random(which.seed);
  Table values(kValues, std::vector<float>(which.tokens * which.dim, -7.0f));
  for (int i = 0; i < kInputs; ++i) {
    for (float& x : values[i]) x = static_cast<float>(random.next());
  }
  return values;
}

template <class P, class Exchange>
struct Runner {
  const Case which;
  const Network network = random_network(which.dim, which.growth, which.blocks, 2);
  const Geometry geometry{which.dim, which.growth, which.blocks, which.group, P::kWeightPlanes};
  Packer<P> packed{network, geometry};
  bool alone = false;  // only the first block of the first group runs
  std::vector<unsigned> status = std::vector<unsigned>(LREORG_CUDA_STATUS_WORDS);

  void launch(Table& values, std::uint32_t step, std::uint32_t steps, std::uint32_t lanes,
              const std::vector<LreorgCudaStep>& program, const std::vector<LreorgCudaLane>& of) {
    CHECK(packed.weights.size() * 2 == weights_bytes(geometry));
    CHECK(packed.biases.size() == which.blocks * geometry.biases());
    const SharedMap map(geometry, P::kActivationPlanes, which.slot_bytes, which.slots);
    Parameters parameters{geometry, map};
    const auto tiles = static_cast<std::uint32_t>((which.tokens + kTokens - 1) / kTokens);
    std::vector<uint4> weights(packed.weights.size() / 8);  // aligned
    std::copy(packed.weights.begin(), packed.weights.end(),
              reinterpret_cast<std::uint16_t*>(weights.data()));
    parameters.groups = tiles * lanes;
    std::vector<uint4> scratch(grid_scratch(geometry, P::kActivationPlanes, parameters.groups) /
                               16);
    parameters.dim = which.dim;
    parameters.clamp = network.shape.clamp;
    parameters.weights = reinterpret_cast<const std::byte*>(weights.data());
    parameters.biases = packed.biases.data();
    parameters.constants = network.constants.data();
    parameters.steps = program.data();
    parameters.lanes = of.data();
    parameters.tokens = which.tokens;
    parameters.status = status.data();
    parameters.scratch = reinterpret_cast<std::byte*>(scratch.data());
    parameters.first_step = step;
    parameters.num_steps = steps;
    parameters.num_lanes = lanes;
    parameters.most_pieces = most_pieces(geometry, P::kActivationPlanes);
    for (std::size_t i = 0; i < values.size(); ++i) parameters.values[i] = values[i].data();
    constexpr bool kCluster = std::is_same_v<Exchange, ClusterExchange>;
    Launch shape;
    shape.grid = geometry.group * parameters.groups;
    shape.cluster = kCluster ? geometry.group : 1;
    shape.threads = kBlockThreads;
    shape.shared_bytes = map.bytes();
    shape.seed = which.seed;
    shape.cooperative = !kCluster;
    if (alone) shape.grid = 1;
    shape.watchdog = alone;
    emulate(shape, [&] { reorganize<P, Exchange>(parameters); });
  }

  Table run() {
    Table values = inputs(which);
    launch(values, 0, 1, 2, kSteps, kLanes);
    launch(values, 1, 3, 1, kSteps, kLanes);
    CHECK(status[0] == 0);
    return values;
  }
};

Values row(const Table& values, int index, std::size_t token, std::size_t dim) {
  if (index < 0) return Values(dim, 0.0);
  const float* first = values[index].data() + token * dim;
  return Values(first, first + dim);
}

// The largest difference of anything that is written.
double error(const Network& network, const Case& which, const Table& results) {
  double worst = 0;
  Table given = inputs(which);
  for (std::size_t token = 0; token < static_cast<std::size_t>(which.tokens); ++token) {
    std::vector<Values> expected(kValues);
    for (int i = 0; i < kInputs; ++i) expected[i] = row(given, i, token, which.dim);
    for (std::size_t s = 0; s < kSteps.size(); ++s) {
      for (int l = 0; l < kSteps[s].num_lanes; ++l) {
        const LreorgCudaLane& lane = kLanes[kSteps[s].first_lane + l];
        Values h1 = lane.in1 < 0 ? Values(which.dim, 0.0) : expected[lane.in1];
        Values h2 = expected[lane.in2];
        if (kSteps[s].direction == 0) network.disentangle(h1, h2, lane.keyword);
        if (kSteps[s].direction == 1) network.fuse(h1, h2, lane.keyword);
        if (lane.out1 >= 0) expected[lane.out1] = h1;
        if (lane.out2 >= 0) expected[lane.out2] = h2;
      }
    }
    for (int i = 0; i < kValues; ++i) {
      const Values got = row(results, i, token, which.dim);
      for (std::size_t c = 0; c < which.dim; ++c) {
        const double difference = std::abs(got[c] - expected[i][c]);
        worst = difference <= worst ? worst : difference;  // also takes what is not a number
        if (std::isnan(difference)) return difference;
      }
    }
  }
  return worst;
}

template <class P, class Exchange>
Table check(const Case& which, double limit) {
  Runner<P, Exchange> runner{which};
  const Table results = runner.run();
  const double worst = error(kept<P>(runner.network), which, results);
  if (!(worst <= limit)) {
    std::fprintf(stderr, "dim %u growth %u group %u tokens %lld: error %g\n", which.dim,
                 which.growth, which.group, static_cast<long long>(which.tokens), worst);
  }
  CHECK(worst <= limit);
  return results;
}

constexpr double kExactLimit = 5e-5;    // float32 sums
constexpr double kHalfLimit = 2e-2;     // activations of 11 bits
constexpr double kRoundedLimit = 0.15;  // of 8 bits, through four passes

void test_exact() {
  for (const Case& which : {Case{40, 5, 2, 1, 1, 1}, Case{40, 5, 2, 2, 17, 2},
                            Case{72, 20, 2, 4, 16, 3}, Case{33, 16, 1, 2, 33, 4}}) {
    check<BfloatExact, ClusterExchange>(which, kExactLimit);
  }
}

void test_float32() {
  check<Single, ClusterExchange>({40, 5, 2, 2, 17, 5}, kExactLimit);
  check<Single, GridExchange>({40, 20, 1, 2, 3, 6}, kExactLimit);
}

void test_rounded() {
  check<Bfloat, ClusterExchange>({40, 5, 2, 2, 17, 7}, kRoundedLimit);
  check<Half, ClusterExchange>({40, 5, 2, 2, 17, 8}, kHalfLimit);
  check<Half, GridExchange>({72, 20, 2, 4, 5, 9}, kHalfLimit);
}

// More row tiles than a panel has, in every part.
void test_panels() {
  check<BfloatExact, ClusterExchange>({150, 40, 1, 2, 3, 10}, kExactLimit);
  check<BfloatExact, GridExchange>({90, 30, 1, 1, 3, 11}, kExactLimit);
}

// As on a Hopper: one network block of the base size, a cluster of 16, one face.
void test_base_size() {
  const Case face{512, 32, 1, 16, 14, 21, 16384, 9};
  check<Bfloat, ClusterExchange>(face, kRoundedLimit);
  Case exact = face;
  exact.slots = 4;
  check<BfloatExact, ClusterExchange>(exact, kExactLimit);
  Case grid = face;
  grid.slots = 5;
  check<Half, GridExchange>(grid, kHalfLimit);
}

// Bit for bit, whatever the tier, the group, the ring and the order of threads.
void test_same_everywhere() {
  const Case plain{72, 20, 2, 4, 18, 12};
  const auto expected = check<Bfloat, ClusterExchange>(plain, kRoundedLimit);
  CHECK((check<Bfloat, GridExchange>(plain, kRoundedLimit)) == expected);
  Case other = plain;
  other.group = 2;
  CHECK((check<Bfloat, ClusterExchange>(other, kRoundedLimit)) == expected);
  other = plain;
  other.slot_bytes = 4096;
  other.slots = 5;
  CHECK((check<Bfloat, GridExchange>(other, kRoundedLimit)) == expected);
}

template <class Exchange>
void check_orders() {
  const Case first{40, 20, 2, 2, 2, 13};
  Runner<Bfloat, Exchange> runner{first};
  const Table expected = runner.run();
  for (std::uint64_t seed = 100; seed < 116; ++seed) {
    Table values = inputs(first);
    Case which = first;
    which.seed = seed;
    Runner<Bfloat, Exchange> again{which};
    again.launch(values, 0, 1, 2, kSteps, kLanes);
    again.launch(values, 1, 3, 1, kSteps, kLanes);
    CHECK(values == expected);
  }
}

void test_orders() {
  check_orders<ClusterExchange>();
  check_orders<GridExchange>();
}

void test_round_trip() {
  const Case which{72, 20, 2, 4, 9, 14};
  const std::vector<LreorgCudaLane> lanes = {{0, -1, 0, 2, 3}, {0, 2, 3, 4, 5}};
  const std::vector<LreorgCudaStep> steps = {{0, 0, 1}, {1, 1, 1}};
  Runner<BfloatExact, ClusterExchange> runner{which};
  Table values = inputs(which);
  runner.launch(values, 0, 2, 1, steps, lanes);
  for (std::size_t i = 0; i < values[0].size(); ++i) {
    CHECK(std::abs(values[4][i]) < 2e-5);
    CHECK(std::abs(values[5][i] - values[0][i]) < 2e-5);
  }
}

// A block that never starts: its group gives up, says so, and gives out nothing.
void test_watchdog() {
  const Case which{40, 5, 1, 2, 3, 15};
  Runner<Bfloat, GridExchange> runner{which};
  Table values = inputs(which);
  runner.alone = true;
  runner.launch(values, 1, 1, 1, kSteps, kLanes);
  CHECK(runner.status[LREORG_CUDA_STATUS_FAILED] == Watchdog::kExchange);
  CHECK(runner.status[LREORG_CUDA_STATUS_STEP] == 1);
  CHECK(std::isnan(values[5][0]));
}

}  // namespace

const std::vector<Test> cuda_reorganize_tests = {
    {"cuda exact activations", false, test_exact},
    {"cuda float32 weights", false, test_float32},
    {"cuda rounded activations", false, test_rounded},
    {"cuda several panels", false, test_panels},
    {"cuda base size", false, test_base_size},
    {"cuda same results everywhere", false, test_same_everywhere},
    {"cuda any order of threads", false, test_orders},
    {"cuda round trip", false, test_round_trip},
    {"cuda watchdog", false, test_watchdog},
};

}  // namespace lreorg::test
