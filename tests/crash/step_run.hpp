// One scenario of the step tests, and the three ways to run it.
//
//   snapshots  one child; after every instruction that changed the block: what would recovery make of it, were the
//   child
//              dead now? Judged on the block itself, which is then put back. All instructions.
//   kills      one child for each chosen instruction, really killed there
//   pauses     one child for each chosen instruction, stopped there; the others work for several laps (a living owner
//   that
//              holds everybody up is parked by the supervisor, never robbed), then it goes on to its end and leaves
//
// Each run ends with Parties::finish(): repair, successors, three laps by everybody, and the oracle.
#pragma once

#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "crash/parties.hpp"
#include "crash/stepper.hpp"

namespace mooring::test {

template <class A>
struct Scenario {
  using Act = std::function<void(Parties<A>&)>;
  std::string operation;
  std::string state;
  Delivery delivery = Delivery::kSpsc;
  Role role = Role::kProducer;
  u32 who = 0;
  Act prepare;
  Act operate;

  std::string name() const { return operation + ", " + state; }
  // Need the others go on without limit while the victim is stopped? An exclusive consumer, the one producer of a lane
  // and the supervisor have nobody beside them: the others go on as far as the queue is wide.
  bool others_go_on() const {
    return (role == Role::kProducer && delivery != Delivery::kSpsc) ||
           (role == Role::kConsumer && delivery == Delivery::kCompeting);
  }
};

struct Tally {
  u64 instructions = 0;
  u64 snapshots = 0;
  u64 kills = 0;
  u64 pauses = 0;

  void add(const Tally& other) {
    instructions += other.instructions;
    snapshots += other.snapshots;
    kills += other.kills;
    pauses += other.pauses;
  }
};

struct Plan {
  u64 seed = 1;
  u64 runs_max = 14;  // kills, and pauses, for each scenario
  bool all = false;   // every instruction, however many
  bool stop_at_first = false;
  Misuse misuse;
  std::function<void(QueueMemory&)> arm;  // mutants: called on the fresh block
};

inline Shape shape_of(Delivery delivery) {
  Shape shape;
  shape.kind = delivery == Delivery::kSpsc ? QueueKind::kSpsc : QueueKind::kMpmc;
  shape.cells = 8;
  shape.words = 8;
  shape.parks = 4;
  shape.lanes = 3;
  shape.groups = {delivery == Delivery::kCompeting ? GroupMode::kCompeting : GroupMode::kExclusive};
  // The 32 bits of a frame's seq wrap within a lap or two.
  if (delivery == Delivery::kSpsc) shape.first_seq = (u64{1} << 32) - 12;
  shape.notes = kHistoryWords;
  return shape;
}

// Runs `act` in a child that is killed when it has changed the block for the `changes`-th time.
template <class A>
void die_midway(Parties<A>& parties, const std::function<void(Parties<A>&)>& act, u64 changes) {
  const QueueMemory& memory = parties.memory();
  Stepper child([&] { act(parties); }, [] {});
  std::vector<u8> last = memory.snapshot();
  for (u64 seen = 0; seen < changes && child.step() == Stepper::Step::kStepped;) {
    if (std::memcmp(last.data(), memory.data(), last.size()) == 0) continue;
    std::memcpy(last.data(), memory.data(), last.size());
    ++seen;
  }
  child.kill();
}
template <class A>
void supervisor_dies_midway(Parties<A>& parties, const std::function<void(Parties<A>&)>& act, u64 changes) {
  die_midway<A>(parties, act, changes);
  parties.bury(Role::kSupervisor, 0);
}

template <class A>
class StepRun {
 public:
  StepRun(const Scenario<A>& scenario, const Plan& plan)
      : scenario_(scenario),
        plan_(plan),
        memory_(shape_of(scenario.delivery)),
        prepared_(make(&memory_, scenario, plan)) {
    scenario_.prepare(prepared_);
    if constexpr (requires { A::land(); }) A::land();
    image_ = memory_.snapshot();
  }

  void run() {
    if (!run_snapshots() || enough()) return;
    std::mt19937_64 random(plan_.seed);
    run_kills(&random);
    if (!enough()) run_pauses(&random);
  }

  const Tally& tally() const { return tally_; }
  const std::vector<std::string>& findings() const { return findings_; }

 private:
  static Parties<A> make(QueueMemory* memory, const Scenario<A>& scenario, const Plan& plan) {
    if (plan.arm) plan.arm(*memory);
    return Parties<A>(memory, scenario.delivery, plan.misuse);
  }

  bool enough() const { return plan_.stop_at_first && !findings_.empty(); }
  void found(const std::string& mode, u64 k, const std::string& what) {
    findings_.push_back(scenario_.name() + ": " + mode + " at instruction " + std::to_string(k) + " of " +
                        std::to_string(length_) + ": " + what);
  }

  // A broken policy may keep stores back; none goes from one run to the next.
  static void begin_anew() {
    if constexpr (requires { A::forget(); }) A::forget();
  }

  Parties<A> start() {
    begin_anew();
    memory_.restore(image_);
    return prepared_;
  }

  std::string judge(Parties<A> survivors) const {
    begin_anew();
    survivors.bury(scenario_.role, scenario_.who);
    return survivors.finish();
  }

  void judge_snapshot(u64 k, std::vector<u8>* last) {
    std::memcpy(last->data(), memory_.data(), last->size());
    ++tally_.snapshots;
    const std::string verdict = judge(prepared_);
    if (!verdict.empty()) found("snapshot", k, verdict);
    memory_.restore(*last);
  }

  bool run_snapshots() {
    Parties<A> victim = start();
    Stepper child([&] { scenario_.operate(victim); }, [] {});
    std::vector<u8> last = image_;
    judge_snapshot(0, &last);
    addresses_ = {child.address()};
    for (u64 k = 1; !enough(); ++k) {
      const Stepper::Step at = child.step();
      length_ = k;
      if (at == Stepper::Step::kCrashed || k > kInstructionsMax) {
        found("snapshot", k, at == Stepper::Step::kCrashed ? child.trouble() : "the operation does not end");
        return false;
      }
      ++tally_.instructions;
      addresses_.push_back(child.address());
      if (std::memcmp(last.data(), memory_.data(), last.size()) != 0) {
        changes_.push_back(k);
        judge_snapshot(k, &last);
      }
      if (at == Stepper::Step::kEnded) break;
    }
    return true;
  }

  // Instructions to stop at: the end; one by chance in each of as many equal stretches as half of the runs allow; and
  // for the other half before or after a change of the block.
  std::vector<u64> choose(std::mt19937_64* random) const {
    std::vector<u64> wanted;
    if (plan_.all || length_ < plan_.runs_max) {
      for (u64 k = 0; k <= length_; ++k) wanted.push_back(k);
      return wanted;
    }
    wanted.push_back(length_);
    const u64 stretches = plan_.runs_max / 2;
    for (u64 i = 0; i < stretches; ++i) {
      const u64 from = length_ * i / stretches;
      const u64 to = length_ * (i + 1) / stretches;
      wanted.push_back(std::uniform_int_distribution<u64>(from, to - 1)(*random));
    }
    std::vector<u64> changes;
    for (const u64 k : changes_) {
      changes.push_back(k);
      changes.push_back(k - 1);
    }
    std::ranges::shuffle(changes, *random);
    for (const u64 k : changes) {
      if (wanted.size() < plan_.runs_max && std::ranges::find(wanted, k) == wanted.end()) wanted.push_back(k);
    }
    return wanted;
  }

  // Brings `child` to instruction k, or to its end.
  bool bring_to(Stepper* child, u64 k, const char* mode) {
    Stepper::Step at = Stepper::Step::kStepped;
    if (k >= length_) {
      at = child->run_to_end() ? Stepper::Step::kEnded : Stepper::Step::kCrashed;
    } else if (Stepper::can_run_to()) {
      const auto here = addresses_.begin() + static_cast<std::ptrdiff_t>(k);
      at = child->run_to(*here, static_cast<u64>(std::count(addresses_.begin(), here, *here)));
    } else {
      at = child->steps(k);
    }
    if (at == Stepper::Step::kCrashed) {
      found(mode, k, child->trouble());
      return false;
    }
    return true;  // a malloc inside may shift the end by some instructions
  }

  void run_kills(std::mt19937_64* random) {
    for (const u64 k : choose(random)) {
      if (enough()) return;
      Parties<A> victim = start();
      Stepper child([&] { scenario_.operate(victim); }, [] {});
      if (!bring_to(&child, k, "kill")) continue;
      child.kill();
      ++tally_.kills;
      const std::string verdict = judge(prepared_);
      if (!verdict.empty()) found("kill", k, verdict);
    }
  }

  // What the victim does once it goes on and is through.
  void leave(Parties<A>& victim) const {
    if (scenario_.role == Role::kProducer) {
      victim.publish(scenario_.who, 1);
      victim.publish(scenario_.who, 2);
    } else if (scenario_.role == Role::kConsumer) {
      while (victim.held_count(scenario_.who) != 0) victim.ack(scenario_.who, 0);
      if (victim.take(scenario_.who)) victim.ack(scenario_.who, 0);
      victim.show_base(scenario_.who);
    } else {
      victim.tick();
    }
  }

  void run_pauses(std::mt19937_64* random) {
    for (const u64 k : choose(random)) {
      if (enough()) return;
      Parties<A> victim = start();
      Stepper child([&] { scenario_.operate(victim); }, [&] { leave(victim); });
      if (!bring_to(&child, k, "pause")) continue;
      ++tally_.pauses;
      Parties<A> others = prepared_;
      others.pause(scenario_.role, scenario_.who);
      const bool went_on = others.run(kLapsWhileStopped * 8, scenario_.role != Role::kSupervisor);
      if (scenario_.others_go_on() && !went_on) found("pause", k, "the others stand still");
      if (!child.run_to_end() || !child.finish()) {
        found("pause", k, child.trouble());
        continue;
      }
      others.bury(scenario_.role, scenario_.who);
      const std::string verdict = others.finish();
      if (!verdict.empty()) found("pause", k, verdict);
    }
  }

  static constexpr u64 kInstructionsMax = 1'000'000;
  static constexpr u64 kLapsWhileStopped = 3;

  Scenario<A> scenario_;
  Plan plan_;
  QueueMemory memory_;
  Parties<A> prepared_;
  std::vector<u8> image_;
  std::vector<u64> addresses_;  // of the next instruction, after each number of steps
  std::vector<u64> changes_;    // instructions that changed the block
  u64 length_ = 0;
  Tally tally_;
  std::vector<std::string> findings_;
};

}  // namespace mooring::test
