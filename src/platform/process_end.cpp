#include "platform/process_end.hpp"

#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <sstream>

namespace mooring {
namespace {

// linux/pidfd.h of 6.15, which few build hosts have. The ioctl number holds the size of the first version of the struct
// (64 bytes); the kernel fills in what both sides know and says so in `mask`.
struct PidfdInfo {
  u64 mask;
  u64 cgroup_id;
  u32 pid, tgid, ppid;
  u32 ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  std::int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64);
constexpr u64 kPidfdInfoExit = 8;
constexpr unsigned long kPidfdGetInfo = _IOWR(0xFF, 11, PidfdInfo);

// proc(5), counted from the field behind the name, which is 3.
constexpr int kStateField = 3;
constexpr int kStartTimeField = 22;
constexpr int kWaitChannelField = 35;
constexpr int kExitCodeField = 52;

// What is not for us to know costs as many looks, 10 us each.
constexpr int kTurns = 20;

std::optional<u32> reaped_status(const File& pidfd) {
  PidfdInfo info{};
  info.mask = kPidfdInfoExit;
  if (::ioctl(pidfd.fd(), kPidfdGetInfo, &info) != 0 || (info.mask & kPidfdInfoExit) == 0) return std::nullopt;
  return static_cast<u32>(info.exit_code);
}

std::optional<u32> zombie_status(const ProcessIdentity& identity) {
  std::ifstream file("/proc/" + std::to_string(identity.pid) + "/stat");
  std::string text;
  if (!std::getline(file, text)) return std::nullopt;
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  u64 start_time_ticks = 0;
  u64 wait_channel = 0;
  u64 exit_code = 0;
  std::string field;
  bool zombie = false;
  int number = kStateField;
  for (; fields >> field; ++number) {
    if (number == kStateField) zombie = field == "Z";
    if (number == kStartTimeField) start_time_ticks = std::strtoull(field.c_str(), nullptr, 10);
    if (number == kWaitChannelField) wait_channel = std::strtoull(field.c_str(), nullptr, 10);
    if (number == kExitCodeField) exit_code = std::strtoull(field.c_str(), nullptr, 10);
  }
  const bool whole = number == kExitCodeField + 1;
  if (!whole || !zombie || start_time_ticks != identity.start_time_ticks) return std::nullopt;
  if (exit_code == 0 && wait_channel == 0) return std::nullopt;  // it is not for us to know
  return static_cast<u32>(exit_code);
}

}  // namespace

std::optional<u32> exit_status(const ProcessIdentity& identity, const File& pidfd) {
  if (const auto reaped = reaped_status(pidfd)) return reaped;
  // More than once: it may be just on its way from a zombie that runs to one that sleeps for good, or be reaped.
  for (int turn = 0; turn < kTurns; ++turn) {
    if (const auto zombie = zombie_status(identity)) return zombie;
    if (const auto reaped = reaped_status(pidfd)) return reaped;
    ::sched_yield();
  }
  return std::nullopt;
}

std::string exit_text(u32 wait_status) {
  const int status = static_cast<int>(wait_status);
  if (WIFEXITED(status)) return "exit code " + std::to_string(WEXITSTATUS(status));
  const int number = WTERMSIG(status);
  const char* name = ::sigabbrev_np(number);
  std::string text = "signal " + std::to_string(number);
  if (name != nullptr) text += std::string(" (SIG") + name + ")";
  if (WCOREDUMP(status)) text += ", core dumped";
  return text;
}

Status kill_process(const ProcessIdentity& identity, const File& pidfd) {
  if (::syscall(SYS_pidfd_send_signal, pidfd.fd(), SIGKILL, nullptr, 0) == 0) return {};
  if (errno == ESRCH) return fail(Code::kClosed, "process " + std::to_string(identity.pid) + " is dead already");
  return fail_errno(errno, "cannot kill process " + std::to_string(identity.pid));
}

bool is_traced(const ProcessIdentity& identity) {
  std::ifstream file("/proc/" + std::to_string(identity.pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    constexpr std::string_view kTracer = "TracerPid:\t";
    if (line.starts_with(kTracer)) return line.substr(kTracer.size()) != "0";
  }
  return false;
}

}  // namespace mooring
