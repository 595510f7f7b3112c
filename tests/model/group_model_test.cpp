// The shipped competing group, both halves (CompetingConsumer, GroupRepair), under the interleaving explorer: a window
// of four words, two park entries, a few messages. At the end of every execution the test does what a living supervisor
// and a fresh consumer would do, and then every message must have been acknowledged exactly once.
//
// THE ORACLE  A living owner's ack is never refused: nothing here is taken from the living. No message is acknowledged
//   twice or lost. `acquired` is the number of deliveries. When all rest and nobody was killed, whatever is READY is
//   announced. A cell is used again only after its message is finished in the group. A copy that counts is whole.
// Each property comes with the weakened form that must be caught.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <string>

#include "group/competing.hpp"
#include "group/release_mark.hpp"
#include "group/repair.hpp"
#include "model/explorer.hpp"
#include "model/weakened.hpp"
#include "ring/order_ring.hpp"

namespace mooring::model {
namespace {

using A = ExplorerAtomics;

constexpr u64 kFirstSeq = 4;
constexpr u64 kCells = 4;
constexpr unsigned kCellsLog2 = 2;
constexpr u32 kParks = 2;
constexpr u64 kLaneBytes = 64;  // four frames of 16 bytes
constexpr u64 kMessagesMax = 8;
constexpr u32 kSweeper = 9;  // owner number of the consumer at the end

constexpr u64 content(u64 seq) { return seq * 100 + 1; }

// A group over an order ring whose first `published` messages are there. C: the consumers' policy. P: the producer's.
template <class C = A, class P = A>
struct GroupWorld : Scenario {
  using Consumer = CompetingConsumer<C>;
  using Repair = GroupRepair<A>;

  explicit GroupWorld(u64 published) : end_seq_(kFirstSeq + published) {
    order_.head = &order_head_;
    order_.cells = cells_.data();
    order_.mask = kCells - 1;
    order_.log2 = kCellsLog2;
    initialise_cells(order_, kFirstSeq);
    order_head_.tail = kFirstSeq;
    lane_ = LaneView{&lane_head_, reinterpret_cast<u8*>(lane_words_.data()), kLaneBytes};

    group_.head = &group_head_;
    group_.words = words_.data();
    group_.parks = parks_.data();
    group_.ready_bits = &ready_bits_;
    group_.mask = kCells - 1;
    group_.log2 = kCellsLog2;
    group_.parks_count = kParks;
    initialise_words(group_, kFirstSeq);
    group_head_.base = kFirstSeq;
    bases_[0] = GroupBase{group_, true};

    writer_ = OrderWriter<P>(order_, lane_, 0, kFirstSeq);
    for (u64 seq = kFirstSeq; seq < end_seq_; ++seq) publish(seq);
    writer_.settle_tail();
    for (u32 i = 0; i < 2; ++i) consumers_[i] = Consumer(group_, order_, i + 1);

    name_words(cells_.data(), sizeof(cells_), 8, "cell");
    name_words(words_.data(), sizeof(words_), 8, "state");
    name_words(parks_.data(), sizeof(parks_), 8, "X");
    name_words(lane_words_.data(), sizeof(lane_words_), 8, "lane");
    name_word(&ready_bits_, "ready_bits");
    name_word(&lane_head_.reclaim, "reclaim");
    name_word(&order_head_.tail, "tail");
    name_word(&group_head_.base, "base");
    name_word(&group_head_.hint, "hint");
    name_word(&group_head_.back, "back");
    name_word(&group_head_.parked, "parked");
  }

  // False: no room.
  bool publish(u64 seq) {
    const auto mark = [this] { return release_mark<P>(bases_, group_epoch_, 0); };
    if (writer_.pending_count() == 0) {
      RingOutcome why = RingOutcome::kOk;
      u8* to = writer_.reserve(8, mark, &why);
      if (to == nullptr) {
        explorer_check(why == RingOutcome::kFull, "no room for another reason than full");
        return false;
      }
      const u64 payload = content(seq);
      P::copy_in(to, &payload, 8);
      writer_.append(8);
    }
    u64 last_seq = 0;
    u64 published = 0;
    const RingOutcome outcome = writer_.publish(mark, &last_seq, &published);
    explorer_check(outcome == RingOutcome::kOk || outcome == RingOutcome::kFull, "the ring says: corrupt");
    if (published == 0) return false;
    explorer_check_equal(last_seq, seq, "seq as published");
    explorer_check(seq < kFirstSeq + kCells || is_finished(seq - kCells), "a cell is used before its message is done");
    return true;
  }

  // Plain looks at the shared words, for the oracle.
  bool is_finished(u64 seq) const {
    if (group_head_.base > seq) return true;
    const u64 word = group_.word(seq);
    return layout::word_laps_ahead(word, group_.lap(seq)) == 0 && layout::word_kind(word) == layout::Kind::kAcked;
  }

  template <class Atomics>
  bool take(CompetingConsumer<Atomics>& consumer, Lease* lease) {
    const LeaseOutcome outcome = consumer.lease(lease);
    explorer_check(outcome != LeaseOutcome::kCorrupt, "the group says: corrupt");
    if (outcome != LeaseOutcome::kLeased) return false;
    explorer_check(lease->seq >= kFirstSeq && lease->seq < end_seq_, "a message that was never published");
    u32& deliveries = deliveries_[lease->seq - kFirstSeq];
    // A consumer killed between the CAS of a park entry and the look at its seq had a delivery nobody noted.
    const u32 unnoted = lease->parked() && is_one_killed_ ? 1 : 0;
    explorer_check(lease->acquired() > deliveries && lease->acquired() <= deliveries + 1 + unnoted, "attempts");
    deliveries = lease->acquired();
    return true;
  }

  template <class Atomics>
  void ack(CompetingConsumer<Atomics>& consumer, const Lease& lease) {
    explorer_check(consumer.ack(lease) == Settled::kYes, "the ack of a living owner is refused");
    explorer_check_equal(++acks_[lease.seq - kFirstSeq], 1, "acks of one message");
  }
  void release(Consumer& consumer, const Lease& lease) {
    explorer_check(consumer.release(lease) == Settled::kYes, "the release of a living owner is refused");
  }

  void take_and_ack(Consumer& consumer) {
    Lease lease;
    if (take(consumer, &lease)) ack(consumer, lease);
  }
  void take_and_release(Consumer& consumer) {
    Lease lease;
    if (take(consumer, &lease)) release(consumer, lease);
  }

  // K1 for the model: the record is a place of the scenario, found by its seq.
  u64 place(const FrameView& frame) {
    A::copy_out(&records_[frame.seq - kFirstSeq], frame.payload, 8);
    return 64 * (frame.seq + 1);
  }
  bool park_at_base(Repair& repair) {
    u64 seq = 0;
    u64 word = 0;
    if (!repair.leased_at_base(&seq, &word)) return false;
    const bool is_parked = repair.park_straggler(
        seq, word, [this](u32 lane) { return lane == 0 ? &lane_ : nullptr; },
        [this](const FrameView& frame) { return place(frame); });
    if (is_parked) explorer_check_equal(records_[seq - kFirstSeq], content(seq), "content of a park record");
    return is_parked;
  }

  void finished(int id) { has_finished_[static_cast<u32>(id)] = true; }

  void check_end() override {
    is_one_killed_ = false;
    for (int id = 0; id < threads_; ++id) is_one_killed_ |= !has_finished_[static_cast<u32>(id)];
    Repair repair(group_, order_);
    if (is_one_killed_) {
      repair.reconcile();
      for (u32 i = 0; i < 2; ++i) {
        if (!has_finished_[i]) repair.give_back_all_of(i + 1);
      }
      repair.announce_lost_parks();
    }
    check_announced();

    CompetingConsumer<A> sweeper(group_, order_, kSweeper);
    for (u64 i = 0; i <= 2 * kMessagesMax; ++i) {
      Lease lease;
      if (take(sweeper, &lease)) ack(sweeper, lease);
      repair.step_base();
      repair.reap_parks([](u64, u64) {});
    }
    for (u64 seq = kFirstSeq; seq < end_seq_; ++seq) {
      explorer_check_equal(acks_[seq - kFirstSeq], 1, "acks of one message at the end (0: lost)");
    }
    explorer_check_equal(group_head_.base, end_seq_, "base at the end");
    explorer_check(!sweeper.may_have_work(), "something is announced and cannot be had");
    for (const layout::ParkEntry& entry : parks_) {
      explorer_check(layout::read_park_word(entry.word).state == layout::ParkState::kFree, "a park entry stays taken");
    }
  }

  void check_announced() const {
    for (u64 seq = group_head_.base; seq < group_head_.base + kCells; ++seq) {
      const u64 word = group_.word(seq);
      if (layout::word_laps_ahead(word, group_.lap(seq)) == 0 && layout::word_kind(word) == layout::Kind::kReady) {
        explorer_check(layout::back_seq_lo(group_head_.back) != layout::kBackNone, "a READY word is not announced");
      }
    }
    for (u32 index = 0; index < kParks; ++index) {
      if (layout::read_park_word(parks_[index].word).state != layout::ParkState::kReady) continue;
      explorer_check(some_parked(group_head_.parked) && ((ready_bits_ >> index) & 1) != 0,
                     "a READY park entry is not announced");
    }
  }

  OrderView order_;
  GroupView group_;
  LaneView lane_;
  std::array<GroupBase, 1> bases_{};
  layout::OrderHead order_head_{};
  std::array<u64, kCells> cells_{};
  layout::LaneHead lane_head_{};
  alignas(64) std::array<u64, kLaneBytes / 8> lane_words_{};
  layout::GroupHead group_head_{};
  std::array<u64, kCells> words_{};
  std::array<layout::ParkEntry, kParks> parks_{};
  u64 ready_bits_ = 0;
  u64 group_epoch_ = 0;
  OrderWriter<P> writer_;
  std::array<Consumer, 2> consumers_;

  // Notes of the oracle.
  int threads_ = 2;
  u64 end_seq_;
  bool is_one_killed_ = false;
  std::array<bool, kThreadsMax> has_finished_{};
  std::array<u32, kMessagesMax> acks_{};
  std::array<u32, kMessagesMax> deliveries_{};
  std::array<u64, kMessagesMax> records_{};
};

// Two consumers over three messages: lease, ack, help base.
template <class C = A>
struct TwoConsumers : GroupWorld<C> {
  TwoConsumers() : GroupWorld<C>(3) {}
  void thread(int id) override {
    auto& consumer = this->consumers_[static_cast<u32>(id)];
    for (int i = 0; i < 2; ++i) this->take_and_ack(consumer);
    consumer.help_base(true);
    this->finished(id);
  }
};

// One gives its message back, twice; the other takes what it finds.
template <class C = A>
struct GivingBack : GroupWorld<C> {
  GivingBack() : GroupWorld<C>(1) {}
  void thread(int id) override {
    auto& consumer = this->consumers_[static_cast<u32>(id)];
    if (id == 0) {
      this->take_and_release(consumer);
      this->take_and_release(consumer);
    } else {
      this->take_and_release(consumer);
      this->take_and_ack(consumer);
    }
    this->finished(id);
  }
};

// Consumer 0 may be killed anywhere; the supervisor gives back what it held, if it finds it dead.
struct KilledConsumer : GroupWorld<> {
  KilledConsumer() : GroupWorld<>(2) { threads_ = 3; }
  void thread(int id) override {
    if (id == 2) {
      for (int look = 0; look < 2; ++look) {
        Repair repair(group_, order_);
        is_one_killed_ = explorer_is_killed(0);
        if (is_one_killed_) repair.give_back_all_of(1);
        repair.step_base();
      }
    } else {
      Consumer& consumer = consumers_[static_cast<u32>(id)];
      if (id == 0) take_and_release(consumer);
      take_and_ack(consumer);
      if (id == 1) take_and_ack(consumer);
    }
    finished(id);
  }
};

// Consumer 0 holds the first message and settles it some time; the supervisor parks it meanwhile; consumer 1 works on.
// With a fourth thread: a second supervisor that takes over when the first was killed.
template <class C = A>
struct Straggler : GroupWorld<C> {
  using World = GroupWorld<C>;
  Straggler(bool is_released, int threads) : World(2), is_released_(is_released) {
    this->threads_ = threads;
    this->take(this->consumers_[0], &held_);
    this->take_and_ack(this->consumers_[1]);
  }
  void thread(int id) override {
    if (id == 0) {
      if (is_released_) {
        this->release(this->consumers_[0], held_);
      } else {
        this->ack(this->consumers_[0], held_);
      }
    } else if (id == 1) {
      this->consumers_[1].help_base(true);
      this->take_and_ack(this->consumers_[1]);
    } else if (id == 2) {
      typename World::Repair repair(this->group_, this->order_);
      this->park_at_base(repair);
    } else if (explorer_wait_end(2)) {
      this->is_one_killed_ = true;
      typename World::Repair repair(this->group_, this->order_);
      repair.reconcile();
      repair.announce_lost_parks();
      repair.reap_parks([](u64, u64) {});
      this->park_at_base(repair);
    }
    this->finished(id);
  }
  bool is_released_;
  Lease held_;
};

// A producer that waits for the cell and the bytes of the first message, whose holder is still copying it.
template <class C = A, class P = A>
struct Reuse : GroupWorld<C, P> {
  using World = GroupWorld<C, P>;
  struct Counts {
    u64 whole = 0;
    u64 overtaken = 0;
  };
  explicit Reuse(Counts* counts) : World(4), counts_(counts) {
    this->threads_ = 3;
    this->end_seq_ += 1;
    this->take(this->consumers_[0], &held_);
  }
  void thread(int id) override {
    if (id == 0) {
      copy();
    } else if (id == 1) {
      while (!this->publish(kFirstSeq + 4)) P::pause();
    } else {
      typename World::Repair repair(this->group_, this->order_);
      this->park_at_base(repair);
    }
    this->finished(id);
  }
  void copy() {
    FrameView frame;
    u64 payload = 0;
    const bool is_frame = frame_of_cell<C>(this->lane_, held_.cell, held_.seq, &frame) == RingOutcome::kOk;
    if (is_frame) C::copy_out(&payload, frame.payload, 8);
    if (still_there<C>(this->lane_, held_.seq)) {
      explorer_check(is_frame && payload == content(held_.seq), "an overwritten copy is believed");
      ++counts_->whole;
    } else {
      // Overtaken: then the message is parked in this owner's name, with its payload.
      const u64 word = C::load(this->group_.word(held_.seq), std::memory_order_acquire);
      const u32 index = this->consumers_[0].find_moved(held_, word);
      explorer_check(index != Lease::kNotParked, "overtaken, and not parked");
      explorer_check_equal(this->records_[held_.seq - kFirstSeq], content(held_.seq), "content of a park record");
      ++counts_->overtaken;
    }
    this->ack(this->consumers_[0], held_);
  }
  Counts* counts_;
  Lease held_;
};

class GroupModel : public testing::Test {
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

Options bounds(int threads, int preemptions, u32 stale, u32 killable = 0) {
  Options options;
  options.threads = threads;
  options.preemptions_max = preemptions;
  options.stale_max = stale;
  options.killable = killable;
  options.kills_max = killable == 0 ? 0 : 1;
  return options;
}
constexpr u64 kSeed = 20261122;
constexpr u64 kWalks = 100'000;

TEST_F(GroupModel, EachMessageGoesToOneConsumer) {
  expect_proved(Explorer(bounds(2, 4, 2), each<TwoConsumers<>>()).explore());
}

TEST_F(GroupModel, WhatIsGivenBackIsAnnouncedAndComesAgain) {
  expect_proved(Explorer(bounds(2, 4, 2), each<GivingBack<>>()).explore());
}

TEST_F(GroupModel, AKilledConsumersMessagesComeAgain) {
  expect_proved(Explorer(bounds(2, 3, 1, 1), each<GivingBack<>>()).explore());
  expect_proved(Explorer(bounds(3, 2, 1, 1), each<KilledConsumer>()).explore());
}

TEST_F(GroupModel, AParkedStragglerKeepsItsMessage) {
  expect_proved(Explorer(bounds(3, 3, 1), each<Straggler<>>(false, 3)).explore());
  expect_proved(Explorer(bounds(3, 3, 1), each<Straggler<>>(true, 3)).explore());
}

TEST_F(GroupModel, AKilledSupervisorLosesNothing) {
  expect_proved(Explorer(bounds(3, 2, 1, 4), each<Straggler<>>(false, 3)).explore());
  expect_proved(Explorer(bounds(3, 2, 1, 4), each<Straggler<>>(true, 3)).explore());
}

TEST_F(GroupModel, AKilledStragglerLosesNothing) {
  expect_proved(Explorer(bounds(3, 2, 1, 1), each<Straggler<>>(false, 3)).explore());
  expect_proved(Explorer(bounds(3, 2, 1, 1), each<Straggler<>>(true, 3)).explore());
}

TEST_F(GroupModel, AConsumerKilledOverAParkedMessageLosesNothing) {
  expect_proved(Explorer(bounds(3, 2, 1, 2), each<Straggler<>>(true, 3)).explore());
}

TEST_F(GroupModel, ASecondSupervisorRepairsBesideTheLiving) {
  Options options = bounds(4, 0, 4, 4);
  options.walk_event_percent = 6;
  expect_passed(Explorer(options, each<Straggler<>>(false, 4)).walk(kSeed, kWalks));
  expect_passed(Explorer(options, each<Straggler<>>(true, 4)).walk(kSeed, kWalks));
}

TEST_F(GroupModel, PlacesAreUsedAgainOnlyWhenFinishedAndNoTornCopyCounts) {
  Reuse<>::Counts counts;
  expect_proved(Explorer(bounds(3, 2, 1), each<Reuse<>>(&counts)).explore());
  EXPECT_GT(counts.whole, 0U);
  EXPECT_GT(counts.overtaken, 0U);
}

// ------------------------------------------------------------------------------------------- what must be caught

TEST_F(GroupModel, FindsTheHelperThatStepsOverMoved) {
  using Bug = WithBug<SeededBug::kHelpOverMoved>;
  expect_found(Explorer(bounds(3, 2, 0, 4), each<Straggler<Bug>>(true, 3)).explore(),
               "acks of one message at the end (0: lost)");
  Options options = bounds(4, 0, 4, 4);
  options.walk_event_percent = 6;
  expect_found(Explorer(options, each<Straggler<Bug>>(false, 4)).walk(kSeed, kWalks),
               "the ack of a living owner is refused");
}

TEST_F(GroupModel, FindsTheBackWordClearedWithoutItsTag) {
  using Bug = WithBug<SeededBug::kClearBackUntagged>;
  expect_found(Explorer(bounds(2, 3, 1), each<GivingBack<Bug>>()).explore(), "a READY word is not announced");
}

TEST_F(GroupModel, FindsTheCopyWithoutItsFence) {
  Reuse<NoOverreadFence>::Counts counts;
  expect_found(Explorer(bounds(3, 2, 1), each<Reuse<NoOverreadFence>>(&counts)).explore(),
               "an overwritten copy is believed");
  Reuse<A, NoOverwriteFence>::Counts other_counts;
  expect_found(Explorer(bounds(3, 2, 1), each<Reuse<A, NoOverwriteFence>>(&other_counts)).explore(),
               "an overwritten copy is believed");
}

}  // namespace
}  // namespace mooring::model
