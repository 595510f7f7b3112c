#include "supervisor/queue_journal.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cstring>
#include <map>
#include <optional>
#include <set>

#include "base/kill_point.hpp"
#include "message/decoder.hpp"
#include "platform/fault_guard.hpp"
#include "queue/duplicates.hpp"
#include "queue/wait_strategy.hpp"
#include "segment/dead_letters.hpp"
#include "supervisor/group_name.hpp"

namespace mooring {
namespace {

using A = HardwareAtomics;

// Acknowledgements alone are written this often (core.md 5.5): a power cut delivers that much of them again.
constexpr u64 kSettleEveryNs = 10 * kNsPerMs;
// After this much quiet the log is sealed, so that even its last block is proved (core.md 6.2).
constexpr u64 kQuietNs = 50 * kNsPerMs;
constexpr u64 kRetireEveryNs = 100 * kNsPerMs;
constexpr u64 kRetryFullNs = 100 * kNsPerMs;
constexpr u64 kParksPerLook = 256;  // brought forward at a time
constexpr u32 kSpillAtATime = 256;  // messages between two looks whether that is enough
constexpr u64 kRestMostNs = 100 * kNsPerMs;
// How long the thread looks at the ring before it sleeps: a publisher that waits for its flush publishes again about
// now, and a sleep and a wake cost more than a flush of a fast disk.
constexpr u64 kSpinNs = 20 * kNsPerUs;

std::vector<journal::AckRun> log_runs(const Settlements& settled) {
  std::vector<journal::AckRun> runs;
  runs.reserve(settled.runs.size());
  for (const SettledRun& run : settled.runs) runs.push_back({run.first, run.count});
  return runs;
}

journal::GroupState group_state(const layout::GroupSlot& slot, const Settlements& settled) {
  journal::GroupState group;
  group.name = group_name(slot);
  group.mode = static_cast<u16>(slot.mode);
  group.start = settled.base;
  group.base = settled.base;
  group.runs = log_runs(settled);
  group.config.assign(reinterpret_cast<const char*>(&slot.policy), sizeof slot.policy);
  return group;
}

// A group as its own files say.
Settlements scan_group(const GroupView& view, bool competing, u64 cap) {
  if (competing) return scan_competing<A>(view, cap);
  return scan_exclusive<A>(view, A::load(view.head->acked, std::memory_order_acquire), cap);  // SETTLED
}

// The messages of a group that consumers acknowledged in its park table: their records are of no use any more.
std::set<u64> acknowledged_parks(const GroupView& view) {
  std::set<u64> acknowledged;
  for (u32 at = 0; at < view.parks_count; ++at) {
    const layout::ParkEntry& entry = view.parks[at];
    if (layout::read_park_word(A::load(entry.word, std::memory_order_acquire)).state == layout::ParkState::kAcked) {
      acknowledged.insert(A::load(entry.seq, std::memory_order_relaxed));
    }
  }
  return acknowledged;
}

}  // namespace

Result<journal::LogState> log_state_of(const Queue& queue, u64 cap) {
  journal::LogState state;
  std::map<u32, std::set<u64>> acknowledged;  // of the groups that are entered
  for (u32 index = 0; index < queue.constants().groups_max; ++index) {
    const layout::GroupSlot& slot = queue.files().group_slot(index);
    if (layout::slot_life(A::load(slot.slot, std::memory_order_acquire)) != layout::SlotLife::kLive) continue;
    Result<Mapping> mapping = queue.files().map_group(index, Access::read_only, /*prefault=*/true);
    if (!mapping) return fail(mapping.error());
    const GroupView view =
        view_group(mapping->data(), queue.constants().words, static_cast<u32>(queue.constants().parks));
    state.groups[index] = group_state(slot, scan_group(view, slot.mode == layout::GroupMode::kCompeting, cap));
    acknowledged[index] = acknowledged_parks(view);
  }
  if (!queue.is_durable()) return state;  // the park store is whole, and goes with the memory as the log does
  // What waits in the park store: a snapshot that has the cursors, which count it as settled, has it too (ORDER).
  const auto wants = [&](u32 group, u32 generation, layout::RecordState waits) {
    return is_in_log(waits) && acknowledged.contains(group) &&
           generation == layout::slot_generation(queue.files().group_slot(group).slot);
  };
  // A damaged file must not make the log forget what it has of it.
  const Status walked = each_parked(queue.files(), wants, /*with_payload=*/false, [&](const ParkedMessage& message) {
    const layout::ParkRecord& record = message.record;
    if (record.seq < cap && !acknowledged[record.group].contains(record.seq)) {
      state.parks[{record.group, record.seq}] = park_in_log(record, message.word);
    }
    return true;
  });
  if (!walked) return fail(walked.error());
  return state;
}

QueueJournal::QueueJournal(std::shared_ptr<Queue> queue, std::unique_ptr<journal::Disk> disk,
                           std::unique_ptr<journal::LogWriter> writer)
    : queue_(std::move(queue)),
      files_(&queue_->files()),
      disk_(std::move(disk)),
      writer_(std::move(writer)),
      reader_(*disk_, writer_->options().uuid),
      spsc_(queue_->is_spsc()),
      spills_(queue_->spills()),
      delivers_(queue_->delivery_limit() != nullptr),
      order_(queue_->order()),
      groups_(queue_->constants().groups_max),
      lane_guarded_(queue_->constants().lanes_max, false),
      fault_(std::make_unique<std::atomic<bool>>(false)) {}

Result<std::unique_ptr<QueueJournal>> QueueJournal::start(std::shared_ptr<Queue> queue,
                                                          std::unique_ptr<journal::Disk> disk,
                                                          std::unique_ptr<journal::LogWriter> writer,
                                                          const std::vector<journal::ParkRecord>& parks) {
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
  if (const layout::QueueConstants& constants = files.constants(); layout::finds_duplicates(constants)) {
    forget_duplicates_from<A>(files.state(), self->writer_->next_seq());
    self->duplicates_.emplace(journal::DuplicateBounds{constants.dedup_max_messages, constants.dedup_window_ns},
                              self->writer_->state().ids);
    A::store(files.state().ids_known, self->duplicates_->size(), std::memory_order_relaxed);
  }
  const auto generation_of = [&files](u32 group) { return layout::slot_generation(files.group_slot(group).slot); };
  auto stale = self->writer_->state().parks;
  for (const journal::ParkRecord& park : parks) {
    const auto known = stale.find({park.group, park.seq});
    const bool same = known != stale.end() && known->second.state == park.state &&
                      known->second.acquired == park.acquired && known->second.failed == park.failed &&
                      known->second.message_log_pos != 0;
    if (known != stale.end()) stale.erase(known);
    if (!same) self->notes_.push_back({false, generation_of(park.group), park});
  }
  for (const auto& [key, park] : stale) self->notes_.push_back({true, generation_of(park.group), park});
  self->backlog_steps_.assign(self->writer_->index().begin(), self->writer_->index().end());
  self->backlog_end_ = self->writer_->durable().log_pos;
  self->holds_spilled_ = self->spills_;  // by a predecessor
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

// A lane is its producer's to write, and to cut short.
const LaneView* QueueJournal::guarded_lane(u32 index) {
  const LaneView* lane = queue_->lane(index);
  if (lane != nullptr && !lane_guarded_[index]) {
    lane_guarded_[index] = true;
    if (register_range(lane->head, layout::lane_file_bytes(lane->size_bytes), fault_.get())) {
      guarded_.push_back(lane->head);
    }
  }
  return lane;
}

// What every group has finished need not be in the log. False: a group has entered, and is not known here yet.
bool QueueJournal::find_floor() {
  u64 floor = ~u64{0};
  for (const Group& group : groups_) {
    if (group.mapping.data() == nullptr) continue;
    floor = std::min(floor, group.competing ? effective_base<A>(group.view)
                                            : A::load(group.view.head->base, std::memory_order_acquire));  // FREED
  }
  A::full_fence();  // GROUP_ENTERED
  if (A::load(files_->state().group_epoch, std::memory_order_acquire) != group_epoch_ || floor == ~u64{0}) return false;
  spill_from_ = std::max(writer_->next_seq(), floor);
  return true;
}

bool QueueJournal::must_spill() {
  if (!find_floor()) return false;
  u64 cell = 0;
  const u64 behind = order_.count() / (spilling_ ? 4 : 2);
  spilling_ = is_published<A>(order_, spill_from_ + behind, &cell);
  if (spilling_ || !is_published<A>(order_, spill_from_, &cell)) return spilling_;
  for (u32 index = 0; index < queue_->constants().lanes_max && !spilling_; ++index) {
    if (layout::slot_life(A::load(files_->lane_slot(index).slot, std::memory_order_acquire)) !=
        layout::SlotLife::kLive) {
      continue;
    }
    const LaneView* lane = guarded_lane(index);
    spilling_ = lane != nullptr && A::load(lane->head->blocked, std::memory_order_acquire) != 0;  // SLEEPING
  }
  return spilling_;
}

// As append_next, of frames that may be overwritten meanwhile.
Status QueueJournal::append_spilled(bool* appended) {
  *appended = false;
  for (;;) {
    const u64 seq = spill_from_;
    u64 cell = 0;
    if (!is_published<A>(order_, seq, &cell)) return {};
    const LaneView* lane = nullptr;
    if (layout::cell_laps_ahead(cell, order_.lap(seq)) == 0) {
      lane = guarded_lane(layout::cell_lane(cell));
      FrameView frame;
      const bool good = lane != nullptr && frame_of_cell<A>(*lane, cell, seq, &frame) == RingOutcome::kOk;
      if (good) {
        spilled_.resize(frame.len);
        A::copy_out(spilled_.data(), frame.payload, frame.len);
      }
      if (lane != nullptr && still_there<A>(*lane, seq)) {
        if (!good) return fail(Code::kCorrupt, "an order cell points at something that is no message");
        if (Status taken = writer_->append_message(
                {.seq = seq, .lane = frame.lane, .frame_flags = frame.flags, .bytes = spilled_});
            !taken) {
          return taken;
        }
        count_backlog(seq, frame.len);
        holds_spilled_ = true;
        spill_from_ = seq + 1;
        *appended = true;
        return {};
      }
    }
    // Overwritten: every group has finished it, and whoever overwrote it has seen so.
    if (!find_floor()) return {};
    if (spill_from_ <= seq) return fail(Code::kCorrupt, "its order ring was written over");
  }
}

// kFull, kDiskFull: it stays in the ring. `appended` false with a good status: nothing more is published.
Status QueueJournal::append_next(bool* appended) {
  *appended = false;
  const u64 seq = writer_->next_seq();
  FrameView frame;
  if (spsc_) {
    const LaneView* lane = guarded_lane(0);
    if (lane == nullptr) return fail(Code::kCorrupt, "its lane cannot be mapped");
    const SpscReader<A> reader(*lane, seq);
    LaneCursor at = lane_at_;
    const RingOutcome found = reader.peek(&at, &frame);
    if (found == RingOutcome::kEmpty) return {};
    if (found != RingOutcome::kOk) return fail(Code::kCorrupt, "a frame in its lane makes no sense");
    frame.lane = 0;
    if (Status taken = append_frame(frame); !taken) return taken;
    reader.step(&at, frame);
    lane_at_ = at;
  } else {
    u64 cell = 0;
    if (!is_published<A>(order_, seq, &cell)) return {};
    if (layout::cell_laps_ahead(cell, order_.lap(seq)) != 0) {
      return fail(Code::kCorrupt, "its order ring was written over");
    }
    const LaneView* lane = guarded_lane(layout::cell_lane(cell));
    if (lane == nullptr || frame_of_cell<A>(*lane, cell, seq, &frame) != RingOutcome::kOk) {
      return fail(Code::kCorrupt, "an order cell points at something that is no message");
    }
    if (Status taken = append_frame(frame); !taken) return taken;
  }
  *appended = true;
  return {};
}

inline Status QueueJournal::append_frame(const FrameView& frame) {
  if ((frame.flags & layout::kFrameExtension) != 0 && duplicates_.has_value()) return append_judged(frame);
  Status taken = writer_->append_message(
      {.seq = frame.seq, .lane = frame.lane, .frame_flags = frame.flags, .bytes = {frame.payload, frame.len}});
  if (taken) count_backlog(frame.seq, frame.len);
  return taken;
}

// Decided and appended together, or not at all: what does not fit is decided again.
Status QueueJournal::append_judged(const FrameView& frame) {
  journal::MessageAppend append{
      .seq = frame.seq, .lane = frame.lane, .frame_flags = frame.flags, .bytes = {frame.payload, frame.len}};
  u64 extension_bytes = 0;
  u64 headers_count = 0;
  message::Headers headers;
  // Headers that make no sense are their consumers' to refuse.
  if (message::extension_of({frame.payload, frame.len}, &extension_bytes) != Code::kOk ||
      message::read_headers({frame.payload, extension_bytes}, &headers, &headers_count) != Code::kOk ||
      headers.message_id.empty()) {
    Status taken = writer_->append_message(append);
    if (taken) count_backlog(frame.seq, frame.len);
    return taken;
  }
  const std::span id(reinterpret_cast<const u8*>(headers.message_id.data()), headers.message_id.size());
  const journal::MessageIdRecord judged =
      duplicates_->judge(frame.seq, journal::hash_id(writer_->options().uuid, id), writer_->options().times().wall_ns,
                         writer_->durable().next_seq);
  append.id = &judged;
  append.duplicate = judged.first != judged.seq;
  if (append.duplicate) {
    append.frame_flags &= ~(layout::kFrameExtension | layout::kFrameTimed);
    append.bytes = {reinterpret_cast<const u8*>(&judged.first), sizeof judged.first};
  }
  if (Status taken = writer_->append_message(append); !taken) return taken;
  MOORING_KILL_POINT("journal.judged");
  count_backlog(frame.seq, append.bytes.size());
  duplicates_->accept(judged);
  layout::QueueState& state = files_->state();
  A::store(state.ids_known, duplicates_->size(), std::memory_order_relaxed);
  if (!append.duplicate) return {};
  // DUPLICATE: before the marks pass it.
  note_duplicate<A>(state, judged.seq, judged.first);
  MOORING_KILL_POINT("journal.duplicate_noted");
  return {};
}

// The lowest seq that some group has not settled, as far as the log was told.
u64 QueueJournal::lowest_settled() const {
  u64 lowest = writer_->next_seq();
  for (const Group& group : groups_) {
    if (group.mapping.data() != nullptr) lowest = std::min(lowest, group.written.base);
  }
  return lowest;
}

// max_backlog_bytes: the messages in the log that some group has not settled, exact to a step. What was in the log when
// it was opened counts with the control records between.
u64 QueueJournal::backlog_bytes() {
  const u64 lowest = lowest_settled();
  if (lowest >= writer_->next_seq()) return 0;
  while (backlog_steps_.size() > 1 && backlog_steps_[1].seq <= lowest) backlog_steps_.pop_front();
  return backlog_end_ - std::min(backlog_end_, backlog_steps_.empty() ? u64{0} : backlog_steps_.front().log_pos);
}

// A group has begun further back than any before it.
void QueueJournal::count_backlog_anew() {
  backlog_steps_.assign(writer_->index().begin(), writer_->index().end());
  backlog_end_ = writer_->durable().log_pos;
}

void QueueJournal::count_backlog(u64 seq, u64 message_bytes) {
  const u64 step_bytes = std::clamp<u64>(queue_->constants().max_backlog_bytes / 64, 4 << 10, 256 << 10);
  if (backlog_steps_.empty() || backlog_end_ - backlog_steps_.back().log_pos >= step_bytes) {
    backlog_steps_.push_back({seq, backlog_end_});
  }
  backlog_end_ += journal::record_bytes(sizeof(journal::MessageRecord) + message_bytes);
}

bool QueueJournal::backlog_is_full() {
  const u64 bytes = backlog_bytes();
  backlog_now_.store(bytes, std::memory_order_relaxed);
  const bool full = bytes >= queue_->constants().max_backlog_bytes;
  if (full == backlog_full_) return full;
  backlog_full_ = full;
  if (full) {
    spdlog::warn(
        "queue {}: {} bytes of messages wait to be settled, as many as max_backlog_bytes allows; publishers "
        "wait or are refused until its groups have settled some",
        queue_->name(), bytes);
  } else {
    spdlog::info("queue {}: its backlog has room again", queue_->name());
  }
  set_life(full         ? layout::JournalLife::kBacklogFull
           : disk_full_ ? layout::JournalLife::kDiskFull
                        : layout::JournalLife::kRunning);
  if (!full) {
    A::full_fence();  // SLEEPING, with journal_life as what was published
    wake_sleepers(files_->wake()->room, ~u32{0} >> 1);
  }
  return full;
}

bool QueueJournal::copy_frames() {
  bool any = false;
  for (u32 steps = 0; !failed_ && !backlog_is_full(); ++steps) {
    if (spills_ && steps % kSpillAtATime == 0 && !must_spill()) break;
    bool appended = false;
    const Status status = spills_ ? append_spilled(&appended) : append_next(&appended);
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

// What does not fit the block that fills goes into the next one.
template <class Append>
Status QueueJournal::append_or_flush(Append&& append) {
  Status appended = append();
  if (appended || appended.error().code != Code::kFull) return appended;
  if (Status flushed = flush(); !flushed) return flushed;
  return append();
}

// GROUP_ENTERED: acquire on the epoch, before the slots are read. A group counts as known once its record is appended,
// so that whatever fails in between is done again.
Status QueueJournal::append_groups() {
  const u64 epoch = A::load(files_->state().group_epoch, std::memory_order_acquire);
  bool all_born = true;
  for (u32 index = 0; index < queue_->constants().groups_max; ++index) {
    const layout::GroupSlot& slot = files_->group_slot(index);
    const u64 word = A::load(slot.slot, std::memory_order_acquire);
    // It becomes live without another epoch.
    all_born = all_born && layout::slot_life(word) != layout::SlotLife::kEntering;
    const bool live = layout::slot_life(word) == layout::SlotLife::kLive;
    Group& known = groups_[index];
    const bool was_live = known.mapping.data() != nullptr;
    if (live && was_live && known.generation == layout::slot_generation(word)) {
      if (Status written = append_settings(index, slot); !written) return written;
      continue;
    }
    if (was_live) {
      unregister_range(known.mapping.data());
      std::erase(guarded_, static_cast<const void*>(known.mapping.data()));
      known = Group{};
      known.replaced = true;
    }
    auto in_log = writer_->state().groups.find(index);
    const bool same = in_log != writer_->state().groups.end() && !known.replaced && live &&
                      in_log->second.name == group_name(slot) && in_log->second.mode == static_cast<u16>(slot.mode);
    if (in_log != writer_->state().groups.end() && !same) {
      const journal::GroupState gone = in_log->second;
      if (Status removed =
              append_or_flush([&] { return writer_->append_group(index, journal::GroupChange::kRemove, gone); });
          !removed) {
        return removed;
      }
    }
    known.replaced = false;
    if (!live) continue;
    Result<Mapping> mapping = files_->map_group(index, Access::read_only, /*prefault=*/true);
    if (!mapping) return fail(mapping.error());
    Group born;
    born.generation = layout::slot_generation(word);
    born.competing = slot.mode == layout::GroupMode::kCompeting;
    born.view = view_group(mapping->data(), queue_->constants().words, static_cast<u32>(queue_->constants().parks));
    if (same) {
      born.written.base = in_log->second.base;
      if (Status written = append_settings(index, slot); !written) return written;
    } else {
      const Settlements settled = scan_group(born.view, born.competing, writer_->next_seq());
      const journal::GroupState state = group_state(slot, settled);
      if (Status entered =
              append_or_flush([&] { return writer_->append_group(index, journal::GroupChange::kCreate, state); });
          !entered) {
        return entered;
      }
      born.written.base = settled.base;  // the runs, if there are any, with the next settlements
    }
    born.mapping = std::move(*mapping);
    if (register_range(born.mapping.data(), born.mapping.size_bytes(), fault_.get())) {
      guarded_.push_back(born.mapping.data());
    }
    known = std::move(born);
    if (!backlog_steps_.empty() && known.written.base < backlog_steps_.front().seq) count_backlog_anew();
  }
  if (all_born) group_epoch_ = epoch;
  return {};
}

// `all`: also those that look as they did. `capped`: something is settled that the log has not got (core.md S6).
Status QueueJournal::append_settlements(bool all, bool* capped) {
  *capped = false;
  settled_ns_ = monotonic_ns();
  for (u32 index = 0; index < groups_.size(); ++index) {
    Group& group = groups_[index];
    if (group.mapping.data() == nullptr) continue;
    Settlements settled = scan_group(group.view, group.competing, writer_->next_seq());
    *capped = *capped || settled.capped;
    settled.capped = false;
    // ORDER: notes after the words, and before the cursor that may have passed what they are about.
    const std::vector<journal::AckRun> runs = log_runs(settled);
    if (Status noted = append_notes(journal::cursor_bytes(runs.size())); !noted) return noted;
    if (!all && settled == group.written) continue;
    if (Status appended =
            append_or_flush([&] { return writer_->append_cursor(index, settled.base, runs); });
        !appended) {
      return appended;
    }
    group.written = std::move(settled);
  }
  return {};
}

// A group that stands, with other settings than the log has.
Status QueueJournal::append_settings(u32 index, const layout::GroupSlot& slot) {
  const auto in_log = writer_->state().groups.find(index);
  if (in_log == writer_->state().groups.end()) return {};
  const std::string_view settings(reinterpret_cast<const char*>(&slot.policy), sizeof slot.policy);
  if (in_log->second.config == settings) return {};
  journal::GroupState changed = in_log->second;
  changed.config = settings;
  return append_or_flush([&] { return writer_->append_group(index, journal::GroupChange::kCreate, changed); });
}

void QueueJournal::note_park(const journal::ParkRecord& park, u32 generation) {
  const std::lock_guard lock(mutex_);
  if (!trouble_.empty()) return;  // nothing is written any more; the store has it, for the next supervisor
  notes_.push_back({false, generation, park});
}

void QueueJournal::note_release(u32 group, u32 generation, u64 seq, u32 reason) {
  journal::ParkRecord park{};
  park.group = group;
  park.seq = seq;
  park.reason = reason;
  const std::lock_guard lock(mutex_);
  if (!trouble_.empty()) return;
  notes_.push_back({true, generation, park});
}

// What could not be written stays, in order; and so does what is about a message that the log has not got yet
// (`early`): after a power cut its seq would be another's. So does what is about a group that the log has not got yet;
// what is about one that is gone went with it.
Status QueueJournal::append_notes(u64 behind) {
  std::vector<ParkNote> notes;
  {
    const std::lock_guard lock(mutex_);
    if (notes_.empty()) return {};
    notes.swap(notes_);
  }
  std::erase_if(notes, [this](const ParkNote& note) {
    return layout::slot_generation(A::load(files_->group_slot(note.park.group).slot, std::memory_order_acquire)) !=
           note.generation;
  });
  const auto later = std::stable_partition(notes.begin(), notes.end(), [this](const ParkNote& note) {
    const Group& group = groups_[note.park.group];
    return note.park.seq < writer_->next_seq() && group.mapping.data() != nullptr &&
           group.generation == note.generation;
  });
  if (later != notes.end()) {
    const std::lock_guard lock(mutex_);
    notes_.insert(notes_.begin(), later, notes.end());
    notes.erase(later, notes.end());
  }
  // A PARK that is on the disk without the CURSOR behind it is a message that comes twice after a power cut, where it
  // has left the window since the last CURSOR: one block has both.
  if (!notes.empty() && !writer_->fits(notes.size() * journal::record_bytes(sizeof(journal::ParkRecord)) + behind)) {
    if (Status flushed = flush(); !flushed) {
      const std::lock_guard lock(mutex_);
      notes_.insert(notes_.begin(), notes.begin(), notes.end());
      return flushed;
    }
  }
  for (std::size_t index = 0; index < notes.size(); ++index) {
    ParkNote& note = notes[index];
    if (!note.release) {
      // Where it was said to be before: perhaps a copy, brought forward, and the segment of the first one gone.
      const auto known = writer_->state().parks.find({note.park.group, note.park.seq});
      note.park.message_log_pos = known != writer_->state().parks.end() && known->second.message_log_pos != 0
                                      ? known->second.message_log_pos
                                      : writer_->locate(note.park.seq);
    }
    const Status appended = append_or_flush([&] {
      return note.release ? writer_->append_release(note.park.group, note.park.seq, note.park.reason)
                          : writer_->append_park(note.park);
    });
    if (appended) continue;
    const std::lock_guard lock(mutex_);
    notes_.insert(notes_.begin(), notes.begin() + static_cast<std::ptrdiff_t>(index), notes.end());
    return appended;
  }
  return {};
}

// ack_sync of a message that came from the park store: the keeper has perhaps not seen yet that it is acknowledged.
Status QueueJournal::append_released() {
  for (u32 index = 0; index < groups_.size(); ++index) {
    const Group& group = groups_[index];
    if (group.mapping.data() == nullptr) continue;
    for (u32 at = 0; at < group.view.parks_count; ++at) {
      const layout::ParkEntry& entry = group.view.parks[at];
      const u64 word = A::load(entry.word, std::memory_order_acquire);  // SETTLED
      if (layout::read_park_word(word).state != layout::ParkState::kAcked) continue;
      const u64 seq = A::load(entry.seq, std::memory_order_acquire);
      // Freed and used for another one meanwhile: then its keeper has noted the release, and notes come next.
      if (A::load(entry.word, std::memory_order_acquire) != word) continue;
      if (!writer_->state().parks.contains({index, seq})) continue;
      if (Status appended = append_or_flush([&] { return writer_->append_release(index, seq); }); !appended) {
        return appended;
      }
    }
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
  // Snapshots and seals flush what was appended by themselves.
  durable_position_ = durable.next_seq == writer_->next_seq() ? lane_at_.position : sent_position_;
  A::store(state.log_mark, durable.log_pos, std::memory_order_release);
  count_flushes();
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
  // Producers that wait for room wait for this mark as well.
  if (A::load(files_->wake()->room.sleepers, std::memory_order_relaxed) != 0) {
    wake_sleepers(files_->wake()->room, ~u32{0} >> 1);
  }
}

// Figures for metrics. They go on over restarts, so what the log's writer counts from zero is added.
void QueueJournal::count_flushes() {
  layout::QueueState& state = files_->state();
  const journal::LogCounters& now = writer_->counters();
  const auto add = [](u64& total, u64 more) {
    if (more != 0) A::store(total, A::load(total, std::memory_order_relaxed) + more, std::memory_order_relaxed);
  };
  // A log that spills is never flushed.
  if (!spills_) add(state.journal_syncs_total, now.syncs - std::exchange(syncs_counted_, now.syncs));
  add(state.journal_errors_total, now.segments_poisoned - std::exchange(errors_counted_, now.segments_poisoned));
}

void QueueJournal::measure() {
  layout::QueueState& state = files_->state();
  A::store(state.journal_bytes, writer_->total_bytes(), std::memory_order_relaxed);
  A::store(state.journal_segments, u64{writer_->retained().size()} + 1, std::memory_order_relaxed);
  A::store(state.journal_backlog_bytes, backlog_bytes(), std::memory_order_relaxed);
}

void QueueJournal::wake_delivery(u64 count) {
  for (u32 index = 0; index < groups_.size(); ++index) {
    layout::WakeSlot& slot = files_->group_wake(index);
    if (A::load(slot.sleepers, std::memory_order_relaxed) != 0) {
      wake_sleepers(slot, static_cast<u32>(std::min<u64>(count, ~u32{0} >> 1)));
    }
  }
}

// ack_sync: somebody waits for its settlements.
void QueueJournal::settle_asks() {
  const u64 asks = A::load(files_->wake()->settle_asks, std::memory_order_seq_cst);
  if (asks == asks_seen_) return;
  asks_tried_ = asks;
  layout::QueueState& state = files_->state();
  // SETTLE_EPOCH: seq_cst, before the scan.
  const u64 epoch = A::add(state.settle_epoch, u64{1}, std::memory_order_seq_cst) + 1;
  MOORING_KILL_POINT("journal.settle_epoch");
  bool capped = false;
  Status status = append_settlements(/*all=*/false, &capped);
  if (status) status = append_released();
  if (status) status = append_notes();
  if (status) status = flush();
  if (!status) {
    take_trouble(status.error());
    return;
  }
  if (capped) return;  // `early`: the rest waits for the messages it is of; asked again next turn
  asks_seen_ = asks;
  MOORING_KILL_POINT("journal.settlements_synced");
  A::store(state.settled_epoch, epoch, std::memory_order_release);
  MOORING_KILL_POINT("journal.settled_epoch");
  A::full_fence();  // SLEEPING
  wake_sleepers(files_->wake()->durable, ~u32{0} >> 1);
}

// A group wants to begin where the log does. GROUP_ENTERED: its epoch was raised before it asked, so retire() of this
// thread sees it and lets everything be.
void QueueJournal::tell_oldest() {
  const std::lock_guard lock(mutex_);
  if (oldest_asked_ == oldest_told_) return;
  oldest_told_ = oldest_asked_;
  oldest_ = reader_.oldest(writer_->durable());
  changed_.notify_all();
}

void QueueJournal::take_trouble(const Error& error) {
  if (error.code == Code::kDiskFull || error.code == Code::kFull) return;  // control records wait; said where it began
  if (failed_) return;
  failed_ = true;
  set_life(layout::JournalLife::kFailed);
  count_flushes();
  {
    const std::lock_guard lock(mutex_);
    trouble_ = error.text;
    changed_.notify_all();
  }
  spdlog::error("queue {}: its journal takes nothing more: {}; what was acknowledged is safe", queue_->name(),
                error.text);
  A::full_fence();  // SLEEPING
  wake_sleepers(files_->wake()->durable, ~u32{0} >> 1);
  wake_sleepers(files_->wake()->room, ~u32{0} >> 1);
}

// --- The thread -----------------------------------------------------------------------------------------------------

// Lets go of what every group is done with.
void QueueJournal::retire() {
  const u64 lowest = lowest_settled();
  // A full disk has no room for copies; a message that cannot be read keeps its segment, and recovery will tell.
  if (auto brought = journal::bring_parks_forward(*writer_, reader_, lowest, kParksPerLook);
      !brought && brought.error().code != Code::kDiskFull && brought.error().text != copy_trouble_) {
    copy_trouble_ = brought.error().text;
    spdlog::warn("queue {}: a parked message keeps its log long: {}", queue_->name(), copy_trouble_);
  }
  // Only a newer snapshot lets go of what was drained since the last one.
  if (writer_->snapshot_due() || writer_->snapshot_frees(lowest)) {
    if (Status written = writer_->snapshot(); !written) take_trouble(written.error());
    announce();  // it has flushed what was appended before it
  }
  if (failed_) return;
  // GROUP_ENTERED: a group that is being born takes its start from what is published after it raised the epoch. Fence
  // (there as well, queue_keeper.cpp): either we see the new epoch and let everything be, or it sees all messages that
  // `lowest` was taken from, and starts behind them.
  A::full_fence();
  if (A::load(files_->state().group_epoch, std::memory_order_acquire) == group_epoch_) {
    MOORING_KILL_POINT("journal.before_retire");
    if (auto retired = writer_->retire(std::min(lowest, writer_->durable().next_seq)); !retired) {
      take_trouble(retired.error());
    }
  }
  ask_for_segments();
  measure();
}

void QueueJournal::ask_for_segments() {
  const std::lock_guard lock(mutex_);
  prepare_asked_ = true;
  changed_.notify_all();
}

// One turn. False: there was nothing to do.
bool QueueJournal::turn() {
  if (failed_) return false;
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
  if (A::load(files_->state().group_epoch, std::memory_order_acquire) != group_epoch_) {
    status = append_groups();
  }
  if (!disk_full_ || now_ns - disk_full_since_ns_ >= kRetryFullNs) copy_frames();
  if (status && (!spills_ || holds_spilled_) && now_ns - settled_ns_ >= kSettleEveryNs) {
    bool capped = false;
    status = append_settlements(/*all=*/false, &capped);
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
    // At once: under load a segment lasts a tenth of a second.
    if (writer_->segment_number() != segment_seen_) {
      segment_seen_ = writer_->segment_number();
      ask_for_segments();
    }
  }
  if (status) settle_asks();
  tell_oldest();
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
  if ((!spills_ || holds_spilled_) && now_ns - retired_ns_ >= kRetireEveryNs) {
    retired_ns_ = now_ns;
    retire();
    holds_spilled_ = lowest_settled() < writer_->next_seq() || !writer_->retained().empty();
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
  // What was tried and has to wait (for room on the disk, for messages of `early` queues) is tried again after a rest.
  const u64 groups_tried = A::load(files_->state().group_epoch, std::memory_order_acquire);
  const bool groups_wait = groups_tried != group_epoch_;
  const auto has_work = [&] {
    if (stopping_.load(std::memory_order_acquire)) return true;
    if (failed_) return false;
    const u64 asks = A::load(files_->wake()->settle_asks, std::memory_order_seq_cst);
    if (asks != asks_seen_ && asks != asks_tried_) return true;
    const u64 epoch = A::load(files_->state().group_epoch, std::memory_order_acquire);
    if (epoch != group_epoch_ && !(groups_wait && epoch == groups_tried)) return true;
    if (disk_full_ || backlog_full_) return false;
    if (spills_) return must_spill();
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
  const bool waits = groups_wait || backlog_full_ || holds_spilled_ || asks_tried_ != asks_seen_;
  const u64 bound_ns = waits || now_ns - quiet_since_ns_ < kNsPerSecond ? kSettleEveryNs : kRestMostNs;
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
  for (bool more = true; more && !failed_;) {
    more = copy_frames() || writer_->has_unflushed();
    if (Status flushed = flush(); !flushed) {
      take_trouble(flushed.error());
      more = false;  // a full disk
    }
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

Result<u64> QueueJournal::oldest_kept(u64 timeout_ns) {
  std::unique_lock lock(mutex_);
  const u64 ask = ++oldest_asked_;
  wake_sleepers(files_->wake()->journal, 1);
  const bool done = changed_.wait_for(lock, std::chrono::nanoseconds(timeout_ns),
                                      [&] { return oldest_told_ >= ask || !trouble_.empty(); });
  if (oldest_told_ >= ask) return oldest_;
  if (!done) {
    return fail(Code::kTimeout, fmt::format("queue {}: its journal has not said in time what the log holds; the disk "
                                            "is slow",
                                            queue_->name()));
  }
  return fail(Code::kIo, fmt::format("queue {}: its journal failed: {}", queue_->name(), trouble_));
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

}  // namespace mooring
