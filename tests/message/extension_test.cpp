// The extension of a frame, from publish options to bytes and back: everything comes out as it went in, nothing given
// costs nothing, limits and forms are refused with their name, and a reader knows what to do with bytes it does not.
// The bytes of one example are those of docs/shared-layout.md.
#include "extension_bytes.hpp"

namespace mooring::message {
namespace {

using layout::TlvNumber;

constexpr u64 kNow = 1'800'000'000'000'000'000;

PublishOptions everything(const std::vector<Header>& application) {
  PublishOptions options;
  options.delay_ns = 5;
  options.ttl_ns = 1000;
  options.headers.on_expire = layout::OnExpire::kDrop;
  options.headers.schema_version = 7;
  options.headers.priority = 255;
  options.headers.message_id = std::string_view("i\0d", 3);
  options.headers.correlation_id = "correlation";
  options.headers.ordering_key = "customer 17";
  options.headers.reply_to = "answers";
  options.headers.content_type = "application/json";
  options.headers.type = "order.created";
  options.headers.traceparent = kTraceparent;
  options.application = application;
  return options;
}

void expect_refused(const PublishOptions& options, Code code, const std::string& part) {
  const Result<Plan> refused = plan_at(options, kNow);
  ASSERT_FALSE(refused.has_value()) << part;
  EXPECT_EQ(refused.error().code, code) << refused.error().text;
  EXPECT_NE(refused.error().text.find(part), std::string::npos) << refused.error().text;
}

TEST(Extension, EverythingComesOutAsItWentIn) {
  const std::vector<Header> application = {header_of("tenant", "blue"), header_of("empty", ""),
                                           header_of("tenant", std::string_view("\0\1\2", 3)),
                                           header_of(std::string_view("n\0", 2), "value")};
  const Result<Plan> planned = plan_at(everything(application), kNow);
  ASSERT_TRUE(planned.has_value()) << planned.error().text;
  EXPECT_EQ(planned->flags, layout::kFrameExtension | layout::kFrameTimed);
  ExtensionBytes bytes(*planned);
  u64 found_bytes = 0;
  ASSERT_EQ(extension_of(bytes.frame(), &found_bytes), Code::kOk);
  EXPECT_EQ(found_bytes, planned->bytes);

  Headers headers;
  u64 count = 0;
  ASSERT_EQ(read_headers(bytes.extension(), &headers, &count), Code::kOk);
  EXPECT_EQ(headers.deliver_at_ns, kNow + 5);
  EXPECT_EQ(headers.expires_at_ns, kNow + 1000);
  EXPECT_EQ(headers.on_expire, layout::OnExpire::kDrop);
  EXPECT_EQ(headers.schema_version, 7U);
  EXPECT_EQ(headers.priority, 255U);
  EXPECT_EQ(headers.message_id, std::string_view("i\0d", 3));
  EXPECT_EQ(headers.correlation_id, "correlation");
  EXPECT_EQ(headers.ordering_key, "customer 17");
  EXPECT_EQ(headers.reply_to, "answers");
  EXPECT_EQ(headers.content_type, "application/json");
  EXPECT_EQ(headers.type, "order.created");
  EXPECT_EQ(headers.traceparent, kTraceparent);
  EXPECT_EQ(count, application.size());

  Header header;
  u64 cursor = 0;
  for (const Header& given : application) {
    ASSERT_EQ(next_header(bytes.extension(), &cursor, &header), Code::kOk);
    EXPECT_EQ(name_of(header), name_of(given));
    EXPECT_EQ(value_of(header), value_of(given));
  }
  EXPECT_EQ(next_header(bytes.extension(), &cursor, &header), Code::kEmpty);
  EXPECT_EQ(next_header(bytes.extension(), &cursor, &header), Code::kEmpty);
  ASSERT_EQ(find_header(bytes.extension(), "tenant", &header), Code::kOk);
  EXPECT_EQ(value_of(header), "blue");
  EXPECT_EQ(find_header(bytes.extension(), "Tenant", &header), Code::kEmpty);

  Times times;
  ASSERT_EQ(find_times(planned->flags, bytes.frame(), &times), Code::kOk);
  EXPECT_EQ(times.deliver_at_ns, kNow + 5);
  EXPECT_EQ(times.expires_at_ns, kNow + 1000);
  EXPECT_EQ(times.on_expire, layout::OnExpire::kDrop);
}

TEST(Extension, NothingGivenIsNoExtension) {
  const Result<Plan> planned = plan_at({}, kNow);
  ASSERT_TRUE(planned.has_value());
  EXPECT_EQ(planned->bytes, 0U);
  EXPECT_EQ(planned->flags, 0U);
}

TEST(Extension, TheExampleOfTheDocument) {
  PublishOptions options;
  options.ttl_ns = 0x0102030405060708 - 0x0102030400000000;
  options.headers.type = "ping";
  const std::vector<Header> application = {header_of("k", "value")};
  options.application = application;
  const Result<Plan> planned = plan_at(options, 0x0102030400000000);
  ASSERT_TRUE(planned.has_value());
  ExtensionBytes bytes(*planned);
  const u8 expected[] = {
      0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  // 64 bytes, needs nothing
      0x02, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00,  // expires_at, 16 bytes
      0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01,  //
      0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  // on_expire: dead
      0x07, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00,  // type, 4 bytes
      0x70, 0x69, 0x6e, 0x67, 0x00, 0x00, 0x00, 0x00,  // ping
      0x40, 0x00, 0x01, 0x00, 0x06, 0x00, 0x00, 0x00,  // header, 1 byte of name, 6 in all
      0x6b, 0x76, 0x61, 0x6c, 0x75, 0x65, 0x00, 0x00,  // k value
  };
  ASSERT_EQ(bytes.bytes(), sizeof expected);
  for (u64 i = 0; i < sizeof expected; ++i) EXPECT_EQ(bytes.data()[i], expected[i]) << i;
}

TEST(Extension, TimesAreFlaggedAndFoundAlone) {
  for (const bool delayed : {false, true}) {
    PublishOptions options;
    (delayed ? options.deliver_at_ns : options.ttl_ns) = 77;
    const Result<Plan> planned = plan_at(options, kNow);
    ASSERT_TRUE(planned.has_value());
    EXPECT_EQ(planned->flags, layout::kFrameExtension | layout::kFrameTimed);
    ExtensionBytes bytes(*planned);
    Times times;
    ASSERT_EQ(find_times(planned->flags, bytes.frame(), &times), Code::kOk);
    EXPECT_EQ(times.deliver_at_ns, delayed ? 77 : 0);
    EXPECT_EQ(times.expires_at_ns, delayed ? 0 : kNow + 77);
    EXPECT_EQ(times.on_expire, layout::OnExpire::kDead);
  }
  PublishOptions plain;
  plain.headers.type = "t";
  const Result<Plan> planned = plan_at(plain, kNow);
  ASSERT_TRUE(planned.has_value());
  EXPECT_EQ(planned->flags, layout::kFrameExtension);
  ExtensionBytes bytes(*planned);
  Times times;
  EXPECT_EQ(find_times(planned->flags, bytes.frame(), &times), Code::kOk);
  EXPECT_EQ(times.deliver_at_ns + times.expires_at_ns, 0U);
  // A flag that promises what is not there, and one without an extension: somebody wrote over the frame.
  EXPECT_EQ(find_times(layout::kFrameExtension | layout::kFrameTimed, bytes.frame(), &times), Code::kCorrupt);
  EXPECT_EQ(find_times(layout::kFrameTimed, bytes.frame(), &times), Code::kCorrupt);
  // Without the flag not a byte is looked at.
  EXPECT_EQ(find_times(layout::kFramePublished, FrameBytes{nullptr, 100}, &times), Code::kOk);
}

TEST(Extension, LimitsAndFormsAreRefusedByName) {
  const std::string long_text(256, 'x');
  const std::vector<std::pair<const char*, std::string_view Headers::*>> texts = {
      {"message_id", &Headers::message_id},     {"correlation_id", &Headers::correlation_id},
      {"ordering_key", &Headers::ordering_key}, {"reply_to", &Headers::reply_to},
      {"content_type", &Headers::content_type}, {"type has", &Headers::type},
  };
  for (const auto& [name, member] : texts) {
    PublishOptions options;
    options.headers.*member = long_text;
    expect_refused(options, Code::kBadArgument, name);
    options.headers.*member = std::string_view(long_text).substr(1);
    EXPECT_TRUE(plan_at(options, kNow).has_value()) << name;
  }
  PublishOptions options;
  options.headers.priority = 256;
  expect_refused(options, Code::kBadArgument, "priority 256");
  options = {};
  options.deliver_at_ns = 1;
  options.delay_ns = 1;
  expect_refused(options, Code::kBadArgument, "deliver_at and delay");
  options = {};
  options.ttl_ns = ~u64{0};
  expect_refused(options, Code::kBadArgument, "end of time");
  options = {};
  options.delay_ns = 10;
  options.ttl_ns = 10;
  expect_refused(options, Code::kBadArgument, "expire before");
  options.ttl_ns = 11;
  EXPECT_TRUE(plan_at(options, kNow).has_value());
  options.headers.on_expire = static_cast<layout::OnExpire>(3);
  expect_refused(options, Code::kBadArgument, "on_expire");
  options = {};
  options.headers.traceparent = "00-0";
  expect_refused(options, Code::kBadArgument, "traceparent");

  std::vector<Header> application = {header_of("", "x")};
  options = {};
  options.application = application;
  expect_refused(options, Code::kBadArgument, "0 bytes");
  application[0] = header_of(long_text, "x");
  expect_refused(options, Code::kBadArgument, "256 bytes");
  application[0] = Header{"name", 4, nullptr, 1};
  expect_refused(options, Code::kBadArgument, "name");
}

TEST(Extension, AllOfItHasABound) {
  // Head, one TLV head, one byte of name: what is left is the largest value.
  const std::string value(layout::kExtensionBytesMax - 8 - 8 - 1, 'v');
  std::vector<Header> application = {header_of("n", value)};
  PublishOptions options;
  options.application = application;
  const Result<Plan> planned = plan_at(options, kNow);
  ASSERT_TRUE(planned.has_value()) << planned.error().text;
  EXPECT_EQ(planned->bytes, layout::kExtensionBytesMax);
  ExtensionBytes bytes(*planned);
  Header header;
  ASSERT_EQ(find_header(bytes.extension(), "n", &header), Code::kOk);
  EXPECT_EQ(value_of(header), value);
  const std::string longer = value + "v";
  application[0] = header_of("n", longer);
  expect_refused(options, Code::kTooBig, "64 KiB");
  application[0] = Header{"n", 1, "", ~std::size_t{0}};
  expect_refused(options, Code::kTooBig, "64 KiB");
  // And many small ones.
  application.assign(8191, header_of("n", ""));
  options.application = application;
  expect_refused(options, Code::kTooBig, "64 KiB");
  application.resize(4095);
  options.application = application;
  EXPECT_TRUE(plan_at(options, kNow).has_value());
}

TEST(Extension, TraceparentsAreCheckedAsTheRecommendationSays) {
  const std::string good(kTraceparent);
  EXPECT_TRUE(is_traceparent(good));
  const auto with = [&](std::size_t at, const std::string& text) {
    std::string changed = good;
    changed.replace(at, text.size(), text);
    return changed;
  };
  EXPECT_TRUE(is_traceparent(with(0, "01")));
  EXPECT_TRUE(is_traceparent(with(0, "01") + "-more"));
  EXPECT_FALSE(is_traceparent(with(0, "01") + "more"));
  EXPECT_FALSE(is_traceparent(good + "-more"));
  EXPECT_FALSE(is_traceparent(with(0, "ff")));
  EXPECT_FALSE(is_traceparent(with(3, "0AF7")));
  EXPECT_FALSE(is_traceparent(with(3, "g")));
  EXPECT_FALSE(is_traceparent(with(2, "_")));
  EXPECT_FALSE(is_traceparent(with(35, "0")));
  EXPECT_FALSE(is_traceparent(with(52, "0")));
  EXPECT_FALSE(is_traceparent(with(53, "0g")));
  EXPECT_FALSE(is_traceparent(with(3, std::string(32, '0'))));
  EXPECT_FALSE(is_traceparent(with(36, std::string(16, '0'))));
  EXPECT_FALSE(is_traceparent(good.substr(0, 54)));
  EXPECT_FALSE(is_traceparent(""));
}

TEST(Extension, UnknownNumbersAreSkippedUnlessTheHeadNeedsThem) {
  ExtensionBytes bytes(8 + 16 + 16 + 16);
  bytes.fill(0);
  bytes.word(0) = layout::make_extension_head(bytes.bytes(), 0);
  bytes.word(8) = layout::make_tlv(TlvNumber::kType, 1);
  bytes.data()[16] = 't';
  bytes.word(24) = layout::make_tlv(static_cast<TlvNumber>(63), 5, 99);  // of a later release
  bytes.word(40) = layout::make_tlv(TlvNumber::kHeader, 2, 1);
  bytes.data()[48] = 'n';
  bytes.data()[49] = 'v';
  Headers headers;
  u64 count = 0;
  ASSERT_EQ(read_headers(bytes.extension(), &headers, &count), Code::kOk);
  EXPECT_EQ(headers.type, "t");
  EXPECT_EQ(count, 1U);
  Header header;
  ASSERT_EQ(find_header(bytes.extension(), "n", &header), Code::kOk);
  EXPECT_EQ(value_of(header), "v");

  u64 found = 0;
  EXPECT_EQ(extension_of(bytes.frame(), &found), Code::kOk);
  bytes.word(0) = layout::make_extension_head(bytes.bytes(), 1);
  EXPECT_EQ(extension_of(bytes.frame(), &found), Code::kVersion);
}

TEST(Extension, DamageIsSaidAndNeverRead) {
  const std::vector<Header> application = {header_of("name", "value")};
  const Result<Plan> planned = plan_at(everything(application), kNow);
  ASSERT_TRUE(planned.has_value());
  ExtensionBytes good(*planned);
  const auto read = [](ExtensionBytes& bytes) {
    Headers headers;
    u64 count = 0;
    return read_headers(bytes.extension(), &headers, &count);
  };
  ASSERT_EQ(read(good), Code::kOk);
  const auto damaged = [&](u64 at, u64 word) {
    ExtensionBytes bytes(*planned);
    bytes.word(at) = word;
    return read(bytes);
  };
  // The first TLV is deliver_at at 8, then expires_at at 24, message_id at 48.
  EXPECT_EQ(damaged(8, layout::make_tlv(TlvNumber::kDeliverAt, 16)), Code::kCorrupt) << "a size of its own";
  EXPECT_EQ(damaged(8, layout::make_tlv(TlvNumber::kMessageId, 8)), Code::kCorrupt) << "numbers that fall";
  EXPECT_EQ(damaged(8, 0), Code::kCorrupt) << "zeros";
  EXPECT_EQ(damaged(24, layout::make_tlv(TlvNumber::kDeliverAt, 16)), Code::kCorrupt) << "a number twice";
  EXPECT_EQ(damaged(40, 3), Code::kCorrupt) << "on_expire";
  EXPECT_EQ(damaged(48, layout::make_tlv(TlvNumber::kMessageId, 0)), Code::kCorrupt) << "an empty text";
  EXPECT_EQ(damaged(48, layout::make_tlv(TlvNumber::kMessageId, ~u32{0})), Code::kCorrupt) << "beyond the end";
  const u64 last = planned->bytes - layout::tlv_size(9);
  EXPECT_EQ(damaged(last, layout::make_tlv(TlvNumber::kHeader, 9, 0)), Code::kCorrupt) << "no name";
  EXPECT_EQ(damaged(last, layout::make_tlv(TlvNumber::kHeader, 9, 10)), Code::kCorrupt) << "a name beyond its header";
  EXPECT_EQ(damaged(last, layout::make_tlv(TlvNumber::kHeader, 17, 4)), Code::kCorrupt) << "a value beyond the end";

  u64 found = 0;
  for (const u64 bytes : {u64{0}, u64{7}, u64{12}, good.bytes() + 8, layout::kExtensionBytesMax + 8}) {
    good.word(0) = layout::make_extension_head(bytes, 0);
    EXPECT_EQ(extension_of(good.frame(), &found), Code::kCorrupt) << bytes;
  }
  EXPECT_EQ(extension_of(FrameBytes{good.data(), 7}, &found), Code::kCorrupt);
  EXPECT_EQ(extension_of(FrameBytes{good.data() + 1, 64}, &found), Code::kCorrupt);

  // What an application passes is its own memory, and its own mistakes.
  Header header;
  for (const Extension& extension : {Extension{nullptr, 64}, Extension{good.data(), 4}, Extension{good.data() + 4, 16},
                                     Extension{good.data(), 20}}) {
    u64 cursor = 0;
    EXPECT_EQ(next_header(extension, &cursor, &header), Code::kCorrupt);
  }
  for (u64 cursor : {u64{1}, u64{4}, good.bytes() + 8, ~u64{0}}) {
    EXPECT_EQ(next_header(good.extension(), &cursor, &header), Code::kCorrupt) << cursor;
  }
}

}  // namespace
}  // namespace mooring::message
