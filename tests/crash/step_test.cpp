// Shows: a process may be killed, or stopped and continued, at every single instruction of every operation of the ring
// and of the groups, and of their repair, without a lost, doubled, mixed up or dishonestly counted message, and without
// anybody else standing still.
//
// How: crash/step_run.hpp, over the scenarios of crash/scenarios.hpp, on the shipped code as it is shipped (-O2). By
// default every instruction is judged from a snapshot, and kills and pauses are made at chosen ones; the seed is
// printed.
//   MOORING_STEP_ALL=1     kills and pauses at all of them
//   MOORING_STEP_SEED=n    another choice
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "crash/scenarios.hpp"

namespace mooring::test {
namespace {

struct Ledger {
  std::map<std::string, Tally> operations;
  std::size_t families = 0;
};
Ledger ledger;

Plan plan_from_environment() {
  Plan plan;
  if (const char* seed = std::getenv("MOORING_STEP_SEED")) plan.seed = std::strtoull(seed, nullptr, 0);
  plan.all = std::getenv("MOORING_STEP_ALL") != nullptr;
  return plan;
}

class Step : public testing::Test {
 protected:
  void SetUp() override {
    const std::string why = Stepper::unavailable();
    if (!why.empty()) GTEST_SKIP() << why;
  }

  static void run(const std::string& family, const std::vector<Scenario<HardwareAtomics>>& scenarios) {
    const Plan plan = plan_from_environment();
    for (const Scenario<HardwareAtomics>& scenario : scenarios) {
      StepRun<HardwareAtomics> steps(scenario, plan);
      steps.run();
      ledger.operations[family + ": " + scenario.operation].add(steps.tally());
      const std::size_t shown = std::min<std::size_t>(steps.findings().size(), 3);
      for (std::size_t i = 0; i < shown; ++i) {
        ADD_FAILURE() << family << ": " << steps.findings()[i] << " (seed " << plan.seed << ", "
                      << steps.findings().size() << " findings)";
      }
    }
    ++ledger.families;
  }
};

// What kills and pauses rely on: a breakpoint stops the child where so many single steps would.
TEST_F(Step, BreakpointStopsWhereSteppingDoes) {
  if (!Stepper::can_run_to()) GTEST_SKIP() << "breakpoints are for x86-64; elsewhere everything is stepped";
  Shape shape = shape_of(Delivery::kSpsc);
  shape.notes = 1;
  const QueueMemory memory(shape);
  const auto count_up = [&] {
    for (u64 i = 0; i < 5; ++i) {
      HardwareAtomics::store(memory.notes[0], memory.notes[0] + 1, std::memory_order_relaxed);
    }
  };
  std::vector<u64> addresses;
  std::vector<u64> counts;
  {
    Stepper child(count_up, [] {});
    do {
      addresses.push_back(child.address());
      counts.push_back(memory.notes[0]);
    } while (child.step() == Stepper::Step::kStepped);
    ASSERT_EQ(child.trouble(), "");
  }
  ASSERT_EQ(memory.notes[0], 5U);
  for (std::size_t k = 0; k < addresses.size(); ++k) {
    memory.notes[0] = 0;
    const auto here = addresses.begin() + static_cast<std::ptrdiff_t>(k);
    Stepper child(count_up, [] {});
    const Stepper::Step at = child.run_to(*here, static_cast<u64>(std::count(addresses.begin(), here, *here)));
    EXPECT_EQ(memory.notes[0], counts[k]) << "after " << k << " instructions";
    // The last instruction is the system call of the marker itself: at full speed it is the end.
    if (k + 1 == addresses.size() && at == Stepper::Step::kEnded) continue;
    ASSERT_EQ(at, Stepper::Step::kStepped) << "after " << k << " instructions";
    EXPECT_EQ(child.address(), addresses[k]);
  }
}

using All = Scenarios<HardwareAtomics>;

TEST_F(Step, SpscProducer) { run("spsc", All::producers(Delivery::kSpsc)); }
TEST_F(Step, SpscConsumer) { run("spsc", All::exclusive_consumers(Delivery::kSpsc)); }
TEST_F(Step, MpmcProducerBeforeAnExclusiveGroup) { run("mpmc, exclusive", All::producers(Delivery::kExclusive)); }
TEST_F(Step, MpmcProducerBeforeACompetingGroup) { run("mpmc, competing", All::producers(Delivery::kCompeting)); }
TEST_F(Step, ExclusiveConsumer) { run("mpmc, exclusive", All::exclusive_consumers(Delivery::kExclusive)); }
TEST_F(Step, CompetingConsumer) { run("mpmc, competing", All::competing_consumers()); }
TEST_F(Step, Supervisor) { run("supervisor", All::repairs()); }

// The last one: what all of the above came to.
TEST_F(Step, EveryOperationWasSteppedKilledAndPaused) {
  if (ledger.families != 7) GTEST_SKIP() << "the other tests were filtered out";
  Tally total;
  std::printf("%-64s %12s %10s %8s %8s\n", "operation", "instructions", "snapshots", "kills", "pauses");
  for (const auto& [operation, tally] : ledger.operations) {
    std::printf("%-64s %12lu %10lu %8lu %8lu\n", operation.c_str(), static_cast<unsigned long>(tally.instructions),
                static_cast<unsigned long>(tally.snapshots), static_cast<unsigned long>(tally.kills),
                static_cast<unsigned long>(tally.pauses));
    EXPECT_GT(tally.instructions, 0U) << operation;
    EXPECT_GT(tally.snapshots, 0U) << operation;
    EXPECT_GT(tally.kills, 0U) << operation;
    EXPECT_GT(tally.pauses, 0U) << operation;
    total.add(tally);
  }
  std::printf("%-64s %12lu %10lu %8lu %8lu   seed %lu\n", "sum", static_cast<unsigned long>(total.instructions),
              static_cast<unsigned long>(total.snapshots), static_cast<unsigned long>(total.kills),
              static_cast<unsigned long>(total.pauses), static_cast<unsigned long>(plan_from_environment().seed));
  EXPECT_GE(total.kills, 3000U);
  EXPECT_GE(total.pauses, 3000U);
}

}  // namespace
}  // namespace mooring::test

int main(int argc, char** argv) {
  if (!mooring::test::Stepper::pin_addresses(argv)) {
    std::printf("Addresses stay randomised here: instruction counts are the same within this run only.\n");
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
