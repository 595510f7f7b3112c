// Sleeping on a word of shared memory, across processes (no call here is FUTEX_PRIVATE).
//
// Deadlines are absolute CLOCK_MONOTONIC nanoseconds, kForever for none. Every answer is a hint: futex words are
// writable by every client, so a waiter looks again at what it waits for, whatever woke it, and caps its sleep.
// Waiting needs no more than a read-only mapping.
//
// TESTED BY  platform/futex_test
#pragma once

#include <cstddef>
#include <span>

#include "base/bytes.hpp"

namespace mooring {

enum class FutexResult {
  kWoken,        // by a wake, or for no reason at all
  kChanged,      // the word was not `expected` before sleeping
  kTimeout,      // the deadline passed
  kInterrupted,  // a signal handler ran
  kFailed,       // the word cannot be slept on: unmapped (a truncated file), or denied by a sandbox
};

struct FutexWaiter {
  const u32* word = nullptr;
  u32 expected = 0;
};

inline constexpr std::size_t kFutexWaitersMax = 128;

struct FutexWaitvResult {
  FutexResult result = FutexResult::kFailed;
  std::size_t index = 0;  // with kWoken: a waiter that was woken (others may have been, too)
};

FutexResult futex_wait(const u32* word, u32 expected, u64 deadline_ns);
// Wakes at most `count` waiters; returns how many were woken (0 also where there is nothing to wake).
int futex_wake(const u32* word, int count);
// Sleeps until one of 1 to kFutexWaitersMax words is woken or is not as expected; any other number is kFailed.
FutexWaitvResult futex_waitv(std::span<const FutexWaiter> waiters, u64 deadline_ns);

}  // namespace mooring
