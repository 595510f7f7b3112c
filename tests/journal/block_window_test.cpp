// What a window shows is what the file has, whatever is asked for in whatever order: whole or in part, read ahead or
// not, beside places that cannot be read. And who goes through a file from its beginning reads each byte once.
#include "journal/block_window.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace mooring::journal {
namespace {

constexpr u64 kPage = kBlockAlignment;

class MemoryFile final : public DiskFile {
 public:
  explicit MemoryFile(u64 size) : bytes_(size) {
    std::mt19937_64 random(7);
    for (u8& byte : bytes_) byte = static_cast<u8>(random());
  }
  const std::vector<u8>& bytes() const { return bytes_; }
  std::set<u64> bad_pages;
  bool may_begin = true;
  u64 begun = 0;

  Result<u64> size_bytes() override { return bytes_.size(); }
  Result<u64> read(u64 offset, std::span<u8> bytes) override {
    EXPECT_EQ(offset % kPage, 0U);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(bytes.data()) % kPage, 0U);
    EXPECT_EQ(bytes.size() % kPage, 0U);
    if (offset >= bytes_.size()) return 0;
    const u64 size = std::min<u64>(bytes.size(), bytes_.size() - offset);
    const auto bad = bad_pages.lower_bound(offset / kPage);
    if (bad != bad_pages.end() && *bad * kPage < offset + size) return fail(Code::kIo, "a bad page");
    std::memcpy(bytes.data(), bytes_.data() + offset, size);
    return size;
  }
  // Lands at once, as early as a disk may.
  bool begin_read(u64 offset, std::span<u8> bytes) override {
    if (!may_begin) return false;
    ++begun;
    ahead_ = read(offset, bytes);
    return true;
  }
  Result<u64> finish_read() override { return ahead_; }
  Status write(u64, std::span<const u8>) override { return fail(Code::kIo, ""); }
  Status submit(u64, std::span<const u8>) override { return fail(Code::kIo, ""); }
  Status reap() override { return fail(Code::kIo, ""); }
  Status sync() override { return {}; }
  Status lock(u64) override { return {}; }

 private:
  std::vector<u8> bytes_;
  Result<u64> ahead_ = 0;
};

bool shows(Window& window, const MemoryFile& file, u64 offset, u64 bytes) {
  const auto seen = window.at(offset, bytes);
  const u64 there = offset >= file.bytes().size() ? 0 : std::min<u64>(bytes, file.bytes().size() - offset);
  return seen && seen->size() == there &&
         std::equal(seen->begin(), seen->end(),
                    file.bytes().begin() + static_cast<std::ptrdiff_t>(std::min<u64>(offset, file.bytes().size())));
}

TEST(Window, FromTheBeginningToTheEndEachByteIsReadOnce) {
  for (const bool ahead : {false, true}) {
    for (const u64 size : {40 * kPage, 40 * kPage + 100}) {
      MemoryFile file(size);
      Window window(file, size, 4 * kPage, ahead);
      // A header, then the whole block: as blocks are read. Some are larger than a window, and larger than its buffer.
      u64 offset = 0;
      for (u64 pages = 1; offset < size; pages = pages * 7 % 23) {
        ASSERT_TRUE(shows(window, file, offset, kPage));
        ASSERT_TRUE(shows(window, file, offset, pages * kPage));
        offset += pages * kPage;
      }
      EXPECT_EQ(window.bytes_read(), size);
      EXPECT_EQ(file.begun != 0, ahead);
    }
  }
}

TEST(Window, AnyOrderShowsWhatIsThere) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 300; ++round) {
    const u64 size = (1 + random() % 64) * kPage + (round % 3 == 0 ? random() % kPage : 0);
    MemoryFile file(size);
    const u64 known = round % 2 == 0 ? size : align_up(size / 2, kPage);
    Window window(file, std::min(known, size), (1 + random() % 6) * kPage, round % 4 != 0);
    u64 offset = 0;
    for (int step = 0; step < 60; ++step) {
      file.may_begin = random() % 5 != 0;
      if (step == 30) window.extend_to(size);
      if (step == 45) window.release();
      offset = random() % 3 == 0 ? random() % (window.file_bytes() / kPage + 1) * kPage : offset + random() % 4 * kPage;
      const u64 bytes = (1 + random() % 12) * kPage;
      const u64 limit = window.file_bytes();
      ASSERT_TRUE(shows(window, file, offset, offset >= limit ? bytes : std::min(bytes, limit - offset)) ||
                  (offset >= limit && window.at(offset, bytes)->empty()));
    }
  }
}

TEST(Window, APlaceThatCannotBeReadHidesNothingBesideIt) {
  for (const bool ahead : {false, true}) {
    MemoryFile file(64 * kPage);
    file.bad_pages = {9, 10, 33};
    Window window(file, 64 * kPage, 4 * kPage, ahead);
    for (u64 page = 0; page < 64; ++page) {
      if (file.bad_pages.contains(page)) {
        EXPECT_FALSE(window.at(page * kPage, kPage).has_value()) << page;
      } else {
        EXPECT_TRUE(shows(window, file, page * kPage, kPage)) << page;
      }
    }
    EXPECT_FALSE(window.at(8 * kPage, 2 * kPage).has_value());
    EXPECT_TRUE(shows(window, file, 7 * kPage, 2 * kPage));
  }
}

}  // namespace
}  // namespace mooring::journal
