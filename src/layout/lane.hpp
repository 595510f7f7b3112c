// File `lane-<i>`: the byte ring of one producer, and what that producer says about itself.
//
//   0      FileHead
//   128    writer line      blocked, counters                       owner writes; supervisor, metrics read
//   256    checkpoint line  where a successor starts to walk (A1)   owner writes; successor reads after its death
//   384    reclaim line     what may be overwritten                 owner writes; readers that may be overtaken read
//   4096   lane_bytes bytes of frames
#pragma once

#include "layout/file_head.hpp"
#include "layout/words.hpp"

namespace mooring::layout {

struct LaneHead {
  FileHead head;

  // Writer line.
  alignas(kLineBytes) u64 blocked;       // 1 while the owner waits for room: the supervisor looks for stragglers (A16)
  u64 messages_published;                // counters are cumulative over all owners of the lane
  u64 bytes_published;
  u64 publishes_rejected;                // FULL answers and time-outs
  u64 blocked_ns;                        // time spent waiting for room
  u64 opened;                            // lane generation that the owner took; a grant it never heard of is dropped
  u64 closed;                            // lane generation whose owner closed its handle: free without a death

  // Checkpoint line (SPSC). `current` names the valid slot: the other one is written first, then `current` changes.
  struct Checkpoint {
    u64 position;
    u64 seq;
  };
  alignas(kLineBytes) u64 checkpoint_current;
  Checkpoint checkpoints[2];

  // Reclaim line. SPSC: the release position the writer relies on. MPMC: the seq below which it overwrites frames.
  alignas(kLineBytes) u64 reclaim;
};
static_assert(sizeof(LaneHead) == 4 * kLineBytes);
static_assert(__builtin_offsetof(LaneHead, blocked) == 128);
static_assert(__builtin_offsetof(LaneHead, checkpoint_current) == 256);
static_assert(__builtin_offsetof(LaneHead, reclaim) == 384);

inline constexpr u64 kLaneBytesOffset = kPageBytes;
inline constexpr u64 kLaneBytesMin = 256;  // tests go down to this; queues start at 32 KiB (segment/options.cpp)

constexpr u64 lane_file_bytes(u64 lane_bytes) { return kLaneBytesOffset + align_up(lane_bytes, kPageBytes); }

// The largest payload that always fits an empty lane: the frame, the padding before it that wraps (less than another
// frame), and the zero word ahead.
constexpr u64 lane_message_bytes_max(u64 lane_bytes) {
  const u64 half = lane_bytes / 2 - kFrameHeaderBytes - 2 * kFrameAlignment;
  return half < kFrameLenMax ? half : kFrameLenMax;
}

}  // namespace mooring::layout
