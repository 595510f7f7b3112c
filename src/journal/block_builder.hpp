// One block while it fills, in private 4 KiB-aligned memory. The body is hashed as it comes; the header is written when
// the block is sealed, and may be written again for another segment (same log_pos, same body) after a failure.
//
// Nobody else can touch these bytes: the checksum is over what is written, whatever producers do to their memory.
#pragma once

#include <span>

#include "base/bytes.hpp"
#include "journal/block_hash.hpp"
#include "journal/disk.hpp"
#include "journal/format.hpp"

namespace mooring::journal {

class BlockBuilder {
 public:
  explicit BlockBuilder(u64 block_bytes);

  bool is_empty() const { return record_count_ == 0; }
  u64 body_bytes() const { return body_bytes_; }
  u64 block_bytes() const { return block_bytes_for(body_bytes_); }
  u32 record_count() const { return record_count_; }

  // A new block at this place; what was in it is gone.
  void start(u64 seed, u64 first_seq);
  // Space for a larger block than usual; only while it is empty.
  void reserve(u64 block_bytes);
  u64 capacity_bytes() const { return active().size(); }
  // Of usual blocks: stays where it is as long as the builder lives, so that it may be registered with the kernel.
  std::span<u8> memory() { return usual_.span(); }

  // The caller has made sure that it fits.
  void add(RecordType type, u16 flags, std::span<const u8> head, std::span<const u8> tail);
  void add_encoded(std::span<const u8> record);  // one whole record, as put_record made it

  // Pads, fills in what the builder knows (lengths, counts, checks) and returns the block's `check`.
  u64 seal(BlockHeader header);
  std::span<const u8> bytes() const { return {active().data(), block_bytes()}; }

 private:
  AlignedBuffer& active() { return large_.size() != 0 ? large_ : usual_; }
  const AlignedBuffer& active() const { return large_.size() != 0 ? large_ : usual_; }
  u8* end() { return active().data() + kBlockHeaderBytes + body_bytes_; }

  AlignedBuffer usual_;
  AlignedBuffer large_;  // only while a message that is larger than a usual block is in it
  RunningHash hash_;
  u64 body_bytes_ = 0;
  u64 first_seq_ = 0;
  u32 record_count_ = 0;
};

}  // namespace mooring::journal
