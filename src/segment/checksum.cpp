#include "segment/checksum.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace mooring {

u64 checksum(const void* bytes, std::size_t size_bytes) { return XXH3_64bits(bytes, size_bytes); }

}  // namespace mooring
