// Shows that a failure carries its code and its sentence, that errno values meet the right codes, and that every code
// has a text of its own.

#include "base/error.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <set>

namespace mooring {
namespace {

using testing::EndsWith;
using testing::StartsWith;

constexpr Code kCodes[] = {
    Code::kOk,          Code::kEmpty,      Code::kFull,        Code::kTimeout,     Code::kStale,    Code::kExpired,
    Code::kPaused,      Code::kDuplicate,  Code::kInterrupted, Code::kNoSuchQueue, Code::kExists,   Code::kTooBig,
    Code::kBadArgument, Code::kPermission, Code::kNoSeat,      Code::kVersion,     Code::kCorrupt,  Code::kNoSupervisor,
    Code::kIo,          Code::kDiskFull,   Code::kClosed,      Code::kForked,      Code::kNoMemory,
};

Result<int> half_of(int value) {
  if (value % 2 != 0) return fail(Code::kBadArgument, std::to_string(value) + " is odd; pass an even number");
  return value / 2;
}

Status half_must_be_even(int value) {
  const Result<int> half = half_of(value);
  if (!half) return fail(half.error());
  return {};
}

TEST(Error, ResultCarriesTheValue) {
  const Result<int> half = half_of(8);
  ASSERT_TRUE(half.has_value());
  EXPECT_EQ(*half, 4);
  EXPECT_TRUE(half_must_be_even(8).has_value());
}

TEST(Error, FailureKeepsCodeAndTextThroughCallers) {
  const Status status = half_must_be_even(7);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Code::kBadArgument);
  EXPECT_EQ(status.error().text, "7 is odd; pass an even number");
}

TEST(Error, ErrnoMeetsItsCode) {
  const auto code_of = [](int error_number) { return fail_errno(error_number, "x").value().code; };
  EXPECT_EQ(code_of(EACCES), Code::kPermission);
  EXPECT_EQ(code_of(EPERM), Code::kPermission);
  EXPECT_EQ(code_of(ENOSPC), Code::kDiskFull);
  EXPECT_EQ(code_of(EDQUOT), Code::kDiskFull);
  EXPECT_EQ(code_of(ENOMEM), Code::kNoMemory);
  EXPECT_EQ(code_of(EMFILE), Code::kNoMemory);
  EXPECT_EQ(code_of(ENFILE), Code::kNoMemory);
  EXPECT_EQ(code_of(EIO), Code::kIo);
}

TEST(Error, OtherErrnoTakesTheCallersCode) {
  EXPECT_EQ(fail_errno(ENOENT, "x", Code::kNoSuchQueue).value().code, Code::kNoSuchQueue);
  EXPECT_EQ(fail_errno(EACCES, "x", Code::kNoSuchQueue).value().code, Code::kPermission);
}

TEST(Error, ErrnoTextEndsWithTheSystemsWords) {
  const std::string text = fail_errno(EACCES, "cannot open /x/y").value().text;
  EXPECT_THAT(text, StartsWith("cannot open /x/y: "));
  EXPECT_THAT(text, EndsWith("Permission denied"));
}

TEST(Error, EveryCodeHasATextOfItsOwn) {
  std::set<std::string_view> texts;
  for (const Code code : kCodes) {
    EXPECT_NE(code_text(code), "unknown code") << static_cast<int>(code);
    EXPECT_TRUE(texts.insert(code_text(code)).second) << code_text(code) << " is said twice";
  }
  EXPECT_EQ(code_text(static_cast<Code>(-1)), "unknown code");
}

TEST(Error, FailuresNeverMeetAnErrno) {
  for (const Code code : kCodes) {
    const int value = static_cast<int>(code);
    EXPECT_TRUE(value >= 0 || value < -4095) << value;
  }
}

}  // namespace
}  // namespace mooring
