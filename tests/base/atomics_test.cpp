// Shows that HardwareAtomics does what its head promises, single-threaded for the values and with two threads for the
// orders. The two-thread tests are litmus tests: each names the outcome that must never be seen and looks for it many
// times. They cannot prove an order, but a missing one shows: without its sleep_fence, or with membarrier not
// registered, the sleepers' test fails in most runs on an idle x86 of two cores. Under TSan they show that the pairs
// are no data races.

#include "base/atomics.hpp"

#include <gtest/gtest.h>

#include <array>
#include <thread>
#include <vector>

namespace mooring {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelease = std::memory_order_release;

TEST(HardwareAtomics, LoadsAndStoresTheWord) {
  u64 word = 1;
  HardwareAtomics::store(word, u64{5}, kRelease);
  EXPECT_EQ(HardwareAtomics::load(word, kAcquire), 5u);
}

TEST(HardwareAtomics, CasChangesOnlyTheExpectedValueAndReportsTheOther) {
  u32 word = 7;
  u32 expected = 6;
  EXPECT_FALSE(HardwareAtomics::cas(word, expected, u32{9}, std::memory_order_acq_rel));
  EXPECT_EQ(word, 7u);
  EXPECT_EQ(expected, 7u);
  EXPECT_TRUE(HardwareAtomics::cas(word, expected, u32{9}, std::memory_order_acq_rel));
  EXPECT_EQ(word, 9u);
}

TEST(HardwareAtomics, AddReturnsTheOldValueAndWraps) {
  u32 word = ~u32{0};
  EXPECT_EQ(HardwareAtomics::add(word, u32{2}, kRelaxed), ~u32{0});
  EXPECT_EQ(word, 1u);
}

TEST(HardwareAtomics, CopiesAreExactAndStayInside) {
  std::array<u8, 40> shared{};
  std::array<u8, 40> private_bytes{};
  for (std::size_t i = 0; i < private_bytes.size(); ++i) private_bytes[i] = static_cast<u8>(i + 1);
  HardwareAtomics::copy_in(shared.data() + 3, private_bytes.data(), 30);
  EXPECT_EQ(shared[2], 0);
  EXPECT_EQ(shared[3], 1);
  EXPECT_EQ(shared[32], 30);
  EXPECT_EQ(shared[33], 0);
  std::array<u8, 40> back{};
  HardwareAtomics::copy_out(back.data(), shared.data() + 3, 30);
  EXPECT_EQ(back[0], 1);
  EXPECT_EQ(back[29], 30);
  EXPECT_EQ(back[30], 0);
  HardwareAtomics::copy_in(shared.data(), private_bytes.data(), 0);
  EXPECT_EQ(shared[0], 0);
}

// FORBIDDEN: the flag is seen and the bytes are not.
TEST(HardwareAtomicsThreads, BytesAreVisibleBeforeTheirFlag) {
  constexpr u64 kRounds = 2'000;
  constexpr std::size_t kSizeBytes = 24;
  alignas(kLineBytes) u64 flag = 0;
  alignas(kLineBytes) std::array<u8, kSizeBytes> shared{};
  alignas(kLineBytes) u64 taken = 0;

  std::thread writer([&] {
    std::array<u8, kSizeBytes> message{};
    for (u64 round = 1; round <= kRounds; ++round) {
      // The reader is done with the last message: acquire, pairs with its release of `taken`.
      while (HardwareAtomics::load(taken, kAcquire) != round - 1) std::this_thread::yield();
      message.fill(static_cast<u8>(round));
      HardwareAtomics::copy_in(shared.data(), message.data(), kSizeBytes);
      HardwareAtomics::store(flag, round, kRelease);
    }
  });
  u64 torn_count = 0;
  for (u64 round = 1; round <= kRounds; ++round) {
    while (HardwareAtomics::load(flag, kAcquire) != round) std::this_thread::yield();
    std::array<u8, kSizeBytes> message{};
    HardwareAtomics::copy_out(message.data(), shared.data(), kSizeBytes);
    for (const u8 byte : message) {
      if (byte != static_cast<u8>(round)) ++torn_count;
    }
    HardwareAtomics::store(taken, round, kRelease);
  }
  writer.join();
  EXPECT_EQ(torn_count, 0u);
}

// The sleeping protocol in small: the hot side publishes and looks for sleepers, the cold side says it sleeps and looks
// for news. FORBIDDEN: both look too early, for then a sleeper misses its wake-up.
//
// Both sides count and run freely, since threads that meet before each round leave the meeting too far apart to
// collide. If sleep number j saw only publish number p, then publish p + 1 came later and must have seen sleep j (or a
// newer one).
u64 missed_wakeups(bool fenced) {
  // Enough sleeps while the other side was really running beside; a busy machine may not give that many.
  constexpr u64 kOverlapsWanted = 20'000;
  constexpr u64 kSleeps = 200'000;
  alignas(kLineBytes) u64 published = 0;
  alignas(kLineBytes) u64 sleeping = 0;
  alignas(kLineBytes) std::atomic<bool> done{false};
  std::vector<u64> first_publish_that_saw(kSleeps + 1, ~u64{0});
  std::vector<u64> publish_seen_by(kSleeps + 1, 0);

  std::thread hot([&] {
    u64 newest_sleep = 0;
    for (u64 publish = 1; newest_sleep < kSleeps && !done.load(kAcquire); ++publish) {
      HardwareAtomics::store(published, publish, kRelaxed);
      HardwareAtomics::publish_fence(fenced);
      const u64 sleep = HardwareAtomics::load(sleeping, kRelaxed);
      while (newest_sleep < sleep) first_publish_that_saw[++newest_sleep] = publish;
    }
  });
  while (HardwareAtomics::load(published, kRelaxed) == 0) std::this_thread::yield();
  u64 overlap_count = 0;
  for (u64 sleep = 1; sleep <= kSleeps && overlap_count < kOverlapsWanted; ++sleep) {
    HardwareAtomics::store(sleeping, sleep, kRelaxed);
    HardwareAtomics::sleep_fence();
    publish_seen_by[sleep] = HardwareAtomics::load(published, kRelaxed);
    if (publish_seen_by[sleep] != publish_seen_by[sleep - 1]) {
      ++overlap_count;
    } else if (sleep % 1024 == 0) {
      std::this_thread::yield();  // the other side may be waiting for this core
    }
  }
  done.store(true, kRelease);
  hot.join();

  u64 missed_count = 0;
  for (u64 sleep = 1; sleep <= kSleeps; ++sleep) {
    // Sleeps that the hot side ended too early to see are not counted.
    if (first_publish_that_saw[sleep] == ~u64{0}) break;
    if (first_publish_that_saw[sleep] > publish_seen_by[sleep] + 1) ++missed_count;
  }
  return missed_count;
}

TEST(HardwareAtomicsThreads, HotSideWithoutAFenceAndSleeperNeverMissEachOther) {
  if (!membarrier_register()) GTEST_SKIP() << "membarrier(2) is denied here; publishers run in fence mode";
  EXPECT_EQ(missed_wakeups(false), 0u);
}

TEST(HardwareAtomicsThreads, FencedHotSideAndSleeperNeverMissEachOther) { EXPECT_EQ(missed_wakeups(true), 0u); }

}  // namespace
}  // namespace mooring
