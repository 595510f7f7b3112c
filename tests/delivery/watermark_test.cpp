// The watermarks of a queue: each crossing is told once, and a queue that breathes between the marks says nothing.
#include "delivery/watermark.hpp"

#include <gtest/gtest.h>

#include <random>

namespace mooring {
namespace {

TEST(Watermark, EachCrossingIsToldOnce) {
  Watermark mark;
  EXPECT_FALSE(mark.look(799));
  EXPECT_TRUE(mark.look(800));
  EXPECT_TRUE(mark.above());
  for (const u64 fill : {u64{1000}, u64{700}, u64{601}, u64{900}}) EXPECT_FALSE(mark.look(fill)) << fill;
  EXPECT_TRUE(mark.look(600));
  EXPECT_FALSE(mark.above());
  for (const u64 fill : {u64{0}, u64{700}, u64{799}}) EXPECT_FALSE(mark.look(fill)) << fill;
  mark.adopt(true);
  EXPECT_FALSE(mark.look(900)) << "told by the one before";
}

TEST(Watermark, OverAnyWalkItTellsUpAndDownInTurn) {
  std::mt19937_64 random(8);
  Watermark mark;
  u64 fill = 500;
  u64 told = 0;
  for (int step = 0; step < 100'000; ++step) {
    fill = std::min<u64>(1000, fill + random() % 41);
    fill -= std::min<u64>(fill, random() % 41);
    const bool before = mark.above();
    const bool crossed = mark.look(fill);
    ASSERT_EQ(crossed, before ? fill <= kLowWaterMilli : fill >= kHighWaterMilli);
    told += crossed ? 1 : 0;
  }
  EXPECT_GT(told, 10U);
}

TEST(Watermark, NumbersThatCannotBeAreFullAndNothingOverflows) {
  EXPECT_EQ(fill_milli(0, 100), 0U);
  EXPECT_EQ(fill_milli(33, 100), 330U);
  EXPECT_EQ(fill_milli(~u64{0}, 100), 1000U);
  EXPECT_EQ(fill_milli(1, 0), 0U);
}

}  // namespace
}  // namespace mooring
