// How a process that crashed ended, as a counter's label.
#pragma once

#include <csignal>
#include <optional>

#include "layout/ctl.hpp"

namespace mooring {

using layout::CrashKind;

// `wait_status` as of waitpid; nullopt: not known.
inline CrashKind crash_kind(std::optional<u32> wait_status) {
  if (!wait_status.has_value()) return CrashKind::kUnknown;
  switch (*wait_status & 127U) {
    case 0: return CrashKind::kExit;
    case SIGKILL: return CrashKind::kKill;
    case SIGSEGV: return CrashKind::kSegv;
    case SIGABRT: return CrashKind::kAbrt;
    case SIGBUS: return CrashKind::kBus;
    case SIGILL: return CrashKind::kIll;
    case SIGFPE: return CrashKind::kFpe;
    case SIGTERM: return CrashKind::kTerm;
    case SIGINT: return CrashKind::kInt;
    default: return CrashKind::kOtherSignal;
  }
}

inline const char* crash_kind_name(CrashKind kind) {
  constexpr const char* kNames[] = {"unknown", "exit",   "SIGKILL", "SIGSEGV", "SIGABRT", "SIGBUS",
                                    "SIGILL",  "SIGFPE", "SIGTERM", "SIGINT",  "other"};
  static_assert(sizeof kNames / sizeof *kNames == layout::kCrashKindMax + 1);
  return kNames[static_cast<u32>(kind) % (layout::kCrashKindMax + 1)];
}

}  // namespace mooring
