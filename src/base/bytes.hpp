// Sizes and alignment: the few arithmetic words that every layout uses.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mooring {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i64 = std::int64_t;

// Our own constant, not std::hardware_destructive_interference_size: that one may change with compiler or -mtune,
// and two processes built apart share these layouts. Two 64-byte lines, because the adjacent-line prefetcher of
// x86 moves pairs and large aarch64 cores have 128-byte lines (docs/decisions/0001-shared-layout.md).
inline constexpr std::size_t kLineBytes = 128;
inline constexpr std::size_t kPageBytes = 4096;

constexpr bool is_power_of_two(u64 value) { return value != 0 && (value & (value - 1)) == 0; }

// `alignment` is a power of two. The caller keeps `value` at least `alignment` below 2^64.
constexpr u64 align_up(u64 value, u64 alignment) { return (value + alignment - 1) & ~(alignment - 1); }

constexpr u64 next_power_of_two(u64 value) {
  u64 power = 1;
  while (power < value && power != 0) power <<= 1;
  return power;
}

constexpr unsigned log2_of_power(u64 power) {
  unsigned bits = 0;
  while ((u64{1} << bits) < power) ++bits;
  return bits;
}

}  // namespace mooring
