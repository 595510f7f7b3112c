#include "queue/producer.hpp"

#include <fmt/format.h>

#include "queue/duplicates.hpp"
#include "queue/error_detail.hpp"

namespace mooring {
namespace {

using A = HardwareAtomics;

// Counters have one writer, the owner; relaxed, because nothing is ordered by them.
void count(u64& counter, u64 by) {
  A::store(counter, A::load(counter, std::memory_order_relaxed) + by, std::memory_order_relaxed);
}

}  // namespace

Result<std::unique_ptr<Producer>> Producer::open(std::shared_ptr<Instance> instance, const std::string& name,
                                                 const Options& options) {
  const Instance::Opening opening;
  Result<Json> grant = instance->request({{"op", "open_producer"}, {"queue", name}}, &opening);
  if (!grant) return fail(grant.error());
  Result<u64> lane = number_member(*grant, "lane", 0, layout::kLanesMax - 1);
  if (!lane) return fail(lane.error());
  Result<u64> generation = number_member(*grant, "generation", 0, ~u32{0});
  if (!generation) return fail(generation.error());
  Result<std::shared_ptr<Queue>> queue = instance->attach(name);
  if (!queue) return fail(queue.error());
  if (*lane >= (*queue)->constants().lanes_max) {
    return fail(Code::kCorrupt, fmt::format("queue {}: the supervisor granted lane {}, beyond the last", name, *lane));
  }

  std::unique_ptr<Producer> producer(new Producer(std::move(instance), std::move(*queue), options));
  producer->lane_index_ = static_cast<u32>(*lane);
  producer->lane_generation_ = static_cast<u32>(*generation);
  producer->granted_ = true;
  producer->alive_ = producer->instance_->alive_page();
  const Queue& q = *producer->queue_;
  Result<Mapping> mapping = q.files().map_lane(producer->lane_index_, Access::read_write, /*prefault=*/true);
  if (!mapping) return fail(mapping.error());
  producer->lane_mapping_ = std::move(*mapping);
  producer->lane_ = view_lane(producer->lane_mapping_, q.constants().lane_bytes);
  producer->group_epoch_word_ = &q.files().state().group_epoch;
  producer->spsc_ = q.is_spsc();
  producer->durable_ = q.is_durable();
  producer->spills_ = q.spills();
  if (layout::finds_duplicates(q.constants())) {
    const auto log = grant->find("log");
    producer->log_ = std::make_unique<LoggedMessages>(
        *producer->queue_, log != grant->end() && log->is_string() ? log->get<std::string>() : std::string());
  }
  producer->max_message_bytes_ = q.constants().max_message_bytes;
  A::store(producer->lane_.head->blocked, u64{0}, std::memory_order_relaxed);  // the owner before may have died waiting
  if (producer->spsc_) {
    if (SpscWriter<A>::recover(producer->lane_, q.constants().first_seq, &producer->spsc_writer_) != RingOutcome::kOk) {
      return fail(Code::kCorrupt,
                  fmt::format("queue {}: lane {} has no readable end, so its last message is not known; remove and "
                              "create the queue again",
                              name, producer->lane_index_));
    }
  } else {
    const layout::LaneSlot& slot = q.files().lane_slot(producer->lane_index_);
    producer->order_writer_.emplace(q.order(), producer->lane_, producer->lane_index_,
                                    A::load(slot.reclaim_floor, std::memory_order_acquire));
    if (producer->order_writer_->inherit(A::load(slot.last_seq, std::memory_order_acquire)) != RingOutcome::kOk) {
      return fail(Code::kCorrupt, fmt::format("queue {}: the messages in lane {} make no sense; somebody wrote over "
                                              "them; remove the queue and create it again",
                                              name, producer->lane_index_));
    }
  }
  if (Status status = producer->refresh_groups(); !status) return fail(status.error());
  // OPENED: release; a supervisor that finds the grant without this gives it to somebody else at our next hello.
  A::store(producer->lane_.head->opened, u64{producer->lane_generation_}, std::memory_order_release);
  return producer;
}

Producer::~Producer() {
  // The threads behind them did not cross the fork: waiting for their end there would never end.
  if (instance_->is_forked()) {
    static_cast<void>(durable_descriptor_.release());
    static_cast<void>(durable_watch_.release());
  }
  durable_watch_.reset();  // no call from here on
  if (!granted_ || instance_->is_forked()) return;
  if (order_writer_.has_value()) order_writer_->settle_tail();
  // CLOSED: release; the supervisor acquires it, now or when it is back, and frees the lane without a death.
  if (lane_.head != nullptr) A::store(lane_.head->closed, u64{lane_generation_}, std::memory_order_release);
  // Told as well, so that the lane is free at once. Without a supervisor the notice above is found later.
  (void)instance_->request(
      {{"op", "close_producer"}, {"queue", queue_->name()}, {"lane", lane_index_}, {"generation", lane_generation_}});
}

[[gnu::always_inline]] inline Code Producer::check_usable() const {
  if (__builtin_expect(*alive_ == 0, false)) {
    return fail_with(Code::kForked, "this producer belongs to the parent process; open one of your own");
  }
  if (__builtin_expect(closed_, false)) {
    if (Status open = queue_->check_open(); !open) return fail_with(open.error());
  }
  return Code::kOk;
}

[[gnu::always_inline]] inline Code Producer::check_size(std::size_t size) const {
  if (__builtin_expect(size > max_message_bytes_, false)) {
    return fail_with(Code::kTooBig,
                     fmt::format("a message of {} bytes is too big for queue {}: max_message_bytes is {}", size,
                                 queue_->name(), max_message_bytes_));
  }
  return Code::kOk;
}

Code Producer::plan_for(std::size_t size, const message::PublishOptions& options, message::Plan* plan) const {
  Result<message::Plan> planned = message::plan(options);
  if (!planned) return fail_with(planned.error());
  if (planned->bytes != 0 && (size > max_message_bytes_ || planned->bytes > max_message_bytes_ - size)) {
    return fail_with(Code::kTooBig,
                     fmt::format("a message of {} bytes with {} bytes of headers is too big for queue {}: "
                                 "max_message_bytes is {}, for both together",
                                 size, planned->bytes, queue_->name(), max_message_bytes_));
  }
  *plan = *planned;
  return check_size(size);
}

u64 Producer::mark() {
  // DURABLE: R = J, whatever the groups' bases are. Who is overtaken reads on in the log (core.md 6.4).
  const u64 logged = durable_ || spills_ ? A::load(queue_->files().state().durable_mark, std::memory_order_acquire) : 0;
  if (durable_) return logged;
  return std::max(finished_mark(), logged);
}

u64 Producer::finished_mark() {
  for (int tries = 0; tries < 3; ++tries) {
    const u64 found = release_mark<A>(bases_, *group_epoch_word_, group_epoch_);
    if (found != 0) return found;
    // GROUP_ENTERED: the epoch moved, or a group is being born. Map what is there now and ask again; 0 is always safe.
    if (A::load(*group_epoch_word_, std::memory_order_acquire) == group_epoch_) return 0;
    if (!refresh_groups()) return 0;
  }
  return 0;
}

Status Producer::refresh_groups() {
  const QueueFiles& files = queue_->files();
  // GROUP_ENTERED: acquire, before the slots are read.
  const u64 epoch = A::load(files.state().group_epoch, std::memory_order_acquire);
  // The epoch is raised when the queue ends, too.
  if (Status open = queue_->check_open(); !open) {
    closed_ = true;
    group_epoch_ = epoch;
    return open;
  }
  std::vector<MappedGroup> mapped;
  std::vector<GroupBase> bases;
  std::vector<layout::WakeSlot*> slots;
  for (u32 index = 0; index < queue_->constants().groups_max; ++index) {
    const layout::GroupSlot& slot = files.group_slot(index);
    const u64 word = A::load(slot.slot, std::memory_order_acquire);
    const layout::SlotLife life = layout::slot_life(word);
    if (life != layout::SlotLife::kEntering && life != layout::SlotLife::kLive) continue;
    const u32 generation = layout::slot_generation(word);
    auto known = std::find_if(mapped_groups_.begin(), mapped_groups_.end(), [&](const MappedGroup& group) {
      return group.index == index && group.generation == generation && group.mapping.data() != nullptr;
    });
    MappedGroup group{index, generation, {}};
    if (known != mapped_groups_.end()) {
      group.mapping = std::move(known->mapping);
    } else {
      Result<Mapping> mapping = files.map_group(index, Access::read_only, /*prefault=*/true);
      if (!mapping) return fail(mapping.error());
      group.mapping = std::move(*mapping);
    }
    GroupBase base;
    base.group =
        view_group(group.mapping.data(), queue_->constants().words, static_cast<u32>(queue_->constants().parks));
    base.competing = slot.mode == layout::GroupMode::kCompeting;
    bases.push_back(base);
    // Where consumers see durable messages only, the journal wakes them.
    if (queue_->delivery_limit() == nullptr) slots.push_back(&files.group_wake(index));
    mapped.push_back(std::move(group));
  }
  if (durable_) slots.push_back(&files.wake()->journal);
  mapped_groups_ = std::move(mapped);
  bases_ = std::move(bases);
  wake_slots_ = std::move(slots);
  fenced_ = A::load(files.state().fence_mode, std::memory_order_acquire) != 0;
  group_epoch_ = epoch;
  return {};
}

[[gnu::always_inline]] inline void Producer::wake_groups(u64 published) {
  A::publish_fence(fenced_);  // SLEEPING
  // Relaxed: a new group's sleepers are looked at by the next publish at the latest, and their sleep has a bound.
  if (__builtin_expect(A::load(*group_epoch_word_, std::memory_order_relaxed) != group_epoch_, false)) {
    (void)refresh_groups();
  }
  for (layout::WakeSlot* slot : wake_slots_) {
    if (__builtin_expect(A::load(slot->sleepers, std::memory_order_relaxed) != 0, false)) {
      wake_sleepers(*slot, static_cast<u32>(std::min<u64>(published, ~u32{0} >> 1)));
    }
  }
}

[[gnu::always_inline]] inline u8* Producer::try_room(std::size_t size, RingOutcome* why) {
  auto release = [this] { return mark(); };
  return spsc_ ? spsc_writer_.reserve(size, release, why) : order_writer_->reserve(size, release, why);
}

// Runs `try_again` until it says anything but kFull, or the time is over.
template <class Try>
Code Producer::wait_for_room(u64 timeout_ns, Try&& try_again) {
  layout::LaneHead& head = *lane_.head;
  if (Status open = queue_->check_open(); !open) return fail_with(open.error());
  if (timeout_ns == 0 || queue_->constants().overflow == layout::Overflow::kReject) {
    count(head.publishes_rejected, 1);
    return Code::kFull;
  }
  const u64 began_ns = monotonic_ns();
  const u64 deadline_ns = deadline_after(began_ns, timeout_ns);
  A::store(head.blocked, u64{1}, std::memory_order_release);  // the supervisor looks for stragglers (core.md A16)
  if (spills_) {
    A::full_fence();  // SLEEPING, with `blocked` as what was published
    wake_sleepers(queue_->files().wake()->journal, 1);
  }
  // What only the journal can free is never free once it has failed; on a full disk nothing is taken either.
  const auto look_around = [this] {
    if (Status open = queue_->check_open(); !open) return fail_with(open.error());
    if (!durable_) return Code::kFull;
    const Code journal = check_journal();
    return journal == Code::kOk ? Code::kFull : journal;
  };
  Spin spin(options_.wait, options_.spin_ns, timeout_ns);
  Code code = Code::kFull;
  u32 steps = 0;
  while (code == Code::kFull && spin.step()) {
    code = try_again();
    // A spinner goes by the same truths as a sleeper, only more often.
    if (code != Code::kFull || ++steps % 1024 != 0) continue;
    if (steps == 1024) instance_->ring_bell();
    code = look_around();
  }
  if (code == Code::kFull) {
    instance_->ring_bell();
    Sleeper sleeper(queue_->files().wake()->room);
    while (code == Code::kFull) {
      const SleepOutcome slept = sleeper.sleep(deadline_ns, [&] {
        code = try_again();
        return code != Code::kFull;
      });
      if (code != Code::kFull) break;
      if (slept == SleepOutcome::kDeadline) code = Code::kTimeout;
      if (slept == SleepOutcome::kInterrupted) code = Code::kInterrupted;
      if (code == Code::kFull) code = look_around();
      if (code == Code::kFull) code = try_again();
    }
  }
  A::store(head.blocked, u64{0}, std::memory_order_release);
  count(head.blocked_ns, monotonic_ns() - began_ns);
  if (code == Code::kTimeout) count(head.publishes_rejected, 1);
  return code;
}

[[gnu::always_inline]] inline u8* Producer::room_for(std::size_t size, u64 timeout_ns, Code* code) {
  RingOutcome why = RingOutcome::kOk;
  u8* room = try_room(size, &why);
  if (__builtin_expect(room != nullptr, true)) return room;
  if (why == RingOutcome::kTooBig) {
    *code = fail_with(Code::kTooBig,
                      fmt::format("a message of {} bytes never fits a lane of {} bytes", size, lane_.size_bytes));
    return nullptr;
  }
  *code = wait_for_room(timeout_ns, [&] {
    room = try_room(size, &why);
    return room != nullptr ? Code::kOk : Code::kFull;
  });
  return room;
}

[[gnu::always_inline]] inline Code Producer::flush(u64 timeout_ns, u64* last_seq, u64* published) {
  if (spsc_) {
    spsc_writer_.publish();
    *last_seq = spsc_writer_.next_seq() - 1;
    wake_groups(*published);
    return Code::kOk;
  }
  *published = 0;
  auto release = [this] { return mark(); };
  auto publish_some = [&] {
    u64 some = 0;
    const RingOutcome outcome = order_writer_->publish(release, last_seq, &some);
    *published += some;
    if (some != 0) wake_groups(some);
    switch (outcome) {
      case RingOutcome::kOk: return Code::kOk;
      case RingOutcome::kFull: return Code::kFull;
      default:
        return fail_with(Code::kCorrupt, fmt::format("queue {}: the order ring makes no sense; somebody wrote over it",
                                                     queue_->name()));
    }
  };
  Code code = publish_some();
  if (__builtin_expect(code == Code::kFull, false)) code = wait_for_room(timeout_ns, publish_some);
  if (code != Code::kOk) order_writer_->forget_pending();
  return code;
}

Code Producer::publish(const void* data, std::size_t size, u64 timeout_ns, u64* seq) {
  if (Code code = check_usable(); code != Code::kOk) return code;
  if (Code code = check_size(size); code != Code::kOk) return code;
  if (seq != nullptr) *seq = 0;
  if (__builtin_expect(durable_, false)) {
    if (Code code = wait_for_journal(timeout_ns); code != Code::kOk) return code;
  }
  reserved_ = false;
  Code code = Code::kOk;
  u8* room = room_for(size, timeout_ns, &code);
  if (room == nullptr) return code;
  if (size != 0) A::copy_in(room, data, size);  // an empty message may come with a null pointer
  return commit_reserved(size, FrameHead{}, timeout_ns, seq);
}

Code Producer::publish_with(const void* data, std::size_t size, const message::PublishOptions& options, u64 timeout_ns,
                            u64* seq) {
  if (Code code = check_usable(); code != Code::kOk) return code;
  if (seq != nullptr) *seq = 0;
  message::Plan plan;
  if (Code code = plan_for(size, options, &plan); code != Code::kOk) return code;
  if (plan.bytes == 0) return publish(data, size, timeout_ns, seq);
  if (durable_) {
    if (Code code = check_journal(); code != Code::kOk) return code;
  }
  reserved_ = false;
  Code code = Code::kOk;
  u8* room = room_for(plan.bytes + size, timeout_ns, &code);
  if (room == nullptr) return code;
  message::encode(plan, room);
  if (size != 0) A::copy_in(room + plan.bytes, data, size);
  if (log_ == nullptr || options.headers.message_id.empty()) {
    return commit_apart(size, FrameHead{plan.bytes, plan.flags}, timeout_ns, seq);
  }
  u64 own = 0;
  code = commit_apart(size, FrameHead{plan.bytes, plan.flags}, timeout_ns, &own);
  if (seq != nullptr) *seq = own;
  if (code != Code::kOk || options_.no_wait) return code;
  return first_seq(own, seq);
}

[[gnu::always_inline]] inline Code Producer::commit_reserved(std::size_t size, FrameHead head, u64 timeout_ns,
                                                             u64* seq) {
  reserved_ = false;
  if (spsc_) {
    spsc_writer_.append(head.bytes + size, head.flags);
  } else {
    order_writer_->append(head.bytes + size, head.flags);
  }
  u64 last_seq = 0;
  u64 published = 1;
  const Code code = flush(timeout_ns, &last_seq, &published);
  if (code != Code::kOk) return code;
  if (seq != nullptr) *seq = last_seq;
  count(lane_.head->messages_published, 1);
  count(lane_.head->bytes_published, size);
  if (__builtin_expect(durable_, false)) {
    last_seq_ = last_seq;
    if (!options_.no_wait) return wait_flushed(last_seq, timeout_ns);
  }
  return Code::kOk;
}

[[gnu::noinline]] Code Producer::commit_apart(std::size_t size, FrameHead head, u64 timeout_ns, u64* seq) {
  return commit_reserved(size, head, timeout_ns, seq);
}

// What publish_all() publishes. head(): what goes before the payload of message i; kTooBig, kBadArgument.
struct Producer::PlainBatch {
  const Producer& producer;
  std::span<const Slice> messages;

  using Head = FrameHead;
  Code head(std::size_t i, Head* /*head*/) const { return producer.check_size(messages[i].size); }
  static void write(const Head& /*head*/, u8* /*room*/) {}
};
struct Producer::HeadedBatch {
  const Producer& producer;
  std::span<const Outgoing> messages;

  using Head = message::Plan;
  Code head(std::size_t i, Head* head) const {
    if (messages[i].options != nullptr) return producer.plan_for(messages[i].size, *messages[i].options, head);
    *head = {};
    return producer.check_size(messages[i].size);
  }
  static void write(const Head& head, u8* room) {
    if (head.bytes != 0) message::encode(head, room);
  }
};

Code Producer::publish_batch(std::span<const Slice> slices, u64 timeout_ns, std::size_t* published) {
  return publish_all(PlainBatch{*this, slices}, timeout_ns, published);
}

Code Producer::publish_batch_with(std::span<const Outgoing> messages, u64 timeout_ns, std::size_t* published) {
  return publish_all(HeadedBatch{*this, messages}, timeout_ns, published);
}

template <class Batch>
Code Producer::publish_all(const Batch& batch, u64 timeout_ns, std::size_t* published) {
  *published = 0;
  if (Code code = check_usable(); code != Code::kOk) return code;
  const std::size_t messages_count = batch.messages.size();
  typename Batch::Head head;
  for (std::size_t i = 0; i < messages_count; ++i) {
    if (Code code = batch.head(i, &head); code != Code::kOk) return code;
  }
  if (durable_) {
    if (Code code = wait_for_journal(timeout_ns); code != Code::kOk) return code;
  }
  reserved_ = false;
  const u64 deadline_ns =
      timeout_ns == 0 || timeout_ns == kForever ? timeout_ns : deadline_after(monotonic_ns(), timeout_ns);
  auto left_ns = [&] {
    if (timeout_ns == 0 || timeout_ns == kForever) return timeout_ns;
    const u64 now_ns = monotonic_ns();
    return now_ns >= deadline_ns ? u64{0} : deadline_ns - now_ns;
  };
  u64 appended = 0;
  u64 bytes = 0;
  u64 newest_seq = 0;
  // What is appended goes out before anything waits: a batch that fills the lane is never left pending in silence.
  auto send = [&] {
    if (appended == 0) return Code::kOk;
    u64 last_seq = 0;
    u64 went_out = appended;
    const Code code = flush(left_ns(), &last_seq, &went_out);
    if (went_out != 0) newest_seq = last_seq;
    for (u64 i = *published; i < *published + went_out; ++i) bytes += batch.messages[i].size;
    *published += went_out;
    appended = 0;
    return code;
  };
  Code code = Code::kOk;
  for (std::size_t i = 0; i < messages_count; ++i) {
    // Once more, and what goes by it goes by this one: the times are those of the message, not of the batch.
    code = batch.head(i, &head);
    if (code != Code::kOk) break;
    const auto& message = batch.messages[i];
    const u64 frame_len = head.bytes + message.size;
    RingOutcome why = RingOutcome::kOk;
    u8* room = try_room(frame_len, &why);
    if (__builtin_expect(room == nullptr, false)) {
      code = send();
      if (code != Code::kOk) break;
      room = room_for(frame_len, left_ns(), &code);
      if (room == nullptr) break;
    }
    Batch::write(head, room);
    if (message.size != 0) A::copy_in(room + head.bytes, message.data, message.size);
    if (spsc_) {
      spsc_writer_.append(frame_len, head.flags);
    } else {
      order_writer_->append(frame_len, head.flags);
    }
    ++appended;
  }
  if (const Code sent = send(); code == Code::kOk) code = sent;
  count(lane_.head->messages_published, *published);
  count(lane_.head->bytes_published, bytes);
  if (durable_ && newest_seq != 0) {
    last_seq_ = newest_seq;
    if (!options_.no_wait) {
      const Code flushed = wait_flushed(newest_seq, left_ns());
      if (code == Code::kOk) code = flushed;
    }
  }
  return code;
}

Code Producer::reserve_room(std::size_t size, FrameHead head, u64 timeout_ns, u8** room) {
  if (durable_) {
    if (Code code = wait_for_journal(timeout_ns); code != Code::kOk) return code;
  }
  Code code = Code::kOk;
  *room = room_for(head.bytes + size, timeout_ns, &code);
  if (*room == nullptr) return code;
  reserved_ = true;
  reserved_bytes_ = size;
  reserved_head_ = head;
  return Code::kOk;
}

Code Producer::reserve(std::size_t size, u64 timeout_ns, u8** data) {
  reserved_ = false;
  reserved_has_id_ = false;
  if (Code code = check_usable(); code != Code::kOk) return code;
  if (Code code = check_size(size); code != Code::kOk) return code;
  return reserve_room(size, FrameHead{}, timeout_ns, data);
}

Code Producer::reserve_with(std::size_t size, const message::PublishOptions& options, u64 timeout_ns, u8** data) {
  reserved_ = false;
  *data = nullptr;
  reserved_has_id_ = !options.headers.message_id.empty();
  if (Code code = check_usable(); code != Code::kOk) return code;
  message::Plan plan;
  if (Code code = plan_for(size, options, &plan); code != Code::kOk) return code;
  u8* room = nullptr;
  if (Code code = reserve_room(size, FrameHead{plan.bytes, plan.flags}, timeout_ns, &room); code != Code::kOk) {
    return code;
  }
  if (plan.bytes != 0) message::encode(plan, room);
  *data = room + plan.bytes;
  return Code::kOk;
}

Code Producer::commit(std::size_t size, u64* seq) {
  if (Code code = check_usable(); code != Code::kOk) return code;
  if (!reserved_) return fail_with(Code::kBadArgument, "commit without a reservation: call reserve first");
  if (size > reserved_bytes_) {
    return fail_with(Code::kBadArgument,
                     fmt::format("commit of {} bytes, but {} were reserved", size, reserved_bytes_));
  }
  // Cells that are all taken are rare (the lane is full long before); the wait is the reserve's kind of wait.
  if (__builtin_expect(log_ == nullptr || !reserved_has_id_, true))
    return commit_reserved(size, reserved_head_, kForever, seq);
  u64 own = 0;
  const Code code = commit_apart(size, reserved_head_, kForever, &own);
  if (seq != nullptr) *seq = own;
  return code != Code::kOk || options_.no_wait ? code : first_seq(own, seq);
}

// --- Durable queues -------------------------------------------------------------------------------------------------

// max_backlog_bytes is reached: as a full ring (block: waits, reject: kFull).
Code Producer::wait_for_journal(u64 timeout_ns) {
  const Code code = check_journal();
  if (__builtin_expect(code != Code::kFull, true)) return code;
  return wait_for_room(timeout_ns, [this] { return check_journal(); });
}

Code Producer::check_journal() const {
  // Relaxed: what was promised is told by the mark alone; this only saves publishing into a journal that stands.
  switch (static_cast<layout::JournalLife>(A::load(queue_->files().state().journal_life, std::memory_order_relaxed))) {
    case layout::JournalLife::kDiskFull:
      return fail_with(Code::kDiskFull,
                       fmt::format("queue {}: the disk of its journal is full or its quota used up, so nothing more "
                                   "can be promised; make room, or let consumers finish messages: it goes on by itself",
                                   queue_->name()));
    case layout::JournalLife::kFailed:
      return fail_with(Code::kIo, fmt::format("queue {}: its journal failed twice and takes nothing more; what was "
                                              "acknowledged is safe and can be received; see the log of mooringd",
                                              queue_->name()));
    case layout::JournalLife::kBacklogFull: return Code::kFull;
    default: return Code::kOk;  // kStopped: until there is a supervisor again the ring takes what it can
  }
}

u64 Producer::durable_seq() {
  // Armed before the look: what becomes durable after it makes the descriptor readable.
  if (durable_descriptor_ != nullptr) durable_descriptor_->rearm();
  return durable_ ? A::load(queue_->files().state().durable_seq, std::memory_order_acquire) : 0;  // DURABLE
}

Result<int> Producer::durable_descriptor() {
  if (!durable_)
    return fail(Code::kBadArgument, fmt::format("queue {} is volatile: nothing of it becomes durable", queue_->name()));
  if (durable_descriptor_ == nullptr) {
    Result<std::unique_ptr<WakeDescriptor>> made = WakeDescriptor::make(queue_->files().wake()->durable);
    if (!made) return fail(made.error());
    durable_descriptor_ = std::move(*made);
  }
  return durable_descriptor_->fd();
}

Status Producer::watch_durable(DurableWatch::Call call) {
  if (instance_->is_forked()) {
    return fail(Code::kForked, "this producer belongs to the parent process; open one of your own");
  }
  if (!durable_) {
    return fail(Code::kBadArgument, fmt::format("queue {} is volatile: nothing of it becomes durable", queue_->name()));
  }
  durable_watch_.reset();
  if (!call) return {};
  Result<std::unique_ptr<DurableWatch>> made = DurableWatch::make(queue_, std::move(call));
  if (!made) return fail(made.error());
  durable_watch_ = std::move(*made);
  return {};
}

Code Producer::first_seq(u64 seq, u64* first) {
  if (Code code = check_usable(); code != Code::kOk) return code;
  if (!durable_) {
    return fail_with(Code::kBadArgument, fmt::format("first_seq: queue {} is volatile", queue_->name()));
  }
  // DURABLE. Not durable_seq(): this is no look that arms the descriptor.
  if (A::load(queue_->files().state().durable_seq, std::memory_order_acquire) <= seq) return Code::kTimeout;
  if (first != nullptr) *first = seq;
  if (log_ == nullptr) return Code::kOk;
  u64 noted = 0;
  switch (ask_duplicate<A>(queue_->files().state(), seq, &noted)) {
    case DuplicateAnswer::kNo: return Code::kOk;
    case DuplicateAnswer::kYes: break;
    case DuplicateAnswer::kAskLog: {
      journal::MessageView message;
      const auto found = log_->find(seq, &message);
      // Its part of the log has gone, because every group is done with it. A message with this id was on the disk.
      if (!found && found.error().code == Code::kCorrupt) return Code::kOk;
      if (!found) return fail_with(found.error());
      if (*found != journal::BacklogReader::Found::kDuplicate) return Code::kOk;
      noted = journal::BacklogReader::duplicate_of(message);
      break;
    }
  }
  if (first != nullptr) *first = noted;
  return Code::kDuplicate;
}

Code Producer::wait_durable(u64 seq, u64 timeout_ns) {
  if (Code code = check_usable(); code != Code::kOk) return code;
  if (!durable_) {
    return fail_with(Code::kBadArgument, fmt::format("wait_durable: queue {} is volatile", queue_->name()));
  }
  if (seq == kEverything) return wait_flushed(last_seq_, timeout_ns);
  const Code code = wait_flushed(seq, timeout_ns);
  return code == Code::kOk && log_ != nullptr ? first_seq(seq, nullptr) : code;
}

Code Producer::wait_flushed(u64 seq, u64 timeout_ns) {
  const u64& durable = queue_->files().state().durable_seq;
  // DURABLE: acquire; the journal stores it after the flush.
  const auto is_done = [&] { return A::load(durable, std::memory_order_acquire) > seq; };
  if (is_done()) return Code::kOk;
  if (timeout_ns == 0) return Code::kTimeout;
  const auto look_around = [&] {
    if (Status open = queue_->check_open(); !open) return fail_with(open.error());
    // Only a failed journal ends the wait: a full disk keeps what is in the ring and writes it when there is room.
    const Code journal = check_journal();
    return journal == Code::kIo ? journal : Code::kOk;
  };
  Spin spin(options_.wait, options_.spin_ns, timeout_ns);
  for (u32 steps = 1; spin.step(); ++steps) {
    if (is_done()) return Code::kOk;
    if (steps % 1024 != 0) continue;
    if (Code code = look_around(); code != Code::kOk) return code;
  }
  const u64 deadline_ns = timeout_ns == kForever ? kForever : spin.deadline_ns(monotonic_ns());
  Sleeper sleeper(queue_->files().wake()->durable);
  for (;;) {
    if (is_done()) return Code::kOk;
    if (Code code = look_around(); code != Code::kOk) return code;
    const SleepOutcome slept = sleeper.sleep(deadline_ns, is_done);
    if (is_done()) return Code::kOk;
    if (slept == SleepOutcome::kDeadline) return Code::kTimeout;
    if (slept == SleepOutcome::kInterrupted) return Code::kInterrupted;
  }
}

Code Producer::abort() {
  if (!reserved_) return fail_with(Code::kBadArgument, "abort without a reservation: call reserve first");
  reserved_ = false;
  return Code::kOk;
}

}  // namespace mooring
