#include "platform/futex.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>

#include "base/time.hpp"

namespace mooring {
namespace {

FutexResult result_of(int error_number) {
  switch (error_number) {
    case EAGAIN: return FutexResult::kChanged;
    case ETIMEDOUT: return FutexResult::kTimeout;
    case EINTR: return FutexResult::kInterrupted;
    default: return FutexResult::kFailed;
  }
}

timespec timespec_of(u64 ns) {
  timespec time{};
  time.tv_sec = static_cast<time_t>(ns / kNsPerSecond);
  time.tv_nsec = static_cast<long>(ns % kNsPerSecond);
  return time;
}

}  // namespace

FutexResult futex_wait(const u32* word, u32 expected, u64 deadline_ns) {
  const timespec deadline = timespec_of(deadline_ns);
  // FUTEX_WAIT_BITSET rather than FUTEX_WAIT: its timeout is absolute, so an early wake costs no arithmetic.
  const long woken = ::syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected,
                               deadline_ns == kForever ? nullptr : &deadline, nullptr, FUTEX_BITSET_MATCH_ANY);
  return woken == 0 ? FutexResult::kWoken : result_of(errno);
}

int futex_wake(const u32* word, int count) {
  const long woken = ::syscall(SYS_futex, word, FUTEX_WAKE, count, nullptr, nullptr, 0);
  return woken > 0 ? static_cast<int>(woken) : 0;
}

FutexWaitvResult futex_waitv(std::span<const FutexWaiter> waiters, u64 deadline_ns) {
  if (waiters.empty() || waiters.size() > kFutexWaitersMax) return {};
  std::array<struct ::futex_waitv, kFutexWaitersMax> kernel_waiters{};
  for (std::size_t i = 0; i < waiters.size(); ++i) {
    kernel_waiters[i].uaddr = reinterpret_cast<std::uintptr_t>(waiters[i].word);
    kernel_waiters[i].val = waiters[i].expected;
    kernel_waiters[i].flags = FUTEX_32;
  }
  const timespec deadline = timespec_of(deadline_ns);
  const long index = ::syscall(SYS_futex_waitv, kernel_waiters.data(), waiters.size(), 0,
                               deadline_ns == kForever ? nullptr : &deadline, CLOCK_MONOTONIC);
  if (index < 0) return {result_of(errno), 0};
  return {FutexResult::kWoken, static_cast<std::size_t>(index)};
}

}  // namespace mooring
