// The physical limits: what two processes on this machine can do with shared memory when no queue is in the way.
//
// Each limit is what a queue would have to do at the very least (move the lines of a message from one core to the
// other), written out by hand. Every byte is written by the sender and read by the receiver, and checked.
// A limit is only comparable with what is run beside it: interleave them (interleave.hpp). See docs/performance.md and
// the design's numbers.md, Part C1, for why the exchanges go over a ring of 4096 lines and not over one fixed line
// (which measures the luck of one cache slice).
#pragma once

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "bench/support/measurement.hpp"
#include "bench/support/processes.hpp"

namespace mooring::bench {

inline constexpr u64 kExchangeLines = 4096;
inline constexpr u64 kExchangeLineBytes = 64;
inline constexpr u64 kOneLinePayloadMax = 56;
inline constexpr u64 kStreamRingBytes = u64{1} << 20;
inline constexpr u64 kStreamCopyBytesMin = 1024;

struct LimitOptions {
  double seconds = 0.3;
  int nice_value = kMeasurementNice;
};

// Ping-pong: flag (8 B) and payload (0 to 56 B) in one 64 B line; the next round uses the next of 4096 lines.
// name "ring_exchange_one_line"
Result<Measurement> ring_exchange_one_line(u64 size_bytes = kOneLinePayloadMax, const LimitOptions& options = {});

// Ping-pong: the payload (0 to 64 B) goes into the next of 4096 lines, then its number into one fixed index line.
// name "ring_exchange_two_line"
Result<Measurement> ring_exchange_two_line(u64 size_bytes = 64, const LimitOptions& options = {});

// Ping-pong of one-line messages (0 to 56 B) where each side sleeps on a futex until the other wakes it.
// The initiator thinks for kParkedThink_ns before each round, unmeasured, so that the other side is asleep. Measure
// a parked queue in the same way (ping_pong.hpp). name "futex_round_trip"
Result<Measurement> futex_round_trip(u64 size_bytes = kOneLinePayloadMax, const LimitOptions& options = {});

// One-way stream: chunks of `size_bytes` are produced in place in a ring and copied out by the consumer; the index is
// published every `publish_every` chunks (at most a quarter of the ring). name "stream_in_place_<publish_every>"
// From kStreamCopyBytesMin on the producer copies prepared content into the ring: a string copy takes whole lines over
// without reading them first, and between distant cores that is up to 3 times as fast as storing word by word.
struct StreamOptions {
  u64 publish_every = 1;
  u64 ring_bytes = kStreamRingBytes;
  // How many pauses the consumer waits after it has found nothing: 0 polls hot, 64 leaves the producer in peace.
  unsigned back_off_pauses = 0;
};
Result<Measurement> stream_in_place(u64 size_bytes, const StreamOptions& stream = {}, const LimitOptions& options = {});

}  // namespace mooring::bench
