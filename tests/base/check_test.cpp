// Shows that a broken invariant stops the process with a message that names it, and that a kept one costs nothing.

#include "base/check.hpp"

#include <gtest/gtest.h>

namespace mooring {
namespace {

TEST(Check, KeptInvariantPasses) {
  int evaluated_count = 0;
  MOORING_CHECK(++evaluated_count == 1);
  EXPECT_EQ(evaluated_count, 1);
}

TEST(CheckDeathTest, BrokenInvariantAbortsAndNamesItself) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const int head = 3;
  EXPECT_EXIT(MOORING_CHECK(head == 4), testing::KilledBySignal(SIGABRT),
              "internal check failed: head == 4 .*check_test");
}

TEST(CheckDeathTest, HotPathCheckIsOnlyForDebugBuilds) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const int head = 3;
#ifdef NDEBUG
  MOORING_DCHECK(head == 4);
  SUCCEED() << "not evaluated in release";
#else
  EXPECT_EXIT(MOORING_DCHECK(head == 4), testing::KilledBySignal(SIGABRT), "internal check failed");
#endif
}

}  // namespace
}  // namespace mooring
