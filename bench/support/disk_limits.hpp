// The physical limits of durable queues: what one process does with this disk when no queue is in the way.
//
// The file is pre-written and synced before anything is measured (unwritten extents cost a metadata commit each,
// numbers.md B2), lies in `directory`, and is removed afterwards. Comparable only with what is run beside it.
#pragma once

#include <string>

#include "bench/support/limits.hpp"

namespace mooring::bench {

// One 4 KiB block after the other: O_DIRECT pwrite, then fdatasync; the best strategy for a lone message on the disks
// we measured (numbers.md B2, B7). name "write_and_flush_4k"
Result<Measurement> write_and_flush(const std::string& directory, const LimitOptions& options = {});

// The ideal group commit: one thread fills blocks of 1 MiB with frames of `size_bytes` (copied from a 64 MiB source),
// hashes them, writes through io_uring while it fills the next, reaps, and calls fdatasync (numbers.md B5, "SYS").
// name "ideal_group_commit"
Result<Measurement> ideal_group_commit(const std::string& directory, u64 size_bytes, const LimitOptions& options = {});

}  // namespace mooring::bench
