// Headers over a real supervisor: the application sees the payload alone and the headers beside it, by whatever way the
// message comes: copied out, in place, parked, given back, among thousands without headers while lanes wrap. And what a
// consumer says of headers that somebody wrote over.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <mooring/mooring.hpp>
#include <random>

#include "support/service.hpp"

namespace mooring {
namespace {

using test::Service;
using test::Worker;

constexpr std::uint64_t kPatienceNs = 30'000'000'000;

mooring_queue_options small(std::uint32_t kind) {
  mooring_queue_options options;
  mooring_queue_options_init(&options, sizeof options);
  options.kind = kind;
  options.capacity = 4096;
  options.lane_bytes = 64 << 10;  // laps come soon
  return options;
}
std::string payload_of(const mooring_message& message) {
  return {static_cast<const char*>(message.data), message.size};
}

// A message that can be told from its number alone: every third one has no headers, times are on some.
struct Numbered {
  explicit Numbered(std::uint64_t number)
      : correlation("c" + std::to_string(number)),
        key(number % 200, 'k'),
        payload("payload " + std::to_string(number) + std::string(number * 37 % 900, 'p')),
        options(publish_options()) {
    if (number % 3 == 0) return;
    options.correlation_id = as_slice(correlation);
    options.ordering_key = as_slice(key);
    if (number % 5 == 0) options.deliver_at_ns = number + 1;
    if (number % 7 == 0) options.ttl_ns = kPatienceNs;
    for (std::uint64_t i = 0; i < number % 4; ++i) headers.push_back(as_header(i % 2 == 0 ? "n0" : "n1", key));
    options.headers = headers.data();
    options.headers_count = headers.size();
  }
  Numbered(const Numbered&) = delete;
  Numbered& operator=(const Numbered&) = delete;

  void expect_in(const mooring_message& message) const {
    EXPECT_EQ(payload_of(message), payload);
    const mooring_headers found = headers_of(message);
    EXPECT_EQ(as_text(found.correlation_id), as_text(options.correlation_id));
    EXPECT_EQ(as_text(found.ordering_key), as_text(options.ordering_key));
    EXPECT_EQ(found.deliver_at_ns, options.deliver_at_ns);
    EXPECT_EQ(found.expires_at_ns != 0, options.ttl_ns != 0);
    EXPECT_EQ(found.headers_count, headers.size());
    std::size_t at = 0;
    each_header(message, [&](std::string_view name, std::string_view value) {
      ASSERT_LT(at, headers.size());
      EXPECT_EQ(name, headers[at].name);
      EXPECT_EQ(value, key);
      ++at;
    });
    EXPECT_EQ(at, headers.size());
    const bool any = options.correlation_id.size != 0 || options.deliver_at_ns != 0 || options.ttl_ns != 0;
    EXPECT_EQ(message.headers_size != 0, any);
  }

  std::string correlation;
  std::string key;
  std::string payload;
  std::vector<mooring_header> headers;
  mooring_publish_options options;
};

class Headers : public testing::Test {
 protected:
  void SetUp() override { service_.start(); }
  Service service_;
};

TEST_F(Headers, ComeWithTheirMessagesWhileLanesWrap) {
  Instance instance(service_.path());
  instance.create_queue("line", small(MOORING_KIND_SPSC));
  instance.create_queue("many", small(MOORING_KIND_MPMC));
  instance.create_group("many", "place", MOORING_MODE_EXCLUSIVE);
  for (const std::string queue : {"line", "many"}) {
    Producer producer = instance.open_producer(queue);
    std::vector<Consumer> consumers;
    consumers.push_back(instance.open_consumer(queue));
    if (queue == "many") consumers.push_back(instance.open_consumer(queue, "place"));
    std::uint64_t next = 0;
    std::uint64_t expected = 0;
    while (next < 3000 && !HasFailure()) {
      std::vector<std::unique_ptr<Numbered>> sent;
      for (int i = 0; i < 8; ++i) sent.push_back(std::make_unique<Numbered>(next++));
      switch (next / 8 % 3) {
        case 0:
          for (const auto& one : sent) ASSERT_TRUE(producer.publish(one->payload, one->options).has_value());
          break;
        case 1: {
          std::vector<mooring_outgoing> batch;
          for (const auto& one : sent) batch.push_back({one->payload.data(), one->payload.size(), &one->options});
          ASSERT_EQ(producer.publish_batch(batch), batch.size());
          break;
        }
        default:
          for (const auto& one : sent) {
            const auto room = producer.reserve(one->payload.size() + 50, one->options);
            ASSERT_EQ(room.size(), one->payload.size() + 50);
            std::memcpy(room.data(), one->payload.data(), one->payload.size());
            EXPECT_NE(producer.commit(one->payload.size()), 0U);
          }
          break;
      }
      for (const auto& one : sent) {
        for (Consumer& consumer : consumers) {
          auto message = consumer.receive(kPatienceNs);
          ASSERT_TRUE(message.has_value()) << expected;
          one->expect_in(*message);
          if (expected % 16 == 0) {  // given back, and there again as it was
            ASSERT_TRUE(consumer.release(*message));
            message = consumer.receive(kPatienceNs);
            ASSERT_TRUE(message.has_value());
            EXPECT_EQ(message->attempt, 2U);
            one->expect_in(*message);
          }
          ASSERT_TRUE(consumer.ack(*message));
        }
        ++expected;
      }
    }
  }
}

// As AStoppedConsumerKilledAfterLapsGivesItsMessagesToOthers of supervisor_test: the messages leave the window in the
// name of a stopped consumer, into the park file, and come from there to another.
TEST_F(Headers, AreParkedWithTheirMessages) {
  constexpr int kHeld = 20;
  Instance instance(service_.path());
  instance.create_queue("laps", small(MOORING_KIND_MPMC));
  Producer producer = instance.open_producer("laps");
  for (std::uint64_t i = 0; i < kHeld; ++i) {
    const Numbered one(i);
    ASSERT_TRUE(producer.publish(one.payload, one.options).has_value());
  }
  Worker holder([&](const Worker::Line& line) {
    Instance own(service_.path());
    Consumer consumer = own.open_consumer("laps");
    for (int i = 0; i < kHeld; ++i) {
      if (!consumer.receive(kPatienceNs).has_value()) return 1;
    }
    line.say('h');
    line.rest();
  });
  ASSERT_TRUE(holder.heard('h'));
  holder.stop();
  Consumer consumer = instance.open_consumer("laps");
  for (int i = 0; i < 3 * 4096; ++i) {
    ASSERT_EQ(producer.try_publish("x", 1, kPatienceNs, nullptr), MOORING_OK);
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message && consumer.ack(*message));
  }
  holder.kill(SIGKILL);
  holder.join();
  std::vector<bool> seen(kHeld);
  for (int i = 0; i < kHeld; ++i) {
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message.has_value()) << i;
    EXPECT_GT(message->attempt, 1U);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(message->data) % 64, 0U);
    const std::uint64_t number = std::strtoull(payload_of(*message).c_str() + 8, nullptr, 10);
    ASSERT_LT(number, seen.size());
    EXPECT_FALSE(seen[number]);
    seen[number] = true;
    Numbered(number).expect_in(*message);
    EXPECT_TRUE(consumer.ack(*message));
  }
}

// The bytes of a lane, as its producer's process could write them.
class LaneBytes {
 public:
  explicit LaneBytes(const std::string& root) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
      if (!entry.path().filename().string().starts_with("lane-")) continue;
      const int fd = ::open(entry.path().c_str(), O_RDWR | O_CLOEXEC);
      size_ = std::filesystem::file_size(entry.path());
      void* place = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
      ::close(fd);
      if (place != MAP_FAILED) bytes_ = static_cast<char*>(place);
    }
  }
  ~LaneBytes() {
    if (bytes_ != nullptr) ::munmap(bytes_, size_);
  }
  LaneBytes(const LaneBytes&) = delete;
  LaneBytes& operator=(const LaneBytes&) = delete;

  // The word `before` bytes before the payload `text`; null: it is not there.
  std::uint64_t* before(const std::string& text, std::size_t before) const {
    if (bytes_ == nullptr) return nullptr;
    const std::size_t at = std::string_view(bytes_, size_).find(text);
    return at == std::string_view::npos ? nullptr : reinterpret_cast<std::uint64_t*>(bytes_ + at - before);
  }

 private:
  char* bytes_ = nullptr;
  std::size_t size_ = 0;
};

TEST_F(Headers, DamageInTheLaneIsSaidAndNobodyCrashes) {
  constexpr std::size_t kExtension = 8 + 16;  // head, and a type
  constexpr std::uint64_t kNeedsBit = std::uint64_t{1} << 32;
  Instance instance(service_.path());
  for (const std::uint32_t kind : {MOORING_KIND_MPMC, MOORING_KIND_SPSC}) {
    instance.create_queue("q", small(kind));
    Producer producer = instance.open_producer("q");
    mooring_publish_options options = publish_options();
    options.type = "t";
    ASSERT_TRUE(producer.publish("needs more", options).has_value());
    ASSERT_TRUE(producer.publish("no end", options).has_value());
    ASSERT_TRUE(producer.publish("inside", options).has_value());
    const LaneBytes lane(service_.root() + "/shm");
    std::uint64_t* needs = lane.before("needs more", kExtension);
    std::uint64_t* no_end = lane.before("no end", kExtension);
    std::uint64_t* inside = lane.before("inside", kExtension);
    ASSERT_TRUE(needs != nullptr && no_end != nullptr && inside != nullptr);
    ASSERT_EQ(*needs, kExtension);
    // A header of a later release that may not be skipped: refused, and given back; a program that knows it gets it.
    *needs |= kNeedsBit;
    *no_end = 1 << 20;
    inside[1] = ~std::uint64_t{0};
    Consumer consumer = instance.open_consumer("q");
    mooring_message message;
    for (int again = 0; again < 3; ++again) {
      EXPECT_EQ(consumer.try_receive(&message, 0), MOORING_ERR_VERSION);
      EXPECT_NE(std::string(mooring_error_detail()).find("may not skip"), std::string::npos) << mooring_error_detail();
    }
    *needs &= ~kNeedsBit;
    EXPECT_EQ(consumer.try_receive(&message, 0), MOORING_OK);
    EXPECT_EQ(payload_of(message), "needs more");
    EXPECT_EQ(message.attempt, 4U);
    EXPECT_EQ(as_text(headers_of(message).type), "t");
    EXPECT_TRUE(consumer.ack(message));
    // Where the payload begins is not known.
    EXPECT_EQ(consumer.try_receive(&message, 0), MOORING_ERR_CORRUPT);
    EXPECT_NE(std::string(mooring_error_detail()).find("without an end"), std::string::npos) << mooring_error_detail();
    // It is known, only its headers are gone.
    EXPECT_EQ(consumer.try_receive(&message, 0), MOORING_OK);
    EXPECT_EQ(payload_of(message), "inside");
    mooring_headers headers;
    EXPECT_EQ(mooring_message_headers(&message, &headers, sizeof headers), MOORING_ERR_CORRUPT);
    EXPECT_EQ(headers.type.data, nullptr);
    mooring_slice value;
    EXPECT_EQ(mooring_message_header(&message, "n", &value), MOORING_ERR_CORRUPT);
    EXPECT_TRUE(consumer.ack(message));
    consumer.close();
    producer.close();
    instance.remove_queue("q");
  }
}

}  // namespace
}  // namespace mooring
