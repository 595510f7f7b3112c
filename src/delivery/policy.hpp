// What a group does with messages that fail: names, units, bounds and defaults of every setting, in one table. The C
// API, the command line and the log all go by these names (semantics.md section 3).
//
//   retry_initial     100ms     delay before the second delivery; 0 = at once
//   retry_multiplier  2.0       each further delay is that much longer; 1 to 100
//   retry_max         60s       no delay is longer (before jitter)
//   retry_jitter      0.15      each delay is longer or shorter by up to this part of it; 0 to 1
//   backoff           (none)    a list of delays instead, 16 at most; the last one repeats
//   max_deliveries    5         failures after which a message is a dead letter; 0 = never, at most 255
//   ack_wait          30s       a message held longer by a living consumer is given out again; 0 = never
//   dlq_max_messages  1000000   dead letters the group keeps; 0 = no bound
//   dlq_max_age       0s        older dead letters go; 0 = never
//   on_dlq_full       pause     pause the group with an alarm, or drop_oldest (counted)
//   on_dead           keep      keep dead letters, or drop them (counted)
//
//   breaker                 off   on: a circuit breaker (delivery/breaker.hpp) pauses a group while what it does fails
//   breaker_failure_ratio   0.5   it opens when this part of the messages settled in the window failed; 0.001 to 1
//   breaker_minimum         10    and at least so many different messages did; 1 to 4096
//   breaker_window          10s   what counts as recent; 100ms to 1d
//   breaker_delay           5s    how long it stays open before it lets one message through; 1ms to 1d
//   breaker_delay_max       5m    each failure of that message doubles the delay, up to this; at most 7d
//
//   stuck             off       kill: the supervisor kills (SIGKILL) a consumer's process that holds messages and makes
//                               no progress for stuck_after times ack_wait, stopped or running, but never a traced one
//   stuck_after       4         1 to 1000
//
// Delays run on CLOCK_BOOTTIME: they go on while the host sleeps, and no clock adjustment moves them.
//
// TESTED BY  delivery/policy_test
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "layout/ctl.hpp"

namespace mooring {

using layout::GroupPolicy;

enum class OnDead : u32 { kKeep = 0, kDrop = 1 };
enum class OnDlqFull : u32 { kPause = 0, kDropOldest = 1 };
enum class OnStuck : u32 { kOff = 0, kKill = 1 };

// The different messages that a breaker remembers; beyond, one that fails again counts again.
inline constexpr u32 kBreakerMessagesMax = 4096;

inline constexpr u64 kDelayMostNs = u64{366} * 24 * 3600 * 1'000'000'000;  // a year: more is a mistake

GroupPolicy default_policy();

// kCorrupt: a number out of its bounds; `where` names the file or the log it came from.
Status check_policy(const GroupPolicy& policy, const std::string& where);

// kBadArgument names the key (and the nearest one there is), or the value and what it may be.
Status set_policy(GroupPolicy* policy, std::string_view key, std::string_view value);

// Every key with its value, as set_policy would take it.
std::vector<std::pair<std::string, std::string>> policy_settings(const GroupPolicy& policy);

// How long to wait before the next delivery of a message that failed `failed` times (at least 1). `random` is uniform
// over all u64.
u64 retry_delay_ns(const GroupPolicy& policy, u32 failed, u64 random);

// "250ms", "1.5s", "2m", "1h", "7d", "0": nanoseconds. kBadArgument says what a duration looks like.
Result<u64> parse_duration(std::string_view text);
std::string duration_text(u64 ns);

}  // namespace mooring
