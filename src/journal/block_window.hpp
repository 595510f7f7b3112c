// Blocks of a segment file, found whole or not: what every reader of a log shares.
//
// TESTED BY  journal/recovery_test, journal/flips_test, journal/backlog_reader_test
#pragma once

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "journal/block_hash.hpp"
#include "journal/disk.hpp"

namespace mooring::journal {

// A file read through a sliding window: each byte once, as long as what is asked for goes forward without a gap. What
// is left of one read moves to the front when the next one needs the place. With `reads_ahead` the next read is in
// flight while the last one is looked at.
class Window {
 public:
  Window(DiskFile& file, u64 file_bytes, u64 window_bytes, bool reads_ahead = false)
      : file_(file),
        file_bytes_(file_bytes),
        window_bytes_(align_up(std::max(window_bytes, kBlockAlignment), kBlockAlignment)),
        reads_ahead_(reads_ahead) {}
  ~Window() { static_cast<void>(release()); }
  Window(const Window&) = delete;
  Window& operator=(const Window&) = delete;

  // Empty: cannot be read (the disk says no). Shorter than asked: the end of the file. Good until the next call.
  std::optional<std::span<const u8>> at(u64 offset, u64 bytes) {
    if (offset >= file_bytes_) return std::span<const u8>{};
    bytes = std::min(bytes, file_bytes_ - offset);
    if (!has(offset, bytes)) take_ahead();
    if (!has(offset, bytes)) {
      go_to(offset);
      const u64 exactly = align_up(bytes, kBlockAlignment);
      const u64 wanted = align_up(std::min(std::max(bytes, window_bytes_), file_bytes_ - offset), kBlockAlignment);
      // A place nearby that cannot be read is no reason to know nothing of this one.
      if (!load_to(offset + wanted) && !load_to(offset + exactly)) return std::nullopt;
    }
    if (reads_ahead_ && ahead_bytes_ == 0) look_ahead(offset, bytes);
    const u64 there = std::min(bytes, begin_ + size_ - offset);
    return std::span<const u8>(buffer_.data() + (offset - begin_), there);
  }
  u64 file_bytes() const { return file_bytes_; }
  // More of the file may be read from now on; what is in the window stays good.
  void extend_to(u64 file_bytes) { file_bytes_ = std::max(file_bytes_, file_bytes); }
  u64 bytes_read() const { return bytes_read_; }
  // For who goes through many files: the memory of one window is the next one's, so that its pages are made once. The
  // window stays good, and has nothing in it any more.
  void lend(AlignedBuffer memory) { buffer_ = std::move(memory); }
  AlignedBuffer release() {
    if (ahead_bytes_ != 0) static_cast<void>(file_.finish_read());
    ahead_bytes_ = 0;
    size_ = 0;
    return std::exchange(buffer_, {});
  }

 private:
  static constexpr u64 kWindowsInBuffer = 4;  // so that what is left moves only now and then

  bool has(u64 offset, u64 bytes) const { return offset >= begin_ && offset + bytes <= begin_ + size_; }

  // What is in the window from `offset` on becomes its front.
  void go_to(u64 offset) {
    const bool is_inside = offset >= begin_ && offset < begin_ + size_ && size_ % kBlockAlignment == 0;
    const u64 left = is_inside ? begin_ + size_ - offset : 0;
    if (left != 0 && offset != begin_) std::memmove(buffer_.data(), buffer_.data() + (offset - begin_), left);
    begin_ = offset;
    size_ = left;
  }

  bool load_to(u64 end) {
    const u64 bytes = end - begin_;
    if (buffer_.size() < bytes) {
      const u64 most = reads_ahead_ ? std::min(kWindowsInBuffer * window_bytes_, file_bytes_ - begin_) : 0;
      AlignedBuffer larger(std::max(bytes, most));
      if (size_ != 0) std::memcpy(larger.data(), buffer_.data(), size_);
      buffer_ = std::move(larger);
    }
    while (size_ < bytes) {
      const auto got = file_.read(begin_ + size_, buffer_.span().subspan(size_, bytes - size_));
      if (!got) return false;
      if (*got == 0) break;
      size_ += *got;
      bytes_read_ += *got;
      if (size_ % kBlockAlignment != 0) break;
    }
    return true;
  }

  // Begins the next read once less than one is left behind what is looked at now.
  void look_ahead(u64 offset, u64 bytes) {
    const u64 end = begin_ + size_;
    if (end >= file_bytes_ || size_ % kBlockAlignment != 0 || end - offset - bytes >= window_bytes_) return;
    const u64 wanted = align_up(std::min(window_bytes_, file_bytes_ - end), kBlockAlignment);
    if (size_ + wanted > buffer_.size()) go_to(offset);
    if (size_ + wanted > buffer_.size()) return;
    if (file_.begin_read(end, buffer_.span().subspan(size_, wanted))) ahead_bytes_ = wanted;
  }

  // One that failed is forgotten: it is read again when it is asked for.
  void take_ahead() {
    if (ahead_bytes_ == 0) return;
    ahead_bytes_ = 0;
    const auto got = file_.finish_read();
    if (!got) return;
    size_ += *got;
    bytes_read_ += *got;
  }

  DiskFile& file_;
  u64 file_bytes_;
  u64 window_bytes_;
  bool reads_ahead_;
  AlignedBuffer buffer_;
  u64 begin_ = 0;
  u64 size_ = 0;
  u64 ahead_bytes_ = 0;  // asked for, behind `size_`; 0: nothing is in flight
  u64 bytes_read_ = 0;
};

inline bool is_zero(std::span<const u8> bytes) {
  // Against itself, one byte on: memcmp looks at many bytes at once, and what a log has not used yet is all zeros.
  return bytes.empty() || (bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
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
