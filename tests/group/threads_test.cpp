// Shows the whole protocol with everybody at once: two producers over one order ring, a competing group with two
// consumers, an exclusive group beside it, and a supervisor that parks stragglers, steps base, reaps and announces, all
// as threads over one mapping with tiny rings. Each message is acknowledged exactly once by the competing group, read
// in strict order by the exclusive one, and every byte of every delivery is right. Runs under TSan too.
//
// Six threads hand tiny windows to each other, so how many messages a second makes depends on who else uses the cores:
// the producers stop at a number of messages, or after a time if all that is to be seen was seen.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <thread>
#include <vector>

#include "group/repair.hpp"
#include "support/payload.hpp"
#include "support/queue_memory.hpp"

namespace mooring::test {
namespace {

using A = HardwareAtomics;

constexpr u64 kPerProducer = 100'000;
constexpr u64 kProducers = 2;
constexpr auto kBudget = std::chrono::milliseconds(1500);

// The first 8 bytes of a message say who wrote it and its number there; the rest follows from them.
constexpr u64 name_of(u64 producer, u64 number) { return (producer << 32) | number; }
constexpr u64 len_of(u64 name, u64 len_max) { return 8 + mix(name) % (len_max - 8); }

void write_message(u8* shared, u64 name, u64 len) {
  A::copy_in(shared, &name, sizeof(name));
  write_payload<A>(shared + sizeof(name), name, len - sizeof(name));
}
// The name, if every byte is as written.
u64 checked_name(const u8* bytes, u64 len, u64 len_max) {
  u64 name = 0;
  EXPECT_GE(len, sizeof(name));
  A::copy_out(&name, bytes, sizeof(name));
  EXPECT_LT(name >> 32, kProducers);
  EXPECT_LT(name & 0xffffffff, kPerProducer);
  EXPECT_EQ(len, len_of(name, len_max));
  EXPECT_TRUE(payload_is<A>(bytes + sizeof(name), len - sizeof(name), name));
  return name;
}

class Everybody {
 public:
  Everybody(u64 cells, u64 words, u64 lane_bytes, u64 len_max)
      : memory_(Shape{.cells = cells,
                      .words = words,
                      .parks = 4,
                      .lane_bytes = lane_bytes,
                      .lanes = kProducers,
                      .groups = {GroupMode::kCompeting, GroupMode::kExclusive}}),
        len_max_(len_max),
        acks_(kProducers * kPerProducer) {}

  void run() {
    std::vector<std::thread> threads;
    // Who fails stops all: the others wait for what it would have done.
    const auto start = [&](auto role) {
      threads.emplace_back([this, role] {
        role();
        if (testing::Test::HasFailure()) failed_.store(true, std::memory_order_release);
      });
    };
    for (u32 lane = 0; lane < kProducers; ++lane) start([this, lane] { produce(lane); });
    for (u32 owner = 1; owner <= 2; ++owner) start([this, owner] { compete(owner); });
    start([this] { read_in_order(); });
    supervise();
    for (std::thread& thread : threads) thread.join();
    if (testing::Test::HasFailure()) return;

    const u64 total = published_count_.load(std::memory_order_acquire);
    u64 acked_once = 0;
    for (const auto& acks : acks_) {
      ASSERT_LE(acks.load(std::memory_order_relaxed), 1U);
      acked_once += acks.load(std::memory_order_relaxed);
    }
    EXPECT_EQ(acked_once, total);
    GroupRepair<A> repair(memory_.group(0), memory_.order);
    repair.step_base();
    repair.reap_parks([](u64 /*loc*/, u64 /*seq*/) {});
    EXPECT_EQ(memory_.group(0).head->base, memory_.first_seq() + total);
    EXPECT_EQ(memory_.group(1).head->base, memory_.first_seq() + total);
    for (u32 index = 0; index < memory_.shape().parks; ++index) {
      EXPECT_EQ(layout::read_park_word(memory_.group(0).parks[index].word).state, layout::ParkState::kFree);
    }
    EXPECT_GT(parked_count_, 0U) << "there were stragglers";
    EXPECT_GT(leased_from_park_.load(std::memory_order_relaxed), 0U) << "and some were given back from the park table";
  }

 private:
  bool failed() const { return failed_.load(std::memory_order_acquire); }
  // Is `count` all there will be? The producers' count is final once both are done.
  bool is_all(u64 count) const {
    return producers_done_.load(std::memory_order_acquire) == kProducers &&
           count == published_count_.load(std::memory_order_acquire);
  }
  bool all_acked() const { return is_all(acked_count_.load(std::memory_order_acquire)); }

  void produce(u32 lane) {
    Random random(lane);
    OrderWriter<A> writer = memory_.writer<A>(lane);
    u64 number = 0;
    const auto more = [&] { return number < kPerProducer && !enough_.load(std::memory_order_acquire); };
    while ((more() || writer.pending_count() != 0) && !failed()) {
      const u64 batch = more() ? 1 + random.below(3) : 0;
      for (u64 i = 0; i < batch && number < kPerProducer; ++i) {
        const u64 name = name_of(lane, number);
        const u64 len = len_of(name, len_max_);
        RingOutcome why = RingOutcome::kOk;
        u8* payload = writer.reserve(len, memory_.mark<A>(), &why);
        if (payload == nullptr) {
          ASSERT_EQ(why, RingOutcome::kFull);
          break;
        }
        write_message(payload, name, len);
        writer.append(len);
        ++number;
      }
      u64 last_seq = 0;
      u64 published = 0;
      ASSERT_NE(writer.publish(memory_.mark<A>(), &last_seq, &published), RingOutcome::kCorrupt);
      published_count_.fetch_add(published, std::memory_order_acq_rel);
      if (published == 0) std::this_thread::yield();
    }
    producers_done_.fetch_add(1, std::memory_order_acq_rel);
  }

  void compete(u32 owner) {
    Random random(owner * 1000);
    CompetingConsumer<A> consumer = memory_.competing<A>(0, owner);
    std::deque<Lease> held;
    Lease straggler;
    u64 straggles_until = 0;  // the round of the supervisor at which it is settled; 0: none is held
    std::vector<u8> payload;
    while (!all_acked() && !failed()) {
      Lease lease;
      const LeaseOutcome outcome = consumer.lease(&lease);
      ASSERT_NE(outcome, LeaseOutcome::kCorrupt);
      if (outcome == LeaseOutcome::kLeased) {
        if (lease.parked()) leased_from_park_.fetch_add(1, std::memory_order_relaxed);
        if (straggles_until == 0 && random.one_in(50)) {
          // Stands still over it, for as long as the supervisor needs to look three times, and goes on with others.
          straggler = lease;
          straggles_until = rounds_.load(std::memory_order_acquire) + 3;
        } else {
          ASSERT_TRUE(memory_.read<A>(0, lease, &payload));
          ASSERT_TRUE(consumer.still_mine(lease));
          checked_name(payload.data(), payload.size(), len_max_);
          held.push_back(lease);
        }
      }
      if (straggles_until != 0 && rounds_.load(std::memory_order_acquire) >= straggles_until) {
        // Copied only now: the bytes are where they were, or in the park file.
        held.push_front(straggler);
        straggles_until = 0;
      }
      if (held.size() > 2 || (outcome != LeaseOutcome::kLeased && !held.empty())) {
        const bool newest = random.one_in(3);
        const Lease settled = newest ? held.back() : held.front();
        newest ? held.pop_back() : held.pop_front();
        ASSERT_TRUE(memory_.read<A>(0, settled, &payload));
        ASSERT_TRUE(consumer.still_mine(settled));
        const u64 name = checked_name(payload.data(), payload.size(), len_max_);
        if (random.one_in(8)) {
          ASSERT_EQ(consumer.release(settled), Settled::kYes) << "nothing is taken from the living";
          ASSERT_EQ(consumer.ack(settled), Settled::kStale);
        } else {
          ASSERT_EQ(consumer.ack(settled), Settled::kYes) << "nothing is taken from the living";
          acks_[(name >> 32) * kPerProducer + (name & 0xffffffff)].fetch_add(1, std::memory_order_relaxed);
          acked_count_.fetch_add(1, std::memory_order_acq_rel);
        }
      }
      consumer.help_base(outcome != LeaseOutcome::kLeased);
      if (outcome != LeaseOutcome::kLeased) std::this_thread::yield();
    }
  }

  void read_in_order() {
    auto reader = memory_.exclusive<A>(1);
    std::array<u64, kProducers> next{};
    for (u64 i = 0; !is_all(i) && !failed();) {
      FrameView frame;
      u32 attempt = 0;
      const TakeOutcome outcome = reader.take(&frame, &attempt);
      if (outcome != TakeOutcome::kTaken) {
        ASSERT_EQ(outcome, TakeOutcome::kEmpty);
        reader.raise_base();
        std::this_thread::yield();
        continue;
      }
      ASSERT_EQ(frame.seq, memory_.first_seq() + i);
      ASSERT_EQ(attempt, 1U);
      const u64 name = checked_name(frame.payload, frame.len, len_max_);
      ASSERT_EQ(name & 0xffffffff, next[name >> 32]) << "each producer's messages in its order";
      ++next[name >> 32];
      ASSERT_TRUE(reader.ack(frame.seq));
      ++i;
    }
    reader.raise_base();
  }

  void supervise() {
    GroupRepair<A> repair(memory_.group(0), memory_.order);
    const auto end = std::chrono::steady_clock::now() + kBudget;
    u64 seq_before = 0;
    u64 word_before = 0;
    while (!all_acked() && !failed()) {
      u64 seq = 0;
      u64 word = 0;
      if (repair.leased_at_base(&seq, &word) && seq == seq_before && word == word_before) {
        if (repair.park_straggler(seq, word, memory_.lane_of(), memory_.place<A>(0))) ++parked_count_;
      }
      seq_before = seq;
      word_before = word;
      repair.step_base();
      repair.reap_parks([](u64 /*loc*/, u64 /*seq*/) {});
      repair.announce_base_if_ready();
      repair.announce_lost_parks();
      rounds_.fetch_add(1, std::memory_order_acq_rel);
      if (parked_count_ != 0 && leased_from_park_.load(std::memory_order_relaxed) != 0 &&
          std::chrono::steady_clock::now() > end) {
        enough_.store(true, std::memory_order_release);
      }
      std::this_thread::yield();
    }
  }

  QueueMemory memory_;
  u64 len_max_;
  std::vector<std::atomic<u32>> acks_;
  std::atomic<bool> failed_{false};
  std::atomic<bool> enough_{false};
  std::atomic<u64> producers_done_{0};
  std::atomic<u64> published_count_{0};
  std::atomic<u64> acked_count_{0};
  std::atomic<u64> rounds_{0};
  std::atomic<u64> leased_from_park_{0};
  u64 parked_count_ = 0;
};

TEST(GroupThreads, TinyRings) { Everybody(16, 16, 512, 60).run(); }
TEST(GroupThreads, WindowSmallerThanTheOrderRing) { Everybody(64, 8, 1024, 100).run(); }
TEST(GroupThreads, OrderRingSmallerThanTheWindow) { Everybody(4, 64, 4096, 300).run(); }

}  // namespace
}  // namespace mooring::test
