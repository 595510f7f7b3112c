// Power cuts below the file system: ext4 and xfs on a loop device over a disk that records every write and flush
// (fuse_disk.hpp), mooringd on it under load. Two producers, one that waits for each message and one that pipelines,
// and a consumer mark in the same record what they were told. Half-way mooringd and the memory are lost, so that a
// recovery is recorded as well.
//
// Then, at random instants, the disk is made as a cut might have left it: what a flush covers is there, every later
// write is dropped, whole, or torn at any of its 512-byte sectors (at 4 KiB where it is the file system's own), later
// ones with or without earlier ones. It is mounted, the log recovered by our code (each tenth cut: by mooringd, and
// received), and compared with what was marked by then:
//
//   nothing acknowledged is missing, nothing settled for good comes back    marks of the instant
//   nothing is there that nobody sent, and nothing settled that nobody acknowledged
//   what is there of a producer is what it sent first, in order, byte by byte
//
// With the flushes of mooringd swallowed (no_flush.c) the same comparison must find losses. Needs root.
// MOORING_CUTS=<n> asks for n cuts of each file system, MOORING_SEED for the cuts of an earlier run.
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <map>
#include <random>

#include "durable_service.hpp"
#include "fuse_disk.hpp"
#include "journal/posix_disk.hpp"
#include "journal/recovery.hpp"
#include "loop_disk.hpp"
#include "supervisor/durable_queues.hpp"

namespace mooring {
namespace {

using namespace test;

constexpr std::uint64_t kDiskBytes = std::uint64_t{400} << 20;
constexpr std::uint64_t kCutsOfARecording = 100;
constexpr std::uint64_t kAcknowledgedInAnEra = 400;
constexpr std::uint64_t kEras = 2;

enum Mark : std::size_t {
  kCreated,      // 1: the queue was said to be there
  kEra,          // counts the lives of mooringd
  kBegun,        // of the first producer in this era: perhaps published, all below
  kBegunSecond,  // of the second one
  kDurableSeq,   // acknowledged: all below
  kAckBegun,     // perhaps settled: all below
  kSettled,      // settled for good: all below
  kFirstSeq,     // of the queue
};

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

void raise_to(std::atomic<std::uint64_t>& mark, std::uint64_t value) {
  for (std::uint64_t known = mark.load(); known < value && !mark.compare_exchange_weak(known, value);) {
  }
}

std::string sent(std::uint64_t era, std::uint64_t who, std::uint64_t number) {
  std::string text = std::to_string(era) + " " + std::to_string(who) + " " + std::to_string(number) + " ";
  std::mt19937_64 random(era * 1'000'003 + who * 101 + number * 7919);
  // Some are larger than what goes into one pwrite.
  std::uint64_t bytes = random() % 4000;
  if (who == 1 && number % 50 == 49) bytes = 100'000 + random() % 100'000;
  for (std::uint64_t i = 0; i < bytes; ++i) {
    text.push_back(static_cast<char>('a' + (number + i * (1 + random() % 2)) % 26));
    if (i % 512 == 511) text += std::to_string(number);
  }
  return text;
}

int publish_waiting(const Worker::Line& line, const std::string& path, FuseDisk& disk, std::uint64_t era) {
  Instance instance(path);
  Producer producer = instance.open_producer("q");
  line.say('o');
  for (std::uint64_t i = 0;; ++i) {
    disk.mark(kBegun).store(i + 1);
    const auto seq = producer.publish(sent(era, 0, i));
    if (!seq.has_value()) return 1;
    raise_to(disk.mark(kDurableSeq), *seq + 1);
  }
}

int publish_pipelined(const Worker::Line& line, const std::string& path, FuseDisk& disk, std::uint64_t era) {
  Instance instance(path);
  const mooring_producer_options options = no_wait();
  Producer producer = instance.open_producer("q", &options);
  line.say('o');
  for (std::uint64_t i = 0;; ++i) {
    disk.mark(kBegunSecond).store(i + 1);
    if (!producer.publish(sent(era, 1, i)).has_value()) return 1;
    raise_to(disk.mark(kDurableSeq), producer.durable_seq());
    // Enough in flight for large blocks, and little enough for many of them.
    if (i % 64 == 63 && mooring_wait_durable(producer.get(), MOORING_EVERYTHING, MOORING_FOREVER) != MOORING_OK) {
      return 1;
    }
  }
}

int consume(const Worker::Line& line, const std::string& path, FuseDisk& disk) {
  Instance instance(path);
  Consumer consumer = instance.open_consumer("q");
  line.say('o');
  std::uint64_t last = 0;
  bool in_order = true;
  for (std::uint64_t i = 1;; ++i) {
    const auto message = consumer.receive();
    if (!message.has_value()) return 1;
    in_order = in_order && message->seq > last;
    last = message->seq;
    raise_to(disk.mark(kAckBegun), message->seq + 1);
    if (i % 16 != 0) {
      if (!consumer.ack(*message)) return 1;
    } else {
      if (!consumer.ack_sync(*message)) return 1;
      if (in_order) raise_to(disk.mark(kSettled), last + 1);
    }
  }
}

// Where the files of the log lie on the device.
std::vector<CutDisk::Extent> extents_of(const std::string& directory) {
  std::vector<CutDisk::Extent> found;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    alignas(fiemap) char memory[sizeof(fiemap) + 512 * sizeof(fiemap_extent)]{};
    auto* map = reinterpret_cast<fiemap*>(memory);
    map->fm_length = FIEMAP_MAX_OFFSET;
    map->fm_extent_count = 512;
    const int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && ::ioctl(fd, FS_IOC_FIEMAP, map) == 0) {
      for (std::uint32_t i = 0; i < map->fm_mapped_extents; ++i) {
        const fiemap_extent& extent = map->fm_extents[i];
        found.push_back({extent.fe_physical, extent.fe_physical + extent.fe_length});
      }
    }
    if (fd >= 0) ::close(fd);
  }
  return found;
}

struct Recording {
  std::string trouble;
  std::vector<CutDisk::Extent> log_places;
  std::size_t first = 0;  // entry: the file system is there
};

void record(const std::string& type, FuseDisk& disk, bool with_flushes, Recording* recording) {
  const LoopPlace place;
  LoopMount file_system(type, disk.file(), place.mount_point(), /*direct=*/true);
  if (!file_system.trouble().empty() || !file_system.format()) {
    recording->trouble = file_system.trouble();
    return;
  }
  ASSERT_TRUE(file_system.mount()) << std::strerror(errno);
  recording->first = disk.recorded();
  {
    DurableService service(file_system.mount_point() + "/data");
    const auto start = [&] {
      if (!with_flushes) ::setenv("LD_PRELOAD", MOORING_NO_FLUSH, 1);
      service.start();
      ::unsetenv("LD_PRELOAD");
    };
    start();
    {
      Instance instance(service.path());
      mooring_queue_options options = durable_options();
      options.lane_bytes = 8 << 20;
      options.journal_quota_bytes = 64 << 20;  // so that segments are small: quickly made, and more of them
      instance.create_queue("q", options);
      disk.mark(kFirstSeq).store(instance.open_producer("q").durable_seq());
      disk.mark(kCreated).store(1);
    }
    for (std::uint64_t era = 0; era < kEras; ++era) {
      if (era != 0) start();
      disk.mark(kEra).store(era);
      disk.mark(kBegun).store(0);
      disk.mark(kBegunSecond).store(0);
      {
        const std::uint64_t until = disk.mark(kDurableSeq).load() + kAcknowledgedInAnEra;
        Worker consumer([&](const Worker::Line& line) { return consume(line, service.path(), disk); });
        Worker waiting([&](const Worker::Line& line) { return publish_waiting(line, service.path(), disk, era); });
        Worker pipelined([&](const Worker::Line& line) { return publish_pipelined(line, service.path(), disk, era); });
        ASSERT_TRUE(consumer.heard('o'));
        ASSERT_TRUE(waiting.heard('o'));
        ASSERT_TRUE(pipelined.heard('o'));
        ASSERT_TRUE(eventually([&] { return disk.mark(kDurableSeq).load() >= until; }));
        service.kill_supervisor();
      }
      service.lose_memory();
    }
    recording->log_places = extents_of(service.data() + "/q-q");
  }
  ASSERT_TRUE(file_system.unmount()) << std::strerror(errno);
}

// What came out of a cut, and whether it is what was marked.
class Verdict : public journal::LogVisitor {
 public:
  explicit Verdict(const Marks& marks) : marks_(marks) {}

  void message(const journal::MessageView& message) override {
    if ((message.record_flags & journal::kMessageCopy) != 0) return;
    take(message.seq, {reinterpret_cast<const char*>(message.bytes.data()), message.bytes.size()});
  }
  void take(std::uint64_t seq, const std::string& text) {
    std::uint64_t era = 0;
    std::uint64_t who = 0;
    std::uint64_t number = 0;
    if (std::sscanf(text.c_str(), "%lu %lu %lu ", &era, &who, &number) != 3 || who > 1 || era > marks_[kEra] ||
        text != sent(era, who, number)) {
      problem("message " + std::to_string(seq) + " is nobody's: " + text.substr(0, 40));
      return;
    }
    if (era == marks_[kEra] && number >= marks_[who == 0 ? kBegun : kBegunSecond]) {
      problem("message " + std::to_string(seq) + " was not sent by then");
    }
    if (!found_.empty() && seq <= last_) return;  // written again by a recovery
    last_ = seq;
    found_.emplace(seq, std::pair(era * 2 + who, number));
  }
  // Of the log: all messages that somebody may need, and perhaps some before them.
  void close(std::uint64_t next_seq, const journal::LogState& state) {
    if (next_seq < marks_[kDurableSeq]) {
      problem("the log ends at " + std::to_string(next_seq) + ", acknowledged was all below " +
              std::to_string(marks_[kDurableSeq]));
    }
    std::map<std::uint64_t, std::uint64_t> next;
    for (const auto& [seq, who_and_number] : found_) {
      const auto& [who, number] = who_and_number;
      if (next.contains(who) && number != next[who]) {
        problem("message " + std::to_string(seq) + " is number " + std::to_string(number) + ", not " +
                std::to_string(next[who]) + " of its producer");
      }
      next[who] = number + 1;
    }
    if (state.groups.empty()) {
      if (marks_[kCreated] != 0) problem("the group is lost");
      return;
    }
    const journal::GroupState& group = state.groups.begin()->second;
    if (group.base < marks_[kSettled]) {
      problem("settled for good was all below " + std::to_string(marks_[kSettled]) + ", the log says " +
              std::to_string(group.base));
    }
    const std::uint64_t settled_end =
        group.runs.empty() ? group.base : group.runs.back().first + group.runs.back().count;
    if (!found_.empty() && settled_end > std::max(marks_[kAckBegun], found_.begin()->first)) {
      problem("settled up to " + std::to_string(settled_end) + ", nobody acknowledged more than " +
              std::to_string(marks_[kAckBegun]));
    }
    for (std::uint64_t seq = group.base; seq < marks_[kDurableSeq]; ++seq) {
      if (!found_.contains(seq)) problem("message " + std::to_string(seq) + ", acknowledged, is lost");
    }
  }
  // Of what a consumer got.
  void close_received() {
    if (!found_.empty() && found_.begin()->first < marks_[kSettled]) {
      problem("message " + std::to_string(found_.begin()->first) + ", settled for good, came back");
    }
    for (std::uint64_t seq = std::max(marks_[kAckBegun], marks_[kFirstSeq]); seq < marks_[kDurableSeq]; ++seq) {
      if (!found_.contains(seq)) problem("message " + std::to_string(seq) + ", acknowledged, is lost");
    }
  }
  void problem(const std::string& text) {
    if (problems_++ == 0) first_ = text;
  }
  std::uint64_t problems() const { return problems_; }
  const std::string& first() const { return first_; }
  std::uint64_t messages() const { return found_.size(); }

 private:
  Marks marks_;
  std::map<std::uint64_t, std::pair<std::uint64_t, std::uint64_t>> found_;  // seq: whose and its number
  std::uint64_t last_ = 0;
  std::uint64_t problems_ = 0;
  std::string first_;
};

void recover_log(const std::string& data, Verdict& verdict) {
  auto queues = DurableQueues::open(data, /*create=*/false);
  if (!queues) return verdict.problem(queues.error().text);
  auto config = queues->read("q");
  if (!config) return verdict.problem(config.error().text);
  auto disk = journal::PosixDisk::open(queues->log_path("q"), {.use_uring = false});
  if (!disk) return verdict.problem(disk.error().text);
  journal::LogOptions options;
  options.uuid = config->uuid;
  options.segment_bytes = options.small_segment_bytes;
  auto log = journal::open_log(**disk, options, verdict);
  if (!log) return verdict.problem(log.error().text);
  verdict.close(log->recovered.next_seq, log->recovered.state);
}

void receive_all(const std::string& data, Verdict& verdict) try {
  DurableService service(data);
  service.start();
  Instance instance(service.path());
  Consumer consumer = instance.open_consumer("q");
  while (const auto message = consumer.receive(0)) {
    verdict.take(message->seq, text_of(*message));
    if (!consumer.ack(*message)) verdict.problem("an acknowledgement is refused");
  }
  verdict.close_received();
  if (!instance.open_producer("q").publish("after", kPatienceNs).has_value()) verdict.problem("it takes nothing more");
} catch (const Failure& failure) {
  verdict.problem(failure.what());
}

struct Count {
  std::uint64_t cuts = 0;
  std::uint64_t unmountable = 0;
  std::uint64_t before_the_queue = 0;
  std::uint64_t messages = 0;
  std::uint64_t losses = 0;  // cuts with a problem
  std::string first;
};

void cut(const std::string& type, const FuseDisk& disk, const Recording& recording, std::uint64_t cuts,
         std::mt19937_64& random, Count* count) {
  std::vector<FuseDisk::Entry> entries = disk.entries();
  std::vector<std::size_t> places;
  for (std::uint64_t i = 0; i < cuts; ++i) {
    places.push_back(recording.first + random() % (entries.size() - recording.first));
  }
  std::ranges::sort(places);
  std::vector<Marks> marks;
  for (const std::size_t at : places) marks.push_back(entries[at].record.marks);
  const LoopPlace place;
  const std::string image = place.image(0);
  CutDisk cut_disk(disk.size(), std::move(entries), recording.log_places);
  for (std::size_t i = 0; i < places.size(); ++i) {
    cut_disk.make(places[i], random, image);
    LoopMount file_system(type, image, place.mount_point(), /*direct=*/false);
    ASSERT_EQ(file_system.trouble(), "");
    ++count->cuts;
    if (!file_system.mount()) {
      ++count->unmountable;
      continue;
    }
    const std::string data = place.mount_point() + "/data";
    Verdict verdict(marks[i]);
    if (marks[i][kCreated] == 0) {
      ++count->before_the_queue;
    } else if (i % 10 == 9) {
      receive_all(data, verdict);
    } else {
      recover_log(data, verdict);
    }
    count->messages += verdict.messages();
    if (verdict.problems() != 0) {
      if (count->losses++ == 0) {
        count->first = "cut before entry " + std::to_string(places[i]) + ": " + verdict.first();
      }
    }
    ASSERT_TRUE(file_system.unmount()) << std::strerror(errno);
  }
}

class BlockCut : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    std::printf("seed %lu\n", static_cast<unsigned long>(seed_));
    random_.seed(seed_);
  }
  std::uint64_t seed_ = from_environment("MOORING_SEED", std::random_device{}());
  std::mt19937_64 random_;
};
INSTANTIATE_TEST_SUITE_P(FileSystems, BlockCut, ::testing::Values("ext4", "xfs"),
                         [](const auto& type) { return std::string(type.param); });

TEST_P(BlockCut, NothingAcknowledgedIsLost) {
  const std::uint64_t wanted = from_environment("MOORING_CUTS", std::string("xfs") == GetParam() ? 300 : 500);
  Count count;
  while (count.cuts - count.unmountable < wanted) {
    FuseDisk disk(kDiskBytes);
    if (!disk.trouble().empty()) GTEST_SKIP() << disk.trouble();
    Recording recording;
    record(GetParam(), disk, /*with_flushes=*/true, &recording);
    if (HasFatalFailure()) return;
    if (!recording.trouble.empty()) GTEST_SKIP() << recording.trouble;
    cut(GetParam(), disk, recording, std::min(kCutsOfARecording, wanted - (count.cuts - count.unmountable)), random_,
        &count);
    if (HasFatalFailure()) return;
    ASSERT_EQ(count.losses, 0U) << "seed " << seed_ << ", " << count.first;
    ASSERT_LE(count.unmountable, count.cuts / 10 + 5) << "these are not cuts of a disk";
  }
  EXPECT_GT(count.messages, 0U);
  std::printf(
      "%s: %lu cuts (%lu before the queue was there), %lu more not mountable, %lu messages read, nothing "
      "acknowledged lost\n",
      GetParam(), static_cast<unsigned long>(count.cuts - count.unmountable),
      static_cast<unsigned long>(count.before_the_queue), static_cast<unsigned long>(count.unmountable),
      static_cast<unsigned long>(count.messages));
}

TEST_P(BlockCut, WithoutFlushesLossesAreSeen) {
  FuseDisk disk(kDiskBytes);
  if (!disk.trouble().empty()) GTEST_SKIP() << disk.trouble();
  Recording recording;
  record(GetParam(), disk, /*with_flushes=*/false, &recording);
  if (HasFatalFailure()) return;
  if (!recording.trouble.empty()) GTEST_SKIP() << recording.trouble;
  Count count;
  cut(GetParam(), disk, recording, 20, random_, &count);
  EXPECT_GT(count.losses, 0U);
  std::printf("%s: without flushes %lu of %lu cuts lose; the first: %s\n", GetParam(),
              static_cast<unsigned long>(count.losses), static_cast<unsigned long>(count.cuts), count.first.c_str());
}

}  // namespace
}  // namespace mooring
