// The shipped lane (SpscWriter) and exclusive group (ExclusiveConsumer over LaneSource) under the interleaving
// explorer: every schedule, stale read, kill and stop within the bounds that a test names. The lane is 64 bytes long,
// full of headers of the lap before, and the first message stands near its end, so that a few messages wrap, pad and
// reuse it. Each property comes with the weakened form that must be caught: a barrier taken away, or a bug seeded in
// the template.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <string>

#include "group/exclusive.hpp"
#include "group/release_mark.hpp"
#include "model/explorer.hpp"
#include "model/weakened.hpp"
#include "ring/lane.hpp"

namespace mooring::model {
namespace {

using A = ExplorerAtomics;

constexpr u64 kFirstSeq = 8;
constexpr u64 kMessagesMax = 8;
constexpr u64 kWindow = 8;
constexpr u64 kWordsMax = 16;
constexpr u64 kStaleSeq = 1;
constexpr int kNobody = -1;

struct Message {
  u64 len;
  bool joins = false;  // published together with the message before
};

struct Plan {
  u64 lane_bytes;
  u64 start;  // lane position of the first message
  std::array<Message, kMessagesMax> messages;
  u64 count;
  bool acks_in_pairs = false;  // take two, acknowledge the second one first
  int heir_of = kNobody;       // thread 2 goes on for this thread if it is killed
};

// 16 B a frame, at 40, (padding at 56,) 64, 80, 96: the last one overwrites the place of the first.
constexpr Plan kSingles{64, 40, {{{8}, {8}, {8}, {8}}}, 4};
// Four frames from the start of the lane would fill it to the last byte.
constexpr Plan kExactlyFull{64, 0, {{{8}, {8}, {8}, {8}}}, 4};
// At 40 and 48 together, (padding at 56,) 64 alone, 80 and 96 together; empty messages are a header only.
constexpr Plan kBatches{64, 40, {{{0}, {0, true}, {8}, {8}, {8, true}}}, 5};
// At 96, (padding at 120,) 128 and 152 together, 176, and at 200 what needs the place of the first.
constexpr Plan kTwoWords{128, 96, {{{16}, {16}, {16, true}, {16}, {16}}}, 5};

constexpr Plan with_heir_of(Plan plan, int thread) {
  plan.heir_of = thread;
  return plan;
}
constexpr Plan in_pairs(Plan plan) {
  plan.acks_in_pairs = true;
  return plan;
}

// W: the writer's policy. R: what the consumer stores with. S: what it reads the lane with.
template <class W = A, class R = A, class S = A>
struct LaneRun : Scenario {
  using Writer = SpscWriter<W>;
  using Consumer = ExclusiveConsumer<R, LaneSource<S>>;

  explicit LaneRun(Plan plan, bool is_one_killable = false) : plan_(plan), is_one_killable_(is_one_killable) {
    lane_ = LaneView{&head_, reinterpret_cast<u8*>(words_.data()), plan.lane_bytes};
    words_.fill(layout::make_frame_header(0, layout::kFramePublished, kStaleSeq));
    lane_.word_at(plan.start) = 0;
    head_.checkpoints[0] = {plan.start, kFirstSeq};
    head_.reclaim = plan.start;

    group_.head = &group_head_;
    group_.words = group_words_.data();
    group_.mask = kWindow - 1;
    group_.log2 = 3;
    initialise_words(group_, kFirstSeq);
    group_head_.base = group_head_.acked = plan.start;
    group_head_.shown = kFirstSeq - 1;
    bases_[0] = GroupBase{group_, false};

    name_words(words_.data(), plan.lane_bytes, 8, "lane");
    name_words(group_words_.data(), sizeof(group_words_), 8, "state");
    name_words(&head_.checkpoint_current, 40, 8, "checkpoint");
    name_word(&head_.reclaim, "reclaim");
    name_word(&group_head_.base, "base");
    name_word(&group_head_.acked, "acked");
    name_word(&group_head_.shown, "shown");
  }

  u64 end_seq() const { return kFirstSeq + plan_.count; }
  const Message& message(u64 seq) const { return plan_.messages[seq - kFirstSeq]; }
  static u64 content(u64 seq, u64 index) { return seq * 100 + index; }

  void thread(int id) override {
    if (id == 2 && !explorer_wait_end(plan_.heir_of)) return;
    const int role = id == 2 ? plan_.heir_of : id;
    if (role == 0) {
      write(id == 2);
    } else {
      consume();
    }
  }

  // In a thread it waits for room. Else (see finish) it returns when there is none.
  void write(bool is_heir) {
    Writer writer;
    explorer_check(Writer::recover(lane_, kFirstSeq, &writer) == RingOutcome::kOk, "the walk says: corrupt");
    if (is_heir) {
      // Exact: what the dead writer published, and a batch whole or not at all.
      const u64 next = writer.next_seq();
      explorer_check(next == published_ || next == appended_, "the successor reuses or skips a seq");
      explorer_check(next == end_seq() || !message(next).joins, "the successor stands inside a batch");
    } else {
      explorer_check_equal(writer.next_seq(), kFirstSeq, "first seq");
    }
    const auto mark = [this] { return release_mark<W>(bases_, group_epoch_, 0); };
    for (u64 seq = writer.next_seq(); seq < end_seq(); ++seq) {
      const u64 len = message(seq).len;
      RingOutcome why = RingOutcome::kOk;
      u8* to = writer.reserve(len, mark, &why);
      while (to == nullptr) {
        explorer_check(why == RingOutcome::kFull, "no room for another reason than full");
        if (Explorer::running() == nullptr) return;
        W::pause();
        to = writer.reserve(len, mark, &why);
      }
      const std::array<u64, 2> payload{content(seq, 0), content(seq, 1)};
      W::copy_in(to, payload.data(), len);
      explorer_check_equal(writer.append(len), seq, "append");
      if (seq + 1 < end_seq() && message(seq + 1).joins) continue;
      appended_ = seq + 1;
      writer.publish();
      published_ = seq + 1;
    }
  }

  // In a thread it waits for messages. Else it returns when there is none.
  void consume() {
    seen_by_this_ = {};
    // What the consumer before was acknowledging when it was killed is settled or not; the shared words know.
    if (in_doubt_ != 0 && is_settled(in_doubt_)) acked_[in_doubt_ - kFirstSeq] = true;
    Consumer consumer(group_, LaneSource<S>(lane_, kFirstSeq));
    u64 expected = kFirstSeq;
    u64 held = 0;
    for (;;) {
      while (expected < end_seq() && is_acked(expected)) ++expected;
      if (held == 0 && expected == end_seq()) break;
      FrameView frame;
      u32 attempt = 0;
      const TakeOutcome outcome = consumer.take(&frame, &attempt);
      if (outcome == TakeOutcome::kEmpty) {
        explorer_check(expected == end_seq() || !message(expected).joins || expected == kFirstSeq ||
                           !seen_by_this_[expected - 1 - kFirstSeq],
                       "half of a batch is visible");
        consumer.raise_base();
        if (Explorer::running() == nullptr) {
          if (held != 0) ack(consumer, held);
          break;
        }
        R::pause();
        continue;
      }
      explorer_check(outcome == TakeOutcome::kTaken, "the reader says: corrupt");
      explorer_check_equal(frame.seq, expected, "seq");
      // Counted before the next access, where this thread may be killed.
      const u64 index = frame.seq - kFirstSeq;
      explorer_check_equal(attempt, ++deliveries_[index], "attempt");
      check_content(frame);
      seen_by_this_[index] = true;
      ++expected;
      if (plan_.acks_in_pairs && held == 0 && expected < end_seq()) {
        held = frame.seq;
        continue;
      }
      ack(consumer, frame.seq);
      if (held != 0) ack(consumer, held);
      held = 0;
    }
    consumer.raise_base();
  }

  void check_content(const FrameView& frame) {
    explorer_check_equal(frame.len, message(frame.seq).len, "length");
    std::array<u64, 2> payload{};
    S::copy_out(payload.data(), frame.payload, frame.len);
    for (u64 i = 0; i < frame.len / 8; ++i) explorer_check_equal(payload[i], content(frame.seq, i), "content");
  }

  void ack(Consumer& consumer, u64 seq) {
    in_doubt_ = seq;
    explorer_check(consumer.ack(seq), "an ack is refused");
    acked_[seq - kFirstSeq] = true;
    in_doubt_ = 0;
  }
  bool is_acked(u64 seq) const { return acked_[seq - kFirstSeq]; }

  // As the shared words say it (plainly: asked about what a dead consumer did).
  bool is_settled(u64 seq) const {
    const u64 word = group_.word(seq);
    if (layout::word_laps_ahead(word, group_.lap(seq)) == 0 && layout::word_kind(word) == layout::Kind::kAcked) {
      return true;
    }
    return group_head_.acked > position_of(seq);
  }
  u64 position_of(u64 seq) const {
    u64 position = plan_.start;
    for (u64 s = kFirstSeq;; ++s) {
      const u64 need = layout::frame_bytes(message(s).len);
      const u64 room = plan_.lane_bytes - position % plan_.lane_bytes;
      if (need > room) position += room;
      if (s == seq) return position;
      position += need;
    }
  }

  // The other one was killed, and nobody goes on for it.
  bool on_stuck() override { return is_one_killable_; }

  void check_end() override {
    if (is_one_killable_) finish();
    for (u64 seq = kFirstSeq; seq < end_seq(); ++seq) explorer_check(is_settled(seq), "a message was lost");
    explorer_check_equal(group_head_.base, group_head_.acked, "base at the end");
  }

  // Whoever is left stands still: successors of both go on, by turns.
  void finish() {
    for (u64 turn = 0; turn <= 2 * plan_.count; ++turn) {
      write(true);
      consume();
    }
  }

  // While the writer stands still the consumer gets all that is published.
  void on_resumed(int id, bool /*others_ended*/) override {
    if (id != 0) return;
    u64 acked = 0;
    for (u64 i = 0; i < plan_.count; ++i) {
      if (acked_[i]) ++acked;
    }
    explorer_check(acked + kFirstSeq >= published_ || plan_.acks_in_pairs, "a stopped writer held a message up");
  }

  Plan plan_;
  bool is_one_killable_;  // and has no heir among the threads
  LaneView lane_;
  GroupView group_;
  std::array<GroupBase, 1> bases_{};
  layout::LaneHead head_{};
  alignas(64) std::array<u64, kWordsMax> words_{};
  layout::GroupHead group_head_{};
  std::array<u64, kWindow> group_words_{};
  u64 group_epoch_ = 0;

  // Notes of the oracle.
  u64 published_ = kFirstSeq;  // publish() returned
  u64 appended_ = kFirstSeq;   // publish() was called
  u64 in_doubt_ = 0;           // ack() was called and has not returned
  std::array<bool, kMessagesMax> acked_{};
  std::array<bool, kMessagesMax> seen_by_this_{};
  std::array<u32, kMessagesMax> deliveries_{};
};

class LaneModel : public testing::Test {
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

Options bounds(int preemptions, u32 stale) {
  Options options;
  options.preemptions_max = preemptions;
  options.stale_max = stale;
  return options;
}
Options with_kill(int thread, int preemptions, u32 stale) {
  Options options = bounds(preemptions, stale);
  options.kills_max = 1;
  options.killable = 1U << thread;
  return options;
}
// The heir is a thread of its own. It waits by looking, which costs free switches: too many to try them all.
Options with_heir(int thread) {
  Options options = with_kill(thread, 0, 0);
  options.threads = 3;
  options.stale_max = 4;
  return options;
}
constexpr u64 kSeed = 20261122;
constexpr u64 kWalks = 30'000;
void expect_passed(const Result& result) {
  print(result);
  std::printf("  seed %llu\n", static_cast<unsigned long long>(result.seed));
  EXPECT_FALSE(result.failed) << result.text();
  EXPECT_GT(result.kills, result.executions / 8);
}

// ------------------------------------------------------------------------------------------------- nobody is killed

TEST_F(LaneModel, EachMessageArrivesOnceInOrderAndWhole) {
  expect_proved(Explorer(bounds(3, 2), each<LaneRun<>>(kSingles)).explore());
  expect_proved(Explorer(bounds(3, 2), each<LaneRun<>>(kExactlyFull)).explore());
  expect_proved(Explorer(bounds(3, 2), each<LaneRun<>>(kTwoWords)).explore());
}

TEST_F(LaneModel, ABatchAppearsAtOnce) { expect_proved(Explorer(bounds(3, 2), each<LaneRun<>>(kBatches)).explore()); }

TEST_F(LaneModel, AcksOutOfOrderFreeNothingEarly) {
  expect_proved(Explorer(bounds(3, 2), each<LaneRun<>>(in_pairs(kSingles))).explore());
}

TEST_F(LaneModel, AStoppedWriterHoldsNothingUp) {
  Options options = bounds(2, 1);
  options.stops_max = 1;
  options.stoppable = 1;
  expect_proved(Explorer(options, each<LaneRun<>>(kSingles)).explore());
  expect_proved(Explorer(options, each<LaneRun<>>(kBatches)).explore());
}

// -------------------------------------------------------------------------------------------------------- successors

TEST_F(LaneModel, ASuccessorOfAKilledWriterGoesOnAtTheExactSeq) {
  for (const Plan& plan : {kSingles, kBatches, kTwoWords}) {
    expect_proved(Explorer(with_kill(0, 2, 1), each<LaneRun<>>(plan, true)).explore());
  }
}

TEST_F(LaneModel, ASuccessorOfAKilledConsumerSeesNothingAckedAndCountsAttempts) {
  for (const Plan& plan : {kSingles, in_pairs(kSingles), in_pairs(kTwoWords)}) {
    expect_proved(Explorer(with_kill(1, 2, 1), each<LaneRun<>>(plan, true)).explore());
  }
}

TEST_F(LaneModel, ASuccessorWorksBesideTheLivingOne) {
  for (const Plan& plan : {kSingles, kBatches, in_pairs(kTwoWords)}) {
    expect_passed(Explorer(with_heir(0), each<LaneRun<>>(with_heir_of(plan, 0))).walk(kSeed, kWalks));
    expect_passed(Explorer(with_heir(1), each<LaneRun<>>(with_heir_of(plan, 1))).walk(kSeed, kWalks));
  }
}

// ------------------------------------------------------------------------------------------- what must be caught

TEST_F(LaneModel, FindsAPublishThatDoesNotRelease) {
  expect_found(Explorer(bounds(3, 2), each<LaneRun<RelaxedStores>>(kSingles)).explore(), "content");
}

TEST_F(LaneModel, FindsAReaderThatDoesNotAcquire) {
  expect_found(Explorer(bounds(3, 2), each<LaneRun<A, A, RelaxedLoads>>(kSingles)).explore(), "content");
}

TEST_F(LaneModel, FindsTheFullLaneWithoutRoomForTheZero) {
  using Bug = WithBug<SeededBug::kNoRoomForZero>;
  expect_found(Explorer(bounds(3, 2), each<LaneRun<Bug>>(kExactlyFull)).explore(), "stuck");
}

TEST_F(LaneModel, FindsTheHeaderBeforeTheZero) {
  using Bug = WithBug<SeededBug::kHeaderBeforeZero>;
  expect_found(Explorer(bounds(3, 2), each<LaneRun<Bug>>(kSingles)).explore(), "the reader says: corrupt");
}

TEST_F(LaneModel, FindsTheCheckpointThatIsNeverRenewed) {
  using Bug = WithBug<SeededBug::kNoCheckpoint>;
  expect_found(Explorer(with_kill(0, 2, 1), each<LaneRun<Bug>>(kSingles, true)).explore(), "the walk says: corrupt");
}

}  // namespace
}  // namespace mooring::model
