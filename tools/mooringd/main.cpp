// mooringd: the supervisor of one instance, as a program.
//
// In the foreground it logs to standard error and leaves on SIGTERM or SIGINT. With --background it forks twice before
// it opens anything (a forked copy of the lock would outlive us), the first process stays until the daemon serves or
// has failed, and ends with its exit status and its error text: whoever started it knows.
//
// Exit status: 0 left in good order, 1 failed, 2 wrong arguments, 3 another supervisor serves this instance.
#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <string>

#include "metrics_endpoint.hpp"
#include "segment/instance_paths.hpp"
#include "supervisor/supervisor.hpp"

namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;
constexpr int kExitTaken = 3;

mooring::Supervisor* running = nullptr;

void on_signal(int /*number*/) {
  if (running != nullptr) running->stop();
}

// Daemonises. Returns in the daemon with the descriptor to report on; the first process never returns.
int go_to_background() {
  int report[2];
  if (::pipe2(report, O_CLOEXEC) != 0) {
    std::perror("mooringd: pipe");
    std::exit(kExitFailed);
  }
  const pid_t child = ::fork();
  if (child < 0) {
    std::perror("mooringd: fork");
    std::exit(kExitFailed);
  }
  if (child > 0) {
    ::close(report[1]);
    // One byte, the exit status, then the error text; an end without a byte: it died.
    char status = kExitFailed;
    std::string text;
    char buffer[512];
    bool first = true;
    for (;;) {
      const ssize_t got = ::read(report[0], buffer, sizeof buffer);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      text.append(buffer, static_cast<std::size_t>(got));
    }
    if (!text.empty()) {
      status = text[0];
      text.erase(0, 1);
      first = false;
    }
    if (first) text = "mooringd ended before it could serve\n";
    std::fputs(text.c_str(), stderr);
    ::waitpid(child, nullptr, 0);
    ::_exit(status);
  }
  ::setsid();
  const pid_t grandchild = ::fork();
  if (grandchild != 0) ::_exit(grandchild < 0 ? kExitFailed : 0);
  ::close(report[0]);
  if (::chdir("/") != 0) ::_exit(kExitFailed);
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(null, STDIN_FILENO);
  ::dup2(null, STDOUT_FILENO);
  ::dup2(null, STDERR_FILENO);
  return report[1];
}

void report(int fd, int status, const std::string& text) {
  if (fd < 0) {
    if (!text.empty()) std::fputs(text.c_str(), stderr);
    return;
  }
  std::string packet(1, static_cast<char>(status));
  packet += text;
  (void)!::write(fd, packet.data(), packet.size());
  ::close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "mooringd: the supervisor of a Mooring instance. It grants seats, repairs after crashes and redelivers."};
  app.footer(
      "Example:\n  mooringd --instance /run/mooring\n\nClients with MOORING_AUTOSTART=1 start one by themselves.");
  mooring::Supervisor::Options options;
  bool background = false;
  double idle_seconds = 10;
  std::string log_level = "info";
  std::string mode = "0600";
  std::string metrics = "off";
  app.add_option("--instance", options.path,
                 "directory of the instance (default: MOORING_INSTANCE, else the system's)");
  app.add_flag("--background", background, "leave the terminal once it serves");
  app.add_flag("--exit-when-idle", options.exit_when_idle, "leave when nobody is connected and nobody holds anything");
  app.add_option("--idle-seconds", idle_seconds, "how long idle before leaving")->check(CLI::Range(0.01, 86400.0));
  app.add_option("--socket-mode", mode, "permission bits of the control socket, octal")->capture_default_str();
  app.add_option("--metrics", metrics,
                 "serve Prometheus metrics over HTTP at ADDRESS:PORT, a PORT alone is of 127.0.0.1; off: not at all")
      ->envname("MOORING_METRICS")
      ->capture_default_str();
  app.add_option("--log-level", log_level, "trace, debug, info, warn, error")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error"}))
      ->capture_default_str();
  app.set_version_flag("--version", std::string("mooringd ") + MOORING_VERSION_STRING);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : 2;
  }
  options.idle_ns = static_cast<mooring::u64>(idle_seconds * 1e9);
  char* mode_end = nullptr;
  const unsigned long bits = std::strtoul(mode.c_str(), &mode_end, 8);
  if (mode.empty() || *mode_end != '\0' || (bits & ~0666UL) != 0) {
    std::fprintf(stderr, "mooringd: --socket-mode %s: octal permission bits of read and write, like 0660\n",
                 mode.c_str());
    return 2;
  }
  options.socket_mode = static_cast<mooring::u32>(bits);

  int report_fd = -1;
  if (background) {
    if (!options.path.empty() && options.path.front() != '/') {
      char here[4096];
      if (::getcwd(here, sizeof here) != nullptr) options.path = std::string(here) + "/" + options.path;
    }
    report_fd = go_to_background();
  }
  ::signal(SIGPIPE, SIG_IGN);

  // Before the start: what is recovered is told there.
  const mooring::Result<mooring::InstancePaths> paths = mooring::resolve_instance(options.path, /*create=*/true);
  const std::string directory = paths ? paths->directory : "/tmp";  // else start() says what is wrong
  try {
    auto logger = background && paths ? spdlog::basic_logger_mt("mooringd", directory + "/mooringd.log")
                                      : spdlog::stderr_logger_mt("mooringd");
    logger->set_level(spdlog::level::from_str(log_level));
    logger->flush_on(spdlog::level::info);
    spdlog::set_default_logger(logger);
  } catch (const spdlog::spdlog_ex&) {
    spdlog::drop_all();  // no log file (a full or read-only disk) is no reason not to serve
  }

  mooring::Result<std::unique_ptr<mooring::Supervisor>> supervisor = mooring::Supervisor::start(options);
  if (!supervisor) {
    const int status = supervisor.error().code == mooring::Code::kExists ? kExitTaken : kExitFailed;
    report(report_fd, status, fmt::format("mooringd: {}\n", supervisor.error().text));
    return status;
  }
  const mooring::Result<std::unique_ptr<mooring::MetricsEndpoint>> endpoint =
      mooring::MetricsEndpoint::open(metrics, (*supervisor)->path());
  // Started on demand, with an environment that another one has as well: better without metrics than not at all.
  if (!endpoint && background && endpoint.error().code != mooring::Code::kBadArgument) {
    spdlog::error("no metrics: {}", endpoint.error().text);
  } else if (!endpoint) {
    const int status = endpoint.error().code == mooring::Code::kBadArgument ? kExitUsage : kExitFailed;
    report(report_fd, status, fmt::format("mooringd: {}\n", endpoint.error().text));
    return status;
  }
  running = supervisor->get();
  struct sigaction action {};
  action.sa_handler = on_signal;
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGINT, &action, nullptr);
  if (endpoint && *endpoint) spdlog::info("metrics at {}", (*endpoint)->url());
  spdlog::info("mooringd {} serves {} ({} queues), pid {}", MOORING_VERSION_STRING, (*supervisor)->path(),
               (*supervisor)->queue_count(), ::getpid());
  report(report_fd, 0, "");
  const mooring::Status status = (*supervisor)->run();
  if (!status) spdlog::error("{}", status.error().text);
  spdlog::info("leaving; shared memory and clients stay");
  running = nullptr;
  return status ? 0 : kExitFailed;
}
