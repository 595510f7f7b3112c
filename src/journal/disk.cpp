#include "journal/disk.hpp"

#include <cstdlib>
#include <cstring>
#include <new>

namespace mooring::journal {

AlignedBuffer::AlignedBuffer(u64 bytes) : size_(align_up(bytes, kBlockAlignment)) {
  bytes_.reset(static_cast<u8*>(std::aligned_alloc(kBlockAlignment, size_)));
  if (!bytes_) throw std::bad_alloc();
  std::memset(bytes_.get(), 0, size_);
}

bool DiskFile::begin_read(u64 offset, std::span<u8> bytes) {
  begun_offset_ = offset;
  begun_bytes_ = bytes;
  return true;
}

Result<u64> DiskFile::finish_read() { return read(begun_offset_, begun_bytes_); }

void AlignedBuffer::Free::operator()(u8* bytes) const { std::free(bytes); }

}  // namespace mooring::journal
