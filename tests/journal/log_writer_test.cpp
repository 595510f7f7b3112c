// Shows: what the writer promises and when: marks, full blocks, large messages, a full disk, a failing one, snapshots,
// retirement. How: on the simulated disk, with the fault at a chosen operation.
#include "journal/log_writer.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "journal/log_on_sim.hpp"

namespace mooring::test {
namespace {

using journal::AckRun;
using journal::GroupChange;
using journal::GroupState;
using journal::LogMark;
using journal::LogOptions;
using journal::LogWriter;

class Writer : public testing::Test {
 protected:
  void SetUp() override {
    writer_ = new_log_with_a_group(disk_, options_);
    ASSERT_NE(writer_, nullptr);
  }

  // As after a power cut that lost everything unsynced.
  u64 next_seq_after_a_cut() {
    disk_.halt();
    writer_.reset();
    disk_.power_cut(0, 0);
    SeqVisitor visitor;
    const auto scan = scan_sim(disk_, visitor, options_);
    EXPECT_TRUE(scan && journal::goes_on(journal::decide(scan->facts)));
    EXPECT_TRUE(visitor.wrong.empty());
    EXPECT_EQ(visitor.seqs.size(), scan->end.next_seq - scan->first_seq);
    return scan->end.next_seq;
  }

  SimDisk disk_;
  LogOptions options_ = tiny_log_options(6);
  std::unique_ptr<LogWriter> writer_;
};

TEST_F(Writer, DurableMovesOnlyWhenTheFlushIsFinished) {
  const LogMark before = writer_->durable();
  ASSERT_TRUE(append(*writer_, 100));
  EXPECT_EQ(writer_->durable(), before);
  ASSERT_TRUE(writer_->begin_flush());
  EXPECT_TRUE(writer_->is_in_flight());
  EXPECT_EQ(writer_->durable(), before);
  EXPECT_EQ(writer_->written().next_seq, before.next_seq + 1);
  ASSERT_TRUE(append(*writer_, 100));  // The next block fills meanwhile.
  ASSERT_TRUE(writer_->finish_flush());
  EXPECT_EQ(writer_->durable().next_seq, before.next_seq + 1);
  EXPECT_TRUE(writer_->has_unflushed());
  ASSERT_TRUE(writer_->flush());
  EXPECT_EQ(writer_->durable().next_seq, before.next_seq + 2);
  EXPECT_EQ(next_seq_after_a_cut(), before.next_seq + 2);
}

TEST_F(Writer, AFullBlockSaysSoAndTakesNothing) {
  u64 appended = 0;
  while (true) {
    const u64 seq = writer_->next_seq();
    const Status done = writer_->append_message({seq, 0, 0, {payload_of(seq, 900), 900}});
    if (!done) {
      EXPECT_EQ(done.error().code, Code::kFull);
      EXPECT_EQ(writer_->next_seq(), seq);
      break;
    }
    ++appended;
  }
  EXPECT_GE(appended, 15u);
  ASSERT_TRUE(writer_->flush());
  EXPECT_EQ(next_seq_after_a_cut(), options_.first_seq + appended);
}

TEST_F(Writer, AMessageLargerThanABlockGetsABlockOfItsOwn) {
  write_blocks(*writer_, 3, options_.message_bytes_max);
  write_blocks(*writer_, 1, 10);
  const u64 seq = writer_->next_seq();
  const Status done = writer_->append_message({seq, 0, 0, {payload_of(seq, 40'000), 40'000}});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Code::kTooBig);
  EXPECT_EQ(next_seq_after_a_cut(), seq);
}

TEST_F(Writer, AnOldSeqIsRefusedAndAGapIsMarked) {
  write_blocks(*writer_, 2);
  EXPECT_EQ(writer_->append_message({options_.first_seq, 0, 0, {}}).error().code, Code::kBadArgument);
  const u64 seq = writer_->next_seq() + 10;
  ASSERT_TRUE(writer_->append_message({seq, 0, 0, {payload_of(seq, 5), 5}}));
  ASSERT_TRUE(writer_->append_message({options_.first_seq, 0, 0, {payload_of(options_.first_seq, 5), 5}, true}));
  ASSERT_TRUE(writer_->flush());
  drop_as_killed(disk_, writer_);
  SeqVisitor visitor;
  const auto scan = scan_sim(disk_, visitor, options_);
  ASSERT_TRUE(scan);
  EXPECT_TRUE(journal::goes_on(journal::decide(scan->facts)));
  EXPECT_EQ(visitor.seqs, (std::vector<u64>{1000, 1001, 1012, 1000}));
  EXPECT_EQ(scan->end.next_seq, 1013u);
}

TEST_F(Writer, AFullDiskRefusesMessagesAndTakesCursors) {
  ASSERT_TRUE(writer_->prepare());
  disk_.full_from(0);
  Status done;
  while ((done = append(*writer_, 3000))) ASSERT_TRUE(writer_->flush());
  EXPECT_EQ(done.error().code, Code::kDiskFull);
  const u64 seq = writer_->next_seq();
  EXPECT_EQ(writer_->durable().next_seq, seq) << "nothing was taken that was not kept";
  // Cursors go on, also when they need a segment; messages still wait.
  for (u64 i = 0; i < 8; ++i) {
    ASSERT_TRUE(writer_->append_cursor(1, options_.first_seq + i, {}));
    ASSERT_TRUE(writer_->flush());
    EXPECT_EQ(append(*writer_, 3000).error().code, Code::kDiskFull);
  }
  // Draining: everything acknowledged, a snapshot, segments retire and are used again.
  ASSERT_TRUE(writer_->append_cursor(1, seq, {}));
  ASSERT_TRUE(writer_->snapshot());
  const auto retired = writer_->retire(seq);
  ASSERT_TRUE(retired);
  EXPECT_GE(*retired, 1u);
  disk_.not_full();
  ASSERT_TRUE(writer_->prepare());
  write_blocks(*writer_, 5, 3000);
  EXPECT_EQ(writer_->durable().next_seq, seq + 5);
}

TEST_F(Writer, TheQuotaIsADiskThatIsFull) {
  writer_.reset();
  options_.quota_bytes = 200 << 10;
  auto open = open_sim(disk_, options_);
  ASSERT_TRUE(open) << open.error().text;
  Status done;
  while ((done = append(*open->writer, 3000))) ASSERT_TRUE(open->writer->flush());
  EXPECT_EQ(done.error().code, Code::kDiskFull);
  EXPECT_LE(open->writer->total_bytes(), options_.quota_bytes);
}

TEST_F(Writer, AFailedWriteOrSyncPoisonsTheSegmentAndLosesNothing) {
  for (const u64 operation : {u64{1}, u64{2}}) {
    const u64 number = writer_->segment_number();
    const u64 poisoned = writer_->counters().segments_poisoned;
    ASSERT_TRUE(append(*writer_, 500));
    disk_.fault_at(disk_.operations() + operation, DiskFault::kIo);
    ASSERT_TRUE(writer_->flush());
    EXPECT_EQ(writer_->counters().segments_poisoned, poisoned + 1);
    EXPECT_GT(writer_->segment_number(), number);
    write_blocks(*writer_, 2);
  }
  EXPECT_EQ(next_seq_after_a_cut(), options_.first_seq + 6);
}

TEST_F(Writer, ASecondFailureEndsTheLogAndKeepsWhatWasAnnounced) {
  write_blocks(*writer_, 2);
  const LogMark announced = writer_->durable();
  ASSERT_TRUE(append(*writer_, 500));
  for (u64 i = 1; i < 30; ++i) disk_.fault_at(disk_.operations() + i, DiskFault::kIo);
  EXPECT_EQ(writer_->flush().error().code, Code::kIo);
  EXPECT_TRUE(writer_->has_failed());
  EXPECT_EQ(append(*writer_, 10).error().code, Code::kIo);
  EXPECT_EQ(writer_->snapshot().error().code, Code::kIo);
  EXPECT_EQ(writer_->durable(), announced);
  EXPECT_EQ(next_seq_after_a_cut(), announced.next_seq);
}

TEST_F(Writer, SegmentsRetireOnlyBelowEveryDurableBase) {
  write_blocks(*writer_, 60, 3000);
  ASSERT_TRUE(writer_->append_cursor(1, 1040, {}));
  ASSERT_TRUE(writer_->flush());
  EXPECT_EQ(*writer_->retire(2000), 0u) << "no snapshot says that the base is 1040";
  ASSERT_TRUE(writer_->snapshot());
  EXPECT_GE(*writer_->retire(2000), 2u);
  ASSERT_TRUE(writer_->prepare());
  write_blocks(*writer_, 60, 3000);
  drop_as_killed(disk_, writer_);
  SeqVisitor visitor;
  const auto scan = scan_sim(disk_, visitor, options_);
  ASSERT_TRUE(scan);
  EXPECT_TRUE(journal::goes_on(journal::decide(scan->facts)));
  EXPECT_LE(visitor.seqs.front(), 1040u);
  EXPECT_GT(visitor.seqs.front(), 1000u);
  EXPECT_EQ(visitor.seqs.back(), 1119u);
  EXPECT_TRUE(visitor.wrong.empty());
}

// Messages that come at once wait for the zeros of a small file only.
TEST_F(Writer, SegmentsGrowToTheirFullSize) {
  SimDisk disk;
  options_.segment_bytes = 256 << 10;
  auto writer = new_log_with_a_group(disk, options_);
  ASSERT_NE(writer, nullptr);
  write_blocks(*writer, 100, 8000);
  std::vector<u64> sizes;
  for (const std::string& name : disk.files()) {
    if (journal::segment_number(name)) sizes.push_back(disk.content(name).size() >> 10);
  }
  ASSERT_GE(sizes.size(), 5U);
  // The first one is as large as what is written at the opening needs.
  EXPECT_EQ(std::vector<u64>(sizes.begin() + 1, sizes.begin() + 5), (std::vector<u64>{48, 96, 192, 256}));
}

TEST_F(Writer, APreparedSegmentThatIsTooSmallForAMessageIsNotLeftBehind) {
  SimDisk disk;
  options_.segment_bytes = 256 << 10;
  options_.message_bytes_max = kPayloadBytesMax;
  auto writer = new_log_with_a_group(disk, options_);
  ASSERT_NE(writer, nullptr);
  ASSERT_TRUE(writer->prepare());
  const auto is_there = [&](const std::string& name) {
    const auto files = disk.files();
    return std::ranges::find(files, name) != files.end();
  };
  EXPECT_TRUE(is_there("log-0000000002"));
  write_blocks(*writer, 1, kPayloadBytesMax);
  EXPECT_FALSE(is_there("log-0000000002"));
  write_blocks(*writer, 1, kPayloadBytesMax);
  drop_as_killed(disk, writer);
  SeqVisitor visitor;
  const auto scan = scan_sim(disk, visitor, options_);
  ASSERT_TRUE(scan);
  EXPECT_TRUE(journal::goes_on(journal::decide(scan->facts)));
  EXPECT_EQ(visitor.seqs, (std::vector<u64>{1000, 1001}));
}

TEST_F(Writer, ASegmentWithALiveParkStays) {
  write_blocks(*writer_, 60, 3000);
  ASSERT_TRUE(writer_->append_park({1, 2, 1000, writer_->locate(1000), 1, 1, 0, 0, 0, 0}));
  ASSERT_TRUE(writer_->append_cursor(1, 1040, {}));
  ASSERT_TRUE(writer_->snapshot());
  EXPECT_EQ(*writer_->retire(2000), 0u);
  ASSERT_TRUE(writer_->append_release(1, 1000));
  ASSERT_TRUE(writer_->snapshot());
  EXPECT_GE(*writer_->retire(2000), 1u);
}

TEST_F(Writer, ASnapshotLargerThanABlockComesBackWhole) {
  for (u64 i = 0; i < 1500; ++i) {
    Status done = writer_->append_park({1, 2, 5000 + i, 0, 1, 1, 0, 0, 0, 0});
    if (!done) {
      ASSERT_EQ(done.error().code, Code::kFull);
      ASSERT_TRUE(writer_->flush());
      ASSERT_TRUE(writer_->append_park({1, 2, 5000 + i, 0, 1, 1, 0, 0, 0, 0}));
    }
  }
  ASSERT_TRUE(writer_->snapshot());
  EXPECT_FALSE(writer_->snapshot_due());
  const auto state = writer_->state();
  drop_as_killed(disk_, writer_);
  auto open = open_sim(disk_, options_);
  ASSERT_TRUE(open) << open.error().text;
  EXPECT_EQ(open->recovered.state, state);
  EXPECT_EQ(open->recovered.state.parks.size(), 1500u);
}

}  // namespace
}  // namespace mooring::test
