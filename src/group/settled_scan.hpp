// What a group has settled, as numbers that outlive its shared memory: everything below `base`, and runs above it.
// The journal writes them as CURSOR records.
//
// The scan runs beside consumers that go on settling. Every word says ACKED for good within its lap, so what the scan
// reports as settled is settled; what is settled behind its back is reported next time.
//
// PAIRINGS   SETTLED (group/competing.hpp, group/exclusive.hpp): words and marks are loaded with acquire.
//
// Parked messages are not settled although `base` has passed them: their entries stay until they are. `base` is read
// before the table, and an entry is there before base passes its message, so none is missed.
//
// TESTED BY  group/settled_scan_test
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

template <class A>
void add_acked_words(const GroupView& group, u64 from, u64 to, RunCollector* runs) {
  for (u64 seq = from; seq < to; ++seq) {
    const u64 word = A::load(group.word(seq), std::memory_order_acquire);
    const i64 ahead = layout::word_laps_ahead(word, group.lap(seq));
    if (ahead < 0) break;  // touched is a prefix
    // A lap ahead: base went past it under us.
    if (ahead > 0 || layout::word_kind(word) == layout::Kind::kAcked) runs->add(seq, 1);
  }
}

}  // namespace detail

// Seqs at or past `cap` are left out: the log has not got those messages.
template <class A>
Settlements scan_competing(const GroupView& group, u64 cap) {
  const u64 base = A::load(group.head->base, std::memory_order_acquire);
  std::vector<u64> parked;
  for (u32 index = 0; index < group.parks_count; ++index) {
    const layout::ParkEntry& entry = group.parks[index];
    const layout::ParkState state = layout::read_park_word(A::load(entry.word, std::memory_order_acquire)).state;
    if (state == layout::ParkState::kFree || state == layout::ParkState::kAcked) continue;
    const u64 seq = A::load(entry.seq, std::memory_order_relaxed);
    if (seq < base && base - seq <= u64{1} << 40) parked.push_back(seq);  // further back: somebody wrote over it
  }
  std::sort(parked.begin(), parked.end());
  const u64 lowest = parked.empty() ? base : parked.front();
  detail::RunCollector runs(std::min(lowest, cap), cap);
  u64 at = lowest;
  for (const u64 seq : parked) {
    if (seq < at) continue;
    runs.add(at, seq - at);
    at = seq + 1;
  }
  if (base > at) runs.add(at, base - at);
  detail::add_acked_words<A>(group, std::max(base, at), base + group.window(), &runs);
  if (base > cap && parked.empty()) {
    Settlements all = runs.take();
    all.capped = true;
    return all;
  }
  return runs.take();
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
