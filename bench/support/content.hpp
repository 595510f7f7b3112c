// The content of benchmark messages: every byte depends on the message's stamp, and one sum over all bytes verifies it.
//
//   word 0      the stamp (sequence number, and the producer in its top bits where there are several)
//   word k      (stamp mod 3 + 1) * kVariant + k * kStep
//   tail        the low bytes of the next word
//
// Three variants, because three has no factor in common with a ring's power of two: bytes left over from the lap
// before differ. Word 0 aside a message repeats every three stamps, so a producer that publishes from a private buffer
// prepares three of them once and only rewrites word 0 (SourceMessages); one that writes in place generates the same
// bytes (fill_content). The sum has a closed form, so checking reads the message once and nothing else.
//
// The loops work on vectors written out, so that they do not depend on the optimisation level: the same code runs in
// the limits, the peers and the scenarios, and must not be what they differ by.
//
// Sizes are a template argument: std::integral_constant where the size is known to the compiler, else u64 (with_size).
#pragma once

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <type_traits>

#include "base/bytes.hpp"
#include "base/check.hpp"

namespace mooring::bench {

inline constexpr u64 kContentVariants = 3;
inline constexpr u64 kVariant = 0x9e3779b97f4a7c15U;
inline constexpr u64 kStep = 0xd1b54a32d192ed03U;

template <u64 kSize>
using FixedSize = std::integral_constant<u64, kSize>;

// Calls `call` with a compile-time size for the usual sizes: the peers are templates on their element, so a
// run-time memcpy of 8 B would be unfair to them.
template <class Call>
decltype(auto) with_size(u64 size_bytes, Call&& call) {
  switch (size_bytes) {
    case 8: return call(FixedSize<8>{});
    case 56: return call(FixedSize<56>{});
    case 64: return call(FixedSize<64>{});
    case 256: return call(FixedSize<256>{});
    case 1024: return call(FixedSize<1024>{});
    default: return call(size_bytes);
  }
}

// 16 bytes: what every x86-64 and aarch64 has.
using WordPair = u64 __attribute__((vector_size(16)));
inline constexpr u64 kBlockWords = 8;
inline constexpr u64 kBlockPairs = kBlockWords / 2;

constexpr u64 content_base(u64 stamp) { return (stamp % kContentVariants + 1) * kVariant; }
constexpr u64 low_bytes(u64 value, u64 count) { return count == 0 ? 0 : value & (~u64{0} >> (64 - 8 * count)); }

// `size` is at most a few MiB below 2^63. Little-endian tails, as everywhere in Mooring.
template <class Size>
inline void fill_content(void* to, Size size, u64 stamp) {
  auto* bytes = static_cast<u8*>(to);
  const u64 size_bytes = size;
  const u64 words = size_bytes / 8;
  const u64 base = content_base(stamp);
  u64 k = 0;
  if (words >= kBlockWords) {
    WordPair pairs[kBlockPairs];
#pragma GCC unroll 4
    for (u64 i = 0; i < kBlockPairs; ++i) pairs[i] = WordPair{base + 2 * i * kStep, base + (2 * i + 1) * kStep};
    for (; k + kBlockWords <= words; k += kBlockWords) {
#pragma GCC unroll 4
      for (u64 i = 0; i < kBlockPairs; ++i) {
        std::memcpy(bytes + k * 8 + i * 16, &pairs[i], 16);
        pairs[i] += kBlockWords * kStep;
      }
    }
  }
#pragma GCC unroll 8
  for (; k < words; ++k) {
    const u64 word = base + k * kStep;
    std::memcpy(bytes + k * 8, &word, 8);
  }
  if (words > 0) std::memcpy(bytes, &stamp, 8);
  if (const u64 tail = size_bytes % 8; tail != 0) {
    const u64 word = words == 0 ? stamp : base + words * kStep;
    std::memcpy(bytes + words * 8, &word, tail);
  }
}

constexpr u64 expected_sum(u64 size_bytes, u64 stamp) {
  const u64 words = size_bytes / 8;
  const u64 tail = size_bytes % 8;
  const u64 base = content_base(stamp);
  if (words == 0) return low_bytes(stamp, tail);
  // words * (words - 1) is even, so halving before the wrapping product is exact.
  return stamp + (words - 1) * base + (words * (words - 1) / 2) * kStep + low_bytes(base + words * kStep, tail);
}

template <class Size>
inline u64 content_sum(const void* from, Size size) {
  const auto* bytes = static_cast<const u8*>(from);
  const u64 size_bytes = size;
  const u64 words = size_bytes / 8;
  u64 sum = 0;
  u64 k = 0;
  if (words >= kBlockWords) {
    WordPair sums[kBlockPairs] = {};
    for (; k + kBlockWords <= words; k += kBlockWords) {
#pragma GCC unroll 4
      for (u64 i = 0; i < kBlockPairs; ++i) {
        WordPair pair;
        std::memcpy(&pair, bytes + k * 8 + i * 16, 16);
        sums[i] += pair;
      }
    }
    const WordPair both = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    sum = both[0] + both[1];
  }
#pragma GCC unroll 8
  for (; k < words; ++k) {
    u64 word = 0;
    std::memcpy(&word, bytes + k * 8, 8);
    sum += word;
  }
  if (const u64 tail = size_bytes % 8; tail != 0) {
    u64 word = 0;
    std::memcpy(&word, bytes + words * 8, tail);
    sum += word;
  }
  return sum;
}

// The stamp as the receiver finds it. Below 8 B only its low bytes travel.
inline u64 content_stamp(const void* from, u64 size_bytes) {
  u64 stamp = 0;
  std::memcpy(&stamp, from, size_bytes < 8 ? size_bytes : 8);
  return stamp;
}

// Reads every byte. True if they are exactly (up to the sum) those of message `stamp`.
template <class Size>
inline bool content_is(const void* from, Size size, u64 stamp) {
  const u64 size_bytes = size;
  const u64 seen = low_bytes(stamp, size_bytes < 8 ? size_bytes : 8);
  return content_sum(from, size) == expected_sum(size, stamp) && content_stamp(from, size) == seen;
}

struct FreeDeleter {
  void operator()(void* memory) const { std::free(memory); }
};
using AlignedBytes = std::unique_ptr<u8, FreeDeleter>;

// Private memory that starts on a page, so that the alignment of a buffer is not a matter of luck.
inline AlignedBytes aligned_bytes(u64 size_bytes) {
  void* memory = std::aligned_alloc(kPageBytes, align_up(size_bytes + 1, kPageBytes));
  MOORING_CHECK(memory != nullptr);
  std::memset(memory, 0, align_up(size_bytes + 1, kPageBytes));
  return AlignedBytes(static_cast<u8*>(memory));
}

// Private buffers for a producer whose publish copies: the application's side of the work, kept as small as possible.
class SourceMessages {
 public:
  explicit SourceMessages(u64 size_bytes) : size_bytes_(size_bytes) {
    for (u64 variant = 0; variant < kContentVariants; ++variant) {
      buffers_[variant] = aligned_bytes(size_bytes);
      fill_content(buffers_[variant].get(), size_bytes, variant);
    }
  }
  // The bytes of message `stamp`, valid until the next call with the same stamp mod 3.
  const void* message(u64 stamp) {
    u8* bytes = buffers_[stamp % kContentVariants].get();
    if (__builtin_expect(size_bytes_ >= 8, true)) {
      std::memcpy(bytes, &stamp, 8);
    } else {
      std::memcpy(bytes, &stamp, size_bytes_);
    }
    return bytes;
  }

 private:
  u64 size_bytes_;
  std::array<AlignedBytes, kContentVariants> buffers_;
};

}  // namespace mooring::bench
