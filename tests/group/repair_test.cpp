// Shows the supervisor's half of a competing group, in one thread: what a dead owner held comes back in order with its
// counts, a straggler leaves the window in its owner's name and the owner can still settle it, whenever it comes, and a
// supervisor killed after any step of any of it is repaired by its successor running the same code from the start.

#include "group/repair.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <set>
#include <string_view>

#include "group/publisher.hpp"
#include "support/cut_atomics.hpp"

namespace mooring::test {
namespace {

using A = HardwareAtomics;
using Consumer = CompetingConsumer<A>;
using layout::ParkState;

Settled settle(Consumer& consumer, const Lease& lease, std::string_view how) {
  if (how == "ack") return consumer.ack(lease);
  if (how == "nack") return consumer.nack(lease, layout::FailReason::kNack, false);
  return consumer.release(lease);
}

// One group, a lane that has room for a dozen messages, so that a parked message's bytes are soon overwritten.
class Repair : public testing::Test {
 protected:
  Repair()
      : memory_(Shape{.cells = 8, .words = 8, .parks = 3, .lane_bytes = 256, .lanes = 1}),
        first_(memory_.first_seq()),
        publisher_(std::make_unique<Publisher<>>(memory_)) {}

  template <class P = A>
  GroupRepair<P> repair() {
    return GroupRepair<P>(memory_.group(), memory_.order);
  }
  Consumer consumer(u32 owner) { return memory_.competing<A>(0, owner); }
  static Lease leased(Consumer& consumer) {
    Lease lease;
    EXPECT_EQ(consumer.lease(&lease), LeaseOutcome::kLeased);
    return lease;
  }
  template <class P = A>
  bool park(const Lease& lease) {
    return repair<P>().park_straggler(lease.seq, lease.word, memory_.lane_of(), memory_.place<P>(0));
  }
  u64 reap() {
    return repair().reap_parks([](u64 /*loc*/, u64 /*seq*/) {});
  }
  ParkState park_state(u32 index) const { return layout::read_park_word(memory_.group().parks[index].word).state; }
  u64 parks_in_use() const {
    u64 count = 0;
    for (u32 index = 0; index < memory_.shape().parks; ++index) {
      if (park_state(index) != ParkState::kFree) ++count;
    }
    return count;
  }
  u64 base() const { return memory_.group().head->base; }
  // Others go on until every place of the window and every byte of the lane was used again.
  void go_round(Consumer& other) {
    for (int i = 0; i < 30; ++i) {
      publisher_->send_many(1);
      const Lease lease = leased(other);
      ASSERT_TRUE(content_is_right(memory_, lease));
      ASSERT_EQ(other.ack(lease), Settled::kYes);
      other.help_base(true);
    }
  }
  // Everything that is left goes to `other`, each message once; then the group is at its end and nothing is in X.
  std::vector<u64> take_rest(Consumer& other) {
    std::vector<u64> seqs;
    for (;;) {
      Lease lease;
      if (other.lease(&lease) != LeaseOutcome::kLeased) {
        if (!other.help_base(true)) break;
        continue;
      }
      EXPECT_TRUE(content_is_right(memory_, lease));
      EXPECT_EQ(other.ack(lease), Settled::kYes);
      seqs.push_back(lease.seq);
    }
    repair().step_base();
    reap();
    EXPECT_EQ(base(), first_ + publisher_->sent());
    EXPECT_EQ(parks_in_use(), 0U);
    std::ranges::sort(seqs);
    return seqs;
  }

  QueueMemory memory_;
  u64 first_;
  std::unique_ptr<Publisher<>> publisher_;
};

// --- Owners that died ------------------------------------------------------------------------------------------------

TEST_F(Repair, GivesBackAllOfADeadOwnerInOrderWithItsCounts) {
  publisher_->send_many(8);
  Consumer dead = consumer(1);
  Consumer living = consumer(2);
  std::vector<Lease> leases;
  for (int i = 0; i < 6; ++i) leases.push_back(leased(i == 2 ? living : dead));
  ASSERT_EQ(dead.ack(leases[1]), Settled::kYes);
  ASSERT_EQ(dead.release(leases[3]), Settled::kYes);
  ASSERT_EQ(leased(dead).acquired(), 2U);

  EXPECT_EQ(repair().give_back_all_of(1), 4U);
  EXPECT_EQ(repair().give_back_all_of(1), 0U);
  Consumer other = consumer(3);
  for (const u64 i : {u64{0}, u64{3}, u64{4}, u64{5}}) {
    const Lease lease = leased(other);
    EXPECT_EQ(lease.seq, leases[i].seq);
    EXPECT_EQ(lease.acquired(), i == 3 ? 3U : 2U);
  }
  EXPECT_EQ(leased(other).seq, first_ + 6);
  EXPECT_EQ(living.ack(leases[2]), Settled::kYes) << "nothing is taken from the living";
}

TEST_F(Repair, SweepSeesLeasesAboveAHintThatTheDeadDidNotRaise) {
  publisher_->send_many(8);
  Consumer dead = consumer(1);
  for (int i = 0; i < 8; ++i) leased(dead);
  ASSERT_EQ(memory_.group().head->hint, first_);
  EXPECT_EQ(repair().give_back_all_of(1), 8U);
}

TEST_F(Repair, ReadyWordThatNobodyWasToldOfIsAnnounced) {
  publisher_->send_many(3);
  const bool cut = cut_at_kill_point("group.released", [&] {
    auto dead = memory_.competing<CutAtomics>(0, 1);
    Lease lease;
    ASSERT_EQ(dead.lease(&lease), LeaseOutcome::kLeased);
    dead.release(lease);
  });
  ASSERT_TRUE(cut);
  Consumer other = consumer(2);
  EXPECT_EQ(leased(other).seq, first_ + 1) << "not yet known";
  EXPECT_TRUE(repair().announce_base_if_ready());
  EXPECT_FALSE(repair().announce_base_if_ready());
  EXPECT_EQ(leased(other).seq, first_);
}

TEST_F(Repair, SweepKilledAtAnyStepIsDoneAgainFromTheStart) {
  const auto fresh = memory_.snapshot();
  u64 step = 1;
  for (bool cut = true; cut; ++step) {
    memory_.restore(fresh);
    publisher_ = std::make_unique<Publisher<>>(memory_);
    publisher_->send_many(8);
    Consumer dead = consumer(1);
    std::vector<Lease> leases;
    for (int i = 0; i < 7; ++i) leases.push_back(leased(dead));
    ASSERT_EQ(dead.ack(leases[3]), Settled::kYes);
    ASSERT_TRUE(park(leases[0]));
    cut = cut_before_step(step, [&] { repair<CutAtomics>().give_back_all_of(1); });
    repair().reconcile();
    repair().give_back_all_of(1);
    Consumer other = consumer(2);
    EXPECT_EQ(take_rest(other).size(), 7U) << "step " << step;
  }
  EXPECT_GT(step, 6U);
}

TEST_F(Repair, NackedComesAgainWithItsCount) {
  publisher_->send_many(4);
  Consumer a = consumer(1);
  const Lease lease = leased(a);
  const Lease straggler = leased(a);
  ASSERT_EQ(a.nack(lease, layout::FailReason::kNack, false), Settled::kYes);
  ASSERT_TRUE(park(straggler));
  ASSERT_EQ(a.nack(straggler, layout::FailReason::kNack, false), Settled::kYes);
  EXPECT_EQ(repair().give_back_nacked(), 1U);
  Consumer b = consumer(2);
  const Lease again = leased(b);
  EXPECT_EQ(again.seq, lease.seq);
  EXPECT_EQ(again.acquired(), 2U);
  ASSERT_EQ(b.ack(again), Settled::kYes);
  repair().step_base();
  EXPECT_EQ(repair().give_back_nacked(), 1U) << "the parked one, once base passed it";
  EXPECT_EQ(take_rest(b), (std::vector<u64>{first_ + 1, first_ + 2, first_ + 3}));
}

// --- Stragglers ------------------------------------------------------------------------------------------------------

TEST_F(Repair, StragglerLeavesTheWindowAndItsOwnerCanStillAcknowledge) {
  publisher_->send_many(8);
  Consumer slow = consumer(1);
  Consumer other = consumer(2);
  const Lease held = leased(slow);
  for (int i = 0; i < 7; ++i) ASSERT_EQ(other.ack(leased(other)), Settled::kYes);
  EXPECT_FALSE(other.help_base(true));
  EXPECT_FALSE(publisher_->send()) << "everybody waits for one";
  EXPECT_TRUE(repair().window_half_full());
  u64 seq = 0;
  u64 word = 0;
  ASSERT_TRUE(repair().leased_at_base(&seq, &word));
  EXPECT_EQ(seq, held.seq);
  EXPECT_EQ(word, held.word);

  ASSERT_TRUE(park(held));
  EXPECT_EQ(base(), first_ + 8) << "over MOVED and over what was acknowledged behind it";
  EXPECT_FALSE(repair().window_half_full());
  EXPECT_TRUE(slow.still_mine(held));
  EXPECT_EQ(reap(), 0U) << "its owner still holds it";
  EXPECT_EQ(slow.ack(held), Settled::kYes);
  EXPECT_EQ(slow.ack(held), Settled::kStale);
  EXPECT_FALSE(slow.still_mine(held));
  EXPECT_EQ(reap(), 1U);
  EXPECT_EQ(slow.ack(held), Settled::kStale);
  EXPECT_EQ(parks_in_use(), 0U);
}

TEST_F(Repair, OwnerSettlesAfterTheWindowWentRoundOverThePlace) {
  for (const std::string_view how : {"ack", "nack", "release"}) {
    publisher_->send_many(1);
    Consumer slow = consumer(1);
    Consumer other = consumer(2);
    const Lease held = leased(slow);
    ASSERT_TRUE(park(held));
    go_round(other);
    EXPECT_TRUE(slow.still_mine(held));
    EXPECT_TRUE(content_is_right(memory_, held)) << "from the record: the lane's bytes are others' now";
    EXPECT_EQ(settle(slow, held, how), Settled::kYes);
    EXPECT_EQ(repair().give_back_nacked(), how == "nack" ? 1U : 0U);
    EXPECT_EQ(slow.ack(held), Settled::kStale);
    EXPECT_EQ(slow.release(held), Settled::kStale);
    if (how == "ack") {
      EXPECT_TRUE(take_rest(other).empty());
    } else {
      Lease again;
      ASSERT_EQ(other.lease(&again), LeaseOutcome::kLeased);
      EXPECT_TRUE(again.parked());
      EXPECT_EQ(again.seq, held.seq);
      EXPECT_EQ(again.acquired(), 2U);
      EXPECT_TRUE(other.still_mine(again));
      EXPECT_TRUE(content_is_right(memory_, again));
      EXPECT_EQ(slow.ack(held), Settled::kStale) << "another has it";
      EXPECT_EQ(other.ack(again), Settled::kYes);
      EXPECT_EQ(other.ack(again), Settled::kStale);
      EXPECT_TRUE(take_rest(other).empty());
    }
  }
}

TEST_F(Repair, OwnerThatGetsItsParkedMessageAgainCannotSettleTheEarlierDelivery) {
  publisher_->send_many(1);
  Consumer slow = consumer(1);
  const Lease held = leased(slow);
  ASSERT_TRUE(park(held));
  ASSERT_EQ(slow.release(held), Settled::kYes);
  const Lease again = leased(slow);
  ASSERT_TRUE(again.parked());
  EXPECT_EQ(slow.ack(held), Settled::kStale);
  EXPECT_EQ(slow.release(again), Settled::kYes);
  const Lease third = leased(slow);
  EXPECT_EQ(slow.ack(again), Settled::kStale);
  EXPECT_EQ(third.acquired(), 3U);
  EXPECT_EQ(slow.ack(third), Settled::kYes);
}

// What the owner does at each point of the supervisor's way through K1 to K5.
TEST_F(Repair, OwnerSettlesAtAnyPointOfThePark) {
  const auto fresh = memory_.snapshot();
  for (const std::string_view point : {"repair.k1", "repair.k2", "repair.k3", "repair.k4"}) {
    for (const std::string_view how : {"ack", "nack", "release"}) {
      memory_.restore(fresh);
      publisher_ = std::make_unique<Publisher<>>(memory_);
      publisher_->send_many(1);
      Consumer slow = consumer(1);
      Consumer other = consumer(2);
      const Lease held = leased(slow);
      const bool before_k3 = point < "repair.k3";
      std::function<void(const char*)> owner_comes = [&](const char* name) {
        if (name != point) {
          CutAtomics::at_kill_point = owner_comes;
          return;
        }
        ASSERT_TRUE(slow.still_mine(held)) << point;
        ASSERT_EQ(settle(slow, held, how), Settled::kYes) << point;
      };
      CutAtomics::at_kill_point = owner_comes;
      EXPECT_EQ(park<CutAtomics>(held), !before_k3) << point;
      CutAtomics::at_kill_point = nullptr;
      EXPECT_EQ(slow.ack(held), Settled::kStale) << point << " " << how;
      if (before_k3) {
        EXPECT_EQ(parks_in_use(), 0U) << "the entry is free again";
      }
      EXPECT_EQ(repair().give_back_nacked(), how == "nack" ? 1U : 0U) << point;
      const std::vector<u64> rest = take_rest(other);
      EXPECT_EQ(rest.size(), how == "ack" ? 0U : 1U) << point << " " << how;
    }
  }
}

TEST_F(Repair, OwnerThatDiesAfterTheParkLosesItToTheNext) {
  publisher_->send_many(1);
  Consumer dead = consumer(1);
  Consumer other = consumer(2);
  const Lease held = leased(dead);
  ASSERT_TRUE(park(held));
  go_round(other);
  EXPECT_EQ(repair().give_back_all_of(1), 1U);
  const Lease again = leased(other);
  ASSERT_TRUE(again.parked());
  EXPECT_EQ(again.seq, held.seq);
  EXPECT_EQ(again.acquired(), 2U);
  EXPECT_TRUE(content_is_right(memory_, again));
  // And from X once more.
  EXPECT_EQ(repair().give_back_all_of(2), 1U);
  Consumer third = consumer(3);
  EXPECT_EQ(take_rest(third), std::vector<u64>{held.seq});
}

TEST_F(Repair, NothingIsDoneWithoutRoom) {
  publisher_->send_many(8);
  Consumer slow = consumer(1);
  std::vector<Lease> leases;
  for (int i = 0; i < 8; ++i) leases.push_back(leased(slow));
  // No room in the store.
  auto before = memory_.snapshot();
  EXPECT_FALSE(repair().park_straggler(leases[0].seq, leases[0].word, memory_.lane_of(),
                                       [](const FrameView& /*frame*/) -> u64 { return 0; }));
  EXPECT_EQ(memory_.snapshot(), before);
  // No room in X.
  for (u64 i = 0; i < 3; ++i) ASSERT_TRUE(park(leases[i]));
  before = memory_.snapshot();
  EXPECT_FALSE(park(leases[3]));
  EXPECT_EQ(memory_.snapshot(), before);
  // One is settled: there is room for one.
  ASSERT_EQ(slow.ack(leases[1]), Settled::kYes);
  EXPECT_EQ(reap(), 1U);
  EXPECT_TRUE(park(leases[3]));
  for (const u64 i : {u64{0}, u64{2}, u64{3}, u64{4}, u64{5}, u64{6}, u64{7}}) {
    EXPECT_TRUE(content_is_right(memory_, leases[i])) << i;
    EXPECT_EQ(slow.ack(leases[i]), Settled::kYes) << i;
  }
  EXPECT_TRUE(take_rest(slow).empty());
}

TEST_F(Repair, EntryIsReapedOnlyBehindBaseAndTellsItsPlace) {
  publisher_->send_many(2);
  Consumer slow = consumer(1);
  const Lease at_base = leased(slow);
  const Lease behind = leased(slow);
  ASSERT_TRUE(park(behind));
  EXPECT_EQ(base(), at_base.seq);
  ASSERT_EQ(slow.ack(behind), Settled::kYes);
  EXPECT_EQ(reap(), 0U) << "base has not passed it: MOVED is looked up until then";
  ASSERT_EQ(slow.ack(at_base), Settled::kYes);
  repair().step_base();
  const u64 loc = memory_.group().parks[0].loc;
  const u32 generation = layout::read_park_word(memory_.group().parks[0].word).generation;
  std::vector<u64> released;
  EXPECT_EQ(repair().reap_parks([&](u64 at, u64 /*seq*/) { released.push_back(at); }), 1U);
  EXPECT_EQ(released, std::vector<u64>{loc});
  EXPECT_GT(layout::read_park_word(memory_.group().parks[0].word).generation, generation);
}

TEST_F(Repair, ReaderThatIsOvertakenReadsTheRecord) {
  publisher_->send_many(1);
  Consumer slow = consumer(1);
  Consumer other = consumer(2);
  const Lease held = leased(slow);
  EXPECT_TRUE(still_there<A>(memory_.lane(), held.seq));
  ASSERT_TRUE(park(held));
  EXPECT_TRUE(still_there<A>(memory_.lane(), held.seq)) << "parked is not yet overwritten";
  go_round(other);
  EXPECT_FALSE(still_there<A>(memory_.lane(), held.seq));
  EXPECT_TRUE(content_is_right(memory_, held));
}

// --- Supervisors that were killed ------------------------------------------------------------------------------------

// After K1, after K2 and so on, and before every single store and CAS between: with the owner settling before the
// successor comes, after it, or dead as well.
TEST_F(Repair, ParkKilledAtAnyStepIsReconciled) {
  const auto fresh = memory_.snapshot();
  constexpr std::array<const char*, 5> kPoints = {"", "repair.k1", "repair.k2", "repair.k3", "repair.k4"};
  for (const std::string_view owner_does : {"settle before", "settle after", "release before", "die"}) {
    for (const char* point : kPoints) {
      u64 step = 1;
      for (bool cut = true; cut; ++step) {
        memory_.restore(fresh);
        publisher_ = std::make_unique<Publisher<>>(memory_);
        publisher_->send_many(3);
        Consumer slow = consumer(1);
        Consumer other = consumer(2);
        const Lease held = leased(slow);
        ASSERT_EQ(other.ack(leased(other)), Settled::kYes);
        const auto killed = [&] { park<CutAtomics>(held); };
        if (*point != 0) {
          ASSERT_TRUE(cut_at_kill_point(point, killed)) << point;
          cut = false;  // one run for each point
        } else {
          cut = cut_before_step(step, killed);
        }

        if (owner_does == "settle before" || owner_does == "release before") {
          ASSERT_EQ(settle(slow, held, owner_does == "settle before" ? "ack" : "release"), Settled::kYes);
        }
        repair().reconcile();
        repair().reconcile();
        for (u32 index = 0; index < 3; ++index) {
          EXPECT_NE(park_state(index), ParkState::kPrepLeased);
          EXPECT_NE(park_state(index), ParkState::kPrepReady);
        }
        if (owner_does == "settle after") {
          ASSERT_EQ(slow.ack(held), Settled::kYes);
        }
        if (owner_does == "die") {
          EXPECT_EQ(repair().give_back_all_of(1), 1U);
        }
        EXPECT_EQ(slow.ack(held), Settled::kStale);

        const std::vector<u64> rest = take_rest(other);
        const bool comes_again = owner_does == "die" || owner_does == "release before";
        std::vector<u64> expected = {first_ + 2};
        if (comes_again) expected.insert(expected.begin(), held.seq);
        EXPECT_EQ(rest, expected) << owner_does << " " << point << " step " << step;
      }
      if (*point == 0) {
        EXPECT_GT(step, 8U);
      }
    }
  }
}

TEST_F(Repair, ReapKilledAtAnyStepIsDoneAgain) {
  const auto fresh = memory_.snapshot();
  u64 step = 1;
  for (bool cut = true; cut; ++step) {
    memory_.restore(fresh);
    publisher_ = std::make_unique<Publisher<>>(memory_);
    publisher_->send_many(2);
    Consumer slow = consumer(1);
    for (int i = 0; i < 2; ++i) {
      const Lease lease = leased(slow);
      ASSERT_TRUE(park(lease));
      ASSERT_EQ(slow.ack(lease), Settled::kYes);
    }
    cut = cut_before_step(step, [&] { repair<CutAtomics>().reap_parks([](u64 /*loc*/, u64 /*seq*/) {}); });
    repair().reconcile();
    EXPECT_TRUE(take_rest(slow).empty());
  }
  EXPECT_GT(step, 2U);
}

// --- The ready bitmap ------------------------------------------------------------------------------------------------

TEST_F(Repair, LostBitIsAnnouncedAgain) {
  publisher_->send_many(1);
  Consumer slow = consumer(1);
  const Lease held = leased(slow);
  ASSERT_TRUE(park(held));
  ASSERT_EQ(slow.release(held), Settled::kYes);
  memory_.group().ready_bits[0] = 0;  // a consumer was killed between the bit and its CAS
  Consumer other = consumer(2);
  Lease lease;
  EXPECT_EQ(other.lease(&lease), LeaseOutcome::kEmpty);
  EXPECT_FALSE(other.may_have_work());
  repair().announce_lost_parks();
  EXPECT_TRUE(other.may_have_work());
  EXPECT_EQ(leased(other).seq, held.seq);
}

TEST_F(Repair, AnnouncementTagNeverComesAgain) {
  Consumer other = consumer(2);
  std::set<u64> tags;
  for (int i = 0; i < 50; ++i) {
    announce_park_ready<A>(memory_.group(), 1);
    const u64 tag = memory_.group().head->parked;
    EXPECT_TRUE(some_parked(tag));
    EXPECT_TRUE(tags.insert(tag).second);
    Lease lease;
    EXPECT_EQ(other.lease(&lease), LeaseOutcome::kEmpty) << "the entry is FREE: a bit is only a hint";
    EXPECT_FALSE(some_parked(memory_.group().head->parked));
    EXPECT_EQ(memory_.group().ready_bits[0], 0U);
  }
}

TEST_F(Repair, ParkedMessagesTakeTurnsWithNewOnes) {
  publisher_->send_many(2);
  Consumer slow = consumer(1);
  Consumer other = consumer(2);
  std::vector<Lease> held = {leased(slow), leased(slow)};
  for (const Lease& lease : held) {
    ASSERT_TRUE(park(lease));
    ASSERT_EQ(slow.release(lease), Settled::kYes);
  }
  std::vector<u64> parked_at;
  for (u64 i = 0; i < 12; ++i) {
    publisher_->send_many(1);
    const Lease lease = leased(other);
    if (lease.parked()) parked_at.push_back(i);
    ASSERT_EQ(other.ack(lease), Settled::kYes);
    other.help_base(true);
    repair().step_base();
  }
  ASSERT_EQ(parked_at.size(), 2U) << "they are not starved";
  EXPECT_GE(parked_at[1] - parked_at[0], kParkTurn) << "nor do they starve the others";
}

// --- Words that make no sense ----------------------------------------------------------------------------------------

TEST_F(Repair, AnyBytesGiveAnAnswer) {
  publisher_->send_many(8);
  const auto sound = memory_.snapshot();
  const GroupView& group = memory_.group();
  Random random(13);
  u64 parked = 0;
  for (int round = 0; round < 10'000; ++round) {
    memory_.restore(sound);
    for (u64 i = 0; i <= group.mask; ++i) {
      if (random.one_in(5)) continue;
      group.words[i] =
          layout::make_word(group.lap(first_) + random.below(3) - 1, static_cast<layout::Kind>(random.below(8)),
                            static_cast<u32>(random.below(3)),
                            static_cast<u32>(random.one_in(2) ? random.below(5) : random.next() & 0x3ffff));
    }
    if (random.one_in(3)) group.head->base = random.one_in(2) ? random.next() : first_ + random.below(20);
    if (random.one_in(3)) group.head->back = random.next();
    for (u32 index = 0; index < group.parks_count; ++index) {
      group.parks[index].word = random.next();
      group.parks[index].seq = random.one_in(2) ? random.next() : first_ + random.below(10);
    }
    if (random.one_in(3)) memory_.order.cells[random.below(8)] = random.next();
    if (random.one_in(3)) memory_.lane().word_at(random.below(32) * 8) = random.next();
    GroupRepair<A> repair_now = repair();
    repair_now.reconcile();
    repair_now.give_back_all_of(1);
    repair_now.give_back_nacked();
    repair_now.announce_base_if_ready();
    repair_now.window_half_full();
    u64 seq = 0;
    u64 word = 0;
    if (repair_now.leased_at_base(&seq, &word) &&
        repair_now.park_straggler(seq, word, memory_.lane_of(), memory_.place<A>(0))) {
      ++parked;
    }
    repair_now.reap_parks([](u64 /*loc*/, u64 /*seq*/) {});
    repair_now.announce_lost_parks();
    repair_now.step_base();
  }
  EXPECT_GT(parked, 0U);
}

}  // namespace
}  // namespace mooring::test
