// Settings of a group: what each key takes, what it refuses and how it says so; delays by hand-made numbers.
#include "delivery/policy.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mooring {
namespace {

using testing::HasSubstr;

constexpr u64 kMs = 1'000'000;
constexpr u64 kHalf = u64{1} << 63;  // the middle of all random numbers: no jitter

TEST(Policy, TakesBackWhatItSays) {
  GroupPolicy policy = default_policy();
  ASSERT_TRUE(set_policy(&policy, "backoff", "1s,5s,30s"));
  ASSERT_TRUE(set_policy(&policy, "retry_jitter", "0.05"));
  ASSERT_TRUE(set_policy(&policy, "on_dlq_full", "drop_oldest"));
  GroupPolicy again = default_policy();
  for (const auto& [key, value] : policy_settings(policy)) {
    EXPECT_TRUE(set_policy(&again, key, value)) << key << "=" << value;
  }
  EXPECT_EQ(policy_settings(policy), policy_settings(again));
  EXPECT_TRUE(check_policy(policy, "here"));
}

TEST(Policy, RefusesWithTheNearestKeyOrWhatTheValueMayBe) {
  GroupPolicy policy = default_policy();
  const GroupPolicy before = policy;
  const struct {
    const char* key;
    const char* value;
    const char* says;
  } bad[] = {
      {"retry_intial", "1s", "did you mean retry_initial?"},
      {"ackwait", "1s", "did you mean ack_wait?"},
      {"retry_initial", "5", "250ms"},
      {"retry_initial", "-1s", "250ms"},
      {"retry_initial", "999d", "at most 366d"},
      {"retry_initial", "", "250ms"},
      {"retry_initial", "nan s", "250ms"},
      {"retry_multiplier", "0.5", "from 1.0 to 100.0"},
      {"retry_jitter", "1.5", "from 0.0 to 1.0"},
      {"max_deliveries", "256", "from 0 to 255"},
      {"max_deliveries", "-1", "from 0 to 255"},
      {"max_deliveries", "5x", "from 0 to 255"},
      {"backoff", "1s,,2s", "250ms"},
      {"backoff", "1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s", "at most 16"},
      {"on_dead", "keeep", "keep or drop"},
      {"breaker", "yes", "off or on"},
      {"breaker_failure_ratio", "0", "from 0.001 to 1.0"},
      {"breaker_failure_ratio", "1.1", "from 0.001 to 1.0"},
      {"breaker_minimum", "0", "from 1 to 4096"},
      {"breaker_minimum", "4097", "from 1 to 4096"},
      {"breaker_window", "99ms", "from 100ms to 1d"},
      {"breaker_delay", "0", "from 1ms to 1d"},
      {"breaker_delay_max", "8d", "from 1ms to 7d"},
      {"breaker_treshold", "1", "did you mean breaker_"},
      {"stuck", "term", "off or kill"},
      {"stuck_after", "0", "from 1 to 1000"},
  };
  for (const auto& setting : bad) {
    const Status set = set_policy(&policy, setting.key, setting.value);
    ASSERT_FALSE(set) << setting.key << "=" << setting.value;
    EXPECT_EQ(set.error().code, Code::kBadArgument);
    EXPECT_THAT(set.error().text, HasSubstr(setting.says)) << setting.key << "=" << setting.value;
  }
  EXPECT_EQ(policy_settings(policy), policy_settings(before)) << "a refused setting changes nothing";
}

TEST(Policy, DelaysGrowAndAreBoundedAndListsRepeatTheirLast) {
  GroupPolicy policy = default_policy();
  policy.retry_jitter_milli = 0;
  const u64 grown[] = {100 * kMs, 200 * kMs, 400 * kMs, 800 * kMs};
  for (u32 failed = 1; failed <= 4; ++failed) EXPECT_EQ(retry_delay_ns(policy, failed, kHalf), grown[failed - 1]);
  EXPECT_EQ(retry_delay_ns(policy, 200, kHalf), 60'000 * kMs);
  ASSERT_TRUE(set_policy(&policy, "backoff", "1s,5s"));
  EXPECT_EQ(retry_delay_ns(policy, 1, kHalf), 1'000 * kMs);
  EXPECT_EQ(retry_delay_ns(policy, 2, kHalf), 5'000 * kMs);
  EXPECT_EQ(retry_delay_ns(policy, 9, kHalf), 5'000 * kMs);
}

TEST(Policy, JitterIsUniformOverItsPart) {
  GroupPolicy policy = default_policy();
  policy.retry_jitter_milli = 150;
  EXPECT_NEAR(static_cast<double>(retry_delay_ns(policy, 1, 0)), 85e6, 1);
  EXPECT_NEAR(static_cast<double>(retry_delay_ns(policy, 1, kHalf)), 100e6, 1);
  EXPECT_NEAR(static_cast<double>(retry_delay_ns(policy, 1, ~u64{0})), 115e6, 1);
}

TEST(Policy, WhatALogSaysIsChecked) {
  const auto refused = [](auto&& damage) {
    GroupPolicy policy = default_policy();
    damage(policy);
    return !check_policy(policy, "the log");
  };
  EXPECT_TRUE(refused([](GroupPolicy& p) { p.retry_multiplier_milli = 0; }));
  EXPECT_TRUE(refused([](GroupPolicy& p) { p.retry_jitter_milli = 1001; }));
  EXPECT_TRUE(refused([](GroupPolicy& p) { p.backoff_count = 17; }));
  EXPECT_TRUE(refused([](GroupPolicy& p) { p.max_deliveries = 256; }));
  EXPECT_TRUE(refused([](GroupPolicy& p) { p.on_dead = 2; }));
  EXPECT_TRUE(refused([](GroupPolicy& p) { p.breaker = 2; }));
  EXPECT_TRUE(refused([](GroupPolicy& p) { p.breaker_minimum = 0; }));
  EXPECT_TRUE(refused([](GroupPolicy& p) { p.breaker_window_ns = 0; }));
  EXPECT_TRUE(refused([](GroupPolicy& p) { p.breaker_delay_ns = ~u64{0}; }));
  EXPECT_TRUE(refused([](GroupPolicy& p) { p.stuck_after = 0; }));
  EXPECT_TRUE(refused([](GroupPolicy& p) { p.ack_wait_ns = ~u64{0}; }));
  EXPECT_TRUE(refused([](GroupPolicy& p) {
    p.backoff_count = 1;
    p.backoff_ns[0] = ~u64{0};
  }));
}

TEST(Duration, ReadsWhatItWrites) {
  for (const u64 ns : {u64{0}, u64{1}, u64{1500}, 250 * kMs, 1'500 * kMs, 90'000 * kMs, 3'600'000 * kMs,
                       u64{7} * 24 * 3600 * 1000 * kMs}) {
    const Result<u64> read = parse_duration(duration_text(ns));
    ASSERT_TRUE(read) << duration_text(ns);
    EXPECT_EQ(*read, ns) << duration_text(ns);
  }
}

}  // namespace
}  // namespace mooring
