// Shows: whatever the power, the disk and the kernel do between two announcements, nothing announced is lost and
// nothing is found that was not written. How: random owners of a log on a simulated disk (journal/sim_log.hpp), cut
// at random operations, in recovery too, a million times; and a short life cut at every operation: with every outcome
// where at most 12 sectors are outstanding, with a sample of them where there are more.
//
//   MOORING_SEED=7 MOORING_CUTS=1000000 journal_cuts_test       MOORING_LOG=n begins with the n-th log of the seed
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "journal/log_on_sim.hpp"

namespace mooring::test {
namespace {

u64 number_from(const char* name, u64 otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

constexpr u64 kLives = 20;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr u64 kCuts = 30'000;
#else
constexpr u64 kCuts = 1'000'000;
#endif

TEST(Cuts, NothingAnnouncedIsLostAndNothingIsInvented) {
  const u64 seed = number_from("MOORING_SEED", 1);
  const u64 wanted = number_from("MOORING_CUTS", kCuts);
  SimLog::Counts total;
  u64 cuts = 0;
  for (u64 i = number_from("MOORING_LOG", 0); cuts < wanted; ++i) {
    SimLog log(mix(seed) + i, {});
    for (u64 life = 0; life < kLives; ++life) {
      const auto wrong = log.live_and_die();
      ASSERT_FALSE(wrong.has_value()) << *wrong << "\n  log " << i << " of MOORING_SEED=" << seed << ", life " << life;
    }
    const SimLog::Counts& counts = log.counts();
    cuts += counts.cuts;
    total.cuts += counts.cuts;
    total.kills += counts.kills;
    total.cuts_in_recovery += counts.cuts_in_recovery;
    total.opened += counts.opened;
    total.announced += counts.announced;
    total.found_more += counts.found_more;
    total.disk_full += counts.disk_full;
    total.failed_logs += counts.failed_logs;
    total.retired += counts.retired;
    total.resumed += counts.resumed;
    for (const auto& [row, count] : counts.rows) total.rows[row] += count;
  }
  std::printf(
      "seed %llu: %llu power cuts (%llu while opening), %llu kills, %llu opened, %llu announcements, %llu times "
      "more was found than announced, %llu disk full, %llu failed logs, %llu segments retired, %llu warm restarts; "
      "rows",
      static_cast<unsigned long long>(seed), static_cast<unsigned long long>(total.cuts),
      static_cast<unsigned long long>(total.cuts_in_recovery), static_cast<unsigned long long>(total.kills),
      static_cast<unsigned long long>(total.opened), static_cast<unsigned long long>(total.announced),
      static_cast<unsigned long long>(total.found_more), static_cast<unsigned long long>(total.disk_full),
      static_cast<unsigned long long>(total.failed_logs), static_cast<unsigned long long>(total.retired),
      static_cast<unsigned long long>(total.resumed));
  for (const auto& [row, count] : total.rows) std::printf(" %c %llu", row, static_cast<unsigned long long>(count));
  std::printf("\n");
  // The generator reaches what it is there for.
  EXPECT_GT(total.cuts_in_recovery, 0u);
  EXPECT_GT(total.found_more, 0u);
  EXPECT_GT(total.disk_full, 0u);
  EXPECT_GT(total.retired, 0u);
  EXPECT_GT(total.resumed, 0u);
  for (const char row : {'A', 'F', 'G', 'H', 'I', 'K'}) EXPECT_GT(total.rows[row], 0u) << "row " << row;
}

// The oldest file was of a segment that does not count: the next one begins before it in the log. Taken for the
// beginning it had the log refused as one whose beginning is missing (row D).
TEST(Cuts, ASegmentThatDoesNotCountIsNotTheBeginning) {
  SimLog log(mix(7) + 34168, {});
  for (u64 life = 0; life < kLives; ++life) {
    const auto wrong = log.live_and_die();
    ASSERT_FALSE(wrong.has_value()) << *wrong << "\n  life " << life;
  }
}

// A life that has everything: opening, small and large blocks, one in flight while the next fills, a switch of
// segments, a snapshot, retirement, recycling, a seal. Returns what was announced when it ended.
u64 short_life(SimDisk& disk, const journal::LogOptions& options) {
  auto open = open_sim(disk, options);
  if (!open) return options.first_seq;
  journal::LogWriter& writer = *open->writer;
  u64 announced = open->recovered.next_seq;
  const auto flush = [&] {
    if (writer.flush()) announced = writer.durable().next_seq;
  };
  journal::GroupState group;
  group.start = options.first_seq;
  static_cast<void>(writer.append_group(1, journal::GroupChange::kCreate, group));
  for (int i = 0; i < 3; ++i) {
    static_cast<void>(append(writer, 400));
    flush();
  }
  static_cast<void>(writer.prepare());
  for (int i = 0; i < 24; ++i) {
    static_cast<void>(append(writer, i % 8 == 7 ? 9000 : 200));
    if (writer.begin_flush()) {
      static_cast<void>(append(writer, 150));
      if (writer.finish_flush()) announced = writer.durable().next_seq;
    }
  }
  flush();
  static_cast<void>(writer.append_cursor(1, announced, {}));
  if (writer.snapshot()) {
    announced = writer.durable().next_seq;
    static_cast<void>(writer.retire(announced));
    static_cast<void>(writer.prepare());
  }
  for (int i = 0; i < 12; ++i) {
    static_cast<void>(append(writer, 300));
    flush();
  }
  static_cast<void>(writer.seal());
  disk.halt();  // No clean-up.
  return announced;
}

// Empty: nothing announced is lost, nothing is invented.
std::string judge(SimDisk& disk, const journal::LogOptions& options, u64 announced) {
  SeqVisitor visitor;
  const auto scan = scan_sim(disk, visitor, options);
  if (!scan) return scan.error().text;
  const journal::RecoveryRow row = journal::decide(scan->facts);
  if (!journal::goes_on(row)) return std::string("row ") + static_cast<char>(row);
  if (!visitor.wrong.empty()) return "phantom";
  const u64 next_seq = row == journal::RecoveryRow::kEmpty ? options.first_seq : scan->end.next_seq;
  if (next_seq < announced) return "lost " + std::to_string(announced - next_seq);
  for (std::size_t i = 1; i < visitor.seqs.size(); ++i) {
    if (visitor.seqs[i] != visitor.seqs[i - 1] + 1) return "hole";
  }
  return {};
}

// Seeds that found something, with what it was.
TEST(Cuts, WhatWasFoundOnceStaysFound) {
  const std::pair<u64, u64> found[] = {
      {7, 39584},  // a poisoned segment was used again after a warm restart, which did not know
  };
  for (const auto& [seed, index] : found) {
    SimLog log(mix(seed) + index, {});
    for (u64 life = 0; life < kLives; ++life) {
      const auto wrong = log.live_and_die();
      ASSERT_FALSE(wrong.has_value()) << *wrong << "\n  log " << index << " of MOORING_SEED=" << seed;
    }
  }
}

TEST(Cuts, EveryOperationWithEveryOutcomeOfFewSectors) {
  Random random(number_from("MOORING_SEED", 1));
  u64 operations = 0;
  u64 exhaustive = 0;
  u64 outcomes = 0;
  u64 opened = 0;
  for (u64 cut = 1;; ++cut) {
    SimDisk disk;
    const journal::LogOptions options = tiny_log_options(12);
    disk.power_off_at(cut);
    const u64 announced = short_life(disk, options);
    if (disk.operations() < cut) break;
    ++operations;
    const std::size_t sectors = disk.outstanding_sectors();
    const std::size_t names = disk.outstanding_directory_operations();
    const bool is_exhaustive = sectors <= 12;
    exhaustive += is_exhaustive ? 1 : 0;
    const u64 masks = is_exhaustive ? u64{1} << sectors : 200;
    for (std::size_t kept_names = 0; kept_names <= names; ++kept_names) {
      for (u64 mask = 0; mask < masks; ++mask) {
        const auto outcome = disk.clone();
        if (is_exhaustive)
          outcome->power_cut(mask, kept_names);
        else
          outcome->power_cut(random);
        ++outcomes;
        const std::string wrong = judge(*outcome, options, announced);
        ASSERT_EQ(wrong, "") << "operation " << cut << ", " << sectors << " sectors, mask " << mask << ", names "
                             << kept_names;
        if (!random.one_in(16)) continue;
        const auto open = open_sim(*outcome, options);
        ASSERT_TRUE(open) << open.error().text;
        ASSERT_GE(open->recovered.next_seq, announced);
        ++opened;
      }
    }
  }
  std::printf("%llu operations cut, %llu of them with every outcome; %llu outcomes, %llu of them opened again\n",
              static_cast<unsigned long long>(operations), static_cast<unsigned long long>(exhaustive),
              static_cast<unsigned long long>(outcomes), static_cast<unsigned long long>(opened));
  EXPECT_GT(exhaustive, 50u);
}

}  // namespace
}  // namespace mooring::test
