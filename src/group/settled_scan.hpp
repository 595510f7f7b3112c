// What a group has settled, as numbers that outlive its shared memory: everything below `base`, and runs above it.
// The journal writes them as CURSOR records.
//
// The scan runs beside consumers that go on settling. Every word says ACKED for good within its lap, so what the scan
// reports as settled is settled; what is settled behind its back is reported next time.
//
// PAIRINGS   SETTLED (group/competing.hpp, group/exclusive.hpp): words and marks are loaded with acquire.
//
// What waits in the park store, and what came into the park table from there, has a PARK record in the log before this
// scan's CURSOR (core.md A13), so it counts as settled here.
//
// Stragglers are not settled although `base` has passed them: their entries stay until they are. The park table is
// read last, after `base` and the words: an entry is there before base passes its message, so whatever looked settled
// because base had gone past it (also while the scan stood still, by whole laps) is found in the table if it was
// parked.
//
// TESTED BY  durable/settled_scan_test
#pragma once

#include <algorithm>
#include <vector>

#include "group/group_view.hpp"

namespace mooring {

struct SettledRun {
  u64 first = 0;
  u64 count = 0;
  friend bool operator==(const SettledRun&, const SettledRun&) = default;
};

struct Settlements {
  u64 base = 0;                  // every seq below is settled
  std::vector<SettledRun> runs;  // rising, apart, all above base
  bool capped = false;           // something at or past the cap is settled, too
  friend bool operator==(const Settlements&, const Settlements&) = default;
};

namespace detail {

class RunCollector {
 public:
  RunCollector(u64 base, u64 cap) : cap_(cap) { settled_.base = base; }
  void add(u64 first, u64 count) {
    if (count == 0) return;
    if (first + count > cap_) {
      settled_.capped = true;
      if (first >= cap_) return;
      count = cap_ - first;
    }
    if (settled_.runs.empty() && first == settled_.base) {
      settled_.base = first + count;
    } else if (!settled_.runs.empty() && settled_.runs.back().first + settled_.runs.back().count == first) {
      settled_.runs.back().count += count;
    } else {
      settled_.runs.push_back({first, count});
    }
  }
  Settlements take() { return std::move(settled_); }

 private:
  Settlements settled_;
  u64 cap_;
};

// The message of a MOVED word: settled in the park table, or the log's PARK records' to say.
template <class A>
bool is_moved_and_done(const GroupView& group, u64 word, u64 seq) {
  const u32 index = layout::word_aux(word);
  if (layout::word_kind(word) != layout::Kind::kMoved) return false;
  if (index == layout::kMovedToStore) return true;
  if (index >= group.parks_count) return false;
  const layout::ParkEntry& entry = group.parks[index];
  return layout::read_park_word(A::load(entry.word, std::memory_order_acquire)).state == layout::ParkState::kAcked &&
         A::load(entry.seq, std::memory_order_relaxed) == seq;
}

// What the words say, as runs that rise and stand apart.
template <class A>
std::vector<SettledRun> settled_words(const GroupView& group, u64 base) {
  std::vector<SettledRun> runs;
  for (u64 seq = base; seq < base + group.window(); ++seq) {
    const u64 word = A::load(group.word(seq), std::memory_order_acquire);
    const i64 ahead = layout::word_laps_ahead(word, group.lap(seq));
    if (ahead < 0) break;  // touched is a prefix
    // A lap ahead: base went past it under us.
    if (ahead == 0 && layout::word_kind(word) != layout::Kind::kAcked && !is_moved_and_done<A>(group, word, seq)) {
      continue;
    }
    if (!runs.empty() && runs.back().first + runs.back().count == seq) {
      ++runs.back().count;
    } else {
      runs.push_back({seq, 1});
    }
  }
  return runs;
}

// The messages that are in the table and not settled, rising. `end`: none is at or beyond it.
template <class A>
std::vector<u64> unsettled_parks(const GroupView& group, u64 end) {
  std::vector<u64> parked;
  for (u32 index = 0; index < group.parks_count; ++index) {
    const layout::ParkEntry& entry = group.parks[index];
    const layout::ParkState state = layout::read_park_word(A::load(entry.word, std::memory_order_acquire)).state;
    if (state == layout::ParkState::kFree || state == layout::ParkState::kAcked) continue;
    // Read after the word's acquire: stored before it. An entry freed and used again meanwhile left a PARK behind.
    if (A::load(entry.kind, std::memory_order_relaxed) == static_cast<u64>(layout::ParkEntryKind::kFromStore)) continue;
    const u64 seq = A::load(entry.seq, std::memory_order_relaxed);
    if (seq < end && end - seq <= u64{1} << 40) parked.push_back(seq);  // further back: somebody wrote over it
  }
  std::sort(parked.begin(), parked.end());
  return parked;
}

}  // namespace detail

// Seqs at or past `cap` are left out: the log has not got those messages.
template <class A>
Settlements scan_competing(const GroupView& group, u64 cap) {
  const u64 base = A::load(group.head->base, std::memory_order_acquire);
  const std::vector<SettledRun> words = detail::settled_words<A>(group, base);
  const std::vector<u64> parked = detail::unsettled_parks<A>(group, base + group.window());
  const u64 lowest = parked.empty() ? base : std::min(base, parked.front());
  detail::RunCollector runs(std::min(lowest, cap), cap);
  auto hole = parked.begin();
  // [first, end) without the parked ones.
  const auto add = [&](u64 first, u64 end) {
    while (first < end) {
      while (hole != parked.end() && *hole < first) ++hole;
      const u64 upto = hole == parked.end() ? end : std::min(end, *hole);
      runs.add(first, upto - first);
      first = upto < end ? upto + 1 : end;
    }
  };
  add(lowest, base);
  for (const SettledRun& run : words) add(run.first, run.first + run.count);
  Settlements settled = runs.take();
  settled.capped = settled.capped || lowest > cap;
  return settled;
}

// `acked_seq`: the seq at `acked`, which is a lane position on SPSC queues.
template <class A>
Settlements scan_exclusive(const GroupView& group, u64 acked_seq, u64 cap) {
  detail::RunCollector runs(std::min(acked_seq, cap), cap);
  const u64 shown = A::load(group.head->shown, std::memory_order_acquire);
  const u64 end = std::min(shown + 1, acked_seq + group.window());
  // Words are written only for what is out of the ordinary, so untouched ones lie between.
  for (u64 seq = acked_seq; seq < end; ++seq) {
    const u64 word = A::load(group.word(seq), std::memory_order_acquire);
    if (layout::word_laps_ahead(word, group.lap(seq)) == 0 && layout::word_kind(word) == layout::Kind::kAcked) {
      runs.add(seq, 1);
    }
  }
  Settlements settled = runs.take();
  settled.capped = settled.capped || acked_seq > cap;
  return settled;
}

}  // namespace mooring
