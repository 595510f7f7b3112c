// Shows that a kill point calls the hook of a test with its name, and nothing while there is none.

#include "base/kill_point.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace mooring {
namespace {

std::vector<std::string> seen_names;

class KillPoint : public testing::Test {
 protected:
  void SetUp() override { seen_names.clear(); }
  // Relaxed: the code under test runs in this thread.
  void TearDown() override { kill_point_hook.store(nullptr, std::memory_order_relaxed); }
};

TEST_F(KillPoint, PassesUnnoticedWithoutAHook) {
  MOORING_KILL_POINT("test.first");
  EXPECT_TRUE(seen_names.empty());
}

TEST_F(KillPoint, TellsTheHookItsName) {
  kill_point_hook.store([](const char* name) { seen_names.emplace_back(name); }, std::memory_order_relaxed);
  MOORING_KILL_POINT("test.first");
  MOORING_KILL_POINT("test.second");
  EXPECT_EQ(seen_names, (std::vector<std::string>{"test.first", "test.second"}));
}

}  // namespace
}  // namespace mooring
