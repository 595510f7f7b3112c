// Disks that are slow: on a FUSE server below a loop-mounted file system, which keeps what it is told to keep.
//
// LATE WRITES  mooringd is killed while a block of its log is on the way to the disk (through io_uring: the process is
// gone at once, the write is not), and started again at once. The block lands only when the successor
//   memory kept   serves, has acknowledged messages and logged them
//   memory lost   waits for the lock that the dead writer's description still holds
// Afterwards the log is recovered from the disk: nothing acknowledged is lost, nothing comes twice or from nobody, the
// order of each producer is kept. 50 kills; MOORING_KILLS=<n> asks for n.
//
// A STALLED DISK  answers nothing: publishing without waiting goes on until the ring is full, consumers of an `early`
// queue go on too, and all is well once it answers again.
#include <algorithm>
#include <random>
#include <set>

#include "durable_service.hpp"
#include "fuse_disk.hpp"
#include "journal/posix_disk.hpp"
#include "journal/recovery.hpp"
#include "loop_disk.hpp"
#include "supervisor/durable_queues.hpp"

namespace mooring {
namespace {

using namespace test;

constexpr std::uint64_t kDiskBytes = std::uint64_t{512} << 20;
// More than goes into one pwrite (LogOptions::direct_write_bytes_max), so that the ring has it.
constexpr std::uint64_t kRingBytes = 72 << 10;

constexpr std::uint64_t kBurst = 300;

enum Mark : std::size_t { kBegun, kBegunSecond, kPublished, kPublishedSecond };

std::string sent(std::uint64_t who, std::uint64_t number) {
  std::string text = std::to_string(who) + " " + std::to_string(number) + " ";
  text.resize(text.size() + number * 53 % (who == 0 ? 3000 : 2000), static_cast<char>('a' + number % 26));
  return text;
}

int publish_waiting(const Worker::Line& line, const std::string& path, FuseDisk& disk) {
  Instance instance(path);
  Producer producer = instance.open_producer("q");
  line.say('o');
  for (std::uint64_t i = disk.mark(kBegun).load();; ++i) {
    disk.mark(kBegun).store(i + 1);
    if (!producer.publish(sent(0, i)).has_value()) return 1;
    disk.mark(kPublished).store(i + 1);
  }
}

int publish_pipelined(const Worker::Line& line, const std::string& path, FuseDisk& disk) {
  Instance instance(path);
  const mooring_producer_options options = no_wait();
  Producer producer = instance.open_producer("q", &options);
  line.say('o');
  std::vector<std::pair<std::uint64_t, std::uint64_t>> waiting;  // seq, number
  std::size_t known = 0;
  for (std::uint64_t i = disk.mark(kBegunSecond).load();; ++i) {
    disk.mark(kBegunSecond).store(i + 1);
    const auto seq = producer.publish(sent(1, i));
    if (!seq.has_value()) return 1;
    waiting.emplace_back(*seq, i);
    for (const std::uint64_t durable = producer.durable_seq(); known < waiting.size() && waiting[known].first < durable;
         ++known) {
      disk.mark(kPublishedSecond).store(waiting[known].second + 1);
    }
    // In bursts that make blocks large enough; the ring is never full.
    if (i % kBurst != kBurst - 1) continue;
    if (mooring_wait_durable(producer.get(), MOORING_EVERYTHING, MOORING_FOREVER) != MOORING_OK) return 1;
  }
}

bool has_open(pid_t pid, const std::string& part) {
  std::error_code gone;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd", gone)) {
    if (std::filesystem::read_symlink(entry.path(), gone).string().find(part) != std::string::npos) return true;
  }
  return false;
}

class SlowDisk : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!disk_.trouble().empty()) GTEST_SKIP() << disk_.trouble();
    file_system_.emplace("ext4", disk_.file(), place_.mount_point(), /*direct=*/true);
    if (!file_system_->trouble().empty() || !file_system_->format()) GTEST_SKIP() << file_system_->trouble();
    ASSERT_TRUE(file_system_->mount()) << std::strerror(errno);
    service_.emplace(place_.mount_point() + "/data");
  }
  void TearDown() override {
    if (!disk_.trouble().empty()) return;
    disk_.stall(false);
    disk_.land();
  }
  journal::RecoveryRow row_of_log() {
    auto queues = DurableQueues::open(service_->data(), /*create=*/false);
    auto config = queues->read("q");
    auto disk = journal::PosixDisk::open(queues->log_path("q"), {.use_uring = false});
    journal::LogVisitor nobody;
    const auto scanned = journal::scan_log(**disk, {config->uuid, 0}, nobody);
    return scanned ? journal::decide(scanned->facts) : journal::RecoveryRow::kMissing;
  }

  FuseDisk disk_{kDiskBytes};
  LoopPlace place_;
  std::optional<LoopMount> file_system_;
  std::optional<DurableService> service_;
};

TEST_F(SlowDisk, AWriteThatLandsAfterItsWriterWasKilledDoesNoHarm) {
  const char* wanted = std::getenv("MOORING_KILLS");
  const std::uint64_t kills = wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 50;
  std::mt19937_64 random(std::random_device{}());
  service_->start();
  {
    Instance instance(service_->path());
    mooring_queue_options options = durable_options();
    options.capacity = 1 << 16;
    options.lane_bytes = 32 << 20;
    instance.create_queue("q", options);
  }
  std::uint64_t next[2] = {0, 0};  // to come of each producer
  std::uint64_t received = 0;
  std::uint64_t ghosts = 0;
  std::uint64_t waits_for_lock = 0;
  for (std::uint64_t kill = 0; kill < kills; ++kill) {
    SCOPED_TRACE("kill " + std::to_string(kill));
    const bool keeps_memory = kill % 2 == 0;
    {
      Worker waiting([&](const Worker::Line& line) { return publish_waiting(line, service_->path(), disk_); });
      Worker pipelined([&](const Worker::Line& line) { return publish_pipelined(line, service_->path(), disk_); });
      ASSERT_TRUE(waiting.heard('o'));
      ASSERT_TRUE(pipelined.heard('o'));
      const std::uint64_t until = disk_.mark(kPublished).load() + 1 + random() % 8;
      ASSERT_TRUE(eventually([&] { return disk_.mark(kPublished).load() >= until; }));
      disk_.hold_writes(1, kRingBytes);
      ASSERT_TRUE(eventually([&] { return disk_.held() != 0; }));
      service_->kill_supervisor();
      ASSERT_EQ(disk_.held(), 1U);  // its writer is dead and gone, it is not
      if (keeps_memory) {
        service_->start();  // and serves
        const std::uint64_t more = disk_.mark(kPublished).load() + 5;
        ASSERT_TRUE(eventually([&] { return disk_.mark(kPublished).load() >= more; }));
        ASSERT_EQ(disk_.held(), 1U);
      }
    }
    if (keeps_memory) {
      disk_.land();
      ASSERT_TRUE(eventually([&] { return disk_.held() == 0; }));
      service_->kill_supervisor();
      if (row_of_log() == journal::RecoveryRow::kGhost) ++ghosts;
      service_->lose_memory();
      service_->start();
    } else {
      service_->lose_memory();
      service_->begin();
      ASSERT_TRUE(eventually([&] { return has_open(service_->pid(), "/q-q/log-"); }));
      if (disk_.held() != 0) ++waits_for_lock;
      disk_.land();
      ASSERT_TRUE(service_->logged("serves"));
    }
    Instance instance(service_->path());
    Consumer consumer = instance.open_consumer("q");
    while (const auto message = consumer.receive(0)) {
      const std::string text = text_of(*message);
      const std::size_t who = text[0] == '1' ? 1 : 0;
      ASSERT_EQ(text, sent(who, next[who])) << "message " << message->seq;
      ASSERT_LT(next[who], disk_.mark(who == 0 ? kBegun : kBegunSecond).load());
      ++next[who];
      ++received;
      ASSERT_TRUE(consumer.ack(*message));
    }
    for (std::size_t who = 0; who < 2; ++who) {
      ASSERT_GE(next[who], disk_.mark(who == 0 ? kPublished : kPublishedSecond).load())
          << "producer " << who << ": an acknowledged message is lost";
      // What was never acknowledged may be gone: it is not sent again, and not expected.
      disk_.mark(who == 0 ? kBegun : kBegunSecond).store(next[who]);
      disk_.mark(who == 0 ? kPublished : kPublishedSecond).store(next[who]);
    }
    // Settled for good, so that the next round begins here.
    Producer producer = instance.open_producer("q");
    ASSERT_TRUE(producer.publish("marker", kPatienceNs).has_value());
    const auto marker = consumer.receive(kPatienceNs);
    ASSERT_TRUE(marker.has_value());
    ASSERT_EQ(text_of(*marker), "marker");
    ASSERT_TRUE(consumer.ack_sync(*marker, kPatienceNs));
  }
  // Else this was no test of late writes.
  EXPECT_GT(ghosts, 0U);
  EXPECT_EQ(waits_for_lock, kills / 2);
  std::printf(
      "%lu kills with a write in flight: %lu landed behind the mark of a newer writer, %lu successors waited "
      "for the lock; %lu messages received\n",
      static_cast<unsigned long>(kills), static_cast<unsigned long>(ghosts), static_cast<unsigned long>(waits_for_lock),
      static_cast<unsigned long>(received));
}

TEST_F(SlowDisk, WhileItStallsPublishersGoOnUntilTheRingIsFull) {
  service_->start();
  Instance instance(service_->path());
  mooring_queue_options early = durable_options(MOORING_KIND_MPMC, MOORING_DELIVER_EARLY);
  early.lane_bytes = 1 << 20;
  instance.create_queue("q", early);
  const mooring_producer_options options = no_wait();
  Producer producer = instance.open_producer("q", &options);
  Consumer consumer = instance.open_consumer("q");
  ASSERT_TRUE(producer.publish("first").has_value());
  ASSERT_TRUE(producer.wait_durable(MOORING_EVERYTHING, kPatienceNs));
  ASSERT_EQ(drain(consumer), std::vector<std::string>{"first"});
  const std::uint64_t durable = producer.durable_seq();
  disk_.stall(true);
  std::uint64_t published = 0;
  std::uint64_t seq = 0;
  int code = MOORING_OK;
  // Delivered at once, though nothing reaches the disk.
  for (;; ++published) {
    const std::string text = std::to_string(published);
    code = producer.try_publish(text.data(), text.size(), 0, &seq);
    if (code != MOORING_OK) break;
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message.has_value());
    ASSERT_EQ(text_of(*message), text);
    ASSERT_TRUE(consumer.ack(*message));
  }
  EXPECT_EQ(code, MOORING_FULL);
  EXPECT_EQ(published, 4096U);  // the capacity: nothing leaves the ring that is not on the disk
  EXPECT_EQ(producer.durable_seq(), durable);
  EXPECT_EQ(mooring_wait_durable(producer.get(), MOORING_EVERYTHING, 0), MOORING_TIMEOUT);
  disk_.stall(false);
  EXPECT_TRUE(producer.wait_durable(MOORING_EVERYTHING, kPatienceNs));
  EXPECT_TRUE(producer.publish("again", kPatienceNs).has_value());
  EXPECT_EQ(drain(consumer), std::vector<std::string>{"again"});
}

}  // namespace
}  // namespace mooring
