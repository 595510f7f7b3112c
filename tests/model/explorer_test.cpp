// The interleaving explorer, judged by known answers: each memory-order rule allows what C++ allows and no more, and
// each known bug is found. A checker that finds nothing proves nothing, so most tests come in pairs: the correct form
// passes exhaustively, and the form with one thing taken away fails.
#include "model/explorer.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace mooring::model {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelease = std::memory_order_release;
constexpr auto kAcqRel = std::memory_order_acq_rel;
constexpr auto kSeqCst = std::memory_order_seq_cst;

using A = ExplorerAtomics;

class ExplorerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!kExplorerSupported) GTEST_SKIP() << "TSan takes an abandoned fiber for calls that never returned.";
  }
};

void expect_proved(const Result& result) { EXPECT_TRUE(result.exhaustive && !result.failed) << result.text(); }

void expect_found(const Result& result, const std::string& message) {
  EXPECT_TRUE(result.failed) << result.text();
  EXPECT_EQ(result.message, message);
}

Options with_threads(int threads) {
  Options options;
  options.threads = threads;
  return options;
}

// Which results came up, over all executions: the test says which are ACCEPTABLE, which FORBIDDEN.
using Outcomes = std::map<std::string, u64>;

// ---------------------------------------------------------------------------------------------- messages and fences

struct MessagePassing : Scenario {
  MessagePassing(std::memory_order store_order, std::memory_order load_order)
      : store_order_(store_order), load_order_(load_order) {}
  void thread(int id) override {
    if (id == 0) {
      A::store(data_, u64{42}, kRelaxed);
      A::store(flag_, u32{1}, store_order_);
    } else {
      while (A::load(flag_, load_order_) == 0) A::pause();
      explorer_check(A::load(data_, kRelaxed) == 42, "data is old");
    }
  }
  std::memory_order store_order_;
  std::memory_order load_order_;
  u64 data_ = 0;
  u32 flag_ = 0;
};

TEST_F(ExplorerTest, ReleaseAndAcquirePassAMessage) {
  expect_proved(Explorer({}, each<MessagePassing>(kRelease, kAcquire)).explore());
}

TEST_F(ExplorerTest, RelaxedOnEitherSideLosesTheMessage) {
  expect_found(Explorer({}, each<MessagePassing>(kRelaxed, kAcquire)).explore(), "data is old");
  expect_found(Explorer({}, each<MessagePassing>(kRelease, kRelaxed)).explore(), "data is old");
}

TEST_F(ExplorerTest, FencesOrderRelaxedAccesses) {
  struct Fenced : Scenario {
    Fenced(bool release, bool acquire) : release_(release), acquire_(acquire) {}
    void thread(int id) override {
      if (id == 0) {
        A::store(data_, u64{42}, kRelaxed);
        if (release_) A::overwrite_fence();
        A::store(flag_, u64{1}, kRelaxed);
      } else if (A::load(flag_, kRelaxed) == 1) {
        if (acquire_) A::overread_fence();
        explorer_check(A::load(data_, kRelaxed) == 42, "data is old");
      }
    }
    bool release_;
    bool acquire_;
    u64 data_ = 0;
    u64 flag_ = 0;
  };
  expect_proved(Explorer({}, each<Fenced>(true, true)).explore());
  expect_found(Explorer({}, each<Fenced>(false, true)).explore(), "data is old");
  expect_found(Explorer({}, each<Fenced>(true, false)).explore(), "data is old");
}

// Two threads raise their own flag and look at the other's; both seeing nothing is what a lost wake-up is made of.
enum class Between {
  kNothing,
  kLightAndSleep,
  kLightAndLight,
  kOnlySleep,
  kOnlyLight,
  kFullAndSleep,
  kFullAndFull,
  kSeqCstAccess,
};

struct StoreBuffering : Scenario {
  StoreBuffering(Between between, Outcomes* outcomes) : between_(between), outcomes_(outcomes) {}
  void thread(int id) override {
    const bool is_cold = id == 1;
    const std::memory_order store_order = between_ == Between::kSeqCstAccess ? kSeqCst : kRelease;
    const std::memory_order load_order = between_ == Between::kSeqCstAccess ? kSeqCst : kAcquire;
    A::store(flags_[id], u64{1}, store_order);
    switch (between_) {
      case Between::kNothing:
      case Between::kSeqCstAccess: break;
      case Between::kLightAndSleep: is_cold ? A::sleep_fence() : A::publish_fence(false); break;
      case Between::kLightAndLight: A::publish_fence(false); break;
      case Between::kOnlySleep:
        if (is_cold) A::sleep_fence();
        break;
      case Between::kOnlyLight:
        if (!is_cold) A::publish_fence(false);
        break;
      case Between::kFullAndSleep: is_cold ? A::sleep_fence() : A::publish_fence(true); break;
      case Between::kFullAndFull: A::publish_fence(true); break;
    }
    seen_[id] = A::load(flags_[1 - id], load_order);
  }
  void check_end() override { ++(*outcomes_)[std::to_string(seen_[0]) + std::to_string(seen_[1])]; }
  Between between_;
  Outcomes* outcomes_;
  u64 flags_[2] = {0, 0};
  u64 seen_[2] = {9, 9};
};

Outcomes store_buffering(Between between) {
  Outcomes outcomes;
  expect_proved(Explorer({}, each<StoreBuffering>(between, &outcomes)).explore());
  EXPECT_GT(outcomes["01"], 0u);
  EXPECT_GT(outcomes["10"], 0u);
  EXPECT_GT(outcomes["11"], 0u);
  return outcomes;
}

TEST_F(ExplorerTest, StoreBufferingShowsWithoutFences) { EXPECT_GT(store_buffering(Between::kNothing)["00"], 0u); }

TEST_F(ExplorerTest, StoreBufferingIsForbiddenByTheAsymmetricPair) {
  EXPECT_EQ(store_buffering(Between::kLightAndSleep)["00"], 0u);
}

TEST_F(ExplorerTest, EachHalfOfTheAsymmetricPairIsNeeded) {
  EXPECT_GT(store_buffering(Between::kOnlySleep)["00"], 0u);
  EXPECT_GT(store_buffering(Between::kOnlyLight)["00"], 0u);
  EXPECT_GT(store_buffering(Between::kLightAndLight)["00"], 0u);
}

TEST_F(ExplorerTest, StoreBufferingIsForbiddenByFullFencesAndSeqCst) {
  EXPECT_EQ(store_buffering(Between::kFullAndSleep)["00"], 0u);
  EXPECT_EQ(store_buffering(Between::kFullAndFull)["00"], 0u);
  EXPECT_EQ(store_buffering(Between::kSeqCstAccess)["00"], 0u);
}

TEST_F(ExplorerTest, SeqCstOnOneSideOnlyAllowsStoreBuffering) {
  struct Half : Scenario {
    explicit Half(Outcomes* outcomes) : outcomes_(outcomes) {}
    void thread(int id) override {
      A::store(flags_[id], u64{1}, kSeqCst);
      seen_[id] = A::load(flags_[1 - id], id == 0 ? kSeqCst : kAcquire);
    }
    void check_end() override { ++(*outcomes_)[std::to_string(seen_[0]) + std::to_string(seen_[1])]; }
    Outcomes* outcomes_;
    u64 flags_[2] = {0, 0};
    u64 seen_[2] = {9, 9};
  };
  Outcomes outcomes;
  expect_proved(Explorer({}, each<Half>(&outcomes)).explore());
  EXPECT_GT(outcomes["00"], 0u);
}

// Two readers see two writers' stores in opposite order.
TEST_F(ExplorerTest, IndependentReadersDisagreeUnlessSeqCst) {
  struct Independent : Scenario {
    Independent(std::memory_order order, std::memory_order load_order, u64* disagreed)
        : order_(order), load_order_(load_order), disagreed_(disagreed) {}
    void thread(int id) override {
      if (id < 2) {
        A::store(words_[id], u64{1}, order_);
      } else {
        first_[id - 2] = A::load(words_[id - 2], load_order_);
        second_[id - 2] = A::load(words_[3 - id], load_order_);
      }
    }
    void check_end() override {
      if (first_[0] == 1 && second_[0] == 0 && first_[1] == 1 && second_[1] == 0) ++*disagreed_;
    }
    std::memory_order order_;
    std::memory_order load_order_;
    u64* disagreed_;
    u64 words_[2] = {0, 0};
    u64 first_[2] = {0, 0};
    u64 second_[2] = {0, 0};
  };
  u64 disagreed = 0;
  expect_proved(Explorer(with_threads(4), each<Independent>(kRelease, kAcquire, &disagreed)).explore());
  EXPECT_GT(disagreed, 0u);
  disagreed = 0;
  expect_proved(Explorer(with_threads(4), each<Independent>(kSeqCst, kSeqCst, &disagreed)).explore());
  EXPECT_EQ(disagreed, 0u);
}

// --------------------------------------------------------------------------------------------- coherence, RMW chains

TEST_F(ExplorerTest, AThreadNeverReadsAWordBackwards) {
  struct Coherence : Scenario {
    explicit Coherence(std::set<std::string>* seen) : seen_(seen) {}
    void thread(int id) override {
      if (id == 0) {
        for (u64 value = 1; value <= 3; ++value) A::store(word_, value, kRelaxed);
      } else {
        u64 last = 0;
        std::array<char, 4> text{};
        for (std::size_t i = 0; i < 3; ++i) {
          const u64 value = A::load(word_, kRelaxed);
          explorer_check(value >= last, "backwards");
          last = value;
          text[i] = static_cast<char>('0' + value);
        }
        text_ = text;
      }
    }
    void check_end() override { seen_->insert(text_.data()); }
    std::set<std::string>* seen_;
    std::array<char, 4> text_{};
    u64 word_ = 0;
  };
  std::set<std::string> seen;
  Options options;
  options.preemptions_max = 8;
  options.stale_max = 3;
  expect_proved(Explorer(options, each<Coherence>(&seen)).explore());
  EXPECT_EQ(seen.size(), 20u);  // every sequence of three out of 0..3 that does not fall
}

// What one thread has read, and then tells another of, bounds what the other may read (read-read coherence).
TEST_F(ExplorerTest, ARelayedReadIsNotReadBackwards) {
  struct Relay : Scenario {
    explicit Relay(std::memory_order relay) : relay_(relay) {}
    void thread(int id) override {
      if (id == 0) {
        A::store(word_, u64{1}, kRelaxed);
      } else if (id == 1) {
        if (A::load(word_, kRelaxed) == 1) A::store(flag_, u64{1}, relay_);
      } else if (A::load(flag_, kAcquire) == 1) {
        explorer_check(A::load(word_, kRelaxed) == 1, "backwards");
      }
    }
    std::memory_order relay_;
    u64 word_ = 0;
    u64 flag_ = 0;
  };
  expect_proved(Explorer(with_threads(3), each<Relay>(kRelease)).explore());
  expect_found(Explorer(with_threads(3), each<Relay>(kRelaxed)).explore(), "backwards");
}

TEST_F(ExplorerTest, AnRmwContinuesTheReleaseSequenceAndAStoreBreaksIt) {
  enum class Middle { kAdd, kCas, kStore };
  struct Sequence : Scenario {
    explicit Sequence(Middle middle) : middle_(middle) {}
    void thread(int id) override {
      if (id == 0) {
        A::store(data_, u64{42}, kRelaxed);
        A::store(word_, u64{1}, kRelease);
      } else if (id == 1) {
        u64 one = 1;
        if (middle_ == Middle::kCas) {
          A::cas(word_, one, u64{2}, kRelaxed);
        } else if (A::load(word_, kRelaxed) == 1) {
          if (middle_ == Middle::kAdd) A::add(word_, u64{1}, kRelaxed);
          if (middle_ == Middle::kStore) A::store(word_, u64{2}, kRelaxed);
        }
      } else if (A::load(word_, kAcquire) == 2) {
        explorer_check(A::load(data_, kRelaxed) == 42, "data is old");
      }
    }
    Middle middle_;
    u64 data_ = 0;
    u64 word_ = 0;
  };
  expect_proved(Explorer(with_threads(3), each<Sequence>(Middle::kAdd)).explore());
  expect_proved(Explorer(with_threads(3), each<Sequence>(Middle::kCas)).explore());
  expect_found(Explorer(with_threads(3), each<Sequence>(Middle::kStore)).explore(), "data is old");
}

TEST_F(ExplorerTest, AddsNeverGetLostAndLoadStoreDoes) {
  struct Counter : Scenario {
    explicit Counter(int how) : how_(how) {}
    void thread(int /*id*/) override {
      for (int i = 0; i < 2; ++i) {
        if (how_ == 0) {
          A::add(count_, u32{1}, kRelaxed);
        } else if (how_ == 1) {
          u32 seen = A::load(count_, kRelaxed);
          while (!A::cas(count_, seen, seen + 1, kAcqRel)) {
          }
        } else {
          A::store(count_, A::load(count_, kAcquire) + 1, kRelease);
        }
      }
    }
    void check_end() override {
      explorer_check(count_ == 6, "an addition was lost");
      explorer_check(neighbour_ == 7, "the other half of the 8 bytes changed");
    }
    int how_;
    alignas(8) u32 count_ = 0;
    u32 neighbour_ = 7;
  };
  expect_proved(Explorer(with_threads(3), each<Counter>(0)).explore());
  expect_proved(Explorer(with_threads(3), each<Counter>(1)).explore());
  expect_found(Explorer(with_threads(3), each<Counter>(2)).explore(), "an addition was lost");
}

// ------------------------------------------------------------------------------------------- copies: seqlock, a ring

// The optimistic copy of core.md: `reclaim` is stored before the bytes are overwritten, and read after they are copied.
struct OptimisticCopy : Scenario {
  OptimisticCopy(bool overwrite, bool overread, u64* accepted)
      : overwrite_(overwrite), overread_(overread), accepted_(accepted) {}
  void thread(int id) override {
    if (id == 0) {
      A::store(reclaim_, u64{1}, kRelaxed);
      if (overwrite_) A::overwrite_fence();
      const std::array<u8, 20> bytes = filled(2);
      A::copy_in(bytes_, bytes.data(), bytes.size());
    } else {
      std::array<u8, 20> bytes{};
      A::copy_out(bytes.data(), bytes_, bytes.size());
      if (overread_) A::overread_fence();
      if (A::load(reclaim_, kRelaxed) != 0) return;
      ++*accepted_;
      explorer_check(bytes == filled(0), "a torn copy was accepted");
    }
  }
  static std::array<u8, 20> filled(u8 value) {
    std::array<u8, 20> bytes{};
    bytes.fill(value);
    return bytes;
  }
  bool overwrite_;
  bool overread_;
  u64* accepted_;
  u64 reclaim_ = 0;
  alignas(8) u8 bytes_[24] = {};
};

TEST_F(ExplorerTest, FencedOptimisticCopyNeverAcceptsATornCopy) {
  Options options;
  options.copy_points = 3;
  u64 accepted = 0;
  expect_proved(Explorer(options, each<OptimisticCopy>(true, true, &accepted)).explore());
  EXPECT_GT(accepted, 0u);
}

TEST_F(ExplorerTest, OptimisticCopyNeedsBothFences) {
  u64 accepted = 0;
  expect_found(Explorer({}, each<OptimisticCopy>(false, true, &accepted)).explore(), "a torn copy was accepted");
  expect_found(Explorer({}, each<OptimisticCopy>(true, false, &accepted)).explore(), "a torn copy was accepted");
}

TEST_F(ExplorerTest, UnalignedCopiesKeepTheirNeighbours) {
  struct Ragged : Scenario {
    explicit Ragged(std::set<std::string>* seen) : seen_(seen) {}
    void thread(int id) override {
      if (id == 0) {
        A::copy_in(bytes_ + 3, "abcdefgh", 8);
      } else {
        std::array<char, 9> text{};
        A::copy_out(text.data(), bytes_ + 3, 8);
        text_ = text;
      }
    }
    void check_end() override {
      seen_->insert(text_.data());
      explorer_check(std::string(reinterpret_cast<char*>(bytes_), 16) == "...abcdefgh.....", "a neighbour changed");
    }
    std::set<std::string>* seen_;
    std::array<char, 9> text_{};
    alignas(8) u8 bytes_[16] = {'.', '.', '.', '.', '.', '.', '.', '.', '.', '.', '.', '.', '.', '.', '.', '.'};
  };
  std::set<std::string> seen;
  expect_proved(Explorer({}, each<Ragged>(&seen)).explore());
  EXPECT_EQ(seen, (std::set<std::string>{"........", "abcde...", ".....fgh", "abcdefgh"}));
}

// A ring of two cells, three messages: enough to lap.
struct Ring : Scenario {
  Ring(std::memory_order publish, std::memory_order free) : publish_(publish), free_(free) {
    name_word(&tail_, "tail");
    name_word(&head_, "head");
    name_words(cells_, sizeof(cells_), sizeof(cells_[0]), "cells");
  }
  void thread(int id) override {
    for (u64 seq = 0; seq < 3; ++seq) {
      if (id == 0) {
        while (seq - A::load(head_, kAcquire) == 2) A::pause();
        const u64 payload[2] = {seq + 1, ~(seq + 1)};
        A::copy_in(cells_[seq % 2], payload, sizeof(payload));
        A::kill_point("ring.written");
        A::store(tail_, seq + 1, publish_);
      } else {
        while (A::load(tail_, kAcquire) == seq) A::pause();
        u64 payload[2] = {};
        A::copy_out(payload, cells_[seq % 2], sizeof(payload));
        explorer_check(payload[0] == seq + 1 && payload[1] == ~(seq + 1), "foreign bytes");
        A::store(head_, seq + 1, free_);
      }
    }
  }
  void check_end() override {
    explorer_check_equal(tail_, 3, "published");
    explorer_check_equal(head_, 3, "consumed");
  }
  std::memory_order publish_;
  std::memory_order free_;
  u64 tail_ = 0;
  u64 head_ = 0;
  u64 cells_[2][2] = {};
};

TEST_F(ExplorerTest, RingWithOneProducerAndOneConsumerIsProved) {
  const Result result = Explorer({}, each<Ring>(kRelease, kRelease)).explore();
  expect_proved(result);
  EXPECT_GT(result.stale_reads, 0u);
  EXPECT_GT(result.preemptions, 0u);
  RecordProperty("executions", std::to_string(result.executions));
}

TEST_F(ExplorerTest, RingWithARelaxedPublishIsCaught) {
  expect_found(Explorer({}, each<Ring>(kRelaxed, kRelease)).explore(), "foreign bytes");
}

TEST_F(ExplorerTest, RandomWalkCatchesTheRelaxedPublishAndIsGivenByItsSeed) {
  Explorer explorer({}, each<Ring>(kRelaxed, kRelease));
  const Result result = explorer.walk(7, 100'000);
  expect_found(result, "foreign bytes");
  const Result again = explorer.walk(7, 100'000);
  EXPECT_EQ(again.executions, result.executions);
  EXPECT_EQ(again.choices, result.choices);
  const Result replayed = explorer.replay(result.choices);
  EXPECT_EQ(replayed.trace, result.trace);
}

TEST_F(ExplorerTest, RandomWalkOfACorrectRingFindsNothing) {
  const Result result = Explorer({}, each<Ring>(kRelease, kRelease)).walk(7, 2'000);
  EXPECT_FALSE(result.failed) << result.text();
  EXPECT_EQ(result.executions, 2'000u);
}

// -------------------------------------------------------------------------------------------------- replay and trace

TEST_F(ExplorerTest, ReplayShowsTheSameFailureWithTheSameTrace) {
  const Result found = Explorer({}, each<Ring>(kRelaxed, kRelease)).explore();
  ASSERT_TRUE(found.failed);
  const Result replayed = Explorer({}, each<Ring>(kRelaxed, kRelease)).replay(found.choices);
  EXPECT_TRUE(replayed.failed);
  EXPECT_EQ(replayed.executions, 1u);
  EXPECT_EQ(replayed.message, found.message);
  EXPECT_EQ(replayed.trace, found.trace);
  EXPECT_NE(found.trace.find("T0 store relaxed tail = 1"), std::string::npos) << found.trace;
  EXPECT_NE(found.trace.find("T0 -- ring.written"), std::string::npos) << found.trace;
  EXPECT_NE(found.trace.find("STALE"), std::string::npos) << found.trace;
  EXPECT_NE(found.trace.find("cells[0]"), std::string::npos) << found.trace;
  EXPECT_NE(found.trace.find("FAILED: foreign bytes"), std::string::npos) << found.trace;
}

TEST_F(ExplorerTest, ReplayRefusesWhatIsNoChoiceVector) {
  Explorer explorer({}, each<Ring>(kRelease, kRelease));
  EXPECT_TRUE(explorer.replay("nonsense").failed);
  EXPECT_TRUE(explorer.replay("dfs 0 x").failed);
  expect_found(explorer.replay("dfs 9"), "these choices do not fit this scenario and these options");
}

// ----------------------------------------------------------------------------------------------------- kill and stop

struct Steps : Scenario {
  explicit Steps(Outcomes* outcomes) : outcomes_(outcomes) {}
  void thread(int id) override {
    if (id == 0) {
      A::store(word_, u64{1}, kRelaxed);
      A::store(word_, u64{2}, kRelaxed);
      A::store(word_, u64{3}, kRelaxed);
    } else {
      killed_ = explorer_wait_end(0);
      // The kernel's word for a death comes after the dead thread's last store: nothing stale here.
      found_ = A::load(word_, kRelaxed);
    }
  }
  void check_end() override {
    explorer_check(found_ == word_, "a store of the dead was not visible");
    ++(*outcomes_)[std::to_string(found_) + (killed_ ? " killed" : " ended")];
  }
  Outcomes* outcomes_;
  bool killed_ = false;
  u64 found_ = 0;
  u64 word_ = 0;
};

TEST_F(ExplorerTest, AThreadIsKilledAtEachAccessAndAtItsEnd) {
  Options options;
  options.kills_max = 1;
  options.killable = 0b01;
  Outcomes outcomes;
  const Result result = Explorer(options, each<Steps>(&outcomes)).explore();
  expect_proved(result);
  EXPECT_EQ(outcomes.size(), 5u);
  for (const char* text : {"0 killed", "1 killed", "2 killed", "3 killed", "3 ended"})
    EXPECT_GT(outcomes[text], 0u) << text;
  EXPECT_GT(result.kills, 0u);
  EXPECT_LT(result.kills, result.executions);
}

TEST_F(ExplorerTest, NobodyIsKilledWithoutABudget) {
  Options options;
  options.killable = 0b01;
  Outcomes outcomes;
  const Result result = Explorer(options, each<Steps>(&outcomes)).explore();
  expect_proved(result);
  EXPECT_EQ(result.kills, 0u);
  EXPECT_EQ(outcomes.size(), 1u);
}

TEST_F(ExplorerTest, ACopyIsCutByAKill) {
  struct Cut : Scenario {
    explicit Cut(std::set<u64>* seen) : seen_(seen) {}
    void thread(int id) override {
      const u64 payload[4] = {1, 1, 1, 1};
      if (id == 0) A::copy_in(words_, payload, sizeof(payload));
    }
    void check_end() override { seen_->insert(words_[0] + words_[1] + words_[2] + words_[3]); }
    std::set<u64>* seen_;
    u64 words_[4] = {};
  };
  Options options = with_threads(1);
  options.kills_max = 1;
  options.killable = 1;
  std::set<u64> seen;
  expect_proved(Explorer(options, each<Cut>(&seen)).explore());
  EXPECT_EQ(seen, (std::set<u64>{0, 2, 4}));
  seen.clear();
  options.copy_points = 9;
  expect_proved(Explorer(options, each<Cut>(&seen)).explore());
  EXPECT_EQ(seen, (std::set<u64>{0, 1, 2, 3, 4}));
}

struct StopScenario : Scenario {
  explicit StopScenario(u64* resumed) : resumed_(resumed) {}
  void thread(int id) override {
    for (int i = 0; i < 2; ++i) {
      const u64 turn = A::add(turns_, u64{1}, kRelaxed);
      (id == 0 ? last_of_first_ : last_of_second_) = turn;
    }
  }
  void on_resumed(int id, bool others_ended) override {
    ++*resumed_;
    explorer_check(id == 0 && others_ended, "resumed while the other could still run");
    explorer_check(last_of_second_ == turns_ - 1, "the other was not the last to run");
    was_stopped_ = true;
  }
  void check_end() override {
    explorer_check(turns_ == 4, "a thread did not finish");
    explorer_check(!was_stopped_ || last_of_first_ == 3, "the stopped thread did not finish last");
  }
  u64* resumed_;
  bool was_stopped_ = false;
  u64 last_of_first_ = 0;
  u64 last_of_second_ = 0;
  u64 turns_ = 0;
};

TEST_F(ExplorerTest, AStoppedThreadGoesOnAfterTheOthers) {
  Options options;
  options.preemptions_max = 0;
  options.stops_max = 1;
  options.stoppable = 0b01;
  u64 resumed = 0;
  const Result result = Explorer(options, each<StopScenario>(&resumed)).explore();
  expect_proved(result);
  EXPECT_EQ(result.stops, 2u);  // before each of its two accesses; not where it runs after the other
  EXPECT_EQ(resumed, result.stops);
}

// Progress: a thread that waits for a stopped one is seen as waiting when the stopped one goes on.
TEST_F(ExplorerTest, AThreadThatDependsOnAStoppedOneIsSeen) {
  struct Dependent : Scenario {
    void thread(int id) override {
      if (id == 0) {
        A::store(word_, u64{1}, kRelease);
      } else {
        while (A::load(word_, kAcquire) == 0) A::pause();
      }
    }
    void on_resumed(int /*id*/, bool others_ended) override {
      explorer_check(others_ended, "held up by a stopped thread");
    }
    u64 word_ = 0;
  };
  expect_proved(Explorer({}, each<Dependent>()).explore());
  Options options;
  options.stops_max = 1;
  expect_found(Explorer(options, each<Dependent>()).explore(), "held up by a stopped thread");
}

// ------------------------------------------------------------------------------------------------------- reduction

// Small programs from a seed: what they can end as must not depend on `reduce`.
struct Op {
  enum class Kind { kLoad, kStore, kAdd, kCas, kLight, kSleep, kFull, kCopyIn, kCopyOut, kAwait, kLook };
  Kind kind;
  u32 word;
  std::memory_order order;
};
struct Program {
  std::vector<std::vector<Op>> threads;
};

u64 next_random(u64& state) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return state >> 33;
}

Program random_program(u64 seed) {
  constexpr std::array kLoads{kRelaxed, kAcquire, kSeqCst};
  constexpr std::array kStores{kRelaxed, kRelease, kSeqCst};
  constexpr std::array kBoth{kRelaxed, kAcqRel, kSeqCst};
  u64 state = seed * 77 + 5;
  Program program;
  program.threads.resize(2 + next_random(state) % 2);
  for (auto& ops : program.threads) {
    const u64 count = program.threads.size() == 2 ? 4 : 2 + next_random(state) % 2;
    for (u64 i = 0; i < count; ++i) {
      Op op{static_cast<Op::Kind>(next_random(state) % 14 % 11), static_cast<u32>(next_random(state) % 3), kRelaxed};
      const std::size_t order = next_random(state) % 3;
      if (op.kind == Op::Kind::kLoad) op.order = kLoads[order];
      if (op.kind == Op::Kind::kStore) op.order = kStores[order];
      if (op.kind == Op::Kind::kAdd || op.kind == Op::Kind::kCas) op.order = kBoth[order];
      ops.push_back(op);
    }
  }
  return program;
}

struct Running : Scenario {
  Running(const Program* program, std::set<std::string>* outcomes) : program_(program), outcomes_(outcomes) {}
  void thread(int id) override {
    u32 i = 0;
    for (const Op& op : program_->threads[static_cast<std::size_t>(id)]) {
      u64& seen = seen_[id][i++];
      u64& word = words_[op.word];
      const u64 unique = static_cast<u64>(id) * 10 + i;
      std::array<u64, 2> pair{unique, unique};
      switch (op.kind) {
        case Op::Kind::kLoad: seen = A::load(word, op.order); break;
        case Op::Kind::kStore: A::store(word, unique, op.order); break;
        case Op::Kind::kAdd: seen = A::add(word, u64{100}, op.order); break;
        case Op::Kind::kCas: A::cas(word, seen, unique, op.order); break;
        case Op::Kind::kLight: A::publish_fence(false); break;
        case Op::Kind::kSleep: A::sleep_fence(); break;
        case Op::Kind::kFull: A::publish_fence(true); break;
        case Op::Kind::kCopyIn: A::copy_in(words_, pair.data(), sizeof(pair)); break;
        case Op::Kind::kCopyOut:
          A::copy_out(pair.data(), words_, sizeof(pair));
          seen = pair[0] * 1000 + pair[1];
          break;
        case Op::Kind::kAwait:
          while ((seen = A::load(word, kAcquire)) == 0) A::pause();
          break;
        case Op::Kind::kLook: seen = explorer_is_killed(id == 0 ? 1 : 0) ? 1 : 0; break;
      }
    }
    ended_[id] = 1;
  }
  bool on_stuck() override { return true; }
  void check_end() override {
    std::string text;
    for (const auto& thread : seen_) {
      for (const u64 value : thread) text += std::to_string(value) + " ";
    }
    for (const u64 value : words_) text += std::to_string(value) + " ";
    for (const u64 value : ended_) text += std::to_string(value);
    outcomes_->insert(text);
  }
  const Program* program_;
  std::set<std::string>* outcomes_;
  u64 seen_[3][4] = {};
  u64 ended_[3] = {};
  u64 words_[3] = {};
};

TEST_F(ExplorerTest, ReductionLosesNoOutcomeOfRandomPrograms) {
  u64 all_executions = 0;
  u64 reduced_executions = 0;
  for (u64 seed = 400; seed < 550; ++seed) {
    const Program program = random_program(seed);
    Options options = with_threads(static_cast<int>(program.threads.size()));
    options.preemptions_max = static_cast<int>(seed % 4);
    options.stale_max = seed % 2 == 0 ? 1 : 0;
    options.kills_max = seed % 3 == 0 ? 1 : 0;
    options.killable = 0b011;
    options.stops_max = seed % 5 == 0 ? 1 : 0;
    std::set<std::string> reduced;
    std::set<std::string> all;
    const Result short_result = Explorer(options, each<Running>(&program, &reduced)).explore();
    options.reduce = false;
    const Result long_result = Explorer(options, each<Running>(&program, &all)).explore();
    expect_proved(short_result);
    expect_proved(long_result);
    ASSERT_EQ(reduced, all) << "seed " << seed;
    all_executions += long_result.executions;
    reduced_executions += short_result.executions;
  }
  EXPECT_LT(reduced_executions, all_executions);
  RecordProperty("all", std::to_string(all_executions));
  RecordProperty("reduced", std::to_string(reduced_executions));
}

// ------------------------------------------------------------------------------------------------ waiting for nothing

struct Deadlock : Scenario {
  explicit Deadlock(bool acceptable) : acceptable_(acceptable) {}
  void thread(int id) override {
    while (A::load(words_[id], kAcquire) == 0) A::pause();
    A::store(words_[1 - id], u64{1}, kRelease);
  }
  bool on_stuck() override { return acceptable_; }
  bool acceptable_;
  u64 words_[2] = {0, 0};
};

TEST_F(ExplorerTest, ADeadlockIsReportedUnlessTheScenarioAcceptsIt) {
  const Result found = Explorer({}, each<Deadlock>(false)).explore();
  expect_found(found, "stuck: nobody is left to wake T0 in pause() T1 in pause()");
  EXPECT_EQ(found.stuck, 1u);
  const Result accepted = Explorer({}, each<Deadlock>(true)).explore();
  expect_proved(accepted);
  EXPECT_EQ(accepted.stuck + accepted.cut, accepted.executions);
}

TEST_F(ExplorerTest, SpinningWithoutPauseIsALivelock) {
  struct Spin : Scenario {
    void thread(int /*id*/) override {
      while (A::load(word_, kAcquire) == 0) {
      }
    }
    u64 word_ = 0;
  };
  Options options = with_threads(1);
  options.steps_max = 100;
  expect_found(Explorer(options, each<Spin>()).explore(), "livelock: more than 100 steps in one execution");
}

// The shape of a sleeping consumer: announce, fence, look again, futex. Without the fence a wake-up is lost.
TEST_F(ExplorerTest, ALostWakeUpIsADeadlock) {
  struct Sleeper : Scenario {
    Sleeper(bool hot, bool cold) : hot_(hot), cold_(cold) {}
    void thread(int id) override {
      if (id == 0) {
        A::store(message_, u64{1}, kRelease);
        if (hot_) A::publish_fence(false);
        if (A::load(sleepers_, kRelaxed) == 0) return;
        A::add(bell_, u32{1}, kRelease);
        explorer_futex_wake(bell_, 1);
      } else {
        while (A::load(message_, kAcquire) == 0) {
          const u32 bell = A::load(bell_, kAcquire);
          A::store(sleepers_, u32{1}, kRelaxed);
          if (cold_) A::sleep_fence();
          if (A::load(message_, kAcquire) == 0) explorer_futex_wait(bell_, bell);
          A::store(sleepers_, u32{0}, kRelaxed);
        }
      }
    }
    bool hot_;
    bool cold_;
    u64 message_ = 0;
    u32 sleepers_ = 0;
    u32 bell_ = 0;
  };
  expect_proved(Explorer({}, each<Sleeper>(true, true)).explore());
  expect_found(Explorer({}, each<Sleeper>(false, true)).explore(), "stuck: nobody is left to wake T1 in futex_wait");
  expect_found(Explorer({}, each<Sleeper>(true, false)).explore(), "stuck: nobody is left to wake T1 in futex_wait");
}

// ------------------------------------------------------------------------------------------------- misuse is reported

TEST_F(ExplorerTest, AFailedCheckAtTheEndNamesBothValues) {
  struct Wrong : Scenario {
    void thread(int /*id*/) override { A::add(word_, u64{1}, kRelaxed); }
    void check_end() override { explorer_check_equal(word_, 3, "additions"); }
    u64 word_ = 0;
  };
  expect_found(Explorer({}, each<Wrong>()).explore(), "additions: is 2, not 3");
}

TEST_F(ExplorerTest, PlainWritesMixedSizesChanceAndExceptionsAreReported) {
  struct Misuse : Scenario {
    explicit Misuse(int what) : what_(what) { name_word(&word_, "word"); }
    void thread(int id) override {
      if (id != 0) return;
      A::load(word_, kRelaxed);
      if (what_ == 0) word_ = 1;
      if (what_ == 1) A::load(*reinterpret_cast<const u32*>(bytes_), kRelaxed);
      if (what_ == 1) A::load(*reinterpret_cast<const u64*>(bytes_), kRelaxed);
      if (what_ == 2) throw std::runtime_error("thrown");
      A::load(word_, kRelaxed);
    }
    int what_;
    u64 word_ = 0;
    alignas(8) u8 bytes_[8] = {};
  };
  EXPECT_NE(Explorer({}, each<Misuse>(0)).explore().message.find("without the Atomics policy"), std::string::npos);
  EXPECT_NE(Explorer({}, each<Misuse>(1)).explore().message.find("with 4 and with 8 bytes"), std::string::npos);
  expect_found(Explorer({}, each<Misuse>(2)).explore(), "an exception left the thread: thrown");

  struct Dice : Scenario {
    explicit Dice(int* rolls) : rolls_(rolls) {}
    void thread(int id) override {
      if (++*rolls_ > 6 && id == 0) return;
      A::store(word_, u64{1}, kRelaxed);
      A::store(word_, u64{2}, kRelaxed);
    }
    int* rolls_;
    u64 word_ = 0;
  };
  int rolls = 0;
  expect_found(Explorer({}, each<Dice>(&rolls)).explore(),
               "the scenario is not deterministic: the same choices led elsewhere");
}

// Not a test of speed, but the number by which one judges how far a bound can go.
TEST_F(ExplorerTest, ReportsItsSpeed) {
  Outcomes outcomes;
  struct Quiet : StoreBuffering {
    using StoreBuffering::StoreBuffering;
    void check_end() override {}
  };
  const Result tiny = Explorer({}, each<Quiet>(Between::kNothing, &outcomes)).walk(1, 200'000);
  Options options;
  options.stale_max = 1;
  const Result ring = Explorer(options, each<Ring>(kRelease, kRelease)).explore();
  options.reduce = false;
  const Result whole = Explorer(options, each<Ring>(kRelease, kRelease)).explore();
  std::printf("store buffering: %s\nring: %s\nunreduced: %s\n", tiny.text().c_str(), ring.text().c_str(),
              whole.text().c_str());
  EXPECT_EQ(tiny.executions, 200'000u);
  EXPECT_TRUE(ring.exhaustive);
}

}  // namespace
}  // namespace mooring::model
