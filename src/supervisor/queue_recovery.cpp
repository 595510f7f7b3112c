#include "supervisor/queue_recovery.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "base/kill_point.hpp"
#include "base/time.hpp"
#include "delivery/policy.hpp"
#include "group/group_view.hpp"
#include "journal/log_reader.hpp"
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

class Rebuilding {
 public:
  Rebuilding(const File& shared_directory, uid_t owner, const DurableQueue& queue, journal::Disk& disk,
             const journal::LogWriter& writer)
      : shared_directory_(shared_directory), owner_(owner), queue_(queue), disk_(disk), writer_(writer) {}

  // `lane_bytes` 0: as the queue was created. kFull: the messages do not fit the lanes.
  Status run(u64 lane_bytes, u64* lane_bytes_tried) {
    QueueOptions options = queue_.options;
    if (lane_bytes != 0) options.lane_bytes = lane_bytes;
    Result<layout::QueueConstants> plan = plan_queue(queue_.name, options);
    if (!plan) return fail(plan.error());
    *lane_bytes_tried = plan->lane_bytes;
    if (lane_bytes != 0) {  // only the lanes are larger
      const Result<layout::QueueConstants> created = plan_queue(queue_.name, queue_.options);
      if (!created) return fail(created.error());
      plan->max_message_bytes = created->max_message_bytes;
    }
    next_seq_ = writer_.durable().next_seq;
    first_seq_ = next_seq_;
    for (const auto& [index, group] : writer_.state().groups) first_seq_ = std::min(first_seq_, group.base);
    oldest_seq_ = first_seq_;
    for (const auto& [key, park] : writer_.state().parks) oldest_seq_ = std::min(oldest_seq_, key.second);
    // What does not fit the window any more was parked. (A lane holds what it holds: groups of an SPSC queue take a
    // window of it at a time.)
    if (options.kind == layout::QueueKind::kMpmc) {
      first_seq_ = std::max(first_seq_, next_seq_ - std::min(next_seq_, plan->words));
    }
    plan->first_seq = first_seq_;
    std::copy(queue_.uuid.begin(), queue_.uuid.end(), plan->log_uuid);
    if (Status made = create_queue(shared_directory_, *plan, options.group_id); !made) return made;
    MOORING_KILL_POINT("rebuild.created");
    Result<std::shared_ptr<Queue>> attached =
        Queue::attach(shared_directory_, owner_, queue_.name, /*as_supervisor=*/true);
    if (!attached) return fail(attached.error());
    shared_ = *attached;
    files_ = &shared_->files();
    parks_.emplace(*files_);
    if (Status status = make_groups(); !status) return status;
    MOORING_KILL_POINT("rebuild.groups");
    if (Status status = publish_all(); !status) return status;
    MOORING_KILL_POINT("rebuild.published");
    finish_groups();
    layout::QueueState& state = files_->state();
    A::store(state.log_mark, writer_.durable().log_pos, std::memory_order_relaxed);
    A::store(state.durable_mark, shared_->is_spsc() ? lane_positions_.back() : next_seq_, std::memory_order_relaxed);
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
      if (Status made = make_group_file(*files_, index, first_seq_); !made) return made;
      Result<Mapping> mapping = files_->map_group(index, Access::read_write, /*prefault=*/true);
      if (!mapping) return fail(mapping.error());
      Born born;
      born.log = &group;
      born.view = view_group(mapping->data(), files_->constants().words, static_cast<u32>(files_->constants().parks));
      born.mapping = std::move(*mapping);
      born.base = std::clamp(group.base, first_seq_, next_seq_);
      initialise_words(born.view, born.base);
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
      born.index = index;
      groups_.push_back(std::move(born));
    }
    return {};
  }

  Status publish_all() {
    lane_positions_.assign(1, 0);
    // Where the next supervisor finds the end of the log, also of one that holds nothing.
    if (shared_->is_spsc()) {
      if (Status opened = open_lane(); !opened) return opened;
    }
    journal::LogReader reader(disk_, queue_.uuid);
    journal::LogMark at{writer_.locate(oldest_seq_), oldest_seq_};
    Status status;
    expected_seq_ = first_seq_;
    while (at.next_seq < next_seq_) {
      Result<journal::LogMark> next = reader.read(at, writer_.durable(), [&](const journal::MessageView& message) {
        status = take(message);
        return status.has_value();
      });
      if (!status) return status;
      if (!next) return fail(next.error());
      if (next->log_pos <= at.log_pos) break;
      at = *next;
    }
    return fill_gap(next_seq_);
  }

  Status take(const journal::MessageView& message) {
    if (message.seq >= next_seq_) return {};
    if (Status restored = restore_waiting(message); !restored) return restored;
    if (message.seq < first_seq_) return park(message);
    if ((message.record_flags & journal::kMessageCopy) != 0 || message.seq < expected_seq_) return {};
    if (Status filled = fill_gap(message.seq); !filled) return filled;
    return publish(message.bytes, message.frame_flags & layout::kFrameKept);
  }

  // Lost (and said so when the log was salvaged), or settled by all and not kept: nothing, and nobody gets it.
  Status fill_gap(u64 to) {
    while (expected_seq_ < to) {
      gaps_.push_back(expected_seq_);
      if (Status filled = publish({}, 0); !filled) return filled;
    }
    return {};
  }

  // `frame_flags`: of layout::kFrameKept; without them a message would come back with its headers in its payload.
  Status publish(std::span<const u8> bytes, u32 frame_flags) {
    const auto mark = [this] { return first_seq_; };
    for (;;) {
      if (!writer_open_) {
        if (lane_ == files_->constants().lanes_max) {
          return fail(Code::kFull, fmt::format("queue {}: what its log holds does not fit its lanes", queue_.name));
        }
        if (Status opened = open_lane(); !opened) return opened;
      }
      RingOutcome why = RingOutcome::kOk;
      // SPSC counts lane positions: nothing of this lane is free.
      u8* room = shared_->is_spsc() ? spsc_.reserve(
                                          bytes.size(), [] { return u64{0}; }, &why)
                                    : order_->reserve(bytes.size(), mark, &why);
      if (room == nullptr) {
        if (shared_->is_spsc() || why == RingOutcome::kTooBig) {
          return fail(Code::kFull, fmt::format("queue {}: what its log holds does not fit its lane", queue_.name));
        }
        close_lane();
        ++lane_;
        continue;
      }
      A::copy_in(room, bytes.data(), bytes.size());
      if (shared_->is_spsc()) {
        spsc_.append(bytes.size(), frame_flags);
        spsc_.publish();
        lane_positions_.push_back(spsc_.position());
      } else {
        order_->append(bytes.size(), frame_flags);
        u64 seq = 0;
        u64 published = 0;
        if (order_->publish(mark, &seq, &published) != RingOutcome::kOk || seq != expected_seq_) {
          return fail(Code::kCorrupt,
                      fmt::format("queue {}: message {} of its log came out as {}", queue_.name, expected_seq_, seq));
        }
        files_->lane_slot(lane_).last_seq = seq;
      }
      ++expected_seq_;
      return {};
    }
  }

  Status open_lane() {
    layout::LaneSlot& slot = files_->lane_slot(lane_);
    if (slot.made == 0) {
      if (Status made = make_lane_file(*files_, lane_); !made) return made;
      slot.made = 1;
    }
    Result<Mapping> mapping = files_->map_lane(lane_, Access::read_write, /*prefault=*/true);
    if (!mapping) return fail(mapping.error());
    lane_mapping_ = std::move(*mapping);
    const LaneView view = view_lane(lane_mapping_, files_->constants().lane_bytes);
    if (shared_->is_spsc()) {
      if (SpscWriter<A>::recover(view, first_seq_, &spsc_) != RingOutcome::kOk) {
        return fail(Code::kCorrupt, fmt::format("queue {}: a lane just made has no end", queue_.name));
      }
    } else {
      order_.emplace(shared_->order(), view, lane_, 0);
      A::store(slot.slot, layout::make_slot(layout::slot_generation(slot.slot) + 1, layout::SlotLife::kLeaving),
               std::memory_order_release);
    }
    writer_open_ = true;
    return {};
  }

  void close_lane() {
    if (order_.has_value()) order_->settle_tail();
    writer_open_ = false;
  }

  Result<u64> place(const journal::MessageView& message, u32 group) {
    FrameView frame;
    frame.payload = message.bytes.data();
    frame.len = message.bytes.size();
    frame.seq = message.seq;
    frame.flags = message.frame_flags;
    const u64 loc = parks_->place(frame, group, kFirstGeneration, layout::kAttemptsMax);
    if (loc != 0) return loc;
    return fail(Code::kDiskFull, fmt::format("queue {}: no room for message {} in its park file: /dev/shm is full, or "
                                             "the file at its bound",
                                             queue_.name, message.seq));
  }

  // What waited for a retry, and dead letters: as the log says.
  Status restore_waiting(const journal::MessageView& message) {
    for (Born& group : groups_) {
      const auto found = writer_.state().parks.find({group.index, message.seq});
      if (found == writer_.state().parks.end() || !group.restored.insert(message.seq).second) continue;
      const journal::ParkRecord& logged = found->second;
      const Result<u64> placed = place(message, group.index);
      if (!placed) return fail(placed.error());
      const u64 loc = *placed;
      layout::ParkRecord& record = *parks_->record(loc);
      const u64 now_wall = wall_ns();
      const u64 now_boot = boottime_ns();
      const auto state = static_cast<layout::RecordState>(logged.state);
      const bool dead = state == layout::RecordState::kDead;
      if (state == layout::RecordState::kHeld) group.held.insert(message.seq);
      record.due_wall_ns = logged.due_wall_ns;
      // The delay runs by the wall clock where no boot of before is left to count from.
      record.due_boottime_ns = now_boot + (logged.due_wall_ns > now_wall ? logged.due_wall_ns - now_wall : 0);
      record.dead_wall_ns = dead ? logged.due_wall_ns : 0;
      record.last_reason = logged.reason & 255U;
      record.dead_reason = (logged.reason >> 8) & 255U;
      record.redriven = logged.reason >> 16;
      record.code = logged.flags;
      record.attempts = logged.failed;
      parks_->set_word(loc, {.version = 0,
                             .state = is_in_log(state) ? state : layout::RecordState::kWaiting,
                             .failed = std::min(logged.failed, layout::kFailedMax),
                             .acquired = std::min(std::max(logged.acquired, 1U), layout::kAcquiredMax),
                             .alone = false});
    }
    return {};
  }

  // Below the window: whoever has not settled it gets it from the park table.
  Status park(const journal::MessageView& message) {
    for (Born& group : groups_) {
      if (is_settled(*group.log, message.seq) || group.restored.contains(message.seq) ||
          group.parked == group.view.parks_count) {
        continue;
      }
      const Result<u64> placed = place(message, group.index);
      if (!placed) return fail(placed.error());
      const u64 loc = *placed;
      layout::ParkEntry& entry = group.view.parks[group.parked];
      A::store(entry.seq, message.seq, std::memory_order_relaxed);
      A::store(entry.loc, loc, std::memory_order_relaxed);
      A::store(entry.kind, static_cast<u64>(layout::ParkEntryKind::kStraggler), std::memory_order_relaxed);
      layout::ParkWord word{};
      word.generation = 1;
      word.state = layout::ParkState::kReady;
      word.acquired = 1;
      A::store(entry.word, layout::make_park_word(word), std::memory_order_release);
      announce_park_ready<A>(group.view, group.parked);
      ++group.parked;
    }
    return {};
  }

  void finish_groups() {
    if (!shared_->is_spsc() && writer_open_) close_lane();
    for (Born& group : groups_) {
      const bool competing = group.log->mode == static_cast<u16>(layout::GroupMode::kCompeting);
      bool any_ready = false;
      for (u64 seq = group.base; seq < next_seq_; ++seq) {
        // In its place, and the supervisor's until it is due.
        if (group.held.contains(seq) && !is_settled(*group.log, seq)) {
          const journal::ParkRecord& logged = writer_.state().parks.at({group.index, seq});
          group.view.word(seq) = layout::make_word(
              group.view.lap(seq), layout::Kind::kNacked, 0,
              layout::make_nacked_aux(std::min(std::max(logged.acquired, 1U), layout::kAcquiredMax),
                                      layout::FailReason::kNack, false));
          continue;
        }
        // What waits in the store has left the window.
        const bool settled = is_settled(*group.log, seq) || group.restored.contains(seq) ||
                             std::binary_search(gaps_.begin(), gaps_.end(), seq);
        if (seq - group.base >= group.view.window()) break;
        if (!settled && !competing) continue;  // leases are implied; `shown` says that it comes again
        group.view.word(seq) =
            settled ? layout::make_word(group.view.lap(seq), layout::Kind::kAcked, 0, 0)
                    : layout::make_word(group.view.lap(seq), layout::Kind::kReady, 0, layout::make_aux(1));
        any_ready = any_ready || !settled;
      }
      group.view.head->hint = next_seq_;
      if (competing && any_ready) announce_ready<A>(group.view, group.base);
      u64 base = group.base;
      if (shared_->is_spsc()) base = lane_positions_[group.base - first_seq_];
      A::store(group.view.head->shown, next_seq_ == first_seq_ ? 0 : next_seq_ - 1, std::memory_order_relaxed);
      A::store(group.view.head->acked, base, std::memory_order_relaxed);
      A::store(group.view.head->base_seq_hint, group.base, std::memory_order_relaxed);
      A::store(group.view.head->base, base, std::memory_order_release);
      layout::GroupSlot& slot = files_->group_slot(group.index);
      slot.start = base;
      A::store(slot.slot, layout::make_slot(layout::slot_generation(slot.slot) + 1, layout::SlotLife::kLive),
               std::memory_order_release);
    }
  }

  struct Born {
    u32 index = 0;
    const journal::GroupState* log = nullptr;
    Mapping mapping;
    GroupView view;
    u64 base = 0;
    u32 parked = 0;
    std::unordered_set<u64> restored;  // wait in the park store, or are dead letters
    std::unordered_set<u64> held;      // of those: an exclusive group's, in their place
  };
  static constexpr u32 kFirstGeneration = 1;  // of a group's slot in new shared memory

  const File& shared_directory_;
  uid_t owner_;
  const DurableQueue& queue_;
  journal::Disk& disk_;
  const journal::LogWriter& writer_;
  std::shared_ptr<Queue> shared_;
  const QueueFiles* files_ = nullptr;
  std::optional<ParkStore> parks_;
  std::vector<Born> groups_;
  u64 next_seq_ = 0;
  u64 first_seq_ = 0;     // of the window
  u64 oldest_seq_ = 0;    // that some group has not settled
  u64 expected_seq_ = 0;  // the next to publish
  std::vector<u64> gaps_;
  u32 lane_ = 0;
  bool writer_open_ = false;
  Mapping lane_mapping_;
  SpscWriter<A> spsc_;
  std::optional<OrderWriter<A>> order_;
  std::vector<u64> lane_positions_;  // SPSC: of first_seq, first_seq + 1, ... and the end
};

}  // namespace

bool is_complete(const QueueFiles& files) {
  return A::load(files.state().durable_seq, std::memory_order_acquire) != 0;  // COMPLETE
}

Status rebuild_queue(const File& shared_directory, uid_t owner, const DurableQueue& queue, journal::Disk& disk,
                     const journal::LogWriter& writer) {
  u64 lane_bytes = 0;
  for (;;) {
    u64 tried = 0;
    Status made = Rebuilding(shared_directory, owner, queue, disk, writer).run(lane_bytes, &tried);
    if (made) return made;
    (void)remove_queue(shared_directory, queue.name);
    // Messages of many producers packed anew may need a little more: lanes grow by whole powers.
    if (made.error().code != Code::kFull || tried >= layout::kLaneBytesMax) return made;
    lane_bytes = tried * 2;
    spdlog::info("queue {}: recovered into lanes of {} bytes, {} were too small", queue.name, lane_bytes, tried);
  }
}

}  // namespace mooring
