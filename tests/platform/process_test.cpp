// Shows that a process is recognised, that a later one with its number is not taken for it, and that dead, stopped
// and unreaped are three things; and that a started program gets a clean environment and can never hold us up.
// Real processes are stopped, killed and waited for; each step waits for the kernel to say that it has happened.

#include "platform/process.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <algorithm>
#include <string>

#include "scratch.hpp"

namespace mooring {
namespace {

u32 number_of(const Child& child) { return static_cast<u32>(child.pid()); }

TEST(ProcessIdentity, IsTheSameEachTime) {
  const auto self = static_cast<u32>(::getpid());
  const ProcessIdentity identity = take(identify_process(self));
  EXPECT_EQ(identity.pid, self);
  EXPECT_GT(identity.start_time_ticks, 0U);
  EXPECT_EQ(take(identify_process(self)), identity);
}

TEST(ProcessIdentity, SurvivesAHostileName) {
  Signal named;
  Child child([&named]() -> int {
    ::prctl(PR_SET_NAME, "a) R 1 (2\x01");
    named.notify();
    wait_to_be_killed();
  });
  const ProcessIdentity before = take(identify_process(number_of(child)));
  named.wait();
  EXPECT_EQ(take(identify_process(number_of(child))), before);
  EXPECT_EQ(process_name(number_of(child)), "a) R 1 (2?");
}

TEST(ProcessIdentity, WhatIsNoProcessNumberIsRefused) {
  MOORING_EXPECT_FAILS(identify_process(0), Code::kBadArgument, "not a process number");
  MOORING_EXPECT_FAILS(identify_process(~u32{0}), Code::kBadArgument, "not a process number");
  MOORING_EXPECT_FAILS(open_pidfd({0, 1}), Code::kBadArgument, "not a process number");
}

TEST(Pidfd, OfAnotherStartTimeIsRefused) {
  Child child([]() -> int { wait_to_be_killed(); });
  ProcessIdentity identity = take(identify_process(number_of(child)));
  MOORING_EXPECT_OK(open_pidfd(identity));
  ++identity.start_time_ticks;
  MOORING_EXPECT_FAILS(open_pidfd(identity), Code::kClosed, "is gone");
  EXPECT_EQ(take(process_state(identity)), ProcessState::gone);
}

TEST(Pidfd, ProvesDeathAndOnlyDeath) {
  Child child([]() -> int { wait_to_be_killed(); });
  const ProcessIdentity identity = take(identify_process(number_of(child)));
  const File pidfd = take(open_pidfd(identity));
  EXPECT_FALSE(pidfd_is_dead(pidfd));
  EXPECT_EQ(take(process_state(identity)), ProcessState::running);

  child.kill(SIGSTOP);
  int status = 0;
  ASSERT_EQ(::waitpid(child.pid(), &status, WUNTRACED), child.pid());
  EXPECT_EQ(take(process_state(identity)), ProcessState::stopped);
  EXPECT_FALSE(pidfd_is_dead(pidfd));

  child.kill(SIGCONT);
  ASSERT_EQ(::waitpid(child.pid(), &status, WCONTINUED), child.pid());
  EXPECT_EQ(take(process_state(identity)), ProcessState::running);

  child.kill(SIGKILL);
  siginfo_t ended{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child.pid()), &ended, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(take(process_state(identity)), ProcessState::zombie);
  EXPECT_TRUE(pidfd_is_dead(pidfd));

  child.wait();
  EXPECT_EQ(take(process_state(identity)), ProcessState::gone);
  EXPECT_TRUE(pidfd_is_dead(pidfd));
  MOORING_EXPECT_FAILS(open_pidfd(identity), Code::kClosed, "is gone");
  MOORING_EXPECT_FAILS(identify_process(identity.pid), Code::kClosed, "is gone");
  EXPECT_EQ(process_name(identity.pid), "");
}

TEST(Pidfd, BadDescriptorIsNotDeath) { EXPECT_FALSE(pidfd_is_dead(File())); }

TEST(Host, HasABootAndANamespace) {
  const auto boot = take(boot_id());
  EXPECT_EQ(boot, take(boot_id()));
  EXPECT_TRUE(std::any_of(boot.begin(), boot.end(), [](u8 byte) { return byte != 0; }));
  EXPECT_GT(take(pid_namespace_inode()), 0U);
}

TEST(RandomUuid, IsVersionFourAndNeverTheSame) {
  const auto first = take(random_uuid());
  EXPECT_NE(first, take(random_uuid()));
  EXPECT_EQ(first[6] >> 4, 4);
  EXPECT_EQ(first[8] >> 6, 2);
}

TEST(SpawnAndWait, ReturnsExitCodeAndErrors) {
  int exit_code = 0;
  std::string errors;
  MOORING_EXPECT_OK(spawn_and_wait({"sh", "-c", "echo what happened >&2; exit 3"}, {}, &exit_code, &errors));
  EXPECT_EQ(exit_code, 3);
  EXPECT_EQ(errors, "what happened\n");
  MOORING_EXPECT_OK(spawn_and_wait({"sh", "-c", "kill -9 $$"}, {}, &exit_code, nullptr));
  EXPECT_EQ(exit_code, 128 + 9);
}

TEST(SpawnAndWait, GivesOurEnvironmentAndTheAdditions) {
  ::setenv("MOORING_TEST_KEPT", "kept", 1);
  ::setenv("MOORING_TEST_REPLACED", "old", 1);
  std::string errors;
  MOORING_EXPECT_OK(spawn_and_wait({"sh", "-c", "echo $MOORING_TEST_KEPT $MOORING_TEST_REPLACED $MOORING_TEST_NEW >&2"},
                                   {"MOORING_TEST_REPLACED=replaced", "MOORING_TEST_NEW=new"}, nullptr, &errors));
  EXPECT_EQ(errors, "kept replaced new\n");
}

TEST(SpawnAndWait, ChildHasNoDescriptorOfOurs) {
  ScratchDirectory scratch;
  const int leaked = ::open(scratch.path().c_str(), O_RDONLY | O_DIRECTORY);  // Not close-on-exec, as in some hosts.
  ASSERT_GE(leaked, 0);
  const File guard(leaked);
  std::string errors;
  // The last number is the directory that ls itself reads.
  MOORING_EXPECT_OK(spawn_and_wait({"sh", "-c",
                                    "[ /proc/$$/fd/0 -ef /dev/null ] && [ /proc/$$/fd/1 -ef /dev/null ] && "
                                    "exec ls /proc/self/fd >&2"},
                                   {}, nullptr, &errors));
  EXPECT_EQ(errors, "0\n1\n2\n3\n");
}

TEST(SpawnAndWait, ChildStartsWithDefaultSignals) {
  sigset_t blocked;
  sigset_t before;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGTERM);
  ASSERT_EQ(::pthread_sigmask(SIG_BLOCK, &blocked, &before), 0);
  const auto handler = ::signal(SIGPIPE, SIG_IGN);
  int exit_code = 0;
  MOORING_EXPECT_OK(spawn_and_wait({"sh", "-c", "kill -TERM $$"}, {}, &exit_code, nullptr));
  EXPECT_EQ(exit_code, 128 + SIGTERM);
  MOORING_EXPECT_OK(spawn_and_wait({"sh", "-c", "kill -PIPE $$"}, {}, &exit_code, nullptr));
  EXPECT_EQ(exit_code, 128 + SIGPIPE);
  ::signal(SIGPIPE, handler);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST(SpawnAndWait, HostThatIgnoresItsChildrenIsNotAProblem) {
  const auto handler = ::signal(SIGCHLD, SIG_IGN);
  int exit_code = 0;
  std::string errors;
  const auto done = spawn_and_wait({"sh", "-c", "echo done >&2; exit 3"}, {}, &exit_code, &errors);
  ::signal(SIGCHLD, handler);
  MOORING_EXPECT_OK(done);
  EXPECT_EQ(exit_code, kExitUnknown);
  EXPECT_EQ(errors, "done\n");  // It had ended before we went on.
}

TEST(SpawnAndWait, DoesNotWaitForABackgroundProcess) {
  int exit_code = -2;
  std::string errors;
  // The daemon keeps standard error open and runs on.
  MOORING_EXPECT_OK(spawn_and_wait({"sh", "-c", "tail -f /dev/null & echo $! >&2"}, {}, &exit_code, &errors));
  EXPECT_EQ(exit_code, 0);
  const auto daemon = static_cast<u32>(std::stoul(errors));
  const File pidfd = take(open_pidfd(take(identify_process(daemon))));
  EXPECT_FALSE(pidfd_is_dead(pidfd));
  ::kill(static_cast<pid_t>(daemon), SIGKILL);
}

TEST(SpawnAndWait, KillsWhatDoesNotFinishInTime) {
  int exit_code = 0;
  MOORING_EXPECT_FAILS(spawn_and_wait({"tail", "-f", "/dev/null"}, {}, &exit_code, nullptr, 20 * kNsPerMs),
                       Code::kTimeout, "tail");
  EXPECT_EQ(exit_code, 128 + SIGKILL);
}

TEST(SpawnAndWait, SaysWhatItCannotStart) {
  MOORING_EXPECT_FAILS(spawn_and_wait({"/no/such/program"}, {}, nullptr, nullptr), Code::kIo, "/no/such/program");
  MOORING_EXPECT_FAILS(spawn_and_wait({}, {}, nullptr, nullptr), Code::kBadArgument, "program");
}

}  // namespace
}  // namespace mooring
