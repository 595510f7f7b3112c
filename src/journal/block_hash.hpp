// The checksums of the log: XXH3, 64 bits, seeded with the queue and the place, so that bytes of another queue or of
// another place in the log never pass. They find damage, not malice.
#pragma once

#include <memory>
#include <span>

#include "base/bytes.hpp"
#include "journal/format.hpp"

namespace mooring::journal {

// uuid and place in one seed.
u64 hash_seed(const Uuid& uuid, u64 place);
u64 hash_bytes(std::span<const u8> bytes, u64 seed);

u64 segment_check(const SegmentHeader& header);
u64 block_check(const BlockHeader& header);

// Hashes a body while it grows, so that the bytes are hashed while they are in the cache and the disk is busy.
class RunningHash {
 public:
  RunningHash();
  ~RunningHash();
  RunningHash(RunningHash&&) noexcept;
  RunningHash& operator=(RunningHash&&) noexcept;
  void start(u64 seed);
  void add(std::span<const u8> bytes);
  u64 value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mooring::journal
