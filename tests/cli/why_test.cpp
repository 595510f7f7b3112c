// `mooring info --why`: dead, stopped and stuck told apart with real processes, and each reason for which a group does
// nothing; with the supervisor running, stopped and dead. And what looks like a death and is none, or the other way
// round: a closed control socket, a child that outlives its parent, a process in a pid namespace of its own.
#include <dirent.h>
#include <sched.h>
#include <sys/stat.h>

#include <mooring/mooring.hpp>
#include <nlohmann/json.hpp>
#include <optional>

#include "support/service.hpp"

namespace mooring {
namespace {

using namespace test;
using Json = nlohmann::json;

constexpr std::uint64_t kPatienceNs = 60'000'000'000;

class Why : public testing::Test {
 protected:
  Why() { service_.start(); }

  std::string output(const std::string& arguments) const {
    const std::string line = MOORING_BIN_DIR "/mooring " + arguments;
    std::FILE* pipe = ::popen(line.c_str(), "r");
    std::string text;
    char buffer[4096];
    for (std::size_t got = 0; pipe != nullptr && (got = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) {
      text.append(buffer, got);
    }
    EXPECT_EQ(pipe == nullptr ? -1 : ::pclose(pipe), 0) << line << "\n" << text;
    return text;
  }
  Json why() const { return Json::parse(output("info q --why --json"))["why"]; }
  static std::vector<std::string> states(const Json& reasons) {
    std::vector<std::string> found;
    for (const Json& reason : reasons) {
      found.push_back(reason["state"]);
      EXPECT_FALSE(reason["text"].get<std::string>().empty());
    }
    return found;
  }
  std::vector<std::string> group_states() const { return states(why()["groups"][0]["reasons"]); }
  bool group_says(const std::string& state) const {
    const auto all = group_states();
    return std::find(all.begin(), all.end(), state) != all.end();
  }
  std::string consumer_state() const {
    const Json consumers = why()["consumers"];
    return consumers.empty() ? "none" : consumers[0]["state"].get<std::string>();
  }
  // The command is run until it says so.
  template <class Says>
  static bool comes(Says&& says) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(kWatchdogMs);
    while (!says()) {
      if (std::chrono::steady_clock::now() > until) return false;
    }
    return true;
  }

  Instance open(std::uint32_t kind = MOORING_KIND_MPMC) const {
    Instance instance(service_.path());
    mooring_queue_options options;
    mooring_queue_options_init(&options, sizeof options);
    options.kind = kind;
    options.capacity = 4096;
    instance.create_queue("q", options);
    return instance;
  }
  void set(Instance& instance, const std::vector<std::pair<std::string, std::string>>& settings) const {
    for (const auto& [key, value] : settings) instance.set_group("q", "default", key, value);
  }
  // A consumer that has a message and says so.
  std::unique_ptr<Worker> holder(const std::function<void()>& before_rest = {}) const {
    return std::make_unique<Worker>([this, before_rest](const Worker::Line& line) {
      Instance own(service_.path());
      Consumer consumer = own.open_consumer("q");
      if (!consumer.receive(kPatienceNs).has_value()) return 1;
      if (before_rest) before_rest();
      line.say('h');
      line.hear();
      return 0;
    });
  }

  Service service_;
};

TEST_F(Why, EachReasonForWhichAGroupDoesNothing) {
  Instance instance = open();
  EXPECT_EQ(group_states(), std::vector<std::string>{"empty"});
  Producer producer = instance.open_producer("q");
  producer.publish("one");
  EXPECT_EQ(group_states(), std::vector<std::string>{"no_consumer"});
  set(instance, {{"retry_initial", "1h"}, {"retry_max", "1h"}, {"retry_jitter", "0"}, {"ack_wait", "1h"}});
  std::optional<Consumer> consumer = instance.open_consumer("q");
  EXPECT_TRUE(group_says("flowing"));
  auto message = consumer->receive(kPatienceNs);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(group_states(), std::vector<std::string>{"in_flight"});
  EXPECT_EQ(consumer_state(), "working");
  EXPECT_NE(output("info q --why").find("pid " + std::to_string(::getpid())), std::string::npos);
  EXPECT_TRUE(consumer->nack(*message));
  EXPECT_TRUE(comes([&] { return group_states() == std::vector<std::string>{"retries_waiting"}; }));
  EXPECT_NE(output("info q --why").find("the next is due in 3"), std::string::npos) << "an hour, nearly";
  EXPECT_EQ(consumer_state(), "idle");
  instance.pause_group("q", "default");
  EXPECT_EQ(group_states().front(), "paused_by_user");
  instance.resume_group("q", "default");
  set(instance, {{"breaker", "on"}, {"breaker_minimum", "1"}, {"breaker_delay", "1h"}});
  producer.publish("two");
  message = consumer->receive(kPatienceNs);
  EXPECT_TRUE(consumer->nack(*message));
  EXPECT_TRUE(comes([&] { return group_says("breaker_open"); }));
  set(instance, {{"breaker", "off"}, {"dlq_max_messages", "1"}});
  producer.publish("three");
  message = consumer->receive(kPatienceNs);
  ASSERT_TRUE(message.has_value());
  EXPECT_TRUE(consumer->reject(*message));
  EXPECT_TRUE(comes([&] { return group_says("paused_by_dlq"); }));
}

TEST_F(Why, StoppedAndStuckAndDeadAreThreeThings) {
  Instance instance = open();
  set(instance, {{"ack_wait", "50ms"}, {"retry_initial", "1h"}, {"retry_max", "1h"}});
  instance.open_producer("q").publish("x");
  const auto worker = holder();
  ASSERT_TRUE(worker->heard('h'));
  EXPECT_TRUE(comes([&] { return consumer_state() == "stuck"; })) << "it runs, and does nothing";
  EXPECT_TRUE(group_says("consumers_stand"));
  worker->stop();
  EXPECT_EQ(consumer_state(), "stopped");
  EXPECT_NE(output("info q --why").find("kill -CONT " + std::to_string(worker->pid())), std::string::npos);
  worker->go_on();
  EXPECT_TRUE(comes([&] { return consumer_state() == "stuck"; }));
  // Dead, and nobody there to notice.
  service_.stop_supervisor();
  EXPECT_EQ(states(why()["queue"]), std::vector<std::string>{"supervisor_stopped"});
  worker->kill(SIGKILL);
  worker->join();
  EXPECT_EQ(consumer_state(), "dead");
  service_.continue_supervisor();
  EXPECT_TRUE(comes([&] { return consumer_state() == "none"; })) << "its seat is free";
}

TEST_F(Why, ItNeedsNoSupervisorToSaySo) {
  Instance instance = open();
  set(instance, {{"ack_wait", "50ms"}, {"retry_initial", "1h"}, {"retry_max", "1h"}});
  Producer producer = instance.open_producer("q");
  producer.publish("x");
  const auto worker = holder();
  ASSERT_TRUE(worker->heard('h'));
  EXPECT_TRUE(comes([&] { return consumer_state() == "stuck"; }));
  service_.kill_supervisor();
  EXPECT_EQ(states(why()["queue"]), std::vector<std::string>{"supervisor_absent"});
  EXPECT_EQ(consumer_state(), "stuck");
  worker->stop();
  EXPECT_EQ(consumer_state(), "stopped");
  worker->kill(SIGKILL);
  worker->join();
  EXPECT_EQ(consumer_state(), "dead");
  EXPECT_EQ(output("info q --why").find("start mooringd") != std::string::npos, true);
  service_.start();
  EXPECT_TRUE(comes([&] { return consumer_state() == "none"; }));
}

TEST_F(Why, TheHolderOfAnExclusiveSeatIsNamed) {
  Instance instance = open(MOORING_KIND_SPSC);
  instance.open_producer("q").publish("x");
  const auto worker = holder();
  ASSERT_TRUE(worker->heard('h'));
  EXPECT_TRUE(group_says("held"));
  EXPECT_NE(output("info q --why").find("its seat belongs to"), std::string::npos);
  worker->stop();
  EXPECT_TRUE(group_says("consumers_stand"));
  worker->go_on();
}

TEST_F(Why, ADeadLetterShowsHowItsConsumerEnded) {
  Instance instance = open();
  set(instance, {{"max_deliveries", "1"}});
  instance.open_producer("q").publish("poison");
  const auto worker = holder();
  ASSERT_TRUE(worker->heard('h'));
  const pid_t pid = worker->pid();
  worker->kill(SIGKILL);
  worker->join();
  EXPECT_TRUE(comes([&] { return output("dlq ls q --json").find("crash") != std::string::npos; }));
  const Json letter = Json::parse(output("dlq ls q --json"));
  EXPECT_EQ(letter["attempts"][0]["exit"]["signal"], SIGKILL);
  EXPECT_EQ(letter["attempts"][0]["pid"], pid) << "of the one that had it";
  const std::string seq = std::to_string(letter["seq"].get<std::uint64_t>());
  EXPECT_NE(output("dlq show q " + seq).find("signal 9 (SIGKILL)"), std::string::npos);
}

// --- What looks like a death, and is none; and the other way round ---------------------------------------------------

void close_sockets() {
  DIR* descriptors = ::opendir("/proc/self/fd");
  std::vector<int> sockets;
  while (const dirent* entry = ::readdir(descriptors)) {
    const int fd = std::atoi(entry->d_name);
    struct stat info {};
    if (::fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode)) sockets.push_back(fd);
  }
  ::closedir(descriptors);
  for (const int fd : sockets) ::close(fd);
}

TEST_F(Why, AClientThatLostItsControlSocketLives) {
  Instance instance = open();
  set(instance, {{"ack_wait", "0"}});
  instance.open_producer("q").publish("x");
  Worker worker([&](const Worker::Line& line) {
    Instance own(service_.path());
    Consumer consumer = own.open_consumer("q");
    const auto message = consumer.receive(kPatienceNs);
    if (!message.has_value()) return 1;
    close_sockets();
    line.say('c');
    line.hear();
    const bool acked = consumer.ack(*message);
    line.say(acked ? 'a' : '?');
    line.hear();
    return 0;
  });
  ASSERT_TRUE(worker.heard('c'));
  // The supervisor has seen the end of the socket once it answers somebody who came later.
  instance.create_queue("other");
  EXPECT_EQ(consumer_state(), "working");
  worker.say('x');
  EXPECT_TRUE(worker.heard('a')) << "what it held was its own";
  worker.kill(SIGKILL);
  worker.join();
  EXPECT_TRUE(comes([&] { return consumer_state() == "none"; })) << "and its death is noticed without a socket";
}

TEST_F(Why, AChildThatOutlivesItsParentIsNotTheConsumer) {
  Instance instance = open();
  instance.open_producer("q").publish("x");
  int alive[2];
  ASSERT_EQ(::pipe(alive), 0);
  const auto worker = holder([&] {
    if (::fork() == 0) {  // with all that its parent has, sockets too
      char byte = 0;
      ::close(alive[1]);
      (void)!::read(alive[0], &byte, 1);
      ::_exit(0);
    }
  });
  ASSERT_TRUE(worker->heard('h'));
  worker->kill(SIGKILL);
  worker->join();
  Consumer consumer = instance.open_consumer("q");
  const auto message = consumer.receive(kPatienceNs);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->attempt, 2U);
  EXPECT_TRUE(consumer.ack(*message));
  ::close(alive[1]);  // the child ends
  ::close(alive[0]);
}

TEST_F(Why, AProcessInAPidNamespaceOfItsOwnIsKnownByTheNumberThatWeSee) {
  Instance instance = open();
  instance.open_producer("q").publish("x");
  Worker worker([&](const Worker::Line& line) {
    if (::unshare(CLONE_NEWPID) != 0) {
      line.say('n');
      return 0;
    }
    const pid_t child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      Instance own(service_.path());
      Consumer consumer = own.open_consumer("q");
      if (::getpid() != 1 || !consumer.receive(kPatienceNs).has_value()) ::_exit(1);
      line.say('h');
      line.rest();
    }
    line.hear();
    ::kill(child, SIGKILL);
    return wait_for_exit(child) == 128 + SIGKILL ? 0 : 1;
  });
  const int said = read_byte(worker.line());
  if (said == 'n') GTEST_SKIP() << "no pid namespace may be made here";
  ASSERT_EQ(said, 'h');
  EXPECT_EQ(consumer_state(), "working");
  const Json consumers = why()["consumers"];
  EXPECT_NE(consumers[0]["pid"], 1);
  worker.say('k');
  EXPECT_EQ(worker.join(), 0);
  Consumer consumer = instance.open_consumer("q");
  const auto message = consumer.receive(kPatienceNs);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->attempt, 2U);
}

}  // namespace
}  // namespace mooring
