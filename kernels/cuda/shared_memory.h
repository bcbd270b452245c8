// What lies where in a block's shared memory.
#pragma once

#include "cuda/layout.h"
#include "cuda/products.h"

namespace lreorg::cuda {

constexpr std::uint32_t kRowPadding = 16;  // makes a pitch an odd multiple of 16 bytes
constexpr std::uint32_t kStreams = 2;
constexpr std::uint32_t kMeetings = 2;

// Byte offsets; all are multiples of 16.
struct SharedMap {
  std::uint32_t copy_pitch;    // of a token in a stream's copy: columns of all blocks
  std::uint32_t copy_bytes;    // of a stream's copy, [plane][token]
  std::uint32_t hidden_pitch;  // of a token in the hidden layers, after the activation
  std::uint32_t before_pitch;  // of a token in the hidden layers before it, float32
  std::uint32_t hidden;        // [plane][subnet][token]
  std::uint32_t before;        // [token]
  std::uint32_t partial;       // shares of sums
  std::uint32_t streams;       // float32, own columns: [stream][unit]
  std::uint32_t barriers;      // meetings, then full and empty of each slot
  std::uint32_t gave_up;
  std::uint32_t slots;
  std::uint32_t slot_bytes;
  std::uint32_t num_slots;

  LREORG_HOST_DEVICE constexpr SharedMap(const Geometry& geometry, std::uint32_t planes,
                                         std::uint32_t bytes_of_slot, std::uint32_t count)
      : copy_pitch(geometry.columns() * 2 + kRowPadding),
        copy_bytes(planes * kTokens * copy_pitch),
        hidden_pitch(geometry.hidden_tiles() * kTile * 2 + kRowPadding),
        before_pitch(geometry.hidden_rows(kDenseScale) * 4 + kRowPadding),
        hidden(kStreams * copy_bytes),
        before(hidden + planes * 2 * kTokens * hidden_pitch),
        partial(before + kTokens * before_pitch),
        streams(partial + kPartialBytes),
        barriers(streams + kStreams * stream_bytes(geometry)),
        gave_up(barriers + (kMeetings + 2 * count) * 8),
        slots(gave_up + 16),
        slot_bytes(bytes_of_slot),
        num_slots(count) {}

  LREORG_HOST_DEVICE static constexpr std::uint32_t stream_bytes(const Geometry& geometry) {
    return geometry.column_tiles * kTileUnits * static_cast<std::uint32_t>(sizeof(float2));
  }
  LREORG_HOST_DEVICE constexpr std::uint32_t bytes() const {
    return slots + num_slots * slot_bytes;
  }
};

}  // namespace lreorg::cuda
