// File `order`: the ring of order cells of a many-producer queue. Written by producers, mapped read-only by others.
//
//   0      FileHead
//   128    tail hint line
//   4096   N cells of 8 bytes (layout/words.hpp), packed and in order: one per line or permuted loses throughput
//          (numbers.md C3)
#pragma once

#include "layout/file_head.hpp"

namespace mooring::layout {

struct OrderHead {
  FileHead head;
  alignas(kLineBytes) u64 tail;  // hint: at or below the next free seq, raised lazily, never lowered
};
static_assert(sizeof(OrderHead) == 2 * kLineBytes);
static_assert(__builtin_offsetof(OrderHead, tail) == 128);

inline constexpr u64 kOrderCellsOffset = kPageBytes;
constexpr u64 order_file_bytes(u64 cells) { return kOrderCellsOffset + align_up(cells * sizeof(u64), kPageBytes); }

}  // namespace mooring::layout
