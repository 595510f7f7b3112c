// Failed messages, through the public API and a real mooringd: retries, dead letters, blame, ack_wait, pause, redrive;
// over kills of the supervisor, and on durable queues over the loss of all memory.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/kill_point.hpp"
#include "delivery/decision.hpp"
#include "durable/durable_service.hpp"
#include "segment/dead_letters.hpp"
#include "segment/instance_paths.hpp"
#include "supervisor/supervisor.hpp"

namespace mooring {
namespace {

using namespace test;

constexpr std::uint64_t kMs = 1'000'000;

struct Delivery : ::testing::Test {
  Delivery() { service.start(); }

  Instance open(bool durable = false) {
    Instance instance(service.path());
    mooring_queue_options options;
    mooring_queue_options_init(&options, sizeof options);
    if (durable) options = durable_options();
    options.capacity = 4096;
    instance.create_queue("q", options);
    return instance;
  }
  void set(Instance& instance, const std::vector<std::pair<std::string, std::string>>& settings) {
    for (const auto& [key, value] : settings) instance.set_group("q", "default", key, value);
  }
  // What the files say of the group.
  layout::GroupCounters counters() { return files().group_slot(0).counters; }
  QueueFiles files() {
    const InstancePaths paths = *resolve_instance(service.path(), false);
    const File shared = std::move(*open_shared_directory(paths.shared_directory, paths.owner, false));
    QueueFiles::AttachOptions options;
    return std::move(*QueueFiles::attach(shared, paths.owner, "q", options));
  }
  std::vector<ParkedMessage> parked(layout::RecordState state) {
    const QueueFiles queue = files();
    std::vector<ParkedMessage> found;
    EXPECT_TRUE(each_parked(queue, 0, layout::slot_generation(queue.group_slot(0).slot), state, true,
                            [&](const ParkedMessage& message) {
                              found.push_back(message);
                              return true;
                            }));
    return found;
  }
  std::vector<ParkedMessage> dead() { return parked(layout::RecordState::kDead); }
  bool dead_come_to(std::size_t count) {
    return eventually([&] { return counters().dead == count; });
  }

  DurableService service;
};

const mooring_message& got(const std::optional<mooring_message>& message) {
  if (!message.has_value()) throw std::runtime_error("nothing came");
  return *message;
}

TEST_F(Delivery, ANackedMessageComesAgainAfterItsDelayAndIsCountedHonestly) {
  Instance instance = open();
  set(instance, {{"backoff", "20ms,60ms"}, {"retry_jitter", "0"}});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  producer.publish("poison");
  std::uint64_t least[] = {0, 20 * kMs, 60 * kMs};
  std::uint64_t failed_at = 0;
  for (std::uint32_t attempt = 1; attempt <= 3; ++attempt) {
    const mooring_message message = got(consumer.receive(kPatienceNs));
    EXPECT_EQ(message.attempt, attempt);
    EXPECT_EQ((message.flags & MOORING_REDELIVERED) != 0, attempt > 1);
    if (attempt > 1) {
      EXPECT_GE(boottime_ns() - failed_at, least[attempt - 1]);
    }
    failed_at = boottime_ns();
    EXPECT_TRUE(consumer.nack(message));
    EXPECT_FALSE(consumer.nack(message)) << "stale";
    EXPECT_FALSE(consumer.ack(message)) << "stale";
  }
  EXPECT_TRUE(consumer.ack(got(consumer.receive(kPatienceNs))));
  EXPECT_TRUE(eventually([&] { return counters().store_bytes == 0; }));
  EXPECT_EQ(counters().waiting, 0U);
  EXPECT_EQ(counters().failed_total[static_cast<int>(FailReason::kNack)], 3U);
  EXPECT_EQ(counters().redelivered_total[static_cast<int>(FailReason::kNack)], 3U);
}

TEST_F(Delivery, ARetryBlocksNobodyBehindIt) {
  Instance instance = open();
  set(instance, {{"retry_initial", "1h"}});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  producer.publish("slow");
  EXPECT_TRUE(consumer.nack(got(consumer.receive(kPatienceNs))));
  for (int lap = 0; lap < 3 * 4096; ++lap) {  // three laps of the window past the one that waits
    ASSERT_TRUE(producer.publish("x", kPatienceNs).has_value());
    ASSERT_TRUE(consumer.ack(got(consumer.receive(kPatienceNs))));
  }
  EXPECT_EQ(counters().waiting, 1U);
  set(instance, {{"retry_initial", "1ms"}});  // of the next failure: what waits keeps its time
  EXPECT_EQ(counters().waiting, 1U);
}

TEST_F(Delivery, APoisonMessageDiesWithItsRecordAndItsNeighboursDoNot) {
  Instance instance = open();
  set(instance, {{"retry_initial", "1ms"}, {"max_deliveries", "5"}});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  for (int i = 0; i < 20; ++i) producer.publish(i == 7 ? "poison" : "good " + std::to_string(i));
  std::size_t good = 0;
  std::uint32_t failures = 0;
  while (good < 19 || failures < 5) {
    const mooring_message message = got(consumer.receive(kPatienceNs));
    if (text_of(message) == "poison") {
      ++failures;
      EXPECT_EQ(message.attempt, failures);
      consumer.nack(message, MOORING_BY_POLICY, 100 + failures, ("try " + std::to_string(failures)).c_str());
    } else {
      EXPECT_EQ(message.attempt, 1U);
      ++good;
      consumer.ack(message);
    }
  }
  ASSERT_TRUE(dead_come_to(1));
  const ParkedMessage letter = dead().at(0);
  EXPECT_EQ(letter.payload, "poison");
  EXPECT_EQ(letter.record.dead_reason, static_cast<u32>(DeadReason::kMaxDeliveries));
  EXPECT_EQ(letter.word.failed, 5U);
  EXPECT_EQ(letter.word.acquired, 5U);
  EXPECT_EQ(letter.text, "try 5");
  EXPECT_EQ(letter.record.code, 105U);
  ASSERT_EQ(letter.attempts.size(), 5U);
  for (u32 i = 0; i < 5; ++i) {
    EXPECT_EQ(letter.attempts[i].code, 101 + i);
    EXPECT_EQ(letter.attempts[i].pid, static_cast<u32>(::getpid()));
    EXPECT_EQ(letter.attempts[i].reason, static_cast<u16>(FailReason::kNack));
  }
  EXPECT_FALSE(consumer.receive(0).has_value());
}

TEST_F(Delivery, ARejectedMessageIsDeadAtOnce) {
  Instance instance = open();
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  producer.publish("never");
  EXPECT_TRUE(consumer.reject(got(consumer.receive(kPatienceNs)), 42, std::string(600, 'x').c_str()));
  ASSERT_TRUE(dead_come_to(1));
  const ParkedMessage letter = dead().at(0);
  EXPECT_EQ(letter.record.dead_reason, static_cast<u32>(DeadReason::kRejected));
  EXPECT_EQ(letter.record.code, 42U);
  EXPECT_EQ(letter.text, std::string(512, 'x')) << "as much as is kept";
}

TEST_F(Delivery, WhatIsReleasedIsNotAFailure) {
  Instance instance = open();
  set(instance, {{"max_deliveries", "1"}});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  producer.publish("later");
  for (std::uint32_t attempt = 1; attempt <= 5; ++attempt) {
    const mooring_message message = got(consumer.receive(kPatienceNs));
    EXPECT_EQ(message.attempt, attempt);
    EXPECT_TRUE(consumer.release(message));
  }
  EXPECT_EQ(counters().dead, 0U);
  EXPECT_TRUE(consumer.nack(got(consumer.receive(kPatienceNs))));
  EXPECT_TRUE(dead_come_to(1));
}

// Killed before its journal wrote anything: what the log was opened with has the dead letters, too.
TEST_F(Delivery, ARestartThatIsCutShortForgetsNoDeadLetter) {
  {
    Instance instance = open(/*durable=*/true);
    Producer producer = instance.open_producer("q");
    Consumer consumer = instance.open_consumer("q");
    for (const char* text : {"dead", "alive"}) ASSERT_TRUE(producer.publish(text, kPatienceNs).has_value());
    consumer.reject(got(consumer.receive(kPatienceNs)), 5, "never");
    const mooring_message alive = got(consumer.receive(kPatienceNs));
    ASSERT_TRUE(dead_come_to(1));
    EXPECT_TRUE(consumer.ack_sync(alive));
  }
  for (int life = 0; life < 3; ++life) {
    service.kill_supervisor();
    Worker doomed([&](const Worker::Line& line) {
      kill_point_hook.store(
          [](const char* name) {
            if (std::strcmp(name, "supervisor.adopted") == 0) ::raise(SIGKILL);
          },
          std::memory_order_relaxed);
      Supervisor::Options options;
      options.path = service.path();
      auto supervisor = Supervisor::start(options);
      line.say('s');
      return 0;
    });
    EXPECT_EQ(doomed.join(), 128 + SIGKILL);
  }
  service.lose_memory();
  service.start();
  Instance instance = open(/*durable=*/true);
  ASSERT_TRUE(dead_come_to(1));
  EXPECT_EQ(dead().at(0).payload, "dead");
}

TEST_F(Delivery, WithoutABoundOnlyPlainFailuresComeAtOnce) {
  Instance instance = open();
  set(instance, {{"max_deliveries", "0"}, {"retry_initial", "0"}});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  producer.publish("rejected");
  EXPECT_TRUE(consumer.reject(got(consumer.receive(kPatienceNs))));
  EXPECT_TRUE(dead_come_to(1));
  producer.publish("later");
  EXPECT_TRUE(consumer.nack(got(consumer.receive(kPatienceNs)), 3'600'000'000'000));
  EXPECT_TRUE(eventually([&] { return counters().waiting == 1; }));
  producer.publish("again");
  for (std::uint32_t attempt = 1; attempt < 300; ++attempt) {
    const mooring_message message = got(consumer.receive(kPatienceNs));
    ASSERT_EQ(message.attempt, attempt);
    ASSERT_TRUE(consumer.nack(message));
  }
}

// --- Times --------------------------------------------------------------------------------------------------------

mooring_publish_options timed(std::uint64_t delay_ns, std::uint64_t ttl_ns, std::uint32_t on_expire = 0) {
  mooring_publish_options options;
  mooring_publish_options_init(&options, sizeof options);
  options.delay_ns = delay_ns;
  options.ttl_ns = ttl_ns;
  if (on_expire != 0) options.on_expire = on_expire;
  return options;
}

TEST_F(Delivery, ADelayedMessageComesInItsTimeAndAsIfForTheFirst) {
  Instance instance = open();
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  const std::uint64_t before = wall_ns();
  const mooring_publish_options late = timed(60 * kMs, 0);
  std::uint64_t seq = 0;
  ASSERT_EQ(mooring_publish_with(producer.get(), "late", 4, &late, kPatienceNs, &seq), MOORING_OK);
  producer.publish("now");
  EXPECT_TRUE(consumer.ack(got(consumer.receive(kPatienceNs))));
  EXPECT_FALSE(consumer.receive(0).has_value());
  const mooring_message message = got(consumer.receive(kPatienceNs));
  EXPECT_GE(wall_ns() - before, 60 * kMs);
  EXPECT_EQ(text_of(message), "late");
  EXPECT_EQ(message.attempt, 1U);
  EXPECT_EQ(message.flags & MOORING_REDELIVERED, 0U);
  EXPECT_TRUE(consumer.ack(message));
  EXPECT_EQ(counters().failed_total[static_cast<int>(FailReason::kNack)], 0U);
}

TEST_F(Delivery, WhatExpiresIsDeadOrDroppedAndNeverShown) {
  Instance instance = open();
  set(instance, {{"backoff", "50ms"}});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  const mooring_publish_options kept = timed(0, 1);
  const mooring_publish_options dropped = timed(0, 1, MOORING_ON_EXPIRE_DROP);
  const mooring_publish_options waits = timed(0, 30 * kMs);
  ASSERT_EQ(mooring_publish_with(producer.get(), "kept", 4, &kept, kPatienceNs, nullptr), MOORING_OK);
  ASSERT_EQ(mooring_publish_with(producer.get(), "dropped", 7, &dropped, kPatienceNs, nullptr), MOORING_OK);
  producer.publish("alive");
  EXPECT_EQ(text_of(got(consumer.receive(kPatienceNs))), "alive");
  ASSERT_TRUE(dead_come_to(1));
  EXPECT_EQ(dead().at(0).record.dead_reason, static_cast<u32>(DeadReason::kExpired));
  ASSERT_TRUE(eventually([&] { return counters().dropped_total == 1; }));
  // And one that expires while it waits for its retry.
  ASSERT_EQ(mooring_publish_with(producer.get(), "waits", 5, &waits, kPatienceNs, nullptr), MOORING_OK);
  EXPECT_TRUE(consumer.nack(got(consumer.receive(kPatienceNs))));
  ASSERT_TRUE(dead_come_to(2));
  EXPECT_FALSE(consumer.receive(0).has_value());
}

// --- Exclusive groups: in their place ---------------------------------------------------------------------------

struct ExclusiveDelivery : Delivery, ::testing::WithParamInterface<std::uint32_t> {
  Instance open_exclusive(bool durable = false) {
    Instance instance(service.path());
    mooring_queue_options options;
    mooring_queue_options_init(&options, sizeof options);
    if (durable) options = durable_options();
    options.kind = GetParam();
    options.capacity = 4096;
    instance.create_queue("q", options);
    if (GetParam() == MOORING_KIND_MPMC && !made) {
      instance.create_group("q", "ordered", MOORING_MODE_EXCLUSIVE);
      instance.remove_group("q", "default");
      made = true;
    }
    return instance;
  }
  bool made = false;
  std::string group() const { return GetParam() == MOORING_KIND_MPMC ? "ordered" : "default"; }
  u32 index() const { return GetParam() == MOORING_KIND_MPMC ? 1 : 0; }
  layout::GroupCounters counters() { return files().group_slot(index()).counters; }
  std::vector<ParkedMessage> dead() {
    const QueueFiles queue = files();
    std::vector<ParkedMessage> found;
    EXPECT_TRUE(each_parked(queue, index(), layout::slot_generation(queue.group_slot(index()).slot),
                            layout::RecordState::kDead, true, [&](const ParkedMessage& message) {
                              found.push_back(message);
                              return true;
                            }));
    return found;
  }
  bool dead_come_to(std::size_t count) {
    return eventually([&] { return counters().dead == count; });
  }
};
INSTANTIATE_TEST_SUITE_P(Kinds, ExclusiveDelivery, ::testing::Values(MOORING_KIND_SPSC, MOORING_KIND_MPMC),
                         [](const auto& kind) { return kind.param == MOORING_KIND_SPSC ? "Spsc" : "Mpmc"; });

TEST_P(ExclusiveDelivery, WhatFailedComesAgainBeforeAnythingLaterAndDiesInItsTime) {
  Instance instance = open_exclusive();
  instance.set_group("q", group(), "backoff", "10ms");
  instance.set_group("q", group(), "max_deliveries", "3");
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q", group());
  for (int i = 0; i < 5; ++i) producer.publish(std::to_string(i));
  EXPECT_TRUE(consumer.ack(got(consumer.receive(kPatienceNs))));
  std::uint64_t failed_at = 0;
  for (std::uint32_t attempt = 1; attempt <= 3; ++attempt) {
    const mooring_message message = got(consumer.receive(kPatienceNs));
    EXPECT_EQ(text_of(message), "1");
    EXPECT_EQ(message.attempt, attempt);
    if (attempt > 1) {
      EXPECT_GE(boottime_ns() - failed_at, 8 * kMs);
    }
    failed_at = boottime_ns();
    EXPECT_TRUE(consumer.nack(message, MOORING_BY_POLICY, attempt, "in order"));
    EXPECT_FALSE(consumer.ack(message)) << "stale";
    if (attempt < 3) {
      EXPECT_FALSE(consumer.receive(0).has_value()) << "nothing later comes before it";
    }
  }
  for (int i = 2; i < 5; ++i) {
    const mooring_message message = got(consumer.receive(kPatienceNs));
    EXPECT_EQ(text_of(message), std::to_string(i));
    EXPECT_EQ(message.attempt, 1U);
    EXPECT_TRUE(consumer.ack(message));
  }
  ASSERT_TRUE(dead_come_to(1));
  const ParkedMessage letter = dead().at(0);
  EXPECT_EQ(letter.payload, "1");
  EXPECT_EQ(letter.word.failed, 3U);
  EXPECT_EQ(letter.text, "in order");
  EXPECT_EQ(letter.record.code, 3U);
  for (int lap = 0; lap < 3 * 4096; ++lap) {  // it pins nothing
    ASSERT_TRUE(producer.publish("x", kPatienceNs).has_value());
    ASSERT_TRUE(consumer.ack(got(consumer.receive(kPatienceNs))));
  }
  EXPECT_EQ(instance.redrive("q", group()), 1U);
  const mooring_message again = got(consumer.receive(kPatienceNs));
  EXPECT_EQ(text_of(again), "1");
  EXPECT_EQ(again.attempt, 4U);
  EXPECT_TRUE(consumer.ack(again));
  EXPECT_TRUE(eventually([&] { return counters().store_bytes == 0; }));
}

TEST_P(ExclusiveDelivery, ADelayedMessageHoldsWhatComesLater) {
  Instance instance = open_exclusive();
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q", group());
  const std::uint64_t before = wall_ns();
  const mooring_publish_options late = timed(40 * kMs, 0);
  const mooring_publish_options gone = timed(0, 1);
  ASSERT_EQ(mooring_publish_with(producer.get(), "gone", 4, &gone, kPatienceNs, nullptr), MOORING_OK);
  ASSERT_EQ(mooring_publish_with(producer.get(), "late", 4, &late, kPatienceNs, nullptr), MOORING_OK);
  producer.publish("later");
  for (const char* text : {"late", "later"}) {
    const mooring_message message = got(consumer.receive(kPatienceNs));
    EXPECT_EQ(text_of(message), text);
    EXPECT_EQ(message.attempt, 1U);
    EXPECT_GE(wall_ns() - before, 40 * kMs);
    EXPECT_TRUE(consumer.ack(message));
  }
  EXPECT_TRUE(dead_come_to(1));
}

TEST_P(ExclusiveDelivery, SeveralMayFailAndTheRestIsSettledAroundThem) {
  Instance instance = open_exclusive();
  instance.set_group("q", group(), "retry_initial", "5ms");
  instance.set_group("q", group(), "max_deliveries", "2");
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q", group());
  for (int i = 0; i < 6; ++i) producer.publish(std::to_string(i));
  std::vector<mooring_message> all;
  for (int i = 0; i < 6; ++i) all.push_back(got(consumer.receive(kPatienceNs)));
  EXPECT_TRUE(consumer.nack(all[4]));
  EXPECT_TRUE(consumer.reject(all[2], 1, "never"));
  EXPECT_TRUE(consumer.nack(all[1]));
  EXPECT_TRUE(consumer.ack_up_to(all[5])) << "all that is not held";
  std::vector<std::string> order;
  for (int i = 0; i < 2; ++i) {
    const mooring_message message = got(consumer.receive(kPatienceNs));
    EXPECT_EQ(message.attempt, 2U);
    order.push_back(text_of(message));
    EXPECT_TRUE(consumer.ack(message));
  }
  EXPECT_EQ(order, (std::vector<std::string>{"1", "4"}));
  producer.publish("next");
  EXPECT_TRUE(consumer.ack(got(consumer.receive(kPatienceNs))));
  ASSERT_TRUE(dead_come_to(1));
  EXPECT_EQ(dead().at(0).payload, "2");
}

// A dead letter first, and behind it what comes again: neither is forgotten, whatever is acknowledged around them.
TEST_P(ExclusiveDelivery, WhatStandsBehindADeadLetterIsNotForgotten) {
  Instance instance = open_exclusive();
  instance.set_group("q", group(), "retry_initial", "0");
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q", group());
  for (int i = 0; i < 4; ++i) producer.publish(std::to_string(i));
  std::vector<mooring_message> all;
  for (int i = 0; i < 3; ++i) all.push_back(got(consumer.receive(kPatienceNs)));
  EXPECT_TRUE(consumer.reject(all[0]));
  ASSERT_TRUE(dead_come_to(1));
  EXPECT_TRUE(consumer.nack(all[1], 3'600'000'000'000));
  EXPECT_TRUE(consumer.ack_up_to(all[2]));
  EXPECT_FALSE(consumer.ack(all[1])) << "it failed, and comes again";
  ASSERT_TRUE(eventually([&] { return counters().waiting == 1; }));
  EXPECT_FALSE(consumer.receive(0).has_value()) << "held for an hour";
  consumer.close();

  instance.remove_queue("q");
  made = false;
  Instance second = open_exclusive();
  second.set_group("q", group(), "retry_initial", "0");
  Producer again = second.open_producer("q");
  Consumer reader = second.open_consumer("q", group());
  for (int i = 0; i < 3; ++i) again.publish(std::to_string(i));
  all.clear();
  for (int i = 0; i < 2; ++i) all.push_back(got(reader.receive(kPatienceNs)));
  EXPECT_TRUE(reader.reject(all[0]));
  EXPECT_TRUE(reader.nack(all[1]));
  ASSERT_TRUE(eventually(
      [&] { return counters().redelivered_total[static_cast<int>(FailReason::kNack)] == 1 && counters().dead == 1; }));
  for (const char* text : {"1", "2"}) {
    const mooring_message message = got(reader.receive(kPatienceNs));
    EXPECT_EQ(text_of(message), text);
    EXPECT_TRUE(reader.ack(message));
  }
}

TEST_P(ExclusiveDelivery, CrashesOfItsConsumersAreCounted) {
  Instance instance = open_exclusive();
  instance.set_group("q", group(), "retry_initial", "1ms");
  instance.set_group("q", group(), "max_deliveries", "3");
  Producer producer = instance.open_producer("q");
  for (const char* text : {"fine", "killer", "after"}) producer.publish(text);
  for (int crash = 0; crash < 3; ++crash) {
    Worker worker([&](const Worker::Line& line) {
      Instance own(service.path());
      Consumer consumer = own.open_consumer("q", group());
      mooring_message message = got(consumer.receive(kPatienceNs));
      if (text_of(message) == "fine") {
        consumer.ack(message);
        message = got(consumer.receive(kPatienceNs));
      }
      if (text_of(message) != "killer" || message.attempt != static_cast<std::uint32_t>(crash) + 1) return 1;
      line.say('h');
      line.rest();
      return 0;
    });
    ASSERT_TRUE(worker.heard('h')) << crash;
    worker.kill(SIGKILL);
    worker.join();
    ASSERT_TRUE(eventually(
        [&] { return counters().failed_total[static_cast<int>(FailReason::kCrash)] == static_cast<u64>(crash) + 1; }));
  }
  ASSERT_TRUE(dead_come_to(1));
  EXPECT_EQ(dead().at(0).payload, "killer");
  EXPECT_EQ(dead().at(0).record.dead_reason, static_cast<u32>(DeadReason::kCrash));
  Consumer consumer = instance.open_consumer("q", group());
  EXPECT_EQ(text_of(got(consumer.receive(kPatienceNs))), "after");
}

TEST_P(ExclusiveDelivery, WhatIsHeldOutlivesSupervisorsAndThePower) {
  {
    Instance instance = open_exclusive(/*durable=*/true);
    instance.set_group("q", group(), "backoff", "1ms,1h");
    Producer producer = instance.open_producer("q");
    Consumer consumer = instance.open_consumer("q", group());
    for (const char* text : {"held", "later"}) producer.publish(text);
    EXPECT_TRUE(consumer.nack(got(consumer.receive(kPatienceNs))));
    const mooring_message again = got(consumer.receive(kPatienceNs));
    EXPECT_EQ(again.attempt, 2U);
    EXPECT_TRUE(consumer.nack(again));
    ASSERT_TRUE(eventually([&] { return counters().waiting == 1; }));
    service.kill_supervisor();
    service.start();
    ASSERT_TRUE(eventually([&] { return counters().waiting == 1; }));
    EXPECT_FALSE(consumer.receive(0).has_value());
    // In the log once a later message, or an ack_sync, is.
    ASSERT_TRUE(producer.publish("behind", kPatienceNs).has_value());
  }
  service.kill_supervisor(SIGTERM);  // writes what is left; a power cut before would repeat a failure at most
  service.lose_memory();
  service.start();
  Instance instance = open_exclusive(/*durable=*/true);
  ASSERT_TRUE(eventually([&] { return counters().waiting == 1; }));
  Consumer consumer = instance.open_consumer("q", group());
  EXPECT_FALSE(consumer.receive(0).has_value()) << "held for an hour, and nothing before it";
}

// A worker that receives `count` messages and says how far it is; it goes on when it is told to.
Worker holder(const std::string& path, int count, bool marks) {
  return Worker([=](const Worker::Line& line) {
    Instance instance(path);
    Consumer consumer = instance.open_consumer("q");
    std::vector<mooring_message> held;
    for (int i = 0; i < count; ++i) held.push_back(got(consumer.receive(kPatienceNs)));
    if (marks) consumer.handling(held.at(1));
    line.say('h');
    line.rest();
    return 0;
  });
}

TEST_F(Delivery, OnlyTheMessageThatWasHandledPaysForACrash) {
  Instance instance = open();
  set(instance, {{"retry_initial", "0"}, {"max_deliveries", "3"}});
  Producer producer = instance.open_producer("q");
  for (int i = 0; i < 3; ++i) producer.publish(std::to_string(i));
  for (int crash = 0; crash < 3; ++crash) {
    Worker worker = holder(service.path(), 3, /*marks=*/true);
    ASSERT_TRUE(worker.heard('h'));
    worker.kill(SIGKILL);
    worker.join();
    ASSERT_TRUE(eventually(
        [&] { return counters().failed_total[static_cast<int>(FailReason::kCrash)] == static_cast<u64>(crash) + 1; }));
    if (crash == 2) break;
  }
  // The order of redelivery differs from run to run, so the second in hand may be any: each crash charged one of them.
  u64 failures = 0;
  for (const auto state : {layout::RecordState::kWaiting, layout::RecordState::kDead}) {
    for (const ParkedMessage& message : parked(state)) failures += message.word.failed;
  }
  EXPECT_EQ(failures, 3U);
}

TEST_F(Delivery, ACrashWithSeveralInHandChargesNobodyAndTheyComeAlone) {
  Instance instance = open();
  set(instance, {{"max_deliveries", "1"}});  // who is charged is dead
  Producer producer = instance.open_producer("q");
  for (int i = 0; i < 3; ++i) producer.publish(std::to_string(i));
  {
    Worker worker = holder(service.path(), 3, /*marks=*/false);
    ASSERT_TRUE(worker.heard('h'));
    worker.kill(SIGKILL);
    worker.join();
  }
  Consumer consumer = instance.open_consumer("q");
  for (int i = 0; i < 3; ++i) {
    const mooring_message message = got(consumer.receive(kPatienceNs));
    EXPECT_EQ(message.attempt, 2U);
    mooring_message second;
    EXPECT_EQ(consumer.try_receive(&second, 0), MOORING_FULL) << "given out alone";
    EXPECT_TRUE(consumer.ack(message));
  }
  EXPECT_EQ(counters().dead, 0U);
  EXPECT_EQ(counters().failed_total[static_cast<int>(FailReason::kCrash)], 0U);
}

// Who receives in batches and never says which message it has meets a poison message in a batch at first, then alone.
TEST_F(Delivery, ABatchThatCameDownToOneIsChargedForACrash) {
  Instance instance = open();
  set(instance, {{"max_deliveries", "1"}});
  Producer producer = instance.open_producer("q");
  for (const char* text : {"poison", "good"}) producer.publish(text);
  for (int crash = 0; crash < 2; ++crash) {
    Worker worker([&](const Worker::Line& line) {
      Instance own(service.path());
      Consumer consumer = own.open_consumer("q");
      for (;;) {
        mooring_message messages[4];
        const std::size_t received = consumer.receive_batch(messages, kPatienceNs);
        for (std::size_t i = 0; i < received; ++i) {
          if (text_of(messages[i]) == "poison") {
            line.say('h');
            line.rest();
          }
          consumer.ack(messages[i]);
        }
      }
      return 0;
    });
    ASSERT_TRUE(worker.heard('h')) << crash;
    worker.kill(SIGKILL);
    worker.join();
  }
  ASSERT_TRUE(dead_come_to(1));
  EXPECT_EQ(dead().at(0).payload, "poison");
  EXPECT_EQ(counters().failed_total[static_cast<int>(FailReason::kCrash)], 1U) << "the second one told";
}

TEST_F(Delivery, AlonesArePassedOverByWhoHoldsSomethingAndTakenLater) {
  Instance instance = open();
  Producer producer = instance.open_producer("q");
  producer.publish("first");
  Consumer consumer = instance.open_consumer("q");
  const mooring_message first = got(consumer.receive(kPatienceNs));
  for (int i = 0; i < 2; ++i) producer.publish("poison?");
  {
    Worker worker = holder(service.path(), 2, /*marks=*/false);
    ASSERT_TRUE(worker.heard('h'));
    worker.kill(SIGKILL);
    worker.join();
  }
  producer.publish("new");
  const mooring_message fresh = got(consumer.receive(kPatienceNs));
  EXPECT_EQ(text_of(fresh), "new");
  EXPECT_FALSE(consumer.receive(20 * kMs).has_value());
  EXPECT_TRUE(consumer.ack(first));
  EXPECT_TRUE(consumer.ack(fresh));
  for (int i = 0; i < 2; ++i) {
    const mooring_message alone = got(consumer.receive(kPatienceNs));
    EXPECT_EQ(text_of(alone), "poison?");
    EXPECT_TRUE(consumer.ack(alone));
  }
}

TEST_F(Delivery, FiveCrashesAreADeadLetter) {
  Instance instance = open();
  set(instance, {{"retry_initial", "1ms"}});
  Producer producer = instance.open_producer("q");
  producer.publish("killer");
  for (int crash = 0; crash < 5; ++crash) {
    Worker worker = holder(service.path(), 1, /*marks=*/false);
    ASSERT_TRUE(worker.heard('h')) << crash;
    worker.kill(SIGKILL);
    worker.join();
  }
  ASSERT_TRUE(dead_come_to(1));
  const ParkedMessage letter = dead().at(0);
  EXPECT_EQ(letter.record.dead_reason, static_cast<u32>(DeadReason::kCrash));
  EXPECT_EQ(letter.word.failed, 5U);
  std::set<u32> pids;
  for (const auto& attempt : letter.attempts) {
    pids.insert(attempt.pid);
    EXPECT_EQ(attempt.reason, static_cast<u16>(FailReason::kCrash));
  }
  EXPECT_EQ(pids.size(), 5U);
}

TEST_F(Delivery, WhatIsHeldTooLongIsGivenOutAgainAndTheLateSettlementIsRefused) {
  Instance instance = open();
  set(instance, {{"ack_wait", "40ms"}, {"retry_initial", "0"}});
  Producer producer = instance.open_producer("q");
  Consumer slow = instance.open_consumer("q");
  producer.publish("work");
  const mooring_message held = got(slow.receive(kPatienceNs));
  Consumer other = instance.open_consumer("q");
  const mooring_message again = got(other.receive(kPatienceNs));
  EXPECT_EQ(again.seq, held.seq);
  EXPECT_EQ(again.attempt, 2U);
  EXPECT_FALSE(slow.ack(held)) << "stale";
  EXPECT_EQ(text_of(held), "work") << "its bytes are still its own";
  EXPECT_TRUE(other.ack(again));
  EXPECT_EQ(counters().failed_total[static_cast<int>(FailReason::kTimeout)], 1U);
}

TEST_F(Delivery, WhoExtendsKeepsIt) {
  Instance instance = open();
  set(instance, {{"ack_wait", "200ms"}});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  producer.publish("long work");
  mooring_message message = got(consumer.receive(kPatienceNs));
  const std::uint64_t until = monotonic_ns() + 700 * kMs;
  while (monotonic_ns() < until) {
    ASSERT_TRUE(consumer.extend(message));
    ::sched_yield();
  }
  EXPECT_TRUE(consumer.ack(message));
  EXPECT_EQ(counters().failed_total[static_cast<int>(FailReason::kTimeout)], 0U);
}

TEST_F(Delivery, ARetriedMessageCanBeHeldTooLongAsWell) {
  Instance instance = open();
  set(instance, {{"ack_wait", "40ms"}, {"retry_initial", "0"}, {"max_deliveries", "3"}});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  producer.publish("stuck");
  for (std::uint32_t attempt = 1; attempt <= 3; ++attempt) {
    EXPECT_EQ(got(consumer.receive(kPatienceNs)).attempt, attempt);
  }
  ASSERT_TRUE(dead_come_to(1));
  EXPECT_EQ(dead().at(0).record.dead_reason, static_cast<u32>(DeadReason::kMaxDeliveries));
}

TEST_F(Delivery, DeadLettersGoBackAsAsked) {
  Instance instance = open();
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  for (int i = 0; i < 10; ++i) {
    producer.publish(std::to_string(i));
    consumer.reject(got(consumer.receive(kPatienceNs)), 0, "no");
  }
  ASSERT_TRUE(dead_come_to(10));
  mooring_dead_filter filter;
  mooring_dead_filter_init(&filter, sizeof filter);
  filter.flags = MOORING_DRY_RUN;
  EXPECT_EQ(instance.redrive("q", "default", &filter), 10U);
  filter.reason = MOORING_DEAD_CRASH;
  EXPECT_EQ(instance.redrive("q", "default", &filter), 0U);
  EXPECT_EQ(counters().dead, 10U) << "only asked";
  filter.flags = 0;
  filter.reason = MOORING_DEAD_REJECTED;
  filter.limit = 2;
  EXPECT_EQ(instance.redrive("q", "default", &filter), 2U) << "a canary";
  for (int i = 0; i < 2; ++i) {
    const mooring_message message = got(consumer.receive(kPatienceNs));
    EXPECT_EQ(text_of(message), std::to_string(i)) << "the oldest";
    EXPECT_EQ(message.attempt, 2U);
    EXPECT_TRUE(consumer.ack(message));
  }
  filter.limit = 0;
  const std::uint64_t seqs[] = {dead().at(3).record.seq};
  const std::string chosen = dead().at(3).payload;
  filter.seqs = seqs;
  filter.seq_count = 1;
  EXPECT_EQ(instance.redrive("q", "default", &filter), 1U);
  const mooring_message message = got(consumer.receive(kPatienceNs));
  EXPECT_EQ(text_of(message), chosen);
  EXPECT_TRUE(consumer.reject(message)) << "and dies again";
  ASSERT_TRUE(dead_come_to(8));
  for (const ParkedMessage& letter : dead()) {
    EXPECT_EQ(letter.record.redriven, letter.payload == chosen ? 1U : 0U);
    EXPECT_EQ(letter.word.failed, 1U) << "counted anew";
  }
  filter.seq_count = 0;
  filter.limit = 3;
  EXPECT_EQ(instance.purge_dead("q", "default", &filter), 3U);
  EXPECT_EQ(counters().dead, 5U);
  EXPECT_EQ(instance.purge_dead("q", "default"), 5U);
  EXPECT_TRUE(dead().empty());
  EXPECT_EQ(counters().store_bytes, 0U);
}

TEST_F(Delivery, APacedRedriveCanBeCancelled) {
  Instance instance = open();
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  for (int i = 0; i < 50; ++i) {
    producer.publish(std::to_string(i));
    consumer.reject(got(consumer.receive(kPatienceNs)));
  }
  ASSERT_TRUE(dead_come_to(50));
  EXPECT_EQ(instance.redrive("q", "default", nullptr, /*rate=*/1), 50U);
  EXPECT_TRUE(consumer.ack(got(consumer.receive(kPatienceNs))));
  const std::uint64_t left = instance.cancel_redrive("q", "default");
  EXPECT_GT(left, 0U);
  EXPECT_EQ(counters().dead, left);
}

TEST_F(Delivery, AFullDeadLetterQueuePausesItsGroupOrDropsItsOldest) {
  Instance instance = open();
  set(instance, {{"dlq_max_messages", "3"}});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  for (int i = 0; i < 8; ++i) producer.publish(std::to_string(i));
  for (int i = 0; i < 3; ++i) consumer.reject(got(consumer.receive(kPatienceNs)));
  mooring_message message;
  ASSERT_TRUE(eventually([&] { return files().group_slot(0).paused != 0; }));
  EXPECT_EQ(consumer.try_receive(&message, 0), MOORING_PAUSED);
  EXPECT_EQ(consumer.try_receive(&message, 5 * kMs), MOORING_PAUSED);
  EXPECT_FALSE(instance.resume_group("q", "default")) << "it stays paused";
  set(instance, {{"on_dlq_full", "drop_oldest"}});
  for (int i = 3; i < 8; ++i) {
    const mooring_message next = got(consumer.receive(kPatienceNs));
    EXPECT_EQ(text_of(next), std::to_string(i));
    consumer.reject(next);
  }
  ASSERT_TRUE(eventually([&] { return counters().dropped_total == 5; }));
  std::set<std::string> kept;
  for (const ParkedMessage& letter : dead()) kept.insert(letter.payload);
  EXPECT_EQ(kept, (std::set<std::string>{"5", "6", "7"}));
}

TEST_F(Delivery, WhereTheDeadAreDroppedTheyAreCounted) {
  Instance instance = open();
  set(instance, {{"on_dead", "drop"}});
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  producer.publish("gone");
  consumer.reject(got(consumer.receive(kPatienceNs)));
  ASSERT_TRUE(eventually([&] { return counters().dropped_total == 1; }));
  EXPECT_EQ(counters().dead, 0U);
}

TEST_F(Delivery, APausedGroupGivesNothingOutUntilItIsResumed) {
  for (const std::uint32_t kind : {MOORING_KIND_MPMC, MOORING_KIND_SPSC}) {
    Instance instance(service.path());
    const std::string queue = "paused" + std::to_string(kind);
    mooring_queue_options options;
    mooring_queue_options_init(&options, sizeof options);
    options.kind = kind;
    options.capacity = 4096;
    instance.create_queue(queue, options);
    Producer producer = instance.open_producer(queue);
    Consumer consumer = instance.open_consumer(queue);
    producer.publish("before");
    const mooring_message held = got(consumer.receive(kPatienceNs));
    instance.pause_group(queue, "default");
    producer.publish("waits");
    mooring_message message;
    EXPECT_EQ(consumer.try_receive(&message, 0), MOORING_PAUSED);
    EXPECT_TRUE(consumer.ack(held)) << "what it holds it may settle";
    Worker resumer([&](const Worker::Line& line) {
      Instance own(service.path());
      if (line.hear() != 'r') return 1;
      return own.resume_group(queue, "default") ? 0 : 2;
    });
    EXPECT_EQ(consumer.try_receive(&message, 2 * kMs), MOORING_PAUSED);
    resumer.say('r');
    EXPECT_EQ(text_of(got(consumer.receive(kPatienceNs))), "waits") << "woken by the resume";
    EXPECT_EQ(resumer.join(), 0);
  }
}

TEST_F(Delivery, TheStateOfADyingMessageOutlivesTheSupervisor) {
  for (const bool durable : {false, true}) {
    Instance instance = open(durable);
    set(instance, {{"backoff", "1h"}, {"max_deliveries", "7"}});
    {
      Producer producer = instance.open_producer("q");
      Consumer consumer = instance.open_consumer("q");
      for (const char* text : {"waits", "dead", "done", "held"}) producer.publish(text);
      consumer.nack(got(consumer.receive(kPatienceNs)), MOORING_BY_POLICY, 9, "because");
      consumer.reject(got(consumer.receive(kPatienceNs)), 5, "never");
      consumer.ack(got(consumer.receive(kPatienceNs)));
      ASSERT_TRUE(dead_come_to(1));
      ASSERT_TRUE(eventually([&] { return counters().waiting == 1; }));
      service.kill_supervisor();
      service.start();
      ASSERT_TRUE(eventually([&] { return counters().waiting == 1 && counters().dead == 1; }));
      EXPECT_EQ(parked(layout::RecordState::kWaiting).at(0).text, "because");
      EXPECT_EQ(dead().at(0).text, "never");
      EXPECT_EQ(text_of(got(consumer.receive(kPatienceNs))), "held");
    }
    instance.remove_queue("q");
  }
}

TEST_F(Delivery, TheStateOfADyingMessageOutlivesThePower) {
  {
    Instance instance = open(/*durable=*/true);
    set(instance, {{"backoff", "1h"}, {"max_deliveries", "7"}});
    Producer producer = instance.open_producer("q");
    Consumer consumer = instance.open_consumer("q");
    for (const char* text : {"waits", "dead", "done", "again", "last"}) producer.publish(text);
    consumer.nack(got(consumer.receive(kPatienceNs)), MOORING_BY_POLICY, 9, "because");
    consumer.reject(got(consumer.receive(kPatienceNs)), 5, "never");
    consumer.ack(got(consumer.receive(kPatienceNs)));
    consumer.nack(got(consumer.receive(kPatienceNs)), 0);
    const mooring_message again = got(consumer.receive(kPatienceNs));
    // Either order: the one that comes at once, and the last one.
    const mooring_message other = got(consumer.receive(kPatienceNs));
    for (const mooring_message& message : {again, other}) EXPECT_TRUE(consumer.ack_sync(message)) << text_of(message);
    ASSERT_TRUE(dead_come_to(1));
  }
  service.reboot();
  Instance instance = open(/*durable=*/true);
  ASSERT_TRUE(eventually([&] { return counters().waiting == 1 && counters().dead == 1; }));
  const ParkedMessage waits = parked(layout::RecordState::kWaiting).at(0);
  EXPECT_EQ(waits.payload, "waits");
  EXPECT_EQ(waits.word.failed, 1U);
  EXPECT_EQ(waits.word.acquired, 1U);
  EXPECT_EQ(waits.record.code, 9U);
  EXPECT_GT(waits.record.due_boottime_ns, boottime_ns() + u64{1800} * 1'000'000'000);
  EXPECT_EQ(dead().at(0).payload, "dead");
  EXPECT_EQ(dead().at(0).record.dead_reason, static_cast<u32>(DeadReason::kRejected));
  const QueueFiles queue = files();
  EXPECT_EQ(queue.group_slot(0).policy.max_deliveries, 7U) << "settings are in the log";
  Consumer consumer = instance.open_consumer("q");
  EXPECT_FALSE(consumer.receive(0).has_value()) << "nothing else is left";
  EXPECT_EQ(instance.redrive("q", "default"), 1U);
  const mooring_message redriven = got(consumer.receive(kPatienceNs));
  EXPECT_EQ(text_of(redriven), "dead");
  EXPECT_EQ(redriven.attempt, 2U);
  EXPECT_TRUE(consumer.ack_sync(redriven));
  consumer.close();
  service.reboot();
  Instance third = open(/*durable=*/true);
  ASSERT_TRUE(eventually([&] { return counters().waiting == 1; }));
  EXPECT_EQ(counters().dead, 0U);
  EXPECT_FALSE(third.open_consumer("q").receive(0).has_value()) << "an ack_sync of a redriven message holds";
}

}  // namespace
}  // namespace mooring
