// Shows that a lane and its exclusive groups agree with a simple model of a queue, over millions of random moves in
// one thread: batches of random length, messages of any size (most do not divide the ring), batches given up, writers
// and readers dropped and succeeded, groups that are slow, acknowledge in any order or give back. Every byte of every
// delivery is compared, and every answer of every call. Seeded: a failure names its configuration and comes again.

#include <gtest/gtest.h>

#include <vector>

#include "support/payload.hpp"
#include "support/queue_memory.hpp"

namespace mooring::test {
namespace {

using A = HardwareAtomics;

#if defined(__SANITIZE_ADDRESS__) || defined(MOORING_TSAN)
constexpr u64 kScale = 20;
#else
constexpr u64 kScale = 1;
#endif

struct Config {
  u64 lane_bytes;
  u64 words;
  u32 groups;
  u64 len_max;  // of most messages
  u64 messages;
  u64 first_seq;
};
std::ostream& operator<<(std::ostream& out, const Config& config) {
  return out << config.lane_bytes << "B_" << config.words << "words_" << config.groups << "groups_" << config.len_max
             << "len";
}

// The model of what was written: content and length of a seq follow from the version in which it was published.
constexpr u64 kRemembered = 8192;  // more than fit any lane here
struct Written {
  u64 version = 0;
  u64 len = 0;
};

class LaneModel {
 public:
  explicit LaneModel(const Config& config)
      : config_(config),
        memory_(Shape{.kind = QueueKind::kSpsc,
                      .words = config.words,
                      .lane_bytes = config.lane_bytes,
                      .groups = std::vector<GroupMode>(config.groups, GroupMode::kExclusive),
                      .first_seq = config.first_seq}),
        random_(config.lane_bytes * 131 + config.words * 17 + config.groups),
        written_(kRemembered),
        published_end_(memory_.first_seq()) {
    recover_writer();
    for (u32 k = 0; k < config.groups; ++k) groups_.emplace_back(memory_, k, memory_.first_seq());
  }

  void run() {
    const u64 end = memory_.first_seq() + config_.messages;
    while (published_end_ < end && !testing::Test::HasFailure()) {
      if (random_.one_in(2)) {
        move_producer();
      } else {
        // The last group is slow.
        const u64 k = random_.below(2 * groups_.size() - 1) / 2;
        move_group(groups_[k]);
      }
    }
    writer_.forget_pending(appended_);
    for (Group& group : groups_) drain(group);
  }

 private:
  enum class State : u8 { kDelivered, kGivenBack, kAcked };
  struct Group {
    Group(const QueueMemory& memory, u32 index, u64 first)
        : k(index),
          reader(memory.lane_reader<A>(index)),
          front(first),
          next(first),
          states(kRemembered),
          deliveries(kRemembered) {}
    u32 k;
    QueueMemory::LaneReader<A> reader;
    u64 front;  // everything below is acknowledged
    u64 next;   // the first never delivered by this reader
    std::vector<State> states;
    std::vector<u32> deliveries;
    u64 given_back = 0;  // how many
    u64 shown_end = 0;
  };

  void recover_writer() {
    ASSERT_EQ(SpscWriter<A>::recover(memory_.lane(), memory_.first_seq(), &writer_), RingOutcome::kOk);
    ASSERT_EQ(writer_.next_seq(), published_end_);
    appended_ = 0;
    ++version_;
  }

  void move_producer() {
    switch (random_.below(32)) {
      case 0:
        if (random_.one_in(20)) recover_writer();  // whatever is pending is lost with the writer
        return;
      case 1:
        writer_.forget_pending(appended_);
        appended_ = 0;
        ++version_;
        return;
      case 2: {
        // Reserved and not written: nothing comes of it.
        RingOutcome why = RingOutcome::kOk;
        u8* payload = writer_.reserve(random_len(), memory_.mark<A>(), &why);
        if (payload != nullptr) *payload = 0xee;
        return;
      }
      default: break;
    }
    const u64 batch = random_.one_in(3) ? 1 + random_.below(8) : 1;
    bool full = false;
    for (u64 i = 0; i < batch && !full; ++i) full = !append();
    if (full || random_.below(4) != 0) {
      writer_.publish();
      published_end_ += appended_;
      appended_ = 0;
    }
    if (full) {
      for (Group& group : groups_) {
        if (random_.one_in(2)) group.reader.raise_base();
      }
    }
  }

  u64 random_len() {
    const u64 max = layout::lane_message_bytes_max(config_.lane_bytes);
    return random_.one_in(64) ? random_.below(max + 1) : random_.below(config_.len_max + 1);
  }

  bool append() {
    const u64 len = random_len();
    const u64 reserved = std::min(len + random_.below(9), layout::lane_message_bytes_max(config_.lane_bytes));
    RingOutcome why = RingOutcome::kOk;
    u8* payload = writer_.reserve(reserved, memory_.mark<A>(), &why);
    if (payload == nullptr) {
      EXPECT_EQ(why, RingOutcome::kFull);
      return false;
    }
    const u64 seq = writer_.next_seq();
    written_[seq % kRemembered] = {version_, len};
    write_payload<A>(payload, seq ^ (version_ << 40), len);
    EXPECT_EQ(writer_.append(len), seq);
    ++appended_;
    return true;
  }

  void move_group(Group& group) {
    switch (random_.below(16)) {
      case 0: ack_up_to(group, pick(group)); return;
      case 1: give_back(group, pick(group)); return;
      case 2: group.reader.raise_base(); return;
      case 3:
        if (random_.one_in(50)) succeed(group);
        return;
      case 4:
      case 5:
      case 6: ack(group, pick(group)); return;
      case 7:
        // Lets it run dry, so that the lane fills and empties.
        for (u64 n = random_.below(64); n != 0; --n) {
          take(group);
          ack(group, group.front);
        }
        return;
      default:
        take(group);
        if (random_.one_in(2)) ack(group, group.front);
        return;
    }
  }

  // A delivered seq, or one at either edge of what was.
  u64 pick(const Group& group) {
    const u64 in_flight = group.next - group.front;
    return group.front + (random_.one_in(3) ? 0 : random_.below(in_flight + 2)) - (random_.one_in(40) ? 1 : 0);
  }
  bool in_flight(const Group& group, u64 seq) const { return seq >= group.front && seq < group.next; }
  static State& state(Group& group, u64 seq) { return group.states[seq % kRemembered]; }

  void take(Group& group) {
    u64 expected = group.next;
    if (group.given_back != 0) {
      for (expected = group.front; state(group, expected) != State::kGivenBack; ++expected) {
      }
    } else {
      // Behind a succession: what was acknowledged out of order is stepped over.
      while (expected < group.shown_end && state(group, expected) == State::kAcked) ++expected;
      group.next = expected;
      move_front(group);
    }
    FrameView frame;
    u32 attempt = 0;
    const TakeOutcome outcome = group.reader.take(&frame, &attempt);
    if (expected >= published_end_) {
      ASSERT_EQ(outcome, TakeOutcome::kEmpty);
      return;
    }
    if (expected - group.front >= config_.words) {
      ASSERT_EQ(outcome, TakeOutcome::kWindow);
      return;
    }
    ASSERT_EQ(outcome, TakeOutcome::kTaken) << "seq " << expected;
    ASSERT_EQ(frame.seq, expected);
    u32& deliveries = group.deliveries[expected % kRemembered];
    if (expected >= group.shown_end) deliveries = 0;
    ASSERT_EQ(attempt, ++deliveries) << "seq " << expected;
    const Written& written = written_[expected % kRemembered];
    ASSERT_EQ(frame.len, written.len);
    ASSERT_TRUE(payload_is<A>(frame.payload, frame.len, expected ^ (written.version << 40))) << "seq " << expected;
    if (group.given_back != 0) {
      --group.given_back;
    } else {
      group.next = expected + 1;
      group.shown_end = std::max(group.shown_end, group.next);
    }
    state(group, expected) = State::kDelivered;
  }

  void ack(Group& group, u64 seq) {
    const bool expected = in_flight(group, seq) && state(group, seq) == State::kDelivered;
    ASSERT_EQ(group.reader.ack(seq), expected) << "seq " << seq;
    if (!expected) return;
    state(group, seq) = State::kAcked;
    move_front(group);
  }

  void ack_up_to(Group& group, u64 seq) {
    u64 expected = 0;
    if (in_flight(group, seq)) {
      for (u64 at = group.front; at <= seq; ++at) {
        if (state(group, at) != State::kDelivered) continue;
        state(group, at) = State::kAcked;
        ++expected;
      }
    }
    ASSERT_EQ(group.reader.ack_up_to(seq), expected) << "seq " << seq;
    move_front(group);
  }

  void give_back(Group& group, u64 seq) {
    const bool expected = in_flight(group, seq) && state(group, seq) == State::kDelivered;
    ASSERT_EQ(group.reader.give_back(seq), expected) << "seq " << seq;
    if (!expected) return;
    state(group, seq) = State::kGivenBack;
    ++group.given_back;
  }

  static void move_front(Group& group) {
    while (group.front < group.next && state(group, group.front) == State::kAcked) ++group.front;
  }

  // The consumer is gone, another has its seat: what was not acknowledged comes again, in order.
  void succeed(Group& group) {
    group.reader = memory_.lane_reader<A>(group.k);
    group.next = group.front;
    group.given_back = 0;
  }

  void drain(Group& group) {
    while (group.front < published_end_ && !testing::Test::HasFailure()) {
      take(group);
      ack_up_to(group, group.next - 1);
    }
    FrameView frame;
    u32 attempt = 0;
    EXPECT_EQ(group.reader.take(&frame, &attempt), TakeOutcome::kEmpty);
    EXPECT_EQ(group.reader.in_flight(), 0U);
  }

  Config config_;
  QueueMemory memory_;
  Random random_;
  SpscWriter<A> writer_;
  std::vector<Written> written_;
  u64 published_end_;
  u64 appended_ = 0;
  u64 version_ = 0;
  std::vector<Group> groups_;
};

class LaneRandom : public testing::TestWithParam<Config> {};

TEST_P(LaneRandom, AgreesWithTheModel) {
  LaneModel model(GetParam());
  model.run();
}

constexpr u64 kNearWrap = (u64{1} << 32) - 1000;

INSTANTIATE_TEST_SUITE_P(
    Sizes, LaneRandom,
    testing::Values(Config{256, 4, 1, 40, 250'000 / kScale, 0}, Config{256, 64, 2, 20, 250'000 / kScale, 0},
                    Config{512, 16, 3, 90, 250'000 / kScale, kNearWrap}, Config{1024, 8, 2, 30, 250'000 / kScale, 0},
                    Config{2048, 256, 1, 200, 250'000 / kScale, 0}, Config{4096, 1024, 2, 40, 350'000 / kScale, 0},
                    Config{8192, 64, 1, 1000, 150'000 / kScale, kNearWrap},
                    Config{8192, 1024, 3, 24, 350'000 / kScale, 0}),
    [](const auto& instance) { return testing::PrintToString(instance.param); });

}  // namespace
}  // namespace mooring::test
