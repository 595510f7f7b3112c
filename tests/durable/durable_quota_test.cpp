// The quota of a journal: used up, publishers are refused before anything is promised and the disk holds no more than
// was allowed; acknowledging makes room; a queue at its quota comes back from its log.
#include "durable_service.hpp"

namespace mooring {
namespace {

using namespace test;

constexpr std::uint64_t kQuota = 16 << 20;
// Control records may go beyond: the reserve, and a segment or two.
constexpr std::uint64_t kBeyond = 8 << 20;
constexpr std::uint64_t kBytes = 100'000;
constexpr std::uint64_t kTryNs = 100'000'000;

class Quota : public ::testing::TestWithParam<std::uint32_t> {
 protected:
  Quota() { service_.start(); }
  mooring_queue_options options(std::uint64_t quota) const {
    mooring_queue_options options = durable_options(GetParam());
    options.lane_bytes = 64 << 20;
    options.max_message_bytes = 1 << 20;
    options.journal_quota_bytes = quota;
    return options;
  }
  std::uint64_t bytes_on_disk() const {
    std::uint64_t bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(service_.data() + "/q-q")) {
      std::error_code gone;
      const auto size = std::filesystem::file_size(entry.path(), gone);
      if (!gone) bytes += size;
    }
    return bytes;
  }
  static std::string text(std::uint64_t number) {
    std::string text = std::to_string(number) + " ";
    text.resize(kBytes, 'x');
    return text;
  }
  // Publishes until it is refused: `begun` were published, `sent` of them acknowledged; the rest waits in the ring.
  void publish_until_refused(Producer& producer, std::uint64_t* sent, std::uint64_t* begun) const {
    for (int i = 0; i < 1000; ++i) {
      std::uint64_t seq = 0;
      const std::string message = text(*begun);
      const int code = producer.try_publish(message.data(), message.size(), kTryNs, &seq);
      if (seq != 0) ++*begun;
      if (code == MOORING_OK) *sent = *begun;
      EXPECT_LE(bytes_on_disk(), kQuota + kBeyond) << i;
      if (code == MOORING_ERR_DISK_FULL) {
        EXPECT_EQ(seq, 0U);
        return;
      }
      ASSERT_TRUE(code == MOORING_OK || code == MOORING_TIMEOUT) << code << " " << mooring_error_detail();
    }
    FAIL() << "the quota never bound";
  }
  // It goes on by itself, a little after there is room.
  bool published_in_the_end(Producer& producer, std::uint64_t* sent, std::uint64_t* begun) const {
    return eventually([&] {
      std::uint64_t seq = 0;
      const std::string message = text(*begun);
      const int code = producer.try_publish(message.data(), message.size(), kTryNs, &seq);
      if (seq != 0) ++*begun;
      if (code == MOORING_OK) *sent = *begun;
      return code == MOORING_OK;
    });
  }
  DurableService service_;
};
INSTANTIATE_TEST_SUITE_P(Kinds, Quota, ::testing::Values(MOORING_KIND_SPSC, MOORING_KIND_MPMC),
                         [](const auto& kind) { return kind.param == MOORING_KIND_SPSC ? "Spsc" : "Mpmc"; });

TEST_P(Quota, UsedUpItRefusesAndAcknowledgingMakesRoom) {
  Instance instance(service_.path());
  instance.create_queue("q", options(kQuota));
  std::uint64_t sent = 0;
  std::uint64_t begun = 0;
  std::uint64_t received = 0;
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  for (int lap = 0; lap < 3; ++lap) {
    SCOPED_TRACE(lap);
    ASSERT_TRUE(published_in_the_end(producer, &sent, &begun));
    publish_until_refused(producer, &sent, &begun);
    ASSERT_GT(sent, received + 10);
    for (; received < sent; ++received) {
      const auto message = consumer.receive(kPatienceNs);
      ASSERT_TRUE(message.has_value());
      ASSERT_EQ(std::stoull(text_of(*message)), received);
      ASSERT_TRUE(consumer.ack(*message));
    }
  }
}

// One dead letter in the oldest segment does not hold what was drained behind it.
TEST_P(Quota, UsedUpWithADeadLetterItIsFreedByAcknowledging) {
  Instance instance(service_.path());
  instance.create_queue("q", options(kQuota));
  std::uint64_t sent = 0;
  std::uint64_t begun = 0;
  Producer producer = instance.open_producer("q");
  ASSERT_TRUE(published_in_the_end(producer, &sent, &begun));
  Consumer consumer = instance.open_consumer("q");
  const auto bad = consumer.receive(kPatienceNs);
  ASSERT_TRUE(bad.has_value());
  ASSERT_EQ(mooring_reject(consumer.get(), &*bad, 1, "bad"), MOORING_OK);
  std::uint64_t received = 1;
  for (int lap = 0; lap < 3; ++lap) {
    SCOPED_TRACE(lap);
    ASSERT_TRUE(published_in_the_end(producer, &sent, &begun));
    publish_until_refused(producer, &sent, &begun);
    for (; received < sent; ++received) {
      const auto message = consumer.receive(kPatienceNs);
      ASSERT_TRUE(message.has_value());
      ASSERT_EQ(std::stoull(text_of(*message)), received);
      ASSERT_TRUE(consumer.ack(*message));
    }
  }
}

TEST_P(Quota, AQueueThatHasUsedItUpComesBackFromItsLog) {
  std::uint64_t sent = 0;
  std::uint64_t begun = 0;
  {
    Instance instance(service_.path());
    instance.create_queue("q", options(kQuota));
    Producer producer = instance.open_producer("q");
    publish_until_refused(producer, &sent, &begun);
  }
  for (int reboot = 0; reboot < 3; ++reboot) service_.reboot();
  EXPECT_LE(bytes_on_disk(), kQuota + kBeyond);
  Instance instance(service_.path());
  Consumer consumer = instance.open_consumer("q");
  std::uint64_t received = 0;
  for (; received < sent; ++received) {
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message.has_value()) << received << " of " << sent;
    ASSERT_EQ(std::stoull(text_of(*message)), received);
    ASSERT_TRUE(consumer.ack(*message));
  }
  // The quota came along: it was read from queue.json.
  Producer producer = instance.open_producer("q");
  ASSERT_TRUE(published_in_the_end(producer, &sent, &begun));
  publish_until_refused(producer, &sent, &begun);
  EXPECT_GT(sent, received + 10);
}

TEST_P(Quota, IsPartOfWhatAQueueIsCreatedWith) {
  Instance instance(service_.path());
  instance.create_queue("q", options(kQuota));
  instance.create_queue("q", options(kQuota));
  const auto code_of = [&](const mooring_queue_options& wanted) {
    return mooring_queue_create(instance.get(), wanted.durability == MOORING_DURABLE ? "q" : "v", &wanted);
  };
  EXPECT_EQ(code_of(options(2 * kQuota)), MOORING_ERR_EXISTS);
  EXPECT_NE(std::string(mooring_error_detail()).find("journal_quota"), std::string::npos) << mooring_error_detail();
  EXPECT_EQ(code_of(options(0)), MOORING_ERR_EXISTS);
  EXPECT_EQ(code_of(options(kQuota - 1)), MOORING_ERR_BAD_ARGUMENT);
  mooring_queue_options none = options(kQuota);
  none.durability = MOORING_VOLATILE;
  EXPECT_EQ(code_of(none), MOORING_ERR_BAD_ARGUMENT);
  mooring_queue_options large = options(kQuota);
  large.max_message_bytes = 8 << 20;
  EXPECT_EQ(code_of(large), MOORING_ERR_BAD_ARGUMENT);
  EXPECT_NE(std::string(mooring_error_detail()).find("journal_quota"), std::string::npos) << mooring_error_detail();
}

}  // namespace
}  // namespace mooring
