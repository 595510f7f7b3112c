// Shows: whatever the publisher and the journal do between a look at a message, the copy of it and the check, the
// reader of a durable queue takes each seq once, in order, and believes bytes from memory only if they are the
// message's. How: tiny rings, a journal that announces as much as a random number says (also between its two stores),
// and random steps of all three; what is not in memory any more must be below the mark, where the log has it.
#include "group/durable_source.hpp"

#include <gtest/gtest.h>

#include "support/payload.hpp"
#include "support/queue_memory.hpp"

namespace mooring::test {
namespace {

using A = HardwareAtomics;

using Source = DurableSource<A, QueueMemory::LaneOf>;

struct Case {
  QueueKind kind;
  bool early;
};

std::string name_of(const testing::TestParamInfo<Case>& made) {
  return std::string(made.param.kind == QueueKind::kSpsc ? "Spsc" : "Mpmc") + (made.param.early ? "Early" : "");
}

class DurableSourceTest : public testing::TestWithParam<Case> {
 protected:
  void make(u64 seed) {
    random_ = Random(seed);
    const bool spsc = GetParam().kind == QueueKind::kSpsc;
    memory_ = std::make_unique<QueueMemory>(
        Shape{.kind = GetParam().kind, .cells = 16, .words = 1024, .lane_bytes = 256, .lanes = 1});
    first_ = memory_->first_seq();
    durable_ = next_ = first_;
    state_ = {};
    state_.durable_seq = first_;
    state_.durable_mark = spsc ? 0 : first_;
    marks_ = {state_.durable_mark};
    OrderView order = memory_->order;
    if (!GetParam().early) order.limit = &state_.durable_mark;
    const DurableMarks marks{&state_, 0, GetParam().early};
    source_ = spsc ? Source(marks, memory_->lane()) : Source(marks, order, memory_->lane_of());
    if (spsc) {
      ASSERT_EQ(SpscWriter<A>::recover(memory_->lane(), first_, &lane_writer_), RingOutcome::kOk);
    } else {
      order_writer_.emplace(memory_->order, memory_->lane(), 0, first_);
    }
  }

  void publish() {
    const u64 len = random_.below(40);
    const auto mark = [this] { return state_.durable_mark; };  // R = J
    RingOutcome why = RingOutcome::kOk;
    if (order_writer_.has_value()) {
      u8* room = order_writer_->reserve(len, mark, &why);
      if (room == nullptr) return;
      write_payload<A>(room, next_, len);
      order_writer_->append(len);
      u64 seq = 0;
      u64 published = 0;
      if (order_writer_->publish(mark, &seq, &published) != RingOutcome::kOk) {
        order_writer_->forget_pending();
        return;
      }
      ASSERT_EQ(seq, next_);
      marks_.push_back(++next_);
      return;
    }
    u8* room = lane_writer_.reserve(len, mark, &why);
    if (room == nullptr) return;
    write_payload<A>(room, next_, len);
    lane_writer_.append(len);
    lane_writer_.publish();
    ++next_;
    marks_.push_back(lane_writer_.position());
  }
  // Some of what is published is on the disk; now and then it stops between the two stores.
  void announce() {
    if (state_.durable_seq == durable_) durable_ += random_.below(next_ - durable_ + 1);
    state_.durable_seq = durable_;
    if (!random_.one_in(4)) state_.durable_mark = marks_[durable_ - first_];
  }
  void others(u64 steps) {
    for (u64 i = random_.below(steps + 1); i != 0; --i) {
      if (random_.one_in(3)) {
        announce();
      } else {
        publish();
      }
    }
  }

  Random random_{1};
  std::unique_ptr<QueueMemory> memory_;
  layout::QueueState state_;
  std::vector<u64> marks_;  // of first_, first_ + 1, ...
  u64 first_ = 0;
  u64 durable_ = 0;
  u64 next_ = 0;
  Source source_;
  SpscWriter<A> lane_writer_;
  std::optional<OrderWriter<A>> order_writer_;
};

INSTANTIATE_TEST_SUITE_P(Kinds, DurableSourceTest,
                         testing::Values(Case{QueueKind::kMpmc, false}, Case{QueueKind::kMpmc, true},
                                         Case{QueueKind::kSpsc, false}, Case{QueueKind::kSpsc, true}),
                         name_of);

TEST_P(DurableSourceTest, EachSeqOnceAndOnlyItsOwnBytes) {
  u64 from_memory = 0;
  u64 from_log = 0;
  u64 overtaken = 0;
  for (u64 seed = 1; seed <= 300; ++seed) {
    order_writer_.reset();
    make(seed);
    Source::Cursor cursor = source_.start(first_);
    for (int round = 0; round < 300; ++round) {
      others(random_.one_in(10) ? 60 : 4);  // now and then several laps
      FrameView frame;
      const RingOutcome found = source_.peek(&cursor, &frame);
      if (found == RingOutcome::kEmpty) {
        // MPMC looks no further than the mark, which may be one store behind.
        ASSERT_EQ(cursor.seq, GetParam().early          ? next_
                              : order_writer_.has_value() ? state_.durable_mark
                                                          : state_.durable_seq)
            << seed;
        continue;
      }
      ASSERT_EQ(found, RingOutcome::kOk) << seed << " at " << cursor.seq;
      ASSERT_EQ(frame.seq, cursor.seq);
      ASSERT_LT(cursor.seq, GetParam().early ? next_ : durable_);
      if (frame.payload == nullptr) {
        ASSERT_LT(cursor.seq, state_.durable_seq) << "the log has not got it";
        ++from_log;
      } else {
        others(random_.one_in(4) ? 60 : 0);  // stopped before the copy
        const bool is_it = payload_is<A>(frame.payload, frame.len, frame.seq);
        if (source_.still_there(frame)) {
          ASSERT_TRUE(is_it) << seed << " at " << cursor.seq;
          ++from_memory;
        } else {
          ASSERT_LT(cursor.seq, state_.durable_seq);
          ++overtaken;
        }
      }
      source_.step(&cursor, frame);
    }
    // Nobody disturbs: it comes to the end of what may be seen, and there it is in memory again.
    durable_ = next_;
    state_.durable_seq = durable_;
    state_.durable_mark = marks_.back();
    FrameView frame;
    while (source_.peek(&cursor, &frame) == RingOutcome::kOk) source_.step(&cursor, frame);
    ASSERT_EQ(cursor.seq, next_) << seed;
    publish();
    durable_ = next_;
    state_.durable_seq = durable_;
    state_.durable_mark = marks_.back();
    ASSERT_EQ(source_.peek(&cursor, &frame), RingOutcome::kOk);
    EXPECT_NE(frame.payload, nullptr) << seed;
  }
  EXPECT_GT(from_memory, 50U);
  EXPECT_GT(from_log, 50U);
  EXPECT_GT(overtaken, 50U);
}

TEST_P(DurableSourceTest, WhatWasGivenBackIsFoundAgain) {
  make(7);
  for (int i = 0; i < 5; ++i) publish();
  if (!GetParam().early) {
    durable_ = next_;
    state_.durable_seq = next_;
    state_.durable_mark = marks_.back();
  }
  Source::Cursor cursor = source_.start(first_);
  FrameView frame;
  while (source_.peek(&cursor, &frame) == RingOutcome::kOk) source_.step(&cursor, frame);
  EXPECT_EQ(cursor.seq, next_);
  for (u64 seq = first_; seq < next_; ++seq) {
    Source::Cursor back{seq};
    ASSERT_EQ(source_.peek(&back, &frame), RingOutcome::kOk) << seq;
    if (frame.payload == nullptr) {
      EXPECT_LT(seq, durable_);
    } else {
      EXPECT_TRUE(payload_is<A>(frame.payload, frame.len, seq));
    }
  }
  EXPECT_EQ(source_.peek(&cursor, &frame), RingOutcome::kEmpty);
  publish();
  if (GetParam().early) {
    EXPECT_EQ(source_.peek(&cursor, &frame), RingOutcome::kOk);
  }
}

}  // namespace
}  // namespace mooring::test
