// File `seat-<i>`: what one consumer says about itself. Written by its owner, read by the supervisor and by metrics.
//
//   0      FileHead
//   128    what it handles, and its counters
//   4096   mailbox: SeatNotice[kNoticesMax], then kNoticeTexts texts of kNoticeTextBytes
//
// A notice says more about one nack or reject: a delay of its own, a code, a text. The owner fills a notice, stores its
// `seq` (release), and only then settles; the supervisor, having acquired the NACKED word, finds the notice and copies
// it before it changes that word. So a notice is free again once the word it speaks of is no longer the NACKED one.
#pragma once

#include "layout/file_head.hpp"

namespace mooring::layout {

// `handling` when the application has several messages before it: nobody is charged for a crash (core.md A6).
inline constexpr u64 kHandlingMany = ~u64{0};

struct SeatHead {
  FileHead head;
  alignas(kLineBytes) u64 handling;  // seq the application has before it, 0 = none
  u64 progress;                      // +1 for each receive, extend and handling: together with the counters of
                                     // settlements what a stuck process does not move (seat_progress)
  u64 opened;                        // seat generation that the owner took; a grant it never heard of is dropped
  u64 closed;                        // seat generation whose owner closed its handle: free without a death
  u64 messages_delivered;            // counters are cumulative over all owners of the seat
  u64 messages_redelivered;
  u64 messages_acked;
  u64 messages_nacked;  // nacks and rejects
  u64 messages_released;
  u64 stale_settlements;
  u64 bytes_delivered;
  u64 messages_rejected;  // of the nacked
  u64 messages_untimely;  // met before their time, or after it: handed to the supervisor, not to the application
  u64 canary;             // exclusive groups: make_seat_canary of the last message taken as one
};
static_assert(sizeof(SeatHead) == 2 * kLineBytes);
static_assert(__builtin_offsetof(SeatHead, handling) == 128);

// number:24 | seq_lo:40
constexpr u64 make_seat_canary(u64 number, u64 seq) { return (number << 40) | (seq & ((u64{1} << 40) - 1)); }
constexpr u64 seat_canary_number(u64 canary) { return canary >> 40; }

struct SeatNotice {
  u64 seq;       // 0: never used
  u32 acquired;  // of the delivery it speaks of
  u32 code;
  u64 delay_ns;  // kNoDelay: by the group's policy
  u32 text;      // which text, kNoText: none
  u32 text_bytes;
};
static_assert(sizeof(SeatNotice) == 32);
inline constexpr u64 kNoDelay = ~u64{0};
inline constexpr u32 kNoText = ~u32{0};

inline constexpr u64 kNoticesOffset = kPageBytes;
inline constexpr u32 kNoticesMax = 256;
inline constexpr u32 kNoticeTexts = 8;
inline constexpr u64 kNoticeTextBytes = 512;
inline constexpr u64 kNoticeTextsOffset = kNoticesOffset + kNoticesMax * sizeof(SeatNotice);
inline constexpr u64 kSeatFileBytes = kNoticeTextsOffset + kNoticeTexts * kNoticeTextBytes;
static_assert(kSeatFileBytes % kPageBytes == 0);

}  // namespace mooring::layout
