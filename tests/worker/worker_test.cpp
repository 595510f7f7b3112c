// The worker loop, through the public API and a real mooringd: what each result of a handler does to its message, what
// a kill charges, what a drain gives back, what happens to a handler that takes too long.
//
// Nobody sleeps to be in step: handlers wait at gates that the test opens, processes talk over pipes, and what the
// supervisor does is awaited by asking it (how many dead letters, which attempt comes).
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <condition_variable>
#include <map>
#include <mooring/worker.hpp>
#include <mutex>
#include <set>
#include <thread>

#include "support/service.hpp"

namespace mooring {
namespace {

using test::Service;
using Process = test::Worker;

constexpr std::uint64_t kMs = 1'000'000;
constexpr std::uint64_t kPatienceNs = 60'000 * kMs;

std::string text_of(const mooring_message& message) { return {static_cast<const char*>(message.data), message.size}; }

// A door that handlers wait at until the test opens it.
class Gate {
 public:
  void open() {
    {
      const std::lock_guard lock(mutex_);
      is_open_ = true;
    }
    opened_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    arrived_ += 1;
    arrival_.notify_all();
    opened_.wait(lock, [this] { return is_open_; });
  }
  // Until so many have come to it.
  void wait_for(int count) {
    std::unique_lock lock(mutex_);
    arrival_.wait(lock, [&] { return arrived_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  std::condition_variable arrival_;
  int arrived_ = 0;
  bool is_open_ = false;
};

template <class Ready>
bool eventually(Ready&& ready) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(test::kWatchdogMs);
  while (!ready()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

template <class Action>
Failure failure_of(Action&& action) {
  try {
    action();
  } catch (const Failure& failure) {
    return failure;
  }
  return Failure(0, "it did not fail");
}

struct Workers : testing::Test {
  Workers() {
    service.start();
    instance.emplace(service.path());
    mooring_queue_options options;
    mooring_queue_options_init(&options, sizeof options);
    options.capacity = 4096;
    instance->create_queue("q", options);
  }

  void publish(const std::vector<std::string>& texts) {
    Producer producer = instance->open_producer("q");
    for (const std::string& text : texts) ASSERT_TRUE(producer.publish(text, kPatienceNs).has_value());
  }
  void publish_numbers(int count) {
    Producer producer = instance->open_producer("q");
    for (int i = 0; i < count; ++i) ASSERT_TRUE(producer.publish(std::to_string(i), kPatienceNs).has_value());
  }
  // Only the order of an exclusive group.
  void make_exclusive() {
    instance->create_group("q", "strict", MOORING_MODE_EXCLUSIVE);
    instance->remove_group("q", "default");
  }
  void set(const std::string& key, const std::string& value, const std::string& group = "default") {
    instance->set_group("q", group, key, value);
  }
  std::uint64_t dead(std::uint32_t reason = 0, const std::string& group = "default") {
    mooring_dead_filter filter;
    mooring_dead_filter_init(&filter, sizeof filter);
    filter.flags = MOORING_DRY_RUN;
    filter.reason = reason;
    return instance->redrive("q", group, &filter);
  }
  // What is there for another consumer, with its attempt; acknowledged.
  std::map<std::string, std::uint32_t> rest(std::size_t count, const std::string& group = "default") {
    Consumer consumer = instance->open_consumer("q", group);
    std::map<std::string, std::uint32_t> found;
    for (std::size_t i = 0; i < count; ++i) {
      const auto message = consumer.receive(kPatienceNs);
      if (!message.has_value()) break;
      found[text_of(*message)] = message->attempt;
      EXPECT_TRUE(consumer.ack(*message));
    }
    EXPECT_FALSE(consumer.receive(0).has_value());
    return found;
  }

  Service service;
  std::optional<Instance> instance;
};

// ---- What a handler says -----------------------------------------------------------------------------------------

struct Script {
  mooring_worker* worker = nullptr;
  std::map<std::string, int> calls;
  std::map<std::string, std::uint32_t> attempts;
};

int scripted(const mooring_message* message, mooring_worker_call* call, void* user) {
  auto& script = *static_cast<Script*>(user);
  const std::string text = text_of(*message);
  const int calls = ++script.calls[text];
  script.attempts[text] = message->attempt;
  EXPECT_EQ(call->thread, 0U);
  EXPECT_EQ(call->code, 0U) << "of the message before";
  EXPECT_EQ(call->delay_ns, MOORING_BY_POLICY);
  EXPECT_STREQ(call->text, "");
  if (text == "end") {
    mooring_worker_stop(script.worker);
    EXPECT_EQ(mooring_worker_is_stopping(script.worker), 1);
    return MOORING_ACK;
  }
  if (text == "poison") {
    call->code = 7;
    std::snprintf(call->text, sizeof call->text, "try %d", calls);
    return MOORING_NACK;
  }
  if (text == "delayed" && calls == 1) {
    call->delay_ns = 1;
    return MOORING_NACK;
  }
  if (text == "never") {
    call->code = 42;
    std::snprintf(call->text, sizeof call->text, "no such customer");
    return MOORING_REJECT;
  }
  if (text == "not mine" && calls < 3) return MOORING_RELEASE;
  if (text == "odd" && calls == 1) return -5;
  return MOORING_ACK;
}

TEST_F(Workers, EveryResultOfAHandlerDoesWhatItSays) {
  set("retry_initial", "0");
  set("max_deliveries", "3");
  publish({"good", "poison", "delayed", "never", "not mine", "odd"});
  for (const std::uint32_t prefetch : {1U, 16U}) {
    mooring_worker_options options = worker_options();
    options.prefetch = prefetch;
    mooring_worker* worker = nullptr;
    ASSERT_EQ(mooring_worker_open(instance->get(), "q", nullptr, &options, &worker), MOORING_OK)
        << mooring_error_detail();
    Script script;
    script.worker = worker;
    // The end is published when all the others have had their last turn.
    std::thread runs([&] { EXPECT_EQ(mooring_worker_run(worker, &scripted, &script), MOORING_OK); });
    EXPECT_TRUE(eventually([&] { return dead() == 2; }));
    EXPECT_TRUE(eventually([&] {
      mooring_worker_stats stats;
      EXPECT_EQ(mooring_worker_get_stats(worker, &stats, sizeof stats), MOORING_OK);
      return stats.acked == 4;
    }));
    publish({"end"});
    runs.join();
    mooring_worker_stats stats;
    ASSERT_EQ(mooring_worker_get_stats(worker, &stats, sizeof stats), MOORING_OK);
    EXPECT_EQ(stats.size, sizeof stats);
    EXPECT_EQ(stats.acked, 5U);
    EXPECT_EQ(stats.nacked, 3U + 1U + 1U);
    EXPECT_EQ(stats.rejected, 1U);
    EXPECT_EQ(stats.released, 2U);
    EXPECT_EQ(stats.stale, 0U);
    EXPECT_EQ(stats.handling, 0U);
    EXPECT_EQ(stats.signal_number, 0);
    EXPECT_EQ(script.calls["good"], 1);
    EXPECT_EQ(script.calls["poison"], 3);
    EXPECT_EQ(script.calls["delayed"], 2);
    EXPECT_EQ(script.calls["never"], 1);
    EXPECT_EQ(script.calls["not mine"], 3);
    EXPECT_EQ(script.calls["odd"], 2);
    EXPECT_EQ(dead(MOORING_DEAD_MAX_DELIVERIES), 1U) << "poison";
    EXPECT_EQ(dead(MOORING_DEAD_REJECTED), 1U) << "never";
    mooring_worker_close(worker);
    EXPECT_EQ(rest(0).size(), 0U);
    // Code and text are in the histories.
    const std::string command = "MOORING_INSTANCE=" + service.path() + " " MOORING_BIN_DIR "/mooring dlq ls q 2>&1";
    std::string listed;
    FILE* pipe = ::popen(command.c_str(), "r");
    ASSERT_NE(pipe, nullptr);
    for (int byte = std::fgetc(pipe); byte != EOF; byte = std::fgetc(pipe)) listed += static_cast<char>(byte);
    ::pclose(pipe);
    EXPECT_NE(listed.find("try 3"), std::string::npos) << listed;
    EXPECT_NE(listed.find("no such customer"), std::string::npos) << listed;
    ASSERT_EQ(mooring_dead_purge(instance->get(), "q", "default", nullptr, nullptr), MOORING_OK);
    if (prefetch == 1) publish({"good", "poison", "delayed", "never", "not mine", "odd"});
  }
}

TEST_F(Workers, ExceptionsSayWhetherToTryAgain) {
  set("retry_initial", "1h");
  publish({"permanent", "later", "transient", "strange", "good"});
  Worker worker(*instance, "q");
  std::map<std::string, int> calls;
  EXPECT_TRUE(worker.run([&](const mooring_message& message) {
    const std::string text = text_of(message);
    ++calls[text];
    if (text == "permanent") throw PermanentError(std::string(600, 'x'), 9);
    if (text == "later" && message.attempt == 1) throw RetryAfter(std::chrono::nanoseconds(1), "busy");
    if (text == "transient") throw std::runtime_error("the line is cut");
    if (text == "strange") throw 5;
    // "later" came again before an hour was over; the others wait.
    if (calls["later"] == 2 && calls["good"] == 1 && calls["strange"] == 1) worker.stop();
  }));
  EXPECT_EQ(worker.stats().acked, 2U);
  EXPECT_EQ(worker.stats().nacked, 3U);
  EXPECT_EQ(worker.stats().rejected, 1U);
  EXPECT_TRUE(eventually([&] { return dead(MOORING_DEAD_REJECTED) == 1; }));
  EXPECT_EQ(calls["transient"], 1);
}

int acknowledge(const mooring_message& message, mooring_worker_call&) {
  return message.size != 0 ? MOORING_ACK : MOORING_REJECT;
}

TEST_F(Workers, AHandlerMayBeAFunctionThatAnswersForItself) {
  publish({"x", "", "x"});
  Worker worker(*instance, "q");
  std::thread stops([&] {
    EXPECT_TRUE(eventually([&] { return worker.stats().acked == 2 && worker.stats().rejected == 1; }));
    worker.stop();
  });
  EXPECT_TRUE(worker.run(acknowledge));
  stops.join();
}

TEST_F(Workers, BadArgumentsAreNamed) {
  mooring_worker* worker = nullptr;
  EXPECT_EQ(mooring_worker_open(nullptr, "q", nullptr, nullptr, &worker), MOORING_ERR_BAD_ARGUMENT);
  EXPECT_EQ(mooring_worker_open(instance->get(), "q", nullptr, nullptr, nullptr), MOORING_ERR_BAD_ARGUMENT);
  EXPECT_EQ(mooring_worker_open(instance->get(), "nowhere", nullptr, nullptr, &worker), MOORING_ERR_NO_SUCH_QUEUE);
  EXPECT_EQ(worker, nullptr);
  const auto refused = [&](const char* part, auto&& change) {
    mooring_worker_options options = worker_options();
    change(options);
    EXPECT_EQ(mooring_worker_open(instance->get(), "q", nullptr, &options, &worker), MOORING_ERR_BAD_ARGUMENT);
    EXPECT_NE(std::string(mooring_error_detail()).find(part), std::string::npos) << mooring_error_detail();
  };
  refused("concurrency", [](auto& options) { options.concurrency = 1025; });
  refused("prefetch", [](auto& options) { options.prefetch = 4097; });
  refused("flag", [](auto& options) { options.flags = 2; });
  refused("wait", [](auto& options) { options.wait = 3; });
  refused("_init", [](auto& options) { options.size = 1; });
  mooring_worker_stop(nullptr);
  mooring_worker_close(nullptr);
  EXPECT_EQ(mooring_worker_is_stopping(nullptr), 0);
  mooring_worker_stats stats;
  EXPECT_EQ(mooring_worker_get_stats(nullptr, &stats, sizeof stats), MOORING_ERR_BAD_ARGUMENT);
  EXPECT_EQ(mooring_worker_run(nullptr, &scripted, nullptr), MOORING_ERR_BAD_ARGUMENT);

  ASSERT_EQ(mooring_worker_open(instance->get(), "q", nullptr, nullptr, &worker), MOORING_OK);
  EXPECT_EQ(mooring_worker_run(worker, nullptr, nullptr), MOORING_ERR_BAD_ARGUMENT);
  mooring_worker_stop(worker);
  EXPECT_EQ(mooring_worker_run(worker, &scripted, nullptr), MOORING_OK) << "stopped before it ran";
  EXPECT_EQ(mooring_worker_run(worker, &scripted, nullptr), MOORING_ERR_BAD_ARGUMENT) << "it runs once";
  mooring_worker_close(worker);
}

TEST_F(Workers, AForkedChildIsToldThatTheWorkerIsNotItsOwn) {
  publish_numbers(1);
  Worker worker(*instance, "q");
  Process child([&](const Process::Line&) {
    const Failure failure = failure_of([&] { worker.run([](const mooring_message&) {}); });
    return failure.code() == MOORING_ERR_FORKED && *failure.what() != '\0' ? 0 : 1;
  });
  EXPECT_EQ(child.join(), 0);
  EXPECT_TRUE(worker.run([&](const mooring_message&) { worker.stop(); })) << "the parent's still is";
}

TEST_F(Workers, SeatsAreTakenAtOnceOrNotAtAll) {
  mooring_queue_options options;
  mooring_queue_options_init(&options, sizeof options);
  options.capacity = 4096;
  options.consumers_max = 2;
  instance->create_queue("narrow", options);
  mooring_worker_options three = worker_options();
  three.concurrency = 3;
  EXPECT_EQ(failure_of([&] { Worker worker(*instance, "narrow", "default", &three); }).code(), MOORING_ERR_NO_SEAT);
  mooring_worker_options two = worker_options();
  two.concurrency = 2;
  { const Worker worker(*instance, "narrow", "default", &two); }
  const Worker again(*instance, "narrow", "default", &two);  // those of the two before came back
}

// ---- Threads -----------------------------------------------------------------------------------------------------

TEST_F(Workers, AsManyHandlersRunAtOnceAsWereAskedFor) {
  publish_numbers(100);
  mooring_worker_options options = worker_options();
  options.concurrency = 4;
  options.prefetch = 3;
  Worker worker(*instance, "q", "default", &options);
  Gate gate;
  std::mutex mutex;
  std::set<std::uint32_t> threads;
  std::set<std::string> texts;
  std::thread runs([&] {
    EXPECT_TRUE(worker.run([&](const mooring_message& message, mooring_worker_call& call) {
      gate.pass();  // all four are in here before the first goes on
      const std::lock_guard lock(mutex);
      threads.insert(call.thread);
      texts.insert(text_of(message));
      if (texts.size() == 100) worker.stop();
    }));
  });
  gate.wait_for(4);
  EXPECT_EQ(worker.stats().handling, 4U);
  gate.open();
  runs.join();
  EXPECT_EQ(threads, (std::set<std::uint32_t>{0, 1, 2, 3}));
  EXPECT_EQ(texts.size(), 100U);
  EXPECT_EQ(worker.stats().acked, 100U);
  EXPECT_EQ(rest(0).size(), 0U);
}

TEST_F(Workers, AStopFromAnotherThreadWakesWhoWaitsForMessages) {
  for (const std::uint32_t wait : {MOORING_WAIT_ADAPTIVE, MOORING_WAIT_SPIN, MOORING_WAIT_SLEEP}) {
    publish_numbers(1);
    mooring_worker_options options = worker_options();
    options.concurrency = 2;
    options.wait = wait;
    Worker worker(*instance, "q", "default", &options);
    std::thread runs([&] { EXPECT_TRUE(worker.run([](const mooring_message&) {})); });
    EXPECT_TRUE(eventually([&] { return worker.stats().acked == 1; }));
    EXPECT_FALSE(worker.is_stopping());
    worker.stop();
    runs.join();
    EXPECT_TRUE(worker.is_stopping());
  }
}

TEST_F(Workers, ARemovedQueueEndsTheWorkerWithItsReason) {
  mooring_worker_options options = worker_options();
  options.concurrency = 3;
  Worker worker(*instance, "q", "default", &options);
  Failure failure(0, "");
  publish_numbers(1);
  std::thread runs([&] { failure = failure_of([&] { worker.run([](const mooring_message&) {}); }); });
  EXPECT_TRUE(eventually([&] { return worker.stats().acked == 1; }));
  instance->remove_queue("q");
  runs.join();
  EXPECT_EQ(failure.code(), MOORING_ERR_CLOSED);
  EXPECT_NE(std::string(failure.what()).find('q'), std::string::npos) << failure.what();
}

// ---- Exclusive groups --------------------------------------------------------------------------------------------

TEST_F(Workers, AnExclusiveGroupHasOneThread) {
  make_exclusive();
  mooring_worker_options options = worker_options();
  options.concurrency = 2;
  const Failure failure = failure_of([&] { Worker worker(*instance, "q", "strict", &options); });
  EXPECT_EQ(failure.code(), MOORING_ERR_BAD_ARGUMENT);
  EXPECT_NE(std::string(failure.what()).find("exclusive"), std::string::npos) << failure.what();
  options.concurrency = 1;
  const Worker worker(*instance, "q", "strict", &options);
}

TEST_F(Workers, AnExclusiveGroupKeepsItsOrderWhateverIsPrefetched) {
  make_exclusive();
  set("retry_initial", "1ms", "strict");
  publish_numbers(20);
  mooring_worker_options options = worker_options();
  options.prefetch = 8;
  Worker worker(*instance, "q", "strict", &options);
  std::vector<std::string> done;
  EXPECT_TRUE(worker.run([&](const mooring_message& message) {
    const std::string text = text_of(message);
    if (text == "3" && message.attempt < 3) throw std::runtime_error("not yet");
    if (text == "12" && message.attempt < 3) return MOORING_RELEASE;
    if (text == "15") throw PermanentError("never");
    done.push_back(text);
    if (done.size() == 19) worker.stop();
    return MOORING_ACK;
  }));
  std::vector<std::string> expected;
  for (int i = 0; i < 20; ++i) {
    if (i != 15) expected.push_back(std::to_string(i));
  }
  EXPECT_EQ(done, expected);
  EXPECT_TRUE(eventually([&] { return dead(0, "strict") == 1; }));
}

// ---- Drain -------------------------------------------------------------------------------------------------------

// Eight taken at once; stopped while the third is handled: that one ends, and five come back as if never received.
TEST_F(Workers, ADrainFinishesWhatWasBegunAndReleasesTheRestUncounted) {
  set("max_deliveries", "1");  // whatever counts as a failure is dead
  publish_numbers(8);
  mooring_worker_options options = worker_options();
  options.prefetch = 8;
  Worker worker(*instance, "q", "default", &options);
  Gate gate;
  std::atomic<int> calls{0};
  std::thread runs([&] {
    EXPECT_TRUE(worker.run([&](const mooring_message&) {
      if (++calls == 3) gate.pass();
    }));
  });
  gate.wait_for(1);
  worker.stop();
  // They are with others before the handler has ended.
  EXPECT_EQ(rest(5), (std::map<std::string, std::uint32_t>{{"3", 2}, {"4", 2}, {"5", 2}, {"6", 2}, {"7", 2}}));
  EXPECT_EQ(worker.stats().released, 5U);
  gate.open();
  runs.join();
  EXPECT_EQ(worker.stats().acked, 3U);
  EXPECT_EQ(calls.load(), 3);
  EXPECT_EQ(rest(0).size(), 0U);
  EXPECT_EQ(dead(), 0U);
}

// A worker process: says 'h' when its third message is in the handler, and goes on when it is told to.
Process draining_process(const std::string& path, std::uint32_t flags, std::uint64_t drain_timeout_ns,
                         const std::string& group = "default") {
  return Process([=](const Process::Line& line) {
    Instance own(path);
    mooring_worker_options options = worker_options();
    options.prefetch = 8;
    options.flags = flags;
    options.drain_timeout_ns = drain_timeout_ns;
    Worker worker(own, "q", group, &options);
    int calls = 0;
    const bool drained = worker.run([&](const mooring_message&) {
      if (++calls != 3) return;
      line.say('h');
      line.hear();
    });
    if (!drained) return 2;
    line.say('d');
    const mooring_worker_stats stats = worker.stats();
    return stats.signal_number == SIGTERM && stats.acked == 3 && stats.released == 5 && stats.handling == 0 ? 0 : 1;
  });
}

TEST_F(Workers, ASignalDrains) {
  set("max_deliveries", "1");
  publish_numbers(8);
  Process process = draining_process(service.path(), MOORING_DRAIN_ON_SIGNALS, MOORING_FOREVER);
  ASSERT_TRUE(process.heard('h'));
  process.kill(SIGTERM);
  EXPECT_EQ(rest(5).size(), 5U) << "released while the handler still runs";
  process.say('g');
  EXPECT_TRUE(process.heard('d'));
  EXPECT_EQ(process.join(), 0);
  EXPECT_EQ(rest(0).size(), 0U);
  EXPECT_EQ(dead(), 0U);
}

TEST_F(Workers, ASecondSignalLeavesTheHandlerBehindAndNobodyIsCharged) {
  set("max_deliveries", "1");
  publish_numbers(8);
  Process process = draining_process(service.path(), MOORING_DRAIN_ON_SIGNALS, MOORING_FOREVER);
  ASSERT_TRUE(process.heard('h'));
  process.kill(SIGTERM);
  EXPECT_EQ(rest(5).size(), 5U) << "the first signal was seen";
  process.kill(SIGINT);
  EXPECT_EQ(process.join(), 2);
  EXPECT_EQ(rest(1), (std::map<std::string, std::uint32_t>{{"2", 2}})) << "at once, and uncounted";
  EXPECT_EQ(dead(), 0U);
}

TEST_F(Workers, ADrainThatTakesTooLongLeavesTheHandlerBehindAndNobodyIsCharged) {
  for (const bool exclusive : {false, true}) {
    const std::string group = exclusive ? "strict" : "default";
    if (exclusive) make_exclusive();
    set("max_deliveries", "1", group);
    publish_numbers(8);
    Process process = draining_process(service.path(), MOORING_DRAIN_ON_SIGNALS, 1, group);
    ASSERT_TRUE(process.heard('h'));
    process.kill(SIGTERM);
    EXPECT_EQ(process.join(), 2);
    // The process has ended: the seat of the exclusive group is free once that is known.
    std::map<std::string, std::uint32_t> found;
    EXPECT_TRUE(eventually([&] {
      try {
        found = rest(6, group);
        return true;
      } catch (const Failure& failure) {
        return failure.code() != MOORING_ERR_NO_SEAT;
      }
    }));
    EXPECT_EQ(found.size(), 6U);
    EXPECT_EQ(found.count("2"), 1U);
    EXPECT_EQ(dead(0, group), 0U);
  }
}

// What is left behind may still end well, and is settled then.
TEST_F(Workers, AHandlerThatWasLeftBehindStillSettlesItsMessage) {
  publish_numbers(1);
  mooring_worker_options options = worker_options();
  options.drain_timeout_ns = 0;
  static Gate gate;  // lasts as long as the handler
  auto worker = std::make_unique<Worker>(*instance, "q", "default", &options);
  static const auto handle = [](const mooring_message&) { gate.pass(); };
  std::thread runs([&] { EXPECT_FALSE(worker->run(handle)); });
  gate.wait_for(1);
  worker->stop();
  runs.join();
  EXPECT_EQ(worker->stats().handling, 1U);
  gate.open();
  EXPECT_TRUE(eventually([&] { return worker->stats().acked == 1 && worker->stats().handling == 0; }));
  worker.reset();
  EXPECT_EQ(rest(0).size(), 0U);
}

// ---- Signals and the application -----------------------------------------------------------------------------------

std::atomic<int> application_heard{0};

TEST_F(Workers, SignalHandlersOfTheApplicationAreCalledAndPutBack) {
  publish_numbers(1);
  Process process([&](const Process::Line& line) {
    struct sigaction mine {};
    mine.sa_handler = [](int) { application_heard.fetch_add(1, std::memory_order_relaxed); };
    ::sigaction(SIGTERM, &mine, nullptr);
    ::signal(SIGINT, SIG_IGN);
    Instance own(service.path());
    mooring_worker_options options = worker_options();
    options.flags = MOORING_DRAIN_ON_SIGNALS;
    Worker worker(own, "q", "default", &options);
    if (!worker.run([&](const mooring_message&) {
          ::raise(SIGINT);  // ignored before, ignored now
          if (worker.is_stopping()) line.say('x');
          ::raise(SIGTERM);
        })) {
      return 1;
    }
    if (application_heard.load(std::memory_order_relaxed) != 1 || worker.stats().signal_number != SIGTERM) return 2;
    struct sigaction now {};
    ::sigaction(SIGTERM, nullptr, &now);
    if (now.sa_handler != mine.sa_handler) return 3;
    ::sigaction(SIGINT, nullptr, &now);
    if (now.sa_handler != SIG_IGN) return 4;
    line.say('d');
    return 0;
  });
  EXPECT_TRUE(process.heard('d'));
  EXPECT_EQ(process.join(), 0);
}

TEST_F(Workers, WithoutTheFlagSignalsAreTheApplications) {
  publish_numbers(1);
  Process process([&](const Process::Line& line) {
    Instance own(service.path());
    Worker worker(own, "q");
    worker.run([&](const mooring_message&) {
      line.say('h');
      line.hear();
    });
    return 0;
  });
  ASSERT_TRUE(process.heard('h'));
  process.kill(SIGTERM);
  EXPECT_EQ(process.join(), 128 + SIGTERM);
}

TEST_F(Workers, AChildOfForkDoesNotInheritTheDrain) {
  publish_numbers(1);
  Process process([&](const Process::Line& line) {
    Instance own(service.path());
    mooring_worker_options options = worker_options();
    options.flags = MOORING_DRAIN_ON_SIGNALS;
    Worker worker(own, "q", "default", &options);
    int status = -1;
    worker.run([&](const mooring_message&) {
      const pid_t child = ::fork();
      if (child == 0) {
        ::raise(SIGTERM);
        ::_exit(0);
      }
      status = test::wait_for_exit(child);
      worker.stop();
    });
    if (status != 128 + SIGTERM || worker.stats().signal_number != 0) return 1;
    line.say('d');
    return 0;
  });
  EXPECT_TRUE(process.heard('d'));
  EXPECT_EQ(process.join(), 0);
}

mooring_worker* stopped_by_signal = nullptr;

TEST_F(Workers, StopMayBeCalledInASignalHandler) {
  publish_numbers(1);
  Process process([&](const Process::Line& line) {
    Instance own(service.path());
    Worker worker(own, "q");
    stopped_by_signal = worker.get();
    struct sigaction mine {};
    mine.sa_handler = [](int) { mooring_worker_stop(stopped_by_signal); };
    ::sigaction(SIGUSR1, &mine, nullptr);
    if (!worker.run([&](const mooring_message&) { line.say('h'); })) return 1;
    line.say('d');
    return 0;
  });
  ASSERT_TRUE(process.heard('h'));
  process.kill(SIGUSR1);
  EXPECT_TRUE(process.heard('d'));
  EXPECT_EQ(process.join(), 0);
}

// ---- Crashes -----------------------------------------------------------------------------------------------------

// Two threads with four messages each, both in a handler: those two are charged, nobody else.
TEST_F(Workers, AKillChargesTheMessagesInHandlersAndNoOther) {
  set("max_deliveries", "1");  // who is charged is dead
  publish_numbers(8);
  Process process([&](const Process::Line& line) {
    Instance own(service.path());
    mooring_worker_options options = worker_options();
    options.concurrency = 2;
    options.prefetch = 4;
    Worker worker(own, "q", "default", &options);
    Gate gate;
    std::atomic<int> calls{0};
    worker.run([&](const mooring_message&) {
      if (++calls == 2) line.say('h');
      gate.pass();
    });
    return 0;
  });
  ASSERT_TRUE(process.heard('h'));
  process.kill(SIGKILL);
  process.join();
  EXPECT_TRUE(eventually([&] { return dead() == 2; }));
  EXPECT_EQ(dead(MOORING_DEAD_CRASH), 2U);
  const auto found = rest(6);
  EXPECT_EQ(found.size(), 6U);
  std::size_t received_before = 0;
  for (const auto& [text, attempt] : found) received_before += attempt == 2 ? 1 : 0;
  // One thread may have taken all it may before the other came: at least three were behind each handler that has four.
  EXPECT_GE(received_before, 3U);
  EXPECT_EQ(dead(), 2U);
}

// The same with one thread, in the middle of its batch, where everything is known.
TEST_F(Workers, AKillInTheMiddleOfABatchChargesExactlyTheOneInHand) {
  for (const bool exclusive : {false, true}) {
    const std::string group = exclusive ? "strict" : "default";
    if (exclusive) make_exclusive();
    set("max_deliveries", "1", group);
    publish_numbers(8);
    Process process = draining_process(service.path(), 0, MOORING_FOREVER, group);
    ASSERT_TRUE(process.heard('h'));
    process.kill(SIGKILL);
    process.join();
    EXPECT_TRUE(eventually([&] { return dead(MOORING_DEAD_CRASH, group) == 1; }));
    const auto found = rest(5, group);
    for (const char* text : {"3", "4", "5", "6", "7"}) EXPECT_EQ(found.count(text), 1U) << group << " " << text;
    EXPECT_EQ(dead(0, group), 1U);
  }
}

// ---- Long handlers -------------------------------------------------------------------------------------------------

// The handler outlives ack_wait several times over, and so does what waits behind it.
TEST_F(Workers, WhatTakesLongerThanAckWaitIsNotGivenOutAgain) {
  set("ack_wait", "1s");
  publish_numbers(4);
  mooring_worker_options options = worker_options();
  options.prefetch = 4;
  Worker worker(*instance, "q", "default", &options);
  Gate gate;
  std::thread runs([&] { EXPECT_TRUE(worker.run([&](const mooring_message&) { gate.pass(); })); });
  gate.wait_for(1);
  // The clock that the lease is held by: a delayed message that another group gets three ack_waits later.
  instance->create_group("q", "clock", MOORING_MODE_COMPETING);
  {
    Producer producer = instance->open_producer("q");
    mooring_publish_options late = publish_options();
    late.delay_ns = 3000 * kMs;
    ASSERT_TRUE(producer.publish("clock", late, kPatienceNs).has_value());
    Consumer clock = instance->open_consumer("q", "clock");
    const auto tick = clock.receive(kPatienceNs);
    ASSERT_TRUE(tick.has_value());
    EXPECT_TRUE(clock.ack(*tick));
  }
  EXPECT_EQ(worker.stats().late, 0U);
  gate.open();
  EXPECT_TRUE(eventually([&] { return worker.stats().acked == 5; }));
  worker.stop();
  runs.join();
  EXPECT_EQ(worker.stats().stale, 0U);
}

struct Told {
  std::atomic<int> calls{0};
  std::atomic<std::uint64_t> running_ns{0};
};

// A handler that hangs: it is told of, what waits behind it is given back, and its message goes to another after
// ack_wait, counted; its own settlement is stale.
TEST_F(Workers, AHandlerThatHangsLosesItsLeaseAndNothingElse) {
  set("ack_wait", "100ms");
  set("retry_initial", "0");
  publish_numbers(3);
  Told told;
  mooring_worker_options options = worker_options();
  options.prefetch = 3;
  options.handler_timeout_ns = 20 * kMs;
  options.late = [](const mooring_message* message, std::uint64_t running_ns, void* user) {
    EXPECT_EQ(text_of(*message), "0");
    static_cast<Told*>(user)->running_ns.store(running_ns);
    static_cast<Told*>(user)->calls.fetch_add(1);
  };
  options.late_user = &told;
  Worker worker(*instance, "q", "default", &options);
  Gate gate;
  std::thread runs([&] { EXPECT_TRUE(worker.run([&](const mooring_message&) { gate.pass(); })); });
  gate.wait_for(1);
  EXPECT_TRUE(eventually([&] { return told.calls.load() == 1; }));
  EXPECT_GE(told.running_ns.load(), options.handler_timeout_ns);
  EXPECT_EQ(rest(3), (std::map<std::string, std::uint32_t>{{"0", 2}, {"1", 2}, {"2", 2}}));
  worker.stop();
  gate.open();
  runs.join();
  EXPECT_EQ(told.calls.load(), 1) << "once";
  EXPECT_EQ(worker.stats().late, 1U);
  EXPECT_EQ(worker.stats().released, 2U);
  EXPECT_EQ(worker.stats().stale, 1U);
  EXPECT_EQ(worker.stats().acked, 0U);
}

// In an exclusive group nothing is ever taken from its consumer.
TEST_F(Workers, AHandlerThatHangsInAnExclusiveGroupIsOnlyToldOf) {
  make_exclusive();
  set("ack_wait", "10ms", "strict");
  publish_numbers(1);
  Told told;
  mooring_worker_options options = worker_options();
  options.handler_timeout_ns = 1;
  options.late = [](const mooring_message*, std::uint64_t, void* user) {
    static_cast<Told*>(user)->calls.fetch_add(1);
  };
  options.late_user = &told;
  Worker worker(*instance, "q", "strict", &options);
  EXPECT_TRUE(worker.run([&](const mooring_message&) {
    EXPECT_TRUE(eventually([&] { return told.calls.load() == 1; }));
    worker.stop();
  }));
  EXPECT_EQ(worker.stats().late, 1U);
  EXPECT_EQ(worker.stats().acked, 1U);
  EXPECT_EQ(worker.stats().stale, 0U);
}

}  // namespace
}  // namespace mooring
