#include "supervisor/queue_keeper.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <sys/stat.h>

#include <cstring>

#include "base/kill_point.hpp"
#include "delivery/crash_kind.hpp"
#include "group/seat_progress.hpp"
#include "group/seat_totals.hpp"
#include "platform/fault_guard.hpp"
#include "queue/sleeper.hpp"
#include "segment/names.hpp"
#include "segment/tail_times.hpp"
#include "supervisor/group_name.hpp"
#include "supervisor/queue_fill.hpp"

namespace mooring {
namespace {

using A = HardwareAtomics;

constexpr u64 kTickNs = 10 * kNsPerMs;
constexpr u64 kRestMostNs = 5 * kNsPerSecond;  // of an idle queue: 1,000 looks a second cost 1.9 % of a core
constexpr u32 kStragglerLooks = 2;             // unchanged for two ticks (core.md A16)
constexpr u32 kStragglersPerLook = 512;        // bounds one look; the next is a tick away
constexpr u32 kQuotaMost = 1024;
constexpr u64 kFillEveryNs = 250 * kNsPerMs;  // one scan of the order ring: 60 us for 64 Ki cells
// GroupSlot::start of a group that is ENTERING and asked for another place than the tail.
constexpr u64 kBornElsewhere = ~u64{0};
constexpr u64 kJournalWaitNs = 4 * kNsPerSecond;  // below a client's default request_timeout_ns

Result<u64> file_inode(const File& directory, const std::string& name) {
  struct stat info {};
  if (::fstatat(directory.fd(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    return fail_errno(errno, "cannot look at " + path_text(directory, name));
  }
  return u64{info.st_ino};
}

}  // namespace

QueueKeeper::QueueKeeper(std::string name, std::shared_ptr<Queue> queue)
    : name_(std::move(name)),
      queue_(std::move(queue)),
      files_(&queue_->files()),
      parks_(*files_,
             [this](const Mapping& before, const Mapping& now) {
               if (before.data() != nullptr) {
                 unregister_range(before.data());
                 std::erase(guarded_, static_cast<const void*>(before.data()));
               }
               if (now.data() != nullptr) guard(now.data(), now.size_bytes());
             }),
      groups_(constants().groups_max),
      seat_mappings_(constants().seats_max),
      seat_names_(constants().seats_max),
      seat_acks_(constants().seats_max),
      seat_exits_(constants().seats_max),
      standing_(constants().seats_max),
      lane_guarded_(constants().lanes_max, false),
      fault_(std::make_unique<std::atomic<bool>>(false)) {}

QueueKeeper::~QueueKeeper() {
  for (const void* range : guarded_) unregister_range(range);
}

Result<std::unique_ptr<QueueKeeper>> QueueKeeper::open(const File& shared_directory, uid_t owner,
                                                       const std::string& name, u64 incarnation) {
  Result<std::shared_ptr<Queue>> queue = Queue::attach(shared_directory, owner, name, /*as_supervisor=*/true);
  if (!queue) return fail(queue.error());
  std::unique_ptr<QueueKeeper> keeper(new QueueKeeper(name, std::move(*queue)));
  const QueueFiles& files = *keeper->files_;
  // All that others can cut short, and our own three, which a process of the same user can.
  const layout::QueueConstants& sizes = files.constants();
  keeper->guard(reinterpret_cast<const u8*>(&files.state()) - __builtin_offsetof(layout::CtlHead, state),
                layout::ctl_file_bytes(sizes.groups_max, sizes.lanes_max, sizes.seats_max));
  keeper->guard(files.order_head(), layout::order_file_bytes(files.constants().cells));
  keeper->guard(files.wake(), layout::wake_file_bytes(files.constants().groups_max));
  keeper->failed_ =
      A::load(files.state().life, std::memory_order_acquire) == static_cast<u64>(layout::QueueLife::kFailed);
  A::store(keeper->files_->state().incarnation, incarnation, std::memory_order_release);
  // It looks at it from now on: before its first tick nobody shall think that it does not.
  A::store(keeper->files_->state().tick_monotonic_ns, monotonic_ns(), std::memory_order_relaxed);
  keeper->watermark_.adopt(A::load(files.state().above_high_water, std::memory_order_relaxed) != 0);
  if (keeper->failed_) return keeper;  // kept for a look, and to be removed
  if (keeper->queue_->is_spsc() && keeper->files_->lane_slot(0).made == 0) {
    // Consumers poll the lane before its first producer comes.
    if (Status status = make_lane_file(*keeper->files_, 0); !status) return fail(status.error());
    MOORING_KILL_POINT("keeper.lane_made");
    keeper->files_->lane_slot(0).made = 1;
  }
  return keeper;
}

void QueueKeeper::guard(const void* data, u64 size_bytes) {
  if (data != nullptr && register_range(data, size_bytes, fault_.get())) guarded_.push_back(data);
}

void QueueKeeper::set_slot(u64& slot, u32 generation, layout::SlotLife life) {
  // SLOT: release, after the fields beside it; clients acquire the slot before they read those.
  A::store(slot, layout::make_slot(generation, life), std::memory_order_release);
}

const LaneView* QueueKeeper::lane(u32 index) {
  const LaneView* view = queue_->lane(index);
  if (view != nullptr && !lane_guarded_[index]) {
    lane_guarded_[index] = true;
    guard(view->head, layout::lane_file_bytes(view->size_bytes));
  }
  return view;
}

const layout::SeatHead* QueueKeeper::seat(u32 index) {
  if (files_->seat_slot(index).made == 0) return nullptr;
  if (seat_mappings_[index].data() == nullptr) {
    Result<Mapping> mapping = files_->map_seat(index, Access::read_only);
    if (!mapping) return nullptr;
    seat_mappings_[index] = std::move(*mapping);
    guard(seat_mappings_[index].data(), seat_mappings_[index].size_bytes());
  }
  return reinterpret_cast<const layout::SeatHead*>(seat_mappings_[index].data());
}

QueueKeeper::Group* QueueKeeper::group(u32 index) {
  const u64 slot = A::load(files_->group_slot(index).slot, std::memory_order_relaxed);  // our own word
  const layout::SlotLife life = layout::slot_life(slot);
  if (life != layout::SlotLife::kLive && life != layout::SlotLife::kEntering) return nullptr;
  Group& known = groups_[index];
  if (known.mapped && known.generation == layout::slot_generation(slot)) return &known;
  Result<Mapping> mapping = files_->map_group(index, Access::read_write, /*prefault=*/true);
  if (!mapping) {
    spdlog::error("queue {}: group {}: {}", name_, group_name(files_->group_slot(index)), mapping.error().text);
    return nullptr;
  }
  if (known.mapped) {
    unregister_range(known.mapping.data());
    std::erase(guarded_, static_cast<const void*>(known.mapping.data()));
  }
  known = Group{};
  known.mapping = std::move(*mapping);
  known.mapped = true;
  known.generation = layout::slot_generation(slot);
  known.view = view_group(known.mapping.data(), constants().words, static_cast<u32>(constants().parks));
  guard(known.mapping.data(), known.mapping.size_bytes());
  known.redelivery = make_redelivery(index, known.view);
  known.breaker = make_breaker(index, known.view);
  return &known;
}

std::unique_ptr<Redelivery> QueueKeeper::make_redelivery(u32 index, const GroupView& view) {
  Redelivery::Surroundings around;
  around.frame = [this, index](u64 seq, FrameView* frame) { return frame_of(index, seq, frame); };
  if (layout::finds_duplicates(constants())) {
    around.is_duplicate = [this](u64 seq) {
      return durable_messages_ != nullptr ? durable_messages_->is_duplicate(seq) : std::nullopt;
    };
  }
  around.acked_seq = [this, index] { return acked_seq_of(index); };
  around.seat = [this](u32 seat_index) { return seat_index < constants().seats_max ? seat(seat_index) : nullptr; };
  around.holder = [this](u32 seat_index) {
    if (seat_index >= constants().seats_max) return Redelivery::Holder{};
    const layout::SeatSlot& slot = files_->seat_slot(seat_index);
    std::string& name = seat_names_[seat_index];
    if (name.empty()) name = process_name(slot.pid);  // of a grant before our time
    return Redelivery::Holder{{slot.pid, slot.start_time_ticks}, name, seat_exits_[seat_index]};
  };
  around.wake = [this, index](u64 count) { wake_group(index, count); };
  around.failed = [this, index](u64 seq, layout::FailReason reason) {
    groups_[index].breaker->failed(seq, reason, boottime_ns());
  };
  if (queue_->is_durable()) around.log = &notes_;
  around.max_message_bytes = constants().max_message_bytes;
  layout::GroupSlot& slot = files_->group_slot(index);
  around.where = fmt::format("queue {}: group {}", name_, group_name(slot));
  return std::make_unique<Redelivery>(index, slot, view, queue_->order(), parks_, std::move(around));
}

std::unique_ptr<GroupBreaker> QueueKeeper::make_breaker(u32 index, const GroupView& view) {
  GroupBreaker::Surroundings around;
  around.wake = [this, index](u64 count) { wake_group(index, count); };
  around.exclusive_consumer = [this, index] { return consumer_of(index); };
  around.acked_seq = [this, index] { return acked_seq_of(index); };
  layout::GroupSlot& slot = files_->group_slot(index);
  around.where = fmt::format("queue {}: group {}", name_, group_name(slot));
  return std::make_unique<GroupBreaker>(slot, view, queue_->order(), std::move(around));
}

// Of an exclusive group; null: nobody has its seat.
const layout::SeatHead* QueueKeeper::consumer_of(u32 index) {
  for (u32 seat_index = 1; seat_index < constants().seats_max; ++seat_index) {
    const layout::SeatSlot& slot = files_->seat_slot(seat_index);
    if (layout::slot_life(slot.slot) == layout::SlotLife::kLive && slot.group == index) return seat(seat_index);
  }
  return nullptr;
}

// What its consumer acknowledged since the last look. (Somebody else's garbage there opens or closes its own group.)
void QueueKeeper::note_acks(u32 index) {
  const layout::SeatHead* head = seat(index);
  if (head == nullptr) return;
  const u64 acked = A::load(head->messages_acked, std::memory_order_relaxed);
  const u64 before = std::exchange(seat_acks_[index], acked).value_or(acked);
  const u32 group_index = files_->seat_slot(index).group;
  if (acked <= before || group_index >= constants().groups_max) return;
  if (GroupBreaker* breaker = groups_[group_index].breaker.get()) breaker->acked(acked - before, boottime_ns());
}

// Looks whether the seat's owner goes on. Returns how soon to look again (ns), ~0: it does not matter.
u64 QueueKeeper::note_progress(u32 index, u64 now_ns) {
  layout::SeatSlot& slot = files_->seat_slot(index);
  const layout::SeatHead* head = seat(index);
  if (head == nullptr || layout::slot_life(slot.slot) != layout::SlotLife::kLive) return ~u64{0};
  const u64 progress = seat_progress<A>(*head);
  Standing& standing = standing_[index];
  const u64 looked_ns = std::exchange(standing.looked_ns, now_ns);
  if (progress != slot.progress_seen || slot.standing_since_boottime_ns == 0) {
    A::store(slot.standing_since_boottime_ns, boottime_ns(), std::memory_order_relaxed);
    MOORING_KILL_POINT("keeper.progress");
    A::store(slot.progress_seen, progress, std::memory_order_release);  // STANDING
    standing.ns = 0;
  }
  if (slot.group >= constants().groups_max) return ~u64{0};
  const GroupPolicy& policy = files_->group_slot(slot.group).policy;
  if (policy.stuck != static_cast<u32>(OnStuck::kKill) || policy.ack_wait_ns == 0) return ~u64{0};
  if (A::load(head->handling, std::memory_order_acquire) == 0) {  // empty hands
    standing.ns = 0;
    return ~u64{0};
  }
  if (looked_ns != 0) standing.ns += std::min(now_ns - std::min(now_ns, looked_ns), 2 * kRestMostNs);
  if (standing.ns / std::max(policy.stuck_after, 1U) >= policy.ack_wait_ns) {
    stuck_.push_back({{slot.pid, slot.start_time_ticks}, slot.group, std::exchange(standing.ns, 0)});
  }
  return std::max(policy.ack_wait_ns / 4, kTickNs);
}

void QueueKeeper::killed_stuck(u32 index) {
  layout::GroupCounters& counters = files_->group_slot(index).counters;
  A::store(counters.stuck_killed_total, A::load(counters.stuck_killed_total, std::memory_order_relaxed) + 1,
           std::memory_order_relaxed);
}

std::string QueueKeeper::group_text(u32 index) const {
  return fmt::format("queue {}: group {}", name_, group_name(files_->group_slot(index)));
}

// Exclusive groups. On volatile SPSC a hint: right, but for the moment between two stores of the consumer.
u64 QueueKeeper::acked_seq_of(u32 index) {
  const Group* known = group(index);
  if (known == nullptr) return 0;
  const layout::GroupHead& head = *known->view.head;
  if (queue_->is_spsc() && !queue_->is_durable()) return A::load(head.base_seq_hint, std::memory_order_acquire);
  return std::max(A::load(head.acked, std::memory_order_acquire), A::load(head.base, std::memory_order_acquire));
}

// A message that this group has not let go of. Of a volatile queue nobody overwrites it; of a durable one it is good
// until the next call.
bool QueueKeeper::frame_of(u32 index, u64 seq, FrameView* frame) {
  if (durable_messages_ != nullptr) return durable_messages_->find(seq, frame).has_value();
  if (!queue_->is_spsc()) {
    u64 cell = 0;
    const OrderView order = queue_->order();
    const LaneView* view = is_published<A>(order, seq, &cell) ? lane(layout::cell_lane(cell)) : nullptr;
    return view != nullptr && frame_of_cell<A>(*view, cell, seq, frame) == RingOutcome::kOk;
  }
  const Group* known = group(index);
  const LaneView* view = lane(0);
  if (known == nullptr || view == nullptr) return false;
  const layout::GroupHead& head = *known->view.head;
  const u64 acked =
      std::max(A::load(head.acked, std::memory_order_acquire), A::load(head.base, std::memory_order_acquire));
  LaneCursor at{acked & ~(layout::kFrameAlignment - 1), 0};
  const SpscReader<A> reader(*view, A::load(head.base_seq_hint, std::memory_order_acquire));
  for (u64 steps = 0; steps <= known->view.window(); ++steps) {
    if (reader.peek(&at, frame) != RingOutcome::kOk || frame->seq > seq) return false;
    if (frame->seq == seq) return true;
    reader.step(&at, *frame);
  }
  return false;
}

void QueueKeeper::Notes::note_park(const journal::ParkRecord& park, u32 generation) {
  if (keeper.journal_ != nullptr) keeper.journal_->note_park(park, generation);
}
void QueueKeeper::Notes::note_release(u32 group, u32 generation, u64 seq, u32 reason) {
  if (keeper.journal_ != nullptr) keeper.journal_->note_release(group, generation, seq, reason);
}

bool QueueKeeper::is_competing(u32 index) const {
  return files_->group_slot(index).mode == layout::GroupMode::kCompeting;
}

std::optional<u32> QueueKeeper::find_group(const std::string& name) const {
  for (u32 index = 0; index < constants().groups_max; ++index) {
    const layout::GroupSlot& slot = files_->group_slot(index);
    if (layout::slot_life(slot.slot) == layout::SlotLife::kLive && group_name(slot) == name) return index;
  }
  return std::nullopt;
}

// CLOSED: owners that closed while no supervisor listened.
void QueueKeeper::free_closed() {
  for (u32 index = 1; index < constants().seats_max; ++index) {
    const layout::SeatSlot& slot = files_->seat_slot(index);
    if (layout::slot_life(slot.slot) != layout::SlotLife::kLive) continue;
    const layout::SeatHead* head = seat(index);
    if (head != nullptr && A::load(head->closed, std::memory_order_acquire) == layout::slot_generation(slot.slot)) {
      free_seat(index);
    }
  }
  for (u32 index = 0; index < constants().lanes_max; ++index) {
    const layout::LaneSlot& slot = files_->lane_slot(index);
    if (layout::slot_life(slot.slot) != layout::SlotLife::kLive) continue;
    const LaneView* view = lane(index);
    if (view != nullptr &&
        A::load(view->head->closed, std::memory_order_acquire) == layout::slot_generation(slot.slot)) {
      retire_lane(index);
    }
  }
}

std::string QueueKeeper::holder_text(u32 pid) const { return fmt::format("pid {} ({})", pid, process_name(pid)); }

void QueueKeeper::fail_queue(const std::string& why) {
  if (failed_) return;
  failed_ = true;
  spdlog::error("queue {}: taken out of service: {}; `mooring rm {}` and create it again", name_, why, name_);
  end_life(layout::QueueLife::kFailed);
}

void QueueKeeper::mark_removed() { end_life(layout::QueueLife::kRemoved); }

void QueueKeeper::end_life(layout::QueueLife life) {
  A::store(files_->state().life, static_cast<u64>(life), std::memory_order_release);
  // Publishers with room look at nothing else of ours.
  A::add(files_->state().group_epoch, u64{1}, std::memory_order_release);
  wake_room();
  for (u32 index = 0; index < constants().groups_max; ++index) wake_group(index, ~u32{0} >> 1);
}

void QueueKeeper::set_fence_mode() {
  if (A::load(files_->state().fence_mode, std::memory_order_relaxed) != 0) return;
  A::store(files_->state().fence_mode, u64{1}, std::memory_order_release);
  A::add(files_->state().group_epoch, u64{1}, std::memory_order_release);  // publishers read both anew
}

// --- Groups ---------------------------------------------------------------------------------------------------------

// The next free seq (MPMC), or the lane's end as {position, seq} (SPSC). Bounded by one walk around.
std::optional<u64> QueueKeeper::tail_now(LaneCursor* lane_tail) {
  if (!queue_->is_spsc()) {
    const OrderView order = queue_->order();
    u64 tail = std::max(A::load(order.head->tail, std::memory_order_acquire), constants().first_seq);
    u64 cell = 0;
    for (u64 steps = 0; steps < 2 * order.count() && is_published<A>(order, tail, &cell); ++steps) ++tail;
    return tail;
  }
  const LaneView* view = lane(0);
  if (view == nullptr) return std::nullopt;
  const u64 current = A::load(view->head->checkpoint_current, std::memory_order_acquire) & 1;
  LaneCursor cursor{A::load(view->head->checkpoints[current].position, std::memory_order_relaxed),
                    A::load(view->head->checkpoints[current].seq, std::memory_order_relaxed)};
  if (cursor.seq == 0) cursor.seq = constants().first_seq;
  if (cursor.position % layout::kFrameAlignment != 0) return std::nullopt;  // somebody wrote over it
  const SpscReader<A> reader(*view, cursor.seq);
  FrameView frame;
  // A living writer may run ahead of the walk for ever; one lane of frames is far enough for a place to start.
  for (u64 steps = 0; steps < view->size_bytes / layout::kFrameAlignment; ++steps) {
    if (reader.peek(&cursor, &frame) != RingOutcome::kOk) break;
    reader.step(&cursor, frame);
  }
  *lane_tail = cursor;
  return cursor.position;
}

Result<u64> QueueKeeper::create_group(const std::string& name, layout::GroupMode mode, const GroupStart& start) {
  if (Status status = check_name("group", name); !status) return fail(status.error());
  if (queue_->is_spsc() && mode != layout::GroupMode::kExclusive) {
    return fail(Code::kBadArgument, fmt::format("queue {} is spsc: its groups are exclusive; use an mpmc queue for "
                                                "competing consumers",
                                                name_));
  }
  if (const auto known = find_group(name); known.has_value()) {
    if (files_->group_slot(*known).mode == mode) return u64{0};
    return fail(Code::kExists, fmt::format("group {} of queue {} exists with mode {}", name, name_,
                                           is_competing(*known) ? "competing" : "exclusive"));
  }
  for (u32 index = 0; index < constants().groups_max; ++index) {
    layout::GroupSlot& slot = files_->group_slot(index);
    if (layout::slot_life(slot.slot) != layout::SlotLife::kFree) continue;
    if (Status status = make_group_file(*files_, index, constants().first_seq); !status) return fail(status.error());
    MOORING_KILL_POINT("keeper.group_made");
    std::memset(slot.name, 0, sizeof slot.name);
    std::memcpy(slot.name, name.data(), name.size());
    slot.mode = mode;
    slot.start = start.at == GroupStart::At::kTail ? 0 : kBornElsewhere;
    slot.paused = 0;
    slot.canary = 0;
    slot.breaker_until_boottime_ns = 0;
    slot.policy = default_policy();
    slot.counters = layout::GroupCounters{};
    forget_counters_of_seats(index);
    A::store(slot.quota, kQuotaMost, std::memory_order_relaxed);
    set_slot(slot.slot, layout::slot_generation(slot.slot) + 1, layout::SlotLife::kEntering);
    MOORING_KILL_POINT("keeper.group_entered");
    // GROUP_ENTERED: release, after the slot and before the start is taken (core.md A17).
    A::add(files_->state().group_epoch, u64{1}, std::memory_order_acq_rel);
    MOORING_KILL_POINT("keeper.group_epoch");
    const Result<Place> born = finish_birth(index, start);
    if (!born) {
      // Left ENTERING it would hold every publisher.
      finish_removal(index);
      return fail(born.error());
    }
    // A power cut must not take back what is said to be there.
    if (Status written = write_groups(); !written) return fail(written.error());
    return born->seq;
  }
  return fail(Code::kNoSeat, fmt::format("queue {} has all its {} groups; remove one (`mooring rm {} --group "
                                         "GROUP`), or create the queue anew with a larger groups_max",
                                         name_, constants().groups_max, name_));
}

Result<QueueKeeper::Place> QueueKeeper::finish_birth(u32 index, const GroupStart& start) {
  layout::GroupSlot& slot = files_->group_slot(index);
  Group* born = group(index);
  if (born == nullptr) return fail(Code::kIo, fmt::format("queue {}: cannot map the new group", name_));
  // The full fence between the epoch and the bases: a publisher either sees the epoch after its bases, or computed its
  // mark before any base that is read here.
  A::full_fence();
  Result<Place> place = tail_place(index);
  if (place && start.at != GroupStart::At::kTail) place = place_asked(index, start, *place);
  if (!place) return place;
  MOORING_KILL_POINT("keeper.group_placed");
  initialise_words(born->view, place->seq);
  A::store(born->view.head->acked, place->unit, std::memory_order_relaxed);
  A::store(born->view.head->base_seq_hint, place->seq, std::memory_order_relaxed);
  MOORING_KILL_POINT("keeper.group_initialised");
  // Release: the words are there before the base stops pinning everything.
  A::store(born->view.head->base, place->unit, std::memory_order_release);
  if (start.at == GroupStart::At::kTail) slot.start = place->unit;
  MOORING_KILL_POINT("keeper.group_based");
  set_slot(slot.slot, layout::slot_generation(slot.slot), layout::SlotLife::kLive);
  MOORING_KILL_POINT("keeper.group_live");
  slot.start = place->unit;  // born elsewhere: only now is it no longer taken out again
  wake_room();
  return place;
}

// What is published from here on: the end of the queue, beyond every mark that a publisher may go by.
Result<QueueKeeper::Place> QueueKeeper::tail_place(u32 index) {
  LaneCursor lane_tail;
  const std::optional<u64> tail = tail_now(&lane_tail);
  if (!tail.has_value()) {
    return fail(Code::kCorrupt, fmt::format("queue {}: the end of its lane makes no sense, so a group cannot be born "
                                            "there; remove the queue and create it again",
                                            name_));
  }
  u64 start = *tail;
  if (!queue_->is_spsc()) {
    for (u32 other = 0; other < constants().groups_max; ++other) {
      Group* known = other == index ? nullptr : group(other);
      if (known != nullptr) start = std::max(start, A::load(known->view.head->base, std::memory_order_acquire));
    }
  }
  // SPSC: no base is beyond the lane's end, so that is the maximum already.
  u64 start_seq = queue_->is_spsc() ? lane_tail.seq : start;
  if (queue_->has_log()) {
    // Publishers went on meanwhile, R = J, and the walk may have lost its way in what they overwrote: what it had found
    // is a place the queue had come to. Nothing at or above the mark has retired from the log (queue_journal.cpp).
    start_seq = std::max(start_seq, A::load(files_->state().durable_seq, std::memory_order_acquire));
    start = start_seq;
  }
  return Place{start, start_seq};
}

Result<QueueKeeper::Place> QueueKeeper::place_asked(u32 index, const GroupStart& start, const Place& tail) {
  const Result<Place> oldest = oldest_place(index, tail);
  if (!oldest || start.at == GroupStart::At::kOldest) return oldest;
  if (start.seq < oldest->seq) {
    return fail(Code::kBadArgument,
                fmt::format("queue {} does not keep message {} any more: the oldest that a group can start at is {}{}",
                            name_, start.seq, oldest->seq, oldest->seq == tail.seq ? ", the next one to come" : ""));
  }
  if (start.seq > tail.seq) {
    return fail(Code::kBadArgument,
                fmt::format("queue {} has no message {} yet: the next one to come is {}; start there, or at the tail",
                            name_, start.seq, tail.seq));
  }
  if (!queue_->is_spsc() || queue_->has_log()) return Place{start.seq, start.seq};
  const std::optional<Place> place = place_in_lane(*oldest, start.seq);
  if (place.has_value()) return *place;
  return fail(Code::kCorrupt, fmt::format("queue {}: message {} is not in its lane; remove the queue and create it "
                                          "again",
                                          name_, start.seq));
}

// The oldest message that is kept for as long as the group is ENTERING: it pins what publishers may overwrite, and its
// epoch what may leave the log.
Result<QueueKeeper::Place> QueueKeeper::oldest_place(u32 index, const Place& tail) {
  u64 logged = 0;
  if (queue_->has_log()) {
    if (journal_ == nullptr) {
      return fail(Code::kIo, fmt::format("queue {}: its log cannot go on, so a group can start at its tail only; "
                                         "mooringd has logged why",
                                         name_));
    }
    const Result<u64> kept = journal_->oldest_kept(kJournalWaitNs);
    if (!kept) return fail(kept.error());
    logged = std::min(*kept, tail.seq);
    if (queue_->is_durable()) return Place{logged, logged};
  }
  // What some group has not finished: whatever mark a publisher goes by was at or below it. (A log that spills has all
  // from there on, but for what waits in park stores: that counts as settled there.)
  u64 lowest = tail.unit;
  u64 hint = 0;
  for (u32 other = 0; other < constants().groups_max; ++other) {
    Group* known = other == index ? nullptr : group(other);
    if (known == nullptr) continue;
    const u64 base = is_competing(other) ? settled_base<A>(known->view)
                                         : A::load(known->view.head->base, std::memory_order_acquire);  // FREED
    if (base >= lowest) continue;
    lowest = base;
    hint = A::load(known->view.head->base_seq_hint, std::memory_order_acquire);
  }
  if (!queue_->is_spsc()) return Place{std::max(lowest, logged), std::max(lowest, logged)};
  if (lowest == tail.unit) return tail;
  const std::optional<Place> place = place_in_lane(Place{lowest, hint}, 0);
  if (place.has_value()) return place->seq == 0 ? tail : *place;
  return fail(Code::kCorrupt, fmt::format("queue {}: what its groups have not finished is not in its lane; remove the "
                                          "queue and create it again",
                                          name_));
}

// SPSC, volatile: the frame with this seq, or (0) the first at or behind `from`, whose seq may be a hint.
std::optional<QueueKeeper::Place> QueueKeeper::place_in_lane(const Place& from, u64 seq) {
  const LaneView* view = lane(0);
  if (view == nullptr || from.unit % layout::kFrameAlignment != 0) return std::nullopt;
  LaneCursor at{from.unit, 0};
  const SpscReader<A> reader(*view, from.seq);
  FrameView frame;
  for (u64 steps = 0; steps <= view->size_bytes / layout::kFrameAlignment; ++steps) {
    const u64 position = at.position;
    const RingOutcome found = reader.peek(&at, &frame);
    // Its end: where the next message will come.
    if (found == RingOutcome::kEmpty) {
      return seq == 0 || seq == at.seq ? std::optional<Place>({at.position, at.seq}) : std::nullopt;
    }
    if (found != RingOutcome::kOk) return std::nullopt;
    if (seq == 0 || frame.seq == seq) return Place{position, frame.seq};
    if (frame.seq > seq) return std::nullopt;
    reader.step(&at, frame);
  }
  return std::nullopt;
}

Status QueueKeeper::start_journal(std::unique_ptr<journal::Disk> disk, std::unique_ptr<journal::LogWriter> writer,
                                  std::shared_ptr<Queue> queue) {
  std::vector<journal::ParkRecord> parks;
  parks_.each_used([&](u64 loc) {
    // Adopted: what is left in these states is of a group that lives.
    if (is_in_log(parks_.word(loc).state)) parks.push_back(park_in_log(*parks_.record(loc), parks_.word(loc)));
  });
  Result<std::unique_ptr<QueueJournal>> started =
      QueueJournal::start(std::move(queue), std::move(disk), std::move(writer), parks);
  if (!started) return fail(started.error());
  journal_ = std::move(*started);
  return {};
}

void QueueKeeper::set_log_path(std::string path) {
  durable_messages_ =
      std::make_unique<DurableMessages>(*queue_, std::move(path), [this](u32 index) { return lane(index); });
}

Status QueueKeeper::write_groups() { return journal_ == nullptr ? Status{} : journal_->write_groups(kJournalWaitNs); }

Status QueueKeeper::remove_group(const std::string& name) {
  const auto index = find_group(name);
  if (!index.has_value()) return fail(Code::kNoSuchQueue, fmt::format("queue {} has no group {}", name_, name));
  u64 alive = 0;
  u64 groups = 0;
  for (u32 seat_index = 1; seat_index < constants().seats_max; ++seat_index) {
    const layout::SeatSlot& seat_slot = files_->seat_slot(seat_index);
    if (layout::slot_life(seat_slot.slot) == layout::SlotLife::kLive && seat_slot.group == *index) ++alive;
  }
  for (u32 other = 0; other < constants().groups_max; ++other) {
    if (layout::slot_life(files_->group_slot(other).slot) == layout::SlotLife::kLive) ++groups;
  }
  if (alive != 0) {
    return fail(Code::kNoSeat, fmt::format("group {} of queue {} has {} consumers; close them first (`mooring "
                                           "consumers {}` lists them)",
                                           name, name_, alive, name_));
  }
  if (groups == 1) {
    return fail(Code::kBadArgument,
                fmt::format("group {} is the last of queue {}, and a queue has at least one; remove "
                            "the queue instead",
                            name, name_));
  }
  layout::GroupSlot& slot = files_->group_slot(*index);
  set_slot(slot.slot, layout::slot_generation(slot.slot), layout::SlotLife::kLeaving);
  MOORING_KILL_POINT("keeper.group_leaving");
  finish_removal(*index);
  return write_groups();
}

void QueueKeeper::finish_removal(u32 index) {
  layout::GroupSlot& slot = files_->group_slot(index);
  // What it has in the park store. (Left there by a kill, the next supervisor finds it nobody's.)
  if (Redelivery* redelivery = groups_[index].redelivery.get(); redelivery != nullptr) redelivery->drop_all();
  groups_[index].redelivery.reset();
  groups_[index].breaker.reset();
  groups_[index].due_boottime_ns = ~u64{0};
  // A birth that failed: who reads the slots behind the epoch must not take it for one that goes on, and wait for it.
  if (layout::slot_life(slot.slot) == layout::SlotLife::kEntering) {
    set_slot(slot.slot, layout::slot_generation(slot.slot), layout::SlotLife::kLeaving);
    MOORING_KILL_POINT("keeper.birth_leaving");
  }
  A::add(files_->state().group_epoch, u64{1}, std::memory_order_acq_rel);  // GROUP_ENTERED, here: taken out
  set_slot(slot.slot, layout::slot_generation(slot.slot), layout::SlotLife::kFree);
  wake_room();  // what only this group needed is free now
}

void QueueKeeper::deal_quotas(u32 index) {
  u32 consumers = 0;
  for (u32 seat_index = 1; seat_index < constants().seats_max; ++seat_index) {
    const layout::SeatSlot& seat_slot = files_->seat_slot(seat_index);
    if (layout::slot_life(seat_slot.slot) == layout::SlotLife::kLive && seat_slot.group == index) ++consumers;
  }
  // Their sum is at most half of X, so that every straggler's messages can be parked (core.md A16).
  const u64 share = constants().parks / 2 / std::max(consumers, 1U);
  A::store(files_->group_slot(index).quota, static_cast<u32>(std::clamp<u64>(share, 1, kQuotaMost)),
           std::memory_order_relaxed);
}

// --- Producers ------------------------------------------------------------------------------------------------------

Result<LaneGrant> QueueKeeper::open_producer(const ProcessIdentity& owner) {
  free_closed();
  free_left_lanes();
  u32 found = constants().lanes_max;
  for (u32 index = 0; index < constants().lanes_max; ++index) {
    const layout::LaneSlot& slot = files_->lane_slot(index);
    if (layout::slot_life(slot.slot) != layout::SlotLife::kFree) continue;
    if (found == constants().lanes_max || (slot.made != 0 && files_->lane_slot(found).made == 0)) found = index;
  }
  const bool inherits = found == constants().lanes_max && !queue_->is_spsc();
  if (inherits) found = lane_to_inherit();
  if (found == constants().lanes_max) {
    if (queue_->is_spsc()) {
      return fail(Code::kNoSeat, fmt::format("queue {} is spsc and has its producer: {}; close that one, or use an "
                                             "mpmc queue",
                                             name_, holder_text(files_->lane_slot(0).pid)));
    }
    return fail(Code::kNoSeat, fmt::format("queue {} has all its {} producers open; close one (`mooring info {}` "
                                           "counts them), or create the queue anew with a larger producers_max",
                                           name_, constants().lanes_max, name_));
  }
  layout::LaneSlot& slot = files_->lane_slot(found);
  if (!inherits) slot.last_seq = 0;  // else the new owner goes on behind it (order_ring.hpp, an heir)
  // The cells of a new queue name lane 0, for seqs before the first: those are nobody's messages.
  slot.reclaim_floor = std::max(slot.reclaim_floor, constants().first_seq);
  if (slot.made == 0) {
    if (Status status = make_lane_file(*files_, found); !status) return fail(status.error());
    MOORING_KILL_POINT("keeper.lane_made");
    slot.made = 1;
  }
  slot.pid = owner.pid;
  slot.start_time_ticks = owner.start_time_ticks;
  const u32 generation = layout::slot_generation(slot.slot) + 1;
  MOORING_KILL_POINT("keeper.lane_identity");
  set_slot(slot.slot, generation, layout::SlotLife::kLive);
  MOORING_KILL_POINT("keeper.lane_live");
  return LaneGrant{found, generation};
}

Status QueueKeeper::close_producer(const ProcessIdentity& owner, u32 index, u32 generation) {
  if (index >= constants().lanes_max) return fail(Code::kBadArgument, "close_producer: no such lane");
  const layout::LaneSlot& slot = files_->lane_slot(index);
  if (layout::slot_life(slot.slot) != layout::SlotLife::kLive || layout::slot_generation(slot.slot) != generation) {
    return {};  // closed already: found by its notice
  }
  if (ProcessIdentity{slot.pid, slot.start_time_ticks} != owner) {
    return fail(Code::kPermission, fmt::format("queue {}: lane {} belongs to {}", name_, index, holder_text(slot.pid)));
  }
  retire_lane(index);
  free_left_lanes();
  return {};
}

// The owner is dead, or has closed: it publishes nothing more.
void QueueKeeper::retire_lane(u32 index) {
  layout::LaneSlot& slot = files_->lane_slot(index);
  const u32 generation = layout::slot_generation(slot.slot);
  if (queue_->is_spsc()) {
    set_slot(slot.slot, generation, layout::SlotLife::kFree);  // the next producer walks to where this one ended
    return;
  }
  u64 newest = 0;
  slot.last_seq = last_seq_of_lane(index, &newest);
  // Frames that no cell names any more are a lap behind the newest message at least, and the mark has passed them. A
  // reader that stopped while copying one must not take the next owner's bytes for it.
  const u64 cells = queue_->order().count();
  if (newest >= cells) slot.reclaim_floor = std::max(slot.reclaim_floor, newest - cells + 1);
  MOORING_KILL_POINT("keeper.lane_last_seq");
  set_slot(slot.slot, generation, layout::SlotLife::kLeaving);
  MOORING_KILL_POINT("keeper.lane_leaving");
}

// The lane of those that are leaving with the most room, as far as the places of its oldest and newest message tell;
// lanes_max if there is none. One scan of the order ring for all of them.
u32 QueueKeeper::lane_to_inherit() {
  const OrderView order = queue_->order();
  const u64 mark = release_mark_now();
  const u64 tail_lap = order.lap(A::load(order.head->tail, std::memory_order_acquire));
  std::vector<u64> oldest(constants().lanes_max, ~u64{0});
  for (u64 place = 0; place < order.count(); ++place) {
    const u64 cell = A::load(order.cells[place], std::memory_order_acquire);
    const u32 index = layout::cell_lane(cell);
    const u64 seq = layout::extend(layout::cell_lap(cell), layout::kCellLapBits, tail_lap) * order.count() + place;
    if (index < oldest.size() && seq >= mark) oldest[index] = std::min(oldest[index], seq);
  }
  u32 best = constants().lanes_max;
  u64 best_bytes = 0;
  for (u32 index = 0; index < constants().lanes_max; ++index) {
    const layout::LaneSlot& slot = files_->lane_slot(index);
    if (layout::slot_life(slot.slot) != layout::SlotLife::kLeaving) continue;
    u64 bytes = 0;
    if (oldest[index] <= slot.last_seq) {
      const u64 first = A::load(order.cell(oldest[index]), std::memory_order_relaxed);
      const u64 last = A::load(order.cell(slot.last_seq), std::memory_order_relaxed);
      bytes = (layout::cell_offset_bytes(last) - layout::cell_offset_bytes(first)) & (constants().lane_bytes - 1);
    }
    if (best == constants().lanes_max || bytes < best_bytes) {
      best = index;
      best_bytes = bytes;
    }
  }
  return best;
}

// One scan of the order ring; 0 if no cell names the lane. `newest`: of all lanes.
u64 QueueKeeper::last_seq_of_lane(u32 index, u64* newest) const {
  const OrderView order = queue_->order();
  const u64 tail_lap = order.lap(A::load(order.head->tail, std::memory_order_acquire));
  u64 last = 0;
  for (u64 place = 0; place < order.count(); ++place) {
    const u64 cell = A::load(order.cells[place], std::memory_order_acquire);
    const u64 lap = layout::extend(layout::cell_lap(cell), layout::kCellLapBits, tail_lap);
    if (lap > tail_lap + 1) continue;  // garbage: nothing can be two laps ahead of a tail that lags by 16
    const u64 seq = lap * order.count() + place;
    *newest = std::max(*newest, seq);
    if (layout::cell_lane(cell) == index) last = std::max(last, seq);
  }
  return last;
}

u64 QueueKeeper::release_mark_now() {
  const u64 logged = queue_->has_log() ? A::load(files_->state().durable_mark, std::memory_order_acquire) : 0;
  if (queue_->is_durable()) return logged;  // R = J
  u64 mark = ~u64{0};
  bool any = false;
  for (u32 index = 0; index < constants().groups_max; ++index) {
    Group* known = group(index);
    if (known == nullptr) continue;
    any = true;
    mark = std::min(mark, is_competing(index) ? effective_base<A>(known->view)
                                              : A::load(known->view.head->base, std::memory_order_acquire));
  }
  return std::max(any ? mark : 0, logged);
}

void QueueKeeper::free_left_lanes() {
  if (queue_->is_spsc()) return;
  u64 mark = 0;
  for (u32 index = 0; index < constants().lanes_max; ++index) {
    layout::LaneSlot& slot = files_->lane_slot(index);
    if (layout::slot_life(slot.slot) != layout::SlotLife::kLeaving) continue;
    if (mark == 0) mark = release_mark_now();
    if (slot.last_seq >= mark && slot.last_seq != 0) continue;
    // Above every seq the owners before published: a reader that stopped while copying one of those sees it.
    slot.reclaim_floor = std::max(slot.reclaim_floor, slot.last_seq + 1);
    MOORING_KILL_POINT("keeper.lane_floor");
    set_slot(slot.slot, layout::slot_generation(slot.slot), layout::SlotLife::kFree);
  }
}

// --- Consumers ------------------------------------------------------------------------------------------------------

Result<SeatGrant> QueueKeeper::open_consumer(const std::string& group_name, const ProcessIdentity& owner) {
  const auto group_index = find_group(group_name);
  if (!group_index.has_value()) {
    return fail(Code::kNoSuchQueue, fmt::format("queue {} has no group {}; create it with `mooring create {} --group "
                                                "{}`",
                                                name_, group_name, name_, group_name));
  }
  free_closed();
  u32 found = 0;
  for (u32 index = 1; index < constants().seats_max; ++index) {
    const layout::SeatSlot& slot = files_->seat_slot(index);
    if (layout::slot_life(slot.slot) == layout::SlotLife::kLive) {
      if (slot.group == *group_index && !is_competing(*group_index)) {
        return fail(Code::kNoSeat, fmt::format("group {} of queue {} is exclusive and has its consumer: {}; close that "
                                               "one, or create a competing group",
                                               group_name, name_, holder_text(slot.pid)));
      }
      continue;
    }
    if (found == 0 || (slot.made != 0 && files_->seat_slot(found).made == 0)) found = index;
  }
  if (found == 0) {
    return fail(Code::kNoSeat, fmt::format("queue {} has all its {} consumers open; close one (`mooring consumers {}` "
                                           "lists them), or create the queue anew with a larger consumers_max",
                                           name_, constants().seats_max - 1, name_));
  }
  layout::SeatSlot& slot = files_->seat_slot(found);
  if (slot.made == 0) {
    if (Status status = make_seat_file(*files_, found); !status) return fail(status.error());
    MOORING_KILL_POINT("keeper.seat_made");
    slot.made = 1;
  }
  // What its owner before left is put down as that one's, not as this one's.
  if (slot.group < constants().groups_max && groups_[slot.group].failures) {
    static_cast<void>(look_at_group(slot.group, /*pressure=*/false));
  }
  slot.pid = owner.pid;
  slot.start_time_ticks = owner.start_time_ticks;
  carry_counters(found, *group_index);
  slot.group = *group_index;
  seat_names_[found] = process_name(owner.pid);
  seat_exits_[found] = 0;
  standing_[found] = {};
  A::store(slot.standing_since_boottime_ns, boottime_ns(), std::memory_order_relaxed);
  const u32 generation = layout::slot_generation(slot.slot) + 1;
  MOORING_KILL_POINT("keeper.seat_identity");
  set_slot(slot.slot, generation, layout::SlotLife::kLive);
  MOORING_KILL_POINT("keeper.seat_live");
  deal_quotas(*group_index);
  return SeatGrant{found, generation, *group_index};
}

// The counters of a seat are its group's; they stay with it when the seat goes to another one (layout::SeatTotals).
void QueueKeeper::carry_counters(u32 seat_index, u32 to_group) {
  const u32 from_group = files_->seat_slot(seat_index).group;
  const layout::SeatHead* head = seat(seat_index);
  if (head == nullptr || from_group == to_group) return;
  const layout::SeatTotals totals = seat_totals(*head);
  if (from_group < constants().groups_max) {
    add_totals(files_->group_slot(from_group).counters.carried, totals, /*sign=*/1);
  }
  add_totals(files_->group_slot(to_group).counters.carried, totals, /*sign=*/-1);
}

// A new group in the slot of an old one: what seats did for that one is not its own.
void QueueKeeper::forget_counters_of_seats(u32 group_index) {
  for (u32 index = 1; index < constants().seats_max; ++index) {
    const layout::SeatHead* head = seat(index);
    if (head == nullptr || files_->seat_slot(index).group != group_index) continue;
    add_totals(files_->group_slot(group_index).counters.carried, seat_totals(*head), /*sign=*/-1);
  }
}

Status QueueKeeper::close_consumer(const ProcessIdentity& owner, u32 index, u32 generation) {
  if (index == 0 || index >= constants().seats_max) return fail(Code::kBadArgument, "close_consumer: no such seat");
  const layout::SeatSlot& slot = files_->seat_slot(index);
  if (layout::slot_life(slot.slot) != layout::SlotLife::kLive || layout::slot_generation(slot.slot) != generation) {
    return {};
  }
  if (ProcessIdentity{slot.pid, slot.start_time_ticks} != owner) {
    return fail(Code::kPermission, fmt::format("queue {}: seat {} belongs to {}", name_, index, holder_text(slot.pid)));
  }
  free_seat(index);
  return {};
}

// Its owner is dead, or has closed. Seats are free only after a full pass: a number is never two owners' at once.
void QueueKeeper::free_seat(u32 index) {
  layout::SeatSlot& slot = files_->seat_slot(index);
  note_acks(index);  // for the group that it leaves
  const u32 group_index = slot.group;
  Group* known = group_index < constants().groups_max ? group(group_index) : nullptr;
  if (known != nullptr) {
    // HANDLING: acquire, with the owner dead or its handle closed; one that is closed handles nothing (core.md A6).
    const layout::SeatHead* head = seat(index);
    const bool was_opened = head != nullptr && A::load(head->opened, std::memory_order_acquire) ==
                                                   layout::slot_generation(slot.slot);  // else of an owner before
    const u64 handling = was_opened ? A::load(head->handling, std::memory_order_acquire) : 0;
    const u64 count = is_competing(group_index) ? repair(*known).give_back_all_of(index, handling)
                                                : repair(*known).give_back_parks_of(index, handling);
    if (count != 0) wake_group(group_index, count);
    if (!is_competing(group_index) && handling != 0 && handling != layout::kHandlingMany) {
      static_cast<void>(repair(*known).charge_exclusive(index, handling, acked_seq_of(group_index)));
    }
    MOORING_KILL_POINT("keeper.charged");
    known->failures = true;  // also what it nacked without a word to us
  }
  MOORING_KILL_POINT("keeper.seat_swept");
  set_slot(slot.slot, layout::slot_generation(slot.slot), layout::SlotLife::kFree);
  if (known != nullptr) deal_quotas(group_index);
}

void QueueKeeper::count_crash(u32 seat_index, std::optional<u32> wait_status) {
  const layout::SeatSlot& slot = files_->seat_slot(seat_index);
  const layout::SeatHead* head = seat(seat_index);
  const u32 generation = layout::slot_generation(slot.slot);
  // OPENED, CLOSED: acquire, as in free_closed. It never had the handle, or had closed it: nothing crashed here.
  if (head == nullptr || slot.group >= constants().groups_max ||
      A::load(head->opened, std::memory_order_acquire) != generation ||
      A::load(head->closed, std::memory_order_acquire) == generation) {
    return;
  }
  u64& total =
      files_->group_slot(slot.group).counters.consumer_crashes_total[static_cast<u32>(crash_kind(wait_status))];
  A::store(total, A::load(total, std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void QueueKeeper::owner_died(const ProcessIdentity& owner, std::optional<u32> wait_status) {
  for (u32 index = 1; index < constants().seats_max; ++index) {
    const layout::SeatSlot& slot = files_->seat_slot(index);
    if (layout::slot_life(slot.slot) == layout::SlotLife::kLive &&
        ProcessIdentity{slot.pid, slot.start_time_ticks} == owner) {
      if (wait_status.has_value()) seat_exits_[index] = layout::kExitKnown | *wait_status;
      count_crash(index, wait_status);
      free_seat(index);
    }
  }
  for (u32 index = 0; index < constants().lanes_max; ++index) {
    const layout::LaneSlot& slot = files_->lane_slot(index);
    if (layout::slot_life(slot.slot) == layout::SlotLife::kLive &&
        ProcessIdentity{slot.pid, slot.start_time_ticks} == owner) {
      retire_lane(index);
    }
  }
  free_left_lanes();
  next_look_ns_ = 0;
}

void QueueKeeper::drop_untaken(const ProcessIdentity& owner) {
  for (u32 index = 1; index < constants().seats_max; ++index) {
    const layout::SeatSlot& slot = files_->seat_slot(index);
    if (layout::slot_life(slot.slot) != layout::SlotLife::kLive ||
        ProcessIdentity{slot.pid, slot.start_time_ticks} != owner) {
      continue;
    }
    const layout::SeatHead* head = seat(index);
    if (head != nullptr && A::load(head->opened, std::memory_order_acquire) != layout::slot_generation(slot.slot)) {
      free_seat(index);
    }
  }
  for (u32 index = 0; index < constants().lanes_max; ++index) {
    const layout::LaneSlot& slot = files_->lane_slot(index);
    if (layout::slot_life(slot.slot) != layout::SlotLife::kLive ||
        ProcessIdentity{slot.pid, slot.start_time_ticks} != owner) {
      continue;
    }
    const LaneView* view = lane(index);
    if (view != nullptr &&
        A::load(view->head->opened, std::memory_order_acquire) != layout::slot_generation(slot.slot)) {
      retire_lane(index);
    }
  }
  free_left_lanes();
}

u64 QueueKeeper::drop_unmapped(const ProcessIdentity& owner, const MapsFile& maps) {
  const auto is_mapped = [&](const std::string& file) {
    const Result<u64> inode = file_inode(files_->directory(), file);
    return !inode || maps(*inode, queue_directory_name(name_) + "/" + file);
  };
  u64 dropped = 0;
  for (u32 index = 1; index < constants().seats_max; ++index) {
    const layout::SeatSlot& slot = files_->seat_slot(index);
    if (layout::slot_life(slot.slot) != layout::SlotLife::kLive ||
        ProcessIdentity{slot.pid, slot.start_time_ticks} != owner) {
      continue;
    }
    const layout::SeatHead* head = seat(index);
    // OPENED: one that was not taken yet is not mapped either; drop_untaken knows about those.
    if (head == nullptr || A::load(head->opened, std::memory_order_acquire) != layout::slot_generation(slot.slot) ||
        is_mapped(seat_file_name(index))) {
      continue;
    }
    free_seat(index);
    ++dropped;
  }
  for (u32 index = 0; index < constants().lanes_max; ++index) {
    const layout::LaneSlot& slot = files_->lane_slot(index);
    if (layout::slot_life(slot.slot) != layout::SlotLife::kLive ||
        ProcessIdentity{slot.pid, slot.start_time_ticks} != owner) {
      continue;
    }
    const LaneView* view = lane(index);
    if (view == nullptr ||
        A::load(view->head->opened, std::memory_order_acquire) != layout::slot_generation(slot.slot) ||
        is_mapped(lane_file_name(index))) {
      continue;
    }
    retire_lane(index);
    ++dropped;
  }
  free_left_lanes();
  next_look_ns_ = 0;
  return dropped;
}

bool QueueKeeper::holds_anything(const ProcessIdentity& owner) const {
  for (u32 index = 1; index < constants().seats_max; ++index) {
    const layout::SeatSlot& slot = files_->seat_slot(index);
    if (layout::slot_life(slot.slot) == layout::SlotLife::kLive &&
        ProcessIdentity{slot.pid, slot.start_time_ticks} == owner) {
      return true;
    }
  }
  for (u32 index = 0; index < constants().lanes_max; ++index) {
    const layout::LaneSlot& slot = files_->lane_slot(index);
    if (layout::slot_life(slot.slot) == layout::SlotLife::kLive &&
        ProcessIdentity{slot.pid, slot.start_time_ticks} == owner) {
      return true;
    }
  }
  return false;
}

// --- After a restart ------------------------------------------------------------------------------------------------

Status QueueKeeper::adopt(std::vector<ProcessIdentity>* owners) {
  if (failed_) return {};
  for (u32 index = 0; index < constants().groups_max; ++index) {
    layout::GroupSlot& slot = files_->group_slot(index);
    const layout::SlotLife life = layout::slot_life(slot.slot);
    const bool born_elsewhere = slot.start == kBornElsewhere;
    if (life == layout::SlotLife::kEntering && !born_elsewhere) {
      A::add(files_->state().group_epoch, u64{1}, std::memory_order_acq_rel);  // perhaps not raised yet
      if (Result<Place> born = finish_birth(index, {}); !born) return fail(born.error());
    }
    if (life == layout::SlotLife::kLeaving || (life == layout::SlotLife::kEntering && born_elsewhere)) {
      finish_removal(index);
    }
    Group* known = group(index);
    if (known == nullptr) continue;
    if (born_elsewhere) slot.start = A::load(known->view.head->base, std::memory_order_acquire);
    if (is_competing(index)) repair(*known).reconcile();
    known->failures = true;  // there may be some
  }
  if (Status adopted = adopt_parked(); !adopted) return adopted;
  bool any_group = false;
  for (u32 index = 0; index < constants().groups_max; ++index) {
    any_group = any_group || layout::slot_life(files_->group_slot(index).slot) == layout::SlotLife::kLive;
  }
  if (!any_group) {  // killed between the queue and its first group
    const auto mode = queue_->is_spsc() ? layout::GroupMode::kExclusive : layout::GroupMode::kCompeting;
    if (Result<u64> made = create_group("default", mode); !made) return fail(made.error());
  }
  const auto note = [&](u32 pid, u64 start_time_ticks) {
    const ProcessIdentity owner{pid, start_time_ticks};
    if (std::find(owners->begin(), owners->end(), owner) == owners->end()) owners->push_back(owner);
  };
  for (u32 index = 1; index < constants().seats_max; ++index) {
    const layout::SeatSlot& slot = files_->seat_slot(index);
    if (layout::slot_life(slot.slot) == layout::SlotLife::kLive) note(slot.pid, slot.start_time_ticks);
  }
  for (u32 index = 0; index < constants().lanes_max; ++index) {
    const layout::LaneSlot& slot = files_->lane_slot(index);
    if (layout::slot_life(slot.slot) == layout::SlotLife::kLive) note(slot.pid, slot.start_time_ticks);
  }
  return {};
}

// What waits in the park store, group by group; notes and records that nobody names any more are let go.
Status QueueKeeper::adopt_parked() {
  std::vector<std::vector<u64>> of_group(constants().groups_max);
  std::vector<u64> nobodys;
  std::vector<u64> notes;
  const Status loaded = parks_.load([&](u64 loc) {
    if (parks_.word(loc).state == layout::RecordState::kNote) {
      notes.push_back(loc);
      return;
    }
    const layout::ParkRecord& record = *parks_.record(loc);
    Group* known = record.group < constants().groups_max ? group(record.group) : nullptr;
    const bool has_owner = known != nullptr && known->generation == record.group_generation;
    (has_owner ? of_group[record.group] : nobodys).push_back(loc);
  });
  if (!loaded) return loaded;  // before anything is given up for want of its record
  for (const u64 loc : nobodys) parks_.release(loc);
  const u64 now_ns = boottime_ns();
  for (u32 index = 0; index < constants().groups_max; ++index) {
    if (groups_[index].redelivery == nullptr) continue;
    groups_[index].redelivery->adopt(of_group[index], now_ns);
    const auto is_failed = [&](u64 seq) {
      return std::any_of(of_group[index].begin(), of_group[index].end(), [&](u64 loc) {
        const layout::RecordState state = parks_.word(loc).state;
        return (state == layout::RecordState::kWaiting || state == layout::RecordState::kDead) &&
               parks_.record(loc)->seq == seq;
      });
    };
    groups_[index].breaker->adopt(is_failed, now_ns);
  }
  for (const u64 loc : notes) {
    const u64 owner = reinterpret_cast<const layout::ParkNote*>(parks_.record(loc))->record;
    const bool named = parks_.is_record(owner) && parks_.record(owner)->note == loc;
    if (!named) parks_.release(loc);
  }
  return {};
}

// --- Failed messages, as their operator asks ------------------------------------------------------------------------

Result<u32> QueueKeeper::group_called(const std::string& name) const {
  const auto index = find_group(name);
  if (index.has_value()) return *index;
  return fail(Code::kNoSuchQueue,
              fmt::format("queue {} has no group {}; `mooring info {}` lists them", name_, name, name_));
}

Result<Redelivery*> QueueKeeper::redelivery_of(const std::string& name) {
  Result<u32> index = group_called(name);
  if (!index) return fail(index.error());
  Group* known = group(*index);
  if (known == nullptr) return fail(Code::kIo, fmt::format("queue {}: group {} cannot be mapped", name_, name));
  return known->redelivery.get();
}

Status QueueKeeper::set_group(const std::string& name,
                              const std::vector<std::pair<std::string, std::string>>& settings) {
  Result<u32> index = group_called(name);
  if (!index) return fail(index.error());
  layout::GroupSlot& slot = files_->group_slot(*index);
  GroupPolicy policy = slot.policy;
  for (const auto& [key, value] : settings) {
    if (Status set = set_policy(&policy, key, value); !set) return set;
  }
  slot.policy = policy;
  MOORING_KILL_POINT("keeper.settings");
  if (Group* known = group(*index); known != nullptr) {
    known->redelivery->policy_changed(boottime_ns());
    static_cast<void>(known->breaker->look(boottime_ns()));  // switched off, it is closed when this returns
  }
  look_now();
  // The log keeps settings: it looks at groups anew when the epoch moves. Publishers look once more for nothing.
  A::add(files_->state().group_epoch, u64{1}, std::memory_order_acq_rel);
  return write_groups();
}

Status QueueKeeper::pause_group(const std::string& name, bool pause) {
  Result<u32> index = group_called(name);
  if (!index) return fail(index.error());
  layout::GroupSlot& slot = files_->group_slot(*index);
  const u32 paused = A::load(slot.paused, std::memory_order_relaxed);  // own word
  const u32 now = pause ? paused | layout::kGroupPausedByUser : paused & ~layout::kGroupPausedByUser;
  A::store(slot.paused, now, std::memory_order_release);
  if ((now & (layout::kGroupPausedByUser | layout::kGroupPausedByDlq)) == 0) wake_group(*index, ~u32{0} >> 1);
  if (pause || now == 0) return {};
  if ((now & layout::kGroupPausedByDlq) != 0) {
    return fail(Code::kPaused, fmt::format("group {} of queue {} stays paused: it has as many dead letters as it may "
                                           "(dlq_max_messages); redrive or purge some, or raise the bound",
                                           name, name_));
  }
  return fail(Code::kPaused, fmt::format("group {} of queue {} stays paused: its circuit breaker is open, because what "
                                         "it does fails, and tries one message by itself; `mooring set {} --group {} "
                                         "breaker=off` closes it",
                                         name, name_, name_, name));
}

Result<u64> QueueKeeper::redrive(const std::string& name, const DeadFilter& filter, u64 rate, bool dry_run) {
  Result<Redelivery*> redelivery = redelivery_of(name);
  if (!redelivery) return fail(redelivery.error());
  look_now();
  return (*redelivery)->redrive(filter, rate, dry_run, boottime_ns());
}

Result<u64> QueueKeeper::cancel_redrive(const std::string& name) {
  Result<Redelivery*> redelivery = redelivery_of(name);
  if (!redelivery) return fail(redelivery.error());
  return (*redelivery)->cancel_redrive();
}

Result<u64> QueueKeeper::purge_dead(const std::string& name, const DeadFilter& filter, bool dry_run) {
  Result<Redelivery*> redelivery = redelivery_of(name);
  if (!redelivery) return fail(redelivery.error());
  look_now();
  return (*redelivery)->purge(filter, dry_run);
}

// --- The tick -------------------------------------------------------------------------------------------------------

void QueueKeeper::wake_group(u32 index, u64 count) {
  wake_sleepers(files_->group_wake(index), static_cast<u32>(std::min<u64>(count, ~u32{0} >> 1)));
}
void QueueKeeper::wake_room() { wake_sleepers(files_->wake()->room, ~u32{0} >> 1); }

bool QueueKeeper::any_lane_blocked() const {
  for (u32 index = 0; index < constants().lanes_max; ++index) {
    if (layout::slot_life(files_->lane_slot(index).slot) != layout::SlotLife::kLive) continue;
    const LaneView* view = queue_->lane(index);
    if (view != nullptr && A::load(view->head->blocked, std::memory_order_acquire) != 0) return true;
  }
  return false;
}

// The group that holds most, for a sentence.
std::string QueueKeeper::slowest_text() {
  u64 lowest = ~u64{0};
  u32 slowest = constants().groups_max;
  for (u32 index = 0; index < constants().groups_max; ++index) {
    const Group* known = group(index);
    if (known == nullptr) continue;
    const u64 base = A::load(known->view.head->base, std::memory_order_acquire);
    if (base >= lowest) continue;
    lowest = base;
    slowest = index;
  }
  return slowest == constants().groups_max ? std::string("none")
                                           : std::string(group_name(files_->group_slot(slowest)));
}

// How full the queue is: of its places, and of the lane with the least room; the larger. Only where something moved.
void QueueKeeper::look_at_fill(u64 now_ns, u64 moved) {
  if (now_ns - filled_ns_ < kFillEveryNs) return;
  // What makes room without a message: bases that consumers raise lazily, and the journal.
  for (const Group& known : groups_) {
    if (known.mapped) moved += A::load(known.view.head->base, std::memory_order_relaxed);
  }
  moved += A::load(files_->state().durable_mark, std::memory_order_relaxed);
  if (moved == filled_fingerprint_) return;
  filled_ns_ = now_ns;
  filled_fingerprint_ = moved;
  u64 fill = 0;
  if (queue_->has_log()) {
    // The ring is no bound there: what the log may hold is.
    if (journal_ != nullptr) fill = fill_milli(journal_->backlog_bytes_now(), constants().max_backlog_bytes);
  } else if (queue_->is_spsc()) {
    LaneCursor tail;
    const LaneView* view = lane(0);
    if (view == nullptr || !tail_now(&tail).has_value()) return;
    const u64 mark = release_mark_now();
    fill = fill_milli(tail.position - std::min(mark, tail.position), view->size_bytes);
  } else {
    fill = fill_of(queue_->order(), release_mark_now(), constants().lanes_max,
                   [this](u32 index) { return files_->lane_slot(index).made != 0 ? lane(index) : nullptr; });
  }
  layout::QueueState& state = files_->state();
  A::store(state.fill_milli, fill, std::memory_order_relaxed);
  if (!watermark_.look(fill)) return;
  A::store(state.above_high_water, u64{watermark_.above() ? 1U : 0U}, std::memory_order_relaxed);
  if (watermark_.above()) {
    A::store(state.high_water_total, A::load(state.high_water_total, std::memory_order_relaxed) + 1,
             std::memory_order_relaxed);
    spdlog::warn("queue {}: {} % full, above its high watermark; group {} holds most of it (`mooring info {} --why`)",
                 name_, fill / 10, slowest_text(), name_);
  } else {
    spdlog::info("queue {}: {} % full, below its low watermark again", name_, fill / 10);
  }
}

// For the ages of messages (segment/tail_times.hpp).
void QueueKeeper::note_tail_now(u64 now_ns, u64 published) {
  // At rest as well, if seldom: a producer may have counted its message before it could be found.
  if (now_ns - tail_noted_ns_ < (published == tail_noted_at_ ? kRestMostNs : kFillEveryNs)) return;
  LaneCursor lane_tail;
  const std::optional<u64> tail = tail_now(&lane_tail);
  if (!tail.has_value()) return;
  tail_noted_at_ = published;
  tail_noted_ns_ = now_ns;
  u64 oldest = ~u64{0};
  for (u32 index = 0; index < groups_.size(); ++index) {
    if (!groups_[index].mapped) continue;
    oldest = std::min(oldest, is_competing(index) ? A::load(groups_[index].view.head->base, std::memory_order_relaxed)
                                                  : acked_seq_of(index));
  }
  // `early`: groups may be done with what is not on the disk yet, whose age is the journal's lag.
  if (queue_->is_durable()) {
    oldest = std::min(oldest, A::load(files_->state().durable_seq, std::memory_order_relaxed));
  }
  note_tail(files_->tail_times(), queue_->is_spsc() ? lane_tail.seq : *tail, oldest, boottime_ns());
}

// True: something there needs a look soon.
bool QueueKeeper::look_at_group(u32 index, bool pressure) {
  Group* known = group(index);
  if (known == nullptr) return false;
  if (!is_competing(index)) {
    known->due_boottime_ns = known->redelivery->look(std::exchange(known->failures, false), boottime_ns());
    known->due_boottime_ns = std::min(known->due_boottime_ns, known->breaker->look(boottime_ns()));
    return known->redelivery->is_busy();
  }
  GroupRepair<A> fix = repair(*known);
  bool busy = false;
  const u64 base = fix.step_base();
  if (base != known->last_base) {
    known->last_base = base;
    wake_room();
    busy = true;
  }
  if (fix.announce_base_if_ready()) wake_group(index, 1);
  // Nobody told us: whoever nacked was stopped before it rang.
  known->failures = known->failures || fix.nacked_at_base();

  u64 seq = 0;
  u64 word = 0;
  if (fix.leased_at_base(&seq, &word)) {
    known->stuck_looks = seq == known->stuck_seq && word == known->stuck_word ? known->stuck_looks + 1 : 0;
    known->stuck_seq = seq;
    known->stuck_word = word;
    busy = true;
    if (known->stuck_looks >= kStragglerLooks && (pressure || fix.window_half_full())) {
      const u32 straggler = layout::word_owner(word);
      u32 moved = 0;
      // All it holds from base on: what stands behind a straggler's message and is its own will not go sooner.
      while (moved < kStragglersPerLook && fix.leased_at_base(&seq, &word) && layout::word_owner(word) == straggler) {
        if (!known->redelivery->park_straggler(seq, word)) break;
        ++moved;
      }
      if (moved != 0) {
        wake_room();
        wake_group(index, moved);
        spdlog::info("queue {}: group {}: {} messages of a standing consumer (seat {}, pid {}) left the window", name_,
                     group_name(files_->group_slot(index)), moved, straggler,
                     straggler < constants().seats_max ? files_->seat_slot(straggler).pid : 0);
      }
    }
  } else {
    known->stuck_looks = 0;
  }
  known->due_boottime_ns = known->redelivery->look(std::exchange(known->failures, false), boottime_ns());
  known->due_boottime_ns = std::min(known->due_boottime_ns, known->breaker->look(boottime_ns()));
  busy = busy || known->redelivery->is_busy();

  // Sleepers beside work, twice in a row: a publisher stopped before it woke them.
  if (A::load(files_->group_wake(index).sleepers, std::memory_order_relaxed) != 0 &&
      A::load(files_->group_slot(index).paused, std::memory_order_relaxed) == 0 &&
      CompetingConsumer<A>(known->view, queue_->order(), 0).may_have_work()) {
    if (++known->unheard_looks >= 2) wake_group(index, ~u32{0} >> 1);
    busy = true;
  } else {
    known->unheard_looks = 0;
  }
  return busy;
}

u64 QueueKeeper::tick(u64 now_ns, bool bell) {
  if (failed_) return kRestMostNs;
  if (!bell && now_ns < next_look_ns_) return next_look_ns_ - now_ns;
  if (fault_->load(std::memory_order_acquire)) {
    fail_queue("a file was cut short under its mapping");
    return kRestMostNs;
  }
  A::store(files_->state().tick_monotonic_ns, now_ns, std::memory_order_relaxed);

  u64 nacks = 0;
  u64 seen = 0;
  u64 published = 0;
  u64 stand_ns = ~u64{0};
  for (u32 index = 1; index < constants().seats_max; ++index) {
    const layout::SeatHead* head = seat(index);
    if (head == nullptr) continue;
    nacks += A::load(head->messages_nacked, std::memory_order_acquire) +
             A::load(head->messages_untimely, std::memory_order_acquire);
    seen += A::load(head->messages_delivered, std::memory_order_relaxed) +
            A::load(head->messages_acked, std::memory_order_relaxed);
    note_acks(index);
    stand_ns = std::min(stand_ns, note_progress(index, now_ns));
  }
  for (u32 index = 0; index < constants().lanes_max; ++index) {
    const layout::LaneSlot& slot = files_->lane_slot(index);
    if (slot.made == 0) continue;
    const LaneView* view = lane(index);
    if (view == nullptr) continue;
    published += A::load(view->head->messages_published, std::memory_order_relaxed);
  }
  seen += published;
  free_closed();
  const bool nacked = nacks != nacks_seen_;
  nacks_seen_ = nacks;
  // Where there is a log publishers wait for the disk, never for a base.
  const bool pressure = !queue_->has_log() && any_lane_blocked();
  bool busy = nacked || pressure || seen != fingerprint_;
  fingerprint_ = seen;
  for (u32 index = 0; index < constants().groups_max; ++index) {
    if (nacked) groups_[index].failures = true;
    busy = look_at_group(index, pressure) || busy;
  }
  free_left_lanes();
  look_at_fill(now_ns, seen);
  note_tail_now(now_ns, published);
  rest_ns_ = busy ? kTickNs : std::min(std::max(rest_ns_ * 2, kTickNs), kRestMostNs);
  u64 rest_ns = std::min(rest_ns_, stand_ns);
  const u64 now_boottime_ns = boottime_ns();
  for (const Group& known : groups_) {
    if (known.redelivery == nullptr || known.due_boottime_ns == ~u64{0}) continue;
    rest_ns = std::min(rest_ns, known.due_boottime_ns - std::min(known.due_boottime_ns, now_boottime_ns));
  }
  next_look_ns_ = now_ns + rest_ns;
  return rest_ns;
}

QueueKeeper::Counts QueueKeeper::counts() const {
  Counts counts;
  for (u32 index = 1; index < constants().seats_max; ++index) {
    if (layout::slot_life(files_->seat_slot(index).slot) == layout::SlotLife::kLive) ++counts.consumers;
  }
  for (u32 index = 0; index < constants().lanes_max; ++index) {
    if (layout::slot_life(files_->lane_slot(index).slot) == layout::SlotLife::kLive) ++counts.producers;
  }
  for (const Group& known : groups_) {
    if (known.redelivery != nullptr) counts.parked += known.redelivery->counters().in_table;
  }
  return counts;
}

}  // namespace mooring
