// Opening a log: what is on the disk is read, one row of the table below is chosen, and the log goes on in a fresh
// segment of the next incarnation. docs/recovery.md is the same table in words.
//
//   row                  what was found                                              what is done
//   A  empty             no segment that was begun                                   a new log
//   B  unknown version   a segment of another format version                         refuse (kVersion)
//   C  foreign           a segment of another queue                                  refuse (kBadArgument)
//   D  missing           a segment that the others speak of is not there             refuse (kCorrupt); salvage
//   E  rotten            announced bytes that are not what was written               refuse (kCorrupt); salvage
//   F  interrupted       an opening that did not finish                              go on
//   G  ghost             blocks of an older writer behind the mark of a newer one    go on: they do not count
//   H  torn              a last block that is not whole                              go on: it was never announced
//   I  garbage           the log ends before blocks of the file's earlier life       go on: they do not count
//   K  clean             the log ends where nothing was ever written                 go on
//
// Exactly one row matches: the rows test the facts in this order, each with "and none above" written out; decide()
// evaluates all of them and checks that one says yes.
//
// STEPS OF open_log()       A CRASH AFTER IT LEAVES
//   1 lock the directory    nothing; the lock ends with the process
//   2 lock each segment     nothing; a killed writer's last write has landed once we have the lock
//   3 remove new-, reserve-, spare- files    nothing anybody was promised
//   4 scan, decide          nothing
//   5 new segment, header held back; the messages that are readable but not proved durable, then a snapshot; each
//     block synced          blocks without a header: row F next time, the old segments stand in full
//   6 the header, synced    the new segment counts, and is whole: it says where the older ones were cut
//   7 return                as 6
// Nothing unsynced is believed: what was read behind the last proof of durability is written anew before it counts. So
// a late write, or a "good" sync after a failed one, cannot matter.
//
// TESTED BY  journal/recovery_test (each row by its letter), journal/cuts_test
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "journal/disk.hpp"
#include "journal/log_options.hpp"
#include "journal/log_reader.hpp"
#include "journal/log_writer.hpp"

namespace mooring::journal {

enum class RecoveryRow : char {
  kEmpty = 'A',
  kUnknownVersion = 'B',
  kForeign = 'C',
  kMissing = 'D',
  kRotten = 'E',
  kInterrupted = 'F',
  kGhost = 'G',
  kTorn = 'H',
  kGarbage = 'I',
  kClean = 'K',
};
const char* row_text(RecoveryRow row);
// All rows that match; decide() takes the only one.
std::vector<RecoveryRow> matching_rows(const LogFacts& facts);
RecoveryRow decide(const LogFacts& facts);
// Whether the log can be opened as it is.
bool goes_on(RecoveryRow row);

struct Recovered {
  RecoveryRow row = RecoveryRow::kEmpty;
  Uuid uuid{};
  u64 incarnation = 0;   // of the writer that was opened
  u64 next_log_pos = 0;  // where the writer goes on
  u64 first_seq = 0;     // of the oldest message there may be
  u64 next_seq = 0;
  LogState state;  // groups with base and runs, live parks
  std::vector<Finding> findings;
  std::vector<LostRange> lost;           // only with salvage
  std::vector<std::string> quarantined;  // only with salvage: the new names of the files
  u64 messages = 0;
  u64 bytes_read = 0;
};

struct OpenLog {
  std::unique_ptr<LogWriter> writer;
  Recovered recovered;
};

struct RecoverOptions {
  u64 from_seq = 0;      // show the visitor messages from here on
  bool salvage = false;  // rows D and E: copy what is whole, list what is lost, rename the old files to quarantine-*
};

// Cold: nothing survived but the files. Messages stream through `visitor` in order while the log is read; what it saw
// counts only if this returns a writer. The writer's log is durable, with a snapshot, when this returns.
Result<OpenLog> open_log(Disk& disk, const LogOptions& options, LogVisitor& visitor, const RecoverOptions& how = {});

// The message ids that the log knew where it was announced, rising by seq. Reads all that is retained, locks nothing:
// for a warm opening of a queue that looks for duplicates, whose memory does not have them.
Result<std::deque<MessageIdRecord>> read_ids(Disk& disk, const Uuid& uuid, const LogMark& announced);

// Warm: shared memory survived on the same boot, and with it what was announced. Reads segment headers only, takes no
// lock but the directory's, and waits for nothing: of older segments nothing at or past `announced` counts.
Result<std::unique_ptr<LogWriter>> resume_log(Disk& disk, const LogOptions& options, const LogMark& announced,
                                              LogState state);

}  // namespace mooring::journal
