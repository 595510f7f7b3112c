#include "platform/file.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>

namespace mooring {
namespace {

constexpr int kTreeDepthMax = 8;

Status check_name(const std::string& name) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
      name.find('\0') != std::string::npos) {
    return fail(Code::kBadArgument, "\"" + name + "\" is not a file name; give one name without a slash");
  }
  return {};
}

tl::unexpected<Error> fail_open(int error_number, const std::string& path) {
  switch (error_number) {
    case ELOOP: return fail(Code::kPermission, path + " is a symbolic link; refusing to follow it");
    case ENOENT: return fail(Code::kNoSuchQueue, path + " does not exist");
    case EEXIST: return fail(Code::kExists, path + " exists already");
    case ENXIO:
    case EISDIR: return fail(Code::kPermission, path + " is not a regular file; refusing");
    default: return fail_errno(error_number, "cannot open " + path);
  }
}

Status check_owner(const struct stat& info, std::optional<uid_t> expected_uid, const std::string& path) {
  if (expected_uid && info.st_uid != *expected_uid) {
    return fail(Code::kPermission, path + " belongs to user " + std::to_string(info.st_uid) + ", expected user " +
                                       std::to_string(*expected_uid) + "; refusing to use it");
  }
  return {};
}

// O_NOFOLLOW with O_DIRECTORY answers ENOTDIR for a link, so a second look tells the two apart for the message.
tl::unexpected<Error> fail_open_directory(int error_number, int parent_fd, const char* name, const std::string& path) {
  if (error_number == ENOTDIR) {
    struct stat info {};
    if (::fstatat(parent_fd, name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(info.st_mode)) {
      return fail_open(ELOOP, path);
    }
    return fail(Code::kPermission, path + " is not a directory; refusing");
  }
  return fail_open(error_number, path);
}

Result<File> open_directory_with(const File& parent, const std::string& name, std::optional<uid_t> expected_uid,
                                 int how) {
  if (auto good = check_name(name); !good) return fail(good.error());
  const std::string path = path_text(parent, name);
  File dir(::openat(parent.fd(), name.c_str(), how | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir.is_open()) return fail_open_directory(errno, parent.fd(), name.c_str(), path);
  struct stat info {};
  if (::fstat(dir.fd(), &info) != 0) return fail_errno(errno, "cannot look at " + path);
  if (auto ours = check_owner(info, expected_uid, path); !ours) return fail(ours.error());
  return dir;
}

// An interrupted fallocate on tmpfs starts over from nothing, so a periodic timer could hold it up for ever.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_{};
};

Status allocate(const File& file, u64 size_bytes, const std::string& path) {
  if (size_bytes == 0) return {};
  if (size_bytes > static_cast<u64>(std::numeric_limits<off_t>::max())) {
    return fail(Code::kTooBig, path + ": " + std::to_string(size_bytes) + " bytes are more than a file can have");
  }
  // Past this limit the kernel would kill the host process with SIGXFSZ.
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && size_bytes > limit.rlim_cur) {
    return fail(Code::kDiskFull, path + ": " + std::to_string(size_bytes) + " bytes are above the file size limit of " +
                                     "this process (" + std::to_string(limit.rlim_cur) + "); raise it with ulimit -f");
  }
  int error_number = 0;
  {
    SignalsBlocked blocked;
    // posix_fallocate writes zeros where the file system has no fallocate; it returns the error number.
    error_number = ::posix_fallocate(file.fd(), 0, static_cast<off_t>(size_bytes));
  }
  if (error_number == 0) return {};
  std::string text = "cannot reserve " + std::to_string(size_bytes) + " bytes for " + path;
  struct statfs fs {};
  if (error_number == ENOSPC && ::fstatfs(file.fd(), &fs) == 0 && fs.f_type == TMPFS_MAGIC) {
    const u64 size_of_fs_bytes = fs.f_blocks * static_cast<u64>(fs.f_bsize);
    text += ": /dev/shm (or the tmpfs of this path, " + std::to_string(size_of_fs_bytes) +
            " bytes in all) is too small; enlarge it (containers: --shm-size), remove queues, or ask for a smaller "
            "capacity";
    return fail(Code::kDiskFull, std::move(text));
  }
  return fail_errno(error_number, std::move(text));
}

Status write_all(const File& file, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file.fd(), bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return fail_errno(errno, "cannot write " + path);
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

Result<std::string> new_name() {
  std::array<u8, 8> random{};
  if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
    return fail_errno(errno, "cannot get random bytes");
  }
  std::string name = ".new-";
  for (const u8 byte : random) {
    name += "0123456789abcdef"[byte >> 4];
    name += "0123456789abcdef"[byte & 15];
  }
  return name;
}

Status remove_level(const File& dir, const std::string& name, int depth_left) {
  const std::string path = path_text(dir, name);
  if (::unlinkat(dir.fd(), name.c_str(), 0) == 0 || errno == ENOENT) return {};
  // Linux answers EISDIR for a directory, POSIX would have EPERM.
  if (errno != EISDIR && errno != EPERM) return fail_errno(errno, "cannot remove " + path);
  if (depth_left == 0) {
    return fail(Code::kCorrupt, path + " is nested deeper than any directory of ours; remove it by hand");
  }
  const int unlink_error = errno;
  const File child(::openat(dir.fd(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!child.is_open()) {
    if (errno == ENOENT) return {};
    return fail_errno(errno == ENOTDIR ? unlink_error : errno, "cannot remove " + path);
  }
  const auto names = list_directory(child);
  if (!names) return fail(names.error());
  for (const std::string& below : *names) {
    if (auto removed = remove_level(child, below, depth_left - 1); !removed) return removed;
  }
  if (::unlinkat(dir.fd(), name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
    return fail_errno(errno, "cannot remove directory " + path);
  }
  return {};
}

}  // namespace

void File::close() {
  // Linux has closed the descriptor even when it says EINTR; trying again could close somebody else's.
  if (fd_ >= 0) ::close(release());
}

std::string path_text(const File& file, std::string_view name) {
  std::array<char, 4096> buffer{};
  const std::string link = "/proc/self/fd/" + std::to_string(file.fd());
  const ssize_t size = ::readlink(link.c_str(), buffer.data(), buffer.size());
  std::string text = size > 0 ? std::string(buffer.data(), static_cast<std::size_t>(size)) : link;
  if (!name.empty()) {
    text += '/';
    text += name;
  }
  return text;
}

Result<File> open_directory(const std::string& path) {
  File dir(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir.is_open()) return fail_open_directory(errno, AT_FDCWD, path.c_str(), path);
  return dir;
}

Result<File> open_directory_at(const File& parent, const std::string& name, std::optional<uid_t> expected_uid) {
  auto dir = open_directory_with(parent, name, expected_uid, O_RDONLY);
  // Search permission alone is enough for names that one knows. A link or a foreign owner is refused here again.
  if (!dir && dir.error().code == Code::kPermission) return open_directory_with(parent, name, expected_uid, O_PATH);
  return dir;
}

Status make_directory(const File& parent, const std::string& name, mode_t mode, gid_t gid) {
  if (auto good = check_name(name); !good) return good;
  const std::string path = path_text(parent, name);
  if (::mkdirat(parent.fd(), name.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail_errno(errno, "cannot make directory " + path);
  }
  // O_PATH: under a strange umask we could not read our own directory yet.
  auto dir = open_directory_with(parent, name, ::geteuid(), O_PATH);
  if (!dir) {
    if (dir.error().code == Code::kPermission) dir.error().text += " (somebody may be squatting on the name)";
    return fail(dir.error());
  }
  return set_group_and_mode(*dir, mode, gid, path);
}

Result<File> create_file(const File& dir, const std::string& name, mode_t mode, u64 size_bytes, gid_t gid) {
  if (auto good = check_name(name); !good) return fail(good.error());
  const std::string path = path_text(dir, name);
  File file(::openat(dir.fd(), name.c_str(), O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_RDWR, 0600));
  if (!file.is_open()) return fail_open(errno, path);
  Status done = allocate(file, size_bytes, path);
  if (done) done = set_group_and_mode(file, mode, gid, path);
  if (!done) {
    // A failed allocation may still hold every block that was free.
    ::unlinkat(dir.fd(), name.c_str(), 0);
    return fail(done.error());
  }
  return file;
}

Result<File> open_file(const File& dir, const std::string& name, Access access, std::optional<uid_t> expected_uid) {
  if (auto good = check_name(name); !good) return fail(good.error());
  const std::string path = path_text(dir, name);
  const int how = access == Access::read_write ? O_RDWR : O_RDONLY;
  File file(::openat(dir.fd(), name.c_str(), how | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file.is_open()) return fail_open(errno, path);
  struct stat info {};
  if (::fstat(file.fd(), &info) != 0) return fail_errno(errno, "cannot look at " + path);
  if (!S_ISREG(info.st_mode)) return fail(Code::kPermission, path + " is not a regular file; refusing");
  if (auto ours = check_owner(info, expected_uid, path); !ours) return fail(ours.error());
  return file;
}

Status set_group_and_mode(const File& file, mode_t mode, gid_t gid, const std::string& path) {
  // The group first: a change of group clears set-id bits.
  if (gid != kAnyGroup && ::fchownat(file.fd(), "", static_cast<uid_t>(-1), gid, AT_EMPTY_PATH) != 0) {
    return fail_errno(errno, "cannot give " + path + " to group " + std::to_string(gid));
  }
  if (::fchmod(file.fd(), mode) == 0) return {};
  // fchmod refuses an O_PATH descriptor; its /proc link takes chmod, and leads to nothing else.
  if (errno == EBADF && ::chmod(("/proc/self/fd/" + std::to_string(file.fd())).c_str(), mode) == 0) return {};
  return fail_errno(errno, "cannot set the mode of " + path);
}

Result<u64> file_size(const File& file) {
  struct stat info {};
  if (::fstat(file.fd(), &info) != 0) return fail_errno(errno, "cannot look at " + path_text(file));
  return static_cast<u64>(info.st_size);
}

Status grow_file(const File& file, u64 size_bytes) { return allocate(file, size_bytes, path_text(file)); }

Status rename_in(const File& dir, const std::string& from, const std::string& to) {
  if (auto good = check_name(from); !good) return good;
  if (auto good = check_name(to); !good) return good;
  if (::renameat2(dir.fd(), from.c_str(), dir.fd(), to.c_str(), RENAME_NOREPLACE) == 0) return {};
  if (errno == EEXIST) return fail(Code::kExists, path_text(dir, to) + " exists already");
  if (errno == ENOENT) return fail(Code::kNoSuchQueue, path_text(dir, from) + " does not exist");
  return fail_errno(errno, "cannot rename " + path_text(dir, from) + " to " + to);
}

Status remove_tree(const File& dir, const std::string& name) {
  if (auto good = check_name(name); !good) return good;
  return remove_level(dir, name, kTreeDepthMax);
}

Result<std::vector<std::string>> list_directory(const File& dir) {
  // Opened anew: a duplicate would share, and move, the position of the caller's description.
  File again(::openat(dir.fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!again.is_open()) return fail_errno(errno, "cannot list " + path_text(dir));
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(again.fd()), &::closedir);
  if (!stream) return fail_errno(errno, "cannot list " + path_text(dir));
  static_cast<void>(again.release());  // The stream owns it now.
  std::vector<std::string> names;
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) {
      if (errno != 0) return fail_errno(errno, "cannot list " + path_text(dir));
      break;
    }
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<bool> try_lock(const File& file) {
  while (::flock(file.fd(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR) return fail_errno(errno, "cannot lock " + path_text(file));
  }
  return true;
}

Status write_whole_file(const File& dir, const std::string& name, std::string_view bytes, mode_t mode) {
  if (auto good = check_name(name); !good) return good;
  const auto temporary = new_name();
  if (!temporary) return fail(temporary.error());
  const auto file = create_file(dir, *temporary, mode, 0);
  if (!file) return fail(file.error());
  const std::string path = path_text(dir, name);
  Status done = write_all(*file, bytes, path);
  // Without this a power cut may leave the new name with no bytes behind it.
  if (done && ::fsync(file->fd()) != 0) done = fail_errno(errno, "cannot sync " + path);
  if (done && ::renameat(dir.fd(), temporary->c_str(), dir.fd(), name.c_str()) != 0) {
    done = fail_errno(errno, "cannot replace " + path);
  }
  if (!done) ::unlinkat(dir.fd(), temporary->c_str(), 0);
  return done;
}

Result<std::string> read_to_end(const File& file, u64 max_bytes, const std::string& what) {
  max_bytes = std::min<u64>(max_bytes, std::numeric_limits<u64>::max() - 1);
  std::string bytes;
  std::array<char, 4096> buffer{};
  while (bytes.size() <= max_bytes) {
    const u64 wanted = std::min<u64>(buffer.size(), max_bytes + 1 - bytes.size());
    const ssize_t got = ::read(file.fd(), buffer.data(), wanted);
    if (got < 0) {
      if (errno == EINTR) continue;
      return fail_errno(errno, "cannot read " + what);
    }
    if (got == 0) break;
    bytes.append(buffer.data(), static_cast<std::size_t>(got));
  }
  return bytes;
}

Result<std::string> read_whole_file(const File& dir, const std::string& name, u64 max_bytes,
                                    std::optional<uid_t> expected_uid) {
  const auto file = open_file(dir, name, Access::read_only, expected_uid);
  if (!file) return fail(file.error());
  auto bytes = read_to_end(*file, max_bytes, path_text(dir, name));
  if (bytes && bytes->size() > max_bytes) {
    return fail(Code::kTooBig, path_text(dir, name) + " has more than the " + std::to_string(max_bytes) +
                                   " bytes expected; it is not a file of ours");
  }
  return bytes;
}

}  // namespace mooring
