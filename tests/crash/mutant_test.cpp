// Shows: the oracle of the step tests is not blind. Each mutant lacks one word or one rule of the protocol, runs the
// scenarios that should notice, and must be caught; the same scenarios on the same policy without a fault are clean.
//
// How: crash/broken_atomics.hpp under the shipped templates, crash/step_run.hpp as in step_test, up to the first
// finding.
#include <gtest/gtest.h>

#include <cstdio>
#include <ostream>

#include "crash/broken_atomics.hpp"
#include "crash/scenarios.hpp"

namespace mooring::test {
namespace {

using Broken = Scenarios<BrokenAtomics>;
using List = Broken::List;

struct Mutant {
  friend std::ostream& operator<<(std::ostream& out, const Mutant& mutant) { return out << mutant.name; }

  std::string name;
  Fault fault = Fault::kNone;
  std::function<const void*(QueueMemory&)> word;  // for kWordNeverStored
  Misuse misuse;
  std::function<List()> scenarios;
};

List spsc_producers() { return Broken::producers(Delivery::kSpsc); }
List spsc_consumers() { return Broken::exclusive_consumers(Delivery::kSpsc); }
List mpmc_producers() { return Broken::producers(Delivery::kCompeting); }
List competing_consumers() { return Broken::competing_consumers(); }
List repairs() { return Broken::repairs(); }

const std::vector<Mutant>& mutants() {
  static const std::vector<Mutant> all = {
      {"LaneWithoutTheZeroAhead", Fault::kNoZeroes, {}, {}, spsc_producers},
      {"LanePublishesBeforeThePayloadIsThere", Fault::kReleaseIsRelaxed, {}, {}, spsc_producers},
      {"LaneCheckpointIsNeverRenewed",
       Fault::kWordNeverStored,
       [](QueueMemory& queue) -> const void* { return &queue.lane().head->checkpoint_current; },
       {},
       spsc_producers},
      {"CellIsPublishedBeforeTheFrameIsThere", Fault::kReleaseIsRelaxed, {}, {}, mpmc_producers},
      {"CellIsTakenByACompareAndAStore", Fault::kSplitSwap, {}, {}, mpmc_producers},
      {"LeaseIsTakenByACompareAndAStore", Fault::kSplitSwap, {}, {}, competing_consumers},
      {"ExclusiveConsumerAcksBeforeItCopies", Fault::kNone, {}, {.ack_before_copy = true}, spsc_consumers},
      {"CompetingConsumerAcksBeforeItCopies", Fault::kNone, {}, {.ack_before_copy = true}, competing_consumers},
      {"ShownIsNeverStored",
       Fault::kWordNeverStored,
       [](QueueMemory& queue) -> const void* { return &queue.group().head->shown; },
       {},
       spsc_consumers},
      {"AckedIsNeverStored",
       Fault::kWordNeverStored,
       [](QueueMemory& queue) -> const void* { return &queue.group().head->acked; },
       {},
       spsc_consumers},
      {"BaseIsNeverStored",
       Fault::kWordNeverStored,
       [](QueueMemory& queue) -> const void* { return &queue.group().head->base; },
       {},
       spsc_consumers},
      {"ReclaimIsNeverStored",
       Fault::kWordNeverStored,
       [](QueueMemory& queue) -> const void* { return &queue.lane(0).head->reclaim; },
       {},
       competing_consumers},
      {"BackIsNeverStored",
       Fault::kWordNeverStored,
       [](QueueMemory& queue) -> const void* { return &queue.group().head->back; },
       {},
       competing_consumers},
      {"MovedWithoutAnEntry",
       Fault::kWordNeverStored,
       [](QueueMemory& queue) -> const void* { return &queue.group().parks[0].word; },
       {},
       repairs},
      {"EntryWithoutASeq",
       Fault::kWordNeverStored,
       [](QueueMemory& queue) -> const void* { return &queue.group().parks[0].seq; },
       {},
       repairs},
      {"EntryWithoutALoc",
       Fault::kWordNeverStored,
       [](QueueMemory& queue) -> const void* { return &queue.group().parks[0].loc; },
       {},
       repairs},
      {"ReadyBitIsNeverSet",
       Fault::kWordNeverStored,
       [](QueueMemory& queue) -> const void* { return &queue.group().ready_bits[0]; },
       {},
       repairs},
      {"RepairByACompareAndAStore", Fault::kSplitSwap, {}, {}, repairs},
  };
  return all;
}

Plan plan_for(const Mutant& mutant) {
  Plan plan;
  plan.stop_at_first = true;
  plan.runs_max = 10;
  plan.misuse = mutant.misuse;
  plan.arm = [&mutant](QueueMemory& queue) {
    BrokenAtomics::fault = mutant.fault;
    BrokenAtomics::word = mutant.word ? mutant.word(queue) : nullptr;
  };
  return plan;
}

class MutantTest : public testing::TestWithParam<Mutant> {
 protected:
  void SetUp() override {
    const std::string why = Stepper::unavailable();
    if (!why.empty()) GTEST_SKIP() << why;
  }
};

TEST_P(MutantTest, IsCaught) {
  const Plan plan = plan_for(GetParam());
  Tally tally;
  for (const auto& scenario : GetParam().scenarios()) {
    StepRun<BrokenAtomics> steps(scenario, plan);
    steps.run();
    tally.add(steps.tally());
    if (!steps.findings().empty()) {
      std::printf("%s: caught by %s (after %lu snapshots, %lu kills, %lu pauses)\n", GetParam().name.c_str(),
                  steps.findings()[0].c_str(), static_cast<unsigned long>(tally.snapshots),
                  static_cast<unsigned long>(tally.kills), static_cast<unsigned long>(tally.pauses));
      return;
    }
  }
  ADD_FAILURE() << "nobody noticed";
}

INSTANTIATE_TEST_SUITE_P(Crash, MutantTest, testing::ValuesIn(mutants()),
                         [](const auto& mutant) { return mutant.param.name; });

// Else a mutant could be caught by the policy's own machinery.
TEST(Mutant, WithoutAFaultIsClean) {
  if (const std::string why = Stepper::unavailable(); !why.empty()) GTEST_SKIP() << why;
  const Mutant none{"None", Fault::kNone, {}, {}, {}};
  Plan plan = plan_for(none);
  plan.runs_max = 1;
  for (const auto& family : {spsc_producers, spsc_consumers, mpmc_producers, competing_consumers, repairs}) {
    for (const auto& scenario : family()) {
      StepRun<BrokenAtomics> steps(scenario, plan);
      steps.run();
      EXPECT_TRUE(steps.findings().empty()) << steps.findings()[0];
    }
  }
}

}  // namespace
}  // namespace mooring::test

int main(int argc, char** argv) {
  mooring::test::Stepper::pin_addresses(argv);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
