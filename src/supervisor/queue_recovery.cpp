#include "supervisor/queue_recovery.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/kill_point.hpp"
#include "group/group_view.hpp"
#include "queue/queue.hpp"

namespace mooring {
namespace {

using A = HardwareAtomics;

// Has this group settled `seq`?
bool is_settled(const journal::GroupState& group, u64 seq) {
  if (seq < group.base) return true;
  const auto after = std::upper_bound(group.runs.begin(), group.runs.end(), seq,
                                      [](u64 value, const journal::AckRun& run) { return value < run.first; });
  if (after == group.runs.begin()) return false;
  const journal::AckRun& run = *std::prev(after);
  return seq - run.first < run.count;
}

class Rebuilding {
 public:
  Rebuilding(const File& shared_directory, uid_t owner, const DurableQueue& queue, const journal::LogWriter& writer)
      : shared_directory_(shared_directory), owner_(owner), queue_(queue), writer_(writer) {}

  Status run() {
    Result<layout::QueueConstants> plan = plan_queue(queue_.name, queue_.options);
    if (!plan) return fail(plan.error());
    next_seq_ = writer_.durable().next_seq;
    // The order ring and the lanes begin empty: everything before is in the log.
    plan->first_seq = next_seq_;
    std::copy(queue_.uuid.begin(), queue_.uuid.end(), plan->log_uuid);
    if (Status made = create_queue(shared_directory_, *plan, queue_.options.group_id); !made) return made;
    MOORING_KILL_POINT("rebuild.created");
    Result<std::shared_ptr<Queue>> attached =
        Queue::attach(shared_directory_, owner_, queue_.name, /*as_supervisor=*/true);
    if (!attached) return fail(attached.error());
    shared_ = *attached;
    files_ = &shared_->files();
    if (Status status = make_groups(); !status) return status;
    MOORING_KILL_POINT("rebuild.groups");
    // Where the next supervisor finds the end of the log, also before a publisher came.
    if (shared_->is_spsc()) {
      if (Status made = make_lane_file(*files_, 0); !made) return made;
      files_->lane_slot(0).made = 1;
    }
    MOORING_KILL_POINT("rebuild.lane");
    layout::QueueState& state = files_->state();
    A::store(state.log_mark, writer_.durable().log_pos, std::memory_order_relaxed);
    A::store(state.durable_mark, shared_->is_spsc() ? u64{0} : next_seq_, std::memory_order_relaxed);
    MOORING_KILL_POINT("rebuild.marks");
    // COMPLETE: release, last.
    A::store(state.durable_seq, next_seq_, std::memory_order_release);
    return {};
  }

 private:
  Status make_groups() {
    for (const auto& [index, group] : writer_.state().groups) {
      if (index >= files_->constants().groups_max || group.name.size() > layout::kNameLengthMax ||
          (group.mode != 1 && group.mode != 2)) {
        return fail(Code::kCorrupt,
                    fmt::format("queue {}: its log names a group {} that cannot be", queue_.name, index));
      }
      if (Status made = make_group_file(*files_, index, next_seq_); !made) return made;
      Result<Mapping> mapping = files_->map_group(index, Access::read_write, /*prefault=*/true);
      if (!mapping) return fail(mapping.error());
      const GroupView view =
          view_group(mapping->data(), files_->constants().words, static_cast<u32>(files_->constants().parks));
      layout::GroupSlot& slot = files_->group_slot(index);
      std::memset(slot.name, 0, sizeof slot.name);
      std::memcpy(slot.name, group.name.data(), group.name.size());
      slot.mode = static_cast<layout::GroupMode>(group.mode);
      slot.quota = 1;  // dealt when consumers come
      const u64 base = std::min(group.base, next_seq_);
      const bool competing = slot.mode == layout::GroupMode::kCompeting;
      slot.start = competing ? fill_competing(view, group, base) : fill_exclusive(view, group, base);
      A::store(slot.slot, layout::make_slot(layout::slot_generation(slot.slot) + 1, layout::SlotLife::kLive),
               std::memory_order_release);
    }
    return {};
  }

  // Everything up to here may have been handed out before (core.md A21).
  u64 last_seq() const { return next_seq_ - 1; }

  u64 fill_exclusive(const GroupView& view, const journal::GroupState& group, u64 base) const {
    initialise_words(view, base);
    for (const journal::AckRun& run : group.runs) {
      for (u64 seq = run.first; seq < run.first + run.count && seq - base < view.window() && seq < next_seq_; ++seq) {
        view.word(seq) = layout::make_word(view.lap(seq), layout::Kind::kAcked, 0, 0);
      }
    }
    A::store(view.head->shown, last_seq(), std::memory_order_relaxed);
    A::store(view.head->acked, base, std::memory_order_relaxed);
    A::store(view.head->base_seq_hint, base, std::memory_order_relaxed);
    A::store(view.head->base, base, std::memory_order_release);
    return base;
  }

  // What the group had settled out of order lies within a window of its base as it was; the unsettled ones before that
  // window were parked (the base in the log is the lowest of them), and are parked again. Returns the base.
  u64 fill_competing(const GroupView& view, const journal::GroupState& group, u64 log_base) {
    u64 settled_end = log_base;
    if (!group.runs.empty()) settled_end = std::min(next_seq_, group.runs.back().first + group.runs.back().count);
    u64 base = std::max(log_base, settled_end - std::min(settled_end, view.window()));
    u32 parked = 0;
    u64 from = log_base;
    for (const journal::AckRun& run : group.runs) {  // and the gap before each; a straggler may be far behind
      for (u64 seq = from; seq < std::min(run.first, base); ++seq) {
        // More than fit were not parked; then what is settled far ahead comes again, rather than that one be lost.
        if (parked == view.parks_count) base = seq;
        if (seq < base) park(view, parked++, seq);
      }
      from = run.first + run.count;
    }
    settled_end = std::min(settled_end, base + view.window());
    initialise_words(view, base);
    // Touched is a prefix: up to the last one that is settled the others are READY.
    bool any_ready = false;
    for (u64 seq = base; seq < settled_end; ++seq) {
      const bool settled = is_settled(group, seq);
      view.word(seq) = settled ? layout::make_word(view.lap(seq), layout::Kind::kAcked, 0, 0)
                               : layout::make_word(view.lap(seq), layout::Kind::kReady, 0, layout::make_aux(1));
      any_ready = any_ready || !settled;
    }
    A::store(view.head->hint, settled_end, std::memory_order_relaxed);
    if (any_ready) announce_ready<A>(view, base);
    A::store(view.head->base, base, std::memory_order_release);
    return base;
  }

  static void park(const GroupView& view, u32 index, u64 seq) {
    layout::ParkEntry& entry = view.parks[index];
    A::store(entry.seq, seq, std::memory_order_relaxed);
    A::store(entry.loc, layout::kParkedInLog, std::memory_order_relaxed);
    layout::ParkWord word{};
    word.generation = 1;
    word.state = layout::ParkState::kReady;
    word.acquired = 1;
    A::store(entry.word, layout::make_park_word(word), std::memory_order_release);
    announce_park_ready<A>(view, index);
  }

  const File& shared_directory_;
  uid_t owner_;
  const DurableQueue& queue_;
  const journal::LogWriter& writer_;
  std::shared_ptr<Queue> shared_;
  const QueueFiles* files_ = nullptr;
  u64 next_seq_ = 0;
};

}  // namespace

bool is_complete(const QueueFiles& files) {
  return A::load(files.state().durable_seq, std::memory_order_acquire) != 0;  // COMPLETE
}

Status rebuild_queue(const File& shared_directory, uid_t owner, const DurableQueue& queue,
                     const journal::LogWriter& writer) {
  Status made = Rebuilding(shared_directory, owner, queue, writer).run();
  if (!made) (void)remove_queue(shared_directory, queue.name);
  return made;
}

}  // namespace mooring
