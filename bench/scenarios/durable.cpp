// durable-latency, durable-throughput: what a flush costs a queue, against the disk itself.
//
// durable-latency: one producer, one message outstanding, publish returns after the flush; the limit is a bare 4 KiB
// write and flush. "asleep": the publisher sleeps while it waits; "spinning": it polls, and meets the journal before
// that goes to sleep.
// durable-throughput: producers that do not wait (MOORING_NO_WAIT), one consumer of an exclusive group that sees only
// what is on the disk, so a message that was counted was durable; the limit is the ideal group commit loop. The log has
// grown to the size it needs before the time begins (flow.cpp), as the file of the limit has.
#include "bench/scenarios/flow.hpp"
#include "bench/scenarios/role_handles.hpp"
#include "bench/support/content.hpp"
#include "bench/support/disk_limits.hpp"
#include "bench/support/poll_guard.hpp"
#include "bench/support/samples.hpp"
#include "bench/support/shared_memory.hpp"

namespace mooring::bench {

namespace {

struct DurableBoard {
  LatencyHistogram publishes;
  u64 published;
};

Result<Measurement> publish_one_by_one(PrivateInstance& instance, const char* name, unsigned wait,
                                       const ScenarioOptions& options) {
  mooring_queue_options queue_options = bench_queue_options(MOORING_KIND_MPMC, options.size_bytes);
  queue_options.durability = MOORING_DURABLE;
  BenchQueue queue(instance, queue_options);
  auto shared_board = Shared<DurableBoard>::create();
  if (!shared_board) return fail(shared_board.error());
  DurableBoard& board = **shared_board;
  const auto publish = [&](RoleContext& role) -> Status {
    Instance connection = instance.connect();
    Producer producer = open_bench_producer(connection, queue.name(), wait);
    Consumer consumer = open_bench_consumer(connection, queue.name(), "default", MOORING_WAIT_SLEEP);
    const AlignedBytes message = aligned_bytes(options.size_bytes);
    board.publishes = LatencyHistogram{};
    PollGuard guard(role);
    if (Status started = role.wait_for_start(); !started) return started;
    const u64 end = ticks_now() + seconds_to_ticks(options.seconds);
    for (u64 round = 1;; ++round) {
      std::memcpy(message.get(), &round, std::min<std::size_t>(sizeof round, options.size_bytes));
      const u64 began = ticks_now();
      if (began >= end) break;
      std::uint64_t seq = 0;
      int code = mooring_publish(producer.get(), message.get(), options.size_bytes, MOORING_FOREVER, &seq);
      while (code == MOORING_TIMEOUT && seq != 0 && !guard.look_now()) {
        code = mooring_wait_durable(producer.get(), seq, kLookAround_ns);
      }
      if (!done(code)) return fail(Code::kTimeout, "a publish did not become durable");
      board.publishes.record(ticks_now() - began);
      ++board.published;
      // Taken off again, so that no backlog grows; not part of the time.
      mooring_message received;
      if (!done(mooring_receive(consumer.get(), &received, kNsPerSecond)) || received.seq != seq ||
          !done(mooring_ack(consumer.get(), &received))) {
        return fail(Code::kCorrupt, "what was published is not what is received");
      }
    }
    return {};
  };
  const std::array<Role, 1> roles{Role{std::string(name) + " publisher", publish}};
  const auto outcome = run_roles(roles, {seconds_to_watchdog_ns(options.seconds), options.nice_value});
  if (!outcome) return fail(outcome.error());
  Measurement result;
  result.name = name;
  result.size_bytes = options.size_bytes;
  result.messages = board.published;
  result.latency = board.publishes.summary();
  return result;
}

}  // namespace

Result<std::vector<ScenarioLine>> run_durable_latency(const Scenario& scenario, const ScenarioOptions& options,
                                                      PrivateInstance& instance) {
  std::vector<KindRun> kinds;
  for (const auto& [kind, wait] :
       {std::pair<const char*, unsigned>{"asleep", MOORING_WAIT_SLEEP}, {"spinning", MOORING_WAIT_SPIN}}) {
    if (!wants_kind(options, kind)) continue;
    kinds.push_back({kind, [&, wait = wait] { return publish_one_by_one(instance, scenario.name, wait, options); }});
  }
  return compare(scenario, options,
                 {"write_and_flush_4k",
                  [&] {
                    return write_and_flush(instance.path(), {options.seconds, options.nice_value});
                  }},
                 kinds);
}

Result<std::vector<ScenarioLine>> run_durable_throughput(const Scenario& scenario, const ScenarioOptions& options,
                                                         PrivateInstance& instance) {
  std::vector<KindRun> kinds;
  for (const unsigned producers : {1U, 2U}) {
    const char* kind = producers == 1 ? "one-producer" : "two-producers";
    if (!wants_kind(options, kind)) continue;
    FlowPlan plan;
    plan.name = scenario.name;
    plan.producers = producers;
    plan.groups = 1;
    plan.publish_batch = 16;
    plan.durable = true;
    kinds.push_back({kind, [&, plan] { return run_flow(instance, plan, options); }});
  }
  return compare(
      scenario, options,
      {"ideal_group_commit",
       [&] {
         return ideal_group_commit(instance.path(), options.size_bytes, {options.seconds, options.nice_value});
       }},
      kinds);
}

}  // namespace mooring::bench
