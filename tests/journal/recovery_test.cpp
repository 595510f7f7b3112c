// Shows: each row of the recovery table, by its letter: what makes it, that it is the only one, and what is done. How:
// a log on the simulated disk, brought into the state of that row by hand.
#include "journal/recovery.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/kill_point.hpp"
#include "journal/log_on_sim.hpp"

namespace mooring::test {
namespace {

using journal::GroupChange;
using journal::GroupState;
using journal::kSegmentHeaderBytes;
using journal::LogFacts;
using journal::LogOptions;
using journal::LogScan;
using journal::RecoveryRow;
using journal::segment_name;
using journal::SegmentHeader;

class Recovery : public testing::Test {
 protected:
  // `count` announced one-block messages, from seq 1000 on; the process is killed afterwards.
  void make_log(u64 count, u64 len = 1000) {
    auto open = open_sim(disk_, options_);
    ASSERT_TRUE(open) << open.error().text;
    GroupState group;
    group.name = "g";
    group.start = options_.first_seq;
    ASSERT_TRUE(open->writer->append_group(1, GroupChange::kCreate, group));
    write_blocks(*open->writer, count, len);
    drop_as_killed(disk_, open->writer);
  }

  // The blocks that count, in order.
  std::vector<SeqVisitor::Block> blocks() {
    SeqVisitor visitor;
    EXPECT_TRUE(scan_sim(disk_, visitor, options_));
    return visitor.blocks;
  }

  void expect_goes_on(RecoveryRow row, u64 next_seq) {
    EXPECT_EQ(row_of(disk_, options_), row);
    auto open = open_sim(disk_, options_);
    ASSERT_TRUE(open) << open.error().text;
    EXPECT_EQ(open->recovered.row, row);
    EXPECT_EQ(open->recovered.next_seq, next_seq);
    write_blocks(*open->writer, 3);
    drop_as_killed(disk_, open->writer);
    SeqVisitor visitor;
    ASSERT_TRUE(scan_sim(disk_, visitor, options_));
    EXPECT_TRUE(visitor.wrong.empty());
    ASSERT_EQ(visitor.seqs.size(), next_seq + 3 - options_.first_seq);
    EXPECT_EQ(visitor.seqs.back(), next_seq + 2);
  }

  void expect_refused(RecoveryRow row, Code code) {
    EXPECT_EQ(row_of(disk_, options_), row);
    const auto before = disk_.files();
    const auto open = open_sim(disk_, options_);
    ASSERT_FALSE(open);
    EXPECT_EQ(open.error().code, code) << open.error().text;
    EXPECT_NE(open.error().text.find(std::string("row ") + static_cast<char>(row)), std::string::npos);
    for (const std::string& name : before) {
      if (journal::segment_number(name)) {
        EXPECT_EQ(std::ranges::count(disk_.files(), name), 1) << name << " was removed";
      }
    }
  }

  void expect_salvage(bool is_missing) {
    make_log(40);
    const auto before = blocks();
    if (is_missing)
      disk_.remove_for_good(segment_name(2));
    else
      flip(disk_, segment_name(2), before[before.size() / 2].offset + 300);
    const auto old_files = disk_.files();
    const auto open = open_sim(disk_, options_, true);
    ASSERT_TRUE(open) << open.error().text;
    ASSERT_EQ(open->recovered.lost.size(), 1u);
    const u64 lost = open->recovered.lost[0].to_seq - open->recovered.lost[0].from_seq;
    EXPECT_GE(lost, 1u);
    if (!is_missing) {
      EXPECT_EQ(lost, 1u);
    }
    EXPECT_EQ(open->recovered.next_seq, options_.first_seq + 40);
    SeqVisitor after;
    const auto scan = scan_sim(disk_, after, options_);
    ASSERT_TRUE(scan);
    EXPECT_TRUE(journal::goes_on(journal::decide(scan->facts))) << scan->findings.back().text;
    EXPECT_EQ(after.seqs.size(), 40 - lost);
    EXPECT_TRUE(after.wrong.empty());
    for (const std::string& name : old_files) {
      if (!journal::segment_number(name)) continue;
      const auto aside = std::ranges::find_if(
          open->recovered.quarantined, [&](const std::string& quarantined) { return quarantined.ends_with(name); });
      EXPECT_NE(aside, open->recovered.quarantined.end()) << name;
    }
    auto again = open_sim(disk_, options_);
    ASSERT_TRUE(again) << again.error().text;
    EXPECT_EQ(again->recovered.next_seq, options_.first_seq + 40);
  }

  SimDisk disk_;
  LogOptions options_ = tiny_log_options(3);
};

TEST(RecoveryTable, ExactlyOneRowMatchesWhateverTheFacts) {
  std::set<char> met;
  for (unsigned bits = 0; bits < 256; ++bits) {
    for (const u64 segments : {u64{0}, u64{1}, u64{5}}) {
      LogFacts facts;
      facts.segments_begun = segments;
      facts.version_unknown = (bits & 1) != 0;
      facts.foreign = (bits & 2) != 0;
      facts.missing = (bits & 4) != 0;
      facts.rotten = (bits & 8) != 0;
      facts.unfinished = (bits & 16) != 0;
      facts.ghost = (bits & 32) != 0;
      facts.stale = (bits & 64) != 0;
      facts.torn = (bits & 128) != 0;
      const auto rows = journal::matching_rows(facts);
      ASSERT_EQ(rows.size(), 1u) << bits;
      met.insert(static_cast<char>(rows.front()));
      EXPECT_STRNE(journal::row_text(rows.front()), "no such row");
    }
  }
  EXPECT_EQ(met, (std::set<char>{'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'K'}));
}

TEST_F(Recovery, RowAEmptyDirectoryGetsANewLog) { expect_goes_on(RecoveryRow::kEmpty, options_.first_seq); }

TEST_F(Recovery, RowAPreparedFilesAloneAreNoLog) {
  disk_.set_content(segment_name(1), std::vector<u8>(65'536));
  disk_.set_content("new-1", std::vector<u8>(4096));
  disk_.set_content("reserve-2", std::vector<u8>(4096));
  expect_goes_on(RecoveryRow::kEmpty, options_.first_seq);
}

TEST_F(Recovery, RowBUnknownVersionIsRefused) {
  make_log(3);
  const std::string name = segment_name(1);
  std::vector<u8> bytes = disk_.content(name);
  SegmentHeader header{};
  std::memcpy(&header, bytes.data(), sizeof(header));
  header.version = 2;
  header.check = journal::segment_check(header);
  std::memcpy(bytes.data(), &header, sizeof(header));
  disk_.set_content(name, bytes);
  expect_refused(RecoveryRow::kUnknownVersion, Code::kVersion);
}

TEST_F(Recovery, RowCAnotherQueuesLogIsRefused) {
  make_log(3);
  options_.uuid[0] ^= 1;
  expect_refused(RecoveryRow::kForeign, Code::kBadArgument);
}

TEST_F(Recovery, RowCOneForeignSegmentIsRefused) {
  make_log(3);
  SimDisk other;
  LogOptions other_options = options_;
  other_options.uuid[0] ^= 1;
  ASSERT_TRUE(open_sim(other, other_options));
  disk_.set_content(segment_name(9), other.content(segment_name(1)));
  expect_refused(RecoveryRow::kForeign, Code::kBadArgument);
}

TEST_F(Recovery, RowDAMissingSegmentIsRefusedWhicheverItIs) {
  make_log(40);
  const auto pristine = disk_.clone();
  u64 segments = 0;
  for (const std::string& name : pristine->files()) segments += journal::segment_number(name) ? 1U : 0U;
  ASSERT_GE(segments, 4u);
  for (u64 number = 1; number < segments; ++number) {
    for (const std::string& name : pristine->files()) disk_.set_content(name, pristine->content(name));
    disk_.remove_for_good(segment_name(number));
    SCOPED_TRACE(segment_name(number));
    expect_refused(RecoveryRow::kMissing, Code::kCorrupt);
  }
}

TEST_F(Recovery, RowERottenBlockInTheMiddleIsRefused) {
  make_log(40);
  const auto all = blocks();
  flip(disk_, segment_name(2), all[all.size() / 2].offset + 300);
  expect_refused(RecoveryRow::kRotten, Code::kCorrupt);
}

TEST_F(Recovery, RowERottenBlockBeforeTheLastIsRefused) {
  make_log(4);
  const auto all = blocks();
  flip(disk_, segment_name(1), all[all.size() - 2].offset + 300);
  expect_refused(RecoveryRow::kRotten, Code::kCorrupt);
}

TEST_F(Recovery, RowEEvenTheLastBlockIsProvedByASeal) {
  auto open = open_sim(disk_, options_);
  ASSERT_TRUE(open);
  write_blocks(*open->writer, 3);
  ASSERT_TRUE(open->writer->seal());
  drop_as_killed(disk_, open->writer);
  const auto all = blocks();
  flip(disk_, segment_name(1), all[all.size() - 2].offset + 300);
  expect_refused(RecoveryRow::kRotten, Code::kCorrupt);
}

TEST_F(Recovery, RowERottenHeaderOfTheLastSegmentIsNotTakenForAPreparedOne) {
  make_log(4);
  overwrite(disk_, segment_name(1), 0, std::vector<u8>(kSegmentHeaderBytes));
  expect_refused(RecoveryRow::kRotten, Code::kCorrupt);
}

TEST_F(Recovery, RowEAnUnreadableSectorIsNotTakenForTheEnd) {
  make_log(4);
  const auto all = blocks();
  disk_.make_unreadable(segment_name(1), all.back().offset, 512);
  expect_refused(RecoveryRow::kRotten, Code::kCorrupt);
}

TEST_F(Recovery, RowFAnInterruptedOpeningIsForgotten) {
  make_log(4);
  for (const char* where : {"journal.snapshot_written", "journal.sent", "journal.synced"}) {
    static SimDisk* disk;
    static const char* name;
    disk = &disk_;
    name = where;
    kill_point_hook.store(
        [](const char* here) {
          if (std::strcmp(here, name) == 0) disk->halt();
        },
        std::memory_order_relaxed);
    ASSERT_FALSE(open_sim(disk_, options_));
    kill_point_hook.store(nullptr, std::memory_order_relaxed);
    Random random(1);
    disk_.process_killed(random, true);
    EXPECT_EQ(row_of(disk_, options_), RecoveryRow::kInterrupted) << where;
  }
  expect_goes_on(RecoveryRow::kInterrupted, options_.first_seq + 4);
}

TEST_F(Recovery, RowGALateWriteOfAnOlderWriterDoesNotCount) {
  make_log(4);
  const std::string name = segment_name(1);
  const std::vector<u8> all_landed = disk_.content(name);
  // The last block is still on its way when the successor reads.
  const u64 late = blocks().back().offset;
  overwrite(disk_, name, late, std::vector<u8>(4096));
  expect_goes_on(RecoveryRow::kClean, options_.first_seq + 3);
  disk_.set_content(name, all_landed);
  EXPECT_EQ(row_of(disk_, options_), RecoveryRow::kGhost);
  // Seq 1003 was used again meanwhile, with the same payload by its seq: tell the two apart by where they lie.
  SeqVisitor visitor;
  ASSERT_TRUE(scan_sim(disk_, visitor, options_));
  for (const auto& block : visitor.blocks) EXPECT_FALSE(block.header.number == 1 && block.offset >= late);
  EXPECT_EQ(visitor.seqs.size(), 6u);
  auto open = open_sim(disk_, options_);
  ASSERT_TRUE(open) << open.error().text;
  EXPECT_EQ(open->recovered.row, RecoveryRow::kGhost);
  EXPECT_EQ(open->recovered.next_seq, options_.first_seq + 6);
}

TEST_F(Recovery, RowHATornLastBlockIsTheEnd) {
  make_log(4, 3000);
  const auto all = blocks();
  for (const u64 sector : {u64{1}, u64{5}}) {
    overwrite(disk_, segment_name(1), all.back().offset + sector * 512, std::vector<u8>(512));
  }
  expect_goes_on(RecoveryRow::kTorn, options_.first_seq + 3);
}

TEST_F(Recovery, RowHALastBlockWithoutItsFirstSectorIsTheEnd) {
  make_log(4, 3000);
  overwrite(disk_, segment_name(1), blocks().back().offset, std::vector<u8>(512));
  expect_goes_on(RecoveryRow::kTorn, options_.first_seq + 3);
}

TEST_F(Recovery, RowIBlocksOfTheFilesEarlierLifeDoNotCount) {
  make_log(4);
  const std::vector<u8> earlier = disk_.content(segment_name(1));
  expect_goes_on(RecoveryRow::kClean, options_.first_seq + 4);
  // As if the second segment lay in a file that had been the first one: whole blocks of it behind the end.
  const auto all = blocks();
  const u64 end = all.back().offset + all.back().header.bytes;
  ASSERT_EQ(all.back().header.number, 2u);
  overwrite(disk_, segment_name(2), end, std::span(earlier).subspan(4096, 4096));
  expect_goes_on(RecoveryRow::kGarbage, options_.first_seq + 7);
}

TEST_F(Recovery, RowKACleanEndIsGoneOnFrom) {
  make_log(4);
  expect_goes_on(RecoveryRow::kClean, options_.first_seq + 4);
}

TEST_F(Recovery, RecoveringTwiceFindsTheSame) {
  make_log(30);
  u64 incarnation = 0;
  for (int i = 0; i < 5; ++i) {
    auto open = open_sim(disk_, options_);
    ASSERT_TRUE(open) << open.error().text;
    EXPECT_EQ(open->recovered.next_seq, options_.first_seq + 30);
    EXPECT_EQ(open->recovered.state.groups.size(), 1u);
    EXPECT_GT(open->recovered.incarnation, incarnation);
    incarnation = open->recovered.incarnation;
    drop_as_killed(disk_, open->writer);
  }
}

TEST_F(Recovery, SalvageOfARottenLogListsWhatIsLostAndKeepsEveryFile) { expect_salvage(false); }

TEST_F(Recovery, SalvageWithAMissingSegmentListsWhatIsLostAndKeepsEveryFile) { expect_salvage(true); }

TEST_F(Recovery, WarmRestartCutsTheOldSegmentsAtTheAnnouncedMark) {
  auto open = open_sim(disk_, options_);
  ASSERT_TRUE(open);
  write_blocks(*open->writer, 5);
  const journal::LogMark announced = open->writer->durable();
  const auto state = open->writer->state();
  write_blocks(*open->writer, 2);  // Durable, and nobody was told.
  drop_as_killed(disk_, open->writer);
  auto resumed = journal::resume_log(disk_, options_, announced, state);
  ASSERT_TRUE(resumed) << resumed.error().text;
  EXPECT_EQ((*resumed)->next_seq(), announced.next_seq);
  write_blocks(**resumed, 4, 500);
  drop_as_killed(disk_, *resumed);
  SeqVisitor after;
  const auto scan = scan_sim(disk_, after, options_);
  ASSERT_TRUE(scan);
  EXPECT_TRUE(journal::goes_on(journal::decide(scan->facts)));
  EXPECT_EQ(scan->end.next_seq, announced.next_seq + 4);
  EXPECT_EQ(after.seqs.size(), 9u);
}

}  // namespace
}  // namespace mooring::test
