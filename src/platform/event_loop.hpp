// A small epoll loop and the descriptors one waits for with it: timers, events, signals.
//
// One thread at a time. A callback may add and remove any descriptor, its own included: a descriptor removed in a
// callback is not called any more, also if the kernel had reported it already or its number is used again.
// Level-triggered: a callback that leaves input unread is called again.
//
// TESTED BY  platform/event_loop_test
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <unordered_map>

#include "base/time.hpp"
#include "platform/file.hpp"

namespace mooring {

class EventLoop {
 public:
  using Callback = std::function<void()>;

  static Result<EventLoop> create();

  // Calls back while `fd` is readable, hung up or in error. The descriptor stays with the caller, who removes it
  // before closing it.
  Status add(int fd, Callback callback);
  void remove(int fd);
  // Waits until something is ready, at most `timeout_ns` (0 only looks, kForever), and calls back. Returns how many
  // callbacks ran: 0 after the time, or after a signal.
  Result<std::size_t> run_once(u64 timeout_ns);

 private:
  struct Watch {
    int fd = -1;
    Callback callback;
  };
  explicit EventLoop(File epoll) : epoll_(std::move(epoll)) {}

  File epoll_;
  // By serial, which is what epoll carries: unlike a descriptor it is never used again.
  std::unordered_map<u64, std::shared_ptr<Watch>> watches_;
  std::unordered_map<int, u64> serial_of_fd_;
  u64 next_serial_ = 1;
};

// A timer of CLOCK_MONOTONIC, off until set.
Result<File> make_timer();
// Expires at `deadline_ns` (kForever turns it off; a time past is due at once), then each `interval_ns` if not 0.
Status set_timer(const File& timer, u64 deadline_ns, u64 interval_ns = 0);

// A descriptor that becomes readable by notify_event(), from any thread, also from a signal handler.
Result<File> make_event();
void notify_event(const File& event);

// Takes what a timer or an event has counted and makes it unreadable again. 0 if nothing happened.
u64 take_count(const File& timer_or_event);

// Blocks these signals for the calling thread (and threads it starts later) and makes them readable instead.
Result<File> make_signal_file(std::initializer_list<int> signals);
// The number of the next signal that has come, if any.
std::optional<int> take_signal(const File& signal_file);

}  // namespace mooring
