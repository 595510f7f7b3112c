// The public API over a real supervisor: what each option means, what a full, removed or taken thing says, what several
// handles, threads and processes of one program may do. Shown through mooring.hpp alone, as a customer would see it.
#include <sys/epoll.h>

#include <atomic>
#include <map>
#include <mooring/mooring.hpp>
#include <thread>

#include "support/service.hpp"

namespace mooring {
namespace {

using test::Service;
using test::Worker;

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kPatienceNs = 30 * kSecondNs;

mooring_queue_options small(std::uint32_t kind = MOORING_KIND_MPMC) {
  mooring_queue_options options;
  mooring_queue_options_init(&options, sizeof options);
  options.kind = kind;
  options.capacity = 4096;
  return options;
}

std::string text_of(const mooring_message& message) {
  return {static_cast<const char*>(message.data), message.size};
}

// The failure that `action` ends with; code 0 if it does not.
template <class Action>
Failure failure_of(Action&& action) {
  try {
    action();
  } catch (const Failure& failure) {
    return failure;
  }
  return Failure(0, "it did not fail");
}
#define EXPECT_FAILURE(action, expected, part)                                                 \
  do {                                                                                         \
    const Failure failure = failure_of([&] { action; });                                       \
    EXPECT_EQ(failure.code(), expected) << failure.what();                                     \
    EXPECT_NE(std::string(failure.what()).find(part), std::string::npos) << failure.what();    \
  } while (0)

class Api : public testing::Test {
 protected:
  void SetUp() override { service_.start(); }
  Service service_;
};

TEST_F(Api, FullQueueRejectsOrBlocksAsItWasCreated) {
  Instance instance(service_.path());
  mooring_queue_options options = small();
  options.overflow = MOORING_OVERFLOW_REJECT;
  instance.create_queue("reject", options);
  options.overflow = MOORING_OVERFLOW_BLOCK;
  instance.create_queue("block", options);
  for (const char* queue : {"reject", "block"}) {
    Producer producer = instance.open_producer(queue);
    Consumer consumer = instance.open_consumer(queue);
    const std::string payload(100, 'x');
    std::uint64_t published = 0;
    while (producer.try_publish(payload.data(), payload.size(), 0, nullptr) == MOORING_OK) ++published;
    EXPECT_GT(published, 100U);
    const bool rejects = std::string(queue) == "reject";
    EXPECT_EQ(producer.try_publish(payload.data(), payload.size(), 20'000'000, nullptr),
              rejects ? MOORING_FULL : MOORING_TIMEOUT);
    // What is acknowledged makes room again, also for one that waits.
    std::thread waiting;
    std::atomic<int> outcome{-1};
    if (!rejects) {
      waiting = std::thread([&] {
        outcome.store(producer.try_publish(payload.data(), payload.size(), kPatienceNs, nullptr));
      });
    }
    std::uint64_t received = 0;
    while (received < published + (rejects ? 0 : 1)) {
      const auto message = consumer.receive(kPatienceNs);
      ASSERT_TRUE(message.has_value()) << received << " of " << published;
      EXPECT_TRUE(consumer.ack(*message));
      ++received;
    }
    if (waiting.joinable()) {
      waiting.join();
      EXPECT_EQ(outcome.load(), MOORING_OK);
    } else {
      EXPECT_EQ(producer.try_publish(payload.data(), payload.size(), 0, nullptr), MOORING_OK);
    }
  }
}

TEST_F(Api, TakenSeatAndLaneNameTheirHolder) {
  Instance instance(service_.path());
  instance.create_queue("line", small(MOORING_KIND_SPSC));
  const std::string us = "pid " + std::to_string(::getpid());
  {
    Producer producer = instance.open_producer("line");
    Consumer consumer = instance.open_consumer("line");
    EXPECT_FAILURE(instance.open_producer("line"), MOORING_ERR_NO_SEAT, us);
    EXPECT_FAILURE(instance.open_consumer("line"), MOORING_ERR_NO_SEAT, us);
    EXPECT_FAILURE(instance.create_group("line", "more", MOORING_MODE_COMPETING), MOORING_ERR_BAD_ARGUMENT, "spsc");
  }
  Producer again = instance.open_producer("line");
  Consumer reader = instance.open_consumer("line");
  ASSERT_TRUE(again.publish("x").has_value());
  EXPECT_EQ(text_of(*reader.receive(kPatienceNs)), "x");

  mooring_queue_options two = small();
  two.producers_max = 1;
  two.consumers_max = 2;
  instance.create_queue("two", two);
  Producer only = instance.open_producer("two");
  EXPECT_FAILURE(instance.open_producer("two"), MOORING_ERR_NO_SEAT, "producers_max");
}

TEST_F(Api, AGroupSeesWhatIsPublishedAfterItsBirth) {
  Instance instance(service_.path());
  instance.create_queue("fan", small());
  instance.create_group("fan", "first", MOORING_MODE_EXCLUSIVE);
  Producer producer = instance.open_producer("fan");
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(producer.publish("early " + std::to_string(i)).has_value());
  instance.create_group("fan", "late", MOORING_MODE_COMPETING);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(producer.publish("late " + std::to_string(i)).has_value());
  const auto read_all = [&](const std::string& group) {
    Consumer consumer = instance.open_consumer("fan", group);
    std::vector<std::string> texts;
    while (const auto message = consumer.receive(0)) {
      texts.push_back(text_of(*message));
      EXPECT_TRUE(consumer.ack(*message));
    }
    return texts;
  };
  EXPECT_EQ(read_all("default").size(), 20U);
  EXPECT_EQ(read_all("first").size(), 20U);
  const auto late = read_all("late");
  ASSERT_EQ(late.size(), 10U);
  EXPECT_EQ(late.front(), "late 0");
  {
    Consumer consumer = instance.open_consumer("fan", "late");
    EXPECT_FAILURE(instance.remove_group("fan", "late"), MOORING_ERR_NO_SEAT, "consumers");
  }
  instance.remove_group("fan", "late");
  EXPECT_FAILURE(instance.open_consumer("fan", "late"), MOORING_ERR_NO_SUCH_QUEUE, "late");
}

TEST_F(Api, ARemovedQueueIsClosedInEveryOpenHandle) {
  Instance instance(service_.path());
  for (const std::uint32_t wait : {MOORING_WAIT_ADAPTIVE, MOORING_WAIT_SPIN, MOORING_WAIT_SLEEP}) {
    instance.create_queue("gone", small());
    mooring_producer_options writes;
    mooring_producer_options_init(&writes, sizeof writes);
    writes.wait = wait;
    mooring_consumer_options reads;
    mooring_consumer_options_init(&reads, sizeof reads);
    reads.wait = wait;
    instance.create_group("gone", "idle", MOORING_MODE_COMPETING);
    Producer blocked = instance.open_producer("gone", &writes);
    Producer open = instance.open_producer("gone", &writes);
    Consumer consumer = instance.open_consumer("gone", "default", &reads);
    Consumer polling = instance.open_consumer("gone", "default", &reads);
    while (blocked.try_publish("0123456789", 10, 0, nullptr) == MOORING_OK) {
    }
    while (const auto message = consumer.receive(0)) EXPECT_TRUE(consumer.ack(*message));
    int published = 0;
    int received = 0;
    std::thread writer([&] { published = blocked.try_publish("x", 1, MOORING_FOREVER, nullptr); });
    std::thread reader([&] {
      mooring_message message;
      received = consumer.try_receive(&message, MOORING_FOREVER);
    });
    instance.remove_queue("gone");
    writer.join();
    reader.join();
    EXPECT_EQ(published, MOORING_ERR_CLOSED);
    EXPECT_EQ(received, MOORING_ERR_CLOSED);
    mooring_message message;
    EXPECT_EQ(polling.try_receive(&message, 0), MOORING_ERR_CLOSED);
    int code = MOORING_OK;
    for (int i = 0; i < 3 && code >= 0; ++i) code = open.try_publish("x", 1, 0, nullptr);
    EXPECT_EQ(code, MOORING_ERR_CLOSED);
  }
}

TEST_F(Api, CreatingAgainIsIdempotentOrNamesTheDifference) {
  Instance instance(service_.path());
  instance.create_queue("same", small());
  instance.create_queue("same", small());
  mooring_queue_options other = small();
  other.overflow = MOORING_OVERFLOW_REJECT;
  EXPECT_FAILURE(instance.create_queue("same", other), MOORING_ERR_EXISTS, "overflow");
  other = small();
  other.producers_max = 3;
  EXPECT_FAILURE(instance.create_queue("same", other), MOORING_ERR_EXISTS, "producers_max");
  other = small();
  other.file_mode = 0660;
  EXPECT_FAILURE(instance.create_queue("same", other), MOORING_ERR_EXISTS, "mode");
  EXPECT_FAILURE(instance.create_queue("same", small(MOORING_KIND_SPSC)), MOORING_ERR_EXISTS, "kind");
}

TEST_F(Api, ThreadsWithHandlesOfTheirOwnShareAnInstance) {
  Instance instance(service_.path());
  instance.create_queue("many", small());
  constexpr int kProducers = 3;
  constexpr int kMessages = 3000;
  std::vector<std::thread> threads;
  std::atomic<int> received{0};
  std::atomic<std::uint64_t> sum{0};
  for (int p = 0; p < kProducers; ++p) {
    threads.emplace_back([&, p] {
      Producer producer = instance.open_producer("many");
      for (int i = 0; i < kMessages; ++i) producer.publish(std::to_string(p * kMessages + i));
    });
  }
  for (int c = 0; c < 2; ++c) {
    threads.emplace_back([&] {
      Consumer consumer = instance.open_consumer("many");
      while (received.load() < kProducers * kMessages) {
        const auto message = consumer.receive(10'000'000);
        if (!message) continue;
        sum.fetch_add(std::stoull(text_of(*message)));
        if (consumer.ack(*message)) received.fetch_add(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::uint64_t count = kProducers * kMessages;
  EXPECT_EQ(sum.load(), count * (count - 1) / 2);
}

TEST_F(Api, AConsumerHoldsAtMostItsQuota) {
  Instance instance(service_.path());
  instance.create_queue("quota", small());
  Producer producer = instance.open_producer("quota");
  for (int i = 0; i < 10; ++i) producer.publish("x");
  mooring_consumer_options options;
  mooring_consumer_options_init(&options, sizeof options);
  options.max_in_flight = 2;
  Consumer consumer = instance.open_consumer("quota", "default", &options);
  const auto first = consumer.receive(0);
  ASSERT_TRUE(first && consumer.receive(0));
  mooring_message message;
  EXPECT_EQ(consumer.try_receive(&message, 0), MOORING_FULL);
  EXPECT_TRUE(consumer.ack(*first));
  EXPECT_FALSE(consumer.ack(*first));
  EXPECT_EQ(consumer.try_receive(&message, 0), MOORING_OK);
}

TEST_F(Api, EmptyMessagesAndTheLargestOnesPass) {
  Instance instance(service_.path());
  for (const std::uint32_t kind : {MOORING_KIND_MPMC, MOORING_KIND_SPSC}) {
    mooring_queue_options options = small(kind);
    options.max_message_bytes = 16U << 20;
    const std::string queue = kind == MOORING_KIND_SPSC ? "large-spsc" : "large";
    instance.create_queue(queue, options);
    Producer producer = instance.open_producer(queue);
    Consumer consumer = instance.open_consumer(queue);
    std::string large(16U << 20, '\0');
    for (int round = 0; round < 10; ++round) {  // several times around the lane
      for (std::size_t i = 0; i < large.size(); i += 4096) {
        large[i] = static_cast<char>(round + static_cast<int>(i / 4096));
      }
      ASSERT_TRUE(producer.publish(large, kPatienceNs).has_value());
      ASSERT_TRUE(producer.publish("", kPatienceNs).has_value());
      const auto message = consumer.receive(kPatienceNs);
      ASSERT_TRUE(message.has_value());
      EXPECT_TRUE(text_of(*message) == large);
      EXPECT_TRUE(consumer.ack(*message));
      const auto empty = consumer.receive(kPatienceNs);
      ASSERT_TRUE(empty.has_value());
      EXPECT_EQ(empty->size, 0U);
      EXPECT_TRUE(consumer.ack(*empty));
    }
    large += 'x';
    EXPECT_FAILURE(producer.publish(large, 0), MOORING_ERR_TOO_BIG, "16777216");
    instance.remove_queue(queue);
  }
}

TEST_F(Api, AForkedChildUsesHandlesOfItsOwn) {
  Instance instance(service_.path());
  instance.create_queue("fork", small());
  Producer producer = instance.open_producer("fork");
  auto consumer = std::make_unique<Consumer>(instance.open_consumer("fork"));
  (void)consumer->fd();  // with a thread behind it, which the child does not have
  Worker child([&](const Worker::Line& line) {
    mooring_message message;
    if (producer.try_publish("x", 1, 0, nullptr) != MOORING_ERR_FORKED) return 1;
    if (consumer->try_receive(&message, 0) != MOORING_ERR_FORKED) return 2;
    if (mooring_queue_remove(instance.get(), "fork") != MOORING_ERR_FORKED) return 3;
    Instance own(service_.path());
    Producer own_producer = own.open_producer("fork");
    Consumer own_consumer = own.open_consumer("fork");
    // Closing the parent's handles must touch neither the parent's queue nor memory of ours.
    consumer.reset();
    producer.close();
    if (!own_producer.publish("from the child")) return 4;
    const auto got = own_consumer.receive(kPatienceNs);
    if (!got || text_of(*got) != "from the child" || !own_consumer.ack(*got)) return 5;
    line.say('d');
    return 0;
  });
  EXPECT_TRUE(child.heard('d'));
  EXPECT_EQ(child.join(), 0);
  ASSERT_TRUE(producer.publish("from the parent").has_value());
  const auto got = consumer->receive(kPatienceNs);
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(text_of(*got), "from the parent");
}

// The publisher publishes as soon as it hears that the last message was received, so that each publish races with the
// arming of the descriptor: none may be left behind an unreadable one. Bursts of two: the second of a burst too.
TEST_F(Api, TheDescriptorTellsOfEveryMessage) {
  Instance instance(service_.path());
  constexpr int kMessages = 10'000;
  for (const std::string group : {"default", "strict"}) {
    const std::string queue = "poll-" + group;  // of its own: another group would hold the messages
    instance.create_queue(queue, small());
    if (group == "strict") {
      instance.create_group(queue, group, MOORING_MODE_EXCLUSIVE);
      instance.remove_group(queue, "default");
    }
    Consumer consumer = instance.open_consumer(queue, group);
    Producer producer = instance.open_producer(queue);
    const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{};
    event.events = EPOLLIN;
    ASSERT_EQ(::epoll_ctl(epoll, EPOLL_CTL_ADD, consumer.fd(), &event), 0);
    std::atomic<int> received{0};
    std::thread publisher([&] {
      for (int i = 0; i < kMessages; i += 2) {
        while (received.load() < i) std::this_thread::yield();
        producer.publish(std::to_string(i));
        producer.publish(std::to_string(i + 1));
      }
    });
    int waits = 0;
    while (received.load() < kMessages) {
      mooring_message message;
      const int code = consumer.try_receive(&message, 0);
      if (code == MOORING_OK) {
        EXPECT_EQ(text_of(message), std::to_string(received.load()));
        EXPECT_TRUE(consumer.ack(message));
        received.fetch_add(1);
        continue;
      }
      ASSERT_EQ(code, MOORING_EMPTY);
      ++waits;
      ASSERT_EQ(::epoll_wait(epoll, &event, 1, test::kWatchdogMs), 1) << received.load();
    }
    publisher.join();
    ::close(epoll);
    EXPECT_GT(waits, 0);
  }
}

}  // namespace
}  // namespace mooring
