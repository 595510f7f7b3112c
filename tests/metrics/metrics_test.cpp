// Metrics as a user gets them: over HTTP from mooringd and from `mooring metrics`, with values that follow from what
// was done before; the same with every process dead; counters that stay with their group; and the documents, which name
// every metric there is and none else.
#include <atomic>
#include <regex>
#include <thread>

#include "metrics/scrape.hpp"

namespace mooring {
namespace {

using test::Exposition;
using test::Ran;
using test::Service;

std::string read_text(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

class Metrics : public testing::Test {
 protected:
  // Serves on any free port.
  void start() {
    service_.begin({"--metrics", "0"});
    url_ = service_.word_after("metrics at ");
    ASSERT_TRUE(service_.logged("serves"));
  }
  Ran run(const std::string& line) { return test::run_line(service_, line); }
  void done(const std::string& line) { EXPECT_EQ(run(line + " >/dev/null").exit_code, 0) << line; }
  Exposition printed() { return Exposition(run("mooring metrics").out); }
  Exposition scraped() { return Exposition(test::http_get(url_)); }
  // What is counted by the supervisor comes at its next look.
  Exposition printed_with(const std::string& series, double value) {
    return test::ask_until([&] { return printed(); },
                           [&](const Exposition& now) { return now.value(series) == value; });
  }
  Service service_;
  std::string url_;
};

constexpr const char* kJobs = R"({queue="jobs",group="billing")";
std::string of_jobs(const std::string& name, const std::string& more = "") {
  return name + kJobs + (more.empty() ? "" : "," + more) + "}";
}

TEST_F(Metrics, SayWhatHappened) {
  start();
  done("mooring create jobs --capacity 4096 --group billing");
  done("mooring set jobs --group billing retry_initial=10ms retry_jitter=0");
  done("mooring publish jobs one; seq 2 10 | mooring publish jobs");
  done("mooring receive jobs --group billing --count 4");
  done("mooring receive jobs --group billing --nack --count 1");
  done("mooring receive jobs --group billing --reject --count 1");
  EXPECT_EQ(run("mooring receive jobs --group billing --exec 'kill -9 $PPID' 2>/dev/null").exit_code, 137);
  // Both that failed come again; nobody is there to take them.
  printed_with(of_jobs("mooring_messages_redelivered_total", R"(cause="crash")"), 1);
  const Exposition now = printed_with(of_jobs("mooring_messages_redelivered_total", R"(cause="nack")"), 1);
  const std::map<std::string, double> expected = {
      {"mooring_supervisor_up", 1},
      {R"(mooring_queue_readable{queue="jobs"})", 1},
      {R"(mooring_queue_capacity_messages{queue="jobs"})", 4096},
      {R"(mooring_queue_failed{queue="jobs"})", 0},
      {R"(mooring_queue_producers{queue="jobs"})", 0},
      {R"(mooring_messages_published_total{queue="jobs"})", 10},
      {R"(mooring_published_bytes_total{queue="jobs"})", 3 + 8 + 2},
      {R"(mooring_publish_rejected_total{queue="jobs"})", 0},
      {of_jobs("mooring_messages_delivered_total"), 4 + 1 + 1 + 1},
      {of_jobs("mooring_messages_acked_total"), 4},
      {of_jobs("mooring_messages_nacked_total"), 2},
      {of_jobs("mooring_messages_rejected_total"), 1},
      {of_jobs("mooring_messages_released_total"), 0},
      {of_jobs("mooring_ack_stale_total"), 0},
      {of_jobs("mooring_deliveries_failed_total", R"(cause="nack")"), 1},
      {of_jobs("mooring_deliveries_failed_total", R"(cause="crash")"), 1},
      {of_jobs("mooring_deliveries_failed_total", R"(cause="rejected")"), 1},
      {of_jobs("mooring_deliveries_failed_total", R"(cause="timeout")"), 0},
      {of_jobs("mooring_messages_dead_lettered_total", R"(reason="rejected")"), 1},
      {of_jobs("mooring_messages_dead_lettered_total", R"(reason="crash")"), 0},
      {of_jobs("mooring_consumer_crashes_total", R"(signal="SIGKILL")"), 1},
      {of_jobs("mooring_consumer_crashes_total", R"(signal="SIGSEGV")"), 0},
      {of_jobs("mooring_queue_messages", R"(state="ready")"), 5},
      {of_jobs("mooring_queue_messages", R"(state="in_flight")"), 0},
      {of_jobs("mooring_queue_messages", R"(state="waiting")"), 0},
      {of_jobs("mooring_queue_messages", R"(state="dead")"), 1},
      {of_jobs("mooring_group_lag_messages"), 5},
      {of_jobs("mooring_group_consumers", R"(state="live")"), 0},
      {of_jobs("mooring_queue_paused", R"(cause="user")"), 0},
      // The other group got the same messages and took none.
      {R"(mooring_queue_messages{queue="jobs",group="default",state="ready"})", 10},
      {R"(mooring_messages_delivered_total{queue="jobs",group="default"})", 0},
  };
  for (const auto& [series, value] : expected) EXPECT_EQ(now.value(series), value) << series;
}

TEST_F(Metrics, HttpSaysTheSameAsTheCommandLineAndTheSameWithEveryProcessDead) {
  start();
  done("mooring create jobs --capacity 4096 --group billing");
  done("mooring create bills --durability durable");
  done("seq 1 100 | mooring publish jobs; seq 1 7 | mooring publish bills");
  done("mooring receive jobs --group billing --count 60");
  const auto counters_of = [](const Exposition& of) {
    std::map<std::string, double> counters;
    for (const auto& [series, value] : of.values) {
      const std::string name = series.substr(0, series.find('{'));
      const bool is_ours = name.starts_with("mooring_") && name.ends_with("_total");
      if (is_ours && name != "mooring_journal_syncs_total") counters[series] = value;
    }
    return counters;
  };
  const auto counters = counters_of(scraped());
  EXPECT_GT(counters.size(), 50U);
  EXPECT_EQ(counters.at(of_jobs("mooring_messages_acked_total")), 60);
  EXPECT_EQ(counters, counters_of(printed()));
  service_.kill_supervisor();
  const Exposition dead = printed();
  EXPECT_EQ(counters, counters_of(dead));
  EXPECT_EQ(dead.value("mooring_supervisor_up"), 0);
  EXPECT_EQ(dead.value(of_jobs("mooring_queue_messages", R"(state="ready")")), 40);
  EXPECT_EQ(dead.value(R"(mooring_queue_messages{queue="bills",group="default",state="ready"})"), 7);
  EXPECT_EQ(dead.value(R"(mooring_journal_unsynced_messages{queue="bills"})"), 0);
  EXPECT_GE(dead.value(R"(mooring_journal_syncs_total{queue="bills"})"), 1);
  // They go on where they were.
  start();
  done("mooring receive jobs --group billing --count 1");
  EXPECT_EQ(scraped().value(of_jobs("mooring_messages_acked_total")), 61);
  EXPECT_EQ(scraped().value("mooring_supervisor_up"), 1);
}

TEST_F(Metrics, OldestMessagesAgeUntilTheyAreTaken) {
  start();
  done("mooring create jobs --capacity 4096 --group billing");
  done("mooring publish jobs x");
  const std::string age = of_jobs("mooring_queue_oldest_age_seconds", R"(state="ready")");
  const auto grown =
      test::ask_until([&] { return scraped(); }, [&](const Exposition& now) { return now.value(age) > 0.2; });
  EXPECT_GT(grown.value(age), 0.2);
  EXPECT_GE(grown.value(of_jobs("mooring_group_lag_seconds")), grown.value(age));
  done("mooring receive jobs --group billing --count 1");
  EXPECT_EQ(scraped().value(age), 0);
}

// One seat, and three groups that take turns in it.
TEST_F(Metrics, CountersStayWithTheirGroupWhenASeatGoesToAnotherOne) {
  start();
  done("mooring create jobs --capacity 4096 --consumers 1 --group a --group b");
  done("seq 1 20 | mooring publish jobs");
  const auto acked = [&](const std::string& group) {
    return scraped().value("mooring_messages_acked_total{queue=\"jobs\",group=\"" + group + "\"}");
  };
  done("mooring receive jobs --group a --count 3");
  done("mooring receive jobs --group b --count 5");
  done("mooring receive jobs --group a --count 2");
  EXPECT_EQ(acked("a"), 5);
  EXPECT_EQ(acked("b"), 5);
  done("mooring rm jobs --group a");
  done("mooring create jobs --group a");
  EXPECT_EQ(acked("a"), 0) << "a new group of the same name";
  done("mooring publish jobs x");
  done("mooring receive jobs --group a --count 1");
  EXPECT_EQ(acked("a"), 1);
  EXPECT_EQ(acked("b"), 5);
}

TEST_F(Metrics, ADamagedQueueIsToldOfAndHidesNoOther) {
  start();
  done("mooring create jobs --capacity 4096 --group billing");
  done("mooring create broken --capacity 4096");
  done("mooring publish jobs x; mooring publish broken x");
  const std::string directory = service_.queue_directory("broken");
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    std::filesystem::resize_file(entry.path(), 0);
  }
  for (int round = 0; round < 20; ++round) {
    const Exposition now = scraped();
    EXPECT_EQ(now.value(R"(mooring_queue_readable{queue="broken"})"), 0);
    EXPECT_EQ(now.value(R"(mooring_queue_readable{queue="jobs"})"), 1);
    EXPECT_EQ(now.value(R"(mooring_messages_published_total{queue="jobs"})"), 1);
  }
  EXPECT_TRUE(service_.alive());
}

// Files are cut short while scrapes read them: a fault in a mapping of the HTTP server's thread must not end mooringd.
TEST_F(Metrics, AScrapeOutlivesFilesThatAreCutShortUnderIt) {
  start();
  done("mooring create jobs --capacity 65536 --group billing");
  for (int round = 0; round < 8; ++round) {
    done("mooring create cut --capacity 65536; seq 1 1000 | mooring publish cut");
    std::atomic<bool> stop{false};
    std::thread scraper([&] {
      while (!stop.load(std::memory_order_acquire)) EXPECT_EQ(scraped().value("mooring_supervisor_up") >= 0, true);
    });
    for (const char* file : {"group-0", "order", "lane-0", "ctl"}) {
      std::filesystem::resize_file(service_.queue_directory("cut") + "/" + file, 4096);
    }
    stop.store(true, std::memory_order_release);
    scraper.join();
    ASSERT_TRUE(service_.alive());
    done("mooring rm cut");
  }
  EXPECT_EQ(scraped().value(R"(mooring_queue_readable{queue="jobs"})"), 1);
}

TEST_F(Metrics, RefusedAddressesSayWhatIsWrong) {
  std::string said;
  EXPECT_EQ(service_.run_to_end({"--metrics", "nonsense"}, &said), 2);
  EXPECT_NE(said.find("127.0.0.1:9464"), std::string::npos) << said;
  EXPECT_EQ(service_.run_to_end({"--metrics", "127.0.0.1:99999"}, &said), 2);
  EXPECT_EQ(service_.run_to_end({"--metrics", "127.0.0.1:9464,0.0.0.0:80"}, &said), 2)
      << "one address, not the server's";
  start();
  const std::string port = url_.substr(url_.rfind(':') + 1, url_.rfind('/') - url_.rfind(':') - 1);
  std::filesystem::create_directory(service_.root() + "/other");
  EXPECT_EQ(service_.run_to_end({"--instance", service_.root() + "/other", "--metrics", port}, &said), 1);
  EXPECT_NE(said.find("the port is taken"), std::string::npos) << said;
}

TEST_F(Metrics, ListenOnLoopbackAndOnlyWhenAsked) {
  start();
  EXPECT_TRUE(url_.starts_with("http://127.0.0.1:")) << url_;
  service_.kill_supervisor();
  service_.start();
  const Ran sockets = run("ls -l /proc/" + std::to_string(service_.pid()) +
                          "/fd | grep -o 'socket:.*' | tr -dc '0-9\n' | "
                          "while read inode; do grep \" $inode \" /proc/net/tcp /proc/net/tcp6; done");
  EXPECT_EQ(sockets.out, "") << "no option, no port";
  service_.kill_supervisor();
  ::setenv("MOORING_METRICS", "0", 1);
  service_.begin();
  ::unsetenv("MOORING_METRICS");
  url_ = service_.word_after("metrics at ");
  EXPECT_EQ(scraped().value("mooring_supervisor_up"), 1);
}

// ---- the documents ------------------------------------------------------------------------------------------------

struct Documented {
  std::string type;
  std::set<std::string> labels;
  bool operator==(const Documented&) const = default;
};

std::set<std::string> names_in(const std::string& path) {
  static const std::regex kName("mooring_[a-z_]+[a-z]");
  const std::string text = read_text(std::string(MOORING_SOURCE_DIR) + "/docs/" + path);
  return {std::sregex_token_iterator(text.begin(), text.end(), kName), std::sregex_token_iterator()};
}

class MetricsDocuments : public Metrics {
 protected:
  // With a durable queue and a group: every metric has a sample.
  Exposition everything() {
    start();
    done("mooring create bills --durability durable; mooring publish bills x");
    return scraped();
  }
};

TEST_F(MetricsDocuments, TheTableIsWhatIsServed) {
  const Exposition now = everything();
  std::map<std::string, Documented> served;
  for (const auto& [name, type] : now.types) {
    if (name.starts_with("mooring_")) served[name] = {type, now.labels.at(name)};
  }
  ASSERT_GT(served.size(), 40U);
  const std::string document = read_text(MOORING_SOURCE_DIR "/docs/metrics.md");
  static const std::regex kRow(R"(\| `(mooring_\w+)` \| (\w+) \| ([a-z, ]*)\|)");
  std::map<std::string, Documented> documented;
  for (std::sregex_iterator row(document.begin(), document.end(), kRow); row != std::sregex_iterator(); ++row) {
    Documented& metric = documented[(*row)[1]];
    metric.type = (*row)[2];
    std::string labels = (*row)[3];
    std::replace(labels.begin(), labels.end(), ',', ' ');
    std::istringstream words(labels);
    for (std::string label; words >> label;) metric.labels.insert(label);
  }
  for (const auto& [name, metric] : served) {
    ASSERT_TRUE(documented.contains(name)) << name << " is served and not in docs/metrics.md";
    EXPECT_EQ(documented.at(name).type, metric.type) << name;
    EXPECT_EQ(documented.at(name).labels, metric.labels) << name;
  }
  for (const auto& [name, metric] : documented) EXPECT_TRUE(served.contains(name)) << name << " is not served";
  for (const auto& [name, type] : now.types) {
    EXPECT_NE(document.find("`" + name + "`"), std::string::npos) << name;
  }
}

TEST_F(MetricsDocuments, AlertsAndDashboardNameWhatThereIsAndLeaveNothingOut) {
  std::set<std::string> served;
  for (const auto& [name, type] : everything().types) {
    if (name.starts_with("mooring_")) served.insert(name);
  }
  std::set<std::string> named = names_in("alerts.yml");
  EXPECT_GE(named.size(), 15U);
  named.merge(names_in("grafana-dashboard.json"));
  EXPECT_EQ(named, served);
}

TEST_F(MetricsDocuments, PromtoolAcceptsMetricsAndAlerts) {
  if (!test::is_installed("promtool")) GTEST_SKIP() << "promtool is not installed: tools/setup installs prometheus";
  everything();
  const Ran metrics = run("mooring metrics | promtool check metrics 2>&1");
  EXPECT_EQ(metrics.exit_code, 0) << metrics.out;
  EXPECT_EQ(metrics.out, "");
  const Ran none = run("echo 'mooring_x{' | promtool check metrics 2>&1");
  EXPECT_NE(none.exit_code, 0) << "it finds what is wrong";
  const Ran rules = run("promtool check rules " MOORING_SOURCE_DIR "/docs/alerts.yml 2>&1");
  EXPECT_EQ(rules.exit_code, 0) << rules.out;
}

}  // namespace
}  // namespace mooring
