// Shows: the log lives on real files of the file systems here, with io_uring and without (refused by a seccomp filter,
// switched off, no locked memory), with O_DIRECT and without; two writers exclude each other; a killed one does not.
// How: write, close, read again with another disk object; restrictions are put on in a child process, which reports
// by its exit status.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <seccomp.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>

#include "journal/posix_disk.hpp"
#include "journal/recovery.hpp"
#include "support/payload.hpp"

namespace mooring::test {
namespace {

using journal::Capabilities;
using journal::LogOptions;
using journal::LogVisitor;
using journal::MessageView;
using journal::PosixDisk;
using journal::PosixDiskOptions;

class Directory {
 public:
  explicit Directory(const std::string& below = "/var/tmp") {
    std::string pattern = below + "/mooring-journal-XXXXXX";
    path = ::mkdtemp(pattern.data()) == nullptr ? std::string() : pattern;
  }
  ~Directory() { std::filesystem::remove_all(path); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  std::string path;
};

LogOptions small_options() {
  LogOptions options;
  options.uuid[3] = 9;
  options.segment_bytes = u64{4} << 20;
  options.small_segment_bytes = u64{512} << 10;
  options.block_bytes = u64{32} << 10;  // Some messages are larger, and have a block of their own.
  options.direct_write_bytes_max = u64{8} << 10;
  options.message_bytes_max = u64{1} << 20;
  options.lock_wait_ns = 10'000'000;
  return options;
}

class Collector : public LogVisitor {
 public:
  void message(const MessageView& message) override {
    good = good && message.seq == next && message.bytes.size() == size_of(message.seq) &&
           std::equal(message.bytes.begin(), message.bytes.end(), payload_of(message.seq, message.bytes.size()));
    ++next;
  }
  static u64 size_of(u64 seq) { return mix(seq) % (seq % 10 == 0 ? 60'000 : 500); }
  u64 next = 0;
  bool good = true;
};

// Small and large blocks, with the next one filled while one is in flight. Empty: all is well.
std::string write_some(PosixDisk& disk, u64 count) {
  Collector before;
  auto log = journal::open_log(disk, small_options(), before);
  if (!log) return log.error().text;
  journal::LogWriter& writer = *log->writer;
  if (auto prepared = writer.prepare(); !prepared) return prepared.error().text;
  for (u64 i = 0; i < count; ++i) {
    const u64 seq = writer.next_seq();
    const u64 size = Collector::size_of(seq);
    Status done = writer.append_message({seq, 0, 0, {payload_of(seq, size), size}});
    if (!done && done.error().code == Code::kFull) {
      if (done = writer.begin_flush(); !done) return done.error().text;
      done = writer.append_message({seq, 0, 0, {payload_of(seq, size), size}});
    }
    if (!done) return done.error().text;
  }
  if (auto done = writer.flush(); !done) return done.error().text;
  if (writer.durable().next_seq != writer.next_seq()) return "not all durable";
  return {};
}

std::string read_back(PosixDisk& disk, u64 count) {
  Collector after;
  const auto scan = journal::scan_log(disk, {small_options().uuid}, after);
  if (!scan) return scan.error().text;
  if (!journal::goes_on(journal::decide(scan->facts))) return "damaged";
  if (!after.good) return "other bytes";
  return after.next == count ? "" : "there are " + std::to_string(after.next);
}

std::string round_trip(const std::string& path, const PosixDiskOptions& options,
                       const std::function<std::string(const Capabilities&)>& check = {}) {
  constexpr u64 kCount = 700;
  for (u64 round = 1; round <= 2; ++round) {
    auto disk = PosixDisk::open(path, options);
    if (!disk) return disk.error().text;
    if (auto wrong = write_some(**disk, kCount); !wrong.empty()) return wrong;
    if (check) {
      if (auto wrong = check((*disk)->capabilities()); !wrong.empty()) return wrong;
    }
    disk->reset();
    auto again = PosixDisk::open(path);
    if (!again) return again.error().text;
    if (auto wrong = read_back(**again, round * kCount); !wrong.empty()) return wrong;
  }
  return {};
}

// Runs `body` in a child; its text comes back through a pipe.
std::string in_child(const std::function<std::string()>& body) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) return "no pipe";
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string text = body();
    if (!text.empty()) static_cast<void>(!::write(ends[1], text.data(), text.size()));
    ::_exit(text.empty() ? 0 : 1);
  }
  ::close(ends[1]);
  std::string text;
  std::array<char, 512> buffer{};
  for (ssize_t got = 0; (got = ::read(ends[0], buffer.data(), buffer.size())) > 0;) {
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (text.empty() && status != 0) text = "the child ended with status " + std::to_string(status);
  return text;
}

TEST(PosixDisk, KeepsALogOnARealFileSystem) {
  const Directory directory;
  EXPECT_EQ(round_trip(directory.path, {}), "");
}

TEST(PosixDisk, KeepsALogWhereThereIsNoDirectWriting) {
  const Directory directory;
  EXPECT_EQ(round_trip(directory.path, {.use_direct = false},
                       [](const Capabilities& has) { return has.direct ? "direct" : ""; }),
            "");
}

// tmpfs takes O_DIRECT from Linux 6.6 on and refuses it before: either way the log is kept.
TEST(PosixDisk, KeepsALogInSharedMemory) {
  const Directory directory("/dev/shm");
  EXPECT_EQ(round_trip(directory.path, {}), "");
}

TEST(PosixDisk, WorksWithTheRingSwitchedOff) {
  const Directory directory;
  EXPECT_EQ(round_trip(directory.path, {.use_uring = false},
                       [](const Capabilities& has) {
                         return has.uring || has.text.find("io_uring") == std::string::npos ? has.text + "?" : "";
                       }),
            "");
}

class Denied : public testing::TestWithParam<int> {};

TEST_P(Denied, ASeccompFilterOnTheRingIsToldAndWorkedAround) {
  const Directory directory;
  const int error_number = GetParam();
  EXPECT_EQ(in_child([&]() -> std::string {
              scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
              if (filter == nullptr ||
                  seccomp_rule_add(filter, SCMP_ACT_ERRNO(static_cast<u16>(error_number)), SCMP_SYS(io_uring_setup),
                                   0) != 0 ||
                  seccomp_load(filter) != 0) {
                return "no seccomp filter";
              }
              seccomp_release(filter);
              return round_trip(directory.path, {}, [](const Capabilities& has) {
                return has.uring || has.text.find("seccomp") == std::string::npos ? has.text + "?" : "";
              });
            }),
            "");
}
INSTANTIATE_TEST_SUITE_P(Errors, Denied, testing::Values(EPERM, ENOSYS));

TEST(PosixDisk, RefusedRegistrationFallsBackToPlainBuffers) {
  const Directory directory;
  EXPECT_EQ(in_child([&]() -> std::string {
              scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
              if (filter == nullptr ||
                  seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOMEM), SCMP_SYS(io_uring_register), 0) != 0 ||
                  seccomp_load(filter) != 0) {
                return "no seccomp filter";
              }
              seccomp_release(filter);
              return round_trip(directory.path, {}, [](const Capabilities& has) {
                return has.registered_buffers || has.text.empty() ? has.text + "?" : "";
              });
            }),
            "");
}

// As another user, because root is not bound by the limit.
class Memlock : public testing::TestWithParam<u64> {};

TEST_P(Memlock, LittleLockedMemoryIsWorkedAround) {
  const Directory directory;
  std::filesystem::permissions(directory.path, std::filesystem::perms::all);
  EXPECT_EQ(in_child([&]() -> std::string {
              const rlimit limit{GetParam(), GetParam()};
              if (::setrlimit(RLIMIT_MEMLOCK, &limit) != 0) return "";  // Cannot be lowered here: nothing to show.
              if (::geteuid() == 0 && ::setuid(65534) != 0) return "cannot become nobody";
              return round_trip(directory.path, {});
            }),
            "");
}
INSTANTIATE_TEST_SUITE_P(Bytes, Memlock, testing::Values(u64{0}, u64{64} << 10, u64{8} << 20));

TEST(PosixDisk, TwoWritersExcludeEachOther) {
  const Directory directory;
  auto one = PosixDisk::open(directory.path);
  auto two = PosixDisk::open(directory.path);
  ASSERT_TRUE(one && two);
  LogVisitor nobody;
  const auto log = journal::open_log(**one, small_options(), nobody);
  ASSERT_TRUE(log) << log.error().text;
  const auto other = journal::open_log(**two, small_options(), nobody);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, Code::kTimeout);
}

TEST(PosixDisk, AKilledWriterIsSucceededAndNothingAnnouncedIsLost) {
  const Directory directory;
  for (int round = 0; round < 5; ++round) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      auto disk = PosixDisk::open(directory.path);
      LogVisitor nobody;
      LogOptions options = small_options();
      options.lock_wait_ns = 10'000'000'000;
      auto log = journal::open_log(**disk, options, nobody);
      if (!log) ::_exit(1);
      while (true) {
        for (int i = 0; i < 50; ++i) {
          const u64 seq = log->writer->next_seq();
          const u64 size = Collector::size_of(seq);
          const auto appended = log->writer->append_message({seq, 0, 0, {payload_of(seq, size), size}});
          if (!appended && appended.error().code != Code::kFull) ::_exit(2);
        }
        if (!log->writer->flush()) ::_exit(3);
        const u64 announced = log->writer->durable().next_seq;
        if (::write(ends[1], &announced, sizeof(announced)) != sizeof(announced)) ::_exit(4);
      }
    }
    ::close(ends[1]);
    u64 announced = 0;
    for (int i = 0; i < 5; ++i) ASSERT_EQ(::read(ends[0], &announced, sizeof(announced)), ssize_t{sizeof(announced)});
    ::kill(child, SIGKILL);
    for (u64 more = 0; ::read(ends[0], &more, sizeof(more)) == ssize_t{sizeof(more)};) announced = more;
    int status = 0;
    ::waitpid(child, &status, 0);
    ::close(ends[0]);
    auto disk = PosixDisk::open(directory.path);
    ASSERT_TRUE(disk);
    Collector after;
    LogOptions options = small_options();
    options.lock_wait_ns = 10'000'000'000;
    const auto log = journal::open_log(**disk, options, after);
    ASSERT_TRUE(log) << log.error().text;
    EXPECT_TRUE(after.good);
    EXPECT_GE(after.next, announced);
    EXPECT_EQ(log->recovered.next_seq, after.next);
  }
}

}  // namespace
}  // namespace mooring::test
