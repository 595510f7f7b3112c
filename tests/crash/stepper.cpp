#include "crash/stepper.hpp"

#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>

namespace mooring::test {

namespace {

// A child that loops for ever in unwatched code is ended by the kernel, and reported.
constexpr unsigned kChildSecondsMax = 60;
constexpr u64 kInstructionsMax = 1'000'000;

// Any signal stops a traced child and comes first to us; this one nobody else sends. (SIGSTOP and SIGCONT come from
// people who stop and continue the whole test.) A bare system call: raise() would add its mask work to every count.
constexpr int kMarker = SIGUSR2;
void stop_here(pid_t self) { syscall(SYS_kill, self, kMarker); }

bool comes_from_outside(int status) {
  return WIFSTOPPED(status) && (WSTOPSIG(status) == SIGSTOP || WSTOPSIG(status) == SIGCONT);
}

}  // namespace

Stepper::Stepper(const std::function<void()>& operation, const std::function<void()>& afterwards) {
  child_ = fork();
  if (child_ == 0) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(2);
    alarm(kChildSecondsMax);
    const pid_t self = getpid();
    stop_here(self);
    operation();
    stop_here(self);
    afterwards();
    _exit(0);
  }
  if (child_ < 0) {
    trouble_ = std::string("fork failed: ") + std::strerror(errno);
    return;
  }
  if (!wait_for_marker()) return;
  ptrace(PTRACE_SETOPTIONS, child_, nullptr, PTRACE_O_EXITKILL);
}

Stepper::Step Stepper::step() {
  if (ended_) return Step::kEnded;
  if (child_ < 0) return Step::kCrashed;
  int status = 0;
  do {
    if (ptrace(PTRACE_SINGLESTEP, child_, nullptr, nullptr) != 0) {
      trouble_ = std::string("the child cannot be stepped: ") + std::strerror(errno);
      return Step::kCrashed;
    }
    if (waitpid(child_, &status, 0) != child_) return crashed(0);
  } while (comes_from_outside(status));  // nothing was executed
  if (!WIFSTOPPED(status)) return crashed(status);
  if (WSTOPSIG(status) == SIGTRAP) return Step::kStepped;
  if (WSTOPSIG(status) != kMarker) return crashed(status);
  ended_ = true;
  return Step::kEnded;
}

Stepper::Step Stepper::steps(u64 count) {
  for (u64 i = 0; i < count; ++i) {
    const Step at = step();
    if (at != Step::kStepped) return at;
    if (i > kInstructionsMax) {
      trouble_ = "the operation does not end";
      return Step::kCrashed;
    }
  }
  return Step::kStepped;
}

#if defined(__x86_64__)

u64 Stepper::address() const {
  return static_cast<u64>(ptrace(PTRACE_PEEKUSER, child_, offsetof(user, regs) + offsetof(user_regs_struct, rip), 0));
}

Stepper::Step Stepper::run_to(u64 address, u64 occurrence) {
  if (ended_) return Step::kEnded;
  if (child_ < 0) return Step::kCrashed;
  u64 seen = 0;
  if (this->address() == address) {
    if (occurrence == seen) return Step::kStepped;
    if (const Step at = step(); at != Step::kStepped) return at;
    ++seen;
  }
  // The child's text is private to it: the parent and later children never see the breakpoint.
  const long text = ptrace(PTRACE_PEEKTEXT, child_, address, 0);
  const long trap = (text & ~0xffL) | 0xcc;
  for (;; ++seen) {
    // A step lands on it: the same instruction again, one repetition later.
    if (this->address() != address) {
      ptrace(PTRACE_POKETEXT, child_, address, trap);
      const Step at = wait_for_breakpoint(address);
      if (child_ >= 0) ptrace(PTRACE_POKETEXT, child_, address, text);
      if (at != Step::kStepped) return at;
    }
    if (seen == occurrence) return Step::kStepped;
    if (const Step at = step(); at != Step::kStepped) return at;
  }
}

Stepper::Step Stepper::wait_for_breakpoint(u64 address) {
  ptrace(PTRACE_CONT, child_, nullptr, nullptr);
  const int status = wait_past_outsiders();
  if (!WIFSTOPPED(status)) return crashed(status);
  if (WSTOPSIG(status) == kMarker) {
    ended_ = true;
    return Step::kEnded;
  }
  if (WSTOPSIG(status) != SIGTRAP || this->address() != address + 1) return crashed(status);
  ptrace(PTRACE_POKEUSER, child_, offsetof(user, regs) + offsetof(user_regs_struct, rip), address);
  return Step::kStepped;
}

#else

u64 Stepper::address() const { return 0; }
Stepper::Step Stepper::run_to(u64, u64) {
  trouble_ = "no breakpoints here";
  return Step::kCrashed;
}
Stepper::Step Stepper::wait_for_breakpoint(u64) { return Step::kCrashed; }

#endif

bool Stepper::run_to_end() {
  if (ended_) return true;
  if (child_ < 0) return false;
  ptrace(PTRACE_CONT, child_, nullptr, nullptr);
  ended_ = wait_for_marker();
  return ended_;
}

bool Stepper::finish() {
  if (!ended_ || child_ < 0) return false;
  ptrace(PTRACE_CONT, child_, nullptr, nullptr);
  const int status = wait_past_outsiders();
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
    child_ = -1;
    return true;
  }
  crashed(status);
  return false;
}

void Stepper::kill() {
  if (child_ < 0) return;
  ::kill(child_, SIGKILL);
  int status = 0;
  do {
    // A stop that was on its way may be reported first.
    if (waitpid(child_, &status, 0) < 0 && errno != EINTR) break;
  } while (!WIFSIGNALED(status) && !WIFEXITED(status));
  child_ = -1;
}

bool Stepper::wait_for_marker() {
  const int status = wait_past_outsiders();
  if (WIFSTOPPED(status) && WSTOPSIG(status) == kMarker) return true;
  crashed(status);
  return false;
}

int Stepper::wait_past_outsiders() {
  int status = 0;
  while (waitpid(child_, &status, 0) == child_ && comes_from_outside(status)) {
    ptrace(PTRACE_CONT, child_, nullptr, nullptr);
  }
  return status;
}

Stepper::Step Stepper::crashed(int status) {
  if (WIFSTOPPED(status)) {
    trouble_ = std::string("the child got signal ") + strsignal(WSTOPSIG(status));
  } else if (WIFSIGNALED(status)) {
    trouble_ = std::string("the child died of ") + strsignal(WTERMSIG(status));
    child_ = -1;
  } else {
    trouble_ = "the child left early, status " + std::to_string(WEXITSTATUS(status));
    child_ = -1;
  }
  return Step::kCrashed;
}

std::string Stepper::unavailable() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return "a sanitizer's own instructions and threads are in the way of single steps";
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  return "a sanitizer's own instructions and threads are in the way of single steps";
#endif
#endif
  Stepper probe([] {}, [] {});
  if (probe.steps(2) == Step::kCrashed) return "ptrace does not work here: " + probe.trouble();
  return {};
}

bool Stepper::pin_addresses(char** argv) {
  const int now = personality(0xffffffff);
  if (now == -1) return false;
  if ((now & ADDR_NO_RANDOMIZE) != 0) return true;
  if (personality(static_cast<unsigned long>(now) | ADDR_NO_RANDOMIZE) == -1) return false;
  execv("/proc/self/exe", argv);
  return false;
}

}  // namespace mooring::test
