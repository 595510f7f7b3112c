#include "queue/consumer.hpp"

#include <fmt/format.h>
#include <poll.h>

#include <limits>

#include "group/canary.hpp"
#include "group/repair.hpp"
#include "queue/duplicates.hpp"
#include "queue/error_detail.hpp"
#include "queue/wake_descriptor.hpp"

namespace mooring {
namespace {

// Counters have one writer, the owner; relaxed, because nothing is ordered by them.
void count(u64& counter, u64 by) {
  HardwareAtomics::store(counter, HardwareAtomics::load(counter, std::memory_order_relaxed) + by,
                         std::memory_order_relaxed);
}

// NACKED_TOLD: release, after the NACKED word; the supervisor acquires the count and then finds the word.
void tell(u64& counter) {
  HardwareAtomics::store(counter, HardwareAtomics::load(counter, std::memory_order_relaxed) + 1,
                         std::memory_order_release);
}

Lease lease_of(const Message& message) {
  Lease lease;
  lease.seq = message.seq;
  lease.word = message.token[0];
  lease.park_index = static_cast<u32>(message.token[1] >> 32);
  return lease;
}
u32 copy_slot_of(const Message& message) { return static_cast<u32>(message.token[1]); }

// An exclusive group looks at its park table when it has nothing else, and every so many messages.
constexpr u32 kTableEvery = 64;

constexpr u64 make_token(u32 park_index, u32 slot) { return (u64{park_index} << 32) | slot; }

}  // namespace

Consumer::Consumer(std::shared_ptr<Instance> instance, std::shared_ptr<Queue> queue, std::string log_path,
                   Options options)
    : instance_(std::move(instance)), queue_(std::move(queue)), options_(options), log_(*queue_, std::move(log_path)) {}

Result<std::unique_ptr<Consumer>> Consumer::open(std::shared_ptr<Instance> instance, const std::string& name,
                                                 const std::string& group, const Options& options) {
  const Instance::Opening opening;
  Result<Json> grant = instance->request({{"op", "open_consumer"}, {"queue", name}, {"group", group}}, &opening);
  if (!grant) return fail(grant.error());
  Result<u64> seat = number_member(*grant, "seat", 1, layout::kOwnersMax - 1);
  if (!seat) return fail(seat.error());
  Result<u64> generation = number_member(*grant, "generation", 0, ~u32{0});
  if (!generation) return fail(generation.error());
  Result<u64> group_index = number_member(*grant, "group", 0, layout::kGroupsMax - 1);
  if (!group_index) return fail(group_index.error());
  const auto log = grant->find("log");
  Result<std::shared_ptr<Queue>> queue = instance->attach(name);
  if (!queue) return fail(queue.error());
  const layout::QueueConstants& constants = (*queue)->constants();
  if (*seat >= constants.seats_max || *group_index >= constants.groups_max) {
    return fail(Code::kCorrupt, fmt::format("queue {}: the supervisor granted a seat beyond the last", name));
  }

  std::string log_path = log != grant->end() && log->is_string() ? log->get<std::string>() : std::string();
  std::unique_ptr<Consumer> consumer(
      new Consumer(std::move(instance), std::move(*queue), std::move(log_path), options));
  Queue& q = *consumer->queue_;
  consumer->group_name_ = group;
  consumer->group_index_ = static_cast<u32>(*group_index);
  consumer->seat_index_ = static_cast<u32>(*seat);
  consumer->seat_generation_ = static_cast<u32>(*generation);
  consumer->granted_ = true;
  consumer->alive_ = consumer->instance_->alive_page();
  Result<Mapping> group_mapping = q.files().map_group(consumer->group_index_, Access::read_write, /*prefault=*/true);
  if (!group_mapping) return fail(group_mapping.error());
  consumer->group_mapping_ = std::move(*group_mapping);
  Result<Mapping> seat_mapping = q.files().map_seat(consumer->seat_index_, Access::read_write);
  if (!seat_mapping) return fail(seat_mapping.error());
  consumer->seat_mapping_ = std::move(*seat_mapping);
  consumer->seat_ = reinterpret_cast<layout::SeatHead*>(consumer->seat_mapping_.data());
  A::store(consumer->seat_->handling, u64{0}, std::memory_order_relaxed);  // of an owner before, dead or closed
  consumer->notices_ = SettlementNotices<A>(reinterpret_cast<u8*>(consumer->seat_mapping_.data()));
  consumer->wake_slot_ = &q.files().group_wake(consumer->group_index_);
  consumer->room_ = &q.files().wake()->room;
  consumer->group_slot_ = &q.files().group_slot(consumer->group_index_);
  consumer->durable_ = q.is_durable();
  consumer->has_log_ = q.has_log();
  consumer->finds_duplicates_ = layout::finds_duplicates(q.constants());
  consumer->fenced_ = A::load(q.files().state().fence_mode, std::memory_order_acquire) != 0;
  const GroupView view =
      view_group(consumer->group_mapping_.data(), constants.words, static_cast<u32>(constants.parks));
  OrderView order = q.order();
  order.limit = q.delivery_limit();
  if (consumer->group_slot_->mode == layout::GroupMode::kCompeting) {
    consumer->group_.emplace<Competing>(view, order, consumer->seat_index_);
  } else if (q.is_spsc()) {
    const LaneView* lane = q.lane(0);
    if (lane == nullptr) return fail(Code::kCorrupt, fmt::format("queue {}: its lane cannot be mapped", name));
    if (q.has_log()) {
      consumer->group_.emplace<ExclusiveDurable>(view, DurableSource<A, LaneOf>(q.durable_marks(), *lane));
    } else {
      consumer->group_.emplace<ExclusiveLane>(
          view, LaneSource<A>(*lane, A::load(view.head->base_seq_hint, std::memory_order_acquire)));
    }
  } else if (q.has_log()) {
    consumer->group_.emplace<ExclusiveDurable>(view, DurableSource<A, LaneOf>(q.durable_marks(), order, LaneOf{&q}));
  } else {
    consumer->group_.emplace<ExclusiveOrder>(view, OrderSource<A, LaneOf>(order, LaneOf{&q}));
  }
  if (consumer->group_slot_->mode != layout::GroupMode::kCompeting) {
    consumer->table_.emplace(view, order, consumer->seat_index_);
  }
  // OPENED: release; a supervisor that finds the grant without this gives it to somebody else at our next hello.
  A::store(consumer->seat_->opened, u64{consumer->seat_generation_}, std::memory_order_release);
  return consumer;
}

Consumer::~Consumer() {
  // The thread behind the descriptor did not cross the fork: waiting for its end there would never end.
  if (instance_->is_forked()) static_cast<void>(descriptor_.release());
  if (!granted_ || instance_->is_forked()) return;
  descriptor_.reset();
  if (auto* competing = std::get_if<Competing>(&group_)) {
    competing->help_base(true);
    GroupRepair<A>(competing->group(), competing->order()).give_back_all_of(seat_index_);
    wake_sleepers(*wake_slot_, ~u32{0} >> 1);
  }
  before_sleep();
  if (seat_ != nullptr) {
    A::store(seat_->handling, u64{0}, std::memory_order_relaxed);
    // CLOSED: release; the supervisor acquires it, now or when it is back, and frees the seat without a death.
    A::store(seat_->closed, u64{seat_generation_}, std::memory_order_release);
  }
  (void)instance_->request(
      {{"op", "close_consumer"}, {"queue", queue_->name()}, {"seat", seat_index_}, {"generation", seat_generation_}});
}

[[gnu::always_inline]] inline Code Consumer::check_usable() const {
  if (__builtin_expect(*alive_ == 0, false)) {
    return fail_with(Code::kForked, "this consumer belongs to the parent process; open one of your own");
  }
  return Code::kOk;
}

Code Consumer::corrupt(std::string_view what) const {
  return fail_with(Code::kCorrupt, fmt::format("queue {}, group {}: {}; somebody wrote over the shared memory",
                                               queue_->name(), group_name_, what));
}

[[gnu::always_inline]] inline u32 Consumer::quota() const {
  const u32 dealt = A::load(group_slot_->quota, std::memory_order_relaxed);  // a bound, not an order
  return options_.max_in_flight != 0 ? std::min(options_.max_in_flight, dealt) : dealt;
}

// The place of the payload is all that is looked at: headers that make no sense are told to who asks for them.
[[gnu::noinline]] Code Consumer::step_over_headers(Message* message) const {
  u64 bytes = 0;
  switch (message::extension_of({static_cast<const u8*>(message->data), message->size}, &bytes)) {
    case Code::kOk: break;
    case Code::kVersion:
      return fail_with(Code::kVersion,
                       fmt::format("queue {}: message {} has a header that this release does not know and may not "
                                   "skip; the message went back: let a newer program receive it",
                                   queue_->name(), message->seq));
    default: return corrupt(fmt::format("message {} has headers without an end", message->seq));
  }
  message->data = static_cast<const u8*>(message->data) + bytes;
  message->size -= bytes;
  message->headers_bytes = bytes;
  return Code::kOk;
}

[[gnu::noinline]] Code Consumer::check_times(u32 frame_flags, const u8* frame, u64 len) {
  if ((frame_flags & layout::kFrameTimed) == 0) return Code::kOk;
  message::Times times;
  if (message::find_times(frame_flags, {frame, len}, &times) != Code::kOk) return Code::kOk;  // told with its headers
  const u64 now_ns = wall_ns();
  if (times.expires_at_ns != 0 && times.expires_at_ns <= now_ns) {
    untimely_ = layout::FailReason::kExpired;
  } else if (times.deliver_at_ns > now_ns) {
    untimely_ = layout::FailReason::kNotDue;
  } else {
    return Code::kOk;
  }
  return Code::kStale;
}

u64 Consumer::copy_lead(u32 frame_flags, const u8* frame, u64 len) {
  if ((frame_flags & layout::kFrameExtension) == 0) return 0;
  u64 bytes = 0;
  // A guess: the frame is read again from the copy.
  if (message::extension_of({frame, len}, &bytes) != Code::kOk) return 0;
  return align_up(bytes, 64) - bytes;
}

[[gnu::noinline]] Code Consumer::copy_with_headers(const LaneView& lane, const Lease& lease, const FrameView& frame,
                                                   Message* message) {
  u32 slot = CopySlots::kNone;
  const u64 lead = copy_lead(frame.flags, frame.payload, frame.len);
  u8* to = copies_.take(lead + frame.len, &slot);
  if (to == nullptr) return fail_with(Code::kNoMemory, fmt::format("no memory to copy out {} bytes", frame.len));
  A::copy_out(to + lead, frame.payload, frame.len);
  if (!still_there<A>(lane, lease.seq)) {
    copies_.put(slot);
    return Code::kStale;
  }
  A::prefetch_read(lane.bytes + (frame.end & (lane.size_bytes - 1)));  // as in copy_out
  return copied<false>(frame.flags, to + lead, frame.len, slot, lease.park_index, message);
}

template <bool judged>
[[gnu::always_inline]] inline Code Consumer::copied(u32 frame_flags, const u8* frame, u64 len, u32 slot, u32 park_index,
                                                    Message* message) {
  message->data = frame;
  message->size = len;
  message->headers_bytes = 0;
  message->token[1] = make_token(park_index, slot);
  if (__builtin_expect((frame_flags & layout::kFrameExtension) == 0, true)) return Code::kOk;
  if constexpr (!judged) {
    u64 first = 0;
    const DuplicateAnswer answer =
        finds_duplicates_ ? ask_duplicate<A>(queue_->files().state(), message->seq, &first) : DuplicateAnswer::kNo;
    if (answer != DuplicateAnswer::kNo) {
      copies_.put(slot);
      return answer == DuplicateAnswer::kYes ? Code::kEmpty : Code::kStale;
    }
  }
  Code code = check_times(frame_flags, frame, len);
  if (code == Code::kOk) code = step_over_headers(message);
  if (code != Code::kOk) copies_.put(slot);
  return code;
}

// Not its time, in an exclusive group: it is held, and what comes later with it.
template <class Exclusive>
[[gnu::noinline]] Code Consumer::set_aside(Exclusive& group, u64 seq) {
  NackedWord nacked;
  (void)group.fail(seq, seat_index_, std::exchange(untimely_, layout::FailReason::kNone), /*detail=*/false, &nacked);
  tell(seat_->messages_untimely);
  instance_->ring_bell();
  return Code::kEmpty;
}

template <class Exclusive>
[[gnu::noinline]] Code Consumer::show_with_headers(Exclusive& group, u32 frame_flags, Message* message) {
  if (check_times(frame_flags, static_cast<const u8*>(message->data), message->size) != Code::kOk) {
    return set_aside(group, message->seq);
  }
  const Code code = step_over_headers(message);
  if (code == Code::kVersion) (void)group.give_back(message->seq);
  return code;
}

[[gnu::noinline, gnu::cold]] Code Consumer::copy_parked(Competing& group, const Lease& lease, u32 park_index,
                                                        Message* message) {
  const layout::ParkEntry& entry = group.group().parks[park_index];
  // PARKED: the caller acquired the entry's word; loc and the record were stored before it.
  const u64 loc = A::load(entry.loc, std::memory_order_relaxed);
  const u64 head_bytes = sizeof(layout::ParkRecord);
  for (int look = 0; look < 2; ++look) {
    const u64 size = park_mapping_.size_bytes();
    if (loc >= layout::kParkChunksOffset && loc % layout::kParkSlotAlignment == 0 && size >= head_bytes &&
        loc <= size - head_bytes) {
      const auto* record = reinterpret_cast<const layout::ParkRecord*>(park_mapping_.data() + loc);
      const u64 len = A::load(record->len, std::memory_order_relaxed);
      const u64 payload = layout::park_payload_offset(
          std::min(A::load(record->attempt_room, std::memory_order_relaxed), layout::kAttemptsMax));
      if (A::load(record->seq, std::memory_order_relaxed) != lease.seq || payload > size - loc ||
          len > size - loc - payload) {
        return group.still_mine(lease) ? corrupt("a parked message is not where its entry says") : Code::kStale;
      }
      u32 slot = CopySlots::kNone;
      const u32 flags = A::load(record->frame_flags, std::memory_order_relaxed);
      const u8* from = reinterpret_cast<const u8*>(record) + payload;
      const u64 lead = copy_lead(flags, from, len);
      u8* to = copies_.take(lead + len, &slot);
      if (to == nullptr) return fail_with(Code::kNoMemory, fmt::format("no memory to copy out {} bytes", len));
      A::copy_out(to + lead, from, len);
      // The record is used again only after the entry was freed, and we still hold it: then the copy is good.
      if (!group.still_mine(lease)) {
        copies_.put(slot);
        return Code::kStale;
      }
      return copied<true>(flags, to + lead, len, slot, lease.park_index, message);
    }
    // The park file grew since we mapped it.
    Result<Mapping> mapping = queue_->files().map_park(Access::read_only);
    if (!mapping) return fail_with(mapping.error());
    park_mapping_ = std::move(*mapping);
  }
  return corrupt("a park entry points outside the park file");
}

[[gnu::noinline]] Code Consumer::copy_from_log(u64 seq, Message* message) {
  journal::MessageView view;
  const auto found = log_.find(seq, &view);
  if (!found) {
    const bool damaged = found.error().code == Code::kCorrupt;
    const char* hint = damaged ? "; `mooring journal verify` says what is left of the log" : "";
    return fail_with(found.error().code, fmt::format("queue {}, group {}: message {} has left shared memory and cannot "
                                                     "be read from the log: {}{}",
                                                     queue_->name(), group_name_, seq, found.error().text, hint));
  }
  if (*found != journal::BacklogReader::Found::kMessage) return Code::kEmpty;
  u32 slot = CopySlots::kNone;
  const u64 lead = copy_lead(view.frame_flags, view.bytes.data(), view.bytes.size());
  u8* to = copies_.take(lead + view.bytes.size(), &slot);
  if (to == nullptr) {
    return fail_with(Code::kNoMemory, fmt::format("no memory to copy out {} bytes", view.bytes.size()));
  }
  std::copy(view.bytes.begin(), view.bytes.end(), to + lead);
  return copied<true>(view.frame_flags, to + lead, view.bytes.size(), slot, Lease::kNotParked, message);
}

[[gnu::noinline, gnu::cold]] Code Consumer::copy_logged(Competing& group, const Lease& lease, Message* message) {
  const Code code = copy_from_log(lease.seq, message);
  if (code == Code::kOk) message->token[1] = make_token(lease.park_index, static_cast<u32>(message->token[1]));
  if (group.still_mine(lease)) return code;
  // Given to somebody else meanwhile (who may have settled it: then its segment may have retired under us).
  if (code == Code::kOk) copies_.put(copy_slot_of(*message));
  untimely_ = layout::FailReason::kNone;
  return Code::kStale;
}

[[gnu::always_inline]] inline Code Consumer::copy_out(Competing& group, const Lease& lease, Message* message) {
  if (lease.parked()) return copy_parked(group, lease, lease.park_index, message);
  // A cell of a later lap means that the message left the window between our lease and our look at it; on a durable
  // queue, that publishers went past this group.
  if (layout::cell_laps_ahead(lease.cell, group.order().lap(lease.seq)) == 0 &&
      lease.seq >= group.order().recovered_below) {
    const LaneView* lane = queue_->lane(layout::cell_lane(lease.cell));
    if (lane == nullptr) return corrupt("an order cell names a lane that does not exist");
    FrameView frame;
    const RingOutcome found = frame_of_cell<A>(*lane, lease.cell, lease.seq, &frame);
    if (found == RingOutcome::kOk && __builtin_expect((frame.flags & layout::kFrameExtension) != 0, false)) {
      const Code code = copy_with_headers(*lane, lease, frame, message);
      if (code != Code::kStale || untimely_ != layout::FailReason::kNone) return code;
    } else if (found == RingOutcome::kOk) {
      u32 slot = CopySlots::kNone;
      u8* to = copies_.take(frame.len, &slot);
      if (to == nullptr) return fail_with(Code::kNoMemory, fmt::format("no memory to copy out {} bytes", frame.len));
      A::copy_out(to, frame.payload, frame.len);
      if (still_there<A>(*lane, lease.seq)) {
        message->data = to;
        message->size = frame.len;
        message->headers_bytes = 0;
        message->token[1] = make_token(lease.park_index, slot);
        // The next message most likely follows in the same lane.
        A::prefetch_read(lane->bytes + (frame.end & (lane->size_bytes - 1)));
        return Code::kOk;
      }
      copies_.put(slot);
    } else if (still_there<A>(*lane, lease.seq)) {
      return corrupt("an order cell points at something that is no message");
    }
  }
  if (has_log_) return copy_logged(group, lease, message);
  const u64 word = A::load(group.group().word(lease.seq), std::memory_order_acquire);
  const u32 parked = group.find_moved(lease, word);
  return parked == Lease::kNotParked ? Code::kStale : copy_parked(group, lease, parked, message);
}

[[gnu::always_inline]] inline Code Consumer::take_competing(Competing& group, Message* message) {
  if (__builtin_expect(is_paused(), false)) return take_canary(group, message);
  if (__builtin_expect(in_flight_ != 0 && holds_alone_, false)) {
    return fail_with(Code::kFull,
                     "this consumer holds a message that is given out alone, because a consumer died with "
                     "several before it; settle it before receiving more");
  }
  if (__builtin_expect(in_flight_ >= quota(), false)) {
    return fail_with(Code::kFull, fmt::format("this consumer holds {} messages, as many as group {} deals out; settle "
                                              "some before receiving more",
                                              in_flight_, group_name_));
  }
  for (;;) {
    Lease lease;
    const LeaseOutcome outcome = group.lease(&lease, in_flight_ != 0);
    skipped_alone_ = group.skipped_alone();
    switch (outcome) {
      case LeaseOutcome::kLeased: break;
      case LeaseOutcome::kEmpty:
      case LeaseOutcome::kWindow: return Code::kEmpty;
      case LeaseOutcome::kCorrupt: return corrupt("a state word makes no sense");
    }
    // kEmpty: the log has lost that one.
    if (const Code code = took_competing(group, lease, message); code != Code::kEmpty) return code;
  }
}

[[gnu::always_inline]] inline Code Consumer::took_competing(Competing& group, const Lease& lease, Message* message) {
  message->seq = lease.seq;
  message->attempt = lease.acquired();
  message->flags = message->attempt > 1 ? kMessageRedelivered : 0;
  message->token[0] = lease.word;
  const Code code = copy_out(group, lease, message);
  if (__builtin_expect(code != Code::kOk, false)) {
    if (untimely_ != layout::FailReason::kNone) {
      // Not a failure, and nobody saw it: the supervisor keeps it until its time, or buries it.
      (void)group.nack(lease, std::exchange(untimely_, layout::FailReason::kNone), /*detail=*/false);
      tell(seat_->messages_untimely);
      instance_->ring_bell();
    } else if (code == Code::kEmpty) {
      (void)group.ack(lease);  // the log said so when it was salvaged
    } else if (code != Code::kStale && (has_log_ || code != Code::kCorrupt)) {
      // The next look may find it; what is no message in memory stays one, and fails with our lease.
      (void)group.release(lease);
    }
    return code;
  }
  ++in_flight_;
  holds_alone_ = lease.alone();
  count(seat_->messages_delivered, 1);
  count(seat_->bytes_delivered, message->size);
  if (message->attempt > 1) count(seat_->messages_redelivered, 1);
  return Code::kOk;
}

// Half open and nothing else against it: what `canary` names may be taken.
bool Consumer::canary_is_open(u64* canary) const {
  const u32 paused = A::load(group_slot_->paused, std::memory_order_acquire);  // CANARY
  *canary = A::load(group_slot_->canary, std::memory_order_relaxed);
  return (paused & layout::kGroupCanary) != 0 && (paused & layout::kGroupPauses) == layout::kGroupPausedByBreaker;
}

[[gnu::noinline, gnu::cold]] Code Consumer::take_canary(Competing& group, Message* message) {
  u64 canary = 0;
  skipped_alone_ = false;
  if (!canary_is_open(&canary)) return Code::kEmpty;
  // A consumer that may hold nothing more leaves it to others.
  if ((in_flight_ != 0 && holds_alone_) || in_flight_ >= quota()) return Code::kEmpty;
  Lease lease;
  if (!lease_canary<A>(group.group(), group.order(), seat_index_, canary, in_flight_ != 0, &lease, &skipped_alone_)) {
    return Code::kEmpty;
  }
  return took_competing(group, lease, message);
}

// The one consumer takes what comes next, once for each number.
template <class Exclusive>
[[gnu::noinline, gnu::cold]] Code Consumer::take_exclusive_canary(Exclusive& group, Message* message) {
  u64 number = 0;
  skipped_alone_ = false;
  if (!canary_is_open(&number) || number == canary_taken_) return Code::kEmpty;
  const Code code = take_in_order(group, message);
  if (code != Code::kOk) return code;
  canary_taken_ = number;
  // Release: before the application sees the message. A successor takes one of its own: what this one had comes again.
  A::store(seat_->canary, layout::make_seat_canary(number, message->seq), std::memory_order_release);
  return Code::kOk;
}

template <class Exclusive>
[[gnu::always_inline]] inline Code Consumer::take_exclusive(Exclusive& group, Message* message) {
  if (__builtin_expect(is_paused(), false)) return take_exclusive_canary(group, message);
  if (is_turn_of_table()) {
    if (Code code = take_from_table(message); code != Code::kEmpty) return code;
  }
  const Code code = take_in_order(group, message);
  if (__builtin_expect(code == Code::kEmpty, false) && table_->table_may_have_work()) return take_from_table(message);
  return code;
}

[[gnu::noinline, gnu::cold]] Code Consumer::window_is_full(u64 in_flight) const {
  return fail_with(Code::kFull, fmt::format("{} messages of group {} wait for their settlement, a whole window; settle "
                                            "some before receiving more",
                                            in_flight, group_name_));
}

template <class Exclusive>
[[gnu::always_inline]] inline Code Consumer::take_in_order(Exclusive& group, Message* message) {
  FrameView frame;
  u32 attempt = 0;
  switch (group.take(&frame, &attempt)) {
    case TakeOutcome::kTaken: break;
    case TakeOutcome::kEmpty:
    case TakeOutcome::kHeld: return Code::kEmpty;
    case TakeOutcome::kWindow: return window_is_full(group.in_flight());
    case TakeOutcome::kCorrupt: return corrupt("a frame makes no sense");
  }
  message->data = frame.payload;
  message->size = frame.len;
  message->headers_bytes = 0;
  message->seq = frame.seq;
  message->attempt = attempt;
  message->flags = kMessageInPlace | (attempt > 1 ? kMessageRedelivered : 0);
  message->token[0] = 0;
  message->token[1] = make_token(Lease::kNotParked, CopySlots::kNone);
  if (__builtin_expect((frame.flags & layout::kFrameExtension) != 0, false)) {
    if (Code code = show_with_headers(group, frame.flags, message); code != Code::kOk) return code;
  }
  count(seat_->messages_delivered, 1);
  count(seat_->bytes_delivered, message->size);
  if (attempt > 1) count(seat_->messages_redelivered, 1);
  return Code::kOk;
}

// Of the queue's order first, of the park table when that has nothing and every so many messages.
[[gnu::always_inline]] inline bool Consumer::is_turn_of_table() {
  skipped_alone_ = false;
  return __builtin_expect((++takes_ & (kTableEvery - 1)) == 0, false) && table_->table_may_have_work();
}

// A dead letter that was given back to an exclusive group: copied out, out of order.
[[gnu::noinline, gnu::cold]] Code Consumer::take_from_table(Message* message) {
  Lease lease;
  const bool leased = table_->lease_from_table(&lease, outstanding() != 0);
  skipped_alone_ = table_->skipped_alone();
  if (!leased) return Code::kEmpty;
  const Code code = took_competing(*table_, lease, message);
  return code == Code::kStale ? Code::kEmpty : code;
}

u64 Consumer::outstanding() const {
  switch (group_.index()) {
    case 2: return in_flight_ + std::get_if<ExclusiveLane>(&group_)->in_flight();
    case 3: return in_flight_ + std::get_if<ExclusiveOrder>(&group_)->in_flight();
    default: return in_flight_;
  }
}

Consumer::Competing* Consumer::words_of(const Message& message) {
  if (auto* competing = std::get_if<Competing>(&group_)) return competing;
  return table_.has_value() && lease_of(message).parked() ? &*table_ : nullptr;
}

// The bytes that the source found, unless they were overtaken (kStale).
[[gnu::always_inline]] inline Code Consumer::copy_hot(const ExclusiveDurable& group, const FrameView& frame,
                                                      Message* message) {
  // A length that is not yet known to be one must not cost memory.
  if (frame.payload == nullptr || frame.len > queue_->constants().max_message_bytes) return Code::kStale;
  u32 slot = CopySlots::kNone;
  const u64 lead = copy_lead(frame.flags, frame.payload, frame.len);
  u8* to = copies_.take(lead + frame.len, &slot);
  if (to == nullptr) return fail_with(Code::kNoMemory, fmt::format("no memory to copy out {} bytes", frame.len));
  A::copy_out(to + lead, frame.payload, frame.len);
  if (!group.source().still_there(frame)) {
    copies_.put(slot);
    return Code::kStale;
  }
  return copied<false>(frame.flags, to + lead, frame.len, slot, Lease::kNotParked, message);
}

Code Consumer::take_in_order(ExclusiveDurable& group, Message* message) {
  FrameView frame;
  u32 attempt = 0;
  for (;;) {
    switch (group.take(&frame, &attempt)) {
      case TakeOutcome::kTaken: break;
      case TakeOutcome::kEmpty:
      case TakeOutcome::kHeld: return Code::kEmpty;
      case TakeOutcome::kWindow: return window_is_full(group.in_flight());
      case TakeOutcome::kCorrupt: return corrupt("a frame makes no sense");
    }
    message->seq = frame.seq;
    Code code = copy_hot(group, frame, message);
    if (code == Code::kStale && untimely_ == layout::FailReason::kNone) code = copy_from_log(frame.seq, message);
    if (__builtin_expect(code == Code::kOk, true)) break;
    if (untimely_ != layout::FailReason::kNone) return set_aside(group, frame.seq);
    if (code == Code::kEmpty) {  // the log has lost it, and said so when it was salvaged
      (void)group.ack(frame.seq, attempt);
      continue;
    }
    (void)group.give_back(frame.seq);
    return code;
  }
  message->attempt = attempt;
  message->flags = attempt > 1 ? kMessageRedelivered : 0;
  message->token[0] = 0;
  copied_.push_back({frame.seq, copy_slot_of(*message)});
  ++in_flight_;
  count(seat_->messages_delivered, 1);
  count(seat_->bytes_delivered, message->size);
  if (attempt > 1) count(seat_->messages_redelivered, 1);
  return Code::kOk;
}

[[gnu::always_inline]] inline Code Consumer::take_one(Message* message) {
  switch (group_.index()) {
    case 1: {
      Code code = Code::kStale;
      // kStale: the message was taken back between lease and copy (a straggler repair); the next one then.
      for (int tries = 0; code == Code::kStale && tries < 64; ++tries) {
        code = take_competing(*std::get_if<Competing>(&group_), message);
      }
      return code == Code::kStale ? Code::kEmpty : code;
    }
    case 2: return take_exclusive(*std::get_if<ExclusiveLane>(&group_), message);
    case 3: return take_exclusive(*std::get_if<ExclusiveOrder>(&group_), message);
    case 4: return take_exclusive(*std::get_if<ExclusiveDurable>(&group_), message);
    default: return fail_with(Code::kClosed, "this consumer is closed");
  }
}

[[gnu::always_inline]] inline bool Consumer::is_paused() const {
  // Relaxed: a bound on what is given out, not an order. On the line of the quota, which changes seldom.
  return A::load(group_slot_->paused, std::memory_order_relaxed) != 0;
}

bool Consumer::may_have_work() {
  if (is_paused()) {
    u64 canary = 0;
    if (!canary_is_open(&canary)) return false;
    const auto* competing = std::get_if<Competing>(&group_);
    if (competing != nullptr) {
      return in_flight_ < quota() && !(in_flight_ != 0 && holds_alone_) &&
             canary_is_ready<A>(competing->group(), competing->order(), canary);
    }
    if (canary == canary_taken_) return false;
  } else if (table_.has_value() && table_->table_may_have_work()) {
    return true;
  }
  switch (group_.index()) {
    case 1: return std::get_if<Competing>(&group_)->may_have_work();
    case 2: return std::get_if<ExclusiveLane>(&group_)->may_have_work();
    case 3: return std::get_if<ExclusiveOrder>(&group_)->may_have_work();
    case 4: return std::get_if<ExclusiveDurable>(&group_)->may_have_work();
    default: return false;
  }
}

void Consumer::wake_producers() {
  A::publish_fence(fenced_);  // SLEEPING, with base as what was published
  if (A::load(room_->sleepers, std::memory_order_relaxed) != 0) wake_sleepers(*room_, ~u32{0} >> 1);
}

// Nothing to do: what was left lazy is made exact, so that nobody waits for us while we sleep.
void Consumer::before_sleep() {
  bool moved = false;
  switch (group_.index()) {
    case 1: moved = std::get_if<Competing>(&group_)->help_base(true); break;
    case 2: moved = std::get_if<ExclusiveLane>(&group_)->raise_base(); break;
    case 3: moved = std::get_if<ExclusiveOrder>(&group_)->raise_base(); break;
    case 4: moved = std::get_if<ExclusiveDurable>(&group_)->raise_base(); break;
    default: break;
  }
  if (moved && !durable_) wake_producers();  // of a durable queue they wait for the journal
}

Status Consumer::check_seat() const {
  if (Status open = queue_->check_open(); !open) return open;
  const u64 slot = A::load(queue_->files().seat_slot(seat_index_).slot, std::memory_order_acquire);
  if (layout::slot_generation(slot) != seat_generation_ || layout::slot_life(slot) != layout::SlotLife::kLive) {
    return fail(Code::kClosed, fmt::format("group {} of queue {} was removed, or this seat was given up", group_name_,
                                           queue_->name()));
  }
  return {};
}

// Polls the one word that changes first, and takes when it did.
template <class Group>
Code Consumer::spin_for_message(Group& group, Spin& spin, Message* message) {
  for (u32 steps = 1; spin.step(); ++steps) {
    // A spinner goes by the same truths as a sleeper, only more often: about each 20 us.
    const bool look_around = steps % 1024 == 0;
    if (look_around) {
      if (interrupted_.load(std::memory_order_relaxed)) return Code::kInterrupted;
      before_sleep();
      if (Status seat = check_seat(); !seat) return fail_with(seat.error());
    }
    if (!group.poll() && !look_around) continue;
    if (Code code = take_one(message); code != Code::kEmpty) return code;
  }
  return Code::kEmpty;
}

Code Consumer::wait_for_message(u64 timeout_ns, Message* message) {
  // INTERRUPT: acquire, so that who interrupted is seen to have done what it did before.
  const auto interrupted = [this] { return interrupted_.load(std::memory_order_acquire); };
  if (interrupted()) return Code::kInterrupted;
  if (options_.wait != WaitStrategy::kSpin) backoff_.found_empty();
  Spin spin(options_.wait, options_.spin_ns, timeout_ns);
  Code spun = Code::kEmpty;
  switch (group_.index()) {
    case 1: spun = spin_for_message(*std::get_if<Competing>(&group_), spin, message); break;
    case 2: spun = spin_for_message(*std::get_if<ExclusiveLane>(&group_), spin, message); break;
    case 3: spun = spin_for_message(*std::get_if<ExclusiveOrder>(&group_), spin, message); break;
    case 4: spun = spin_for_message(*std::get_if<ExclusiveDurable>(&group_), spin, message); break;
    default: break;
  }
  if (spun != Code::kEmpty) return spun;
  const u64 deadline_ns = timeout_ns == kForever ? kForever : spin.deadline_ns(monotonic_ns());
  before_sleep();
  Sleeper sleeper(*wake_slot_);
  for (;;) {
    if (Status seat = check_seat(); !seat) return fail_with(seat.error());
    // What is given out alone is none of ours while we hold another, and yet it is there: naps instead of a loop.
    if (skipped_alone_) {
      const bool signalled = ::poll(nullptr, 0, 1) < 0;
      if (Code code = take_one(message); code != Code::kEmpty) return code;
      if (signalled || interrupted()) return Code::kInterrupted;
      if (deadline_ns != kForever && monotonic_ns() >= deadline_ns) return Code::kEmpty;
      continue;
    }
    const SleepOutcome slept = sleeper.sleep(deadline_ns, [&] { return interrupted() || may_have_work(); });
    if (Code code = take_one(message); code != Code::kEmpty) return code;
    if (interrupted()) return Code::kInterrupted;
    if (slept == SleepOutcome::kDeadline) return is_paused() ? Code::kPaused : Code::kEmpty;
    if (slept == SleepOutcome::kInterrupted) return Code::kInterrupted;
  }
}

Code Consumer::receive(Message* message, u64 timeout_ns) {
  if (Code code = check_usable(); code != Code::kOk) return code;
  Code code = take_one(message);
  if (code == Code::kEmpty) {
    if (timeout_ns == 0) {
      before_sleep();
      // Who polls learns here that the queue is gone.
      if (Status seat = check_seat(); !seat) return fail_with(seat.error());
      if (descriptor_ != nullptr) {
        descriptor_->rearm();  // paused, too: else who polls it spins until somebody resumes the group
        // Looked again after arming: what came in between is not left behind an unreadable descriptor, and neither is
        // what came with it.
        code = take_one(message);
        if (code == Code::kOk) descriptor_->signal();
      }
      if (code == Code::kEmpty && is_paused()) return Code::kPaused;
    } else {
      code = wait_for_message(timeout_ns, message);
    }
  }
  if (code != Code::kOk) return code;
  backoff_.took_one();
  // Set before the application sees the message, cleared after its settlement (core.md A6). Release: not held back
  // past the return.
  A::store(seat_->handling, outstanding() <= 1 ? message->seq : layout::kHandlingMany, std::memory_order_release);
  count(seat_->progress, 1);
  return Code::kOk;
}

Code Consumer::receive_batch(std::span<Message> messages, u64 timeout_ns, std::size_t* received) {
  *received = 0;
  if (messages.empty()) return fail_with(Code::kBadArgument, "receive_batch with no room for a message");
  // A batch that came short found the ring empty just as a wait does, and the next one would meet the writer line by
  // line as well.
  if (drained_short_ && timeout_ns != 0 && options_.wait != WaitStrategy::kSpin) backoff_.found_empty();
  drained_short_ = false;
  Code code = receive(&messages[0], timeout_ns);
  if (code != Code::kOk) return code;
  std::size_t count_taken = 1;
  if (messages.size() > 1) {
    A::store(seat_->handling, layout::kHandlingMany, std::memory_order_release);
    while (count_taken < messages.size() && take_one(&messages[count_taken]) == Code::kOk) ++count_taken;
    backoff_.took(count_taken - 1);
    drained_short_ = count_taken < messages.size();
    // A batch that came down to one is one in hand, and its crash is as exact (core.md A6).
    if (count_taken == 1 && outstanding() <= 1) {
      A::store(seat_->handling, messages[0].seq, std::memory_order_release);
    }
  }
  *received = count_taken;
  return Code::kOk;
}

// Of an exclusive group: the buffer goes back with its settlement, so ack_up_to need not know it any more. Most often
// it is the oldest.
[[gnu::noinline]] void Consumer::forget_copy(const Message& message) {
  const auto oldest = copied_.begin() + static_cast<std::ptrdiff_t>(copied_gone_);
  const auto known = std::find_if(oldest, copied_.end(), [&](const Copied& copied) {
    return copied.seq == message.seq && copied.slot == copy_slot_of(message);
  });
  if (known == copied_.end()) return;
  if (known != oldest) {
    copied_.erase(known);
  } else if (++copied_gone_ == copied_.size()) {
    copied_.clear();
    copied_gone_ = 0;
  }
}

[[gnu::always_inline]] inline Code Consumer::settled(const Message& message, bool stale, u64* counter) {
  if (!copied_.empty()) forget_copy(message);
  if (copies_.put(copy_slot_of(message))) --in_flight_;
  if (in_flight_ == 0) A::store(seat_->handling, u64{0}, std::memory_order_relaxed);
  if (stale) {
    count(seat_->stale_settlements, 1);
    return Code::kStale;
  }
  if (counter != nullptr) count(*counter, 1);
  return Code::kOk;
}

[[gnu::always_inline]] inline bool Consumer::is_plausible(const Message& message) const {
  const u32 park_index = lease_of(message).park_index;
  return park_index == Lease::kNotParked || park_index < queue_->constants().parks;
}

Code Consumer::ack(const Message& message) {
  if (Code code = check_usable(); code != Code::kOk) return code;
  if (!is_plausible(message)) return settled(message, true, nullptr);
  bool stale = false;
  bool base_moved = false;
  if (table_.has_value() && lease_of(message).parked()) {
    return settled(message, table_->ack(lease_of(message)) == Settled::kStale, &seat_->messages_acked);
  }
  if (auto* competing = std::get_if<Competing>(&group_)) {
    stale = competing->ack(lease_of(message)) == Settled::kStale;
    // A producer that waits for room reads past ACKED words by itself, but has to be woken to do so.
    const bool wanted = !durable_ && A::load(room_->sleepers, std::memory_order_relaxed) != 0;
    base_moved = competing->help_base(wanted) && !durable_;
  } else if (auto* lane = std::get_if<ExclusiveLane>(&group_)) {
    stale = !lane->ack(message.seq, message.attempt);
    base_moved = A::load(room_->sleepers, std::memory_order_relaxed) != 0;
    if (base_moved) lane->raise_base();
  } else if (auto* order = std::get_if<ExclusiveOrder>(&group_)) {
    stale = !order->ack(message.seq, message.attempt);
    base_moved = A::load(room_->sleepers, std::memory_order_relaxed) != 0;
    if (base_moved) order->raise_base();
  } else if (auto* durable = std::get_if<ExclusiveDurable>(&group_)) {
    stale = !durable->ack(message.seq, message.attempt);
    base_moved = !durable_ && A::load(room_->sleepers, std::memory_order_relaxed) != 0;
    if (base_moved) durable->raise_base();
  }
  if (__builtin_expect(base_moved, false)) wake_producers();
  return settled(message, stale, &seat_->messages_acked);
}

Code Consumer::ack_sync(const Message& message, u64 timeout_ns) {
  if (Code code = check_usable(); code != Code::kOk) return code;
  if (!queue_->is_durable()) {
    return fail_with(
        Code::kBadArgument,
        fmt::format("ack_sync: queue {} is volatile, nothing of it is ever on a disk; use ack", queue_->name()));
  }
  const Code code = ack(message);
  return code == Code::kOk ? wait_settled(timeout_ns) : code;
}

// SETTLE_EPOCH     here                                         the journal
//                  settle; full fence; load settle_epoch        settle_epoch + 1, seq_cst; scan; flush; settled_epoch
//   An epoch that begins after our look scans words that hold our settlement, so it is enough to wait for the next one.
Code Consumer::wait_settled(u64 timeout_ns) {
  const layout::QueueState& state = queue_->files().state();
  layout::WakeHead& wake = *queue_->files().wake();
  A::full_fence();
  const u64 wanted = A::load(state.settle_epoch, std::memory_order_seq_cst) + 1;
  A::add(wake.settle_asks, u64{1}, std::memory_order_seq_cst);
  wake_sleepers(wake.journal, 1);
  const auto is_done = [&] { return A::load(state.settled_epoch, std::memory_order_acquire) >= wanted; };
  Spin spin(options_.wait, options_.spin_ns, timeout_ns);
  while (spin.step()) {
    if (is_done()) return Code::kOk;
  }
  const u64 deadline_ns = timeout_ns == kForever ? kForever : spin.deadline_ns(monotonic_ns());
  Sleeper sleeper(wake.durable);
  for (;;) {
    if (is_done()) return Code::kOk;
    if (Status open = queue_->check_open(); !open) return fail_with(open.error());
    if (A::load(state.journal_life, std::memory_order_relaxed) == static_cast<u64>(layout::JournalLife::kFailed)) {
      return fail_with(Code::kIo, fmt::format("queue {}: its journal failed; the message is acknowledged, and may come "
                                              "again after a power cut",
                                              queue_->name()));
    }
    const SleepOutcome slept = sleeper.sleep(deadline_ns, is_done);
    if (is_done()) return Code::kOk;
    if (slept == SleepOutcome::kDeadline) return Code::kTimeout;
    if (slept == SleepOutcome::kInterrupted) return Code::kInterrupted;
  }
}

Code Consumer::ack_up_to(const Message& message) {
  if (Code code = check_usable(); code != Code::kOk) return code;
  // Out of order, so it stands for itself.
  if (table_.has_value() && lease_of(message).parked()) return ack(message);
  u64 settled_count = 0;
  bool wanted = A::load(room_->sleepers, std::memory_order_relaxed) != 0;
  if (auto* lane = std::get_if<ExclusiveLane>(&group_)) {
    settled_count = lane->ack_up_to(message.seq);
    if (wanted) lane->raise_base();
  } else if (auto* order = std::get_if<ExclusiveOrder>(&group_)) {
    settled_count = order->ack_up_to(message.seq);
    if (wanted) order->raise_base();
  } else if (auto* durable = std::get_if<ExclusiveDurable>(&group_)) {
    settled_count = durable->ack_up_to(message.seq);
    wanted = wanted && !durable_;
    if (wanted) durable->raise_base();
    // What was given back has no buffer; the others up to here are settled by now.
    copied_.erase(copied_.begin(), copied_.begin() + static_cast<std::ptrdiff_t>(std::exchange(copied_gone_, 0)));
    if (settled_count != 0)
      std::erase_if(copied_, [&](const Copied& copied) {
        if (copied.seq > message.seq) return false;
        if (copies_.put(copied.slot)) --in_flight_;
        return true;
      });
  } else {
    return fail_with(Code::kBadArgument, fmt::format("ack_up_to needs an exclusive group; {} is competing, and others "
                                                     "hold messages in between: acknowledge one by one",
                                                     group_name_));
  }
  if (wanted) wake_producers();
  A::store(seat_->handling, u64{0}, std::memory_order_relaxed);
  if (settled_count == 0) {
    count(seat_->stale_settlements, 1);
    return Code::kStale;
  }
  count(seat_->messages_acked, settled_count);
  return Code::kOk;
}

Code Consumer::nack(const Message& message, const SettlementDetail& detail) {
  return fail_message(message, layout::FailReason::kNack, detail);
}

Code Consumer::reject(const Message& message, u32 code, std::string_view text) {
  return fail_message(message, layout::FailReason::kRejected,
                      SettlementDetail{.delay_ns = layout::kNoDelay, .code = code, .text = text});
}

Code Consumer::extend(Message* message) {
  if (Code code = check_usable(); code != Code::kOk) return code;
  if (!is_plausible(*message)) return Code::kStale;
  Competing* competing = words_of(*message);
  if (competing == nullptr) {  // exclusive: nothing is ever taken back
    count(seat_->progress, 1);
    return Code::kOk;
  }
  Lease lease = lease_of(*message);
  if (competing->extend(&lease) == Settled::kStale) return Code::kStale;
  count(seat_->progress, 1);
  message->token[0] = lease.word;
  message->token[1] = make_token(lease.park_index, copy_slot_of(*message));
  return Code::kOk;
}

Code Consumer::handling(const Message& message) {
  if (Code code = check_usable(); code != Code::kOk) return code;
  A::store(seat_->handling, message.seq, std::memory_order_release);
  count(seat_->progress, 1);
  return Code::kOk;
}

Code Consumer::handling_none() {
  if (Code code = check_usable(); code != Code::kOk) return code;
  A::store(seat_->handling, u64{0}, std::memory_order_release);
  return Code::kOk;
}

void Consumer::interrupt() {
  // INTERRUPT: release. The sleeper loads the futex word before it looks: it sees this, or the word has changed.
  interrupted_.store(true, std::memory_order_release);
  if (instance_->is_forked()) return;  // the slot is not mapped here, and nobody sleeps
  // All of the group are woken, not only the counted ones: a count may be too low after a race (queue/sleeper.hpp).
  A::add(wake_slot_->futex, 1U, std::memory_order_release);
  futex_wake(&wake_slot_->futex, std::numeric_limits<int>::max());
}

u64 Consumer::ack_wait_ns() const {
  if (*alive_ == 0 || is_exclusive()) return 0;                                // a child of fork has no slot to look at
  return A::load(group_slot_->policy.ack_wait_ns, std::memory_order_relaxed);  // a setting, not an order
}

Code Consumer::fail_message(const Message& message, layout::FailReason reason, const SettlementDetail& detail) {
  if (Code code = check_usable(); code != Code::kOk) return code;
  if (!is_plausible(message)) return settled(message, true, nullptr);
  // The notice first, then the word that names it.
  const auto post = [&](u32 acquired) {
    return detail.empty() || acquired == 0 ? SettlementNotices<A>::kNone : notices_.post(message.seq, acquired, detail);
  };
  constexpr u32 kNoNotice = SettlementNotices<A>::kNone;
  NackedWord nacked;
  u32 notice = kNoNotice;
  bool stale = false;
  if (Competing* words = words_of(message)) {
    const Lease lease = lease_of(message);
    notice = post(lease.acquired());
    stale = words->nack(lease, reason, notice != kNoNotice, &nacked) == Settled::kStale;
  } else if (auto* lane = std::get_if<ExclusiveLane>(&group_)) {
    notice = post(lane->acquired_of(message.seq));
    stale = !lane->fail(message.seq, seat_index_, reason, notice != kNoNotice, &nacked);
  } else if (auto* order = std::get_if<ExclusiveOrder>(&group_)) {
    notice = post(order->acquired_of(message.seq));
    stale = !order->fail(message.seq, seat_index_, reason, notice != kNoNotice, &nacked);
  } else if (auto* durable = std::get_if<ExclusiveDurable>(&group_)) {
    notice = post(durable->acquired_of(message.seq));
    stale = !durable->fail(message.seq, seat_index_, reason, notice != kNoNotice, &nacked);
  }
  if (notice != kNoNotice) notices_.posted(notice, nacked);
  if (!stale && reason == layout::FailReason::kRejected) count(seat_->messages_rejected, 1);
  const Code code = settled(message, stale, /*counter=*/nullptr);
  if (code == Code::kOk) {
    tell(seat_->messages_nacked);
    instance_->ring_bell();
  }
  return code;
}

Code Consumer::release(const Message& message) {
  if (Code code = check_usable(); code != Code::kOk) return code;
  if (!is_plausible(message)) return settled(message, true, nullptr);
  bool stale = false;
  if (Competing* competing = words_of(message)) {
    stale = competing->release(lease_of(message)) == Settled::kStale;
    if (!stale) {
      A::publish_fence(fenced_);  // SLEEPING, with the READY word as what was published
      wake_sleepers(*wake_slot_, 1);
    }
  } else if (auto* lane = std::get_if<ExclusiveLane>(&group_)) {
    stale = !lane->give_back(message.seq);
  } else if (auto* order = std::get_if<ExclusiveOrder>(&group_)) {
    stale = !order->give_back(message.seq);
  } else if (auto* durable = std::get_if<ExclusiveDurable>(&group_)) {
    stale = !durable->give_back(message.seq);
  }
  return settled(message, stale, &seat_->messages_released);
}

Result<int> Consumer::descriptor() {
  if (descriptor_ == nullptr) {
    Result<std::unique_ptr<WakeDescriptor>> made = WakeDescriptor::make(*wake_slot_);
    if (!made) return fail(made.error());
    descriptor_ = std::move(*made);
  }
  return descriptor_->fd();
}

}  // namespace mooring
