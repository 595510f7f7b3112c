// Shows the consumer's half of an exclusive group over both of its sources, a lane and an order ring: strict order,
// settlements in any order, what was given back comes before anything later, and what a successor finds after its
// predecessor was killed at any step: acknowledged never again, shown again with the right attempt, the rest as new.

#include "group/exclusive.hpp"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <set>

#include "group/publisher.hpp"
#include "support/cut_atomics.hpp"

namespace mooring::test {
namespace {

using A = HardwareAtomics;

// A queue of each kind behind the same few words.
struct OverLane {
  static constexpr QueueKind kKind = QueueKind::kSpsc;
  template <class P>
  static auto reader(const QueueMemory& memory) {
    return memory.lane_reader<P>(0);
  }
  static bool send(const QueueMemory& memory, u64 len) {
    SpscWriter<A> writer;  // a successor for each message: the lane knows all
    EXPECT_EQ(SpscWriter<A>::recover(memory.lane(), memory.first_seq(), &writer), RingOutcome::kOk);
    RingOutcome why = RingOutcome::kOk;
    u8* payload = writer.reserve(len, memory.mark<A>(), &why);
    if (payload == nullptr) return false;
    write_payload<A>(payload, writer.next_seq(), len);
    writer.append(len);
    writer.publish();
    return true;
  }
};
struct OverOrderRing {
  static constexpr QueueKind kKind = QueueKind::kMpmc;
  template <class P>
  static auto reader(const QueueMemory& memory) {
    return memory.exclusive<P>(0);
  }
};

template <class Over>
class Exclusive : public testing::Test {
 protected:
  explicit Exclusive(u64 words = 16)
      : memory_(Shape{.kind = Over::kKind,
                      .cells = 64,
                      .words = words,
                      .lane_bytes = 2048,
                      .lanes = 1,
                      .groups = {GroupMode::kExclusive}}),
        first_(memory_.first_seq()) {
    if constexpr (Over::kKind == QueueKind::kMpmc) publisher_.emplace(memory_);
  }

  auto reader() { return Over::template reader<A>(memory_); }
  bool send(u64 len = kLen) {
    if constexpr (Over::kKind == QueueKind::kMpmc) {
      return publisher_->send(len);
    } else {
      return Over::send(memory_, len);
    }
  }
  void send_many(u64 count) {
    for (u64 i = 0; i < count; ++i) ASSERT_TRUE(send());
  }

  // Takes one; its number from the first message on, or -1 with the outcome in `outcome_`.
  template <class R>
  i64 take(R& reader, u32 attempt_expected = 1) {
    FrameView frame;
    u32 attempt = 0;
    outcome_ = reader.take(&frame, &attempt);
    if (outcome_ != TakeOutcome::kTaken) return -1;
    EXPECT_TRUE(payload_is<A>(frame.payload, frame.len, frame.seq)) << "seq " << frame.seq;
    EXPECT_EQ(attempt, attempt_expected) << "message " << frame.seq - first_;
    return static_cast<i64>(frame.seq - first_);
  }
  template <class R>
  void take_many(R& reader, u64 count) {
    for (u64 i = 0; i < count; ++i) ASSERT_GE(take(reader), 0);
  }

  QueueMemory memory_;
  u64 first_;
  std::optional<Publisher<>> publisher_;
  TakeOutcome outcome_ = TakeOutcome::kEmpty;
};

using Sources = testing::Types<OverLane, OverOrderRing>;
TYPED_TEST_SUITE(Exclusive, Sources);

TYPED_TEST(Exclusive, GivesAllInOrderOverManyLaps) {
  auto reader = this->reader();
  for (i64 i = 0; i < 2000; i += 5) {
    this->send_many(5);
    for (i64 n = 0; n < 5; ++n) ASSERT_EQ(this->take(reader), i + n);
    EXPECT_EQ(this->take(reader), -1);
    EXPECT_EQ(this->outcome_, TakeOutcome::kEmpty);
    EXPECT_EQ(reader.in_flight(), 5U);
    for (i64 n = 0; n < 5; ++n) ASSERT_TRUE(reader.ack(this->first_ + static_cast<u64>(i + n)));
    EXPECT_EQ(reader.in_flight(), 0U);
    reader.raise_base();
  }
}

TYPED_TEST(Exclusive, WindowBoundsWhatIsInFlight) {
  auto reader = this->reader();
  this->send_many(20);
  this->take_many(reader, 16);
  EXPECT_EQ(this->take(reader), -1);
  EXPECT_EQ(this->outcome_, TakeOutcome::kWindow);
  ASSERT_TRUE(reader.ack(this->first_ + 5));
  EXPECT_EQ(this->take(reader), -1) << "the oldest is still open";
  ASSERT_TRUE(reader.ack(this->first_));
  EXPECT_EQ(this->take(reader), 16);
  EXPECT_EQ(this->take(reader), -1);
}

TYPED_TEST(Exclusive, AcknowledgedInAnyOrderIsAcknowledgedOnce) {
  auto reader = this->reader();
  this->send_many(6);
  this->take_many(reader, 6);
  const u64 first = this->first_;
  EXPECT_FALSE(reader.ack(first - 1));
  EXPECT_FALSE(reader.ack(first + 6)) << "never delivered";
  for (const u64 n : {u64{3}, u64{1}, u64{5}, u64{0}, u64{2}, u64{4}}) {
    EXPECT_TRUE(reader.ack(first + n));
    EXPECT_FALSE(reader.ack(first + n)) << "settled before";
    EXPECT_FALSE(reader.give_back(first + n));
  }
  EXPECT_EQ(reader.in_flight(), 0U);
}

TYPED_TEST(Exclusive, AckUpToSettlesEverythingDelivered) {
  auto reader = this->reader();
  this->send_many(8);
  this->take_many(reader, 7);
  const u64 first = this->first_;
  ASSERT_TRUE(reader.ack(first + 2));
  EXPECT_EQ(reader.ack_up_to(first + 7), 0U) << "not delivered yet";
  EXPECT_EQ(reader.ack_up_to(first + 4), 4U) << "one of the five was settled before";
  EXPECT_EQ(reader.ack_up_to(first + 4), 0U);
  EXPECT_EQ(reader.in_flight(), 2U);
  ASSERT_TRUE(reader.ack(first + 6));
  EXPECT_EQ(reader.ack_up_to(first + 5), 1U);
  EXPECT_EQ(reader.in_flight(), 0U) << "what was acknowledged behind it counts";
}

TYPED_TEST(Exclusive, AckUpToLeavesWhatWasGivenBack) {
  auto reader = this->reader();
  this->send_many(8);
  this->take_many(reader, 6);
  const u64 first = this->first_;
  ASSERT_TRUE(reader.give_back(first + 2));
  EXPECT_EQ(reader.ack_up_to(first + 4), 4U);
  EXPECT_EQ(reader.ack_up_to(first + 4), 0U);
  EXPECT_EQ(this->take(reader, 2), 2);
  EXPECT_TRUE(reader.ack(first + 2));
  EXPECT_EQ(reader.in_flight(), 1U);
  EXPECT_EQ(reader.ack_up_to(first + 5), 1U);
}

TYPED_TEST(Exclusive, GivenBackComesBeforeAnythingLater) {
  auto reader = this->reader();
  this->send_many(8);
  this->take_many(reader, 5);
  const u64 first = this->first_;
  for (const u64 n : {u64{3}, u64{0}, u64{2}}) {
    EXPECT_TRUE(reader.give_back(first + n));
    EXPECT_FALSE(reader.give_back(first + n));
    EXPECT_FALSE(reader.ack(first + n)) << "it is not delivered now";
    EXPECT_TRUE(reader.may_have_work());
  }
  EXPECT_EQ(this->take(reader, 2), 0);
  EXPECT_EQ(this->take(reader, 2), 2);
  EXPECT_TRUE(reader.give_back(first + 2));
  EXPECT_EQ(this->take(reader, 3), 2) << "the lowest again";
  EXPECT_EQ(this->take(reader, 2), 3);
  EXPECT_EQ(this->take(reader), 5);
  EXPECT_EQ(reader.ack_up_to(first + 5), 6U);
}

TYPED_TEST(Exclusive, GivenBackMessageIsWaitedForNotSkipped) {
  auto reader = this->reader();
  this->send_many(3);
  this->take_many(reader, 3);
  const u64 first = this->first_;
  ASSERT_TRUE(reader.give_back(first));
  ASSERT_TRUE(reader.ack(first + 1));
  ASSERT_TRUE(reader.ack(first + 2));
  EXPECT_EQ(reader.in_flight(), 3U);
  EXPECT_EQ(this->take(reader, 2), 0);
  EXPECT_TRUE(reader.ack(first));
  EXPECT_EQ(reader.in_flight(), 0U);
}

TYPED_TEST(Exclusive, MayHaveWorkSeesWhatTakeWouldTake) {
  auto reader = this->reader();
  EXPECT_FALSE(reader.may_have_work());
  this->send_many(1);
  EXPECT_TRUE(reader.may_have_work());
  EXPECT_EQ(this->take(reader), 0);
  EXPECT_FALSE(reader.may_have_work());
  ASSERT_TRUE(reader.give_back(this->first_));
  EXPECT_TRUE(reader.may_have_work());
}

TYPED_TEST(Exclusive, BaseFollowsLazilyOrWhenAskedAndNeverPassesWhatIsOpen) {
  auto reader = this->reader();
  const u64 start = this->memory_.group().head->base;
  this->send_many(3);
  this->take_many(reader, 3);
  EXPECT_FALSE(reader.raise_base());
  ASSERT_TRUE(reader.ack(this->first_ + 1));
  EXPECT_FALSE(reader.raise_base());
  ASSERT_TRUE(reader.ack(this->first_));
  EXPECT_EQ(this->memory_.group().head->base, start) << "lazily";
  EXPECT_TRUE(reader.raise_base());
  EXPECT_FALSE(reader.raise_base());
  const u64 after_two = this->memory_.group().head->base;
  EXPECT_EQ(after_two - start, TypeParam::kKind == QueueKind::kMpmc ? 2 : 2 * layout::frame_bytes(kLen));
  // And by itself before a publisher runs out of room.
  ASSERT_TRUE(reader.ack(this->first_ + 2));
  for (u64 i = 3; i < 200; ++i) {
    ASSERT_TRUE(this->send()) << i;
    ASSERT_EQ(this->take(reader), static_cast<i64>(i));
    ASSERT_TRUE(reader.ack(this->first_ + i));
    if (TypeParam::kKind == QueueKind::kMpmc) reader.raise_base();  // 64 cells: as many as base may lag
  }
}

TYPED_TEST(Exclusive, BytesStayUntilTheyAreAcknowledged) {
  auto reader = this->reader();
  u64 sent = 0;
  while (this->send()) ++sent;
  this->take_many(reader, 16);
  reader.raise_base();
  EXPECT_FALSE(this->send());
  for (u64 i = 0; i < 16; ++i) ASSERT_TRUE(reader.give_back(this->first_ + i));
  for (i64 i = 0; i < 16; ++i) ASSERT_EQ(this->take(reader, 2), i) << "and the content is still right";
}

// --- Successors ------------------------------------------------------------------------------------------------------

TYPED_TEST(Exclusive, SuccessorGoesOnWhereThePredecessorStopped) {
  this->send_many(12);
  const u64 first = this->first_;
  {
    auto reader = this->reader();
    this->take_many(reader, 8);
    ASSERT_TRUE(reader.ack(first + 0));
    ASSERT_TRUE(reader.ack(first + 1));
    ASSERT_TRUE(reader.ack(first + 4));
    ASSERT_TRUE(reader.give_back(first + 5));
    ASSERT_TRUE(reader.give_back(first + 3));
    EXPECT_EQ(this->take(reader, 2), 3);
  }
  auto reader = this->reader();
  EXPECT_EQ(this->take(reader, 2), 2);
  EXPECT_EQ(this->take(reader, 3), 3) << "delivered twice before";
  EXPECT_EQ(this->take(reader, 2), 5) << "4 was acknowledged; 5 was given back";
  EXPECT_EQ(this->take(reader, 2), 6);
  EXPECT_EQ(this->take(reader, 2), 7);
  EXPECT_EQ(this->take(reader, 1), 8) << "never shown to anybody";
  ASSERT_TRUE(reader.ack(first + 2));
  ASSERT_TRUE(reader.ack(first + 3));
  EXPECT_EQ(reader.in_flight(), 4U) << "5 to 8: 4 was settled by the predecessor";
}

TYPED_TEST(Exclusive, AttemptsAreCountedOverManySuccessors) {
  this->send_many(2);
  for (u32 attempt = 1; attempt < 20; ++attempt) {
    auto reader = this->reader();
    ASSERT_EQ(this->take(reader, attempt), 0);
    ASSERT_EQ(this->take(reader, attempt), 1);
  }
}

TYPED_TEST(Exclusive, SuccessorOfOneThatAcknowledgedAllStartsAnew) {
  for (int i = 0; i < 300; ++i) {
    this->send_many(1);
    auto reader = this->reader();
    ASSERT_EQ(this->take(reader), i);
    ASSERT_TRUE(reader.ack(this->first_ + static_cast<u64>(i)));
    reader.raise_base();
    auto next = this->reader();
    ASSERT_EQ(this->take(next), -1);
  }
}

// The predecessor is killed before each of its changes of shared memory in turn.
TYPED_TEST(Exclusive, KilledAtAnyStepKeepsTheOrderAndWhatWasAcknowledged) {
  const auto fresh = this->memory_.snapshot();
  u64 step = 1;
  for (bool cut = true; cut; ++step) {
    this->memory_.restore(fresh);
    if constexpr (TypeParam::kKind == QueueKind::kMpmc) this->publisher_.emplace(this->memory_);
    constexpr u64 kCount = 40;
    this->send_many(kCount);
    const u64 first = this->first_;
    std::set<u64> acked;
    std::set<u64> asked;           // ack was called; it may have had its effect
    std::map<u64, u32> delivered;  // how often take() returned it
    u64 in_take = 0;
    cut = cut_before_step(step, [&] {
      auto reader = TypeParam::template reader<CutAtomics>(this->memory_);
      const auto take = [&] {
        FrameView frame;
        u32 attempt = 0;
        in_take = 1;
        if (reader.take(&frame, &attempt) == TakeOutcome::kTaken) ++delivered[frame.seq];
        in_take = 0;
        return frame.seq;
      };
      const auto ack = [&](u64 seq) {
        asked.insert(seq);
        if (reader.ack(seq)) acked.insert(seq);
      };
      for (int round = 0; round < 6; ++round) {
        const std::array<u64, 5> seqs = {take(), take(), take(), take(), take()};
        ack(seqs[3]);
        reader.give_back(seqs[1]);
        ack(seqs[0]);
        ack(take());
        reader.raise_base();
        for (u64 seq = seqs[2]; seq <= seqs[4]; seq += 2) asked.insert(seq);
        if (reader.ack_up_to(seqs[4]) == 2) acked.insert({seqs[2], seqs[4]});
      }
    });
    auto next = this->reader();
    u64 expected = first;
    u64 redelivered = 0;
    FrameView frame;
    for (;;) {
      u32 attempt = 0;
      const TakeOutcome outcome = next.take(&frame, &attempt);
      if (outcome == TakeOutcome::kEmpty) break;
      ASSERT_EQ(outcome, TakeOutcome::kTaken) << "step " << step;
      for (; expected < frame.seq; ++expected) {
        ASSERT_EQ(asked.count(expected), 1U) << "message " << expected - first << " was lost, step " << step;
      }
      ASSERT_EQ(frame.seq, expected++) << "step " << step;
      ASSERT_EQ(acked.count(frame.seq), 0U) << "acknowledged and delivered again, step " << step;
      ASSERT_TRUE(payload_is<A>(frame.payload, frame.len, frame.seq));
      const auto before = delivered.find(frame.seq);
      const u32 counted = before == delivered.end() ? 0 : before->second;
      // Killed inside take(): counted as shown, though the application never saw it.
      ASSERT_GE(attempt, counted + 1) << "step " << step;
      ASSERT_LE(attempt, counted + 1 + in_take) << "step " << step;
      if (attempt > 1) ++redelivered;
      ASSERT_TRUE(next.ack(frame.seq));
    }
    ASSERT_EQ(expected, first + kCount);
    EXPECT_LE(redelivered, 6U) << "no more than was in flight";
    EXPECT_EQ(next.in_flight(), 0U);
  }
  EXPECT_GT(step, 50U);
}

TYPED_TEST(Exclusive, AnyBytesGiveAnAnswer) {
  this->send_many(20);
  const auto sound = this->memory_.snapshot();
  const GroupView& group = this->memory_.group();
  Random random(5);
  std::set<TakeOutcome> outcomes;
  for (int round = 0; round < 20'000; ++round) {
    this->memory_.restore(sound);
    const auto scribble = [&](u64& word, u64 near) {
      if (random.one_in(3)) word = random.one_in(4) ? random.next() : near + random.below(600);
    };
    for (u64 i = 0; i <= group.mask; ++i) {
      group.words[i] =
          layout::make_word(group.lap(this->first_) + random.below(3), static_cast<layout::Kind>(random.below(8)), 0,
                            static_cast<u32>(random.next() & 0x3ffff));
    }
    scribble(group.head->base, 0);
    scribble(group.head->acked, group.head->base);
    scribble(group.head->shown, this->first_);
    scribble(group.head->base_seq_hint, this->first_);
    auto reader = this->reader();
    for (int i = 0; i < 30; ++i) {
      FrameView frame;
      u32 attempt = 0;
      const TakeOutcome outcome = reader.take(&frame, &attempt);
      outcomes.insert(outcome);
      if (outcome != TakeOutcome::kTaken) break;
      ASSERT_LE(frame.payload + frame.len, this->memory_.lane().bytes + this->memory_.lane().size_bytes);
      if (random.one_in(3)) reader.give_back(frame.seq);
      if (random.one_in(3)) reader.ack_up_to(frame.seq);
      reader.ack(frame.seq - random.below(3));
      reader.raise_base();
      reader.may_have_work();
    }
  }
  EXPECT_EQ(outcomes.count(TakeOutcome::kTaken), 1U);
  EXPECT_EQ(outcomes.count(TakeOutcome::kEmpty), 1U);
}

// --- Only one of the sources -----------------------------------------------------------------------------------------

TEST(ExclusiveOverLane, FindsItsSeqOverTheWrapOfTheLowHalf) {
  const u64 first = (u64{1} << 32) - 10;
  QueueMemory memory(
      Shape{.kind = QueueKind::kSpsc, .lane_bytes = 512, .groups = {GroupMode::kExclusive}, .first_seq = first});
  for (u64 i = 0; i < 40; ++i) {
    ASSERT_TRUE(OverLane::send(memory, 20));
    auto reader = memory.lane_reader<A>(0);
    FrameView frame;
    u32 attempt = 0;
    ASSERT_EQ(reader.take(&frame, &attempt), TakeOutcome::kTaken);
    ASSERT_EQ(frame.seq, first + i);
    ASSERT_TRUE(reader.ack(frame.seq));
  }
}

TEST(ExclusiveOverOrderRing, CellsThatMakeNoSenseAreRefused) {
  for (const int what : {0, 1, 2}) {
    QueueMemory memory(Shape{.lanes = 1, .groups = {GroupMode::kExclusive}});
    Publisher<> publisher(memory);
    publisher.send_many(1);
    const u64 seq = memory.first_seq();
    const u64 lap = memory.order.lap(seq);
    u64& cell = memory.order.cell(seq);
    if (what == 0) cell = layout::make_cell(lap, 7, 0);        // no such lane
    if (what == 1) cell = layout::make_cell(lap, 0, 1 << 20);  // no such place
    if (what == 2) cell = layout::make_cell(lap + 1, 0, 0);    // overwritten, though this group's base holds it
    auto reader = memory.exclusive<A>(0);
    FrameView frame;
    u32 attempt = 0;
    EXPECT_EQ(reader.take(&frame, &attempt), TakeOutcome::kCorrupt) << what;
  }
}

TEST(ExclusiveOverOrderRing, StandsBesideACompetingGroup) {
  QueueMemory memory(Shape{.cells = 8, .lanes = 1, .groups = {GroupMode::kExclusive, GroupMode::kCompeting}});
  Publisher<> publisher(memory);
  auto reader = memory.exclusive<A>(0);
  auto consumer = memory.competing<A>(1, 1);
  for (u64 i = 0; i < 100; ++i) {
    publisher.send_many(1);
    FrameView frame;
    u32 attempt = 0;
    ASSERT_EQ(reader.take(&frame, &attempt), TakeOutcome::kTaken);
    ASSERT_TRUE(reader.ack(frame.seq));
    reader.raise_base();
    Lease lease;
    ASSERT_EQ(consumer.lease(&lease), LeaseOutcome::kLeased);
    ASSERT_EQ(lease.seq, frame.seq);
    ASSERT_TRUE(content_is_right(memory, lease, 1));
    ASSERT_EQ(consumer.ack(lease), Settled::kYes);
    consumer.help_base(true);
  }
}

}  // namespace
}  // namespace mooring::test
