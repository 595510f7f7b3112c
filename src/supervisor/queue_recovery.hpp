// The shared memory of a durable queue, made from its log: after a reboot, a power cut, or a lost /dev/shm.
//
// Of the backlog no message is read. The order ring and the lanes begin empty behind the last message of the log
// (first_seq), and groups read what they have not settled from the log, like any group that fell behind; so it takes as
// long for a backlog of a thousand messages as for one of a billion. Every group finds what it had settled: its base,
// and the runs above it. Whether a message had been handed out before is not known, so all of them come marked
// `redelivered` (core.md A21).
//
// What waited beside the queue is read, and goes into the park store as the log says: retries and dead letters with
// their counts and due times, and what left the window in a straggler's name (READY, in the park table of its group).
//
// STEPS             KILLED AFTER IT LEAVES
//   queue created   a queue whose durable_seq is 0: not complete. The next supervisor removes it and begins again
//   groups, parks, lane   the same
//   marks           durable_seq is stored last: complete
//
// TESTED BY  durable/durable_restart_test, durable/durable_kill_points_test, durable/durable_power_cut_test
#pragma once

#include "journal/log_writer.hpp"
#include "platform/file.hpp"
#include "segment/queue_files.hpp"
#include "supervisor/durable_queues.hpp"

namespace mooring {

// `writer`: of the recovered log on `disk`. The queue must not be there.
Status rebuild_queue(const File& shared_directory, uid_t owner, const DurableQueue& queue, journal::Disk& disk,
                     const journal::LogWriter& writer);

// Was the shared memory of this durable queue made to its end?
bool is_complete(const QueueFiles& files);

}  // namespace mooring
