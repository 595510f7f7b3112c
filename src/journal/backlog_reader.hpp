// Finds messages in a log that somebody else is writing: for consumers whose messages have left shared memory.
//
// It needs the directory, the queue's uuid and the two marks that the writer announces ({log_mark, durable_seq} in
// ctl), and believes nothing else: segments are found by listing the directory and reading their headers, blocks by
// walking from the beginning of a segment, or from a place that an earlier walk noted (a sparse index, private to the
// reader). There is nothing shared to keep up to date, so a killed or stopped supervisor changes nothing here.
//
// WHAT IS BELIEVED   A segment header as in log_reader.hpp. A block in its place (queue, segment, salt, incarnation,
// log_pos) whose two checksums are good: the bytes are looked at only then. Nothing at or past the announced mark is
// read, and a list of segments counts only for places below the mark that was loaded before the list was made: a
// segment that begins later begins at or past that mark. So a block that a killed writer's late write left behind the
// place where a newer segment took over is never taken for the one that counts.
//
// IF A SEGMENT IS USED AGAIN WHILE WE READ IT   its blocks get another number and place, so what is read of it fails
// the check of this one; torn between the two lives it fails the checksum. The reader then forgets what it knows, lists
// the directory anew and looks once more. A message that some group has not settled is in no such segment
// (log_writer.hpp, retire).
//
// READS are sequential, 1 MiB at a time, through Disk (O_DIRECT where the file system has it, as the writer does: the
// page cache is not always told of a direct write).
//
// TESTED BY  journal/backlog_reader_test, durable/backlog_test
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "journal/disk.hpp"
#include "journal/log_options.hpp"
#include "journal/log_state.hpp"

namespace mooring::journal {

class BacklogReader {
 public:
  // `disk` outlives the reader.
  BacklogReader(Disk& disk, const Uuid& uuid, u64 window_bytes = u64{1} << 20);
  ~BacklogReader();
  BacklogReader(const BacklogReader&) = delete;
  BacklogReader& operator=(const BacklogReader&) = delete;

  enum class Found {
    kMessage,
    kLost,       // the log says that it has not got this one (it was salvaged)
    kDuplicate,  // it repeats another, whose seq is the message's bytes (duplicate_of)
  };
  // The message `seq`, below `durable.next_seq`. `durable` as announced: next_seq loaded first, then log_pos (it may be
  // further on). kCorrupt: it is not there, and should be. Others: the disk's.
  Result<Found> find(u64 seq, const LogMark& durable, MessageView* message);
  // Every message from here on, below `durable.next_seq`, is in the log, or known to be lost.
  Result<u64> oldest(const LogMark& durable);
  // The first one at or behind the block at `log_pos`, also a copy that was brought forward (kMessageCopy).
  Result<Found> find_from(u64 log_pos, u64 seq, const LogMark& durable, MessageView* message);

  u64 bytes_read() const;

  // Of which message a kDuplicate is one.
  static u64 duplicate_of(const MessageView& message);

 private:
  struct Segment;
  struct Place;

  Status refresh(const LogMark& durable);
  Status know(u64 seq, u64 log_pos, const LogMark& durable);
  Result<Found> find_once(u64 seq, const LogMark& durable, MessageView* message);
  Result<Found> find_from_once(u64 log_pos, u64 seq, const LogMark& durable, MessageView* message);
  Segment* segment_of_seq(u64 seq, u64* end_seq) const;
  Segment* segment_at(u64 log_pos) const;
  u64 end_of(const Segment& segment) const;
  Status load(Segment& segment, u64 log_pos, u64 end_seq);
  void forget();
  tl::unexpected<Error> not_there(const std::string& what) const;

  Disk& disk_;
  Uuid uuid_;
  u64 window_bytes_;
  LogMark known_;  // the segments below are all that count for places and seqs below this
  std::map<u64, std::unique_ptr<Segment>> segments_;  // that count, by number
  std::unique_ptr<Place> place_;                       // the block that was read last
  u64 bytes_read_ = 0;
};

}  // namespace mooring::journal
