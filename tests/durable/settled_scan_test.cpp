// What a scan says of a group, for groups in every state: in order and not, parked, capped, laps later. The words are
// put there by consumers and by the supervisor's repair, in one thread; and by hand where a scan is overtaken.
#include "group/settled_scan.hpp"

#include "group/publisher.hpp"
#include "group/repair.hpp"

namespace mooring {
namespace {

using test::Publisher;
using test::QueueMemory;
using test::Shape;
using A = HardwareAtomics;
using Runs = std::vector<SettledRun>;

constexpr u64 kNoCap = u64{1} << 60;

class CompetingScan : public ::testing::Test {
 protected:
  QueueMemory memory_{Shape{.cells = 16, .words = 16, .parks = 4, .lane_bytes = 1024}};
  Publisher<> publisher_{memory_};
  CompetingConsumer<A> consumer_ = memory_.competing<A>(0, 1);
  u64 first_ = memory_.first_seq();

  Lease take() {
    Lease lease;
    EXPECT_EQ(consumer_.lease(&lease), LeaseOutcome::kLeased);
    return lease;
  }
  void ack(const Lease& lease) { EXPECT_EQ(consumer_.ack(lease), Settled::kYes); }
  Settlements scan(u64 cap = kNoCap) { return scan_competing<A>(memory_.group(), cap); }
  // The message at base leaves the window in its owner's name.
  void park_first() {
    GroupRepair<A> repair(memory_.group(), memory_.order);
    u64 seq = 0;
    u64 word = 0;
    ASSERT_TRUE(repair.leased_at_base(&seq, &word));
    ASSERT_TRUE(repair.park_straggler(seq, word, memory_.lane_of(), memory_.place<A>(0)));
    repair.step_base();
  }
};

TEST_F(CompetingScan, NothingSettledIsTheBaseAlone) {
  EXPECT_EQ(scan(), (Settlements{first_, {}, false}));
  publisher_.send_many(3);
  take();
  EXPECT_EQ(scan(), (Settlements{first_, {}, false}));
}

TEST_F(CompetingScan, SettledInOrderRaisesTheBaseThoughNobodyHelpedIt) {
  publisher_.send_many(5);
  for (int i = 0; i < 3; ++i) ack(take());
  EXPECT_EQ(memory_.group().head->base, first_);
  EXPECT_EQ(scan(), (Settlements{first_ + 3, {}, false}));
}

TEST_F(CompetingScan, SettledOutOfOrderAreRunsAboveTheBase) {
  publisher_.send_many(8);
  std::vector<Lease> leases;
  for (int i = 0; i < 8; ++i) leases.push_back(take());
  for (const u64 i : {u64{1}, u64{2}, u64{5}, u64{7}}) ack(leases[i]);
  EXPECT_EQ(scan(), (Settlements{first_, Runs{{first_ + 1, 2}, {first_ + 5, 1}, {first_ + 7, 1}}, false}));
  ack(leases[0]);
  EXPECT_EQ(scan(), (Settlements{first_ + 3, Runs{{first_ + 5, 1}, {first_ + 7, 1}}, false}));
}

TEST_F(CompetingScan, GivenBackAndNackedAreNotSettled) {
  publisher_.send_many(3);
  const Lease one = take();
  const Lease two = take();
  ack(take());
  EXPECT_EQ(consumer_.nack(one, layout::FailReason::kNack, false), Settled::kYes);
  EXPECT_EQ(consumer_.release(two), Settled::kYes);
  EXPECT_EQ(scan(), (Settlements{first_, Runs{{first_ + 2, 1}}, false}));
}

TEST_F(CompetingScan, AParkedMessageIsNotSettledUntilItIs) {
  publisher_.send_many(6);
  const Lease straggler = take();
  for (int i = 0; i < 3; ++i) ack(take());
  park_first();
  EXPECT_GT(memory_.group().head->base, first_);
  EXPECT_EQ(scan(), (Settlements{first_, Runs{{first_ + 1, 3}}, false}));
  ack(straggler);
  EXPECT_EQ(scan(), (Settlements{first_ + 4, {}, false}));
}

TEST_F(CompetingScan, TwoParkedMessagesSplitTheRuns) {
  publisher_.send_many(8);
  const Lease one = take();
  ack(take());
  const Lease two = take();
  ack(take());
  ack(take());
  park_first();
  park_first();
  EXPECT_EQ(scan(), (Settlements{first_, Runs{{first_ + 1, 1}, {first_ + 3, 2}}, false}));
  ack(one);
  EXPECT_EQ(scan(), (Settlements{first_ + 2, Runs{{first_ + 3, 2}}, false}));
  ack(two);
  EXPECT_EQ(scan(), (Settlements{first_ + 5, {}, false}));
}

TEST_F(CompetingScan, AParkedMessageStaysUnsettledLapsLater) {
  publisher_.send_many(2);
  const Lease straggler = take();
  ack(take());
  park_first();
  for (u64 i = 0; i < 5 * memory_.group().window(); ++i) {
    publisher_.send_many(1);
    ack(take());
    consumer_.help_base(true);
    ASSERT_EQ(scan(), (Settlements{first_, Runs{{first_ + 1, i + 2}}, false}));
  }
  EXPECT_EQ(consumer_.ack(straggler), Settled::kYes);
  EXPECT_EQ(scan(), (Settlements{first_ + 2 + 5 * memory_.group().window(), {}, false}));
}

// The scan has read `base`, and then stands still while the window goes once around: a word of the next lap stands in
// the place of a message that was parked meanwhile. It must be told from one that was settled.
TEST_F(CompetingScan, AMessageParkedWhileTheScanStoodStillIsNotTakenForSettled) {
  publisher_.send_many(2);
  const Lease straggler = take();
  ack(take());
  park_first();
  consumer_.help_base(true);
  for (u64 i = 0; i < memory_.group().window(); ++i) {
    publisher_.send_many(1);
    ack(take());
    consumer_.help_base(true);
  }
  // As the scan read it before all that.
  memory_.group().head->base = first_;
  const Settlements settled = scan();
  EXPECT_EQ(settled.base, first_);
  EXPECT_EQ(consumer_.ack(straggler), Settled::kYes);
}

TEST_F(CompetingScan, WhatTheLogHasNotGotIsLeftOutAndSaid) {
  publisher_.send_many(6);
  std::vector<Lease> leases;
  for (int i = 0; i < 6; ++i) leases.push_back(take());
  for (const u64 i : {u64{0}, u64{1}, u64{3}, u64{4}}) ack(leases[i]);
  EXPECT_EQ(scan(first_ + 5), (Settlements{first_ + 2, Runs{{first_ + 3, 2}}, false}));
  EXPECT_EQ(scan(first_ + 4), (Settlements{first_ + 2, Runs{{first_ + 3, 1}}, true}));
  EXPECT_EQ(scan(first_ + 1), (Settlements{first_ + 1, {}, true}));
  EXPECT_EQ(scan(first_), (Settlements{first_, {}, true}));
}

TEST_F(CompetingScan, ABaseBeyondTheCapIsSaidToo) {
  publisher_.send_many(6);
  for (int i = 0; i < 6; ++i) ack(take());
  consumer_.help_base(true);
  EXPECT_EQ(scan(first_ + 2), (Settlements{first_ + 2, {}, true}));
  EXPECT_EQ(scan(first_ + 6), (Settlements{first_ + 6, {}, false}));
}

TEST_F(CompetingScan, AParkedMessageAtTheCapHidesNothing) {
  publisher_.send_many(6);
  for (int i = 0; i < 3; ++i) ack(take());
  const Lease straggler = take();
  ack(take());
  consumer_.help_base(true);
  park_first();
  EXPECT_EQ(scan(first_ + 2), (Settlements{first_ + 2, {}, true}));
  EXPECT_EQ(scan(first_ + 3), (Settlements{first_ + 3, {}, true}));
  EXPECT_EQ(scan(first_ + 5), (Settlements{first_ + 3, Runs{{first_ + 4, 1}}, false}));
  ack(straggler);
}

TEST_F(CompetingScan, GarbageInTheParkTableIsBounded) {
  publisher_.send_many(1);
  layout::ParkWord word{};
  word.state = layout::ParkState::kReady;
  memory_.group().parks[0].seq = ~u64{0};
  memory_.group().parks[0].word = layout::make_park_word(word);
  memory_.group().parks[1].seq = first_ - 1;
  memory_.group().parks[1].word = layout::make_park_word(word);
  const Settlements settled = scan();
  EXPECT_LE(settled.base, first_);
  EXPECT_LE(settled.runs.size(), 2U);
}

class ExclusiveScan : public ::testing::Test {
 protected:
  QueueMemory memory_{Shape{.cells = 16, .words = 16, .lane_bytes = 1024, .groups = {test::GroupMode::kExclusive}}};
  Publisher<> publisher_{memory_};
  QueueMemory::OrderedReader<A> consumer_ = memory_.exclusive<A>(0);
  u64 first_ = memory_.first_seq();

  u64 take() {
    FrameView frame;
    u32 attempt = 0;
    EXPECT_EQ(consumer_.take(&frame, &attempt), TakeOutcome::kTaken);
    return frame.seq;
  }
  Settlements scan(u64 cap = kNoCap) {
    return scan_exclusive<A>(memory_.group(), A::load(memory_.group().head->acked, std::memory_order_acquire), cap);
  }
};

TEST_F(ExclusiveScan, InOrderAndOutOfOrder) {
  publisher_.send_many(8);
  for (int i = 0; i < 8; ++i) take();
  EXPECT_EQ(scan(), (Settlements{first_, {}, false}));
  EXPECT_TRUE(consumer_.ack(first_ + 3));
  EXPECT_TRUE(consumer_.ack(first_ + 4));
  EXPECT_TRUE(consumer_.ack(first_ + 6));
  EXPECT_EQ(scan(), (Settlements{first_, Runs{{first_ + 3, 2}, {first_ + 6, 1}}, false}));
  EXPECT_TRUE(consumer_.ack(first_));
  EXPECT_EQ(scan(), (Settlements{first_ + 1, Runs{{first_ + 3, 2}, {first_ + 6, 1}}, false}));
  EXPECT_EQ(consumer_.ack_up_to(first_ + 5), 3U);
  EXPECT_EQ(scan(), (Settlements{first_ + 7, {}, false}));
}

TEST_F(ExclusiveScan, GivenBackIsNotSettled) {
  publisher_.send_many(3);
  for (int i = 0; i < 3; ++i) take();
  EXPECT_TRUE(consumer_.give_back(first_ + 1));
  EXPECT_TRUE(consumer_.ack(first_ + 2));
  EXPECT_TRUE(consumer_.ack(first_));
  EXPECT_EQ(scan(), (Settlements{first_ + 1, Runs{{first_ + 2, 1}}, false}));
}

TEST_F(ExclusiveScan, CapsAreSaid) {
  publisher_.send_many(5);
  for (int i = 0; i < 5; ++i) take();
  EXPECT_TRUE(consumer_.ack(first_));
  EXPECT_TRUE(consumer_.ack(first_ + 1));
  EXPECT_TRUE(consumer_.ack(first_ + 3));
  EXPECT_EQ(scan(first_ + 4), (Settlements{first_ + 2, Runs{{first_ + 3, 1}}, false}));
  EXPECT_EQ(scan(first_ + 3), (Settlements{first_ + 2, {}, true}));
  EXPECT_EQ(scan(first_ + 1), (Settlements{first_ + 1, {}, true}));
}

TEST_F(ExclusiveScan, WordsOfAnEarlierLapAreNot) {
  for (u64 lap = 0; lap < 3; ++lap) {
    for (u64 i = 0; i < memory_.group().window(); i += 2) {
      publisher_.send_many(2);
      const u64 seq = take();
      take();
      EXPECT_TRUE(consumer_.ack(seq + 1));
      EXPECT_EQ(scan(), (Settlements{seq, Runs{{seq + 1, 1}}, false}));
      EXPECT_TRUE(consumer_.ack(seq));
      EXPECT_EQ(scan(), (Settlements{seq + 2, {}, false}));
      consumer_.raise_base();
    }
  }
}

}  // namespace
}  // namespace mooring
