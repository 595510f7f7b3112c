// Shows: whatever the power, the disk and the kernel do between two announcements, nothing announced is lost and nothing
// is found that was not written. How: random owners of a log on a simulated disk (journal/sim_log.hpp), cut at random
// operations, in recovery too, some 100,000 times; and short ones cut at every operation with every outcome of every
// outstanding sector.
//
//   MOORING_SEED=7 MOORING_CUTS=1000000 journal_cuts_test
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "journal/sim_log.hpp"

namespace mooring::test {
namespace {

u64 number_from(const char* name, u64 otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

constexpr u64 kLives = 20;

TEST(Cuts, NothingAnnouncedIsLostAndNothingIsInvented) {
  const u64 seed = number_from("MOORING_SEED", 1);
  const u64 wanted = number_from("MOORING_CUTS", 30'000);
  SimLog::Counts total;
  u64 cuts = 0;
  for (u64 i = 0; cuts < wanted; ++i) {
    SimLog log(mix(seed) + i, {});
    for (u64 life = 0; life < kLives; ++life) {
      const auto wrong = log.live_and_die();
      ASSERT_FALSE(wrong.has_value()) << *wrong << "\n  log " << i << " of MOORING_SEED=" << seed << ", life " << life;
    }
    const SimLog::Counts& counts = log.counts();
    cuts += counts.cuts + counts.kills;
    total.cuts += counts.cuts;
    total.kills += counts.kills;
    total.cuts_in_recovery += counts.cuts_in_recovery;
    total.opened += counts.opened;
    total.announced += counts.announced;
    total.found_more += counts.found_more;
    total.disk_full += counts.disk_full;
    total.failed_logs += counts.failed_logs;
    for (const auto& [row, count] : counts.rows) total.rows[row] += count;
  }
  std::printf("seed %llu: %llu power cuts (%llu while opening), %llu kills, %llu opened, %llu announcements, %llu times "
              "more was found than announced, %llu disk full, %llu failed logs; rows",
              static_cast<unsigned long long>(seed), static_cast<unsigned long long>(total.cuts),
              static_cast<unsigned long long>(total.cuts_in_recovery), static_cast<unsigned long long>(total.kills),
              static_cast<unsigned long long>(total.opened), static_cast<unsigned long long>(total.announced),
              static_cast<unsigned long long>(total.found_more), static_cast<unsigned long long>(total.disk_full),
              static_cast<unsigned long long>(total.failed_logs));
  for (const auto& [row, count] : total.rows) std::printf(" %c %llu", row, static_cast<unsigned long long>(count));
  std::printf("\n");
  // The generator reaches what it is there for.
  EXPECT_GT(total.cuts_in_recovery, 0u);
  EXPECT_GT(total.found_more, 0u);
  EXPECT_GT(total.disk_full, 0u);
  for (const char row : {'A', 'F', 'G', 'H', 'I', 'K'}) EXPECT_GT(total.rows[row], 0u) << "row " << row;
}

}  // namespace
}  // namespace mooring::test
