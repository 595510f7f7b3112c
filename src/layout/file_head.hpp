// The first line of every shared file: what it is, whose it is, and which layout it was made with.
//
// Written once by the supervisor before the file gets its name, never changed afterwards. An attaching process
// compares all of it (segment/attach.cpp) before it believes another byte of the file.
#pragma once

#include "base/bytes.hpp"

namespace mooring::layout {

// "MOORING" and a zero byte, read as a little-endian integer.
inline constexpr u64 kMagic = 0x00474e49524f4f4dULL;

// Raise this with any change to any struct in this room, released or not, and say what changed in
// docs/decisions/0001-shared-layout.md. A process refuses files of another version (kVersion error): shared memory
// lives at most until the next boot, so there is nothing to migrate.
inline constexpr u32 kLayoutVersion = 6;

enum class FileKind : u32 {
  kInstance = 1,
  kCtl = 2,
  kOrder = 3,
  kGroup = 4,
  kLane = 5,
  kSeat = 6,
  kWake = 7,
  kPark = 8,
  kBell = 9,
};

struct FileHead {
  u64 magic;
  u32 layout_version;
  FileKind kind;
  u64 file_bytes;     // of the whole file as created
  u32 index;          // lane, seat or group number; 0 for the others
  u32 line_bytes;     // kLineBytes of the maker
  u8 queue_uuid[16];  // of the queue (of the instance, for kInstance and kBell)
  u8 boot_id[16];
  u64 check;          // XXH3-64 of the bytes before this field
  u8 reserved[56];
};
static_assert(sizeof(FileHead) == kLineBytes);
static_assert(__builtin_offsetof(FileHead, check) == 64, "no padding before the check");

}  // namespace mooring::layout
