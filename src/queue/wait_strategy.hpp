// How a handle waits: spin, adaptive (spin a little, then sleep), or sleep at once.
//
// Two regimes (numbers.md, lesson 3): a reader that keeps up fights with the writer for one line a message; one that
// lets a few messages come drains whole lines and is 5-10 times faster. So the adaptive reader polls hot, but after a
// drain of several messages it waits about a microsecond before it polls the empty ring again, and stops doing so when
// such a wait brought fewer than 4 messages.
#pragma once

#include <sched.h>

#include "base/atomics.hpp"
#include "base/time.hpp"

namespace mooring {

enum class WaitStrategy : u32 { kAdaptive = 0, kSpin = 1, kSleep = 2 };

inline constexpr u64 kSpinNsDefault = 10 * kNsPerUs;
inline constexpr u32 kPausesPerYield = 64;    // about 1 us; spinners yield that often (numbers.md B3)
inline constexpr u32 kPausesAfterDrain = 64;  // the back-off of the batch regime

class DrainBackoff {
 public:
  void took_one() { ++drained_; }
  void took(u64 count) { drained_ += count; }

  // The ring is empty now. Waits if that pays.
  void found_empty() {
    if (waited_ && drained_ < kWorthwhile) on_ = false;
    if (drained_ >= kHighRate) on_ = true;
    waited_ = on_ && drained_ != 0;
    drained_ = 0;
    if (!waited_) return;
    for (u32 i = 0; i < kPausesAfterDrain; ++i) HardwareAtomics::pause();
  }

 private:
  static constexpr u64 kWorthwhile = 4;
  static constexpr u64 kHighRate = 32;
  u64 drained_ = 0;
  bool on_ = false;
  bool waited_ = false;
};

// The spinning part of one wait. The clock is first read after 64 pauses: a wait that is over before that costs none,
// and one that is not is about a microsecond longer than asked.
class Spin {
 public:
  Spin(WaitStrategy strategy, u64 spin_ns, u64 timeout_ns)
      : strategy_(strategy), spin_ns_(spin_ns), timeout_ns_(timeout_ns) {}

  // One step of waiting. False: stop spinning.
  bool step() {
    if (strategy_ == WaitStrategy::kSleep) return false;
    HardwareAtomics::pause();
    if (++pauses_ % kPausesPerYield != 0) return true;
    const u64 now_ns = monotonic_ns();
    if (now_ns >= deadline_ns(now_ns)) return false;
    if (strategy_ == WaitStrategy::kAdaptive && now_ns - began_ns_ >= spin_ns_) return false;
    ::sched_yield();
    return true;
  }

  // When the whole wait is over, CLOCK_MONOTONIC.
  u64 deadline_ns(u64 now_ns) {
    if (began_ns_ == 0) began_ns_ = now_ns;
    return deadline_after(began_ns_, timeout_ns_);
  }

 private:
  WaitStrategy strategy_;
  u64 spin_ns_;
  u64 timeout_ns_;
  u64 began_ns_ = 0;
  u32 pauses_ = 0;
};

}  // namespace mooring
