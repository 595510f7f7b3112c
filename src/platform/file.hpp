// Files and directories: what the shared files of a queue need from the kernel, and nothing else.
//
// Every name is one component below a directory that is already open, so that no step of a path can be exchanged
// between two calls. Symbolic links are never followed, whatever is opened is looked at afterwards through its own
// descriptor (type and owner), and modes are set exactly: the umask of the caller plays no part.
//
// Codes: a missing file or directory is kNoSuchQueue (the vocabulary's word for "not there"), one that is there
// already kExists, a link, a foreign owner or a wrong type kPermission, no space kDiskFull.
//
// TESTED BY  platform/file_test
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace mooring {

inline constexpr gid_t kAnyGroup = static_cast<gid_t>(-1);

// Owns a file descriptor. Not only of files: sockets, pidfds, timers and epoll sets are Files too.
class File {
 public:
  File() = default;
  explicit File(int fd) : fd_(fd) {}
  File(File&& other) noexcept : fd_(other.release()) {}
  File& operator=(File&& other) noexcept {
    if (this != &other) {
      close();
      fd_ = other.release();
    }
    return *this;
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { close(); }

  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  // The caller owns the descriptor from here on.
  int release() { return std::exchange(fd_, -1); }
  void close();

 private:
  int fd_ = -1;
};

enum class Access { read_only, read_write };

// For error texts: where the descriptor points, as far as the kernel can tell, with "/name" appended if given.
std::string path_text(const File& file, std::string_view name = {});

// The last component may not be a symbolic link; earlier ones may (the caller names the path and is trusted with it).
Result<File> open_directory(const std::string& path);
// Refuses links, non-directories, and another owner than `expected_uid` if one is given.
Result<File> open_directory_at(const File& parent, const std::string& name,
                               std::optional<uid_t> expected_uid = std::nullopt);
// Makes the directory, or takes one that is there, if it is a directory of our own (anything else is squatting:
// kPermission). Afterwards it has exactly `mode` and, if given, the group.
Status make_directory(const File& parent, const std::string& name, mode_t mode, gid_t gid = kAnyGroup);

// A new file with all of its blocks allocated, so that a full file system is an error here and not a SIGBUS at some
// later store. Nothing is left behind on failure. Until it is complete nobody but the owner may open it.
Result<File> create_file(const File& dir, const std::string& name, mode_t mode, u64 size_bytes, gid_t gid = kAnyGroup);
// An existing regular file. Never waits, whatever is found under the name (a FIFO is refused, not waited on).
Result<File> open_file(const File& dir, const std::string& name, Access access,
                       std::optional<uid_t> expected_uid = std::nullopt);
Result<u64> file_size(const File& file);
// Makes the file at least this long, with all of its blocks allocated; what is in it stays.
Status grow_file(const File& file, u64 size_bytes);
// Exactly this mode and, if given, this group. O_PATH descriptors are fine; `path` is the object named in an error.
Status set_group_and_mode(const File& file, mode_t mode, gid_t gid, const std::string& path);

// Never replaces what is there: kExists.
Status rename_in(const File& dir, const std::string& from, const std::string& to);
// Removes a file, or a directory with all that is in it, at most 8 levels deep. What is not there counts as removed.
Status remove_tree(const File& dir, const std::string& name);
// Names in byte order, without "." and "..".
Result<std::vector<std::string>> list_directory(const File& dir);

// An exclusive lock on this open file description (flock): true if held from now on, false if somebody else has it.
// It ends when the last copy of the descriptor is closed, which a killed process cannot forget.
Result<bool> try_lock(const File& file);

// Replaces the file at once: a reader sees the old bytes or the new ones, also after a power cut. A process killed
// half-way leaves a file named ".new-*" behind.
Status write_whole_file(const File& dir, const std::string& name, std::string_view bytes, mode_t mode);
// kTooBig when there are more than `max_bytes`.
Result<std::string> read_whole_file(const File& dir, const std::string& name, u64 max_bytes,
                                    std::optional<uid_t> expected_uid = std::nullopt);

// Reads from the current position to the end, at most max_bytes + 1 (so that a caller can tell "more"). For the
// small files of /proc and our own; `what` is the object named in an error.
Result<std::string> read_to_end(const File& file, u64 max_bytes, const std::string& what);

}  // namespace mooring
