// What moves in a seat as long as its consumer does anything: receives, extensions, settlements. Every counter has one
// writer and never goes back, so equal sums of two looks mean that nothing happened in between.
#pragma once

#include "base/atomics.hpp"
#include "layout/seat.hpp"

namespace mooring {

template <class A>
u64 seat_progress(const layout::SeatHead& seat) {
  const auto now = [](const u64& counter) { return A::load(counter, std::memory_order_relaxed); };
  return now(seat.progress) + now(seat.messages_acked) + now(seat.messages_nacked) + now(seat.messages_released) +
         now(seat.stale_settlements);
}

}  // namespace mooring
