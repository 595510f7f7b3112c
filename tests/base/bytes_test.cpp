// Shows that the arithmetic of sizes is right at its edges: zero, one, the powers, and the top of 64 bits.

#include "base/bytes.hpp"

#include <gtest/gtest.h>

namespace mooring {
namespace {

constexpr u64 kTopPower = u64{1} << 63;

TEST(Bytes, OnlyPowersOfTwoArePowersOfTwo) {
  EXPECT_FALSE(is_power_of_two(0));
  for (unsigned bit = 0; bit < 64; ++bit) EXPECT_TRUE(is_power_of_two(u64{1} << bit)) << bit;
  for (const u64 value : {u64{3}, u64{6}, u64{4095}, kTopPower + 1, ~u64{0}}) EXPECT_FALSE(is_power_of_two(value));
}

TEST(Bytes, AlignUpKeepsMultiplesAndRaisesTheRest) {
  EXPECT_EQ(align_up(0, 8), 0u);
  EXPECT_EQ(align_up(1, 8), 8u);
  EXPECT_EQ(align_up(8, 8), 8u);
  EXPECT_EQ(align_up(9, 8), 16u);
  EXPECT_EQ(align_up(77, 1), 77u);
  EXPECT_EQ(align_up(kPageBytes + 1, kPageBytes), 2 * kPageBytes);
  EXPECT_EQ(align_up(kTopPower - 1, kTopPower), kTopPower);
}

TEST(Bytes, NextPowerOfTwoIsTheSmallestThatHoldsTheValue) {
  EXPECT_EQ(next_power_of_two(0), 1u);
  EXPECT_EQ(next_power_of_two(1), 1u);
  for (unsigned bit = 2; bit < 64; ++bit) {
    const u64 power = u64{1} << bit;
    EXPECT_EQ(next_power_of_two(power), power);
    EXPECT_EQ(next_power_of_two(power - 1), power);
    EXPECT_EQ(next_power_of_two(power / 2 + 1), power);
  }
}

TEST(Bytes, NextPowerOfTwoSaysZeroWhereNoneFits) { EXPECT_EQ(next_power_of_two(kTopPower + 1), 0u); }

TEST(Bytes, LogOfAPowerIsItsExponent) {
  for (unsigned bit = 0; bit < 64; ++bit) EXPECT_EQ(log2_of_power(u64{1} << bit), bit);
}

}  // namespace
}  // namespace mooring
