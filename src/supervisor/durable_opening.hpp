// Opening a durable queue: its shared memory survived (same boot) and the log goes on where it was announced, or it
// did not and is made anew from the log.
//
//   shared memory       log            what is done
//   complete            there          resume: nothing is read, serves at once (core.md A4)
//   not complete        there          the memory goes, then as below
//   none                there          recover the log, rebuild the memory
//   durable, complete   none           removed: a removal was cut short (durable_queues.hpp)
//
// TESTED BY  durable/durable_restart_test, durable/durable_kill_points_test, durable/durable_power_cut_test
#pragma once

#include <memory>
#include <string>

#include "journal/disk.hpp"
#include "journal/log_writer.hpp"
#include "supervisor/durable_queues.hpp"
#include "supervisor/queue_keeper.hpp"

namespace mooring {

struct DurableOpening {
  std::unique_ptr<QueueKeeper> keeper;
  // For QueueKeeper::start_journal, once the keeper has adopted the queue. No writer: the log cannot go on (`trouble`
  // says why), consumers drain what is in memory.
  std::unique_ptr<journal::Disk> disk;
  std::unique_ptr<journal::LogWriter> writer;
  std::string trouble;
  bool rebuilt = false;
};

Result<DurableOpening> open_durable(const File& shared_directory, uid_t owner, const DurableQueues& queues,
                                    const std::string& name, u64 incarnation);

}  // namespace mooring
