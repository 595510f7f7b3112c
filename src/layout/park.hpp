// File `park`: messages that left the window: stragglers, what waits for a retry, dead letters. Only the supervisor
// writes it; consumers read payloads there, and `mooring dlq` reads dead letters also when every process is dead.
//
//   0      FileHead
//   4096   ParkChunk, its slots; ParkChunk, its slots; ...   each chunk whole steps of 1 MiB, fully reserved
//
// A chunk has slots of one size, so the file can be walked from its beginning by whoever finds it; a chunk head whose
// `slots` is 0 was never finished and ends the file. A slot is free, a record, or a note (a text that a record names).
//
// One word decides (core.md A13): everything in a record is stored before its `word`, which is one 64-bit store.
#pragma once

#include "layout/file_head.hpp"
#include "layout/words.hpp"

namespace mooring::layout {

struct ParkHead {
  FileHead head;
};

struct ParkChunk {
  u64 chunk_bytes;  // with this head; a multiple of kParkStepBytes
  u64 slot_bytes;   // a multiple of 64
  u64 slots;        // stored last (release)
  u64 reserved[5];
};
static_assert(sizeof(ParkChunk) == 64);

// --- Record word: version:32 | state:4 | failed:8 | acquired:12 | alone:1 | reserved:7 ------------------------------
enum class RecordState : u32 {
  kFree = 0,
  kStraggler = 1,  // payload of a park table entry in a living owner's name; means something only while one names it
  kWaiting = 2,    // for its due time, or for room in the park table; or in the park table (an entry names it)
  kDead = 3,       // a dead letter
  kHeld = 4,       // an exclusive group's: delivered again, in its place, when it is due
  kNote = 5,       // not a message: the text of a record that names it
};
struct RecordWord {
  u32 version;  // +1 with each store, so that a reader of all the record notices
  RecordState state;
  u32 failed;
  u32 acquired;
  bool alone;
};
constexpr u64 make_record_word(const RecordWord& record) {
  return (u64{record.version} << 32) | (u64{static_cast<u32>(record.state)} << 28) | (u64{record.failed} << 20) |
         (u64{record.acquired} << 8) | (record.alone ? 128U : 0U);
}
constexpr RecordWord read_record_word(u64 word) {
  return RecordWord{static_cast<u32>(word >> 32), static_cast<RecordState>((word >> 28) & 15U),
                    static_cast<u32>(word >> 20) & kFailedMax, static_cast<u32>(word >> 8) & kAcquiredMax,
                    (word & 128U) != 0};
}

// One failed delivery.
struct ParkAttempt {
  u64 wall_ns;           // when it ended
  u64 start_time_ticks;  // with pid the consumer's identity
  u32 pid;
  u16 reason;  // FailReason
  u16 seat;
  u32 code;           // of the application
  u32 handling_us;    // from its receive to its end; 0: not known
  char consumer[16];  // name of the process, cut; not terminated if it is as long
  u32 exit;           // how the process ended, of a crash: kExitKnown and its wait status; 0: not known
  u32 pad;
};
static_assert(sizeof(ParkAttempt) == 56);
inline constexpr u32 kExitKnown = u32{1} << 31;
inline constexpr u32 kAttemptsMax = 8;  // the last ones are kept

// 64-byte aligned; found through ParkEntry::loc and checked against the entry's seq, or by a walk.
//   ParkRecord | ParkAttempt[attempt_room] | payload (extension and application's bytes, as in the frame)
struct ParkRecord {
  u64 word;
  u64 seq;
  u32 group;
  u32 group_generation;  // of the group's slot: what a removed group left is nobody's
  u32 frame_flags;
  u32 attempt_room;
  u64 len;
  u64 due_boottime_ns;  // kWaiting, kHeld
  u64 due_wall_ns;      // the same by the wall clock, for another boot
  u64 first_failed_wall_ns;
  u64 last_failed_wall_ns;
  u64 dead_wall_ns;  // kDead
  u64 redriven_wall_ns;
  u64 note;         // place of a kNote slot, 0: none
  u32 attempts;     // ever made; attempt i stands in slot i % attempt_room
  u32 redriven;     // times
  u32 last_reason;  // FailReason
  u32 dead_reason;  // DeadReason (delivery/decision.hpp)
  u32 code;         // of the application, with the last nack or reject
  u32 pad;
  u64 published_wall_ns;  // 0: not known
  u64 reserved[8];
};
static_assert(sizeof(ParkRecord) == 192);
inline constexpr u64 park_record_bytes(u32 attempt_room, u64 len) {
  return sizeof(ParkRecord) + attempt_room * sizeof(ParkAttempt) + len;
}
inline constexpr u64 park_payload_offset(u32 attempt_room) {
  return sizeof(ParkRecord) + attempt_room * sizeof(ParkAttempt);
}

struct ParkNote {
  u64 word;
  u64 record;  // place of the record whose it is
  u64 len;     // of the text behind
  u64 reserved[5];
};
static_assert(sizeof(ParkNote) == 64);
inline constexpr u64 kReasonTextMax = 512;  // semantics.md section 3

inline constexpr u64 kParkChunksOffset = kPageBytes;
inline constexpr u64 kParkStepBytes = u64{1} << 20;
inline constexpr u64 kParkSlotAlignment = 64;

}  // namespace mooring::layout
