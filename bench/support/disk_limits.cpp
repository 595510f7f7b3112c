#include "bench/support/disk_limits.hpp"

#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "bench/support/clock.hpp"
#include "bench/support/processes.hpp"
#include "bench/support/samples.hpp"
#include "bench/support/shared_memory.hpp"
#include "platform/file.hpp"

namespace mooring::bench {

namespace {

constexpr u64 kFileBytes = u64{128} << 20;
constexpr u64 kBlockBytes = u64{1} << 20;
constexpr u64 kSourceBytes = u64{64} << 20;
constexpr u64 kFrameOverheadBytes = 24;  // a header of 16 bytes and a hash of 8, as a queue's frames need them

struct Free {
  void operator()(u8* bytes) const { std::free(bytes); }
};
using Buffer = std::unique_ptr<u8, Free>;
Buffer aligned(u64 bytes) {
  Buffer buffer(static_cast<u8*>(std::aligned_alloc(4096, bytes)));
  if (buffer != nullptr) std::memset(buffer.get(), 0x5a, bytes);
  return buffer;
}

struct DiskBoard {
  LatencyHistogram commits;
  u64 messages;
  u64 start_ticks;
  u64 end_ticks;
};

// A pre-written file that is gone when it is closed.
Result<File> prewritten(const std::string& directory) {
  const std::string path = directory + "/limit-XXXXXX";
  std::string name = path;
  const int made = ::mkostemp(name.data(), O_CLOEXEC);
  if (made < 0) return fail_errno(errno, "cannot make a file for the limit in " + directory);
  ::close(made);
  int fd = ::open(name.c_str(), O_RDWR | O_CLOEXEC | O_DIRECT);
  if (fd < 0 && errno == EINVAL) fd = ::open(name.c_str(), O_RDWR | O_CLOEXEC);  // no O_DIRECT there
  File file(fd);
  ::unlink(name.c_str());
  if (!file.is_open()) return fail_errno(errno, "cannot open " + name);
  const Buffer zeros = aligned(kBlockBytes);
  if (zeros == nullptr) return fail(Code::kNoMemory, "no memory for a block of the limit");
  for (u64 at = 0; at < kFileBytes; at += kBlockBytes) {
    if (::pwrite(file.fd(), zeros.get(), kBlockBytes, static_cast<off_t>(at)) != static_cast<ssize_t>(kBlockBytes)) {
      return fail_errno(errno, "cannot fill the file of the limit in " + directory);
    }
  }
  if (::fdatasync(file.fd()) != 0) return fail_errno(errno, "cannot sync the file of the limit in " + directory);
  return file;
}

Status commit_blocks(RoleContext& role, DiskBoard& board, const File& file, double seconds) {
  const Buffer block = aligned(4096);
  if (block == nullptr) return fail(Code::kNoMemory, "no memory for a block of the limit");
  board.commits = LatencyHistogram{};
  if (Status started = role.wait_for_start(); !started) return started;
  board.start_ticks = ticks_now();
  const u64 end = board.start_ticks + seconds_to_ticks(seconds);
  u64 at = 0;
  u64 last = ticks_now();
  while (last < end) {
    std::memcpy(block.get(), &last, sizeof last);
    if (::pwrite(file.fd(), block.get(), 4096, static_cast<off_t>(at)) != 4096 || ::fdatasync(file.fd()) != 0) {
      return fail_errno(errno, "writing the file of the limit");
    }
    const u64 now = ticks_now();
    board.commits.record(now - last);
    last = now;
    ++board.messages;
    at = (at + 4096) % kFileBytes;
  }
  board.end_ticks = last;
  return {};
}

class CommitRing {
 public:
  CommitRing() : ready_(::io_uring_queue_init(4, &ring_, 0) == 0) {}
  CommitRing(const CommitRing&) = delete;
  CommitRing& operator=(const CommitRing&) = delete;
  ~CommitRing() {
    if (ready_) ::io_uring_queue_exit(&ring_);
  }
  // Without io_uring the write is done on the spot: nothing overlaps, and the limit is what this machine can do.
  bool send(int fd, const u8* bytes, u64 at) {
    if (!ready_) return ::pwrite(fd, bytes, kBlockBytes, static_cast<off_t>(at)) == static_cast<ssize_t>(kBlockBytes);
    io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
    ::io_uring_prep_write(entry, fd, bytes, kBlockBytes, at);
    return ::io_uring_submit(&ring_) == 1;
  }
  bool reap() {
    if (!ready_) return true;
    io_uring_cqe* done = nullptr;
    int waited = 0;
    while ((waited = ::io_uring_wait_cqe(&ring_, &done)) == -EINTR) {
    }
    if (waited != 0) return false;
    const bool whole = done->res == static_cast<int>(kBlockBytes);
    ::io_uring_cqe_seen(&ring_, done);
    return whole;
  }

 private:
  io_uring ring_{};
  bool ready_;
};

Status commit_stream(RoleContext& role, DiskBoard& board, const File& file, u64 size_bytes, double seconds) {
  const std::array<Buffer, 2> blocks{aligned(kBlockBytes), aligned(kBlockBytes)};
  const Buffer source = aligned(kSourceBytes);
  if (blocks[0] == nullptr || blocks[1] == nullptr || source == nullptr) {
    return fail(Code::kNoMemory, "no memory for the blocks of the limit");
  }
  CommitRing ring;
  u64 source_at = 0;
  const u64 frame_bytes = align_up(size_bytes + kFrameOverheadBytes, 8);
  const auto fill = [&](u8* block) {
    u64 count = 0;
    for (u64 at = 64; at + frame_bytes <= kBlockBytes; at += frame_bytes, ++count) {
      if (source_at + size_bytes > kSourceBytes) source_at = 0;
      std::memcpy(block + at + kFrameOverheadBytes, source.get() + source_at, size_bytes);
      std::memcpy(block + at, &count, sizeof count);
      source_at += align_up(size_bytes, 64);
    }
    const u64 hash = XXH3_64bits(block + 64, kBlockBytes - 64);
    std::memcpy(block, &hash, sizeof hash);
    return count;
  };
  if (Status started = role.wait_for_start(); !started) return started;
  board.start_ticks = ticks_now();
  const u64 end = board.start_ticks + seconds_to_ticks(seconds);
  u64 at = 0;
  unsigned turn = 0;
  u64 count = fill(blocks[0].get());
  while (ticks_now() < end) {
    if (!ring.send(file.fd(), blocks[turn % 2].get(), at)) return fail(Code::kIo, "the write of the limit failed");
    at = (at + kBlockBytes) % kFileBytes;
    const u64 next = fill(blocks[(turn + 1) % 2].get());
    if (!ring.reap()) return fail(Code::kIo, "the write of the limit failed");
    if (::fdatasync(file.fd()) != 0) return fail_errno(errno, "syncing the file of the limit");
    board.messages += count;
    count = next;
    ++turn;
  }
  board.end_ticks = ticks_now();
  return {};
}

template <class Body>
Result<Measurement> measure_disk(const char* name, const std::string& directory, const LimitOptions& options,
                                 bool is_latency, Body&& body) {
  auto file = prewritten(directory);
  if (!file) return fail(file.error());
  auto shared_board = Shared<DiskBoard>::create();
  if (!shared_board) return fail(shared_board.error());
  DiskBoard& board = **shared_board;
  const std::array<Role, 1> roles{Role{name, [&](RoleContext& role) { return body(role, board, *file); }}};
  const auto outcome = run_roles(roles, {seconds_to_watchdog_ns(options.seconds), options.nice_value});
  if (!outcome) return fail(outcome.error());
  Measurement result;
  result.name = name;
  result.messages = board.messages;
  if (is_latency) {
    result.latency = board.commits.summary();
  } else {
    result.messages_per_second = rate_per_second(board.messages, board.start_ticks, board.end_ticks);
  }
  return result;
}

}  // namespace

Result<Measurement> write_and_flush(const std::string& directory, const LimitOptions& options) {
  return measure_disk("write_and_flush_4k", directory, options, /*is_latency=*/true,
                      [&](RoleContext& role, DiskBoard& board, const File& file) {
                        return commit_blocks(role, board, file, options.seconds);
                      });
}

Result<Measurement> ideal_group_commit(const std::string& directory, u64 size_bytes, const LimitOptions& options) {
  if (size_bytes + kFrameOverheadBytes + 64 > kBlockBytes) {
    return fail(Code::kBadArgument, "ideal_group_commit: messages of " + std::to_string(size_bytes) +
                                        " bytes do not fit its blocks of 1 MiB; choose a smaller size");
  }
  auto result = measure_disk("ideal_group_commit", directory, options, /*is_latency=*/false,
                             [&](RoleContext& role, DiskBoard& board, const File& file) {
                               return commit_stream(role, board, file, size_bytes, options.seconds);
                             });
  if (result) {
    result->size_bytes = size_bytes;
    result->bytes_per_second = *result->messages_per_second * static_cast<double>(size_bytes);
  }
  return result;
}

}  // namespace mooring::bench
