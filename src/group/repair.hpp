// A competing group, the supervisor's half: what is done for the dead, and for messages that hold everybody up.
//
// One supervisor per instance runs this (lock, incarnation). Every step is one CAS or one store that means the same
// when it is done again, so a supervisor killed anywhere is repaired by its successor running the same code from the
// start.
//
//   give back      every LEASED(dead) of a confirmed dead owner becomes READY in place (core.md A12); nobody else may.
//                  The one it was handling becomes NACKED(crash) (A6); where it had several, none is charged, and each
//                  comes back alone
//   take back      LEASED(owner) -> NACKED(timeout): held longer than ack_wait by an owner that lives (A14). The owner
//                  keeps its memory and its seat; its settlement of that delivery is refused
//   fail           NACKED, by whomever: what becomes of it is decided once, here. The record in the park store is
//                  written first, then
//     F1  CAS S[seq] NACKED -> MOVED(store), or for an entry of X: X[x] = FREE
//   return         what waited in the store and is due: X[x] = {seq, loc}, word READY, one store
//   park           a straggler: a message whose living owner stands still while others need the room leaves the window
//                  in that owner's name, so the owner can still acknowledge it:
//     K1  copy the payload into the park file
//     K2  X[x] = {seq, loc}, word PREP_LEASED(owner)
//     K3  CAS S[seq] LEASED(owner) -> MOVED(x)          the point of no return; fails if the owner settled meanwhile
//     K4  CAS X[x] PREP_y -> y                           fails if the owner settled meanwhile: fine
//     K5  step base over MOVED
//
//   KILLED AFTER   WHAT A RESTART DOES (reconcile)
//   K1             the record is not referenced: its room is free again
//   K2             PREP: is S[seq] MOVED(x), at or above base?  no: X[x] = FREE
//   K3             the same question; yes: K4. Unambiguous because nobody else steps base over MOVED.
//   K4             steps base (K5)
//   before F1      a record and a NACKED word or entry: window: the record is freed, and the failure decided again;
//                  X: the entry's `failed` is that of the record before, so the same decision is made again
//
// PAIRINGS as in competing.hpp; PARKED: the entry's seq and loc and the record are stored before its word (release) and
// before MOVED (acq_rel), and read after either is acquired.
//
// TESTED BY  group/repair_test, model/group_model_test, model/spin/order_ring.pml, crash/step_test
#pragma once

#include "group/competing.hpp"
#include "layout/park.hpp"
#include "layout/seat.hpp"

namespace mooring {

template <class A>
class GroupRepair {
 public:
  GroupRepair(GroupView group, OrderView order) : group_(group), order_(order) {}

  // Gives back all that `owner` holds; it is confirmed dead, or closed its seat. Returns how many messages.
  // `handling`: the seq it had before it when it died, which is charged for it; kHandlingMany: none is, and all come
  // back alone; 0: it handled nothing.
  u64 give_back_all_of(u32 owner, u64 handling = 0) {
    const bool alone = handling == layout::kHandlingMany;
    u64 count = 0;
    u64 lowest = ~u64{0};
    const u64 base = A::load(group_.head->base, std::memory_order_acquire);
    // Up to the first untouched word, not up to `hint`: the dead may not have raised it. Touched is a prefix, because
    // a lease is taken only behind touched words.
    for (u64 seq = base; seq < base + group_.window(); ++seq) {
      u64 word = A::load(group_.word(seq), std::memory_order_acquire);
      const i64 ahead = layout::word_laps_ahead(word, group_.lap(seq));
      if (ahead < 0) break;
      if (ahead != 0) continue;
      if (layout::word_kind(word) == layout::Kind::kLeased && layout::word_owner(word) == owner) {
        const u32 aux = layout::word_aux(word);
        const bool charged = seq == handling;
        const u64 back =
            charged ? layout::make_word(
                          group_.lap(seq), layout::Kind::kNacked, owner,
                          layout::make_nacked_aux(layout::aux_acquired(aux), layout::FailReason::kCrash, false))
                    : layout::make_word(group_.lap(seq), layout::Kind::kReady, 0, aux | (alone ? 1U : 0U));
        if (A::cas(group_.word(seq), word, back, std::memory_order_acq_rel)) {
          ++count;
          if (!charged) lowest = std::min(lowest, seq);
          A::kill_point("repair.given_back");
        }
      } else if (layout::word_kind(word) == layout::Kind::kReady) {
        // Perhaps given back by one that was killed before it said so.
        lowest = std::min(lowest, seq);
      }
    }
    if (lowest != ~u64{0}) announce_ready<A>(group_, lowest);
    A::kill_point("repair.announced");
    return count + give_back_parks_of(owner, handling);
  }
  u64 give_back_parks_of(u32 owner, u64 handling) {
    u64 count = 0;
    for (u32 index = 0; index < group_.parks_count; ++index) count += give_back_park(index, owner, handling);
    return count;
  }

  // An exclusive group, its consumer confirmed dead or closed: the message it was handling failed. `acked_seq`: all
  // below is acknowledged. False: that message is settled, was never shown, or is the supervisor's already.
  bool charge_exclusive(u32 owner, u64 handling, u64 acked_seq) {
    const u64 shown = A::load(group_.head->shown, std::memory_order_acquire);
    if (handling < acked_seq || handling > shown || handling - acked_seq >= group_.window()) return false;
    u64 word = A::load(group_.word(handling), std::memory_order_acquire);
    u32 acquired = 1;
    if (layout::word_laps_ahead(word, group_.lap(handling)) == 0) {
      if (layout::word_kind(word) != layout::Kind::kLeased) return false;
      acquired = layout::aux_acquired(layout::word_aux(word));
    }
    const u64 nacked = layout::make_word(group_.lap(handling), layout::Kind::kNacked, owner,
                                         layout::make_nacked_aux(acquired, layout::FailReason::kCrash, false));
    const bool charged = A::cas(group_.word(handling), word, nacked, std::memory_order_acq_rel);
    A::kill_point("repair.charged");
    return charged;
  }

  // `visit(seq, word)` for each NACKED word of an exclusive group, whose touched words are no prefix.
  template <class Visit>
  void each_held(u64 acked_seq, Visit&& visit) const {
    const u64 shown = A::load(group_.head->shown, std::memory_order_acquire);
    for (u64 seq = acked_seq; seq <= shown && seq - acked_seq < group_.window(); ++seq) {
      const u64 word = A::load(group_.word(seq), std::memory_order_acquire);  // FAILED
      if (layout::word_laps_ahead(word, group_.lap(seq)) == 0 && layout::word_kind(word) == layout::Kind::kNacked) {
        visit(seq, word);
      }
    }
  }

  // The decision about a held message: READY, to be delivered again; or settled, for it is a dead letter or dropped.
  // `acquired`: how often it counts as given out.
  bool decide_held(u64 seq, u64 word, bool again, u32 acquired = 0) {
    const u64 decided =
        again ? layout::make_word(group_.lap(seq), layout::Kind::kReady, 0, layout::make_aux(acquired))
              : layout::make_word(group_.lap(seq), layout::Kind::kAcked, 0, 0);
    const bool changed = A::cas(group_.word(seq), word, decided, std::memory_order_acq_rel);  // DECIDED
    A::kill_point("repair.decided");
    return changed;
  }

  // --- What failed --------------------------------------------------------------------------------------------------

  // `visit(seq, word)` for each NACKED word of the window.
  template <class Visit>
  void each_nacked(Visit&& visit) const {
    const u64 base = A::load(group_.head->base, std::memory_order_acquire);
    for (u64 seq = base; seq < base + group_.window(); ++seq) {
      const u64 word = A::load(group_.word(seq), std::memory_order_acquire);
      const i64 ahead = layout::word_laps_ahead(word, group_.lap(seq));
      if (ahead < 0) break;  // touched is a prefix
      if (ahead == 0 && layout::word_kind(word) == layout::Kind::kNacked) visit(seq, word);
    }
  }

  // `visit(seq, word)` for each LEASED word of the window.
  template <class Visit>
  void each_leased(Visit&& visit) const {
    const u64 base = A::load(group_.head->base, std::memory_order_acquire);
    for (u64 seq = base; seq < base + group_.window(); ++seq) {
      const u64 word = A::load(group_.word(seq), std::memory_order_acquire);
      const i64 ahead = layout::word_laps_ahead(word, group_.lap(seq));
      if (ahead < 0) break;
      if (ahead == 0 && layout::word_kind(word) == layout::Kind::kLeased) visit(seq, word);
    }
  }

  // The delivery that `word` names ends here, without its owner (core.md A14). False: it was settled meanwhile.
  bool take_back(u64 seq, u64 word) {
    const u64 nacked = layout::make_word(group_.lap(seq), layout::Kind::kNacked, layout::word_owner(word),
                                         layout::make_nacked_aux(layout::aux_acquired(layout::word_aux(word)),
                                                                 layout::FailReason::kTimeout, false));
    const bool taken = A::cas(group_.word(seq), word, nacked, std::memory_order_acq_rel);
    A::kill_point("repair.taken_back");
    return taken;
  }
  bool take_back_park(u32 index, u64 word) {
    layout::ParkWord park = layout::read_park_word(word);
    park.state = layout::ParkState::kNacked;
    park.extended = layout::make_nacked_extended(layout::FailReason::kTimeout, false);
    const bool taken = A::cas(group_.parks[index].word, word, layout::make_park_word(park), std::memory_order_acq_rel);
    A::kill_point("repair.park_taken_back");
    return taken;
  }

  // F1: its record is there. False: `word` is not what S[seq] says (only garbage changes a NACKED word).
  bool move_to_store(u64 seq, u64 word) {
    const bool moved =
        A::cas(group_.word(seq), word,
               layout::make_word(group_.lap(seq), layout::Kind::kMoved, 0, layout::kMovedToStore),
               std::memory_order_acq_rel);
    A::kill_point("repair.f1");
    return moved;
  }

  // Does S[seq] still say NACKED, so that a record of it counts for nothing yet?
  bool is_nacked_in_window(u64 seq) const {
    const u64 base = A::load(group_.head->base, std::memory_order_acquire);
    if (seq < base || seq >= base + group_.window()) return false;
    const u64 word = A::load(group_.word(seq), std::memory_order_acquire);
    return layout::word_laps_ahead(word, group_.lap(seq)) == 0 && layout::word_kind(word) == layout::Kind::kNacked;
  }

  // From the store into X: READY with one store. Returns the entry, kNotParked if X has no room. `from`: where to look
  // for room first.
  u32 return_from_store(u64 seq, u64 loc, const layout::RecordWord& record, u32 from) {
    const u32 index = free_entry(from);
    if (index == Lease::kNotParked) return index;
    layout::ParkEntry& entry = group_.parks[index];
    A::store(entry.seq, seq, std::memory_order_relaxed);
    A::store(entry.loc, loc, std::memory_order_relaxed);
    A::store(entry.kind, static_cast<u64>(layout::ParkEntryKind::kFromStore), std::memory_order_relaxed);
    layout::ParkWord park{};
    park.generation = layout::read_park_word(A::load(entry.word, std::memory_order_relaxed)).generation + 1;
    park.state = layout::ParkState::kReady;
    park.acquired = record.acquired;
    park.failed = record.failed;
    park.alone = record.alone;
    // PARKED: release, as in K2.
    A::store(entry.word, layout::make_park_word(park), std::memory_order_release);
    A::kill_point("repair.returned");
    announce_park_ready<A>(group_, index);
    return index;
  }

  // Only for entries that consumers no longer touch: ACKED or NACKED, or PREP whose message was never moved.
  void free_park(u32 index) {
    layout::ParkEntry& entry = group_.parks[index];
    layout::ParkWord park{};
    park.generation = layout::read_park_word(A::load(entry.word, std::memory_order_relaxed)).generation + 1;
    park.state = layout::ParkState::kFree;
    // Release: pairs with the acquire of a consumer that searches X for its own message.
    A::store(entry.word, layout::make_park_word(park), std::memory_order_release);
    A::kill_point("repair.freed");
  }

  // Has base passed the message of this entry? Until then a straggler's entry is what its MOVED word points at.
  bool passed(u32 index) const {
    return A::load(group_.head->base, std::memory_order_acquire) >
           A::load(group_.parks[index].seq, std::memory_order_relaxed);
  }

  // Nothing points at this entry any more: its message waited in the store, or base is past it.
  bool may_go(u32 index) const {
    const bool from_store = A::load(group_.parks[index].kind, std::memory_order_relaxed) ==
                            static_cast<u64>(layout::ParkEntryKind::kFromStore);
    return from_store || passed(index);
  }

  // Nacked words become READY again, in place: for a group that retries at once and for ever, nothing has to be counted
  // or copied.
  u64 give_back_nacked() {
    u64 count = 0;
    const u64 base = A::load(group_.head->base, std::memory_order_acquire);
    for (u64 seq = base; seq < base + group_.window(); ++seq) {
      u64 word = A::load(group_.word(seq), std::memory_order_acquire);
      const i64 ahead = layout::word_laps_ahead(word, group_.lap(seq));
      if (ahead < 0) break;  // touched is a prefix
      if (ahead != 0 || layout::word_kind(word) != layout::Kind::kNacked) continue;
      const u32 aux = layout::word_aux(word);
      if (!is_plain_failure(layout::nacked_reason(aux), layout::nacked_has_detail(aux))) continue;
      const u32 acquired = layout::aux_acquired(layout::word_aux(word));
      const u64 ready = layout::make_word(group_.lap(seq), layout::Kind::kReady, 0, layout::make_aux(acquired));
      if (A::cas(group_.word(seq), word, ready, std::memory_order_acq_rel)) {
        A::kill_point("repair.nacked_ready");
        announce_ready<A>(group_, seq);
        ++count;
      }
    }
    for (u32 index = 0; index < group_.parks_count; ++index) {
      u64 word = A::load(group_.parks[index].word, std::memory_order_acquire);
      layout::ParkWord park = layout::read_park_word(word);
      if (park.state != layout::ParkState::kNacked || !may_go(index)) continue;
      const auto reason = static_cast<layout::FailReason>(park.extended & layout::kFailReasonMax);
      if (!is_plain_failure(reason, (park.extended & 8U) != 0)) continue;
      park.state = layout::ParkState::kReady;
      park.owner = 0;
      park.extended = 0;
      if (A::cas(group_.parks[index].word, word, layout::make_park_word(park), std::memory_order_acq_rel)) {
        announce_park_ready<A>(group_, index);
        ++count;
      }
    }
    return count;
  }

  // Moves base over what is finished: ACKED, and MOVED whose entry is no longer PREP. Returns the new base.
  u64 step_base() {
    u64 base = A::load(group_.head->base, std::memory_order_acquire);
    for (u64 steps = 0; steps < group_.window(); ++steps) {
      const u64 word = A::load(group_.word(base), std::memory_order_acquire);
      if (layout::word_laps_ahead(word, group_.lap(base)) != 0) break;
      const layout::Kind kind = layout::word_kind(word);
      if (kind == layout::Kind::kMoved) {
        const u32 index = layout::word_aux(word);
        if (index >= group_.parks_count && index != layout::kMovedToStore) break;
        if (index != layout::kMovedToStore && is_prep_of(index, base)) break;
      } else if (kind != layout::Kind::kAcked) {
        break;
      }
      A::kill_point("repair.before_base");
      // FREED: release, as in CompetingConsumer::help_base. Failure reloads base: a consumer helped.
      if (A::cas(group_.head->base, base, base + 1, std::memory_order_acq_rel)) ++base;
    }
    return base;
  }

  // The message at base, if a living or dead owner holds it: what a straggler check compares from tick to tick.
  bool leased_at_base(u64* seq, u64* word) const {
    *seq = A::load(group_.head->base, std::memory_order_acquire);
    *word = A::load(group_.word(*seq), std::memory_order_acquire);
    return layout::word_laps_ahead(*word, group_.lap(*seq)) == 0 &&
           layout::word_kind(*word) == layout::Kind::kLeased;
  }

  // A READY word at base that nobody was told of: whoever gave it back stopped before it said so.
  bool announce_base_if_ready() {
    const u64 seq = A::load(group_.head->base, std::memory_order_acquire);
    const u64 word = A::load(group_.word(seq), std::memory_order_acquire);
    if (layout::word_laps_ahead(word, group_.lap(seq)) != 0 || layout::word_kind(word) != layout::Kind::kReady) {
      return false;
    }
    if (layout::back_seq_lo(A::load(group_.head->back, std::memory_order_acquire)) != layout::kBackNone) return false;
    announce_ready<A>(group_, seq);
    return true;
  }

  // More than half the window is between base and the first untouched word.
  bool window_half_full() const {
    const u64 base = A::load(group_.head->base, std::memory_order_acquire);
    const u64 middle = base + group_.window() / 2;
    return layout::word_laps_ahead(A::load(group_.word(middle), std::memory_order_acquire), group_.lap(middle)) >= 0;
  }

  // Parks the message of `seq`, whose word was read as `word` (LEASED). `place(frame) -> loc`, 0: the store is full.
  // `lane_of(u32) -> const LaneView*`. Returns false if nothing was done: no room in X or in the store, or settled
  // meanwhile. (Of volatile queues: nobody overwrites what stands at or above base.)
  template <class LaneOf, class Place>
  bool park_straggler(u64 seq, u64 word, LaneOf&& lane_of, Place&& place) {
    return park_straggler(seq, word, [&]() -> u64 {
      u64 cell = 0;
      if (!is_published<A>(order_, seq, &cell)) return 0;
      const LaneView* lane = lane_of(layout::cell_lane(cell));
      FrameView frame;
      if (lane == nullptr || frame_of_cell<A>(*lane, cell, seq, &frame) != RingOutcome::kOk) return 0;
      return place(frame);
    });
  }

  // `place() -> loc`: copies the message of `seq` into the store. 0: it cannot.
  template <class Place>
  bool park_straggler(u64 seq, u64 word, Place&& place) {
    const u32 index = free_entry(0);
    if (index == Lease::kNotParked) return false;
    const u64 loc = place();  // K1
    if (loc == 0) return false;
    A::kill_point("repair.k1");
    layout::ParkEntry& entry = group_.parks[index];
    const u64 free_word = A::load(entry.word, std::memory_order_relaxed);  // FREE entries are the supervisor's own
    A::store(entry.seq, seq, std::memory_order_relaxed);
    A::store(entry.loc, loc, std::memory_order_relaxed);
    A::store(entry.kind, static_cast<u64>(layout::ParkEntryKind::kStraggler), std::memory_order_relaxed);
    layout::ParkWord park{};
    park.generation = layout::read_park_word(free_word).generation + 1;
    park.state = layout::ParkState::kPrepLeased;
    park.owner = layout::word_owner(word);
    park.acquired = layout::aux_acquired(layout::word_aux(word));
    park.alone = (layout::word_aux(word) & 1U) != 0;
    const u64 prep = layout::make_park_word(park);
    // PARKED: release, so that seq, loc and the record are visible with the word. K2.
    A::store(entry.word, prep, std::memory_order_release);
    A::kill_point("repair.k2");
    u64 expected = word;
    if (!A::cas(group_.word(seq), expected, layout::make_word(group_.lap(seq), layout::Kind::kMoved, 0, index),
                std::memory_order_acq_rel)) {  // K3
      free_park(index);
      return false;
    }
    A::kill_point("repair.k3");
    finish_park(index);  // K4
    A::kill_point("repair.k4");
    step_base();  // K5
    return true;
  }

  // After a restart: settles what a killed supervisor left half done.
  void reconcile() {
    for (u32 index = 0; index < group_.parks_count; ++index) {
      const layout::ParkEntry& entry = group_.parks[index];
      const layout::ParkState state = layout::read_park_word(A::load(entry.word, std::memory_order_acquire)).state;
      if (state == layout::ParkState::kPrepLeased || state == layout::ParkState::kPrepReady) {
        const u64 seq = A::load(entry.seq, std::memory_order_relaxed);
        const u64 word = A::load(group_.word(seq), std::memory_order_acquire);
        const bool moved = layout::word_laps_ahead(word, group_.lap(seq)) == 0 &&
                           layout::word_kind(word) == layout::Kind::kMoved && layout::word_aux(word) == index &&
                           A::load(group_.head->base, std::memory_order_acquire) <= seq;
        if (moved) {
          finish_park(index);
        } else {
          free_park(index);
        }
      } else if (state == layout::ParkState::kReady) {
        announce_park_ready<A>(group_, index);  // the bit is a hint; the entry is the truth
      }
    }
    const u64 base = step_base();
    u64 lowest = ~u64{0};
    for (u64 seq = base; seq < base + group_.window() && lowest == ~u64{0}; ++seq) {
      const u64 word = A::load(group_.word(seq), std::memory_order_acquire);
      if (layout::word_laps_ahead(word, group_.lap(seq)) == 0 && layout::word_kind(word) == layout::Kind::kReady) {
        lowest = seq;
      }
    }
    if (lowest != ~u64{0}) announce_ready<A>(group_, lowest);
  }

  // Frees entries that are acknowledged (stragglers: once base is past them). `released(loc, seq)` is told of each
  // before: the record goes first, so that an entry that says ACKED and names none is what a kill leaves.
  template <class Released>
  u64 reap_parks(Released&& released) {
    u64 count = 0;
    for (u32 index = 0; index < group_.parks_count; ++index) {
      const layout::ParkEntry& entry = group_.parks[index];
      const layout::ParkState state = layout::read_park_word(A::load(entry.word, std::memory_order_acquire)).state;
      if (state != layout::ParkState::kAcked || !may_go(index)) continue;
      released(A::load(entry.loc, std::memory_order_relaxed), A::load(entry.seq, std::memory_order_relaxed));
      free_park(index);
      ++count;
    }
    return count;
  }

  // READY entries whose bit was lost (a consumer killed between bit and CAS).
  void announce_lost_parks() {
    for (u32 index = 0; index < group_.parks_count; ++index) {
      const layout::ParkState state =
          layout::read_park_word(A::load(group_.parks[index].word, std::memory_order_acquire)).state;
      if (state == layout::ParkState::kReady) announce_park_ready<A>(group_, index);
    }
  }

  // The message at base failed, and stands there until it is decided: one word, for a look that heard of nothing.
  bool nacked_at_base() const {
    const u64 seq = A::load(group_.head->base, std::memory_order_acquire);
    const u64 word = A::load(group_.word(seq), std::memory_order_acquire);
    return layout::word_laps_ahead(word, group_.lap(seq)) == 0 && layout::word_kind(word) == layout::Kind::kNacked;
  }

 private:
  // To be tried again, with nothing more to know about it.
  static bool is_plain_failure(layout::FailReason reason, bool detail) {
    return !detail && (reason == layout::FailReason::kNone || reason == layout::FailReason::kNack ||
                       reason == layout::FailReason::kTimeout || reason == layout::FailReason::kCrash);
  }

  // An entry of `seq` that is not proven by its MOVED word yet.
  bool is_prep_of(u32 index, u64 seq) const {
    const layout::ParkEntry& entry = group_.parks[index];
    const layout::ParkState state = layout::read_park_word(A::load(entry.word, std::memory_order_acquire)).state;
    const bool prep = state == layout::ParkState::kPrepLeased || state == layout::ParkState::kPrepReady;
    return prep && A::load(entry.seq, std::memory_order_relaxed) == seq;
  }

  u32 free_entry(u32 from) const {
    for (u32 step = 0; step < group_.parks_count; ++step) {
      const u32 index = (from + step) % group_.parks_count;
      if (layout::read_park_word(A::load(group_.parks[index].word, std::memory_order_acquire)).state ==
          layout::ParkState::kFree) {
        return index;
      }
    }
    return Lease::kNotParked;
  }

  void finish_park(u32 index) {
    layout::ParkEntry& entry = group_.parks[index];
    u64 word = A::load(entry.word, std::memory_order_acquire);
    for (int tries = 0; tries < 4; ++tries) {
      layout::ParkWord park = layout::read_park_word(word);
      const bool ready = park.state == layout::ParkState::kPrepReady;
      if (!ready && park.state != layout::ParkState::kPrepLeased) return;  // the owner settled: fine
      park.state = ready ? layout::ParkState::kReady : layout::ParkState::kLeased;
      if (ready) park.owner = 0;
      if (A::cas(entry.word, word, layout::make_park_word(park), std::memory_order_acq_rel)) {
        if (ready) announce_park_ready<A>(group_, index);
        return;
      }
    }
  }

  u64 give_back_park(u32 index, u32 owner, u64 handling) {
    layout::ParkEntry& entry = group_.parks[index];
    u64 word = A::load(entry.word, std::memory_order_acquire);
    layout::ParkWord park = layout::read_park_word(word);
    const bool prep = park.state == layout::ParkState::kPrepLeased;
    if ((!prep && park.state != layout::ParkState::kLeased) || park.owner != owner) return 0;
    const bool charged = A::load(entry.seq, std::memory_order_relaxed) == handling;
    if (charged) {
      park.state = layout::ParkState::kNacked;
      park.extended = layout::make_nacked_extended(layout::FailReason::kCrash, false);
    } else {
      park.state = prep ? layout::ParkState::kPrepReady : layout::ParkState::kReady;
      park.owner = 0;
      park.alone = park.alone || handling == layout::kHandlingMany;
    }
    if (!A::cas(entry.word, word, layout::make_park_word(park), std::memory_order_acq_rel)) return 0;
    A::kill_point("repair.park_given_back");
    if (!prep && !charged) announce_park_ready<A>(group_, index);
    return 1;
  }

  GroupView group_;
  OrderView order_;
};

}  // namespace mooring
