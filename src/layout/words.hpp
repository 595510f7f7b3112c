// The three packed 64-bit words of the protocol: order cell, state word, frame header; and the park word.
// Each is changed by single-word operations only, so each is a plain integer with pack and unpack beside it.
#pragma once

#include "base/bytes.hpp"

namespace mooring::layout {

// --- Order cell: lap:28 | lane:10 | off:26 -------------------------------------------------------------------------
// Cell of seq s: index s & (N-1), lap s / N (seq starts at N, so a zeroed cell is never of a living lap). Offsets count
// 8-byte units, the frame alignment, so a lane is at most 512 MiB. Laps are compared by signed 28-bit difference.
inline constexpr unsigned kCellLapBits = 28;
inline constexpr unsigned kCellLaneBits = 10;
inline constexpr unsigned kCellOffsetBits = 26;
static_assert(kCellLapBits + kCellLaneBits + kCellOffsetBits == 64);
inline constexpr u64 kCellLapMask = (u64{1} << kCellLapBits) - 1;
inline constexpr u32 kLanesMax = u32{1} << kCellLaneBits;
inline constexpr u64 kFrameAlignment = 8;
inline constexpr u64 kLaneBytesMax = (u64{1} << kCellOffsetBits) * kFrameAlignment;

constexpr u64 make_cell(u64 lap, u32 lane, u64 offset_bytes) {
  return ((lap & kCellLapMask) << (kCellLaneBits + kCellOffsetBits)) | (u64{lane} << kCellOffsetBits) |
         (offset_bytes / kFrameAlignment);
}
constexpr u64 cell_lap(u64 cell) { return cell >> (kCellLaneBits + kCellOffsetBits); }
constexpr u32 cell_lane(u64 cell) { return static_cast<u32>(cell >> kCellOffsetBits) & (kLanesMax - 1); }
constexpr u64 cell_offset_bytes(u64 cell) {
  return (cell & ((u64{1} << kCellOffsetBits) - 1)) * kFrameAlignment;
}
// How many laps the cell is ahead of `lap`; negative: behind. Exact while the true distance is below 2^27 laps.
constexpr i64 cell_laps_ahead(u64 cell, u64 lap) {
  const u64 difference = (cell_lap(cell) - lap) & kCellLapMask;
  return static_cast<i64>(difference << (64 - kCellLapBits)) >> (64 - kCellLapBits);
}

// --- State word: lap:32 | kind:3 | owner:11 | aux:18 ---------------------------------------------------------------
// Word of seq s in a group: index s & (NG-1), lap s / NG. A word of lap-1, of any kind, is untouched in this lap.
enum class Kind : u32 {
  kUntouched = 0,  // only before the first lap; afterwards "untouched" is any kind of the lap before
  kLeased = 1,     // owner; aux = acquired:12 | extended:5 | alone:1
  kReady = 2,      // given back in place; aux as kLeased
  kAcked = 3,
  kNacked = 4,     // owner: whose delivery it was; aux = acquired:12 | detail:1 | reason:5
  kMoved = 5,      // aux = index in the park table, or kMovedToStore
};
inline constexpr unsigned kOwnerBits = 11;
inline constexpr unsigned kAuxBits = 18;
inline constexpr u32 kOwnersMax = u32{1} << kOwnerBits;
inline constexpr u32 kMovedToStore = (u32{1} << kAuxBits) - 1;
inline constexpr u32 kAcquiredMax = (1U << 12) - 1;  // the counter stays at its maximum

constexpr u64 make_word(u64 lap, Kind kind, u32 owner, u32 aux) {
  return (lap << 32) | (u64{static_cast<u32>(kind)} << 29) | (u64{owner} << kAuxBits) | aux;
}
constexpr u32 word_lap(u64 word) { return static_cast<u32>(word >> 32); }
constexpr Kind word_kind(u64 word) { return static_cast<Kind>((word >> 29) & 7U); }
constexpr u32 word_owner(u64 word) { return static_cast<u32>(word >> kAuxBits) & (kOwnersMax - 1); }
constexpr u32 word_aux(u64 word) { return static_cast<u32>(word) & ((1U << kAuxBits) - 1); }
constexpr i64 word_laps_ahead(u64 word, u64 lap) {
  return static_cast<std::int32_t>(word_lap(word) - static_cast<u32>(lap));
}
constexpr u32 make_aux(u32 acquired, u32 extended = 0, bool alone = false) {
  return (acquired << 6) | (extended << 1) | (alone ? 1U : 0U);
}
constexpr u32 aux_acquired(u32 aux) { return aux >> 6; }
// Why a delivery ended without an acknowledgement. 3 bits in a park word, so the last is 7. Frozen: the journal and the
// park file keep them.
enum class FailReason : u32 {
  kNone = 0,
  kNack = 1,      // the application said that it failed
  kTimeout = 2,   // held longer than ack_wait by a process that lives
  kCrash = 3,     // the process that was handling it died
  kRejected = 4,  // the application said that it never will succeed
  kExpired = 5,   // its time to live was over
  kNotDue = 6,    // not before its time (not a failure)
  kCorrupt = 7,   // its bytes make no sense
};
inline constexpr u32 kFailReasonMax = 7;
// `detail`: a notice in the seat's mailbox says more (layout/seat.hpp).
constexpr u32 make_nacked_aux(u32 acquired, FailReason reason, bool detail) {
  return (acquired << 6) | (detail ? 32U : 0U) | static_cast<u32>(reason);
}
constexpr FailReason nacked_reason(u32 aux) { return static_cast<FailReason>(aux & kFailReasonMax); }
constexpr bool nacked_has_detail(u32 aux) { return (aux & 32U) != 0; }

constexpr u32 acquired_after(u32 acquired) { return acquired < kAcquiredMax ? acquired + 1 : acquired; }

// --- Park word: gen:24 | state:4 | owner:11 | acquired:12 | failed:8 | extended:4 | alone:1 ------------------------
// In state kNacked `extended` is detail:1 | reason:3.
enum class ParkState : u32 {
  kFree = 0,
  kPrepLeased = 1,  // written, but not yet proven by a kMoved word
  kPrepReady = 2,
  kReady = 3,
  kLeased = 4,
  kNacked = 5,
  kAcked = 6,
};
struct ParkWord {
  u32 generation;
  ParkState state;
  u32 owner;
  u32 acquired;
  u32 failed;
  u32 extended;
  bool alone;
};
inline constexpr u32 kFailedMax = 255;  // the counter stays at its maximum
constexpr u32 make_nacked_extended(FailReason reason, bool detail) {
  return static_cast<u32>(reason) | (detail ? 8U : 0U);
}
inline constexpr u32 kParkGenerationMask = (1U << 24) - 1;
constexpr u64 make_park_word(const ParkWord& park) {
  return (u64{park.generation & kParkGenerationMask} << 40) | (u64{static_cast<u32>(park.state)} << 36) |
         (u64{park.owner} << 25) | (u64{park.acquired} << 13) | (u64{park.failed} << 5) | (u64{park.extended} << 1) |
         (park.alone ? 1U : 0U);
}
constexpr ParkWord read_park_word(u64 word) {
  return ParkWord{static_cast<u32>(word >> 40),
                  static_cast<ParkState>((word >> 36) & 15U),
                  static_cast<u32>(word >> 25) & (kOwnersMax - 1),
                  static_cast<u32>(word >> 13) & kAcquiredMax,
                  static_cast<u32>(word >> 5) & 255U,
                  static_cast<u32>(word >> 1) & 15U,
                  (word & 1U) != 0};
}

// --- Back word: gen:24 | seq_lo:40 ---------------------------------------------------------------------------------
// The lowest READY seq of a group, or none. Every give-back raises gen, even where the seq stays, so that a consumer
// which scanned and found nothing clears the word only if nobody gave back meanwhile. (core.md A12 has a plain word
// there, mended by the tick; the tag costs nothing and loses nothing: docs/decisions/0002-back-word.md.)
inline constexpr unsigned kBackSeqBits = 40;
inline constexpr u64 kBackNone = (u64{1} << kBackSeqBits) - 1;
constexpr u64 make_back(u64 generation, u64 seq_lo) { return (generation << kBackSeqBits) | (seq_lo & kBackNone); }
constexpr u64 back_generation(u64 back) { return back >> kBackSeqBits; }
constexpr u64 back_seq_lo(u64 back) { return back & kBackNone; }

// `low` is the low `bits` of a number within half of 2^bits of `near`: that number.
constexpr u64 extend(u64 low, unsigned bits, u64 near) {
  const u64 mask = bits == 64 ? ~u64{0} : (u64{1} << bits) - 1;
  const u64 half = u64{1} << (bits - 1);
  const u64 difference = (low - near) & mask;
  return difference < half ? near + difference : near - ((mask - difference) + 1);
}

// --- Frame header: seq_lo:32 | flags:6 | len:26 --------------------------------------------------------------------
// The 8 bytes before a payload in a lane. PUBLISHED is set in every header, so no header is zero, not even that of an
// empty message. `len` counts the extension and the payload, without the alignment behind them.
inline constexpr unsigned kFrameLenBits = 26;
inline constexpr u64 kFrameHeaderBytes = 8;
inline constexpr u64 kFrameLenMax = (u64{1} << kFrameLenBits) - 1;
inline constexpr u32 kFramePublished = 1;
inline constexpr u32 kFramePadding = 2;    // to the end of the lane; carries no seq of its own
inline constexpr u32 kFrameExtension = 4;  // headers before the payload (layout/extension.hpp)
inline constexpr u32 kFrameTimed = 8;      // with kFrameExtension: a deliver_at or an expires_at is among them
// What a frame says of its bytes, wherever they go: journal and park store keep it, recovery writes it back.
inline constexpr u32 kFrameKept = kFrameExtension | kFrameTimed;

constexpr u64 make_frame_header(u64 len, u32 flags, u64 seq) {
  return (u64{static_cast<u32>(seq)} << 32) | (u64{flags} << kFrameLenBits) | len;
}
constexpr u64 frame_len(u64 header) { return header & kFrameLenMax; }
constexpr u32 frame_flags(u64 header) { return static_cast<u32>(header >> kFrameLenBits) & 63U; }
constexpr u32 frame_seq_lo(u64 header) { return static_cast<u32>(header >> 32); }
constexpr u64 frame_bytes(u64 len) { return kFrameHeaderBytes + align_up(len, kFrameAlignment); }

}  // namespace mooring::layout
