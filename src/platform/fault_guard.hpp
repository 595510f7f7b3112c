// SIGBUS guard: a client that cuts a shared file short must not bring the supervisor down.
//
// Reading a page behind the end of a file raises SIGBUS. Inside a registered range the handler puts a page of zeros
// in the place of the missing one, in this process only, sets the flag of the range, and the read goes on. Whoever
// works on that range looks at its flag before it believes what it read, and gives the queue up as corrupt.
// Any other SIGBUS ends the process as usual.
//
// For a process of our own (mooringd), not for the library: a host's signal handlers are the host's.
//
// WHO WRITES WHAT  (all process-private)
//   entry.state        the registering thread claims it (CAS FREE -> BUSY), fills the entry, stores LIVE
//   *hit               the handler, in the thread that faulted
// PAIRINGS
//   LISTED   register_range stores state LIVE (release) after the fields; the handler loads it (acquire) before them,
//            and again after them: an entry that changed under it counts as no match.
//
// TESTED BY  platform/fault_guard_test
#pragma once

#include <atomic>
#include <cstddef>

#include "base/error.hpp"

namespace mooring {

inline constexpr std::size_t kFaultRangesMax = 16384;

Status install_fault_guard();

// `hit` outlives the registration. kNoMemory when the table is full.
Status register_range(const void* data, std::size_t size_bytes, std::atomic<bool>* hit);
// Before the range is unmapped: its addresses may be given to something else at once.
void unregister_range(const void* data);

}  // namespace mooring
