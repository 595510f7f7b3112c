// The checksum of heads and constants: XXH3, 64 bits. It finds damage and confusion, not malice: who may write a file
// can also compute this, and everything read is range-checked beside it.
#pragma once

#include <cstddef>

#include "base/bytes.hpp"

namespace mooring {

u64 checksum(const void* bytes, std::size_t size_bytes);

}  // namespace mooring
