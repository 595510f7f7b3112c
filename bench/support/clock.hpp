// The benchmark clock: the time stamp counter where it runs at one rate on every core, else clock_gettime.
//
// A round trip of 150-600 ns is timed by one read per round; rdtsc costs some 10 ns, clock_gettime 20-60 ns (and a
// system call where the clock source of the guest is not mapped). Ticks are compared across the processes of a run
// only over milliseconds (start of the producer, end of the consumer): an invariant counter is good enough for that.
#pragma once

#include <time.h>

#include "base/bytes.hpp"
#include "base/time.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

namespace mooring::bench {

// True if CPUID says that the counter never stops and never changes its rate (leaf 0x80000007, EDX bit 8).
inline bool detect_invariant_tsc() {
#if defined(__x86_64__)
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid(0x80000007U, &a, &b, &c, &d) != 0 && (d & (1U << 8U)) != 0;
#else
  return false;
#endif
}

inline const bool kTicksAreTsc = detect_invariant_tsc();

inline u64 ticks_now() {
#if defined(__x86_64__)
  if (__builtin_expect(kTicksAreTsc, true)) return __rdtsc();
#endif
  return clock_ns(CLOCK_MONOTONIC_RAW);
}

// One pair of readings taken close together: of several tries the one with the shortest gap wins, so that a
// preemption between the two clocks does not bend the rate.
struct ClockPair {
  u64 ticks = 0;
  u64 raw_ns = 0;
};
inline ClockPair read_clock_pair() {
  ClockPair best;
  u64 best_gap = kForever;
  for (int attempt = 0; attempt < 16; ++attempt) {
    const u64 before = ticks_now();
    const u64 raw_ns = clock_ns(CLOCK_MONOTONIC_RAW);
    const u64 gap = ticks_now() - before;
    if (gap < best_gap) {
      best_gap = gap;
      best = {before + gap / 2, raw_ns};
    }
  }
  return best;
}

// Calibrated once per process, over 20 ms (error some parts per million). run_roles() calls it before it forks,
// so that every role has the same rate.
inline double ns_per_tick() {
  static const double rate = [] {
    if (!kTicksAreTsc) return 1.0;
    const ClockPair first = read_clock_pair();
    while (clock_ns(CLOCK_MONOTONIC_RAW) - first.raw_ns < 20 * kNsPerMs) {
    }
    const ClockPair last = read_clock_pair();
    return static_cast<double>(last.raw_ns - first.raw_ns) / static_cast<double>(last.ticks - first.ticks);
  }();
  return rate;
}

inline double ticks_to_ns(u64 ticks) { return static_cast<double>(ticks) * ns_per_tick(); }
inline u64 ns_to_ticks(u64 ns) { return static_cast<u64>(static_cast<double>(ns) / ns_per_tick()); }
inline u64 seconds_to_ticks(double seconds) {
  return static_cast<u64>(seconds * static_cast<double>(kNsPerSecond) / ns_per_tick());
}

inline double rate_per_second(u64 count, u64 start_ticks, u64 end_ticks) {
  if (end_ticks <= start_ticks) return 0;
  return static_cast<double>(count) * static_cast<double>(kNsPerSecond) / ticks_to_ns(end_ticks - start_ticks);
}

}  // namespace mooring::bench
