// SIGTERM and SIGINT as a count, and a bell that a thread of this process sleeps on until something happened.
//
// A signal handler may do next to nothing, so it counts and rings; whoever waits at the bell does the rest. The bell is
// one word for the whole process: nothing that a handler touches can be freed under it. It rings seldom (a stop, a
// signal, the end of a thread), so that those who wait for something else lose nothing by looking again.
//
// TESTED BY  platform/stop_signals_test, worker/worker_test
#pragma once

#include "base/bytes.hpp"

namespace mooring {

// Look at the bell, then at what is waited for, then wait: a ring in between is not missed.
u32 look_at_bell();
void ring_bell();  // async-signal-safe
// Sleeps until the bell rang after `seen`, or the deadline (CLOCK_MONOTONIC); may end early.
void wait_for_bell(u32 seen, u64 deadline_ns);

// While one of these lives, SIGTERM and SIGINT are counted instead of ending the process. An action that the
// application had set before is called as well, after the count; a signal that it ignores stays ignored. With the last
// one gone the actions are as before, unless somebody else has set others meanwhile. A child of fork that keeps the
// action dies from the signal as it would have without us.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // How many came since this object was made.
  u32 count() const;
  // The number of the last one; 0: none.
  int last() const;

 private:
  u32 before_;
};

}  // namespace mooring
