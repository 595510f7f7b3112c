// Which process is this, and is it dead or only slow?
//
// A process number is used again; a process is its number together with its start time (within one boot and one pid
// namespace). Death is proven by a pidfd alone: it names one process for good and becomes readable when the last
// thread of it is gone. No timeout, no missing heartbeat and no ProcessState is ever a proof.
// Code::kClosed from any function here means: that process is gone, certainly. Every other failure means: not known.
//
// TESTED BY  platform/process_test
#pragma once

#include <array>
#include <string>
#include <vector>

#include "base/time.hpp"
#include "platform/file.hpp"

namespace mooring {

struct ProcessIdentity {
  u32 pid = 0;
  u64 start_time_ticks = 0;  // proc(5), stat field 22: clock ticks after boot
  friend bool operator==(const ProcessIdentity&, const ProcessIdentity&) = default;
};

enum class ProcessState { running, stopped, zombie, gone };

Result<ProcessIdentity> identify_process(u32 pid);
// A pidfd of exactly this process. kClosed when the number is free or belongs to a later process.
Result<File> open_pidfd(const ProcessIdentity& identity);
bool pidfd_is_dead(const File& pidfd);

// To tell people, not to decide: `zombie` is also what a process looks like whose first thread has ended while
// others run on. A later process with the same number is `gone`.
Result<ProcessState> process_state(const ProcessIdentity& identity);
// The command name, unprintable bytes as '?'; empty when it cannot be read.
std::string process_name(u32 pid);

Result<std::array<u8, 16>> boot_id();
Result<u64> pid_namespace_inode();
Result<std::array<u8, 16>> random_uuid();

inline constexpr int kExitUnknown = -1;

// Runs a program to its end. argv[0] is looked up in PATH unless it has a slash; `environment` ("NAME=value") goes
// on top of ours. The child has /dev/null as input and output, none of our other descriptors, default signal actions
// and an empty signal mask. `stderr_text` gets what it wrote to standard error before it ended, at most 64 KiB;
// processes it leaves in the background are not waited for.
// `exit_code`: the exit status, 128 + N if killed by signal N, kExitUnknown where the host ignores SIGCHLD or waits
// for all children itself. On kTimeout the child has been killed. Either pointer may be null.
Status spawn_and_wait(const std::vector<std::string>& argv, const std::vector<std::string>& environment, int* exit_code,
                      std::string* stderr_text, u64 timeout_ns = kForever);

}  // namespace mooring
