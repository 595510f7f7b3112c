#include "queue/durable_watch.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/atomics.hpp"
#include "queue/wake_descriptor.hpp"

namespace mooring {

struct DurableWatch::Watched {
  std::shared_ptr<Queue> queue;
  Call call;
  std::unique_ptr<WakeDescriptor> descriptor;
  u64 told = 0;        // the thread's own
  bool ended = false;  // the thread's own
};

class DurableWatch::Thread {
 public:
  // The one of this process; started if need be. Threads do not cross fork: a child starts its own.
  static Result<std::shared_ptr<Thread>> join_in() {
    const std::lock_guard lock(registry().mutex);
    if (registry().owner != ::getpid()) {
      // Its end would be waited for in vain.
      if (registry().thread != nullptr) static_cast<void>(new std::shared_ptr<Thread>(registry().thread));
      registry().thread.reset();
      registry().owner = ::getpid();
    }
    if (registry().thread == nullptr) {
      auto thread = std::make_shared<Thread>();
      if (!thread->bell_.is_open()) return fail_errno(errno, "cannot make an eventfd for the calls of durable queues");
      if (Status started = thread->start(thread); !started) return fail(started.error());
      registry().thread = std::move(thread);
    }
    ++registry().thread->users_;
    return registry().thread;
  }
  static void leave(const std::shared_ptr<Thread>& thread) {
    {
      const std::lock_guard lock(registry().mutex);
      if (--thread->users_ != 0) return;
      registry().thread.reset();
    }
    {
      const std::lock_guard lock(thread->mutex_);
      thread->stopping_ = true;
    }
    thread->ring();
    if (thread->is_self()) {
      thread->thread_.detach();  // it holds what it still needs
    } else {
      thread->thread_.join();
    }
  }

  void add(const std::shared_ptr<Watched>& watched) {
    const std::lock_guard lock(mutex_);
    watched_.push_back(watched);
    ring();
  }
  void remove(const std::shared_ptr<Watched>& watched) {
    std::unique_lock lock(mutex_);
    std::erase(watched_, watched);
    if (is_self()) return;
    changed_.wait(lock, [&] { return running_ != watched; });
  }

 private:
  struct Registry {
    std::mutex mutex;
    std::shared_ptr<Thread> thread;
    pid_t owner = 0;
  };
  // Never destroyed: a process may end with watches.
  static Registry& registry() {
    static auto* const one = new Registry;
    return *one;
  }

  Status start(const std::shared_ptr<Thread>& self) {
    // Signals are the application's: its threads get them.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    Status started;
    try {
      thread_ = std::thread([self] { self->run(); });
    } catch (const std::system_error& error) {
      started = fail(Code::kNoMemory,
                     fmt::format("cannot start the thread behind the calls of durable queues: {}", error.what()));
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return started;
  }
  bool is_self() const { return thread_.get_id() == std::this_thread::get_id(); }
  void ring() const {
    const u64 one = 1;
    while (::write(bell_.fd(), &one, sizeof one) < 0 && errno == EINTR) {
    }
  }

  void run() {
    std::vector<std::shared_ptr<Watched>> known;
    std::vector<pollfd> polled;
    for (;;) {
      known.clear();
      polled.assign(1, {bell_.fd(), POLLIN, 0});
      {
        const std::lock_guard lock(mutex_);
        if (stopping_) return;
        for (const auto& watched : watched_) {
          if (watched->ended) continue;
          known.push_back(watched);
          polled.push_back({watched->descriptor->fd(), POLLIN, 0});
        }
      }
      if (::poll(polled.data(), polled.size(), -1) < 0) continue;
      u64 rung = 0;
      if (polled[0].revents != 0) (void)!::read(bell_.fd(), &rung, sizeof rung);
      for (std::size_t i = 0; i < known.size(); ++i) {
        if (polled[i + 1].revents != 0) look(known[i]);
      }
    }
  }

  void look(const std::shared_ptr<Watched>& watched) {
    watched->descriptor->rearm();
    const layout::QueueState& state = watched->queue->files().state();
    // Before the mark: what the journal announced before it failed is told. Relaxed: a hint that stays.
    const u64 life = HardwareAtomics::load(state.journal_life, std::memory_order_relaxed);
    Code result = Code::kOk;
    if (static_cast<layout::JournalLife>(life) == layout::JournalLife::kFailed) result = Code::kIo;
    if (!watched->queue->check_open()) result = Code::kClosed;
    const u64 durable = HardwareAtomics::load(state.durable_seq, std::memory_order_acquire);  // DURABLE
    if (result == Code::kOk && durable <= watched->told) return;
    {
      const std::lock_guard lock(mutex_);
      if (std::ranges::find(watched_, watched) == watched_.end()) return;
      running_ = watched;
    }
    watched->told = durable;
    watched->ended = result != Code::kOk;
    watched->call(durable, result);
    const std::lock_guard lock(mutex_);
    running_.reset();
    changed_.notify_all();
  }

  File bell_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<Watched>> watched_;  // guarded by mutex_, as the next two
  std::shared_ptr<Watched> running_;
  bool stopping_ = false;
  u64 users_ = 0;  // guarded by the registry's mutex
  std::thread thread_;
};

Result<std::unique_ptr<DurableWatch>> DurableWatch::make(std::shared_ptr<Queue> queue, Call call) {
  std::unique_ptr<DurableWatch> watch(new DurableWatch);
  watch->watched_ = std::make_shared<Watched>();
  // Readable from the start, so the first look is made at once.
  Result<std::unique_ptr<WakeDescriptor>> descriptor = WakeDescriptor::make(queue->files().wake()->durable);
  if (!descriptor) return fail(descriptor.error());
  watch->watched_->descriptor = std::move(*descriptor);
  watch->watched_->queue = std::move(queue);
  watch->watched_->call = std::move(call);
  Result<std::shared_ptr<Thread>> thread = Thread::join_in();
  if (!thread) return fail(thread.error());
  watch->thread_ = std::move(*thread);
  watch->thread_->add(watch->watched_);
  return watch;
}

DurableWatch::~DurableWatch() {
  if (thread_ == nullptr) return;
  thread_->remove(watched_);
  Thread::leave(thread_);
}

}  // namespace mooring
