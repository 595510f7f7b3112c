// Shows: a reader beside a living writer finds each announced message wherever it lies, and never shows a byte that is
// not the message's: in segments used again, damaged ones, and behind the place where a newer writer took over.
// How: on the simulated disk, payloads that tell which message they are of.
#include "journal/backlog_reader.hpp"

#include <gtest/gtest.h>

#include "journal/log_on_sim.hpp"
#include "journal/park_copies.hpp"

namespace mooring::test {
namespace {

using journal::BacklogReader;
using journal::GroupChange;
using journal::GroupState;
using journal::LogMark;
using journal::LogOptions;
using journal::LogWriter;
using journal::MessageView;
using Found = BacklogReader::Found;

constexpr u64 kFirst = 1000;

// Not inlined: with a constant key GCC 12 makes an offset of it that no relocation holds.
[[gnu::noinline]] std::span<const u8> payload(u64 seq, u64 len) { return {payload_of(seq, len), len}; }

bool is_payload_of(u64 seq, std::span<const u8> bytes) {
  if (bytes.empty() || bytes.size() > kPayloadBytesMax) return false;
  return std::memcmp(bytes.data(), payload(seq, bytes.size()).data(), bytes.size()) == 0;
}

class Backlog : public testing::Test {
 protected:
  void SetUp() override {
    writer_ = new_log_with_a_group(disk_, options_);
    ASSERT_NE(writer_, nullptr);
  }

  // Some to a block, blocks of different sizes, and blocks without a message between.
  void write(LogWriter& writer, u64 count) {
    for (u64 i = 0; i < count; ++i) {
      ASSERT_TRUE(append(writer, 100 + 37 * (i % 50)));
      if (i % 5 == 4) {
        ASSERT_TRUE(writer.flush());
      }
      if (i % 20 == 19) {
        ASSERT_TRUE(writer.append_cursor(1, kFirst, {}));
        ASSERT_TRUE(writer.flush());
      }
    }
    ASSERT_TRUE(writer.flush());
  }

  // The message, or why not: it is `seq`, byte for byte.
  std::string look(BacklogReader& reader, u64 seq) {
    MessageView message;
    const auto found = reader.find(seq, writer_->durable(), &message);
    if (!found) return found.error().text;
    if (*found == Found::kLost) return "lost";
    EXPECT_EQ(message.seq, seq);
    return is_payload_of(seq, message.bytes) ? "found" : "wrong bytes";
  }

  u64 end() const { return writer_->durable().next_seq; }

  SimDisk disk_;
  LogOptions options_ = tiny_log_options(6);
  std::unique_ptr<LogWriter> writer_;
};

TEST_F(Backlog, EveryMessageIsFoundInOrderBackwardsAndAtRandom) {
  write(*writer_, 600);
  ASSERT_GT(writer_->counters().segments, 5u);
  BacklogReader reader(disk_, options_.uuid, 8 << 10);
  for (u64 seq = kFirst; seq < end(); ++seq) ASSERT_EQ(look(reader, seq), "found") << seq;
  const u64 sequential_bytes = reader.bytes_read();
  EXPECT_LT(sequential_bytes, 3 * writer_->durable().log_pos) << "each block is read about once";
  for (u64 seq = end(); seq-- > kFirst;) ASSERT_EQ(look(reader, seq), "found") << seq;
  Random random(3);
  for (int i = 0; i < 400; ++i) {
    const u64 seq = kFirst + random.below(end() - kFirst);
    ASSERT_EQ(look(reader, seq), "found") << seq;
  }
}

TEST_F(Backlog, ItFollowsAWriterFromSegmentToSegment) {
  BacklogReader reader(disk_, options_.uuid);
  u64 next = kFirst;
  for (int round = 0; round < 60; ++round) {
    write(*writer_, 7);
    for (; next < end(); ++next) ASSERT_EQ(look(reader, next), "found") << next;
    ASSERT_EQ(look(reader, kFirst + next % 13), "found");
  }
  ASSERT_GT(writer_->counters().segments, 3u);
}

TEST_F(Backlog, NothingThatIsNotAnnouncedIsFound) {
  write(*writer_, 20);
  BacklogReader reader(disk_, options_.uuid);
  ASSERT_EQ(look(reader, end() - 1), "found");
  ASSERT_TRUE(append(*writer_, 500));
  ASSERT_TRUE(writer_->begin_flush());  // it is in the file, and not announced
  EXPECT_NE(look(reader, end()).find("is not announced"), std::string::npos);
  ASSERT_TRUE(writer_->finish_flush());
  EXPECT_EQ(look(reader, end() - 1), "found");
}

TEST_F(Backlog, WhatHasRetiredIsSaidToBeGoneAndItsFileShowsNothingElse) {
  BacklogReader reader(disk_, options_.uuid, 8 << 10);
  u64 gone = kFirst;
  for (int lap = 0; lap < 8; ++lap) {
    write(*writer_, 150);
    ASSERT_EQ(look(reader, gone), "found") << "the reader stands in the oldest segment";
    const u64 before = gone;
    ASSERT_TRUE(writer_->append_cursor(1, end() - 60, {}));
    ASSERT_TRUE(writer_->snapshot());
    ASSERT_GT(*writer_->retire(end() - 60), 0u);
    ASSERT_TRUE(writer_->prepare());
    write(*writer_, 150);  // their files are used again
    gone = end() - 60;
    for (u64 seq = before; seq < end(); ++seq) {
      const std::string what = look(reader, seq);
      if (seq >= end() - 150) {
        ASSERT_EQ(what, "found") << seq;
      } else {
        ASSERT_NE(what, "wrong bytes") << seq;
      }
    }
    EXPECT_NE(look(reader, before), "found");
  }
  EXPECT_GT(writer_->counters().segments_retired, 8u);
}

TEST_F(Backlog, ADamagedBlockIsNamedAndTheOthersAreRead) {
  write(*writer_, 200);
  const u64 victim = kFirst + 77;
  SeqVisitor visitor;
  ASSERT_TRUE(scan_sim(disk_, visitor, options_));
  u64 damaged_first = 0;
  u64 damaged_end = 0;
  for (std::size_t i = 0; i + 1 < visitor.blocks.size(); ++i) {
    const auto& header = visitor.blocks[i].header;
    if (header.first_seq <= victim && visitor.blocks[i + 1].header.first_seq > victim) {
      flip(disk_, journal::segment_name(header.number), visitor.blocks[i].offset + 200);
      damaged_first = header.first_seq;
      damaged_end = visitor.blocks[i + 1].header.first_seq;
    }
  }
  ASSERT_LT(damaged_first, damaged_end);
  for (u64 seq = kFirst; seq < damaged_first; ++seq) {
    BacklogReader fresh(disk_, options_.uuid);
    ASSERT_EQ(look(fresh, seq), "found") << seq;
  }
  BacklogReader reader(disk_, options_.uuid);
  for (u64 seq = damaged_first; seq < damaged_end; ++seq) {
    EXPECT_NE(look(reader, seq).find("no whole block at"), std::string::npos) << look(reader, seq);
  }
}

TEST_F(Backlog, BehindTheMarkOfANewerWriterTheOldSegmentDoesNotCount) {
  write(*writer_, 40);
  const LogMark announced = writer_->durable();
  const auto state = writer_->state();
  BacklogReader reader(disk_, options_.uuid);
  for (u64 seq = kFirst; seq < announced.next_seq; ++seq) ASSERT_EQ(look(reader, seq), "found");
  // It writes on and is killed before it tells: other messages will get these numbers.
  const std::vector<u8> phantom(700, 0xee);
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(writer_->append_message({writer_->next_seq(), 1, 0, phantom}));
    ASSERT_TRUE(writer_->flush());
  }
  drop_as_killed(disk_, writer_);
  auto resumed = journal::resume_log(disk_, options_, announced, state);
  ASSERT_TRUE(resumed) << resumed.error().text;
  writer_ = std::move(*resumed);
  write(*writer_, 30);
  BacklogReader fresh(disk_, options_.uuid);
  for (u64 seq = kFirst; seq < end(); ++seq) {
    ASSERT_EQ(look(reader, seq), "found") << seq;
    ASSERT_EQ(look(fresh, seq), "found") << seq;
  }
}

TEST_F(Backlog, AMessageThatTheLogKnowsToBeMissingIsLost) {
  write(*writer_, 10);
  const u64 gap = end();
  ASSERT_TRUE(writer_->append_message({gap + 3, 1, 0, payload(gap + 3, 50)}));
  ASSERT_TRUE(writer_->flush());
  write(*writer_, 10);
  BacklogReader reader(disk_, options_.uuid);
  for (u64 seq = gap; seq < gap + 3; ++seq) EXPECT_EQ(look(reader, seq), "lost") << seq;
  for (u64 seq = gap + 3; seq < end(); ++seq) EXPECT_EQ(look(reader, seq), "found") << seq;
  EXPECT_EQ(look(reader, gap + 1), "lost");
  EXPECT_EQ(look(reader, gap - 1), "found");
}

TEST_F(Backlog, ACopyThatWasBroughtForwardIsFoundWhereItLies) {
  write(*writer_, 30);
  const u64 old = kFirst + 4;
  const u64 at = writer_->durable().log_pos;
  ASSERT_TRUE(writer_->append_message({old, 1, 0, payload(old, 321), true}));
  ASSERT_TRUE(writer_->flush());
  write(*writer_, 30);
  BacklogReader reader(disk_, options_.uuid);
  MessageView message;
  const auto found = reader.find_from(at, old, writer_->durable(), &message);
  ASSERT_TRUE(found) << found.error().text;
  EXPECT_EQ(message.bytes.size(), 321u);
  EXPECT_TRUE(is_payload_of(old, message.bytes));
  EXPECT_FALSE(reader.find_from(at, old + 1, writer_->durable(), &message));
  ASSERT_TRUE(reader.find_from(0, old + 1, writer_->durable(), &message));
  EXPECT_TRUE(is_payload_of(old + 1, message.bytes));
  for (u64 seq = kFirst; seq < end(); ++seq) ASSERT_EQ(look(reader, seq), "found") << seq;
}

// A thousand messages later the one that is parked is still there, and the log is no longer than it would be without.
TEST_F(Backlog, AParkedMessageDoesNotPinTheLog) {
  write(*writer_, 30);
  const u64 parked = kFirst + 7;
  const u64 other = kFirst + 11;
  ASSERT_TRUE(writer_->append_park({1, 2, parked, writer_->locate(parked), 1, 1, 0, 0, 0, 0}));
  ASSERT_TRUE(writer_->append_park({1, 2, other, writer_->locate(other), 1, 1, 0, 0, 0, 0}));
  ASSERT_TRUE(writer_->flush());
  BacklogReader reader(disk_, options_.uuid);
  u64 segments_most = 0;
  u64 brought = 0;
  for (int lap = 0; lap < 30; ++lap) {
    write(*writer_, 100);
    ASSERT_TRUE(writer_->append_cursor(1, end(), {}));
    const auto copied = journal::bring_parks_forward(*writer_, reader, end(), 100);
    ASSERT_TRUE(copied) << copied.error().text;
    brought += *copied;
    ASSERT_TRUE(writer_->snapshot());
    ASSERT_TRUE(writer_->retire(end()));
    u64 segments = 0;
    for (const std::string& file : disk_.files()) segments += journal::segment_number(file).has_value() ? 1U : 0U;
    segments_most = std::max(segments_most, segments);
    if (lap == 20) {
      ASSERT_TRUE(writer_->append_release(1, other));
    }
  }
  EXPECT_GT(brought, 4u);
  EXPECT_LT(segments_most, 3 * journal::kParksPinSegments);
  ASSERT_EQ(writer_->state().parks.size(), 1u);
  // It is where the log says, also after a power cut right behind a copy that nothing proved yet.
  while (*journal::bring_parks_forward(*writer_, reader, end(), 100) == 0) {
    write(*writer_, 50);
    ASSERT_TRUE(writer_->append_cursor(1, end(), {}));
    ASSERT_TRUE(writer_->flush());
  }
  ASSERT_TRUE(writer_->flush());
  disk_.halt();
  writer_.reset();
  disk_.power_cut(0, 0);
  auto open = open_sim(disk_, options_);
  ASSERT_TRUE(open) << open.error().text;
  writer_ = std::move(open->writer);
  ASSERT_EQ(writer_->state().parks.size(), 1u);
  const journal::ParkRecord& park = writer_->state().parks.begin()->second;
  EXPECT_EQ(park.seq, parked);
  BacklogReader fresh(disk_, options_.uuid);
  MessageView message;
  const auto found = fresh.find_from(park.message_log_pos, parked, writer_->durable(), &message);
  ASSERT_TRUE(found) << found.error().text;
  EXPECT_TRUE(is_payload_of(parked, message.bytes));
}

TEST_F(Backlog, AMessageLargerThanABlockAndTheWindowIsRead) {
  for (int i = 0; i < 12; ++i) {
    ASSERT_TRUE(append(*writer_, 30'000));
    ASSERT_TRUE(append(*writer_, 10));
  }
  ASSERT_TRUE(writer_->flush());
  BacklogReader reader(disk_, options_.uuid, 4 << 10);
  for (u64 seq = kFirst; seq < end(); ++seq) ASSERT_EQ(look(reader, seq), "found") << seq;
}

}  // namespace
}  // namespace mooring::test
