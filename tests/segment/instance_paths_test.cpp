// Shows where an instance is looked for, which directories are made and which are refused, and that the same directory,
// however it is spelled, leads every process to the same shared memory.

#include "segment/instance_paths.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>

#include "platform/scratch.hpp"
#include "segment/queue_files.hpp"

namespace mooring {
namespace {

mode_t mode_of(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(::stat(path.c_str(), &info), 0) << path;
  return info.st_mode & 07777;
}

// Each case begins without the variables that it may set.
class InstancePathsTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"MOORING_INSTANCE", "MOORING_SHM_ROOT", "XDG_RUNTIME_DIR"}) ::unsetenv(name);
  }
  ScratchDirectory scratch_;
};

TEST_F(InstancePathsTest, MissingInstanceTellsHowToStartOne) {
  MOORING_EXPECT_FAILS(resolve_instance(scratch_.path("none"), false), Code::kNoSupervisor, "mooringd --instance ");
  EXPECT_FALSE(std::filesystem::exists(scratch_.path("none")));
}

TEST_F(InstancePathsTest, CreateMakesAPrivateDirectoryWhateverTheUmask) {
  const mode_t before = ::umask(0777);
  const auto made = resolve_instance(scratch_.path("here"), true);
  ::umask(before);
  MOORING_EXPECT_OK(made);
  EXPECT_EQ(mode_of(scratch_.path("here")), 0700U);
  EXPECT_EQ(made->directory, scratch_.path("here"));
  EXPECT_EQ(made->owner, ::geteuid());
}

TEST_F(InstancePathsTest, ExistingDirectoryKeepsItsMode) {
  ASSERT_EQ(::mkdir(scratch_.path("here").c_str(), 0700), 0);
  ASSERT_EQ(::chmod(scratch_.path("here").c_str(), 0750), 0);
  MOORING_EXPECT_OK(resolve_instance(scratch_.path("here"), true));
  EXPECT_EQ(mode_of(scratch_.path("here")), 0750U);
}

TEST_F(InstancePathsTest, MissingParentIsAnError) {
  MOORING_EXPECT_FAILS(resolve_instance(scratch_.path("a/b"), true), Code::kIo, scratch_.path("a/b"));
}

TEST_F(InstancePathsTest, EverySpellingNamesTheSameMemory) {
  const InstancePaths plain = take(resolve_instance(scratch_.path("here"), true));
  ASSERT_EQ(::symlink("here", scratch_.path("link").c_str()), 0);
  const std::string up_and_down = "../" + scratch_.path().substr(std::string("/dev/shm/").size()) + "/here";
  for (const std::string& spelling :
       {std::string("here/"), std::string("./here"), up_and_down, std::string("link"), std::string("link/.")}) {
    EXPECT_EQ(take(resolve_instance(scratch_.path(spelling), false)).shared_directory, plain.shared_directory)
        << spelling;
  }
  EXPECT_NE(take(resolve_instance(scratch_.path("other"), true)).shared_directory, plain.shared_directory);
  EXPECT_TRUE(plain.shared_directory.starts_with("/dev/shm/mooring-" + std::to_string(::geteuid()) + "-"));
  EXPECT_EQ(plain.shared_directory.size() - plain.shared_directory.rfind('-') - 1, 16U);
}

TEST_F(InstancePathsTest, EnvironmentNamesInstanceAndMemory) {
  ::setenv("MOORING_INSTANCE", scratch_.path("here").c_str(), 1);
  ::setenv("MOORING_SHM_ROOT", scratch_.path().c_str(), 1);
  const InstancePaths paths = take(resolve_instance("", true));
  EXPECT_EQ(paths.directory, scratch_.path("here"));
  EXPECT_TRUE(paths.shared_directory.starts_with(scratch_.path() + "/mooring-")) << paths.shared_directory;
  ::setenv("MOORING_SHM_ROOT", scratch_.path("none").c_str(), 1);
  MOORING_EXPECT_FAILS(resolve_instance("", true), Code::kIo, "MOORING_SHM_ROOT");
}

TEST_F(InstancePathsTest, ArgumentIsStrongerThanTheEnvironment) {
  ::setenv("MOORING_INSTANCE", scratch_.path("other").c_str(), 1);
  EXPECT_EQ(take(resolve_instance(scratch_.path("here"), true)).directory, scratch_.path("here"));
}

TEST_F(InstancePathsTest, FileInPlaceOfTheDirectoryIsRefused) {
  MOORING_EXPECT_OK(create_file(scratch_.dir(), "here", 0600, 0));
  MOORING_EXPECT_FAILS(resolve_instance(scratch_.path("here"), true), Code::kPermission, "not a directory");
}

TEST_F(InstancePathsTest, ForeignOwnerOfTheInstanceOwnsTheMemory) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to give a directory away";
  MOORING_EXPECT_OK(resolve_instance(scratch_.path("here"), true));
  ASSERT_EQ(::chown(scratch_.path("here").c_str(), 4321, 4321), 0);
  const InstancePaths paths = take(resolve_instance(scratch_.path("here"), false));
  EXPECT_EQ(paths.owner, 4321U);
  EXPECT_TRUE(paths.shared_directory.starts_with("/dev/shm/mooring-4321-"));
  MOORING_EXPECT_FAILS(open_shared_directory(paths.shared_directory, paths.owner, true), Code::kPermission,
                       "as that user");
}

TEST_F(InstancePathsTest, UsersDefaultIsTheirRuntimeDirectoryElseTheirsInTmp) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  ASSERT_EQ(::chown(scratch_.path().c_str(), 54321, 54321), 0);
  Child child([this] {
    if (::setgid(54321) != 0 || ::setuid(54321) != 0) return 77;
    ::setenv("XDG_RUNTIME_DIR", scratch_.path().c_str(), 1);
    const auto runtime = resolve_instance("", true);
    if (!runtime || runtime->directory != scratch_.path("mooring")) return 1;
    ::setenv("XDG_RUNTIME_DIR", "not/absolute", 1);
    const auto tmp = resolve_instance("", true);
    if (!tmp || tmp->directory != "/tmp/mooring-54321" || mode_of(tmp->directory) != 0700) return 2;
    // A link of the user's own in that place is not followed either.
    if (::rmdir("/tmp/mooring-54321") != 0 || ::symlink(scratch_.path().c_str(), "/tmp/mooring-54321") != 0) return 3;
    const auto linked = resolve_instance("", false);
    ::unlink("/tmp/mooring-54321");
    if (linked || linked.error().code != Code::kPermission) return 4;
    const auto none = resolve_instance("", false);
    return !none && none.error().code == Code::kNoSupervisor ? 0 : 5;
  });
  EXPECT_EQ(child.exit_code(), 0);
}

TEST_F(InstancePathsTest, SquattedDefaultInTmpIsRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  const std::string squatted = "/tmp/mooring-54322";
  ASSERT_EQ(::mkdir(squatted.c_str(), 0777), 0);
  Child child([] {
    if (::setuid(54322) != 0) return 77;
    const auto paths = resolve_instance("", true);
    return !paths && paths.error().code == Code::kPermission ? 0 : 1;
  });
  EXPECT_EQ(child.exit_code(), 0);
  ::rmdir(squatted.c_str());
}

TEST_F(InstancePathsTest, SharedDirectoryCanBeReachedButNotListedByOthers) {
  const std::string path = scratch_.path("mooring-0-0123456789abcdef");
  MOORING_EXPECT_FAILS(open_shared_directory(path, ::geteuid(), false), Code::kNoSupervisor, "mooringd");
  MOORING_EXPECT_OK(open_shared_directory(path, ::geteuid(), true));
  EXPECT_EQ(mode_of(path), 0711U);
  MOORING_EXPECT_OK(open_shared_directory(path, ::geteuid(), true));
  MOORING_EXPECT_OK(open_shared_directory(path, ::geteuid(), false));
  MOORING_EXPECT_FAILS(open_shared_directory(path, ::geteuid() + 1, false), Code::kPermission, "belongs to user");
}

}  // namespace
}  // namespace mooring
