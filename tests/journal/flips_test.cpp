// Shows: no flipped bit is delivered, and none in announced data is overlooked. How: every bit of a segment header and
// of a block header, and random bits of bodies and padding, each in a copy of a log that ends with a SEAL; the scan
// must refuse it, and what it shows before it does is what was written.
#include <gtest/gtest.h>

#include <cstdio>

#include "journal/log_on_sim.hpp"

namespace mooring::test {
namespace {

using journal::LogOptions;

class Flips : public testing::Test {
 protected:
  void SetUp() override {
    auto open = open_sim(disk_, options_);
    ASSERT_TRUE(open);
    write_blocks(*open->writer, 13, 2000);
    ASSERT_TRUE(open->writer->seal());
    drop_as_killed(disk_, open->writer);
    SeqVisitor visitor;
    ASSERT_TRUE(scan_sim(disk_, visitor, options_));
    blocks_ = visitor.blocks;
    seqs_ = visitor.seqs;
  }

  // Empty if the flip was noticed and nothing wrong was shown.
  std::string flipped(const std::string& name, std::vector<u8>& bytes, u64 offset, unsigned bit) {
    bytes[offset] ^= static_cast<u8>(1U << bit);
    disk_.set_content(name, bytes);
    bytes[offset] ^= static_cast<u8>(1U << bit);
    SeqVisitor visitor;
    const auto scan = scan_sim(disk_, visitor, options_);
    const std::string where = name + " offset " + std::to_string(offset) + " bit " + std::to_string(bit);
    if (!visitor.wrong.empty()) return where + ": wrong bytes were shown";
    if (!scan) return {};
    if (journal::matching_rows(scan->facts).size() != 1) return where + ": not one row";
    if (journal::goes_on(journal::decide(scan->facts))) return where + ": not noticed";
    return {};
  }

  SimDisk disk_;
  LogOptions options_ = tiny_log_options(4);
  std::vector<SeqVisitor::Block> blocks_;
  std::vector<u64> seqs_;
};

TEST_F(Flips, EveryBitOfEverySegmentHeaderIsNoticed) {
  u64 count = 0;
  for (const u64 number : {u64{1}, blocks_.back().header.number}) {
    const std::string name = journal::segment_name(number);
    std::vector<u8> bytes = disk_.content(name);
    for (u64 offset = 0; offset < journal::kSegmentHeaderBytes; ++offset) {
      // The long zero area one bit a byte, the rest all of them.
      const bool is_zero_area = offset >= 140 && offset < 4088;
      for (unsigned bit = is_zero_area ? static_cast<unsigned>(offset % 8) : 0; bit < 8; bit += is_zero_area ? 8 : 1) {
        ASSERT_EQ(flipped(name, bytes, offset, bit), "");
        ++count;
      }
    }
    disk_.set_content(name, bytes);
  }
  std::printf("%llu flips in segment headers\n", static_cast<unsigned long long>(count));
}

TEST_F(Flips, EveryBitOfABlockHeaderIsNoticed) {
  u64 count = 0;
  for (const std::size_t i : {std::size_t{0}, blocks_.size() / 2, blocks_.size() - 2}) {
    const std::string name = journal::segment_name(blocks_[i].header.number);
    std::vector<u8> bytes = disk_.content(name);
    for (u64 at = 0; at < journal::kBlockHeaderBytes; ++at) {
      for (unsigned bit = 0; bit < 8; ++bit) {
        ASSERT_EQ(flipped(name, bytes, blocks_[i].offset + at, bit), "");
        ++count;
      }
    }
    disk_.set_content(name, bytes);
  }
  std::printf("%llu flips in block headers\n", static_cast<unsigned long long>(count));
}

TEST_F(Flips, RandomBitsOfBodiesAndPaddingAreNoticed) {
  Random random(11);
  constexpr u64 kFlips = 4000;
  for (u64 i = 0; i < kFlips; ++i) {
    const auto& block = blocks_[random.below(blocks_.size() - 1)];
    const std::string name = journal::segment_name(block.header.number);
    std::vector<u8> bytes = disk_.content(name);
    ASSERT_EQ(
        flipped(name, bytes, block.offset + random.below(block.header.bytes), static_cast<unsigned>(random.below(8))),
        "");
    disk_.set_content(name, bytes);
  }
}

// The last block is proved by nothing: damage there reads as a torn tail, and costs that block and no other.
TEST_F(Flips, DamageToTheVeryLastBlockCostsThatBlockOnly) {
  const auto& last = blocks_.back();
  const std::string name = journal::segment_name(last.header.number);
  flip(disk_, name, last.offset + 200);
  SeqVisitor visitor;
  ASSERT_TRUE(scan_sim(disk_, visitor, options_));
  EXPECT_EQ(visitor.seqs, seqs_) << "the last block was a SEAL";
  EXPECT_EQ(row_of(disk_, options_), journal::RecoveryRow::kTorn);
}

TEST_F(Flips, MisdirectedWriteOfAnnouncedDataIsNoticed) {
  // The disk says it wrote the block, and it lies elsewhere: noticed as soon as one more block was announced.
  for (u64 at = 0; at < 6; ++at) {
    SimDisk disk;
    auto open = open_sim(disk, options_);
    ASSERT_TRUE(open);
    write_blocks(*open->writer, 1);
    disk.fault_at(disk.operations() + 1, DiskFault::kMisdirected);
    write_blocks(*open->writer, 2 + at % 3);
    drop_as_killed(disk, open->writer);
    EXPECT_EQ(row_of(disk, options_), journal::RecoveryRow::kRotten);
  }
}

}  // namespace
}  // namespace mooring::test
