// The canary of a group whose circuit breaker is half open: the one message that a paused competing group lets through.
//
// The supervisor names a place in ctl: a seq of the window that is READY or the first untouched, or an entry of the
// park table. Any consumer may lease it, with the CAS by which it leases anything else, so there is no claim to be
// lost: who wins has the message, and one that dies or stops before the CAS has nothing.
//
// PAIRINGS         supervisor                                    consumer
//   CANARY         store canary; store paused, release           load paused, acquire; load canary
//                  The place is there before the bit that opens it.
//   LEASED         (the word says who)                           CAS word / entry, acq_rel
//
// TOUCHED IS A PREFIX   The place is the first untouched seq when it is named. Touched words stay touched in their lap,
//   so a lease there, however late, has only touched words before it.
// A LATE LOOK    A consumer that was stopped behind its look at `canary` may lease that place when the breaker is in
//   another state by then: one message, once, as one that was stopped behind its look at `paused`. A place that was
//   used again says another lap, or (park table) is READY with another message: leased like the first.
//
// TESTED BY  delivery/breaker_test, delivery/group_breaker_test, group/competing_test
#pragma once

#include "group/competing.hpp"
#include "layout/ctl.hpp"

namespace mooring {

// May it be leased now?
template <class A>
bool canary_is_ready(const GroupView& group, const OrderView& order, u64 canary) {
  if ((canary & layout::kCanaryInTable) != 0) {
    const u64 index = canary & ~layout::kCanaryInTable;
    if (index >= group.parks_count) return false;
    return layout::read_park_word(A::load(group.parks[index].word, std::memory_order_acquire)).state ==
           layout::ParkState::kReady;
  }
  u64 cell = 0;
  if (!is_published<A>(order, canary, &cell)) return false;
  const u64 word = A::load(group.word(canary), std::memory_order_acquire);
  const i64 ahead = layout::word_laps_ahead(word, group.lap(canary));
  const u64 base = A::load(group.head->base, std::memory_order_acquire);
  if (canary < base || canary - base >= group.window()) return false;
  return ahead == -1 || (ahead == 0 && layout::word_kind(word) == layout::Kind::kReady);
}

// `skipped_alone`: it is given out alone, and this consumer holds another.
template <class A>
bool lease_canary(const GroupView& group, const OrderView& order, u32 owner, u64 canary, bool holds_any, Lease* lease,
                  bool* skipped_alone) {
  if (!canary_is_ready<A>(group, order, canary)) return false;
  if ((canary & layout::kCanaryInTable) != 0) {
    const auto index = static_cast<u32>(canary & ~layout::kCanaryInTable);
    layout::ParkEntry& entry = group.parks[index];
    u64 word = A::load(entry.word, std::memory_order_acquire);
    layout::ParkWord park = layout::read_park_word(word);
    if (park.state != layout::ParkState::kReady) return false;
    *skipped_alone = park.alone && holds_any;
    if (*skipped_alone) return false;
    park.state = layout::ParkState::kLeased;
    park.owner = owner;
    park.extended = 0;
    park.acquired = layout::acquired_after(park.acquired);
    const u64 leased = layout::make_park_word(park);
    // Its bit in the bitmap stays set, a hint: who follows it finds the entry leased.
    if (!A::cas(entry.word, word, leased, std::memory_order_acq_rel)) return false;  // LEASED
    A::kill_point("canary.park_leased");
    *lease = Lease{A::load(entry.seq, std::memory_order_relaxed), leased, 0, index};
    return true;
  }
  u64 word = A::load(group.word(canary), std::memory_order_acquire);
  const i64 ahead = layout::word_laps_ahead(word, group.lap(canary));
  u32 aux = first_lease_aux(order, canary);
  u64 cell = 0;
  if (ahead == 0 && layout::word_kind(word) == layout::Kind::kReady) {
    const u32 given_back = layout::word_aux(word);
    const bool alone = (given_back & 1U) != 0;
    *skipped_alone = alone && holds_any;
    if (*skipped_alone) return false;
    aux = layout::make_aux(layout::acquired_after(layout::aux_acquired(given_back)), 0, alone);
  } else if (ahead != -1) {
    return false;
  }
  if (!is_published<A>(order, canary, &cell)) return false;
  const u64 leased = layout::make_word(group.lap(canary), layout::Kind::kLeased, owner, aux);
  if (!A::cas(group.word(canary), word, leased, std::memory_order_acq_rel)) return false;  // LEASED
  A::kill_point("canary.leased");
  *lease = Lease{canary, leased, cell, Lease::kNotParked};
  return true;
}

}  // namespace mooring
