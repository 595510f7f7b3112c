// `mooring check` as a monitoring system runs it: one line, exit status 0, 1 or 2, each reason told; and
// `mooring stats`, whose rates come from two looks.
#include <nlohmann/json.hpp>

#include "metrics/scrape.hpp"

namespace mooring {
namespace {

using test::Ran;
using Json = nlohmann::json;

class Check : public testing::Test {
 protected:
  Ran run(const std::string& line) { return test::run_line(service_, line + " 2>&1"); }
  void done(const std::string& line) { EXPECT_EQ(run(line).exit_code, 0) << line; }
  // Of `mooring check`, with these options.
  void expect(int exit_code, const std::string& verdict, const std::string& options) {
    const Ran ran = run("mooring check " + options);
    EXPECT_EQ(ran.exit_code, exit_code) << options << ": " << ran.out;
    EXPECT_EQ(ran.out.substr(0, ran.out.find(':')), verdict) << options << ": " << ran.out;
    EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 1) << "one line: " << ran.out;
    said_ = ran.out;
  }
  bool says(const std::string& text) const { return said_.find(text) != std::string::npos; }
  test::Service service_;
  std::string said_;
};

TEST_F(Check, IsOkWarningOrCriticalByTheBoundsItIsGiven) {
  service_.start();
  done("mooring create jobs --capacity 4096 --group billing");
  done("seq 1 10 | mooring publish jobs");
  done("mooring receive jobs --group billing --reject --count 2");
  expect(0, "OK", "");
  EXPECT_TRUE(says("18 messages unfinished")) << said_;
  EXPECT_TRUE(says("2 dead letters")) << said_;
  expect(0, "OK", "jobs --max-depth 10 --max-dead 2");
  expect(2, "CRITICAL", "jobs --max-depth 9");
  EXPECT_TRUE(says("jobs.default: 10 messages unfinished, more than 9")) << said_;
  EXPECT_FALSE(says("jobs.billing")) << said_;
  expect(1, "WARNING", "jobs --max-depth 9,100");
  expect(2, "CRITICAL", "jobs --max-depth 5,7");
  EXPECT_TRUE(says("jobs.billing: 8 messages")) << said_;
  expect(1, "WARNING", "--max-dead 1,5");
  expect(2, "CRITICAL", "--max-dead 0,1");
  expect(2, "CRITICAL", "--max-age 1h --max-dead 0");
  expect(0, "OK", "--max-age 1h");
  expect(2, "CRITICAL", "--min-consumers 1");
  const Ran aged = test::ask_until([&] { return run("mooring check --max-age 100ms"); },
                                   [](const Ran& ran) { return ran.exit_code == 2; });
  EXPECT_NE(aged.out.find("the oldest message is"), std::string::npos) << aged.out;
  const Json json = Json::parse(run("mooring check --max-depth 5,7 --json").out, nullptr, false);
  EXPECT_EQ(json["verdict"], "CRITICAL");
  EXPECT_EQ(json["problems"].size(), 2U);
  EXPECT_EQ(json["problems"][0]["queue"], "jobs");
}

TEST_F(Check, TellsOfWhatIsWrongByItself) {
  expect(2, "CRITICAL", "");
  service_.start();
  expect(0, "OK", "");
  expect(2, "CRITICAL", "nowhere");
  done("mooring create jobs --capacity 4096");
  done("mooring pause jobs --group default");
  expect(1, "WARNING", "");
  EXPECT_TRUE(says("jobs.default: paused")) << said_;
  done("mooring resume jobs --group default");
  service_.stop_supervisor();
  expect(2, "CRITICAL", "jobs");
  EXPECT_TRUE(says("mooringd is stopped")) << said_;
  service_.continue_supervisor();
  service_.kill_supervisor();
  expect(2, "CRITICAL", "jobs");
  EXPECT_TRUE(says("mooringd does not run")) << said_;
}

TEST_F(Check, RefusesBoundsThatAreNone) {
  service_.start();
  for (const char* bound :
       {"--max-depth many", "--max-depth -1", "--max-age soon", "--max-dead 1,", "--max-depth 1,2,3"}) {
    EXPECT_EQ(run(std::string("mooring check ") + bound).exit_code, 2) << bound;
  }
}

TEST_F(Check, StatsShowRatesBetweenTwoLooks) {
  service_.start();
  done("mooring create jobs --capacity 4096");
  const Json still = Json::parse(run("mooring stats jobs --interval 10ms --json").out, nullptr, false);
  EXPECT_EQ(still["published_per_second"], 0.0);
  std::FILE* watch =
      ::popen("exec " MOORING_BIN_DIR "/mooring stats jobs --watch --interval 20ms --json 2>/dev/null", "r");
  ASSERT_NE(watch, nullptr);
  char line[4096];
  ASSERT_NE(std::fgets(line, sizeof line, watch), nullptr);  // it has looked
  done("seq 1 50 | mooring publish jobs");
  done("mooring receive jobs --count 20");
  double published = 0;
  double acked = 0;
  Json last;
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(test::kWatchdogMs);
  while (std::chrono::steady_clock::now() < until && std::fgets(line, sizeof line, watch) != nullptr) {
    last = Json::parse(line, nullptr, false);
    const double seconds = last["interval_seconds"];
    published += seconds * last["published_per_second"].get<double>();
    acked += seconds * last["groups"][0]["acked_per_second"].get<double>();
    if (last["groups"][0]["messages_acked_total"] == 20) break;
  }
  ::pclose(watch);
  EXPECT_NEAR(published, 50, 1e-6);
  EXPECT_NEAR(acked, 20, 1e-6);
  EXPECT_EQ(last["groups"][0]["ready"], 30);
  EXPECT_EQ(last["groups"][0]["lag_messages"], 30);
  const Ran table = run("mooring stats --interval 10ms");
  EXPECT_NE(table.out.find("PUBLISHED/s"), std::string::npos) << table.out;
  EXPECT_NE(table.out.find("jobs"), std::string::npos) << table.out;
  EXPECT_EQ(run("mooring stats nowhere").exit_code, 1);
}

}  // namespace
}  // namespace mooring
