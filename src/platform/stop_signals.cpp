#include "platform/stop_signals.hpp"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <iterator>
#include <limits>
#include <mutex>

#include "base/atomics.hpp"
#include "platform/futex.hpp"

namespace mooring {
namespace {

constexpr int kNumbers[] = {SIGTERM, SIGINT};

u32 bell = 0;

// All that the signal handler touches. `before` is written before our action is set, and not while it is.
struct Caught {
  std::atomic<u32> count{0};
  std::atomic<int> last{0};
  std::atomic<pid_t> pid{0};
  struct sigaction before[std::size(kNumbers)];
};
Caught caught;

std::mutex installation;
int installed = 0;

void on_signal(int number, siginfo_t* info, void* context) {
  const int error_number = errno;
  const std::size_t index = number == kNumbers[0] ? 0 : 1;
  const struct sigaction& before = caught.before[index];
  const bool is_ours = caught.pid.load(std::memory_order_relaxed) == ::getpid();
  if (is_ours) {
    caught.last.store(number, std::memory_order_relaxed);
    // Release: who acquires the count finds the number.
    caught.count.fetch_add(1, std::memory_order_release);
    ring_bell();
  }
  if ((before.sa_flags & SA_SIGINFO) != 0) {
    before.sa_sigaction(number, info, context);
  } else if (before.sa_handler != SIG_DFL) {
    before.sa_handler(number);
  } else if (!is_ours) {
    // Delivered when this handler returns.
    ::signal(number, SIG_DFL);
    ::raise(number);
  }
  errno = error_number;
}

bool is_our_action(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == &on_signal;
}

void install() {
  caught.pid.store(::getpid(), std::memory_order_relaxed);
  for (std::size_t i = 0; i < std::size(kNumbers); ++i) {
    struct sigaction present {};
    // Ours already: in a child of fork, or set again by who kept a copy. Then `before` is what it was.
    if (::sigaction(kNumbers[i], nullptr, &present) != 0 || is_our_action(present)) continue;
    // Who started us wants it ignored (nohup, a job in the background of a script).
    if ((present.sa_flags & SA_SIGINFO) == 0 && present.sa_handler == SIG_IGN) continue;
    caught.before[i] = present;
    struct sigaction ours {};
    ours.sa_sigaction = &on_signal;
    // The application's own system calls are not cut short, and its alternative stack is used.
    ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    ours.sa_mask = present.sa_mask;
    (void)::sigaction(kNumbers[i], &ours, nullptr);
  }
}

void restore() {
  for (std::size_t i = 0; i < std::size(kNumbers); ++i) {
    struct sigaction present {};
    if (::sigaction(kNumbers[i], nullptr, &present) == 0 && is_our_action(present)) {
      (void)::sigaction(kNumbers[i], &caught.before[i], nullptr);
    }
  }
}

}  // namespace

u32 look_at_bell() { return HardwareAtomics::load(bell, std::memory_order_acquire); }

void ring_bell() {
  // Release: what was done before the ring is seen by who looked at the bell after it.
  HardwareAtomics::add(bell, 1U, std::memory_order_release);
  futex_wake(&bell, std::numeric_limits<int>::max());
}

void wait_for_bell(u32 seen, u64 deadline_ns) { (void)futex_wait(&bell, seen, deadline_ns); }

StopSignals::StopSignals() {
  const std::lock_guard lock(installation);
  before_ = caught.count.load(std::memory_order_acquire);
  // In a child of fork the objects of the parent count for nothing.
  if (caught.pid.load(std::memory_order_relaxed) != ::getpid()) installed = 0;
  if (installed++ == 0) install();
}

StopSignals::~StopSignals() {
  const std::lock_guard lock(installation);
  if (--installed == 0) restore();
}

u32 StopSignals::count() const { return caught.count.load(std::memory_order_acquire) - before_; }

int StopSignals::last() const { return count() == 0 ? 0 : caught.last.load(std::memory_order_relaxed); }

}  // namespace mooring
