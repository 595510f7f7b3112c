// Blocks of a segment file, found whole or not: what every reader of a log shares.
//
// TESTED BY  journal/recovery_test, journal/flips_test, journal/backlog_reader_test
#pragma once

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>

#include "journal/block_hash.hpp"
#include "journal/disk.hpp"

namespace mooring::journal {

// A file read through a sliding window: sequential, one read a megabyte, and a block larger than it in one piece.
class Window {
 public:
  Window(DiskFile& file, u64 file_bytes, u64 window_bytes)
      : file_(file), file_bytes_(file_bytes), window_bytes_(std::max(window_bytes, kBlockAlignment)) {}

  // Empty: cannot be read (the disk says no). Shorter than asked: the end of the file.
  std::optional<std::span<const u8>> at(u64 offset, u64 bytes) {
    if (offset >= file_bytes_) return std::span<const u8>{};
    bytes = std::min(bytes, file_bytes_ - offset);
    if (offset < begin_ || offset + bytes > begin_ + size_) {
      const u64 wanted = align_up(std::min(std::max(bytes, window_bytes_), file_bytes_ - offset), kBlockAlignment);
      if (!load(offset, wanted) && !load(offset, align_up(bytes, kBlockAlignment))) return std::nullopt;
    }
    const u64 there = std::min(bytes, begin_ + size_ - offset);
    return std::span<const u8>(buffer_.data() + (offset - begin_), there);
  }
  u64 file_bytes() const { return file_bytes_; }
  // More of the file may be read from now on; what is in the window stays good.
  void extend_to(u64 file_bytes) { file_bytes_ = std::max(file_bytes_, file_bytes); }
  u64 bytes_read() const { return bytes_read_; }

 private:
  bool load(u64 offset, u64 bytes) {
    if (buffer_.size() < bytes) buffer_ = AlignedBuffer(bytes);
    begin_ = offset;
    size_ = 0;
    while (size_ < bytes) {
      const auto got = file_.read(offset + size_, buffer_.span().subspan(size_, bytes - size_));
      if (!got) return false;
      if (*got == 0) break;
      size_ += *got;
      bytes_read_ += *got;
      if (size_ % kBlockAlignment != 0) break;
    }
    return true;
  }

  DiskFile& file_;
  u64 file_bytes_;
  u64 window_bytes_;
  AlignedBuffer buffer_;
  u64 begin_ = 0;
  u64 size_ = 0;
  u64 bytes_read_ = 0;
};

inline bool is_zero(std::span<const u8> bytes) {
  return std::ranges::all_of(bytes, [](u8 byte) { return byte == 0; });
}

// What stands where a block should be.
enum class BlockState { kWhole, kBodyBad, kNone, kUnreadable, kEnd };

struct BlockView {
  BlockHeader header{};
  std::span<const u8> body;
};

inline bool lengths_fit(const BlockHeader& header, u64 room) {
  return header.header_bytes == kBlockHeaderBytes && header.bytes % kBlockAlignment == 0 &&
         header.bytes == block_bytes_for(header.body_bytes) && header.bytes <= room && header.bytes <= kBlockBytesMax;
}

// Whole by itself: magic, queue, place in its file, both checks. Whether it belongs here is asked elsewhere.
inline BlockState block_at(Window& window, u64 offset, const Uuid& uuid, bool check, BlockView& view) {
  if (offset >= window.file_bytes()) return BlockState::kEnd;
  const auto page = window.at(offset, kBlockAlignment);
  if (!page) return BlockState::kUnreadable;
  if (page->size() < kBlockHeaderBytes) return BlockState::kNone;
  std::memcpy(&view.header, page->data(), kBlockHeaderBytes);
  const BlockHeader& header = view.header;
  if (header.magic != kBlockMagic || header.uuid != uuid) return BlockState::kNone;
  if (!lengths_fit(header, window.file_bytes() - offset)) return BlockState::kNone;
  if (check && header.check != block_check(header)) return BlockState::kNone;
  const auto all = window.at(offset, header.bytes);
  if (!all) return BlockState::kUnreadable;
  if (all->size() < header.bytes) return BlockState::kBodyBad;
  view.body = all->subspan(kBlockHeaderBytes, header.body_bytes);
  if (check) {
    if (hash_bytes(view.body, hash_seed(uuid, header.log_pos)) != header.body_check) return BlockState::kBodyBad;
    if (!is_zero(all->subspan(kBlockHeaderBytes + header.body_bytes))) return BlockState::kBodyBad;
  }
  return BlockState::kWhole;
}

inline bool belongs_to(const BlockHeader& block, const SegmentHeader& segment, u64 offset) {
  return block.number == segment.number && block.salt == segment.salt && block.incarnation == segment.incarnation &&
         block.log_pos == segment.first_log_pos + (offset - kSegmentHeaderBytes);
}

}  // namespace mooring::journal
