// A mapped group: the words of delivery of every message in the window, the park table, and the hints.
#pragma once

#include "base/atomics.hpp"
#include "layout/group.hpp"
#include "layout/words.hpp"

namespace mooring {

struct GroupView {
  layout::GroupHead* head = nullptr;
  u64* words = nullptr;
  layout::ParkEntry* parks = nullptr;
  u64* ready_bits = nullptr;
  u64 mask = 0;       // NG - 1
  unsigned log2 = 0;  // of NG
  u32 parks_count = 0;

  u64& word(u64 seq) const { return words[seq & mask]; }
  u64 lap(u64 seq) const { return seq >> log2; }
  u64 window() const { return mask + 1; }
};

// Where a message that failed says so, and how: once it says something else, the supervisor has seen it.
struct NackedWord {
  const u64* place = nullptr;
  u64 word = 0;
};

// Places a group over a mapped file of layout::group_file_bytes(words, parks).
inline GroupView view_group(void* file, u64 words, u32 parks) {
  auto* bytes = static_cast<u8*>(file);
  GroupView group;
  group.head = reinterpret_cast<layout::GroupHead*>(bytes);
  group.words = reinterpret_cast<u64*>(bytes + layout::kGroupWordsOffset);
  group.parks = reinterpret_cast<layout::ParkEntry*>(bytes + layout::group_parks_offset(words));
  group.ready_bits = reinterpret_cast<u64*>(bytes + layout::group_bitmap_offset(words, parks));
  group.mask = words - 1;
  group.log2 = log2_of_power(words);
  group.parks_count = parks;
  return group;
}

// Every word becomes "untouched" for its next position at or after `first_seq`: the lap before.
inline void initialise_words(const GroupView& group, u64 first_seq) {
  for (u64 seq = first_seq; seq < first_seq + group.window(); ++seq) {
    group.words[seq & group.mask] = layout::make_word(group.lap(seq) - 1, layout::Kind::kAcked, 0, 0);
  }
  group.head->hint = first_seq;
  group.head->back = layout::make_back(0, layout::kBackNone);
}

// Announces that the word of `seq` was given back (READY). The tag goes up even where the lowest seq stays: a consumer
// that scanned before us and found nothing then fails to clear the word.
// GIVEN_BACK: acq_rel; the consumer that acquires `back` sees the READY word that was stored before.
template <class A>
void announce_ready(const GroupView& group, u64 seq) {
  u64 back = A::load(group.head->back, std::memory_order_acquire);
  for (;;) {
    u64 lowest = seq & layout::kBackNone;
    // One seq in 2^40 looks like "none". A lower one says the same: the scan starts there.
    if (lowest == layout::kBackNone) --lowest;
    const u64 announced = layout::back_seq_lo(back);
    // Both lie in one window, so the signed distance of their low bits tells which is lower.
    if (announced != layout::kBackNone && layout::extend(announced, layout::kBackSeqBits, seq) < seq)
      lowest = announced;
    if (A::cas(group.head->back, back, layout::make_back(layout::back_generation(back) + 1, lowest),
               std::memory_order_acq_rel)) {
      return;
    }
  }
}

// The `parked` word: odd = some bit may be set. The rest is a tag that goes up with each announcement and never back,
// so that a consumer that found nothing clears the word only if nobody announced since it looked. (A tag that starts
// anew at zero would let it clear a later announcement with the same number.)
constexpr bool some_parked(u64 parked) { return (parked & 1) != 0; }

// Sets the bit of a READY park entry and says that there is one. PARK_READY: release on the tag, acquired with it.
// The bit is written even where it is set: whoever clears it then acquires this write and sees the entry READY. To look
// and leave it would be store buffering (entry, bit | bit, entry), and the entry would wait for the tick (the model
// finds it).
template <class A>
void announce_park_ready(const GroupView& group, u32 index) {
  u64& bits = group.ready_bits[index / 64];
  u64 old = A::load(bits, std::memory_order_relaxed);
  const u64 bit = u64{1} << (index % 64);
  while (!A::cas(bits, old, old | bit, std::memory_order_acq_rel)) {
  }
  u64 parked = A::load(group.head->parked, std::memory_order_relaxed);
  while (!A::cas(group.head->parked, parked, (parked | 1) + 2, std::memory_order_acq_rel)) {
  }
}

}  // namespace mooring
