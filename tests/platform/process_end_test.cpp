// How a process ended, as its pidfd and /proc tell it: as a zombie and reaped, by code and by signal, as root and as
// another user; and what is not known is not taken for exit code 0.
#include "platform/process_end.hpp"

#include <grp.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scratch.hpp"

namespace mooring {
namespace {

constexpr uid_t kOther = 65534;

void wait_for_zombie(const Child& child) {
  siginfo_t ended{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child.pid()), &ended, WEXITED | WNOWAIT), 0);
}

ProcessIdentity identity_of(const Child& child) { return *identify_process(static_cast<u32>(child.pid())); }

TEST(ProcessEnd, TellsCodeAndSignalOfAZombie) {
  const struct {
    int code;
    int signal;
    const char* text;
  } ends[] = {{0, 0, "exit code 0"},
              {7, 0, "exit code 7"},
              {0, SIGKILL, "signal 9 (SIGKILL)"},
              {0, SIGTERM, "signal 15 (SIGTERM)"}};
  for (const auto& end : ends) {
    Signal go;
    Child child([&] {
      go.wait();
      if (end.signal != 0) ::raise(end.signal);
      return end.code;
    });
    const ProcessIdentity identity = identity_of(child);
    const File pidfd = *open_pidfd(identity);
    go.notify();
    wait_for_zombie(child);
    std::optional<u32> status = exit_status(identity, pidfd);
    // Exit code 0 is told from "not yours" once the zombie does not run any more.
    while (!status.has_value() && end.signal == 0 && end.code == 0) status = exit_status(identity, pidfd);
    ASSERT_TRUE(status.has_value()) << end.text;
    EXPECT_EQ(exit_text(*status), end.text);
    const int reaped = child.wait();
    EXPECT_EQ(*status, static_cast<u32>(reaped));
    // The kernel may tell (6.15 and later), and then it is the same.
    const std::optional<u32> afterwards = exit_status(identity, pidfd);
    EXPECT_EQ(afterwards.value_or(*status), *status);
  }
}

// As a plain user: of a process of its own it knows, of one of root's it does not, also where the code is 0.
TEST(ProcessEnd, WhatIsNotOursToKnowIsNotZero) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to be two users";
  for (const bool own : {true, false}) {
    for (const int code : {0, 7}) {
      Child user([&] {
        Signal go;
        std::optional<Child> child;
        const auto make = [&] {
          child.emplace([&] {
            go.wait();
            return code;
          });
        };
        if (!own) make();
        if (::setgroups(0, nullptr) != 0 || ::setresgid(kOther, kOther, kOther) != 0 ||
            ::setresuid(kOther, kOther, kOther) != 0) {
          return 1;
        }
        ::prctl(PR_SET_DUMPABLE, 1);  // as any program that it starts is
        if (own) make();
        const ProcessIdentity identity = identity_of(*child);
        const File pidfd = *open_pidfd(identity);
        go.notify();
        wait_for_zombie(*child);
        std::optional<u32> status = exit_status(identity, pidfd);
        while (own && !status.has_value()) status = exit_status(identity, pidfd);
        if (status.has_value() != own) return 2;
        return own && *status != static_cast<u32>(code) << 8 ? 3 : 0;
      });
      EXPECT_EQ(user.exit_code(), 0) << (own ? "its own, " : "root's, ") << code;
    }
  }
}

TEST(ProcessEnd, KillsThroughThePidfdAndSaysWhoIsDead) {
  Child child([]() -> int {
    for (;;) ::pause();
  });
  const ProcessIdentity identity = identity_of(child);
  const File pidfd = *open_pidfd(identity);
  child.kill(SIGSTOP);
  ASSERT_TRUE(kill_process(identity, pidfd));
  EXPECT_EQ(child.wait(), SIGKILL) << "stopped, and dead all the same";
  const Status again = kill_process(identity, pidfd);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, Code::kClosed);
}

TEST(ProcessEnd, SeesATracer) {
  Child child([]() -> int {
    for (;;) ::pause();
  });
  const ProcessIdentity identity = identity_of(child);
  EXPECT_FALSE(is_traced(identity));
  if (::ptrace(PTRACE_SEIZE, child.pid(), nullptr, nullptr) != 0) GTEST_SKIP() << "ptrace is not permitted here";
  EXPECT_TRUE(is_traced(identity));
}

}  // namespace
}  // namespace mooring
