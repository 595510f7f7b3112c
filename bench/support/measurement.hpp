// What one run of a limit, a peer or a scenario yields. All of them yield the same struct, so that any two can be
// interleaved, compared and reported by the same code.
#pragma once

#include <optional>
#include <string>

#include "base/bytes.hpp"

namespace mooring::bench {

struct Percentiles {
  u64 count = 0;
  double min_ns = 0;
  double p50_ns = 0;
  double p99_ns = 0;
  double p999_ns = 0;
  double max_ns = 0;
};

struct Measurement {
  std::string name;
  u64 size_bytes = 0;
  unsigned producers = 1;
  unsigned consumers = 1;
  u64 messages = 0;  // sent, received and verified; a message that was not verified fails the whole run
  bool pinned = false;
  std::optional<Percentiles> latency;      // round trips of a ping-pong
  std::optional<double> sleeps_per_round;  // of a parked ping-pong, both sides together: 2 when both always slept
  std::optional<double> messages_per_second;
  std::optional<double> bytes_per_second;
};

// The two figures that ratios are made of. Zero if the measurement has none.
inline double p50_ns(const Measurement& measurement) { return measurement.latency ? measurement.latency->p50_ns : 0; }
inline double p99_ns(const Measurement& measurement) { return measurement.latency ? measurement.latency->p99_ns : 0; }
inline double messages_per_second(const Measurement& measurement) {
  return measurement.messages_per_second.value_or(0);
}

}  // namespace mooring::bench
