// The circuit breaker of a group, with a real mooringd and real consumers: it opens when what the group does fails,
// lets exactly one message through, and closes or stays; beside a user's pause, over deaths of the canary's consumer,
// and over kills of the supervisor in each state.
#include <gtest/gtest.h>

#include <set>

#include "base/atomics.hpp"
#include "delivery/breaker.hpp"
#include "delivery/decision.hpp"
#include "durable/durable_service.hpp"
#include "segment/dead_letters.hpp"
#include "segment/instance_paths.hpp"

namespace mooring {
namespace {

using namespace test;

constexpr std::uint32_t kSpsc = MOORING_KIND_SPSC;
constexpr std::uint32_t kMpmc = MOORING_KIND_MPMC;
using Settings = std::vector<std::pair<std::string, std::string>>;

struct GroupBreaker : ::testing::Test {
  GroupBreaker() { service.start(); }

  Instance open(std::uint32_t kind = kMpmc, bool durable = false) {
    Instance instance(service.path());
    mooring_queue_options options;
    mooring_queue_options_init(&options, sizeof options);
    if (durable) options = durable_options();
    options.kind = kind;
    options.capacity = 4096;
    instance.create_queue("q", options);
    return instance;
  }
  // Failures wait an hour, so that what comes is never one of them.
  static void set(Instance& instance, const Settings& more, const std::string& group = "default") {
    Settings settings = {{"retry_initial", "1h"},  {"retry_max", "1h"},     {"breaker", "on"},
                         {"breaker_minimum", "5"}, {"breaker_delay", "1h"}, {"breaker_delay_max", "1h"},
                         {"breaker_window", "1h"}};
    settings.insert(settings.end(), more.begin(), more.end());
    for (const auto& [key, value] : settings) instance.set_group("q", group, key, value);
  }
  QueueFiles files() const {
    const InstancePaths paths = *resolve_instance(service.path(), false);
    const File shared = std::move(*open_shared_directory(paths.shared_directory, paths.owner, false));
    QueueFiles::AttachOptions options;
    return std::move(*QueueFiles::attach(shared, paths.owner, "q", options));
  }
  // As the files say it, which is how anybody else sees it.
  u32 paused(u32 index = 0) const {
    return HardwareAtomics::load(files().group_slot(index).paused, std::memory_order_acquire);
  }
  bool comes_to(u32 bits, u32 index = 0) const {
    const QueueFiles queue = files();
    return eventually([&] {
      const u32 now = HardwareAtomics::load(queue.group_slot(index).paused, std::memory_order_acquire);
      return (now & (layout::kGroupPauses | layout::kGroupCanary)) == bits;
    });
  }
  bool opened(u32 index = 0) const { return comes_to(layout::kGroupPausedByBreaker, index); }
  bool half_open(u32 index = 0) const { return comes_to(layout::kGroupPausedByBreaker | layout::kGroupCanary, index); }
  bool closed(u32 index = 0) const { return comes_to(0, index); }
  layout::GroupCounters counters() const { return files().group_slot(0).counters; }

  DurableService service;
};

const mooring_message& got(const std::optional<mooring_message>& message) {
  if (!message.has_value()) throw std::runtime_error("nothing came");
  return *message;
}

void fail_messages(Consumer& consumer, int count) {
  for (int i = 0; i < count; ++i) ASSERT_TRUE(consumer.nack(got(consumer.receive(kPatienceNs))));
}

int outcome(Consumer& consumer) {
  mooring_message message;
  return consumer.try_receive(&message, 0);
}

TEST_F(GroupBreaker, WhatFailsOpensItOneMessageIsLetThroughAndItsAckCloses) {
  Instance instance = open();
  set(instance, {{"breaker_delay", "1ms"}});
  Producer producer = instance.open_producer("q");
  Consumer one = instance.open_consumer("q");
  Consumer other = instance.open_consumer("q");
  for (int i = 0; i < 20; ++i) producer.publish(std::to_string(i));
  fail_messages(one, 5);
  ASSERT_TRUE(half_open());
  EXPECT_EQ(counters().breaker_opened_total, 1U);
  const mooring_message canary = got(other.receive(kPatienceNs));
  EXPECT_EQ(canary.attempt, 1U) << "one that never failed, not one of those that did";
  EXPECT_EQ(outcome(one), MOORING_PAUSED) << "one, not two";
  EXPECT_EQ(outcome(other), MOORING_PAUSED);
  EXPECT_TRUE(other.ack(canary));
  std::set<std::string> rest;
  for (int i = 0; i < 14; ++i) {
    const mooring_message message = got(one.receive(kPatienceNs));
    EXPECT_EQ(message.attempt, 1U);
    rest.insert(text_of(message));
    EXPECT_TRUE(one.ack(message));
  }
  EXPECT_EQ(rest.size(), 14U);
  EXPECT_TRUE(closed());
  EXPECT_EQ(counters().failed_total[static_cast<int>(FailReason::kNack)], 5U);
}

TEST_F(GroupBreaker, OnePoisonMessageAndAFewAmongManyOpenNothing) {
  Instance instance = open();
  set(instance, {{"retry_initial", "0"}, {"max_deliveries", "0"}});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  producer.publish("poison");
  for (std::uint32_t attempt = 1; attempt <= 50; ++attempt) {
    const mooring_message message = got(consumer.receive(kPatienceNs));
    EXPECT_EQ(message.attempt, attempt);
    ASSERT_TRUE(consumer.nack(message));
  }
  EXPECT_EQ(counters().breaker_opened_total, 0U);
  EXPECT_TRUE(consumer.ack(got(consumer.receive(kPatienceNs))));
  // Twenty fail and as many are acknowledged, of which the supervisor hears first: less than 0.9 of them.
  instance.set_group("q", "default", "breaker_failure_ratio", "0.9");
  instance.set_group("q", "default", "retry_initial", "1h");
  for (int i = 0; i < 40; ++i) producer.publish("x");
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(consumer.ack(got(consumer.receive(kPatienceNs))));
  fail_messages(consumer, 20);
  EXPECT_TRUE(eventually([&] { return counters().waiting == 20; }));
  EXPECT_EQ(paused(), 0U);
}

TEST_F(GroupBreaker, ACanaryThatFailsOpensItForLongerAndIsChargedAlone) {
  Instance instance = open();
  set(instance, {{"breaker_delay", "1ms"}, {"breaker_delay_max", "4ms"}});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  for (int i = 0; i < 20; ++i) producer.publish(std::to_string(i));
  fail_messages(consumer, 5);
  const QueueFiles queue = files();
  const layout::GroupSlot& slot = queue.group_slot(0);
  for (u32 level = 1; level <= 4; ++level) {
    ASSERT_TRUE(half_open());
    EXPECT_EQ(layout::breaker_level(HardwareAtomics::load(slot.paused, std::memory_order_acquire)), level);
    const mooring_message canary = got(consumer.receive(kPatienceNs));
    EXPECT_EQ(canary.attempt, 1U) << "each a message of its own";
    EXPECT_TRUE(consumer.nack(canary));
    ASSERT_TRUE(eventually([&] {
      return HardwareAtomics::load(slot.counters.breaker_opened_total, std::memory_order_relaxed) == level + 1;
    }));
  }
  EXPECT_EQ(counters().failed_total[static_cast<int>(FailReason::kNack)], 9U);
  EXPECT_TRUE(eventually([&] { return counters().waiting == 9; }));
  // Rejected, which is a failure like any other.
  EXPECT_TRUE(consumer.reject(got(consumer.receive(kPatienceNs))));
  EXPECT_TRUE(eventually([&] { return counters().breaker_opened_total == 6; }));
  EXPECT_TRUE(consumer.ack(got(consumer.receive(kPatienceNs))));
  EXPECT_TRUE(closed());
}

TEST_F(GroupBreaker, WhileItIsOpenNothingIsGivenOutNorCharged) {
  Instance instance = open();
  set(instance, {{"retry_initial", "0"}, {"max_deliveries", "9"}});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  std::vector<mooring_message> held(6);
  for (int i = 0; i < 20; ++i) producer.publish(std::to_string(i));
  ASSERT_EQ(consumer.receive_batch(held, kPatienceNs), 6U);
  for (std::size_t i = 0; i < 5; ++i) ASSERT_TRUE(consumer.nack(held[i]));
  ASSERT_TRUE(opened());
  ASSERT_TRUE(eventually([&] { return counters().waiting == 0; })) << "due, and in the park table";
  EXPECT_EQ(outcome(consumer), MOORING_PAUSED);
  EXPECT_TRUE(consumer.ack(held[5])) << "what it holds it settles";
  EXPECT_EQ(outcome(consumer), MOORING_PAUSED) << "and that was no canary";
  EXPECT_EQ(counters().failed_total[static_cast<int>(FailReason::kNack)], 5U);
  instance.set_group("q", "default", "breaker", "off");
  EXPECT_EQ(paused(), 0U);
  for (int i = 0; i < 19; ++i) {
    const mooring_message message = got(consumer.receive(kPatienceNs));
    EXPECT_EQ(message.attempt, std::stoi(text_of(message)) < 5 ? 2U : 1U);
    EXPECT_TRUE(consumer.ack(message));
  }
}

TEST_F(GroupBreaker, WhereOnlyRetriesWaitOneOfThemIsLetThrough) {
  Instance instance = open();
  set(instance, {{"retry_initial", "1ms"}, {"max_deliveries", "0"}, {"breaker_delay", "1ms"}});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  std::vector<mooring_message> held(5);
  for (int i = 0; i < 5; ++i) producer.publish(std::to_string(i));
  ASSERT_EQ(consumer.receive_batch(held, kPatienceNs), 5U);
  for (const mooring_message& message : held) ASSERT_TRUE(consumer.nack(message));
  ASSERT_TRUE(half_open());
  const mooring_message canary = got(consumer.receive(kPatienceNs));
  EXPECT_EQ(canary.attempt, 2U);
  EXPECT_EQ(outcome(consumer), MOORING_PAUSED);
  EXPECT_TRUE(consumer.ack(canary));
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(consumer.ack(got(consumer.receive(kPatienceNs))));
  EXPECT_TRUE(closed());
}

TEST_F(GroupBreaker, WhereNothingIsThereTheNextMessageIsTheCanary) {
  Instance instance = open();
  set(instance, {{"breaker_delay", "1ms"}});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  for (int i = 0; i < 5; ++i) producer.publish(std::to_string(i));
  fail_messages(consumer, 5);
  ASSERT_TRUE(eventually([&] { return counters().breaker_opened_total == 1; }));
  producer.publish("next");
  const mooring_message canary = got(consumer.receive(kPatienceNs));
  EXPECT_EQ(text_of(canary), "next");
  EXPECT_TRUE(consumer.ack(canary));
  EXPECT_TRUE(closed());
}

TEST_F(GroupBreaker, AUsersPauseAndTheBreakersStandBesideEachOther) {
  Instance instance = open();
  set(instance, {{"breaker_delay", "1ms"}});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  for (int i = 0; i < 10; ++i) producer.publish(std::to_string(i));
  fail_messages(consumer, 5);
  ASSERT_TRUE(half_open());
  instance.pause_group("q", "default");
  EXPECT_EQ(outcome(consumer), MOORING_PAUSED) << "the canary waits, too";
  EXPECT_EQ(paused() & layout::kGroupPauses, layout::kGroupPausedByUser | layout::kGroupPausedByBreaker);
  EXPECT_FALSE(instance.resume_group("q", "default")) << "the breaker's own stays";
  const mooring_message canary = got(consumer.receive(kPatienceNs));
  instance.pause_group("q", "default");
  EXPECT_TRUE(consumer.ack(canary));
  EXPECT_TRUE(comes_to(layout::kGroupPausedByUser)) << "closed, and the user's stays";
  EXPECT_EQ(outcome(consumer), MOORING_PAUSED);
  EXPECT_TRUE(instance.resume_group("q", "default"));
  EXPECT_TRUE(consumer.ack(got(consumer.receive(kPatienceNs))));
}

TEST_F(GroupBreaker, ACanaryWhoseConsumerDiesFailsAndOneThatIsGivenBackIsOfferedAgain) {
  Instance instance = open();
  set(instance, {{"breaker_delay", "1ms"}});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  for (int i = 0; i < 10; ++i) producer.publish(std::to_string(i));
  fail_messages(consumer, 5);
  ASSERT_TRUE(half_open());
  EXPECT_TRUE(consumer.release(got(consumer.receive(kPatienceNs))));
  Worker victim([&](const Worker::Line& line) {
    Instance own(service.path());
    Consumer canarys = own.open_consumer("q");
    const mooring_message canary = got(canarys.receive(kPatienceNs));
    line.say(canary.attempt == 2 ? 'c' : '?');
    line.rest();
    return 0;
  });
  ASSERT_TRUE(victim.heard('c'));
  EXPECT_EQ(outcome(consumer), MOORING_PAUSED);
  victim.kill(SIGKILL);
  victim.join();
  ASSERT_TRUE(eventually([&] { return counters().breaker_opened_total == 2; }));
  EXPECT_EQ(counters().failed_total[static_cast<int>(FailReason::kCrash)], 1U);
  EXPECT_TRUE(consumer.ack(got(consumer.receive(kPatienceNs))));
  EXPECT_TRUE(closed());
}

TEST_F(GroupBreaker, ACanaryThatIsHeldTooLongFails) {
  Instance instance = open();
  set(instance, {{"breaker_delay", "1ms"}, {"breaker_delay_max", "1ms"}, {"ack_wait", "20ms"}});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  for (int i = 0; i < 10; ++i) producer.publish(std::to_string(i));
  fail_messages(consumer, 5);
  ASSERT_TRUE(half_open());
  const mooring_message canary = got(consumer.receive(kPatienceNs));
  ASSERT_TRUE(eventually([&] { return counters().breaker_opened_total == 2; }));
  EXPECT_FALSE(consumer.ack(canary)) << "stale";
  instance.set_group("q", "default", "ack_wait", "0");
  EXPECT_TRUE(eventually([&] {
    const auto next = consumer.receive(1'000'000);
    return next.has_value() && consumer.ack(*next);
  }));
  EXPECT_TRUE(closed());
}

TEST_F(GroupBreaker, ADescriptorIsQuietWhileNothingIsGivenOut) {
  Instance instance = open();
  set(instance, {});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  for (int i = 0; i < 10; ++i) producer.publish(std::to_string(i));
  pollfd readable{consumer.fd(), POLLIN, 0};
  fail_messages(consumer, 5);
  ASSERT_TRUE(opened());
  EXPECT_TRUE(eventually([&] { return outcome(consumer) == MOORING_PAUSED && ::poll(&readable, 1, 0) == 0; }));
  instance.set_group("q", "default", "breaker", "off");
  EXPECT_EQ(::poll(&readable, 1, kWatchdogMs), 1);
  EXPECT_TRUE(consumer.ack(got(consumer.receive(0))));
}

struct ExclusiveBreaker : GroupBreaker, ::testing::WithParamInterface<std::uint32_t> {
  Instance open_exclusive() {
    Instance instance = open(GetParam());
    if (GetParam() == kMpmc) instance.create_group("q", "ordered", MOORING_MODE_EXCLUSIVE);
    return instance;
  }
  std::string group() const { return GetParam() == kMpmc ? "ordered" : "default"; }
  u32 index() const { return GetParam() == kMpmc ? 1 : 0; }
};
INSTANTIATE_TEST_SUITE_P(Kinds, ExclusiveBreaker, ::testing::Values(kSpsc, kMpmc),
                         [](const auto& kind) { return kind.param == kSpsc ? "Spsc" : "Mpmc"; });

TEST_P(ExclusiveBreaker, OneInItsPlaceIsLetThroughAndOrderIsKept) {
  Instance instance = open_exclusive();
  set(instance, {{"breaker_minimum", "1"}, {"retry_initial", "1ms"}, {"breaker_delay", "1ms"}}, group());
  Producer producer = instance.open_producer("q");
  auto consumer = std::make_unique<Consumer>(instance.open_consumer("q", group()));
  for (int i = 0; i < 6; ++i) producer.publish(std::to_string(i));
  EXPECT_TRUE(consumer->ack(got(consumer->receive(kPatienceNs))));
  EXPECT_TRUE(consumer->nack(got(consumer->receive(kPatienceNs))));
  ASSERT_TRUE(half_open(index()));
  mooring_message canary = got(consumer->receive(kPatienceNs));
  EXPECT_EQ(text_of(canary), "1") << "in its place, before anything later";
  EXPECT_EQ(canary.attempt, 2U);
  EXPECT_EQ(outcome(*consumer), MOORING_PAUSED) << "one";
  EXPECT_TRUE(consumer->nack(canary));
  ASSERT_TRUE(eventually([&] { return files().group_slot(index()).counters.breaker_opened_total == 2; }));
  ASSERT_TRUE(half_open(index()));
  canary = got(consumer->receive(kPatienceNs));
  EXPECT_EQ(canary.attempt, 3U);
  // Given back, it is no answer; and its consumer closes: the next one gets it.
  EXPECT_TRUE(consumer->release(canary));
  canary = got(consumer->receive(kPatienceNs));
  EXPECT_EQ(text_of(canary), "1");
  consumer.reset();
  consumer = std::make_unique<Consumer>(instance.open_consumer("q", group()));
  canary = got(consumer->receive(kPatienceNs));
  EXPECT_EQ(text_of(canary), "1");
  EXPECT_EQ(outcome(*consumer), MOORING_PAUSED);
  EXPECT_TRUE(consumer->ack(canary));
  for (int i = 2; i < 6; ++i) {
    const mooring_message message = got(consumer->receive(kPatienceNs));
    EXPECT_EQ(text_of(message), std::to_string(i));
    EXPECT_EQ(message.attempt, 1U);
    EXPECT_TRUE(consumer->ack(message));
  }
  EXPECT_TRUE(closed(index()));
}

// In each state, with the canary in each place.
TEST_F(GroupBreaker, ItsStateOutlivesTheSupervisor) {
  Instance instance = open();
  set(instance, {});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  for (int i = 0; i < 20; ++i) producer.publish(std::to_string(i));
  fail_messages(consumer, 5);
  ASSERT_TRUE(opened());
  service.kill_supervisor();
  EXPECT_EQ(outcome(consumer), MOORING_PAUSED) << "whoever is alive";
  service.start();
  EXPECT_TRUE(eventually([&] {  // connected again
    try {
      instance.set_group("q", "default", "breaker_delay_max", "2ms");
      return true;
    } catch (const Failure&) {
      return false;
    }
  }));
  EXPECT_TRUE(opened()) << "it goes on with the time it was opened for";
  EXPECT_EQ(counters().breaker_opened_total, 1U);
  // Anew, with a delay to wait for.
  for (const char* state : {"off", "on"}) instance.set_group("q", "default", "breaker", state);
  instance.set_group("q", "default", "breaker_delay", "1ms");
  ASSERT_TRUE(closed());
  fail_messages(consumer, 5);
  ASSERT_TRUE(half_open());
  service.kill_supervisor();
  service.start();
  const mooring_message canary = got(consumer.receive(kPatienceNs));
  service.kill_supervisor();
  EXPECT_EQ(outcome(consumer), MOORING_PAUSED) << "out already";
  service.start();
  EXPECT_TRUE(half_open());
  EXPECT_EQ(outcome(consumer), MOORING_PAUSED);
  service.kill_supervisor();
  EXPECT_TRUE(consumer.nack(canary)) << "while nobody looks";
  service.start();
  ASSERT_TRUE(eventually([&] { return counters().breaker_opened_total == 3; })) << "noticed when somebody does";
  EXPECT_TRUE(half_open());
  const mooring_message next = got(consumer.receive(kPatienceNs));
  service.kill_supervisor();
  EXPECT_TRUE(consumer.ack(next));
  service.start();
  EXPECT_TRUE(closed());
}

TEST_F(GroupBreaker, OnADurableQueueItsSettingsOutliveAPowerCutAndItBeginsClosed) {
  {
    Instance instance = open(kMpmc, /*durable=*/true);
    set(instance, {});
    Producer producer = instance.open_producer("q");
    Consumer consumer = instance.open_consumer("q");
    for (int i = 0; i < 6; ++i) ASSERT_TRUE(producer.publish(std::to_string(i), kPatienceNs).has_value());
    fail_messages(consumer, 5);
    ASSERT_TRUE(opened());
  }
  service.reboot();
  EXPECT_EQ(paused(), 0U);
  EXPECT_EQ(files().group_slot(0).policy.breaker_minimum, 5U);
  Instance instance = open(kMpmc, /*durable=*/true);
  Consumer consumer = instance.open_consumer("q");
  EXPECT_TRUE(consumer.ack(got(consumer.receive(kPatienceNs))));
}

}  // namespace
}  // namespace mooring
