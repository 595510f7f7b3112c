// What becomes of a message whose delivery failed: pure, so that years of it can be tried in a second.
//
//   rejected, corrupt              a dead letter at once
//   expired                        a dead letter, or dropped; not counted as a failure
//   nack, ack_wait over, crash     failed + 1; a dead letter if that is max_deliveries, else again after its delay
//   not due                        waits for its time; not counted
//
// TESTED BY  delivery/decision_test
#pragma once

#include "delivery/policy.hpp"

namespace mooring {

using layout::FailReason;

// Why a message is a dead letter. Frozen: the journal and the park file keep them.
enum class DeadReason : u32 {
  kNone = 0,
  kRejected = 1,
  kMaxDeliveries = 2,
  kCrash = 3,
  kExpired = 4,
  kCorrupt = 5,
  kAdmin = 6,
};
inline constexpr u32 kDeadReasonMax = 6;
const char* dead_reason_name(DeadReason reason);
const char* fail_reason_name(FailReason reason);

struct FailedDelivery {
  FailReason reason = FailReason::kNack;
  u32 failed_before = 0;
  u64 own_delay_ns = ~u64{0};  // of a nack that named one; ~0: by the policy
  u64 due_boottime_ns = 0;     // kNotDue: its time
  bool drop_expired = false;   // kExpired: its publisher wants it dropped, not kept
  u64 now_boottime_ns = 0;
  u64 random = 0;  // uniform over all u64
};

enum class Fate { kWait, kDead, kDrop };
struct Decision {
  Fate fate = Fate::kWait;
  u32 failed = 0;
  u64 due_boottime_ns = 0;  // kWait
  DeadReason dead_reason = DeadReason::kNone;
};

Decision decide(const GroupPolicy& policy, const FailedDelivery& failure);

}  // namespace mooring
