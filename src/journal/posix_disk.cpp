#include "journal/posix_disk.hpp"

#include <fcntl.h>
#include <liburing.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/time.hpp"

namespace mooring::journal {
namespace {

constexpr unsigned kRingEntries = 8;
constexpr u64 kLockPollNs = kNsPerMs;

std::string errno_text(int number) { return std::strerror(number); }

// flock cannot be waited for with a limit, and a late write ends by itself: look again every millisecond.
Status lock_with_limit(const File& file, u64 wait_ns) {
  const u64 deadline_ns = deadline_after(monotonic_ns(), wait_ns);
  while (true) {
    const auto locked = try_lock(file);
    if (!locked) return fail(locked.error());
    if (*locked) return {};
    if (monotonic_ns() >= deadline_ns) {
      return fail(Code::kTimeout, path_text(file) +
                                      " is locked by another process (a supervisor that runs, or a "
                                      "killed one's write that has not landed); stop it, or wait");
    }
    const timespec pause{0, static_cast<long>(kLockPollNs)};
    ::nanosleep(&pause, nullptr);
  }
}

}  // namespace

// One submission queue for the writes of the journal thread; at most one write in flight.
class PosixDisk::Ring {
 public:
  static std::unique_ptr<Ring> make(int& error_number) {
    auto ring = std::unique_ptr<Ring>(new Ring);
    // The ring's descriptor is close-on-exec: liburing asks for it by itself since the kernel opens it so.
    const int result = ::io_uring_queue_init(kRingEntries, &ring->ring_, 0);
    if (result < 0) {
      error_number = -result;
      return nullptr;
    }
    ring->is_set_up_ = true;
    return ring;
  }
  ~Ring() {
    if (is_set_up_) ::io_uring_queue_exit(&ring_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  int register_buffers(std::span<const std::span<u8>> buffers) {
    unregister_buffers();
    if (buffers.empty()) return 0;
    std::vector<iovec> vectors;
    for (const std::span<u8>& buffer : buffers) vectors.push_back({buffer.data(), buffer.size()});
    const int result = ::io_uring_register_buffers(&ring_, vectors.data(), static_cast<unsigned>(vectors.size()));
    if (result < 0) return -result;
    buffers_ = std::move(vectors);
    return 0;
  }
  void unregister_buffers() {
    if (!buffers_.empty()) ::io_uring_unregister_buffers(&ring_);
    buffers_.clear();
  }

  Status submit_write(int fd, u64 offset, std::span<const u8> bytes) {
    io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
    if (entry == nullptr) return fail(Code::kIo, "the io_uring submission queue is full");
    const auto size = static_cast<unsigned>(bytes.size());
    const int index = buffer_of(bytes);
    if (index >= 0) {
      ::io_uring_prep_write_fixed(entry, fd, bytes.data(), size, offset, index);
    } else {
      ::io_uring_prep_write(entry, fd, bytes.data(), size, offset);
    }
    return submit();
  }

  Status submit_read(int fd, u64 offset, std::span<u8> bytes) {
    io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
    if (entry == nullptr) return fail(Code::kIo, "the io_uring submission queue is full");
    ::io_uring_prep_read(entry, fd, bytes.data(), static_cast<unsigned>(bytes.size()), offset);
    return submit();
  }

  Result<u64> reap() {
    io_uring_cqe* completion = nullptr;
    int result = 0;
    do {
      result = ::io_uring_wait_cqe(&ring_, &completion);
    } while (result == -EINTR);
    if (result < 0) return fail_errno(-result, "cannot wait for io_uring");
    const int done = completion->res;
    ::io_uring_cqe_seen(&ring_, completion);
    if (done < 0) return fail_errno(-done, "a transfer failed");
    return static_cast<u64>(done);
  }

  bool is_reading = false;  // of a ring for reads: some file's read is in flight

 private:
  Ring() = default;
  Status submit() {
    int submitted = 0;
    do {
      submitted = ::io_uring_submit(&ring_);
    } while (submitted == -EINTR);
    if (submitted < 0) return fail_errno(-submitted, "cannot submit to io_uring");
    if (submitted != 1) return fail(Code::kIo, "io_uring took nothing");
    return {};
  }
  int buffer_of(std::span<const u8> bytes) const {
    for (std::size_t i = 0; i < buffers_.size(); ++i) {
      const auto* begin = static_cast<const u8*>(buffers_[i].iov_base);
      if (bytes.data() >= begin && bytes.data() + bytes.size() <= begin + buffers_[i].iov_len) {
        return static_cast<int>(i);
      }
    }
    return -1;
  }

  io_uring ring_{};
  bool is_set_up_ = false;
  std::vector<iovec> buffers_;
};

class PosixDisk::PosixFile final : public DiskFile {
 public:
  PosixFile(File file, PosixDisk& disk) : file_(std::move(file)), disk_(disk), ring_(disk.ring_.get()) {}
  ~PosixFile() override {
    if (in_flight_bytes_ != 0) static_cast<void>(PosixFile::reap());
    if (!ahead_.empty()) static_cast<void>(PosixFile::finish_read());
  }

  Result<u64> size_bytes() override { return file_size(file_); }

  Result<u64> read(u64 offset, std::span<u8> bytes) override {
    u64 done = 0;
    while (done < bytes.size()) {
      const ssize_t got =
          ::pread(file_.fd(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
      if (got < 0) {
        if (errno == EINTR) continue;
        return fail_errno(errno, "cannot read " + path_text(file_));
      }
      if (got == 0) break;
      done += static_cast<u64>(got);
      if (done % kBlockAlignment != 0) break;  // The end of the file: another O_DIRECT read would not be aligned.
    }
    return done;
  }

  bool begin_read(u64 offset, std::span<u8> bytes) override {
    Ring* const ring = disk_.read_ring();
    if (ring == nullptr || ring->is_reading) return false;
    ring->is_reading = true;  // for good if it refuses: the entry may still be in its queue
    if (!ring->submit_read(file_.fd(), offset, bytes)) return false;
    ahead_offset_ = offset;
    ahead_ = bytes;
    return true;
  }

  Result<u64> finish_read() override {
    const std::span<u8> asked = std::exchange(ahead_, {});
    disk_.read_ring_->is_reading = false;
    const Result<u64> got = disk_.read_ring_->reap();
    if (!got) return fail(got.error().code, path_text(file_) + ": " + got.error().text);
    if (*got == asked.size() || *got % kBlockAlignment != 0) return got;
    const Result<u64> rest = read(ahead_offset_ + *got, asked.subspan(*got));
    if (!rest) return rest;
    return *got + *rest;
  }

  Status write(u64 offset, std::span<const u8> bytes) override {
    u64 done = 0;
    while (done < bytes.size()) {
      const ssize_t put =
          ::pwrite(file_.fd(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
      if (put < 0) {
        if (errno == EINTR) continue;
        return fail_errno(errno, "cannot write " + path_text(file_));
      }
      // A full file system writes what fits and fails the rest.
      if (put == 0 || static_cast<u64>(put) % kBlockAlignment != 0) {
        return fail(Code::kIo, "a short write to " + path_text(file_));
      }
      done += static_cast<u64>(put);
    }
    return {};
  }

  Status submit(u64 offset, std::span<const u8> bytes) override {
    if (ring_ == nullptr) {
      sent_ = write(offset, bytes);
      return sent_;
    }
    if (auto submitted = ring_->submit_write(file_.fd(), offset, bytes); !submitted) return submitted;
    in_flight_bytes_ = bytes.size();
    return {};
  }

  Status reap() override {
    if (ring_ == nullptr) return sent_;
    const u64 asked = in_flight_bytes_;
    in_flight_bytes_ = 0;
    const auto written = ring_->reap();
    if (!written) return fail(written.error().code, path_text(file_) + ": " + written.error().text);
    // Write errors are only here: a sync after a failed O_DIRECT write says that all is well.
    if (*written != asked) return fail(Code::kIo, "a short write to " + path_text(file_));
    return {};
  }

  Status sync() override {
    if (!disk_.options_.sync) return {};
    if (::fdatasync(file_.fd()) == 0) return {};
    return fail_errno(errno, "cannot sync " + path_text(file_));
  }

  Status lock(u64 wait_ns) override { return lock_with_limit(file_, wait_ns); }

 private:
  File file_;
  PosixDisk& disk_;
  Ring* ring_;
  u64 in_flight_bytes_ = 0;
  u64 ahead_offset_ = 0;
  std::span<u8> ahead_;  // in flight
  Status sent_;
};

PosixDisk::PosixDisk(File directory, const PosixDiskOptions& options)
    : directory_(std::move(directory)), name_(path_text(directory_)), options_(options) {
  capabilities_ = {true, true, true, {}};
  if (!options_.use_direct) lose(&Capabilities::direct, "O_DIRECT is switched off");
  if (!options_.use_registered_buffers) lose(&Capabilities::registered_buffers, "registered buffers are switched off");
  int error_number = 0;
  if (options_.use_uring) ring_ = Ring::make(error_number);
  if (!ring_) {
    std::string why = "io_uring is switched off";
    if (options_.use_uring) {
      why = "no io_uring (" + errno_text(error_number) + "): ";
      why += error_number == ENOMEM ? "the memlock limit is too small (ulimit -l)"
                                    : "a seccomp filter, or /proc/sys/kernel/io_uring_disabled";
    }
    lose(&Capabilities::uring, why + "; large writes go through pwrite");
    capabilities_.registered_buffers = false;
  }
}

PosixDisk::~PosixDisk() = default;

Result<std::unique_ptr<PosixDisk>> PosixDisk::open(const std::string& path, const PosixDiskOptions& options) {
  auto directory = open_directory(path);
  if (!directory) return fail(directory.error());
  return std::unique_ptr<PosixDisk>(new PosixDisk(std::move(*directory), options));
}

Result<std::unique_ptr<PosixDisk>> PosixDisk::open_at(const File& parent, const std::string& name,
                                                      const PosixDiskOptions& options) {
  auto directory = open_directory_at(parent, name);
  if (!directory) return fail(directory.error());
  return std::unique_ptr<PosixDisk>(new PosixDisk(std::move(*directory), options));
}

void PosixDisk::lose(bool Capabilities::*what, const std::string& why) {
  if (!(capabilities_.*what)) return;
  capabilities_.*what = false;
  if (!capabilities_.text.empty()) capabilities_.text += "; ";
  capabilities_.text += why;
}

// Null: no io_uring.
PosixDisk::Ring* PosixDisk::read_ring() {
  int error_number = 0;
  if (read_ring_ == nullptr && ring_ != nullptr) read_ring_ = Ring::make(error_number);
  return read_ring_.get();
}

std::string PosixDisk::name() const { return name_; }
Capabilities PosixDisk::capabilities() const { return capabilities_; }

Result<std::vector<std::string>> PosixDisk::list() { return list_directory(directory_); }

Result<std::unique_ptr<DiskFile>> PosixDisk::open_with(const std::string& name, int how) {
  const std::string path = path_text(directory_, name);
  const int flags = how | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  // Once the file system has refused, it is not asked again: one answer for all files of the log.
  int fd = -1;
  if (capabilities_.direct) {
    fd = ::openat(directory_.fd(), name.c_str(), flags | O_DIRECT, options_.file_mode);
    if (fd < 0 && errno == EINVAL) {
      if ((how & O_CREAT) != 0) ::unlinkat(directory_.fd(), name.c_str(), 0);  // Some make it and then refuse.
      lose(&Capabilities::direct, "the file system has no O_DIRECT: writes go through the page cache");
    }
  }
  if (!capabilities_.direct) fd = ::openat(directory_.fd(), name.c_str(), flags, options_.file_mode);
  if (fd < 0) {
    switch (errno) {
      case ENOENT: return fail(Code::kNoSuchQueue, path + " does not exist");
      case EEXIST: return fail(Code::kExists, path + " exists already");
      case ELOOP: return fail(Code::kPermission, path + " is a symbolic link; refusing to follow it");
      default: return fail_errno(errno, "cannot open " + path);
    }
  }
  File file(fd);
  struct stat info {};
  if (::fstat(fd, &info) != 0) return fail_errno(errno, "cannot look at " + path);
  if (!S_ISREG(info.st_mode)) return fail(Code::kPermission, path + " is not a regular file; refusing");
  return std::make_unique<PosixFile>(std::move(file), *this);
}

Result<std::unique_ptr<DiskFile>> PosixDisk::create(const std::string& name) {
  return open_with(name, O_RDWR | O_CREAT | O_EXCL);
}

Result<std::unique_ptr<DiskFile>> PosixDisk::open(const std::string& name, DiskAccess access) {
  return open_with(name, access == DiskAccess::read_only ? O_RDONLY : O_RDWR);
}

Status PosixDisk::rename(const std::string& from, const std::string& to) { return rename_in(directory_, from, to); }

Status PosixDisk::unlink(const std::string& name) {
  if (::unlinkat(directory_.fd(), name.c_str(), 0) == 0) return {};
  return fail_errno(errno, "cannot remove " + path_text(directory_, name));
}

Status PosixDisk::sync_directory() {
  if (!options_.sync) return {};
  if (::fsync(directory_.fd()) == 0) return {};
  return fail_errno(errno, "cannot sync directory " + path_text(directory_));
}

Status PosixDisk::lock_directory(u64 wait_ns) { return lock_with_limit(directory_, wait_ns); }

void PosixDisk::register_buffers(std::span<const std::span<u8>> buffers) {
  if (!ring_) return;
  if (buffers.empty() || !capabilities_.registered_buffers) {
    ring_->unregister_buffers();
    return;
  }
  if (const int error_number = ring_->register_buffers(buffers); error_number != 0) {
    lose(&Capabilities::registered_buffers,
         "no registered buffers (" + errno_text(error_number) + "): the memlock limit is too small (ulimit -l)");
  }
}

}  // namespace mooring::journal
