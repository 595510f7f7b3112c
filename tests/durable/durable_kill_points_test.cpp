// The supervisor killed at each named point of the durable path, with traffic: at its birth, in a queue's creation,
// while it writes, and while it makes the shared memory anew. Its successor finds the memory as it was, or none; and
// whatever was acknowledged before is there, nothing else is, and the service goes on.
#include <gtest/gtest.h>

#include <set>

#include "doomed_supervisor.hpp"

namespace mooring {
namespace {

using namespace test;

struct Board {
  std::atomic<std::uint64_t> published{0};  // acknowledged: all below
  std::atomic<std::uint64_t> begun{0};      // perhaps published: all below
  std::atomic<std::uint64_t> settled{0};    // for good: all below
  std::atomic<std::uint64_t> tried{0};      // perhaps settled: all below
  std::atomic<int> hits{0};
};

// Every point of the durable path; the test says so if one is never met.
constexpr const char* kPoints[] = {"journal.log_mark",
                                   "journal.durable_seq",
                                   "journal.durable_mark",
                                   "journal.settle_epoch",
                                   "journal.settlements_synced",
                                   "journal.settled_epoch",
                                   "journal.segment_created",
                                   "journal.segment_zeroed",
                                   "journal.segment_renamed",
                                   "journal.header_written",
                                   "journal.sealed",
                                   "journal.sent",
                                   "journal.written",
                                   "journal.synced",
                                   "journal.before_retire",
                                   "journal.locked",
                                   "journal.scanned",
                                   "journal.snapshot_written",
                                   "journal.opened",
                                   "rebuild.created",
                                   "rebuild.groups",
                                   "rebuild.parks",
                                   "rebuild.lane",
                                   "rebuild.marks",
                                   "durable.log_open",
                                   "durable.rebuilt",
                                   "durable.data_made",
                                   "durable.directory_made",
                                   "durable.config_written",
                                   "durable.renamed",
                                   "durable.old"};

// Publishes and settles; killed where nobody serves any more.
int live(const std::string& path, Board* board, std::uint32_t kind, std::uint64_t count) {
  try {
    Instance instance(path);
    const mooring_queue_options options = durable_options(kind);
    instance.create_queue("other", options);
    instance.remove_queue("other");
    instance.create_queue("q", options);
    Producer producer = instance.open_producer("q");
    Consumer consumer = instance.open_consumer("q");
    const std::uint64_t end = board->begun.load() + count;
    for (std::uint64_t i = board->begun.load(); i < end; ++i) {
      board->begun.store(i + 1);
      if (!producer.publish(std::to_string(i)).has_value()) return 2;
      board->published.store(i + 1);
      if (i % 3 != 0) continue;
      const auto message = consumer.receive();
      if (!message.has_value()) return 3;
      const std::uint64_t number = std::stoull(text_of(*message));
      board->tried.store(number + 1);
      if (!consumer.ack_sync(*message)) return 4;
      board->settled.store(number + 1);
    }
    return 0;
  } catch (const Failure&) {
    return 1;
  }
}

// What is there now is what the board says was promised, and the service goes on.
void expect_all_promised(Instance& instance, const Board& board) {
  Consumer consumer = instance.open_consumer("q");
  Producer producer = instance.open_producer("q");
  ASSERT_TRUE(producer.publish("after", kPatienceNs).has_value());
  std::vector<std::string> texts = drain(consumer);
  ASSERT_FALSE(texts.empty());
  EXPECT_EQ(texts.back(), "after");
  texts.pop_back();
  std::uint64_t next = board.settled.load();
  if (texts.empty()) {
    next = std::max(next, board.tried.load());
  } else {
    const std::uint64_t first = std::stoull(texts.front());
    EXPECT_GE(first, next);
    EXPECT_LE(first, std::max(board.tried.load(), next));
    next = first;
  }
  EXPECT_EQ(texts, numbered(next, next + texts.size()));
  EXPECT_GE(next + texts.size(), board.published.load());
  EXPECT_LE(next + texts.size(), std::max(board.begun.load(), next));
}

// One life of a supervisor that is killed at the `turn`-th `name`, with a client if it comes to serve. True: killed.
bool killed_life(DurableService& service, Board* board, std::uint32_t kind, const char* name, int turn) {
  board->hits.store(0);
  Worker doomed([&](const Worker::Line& line) {
    return serve_until_killed(line, service.path(), {name, turn, &board->hits});
  });
  if (doomed.heard('s')) {
    Worker client([&](const Worker::Line& line) {
      const int status = live(service.path(), board, kind, 60);
      line.say('e');
      return status;
    });
    // Done, or its supervisor is gone: the line of a killed one closes.
    pollfd ends[2] = {{doomed.line(), POLLIN, 0}, {client.line(), POLLIN, 0}};
    EXPECT_GT(::poll(ends, 2, kWatchdogMs), 0);
    client.kill(SIGKILL);
    client.join();
  }
  doomed.kill(SIGKILL);
  doomed.join();
  return board->hits.load() >= turn;
}

class KillPoints : public ::testing::TestWithParam<std::tuple<std::uint32_t, bool>> {};
INSTANTIATE_TEST_SUITE_P(All, KillPoints,
                         ::testing::Combine(::testing::Values(MOORING_KIND_SPSC, MOORING_KIND_MPMC), ::testing::Bool()),
                         [](const auto& how) {
                           return std::string(std::get<0>(how.param) == MOORING_KIND_SPSC ? "Spsc" : "Mpmc") +
                                  (std::get<1>(how.param) ? "MemoryLost" : "MemoryKept");
                         });

TEST_P(KillPoints, TheSuccessorHasEverythingThatWasPromised) {
  const auto [kind, lost] = GetParam();
  std::set<std::string> never;
  Board* board = shared_by_processes<Board>();
  ASSERT_NE(board, nullptr);
  for (const char* name : kPoints) {
    for (const int turn : lost ? std::vector<int>{1} : std::vector<int>{2}) {
      SCOPED_TRACE(std::string(name) + " " + std::to_string(turn));
      new (board) Board;
      DurableService service;
      bool killed = false;
      // The first life begins with nothing, the second with a log alone.
      for (int life = 0; life < 2 && !killed; ++life) {
        killed = killed_life(service, board, kind, name, turn);
        if (!killed && life == 0) service.lose_memory();
      }
      if (!killed) {
        if (turn == 1) never.insert(name);
        continue;
      }
      if (lost) service.lose_memory();
      service.start();
      Instance instance(service.path());
      instance.create_queue("other", durable_options(kind));
      instance.create_queue("q", durable_options(kind));
      expect_all_promised(instance, *board);
    }
  }
  EXPECT_TRUE(never.empty()) << *never.begin() << " was never met";
  ::munmap(board, sizeof(Board));
}

// Killed once the flush was told and before everything was; then, over the same memory, before anything more is on the
// disk; then the power goes. What the first one had told is still there.
TEST_P(KillPoints, WhatWasToldStaysToldThoughTheNextOneIsKilledToo) {
  const auto [kind, lost] = GetParam();
  Board* board = shared_by_processes<Board>();
  ASSERT_NE(board, nullptr);
  for (const char* first : {"journal.log_mark", "journal.durable_seq", "journal.durable_mark"}) {
    for (int second = 1; second <= 4; ++second) {
      SCOPED_TRACE(std::string(first) + " " + std::to_string(second));
      new (board) Board;
      DurableService service;
      ASSERT_TRUE(killed_life(service, board, kind, first, 25));
      // Other places of the same life, before and behind the first block it writes.
      (void)killed_life(service, board, kind, second % 2 == 0 ? "journal.sent" : "journal.sealed", second);
      if (lost) service.lose_memory();
      service.start();
      Instance instance(service.path());
      instance.create_queue("q", durable_options(kind));
      expect_all_promised(instance, *board);
    }
  }
  ::munmap(board, sizeof(Board));
}

}  // namespace
}  // namespace mooring
