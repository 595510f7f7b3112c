// The log of one queue, open for writing: blocks are filled in private memory, written, synced, and only then counted.
//
//   auto disk = PosixDisk::open(directory);                            // or a SimDisk in a test
//   LogOptions options{.uuid = queue_uuid};
//   auto log = open_log(**disk, options, visitor);                     // recovery.hpp: recovers, or makes a new log
//   LogWriter& writer = *log->writer;                                  // log->recovered: groups, parks, next_seq, ...
//   for (;;) {
//     // Until kFull: copy frames in. kFull is not an error, it says "flush first"; kDiskFull promises nothing.
//     while (frame) if (!writer.append_message({.seq = s, .lane = l, .frame_flags = f, .bytes = b})) break;
//     writer.append_cursor(group, base, runs);                         // also append_park, append_release,
//     append_group
//     if (!writer.begin_flush()) ...                                   // the block is on its way
//     ... copy more frames into the next block ...
//     if (!writer.finish_flush()) fail_the_queue();                    // kIo: this log is finished
//     announce(writer.durable());                                      // {log_pos, next_seq}: log_mark, then J
//     if (writer.snapshot_due()) writer.snapshot();                    // bounds recovery, lets segments retire
//     writer.retire(lowest_base);                                      // now and then
//     if (quiet for 50 ms) writer.seal();                              // so that even the last block is provably there
//   }
//   helper thread: whenever woken, writer.prepare();                   // next segment and reserve; kDiskFull is
//   harmless
//
// WHO       everything from one thread, except prepare(), which may be called from one more.
// ORDER     at most one block is in flight. Block n+1 is sent after block n is durable, so durable_before of a block is
//           its own log_pos, and whatever was announced is a prefix of the log.
//
// IF THE PROCESS STOPS AFTER   (dead, or the power is cut; only slow: nobody else may open the log, see lock)
//   J1 append        nothing is outside; the frames are still in the ring: R = J
//   J2 block sealed  the same
//   J3 block sent    it may be there, in part, now or later (a late write): recovery goes on in another segment from
//                    the last block that is proved durable, and copies what it can read behind that mark; nothing that
//                    lands in this file later can count (continues_at)
//   J4 synced        it is there, nobody was told: recovered; appended again it would be refused as an old seq
//   J5 announced     it is there
//   segment switched header and first block share one sync: both or, for what counts, neither
//
// ERRORS    A failed write or sync poisons the segment: it is never written or synced again; the block in flight is
//           still in memory and goes to a new segment that begins at the durable mark. If that fails too the log has
//           failed: every later call returns kIo. A full disk is met only when a segment is made: append_message
//           returns kDiskFull and takes nothing; control records go on into the reserve; prepare() ends it.
//
// TESTED BY  journal/log_writer_test, journal/cuts_test, journal/mutants_test, journal/posix_disk_test
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "journal/block_builder.hpp"
#include "journal/disk.hpp"
#include "journal/log_options.hpp"
#include "journal/log_state.hpp"
#include "journal/segment_pool.hpp"

namespace mooring::journal {

struct MessageAppend {
  u64 seq = 0;  // the next one, or later (then the gap is marked in the log)
  u32 lane = 0;
  u32 frame_flags = 0;
  std::span<const u8> bytes;
  // A parked message brought forward so that its segment can retire: any seq below the next one.
  bool copy = false;
  bool urgent = false;  // frees more than it takes: also where the disk is full, as control records
  const MessageIdRecord* id = nullptr;  // what was decided about its message_id; in the same block
  bool duplicate = false;               // `bytes` are the seq of the message that it repeats
};

// A segment that still holds something.
struct RetainedSegment {
  u64 number = 0;
  u64 bytes = 0;
  u64 first_log_pos = 0;
  u64 end_log_pos = 0;  // what counts of it ends here
  u64 next_seq = 0;     // every message in it is below
  bool poisoned = false;  // or of an opening before: not known
};

// Where a writer starts; made by open_log().
struct LogStart {
  u64 incarnation = 1;
  u64 next_number = 1;
  LogMark mark;
  u64 first_seq = 0;  // oldest message there may be
  u64 predecessor = 0;
  u64 prev_check = 0;
  u64 copied_log_pos = 0;  // end of what is written again behind `mark`
  u64 segment_flags = 0;
  LogState state;
  std::vector<RetainedSegment> retained;
  std::vector<IndexEntry> index;
  u64 first_segment_bytes = 0;
  bool hold_header = false;
};

struct LogCounters {
  u64 blocks = 0;
  u64 block_bytes = 0;
  u64 messages = 0;
  u64 message_bytes = 0;
  u64 syncs = 0;
  u64 segments = 0;
  u64 segments_retired = 0;
  u64 segments_poisoned = 0;
  u64 snapshots = 0;
  u64 disk_full = 0;
};

class LogWriter {
 public:
  // Begins a segment; open_log() is the way to a usable log.
  static Result<std::unique_ptr<LogWriter>> start(Disk& disk, LogOptions options, LogStart start);
  ~LogWriter();
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  // kFull: the block is full; flush, then append again. kDiskFull: nothing was taken. kTooBig, kBadArgument. kIo:
  // failed.
  Status append_message(const MessageAppend& message);
  // Control records; none has a payload. kFull as above; kDiskFull only when the reserve is used up too.
  Status append_group(u32 group, GroupChange change, const GroupState& state);
  Status append_cursor(u32 group, u64 base, std::span<const AckRun> runs);
  Status append_park(const ParkRecord& park);
  Status append_release(u32 group, u64 seq, u32 reason = 0);

  // Sends the block that was being filled, if it has anything. If one is in flight it is finished first.
  Status begin_flush();
  // Waits until the block in flight is durable.
  Status finish_flush();
  Status flush();
  // An empty last block that proves the one before it; nothing if the log ends with one already.
  Status seal(SealReason reason = SealReason::kQuiet);

  // Into the block that fills, beside what is there? (True while it is empty.)
  bool fits(u64 record_bytes) const;
  bool is_in_flight() const { return in_flight_.has_value(); }
  bool has_unflushed() const { return is_in_flight() || !filling_->is_empty(); }
  bool has_failed() const { return failed_.has_value(); }
  // Durable for good: may be announced.
  const LogMark& durable() const { return durable_; }
  // Sent, or durable.
  const LogMark& written() const { return written_; }
  // The next seq to append.
  u64 next_seq() const { return next_seq_; }

  bool snapshot_due() const;
  // A snapshot now would let the oldest segment retire, which holds only messages below `seq`: the last one is older
  // than what let go of them.
  bool snapshot_frees(u64 seq) const;
  Status snapshot();
  // Segments all of whose messages are below `seq`, as far as the last durable snapshot agrees. How many went.
  Result<u64> retire(u64 seq);
  // Any thread, one at a time: makes the reserve and the next segment. kDiskFull: try again when space is free.
  Status prepare() { return pool_.prepare(); }

  // A log position at or before the block with this message, or with its copy.
  u64 locate(u64 seq) const;
  // Is the message still where it was written first? (False: not known; perhaps its segment has retired.)
  bool holds(u64 seq) const;
  const std::vector<IndexEntry>& index() const { return index_; }
  // Oldest first, without the one that is being written.
  const std::deque<RetainedSegment>& retained() const { return retained_; }
  const LogState& state() const { return state_; }
  const LogOptions& options() const { return options_; }
  u64 incarnation() const { return start_.incarnation; }
  u64 segment_number() const { return current_.number; }
  u64 total_bytes() const { return pool_.total_bytes(); }
  u64 oldest_log_pos() const { return retained_.empty() ? current_.first_log_pos : retained_.front().first_log_pos; }
  const LogCounters& counters() const { return counters_; }

  // The last step of opening: the header of a segment whose blocks were written first (LogStart::hold_header).
  Status release_header();

 private:
  struct Segment {
    std::unique_ptr<DiskFile> file;
    u64 number = 0;
    u64 bytes = 0;
    u64 first_log_pos = 0;
    bool from_reserve = false;
  };
  struct InFlight {
    BlockHeader header{};
    u64 check = 0;
    LogMark end;
    Status sent;  // of a write that was done on the spot
    bool is_submitted = false;
    std::optional<u64> snapshot_log_pos;
  };

  LogWriter(Disk& disk, LogOptions options, LogStart start);

  Status failed_status() const { return fail(*failed_); }
  Status fail_for_good(const Error& error);
  Status make_room(u64 record_bytes, SegmentUse use);
  Status append_control(std::span<const u8> record);
  void open_block();
  u64 room_in_current() const;
  Status begin_segment(PreparedSegment prepared, u64 copied_log_pos);
  Status write_header();
  void close_current(bool poisoned);
  BlockHeader block_header() const;
  void send(BlockBuilder& block);
  Status reap_and_sync();
  Status rescue();
  void count_durable();
  bool is_pinned(const RetainedSegment& segment) const;  // by a park
  bool has_bug(JournalBug bug) const { return options_.bug == bug; }

  Disk& disk_;
  LogOptions options_;
  LogStart start_;
  SegmentPool pool_;
  u64 salt_;
  u64 generation_ = 0;

  std::array<std::unique_ptr<BlockBuilder>, 2> blocks_;
  BlockBuilder* filling_;
  BlockBuilder* sending_;
  std::optional<InFlight> in_flight_;
  std::optional<PreparedSegment> next_;  // the block that fills goes there
  Segment current_;
  SegmentHeader header_{};
  bool header_written_ = false;

  LogMark durable_;
  LogMark written_;
  u64 durable_check_;
  u64 written_check_;
  u64 last_block_number_;  // segment of the last durable block
  u64 next_seq_;
  bool sealed_ = false;  // the log ends with a SEAL
  bool sealing_ = false;
  std::optional<Error> failed_;

  LogState state_;
  std::deque<RetainedSegment> retained_;
  std::vector<IndexEntry> index_;
  std::optional<u64> filling_snapshot_;  // the last part of a snapshot is in the block that fills
  struct SnapshotBounds {
    std::optional<u64> min_base;
    std::vector<u64> park_log_pos;  // sorted
    u64 begin_log_pos = 0;
    u64 end_log_pos = 0;
    u64 bytes = 0;
  };
  std::optional<SnapshotBounds> snapshot_;          // durable
  std::optional<SnapshotBounds> pending_snapshot_;  // appended
  LogCounters counters_;
};

}  // namespace mooring::journal
