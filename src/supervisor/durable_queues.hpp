// The durable queues of an instance, as they lie on the disk: one directory each, with what the queue was created with
// and its log.
//
//   <data>/q-<name>/queue.json    options and uuid; written once, before the queue is said to exist
//   <data>/q-<name>/log-*         see journal/ and docs/format.md
//   <data>/.new-q-<name>          in the making        } removed at start
//   <data>/.old-q-<name>          being removed        }
//
// IF THE SUPERVISOR STOPS   between two steps: the rename decides, in both directions, and the directory is synced
// before anybody is told. <data> itself is made with the directories above it, each synced into its parent. Shared
// memory may be there without the directory (killed between the two removals): a durable queue without its log is no
// queue, and is removed.
//
// TESTED BY  durable/durable_queues_test, durable/durable_trace_test
#pragma once

#include <string>
#include <vector>

#include "base/error.hpp"
#include "journal/format.hpp"
#include "platform/file.hpp"
#include "segment/queue_plan.hpp"

namespace mooring {

struct DurableQueue {
  std::string name;
  journal::Uuid uuid{};
  QueueOptions options;
};

// Who may read the queue's shared memory may read its log: consumers that fell behind do. Nobody else writes.
constexpr mode_t log_file_mode(const QueueOptions& options) { return 0600 | (options.file_mode & 0044); }

class DurableQueues {
 public:
  // Opens the directory of the journals; `create` makes it (0700), with its parents.
  static Result<DurableQueues> open(const std::string& path, bool create);

  const std::string& path() const { return path_; }
  std::string log_path(const std::string& queue) const;
  // Leftovers of a killed supervisor go; the queues that are there, in byte order.
  Result<std::vector<std::string>> adopt();
  Result<DurableQueue> read(const std::string& queue) const;
  Status create(const DurableQueue& queue) const;
  // False: there was none.
  Result<bool> remove(const std::string& queue) const;
  // False where a power cut takes the "disk" with it (tmpfs, ramfs).
  bool outlives_power() const;

 private:
  std::string path_;
  File directory_;
};

}  // namespace mooring
