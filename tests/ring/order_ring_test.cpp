// Shows what the order ring promises, in one thread: many producers, one order; a cell is taken once a lap and never
// overwritten by a producer that sat still for laps, also not if the others run between its look and its CAS; full is
// full at every N; lane bytes are freed exactly as far as the release mark; and no byte of the shared files makes a
// producer hang or write outside its lane.

#include "ring/order_ring.hpp"

#include <gtest/gtest.h>

#include <map>

#include "support/cut_atomics.hpp"
#include "support/payload.hpp"
#include "support/queue_memory.hpp"

namespace mooring::test {
namespace {

using A = HardwareAtomics;

// Content follows from the lane and a number that the producer counts.
constexpr u64 key_of(u32 lane, u64 number) { return (u64{lane} << 40) | number; }

template <class P = A>
struct Producer {
  Producer(const QueueMemory& queue, u32 lane, u64 reclaim_floor = 0)
      : memory(queue), writer(queue.writer<P>(lane, reclaim_floor)) {}

  RingOutcome append(u64 len) {
    RingOutcome why = RingOutcome::kOk;
    u8* payload = writer.reserve(len, memory.mark<P>(), &why);
    if (payload == nullptr) return why;
    write_payload<P>(payload, key_of(writer.lane_index(), number), len);
    writer.append(len);
    ++number;
    return RingOutcome::kOk;
  }
  RingOutcome publish() { return writer.publish(memory.mark<P>(), &last_seq, &published); }
  RingOutcome send(u64 len = 8) {
    published = 0;
    const RingOutcome outcome = append(len);
    return outcome == RingOutcome::kOk ? publish() : outcome;
  }

  const QueueMemory& memory;
  OrderWriter<P> writer;
  u64 number = 0;
  u64 last_seq = 0;
  u64 published = 0;
};

// Reads seq after seq, checks that each lane's messages come in that lane's order and with every byte right, and moves
// the base of group k behind it when told.
struct Walker {
  explicit Walker(const QueueMemory& queue, std::size_t group = 0)
      : memory(queue), k(group), seq(A::load(queue.group(group).head->base, std::memory_order_acquire)) {}

  bool next() {
    u64 cell = 0;
    if (!is_published<A>(memory.order, seq, &cell)) return false;
    EXPECT_EQ(layout::cell_laps_ahead(cell, memory.order.lap(seq)), 0) << "overtaken at " << seq;
    const u32 lane = layout::cell_lane(cell);
    FrameView frame;
    EXPECT_EQ(frame_of_cell<A>(memory.lane(lane), cell, seq, &frame), RingOutcome::kOk);
    EXPECT_TRUE(payload_is<A>(frame.payload, frame.len, key_of(lane, numbers[lane]))) << "seq " << seq;
    EXPECT_TRUE(still_there<A>(memory.lane(lane), seq));
    ++numbers[lane];
    ++seq;
    return true;
  }
  u64 read_all() {
    u64 count = 0;
    while (next()) ++count;
    return count;
  }
  void free_all() const { A::store(memory.group(k).head->base, seq, std::memory_order_release); }

  const QueueMemory& memory;
  std::size_t k;
  u64 seq;
  std::map<u32, u64> numbers;
};

Shape ring_shape(u64 cells, u32 lanes = 1, u64 lane_bytes = 1024) {
  return Shape{
      .cells = cells, .words = 64, .lane_bytes = lane_bytes, .lanes = lanes, .groups = {GroupMode::kExclusive}};
}

TEST(OrderRing, NothingIsThereBeforeItIsPublished) {
  QueueMemory memory(ring_shape(4));
  Producer producer(memory, 0);
  Walker walker(memory);
  EXPECT_EQ(walker.read_all(), 0U);
  ASSERT_EQ(producer.append(20), RingOutcome::kOk);
  EXPECT_EQ(walker.read_all(), 0U);
  ASSERT_EQ(producer.publish(), RingOutcome::kOk);
  EXPECT_EQ(producer.last_seq, memory.first_seq());
  EXPECT_EQ(walker.read_all(), 1U);
}

TEST(OrderRing, ManyProducersMakeOneOrderOverManyLaps) {
  for (const u64 cells : {u64{4}, u64{8}, u64{64}}) {
    QueueMemory memory(ring_shape(cells, 3));
    std::vector<Producer<>> producers;
    for (u32 lane = 0; lane < 3; ++lane) producers.emplace_back(memory, lane);
    Walker walker(memory);
    Random random(cells);
    u64 sent = 0;
    for (int i = 0; i < 20'000; ++i) {
      Producer<>& producer = producers[random.below(3)];
      const RingOutcome outcome = producer.send(random.below(40));
      ASSERT_TRUE(outcome == RingOutcome::kOk || outcome == RingOutcome::kFull);
      sent += producer.published;
      if (outcome == RingOutcome::kFull) {
        producer.number -= producer.writer.pending_count();
        producer.writer.forget_pending();
      }
      if (random.one_in(3)) {
        walker.next();
        walker.free_all();
      }
    }
    walker.read_all();
    EXPECT_EQ(walker.seq - memory.first_seq(), sent);
    EXPECT_GT(sent, 100 * cells);
  }
}

TEST(OrderRing, IsFullWhenAGroupDoesNotMove) {
  QueueMemory memory(ring_shape(4));
  Producer producer(memory, 0);
  Walker walker(memory);
  for (int i = 0; i < 4; ++i) ASSERT_EQ(producer.send(), RingOutcome::kOk);
  EXPECT_EQ(producer.send(), RingOutcome::kFull);
  EXPECT_EQ(producer.published, 0U);
  EXPECT_EQ(producer.writer.pending_count(), 1U);
  EXPECT_EQ(walker.read_all(), 4U);
  EXPECT_EQ(producer.publish(), RingOutcome::kFull) << "read is not released";
  walker.free_all();
  EXPECT_EQ(producer.publish(), RingOutcome::kOk);
  EXPECT_EQ(producer.published, 1U);
  EXPECT_EQ(producer.writer.pending_count(), 0U);
  EXPECT_EQ(walker.read_all(), 1U);
}

TEST(OrderRing, TheSlowestGroupDecides) {
  Shape shape = ring_shape(8);
  shape.groups = {GroupMode::kExclusive, GroupMode::kCompeting};
  QueueMemory memory(shape);
  Producer producer(memory, 0);
  Walker walker(memory);
  for (int i = 0; i < 8; ++i) ASSERT_EQ(producer.send(), RingOutcome::kOk);
  walker.read_all();
  walker.free_all();
  EXPECT_EQ(producer.send(), RingOutcome::kFull);
  // The competing group acknowledges two and does not move its base: publishers read past ACKED words by themselves.
  for (u64 seq = memory.first_seq(); seq < memory.first_seq() + 2; ++seq) {
    memory.group(1).word(seq) = layout::make_word(memory.group(1).lap(seq), layout::Kind::kAcked, 0, 0);
  }
  EXPECT_EQ(memory.mark<A>()(), memory.first_seq() + 2);
  EXPECT_EQ(producer.publish(), RingOutcome::kOk);
  EXPECT_EQ(producer.send(), RingOutcome::kOk);
  EXPECT_EQ(producer.send(), RingOutcome::kFull);
}

TEST(OrderRing, BatchIsPublishedAsFarAsThereIsRoom) {
  QueueMemory memory(ring_shape(8));
  Producer producer(memory, 0);
  Walker walker(memory);
  for (int i = 0; i < 11; ++i) ASSERT_EQ(producer.append(8), RingOutcome::kOk);
  EXPECT_EQ(producer.publish(), RingOutcome::kFull);
  EXPECT_EQ(producer.published, 8U);
  EXPECT_EQ(producer.last_seq, memory.first_seq() + 7);
  EXPECT_EQ(producer.writer.pending_count(), 3U);
  EXPECT_EQ(walker.read_all(), 8U);
  walker.free_all();
  EXPECT_EQ(producer.publish(), RingOutcome::kOk);
  EXPECT_EQ(producer.published, 3U);
  EXPECT_EQ(walker.read_all(), 3U);
}

TEST(OrderRing, NoMoreIsHeldBackThanABatch) {
  QueueMemory memory(ring_shape(1024, 1, 64 * 1024));
  Producer producer(memory, 0);
  for (u64 i = 0; i < kPublishBatchMax; ++i) ASSERT_EQ(producer.append(1), RingOutcome::kOk);
  EXPECT_EQ(producer.append(1), RingOutcome::kFull);
  EXPECT_EQ(producer.publish(), RingOutcome::kOk);
  EXPECT_EQ(producer.append(1), RingOutcome::kOk);
}

TEST(OrderRing, ForgottenFramesLeaveNoTrace) {
  QueueMemory memory(ring_shape(16, 1, 256));
  Producer producer(memory, 0);
  Walker walker(memory);
  Random random(3);
  for (int i = 0; i < 5000; ++i) {
    const u64 number = producer.number;
    for (u64 n = random.below(4); n != 0; --n) producer.append(random.below(100));
    producer.writer.forget_pending();
    producer.number = number;
    ASSERT_EQ(producer.writer.pending_count(), 0U);
    ASSERT_EQ(producer.publish(), RingOutcome::kOk);
    ASSERT_EQ(producer.published, 0U);
    ASSERT_EQ(producer.send(random.below(105)), RingOutcome::kOk);
    ASSERT_EQ(walker.read_all(), 1U);
    walker.free_all();
  }
}

TEST(OrderRing, LapsWrapWithoutANotice) {
  // 28 bits of lap in a cell: the last laps before the wrap and the first behind it.
  constexpr u64 kCells = 4;
  Shape shape = ring_shape(kCells);
  shape.first_seq = ((layout::kCellLapMask + 1) - 3) * kCells;
  QueueMemory memory(shape);
  Producer producer(memory, 0);
  Walker walker(memory);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(producer.send(), RingOutcome::kOk) << i;
    if (i % 3 == 2) {
      ASSERT_EQ(walker.read_all(), 3U);
      walker.free_all();
    }
  }
  EXPECT_GT(walker.seq, (layout::kCellLapMask + 1) * kCells);
}

// --- The tail hint ---------------------------------------------------------------------------------------------------

TEST(OrderTail, LagsAndIsSettledWhenTold) {
  QueueMemory memory(ring_shape(64));
  Producer producer(memory, 0);
  const u64 first = memory.first_seq();
  for (u64 i = 1; i < kTailLag; ++i) ASSERT_EQ(producer.send(), RingOutcome::kOk);
  EXPECT_EQ(memory.order.head->tail, first);
  EXPECT_EQ(Walker(memory).read_all(), kTailLag - 1) << "readers look at cells, not at the hint";
  ASSERT_EQ(producer.send(), RingOutcome::kOk);
  EXPECT_EQ(memory.order.head->tail, first + kTailLag);
  ASSERT_EQ(producer.send(), RingOutcome::kOk);
  EXPECT_EQ(memory.order.head->tail, first + kTailLag);
  producer.writer.settle_tail();
  EXPECT_EQ(memory.order.head->tail, first + kTailLag + 1);
}

TEST(OrderTail, NewProducerFindsTheEndBehindALowTail) {
  QueueMemory memory(ring_shape(64, 2));
  Producer first(memory, 0);
  for (int i = 0; i < 10; ++i) ASSERT_EQ(first.send(), RingOutcome::kOk);
  Producer second(memory, 1);
  ASSERT_EQ(second.send(), RingOutcome::kOk);
  EXPECT_EQ(second.last_seq, memory.first_seq() + 10);
}

TEST(OrderTail, ProducerKilledBeforeItRaisedTheTailHarmsNobody) {
  QueueMemory memory(ring_shape(64, 2));
  const bool cut = cut_at_kill_point("order.published", [&] {
    Producer<CutAtomics> producer(memory, 0);
    for (int i = 0; i < 20; ++i) producer.append(3);
    producer.publish();
  });
  ASSERT_TRUE(cut);
  EXPECT_EQ(memory.order.head->tail, memory.first_seq());
  Producer next(memory, 1);
  ASSERT_EQ(next.send(), RingOutcome::kOk);
  EXPECT_EQ(next.last_seq, memory.first_seq() + 1);
  EXPECT_EQ(Walker(memory).read_all(), 2U);
}

TEST(OrderTail, GarbageThereMakesTheQueueFullAndNotHang) {
  QueueMemory memory(ring_shape(4));
  for (const u64 tail : {~u64{0}, u64{1} << 60, memory.first_seq() + 100}) {
    memory.order.head->tail = tail;
    Producer producer(memory, 0);
    EXPECT_NE(producer.send(), RingOutcome::kOk) << tail;
  }
  memory.order.head->tail = 0;
  Producer producer(memory, 0);
  EXPECT_EQ(producer.send(), RingOutcome::kOk) << "a low hint costs reads only";
  EXPECT_EQ(producer.last_seq, memory.first_seq());
}

// --- Producers that sat still ----------------------------------------------------------------------------------------

TEST(StaleProducer, NeverOverwritesHoweverFarTheOthersWent) {
  constexpr u64 kCells = 8;
  for (const bool tail_is_low : {false, true}) {
    for (u64 sent = 0; sent < 5 * kCells; ++sent) {
      QueueMemory memory(ring_shape(kCells, 2));
      Producer stale(memory, 1);
      Producer busy(memory, 0);
      Walker walker(memory);
      for (u64 i = 0; i < sent; ++i) {
        ASSERT_EQ(busy.send(), RingOutcome::kOk);
        // Half a ring stays unread.
        if (i >= kCells / 2) {
          ASSERT_TRUE(walker.next());
          walker.free_all();
        }
      }
      if (tail_is_low) memory.order.head->tail = memory.first_seq();
      ASSERT_EQ(stale.send(), RingOutcome::kOk);
      EXPECT_EQ(stale.last_seq, memory.first_seq() + sent);
      walker.read_all();
      EXPECT_EQ(walker.numbers[0], sent);
      EXPECT_EQ(walker.numbers[1], 1U);
    }
  }
}

TEST(StaleProducer, StoppedBeforeItsCasNeverOverwrites) {
  // It has looked at its cell, found it free, and sits still while the others go round; then it does its CAS.
  constexpr u64 kCells = 4;
  for (u64 others = 1; others < 6 * kCells; ++others) {
    QueueMemory memory(ring_shape(kCells, 2));
    Producer busy(memory, 0);
    Walker walker(memory);
    for (int i = 0; i < 3; ++i) ASSERT_EQ(busy.send(), RingOutcome::kOk);
    walker.read_all();
    walker.free_all();
    Producer<CutAtomics> stopped(memory, 1);
    ASSERT_EQ(stopped.append(9), RingOutcome::kOk);
    CutAtomics::at_kill_point = [&](const char* name) {
      ASSERT_STREQ(name, "order.before_cas");
      for (u64 i = 0; i < others; ++i) {
        ASSERT_EQ(busy.send(), RingOutcome::kOk);
        ASSERT_TRUE(walker.next());
        walker.free_all();
      }
    };
    ASSERT_EQ(stopped.publish(), RingOutcome::kOk);
    ASSERT_FALSE(CutAtomics::at_kill_point) << "it was stopped";
    EXPECT_EQ(stopped.last_seq, memory.first_seq() + 3 + others);
    walker.read_all();
    EXPECT_EQ(walker.numbers[1], 1U);
    EXPECT_EQ(walker.numbers[0], 3 + others);
  }
}

TEST(StaleProducer, WaitsWhenTheRingIsFullMeanwhile) {
  QueueMemory memory(ring_shape(4, 2));
  Producer stale(memory, 1);
  Producer busy(memory, 0);
  Walker walker(memory);
  for (int i = 0; i < 4; ++i) ASSERT_EQ(busy.send(), RingOutcome::kOk);
  EXPECT_EQ(stale.send(), RingOutcome::kFull);
  EXPECT_EQ(walker.read_all(), 4U);
  walker.free_all();
  EXPECT_EQ(stale.publish(), RingOutcome::kOk);
  EXPECT_EQ(walker.read_all(), 1U);
}

TEST(StaleProducer, KilledAtAnyStepLeavesNothingOrItsWholeMessage) {
  u64 step = 1;
  u64 whole = 0;
  for (bool cut = true; cut; ++step) {
    QueueMemory memory(ring_shape(4, 2, 256));
    u64 returned = 0;
    Walker walker(memory);
    cut = cut_before_step(step, [&] {
      Producer<CutAtomics> producer(memory, 1);
      for (u64 i = 0; i < 30; ++i) {
        if (producer.append(20 + i) != RingOutcome::kOk) {  // the lane is full
          walker.read_all();
          walker.free_all();
          ASSERT_EQ(producer.append(20 + i), RingOutcome::kOk);
        }
        if (producer.publish() != RingOutcome::kOk) {  // the cells are taken
          walker.read_all();
          walker.free_all();
          ASSERT_EQ(producer.publish(), RingOutcome::kOk);
        }
        ++returned;
      }
    });
    walker.read_all();
    walker.free_all();
    EXPECT_GE(walker.numbers[1], returned);
    EXPECT_LE(walker.numbers[1], returned + 1);
    if (walker.numbers[1] > returned) ++whole;
    Producer next(memory, 0);
    for (int i = 0; i < 3; ++i) ASSERT_EQ(next.send(), RingOutcome::kOk);
    EXPECT_EQ(walker.read_all(), 3U);
  }
  EXPECT_GT(step, 100U);
  EXPECT_GT(whole, 0U);
}

// --- Lane bytes ------------------------------------------------------------------------------------------------------

TEST(LaneReuse, FreesExactlyWhatTheReleaseMarkPassed) {
  QueueMemory memory(ring_shape(64, 1, 256));
  Producer producer(memory, 0);
  Walker walker(memory);
  const u64 first = memory.first_seq();
  for (int i = 0; i < 8; ++i) ASSERT_EQ(producer.send(24), RingOutcome::kOk);  // 8 frames of 32 bytes: exactly full
  EXPECT_EQ(producer.send(24), RingOutcome::kFull);
  EXPECT_EQ(memory.lane().head->reclaim, 0U);
  for (u64 done = 0; done < 100; ++done) {
    ASSERT_TRUE(walker.next());
    walker.free_all();
    EXPECT_TRUE(still_there<A>(memory.lane(), first + done)) << "released is not yet overwritten";
    ASSERT_EQ(producer.send(24), RingOutcome::kOk);
    EXPECT_EQ(memory.lane().head->reclaim, first + done + 1);
    EXPECT_FALSE(still_there<A>(memory.lane(), first + done));
    EXPECT_TRUE(still_there<A>(memory.lane(), first + done + 1));
    ASSERT_EQ(producer.send(24), RingOutcome::kFull);
  }
  EXPECT_EQ(walker.read_all(), 8U);
}

TEST(LaneReuse, ManyFramesInOneEntryAreNotFreedBeforeTheLastOfThem) {
  // Larger lanes remember spans of 1/128 lane, so small frames share an entry: none of them may be freed too early.
  for (const u64 lane_bytes : {u64{4096}, u64{16384}}) {
    QueueMemory memory(ring_shape(4096, 1, lane_bytes));
    Producer producer(memory, 0);
    Walker walker(memory);
    Random random(lane_bytes);
    u64 full = 0;
    for (int i = 0; i < 30'000; ++i) {
      if (producer.send(random.one_in(10) ? random.below(600) : random.below(30)) != RingOutcome::kOk) {
        ++full;
        for (u64 n = random.below(50); n != 0 && walker.next(); --n) {
        }
        walker.free_all();
      }
    }
    EXPECT_GT(full, 100U);
    walker.read_all();
    EXPECT_EQ(walker.numbers[0], producer.number);
    walker.free_all();
    ASSERT_EQ(producer.send(layout::lane_message_bytes_max(lane_bytes)), RingOutcome::kOk) << "all of it is free again";
  }
}

TEST(LaneReuse, LargestMessageAlwaysFitsAnEmptyLane) {
  QueueMemory memory(ring_shape(16, 1, 256));
  Producer producer(memory, 0);
  Walker walker(memory);
  const u64 max = layout::lane_message_bytes_max(256);
  for (u64 i = 0; i < 200; ++i) {
    RingOutcome why = RingOutcome::kOk;
    for (const u64 len : {max + 1, u64{256}, ~u64{0} - 8, ~u64{0}}) {
      EXPECT_EQ(producer.writer.reserve(len, memory.mark<A>(), &why), nullptr);
      EXPECT_EQ(why, RingOutcome::kTooBig);
    }
    ASSERT_EQ(producer.send(i % 3 == 0 ? 0 : max), RingOutcome::kOk);
    ASSERT_TRUE(walker.next());
    walker.free_all();
  }
}

TEST(LaneReuse, NewOwnerStartsAboveEverySeqOfTheOwnerBefore) {
  QueueMemory memory(ring_shape(64));
  const u64 first = memory.first_seq();
  u64 last = 0;
  {
    Producer before(memory, 0);
    for (int i = 0; i < 5; ++i) ASSERT_EQ(before.send(), RingOutcome::kOk);
    last = before.last_seq;
  }
  Walker walker(memory);
  walker.read_all();
  walker.free_all();
  EXPECT_TRUE(still_there<A>(memory.lane(), first));
  Producer next(memory, 0, last + 1);
  EXPECT_EQ(memory.lane().head->reclaim, last + 1);
  for (u64 seq = first; seq <= last; ++seq) EXPECT_FALSE(still_there<A>(memory.lane(), seq));
  walker.numbers.clear();
  ASSERT_EQ(next.send(), RingOutcome::kOk);
  EXPECT_EQ(walker.read_all(), 1U);
  // It never goes back, whatever floor the next grant brings.
  Producer after(memory, 0, 3);
  EXPECT_EQ(memory.lane().head->reclaim, last + 1);
}

// --- Heirs -----------------------------------------------------------------------------------------------------------

// The owner before is gone and its messages wait: a writer that goes on behind them.
Producer<> heir_of(const QueueMemory& memory, u64 last_seq, u64 number, u64 floor = 0) {
  Producer heir(memory, 0, std::max(floor, memory.first_seq()));
  EXPECT_EQ(heir.writer.inherit(last_seq), RingOutcome::kOk);
  heir.number = number;
  return heir;
}

TEST(Heir, GoesOnBehindTheMessagesThatWaitAndOverwritesNone) {
  // Each owner fills part of a small lane and goes; some leave a frame behind that they never published.
  for (const u64 lane_bytes : {u64{256}, u64{1024}, u64{4096}}) {
    QueueMemory memory(ring_shape(64, 2, lane_bytes));
    Producer other(memory, 1);
    Walker walker(memory);
    Random random(lane_bytes);
    u64 last_seq = 0;
    u64 number = 0;
    u64 full = 0;
    u64 inherited = 0;
    for (int owner = 0; owner < 4000; ++owner) {
      Producer heir = heir_of(memory, last_seq, number);
      inherited += last_seq >= walker.seq ? 1U : 0U;
      for (u64 n = random.below(4); n != 0; --n) {
        if (heir.send(random.below(lane_bytes / 8)) == RingOutcome::kOk) {
          last_seq = heir.last_seq;
          number = heir.number;
        } else {
          ++full;
          heir.writer.forget_pending();
          heir.number = number;
        }
      }
      if (random.one_in(4)) (void)heir.append(random.below(lane_bytes / 8));
      if (random.one_in(4)) (void)other.send(8);
      if (other.writer.pending_count() != 0) {
        other.number -= other.writer.pending_count();
        other.writer.forget_pending();
      }
      for (u64 n = random.below(4); n != 0; --n) {
        if (walker.next()) walker.free_all();
      }
    }
    walker.read_all();
    EXPECT_EQ(walker.numbers[0], number) << "each of them once, in order";
    EXPECT_GT(full, 50U);
    EXPECT_GT(inherited, 1000U);
  }
}

TEST(Heir, OfAFullLaneWaitsForTheMessagesOfTheOwnerBefore) {
  QueueMemory memory(ring_shape(64, 1, 256));
  Producer before(memory, 0);
  for (int i = 0; i < 8; ++i) ASSERT_EQ(before.send(24), RingOutcome::kOk);  // exactly full
  Producer heir = heir_of(memory, before.last_seq, before.number);
  EXPECT_EQ(heir.append(0), RingOutcome::kFull);
  EXPECT_TRUE(still_there<A>(memory.lane(), memory.first_seq()));
  Walker walker(memory);
  ASSERT_TRUE(walker.next());
  walker.free_all();
  ASSERT_EQ(heir.send(24), RingOutcome::kOk) << "the room of one, before the others are read";
  EXPECT_EQ(heir.append(0), RingOutcome::kFull);
  EXPECT_EQ(walker.read_all(), 8U);
}

TEST(Heir, OfMessagesThatWereReadUsesTheirRoom) {
  QueueMemory memory(ring_shape(64, 1, 256));
  Producer before(memory, 0);
  for (int i = 0; i < 5; ++i) ASSERT_EQ(before.send(24), RingOutcome::kOk);
  Walker walker(memory);
  walker.read_all();
  walker.free_all();
  Producer heir = heir_of(memory, before.last_seq, before.number);
  ASSERT_EQ(heir.send(layout::lane_message_bytes_max(256)), RingOutcome::kOk);
  // It wrapped over the first four. Who copies one of those is told, and who copies the fifth need not be.
  EXPECT_FALSE(still_there<A>(memory.lane(), memory.first_seq() + 3));
  EXPECT_TRUE(still_there<A>(memory.lane(), before.last_seq));
  EXPECT_EQ(walker.read_all(), 1U);
}

TEST(Heir, TellsReadersOfFramesWhoseCellsAreTakenAlready) {
  QueueMemory memory(ring_shape(4, 2, 1024));
  Producer before(memory, 0);
  ASSERT_EQ(before.send(), RingOutcome::kOk);
  Producer other(memory, 1);
  Walker walker(memory);
  for (int i = 0; i < 9; ++i) {
    ASSERT_TRUE(walker.next());
    walker.free_all();
    ASSERT_EQ(other.send(), RingOutcome::kOk);
  }
  Producer heir = heir_of(memory, before.last_seq, 1);
  EXPECT_FALSE(still_there<A>(memory.lane(), before.last_seq));
  ASSERT_EQ(heir.send(), RingOutcome::kOk);
  EXPECT_EQ(walker.read_all(), 2U);
}

TEST(Heir, KilledAnywhereLeavesTheSameToTheNext) {
  QueueMemory memory(ring_shape(16, 1, 256));
  Producer before(memory, 0);
  for (int i = 0; i < 4; ++i) ASSERT_EQ(before.send(24), RingOutcome::kOk);
  for (int owner = 0; owner < 3; ++owner) {  // each of them reads it all again, and does nothing more
    Producer heir = heir_of(memory, before.last_seq, before.number);
    (void)heir.append(24);
  }
  Producer last = heir_of(memory, before.last_seq, before.number);
  ASSERT_EQ(last.send(24), RingOutcome::kOk);
  Walker walker(memory);
  EXPECT_EQ(walker.read_all(), 5U);
}

TEST(Heir, RefusesALaneThatMakesNoSense) {
  QueueMemory memory(ring_shape(16, 1, 256));
  Producer before(memory, 0);
  for (int i = 0; i < 4; ++i) ASSERT_EQ(before.send(24), RingOutcome::kOk);
  const u64 first = memory.first_seq();
  for (const u64 offset : {u64{256}, layout::kLaneBytesMax - 8}) {
    const std::vector<u8> image = memory.snapshot();
    memory.order.cell(first + 1) = layout::make_cell(memory.order.lap(first), 0, offset);
    Producer heir(memory, 0, first);
    EXPECT_EQ(heir.writer.inherit(before.last_seq), RingOutcome::kCorrupt);
    memory.restore(image);
  }
  memory.order.cell(first + 2) = memory.order.cell(first + 1);  // two messages in one place
  Producer heir(memory, 0, first);
  EXPECT_EQ(heir.writer.inherit(before.last_seq), RingOutcome::kCorrupt);
  for (const u64 last_seq : {~u64{0}, ~u64{0} - 3, u64{1} << 40}) {
    Producer lost(memory, 0, first);
    EXPECT_EQ(lost.writer.inherit(last_seq), RingOutcome::kOk) << "no such messages";
  }
}

// --- Bytes that make no sense ----------------------------------------------------------------------------------------

TEST(CorruptOrderRing, CellsGiveAnAnswerAndNoHang) {
  for (const i64 laps : {i64{-5}, i64{-2}, i64{1}, i64{1000}, -(i64{1} << 27), (i64{1} << 27) - 1}) {
    QueueMemory memory(ring_shape(8));
    const u64 lap = memory.order.lap(memory.first_seq()) + static_cast<u64>(laps);
    for (u64 i = 0; i < 8; ++i) memory.order.cells[i] = layout::make_cell(lap, 3, 800);
    Producer producer(memory, 0);
    const RingOutcome outcome = producer.send();
    EXPECT_TRUE(outcome == RingOutcome::kCorrupt || outcome == RingOutcome::kFull) << laps;
    // Nothing of it was written over.
    for (u64 i = 0; i < 8; ++i) EXPECT_EQ(memory.order.cells[i], layout::make_cell(lap, 3, 800));
  }
}

TEST(CorruptOrderRing, CellsAndHeadersOutsideTheLaneAreRefused) {
  QueueMemory memory(ring_shape(8, 1, 256));
  Producer producer(memory, 0);
  ASSERT_EQ(producer.send(8), RingOutcome::kOk);
  const u64 seq = memory.first_seq();
  const u64 lap = memory.order.lap(seq);
  FrameView frame;
  EXPECT_EQ(frame_of_cell<A>(memory.lane(), layout::make_cell(lap, 0, 0), seq, &frame), RingOutcome::kOk);
  for (const u64 offset : {u64{256}, u64{264}, layout::kLaneBytesMax - 8}) {
    EXPECT_EQ(frame_of_cell<A>(memory.lane(), layout::make_cell(lap, 0, offset), seq, &frame), RingOutcome::kCorrupt);
  }
  for (const u64 header :
       {u64{0}, layout::make_frame_header(8, 0, 0), layout::make_frame_header(249, layout::kFramePublished, 0),
        layout::make_frame_header(layout::kFrameLenMax, layout::kFramePublished, 0)}) {
    memory.lane().word_at(0) = header;
    EXPECT_EQ(frame_of_cell<A>(memory.lane(), layout::make_cell(lap, 0, 0), seq, &frame), RingOutcome::kCorrupt);
  }
  memory.lane().word_at(0) = layout::make_frame_header(248, layout::kFramePublished, 0);
  EXPECT_EQ(frame_of_cell<A>(memory.lane(), layout::make_cell(lap, 0, 0), seq, &frame), RingOutcome::kOk);
}

TEST(HostileBase, OfOneGroupFreesNothingThatAnotherNeeds) {
  Shape shape = ring_shape(64, 1, 256);
  shape.groups = {GroupMode::kExclusive, GroupMode::kCompeting, GroupMode::kExclusive};
  QueueMemory memory(shape);
  memory.group(0).head->base = ~u64{0};
  memory.group(1).head->base = ~u64{0} - 5;
  Producer producer(memory, 0);
  Walker walker(memory, 2);
  u64 sent = 0;
  while (producer.send(20) == RingOutcome::kOk) ++sent;
  EXPECT_EQ(sent, 8U);
  EXPECT_EQ(walker.read_all(), sent);
}

TEST(HostileBase, IsNotRememberedWhenItsGroupIsGone) {
  QueueMemory memory(ring_shape(64, 1, 256));
  memory.group().head->base = ~u64{0};
  Producer producer(memory, 0);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(producer.send(20), RingOutcome::kOk);
  EXPECT_LE(producer.writer.release_mark_cached(), producer.last_seq + 1);
  // The liar is taken out; a group that starts here loses nothing.
  memory.group().head->base = producer.last_seq + 1;
  Walker walker(memory);
  walker.numbers[0] = producer.number;
  u64 sent = 0;
  while (producer.send(20) == RingOutcome::kOk) ++sent;
  EXPECT_EQ(walker.read_all(), sent);
}

// --- The release mark ------------------------------------------------------------------------------------------------

TEST(ReleaseMark, IsTheLeastBase) {
  Shape shape = ring_shape(16);
  shape.groups = {GroupMode::kExclusive, GroupMode::kExclusive};
  QueueMemory memory(shape);
  memory.group(0).head->base = 100;
  memory.group(1).head->base = 90;
  EXPECT_EQ(memory.mark<A>()(), 90U);
  memory.group(1).head->base = 101;
  EXPECT_EQ(memory.mark<A>()(), 100U);
}

TEST(ReleaseMark, IsZeroWhileAGroupIsBorn) {
  Shape shape = ring_shape(16);
  shape.groups = {GroupMode::kExclusive, GroupMode::kExclusive};
  QueueMemory memory(shape);
  memory.group(1).head->base = 0;
  EXPECT_EQ(memory.mark<A>()(), 0U);
  // And if a group was entered since the caller mapped them.
  const std::array<GroupBase, 1> mapped = {GroupBase{memory.group(0), false}};
  EXPECT_EQ(release_mark<A>(mapped, memory.group_epoch(), memory.group_epoch()), memory.first_seq());
  const u64 epoch = memory.group_epoch();
  memory.group_epoch() += 1;
  EXPECT_EQ(release_mark<A>(mapped, memory.group_epoch(), epoch), 0U);
  EXPECT_EQ(release_mark<A>({}, memory.group_epoch(), memory.group_epoch()), 0U) << "no group: nothing is released";
}

TEST(ReleaseMark, ReadsPastAckedWordsAndStopsAtAnythingElse) {
  Shape shape = ring_shape(16);
  shape.words = 8;
  shape.groups = {GroupMode::kCompeting};
  QueueMemory memory(shape);
  const GroupView& group = memory.group();
  const u64 first = memory.first_seq();
  EXPECT_EQ(effective_base<A>(group), first) << "the ACKED of the lap before says nothing";
  for (u64 seq = first; seq < first + 8; ++seq) {
    group.word(seq) = layout::make_word(group.lap(seq), layout::Kind::kAcked, 0, 0);
    EXPECT_EQ(effective_base<A>(group), seq + 1);
  }
  for (const layout::Kind kind :
       {layout::Kind::kLeased, layout::Kind::kReady, layout::Kind::kNacked, layout::Kind::kMoved}) {
    group.word(first + 3) = layout::make_word(group.lap(first + 3), kind, 0, 0);
    EXPECT_EQ(effective_base<A>(group), first + 3);
  }
}

}  // namespace
}  // namespace mooring::test
