// SIGTERM and SIGINT as a count: what is counted, what the application keeps, and that a ring is not missed.
#include "platform/stop_signals.hpp"

#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <optional>
#include <thread>

#include "base/time.hpp"

namespace mooring {
namespace {

struct sigaction action_of(int number) {
  struct sigaction action {};
  ::sigaction(number, nullptr, &action);
  return action;
}

TEST(StopSignals, AreCountedByWhoeverWaitsForThemAndOnlySince) {
  const StopSignals first;
  EXPECT_EQ(first.count(), 0U);
  EXPECT_EQ(first.last(), 0);
  ::raise(SIGTERM);
  const StopSignals second;
  ::raise(SIGINT);
  EXPECT_EQ(first.count(), 2U);
  EXPECT_EQ(second.count(), 1U);
  EXPECT_EQ(second.last(), SIGINT);
}

TEST(StopSignals, AreAsBeforeOnceNobodyWaits) {
  std::optional<StopSignals> first(std::in_place);
  std::optional<StopSignals> second(std::in_place);
  first.reset();
  ::raise(SIGTERM);
  EXPECT_EQ(second->count(), 1U) << "as long as one waits";
  second.reset();
  EXPECT_EQ(action_of(SIGTERM).sa_handler, SIG_DFL);
  EXPECT_EQ(action_of(SIGINT).sa_handler, SIG_DFL);
}

std::atomic<int> heard{0};
std::atomic<int> heard_code{0};

TEST(StopSignals, ReachTheApplicationAsWell) {
  struct sigaction plain {};
  plain.sa_handler = [](int number) { heard.store(number, std::memory_order_relaxed); };
  ::sigaction(SIGTERM, &plain, nullptr);
  struct sigaction with_info {};
  with_info.sa_sigaction = [](int, siginfo_t* info, void*) {
    heard_code.store(info->si_code, std::memory_order_relaxed);
  };
  with_info.sa_flags = SA_SIGINFO;
  ::sigaction(SIGINT, &with_info, nullptr);
  {
    const StopSignals signals;
    ::raise(SIGTERM);
    ::raise(SIGINT);
    EXPECT_EQ(signals.count(), 2U);
    EXPECT_EQ(heard.load(std::memory_order_relaxed), SIGTERM);
    EXPECT_EQ(heard_code.load(std::memory_order_relaxed), SI_TKILL);
  }
  EXPECT_EQ(action_of(SIGTERM).sa_handler, plain.sa_handler);
  EXPECT_EQ(action_of(SIGINT).sa_sigaction, with_info.sa_sigaction);
  ::signal(SIGTERM, SIG_DFL);
  ::signal(SIGINT, SIG_DFL);
}

TEST(StopSignals, AnActionOfSomebodyWhoCameLaterIsLeft) {
  const auto later = [](int) {};
  {
    const StopSignals signals;
    ::signal(SIGTERM, later);
  }
  EXPECT_EQ(action_of(SIGTERM).sa_handler, static_cast<void (*)(int)>(later));
  EXPECT_EQ(action_of(SIGINT).sa_handler, SIG_DFL);
  ::signal(SIGTERM, SIG_DFL);
}

TEST(StopSignals, WhatIsIgnoredStaysIgnored) {
  ::signal(SIGINT, SIG_IGN);
  {
    const StopSignals signals;
    ::raise(SIGINT);
    EXPECT_EQ(signals.count(), 0U);
  }
  EXPECT_EQ(action_of(SIGINT).sa_handler, SIG_IGN);
  ::signal(SIGINT, SIG_DFL);
}

TEST(Bell, ARingBetweenLookAndWaitIsNotMissed) {
  const u32 seen = look_at_bell();
  ring_bell();
  wait_for_bell(seen, kForever);  // the watchdog of the suite bites if it waits
  EXPECT_NE(look_at_bell(), seen);
}

TEST(Bell, WakesWhoWaits) {
  std::atomic<bool> happened{false};
  std::thread waits([&] {
    for (;;) {
      const u32 seen = look_at_bell();
      if (happened.load(std::memory_order_relaxed)) break;
      wait_for_bell(seen, kForever);
    }
  });
  happened.store(true, std::memory_order_relaxed);
  ring_bell();
  waits.join();
}

TEST(Bell, AWaitHasAnEnd) { wait_for_bell(look_at_bell(), monotonic_ns()); }

}  // namespace
}  // namespace mooring
