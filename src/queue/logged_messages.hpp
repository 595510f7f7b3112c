// Messages of a queue with a log that have left shared memory: read there by consumers that fell behind, and by the
// supervisor for what failed (supervisor/durable_messages.hpp).
//
// PAIRINGS   DURABLE   load durable_seq, then log_mark, acquire     the journal stores them in the other order: the log
//                      has everything below the seq by the position, and perhaps more
//
// TESTED BY  durable/backlog_test, durable/spill_test
#pragma once

#include <memory>
#include <string>

#include "journal/backlog_reader.hpp"
#include "queue/queue.hpp"

namespace mooring {

class LoggedMessages {
 public:
  // `queue` outlives this. `path`: the directory of the log, opened when it is first needed; empty: nobody told it.
  LoggedMessages(const Queue& queue, std::string path) : queue_(queue), path_(std::move(path)) {}

  // `message->bytes` until the next call. kCorrupt: it is not in the log, and should be. kVersion: the supervisor did
  // not tell the path. Others: the disk's.
  Result<journal::BacklogReader::Found> find(u64 seq, journal::MessageView* message);

 private:
  Status open();

  const Queue& queue_;
  std::string path_;
  std::unique_ptr<journal::Disk> disk_;
  std::unique_ptr<journal::BacklogReader> reader_;
};

}  // namespace mooring
