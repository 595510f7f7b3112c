#include "delivery/decision.hpp"

#include <algorithm>

namespace mooring {

const char* dead_reason_name(DeadReason reason) {
  switch (reason) {
    case DeadReason::kNone: return "none";
    case DeadReason::kRejected: return "rejected";
    case DeadReason::kMaxDeliveries: return "max_deliveries";
    case DeadReason::kCrash: return "crash";
    case DeadReason::kExpired: return "expired";
    case DeadReason::kCorrupt: return "corrupt";
    case DeadReason::kAdmin: return "admin";
  }
  return "unknown";
}

const char* fail_reason_name(FailReason reason) {
  switch (reason) {
    case FailReason::kNone: return "none";
    case FailReason::kNack: return "nack";
    case FailReason::kTimeout: return "timeout";
    case FailReason::kCrash: return "crash";
    case FailReason::kRejected: return "rejected";
    case FailReason::kExpired: return "expired";
    case FailReason::kNotDue: return "not_due";
    case FailReason::kCorrupt: return "corrupt";
  }
  return "unknown";
}

Decision decide(const GroupPolicy& policy, const FailedDelivery& failure) {
  Decision decision;
  decision.failed = failure.failed_before;
  const auto dead = [&](DeadReason reason) {
    decision.fate = policy.on_dead == static_cast<u32>(OnDead::kDrop) ? Fate::kDrop : Fate::kDead;
    decision.dead_reason = reason;
    return decision;
  };
  if (failure.reason == FailReason::kNotDue) {
    decision.due_boottime_ns = failure.due_boottime_ns;
    return decision;
  }
  if (failure.reason == FailReason::kExpired) {
    dead(DeadReason::kExpired);
    if (failure.drop_expired) decision.fate = Fate::kDrop;
    return decision;
  }
  decision.failed = std::min(failure.failed_before + 1, layout::kFailedMax);
  if (failure.reason == FailReason::kRejected) return dead(DeadReason::kRejected);
  if (failure.reason == FailReason::kCorrupt) return dead(DeadReason::kCorrupt);
  if (policy.max_deliveries != 0 && decision.failed >= policy.max_deliveries) {
    return dead(failure.reason == FailReason::kCrash ? DeadReason::kCrash : DeadReason::kMaxDeliveries);
  }
  const u64 delay = failure.own_delay_ns != ~u64{0} ? std::min(failure.own_delay_ns, kDelayMostNs)
                                                    : retry_delay_ns(policy, decision.failed, failure.random);
  decision.due_boottime_ns = failure.now_boottime_ns + delay;
  return decision;
}

}  // namespace mooring
