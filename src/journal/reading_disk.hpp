// A disk that is only read: for processes that look into a log which somebody else writes. No ring, no lock, nothing
// that the writer would notice.
//
// O_DIRECT where the file system has it, as the writer does (posix_disk.hpp): both go past the page cache, or both
// through it, so a reader never finds there what a direct write has replaced.
//
// TESTED BY  durable/backlog_test
#pragma once

#include "journal/disk.hpp"
#include "platform/file.hpp"

namespace mooring::journal {

class ReadingDisk final : public Disk {
 public:
  static Result<std::unique_ptr<ReadingDisk>> open(const std::string& path);

  std::string name() const override;
  Result<std::vector<std::string>> list() override;
  Result<std::unique_ptr<DiskFile>> open(const std::string& name, DiskAccess access) override;
  Capabilities capabilities() const override;
  // Refused: kPermission.
  Result<std::unique_ptr<DiskFile>> create(const std::string& name) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status unlink(const std::string& name) override;
  Status sync_directory() override;
  Status lock_directory(u64 wait_ns) override;
  void register_buffers(std::span<const std::span<u8>> buffers) override;

 private:
  class ReadingFile;
  explicit ReadingDisk(File directory);
  tl::unexpected<Error> refused() const;

  File directory_;
  std::string name_;
  bool direct_ = true;
};

}  // namespace mooring::journal
