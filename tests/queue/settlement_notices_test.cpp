// The mailbox of a consumer: notices are whole before they are named, are used again once their settlement was seen,
// and run out without harm.
#include "queue/settlement_notices.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace mooring {
namespace {

using A = HardwareAtomics;

struct Mailbox : ::testing::Test {
  Mailbox() : file(layout::kSeatFileBytes, 0xee), notices(file.data()) {}
  const layout::SeatNotice& notice(u32 index) const {
    return reinterpret_cast<const layout::SeatNotice*>(file.data() + layout::kNoticesOffset)[index];
  }
  std::string text(u32 index) const {
    const layout::SeatNotice& of = notice(index);
    return {reinterpret_cast<const char*>(file.data()) + layout::kNoticeTextsOffset +
                of.text * layout::kNoticeTextBytes,
            of.text_bytes};
  }

  alignas(64) std::vector<u8> file;
  SettlementNotices<A> notices;
  std::vector<u64> words = std::vector<u64>(4096, 7);  // what says NACKED
};

TEST_F(Mailbox, BeginsEmptyWhateverAnOwnerBeforeLeft) {
  for (u32 index = 0; index < layout::kNoticesMax; ++index) EXPECT_EQ(notice(index).seq, 0U);
}

TEST_F(Mailbox, ANoticeSaysAllOfIt) {
  const u32 index = notices.post(99, 3, {.delay_ns = 5000, .code = 42, .text = "why"});
  ASSERT_NE(index, SettlementNotices<A>::kNone);
  EXPECT_EQ(notice(index).seq, 99U);
  EXPECT_EQ(notice(index).acquired, 3U);
  EXPECT_EQ(notice(index).delay_ns, 5000U);
  EXPECT_EQ(notice(index).code, 42U);
  EXPECT_EQ(text(index), "why");
}

TEST_F(Mailbox, ATextIsCutAndALackOfTextsCostsTheTextOnly) {
  const std::string longer(2000, 'x');
  for (u32 i = 0; i < layout::kNoticeTexts; ++i) {
    const u32 index = notices.post(1 + i, 1, {.text = longer});
    EXPECT_EQ(text(index), std::string(layout::kNoticeTextBytes, 'x'));
    notices.posted(index, {&words[i], 7});
  }
  const u32 index = notices.post(100, 1, {.code = 5, .text = "lost"});
  ASSERT_NE(index, SettlementNotices<A>::kNone);
  EXPECT_EQ(notice(index).text, layout::kNoText);
  EXPECT_EQ(notice(index).code, 5U);
}

TEST_F(Mailbox, IsFullUntilASettlementWasSeen) {
  for (u32 i = 0; i < layout::kNoticesMax; ++i) {
    const u32 index = notices.post(1 + i, 1, {.code = i});
    ASSERT_NE(index, SettlementNotices<A>::kNone) << i;
    notices.posted(index, {&words[i], 7});
  }
  EXPECT_EQ(notices.post(5000, 1, {.code = 1}), SettlementNotices<A>::kNone);
  words[17] = 8;  // the supervisor changed it
  const u32 index = notices.post(5000, 1, {.code = 1});
  ASSERT_NE(index, SettlementNotices<A>::kNone);
  EXPECT_EQ(notice(index).seq, 5000U);
  notices.posted(index, {&words[17], 8});
  EXPECT_EQ(notices.post(5001, 1, {.code = 1}), SettlementNotices<A>::kNone);
}

TEST_F(Mailbox, WhatWasNotSettledIsFreeAtOnce) {
  for (u32 i = 0; i < 2 * layout::kNoticesMax; ++i) {
    const u32 index = notices.post(1 + i, 1, {.text = "stale"});
    ASSERT_NE(index, SettlementNotices<A>::kNone) << i;
    notices.posted(index, {});
    EXPECT_EQ(text(index), "stale");
  }
}

}  // namespace
}  // namespace mooring
