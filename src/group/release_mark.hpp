// The release mark R: everything below it is finished in every group, so its cells and lane bytes may be used again.
//
// Of a volatile queue; on a durable one R = J, the journal's mark, and no base holds anybody up (queue/producer.cpp).
//
// R is the least base over the groups. Publishers only read groups (a group file is not theirs to write): instead of
// helping `base` forward they read on from it past ACKED words, for themselves; what they get is a lower bound that is
// never stored (core.md A17). They stop at MOVED: only the supervisor knows when that is finished.
//
// FREED            publisher                          consumer, supervisor
//                  load base and words, acquire       ack: CAS word, release; base: CAS or store, release
//   The consumer's copy-out is over before the publisher overwrites.
//
// GROUP_ENTERED    load group_epoch before and after  supervisor: enter the slot (base pinned at 0), raise the epoch,
//                  the bases, acquire                 then start = max(tail, every base)
//   A mark computed while a group was being entered is thrown away. One computed before is at most that start, because
//   the start is taken after. Without the second look the group could be born with a hole (model/spin/group_birth.pml).
#pragma once

#include <span>

#include "group/group_view.hpp"

namespace mooring {

// One group as a publisher maps it, read-only. `mode` decides the unit of base and whether words say more.
struct GroupBase {
  GroupView group;
  bool competing = false;
};

// How far a competing group is done: base, and on past ACKED words.
template <class A>
u64 effective_base(const GroupView& group) {
  const u64 base = A::load(group.head->base, std::memory_order_acquire);  // FREED
  u64 seq = base;
  while (seq < base + group.window()) {
    const u64 word = A::load(group.word(seq), std::memory_order_acquire);  // FREED
    if (layout::word_laps_ahead(word, group.lap(seq)) != 0 || layout::word_kind(word) != layout::Kind::kAcked) break;
    ++seq;
  }
  return seq;
}

// The same for who must not come out below what anybody found before: consumers that take the group further under the
// walk make effective_base() end early, at a word of a later lap, and then its base has moved. It stands still once
// they have read what there is: a group that is being born holds the publishers.
template <class A>
u64 settled_base(const GroupView& group) {
  for (;;) {
    const u64 base = A::load(group.head->base, std::memory_order_acquire);  // FREED
    const u64 settled = effective_base<A>(group);
    if (A::load(group.head->base, std::memory_order_acquire) == base) return settled;
  }
}

// The mark over `groups`, the live ones as of `epoch`; 0 if the epoch moved meanwhile (map the groups anew and ask
// again), and 0 while a group is being born. `group_epoch` is the word in ctl.
template <class A>
u64 release_mark(std::span<const GroupBase> groups, const u64& group_epoch, u64 epoch) {
  u64 mark = ~u64{0};
  for (const GroupBase& group : groups) {
    const u64 base = group.competing ? effective_base<A>(group.group)
                                     : A::load(group.group.head->base, std::memory_order_acquire);  // FREED
    mark = base < mark ? base : mark;
  }
  // GROUP_ENTERED: acquire; and the bases above were loaded with acquire, so this load stays behind them.
  if (groups.empty() || A::load(group_epoch, std::memory_order_acquire) != epoch) return 0;
  return mark;
}

}  // namespace mooring
