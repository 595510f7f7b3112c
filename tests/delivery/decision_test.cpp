// What becomes of a failed message: each reason by hand, then years of failures with random policies, in virtual time.
#include "delivery/decision.hpp"

#include <gtest/gtest.h>

#include <random>

namespace mooring {
namespace {

constexpr u64 kSecond = 1'000'000'000;

FailedDelivery failure(FailReason reason, u32 failed_before = 0) {
  FailedDelivery failed;
  failed.reason = reason;
  failed.failed_before = failed_before;
  failed.now_boottime_ns = 1000 * kSecond;
  failed.random = u64{1} << 63;
  return failed;
}

TEST(Decision, EachReasonByItself) {
  const GroupPolicy policy = default_policy();
  EXPECT_EQ(decide(policy, failure(FailReason::kNack)).fate, Fate::kWait);
  EXPECT_EQ(decide(policy, failure(FailReason::kNack)).due_boottime_ns, 1000 * kSecond + kSecond / 10);
  EXPECT_EQ(decide(policy, failure(FailReason::kRejected)).dead_reason, DeadReason::kRejected);
  EXPECT_EQ(decide(policy, failure(FailReason::kCorrupt)).dead_reason, DeadReason::kCorrupt);
  EXPECT_EQ(decide(policy, failure(FailReason::kNack, 4)).dead_reason, DeadReason::kMaxDeliveries);
  EXPECT_EQ(decide(policy, failure(FailReason::kTimeout, 4)).dead_reason, DeadReason::kMaxDeliveries);
  EXPECT_EQ(decide(policy, failure(FailReason::kCrash, 4)).dead_reason, DeadReason::kCrash);
  EXPECT_EQ(decide(policy, failure(FailReason::kNack, 3)).fate, Fate::kWait);
  const Decision expired = decide(policy, failure(FailReason::kExpired, 2));
  EXPECT_EQ(expired.dead_reason, DeadReason::kExpired);
  EXPECT_EQ(expired.failed, 2U) << "not a failure of anybody";
  FailedDelivery early = failure(FailReason::kNotDue, 2);
  early.due_boottime_ns = 5000 * kSecond;
  EXPECT_EQ(decide(policy, early).fate, Fate::kWait);
  EXPECT_EQ(decide(policy, early).due_boottime_ns, 5000 * kSecond);
  EXPECT_EQ(decide(policy, early).failed, 2U);
}

TEST(Decision, ANackMayNameItsDelay) {
  FailedDelivery failed = failure(FailReason::kNack, 1);
  failed.own_delay_ns = 7 * kSecond;
  EXPECT_EQ(decide(default_policy(), failed).due_boottime_ns, 1007 * kSecond);
  failed.own_delay_ns = ~u64{0} - 1;
  EXPECT_EQ(decide(default_policy(), failed).due_boottime_ns, 1000 * kSecond + kDelayMostNs) << "bounded, no wrap";
}

TEST(Decision, WithoutABoundItNeverDies) {
  GroupPolicy policy = default_policy();
  policy.max_deliveries = 0;
  const Decision decision = decide(policy, failure(FailReason::kCrash, layout::kFailedMax));
  EXPECT_EQ(decision.fate, Fate::kWait);
  EXPECT_EQ(decision.failed, layout::kFailedMax) << "the counter stays at its maximum";
}

TEST(Decision, WhereTheDeadAreDroppedItSaysSo) {
  GroupPolicy policy = default_policy();
  policy.on_dead = static_cast<u32>(OnDead::kDrop);
  EXPECT_EQ(decide(policy, failure(FailReason::kRejected)).fate, Fate::kDrop);
  EXPECT_EQ(decide(policy, failure(FailReason::kNack)).fate, Fate::kWait);
}

// One message through its whole life, again and again: the clock runs for years.
TEST(Decision, YearsOfFailures) {
  std::mt19937_64 random(20261122);
  const auto pick = [&](u64 below) { return random() % below; };
  u64 now = kSecond;
  u64 deaths = 0;
  for (int life = 0; life < 20'000; ++life) {
    GroupPolicy policy = default_policy();
    policy.max_deliveries = static_cast<u32>(pick(20));
    policy.retry_initial_ns = pick(60 * kSecond);
    policy.retry_multiplier_milli = 1000 + static_cast<u32>(pick(5000));
    policy.retry_max_ns = pick(24 * 3600 * kSecond);
    policy.retry_jitter_milli = static_cast<u32>(pick(1001));
    policy.backoff_count = pick(3) == 0 ? static_cast<u32>(pick(layout::kBackoffMax + 1)) : 0;
    for (u32 i = 0; i < policy.backoff_count; ++i) policy.backoff_ns[i] = pick(3600 * kSecond);
    ASSERT_TRUE(check_policy(policy, "test"));
    u32 failed = 0;
    for (u32 delivery = 1; delivery <= 30; ++delivery) {
      FailedDelivery failure;
      failure.reason = static_cast<FailReason>(1 + pick(3));
      failure.failed_before = failed;
      failure.now_boottime_ns = now;
      failure.random = random();
      const bool own = pick(4) == 0;
      if (own) failure.own_delay_ns = pick(100 * kSecond);
      const Decision decision = decide(policy, failure);
      ASSERT_EQ(decision.failed, failed + 1);
      failed = decision.failed;
      const bool must_die = policy.max_deliveries != 0 && failed >= policy.max_deliveries;
      ASSERT_EQ(decision.fate == Fate::kDead, must_die) << "after " << failed << " of " << policy.max_deliveries;
      if (must_die) {
        ++deaths;
        break;
      }
      ASSERT_GE(decision.due_boottime_ns, now) << "never in the past";
      const double delay = static_cast<double>(decision.due_boottime_ns - now);
      if (own) {
        ASSERT_EQ(decision.due_boottime_ns, now + failure.own_delay_ns);
      } else {
        const double jitter = policy.retry_jitter_milli / 1000.0;
        const u64 longest = policy.backoff_count != 0
                                ? *std::max_element(policy.backoff_ns, policy.backoff_ns + policy.backoff_count)
                                : policy.retry_max_ns;
        ASSERT_LE(delay, static_cast<double>(longest) * (1 + jitter) + 1);
      }
      now = decision.due_boottime_ns + pick(kSecond);
    }
  }
  EXPECT_GT(deaths, 1000U);
  EXPECT_GT(now, u64{365} * 24 * 3600 * kSecond) << "years went by";
}

}  // namespace
}  // namespace mooring
