// What a disk may do to a durable queue: be full, and fail. Full: a small file system (loop-mounted tmpfs is enough:
// only space counts). Failing: the journal over a disk of the test that refuses the writes of blocks.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include "durable_service.hpp"
#include "journal/posix_disk.hpp"
#include "journal/recovery.hpp"
#include "segment/queue_fixture.hpp"
#include "supervisor/queue_keeper.hpp"
#include "supervisor/queue_recovery.hpp"

namespace mooring {
namespace {

using test::drain;
using test::durable_options;
using test::DurableService;
using test::eventually;
using test::kPatienceNs;
using test::no_wait;
using test::numbered;
using test::text_of;

// A tmpfs of a size, unmounted with the object.
class SmallDisk {
 public:
  explicit SmallDisk(std::uint64_t bytes) {
    std::string pattern = "/tmp/mooring-disk-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
    mounted_ = ::mount("tmpfs", path_.c_str(), "tmpfs", 0, ("size=" + std::to_string(bytes)).c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
    ::rmdir(path_.c_str());
  }
  bool mounted() const { return mounted_; }
  const std::string& path() const { return path_; }
  // Takes all but `leave` bytes of what is free.
  void fill(std::uint64_t leave) const {
    struct statvfs info {};
    ASSERT_EQ(::statvfs(path_.c_str(), &info), 0);
    const std::uint64_t free = info.f_bavail * info.f_frsize;
    const int fd = ::open((path_ + "/filler").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    EXPECT_EQ(::posix_fallocate(fd, 0, static_cast<off_t>(free > leave ? free - leave : 1)), 0);
    ::close(fd);
  }
  void make_room() const { std::filesystem::remove(path_ + "/filler"); }

 private:
  std::string path_;
  bool mounted_ = false;
};

#define MOORING_NEEDS(disk) \
  if (!(disk).mounted()) GTEST_SKIP() << "mount(2) is not allowed here: " << std::strerror(errno)

class FullDisk : public ::testing::TestWithParam<std::uint32_t> {
 protected:
  SmallDisk disk_{u64{256} << 20};
  static constexpr std::uint64_t kBytes = 500'000;
  mooring_queue_options options() const {
    mooring_queue_options options = durable_options(GetParam());
    options.lane_bytes = 256 << 20;
    options.max_message_bytes = 1 << 20;
    return options;
  }
  static std::string text(std::uint64_t number) {
    std::string text = std::to_string(number) + " ";
    text.resize(kBytes, 'x');
    return text;
  }
  // Publishes until it is refused; how many are acknowledged. What timed out was published, and comes later.
  static void publish_until_full(Producer& producer, std::uint64_t* sent, std::uint64_t* begun) {
    for (int i = 0; i < 2000; ++i) {
      std::uint64_t seq = 0;
      const std::string message = text(*begun);
      const int code = producer.try_publish(message.data(), message.size(), 100'000'000, &seq);
      if (seq != 0) ++*begun;
      if (code == MOORING_OK) *sent = *begun;
      if (code == MOORING_ERR_DISK_FULL) {
        EXPECT_EQ(seq, 0U);
        return;
      }
      ASSERT_TRUE(code == MOORING_OK || code == MOORING_TIMEOUT) << code << " " << mooring_error_detail();
    }
    FAIL() << "the disk never became full";
  }
  static std::uint64_t receive_all(Consumer& consumer, std::uint64_t from, std::uint64_t to) {
    while (from < to) {
      const auto message = consumer.receive(kPatienceNs);
      if (!message.has_value() || std::stoull(text_of(*message)) != from || message->size != kBytes) break;
      EXPECT_TRUE(consumer.ack(*message));
      ++from;
    }
    return from;
  }
  static bool published_in_the_end(Producer& producer, std::uint64_t* sent, std::uint64_t* begun) {
    return eventually([&] {
      std::uint64_t seq = 0;
      const std::string message = text(*begun);
      const int code = producer.try_publish(message.data(), message.size(), 100'000'000, &seq);
      if (seq != 0) ++*begun;
      if (code == MOORING_OK) *sent = *begun;
      return code == MOORING_OK;
    });
  }
};
INSTANTIATE_TEST_SUITE_P(Kinds, FullDisk, ::testing::Values(MOORING_KIND_SPSC, MOORING_KIND_MPMC),
                         [](const auto& kind) { return kind.param == MOORING_KIND_SPSC ? "Spsc" : "Mpmc"; });

TEST_P(FullDisk, PublishersAreRefusedAndItGoesOnByItselfOnceThereIsRoom) {
  MOORING_NEEDS(disk_);
  DurableService service(disk_.path() + "/data");
  service.start();
  std::uint64_t sent = 0;
  std::uint64_t begun = 0;
  {
    Instance instance(service.path());
    instance.create_queue("q", options());
    Producer producer = instance.open_producer("q");
    ASSERT_TRUE(published_in_the_end(producer, &sent, &begun));
    disk_.fill(u64{80} << 20);
    publish_until_full(producer, &sent, &begun);
    EXPECT_GT(sent, 5U);
    // What was promised can be received all the while.
    Consumer consumer = instance.open_consumer("q");
    EXPECT_EQ(receive_all(consumer, 0, 3), 3U);
    disk_.make_room();
    ASSERT_TRUE(published_in_the_end(producer, &sent, &begun));
    ASSERT_TRUE(producer.wait_durable(MOORING_EVERYTHING, kPatienceNs));
    EXPECT_EQ(receive_all(consumer, 3, 4), 4U);
    EXPECT_TRUE(consumer.ack_sync(*consumer.receive(kPatienceNs), kPatienceNs));
  }
  service.reboot();
  Instance instance(service.path());
  Consumer consumer = instance.open_consumer("q");
  EXPECT_EQ(receive_all(consumer, 5, begun), begun);
  EXPECT_FALSE(consumer.receive(0).has_value());
}

TEST_P(FullDisk, DrainingMakesRoom) {
  MOORING_NEEDS(disk_);
  DurableService service(disk_.path() + "/data");
  service.start();
  Instance instance(service.path());
  instance.create_queue("q", options());
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  std::uint64_t sent = 0;
  std::uint64_t begun = 0;
  std::uint64_t received = 0;
  for (int round = 0; round < 3; ++round) {
    publish_until_full(producer, &sent, &begun);
    // All but what is published and not on the disk: that is delivered once there is room.
    received = receive_all(consumer, received, sent);
    ASSERT_EQ(received, sent);
    ASSERT_TRUE(published_in_the_end(producer, &sent, &begun)) << "round " << round;
  }
  EXPECT_EQ(receive_all(consumer, received, sent), sent);
}

TEST_P(FullDisk, KilledOnAFullDiskNothingPromisedIsLost) {
  MOORING_NEEDS(disk_);
  for (const bool lost : {false, true}) {
    SCOPED_TRACE(lost);
    DurableService service(disk_.path() + (lost ? "/lost" : "/kept"));
    service.start();
    std::uint64_t sent = 0;
    std::uint64_t begun = 0;
    {
      Instance instance(service.path());
      instance.create_queue("q", options());
      Producer producer = instance.open_producer("q");
      ASSERT_TRUE(published_in_the_end(producer, &sent, &begun));
      disk_.fill(u64{70} << 20);
      publish_until_full(producer, &sent, &begun);
    }
    service.kill_supervisor();
    disk_.make_room();
    if (lost) service.lose_memory();
    service.start();
    Instance instance(service.path());
    {
      Consumer consumer = instance.open_consumer("q");
      EXPECT_EQ(receive_all(consumer, 0, sent), sent);
    }
    instance.remove_queue("q");
  }
}

TEST_P(FullDisk, AQueueThatDoesNotFitIsRefusedAndLeavesNothing) {
  MOORING_NEEDS(disk_);
  DurableService service(disk_.path() + "/data");
  service.start();
  disk_.fill(u64{1} << 20);
  Instance instance(service.path());
  try {
    instance.create_queue("q", options());
    ADD_FAILURE() << "created";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.code(), MOORING_ERR_DISK_FULL) << failure.what();
  }
  EXPECT_THROW((void)instance.open_producer("q"), Failure);
  disk_.make_room();
  instance.create_queue("q", options());
  Producer producer = instance.open_producer("q");
  EXPECT_TRUE(producer.publish("x", kPatienceNs).has_value());
}

// --- A disk that fails ----------------------------------------------------------------------------------------------

struct Refusals {
  std::atomic<int> left{0};  // writes of blocks that will fail
  std::atomic<int> done{0};
};

class BadFile final : public journal::DiskFile {
 public:
  BadFile(std::unique_ptr<DiskFile> inner, Refusals* refusals) : inner_(std::move(inner)), refusals_(refusals) {}
  Result<u64> size_bytes() override { return inner_->size_bytes(); }
  Result<u64> read(u64 offset, std::span<u8> bytes) override { return inner_->read(offset, bytes); }
  Status write(u64 offset, std::span<const u8> bytes) override {
    if (refuses(bytes)) return fail(Code::kIo, "refused by the test");
    return inner_->write(offset, bytes);
  }
  Status submit(u64 offset, std::span<const u8> bytes) override {
    if (refuses(bytes)) return fail(Code::kIo, "refused by the test");
    return inner_->submit(offset, bytes);
  }
  Status reap() override { return inner_->reap(); }
  Status sync() override { return inner_->sync(); }
  Status lock(u64 wait_ns) override { return inner_->lock(wait_ns); }

 private:
  bool refuses(std::span<const u8> bytes) {
    u32 magic = 0;
    std::memcpy(&magic, bytes.data(), sizeof magic);
    if (magic != journal::kBlockMagic || refusals_->left.load() == 0) return false;
    --refusals_->left;
    ++refusals_->done;
    return true;
  }
  std::unique_ptr<DiskFile> inner_;
  Refusals* refusals_;
};

class BadDisk final : public journal::Disk {
 public:
  BadDisk(std::unique_ptr<Disk> inner, Refusals* refusals) : inner_(std::move(inner)), refusals_(refusals) {}
  std::string name() const override { return inner_->name(); }
  Result<std::vector<std::string>> list() override { return inner_->list(); }
  Result<std::unique_ptr<journal::DiskFile>> create(const std::string& name) override {
    return wrap(inner_->create(name));
  }
  Result<std::unique_ptr<journal::DiskFile>> open(const std::string& name, journal::DiskAccess access) override {
    return wrap(inner_->open(name, access));
  }
  Status rename(const std::string& from, const std::string& to) override { return inner_->rename(from, to); }
  Status unlink(const std::string& name) override { return inner_->unlink(name); }
  Status sync_directory() override { return inner_->sync_directory(); }
  Status lock_directory(u64 wait_ns) override { return inner_->lock_directory(wait_ns); }
  journal::Capabilities capabilities() const override { return inner_->capabilities(); }
  void register_buffers(std::span<const std::span<u8>> buffers) override { inner_->register_buffers(buffers); }

 private:
  Result<std::unique_ptr<journal::DiskFile>> wrap(Result<std::unique_ptr<journal::DiskFile>> file) {
    if (!file) return file;
    return std::make_unique<BadFile>(std::move(*file), refusals_);
  }
  std::unique_ptr<Disk> inner_;
  Refusals* refusals_;
};

class FailingDisk : public QueueFilesTest {
 protected:
  static constexpr ProcessIdentity kAlice{1001, 10};
  DurableQueue config() const {
    DurableQueue queue;
    queue.name = "q";
    queue.uuid[0] = 1;
    queue.options = small_options();
    queue.options.capacity = 1024;
    queue.options.durability = layout::Durability::kDurable;
    return queue;
  }
  journal::LogOptions log_options() const {
    journal::LogOptions options;
    options.uuid = config().uuid;
    options.first_seq = take(plan_queue("q", config().options)).first_seq;
    options.small_segment_bytes = u64{4} << 20;
    options.segment_bytes = u64{8} << 20;
    return options;
  }
  std::unique_ptr<journal::Disk> disk() {
    return std::make_unique<BadDisk>(take(journal::PosixDisk::open(path("log"))), &refusals_);
  }
  void SetUp() override {
    std::filesystem::create_directory(path("log"));
    auto bad = disk();
    journal::LogVisitor nobody;
    auto log = take(journal::open_log(*bad, log_options(), nobody));
    MOORING_EXPECT_OK(rebuild_queue(shared(), ::geteuid(), config(), *bad, *log.writer));
    keeper_ = take(QueueKeeper::open(shared(), ::geteuid(), "q", 1));
    std::vector<ProcessIdentity> owners;
    MOORING_EXPECT_OK(keeper_->adopt(&owners));
    queue_ = take(Queue::attach(shared(), ::geteuid(), "q", true));
    MOORING_EXPECT_OK(keeper_->start_journal(std::move(bad), std::move(log.writer),
                                             take(Queue::attach(shared(), ::geteuid(), "q", true))));
    const LaneGrant grant = take(keeper_->open_producer(kAlice));
    lane_ = take(queue_->files().map_lane(grant.lane, Access::read_write, true));
    writer_.emplace(queue_->order(), view_lane(lane_, queue_->constants().lane_bytes), grant.lane, 0);
  }
  u64 durable() const { return HardwareAtomics::load(queue_->files().state().durable_seq, std::memory_order_acquire); }
  u64 life() const { return HardwareAtomics::load(queue_->files().state().journal_life, std::memory_order_acquire); }
  u64 publish() {
    const auto mark = [this] { return queue_->constants().first_seq; };
    RingOutcome why = RingOutcome::kOk;
    u8* room = writer_->reserve(8, mark, &why);
    EXPECT_NE(room, nullptr);
    const u64 number = sent_++;
    HardwareAtomics::copy_in(room, reinterpret_cast<const u8*>(&number), 8);
    writer_->append(8);
    u64 seq = 0;
    u64 published = 0;
    EXPECT_EQ(writer_->publish(mark, &seq, &published), RingOutcome::kOk);
    return seq;
  }
  // What the log holds once everything is closed.
  std::vector<u64> logged() {
    keeper_.reset();
    struct Numbers : journal::LogVisitor {
      void message(const journal::MessageView& message) override {
        u64 number = 0;
        std::memcpy(&number, message.bytes.data(), sizeof number);
        numbers.push_back(number);
      }
      std::vector<u64> numbers;
    } visitor;
    auto good = take(journal::PosixDisk::open(path("log")));
    (void)take(journal::open_log(*good, log_options(), visitor));
    return visitor.numbers;
  }

  Refusals refusals_;
  std::unique_ptr<QueueKeeper> keeper_;
  std::shared_ptr<Queue> queue_;
  Mapping lane_;
  std::optional<OrderWriter<HardwareAtomics>> writer_;
  u64 sent_ = 0;
};

TEST_F(FailingDisk, OneFailedWriteIsMadeGoodElsewhere) {
  for (int round = 0; round < 20; ++round) {
    if (round % 4 == 1) refusals_.left = 1;
    const u64 seq = publish();
    ASSERT_TRUE(eventually([&] { return durable() > seq; })) << round;
  }
  EXPECT_EQ(refusals_.done, 5);
  EXPECT_EQ(life(), static_cast<u64>(layout::JournalLife::kRunning));
  const std::vector<u64> numbers = logged();
  ASSERT_EQ(numbers.size(), sent_);
  for (u64 i = 0; i < sent_; ++i) EXPECT_EQ(numbers[i], i);
}

TEST_F(FailingDisk, TheSecondInARowFailsTheQueueAndWhatWasPromisedIsSafe) {
  u64 seq = 0;
  for (int i = 0; i < 10; ++i) seq = publish();
  ASSERT_TRUE(eventually([&] { return durable() > seq; }));
  refusals_.left = 1000;
  publish();
  ASSERT_TRUE(eventually([&] { return life() == static_cast<u64>(layout::JournalLife::kFailed); }));
  EXPECT_EQ(durable(), seq + 1);
  EXPECT_FALSE(keeper_->create_group("late", layout::GroupMode::kExclusive).has_value());
  // Who asks for settlements of a failed journal changes nothing: it touches the disk no more.
  HardwareAtomics::add(queue_->files().wake()->settle_asks, u64{1}, std::memory_order_seq_cst);
  const int refused = refusals_.done;
  publish();
  EXPECT_EQ(refusals_.done, refused);
  const std::vector<u64> numbers = logged();
  EXPECT_EQ(numbers.size(), 10U);
}

}  // namespace
}  // namespace mooring
