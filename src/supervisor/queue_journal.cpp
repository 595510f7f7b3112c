#include "supervisor/queue_journal.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cstring>

#include "base/kill_point.hpp"
#include "platform/fault_guard.hpp"
#include "queue/wait_strategy.hpp"

namespace mooring {
namespace {

using A = HardwareAtomics;

// Acknowledgements alone are written this often (core.md 5.5): a power cut delivers that much of them again.
constexpr u64 kSettleEveryNs = 10 * kNsPerMs;
// After this much quiet the log is sealed, so that even its last block is proved (core.md 6.2).
constexpr u64 kQuietNs = 50 * kNsPerMs;
constexpr u64 kRetireEveryNs = 100 * kNsPerMs;
constexpr u64 kRetryFullNs = 100 * kNsPerMs;
constexpr u64 kRestMostNs = 100 * kNsPerMs;
// How long the thread looks at the ring before it sleeps: a publisher that waits for its flush publishes again about
// now, and a sleep and a wake cost more than a flush of a fast disk.
constexpr u64 kSpinNs = 20 * kNsPerUs;

std::string_view name_of(const layout::GroupSlot& slot) {
  return {slot.name, ::strnlen(slot.name, layout::kNameLengthMax)};
}

std::vector<journal::AckRun> log_runs(const Settlements& settled) {
  std::vector<journal::AckRun> runs;
  runs.reserve(settled.runs.size());
  for (const SettledRun& run : settled.runs) runs.push_back({run.first, run.count});
  return runs;
}

// The seq at the lane position `acked` of an exclusive group on an SPSC queue. The frame there is not overwritten
// while acked stands: base is at or below it. `end`: where the log has got to.
u64 seq_at(const LaneView& lane, u64 position, const LaneCursor& end, u64 hint) {
  if (position >= end.position) return end.seq;
  for (int step = 0; step < 2; ++step) {
    const u64 header = A::load(lane.word_at(position), std::memory_order_acquire);  // PUBLISHED
    if ((layout::frame_flags(header) & layout::kFramePadding) == 0) {
      return std::min(layout::extend(layout::frame_seq_lo(header), 32, hint), end.seq);
    }
    position = align_up(position + 1, lane.size_bytes);  // padding ends the lane
    if (position >= end.position) return end.seq;
  }
  return hint;
}

Settlements scan_group(const Queue& queue, const GroupView& view, bool competing, const LaneCursor& lane_end, u64 cap) {
  if (competing) return scan_competing<A>(view, cap);
  u64 acked = A::load(view.head->acked, std::memory_order_acquire);  // SETTLED
  if (queue.is_spsc()) {
    const LaneView* lane = queue.lane(0);
    const u64 hint = A::load(view.head->base_seq_hint, std::memory_order_relaxed);
    acked = lane == nullptr ? 0 : seq_at(*lane, acked & ~(layout::kFrameAlignment - 1), lane_end, hint);
  }
  return scan_exclusive<A>(view, acked, cap);
}

}  // namespace

journal::LogState log_state_of(const Queue& queue, const LaneCursor& lane_end, u64 cap) {
  journal::LogState state;
  for (u32 index = 0; index < queue.constants().groups_max; ++index) {
    const layout::GroupSlot& slot = queue.files().group_slot(index);
    if (layout::slot_life(A::load(slot.slot, std::memory_order_acquire)) != layout::SlotLife::kLive) continue;
    Result<Mapping> mapping = queue.files().map_group(index, Access::read_only, /*prefault=*/true);
    if (!mapping) continue;
    const GroupView view =
        view_group(mapping->data(), queue.constants().words, static_cast<u32>(queue.constants().parks));
    const Settlements settled = scan_group(queue, view, slot.mode == layout::GroupMode::kCompeting, lane_end, cap);
    journal::GroupState group;
    group.name = name_of(slot);
    group.mode = static_cast<u16>(slot.mode);
    group.start = settled.base;
    group.base = settled.base;
    group.runs = log_runs(settled);
    state.groups[index] = std::move(group);
  }
  return state;
}

QueueJournal::QueueJournal(std::shared_ptr<Queue> queue, std::unique_ptr<journal::Disk> disk,
                           std::unique_ptr<journal::LogWriter> writer)
    : queue_(std::move(queue)),
      files_(&queue_->files()),
      disk_(std::move(disk)),
      writer_(std::move(writer)),
      spsc_(queue_->is_spsc()),
      delivers_(queue_->delivery_limit() != nullptr),
      order_(queue_->order()),
      groups_(queue_->constants().groups_max),
      fault_(std::make_unique<std::atomic<bool>>(false)) {}

Result<std::unique_ptr<QueueJournal>> QueueJournal::start(std::shared_ptr<Queue> queue,
                                                          std::unique_ptr<journal::Disk> disk,
                                                          std::unique_ptr<journal::LogWriter> writer) {
  std::unique_ptr<QueueJournal> journal(new QueueJournal(std::move(queue), std::move(disk), std::move(writer)));
  QueueJournal* self = journal.get();
  const QueueFiles& files = *self->files_;
  if (register_range(files.wake(), layout::wake_file_bytes(files.constants().groups_max), self->fault_.get())) {
    self->guarded_.push_back(files.wake());
  }
  if (!self->spsc_ &&
      register_range(files.order_head(), layout::order_file_bytes(files.constants().cells), self->fault_.get())) {
    self->guarded_.push_back(files.order_head());
  }
  const layout::QueueState& state = files.state();
  self->lane_at_ = {A::load(state.durable_mark, std::memory_order_acquire), self->writer_->next_seq()};
  self->durable_position_ = self->lane_at_.position;
  self->sent_position_ = self->lane_at_.position;
  self->asks_seen_ = ~u64{0};
  self->set_life(layout::JournalLife::kRunning);
  self->prepare_thread_ = std::thread([self] { self->prepare_segments(); });
  self->writer_thread_ = std::thread([self] { self->run(); });
  return journal;
}

QueueJournal::~QueueJournal() {
  stopping_.store(true, std::memory_order_release);
  wake_sleepers(files_->wake()->journal, 1);
  {
    const std::lock_guard lock(mutex_);
    changed_.notify_all();
  }
  if (writer_thread_.joinable()) writer_thread_.join();
  if (prepare_thread_.joinable()) prepare_thread_.join();
  for (const void* range : guarded_) unregister_range(range);
}

void QueueJournal::set_life(layout::JournalLife life) {
  // Relaxed: an early hint for publishers; what is promised is told by the marks.
  A::store(files_->state().journal_life, static_cast<u64>(life), std::memory_order_relaxed);
}

// --- What goes into a block -----------------------------------------------------------------------------------------

// kFull, kDiskFull: it stays in the ring. `appended` false with a good status: nothing more is published.
Status QueueJournal::append_next(bool* appended) {
  *appended = false;
  const u64 seq = writer_->next_seq();
  FrameView frame;
  if (spsc_) {
    const LaneView* lane = queue_->lane(0);
    if (lane == nullptr) return fail(Code::kCorrupt, "its lane cannot be mapped");
    const SpscReader<A> reader(*lane, seq);
    LaneCursor at = lane_at_;
    const RingOutcome found = reader.peek(&at, &frame);
    if (found == RingOutcome::kEmpty) return {};
    if (found != RingOutcome::kOk) return fail(Code::kCorrupt, "a frame in its lane makes no sense");
    if (Status taken = writer_->append_message(
            {.seq = seq, .lane = 0, .frame_flags = frame.flags, .bytes = {frame.payload, frame.len}});
        !taken) {
      return taken;
    }
    reader.step(&at, frame);
    lane_at_ = at;
  } else {
    u64 cell = 0;
    if (!is_published<A>(order_, seq, &cell)) return {};
    if (layout::cell_laps_ahead(cell, order_.lap(seq)) != 0) {
      return fail(Code::kCorrupt, "its order ring was written over");
    }
    const LaneView* lane = queue_->lane(layout::cell_lane(cell));
    if (lane == nullptr || frame_of_cell<A>(*lane, cell, seq, &frame) != RingOutcome::kOk) {
      return fail(Code::kCorrupt, "an order cell points at something that is no message");
    }
    if (Status taken = writer_->append_message(
            {.seq = seq, .lane = frame.lane, .frame_flags = frame.flags, .bytes = {frame.payload, frame.len}});
        !taken) {
      return taken;
    }
  }
  *appended = true;
  return {};
}

bool QueueJournal::copy_frames() {
  bool any = false;
  while (!failed_) {
    bool appended = false;
    const Status status = append_next(&appended);
    if (!status) {
      if (status.error().code == Code::kDiskFull) {
        if (!disk_full_) {
          disk_full_ = true;
          set_life(layout::JournalLife::kDiskFull);
          spdlog::error("queue {}: the disk of its journal is full: {}; publishers are refused until there is room",
                        queue_->name(), status.error().text);
        }
        disk_full_since_ns_ = monotonic_ns();
      } else if (status.error().code != Code::kFull) {
        take_trouble(status.error());
      }
      break;
    }
    if (!appended) break;
    if (disk_full_) {
      disk_full_ = false;
      set_life(layout::JournalLife::kRunning);
      spdlog::info("queue {}: the journal has room again", queue_->name());
    }
    any = true;
  }
  return any;
}

// GROUP_ENTERED: acquire on the epoch, before the slots are read.
Status QueueJournal::append_groups() {
  const u64 epoch = A::load(files_->state().group_epoch, std::memory_order_acquire);
  for (u32 index = 0; index < queue_->constants().groups_max; ++index) {
    const layout::GroupSlot& slot = files_->group_slot(index);
    const u64 word = A::load(slot.slot, std::memory_order_acquire);
    const bool live = layout::slot_life(word) == layout::SlotLife::kLive;
    Group& known = groups_[index];
    const bool was_live = known.mapping.data() != nullptr;
    if (live && was_live && known.generation == layout::slot_generation(word)) continue;
    const auto in_log = writer_->state().groups.find(index);
    if (was_live || (!live && in_log != writer_->state().groups.end())) {
      if (was_live) {
        unregister_range(known.mapping.data());
        std::erase(guarded_, static_cast<const void*>(known.mapping.data()));
      }
      known = Group{};
      if (in_log != writer_->state().groups.end()) {
        if (Status gone = writer_->append_group(index, journal::GroupChange::kRemove, in_log->second); !gone)
          return gone;
      }
    }
    if (!live) continue;
    Result<Mapping> mapping = files_->map_group(index, Access::read_only, /*prefault=*/true);
    if (!mapping) return fail(mapping.error());
    known.mapping = std::move(*mapping);
    known.generation = layout::slot_generation(word);
    known.competing = slot.mode == layout::GroupMode::kCompeting;
    known.view =
        view_group(known.mapping.data(), queue_->constants().words, static_cast<u32>(queue_->constants().parks));
    if (register_range(known.mapping.data(), known.mapping.size_bytes(), fault_.get())) {
      guarded_.push_back(known.mapping.data());
    }
    const auto logged = writer_->state().groups.find(index);
    if (logged != writer_->state().groups.end() && logged->second.name == name_of(slot)) {
      known.written.base = logged->second.base;
      continue;
    }
    const Settlements settled = scan_group(*queue_, known.view, known.competing, lane_at_, writer_->next_seq());
    journal::GroupState state;
    state.name = name_of(slot);
    state.mode = static_cast<u16>(slot.mode);
    state.start = settled.base;
    state.base = settled.base;
    state.runs = log_runs(settled);
    if (Status entered = writer_->append_group(index, journal::GroupChange::kCreate, state); !entered) return entered;
    if (Status cursor = writer_->append_cursor(index, state.base, state.runs); !cursor) return cursor;
    known.written = settled;
  }
  group_epoch_ = epoch;
  return {};
}

// `all`: also those that look as they did. `capped`: something is settled that the log has not got (core.md S6).
Status QueueJournal::append_settlements(bool all, bool* capped) {
  *capped = false;
  settled_ns_ = monotonic_ns();
  for (u32 index = 0; index < groups_.size(); ++index) {
    Group& group = groups_[index];
    if (group.mapping.data() == nullptr) continue;
    Settlements settled = scan_group(*queue_, group.view, group.competing, lane_at_, writer_->next_seq());
    *capped = *capped || settled.capped;
    settled.capped = false;
    if (!all && settled == group.written) continue;
    Status appended = writer_->append_cursor(index, settled.base, log_runs(settled));
    if (!appended && appended.error().code == Code::kFull) {
      if (Status flushed = flush(); !flushed) return flushed;
      appended = writer_->append_cursor(index, settled.base, log_runs(settled));
    }
    if (!appended) return appended;
    group.written = std::move(settled);
  }
  return {};
}

// --- Onto the disk, and announced -----------------------------------------------------------------------------------

Status QueueJournal::flush() {
  if (!writer_->has_unflushed()) return {};
  const u64 position = lane_at_.position;
  if (Status sent = writer_->begin_flush(); !sent) return sent;
  sent_position_ = position;
  if (Status done = writer_->finish_flush(); !done) return done;
  announce();
  return {};
}

void QueueJournal::announce() {
  layout::QueueState& state = files_->state();
  const journal::LogMark& durable = writer_->durable();
  const u64 before = A::load(state.durable_seq, std::memory_order_relaxed);  // own word
  durable_position_ = sent_position_;
  A::store(state.log_mark, durable.log_pos, std::memory_order_release);
  MOORING_KILL_POINT("journal.log_mark");
  if (durable.next_seq == before) return;
  // DURABLE: release, after the flush.
  A::store(state.durable_seq, durable.next_seq, std::memory_order_release);
  MOORING_KILL_POINT("journal.durable_seq");
  A::store(state.durable_mark, spsc_ ? durable_position_ : durable.next_seq, std::memory_order_release);
  MOORING_KILL_POINT("journal.durable_mark");
  A::full_fence();  // SLEEPING, with the marks as what was published
  if (A::load(files_->wake()->durable.sleepers, std::memory_order_relaxed) != 0) {
    wake_sleepers(files_->wake()->durable, ~u32{0} >> 1);
  }
  if (delivers_) wake_delivery(durable.next_seq - before);
}

void QueueJournal::wake_delivery(u64 count) {
  for (u32 index = 0; index < groups_.size(); ++index) {
    layout::WakeSlot& slot = files_->group_wake(index);
    if (A::load(slot.sleepers, std::memory_order_relaxed) != 0) {
      wake_sleepers(slot, static_cast<u32>(std::min<u64>(count, ~u32{0} >> 1)));
    }
  }
  // Producers that wait for room wait for this mark as well.
  if (A::load(files_->wake()->room.sleepers, std::memory_order_relaxed) != 0) {
    wake_sleepers(files_->wake()->room, ~u32{0} >> 1);
  }
}

// ack_sync: somebody waits for its settlements.
void QueueJournal::settle_asks() {
  const u64 asks = A::load(files_->wake()->settle_asks, std::memory_order_seq_cst);
  if (asks == asks_seen_) return;
  layout::QueueState& state = files_->state();
  // SETTLE_EPOCH: seq_cst, before the scan.
  const u64 epoch = A::add(state.settle_epoch, u64{1}, std::memory_order_seq_cst) + 1;
  bool capped = false;
  Status status = append_settlements(/*all=*/false, &capped);
  if (status) status = flush();
  if (!status) {
    take_trouble(status.error());
    return;
  }
  if (capped) return;  // `early`: the rest waits for the messages it is of; asked again next turn
  asks_seen_ = asks;
  A::store(state.settled_epoch, epoch, std::memory_order_release);
  A::full_fence();  // SLEEPING
  wake_sleepers(files_->wake()->durable, ~u32{0} >> 1);
}

void QueueJournal::take_trouble(const Error& error) {
  if (error.code == Code::kDiskFull || error.code == Code::kFull) return;  // control records wait; said where it began
  if (failed_) return;
  failed_ = true;
  set_life(layout::JournalLife::kFailed);
  {
    const std::lock_guard lock(mutex_);
    trouble_ = error.text;
    groups_status_ = fail(error);
    changed_.notify_all();
  }
  spdlog::error("queue {}: its journal takes nothing more: {}; what was acknowledged is safe", queue_->name(),
                error.text);
  A::full_fence();  // SLEEPING
  wake_sleepers(files_->wake()->durable, ~u32{0} >> 1);
  wake_sleepers(files_->wake()->room, ~u32{0} >> 1);
}

// --- The thread -----------------------------------------------------------------------------------------------------

// One turn. False: there was nothing to do.
bool QueueJournal::turn() {
  if (fault_->load(std::memory_order_acquire)) {
    take_trouble({Code::kCorrupt, "a file of the queue was cut short under its mapping"});
    return false;
  }
  Status status;
  bool did = false;
  const u64 now_ns = monotonic_ns();
  u64 asked = 0;
  {
    const std::lock_guard lock(mutex_);  // before the groups are looked at: who asked has changed them already
    asked = groups_asked_;
  }
  // What does not fit this block any more goes into the next one; both look again by themselves.
  const auto unless_full = [](Status appended) {
    return !appended && appended.error().code == Code::kFull ? Status{} : appended;
  };
  if (A::load(files_->state().group_epoch, std::memory_order_acquire) != group_epoch_) {
    status = unless_full(append_groups());
  }
  if (!disk_full_ || now_ns - disk_full_since_ns_ >= kRetryFullNs) copy_frames();
  if (status && now_ns - settled_ns_ >= kSettleEveryNs) {
    bool capped = false;
    status = unless_full(append_settlements(/*all=*/false, &capped));
  }
  if (status && writer_->has_unflushed()) {
    did = true;
    is_sealed_ = false;
    const u64 position = lane_at_.position;
    status = writer_->begin_flush();
    if (status) {
      sent_position_ = position;
      copy_frames();  // the next block, while this one is on its way
      status = writer_->finish_flush();
    }
    if (status) announce();
  }
  if (status) settle_asks();
  if (!status && status.error().code != Code::kDiskFull && status.error().code != Code::kFull) {
    take_trouble(status.error());
    return false;
  }
  const bool groups_are_in = A::load(files_->state().group_epoch, std::memory_order_acquire) == group_epoch_;
  // They went into a block that this turn or one before has flushed.
  if (status && asked != groups_written_ && groups_are_in) {
    const std::lock_guard lock(mutex_);
    groups_written_ = asked;
    changed_.notify_all();
  }
  if (!failed_ && now_ns - retired_ns_ >= kRetireEveryNs) {
    retired_ns_ = now_ns;
    if (writer_->snapshot_due()) {
      status = writer_->snapshot();
      if (status) status = flush();
    }
    if (status) {
      u64 lowest = writer_->durable().next_seq;
      for (const Group& group : groups_) {
        if (group.mapping.data() != nullptr) lowest = std::min(lowest, group.written.base);
      }
      if (auto retired = writer_->retire(lowest); !retired) status = fail(retired.error());
    }
    if (!status) take_trouble(status.error());
    const std::lock_guard lock(mutex_);
    counts_ = {writer_->counters(), writer_->total_bytes()};
    prepare_asked_ = true;
    changed_.notify_all();
  }
  return did;
}

void QueueJournal::rest() {
  const u64 now_ns = monotonic_ns();
  if (quiet_since_ns_ == 0) quiet_since_ns_ = now_ns;
  if (!is_sealed_ && !failed_ && now_ns - quiet_since_ns_ >= kQuietNs) {
    is_sealed_ = true;
    if (Status sealed = writer_->seal(); !sealed) take_trouble(sealed.error());
    announce();
  }
  const auto has_work = [this] {
    if (stopping_.load(std::memory_order_acquire)) return true;
    if (A::load(files_->wake()->settle_asks, std::memory_order_seq_cst) != asks_seen_) return true;
    if (A::load(files_->state().group_epoch, std::memory_order_acquire) != group_epoch_) return true;
    if (failed_ || disk_full_) return false;
    if (spsc_) {
      const LaneView* lane = queue_->lane(0);
      return lane != nullptr && SpscReader<A>(*lane, 0).poll(lane_at_);
    }
    u64 cell = 0;
    return is_published<A>(order_, writer_->next_seq(), &cell);
  };
  for (u32 pauses = 1;; ++pauses) {
    if (has_work()) return;
    A::pause();
    if (pauses % kPausesPerYield != 0) continue;
    if (monotonic_ns() - now_ns >= kSpinNs) break;
    ::sched_yield();
  }
  // Acknowledgements come without a wake: look at them while consumers may be at work.
  const u64 bound_ns = now_ns - quiet_since_ns_ < kNsPerSecond ? kSettleEveryNs : kRestMostNs;
  Sleeper sleeper(files_->wake()->journal);
  (void)sleeper.sleep(now_ns + bound_ns, has_work);
}

void QueueJournal::run() {
  while (!stopping_.load(std::memory_order_acquire)) {
    if (turn()) {
      quiet_since_ns_ = 0;
    } else {
      rest();
    }
  }
  // Everything published by now, and what was settled of it.
  while (!failed_ && copy_frames()) {
    if (Status status = flush(); !status) take_trouble(status.error());
  }
  bool capped = false;
  Status status = failed_ ? Status{} : append_settlements(/*all=*/true, &capped);
  if (status && !failed_) status = flush();
  if (status && !failed_) status = writer_->seal(journal::SealReason::kClosed);
  if (!status) spdlog::error("queue {}: closing its journal: {}", queue_->name(), status.error().text);
  if (!failed_) {
    announce();
    set_life(layout::JournalLife::kStopped);
  }
}

void QueueJournal::prepare_segments() {
  std::unique_lock lock(mutex_);
  while (!stopping_.load(std::memory_order_acquire)) {
    if (!prepare_asked_) {
      changed_.wait(lock);
      continue;
    }
    prepare_asked_ = false;
    lock.unlock();
    // A full disk is met again, and told, where the segment is needed.
    if (Status made = writer_->prepare(); !made && made.error().code != Code::kDiskFull) {
      spdlog::warn("queue {}: preparing a segment of its journal: {}", queue_->name(), made.error().text);
    }
    lock.lock();
  }
}

Status QueueJournal::write_groups(u64 timeout_ns) {
  std::unique_lock lock(mutex_);
  const u64 ask = ++groups_asked_;
  wake_sleepers(files_->wake()->journal, 1);
  const bool done = changed_.wait_for(lock, std::chrono::nanoseconds(timeout_ns),
                                      [&] { return groups_written_ >= ask || !trouble_.empty(); });
  if (!trouble_.empty())
    return fail(Code::kIo, fmt::format("queue {}: its journal failed: {}", queue_->name(), trouble_));
  if (!done) {
    return fail(Code::kTimeout, fmt::format("queue {}: the group is there, but its journal has not written it in time; "
                                            "the disk is slow",
                                            queue_->name()));
  }
  return {};
}

QueueJournal::Counts QueueJournal::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

std::string QueueJournal::trouble() const {
  const std::lock_guard lock(mutex_);
  return trouble_;
}

}  // namespace mooring
