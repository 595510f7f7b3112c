// Durable queues over the ends of their supervisor: killed with their memory kept, rebooted, stopped in good order;
// once, and one after the other. What was acknowledged as published comes, unless it was settled with ack_sync; in
// order, marked as delivered again; groups and their modes are there.
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "durable_service.hpp"

namespace mooring {
namespace {

using namespace test;

class DurableRestart : public ::testing::TestWithParam<std::uint32_t> {
 protected:
  DurableService service_;
  std::uint32_t kind() const { return GetParam(); }
  void SetUp() override { service_.start(); }
  Instance instance() {
    Instance made(service_.path());
    made.create_queue("q", durable_options(kind()));
    return made;
  }
};
INSTANTIATE_TEST_SUITE_P(Kinds, DurableRestart, ::testing::Values(MOORING_KIND_SPSC, MOORING_KIND_MPMC),
                         [](const auto& kind) { return kind.param == MOORING_KIND_SPSC ? "Spsc" : "Mpmc"; });

TEST_P(DurableRestart, AfterARebootExactlyWhatWasNotSettledComesInOrder) {
  {
    Instance instance = this->instance();
    Producer producer = instance.open_producer("q");
    Consumer consumer = instance.open_consumer("q");
    for (const std::string& text : numbered(0, 100)) ASSERT_TRUE(producer.publish(text).has_value());
    for (int i = 0; i < 39; ++i) EXPECT_TRUE(consumer.ack(*consumer.receive(kPatienceNs)));
    EXPECT_TRUE(consumer.ack_sync(*consumer.receive(kPatienceNs)));  // and with it all before
    (void)consumer.receive(kPatienceNs);
  }
  service_.reboot();
  Instance instance(service_.path());
  Consumer consumer = instance.open_consumer("q");
  EXPECT_EQ(drain(consumer, true), numbered(40, 100));
  Producer producer = instance.open_producer("q");
  ASSERT_TRUE(producer.publish("new").has_value());
  const auto message = consumer.receive(kPatienceNs);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(text_of(*message), "new");
  EXPECT_EQ(message->flags & MOORING_REDELIVERED, 0U);
}

TEST_P(DurableRestart, SettledOutOfOrderStaysSettledGivenBackDoesNot) {
  {
    Instance instance = this->instance();
    instance.create_group("q", "strict", MOORING_MODE_EXCLUSIVE);
    Producer producer = instance.open_producer("q");
    Consumer consumer = instance.open_consumer("q", "strict");
    for (const std::string& text : numbered(0, 12)) ASSERT_TRUE(producer.publish(text).has_value());
    std::vector<mooring_message> messages;
    for (int i = 0; i < 10; ++i) messages.push_back(*consumer.receive(kPatienceNs));
    EXPECT_EQ(messages[0].flags & MOORING_IN_PLACE, 0U);
    for (const int i : {7, 3, 4}) EXPECT_TRUE(consumer.ack(messages[static_cast<std::size_t>(i)]));
    EXPECT_TRUE(consumer.release(messages[5]));
    EXPECT_TRUE(consumer.release(messages[6]));
    EXPECT_TRUE(consumer.ack_sync(messages[0]));
  }
  service_.reboot();
  Instance instance(service_.path());
  Consumer consumer = instance.open_consumer("q", "strict");
  EXPECT_EQ(drain(consumer, true), (std::vector<std::string>{"1", "2", "5", "6", "8", "9", "10", "11"}));
  Consumer other = instance.open_consumer("q");
  EXPECT_EQ(drain(other, true), numbered(0, 12));
}

TEST_P(DurableRestart, GroupsKeepTheirPlacesAndModes) {
  const std::uint32_t second_mode = kind() == MOORING_KIND_SPSC ? MOORING_MODE_EXCLUSIVE : MOORING_MODE_COMPETING;
  {
    Instance instance = this->instance();
    instance.create_group("q", "a", MOORING_MODE_EXCLUSIVE);
    Producer producer = instance.open_producer("q");
    for (const std::string& text : numbered(0, 50)) ASSERT_TRUE(producer.publish(text).has_value());
    instance.create_group("q", "b", second_mode);
    instance.create_group("q", "gone", MOORING_MODE_EXCLUSIVE);
    for (const std::string& text : numbered(50, 80)) ASSERT_TRUE(producer.publish(text).has_value());
    instance.remove_group("q", "gone");
    Consumer a = instance.open_consumer("q", "a");
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(a.ack_sync(*a.receive(kPatienceNs)));
    Consumer b = instance.open_consumer("q", "b");
    EXPECT_EQ(drain(b).size(), 30U);
    ASSERT_TRUE(producer.publish("80").has_value());
    EXPECT_TRUE(b.ack_sync(*b.receive(kPatienceNs)));
  }
  service_.reboot();
  Instance instance(service_.path());
  instance.create_queue("q", durable_options(kind()));
  instance.create_group("q", "a", MOORING_MODE_EXCLUSIVE);
  instance.create_group("q", "b", second_mode);
  EXPECT_THROW((void)instance.open_consumer("q", "gone"), Failure);
  Consumer a = instance.open_consumer("q", "a");
  Consumer b = instance.open_consumer("q", "b");
  Consumer all = instance.open_consumer("q");
  EXPECT_EQ(drain(a, true), numbered(20, 81));
  EXPECT_EQ(drain(b, true), numbered(0, 0));
  EXPECT_EQ(drain(all, true), numbered(0, 81));
}

TEST_P(DurableRestart, StoppedInGoodOrderEverythingPublishedAndSettledIsOnTheDisk) {
  {
    Instance instance = this->instance();
    const mooring_producer_options options = no_wait();
    Producer producer = instance.open_producer("q", &options);
    Consumer consumer = instance.open_consumer("q");
    for (const std::string& text : numbered(0, 1500)) ASSERT_TRUE(producer.publish(text, kPatienceNs).has_value());
    for (int i = 0; i < 700; ++i) EXPECT_TRUE(consumer.ack(*consumer.receive(kPatienceNs)));
    const std::string large(8000, 'x');  // many blocks' worth are not copied yet when it is told to stop
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(producer.publish(large, kPatienceNs).has_value());
    service_.kill_supervisor(SIGTERM);
  }
  service_.lose_memory();
  service_.start();
  Instance instance(service_.path());
  Consumer consumer = instance.open_consumer("q");
  auto expected = numbered(700, 1500);
  expected.insert(expected.end(), 2, std::string(8000, 'x'));
  EXPECT_TRUE(drain(consumer, true) == expected);
}

TEST_P(DurableRestart, StoppedInGoodOrderALongBacklogIsOnTheDisk) {
  constexpr std::uint64_t kCount = 60;
  mooring_queue_options wide = durable_options(kind());
  wide.lane_bytes = 32 << 20;
  {
    Instance instance(service_.path());
    instance.create_queue("q", wide);
    const mooring_producer_options options = no_wait();
    Producer producer = instance.open_producer("q", &options);
    service_.stop_supervisor();
    const std::string text(300'000, 'x');
    for (std::uint64_t i = 0; i < kCount; ++i) ASSERT_TRUE(producer.publish(text, 0).has_value());
    service_.kill_supervisor(SIGTERM);
  }
  service_.lose_memory();
  service_.start();
  Instance instance(service_.path());
  Consumer consumer = instance.open_consumer("q");
  EXPECT_EQ(drain(consumer).size(), kCount);
}

// Many more messages wait than a window has places: they are no stragglers.
TEST_P(DurableRestart, LapsOfTinyMessagesComeBackWhole) {
  std::uint64_t sent = 0;
  mooring_queue_options options = durable_options(kind());
  options.lane_bytes = 256 << 10;
  {
    Instance instance(service_.path());
    instance.create_queue("q", options);
    const mooring_producer_options pipelined = no_wait();
    Producer producer = instance.open_producer("q", &pipelined);
    for (; sent < 30'000; ++sent) ASSERT_TRUE(producer.publish(std::to_string(sent % 10), kPatienceNs).has_value());
    ASSERT_TRUE(producer.wait_durable(MOORING_EVERYTHING, kPatienceNs));
  }
  for (int round = 0; round < 2; ++round) {
    service_.reboot();
    Instance instance(service_.path());
    instance.create_queue("q", options);  // the same one
  }
  Instance instance(service_.path());
  Consumer consumer = instance.open_consumer("q");
  const auto texts = drain(consumer, true);
  ASSERT_EQ(texts.size(), sent);
  for (std::uint64_t i = 0; i < sent; ++i) ASSERT_EQ(texts[i], std::to_string(i % 10)) << i;
}

// The log's word on what is settled lags behind a quick consumer: what comes back begins there, without a gap.
TEST_P(DurableRestart, AQuickConsumersQueueComesBackWithoutAGap) {
  mooring_queue_options options = durable_options(kind());
  options.producers_max = 1;
  std::uint64_t acked = 0;
  std::uint64_t next = 0;  // to publish
  for (int round = 0; round < 5; ++round) {
    {
      Instance instance(service_.path());
      instance.create_queue("q", options);
      const mooring_producer_options pipelined = no_wait();
      Producer producer = instance.open_producer("q", &pipelined);
      Consumer consumer = instance.open_consumer("q");
      std::atomic<bool> stop{false};
      std::thread publisher([&] {
        while (!stop.load()) {
          if (producer.publish(std::to_string(next), 10'000'000).has_value()) ++next;
        }
      });
      const std::uint64_t until = acked + 100'000;
      while (acked < until) {
        const auto message = consumer.receive(kPatienceNs);
        if (!message.has_value()) break;
        EXPECT_EQ(text_of(*message), std::to_string(acked));
        consumer.ack(*message);
        ++acked;
      }
      service_.kill_supervisor();
      stop = true;
      publisher.join();
      ASSERT_EQ(acked, until);
    }
    service_.lose_memory();
    service_.start();
    Instance instance(service_.path());
    ASSERT_NO_THROW(instance.create_queue("q", options));
    Consumer consumer = instance.open_consumer("q");
    const std::vector<std::string> texts = drain(consumer, true);
    const std::uint64_t first = texts.empty() ? acked : std::stoull(texts.front());
    EXPECT_LE(first, acked);
    EXPECT_EQ(texts, numbered(first, first + texts.size()));
    // What the kill caught in the ring was never promised, and its numbers go to others.
    acked = first + texts.size();
    next = acked;
  }
}

// One after the other, with traffic between: nothing acknowledged is lost, nothing settled for good comes again.
TEST_P(DurableRestart, ManyGenerationsLoseNothing) {
  std::uint64_t sent = 0;
  std::uint64_t settled = 0;  // all below, with ack_sync
  std::mt19937_64 random(20261122 + kind());
  std::string story;
  for (int generation = 0; generation < 12; ++generation) {
    SCOPED_TRACE(story);
    {
      Instance instance = this->instance();
      Producer producer = instance.open_producer("q");
      Consumer consumer = instance.open_consumer("q");
      for (std::uint64_t end = sent + random() % 300; sent < end; ++sent) {
        ASSERT_TRUE(producer.publish(std::to_string(sent), kPatienceNs).has_value());
      }
      const std::uint64_t end = settled + random() % (sent - settled + 1);
      while (settled < end) {
        const auto message = consumer.receive(kPatienceNs);
        ASSERT_TRUE(message.has_value());
        ASSERT_EQ(text_of(*message), std::to_string(settled));
        ++settled;
        if (settled == end) {
          ASSERT_TRUE(consumer.ack_sync(*message, kPatienceNs));
        } else {
          ASSERT_TRUE(consumer.ack(*message));
        }
      }
      if (random() % 2 == 0) (void)consumer.receive(0);
    }
    switch (random() % 4) {
      case 0:
        story += 'k';
        service_.kill_supervisor();
        break;
      case 1:
        story += 't';
        service_.kill_supervisor(SIGTERM);
        break;
      case 2:
        story += 'T';
        service_.kill_supervisor(SIGTERM);
        service_.lose_memory();
        break;
      default:
        story += 'R';
        service_.kill_supervisor();
        service_.lose_memory();
        break;
    }
    service_.start();
  }
  Instance instance = this->instance();
  Consumer consumer = instance.open_consumer("q");
  EXPECT_EQ(drain(consumer), numbered(settled, sent)) << story;
}

TEST_P(DurableRestart, RemovedAndMadeAgainItIsAnotherQueue) {
  for (int round = 0; round < 3; ++round) {
    {
      Instance instance = this->instance();
      Producer producer = instance.open_producer("q");
      for (const std::string& text : numbered(0, 20)) ASSERT_TRUE(producer.publish("old" + text).has_value());
      instance.remove_queue("q");
      instance.create_queue("q", durable_options(kind()));
      Producer again = instance.open_producer("q");
      ASSERT_TRUE(again.publish("new").has_value());
    }
    if (round % 2 == 0) {
      service_.reboot();
    } else {
      service_.kill_supervisor();
      service_.start();
    }
    Instance instance(service_.path());
    {
      Consumer consumer = instance.open_consumer("q");
      EXPECT_EQ(drain(consumer), std::vector<std::string>{"new"});
    }
    instance.remove_queue("q");
    EXPECT_TRUE(std::filesystem::is_empty(service_.data()));
  }
}

// Said to be there, it is there: whatever the journal is busy with.
TEST_P(DurableRestart, AGroupMadeUnderLoadRightBeforeAKillIsThere) {
  mooring_queue_options options = durable_options(kind());
  options.lane_bytes = 64 << 20;  // the new groups hold nobody up for a while
  options.groups_max = 16;
  for (int round = 0; round < 3; ++round) {
    {
      Instance instance(service_.path());
      instance.create_queue("q", options);
      const mooring_producer_options pipelined = no_wait();
      Producer producer = instance.open_producer("q", &pipelined);
      Consumer consumer = instance.open_consumer("q");
      std::atomic<bool> stop{false};
      std::thread publisher([&] {
        const std::string text(30'000, 'x');
        while (!stop.load()) (void)producer.publish(text, 10'000'000);
      });
      std::thread reader([&] {
        while (!stop.load()) {
          if (const auto message = consumer.receive(10'000'000)) consumer.ack(*message);
        }
      });
      for (int i = 0; i < 4; ++i) {
        instance.create_group("q", "g" + std::to_string(round) + std::to_string(i), MOORING_MODE_EXCLUSIVE);
      }
      service_.kill_supervisor();
      stop = true;
      publisher.join();
      reader.join();
    }
    service_.lose_memory();
    service_.start();
    Instance instance(service_.path());
    for (int i = 0; i < 4; ++i) {
      const std::string name = "g" + std::to_string(round) + std::to_string(i);
      ASSERT_NO_THROW((void)instance.open_consumer("q", name)) << name;
    }
    for (int i = 0; i < 4; ++i) instance.remove_group("q", "g" + std::to_string(round) + std::to_string(i));
    Consumer consumer = instance.open_consumer("q");
    drain(consumer);
  }
}

// A consumer that holds one message while the others go on for laps: it is parked in memory, and comes back with the
// log, wherever the window is by then.
TEST(DurableRestartMpmc, AStragglersMessageComesBackLapsLater) {
  DurableService service;
  service.start();
  constexpr std::uint64_t kCount = 20'000;
  {
    Instance instance(service.path());
    instance.create_queue("q", durable_options());
    const mooring_producer_options pipelined = no_wait();
    Producer producer = instance.open_producer("q", &pipelined);
    Consumer straggler = instance.open_consumer("q");
    Consumer consumer = instance.open_consumer("q");
    ASSERT_TRUE(producer.publish("held0").has_value());
    ASSERT_TRUE(producer.publish("held1").has_value());
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(straggler.receive(kPatienceNs).has_value());
    std::thread publisher([&] {
      for (std::uint64_t i = 0; i < kCount; ++i) (void)producer.publish(std::to_string(i), kPatienceNs);
    });
    std::uint64_t received = 0;
    for (; received < kCount; ++received) {
      const auto message = consumer.receive(kPatienceNs);
      if (!message.has_value()) break;
      if (received + 1 == kCount) {
        EXPECT_TRUE(consumer.ack_sync(*message));
      } else {
        EXPECT_TRUE(consumer.ack(*message));
      }
    }
    publisher.join();
    ASSERT_EQ(received, kCount);
    service.kill_supervisor();
  }
  for (int round = 0; round < 2; ++round) {
    service.lose_memory();
    service.start();
    service.kill_supervisor();
  }
  service.lose_memory();
  service.start();
  Instance instance(service.path());
  Consumer consumer = instance.open_consumer("q");
  EXPECT_EQ(drain(consumer, true), (std::vector<std::string>{"held0", "held1"}));
}

}  // namespace
}  // namespace mooring
