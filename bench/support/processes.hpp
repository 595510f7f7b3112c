// Runs the roles of a benchmark (producer, consumer, ...) as processes: forked, pinned, started together, watched.
//
// A role is a callable that runs in a child process. What it measures it writes into shared memory
// (shared_memory.hpp); what it returns is only whether it worked: a failure's text comes back to the parent, which
// kills every other role and returns it. run_roles() never hangs: roles poll through a PollGuard (poll_guard.hpp), and
// the parent kills all of them at the watchdog's time. Roles die with the parent.
#pragma once

#include <sys/types.h>

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "base/time.hpp"

namespace mooring::bench {

inline constexpr int kUnpinned = -1;
// The priority of a measurement, where permitted: other work of the machine then disturbs it less. It does not apply to
// processes the roles start or talk to (a supervisor); a scenario that needs one of them to run beside it lowers it.
inline constexpr int kMeasurementNice = -20;

// The whole run may take this long: the time asked for, and 20 s for a machine that does something else.
constexpr u64 seconds_to_watchdog_ns(double seconds) {
  return static_cast<u64>(seconds * static_cast<double>(kNsPerSecond)) + 20 * kNsPerSecond;
}

class RoleContext;

struct Role {
  std::string name;
  std::function<Status(RoleContext&)> body;
  int cpu = kUnpinned;
  bool may_be_killed = false;  // death by SIGKILL is this role's part and no failure (crash-recovery)
};

struct RunOptions {
  u64 watchdog_ns = 60 * kNsPerSecond;
  int nice_value = kMeasurementNice;
};

struct RunOutcome {
  bool pinned = false;           // every role that asked for a CPU got it
  bool priority_raised = false;  // nice_value was permitted
};

namespace detail {
struct RunBoard;
}

class RoleContext {
 public:
  unsigned index() const { return index_; }
  unsigned role_count() const { return role_count_; }
  // More roles than CPUs: a waiting role must give its CPU away.
  bool oversubscribed() const { return oversubscribed_; }
  // When a role must give up by itself; the parent's kill comes a second later.
  u64 deadline_ticks() const { return deadline_ticks_; }
  pid_t pid_of(unsigned role) const;  // 0 until it was forked; all are known after wait_for_start()

  // The start barrier: set up first, then call it once; returns when every role has called it.
  Status wait_for_start();

 private:
  friend Result<RunOutcome> run_roles(std::span<const Role> roles, const RunOptions& options);
  detail::RunBoard* board_ = nullptr;
  unsigned index_ = 0;
  unsigned role_count_ = 0;
  bool oversubscribed_ = false;
  bool arrived_ = false;
  u64 deadline_ticks_ = 0;
};

// Runs all roles to their end. The caller is single-threaded (it forks).
Result<RunOutcome> run_roles(std::span<const Role> roles, const RunOptions& options);

// Gives the calling process this priority, in a session of its own. False: not permitted. Roles have it already.
bool raise_priority(int nice_value);

// The CPUs this process may run on.
std::vector<int> allowed_cpus();
// CPUs for `count` roles that are to be pinned, one each; all kUnpinned if there are fewer CPUs than roles.
std::vector<int> cpus_for(unsigned count);

}  // namespace mooring::bench
