// What consumers did, as their seats count it, and the sums of it (layout::SeatTotals): for the supervisor, which keeps
// the sums when a seat goes to another group, and for metrics, which read them.
//
// TESTED BY  metrics/metrics_test
#pragma once

#include "base/atomics.hpp"
#include "layout/ctl.hpp"
#include "layout/seat.hpp"

namespace mooring {

// Relaxed, all: figures that their owner goes on counting.
inline layout::SeatTotals seat_totals(const layout::SeatHead& seat) {
  const auto figure = [](const u64& counter) { return HardwareAtomics::load(counter, std::memory_order_relaxed); };
  layout::SeatTotals totals{};
  totals.delivered = figure(seat.messages_delivered);
  totals.redelivered = figure(seat.messages_redelivered);
  totals.acked = figure(seat.messages_acked);
  totals.nacked = figure(seat.messages_nacked);
  totals.rejected = figure(seat.messages_rejected);
  totals.released = figure(seat.messages_released);
  totals.stale = figure(seat.stale_settlements);
  totals.bytes_delivered = figure(seat.bytes_delivered);
  return totals;
}

// `sign` 1 or -1; sums wrap.
inline void add_totals(layout::SeatTotals& sum, const layout::SeatTotals& more, int sign) {
  const auto add = [sign](u64& to, u64 value) {
    const u64 before = HardwareAtomics::load(to, std::memory_order_relaxed);
    HardwareAtomics::store(to, sign > 0 ? before + value : before - value, std::memory_order_relaxed);
  };
  add(sum.delivered, more.delivered);
  add(sum.redelivered, more.redelivered);
  add(sum.acked, more.acked);
  add(sum.nacked, more.nacked);
  add(sum.rejected, more.rejected);
  add(sum.released, more.released);
  add(sum.stale, more.stale);
  add(sum.bytes_delivered, more.bytes_delivered);
}

}  // namespace mooring
