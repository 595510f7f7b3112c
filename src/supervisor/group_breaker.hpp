// The circuit breaker of a group, the supervisor's half: what delivery/breaker.hpp decides becomes words in ctl, and
// what became of the canary is read from the words of delivery.
//
//   GroupSlot            closed        open                  half open, no canary      half open
//   paused               0             BREAKER | level       the same, until is over   BREAKER | CANARY | level
//   breaker_until        -             when it is over       -                         -
//   canary               -             -                     -                         the place (group/canary.hpp)
//
// The bits of the breaker are its own: a user's pause and the bound of the dead letters stand beside them, and each
// goes only by who set it. Consumers look at `paused` as ever; only one that finds it not 0 looks further.
//
// THE CANARY   Competing: the first message that was never given out, else the lowest that was given back, else one
//   that waits in the park table: each a message of its own, so that one that is poison keeps no group from recovering.
//   Exclusive: what its consumer takes next. Acknowledged: closed. Failed, in whatever way: open, for longer; its
//   failure is charged like any other. Given back uncounted (release, a death that is nobody's fault): offered again,
//   it or the next one. Nobody takes it, or a living process holds it: half open until something changes.
//
// WHILE OPEN   Nothing is given out, so nothing is charged; what consumers hold they settle, and failures of those are
//   theirs. Retries come due and wait, and do not count as failed meanwhile.
//
// KILLED BETWEEN            ADOPT
//   until    | paused       still closed (or half open): decided again, `until` written anew
//   canary   | its bit      open, and over: another canary is named
//   canary settled | paused half open; the place says ACKED, or is past with no record of a failure: closed. A record
//                           WAITING or DEAD of it, or NACKED that is decided then: open, for longer
//   bits gone               closed
//   (one that was not due yet counts as failed here)
// Settlements counted towards a window are lost with their supervisor; a state is not. A canary that was dropped as a
// dead letter (on_dead = drop) between a kill and adopt leaves no record and counts as acknowledged: the next failures
// open it again. A reboot begins closed.
//
// TESTED BY  delivery/breaker_test, delivery/group_breaker_test, delivery/delivery_kill_points_test
#pragma once

#include <functional>
#include <string>

#include "delivery/breaker.hpp"
#include "group/repair.hpp"

namespace mooring {

class GroupBreaker {
 public:
  using A = HardwareAtomics;
  struct Surroundings {
    std::function<void(u64 count)> wake;                          // consumers of the group
    std::function<const layout::SeatHead*()> exclusive_consumer;  // null: there is none
    std::function<u64()> acked_seq;                               // exclusive groups
    std::string where;                                            // "queue q: group g", for the log
  };
  GroupBreaker(layout::GroupSlot& slot, GroupView view, OrderView order, Surroundings around);

  // After a restart, and after Redelivery::adopt(). `is_failed(seq)`: the park store has a record of it as WAITING or
  // DEAD that no entry of the park table names.
  void adopt(const std::function<bool(u64 seq)>& is_failed, u64 now_boottime_ns);

  // Deliveries that ended since the last look.
  void acked(u64 count, u64 now_boottime_ns);
  void failed(u64 seq, layout::FailReason reason, u64 now_boottime_ns);

  // Goes on. Returns when to look again at the latest (CLOCK_BOOTTIME), ~0: when something happens.
  u64 look(u64 now_boottime_ns);

 private:
  enum class Where { kOffered, kHeld, kFailing, kGivenBack, kGone };
  static constexpr u64 kNoCanary = ~u64{0};
  bool is_exclusive() const { return slot_.mode == layout::GroupMode::kExclusive; }
  Where where_is_canary();
  Where where_in_window() const;
  Where where_in_table(u64 seq, bool named_by_place) const;
  Where where_exclusive();
  void look_at_canary(u64 now_ns);
  bool name_canary();
  u64 pick() const;
  void store_state();
  void set_bits(u32 bits);
  void log_opened(const char* why, const Breaker::Recent& seen) const;

  layout::GroupSlot& slot_;
  GroupView view_;
  OrderView order_;
  Surroundings around_;
  Breaker breaker_;
  u64 place_ = kNoCanary;       // as in the slot, kNoCanary: none is named
  u64 canary_seq_ = kNoCanary;  // exclusive: once its consumer took it
  bool canary_failed_ = false;
  bool canary_untimely_ = false;  // it was not its time: no answer
};

}  // namespace mooring
