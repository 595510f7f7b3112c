// A competing group, the consumer's half: each message goes to one consumer.
//
// One 64-bit state word per message, tagged with the lap: untouched (lap-1) -> LEASED(owner) -> ACKED, and back through
// READY. Every arrow is one CAS, complete in itself; what follows a CAS is a hint that anybody can do again.
//
// WHO WRITES WHAT
//   words       consumers, supervisor   CAS from the word as read
//   base        consumers, supervisor   CAS forward over ACKED words; over MOVED the supervisor alone
//   hint        consumers               CAS-max, lazily
//   back        whoever gives back      announce_ready; cleared by a consumer that scanned and found nothing
//   X           supervisor; consumers CAS the entry they hold or take
//
// TOUCHED IS A PREFIX   A consumer takes the first untouched word at or after its scan start, and all before that start
//   were touched when it looked; so the touched words of a window are a prefix. `hint` and the private scan start lie
//   in it or at its end, and a scan for READY words may end at the first untouched one.
//
// PAIRINGS         here                                          there
//   ORDERED        load cell, acquire                            publisher: CAS cell
//   LEASED         CAS word, acq_rel                             any other CAS of the word: exactly one wins a lap
//   FREED          ack: CAS word, release                        publisher: load word or base, acquire
//                  Copy-out is over before the lane bytes may be overwritten.
//   GIVEN_BACK     load back, acquire                            announce_ready
//
// IF A PROCESS STOPS       (dead, confirmed)                                (only slow)
//   after LEASED           the word names it: READY in place, at once       it keeps the lease and may ack; at base,
//                                                                           under pressure, the supervisor parks the
//                                                                           message in its name (MOVED); others go on
//   before raising hint    others read a few words more                     the same
//   after ACKED            acknowledged; anybody moves base                 the same
//   between READY and      the tick announces a READY word that base        the same
//     `back`               stands on
//
// TESTED BY  group/competing_test, model/group_model_test, model/spin/order_ring.pml, crash/step_test
#pragma once

#include "group/group_view.hpp"
#include "ring/order_ring.hpp"

namespace mooring {

// Hints are raised lazily: 1.65-2.3x for competing groups one by one (numbers.md C3, core.md A22).
inline constexpr u64 kHintLag = 16;
inline constexpr u64 kBaseLag = 64;
// While new messages wait, at most every fourth lease is one from the park table (semantics.md section 3).
inline constexpr u32 kParkTurn = 4;

// One delivery: names the message and the word as leased, so that a settlement of an earlier delivery is refused even
// where the same consumer got the message again.
struct Lease {
  u64 seq = 0;
  u64 word = 0;  // state word or park word as leased
  u64 cell = 0;  // order cell as read; meaningless for a parked one
  u32 park_index = kNotParked;
  static constexpr u32 kNotParked = ~u32{0};

  bool parked() const { return park_index != kNotParked; }
  // Given out one by one, to a consumer that holds nothing else: somebody died with several before it (core.md A6).
  bool alone() const {
    return parked() ? layout::read_park_word(word).alone : (layout::word_aux(word) & 1U) != 0;
  }
  u32 failed() const { return parked() ? layout::read_park_word(word).failed : 0; }
  u32 acquired() const {
    return parked() ? layout::read_park_word(word).acquired : layout::aux_acquired(layout::word_aux(word));
  }
};

enum class LeaseOutcome { kLeased, kEmpty, kWindow, kCorrupt };

// What the word of a first lease says. Of a recovered message it is not known whether it had been handed out (core.md
// A21).
inline u32 first_lease_aux(const OrderView& order, u64 seq) {
  return layout::make_aux(seq < order.recovered_below ? 2 : 1);
}
enum class Settled { kYes, kStale };

template <class A>
class CompetingConsumer {
 public:
  CompetingConsumer() = default;
  // `owner`: the seat number, 1 .. kOwnersMax-1.
  CompetingConsumer(GroupView group, OrderView order, u32 owner) : group_(group), order_(order), owner_(owner) {
    scan_ = A::load(group_.head->base, std::memory_order_acquire);
  }

  // Takes the next message: one given back first, then the first untouched one. `holds_any`: this consumer has others,
  // so it does not get one that is given out alone; skipped_alone() tells whether one was passed over.
  LeaseOutcome lease(Lease* lease, bool holds_any = false) {
    holds_any_ = holds_any;
    skipped_alone_ = false;
    const u64 parked = A::load(group_.head->parked, std::memory_order_acquire);  // PARK_READY
    const bool parks = some_parked(parked);
    if (parks && ++leases_since_park_ >= kParkTurn && lease_parked(parked, lease)) return LeaseOutcome::kLeased;
    const u64 back = A::load(group_.head->back, std::memory_order_acquire);  // GIVEN_BACK
    if (layout::back_seq_lo(back) != layout::kBackNone && lease_given_back(back, lease)) return LeaseOutcome::kLeased;
    const LeaseOutcome fresh = lease_untouched(lease);
    if (fresh != LeaseOutcome::kLeased && parks && lease_parked(parked, lease)) return LeaseOutcome::kLeased;
    return fresh;
  }

  // From the park table alone: what an exclusive group gets back out of its dead letters.
  bool lease_from_table(Lease* lease, bool holds_any) {
    holds_any_ = holds_any;
    skipped_alone_ = false;
    const u64 parked = A::load(group_.head->parked, std::memory_order_acquire);  // PARK_READY
    return some_parked(parked) && lease_parked(parked, lease);
  }
  bool table_may_have_work() const { return some_parked(A::load(group_.head->parked, std::memory_order_acquire)); }

  bool skipped_alone() const { return skipped_alone_; }

  // Worth a lease()? One look at the words that change when there is, for a loop that polls; false may be wrong for as
  // long as a hint is low, so lease() is tried now and then anyway.
  bool poll() const {
    u64 cell = 0;
    return is_published<A>(order_, scan_, &cell) ||
           layout::back_seq_lo(A::load(group_.head->back, std::memory_order_acquire)) != layout::kBackNone ||
           some_parked(A::load(group_.head->parked, std::memory_order_acquire));
  }

  // Is there anything to take? For whoever decides to sleep: looks at the same words as lease() and takes nothing.
  bool may_have_work() const {
    if (some_parked(A::load(group_.head->parked, std::memory_order_acquire))) return true;
    if (layout::back_seq_lo(A::load(group_.head->back, std::memory_order_acquire)) != layout::kBackNone) return true;
    const u64 base = A::load(group_.head->base, std::memory_order_acquire);
    u64 seq = std::max({scan_, base, A::load(group_.head->hint, std::memory_order_acquire)});
    if (seq >= base + group_.window()) return false;
    for (u64 steps = 0; steps < kHintLag * 4; ++steps, ++seq) {
      u64 cell = 0;
      if (!is_published<A>(order_, seq, &cell)) return false;
      const u64 word = A::load(group_.word(seq), std::memory_order_acquire);
      if (layout::word_laps_ahead(word, group_.lap(seq)) != 0) return true;
    }
    return true;  // many taken words ahead: lease() will find its way
  }

  // Settles a delivery for good. kStale: it was taken back and given to another, or settled before.
  Settled ack(const Lease& lease) {
    const Settled settled =
        settle(lease, layout::make_word(group_.lap(lease.seq), layout::Kind::kAcked, 0, 0), layout::ParkState::kAcked);
    A::kill_point("group.acked");
    if (settled == Settled::kYes) ++acks_since_help_;
    return settled;
  }

  // It failed; the supervisor decides what becomes of it. `detail`: a notice in the seat's mailbox, written before this
  // call, says more. `settled`: out, the word that now says NACKED and what it says, for whoever wrote the notice.
  Settled nack(const Lease& lease, layout::FailReason reason, bool detail, NackedWord* settled = nullptr) {
    const u64 word = layout::make_word(group_.lap(lease.seq), layout::Kind::kNacked, owner_,
                                       layout::make_nacked_aux(lease.acquired(), reason, detail));
    u32 park_index = lease.park_index;
    u64 park_word = 0;
    const Settled outcome = settle(lease, word, layout::ParkState::kNacked, &park_index, &park_word,
                                   layout::make_nacked_extended(reason, detail));
    A::kill_point("group.nacked");
    if (settled != nullptr && outcome == Settled::kYes) {
      *settled = park_index == Lease::kNotParked ? NackedWord{&group_.word(lease.seq), word}
                                                 : NackedWord{&group_.parks[park_index].word, park_word};
    }
    return outcome;
  }

  // Held on to for longer, rightly: what ack_wait counts begins anew. The lease names its delivery as it is now.
  Settled extend(Lease* lease) {
    if (!lease->parked()) {
      u64 word = lease->word;
      const u64 longer = extended(word);
      if (A::cas(group_.word(lease->seq), word, longer, std::memory_order_acq_rel)) {
        lease->word = longer;
        return Settled::kYes;
      }
      const u32 index = find_moved(*lease, word);
      if (index == Lease::kNotParked) return Settled::kStale;
      return extend_park(index, lease);
    }
    return extend_park(lease->park_index, lease);
  }

  // Not counted: READY again at once, for anybody.
  Settled release(const Lease& lease) {
    u32 park_index = lease.park_index;
    const Settled settled =
        settle(lease, layout::make_word(group_.lap(lease.seq), layout::Kind::kReady, 0, word_aux_of(lease)),
               layout::ParkState::kReady, &park_index);
    if (settled == Settled::kStale) return settled;
    A::kill_point("group.released");
    if (park_index == Lease::kNotParked) {
      announce_ready<A>(group_, lease.seq);
    } else {
      announce_park_ready<A>(group_, park_index);
    }
    return settled;
  }

  // Moves base over the run of ACKED words, if enough came together or `now`. True if base moved: producers that wait
  // for room want to know.
  bool help_base(bool now) {
    if (!now && acks_since_help_ < kBaseLag) return false;
    acks_since_help_ = 0;
    u64 base = A::load(group_.head->base, std::memory_order_acquire);
    u64 to = base;
    while (to < base + group_.window()) {
      const u64 word = A::load(group_.word(to), std::memory_order_acquire);
      // MOVED stops everybody but the supervisor: after a restart it tells a PREP entry that took from one that did not
      // by the MOVED word at or above base. (Helpers stepping over it: found stuck after 4.7 M states.)
      if (layout::word_laps_ahead(word, group_.lap(to)) != 0) break;
      const layout::Kind kind = layout::word_kind(word);
      const bool finished =
          kind == layout::Kind::kAcked || (has_bug<A>(SeededBug::kHelpOverMoved) && kind == layout::Kind::kMoved);
      if (!finished) break;
      ++to;
    }
    if (to == base) return false;
    A::kill_point("group.before_base");
    // FREED: release; the acks were acquired above, so what they freed is freed by this store as well. Failure: another
    // helper moved base, just as far or further. base never goes back, so the expected value cannot come again.
    return A::cas(group_.head->base, base, to, std::memory_order_acq_rel);
  }

  // Is this delivery still ours? Read again after a copy-out, before the application sees the bytes (core.md A14).
  bool still_mine(const Lease& lease) const {
    if (lease.parked()) return A::load(group_.parks[lease.park_index].word, std::memory_order_acquire) == lease.word;
    const u64 word = A::load(group_.word(lease.seq), std::memory_order_acquire);
    return word == lease.word || find_moved(lease, word) != Lease::kNotParked;
  }

  // The park entry of a message that left the window in our name, or kNotParked. `word`: its state word now.
  u32 find_moved(const Lease& lease, u64 word) const {
    const i64 ahead = layout::word_laps_ahead(word, group_.lap(lease.seq));
    if (ahead == 0 && layout::word_kind(word) == layout::Kind::kMoved) {
      const u32 index = layout::word_aux(word);
      return index < group_.parks_count && is_mine(index, lease) ? index : Lease::kNotParked;
    }
    if (ahead > 0) {  // base went over the MOVED word and the place was used again
      for (u32 index = 0; index < group_.parks_count; ++index) {
        if (is_mine(index, lease)) return index;
      }
    }
    return Lease::kNotParked;
  }

  const GroupView& group() const { return group_; }
  const OrderView& order() const { return order_; }
  u32 owner() const { return owner_; }

 private:
  static u32 word_aux_of(const Lease& lease) { return layout::make_aux(lease.acquired(), 0, lease.alone()); }

  // The count is 5 bits (4 in a park word) and wraps: it only has to differ from what it was a while ago.
  static u64 extended(u64 word) {
    const u32 aux = layout::word_aux(word);
    const u32 count = ((aux >> 1) + 1) & 31U;
    return (word & ~u64{62}) | (u64{count} << 1);
  }

  Settled extend_park(u32 index, Lease* lease) {
    layout::ParkEntry& entry = group_.parks[index];
    u64 word = A::load(entry.word, std::memory_order_acquire);
    for (;;) {
      if (!is_mine(index, *lease)) return Settled::kStale;
      layout::ParkWord park = layout::read_park_word(word);
      park.extended = (park.extended + 1) & 15U;
      const u64 longer = layout::make_park_word(park);
      if (A::cas(entry.word, word, longer, std::memory_order_acq_rel)) {
        lease->word = longer;
        lease->park_index = index;
        return Settled::kYes;
      }
    }
  }

  bool is_mine(u32 index, const Lease& lease) const {
    const layout::ParkEntry& entry = group_.parks[index];
    // Acquire: seq was stored before the entry became anything but FREE.
    const layout::ParkWord word = layout::read_park_word(A::load(entry.word, std::memory_order_acquire));
    return (word.state == layout::ParkState::kLeased || word.state == layout::ParkState::kPrepLeased) &&
           word.owner == owner_ && word.acquired == lease.acquired() &&
           A::load(entry.seq, std::memory_order_relaxed) == lease.seq;
  }

  LeaseOutcome lease_untouched(Lease* lease) {
    u64 base = A::load(group_.head->base, std::memory_order_acquire);
    u64 hint = A::load(group_.head->hint, std::memory_order_acquire);
    u64 seq = std::max({scan_, base, hint});
    // Honest words are passed at most once a window, and again for each window that others finish under us; scribbled
    // ones must not hold us for ever.
    for (u64 steps_left = 4 * group_.window() + 1024; steps_left != 0; --steps_left) {
      if (seq >= base + group_.window()) {
        base = A::load(group_.head->base, std::memory_order_acquire);
        if (seq >= base + group_.window()) {
          scan_ = seq > base + group_.window() ? base : seq;  // beyond the window at all: only garbage leads there
          return LeaseOutcome::kWindow;
        }
      }
      u64 cell = 0;
      if (!is_published<A>(order_, seq, &cell)) {
        scan_ = seq;
        return LeaseOutcome::kEmpty;
      }
      u64 word = A::load(group_.word(seq), std::memory_order_acquire);
      const i64 ahead = layout::word_laps_ahead(word, group_.lap(seq));
      if (ahead == 0) {
        ++seq;
        continue;
      }
      const u64 base_now = A::load(group_.head->base, std::memory_order_acquire);
      if (base_now > seq) {  // read after the word: everybody went past us
        base = base_now;
        seq = base_now;
        continue;
      }
      if (ahead != -1) return LeaseOutcome::kCorrupt;
      const u64 leased =
          layout::make_word(group_.lap(seq), layout::Kind::kLeased, owner_, first_lease_aux(order_, seq));
      A::kill_point("group.before_lease");
      // LEASED: acq_rel. One CAS, and the lease names its owner from that instant.
      if (!A::cas(group_.word(seq), word, leased, std::memory_order_acq_rel)) continue;
      A::kill_point("group.leased");
      *lease = Lease{seq, leased, cell, Lease::kNotParked};
      scan_ = seq + 1;
      raise_hint(hint);
      return LeaseOutcome::kLeased;
    }
    return LeaseOutcome::kCorrupt;
  }

  void raise_hint(u64 hint) {
    if (scan_ < hint + kHintLag) return;
    // CAS-max; release pairs with the acquire of whoever starts its scan there.
    while (hint < scan_ && !A::cas(group_.head->hint, hint, scan_, std::memory_order_release)) {
    }
    A::kill_point("group.hint_raised");
  }

  bool lease_given_back(u64 back, Lease* lease) {
    const u64 base = A::load(group_.head->base, std::memory_order_acquire);
    const u64 announced = layout::extend(layout::back_seq_lo(back), layout::kBackSeqBits, base);
    u64 seq = announced > base && announced < base + group_.window() ? announced : base;
    for (; seq < base + group_.window(); ++seq) {
      u64 word = A::load(group_.word(seq), std::memory_order_acquire);
      const i64 ahead = layout::word_laps_ahead(word, group_.lap(seq));
      if (ahead < 0) break;  // touched is a prefix: nothing READY behind
      if (ahead != 0 || layout::word_kind(word) != layout::Kind::kReady) continue;
      const u32 aux = layout::word_aux(word);
      const bool alone = (aux & 1U) != 0;
      if (alone && holds_any_) {
        skipped_alone_ = true;
        continue;
      }
      const u32 acquired = layout::acquired_after(layout::aux_acquired(aux));
      const u64 leased =
          layout::make_word(group_.lap(seq), layout::Kind::kLeased, owner_, layout::make_aux(acquired, 0, alone));
      u64 cell = 0;
      if (!is_published<A>(order_, seq, &cell)) break;  // a READY word without a message: garbage
      if (!A::cas(group_.word(seq), word, leased, std::memory_order_acq_rel)) continue;  // LEASED
      A::kill_point("group.leased_again");
      *lease = Lease{seq, leased, cell, Lease::kNotParked};
      return true;
    }
    if (skipped_alone_) return false;  // still there, for others, or for us once we hold nothing
    if (has_bug<A>(SeededBug::kClearBackUntagged)) back = A::load(group_.head->back, std::memory_order_acquire);
    // GIVEN_BACK: clears only what was read before the scan; whoever gave back meanwhile raised the tag.
    A::cas(group_.head->back, back, layout::make_back(layout::back_generation(back) + 1, layout::kBackNone),
           std::memory_order_acq_rel);
    return false;
  }

  bool lease_parked(u64 tag, Lease* lease) {
    leases_since_park_ = 0;
    const u32 rows = (group_.parks_count + 63) / 64;
    for (u32 row = 0; row < rows; ++row) {
      u64 bits = A::load(group_.ready_bits[row], std::memory_order_acquire);
      for (int bounded = 0; bits != 0 && bounded < 64; ++bounded) {
        const u32 bit = static_cast<u32>(__builtin_ctzll(bits));
        bits &= bits - 1;
        const u32 index = row * 64 + bit;
        if (index >= group_.parks_count) break;
        layout::ParkEntry& entry = group_.parks[index];
        // The bit first, then the word: an entry that becomes READY behind our look sets its bit behind our clear.
        clear_ready_bit(index);
        u64 word = A::load(entry.word, std::memory_order_acquire);
        layout::ParkWord park = layout::read_park_word(word);
        if (park.state != layout::ParkState::kReady) continue;
        if (park.alone && holds_any_) {
          skipped_alone_ = true;
          announce_park_ready<A>(group_, index);
          continue;
        }
        park.state = layout::ParkState::kLeased;
        park.owner = owner_;
        park.extended = 0;
        park.acquired = layout::acquired_after(park.acquired);
        const u64 leased = layout::make_park_word(park);
        if (!A::cas(entry.word, word, leased, std::memory_order_acq_rel)) continue;  // LEASED
        A::kill_point("group.park_leased");
        *lease = Lease{A::load(entry.seq, std::memory_order_relaxed), leased, 0, index};
        return true;
      }
    }
    // Fails if somebody announced meanwhile, or cleared it before us.
    A::cas(group_.head->parked, tag, tag & ~u64{1}, std::memory_order_acq_rel);
    return false;
  }

  // The bit is a hint: an entry that is READY with its bit clear is announced again by the tick.
  void clear_ready_bit(u32 index) {
    u64& bits = group_.ready_bits[index / 64];
    u64 old = A::load(bits, std::memory_order_relaxed);
    const u64 bit = u64{1} << (index % 64);
    while ((old & bit) != 0 && !A::cas(bits, old, old & ~bit, std::memory_order_acq_rel)) {
    }
  }

  // `settled_word` where the message is in the window, `park_state` where it is in X. `park_index`, `park_word`: out,
  // where it was and what it says there now.
  Settled settle(const Lease& lease, u64 settled_word, layout::ParkState park_state, u32* park_index = nullptr,
                 u64* park_word = nullptr, u32 park_extended = 0) {
    if (!lease.parked()) {
      u64 word = lease.word;
      // FREED: release (acq_rel, as every CAS here): copy-out is over before the message counts as done. The expected
      // value is the word as leased, `acquired` included: a settlement names its delivery.
      if (A::cas(group_.word(lease.seq), word, settled_word, std::memory_order_acq_rel)) return Settled::kYes;
      const u32 index = find_moved(lease, word);
      if (index == Lease::kNotParked) return Settled::kStale;
      if (park_index != nullptr) *park_index = index;
      return settle_park(index, lease, park_state, park_word, park_extended);
    }
    return settle_park(lease.park_index, lease, park_state, park_word, park_extended);
  }

  Settled settle_park(u32 index, const Lease& lease, layout::ParkState state, u64* settled_word, u32 settled_extended) {
    layout::ParkEntry& entry = group_.parks[index];
    u64 word = A::load(entry.word, std::memory_order_acquire);
    for (;;) {
      layout::ParkWord park = layout::read_park_word(word);
      const bool prep = park.state == layout::ParkState::kPrepLeased;
      if ((!prep && park.state != layout::ParkState::kLeased) || park.owner != owner_ ||
          park.acquired != lease.acquired() || A::load(entry.seq, std::memory_order_relaxed) != lease.seq) {
        return Settled::kStale;
      }
      park.state = prep && state == layout::ParkState::kReady ? layout::ParkState::kPrepReady : state;
      park.extended = settled_extended;
      const u64 settled = layout::make_park_word(park);
      if (settled_word != nullptr) *settled_word = settled;
      if (A::cas(entry.word, word, settled, std::memory_order_acq_rel)) return Settled::kYes;
      // PREP_LEASED became LEASED under us: the one change the supervisor makes to an entry we hold. Look again.
    }
  }

  GroupView group_;
  OrderView order_;
  u32 owner_ = 0;
  u32 leases_since_park_ = 0;
  bool holds_any_ = false;
  bool skipped_alone_ = false;
  u64 scan_ = 0;  // every word before it was touched when we looked
  u64 acks_since_help_ = 0;
};

}  // namespace mooring
