// Clocks. Durations and deadlines are nanoseconds in u64; the clock is part of every name.
#pragma once

#include <time.h>

#include <limits>

#include "base/bytes.hpp"

namespace mooring {

inline constexpr u64 kNsPerUs = 1'000;
inline constexpr u64 kNsPerMs = 1'000'000;
inline constexpr u64 kNsPerSecond = 1'000'000'000;
inline constexpr u64 kForever = std::numeric_limits<u64>::max();

inline u64 clock_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<u64>(now.tv_sec) * kNsPerSecond + static_cast<u64>(now.tv_nsec);
}
inline u64 monotonic_ns() { return clock_ns(CLOCK_MONOTONIC); }
// Goes on while the host sleeps, and is the same for all processes of a boot.
inline u64 boottime_ns() { return clock_ns(CLOCK_BOOTTIME); }
inline u64 wall_ns() { return clock_ns(CLOCK_REALTIME); }

// `now + timeout`, where kForever stays kForever and a sum past the end is kForever too.
constexpr u64 deadline_after(u64 now_ns, u64 timeout_ns) {
  return timeout_ns >= kForever - now_ns ? kForever : now_ns + timeout_ns;
}

}  // namespace mooring
