// Shows that each packed word gives back what was put in, that fields do not touch each other, and that laps and short
// numbers are compared by distance: right over the wrap, where an ordinary comparison is wrong.

#include "layout/words.hpp"

#include <gtest/gtest.h>

namespace mooring::layout {
namespace {

TEST(OrderCell, GivesBackWhatWasPutIn) {
  const u64 lap = kCellLapMask - 3;
  const u64 offset = kLaneBytesMax - kFrameAlignment;
  const u64 cell = make_cell(lap, kLanesMax - 1, offset);
  EXPECT_EQ(cell_lap(cell), lap);
  EXPECT_EQ(cell_lane(cell), kLanesMax - 1);
  EXPECT_EQ(cell_offset_bytes(cell), offset);
  EXPECT_EQ(make_cell(1, 0, 0), u64{1} << 36);
  EXPECT_EQ(make_cell(0, 1, 0), u64{1} << 26);
  EXPECT_EQ(make_cell(0, 0, 8), u64{1});
}

TEST(OrderCell, KeepsOnlyTheLowBitsOfALap) { EXPECT_EQ(make_cell(kCellLapMask + 1 + 5, 7, 64), make_cell(5, 7, 64)); }

TEST(OrderCell, LapsAheadIsASignedDistanceOverTheWrap) {
  EXPECT_EQ(cell_laps_ahead(make_cell(10, 3, 64), 10), 0);
  EXPECT_EQ(cell_laps_ahead(make_cell(10, 3, 64), 11), -1);
  EXPECT_EQ(cell_laps_ahead(make_cell(12, 3, 64), 10), 2);
  const u64 wrap = kCellLapMask + 1;
  EXPECT_EQ(cell_laps_ahead(make_cell(wrap - 1, 0, 0), wrap), -1);
  EXPECT_EQ(cell_laps_ahead(make_cell(wrap + 1, 0, 0), wrap - 1), 2);
  EXPECT_EQ(cell_laps_ahead(make_cell(0, 0, 0), u64{5} * wrap), 0);
  // Exact up to half the ring of laps either way.
  EXPECT_EQ(cell_laps_ahead(make_cell(wrap / 2 - 1, 0, 0), 0), static_cast<i64>(wrap / 2 - 1));
  EXPECT_EQ(cell_laps_ahead(make_cell(wrap / 2, 0, 0), 0), -static_cast<i64>(wrap / 2));
}

TEST(StateWord, GivesBackWhatWasPutIn) {
  for (const Kind kind : {Kind::kUntouched, Kind::kLeased, Kind::kReady, Kind::kAcked, Kind::kNacked, Kind::kMoved}) {
    const u64 word = make_word(0xfffffffe, kind, kOwnersMax - 1, kMovedToStore);
    EXPECT_EQ(word_lap(word), 0xfffffffeU);
    EXPECT_EQ(word_kind(word), kind);
    EXPECT_EQ(word_owner(word), kOwnersMax - 1);
    EXPECT_EQ(word_aux(word), kMovedToStore);
  }
  EXPECT_EQ(word_kind(make_word(0, Kind::kUntouched, kOwnersMax - 1, kMovedToStore)), Kind::kUntouched);
}

TEST(StateWord, LapsAheadIsASignedDistanceOverTheWrap) {
  const u64 wrap = u64{1} << 32;
  EXPECT_EQ(word_laps_ahead(make_word(7, Kind::kAcked, 0, 0), 7), 0);
  EXPECT_EQ(word_laps_ahead(make_word(wrap - 1, Kind::kAcked, 0, 0), wrap), -1);
  EXPECT_EQ(word_laps_ahead(make_word(wrap, Kind::kAcked, 0, 0), wrap - 1), 1);
  EXPECT_EQ(word_laps_ahead(make_word(3 * wrap + 2, Kind::kAcked, 0, 0), wrap + 2), 0);
}

TEST(StateWord, CountsDeliveriesUpToItsMaximumAndStaysThere) {
  EXPECT_EQ(aux_acquired(make_aux(kAcquiredMax, 31, true)), kAcquiredMax);
  EXPECT_LT(make_aux(kAcquiredMax, 31, true), 1U << kAuxBits);
  EXPECT_EQ(acquired_after(0), 1U);
  EXPECT_EQ(acquired_after(kAcquiredMax - 1), kAcquiredMax);
  EXPECT_EQ(acquired_after(kAcquiredMax), kAcquiredMax);
}

TEST(ParkWord, GivesBackWhatWasPutIn) {
  const ParkWord park{kParkGenerationMask, ParkState::kAcked, kOwnersMax - 1, kAcquiredMax, 255, 15, true};
  const ParkWord read = read_park_word(make_park_word(park));
  EXPECT_EQ(read.generation, park.generation);
  EXPECT_EQ(read.state, park.state);
  EXPECT_EQ(read.owner, park.owner);
  EXPECT_EQ(read.acquired, park.acquired);
  EXPECT_EQ(read.failed, park.failed);
  EXPECT_EQ(read.extended, park.extended);
  EXPECT_EQ(read.alone, park.alone);
  const ParkWord nothing = read_park_word(make_park_word(ParkWord{}));
  EXPECT_EQ(nothing.state, ParkState::kFree);
  EXPECT_EQ(nothing.owner, 0U);
}

TEST(ParkWord, GenerationWrapsWithoutTouchingTheState) {
  const u64 word = make_park_word(ParkWord{kParkGenerationMask + 1, ParkState::kReady, 0, 0, 0, 0, false});
  EXPECT_EQ(read_park_word(word).generation, 0U);
  EXPECT_EQ(read_park_word(word).state, ParkState::kReady);
}

TEST(BackWord, GivesBackWhatWasPutIn) {
  EXPECT_EQ(back_seq_lo(make_back(3, 12345)), 12345U);
  EXPECT_EQ(back_generation(make_back(3, 12345)), 3U);
  EXPECT_EQ(back_seq_lo(make_back(3, kBackNone)), kBackNone);
  EXPECT_EQ(back_generation(make_back((u64{1} << 24) - 1, kBackNone) + (u64{1} << 40)), 0U);
}

TEST(FrameHeader, GivesBackWhatWasPutInAndIsNeverZero) {
  const u64 header = make_frame_header(kFrameLenMax, kFramePublished | kFramePadding, 0x1'2345'6789);
  EXPECT_EQ(frame_len(header), kFrameLenMax);
  EXPECT_EQ(frame_flags(header), kFramePublished | kFramePadding);
  EXPECT_EQ(frame_seq_lo(header), 0x2345'6789U);
  EXPECT_NE(make_frame_header(0, kFramePublished, 0), 0U);
}

TEST(FrameHeader, FramesAreAlignedAndCarryAtLeastTheHeader) {
  EXPECT_EQ(frame_bytes(0), 8U);
  EXPECT_EQ(frame_bytes(1), 16U);
  EXPECT_EQ(frame_bytes(8), 16U);
  EXPECT_EQ(frame_bytes(9), 24U);
}

TEST(Extend, FindsTheNumberNearby) {
  const u64 wrap = u64{1} << 32;
  for (const u64 near : {wrap - 5, wrap, wrap + 5, 7 * wrap - 1, wrap * wrap / 2}) {
    for (const i64 away : {i64{0}, i64{1}, i64{-1}, i64{1000}, i64{-1000}, i64{1} << 30, -(i64{1} << 30)}) {
      const u64 number = near + static_cast<u64>(away);
      EXPECT_EQ(extend(number & (wrap - 1), 32, near), number) << near << " " << away;
    }
  }
  EXPECT_EQ(extend(3, kBackSeqBits, (u64{1} << kBackSeqBits) - 2), (u64{1} << kBackSeqBits) + 3);
  EXPECT_EQ(extend(~u64{0}, 64, 5), ~u64{0});
}

}  // namespace
}  // namespace mooring::layout
