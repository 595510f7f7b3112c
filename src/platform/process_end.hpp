// How a process ended, and how one is ended: through its pidfd, which names one process for good.
//
// A status is there to tell people; that it is not known says nothing. Measured on 6.18:
//
//   reaped by its parent   PIDFD_GET_INFO tells the wait status to whoever holds the pidfd (6.15 and later); nothing is
//                          left in /proc
//   still a zombie         PIDFD_GET_INFO does not tell yet. /proc/PID/stat field 52 does, to root and to the same
//                          user, and is 0 for all others and for a process that changed its user. Field 35 (wchan) of a
//                          zombie is 1 for whoever may see field 52 and 0 for the others: it tells exit code 0 from
//                          "not yours". (Just after the death it is 0 for all, for an instant.)
//
// TESTED BY  platform/process_end_test
#pragma once

#include <optional>
#include <string>

#include "platform/process.hpp"

namespace mooring {

// The wait status (as of waitpid) of a process whose pidfd says that it is dead.
std::optional<u32> exit_status(const ProcessIdentity& identity, const File& pidfd);
// "signal 9 (SIGKILL)", "exit code 7"; core dumps are told.
std::string exit_text(u32 wait_status);

// SIGKILL. kClosed: it is dead already.
Status kill_process(const ProcessIdentity& identity, const File& pidfd);
// Has it a tracer (a debugger, strace)? False where that cannot be read.
bool is_traced(const ProcessIdentity& identity);

}  // namespace mooring
