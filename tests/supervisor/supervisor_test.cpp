// The supervisor with real processes: killed, stopped, replaced, raced for; clients killed, stopped, replaced by exec.
// What is shown each time: others go on, nothing acknowledged is lost, nothing comes twice without its mark, and no
// lane or seat leaks.
#include "supervisor/supervisor.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>
#include <optional>
#include <set>
#include <mooring/mooring.hpp>

#include "base/kill_point.hpp"
#include "support/service.hpp"

namespace mooring {
namespace {

using test::Service;
using test::Worker;

constexpr std::uint64_t kPatienceNs = 30'000'000'000;

// Words that all processes of a test see.
struct Board {
  static constexpr int kProducers = 2;
  // Far more than a queue holds, so that a place is one message's at a time.
  static constexpr std::uint64_t kPlaces = 1 << 16;
  std::atomic<std::uint64_t> published[kProducers];
  std::atomic<std::uint64_t> acked;
  std::atomic<std::uint64_t> wrong;
  std::atomic<int> stop;
  std::atomic<std::uint64_t> last_seen[kProducers][kPlaces];  // the message received last in this place, + 1
};
Board* make_board() {
  void* place = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return place == MAP_FAILED ? nullptr : new (place) Board;
}

// True once `ready()`; false when the watchdog bites.
template <class Ready>
bool eventually(Ready&& ready) {
  const std::uint64_t until = monotonic_ns() + std::uint64_t{test::kWatchdogMs} * 1'000'000;
  while (!ready()) {
    if (monotonic_ns() > until) return false;
    ::sched_yield();
  }
  return true;
}

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

// Until told to stop; says 'o' when it is open.
int produce(const Worker::Line& line, const std::string& path, const std::string& queue, Board* board, int number) {
  Instance instance(path);
  Producer producer = instance.open_producer(queue);
  line.say('o');
  for (std::uint64_t i = 0; board->stop.load() == 0; ++i) {
    const std::string text = std::to_string(number) + ":" + std::to_string(i);
    int code = MOORING_TIMEOUT;
    while (code == MOORING_TIMEOUT) code = producer.try_publish(text.data(), text.size(), 100'000'000, nullptr);
    if (code != MOORING_OK) return 1;
    board->published[number].fetch_add(1);
  }
  return 0;
}

int consume(const Worker::Line& line, const std::string& path, const std::string& queue, Board* board) {
  Instance instance(path);
  Consumer consumer = instance.open_consumer(queue);
  line.say('o');
  while (board->stop.load() < 2) {
    mooring_message message;
    const int code = consumer.try_receive(&message, 10'000'000);
    if (code == MOORING_EMPTY) continue;
    if (code != MOORING_OK) return 1;
    const std::string text = text_of(message);
    const int number = text[0] - '0';
    const std::uint64_t i = std::stoull(text.substr(2));
    const bool again = board->last_seen[number][i % Board::kPlaces].exchange(i + 1) == i + 1;
    if (again && (message.flags & MOORING_REDELIVERED) == 0) board->wrong.fetch_add(1);
    if (!consumer.ack(message)) board->wrong.fetch_add(1);
    board->acked.fetch_add(1);
  }
  return 0;
}

// A worker that takes `count` messages and keeps them; on 'a' it acknowledges them and says how that went.
int hold(const Worker::Line& line, const std::string& path, const std::string& queue, std::size_t count) {
  Instance instance(path);
  Consumer consumer = instance.open_consumer(queue);
  std::vector<mooring_message> messages(count);
  for (mooring_message& message : messages) {
    if (consumer.try_receive(&message, kPatienceNs) != MOORING_OK) return 1;
  }
  line.say('h');
  while (line.hear() == 'a') {
    bool all = true;
    for (const mooring_message& message : messages) all = consumer.ack(message) && all;
    line.say(all ? 'y' : 'n');
  }
  return 0;
}

// Opens whatever `open` opens, waiting for a seat that is about to be free.
template <class Open>
auto open_when_free(Open&& open) -> std::optional<decltype(open())> {
  std::optional<decltype(open())> handle;
  eventually([&] {
    try {
      handle.emplace(open());
      return true;
    } catch (const Failure& failure) {
      return failure.code() != MOORING_ERR_NO_SEAT;
    }
  });
  return handle;
}

TEST(SupervisorProcess, ASecondOneIsRefusedAndNamesTheFirst) {
  Service service;
  service.start();
  std::string said;
  EXPECT_EQ(service.run_to_end({}, &said), 3);
  EXPECT_NE(said.find("pid " + std::to_string(service.pid())), std::string::npos) << said;
  EXPECT_TRUE(service.alive());
}

TEST(SupervisorProcess, TrafficGoesOnWhileItIsKilledAndReplaced) {
  Service service;
  service.start();
  Instance instance(service.path());
  instance.create_queue("busy", small());
  Board* board = make_board();
  ASSERT_NE(board, nullptr);
  {
    Worker first([&](const Worker::Line& line) { return produce(line, service.path(), "busy", board, 0); });
    Worker second([&](const Worker::Line& line) { return produce(line, service.path(), "busy", board, 1); });
    Worker third([&](const Worker::Line& line) { return consume(line, service.path(), "busy", board); });
    Worker fourth([&](const Worker::Line& line) { return consume(line, service.path(), "busy", board); });
    for (const Worker* worker : {&first, &second, &third, &fourth}) ASSERT_TRUE(worker->heard('o'));
    const auto more = [&](std::uint64_t by) {
      const std::uint64_t target = board->acked.load() + by;
      return eventually([&] { return board->acked.load() >= target; });
    };
    for (int round = 0; round < 3; ++round) {
      ASSERT_TRUE(more(1000));
      service.kill_supervisor();
      ASSERT_TRUE(more(5000)) << "traffic stood still without a supervisor";
      service.start();
    }
    ASSERT_TRUE(more(1000));
    board->stop.store(1);
    EXPECT_EQ(first.join(), 0);
    EXPECT_EQ(second.join(), 0);
    const std::uint64_t published = board->published[0].load() + board->published[1].load();
    EXPECT_TRUE(eventually([&] { return board->acked.load() >= published; }));
    board->stop.store(2);
    EXPECT_EQ(third.join(), 0);
    EXPECT_EQ(fourth.join(), 0);
    EXPECT_EQ(board->acked.load(), published);
    EXPECT_EQ(board->wrong.load(), 0U);
  }
  ::munmap(board, sizeof(Board));
}

TEST(SupervisorProcess, SeatsStayTakenOverItsDeathAndTheDeadsLeasesComeBack) {
  Service service;
  service.start();
  Instance instance(service.path());
  instance.create_queue("line", small(MOORING_KIND_SPSC));
  instance.create_queue("work", small());
  Producer ours = instance.open_producer("line");
  Producer producer = instance.open_producer("work");
  for (int i = 0; i < 5; ++i) producer.publish(std::to_string(i));
  Worker holder([&](const Worker::Line& line) { return hold(line, service.path(), "work", 3); });
  ASSERT_TRUE(holder.heard('h'));
  service.kill_supervisor();
  holder.kill(SIGKILL);
  holder.join();
  service.start();
  EXPECT_THROW((void)instance.open_producer("line"), Failure);  // by us, still
  Consumer consumer = instance.open_consumer("work");
  for (int i = 0; i < 5; ++i) {
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message.has_value());
    EXPECT_EQ(text_of(*message), std::to_string(i));
    EXPECT_EQ(message->attempt, i < 3 ? 2U : 1U);
    EXPECT_EQ((message->flags & MOORING_REDELIVERED) != 0, i < 3);
    EXPECT_TRUE(consumer.ack(*message));
  }
}

TEST(SupervisorProcess, AKilledConsumersMessagesGoToAnotherInOrder) {
  Service service;
  service.start();
  Instance instance(service.path());
  instance.create_queue("work", small());
  Producer producer = instance.open_producer("work");
  for (int i = 0; i < 20; ++i) producer.publish(std::to_string(i));
  Worker holder([&](const Worker::Line& line) { return hold(line, service.path(), "work", 20); });
  ASSERT_TRUE(holder.heard('h'));
  Consumer consumer = instance.open_consumer("work");
  EXPECT_FALSE(consumer.receive(0).has_value());
  holder.kill(SIGKILL);
  for (int i = 0; i < 20; ++i) {
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message.has_value());
    EXPECT_EQ(text_of(*message), std::to_string(i));
    EXPECT_EQ(message->attempt, 2U);
    EXPECT_NE(message->flags & MOORING_REDELIVERED, 0U);
    EXPECT_TRUE(consumer.ack(*message));
  }
}

TEST(SupervisorProcess, LanesOfKilledProducersAreUsedAgain) {
  Service service;
  service.start();
  Instance instance(service.path());
  for (const std::uint32_t kind : {MOORING_KIND_MPMC, MOORING_KIND_SPSC}) {
    const std::string queue = kind == MOORING_KIND_SPSC ? "lane-spsc" : "lane-mpmc";
    mooring_queue_options options = small(kind);
    options.producers_max = 1;
    instance.create_queue(queue, options);
    Consumer consumer = instance.open_consumer(queue);
    for (int round = 0; round < 8; ++round) {
      Worker writer([&](const Worker::Line& line) {
        Instance own(service.path());
        auto producer = open_when_free([&] { return own.open_producer(queue); });
        if (!producer) return 1;
        for (int i = 0; i < 10; ++i) producer->publish(std::to_string(round * 10 + i));
        void* room = nullptr;  // and in the middle of one more
        if (mooring_reserve(producer->get(), 100, 0, &room) != MOORING_OK) return 2;
        std::memset(room, 'x', 100);
        line.say('p');
        line.rest();
      });
      ASSERT_TRUE(writer.heard('p'));
      writer.kill(SIGKILL);
      writer.join();
      for (int i = 0; i < 10; ++i) {
        const auto message = consumer.receive(kPatienceNs);
        ASSERT_TRUE(message.has_value());
        EXPECT_EQ(text_of(*message), std::to_string(round * 10 + i));
        EXPECT_TRUE(consumer.ack(*message));
      }
      EXPECT_FALSE(consumer.receive(0).has_value());
    }
  }
}

// Producers come, publish and go (or are killed in the middle of another message) while nobody reads: each goes on in
// the lane of one that is gone, behind its messages.
TEST(SupervisorProcess, ProducersThatComeAndGoDoNotUseUpTheLanes) {
  Service service;
  service.start();
  Instance instance(service.path());
  mooring_queue_options options = small();
  options.producers_max = 3;
  instance.create_queue("visits", options);
  constexpr int kVisits = 60;
  constexpr int kEach = 5;
  for (int visit = 0; visit < kVisits; ++visit) {
    const bool killed = visit % 4 == 3;
    Worker writer([&](const Worker::Line& line) {
      Instance own(service.path());
      auto producer = open_when_free([&] { return own.open_producer("visits"); });
      if (!producer) return 1;
      for (int i = 0; i < kEach; ++i) producer->publish(std::to_string(visit * kEach + i));
      if (!killed) return 0;
      void* room = nullptr;
      if (mooring_reserve(producer->get(), 300, 0, &room) != MOORING_OK) return 2;
      std::memset(room, 'x', 300);
      line.say('p');
      line.rest();
    });
    if (killed) {
      ASSERT_TRUE(writer.heard('p'));
      writer.kill(SIGKILL);
      writer.join();
    } else {
      ASSERT_EQ(writer.join(), 0) << visit;
    }
    if (visit == kVisits / 2) {  // what a successor makes of inherited lanes
      service.kill_supervisor();
      service.start();
    }
  }
  // All lanes are another's: those of the living are not given away.
  std::vector<Producer> held;
  for (int i = 0; i < 3; ++i) {
    auto producer = open_when_free([&] { return instance.open_producer("visits"); });
    ASSERT_TRUE(producer.has_value());
    held.push_back(std::move(*producer));
  }
  EXPECT_THROW((void)instance.open_producer("visits"), Failure);
  for (std::size_t i = 0; i < held.size(); ++i) held[i].publish(std::to_string(kVisits * kEach + static_cast<int>(i)));
  Consumer consumer = instance.open_consumer("visits");
  for (int i = 0; i < kVisits * kEach + 3; ++i) {
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message.has_value());
    ASSERT_EQ(text_of(*message), std::to_string(i));
    EXPECT_EQ(message->attempt, 1U);
    EXPECT_TRUE(consumer.ack(*message));
  }
  EXPECT_FALSE(consumer.receive(0).has_value());
}

TEST(SupervisorProcess, WhatWasClosedWithoutItIsFreeAfterwards) {
  Service service;
  service.start();
  Instance instance(service.path());
  instance.create_queue("line", small(MOORING_KIND_SPSC));
  auto producer = std::make_unique<Producer>(instance.open_producer("line"));
  auto consumer = std::make_unique<Consumer>(instance.open_consumer("line"));
  producer->publish("kept");
  service.kill_supervisor();
  producer.reset();
  consumer.reset();
  service.start();
  Producer again = instance.open_producer("line");  // at the first try
  Consumer reader = instance.open_consumer("line");
  EXPECT_EQ(text_of(*reader.receive(kPatienceNs)), "kept");
}

TEST(SupervisorProcess, AStoppedConsumerHoldsNobodyUpAndLosesNothing) {
  Service service;
  service.start();
  Instance instance(service.path());
  instance.create_queue("laps", small());
  Producer producer = instance.open_producer("laps");
  constexpr int kHeld = 20;
  constexpr int kLaps = 5 * 4096;
  for (int i = 0; i < kHeld; ++i) producer.publish(std::to_string(i));
  Worker holder([&](const Worker::Line& line) { return hold(line, service.path(), "laps", kHeld); });
  ASSERT_TRUE(holder.heard('h'));
  holder.stop();
  Consumer consumer = instance.open_consumer("laps");
  for (int i = kHeld; i < kLaps; ++i) {
    const std::string text = std::to_string(i);
    ASSERT_EQ(producer.try_publish(text.data(), text.size(), kPatienceNs, nullptr), MOORING_OK)
        << i;
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message.has_value());
    ASSERT_EQ(text_of(*message), std::to_string(i));
    ASSERT_TRUE(consumer.ack(*message));
  }
  holder.go_on();
  holder.say('a');
  EXPECT_TRUE(holder.heard('y')) << "a settlement of the stopped consumer was refused";
  holder.say('q');
  EXPECT_EQ(holder.join(), 0);
  EXPECT_FALSE(consumer.receive(0).has_value());
}

TEST(SupervisorProcess, AStoppedConsumerKilledAfterLapsGivesItsMessagesToOthers) {
  Service service;
  service.start();
  Instance instance(service.path());
  instance.create_queue("laps", small());
  Producer producer = instance.open_producer("laps");
  constexpr int kHeld = 20;
  for (int i = 0; i < kHeld; ++i) producer.publish("held " + std::to_string(i));
  Worker holder([&](const Worker::Line& line) { return hold(line, service.path(), "laps", kHeld); });
  ASSERT_TRUE(holder.heard('h'));
  holder.stop();
  {
    Consumer consumer = instance.open_consumer("laps");
    for (int i = 0; i < 3 * 4096; ++i) {
      ASSERT_EQ(producer.try_publish("x", 1, kPatienceNs, nullptr), MOORING_OK);
      const auto message = consumer.receive(kPatienceNs);
      ASSERT_TRUE(message && consumer.ack(*message));
    }
  }
  service.kill_supervisor();  // parked entries are adopted by the next one
  holder.kill(SIGKILL);
  holder.join();
  service.start();
  Consumer consumer = instance.open_consumer("laps");
  std::set<std::string> texts;
  for (int i = 0; i < kHeld; ++i) {
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message.has_value()) << i;
    EXPECT_EQ(message->attempt, 2U);
    texts.insert(text_of(*message));
    EXPECT_TRUE(consumer.ack(*message));
  }
  EXPECT_EQ(texts.size(), std::size_t{kHeld});
  EXPECT_FALSE(consumer.receive(0).has_value());
}

TEST(SupervisorProcess, AStoppedProducerHoldsNobodyUp) {
  Service service;
  service.start();
  Instance instance(service.path());
  instance.create_queue("busy", small());
  Board* board = make_board();
  ASSERT_NE(board, nullptr);
  {
    Worker stopped([&](const Worker::Line& line) { return produce(line, service.path(), "busy", board, 0); });
    Worker reader([&](const Worker::Line& line) { return consume(line, service.path(), "busy", board); });
    ASSERT_TRUE(eventually([&] { return board->published[0].load() > 100; }));
    Producer producer = instance.open_producer("busy");
    std::uint64_t sent = 0;
    for (int round = 0; round < 5; ++round) {
      stopped.stop();
      for (int i = 0; i < 2000; ++i, ++sent) {
        const std::string text = "1:" + std::to_string(sent);
        ASSERT_EQ(producer.try_publish(text.data(), text.size(), kPatienceNs, nullptr), MOORING_OK);
      }
      stopped.go_on();
    }
    board->stop.store(1);
    EXPECT_EQ(stopped.join(), 0);
    const std::uint64_t published = board->published[0].load() + sent;
    EXPECT_TRUE(eventually([&] { return board->acked.load() >= published; }));
    board->stop.store(2);
    EXPECT_EQ(reader.join(), 0);
    EXPECT_EQ(board->acked.load(), published);
    EXPECT_EQ(board->wrong.load(), 0U);
  }
  ::munmap(board, sizeof(Board));
}

TEST(SupervisorProcess, WhileItIsStoppedTrafficGoesOnAndRequestsTimeOut) {
  Service service;
  service.start();
  mooring_instance_options patience;
  mooring_instance_options_init(&patience, sizeof patience);
  patience.path = service.path().c_str();
  patience.request_timeout_ns = 50'000'000;
  mooring_instance* hasty = nullptr;
  ASSERT_EQ(mooring_instance_open(&patience, &hasty), MOORING_OK);
  Instance instance(service.path());
  instance.create_queue("line", small(MOORING_KIND_SPSC));
  instance.create_queue("busy", small());
  Producer producer = instance.open_producer("busy");
  Consumer consumer = instance.open_consumer("busy");
  service.stop_supervisor();
  for (int i = 0; i < 10'000; ++i) {
    producer.publish("x");
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message && consumer.ack(*message));
  }
  mooring_producer* late = nullptr;
  EXPECT_EQ(mooring_producer_open(hasty, "line", nullptr, &late), MOORING_TIMEOUT) << mooring_error_detail();
  EXPECT_STRNE(mooring_error_detail(), "");
  EXPECT_EQ(mooring_queue_create(hasty, "other", nullptr), MOORING_TIMEOUT) << mooring_error_detail();
  service.continue_supervisor();
  mooring_instance_close(hasty);
  // The request that timed out may be carried out late; what it granted is nobody's, and free again.
  EXPECT_TRUE(open_when_free([&] { return instance.open_producer("line"); }).has_value());
}

TEST(SupervisorProcess, ExecGivesUpWhatTheOldImageHeld) {
  Service service;
  service.start();
  Instance instance(service.path());
  instance.create_queue("line", small(MOORING_KIND_SPSC));
  for (const bool while_it_is_down : {false, true}) {
    Worker image([&](const Worker::Line& line) {
      Instance own(service.path());
      Producer producer = own.open_producer("line");
      Consumer consumer = own.open_consumer("line");
      line.say('o');
      line.hear();
      ::execl("/bin/sleep", "sleep", "1000", nullptr);
      return 1;
    });
    ASSERT_TRUE(image.heard('o'));
    EXPECT_THROW((void)instance.open_producer("line"), Failure);
    if (while_it_is_down) service.kill_supervisor();
    image.say('x');
    EXPECT_FALSE(image.heard('?'));  // exec closed its end: the old image is gone
    if (while_it_is_down) service.start();
    EXPECT_TRUE(open_when_free([&] { return instance.open_producer("line"); }).has_value());
    EXPECT_TRUE(open_when_free([&] { return instance.open_consumer("line"); }).has_value());
  }
}

TEST(SupervisorProcess, APidThatIsAnotherProcessNowIsADeadOwner) {
  Service service;
  service.start();
  auto instance = std::make_unique<Instance>(service.path());
  instance->create_queue("line", small(MOORING_KIND_SPSC));
  Producer producer = instance->open_producer("line");
  service.kill_supervisor();
  {
    // As if the number of the owner, which died meanwhile, had been given to us.
    const auto paths = resolve_instance(service.path(), false);
    ASSERT_TRUE(paths.has_value());
    const auto shared = open_shared_directory(paths->shared_directory, paths->owner, false);
    ASSERT_TRUE(shared.has_value());
    QueueFiles::AttachOptions access;
    access.as_supervisor = true;
    const auto files = QueueFiles::attach(*shared, paths->owner, "line", access);
    ASSERT_TRUE(files.has_value());
    files->lane_slot(0).start_time_ticks -= 1;
  }
  service.start();
  Producer successor = instance->open_producer("line");
  EXPECT_TRUE(successor.publish("x", 0).has_value());
}

TEST(SupervisorProcess, LeavesWhenIdleAndIsStartedAgainOnDemand) {
  Service service;
  service.start({"--exit-when-idle", "--idle-seconds", "0.05"});
  {
    Instance instance(service.path());
    instance.create_queue("kept", small());
    instance.open_producer("kept").publish("over its absence");
  }
  EXPECT_EQ(service.wait_supervisor(), 0);
  EXPECT_THROW(Instance(service.path()), Failure);
  Instance instance(service.path(), MOORING_AUTOSTART);
  const auto message = instance.open_consumer("kept").receive(kPatienceNs);
  EXPECT_TRUE(message.has_value());
  instance.shutdown_supervisor();
}

TEST(SupervisorProcess, ClientsComeAndGoWhileItKeepsLeaving) {
  Service service;
  std::vector<std::unique_ptr<Worker>> workers;
  for (int i = 0; i < 3; ++i) {
    workers.push_back(std::make_unique<Worker>([&, i](const Worker::Line&) {
      for (int round = 0; round < 5; ++round) {
        Instance instance(service.path(), MOORING_AUTOSTART);
        instance.create_queue("q" + std::to_string(i), small());
        instance.shutdown_supervisor();
      }
      return 0;
    }));
  }
  for (auto& worker : workers) {
    const int status = worker->join();
    EXPECT_TRUE(status == 0 || status == 123) << status;  // 123: shut down under its request, and told so
  }
  Instance instance(service.path(), MOORING_AUTOSTART);
  instance.create_queue("after", small());
  instance.shutdown_supervisor();
}

TEST(SupervisorProcess, OfManyStartedAtOnceOneServes) {
  Service service;
  constexpr int kClients = 20;
  mooring_queue_options options = small();
  options.producers_max = kClients;
  std::vector<std::unique_ptr<Worker>> workers;
  for (int i = 0; i < kClients; ++i) {
    workers.push_back(std::make_unique<Worker>([&](const Worker::Line& line) {
      line.say('r');
      line.hear();
      Instance instance(service.path(), MOORING_AUTOSTART);
      instance.create_queue("race", options);
      instance.open_producer("race").publish("x");
      line.say('d');
      line.hear();
      return 0;
    }));
  }
  for (auto& worker : workers) ASSERT_TRUE(worker->heard('r'));
  for (auto& worker : workers) worker->say('g');
  for (auto& worker : workers) EXPECT_TRUE(worker->heard('d'));
  int serving = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "cmdline");
    std::string words((std::istreambuf_iterator<char>(file)), {});
    if (words.find("mooringd") != std::string::npos && words.find(service.path()) != std::string::npos) ++serving;
  }
  EXPECT_EQ(serving, 1);
  for (auto& worker : workers) worker->say('q');
  Instance instance(service.path());
  Consumer consumer = instance.open_consumer("race");
  int received = 0;
  while (const auto message = consumer.receive(0)) {
    consumer.ack(*message);
    ++received;
  }
  EXPECT_EQ(received, kClients);
  instance.shutdown_supervisor();
}

// --- Killed at every named point ------------------------------------------------------------------------------------

int points_left = 0;
void kill_at_point(const char*) {
  if (--points_left == 0) ::raise(SIGKILL);
}

// What a client asks for in its life; false: the supervisor was gone.
bool whole_life(const std::string& path) {
  try {
    Instance instance(path);
    instance.create_queue("killed", small());
    instance.create_group("killed", "second", MOORING_MODE_EXCLUSIVE);
    {
      Producer producer = instance.open_producer("killed");
      Consumer consumer = instance.open_consumer("killed");
      producer.publish("x");
      producer.publish("y");
      if (const auto message = consumer.receive(kPatienceNs)) consumer.ack(*message);
      (void)consumer.receive(kPatienceNs);  // given back by the close
    }
    instance.remove_group("killed", "second");
    instance.remove_queue("killed");
    return true;
  } catch (const Failure&) {
    return false;
  }
}

TEST(SupervisorProcess, KilledAtAnyPointItsSuccessorServesEverything) {
  bool killed = true;
  int point = 0;
  for (point = 1; killed && point < 500; ++point) {
    SCOPED_TRACE(point);
    Service service;
    {
      Worker doomed([&](const Worker::Line& line) {
        points_left = point;
        kill_point_hook.store(&kill_at_point, std::memory_order_relaxed);
        Supervisor::Options options;
        options.path = service.path();
        auto supervisor = Supervisor::start(options);
        if (!supervisor) return 1;
        line.say('s');
        return (*supervisor)->run() ? 0 : 2;
      });
      if (doomed.heard('s')) {
        Worker client([&](const Worker::Line&) { return whole_life(service.path()) ? 0 : 1; });
        killed = client.join() != 0;
      }
    }
    service.start();
    Instance instance(service.path());
    // Whatever is there is complete, and everything can be asked for again: no seat, lane or group leaked.
    mooring_queue_options options = small();
    instance.create_queue("killed", options);
    instance.create_group("killed", "second", MOORING_MODE_EXCLUSIVE);
    Consumer strict = instance.open_consumer("killed", "second");
    std::vector<Producer> producers;
    for (int i = 0; i < 16; ++i) {
      auto producer = open_when_free([&] { return instance.open_producer("killed"); });
      ASSERT_TRUE(producer.has_value()) << i;
      producers.push_back(std::move(*producer));
      Consumer consumer = instance.open_consumer("killed");
      while (const auto message = consumer.receive(0)) consumer.ack(*message);
    }
    while (const auto message = strict.receive(0)) strict.ack(*message);
    Consumer consumer = instance.open_consumer("killed");
    ASSERT_TRUE(producers.back().publish("after", kPatienceNs).has_value());
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message.has_value());
    EXPECT_EQ(text_of(*message), "after");
    EXPECT_EQ(text_of(*strict.receive(kPatienceNs)), "after");
  }
  EXPECT_FALSE(killed) << "there are more points than were tried";
  EXPECT_GT(point, 20) << "the hook was not called";
}

// --- Not allowed ----------------------------------------------------------------------------------------------------

TEST(SupervisorProcess, SaysWhatIsWrongWithItsDirectory) {
  Service service;
  std::string said;
  EXPECT_EQ(service.run_to_end({"--instance", "/proc/no/such/place"}, &said), 1);
  EXPECT_NE(said.find("/proc/no/such/place"), std::string::npos) << said;
  EXPECT_EQ(service.run_to_end({"--socket-mode", "9"}, &said), 2);
}

TEST(SupervisorProcess, AnotherUserIsRefusedWithAReason) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become somebody else";
  Service service;
  ASSERT_EQ(::chmod(service.root().c_str(), 0755), 0);
  ASSERT_EQ(::chmod((service.root() + "/shm").c_str(), 0755), 0);
  service.start();
  Worker nobody([&](const Worker::Line&) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) return 1;
    mooring_instance* instance = nullptr;
    if (mooring_instance_open(nullptr, &instance) != MOORING_ERR_PERMISSION) return 2;
    if (std::string(mooring_error_detail()).find(service.path()) == std::string::npos) return 3;
    Supervisor::Options options;
    options.path = service.path();
    const auto second = Supervisor::start(options);
    return !second && second.error().code == Code::kPermission ? 0 : 4;
  });
  EXPECT_EQ(nobody.join(), 0);
  EXPECT_TRUE(service.alive());
}

}  // namespace
}  // namespace mooring
