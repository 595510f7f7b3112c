// The seam between the journal and the disk: one directory and its files. Everything the journal does to a disk goes
// through here, so that tests can put a disk behind it that forgets, tears, fails and lies (tests/journal/sim_disk).
//
// What the journal assumes of a disk, and nothing more:
//   - a write is on the disk for good only after a sync() of that file that began after the write ended, and succeeded;
//     until then any subset of its 512-byte sectors may be there or not, in any order, now or later;
//   - create, rename and unlink are there for good only after sync_directory();
//   - after a failed write or sync nothing is known about what was written since the last good sync, and a later
//     "good" sync of that file proves nothing;
//   - bytes that were written and synced may still rot.
//
// Offsets, sizes and addresses of read, write and submit are multiples of 4 KiB (O_DIRECT).
// Codes: missing kNoSuchQueue, there already kExists, no space kDiskFull, lock not free in time kTimeout, others kIo.
//
// THREADS  One thread writes. create, rename, unlink, sync_directory and the synchronous calls on a file nobody else
// uses may come from a second one (SegmentPool::prepare).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "journal/format.hpp"

namespace mooring::journal {

// Memory for blocks: 4 KiB-aligned and zero at first.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(u64 bytes);
  u8* data() { return bytes_.get(); }
  const u8* data() const { return bytes_.get(); }
  u64 size() const { return size_; }
  std::span<u8> span() { return {bytes_.get(), size_}; }

 private:
  struct Free {
    void operator()(u8* bytes) const;
  };
  std::unique_ptr<u8, Free> bytes_;
  u64 size_ = 0;
};

class DiskFile {
 public:
  DiskFile() = default;
  DiskFile(const DiskFile&) = delete;
  DiskFile& operator=(const DiskFile&) = delete;
  virtual ~DiskFile() = default;  // closes, and waits for what was submitted

  virtual Result<u64> size_bytes() = 0;
  // How many bytes were read: fewer than asked only at the end of the file.
  virtual Result<u64> read(u64 offset, std::span<u8> bytes) = 0;
  // Begins a read into bytes that are nobody else's until finish_read(), which waits for it and says what read() would.
  // One at a time. Only a hint, like false, which says "not now": unless a disk can do better it is read at the finish.
  virtual bool begin_read(u64 offset, std::span<u8> bytes);
  virtual Result<u64> finish_read();
  // All of it or an error.
  virtual Status write(u64 offset, std::span<const u8> bytes) = 0;
  // Begins a write; the bytes stay as they are until reap(), which waits for it: all of it or an error. One at a time.
  virtual Status submit(u64 offset, std::span<const u8> bytes) = 0;
  virtual Status reap() = 0;
  virtual Status sync() = 0;
  // An exclusive lock on this open file description: it outlives a killed process until its last write has landed.
  virtual Status lock(u64 wait_ns) = 0;

 private:
  u64 begun_offset_ = 0;
  std::span<u8> begun_bytes_;
};

enum class DiskAccess { read_only, read_write };

struct Capabilities {
  bool direct = false;              // O_DIRECT; else through the page cache
  bool uring = false;               // io_uring; else pwrite
  bool registered_buffers = false;  // else plain ones
  std::string text;                 // what is missing and the likely cause; empty if nothing is
};

class Disk {
 public:
  Disk() = default;
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;
  virtual ~Disk() = default;

  virtual std::string name() const = 0;  // for texts
  virtual Result<std::vector<std::string>> list() = 0;
  virtual Result<std::unique_ptr<DiskFile>> create(const std::string& name) = 0;
  virtual Result<std::unique_ptr<DiskFile>> open(const std::string& name, DiskAccess access) = 0;
  virtual Status rename(const std::string& from, const std::string& to) = 0;  // never replaces
  virtual Status unlink(const std::string& name) = 0;
  virtual Status sync_directory() = 0;
  virtual Status lock_directory(u64 wait_ns) = 0;
  virtual Capabilities capabilities() const = 0;
  // Most writes will come from these; they stay where they are until the next call. Only a hint.
  virtual void register_buffers(std::span<const std::span<u8>> buffers) = 0;
};

}  // namespace mooring::journal
