// Shows: a volatile queue with overflow = spill holds up no publisher before max_backlog_bytes, whoever does not read;
// every group gets every message, in order and byte for byte, also those that failed; nothing goes to the disk while
// the groups keep up; it goes on over a killed supervisor, and goes with the shared memory.
// How: queues of 4,096 messages and 32 KiB lanes, consumers that are absent, slow, stopped and killed, mooringd killed
// while messages are on their way to the log, and a look at what the log holds.
#include <algorithm>
#include <fstream>
#include <set>
#include <thread>

#include "durable/doomed_supervisor.hpp"

namespace mooring::test {
namespace {

constexpr std::uint64_t kLaps = 45'000;  // eleven times the cells, some 300 times a lane

class Spill : public ::testing::TestWithParam<std::uint32_t> {
 public:
  static mooring_queue_options options(std::uint64_t max_backlog_bytes) {
    mooring_queue_options options;
    mooring_queue_options_init(&options, sizeof options);
    options.capacity = 4096;
    options.overflow = MOORING_OVERFLOW_SPILL;
    options.lane_bytes = 32 << 10;
    options.max_message_bytes = 1000;
    options.max_backlog_bytes = max_backlog_bytes;
    return options;
  }

 protected:
  void SetUp() override {
    service_.start();
    make(0);
  }
  void make(std::uint64_t max_backlog_bytes) {
    Instance instance(service_.path());
    instance.create_queue("q", options(max_backlog_bytes));
    instance.create_group("q", "g", GetParam());
    instance.remove_group("q", "default");
  }
  void publish(std::uint64_t from, std::uint64_t to) {
    Instance instance(service_.path());
    Producer producer = instance.open_producer("q");
    for (std::uint64_t i = from; i < to; ++i) {
      ASSERT_TRUE(producer.publish(body_of(i), kPatienceNs).has_value()) << i;
    }
  }
  // Of these texts, how many are in some file of the log?
  std::size_t found_in_log(const std::vector<std::string>& texts) const {
    std::vector<std::string> contents;
    for (const auto& entry : std::filesystem::directory_iterator(service_.data() + "/q-q")) {
      std::string content(entry.file_size(), '\0');
      std::ifstream(entry.path(), std::ios::binary).read(content.data(), static_cast<std::streamsize>(content.size()));
      contents.push_back(std::move(content));
    }
    return static_cast<std::size_t>(std::ranges::count_if(texts, [&](const std::string& text) {
      return std::ranges::any_of(contents,
                                 [&](const auto& content) { return content.find(text) != std::string::npos; });
    }));
  }

  DurableService service_;
};

INSTANTIATE_TEST_SUITE_P(Modes, Spill, ::testing::Values(MOORING_MODE_COMPETING, MOORING_MODE_EXCLUSIVE),
                         [](const ::testing::TestParamInfo<std::uint32_t>& mode) {
                           return mode.param == MOORING_MODE_EXCLUSIVE ? "Exclusive" : "Competing";
                         });

TEST_P(Spill, AGroupThatNobodyReadsHoldsUpNobody) {
  publish(0, kLaps);
  Instance instance(service_.path());
  Consumer consumer = instance.open_consumer("q", "g");
  take(consumer, 0, kLaps);
  EXPECT_FALSE(consumer.receive(0).has_value());
  publish(kLaps, kLaps + 500);
  take(consumer, kLaps, kLaps + 500);
  EXPECT_FALSE(consumer.receive(0).has_value());
}

TEST_P(Spill, NothingGoesToTheDiskWhileTheGroupsKeepUp) {
  Instance instance(service_.path());
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q", "g");
  for (std::uint64_t i = 0; i < kLaps; ++i) {
    ASSERT_TRUE(producer.publish(body_of(i), kPatienceNs).has_value());
    take(consumer, i, i + 1);
  }
  std::vector<std::string> some;
  for (std::uint64_t i = 0; i < kLaps; i += 5000) some.push_back(body_of(i));
  EXPECT_EQ(found_in_log(some), 0U);
  // And it would be seen.
  publish(kLaps, kLaps + 3 * 4096);
  EXPECT_EQ(found_in_log({body_of(kLaps), body_of(kLaps + 4096)}), 2U);
  take(consumer, kLaps, kLaps + 3 * 4096);
}

TEST_P(Spill, OneGroupLivesAndTheOtherFallsBehind) {
  Instance instance(service_.path());
  instance.create_group("q", "absent", GetParam());
  Consumer consumer = instance.open_consumer("q", "g");
  for (std::uint64_t i = 0; i < kLaps; i += 3000) {
    publish(i, i + 3000);
    take(consumer, i, i + 3000);
  }
  Consumer late = instance.open_consumer("q", "absent");
  take(late, 0, kLaps / 2);
  // Born in the middle of it: from here on, and nothing of before.
  instance.create_group("q", "young", GetParam());
  Consumer young = instance.open_consumer("q", "young");
  EXPECT_FALSE(young.receive(0).has_value());
  publish(kLaps, 2 * kLaps);
  take(young, kLaps, 2 * kLaps);
  take(late, kLaps / 2, 2 * kLaps);
  take(consumer, kLaps, 2 * kLaps);
}

// Publishers, a consumer that is stopped again and again, and a supervisor that is killed and started meanwhile.
TEST_P(Spill, WithTheSupervisorKilledEveryMessageComesInOrder) {
  Worker reader([&](const Worker::Line& line) {
    Instance instance(service_.path());
    Consumer consumer = instance.open_consumer("q", "g");
    line.say('r');
    for (std::uint64_t i = 0; i < kLaps; ++i) {
      mooring_message message{};
      const int code = consumer.try_receive(&message, kPatienceNs);
      if (code != MOORING_OK || text_of(message) != body_of(i) || !consumer.ack(message)) {
        std::fprintf(stderr, "message %llu: %d, %s\n", static_cast<unsigned long long>(i), code,
                     mooring_error_detail());
        return 1;
      }
    }
    return 0;
  });
  ASSERT_TRUE(reader.heard('r'));
  std::atomic<std::uint64_t> published{0};
  std::atomic<std::uint64_t> wanted{0};
  std::atomic<bool> failed{false};
  std::thread publisher([&] {
    Instance instance(service_.path());
    Producer producer = instance.open_producer("q");
    for (std::uint64_t i = 0; i < kLaps && !failed; ++i) {
      while (i >= wanted.load()) ::sched_yield();
      if (!producer.publish(body_of(i), kPatienceNs).has_value()) failed = true;
      published.store(i + 1);
    }
  });
  for (std::uint64_t round = 1; round <= 9; ++round) {
    reader.stop();
    // A lap and more; its last part while nobody serves the queue.
    wanted = round * kLaps / 10;
    EXPECT_TRUE(eventually([&] { return failed || published.load() >= wanted.load() - 1000; }));
    service_.kill_supervisor();
    if (round % 2 == 0) reader.go_on();
    service_.start();
    reader.go_on();
  }
  wanted = kLaps;
  publisher.join();
  EXPECT_FALSE(failed);
  EXPECT_EQ(reader.join(), 0) << "1: a message was missing, wrong, or out of order";
}

// mooringd killed at each step of writing the log and of letting go of it: the next one goes on, and nothing is
// missing.
struct SpillKill {
  const char* point;
  int turn;  // of those after the queue was made
};
class SpillKilled : public ::testing::TestWithParam<SpillKill> {};
INSTANTIATE_TEST_SUITE_P(Points, SpillKilled,
                         ::testing::Values(SpillKill{"journal.sent", 3}, SpillKill{"journal.written", 3},
                                           SpillKill{"journal.synced", 3}, SpillKill{"journal.log_mark", 3},
                                           SpillKill{"journal.durable_seq", 3}, SpillKill{"journal.durable_mark", 3},
                                           SpillKill{"journal.segment_renamed", 1},
                                           SpillKill{"journal.before_retire", 1}),
                         [](const ::testing::TestParamInfo<SpillKill>& kill) {
                           std::string name = kill.param.point;
                           std::ranges::replace(name, '.', '_');
                           return name;
                         });

TEST_P(SpillKilled, TheNextOneGoesOnAndNothingIsMissing) {
  auto* hits = shared_by_processes<std::atomic<int>>();
  ASSERT_NE(hits, nullptr);
  *hits = -1'000'000;  // not while the queue is made
  DurableService service;
  Worker doomed([&](const Worker::Line& line) {
    return serve_until_killed(line, service.path(), {GetParam().point, GetParam().turn, hits});
  });
  ASSERT_TRUE(doomed.heard('s'));
  {
    Instance instance(service.path());
    instance.create_queue("q", Spill::options(0));
  }
  // Some points come while it is written, some while it is drained.
  Worker reader([&](const Worker::Line& line) {
    Instance instance(service.path());
    Consumer consumer = instance.open_consumer("q");
    line.say('r');
    line.hear();
    take(consumer, 0, kLaps);
    return ::testing::Test::HasFailure() ? 1 : 0;
  });
  ASSERT_TRUE(reader.heard('r'));
  *hits = 0;
  std::atomic<std::uint64_t> published{0};
  std::thread publisher([&] {
    Instance instance(service.path());
    Producer producer = instance.open_producer("q");
    for (std::uint64_t i = 0; i < kLaps && producer.publish(body_of(i), kPatienceNs).has_value(); ++i)
      published = i + 1;
  });
  EXPECT_TRUE(eventually([&] { return *hits >= GetParam().turn || published == kLaps; }));
  reader.say('g');
  EXPECT_TRUE(eventually([&] { return *hits >= GetParam().turn; })) << "the point was never met";
  doomed.join();
  service.start();
  publisher.join();
  EXPECT_EQ(published, kLaps);
  EXPECT_EQ(reader.join(), 0);
  ::munmap(hits, sizeof *hits);
}

TEST_P(Spill, WhatFailsFarBehindComesAgainWhole) {
  publish(0, kLaps);
  Instance instance(service_.path());
  ASSERT_EQ(mooring_group_set(instance.get(), "q", "g", "retry_initial", "0s"), MOORING_OK);
  Consumer consumer = instance.open_consumer("q", "g");
  take(consumer, 0, 100);
  ASSERT_TRUE(consumer.nack(*consumer.receive(kPatienceNs)));
  std::uint64_t next = 101;
  for (;;) {
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message.has_value());
    ASSERT_TRUE(consumer.ack(*message));
    if (text_of(*message) == body_of(100)) {
      EXPECT_EQ(message->attempt, 2U);
      break;
    }
    ASSERT_EQ(text_of(*message), body_of(next++));
  }
  take(consumer, next, kLaps);
}

TEST_P(Spill, WhatAKilledConsumerHeldFarBehindComesAgain) {
  publish(0, kLaps);
  Worker holder([&](const Worker::Line& line) {
    Instance instance(service_.path());
    Consumer consumer = instance.open_consumer("q", "g");
    for (int i = 0; i < 10; ++i) {
      if (!consumer.receive(kPatienceNs).has_value()) return 1;
    }
    line.say('h');
    for (;;) ::pause();
  });
  ASSERT_TRUE(holder.heard('h'));
  publish(kLaps, kLaps + 5000);
  holder.kill(SIGKILL);
  Instance instance(service_.path());
  std::optional<Consumer> consumer;
  ASSERT_TRUE(eventually([&] {  // the one seat of an exclusive group is free once the death is confirmed
    try {
      consumer.emplace(instance.open_consumer("q", "g"));
      return true;
    } catch (const Failure&) {
      return false;
    }
  }));
  std::set<std::string> missing;
  for (std::uint64_t i = 0; i < 10; ++i) missing.insert(body_of(i));
  std::uint64_t next = 10;
  while (!missing.empty() || next < 1000) {
    const auto message = consumer->receive(kPatienceNs);
    ASSERT_TRUE(message.has_value());
    if (missing.erase(text_of(*message)) != 0) {
      EXPECT_NE(message->flags & MOORING_REDELIVERED, 0U);
    } else {
      ASSERT_EQ(text_of(*message), body_of(next++));
    }
    ASSERT_TRUE(consumer->ack(*message));
  }
}

TEST_P(Spill, ItGoesWithTheMemory) {
  publish(0, kLaps);
  ASSERT_TRUE(std::filesystem::exists(service_.data() + "/q-q"));
  service_.reboot();
  EXPECT_FALSE(std::filesystem::exists(service_.data() + "/q-q"));
  Instance instance(service_.path());
  EXPECT_THROW(static_cast<void>(instance.open_consumer("q", "g")), Failure);
  make(0);
  publish(7, 9);
}

TEST_P(Spill, AtTheBoundPublishersWaitUntilGroupsHaveSettledSome) {
  {
    Instance instance(service_.path());
    instance.remove_queue("q");
  }
  make(4 << 20);
  Instance instance(service_.path());
  Producer producer = instance.open_producer("q");
  std::uint64_t next = 0;
  while (producer.publish(body_of(next), 500'000'000).has_value()) {
    ++next;
    ASSERT_LT(next, 40'000U) << "the bound bounds nothing";
  }
  EXPECT_GT(next, 15'000U);
  const std::uint64_t all = next + 20'000;
  std::thread publisher([&] {
    for (; next < all; ++next) {
      if (!producer.publish(body_of(next), kPatienceNs).has_value()) return;
    }
  });
  Consumer consumer = instance.open_consumer("q", "g");
  take(consumer, 0, all);
  publisher.join();
  EXPECT_EQ(next, all);
}

TEST(SpillOptions, OnlyVolatileMpmcQueuesSpill) {
  DurableService service;
  service.start();
  Instance instance(service.path());
  mooring_queue_options options;
  mooring_queue_options_init(&options, sizeof options);
  options.overflow = MOORING_OVERFLOW_SPILL;
  options.kind = MOORING_KIND_SPSC;
  EXPECT_THROW(instance.create_queue("spsc", options), Failure);
  options.kind = MOORING_KIND_MPMC;
  options.durability = MOORING_DURABLE;
  EXPECT_THROW(instance.create_queue("durable", options), Failure);
  options.durability = MOORING_VOLATILE;
  instance.create_queue("good", options);
  instance.create_queue("good", options);  // it is there
  options.overflow = MOORING_OVERFLOW_BLOCK;
  EXPECT_THROW(instance.create_queue("good", options), Failure);
}

}  // namespace
}  // namespace mooring::test
