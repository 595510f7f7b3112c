#include "platform/event_loop.hpp"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace mooring {
namespace {

constexpr int kEventsAtOnce = 64;

timespec timespec_of(u64 ns) {
  timespec time{};
  time.tv_sec = static_cast<time_t>(ns / kNsPerSecond);
  time.tv_nsec = static_cast<long>(ns % kNsPerSecond);
  return time;
}

int wait_for_events(int epoll_fd, epoll_event* events, u64 timeout_ns) {
  const timespec timeout = timespec_of(timeout_ns);
  const int count =
      ::epoll_pwait2(epoll_fd, events, kEventsAtOnce, timeout_ns == kForever ? nullptr : &timeout, nullptr);
  if (count >= 0 || (errno != ENOSYS && errno != EPERM)) return count;
  // Sandboxes that know only the older call: milliseconds, rounded up so that a short wait is no busy loop.
  const u64 ms = timeout_ns / kNsPerMs + (timeout_ns % kNsPerMs != 0 ? 1 : 0);
  return ::epoll_wait(epoll_fd, events, kEventsAtOnce,
                      timeout_ns == kForever ? -1 : static_cast<int>(std::min<u64>(ms, 1U << 30)));
}

}  // namespace

Result<EventLoop> EventLoop::create() {
  File epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.is_open()) return fail_errno(errno, "cannot make an epoll set");
  return EventLoop(std::move(epoll));
}

Status EventLoop::add(int fd, Callback callback) {
  const u64 serial = next_serial_++;
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP;
  event.data.u64 = serial;
  if (::epoll_ctl(epoll_.fd(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return fail_errno(errno, "cannot watch descriptor " + std::to_string(fd));
  }
  // A number closed without remove() may come back as a new descriptor: the old watch is nobody's then.
  if (const auto old = serial_of_fd_.find(fd); old != serial_of_fd_.end()) watches_.erase(old->second);
  serial_of_fd_[fd] = serial;
  watches_[serial] = std::make_shared<Watch>(Watch{fd, std::move(callback)});
  return {};
}

void EventLoop::remove(int fd) {
  const auto found = serial_of_fd_.find(fd);
  if (found == serial_of_fd_.end()) return;
  ::epoll_ctl(epoll_.fd(), EPOLL_CTL_DEL, fd, nullptr);
  watches_.erase(found->second);
  serial_of_fd_.erase(found);
}

Result<std::size_t> EventLoop::run_once(u64 timeout_ns) {
  std::array<epoll_event, kEventsAtOnce> events{};
  const int count = wait_for_events(epoll_.fd(), events.data(), timeout_ns);
  if (count < 0) {
    if (errno == EINTR) return std::size_t{0};
    return fail_errno(errno, "cannot wait for events");
  }
  std::size_t called = 0;
  for (int i = 0; i < count; ++i) {
    const auto found = watches_.find(events[static_cast<std::size_t>(i)].data.u64);
    if (found == watches_.end()) continue;  // An earlier callback has removed it.
    // Held, so that a callback may remove its own descriptor.
    const std::shared_ptr<Watch> watch = found->second;
    watch->callback();
    ++called;
  }
  return called;
}

Result<File> make_timer() {
  File timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer.is_open()) return fail_errno(errno, "cannot make a timer");
  return timer;
}

Status set_timer(const File& timer, u64 deadline_ns, u64 interval_ns) {
  itimerspec when{};
  if (deadline_ns != kForever) {
    // All zeros would turn the timer off.
    when.it_value = timespec_of(std::max<u64>(deadline_ns, 1));
    when.it_interval = timespec_of(interval_ns);
  }
  if (::timerfd_settime(timer.fd(), TFD_TIMER_ABSTIME, &when, nullptr) != 0) {
    return fail_errno(errno, "cannot set a timer");
  }
  return {};
}

Result<File> make_event() {
  File event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.is_open()) return fail_errno(errno, "cannot make an event descriptor");
  return event;
}

void notify_event(const File& event) {
  const int saved_errno = errno;
  const u64 one = 1;
  // Fails only when 2^64 - 2 notifications are waiting: readable all the same.
  static_cast<void>(!::write(event.fd(), &one, sizeof(one)));
  errno = saved_errno;
}

u64 take_count(const File& timer_or_event) {
  u64 count = 0;
  if (::read(timer_or_event.fd(), &count, sizeof(count)) != static_cast<ssize_t>(sizeof(count))) return 0;
  return count;
}

Result<File> make_signal_file(std::initializer_list<int> signals) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal_number : signals) {
    if (::sigaddset(&set, signal_number) != 0) {
      return fail(Code::kBadArgument, std::to_string(signal_number) + " is not a signal");
    }
  }
  if (const int error_number = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); error_number != 0) {
    return fail_errno(error_number, "cannot block signals");
  }
  File file(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!file.is_open()) return fail_errno(errno, "cannot make a signal descriptor");
  return file;
}

std::optional<int> take_signal(const File& signal_file) {
  signalfd_siginfo info{};
  if (::read(signal_file.fd(), &info, sizeof(info)) != static_cast<ssize_t>(sizeof(info))) return std::nullopt;
  return static_cast<int>(info.ssi_signo);
}

}  // namespace mooring
