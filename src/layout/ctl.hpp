// File `ctl`: the queue itself. Only the supervisor writes it; everybody else maps it read-only.
//
//   0      FileHead
//   128    QueueConstants   what never changes after creation
//   1024   QueueState       what changes
//   2560   TailTimes        how far the queue had come, and when
//   3584   GroupSlot[groups_max], then LaneSlot[lanes_max], then SeatSlot[seats_max]
#pragma once

#include "layout/file_head.hpp"
#include "layout/words.hpp"

namespace mooring::layout {

inline constexpr u64 kNameBytes = 72;  // a name of at most 64 bytes and zeros
inline constexpr u64 kNameLengthMax = 64;

enum class QueueKind : u32 { kSpsc = 1, kMpmc = 2 };
enum class GroupMode : u32 { kCompeting = 1, kExclusive = 2 };
// kSpill: of volatile queues; what a full ring holds up goes to a log without flushes.
enum class Overflow : u32 { kBlock = 1, kReject = 2, kSpill = 3 };
enum class Durability : u32 { kVolatile = 1, kDurable = 2 };
// Of a durable queue: may consumers see what a power cut would take back?
enum class Deliver : u32 { kEarly = 1, kDurable = 2 };

struct QueueConstants {
  char name[kNameBytes];
  QueueKind kind;
  Overflow overflow;
  u64 cells;              // N, a power of two; 0 on SPSC queues
  u64 words;              // NG, a power of two
  u64 parks;              // X
  u64 lane_bytes;         // a power of two
  u64 max_message_bytes;
  u32 lanes_max;
  u32 seats_max;
  u32 groups_max;
  u32 file_mode;          // permission bits of the queue's files
  u64 first_seq;          // of the first message ever published through this memory; what is below it, on a durable
                          // queue whose memory was lost once, lies in the log alone
  u64 park_store_bytes;   // bound of the park file
  Durability durability;
  Deliver deliver;
  u8 log_uuid[16];        // of the log that a durable queue belongs to; zero on volatile ones
  u64 journal_quota_bytes;  // that the messages in the log may take; 0: no bound
  u64 max_backlog_bytes;  // durable queues: of log from the oldest message that some group has not settled
  u64 dedup_window_ns;    // a message_id that came again within it is a duplicate
  u64 dedup_max_messages;  // of so many ids, the newest; 0, and the window 0: nobody looks
  u64 created_wall_ns;
  u64 check;              // XXH3-64 of the bytes before this field
};
static_assert(sizeof(QueueConstants) == 224, "no padding");

constexpr bool finds_duplicates(const QueueConstants& queue) { return queue.dedup_max_messages != 0; }

// Consumers that fell behind read what left memory in a log.
constexpr bool has_log(const QueueConstants& queue) {
  return queue.durability == Durability::kDurable || queue.overflow == Overflow::kSpill;
}

enum class QueueLife : u64 { kOpen = 1, kRemoved = 2, kFailed = 3 };
// Of the journal of a durable queue. kStopped: its supervisor is not there (yet, or any more).
// kBacklogFull: max_backlog_bytes wait to be settled; nothing more is taken until groups have settled some.
enum class JournalLife : u64 { kStopped = 0, kRunning = 1, kDiskFull = 2, kFailed = 3, kBacklogFull = 4 };

// One message that repeats another. The words are written one by one: `seq` is 0 meanwhile.
struct DuplicateNote {
  u64 seq;
  u64 first;  // seq of the message that it repeats
};
inline constexpr u32 kDuplicateNotes = 56;

struct QueueState {
  alignas(kLineBytes) u64 life;  // QueueLife
  u64 fence_mode;                // 1: a process cannot be reached by membarrier(2): publishers fence; never back to 0
  alignas(kLineBytes) u64 group_epoch;  // +1 whenever a group is entered or taken out (core.md A17)
  alignas(kLineBytes) u64 incarnation;  // of the supervisor that serves the queue
  u64 tick_monotonic_ns;                // of its last look at this queue
  u64 fill_milli;                       // then: how full the queue was
  u64 above_high_water;                 // 1: since it was crossed; 0 again below the low one
  u64 high_water_total;                 // times it was
  // Queues with a log; written by the journal's thread, in this order (core.md 5.5). Where the log spills, "on the
  // disk" is: written, or finished by every group before it had to be.
  alignas(kLineBytes) u64 log_mark;  // log position behind the last block announced
  u64 durable_seq;                   // every message below is on the disk
  u64 durable_mark;                  // J, and so R: the same in the unit that publishers free (SPSC: a lane position)
  u64 settle_epoch;                  // +1 before the settlements are looked at
  u64 settled_epoch;                 // settlements made before epoch e began are on the disk once this is e
  u64 journal_life;                  // JournalLife
  // Figures of the journal, for metrics.
  u64 journal_syncs_total;
  u64 journal_errors_total;   // segments that took a failed write or flush, mended or not
  u64 journal_bytes;          // gauges: on the disk, with the reserve
  u64 journal_segments;       // that are not free yet
  u64 journal_backlog_bytes;  // of messages that some group has not settled
  // Queues that look for duplicates; written by the journal's thread before `durable_seq` passes what they are about.
  alignas(kLineBytes) u64 newest_duplicate_seq;  // no later message is one
  u64 duplicates_total;
  u64 ids_known;  // a figure: message ids that are remembered now
  alignas(kLineBytes) DuplicateNote duplicates[kDuplicateNotes];  // the newest ones, duplicates_total mod their count
};
static_assert(sizeof(QueueState) == 12 * kLineBytes);

// When messages came, without a clock on the fast path: at its looks the supervisor notes how far the queue had come.
// A message is as old as the first sample behind it (segment/tail_times.hpp).
inline constexpr u32 kTailSamples = 63;
struct TailTimes {
  u64 version;  // TAIL_TIMES: odd while it is written
  u64 count;
  struct Sample {
    u64 seq;          // everything below was there
    u64 boottime_ns;  // at this time
  } samples[kTailSamples];
};
static_assert(sizeof(TailTimes) == 8 * kLineBytes);

// A slot's life word: generation:32 | life:32. The generation goes up with each grant, so that "closed" notices of an
// earlier owner are never taken for the present one's.
enum class SlotLife : u32 {
  kFree = 0,
  kEntering = 1,  // a group that is being born: pinned at base 0
  kLive = 2,
  kLeaving = 3,   // a lane whose owner is gone and whose messages are still in the ring; a group that is being removed
};
constexpr u64 make_slot(u32 generation, SlotLife life) { return (u64{generation} << 32) | static_cast<u32>(life); }
constexpr u32 slot_generation(u64 slot) { return static_cast<u32>(slot >> 32); }
constexpr SlotLife slot_life(u64 slot) { return static_cast<SlotLife>(static_cast<u32>(slot)); }

// What a group does with messages that fail: the shape in which it is kept. delivery/policy.hpp has the names, units,
// bounds and defaults.
inline constexpr u32 kBackoffMax = 16;
struct GroupPolicy {
  u64 retry_initial_ns;
  u64 retry_max_ns;
  u64 ack_wait_ns;
  u64 dlq_max_messages;
  u64 dlq_max_age_ns;
  u32 retry_multiplier_milli;
  u32 retry_jitter_milli;
  u32 max_deliveries;
  u32 on_dead;
  u32 on_dlq_full;
  u32 backoff_count;
  u64 backoff_ns[kBackoffMax];
  // Settings that a log written before them lacks are at their defaults: only ever add behind.
  u64 breaker_window_ns;
  u64 breaker_delay_ns;
  u64 breaker_delay_max_ns;
  u32 breaker;
  u32 breaker_failure_milli;
  u32 breaker_minimum;
  u32 stuck;
  u32 stuck_after;
  u32 pad;
};
inline constexpr u64 kGroupPolicyBytesLeast = __builtin_offsetof(GroupPolicy, breaker_window_ns);
static_assert(kGroupPolicyBytesLeast == 192, "the log has it");
static_assert(sizeof(GroupPolicy) == 240, "no padding");

// --- The word `paused` of a group: bits, and in bits 8 to 15 how often in a row its breaker opened ------------------
inline constexpr u32 kGroupPausedByUser = 1;
inline constexpr u32 kGroupPausedByDlq = 2;      // its dead letters reached their bound
inline constexpr u32 kGroupPausedByBreaker = 4;  // its circuit breaker is open (supervisor/group_breaker.hpp)
inline constexpr u32 kGroupCanary = 8;           // half open: but for the one message that `canary` names
inline constexpr u32 kGroupPauses = kGroupPausedByUser | kGroupPausedByDlq | kGroupPausedByBreaker;
constexpr u32 breaker_level(u32 paused) { return (paused >> 8) & 255U; }
constexpr u32 make_breaker(u32 level, bool canary) {
  return kGroupPausedByBreaker | (canary ? kGroupCanary : 0U) | (level << 8);
}
inline constexpr u32 kBreakerBits = kGroupPausedByBreaker | kGroupCanary | (255U << 8);

// The canary of a competing group is a place: a seq, or (bit 63) an entry of the park table. An exclusive group hands
// out what comes next, once for each number.
inline constexpr u64 kCanaryInTable = u64{1} << 63;

// How the process of a consumer ended that died with its handle open.
enum class CrashKind : u32 {
  kUnknown = 0,
  kExit = 1,  // it ended by itself
  kKill = 2,
  kSegv = 3,
  kAbrt = 4,
  kBus = 5,
  kIll = 6,
  kFpe = 7,
  kTerm = 8,
  kInt = 9,
  kOtherSignal = 10,
};
inline constexpr u32 kCrashKindMax = 10;

// What consumers did, as their seats count it. A group's figure is `carried` in its slot plus the counters of all seats
// whose last owner was of that group. When a seat goes from one group to another its counters are added to `carried` of
// the one and taken from that of the other, so that may be "negative" (group/seat_totals.hpp).
struct SeatTotals {
  u64 delivered;
  u64 redelivered;
  u64 acked;
  u64 nacked;
  u64 rejected;
  u64 released;
  u64 stale;
  u64 bytes_delivered;
};

// Written by the supervisor alone, read by metrics and `info`; a kill may leave one of them one short.
struct GroupCounters {
  u64 waiting;      // gauges: messages in the park store that wait for a retry or for their time
  u64 dead;         // dead letters
  u64 in_table;     // park table entries in use
  u64 store_bytes;  // of the park file that this group's records take
  u64 failed_total[kFailReasonMax + 1];         // by FailReason
  u64 redelivered_total[kFailReasonMax + 1];    // given out again, by the reason of the failure before
  u64 dead_lettered_total[kFailReasonMax + 1];  // by DeadReason (delivery/decision.hpp)
  u64 redriven_total;
  u64 purged_total;
  u64 dropped_total;
  u64 store_full_total;  // looks at which a failed message had to wait for room in the park store
  u64 breaker_opened_total;
  u64 stuck_killed_total;  // processes that stuck = kill ended
  u64 consumer_crashes_total[kCrashKindMax + 1];  // by CrashKind
  SeatTotals carried;
  u64 reserved[11];
};
static_assert(sizeof(GroupCounters) == 4 * kLineBytes);

struct GroupSlot {
  u64 slot;
  char name[kNameBytes];
  GroupMode mode;
  u32 quota;          // in-flight messages each consumer may hold; dealt anew when one comes or goes (core.md A16)
  u64 start;          // base at birth
  u32 paused;         // bits kGroupPaused...: consumers take nothing while it is not 0 (but a canary)
  u32 pad;
  u64 canary;                     // what kGroupCanary lets through; stored before that bit (CANARY)
  u64 breaker_until_boottime_ns;  // open until then; stored before the bit of the breaker
  u64 reserved;
  alignas(kLineBytes) GroupPolicy policy;
  alignas(kLineBytes) GroupCounters counters;
};
static_assert(sizeof(GroupSlot) == 7 * kLineBytes);
static_assert(__builtin_offsetof(GroupSlot, policy) == kLineBytes);
static_assert(__builtin_offsetof(GroupSlot, counters) == 3 * kLineBytes);

struct LaneSlot {
  u64 slot;
  u32 pid;
  u32 made;             // 1: the file exists
  u64 start_time_ticks;  // with pid the owner's identity on this boot
  u64 reclaim_floor;     // MPMC: a new owner's `reclaim` starts here (above every seq of the owners before, but for the
                         // messages it inherits)
  u64 last_seq;          // MPMC, leaving: the lane is free once the release mark passes it; live: the newest message of
                         // the owners before, behind which this one goes on (0: none is left)
  u64 reserved[3];
};
static_assert(sizeof(LaneSlot) == 64);

struct SeatSlot {
  u64 slot;
  u32 pid;
  u32 group;
  u64 start_time_ticks;
  u64 made;
  u64 progress_seen;               // the seat's progress at the supervisor's last look that found it changed,
  u64 standing_since_boottime_ns;  // and the time of that look, which is stored first (STANDING)
  u64 reserved[2];
};
static_assert(sizeof(SeatSlot) == 64);

struct CtlHead {
  FileHead head;
  QueueConstants constants;
  alignas(1024) QueueState state;
  TailTimes tail_times;
};
static_assert(__builtin_offsetof(CtlHead, constants) == 128);
static_assert(__builtin_offsetof(CtlHead, state) == 1024);
static_assert(__builtin_offsetof(CtlHead, tail_times) == 2560);

inline constexpr u64 kCtlGroupsOffset = 3584;
static_assert(kCtlGroupsOffset >= 2560 + sizeof(TailTimes));
constexpr u64 ctl_lanes_offset(u64 groups_max) { return kCtlGroupsOffset + groups_max * sizeof(GroupSlot); }
constexpr u64 ctl_seats_offset(u64 groups_max, u64 lanes_max) {
  return ctl_lanes_offset(groups_max) + lanes_max * sizeof(LaneSlot);
}
constexpr u64 ctl_file_bytes(u64 groups_max, u64 lanes_max, u64 seats_max) {
  return align_up(ctl_seats_offset(groups_max, lanes_max) + seats_max * sizeof(SeatSlot), kPageBytes);
}

inline constexpr u32 kGroupsMax = 64;

}  // namespace mooring::layout
