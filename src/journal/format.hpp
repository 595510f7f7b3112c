// The bytes of the log, declared once. docs/format.md is the same thing in words, with an example in hex; the writer
// (block_builder, log_writer), the reader (log_reader) and tests/journal/format_test say it again, and must agree.
//
//   segment file  = segment header (4 KiB)  block*           then zeros, or garbage of the file's earlier life
//   block         = block header  record*  zeros up to 4 KiB  never rewritten; one write, one checksum
//   record        = record header  body                       each begins 8-aligned
//
// POSITIONS. `log_pos` counts bytes of blocks since the log began and never goes back: the block at file offset o of a
// segment has log_pos = first_log_pos + (o - 4096). A segment begins where its predecessor was cut (continues_at =
// {first_log_pos, first_seq}): of lower-numbered segments nothing at or past that log_pos counts, and no MESSAGE with
// seq at or past that seq. That rule alone makes late writes of a killed or failed writer harmless.
//
// Integers are little-endian. Everything read from a file is input: bounds first, then the checksum, then the meaning.
//
// TESTED BY  journal/format_test, journal/flips_test; tests/journal/golden/v1
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <type_traits>

#include "base/bytes.hpp"

namespace mooring::journal {

static_assert(std::endian::native == std::endian::little, "the format is little-endian and copied as it is");

using Uuid = std::array<u8, 16>;

inline constexpr u64 kBlockAlignment = 4096;  // The unit of O_DIRECT on every file system we know of.
inline constexpr u64 kSegmentHeaderBytes = 4096;
inline constexpr u32 kFormatVersion = 1;

inline constexpr u64 kSegmentMagic = 0x3147'4553'524f'4f4dULL;  // "MOORSEG1"
inline constexpr u32 kBlockMagic = 0x4b4c'424d;                 // "MBLK"

// Flags of a segment header.
// The writer did not know the hash of its predecessor's last block (it served on from surviving memory).
inline constexpr u64 kPredecessorUnknown = 1;
// Salvaged: nothing in lower-numbered segments counts, they wait for quarantine.
inline constexpr u64 kStartsAnew = 2;

struct SegmentHeader {
  u64 magic;
  u32 version;  // Of the whole segment. Stays at this offset, and `check` at its own, in every version.
  u32 header_bytes;
  Uuid uuid;        // of the queue
  u64 incarnation;  // +1 for each opening for writing
  u64 generation;   // +1 for each poisoned segment within an incarnation
  u64 number;       // equals the number in the file's name, else the file was recycled and is not begun yet
  u64 salt;         // random for each opening: nobody outside can make bytes that look like a block of it
  u64 segment_bytes;
  u64 first_log_pos;  // continues_at: log_mark
  u64 first_seq;      // continues_at: J
  u64 predecessor;    // number of the segment that held the block before first_log_pos; 0: none
  u64 prev_check;     // `check` of that block; 0: none
  // What the predecessor held behind first_log_pos, up to here, was written again: expected there, not a ghost.
  u64 copied_log_pos;
  u64 flags;
  u64 wall_ns;
  u64 boottime_ns;
  std::array<u8, 3952> zero;
  u64 check;  // XXH3-64 of all bytes before it, seed = fold(uuid) ^ number
};
static_assert(sizeof(SegmentHeader) == kSegmentHeaderBytes);
static_assert(offsetof(SegmentHeader, version) == 8);
static_assert(offsetof(SegmentHeader, uuid) == 16);
static_assert(offsetof(SegmentHeader, number) == 48);
static_assert(offsetof(SegmentHeader, first_log_pos) == 72);
static_assert(offsetof(SegmentHeader, zero) == 136);
static_assert(offsetof(SegmentHeader, check) == 4088);
static_assert(std::is_trivially_copyable_v<SegmentHeader>);

struct BlockHeader {
  u32 magic;
  u16 header_bytes;
  u16 flags;
  u32 bytes;       // whole block, padded to 4 KiB
  u32 body_bytes;  // records, from header_bytes on; what follows is zero
  Uuid uuid;
  u64 incarnation;
  u64 generation;
  u64 number;  // of the segment
  u64 salt;
  u64 log_pos;
  u64 prev_check;      // `check` of the block before it in the log
  u64 first_seq;       // of the first message in it, or of the next one to come
  u64 durable_before;  // the writer had announced everything below this log_pos before it wrote this block
  u32 record_count;
  u32 reserved;
  u64 wall_ns;
  u64 boottime_ns;
  u64 body_check;  // XXH3-64 of the body, seed = fold(uuid) ^ log_pos
  u64 check;       // XXH3-64 of the header before it, same seed
};
static_assert(sizeof(BlockHeader) == 136);
static_assert(offsetof(BlockHeader, uuid) == 16);
static_assert(offsetof(BlockHeader, log_pos) == 64);
static_assert(offsetof(BlockHeader, durable_before) == 88);
static_assert(offsetof(BlockHeader, check) == 128);
static_assert(std::is_trivially_copyable_v<BlockHeader>);

inline constexpr u64 kBlockHeaderBytes = sizeof(BlockHeader);
// A bound for every length in a block header, so that damaged ones cost no memory.
inline constexpr u64 kBlockBytesMax = u64{64} << 20;

enum class RecordType : u16 {
  kMessage = 1,
  kCursor = 2,
  kPark = 3,
  kRelease = 4,
  kGroup = 5,
  kSnapshot = 6,
  kSeal = 7,
  kMessageId = 8,
};

// Flags of a record. A reader skips a record of an unknown type if this bit is set; else it refuses the log (kVersion).
inline constexpr u16 kRecordSkippable = 0x8000;
// MESSAGE: the seqs between the message before and this one were never logged or were lost, and that is known.
inline constexpr u16 kMessageGapBefore = 0x0001;
// MESSAGE: a copy of an older message, brought forward so that its segment can retire. Does not advance the sequence.
inline constexpr u16 kMessageCopy = 0x0002;
// MESSAGE: repeats a message_id, and is not delivered. In place of its bytes the u64 seq of the message that was first.
inline constexpr u16 kMessageDuplicate = 0x0004;

struct RecordHeader {
  u16 type;
  u16 flags;
  u32 bytes;  // header and body, without the padding to 8
};
static_assert(sizeof(RecordHeader) == 8);

struct MessageRecord {
  u64 seq;
  u32 lane;         // producer lane it came through
  u32 frame_flags;  // of the frame, as published
};
static_assert(sizeof(MessageRecord) == 16);

struct AckRun {
  u64 first;
  u64 count;
  friend bool operator==(const AckRun&, const AckRun&) = default;
};
static_assert(sizeof(AckRun) == 16);

// Followed by run_count AckRuns: rising, apart, all above base.
struct CursorRecord {
  u32 group;
  u32 run_count;
  u64 base;  // everything below is acknowledged
};
static_assert(sizeof(CursorRecord) == 16);

struct ParkRecord {
  u32 group;
  u32 state;  // the owner's words (retry, delayed, dead, held); the journal only carries them
  u64 seq;
  u64 message_log_pos;  // at or before the block with the MESSAGE, or a copy; 0 with a log that begins later: not known
  u32 acquired;
  u32 failed;
  u64 due_wall_ns;
  u64 due_boottime_ns;
  u32 reason;
  u32 flags;
  friend bool operator==(const ParkRecord&, const ParkRecord&) = default;
};
static_assert(sizeof(ParkRecord) == 56);

struct ReleaseRecord {
  u32 group;
  u32 reason;
  u64 seq;
};
static_assert(sizeof(ReleaseRecord) == 16);

// A message with an id, in the block of its MESSAGE and before it. `first` == seq: the first one with this id; else the
// message that it repeats. In a snapshot: the ids that are known.
struct MessageIdRecord {
  u64 seq;
  u64 first;
  u64 wall_ns;       // when that was decided
  u64 forget_below;  // ids of messages below this are out of every window by now
  u64 id[2];         // XXH3-128 of the id, seeded with the queue
  friend bool operator==(const MessageIdRecord&, const MessageIdRecord&) = default;
};
static_assert(sizeof(MessageIdRecord) == 48);

enum class GroupChange : u16 { kCreate = 1, kRemove = 2 };

// Followed by the name, then the owner's configuration bytes (any, the journal only carries them).
struct GroupRecord {
  u32 group;
  u16 change;
  u16 mode;
  u64 start;  // first seq of the group
  u32 name_bytes;
  u32 config_bytes;
};
static_assert(sizeof(GroupRecord) == 24);

// Followed by GROUP, CURSOR, PARK and MESSAGE_ID records: all of the state, or a part of it. Parts come with nothing
// but MESSAGE records between them; the state counts once the last part is there.
struct SnapshotRecord {
  u32 part;
  u32 part_count;
  u64 next_seq;
};
static_assert(sizeof(SnapshotRecord) == 16);

enum class SealReason : u64 { kQuiet = 1, kClosed = 2 };
struct SealRecord {
  u64 reason;
};
static_assert(sizeof(SealRecord) == 8);

constexpr u64 record_bytes(u64 body_bytes) { return align_up(sizeof(RecordHeader) + body_bytes, 8); }
constexpr u64 cursor_bytes(u64 runs) { return record_bytes(sizeof(CursorRecord) + runs * sizeof(AckRun)); }
constexpr u64 block_bytes_for(u64 records_bytes) {
  return align_up(kBlockHeaderBytes + records_bytes, kBlockAlignment);
}

}  // namespace mooring::journal
