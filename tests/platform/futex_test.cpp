// Shows that futex words work between processes, also over a read-only mapping, and that each reason to return is
// told apart. A waker knows that its sleeper sleeps because a wake says how many it woke: no test sleeps.

#include "platform/futex.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>

#include <array>
#include <atomic>

#include "base/time.hpp"
#include "platform/mapping.hpp"
#include "scratch.hpp"

namespace mooring {
namespace {

constexpr u64 kWatchdogNs = 30 * kNsPerSecond;

u64 watchdog_ns() { return monotonic_ns() + kWatchdogNs; }

// Wakes until somebody was woken. False when the watchdog ends it.
bool wake_one(const u32* word) {
  for (const u64 deadline_ns = watchdog_ns(); monotonic_ns() < deadline_ns;) {
    if (futex_wake(word, 1) == 1) return true;
    ::sched_yield();
  }
  return false;
}

struct SharedWords {
  SharedWords() : file(take(create_file(scratch.dir(), "wake", 0600, kPageBytes))) {
    mapping = take(map_file(file, Access::read_write, kPageBytes, true));
  }
  u32* word(std::size_t index) const { return reinterpret_cast<u32*>(mapping.data()) + index; }

  ScratchDirectory scratch;
  File file;
  Mapping mapping;
};

TEST(Futex, WakesAnotherProcess) {
  SharedWords words;
  Child sleeper([&words] {
    const Mapping own = take(map_file(words.file, Access::read_write, kPageBytes, true));
    const auto result = futex_wait(reinterpret_cast<const u32*>(own.data()), 0, watchdog_ns());
    return static_cast<int>(result);
  });
  EXPECT_TRUE(wake_one(words.word(0)));
  EXPECT_EQ(sleeper.exit_code(), static_cast<int>(FutexResult::kWoken));
}

TEST(Futex, ReadOnlyMappingCanWait) {
  SharedWords words;
  Child sleeper([&words] {
    const File file = take(open_file(words.scratch.dir(), "wake", Access::read_only));
    const Mapping own = take(map_file(file, Access::read_only, kPageBytes, true));
    return static_cast<int>(futex_wait(reinterpret_cast<const u32*>(own.data()), 0, watchdog_ns()));
  });
  EXPECT_TRUE(wake_one(words.word(0)));
  EXPECT_EQ(sleeper.exit_code(), static_cast<int>(FutexResult::kWoken));
}

TEST(Futex, AnotherValueReturnsAtOnce) {
  u32 word = 7;
  EXPECT_EQ(futex_wait(&word, 8, kForever), FutexResult::kChanged);
}

TEST(Futex, DeadlineEndsTheWait) {
  u32 word = 7;
  EXPECT_EQ(futex_wait(&word, 7, monotonic_ns()), FutexResult::kTimeout);
  EXPECT_EQ(futex_wait(&word, 7, 0), FutexResult::kTimeout);
  const u64 deadline_ns = monotonic_ns() + kNsPerMs;
  EXPECT_EQ(futex_wait(&word, 7, deadline_ns), FutexResult::kTimeout);
  EXPECT_GE(monotonic_ns(), deadline_ns);
}

TEST(Futex, WakingNobodyWakesNobody) {
  u32 word = 0;
  EXPECT_EQ(futex_wake(&word, 1), 0);
}

TEST(Futex, UnmappedWordIsAFailureAndNoCrash) {
  ScratchDirectory scratch;
  const File file = take(create_file(scratch.dir(), "a", 0600, kPageBytes));
  const Mapping mapping = take(map_file(file, Access::read_write, kPageBytes, true));
  ASSERT_EQ(::ftruncate(file.fd(), 0), 0);
  const u32* word = reinterpret_cast<const u32*>(mapping.data());
  EXPECT_EQ(futex_wait(word, 0, kForever), FutexResult::kFailed);
  EXPECT_EQ(futex_wake(word, 1), 0);
}

TEST(Futex, SignalInterruptsTheWait) {
  SharedWords words;
  std::atomic<u32>& asleep = *reinterpret_cast<std::atomic<u32>*>(words.word(1));
  Child sleeper([&words] {
    const Mapping own = take(map_file(words.file, Access::read_write, kPageBytes, true));
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGUSR1, &action, nullptr);
    u32* const word = reinterpret_cast<u32*>(own.data());
    reinterpret_cast<std::atomic<u32>*>(word + 1)->store(1, std::memory_order_seq_cst);
    return static_cast<int>(futex_wait(word, 0, watchdog_ns()));
  });
  // Signals before it sleeps are lost, so they go on until it has ended. Order: nothing depends on the value.
  while (asleep.load(std::memory_order_seq_cst) == 0) ::sched_yield();
  siginfo_t ended{};
  while (::waitid(P_PID, static_cast<id_t>(sleeper.pid()), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         ended.si_pid == 0) {
    sleeper.kill(SIGUSR1);
    ::sched_yield();
  }
  EXPECT_EQ(sleeper.exit_code(), static_cast<int>(FutexResult::kInterrupted));
}

TEST(FutexWaitv, SaysWhichWordWasWoken) {
  SharedWords words;
  Child sleeper([&words] {
    const Mapping own = take(map_file(words.file, Access::read_write, kPageBytes, true));
    const u32* const first = reinterpret_cast<const u32*>(own.data());
    const std::array<FutexWaiter, 3> waiters{{{first, 0}, {first + 1, 0}, {first + 2, 0}}};
    const auto [result, index] = futex_waitv(waiters, watchdog_ns());
    return result == FutexResult::kWoken ? 10 + static_cast<int>(index) : static_cast<int>(result);
  });
  EXPECT_TRUE(wake_one(words.word(2)));
  EXPECT_EQ(sleeper.exit_code(), 12);
}

TEST(FutexWaitv, TellsItsOutcomesApart) {
  const std::array<u32, 2> words{1, 2};
  const std::array<FutexWaiter, 2> same{{{&words[0], 1}, {&words[1], 2}}};
  const std::array<FutexWaiter, 2> changed{{{&words[0], 1}, {&words[1], 3}}};
  EXPECT_EQ(futex_waitv(same, monotonic_ns()).result, FutexResult::kTimeout);
  EXPECT_EQ(futex_waitv(changed, kForever).result, FutexResult::kChanged);
  EXPECT_EQ(futex_waitv({}, kForever).result, FutexResult::kFailed);
  const std::vector<FutexWaiter> many(kFutexWaitersMax + 1, FutexWaiter{&words[0], 1});
  EXPECT_EQ(futex_waitv(many, monotonic_ns()).result, FutexResult::kFailed);
  const std::span<const FutexWaiter> most(many.data(), kFutexWaitersMax);
  EXPECT_EQ(futex_waitv(most, monotonic_ns()).result, FutexResult::kTimeout);
}

}  // namespace
}  // namespace mooring
