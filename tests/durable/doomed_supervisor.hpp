// A supervisor in a process of the test's that is killed at the n-th time it comes by a named point.
#pragma once

#include <csignal>

#include "base/kill_point.hpp"
#include "durable_service.hpp"
#include "supervisor/supervisor.hpp"

namespace mooring::test {

struct Doom {
  const char* point = nullptr;
  int turn = 0;
  std::atomic<int>* hits = nullptr;  // shared by processes
};
inline Doom doom;

inline void kill_at_point(const char* name) {
  if (std::strcmp(name, doom.point) == 0 && doom.hits->fetch_add(1) + 1 == doom.turn) ::raise(SIGKILL);
}

// What a Worker runs; says 's' when it serves.
inline int serve_until_killed(const Worker::Line& line, const std::string& path, const Doom& how) {
  doom = how;
  kill_point_hook.store(&kill_at_point, std::memory_order_relaxed);
  Supervisor::Options options;
  options.path = path;
  auto supervisor = Supervisor::start(options);
  if (!supervisor) return 1;
  line.say('s');
  return (*supervisor)->run() ? 0 : 2;
}

}  // namespace mooring::test
