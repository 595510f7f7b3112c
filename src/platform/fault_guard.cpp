#include "platform/fault_guard.hpp"

#include <signal.h>
#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <cstdint>

#include "base/bytes.hpp"

namespace mooring {
namespace {

// state = generation * 4 + one of these. The generation tells a reused entry from the one that was looked at.
constexpr u64 kStateFree = 0;
constexpr u64 kStateBusy = 1;
constexpr u64 kStateLive = 2;
constexpr u64 kStateMask = 3;
constexpr u64 kGeneration = 4;

struct Entry {
  std::atomic<u64> state{kStateFree};
  std::atomic<std::uintptr_t> begin{0};
  std::atomic<std::size_t> size_bytes{0};
  std::atomic<std::atomic<bool>*> hit{nullptr};
};
static_assert(std::atomic<u64>::is_always_lock_free && std::atomic<std::atomic<bool>*>::is_always_lock_free,
              "a signal handler reads these");

std::array<Entry, kFaultRangesMax> entries;

std::atomic<bool>* find_range(std::uintptr_t address) {
  for (Entry& entry : entries) {
    // LISTED: acquire, so that the fields are those stored before this state.
    const u64 state = entry.state.load(std::memory_order_acquire);
    if ((state & kStateMask) != kStateLive) continue;
    // LISTED: acquire on each, so that the second look at the state cannot come first.
    const std::uintptr_t begin = entry.begin.load(std::memory_order_acquire);
    const std::size_t size_bytes = entry.size_bytes.load(std::memory_order_acquire);
    std::atomic<bool>* const hit = entry.hit.load(std::memory_order_acquire);
    // Relaxed: the loads above keep it behind them.
    if (entry.state.load(std::memory_order_relaxed) != state) continue;
    if (address >= begin && address - begin < size_bytes) return hit;
  }
  return nullptr;
}

void on_bus_error(int signal_number, siginfo_t* info, void* /*context*/) {
  const int saved_errno = errno;
  // A positive code is a fault found by the kernel; a signal somebody sent has no address.
  if (info->si_code > 0) {
    const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
    std::atomic<bool>* const hit = find_range(address);
    if (hit != nullptr) {
      void* const page = static_cast<char*>(info->si_addr) - (address & (kPageBytes - 1));
      // mmap is a bare system call: safe here, though POSIX does not list it.
      if (::mmap(page, kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page) {
        // Relaxed: read by the thread that faulted, after the access that did.
        hit->store(true, std::memory_order_relaxed);
        errno = saved_errno;
        return;
      }
    }
  }
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  ::sigaction(signal_number, &standard, nullptr);
  // Blocked until this handler returns. A fault would come again by itself, a sent signal would not.
  ::raise(signal_number);
  errno = saved_errno;
}

}  // namespace

Status install_fault_guard() {
  struct sigaction action {};
  action.sa_sigaction = &on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  if (::sigaction(SIGBUS, &action, nullptr) != 0) return fail_errno(errno, "cannot install the SIGBUS handler");
  return {};
}

Status register_range(const void* data, std::size_t size_bytes, std::atomic<bool>* hit) {
  for (Entry& entry : entries) {
    // Relaxed: only a candidate; the CAS decides.
    u64 state = entry.state.load(std::memory_order_relaxed);
    if ((state & kStateMask) != kStateFree) continue;
    // Acquire, so that the fields are filled after whoever freed the entry was done with it.
    if (!entry.state.compare_exchange_strong(state, state + kStateBusy, std::memory_order_acquire,
                                             std::memory_order_relaxed)) {
      continue;
    }
    // Release on each: a handler that sees a new field sees BUSY too, and drops the entry.
    entry.begin.store(reinterpret_cast<std::uintptr_t>(data), std::memory_order_release);
    entry.size_bytes.store(size_bytes, std::memory_order_release);
    entry.hit.store(hit, std::memory_order_release);
    // LISTED: release, so that the fields are there first.
    entry.state.store(state + kStateLive, std::memory_order_release);
    return {};
  }
  return fail(Code::kNoMemory, "more than " + std::to_string(kFaultRangesMax) +
                                   " shared files are mapped; close queues or start a second instance");
}

void unregister_range(const void* data) {
  for (Entry& entry : entries) {
    // LISTED: acquire, to read the field that belongs to this state.
    const u64 state = entry.state.load(std::memory_order_acquire);
    if ((state & kStateMask) != kStateLive) continue;
    // Relaxed: a range is unregistered by whoever registered it.
    if (entry.begin.load(std::memory_order_relaxed) != reinterpret_cast<std::uintptr_t>(data)) continue;
    // Release: pairs with the acquire of the next claim.
    entry.state.store((state & ~kStateMask) + kGeneration + kStateFree, std::memory_order_release);
    return;
  }
}

}  // namespace mooring
