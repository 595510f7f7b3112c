#include "supervisor/queue_recovery.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>

#include "base/kill_point.hpp"
#include "base/time.hpp"
#include "delivery/policy.hpp"
#include "group/group_view.hpp"
#include "journal/park_copies.hpp"
#include "queue/queue.hpp"
#include "supervisor/park_log.hpp"
#include "supervisor/park_store.hpp"

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

using Parks = std::map<std::pair<u32, u64>, journal::ParkRecord>;

bool is_held(const journal::ParkRecord& park) { return park.state == static_cast<u32>(layout::RecordState::kHeld); }

// What waits in the store, or is a dead letter there, has left the window, also where the log ends between its PARK and
// the CURSOR that says so.
journal::GroupState with_parks_settled(journal::GroupState group, u32 index, const Parks& parks) {
  std::vector<journal::AckRun> left;
  for (auto at = parks.lower_bound({index, group.base}); at != parks.end() && at->first.first == index; ++at) {
    if (!is_held(at->second) && !is_settled(group, at->first.second)) left.push_back({at->first.second, 1});
  }
  if (left.empty()) return group;
  left.insert(left.end(), group.runs.begin(), group.runs.end());
  std::sort(left.begin(), left.end(), [](const auto& one, const auto& other) { return one.first < other.first; });
  group.runs.clear();
  for (const journal::AckRun& run : left) {
    if (!group.runs.empty() && group.runs.back().first + group.runs.back().count == run.first) {
      group.runs.back().count += run.count;
    } else {
      group.runs.push_back(run);
    }
  }
  return group;
}

class Rebuilding {
 public:
  Rebuilding(const File& shared_directory, uid_t owner, const DurableQueue& queue, journal::Disk& disk,
             const journal::LogWriter& writer)
      : shared_directory_(shared_directory), owner_(owner), queue_(queue), writer_(writer), log_(disk, queue.uuid) {}

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
    parks_.emplace(*files_);
    if (Status status = make_groups(); !status) return status;
    MOORING_KILL_POINT("rebuild.groups");
    if (Status status = restore_parks(); !status) return status;
    MOORING_KILL_POINT("rebuild.parks");
    // Where the next supervisor finds the end of the log, also before a publisher came.
    if (shared_->is_spsc()) {
      if (Status made = make_lane_file(*files_, 0); !made) return made;
      files_->lane_slot(0).made = 1;
    }
    MOORING_KILL_POINT("rebuild.lane");
    layout::QueueState& state = files_->state();
    A::store(state.log_mark, writer_.durable().log_pos, std::memory_order_relaxed);
    A::store(state.durable_mark, shared_->is_spsc() ? u64{0} : next_seq_, std::memory_order_relaxed);
    // What is in the log alone is asked there whether it is a duplicate (queue/duplicates.hpp).
    if (layout::finds_duplicates(files_->constants()) && next_seq_ != 0) {
      A::store(state.newest_duplicate_seq, next_seq_ - 1, std::memory_order_relaxed);
    }
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
      slot.policy = default_policy();
      // Of a log from before there were more settings: those have their defaults.
      if (group.config.size() >= layout::kGroupPolicyBytesLeast && group.config.size() <= sizeof slot.policy) {
        GroupPolicy logged = default_policy();
        std::memcpy(&logged, group.config.data(), group.config.size());
        if (Status good = check_policy(logged, fmt::format("queue {}: its log", queue_.name)); !good) return good;
        slot.policy = logged;
      }
      const journal::GroupState settled = with_parks_settled(group, index, writer_.state().parks);
      const u64 base = std::min(group.base, next_seq_);
      if (slot.mode == layout::GroupMode::kExclusive) {
        slot.start = fill_exclusive(view, index, settled, base);
      } else if (Status filled = fill_competing(view, index, settled, base, &slot.start); !filled) {
        return filled;
      }
      A::store(slot.slot, layout::make_slot(layout::slot_generation(slot.slot) + 1, layout::SlotLife::kLive),
               std::memory_order_release);
    }
    return {};
  }

  // Everything up to here may have been handed out before (core.md A21).
  u64 last_seq() const { return next_seq_ - 1; }

  u64 fill_exclusive(const GroupView& view, u32 index, const journal::GroupState& group, u64 base) const {
    initialise_words(view, base);
    for (const journal::AckRun& run : group.runs) {
      for (u64 seq = run.first; seq < run.first + run.count && seq - base < view.window() && seq < next_seq_; ++seq) {
        view.word(seq) = layout::make_word(view.lap(seq), layout::Kind::kAcked, 0, 0);
      }
    }
    // In its place, and the supervisor's until it is due.
    const Parks& parks = writer_.state().parks;
    for (auto at = parks.lower_bound({index, base}); at != parks.end() && at->first.first == index; ++at) {
      const u64 seq = at->first.second;
      if (!is_held(at->second) || is_settled(group, seq) || seq - base >= view.window() || seq >= next_seq_) continue;
      view.word(seq) = layout::make_word(
          view.lap(seq), layout::Kind::kNacked, 0,
          layout::make_nacked_aux(acquired_of(at->second), layout::FailReason::kNack, /*detail=*/false));
    }
    A::store(view.head->shown, last_seq(), std::memory_order_relaxed);
    A::store(view.head->acked, base, std::memory_order_relaxed);
    A::store(view.head->base_seq_hint, base, std::memory_order_relaxed);
    A::store(view.head->base, base, std::memory_order_release);
    return base;
  }

  // What the group had settled out of order lies within a window of its base as it was; the unsettled ones before that
  // window were parked (the base in the log is the lowest of them), and are parked again. `start`: the base.
  Status fill_competing(const GroupView& view, u32 index, const journal::GroupState& group, u64 log_base, u64* start) {
    u64 settled_end = log_base;
    if (!group.runs.empty()) settled_end = std::min(next_seq_, group.runs.back().first + group.runs.back().count);
    u64 base = std::max(log_base, settled_end - std::min(settled_end, view.window()));
    u32 parked = 0;
    u64 from = log_base;
    for (const journal::AckRun& run : group.runs) {  // and the gap before each; a straggler may be far behind
      for (u64 seq = from; seq < std::min(run.first, base); ++seq) {
        // More than fit were not parked; then what is settled far ahead comes again, rather than that one be lost.
        if (parked == view.parks_count) base = seq;
        if (seq >= base) break;
        if (Status status = park(view, index, parked, seq); !status) return status;
        ++parked;
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
    *start = base;
    return {};
  }

  // From the log into the store. 0: the log has lost it, and said so when it was salvaged.
  Result<u64> place(u32 group, const journal::ParkRecord& park) {
    const u64 seq = park.seq;
    journal::MessageView message;
    const auto found = journal::find_parked(writer_, log_, park, &message);
    if (!found) {
      return fail(found.error().code,
                  fmt::format("queue {}: message {}, which waits beside the queue, cannot be read from the log: {}; "
                              "`mooring journal verify` says what is left of the log",
                              queue_.name, seq, found.error().text));
    }
    if (*found == journal::BacklogReader::Found::kDuplicate) return 0;  // killed before anybody knew; nobody wants it
    if (*found == journal::BacklogReader::Found::kLost) {
      spdlog::warn("queue {}: message {}, which waited beside the queue, is lost: the log was salvaged", queue_.name,
                   seq);
      return 0;
    }
    FrameView frame;
    frame.payload = message.bytes.data();
    frame.len = message.bytes.size();
    frame.seq = seq;
    frame.flags = message.frame_flags;
    const u64 loc = parks_->place(frame, group, kFirstGeneration, attempt_room_of(files_->group_slot(group).policy));
    if (loc != 0) return loc;
    return fail(Code::kDiskFull, fmt::format("queue {}: no room for message {} in its park file: /dev/shm is full, or "
                                             "the file at its bound",
                                             queue_.name, seq));
  }

  static u32 acquired_of(const journal::ParkRecord& logged) {
    return std::min(std::max(logged.acquired, 1U), layout::kAcquiredMax);
  }

  // What waited for a retry, and dead letters: as the log says. In the order of the log, so that it is read once: those
  // that are found by their seq, then the copies.
  Status restore_parks() {
    std::vector<const journal::ParkRecord*> order;
    for (const auto& [key, park] : writer_.state().parks) {
      if (key.second < next_seq_ && writer_.state().groups.contains(key.first)) order.push_back(&park);
    }
    std::stable_sort(order.begin(), order.end(),
                     [this](const auto* one, const auto* other) { return place_of(*one) < place_of(*other); });
    for (const journal::ParkRecord* park : order) {
      const Result<u64> placed = place(park->group, *park);
      if (!placed) return fail(placed.error());
      if (*placed != 0) restore(*placed, *park);
    }
    return {};
  }

  std::pair<bool, u64> place_of(const journal::ParkRecord& park) const {
    return writer_.holds(park.seq) ? std::pair{false, park.seq} : std::pair{true, park.message_log_pos};
  }

  void restore(u64 loc, const journal::ParkRecord& logged) {
    layout::ParkRecord& record = *parks_->record(loc);
    const u64 now_wall = wall_ns();
    const auto state = static_cast<layout::RecordState>(logged.state);
    record.due_wall_ns = logged.due_wall_ns;
    // The delay runs by the wall clock where no boot of before is left to count from.
    record.due_boottime_ns = boottime_ns() + (logged.due_wall_ns > now_wall ? logged.due_wall_ns - now_wall : 0);
    record.dead_wall_ns = state == layout::RecordState::kDead ? logged.due_wall_ns : 0;
    record.last_reason = logged.reason & 255U;
    record.dead_reason = (logged.reason >> 8) & 255U;
    record.redriven = logged.reason >> 16;
    record.code = logged.flags;
    record.attempts = logged.failed;
    parks_->set_word(loc, {.version = 0,
                           .state = is_in_log(state) ? state : layout::RecordState::kWaiting,
                           .failed = std::min(logged.failed, layout::kFailedMax),
                           .acquired = acquired_of(logged),
                           .alone = false});
  }

  Status park(const GroupView& view, u32 group, u32 index, u64 seq) {
    journal::ParkRecord straggler{};
    straggler.seq = seq;
    const Result<u64> placed = place(group, straggler);
    if (!placed) return fail(placed.error());
    if (*placed == 0) return {};
    layout::ParkEntry& entry = view.parks[index];
    A::store(entry.seq, seq, std::memory_order_relaxed);
    A::store(entry.loc, *placed, std::memory_order_relaxed);
    A::store(entry.kind, static_cast<u64>(layout::ParkEntryKind::kStraggler), std::memory_order_relaxed);
    layout::ParkWord word{};
    word.generation = 1;
    word.state = layout::ParkState::kReady;
    word.acquired = 1;
    A::store(entry.word, layout::make_park_word(word), std::memory_order_release);
    announce_park_ready<A>(view, index);
    return {};
  }

  static constexpr u32 kFirstGeneration = 1;  // of a group's slot in new shared memory

  const File& shared_directory_;
  uid_t owner_;
  const DurableQueue& queue_;
  const journal::LogWriter& writer_;
  journal::BacklogReader log_;
  std::optional<ParkStore> parks_;
  std::shared_ptr<Queue> shared_;
  const QueueFiles* files_ = nullptr;
  u64 next_seq_ = 0;
};

}  // namespace

bool is_complete(const QueueFiles& files) {
  return A::load(files.state().durable_seq, std::memory_order_acquire) != 0;  // COMPLETE
}

Status rebuild_queue(const File& shared_directory, uid_t owner, const DurableQueue& queue, journal::Disk& disk,
                     const journal::LogWriter& writer) {
  Status made = Rebuilding(shared_directory, owner, queue, disk, writer).run();
  if (!made) (void)remove_queue(shared_directory, queue.name);
  return made;
}

}  // namespace mooring
