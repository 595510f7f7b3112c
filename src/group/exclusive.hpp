// An exclusive group, the consumer's half: one consumer at a time, strict order, no CAS and no fence.
//
// Leases are implied: everything in [acked, next) belongs to the one consumer. State words are written only for what is
// out of the ordinary: acknowledged out of order, given back, delivered again. One consumer writes all of it, and a
// successor (granted the seat after the confirmed death or the close of its predecessor) finds everything here.
//
// WHO WRITES WHAT (all: the one consumer; but for NACKED words)
//   acked    everything below is acknowledged; stored before ack() returns, so a kill never redelivers what was settled
//   base     follows acked lazily (64 messages, an eighth of the lane, or nothing to do): publishers read it when full
//   shown    the highest seq handed to the application, stored before it sees the message; never lowered
//   words    ACKED: out of order; READY: given back; LEASED(acquired): delivered again; NACKED: it failed. A word that
//            says NACKED is the supervisor's, until it says READY (due again) or ACKED (a dead letter now)
//
// PAIRINGS         consumer                                      there
//   PUBLISHED / ORDERED   the source's (ring/)
//   FREED          store base, release                           publisher: load base, acquire
//   SETTLED        store acked / word, release                   successor: load, acquire
//   SHOWN          store shown, release, before the return       successor: load, acquire
//   FAILED         store word NACKED, release                    supervisor: load word, acquire
//   DECIDED        load the held word, acquire                   supervisor: CAS word NACKED -> READY | ACKED, release
//
// IF THE CONSUMER STOPS    (dead)                                          (only slow)
//   before SHOWN           the successor gets the message for the first time   nobody waits but the publisher's bound
//   after SHOWN            the successor gets it again, marked redelivered,    nothing is taken from it
//                          attempt exact: untouched = 1 before, else the word
//   after SETTLED          acknowledged                                        the same
//   after FAILED           the supervisor decides; a successor finds the       the same
//                          word NACKED and waits, or what it became
//
// on_failure = hold: what is given back, and what failed, is delivered again before anything later.
//
// TESTED BY  group/exclusive_test, model/lane_model_test, crash/step_test
#pragma once

#include "group/group_view.hpp"
#include "group/release_mark.hpp"
#include "ring/order_ring.hpp"

namespace mooring {

inline constexpr u64 kExclusiveBaseLag = 64;

// --- Sources: where the one reader walks. A cursor is {unit, seq}; unit is what base and acked count. ---------------

// SPSC: lane positions.
template <class A>
class LaneSource {
 public:
  using Cursor = LaneCursor;
  static constexpr bool kWalksFrames = true;  // the next place is known only from the frame before
  LaneSource() = default;
  LaneSource(LaneView lane, u64 seq_hint) : reader_(lane, seq_hint) {}

  RingOutcome peek(Cursor* cursor, FrameView* frame) const { return reader_.peek(cursor, frame); }
  static void step(Cursor* cursor, const FrameView& frame) { SpscReader<A>::step(cursor, frame); }
  bool poll(const Cursor& cursor) const { return reader_.poll(cursor); }
  static u64 unit(const Cursor& cursor) { return cursor.position; }
  // Aligned, whatever the shared word says: from here every step keeps to frame boundaries.
  Cursor start(u64 unit) const { return Cursor{unit & ~(layout::kFrameAlignment - 1), 0}; }
  u64 base_lag() const { return reader_.lane().size_bytes / 8; }

 private:
  SpscReader<A> reader_;
};

// MPMC: seqs. `LaneOf(u32) -> const LaneView*` maps a lane on first use; null: not there (corrupt).
template <class A, class LaneOf>
class OrderSource {
 public:
  struct Cursor {
    u64 seq = 0;
  };
  static constexpr bool kWalksFrames = false;
  OrderSource() = default;
  OrderSource(OrderView order, LaneOf lane_of) : order_(order), lane_of_(lane_of) {}

  RingOutcome peek(Cursor* cursor, FrameView* frame) const {
    u64 cell = 0;
    if (!is_published<A>(order_, cursor->seq, &cell)) {
      prefetch_predicted();
      return RingOutcome::kEmpty;
    }
    // Nobody may overwrite what is at or above this group's base, so a cell of a later lap is garbage.
    if (layout::cell_laps_ahead(cell, order_.lap(cursor->seq)) != 0) return RingOutcome::kCorrupt;
    const LaneView* lane = lane_of_(layout::cell_lane(cell));
    if (lane == nullptr) return RingOutcome::kCorrupt;
    const RingOutcome outcome = frame_of_cell<A>(*lane, cell, cursor->seq, frame);
    if (outcome == RingOutcome::kOk) {
      predicted_ = lane->bytes + (frame->end & (lane->size_bytes - 1));
      predicted_lines_ = 1 + (((frame->end & 63) + layout::frame_bytes(frame->len)) > 64 ? 1U : 0U);
    }
    return outcome;
  }
  static void step(Cursor* cursor, const FrameView& /*frame*/) { ++cursor->seq; }
  bool poll(const Cursor& cursor) const {
    u64 cell = 0;
    if (is_published<A>(order_, cursor.seq, &cell)) return true;
    prefetch_predicted();
    return false;
  }
  static u64 unit(const Cursor& cursor) { return cursor.seq; }
  Cursor start(u64 unit) const { return Cursor{unit}; }
  u64 base_lag() const { return kExclusiveBaseLag; }

 private:
  // The frame will most likely stand where the lane of the message before goes on, and be as long: fetch its first
  // lines while the cell is on its way, so that the transfers overlap (1.32 to 1.11x of the two-line exchange,
  // numbers.md C2).
  void prefetch_predicted() const {
    if (predicted_ == nullptr) return;
    A::prefetch_read(predicted_);
    if (predicted_lines_ == 2) A::prefetch_read(predicted_ + 64);
  }

  OrderView order_;
  LaneOf lane_of_;
  mutable const u8* predicted_ = nullptr;
  mutable u32 predicted_lines_ = 0;
};

// kHeld: a message that failed is not due yet, and nothing later comes before it.
enum class TakeOutcome { kTaken, kEmpty, kHeld, kWindow, kCorrupt };

template <class A, class Source>
class ExclusiveConsumer {
 public:
  using Cursor = typename Source::Cursor;

  ExclusiveConsumer() = default;
  ExclusiveConsumer(GroupView group, Source source) : group_(group), source_(source) {
    // SETTLED, SHOWN: acquire; the consumer before is dead or closed, its stores are all there.
    const u64 acked = A::load(group_.head->acked, std::memory_order_acquire);
    const u64 base = A::load(group_.head->base, std::memory_order_acquire);
    acked_ = source_.start(std::max(acked, base));
    next_ = acked_;
    base_ = base;
    shown_ = A::load(group_.head->shown, std::memory_order_acquire);
    touched_end_ = shown_ + 1;
  }

  // The next message: given back before new. `attempt`: 1 for the first delivery.
  TakeOutcome take(FrameView* frame, u32* attempt) {
    if (__builtin_expect(held_ != kNone, false)) {
      while (held_ != kNone && is_decided()) take_decision();
      if (held_ < given_back_) return TakeOutcome::kHeld;  // kNone is above everything
    }
    if (given_back_ != kNone) {
      const TakeOutcome again = take_given_back(frame, attempt);
      if (again != TakeOutcome::kEmpty) return again;
    }
    for (;;) {
      const RingOutcome outcome = source_.peek(&next_, frame);
      if (outcome == RingOutcome::kEmpty) return TakeOutcome::kEmpty;
      if (outcome != RingOutcome::kOk) return TakeOutcome::kCorrupt;
      if (acked_.seq == 0) acked_.seq = frame->seq;  // SPSC learns its first seq from the first frame
      if (frame->seq - acked_.seq >= group_.window()) return TakeOutcome::kWindow;
      *attempt = 1;
      if (__builtin_expect(frame->seq < touched_end_, false) && word_kind(frame->seq) == layout::Kind::kNacked) {
        held_ = frame->seq;  // failed with the consumer before
        return TakeOutcome::kHeld;
      }
      if (__builtin_expect(frame->seq < touched_end_, false) && !touched_attempt(frame->seq, attempt)) {
        // Acknowledged out of order by the consumer before.
        if (acked_.seq == frame->seq && !step_acked()) return TakeOutcome::kCorrupt;
        source_.step(&next_, *frame);
        continue;
      }
      source_.step(&next_, *frame);
      if (frame->seq > shown_) {
        shown_ = frame->seq;
        // SHOWN: release, so that it is not held back past the return to the application.
        A::store(group_.head->shown, shown_, std::memory_order_release);
      }
      A::kill_point("exclusive.shown");
      return TakeOutcome::kTaken;
    }
  }

  // True: settled now. False: stale (settled before, never delivered, or an earlier delivery than the present one:
  // `attempt`, 0 for any).
  bool ack(u64 seq, u32 attempt = 0) {
    if (seq < acked_.seq || seq >= next_.seq) return false;
    if (seq < touched_end_ && is_stale(seq, attempt)) return false;
    if (seq == acked_.seq) {
      if (!step_acked()) return false;
      while (acked_.seq < touched_end_ && acked_.seq < next_.seq && word_kind(acked_.seq) == layout::Kind::kAcked) {
        if (!step_acked()) break;
      }
      store_acked();
      return true;
    }
    put_word(seq, layout::make_word(group_.lap(seq), layout::Kind::kAcked, 0, 0));
    return true;
  }

  // Everything delivered up to and with `seq`. Returns how many were settled by it; 0: stale. What was given back or
  // failed is not delivered: it comes again all the same, and what was delivered behind it is settled word by word.
  u64 ack_up_to(u64 seq) {
    if (seq < acked_.seq || seq >= next_.seq) return 0;
    u64 count = 0;
    const u64 lowest = std::min(given_back_, held_);
    for (u64 behind = lowest; behind <= seq; ++behind) {
      if (comes_again(behind) || word_kind(behind) == layout::Kind::kAcked) continue;
      put_word(behind, layout::make_word(group_.lap(behind), layout::Kind::kAcked, 0, 0));
      ++count;
    }
    while (acked_.seq < next_.seq) {
      const bool settled = acked_.seq < touched_end_ && word_kind(acked_.seq) == layout::Kind::kAcked;
      if (!settled && (acked_.seq > seq || comes_again(acked_.seq))) break;
      if (!step_acked()) break;
      if (!settled) ++count;
    }
    store_acked();
    return count;
  }

  // It failed: nothing later is delivered until the supervisor has decided. `owner`: the seat. False: stale.
  // `detail`, `nacked` as in CompetingConsumer::nack.
  bool fail(u64 seq, u32 owner, layout::FailReason reason, bool detail, NackedWord* nacked) {
    u32 acquired = 0;
    if (!is_delivered(seq, &acquired)) return false;
    const u64 word = layout::make_word(group_.lap(seq), layout::Kind::kNacked, owner,
                                       layout::make_nacked_aux(acquired, reason, detail));
    held_ = std::min(held_, seq);
    put_word(seq, word);  // FAILED
    *nacked = NackedWord{&group_.word(seq), word};
    return true;
  }

  // How often the message was given out, as a settlement in its mailbox names it; 0: it is not delivered.
  u32 acquired_of(u64 seq) const {
    u32 acquired = 0;
    return is_delivered(seq, &acquired) ? acquired : 0;
  }

  // Back to READY, before anything later. False: stale.
  bool give_back(u64 seq) {
    u32 acquired = 0;
    if (!is_delivered(seq, &acquired)) return false;
    put_word(seq, layout::make_word(group_.lap(seq), layout::Kind::kReady, 0, layout::make_aux(acquired)));
    A::kill_point("exclusive.given_back");
    given_back_ = std::min(given_back_, seq);
    return true;
  }

  // Publishes base: true if it moved (producers that wait for room want to know). Called before sleeping, when a
  // producer waits, and by itself when it lags too far.
  bool raise_base() {
    const u64 unit = Source::unit(acked_);
    if (unit == base_) return false;
    base_ = unit;
    A::kill_point("exclusive.before_base");
    // FREED: release, so that the reads of those bytes are over before a publisher overwrites them.
    A::store(group_.head->base, base_, std::memory_order_release);
    return true;
  }
  bool base_lags() const { return Source::unit(acked_) - base_ >= source_.base_lag(); }

  // Worth a take()? For a loop that polls.
  bool poll() const {
    if (__builtin_expect(held_ != kNone, false)) return given_back_ < held_ || is_decided();
    return given_back_ != kNone || source_.poll(next_);
  }

  // Is there anything to take? Moves only the private cursor over padding.
  bool may_have_work() {
    if (held_ != kNone) return given_back_ < held_ || is_decided();
    if (given_back_ != kNone) return true;
    FrameView frame;
    return source_.peek(&next_, &frame) != RingOutcome::kEmpty;
  }

  const Source& source() const { return source_; }
  u64 in_flight() const { return acked_.seq == 0 ? 0 : next_.seq - acked_.seq; }
  u64 next_seq() const { return next_.seq; }
  const GroupView& group() const { return group_; }

 private:
  static constexpr u64 kNone = ~u64{0};

  layout::Kind word_kind(u64 seq) const {
    // Own words, a dead predecessor's, or decided by the supervisor (DECIDED: acquire).
    const u64 word = A::load(group_.word(seq), std::memory_order_acquire);
    return layout::word_laps_ahead(word, group_.lap(seq)) == 0 ? layout::word_kind(word) : layout::Kind::kUntouched;
  }
  // Given back, or failed and not decided.
  bool comes_again(u64 seq) const {
    if (seq >= touched_end_) return false;
    const layout::Kind kind = word_kind(seq);
    return kind == layout::Kind::kReady || kind == layout::Kind::kNacked;
  }

  // A word says that it is not with the application (also: a dead letter by now), or that it was given out again since.
  bool is_stale(u64 seq, u32 attempt) const {
    const u64 word = A::load(group_.word(seq), std::memory_order_acquire);  // own words, or decided (DECIDED)
    if (layout::word_laps_ahead(word, group_.lap(seq)) != 0) return false;
    return layout::word_kind(word) != layout::Kind::kLeased ||
           (attempt != 0 && layout::aux_acquired(layout::word_aux(word)) != attempt);
  }

  // With the application, and how often it was given out.
  bool is_delivered(u64 seq, u32* acquired) const {
    if (seq < acked_.seq || seq >= next_.seq) return false;
    *acquired = 1;
    if (seq >= touched_end_) return true;
    const u64 word = A::load(group_.word(seq), std::memory_order_relaxed);  // own words
    if (layout::word_laps_ahead(word, group_.lap(seq)) != 0) return true;
    if (layout::word_kind(word) != layout::Kind::kLeased) return false;
    *acquired = layout::aux_acquired(layout::word_aux(word));
    return true;
  }

  // DECIDED: acquire.
  bool is_decided() const {
    const u64 word = A::load(group_.word(held_), std::memory_order_acquire);
    return layout::word_laps_ahead(word, group_.lap(held_)) != 0 || layout::word_kind(word) != layout::Kind::kNacked;
  }

  // READY: it comes again. ACKED: it is a dead letter, which settles it here.
  void take_decision() {
    const u64 seq = held_;
    held_ = kNone;
    if (seq >= next_.seq) return;  // the walk meets it
    // Those behind it may be decided as well.
    for (u64 later = seq; later < touched_end_ && later < next_.seq; ++later) {
      const layout::Kind kind = word_kind(later);
      if (kind == layout::Kind::kReady) given_back_ = std::min(given_back_, later);
      if (kind != layout::Kind::kNacked) continue;
      held_ = later;
      break;
    }
    if (seq != acked_.seq || word_kind(seq) != layout::Kind::kAcked) return;
    while (acked_.seq < touched_end_ && acked_.seq < next_.seq && word_kind(acked_.seq) == layout::Kind::kAcked) {
      if (!step_acked()) break;
    }
    store_acked();
  }

  void put_word(u64 seq, u64 word) {
    // SETTLED: release, for a successor.
    A::store(group_.word(seq), word, std::memory_order_release);
    touched_end_ = std::max(touched_end_, seq + 1);
    A::kill_point("exclusive.word");
  }

  // A message that was shown before this consumer came, or has a word. False: it is acknowledged. Else its attempt is
  // counted in its word first, so that the next successor counts on.
  bool touched_attempt(u64 seq, u32* attempt) {
    const u64 word = A::load(group_.word(seq), std::memory_order_relaxed);  // own words, or a dead predecessor's
    u32 acquired = seq <= shown_ ? 1 : 0;
    if (layout::word_laps_ahead(word, group_.lap(seq)) == 0) {
      if (layout::word_kind(word) == layout::Kind::kAcked) return false;
      acquired = layout::aux_acquired(layout::word_aux(word));
    }
    const bool has_word = layout::word_laps_ahead(word, group_.lap(seq)) == 0;
    *attempt = layout::acquired_after(acquired);
    if (*attempt > 1 || has_word) {
      put_word(seq, layout::make_word(group_.lap(seq), layout::Kind::kLeased, 0, layout::make_aux(*attempt)));
    }
    return true;
  }

  TakeOutcome take_given_back(FrameView* frame, u32* attempt) {
    const u64 seq = given_back_;
    Cursor at = acked_;
    for (;;) {  // SPSC walks the frames in flight; at most a window of them
      const RingOutcome outcome = source_.peek(&at, frame);
      if (outcome != RingOutcome::kOk) return TakeOutcome::kCorrupt;
      if (frame->seq >= seq) break;
      if constexpr (Source::kWalksFrames) {
        source_.step(&at, *frame);
      } else {
        at.seq = seq;
      }
    }
    if (frame->seq != seq) return TakeOutcome::kCorrupt;
    if (!touched_attempt(seq, attempt)) return TakeOutcome::kCorrupt;
    find_given_back(seq + 1);
    return TakeOutcome::kTaken;
  }

  void find_given_back(u64 from) {
    given_back_ = kNone;
    for (u64 seq = from; seq < touched_end_ && seq < next_.seq; ++seq) {
      if (word_kind(seq) == layout::Kind::kReady) {
        given_back_ = seq;
        return;
      }
    }
  }

  bool step_acked() {
    FrameView frame;
    if constexpr (Source::kWalksFrames) {
      if (source_.peek(&acked_, &frame) != RingOutcome::kOk) return false;
    }
    source_.step(&acked_, frame);
    return true;
  }

  void store_acked() {
    if constexpr (Source::kWalksFrames) {
      A::store(group_.head->base_seq_hint, acked_.seq, std::memory_order_relaxed);  // a hint; see layout/group.hpp
    }
    A::kill_point("exclusive.before_acked");
    // SETTLED: release. One word, so a kill leaves the old or the new truth.
    A::store(group_.head->acked, Source::unit(acked_), std::memory_order_release);
    A::kill_point("exclusive.acked");
    if (base_lags()) raise_base();
  }

  GroupView group_;
  Source source_;
  Cursor acked_{};
  Cursor next_{};
  u64 base_ = 0;            // as stored
  u64 shown_ = 0;           // as stored
  u64 touched_end_ = 0;     // no word at or beyond it was ever written in its lap
  u64 given_back_ = kNone;  // lowest READY seq
  u64 held_ = kNone;        // lowest NACKED seq
};

}  // namespace mooring
