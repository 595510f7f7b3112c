// From what a user asks for to the sizes of a queue: one knob (`capacity`) scales everything, each part can be set.
//
// TESTED BY  segment/queue_plan_test
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "layout/ctl.hpp"

namespace mooring {

// Below 4096 the time until a stopped process could meet its own lap again gets short.
inline constexpr u64 kCapacityMin = 4096;
inline constexpr u64 kCapacityMax = u64{1} << 24;
inline constexpr u64 kCapacityTestsMin = 4;
inline constexpr u64 kCapacityDefault = 65536;  // below it, the default lane, tables and park table are smaller too
inline constexpr u64 kQueueLaneBytesMin = u64{32} << 10;
inline constexpr u64 kMessageBytesMax = u64{32} << 20;
// An index in the park table has 18 bits in a state word, and the last two values are spoken for.
inline constexpr u64 kParksMin = 64;
inline constexpr u64 kParksMax = u64{1} << 17;
inline constexpr u32 kProducersMax = 1023;
inline constexpr u32 kConsumersMax = 2047;
// Less leaves no room for a few segments, each of which holds a few of the largest messages.
inline constexpr u64 kJournalQuotaMin = u64{16} << 20;
inline constexpr u64 kJournalQuotaMessages = 8;
// Messages that left the window: stragglers, retries, dead letters. A bound, not a reservation: the file grows as it is
// needed; a million dead letters of 64 bytes take 0.5 GiB.
inline constexpr u64 kParkStoreBytesDefault = u64{1} << 30;
inline constexpr u64 kParkStoreBytesMax = u64{1} << 40;
inline constexpr u64 kBacklogBytesDefault = u64{64} << 30;
inline constexpr u64 kBacklogBytesMin = u64{1} << 20;
inline constexpr u64 kBacklogBytesMax = u64{1} << 50;
// Deduplication: an id that is known takes about 200 bytes of the supervisor's memory, and 56 in each snapshot.
inline constexpr u64 kDedupWindowDefaultNs = u64{600} * 1'000'000'000;
inline constexpr u64 kDedupWindowMinNs = 1'000'000;
inline constexpr u64 kDedupWindowMaxNs = u64{30} * 86'400 * 1'000'000'000;
inline constexpr u64 kDedupMessagesDefault = 65536;
inline constexpr u64 kDedupMessagesMax = u64{1} << 20;
inline constexpr u64 kDedupIdBytes = 56;   // of a MESSAGE_ID record (docs/format.md)
inline constexpr u64 kDedupSnapshots = 4;  // of all ids, that a quota leaves room for
// Of a queue at birth and for ever after: half of the numbers stay unused, so that no sum of two can wrap.
inline constexpr u64 kFirstSeqMax = u64{1} << 62;

struct QueueOptions {
  layout::QueueKind kind = layout::QueueKind::kMpmc;
  layout::Overflow overflow = layout::Overflow::kBlock;
  layout::Durability durability = layout::Durability::kVolatile;
  layout::Deliver deliver = layout::Deliver::kDurable;  // looked at where durability = durable
  u64 journal_quota_bytes = 0;  // durable: disk that the messages of the log may take; 0: no bound
  // Messages that can be between publish and the end of every group: N and NG. Rounded up to a power of two, 4096 to
  // 2^24. Tests set `small_for_tests` for less (4 messages, and lanes of 256 bytes where lane_bytes says so).
  u64 capacity = kCapacityDefault;
  // Durable queues: bytes of log that may wait to be settled by some group; then publishers wait (block) or are refused
  // (reject). 0: 64 GiB; 1 MiB to 2^50. The files may take a segment (at most 64 MiB), its successor and 4 MiB more.
  u64 max_backlog_bytes = 0;
  // Durable queues that deliver what is durable: a message_id that comes again within this time, and among the newest
  // so many ids, is a duplicate. Both 0: nobody looks; one 0: 10 minutes, or 65536 messages.
  u64 dedup_window_ns = 0;
  u64 dedup_max_messages = 0;
  u64 max_message_bytes = 0;    // 0: a quarter of the lane; at most 32 MiB
  u64 lane_bytes = 0;           // 0: capacity x 16 B (x 8 B below 65536), at least 32 KiB and 4 x max_message_bytes
  u32 producers_max = 0;        // 0: 64 (16 where capacity < 65536); at most 1023; 1 on spsc
  u32 consumers_max = 0;        // 0: 256 (15 where capacity < 65536); at most 2047
  u32 groups_max = 0;           // 0: 16 (4 where capacity < 65536); at most 64
  u32 file_mode = 0600;         // permission bits; only rw bits, at least 0600; no class may write without reading
  std::optional<u32> group_id;  // owning Unix group of the files
  bool small_for_tests = false;
};

// Fills in the defaults, checks every bound (kBadArgument names the option, the value and the range) and returns the
// constants without uuid-dependent parts (check, created_wall_ns are set by create_queue).
Result<layout::QueueConstants> plan_queue(std::string_view name, const QueueOptions& options);

// Every number in range, and those that follow from others as they must be; `check` is not looked at. kCorrupt: what a
// file says is input. `where` names the file.
Status check_constants(const layout::QueueConstants& constants, const std::string& where);

// Bytes of shared memory the queue has with one group, one lane and one consumer: what `create` reserves first.
// (The park file comes with the first parked message.)
u64 queue_bytes(const layout::QueueConstants& constants);

}  // namespace mooring
