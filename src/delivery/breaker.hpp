// When does a whole group fail, and not a message? A circuit breaker: pure, driven by the times it is told.
//
//            enough different messages failed, and of those settled lately too large a part
//   CLOSED ───────────────────────────────────────────────────────────────────► OPEN ◄────────────┐ failed: twice the
//      ▲                                                                          │ delay is over │ delay, bounded
//      └─────────────────────────── acknowledged ────────────────────────────  HALF OPEN ─────────┘
//                                                                      one message, the canary, is let through
//
// COUNTED ALIKE   nack, reject, crash, ack_wait over, corrupt; never what is expired or not due. A message counts once
//   in a window, however often it fails there: one that is poison opens nothing (unless breaker_minimum is 1).
// WINDOW          tenths of breaker_window; what is older than the last ten of them is forgotten. It is this process's
//   own: a restart of the supervisor begins with an empty one. The state is not (supervisor/group_breaker.hpp).
// MEMORY          kBreakerMessagesMax messages; beyond, one that fails again counts again, which changes no decision on
//   breaker_minimum (it is no larger) and little on the ratio.
//
// TESTED BY  delivery/breaker_test
#pragma once

#include <array>
#include <unordered_map>
#include <vector>

#include "delivery/policy.hpp"

namespace mooring {

class Breaker {
 public:
  enum class State : u32 { kClosed = 0, kOpen = 1, kHalfOpen = 2 };
  static constexpr u32 kLevelMax = 255;

  State state() const { return state_; }
  // How often it opened in a row, 0 while it is closed.
  u32 level() const { return level_; }
  u64 until_ns() const { return until_ns_; }

  // What a supervisor before left.
  void adopt(State state, u32 level, u64 until_ns);

  // Deliveries that ended. They count while it is closed.
  void acked(const GroupPolicy& policy, u64 count, u64 now_ns);
  void failed(const GroupPolicy& policy, u64 seq, u64 now_ns);
  // Of the canary, while it is half open.
  void canary_acked();
  void canary_failed(const GroupPolicy& policy, u64 now_ns);

  // Goes on by itself: opens, lets a canary through, or closes as it was switched off. True: the state is another.
  bool look(const GroupPolicy& policy, u64 now_ns);

  struct Recent {
    u64 acked = 0;
    u64 failed = 0;  // different messages
  };
  Recent recent(const GroupPolicy& policy, u64 now_ns);

  // How long it stays open for the `level`-th time in a row.
  static u64 delay_ns(const GroupPolicy& policy, u32 level);

 private:
  static constexpr u64 kParts = 10;
  struct Part {
    u64 number = 0;  // of the tenth it stands for
    u64 acked = 0;
    u64 failed = 0;
    std::vector<u64> seqs;
  };
  Part& part_now(const GroupPolicy& policy, u64 now_ns);
  void forget();
  void open(const GroupPolicy& policy, u32 level, u64 now_ns);

  State state_ = State::kClosed;
  u32 level_ = 0;
  u64 until_ns_ = 0;
  u64 part_ns_ = 0;
  std::array<Part, kParts> parts_;
  std::unordered_map<u64, u64> last_failed_;  // seq -> number of the tenth it is counted in
};

const char* breaker_state_name(Breaker::State state);

}  // namespace mooring
