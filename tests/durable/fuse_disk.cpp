#include "fuse_disk.hpp"

#define FUSE_USE_VERSION 312
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "loop_disk.hpp"

namespace mooring::test {
namespace {

constexpr std::uint64_t kLogBytes = std::uint64_t{16} << 30;  // of address space; memory comes as it is written
constexpr std::uint64_t kChunk = std::uint64_t{64} << 10;
constexpr fuse_ino_t kFile = 2;

std::uint8_t* map_memory(std::uint64_t bytes, int flags) {
  void* place = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return place == MAP_FAILED ? nullptr : static_cast<std::uint8_t*>(place);
}

bool is_zero(const char* bytes, std::size_t count) {
  return count == 0 || (bytes[0] == 0 && std::memcmp(bytes, bytes + 1, count - 1) == 0);
}

}  // namespace

struct FuseDisk::Shared {
  std::array<std::atomic<std::uint64_t>, kMarks> marks{};
  std::atomic<std::uint64_t> log_end{0};
  std::atomic<std::uint64_t> records{0};
  std::atomic<std::uint64_t> to_hold{0};
  std::atomic<std::uint64_t> hold_bytes_min{0};
  std::atomic<std::uint64_t> held{0};
  std::atomic<bool> landing{false};
  std::atomic<bool> stalled{false};
};

// In the process of the server.
class FuseDisk::Server {
 public:
  Server(Shared* shared, std::uint8_t* log, std::uint64_t bytes, int bell)
      : shared_(shared), log_(log), bytes_(bytes), bell_(bell), disk_(map_memory(bytes, MAP_PRIVATE)) {}

  // Says a byte to `ready` once it is mounted; returns when it is unmounted.
  int serve(const std::string& mount_point, int ready) {
    fuse_lowlevel_ops calls{};
    calls.init = [](void*, fuse_conn_info* connection) {
      connection->max_write = 1U << 20;
      connection->want &= ~static_cast<unsigned>(FUSE_CAP_WRITEBACK_CACHE);
    };
    calls.lookup = [](fuse_req_t request, fuse_ino_t parent, const char* name) {
      if (parent != FUSE_ROOT_ID || std::strcmp(name, "disk") != 0) {
        fuse_reply_err(request, ENOENT);
        return;
      }
      fuse_entry_param entry{};
      entry.ino = kFile;
      entry.attr = self(request).attributes(kFile);
      entry.attr_timeout = 1e6;
      entry.entry_timeout = 1e6;
      fuse_reply_entry(request, &entry);
    };
    calls.getattr = [](fuse_req_t request, fuse_ino_t inode, fuse_file_info*) {
      const struct stat attributes = self(request).attributes(inode);
      fuse_reply_attr(request, &attributes, 1e6);
    };
    calls.setattr = [](fuse_req_t request, fuse_ino_t inode, struct stat*, int, fuse_file_info*) {
      const struct stat attributes = self(request).attributes(inode);
      fuse_reply_attr(request, &attributes, 1e6);
    };
    calls.open = [](fuse_req_t request, fuse_ino_t, fuse_file_info* file) { fuse_reply_open(request, file); };
    calls.read = [](fuse_req_t request, fuse_ino_t, std::size_t size, off_t offset, fuse_file_info*) {
      const Server& server = self(request);
      const std::uint64_t begin = std::min(static_cast<std::uint64_t>(offset), server.bytes_);
      const std::uint64_t count = std::min<std::uint64_t>(size, server.bytes_ - begin);
      fuse_reply_buf(request, reinterpret_cast<const char*>(server.disk_ + begin), count);
    };
    calls.write = [](fuse_req_t request, fuse_ino_t, const char* data, std::size_t size, off_t offset,
                     fuse_file_info*) { self(request).write(request, data, size, static_cast<std::uint64_t>(offset)); };
    calls.fsync = [](fuse_req_t request, fuse_ino_t, int, fuse_file_info*) {
      self(request).record({.type = Record::kFlush}, nullptr);
      fuse_reply_err(request, 0);
    };
    calls.flush = [](fuse_req_t request, fuse_ino_t, fuse_file_info*) { fuse_reply_err(request, 0); };
    calls.release = [](fuse_req_t request, fuse_ino_t, fuse_file_info*) { fuse_reply_err(request, 0); };
    const char* words[] = {"mooring-disk", "-o", "fsname=mooring-disk"};
    fuse_args arguments = FUSE_ARGS_INIT(3, const_cast<char**>(words));
    fuse_session* session = fuse_session_new(&arguments, &calls, sizeof calls, this);
    if (disk_ == nullptr || session == nullptr || fuse_session_mount(session, mount_point.c_str()) != 0) return 1;
    if (::write(ready, "m", 1) != 1) return 1;
    fuse_buf buffer{};
    while (fuse_session_exited(session) == 0) {
      const bool stalled = shared_->stalled.load();
      pollfd polled[2] = {{bell_, POLLIN, 0}, {stalled ? -1 : fuse_session_fd(session), POLLIN, 0}};
      if (::poll(polled, 2, -1) < 0 && errno != EINTR) break;
      if ((polled[0].revents & POLLIN) != 0) {
        std::uint64_t rung = 0;
        (void)!::read(bell_, &rung, sizeof rung);
        if (shared_->landing.exchange(false)) land();
      }
      if (polled[1].revents == 0) continue;
      const int got = fuse_session_receive_buf(session, &buffer);
      if (got == -EINTR) continue;
      if (got <= 0) break;
      fuse_session_process_buf(session, &buffer);
    }
    return 0;
  }

 private:
  struct Held {
    fuse_req_t request = nullptr;
    std::uint64_t offset = 0;
    std::vector<char> bytes;
  };

  static Server& self(fuse_req_t request) { return *static_cast<Server*>(fuse_req_userdata(request)); }

  struct stat attributes(fuse_ino_t inode) const {
    struct stat result {};
    result.st_ino = inode;
    result.st_mode = inode == kFile ? S_IFREG | 0600 : S_IFDIR | 0700;
    result.st_nlink = 1;
    result.st_size = inode == kFile ? static_cast<off_t>(bytes_) : 0;
    result.st_blocks = result.st_size / 512;
    result.st_blksize = 4096;
    return result;
  }

  void record(Record record, const char* data) {
    for (std::size_t i = 0; i < kMarks; ++i) record.marks[i] = shared_->marks[i].load();
    record.is_zero = data == nullptr || is_zero(data, record.bytes) ? 1 : 0;
    const std::uint64_t kept = record.is_zero != 0 ? 0 : record.bytes;
    std::uint64_t end = shared_->log_end.load();
    if (end + sizeof record + kept > kLogBytes) std::abort();
    std::memcpy(log_ + end, &record, sizeof record);
    if (kept != 0) std::memcpy(log_ + end + sizeof record, data, kept);
    end += sizeof record + (kept + 7) / 8 * 8;
    shared_->log_end.store(end);
    shared_->records.fetch_add(1);
  }
  void apply(const char* data, std::size_t size, std::uint64_t offset) {
    record({.type = Record::kWrite, .offset = offset, .bytes = size}, data);
    std::memcpy(disk_ + offset, data, size);
  }
  void write(fuse_req_t request, const char* data, std::size_t size, std::uint64_t offset) {
    if (offset + size > bytes_) {
      fuse_reply_err(request, ENOSPC);
      return;
    }
    if (shared_->to_hold.load() != 0 && size >= shared_->hold_bytes_min.load() && !is_zero(data, size)) {
      shared_->to_hold.fetch_sub(1);
      held_.push_back({request, offset, std::vector<char>(data, data + size)});
      shared_->held.store(held_.size());
      return;
    }
    apply(data, size, offset);
    fuse_reply_write(request, size);
  }
  void land() {
    for (const Held& one : held_) {
      apply(one.bytes.data(), one.bytes.size(), one.offset);
      fuse_reply_write(one.request, one.bytes.size());
    }
    held_.clear();
    shared_->held.store(0);
  }

  Shared* shared_;
  std::uint8_t* log_;
  std::uint64_t bytes_;
  int bell_;
  std::uint8_t* disk_;
  std::vector<Held> held_;
};

FuseDisk::FuseDisk(std::uint64_t bytes) : bytes_(bytes) {
  std::string pattern = "/dev/shm/mooring-fuse-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) std::abort();
  mount_point_ = pattern;
  if (!has_own_mounts()) {
    trouble_ = "no mounts of its own: " + std::string(std::strerror(errno));
    return;
  }
  if (::access("/dev/fuse", R_OK | W_OK) != 0) {
    trouble_ = "/dev/fuse: " + std::string(std::strerror(errno));
    return;
  }
  std::uint8_t* shared = map_memory(sizeof(Shared), MAP_SHARED);
  log_ = map_memory(kLogBytes, MAP_SHARED);
  bell_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  int ready[2];
  if (shared == nullptr || log_ == nullptr || bell_ < 0 || ::pipe2(ready, O_CLOEXEC) != 0) std::abort();
  shared_ = new (shared) Shared;
  const pid_t parent = ::getpid();
  server_ = ::fork();
  if (server_ < 0) std::abort();
  if (server_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(126);
    ::close(ready[0]);
    ::_exit(Server(shared_, log_, bytes_, bell_).serve(mount_point_, ready[1]));
  }
  ::close(ready[1]);
  if (read_byte(ready[0]) != 'm') trouble_ = "FUSE cannot be mounted here";
  ::close(ready[0]);
}

FuseDisk::~FuseDisk() {
  if (server_ > 0) {
    stall(false);
    ::umount2(mount_point_.c_str(), MNT_DETACH);
    ::kill(server_, SIGKILL);
    wait_for_exit(server_);
  }
  if (bell_ >= 0) ::close(bell_);
  if (shared_ != nullptr) ::munmap(shared_, sizeof(Shared));
  if (log_ != nullptr) ::munmap(log_, kLogBytes);
  ::rmdir(mount_point_.c_str());
}

std::atomic<std::uint64_t>& FuseDisk::mark(std::size_t which) { return shared_->marks[which]; }
std::uint64_t FuseDisk::recorded() const { return shared_->records.load(); }
std::uint64_t FuseDisk::held() const { return shared_->held.load(); }

void FuseDisk::hold_writes(std::uint64_t count, std::uint64_t bytes_min) const {
  shared_->hold_bytes_min.store(bytes_min);
  shared_->to_hold.store(count);
}

void FuseDisk::land() const {
  shared_->to_hold.store(0);
  shared_->landing.store(true);
  const std::uint64_t one = 1;
  if (::write(bell_, &one, sizeof one) != sizeof one) std::abort();
}

void FuseDisk::stall(bool stalled) const {
  shared_->stalled.store(stalled);
  const std::uint64_t one = 1;
  if (::write(bell_, &one, sizeof one) != sizeof one) std::abort();
}

std::vector<FuseDisk::Entry> FuseDisk::entries() const {
  std::vector<Entry> found;
  const std::uint64_t end = shared_->log_end.load();
  for (std::uint64_t at = 0; at < end;) {
    Entry entry;
    std::memcpy(&entry.record, log_ + at, sizeof entry.record);
    at += sizeof entry.record;
    if (entry.record.type == Record::kWrite && entry.record.is_zero == 0) {
      entry.data = log_ + at;
      at += (entry.record.bytes + 7) / 8 * 8;
    }
    found.push_back(entry);
  }
  return found;
}

// ---- Cuts --------------------------------------------------------------------------------------------------------

CutDisk::CutDisk(std::uint64_t bytes, std::vector<FuseDisk::Entry> entries, std::vector<Extent> fine)
    : bytes_(bytes),
      entries_(std::move(entries)),
      fine_(std::move(fine)),
      base_(map_memory(bytes, MAP_PRIVATE)),
      touched_((bytes + kChunk - 1) / kChunk, false) {
  if (base_ == nullptr) std::abort();
}

CutDisk::~CutDisk() { ::munmap(base_, bytes_); }

void CutDisk::put(std::uint8_t* disk, std::uint64_t offset, std::uint64_t bytes, const std::uint8_t* data) const {
  if (data != nullptr) {
    std::memcpy(disk + offset, data, bytes);
  } else {
    std::memset(disk + offset, 0, bytes);
  }
}

// What became of a write that no flush covers.
void CutDisk::put_some(std::uint8_t* disk, const FuseDisk::Entry& entry, std::mt19937_64& random) const {
  const std::uint64_t begin = entry.record.offset;
  const std::uint64_t end = begin + entry.record.bytes;
  const bool is_fine =
      std::ranges::any_of(fine_, [&](const Extent& extent) { return extent.begin <= begin && end <= extent.end; });
  const std::uint64_t sector = is_fine ? 512 : 4096;
  const std::uint64_t sectors = (entry.record.bytes + sector - 1) / sector;
  const std::uint64_t fate = random() % 4;
  if (fate == 0) return;
  const std::uint64_t whole_until = fate == 2 ? random() % (sectors + 1) : sectors;
  for (std::uint64_t i = 0; i < whole_until; ++i) {
    if (fate == 3 && random() % 2 == 0) continue;
    const std::uint64_t at = i * sector;
    put(disk, begin + at, std::min(sector, entry.record.bytes - at), entry.data == nullptr ? nullptr : entry.data + at);
  }
}

void CutDisk::make(std::size_t at, std::mt19937_64& random, const std::string& file) {
  std::size_t flushed = at;
  while (flushed > applied_ && entries_[flushed - 1].record.type != FuseDisk::Record::kFlush) --flushed;
  for (; applied_ < flushed; ++applied_) {
    const FuseDisk::Entry& entry = entries_[applied_];
    if (entry.record.type != FuseDisk::Record::kWrite) continue;
    // Zeros over zeros: segments that are made ahead.
    for (std::uint64_t begin = entry.record.offset; begin < entry.record.offset + entry.record.bytes;) {
      const std::uint64_t end = std::min(entry.record.offset + entry.record.bytes, (begin / kChunk + 1) * kChunk);
      if (entry.data != nullptr || touched_[begin / kChunk]) {
        touched_[begin / kChunk] = true;
        put(base_, begin, end - begin, entry.data == nullptr ? nullptr : entry.data + (begin - entry.record.offset));
      }
      begin = end;
    }
  }
  const int fd = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0 || ::ftruncate(fd, 0) != 0 || ::ftruncate(fd, static_cast<off_t>(bytes_)) != 0) std::abort();
  void* place = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (place == MAP_FAILED) std::abort();
  ::close(fd);
  auto* disk = static_cast<std::uint8_t*>(place);
  for (std::size_t chunk = 0; chunk < touched_.size(); ++chunk) {
    if (!touched_[chunk]) continue;
    const std::uint64_t begin = chunk * kChunk;
    std::memcpy(disk + begin, base_ + begin, std::min(kChunk, bytes_ - begin));
  }
  for (std::size_t i = applied_; i < at; ++i) {
    if (entries_[i].record.type == FuseDisk::Record::kWrite) put_some(disk, entries_[i], random);
  }
  ::munmap(place, bytes_);
}

}  // namespace mooring::test
