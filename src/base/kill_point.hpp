// Named places where a test stops or kills the process, in code off the fast path (file creation, the supervisor's
// longer steps). The hook is a null pointer outside tests; one relaxed load is what a kill point costs.
// Ring and group code has the same names through the Atomics policy (base/atomics.hpp), where they cost nothing.
#pragma once

#include <atomic>

namespace mooring {

using KillPointHook = void (*)(const char* name);
// Relaxed on both sides: set once by a test before the code under test runs in the same thread.
inline std::atomic<KillPointHook> kill_point_hook{nullptr};

}  // namespace mooring

#define MOORING_KILL_POINT(name)                                                                              \
  do {                                                                                                        \
    if (auto* hook = ::mooring::kill_point_hook.load(std::memory_order_relaxed); hook != nullptr) hook(name); \
  } while (false)
