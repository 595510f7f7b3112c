// What the tests of this room stand on: a directory of their own, and child processes that never outlive a test.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <new>
#include <string>
#include <utility>

#include "platform/file.hpp"

namespace mooring {

// The value of a Result that the test cannot go on without.
template <class T>
T take(Result<T> result) {
  if (!result) {
    ADD_FAILURE() << result.error().text;
    std::abort();
  }
  return std::move(*result);
}

#define MOORING_EXPECT_OK(expression)                         \
  do {                                                        \
    const auto& outcome = (expression);                       \
    EXPECT_TRUE(outcome.has_value()) << outcome.error().text; \
  } while (false)

// Fails with this code and with a sentence that names `part`.
#define MOORING_EXPECT_FAILS(expression, expected_code, part)                              \
  do {                                                                                     \
    const auto outcome = (expression);                                                     \
    ASSERT_FALSE(outcome.has_value());                                                     \
    EXPECT_EQ(outcome.error().code, expected_code) << outcome.error().text;                \
    EXPECT_NE(outcome.error().text.find(part), std::string::npos) << outcome.error().text; \
  } while (false)

// In /dev/shm, where queues live.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::string pattern = "/dev/shm/mooring-test-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
    dir_ = take(open_directory(path_));
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string path(const std::string& name) const { return path_ + "/" + name; }
  const File& dir() const { return dir_; }

 private:
  std::string path_;
  File dir_;
};

// A forked process that runs `work` and exits with what it returns. Killed and reaped at the end of the test.
class Child {
 public:
  template <class Work>
  explicit Child(Work work) {
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(126);
      ::_exit(work());
    }
    if (pid_ < 0) std::abort();
  }
  ~Child() {
    if (pid_ > 0) {
      kill(SIGKILL);
      wait();
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  void kill(int signal_number) const { ::kill(pid_, signal_number); }
  // The status as of waitpid, once.
  int wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return status;
  }
  int exit_code() {
    const int status = wait();
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_ = -1;
};

// One way, one event: read() returns when notify() was called, in whatever process.
class Signal {
 public:
  Signal() {
    int ends[2];
    if (::pipe(ends) != 0) std::abort();
    read_end_ = File(ends[0]);
    write_end_ = File(ends[1]);
  }
  void notify() const {
    const char byte = 'x';
    if (::write(write_end_.fd(), &byte, 1) != 1) std::abort();
  }
  void wait() const {
    char byte = 0;
    while (::read(read_end_.fd(), &byte, 1) < 0 && errno == EINTR) {
    }
  }

 private:
  File read_end_;
  File write_end_;
};

// Waits for good: for children that are there to be killed.
[[noreturn]] inline void wait_to_be_killed() {
  while (true) ::pause();
}

}  // namespace mooring
