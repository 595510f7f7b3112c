// The shipped order ring (OrderWriter, frame_of_cell, still_there, and ExclusiveConsumer over OrderSource) under the
// interleaving explorer. The ring has one or two cells and a lane four small frames, so that every message waits for
// the one before it to be freed. Each property comes with the weakened form that must be caught.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <string>

#include "group/exclusive.hpp"
#include "group/release_mark.hpp"
#include "model/explorer.hpp"
#include "model/weakened.hpp"
#include "ring/order_ring.hpp"

namespace mooring::model {
namespace {

using A = ExplorerAtomics;

constexpr u64 kLaneBytes = 64;
constexpr u64 kLanesMaxHere = 2;
constexpr u64 kFirstSeq = 4;
constexpr u64 kWindow = 8;

// A lane per producer and one order ring, free and empty.
struct Ring {
  explicit Ring(unsigned log2) {
    order_.head = &order_head_;
    order_.cells = cells_.data();
    order_.mask = (u64{1} << log2) - 1;
    order_.log2 = log2;
    initialise_cells(order_, kFirstSeq);
    order_head_.tail = kFirstSeq;
    for (u64 i = 0; i < kLanesMaxHere; ++i) {
      lanes_[i] = LaneView{&lane_heads_[i], reinterpret_cast<u8*>(lane_words_[i].data()), kLaneBytes};
    }
    group_.head = &group_head_;
    group_.words = group_words_.data();
    group_.mask = kWindow - 1;
    group_.log2 = 3;
    initialise_words(group_, kFirstSeq);
    group_head_.base = group_head_.acked = kFirstSeq;
    group_head_.shown = kFirstSeq - 1;
    bases_[0] = GroupBase{group_, false};

    name_words(cells_.data(), sizeof(cells_), 8, "cell");
    name_words(lane_words_[0].data(), kLaneBytes, 8, "lane0");
    name_words(lane_words_[1].data(), kLaneBytes, 8, "lane1");
    name_word(&lane_heads_[0].reclaim, "reclaim0");
    name_word(&lane_heads_[1].reclaim, "reclaim1");
    name_word(&order_head_.tail, "tail");
    name_word(&group_head_.base, "base");
    name_word(&group_head_.acked, "acked");
    name_word(&group_head_.shown, "shown");
  }

  const LaneView* lane_of(u32 lane) const { return lane < kLanesMaxHere ? &lanes_[lane] : nullptr; }

  OrderView order_;
  GroupView group_;
  std::array<LaneView, kLanesMaxHere> lanes_{};
  std::array<GroupBase, 1> bases_{};
  layout::OrderHead order_head_{};
  std::array<u64, 4> cells_{};
  std::array<layout::LaneHead, kLanesMaxHere> lane_heads_{};
  alignas(64) std::array<std::array<u64, kLaneBytes / 8>, kLanesMaxHere> lane_words_{};
  layout::GroupHead group_head_{};
  std::array<u64, kWindow> group_words_{};
  u64 group_epoch_ = 0;
};

// Two producers, with a number of messages each, in batches; one exclusive consumer takes all of them: a thread beside
// them, or, if the ring has room for all, at the end.
// W: the producers' policy. S: what the consumer reads with.
template <class W = A, class S = A>
struct OrderRun : Scenario {
  OrderRun(unsigned log2, std::array<u64, 2> messages, u64 batch) : ring_(log2), messages_(messages), batch_(batch) {}

  static u64 content(u64 producer, u64 number) { return producer * 100 + number + 1; }

  void thread(int id) override {
    if (id == 2) {
      consume();
    } else {
      produce(static_cast<u32>(id));
    }
  }

  void produce(u32 self) {
    OrderWriter<W> writer(ring_.order_, ring_.lanes_[self], self, kFirstSeq);
    const auto mark = [this] { return release_mark<W>(ring_.bases_, ring_.group_epoch_, 0); };
    for (u64 done = 0; done < messages_[self];) {
      while (writer.pending_count() < batch_ && done + writer.pending_count() < messages_[self]) {
        RingOutcome why = RingOutcome::kOk;
        u8* to = writer.reserve(8, mark, &why);
        if (to == nullptr) {
          explorer_check(why == RingOutcome::kFull, "no room for another reason than full");
          W::pause();
          continue;
        }
        const u64 payload = content(self, done + writer.pending_count());
        W::copy_in(to, &payload, 8);
        writer.append(8);
      }
      u64 last_seq = 0;
      u64 published = 0;
      const RingOutcome outcome = writer.publish(mark, &last_seq, &published);
      explorer_check(outcome == RingOutcome::kOk || outcome == RingOutcome::kFull, "the ring says: corrupt");
      done += published;
      if (published == 0) W::pause();
    }
    writer.settle_tail();
  }

  void consume() {
    const auto lane_of = [this](u32 lane) { return ring_.lane_of(lane); };
    using Source = OrderSource<S, decltype(lane_of)>;
    ExclusiveConsumer<A, Source> consumer(ring_.group_, Source(ring_.order_, lane_of));
    for (u64 seq = kFirstSeq; seq < kFirstSeq + messages_[0] + messages_[1];) {
      FrameView frame;
      u32 attempt = 0;
      const TakeOutcome outcome = consumer.take(&frame, &attempt);
      if (outcome == TakeOutcome::kEmpty) {
        explorer_check(Explorer::running() != nullptr, "a published message cannot be seen");
        S::pause();
        continue;
      }
      explorer_check(outcome == TakeOutcome::kTaken, "the reader says: corrupt");
      explorer_check_equal(frame.seq, seq, "seq");
      explorer_check_equal(frame.len, 8, "length");
      u64 payload = 0;
      S::copy_out(&payload, frame.payload, 8);
      explorer_check_equal(payload, content(frame.lane, seen_[frame.lane]), "content, in the order of its producer");
      ++seen_[frame.lane];
      explorer_check_equal(attempt, 1, "attempt");
      explorer_check(consumer.ack(seq), "an ack is refused");
      consumer.raise_base();
      ++seq;
    }
  }

  void check_end() override {
    if (seen_ != messages_) consume();
    explorer_check(seen_ == messages_, "a message was lost");
    explorer_check_equal(ring_.order_head_.tail, kFirstSeq + messages_[0] + messages_[1], "tail in a quiet queue");
  }

  Ring ring_;
  std::array<u64, 2> messages_;
  u64 batch_;
  std::array<u64, 2> seen_{};
};

// A reader copies the first message while the supervisor takes it out of the window (a straggler's message is parked)
// and the producer, for whom it is finished now, uses its bytes again. What it copied counts only if still_there().
template <class W = A, class R = A>
struct Overtaken : Scenario {
  struct Counts {
    u64 accepted = 0;
    u64 refused = 0;
  };

  explicit Overtaken(Counts* counts) : ring_(2), counts_(counts) {
    writer_ = OrderWriter<W>(ring_.order_, ring_.lanes_[0], 0, kFirstSeq);
    for (u64 i = 0; i < 4; ++i) publish_one(i);
  }

  static u64 content(u64 number) { return number * 100 + 1; }

  void thread(int id) override {
    if (id == 0) {
      for (u64 i = 4; i < 6; ++i) {
        while (!publish_one(i)) W::pause();
      }
    } else if (id == 1) {
      read();
    } else {
      for (u64 to = 1; to <= 2; ++to) A::store(ring_.group_head_.base, kFirstSeq + to, std::memory_order_release);
    }
  }

  bool publish_one(u64 number) {
    const auto mark = [this] { return release_mark<W>(ring_.bases_, ring_.group_epoch_, 0); };
    RingOutcome why = RingOutcome::kOk;
    u8* to = writer_.reserve(8, mark, &why);
    if (to == nullptr) return false;
    const u64 payload = content(number);
    W::copy_in(to, &payload, 8);
    writer_.append(8);
    u64 last_seq = 0;
    u64 published = 0;
    return writer_.publish(mark, &last_seq, &published) == RingOutcome::kOk;
  }

  void read() {
    for (u64 seq = kFirstSeq; seq < kFirstSeq + 2; ++seq) {
      u64 cell = 0;
      explorer_check(is_published<R>(ring_.order_, seq, &cell), "a published message is gone");
      FrameView frame;
      u64 payload = 0;
      bool is_whole = false;
      if (layout::cell_laps_ahead(cell, ring_.order_.lap(seq)) == 0 &&
          frame_of_cell<R>(ring_.lanes_[0], cell, seq, &frame) == RingOutcome::kOk) {
        R::copy_out(&payload, frame.payload, 8);
        is_whole = payload == content(seq - kFirstSeq);
      }
      if (still_there<R>(ring_.lanes_[0], seq)) {
        explorer_check(is_whole, "an overwritten copy is believed");
        ++counts_->accepted;
      } else {
        ++counts_->refused;
      }
    }
  }

  Ring ring_;
  Counts* counts_;
  OrderWriter<W> writer_;
};

class OrderModel : public testing::Test {
 protected:
  void SetUp() override {
    if (!kExplorerSupported) GTEST_SKIP() << "TSan takes an abandoned fiber for calls that never returned.";
  }
};

void print(const Result& result) {
  std::printf("  %s, %.1f s\n", result.text().substr(0, result.text().find('\n')).c_str(), result.seconds);
}
void expect_proved(const Result& result) {
  print(result);
  EXPECT_TRUE(result.exhaustive && !result.failed) << result.text();
}
void expect_found(const Result& result, const std::string& message) {
  print(result);
  std::printf("  found: %s\n", result.message.c_str());
  EXPECT_TRUE(result.failed) << result.text();
  EXPECT_EQ(result.message.substr(0, message.size()), message) << result.text();
}
void expect_passed(const Result& result) {
  print(result);
  std::printf("  seed %llu\n", static_cast<unsigned long long>(result.seed));
  EXPECT_FALSE(result.failed) << result.text();
}

Options bounds(int threads, int preemptions, u32 stale) {
  Options options;
  options.threads = threads;
  options.preemptions_max = preemptions;
  options.stale_max = stale;
  return options;
}
constexpr u64 kSeed = 20261122;
constexpr u64 kWalks = 30'000;

using Messages = std::array<u64, 2>;

TEST_F(OrderModel, ProducersThatRaceForCellsLoseNothing) {
  expect_proved(Explorer(bounds(2, 4, 3), each<OrderRun<>>(2U, Messages{2, 2}, u64{1})).explore());
  expect_proved(Explorer(bounds(2, 4, 3), each<OrderRun<>>(2U, Messages{2, 2}, u64{2})).explore());
}

TEST_F(OrderModel, EachMessageIsSeenOnceInTheOrderOfItsProducer) {
  expect_proved(Explorer(bounds(3, 1, 0), each<OrderRun<>>(0U, Messages{2, 1}, u64{1})).explore());
  expect_proved(Explorer(bounds(3, 1, 1), each<OrderRun<>>(1U, Messages{2, 1}, u64{1})).explore());
  expect_proved(Explorer(bounds(3, 1, 1), each<OrderRun<>>(1U, Messages{2, 1}, u64{2})).explore());
}

TEST_F(OrderModel, RandomSchedulesKeepTheOrderToo) {
  Options options = bounds(3, 0, 4);
  options.stops_max = 1;
  for (const unsigned log2 : {0U, 1U}) {
    expect_passed(Explorer(options, each<OrderRun<>>(log2, Messages{3, 3}, u64{1})).walk(kSeed, kWalks));
    expect_passed(Explorer(options, each<OrderRun<>>(log2, Messages{3, 3}, u64{2})).walk(kSeed, kWalks));
  }
}

TEST_F(OrderModel, AnOverwrittenCopyIsNeverBelieved) {
  Overtaken<>::Counts counts;
  expect_proved(Explorer(bounds(3, 2, 2), each<Overtaken<>>(&counts)).explore());
  EXPECT_GT(counts.accepted, 0U);
  EXPECT_GT(counts.refused, 0U);
}

// ------------------------------------------------------------------------------------------- what must be caught

TEST_F(OrderModel, FindsTheTwoWayLapTest) {
  using Bug = WithBug<SeededBug::kTwoWayLapTest>;
  expect_found(Explorer(bounds(3, 2, 0), each<OrderRun<Bug>>(0U, Messages{1, 2}, u64{1})).explore(), "stuck");
}

TEST_F(OrderModel, FindsAPublishThatDoesNotRelease) {
  expect_found(Explorer(bounds(3, 2, 2), each<OrderRun<RelaxedCas>>(1U, Messages{2, 1}, u64{1})).explore(), "content");
}

TEST_F(OrderModel, FindsAReaderThatDoesNotAcquire) {
  expect_found(Explorer(bounds(3, 2, 2), each<OrderRun<A, RelaxedLoads>>(1U, Messages{2, 1}, u64{1})).explore(),
               "content");
}

TEST_F(OrderModel, FindsTheMissingOverwriteFence) {
  Overtaken<NoOverwriteFence>::Counts counts;
  expect_found(Explorer(bounds(3, 2, 2), each<Overtaken<NoOverwriteFence>>(&counts)).explore(),
               "an overwritten copy is believed");
}

TEST_F(OrderModel, FindsTheMissingOverreadFence) {
  Overtaken<A, NoOverreadFence>::Counts counts;
  expect_found(Explorer(bounds(3, 2, 2), each<Overtaken<A, NoOverreadFence>>(&counts)).explore(),
               "an overwritten copy is believed");
}

}  // namespace
}  // namespace mooring::model
