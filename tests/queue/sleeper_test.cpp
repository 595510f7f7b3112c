// The sleeper: who is woken is taken off the count, who gives up takes itself off, and nobody sleeps beside work.
// Two threads over one slot, as two processes would be; what must not hang is bounded by the sleeper's own bound.
#include "queue/sleeper.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace mooring {
namespace {

using A = HardwareAtomics;

TEST(Sleeper, DoesNotSleepWhenThereIsWork) {
  layout::WakeSlot slot{};
  {
    Sleeper sleeper(slot);
    EXPECT_EQ(sleeper.sleep(kForever, [] { return true; }), SleepOutcome::kLookAgain);
    EXPECT_EQ(slot.sleepers, 1U);  // still counted: the wait goes on
  }
  EXPECT_EQ(slot.sleepers, 0U);
}

TEST(Sleeper, GivesUpAtItsDeadlineAndIsOffTheCount) {
  layout::WakeSlot slot{};
  {
    Sleeper sleeper(slot);
    const u64 deadline_ns = monotonic_ns() + kNsPerMs;
    while (sleeper.sleep(deadline_ns, [] { return false; }) != SleepOutcome::kDeadline) {
    }
    EXPECT_GE(monotonic_ns(), deadline_ns);
  }
  EXPECT_EQ(slot.sleepers, 0U);
}

TEST(Sleeper, AWakeTakesTheSleeperOffTheCountAndEndsTheSleep) {
  layout::WakeSlot slot{};
  u64 work = 0;
  std::thread worker([&] {
    Sleeper sleeper(slot);
    while (A::load(work, std::memory_order_acquire) == 0) {
      (void)sleeper.sleep(kForever, [&] { return A::load(work, std::memory_order_acquire) != 0; });
    }
  });
  while (A::load(slot.sleepers, std::memory_order_acquire) == 0) std::this_thread::yield();
  A::store(work, u64{1}, std::memory_order_release);
  A::full_fence();
  wake_sleepers(slot, 1);
  worker.join();
  EXPECT_EQ(slot.sleepers, 0U);
}

TEST(Sleeper, WakesAtMostAsManyAsThereAre) {
  layout::WakeSlot slot{};
  wake_sleepers(slot, 5);
  EXPECT_EQ(slot.sleepers, 0U);
  EXPECT_EQ(slot.futex, 0U);  // nobody slept: no system call, no bump
  slot.sleepers = 3;
  wake_sleepers(slot, 2);
  EXPECT_EQ(slot.sleepers, 1U);
  wake_sleepers(slot, 5);
  EXPECT_EQ(slot.sleepers, 0U);
  EXPECT_EQ(slot.futex, 2U);
}

// A publisher that stops between publishing and waking, or was killed there: the bound finds the message.
TEST(Sleeper, ALostWakeCostsOneBound) {
  layout::WakeSlot slot{};
  u64 work = 0;
  std::thread worker([&] {
    Sleeper sleeper(slot);
    while (A::load(work, std::memory_order_acquire) == 0) {
      (void)sleeper.sleep(kForever, [&] { return A::load(work, std::memory_order_acquire) != 0; });
    }
  });
  while (A::load(slot.sleepers, std::memory_order_acquire) == 0) std::this_thread::yield();
  A::store(work, u64{1}, std::memory_order_release);  // and no wake
  worker.join();
  EXPECT_EQ(slot.sleepers, 0U);
}

}  // namespace
}  // namespace mooring
