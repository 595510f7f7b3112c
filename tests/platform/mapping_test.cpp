// Shows that a mapping is shared, populated, of the access asked for, not inherited, and refused when the file is
// shorter than it must be. The kernel itself is asked: /proc/self/pagemap for pages, msync for what is mapped.

#include "platform/mapping.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstring>

#include "scratch.hpp"

namespace mooring {
namespace {

constexpr u64 kSize = 16 * kPageBytes;

// How many pages of the range this process has in its page table (bit 63 of each pagemap word).
std::size_t present_pages(const Mapping& mapping) {
  const File pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  std::size_t present = 0;
  for (std::size_t at = 0; at < mapping.size_bytes(); at += kPageBytes) {
    u64 word = 0;
    const auto page = (reinterpret_cast<std::uintptr_t>(mapping.data()) + at) / kPageBytes;
    if (::pread(pagemap.fd(), &word, sizeof(word), static_cast<off_t>(page * sizeof(word))) != sizeof(word)) break;
    present += static_cast<std::size_t>(word >> 63);
  }
  return present;
}

bool is_mapped(const void* address) { return ::msync(const_cast<void*>(address), kPageBytes, MS_ASYNC) == 0; }

TEST(Mapping, TwoMappingsOfAFileShareItsBytes) {
  ScratchDirectory scratch;
  Mapping writer = take(map_file(take(create_file(scratch.dir(), "a", 0600, kSize)), Access::read_write, kSize, true));
  Mapping reader =
      take(map_file(take(open_file(scratch.dir(), "a", Access::read_only)), Access::read_only, kSize, true));
  ASSERT_NE(writer.data(), reader.data());
  EXPECT_EQ(reader.size_bytes(), kSize);
  std::memcpy(writer.data() + kSize - 6, "hello", 6);
  EXPECT_STREQ(reinterpret_cast<const char*>(reader.data() + kSize - 6), "hello");
}

TEST(Mapping, IsUnmappedAtTheEndAndMovesWhole) {
  ScratchDirectory scratch;
  const File file = take(create_file(scratch.dir(), "a", 0600, kSize));
  const std::byte* data = nullptr;
  {
    Mapping first = take(map_file(file, Access::read_write, kSize, false));
    data = first.data();
    Mapping second = std::move(first);
    EXPECT_EQ(first.data(), nullptr);
    EXPECT_EQ(first.size_bytes(), 0U);
    EXPECT_EQ(second.data(), data);
    EXPECT_TRUE(is_mapped(data));
  }
  EXPECT_FALSE(is_mapped(data));
}

TEST(Mapping, IsPopulatedWhenAskedFor) {
  ScratchDirectory scratch;
  const File file = take(create_file(scratch.dir(), "a", 0600, kSize));
  const Mapping lazy = take(map_file(file, Access::read_write, kSize, false));
  EXPECT_EQ(present_pages(lazy), 0U);
  const Mapping writable = take(map_file(file, Access::read_write, kSize, true));
  EXPECT_EQ(present_pages(writable), kSize / kPageBytes);
  const File read_only = take(open_file(scratch.dir(), "a", Access::read_only));
  const Mapping readable = take(map_file(read_only, Access::read_only, kSize, true));
  EXPECT_EQ(present_pages(readable), kSize / kPageBytes);
}

TEST(Mapping, TruncatedFileIsRefused) {
  ScratchDirectory scratch;
  const File file = take(create_file(scratch.dir(), "a", 0600, kSize));
  ASSERT_EQ(::ftruncate(file.fd(), static_cast<off_t>(kSize - 1)), 0);
  MOORING_EXPECT_FAILS(map_file(file, Access::read_write, kSize, true), Code::kCorrupt, "truncated");
  MOORING_EXPECT_OK(map_file(file, Access::read_write, kSize - 1, true));
}

TEST(Mapping, EmptyAndAbsurdSizesAreRefused) {
  ScratchDirectory scratch;
  const File file = take(create_file(scratch.dir(), "a", 0600, kSize));
  MOORING_EXPECT_FAILS(map_file(file, Access::read_write, 0, true), Code::kBadArgument, scratch.path("a"));
  MOORING_EXPECT_FAILS(map_file(file, Access::read_write, ~u64{0}, true), Code::kBadArgument, scratch.path("a"));
}

TEST(Mapping, ReadOnlyDescriptorGivesNoWritableMapping) {
  ScratchDirectory scratch;
  MOORING_EXPECT_OK(create_file(scratch.dir(), "a", 0600, kSize));
  const File file = take(open_file(scratch.dir(), "a", Access::read_only));
  MOORING_EXPECT_FAILS(map_file(file, Access::read_write, kSize, true), Code::kPermission, scratch.path("a"));
  const Mapping mapping = take(map_file(file, Access::read_only, kSize, true));
  // Nor can it be made one later.
  EXPECT_EQ(::mprotect(mapping.data(), mapping.size_bytes(), PROT_READ | PROT_WRITE), -1);
}

TEST(Mapping, IsNotInheritedByAChild) {
  ScratchDirectory scratch;
  const Mapping mapping =
      take(map_file(take(create_file(scratch.dir(), "a", 0600, kSize)), Access::read_write, kSize, true));
  ASSERT_TRUE(is_mapped(mapping.data()));
  Child child([&mapping] { return is_mapped(mapping.data()) ? 1 : 0; });
  EXPECT_EQ(child.exit_code(), 0);
}

}  // namespace
}  // namespace mooring
