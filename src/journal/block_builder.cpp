#include "journal/block_builder.hpp"

#include <cstring>

#include "base/check.hpp"

namespace mooring::journal {

BlockBuilder::BlockBuilder(u64 block_bytes) : usual_(block_bytes) {}

void BlockBuilder::start(u64 seed, u64 first_seq) {
  hash_.start(seed);
  body_bytes_ = 0;
  record_count_ = 0;
  first_seq_ = first_seq;
}

void BlockBuilder::reserve(u64 block_bytes) {
  MOORING_CHECK(is_empty());
  // The usual memory is never given back meanwhile: what the kernel has registered by its address must stay that
  // memory.
  if (block_bytes <= usual_.size())
    large_ = AlignedBuffer();
  else if (block_bytes > large_.size())
    large_ = AlignedBuffer(block_bytes);
}

void BlockBuilder::add(RecordType type, u16 flags, std::span<const u8> head, std::span<const u8> tail) {
  const RecordHeader header{static_cast<u16>(type), flags,
                            static_cast<u32>(sizeof(RecordHeader) + head.size() + tail.size())};
  const u64 padded = align_up(header.bytes, 8);
  MOORING_CHECK(kBlockHeaderBytes + body_bytes_ + padded <= active().size());
  u8* const begin = end();
  std::memcpy(begin, &header, sizeof(header));
  if (!head.empty()) std::memcpy(begin + sizeof(header), head.data(), head.size());
  if (!tail.empty()) std::memcpy(begin + sizeof(header) + head.size(), tail.data(), tail.size());
  std::memset(begin + header.bytes, 0, padded - header.bytes);
  hash_.add({begin, padded});
  body_bytes_ += padded;
  ++record_count_;
}

void BlockBuilder::add_encoded(std::span<const u8> record) {
  MOORING_CHECK(kBlockHeaderBytes + body_bytes_ + record.size() <= active().size());
  std::memcpy(end(), record.data(), record.size());
  hash_.add({end(), record.size()});
  body_bytes_ += record.size();
  ++record_count_;
}

u64 BlockBuilder::seal(BlockHeader header) {
  std::memset(end(), 0, block_bytes() - kBlockHeaderBytes - body_bytes_);
  header.magic = kBlockMagic;
  header.header_bytes = kBlockHeaderBytes;
  header.flags = 0;
  header.bytes = static_cast<u32>(block_bytes());
  header.body_bytes = static_cast<u32>(body_bytes_);
  header.first_seq = first_seq_;
  header.record_count = record_count_;
  header.reserved = 0;
  header.body_check = hash_.value();
  header.check = block_check(header);
  std::memcpy(active().data(), &header, sizeof(header));
  return header.check;
}

}  // namespace mooring::journal
