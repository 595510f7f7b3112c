// The lane: a byte ring with one writer. Alone it is an SPSC queue; many of them under an order ring make MPMC
// (order_ring.hpp).
//
// A message is a frame: an 8-byte header and the payload, 8-byte aligned, never split by the end of the lane (a padding
// frame fills the end). The commit of an SPSC frame is its own header, in the line of the payload: one line moves
// between the cores for a small message, where a tail index would cost a second (core.md A1). The headers of a message
// are a part of its frame, in front of the payload: bytes like others to the ring (layout/extension.hpp).
//
// WHO WRITES WHAT
//   frames       writer   only in [position, released + size): free, or never used
//   reclaim      writer   the released position it relies on, before it overwrites anything
//   checkpoints  writer   where a successor starts to walk; two slots and a selector
//   group.base   reader   the released position; the writer reads the least of all groups when it finds no room
//
// PAIRINGS         writer                                        reader
//   PUBLISHED      store first header, release                   load header, acquire
//                  The payload, the later headers of the batch and the zero behind it are visible before the first
//                  header is, so a batch appears at once, and the word a reader steps onto is never a stale one.
//   FREED          load base, acquire (release_mark)             store base, release
//                  The reader's reads are over before the writer may overwrite.
//   RECLAIMED      store reclaim; overwrite_fence; overwrite     read; overread_fence; load reclaim
//                  For readers that may be overtaken (peek): what they copied counts only if reclaim is still at or
//                  below their position.
//   DURABLE        journal: flush; store mark, release           load mark, acquire (durable queues)
//   CHECKPOINTED   store slot; store selector, release           successor: load selector, acquire
//
// THE ZERO AHEAD   Behind the last frame stands a zero word, in the writer's own free memory: a publish needs the
//                  frames and 8 bytes more. A reader steps only from a frame it acquired to the word behind it, so
//                  stale headers further on are never looked at. An exactly full lane would have no place for the zero,
//                  and the reader would step onto its own oldest frame: hence the 8 bytes (the model finds it).
//
// IF A PROCESS STOPS          (dead)                                           (only slow)
//   before PUBLISHED          nothing is visible; a successor overwrites it    the queue is empty, nobody waits for it
//   between PUBLISHED and     the message is delivered; the caller was not     the same
//     the end of the call     told: at-least-once is the publisher's retry
//   a reader, anywhere        its base stands; the successor reads again       its base pins the lane: full, not lost
//
// A SUCCESSOR knows nothing of the dead writer but the lane: it walks from the newer checkpoint to the first zero.
// Every header on that way is intact because a checkpoint is renewed before a write that ends more than a lane beyond
// it.
//
// TESTED BY  ring/lane_test, ring/lane_random_test, model/lane_model_test, model/spin/lane.pml, crash/step_test
#pragma once

#include <algorithm>

#include "base/atomics.hpp"
#include "base/check.hpp"
#include "layout/lane.hpp"
#include "layout/words.hpp"

namespace mooring {

// A mapped lane. `size_bytes` is a power of two. Readers hold it through a read-only mapping and never write.
struct LaneView {
  layout::LaneHead* head = nullptr;
  u8* bytes = nullptr;
  u64 size_bytes = 0;

  u8* at(u64 position) const { return bytes + (position & (size_bytes - 1)); }
  u64& word_at(u64 position) const { return *reinterpret_cast<u64*>(at(position)); }
};

// Why a call gave nothing. kCorrupt: shared bytes make no sense; the caller reports which queue, and stops using it.
enum class RingOutcome { kOk, kEmpty, kFull, kTooBig, kCorrupt };

template <class A>
class SpscWriter {
 public:
  SpscWriter() = default;

  // Takes over a lane that has no living writer: walks to the first zero. `first_seq` names the first message of a
  // lane that never carried one.
  static RingOutcome recover(LaneView lane, u64 first_seq, SpscWriter* writer) {
    SpscWriter found;
    found.lane_ = lane;
    // CHECKPOINTED: acquire, so that the slot the selector names is whole.
    const u64 current = A::load(lane.head->checkpoint_current, std::memory_order_acquire);
    if (current > 1) return RingOutcome::kCorrupt;
    found.checkpoint_slot_ = current;
    // Relaxed: ordered by the selector; the writer that stored them is dead.
    found.position_ = A::load(lane.head->checkpoints[current].position, std::memory_order_relaxed);
    found.next_seq_ = A::load(lane.head->checkpoints[current].seq, std::memory_order_relaxed);
    if (found.next_seq_ == 0) found.next_seq_ = first_seq;
    if (found.position_ % layout::kFrameAlignment != 0) return RingOutcome::kCorrupt;
    found.checkpoint_position_ = found.position_;
    found.released_ = A::load(lane.head->reclaim, std::memory_order_relaxed);  // own line; the writer before is dead
    const u64 walk_end = found.position_ + lane.size_bytes;
    for (;;) {
      // PUBLISHED: acquire; the predecessor may have died on another core a moment ago.
      const u64 header = A::load(lane.word_at(found.position_), std::memory_order_acquire);
      if (header == 0) break;
      const u64 bytes = layout::frame_bytes(layout::frame_len(header));
      const u32 flags = layout::frame_flags(header);
      const u64 room = lane.size_bytes - (found.position_ & (lane.size_bytes - 1));
      if ((flags & layout::kFramePublished) == 0 || bytes > room || found.position_ + bytes > walk_end) {
        return RingOutcome::kCorrupt;
      }
      if ((flags & layout::kFramePadding) != 0) {
        if (bytes != room) return RingOutcome::kCorrupt;
      } else {
        if (layout::frame_seq_lo(header) != static_cast<u32>(found.next_seq_)) return RingOutcome::kCorrupt;
        ++found.next_seq_;
      }
      found.position_ += bytes;
    }
    // Nothing is released before it is published: believing more would overwrite what nobody has read.
    if (found.released_ > found.position_) return RingOutcome::kCorrupt;
    found.cursor_ = found.position_;
    found.message_bytes_max_ = layout::lane_message_bytes_max(lane.size_bytes);
    *writer = found;
    return RingOutcome::kOk;
  }

  // Room for one more frame of `len` payload bytes behind what is already appended: a pointer to write the payload to,
  // or null with the reason. `release_mark()` -> u64: the position below which every group is done; called only when
  // the cached one gives no room. Nothing is visible, and reserving again forgets the reservation.
  template <class ReleaseMark>
  u8* reserve(u64 len, ReleaseMark&& release_mark, RingOutcome* why) {
    if (len > message_bytes_max_) {
      *why = RingOutcome::kTooBig;
      return nullptr;
    }
    const u64 need = layout::frame_bytes(len);
    const u64 room_to_end = lane_.size_bytes - (cursor_ & (lane_.size_bytes - 1));
    const u64 padding = need > room_to_end ? room_to_end : 0;
    const u64 end = cursor_ + padding + need;
    // The frames and the zero behind them.
    const u64 wanted = has_bug<A>(SeededBug::kNoRoomForZero) ? end : end + layout::kFrameHeaderBytes;
    if (wanted > released_ + lane_.size_bytes) {
      refresh_released(release_mark());
      if (wanted > released_ + lane_.size_bytes) {
        *why = RingOutcome::kFull;
        return nullptr;
      }
    }
    if (end + layout::kFrameHeaderBytes - checkpoint_position_ > lane_.size_bytes / 4) renew_checkpoint();
    reserved_padding_ = padding;
    return lane_.at(cursor_ + padding) + layout::kFrameHeaderBytes;
  }

  // Closes the reserved frame, with `len` at most what was reserved: part of the batch, not yet visible. `flags`: of
  // layout::kFrameKept. Inlined, as publish() is: where a file has several publishers the compiler makes calls of both,
  // and they cost a round trip 11 ns of 646.
  [[gnu::always_inline]] u64 append(u64 len, u32 flags = 0) {
    if (reserved_padding_ != 0) {
      put_header(cursor_, layout::make_frame_header(reserved_padding_ - layout::kFrameHeaderBytes,
                                                    layout::kFramePublished | layout::kFramePadding, next_seq_));
      cursor_ += reserved_padding_;
    }
    put_header(cursor_, layout::make_frame_header(len, layout::kFramePublished | flags, next_seq_));
    cursor_ += layout::frame_bytes(len);
    return next_seq_++;
  }

  // Makes everything appended visible at once.
  [[gnu::always_inline]] void publish() {
    if (cursor_ == position_) return;
    if (has_bug<A>(SeededBug::kHeaderBeforeZero)) {
      A::store(lane_.word_at(position_), first_header_, std::memory_order_release);
    }
    // The zero ahead: relaxed, ordered by PUBLISHED below.
    A::store(lane_.word_at(cursor_), u64{0}, std::memory_order_relaxed);
    A::kill_point("lane.zeroed");
    // PUBLISHED: release, so that payload, later headers and the zero are visible first. Relaxed would often pass on
    // x86 and lose data on ARM.
    A::store(lane_.word_at(position_), first_header_, std::memory_order_release);
    A::kill_point("lane.published");
    // The next publish zeroes about here before it stores its header: have the line by then.
    A::prefetch_write(lane_.at(cursor_ + (cursor_ - position_)));
    position_ = cursor_;
  }

  bool has_pending() const { return cursor_ != position_; }
  // Forgets what was appended and not published (a batch that is given up).
  void forget_pending(u64 appended_count) {
    cursor_ = position_;
    next_seq_ -= appended_count;
  }

  u64 next_seq() const { return next_seq_; }
  u64 position() const { return position_; }
  const LaneView& lane() const { return lane_; }

 private:
  void put_header(u64 position, u64 header) {
    if (position == position_) {
      first_header_ = header;  // held back until publish()
    } else {
      // Relaxed: ordered by PUBLISHED, which comes last.
      A::store(lane_.word_at(position), header, std::memory_order_relaxed);
    }
  }

  void refresh_released(u64 mark) {
    // A group cannot have read what is not published: a base beyond that is garbage, and believing it could free what
    // another group still needs.
    mark = std::min(mark, position_);
    if (mark <= released_) return;
    // RECLAIMED: the fence, before any byte below `mark` is overwritten. Release besides: a reader that finds itself
    // overtaken knows by it that its message is durable, and must see the mark that said so.
    A::store(lane_.head->reclaim, mark, std::memory_order_release);
    A::overwrite_fence();
    A::kill_point("lane.reclaimed");
    released_ = mark;
  }

  // The start of the pending batch is a frame boundary that stays one: the first zero a walk from there can meet.
  void renew_checkpoint() {
    if (checkpoint_position_ == position_ || has_bug<A>(SeededBug::kNoCheckpoint)) return;
    checkpoint_slot_ ^= 1;
    auto& slot = lane_.head->checkpoints[checkpoint_slot_];
    // Relaxed: ordered by the selector.
    A::store(slot.position, position_, std::memory_order_relaxed);
    A::store(slot.seq, next_seq_ - pending_count(), std::memory_order_relaxed);
    A::kill_point("lane.checkpoint_written");
    // CHECKPOINTED: release. A kill before it leaves the older slot, still good: it is renewed before it is too old.
    A::store(lane_.head->checkpoint_current, checkpoint_slot_, std::memory_order_release);
    // And before any byte of the frames behind the older slot is overwritten.
    A::overwrite_fence();
    A::kill_point("lane.checkpointed");
    checkpoint_position_ = position_;
  }

  // Frames appended since the last publish; walked, because it is wanted once a quarter lap only.
  u64 pending_count() const {
    u64 count = 0;
    for (u64 at = position_; at != cursor_;) {
      const u64 header = at == position_ ? first_header_ : A::load(lane_.word_at(at), std::memory_order_relaxed);
      if ((layout::frame_flags(header) & layout::kFramePadding) == 0) ++count;
      at += layout::frame_bytes(layout::frame_len(header));
    }
    return count;
  }

  LaneView lane_;
  u64 position_ = 0;      // where the next batch starts; everything before is published
  u64 cursor_ = 0;        // end of what is appended
  u64 released_ = 0;      // cached release mark; always a safe lower bound
  u64 next_seq_ = 0;      // of the next frame to append
  u64 first_header_ = 0;  // of the pending batch
  u64 reserved_padding_ = 0;
  u64 checkpoint_position_ = 0;  // of the valid slot
  u64 checkpoint_slot_ = 0;
  u64 message_bytes_max_ = 0;
};

// One frame as a reader sees it. `payload` points into the lane; with kFrameExtension in `flags` headers come first
// (message/decoder.hpp).
struct FrameView {
  const u8* payload = nullptr;
  u64 len = 0;
  u64 seq = 0;
  u64 end = 0;  // SPSC: lane position behind the frame
  u32 flags = 0;
  u32 lane = 0;  // MPMC: where it lies
};

// A place in a lane: a frame boundary, and the seq of the frame that stands or will stand there.
struct LaneCursor {
  u64 position = 0;
  u64 seq = 0;
};

template <class A>
class SpscReader {
 public:
  SpscReader() = default;
  SpscReader(LaneView lane, u64 seq_hint) : lane_(lane), seq_hint_(seq_hint) {}

  // The frame at `cursor`, stepping over padding (which moves the cursor). Does not move it over the frame.
  RingOutcome peek(LaneCursor* cursor, FrameView* frame) const {
    for (int step = 0; step < 2; ++step) {
      // PUBLISHED: acquire, so that the payload and the zero behind the batch are visible. Nothing stronger: the reader
      // stores nothing that the writer waits for.
      const u64 header = A::load(lane_.word_at(cursor->position), std::memory_order_acquire);
      if (header == 0) {
        prefetch_second_line(cursor->position);
        return RingOutcome::kEmpty;
      }
      const u32 flags = layout::frame_flags(header);
      const u64 len = layout::frame_len(header);
      const u64 bytes = layout::frame_bytes(len);
      const u64 room_to_end = lane_.size_bytes - (cursor->position & (lane_.size_bytes - 1));
      if ((flags & layout::kFramePublished) == 0 || bytes > room_to_end) return RingOutcome::kCorrupt;
      if ((flags & layout::kFramePadding) != 0) {
        if (bytes != room_to_end) return RingOutcome::kCorrupt;  // padding always ends the lane
        cursor->position += bytes;
        continue;
      }
      if (cursor->seq == 0) {
        cursor->seq = layout::extend(layout::frame_seq_lo(header), 32, seq_hint_);
      } else if (layout::frame_seq_lo(header) != static_cast<u32>(cursor->seq)) {
        return RingOutcome::kCorrupt;
      }
      last_bytes_ = bytes;
      frame->payload = lane_.at(cursor->position) + layout::kFrameHeaderBytes;
      frame->len = len;
      frame->seq = cursor->seq;
      frame->end = cursor->position + bytes;
      frame->flags = flags;
      return RingOutcome::kOk;
    }
    return RingOutcome::kCorrupt;  // padding behind padding
  }

  // Does anything stand at `cursor`? For a loop that polls: peek() tells what.
  bool poll(const LaneCursor& cursor) const {
    if (A::load(lane_.word_at(cursor.position), std::memory_order_acquire) != 0) return true;  // PUBLISHED
    prefetch_second_line(cursor.position);
    return false;
  }

  static void step(LaneCursor* cursor, const FrameView& frame) {
    cursor->position = frame.end;
    ++cursor->seq;
  }

  const LaneView& lane() const { return lane_; }

 private:
  // A frame like the last one would lie in two lines: fetch the second with the first (670 to 546 ns per round trip at
  // 64 B, numbers.md C2). Not for one-line frames: that line is where the writer puts its zero before it publishes;
  // taking it away costs a transfer.
  void prefetch_second_line(u64 position) const {
    if ((position & 63) + last_bytes_ > 64) A::prefetch_read(lane_.at(position + 64));
  }

  LaneView lane_;
  u64 seq_hint_ = 0;
  mutable u64 last_bytes_ = 0;  // of the last frame seen; a guess at the next
};

}  // namespace mooring
