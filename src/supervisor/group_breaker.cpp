#include "supervisor/group_breaker.hpp"

#include <spdlog/spdlog.h>

#include "base/kill_point.hpp"
#include "base/time.hpp"

namespace mooring {
namespace {

using A = HardwareAtomics;
using layout::FailReason;
using layout::Kind;
using layout::ParkState;

constexpr u64 kNumberMask = (u64{1} << 24) - 1;
constexpr unsigned kCanarySeqBits = 40;
// Half open with nothing to let through: who publishes tells consumers, not us.
constexpr u64 kPickAgainNs = 10 * kNsPerMs;
// Half open, and the canary not taken yet; taken, it is looked at with every tick.
constexpr u64 kOfferedNs = 50 * kNsPerMs;

bool is_settlement(FailReason reason) { return reason != FailReason::kExpired && reason != FailReason::kNotDue; }

}  // namespace

GroupBreaker::GroupBreaker(layout::GroupSlot& slot, GroupView view, OrderView order, Surroundings around)
    : slot_(slot), view_(view), order_(order), around_(std::move(around)) {}

void GroupBreaker::set_bits(u32 bits) {
  const u32 paused = A::load(slot_.paused, std::memory_order_relaxed);  // own word
  // CANARY: release, after `canary`. What else pauses the group stays.
  A::store(slot_.paused, (paused & ~layout::kBreakerBits) | bits, std::memory_order_release);
}

// --- After a restart ------------------------------------------------------------------------------------------------

void GroupBreaker::adopt(const std::function<bool(u64 seq)>& is_failed, u64 now_ns) {
  const u32 paused = A::load(slot_.paused, std::memory_order_relaxed);
  if ((paused & layout::kGroupPausedByBreaker) == 0) return;
  const bool named = (paused & layout::kGroupCanary) != 0;
  // The longest there is: whatever stands there, it opens again.
  const u64 until = std::min(A::load(slot_.breaker_until_boottime_ns, std::memory_order_relaxed),
                             now_ns + Breaker::delay_ns(slot_.policy, Breaker::kLevelMax));
  breaker_.adopt(named ? Breaker::State::kHalfOpen : Breaker::State::kOpen, layout::breaker_level(paused), until);
  if (!named) return;
  place_ = A::load(slot_.canary, std::memory_order_relaxed);
  canary_failed_ = false;
  if (is_exclusive()) return;  // its word says what became of it
  if ((place_ & layout::kCanaryInTable) != 0) {
    const u64 index = place_ & ~layout::kCanaryInTable;
    // A free entry still says whose it was.
    canary_seq_ = index < view_.parks_count ? A::load(view_.parks[index].seq, std::memory_order_acquire) : 0;
  } else {
    canary_seq_ = place_;
  }
  canary_failed_ = where_is_canary() == Where::kGone && is_failed(canary_seq_);
}

// --- What ended -----------------------------------------------------------------------------------------------------

void GroupBreaker::acked(u64 count, u64 now_ns) {
  if (slot_.policy.breaker != 0 && count != 0) breaker_.acked(slot_.policy, count, now_ns);
}

void GroupBreaker::failed(u64 seq, FailReason reason, u64 now_ns) {
  if (slot_.policy.breaker == 0) return;
  if (!is_settlement(reason)) {
    canary_untimely_ = canary_untimely_ || (!is_exclusive() && seq == canary_seq_);
    return;
  }
  breaker_.failed(slot_.policy, seq, now_ns);
  if (breaker_.state() != Breaker::State::kHalfOpen || place_ == kNoCanary) return;
  // Of an exclusive group any: its one consumer still fails.
  if (is_exclusive() || seq == canary_seq_) canary_failed_ = true;
}

// --- The canary -----------------------------------------------------------------------------------------------------

GroupBreaker::Where GroupBreaker::where_in_table(u64 seq, bool named_by_place) const {
  for (u32 index = 0; index < view_.parks_count; ++index) {
    if (named_by_place && index != (place_ & ~layout::kCanaryInTable)) continue;
    const layout::ParkEntry& entry = view_.parks[index];
    const ParkState state = layout::read_park_word(A::load(entry.word, std::memory_order_acquire)).state;
    if (state == ParkState::kFree || A::load(entry.seq, std::memory_order_relaxed) != seq) continue;
    switch (state) {
      case ParkState::kLeased:
      case ParkState::kPrepLeased: return Where::kHeld;
      case ParkState::kNacked: return Where::kFailing;
      case ParkState::kAcked: return Where::kGone;
      // Named by its place it may be taken there. A straggler's, it cannot be found by consumers.
      default: return named_by_place ? Where::kOffered : Where::kGivenBack;
    }
  }
  return Where::kGone;
}

GroupBreaker::Where GroupBreaker::where_in_window() const {
  const u64 seq = canary_seq_;
  const u64 base = A::load(view_.head->base, std::memory_order_acquire);
  if (seq < base) return where_in_table(seq, /*named_by_place=*/false);
  const u64 word = A::load(view_.word(seq), std::memory_order_acquire);
  const i64 ahead = layout::word_laps_ahead(word, view_.lap(seq));
  if (ahead < 0) return Where::kOffered;
  if (ahead > 0) return where_in_table(seq, /*named_by_place=*/false);
  switch (layout::word_kind(word)) {
    case Kind::kLeased: return Where::kHeld;
    case Kind::kNacked: return Where::kFailing;
    case Kind::kAcked: return Where::kGone;
    case Kind::kMoved: return where_in_table(seq, /*named_by_place=*/false);
    default: return Where::kOffered;
  }
}

GroupBreaker::Where GroupBreaker::where_exclusive() {
  const layout::SeatHead* consumer = around_.exclusive_consumer();
  if (consumer == nullptr) return Where::kOffered;
  const u64 taken = A::load(consumer->canary, std::memory_order_acquire);
  if (layout::seat_canary_number(taken) != place_) return Where::kOffered;
  const u64 acked = around_.acked_seq();
  const u64 seq = layout::extend(taken & ((u64{1} << kCanarySeqBits) - 1), kCanarySeqBits, acked);
  canary_seq_ = seq;
  if (seq < acked) return Where::kGone;
  const u64 word = A::load(view_.word(seq), std::memory_order_acquire);  // SETTLED
  if (layout::word_laps_ahead(word, view_.lap(seq)) != 0) return Where::kHeld;
  switch (layout::word_kind(word)) {
    case Kind::kAcked: return Where::kGone;
    case Kind::kNacked: return Where::kFailing;
    case Kind::kReady: return Where::kGivenBack;
    default: return Where::kHeld;
  }
}

GroupBreaker::Where GroupBreaker::where_is_canary() {
  if (is_exclusive()) return where_exclusive();
  if ((place_ & layout::kCanaryInTable) != 0) return where_in_table(canary_seq_, /*named_by_place=*/true);
  return where_in_window();
}

// Of a competing group.
u64 GroupBreaker::pick() const {
  const u64 base = A::load(view_.head->base, std::memory_order_acquire);
  u64 given_back = kNoCanary;
  for (u64 seq = base; seq < base + view_.window(); ++seq) {
    const u64 word = A::load(view_.word(seq), std::memory_order_acquire);
    const i64 ahead = layout::word_laps_ahead(word, view_.lap(seq));
    if (ahead < 0) {
      u64 cell = 0;
      if (is_published<A>(order_, seq, &cell)) return seq;
      break;
    }
    if (ahead == 0 && layout::word_kind(word) == Kind::kReady) given_back = std::min(given_back, seq);
  }
  if (given_back != kNoCanary) return given_back;
  for (u32 index = 0; index < view_.parks_count; ++index) {
    const u64 word = A::load(view_.parks[index].word, std::memory_order_acquire);
    if (layout::read_park_word(word).state == ParkState::kReady) return layout::kCanaryInTable | index;
  }
  return kNoCanary;
}

// False: nothing is there to be let through.
bool GroupBreaker::name_canary() {
  const u64 before = A::load(slot_.canary, std::memory_order_relaxed);
  const u64 place = is_exclusive() ? std::max(((before & kNumberMask) + 1) & kNumberMask, u64{1}) : pick();
  if (place == kNoCanary) return false;
  place_ = place;
  canary_failed_ = false;
  canary_untimely_ = false;
  canary_seq_ = kNoCanary;
  if (!is_exclusive()) {
    const bool in_table = (place & layout::kCanaryInTable) != 0;
    canary_seq_ =
        in_table ? A::load(view_.parks[place & ~layout::kCanaryInTable].seq, std::memory_order_relaxed) : place;
  }
  A::store(slot_.canary, place, std::memory_order_relaxed);
  MOORING_KILL_POINT("breaker.canary");
  set_bits(layout::make_breaker(breaker_.level(), /*canary=*/true));
  MOORING_KILL_POINT("breaker.half_open");
  around_.wake(~u32{0} >> 1);  // who may take it is among them, the others sleep on
  return true;
}

void GroupBreaker::look_at_canary(u64 now_ns) {
  const Where where = where_is_canary();
  if (canary_failed_) {
    place_ = kNoCanary;
    breaker_.canary_failed(slot_.policy, now_ns);
    store_state();
    log_opened("the message that was let through failed as well", {});
  } else if (where == Where::kGone && !canary_untimely_) {
    place_ = kNoCanary;
    breaker_.canary_acked();
    store_state();
    spdlog::info("{}: its circuit breaker closed: the message that was let through was acknowledged", around_.where);
  } else if (where == Where::kGivenBack || where == Where::kGone) {
    place_ = kNoCanary;
    set_bits(layout::make_breaker(breaker_.level(), /*canary=*/false));
  }
}

// --- A look ---------------------------------------------------------------------------------------------------------

void GroupBreaker::store_state() {
  switch (breaker_.state()) {
    case Breaker::State::kOpen:
      A::store(slot_.breaker_until_boottime_ns, breaker_.until_ns(), std::memory_order_relaxed);
      MOORING_KILL_POINT("breaker.until");
      set_bits(layout::make_breaker(breaker_.level(), /*canary=*/false));
      MOORING_KILL_POINT("breaker.opened");
      A::store(slot_.counters.breaker_opened_total,
               A::load(slot_.counters.breaker_opened_total, std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      break;
    case Breaker::State::kClosed:
      set_bits(0);
      MOORING_KILL_POINT("breaker.closed");
      around_.wake(~u32{0} >> 1);
      break;
    case Breaker::State::kHalfOpen: break;  // once a canary is named
  }
}

void GroupBreaker::log_opened(const char* why, const Breaker::Recent& seen) const {
  const std::string counts = seen.failed == 0
                                 ? std::string()
                                 : fmt::format(" ({} messages failed, {} were acknowledged in {})", seen.failed,
                                               seen.acked, duration_text(slot_.policy.breaker_window_ns));
  spdlog::warn("{}: its circuit breaker opened: {}{}; nothing is given out for {}, then one message", around_.where,
               why, counts, duration_text(Breaker::delay_ns(slot_.policy, breaker_.level())));
}

u64 GroupBreaker::look(u64 now_ns) {
  if (slot_.policy.breaker == 0 && breaker_.state() == Breaker::State::kClosed) return ~u64{0};
  if (breaker_.state() == Breaker::State::kHalfOpen && place_ != kNoCanary) look_at_canary(now_ns);
  const Breaker::Recent seen =
      breaker_.state() == Breaker::State::kClosed ? breaker_.recent(slot_.policy, now_ns) : Breaker::Recent{};
  if (breaker_.look(slot_.policy, now_ns)) {
    if (breaker_.state() != Breaker::State::kHalfOpen) place_ = kNoCanary;
    store_state();
    if (breaker_.state() == Breaker::State::kOpen) log_opened("what it does fails", seen);
    if (breaker_.state() == Breaker::State::kClosed) {
      spdlog::info("{}: its circuit breaker was switched off: it goes on", around_.where);
    }
  }
  switch (breaker_.state()) {
    case Breaker::State::kClosed: return ~u64{0};
    case Breaker::State::kOpen: return breaker_.until_ns();
    case Breaker::State::kHalfOpen: break;
  }
  if (place_ == kNoCanary && !name_canary()) return now_ns + kPickAgainNs;
  return now_ns + (where_is_canary() == Where::kOffered ? kOfferedNs : kPickAgainNs);
}

}  // namespace mooring
