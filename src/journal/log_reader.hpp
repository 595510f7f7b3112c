// Reads a log as it lies on the disk: which segments there are, which blocks are whole and in their place, where it
// ends, and why. Changes nothing, so it works on a copy, on a damaged log, and beside a living writer up to what the
// writer has announced.
//
// WHAT IS BELIEVED. A segment header: magic, version, its own check, the number in the file's name, the queue. A block:
// the place (log_pos from the offset), queue, segment, salt, incarnation, the chain (prev_check), lengths inside the
// file, then both checksums. Lengths are used before their checksum only to find the checksummed bytes, and bounded.
//
// WHERE A TORN TAIL ENDS AND ROT BEGINS. At the first block that is not whole:
//   - a later segment begins past this place: what was here was durable. Rotten (or its file is missing).
//   - a later block of the same segment, whole on its own, says durable_before > this place: rotten.
//   - the place cannot be read: it may have been announced. Unreadable, treated as rotten.
//   - else nothing behind it was ever announced: the end of the log. Torn, garbage of an earlier life, or never
//   written.
// The very last block that was announced is proved by nothing until another follows; a SEAL after a quiet moment is
// one.
//
// TESTED BY  journal/recovery_test (each row), journal/flips_test, journal/cuts_test
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "journal/disk.hpp"
#include "journal/log_options.hpp"
#include "journal/log_state.hpp"

namespace mooring::journal {

// What a scan meets, in the order of the log. All calls are optional.
class LogVisitor {
 public:
  virtual ~LogVisitor() = default;
  virtual void message(const MessageView&) {}
  virtual void segment(const std::string& /*file*/, const SegmentHeader&) {}
  virtual void block(const BlockHeader&, u64 /*file_offset*/) {}
  virtual void record(const RecordView&, u64 /*block_log_pos*/) {}
};

// Something that is not as it should be, or that somebody reading along wants to know.
struct Finding {
  std::string file;
  u64 offset = 0;
  u64 log_pos = 0;
  bool is_damage = false;  // announced data is lost or cannot be believed
  std::string text;
};

struct LostRange {
  u64 from_log_pos = 0;
  u64 to_log_pos = 0;  // 0: not known
  u64 from_seq = 0;
  u64 to_seq = 0;  // first one that is there again; 0: not known
};

// What recovery decides on (recovery.hpp has the table).
struct LogFacts {
  u64 segments_begun = 0;
  bool version_unknown = false;
  bool foreign = false;
  bool missing = false;     // a segment that the others speak of is not there
  bool rotten = false;      // announced bytes are not what was written, or cannot be read
  bool unfinished = false;  // an opening was interrupted: blocks of it, no header
  bool ghost = false;       // blocks of an older writer at or past the mark where a newer one took over
  bool stale = false;       // at the end: whole blocks of the file's earlier life
  bool torn = false;        // at the end: bytes that are no whole block
};

struct LogScan {
  LogFacts facts;
  Uuid uuid{};
  u64 incarnation = 0;  // highest seen, anywhere
  u64 number_max = 0;   // highest number in a file name
  u64 format_version = 0;
  LogMark end;            // first position and seq that are free
  LogMark proven;         // durable for certain; what lies between is readable, and was perhaps announced
  u64 proven_check = 0;   // of the block that ends there
  u64 proven_number = 0;  // its segment
  u64 first_seq = 0;      // of the oldest message there may be
  u64 first_log_pos = 0;
  bool snapshot_seen = false;
  LogState state;
  std::vector<IndexEntry> index;
  struct SegmentScan {
    u64 number = 0;
    u64 bytes = 0;
    u64 first_log_pos = 0;
    u64 end_log_pos = 0;
    u64 next_seq = 0;
    u64 blocks = 0;
    u64 messages = 0;
    u64 incarnation = 0;
    bool begun = false;
  };
  std::vector<SegmentScan> segments;         // all log- files, by number
  std::vector<std::vector<u8>> tail_bodies;  // bodies of the whole blocks between proven and end
  std::vector<Finding> findings;
  std::vector<LostRange> lost;
  u64 messages = 0;
  u64 blocks = 0;
  u64 bytes_read = 0;
};

struct ScanOptions {
  std::optional<Uuid> uuid;  // refuse others
  u64 from_seq = 0;          // messages below are not shown
  u64 window_bytes = u64{1} << 20;
  u64 index_step_bytes = u64{256} << 10;
  bool salvage = false;  // go on behind damage, and say what is lost
  JournalBug bug = JournalBug::kNone;
};

// An error only if the directory itself cannot be read (kIo, kPermission, kNoSuchQueue) or a record may not be skipped
// (kVersion); everything that is wrong with the log is in the facts and findings.
Result<LogScan> scan_log(Disk& disk, const ScanOptions& options, LogVisitor& visitor);

}  // namespace mooring::journal
