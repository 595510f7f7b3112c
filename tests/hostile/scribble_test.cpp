// Hostile neighbours: a process that may write to a queue's files writes garbage into them while others use the queue,
// cuts files short, or talks nonsense to the control socket.
//
// What is shown: every call of a victim returns (an error is fine), nothing crashes, nothing hangs, the supervisor goes
// on serving others, and the queue can be removed and made again. Random; MOORING_HOSTILE_SEED makes it another run,
// MOORING_HOSTILE_ROUNDS a longer one.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <atomic>
#include <mooring/mooring.hpp>
#include <random>
#include <thread>

#include "support/service.hpp"

namespace mooring {
namespace {

using test::Service;
using test::Worker;

constexpr std::uint64_t kPatienceNs = 30'000'000'000;

struct Board {
  std::atomic<std::uint64_t> calls[3];
  std::atomic<int> stop;
};

mooring_queue_options small(std::uint32_t kind) {
  mooring_queue_options options;
  mooring_queue_options_init(&options, sizeof options);
  options.kind = kind;
  options.capacity = 4096;
  return options;
}

// Publishes until told to stop; opens anew after each failure.
int write_on(const std::string& path, Board* board) {
  Instance instance(path);
  const std::string text(200, 'v');
  while (board->stop.load() == 0) {
    try {
      Producer producer = instance.open_producer("victim");
      while (board->stop.load() == 0) {
        if (producer.try_publish(text.data(), board->calls[0].load() % 200, 1'000'000, nullptr) < 0) break;
        board->calls[0].fetch_add(1);
      }
    } catch (const Failure&) {
    }
    board->calls[0].fetch_add(1);
  }
  return 0;
}
int read_on(const std::string& path, Board* board, int number, const std::string& group) {
  Instance instance(path);
  while (board->stop.load() == 0) {
    try {
      Consumer consumer = instance.open_consumer("victim", group);
      for (int i = 0; i < 5000 && board->stop.load() == 0; ++i) {
        mooring_message message;
        const int code = consumer.try_receive(&message, 1'000'000);
        board->calls[number].fetch_add(1);
        if (code < 0) break;
        if (code != MOORING_OK) continue;
        volatile unsigned char sum = 0;  // every byte that is handed out can be read
        for (std::size_t at = 0; at < message.size; ++at) {
          sum = static_cast<unsigned char>(sum + static_cast<const unsigned char*>(message.data)[at]);
        }
        const int what = i % 8;
        if ((what == 0   ? mooring_nack(consumer.get(), &message)
             : what == 1 ? mooring_release(consumer.get(), &message)
                         : mooring_ack(consumer.get(), &message)) < 0) {
          break;
        }
      }
    } catch (const Failure&) {
    }
    board->calls[number].fetch_add(1);
  }
  return 0;
}

struct Target {
  std::uint64_t* words;
  std::size_t count;
};

// The files that clients may write to, mapped; heads (the first 128 bytes) are left alone, attaching checks those.
std::vector<Target> open_targets(const std::string& directory) {
  std::vector<Target> targets;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string name = entry.path().filename();
    if (name == "ctl" || name == "park" || name.front() == '.') continue;
    const int fd = ::open(entry.path().c_str(), O_RDWR | O_CLOEXEC);
    struct stat info {};
    if (fd < 0 || ::fstat(fd, &info) != 0) continue;
    const auto size = static_cast<std::size_t>(info.st_size);
    void* place = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ::close(fd);
    if (place != MAP_FAILED) targets.push_back({static_cast<std::uint64_t*>(place), size / 8});
  }
  return targets;
}

void scribble(std::vector<Target>& targets, std::mt19937_64& random, std::vector<std::uint64_t>& seen) {
  Target& target = targets[random() % targets.size()];
  // Half of it where the words are dense: the head lines, and the beginning of what follows them.
  const std::size_t first = 16;
  const std::size_t near = random() % 2 == 0 ? 64 : 1024;
  const std::size_t at = first + random() % (random() % 2 == 0 ? std::min(near, target.count - first)
                                                               : target.count - first);
  std::atomic_ref<std::uint64_t> word(target.words[at]);
  std::uint64_t value = word.load(std::memory_order_relaxed);
  if (seen.size() < 4096) seen.push_back(value);
  switch (random() % 6) {
    case 0: value = random(); break;
    case 1: value ^= std::uint64_t{1} << (random() % 64); break;
    case 2: value = random() % 3; break;
    case 3: value = ~std::uint64_t{0} - random() % 3; break;
    case 4: value = seen[random() % seen.size()]; break;  // a word of another place or time
    default: value += random() % 17 - 8; break;
  }
  word.store(value, std::memory_order_relaxed);
}

TEST(Hostile, GarbageInEverySharedWordIsAnErrorAtMost) {
  const auto from_environment = [](const char* name, std::uint64_t by_default) {
    const char* given = std::getenv(name);
    return given != nullptr ? std::strtoull(given, nullptr, 0) : by_default;
  };
  const std::uint64_t seed = from_environment("MOORING_HOSTILE_SEED", 1);
  const std::uint64_t rounds = from_environment("MOORING_HOSTILE_ROUNDS", 8);
  std::printf("%lu rounds, seed %lu\n", static_cast<unsigned long>(rounds), static_cast<unsigned long>(seed));
  Service service;
  service.start_quietly();
  Instance instance(service.path());
  void* place = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(place, MAP_FAILED);
  auto* board = new (place) Board;
  constexpr int kScribbles = 10'500;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    SCOPED_TRACE("round " + std::to_string(round) + ", seed " + std::to_string(seed));
    const bool spsc = round % 4 == 3;
    board->stop.store(0);
    instance.create_queue("victim", small(spsc ? MOORING_KIND_SPSC : MOORING_KIND_MPMC));
    if (!spsc) instance.create_group("victim", "strict", MOORING_MODE_EXCLUSIVE);
    {
      Worker writer([&](const auto&) { return write_on(service.path(), board); });
      Worker reader([&](const auto&) { return read_on(service.path(), board, 1, "default"); });
      Worker strict([&](const auto&) { return read_on(service.path(), board, 2, spsc ? "default" : "strict"); });
      const auto calls = [&] { return board->calls[0].load() + board->calls[1].load() + board->calls[2].load(); };
      for (const std::uint64_t begun = calls(); calls() < begun + 1000;) ::sched_yield();
      std::mt19937_64 random(seed * 1000 + round);
      std::vector<std::uint64_t> seen{0};
      std::vector<Target> targets = open_targets(service.queue_directory("victim"));
      ASSERT_GE(targets.size(), spsc ? 3U : 4U);
      for (int i = 0; i < kScribbles; ++i) {
        scribble(targets, random, seen);
        // The victims go on in between, as far as they get anywhere.
        const std::uint64_t before = calls();
        for (int turns = 0; i % 16 == 0 && turns < 200 && calls() == before; ++turns) ::sched_yield();
      }
      board->stop.store(1);
      EXPECT_EQ(writer.join(), 0);
      EXPECT_EQ(reader.join(), 0);
      EXPECT_EQ(strict.join(), 0);
      for (const Target& target : targets) ::munmap(target.words, target.count * 8);
    }
    ASSERT_TRUE(service.alive());
    if (round % 4 >= 2) {  // what a new supervisor finds in such a queue brings it down just as little
      service.kill_supervisor();
      service.start_quietly();
    }
    instance.remove_queue("victim");
    instance.create_queue("victim", small(MOORING_KIND_MPMC));
    {
      Producer producer = instance.open_producer("victim");
      Consumer consumer = instance.open_consumer("victim");
      ASSERT_TRUE(producer.publish("clean", kPatienceNs).has_value());
      const auto message = consumer.receive(kPatienceNs);
      ASSERT_TRUE(message && consumer.ack(*message));
    }
    instance.remove_queue("victim");
  }
  ::munmap(place, sizeof(Board));
}

TEST(Hostile, FilesCutShortCostOneQueueAndNotTheSupervisor) {
  Service service;
  service.start();
  Instance instance(service.path());
  instance.create_queue("good", small(MOORING_KIND_MPMC));
  Producer producer = instance.open_producer("good");
  Consumer consumer = instance.open_consumer("good");
  for (const char* file : {"lane-0", "seat-1", "group-0", "order", "wake", "ctl"}) {
    for (const std::uint32_t kind : {MOORING_KIND_MPMC, MOORING_KIND_SPSC}) {
      if (kind == MOORING_KIND_SPSC && std::string(file) == "order") continue;
      SCOPED_TRACE(std::string(file) + (kind == MOORING_KIND_SPSC ? " of an spsc queue" : ""));
      instance.create_queue("cut", small(kind));
      Worker victim([&](const Worker::Line& line) {
        Instance own(service.path());
        Producer own_producer = own.open_producer("cut");
        Consumer own_consumer = own.open_consumer("cut");
        own_producer.publish("x");
        mooring_message message;
        if (own_consumer.try_receive(&message, kPatienceNs) != MOORING_OK) return 1;
        line.say('r');
        line.rest();
      });
      ASSERT_TRUE(victim.heard('r'));
      ASSERT_EQ(::truncate((service.queue_directory("cut") + "/" + file).c_str(), 0), 0);
      victim.kill(SIGKILL);  // now its supervisor has to sweep what is not there
      victim.join();
      mooring_producer* late_producer = nullptr;
      mooring_consumer* late_consumer = nullptr;
      const int opened = mooring_producer_open(instance.get(), "cut", nullptr, &late_producer);
      const int joined = mooring_consumer_open(instance.get(), "cut", nullptr, nullptr, &late_consumer);
      EXPECT_TRUE(opened < 0 || joined < 0 || std::string(file) == "seat-1" || std::string(file) == "lane-0");
      instance.create_group("good", "look", MOORING_MODE_COMPETING);
      ASSERT_TRUE(service.alive());
      ASSERT_TRUE(producer.publish("goes on", kPatienceNs).has_value());
      const auto message = consumer.receive(kPatienceNs);
      ASSERT_TRUE(message && consumer.ack(*message));
      instance.remove_group("good", "look");
      instance.remove_queue("cut");
      if (opened == MOORING_OK) mooring_producer_close(late_producer);
      if (joined == MOORING_OK) mooring_consumer_close(late_consumer);
      instance.create_queue("cut", small(kind));
      instance.open_producer("cut").publish("again");
      instance.remove_queue("cut");
    }
  }
}

// --- The control socket ---------------------------------------------------------------------------------------------

int connect_raw(const Service& service) {
  const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = service.path() + "/control";
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    ::close(fd);
    return -1;
  }
  return fd;
}

class HostileSocket : public testing::Test {
 protected:
  void SetUp() override {
    service_.start();
    instance_ = std::make_unique<Instance>(service_.path());
    instance_->create_queue("good", small(MOORING_KIND_MPMC));
  }
  void good_client_is_served() {
    Instance own(service_.path());
    ASSERT_TRUE(own.open_producer("good").publish("x", kPatienceNs).has_value());
    Consumer consumer = instance_->open_consumer("good");
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message && consumer.ack(*message));
    ASSERT_TRUE(service_.alive());
  }
  Service service_;
  std::unique_ptr<Instance> instance_;
};

TEST_F(HostileSocket, NonsenseIsAnsweredOrDropped) {
  const std::string hello = R"({"op":"hello","protocol":1,"membarrier":true,"settled":false,"name":"x"})";
  const std::vector<std::string> packets = {
      "", "{", "[]", "null", "1", "\"op\"", std::string(60'000, '['), std::string(200'000, 'x'), std::string(64, '\0'),
      R"({"op":1})", R"({"op":"nothing"})", R"({"op":"hello"})",
      R"({"op":"hello","protocol":-1,"membarrier":true,"settled":true,"name":"x"})",
      R"({"op":"hello","protocol":99,"membarrier":true,"settled":true,"name":"x"})",
      R"({"op":"hello","protocol":1,"membarrier":1,"settled":true,"name":"x"})",
      R"({"op":"hello","protocol":1,"membarrier":true,"settled":true,"name":"\ud800"})", hello,
      R"({"op":"create_queue","queue":"../../etc","options":{}})", R"({"op":"create_queue","queue":"n","options":7})",
      R"({"op":"create_queue","queue":"n","options":{"kind":2,"overflow":1,"producers_max":4294967295,)"
      R"("consumers_max":0,)"
      R"("groups_max":0,"file_mode":384,"capacity":18446744073709551615,"max_message_bytes":0,"lane_bytes":0}})",
      R"({"op":"create_queue","queue":"n","options":{"kind":2,"overflow":1,"producers_max":0,"consumers_max":0,)"
      R"("groups_max":0,"file_mode":511,"capacity":1e300,"max_message_bytes":0,"lane_bytes":0}})",
      R"({"op":"remove_queue","queue":""})", R"({"op":"remove_queue","queue":"..."})",
      R"({"op":"open_producer","queue":"nowhere"})", R"({"op":"open_consumer","queue":"good","group":5})",
      R"({"op":"close_producer","queue":"good","lane":4294967295,"generation":1})",
      R"({"op":"close_producer","queue":"good","lane":0,"generation":0})",
      R"({"op":"close_consumer","queue":"good","seat":0,"generation":0})",
      R"({"op":"close_consumer","queue":"good","seat":99999,"generation":0})",
      R"({"op":"create_group","queue":"good","group":"g","mode":3})",
      R"({"op":"remove_group","queue":"good","group":""})"};
  for (const bool greeted : {false, true}) {
    for (const std::string& packet : packets) {
      const int fd = connect_raw(service_);
      ASSERT_GE(fd, 0);
      char reply[4096];
      if (greeted) {
        ASSERT_GT(::send(fd, hello.data(), hello.size(), MSG_NOSIGNAL), 0);
        ASSERT_GT(::recv(fd, reply, sizeof reply, 0), 0);
      }
      const bool sent = ::send(fd, packet.data(), packet.size(), MSG_NOSIGNAL) >= 0;
      // An answer that says no, or the end of the connection; never silence.
      pollfd ready{fd, POLLIN, 0};
      if (sent && !packet.empty()) {
        EXPECT_EQ(::poll(&ready, 1, test::kWatchdogMs), 1) << packet.substr(0, 80);
      }
      ::close(fd);
    }
  }
  std::mt19937_64 random(7);
  for (int i = 0; i < 2000; ++i) {
    const int fd = connect_raw(service_);
    ASSERT_GE(fd, 0);
    std::string packet = packets[random() % packets.size()].substr(0, 4000);
    if (packet.empty()) packet = "{";
    for (int flips = 0; flips < 3; ++flips) packet[random() % packet.size()] = static_cast<char>(random());
    for (int sends = 0; sends < 3; ++sends) (void)!::send(fd, packet.data(), packet.size(), MSG_NOSIGNAL);
    ::close(fd);
  }
  good_client_is_served();
}

TEST_F(HostileSocket, FloodsAndHalfOpenConnectionsKeepNobodyOut) {
  std::vector<int> silent;
  for (int i = 0; i < 900; ++i) {
    const int fd = connect_raw(service_);
    if (fd < 0) break;
    silent.push_back(fd);
    if (i % 300 == 299) good_client_is_served();
  }
  EXPECT_GT(silent.size(), 300U);
  good_client_is_served();
  // And connections that say hello and nothing else: bounded for each process.
  const std::string hello = R"({"op":"hello","protocol":1,"membarrier":true,"settled":false,"name":"x"})";
  int refused = 0;
  Worker flood([&](const Worker::Line& line) -> int {
    for (int i = 0; i < 200; ++i) {
      const int fd = connect_raw(service_);
      char reply[4096];
      if (fd < 0 || ::send(fd, hello.data(), hello.size(), MSG_NOSIGNAL) < 0) continue;
      const ssize_t got = ::recv(fd, reply, sizeof reply, 0);
      if (got <= 0) continue;
      if (std::string(reply, static_cast<std::size_t>(got)).find("connections") != std::string::npos) ++refused;
    }
    line.say(refused > 0 ? 'y' : 'n');
    line.rest();
  });
  EXPECT_TRUE(flood.heard('y'));
  good_client_is_served();
  // A client that never reads its replies.
  const int deaf = connect_raw(service_);
  ASSERT_GE(deaf, 0);
  ASSERT_GT(::send(deaf, hello.data(), hello.size(), MSG_NOSIGNAL), 0);
  const std::string status = R"({"op":"status"})";
  for (int i = 0; i < 5000; ++i) {
    if (::send(deaf, status.data(), status.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN) break;
  }
  good_client_is_served();
  ::close(deaf);
  for (const int fd : silent) ::close(fd);
}

}  // namespace
}  // namespace mooring
