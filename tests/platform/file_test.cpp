// Shows that file.* makes what it was asked for, exactly or not at all, and refuses whatever an attacker or a crash
// may have left under a name. On real directories in /dev/shm; a small tmpfs of our own where it must be full.

#include "platform/file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <fstream>
#include <limits>

#include "scratch.hpp"

namespace mooring {
namespace {

struct stat look_at(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(::lstat(path.c_str(), &info), 0) << path;
  return info;
}

void write_text(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

TEST(File, OwnsItsDescriptorOnce) {
  ScratchDirectory scratch;
  File first = take(create_file(scratch.dir(), "a", 0600, 0));
  const int fd = first.fd();
  File second = std::move(first);
  EXPECT_FALSE(first.is_open());
  EXPECT_EQ(second.fd(), fd);
  second = File();
  EXPECT_EQ(::fcntl(fd, F_GETFD), -1);
}

TEST(File, IsClosedOnExec) {
  ScratchDirectory scratch;
  const File file = take(create_file(scratch.dir(), "a", 0600, 0));
  EXPECT_EQ(::fcntl(file.fd(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  EXPECT_EQ(::fcntl(scratch.dir().fd(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

TEST(CreateFile, HasExactlyTheModeWhateverTheUmask) {
  ScratchDirectory scratch;
  const mode_t before = ::umask(0777);
  const auto file = create_file(scratch.dir(), "a", 0664, 100);
  ::umask(before);
  MOORING_EXPECT_OK(file);
  EXPECT_EQ(look_at(scratch.path("a")).st_mode & 07777, 0664U);
}

TEST(CreateFile, ReservesEveryBlock) {
  ScratchDirectory scratch;
  const File file = take(create_file(scratch.dir(), "a", 0600, 1 << 20));
  EXPECT_EQ(take(file_size(file)), 1U << 20);
  EXPECT_GE(look_at(scratch.path("a")).st_blocks * 512, 1 << 20);
}

TEST(CreateFile, RefusesAnExistingName) {
  ScratchDirectory scratch;
  write_text(scratch.path("a"), "mine");
  MOORING_EXPECT_FAILS(create_file(scratch.dir(), "a", 0600, 100), Code::kExists, scratch.path("a"));
  EXPECT_EQ(take(read_whole_file(scratch.dir(), "a", 100)), "mine");
}

TEST(CreateFile, DoesNotWriteThroughADanglingLink) {
  ScratchDirectory scratch;
  ASSERT_EQ(::symlink(scratch.path("target").c_str(), scratch.path("a").c_str()), 0);
  EXPECT_FALSE(create_file(scratch.dir(), "a", 0600, 100).has_value());
  EXPECT_NE(::access(scratch.path("target").c_str(), F_OK), 0);
}

TEST(CreateFile, GivesTheFileToAGroup) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to give a file to a group that is not ours";
  ScratchDirectory scratch;
  MOORING_EXPECT_OK(create_file(scratch.dir(), "a", 0660, 100, 4321));
  EXPECT_EQ(look_at(scratch.path("a")).st_gid, 4321U);
  EXPECT_EQ(look_at(scratch.path("a")).st_mode & 07777, 0660U);
}

TEST(CreateFile, RefusesASizeNoFileCanHave) {
  ScratchDirectory scratch;
  MOORING_EXPECT_FAILS(create_file(scratch.dir(), "a", 0600, std::numeric_limits<u64>::max()), Code::kTooBig, "a");
  EXPECT_TRUE(take(list_directory(scratch.dir())).empty());
}

TEST(CreateFile, RefusesNamesThatLeaveTheDirectory) {
  ScratchDirectory scratch;
  for (const char* name : {"", ".", "..", "../a", "a/b", "/a"}) {
    MOORING_EXPECT_FAILS(create_file(scratch.dir(), name, 0600, 0), Code::kBadArgument, "file name");
  }
}

TEST(CreateFile, OnAFullTmpfsFailsCleanlyAndLeavesNothing) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to mount a small tmpfs";
  ScratchDirectory scratch;
  // A mount namespace of this child alone: nothing stays mounted, however it ends.
  Child child([&scratch] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", scratch.path().c_str(), "tmpfs", 0, "size=256k") != 0) {
      return 77;
    }
    const File dir = take(open_directory(scratch.path()));
    const auto file = create_file(dir, "lane", 0600, 1 << 20);
    if (file || file.error().code != Code::kDiskFull) return 1;
    for (const std::string& part : {scratch.path("lane"), std::string("1048576"), std::string("/dev/shm")}) {
      if (file.error().text.find(part) == std::string::npos) return 2;
    }
    if (!take(list_directory(dir)).empty()) return 3;
    // All space is back: what fits can be made.
    return create_file(dir, "small", 0600, 128 * 1024) ? 0 : 4;
  });
  const int code = child.exit_code();
  if (code == 77) GTEST_SKIP() << "this root may not mount a tmpfs";
  EXPECT_EQ(code, 0);
}

TEST(CreateFile, AboveTheFileSizeLimitIsAnErrorAndNoSignal) {
  ScratchDirectory scratch;
  Child child([&scratch] {
    const rlimit limit{4096, 4096};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 77;
    const auto file = create_file(scratch.dir(), "lane", 0600, 1 << 20);
    return !file && file.error().code == Code::kDiskFull ? 0 : 1;
  });
  EXPECT_EQ(child.exit_code(), 0);
}

TEST(OpenFile, RefusesASymbolicLink) {
  ScratchDirectory scratch;
  write_text(scratch.path("target"), "secret");
  ASSERT_EQ(::symlink("target", scratch.path("a").c_str()), 0);
  MOORING_EXPECT_FAILS(open_file(scratch.dir(), "a", Access::read_only), Code::kPermission,
                       "is a symbolic link; refusing");
  MOORING_EXPECT_FAILS(open_file(scratch.dir(), "a", Access::read_write), Code::kPermission, scratch.path("a"));
}

TEST(OpenFile, RefusesAFifoWithoutWaiting) {
  ScratchDirectory scratch;
  ASSERT_EQ(::mkfifo(scratch.path("a").c_str(), 0600), 0);
  MOORING_EXPECT_FAILS(open_file(scratch.dir(), "a", Access::read_only), Code::kPermission, "not a regular file");
  MOORING_EXPECT_FAILS(open_file(scratch.dir(), "a", Access::read_write), Code::kPermission, "not a regular file");
}

TEST(OpenFile, RefusesADirectory) {
  ScratchDirectory scratch;
  ASSERT_EQ(::mkdir(scratch.path("a").c_str(), 0700), 0);
  MOORING_EXPECT_FAILS(open_file(scratch.dir(), "a", Access::read_only), Code::kPermission, "not a regular file");
  MOORING_EXPECT_FAILS(open_file(scratch.dir(), "a", Access::read_write), Code::kPermission, "not a regular file");
}

TEST(OpenFile, RefusesAnotherOwner) {
  ScratchDirectory scratch;
  write_text(scratch.path("a"), "x");
  MOORING_EXPECT_OK(open_file(scratch.dir(), "a", Access::read_only, ::geteuid()));
  MOORING_EXPECT_FAILS(open_file(scratch.dir(), "a", Access::read_only, ::geteuid() + 1), Code::kPermission,
                       "belongs to user");
}

TEST(OpenFile, SaysThatAMissingFileIsMissing) {
  ScratchDirectory scratch;
  MOORING_EXPECT_FAILS(open_file(scratch.dir(), "a", Access::read_only), Code::kNoSuchQueue, scratch.path("a"));
}

TEST(OpenFile, ReadOnlyCannotWrite) {
  ScratchDirectory scratch;
  write_text(scratch.path("a"), "x");
  const File file = take(open_file(scratch.dir(), "a", Access::read_only));
  EXPECT_EQ(::write(file.fd(), "y", 1), -1);
}

TEST(OpenDirectory, RefusesALinkAndAFile) {
  ScratchDirectory scratch;
  write_text(scratch.path("file"), "x");
  ASSERT_EQ(::symlink("/dev/shm", scratch.path("link").c_str()), 0);
  MOORING_EXPECT_FAILS(open_directory(scratch.path("link")), Code::kPermission, "symbolic link");
  MOORING_EXPECT_FAILS(open_directory(scratch.path("file")), Code::kPermission, "not a directory");
  MOORING_EXPECT_FAILS(open_directory(scratch.path("none")), Code::kNoSuchQueue, "does not exist");
  MOORING_EXPECT_FAILS(open_directory_at(scratch.dir(), "link"), Code::kPermission, "symbolic link");
  MOORING_EXPECT_FAILS(open_directory_at(scratch.dir(), "file"), Code::kPermission, "not a directory");
}

TEST(MakeDirectory, HasExactlyTheModeAndMayBeThereAlready) {
  ScratchDirectory scratch;
  const mode_t before = ::umask(0777);
  const auto made = make_directory(scratch.dir(), "a", 0750);
  ::umask(before);
  MOORING_EXPECT_OK(made);
  EXPECT_EQ(look_at(scratch.path("a")).st_mode & 07777, 0750U);
  MOORING_EXPECT_OK(make_directory(scratch.dir(), "a", 0700));
  EXPECT_EQ(look_at(scratch.path("a")).st_mode & 07777, 0700U);
}

TEST(MakeDirectory, RefusesASquattedName) {
  ScratchDirectory scratch;
  write_text(scratch.path("file"), "x");
  MOORING_EXPECT_FAILS(make_directory(scratch.dir(), "file", 0700), Code::kPermission, "squatting");
  ASSERT_EQ(::symlink("/dev/shm", scratch.path("link").c_str()), 0);
  MOORING_EXPECT_FAILS(make_directory(scratch.dir(), "link", 0700), Code::kPermission, "squatting");
}

TEST(MakeDirectory, RefusesADirectoryOfAnotherUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to make a directory of another user";
  ScratchDirectory scratch;
  ASSERT_EQ(::mkdir(scratch.path("a").c_str(), 0777), 0);
  ASSERT_EQ(::chown(scratch.path("a").c_str(), 12345, 12345), 0);
  MOORING_EXPECT_FAILS(make_directory(scratch.dir(), "a", 0700), Code::kPermission, "squatting");
  MOORING_EXPECT_FAILS(open_directory_at(scratch.dir(), "a", ::geteuid()), Code::kPermission, "belongs to user 12345");
  MOORING_EXPECT_OK(open_directory_at(scratch.dir(), "a"));
}

TEST(RenameIn, NeverReplaces) {
  ScratchDirectory scratch;
  write_text(scratch.path("a"), "a");
  write_text(scratch.path("b"), "b");
  MOORING_EXPECT_FAILS(rename_in(scratch.dir(), "a", "b"), Code::kExists, scratch.path("b"));
  MOORING_EXPECT_OK(rename_in(scratch.dir(), "a", "c"));
  MOORING_EXPECT_FAILS(rename_in(scratch.dir(), "a", "d"), Code::kNoSuchQueue, scratch.path("a"));
  EXPECT_EQ(take(list_directory(scratch.dir())), (std::vector<std::string>{"b", "c"}));
}

TEST(RemoveTree, TakesEverythingButNotWhatLinksPointTo) {
  ScratchDirectory scratch;
  ASSERT_TRUE(std::filesystem::create_directories(scratch.path("a/b/c")));
  ASSERT_TRUE(std::filesystem::create_directories(scratch.path("outside")));
  write_text(scratch.path("a/b/c/file"), "x");
  write_text(scratch.path("outside/file"), "x");
  ASSERT_EQ(::symlink(scratch.path("outside").c_str(), scratch.path("a/link").c_str()), 0);
  ASSERT_EQ(::symlink(scratch.path("outside").c_str(), scratch.path("link").c_str()), 0);
  MOORING_EXPECT_OK(remove_tree(scratch.dir(), "a"));
  MOORING_EXPECT_OK(remove_tree(scratch.dir(), "link"));
  MOORING_EXPECT_OK(remove_tree(scratch.dir(), "not there"));
  EXPECT_EQ(take(list_directory(scratch.dir())), std::vector<std::string>{"outside"});
  EXPECT_EQ(look_at(scratch.path("outside/file")).st_size, 1);
}

TEST(RemoveTree, GivesUpOnAnAbsurdDepth) {
  ScratchDirectory scratch;
  std::string path = "a";
  for (int i = 0; i < 20; ++i) path += "/a";
  ASSERT_TRUE(std::filesystem::create_directories(scratch.path(path)));
  MOORING_EXPECT_FAILS(remove_tree(scratch.dir(), "a"), Code::kCorrupt, "deeper");
}

TEST(ListDirectory, IsCompleteAndSortedEachTime) {
  ScratchDirectory scratch;
  for (const char* name : {"c", "a", "b"}) write_text(scratch.path(name), "");
  const std::vector<std::string> expected{"a", "b", "c"};
  EXPECT_EQ(take(list_directory(scratch.dir())), expected);
  EXPECT_EQ(take(list_directory(scratch.dir())), expected);
}

TEST(TryLock, IsExclusiveBetweenProcessesAndEndsWithItsHolder) {
  ScratchDirectory scratch;
  const File ours = take(create_file(scratch.dir(), "lock", 0600, 0));
  Signal locked;
  Child holder([&] {
    const File theirs = take(open_file(scratch.dir(), "lock", Access::read_write));
    if (!take(try_lock(theirs)) || !take(try_lock(theirs))) return 1;
    locked.notify();
    wait_to_be_killed();
  });
  locked.wait();
  EXPECT_FALSE(take(try_lock(ours)));
  holder.kill(SIGKILL);
  holder.wait();
  EXPECT_TRUE(take(try_lock(ours)));
}

TEST(WholeFile, IsReplacedAtOnce) {
  ScratchDirectory scratch;
  MOORING_EXPECT_OK(write_whole_file(scratch.dir(), "a", "first", 0600));
  const File before = take(open_file(scratch.dir(), "a", Access::read_only));
  const std::string second(10000, 's');
  MOORING_EXPECT_OK(write_whole_file(scratch.dir(), "a", second, 0640));
  EXPECT_EQ(take(read_whole_file(scratch.dir(), "a", 10000)), second);
  EXPECT_EQ(look_at(scratch.path("a")).st_mode & 07777, 0640U);
  // Whoever had it open keeps the old bytes, whole.
  EXPECT_EQ(take(read_to_end(before, 100, "a")), "first");
  EXPECT_EQ(take(list_directory(scratch.dir())), std::vector<std::string>{"a"});
}

TEST(WholeFile, LeavesNothingBehindWhenItCannotReplace) {
  ScratchDirectory scratch;
  ASSERT_EQ(::mkdir(scratch.path("a").c_str(), 0700), 0);
  MOORING_EXPECT_FAILS(write_whole_file(scratch.dir(), "a", "text", 0600), Code::kIo, scratch.path("a"));
  EXPECT_EQ(take(list_directory(scratch.dir())), std::vector<std::string>{"a"});
}

TEST(WholeFile, TooBigIsRefused) {
  ScratchDirectory scratch;
  write_text(scratch.path("a"), "12345");
  EXPECT_EQ(take(read_whole_file(scratch.dir(), "a", 5)), "12345");
  MOORING_EXPECT_FAILS(read_whole_file(scratch.dir(), "a", 4), Code::kTooBig, scratch.path("a"));
}

}  // namespace
}  // namespace mooring
