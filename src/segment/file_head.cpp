#include "segment/file_head.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "base/atomics.hpp"
#include "segment/checksum.hpp"

namespace mooring {
namespace {

using layout::FileHead;

u64 checksum_of(const FileHead& head) { return checksum(&head, offsetof(FileHead, check)); }

tl::unexpected<Error> fail_damaged(const std::string& where, const std::string& what) {
  return fail(Code::kCorrupt, where + " " + what + "; remove the queue and create it again");
}

}  // namespace

FileHead make_file_head(layout::FileKind kind, u64 file_bytes, u32 index, const Uuid& uuid, const BootId& boot_id) {
  FileHead head{};
  head.magic = layout::kMagic;
  head.layout_version = layout::kLayoutVersion;
  head.kind = kind;
  head.file_bytes = file_bytes;
  head.index = index;
  head.line_bytes = kLineBytes;
  std::copy(uuid.begin(), uuid.end(), head.queue_uuid);
  std::copy(boot_id.begin(), boot_id.end(), head.boot_id);
  head.check = checksum_of(head);
  return head;
}

Status check_file_head(const FileHead& head, layout::FileKind kind, u64 file_bytes, u32 index, const Uuid* uuid,
                       const BootId& boot_id, const std::string& where) {
  if (head.magic != layout::kMagic) return fail_damaged(where, "is not a file of Mooring (wrong magic)");
  // Before the checksum: another version may have that elsewhere.
  if (head.layout_version != layout::kLayoutVersion) {
    return fail(Code::kVersion, where + " has layout version " + std::to_string(head.layout_version) +
                                    ", this program knows version " + std::to_string(layout::kLayoutVersion) +
                                    "; use programs of one version, or restart the supervisor to start anew");
  }
  if (head.check != checksum_of(head) ||
      !std::all_of(std::begin(head.reserved), std::end(head.reserved), [](u8 byte) { return byte == 0; })) {
    return fail_damaged(where, "is damaged (the checksum of its head is wrong)");
  }
  if (head.kind != kind) {
    return fail_damaged(where, "is another kind of file (" + std::to_string(static_cast<u32>(head.kind)) +
                                   ") than its name says (" + std::to_string(static_cast<u32>(kind)) + ")");
  }
  if (head.line_bytes != kLineBytes) {
    return fail(Code::kVersion, where + " was made for lines of " + std::to_string(head.line_bytes) +
                                    " bytes, this program has " + std::to_string(kLineBytes) +
                                    "; use programs of one build for one instance");
  }
  if (!std::equal(boot_id.begin(), boot_id.end(), head.boot_id)) {
    return fail(Code::kCorrupt,
                where + " was made on another boot of this host; start the supervisor anew, which removes it");
  }
  if (head.file_bytes != file_bytes) {
    return fail_damaged(where, "has the wrong size: " + std::to_string(head.file_bytes) + " bytes says its head, " +
                                   std::to_string(file_bytes) + " are right");
  }
  if (head.index != index) {
    return fail_damaged(where, "is number " + std::to_string(head.index) + ", not number " + std::to_string(index));
  }
  if (uuid != nullptr && !std::equal(uuid->begin(), uuid->end(), head.queue_uuid)) {
    return fail_damaged(where, "belongs to another queue (its uuid differs)");
  }
  return {};
}

void write_file_head(const Mapping& mapping, const FileHead& head) {
  auto* shared = reinterpret_cast<FileHead*>(mapping.data());
  constexpr std::size_t kAfterMagic = sizeof head.magic;
  HardwareAtomics::copy_in(reinterpret_cast<u8*>(shared) + kAfterMagic,
                           reinterpret_cast<const u8*>(&head) + kAfterMagic, sizeof head - kAfterMagic);
  // HEADED: release, so that a file with a magic is whole; a grant over the socket or ctl orders it once more.
  HardwareAtomics::store(shared->magic, head.magic, std::memory_order_release);
}

Status read_first_bytes(const File& file, void* to, std::size_t size_bytes, const std::string& where) {
  const auto bytes = read_to_end(file, size_bytes - 1, where);
  if (!bytes) return fail(bytes.error());
  if (bytes->size() < size_bytes) {
    return fail_damaged(where,
                        "is truncated: it has " + std::to_string(bytes->size()) + " bytes, too few for its head");
  }
  std::memcpy(to, bytes->data(), size_bytes);
  return {};
}

Result<Mapping> map_checked_file(const File& dir, const std::string& name, const ExpectedFile& expected, Access access,
                                 bool prefault) {
  const auto file = open_file(dir, name, access, expected.owner);
  if (!file) return fail(file.error());
  const std::string where = path_text(dir, name);
  FileHead head{};
  if (auto read = read_first_bytes(*file, &head, sizeof head, where); !read) return fail(read.error());
  if (auto good = check_file_head(head, expected.kind, expected.file_bytes, expected.index, expected.uuid,
                                  expected.boot_id, where);
      !good) {
    return fail(good.error());
  }
  const auto size_bytes = file_size(*file);
  if (!size_bytes) return fail(size_bytes.error());
  // The park file is the one that grows after its head was written.
  const bool may_be_longer = expected.kind == layout::FileKind::kPark;
  if (*size_bytes < expected.file_bytes || (*size_bytes > expected.file_bytes && !may_be_longer)) {
    return fail_damaged(where, "has the wrong size: it has " + std::to_string(*size_bytes) + " bytes, " +
                                   std::to_string(expected.file_bytes) + " are right");
  }
  return map_file(*file, access, expected.file_bytes, prefault);
}

}  // namespace mooring
