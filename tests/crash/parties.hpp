// The parties of a kill test around one tiny queue: producers, consumers and a supervisor, each with its private
// handle, each writing down what it does (crash/history.hpp). The calls are made in the order in which the queue makes
// them.
//
// A Parties is copied freely: the copy has the same handles on the same block. So a test prepares one, and each run
// starts from a copy and from an image of the block.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "crash/history.hpp"
#include "group/repair.hpp"
#include "support/queue_memory.hpp"

namespace mooring::test {

enum class Delivery { kSpsc, kExclusive, kCompeting };

inline constexpr u64 kHistoryEvents = 700;
inline constexpr u64 kHistoryWords = kHistoryEvents * 4 + 1;

// The supervisor as a party; producers and consumers have numbers.
enum class Role { kProducer, kConsumer, kSupervisor };

// Faults in how the parties use the protocol; those inside the protocol are in crash/broken_atomics.hpp.
struct Misuse {
  bool ack_before_copy = false;
};

template <class A>
class Parties {
 public:
  static constexpr u32 kProducers = 3;
  static constexpr u32 kConsumers = 3;
  static constexpr u64 kHeldMax = 16;

  struct Held {
    Lease lease;
    u64 seq = 0;
    u64 id = 0;
    u64 attempt = 0;
  };

  Parties(QueueMemory* memory, Delivery delivery, Misuse misuse)
      : memory_(memory), delivery_(delivery), misuse_(misuse), history_(memory->notes, memory->shape().notes) {
    copied();  // once here, so that no child spends instructions on it
    for (u32 p = 0; p < producers(); ++p) make_producer(p, memory->first_seq());
    for (u32 c = 0; c < consumers(); ++c) make_consumer(c);
  }

  QueueMemory& memory() const { return *memory_; }
  Delivery delivery() const { return delivery_; }
  bool spsc() const { return delivery_ == Delivery::kSpsc; }
  bool competing() const { return delivery_ == Delivery::kCompeting; }
  u32 producers() const { return spsc() ? 1 : kProducers; }
  u32 consumers() const { return competing() ? kConsumers : 1; }
  const GroupView& group() const { return memory_->group(); }
  GroupRepair<A> repair() const { return GroupRepair<A>(group(), memory_->order); }
  u64 held_count(u32 c) const { return held_count_[c]; }
  const Held& held(u32 c, u64 at) const { return held_[c][at]; }
  u64 next_id(u32 p) const { return message_id(p, next_index_[p]); }

  // A start state that is not what it should be is a finding like any other.
  void expect(bool good, const char* what) {
    if (!good) trouble_ = what;
  }

  // --- Producers -----------------------------------------------------------------------------------------------

  // Payloads are made before the operation that is stepped, as an application has them.
  void stage(u32 p, u32 count) {
    for (u32 i = 0; i < count; ++i) write_payload(staged_[i].data(), next_id(p) + i);
    staged_count_ = count;
  }

  // A batch of `count`; how many were published. SPSC: all or nothing.
  u32 publish(u32 p, u32 count) {
    if (staged_count_ != count) stage(p, count);
    staged_count_ = 0;
    const u64 first = next_id(p);
    next_index_[p] += count;  // what was refused is given up
    const u64 event = history_.append({EventKind::kPublishing, number(p), 0, count, 0, first, 0});
    u64 published = 0;
    RingOutcome why = RingOutcome::kOk;
    for (u32 i = 0; i < count; ++i) {
      const u64 len = payload_bytes(first + i);
      u8* to = reserve(p, len, &why);
      if (to == nullptr) break;
      A::copy_in(to, staged_[i].data(), len);
      append(p, len);
      ++published;
    }
    published = make_visible(p, published, count, &why);
    if (why == RingOutcome::kCorrupt) history_.append({EventKind::kCorrupt, number(p), 1});
    if (published == 0) {
      history_.retract(event);
      return 0;
    }
    history_.append({EventKind::kPublished, number(p), 0, static_cast<u32>(published), 0, first, 0});
    return static_cast<u32>(published);
  }

  // One message written in place.
  bool reserve_and_commit(u32 p) {
    const u64 id = next_id(p);
    ++next_index_[p];
    const u64 event = history_.append({EventKind::kPublishing, number(p), 0, 1, 0, id, 0});
    RingOutcome why = RingOutcome::kOk;
    u64 published = 0;
    const u64 len = payload_bytes(id);
    // More is reserved than is used, as an application does that does not know yet.
    if (u8* to = reserve(p, kPayloadBytesMax, &why); to != nullptr) {
      write_payload(to, id);
      append(p, len);
      published = make_visible(p, 1, 1, &why);
    }
    if (why == RingOutcome::kCorrupt) history_.append({EventKind::kCorrupt, number(p), 2});
    if (published == 0) {
      history_.retract(event);
      return false;
    }
    history_.append({EventKind::kPublished, number(p), 0, static_cast<u32>(published), 0, id, 0});
    return true;
  }

  // Half a payload in place, and then no message after all.
  void reserve_and_abort(u32 p) {
    const u64 id = next_id(p);
    ++next_index_[p];
    RingOutcome why = RingOutcome::kOk;
    if (u8* to = reserve(p, payload_bytes(id), &why); to != nullptr) {
      A::copy_in(to, &id, sizeof id);
      forget(p, 0);
    }
    if (why == RingOutcome::kCorrupt) history_.append({EventKind::kCorrupt, number(p), 3});
  }

  // `count` frames appended; published or given up later, or never (the process dies).
  u32 append_only(u32 p, u32 count) {
    u32 appended = 0;
    RingOutcome why = RingOutcome::kOk;
    for (; appended < count; ++appended) {
      const u64 id = next_id(p);
      u8* to = reserve(p, payload_bytes(id), &why);
      if (to == nullptr) break;
      ++next_index_[p];
      write_payload(to, id);
      append(p, payload_bytes(id));
    }
    return appended;
  }
  void forget(u32 p, u32 appended) {
    if (spsc()) {
      lane_writer_.forget_pending(appended);
    } else {
      writers_[p].forget_pending();
    }
  }
  void settle_tail(u32 p) { writers_[p].settle_tail(); }

  // Would the next message of `p` begin at the start of the lane, behind padding?
  bool next_wraps(u32 p) const {
    const u64 len = payload_bytes(next_id(p));
    if (spsc()) {
      const u64 size = memory_->lane().size_bytes;
      return layout::frame_bytes(len) > size - (lane_writer_.position() & (size - 1));
    }
    // A copy reserves; nothing shared changes but the lane's reclaim, which is put back.
    OrderWriter<A> copy = writers_[p];
    const u64 reclaim = memory_->lane(p).head->reclaim;
    RingOutcome why = RingOutcome::kOk;
    const u8* at = copy.reserve(len, memory_->template mark<A>(), &why);
    memory_->lane(p).head->reclaim = reclaim;
    return at == memory_->lane(p).bytes + layout::kFrameHeaderBytes;
  }

  // --- Consumers -----------------------------------------------------------------------------------------------

  bool take(u32 c) {
    const u64 event = history_.append({EventKind::kTaking, number(c)});
    Held held;
    const u8 whole = competing() ? lease_one(c, &held) : take_one(&held);
    if (whole == kNothing) {
      history_.retract(event);
      return false;
    }
    if (whole == kGarbage) {
      history_.append({EventKind::kCorrupt, number(c), 4});
      return false;
    }
    if (held_count_[c] < kHeldMax) held_[c][held_count_[c]++] = held;
    history_.append({EventKind::kDelivered, number(c), whole, 0, held.seq, held.id, held.attempt});
    return true;
  }

  // The message that `c` holds as its `at`-th.
  bool ack(u32 c, u64 at) { return settle(c, at, Settle::kAck); }
  bool give_back(u32 c, u64 at) { return settle(c, at, Settle::kGiveBack); }
  bool nack(u32 c, u64 at) { return settle(c, at, Settle::kNack); }

  // Exclusive: everything up to the `at`-th held.
  bool ack_up_to(u64 at) {
    const u64 seq = held_[0][at].seq;
    u64 lowest = seq;
    for (u64 i = 0; i < held_count_[0]; ++i) lowest = std::min(lowest, held_[0][i].seq);
    history_.append({EventKind::kSettling, 0, static_cast<u8>(Settle::kAck), 0, lowest, 0, seq});
    const u64 count = spsc() ? lane_reader_.ack_up_to(seq) : ordered_reader_.ack_up_to(seq);
    history_.append({EventKind::kSettled, 0, static_cast<u8>(Settle::kAck), static_cast<u32>(count), lowest, 0, seq});
    u64 kept = 0;
    for (u64 i = 0; i < held_count_[0]; ++i) {
      if (held_[0][i].seq > seq) held_[0][kept++] = held_[0][i];
    }
    held_count_[0] = kept;
    return count != 0;
  }

  // Lets producers have the room: base is lazy otherwise. True if it moved.
  bool show_base(u32 c) {
    if (competing()) return consumers_[c].help_base(true);
    return spsc() ? lane_reader_.raise_base() : ordered_reader_.raise_base();
  }

  bool may_have_work(u32 c) {
    if (competing()) return consumers_[c].may_have_work();
    return spsc() ? lane_reader_.may_have_work() : ordered_reader_.may_have_work();
  }

  // --- Deaths and the supervisor -------------------------------------------------------------------------------

  // The process is gone, killed or ended. What follows is for the supervisor and for a successor.
  void bury(Role role, u32 who) {
    if (role == Role::kProducer) {
      history_.append({EventKind::kProducerDied, number(who)});
      producer_lives_[who] = false;
      next_index_[who] += 8;  // numbers the dead may have used
      staged_count_ = 0;
    } else if (role == Role::kConsumer) {
      history_.append({EventKind::kConsumerDied, number(who)});
      consumer_lives_[who] = false;
      held_count_[who] = 0;
      owes_give_back_[who] = true;
    } else {
      straggler_seq_ = straggler_word_ = 0;  // what it had in its head
      supervisor_is_new_ = true;
    }
  }
  // Stopped: it holds what it holds and does nothing.
  void pause(Role role, u32 who) {
    staged_count_ = 0;  // was the victim's
    if (role == Role::kProducer) producer_lives_[who] = false;
    if (role == Role::kConsumer) consumer_lives_[who] = false;
  }

  // What a supervisor does about confirmed deaths.
  void sweep_the_dead() {
    for (u32 c = 0; c < consumers(); ++c) {
      if (!owes_give_back_[c]) continue;
      if (competing()) repair().give_back_all_of(c + 1);
      owes_give_back_[c] = false;
    }
  }
  // A new process on the lane of one that is gone, while messages of that one may wait there.
  void inherit(u32 p) {
    if (spsc()) {
      make_producer(p, memory_->first_seq());
      return;
    }
    u64 last_seq = 0;
    for (u64 seq = tail(); seq-- > std::max(memory_->first_seq(), tail() - memory_->order.count()) && last_seq == 0;) {
      if (layout::cell_lane(memory_->order.cell(seq)) == p) last_seq = seq;
    }
    make_producer(p, memory_->first_seq());
    if (writers_[p].inherit(last_seq) != RingOutcome::kOk) trouble_ = "the lane cannot be inherited";
  }
  // A new process on the lane or in the seat of one that is gone.
  void replace(Role role, u32 who) {
    if (role == Role::kProducer) make_producer(who, spsc() ? memory_->first_seq() : tail());
    if (role == Role::kConsumer) {
      sweep_the_dead();
      make_consumer(who);
    }
  }

  // One look at the group. True if it changed anything that others wait for.
  bool tick() {
    if (!competing()) return false;
    GroupRepair<A> supervisor = repair();
    const u64 before = supervisor.step_base();
    bool busy = supervisor.announce_base_if_ready();
    supervisor.announce_lost_parks();
    busy |= supervisor.give_back_nacked() != 0;
    busy |= supervisor.reap_parks([](u64, u64) {}) != 0;
    u64 seq = 0;
    u64 word = 0;
    if (supervisor.leased_at_base(&seq, &word)) {
      if (seq == straggler_seq_ && word == straggler_word_) {
        busy |= supervisor.park_straggler(seq, word, memory_->lane_of(), memory_->template place<A>(0));
      }
      straggler_seq_ = seq;
      straggler_word_ = word;
    }
    return busy || supervisor.step_base() != before;
  }
  bool park(u64 seq, u64 word) {
    return repair().park_straggler(seq, word, memory_->lane_of(), memory_->template place<A>(0));
  }

  // --- Everybody -----------------------------------------------------------------------------------------------

  // All who live work until `messages` more were published and nothing is left to do. False: they stand still before.
  bool run(u64 messages, bool supervised) {
    if (supervised) {
      if (supervisor_is_new_ && competing()) repair().reconcile();
      supervisor_is_new_ = false;
      sweep_the_dead();
    }
    u64 published = 0;
    int idle = 0;
    for (u64 round = 0; round < 2000; ++round) {
      bool busy = false;
      for (u32 p = 0; p < producers() && published < messages; ++p) {
        if (!producer_lives_[p]) continue;
        const u32 count = publish(p, 1 + (next_index_[p] % 4 == 2 ? 1 : 0));
        published += count;
        busy |= count != 0;
      }
      for (u32 c = 0; c < consumers(); ++c) {
        if (consumer_lives_[c]) busy |= consume(c);
      }
      if (!busy && supervised) busy = tick();
      idle = busy ? 0 : idle + 1;
      if (idle == 4) break;
    }
    return published >= messages;
  }

  // Publishes until there is no room; by all, or by one.
  void fill() {
    for (bool busy = true; busy;) {
      busy = false;
      for (u32 p = 0; p < producers(); ++p) busy |= publish(p, 1) != 0;
    }
  }
  void fill(u32 p) {
    while (publish(p, 1) != 0) {
    }
  }

  // The victim is dead and buried: repairs, puts successors in place, and judges all that was ever done.
  std::string finish() {
    const std::array<bool, kConsumers> dead = owes_give_back_;
    // Twice: repair must mean the same when it is done again.
    for (int again = 0; again < 2; ++again) {
      if (supervisor_is_new_ && competing()) repair().reconcile();
      for (u32 c = 0; c < consumers(); ++c) owes_give_back_[c] = dead[c];
      sweep_the_dead();
    }
    for (u32 c = 0; c < consumers(); ++c) {
      if (!consumer_lives_[c]) make_consumer(c);
    }
    // At once, while messages of the dead wait. (One that waits until the lane is free: "predecessor dead".)
    for (u32 p = 0; p < producers(); ++p) {
      if (!producer_lives_[p]) inherit(p);
    }
    if (trouble_ != nullptr) return trouble_;
    const u64 laps = 3 * std::max<u64>(spsc() ? 8 : memory_->shape().cells, memory_->shape().words);
    if (!run(laps, true)) return "the survivors stand still";
    if (history_.is_full()) return "more was done than the history can hold";
    for (u32 c = 0; c < consumers(); ++c) show_base(c);
    tick();
    const std::string promise = broken_promise(
        history_.events(), {.exclusive = !competing(), .batch_at_once = spsc(), .first_seq = memory_->first_seq()});
    if (!promise.empty()) return promise;
    return left_over();
  }

  u64 tail() const {
    u64 seq = memory_->order.head->tail;
    for (u64 cell = 0; is_published<A>(memory_->order, seq, &cell);) ++seq;
    return seq;
  }

 private:
  static constexpr u8 kTorn = 0;
  static constexpr u8 kWhole = 1;
  static constexpr u8 kNothing = 2;
  static constexpr u8 kGarbage = 3;

  static u8 number(u32 who) { return static_cast<u8>(who); }

  void make_producer(u32 p, u64 floor) {
    if (spsc()) {
      if (SpscWriter<A>::recover(memory_->lane(), floor, &lane_writer_) != RingOutcome::kOk) {
        trouble_ = "the lane cannot be recovered";
      }
    } else {
      writers_[p] = memory_->template writer<A>(p, floor);
    }
    producer_lives_[p] = true;
  }
  void make_consumer(u32 c) {
    if (competing()) {
      consumers_[c] = memory_->template competing<A>(0, c + 1);
    } else if (spsc()) {
      lane_reader_ = memory_->template lane_reader<A>(0);
    } else {
      ordered_reader_ = memory_->template exclusive<A>(0);
    }
    consumer_lives_[c] = true;
  }

  u8* reserve(u32 p, u64 len, RingOutcome* why) {
    return spsc() ? lane_writer_.reserve(len, memory_->template mark<A>(), why)
                  : writers_[p].reserve(len, memory_->template mark<A>(), why);
  }
  void append(u32 p, u64 len) {
    if (spsc()) {
      lane_writer_.append(len);
    } else {
      writers_[p].append(len);
    }
  }
  // Publishes the `appended` of `wanted` frames that there was room for; how many are visible.
  u64 make_visible(u32 p, u64 appended, u32 wanted, RingOutcome* why) {
    if (spsc()) {
      if (appended != wanted) {
        lane_writer_.forget_pending(appended);
        return 0;
      }
      lane_writer_.publish();
      return appended;
    }
    u64 last_seq = 0;
    u64 published = 0;
    const RingOutcome outcome = writers_[p].publish(memory_->template mark<A>(), &last_seq, &published);
    if (outcome == RingOutcome::kCorrupt) *why = outcome;
    writers_[p].forget_pending();
    return published;
  }

  static std::vector<u8>& copied() {
    static std::vector<u8> bytes = [] {
      std::vector<u8> made;
      made.reserve(4096);
      return made;
    }();
    return bytes;
  }

  u8 lease_one(u32 c, Held* held) {
    const LeaseOutcome outcome = consumers_[c].lease(&held->lease);
    if (outcome == LeaseOutcome::kCorrupt) return kGarbage;
    if (outcome != LeaseOutcome::kLeased) return kNothing;
    held->seq = held->lease.seq;
    held->attempt = held->lease.acquired();
    if (misuse_.ack_before_copy) consumers_[c].ack(held->lease);
    std::vector<u8>& bytes = copied();
    if (!memory_->template read<A>(0, held->lease, &bytes)) return kTorn;
    if (!misuse_.ack_before_copy && !consumers_[c].still_mine(held->lease)) return kTorn;
    return payload_is_whole(bytes.data(), bytes.size(), &held->id) ? kWhole : kTorn;
  }

  u8 take_one(Held* held) {
    FrameView frame;
    u32 attempt = 0;
    const TakeOutcome outcome = spsc() ? lane_reader_.take(&frame, &attempt) : ordered_reader_.take(&frame, &attempt);
    if (outcome == TakeOutcome::kCorrupt) return kGarbage;
    if (outcome != TakeOutcome::kTaken) return kNothing;
    held->seq = frame.seq;
    held->attempt = attempt;
    if (misuse_.ack_before_copy) spsc() ? lane_reader_.ack(frame.seq) : ordered_reader_.ack(frame.seq);
    std::array<u8, kPayloadBytesMax> bytes{};
    if (frame.len > bytes.size()) return kTorn;
    A::copy_out(bytes.data(), frame.payload, frame.len);
    return payload_is_whole(bytes.data(), frame.len, &held->id) ? kWhole : kTorn;
  }

  static Settled nack(CompetingConsumer<A>& consumer, const Lease& lease) {
    return consumer.nack(lease, layout::FailReason::kNack, false);
  }
  bool settle(u32 c, u64 at, Settle how) {
    const Held held = held_[c][at];
    history_.append({EventKind::kSettling, number(c), static_cast<u8>(how), 0, held.seq, 0, held.seq});
    bool settled = true;
    if (misuse_.ack_before_copy) {
      // Done before; the rest of the history shall look as if it were done now.
    } else if (competing()) {
      CompetingConsumer<A>& consumer = consumers_[c];
      settled = (how == Settle::kAck        ? consumer.ack(held.lease)
                 : how == Settle::kGiveBack ? consumer.release(held.lease)
                                            : nack(consumer, held.lease)) == Settled::kYes;
    } else if (spsc()) {
      settled = how == Settle::kAck ? lane_reader_.ack(held.seq) : lane_reader_.give_back(held.seq);
    } else {
      settled = how == Settle::kAck ? ordered_reader_.ack(held.seq) : ordered_reader_.give_back(held.seq);
    }
    history_.append({EventKind::kSettled, number(c), static_cast<u8>(how), settled ? 1U : 0U, held.seq, 0, held.seq});
    for (u64 i = at + 1; i < held_count_[c]; ++i) held_[c][i - 1] = held_[c][i];
    --held_count_[c];
    return settled;
  }

  // One step of a living consumer: settles the oldest it holds, else takes, else lets base follow. Now and then it
  // gives a message back, so that redelivery goes on in every run.
  bool consume(u32 c) {
    if (held_count_[c] != 0) {
      const Held& oldest = held_[c][0];
      if (oldest.attempt == 1 && id_index(oldest.id) % 5 == 3 && !misuse_.ack_before_copy) {
        settle(c, 0, competing() && id_index(oldest.id) % 2 == 0 ? Settle::kNack : Settle::kGiveBack);
      } else {
        settle(c, 0, Settle::kAck);
      }
      return true;
    }
    if (take(c)) return true;
    return show_base(c);
  }

  // What must be so when the queue is empty and everybody is at rest.
  std::string left_over() const {
    const u64 base = group().head->base;
    const u64 end = spsc() ? lane_writer_.position() : tail();
    if (base != end) return "base is " + std::to_string(base) + " in an empty queue, its end is " + std::to_string(end);
    for (u32 index = 0; index < group().parks_count; ++index) {
      if (layout::read_park_word(group().parks[index].word).state != layout::ParkState::kFree) {
        return "park entry " + std::to_string(index) + " was leaked";
      }
    }
    return {};
  }

  QueueMemory* memory_;
  Delivery delivery_;
  Misuse misuse_;
  History history_;
  SpscWriter<A> lane_writer_;
  std::array<OrderWriter<A>, kProducers> writers_{};
  typename QueueMemory::LaneReader<A> lane_reader_;
  typename QueueMemory::OrderedReader<A> ordered_reader_;
  std::array<CompetingConsumer<A>, kConsumers> consumers_{};
  std::array<u64, kProducers> next_index_{};
  std::array<std::array<Held, kHeldMax>, kConsumers> held_{};
  std::array<u64, kConsumers> held_count_{};
  std::array<bool, kProducers> producer_lives_{};
  std::array<bool, kConsumers> consumer_lives_{};
  std::array<bool, kConsumers> owes_give_back_{};  // dead, and what it held is still in its name
  u64 straggler_seq_ = 0;                          // the supervisor's last look at base
  u64 straggler_word_ = 0;
  std::array<std::array<u8, kPayloadBytesMax>, 4> staged_{};
  u32 staged_count_ = 0;
  bool supervisor_is_new_ = false;  // the one before died; nothing is reconciled yet
  const char* trouble_ = nullptr;
};

}  // namespace mooring::test
