// Handles of a role: opened in the role's process, with the wait strategy of the scenario; and codes that become text.
#pragma once

#include <memory>
#include <string>

#include "base/time.hpp"
#include "bench/scenarios/private_instance.hpp"

namespace mooring::bench {

// Every wait inside the library ends after this time, so that a role looks at its guard (stop word, deadline).
inline constexpr u64 kLookAround_ns = 20 * kNsPerMs;

inline Producer open_bench_producer(Instance& instance, const std::string& queue, unsigned wait, unsigned flags = 0) {
  mooring_producer_options options;
  mooring_producer_options_init(&options, sizeof options);
  options.wait = wait;
  options.flags = flags;
  return instance.open_producer(queue, &options);
}
inline Consumer open_bench_consumer(Instance& instance, const std::string& queue, const std::string& group,
                                    unsigned wait) {
  mooring_consumer_options options;
  mooring_consumer_options_init(&options, sizeof options);
  options.wait = wait;
  return instance.open_consumer(queue, group, &options);
}

// Failures of the library become exceptions: run_roles() brings their text (mooring_error_detail) to the parent.
// True: done; false: an ordinary "not now" (empty, full, in time), look around and try again.
inline bool done(int code) {
  if (__builtin_expect(code == MOORING_OK, true)) return true;
  if (code < 0) throw Failure(code, Failure::detail_of(code));
  return false;
}

}  // namespace mooring::bench
