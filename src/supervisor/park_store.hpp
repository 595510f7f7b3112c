// The park file of a queue, as its one writer keeps it: slots for messages that left the window (layout/park.hpp).
//
// What is used is written in the file itself: a slot whose word is not FREE. So a successor walks the file once and
// knows all of it; only stragglers, whose state is their park table entry's, have to be named again (core.md 5.4, K1).
//
//   STEP                     KILLED AFTER                      A WALK FINDS
//   a chunk is added         the file grew                     a chunk head of zeros: the end, used by the next chunk
//                            its size is stored                the same (`slots` is stored last)
//   a record is written      its bytes, not its word           FREE
//   a slot is freed          -                                 FREE (one store)
//
// PARKED: a record's bytes are stored before its word, release; readers load the word, acquire, copy, and load it
// again: before a slot is written anew its word was FREE, with a full fence behind.
//
// TESTED BY  supervisor/park_store_test
#pragma once

#include <functional>
#include <map>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ring/lane.hpp"
#include "segment/queue_files.hpp"

namespace mooring {

// How many attempts a record has room for: as many as there can be, as far as they are kept.
inline u32 attempt_room_of(const layout::GroupPolicy& policy) {
  return policy.max_deliveries == 0 ? layout::kAttemptsMax : std::min(policy.max_deliveries, layout::kAttemptsMax);
}

class ParkStore {
 public:
  // `on_map(before, now)`: the file is mapped anew, `before` may be empty. (Others may cut it short under us.)
  using OnMap = std::function<void(const Mapping& before, const Mapping& now)>;
  explicit ParkStore(const QueueFiles& files, OnMap on_map = {}) : files_(&files), on_map_(std::move(on_map)) {}

  // Walks what a predecessor left; `visit(loc)` gets each slot that is not free. Nothing to do where there is no file.
  // kCorrupt: not a file that a supervisor writes; nothing is placed in it then.
  Status load(const std::function<void(u64 loc)>& visit);

  // A record for `frame` in state kStraggler (a successor frees it, unless a park table entry names it or it got
  // another state): payload, seq, group and sizes; the rest is 0. Returns 0 if the store is full (its bound, or shared
  // memory), or the frame is longer than a message may be.
  u64 place(const FrameView& frame, u32 group, u32 group_generation, u32 attempt_room);
  // A note with a text, for the record there; 0: no room.
  u64 place_note(u64 record_loc, std::string_view text);
  // `visit(loc)` for each slot that is not free.
  void each_used(const std::function<void(u64 loc)>& visit);
  // Back to FREE; twice is once.
  void release(u64 loc);

  // Our own file; `loc` from this class. Valid until the next place (the file may be mapped anew).
  layout::ParkRecord* record(u64 loc) { return reinterpret_cast<layout::ParkRecord*>(mapping_.data() + loc); }
  std::string_view note(u64 loc) const;
  // Stores the record's word, its version raised. Everything else was stored before.
  void set_word(u64 loc, layout::RecordWord word);
  layout::RecordWord word(u64 loc) const;
  // Is this the place of a slot that is in use, with this seq? Park entries are for consumers to write over.
  bool is_record(u64 loc, u64 seq) const;
  bool is_record(u64 loc) const;

  u64 used_bytes() const { return used_bytes_; }
  u64 slot_bytes(u64 loc) const;

 private:
  struct Chunk {
    u64 bytes = 0;
    u64 slot_bytes = 0;
    u64 slots = 0;
  };
  Status map_now();
  bool is_slot(u64 loc) const;
  bool add_chunk(u64 slot_bytes);
  u64 take(u64 bytes);

  const QueueFiles* files_;
  OnMap on_map_;
  Mapping mapping_;
  std::map<u64, Chunk> chunks_;                     // by place
  std::unordered_map<u64, std::vector<u64>> free_;  // slot_bytes -> places
  u64 end_ = layout::kParkChunksOffset;             // of the last chunk
  u64 used_bytes_ = 0;
  bool mapped_once_ = false;
  bool damaged_ = false;
};

}  // namespace mooring
