// Shows: a group that is created may begin at the oldest message kept or at any one behind it, has every message from
// there on, in order and byte for byte, and says so where a message is not kept any more. A supervisor killed at any
// step of such a birth leaves the whole group or none.
// How: queues of every kind with messages that tell which they are; births beside publishers and consumers at work;
// mooringd killed at each named point.
#include <thread>

#include "durable/doomed_supervisor.hpp"

namespace mooring::test {
namespace {

enum class Kept { kMemory, kSpill, kLog };
struct Shape {
  std::uint32_t kind;
  std::uint32_t mode;
  Kept kept;
};
std::string name_of(const ::testing::TestParamInfo<Shape>& info) {
  const char* const kept[] = {"Volatile", "Spilling", "Durable"};
  return std::string(kept[static_cast<int>(info.param.kept)]) +
         (info.param.kind == MOORING_KIND_SPSC ? "Spsc" : "Mpmc") +
         (info.param.mode == MOORING_MODE_EXCLUSIVE ? "Exclusive" : "Competing");
}

class GroupStart : public ::testing::TestWithParam<Shape> {
 protected:
  static mooring_queue_options options() {
    mooring_queue_options options = durable_options(GetParam().kind);
    options.durability = GetParam().kept == Kept::kLog ? MOORING_DURABLE : MOORING_VOLATILE;
    if (GetParam().kept == Kept::kSpill) options.overflow = MOORING_OVERFLOW_SPILL;
    options.lane_bytes = 1 << 20;
    return options;
  }
  static mooring_group_options at(std::uint32_t start, std::uint64_t seq = 0) {
    return group_options(GetParam().mode, start, seq);
  }
  // Numbers follow seqs: message `first_seq_ + i` is body_of(i).
  void publish(std::uint64_t from, std::uint64_t to) {
    Instance instance(service_.path());
    const mooring_producer_options pipelined = no_wait();
    Producer producer = instance.open_producer("q", &pipelined);
    for (std::uint64_t i = from; i < to; ++i) {
      const auto seq = producer.publish(body_of(i), kPatienceNs);
      ASSERT_TRUE(seq.has_value()) << i;
      if (i == 0) first_seq_ = *seq;
      ASSERT_EQ(*seq, first_seq_ + i);
    }
    if (GetParam().kept == Kept::kLog) {
      ASSERT_TRUE(producer.wait_durable(MOORING_EVERYTHING, kPatienceNs));
    }
  }
  void expect_refused(Instance& instance, std::uint64_t seq, std::uint64_t possible) {
    try {
      (void)instance.create_group("q", "refused", at(MOORING_START_SEQ, seq));
      FAIL() << "message " << seq << " was taken";
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.code(), MOORING_ERR_BAD_ARGUMENT);
      EXPECT_NE(std::string(failure.what()).find(" " + std::to_string(possible)), std::string::npos) << failure.what();
    }
  }

  DurableService service_;
  std::uint64_t first_seq_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Shapes, GroupStart,
                         ::testing::Values(Shape{MOORING_KIND_MPMC, MOORING_MODE_COMPETING, Kept::kMemory},
                                           Shape{MOORING_KIND_MPMC, MOORING_MODE_EXCLUSIVE, Kept::kMemory},
                                           Shape{MOORING_KIND_SPSC, MOORING_MODE_EXCLUSIVE, Kept::kMemory},
                                           Shape{MOORING_KIND_MPMC, MOORING_MODE_COMPETING, Kept::kSpill},
                                           Shape{MOORING_KIND_MPMC, MOORING_MODE_EXCLUSIVE, Kept::kSpill},
                                           Shape{MOORING_KIND_MPMC, MOORING_MODE_COMPETING, Kept::kLog},
                                           Shape{MOORING_KIND_MPMC, MOORING_MODE_EXCLUSIVE, Kept::kLog},
                                           Shape{MOORING_KIND_SPSC, MOORING_MODE_EXCLUSIVE, Kept::kLog}),
                         name_of);

TEST_P(GroupStart, AGroupBeginsWhereItIsAskedTo) {
  service_.start();
  Instance instance(service_.path());
  instance.create_queue("q", options());
  const std::uint64_t count = GetParam().kept == Kept::kMemory ? 1500 : 20'000;  // beyond memory where there is a log
  publish(0, count);
  Consumer slow = instance.open_consumer("q");
  take(slow, 0, 700);
  EXPECT_EQ(instance.create_group("q", "tail", at(MOORING_START_TAIL)), first_seq_ + count);
  instance.remove_group("q", "tail");  // four is the most
  const std::uint64_t oldest = instance.create_group("q", "oldest", at(MOORING_START_OLDEST));
  ASSERT_GE(oldest, first_seq_);
  if (GetParam().kept == Kept::kLog) {
    EXPECT_EQ(oldest, first_seq_) << "nothing has left the log";
  } else {
    EXPECT_LE(oldest, first_seq_ + 700) << "the group default has not finished more";
  }
  EXPECT_EQ(instance.create_group("q", "oldest", at(MOORING_START_SEQ, first_seq_ + 900)), 0U) << "it is there";
  EXPECT_EQ(instance.create_group("q", "seq", at(MOORING_START_SEQ, first_seq_ + 901)), first_seq_ + 901);
  EXPECT_EQ(instance.create_group("q", "next", at(MOORING_START_SEQ, first_seq_ + count)), first_seq_ + count);
  instance.remove_group("q", "next");
  if (oldest > 1) expect_refused(instance, oldest - 1, oldest);
  expect_refused(instance, first_seq_ + count + 1, first_seq_ + count);
  Consumer replay = instance.open_consumer("q", "oldest");
  Consumer behind = instance.open_consumer("q", "seq");
  take(replay, oldest - first_seq_, count);
  take(behind, 901, count);
  take(slow, 700, count);
  EXPECT_FALSE(replay.receive(0).has_value());
  EXPECT_FALSE(behind.receive(0).has_value());
  // A refused one left nothing that holds anybody.
  publish(count, count + 1000);
  take(replay, count, count + 1000);
  take(behind, count, count + 1000);
  take(slow, count, count + 1000);
}

TEST_P(GroupStart, BesideTrafficNoGroupIsBornWithAHole) {
  service_.start();
  Instance instance(service_.path());
  instance.create_queue("q", options());
  std::atomic<bool> stop{false};
  std::atomic<bool> wrong{false};
  std::atomic<std::uint64_t> first_seq{0};
  std::thread publisher([&] {
    Instance own(service_.path());
    const mooring_producer_options pipelined = no_wait();
    Producer producer = own.open_producer("q", &pipelined);
    for (std::uint64_t i = 0; !stop; ++i) {
      std::optional<std::uint64_t> seq;
      while (!stop && !(seq = producer.publish(body_of(i), 10'000'000)).has_value()) {
      }
      if (i == 0 && seq.has_value()) first_seq = *seq;
    }
  });
  std::thread reader([&] {
    Instance own(service_.path());
    Consumer consumer = own.open_consumer("q");
    for (std::uint64_t i = 0; !stop;) {
      const auto message = consumer.receive(10'000'000);
      if (!message.has_value()) continue;
      if (text_of(*message) != body_of(i++) || !consumer.ack(*message)) wrong = true;
    }
  });
  ASSERT_TRUE(eventually([&] { return first_seq.load() != 0; }));
  for (int round = 0; round < 30; ++round) {
    const std::uint64_t first = instance.create_group("q", "late", at(MOORING_START_OLDEST));
    Consumer late = instance.open_consumer("q", "late");
    const std::uint64_t from = first - first_seq;
    take(late, from, from + 300);
    late.close();
    instance.remove_group("q", "late");
    if (HasFailure()) break;
  }
  stop = true;
  publisher.join();
  reader.join();
  EXPECT_FALSE(wrong) << "the group that was there missed a message";
}

TEST_P(GroupStart, WhatHasLeftTheLogIsRefusedByItsNumber) {
  if (GetParam().kept != Kept::kLog) GTEST_SKIP() << "no log that is kept";
  service_.start();
  Instance instance(service_.path());
  mooring_queue_options large = options();
  large.lane_bytes = 16 << 20;
  large.max_message_bytes = 2 << 20;
  instance.create_queue("q", large);
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  const std::uint64_t count = 90;
  std::uint64_t first = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string body = body_of(i) + std::string(1 << 20, 'x');
    const auto seq = producer.publish(body, kPatienceNs);
    ASSERT_TRUE(seq.has_value());
    if (i == 0) first = *seq;
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message.has_value());
    ASSERT_TRUE(consumer.ack_sync(*message, kPatienceNs));
  }
  std::uint64_t oldest = 0;
  EXPECT_TRUE(eventually([&] {
    oldest = instance.create_group("q", "g", at(MOORING_START_OLDEST));
    if (oldest <= first) instance.remove_group("q", "g");
    return oldest > first;
  })) << "nothing has left the log";
  EXPECT_LE(oldest, first + count);
  expect_refused(instance, first, oldest);
  Consumer replay = instance.open_consumer("q", "g");
  for (std::uint64_t i = oldest - first; i < count; ++i) {
    const auto message = replay.receive(kPatienceNs);
    ASSERT_TRUE(message.has_value()) << i;
    ASSERT_EQ(text_of(*message), body_of(i) + std::string(1 << 20, 'x'));
    ASSERT_TRUE(replay.ack(*message));
  }
  EXPECT_FALSE(replay.receive(0).has_value());
}

TEST_P(GroupStart, ASupervisorKilledInTheBirthLeavesTheGroupOrNone) {
  std::atomic<int>* hits = shared_by_processes<std::atomic<int>>();
  ASSERT_NE(hits, nullptr);
  for (const char* point : {"keeper.group_made", "keeper.group_entered", "keeper.group_epoch", "keeper.group_placed",
                            "keeper.group_initialised", "keeper.group_based", "keeper.group_live"}) {
    SCOPED_TRACE(point);
    DurableService service;
    *hits = 0;
    Worker doomed([&](const Worker::Line& line) {
      return serve_until_killed(line, service.path(), {point, 2, hits});  // the first is the group default's
    });
    ASSERT_TRUE(doomed.heard('s'));
    std::uint64_t first_seq = 0;
    {
      Instance instance(service.path());
      instance.create_queue("q", options());
      Producer producer = instance.open_producer("q");
      for (std::uint64_t i = 0; i < 200; ++i) {
        const auto seq = producer.publish(body_of(i), kPatienceNs);
        ASSERT_TRUE(seq.has_value());
        if (i == 0) first_seq = *seq;
      }
      EXPECT_THROW((void)instance.create_group("q", "g", at(MOORING_START_SEQ, first_seq + 50)), Failure);
    }
    doomed.join();
    ASSERT_GE(hits->load(), 2);
    service.start();
    Instance instance(service.path());
    Producer producer = instance.open_producer("q");
    for (std::uint64_t i = 200; i < 300; ++i) ASSERT_TRUE(producer.publish(body_of(i), kPatienceNs).has_value());
    const std::uint64_t begins = instance.create_group("q", "g", at(MOORING_START_SEQ, first_seq + 50));
    EXPECT_TRUE(begins == 0 || begins == first_seq + 50) << begins;
    EXPECT_EQ(begins == 0, std::string(point) == "keeper.group_live");
    Consumer consumer = instance.open_consumer("q", "g");
    take(consumer, 50, 300);
    EXPECT_FALSE(consumer.receive(0).has_value());
  }
  ::munmap(hits, sizeof *hits);
}

TEST_P(GroupStart, ASupervisorKilledAsItRefusesLeavesNoGroup) {
  std::atomic<int>* hits = shared_by_processes<std::atomic<int>>();
  ASSERT_NE(hits, nullptr);
  DurableService service;
  Worker doomed([&](const Worker::Line& line) {
    return serve_until_killed(line, service.path(), {"keeper.birth_leaving", 1, hits});
  });
  ASSERT_TRUE(doomed.heard('s'));
  {
    Instance instance(service.path());
    instance.create_queue("q", options());
    Producer producer = instance.open_producer("q");
    const auto seq = producer.publish(body_of(0), kPatienceNs);
    ASSERT_TRUE(seq.has_value());
    EXPECT_THROW((void)instance.create_group("q", "g", at(MOORING_START_SEQ, *seq + 100)), Failure);
  }
  doomed.join();
  ASSERT_EQ(hits->load(), 1);
  service.start();
  Instance instance(service.path());
  Producer producer = instance.open_producer("q");
  EXPECT_THROW((void)instance.open_consumer("q", "g"), Failure);
  for (std::uint64_t i = 1; i < 200; ++i) ASSERT_TRUE(producer.publish(body_of(i), kPatienceNs).has_value());
  Consumer consumer = instance.open_consumer("q");
  take(consumer, 0, 200);
  ::munmap(hits, sizeof *hits);
}

}  // namespace
}  // namespace mooring::test
