// Sleeping for a message or for room, and waking those who do.
//
// WHO WRITES WHAT (file `wake`, writable by all: hints only)
//   sleepers   +1 by who is about to sleep; taken off by who wakes, as many as it wakes (core.md A20)
//   futex      +1 by each wake
//
// PAIRINGS         publisher                                     sleeper
//   SLEEPING       publish; publish_fence; load sleepers         sleepers + 1; sleep_fence; look again
//                  An asymmetric Dekker pair: the publisher pays a compiler barrier, the sleeper membarrier(2). One of
//                  the two sees the other: either the message is found, or the sleeper is woken.
//   WOKEN          sleepers - n; futex + 1, release; FUTEX_WAKE  load futex, acquire, before sleepers + 1; FUTEX_WAIT
//
// The count may stay too high (a sleeper that was killed, or gave up): that costs one useless system call, which takes
// it off. It may be too low after a race of a timeout with a wake; every sleep has a bound (1 ms, doubling to 100 ms,
// five seconds after ten idle ones) and looks again, so that costs one bound at worst. The same bound covers a
// publisher that was stopped between publishing and waking.
//
// TESTED BY  queue/sleeper_test
#pragma once

#include <algorithm>

#include "base/atomics.hpp"
#include "base/time.hpp"
#include "layout/wake.hpp"
#include "platform/futex.hpp"

namespace mooring {

inline constexpr u64 kSleepFirstNs = kNsPerMs;
inline constexpr u64 kSleepMostNs = 100 * kNsPerMs;
// 1,000 parked consumers that look once a second cost 2.7 % of a core, most of it membarrier(2).
inline constexpr u64 kSleepIdleNs = 5 * kNsPerSecond;
inline constexpr u64 kIdleAfterNs = 10 * kNsPerSecond;

// Wakes at most `count` sleepers. The caller has published, and passed publish_fence.
inline void wake_sleepers(layout::WakeSlot& slot, u32 count) {
  // SLEEPING: relaxed; the fence before ordered it.
  u32 sleepers = HardwareAtomics::load(slot.sleepers, std::memory_order_relaxed);
  u32 taken = 0;
  do {
    if (sleepers == 0) return;
    taken = std::min(sleepers, count);
  } while (!HardwareAtomics::cas(slot.sleepers, sleepers, sleepers - taken, std::memory_order_acq_rel));
  HardwareAtomics::add(slot.futex, 1U, std::memory_order_release);  // WOKEN
  futex_wake(&slot.futex, static_cast<int>(taken));
}

enum class SleepOutcome { kLookAgain, kDeadline, kInterrupted };

// One waiter on one slot. Keep it for the whole wait: the bound grows over its sleeps.
class Sleeper {
 public:
  explicit Sleeper(layout::WakeSlot& slot) : slot_(&slot) {}
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;
  ~Sleeper() {
    if (counted_) take_off();
  }

  // Sleeps unless `ready()`, until woken, `deadline_ns` (CLOCK_MONOTONIC) or the bound.
  template <class Ready>
  SleepOutcome sleep(u64 deadline_ns, Ready&& ready) {
    const u64 now_ns = monotonic_ns();
    if (now_ns >= deadline_ns) return SleepOutcome::kDeadline;
    if (began_ns_ == 0) began_ns_ = now_ns;
    const u32 word = HardwareAtomics::load(slot_->futex, std::memory_order_acquire);  // WOKEN
    if (!counted_) {
      HardwareAtomics::add(slot_->sleepers, 1U, std::memory_order_acq_rel);
      counted_ = true;
    }
    HardwareAtomics::sleep_fence();  // SLEEPING
    if (ready()) return SleepOutcome::kLookAgain;
    switch (futex_wait(&slot_->futex, word, std::min(deadline_ns, now_ns + bound_ns_))) {
      case FutexResult::kWoken: counted_ = false; break;  // the waker took us off
      case FutexResult::kChanged: break;                  // somebody was woken; perhaps not us: stay counted
      case FutexResult::kInterrupted: return SleepOutcome::kInterrupted;
      case FutexResult::kTimeout:
      case FutexResult::kFailed: {
        const bool idle = monotonic_ns() - began_ns_ > kIdleAfterNs;
        bound_ns_ = std::min(bound_ns_ * 2, idle ? kSleepIdleNs : kSleepMostNs);
        break;
      }
    }
    return SleepOutcome::kLookAgain;
  }

 private:
  void take_off() {
    u32 sleepers = HardwareAtomics::load(slot_->sleepers, std::memory_order_relaxed);
    while (sleepers != 0 &&
           !HardwareAtomics::cas(slot_->sleepers, sleepers, sleepers - 1, std::memory_order_acq_rel)) {
    }
  }

  layout::WakeSlot* slot_;
  bool counted_ = false;
  u64 bound_ns_ = kSleepFirstNs;
  u64 began_ns_ = 0;
};

}  // namespace mooring
