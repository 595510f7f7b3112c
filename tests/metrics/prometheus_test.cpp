// A real Prometheus scrapes mooringd, and its API answers with what was done before; its alert rules, which are ours,
// evaluate, and the one for a dead supervisor fires.
#include <nlohmann/json.hpp>

#include "metrics/scrape.hpp"

namespace mooring {
namespace {

using test::Service;
using Json = nlohmann::json;

// A port that is free now. Somebody may take it before the server does, which then ends: tried again with another one.
int free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  const bool bound = ::bind(fd, reinterpret_cast<const sockaddr*>(&address), size) == 0 &&
                     ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  ::close(fd);
  return bound ? ntohs(address.sin_port) : -1;
}

// The server, with its data in the service's directory.
class Prometheus {
 public:
  Prometheus(const Service& service, const std::string& target) : root_(service.root()) {
    std::ofstream config(root_ + "/prometheus.yml");
    config << "global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}\n"
           << "rule_files: ['" MOORING_SOURCE_DIR "/docs/alerts.yml']\n"
           << "scrape_configs: [{job_name: mooring, static_configs: [{targets: ['" << target << "']}]}]\n";
  }
  ~Prometheus() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    test::wait_for_exit(pid_);
  }
  Prometheus(const Prometheus&) = delete;
  Prometheus& operator=(const Prometheus&) = delete;

  void start() {
    for (int tries = 0; tries < 5 && !begin(); ++tries) {
    }
  }
  // Data of a query, [] for no series.
  Json query(const std::string& expression) const {
    std::string escaped;
    for (const char c : expression) {
      char hex[4];
      std::snprintf(hex, sizeof hex, "%%%02X", static_cast<unsigned>(static_cast<unsigned char>(c)));
      escaped += hex;
    }
    return get("/api/v1/query?query=" + escaped, "result");
  }
  // The one value; -1: none, or several.
  double value(const std::string& expression) const {
    const Json result = query(expression);
    return result.size() == 1 ? std::stod(result[0]["value"][1].get<std::string>()) : -1;
  }
  Json rules() const { return get("/api/v1/rules", "groups"); }

 private:
  Json get(const std::string& path, const char* member) const {
    const Json answer = Json::parse(test::http_get(url_ + path), nullptr, false);
    if (!answer.is_object() || answer.value("status", "") != "success") return Json::array();
    return answer["data"].value(member, Json::array());
  }
  // True once it answers; false if it ended.
  bool begin() {
    const std::string listen = "127.0.0.1:" + std::to_string(free_port());
    url_ = "http://" + listen;
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(126);
      const int log = ::open((root_ + "/prometheus.log").c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600);
      ::dup2(log, STDOUT_FILENO);
      ::dup2(log, STDERR_FILENO);
      ::execlp("prometheus", "prometheus", ("--config.file=" + root_ + "/prometheus.yml").c_str(),
               ("--storage.tsdb.path=" + root_ + "/tsdb").c_str(), ("--web.listen-address=" + listen).c_str(), nullptr);
      ::_exit(127);
    }
    for (;;) {
      if (!test::http_get(url_ + "/-/ready").empty()) return true;
      if (::waitpid(pid_, nullptr, WNOHANG) != 0) {
        pid_ = -1;
        return false;
      }
      ::sched_yield();
    }
  }

  std::string root_;
  std::string url_;
  pid_t pid_ = -1;
};

TEST(Prometheus, ScrapesAndAnswers) {
  if (!test::is_installed("prometheus")) GTEST_SKIP() << "prometheus is not installed: tools/setup installs it";
  Service service;
  service.begin({"--metrics", "0"});
  const std::string url = service.word_after("metrics at ");
  const auto run = [&](const std::string& line) { return test::run_line(service, line).exit_code; };
  ASSERT_EQ(run("mooring create jobs --capacity 4096 --group billing"), 0);
  ASSERT_EQ(run("seq 1 25 | mooring publish jobs"), 0);
  ASSERT_EQ(run("mooring receive jobs --group billing --count 7 >/dev/null"), 0);
  ASSERT_EQ(run("mooring receive jobs --group billing --reject --count 1 >/dev/null"), 0);

  Prometheus prometheus(service, url.substr(7, url.rfind('/') - 7));
  prometheus.start();
  const auto eventually = [&](const std::string& expression, double value) {
    const double now =
        test::ask_until([&] { return prometheus.value(expression); }, [&](double of) { return of == value; });
    EXPECT_EQ(now, value) << expression << "\n" << prometheus.query(expression).dump(1);
  };
  eventually("mooring_supervisor_up", 1);
  eventually(R"(mooring_messages_published_total{queue="jobs"})", 25);
  eventually(R"(mooring_messages_acked_total{queue="jobs",group="billing"})", 7);
  eventually(R"(mooring_queue_messages{queue="jobs",group="billing",state="ready"})", 17);
  eventually(R"(mooring_queue_messages{queue="jobs",group="billing",state="dead"})", 1);
  eventually(R"(sum(mooring_group_lag_messages))", 17 + 25);
  // Counters go on, and are counters to it.
  ASSERT_EQ(run("seq 1 10 | mooring publish jobs"), 0);
  eventually(R"(mooring_messages_published_total{queue="jobs"})", 35);

  const Json groups = test::ask_until([&] { return prometheus.rules(); },
                                      [](const Json& now) {
                                        return now.size() == 1 && now[0]["rules"].size() >= 15 &&
                                               now.dump().find("unknown") == std::string::npos;
                                      });
  ASSERT_EQ(groups.size(), 1U);
  for (const Json& rule : groups[0]["rules"]) EXPECT_EQ(rule["health"], "ok") << rule.dump(1);

  service.kill_supervisor();
  eventually(R"(count(ALERTS{alertname="MooringSupervisorDown"}))", 1);
}

}  // namespace
}  // namespace mooring
