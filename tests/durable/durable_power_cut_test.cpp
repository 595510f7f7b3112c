// Power cuts on real file systems: ext4 and xfs on a loop device, cut by the shutdown ioctl (nothing is flushed any
// more), every process killed, shared memory removed. Two producers, one that waits for each message and one that
// pipelines, count what was acknowledged in memory that the cut does not reach. Afterwards nothing acknowledged is
// missing, nothing foreign is there, and the order of each producer is kept.
// 300 cuts of each file system, fewer where they take too long; MOORING_CUTS=<n> asks for exactly n. Needs root.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <random>

#include "durable_service.hpp"
#include "loop_disk.hpp"

namespace mooring {
namespace {

using namespace test;

constexpr std::uint64_t kCuts = 300;
constexpr std::uint64_t kTimeNs = 85'000'000'000;  // of each file system

struct Ledger {
  std::atomic<std::uint64_t> published[2];  // acknowledged: all below
  std::atomic<std::uint64_t> begun[2];      // perhaps published: all below
};

int publish_waiting(const Worker::Line& line, const std::string& path, Ledger* ledger) {
  Instance instance(path);
  Producer producer = instance.open_producer("q");
  line.say('o');
  std::string text;
  for (std::uint64_t i = ledger->begun[0].load();; ++i) {
    text = "0 " + std::to_string(i) + " ";
    text.resize(text.size() + i * 37 % 3000, 'x');
    ledger->begun[0].store(i + 1);
    if (!producer.publish(text).has_value()) return 1;
    ledger->published[0].store(i + 1);
  }
}

int publish_pipelined(const Worker::Line& line, const std::string& path, Ledger* ledger) {
  Instance instance(path);
  const mooring_producer_options options = no_wait();
  Producer producer = instance.open_producer("q", &options);
  line.say('o');
  std::string text;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> waiting;  // seq, number
  std::size_t known = 0;
  for (std::uint64_t i = ledger->begun[1].load();; ++i) {
    text = "1 " + std::to_string(i) + " ";
    text.resize(text.size() + i * 53 % 5000, 'x');
    ledger->begun[1].store(i + 1);
    const auto seq = producer.publish(text);
    if (!seq.has_value()) return 1;
    waiting.emplace_back(*seq, i);
    for (const std::uint64_t durable = producer.durable_seq(); known < waiting.size() && waiting[known].first < durable;
         ++known) {
      ledger->published[1].store(waiting[known].second + 1);
    }
  }
}

class PowerCut : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(FileSystems, PowerCut, ::testing::Values("ext4", "xfs"),
                         [](const auto& type) { return std::string(type.param); });

TEST_P(PowerCut, NothingAcknowledgedIsLost) {
  LoopDisk disk(GetParam());
  if (!disk.trouble().empty()) GTEST_SKIP() << disk.trouble();
  const char* wanted = std::getenv("MOORING_CUTS");
  const std::uint64_t cuts_wanted = wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 0;
  const std::uint64_t began_ns = monotonic_ns();
  Ledger* ledger = shared_by_processes<Ledger>();
  ASSERT_NE(ledger, nullptr);
  std::mt19937_64 random(std::random_device{}());
  DurableService service(disk.mount_point() + "/data");
  service.start();
  {
    Instance instance(service.path());
    mooring_queue_options options = durable_options();
    options.lane_bytes = 8 << 20;
    options.journal_quota_bytes = 64 << 20;  // so that segments are small: quickly made, and more of them
    instance.create_queue("q", options);
  }
  std::uint64_t next[2] = {0, 0};  // to come of each producer
  std::uint64_t received = 0;
  std::uint64_t cuts = 0;
  while (cuts_wanted != 0 ? cuts < cuts_wanted : cuts < 3 || (cuts < kCuts && monotonic_ns() - began_ns < kTimeNs)) {
    SCOPED_TRACE("cut " + std::to_string(cuts));
    const std::uint64_t from = ledger->published[0].load() + ledger->published[1].load();
    {
      Worker waiting([&](const Worker::Line& line) { return publish_waiting(line, service.path(), ledger); });
      Worker pipelined([&](const Worker::Line& line) { return publish_pipelined(line, service.path(), ledger); });
      ASSERT_TRUE(waiting.heard('o'));
      ASSERT_TRUE(pipelined.heard('o'));
      // Some acknowledgements, then the cut; the number of them is chance, and so is what is in flight.
      const std::uint64_t until = from + 1 + random() % 400;
      ASSERT_TRUE(eventually([&] { return ledger->published[0].load() + ledger->published[1].load() >= until; }));
      ASSERT_TRUE(disk.cut()) << std::strerror(errno);
    }
    service.kill_supervisor();
    ASSERT_TRUE(disk.unmount()) << std::strerror(errno);
    ASSERT_TRUE(disk.mount()) << std::strerror(errno);
    ++cuts;
    service.lose_memory();
    service.start();
    Instance instance(service.path());
    Consumer consumer = instance.open_consumer("q");
    while (const auto message = consumer.receive(0)) {
      const std::string text = text_of(*message);
      const std::size_t who = text[0] == '1' ? 1 : 0;
      const std::uint64_t number = std::stoull(text.substr(2));
      ASSERT_EQ(number, next[who]) << "producer " << who;
      ASSERT_LT(number, ledger->begun[who].load());
      next[who] = number + 1;
      ++received;
      ASSERT_TRUE(consumer.ack(*message));
    }
    for (std::size_t who = 0; who < 2; ++who) {
      ASSERT_GE(next[who], ledger->published[who].load()) << "producer " << who << ": an acknowledged message is lost";
      // What was never acknowledged may be gone: it is not sent again, and not expected.
      ledger->begun[who].store(next[who]);
      ledger->published[who].store(next[who]);
    }
    // Settled for good, so that the next round begins here.
    Producer producer = instance.open_producer("q");
    ASSERT_TRUE(producer.publish("marker", kPatienceNs).has_value());
    const auto marker = consumer.receive(kPatienceNs);
    ASSERT_TRUE(marker.has_value());
    ASSERT_EQ(text_of(*marker), "marker");
    ASSERT_TRUE(consumer.ack_sync(*marker, kPatienceNs));
  }
  std::printf("%s: %lu cuts, %lu messages received, nothing acknowledged lost\n", GetParam(),
              static_cast<unsigned long>(cuts), static_cast<unsigned long>(received));
  service.kill_supervisor();
  ::munmap(ledger, sizeof(Ledger));
}

// The disk goes away under a running queue: whoever publishes is told, also who waits for room or for the flush, and
// what was acknowledged can still be received.
TEST_P(PowerCut, WithoutItsDiskPublishersAreToldAndConsumersDrain) {
  LoopDisk disk(GetParam());
  if (!disk.trouble().empty()) GTEST_SKIP() << disk.trouble();
  DurableService service(disk.mount_point() + "/data");
  service.start();
  {
    Instance instance(service.path());
    mooring_queue_options options = durable_options();
    instance.create_queue("q", options);
    Producer producer = instance.open_producer("q");
    for (const std::string& text : numbered(0, 100)) ASSERT_TRUE(producer.publish(text).has_value());
    ASSERT_TRUE(disk.cut()) << std::strerror(errno);
    std::uint64_t seq = 0;
    EXPECT_EQ(producer.try_publish("lost", 4, kPatienceNs, &seq), MOORING_ERR_IO);
    EXPECT_NE(seq, 0U);
    EXPECT_EQ(producer.try_publish("refused", 7, kPatienceNs, &seq), MOORING_ERR_IO);
    EXPECT_EQ(seq, 0U);
    EXPECT_EQ(mooring_wait_durable(producer.get(), MOORING_EVERYTHING, kPatienceNs), MOORING_ERR_IO);
    Consumer consumer = instance.open_consumer("q");
    const auto first = consumer.receive(kPatienceNs);
    ASSERT_TRUE(first.has_value());
    EXPECT_EQ(mooring_ack_sync(consumer.get(), &*first, kPatienceNs), MOORING_ERR_IO);
    EXPECT_EQ(drain(consumer), numbered(1, 100));
  }
  service.kill_supervisor();
  ASSERT_TRUE(disk.unmount()) << std::strerror(errno);
  ASSERT_TRUE(disk.mount()) << std::strerror(errno);
  service.lose_memory();
  service.start();
  Instance instance(service.path());
  Consumer consumer = instance.open_consumer("q");
  EXPECT_EQ(drain(consumer, true), numbered(0, 100));
}

TEST_P(PowerCut, WhoWaitsForRoomIsToldThatTheJournalFailed) {
  LoopDisk disk(GetParam());
  if (!disk.trouble().empty()) GTEST_SKIP() << disk.trouble();
  DurableService service(disk.mount_point() + "/data");
  service.start();
  Instance instance(service.path());
  instance.create_queue("q", durable_options());
  const mooring_producer_options options = no_wait();
  Producer producer = instance.open_producer("q", &options);
  service.stop_supervisor();
  const std::string text(4000, 'x');
  while (producer.publish(text, 0).has_value()) {
  }
  ASSERT_TRUE(disk.cut()) << std::strerror(errno);
  service.continue_supervisor();
  std::uint64_t seq = 1;
  EXPECT_EQ(producer.try_publish(text.data(), text.size(), kPatienceNs, &seq), MOORING_ERR_IO);
  EXPECT_EQ(seq, 0U);
  service.kill_supervisor();
}

}  // namespace
}  // namespace mooring
