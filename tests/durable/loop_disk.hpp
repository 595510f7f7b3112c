// File systems on loop devices, in a mount namespace of the test's own: whatever becomes of the test, its mounts go
// with it, and a loop device frees itself with its last user. Needs root.
#pragma once

#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>

#include "durable_service.hpp"

namespace mooring::test {

// Once for the process; false: not permitted, errno says why.
inline bool has_own_mounts() {
  static const bool done =
      ::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
  return done;
}

inline int run(const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()); }

// One file system: ext4 or xfs on a loop device over a file. `trouble()`: why it is not there.
class LoopMount {
 public:
  // `mount_point` is a directory that is there. `direct`: the device does not cache the file.
  LoopMount(std::string type, const std::string& file, std::string mount_point, bool direct)
      : type_(std::move(type)), mount_point_(std::move(mount_point)) {
    if (!has_own_mounts()) {
      trouble_ = "no mounts of its own: " + std::string(std::strerror(errno));
      return;
    }
    const int fd = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) std::abort();
    attach(fd, direct);
    ::close(fd);
  }
  ~LoopMount() {
    if (is_mounted_) ::umount2(mount_point_.c_str(), MNT_DETACH);
    if (loop_ >= 0) ::close(loop_);
  }
  LoopMount(const LoopMount&) = delete;
  LoopMount& operator=(const LoopMount&) = delete;

  const std::string& trouble() const { return trouble_; }
  const std::string& mount_point() const { return mount_point_; }
  bool format() {
    const std::string command = type_ == "xfs" ? "mkfs.xfs -q -f -K " : "mkfs.ext4 -q -F -E nodiscard ";
    if (run(command + device_) == 0) return true;
    trouble_ = "mkfs." + type_ + " is not there or failed";
    return false;
  }
  bool mount() { return is_mounted_ = ::mount(device_.c_str(), mount_point_.c_str(), type_.c_str(), 0, "") == 0; }
  bool unmount() {
    // Whatever held it is dead, but the kernel may be some steps behind.
    return eventually([&] {
             const bool gone = ::umount2(mount_point_.c_str(), 0) == 0;
             is_mounted_ = !gone;
             return gone || errno != EBUSY;
           }) &&
           !is_mounted_;
  }
  // From here on nothing reaches the disk: what is not there is lost.
  bool cut() const {
    const int fd = ::open(mount_point_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    std::uint32_t no_flush = 2;
    const bool done = fd >= 0 && ::ioctl(fd, _IOR('X', 125, std::uint32_t), &no_flush) == 0;
    ::close(fd);
    return done;
  }

 private:
  void attach(int file, bool direct) {
    const int control = ::open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    for (int tries = 0; control >= 0 && tries < 64 && loop_ < 0; ++tries) {
      const int number = ::ioctl(control, LOOP_CTL_GET_FREE);
      if (number < 0) break;
      device_ = "/dev/loop" + std::to_string(number);
      loop_ = ::open(device_.c_str(), O_RDWR | O_CLOEXEC);
      loop_config config{};
      config.fd = static_cast<std::uint32_t>(file);
      config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
      if (direct) config.info.lo_flags |= LO_FLAGS_DIRECT_IO;
      if (loop_ >= 0 && ::ioctl(loop_, LOOP_CONFIGURE, &config) != 0) {  // somebody was quicker
        ::close(loop_);
        loop_ = -1;
      }
    }
    if (loop_ < 0) trouble_ = "no loop device: " + std::string(std::strerror(errno));
    if (control >= 0) ::close(control);
  }

  std::string type_;
  std::string mount_point_;
  std::string device_;
  std::string trouble_;
  int loop_ = -1;
  bool is_mounted_ = false;
};

// A directory in memory with a place to mount at.
class LoopPlace {
 public:
  LoopPlace() {
    std::string pattern = "/dev/shm/mooring-loop-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    root_ = pattern;
    ::mkdir(mount_point().c_str(), 0700);
  }
  ~LoopPlace() {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }
  LoopPlace(const LoopPlace&) = delete;
  LoopPlace& operator=(const LoopPlace&) = delete;
  const std::string& root() const { return root_; }
  std::string mount_point() const { return root_ + "/mounted"; }
  // Sparse.
  std::string image(std::uint64_t bytes) const {
    const std::string path = root_ + "/image";
    const int fd = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(bytes)) != 0) std::abort();
    ::close(fd);
    return path;
  }

 private:
  std::string root_;
};

// A file system in memory, formatted and mounted.
class LoopDisk : LoopPlace, public LoopMount {
 public:
  explicit LoopDisk(const std::string& type)
      : LoopMount(type, image(std::uint64_t{1} << 30), LoopPlace::mount_point(), /*direct=*/false) {
    if (!trouble().empty() || !format()) return;
    if (!mount()) std::abort();
  }
  using LoopMount::mount_point;
};

}  // namespace mooring::test
