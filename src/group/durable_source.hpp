// Where the consumer of an exclusive group finds the messages of a durable queue: in memory while they are there, else
// in the log. A source as in exclusive.hpp; its cursor is a seq on both kinds of queues.
//
// R = J: publishers overwrite whatever is durable, whatever this group has read. So nothing here is read in place: the
// caller copies the bytes that peek() found, asks still_there(), and reads the log if they were overtaken.
//
// MPMC asks the order cell of each message. SPSC knows the place of a frame from the frame before it only, so the
// reader keeps a cursor into the lane; overtaken, it reads in the log and enters the lane anew at J: the frame there
// tells its seq. Until the log has brought it to that seq the place waits; overtaken meanwhile, it takes a later one.
// (core.md A1 would have it keep its lane position by adding up frame sizes; this needs no size of what it skipped.)
//
// PAIRINGS   ORDERED, PUBLISHED, RECLAIMED (ring/)
//   DURABLE        load durable_seq, then durable_mark, acquire        the journal stores them in this order
//   A lane position below J is believed only after its header was loaded and `reclaim` was found at or below it
//   *afterwards*: an overtaken one may show any bytes, and a zero ahead of the writer looks like the end of the lane.
//
// A 0 AT J    says that nothing is published beyond, so the seq there is durable_seq, if that stood still meanwhile:
// were durable_seq of a later mark, the messages between would be published, and the word not 0.
//
// TESTED BY  group/durable_source_test, durable/backlog_test
#pragma once

#include "group/exclusive.hpp"
#include "layout/ctl.hpp"

namespace mooring {

// The journal's marks, and what never changes.
struct DurableMarks {
  const layout::QueueState* state = nullptr;
  u64 recovered_below = 0;  // these are in the log alone
  bool early = false;       // deliver = early: what is published is shown, durable or not
};

template <class A, class LaneOf>
class DurableSource {
 public:
  struct Cursor {
    u64 seq = 0;
  };
  static constexpr bool kWalksFrames = false;

  DurableSource() = default;
  DurableSource(DurableMarks marks, OrderView order, LaneOf lane_of)
      : marks_(marks), spsc_(false), order_(order, lane_of), lane_of_(lane_of) {}
  DurableSource(DurableMarks marks, LaneView lane) : marks_(marks), spsc_(true), lane_(lane) {}

  // kOk with payload null: it is in the log.
  RingOutcome peek(const Cursor* cursor, FrameView* frame) {
    *frame = FrameView{};
    frame->seq = cursor->seq;
    if (!spsc_) return peek_order(*cursor, frame);
    if (peek_lane(cursor->seq, frame)) return RingOutcome::kOk;
    return is_durable(cursor->seq) ? in_log(cursor->seq, frame) : RingOutcome::kEmpty;
  }

  // After the bytes were copied: were they the message's?
  bool still_there(const FrameView& frame) const {
    if (spsc_) return mooring::still_there<A>(lane_, frame.end - layout::frame_bytes(frame.len));
    const LaneView* lane = lane_of_(frame.lane);
    return lane != nullptr && mooring::still_there<A>(*lane, frame.seq);
  }

  void step(Cursor* cursor, const FrameView& frame) {
    if (spsc_ && frame.payload != nullptr && hot_.seq == frame.seq) hot_ = {frame.end, frame.seq + 1};
    ++cursor->seq;
  }
  bool poll(const Cursor& cursor) const {
    if (!spsc_) return order_.poll(typename OrderSource<A, LaneOf>::Cursor{cursor.seq});
    if (is_durable(cursor.seq)) return true;
    // Not entered yet: peek() tells.
    return marks_.early && (hot_.seq != cursor.seq ||
                            A::load(lane_.word_at(hot_.position), std::memory_order_acquire) != 0);  // PUBLISHED
  }
  static u64 unit(const Cursor& cursor) { return cursor.seq; }
  Cursor start(u64 unit) const { return Cursor{unit}; }
  u64 base_lag() const { return kExclusiveBaseLag; }

 private:
  bool is_durable(u64 seq) const {
    return seq < A::load(marks_.state->durable_seq, std::memory_order_acquire);  // DURABLE
  }
  static RingOutcome in_log(u64 seq, FrameView* frame) {
    *frame = FrameView{};
    frame->seq = seq;
    return RingOutcome::kOk;
  }

  RingOutcome peek_order(const Cursor& cursor, FrameView* frame) {
    if (cursor.seq < marks_.recovered_below) return in_log(cursor.seq, frame);
    typename OrderSource<A, LaneOf>::Cursor at{cursor.seq};
    const RingOutcome found = order_.peek(&at, frame);
    if (found == RingOutcome::kOk || found == RingOutcome::kEmpty) return found;
    // Overtaken, the cell or the frame behind it: then it is durable.
    return is_durable(cursor.seq) ? in_log(cursor.seq, frame) : found;
  }

  // True: `frame` is the message, as far as was seen. False: nothing is published there, or it was overtaken.
  bool peek_lane(u64 seq, FrameView* frame) {
    if (!marks_.early && !is_durable(seq)) return false;
    if (hot_.seq == kNowhere || hot_.seq <= seq || is_durable(seq)) return walk_to(seq, frame);
    // `early`: given back, and not in the log yet.
    const LaneCursor kept = hot_;
    hot_.seq = kNowhere;
    const bool found = walk_to(seq, frame);
    hot_ = kept;
    return found;
  }

  bool walk_to(u64 seq, FrameView* frame) {
    for (int tries = 0; tries < kEntersMax; ++tries) {
      if (hot_.seq > seq && hot_.seq != kNowhere) {
        // A place that waits for us. Is it still good?
        if (mooring::still_there<A>(lane_, hot_.position)) return false;
        hot_.seq = kNowhere;
      }
      if (hot_.seq == kNowhere && !enter()) return false;
      bool ended = false;
      while (hot_.seq <= seq) {
        FrameView there;
        if (!frame_at_hot(&there, &ended)) break;
        if (there.seq == seq) {
          *frame = there;
          return true;
        }
        hot_ = {there.end, there.seq + 1};  // `early`: between J and us
      }
      if (ended) return false;
    }
    return false;
  }

  // The frame at hot_, which may move over padding. False with `ended`: there is none yet; without: overtaken, and
  // hot_ is nowhere.
  bool frame_at_hot(FrameView* frame, bool* ended) {
    *ended = false;
    for (int step = 0; step < 2; ++step) {
      const u64 header = A::load(lane_.word_at(hot_.position), std::memory_order_acquire);  // PUBLISHED
      const u64 bytes = layout::frame_bytes(layout::frame_len(header));
      const u32 flags = layout::frame_flags(header);
      const u64 room = lane_.size_bytes - (hot_.position & (lane_.size_bytes - 1));
      // RECLAIMED: after the header, a 0 as much as any other.
      if (!mooring::still_there<A>(lane_, hot_.position)) break;
      if (header == 0) {
        *ended = true;
        return false;
      }
      if ((flags & layout::kFramePublished) == 0 || bytes > room) break;
      if ((flags & layout::kFramePadding) != 0) {
        if (bytes != room) break;
        hot_.position += bytes;
        continue;
      }
      if (layout::frame_seq_lo(header) != static_cast<u32>(hot_.seq)) break;
      frame->payload = lane_.at(hot_.position) + layout::kFrameHeaderBytes;
      frame->len = layout::frame_len(header);
      frame->seq = hot_.seq;
      frame->end = hot_.position + bytes;
      frame->flags = flags;
      return true;
    }
    hot_.seq = kNowhere;
    return false;
  }

  // The lane at J.
  bool enter() {
    for (int tries = 0; tries < kEntersMax; ++tries) {
      const u64 before = A::load(marks_.state->durable_seq, std::memory_order_acquire);
      const u64 mark = A::load(marks_.state->durable_mark, std::memory_order_acquire);
      if (mark % layout::kFrameAlignment != 0) return false;
      const u64 header = A::load(lane_.word_at(mark), std::memory_order_acquire);  // PUBLISHED
      if (!mooring::still_there<A>(lane_, mark)) continue;
      if (header != 0) {
        // Padding carries the seq of the frame behind it.
        hot_ = {mark, layout::extend(layout::frame_seq_lo(header), 32, before)};
        return true;
      }
      if (A::load(marks_.state->durable_seq, std::memory_order_acquire) != before) continue;
      hot_ = {mark, before};
      return true;
    }
    return false;
  }

  static constexpr u64 kNowhere = ~u64{0};
  static constexpr int kEntersMax = 8;

  DurableMarks marks_;
  bool spsc_ = false;
  OrderSource<A, LaneOf> order_;
  LaneOf lane_of_{};
  LaneView lane_;
  LaneCursor hot_{0, kNowhere};  // SPSC: a frame boundary in the lane, and its seq
};

}  // namespace mooring
