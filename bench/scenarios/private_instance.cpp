#include "bench/scenarios/private_instance.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/time.hpp"
#include "bench/support/processes.hpp"
#include "segment/instance_paths.hpp"

namespace mooring::bench {

namespace {

constexpr u64 kShutdown_ns = 5 * kNsPerSecond;

// The supervisor of a benchmark is our grandchild (it daemonises), adopted because the keeper is a subreaper.
void wait_for_supervisor() {
  const u64 deadline_ns = deadline_after(monotonic_ns(), kShutdown_ns);
  bool killed = false;
  for (;;) {
    const pid_t ended = ::waitpid(-1, nullptr, WNOHANG);
    if (ended > 0 || (ended < 0 && errno == EINTR)) continue;
    if (ended < 0) return;  // No child is left.
    if (!killed && monotonic_ns() >= deadline_ns) {
      killed = true;
      std::ifstream children("/proc/self/task/" + std::to_string(::getpid()) + "/children");
      for (pid_t child = 0; children >> child;) ::kill(child, SIGKILL);
    } else if (monotonic_ns() >= deadline_after(deadline_ns, kShutdown_ns)) {
      return;
    }
    ::poll(nullptr, 0, 1);
  }
}

void report_ready(int fd, const std::string& problem) {
  const std::string text = problem.empty() ? "+" : "-" + problem;
  static_cast<void>(!::write(fd, text.data(), text.size()));
  ::close(fd);
}

[[noreturn]] void keep(const std::string& path, int life_fd, int ready_fd) {
  ::setsid();  // A Ctrl-C is for the benchmark; we clean up after it.
  ::signal(SIGPIPE, SIG_IGN);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  // The supervisor inherits our priority: in crash-recovery it works beside roles that have the same.
  static_cast<void>(raise_priority(kMeasurementNice));
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(null, STDIN_FILENO);
  ::dup2(null, STDOUT_FILENO);  // Whoever reads the benchmark's output must not wait for us.
  ::dup2(null, STDERR_FILENO);
  std::string shared_directory;
  try {
    // The supervisor beside this program, wherever the library was loaded from; the user's own choice comes first.
    std::error_code unknown;
    const auto beside = std::filesystem::read_symlink("/proc/self/exe", unknown).replace_filename("mooringd");
    if (!unknown && ::access(beside.c_str(), X_OK) == 0) ::setenv("MOORING_MOORINGD", beside.c_str(), 0);
    Instance instance(path, MOORING_AUTOSTART);
    if (auto paths = resolve_instance(path, /*create=*/false)) shared_directory = paths->shared_directory;
    report_ready(ready_fd, "");
    char byte = 0;
    while (::read(life_fd, &byte, 1) < 0 && errno == EINTR) {
    }
    mooring_supervisor_shutdown(instance.get());
  } catch (const std::exception& problem) {
    report_ready(ready_fd, problem.what());
  }
  wait_for_supervisor();
  std::error_code ignored;
  if (!shared_directory.empty()) std::filesystem::remove_all(shared_directory, ignored);
  std::filesystem::remove_all(path, ignored);
  ::_exit(0);
}

}  // namespace

Result<std::unique_ptr<PrivateInstance>> PrivateInstance::start() {
  std::string path = "/tmp/mooring-bench-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return fail_errno(errno, "cannot make a directory for the benchmark in /tmp");
  std::array<int, 2> life{-1, -1};
  std::array<int, 2> ready{-1, -1};
  if (::pipe2(life.data(), O_CLOEXEC) != 0 || ::pipe2(ready.data(), O_CLOEXEC) != 0) {
    ::rmdir(path.c_str());
    return fail_errno(errno, "cannot make a pipe for the benchmark's keeper; raise the limit of open files");
  }
  const pid_t keeper = ::fork();
  if (keeper < 0) {
    ::rmdir(path.c_str());
    return fail_errno(errno, "cannot fork the benchmark's keeper; raise the process limit");
  }
  if (keeper == 0) {
    ::close(life[1]);
    ::close(ready[0]);
    keep(path, life[0], ready[1]);
  }
  ::close(life[0]);
  ::close(ready[1]);
  std::unique_ptr<PrivateInstance> instance(new PrivateInstance);
  instance->path_ = path;
  instance->keeper_ = keeper;
  instance->life_fd_ = life[1];
  std::string said;
  std::array<char, 512> buffer{};
  for (;;) {
    const ssize_t got = ::read(ready[0], buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    said.append(buffer.data(), static_cast<std::size_t>(got));
  }
  ::close(ready[0]);
  if (said.empty() || said[0] != '+') {
    return fail(Code::kNoSupervisor, "cannot start a private instance for the benchmark: " +
                                         (said.size() > 1 ? said.substr(1) : std::string("its keeper died")));
  }
  try {
    instance->connection_.emplace(path);
  } catch (const Failure& failure) {
    return fail(static_cast<Code>(failure.code()), failure.what());
  }
  return instance;
}

PrivateInstance::~PrivateInstance() {
  connection_.reset();
  if (life_fd_ >= 0) ::close(life_fd_);
  if (keeper_ > 0) {
    while (::waitpid(keeper_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
}

u64 bench_ring_bytes(u64 size_bytes) { return std::max(u64{1} << 20, std::bit_ceil(16 * size_bytes)); }

mooring_queue_options bench_queue_options(unsigned kind, u64 size_bytes) {
  mooring_queue_options options;
  mooring_queue_options_init(&options, sizeof options);
  options.kind = kind;
  options.lane_bytes = bench_ring_bytes(size_bytes);
  return options;
}

}  // namespace mooring::bench
