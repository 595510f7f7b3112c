// An instance of its own for a test, with a real mooringd, and worker processes to talk to it.
//
// Nothing here sleeps to be in step: mooringd is waited for by the line it logs when it serves, workers by bytes over a
// pipe, deaths by waitpid. Every wait has a watchdog. Whatever is left at the end of a test is killed and removed, and
// a test that is itself killed takes its children along (PR_SET_PDEATHSIG).
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace mooring::test {

inline constexpr int kWatchdogMs = 60'000;

// Waits for one byte; -1: the other side is gone, or the watchdog.
inline int read_byte(int fd, int timeout_ms = kWatchdogMs) {
  pollfd ready{fd, POLLIN, 0};
  int count = 0;
  do {
    count = ::poll(&ready, 1, timeout_ms);
  } while (count < 0 && errno == EINTR);
  unsigned char byte = 0;
  if (count != 1 || ::read(fd, &byte, 1) != 1) return -1;
  return byte;
}

inline int wait_for_exit(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// A child process with a line to its parent. `work` returns the exit status.
class Worker {
 public:
  // The worker's end.
  class Line {
   public:
    Line(int in, int out) : in_(in), out_(out) {}
    void say(char byte) const {
      if (::write(out_, &byte, 1) != 1) ::_exit(124);
    }
    // Waits for the parent; the worker ends with it.
    char hear() const {
      const int byte = read_byte(in_, -1);
      if (byte < 0) ::_exit(125);
      return static_cast<char>(byte);
    }
    [[noreturn]] void rest() const {
      for (;;) ::pause();
    }

   private:
    int in_;
    int out_;
  };

  explicit Worker(const std::function<int(const Line&)>& work) {
    int down[2];
    int up[2];
    if (::pipe2(down, O_CLOEXEC) != 0 || ::pipe2(up, O_CLOEXEC) != 0) std::abort();
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0) std::abort();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(126);
      ::close(down[1]);
      ::close(up[0]);
      int status = 123;
      try {
        status = work(Line(down[0], up[1]));
      } catch (const std::exception& error) {
        std::fprintf(stderr, "worker %d: %s\n", ::getpid(), error.what());
      }
      ::_exit(status);
    }
    ::close(down[0]);
    ::close(up[1]);
    to_ = down[1];
    from_ = up[0];
  }
  ~Worker() {
    kill(SIGKILL);
    join();
    ::close(to_);
    ::close(from_);
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  pid_t pid() const { return pid_; }
  // Readable when it said something, or is gone.
  int line() const { return from_; }
  bool heard(char byte) const { return read_byte(from_) == static_cast<unsigned char>(byte); }
  void say(char byte) const { (void)!::write(to_, &byte, 1); }
  void kill(int number) const {
    if (pid_ > 0) ::kill(pid_, number);
  }
  // Returns when it is stopped, not only told to.
  void stop() const {
    kill(SIGSTOP);
    int status = 0;
    while (::waitpid(pid_, &status, WUNTRACED) < 0 && errno == EINTR) {
    }
  }
  void go_on() const { kill(SIGCONT); }
  int join() {
    if (pid_ > 0) {
      exit_ = wait_for_exit(pid_);
      pid_ = -1;
    }
    return exit_;
  }

 private:
  pid_t pid_ = -1;
  int to_ = -1;
  int from_ = -1;
  int exit_ = -1;
};

// A directory of its own under /dev/shm with an instance and its shared memory, and mooringd there when asked.
class Service {
 public:
  Service() {
    std::string pattern = "/dev/shm/mooring-test-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    root_ = pattern;
    path_ = root_ + "/instance";
    std::filesystem::create_directory(path_);
    std::filesystem::create_directory(root_ + "/shm");
    ::setenv("MOORING_SHM_ROOT", (root_ + "/shm").c_str(), 1);
    ::setenv("MOORING_INSTANCE", path_.c_str(), 1);
    ::setenv("MOORING_MOORINGD", MOORING_BIN_DIR "/mooringd", 1);
    ::unsetenv("MOORING_AUTOSTART");
  }
  ~Service() {
    kill_supervisor();
    // One that a client started by itself.
    if (const pid_t pid = pid_in_file(); pid > 0 && is_mooringd(pid)) ::kill(pid, SIGKILL);
    ::close(log_);
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  const std::string& path() const { return path_; }
  const std::string& root() const { return root_; }
  pid_t pid() const { return pid_; }

  // Starts mooringd and waits until it serves.
  void start(const std::vector<std::string>& more = {}) {
    begin(more);
    ASSERT_TRUE(logged("serves")) << said_;
  }
  // Starts it and does not wait: logged("serves") does.
  void begin(const std::vector<std::string>& more = {}) { pid_ = spawn(more); }
  // Starts one that logs errors only, for tests that make it say so much that nobody reads it all; it serves when it
  // can be connected to, by a socket that is closed at once.
  void start_quietly() {
    pid_ = spawn({"--log-level", "error"});
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, (path_ + "/control").c_str(), path_.size() + sizeof "/control");
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(kWatchdogMs);
    for (bool serves = false; !serves;) {
      ASSERT_LT(std::chrono::steady_clock::now(), until) << "mooringd does not listen";
      const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
      serves = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
      ::close(fd);
      if (!serves) ::sched_yield();
    }
  }
  // Starts one that is expected to leave by itself; returns its exit status. `said` gets its standard error.
  int run_to_end(const std::vector<std::string>& more, std::string* said) {
    const pid_t before = std::exchange(pid_, -1);
    const int log_before = std::exchange(log_, -1);
    const std::string said_before = std::exchange(said_, {});
    const pid_t pid = spawn(more);
    while (read_log()) {
    }
    *said = said_;
    const int status = wait_for_exit(pid);
    ::close(log_);
    pid_ = before;
    log_ = log_before;
    said_ = said_before;
    return status;
  }
  void kill_supervisor(int number = SIGKILL) {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGCONT);
    ::kill(pid_, number);
    exit_ = wait_for_exit(pid_);
    pid_ = -1;
  }
  void stop_supervisor() const {
    ::kill(pid_, SIGSTOP);
    int status = 0;
    while (::waitpid(pid_, &status, WUNTRACED) < 0 && errno == EINTR) {
    }
  }
  void continue_supervisor() const { ::kill(pid_, SIGCONT); }
  // Waits until it leaves by itself.
  int wait_supervisor() {
    exit_ = wait_for_exit(pid_);
    pid_ = -1;
    return exit_;
  }
  bool alive() const { return pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) == 0; }
  // Reads the log on until `text` comes.
  bool logged(const std::string& text) {
    for (;;) {
      if (const auto at = said_.find(text, read_to_); at != std::string::npos) {
        read_to_ = at + text.size();
        return true;
      }
      if (!read_log()) return false;
    }
  }
  // Reads the log on until `text` comes; the word behind it.
  std::string word_after(const std::string& text) {
    if (!logged(text)) return {};
    for (;;) {
      if (const auto end = said_.find_first_of(" \n", read_to_); end != std::string::npos) {
        return said_.substr(read_to_, end - read_to_);
      }
      if (!read_log()) return {};
    }
  }
  pid_t pid_in_file() const {
    std::ifstream file(path_ + "/mooringd.pid");
    pid_t pid = -1;
    file >> pid;
    return pid;
  }
  // Directory of a queue's files.
  std::string queue_directory(const std::string& queue) const {
    for (const auto& entry : std::filesystem::directory_iterator(root_ + "/shm")) {
      return entry.path().string() + "/q-" + queue;
    }
    return {};
  }

 private:
  static bool is_mooringd(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
    std::string name;
    file >> name;
    return name == "mooringd";
  }
  pid_t spawn(const std::vector<std::string>& more) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
    ::fcntl(ends[0], F_SETPIPE_SZ, 1 << 20);
    std::vector<std::string> words = {MOORING_BIN_DIR "/mooringd"};
    if (more.empty() || more.front() != "--instance") words.insert(words.end(), {"--instance", path_});
    words.insert(words.end(), more.begin(), more.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(126);
      ::dup2(ends[1], STDERR_FILENO);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    if (log_ >= 0) ::close(log_);
    log_ = ends[0];
    said_.clear();
    read_to_ = 0;
    return pid;
  }
  bool read_log() {
    pollfd ready{log_, POLLIN, 0};
    char buffer[4096];
    if (::poll(&ready, 1, kWatchdogMs) != 1) return false;
    const ssize_t got = ::read(log_, buffer, sizeof buffer);
    if (got <= 0) return false;
    said_.append(buffer, static_cast<std::size_t>(got));
    return true;
  }

  std::string root_;
  std::string path_;
  pid_t pid_ = -1;
  int log_ = -1;
  int exit_ = -1;
  std::string said_;
  std::size_t read_to_ = 0;
};

}  // namespace mooring::test
