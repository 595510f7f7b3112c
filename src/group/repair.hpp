// A competing group, the supervisor's half: what is done for the dead, and for messages that hold everybody up.
//
// One supervisor per instance runs this (lock, incarnation). Every step is one CAS or one store that means the same
// when it is done again, so a supervisor killed anywhere is repaired by its successor running the same code from the
// start.
//
//   give back      every LEASED(dead) of a confirmed dead owner becomes READY in place (core.md A12); nobody else may,
//                  and nothing is ever taken from a living owner here
//   park           a straggler: a message whose living owner stands still while others need the room leaves the window
//                  in that owner's name, so the owner can still acknowledge it:
//     K1  copy the payload into the park file; nothing where the log has the message
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
//
// PAIRINGS as in competing.hpp; PARKED: the entry's seq and loc and the record are stored before its word (release) and
// before MOVED (acq_rel), and read after either is acquired.
//
// TESTED BY  group/repair_test, model/group_model_test, model/spin/order_ring.pml, crash/step_test
#pragma once

#include "group/competing.hpp"

namespace mooring {

template <class A>
class GroupRepair {
 public:
  GroupRepair(GroupView group, OrderView order) : group_(group), order_(order) {}

  // Gives back all that `owner` holds; it is confirmed dead, or closed its seat. Returns how many messages.
  u64 give_back_all_of(u32 owner) {
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
        const u64 ready = layout::make_word(group_.lap(seq), layout::Kind::kReady, 0, layout::word_aux(word));
        if (A::cas(group_.word(seq), word, ready, std::memory_order_acq_rel)) {
          ++count;
          lowest = std::min(lowest, seq);
          A::kill_point("repair.given_back");
        }
      } else if (layout::word_kind(word) == layout::Kind::kReady) {
        // Perhaps given back by one that was killed before it said so.
        lowest = std::min(lowest, seq);
      }
    }
    if (lowest != ~u64{0}) announce_ready<A>(group_, lowest);
    A::kill_point("repair.announced");
    for (u32 index = 0; index < group_.parks_count; ++index) count += give_back_park(index, owner);
    return count;
  }

  // Nacked words become READY again. (Delays and dead letters are decided by delivery/, which is not there yet.)
  u64 give_back_nacked() {
    u64 count = 0;
    const u64 base = A::load(group_.head->base, std::memory_order_acquire);
    for (u64 seq = base; seq < base + group_.window(); ++seq) {
      u64 word = A::load(group_.word(seq), std::memory_order_acquire);
      const i64 ahead = layout::word_laps_ahead(word, group_.lap(seq));
      if (ahead < 0) break;  // touched is a prefix
      if (ahead != 0 || layout::word_kind(word) != layout::Kind::kNacked) continue;
      const u32 acquired = layout::word_aux(word) >> 6;
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
      if (park.state != layout::ParkState::kNacked || !passed(index)) continue;
      park.state = layout::ParkState::kReady;
      park.owner = 0;
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
        if (index >= group_.parks_count) break;
        const layout::ParkEntry& entry = group_.parks[index];
        const layout::ParkState state =
            layout::read_park_word(A::load(entry.word, std::memory_order_acquire)).state;
        const bool prep = state == layout::ParkState::kPrepLeased || state == layout::ParkState::kPrepReady;
        if (prep && A::load(entry.seq, std::memory_order_relaxed) == base) break;
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
  // `lane_of(u32) -> const LaneView*`. `in_log`: it is below J, so its frame may be overwritten and need not be copied.
  // Returns false if nothing was done: no room in X or in the store, or settled meanwhile.
  template <class LaneOf, class Place>
  bool park_straggler(u64 seq, u64 word, LaneOf&& lane_of, Place&& place, bool in_log = false) {
    const u32 index = free_entry();
    if (index == Lease::kNotParked) return false;
    u64 loc = layout::kParkedInLog;
    if (!in_log) {
      u64 cell = 0;
      if (!is_published<A>(order_, seq, &cell)) return false;
      const LaneView* lane = lane_of(layout::cell_lane(cell));
      FrameView frame;
      if (lane == nullptr || frame_of_cell<A>(*lane, cell, seq, &frame) != RingOutcome::kOk) return false;
      loc = place(frame);  // K1
      // RECLAIMED: it became durable meanwhile, and was overtaken. The next look finds it in the log.
      if (!still_there<A>(*lane, seq)) return false;
    }
    if (loc == 0) return false;
    A::kill_point("repair.k1");
    layout::ParkEntry& entry = group_.parks[index];
    const u64 free_word = A::load(entry.word, std::memory_order_relaxed);  // FREE entries are the supervisor's own
    A::store(entry.seq, seq, std::memory_order_relaxed);
    A::store(entry.loc, loc, std::memory_order_relaxed);
    layout::ParkWord park{};
    park.generation = layout::read_park_word(free_word).generation + 1;
    park.state = layout::ParkState::kPrepLeased;
    park.owner = layout::word_owner(word);
    park.acquired = layout::aux_acquired(layout::word_aux(word));
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

  // Frees entries that are acknowledged and behind base. `released(loc)` is told of each freed record.
  template <class Released>
  u64 reap_parks(Released&& released) {
    u64 count = 0;
    for (u32 index = 0; index < group_.parks_count; ++index) {
      const layout::ParkEntry& entry = group_.parks[index];
      const layout::ParkState state = layout::read_park_word(A::load(entry.word, std::memory_order_acquire)).state;
      if (state != layout::ParkState::kAcked || !passed(index)) continue;
      const u64 loc = A::load(entry.loc, std::memory_order_relaxed);
      free_park(index);
      released(loc);
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

 private:
  bool passed(u32 index) const {
    return A::load(group_.head->base, std::memory_order_acquire) >
           A::load(group_.parks[index].seq, std::memory_order_relaxed);
  }

  u32 free_entry() const {
    for (u32 index = 0; index < group_.parks_count; ++index) {
      if (layout::read_park_word(A::load(group_.parks[index].word, std::memory_order_acquire)).state ==
          layout::ParkState::kFree) {
        return index;
      }
    }
    return Lease::kNotParked;
  }

  // Only for entries that consumers no longer touch: ACKED behind base, or PREP whose message was never moved.
  void free_park(u32 index) {
    layout::ParkEntry& entry = group_.parks[index];
    layout::ParkWord park{};
    park.generation = layout::read_park_word(A::load(entry.word, std::memory_order_relaxed)).generation + 1;
    park.state = layout::ParkState::kFree;
    // Release: pairs with the acquire of a consumer that searches X for its own message.
    A::store(entry.word, layout::make_park_word(park), std::memory_order_release);
    A::kill_point("repair.freed");
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

  u64 give_back_park(u32 index, u32 owner) {
    layout::ParkEntry& entry = group_.parks[index];
    u64 word = A::load(entry.word, std::memory_order_acquire);
    layout::ParkWord park = layout::read_park_word(word);
    const bool prep = park.state == layout::ParkState::kPrepLeased;
    if ((!prep && park.state != layout::ParkState::kLeased) || park.owner != owner) return 0;
    park.state = prep ? layout::ParkState::kPrepReady : layout::ParkState::kReady;
    park.owner = 0;
    if (!A::cas(entry.word, word, layout::make_park_word(park), std::memory_order_acq_rel)) return 0;
    A::kill_point("repair.park_given_back");
    if (!prep) announce_park_ready<A>(group_, index);
    return 1;
  }

  GroupView group_;
  OrderView order_;
};

}  // namespace mooring
