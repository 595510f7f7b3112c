// Shows: the oracle of the cuts test is not blind. The same random owners, with one mistake built into the shipped
// writer or reader (LogOptions::bug), are caught; without one they are clean. Prints after how many cuts.
#include <gtest/gtest.h>

#include <cstdio>

#include "journal/sim_log.hpp"

namespace mooring::test {
namespace {

using journal::JournalBug;

struct Verdict {
  u64 cuts = 0;
  std::optional<std::string> wrong;
};

Verdict hunt(JournalBug bug, u64 cuts_max) {
  Verdict verdict;
  for (u64 i = 0; verdict.cuts < cuts_max; ++i) {
    SimLogOptions options;
    options.bug = bug;
    SimLog log(mix(77) + i, options);
    for (u64 life = 0; life < 20; ++life) {
      ++verdict.cuts;
      verdict.wrong = log.live_and_die();
      if (verdict.wrong) return verdict;
    }
  }
  return verdict;
}

class Mutants : public testing::TestWithParam<std::pair<const char*, JournalBug>> {};

TEST_P(Mutants, AreCaught) {
  const Verdict verdict = hunt(GetParam().second, 20'000);
  ASSERT_TRUE(verdict.wrong.has_value()) << "not caught in " << verdict.cuts << " cuts";
  std::printf("%s: caught after %llu cuts: %s\n", GetParam().first, static_cast<unsigned long long>(verdict.cuts),
              verdict.wrong->c_str());
}

INSTANTIATE_TEST_SUITE_P(All, Mutants,
                         testing::Values(std::pair{"NoSync", JournalBug::kNoSync},
                                         std::pair{"NoDirectorySync", JournalBug::kNoDirectorySync},
                                         std::pair{"SyncRetried", JournalBug::kSyncRetried},
                                         std::pair{"NoChecksum", JournalBug::kNoChecksum}),
                         [](const auto& mutant) { return std::string(mutant.param.first); });

TEST(NoMutant, IsClean) {
  const Verdict verdict = hunt(JournalBug::kNone, 2'000);
  EXPECT_FALSE(verdict.wrong.has_value()) << *verdict.wrong;
}

}  // namespace
}  // namespace mooring::test
