// The segment files of a log that are not written yet: made ahead, so that a commit never waits for one.
//
//   new-<id>      being made: created, filled with zeros, synced
//   log-<number>  whole and durable under its name; not begun until its header says the same number
//   reserve-<id>  small ones kept for CURSOR, PARK and RELEASE records, so that a full disk can be drained
//   spare-<id>    retired, to be used again: written once already, so no extent is made on the way of a commit
//
// WHO       take() and recycle(): the writer's thread. prepare() and recycle(): also a second thread of the owner.
//           One mutex; files are made outside of it, renamed and synced under it.
// SIZES     Filling a file with zeros takes as long as filling it with messages. So the first ones are small, each
//           twice the one before: a burst into a new log waits for a small file, never for one of full size.
// QUOTA     Binds what is made for messages. Segments for control records and the reserve pass: they are small, help to
//           free space, and a log that has used its quota up is opened again like any other.
// IF A PROCESS STOPS   new-, reserve- and spare- files are removed by the next opening (late zero-writes may still be
//           on their way into them); a log- file that is not begun likewise. Nothing in them was ever announced.
//
// TESTED BY  journal/log_writer_test, journal/cuts_test
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "journal/disk.hpp"
#include "journal/log_options.hpp"

namespace mooring::journal {

// log-0000000007; nullopt for other names.
std::string segment_name(u64 number);
std::optional<u64> segment_number(const std::string& name);
// Files of ours that hold nothing anybody was promised: new-, reserve-, spare-.
bool is_disposable_name(const std::string& name);

struct PreparedSegment {
  std::unique_ptr<DiskFile> file;
  u64 number = 0;
  u64 bytes = 0;
  bool from_reserve = false;
};

enum class SegmentUse {
  kMessages,  // refused (kDiskFull) unless the reserve is whole
  kControl,   // may take from the reserve
};

class SegmentPool {
 public:
  SegmentPool(Disk& disk, const LogOptions& options, u64 next_number, u64 live_bytes);

  // Makes what is missing: the reserve first, then the next segment. kDiskFull: no space, or the quota is used up; then
  // take() does not try by itself any more until this has been called again or a segment has retired.
  Status prepare();
  bool reserve_is_whole() const;
  // A begun-able segment of at least `bytes`, named and durable. Made on the spot if none was prepared.
  Result<PreparedSegment> take(u64 bytes, SegmentUse use);
  // A segment that has retired. `reusable`: never poisoned, of full size.
  Status recycle(u64 number, u64 bytes, bool reusable);
  u64 total_bytes() const;

 private:
  struct Waiting {
    std::unique_ptr<DiskFile> file;
    std::string name;
    u64 bytes = 0;
  };
  Result<Waiting> make(u64 bytes, SegmentUse use);
  u64 next_bytes() const;  // of the next segment for messages
  Status rename_for_good(const std::string& from, const std::string& to);
  Status fill_reserve();
  Status make_next(u64 bytes, SegmentUse use);
  void drop(Waiting& waiting);

  Disk& disk_;
  const LogOptions& options_;
  mutable std::mutex mutex_;
  u64 next_number_;
  u64 total_bytes_;
  u64 next_id_ = 1;
  u64 growing_bytes_;  // doubles with each segment taken for messages, up to options.segment_bytes
  bool is_full_ = false;
  std::optional<Waiting> next_;  // named log-<next_number_>
  std::vector<Waiting> reserve_;
  std::vector<Waiting> spares_;
};

}  // namespace mooring::journal
