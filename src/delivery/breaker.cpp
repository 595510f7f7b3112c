#include "delivery/breaker.hpp"

#include <algorithm>

namespace mooring {

const char* breaker_state_name(Breaker::State state) {
  switch (state) {
    case Breaker::State::kClosed: return "closed";
    case Breaker::State::kOpen: return "open";
    case Breaker::State::kHalfOpen: return "half_open";
  }
  return "unknown";
}

void Breaker::adopt(State state, u32 level, u64 until_ns) {
  forget();
  state_ = state;
  level_ = state == State::kClosed ? 0 : std::clamp(level, 1U, kLevelMax);
  until_ns_ = until_ns;
}

u64 Breaker::delay_ns(const GroupPolicy& policy, u32 level) {
  const u64 most = std::max(policy.breaker_delay_max_ns, policy.breaker_delay_ns);
  u64 delay = policy.breaker_delay_ns;
  for (u32 doubled = 1; doubled < level && delay < most; ++doubled) delay *= 2;  // at most 14 days: no overflow
  return std::min(delay, most);
}

// The tenth that `now_ns` lies in, and all that are older than ten forgotten.
Breaker::Part& Breaker::part_now(const GroupPolicy& policy, u64 now_ns) {
  const u64 part_ns = std::max(policy.breaker_window_ns / kParts, u64{1});
  if (part_ns != part_ns_) {
    forget();  // another window: its tenths have other numbers
    part_ns_ = part_ns;
  }
  const u64 number = now_ns / part_ns;
  for (Part& part : parts_) {
    if (part.number + kParts > number) continue;
    for (const u64 seq : part.seqs) {
      const auto counted = last_failed_.find(seq);
      if (counted != last_failed_.end() && counted->second == part.number) last_failed_.erase(counted);
    }
    part = Part{};
  }
  Part& part = parts_[number % kParts];
  part.number = number;
  return part;
}

void Breaker::forget() {
  for (Part& part : parts_) part = Part{};
  last_failed_.clear();
}

void Breaker::acked(const GroupPolicy& policy, u64 count, u64 now_ns) {
  if (state_ == State::kClosed) part_now(policy, now_ns).acked += count;
}

void Breaker::failed(const GroupPolicy& policy, u64 seq, u64 now_ns) {
  if (state_ != State::kClosed) return;
  Part& part = part_now(policy, now_ns);
  const auto counted = last_failed_.find(seq);
  if (counted == last_failed_.end()) {
    ++part.failed;
    if (last_failed_.size() >= kBreakerMessagesMax) return;
    last_failed_[seq] = part.number;
    part.seqs.push_back(seq);
  } else if (counted->second != part.number) {
    // It counts where it failed last.
    --parts_[counted->second % kParts].failed;
    ++part.failed;
    counted->second = part.number;
    part.seqs.push_back(seq);
  }
}

Breaker::Recent Breaker::recent(const GroupPolicy& policy, u64 now_ns) {
  static_cast<void>(part_now(policy, now_ns));
  Recent recent;
  for (const Part& part : parts_) {
    recent.acked += part.acked;
    recent.failed += part.failed;
  }
  return recent;
}

void Breaker::open(const GroupPolicy& policy, u32 level, u64 now_ns) {
  state_ = State::kOpen;
  level_ = std::min(level, kLevelMax);
  until_ns_ = now_ns + delay_ns(policy, level_);
  forget();
}

void Breaker::canary_acked() {
  if (state_ != State::kHalfOpen) return;
  state_ = State::kClosed;
  level_ = 0;
  forget();
}

void Breaker::canary_failed(const GroupPolicy& policy, u64 now_ns) {
  if (state_ == State::kHalfOpen) open(policy, level_ + 1, now_ns);
}

bool Breaker::look(const GroupPolicy& policy, u64 now_ns) {
  const State before = state_;
  if (policy.breaker == 0) {
    state_ = State::kClosed;
    level_ = 0;
    if (before != state_ || !last_failed_.empty()) forget();
    return state_ != before;
  }
  if (state_ == State::kOpen && now_ns >= until_ns_) state_ = State::kHalfOpen;
  if (state_ == State::kClosed) {
    const Recent seen = recent(policy, now_ns);
    const u64 settled = seen.acked + seen.failed;
    // Without a product that could overflow where somebody wrote over the counters of a seat.
    if (seen.failed >= policy.breaker_minimum &&
        static_cast<double>(seen.failed) * 1000 >= static_cast<double>(settled) * policy.breaker_failure_milli) {
      open(policy, 1, now_ns);
    }
  }
  return state_ != before;
}

}  // namespace mooring
