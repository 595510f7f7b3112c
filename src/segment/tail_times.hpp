// How old a message is, without a clock on the fast path: the supervisor notes at its looks how far the queue had come
// (layout::TailTimes). A message is as old as the first sample behind it, so it is never shown older than it is.
// Once the samples are full every other one goes and the spacing between new ones doubles: ages are known to some
// percent of the time that the samples span. What no group waits for any more is let go.
//
// WHO WRITES WHAT   the supervisor of the queue, alone; everybody reads.
// PAIRINGS
//   TAIL_TIMES   version odd, release fence; samples; version even, release | version, acquire; samples, acquire;
//                version again: the same and even, or read again
//
// IF THE SUPERVISOR STOPS in the middle the version stays odd and readers know no ages; the next one begins anew.
//
// TESTED BY  segment/tail_times_test
#pragma once

#include <optional>
#include <vector>

#include "layout/ctl.hpp"

namespace mooring {

using TailSamples = std::vector<layout::TailTimes::Sample>;

// Notes that everything below `tail` is there now. `oldest`: nobody asks for what is below.
void note_tail(layout::TailTimes& times, u64 tail, u64 oldest, u64 now_boottime_ns);

// What was noted, oldest first. Empty where it makes no sense.
TailSamples read_tail_times(const layout::TailTimes& times);

// When the message was there at the latest; nullopt: it was not yet when the supervisor looked last.
std::optional<u64> seen_boottime_ns(const TailSamples& samples, u64 seq);

}  // namespace mooring
