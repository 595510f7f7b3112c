// The callback for the durable position: it is told of every message, never too early and never backwards; it ends when
// it is asked to, also from inside, and says why it ends by itself.
#include <poll.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "durable_service.hpp"
#include "loop_disk.hpp"

namespace mooring {
namespace {

using namespace test;

constexpr int kPatienceMs = static_cast<int>(kPatienceNs / 1'000'000);

// What a callback was told.
struct Told {
  std::mutex mutex;
  std::condition_variable changed;
  std::uint64_t durable_seq = 0;
  std::uint64_t calls = 0;
  int result = MOORING_OK;
  bool went_back = false;
  std::thread::id thread;
  bool (*instead)(Told& told) = nullptr;  // runs in the call; true: that is all
  Producer* producer = nullptr;
  bool entered = false;
  bool may_leave = false;

  static void call(std::uint64_t seq, int result, void* user) {
    Told& told = *static_cast<Told*>(user);
    if (told.instead != nullptr && told.instead(told)) return;
    const std::lock_guard lock(told.mutex);
    // A call that ends it may repeat the position.
    told.went_back = told.went_back || seq < told.durable_seq || (seq == told.durable_seq && result == MOORING_OK);
    told.durable_seq = seq;
    told.result = result;
    told.thread = std::this_thread::get_id();
    ++told.calls;
    told.changed.notify_all();
  }
  template <class Ready>
  bool wait(Ready&& ready) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::nanoseconds(kPatienceNs), ready);
  }
};

class DurableCallback : public ::testing::TestWithParam<std::uint32_t> {
 protected:
  DurableCallback() { service_.start(); }
  DurableService service_;
};
INSTANTIATE_TEST_SUITE_P(Kinds, DurableCallback, ::testing::Values(MOORING_KIND_SPSC, MOORING_KIND_MPMC),
                         [](const auto& kind) { return kind.param == MOORING_KIND_SPSC ? "Spsc" : "Mpmc"; });

// The descriptor, as an event loop uses it: it is readable when more has become durable than durable_seq() last said,
// and never while nothing has.
TEST_P(DurableCallback, TheDescriptorSaysWhenThereIsMore) {
  Instance instance(service_.path());
  instance.create_queue("q", durable_options(GetParam()));
  const mooring_producer_options options = no_wait();
  Producer producer = instance.open_producer("q", &options);
  Consumer consumer = instance.open_consumer("q");
  pollfd readable{producer.durable_fd(), POLLIN, 0};
  for (int i = 0; i < 200; ++i) {
    const auto seq = producer.publish(std::to_string(i));
    ASSERT_TRUE(seq.has_value());
    while (producer.durable_seq() <= *seq) ASSERT_EQ(::poll(&readable, 1, kPatienceMs), 1) << i;
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message.has_value() && consumer.ack(*message));
  }
  // A stopped journal makes nothing durable, and goes on to say so when it goes on.
  service_.stop_supervisor();
  const std::uint64_t before = producer.durable_seq();
  const auto seq = producer.publish("while nobody writes");
  ASSERT_TRUE(seq.has_value());
  while (::poll(&readable, 1, 0) == 1) ASSERT_EQ(producer.durable_seq(), before) << "a spurious one";
  service_.continue_supervisor();
  while (producer.durable_seq() <= *seq) ASSERT_EQ(::poll(&readable, 1, kPatienceMs), 1);
}

TEST_P(DurableCallback, IsToldOfEveryMessageAndNeverTooEarly) {
  Instance instance(service_.path());
  instance.create_queue("q", durable_options(GetParam()));
  const mooring_producer_options options = no_wait();
  Producer producer = instance.open_producer("q", &options);
  Consumer consumer = instance.open_consumer("q");
  Told told;
  producer.set_durable_callback(&Told::call, &told);
  // At once, with what is durable already.
  ASSERT_TRUE(told.wait([&] { return told.calls != 0; }));
  // Each publish races with the arming behind the call before.
  for (int i = 0; i < 1000; ++i) {
    const auto seq = producer.publish(std::to_string(i));
    ASSERT_TRUE(seq.has_value());
    ASSERT_TRUE(told.wait([&] { return told.durable_seq > *seq; })) << i;
    ASSERT_LE(told.durable_seq, producer.durable_seq());
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message.has_value() && consumer.ack(*message));
  }
  EXPECT_FALSE(told.went_back);
  EXPECT_EQ(told.result, MOORING_OK);
  EXPECT_NE(told.thread, std::this_thread::get_id());
  // While the journal stands nothing becomes durable, and nobody is told so.
  service_.stop_supervisor();
  const std::uint64_t before = told.durable_seq;
  const auto seq = producer.publish("later");
  EXPECT_EQ(mooring_wait_durable(producer.get(), *seq, 1'000'000), MOORING_TIMEOUT);
  EXPECT_EQ(told.durable_seq, before);
  service_.continue_supervisor();
  EXPECT_TRUE(told.wait([&] { return told.durable_seq > *seq; }));
}

TEST_P(DurableCallback, GoesOnOverAKilledSupervisor) {
  Instance instance(service_.path());
  instance.create_queue("q", durable_options(GetParam()));
  const mooring_producer_options options = no_wait();
  Producer producer = instance.open_producer("q", &options);
  Told told;
  producer.set_durable_callback(&Told::call, &told);
  service_.kill_supervisor();
  const auto seq = producer.publish("while nobody serves");
  ASSERT_TRUE(seq.has_value());
  service_.start();
  EXPECT_TRUE(told.wait([&] { return told.durable_seq > *seq; }));
  EXPECT_EQ(told.result, MOORING_OK);
}

TEST_P(DurableCallback, EndedItIsNeverCalledAgainAndAnotherTakesItsPlace) {
  Instance instance(service_.path());
  instance.create_queue("q", durable_options(GetParam()));
  Producer producer = instance.open_producer("q");
  // Another queue's, so that the thread does not end with the watch.
  instance.create_queue("other", durable_options(GetParam()));
  Producer other = instance.open_producer("other");
  Told of_other;
  other.set_durable_callback(&Told::call, &of_other);
  ASSERT_TRUE(of_other.wait([&] { return of_other.calls != 0; }));
  // One that is inside while it is ended: that waits for it.
  Told slow;
  slow.instead = [](Told& told) {
    std::unique_lock lock(told.mutex);
    told.entered = true;
    told.changed.notify_all();
    told.changed.wait(lock, [&] { return told.may_leave; });
    ++told.calls;
    return true;
  };
  producer.set_durable_callback(&Told::call, &slow);
  ASSERT_TRUE(slow.wait([&] { return slow.entered; }));
  std::thread letting([&] {
    // Late, so that who does not wait is seen; right is what waits, however long.
    for (int i = 0; i < 20'000; ++i) ::sched_yield();
    const std::lock_guard lock(slow.mutex);
    slow.may_leave = true;
    slow.changed.notify_all();
  });
  Told told;
  producer.set_durable_callback(&Told::call, &told);
  const std::uint64_t calls_of_slow = slow.calls;  // no lock: it is over
  letting.join();
  EXPECT_EQ(calls_of_slow, 1U);
  const auto seq = producer.publish("x");
  ASSERT_TRUE(told.wait([&] { return told.durable_seq > *seq; }));
  producer.set_durable_callback(nullptr, nullptr);
  const std::uint64_t calls = told.calls;
  ASSERT_TRUE(producer.publish("y").has_value());
  // With the last watch the thread ends; a later one has a thread of its own.
  other.close();
  Told again;
  producer.set_durable_callback(&Told::call, &again);
  ASSERT_TRUE(again.wait([&] { return again.calls != 0; }));
  EXPECT_EQ(told.calls, calls);
  EXPECT_EQ(slow.calls, calls_of_slow);
}

TEST_P(DurableCallback, MayBeEndedFromInside) {
  Instance instance(service_.path());
  instance.create_queue("q", durable_options(GetParam()));
  Producer producer = instance.open_producer("q");
  Told told;
  told.producer = &producer;
  told.instead = [](Told& inside) {
    // Nobody else uses the producer at this moment.
    inside.producer->set_durable_callback(nullptr, nullptr);
    return false;
  };
  producer.set_durable_callback(&Told::call, &told);
  ASSERT_TRUE(told.wait([&] { return told.calls != 0; }));
  ASSERT_TRUE(producer.publish("x").has_value());
  Told next;
  producer.set_durable_callback(&Told::call, &next);
  ASSERT_TRUE(next.wait([&] { return next.calls != 0; }));
  EXPECT_EQ(told.calls, 1U);
}

TEST_P(DurableCallback, RemovedAndClosedQueuesEndIt) {
  Instance instance(service_.path());
  instance.create_queue("q", durable_options(GetParam()));
  Told told;
  {
    Producer producer = instance.open_producer("q");
    producer.set_durable_callback(&Told::call, &told);
    ASSERT_TRUE(told.wait([&] { return told.calls != 0; }));
    instance.remove_queue("q");
    EXPECT_TRUE(told.wait([&] { return told.result == MOORING_ERR_CLOSED; }));
  }
  instance.create_queue("v");
  Producer producer = instance.open_producer("v");
  EXPECT_EQ(mooring_durable_callback(producer.get(), &Told::call, &told), MOORING_ERR_BAD_ARGUMENT);
  EXPECT_EQ(mooring_durable_callback(nullptr, &Told::call, &told), MOORING_ERR_BAD_ARGUMENT);
}

TEST_P(DurableCallback, AChildOfForkMakesNoCallsAndMayHaveItsOwn) {
  Instance instance(service_.path());
  instance.create_queue("q", durable_options(MOORING_KIND_MPMC));
  Producer producer = instance.open_producer("q");
  Told told;
  producer.set_durable_callback(&Told::call, &told);
  ASSERT_TRUE(told.wait([&] { return told.calls != 0; }));
  Worker child([&](const Worker::Line&) {
    if (mooring_durable_callback(producer.get(), nullptr, nullptr) != MOORING_ERR_FORKED) return 1;
    producer.close();
    Instance own(service_.path());
    Producer mine = own.open_producer("q");
    Told heard;
    mine.set_durable_callback(&Told::call, &heard);
    const auto seq = mine.publish("from the child");
    return seq.has_value() && heard.wait([&] { return heard.durable_seq > *seq; }) ? 0 : 2;
  });
  EXPECT_EQ(child.join(), 0);
  const auto seq = producer.publish("from the parent");
  EXPECT_TRUE(told.wait([&] { return told.durable_seq > *seq; }));
}

TEST(DurableCallbackOnADisk, IsToldOnceThatTheJournalFailed) {
  LoopDisk disk("ext4");
  if (!disk.trouble().empty()) GTEST_SKIP() << disk.trouble();
  DurableService service(disk.mount_point() + "/data");
  service.start();
  Instance instance(service.path());
  instance.create_queue("q", durable_options());
  const mooring_producer_options options = no_wait();
  Producer producer = instance.open_producer("q", &options);
  Told told;
  producer.set_durable_callback(&Told::call, &told);
  const auto safe = producer.publish("safe");
  ASSERT_TRUE(told.wait([&] { return told.durable_seq > *safe; }));
  ASSERT_TRUE(disk.cut()) << std::strerror(errno);
  const auto lost = producer.publish("lost");
  ASSERT_TRUE(lost.has_value());
  ASSERT_TRUE(told.wait([&] { return told.result == MOORING_ERR_IO; }));
  EXPECT_LE(told.durable_seq, *lost);
  service.kill_supervisor();
}

}  // namespace
}  // namespace mooring
