// Durable queues while their supervisor runs, stands still (SIGSTOP), or has just been killed, through the public API.
// Standing still is how a test knows that nothing is on the disk yet.
#include <gtest/gtest.h>

#include <thread>

#include "durable_service.hpp"

namespace mooring {
namespace {

using namespace test;

constexpr std::uint64_t kShortNs = 20'000'000;

class DurableQueue : public ::testing::TestWithParam<std::uint32_t> {
 protected:
  DurableService service_;
  std::uint32_t kind() const { return GetParam(); }
  void SetUp() override { service_.start(); }
  Instance instance(const mooring_queue_options& options) {
    Instance made(service_.path());
    made.create_queue("q", options);
    return made;
  }
  Instance instance() { return instance(durable_options(kind())); }
};
INSTANTIATE_TEST_SUITE_P(Kinds, DurableQueue, ::testing::Values(MOORING_KIND_SPSC, MOORING_KIND_MPMC),
                         [](const auto& kind) { return kind.param == MOORING_KIND_SPSC ? "Spsc" : "Mpmc"; });

TEST_P(DurableQueue, PublishReturnsOnceTheMessageIsOnTheDisk) {
  Instance instance = this->instance();
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  std::uint64_t before = 0;
  for (int i = 0; i < 200; ++i) {
    const auto seq = producer.publish(std::to_string(i));
    ASSERT_TRUE(seq.has_value());
    EXPECT_GT(*seq, before);
    EXPECT_EQ(producer.durable_seq(), *seq + 1);
    EXPECT_TRUE(producer.wait_durable(*seq, 0));
    EXPECT_FALSE(producer.wait_durable(*seq + 1, 0));
    before = *seq;
  }
  EXPECT_EQ(drain(consumer), numbered(0, 200));
}

TEST_P(DurableQueue, WhileTheJournalStandsPublishTimesOutAndSaysWhatToWaitFor) {
  Instance instance = this->instance();
  Producer producer = instance.open_producer("q");
  ASSERT_TRUE(producer.publish("0").has_value());
  service_.stop_supervisor();
  std::uint64_t seq = 0;
  EXPECT_EQ(producer.try_publish("1", 1, kShortNs, &seq), MOORING_TIMEOUT);
  ASSERT_NE(seq, 0U);
  std::uint64_t later = 0;
  EXPECT_EQ(producer.try_publish("2", 1, 0, &later), MOORING_TIMEOUT);
  EXPECT_EQ(later, seq + 1);
  EXPECT_EQ(producer.durable_seq(), seq);
  EXPECT_FALSE(producer.wait_durable(seq, 0));
  EXPECT_FALSE(producer.wait_durable(MOORING_EVERYTHING, kShortNs));
  service_.continue_supervisor();
  EXPECT_TRUE(producer.wait_durable(seq, kPatienceNs));
  EXPECT_TRUE(producer.wait_durable(MOORING_EVERYTHING, kPatienceNs));
  EXPECT_EQ(producer.durable_seq(), later + 1);
}

TEST_P(DurableQueue, APipelineWaitsOnceAtTheEnd) {
  Instance instance = this->instance();
  const mooring_producer_options options = no_wait();
  Producer producer = instance.open_producer("q", &options);
  service_.stop_supervisor();
  for (const std::string& text : numbered(0, 1000)) ASSERT_TRUE(producer.publish(text, 0).has_value());
  EXPECT_FALSE(producer.wait_durable(MOORING_EVERYTHING, 0));
  service_.continue_supervisor();
  EXPECT_TRUE(producer.wait_durable(MOORING_EVERYTHING, kPatienceNs));
  Consumer consumer = instance.open_consumer("q");
  EXPECT_EQ(drain(consumer), numbered(0, 1000));
}

TEST_P(DurableQueue, ConsumersSeeNothingThatIsNotOnTheDisk) {
  Instance instance = this->instance();
  const mooring_producer_options options = no_wait();
  Producer producer = instance.open_producer("q", &options);
  Consumer consumer = instance.open_consumer("q");
  service_.stop_supervisor();
  ASSERT_TRUE(producer.publish("0").has_value());
  EXPECT_FALSE(consumer.receive(kShortNs).has_value());
  service_.continue_supervisor();
  const auto message = consumer.receive(kPatienceNs);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(text_of(*message), "0");
  EXPECT_EQ(message->flags & MOORING_REDELIVERED, 0U);
}

TEST_P(DurableQueue, DeliveredEarlyTheySeeItBefore) {
  Instance instance = this->instance(durable_options(kind(), MOORING_DELIVER_EARLY));
  const mooring_producer_options options = no_wait();
  Producer producer = instance.open_producer("q", &options);
  Consumer consumer = instance.open_consumer("q");
  service_.stop_supervisor();
  ASSERT_TRUE(producer.publish("0").has_value());
  const auto message = consumer.receive(kPatienceNs);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(text_of(*message), "0");
  EXPECT_FALSE(producer.wait_durable(MOORING_EVERYTHING, 0));
  EXPECT_EQ(mooring_ack_sync(consumer.get(), &*message, kShortNs), MOORING_TIMEOUT);
  service_.continue_supervisor();
  EXPECT_TRUE(producer.wait_durable(MOORING_EVERYTHING, kPatienceNs));
}

// What waits for room waits for the journal, and consumers wake nobody here: they were done long before.
TEST_P(DurableQueue, DeliveredEarlyAFullRingGoesOnWithTheJournal) {
  Instance instance = this->instance(durable_options(kind(), MOORING_DELIVER_EARLY));
  const mooring_producer_options options = no_wait();
  Producer producer = instance.open_producer("q", &options);
  Consumer consumer = instance.open_consumer("q");
  service_.stop_supervisor();
  std::uint64_t sent = 0;
  const std::string text(1000, 'x');
  while (producer.publish(text, 0).has_value()) ++sent;
  EXPECT_EQ(drain(consumer).size(), sent);
  EXPECT_FALSE(producer.publish(text, kShortNs).has_value()) << "it is free before it is on the disk";
  service_.continue_supervisor();
  for (std::uint64_t i = 0; i < 2 * sent; ++i) {
    ASSERT_TRUE(producer.publish(text, kPatienceNs).has_value());
    drain(consumer);
  }
  EXPECT_TRUE(producer.wait_durable(MOORING_EVERYTHING, kPatienceNs));
}

TEST_P(DurableQueue, AnAcknowledgementWaitsForTheDiskWhenAsked) {
  Instance instance = this->instance();
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  for (const std::string& text : numbered(0, 3)) ASSERT_TRUE(producer.publish(text).has_value());
  const auto message = consumer.receive(kPatienceNs);
  ASSERT_TRUE(message.has_value());
  service_.stop_supervisor();
  EXPECT_EQ(mooring_ack_sync(consumer.get(), &*message, kShortNs), MOORING_TIMEOUT);
  EXPECT_EQ(mooring_ack_sync(consumer.get(), &*message, kShortNs), MOORING_STALE) << "it was acknowledged all the same";
  service_.continue_supervisor();
  const auto next = consumer.receive(kPatienceNs);
  ASSERT_TRUE(next.has_value());
  EXPECT_TRUE(consumer.ack_sync(*next, kPatienceNs));
}

TEST_P(DurableQueue, MessagesOfEverySizeAreThereAfterAReboot) {
  mooring_queue_options options = durable_options(kind());
  options.max_message_bytes = 32 << 20;
  options.lane_bytes = 128 << 20;
  std::vector<std::size_t> sizes = {0, 1, 7, 8, 9, 4095, 4096, 1 << 20, (1 << 20) + 1, 32 << 20, 0};
  const auto content = [](std::size_t size) {
    std::string text(size, '\0');
    for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 2654435761U >> 13 ^ size);
    return text;
  };
  {
    Instance instance = this->instance(options);
    Producer producer = instance.open_producer("q");
    for (const std::size_t size : sizes) ASSERT_TRUE(producer.publish(content(size)).has_value()) << size;
    std::string beyond((32 << 20) + 1, 'x');
    EXPECT_EQ(producer.try_publish(beyond.data(), beyond.size(), 0, nullptr), MOORING_ERR_TOO_BIG);
  }
  service_.reboot();
  Instance instance(service_.path());
  Consumer consumer = instance.open_consumer("q");
  for (const std::size_t size : sizes) {
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message.has_value()) << size;
    EXPECT_TRUE(text_of(*message) == content(size)) << size;
    EXPECT_TRUE(consumer.ack(*message));
  }
  EXPECT_FALSE(consumer.receive(0).has_value());
}

TEST_P(DurableQueue, BatchesAndReservationsAreDurableToo) {
  {
    Instance instance = this->instance();
    Producer producer = instance.open_producer("q");
    std::vector<std::string> texts = numbered(0, 600);
    std::vector<mooring_slice> slices;
    for (const std::string& text : texts) slices.push_back({text.data(), text.size()});
    ASSERT_EQ(producer.publish_batch(slices), 600U);
    EXPECT_TRUE(producer.wait_durable(MOORING_EVERYTHING, 0));
    const auto room = producer.reserve(100);
    ASSERT_EQ(room.size(), 100U);
    std::memcpy(room.data(), "600", 3);
    const std::uint64_t seq = producer.commit(3);
    EXPECT_TRUE(producer.wait_durable(seq, 0));
    (void)producer.reserve(50);
    producer.abort();
    ASSERT_TRUE(producer.publish("601").has_value());
  }
  service_.reboot();
  Instance instance(service_.path());
  Consumer consumer = instance.open_consumer("q");
  EXPECT_EQ(drain(consumer, true), numbered(0, 602));
}

TEST_P(DurableQueue, ABatchThatIsNotFlushedInTimeWasPublishedAllTheSame) {
  Instance instance = this->instance();
  Producer producer = instance.open_producer("q");
  service_.stop_supervisor();
  const std::vector<mooring_slice> slices = {{"0", 1}, {"1", 1}, {"2", 1}};
  std::size_t published = 0;
  EXPECT_EQ(mooring_publish_batch(producer.get(), slices.data(), slices.size(), kShortNs, &published), MOORING_TIMEOUT);
  EXPECT_EQ(published, 3U);
  service_.continue_supervisor();
  EXPECT_TRUE(producer.wait_durable(MOORING_EVERYTHING, kPatienceNs));
  Consumer consumer = instance.open_consumer("q");
  EXPECT_EQ(drain(consumer), numbered(0, 3));
}

// Long enough for several snapshots and segments of the log, with more waiting in the ring than one block takes.
TEST_P(DurableQueue, AfterAFloodTheLastMessageIsDeliveredWithoutAnother) {
  mooring_queue_options options = durable_options(kind());
  options.lane_bytes = 4 << 20;
  Instance instance = this->instance(options);
  const mooring_producer_options pipelined = no_wait();
  for (int round = 0; round < 4; ++round) {
    Producer producer = instance.open_producer("q", &pipelined);
    Consumer consumer = instance.open_consumer("q");
    std::uint64_t received = 0;
    std::string text(100'000, 'x');
    constexpr std::uint64_t kCount = 700;
    std::thread reader([&] {
      while (received < kCount) {
        const auto message = consumer.receive(kPatienceNs);
        if (!message.has_value() || !consumer.ack(*message)) break;
        ++received;
      }
    });
    for (std::uint64_t i = 0; i < kCount; ++i) {
      if (!producer.publish(text, kPatienceNs).has_value()) break;
    }
    reader.join();
    ASSERT_EQ(received, kCount);
    ASSERT_TRUE(producer.wait_durable(MOORING_EVERYTHING, kPatienceNs));
  }
}

TEST_P(DurableQueue, HandlesGoOnOverAKilledSupervisor) {
  Instance instance = this->instance();
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  std::uint64_t sent = 0;
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(producer.publish(std::to_string(sent++), kPatienceNs).has_value());
    service_.kill_supervisor(round % 2 == 0 ? SIGKILL : SIGTERM);
    std::uint64_t seq = 0;
    EXPECT_EQ(producer.try_publish(std::to_string(sent).data(), std::to_string(sent).size(), kShortNs, &seq),
              MOORING_TIMEOUT);
    EXPECT_NE(seq, 0U);
    ++sent;
    service_.start();
    EXPECT_TRUE(producer.wait_durable(seq, kPatienceNs));
  }
  EXPECT_EQ(drain(consumer), numbered(0, sent));
}

// A process of the same user can cut a queue's files short; the supervisor outlives it, and serves the other queues.
TEST_P(DurableQueue, ALaneCutShortTakesDownItsQueueAtMost) {
  Instance instance = this->instance();
  instance.create_queue("other", durable_options(kind()));
  Worker publisher([&](const Worker::Line& line) {
    Instance own(service_.path());
    const mooring_producer_options options = no_wait();
    Producer producer = own.open_producer("q", &options);
    if (!producer.publish("0").has_value() || !producer.wait_durable(MOORING_EVERYTHING, kPatienceNs)) return 1;
    line.say('p');
    (void)line.hear();
    (void)producer.publish("1");
    line.say('q');
    line.rest();
  });
  ASSERT_TRUE(publisher.heard('p'));
  service_.stop_supervisor();
  publisher.say('g');
  ASSERT_TRUE(publisher.heard('q'));
  publisher.kill(SIGKILL);
  publisher.join();
  bool found = false;
  for (const auto& entry : std::filesystem::directory_iterator(service_.queue_directory("q"))) {
    if (!entry.path().filename().string().starts_with("lane-")) continue;
    found = true;
    std::filesystem::resize_file(entry.path(), 0);
  }
  EXPECT_TRUE(found);
  service_.continue_supervisor();
  Producer producer = instance.open_producer("other");
  EXPECT_TRUE(producer.publish("x", kPatienceNs).has_value());
  EXPECT_TRUE(service_.alive());
}

TEST(DurableQueueOptions, VolatileQueuesRefuseWhatNeedsADisk) {
  DurableService service;
  service.start();
  Instance instance(service.path());
  instance.create_queue("v");
  Producer producer = instance.open_producer("v");
  Consumer consumer = instance.open_consumer("v");
  ASSERT_TRUE(producer.publish("x").has_value());
  EXPECT_EQ(mooring_wait_durable(producer.get(), MOORING_EVERYTHING, 0), MOORING_ERR_BAD_ARGUMENT);
  EXPECT_EQ(producer.durable_seq(), 0U);
  const auto message = consumer.receive(kPatienceNs);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(mooring_ack_sync(consumer.get(), &*message, 0), MOORING_ERR_BAD_ARGUMENT);
  EXPECT_TRUE(consumer.ack(*message));
  EXPECT_THROW(instance.create_queue("v", durable_options()), Failure);
  EXPECT_FALSE(std::filesystem::exists(service.data())) << "volatile queues need no place on the disk";
}

}  // namespace
}  // namespace mooring
