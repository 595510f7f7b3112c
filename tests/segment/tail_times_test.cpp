// Ages of messages from samples of how far the queue had come: never older than they are, known to some percent however
// long the backlog, and unknown rather than wrong where the samples make no sense.
#include <gtest/gtest.h>

#include "segment/tail_times.hpp"

namespace mooring {
namespace {

constexpr u64 kSecond = 1'000'000'000;

TEST(TailTimes, AMessageIsAsOldAsTheFirstSampleBehindIt) {
  layout::TailTimes times{};
  EXPECT_TRUE(read_tail_times(times).empty());
  note_tail(times, 100, 0, 5 * kSecond);
  note_tail(times, 110, 0, 6 * kSecond);
  const TailSamples samples = read_tail_times(times);
  EXPECT_EQ(seen_boottime_ns(samples, 99), 5 * kSecond);
  EXPECT_EQ(seen_boottime_ns(samples, 100), 6 * kSecond);
  EXPECT_EQ(seen_boottime_ns(samples, 109), 6 * kSecond);
  EXPECT_EQ(seen_boottime_ns(samples, 110), std::nullopt) << "not there yet at the last look";
}

TEST(TailTimes, WhatNobodyWaitsForIsLetGo) {
  layout::TailTimes times{};
  for (u64 second = 1; second <= 20; ++second) note_tail(times, 100 + second, second < 20 ? 0 : 115, second * kSecond);
  EXPECT_EQ(read_tail_times(times).front().seq, 116U);
}

// A day of backlog at one message a second, looked at each second.
TEST(TailTimes, AgesOfALongBacklogAreKnownToSomePercentAndNeverTooHigh) {
  layout::TailTimes times{};
  constexpr u64 kSeconds = 86'400;
  for (u64 second = 1; second <= kSeconds; ++second) note_tail(times, second, 0, second * kSecond);
  const TailSamples samples = read_tail_times(times);
  EXPECT_LE(samples.size(), layout::kTailSamples);
  for (u64 seq = 0; seq < kSeconds; seq += 97) {
    const u64 came = (seq + 1) * kSecond;
    const std::optional<u64> seen = seen_boottime_ns(samples, seq);
    ASSERT_TRUE(seen.has_value()) << seq;
    EXPECT_GE(*seen, came) << "shown older than it is: " << seq;
    EXPECT_LE(*seen - came, kSeconds * kSecond / 15) << seq;
  }
}

TEST(TailTimes, AWriterThatDiedInTheMiddleLeavesNoAgesAndTheNextOneBeginsAnew) {
  layout::TailTimes times{};
  note_tail(times, 100, 0, 5 * kSecond);
  ++times.version;
  EXPECT_TRUE(read_tail_times(times).empty());
  note_tail(times, 120, 0, 9 * kSecond);
  EXPECT_EQ(seen_boottime_ns(read_tail_times(times), 10), 9 * kSecond);
}

TEST(TailTimes, ACountOutOfRangeIsCut) {
  layout::TailTimes times{};
  note_tail(times, 100, 0, 5 * kSecond);
  times.count = ~u64{0};
  EXPECT_LE(read_tail_times(times).size(), layout::kTailSamples);
}

}  // namespace
}  // namespace mooring
