#include "queue/wake_descriptor.hpp"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <mutex>
#include <thread>
#include <vector>

#include "base/atomics.hpp"
#include "base/time.hpp"
#include "platform/futex.hpp"
#include "queue/sleeper.hpp"

namespace mooring {

class DescriptorThread : public std::enable_shared_from_this<DescriptorThread> {
 public:
  static constexpr std::size_t kEntriesMax = kFutexWaitersMax - 1;  // one word is the thread's own

  // A thread with room for one more, started if need be, that has `entry` now. Threads do not cross fork: a child
  // starts its own.
  static Result<std::shared_ptr<DescriptorThread>> with_room_for(WakeDescriptor* entry) {
    static std::mutex threads_mutex;
    static std::vector<std::weak_ptr<DescriptorThread>> threads;
    static pid_t owner = 0;
    const std::lock_guard lock(threads_mutex);
    if (owner != ::getpid()) {
      // Their destructors would wait for threads that are not there.
      static auto* const kept = new std::vector<std::shared_ptr<DescriptorThread>>;
      for (auto& thread : threads) kept->push_back(thread.lock());
      threads.clear();
      owner = ::getpid();
    }
    std::erase_if(threads, [](const auto& thread) { return thread.expired(); });
    for (const auto& known : threads) {
      if (auto thread = known.lock(); thread != nullptr && thread->add(entry)) return thread;
    }
    auto thread = std::make_shared<DescriptorThread>();
    try {
      thread->thread_ = std::thread([raw = thread.get()] { raw->run(); });
    } catch (const std::system_error& error) {
      return fail(Code::kNoMemory, fmt::format("cannot start the thread behind a descriptor: {}", error.what()));
    }
    threads.push_back(thread);
    thread->add(entry);
    return thread;
  }

  ~DescriptorThread() {
    stopping_.store(true, std::memory_order_release);  // acquired by run()
    kick();
    if (thread_.joinable()) thread_.join();
  }

  bool add(WakeDescriptor* entry) {
    const std::lock_guard lock(mutex_);
    if (entries_.size() >= kEntriesMax) return false;
    entries_.push_back(entry);
    return true;
  }
  void remove(WakeDescriptor* entry) {
    const std::lock_guard lock(mutex_);
    std::erase(entries_, entry);
  }
  // The thread waits on an old list: let it look again.
  void kick() {
    HardwareAtomics::add(kick_, 1U, std::memory_order_release);
    futex_wake(&kick_, 1);
  }

 private:
  void run() {
    u64 bound_ns = kSleepMostNs;
    std::array<FutexWaiter, kFutexWaitersMax> waiters{};
    while (!stopping_.load(std::memory_order_acquire)) {
      std::size_t count = 0;
      waiters[count++] = {&kick_, HardwareAtomics::load(kick_, std::memory_order_acquire)};
      {
        const std::lock_guard lock(mutex_);
        for (WakeDescriptor* entry : entries_) {
          if (!entry->armed_.load(std::memory_order_acquire)) continue;
          const u32 seen = entry->seen_.load(std::memory_order_relaxed);
          if (HardwareAtomics::load(entry->slot_->futex, std::memory_order_acquire) != seen) {
            entry->signal();
          } else {
            waiters[count++] = {&entry->slot_->futex, seen};
          }
        }
      }
      // Nobody armed: only a kick can change that.
      const u64 deadline_ns = count == 1 ? kForever : monotonic_ns() + bound_ns;
      const FutexWaitvResult waited = futex_waitv({waiters.data(), count}, deadline_ns);
      if (waited.result == FutexResult::kTimeout) {
        const std::lock_guard lock(mutex_);
        for (WakeDescriptor* entry : entries_) {
          if (entry->armed_.load(std::memory_order_acquire)) entry->signal();
        }
        bound_ns = std::min(bound_ns * 2, kSleepIdleNs);
      } else if (waited.result == FutexResult::kWoken && waited.index != 0) {
        bound_ns = kSleepMostNs;
      }
    }
  }

  std::mutex mutex_;
  std::vector<WakeDescriptor*> entries_;
  u32 kick_ = 0;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

Result<std::unique_ptr<WakeDescriptor>> WakeDescriptor::make(layout::WakeSlot& slot) {
  // Readable from the start: there may be messages already, and the first receive that finds none arms it.
  File event(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.is_open()) return fail_errno(errno, "cannot make an eventfd for a consumer");
  std::unique_ptr<WakeDescriptor> descriptor(new WakeDescriptor(slot, std::move(event)));
  Result<std::shared_ptr<DescriptorThread>> thread = DescriptorThread::with_room_for(descriptor.get());
  if (!thread) return fail(thread.error());
  descriptor->thread_ = std::move(*thread);
  return descriptor;
}

WakeDescriptor::~WakeDescriptor() {
  if (thread_ != nullptr) thread_->remove(this);
}

void WakeDescriptor::signal() {
  // Disarmed first: once the application sees the descriptor it may arm it again at once.
  armed_.store(false, std::memory_order_release);
  const u64 one = 1;
  while (::write(event_.fd(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

void WakeDescriptor::rearm() {
  // Emptied first: a signal may have come late, behind the arming before. If we are armed still, the next one is yet
  // to be written.
  u64 drained = 0;
  while (::read(event_.fd(), &drained, sizeof drained) < 0 && errno == EINTR) {
  }
  if (armed_.load(std::memory_order_acquire)) return;
  // SLEEPING and WOKEN as in sleeper.hpp; whoever wakes takes the sleeper off.
  const u32 word = HardwareAtomics::load(slot_->futex, std::memory_order_acquire);
  // The word stands where it stood: nobody was woken since, so we are counted still.
  if (!counted_ || word != seen_.load(std::memory_order_relaxed)) {
    HardwareAtomics::add(slot_->sleepers, 1U, std::memory_order_acq_rel);
    counted_ = true;
  }
  seen_.store(word, std::memory_order_relaxed);
  HardwareAtomics::sleep_fence();
  armed_.store(true, std::memory_order_release);
  thread_->kick();
}

}  // namespace mooring
