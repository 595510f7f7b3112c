// Assertions on our own logic. They stay on in release off the hot path: a broken invariant must stop a process
// before it spreads. Never assert on shared bytes: those are input, and input gets an error.
#pragma once

namespace mooring {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace mooring

#define MOORING_CHECK(condition) \
  (static_cast<bool>(condition) ? void() : ::mooring::check_failed(#condition, __FILE__, __LINE__))

// For hot paths: checked where NDEBUG is not defined.
#ifdef NDEBUG
#define MOORING_DCHECK(condition) (void(sizeof(static_cast<bool>(condition))))
#else
#define MOORING_DCHECK(condition) MOORING_CHECK(condition)
#endif
