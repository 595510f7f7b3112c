// Random headers with random damage: the decoder never reads outside the extension (the address sanitizer looks; here
// every view it hands out is checked and read), always ends, and never takes damaged lengths for sound ones. Undamaged,
// everything is as it was given. Random; MOORING_SEED makes it another run, MOORING_FUZZ_ROUNDS a longer one.
#include <cstdlib>
#include <random>

#include "extension_bytes.hpp"

namespace mooring::message {
namespace {

u64 from_environment(const char* name, u64 otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

struct Given {
  PublishOptions options;
  std::vector<std::string> texts;
  std::vector<Header> application;
};

std::string random_text(std::mt19937_64& random, u64 least, u64 most) {
  std::string text(least + random() % (most - least + 1), '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

std::unique_ptr<Given> random_headers(std::mt19937_64& random) {
  auto given = std::make_unique<Given>();
  given->texts.reserve(64);  // views point into them
  const auto text = [&](u64 least, u64 most) -> std::string_view {
    given->texts.push_back(random_text(random, least, most));
    return given->texts.back();
  };
  const auto some = [&] { return random() % 2 == 0; };
  Headers& headers = given->options.headers;
  if (some()) given->options.deliver_at_ns = 1 + random() % 1000;
  if (some()) given->options.ttl_ns = 2000 + random() % 1000;
  if (some()) headers.on_expire = layout::OnExpire::kDrop;
  if (some()) headers.schema_version = static_cast<u32>(random());
  if (some()) headers.priority = static_cast<u32>(random() % 256);
  if (some()) headers.message_id = text(1, 255);
  if (some()) headers.correlation_id = text(1, 255);
  if (some()) headers.ordering_key = text(1, 20);
  if (some()) headers.reply_to = text(1, 20);
  if (some()) headers.content_type = text(1, 20);
  if (some()) headers.type = text(1, 20);
  if (some()) headers.traceparent = kTraceparent;
  for (u64 i = random() % 8; i != 0; --i) {
    const std::string_view name = text(1, 30);
    given->application.push_back(header_of(name, text(0, 200)));
  }
  given->options.application = given->application;
  return given;
}

bool is_inside(const ExtensionBytes& bytes, const u8* begin, const void* data, u64 size) {
  const auto* at = static_cast<const u8*>(data);
  return size == 0 || (at >= begin && size <= bytes.bytes() && at + size <= begin + bytes.bytes());
}

// Whatever the bytes are: ends, and what is handed out can be read. The sum keeps the reads.
u64 read_all(ExtensionBytes& bytes) {
  u64 sum = 0;
  const auto look = [&](const void* data, u64 size) {
    EXPECT_TRUE(is_inside(bytes, bytes.data(), data, size));
    for (u64 i = 0; i < size; ++i) sum += static_cast<const u8*>(data)[i];
  };
  u64 found = 0;
  if (extension_of(bytes.frame(), &found) == Code::kOk) {
    EXPECT_LE(found, bytes.bytes());
  }
  Times times;
  static_cast<void>(find_times(layout::kFrameExtension | layout::kFrameTimed, bytes.frame(), &times));
  Headers headers;
  u64 count = 0;
  static_cast<void>(read_headers(bytes.extension(), &headers, &count));
  for (const std::string_view text : {headers.message_id, headers.correlation_id, headers.ordering_key,
                                      headers.reply_to, headers.content_type, headers.type, headers.traceparent}) {
    look(text.data(), text.size());
  }
  EXPECT_LE(headers.priority, layout::kPriorityMax);
  Header header;
  u64 steps = 0;
  for (u64 cursor = 0; next_header(bytes.extension(), &cursor, &header) == Code::kOk; ++steps) {
    look(header.name, header.name_bytes);
    look(header.value, header.value_bytes);
    EXPECT_LE(steps, bytes.bytes() / 8);
    if (steps > bytes.bytes() / 8) break;
  }
  static_cast<void>(find_header(bytes.extension(), "no such name", &header));
  return sum;
}

TEST(ExtensionFuzz, DamagedBytesAreReadWithinTheirBounds) {
  const u64 seed = from_environment("MOORING_SEED", std::random_device{}());
  const u64 rounds = from_environment("MOORING_FUZZ_ROUNDS", 3000);
  SCOPED_TRACE("MOORING_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  u64 refused = 0;
  u64 sum = 0;
  for (u64 round = 0; round < rounds && !testing::Test::HasFailure(); ++round) {
    const std::unique_ptr<Given> given = random_headers(random);
    const Result<Plan> planned = plan_at(given->options, 1);
    ASSERT_TRUE(planned.has_value()) << planned.error().text;
    if (planned->bytes == 0) continue;
    for (int damage = 0; damage < 20; ++damage) {
      ExtensionBytes bytes(*planned);
      for (u64 changes = 1 + random() % 4; changes != 0; --changes) {
        const u64 at = random() % bytes.bytes();
        switch (random() % 5) {
          case 0: bytes.data()[at] = static_cast<u8>(random()); break;
          case 1: bytes.data()[at] ^= static_cast<u8>(1U << (random() % 8)); break;
          case 2: bytes.word(at) = random(); break;
          case 3: bytes.word(at) = bytes.word(random() % bytes.bytes()); break;
          // A head that looks like one, of any length.
          default:
            bytes.word(at) = layout::make_tlv(static_cast<layout::TlvNumber>(random() % 70),
                                              random() % (2 * bytes.bytes()), random() % 300);
            break;
        }
      }
      sum += read_all(bytes);
      Headers headers;
      u64 count = 0;
      if (read_headers(bytes.extension(), &headers, &count) != Code::kOk) ++refused;
    }
  }
  EXPECT_GT(refused, rounds) << "the damage does not reach the decoder";
  EXPECT_NE(sum, 0U);
}

TEST(ExtensionFuzz, UndamagedHeadersComeBack) {
  const u64 seed = from_environment("MOORING_SEED", std::random_device{}());
  SCOPED_TRACE("MOORING_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (u64 round = 0; round < 2000 && !testing::Test::HasFailure(); ++round) {
    const std::unique_ptr<Given> given = random_headers(random);
    const Result<Plan> planned = plan_at(given->options, 1);
    ASSERT_TRUE(planned.has_value()) << planned.error().text;
    if (planned->bytes == 0) continue;
    ExtensionBytes bytes(*planned);
    Headers headers;
    u64 count = 0;
    ASSERT_EQ(read_headers(bytes.extension(), &headers, &count), Code::kOk);
    const Headers& wanted = given->options.headers;
    EXPECT_EQ(headers.deliver_at_ns, given->options.deliver_at_ns);
    EXPECT_EQ(headers.expires_at_ns, given->options.ttl_ns == 0 ? 0 : given->options.ttl_ns + 1);
    if (headers.expires_at_ns != 0) {
      EXPECT_EQ(headers.on_expire, wanted.on_expire);
    }
    EXPECT_EQ(headers.schema_version, wanted.schema_version);
    EXPECT_EQ(headers.priority, wanted.priority);
    EXPECT_EQ(headers.message_id, wanted.message_id);
    EXPECT_EQ(headers.correlation_id, wanted.correlation_id);
    EXPECT_EQ(headers.ordering_key, wanted.ordering_key);
    EXPECT_EQ(headers.reply_to, wanted.reply_to);
    EXPECT_EQ(headers.content_type, wanted.content_type);
    EXPECT_EQ(headers.type, wanted.type);
    EXPECT_EQ(headers.traceparent, wanted.traceparent);
    ASSERT_EQ(count, given->application.size());
    u64 cursor = 0;
    Header header;
    for (const Header& one : given->application) {
      ASSERT_EQ(next_header(bytes.extension(), &cursor, &header), Code::kOk);
      EXPECT_EQ(name_of(header), name_of(one));
      EXPECT_EQ(value_of(header), value_of(one));
    }
    static_cast<void>(read_all(bytes));
  }
}

}  // namespace
}  // namespace mooring::message
