// Where an instance lives: a directory with the control socket, one in /dev/shm, and one on a disk for journals.
//
// The shared-memory directory is derived from the canonical path of the instance, so that every process that names the
// same instance finds the same memory, and two instances never share any: /dev/shm/mooring-<uid>-<16 hex of
// XXH3(path)>, where <uid> owns the instance directory.
#pragma once

#include <string>
#include <string_view>

#include "base/error.hpp"
#include "platform/file.hpp"

namespace mooring {

struct InstancePaths {
  std::string directory;         // canonical, absolute
  std::string shared_directory;  // under /dev/shm (MOORING_SHM_ROOT overrides, for tests and odd containers)
  std::string data_directory;    // journals of durable queues; made when the first one is
  uid_t owner = 0;               // of the instance directory; owns every shared file
};

inline constexpr std::string_view kControlSocketName = "control";

// `path` empty: MOORING_INSTANCE, else /run/mooring as root, $XDG_RUNTIME_DIR/mooring, else /tmp/mooring-<uid> (0700,
// refused if somebody else owns it). Journals: MOORING_DATA, else <instance>/data; but for the defaults, which are gone
// after a reboot, /var/lib/mooring as root and $XDG_STATE_HOME/mooring or ~/.local/state/mooring. `create`: make the
// directory (0755 for root's default, else 0700) if it is missing; otherwise a missing one is kNoSupervisor, with how
// to start one.
Result<InstancePaths> resolve_instance(std::string_view path, bool create);

}  // namespace mooring
