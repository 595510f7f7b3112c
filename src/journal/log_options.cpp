#include "journal/log_options.hpp"

#include <sys/random.h>

#include "base/time.hpp"

namespace mooring::journal {

LogTimes system_times() { return {wall_ns(), clock_ns(CLOCK_BOOTTIME)}; }

u64 system_random() {
  u64 value = 0;
  // Without the random device the clock must do: the salt guards against confusion, the checksum does the rest.
  if (::getrandom(&value, sizeof(value), 0) != static_cast<ssize_t>(sizeof(value))) value = monotonic_ns();
  return value;
}

}  // namespace mooring::journal
