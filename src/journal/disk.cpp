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

void AlignedBuffer::Free::operator()(u8* bytes) const { std::free(bytes); }

}  // namespace mooring::journal
