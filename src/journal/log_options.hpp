// What a log is opened with, and the little that the writer needs from outside beside the disk: clocks and chance.
#pragma once

#include <functional>

#include "base/bytes.hpp"
#include "journal/format.hpp"

namespace mooring::journal {

// Bugs that a test may build into writer and reader, to show that the suite which should find them does.
enum class JournalBug {
  kNone,
  kNoSync,           // announces without fdatasync
  kNoDirectorySync,  // never syncs the directory
  kSyncRetried,      // after a failed sync tries the same file again, and believes it
  kNoChecksum,       // the reader takes a block for whole whatever its checksums say
};

struct LogTimes {
  u64 wall_ns = 0;
  u64 boottime_ns = 0;
};
LogTimes system_times();
u64 system_random();

struct LogOptions {
  Uuid uuid{};                             // of the queue; a directory with another queue's log is refused
  u64 first_seq = 0;                       // of a log that is made new
  u64 segment_bytes = u64{64} << 20;       // of segments prepared ahead
  u64 small_segment_bytes = u64{2} << 20;  // of the first one after opening, and of the reserve
  u64 block_bytes = u64{1} << 20;          // a message that is larger gets a block of its own
  u64 message_bytes_max = u64{16} << 20;
  u64 direct_write_bytes_max = u64{64} << 10;   // up to here pwrite, above the ring (numbers.md B7)
  u64 quota_bytes = 0;                          // of all files of the log; 0: none
  u64 snapshot_interval_bytes = u64{16} << 20;  // at least this much log between two snapshots
  u64 index_step_bytes = u64{256} << 10;
  u32 reserve_count = 2;    // small segments kept for control records when the disk is full
  u32 spare_count_max = 2;  // retired files kept for reuse
  u64 lock_wait_ns = 10'000'000'000;
  std::function<LogTimes()> times = system_times;
  std::function<u64()> random = system_random;
  JournalBug bug = JournalBug::kNone;
};

// A place in the log: everything below log_pos, which is every message below next_seq.
struct LogMark {
  u64 log_pos = 0;
  u64 next_seq = 0;
  friend bool operator==(const LogMark&, const LogMark&) = default;
};

// Where to start reading for a message: its block is this one or a later one.
struct IndexEntry {
  u64 seq = 0;
  u64 log_pos = 0;
};

}  // namespace mooring::journal
