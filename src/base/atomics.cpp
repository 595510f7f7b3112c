#include "base/atomics.hpp"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace mooring {
namespace {

// Relaxed is enough: both values lead to a correct barrier below, and each process registers before it opens a handle.
std::atomic<bool> registered{false};

}  // namespace

bool membarrier_register() {
  const bool ok = ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
  registered.store(ok, std::memory_order_relaxed);
  return ok;
}

void membarrier_or_fence() {
  // The system call is a full barrier for the caller as well. Where it is refused every publisher runs in fence mode
  // (ctl.fence_mode), and a fence on this side completes the pair.
  if (!registered.load(std::memory_order_relaxed) ||
      ::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) != 0) {
    HardwareAtomics::full_fence();
  }
}

}  // namespace mooring
