// What the control records of a log add up to: groups with their cursors, live park entries, and the message ids that
// are known. Writer and reader
// apply the same records with the same function, so that a snapshot is what replay would give.
//
// Applying is lenient about meaning (a CURSOR of a group that is not there changes nothing): a log whose oldest
// segments have retired begins in the middle, and the snapshot that follows replaces whatever came of it.
//
// TESTED BY  journal/log_writer_test, journal/recovery_test, journal/cuts_test
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "journal/format.hpp"

namespace mooring::journal {

struct GroupState {
  std::string name;
  u16 mode = 0;
  u64 start = 0;
  std::string config;  // the owner's bytes
  u64 base = 0;
  std::vector<AckRun> runs;
  friend bool operator==(const GroupState&, const GroupState&) = default;
};

// One record inside a block or a snapshot. The body points into the caller's bytes.
struct RecordView {
  RecordType type{};
  u16 flags = 0;
  std::span<const u8> body;
};

// A MESSAGE record, as readers show it.
struct MessageView {
  u64 seq = 0;
  u32 lane = 0;
  u32 frame_flags = 0;
  u16 record_flags = 0;
  u64 block_log_pos = 0;
  std::span<const u8> bytes;  // LogVisitor: during the call; BacklogReader: until its next call
};

// Takes the next record off `bytes`; nullopt: the bytes are no record (too short, a length that does not fit).
std::optional<RecordView> next_record(std::span<const u8>& bytes);

// Appends a record, padded to 8, to `out`.
void put_record(std::vector<u8>& out, RecordType type, u16 flags, std::span<const u8> head, std::span<const u8> tail);

struct LogState {
  std::map<u32, GroupState> groups;
  std::map<std::pair<u32, u64>, ParkRecord> parks;  // by group and seq
  std::deque<MessageIdRecord> ids;                  // of messages that were the first with theirs, rising

  // kVersion: a type this program does not know and may not skip. kCorrupt: a body that is no such record.
  // MESSAGE, SNAPSHOT and SEAL change nothing here.
  Status apply(const RecordView& record);

  // The log goes on at `next_seq`: ids of what came behind were never decided.
  void forget_ids_from(u64 next_seq);

  // As records, in the order in which apply() takes them.
  std::vector<u8> encode() const;
  // The lowest seq that some group still needs from the sequence; nullopt without groups. Parks count apart.
  std::optional<u64> min_base() const;
  friend bool operator==(const LogState&, const LogState&) = default;
};

std::vector<u8> encode_group(u32 group, GroupChange change, const GroupState& state);
std::vector<u8> encode_cursor(u32 group, u64 base, std::span<const AckRun> runs);

// The snapshot in parts (see SnapshotRecord), each part's bytes at most about `part_bytes`: bodies of SNAPSHOT records.
std::vector<std::vector<u8>> snapshot_parts(const LogState& state, u64 next_seq, u64 part_bytes);

// Collects parts while reading.
class SnapshotCollector {
 public:
  // True when this was the last part: state() is complete. kCorrupt: not a part that can follow.
  Result<bool> add(const RecordView& record);
  LogState finish() { return std::move(state_); }

 private:
  LogState state_;
  u32 parts_seen_ = 0;
};

}  // namespace mooring::journal
