// Shows the consumer's half of a competing group, in one thread: each message goes to exactly one consumer, a
// settlement names its delivery (a late, doubled or earlier one is refused), what is given back comes first, the window
// bounds what is open, a consumer killed at any step leaves a word that says all, and no word of the shared file makes
// a consumer hang.

#include "group/competing.hpp"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "group/canary.hpp"
#include "group/publisher.hpp"
#include "group/repair.hpp"
#include "support/cut_atomics.hpp"

namespace mooring::test {
namespace {

using A = HardwareAtomics;
using Consumer = CompetingConsumer<A>;

Shape competing_shape(u64 words = 16, u64 cells = 64, u64 first_seq = 0) {
  return Shape{.cells = cells, .words = words, .lane_bytes = 4096, .lanes = 1, .first_seq = first_seq};
}

Lease leased(Consumer& consumer) {
  Lease lease;
  EXPECT_EQ(consumer.lease(&lease), LeaseOutcome::kLeased);
  return lease;
}

TEST(Competing, EmptyQueueGivesNothing) {
  QueueMemory memory(competing_shape());
  Consumer consumer = memory.competing<A>(0, 1);
  Lease lease;
  EXPECT_FALSE(consumer.may_have_work());
  EXPECT_EQ(consumer.lease(&lease), LeaseOutcome::kEmpty);
}

TEST(Competing, EachMessageGoesToExactlyOneConsumer) {
  for (const u64 words : {u64{4}, u64{16}, u64{64}}) {
    QueueMemory memory(competing_shape(words));
    Publisher<> publisher(memory);
    std::vector<Consumer> consumers;
    for (u32 owner = 1; owner <= 3; ++owner) consumers.push_back(memory.competing<A>(0, owner));
    std::vector<std::vector<Lease>> held(3);
    std::set<u64> settled;
    Random random(words);
    for (int i = 0; i < 20'000; ++i) {
      if (random.one_in(2)) publisher.send();
      const u64 who = random.below(3);
      Lease lease;
      if (random.one_in(2) && consumers[who].lease(&lease) == LeaseOutcome::kLeased) {
        ASSERT_TRUE(content_is_right(memory, lease));
        ASSERT_TRUE(consumers[who].still_mine(lease));
        ASSERT_EQ(settled.count(lease.seq), 0U);
        held[who].push_back(lease);
      } else if (!held[who].empty()) {
        const u64 index = random.below(held[who].size());
        if (random.one_in(5)) {
          ASSERT_EQ(consumers[who].release(held[who][index]), Settled::kYes);
        } else {
          ASSERT_EQ(consumers[who].ack(held[who][index]), Settled::kYes);
          ASSERT_TRUE(settled.insert(held[who][index].seq).second);
        }
        held[who].erase(held[who].begin() + static_cast<std::ptrdiff_t>(index));
        consumers[who].help_base(random.one_in(4));
      } else {
        consumers[who].help_base(true);  // as before any sleep: a window full of ACKED words opens by nobody else
      }
    }
    for (u64 who = 0; who < 3; ++who) {
      for (const Lease& lease : held[who]) ASSERT_EQ(consumers[who].release(lease), Settled::kYes);
    }
    for (;;) {
      Lease lease;
      const LeaseOutcome outcome = consumers[0].lease(&lease);
      if (outcome == LeaseOutcome::kEmpty) break;
      if (outcome == LeaseOutcome::kWindow) {
        ASSERT_TRUE(consumers[0].help_base(true));
        continue;
      }
      ASSERT_EQ(outcome, LeaseOutcome::kLeased);
      ASSERT_EQ(consumers[0].ack(lease), Settled::kYes);
      ASSERT_TRUE(settled.insert(lease.seq).second);
    }
    EXPECT_EQ(settled.size(), publisher.sent());
    EXPECT_GT(publisher.sent(), 20 * words);
    consumers[0].help_base(true);
    EXPECT_EQ(memory.group().head->base, memory.first_seq() + publisher.sent());
  }
}

TEST(Competing, FirstDeliveriesFollowTheSeq) {
  QueueMemory memory(competing_shape());
  Publisher<> publisher(memory);
  publisher.send_many(10);
  Consumer a = memory.competing<A>(0, 1);
  Consumer b = memory.competing<A>(0, 2);
  for (u64 i = 0; i < 10; ++i) {
    const Lease lease = leased(i % 2 == 0 ? a : b);
    EXPECT_EQ(lease.seq, memory.first_seq() + i);
    EXPECT_EQ(lease.acquired(), 1U);
    EXPECT_EQ(layout::word_owner(memory.group().word(lease.seq)), i % 2 == 0 ? 1U : 2U);
  }
}

TEST(Competing, LapsWrapWithoutANotice) {
  // 32 bits of lap in a state word, 28 in a cell, 40 bits of seq in `back`: the last before each wrap.
  for (const u64 first : {(u64{1} << 32) * 4 - 8, (u64{1} << 28) * 64 - 8, (u64{1} << 40) - 8}) {
    QueueMemory memory(competing_shape(4, 64, first));
    Publisher<> publisher(memory);
    Consumer consumer = memory.competing<A>(0, 1);
    for (u64 i = 0; i < 40; ++i) {
      publisher.send_many(1);
      Lease lease = leased(consumer);
      ASSERT_EQ(lease.seq, first + 2 * i);
      ASSERT_EQ(consumer.release(lease), Settled::kYes);
      publisher.send_many(1);
      lease = leased(consumer);
      ASSERT_EQ(lease.seq, first + 2 * i) << "given back comes first";
      ASSERT_EQ(lease.acquired(), 2U);
      ASSERT_EQ(consumer.ack(lease), Settled::kYes);
      ASSERT_EQ(consumer.ack(leased(consumer)), Settled::kYes);
      ASSERT_TRUE(consumer.help_base(true));
    }
    EXPECT_GT(memory.group().head->base, first + 8);
  }
}

// --- Settlements -----------------------------------------------------------------------------------------------------

TEST(Settlement, DoubledIsStale) {
  QueueMemory memory(competing_shape());
  Publisher<> publisher(memory);
  publisher.send_many(3);
  Consumer consumer = memory.competing<A>(0, 1);
  const Lease acked = leased(consumer);
  const Lease nacked = leased(consumer);
  const Lease released = leased(consumer);
  EXPECT_EQ(consumer.ack(acked), Settled::kYes);
  EXPECT_EQ(consumer.nack(nacked, layout::FailReason::kExpired, false), Settled::kYes);
  EXPECT_EQ(consumer.release(released), Settled::kYes);
  for (const Lease& lease : {acked, nacked, released}) {
    const u64 word = memory.group().word(lease.seq);
    EXPECT_EQ(consumer.ack(lease), Settled::kStale);
    EXPECT_EQ(consumer.nack(lease, layout::FailReason::kNack, false), Settled::kStale);
    EXPECT_EQ(consumer.release(lease), Settled::kStale);
    EXPECT_FALSE(consumer.still_mine(lease));
    EXPECT_EQ(memory.group().word(lease.seq), word) << "a refused settlement changes nothing";
  }
}

TEST(Settlement, OfAnEarlierDeliveryToTheSameConsumerIsStale) {
  QueueMemory memory(competing_shape());
  Publisher<> publisher(memory);
  publisher.send_many(1);
  Consumer consumer = memory.competing<A>(0, 1);
  const Lease first = leased(consumer);
  ASSERT_EQ(consumer.release(first), Settled::kYes);
  const Lease second = leased(consumer);
  ASSERT_EQ(second.seq, first.seq);
  EXPECT_EQ(consumer.ack(first), Settled::kStale);
  EXPECT_FALSE(consumer.still_mine(first));
  EXPECT_TRUE(consumer.still_mine(second));
  EXPECT_EQ(consumer.ack(second), Settled::kYes);
}

TEST(Settlement, OfWhatAnotherHoldsNowIsStale) {
  QueueMemory memory(competing_shape());
  Publisher<> publisher(memory);
  publisher.send_many(1);
  Consumer a = memory.competing<A>(0, 1);
  Consumer b = memory.competing<A>(0, 2);
  const Lease first = leased(a);
  ASSERT_EQ(a.release(first), Settled::kYes);
  const Lease second = leased(b);
  EXPECT_EQ(a.ack(first), Settled::kStale);
  EXPECT_EQ(a.ack(second), Settled::kYes) << "the lease names the delivery, whoever brings it";
}

TEST(Settlement, AfterTheWindowWentRoundIsStale) {
  QueueMemory memory(competing_shape(4));
  Publisher<> publisher(memory);
  Consumer consumer = memory.competing<A>(0, 1);
  publisher.send_many(1);
  const Lease old = leased(consumer);
  ASSERT_EQ(consumer.ack(old), Settled::kYes);
  for (int i = 0; i < 12; ++i) {
    publisher.send_many(1);
    consumer.help_base(true);
    const Lease lease = leased(consumer);
    EXPECT_EQ(consumer.ack(old), Settled::kStale);
    EXPECT_EQ(consumer.release(old), Settled::kStale);
    EXPECT_EQ(consumer.ack(lease), Settled::kYes);
  }
}

TEST(Settlement, NackKeepsOwnerCountAndReason) {
  QueueMemory memory(competing_shape());
  Publisher<> publisher(memory);
  publisher.send_many(1);
  Consumer consumer = memory.competing<A>(0, 9);
  const Lease lease = leased(consumer);
  ASSERT_EQ(consumer.nack(lease, layout::FailReason::kCorrupt, true), Settled::kYes);
  const u64 word = memory.group().word(lease.seq);
  EXPECT_EQ(layout::word_kind(word), layout::Kind::kNacked);
  EXPECT_EQ(layout::word_owner(word), 9U);
  EXPECT_EQ(layout::word_aux(word), (1U << 6) | 32U | 7U);
}

TEST(Settlement, CountStaysAtItsMaximum) {
  QueueMemory memory(competing_shape());
  Publisher<> publisher(memory);
  publisher.send_many(1);
  Consumer consumer = memory.competing<A>(0, 1);
  for (u32 i = 1; i <= layout::kAcquiredMax + 5; ++i) {
    const Lease lease = leased(consumer);
    ASSERT_EQ(lease.acquired(), std::min(i, layout::kAcquiredMax));
    ASSERT_EQ(consumer.release(lease), Settled::kYes);
  }
}

// --- Given back ------------------------------------------------------------------------------------------------------

TEST(GivenBack, ComesFirstLowestFirstAndCounted) {
  QueueMemory memory(competing_shape());
  Publisher<> publisher(memory);
  publisher.send_many(8);
  Consumer a = memory.competing<A>(0, 1);
  Consumer b = memory.competing<A>(0, 2);
  std::vector<Lease> leases;
  for (int i = 0; i < 6; ++i) leases.push_back(leased(a));
  for (const int i : {4, 1, 3}) ASSERT_EQ(a.release(leases[static_cast<u64>(i)]), Settled::kYes);
  EXPECT_TRUE(b.may_have_work());
  for (const u64 i : {u64{1}, u64{3}, u64{4}}) {
    const Lease lease = leased(b);
    EXPECT_EQ(lease.seq, leases[i].seq);
    EXPECT_EQ(lease.acquired(), 2U);
    EXPECT_TRUE(content_is_right(memory, lease));
  }
  EXPECT_EQ(leased(b).seq, memory.first_seq() + 6);
}

TEST(GivenBack, AnnouncementIsClearedOnlyWhenNobodyGaveBackMeanwhile) {
  QueueMemory memory(competing_shape());
  Publisher<> publisher(memory);
  publisher.send_many(2);
  Consumer a = memory.competing<A>(0, 1);
  Consumer b = memory.competing<A>(0, 2);
  const Lease first = leased(a);
  const Lease second = leased(a);
  ASSERT_EQ(a.release(first), Settled::kYes);
  ASSERT_EQ(b.ack(leased(b)), Settled::kYes);
  // `back` still names what b took. Another scan finds nothing and clears it ...
  Lease none;
  EXPECT_NE(layout::back_seq_lo(memory.group().head->back), layout::kBackNone);
  const u64 before = memory.group().head->back;
  EXPECT_EQ(b.lease(&none), LeaseOutcome::kEmpty);
  EXPECT_EQ(layout::back_seq_lo(memory.group().head->back), layout::kBackNone);
  EXPECT_NE(layout::back_generation(memory.group().head->back), layout::back_generation(before));
  // ... and what is given back later is announced anew.
  ASSERT_EQ(a.release(second), Settled::kYes);
  EXPECT_EQ(leased(b).seq, second.seq);
}

TEST(GivenBack, SeqThatLooksLikeNoneIsAnnouncedToo) {
  const u64 none = layout::kBackNone;
  QueueMemory memory(competing_shape(16, 64, none));
  Publisher<> publisher(memory);
  publisher.send_many(2);
  Consumer a = memory.competing<A>(0, 1);
  Consumer b = memory.competing<A>(0, 2);
  const Lease lease = leased(a);
  ASSERT_EQ(lease.seq, none);
  ASSERT_EQ(a.release(lease), Settled::kYes);
  EXPECT_EQ(leased(b).seq, none);
}

// --- Window, base and hint -------------------------------------------------------------------------------------------

TEST(Window, BoundsWhatIsOpenAndOpensWithBase) {
  QueueMemory memory(competing_shape(8));
  Publisher<> publisher(memory);
  publisher.send_many(20);
  Consumer consumer = memory.competing<A>(0, 1);
  std::vector<Lease> leases;
  for (int i = 0; i < 8; ++i) leases.push_back(leased(consumer));
  Lease none;
  EXPECT_EQ(consumer.lease(&none), LeaseOutcome::kWindow);
  EXPECT_FALSE(consumer.may_have_work());
  // Acknowledged behind the oldest: nothing moves.
  for (u64 i = 1; i < 8; ++i) ASSERT_EQ(consumer.ack(leases[i]), Settled::kYes);
  EXPECT_FALSE(consumer.help_base(true));
  EXPECT_EQ(consumer.lease(&none), LeaseOutcome::kWindow);
  ASSERT_EQ(consumer.ack(leases[0]), Settled::kYes);
  EXPECT_TRUE(consumer.help_base(true));
  EXPECT_EQ(memory.group().head->base, memory.first_seq() + 8);
  EXPECT_EQ(leased(consumer).seq, memory.first_seq() + 8);
}

TEST(Base, IsMovedLazilyOrWhenAskedAndStopsAtWhatIsOpen) {
  QueueMemory memory(competing_shape(256, 256));
  Publisher<> publisher(memory);
  Consumer consumer = memory.competing<A>(0, 1);
  for (u64 i = 0; i < kBaseLag; ++i) {
    EXPECT_FALSE(consumer.help_base(false));
    publisher.send_many(1);
    ASSERT_EQ(consumer.ack(leased(consumer)), Settled::kYes);
  }
  EXPECT_EQ(memory.group().head->base, memory.first_seq());
  EXPECT_TRUE(consumer.help_base(false));
  EXPECT_EQ(memory.group().head->base, memory.first_seq() + kBaseLag);
  EXPECT_FALSE(consumer.help_base(true));
  // READY, NACKED, LEASED: open.
  publisher.send_many(3);
  const Lease a = leased(consumer);
  const Lease b = leased(consumer);
  const Lease c = leased(consumer);
  ASSERT_EQ(consumer.ack(c), Settled::kYes);
  EXPECT_FALSE(consumer.help_base(true));
  ASSERT_EQ(consumer.ack(a), Settled::kYes);
  ASSERT_EQ(consumer.nack(b, layout::FailReason::kNack, false), Settled::kYes);
  EXPECT_TRUE(consumer.help_base(true));
  EXPECT_EQ(memory.group().head->base, b.seq);
}

TEST(Base, NobodyButTheSupervisorStepsOverMoved) {
  QueueMemory memory(competing_shape());
  Publisher<> publisher(memory);
  publisher.send_many(3);
  Consumer consumer = memory.competing<A>(0, 1);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(consumer.ack(leased(consumer)), Settled::kYes);
  const u64 moved = memory.first_seq() + 1;
  memory.group().word(moved) = layout::make_word(memory.group().lap(moved), layout::Kind::kMoved, 0, 0);
  EXPECT_TRUE(consumer.help_base(true));
  EXPECT_EQ(memory.group().head->base, moved);
  EXPECT_FALSE(consumer.help_base(true));
}

TEST(Hint, IsRaisedLazilyAndALowOneCostsOnlyReads) {
  QueueMemory memory(competing_shape(64));
  Publisher<> publisher(memory);
  publisher.send_many(kHintLag + 3);
  Consumer consumer = memory.competing<A>(0, 1);
  for (u64 i = 0; i < kHintLag - 1; ++i) leased(consumer);
  EXPECT_EQ(memory.group().head->hint, memory.first_seq());
  leased(consumer);
  EXPECT_EQ(memory.group().head->hint, memory.first_seq() + kHintLag);
  memory.group().head->hint = 0;
  Consumer other = memory.competing<A>(0, 2);
  EXPECT_TRUE(other.may_have_work());
  EXPECT_EQ(leased(other).seq, memory.first_seq() + kHintLag);
}

TEST(Recovered, WhatMayHaveBeenHandedOutSaysSoAlsoAsACanary) {
  QueueMemory memory(competing_shape());
  Publisher<> publisher(memory);
  for (int i = 0; i < 4; ++i) publisher.send();
  OrderView order = memory.order;
  const u64 first = memory.group(0).head->base;
  order.recovered_below = first + 2;
  Consumer consumer(memory.group(0), order, 1);
  EXPECT_EQ(leased(consumer).acquired(), 2U);
  const auto canary = [&](u64 seq) {
    Lease lease;
    bool skipped_alone = false;
    EXPECT_TRUE(lease_canary<A>(memory.group(0), order, 1, seq, false, &lease, &skipped_alone));
    EXPECT_EQ(lease.seq, seq);
    return lease;
  };
  EXPECT_EQ(canary(first + 1).acquired(), 2U);
  EXPECT_EQ(canary(first + 2).acquired(), 1U);
  EXPECT_EQ(leased(consumer).acquired(), 1U);
}

TEST(MayHaveWork, SeesWhatLeaseWouldTake) {
  QueueMemory memory(competing_shape());
  Publisher<> publisher(memory);
  Consumer a = memory.competing<A>(0, 1);
  Consumer b = memory.competing<A>(0, 2);
  EXPECT_FALSE(b.may_have_work());
  publisher.send_many(1);
  EXPECT_TRUE(b.may_have_work());
  const Lease lease = leased(a);
  EXPECT_FALSE(b.may_have_work());
  ASSERT_EQ(a.release(lease), Settled::kYes);
  EXPECT_TRUE(b.may_have_work());
}

// --- Killed or stopped anywhere --------------------------------------------------------------------------------------

TEST(CompetingKilled, AtAnyStepLosesNothingAndAcknowledgedStaysSo) {
  u64 step = 1;
  for (bool cut = true; cut; ++step) {
    QueueMemory memory(competing_shape(8));
    Publisher<> publisher(memory);
    publisher.send_many(24);
    std::set<u64> acked;
    std::set<u64> asked;  // the call was made; whether it had its effect, only the words know
    cut = cut_before_step(step, [&] {
      auto consumer = memory.competing<CutAtomics>(0, 1);
      for (int round = 0; round < 8; ++round) {
        std::vector<Lease> leases(3);
        for (Lease& lease : leases) ASSERT_EQ(consumer.lease(&lease), LeaseOutcome::kLeased);
        ASSERT_EQ(consumer.release(leases[1]), Settled::kYes);
        ASSERT_EQ(consumer.lease(&leases[1]), LeaseOutcome::kLeased);
        for (const u64 i : {u64{2}, u64{0}, u64{1}}) {
          asked.insert(leases[i].seq);
          ASSERT_EQ(consumer.ack(leases[i]), Settled::kYes);
          acked.insert(leases[i].seq);
        }
        consumer.help_base(true);
      }
    });
    GroupRepair<A>(memory.group(), memory.order).give_back_all_of(1);
    Consumer next = memory.competing<A>(0, 2);
    std::set<u64> rest;
    for (;;) {
      Lease lease;
      const LeaseOutcome outcome = next.lease(&lease);
      if (outcome == LeaseOutcome::kWindow && next.help_base(true)) continue;
      if (outcome != LeaseOutcome::kLeased) {
        ASSERT_EQ(outcome, LeaseOutcome::kEmpty) << "step " << step;
        break;
      }
      ASSERT_EQ(acked.count(lease.seq), 0U) << "acknowledged and delivered again";
      ASSERT_TRUE(rest.insert(lease.seq).second);
      ASSERT_TRUE(content_is_right(memory, lease));
      ASSERT_EQ(next.ack(lease), Settled::kYes);
    }
    std::set<u64> all = rest;
    all.insert(asked.begin(), asked.end());
    EXPECT_EQ(all.size(), 24U) << "step " << step;
    next.help_base(true);
    EXPECT_EQ(memory.group().head->base, memory.first_seq() + 24);
  }
  EXPECT_GT(step, 60U);
}

TEST(CompetingStopped, BeforeItsLeaseTakesNothingThatOthersTook) {
  for (u64 others = 1; others < 20; ++others) {
    QueueMemory memory(competing_shape(4));
    Publisher<> publisher(memory);
    publisher.send_many(1);
    auto stopped = memory.competing<CutAtomics>(0, 1);
    Consumer other = memory.competing<A>(0, 2);
    CutAtomics::at_kill_point = [&](const char* name) {
      ASSERT_STREQ(name, "group.before_lease");
      for (u64 i = 0; i < others; ++i) {
        ASSERT_EQ(other.ack(leased(other)), Settled::kYes);
        other.help_base(true);
        publisher.send_many(1);
      }
    };
    Lease lease;
    ASSERT_EQ(stopped.lease(&lease), LeaseOutcome::kLeased);
    EXPECT_EQ(lease.seq, memory.first_seq() + others);
    Lease none;
    EXPECT_EQ(other.lease(&none), LeaseOutcome::kEmpty);
  }
}

TEST(CompetingStopped, BeforeItMovesBaseNeverMovesItBack) {
  QueueMemory memory(competing_shape(4));
  Publisher<> publisher(memory);
  publisher.send_many(1);
  auto stopped = memory.competing<CutAtomics>(0, 1);
  Consumer other = memory.competing<A>(0, 2);
  Lease lease;
  ASSERT_EQ(stopped.lease(&lease), LeaseOutcome::kLeased);
  ASSERT_EQ(stopped.ack(lease), Settled::kYes);
  CutAtomics::at_kill_point = [&](const char* name) {
    ASSERT_STREQ(name, "group.before_base");
    for (int i = 0; i < 10; ++i) {
      other.help_base(true);
      publisher.send_many(1);
      ASSERT_EQ(other.ack(leased(other)), Settled::kYes);
    }
  };
  EXPECT_FALSE(stopped.help_base(true));
  EXPECT_EQ(memory.group().head->base, memory.first_seq() + 10);
}

// --- Words that make no sense ----------------------------------------------------------------------------------------

TEST(CorruptGroup, WordsOfNoLapAreRefused) {
  for (const u64 laps : {u64{2}, u64{1000}, u64{1} << 31}) {
    QueueMemory memory(competing_shape(8));
    Publisher<> publisher(memory);
    publisher.send_many(3);
    const u64 seq = memory.first_seq();
    memory.group().word(seq) = layout::make_word(memory.group().lap(seq) - laps, layout::Kind::kAcked, 0, 0);
    Consumer consumer = memory.competing<A>(0, 1);
    Lease lease;
    EXPECT_EQ(consumer.lease(&lease), LeaseOutcome::kCorrupt) << laps;
  }
}

TEST(CorruptGroup, AnyBytesGiveAnAnswer) {
  Random random(11);
  QueueMemory memory(competing_shape(8));
  Publisher<> publisher(memory);
  publisher.send_many(20);
  const auto sound = memory.snapshot();
  std::map<LeaseOutcome, int> outcomes;
  for (int round = 0; round < 20'000; ++round) {
    memory.restore(sound);
    const GroupView& group = memory.group();
    const auto scribble = [&](u64& word, u64 near) {
      if (random.one_in(3)) word = random.one_in(2) ? random.next() : near + random.below(64) - 32;
    };
    for (u64 i = 0; i < 8; ++i) {
      const u64 lap = group.lap(memory.first_seq()) + random.below(3) - 1;
      group.words[i] = layout::make_word(lap, static_cast<layout::Kind>(random.below(8)),
                                         static_cast<u32>(random.below(3)), static_cast<u32>(random.next() & 0x3ffff));
      scribble(group.words[i], group.words[i]);
    }
    scribble(group.head->base, memory.first_seq());
    scribble(group.head->hint, memory.first_seq());
    scribble(group.head->back, memory.first_seq());
    scribble(group.head->parked, 1);
    group.ready_bits[0] = random.next();
    for (u64 i = 0; i < group.parks_count; ++i) group.parks[i].word = random.next();
    Consumer consumer = memory.competing<A>(0, 1);
    Lease lease;
    for (int i = 0; i < 20; ++i) {
      consumer.may_have_work();
      const LeaseOutcome outcome = consumer.lease(&lease);
      ++outcomes[outcome];
      if (outcome != LeaseOutcome::kLeased) break;
      consumer.still_mine(lease);
      consumer.ack(lease);
      consumer.help_base(true);
    }
    memory.mark<A>()();
  }
  EXPECT_EQ(outcomes.size(), 4U) << "every answer came";
}

TEST(CorruptGroup, LeaseWithAForgedParkIndexIsStale) {
  QueueMemory memory(competing_shape(8));
  Publisher<> publisher(memory);
  publisher.send_many(1);
  Consumer consumer = memory.competing<A>(0, 1);
  const Lease lease = leased(consumer);
  for (const u32 index : {4U, 1000U, layout::kMovedToStore}) {
    memory.group().word(lease.seq) = layout::make_word(memory.group().lap(lease.seq), layout::Kind::kMoved, 0, index);
    EXPECT_EQ(consumer.ack(lease), Settled::kStale);
    EXPECT_FALSE(consumer.still_mine(lease));
  }
}

}  // namespace
}  // namespace mooring::test
