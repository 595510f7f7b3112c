#include "supervisor/durable_opening.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "base/kill_point.hpp"
#include "journal/posix_disk.hpp"
#include "journal/recovery.hpp"
#include "supervisor/queue_journal.hpp"
#include "supervisor/queue_recovery.hpp"

namespace mooring {
namespace {

using A = HardwareAtomics;

Result<journal::LogOptions> log_options(const DurableQueue& queue) {
  Result<layout::QueueConstants> plan = plan_queue(queue.name, queue.options);
  if (!plan) return fail(plan.error());
  journal::LogOptions options;
  options.uuid = queue.uuid;
  options.first_seq = plan->first_seq;
  // Of the first segment, made before anybody is served, and the reserve: one full block, and a little.
  options.small_segment_bytes = journal::kSegmentHeaderBytes + options.block_bytes + (u64{256} << 10);
  // The ids that it knows are in each snapshot, and a full disk is drained by means of one: the reserve takes it whole.
  // A part is at most half a block, so a small segment takes two.
  if (plan->dedup_max_messages != 0) {
    const u64 ids_bytes = plan->dedup_max_messages * journal::record_bytes(sizeof(journal::MessageIdRecord));
    options.reserve_count += static_cast<u32>(ids_bytes / options.block_bytes) + 1;
  }
  options.message_bytes_max = std::max(options.message_bytes_max, plan->max_message_bytes);
  // Several segments fit into what the log may hold, so that what was acknowledged frees some while others fill: a
  // segment goes as a whole.
  u64 bound = plan->max_backlog_bytes;
  options.quota_bytes = queue.options.journal_quota_bytes;
  if (options.quota_bytes != 0) bound = std::min(bound, options.quota_bytes);
  options.segment_bytes =
      std::clamp(align_up(bound / 8, journal::kBlockAlignment), options.small_segment_bytes, options.segment_bytes);
  if (options.quota_bytes != 0) {
    options.snapshot_interval_bytes = std::min(options.snapshot_interval_bytes, options.segment_bytes);
  }
  return options;
}

// What was announced: durable_seq, which publishers were told, and its place in the lane. Killed between two stores,
// durable_mark is older; what lies between is still in the ring, because nothing is overwritten beyond durable_mark.
Result<LaneCursor> announced_end(const Queue& queue) {
  const layout::QueueState& state = queue.files().state();
  const u64 mark = A::load(state.durable_mark, std::memory_order_acquire);
  const u64 seq = A::load(state.durable_seq, std::memory_order_acquire);
  if (!queue.is_spsc()) return LaneCursor{seq, seq};
  const LaneView* lane = queue.lane(0);
  if (lane == nullptr) return fail(Code::kCorrupt, fmt::format("queue {}: its lane cannot be mapped", queue.name()));
  const SpscReader<A> reader(*lane, seq);
  LaneCursor at{mark, 0};
  FrameView frame;
  for (;;) {
    const RingOutcome found = reader.peek(&at, &frame);
    if (found == RingOutcome::kEmpty && at.seq == 0) return LaneCursor{mark, seq};
    if (found == RingOutcome::kEmpty && at.seq == seq) return at;
    if (found != RingOutcome::kOk || at.seq > seq) break;
    if (at.seq == seq) return at;
    reader.step(&at, frame);
  }
  return fail(Code::kCorrupt, fmt::format("queue {}: the end of its journal in the lane makes no sense; remove its "
                                          "shared memory (it is rebuilt from the log)",
                                          queue.name()));
}

}  // namespace

Result<DurableOpening> open_durable(const File& shared_directory, uid_t owner, const DurableQueues& queues,
                                    const std::string& name, u64 incarnation) {
  Result<DurableQueue> config = queues.read(name);
  if (!config) return fail(config.error());
  Result<journal::LogOptions> options = log_options(*config);
  if (!options) return fail(options.error());
  DurableOpening opening;
  journal::PosixDiskOptions disk_options;
  disk_options.file_mode = log_file_mode(config->options);
  disk_options.sync = config->options.durability == layout::Durability::kDurable;
  Result<std::unique_ptr<journal::PosixDisk>> disk = journal::PosixDisk::open(queues.log_path(name), disk_options);
  if (!disk) return fail(disk.error());
  opening.disk = std::move(*disk);

  Result<std::shared_ptr<Queue>> survived = Queue::attach(shared_directory, owner, name, /*as_supervisor=*/true);
  if (!survived && survived.error().code != Code::kNoSuchQueue) return fail(survived.error());
  if (survived && !(*survived)->has_log()) {
    return fail(Code::kExists, fmt::format("a volatile queue {} stands in the place of the durable one of {}; remove "
                                           "one of them",
                                           name, queues.log_path(name)));
  }
  if (survived && !std::equal(config->uuid.begin(), config->uuid.end(), (*survived)->constants().log_uuid)) {
    return fail(Code::kExists,
                fmt::format("the shared memory of queue {} belongs to another log than the one in {} (was "
                            "MOORING_DATA another?); set it right, or `mooring rm {}` to give up the "
                            "memory and this log",
                            name, queues.log_path(name), name));
  }
  if (survived && !is_complete((*survived)->files())) {
    if (Status removed = remove_queue(shared_directory, name); !removed) return fail(removed.error());
    survived = fail(Code::kNoSuchQueue, "");
  }
  if (survived) {
    Result<LaneCursor> end = announced_end(**survived);
    if (!end) return fail(end.error());
    layout::QueueState& state = (*survived)->files().state();
    const journal::LogMark announced{A::load(state.log_mark, std::memory_order_acquire), end->seq};
    Result<journal::LogState> settled = log_state_of(**survived, end->seq);
    if (!settled) return fail(settled.error());
    Result<std::deque<journal::MessageIdRecord>> ids;
    if (layout::finds_duplicates((*survived)->constants())) {
      ids = journal::read_ids(*opening.disk, config->uuid, announced);
    }
    Result<std::unique_ptr<journal::LogWriter>> resumed = nullptr;
    if (ids) {
      settled->ids = std::move(*ids);
      resumed = journal::resume_log(*opening.disk, *options, announced, std::move(*settled));
    } else {
      resumed = fail(ids.error());
    }
    if (resumed) {
      opening.writer = std::move(*resumed);
      A::store(state.durable_seq, end->seq, std::memory_order_release);
      A::store(state.durable_mark, (*survived)->is_spsc() ? end->position : end->seq, std::memory_order_release);
    } else {
      opening.trouble = resumed.error().text;
      A::store(state.journal_life, static_cast<u64>(layout::JournalLife::kFailed), std::memory_order_release);
    }
  } else {
    journal::LogVisitor nobody;
    Result<journal::OpenLog> log = journal::open_log(*opening.disk, *options, nobody);
    if (!log) return fail(log.error());
    MOORING_KILL_POINT("durable.log_open");
    const journal::Recovered& found = log->recovered;
    if (found.row != journal::RecoveryRow::kEmpty) {
      spdlog::info("queue {}: recovered from its log: row {} ({}), messages up to {}, {} groups, {} bytes read", name,
                   static_cast<char>(found.row), journal::row_text(found.row), found.next_seq,
                   found.state.groups.size(), found.bytes_read);
    }
    for (const journal::Finding& finding : found.findings) {
      spdlog::warn("queue {}: {} at {}: {}", name, finding.file, finding.offset, finding.text);
    }
    opening.writer = std::move(log->writer);
    if (Status made = rebuild_queue(shared_directory, owner, *config, *opening.disk, *opening.writer); !made) {
      return fail(made.error());
    }
    MOORING_KILL_POINT("durable.rebuilt");
    opening.rebuilt = true;
  }
  if (const std::string& text = opening.disk->capabilities().text; !text.empty()) {
    spdlog::info("queue {}: its disk: {}", name, text);
  }
  Result<std::unique_ptr<QueueKeeper>> keeper = QueueKeeper::open(shared_directory, owner, name, incarnation);
  if (!keeper) return fail(keeper.error());
  (*keeper)->set_log_path(queues.log_path(name));
  opening.keeper = std::move(*keeper);
  return opening;
}

}  // namespace mooring
