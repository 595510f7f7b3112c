// Shows what sizes a queue gets from its options, that every bound is kept with an error that names option and range,
// and that check_constants (which judges what a file says) takes every plan and refuses each number out of range.

#include "segment/queue_plan.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <iostream>

#include "layout/lane.hpp"
#include "layout/park.hpp"
#include "platform/scratch.hpp"

namespace mooring {
namespace {

using layout::QueueConstants;
using layout::QueueKind;

constexpr u64 kKiB = 1024;
constexpr u64 kMiB = 1024 * kKiB;

QueueConstants plan(const QueueOptions& options) { return take(plan_queue("orders", options)); }

TEST(QueuePlan, DefaultQueueHasTheSizesOfTheDesign) {
  const QueueConstants constants = plan({});
  EXPECT_STREQ(constants.name, "orders");
  EXPECT_EQ(constants.cells, 65536U);
  EXPECT_EQ(constants.words, 65536U);
  EXPECT_EQ(constants.first_seq, constants.cells);
  EXPECT_EQ(constants.parks, 4096U);
  EXPECT_EQ(constants.lane_bytes, kMiB);
  EXPECT_EQ(constants.max_message_bytes, 256 * kKiB);
  EXPECT_EQ(constants.lanes_max, 64U);
  EXPECT_EQ(constants.seats_max, 257U);
  EXPECT_EQ(constants.groups_max, 16U);
  EXPECT_EQ(constants.file_mode, 0600U);
  std::cout << "default queue: " << queue_bytes(constants) << " bytes\n";
  EXPECT_LT(queue_bytes(constants), 2400 * kKiB);
  EXPECT_GT(queue_bytes(constants), 2 * kMiB);
}

TEST(QueuePlan, SmallestQueueFitsIn144KiB) {
  const QueueConstants constants = plan({.capacity = kCapacityMin});
  std::cout << "smallest queue: " << queue_bytes(constants) << " bytes\n";
  EXPECT_LE(queue_bytes(constants), 144 * kKiB);  // 12 of it the mailbox of its consumer
  EXPECT_EQ(constants.lanes_max, 16U);
  EXPECT_EQ(constants.seats_max, 16U);
  EXPECT_EQ(constants.groups_max, 4U);
  EXPECT_EQ(constants.lane_bytes, 32 * kKiB);
  EXPECT_EQ(constants.max_message_bytes, 8 * kKiB);
  EXPECT_EQ(constants.parks, 64U);
}

TEST(QueuePlan, SpscHasOneLaneAndNoCells) {
  const QueueConstants constants = plan({.kind = QueueKind::kSpsc, .capacity = 8192});
  EXPECT_EQ(constants.cells, 0U);
  EXPECT_EQ(constants.words, 8192U);
  EXPECT_EQ(constants.first_seq, 8192U);
  EXPECT_EQ(constants.lanes_max, 1U);
  EXPECT_LT(queue_bytes(constants), queue_bytes(plan({.capacity = 8192})));
  MOORING_EXPECT_FAILS(plan_queue("orders", {.kind = QueueKind::kSpsc, .producers_max = 2}), Code::kBadArgument,
                       "producers_max (spsc) = 2 is out of range; give 1 to 1");
}

TEST(QueuePlan, CapacityIsRoundedUpToAPowerOfTwo) {
  EXPECT_EQ(plan({.capacity = 4097}).words, 8192U);
  EXPECT_EQ(plan({.capacity = kCapacityMax}).words, kCapacityMax);
  EXPECT_EQ(plan({.capacity = 5, .small_for_tests = true}).words, 8U);
}

TEST(QueuePlan, LargestQueueStaysWithinTheWordsOfTheLayout) {
  const QueueConstants constants = plan({.capacity = kCapacityMax, .max_message_bytes = kMessageBytesMax});
  EXPECT_LE(constants.parks, kParksMax);
  EXPECT_LE(constants.lane_bytes, layout::kLaneBytesMax);
  MOORING_EXPECT_OK(check_constants(constants, "plan"));
}

TEST(QueuePlan, LaneGrowsWithTheLargestMessage) {
  const QueueConstants constants = plan({.capacity = 4096, .max_message_bytes = 16 * kMiB});
  EXPECT_EQ(constants.lane_bytes, 64 * kMiB);
  EXPECT_EQ(constants.max_message_bytes, 16 * kMiB);
  EXPECT_GE(constants.park_store_bytes, 4 * constants.lane_bytes);
}

TEST(QueuePlan, GivenLaneIsRoundedUpAndLimitsTheMessage) {
  const QueueConstants constants = plan({.lane_bytes = 3 * kMiB});
  EXPECT_EQ(constants.lane_bytes, 4 * kMiB);
  EXPECT_EQ(constants.max_message_bytes, kMiB);
  EXPECT_EQ(plan({.lane_bytes = 512 * kMiB}).max_message_bytes, kMessageBytesMax);
  MOORING_EXPECT_FAILS(plan_queue("orders", {.max_message_bytes = kMiB, .lane_bytes = 2 * kMiB}), Code::kBadArgument,
                       "give lane_bytes of at least 4194304");
}

TEST(QueuePlan, EveryPlannedMessageFitsItsLane) {
  for (u64 lane_bytes = layout::kLaneBytesMin; lane_bytes <= layout::kLaneBytesMax; lane_bytes *= 2) {
    const QueueConstants constants = plan({.capacity = 4, .lane_bytes = lane_bytes, .small_for_tests = true});
    EXPECT_LE(constants.max_message_bytes, layout::lane_message_bytes_max(lane_bytes)) << lane_bytes;
    MOORING_EXPECT_OK(check_constants(constants, "plan"));
  }
}

TEST(QueuePlan, ErrorsNameOptionValueAndRange) {
  const std::pair<QueueOptions, std::string> cases[] = {
      {{.capacity = 4095}, "capacity = 4095 is out of range; give 4096 to 16777216"},
      {{.capacity = kCapacityMax + 1}, "capacity = 16777217"},
      {{.capacity = ~u64{0}}, "capacity = 18446744073709551615"},
      {{.capacity = 3, .small_for_tests = true}, "give 4 to"},
      {{.max_message_bytes = kMessageBytesMax + 1}, "max_message_bytes = 33554433 is out of range"},
      {{.max_message_bytes = ~u64{0}}, "max_message_bytes"},
      {{.lane_bytes = 32 * kKiB - 1}, "lane_bytes = 32767 is out of range; give 32768 to 536870912"},
      {{.lane_bytes = layout::kLaneBytesMax + 1}, "lane_bytes"},
      {{.lane_bytes = 255, .small_for_tests = true}, "give 256 to"},
      {{.producers_max = 1024}, "producers_max = 1024 is out of range; give 1 to 1023"},
      {{.consumers_max = 2048}, "consumers_max = 2048 is out of range; give 1 to 2047"},
      {{.groups_max = 65}, "groups_max = 65 is out of range; give 1 to 64"},
      {{.file_mode = 0700}, "file_mode = 0700"},
      {{.file_mode = 0060}, "file_mode = 060"},
      {{.file_mode = 0620}, "file_mode = 0620"},
      {{.file_mode = 0602}, "file_mode = 0602"},
      {{.file_mode = 04600}, "file_mode = 04600"},
      {{.kind = static_cast<QueueKind>(7)}, "kind is unknown"},
      {{.overflow = static_cast<layout::Overflow>(0)}, "overflow is unknown"},
  };
  for (const auto& [options, part] : cases) {
    MOORING_EXPECT_FAILS(plan_queue("orders", options), Code::kBadArgument, "queue orders");
    MOORING_EXPECT_FAILS(plan_queue("orders", options), Code::kBadArgument, part);
  }
  MOORING_EXPECT_FAILS(plan_queue("a/b", {}), Code::kBadArgument, "queue name");
}

TEST(QueuePlan, BoundsThemselvesAreTaken) {
  MOORING_EXPECT_OK(plan_queue("q", {.producers_max = 1023, .consumers_max = 2047, .groups_max = 64}));
  for (const u32 mode : {0600U, 0640U, 0644U, 0660U, 0664U, 0666U}) {
    MOORING_EXPECT_OK(plan_queue("q", {.file_mode = mode}));
  }
}

TEST(CheckConstants, TakesEveryPlan) {
  for (const QueueKind kind : {QueueKind::kSpsc, QueueKind::kMpmc}) {
    for (u64 capacity = 4; capacity <= kCapacityMax; capacity *= 2) {
      MOORING_EXPECT_OK(check_constants(plan({.kind = kind, .capacity = capacity, .small_for_tests = true}), "plan"));
    }
  }
}

TEST(CheckConstants, RefusesEachNumberOutOfRange) {
  using Change = std::function<void(QueueConstants&)>;
  const std::pair<Change, std::string> cases[] = {
      {[](auto& c) { c.name[0] = '\0'; }, "name"},
      {[](auto& c) { c.name[0] = '/'; }, "name"},
      {[](auto& c) { c.name[70] = 'x'; }, "name"},
      {[](auto& c) { std::fill(std::begin(c.name), std::end(c.name), 'x'); }, "name"},
      {[](auto& c) { c.kind = static_cast<QueueKind>(3); }, "kind = 3"},
      {[](auto& c) { c.overflow = static_cast<layout::Overflow>(4); }, "overflow = 4"},
      {[](auto& c) { c.words = c.cells = 0; }, "words = 0"},
      {[](auto& c) { c.words = c.cells = 65537; }, "words = 65537"},
      {[](auto& c) { c.words = c.cells = u64{1} << 63; }, "words"},
      {[](auto& c) { c.words = c.cells = 2 * kCapacityMax; }, "words"},
      {[](auto& c) { c.cells = 0; }, "cells = 0"},
      {[](auto& c) { c.cells *= 2; }, "cells"},
      {[](auto& c) { c.kind = QueueKind::kSpsc; }, "cells"},
      {[](auto& c) { c.parks = 0; }, "parks = 0"},
      {[](auto& c) { c.parks = kParksMax + 1; }, "parks"},
      {[](auto& c) { c.parks = ~u64{0}; }, "parks"},
      {[](auto& c) { c.lane_bytes = 0; }, "lane_bytes = 0"},
      {[](auto& c) { c.lane_bytes = 128; }, "lane_bytes = 128"},
      {[](auto& c) { c.lane_bytes += 8; }, "lane_bytes"},
      {[](auto& c) { c.lane_bytes = u64{1} << 40; }, "lane_bytes"},
      {[](auto& c) { c.max_message_bytes = 0; }, "max_message_bytes = 0"},
      {[](auto& c) { c.max_message_bytes = layout::lane_message_bytes_max(c.lane_bytes) + 1; }, "max_message_bytes"},
      {[](auto& c) { c.max_message_bytes = ~u64{0}; }, "max_message_bytes"},
      {[](auto& c) { c.lanes_max = 0; }, "lanes_max = 0"},
      {[](auto& c) { c.lanes_max = 1024; }, "lanes_max = 1024"},
      {[](auto& c) { c.kind = QueueKind::kSpsc, c.cells = 0; }, "lanes_max = 64"},
      {[](auto& c) { c.seats_max = 0; }, "seats_max = 0"},
      {[](auto& c) { c.seats_max = 2049; }, "seats_max = 2049"},
      {[](auto& c) { c.groups_max = 0; }, "groups_max = 0"},
      {[](auto& c) { c.groups_max = 65; }, "groups_max = 65"},
      {[](auto& c) { c.groups_max = ~u32{0}; }, "groups_max"},
      {[](auto& c) { c.file_mode = 0777; }, "file_mode"},
      {[](auto& c) { c.first_seq = c.words - 1; }, "first_seq"},
      {[](auto& c) { c.first_seq = ~u64{0}; }, "first_seq"},
      {[](auto& c) { c.park_store_bytes = 0; }, "park_store_bytes = 0"},
      {[](auto& c) { c.park_store_bytes += 1; }, "park_store_bytes"},
      {[](auto& c) { c.park_store_bytes = u64{1} << 50; }, "park_store_bytes"},
  };
  std::size_t number = 0;
  for (const auto& [change, part] : cases) {
    QueueConstants constants = plan({});
    change(constants);
    SCOPED_TRACE(number++);
    MOORING_EXPECT_FAILS(check_constants(constants, "/q/ctl"), Code::kCorrupt, "/q/ctl");
    MOORING_EXPECT_FAILS(check_constants(constants, "/q/ctl"), Code::kCorrupt, part);
  }
}

}  // namespace
}  // namespace mooring
