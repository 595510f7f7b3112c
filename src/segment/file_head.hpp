// The head of a shared file: written last by who makes the file, compared in full by who maps it.
//
// WHO WRITES WHAT   the supervisor, all of it, once; magic last.
//
// TESTED BY  segment/hostile_attach_test
#pragma once

#include <array>
#include <string>

#include "base/error.hpp"
#include "layout/file_head.hpp"
#include "platform/file.hpp"
#include "platform/mapping.hpp"

namespace mooring {

using Uuid = std::array<u8, 16>;
using BootId = std::array<u8, 16>;

// Fills a head, `check` included.
layout::FileHead make_file_head(layout::FileKind kind, u64 file_bytes, u32 index, const Uuid& uuid,
                                const BootId& boot_id);
// Everything a head can be wrong about: kVersion for another layout, else kCorrupt. `where` names the file in the
// error. `uuid` null: any.
Status check_file_head(const layout::FileHead& head, layout::FileKind kind, u64 file_bytes, u32 index, const Uuid* uuid,
                       const BootId& boot_id, const std::string& where);

// Makes `head` the head of a file that is complete otherwise.
void write_file_head(const Mapping& mapping, const layout::FileHead& head);

// Reads the first `size_bytes` of a file that was just opened. kCorrupt if it has fewer.
Status read_first_bytes(const File& file, void* to, std::size_t size_bytes, const std::string& where);

// What a file must be to be mapped.
struct ExpectedFile {
  layout::FileKind kind{};
  u64 file_bytes = 0;
  u32 index = 0;
  const Uuid* uuid = nullptr;
  BootId boot_id{};
  uid_t owner = 0;
};
Result<Mapping> map_checked_file(const File& dir, const std::string& name, const ExpectedFile& expected, Access access,
                                 bool prefault);

}  // namespace mooring
