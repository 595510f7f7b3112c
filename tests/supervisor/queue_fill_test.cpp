// How full a queue is: by places, and by the bytes of its fullest lane, over many laps, with the mark anywhere; and
// what garbage in a cell does to it.
#include "supervisor/queue_fill.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace mooring {
namespace {

using A = HardwareAtomics;

constexpr u64 kCells = 64;
constexpr u64 kLaneBytes = 4096;
constexpr u32 kLanes = 3;

// An order ring and lanes with nothing but what is read here.
struct Ring {
  Ring() : cells(kCells), bytes(kLanes, std::vector<u64>(kLaneBytes / sizeof(u64))), positions(kLanes, 0) {
    order.cells = cells.data();
    order.mask = kCells - 1;
    order.log2 = 6;
    initialise_cells(order, kCells);
    for (u32 lane = 0; lane < kLanes; ++lane) {
      LaneView view;
      view.bytes = reinterpret_cast<u8*>(bytes[lane].data());
      view.size_bytes = kLaneBytes;
      views.push_back(view);
    }
  }
  void publish(u32 lane, u64 len) {
    const u64 size = layout::frame_bytes(len);
    u64 at = positions[lane];
    if ((at & (kLaneBytes - 1)) + size > kLaneBytes) at = align_up(at, kLaneBytes);
    A::store(views[lane].word_at(at), layout::make_frame_header(len, layout::kFramePublished, next),
             std::memory_order_relaxed);
    A::store(order.cell(next), layout::make_cell(order.lap(next), lane, at & (kLaneBytes - 1)),
             std::memory_order_relaxed);
    positions[lane] = at + size;
    ++next;
  }
  u64 fill() const {
    return fill_of(order, mark, kLanes, [this](u32 lane) { return &views[lane]; });
  }

  std::vector<u64> cells;
  std::vector<std::vector<u64>> bytes;
  std::vector<u64> positions;
  OrderView order;
  std::vector<LaneView> views;
  u64 next = kCells;
  u64 mark = kCells;
};

TEST(QueueFill, CountsPlacesWhereMessagesAreSmall) {
  Ring ring;
  EXPECT_EQ(ring.fill(), 0U);
  for (int lap = 0; lap < 5; ++lap) {
    for (u64 i = 0; i < kCells / 2; ++i) ring.publish(static_cast<u32>(i % kLanes), 8);
    EXPECT_EQ(ring.fill(), 500U);
    ring.mark += kCells / 4;
    EXPECT_EQ(ring.fill(), 250U);
    ring.mark = ring.next;
    EXPECT_EQ(ring.fill(), 0U);
  }
  for (u64 i = 0; i < kCells; ++i) ring.publish(0, 0);
  EXPECT_EQ(ring.fill(), 1000U);
}

TEST(QueueFill, CountsTheBytesOfTheFullestLaneWithItsNewestMessage) {
  Ring ring;
  for (int lap = 0; lap < 9; ++lap) {
    ring.publish(1, 1016);  // 1024 with its header: a quarter of the lane
    EXPECT_EQ(ring.fill(), 250U);
    ring.publish(1, 1016);
    ring.publish(2, 8);
    EXPECT_EQ(ring.fill(), 500U);
    ring.publish(1, 1016);
    EXPECT_EQ(ring.fill(), 750U);
    ring.mark = ring.next;
  }
}

TEST(QueueFill, GarbageStaysInItsBounds) {
  Ring ring;
  for (u64 i = 0; i < 8; ++i) ring.publish(0, 8);
  A::store(ring.order.cell(kCells + 3), layout::make_cell(1, layout::kLanesMax - 1, kLaneBytes * 9),
           std::memory_order_relaxed);
  A::store(ring.order.cell(kCells + 4), layout::make_cell(1, 2, kLaneBytes * 9), std::memory_order_relaxed);
  A::store(ring.views[0].word_at(ring.positions[0] - 16), ~u64{0}, std::memory_order_relaxed);
  EXPECT_LE(ring.fill(), 1000U);
  ring.mark = ~u64{0} - kCells;
  EXPECT_LE(ring.fill(), 1000U);
}

}  // namespace
}  // namespace mooring
