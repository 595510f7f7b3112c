// Forks, pins, starts, watches and collects the roles of a benchmark run.
//
// WHO WRITES WHAT (RunBoard, shared anonymous memory)
//   arrived       every role, once   how many have called wait_for_start(), or ended without calling it
//   roles[i].pid  the parent         after its fork, before it goes on to watch; and role i itself, with the same value
//   roles[i].*    role i             text of its failure, whether its pinning and priority were granted
//
// PAIRINGS   ARRIVED: add arrived acq_rel / load arrived acquire. What a role set up before the start is visible to all
//            after it. The results of a role need no pairing: the parent reads them after waitpid().
//
// IF A PROCESS STOPS
//   a role dead       the parent sees its pidfd and kills the others.
//   a role only slow  the others give up at their deadline; a second later the parent kills what is left.
//   the parent dead   every role gets SIGKILL (PR_SET_PDEATHSIG).
//
// TESTED BY  tests/bench/limits_test.cpp
#include "bench/support/processes.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>

#include "base/atomics.hpp"
#include "bench/support/clock.hpp"
#include "bench/support/poll_guard.hpp"
#include "bench/support/shared_memory.hpp"

namespace mooring::bench {

namespace {
constexpr unsigned kRolesMax = 64;
constexpr int kExitFailed = 1;
constexpr u64 kKillGrace_ns = kNsPerSecond;
}  // namespace

namespace detail {

struct RoleSlot {
  u32 pid;
  u32 unpinned;    // asked for a CPU and did not get it
  u32 not_raised;  // asked for a priority and did not get it
  i64 code;        // Code of the failure; only valid with kExitFailed
  char text[480];
};

struct RunBoard {
  alignas(kLineBytes) u32 arrived;
  alignas(kLineBytes) std::array<RoleSlot, kRolesMax> roles;
};

}  // namespace detail

namespace {

using detail::RoleSlot;
using detail::RunBoard;

struct Child {
  pid_t pid = -1;
  int pidfd = -1;
  bool running = false;
};

// Owns the children: whatever way run_roles() is left, none stays behind.
class Children {
 public:
  explicit Children(std::size_t count) { children_.reserve(count); }
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;
  ~Children() {
    for (Child& child : children_) {
      if (child.running) ::kill(child.pid, SIGKILL);
    }
    for (Child& child : children_) {
      if (child.running) {
        while (::waitpid(child.pid, nullptr, 0) < 0 && errno == EINTR) {
        }
      }
      if (child.pidfd >= 0) ::close(child.pidfd);
    }
  }
  std::vector<Child>& all() { return children_; }

 private:
  std::vector<Child> children_;
};

bool pin_to(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<unsigned>(cpu), &set);
  return ::sched_setaffinity(0, sizeof set, &set) == 0;
}

void record_failure(RoleSlot& slot, Code code, const char* text) {
  slot.code = static_cast<i64>(code);
  std::snprintf(slot.text, sizeof slot.text, "%s", text);
}

Status run_body(const Role& role, RoleContext& context) {
  try {
    return role.body(context);
  } catch (const std::exception& problem) {
    return fail(Code::kNoMemory, std::string("exception: ") + problem.what());
  }
}

// What waitpid() said about a role, as a failure; empty text means that it ended as it should.
Error judge(const Role& role, const RoleSlot& slot, int wait_status) {
  if (WIFEXITED(wait_status)) {
    if (WEXITSTATUS(wait_status) == 0) return {};
    if (WEXITSTATUS(wait_status) == kExitFailed) {
      return {static_cast<Code>(slot.code), "benchmark role " + role.name + ": " + slot.text};
    }
    return {Code::kIo, "benchmark role " + role.name + " ended with exit status " +
                           std::to_string(WEXITSTATUS(wait_status)) + "; look at its output above"};
  }
  const int signal_number = WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0;
  if (role.may_be_killed && signal_number == SIGKILL) return {};
  return {Code::kIo, "benchmark role " + role.name + " was ended by signal " + std::to_string(signal_number) +
                         "; run it again under a debugger (it may be a bug or a lack of memory)"};
}

}  // namespace

// With autogroups (the default of desktop and cloud kernels) a nice value counts only inside its session, so that
// compilers of another terminal would take half of our CPU from a role at -20. Hence a session, and so a group, of our
// own.
bool raise_priority(int nice_value) {
  if (::setpriority(PRIO_PROCESS, 0, nice_value) != 0) return false;
  const int file = ::open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
  if (file < 0) return true;  // No autogroups in this kernel: the nice value is all there is.
  ::close(file);
  ::setsid();
  const int own_file = ::open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
  if (own_file < 0) return false;
  const std::string text = std::to_string(nice_value);
  const bool written = ::write(own_file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::close(own_file);
  return written;
}

pid_t RoleContext::pid_of(unsigned role) const {
  if (role >= role_count_) return 0;
  // ARRIVED made it visible; relaxed, because the word alone is wanted and it never changes again.
  return static_cast<pid_t>(HardwareAtomics::load(board_->roles[role].pid, std::memory_order_relaxed));
}

Status RoleContext::wait_for_start() {
  if (!arrived_) {
    arrived_ = true;
    // ARRIVED: release what this role set up, acquire what the others did.
    HardwareAtomics::add(board_->arrived, u32{1}, std::memory_order_acq_rel);
  }
  u32 polls = 0;
  while (HardwareAtomics::load(board_->arrived, std::memory_order_acquire) < role_count_) {
    HardwareAtomics::pause();
    if ((++polls & 63U) != 0) continue;
    ::sched_yield();
    if (ticks_now() >= deadline_ticks_) {
      return fail(Code::kTimeout,
                  "not every role reached the start in time; the machine is overloaded or a role hangs");
    }
  }
  return {};
}

Result<RunOutcome> run_roles(std::span<const Role> roles, const RunOptions& options) {
  if (roles.empty() || roles.size() > kRolesMax) {
    return fail(Code::kBadArgument, "a benchmark run has 1 to " + std::to_string(kRolesMax) + " roles, not " +
                                        std::to_string(roles.size()) + "; ask for fewer producers and consumers");
  }
  auto shared_board = Shared<RunBoard>::create();
  if (!shared_board) return fail(std::move(shared_board.error()));
  RunBoard* const board = shared_board->get();
  static_cast<void>(ns_per_tick());  // Calibrated before the fork: one rate for all roles.

  const u64 start_ns = monotonic_ns();
  const u64 deadline_ticks = ticks_now() + ns_to_ticks(options.watchdog_ns);
  const bool oversubscribed = roles.size() > allowed_cpus().size();
  const pid_t parent = ::getpid();
  std::fflush(nullptr);  // A child must not print what the parent had buffered.

  Children children(roles.size());
  for (std::size_t i = 0; i < roles.size(); ++i) {
    const pid_t pid = ::fork();
    if (pid < 0)
      return fail_errno(errno, "cannot fork the benchmark role " + roles[i].name + "; raise the process limit");
    if (pid == 0) {
      RoleSlot& slot = board->roles[i];
      HardwareAtomics::store(slot.pid, static_cast<u32>(::getpid()), std::memory_order_relaxed);
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(2);  // The parent died before the line above.
      if (roles[i].cpu != kUnpinned && !pin_to(roles[i].cpu)) slot.unpinned = 1;
      if (options.nice_value != 0 && !raise_priority(options.nice_value)) slot.not_raised = 1;
      RoleContext context;
      context.board_ = board;
      context.index_ = static_cast<unsigned>(i);
      context.role_count_ = static_cast<unsigned>(roles.size());
      context.oversubscribed_ = oversubscribed;
      context.deadline_ticks_ = deadline_ticks;
      const Status status = run_body(roles[i], context);
      if (!status) record_failure(slot, status.error().code, status.error().text.c_str());
      if (!context.arrived_) HardwareAtomics::add(board->arrived, u32{1}, std::memory_order_acq_rel);
      std::fflush(nullptr);
      ::_exit(status ? 0 : kExitFailed);  // Not exit(): the parent's objects are not this process's to destroy.
    }
    HardwareAtomics::store(board->roles[i].pid, static_cast<u32>(pid), std::memory_order_relaxed);
    children.all().push_back({pid, static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)), true});
    if (children.all().back().pidfd < 0) {
      return fail_errno(
          errno, "cannot open a pidfd for the benchmark role " + roles[i].name + "; Linux 5.3 or newer is needed");
    }
  }

  std::size_t running = roles.size();
  const u64 kill_ns = deadline_after(deadline_after(start_ns, options.watchdog_ns), kKillGrace_ns);
  while (running > 0) {
    const u64 now_ns = monotonic_ns();
    if (now_ns >= kill_ns) {
      return fail(Code::kTimeout, "benchmark roles did not end within " +
                                      std::to_string(options.watchdog_ns / kNsPerMs) +
                                      " ms and were killed; the machine is overloaded or the queue under test hangs");
    }
    std::array<pollfd, kRolesMax> descriptors{};
    for (std::size_t i = 0; i < roles.size(); ++i) {
      descriptors[i] = {children.all()[i].running ? children.all()[i].pidfd : -1, POLLIN, 0};
    }
    const u64 wait_ms = (kill_ns - now_ns) / kNsPerMs + 1;
    const int ready = ::poll(descriptors.data(), roles.size(), static_cast<int>(wait_ms > 60'000 ? 60'000 : wait_ms));
    if (ready < 0 && errno != EINTR) return fail_errno(errno, "cannot wait for the benchmark roles");
    for (std::size_t i = 0; i < roles.size() && ready > 0; ++i) {
      Child& child = children.all()[i];
      if (!child.running || descriptors[i].revents == 0) continue;
      int wait_status = 0;
      if (::waitpid(child.pid, &wait_status, WNOHANG) != child.pid) continue;
      child.running = false;
      --running;
      Error error = judge(roles[i], board->roles[i], wait_status);
      if (!error.text.empty()) return fail(std::move(error));
    }
  }

  RunOutcome outcome{true, options.nice_value != 0};
  for (std::size_t i = 0; i < roles.size(); ++i) {
    if (roles[i].cpu == kUnpinned || board->roles[i].unpinned != 0) outcome.pinned = false;
    if (board->roles[i].not_raised != 0) outcome.priority_raised = false;
  }
  return outcome;
}

std::vector<int> allowed_cpus() {
  std::vector<int> cpus;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) {
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) cpus.push_back(static_cast<int>(cpu));
    }
  }
  return cpus;
}

std::vector<int> cpus_for(unsigned count) {
  std::vector<int> cpus = allowed_cpus();
  if (cpus.size() < count) return std::vector<int>(count, kUnpinned);
  cpus.resize(count);
  return cpus;
}

}  // namespace mooring::bench
