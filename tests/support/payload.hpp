// Message content that is known from a key: whoever reads a message can tell whether every byte is the one written.
#pragma once

#include <array>
#include <cstring>

#include "base/bytes.hpp"

namespace mooring::test {

// A good mix of 64 bits (the finaliser of splitmix64).
constexpr u64 mix(u64 value) {
  value += 0x9e3779b97f4a7c15ULL;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

// A seeded stream of numbers: the same seed, the same test.
class Random {
 public:
  explicit Random(u64 seed) : state_(seed) {}
  u64 next() { return mix(state_++); }
  u64 below(u64 end) { return next() % end; }
  bool one_in(u64 n) { return below(n) == 0; }

 private:
  u64 state_;
};

inline constexpr std::size_t kPayloadBytesMax = 64 * 1024;

inline const u8* payload_of(u64 key, u64 len) {
  thread_local std::array<u8, kPayloadBytesMax + 8> bytes;
  const u64 start = mix(key);  // so that neighbouring keys have no words in common
  for (u64 at = 0; at < len; at += 8) {
    const u64 word = mix(start + at);
    std::memcpy(bytes.data() + at, &word, sizeof(word));
  }
  return bytes.data();
}

template <class A>
void write_payload(u8* shared, u64 key, u64 len) {
  A::copy_in(shared, payload_of(key, len), len);
}

template <class A>
bool payload_is(const u8* shared, u64 len, u64 key) {
  thread_local std::array<u8, kPayloadBytesMax + 8> bytes;
  if (len > kPayloadBytesMax) return false;
  A::copy_out(bytes.data(), shared, len);
  return len == 0 || std::memcmp(bytes.data(), payload_of(key, len), len) == 0;
}

}  // namespace mooring::test
