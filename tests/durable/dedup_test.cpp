// Deduplication by message_id, as its users see it: of several messages with one id the first in the queue's order is
// delivered and no other, whoever published them, to whichever group, from memory or from the log; publishers are told
// which message was first. Over the ends of publishers and supervisors, also at each step of the decision, and with the
// shared memory lost.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "doomed_supervisor.hpp"

namespace mooring {
namespace {

using namespace test;

mooring_queue_options dedup_options(std::uint32_t kind, std::uint64_t messages_max = 0) {
  mooring_queue_options options = durable_options(kind);
  options.dedup_window_ns = 86'400'000'000'000;
  options.dedup_max_messages = messages_max;
  return options;
}

struct Sent {
  int code = 0;
  std::uint64_t seq = 0;
};

Sent send(Producer& producer, const std::string& id, const std::string& text) {
  mooring_publish_options options = publish_options();
  options.message_id = as_slice(id);
  Sent sent;
  sent.code = producer.try_publish(text.data(), text.size(), options, kPatienceNs, &sent.seq);
  return sent;
}

class Dedup : public ::testing::TestWithParam<std::uint32_t> {
 protected:
  DurableService service_;
  void SetUp() override { service_.start(); }
  std::uint32_t kind() const { return GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Kinds, Dedup, ::testing::Values(MOORING_KIND_SPSC, MOORING_KIND_MPMC),
                         [](const auto& kind) { return kind.param == MOORING_KIND_SPSC ? "Spsc" : "Mpmc"; });

TEST_P(Dedup, TheFirstIsDeliveredAndTheOthersAreToldWhichItWas) {
  Instance instance(service_.path());
  instance.create_queue("q", dedup_options(kind()));
  instance.create_queue("q", dedup_options(kind()));  // the same one
  EXPECT_THROW(instance.create_queue("q", durable_options(kind())), Failure);
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  const Sent first = send(producer, "a", "1");
  EXPECT_EQ(first.code, MOORING_OK);
  const Sent other = send(producer, "b", "2");
  EXPECT_EQ(other.code, MOORING_OK);
  for (int i = 0; i < 3; ++i) {
    const Sent again = send(producer, "a", "again");
    EXPECT_EQ(again.code, MOORING_DUPLICATE);
    EXPECT_EQ(again.seq, first.seq);
  }
  EXPECT_EQ(mooring_wait_durable(producer.get(), 0, kPatienceNs), MOORING_OK) << "no message, so no duplicate";
  ASSERT_TRUE(producer.publish("no id").has_value());
  EXPECT_EQ(drain(consumer), (std::vector<std::string>{"1", "2", "no id"}));
  const Sent late = send(producer, "b", "late");
  EXPECT_EQ(late.code, MOORING_DUPLICATE);  // what was settled is known as well
  EXPECT_EQ(late.seq, other.seq);
  EXPECT_TRUE(drain(consumer).empty());
}

TEST_P(Dedup, PipelinedPublishersAskLater) {
  Instance instance(service_.path());
  instance.create_queue("q", dedup_options(kind()));
  const mooring_producer_options options = no_wait();
  Producer producer = instance.open_producer("q", &options);
  std::vector<std::uint64_t> seqs;
  // More duplicates than there are notes: the older ones are found in the log.
  for (int i = 0; i < 400; ++i) {
    const Sent sent = send(producer, std::to_string(i % 100), std::to_string(i));
    ASSERT_EQ(sent.code, MOORING_OK);
    seqs.push_back(sent.seq);
  }
  ASSERT_TRUE(producer.wait_durable(MOORING_EVERYTHING, kPatienceNs));
  for (std::size_t i = 0; i < seqs.size(); ++i) {
    EXPECT_EQ(mooring_wait_durable(producer.get(), seqs[i], kPatienceNs), i < 100 ? MOORING_OK : MOORING_DUPLICATE)
        << i;
    EXPECT_EQ(producer.first_seq(seqs[i]), seqs[i % 100]) << i;
  }
  Consumer consumer = instance.open_consumer("q");
  EXPECT_EQ(drain(consumer), numbered(0, 100));
}

TEST_P(Dedup, TheWindowByCountForgetsTheOldest) {
  Instance instance(service_.path());
  instance.create_queue("q", dedup_options(kind(), 10));
  Producer producer = instance.open_producer("q");
  for (int i = 0; i < 10; ++i) EXPECT_EQ(send(producer, std::to_string(i), "x").code, MOORING_OK);
  EXPECT_EQ(send(producer, "0", "x").code, MOORING_DUPLICATE);
  EXPECT_EQ(send(producer, "10", "x").code, MOORING_OK);
  EXPECT_EQ(send(producer, "1", "x").code, MOORING_DUPLICATE);
  EXPECT_EQ(send(producer, "0", "x").code, MOORING_OK);
}

TEST_P(Dedup, GroupsFarBehindAndBornLaterSkipThemToo) {
  Instance instance(service_.path());
  mooring_queue_options options = dedup_options(kind());
  options.lane_bytes = 64 << 10;
  instance.create_queue("q", options);
  Producer producer = instance.open_producer("q");
  const std::string text(300, 'x');
  std::vector<std::string> all;
  const auto publish_some = [&](int count) {
    const mooring_producer_options pipelined = no_wait();
    producer.close();
    producer = instance.open_producer("q", &pipelined);
    for (int i = 0; i < count; ++i) {
      const std::string id = std::to_string(all.size());
      ASSERT_EQ(send(producer, id, id + text).code, MOORING_OK);
      ASSERT_EQ(send(producer, id, "again" + text).code, MOORING_OK);
      all.push_back(id + text);
      if (i % 3 == 0) {
        ASSERT_TRUE(producer.publish("plain" + text, kPatienceNs).has_value());
        all.push_back("plain" + text);
      }
    }
    ASSERT_TRUE(producer.wait_durable(MOORING_EVERYTHING, kPatienceNs));
  };
  publish_some(2000);  // several times what the lane holds
  const std::size_t born = all.size();
  instance.create_group("q", "late", kind() == MOORING_KIND_SPSC ? MOORING_MODE_EXCLUSIVE : MOORING_MODE_COMPETING);
  publish_some(1000);
  Consumer late = instance.open_consumer("q", "late");
  EXPECT_TRUE(drain(late) == std::vector<std::string>(all.begin() + static_cast<std::ptrdiff_t>(born), all.end()));
  Consumer behind = instance.open_consumer("q");
  EXPECT_TRUE(drain(behind) == all);
}

TEST_P(Dedup, WhatIsKnownOutlivesTheSupervisorAndTheMemory) {
  std::uint64_t first = 0;
  {
    Instance instance(service_.path());
    instance.create_queue("q", dedup_options(kind()));
    Producer producer = instance.open_producer("q");
    first = send(producer, "a", "a").seq;
    for (int i = 0; i < 50; ++i) EXPECT_EQ(send(producer, std::to_string(i), std::to_string(i)).code, MOORING_OK);
    EXPECT_EQ(send(producer, "a", "again").code, MOORING_DUPLICATE);
    Consumer consumer = instance.open_consumer("q");
    EXPECT_TRUE(consumer.ack_sync(*consumer.receive(kPatienceNs)));
  }
  for (const bool lost : {false, true, true, false}) {
    if (lost) {
      service_.reboot();
    } else {
      service_.kill_supervisor();
      service_.start();
    }
    Instance instance(service_.path());
    instance.create_queue("q", dedup_options(kind()));
    Producer producer = instance.open_producer("q");
    const Sent again = send(producer, "a", "again");
    EXPECT_EQ(again.code, MOORING_DUPLICATE);
    EXPECT_EQ(again.seq, first);
    EXPECT_EQ(send(producer, "49", "again").code, MOORING_DUPLICATE);
    EXPECT_EQ(producer.first_seq(first + 51), first) << "the one of before";
  }
  Instance instance(service_.path());
  Consumer consumer = instance.open_consumer("q");
  EXPECT_EQ(drain(consumer), numbered(0, 50));
}

// The ids that are known are in each snapshot, and only a snapshot lets go of what was drained.
TEST_P(Dedup, AFullQuotaIsDrainedAlsoWithManyIdsKnown) {
  Instance instance(service_.path());
  mooring_queue_options options = dedup_options(kind());
  options.journal_quota_bytes = 16 << 20;
  options.max_message_bytes = 64 << 10;
  EXPECT_THROW(instance.create_queue("q", options), Failure) << "no room for four times 65536 ids";
  options.journal_quota_bytes = 40 << 20;
  instance.create_queue("q", options);
  const mooring_producer_options pipelined = no_wait();
  Producer producer = instance.open_producer("q", &pipelined);
  const std::string text(200, 'x');
  std::uint64_t count = 0;
  int code = MOORING_OK;
  while (code == MOORING_OK) code = send(producer, std::to_string(count++), text).code;
  EXPECT_EQ(code, MOORING_ERR_DISK_FULL);
  EXPECT_GT(count, 60'000U);
  Consumer consumer = instance.open_consumer("q");
  while (const auto message = consumer.receive(0)) ASSERT_TRUE(consumer.ack(*message));
  EXPECT_TRUE(eventually([&] {
    while (const auto message = consumer.receive(0)) EXPECT_TRUE(consumer.ack(*message));
    return send(producer, "more", text).code == MOORING_OK;
  })) << "all is acknowledged, and there is no room";
}

TEST_P(Dedup, OtherQueuesRefuseTheOption) {
  Instance instance(service_.path());
  for (const bool early : {false, true}) {
    mooring_queue_options options = early ? durable_options(kind(), MOORING_DELIVER_EARLY) : dedup_options(kind());
    if (!early) options.durability = MOORING_VOLATILE;
    options.dedup_max_messages = 10;
    try {
      instance.create_queue("other", options);
      ADD_FAILURE() << "created";
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.code(), MOORING_ERR_BAD_ARGUMENT);
      EXPECT_NE(std::string(failure.what()).find("dedup"), std::string::npos) << failure.what();
    }
  }
}

// --- Many publishers, and their ends --------------------------------------------------------------------------------

TEST(DedupRaces, OfProcessesThatRaceTheLowestSeqWins) {
  constexpr int kProcesses = 4;
  constexpr int kIds = 300;
  struct Answers {
    std::uint64_t first[kProcesses][kIds];
    int code[kProcesses][kIds];
  };
  DurableService service;
  service.start();
  Instance instance(service.path());
  instance.create_queue("q", dedup_options(MOORING_KIND_MPMC));
  auto* answers = shared_by_processes<Answers>();
  ASSERT_NE(answers, nullptr);
  {
    std::vector<std::unique_ptr<Worker>> workers;
    for (int process = 0; process < kProcesses; ++process) {
      workers.push_back(std::make_unique<Worker>([&, process](const Worker::Line& line) {
        Instance own(service.path());
        Producer producer = own.open_producer("q");
        line.say('r');
        (void)line.hear();
        for (int id = 0; id < kIds; ++id) {
          const Sent sent = send(producer, std::to_string(id), std::to_string(id));
          answers->code[process][id] = sent.code;
          answers->first[process][id] = sent.seq;
        }
        return 0;
      }));
    }
    for (const auto& worker : workers) ASSERT_TRUE(worker->heard('r'));
    for (const auto& worker : workers) worker->say('g');
    for (const auto& worker : workers) ASSERT_EQ(worker->join(), 0);
  }
  std::map<std::string, std::uint64_t> delivered;
  Consumer consumer = instance.open_consumer("q");
  while (const auto message = consumer.receive(0)) {
    EXPECT_TRUE(delivered.emplace(text_of(*message), message->seq).second) << text_of(*message);
    EXPECT_TRUE(consumer.ack(*message));
  }
  ASSERT_EQ(delivered.size(), std::size_t{kIds});
  for (int id = 0; id < kIds; ++id) {
    int winners = 0;
    for (int process = 0; process < kProcesses; ++process) {
      EXPECT_EQ(answers->first[process][id], delivered[std::to_string(id)]) << id;
      winners += answers->code[process][id] == MOORING_OK ? 1 : 0;
    }
    EXPECT_EQ(winners, 1) << id;
  }
  ::munmap(answers, sizeof(Answers));
}

// Killed anywhere, a publisher does not know whether its message is there. It publishes again with the same id.
TEST(DedupRaces, TheRetriesOfAKilledPublisherAreThereOnce) {
  struct Board {
    std::atomic<std::uint64_t> begun{0};
  };
  DurableService service;
  service.start();
  Instance instance(service.path());
  instance.create_queue("q", dedup_options(MOORING_KIND_MPMC));
  auto* board = shared_by_processes<Board>();
  ASSERT_NE(board, nullptr);
  constexpr std::uint64_t kCount = 400;
  std::uint64_t lives = 0;
  for (; board->begun.load() < kCount; ++lives) {
    Worker publisher([&](const Worker::Line& line) {
      Instance own(service.path());
      Producer producer = own.open_producer("q");
      // Begins with the one that its predecessor may have published.
      for (std::uint64_t i = board->begun.load(); i < kCount; ++i) {
        board->begun.store(i);
        const int code = send(producer, std::to_string(i), std::to_string(i)).code;
        if (code != MOORING_OK && code != MOORING_DUPLICATE) return 1;
        if (i % 16 == 0) line.say('.');
      }
      board->begun.store(kCount);
      return 0;
    });
    if (lives % 4 != 3) (void)publisher.heard('.');
    (void)publisher.heard('.');
    publisher.kill(SIGKILL);
    publisher.join();
  }
  EXPECT_GT(lives, 3U);
  Consumer consumer = instance.open_consumer("q");
  EXPECT_EQ(drain(consumer), numbered(0, kCount));
  ::munmap(board, sizeof(Board));
}

// --- The supervisor killed at each step -----------------------------------------------------------------------------

constexpr const char* kPoints[] = {"journal.judged",      "journal.duplicate_noted", "journal.sealed",
                                   "journal.sent",        "journal.synced",          "journal.log_mark",
                                   "journal.durable_seq", "journal.durable_mark"};

struct Board {
  std::atomic<std::uint64_t> answered{0};  // ids below were answered, each to both of its messages
  std::atomic<int> hits{0};
};

// Each id twice. 1: an answer that makes no sense.
int publish_twice(const std::string& path, std::uint32_t kind, Board* board) {
  try {
    Instance instance(path);
    instance.create_queue("q", dedup_options(kind));
    Producer producer = instance.open_producer("q");
    for (std::uint64_t id = board->answered.load(); id < 1000; ++id) {
      const Sent one = send(producer, std::to_string(id), std::to_string(id));
      const Sent two = send(producer, std::to_string(id), std::to_string(id));
      if (two.code < 0 || one.code < 0) return 2;
      if (two.code != MOORING_DUPLICATE || two.seq != one.seq) return 1;
      board->answered.store(id + 1);
    }
    return 0;
  } catch (const Failure&) {
    return 2;
  }
}

class DedupKillPoints : public ::testing::TestWithParam<std::tuple<std::uint32_t, bool>> {};
INSTANTIATE_TEST_SUITE_P(All, DedupKillPoints,
                         ::testing::Combine(::testing::Values(MOORING_KIND_SPSC, MOORING_KIND_MPMC), ::testing::Bool()),
                         [](const auto& how) {
                           return std::string(std::get<0>(how.param) == MOORING_KIND_SPSC ? "Spsc" : "Mpmc") +
                                  (std::get<1>(how.param) ? "MemoryLost" : "MemoryKept");
                         });

TEST_P(DedupKillPoints, EachIdIsDeliveredOnce) {
  const auto [kind, lost] = GetParam();
  auto* board = shared_by_processes<Board>();
  ASSERT_NE(board, nullptr);
  for (const char* point : kPoints) {
    for (const int turn : {1, 2, 9}) {
      SCOPED_TRACE(std::string(point) + " " + std::to_string(turn));
      new (board) Board;
      DurableService service;
      {
        Worker doomed([&, kind = kind](const Worker::Line& line) {
          (void)kind;
          return serve_until_killed(line, service.path(), {point, turn, &board->hits});
        });
        if (doomed.heard('s')) {
          Worker client([&, kind = kind](const Worker::Line& line) {
            const int status = publish_twice(service.path(), kind, board);
            line.say('e');
            return status;
          });
          pollfd ends[2] = {{doomed.line(), POLLIN, 0}, {client.line(), POLLIN, 0}};
          EXPECT_GT(::poll(ends, 2, kWatchdogMs), 0);
          client.kill(SIGKILL);
          EXPECT_NE(client.join(), 1);
        }
        doomed.kill(SIGKILL);
        doomed.join();
      }
      EXPECT_GE(board->hits.load(), turn) << "never met";
      const std::uint64_t answered = board->answered.load();
      if (lost) service.lose_memory();
      service.start();
      Instance instance(service.path());
      instance.create_queue("q", dedup_options(kind));
      Producer producer = instance.open_producer("q");
      // All that was answered is known; of the one that was under way either is right; the next one is new.
      for (std::uint64_t id = 0; id < answered; ++id) {
        EXPECT_EQ(send(producer, std::to_string(id), "again").code, MOORING_DUPLICATE) << id;
      }
      const Sent retry = send(producer, std::to_string(answered), std::to_string(answered));
      EXPECT_TRUE(retry.code == MOORING_OK || retry.code == MOORING_DUPLICATE) << retry.code;
      EXPECT_EQ(send(producer, std::to_string(answered + 1), std::to_string(answered + 1)).code, MOORING_OK);
      Consumer consumer = instance.open_consumer("q");
      EXPECT_EQ(drain(consumer), numbered(0, answered + 2));
    }
  }
  ::munmap(board, sizeof(Board));
}

}  // namespace
}  // namespace mooring
