// File `park`: payloads of messages that left the window while somebody still held them (stragglers). Only the
// supervisor writes it. It grows by whole steps, each fully reserved before it is used.
#pragma once

#include "layout/file_head.hpp"

namespace mooring::layout {

struct ParkHead {
  FileHead head;
};

// A record in the park file, 64-byte aligned; found through ParkEntry::loc, checked against the entry's seq.
struct ParkRecord {
  u64 seq;
  u32 group;
  u32 frame_flags;
  u64 len;
  u64 capacity_bytes;  // of the payload area behind this head
  u64 reserved[4];
};
static_assert(sizeof(ParkRecord) == 64);

inline constexpr u64 kParkRecordsOffset = kPageBytes;
inline constexpr u64 kParkStepBytes = u64{1} << 20;

}  // namespace mooring::layout
