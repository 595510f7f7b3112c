// Where the park store of a durable queue says what it did, so that the log can say it again after a power cut.
//
// ORDER (core.md A13): a PARK is noted before the state word or park table entry of its message changes. The journal's
// thread looks at words and entries first and takes the notes then, so every CURSOR that passes a message because it
// left the window comes behind its PARK. One log, one order: nothing here waits for a flush.
#pragma once

#include <algorithm>

#include "journal/format.hpp"
#include "layout/park.hpp"

namespace mooring {

class ParkLog {
 public:
  virtual ~ParkLog() = default;
  // `generation`: of the group's slot; what is noted of a group that is gone is not said of the next one there.
  virtual void note_park(const journal::ParkRecord& park, u32 generation) = 0;
  virtual void note_release(u32 group, u32 generation, u64 seq, u32 reason) = 0;
};

// Records in these states are what the log has PARKs of.
constexpr bool is_in_log(layout::RecordState state) {
  return state == layout::RecordState::kWaiting || state == layout::RecordState::kDead ||
         state == layout::RecordState::kHeld;
}

// What the log keeps of a record that waits, is held or is dead. (Where its message lies is the journal's to say.)
inline journal::ParkRecord park_in_log(const layout::ParkRecord& record, const layout::RecordWord& word) {
  journal::ParkRecord park{};
  park.group = record.group;
  park.state = static_cast<u32>(word.state);
  park.seq = record.seq;
  park.acquired = word.acquired;
  park.failed = word.failed;
  park.due_wall_ns = word.state == layout::RecordState::kDead ? record.dead_wall_ns : record.due_wall_ns;
  park.due_boottime_ns = record.due_boottime_ns;
  park.reason = (record.last_reason & 255U) | ((record.dead_reason & 255U) << 8) |
                (std::min(record.redriven, 0xffffU) << 16);
  park.flags = record.code;
  return park;
}

}  // namespace mooring
