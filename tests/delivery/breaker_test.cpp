// The circuit breaker: each transition by hand, then days of random settlements and policies in virtual time against
// an oracle that remembers every single one.
#include "delivery/breaker.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>

namespace mooring {
namespace {

using State = Breaker::State;
constexpr u64 kSecond = 1'000'000'000;
constexpr u64 kStart = 1000 * kSecond;

GroupPolicy breaker_policy() {
  GroupPolicy policy = default_policy();
  policy.breaker = 1;
  return policy;
}

TEST(Breaker, OffItNeverOpens) {
  GroupPolicy policy = default_policy();
  Breaker breaker;
  for (u64 seq = 0; seq < 1000; ++seq) breaker.failed(policy, seq, kStart);
  EXPECT_FALSE(breaker.look(policy, kStart));
  EXPECT_EQ(breaker.state(), State::kClosed);
}

TEST(Breaker, EnoughDifferentMessagesOpenItAndOnePoisonMessageDoesNot) {
  const GroupPolicy policy = breaker_policy();
  Breaker breaker;
  for (int again = 0; again < 1000; ++again) breaker.failed(policy, 7, kStart);
  EXPECT_FALSE(breaker.look(policy, kStart));
  for (u64 seq = 100; seq < 108; ++seq) breaker.failed(policy, seq, kStart);
  EXPECT_FALSE(breaker.look(policy, kStart)) << "nine of ten";
  breaker.failed(policy, 108, kStart);
  EXPECT_TRUE(breaker.look(policy, kStart));
  EXPECT_EQ(breaker.state(), State::kOpen);
  EXPECT_EQ(breaker.level(), 1U);
  EXPECT_EQ(breaker.until_ns(), kStart + 5 * kSecond);
}

TEST(Breaker, WhatIsAcknowledgedWeighsAgainstWhatFailed) {
  GroupPolicy policy = breaker_policy();
  policy.breaker_failure_milli = 500;
  Breaker breaker;
  breaker.acked(policy, 21, kStart);
  for (u64 seq = 0; seq < 20; ++seq) breaker.failed(policy, seq, kStart);
  EXPECT_FALSE(breaker.look(policy, kStart));
  breaker.failed(policy, 20, kStart);
  EXPECT_TRUE(breaker.look(policy, kStart)) << "half of them";
}

TEST(Breaker, WhatIsOlderThanTheWindowIsForgotten) {
  const GroupPolicy policy = breaker_policy();
  Breaker breaker;
  for (u64 seq = 0; seq < 9; ++seq) breaker.failed(policy, seq, kStart);
  for (u64 seq = 9; seq < 18; ++seq) breaker.failed(policy, seq, kStart + 10 * kSecond);
  EXPECT_FALSE(breaker.look(policy, kStart + 10 * kSecond));
  EXPECT_EQ(breaker.recent(policy, kStart + 10 * kSecond).failed, 9U);
  // One that fails again counts where it failed last.
  breaker.failed(policy, 9, kStart + 15 * kSecond);
  EXPECT_EQ(breaker.recent(policy, kStart + 20 * kSecond).failed, 1U);
}

TEST(Breaker, TheDelayDoublesUpToItsBoundAndTheCanaryDecides) {
  GroupPolicy policy = breaker_policy();
  policy.breaker_minimum = 1;
  policy.breaker_delay_ns = kSecond;
  policy.breaker_delay_max_ns = 6 * kSecond;
  Breaker breaker;
  u64 now = kStart;
  breaker.failed(policy, 1, now);
  ASSERT_TRUE(breaker.look(policy, now));
  for (const u64 delay : {u64{1}, u64{2}, u64{4}, u64{6}, u64{6}}) {
    ASSERT_EQ(breaker.state(), State::kOpen);
    EXPECT_EQ(breaker.until_ns() - now, delay * kSecond);
    EXPECT_FALSE(breaker.look(policy, breaker.until_ns() - 1));
    now = breaker.until_ns();
    EXPECT_TRUE(breaker.look(policy, now));
    ASSERT_EQ(breaker.state(), State::kHalfOpen);
    breaker.failed(policy, 2, now);  // of one that was out before: no answer, and not counted later either
    EXPECT_FALSE(breaker.look(policy, now));
    breaker.canary_failed(policy, now);
  }
  now = breaker.until_ns();
  breaker.look(policy, now);
  breaker.canary_acked();
  EXPECT_EQ(breaker.state(), State::kClosed);
  EXPECT_EQ(breaker.level(), 0U);
  EXPECT_FALSE(breaker.look(policy, now)) << "what failed before is forgotten";
  breaker.failed(policy, 1, now);
  breaker.look(policy, now);
  EXPECT_EQ(breaker.until_ns() - now, kSecond) << "and the delay begins anew";
}

TEST(Breaker, SwitchedOffItClosesFromAnyState) {
  GroupPolicy on = breaker_policy();
  GroupPolicy off = on;
  off.breaker = 0;
  for (const State state : {State::kOpen, State::kHalfOpen}) {
    Breaker breaker;
    breaker.adopt(state, 3, kStart);
    EXPECT_TRUE(breaker.look(off, kStart - 1));
    EXPECT_EQ(breaker.state(), State::kClosed);
    EXPECT_FALSE(breaker.look(on, kStart));
  }
}

TEST(Breaker, GarbageThatItAdoptsHurtsNobody) {
  const GroupPolicy policy = breaker_policy();
  Breaker breaker;
  breaker.adopt(State::kOpen, 0, kStart);
  EXPECT_EQ(breaker.level(), 1U);
  breaker.adopt(State::kOpen, ~0U, kStart);
  EXPECT_EQ(breaker.level(), Breaker::kLevelMax);
  EXPECT_EQ(Breaker::delay_ns(policy, ~0U), policy.breaker_delay_max_ns);
  breaker.acked(policy, ~u64{0}, kStart);
  EXPECT_TRUE(breaker.look(policy, kStart));
}

TEST(Breaker, MoreMessagesThanItRemembersOpenItAllTheSame) {
  GroupPolicy policy = breaker_policy();
  policy.breaker_minimum = kBreakerMessagesMax;
  Breaker breaker;
  for (u64 seq = 0; seq < 3 * u64{kBreakerMessagesMax}; ++seq) {
    breaker.failed(policy, seq, kStart);
    if (seq + 1 < kBreakerMessagesMax) {
      ASSERT_FALSE(breaker.look(policy, kStart)) << seq;
    }
  }
  EXPECT_TRUE(breaker.look(policy, kStart));
}

// --- Against an oracle ----------------------------------------------------------------------------------------------

struct Settled {
  u64 time = 0;
  u64 seq = 0;
  bool failed = false;
};

TEST(Breaker, DaysOfRandomSettlementsAgreeWithOneThatRemembersThemAll) {
  std::mt19937_64 random(20261122);
  const auto uniform = [&](u64 low, u64 high) { return low + random() % (high - low + 1); };
  u64 opened = 0;
  u64 closed = 0;
  for (int run = 0; run < 60; ++run) {
    GroupPolicy policy = breaker_policy();
    policy.breaker_failure_milli = static_cast<u32>(uniform(1, 1000));
    policy.breaker_minimum = static_cast<u32>(uniform(1, 12));
    policy.breaker_window_ns = uniform(1, 100) * kSecond / 10;
    policy.breaker_delay_ns = uniform(1, 20) * kSecond / 10;
    policy.breaker_delay_max_ns = uniform(1, 200) * kSecond / 10;
    const u64 part = policy.breaker_window_ns / 10;
    const u64 most = std::max(policy.breaker_delay_ns, policy.breaker_delay_max_ns);
    Breaker breaker;
    std::deque<Settled> history;
    u64 now = kStart + uniform(0, kSecond);
    u64 failures_in_a_row = 0;
    u64 opened_at = 0;
    u64 bad_until = 0;
    for (int step = 0; step < 3000; ++step) {
      now += uniform(0, 4) == 0 ? uniform(0, policy.breaker_window_ns) : uniform(0, part);
      if (uniform(0, 99) == 0) bad_until = now + uniform(0, 3 * policy.breaker_window_ns);
      const bool fails = now < bad_until || uniform(0, 9) == 0;
      const u64 seq = uniform(0, 30);
      const State before = breaker.state();
      if (before == State::kHalfOpen) {
        if (fails) {
          breaker.canary_failed(policy, now);
          ++failures_in_a_row;
          ASSERT_EQ(breaker.state(), State::kOpen);
          u64 delay = policy.breaker_delay_ns;
          for (u64 doubled = 1; doubled < failures_in_a_row && delay < most; ++doubled) delay *= 2;
          ASSERT_EQ(breaker.until_ns(), now + std::min(delay, most));
          opened_at = now;
        } else {
          breaker.canary_acked();
          ASSERT_EQ(breaker.state(), State::kClosed);
          failures_in_a_row = 0;
          ++closed;
        }
        history.clear();
        continue;
      }
      if (fails) {
        breaker.failed(policy, seq, now);
      } else {
        breaker.acked(policy, 1, now);
      }
      if (before == State::kClosed) history.push_back({now, seq, fails});
      while (!history.empty() && history.front().time / part + 10 <= now / part) history.pop_front();
      const bool changed = breaker.look(policy, now);
      if (before == State::kOpen) {
        ASSERT_EQ(changed, now >= breaker.until_ns());
        ASSERT_EQ(breaker.state(), changed ? State::kHalfOpen : State::kOpen);
        ASSERT_GE(now, opened_at);
        continue;
      }
      u64 acks = 0;
      std::map<u64, bool> messages;
      for (const Settled& one : history) {
        if (one.failed) messages[one.seq] = true;
        acks += one.failed ? 0 : 1;
      }
      const u64 failed = messages.size();
      const bool should_open =
          failed >= policy.breaker_minimum && failed * 1000 >= (failed + acks) * policy.breaker_failure_milli;
      ASSERT_EQ(changed, should_open) << "run " << run << " step " << step << ": " << failed << " failed, " << acks;
      if (changed) {
        ++opened;
        ASSERT_EQ(breaker.until_ns(), now + std::min(policy.breaker_delay_ns, most));
        opened_at = now;
        failures_in_a_row = 1;
        history.clear();
      }
    }
  }
  EXPECT_GT(opened, 100U);
  EXPECT_GT(closed, 100U);
}

}  // namespace
}  // namespace mooring
