#include "platform/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <string_view>

namespace mooring {
namespace {

constexpr u64 kProcTextMaxBytes = 8192;
constexpr std::size_t kStderrMaxBytes = 65536;

tl::unexpected<Error> fail_gone(u32 pid) { return fail(Code::kClosed, "process " + std::to_string(pid) + " is gone"); }

bool is_process_number(u32 pid) { return pid != 0 && pid <= static_cast<u32>(std::numeric_limits<pid_t>::max()); }

Result<std::string> read_proc(const std::string& path) {
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) {
    if (errno == ENOENT || errno == ESRCH) return fail(Code::kClosed, path + " does not exist");
    return fail_errno(errno, "cannot open " + path);
  }
  return read_to_end(file, kProcTextMaxBytes, path);
}

struct ProcessStat {
  char state = '?';
  u64 start_time_ticks = 0;
};

Result<ProcessStat> parse_stat(const std::string& text, u32 pid) {
  // "pid (name) S ...": the name may hold anything, parentheses and blanks included, so it ends at the last ')'.
  const auto bad = [pid] {
    return fail(Code::kIo, "/proc/" + std::to_string(pid) + "/stat is not as proc(5) describes it");
  };
  std::size_t at = text.rfind(')');
  if (at == std::string::npos || at + 2 >= text.size()) return bad();
  at += 2;
  ProcessStat stat;
  stat.state = text[at];
  // The state is field 3; field 22 is 19 blanks further on.
  for (int field = 3; field < 22; ++field) {
    at = text.find(' ', at);
    if (at == std::string::npos) return bad();
    ++at;
  }
  const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), stat.start_time_ticks);
  if (error != std::errc{} || end == text.data() + at) return bad();
  return stat;
}

Result<ProcessStat> read_stat(u32 pid) {
  if (!is_process_number(pid)) {
    return fail(Code::kBadArgument, std::to_string(pid) + " is not a process number");
  }
  const std::string path = "/proc/" + std::to_string(pid) + "/stat";
  // A /proc mounted with hidepid shows nothing of other users' processes: absent there is not dead. The second turn
  // is for a number that was given to a new process between the two questions.
  for (int turn = 0; turn < 2; ++turn) {
    const auto text = read_proc(path);
    if (text) return parse_stat(*text, pid);
    // Whatever the file says (also when a process is reaped between open and read), this answer is certain.
    if (::kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH) return fail_gone(pid);
    if (text.error().code != Code::kClosed) return fail(text.error());
  }
  return fail(Code::kPermission, path + " cannot be read although process " + std::to_string(pid) +
                                     " is alive; run the supervisor where /proc is mounted without hidepid");
}

bool same_variable(std::string_view entry, std::string_view other) {
  return entry.substr(0, entry.find('=')) == other.substr(0, other.find('='));
}

int nibble(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  return -1;
}

// The attributes and actions of posix_spawn own memory.
struct SpawnSetup {
  SpawnSetup() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
  }
  ~SpawnSetup() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  SpawnSetup(const SpawnSetup&) = delete;
  SpawnSetup& operator=(const SpawnSetup&) = delete;
  posix_spawn_file_actions_t actions{};
  posix_spawnattr_t attributes{};
};

// True when the child has ended in time. Where no pidfd can be had, waitpid afterwards waits without a limit.
bool ended_in_time(pid_t child, u64 deadline_ns) {
  const File pidfd(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
  if (!pidfd.is_open()) return true;
  while (true) {
    const u64 now_ns = monotonic_ns();
    const u64 left_ms = deadline_ns > now_ns ? (deadline_ns - now_ns) / kNsPerMs + 1 : 0;
    const int wait_ms = deadline_ns == kForever ? -1 : static_cast<int>(std::min<u64>(left_ms, 1U << 30));
    pollfd readable{pidfd.fd(), POLLIN, 0};
    const int ready = ::poll(&readable, 1, wait_ms);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return true;
    if (ready == 0 && monotonic_ns() >= deadline_ns) return false;
  }
}

int reap(pid_t child) {
  int status = 0;
  pid_t reaped = 0;
  do {
    reaped = ::waitpid(child, &status, 0);
  } while (reaped < 0 && errno == EINTR);
  // ECHILD: SIGCHLD is ignored (waitpid still waited until the child had ended) or another thread reaps everything.
  if (reaped < 0) return kExitUnknown;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Result<ProcessIdentity> identify_process(u32 pid) {
  const auto stat = read_stat(pid);
  if (!stat) return fail(stat.error());
  return ProcessIdentity{pid, stat->start_time_ticks};
}

Result<File> open_pidfd(const ProcessIdentity& identity) {
  if (!is_process_number(identity.pid)) {
    return fail(Code::kBadArgument, std::to_string(identity.pid) + " is not a process number");
  }
  File pidfd(static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(identity.pid), 0)));
  const int open_error = errno;
  if (!pidfd.is_open() && open_error == ESRCH) return fail_gone(identity.pid);
  // The start time is read after the pidfd is open: if it fits then, the pidfd is of that process, since a number is
  // not used again while a process holds it. (A number that now belongs to a thread is EINVAL above and does not fit.)
  const auto now = identify_process(identity.pid);
  if (!now) {
    if (pidfd.is_open() && pidfd_is_dead(pidfd)) return fail_gone(identity.pid);
    return fail(now.error());
  }
  if (*now != identity) return fail_gone(identity.pid);
  if (!pidfd.is_open()) {
    return fail_errno(open_error, "cannot watch process " + std::to_string(identity.pid));
  }
  return pidfd;
}

bool pidfd_is_dead(const File& pidfd) {
  pollfd readable{pidfd.fd(), POLLIN, 0};
  int ready = 0;
  do {
    ready = ::poll(&readable, 1, 0);
  } while (ready < 0 && errno == EINTR);
  // POLLNVAL (not a descriptor) must not read as death.
  return ready == 1 && (readable.revents & POLLIN) != 0;
}

Result<ProcessState> process_state(const ProcessIdentity& identity) {
  const auto stat = read_stat(identity.pid);
  if (!stat) {
    if (stat.error().code == Code::kClosed) return ProcessState::gone;
    return fail(stat.error());
  }
  if (stat->start_time_ticks != identity.start_time_ticks) return ProcessState::gone;
  switch (stat->state) {
    case 'T':
    case 't': return ProcessState::stopped;
    case 'Z': return ProcessState::zombie;
    case 'X':
    case 'x': return ProcessState::gone;
    default: return ProcessState::running;
  }
}

std::string process_name(u32 pid) {
  auto text = read_proc("/proc/" + std::to_string(pid) + "/comm");
  if (!text) return {};
  if (!text->empty() && text->back() == '\n') text->pop_back();
  for (char& letter : *text) {
    if (letter < ' ' || letter > '~') letter = '?';
  }
  return *text;
}

Result<std::array<u8, 16>> boot_id() {
  const std::string path = "/proc/sys/kernel/random/boot_id";
  const auto text = read_proc(path);
  if (!text) return fail(Code::kIo, "cannot read " + path + " (" + text.error().text + "); mount /proc");
  std::array<u8, 16> id{};
  std::size_t digits = 0;
  for (const char letter : *text) {
    if (letter == '-' || letter == '\n') continue;
    const int value = nibble(letter);
    if (value < 0 || digits == 32) return fail(Code::kIo, path + " does not hold a UUID");
    id[digits / 2] = static_cast<u8>((id[digits / 2] << 4) | value);
    ++digits;
  }
  if (digits != 32) return fail(Code::kIo, path + " does not hold a UUID");
  return id;
}

Result<u64> pid_namespace_inode() {
  struct stat info {};
  if (::stat("/proc/self/ns/pid", &info) != 0) return fail_errno(errno, "cannot look at /proc/self/ns/pid");
  return u64{info.st_ino};
}

Result<std::array<u8, 16>> random_uuid() {
  std::array<u8, 16> id{};
  ssize_t got = 0;
  do {
    got = ::getrandom(id.data(), id.size(), 0);
  } while (got < 0 && errno == EINTR);
  if (got != static_cast<ssize_t>(id.size())) return fail_errno(errno, "cannot get random bytes");
  // Version 4 (random), variant 1: RFC 4122, section 4.4.
  id[6] = static_cast<u8>((id[6] & 0x0f) | 0x40);
  id[8] = static_cast<u8>((id[8] & 0x3f) | 0x80);
  return id;
}

Status spawn_and_wait(const std::vector<std::string>& argv, const std::vector<std::string>& environment, int* exit_code,
                      std::string* stderr_text, u64 timeout_ns) {
  if (argv.empty()) return fail(Code::kBadArgument, "no program to start was given");
  std::vector<char*> arguments;
  arguments.reserve(argv.size() + 1);
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);

  std::vector<char*> variables;
  for (char** entry = ::environ; entry != nullptr && *entry != nullptr; ++entry) {
    const bool replaced = std::any_of(environment.begin(), environment.end(),
                                      [entry](const std::string& ours) { return same_variable(*entry, ours); });
    if (!replaced) variables.push_back(*entry);
  }
  for (const std::string& entry : environment) variables.push_back(const_cast<char*>(entry.c_str()));
  variables.push_back(nullptr);

  // A memfd, not a pipe: a daemon in the background may keep it open, and neither side then waits for the other.
  const File made(::memfd_create("mooring-stderr", MFD_CLOEXEC));
  // Above 2: a host without standard descriptors would otherwise see it overwritten by the actions below.
  const File errors(made.is_open() ? ::fcntl(made.fd(), F_DUPFD_CLOEXEC, 3) : -1);
  if (!errors.is_open()) return fail_errno(errno, "cannot make a file for the errors of " + argv[0]);

  SpawnSetup setup;
  sigset_t none;
  sigset_t all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  int error_number = ::posix_spawn_file_actions_addopen(&setup.actions, 0, "/dev/null", O_RDONLY, 0);
  if (error_number == 0) {
    error_number = ::posix_spawn_file_actions_addopen(&setup.actions, 1, "/dev/null", O_WRONLY, 0);
  }
  if (error_number == 0) error_number = ::posix_spawn_file_actions_adddup2(&setup.actions, errors.fd(), 2);
  if (error_number == 0) error_number = ::posix_spawn_file_actions_addclosefrom_np(&setup.actions, 3);
  if (error_number == 0) error_number = ::posix_spawnattr_setsigmask(&setup.attributes, &none);
  if (error_number == 0) error_number = ::posix_spawnattr_setsigdefault(&setup.attributes, &all);
  if (error_number == 0) {
    error_number = ::posix_spawnattr_setflags(&setup.attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  pid_t child = 0;
  if (error_number == 0) {
    error_number =
        ::posix_spawnp(&child, argv[0].c_str(), &setup.actions, &setup.attributes, arguments.data(), variables.data());
  }
  if (error_number != 0) return fail_errno(error_number, "cannot start " + argv[0]);

  const bool in_time = ended_in_time(child, deadline_after(monotonic_ns(), timeout_ns));
  if (!in_time) ::kill(child, SIGKILL);
  const int code = reap(child);
  if (exit_code != nullptr) *exit_code = code;
  if (stderr_text != nullptr) {
    // pread: the position is shared with whatever the child has left in the background, which may still write.
    stderr_text->resize(kStderrMaxBytes);
    const ssize_t got = ::pread(errors.fd(), stderr_text->data(), stderr_text->size(), 0);
    stderr_text->resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  }
  if (!in_time) {
    return fail(Code::kTimeout,
                argv[0] + " did not finish within " + std::to_string(timeout_ns / kNsPerMs) + " ms and was killed");
  }
  return {};
}

}  // namespace mooring
