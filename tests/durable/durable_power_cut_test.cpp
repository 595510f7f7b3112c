// Power cuts on real file systems: ext4 and xfs on a loop device, cut by the shutdown ioctl (nothing is flushed any
// more), every process killed, shared memory removed. Two producers, one that waits for each message and one that
// pipelines, count what was acknowledged in memory that the cut does not reach. Both have been told something since the
// last cut, and have something on its way, when the next one comes. Afterwards nothing acknowledged is missing, nothing
// foreign is there, byte by byte, and the order of each producer is kept.
//
// 300 cuts of each file system, or as many as MOORING_CUTS says; never fewer: what takes too long is ended by CTest,
// and has failed. One mkfs for all of them, and small lanes and logs: what a cut costs is a mount, a recovery and the
// start of three processes. With its flushes swallowed (no_flush.c) the same comparison must find a loss. Needs root.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <random>

#include "durable_service.hpp"
#include "loop_disk.hpp"

namespace mooring {
namespace {

using namespace test;

constexpr std::uint64_t kCuts = 300;
constexpr std::uint64_t kCutsOfMutant = 20;

struct Ledger {
  std::atomic<std::uint64_t> published[2];  // acknowledged: all below
  std::atomic<std::uint64_t> begun[2];      // perhaps published: all below
};

std::string sent(std::size_t who, std::uint64_t number) {
  std::string text = std::to_string(who) + " " + std::to_string(number) + " ";
  text.resize(text.size() + (who == 0 ? number * 37 % 3000 : number * 53 % 5000),
              static_cast<char>('a' + (number + who) % 26));
  return text;
}

// The log is small, and may have used its quota up until what was settled before has retired: what is refused is not on
// its way.
std::uint64_t publish(const Producer& producer, std::uint64_t number, const std::string& text,
                      std::atomic<std::uint64_t>& begun) {
  for (;;) {
    begun.store(number + 1);
    std::uint64_t seq = 0;
    const int code = mooring_publish(producer.get(), text.data(), text.size(), MOORING_FOREVER, &seq);
    if (code == MOORING_OK) return seq;
    if (code != MOORING_ERR_DISK_FULL) throw Failure(code, Failure::detail_of(code));
    begun.store(number);
    ::sched_yield();
  }
}

// Each ends when the cut is told it, or with its life.
int publish_waiting(const Worker::Line& line, const std::string& path, Ledger* ledger) try {
  Instance instance(path);
  Producer producer = instance.open_producer("q");
  line.say('o');
  for (std::uint64_t i = ledger->begun[0].load();; ++i) {
    publish(producer, i, sent(0, i), ledger->begun[0]);
    ledger->published[0].store(i + 1);
  }
} catch (const Failure& failure) {
  return failure.code() == MOORING_ERR_IO ? 0 : 1;
}

int publish_pipelined(const Worker::Line& line, const std::string& path, Ledger* ledger) try {
  Instance instance(path);
  const mooring_producer_options options = no_wait();
  Producer producer = instance.open_producer("q", &options);
  line.say('o');
  std::vector<std::pair<std::uint64_t, std::uint64_t>> waiting;  // seq, number
  std::size_t known = 0;
  for (std::uint64_t i = ledger->begun[1].load();; ++i) {
    waiting.emplace_back(publish(producer, i, sent(1, i), ledger->begun[1]), i);
    for (const std::uint64_t durable = producer.durable_seq(); known < waiting.size() && waiting[known].first < durable;
         ++known) {
      ledger->published[1].store(waiting[known].second + 1);
    }
  }
} catch (const Failure& failure) {
  return failure.code() == MOORING_ERR_IO ? 0 : 1;
}

class PowerCut : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(FileSystems, PowerCut, ::testing::Values("ext4", "xfs"),
                         [](const auto& type) { return std::string(type.param); });

// A queue on a disk that is cut again and again.
class CutQueue {
 public:
  explicit CutQueue(LoopDisk& disk) : disk_(disk), service_(disk.mount_point() + "/data") {}
  ~CutQueue() {
    service_.kill_supervisor();
    if (ledger_ != nullptr) ::munmap(ledger_, sizeof(Ledger));
  }

  void create() {
    ledger_ = shared_by_processes<Ledger>();
    ASSERT_NE(ledger_, nullptr);
    service_.start();
    Instance instance(service_.path());
    mooring_queue_options options = durable_options();
    // Small, so that they are quickly made, and segments come and go.
    options.lane_bytes = 1 << 20;
    options.journal_quota_bytes = 32 << 20;
    options.producers_max = 4;
    options.consumers_max = 2;
    instance.create_queue("q", options);
  }
  // So that nothing it says is done is on the disk.
  void restart_without_flushes() {
    service_.kill_supervisor();
    ::setenv("LD_PRELOAD", MOORING_NO_FLUSH, 1);
    ::setenv("MOORING_NO_FSYNC", "1", 1);
    service_.start();
    ::unsetenv("LD_PRELOAD");
    ::unsetenv("MOORING_NO_FSYNC");
  }
  // Load, acknowledgements of both, and the cut with something of theirs on its way; then all processes and the memory
  // are gone, and the disk is mounted again.
  void cut(std::uint64_t acknowledged) {
    const std::uint64_t from[2] = {ledger_->published[0].load(), ledger_->published[1].load()};
    {
      Worker waiting([&](const Worker::Line& line) { return publish_waiting(line, service_.path(), ledger_); });
      Worker pipelined([&](const Worker::Line& line) { return publish_pipelined(line, service_.path(), ledger_); });
      ASSERT_TRUE(waiting.heard('o'));
      ASSERT_TRUE(pipelined.heard('o'));
      ASSERT_TRUE(eventually([&] {
        const std::uint64_t told[2] = {ledger_->published[0].load() - from[0], ledger_->published[1].load() - from[1]};
        return told[0] > 0 && told[1] > 0 && told[0] + told[1] >= acknowledged &&
               ledger_->begun[0].load() > ledger_->published[0].load() &&
               ledger_->begun[1].load() > ledger_->published[1].load();
      }));
      ASSERT_TRUE(disk_.cut()) << std::strerror(errno);
    }
    service_.kill_supervisor();
    ASSERT_TRUE(disk_.unmount()) << std::strerror(errno);
    ASSERT_TRUE(disk_.mount()) << std::strerror(errno);
    service_.lose_memory();
  }
  // What is wrong with what came out of the cut; empty: nothing. Everything is received and settled, so that the next
  // round begins here.
  std::string look() try {
    service_.start();
    Instance instance(service_.path());
    Consumer consumer = instance.open_consumer("q");
    while (const auto message = consumer.receive(0)) {
      const std::string text = text_of(*message);
      unsigned long who = 0;
      unsigned long number = 0;
      if (std::sscanf(text.c_str(), "%lu %lu ", &who, &number) != 2 || who > 1 || text != sent(who, number)) {
        return "a message is nobody's: " + text.substr(0, 40);
      }
      const std::string name = "producer " + std::to_string(who) + ": message " + std::to_string(number);
      if (number != next_[who]) return name + " where " + std::to_string(next_[who]) + " was to follow";
      if (number >= ledger_->begun[who].load()) return name + " was never sent";
      next_[who] = number + 1;
      ++received_;
      if (!consumer.ack(*message)) return "an acknowledgement is refused";
    }
    for (std::size_t who = 0; who < 2; ++who) {
      if (next_[who] < ledger_->published[who].load()) {
        return "producer " + std::to_string(who) + ": all below " + std::to_string(ledger_->published[who].load()) +
               " was acknowledged, and it ends at " + std::to_string(next_[who]);
      }
      // What was never acknowledged may be gone: it is not sent again, and not expected.
      ledger_->begun[who].store(next_[who]);
      ledger_->published[who].store(next_[who]);
    }
    Producer producer = instance.open_producer("q");
    if (!producer.publish("marker", kPatienceNs).has_value()) return "it takes nothing more";
    const auto marker = consumer.receive(kPatienceNs);
    if (!marker.has_value() || text_of(*marker) != "marker") return "the marker does not come";
    if (!consumer.ack_sync(*marker, kPatienceNs)) return "the marker cannot be settled";
    return {};
  } catch (const Failure& failure) {
    return failure.what();
  }
  std::uint64_t received() const { return received_; }

 private:
  LoopDisk& disk_;
  DurableService service_;
  Ledger* ledger_ = nullptr;
  std::uint64_t next_[2] = {0, 0};  // to come of each producer
  std::uint64_t received_ = 0;
};

TEST_P(PowerCut, NothingAcknowledgedIsLost) {
  LoopDisk disk(GetParam());
  if (!disk.trouble().empty()) GTEST_SKIP() << disk.trouble();
  const char* text = std::getenv("MOORING_CUTS");
  const std::uint64_t wanted = text != nullptr ? std::strtoull(text, nullptr, 10) : kCuts;
  std::mt19937_64 random(std::random_device{}());
  CutQueue queue(disk);
  queue.create();
  for (std::uint64_t cuts = 1; cuts <= wanted && !HasFatalFailure(); ++cuts) {
    SCOPED_TRACE("cut " + std::to_string(cuts));
    // Their number is chance, and so is what is in flight.
    queue.cut(2 + random() % 100);
    if (HasFatalFailure()) return;
    ASSERT_EQ(queue.look(), "");
  }
  EXPECT_GE(queue.received(), 2 * wanted);
  std::printf("%s: %lu cuts under load, %lu messages received, nothing acknowledged lost\n", GetParam(),
              static_cast<unsigned long>(wanted), static_cast<unsigned long>(queue.received()));
}

// The test of the test.
TEST_P(PowerCut, WithoutFlushesALossIsFound) {
  LoopDisk disk(GetParam());
  if (!disk.trouble().empty()) GTEST_SKIP() << disk.trouble();
  CutQueue queue(disk);
  queue.create();
  std::string found;
  std::uint64_t cuts = 0;
  while (found.empty() && cuts < kCutsOfMutant) {
    queue.restart_without_flushes();
    if (HasFatalFailure()) return;
    queue.cut(100);
    if (HasFatalFailure()) return;
    ++cuts;
    found = queue.look();
  }
  EXPECT_NE(found, "") << cuts << " cuts without a flush, and nothing was found";
  std::printf("%s: found at cut %lu: %s\n", GetParam(), static_cast<unsigned long>(cuts), found.c_str());
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
