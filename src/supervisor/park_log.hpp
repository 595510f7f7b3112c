// Where the park store of a durable queue says what it did, so that the log can say it again after a power cut.
//
// ORDER (core.md A13): a PARK is noted before the state word or park table entry of its message changes. The journal's
// thread looks at words and entries first and takes the notes then, so every CURSOR that passes a message because it
// left the window comes behind its PARK. One log, one order: nothing here waits for a flush.
#pragma once

#include <span>

#include "journal/format.hpp"

namespace mooring {

class ParkLog {
 public:
  virtual ~ParkLog() = default;
  virtual void note_park(const journal::ParkRecord& park) = 0;
  virtual void note_release(u32 group, u64 seq, u32 reason) = 0;
};

}  // namespace mooring
