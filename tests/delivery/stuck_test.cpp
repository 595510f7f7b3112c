// stuck = kill, with real processes: one that stands still with a message in hand is killed through its pidfd, its
// death confirmed, and what it held comes to others; one that works, extends or waits is left alone, and so is
// everybody where it is off. Dead letters say how their consumers ended.
#include <gtest/gtest.h>
#include <sys/ptrace.h>

#include "base/atomics.hpp"
#include "delivery/decision.hpp"
#include "durable/durable_service.hpp"
#include "platform/process_end.hpp"
#include "segment/dead_letters.hpp"
#include "segment/instance_paths.hpp"

namespace mooring {
namespace {

using namespace test;

constexpr const char* kAckWait = "40ms";

struct Stuck : ::testing::Test {
  Stuck() { service.start(); }

  Instance open(std::uint32_t kind = MOORING_KIND_MPMC) {
    Instance instance(service.path());
    mooring_queue_options options;
    mooring_queue_options_init(&options, sizeof options);
    options.kind = kind;
    options.capacity = 4096;
    instance.create_queue("q", options);
    set(instance, {{"ack_wait", kAckWait}, {"stuck", "kill"}, {"stuck_after", "2"}, {"retry_initial", "1ms"}});
    return instance;
  }
  static void set(Instance& instance, const std::vector<std::pair<std::string, std::string>>& settings) {
    for (const auto& [key, value] : settings) instance.set_group("q", "default", key, value);
  }
  QueueFiles files() const {
    const InstancePaths paths = *resolve_instance(service.path(), false);
    const File shared = std::move(*open_shared_directory(paths.shared_directory, paths.owner, false));
    QueueFiles::AttachOptions options;
    return std::move(*QueueFiles::attach(shared, paths.owner, "q", options));
  }
  layout::GroupCounters counters() const { return files().group_slot(0).counters; }
  // A consumer that has a message and then does as `then` says.
  std::unique_ptr<Worker> holder(const std::function<void(const Worker::Line&)>& then) const {
    return std::make_unique<Worker>([this, then](const Worker::Line& line) {
      Instance own(service.path());
      Consumer consumer = own.open_consumer("q");
      if (!consumer.receive(kPatienceNs).has_value()) return 1;
      line.say('h');
      then(line);
      return 0;
    });
  }

  DurableService service;
};

const mooring_message& got(const std::optional<mooring_message>& message) {
  if (!message.has_value()) throw std::runtime_error("nothing came");
  return *message;
}

TEST_F(Stuck, OneThatHangsInItsHandlerIsKilledAndTheMessageGoesOn) {
  Instance instance = open();
  instance.open_producer("q").publish("poison");
  const auto worker = holder([](const Worker::Line& line) { line.rest(); });
  ASSERT_TRUE(worker->heard('h'));
  EXPECT_EQ(worker->join(), 128 + SIGKILL);
  EXPECT_TRUE(service.logged("was killed"));
  EXPECT_EQ(counters().stuck_killed_total, 1U);
  Consumer next = instance.open_consumer("q");
  const mooring_message message = got(next.receive(kPatienceNs));
  EXPECT_GE(message.attempt, 2U);
  EXPECT_TRUE(next.ack(message));
}

TEST_F(Stuck, AStoppedOneIsKilledAndItsSeatOfAnExclusiveGroupGoesOn) {
  Instance instance = open(MOORING_KIND_SPSC);
  Producer producer = instance.open_producer("q");
  for (const char* text : {"first", "second"}) producer.publish(text);
  set(instance, {{"stuck", "off"}});
  const auto worker = holder([](const Worker::Line& line) { line.rest(); });
  ASSERT_TRUE(worker->heard('h'));
  worker->stop();
  EXPECT_THROW((void)instance.open_consumer("q"), Failure) << "its seat, until its death is confirmed";
  set(instance, {{"stuck", "kill"}});
  EXPECT_EQ(worker->join(), 128 + SIGKILL);
  std::optional<Consumer> next;
  EXPECT_TRUE(eventually([&] {
    try {
      next.emplace(instance.open_consumer("q"));
      return true;
    } catch (const Failure&) {
      return false;
    }
  }));
  for (const char* text : {"first", "second"}) {
    const mooring_message message = got(next->receive(kPatienceNs));
    EXPECT_EQ(text_of(message), text);
    EXPECT_TRUE(next->ack(message));
  }
}

TEST_F(Stuck, WhoExtendsSettlesOrWaitsWithEmptyHandsIsNotStuck) {
  Instance instance = open();
  set(instance, {{"stuck_after", "50"}});  // a busy machine is no stuck process
  Producer producer = instance.open_producer("q");
  // Each has as long to be killed as one that is.
  producer.publish("for the one that extends");
  Worker extends([&](const Worker::Line& line) {
    Instance own(service.path());
    Consumer consumer = own.open_consumer("q");
    mooring_message message = got(consumer.receive(kPatienceNs));
    line.say('h');
    const bool other_was_killed = eventually([&] {
      EXPECT_TRUE(consumer.extend(message));
      return counters().stuck_killed_total == 1;
    });
    return other_was_killed && consumer.ack(message) ? 0 : 2;
  });
  ASSERT_TRUE(extends.heard('h'));
  Worker waits([&](const Worker::Line& line) {
    Instance own(service.path());
    Consumer consumer = own.open_consumer("q");
    line.say('w');
    const auto message = consumer.receive(kPatienceNs);
    return message.has_value() && consumer.ack(*message) ? 0 : 2;
  });
  ASSERT_TRUE(waits.heard('w'));
  waits.stop();  // with empty hands
  producer.publish("for the one that hangs");
  const auto hangs = holder([](const Worker::Line& line) { line.rest(); });
  ASSERT_TRUE(hangs->heard('h'));
  EXPECT_EQ(hangs->join(), 128 + SIGKILL);
  EXPECT_EQ(counters().stuck_killed_total, 1U);
  waits.go_on();
  EXPECT_EQ(waits.join(), 0) << "gets what the one that hung had";
  EXPECT_EQ(extends.join(), 0);
}

TEST_F(Stuck, ATracedOneAndAnyWhereItIsOffAreLeftAlone) {
  Instance instance = open();
  Producer producer = instance.open_producer("q");
  producer.publish("traced");
  set(instance, {{"stuck", "off"}});
  const auto traced = holder([](const Worker::Line& line) { line.rest(); });
  ASSERT_TRUE(traced->heard('h'));
  if (::ptrace(PTRACE_SEIZE, traced->pid(), nullptr, nullptr) != 0) GTEST_SKIP() << "ptrace is not permitted here";
  set(instance, {{"stuck", "kill"}});
  EXPECT_TRUE(service.logged("is traced"));
  EXPECT_EQ(counters().stuck_killed_total, 0U);
  set(instance, {{"stuck", "off"}});
  // Off: it is only taken back, again and again.
  ASSERT_TRUE(eventually([&] { return counters().failed_total[static_cast<int>(FailReason::kTimeout)] >= 1; }));
  EXPECT_EQ(counters().stuck_killed_total, 0U);
}

// --- How they ended -------------------------------------------------------------------------------------------------

TEST_F(Stuck, ADeadLetterSaysHowEachOfItsConsumersEnded) {
  Instance instance = open();
  set(instance, {{"stuck", "off"}, {"ack_wait", "0"}, {"max_deliveries", "3"}});
  instance.open_producer("q").publish("poison");
  const auto ends = [&](const std::function<void()>& how) {
    const auto worker = holder([how](const Worker::Line& line) {
      line.hear();
      how();
    });
    ASSERT_TRUE(worker->heard('h'));
    worker->say('x');
    worker->join();
  };
  ends([] { ::_exit(7); });
  ends([] { ::raise(SIGKILL); });
  ends([] { ::raise(SIGTERM); });
  ASSERT_TRUE(eventually([&] { return counters().dead == 1; }));
  const QueueFiles queue = files();
  std::vector<std::string> texts;
  ASSERT_TRUE(each_parked(queue, 0, layout::slot_generation(queue.group_slot(0).slot), layout::RecordState::kDead, true,
                          [&](const ParkedMessage& letter) {
                            for (const layout::ParkAttempt& attempt : letter.attempts) {
                              const bool known = (attempt.exit & layout::kExitKnown) != 0;
                              texts.push_back(known ? exit_text(attempt.exit & ~layout::kExitKnown) : "not known");
                            }
                            return true;
                          }));
  EXPECT_EQ(texts, (std::vector<std::string>{"exit code 7", "signal 9 (SIGKILL)", "signal 15 (SIGTERM)"}));
  EXPECT_TRUE(service.logged("signal 9 (SIGKILL)"));
}

}  // namespace
}  // namespace mooring
