// Shows that a lane carries every message whole and in order between threads that run at the same time: one producer,
// one or two exclusive groups, tiny lanes, so that the producer waits and wraps all the time. The writer is now and
// then succeeded by another over the same lane, and so are the readers, as after a crash. Runs under TSan too, where
// the policy orders what fences order elsewhere.
//
// How many messages a second makes depends on who else uses the cores: the producer stops at a number or after a time.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <thread>

#include "support/payload.hpp"
#include "support/queue_memory.hpp"

namespace mooring::test {
namespace {

using A = HardwareAtomics;

constexpr u64 kMessagesMax = 1'000'000;
constexpr u64 kMessagesMin = 1'000;
constexpr auto kBudget = std::chrono::milliseconds(1500);

struct Config {
  u64 lane_bytes;
  u64 words;
  u32 groups;
  u64 len_max;
};

u64 len_of(u64 seq, u64 len_max) { return mix(seq * 3) % (len_max + 1); }

// Who fails stops all: the others wait for what it would have done.
std::atomic<bool> failed{false};
bool stopped() { return failed.load(std::memory_order_acquire); }
std::atomic<u64> seq_end{0};  // of the last message and one, once the producer is done

void produce(const QueueMemory& memory, u64 len_max) {
  Random random(memory.shape().lane_bytes);
  SpscWriter<A> writer;
  ASSERT_EQ(SpscWriter<A>::recover(memory.lane(), memory.first_seq(), &writer), RingOutcome::kOk);
  const auto end = std::chrono::steady_clock::now() + kBudget;
  const auto enough = [&] {
    const u64 count = writer.next_seq() - memory.first_seq();
    return count == kMessagesMax || (count >= kMessagesMin && std::chrono::steady_clock::now() > end);
  };
  while (!enough() && !stopped()) {
    if (random.one_in(1000)) {
      // Dropped with whatever it had pending, and succeeded.
      const u64 next = writer.next_seq();
      ASSERT_EQ(SpscWriter<A>::recover(memory.lane(), memory.first_seq(), &writer), RingOutcome::kOk);
      ASSERT_LE(writer.next_seq(), next);
    }
    const u64 seq = writer.next_seq();
    const u64 len = len_of(seq, len_max);
    RingOutcome why = RingOutcome::kOk;
    u8* payload = writer.reserve(len, memory.mark<A>(), &why);
    if (payload == nullptr) {
      ASSERT_EQ(why, RingOutcome::kFull);
      writer.publish();
      std::this_thread::yield();
      continue;
    }
    write_payload<A>(payload, seq, len);
    writer.append(len);
    if (random.below(4) != 0) writer.publish();
  }
  writer.publish();
  seq_end.store(writer.next_seq(), std::memory_order_release);
}

void consume(const QueueMemory& memory, std::size_t k, u64 len_max) {
  Random random(k + 7);
  auto reader = memory.lane_reader<A>(k);
  u64 next = memory.first_seq();       // of the first that was never delivered
  u64 acked_end = memory.first_seq();  // as many as were acknowledged, from the first on
  std::deque<u64> held;                // delivered to the present reader, not settled
  while (acked_end != seq_end.load(std::memory_order_acquire) && !stopped()) {
    FrameView frame;
    u32 attempt = 0;
    const TakeOutcome outcome = reader.take(&frame, &attempt);
    ASSERT_NE(outcome, TakeOutcome::kCorrupt);
    if (outcome == TakeOutcome::kTaken) {
      ASSERT_LE(frame.seq, next);
      ASSERT_EQ(attempt == 1, frame.seq == next);
      if (frame.seq == next) ++next;
      ASSERT_EQ(frame.len, len_of(frame.seq, len_max));
      ASSERT_TRUE(payload_is<A>(frame.payload, frame.len, frame.seq));
      if (random.one_in(50)) {
        ASSERT_TRUE(reader.give_back(frame.seq));
        continue;
      }
      held.push_back(frame.seq);
      if (random.one_in(3)) continue;
    }
    while (!held.empty()) {
      const bool newest = random.one_in(4);  // out of order
      ASSERT_TRUE(reader.ack(newest ? held.back() : held.front()));
      newest ? held.pop_back() : held.pop_front();
      ++acked_end;
    }
    if (outcome != TakeOutcome::kTaken) {
      reader.raise_base();
      std::this_thread::yield();
    }
    if (random.one_in(1000)) {
      reader = memory.lane_reader<A>(k);
      held.clear();
    }
  }
  EXPECT_TRUE(stopped() || next == acked_end);
}

void run(const Config& config) {
  QueueMemory memory(Shape{.kind = QueueKind::kSpsc,
                           .words = config.words,
                           .lane_bytes = config.lane_bytes,
                           .groups = std::vector<GroupMode>(config.groups, GroupMode::kExclusive)});
  failed.store(false, std::memory_order_release);
  seq_end.store(0, std::memory_order_release);
  const auto note_failure = [] {
    if (testing::Test::HasFailure()) failed.store(true, std::memory_order_release);
  };
  std::vector<std::thread> threads;
  for (std::size_t k = 0; k < config.groups; ++k) {
    threads.emplace_back([&, k] {
      consume(memory, k, config.len_max);
      note_failure();
    });
  }
  produce(memory, config.len_max);
  note_failure();
  for (std::thread& thread : threads) thread.join();
}

TEST(LaneThreads, OneReaderOverATinyLane) { run({256, 16, 1, 60}); }
TEST(LaneThreads, TwoGroupsOverASmallLane) { run({1024, 64, 2, 100}); }
TEST(LaneThreads, LargeMessagesThatDoNotDivideTheLane) { run({8192, 256, 1, 900}); }

}  // namespace
}  // namespace mooring::test
