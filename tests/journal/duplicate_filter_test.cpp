// Shows: which message repeats another, at the edges of the window by count and by time; that the same is decided by
// whoever takes over, killed or cut off anywhere, with what it reads in the log: compared with a model that remembers
// every message. How: the filter with a log on the simulated disk, and a clock of the test's.
#include "journal/duplicate_filter.hpp"

#include <gtest/gtest.h>

#include "journal/log_on_sim.hpp"

namespace mooring::test {
namespace {

using journal::DuplicateBounds;
using journal::DuplicateFilter;
using journal::LogOptions;
using journal::LogWriter;
using journal::MessageIdHash;
using journal::MessageIdRecord;

constexpr u64 kSecond = 1'000'000'000;

MessageIdHash id_of(u64 number) { return {number * 0x9e3779b97f4a7c15ULL, ~number}; }

// Judges and accepts; everything before is announced. The seq of the first.
u64 first_of(DuplicateFilter& filter, u64 seq, u64 number, u64 wall_ns) {
  const MessageIdRecord record = filter.judge(seq, id_of(number), wall_ns, seq);
  filter.accept(record);
  return record.first;
}

TEST(DuplicateFilter, TheFirstOneWinsAndIsNotRenewed) {
  DuplicateFilter filter({100, 10 * kSecond}, {});
  EXPECT_EQ(first_of(filter, 10, 1, 0), 10U);
  EXPECT_EQ(first_of(filter, 11, 2, 0), 11U);
  EXPECT_EQ(first_of(filter, 12, 1, 6 * kSecond), 10U);
  EXPECT_EQ(first_of(filter, 13, 1, 9 * kSecond), 10U);
  EXPECT_EQ(first_of(filter, 14, 1, 10 * kSecond), 14U);  // ten seconds after the first, not after the last
  EXPECT_EQ(first_of(filter, 15, 1, 11 * kSecond), 14U);
}

TEST(DuplicateFilter, TheWindowByCountHasAnEdge) {
  DuplicateFilter filter({3, 10 * kSecond}, {});
  for (u64 seq = 1; seq <= 3; ++seq) EXPECT_EQ(first_of(filter, seq, seq, 0), seq);
  EXPECT_EQ(first_of(filter, 4, 1, 0), 1U);  // a duplicate takes no place
  EXPECT_EQ(first_of(filter, 5, 4, 0), 5U);
  EXPECT_EQ(first_of(filter, 6, 1, 0), 6U);
  EXPECT_EQ(first_of(filter, 7, 3, 0), 3U);
  EXPECT_EQ(first_of(filter, 8, 2, 0), 8U);
  EXPECT_EQ(filter.size(), 4U);  // and one, while the last is not announced
}

TEST(DuplicateFilter, AClockThatIsSetBackMakesNobodyOlder) {
  DuplicateFilter filter({3, 10 * kSecond}, {});
  EXPECT_EQ(first_of(filter, 1, 1, 100 * kSecond), 1U);
  EXPECT_EQ(first_of(filter, 2, 1, 50 * kSecond), 1U);
  EXPECT_EQ(first_of(filter, 3, 1, 109 * kSecond), 1U);
  EXPECT_EQ(first_of(filter, 4, 1, 110 * kSecond), 4U);
}

// What every supervisor has to come to: all messages that were announced, with their ids.
class Model {
 public:
  struct Told {
    u64 number;
    u64 wall_ns;
    u64 first;
  };
  explicit Model(const DuplicateBounds& bounds) : bounds_(bounds) {}
  u64 first_of(u64 seq, u64 number, u64 wall_ns) const {
    u64 newer = 0;
    for (auto told = told_.rbegin(); told != told_.rend(); ++told) {
      if (told->second.first != told->first) continue;
      if (++newer > bounds_.messages_max) break;
      if (told->second.number != number) continue;
      return wall_ns - told->second.wall_ns < bounds_.window_ns ? told->first : seq;
    }
    return seq;
  }
  void tell(u64 seq, const Told& told) { told_[seq] = told; }
  void forget_from(u64 seq) { told_.erase(told_.lower_bound(seq), told_.end()); }

 private:
  DuplicateBounds bounds_;
  std::map<u64, Told> told_;
};

struct Life {
  std::unique_ptr<LogWriter> writer;
  std::optional<DuplicateFilter> filter;
  u64 announced = 0;  // durable_seq, as in shared memory
  u64 log_mark = 0;
};

class DuplicatesOverCrashes : public testing::TestWithParam<u64> {};
INSTANTIATE_TEST_SUITE_P(Seeds, DuplicatesOverCrashes, testing::Range<u64>(1, 41));

TEST_P(DuplicatesOverCrashes, TheSameIsDecidedByWhoTakesOver) {
  Random random(GetParam());
  const DuplicateBounds bounds{1 + random.below(12), 20 + random.below(60)};
  u64 wall_ns = 1'000;
  LogOptions options = tiny_log_options(GetParam());
  options.times = [&wall_ns] { return journal::LogTimes{wall_ns, wall_ns}; };
  SimDisk disk;
  Model model(bounds);
  Life life;
  auto open = open_sim(disk, options);
  ASSERT_TRUE(open) << open.error().text;
  life.writer = std::move(open->writer);
  life.filter.emplace(bounds, life.writer->state().ids);
  const auto announce = [&] {
    life.log_mark = life.writer->durable().log_pos;
    life.announced = life.writer->durable().next_seq;
  };
  announce();
  u64 duplicates = 0;
  for (int step = 0; step < 1500; ++step) {
    wall_ns += random.below(6);
    const u64 what = random.below(100);
    if (what < 80) {
      const u64 seq = life.writer->next_seq();
      const u64 number = random.below(18);
      const MessageIdRecord judged = life.filter->judge(seq, id_of(number), wall_ns, life.writer->durable().next_seq);
      ASSERT_EQ(judged.first, model.first_of(seq, number, wall_ns)) << "message " << seq << ", step " << step;
      const bool duplicate = judged.first != seq;
      journal::MessageAppend append{.seq = seq};
      append.id = &judged;
      append.duplicate = duplicate;
      const u64 first = judged.first;
      if (duplicate) append.bytes = {reinterpret_cast<const u8*>(&first), sizeof first};
      const Status taken = life.writer->append_message(append);
      if (!taken) {
        ASSERT_EQ(taken.error().code, Code::kFull);
        ASSERT_TRUE(life.writer->flush());
        announce();
        continue;
      }
      life.filter->accept(judged);
      model.tell(seq, {number, wall_ns, first});
      duplicates += duplicate ? 1 : 0;
    } else if (what < 90) {
      ASSERT_TRUE(life.writer->flush());
      announce();
    } else if (what < 94) {
      ASSERT_TRUE(life.writer->snapshot());
      announce();
    } else {
      const bool cold = what < 97;
      if (random.one_in(2)) {  // killed between the two marks
        ASSERT_TRUE(life.writer->flush());
        life.log_mark = life.writer->durable().log_pos;
      }
      disk.halt();
      life.filter.reset();
      life.writer.reset();
      if (cold) {
        disk.power_cut(random);
        auto again = open_sim(disk, options);
        ASSERT_TRUE(again) << again.error().text;
        life.writer = std::move(again->writer);
      } else {
        disk.process_killed(random, true);
        const journal::LogMark mark{life.log_mark, life.announced};
        auto ids = journal::read_ids(disk, options.uuid, mark);
        ASSERT_TRUE(ids) << ids.error().text;
        journal::LogState state;
        state.ids = std::move(*ids);
        auto resumed = journal::resume_log(disk, options, mark, std::move(state));
        ASSERT_TRUE(resumed) << resumed.error().text;
        life.writer = std::move(*resumed);
      }
      announce();
      model.forget_from(life.writer->next_seq());
      life.filter.emplace(bounds, life.writer->state().ids);
    }
  }
  EXPECT_GT(duplicates, 50U);
}

}  // namespace
}  // namespace mooring::test
