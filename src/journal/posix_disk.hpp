// The disk of Linux: one directory, O_DIRECT, and io_uring for large writes and for reading ahead.
//
// WHAT FALLS BACK TO WHAT, each told in capabilities().text with the likely cause:
//   O_DIRECT                refused by the file system (EINVAL): the page cache
//   registered buffers      refused (ENOMEM: memlock): plain buffers
//   io_uring                refused (EPERM, ENOSYS, ENOMEM: seccomp, io_uring_disabled, memlock): pwrite, pread
// No registered files (their locks linger after a kill, core.md A4), no DSYNC and no fsync through the ring (A23), no
// polling thread. Everything is O_CLOEXEC. The lock of a segment is a flock on the description its writes go through,
// so it outlives a killed process until the last of them has landed.
//
// THREADS  submit and reap: one thread, the one that registers buffers. begin_read and finish_read: one thread. The
//          rest: any, on different files.
//
// TESTED BY  journal/posix_disk_test
#pragma once

#include <memory>
#include <string>

#include "journal/disk.hpp"
#include "platform/file.hpp"

namespace mooring::journal {

struct PosixDiskOptions {
  bool use_direct = true;
  bool use_uring = true;
  bool use_registered_buffers = true;
  mode_t file_mode = 0600;
  bool sync = true;  // false: what is written outlives processes, not a power cut
};

class PosixDisk final : public Disk {
 public:
  static Result<std::unique_ptr<PosixDisk>> open(const std::string& path, const PosixDiskOptions& options = {});
  // The directory stays the caller's; it is opened anew.
  static Result<std::unique_ptr<PosixDisk>> open_at(const File& parent, const std::string& name,
                                                    const PosixDiskOptions& options = {});
  ~PosixDisk() override;

  std::string name() const override;
  Result<std::vector<std::string>> list() override;
  Result<std::unique_ptr<DiskFile>> create(const std::string& name) override;
  Result<std::unique_ptr<DiskFile>> open(const std::string& name, DiskAccess access) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status unlink(const std::string& name) override;
  Status sync_directory() override;
  Status lock_directory(u64 wait_ns) override;
  Capabilities capabilities() const override;
  void register_buffers(std::span<const std::span<u8>> buffers) override;

 private:
  class Ring;
  class PosixFile;
  PosixDisk(File directory, const PosixDiskOptions& options);
  Result<std::unique_ptr<DiskFile>> open_with(const std::string& name, int how);
  Ring* read_ring();
  void lose(bool Capabilities::*what, const std::string& why);

  File directory_;
  std::string name_;
  PosixDiskOptions options_;
  Capabilities capabilities_;
  std::unique_ptr<Ring> ring_;       // null: pwrite
  std::unique_ptr<Ring> read_ring_;  // made by the first begin_read, so that a write never waits for a read's end
};

}  // namespace mooring::journal
