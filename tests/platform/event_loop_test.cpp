// Shows that the loop calls whom it should and nobody else, whatever callbacks do to it, and that timers, events and
// signals arrive as readable descriptors. Everything is made ready before it is waited for.

#include "platform/event_loop.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "scratch.hpp"

namespace mooring {
namespace {

TEST(EventLoop, CallsBackWhileReadable) {
  EventLoop loop = take(EventLoop::create());
  const File event = take(make_event());
  int calls = 0;
  MOORING_EXPECT_OK(loop.add(event.fd(), [&] { ++calls; }));
  EXPECT_EQ(take(loop.run_once(0)), 0U);
  notify_event(event);
  EXPECT_EQ(take(loop.run_once(kForever)), 1U);
  EXPECT_EQ(take(loop.run_once(kForever)), 1U);  // Nobody has read it.
  EXPECT_EQ(take_count(event), 1U);
  EXPECT_EQ(take(loop.run_once(0)), 0U);
  EXPECT_EQ(calls, 2);
}

TEST(EventLoop, RemovedInACallbackIsNotCalledAnyMore) {
  EventLoop loop = take(EventLoop::create());
  const File first = take(make_event());
  const File second = take(make_event());
  int calls = 0;
  // Whichever comes first removes both, itself included.
  const auto remove_both = [&] {
    ++calls;
    loop.remove(first.fd());
    loop.remove(second.fd());
  };
  MOORING_EXPECT_OK(loop.add(first.fd(), remove_both));
  MOORING_EXPECT_OK(loop.add(second.fd(), remove_both));
  notify_event(first);
  notify_event(second);
  EXPECT_EQ(take(loop.run_once(kForever)), 1U);
  EXPECT_EQ(take(loop.run_once(0)), 0U);
  EXPECT_EQ(calls, 1);
}

TEST(EventLoop, NumberUsedAgainIsNotTakenForTheOldOne) {
  EventLoop loop = take(EventLoop::create());
  std::vector<File> events;
  for (int i = 0; i < 2; ++i) events.push_back(take(make_event()));
  int new_calls = 0;
  int calls = 0;
  // The first callback replaces the other descriptor, which was reported as ready too, by a quiet one of its number.
  const auto replace = [&](std::size_t other) {
    ++calls;
    const int fd = events[other].fd();
    loop.remove(fd);
    events[other] = File();
    events[other] = take(make_event());
    ASSERT_EQ(events[other].fd(), fd);
    MOORING_EXPECT_OK(loop.add(fd, [&] { ++new_calls; }));
  };
  MOORING_EXPECT_OK(loop.add(events[0].fd(), [&] { replace(1); }));
  MOORING_EXPECT_OK(loop.add(events[1].fd(), [&] { replace(0); }));
  for (const File& event : events) notify_event(event);
  EXPECT_EQ(take(loop.run_once(kForever)), 1U);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(new_calls, 0);
}

TEST(EventLoop, ReportsAPeerThatHungUp) {
  EventLoop loop = take(EventLoop::create());
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const File read_end(ends[0]);
  File write_end(ends[1]);
  int calls = 0;
  MOORING_EXPECT_OK(loop.add(read_end.fd(), [&] { ++calls; }));
  EXPECT_EQ(take(loop.run_once(0)), 0U);
  write_end = File();
  EXPECT_EQ(take(loop.run_once(kForever)), 1U);
  EXPECT_EQ(calls, 1);
}

TEST(EventLoop, RefusesWhatCannotBeWatched) {
  EventLoop loop = take(EventLoop::create());
  EXPECT_FALSE(loop.add(-1, [] {}).has_value());
  const File event = take(make_event());
  MOORING_EXPECT_OK(loop.add(event.fd(), [] {}));
  EXPECT_FALSE(loop.add(event.fd(), [] {}).has_value());
  loop.remove(12345);
}

TEST(EventLoop, TimeoutEndsTheWait) {
  EventLoop loop = take(EventLoop::create());
  const u64 start_ns = monotonic_ns();
  EXPECT_EQ(take(loop.run_once(kNsPerMs)), 0U);
  EXPECT_GE(monotonic_ns(), start_ns + kNsPerMs);
}

TEST(Timer, ExpiresOnceOrRepeatedlyOrNever) {
  EventLoop loop = take(EventLoop::create());
  const File timer = take(make_timer());
  u64 expirations = 0;
  MOORING_EXPECT_OK(loop.add(timer.fd(), [&] { expirations += take_count(timer); }));
  EXPECT_EQ(take(loop.run_once(0)), 0U);
  MOORING_EXPECT_OK(set_timer(timer, 0));  // Long past: due at once.
  EXPECT_EQ(take(loop.run_once(kForever)), 1U);
  EXPECT_EQ(expirations, 1U);
  EXPECT_EQ(take_count(timer), 0U);
  MOORING_EXPECT_OK(set_timer(timer, monotonic_ns(), kNsPerMs));
  while (expirations < 4) EXPECT_EQ(take(loop.run_once(kForever)), 1U);
  MOORING_EXPECT_OK(set_timer(timer, kForever));
  EXPECT_EQ(take_count(timer), 0U);
}

TEST(Event, CountsNotifications) {
  const File event = take(make_event());
  EXPECT_EQ(take_count(event), 0U);
  notify_event(event);
  notify_event(event);
  EXPECT_EQ(take_count(event), 2U);
  EXPECT_EQ(take_count(event), 0U);
}

TEST(SignalFile, MakesASignalReadableInsteadOfDeadly) {
  Child child([] {
    const File signals = take(make_signal_file({SIGTERM, SIGINT}));
    EventLoop loop = take(EventLoop::create());
    std::optional<int> came;
    if (!loop.add(signals.fd(), [&] { came = take_signal(signals); })) return 1;
    ::raise(SIGTERM);
    if (take(loop.run_once(kForever)) != 1 || came != SIGTERM) return 2;
    return take_signal(signals).has_value() ? 3 : 0;
  });
  EXPECT_EQ(child.exit_code(), 0);
  MOORING_EXPECT_FAILS(make_signal_file({99999}), Code::kBadArgument, "99999");
}

}  // namespace
}  // namespace mooring
