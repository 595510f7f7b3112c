#include "journal/reading_disk.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace mooring::journal {

class ReadingDisk::ReadingFile final : public DiskFile {
 public:
  explicit ReadingFile(File file) : file_(std::move(file)) {}
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
  Status write(u64, std::span<const u8>) override { return refused(); }
  Status submit(u64, std::span<const u8>) override { return refused(); }
  Status reap() override { return refused(); }
  Status sync() override { return refused(); }
  Status lock(u64) override { return refused(); }

 private:
  tl::unexpected<Error> refused() const { return fail(Code::kPermission, path_text(file_) + " is open for reading"); }
  File file_;
};

ReadingDisk::ReadingDisk(File directory) : directory_(std::move(directory)), name_(path_text(directory_)) {}

Result<std::unique_ptr<ReadingDisk>> ReadingDisk::open(const std::string& path) {
  Result<File> directory = open_directory(path);
  if (!directory) return fail(directory.error());
  return std::unique_ptr<ReadingDisk>(new ReadingDisk(std::move(*directory)));
}

std::string ReadingDisk::name() const { return name_; }
Capabilities ReadingDisk::capabilities() const { return {direct_, false, false, {}}; }
Result<std::vector<std::string>> ReadingDisk::list() { return list_directory(directory_); }

Result<std::unique_ptr<DiskFile>> ReadingDisk::open(const std::string& name, DiskAccess access) {
  if (access != DiskAccess::read_only) return refused();
  const int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  int fd = -1;
  if (direct_) {
    fd = ::openat(directory_.fd(), name.c_str(), flags | O_DIRECT);
    if (fd < 0 && errno == EINVAL) direct_ = false;
  }
  if (!direct_) fd = ::openat(directory_.fd(), name.c_str(), flags);
  const std::string path = name_ + "/" + name;
  if (fd < 0) {
    if (errno == ENOENT) return fail(Code::kNoSuchQueue, path + " does not exist");
    if (errno == ELOOP) return fail(Code::kPermission, path + " is a symbolic link; refusing to follow it");
    return fail_errno(errno, "cannot open " + path);
  }
  File file(fd);
  struct stat info {};
  if (::fstat(fd, &info) != 0) return fail_errno(errno, "cannot look at " + path);
  if (!S_ISREG(info.st_mode)) return fail(Code::kPermission, path + " is not a regular file; refusing");
  return std::make_unique<ReadingFile>(std::move(file));
}

tl::unexpected<Error> ReadingDisk::refused() const {
  return fail(Code::kPermission, name_ + " is open for reading");
}
Result<std::unique_ptr<DiskFile>> ReadingDisk::create(const std::string&) { return refused(); }
Status ReadingDisk::rename(const std::string&, const std::string&) { return refused(); }
Status ReadingDisk::unlink(const std::string&) { return refused(); }
Status ReadingDisk::sync_directory() { return refused(); }
Status ReadingDisk::lock_directory(u64) { return refused(); }
void ReadingDisk::register_buffers(std::span<const std::span<u8>>) {}

}  // namespace mooring::journal
