// Shows that the parts of each shared file follow each other without overlap, on the lines and pages they promise, for
// every size a queue may have; and that the largest message really fits wherever it starts.

#include <gtest/gtest.h>

#include "layout/ctl.hpp"
#include "layout/group.hpp"
#include "layout/lane.hpp"
#include "layout/order.hpp"
#include "layout/park.hpp"
#include "layout/seat.hpp"
#include "layout/wake.hpp"

namespace mooring::layout {
namespace {

TEST(GroupFile, PartsFollowEachOtherOnPagesOfTheirOwn) {
  for (u64 words = 4; words <= u64{1} << 20; words *= 2) {
    for (const u64 parks : {u64{1}, u64{4}, u64{63}, u64{64}, u64{65}, u64{8192}}) {
      EXPECT_GE(kGroupWordsOffset, sizeof(GroupHead));
      EXPECT_GE(group_parks_offset(words), kGroupWordsOffset + words * sizeof(u64));
      EXPECT_GE(group_bitmap_offset(words, parks), group_parks_offset(words) + parks * sizeof(ParkEntry));
      EXPECT_GE(group_file_bytes(words, parks) * 8, group_bitmap_offset(words, parks) * 8 + parks);
      EXPECT_EQ(group_parks_offset(words) % kLineBytes, 0U);
      EXPECT_EQ(group_bitmap_offset(words, parks) % kLineBytes, 0U);
      EXPECT_EQ(group_file_bytes(words, parks) % kPageBytes, 0U);
    }
  }
}

TEST(CtlFile, TablesFollowEachOther) {
  for (const u64 groups : {u64{1}, u64{8}, u64{kGroupsMax}}) {
    for (const u64 lanes : {u64{1}, u64{kLanesMax}}) {
      EXPECT_GE(ctl_lanes_offset(groups), kCtlGroupsOffset + groups * sizeof(GroupSlot));
      EXPECT_GE(ctl_seats_offset(groups, lanes), ctl_lanes_offset(groups) + lanes * sizeof(LaneSlot));
      EXPECT_GE(ctl_file_bytes(groups, lanes, 100), ctl_seats_offset(groups, lanes) + 100 * sizeof(SeatSlot));
      EXPECT_EQ(ctl_file_bytes(groups, lanes, 100) % kPageBytes, 0U);
    }
  }
  EXPECT_GE(kCtlGroupsOffset, __builtin_offsetof(CtlHead, state) + sizeof(QueueState));
}

TEST(SmallFiles, HoldTheirHeads) {
  EXPECT_GE(order_file_bytes(4), kOrderCellsOffset + 4 * sizeof(u64));
  EXPECT_GE(kOrderCellsOffset, sizeof(OrderHead));
  EXPECT_GE(lane_file_bytes(kLaneBytesMin), kLaneBytesOffset + kLaneBytesMin);
  EXPECT_GE(kLaneBytesOffset, sizeof(LaneHead));
  EXPECT_GE(wake_file_bytes(kGroupsMax), sizeof(WakeHead) + kGroupsMax * sizeof(WakeSlot));
  EXPECT_GE(kSeatFileBytes, sizeof(SeatHead));
  EXPECT_GE(kBellFileBytes, sizeof(BellHead));
  EXPECT_GE(kParkChunksOffset, sizeof(ParkHead));
}

TEST(Slot, GivesBackGenerationAndLife) {
  for (const SlotLife life : {SlotLife::kFree, SlotLife::kEntering, SlotLife::kLive, SlotLife::kLeaving}) {
    EXPECT_EQ(slot_life(make_slot(~u32{0}, life)), life);
    EXPECT_EQ(slot_generation(make_slot(~u32{0}, life)), ~u32{0});
  }
}

TEST(Lane, LargestMessageFitsAnEmptyLaneWhereverItStarts) {
  for (u64 lane_bytes = kLaneBytesMin; lane_bytes <= 8192; lane_bytes *= 2) {
    const u64 need = frame_bytes(lane_message_bytes_max(lane_bytes));
    for (u64 start = 0; start < lane_bytes; start += kFrameAlignment) {
      const u64 room = lane_bytes - start;
      const u64 padding = need > room ? room : 0;
      EXPECT_LE(padding + need + kFrameHeaderBytes, lane_bytes) << lane_bytes << " " << start;
    }
  }
  EXPECT_EQ(lane_message_bytes_max(kLaneBytesMax), kFrameLenMax);
}

}  // namespace
}  // namespace mooring::layout
