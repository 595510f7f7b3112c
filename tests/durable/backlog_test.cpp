// Shows: a durable queue's backlog may be many times larger than its shared memory. Groups that fell behind get every
// message, in order and byte for byte, from the log; publishers never wait for them; what all groups have settled
// leaves the disk; max_backlog_bytes bounds what waits; and where the log is damaged a consumer says so and shows
// nothing wrong.
// How: queues of 4,096 messages and 32 KiB lanes, payloads that tell which message they are, consumers stopped by
// SIGSTOP while publishers run laps, mooringd killed with its memory kept and lost, and bytes flipped in segments.
#include <fstream>
#include <thread>

#include "durable/doomed_supervisor.hpp"

namespace mooring::test {
namespace {

struct Shape {
  std::uint32_t kind;
  std::uint32_t mode;
  std::uint32_t deliver;
};
std::string name_of(const ::testing::TestParamInfo<Shape>& info) {
  return std::string(info.param.kind == MOORING_KIND_SPSC ? "Spsc" : "Mpmc") +
         (info.param.mode == MOORING_MODE_EXCLUSIVE ? "Exclusive" : "Competing") +
         (info.param.deliver == MOORING_DELIVER_EARLY ? "Early" : "");
}

class Backlog : public ::testing::TestWithParam<Shape> {
 protected:
  void SetUp() override {
    service_.start();
    Instance instance(service_.path());
    instance.create_queue("q", options());
    if (!is_default()) instance.create_group("q", "g", GetParam().mode);
  }
  static mooring_queue_options options() {
    mooring_queue_options options = durable_options(GetParam().kind, GetParam().deliver);
    options.lane_bytes = 32 << 10;
    options.max_message_bytes = 1000;
    return options;
  }
  // The queue's first group has the mode that is asked for, or a second one has.
  static bool is_default() { return GetParam().kind == MOORING_KIND_SPSC || GetParam().mode == MOORING_MODE_COMPETING; }
  static const char* group() { return is_default() ? "default" : "g"; }

  void publish(std::uint64_t from, std::uint64_t to) {
    Instance instance(service_.path());
    const mooring_producer_options pipelined = no_wait();
    Producer producer = instance.open_producer("q", &pipelined);
    for (std::uint64_t i = from; i < to; ++i) {
      ASSERT_TRUE(producer.publish(body_of(i), kPatienceNs).has_value()) << i;
    }
    ASSERT_TRUE(producer.wait_durable(MOORING_EVERYTHING, kPatienceNs));
  }
  std::vector<std::string> segments() const {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(service_.data() + "/q-q")) {
      if (entry.path().filename().string().starts_with("log-")) files.push_back(entry.path().string());
    }
    std::sort(files.begin(), files.end());
    return files;
  }

  DurableService service_;
};

constexpr std::uint64_t kLaps = 45'000;  // eleven times the cells, some 300 times a lane

INSTANTIATE_TEST_SUITE_P(Shapes, Backlog,
                         ::testing::Values(Shape{MOORING_KIND_MPMC, MOORING_MODE_COMPETING, MOORING_DELIVER_DURABLE},
                                           Shape{MOORING_KIND_MPMC, MOORING_MODE_EXCLUSIVE, MOORING_DELIVER_DURABLE},
                                           Shape{MOORING_KIND_SPSC, MOORING_MODE_EXCLUSIVE, MOORING_DELIVER_DURABLE},
                                           Shape{MOORING_KIND_MPMC, MOORING_MODE_COMPETING, MOORING_DELIVER_EARLY},
                                           Shape{MOORING_KIND_MPMC, MOORING_MODE_EXCLUSIVE, MOORING_DELIVER_EARLY},
                                           Shape{MOORING_KIND_SPSC, MOORING_MODE_EXCLUSIVE, MOORING_DELIVER_EARLY}),
                         name_of);

TEST_P(Backlog, TenTimesTheMemoryWaitsAndComesInOrder) {
  publish(0, kLaps);
  Instance instance(service_.path());
  Consumer consumer = instance.open_consumer("q", group());
  take(consumer, 0, kLaps);
  EXPECT_FALSE(consumer.receive(0).has_value());
  // And it goes on in memory.
  publish(kLaps, kLaps + 500);
  take(consumer, kLaps, kLaps + 500);
  EXPECT_FALSE(consumer.receive(0).has_value());
}

TEST_P(Backlog, AConsumerStoppedForLapsGetsEverythingAndNothingElse) {
  std::atomic<std::uint64_t> published{0};
  Worker reader([&](const Worker::Line& line) {
    Instance instance(service_.path());
    Consumer consumer = instance.open_consumer("q", group());
    line.say('r');
    for (std::uint64_t i = 0; i < 12 * 6000; ++i) {
      const auto message = consumer.receive(kPatienceNs);
      if (!message.has_value() || text_of(*message) != body_of(i) || !consumer.ack(*message)) return 1;
    }
    return 0;
  });
  ASSERT_TRUE(reader.heard('r'));
  std::atomic<bool> failed{false};
  std::thread publisher([&] {
    Instance instance(service_.path());
    const mooring_producer_options pipelined = no_wait();
    Producer producer = instance.open_producer("q", &pipelined);
    for (std::uint64_t i = 0; i < 12 * 6000 && !failed; ++i) {
      if (!producer.publish(body_of(i), kPatienceNs).has_value()) failed = true;
      published.store(i + 1);
    }
  });
  // Stopped wherever it happens to be, often in the middle of a copy, for a lap and a half of the cells each time.
  for (std::uint64_t round = 0; round < 11; ++round) {
    const std::uint64_t until = (round + 1) * 6000;
    reader.stop();
    EXPECT_TRUE(eventually([&] { return failed || published.load() >= until; }));
    reader.go_on();
  }
  publisher.join();
  EXPECT_FALSE(failed);
  EXPECT_EQ(reader.join(), 0) << "1: a message was missing, wrong, or not its own";
}

TEST_P(Backlog, WithTheSupervisorKilledAndItsMemoryKeptTheRestIsRead) {
  publish(0, kLaps);
  Instance instance(service_.path());
  Consumer consumer = instance.open_consumer("q", group());
  take(consumer, 0, 1000);
  service_.kill_supervisor();
  take(consumer, 1000, 20'000);  // nobody is needed for it
  service_.start();
  take(consumer, 20'000, 21'000);
  publish(kLaps, kLaps + 10'000);
  service_.kill_supervisor();
  service_.start();
  take(consumer, 21'000, kLaps + 10'000);
  EXPECT_FALSE(consumer.receive(0).has_value());
}

TEST_P(Backlog, AfterTheMemoryWasLostTheRestIsRead) {
  publish(0, kLaps);
  std::uint64_t settled = 0;
  for (int round = 0; round < 3; ++round) {
    {
      Instance instance(service_.path());
      Consumer consumer = instance.open_consumer("q", group());
      for (std::uint64_t i = settled; i < settled + 7000; ++i) {
        const auto message = consumer.receive(kPatienceNs);
        ASSERT_TRUE(message.has_value());
        ASSERT_EQ(text_of(*message), body_of(i));
        ASSERT_EQ((message->flags & MOORING_REDELIVERED) != 0, round != 0) << i;
        ASSERT_TRUE(i + 1 == settled + 7000 ? consumer.ack_sync(*message) : consumer.ack(*message));
      }
      settled += 7000;
      // What is settled out of order stays settled.
      ASSERT_EQ(text_of(*consumer.receive(kPatienceNs)), body_of(settled));  // held
      const mooring_message next = *consumer.receive(kPatienceNs);
      ASSERT_EQ(text_of(next), body_of(settled + 1));
      ASSERT_TRUE(consumer.ack_sync(next));
    }
    service_.reboot();
    Instance instance(service_.path());
    instance.create_queue("q", options());  // it is there, as it was
    Consumer consumer = instance.open_consumer("q", group());
    take(consumer, settled, settled + 1);
    settled += 2;
    const auto after = consumer.receive(kPatienceNs);
    ASSERT_TRUE(after.has_value());
    ASSERT_EQ(text_of(*after), body_of(settled));
    ASSERT_TRUE(consumer.ack_sync(*after));
    ++settled;
  }
  publish(kLaps, kLaps + 5000);
  Instance instance(service_.path());
  Consumer consumer = instance.open_consumer("q", group());
  take(consumer, settled, kLaps + 5000);
  EXPECT_FALSE(consumer.receive(0).has_value());
}

TEST_P(Backlog, WhatIsGivenBackFarBehindComesAgain) {
  publish(0, kLaps);
  Instance instance(service_.path());
  Consumer consumer = instance.open_consumer("q", group());
  take(consumer, 0, 100);
  std::vector<mooring_message> held;
  for (int i = 0; i < 8; ++i) held.push_back(*consumer.receive(kPatienceNs));
  for (std::size_t i = 0; i < held.size(); ++i) EXPECT_EQ(text_of(held[i]), body_of(100 + i)) << "its bytes stay";
  ASSERT_TRUE(consumer.ack(held[3]));
  for (const std::size_t i : {5U, 1U, 7U}) ASSERT_TRUE(consumer.release(held[i]));
  for (const std::uint64_t i : {101U, 105U, 107U}) {
    const auto again = consumer.receive(kPatienceNs);
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(text_of(*again), body_of(i));
    EXPECT_NE(again->flags & MOORING_REDELIVERED, 0U);
    ASSERT_TRUE(consumer.ack(*again));
  }
  for (const std::size_t i : {0U, 2U, 4U, 6U}) ASSERT_TRUE(consumer.ack(held[i]));
  take(consumer, 108, 9000);
  if (GetParam().mode == MOORING_MODE_EXCLUSIVE) {
    mooring_message last{};
    for (std::uint64_t i = 9000; i < 12'000; ++i) last = *consumer.receive(kPatienceNs);
    ASSERT_TRUE(consumer.ack_up_to(last));
    take(consumer, 12'000, 13'000);
  }
}

// Two bytes of the payload of one message, far behind what is in memory.
TEST_P(Backlog, WhereTheLogIsDamagedItSaysSoAndShowsNothingWrong) {
  publish(0, kLaps);
  const std::uint64_t victim = 20'000;
  const std::string body = body_of(victim);
  bool damaged = false;
  for (const std::string& file : segments()) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    const std::string content((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    const std::size_t at = content.find(body);
    if (at == std::string::npos) continue;
    stream.clear();
    stream.seekp(static_cast<std::streamoff>(at + body.size() / 2));
    stream.write("\0\1", 2);
    damaged = true;
  }
  ASSERT_TRUE(damaged);
  Instance instance(service_.path());
  Consumer consumer = instance.open_consumer("q", group());
  std::uint64_t next = 0;
  for (;; ++next) {
    mooring_message message{};
    const int code = consumer.try_receive(&message, kPatienceNs);
    if (code != MOORING_OK) {
      EXPECT_EQ(code, MOORING_ERR_CORRUPT);
      const std::string detail = mooring_error_detail();
      EXPECT_NE(detail.find("message "), std::string::npos) << detail;
      EXPECT_NE(detail.find("log-00000"), std::string::npos) << detail;
      EXPECT_NE(detail.find("mooring journal verify"), std::string::npos) << detail;
      break;
    }
    ASSERT_EQ(text_of(message), body_of(next));
    ASSERT_TRUE(consumer.ack(message));
    ASSERT_LT(next, victim);
  }
  // It stands there, and says the same again.
  mooring_message message{};
  EXPECT_EQ(consumer.try_receive(&message, kPatienceNs), MOORING_ERR_CORRUPT);
}

// What the supervisor keeps of a message that failed it reads where consumers read.
TEST_P(Backlog, WhatFailsFarBehindComesAgainWholeAndIsADeadLetterInTheEnd) {
  publish(0, kLaps);
  const auto dead_letters = [](Instance& instance) {
    mooring_dead_filter filter;
    mooring_dead_filter_init(&filter, sizeof filter);
    filter.flags = MOORING_DRY_RUN;
    std::uint64_t count = 0;
    EXPECT_EQ(mooring_dead_redrive(instance.get(), "q", group(), &filter, 0, &count), MOORING_OK);
    return count;
  };
  // The next message that is `body`; what a competing group shows meanwhile is taken.
  std::uint64_t next = 0;
  const auto take_until = [&next](Consumer& consumer, const std::string& body) {
    for (;;) {
      const auto message = consumer.receive(kPatienceNs);
      EXPECT_TRUE(message.has_value());
      if (!message.has_value() || text_of(*message) == body) return message;
      EXPECT_EQ(text_of(*message), body_of(next++));
      EXPECT_TRUE(consumer.ack(*message));
    }
  };
  std::string rejected;
  {
    Instance instance(service_.path());
    ASSERT_EQ(mooring_group_set(instance.get(), "q", group(), "retry_initial", "0s"), MOORING_OK);
    Consumer consumer = instance.open_consumer("q", group());
    take(consumer, 0, 100);
    next = 101;
    ASSERT_TRUE(consumer.nack(*consumer.receive(kPatienceNs)));
    const auto again = take_until(consumer, body_of(100));
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(again->attempt, 2U);
    ASSERT_TRUE(consumer.ack(*again));
    rejected = body_of(next);
    const auto bad = consumer.receive(kPatienceNs);
    ASSERT_EQ(text_of(*bad), rejected);
    ASSERT_EQ(mooring_reject(consumer.get(), &*bad, 7, "bad"), MOORING_OK);
    ++next;
    ASSERT_TRUE(eventually([&] { return dead_letters(instance) == 1; }));
    // Its record goes into the log before a cursor that passes it.
    const auto after = consumer.receive(kPatienceNs);
    ASSERT_EQ(text_of(*after), body_of(next++));
    ASSERT_TRUE(consumer.ack_sync(*after));
  }
  service_.reboot();
  Instance instance(service_.path());
  EXPECT_EQ(dead_letters(instance), 1U);
  std::uint64_t count = 0;
  ASSERT_EQ(mooring_dead_redrive(instance.get(), "q", group(), nullptr, 0, &count), MOORING_OK);
  EXPECT_EQ(count, 1U);
  Consumer consumer = instance.open_consumer("q", group());
  const auto redriven = take_until(consumer, rejected);
  ASSERT_TRUE(redriven.has_value());
  ASSERT_TRUE(consumer.ack(*redriven));
  take(consumer, next, next + 1000);
}

TEST_P(Backlog, HeadersComeFromTheLogAsTheyWere) {
  Instance instance(service_.path());
  const mooring_producer_options pipelined = no_wait();
  {
    Producer producer = instance.open_producer("q", &pipelined);
    mooring_publish_options options;
    mooring_publish_options_init(&options, sizeof options);
    const std::string id = "order-7";
    options.correlation_id = {id.data(), id.size()};
    const std::string body = body_of(0);
    ASSERT_EQ(mooring_publish_with(producer.get(), body.data(), body.size(), &options, kPatienceNs, nullptr),
              MOORING_OK);
  }
  publish(1, kLaps);
  Consumer consumer = instance.open_consumer("q", group());
  const auto message = consumer.receive(kPatienceNs);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(text_of(*message), body_of(0));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(message->data) % 64, 0U);
  mooring_headers headers;
  ASSERT_EQ(mooring_message_headers(&*message, &headers, sizeof headers), MOORING_OK);
  EXPECT_EQ(std::string(static_cast<const char*>(headers.correlation_id.data), headers.correlation_id.size), "order-7");
  ASSERT_TRUE(consumer.ack(*message));
  take(consumer, 1, 5000);
}

TEST_P(Backlog, AGroupThatNobodyReadsHoldsUpNobodyElse) {
  Instance instance(service_.path());
  instance.create_group("q", "absent", GetParam().mode);
  Consumer consumer = instance.open_consumer("q", group());
  for (std::uint64_t i = 0; i < kLaps; i += 5000) {
    publish(i, i + 5000);
    take(consumer, i, i + 5000);
  }
  Consumer late = instance.open_consumer("q", "absent");
  take(late, 0, kLaps);
  EXPECT_FALSE(late.receive(0).has_value());
}

class Bounded : public Backlog {
 protected:
  static constexpr std::uint64_t kBacklogBytes = 4 << 20;
  void SetUp() override { service_.start(); }
  void create(std::uint32_t overflow) {
    mooring_queue_options bounded = options();
    bounded.max_backlog_bytes = kBacklogBytes;
    bounded.overflow = overflow;
    Instance instance(service_.path());
    instance.create_queue("q", bounded);
    if (!is_default()) instance.create_group("q", "g", GetParam().mode);
    if (!is_default()) instance.remove_group("q", "default");
  }
  // Publishes until the answer is `code`; how many went in.
  std::uint64_t fill(Producer& producer, std::uint64_t from, std::uint64_t timeout_ns, int code) {
    std::uint64_t next = from;
    int said = MOORING_OK;
    while (next < from + 10 * kBacklogBytes / 200) {
      const std::string body = body_of(next);
      said = producer.try_publish(body.data(), body.size(), timeout_ns, nullptr);
      if (said != MOORING_OK) break;
      ++next;
    }
    EXPECT_EQ(said, code);
    return next;
  }
  std::uint64_t disk_bytes() const {
    std::uint64_t bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(service_.data() + "/q-q")) {
      std::error_code gone;  // a segment may retire under us
      const std::uintmax_t size = entry.file_size(gone);
      if (!gone) bytes += size;
    }
    return bytes;
  }
};

INSTANTIATE_TEST_SUITE_P(Shapes, Bounded,
                         ::testing::Values(Shape{MOORING_KIND_MPMC, MOORING_MODE_COMPETING, MOORING_DELIVER_DURABLE},
                                           Shape{MOORING_KIND_SPSC, MOORING_MODE_EXCLUSIVE, MOORING_DELIVER_DURABLE}),
                         name_of);

TEST_P(Bounded, AtTheBoundPublishersAreRefusedUntilGroupsHaveSettledSome) {
  create(MOORING_OVERFLOW_REJECT);
  Instance instance(service_.path());
  const mooring_producer_options pipelined = no_wait();
  Producer producer = instance.open_producer("q", &pipelined);
  std::uint64_t next = 0;
  std::uint64_t settled = 0;
  Consumer consumer = instance.open_consumer("q", group());
  const auto try_one = [&] {
    const std::string body = body_of(next);
    const int said = producer.try_publish(body.data(), body.size(), 0, nullptr);
    if (said == MOORING_OK) ++next;
    return said;
  };
  for (int round = 0; round < 3; ++round) {
    std::atomic<bool> stop{false};
    std::thread publisher([&] {
      // A ring that is full while the disk is busy says FULL as well.
      while (!stop) {
        const int said = try_one();
        if (said == MOORING_FULL) ::sched_yield();
        if (said != MOORING_FULL && said != MOORING_OK) break;
      }
    });
    EXPECT_TRUE(service_.logged("as many as max_backlog_bytes allows"));
    stop = true;
    publisher.join();
    EXPECT_EQ(try_one(), MOORING_FULL);
    std::uint64_t bytes = 0;
    for (std::uint64_t i = settled; i < next; ++i) bytes += 24 + body_of(i).size();
    EXPECT_GT(bytes, kBacklogBytes * 9 / 10);
    EXPECT_LT(bytes, kBacklogBytes * 13 / 10);
    const std::uint64_t half = settled + (next - settled) / 2;
    take(consumer, settled, half - 1);
    const auto last = consumer.receive(kPatienceNs);
    ASSERT_TRUE(last.has_value());
    ASSERT_TRUE(consumer.ack_sync(*last));  // now the journal knows of all of them
    settled = half;
    EXPECT_TRUE(eventually([&] { return try_one() == MOORING_OK; }));
  }
  take(consumer, settled, next);
}

TEST_P(Bounded, WhatEveryGroupHasSettledLeavesTheDisk) {
  create(MOORING_OVERFLOW_BLOCK);
  Instance instance(service_.path());
  Consumer consumer = instance.open_consumer("q", group());
  std::uint64_t next = 0;
  std::uint64_t most = 0;
  for (int round = 0; round < 50; ++round) {  // some 110 MB
    publish(next, next + 10'000);
    take(consumer, next, next + 10'000);
    next += 10'000;
    most = std::max(most, disk_bytes());
  }
  // The journal looks each 100 ms for what may go, and some is kept ready: a few steps of what goes through meanwhile.
  EXPECT_LT(most, kBacklogBytes + (48 << 20));
  // Drained, and nothing more is published: one segment is left, and what is kept ready.
  EXPECT_TRUE(eventually([&] { return segments().size() <= 3; })) << segments().size();
}

// The log has rolled several times, and a supervisor that knows places in it has died: a dead letter's segment stays.
TEST_P(Bounded, ADeadLetterOutlivesTheLogAroundIt) {
  create(MOORING_OVERFLOW_BLOCK);
  const auto dead_letters = [](Instance& instance) {
    mooring_dead_filter filter;
    mooring_dead_filter_init(&filter, sizeof filter);
    filter.flags = MOORING_DRY_RUN;
    std::uint64_t count = 0;
    EXPECT_EQ(mooring_dead_redrive(instance.get(), "q", group(), &filter, 0, &count), MOORING_OK);
    return count;
  };
  std::uint64_t next = 0;
  std::vector<std::string> rejected;
  const auto go_on = [&](std::uint64_t to) {
    publish(next, to);
    Instance instance(service_.path());
    Consumer consumer = instance.open_consumer("q", group());
    take(consumer, next, to - 1);
    ASSERT_TRUE(consumer.ack_sync(*consumer.receive(kPatienceNs)));
    next = to;
  };
  const auto reject = [&] {
    publish(next, next + 1);
    Instance instance(service_.path());
    Consumer consumer = instance.open_consumer("q", group());
    const auto bad = consumer.receive(kPatienceNs);
    ASSERT_EQ(text_of(*bad), body_of(next));
    ASSERT_EQ(mooring_reject(consumer.get(), &*bad, 7, "bad"), MOORING_OK);
    rejected.push_back(body_of(next++));
    EXPECT_TRUE(eventually([&] { return dead_letters(instance) == rejected.size(); }));
  };
  for (int round = 0; round < 3; ++round) {
    go_on(next + 12'000);  // two segments
    reject();
    go_on(next + 8'000);
    service_.kill_supervisor();
    service_.start();
    go_on(next + 12'000);
    // Until nothing but what is parked keeps a segment: the log is short again.
    EXPECT_TRUE(eventually([&] { return segments().size() <= 8; })) << segments().size();
    service_.reboot();
    Instance instance(service_.path());
    EXPECT_EQ(dead_letters(instance), rejected.size());
  }
  for (int round = 0; round < 5; ++round) go_on(next + 12'000);
  service_.kill_supervisor();
  service_.start();
  go_on(next + 12'000);
  service_.reboot();
  Instance instance(service_.path());
  ASSERT_EQ(mooring_dead_redrive(instance.get(), "q", group(), nullptr, 0, nullptr), MOORING_OK);
  Consumer consumer = instance.open_consumer("q", group());
  while (!rejected.empty()) {
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message.has_value());
    // Others were acknowledged in the last moment before the power was cut.
    ASSERT_TRUE(std::erase(rejected, text_of(*message)) == 1 || (message->flags & MOORING_REDELIVERED) != 0);
    ASSERT_TRUE(consumer.ack(*message));
  }
}

// Killed between the copy of a dead letter and the PARK that names it: the old place stands, or nothing was lost.
TEST_P(Bounded, KilledWhileADeadLetterIsBroughtForwardItIsThereOnce) {
  auto* hits = shared_by_processes<std::atomic<int>>();
  ASSERT_NE(hits, nullptr);
  for (const bool lost : {false, true}) {
    SCOPED_TRACE(lost);
    *hits = 0;
    DurableService service;
    Worker doomed([&](const Worker::Line& line) {
      return serve_until_killed(line, service.path(), {"journal.park_copied", 1, hits});
    });
    ASSERT_TRUE(doomed.heard('s'));
    Worker traffic([&](const Worker::Line& /*line*/) {
      mooring_queue_options bounded = options();
      bounded.max_backlog_bytes = kBacklogBytes;
      Instance instance(service.path());
      instance.create_queue("q", bounded);
      const mooring_producer_options pipelined = no_wait();
      Producer producer = instance.open_producer("q", &pipelined);
      Consumer consumer = instance.open_consumer("q");
      for (std::uint64_t i = 0;; ++i) {
        if (!producer.publish(body_of(i)).has_value()) return 1;
        const auto message = consumer.receive();
        if (i == 10 ? !consumer.reject(*message) : !consumer.ack(*message)) return 2;
      }
    });
    ASSERT_TRUE(eventually([&] { return *hits >= 1; })) << "no dead letter was ever brought forward";
    doomed.join();
    traffic.kill(SIGKILL);
    traffic.join();
    if (lost) service.lose_memory();
    service.start();
    Instance instance(service.path());
    std::uint64_t count = 0;
    ASSERT_EQ(mooring_dead_redrive(instance.get(), "q", "default", nullptr, 0, &count), MOORING_OK);
    EXPECT_EQ(count, 1U);
    Consumer consumer = instance.open_consumer("q");
    int came = 0;
    while (const auto message = consumer.receive(came == 0 ? kPatienceNs : 0)) {
      came += text_of(*message) == body_of(10) ? 1 : 0;
      ASSERT_TRUE(consumer.ack(*message));
    }
    EXPECT_EQ(came, 1);
  }
  ::munmap(hits, sizeof *hits);
}

TEST_P(Bounded, WhoWaitsForRoomGoesOnAsItIsDrained) {
  create(MOORING_OVERFLOW_BLOCK);
  Instance instance(service_.path());
  const mooring_producer_options pipelined = no_wait();
  Producer producer = instance.open_producer("q", &pipelined);
  std::uint64_t next = fill(producer, 0, 300'000'000, MOORING_TIMEOUT);
  EXPECT_GT(next, kBacklogBytes / 500);
  EXPECT_FALSE(producer.wait_durable(MOORING_EVERYTHING, 0)) << "the ring holds the last ones";
  std::thread publisher([&] {
    for (const std::uint64_t to = next + 20'000; next < to; ++next) {
      if (!producer.publish(body_of(next), kPatienceNs).has_value()) return;
    }
  });
  Consumer consumer = instance.open_consumer("q", group());
  const std::uint64_t all = next + 20'000;
  take(consumer, 0, all);
  publisher.join();
  EXPECT_EQ(next, all);
  EXPECT_FALSE(consumer.receive(0).has_value());
}

TEST(BacklogOptions, ItsBoundIsCheckedAndShown) {
  DurableService service;
  service.start();
  Instance instance(service.path());
  mooring_queue_options options = durable_options();
  options.max_backlog_bytes = 1000;
  EXPECT_THROW(instance.create_queue("small", options), Failure);
  options.durability = MOORING_VOLATILE;
  options.max_backlog_bytes = 1 << 20;
  EXPECT_THROW(instance.create_queue("volatile", options), Failure);
  options.durability = MOORING_DURABLE;
  instance.create_queue("good", options);
  instance.create_queue("good", options);
  options.max_backlog_bytes = 2 << 20;
  EXPECT_THROW(instance.create_queue("good", options), Failure);
}

}  // namespace
}  // namespace mooring::test
