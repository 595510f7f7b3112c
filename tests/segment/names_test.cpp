// Shows which names a queue or a group may have, and that no name leads out of the directory of its queue.

#include "segment/names.hpp"

#include <gtest/gtest.h>

#include "platform/scratch.hpp"

namespace mooring {
namespace {

TEST(CheckName, TakesLettersDigitsAndThreeSigns) {
  for (const std::string name : {"a", "orders", "Orders_2", "a.b-c", "_x", "0", "a.dlq2", "dlq"}) {
    MOORING_EXPECT_OK(check_name("queue", name));
  }
  MOORING_EXPECT_OK(check_name("queue", std::string(64, 'q')));
}

TEST(CheckName, RefusesAnythingElseAndSaysWhat) {
  const std::string with_zero("a\0b", 3);
  for (const std::string& name : {std::string(), std::string("."), std::string(".."), std::string(".new-q-a"),
                                  std::string("-a"), std::string("a/b"), std::string("a b"), std::string("\xc3\xa4"),
                                  std::string("a\n"), std::string(65, 'q'), with_zero}) {
    MOORING_EXPECT_FAILS(check_name("group", name), Code::kBadArgument, "group name \"");
  }
}

TEST(CheckName, KeepsTheDeadLetterNamesForDeadLetters) {
  MOORING_EXPECT_FAILS(check_name("queue", "orders.workers.dlq"), Code::kBadArgument, "dead letters");
}

TEST(CheckName, PrintsNoControlCharactersOfTheName) {
  const auto refused = check_name("queue", "a\x1b[2J\n" + std::string(1000, 'x'));
  ASSERT_FALSE(refused);
  for (const char letter : refused.error().text) EXPECT_TRUE(letter >= ' ' && letter <= '~');
  EXPECT_LT(refused.error().text.size(), 300U);
}

TEST(FileNames, SayKindAndNumber) {
  EXPECT_EQ(queue_directory_name("orders"), "q-orders");
  EXPECT_EQ(group_file_name(0), "group-0");
  EXPECT_EQ(lane_file_name(1022), "lane-1022");
  EXPECT_EQ(seat_file_name(7), "seat-7");
}

}  // namespace
}  // namespace mooring
