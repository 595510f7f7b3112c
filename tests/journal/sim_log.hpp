// A log on a simulated disk, a random owner of it, and an oracle that knows what was promised: after each cut it reads
// what is there and says the first thing that is wrong. Everything follows from one seed.
//
// WHAT IS CHECKED after every power cut and every kill
//   lost       each message announced, and still needed by some group, is there; groups, cursors and parks too
//   phantom    each message found is, byte for byte, the one that was appended under that seq
//   prefix     what is found is all that was appended up to some point at or after the last announcement: no holes, and
//              the groups, cursors and parks of that same point
//   refusal    nothing here is damage: recovery goes on, by exactly one row
//   forgetful  what was found after a power cut is found again after a cut in the middle of recovering it
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "journal/recovery.hpp"
#include "journal/sim_disk.hpp"
#include "support/payload.hpp"

namespace mooring::test {

struct SimLogOptions {
  u64 steps_max = 60;
  bool with_faults = true;
  bool with_kills = true;          // a process dies and the power stays
  bool with_resume = true;         // some kills are followed by a warm restart
  bool small_writes_only = false;  // nothing through submit()
  journal::JournalBug bug = journal::JournalBug::kNone;
};

// Tiny segments and blocks, and clocks and chance from the seed.
journal::LogOptions tiny_log_options(u64 seed);

class SimLog {
 public:
  SimLog(u64 seed, SimLogOptions options);

  // One life: open, work, and be cut. The first thing that was wrong, or nothing.
  std::optional<std::string> live_and_die();

  struct Counts {
    u64 cuts = 0;
    u64 cuts_in_recovery = 0;
    u64 kills = 0;
    u64 opened = 0;
    u64 resumed = 0;
    u64 announced = 0;
    u64 found_more = 0;  // a cut left more than was announced
    u64 disk_full = 0;
    u64 failed_logs = 0;
    u64 retired = 0;
    std::map<char, u64> rows;
  };
  const Counts& counts() const { return counts_; }
  SimDisk& disk() { return *disk_; }

 private:
  struct Sent {
    u64 key = 0;
    u64 len = 0;
    u32 lane = 0;
  };
  struct Point {
    u64 next_seq = 0;
    journal::LogState state;
  };
  class Reader;

  std::optional<std::string> open();
  std::optional<std::string> resume();
  std::optional<std::string> work();
  std::optional<std::string> step();
  std::optional<std::string> die();
  std::optional<std::string> verify(bool after_power_cut);
  void append_something();
  void let_go();
  void change_something();
  void flushed();
  void point_now();
  void note(const Status& status);

  Random random_;
  SimLogOptions options_;
  journal::LogOptions log_options_;
  std::unique_ptr<SimDisk> disk_;
  std::unique_ptr<journal::LogWriter> writer_;
  // One log in 32 lives long enough to fill segments, let go of them and use them again: what lies behind its end is
  // often whole blocks of an earlier life.
  bool lives_long_ = false;
  bool is_opening_ = false;
  bool has_opened_ = false;
  u64 next_key_ = 1;
  u32 next_group_ = 1;
  std::map<u64, Sent> sent_;  // by seq, of this line of history
  Point announced_;
  journal::LogMark announced_mark_;
  bool may_resume_ = false;     // killed at work, and shared memory survived
  std::vector<Point> flushed_;  // begun, not announced
  u64 must_have_ = 0;           // found after a power cut
  Counts counts_;
};

}  // namespace mooring::test
