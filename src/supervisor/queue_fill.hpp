// How full an mpmc queue is, in thousandths of its bound: of its cells, or of the lane with the least room. One scan of
// the order ring, which publishers go on writing: a moment's guess, in its bounds whatever is read.
//
// TESTED BY  supervisor/queue_fill_test
#pragma once

#include <vector>

#include "delivery/watermark.hpp"
#include "ring/order_ring.hpp"

namespace mooring {

// `mark`: everything below is let go. `lane_of(u32) -> const LaneView*`, null: there is none.
template <class LaneOf>
u64 fill_of(const OrderView& order, u64 mark, u32 lanes_max, LaneOf&& lane_of) {
  using A = HardwareAtomics;
  struct Held {
    u64 first = ~u64{0};
    u64 first_offset = 0;
    u64 last = 0;
    u64 last_offset = 0;
  };
  std::vector<Held> lanes(lanes_max);
  u64 end = mark;
  for (u64 seq = mark; seq < mark + order.count(); ++seq) {
    const u64 cell = A::load(order.cell(seq), std::memory_order_acquire);  // ORDERED
    if (layout::cell_laps_ahead(cell, order.lap(seq)) != 0) break;         // not published, or the mark moved on
    end = seq + 1;
    if (layout::cell_lane(cell) >= lanes.size()) continue;
    Held& held = lanes[layout::cell_lane(cell)];
    if (held.first == ~u64{0}) {
      held.first = seq;
      held.first_offset = layout::cell_offset_bytes(cell);
    }
    held.last = seq;
    held.last_offset = layout::cell_offset_bytes(cell);
  }
  u64 fill = fill_milli(end - mark, order.count());
  for (u32 index = 0; index < lanes_max; ++index) {
    const Held& held = lanes[index];
    const LaneView* lane = held.first == ~u64{0} ? nullptr : lane_of(index);
    if (lane == nullptr || held.last_offset >= lane->size_bytes) continue;
    // From the oldest frame to the end of the newest. Its length is garbage where it is overwritten meanwhile.
    const u64 header = A::load(lane->word_at(held.last_offset), std::memory_order_relaxed);
    const u64 bytes = ((held.last_offset - held.first_offset) & (lane->size_bytes - 1)) +
                      layout::frame_bytes(layout::frame_len(header));
    fill = std::max(fill, fill_milli(bytes, lane->size_bytes));
  }
  return fill;
}

}  // namespace mooring
