// The one way to wait by polling in a benchmark: pauses, never hangs, yields only where there are too few CPUs.
//
// With a CPU per role the hot loop is load, pause, count: the deadline and the stop word are looked at every 1024
// polls. Oversubscribed, every 64 polls give the CPU away, because the awaited role may be waiting for this very CPU.
#pragma once

#include <sched.h>

#include "base/atomics.hpp"
#include "bench/support/clock.hpp"
#include "bench/support/processes.hpp"

namespace mooring::bench {

class PollGuard {
 public:
  // `stop`: a shared word that another role sets to a non-zero value when this one shall come to its end; may be null.
  explicit PollGuard(const RoleContext& role, const u32* stop = nullptr)
      : stop_(stop),
        deadline_ticks_(role.deadline_ticks()),
        mask_(role.oversubscribed() ? 63 : 1023),
        yields_(role.oversubscribed()) {}

  // Call after a poll that found nothing. True: give up, because of the stop word or the deadline.
  bool give_up() {
    HardwareAtomics::pause();
    if (__builtin_expect((++polls_ & mask_) != 0, true)) return false;
    return look_around();
  }
  // For a wait that slept in the kernel: looks at the stop word and the deadline at once.
  bool look_now() { return look_around(); }
  // The deadline passed (and no stop was asked for): the run failed.
  bool timed_out() const { return timed_out_; }

 private:
  __attribute__((noinline)) bool look_around() {
    if (yields_) ::sched_yield();
    // STOP: acquire, so that what the stopping role wrote before (its count) is visible.
    if (stop_ != nullptr && HardwareAtomics::load(*stop_, std::memory_order_acquire) != 0) return true;
    if (ticks_now() < deadline_ticks_) return false;
    timed_out_ = true;
    return true;
  }

  const u32* stop_;
  u64 deadline_ticks_;
  u32 mask_;
  u32 polls_ = 0;
  bool yields_;
  bool timed_out_ = false;
};

}  // namespace mooring::bench
