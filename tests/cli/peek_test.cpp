// `mooring peek` and `mooring tail` from outside: what they show, that they change nothing, with every process dead,
// messages that left memory, publishers that overtake them, and bytes that make no sense.
#include <mooring/mooring.hpp>
#include <nlohmann/json.hpp>
#include <random>

#include "support/service.hpp"

namespace mooring {
namespace {

using namespace test;
using Json = nlohmann::json;

struct Ran {
  int exit_code = -1;
  std::string out;
  std::vector<Json> objects() const {
    std::vector<Json> found;
    for (std::size_t at = 0; at < out.size();) {
      const std::size_t end = std::min(out.find('\n', at), out.size());
      found.push_back(Json::parse(out.substr(at, end - at), nullptr, false));
      at = end + 1;
    }
    return found;
  }
};

class Peek : public testing::Test {
 protected:
  Peek() { service_.start(); }

  Ran run(const std::string& line) {
    Ran ran;
    const std::string whole = "PATH=" MOORING_BIN_DIR ":$PATH; cd " + service_.root() + "; " + line;
    std::FILE* pipe = ::popen(whole.c_str(), "r");
    if (pipe == nullptr) return ran;
    char buffer[4096];
    for (std::size_t got = 0; (got = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) ran.out.append(buffer, got);
    const int status = ::pclose(pipe);
    ran.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return ran;
  }
  std::vector<Json> peek(const std::string& arguments) {
    const Ran ran = run("mooring peek " + arguments + " --json 2>&1");
    EXPECT_EQ(ran.exit_code, 0) << arguments << "\n" << ran.out;
    return ran.objects();
  }
  std::string checksums(const std::string& queue) {
    return run("find " + service_.queue_directory(queue) + " -type f | sort | xargs cksum").out;
  }
  template <class Says>
  static bool comes(Says&& says) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(kWatchdogMs);
    while (!says()) {
      if (std::chrono::steady_clock::now() > until) return false;
    }
    return true;
  }
  Service service_;
};

TEST_F(Peek, ShowsWhatWaitsAndChangesNothing) {
  run("mooring create q --capacity 4096");
  run("mooring publish q first --correlation-id order-7 --header tenant=blue --traceparent "
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  run("printf 'second\\nthird\\n' | mooring publish q");
  const auto look = [&] {
    const std::vector<Json> found = peek("q");
    ASSERT_EQ(found.size(), 3U);
    EXPECT_EQ(found[0]["data"], "first");
    EXPECT_EQ(found[0]["state"], "ready");
    EXPECT_EQ(found[0]["acquired"], 0);
    EXPECT_EQ(found[0]["size"], 5);
    EXPECT_EQ(found[0]["headers"]["correlation_id"], "order-7");
    EXPECT_EQ(found[0]["headers"]["traceparent"], "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    EXPECT_EQ(found[0]["headers"]["application"][0]["value"], "blue");
    EXPECT_EQ(found[2]["data"], "third");
    const std::uint64_t seq = found[1]["seq"];
    EXPECT_EQ(peek("q --count 1").size(), 1U);
    EXPECT_EQ(peek("q --seq " + std::to_string(seq)).at(0)["data"], "second");
    EXPECT_EQ(peek("q --from " + std::to_string(seq + 1)).at(0)["data"], "third");
    const Ran text = run("mooring peek q --headers");
    EXPECT_NE(text.out.find("correlation-id: order-7"), std::string::npos) << text.out;
    EXPECT_NE(text.out.find("header tenant: blue"), std::string::npos) << text.out;
  };
  look();
  service_.kill_supervisor();
  const std::string before = checksums("q");
  look();
  EXPECT_EQ(checksums("q"), before);
  service_.start();
  EXPECT_EQ(run("mooring receive q --json").objects().at(0)["attempt"], 1);
  EXPECT_EQ(run("mooring peek q 2>/dev/null").exit_code, 4);
  EXPECT_EQ(run("mooring peek nowhere 2>&1").exit_code, 1);
  const Ran group = run("mooring peek q --group nobody 2>&1");
  EXPECT_EQ(group.exit_code, 1);
  EXPECT_NE(group.out.find("no group nobody"), std::string::npos) << group.out;
}

TEST_F(Peek, TellsTheStateInEachGroup) {
  run("mooring create q --capacity 4096 --group other");
  run("seq 1 4 | mooring publish q");
  Instance instance(service_.path());
  Consumer consumer = instance.open_consumer("q", "default");
  const auto held = consumer.receive();
  const auto failed = consumer.receive();
  const auto done = consumer.receive();
  ASSERT_TRUE(held && failed && done);
  consumer.ack(*done);
  consumer.nack(*failed, 3'600'000'000'000ULL);
  EXPECT_TRUE(comes([&] { return peek("q").at(1)["state"] == "retry_wait"; }));
  const std::vector<Json> found = peek("q");
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0]["state"], "in_flight");
  EXPECT_EQ(found[0]["pid"], ::getpid());
  EXPECT_EQ(found[0]["acquired"], 1);
  EXPECT_EQ(found[1]["data"], "2");
  EXPECT_EQ(found[1]["failed"], 1);
  EXPECT_EQ(found[1]["from"], "park store");
  EXPECT_GT(found[1]["due_in_seconds"], 3000);
  EXPECT_EQ(found[2]["data"], "4");
  EXPECT_EQ(peek("q --seq " + std::to_string(done->seq)).at(0)["state"], "acked");
  EXPECT_EQ(peek("q --group other").size(), 4U);
  consumer.reject(*held, 1, "never");
  EXPECT_TRUE(comes([&] { return peek("q --seq " + std::to_string(held->seq)).at(0)["state"] == "dead"; }));
}

TEST_F(Peek, ReadsTheOneLaneOfAnSpscQueue) {
  run("mooring create q --kind spsc --capacity 4096");
  EXPECT_EQ(run("mooring peek q 2>/dev/null").exit_code, 4);
  run("seq 1 5 | mooring publish q");
  run("mooring receive q --count 2");
  const std::vector<Json> found = peek("q");
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0]["data"], "3");
  EXPECT_EQ(found[2]["data"], "5");
  EXPECT_EQ(peek("q --from " + found[1]["seq"].dump()).size(), 2U);
}

TEST_F(Peek, ReadsFromTheLogWhatLeftMemory) {
  for (const std::string& queue : {std::string("mpmc"), std::string("spsc")}) {
    run("mooring create " + queue + " --kind " + queue + " --capacity 4096 --lane 64K --durability durable");
    EXPECT_EQ(run("seq 1 20000 | mooring publish " + queue).exit_code, 0);
  }
  for (const bool dead : {false, true}) {
    if (dead) service_.kill_supervisor();
    for (const std::string queue : {"mpmc", "spsc"}) {
      const std::vector<Json> found = peek(queue + " --count 3");
      ASSERT_EQ(found.size(), 3U) << queue;
      EXPECT_EQ(found[0]["data"], "1");
      EXPECT_EQ(found[2]["data"], "3");
      EXPECT_EQ(found[0]["from"], "log") << queue;
      const std::uint64_t last = found[0]["seq"].get<std::uint64_t>() + 19999;
      const std::vector<Json> end = peek(queue + " --from " + std::to_string(last));
      ASSERT_EQ(end.size(), 1U);
      EXPECT_EQ(end[0]["data"], "20000");
    }
  }
  const Ran elsewhere = run("MOORING_DATA=/nowhere mooring peek mpmc --count 1 2>&1");
  EXPECT_EQ(elsewhere.exit_code, 1);
  EXPECT_NE(elsewhere.out.find("MOORING_DATA"), std::string::npos) << elsewhere.out;
}

TEST_F(Peek, OrdersATerminalToDoNothing) {
  run("mooring create q --capacity 4096");
  run("printf '\\033[2Jhidden\\302\\233' | mooring publish q");
  run("printf '\\377\\376\\001' | mooring publish q");
  const Ran shown = run("mooring peek q");
  EXPECT_NE(shown.out.find("\\x1b[2Jhidden\\xc2\\x9b"), std::string::npos) << shown.out;
  EXPECT_NE(shown.out.find("hex fffe01"), std::string::npos) << shown.out;
  EXPECT_EQ(shown.out.find('\033'), std::string::npos);
  EXPECT_EQ(peek("q").at(1)["data_hex"], "fffe01");
  EXPECT_NE(run("mooring peek q --bytes 3").out.find("more"), std::string::npos);
  run("mooring publish q body --header \"bad=$(printf '\\302\\2332J')\"");
  const Ran headers = run("mooring peek q --headers");
  EXPECT_NE(headers.out.find("bad: \\xc2\\x9b2J"), std::string::npos) << headers.out;
}

// A publisher and a consumer at full speed: what is shown is right, or said to be gone.
TEST_F(Peek, ShowsNoBytesOfAnotherMessage) {
  run("mooring create q --capacity 4096 --lane 64K");
  run("mooring publish q 0");
  const std::uint64_t first = peek("q").at(0)["seq"];
  Worker traffic([&](const Worker::Line& line) {
    Instance instance(service_.path());
    Producer producer = instance.open_producer("q");
    Consumer consumer = instance.open_consumer("q", "default");
    line.say('r');
    for (std::uint64_t number = 1;; ++number) {
      const std::string text = std::to_string(number) + std::string(number % 500, '.');
      producer.publish(text);
      // One message stays, so that there is always something to look at.
      if (const auto message = consumer.receive()) consumer.ack(*message);
    }
    return 0;
  });
  ASSERT_TRUE(traffic.heard('r'));
  std::uint64_t shown = 0;
  for (int look = 0; look < 50; ++look) {
    const Ran ran = run("mooring peek q --count 100 --json 2>/dev/null");
    ASSERT_TRUE(ran.exit_code == 0 || ran.exit_code == 4) << ran.exit_code << ran.out;
    for (const Json& message : ran.objects()) {
      ASSERT_FALSE(message.is_discarded()) << ran.out;
      if (!message.contains("data")) continue;
      const std::uint64_t number = message["seq"].get<std::uint64_t>() - first;
      ASSERT_EQ(message["data"], std::to_string(number) + std::string(number % 500, '.'));
      ++shown;
    }
  }
  RecordProperty("shown", std::to_string(shown));
}

TEST_F(Peek, SurvivesBytesThatMakeNoSense) {
  for (const std::string queue : {"mpmc", "spsc"}) {
    run("mooring create " + queue + " --kind " + queue + " --capacity 4096 --lane 64K");
    run("seq 1 500 | mooring publish " + queue);
  }
  service_.kill_supervisor();
  std::mt19937_64 random(20261122);
  for (int round = 0; round < 20; ++round) {
    for (const std::string queue : {"mpmc", "spsc"}) {
      for (const auto& file : std::filesystem::directory_iterator(service_.queue_directory(queue))) {
        const std::string name = file.path().filename();
        if (name == "ctl") continue;  // the supervisor's alone
        const auto size = std::filesystem::file_size(file);
        std::fstream bytes(file.path(), std::ios::in | std::ios::out | std::ios::binary);
        for (int scribble = 0; scribble < 200; ++scribble) {
          const std::uint64_t word = random() >> (random() % 64);
          bytes.seekp(static_cast<std::streamoff>(128 + random() % (size - 136)));
          bytes.write(reinterpret_cast<const char*>(&word), sizeof word);
        }
      }
      const int looked = run("timeout 60 mooring peek " + queue + " --count 1000 >/dev/null 2>&1").exit_code;
      EXPECT_LE(looked, 4) << queue << " round " << round;
      const int one = run("timeout 60 mooring peek " + queue + " --seq 1100 --headers >/dev/null 2>&1").exit_code;
      EXPECT_LE(one, 4) << queue << " round " << round;
    }
  }
}

// A `mooring tail` whose output we read.
class Following {
 public:
  explicit Following(const std::string& arguments) {
    const std::string line = "echo $$; exec " MOORING_BIN_DIR "/mooring tail " + arguments + " 2>&1";
    pipe_ = ::popen(line.c_str(), "r");
    pid_ = std::stoi(next());
    EXPECT_NE(next().find("following"), std::string::npos);
  }
  ~Following() {
    if (pipe_ != nullptr) end();
  }
  std::string next() {
    std::string line;
    for (int c = 0; (c = std::fgetc(pipe_)) != EOF && c != '\n';) line += static_cast<char>(c);
    return line;
  }
  void signal(int number) const { ::kill(pid_, number); }
  // Closes our end, and waits.
  int end() {
    const int status = ::pclose(std::exchange(pipe_, nullptr));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  std::FILE* pipe_ = nullptr;
  pid_t pid_ = -1;
};

TEST_F(Peek, TailFollowsWhatIsPublishedAndTakesNothing) {
  for (const std::string kind : {"mpmc", "spsc"}) {
    for (const std::string durability : {"volatile", "durable"}) {
      const std::string queue = kind + "-" + durability;
      run("mooring create " + queue + " --capacity 4096 --kind " + kind + " --durability " + durability);
      run("seq 1 3 | mooring publish " + queue);
      Following tail(queue + " --json");
      run("mooring publish " + queue + " new --correlation-id c");
      run("mooring publish " + queue + " newer");
      const Json first = Json::parse(tail.next());
      EXPECT_EQ(first["data"], "new") << queue;
      EXPECT_EQ(first["headers"]["correlation_id"], "c");
      EXPECT_EQ(Json::parse(tail.next())["data"], "newer");
      tail.signal(SIGTERM);
      EXPECT_EQ(tail.next(), "");
      EXPECT_EQ(tail.end(), 0) << queue;
      EXPECT_EQ(peek(queue).size(), 5U) << queue;
    }
  }
}

TEST_F(Peek, TailEndsWhenNobodyReadsItOrItsQueueIsGone) {
  run("mooring create q --capacity 4096");
  Following closed("q");
  EXPECT_EQ(closed.end(), 0);
  Following interrupted("q");
  interrupted.signal(SIGINT);
  EXPECT_EQ(interrupted.next(), "");
  EXPECT_EQ(interrupted.end(), 0);
  Following removed("q");
  run("mooring rm q");
  EXPECT_NE(removed.next().find("removed"), std::string::npos);
  EXPECT_EQ(removed.end(), 1);
}

TEST_F(Peek, TailSaysHowManyItMissed) {
  run("mooring create q --capacity 4096 --lane 64K");
  Following tail("q --json");
  run("mooring publish q 0");
  const std::uint64_t first = Json::parse(tail.next())["seq"];
  tail.signal(SIGSTOP);
  EXPECT_EQ(run("seq 1 20000 | mooring publish q >/dev/null & mooring receive q --count 20001 | tail -n 1; wait").out,
            "20000\n");
  tail.signal(SIGCONT);
  // It goes on where publishers are, so it needs one more message to know how many it missed.
  run("mooring publish q last");
  std::uint64_t missed = 0;
  std::uint64_t shown = 0;
  for (;;) {
    const Json line = Json::parse(tail.next());
    if (line.contains("missed")) {
      missed += line["missed"].get<std::uint64_t>();
      continue;
    }
    ++shown;
    if (line["data"] == "last") {
      EXPECT_EQ(line["seq"].get<std::uint64_t>(), first + 20001);
      break;
    }
  }
  EXPECT_GT(missed, 0U);
  EXPECT_EQ(missed + shown, 20001U);
}

}  // namespace
}  // namespace mooring
