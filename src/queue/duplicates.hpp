// Is this message a duplicate? Asked by consumers, of frames with headers before they show them, and by the producers
// of messages with an id, on queues that look for duplicates.
//
// The journal's thread decides, in the order of the queue, and notes duplicates here before J passes them; the log says
// it too, and for longer. So most questions are answered by one word: nothing as late as this is a duplicate. For the
// others there is a note, or, where newer ones took its place, the log.
//
// PAIRINGS
//   DURABLE      load durable_seq (or the mark), acquire: > seq, then ask   the journal notes, then stores the marks
//   DUPLICATE    load note.seq; note.first; overread fence; note.seq        store note.seq = 0; overwrite fence;
//                two that are equal: `first` belongs to them                note.first; note.seq, release
//
//
// NOTES BEHIND J   A supervisor that was killed may have left some; its successor decides those messages again, and
// takes the notes out before it begins. Nobody asks about a message at or past J.
//
// TESTED BY  durable/dedup_test
#pragma once

#include "base/atomics.hpp"
#include "layout/ctl.hpp"

namespace mooring {

enum class DuplicateAnswer {
  kNo,
  kYes,
  kAskLog,
};

template <class A>
DuplicateAnswer ask_duplicate(const layout::QueueState& state, u64 seq, u64* first) {
  if (seq == 0 || seq > A::load(state.newest_duplicate_seq, std::memory_order_acquire)) return DuplicateAnswer::kNo;
  u64 oldest_seq = ~u64{0};
  const layout::DuplicateNote* oldest = nullptr;
  for (const layout::DuplicateNote& note : state.duplicates) {
    const u64 noted = A::load(note.seq, std::memory_order_acquire);
    if (noted != seq) {
      if (noted != 0 && noted < oldest_seq) {
        oldest_seq = noted;
        oldest = &note;
      }
      continue;
    }
    *first = A::load(note.first, std::memory_order_relaxed);
    A::overread_fence();
    if (A::load(note.seq, std::memory_order_relaxed) == seq) return DuplicateAnswer::kYes;
  }
  // Notes go in the order of their age: while the oldest one seen still stands, none newer has gone, and a duplicate of
  // this seq would have been seen.
  if (oldest_seq < seq) {
    A::overread_fence();
    if (A::load(oldest->seq, std::memory_order_relaxed) == oldest_seq) return DuplicateAnswer::kNo;
  }
  return DuplicateAnswer::kAskLog;
}

template <class A>
void note_duplicate(layout::QueueState& state, u64 seq, u64 first) {
  const u64 total = A::load(state.duplicates_total, std::memory_order_relaxed);  // own word
  layout::DuplicateNote& note = state.duplicates[total % layout::kDuplicateNotes];
  A::store(note.seq, u64{0}, std::memory_order_relaxed);
  A::overwrite_fence();
  A::store(note.first, first, std::memory_order_relaxed);
  A::store(note.seq, seq, std::memory_order_release);
  A::store(state.newest_duplicate_seq, seq, std::memory_order_release);
  A::store(state.duplicates_total, total + 1, std::memory_order_relaxed);
}

// Of a supervisor before: what it had not announced.
template <class A>
void forget_duplicates_from(layout::QueueState& state, u64 durable_seq) {
  for (layout::DuplicateNote& note : state.duplicates) {
    if (A::load(note.seq, std::memory_order_relaxed) >= durable_seq) {
      A::store(note.seq, u64{0}, std::memory_order_relaxed);
    }
  }
  // Lower: a look that is not needed. It was published with a duplicate that is decided again.
  const u64 newest = A::load(state.newest_duplicate_seq, std::memory_order_relaxed);
  if (durable_seq != 0 && newest >= durable_seq) {
    A::store(state.newest_duplicate_seq, durable_seq - 1, std::memory_order_release);
  }
}

}  // namespace mooring
