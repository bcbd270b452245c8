// The program of one thread block: every step, every block of the network, for its tile of tokens
// and its columns. See docs/latency_kernel.md.
#pragma once

#include "cuda/chain.h"
#include "cuda/exchange.h"
#include "cuda/parameters.h"

namespace lreorg::cuda {

constexpr float kNotANumber = __builtin_nanf("");

// Where a group stands in the launch: tiles of tokens times lanes of a step.
struct Place {
  unsigned group;
  unsigned rank;  // of the block in the group

  LREORG_DEVICE explicit Place(const Parameters& parameters)
      : group(parameters.first_group + block_index() / parameters.geometry.group),
        rank(block_index() % parameters.geometry.group) {}
  LREORG_DEVICE std::int64_t first_token(const Parameters& parameters) const {
    return static_cast<std::int64_t>(group / parameters.num_lanes) * kTokens;
  }
  LREORG_DEVICE const LreorgCudaLane& lane_of(const Parameters& parameters,
                                              const LreorgCudaStep& step) const {
    return parameters.lanes[step.first_lane + group % parameters.num_lanes];
  }
};

// Asks for all weights in the order of use.
LREORG_DEVICE void produce(const Parameters& parameters, const Place& place, Ring ring,
                           const Watchdog& watchdog) {
  const Geometry& geometry = parameters.geometry;
  std::uint64_t of_phase[kPhases];
  std::uint64_t of_block = 0;
#pragma unroll
  for (std::uint32_t phase = 0; phase < kPhases; ++phase) {
    of_phase[phase] = of_block;
    of_block += phase_bytes(geometry, phase);
  }
  const std::byte* own = parameters.weights + place.rank * geometry.num_blocks * of_block;
  for (std::uint32_t i = 0; i < parameters.num_steps; ++i) {
    const LreorgCudaStep step = parameters.steps[parameters.first_step + i];
    for_each_phase(
        step.direction, geometry.num_blocks, [&](std::uint32_t block, std::uint32_t phase, bool) {
          const std::uint64_t offset = phase == 0   ? of_phase[0]
                                       : phase == 1 ? of_phase[1]
                                       : phase == 2 ? of_phase[2]
                                                    : of_phase[3];
          const std::byte* from = own + block * of_block + offset;
          for_each_section(geometry, phase, [&](const Section& section) {
            const std::uint32_t most = chunk_depth(geometry, ring.slot_bytes, section.rows);
            for (std::uint32_t k = 0; k < section.depth; k += most) {
              const std::uint32_t depth = section.depth - k < most ? section.depth - k : most;
              const std::uint32_t size = depth * section.rows * geometry.weight_planes * kTileBytes;
              ring.load(from, size, watchdog);
              from += size;
            }
          });
        });
  }
}

template <class P, class Exchange>
struct Consumer {
  const Parameters& parameters;
  const Place place;
  std::byte* shared;
  Ring ring;
  Exchange exchange;
  Watchdog watchdog;
  const LreorgCudaLane* lane_now = nullptr;
  bool inverse = false;

  LREORG_DEVICE const Geometry& geometry() const { return parameters.geometry; }
  LREORG_DEVICE const SharedMap& map() const { return parameters.shared; }
  LREORG_DEVICE float2* stream(unsigned which) const {
    return reinterpret_cast<float2*>(shared + map().streams +
                                     which * SharedMap::stream_bytes(geometry()));
  }
  LREORG_DEVICE float2* partial() const {
    return reinterpret_cast<float2*>(shared + map().partial);
  }
  LREORG_DEVICE Operand copy(unsigned which) const {
    return {shared + which * map().copy_bytes, map().copy_pitch, 0, kTokens * map().copy_pitch};
  }
  LREORG_DEVICE Slab slab(unsigned which) const {
    return {shared + which * map().copy_bytes, P::kActivationPlanes * kTokens, map().copy_pitch,
            geometry().column_tiles * kTile * 2};
  }
  LREORG_DEVICE Slab hidden_slab(std::uint32_t phase) const {
    return {shared + map().before, kTokens, map().before_pitch,
            geometry().hidden_share(phase) * kTile * 4};
  }
  LREORG_DEVICE unsigned column(unsigned unit) const {
    return place.rank * geometry().column_tiles * kTile + unit_row(unit);
  }

  LREORG_DEVICE void run() {
    for (std::uint32_t i = 0; i < parameters.num_steps; ++i) {
      watchdog.step = parameters.first_step + i;
      const LreorgCudaStep step = parameters.steps[watchdog.step];
      lane_now = &place.lane_of(parameters, step);
      inverse = step.direction != 0;
      start();
      for_each_phase(step.direction, geometry().num_blocks,
                     [&](std::uint32_t block, std::uint32_t phase, bool last) {
                       watchdog.layer = block;
                       watchdog.phase = phase;
                       run_phase(phase, last);
                     });
      finish();
    }
  }

  // The streams of a pass, of which a unit has two tokens. What the same thread wrote to a value in
  // an earlier step of this launch it reads again here.
  LREORG_DEVICE void start() {
    const unsigned read_first = inverse ? 0 : 1;
    for (unsigned unit = thread(); unit < units(); unit += kConsumers) {
      const float2 first = load(lane_now->in1, unit);
      const float2 second = load(lane_now->in2, unit);
      stream(0)[unit] = first;
      stream(1)[unit] = second;
      store_copy(read_first, unit, inverse ? first : second);
    }
    sync_consumers();
    exchange.push(slab(read_first));
    exchange.wait(slab(read_first), watchdog);
  }

  LREORG_DEVICE void finish() {
    // Another block's failure too: what it pushed since then is not known, and it may own no column
    // to say so in. It wrote the status before it arrived at the meetings after that.
    const bool failed = watchdog.failed() || load_acquire(parameters.status) != 0;
    for (unsigned unit = thread(); unit < units(); unit += kConsumers) {
      const float2 nothing_known = {kNotANumber, kNotANumber};
      store(lane_now->out1, unit, failed ? nothing_known : stream(0)[unit]);
      store(lane_now->out2, unit, failed ? nothing_known : stream(1)[unit]);
    }
  }

  LREORG_DEVICE unsigned units() const { return geometry().column_tiles * kTileUnits; }

  LREORG_DEVICE bool inside(std::int64_t token, unsigned unit) const {
    return token < parameters.tokens && column(unit) < parameters.dim;
  }
  LREORG_DEVICE float* value(std::int32_t index, std::int64_t token, unsigned unit) const {
    return parameters.values[index] + token * parameters.dim + column(unit);
  }

  LREORG_DEVICE float2 load(std::int32_t index, unsigned unit) const {
    float2 pair = {0, 0};
    if (index < 0) return pair;
    const std::int64_t token = place.first_token(parameters) + unit_token(unit);
    if (inside(token, unit)) pair.x = *value(index, token, unit);
    if (inside(token + 1, unit)) pair.y = *value(index, token + 1, unit);
    return pair;
  }
  LREORG_DEVICE void store(std::int32_t index, unsigned unit, float2 pair) const {
    if (index < 0) return;
    const std::int64_t token = place.first_token(parameters) + unit_token(unit);
    if (inside(token, unit)) *value(index, token, unit) = pair.x;
    if (inside(token + 1, unit)) *value(index, token + 1, unit) = pair.y;
  }
  LREORG_DEVICE void store_copy(unsigned which, unsigned unit, float2 pair) const {
    store_pair<P>(copy(which), 0, unit_token(unit), column(unit), pair.x, pair.y);
  }

  LREORG_DEVICE void run_phase(std::uint32_t phase, bool last) {
    switch (phase) {
      case kConditionAdd:
        return run_phase_of<kConditionAdd>(last);
      case kConditionScale:
        return run_phase_of<kConditionScale>(last);
      case kDenseAdd:
        return run_phase_of<kDenseAdd>(last);
      default:
        return run_phase_of<kDenseScale>(last);
    }
  }

  template <std::uint32_t kPhase>
  LREORG_DEVICE void run_phase_of(bool last) {
    constexpr unsigned kSubnets = subnets(kPhase);
    constexpr unsigned kTarget = kSubnets - 1;  // the stream that changes; the other one is read
    Sums sums;
    for_each_section(geometry(), kPhase, [&](const Section& section) {
      switch (section.part) {
        case Part::hidden:
          clear(sums);
          product<P, 1>(sums, geometry(), section, copy(1 - kTarget), ring, watchdog);
          return hidden<kPhase>(sums, section);
        case Part::direct:
          clear(sums);
          product<P, 1>(sums, geometry(), section, copy(1 - kTarget), ring, watchdog);
          if constexpr (!is_dense(kPhase)) couple<kPhase>(sums, section);
          return;
        case Part::chain:
          exchange.wait(hidden_slab(kPhase), watchdog);
          return chain<kPhase>(section);
        case Part::output:
          product<P, kSubnets>(sums, geometry(), section, chain_of(kSubnets).operand(), ring,
                               watchdog);
          return couple<kPhase>(sums, section);
      }
    });
    const Slab changed = last ? nothing() : slab(kTarget);
    exchange.push(changed);
    exchange.wait(changed, watchdog);
  }

  // Own pre-activations of hidden layers; after the last ones they go to all blocks, which take
  // them when the direct part is done.
  template <std::uint32_t kPhase>
  LREORG_DEVICE void hidden(Sums& sums, const Section& section) {
    const unsigned first = (place.rank * geometry().hidden_share(kPhase) + section.first) * kTile;
    const float* bias = biases() + geometry().hidden_bias(kPhase) + first;
    gather(sums, section.rows, partial());
    for (unsigned unit = thread(); unit < section.rows * kTileUnits; unit += kConsumers) {
      const unsigned row = unit_row(unit);
      const float2 sum = total(partial(), unit);
      std::byte* at = shared + map().before + unit_token(unit) * map().before_pitch;
      reinterpret_cast<float*>(at)[first + row] = sum.x + bias[row];
      reinterpret_cast<float*>(at + map().before_pitch)[first + row] = sum.y + bias[row];
    }
    sync_consumers();
    if (section.first + section.rows == geometry().hidden_share(kPhase)) {
      exchange.push(hidden_slab(kPhase));
    }
  }

  LREORG_DEVICE Chain<P> chain_of(unsigned subnet) const {
    return {geometry(), map(),           shared + map().hidden, shared + map().before,
            subnet,     warp() % kHalves};
  }

  template <std::uint32_t kPhase>
  LREORG_DEVICE void chain(const Section& section) {
    const std::uint32_t most = chunk_depth(geometry(), ring.slot_bytes, section.rows);
    chain_of(warp() / kHalves).run(subnets(kPhase), Tiles<P>{ring, watchdog, most});
    sync_consumers();
  }

  LREORG_DEVICE const float* biases() const {
    return parameters.biases + static_cast<std::size_t>(watchdog.layer) * geometry().biases();
  }

  // What a subnet adds to its product: the keyword's constant, or the bias.
  template <std::uint32_t kPhase>
  LREORG_DEVICE float term(unsigned subnet, unsigned of_column) const {
    if constexpr (is_dense(kPhase)) {
      return biases()[geometry().output_bias(kPhase) + subnet * geometry().columns() + of_column];
    }
    if (of_column >= parameters.dim) return 0;
    const std::size_t block =
        static_cast<std::size_t>(lane_now->keyword) * geometry().num_blocks + watchdog.layer;
    return parameters
        .constants[(block * kRoles + subnets(kPhase) - 1 + subnet) * parameters.dim + of_column];
  }

  // Own columns of the stream that changes.
  template <std::uint32_t kPhase>
  LREORG_DEVICE void couple(Sums& sums, const Section& section) {
    constexpr unsigned kSubnets = subnets(kPhase);
    constexpr unsigned kTarget = kSubnets - 1;
    constexpr unsigned kUnits = kPanelTiles / kSubnets * kTileUnits / kConsumers;
    const unsigned first = section.first / kSubnets * kTileUnits;
    const unsigned count = section.rows / kSubnets * kTileUnits;
    float terms[kUnits][kSubnets];  // asked for before the meeting
#pragma unroll
    for (unsigned i = 0; i < kUnits; ++i) {
      const unsigned unit = thread() + i * kConsumers;
#pragma unroll
      for (unsigned s = 0; s < kSubnets; ++s) {
        terms[i][s] = unit < count ? term<kPhase>(s, column(first + unit)) : 0;
      }
    }
    gather(sums, section.rows, partial());
#pragma unroll
    for (unsigned i = 0; i < kUnits; ++i) {
      const unsigned unit = thread() + i * kConsumers;
      if (unit >= count) continue;
      // Row tiles of subnets alternate.
      const unsigned tile = unit / kTileUnits * kSubnets;
      float2 sum[kSubnets];
#pragma unroll
      for (unsigned s = 0; s < kSubnets; ++s) {
        sum[s] = total(partial(), (tile + s) * kTileUnits + unit % kTileUnits);
        sum[s].x += terms[i][s];
        sum[s].y += terms[i][s];
      }
      float2& place_of_pair = stream(kTarget)[first + unit];
      float2 pair = place_of_pair;
      if constexpr (kSubnets == 1) {
        pair.x = inverse ? pair.x - sum[0].x : pair.x + sum[0].x;
        pair.y = inverse ? pair.y - sum[0].y : pair.y + sum[0].y;
      } else {
        pair.x = scale_shift(pair.x, sum[0].x, sum[1].x);
        pair.y = scale_shift(pair.y, sum[0].y, sum[1].y);
      }
      place_of_pair = pair;
      store_copy(kTarget, first + unit, pair);
    }
    sync_consumers();
  }

  // v e(scale) + shift, or its inverse; e(x) = exp(clamp (2 sigmoid(x) - 1)).
  LREORG_DEVICE float scale_shift(float v, float scale, float shift) const {
    const float log_scale = parameters.clamp * (2.0f / (1.0f + exp(-scale)) - 1.0f);
    return inverse ? (v - shift) * exp(-log_scale) : v * exp(log_scale) + shift;
  }
};

LREORG_DEVICE void init(ClusterExchange& exchange, const Parameters& parameters, const Place& place,
                        Barrier* meetings) {
  exchange = {meetings, parameters.geometry.group, place.rank};
}

LREORG_DEVICE void init(GridExchange& exchange, const Parameters& parameters, const Place& place,
                        Barrier*) {
  const unsigned group = place.group - parameters.first_group;
  std::byte* buffers = parameters.scratch + std::size_t{parameters.groups} * kCounterBytes;
  const std::size_t pieces = std::size_t{2} * parameters.geometry.group * parameters.most_pieces;
  exchange = {reinterpret_cast<uint4*>(buffers) + group * pieces,
              reinterpret_cast<unsigned*>(parameters.scratch + std::size_t{group} * kCounterBytes),
              parameters.most_pieces, parameters.geometry.group, place.rank};
}

template <class P, class Exchange>
LREORG_DEVICE void reorganize(const Parameters& parameters) {
  const SharedMap& map = parameters.shared;
  std::byte* shared = dynamic_shared();
  const Place place(parameters);
  auto* barriers = reinterpret_cast<Barrier*>(shared + map.barriers);
  auto* gave_up = reinterpret_cast<volatile unsigned*>(shared + map.gave_up);
  Exchange exchange;
  init(exchange, parameters, place, barriers);
  const Ring ring{shared + map.slots, barriers + kMeetings, barriers + kMeetings + map.num_slots,
                  map.slot_bytes, map.num_slots};
  const Watchdog watchdog{gave_up, parameters.status};
  if (thread() == 0) {
    *gave_up = 0;
    ring.init();
    exchange.init();
    fence_barrier_init();
  }
  sync_block();
  exchange.begin();
  if (warp() < kConsumerWarps) {
    Consumer<P, Exchange>{parameters, place, shared, ring, exchange, watchdog}.run();
  } else if (!kBulkLoads || lane() == 0) {
    produce(parameters, place, ring, watchdog);
  }
  sync_warp();
  exchange.end();
}

}  // namespace lreorg::cuda
