// Every scenario of `mooring bench` runs between real processes at its smallest: each verifies counts, sums and
// contents itself and fails otherwise, so a result is the proof. Here: that there is one for each kind, that a line has
// the promised keys, that nothing is left behind, and that wrong requests are refused with a sentence. No timings.
#include "bench/scenarios/scenario.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string>
#include <vector>

namespace mooring::bench {
namespace {

ScenarioOptions tiny() {
  ScenarioOptions options;
  options.seconds = 0.05;
  options.repetitions = 1;
  options.nice_value = 0;
  return options;
}

std::vector<std::string> keys_of(const nlohmann::ordered_json& json) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : json.items()) keys.push_back(key);
  return keys;
}

class EachScenario : public testing::TestWithParam<const char*> {};

TEST_P(EachScenario, DeliversEverythingAndReportsEachKind) {
  const Scenario* scenario = find_scenario(GetParam());
  ASSERT_NE(scenario, nullptr);
  const auto lines = run_scenario(*scenario, tiny());
  ASSERT_TRUE(lines) << lines.error().text;
  ASSERT_EQ(lines->size(), scenario->kinds.size());
  for (std::size_t i = 0; i < lines->size(); ++i) {
    SCOPED_TRACE(scenario->kinds[i]);
    const auto json = nlohmann::ordered_json::parse(json_line((*lines)[i]));
    std::vector<std::string> keys = keys_of(json);
    ASSERT_GE(keys.size(), 14U);
    keys.resize(14);
    EXPECT_EQ(keys, (std::vector<std::string>{"scenario", "kind", "size_bytes", "producers", "consumers", "p50_ns",
                                              "p99_ns", "p999_ns", "messages_per_second", "bytes_per_second", "limit",
                                              "ratio_to_limit", "machine", "version"}));
    EXPECT_EQ(json["scenario"], scenario->name);
    EXPECT_EQ(json["kind"], scenario->kinds[i]);
    EXPECT_EQ(json["size_bytes"], scenario->size_bytes);
    EXPECT_NE(json["p50_ns"].is_null(), json["messages_per_second"].is_null());
    EXPECT_TRUE(json["limit"]["name"].is_string());
    EXPECT_TRUE(json["ratio_to_limit"].is_number());
    EXPECT_GT(json["messages"], 0);
    if (json.contains("kills")) {
      EXPECT_EQ(json["redelivered"], json["messages"]);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Scenarios, EachScenario,
                         testing::Values("pingpong-spsc", "pingpong-mpmc", "pingpong-parked", "throughput-spsc",
                                         "throughput-mpmc", "pairs-mpmc", "fanout", "crash-recovery",
                                         "durable-stalled"),
                         [](const auto& one) {
                           std::string name = one.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Scenarios, ListIsWhatTheTestsRun) { EXPECT_EQ(scenarios().size(), 12U); }

TEST(Scenarios, SizesThatDoNotDivideTheRingAndLargeOnes) {
  ScenarioOptions options = tiny();
  options.seconds = 0.02;
  for (const u64 size_bytes : {u64{8}, u64{100}, u64{65536}}) {
    SCOPED_TRACE(size_bytes);
    options.size_bytes = size_bytes;
    for (const char* name : {"throughput-spsc", "throughput-mpmc"}) {
      const auto lines = run_scenario(*find_scenario(name), options);
      ASSERT_TRUE(lines) << lines.error().text;
      for (const ScenarioLine& line : *lines) EXPECT_EQ(line.report.size_bytes, size_bytes);
    }
  }
  options.size_bytes = 0;
  const auto empty = run_scenario(*find_scenario("pingpong-spsc"), options);
  EXPECT_TRUE(empty) << empty.error().text;
}

TEST(Scenarios, SeveralProducersAndConsumersReceiveEachMessageOnce) {
  ScenarioOptions options = tiny();
  options.producers = 2;
  options.consumers = 2;
  const auto lines = run_scenario(*find_scenario("throughput-mpmc"), options);
  ASSERT_TRUE(lines) << lines.error().text;
  ASSERT_EQ(lines->size(), 3U);  // Not the exclusive group: it has one consumer.
  for (const ScenarioLine& line : *lines) {
    EXPECT_EQ(line.report.producers, 2U);
    EXPECT_EQ(line.report.consumers, 2U);
  }
  options.kind = "exclusive";
  const auto refused = run_scenario(*find_scenario("throughput-mpmc"), options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kBadArgument);
}

TEST(Scenarios, WrongRequestsAreRefused) {
  EXPECT_EQ(find_scenario("no-such"), nullptr);
  ScenarioOptions options = tiny();
  options.kind = "no-such";
  const auto kind = run_scenario(*find_scenario("pairs-mpmc"), options);
  ASSERT_FALSE(kind);
  EXPECT_NE(kind.error().text.find("batch8"), std::string::npos) << kind.error().text;
  options.kind.clear();
  options.size_bytes = 7;
  const auto size = run_scenario(*find_scenario("fanout"), options);
  ASSERT_FALSE(size);
  EXPECT_EQ(size.error().code, Code::kBadArgument);
}

TEST(PrivateInstance, LeavesNothingBehindAlsoWhenItsProcessIsKilled) {
  std::array<int, 2> channel{-1, -1};
  ASSERT_EQ(::pipe2(channel.data(), O_CLOEXEC), 0);
  const pid_t pid = ::fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) {
    ::close(channel[0]);
    auto instance = PrivateInstance::start();
    if (!instance) ::_exit(1);
    const std::string path = (*instance)->path();
    if (::write(channel[1], path.data(), path.size()) < 0) ::_exit(1);
    for (;;) ::pause();
  }
  std::array<char, 256> text{};
  // The keeper inherits the writing end; so the end of the pipe is the end of the keeper.
  ::close(channel[1]);
  const ssize_t got = ::read(channel[0], text.data(), text.size());
  ASSERT_GT(got, 0);
  const std::string path(text.data(), static_cast<std::size_t>(got));
  EXPECT_TRUE(std::filesystem::exists(path));
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  EXPECT_EQ(::read(channel[0], text.data(), text.size()), 0);
  EXPECT_FALSE(std::filesystem::exists(path));
  ::close(channel[0]);
}

}  // namespace
}  // namespace mooring::bench
