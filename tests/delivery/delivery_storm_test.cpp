// A storm: publishers and consumers that acknowledge, fail, reject, give back, hold for too long and die, over a
// supervisor that is killed and started again; then everything that was published is accounted for. A board in memory
// of the test's processes has what each of them was told.
//
//   MOORING_STORM_KILLS   how many deaths (default 250 a queue), MOORING_SEED
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <random>

#include "base/atomics.hpp"
#include "delivery/decision.hpp"
#include "durable/durable_service.hpp"
#include "segment/dead_letters.hpp"
#include "segment/instance_paths.hpp"

namespace mooring {
namespace {

using namespace test;

constexpr std::uint64_t kMessagesMost = 1 << 22;
constexpr std::size_t kPublishers = 2;
constexpr std::size_t kConsumers = 4;

struct Board {
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> next{0};  // number of the next message
  std::atomic<std::uint64_t> delivered{0};
  std::atomic<std::uint64_t> same_attempt{0};  // an attempt number that was given out twice
  std::atomic<std::uint64_t> acked_twice{0};
  struct Fate {
    std::atomic<std::uint64_t> attempts_seen{0};  // bit n: attempt n
    std::atomic<std::uint8_t> published{0};       // publish returned
    std::atomic<std::uint8_t> tried{0};           // somebody began to acknowledge
    std::atomic<std::uint8_t> acked{0};           // and was told yes
  };
  std::array<Fate, kMessagesMost> fates;
};

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

bool is_passing(const Failure& failure) {
  return failure.code() == MOORING_ERR_NO_SUPERVISOR || failure.code() == MOORING_ERR_CLOSED ||
         failure.code() == MOORING_ERR_IO;
}

// Opens what a role needs, over and over while no supervisor is there.
template <class Open>
auto opened(const Board* board, Open&& open) -> decltype(open()) {
  for (;;) {
    try {
      return open();
    } catch (const Failure& failure) {
      if (!is_passing(failure) || board->stop.load()) throw;
      ::sched_yield();
    }
  }
}

int publish_until_stopped(const Worker::Line& line, const std::string& path, Board* board) {
  auto instance = opened(board, [&] { return std::make_unique<Instance>(path); });
  auto producer = opened(board, [&] { return std::make_unique<Producer>(instance->open_producer("q")); });
  line.say('o');
  while (!board->stop.load()) {
    const std::uint64_t number = board->next.fetch_add(1);
    if (number >= kMessagesMost) break;
    const std::string text = std::to_string(number);
    // No room in time: again. Published, and not known to be on the disk: that is waited for, not published again.
    std::uint64_t seq = 0;
    int code = MOORING_TIMEOUT;
    while (code != MOORING_OK && seq == 0 && !board->stop.load()) {
      code = mooring_publish(producer->get(), text.data(), text.size(), 20'000'000, &seq);
    }
    while (code != MOORING_OK && seq != 0 && !board->stop.load()) {
      code = mooring_wait_durable(producer->get(), seq, 20'000'000);
    }
    const bool published = code == MOORING_OK;
    if (published) board->fates[number].published.store(1);
  }
  line.say('e');
  line.rest();
  return 0;
}

// One settlement, as the dice fall.
void acknowledge(Consumer& consumer, const mooring_message& message, Board* board) {
  Board::Fate& fate = board->fates[std::stoull(text_of(message))];
  fate.tried.store(1);
  if (consumer.ack(message) && fate.acked.fetch_add(1) != 0) board->acked_twice.fetch_add(1);
}

void settle(Consumer& consumer, const mooring_message& message, Board* board, std::mt19937& random,
            std::vector<mooring_message>* held) {
  Board::Fate& fate = board->fates[std::stoull(text_of(message))];
  const std::uint64_t bit = std::uint64_t{1} << std::min<std::uint32_t>(message.attempt, 63);
  if (message.attempt < 63 && (fate.attempts_seen.fetch_or(bit) & bit) != 0) board->same_attempt.fetch_add(1);
  board->delivered.fetch_add(1);
  switch (random() % 32) {
    case 0:
    case 1: consumer.nack(message); return;
    case 2: consumer.nack(message, 1'000'000, 3, "with a reason"); return;
    case 3: consumer.release(message); return;
    case 4: consumer.reject(message, 4, "never"); return;
    case 5:
      held->push_back(message);  // for too long, perhaps
      return;
    default: break;
  }
  acknowledge(consumer, message, board);
}

int consume_until_stopped(const Worker::Line& line, const std::string& path, Board* board, unsigned seed) {
  std::mt19937 random(seed);
  auto instance = opened(board, [&] { return std::make_unique<Instance>(path); });
  auto consumer = opened(board, [&] { return std::make_unique<Consumer>(instance->open_consumer("q")); });
  line.say('o');
  std::array<mooring_message, 8> batch;
  std::vector<mooring_message> held;
  while (!board->stop.load()) {
    const std::size_t count = random() % 3 == 0 ? batch.size() : 1;
    std::size_t received = 0;
    const int code = mooring_receive_batch(consumer->get(), batch.data(), count, 1'000'000, &received);
    if (code == MOORING_FULL || held.size() == 4) {  // it holds all it may: late, and refused where it is too late
      for (const mooring_message& late : held) acknowledge(*consumer, late, board);
      held.clear();
    }
    for (std::size_t i = 0; i < received; ++i) settle(*consumer, batch[i], board, random, &held);
  }
  line.say('e');
  line.rest();
  return 0;
}

class DeliveryStorm : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(All, DeliveryStorm, ::testing::Bool(),
                         [](const auto& how) { return how.param ? "Durable" : "Volatile"; });

TEST_P(DeliveryStorm, EveryMessageIsAccountedFor) {
  const bool durable = GetParam();
  const std::uint64_t kills = from_environment("MOORING_STORM_KILLS", 250);
  const auto seed = static_cast<unsigned>(from_environment("MOORING_SEED", 1));
  std::cout << "seed " << seed << ", " << kills << " deaths\n";
  std::mt19937 random(seed);
  Board* board = shared_by_processes<Board>();
  ASSERT_NE(board, nullptr);
  DurableService service;
  service.start();
  auto instance = std::make_unique<Instance>(service.path());
  mooring_queue_options options;
  mooring_queue_options_init(&options, sizeof options);
  if (durable) options = durable_options();
  options.capacity = 4096;
  instance->create_queue("q", options);
  for (const auto& [key, value] :
       {std::pair{"retry_initial", "1ms"}, {"retry_max", "5ms"}, {"ack_wait", "50ms"}, {"max_deliveries", "4"}}) {
    instance->set_group("q", "default", key, value);
  }
  std::array<std::unique_ptr<Worker>, kPublishers + kConsumers> workers;
  const auto start = [&](std::size_t index) {
    const auto own_seed = static_cast<unsigned>(random());
    workers[index] = std::make_unique<Worker>([&, index, own_seed](const Worker::Line& line) {
      return index < kPublishers ? publish_until_stopped(line, service.path(), board)
                                 : consume_until_stopped(line, service.path(), board, own_seed);
    });
  };
  for (std::size_t index = 0; index < workers.size(); ++index) start(index);
  for (const auto& worker : workers) ASSERT_TRUE(worker->heard('o'));
  for (std::uint64_t kill = 0; kill < kills; ++kill) {
    const std::uint64_t until = board->delivered.load() + 1 + random() % 60;
    ASSERT_TRUE(eventually([&] { return board->delivered.load() >= until || board->next.load() >= kMessagesMost; }))
        << "nothing is delivered any more, after " << kill << " deaths";
    if (random() % 8 == 0) {
      service.kill_supervisor();
      service.start();
      continue;
    }
    const std::size_t victim = random() % workers.size();
    workers[victim]->kill(SIGKILL);
    workers[victim]->join();
    start(victim);
    ASSERT_TRUE(workers[victim]->heard('o')) << "victim " << victim << " after " << kill << " deaths";
  }
  board->stop.store(true);
  for (auto& worker : workers) {
    ASSERT_TRUE(worker->heard('e'));
    worker.reset();  // with whatever it held
  }

  // The rest is acknowledged, and nothing waits any more.
  instance = std::make_unique<Instance>(service.path());
  const InstancePaths paths = *resolve_instance(service.path(), false);
  const File shared = std::move(*open_shared_directory(paths.shared_directory, paths.owner, false));
  QueueFiles::AttachOptions attach;
  const QueueFiles files = std::move(*QueueFiles::attach(shared, paths.owner, "q", attach));
  const layout::GroupCounters& counters = files.group_slot(0).counters;
  const auto gauge = [](const u64& counter) { return HardwareAtomics::load(counter, std::memory_order_relaxed); };
  Consumer consumer = instance->open_consumer("q");
  std::uint64_t left = 0;
  const auto is_done = [&] {
    while (const auto message = consumer.receive(1'000'000)) {
      Board::Fate& fate = board->fates[std::stoull(text_of(*message))];
      fate.tried.store(1);
      if (consumer.ack(*message) && fate.acked.fetch_add(1) != 0) board->acked_twice.fetch_add(1);
      ++left;
    }
    return gauge(counters.waiting) == 0 && gauge(counters.in_table) == 0;
  };
  ASSERT_TRUE(eventually([&] { return is_done() && is_done(); }));
  std::map<std::uint64_t, u32> dead;
  ASSERT_TRUE(each_parked(files, 0, layout::slot_generation(files.group_slot(0).slot), layout::RecordState::kDead, true,
                          [&](const ParkedMessage& letter) {
                            ++dead[std::stoull(letter.payload)];
                            EXPECT_LE(letter.word.failed, 4U) << letter.payload;
                            EXPECT_GE(letter.word.acquired, letter.word.failed) << letter.payload;
                            return true;
                          }));
  EXPECT_EQ(gauge(counters.dead), dead.size());
  std::uint64_t lost = 0;
  std::uint64_t published = 0;
  std::uint64_t two_fates = 0;
  for (std::uint64_t number = 0; number < std::min(board->next.load(), kMessagesMost); ++number) {
    const Board::Fate& fate = board->fates[number];
    const bool is_dead = dead.contains(number);
    published += fate.published.load();
    if (is_dead && dead.at(number) != 1) ++two_fates;
    if (is_dead && fate.acked.load() != 0) ++two_fates;
    if (fate.published.load() != 0 && !is_dead && fate.acked.load() == 0 && fate.tried.load() == 0) ++lost;
  }
  std::cout << published << " published, " << board->delivered.load() << " deliveries, " << dead.size() << " dead, "
            << left << " left for the end\n";
  EXPECT_EQ(lost, 0U);
  EXPECT_EQ(two_fates, 0U);
  EXPECT_EQ(board->acked_twice.load(), 0U);
  EXPECT_EQ(board->same_attempt.load(), 0U);
  EXPECT_GT(dead.size(), 0U);
  consumer.close();
  ::munmap(board, sizeof(Board));
}

}  // namespace
}  // namespace mooring
