#include "segment/queue_plan.hpp"

#include <algorithm>
#include <cstring>

#include "layout/group.hpp"
#include "layout/lane.hpp"
#include "layout/order.hpp"
#include "layout/park.hpp"
#include "layout/seat.hpp"
#include "layout/wake.hpp"
#include "segment/names.hpp"

namespace mooring {
namespace {

using layout::QueueConstants;
using layout::QueueKind;

static_assert(kParksMax < layout::kMovedToStore);
static_assert(kProducersMax < layout::kLanesMax);
static_assert(kConsumersMax + 1 <= layout::kOwnersMax);
static_assert(kMessageBytesMax <= layout::kFrameLenMax);
static_assert(4 * kMessageBytesMax <= layout::kLaneBytesMax);
static_assert(16 * kCapacityMax <= layout::kLaneBytesMax);

Status check_option(std::string_view queue, const char* option, u64 value, u64 low, u64 high) {
  if (value >= low && value <= high) return {};
  return fail(Code::kBadArgument, "queue " + std::string(queue) + ": " + option + " = " + std::to_string(value) +
                                      " is out of range; give " + std::to_string(low) + " to " + std::to_string(high));
}

std::string octal(u32 mode) {
  std::string digits;
  for (; mode != 0; mode >>= 3) digits.insert(digits.begin(), static_cast<char>('0' + (mode & 7)));
  return "0" + digits;
}

bool file_mode_is_good(u32 mode) {
  constexpr u32 kWriteOfOthers = 0022;
  return (mode & ~u32{0666}) == 0 && (mode & 0600) == 0600 && ((mode & kWriteOfOthers) << 1 & ~mode) == 0;
}

}  // namespace

Result<QueueConstants> plan_queue(std::string_view name, const QueueOptions& options) {
  if (auto good = check_name("queue", name); !good) return fail(good.error());
  const auto option = [name](const char* what, u64 value, u64 low, u64 high) {
    return check_option(name, what, value, low, high);
  };
  const auto refuse = [name](const std::string& text) {
    return fail(Code::kBadArgument, "queue " + std::string(name) + ": " + text);
  };
  const bool spsc = options.kind == QueueKind::kSpsc;
  if (!spsc && options.kind != QueueKind::kMpmc) return refuse("kind is unknown; give spsc or mpmc");
  const bool spills = options.overflow == layout::Overflow::kSpill;
  if (options.overflow != layout::Overflow::kBlock && options.overflow != layout::Overflow::kReject && !spills) {
    return refuse("overflow is unknown; give block, reject or spill");
  }
  if (options.durability != layout::Durability::kVolatile && options.durability != layout::Durability::kDurable) {
    return refuse("durability is unknown; give volatile or durable");
  }
  if (options.deliver != layout::Deliver::kEarly && options.deliver != layout::Deliver::kDurable) {
    return refuse("deliver is unknown; give durable or early");
  }

  if (spills && options.durability == layout::Durability::kDurable) {
    return refuse(
        "overflow = spill is for volatile queues; a durable queue keeps its backlog in its journal anyway, so "
        "give block or reject, for when max_backlog_bytes is reached");
  }
  if (spills && spsc) {
    return refuse(
        "overflow = spill is for mpmc queues; one with one producer and an exclusive group does what spsc does");
  }

  const u64 capacity_min = options.small_for_tests ? kCapacityTestsMin : kCapacityMin;
  if (auto good = option("capacity", options.capacity, capacity_min, kCapacityMax); !good) return fail(good.error());
  const u64 capacity = next_power_of_two(options.capacity);
  const bool small = capacity < kCapacityDefault;

  const u64 max_message_given = options.max_message_bytes;
  if (max_message_given != 0) {
    if (auto good = option("max_message_bytes", max_message_given, 1, kMessageBytesMax); !good) {
      return fail(good.error());
    }
  }
  u64 lane_bytes =
      std::max({capacity * (small ? 8 : 16), kQueueLaneBytesMin, next_power_of_two(4 * max_message_given)});
  if (options.lane_bytes != 0) {
    const u64 lane_bytes_min = options.small_for_tests ? layout::kLaneBytesMin : kQueueLaneBytesMin;
    if (auto good = option("lane_bytes", options.lane_bytes, lane_bytes_min, layout::kLaneBytesMax); !good) {
      return fail(good.error());
    }
    lane_bytes = next_power_of_two(options.lane_bytes);
  }
  if (4 * max_message_given > lane_bytes) {
    return refuse("max_message_bytes = " + std::to_string(max_message_given) +
                  " does not fit lane_bytes = " + std::to_string(lane_bytes) + "; give lane_bytes of at least " +
                  std::to_string(4 * max_message_given) + ", or leave it out");
  }

  const bool durable = options.durability == layout::Durability::kDurable;
  if (options.max_backlog_bytes != 0) {
    if (!durable && !spills) {
      return refuse("max_backlog_bytes is of queues with a log (durable, or overflow = spill); leave it out");
    }
    if (auto good = option("max_backlog_bytes", options.max_backlog_bytes, kBacklogBytesMin, kBacklogBytesMax); !good) {
      return fail(good.error());
    }
  }
  const bool dedups = options.dedup_window_ns != 0 || options.dedup_max_messages != 0;
  if (dedups && (!durable || options.deliver != layout::Deliver::kDurable)) {
    return refuse(
        "dedup_window and dedup_max_messages are for durable queues that deliver what is durable, not, in this "
        "version, for volatile ones or deliver = early; leave them out, or give durability = durable");
  }
  if (options.dedup_window_ns != 0) {
    if (auto good = option("dedup_window (ns)", options.dedup_window_ns, kDedupWindowMinNs, kDedupWindowMaxNs); !good) {
      return fail(good.error());
    }
  }
  if (options.dedup_max_messages != 0) {
    if (auto good = option("dedup_max_messages", options.dedup_max_messages, 1, kDedupMessagesMax); !good) {
      return fail(good.error());
    }
  }
  // 0 is the default, of each of the three.
  const auto table = [&option](const char* what, u32 given, u32 by_default, u32 max) -> Result<u32> {
    if (given == 0) return by_default;
    if (auto good = option(what, given, 1, max); !good) return fail(good.error());
    return given;
  };
  const auto lanes = spsc ? table("producers_max (spsc)", options.producers_max, 1, 1)
                          : table("producers_max", options.producers_max, small ? 16 : 64, kProducersMax);
  if (!lanes) return fail(lanes.error());
  const auto seats = table("consumers_max", options.consumers_max, small ? 15 : 256, kConsumersMax);
  if (!seats) return fail(seats.error());
  const auto groups = table("groups_max", options.groups_max, small ? 4 : 16, layout::kGroupsMax);
  if (!groups) return fail(groups.error());
  if (!file_mode_is_good(options.file_mode)) {
    return refuse("file_mode = " + octal(options.file_mode) +
                  " is not possible; give 0600, and r or rw (6 or 4) for group and others, as in 0660");
  }

  QueueConstants constants{};
  std::copy(name.begin(), name.end(), constants.name);
  constants.kind = options.kind;
  constants.overflow = options.overflow;
  constants.cells = spsc ? 0 : capacity;
  constants.words = capacity;
  constants.parks = std::clamp(capacity / (small ? 64 : 16), kParksMin, kParksMax);
  constants.lane_bytes = lane_bytes;
  constants.max_message_bytes = max_message_given != 0 ? max_message_given : std::min(lane_bytes / 4, kMessageBytesMax);
  constants.lanes_max = *lanes;
  constants.seats_max = *seats + 1;  // seat 0 is nobody: an owner in a state word is never 0
  constants.groups_max = *groups;
  constants.file_mode = options.file_mode;
  constants.first_seq = capacity;
  constants.durability = options.durability;
  // Of a volatile queue nothing is ever durable: one value, so that equal queues are equal.
  constants.deliver = options.durability == layout::Durability::kDurable ? options.deliver : layout::Deliver::kEarly;
  constants.journal_quota_bytes = options.journal_quota_bytes;
  if (const u64 quota = options.journal_quota_bytes; quota != 0) {
    if (options.durability != layout::Durability::kDurable) {
      return refuse("journal_quota is for durable queues; this one is volatile and has no journal");
    }
    u64 least = std::max(kJournalQuotaMin, kJournalQuotaMessages * constants.max_message_bytes);
    // The ids it knows are in each snapshot, and an old one stays until the next is whole.
    if (dedups) {
      least += kDedupSnapshots * kDedupIdBytes *
               (options.dedup_max_messages != 0 ? options.dedup_max_messages : kDedupMessagesDefault);
    }
    if (auto good = option("journal_quota", quota, least, ~u64{0} >> 1); !good) return fail(good.error());
  }
  if (durable || spills) {
    constants.max_backlog_bytes = options.max_backlog_bytes != 0 ? options.max_backlog_bytes : kBacklogBytesDefault;
  }
  if (dedups) {
    constants.dedup_window_ns = options.dedup_window_ns != 0 ? options.dedup_window_ns : kDedupWindowDefaultNs;
    constants.dedup_max_messages = options.dedup_max_messages != 0 ? options.dedup_max_messages : kDedupMessagesDefault;
  }
  constants.park_store_bytes = std::max(kParkStoreBytesDefault, align_up(4 * lane_bytes, layout::kParkStepBytes));
  return constants;
}

Status check_constants(const QueueConstants& constants, const std::string& where) {
  const auto bad = [&where](const char* what, u64 value) {
    return fail(Code::kCorrupt, where + " is damaged: " + what + " = " + std::to_string(value) +
                                    " cannot be; remove the queue and create it again");
  };
  const auto outside = [](u64 value, u64 low, u64 high) { return value < low || value > high; };

  const std::size_t name_bytes = ::strnlen(constants.name, sizeof constants.name);
  if (!check_name("queue", std::string_view(constants.name, name_bytes)))
    return bad("the length of its name", name_bytes);
  if (std::any_of(constants.name + name_bytes, constants.name + sizeof constants.name,
                  [](char letter) { return letter != 0; })) {
    return bad("the length of its name", sizeof constants.name);
  }
  const bool spsc = constants.kind == QueueKind::kSpsc;
  if (!spsc && constants.kind != QueueKind::kMpmc) return bad("kind", static_cast<u32>(constants.kind));
  const bool durable = constants.durability == layout::Durability::kDurable;
  const bool spills = constants.overflow == layout::Overflow::kSpill;
  if ((constants.overflow != layout::Overflow::kBlock && constants.overflow != layout::Overflow::kReject && !spills) ||
      (spills && (durable || spsc))) {
    return bad("overflow", static_cast<u32>(constants.overflow));
  }
  if (!durable && constants.durability != layout::Durability::kVolatile) {
    return bad("durability", static_cast<u32>(constants.durability));
  }
  if (constants.deliver != layout::Deliver::kEarly && (!durable || constants.deliver != layout::Deliver::kDurable)) {
    return bad("deliver", static_cast<u32>(constants.deliver));
  }
  if (!is_power_of_two(constants.words) || outside(constants.words, kCapacityTestsMin, kCapacityMax)) {
    return bad("words", constants.words);
  }
  if (constants.cells != (spsc ? 0 : constants.words)) return bad("cells", constants.cells);
  if (outside(constants.parks, 1, kParksMax)) return bad("parks", constants.parks);
  if (!is_power_of_two(constants.lane_bytes) ||
      outside(constants.lane_bytes, layout::kLaneBytesMin, layout::kLaneBytesMax)) {
    return bad("lane_bytes", constants.lane_bytes);
  }
  if (outside(constants.max_message_bytes, 1,
              std::min(kMessageBytesMax, layout::lane_message_bytes_max(constants.lane_bytes)))) {
    return bad("max_message_bytes", constants.max_message_bytes);
  }
  if (outside(constants.lanes_max, 1, spsc ? 1 : kProducersMax)) return bad("lanes_max", constants.lanes_max);
  if (outside(constants.seats_max, 2, kConsumersMax + 1)) return bad("seats_max", constants.seats_max);
  if (outside(constants.groups_max, 1, layout::kGroupsMax)) return bad("groups_max", constants.groups_max);
  if (!file_mode_is_good(constants.file_mode)) return bad("file_mode", constants.file_mode);
  if (outside(constants.first_seq, constants.words, kFirstSeqMax)) return bad("first_seq", constants.first_seq);
  if (constants.park_store_bytes % layout::kParkStepBytes != 0 ||
      outside(constants.park_store_bytes, layout::kParkStepBytes, kParkStoreBytesMax)) {
    return bad("park_store_bytes", constants.park_store_bytes);
  }
  if (durable || spills ? outside(constants.max_backlog_bytes, kBacklogBytesMin, kBacklogBytesMax)
                        : constants.max_backlog_bytes != 0) {
    return bad("max_backlog_bytes", constants.max_backlog_bytes);
  }
  if (constants.dedup_max_messages == 0) {
    if (constants.dedup_window_ns != 0) return bad("dedup_window_ns", constants.dedup_window_ns);
  } else if (!durable || constants.deliver != layout::Deliver::kDurable ||
             constants.dedup_max_messages > kDedupMessagesMax) {
    return bad("dedup_max_messages", constants.dedup_max_messages);
  } else if (outside(constants.dedup_window_ns, kDedupWindowMinNs, kDedupWindowMaxNs)) {
    return bad("dedup_window_ns", constants.dedup_window_ns);
  }
  return {};
}

u64 queue_bytes(const QueueConstants& constants) {
  const u64 order_bytes = constants.cells == 0 ? 0 : layout::order_file_bytes(constants.cells);
  return layout::ctl_file_bytes(constants.groups_max, constants.lanes_max, constants.seats_max) + order_bytes +
         layout::wake_file_bytes(constants.groups_max) + layout::group_file_bytes(constants.words, constants.parks) +
         layout::lane_file_bytes(constants.lane_bytes) + layout::kSeatFileBytes;
}

}  // namespace mooring
