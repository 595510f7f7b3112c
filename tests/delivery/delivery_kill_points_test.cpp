// The supervisor killed at each named point of a message's failures, again and again, with one client that lives
// through it all: the successor goes on where it stopped. Every message ends where it must, with exactly the failures
// and deliveries that it had.
#include <gtest/gtest.h>

#include <map>

#include "base/kill_point.hpp"
#include "delivery/decision.hpp"
#include "durable/durable_service.hpp"
#include "segment/dead_letters.hpp"
#include "segment/instance_paths.hpp"
#include "supervisor/supervisor.hpp"

namespace mooring {
namespace {

using namespace test;

constexpr const char* kPoints[] = {
    "park.chunk_sized",    "park.chunk_made",       "redelivery.placed",    "redelivery.note",
    "redelivery.record",   "redelivery.moved",      "redelivery.returned",  "redelivery.entry_freed",
    "redelivery.released", "redelivery.taken_back", "redelivery.redriving", "breaker.until",
    "breaker.opened",      "breaker.canary",        "breaker.half_open",    "breaker.closed",
    "keeper.progress",     "keeper.charged",
};

constexpr int kMessages = 12;
// What the client does with message i at its n-th delivery.
enum class Deed { kAck, kNack, kReject, kHold };
Deed deed_of(int message, std::uint32_t attempt) {
  switch (message % 4) {
    case 0: return Deed::kAck;
    case 1: return Deed::kNack;  // until it is dead
    case 2: return Deed::kReject;
    default: return attempt == 1 ? Deed::kHold : Deed::kAck;  // held too long once
  }
}

const char* point_name = nullptr;
int point_turn = 0;
std::atomic<int>* point_hits = nullptr;
void kill_at_point(const char* name) {
  if (std::strcmp(name, point_name) != 0) return;
  if (point_hits->fetch_add(1) + 1 == point_turn) ::raise(SIGKILL);
}

int serve(const Worker::Line& line, const std::string& path) {
  if (point_name != nullptr) kill_point_hook.store(&kill_at_point, std::memory_order_relaxed);
  Supervisor::Options options;
  options.path = path;
  auto supervisor = Supervisor::start(options);
  if (!supervisor) return 1;
  line.say('s');
  return (*supervisor)->run() ? 0 : 2;
}

struct Said {
  std::uint64_t redriven = 0;
  int failures = 0;
};

// The whole story, through however many supervisors. Exit 0: every delivery was as it must be.
int client(const Worker::Line& line, const std::string& path, bool durable, bool breaker) {
  Instance instance(path);
  mooring_queue_options options;
  mooring_queue_options_init(&options, sizeof options);
  if (durable) options = durable_options();
  options.capacity = 4096;
  instance.create_queue("q", options);
  for (const auto& [key, value] : {std::pair{"retry_initial", "1ms"}, {"max_deliveries", "3"}, {"ack_wait", "30ms"}}) {
    instance.set_group("q", "default", key, value);
  }
  if (breaker) {  // opens and closes all the time, and changes nothing of how anything ends
    for (const auto& [key, value] : {std::pair{"breaker", "on"},
                                     {"breaker_minimum", "1"},
                                     {"breaker_failure_ratio", "0.001"},
                                     {"breaker_delay", "1ms"},
                                     {"breaker_delay_max", "2ms"}}) {
      instance.set_group("q", "default", key, value);
    }
  }
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  for (int i = 0; i < kMessages; ++i) producer.publish(std::to_string(i));
  line.say('b');
  std::map<int, std::uint32_t> deliveries;
  int acked = 0;
  const auto settle = [&](const mooring_message& message, bool redriven) {
    const int number = std::stoi(text_of(message));
    std::uint32_t& delivered = deliveries[number];
    // A delivery that was taken back unseen may lie between two; never one too few, and no failure is charged twice
    // (the parent looks at that).
    if (message.attempt <= delivered) {
      std::fprintf(stderr, "message %d: attempt %u after %u\n", number, message.attempt, delivered);
      return false;
    }
    delivered = message.attempt;
    if (redriven) return consumer.ack(message);  // nobody else has it, and ack_wait is off by now
    switch (deed_of(number, message.attempt)) {
      case Deed::kAck: acked += consumer.ack(message) ? 1 : 0; break;  // stale: it comes again, ack_wait is short here
      case Deed::kNack: consumer.nack(message, MOORING_BY_POLICY, static_cast<std::uint32_t>(number), "poison"); break;
      case Deed::kReject: consumer.reject(message, 7, "never"); break;
      case Deed::kHold: break;
    }
    return true;
  };
  // Until all that must die are dead and all else is acknowledged, as the files say.
  const InstancePaths paths = *resolve_instance(path, false);
  const File shared = std::move(*open_shared_directory(paths.shared_directory, paths.owner, false));
  QueueFiles::AttachOptions attach;
  const QueueFiles files = std::move(*QueueFiles::attach(shared, paths.owner, "q", attach));
  const layout::GroupCounters& counters = files.group_slot(0).counters;
  const auto dead_now = [&] { return HardwareAtomics::load(counters.dead, std::memory_order_relaxed); };
  const auto quiet = [&] {
    return HardwareAtomics::load(counters.waiting, std::memory_order_relaxed) == 0 &&
           HardwareAtomics::load(counters.in_table, std::memory_order_relaxed) == 0;
  };
  while (acked < kMessages / 2 || dead_now() < kMessages / 2 || !quiet()) {
    const auto message = consumer.receive(1'000'000);
    if (message.has_value() && !settle(*message, false)) return 3;
  }
  line.say('d');
  if (line.hear() != 'r') return 4;
  for (bool asked = false; !asked;) {
    try {
      instance.set_group("q", "default", "ack_wait", "0");
      instance.redrive("q", "default");
      asked = true;
    } catch (const Failure& failure) {
      if (failure.code() != MOORING_ERR_NO_SUPERVISOR && failure.code() != MOORING_ERR_CLOSED &&
          failure.code() != MOORING_ERR_IO) {
        throw;
      }
      ::sched_yield();
    }
  }
  while (dead_now() != 0 || !quiet()) {
    const auto message = consumer.receive(1'000'000);
    if (message.has_value() && !settle(*message, true)) return 5;
  }
  line.say('e');
  return 0;
}

class DeliveryKillPoints : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(All, DeliveryKillPoints, ::testing::Bool(),
                         [](const auto& how) { return how.param ? "Durable" : "Volatile"; });

TEST_P(DeliveryKillPoints, EveryMessageEndsWhereItMust) {
  const bool durable = GetParam();
  point_hits = shared_by_processes<std::atomic<int>>();
  ASSERT_NE(point_hits, nullptr);
  for (const char* name : kPoints) {
    bool met = false;
    for (const int turn : {1, 3}) {
      SCOPED_TRACE(std::string(name) + " " + std::to_string(turn));
      DurableService service;
      point_name = name;
      point_turn = turn;
      point_hits->store(0);
      Worker doomed([&](const Worker::Line& line) { return serve(line, service.path()); });
      ASSERT_TRUE(doomed.heard('s'));
      Worker living([&](const Worker::Line& line) {
        return client(line, service.path(), durable, std::string_view(name).starts_with("breaker."));
      });
      ASSERT_TRUE(living.heard('b'));
      bool succeeded_it = false;
      // The client's next word, or the supervisor's end, whichever comes first.
      const auto wait_for_word = [&](char word) {
        if (!succeeded_it) {
          pollfd ends[2] = {{doomed.line(), POLLIN, 0}, {living.line(), POLLIN, 0}};
          ASSERT_GT(::poll(ends, 2, kWatchdogMs), 0);
          if ((ends[0].revents & (POLLIN | POLLHUP)) != 0) {
            doomed.join();
            service.start();
            succeeded_it = true;
          }
        }
        ASSERT_TRUE(living.heard(word)) << "the client did not get to " << word;
      };
      ASSERT_NO_FATAL_FAILURE(wait_for_word('d'));
      const InstancePaths paths = *resolve_instance(service.path(), false);
      const File shared = std::move(*open_shared_directory(paths.shared_directory, paths.owner, false));
      QueueFiles::AttachOptions attach;
      const QueueFiles files = std::move(*QueueFiles::attach(shared, paths.owner, "q", attach));
      std::map<int, ParkedMessage> dead;
      ASSERT_TRUE(each_parked(files, 0, layout::slot_generation(files.group_slot(0).slot), layout::RecordState::kDead,
                              true, [&](const ParkedMessage& letter) {
                                EXPECT_TRUE(dead.emplace(std::stoi(letter.payload), letter).second)
                                    << letter.payload << " is dead twice";
                                return true;
                              }));
      for (int i = 0; i < kMessages; ++i) {
        const bool must_be_dead = i % 4 == 1 || i % 4 == 2;
        EXPECT_EQ(dead.contains(i), must_be_dead) << i;
        if (!must_be_dead || !dead.contains(i)) continue;
        const ParkedMessage& letter = dead.at(i);
        // (A delivery may end by ack_wait where the client was slow: then the record says so, and it counts.)
        EXPECT_LE(letter.word.failed, 3U) << i;
        if (i % 4 == 1) {
          EXPECT_EQ(letter.word.failed, 3U) << i;
        }
        EXPECT_GE(letter.word.acquired, letter.word.failed) << i;
        const bool last_was_timeout = letter.record.last_reason == static_cast<u32>(FailReason::kTimeout);
        if (!last_was_timeout) {
          EXPECT_EQ(letter.text, i % 4 == 1 ? "poison" : "never") << i;
        }
      }
      living.say('r');
      ASSERT_NO_FATAL_FAILURE(wait_for_word('e'));
      EXPECT_EQ(living.join(), 0);
      EXPECT_EQ(files.group_slot(0).counters.waiting, 0U);
      met = met || succeeded_it || point_hits->load() > 0;
    }
    EXPECT_TRUE(met) << name << " was never met";
  }
  point_name = nullptr;
  ::munmap(point_hits, sizeof *point_hits);
}

}  // namespace
}  // namespace mooring
