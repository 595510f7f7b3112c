#include "supervisor/redelivery.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "base/kill_point.hpp"
#include "base/time.hpp"
#include "message/decoder.hpp"

namespace mooring {
namespace {

using A = HardwareAtomics;
using layout::ParkState;
using layout::RecordState;

constexpr u64 kBoundsEveryNs = kNsPerSecond;
constexpr u64 kNoDueNs = ~u64{0};
constexpr u64 kNoSuchMessage = ~u64{0};
// The shortest time between two looks: what is due is returned at most so much later.
constexpr u64 kSoonNs = kNsPerMs;

// Noticed before the application saw it: the delivery does not count.
bool is_untimely(FailReason reason) { return reason == FailReason::kNotDue || reason == FailReason::kExpired; }
u32 counted(FailReason reason, u32 acquired) { return is_untimely(reason) && acquired != 0 ? acquired - 1 : acquired; }

constexpr u64 kParkKeys = u64{1} << 63;  // leases_ is keyed by seq, or by this plus an entry of X

}  // namespace

Redelivery::Redelivery(u32 group, layout::GroupSlot& slot, GroupView view, OrderView order, ParkStore& store,
                       Surroundings surroundings)
    : group_(group),
      generation_(layout::slot_generation(slot.slot)),
      slot_(slot),
      repair_(view, order),
      view_(view),
      store_(store),
      around_(std::move(surroundings)),
      random_(wall_ns() ^ (u64{group} << 32)) {}

void Redelivery::count(u64& counter, i64 by) {
  A::store(counter, A::load(counter, std::memory_order_relaxed) + static_cast<u64>(by), std::memory_order_relaxed);
}

bool Redelivery::is_ours(u64 loc) const {
  const auto* record = store_.record(loc);
  return record->group == group_ && record->group_generation == generation_;
}

// --- After a restart ------------------------------------------------------------------------------------------------

void Redelivery::adopt(const std::vector<u64>& locs, u64 now_boottime_ns) {
  std::unordered_set<u64> in_table;
  for (u32 index = 0; index < view_.parks_count; ++index) {
    const layout::ParkEntry& entry = view_.parks[index];
    const layout::ParkWord park = layout::read_park_word(A::load(entry.word, std::memory_order_acquire));
    if (park.state == ParkState::kFree) continue;
    const u64 loc = A::load(entry.loc, std::memory_order_relaxed);
    const u64 seq = A::load(entry.seq, std::memory_order_relaxed);
    const bool has_record = store_.is_record(loc, seq) && is_ours(loc);
    if (has_record && park.state == ParkState::kAcked && repair_.may_go(index)) {
      // Settled, and perhaps said so in the log: not to be said otherwise again.
      const u64 note = store_.record(loc)->note;
      store_.release(loc);
      if (note != 0) store_.release(note);
      repair_.free_park(index);
      continue;
    }
    if (has_record && in_table.insert(loc).second) {
      ++in_table_;
      continue;
    }
    // ACKED: killed between the record and the entry. Else somebody wrote over it: nothing can be delivered from there.
    if (park.state != ParkState::kAcked) {
      spdlog::error("{}: park entry {} names no record; it is given up", around_.where, index);
    }
    repair_.free_park(index);
  }
  u64 waiting = 0;
  u64 bytes = 0;
  for (const u64 loc : locs) {
    const layout::RecordWord word = store_.word(loc);
    if (word.state == RecordState::kFree) continue;  // just now, above
    const layout::ParkRecord& record = *store_.record(loc);
    const bool counts = (word.state == RecordState::kWaiting || word.state == RecordState::kDead ||
                         (word.state == RecordState::kHeld && is_exclusive() && !is_settled_in_place(record.seq))) &&
                        (is_exclusive() || !repair_.is_nacked_in_window(record.seq));
    if (in_table.contains(loc)) {
      bytes += store_.slot_bytes(loc);
      continue;
    }
    if (!counts) {
      store_.release(loc);
      continue;
    }
    bytes += store_.slot_bytes(loc);
    const u64 state_word = A::load(view_.word(record.seq), std::memory_order_acquire);
    const bool is_undecided = layout::word_laps_ahead(state_word, view_.lap(record.seq)) == 0 &&
                              layout::word_kind(state_word) == layout::Kind::kNacked;
    if (is_exclusive() && (word.state == RecordState::kHeld || is_undecided)) held_records_[record.seq] = loc;
    if (word.state == RecordState::kDead) {
      dead_.push_back({record.dead_wall_ns, loc, word.version});
    } else if (word.state == RecordState::kWaiting ||
               (is_undecided && counted(layout::nacked_reason(layout::word_aux(state_word)),
                                        layout::aux_acquired(layout::word_aux(state_word))) == word.acquired)) {
      ++waiting;
      due_.push({std::min(record.due_boottime_ns, now_boottime_ns + kDelayMostNs), loc, word.version});
    }
  }
  std::sort(dead_.begin(), dead_.end(), [](const Dead& a, const Dead& b) { return a.wall_ns < b.wall_ns; });
  layout::GroupCounters& counters = slot_.counters;
  A::store(counters.waiting, waiting, std::memory_order_relaxed);
  A::store(counters.dead, u64{dead_.size()}, std::memory_order_relaxed);
  A::store(counters.in_table, in_table_, std::memory_order_relaxed);
  A::store(counters.store_bytes, bytes, std::memory_order_relaxed);
}

// --- A look ---------------------------------------------------------------------------------------------------------

u64 Redelivery::look(bool failures, u64 now_ns) {
  if (failures || stuck_failures_) take_failures(now_ns);
  if (slot_.policy.ack_wait_ns != 0 && !is_exclusive()) take_back_leases(now_ns);
  if (!held_records_.empty()) settle_held();
  if (in_table_ != 0) look_at_table(now_ns);
  go_on_redriving(now_ns);
  return_due(now_ns);
  const u64 bound = slot_.policy.dlq_max_messages;
  if (now_ns - bounds_looked_ns_ >= kBoundsEveryNs || (bound != 0 && slot_.counters.dead >= bound)) {
    bounds_looked_ns_ = now_ns;
    keep_dlq_bounds();
  }
  A::store(slot_.counters.in_table, in_table_, std::memory_order_relaxed);
  looked_ns_ = now_ns;
  u64 next = due_.empty() || table_full_ ? kNoDueNs : std::max(due_.top().boottime_ns, now_ns + kSoonNs);
  if (!redrives_.empty()) next = std::min(next, now_ns + kSoonNs);
  if (slot_.policy.ack_wait_ns != 0 && !leases_.empty()) {
    next = std::min(next, leases_looked_ns_ + std::max(slot_.policy.ack_wait_ns / 4, kSoonNs));
  }
  if (slot_.policy.dlq_max_age_ns != 0 && !dead_.empty()) next = std::min(next, now_ns + kBoundsEveryNs);
  return next;
}

Redelivery::Notice Redelivery::notice_of(u32 seat, u64 seq, u32 acquired) const {
  Notice found;
  const layout::SeatHead* head = around_.seat(seat);
  if (head == nullptr) return found;
  const u8* file = reinterpret_cast<const u8*>(head);
  const auto* notices = reinterpret_cast<const layout::SeatNotice*>(file + layout::kNoticesOffset);
  for (u32 index = 0; index < layout::kNoticesMax; ++index) {
    // MAILBOX: the caller acquired the NACKED word, which was released after the notice.
    if (A::load(notices[index].seq, std::memory_order_relaxed) != seq ||
        A::load(notices[index].acquired, std::memory_order_relaxed) != acquired) {
      continue;
    }
    found.code = A::load(notices[index].code, std::memory_order_relaxed);
    found.delay_ns = A::load(notices[index].delay_ns, std::memory_order_relaxed);
    const u32 text = A::load(notices[index].text, std::memory_order_relaxed);
    const u64 bytes =
        std::min(u64{A::load(notices[index].text_bytes, std::memory_order_relaxed)}, layout::kNoticeTextBytes);
    if (text < layout::kNoticeTexts) {
      found.text.resize(bytes);
      A::copy_out(found.text.data(), file + layout::kNoticeTextsOffset + text * layout::kNoticeTextBytes, bytes);
    }
    return found;
  }
  return found;
}

FailedDelivery Redelivery::failure_of(FailReason reason, u32 failed_before, const Notice& notice) {
  // Not when the look began: what failed behind its back would come before its delay is over.
  const u64 now_ns = boottime_ns();
  FailedDelivery failure;
  failure.reason = reason;
  failure.failed_before = failed_before;
  failure.own_delay_ns = notice.delay_ns;
  failure.due_boottime_ns = now_ns;
  failure.now_boottime_ns = now_ns;
  failure.random = random_();
  return failure;
}

// Times follow the wall clock (core.md A19); what they leave to wait runs on the clock of retries.
void Redelivery::read_times(u32 frame_flags, const u8* frame, u64 len, FailedDelivery* failure) const {
  message::Times times;
  if (message::find_times(frame_flags, {frame, len}, &times) != Code::kOk) return;
  const u64 now_ns = boottime_ns();
  const u64 now_wall = wall_ns();
  if (times.deliver_at_ns > now_wall) {
    failure->due_boottime_ns = now_ns + std::min(times.deliver_at_ns - now_wall, kDelayMostNs);
  }
  failure->drop_expired = times.on_expire == layout::OnExpire::kDrop;
}

// Expired while it waited. False: it is not.
bool Redelivery::bury_expired(u64 loc, u64 now_ns) {
  const layout::ParkRecord& record = *store_.record(loc);
  if ((record.frame_flags & layout::kFrameTimed) == 0) return false;
  const u8* frame = reinterpret_cast<const u8*>(&record) + layout::park_payload_offset(record.attempt_room);
  message::Times times;
  if (message::find_times(record.frame_flags, {frame, record.len}, &times) != Code::kOk || times.expires_at_ns == 0 ||
      times.expires_at_ns > wall_ns()) {
    return false;
  }
  const layout::RecordWord word = store_.word(loc);
  FailedDelivery failure = failure_of(FailReason::kExpired, word.failed, Notice{});
  failure.drop_expired = times.on_expire == layout::OnExpire::kDrop;
  const Decision decision = decide(slot_.policy, failure);
  count(slot_.counters.waiting, -1);
  count(slot_.counters.failed_total[static_cast<u32>(FailReason::kExpired)], 1);
  if (decision.fate == Fate::kDrop) {
    count(slot_.counters.dropped_total, 1);
    drop_record(loc);
  } else {
    write_failure(loc, decision, FailReason::kExpired, 0, Notice{}, now_ns);
    commit(loc, decision, word.acquired, false);
  }
  return true;
}

void Redelivery::write_failure(u64 loc, const Decision& decision, FailReason reason, u32 seat, const Notice& notice,
                               u64 now_ns) {
  // Before the record is written, so that no pointer into the file is kept over its growth.
  const u64 note = notice.text.empty() ? 0 : store_.place_note(loc, notice.text);
  MOORING_KILL_POINT("redelivery.note");
  layout::ParkRecord& record = *store_.record(loc);
  const u64 now_wall = wall_ns();
  if (reason != FailReason::kNotDue) {
    layout::ParkAttempt attempt{};
    attempt.wall_ns = now_wall;
    attempt.reason = static_cast<u16>(reason);
    attempt.seat = static_cast<u16>(seat);
    attempt.code = notice.code;
    const Holder holder = around_.holder(seat);
    attempt.pid = holder.process.pid;
    attempt.start_time_ticks = holder.process.start_time_ticks;
    if (reason == FailReason::kCrash) attempt.exit = holder.exit;
    std::memcpy(attempt.consumer, holder.name.data(), std::min(holder.name.size(), sizeof attempt.consumer));
    if (record.attempt_room != 0) {
      const u64 slot = record.attempts % record.attempt_room;
      A::copy_in(reinterpret_cast<u8*>(&record) + sizeof record + slot * sizeof attempt, &attempt, sizeof attempt);
    }
    ++record.attempts;
    if (record.first_failed_wall_ns == 0) record.first_failed_wall_ns = now_wall;
    record.last_failed_wall_ns = now_wall;
    record.last_reason = static_cast<u32>(reason);
    record.code = notice.code;
  }
  const u64 old_note = record.note;
  if (note != 0) record.note = note;
  record.due_boottime_ns = decision.due_boottime_ns;
  record.due_wall_ns = now_wall + (decision.due_boottime_ns > now_ns ? decision.due_boottime_ns - now_ns : 0);
  record.dead_reason = static_cast<u32>(decision.dead_reason);
  record.dead_wall_ns = decision.fate == Fate::kDead ? now_wall : 0;
  if (note != 0 && old_note != 0) store_.release(old_note);
}

// One store decides. Everything else of the record is there.
void Redelivery::commit(u64 loc, const Decision& decision, u32 acquired, bool alone, RecordState waits) {
  const bool dead = decision.fate == Fate::kDead;
  store_.set_word(loc, {.version = 0,
                        .state = dead ? RecordState::kDead : waits,
                        .failed = decision.failed,
                        .acquired = acquired,
                        .alone = alone});
  MOORING_KILL_POINT("redelivery.record");
  if (around_.log != nullptr) around_.log->note_park(park_in_log(*store_.record(loc), store_.word(loc)), generation_);
  const u32 version = store_.word(loc).version;
  if (dead) {
    dead_.push_back({store_.record(loc)->dead_wall_ns, loc, version});
    count(slot_.counters.dead, 1);
    count(slot_.counters.dead_lettered_total[static_cast<u32>(decision.dead_reason)], 1);
  } else {
    due_.push({decision.due_boottime_ns, loc, version});
    count(slot_.counters.waiting, 1);
  }
}

// --- Failures in the window -----------------------------------------------------------------------------------------

void Redelivery::take_failures(u64 now_ns) {
  stuck_failures_ = false;
  if (is_exclusive()) {
    repair_.each_held(around_.acked_seq(), [&](u64 seq, u64 word) { fail_held(seq, word, now_ns); });
    return;
  }
  const GroupPolicy& policy = slot_.policy;
  // (A breaker wants to know of each.)
  if (policy.max_deliveries == 0 && policy.retry_initial_ns == 0 && policy.backoff_count == 0 && policy.breaker == 0) {
    const u64 given_back = repair_.give_back_nacked();  // the rest is decided like everywhere
    if (given_back != 0) around_.wake(given_back);
  }
  bool room = true;
  repair_.each_nacked([&](u64 seq, u64 word) { room = room && fail_in_window(seq, word, now_ns); });
  stuck_failures_ = stuck_failures_ || !room;
  repair_.step_base();
}

// Taken by a consumer that has not come to look yet whether it is one. Nobody is to see it, and nothing failed.
Redelivery::Settling Redelivery::settle_duplicate(u64 seq, u64 word) {
  if (!around_.is_duplicate) return Settling::kNoDuplicate;
  const std::optional<bool> is_one = around_.is_duplicate(seq);
  if (!is_one.has_value()) return Settling::kNotKnown;
  if (!*is_one) return Settling::kNoDuplicate;
  u64 expected = word;
  (void)A::cas(view_.word(seq), expected, layout::make_word(view_.lap(seq), layout::Kind::kAcked, 0, 0),
               std::memory_order_acq_rel);
  return Settling::kSettled;
}

bool Redelivery::fail_in_window(u64 seq, u64 word, u64 now_ns) {
  const u32 aux = layout::word_aux(word);
  const FailReason reason = layout::nacked_reason(aux);
  // Any other failure was said by a consumer that had looked at it, or is charged to what it was shown.
  if (reason == FailReason::kTimeout) {
    const Settling settled = settle_duplicate(seq, word);
    if (settled == Settling::kSettled) return true;
    if (settled == Settling::kNotKnown) {
      stuck_failures_ = true;  // this one waits, others go on
      return true;
    }
  }
  const u32 seat = layout::word_owner(word);
  const Notice notice = layout::nacked_has_detail(aux) ? notice_of(seat, seq, layout::aux_acquired(aux)) : Notice{};
  FailedDelivery failure = failure_of(reason, 0, notice);
  FrameView frame;
  if (is_untimely(reason) && around_.frame(seq, &frame)) {
    read_times(frame.flags, frame.payload, frame.len, &failure);
  }
  const Decision decision = decide(slot_.policy, failure);
  if (decision.fate == Fate::kDrop) {
    u64 expected = word;
    // Finished, as the user of the group asked for. No record: the cursor says it.
    if (A::cas(view_.word(seq), expected, layout::make_word(view_.lap(seq), layout::Kind::kAcked, 0, 0),
               std::memory_order_acq_rel)) {
      MOORING_KILL_POINT("redelivery.dropped");
      count(slot_.counters.dropped_total, 1);
      count(slot_.counters.failed_total[static_cast<u32>(reason)], 1);
      around_.failed(seq, reason);
    }
    return true;
  }
  u64 loc = 0;
  if (!place_message(seq, &loc)) return loc != 0;
  write_failure(loc, decision, reason, seat, notice, now_ns);
  commit(loc, decision, counted(reason, layout::aux_acquired(aux)), false);
  count(slot_.counters.failed_total[static_cast<u32>(reason)], 1);
  around_.failed(seq, reason);
  static_cast<void>(repair_.move_to_store(seq, word));  // F1
  MOORING_KILL_POINT("redelivery.moved");
  return true;
}

// False: it makes no sense (`loc` kNoSuchMessage: nothing to wait for), or there is no room (`loc` 0): a full store
// slows its own group, the message stays NACKED in its place until there is room.
bool Redelivery::place_message(u64 seq, u64* loc) {
  FrameView frame;
  *loc = kNoSuchMessage;
  // Garbage stays where it is; a length that no message has must not look like a full store.
  if (!around_.frame(seq, &frame) || frame.len > around_.max_message_bytes) return false;
  *loc = store_.place(frame, group_, generation_, attempt_room_of(slot_.policy));
  if (*loc == 0) {
    count(slot_.counters.store_full_total, 1);
    return false;
  }
  MOORING_KILL_POINT("redelivery.placed");
  count(slot_.counters.store_bytes, static_cast<i64>(store_.slot_bytes(*loc)));
  return true;
}

bool Redelivery::park_straggler(u64 seq, u64 word) {
  if (const Settling settled = settle_duplicate(seq, word); settled != Settling::kNoDuplicate) {
    if (settled == Settling::kSettled) repair_.step_base();
    return settled == Settling::kSettled;
  }
  u64 loc = 0;
  const bool parked = repair_.park_straggler(seq, word, [&]() -> u64 { return place_message(seq, &loc) ? loc : 0; });
  if (parked) {
    ++in_table_;
  } else if (loc != 0 && loc != kNoSuchMessage) {
    count(slot_.counters.store_bytes, -static_cast<i64>(store_.slot_bytes(loc)));
    store_.release(loc);
  }
  return parked;
}

// --- Exclusive groups: in its place ---------------------------------------------------------------------------------

bool Redelivery::is_settled_in_place(u64 seq) const {
  if (seq < around_.acked_seq()) return true;
  const u64 word = A::load(view_.word(seq), std::memory_order_acquire);  // SETTLED
  return layout::word_laps_ahead(word, view_.lap(seq)) == 0 && layout::word_kind(word) == layout::Kind::kAcked;
}

void Redelivery::fail_held(u64 seq, u64 word, u64 now_ns) {
  const u32 aux = layout::word_aux(word);
  const u32 acquired = layout::aux_acquired(aux);
  const FailReason reason = layout::nacked_reason(aux);
  const u32 seat = layout::word_owner(word);
  const auto known = held_records_.find(seq);
  u32 failed_before = 0;
  if (known != held_records_.end()) {
    const layout::RecordWord record = store_.word(known->second);
    // What was due at a look before was returned by it, so NACKED now is another delivery, though the count may be the
    // same: at its maximum, or of one that was not its time.
    const bool again =
        record.state == RecordState::kHeld && store_.record(known->second)->due_boottime_ns <= looked_ns_;
    if (record.acquired == counted(reason, acquired) && !again) {
      // Decided; as a dead letter, by one that was killed before it said so.
      if (record.state != RecordState::kDead || !repair_.decide_held(seq, word, /*again=*/false)) return;
      held_records_.erase(known);
      around_.wake(1);
      return;
    }
    failed_before = record.failed;
  }
  const Notice notice = layout::nacked_has_detail(aux) ? notice_of(seat, seq, acquired) : Notice{};
  FailedDelivery failure = failure_of(reason, failed_before, notice);
  FrameView frame;
  if (is_untimely(reason) && around_.frame(seq, &frame)) {
    read_times(frame.flags, frame.payload, frame.len, &failure);
  }
  const Decision decision = decide(slot_.policy, failure);
  u64 loc = known == held_records_.end() ? 0 : known->second;
  if (decision.fate == Fate::kDrop) {
    count(slot_.counters.dropped_total, 1);
  } else {
    if (loc == 0 && !place_message(seq, &loc)) {
      stuck_failures_ = true;  // no room; or its consumer went on under our look: looked at again
      return;
    }
    write_failure(loc, decision, reason, seat, notice, now_ns);
    commit(loc, decision, counted(reason, acquired), false, RecordState::kHeld);
  }
  count(slot_.counters.failed_total[static_cast<u32>(reason)], 1);
  around_.failed(seq, reason);
  if (decision.fate == Fate::kWait) {
    held_records_[seq] = loc;
    return;
  }
  static_cast<void>(repair_.decide_held(seq, word, /*again=*/false));
  MOORING_KILL_POINT("redelivery.decided");
  if (decision.fate == Fate::kDrop && loc != 0) drop_record(loc);
  held_records_.erase(seq);
  around_.wake(1);
}

// The record of what was acknowledged after all is of no use any more.
void Redelivery::settle_held() {
  for (auto held = held_records_.begin(); held != held_records_.end();) {
    if (store_.word(held->second).state != RecordState::kHeld || !is_settled_in_place(held->first)) {
      ++held;
      continue;
    }
    drop_record(held->second);
    held = held_records_.erase(held);
  }
}

bool Redelivery::return_held(u64 seq, const layout::RecordWord& record) {
  const u64 word = A::load(view_.word(seq), std::memory_order_acquire);
  if (layout::word_laps_ahead(word, view_.lap(seq)) != 0 || layout::word_kind(word) != layout::Kind::kNacked ||
      counted(layout::nacked_reason(layout::word_aux(word)), layout::aux_acquired(layout::word_aux(word))) !=
          record.acquired) {
    return false;
  }
  return repair_.decide_held(seq, word, /*again=*/true, record.acquired);
}

// --- In the park table ----------------------------------------------------------------------------------------------

void Redelivery::look_at_table(u64 now_ns) {
  for (u32 index = 0; index < view_.parks_count; ++index) {
    const u64 word = A::load(view_.parks[index].word, std::memory_order_acquire);
    if (layout::read_park_word(word).state != ParkState::kNacked || !repair_.may_go(index)) continue;
    fail_in_table(index, word, now_ns);
  }
  in_table_ -= std::min(in_table_, repair_.reap_parks([this](u64 loc, u64 seq) {
    if (store_.is_record(loc, seq) && is_ours(loc)) drop_record(loc);
  }));
  repair_.announce_lost_parks();
}

void Redelivery::fail_in_table(u32 index, u64 word, u64 now_ns) {
  const layout::ParkEntry& entry = view_.parks[index];
  const u64 loc = A::load(entry.loc, std::memory_order_relaxed);
  const u64 seq = A::load(entry.seq, std::memory_order_relaxed);
  if (!store_.is_record(loc, seq) || !is_ours(loc)) {
    spdlog::error("{}: park entry {} names no record; it is given up", around_.where, index);
    repair_.free_park(index);
    if (in_table_ != 0) --in_table_;
    return;
  }
  const layout::ParkWord park = layout::read_park_word(word);
  const auto reason = static_cast<FailReason>(park.extended & layout::kFailReasonMax);
  const bool detail = (park.extended & 8U) != 0;
  const Notice notice = detail ? notice_of(park.owner, seq, park.acquired) : Notice{};
  FailedDelivery failure = failure_of(reason, park.failed, notice);
  if (is_untimely(reason)) {
    const layout::ParkRecord& record = *store_.record(loc);
    read_times(record.frame_flags,
               reinterpret_cast<const u8*>(&record) + layout::park_payload_offset(record.attempt_room), record.len,
               &failure);
  }
  const Decision decision = decide(slot_.policy, failure);
  count(slot_.counters.failed_total[static_cast<u32>(reason)], 1);
  around_.failed(seq, reason);
  if (decision.fate == Fate::kDrop) {
    count(slot_.counters.dropped_total, 1);
    drop_record(loc);
  } else {
    write_failure(loc, decision, reason, park.owner, notice, now_ns);
    commit(loc, decision, counted(reason, park.acquired), park.alone);
  }
  repair_.free_park(index);
  MOORING_KILL_POINT("redelivery.entry_freed");
  if (in_table_ != 0) --in_table_;
}

// The record first: an entry that says ACKED and names none is freed by whoever finds it.
void Redelivery::drop_record(u64 loc) {
  const layout::ParkRecord& record = *store_.record(loc);
  // Of a straggler the log has no PARK.
  if (around_.log != nullptr && store_.word(loc).state != RecordState::kStraggler) {
    around_.log->note_release(group_, generation_, record.seq, 0);
  }
  const u64 note = record.note;
  count(slot_.counters.store_bytes, -static_cast<i64>(store_.slot_bytes(loc)));
  store_.release(loc);
  MOORING_KILL_POINT("redelivery.released");
  if (note != 0) store_.release(note);
}

// --- Held for too long (core.md A14) --------------------------------------------------------------------------------

// Every quarter of ack_wait what is leased is looked at; a word that has not changed for one ack_wait is taken back.
void Redelivery::take_back_leases(u64 now_ns) {
  const u64 ack_wait = slot_.policy.ack_wait_ns;
  if (now_ns - leases_looked_ns_ < std::max(ack_wait / 4, kSoonNs)) return;
  leases_looked_ns_ = now_ns;
  u64 taken = 0;
  repair_.each_leased([&](u64 seq, u64 word) {
    if (!leased_too_long(seq, word, now_ns) || !repair_.take_back(seq, word)) return;
    ++taken;
    MOORING_KILL_POINT("redelivery.taken_back");
  });
  for (u32 index = 0; in_table_ != 0 && index < view_.parks_count; ++index) {
    const u64 word = A::load(view_.parks[index].word, std::memory_order_acquire);
    if (layout::read_park_word(word).state != ParkState::kLeased) continue;
    if (!leased_too_long(kParkKeys + index, word, now_ns) || !repair_.take_back_park(index, word)) continue;
    ++taken;
    MOORING_KILL_POINT("redelivery.park_taken_back");
  }
  for (auto leased = leases_.begin(); leased != leases_.end();) {
    leased = std::exchange(leased->second.seen, false) ? std::next(leased) : leases_.erase(leased);
  }
  if (taken == 0) return;
  spdlog::info("{}: {} messages were held longer than ack_wait ({}) and are given out again", around_.where, taken,
               duration_text(ack_wait));
  take_failures(now_ns);
}

bool Redelivery::leased_too_long(u64 key, u64 word, u64 now_ns) {
  Leased& leased = leases_[key];
  if (leased.word != word) {
    leased = {word, now_ns, true};
    return false;
  }
  leased.seen = true;
  return now_ns - leased.since_ns >= slot_.policy.ack_wait_ns;
}

// --- What is due ----------------------------------------------------------------------------------------------------

void Redelivery::return_due(u64 now_ns) {
  u64 returned = 0;
  table_full_ = false;
  while (!due_.empty() && due_.top().boottime_ns <= now_ns) {
    const Due next = due_.top();
    const layout::RecordWord word = store_.word(next.loc);
    if (word.version != next.version || (word.state != RecordState::kWaiting && word.state != RecordState::kHeld)) {
      due_.pop();
      continue;
    }
    if (word.state == RecordState::kWaiting && bury_expired(next.loc, now_ns)) {
      due_.pop();
      continue;
    }
    const layout::ParkRecord& record = *store_.record(next.loc);
    if (word.state == RecordState::kHeld) {
      due_.pop();
      count(slot_.counters.waiting, -1);
      if (!return_held(record.seq, word)) continue;
      MOORING_KILL_POINT("redelivery.held_returned");
    } else {
      const u32 index = repair_.return_from_store(record.seq, next.loc, word, table_hint_);
      table_full_ = index == Lease::kNotParked;
      if (table_full_) break;  // its entries keep the queue busy: the tick looks again
      MOORING_KILL_POINT("redelivery.returned");
      due_.pop();
      table_hint_ = index + 1;
      ++in_table_;
      count(slot_.counters.waiting, -1);
    }
    ++returned;
    count(slot_.counters.redelivered_total[std::min(record.last_reason, layout::kFailReasonMax)], 1);
  }
  if (returned != 0) around_.wake(returned);
}

// --- Dead letters ---------------------------------------------------------------------------------------------------

void Redelivery::keep_dlq_bounds() {
  const auto is_old = [&](const Dead& dead) {
    const layout::RecordWord word = store_.word(dead.loc);
    return word.version != dead.version || word.state != RecordState::kDead;
  };
  while (!dead_.empty() && is_old(dead_.front())) dead_.pop_front();
  if (dead_.size() > 2 * slot_.counters.dead + 1024) std::erase_if(dead_, is_old);
  const GroupPolicy& policy = slot_.policy;
  const auto drop_oldest = [&] {
    const u64 loc = dead_.front().loc;
    dead_.pop_front();
    count(slot_.counters.dead, -1);
    count(slot_.counters.dropped_total, 1);
    drop_record(loc);
    while (!dead_.empty() && is_old(dead_.front())) dead_.pop_front();
  };
  const u64 now_wall = wall_ns();
  while (policy.dlq_max_age_ns != 0 && !dead_.empty() &&
         now_wall - std::min(now_wall, dead_.front().wall_ns) > policy.dlq_max_age_ns) {
    drop_oldest();
  }
  const u64 bound = policy.dlq_max_messages;
  const bool drops = policy.on_dlq_full == static_cast<u32>(OnDlqFull::kDropOldest);
  while (drops && bound != 0 && slot_.counters.dead > bound && !dead_.empty()) drop_oldest();
  const bool pause = !drops && bound != 0 && slot_.counters.dead >= bound;
  const u32 paused = A::load(slot_.paused, std::memory_order_relaxed);  // own word
  const u32 now_paused = pause ? paused | layout::kGroupPausedByDlq : paused & ~layout::kGroupPausedByDlq;
  if (now_paused == paused) return;
  A::store(slot_.paused, now_paused, std::memory_order_release);
  if (pause) {
    spdlog::error(
        "{}: paused: it has {} dead letters, its bound (dlq_max_messages); look at them with `mooring dlq ls`,"
        " then redrive or purge them, or raise the bound",
        around_.where, slot_.counters.dead);
  } else {
    spdlog::info("{}: has room for dead letters again and goes on", around_.where);
    around_.wake(~u32{0} >> 1);
  }
}

std::vector<u64> Redelivery::select(const DeadFilter& filter) {
  std::vector<u64> found;
  const u64 now_wall = wall_ns();
  for (const Dead& dead : dead_) {
    if (found.size() >= filter.limit) break;
    const layout::RecordWord word = store_.word(dead.loc);
    if (word.version != dead.version || word.state != RecordState::kDead) continue;
    const layout::ParkRecord& record = *store_.record(dead.loc);
    if (filter.reason.has_value() && record.dead_reason != static_cast<u32>(*filter.reason)) continue;
    if (filter.older_than_ns != 0 && now_wall - std::min(now_wall, dead.wall_ns) < filter.older_than_ns) continue;
    if (!filter.seqs.empty() && !std::binary_search(filter.seqs.begin(), filter.seqs.end(), record.seq)) continue;
    found.push_back(dead.loc);
  }
  return found;
}

u64 Redelivery::redrive(const DeadFilter& filter, u64 rate, bool dry_run, u64 now_ns) {
  const std::vector<u64> locs = select(filter);
  if (dry_run) return locs.size();
  redrives_.clear();
  for (const u64 loc : locs) redrives_.push_back({loc, store_.word(loc).version});
  redrive_rate_ = rate;
  redrive_began_ns_ = now_ns;
  redriven_ = 0;
  go_on_redriving(now_ns);
  return_due(now_ns);
  return locs.size();
}

u64 Redelivery::cancel_redrive() {
  const u64 left = redrives_.size();
  redrives_.clear();
  return left;
}

void Redelivery::go_on_redriving(u64 now_ns) {
  if (redrives_.empty()) return;
  const double seconds = static_cast<double>(now_ns - redrive_began_ns_) / 1e9;
  const u64 allowed = redrive_rate_ == 0 ? ~u64{0} : static_cast<u64>(seconds * static_cast<double>(redrive_rate_)) + 1;
  while (!redrives_.empty() && redriven_ < allowed) {
    const Redriving next = redrives_.front();
    redrives_.pop_front();
    ++redriven_;
    const layout::RecordWord word = store_.word(next.loc);
    if (word.version == next.version && word.state == RecordState::kDead) redrive_one(next.loc, now_ns);
  }
  keep_dlq_bounds();
}

void Redelivery::redrive_one(u64 loc, u64 now_ns) {
  layout::ParkRecord& record = *store_.record(loc);
  const u64 now_wall = wall_ns();
  ++record.redriven;
  record.redriven_wall_ns = now_wall;
  record.due_boottime_ns = now_ns;
  record.due_wall_ns = now_wall;
  Decision decision;
  decision.due_boottime_ns = now_ns;  // failed 0, the history stays
  MOORING_KILL_POINT("redelivery.redriving");
  commit(loc, decision, store_.word(loc).acquired, false);
  count(slot_.counters.dead, -1);
  count(slot_.counters.redriven_total, 1);
}

u64 Redelivery::purge(const DeadFilter& filter, bool dry_run) {
  const std::vector<u64> locs = select(filter);
  if (dry_run) return locs.size();
  for (const u64 loc : locs) {
    count(slot_.counters.dead, -1);
    count(slot_.counters.purged_total, 1);
    drop_record(loc);
  }
  keep_dlq_bounds();
  return locs.size();
}

void Redelivery::drop_all() {
  std::vector<u64> locs;
  store_.each_used([&](u64 loc) {
    if (store_.word(loc).state != RecordState::kNote && is_ours(loc)) locs.push_back(loc);
  });
  for (const u64 loc : locs) {
    const u64 note = store_.record(loc)->note;
    store_.release(loc);
    if (note != 0) store_.release(note);
  }
}

void Redelivery::policy_changed(u64 now_ns) {
  leases_.clear();
  leases_looked_ns_ = 0;
  keep_dlq_bounds();
  static_cast<void>(look(true, now_ns));
}

}  // namespace mooring
