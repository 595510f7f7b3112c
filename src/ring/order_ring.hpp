// The order ring: one total order over the frames of many lanes.
//
// A producer writes its frame into its own lane, then publishes it with ONE CAS of a 64-bit cell, tagged with the lap.
// Before the CAS nothing exists; after it the message is complete. There is no claimed state, so there is nothing to
// attribute to a dead producer, nothing to zero, nothing to repair, and a stopped producer harms only itself
// (docs/protocol.md tells what else was tried).
//
// WHO WRITES WHAT
//   cells     producers   CAS from (lap-1, anything) to (lap, lane, offset)
//   tail      producers   hint, CAS-max, lazily: a reader or producer that finds it low reads a few cells more
//   frames    the lane's owner, only frames of seq < reclaim, or never used ones
//   reclaim   the lane's owner: the release mark it relies on, before it overwrites anything; never goes back
//
// PAIRINGS         producer                                      reader
//   ORDERED        CAS cell, acq_rel                             load cell, acquire
//                  The frame is visible before its cell is. Acquire on the CAS as well: the cell's last user is done.
//   FREED          load bases and words, acquire (release_mark)  CAS state word / store base, release (group/)
//   DURABLE        journal: flush; store mark, release           load mark, acquire
//                  On a durable queue consumers look no further, and producers free no further, than the mark.
//   RECLAIMED      store reclaim; overwrite_fence; overwrite     copy; overread_fence; load reclaim
//                  A reader whose message may be taken out of the window while it copies (straggler park) believes the
//                  copy only if reclaim is at or below its seq: a seqlock whose writer never waits.
//
// THE THREE-WAY LAP TEST   A producer with a stale tail finds a cell of its own lap (taken: go on), of the lap before
//   (free: CAS), or anything else (it is laps behind: reload). The natural two-way form overwrites a newer message;
//   Spin finds that in 273 steps (model/spin/order_ring.pml, -DTWO_WAY). The tail is read again after the cell: that
//   closes the window of a producer stopped for 2^28 laps.
//
// AN HEIR      A lane whose owner is gone may be granted while that owner's messages wait: producers that come, publish
//   and go would else use up all lanes. The heir reads the frames from the cells, from `reclaim` (below it bytes may be
//   overwritten, above it none was) to the last seq of the lane, which the grant names. It goes on behind the newest
//   and treats them all as if it had published them. What the owner before wrote and did not publish is nobody's.
//
// IF A PROCESS STOPS          (dead)                                           (only slow)
//   before ORDERED            bytes in its own lane, invisible; the lane is    nobody notices
//                             retired after confirmed death
//   while it inherits         it wrote no frame, and `reclaim` only to a seq   the same
//                             that the mark has passed: the next heir reads
//                             the same frames
//   after ORDERED             the message is there; `tail` may be low: the     the same
//                             next producer raises it
//
// TESTED BY  ring/order_ring_test, model/order_model_test, model/spin/order_ring.pml, crash/step_test
#pragma once

#include <array>

#include "layout/order.hpp"
#include "ring/lane.hpp"

namespace mooring {

// How far `tail` may lag: raising it lazily is 1.65-2.3x for competing groups one by one (numbers.md C3).
inline constexpr u64 kTailLag = 16;
// Frames a producer may hold back before it publishes them together.
inline constexpr u64 kPublishBatchMax = 256;
// prefetchw this far ahead in the own lane: the publish CAS is a full fence and waits for the ownership misses of the
// frame that a store buffer would hide. 2.1x at 1 KiB (numbers.md C3).
inline constexpr u64 kLaneAheadBytes = 1024;

struct OrderView {
  layout::OrderHead* head = nullptr;
  u64* cells = nullptr;
  u64 mask = 0;      // N - 1
  unsigned log2 = 0;  // of N
  // Consumers of a durable queue see messages below this mark only (DURABLE); null: all that are published.
  const u64* limit = nullptr;
  // Messages below were recovered from a log: none of their cells and frames is here. 0: there are none.
  u64 recovered_below = 0;

  u64& cell(u64 seq) const { return cells[seq & mask]; }
  u64 lap(u64 seq) const { return seq >> log2; }
  u64 count() const { return mask + 1; }
};

// Is the message of `seq` published (and, where there is a limit, below it)? `cell` gets the cell as read.
// ORDERED: acquire. DURABLE: acquire; the journal raises the mark after the flush, so what is below it is on the disk.
template <class A>
bool is_published(const OrderView& order, u64 seq, u64* cell) {
  if (order.limit != nullptr && seq >= A::load(*order.limit, std::memory_order_acquire)) return false;
  *cell = A::load(order.cell(seq), std::memory_order_acquire);
  return layout::cell_laps_ahead(*cell, order.lap(seq)) >= 0;
}

// Puts every cell into the state "free for its next position at or after `first_seq`": lap - 1. Not a zero, which could
// be a real lap.
inline void initialise_cells(const OrderView& order, u64 first_seq) {
  for (u64 seq = first_seq; seq < first_seq + order.count(); ++seq) {
    order.cells[seq & order.mask] = layout::make_cell(order.lap(seq) - 1, 0, 0);
  }
}

// The frame that a cell names, with its header checked against the lane. The caller is in one of two positions: the
// message cannot be overwritten (it is at or above every base), or it calls `still_there` after copying.
template <class A>
RingOutcome frame_of_cell(const LaneView& lane, u64 cell, u64 seq, FrameView* frame) {
  const u64 offset = layout::cell_offset_bytes(cell);
  if (offset + layout::kFrameHeaderBytes > lane.size_bytes) return RingOutcome::kCorrupt;
  // Relaxed: ordered by ORDERED, which the caller has acquired.
  const u64 header = A::load(*reinterpret_cast<const u64*>(lane.bytes + offset), std::memory_order_relaxed);
  const u64 len = layout::frame_len(header);
  if ((layout::frame_flags(header) & layout::kFramePublished) == 0 ||
      offset + layout::frame_bytes(len) > lane.size_bytes) {
    return RingOutcome::kCorrupt;
  }
  frame->payload = lane.bytes + offset + layout::kFrameHeaderBytes;
  frame->len = len;
  frame->seq = seq;
  frame->end = offset + layout::frame_bytes(len);
  frame->flags = layout::frame_flags(header);
  frame->lane = layout::cell_lane(cell);
  return RingOutcome::kOk;
}

// RECLAIMED: after the bytes were read. False: the owner may have overwritten them meanwhile.
template <class A>
bool still_there(const LaneView& lane, u64 seq) {
  A::overread_fence();
  // Acquire, though the fence orders the copy: who finds it overtaken looks for MOVED next, and must not see the word
  // as it was before.
  return A::load(lane.head->reclaim, std::memory_order_acquire) <= seq;
}

template <class A>
class OrderWriter {
 public:
  OrderWriter() = default;

  // `reclaim_floor`: above every seq that earlier owners of the lane published (but for what inherit() takes over), and
  // at least the first seq of the queue, whose cells name lane 0 from birth; from the grant. Else a consumer that
  // stopped while copying a message of the owner before would take the new owner's bytes for it.
  OrderWriter(OrderView order, LaneView lane, u32 lane_index, u64 reclaim_floor)
      : order_(order), lane_(lane), lane_index_(lane_index) {
    // Relaxed: own line; the owner before is confirmed dead or closed.
    const u64 before = A::load(lane_.head->reclaim, std::memory_order_relaxed);
    reclaim_ = std::max(before, reclaim_floor);
    A::store(lane_.head->reclaim, reclaim_, std::memory_order_relaxed);
    A::overwrite_fence();  // RECLAIMED: nothing of this owner lands before the floor is visible
    next_ = A::load(order_.head->tail, std::memory_order_acquire);
    message_bytes_max_ = layout::lane_message_bytes_max(lane_.size_bytes);
  }

  // Takes over the messages of the owners before, so that none is overwritten before the mark has passed it. Before the
  // first reserve. `last_seq`: of the newest message of the lane, as the supervisor found it after the owner was gone;
  // 0: there is none.
  RingOutcome inherit(u64 last_seq) {
    if (last_seq < reclaim_) return RingOutcome::kOk;
    const u64 lap_behind = last_seq - std::min(last_seq, order_.mask);
    bool any = false;
    // Cells of a later lap, and of other lanes: the mark has passed whatever this lane had there.
    u64 oldest = last_seq + 1;
    for (u64 seq = std::max(reclaim_, lap_behind); seq != last_seq + 1; ++seq) {
      const u64 cell = A::load(order_.cell(seq), std::memory_order_acquire);  // ORDERED
      if (layout::cell_lane(cell) != lane_index_ || layout::cell_laps_ahead(cell, order_.lap(seq)) != 0) continue;
      FrameView frame;
      if (frame_of_cell<A>(lane_, cell, seq, &frame) != RingOutcome::kOk) return RingOutcome::kCorrupt;
      const u64 offset = layout::cell_offset_bytes(cell);
      if (!any) {
        any = true;
        oldest = seq;
        cursor_ = lane_.size_bytes + offset;  // a lap on, as nothing is below 0
        freed_end_ = cursor_;
      }
      const u64 start = cursor_ + ((offset - cursor_) & (lane_.size_bytes - 1));
      const u64 end = start + layout::frame_bytes(frame.len);
      if (end > freed_end_ + lane_.size_bytes) return RingOutcome::kCorrupt;
      remember(seq, end);
      cursor_ = end;
      next_ = std::max(next_, seq + 1);  // `tail` may lag behind it, and a mark is believed up to here
    }
    reclaim_ = oldest;
    // RECLAIMED: frames below the oldest are not remembered, so nothing else would say that they may be overwritten.
    A::store(lane_.head->reclaim, reclaim_, std::memory_order_release);
    A::overwrite_fence();
    A::kill_point("order.inherited");
    return RingOutcome::kOk;
  }

  // As SpscWriter::reserve. `release_mark()` -> u64 is a seq here.
  template <class ReleaseMark>
  u8* reserve(u64 len, ReleaseMark&& release_mark, RingOutcome* why) {
    if (len > message_bytes_max_) {
      *why = RingOutcome::kTooBig;
      return nullptr;
    }
    const u64 need = layout::frame_bytes(len);
    const u64 room_to_end = lane_.size_bytes - (cursor_ & (lane_.size_bytes - 1));
    const u64 start = need > room_to_end ? cursor_ + room_to_end : cursor_;
    if (start + need > freed_end_ + lane_.size_bytes && !free_frames(start + need, release_mark)) {
      *why = RingOutcome::kFull;
      return nullptr;
    }
    if (pending_count_ == kPublishBatchMax) {
      *why = RingOutcome::kFull;
      return nullptr;
    }
    reserved_at_ = start;
    // The CAS will want the cell's line: have it on its way while the payload is written.
    A::prefetch_write(&order_.cell(next_));
    return lane_.at(start) + layout::kFrameHeaderBytes;
  }

  // `flags`: of layout::kFrameKept.
  [[gnu::always_inline]] void append(u64 len, u32 flags = 0) {
    // Relaxed: ordered by ORDERED.
    A::store(lane_.word_at(reserved_at_), layout::make_frame_header(len, layout::kFramePublished | flags, 0),
             std::memory_order_relaxed);
    cursor_ = reserved_at_ + layout::frame_bytes(len);
    pending_[pending_count_++] = {reserved_at_, cursor_};
    A::prefetch_write(lane_.at(cursor_ + kLaneAheadBytes));
  }

  // Publishes what was appended, cell after cell, in order. kOk: all of it. kFull: some cells are taken by messages
  // that a group still needs; the rest stays pending, and publish() may be called again. `last_seq`: of the last one
  // published, if any was. `published`: how many were.
  template <class ReleaseMark>
  RingOutcome publish(ReleaseMark&& release_mark, u64* last_seq, u64* published) {
    *published = 0;
    RingOutcome outcome = RingOutcome::kOk;
    // Acquire: a low tail costs cells read, a high one cannot be (raised only after ORDERED).
    u64 t = std::max(next_, A::load(order_.head->tail, std::memory_order_acquire));
    // For each message: honest cells are passed at most once a lap; a scribbled ring must not hold us for ever.
    const u64 steps_max = 4 * order_.count() + 1024;
    u64 steps_left = steps_max;
    while (*published < pending_count_) {
      if (steps_left-- == 0) {
        outcome = RingOutcome::kCorrupt;
        break;
      }
      if (t >= mark_ + order_.count()) {
        refresh_mark(release_mark(), t);
        if (t >= mark_ + order_.count()) {
          outcome = RingOutcome::kFull;
          break;
        }
      }
      u64 cell = A::load(order_.cell(t), std::memory_order_acquire);
      const i64 ahead = layout::cell_laps_ahead(cell, order_.lap(t));
      const u64 tail = A::load(order_.head->tail, std::memory_order_acquire);  // after the cell: see the head
      const bool two_way = has_bug<A>(SeededBug::kTwoWayLapTest);
      if (two_way ? ahead == 0 : ahead >= 0) {
        t = std::max(t + 1, tail);
        continue;
      }
      if (tail > t && !two_way) {
        t = tail;
        continue;
      }
      if (ahead != -1 && !two_way) {
        outcome = RingOutcome::kCorrupt;
        break;
      }
      const Pending& frame = pending_[*published];
      A::kill_point("order.before_cas");
      // ORDERED: acq_rel, the linearisation point of publish.
      if (!A::cas(order_.cell(t), cell,
                  layout::make_cell(order_.lap(t), lane_index_, frame.start & (lane_.size_bytes - 1)),
                  std::memory_order_acq_rel)) {
        continue;  // somebody took it: the next look steps over it
      }
      A::kill_point("order.published");
      remember(t, frame.end);
      *last_seq = t;
      ++*published;
      ++t;
      steps_left = steps_max;
    }
    next_ = t;
    if (*published != 0) {
      drop_pending(*published);
      raise_tail(*last_seq + 1);
    }
    return outcome;
  }

  u64 pending_count() const { return pending_count_; }
  void forget_pending() {
    if (pending_count_ != 0) cursor_ = pending_[0].start;
    pending_count_ = 0;
  }
  // The tail as it should be; called before the producer goes to rest, so that the hint is exact in a quiet queue.
  void settle_tail() { raise_tail_to(next_); }

  u32 lane_index() const { return lane_index_; }
  const LaneView& lane() const { return lane_; }
  u64 release_mark_cached() const { return mark_; }

 private:
  struct Pending {
    u64 start;  // lane position of the frame
    u64 end;
  };
  // Frames up to lane position `end` were published with seqs up to `seq`: free once the mark has passed it.
  struct Published {
    u64 seq;
    u64 end;
  };
  static constexpr u64 kPublishedEntries = 256;  // each spans at least 1/128 lane, so 129 at most are in use

  void remember(u64 seq, u64 end) {
    if (published_count_ != 0) {
      Published& newest = published_[(published_first_ + published_count_ - 1) % kPublishedEntries];
      const u64 before = published_count_ == 1
                             ? freed_end_
                             : published_[(published_first_ + published_count_ - 2) % kPublishedEntries].end;
      if (newest.end - before < lane_.size_bytes / 128) {
        newest = {seq, end};
        return;
      }
    }
    published_[(published_first_ + published_count_) % kPublishedEntries] = {seq, end};
    ++published_count_;
  }

  // `published_end`: every seq below it is published. A base beyond that is garbage; believed once and cached, it would
  // go on freeing what other groups still need.
  void refresh_mark(u64 mark, u64 published_end) { mark_ = std::max(mark_, std::min(mark, published_end)); }

  template <class ReleaseMark>
  bool free_frames(u64 wanted_end, ReleaseMark&& release_mark) {
    for (int look = 0; look < 2; ++look) {
      u64 freed = freed_end_;
      u64 reclaim = reclaim_;
      u64 count = 0;
      while (count < published_count_ && wanted_end > freed + lane_.size_bytes) {
        const Published& oldest = published_[(published_first_ + count) % kPublishedEntries];
        if (oldest.seq >= mark_) break;
        freed = oldest.end;
        reclaim = oldest.seq + 1;
        ++count;
      }
      // Nothing of ours is in the ring: whatever is free is free up to the cursor of the pending frames.
      if (count == published_count_) {
        const u64 first_pending = pending_count_ != 0 ? pending_[0].start : cursor_;
        freed = std::max(freed, first_pending);
      }
      if (wanted_end <= freed + lane_.size_bytes) {
        published_first_ = (published_first_ + count) % kPublishedEntries;
        published_count_ -= count;
        freed_end_ = freed;
        if (reclaim > reclaim_) {
          reclaim_ = reclaim;
          // RECLAIMED: the fence, before any byte of those frames is overwritten. Release besides: a reader that is
          // overtaken finds the MOVED word and the park entry that let the mark pass.
          A::store(lane_.head->reclaim, reclaim_, std::memory_order_release);
          A::overwrite_fence();
          A::kill_point("order.reclaimed");
        }
        return true;
      }
      if (look == 0) refresh_mark(release_mark(), next_);
    }
    return false;
  }

  void drop_pending(u64 count) {
    for (u64 i = count; i < pending_count_; ++i) pending_[i - count] = pending_[i];
    pending_count_ -= count;
  }

  void raise_tail(u64 to) {
    // Relaxed: only decides whether to raise the hint now.
    if (to >= A::load(order_.head->tail, std::memory_order_relaxed) + kTailLag) raise_tail_to(to);
  }
  void raise_tail_to(u64 to) {
    u64 tail = A::load(order_.head->tail, std::memory_order_relaxed);
    // CAS-max; release pairs with the acquire of whoever starts from the hint. A plain CAS(t -> t+1) could stay behind
    // for ever.
    while (tail < to && !A::cas(order_.head->tail, tail, to, std::memory_order_release)) {
    }
    A::kill_point("order.tail_raised");
  }

  OrderView order_;
  LaneView lane_;
  u32 lane_index_ = 0;
  u64 next_ = 0;       // seq to try next
  u64 mark_ = 0;       // cached release mark; always a safe lower bound
  u64 reclaim_ = 0;    // as stored in the lane
  u64 cursor_ = 0;     // lane position behind the last frame appended
  u64 reserved_at_ = 0;
  u64 freed_end_ = 0;  // lane bytes below are free
  u64 message_bytes_max_ = 0;
  u64 pending_count_ = 0;
  u64 published_first_ = 0;
  u64 published_count_ = 0;
  std::array<Pending, kPublishBatchMax> pending_{};
  std::array<Published, kPublishedEntries> published_{};
};

}  // namespace mooring
