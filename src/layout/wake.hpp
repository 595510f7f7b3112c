// File `wake`: who sleeps and on what. Writable by all; hints only, never trusted: every sleep has a bound and looks
// again, so the worst a scribbler can do is to delay.
#pragma once

#include "layout/file_head.hpp"

namespace mooring::layout {

struct WakeSlot {
  alignas(kLineBytes) u32 sleepers;  // who sleeps and has not been woken yet (core.md A20)
  u32 futex;                         // bumped by each wake
};
static_assert(sizeof(WakeSlot) == kLineBytes);

struct WakeHead {
  FileHead head;
  WakeSlot room;     // producers that wait for room
  WakeSlot durable;  // who waits until something is on the disk
  WakeSlot journal;  // the journal's thread, when there is nothing to write
  alignas(kLineBytes) u64 settle_asks;  // +1 by who wants its settlements on the disk now
  // WakeSlot groups[groups_max] follow.
};
static_assert(sizeof(WakeHead) == 5 * kLineBytes);

constexpr u64 wake_file_bytes(u64 groups_max) {
  return align_up(sizeof(WakeHead) + groups_max * sizeof(WakeSlot), kPageBytes);
}

// File `bell` of an instance: clients ring, the supervisor listens.
struct BellHead {
  FileHead head;
  alignas(kLineBytes) u32 futex;  // bumped by each ring
  u32 listening;                  // 1 while the supervisor sleeps on it
};
static_assert(sizeof(BellHead) == 2 * kLineBytes);
inline constexpr u64 kBellFileBytes = kPageBytes;

}  // namespace mooring::layout
