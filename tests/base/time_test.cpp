// Shows that deadlines saturate and do not wrap, and that the clocks are the clocks their names say.

#include "base/time.hpp"

#include <gtest/gtest.h>

namespace mooring {
namespace {

TEST(DeadlineAfter, IsTheSum) {
  EXPECT_EQ(deadline_after(100, 0), 100u);
  EXPECT_EQ(deadline_after(100, 23), 123u);
}

TEST(DeadlineAfter, ForeverStaysForever) {
  EXPECT_EQ(deadline_after(0, kForever), kForever);
  EXPECT_EQ(deadline_after(100, kForever), kForever);
  EXPECT_EQ(deadline_after(kForever, 0), kForever);
}

TEST(DeadlineAfter, SumPastTheEndIsForeverAndNotThePast) {
  EXPECT_EQ(deadline_after(100, kForever - 101), kForever - 1);
  EXPECT_EQ(deadline_after(100, kForever - 100), kForever);
  EXPECT_EQ(deadline_after(100, kForever - 99), kForever);
  EXPECT_EQ(deadline_after(kForever - 1, 2), kForever);
}

TEST(Clocks, MonotonicNeverGoesBack) {
  u64 last_ns = monotonic_ns();
  for (int i = 0; i < 1000; ++i) {
    const u64 now_ns = monotonic_ns();
    ASSERT_GE(now_ns, last_ns);
    last_ns = now_ns;
  }
}

TEST(Clocks, WallClockAgreesWithTheSystem) {
  const u64 before_ns = static_cast<u64>(::time(nullptr)) * kNsPerSecond;
  const u64 now_ns = wall_ns();
  // time() may lag by a clock tick, never lead: so only the lower bound is certain, and a wrong unit or clock (the
  // monotonic one starts at boot) misses it by decades.
  EXPECT_GE(now_ns, before_ns);
}

}  // namespace
}  // namespace mooring
