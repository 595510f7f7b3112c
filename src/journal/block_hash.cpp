#include "journal/block_hash.hpp"

#include <cstring>

// The streaming functions pass force-inlined ones as values, which a compiler that optimises less cannot inline.
#ifndef NDEBUG
#define XXH_NO_INLINE_HINTS 1
#endif
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace mooring::journal {

u64 hash_seed(const Uuid& uuid, u64 place) {
  u64 low = 0;
  u64 high = 0;
  std::memcpy(&low, uuid.data(), sizeof(low));
  std::memcpy(&high, uuid.data() + sizeof(low), sizeof(high));
  return low ^ high ^ place;
}

u64 hash_bytes(std::span<const u8> bytes, u64 seed) { return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed); }

u64 segment_check(const SegmentHeader& header) {
  return XXH3_64bits_withSeed(&header, offsetof(SegmentHeader, check), hash_seed(header.uuid, header.number));
}

u64 block_check(const BlockHeader& header) {
  return XXH3_64bits_withSeed(&header, offsetof(BlockHeader, check), hash_seed(header.uuid, header.log_pos));
}

struct RunningHash::State {
  XXH3_state_t xxh;
};

// XXH3_state_t asks for 64-byte alignment; aligned new gives it.
RunningHash::RunningHash() : state_(std::make_unique<State>()) { start(0); }
RunningHash::~RunningHash() = default;
RunningHash::RunningHash(RunningHash&&) noexcept = default;
RunningHash& RunningHash::operator=(RunningHash&&) noexcept = default;

void RunningHash::start(u64 seed) { XXH3_64bits_reset_withSeed(&state_->xxh, seed); }
void RunningHash::add(std::span<const u8> bytes) { XXH3_64bits_update(&state_->xxh, bytes.data(), bytes.size()); }
u64 RunningHash::value() const { return XXH3_64bits_digest(&state_->xxh); }

}  // namespace mooring::journal
