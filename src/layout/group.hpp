// File `group-<k>`: the state of delivery in one group. Written by its consumers and by the supervisor.
//
//   0      FileHead
//   128    base line      base
//   256    hint line      hint, back, parked
//   384    cursor line    exclusive groups: acked, shown, seq hint
//   4096   NG state words (layout/words.hpp)
//   then   X park entries, then the ready bitmap (one bit an entry), each on a line of its own
#pragma once

#include "layout/file_head.hpp"

namespace mooring::layout {

struct GroupHead {
  FileHead head;

  // Everything below `base` is finished in this group. A seq; on volatile SPSC queues a lane position. 0
  // while the group is being born: it pins every release mark of a volatile queue (core.md A17).
  alignas(kLineBytes) u64 base;

  alignas(kLineBytes) u64 hint;  // competing: at or below the first untouched seq; raised lazily, never lowered
  u64 back;                      // competing: lowest READY seq or none (make_back)
  u64 parked;                    // competing: tag:63 | some:1; the tag is raised with each bit set in the ready bitmap

  // Exclusive groups, written by the one consumer only: a successor finds here what the predecessor had done.
  alignas(kLineBytes) u64 acked;  // everything below is acknowledged; same unit as `base`, which follows lazily
  u64 shown;                      // the highest seq ever handed to an application, 0 = none; never lowered
  u64 base_seq_hint;              // volatile SPSC: seq at `acked`, to extend the 32 bits of a frame; within 2^31
};
static_assert(sizeof(GroupHead) == 4 * kLineBytes);
static_assert(__builtin_offsetof(GroupHead, base) == 128);
static_assert(__builtin_offsetof(GroupHead, hint) == 256);
static_assert(__builtin_offsetof(GroupHead, acked) == 384);

enum class ParkEntryKind : u64 {
  kStraggler = 0,  // left the window in a living owner's name; the group's cursor waits for it
  kFromStore = 1,  // waited in the park store; on durable queues the log has a PARK record of it
};

// One entry of the park table X: a message that left the window but that consumers can still touch.
struct ParkEntry {
  u64 word;  // make_park_word
  u64 seq;
  u64 loc;   // offset of its record in the park file
  u64 kind;  // ParkEntryKind
};
static_assert(sizeof(ParkEntry) == 32);

inline constexpr u64 kGroupWordsOffset = kPageBytes;
constexpr u64 group_parks_offset(u64 words) { return kGroupWordsOffset + align_up(words * sizeof(u64), kLineBytes); }
constexpr u64 group_bitmap_offset(u64 words, u64 parks) {
  return group_parks_offset(words) + align_up(parks * sizeof(ParkEntry), kLineBytes);
}
constexpr u64 group_file_bytes(u64 words, u64 parks) {
  return align_up(group_bitmap_offset(words, parks) + (parks + 63) / 64 * sizeof(u64), kPageBytes);
}

}  // namespace mooring::layout
