// The shared memory of a durable queue, made from its log: after a reboot, a power cut, or a lost /dev/shm.
//
// Messages that some group still needs are published anew, with their numbers, into lanes that nobody owns (they leave
// once the messages are done), and every group finds what it had settled: its base, and the runs above it. Whether a
// message had been handed out before is not known, so all of them come marked `redelivered` (core.md A21).
//
// A message that left the window in a straggler's name goes into the park table of its group, READY.
//
// STEPS             KILLED AFTER IT LEAVES
//   queue created   a queue whose durable_seq is 0: not complete. The next supervisor removes it and begins again
//   lanes, groups   the same
//   marks           durable_seq is stored last: complete
//
// TESTED BY  durable/durable_restart_test, durable/durable_kill_points_test, durable/durable_power_cut_test
#pragma once

#include <optional>

#include "journal/disk.hpp"
#include "journal/log_writer.hpp"
#include "platform/file.hpp"
#include "segment/queue_files.hpp"
#include "supervisor/durable_queues.hpp"

namespace mooring {

// `writer`: of the recovered log. The queue must not be there.
Status rebuild_queue(const File& shared_directory, uid_t owner, const DurableQueue& queue, journal::Disk& disk,
                     const journal::LogWriter& writer);

// Was the shared memory of this durable queue made to its end?
bool is_complete(const QueueFiles& files);

}  // namespace mooring
