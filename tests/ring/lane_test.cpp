// Shows what one lane promises, in one thread: frames appear when they are published and not before, wraps and full
// rings are right at every offset, a successor of a writer killed at any step goes on without a gap, and shared bytes
// that make no sense are refused. The lanes are tiny, so that all offsets are tried.

#include "ring/lane.hpp"

#include <gtest/gtest.h>

#include "support/cut_atomics.hpp"
#include "support/payload.hpp"
#include "support/queue_memory.hpp"

namespace mooring::test {
namespace {

using A = HardwareAtomics;
using Writer = SpscWriter<A>;

Shape lane_shape(u64 lane_bytes = 256, std::size_t groups = 1, u64 first_seq = 0) {
  return Shape{.kind = QueueKind::kSpsc,
               .words = 1024,
               .lane_bytes = lane_bytes,
               .groups = std::vector<GroupMode>(groups, GroupMode::kExclusive),
               .first_seq = first_seq};
}

template <class P = A>
SpscWriter<P> writer_of(const QueueMemory& memory) {
  SpscWriter<P> writer;
  EXPECT_EQ(SpscWriter<P>::recover(memory.lane(), memory.first_seq(), &writer), RingOutcome::kOk);
  return writer;
}

// Appends a message of `len` bytes whose content follows from its seq.
template <class P>
RingOutcome append(SpscWriter<P>& writer, const QueueMemory& memory, u64 len) {
  RingOutcome why = RingOutcome::kOk;
  u8* payload = writer.reserve(len, memory.mark<P>(), &why);
  if (payload == nullptr) return why;
  write_payload<P>(payload, writer.next_seq(), len);
  writer.append(len);
  return RingOutcome::kOk;
}

template <class P>
RingOutcome send(SpscWriter<P>& writer, const QueueMemory& memory, u64 len) {
  const RingOutcome outcome = append(writer, memory, len);
  if (outcome == RingOutcome::kOk) writer.publish();
  return outcome;
}

// A reader without a group: it walks, checks every byte, and sets the base of group k to where it stands.
struct Walker {
  explicit Walker(const QueueMemory& queue, std::size_t group = 0, LaneCursor start = {})
      : memory(queue), k(group), reader(queue.lane(), queue.first_seq()), cursor(start) {}

  RingOutcome next(u64* len = nullptr) {
    FrameView frame;
    const RingOutcome outcome = reader.peek(&cursor, &frame);
    if (outcome != RingOutcome::kOk) return outcome;
    EXPECT_TRUE(payload_is<A>(frame.payload, frame.len, frame.seq)) << "seq " << frame.seq;
    EXPECT_EQ(frame.seq, cursor.seq);
    if (len != nullptr) *len = frame.len;
    SpscReader<A>::step(&cursor, frame);
    return RingOutcome::kOk;
  }
  void free_all() const { A::store(memory.group(k).head->base, cursor.position, std::memory_order_release); }
  u64 read_all() {
    u64 count = 0;
    while (next() == RingOutcome::kOk) ++count;
    return count;
  }

  const QueueMemory& memory;
  std::size_t k;
  SpscReader<A> reader;
  LaneCursor cursor;
};

TEST(Lane, EmptyLaneGivesNothing) {
  QueueMemory memory(lane_shape());
  Walker walker(memory);
  EXPECT_EQ(walker.next(), RingOutcome::kEmpty);
  EXPECT_EQ(walker.next(), RingOutcome::kEmpty);
}

TEST(Lane, PartlyWrittenFrameIsInvisible) {
  QueueMemory memory(lane_shape());
  Writer writer = writer_of(memory);
  Walker walker(memory);
  RingOutcome why = RingOutcome::kOk;
  u8* payload = writer.reserve(20, memory.mark<A>(), &why);
  ASSERT_NE(payload, nullptr);
  EXPECT_EQ(walker.next(), RingOutcome::kEmpty);
  write_payload<A>(payload, writer.next_seq(), 20);
  EXPECT_EQ(walker.next(), RingOutcome::kEmpty);
  writer.append(20);
  EXPECT_TRUE(writer.has_pending());
  EXPECT_EQ(walker.next(), RingOutcome::kEmpty);
  writer.publish();
  EXPECT_FALSE(writer.has_pending());
  EXPECT_EQ(walker.next(), RingOutcome::kOk);
  EXPECT_EQ(walker.next(), RingOutcome::kEmpty);
}

TEST(Lane, BatchAppearsAtOnce) {
  for (const char* stage : {"lane.zeroed", "lane.published"}) {
    QueueMemory memory(lane_shape());
    const bool cut = cut_at_kill_point(stage, [&] {
      SpscWriter<CutAtomics> writer = writer_of<CutAtomics>(memory);
      for (const u64 len : {u64{5}, u64{0}, u64{40}}) append(writer, memory, len);
      writer.publish();
    });
    EXPECT_TRUE(cut);
    EXPECT_EQ(Walker(memory).read_all(), std::strcmp(stage, "lane.zeroed") == 0 ? 0U : 3U);
  }
}

TEST(Lane, PublishingNothingChangesNothing) {
  QueueMemory memory(lane_shape());
  Writer writer = writer_of(memory);
  const auto before = memory.snapshot();
  writer.publish();
  EXPECT_EQ(memory.snapshot(), before);
}

TEST(Lane, FramesAreWholeAtEveryOffsetAndLength) {
  constexpr u64 kLane = 256;
  QueueMemory memory(lane_shape(kLane));
  const auto fresh = memory.snapshot();
  for (u64 start = 0; start < kLane; start += layout::kFrameAlignment) {
    for (u64 len = 0; len <= layout::lane_message_bytes_max(kLane); ++len) {
      memory.restore(fresh);
      Writer writer = writer_of(memory);
      Walker walker(memory);
      for (u64 at = 0; at < start; at += layout::kFrameHeaderBytes) {
        ASSERT_EQ(send(writer, memory, 0), RingOutcome::kOk);
        ASSERT_EQ(walker.next(), RingOutcome::kOk);
        walker.free_all();
      }
      ASSERT_EQ(writer.position() % kLane, start);
      RingOutcome why = RingOutcome::kOk;
      const u8* payload = writer.reserve(len, memory.mark<A>(), &why);
      ASSERT_NE(payload, nullptr) << start << " " << len;
      ASSERT_GE(payload, memory.lane().bytes + layout::kFrameHeaderBytes);
      ASSERT_LE(payload + len, memory.lane().bytes + kLane);
      ASSERT_EQ(send(writer, memory, len), RingOutcome::kOk);
      ASSERT_EQ(send(writer, memory, 0), RingOutcome::kOk) << "room for the next header is kept";
      u64 read_len = 0;
      ASSERT_EQ(walker.next(&read_len), RingOutcome::kOk);
      ASSERT_EQ(read_len, len);
      ASSERT_EQ(walker.next(&read_len), RingOutcome::kOk);
      ASSERT_EQ(read_len, 0U);
      ASSERT_EQ(walker.next(), RingOutcome::kEmpty);
    }
  }
}

TEST(Lane, IsNeverExactlyFull) {
  QueueMemory memory(lane_shape());
  Writer writer = writer_of(memory);
  Walker walker(memory);
  for (int lap = 0; lap < 5; ++lap) {
    u64 sent = 0;
    while (send(writer, memory, 0) == RingOutcome::kOk) ++sent;
    EXPECT_EQ(sent, 256 / layout::kFrameHeaderBytes - 1);
    EXPECT_EQ(walker.read_all(), sent) << "the zero ahead stops the reader before its own oldest frame";
    EXPECT_EQ(send(writer, memory, 0), RingOutcome::kFull) << "read is not yet released";
    walker.free_all();
  }
}

TEST(Lane, OneReleasedFrameMakesRoomForOne) {
  QueueMemory memory(lane_shape());
  Writer writer = writer_of(memory);
  Walker walker(memory);
  while (send(writer, memory, 8) == RingOutcome::kOk) {
  }
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(walker.next(), RingOutcome::kOk);
    walker.free_all();
    ASSERT_EQ(send(writer, memory, 8), RingOutcome::kOk);
    ASSERT_EQ(send(writer, memory, 8), RingOutcome::kFull);
  }
}

TEST(Lane, LargerThanTheLargestIsTooBigAtEveryOffset) {
  constexpr u64 kLane = 256;
  QueueMemory memory(lane_shape(kLane));
  Writer writer = writer_of(memory);
  Walker walker(memory);
  const u64 max = layout::lane_message_bytes_max(kLane);
  for (u64 i = 0; i < 2 * kLane / layout::kFrameAlignment; ++i) {
    RingOutcome why = RingOutcome::kOk;
    for (const u64 len : {max + 1, kLane, layout::kFrameLenMax + 1, ~u64{0} - 8, ~u64{0}}) {
      EXPECT_EQ(writer.reserve(len, memory.mark<A>(), &why), nullptr);
      EXPECT_EQ(why, RingOutcome::kTooBig);
    }
    EXPECT_NE(writer.reserve(max, memory.mark<A>(), &why), nullptr);
    ASSERT_EQ(send(writer, memory, 0), RingOutcome::kOk);
    ASSERT_EQ(walker.next(), RingOutcome::kOk);
    walker.free_all();
  }
}

TEST(Lane, ReservationIsForgottenByTheNextOne) {
  QueueMemory memory(lane_shape());
  Writer writer = writer_of(memory);
  RingOutcome why = RingOutcome::kOk;
  for (int i = 0; i < 40; ++i) {
    u8* large = writer.reserve(100, memory.mark<A>(), &why);
    ASSERT_NE(large, nullptr);
    std::memset(large, 0xff, 100);
  }
  EXPECT_EQ(writer.position(), 0U);
  ASSERT_EQ(send(writer, memory, 3), RingOutcome::kOk);
  Walker walker(memory);
  u64 len = 0;
  EXPECT_EQ(walker.next(&len), RingOutcome::kOk);
  EXPECT_EQ(len, 3U);
  EXPECT_EQ(walker.next(), RingOutcome::kEmpty) << "the 0xff of the aborted message are behind the zero";
}

TEST(Lane, MessageMayBeShorterThanItsReservation) {
  QueueMemory memory(lane_shape());
  Writer writer = writer_of(memory);
  RingOutcome why = RingOutcome::kOk;
  u8* payload = writer.reserve(100, memory.mark<A>(), &why);
  ASSERT_NE(payload, nullptr);
  std::memset(payload, 0xff, 100);
  write_payload<A>(payload, writer.next_seq(), 9);
  writer.append(9);
  writer.publish();
  EXPECT_EQ(writer.position(), layout::frame_bytes(9));
  ASSERT_EQ(send(writer, memory, 17), RingOutcome::kOk);
  EXPECT_EQ(Walker(memory).read_all(), 2U);
}

TEST(Lane, ForgottenBatchLeavesNoTrace) {
  QueueMemory memory(lane_shape());
  Writer writer = writer_of(memory);
  Walker walker(memory);
  Random random(1);
  for (int round = 0; round < 500; ++round) {
    const u64 seq = writer.next_seq();
    const u64 position = writer.position();
    u64 appended = 0;
    for (u64 i = random.below(4); i != 0; --i) {
      if (append(writer, memory, random.below(60)) == RingOutcome::kOk) ++appended;
    }
    writer.forget_pending(appended);
    ASSERT_FALSE(writer.has_pending());
    ASSERT_EQ(writer.next_seq(), seq);
    ASSERT_EQ(writer.position(), position);
    ASSERT_EQ(walker.next(), RingOutcome::kEmpty);
    ASSERT_EQ(send(writer, memory, random.below(60)), RingOutcome::kOk);
    ASSERT_EQ(walker.next(), RingOutcome::kOk);
    walker.free_all();
  }
}

// --- Successors ------------------------------------------------------------------------------------------------------

constexpr u64 kScriptCount = 25;
constexpr std::array<u64, 10> kLens = {3, 40, 0, 77, 8, 104, 17, 0, 64, 31};

// Sends messages by batches of `batch` over several laps. Whenever the lane is full, a reader takes all that is there.
void run_script(const QueueMemory& memory, u64 batch) {
  SpscWriter<CutAtomics> writer = writer_of<CutAtomics>(memory);
  Walker walker(memory);
  u64 pending = 0;
  while (writer.next_seq() < memory.first_seq() + kScriptCount) {
    const u64 len = kLens[writer.next_seq() % kLens.size()];
    RingOutcome outcome = pending == batch ? RingOutcome::kFull : append(writer, memory, len);
    if (outcome == RingOutcome::kOk) {
      ++pending;
      continue;
    }
    writer.publish();
    pending = 0;
    walker.read_all();
    walker.free_all();
  }
  writer.publish();
}

TEST(LaneSuccessor, GoesOnAfterDeathAtAnyStep) {
  for (const u64 batch : {u64{1}, u64{3}}) {
    u64 step = 1;
    for (bool cut = true; cut; ++step) {
      QueueMemory memory(lane_shape());
      cut = cut_before_step(step, [&] { run_script(memory, batch); });
      // What the reader of the script freed is gone; it walks on from there.
      const u64 base = memory.group().head->base;
      Walker walker(memory, 0, {base, 0});
      const u64 unread = walker.read_all();
      const u64 seq_expected = walker.cursor.seq;  // 0 if there was nothing to learn it from

      Writer successor = writer_of(memory);
      ASSERT_LT(successor.position() - walker.cursor.position, 256U);
      if (unread != 0) {
        ASSERT_EQ(successor.next_seq(), seq_expected) << "step " << step;
      }
      walker.cursor.seq = successor.next_seq();
      walker.free_all();
      for (int i = 0; i < 60; ++i) {
        ASSERT_EQ(send(successor, memory, kLens[static_cast<u64>(i) % kLens.size()]), RingOutcome::kOk) << step;
        ASSERT_EQ(walker.next(), RingOutcome::kOk) << "step " << step;
        walker.free_all();
      }
      ASSERT_EQ(walker.next(), RingOutcome::kEmpty);
    }
    EXPECT_GT(step, 100U) << "the script has as many steps as it should";
  }
}

TEST(LaneSuccessor, DoesNotLoseWhatNobodyHasReadYet) {
  // Nothing is ever released here: the successor must find all of it published, and not believe in room.
  u64 step = 1;
  for (bool cut = true; cut; ++step) {
    QueueMemory memory(lane_shape());
    u64 returned = 0;
    cut = cut_before_step(step, [&] {
      SpscWriter<CutAtomics> writer = writer_of<CutAtomics>(memory);
      while (send(writer, memory, 13) == RingOutcome::kOk) ++returned;
    });
    Writer successor = writer_of(memory);
    const u64 visible = successor.next_seq() - memory.first_seq();
    EXPECT_GE(visible, returned);
    EXPECT_LE(visible, returned + 1);
    while (send(successor, memory, 13) == RingOutcome::kOk) {
    }
    EXPECT_EQ(Walker(memory).read_all(), successor.next_seq() - memory.first_seq());
  }
}

TEST(LaneSuccessor, StartsFromTheCheckpointAfterManyLaps) {
  for (const u64 lane_bytes : {u64{256}, u64{4096}}) {
    QueueMemory memory(lane_shape(lane_bytes));
    Walker walker(memory);
    Random random(lane_bytes);
    Writer writer = writer_of(memory);
    for (int i = 0; i < 3000; ++i) {
      // A checkpoint may be due before a batch or in the middle of one.
      const u64 max = layout::lane_message_bytes_max(lane_bytes);
      for (u64 n = 1 + random.below(6); n != 0; --n) {
        const u64 len = random.one_in(8) ? random.below(max + 1) : random.below(max / 8);
        if (append(writer, memory, len) != RingOutcome::kOk) break;
      }
      ASSERT_TRUE(writer.has_pending());
      writer.publish();
      walker.read_all();
      walker.free_all();
      const Writer successor = writer_of(memory);
      ASSERT_EQ(successor.next_seq(), writer.next_seq()) << i;
      ASSERT_EQ(successor.position(), writer.position()) << i;
      if (random.one_in(3)) writer = successor;
    }
    EXPECT_GT(writer.position(), 50 * lane_bytes);
    const auto& checkpoint = memory.lane().head->checkpoints[memory.lane().head->checkpoint_current];
    EXPECT_LE(writer.position() - checkpoint.position, lane_bytes);
  }
}

TEST(LaneSuccessor, OfABatchOfAWholeLaneStartsInOneLap) {
  // The pending batch alone is longer than the checkpoint interval: the checkpoint stays at its start.
  QueueMemory memory(lane_shape());
  Walker walker(memory);
  Writer writer = writer_of(memory);
  for (int i = 0; i < 300; ++i) {
    u64 appended = 0;
    while (append(writer, memory, kLens[static_cast<u64>(i) % 5]) == RingOutcome::kOk) ++appended;
    ASSERT_GT(appended, 0U);
    const Writer before = writer_of(memory);
    ASSERT_EQ(before.next_seq(), writer.next_seq() - appended) << i;
    writer.publish();
    const Writer after = writer_of(memory);
    ASSERT_EQ(after.next_seq(), writer.next_seq()) << i;
    ASSERT_EQ(walker.read_all(), appended);
    walker.free_all();
  }
}

TEST(LaneSuccessor, KnowsTheSeqOverTheWrapOfItsLowHalf) {
  const u64 first = (u64{1} << 32) - 20;
  QueueMemory memory(lane_shape(256, 1, first));
  Walker walker(memory);
  Writer writer = writer_of(memory);
  for (u64 i = 0; i < 60; ++i) {
    ASSERT_EQ(send(writer, memory, 24), RingOutcome::kOk);
    ASSERT_EQ(walker.next(), RingOutcome::kOk);
    walker.free_all();
    writer = writer_of(memory);
    ASSERT_EQ(writer.next_seq(), first + 2 * i + 1);
    // A reader that knows only its position and a hint far away learns the right seq.
    ASSERT_EQ(send(writer, memory, 1), RingOutcome::kOk);
    LaneCursor cursor{walker.cursor.position, 0};
    FrameView frame;
    ASSERT_EQ(SpscReader<A>(memory.lane(), first + (u64{1} << 30)).peek(&cursor, &frame), RingOutcome::kOk);
    ASSERT_EQ(frame.seq, walker.cursor.seq);
    ASSERT_EQ(walker.next(), RingOutcome::kOk);
    walker.free_all();
  }
}

// --- Bytes that make no sense ----------------------------------------------------------------------------------------

class CorruptLane : public testing::Test {
 protected:
  CorruptLane() : memory_(lane_shape()) {
    Writer writer = writer_of(memory_);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(send(writer, memory_, 8), RingOutcome::kOk);
  }
  RingOutcome recover() {
    Writer writer;
    return Writer::recover(memory_.lane(), memory_.first_seq(), &writer);
  }
  // The second frame, at 16, becomes `header`.
  void expect_refused(u64 header) {
    const auto before = memory_.snapshot();
    memory_.lane().word_at(16) = header;
    EXPECT_EQ(recover(), RingOutcome::kCorrupt) << std::hex << header;
    Walker walker(memory_);
    EXPECT_EQ(walker.next(), RingOutcome::kOk);
    EXPECT_EQ(walker.next(), RingOutcome::kCorrupt) << std::hex << header;
    memory_.restore(before);
    EXPECT_EQ(recover(), RingOutcome::kOk);
  }

  QueueMemory memory_;
};

TEST_F(CorruptLane, HeadersAreRefusedByReaderAndSuccessor) {
  const u64 seq = memory_.first_seq() + 1;
  expect_refused(layout::make_frame_header(8, 0, seq));                            // not published, not zero
  expect_refused(layout::make_frame_header(8, layout::kFramePublished, seq + 1));  // another's seq
  expect_refused(layout::make_frame_header(240, layout::kFramePublished, seq));    // beyond the end
  expect_refused(layout::make_frame_header(layout::kFrameLenMax, layout::kFramePublished, seq));
  const u32 padding = layout::kFramePublished | layout::kFramePadding;
  expect_refused(layout::make_frame_header(8, padding, seq));  // not to the end
  expect_refused(~u64{0});
}

TEST_F(CorruptLane, PaddingBehindPaddingIsRefused) {
  const u32 padding = layout::kFramePublished | layout::kFramePadding;
  memory_.lane().word_at(48) = layout::make_frame_header(256 - 48 - 8, padding, 0);
  memory_.lane().word_at(0) = layout::make_frame_header(256 - 8, padding, 0);
  LaneCursor cursor{48, 0};
  FrameView frame;
  EXPECT_EQ(SpscReader<A>(memory_.lane(), 0).peek(&cursor, &frame), RingOutcome::kCorrupt);
}

TEST_F(CorruptLane, SuccessorRefusesACheckpointThatIsNone) {
  memory_.lane().head->checkpoint_current = 2;
  EXPECT_EQ(recover(), RingOutcome::kCorrupt);
  memory_.lane().head->checkpoint_current = 0;
  memory_.lane().head->checkpoints[0] = {4, memory_.first_seq()};
  EXPECT_EQ(recover(), RingOutcome::kCorrupt);
}

TEST_F(CorruptLane, SuccessorRefusesMoreReleasedThanPublished) {
  memory_.lane().head->reclaim = 48;
  EXPECT_EQ(recover(), RingOutcome::kOk);
  memory_.lane().head->reclaim = 56;
  EXPECT_EQ(recover(), RingOutcome::kCorrupt);
}

TEST_F(CorruptLane, SuccessorDoesNotWalkForEverWithoutAZero) {
  for (u64 at = 0; at < 256; at += 8) {
    memory_.lane().word_at(at) = layout::make_frame_header(0, layout::kFramePublished, memory_.first_seq() + at / 8);
  }
  EXPECT_EQ(recover(), RingOutcome::kCorrupt);
}

TEST_F(CorruptLane, AnyBytesGiveAnAnswer) {
  Random random(7);
  for (int round = 0; round < 20'000; ++round) {
    for (u64 at = 0; at < 256; at += 8) {
      // Plausible now and then, so that the walk gets somewhere.
      memory_.lane().word_at(at) =
          random.one_in(3) ? random.next()
                           : layout::make_frame_header(random.below(120), static_cast<u32>(1 + 2 * random.below(2)),
                                                       memory_.first_seq() + random.below(3));
    }
    memory_.lane().head->checkpoints[0] = {random.below(64) * 8, random.below(2) * memory_.first_seq()};
    Writer writer;
    if (Writer::recover(memory_.lane(), memory_.first_seq(), &writer) == RingOutcome::kOk) {
      ASSERT_EQ(memory_.lane().word_at(writer.position()), 0U);
    }
    LaneCursor cursor{random.below(1000) * 8, 0};
    FrameView frame;
    if (SpscReader<A>(memory_.lane(), 0).peek(&cursor, &frame) == RingOutcome::kOk) {
      ASSERT_LE(frame.payload + frame.len, memory_.lane().bytes + 256);
    }
  }
}

TEST(HostileBase, OfOneGroupDoesNotFreeWhatAnotherStillNeeds) {
  QueueMemory memory(lane_shape(256, 2));
  Writer writer = writer_of(memory);
  A::store(memory.group(0).head->base, ~u64{0}, std::memory_order_release);
  u64 sent = 0;
  while (send(writer, memory, 8) == RingOutcome::kOk) ++sent;
  EXPECT_LE(sent, 16U);
  EXPECT_EQ(Walker(memory, 1).read_all(), sent) << "every byte is intact";
}

TEST(HostileBase, FreesNothingThatIsNotYetPublished) {
  QueueMemory memory(lane_shape(256, 1));
  Writer writer = writer_of(memory);
  A::store(memory.group(0).head->base, ~u64{0}, std::memory_order_release);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(send(writer, memory, 8), RingOutcome::kOk);
  EXPECT_LE(memory.lane().head->reclaim, writer.position());
  // The lie ends, a group that is honest comes: from here on nothing unread is overwritten.
  A::store(memory.group(0).head->base, writer.position(), std::memory_order_release);
  Walker walker(memory, 0, {writer.position(), writer.next_seq()});
  u64 sent = 0;
  while (send(writer, memory, 8) == RingOutcome::kOk) ++sent;
  EXPECT_EQ(walker.read_all(), sent);
}

}  // namespace
}  // namespace mooring::test
