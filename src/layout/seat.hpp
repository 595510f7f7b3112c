// File `seat-<i>`: what one consumer says about itself. Written by its owner, read by the supervisor and by metrics.
#pragma once

#include "layout/file_head.hpp"

namespace mooring::layout {

// `handling` when the application has several messages before it: nobody is charged for a crash (core.md A6).
inline constexpr u64 kHandlingMany = ~u64{0};

struct SeatHead {
  FileHead head;
  alignas(kLineBytes) u64 handling;  // seq the application has before it, 0 = none
  u64 progress;                      // +1 for each receive: a living process whose count stands still is stuck
  u64 opened;                        // seat generation that the owner took; a grant it never heard of is dropped
  u64 closed;                        // seat generation whose owner closed its handle: free without a death
  u64 messages_delivered;            // counters are cumulative over all owners of the seat
  u64 messages_redelivered;
  u64 messages_acked;
  u64 messages_nacked;
  u64 messages_released;
  u64 stale_settlements;
  u64 bytes_delivered;
};
static_assert(sizeof(SeatHead) == 2 * kLineBytes);
static_assert(__builtin_offsetof(SeatHead, handling) == 128);

inline constexpr u64 kSeatFileBytes = kPageBytes;

}  // namespace mooring::layout
