// pingpong-spsc, pingpong-mpmc, pingpong-parked: the round trip over two queues, by the loops that also measure the
// limits (bench/support/ping_pong.hpp).
//
// A message is settled after the reply has left, in the time in which the answer travels: that is what a server which
// cares for latency does. In an exclusive group the message lies in the ring until then; a competing group holds the
// lease.
#include "bench/support/ping_pong.hpp"
#include "bench/scenarios/role_handles.hpp"
#include "bench/scenarios/scenario.hpp"
#include "bench/support/limits.hpp"

namespace mooring::bench {

namespace {

struct PingPongPlan {
  unsigned kind = MOORING_KIND_SPSC;
  unsigned wait = MOORING_WAIT_SPIN;
  bool exclusive = true;
  u64 think_ns = 0;
  bool early = false;  // durable queues whose messages are seen before they are on the disk
};

class QueueSender {
 public:
  // It never waits for a flush: on volatile queues there is none.
  QueueSender(const std::shared_ptr<Instance>& instance, const std::string& queue, u64 size_bytes, unsigned wait)
      : instance_(instance),
        producer_(open_bench_producer(*instance, queue, wait, MOORING_NO_WAIT)),
        size_bytes_(size_bytes) {}
  template <class Write>
  bool send(u64 /*round*/, Write&& write, PollGuard& guard) {
    void* to = nullptr;
    while (!done(mooring_reserve(producer_.get(), size_bytes_, kLookAround_ns, &to))) {
      if (guard.look_now()) return false;
    }
    write(to);
    done(mooring_commit(producer_.get(), size_bytes_, nullptr));
    return true;
  }

 private:
  std::shared_ptr<Instance> instance_;  // before the handle: it must outlive it
  Producer producer_;
  u64 size_bytes_;
};

class QueueReceiver {
 public:
  QueueReceiver(const std::shared_ptr<Instance>& instance, const std::string& queue, const std::string& group,
                u64 size_bytes, unsigned wait)
      : instance_(instance), consumer_(open_bench_consumer(*instance, queue, group, wait)), size_bytes_(size_bytes) {}
  template <class Size>
  bool receive(u64 round, void* to, Size size, PollGuard& guard) {
    if (holds_ && !done(mooring_ack(consumer_.get(), &message_))) {
      throw std::runtime_error("the delivery of round " + std::to_string(round - 1) + " was taken from its consumer");
    }
    holds_ = false;
    while (!done(mooring_receive(consumer_.get(), &message_, kLookAround_ns))) {
      if (guard.look_now()) return false;
    }
    holds_ = true;
    if (message_.size != size_bytes_) {
      throw std::runtime_error("round " + std::to_string(round) + " came with " + std::to_string(message_.size) +
                               " bytes instead of " + std::to_string(size_bytes_));
    }
    std::memcpy(to, message_.data, size);
    return true;
  }

 private:
  std::shared_ptr<Instance> instance_;
  Consumer consumer_;
  mooring_message message_{};
  u64 size_bytes_;
  bool holds_ = false;
};

Result<Measurement> queue_ping_pong(PrivateInstance& instance, const std::string& name, const PingPongPlan& plan,
                                    const ScenarioOptions& options) {
  mooring_queue_options queue_options = bench_queue_options(plan.kind, options.size_bytes);
  if (plan.early) {
    queue_options.durability = MOORING_DURABLE;
    queue_options.deliver = MOORING_DELIVER_EARLY;
  }
  BenchQueue ping(instance, queue_options);
  BenchQueue pong(instance, queue_options);
  std::string group = "default";
  if (plan.kind == MOORING_KIND_MPMC && plan.exclusive) {
    ping.use_exclusive_groups(1);
    pong.use_exclusive_groups(1);
    group = BenchQueue::exclusive_group(0);
  }
  const auto ends = [&](bool initiator) {
    const auto connection = std::make_shared<Instance>(instance.connect());
    const BenchQueue& out = initiator ? ping : pong;
    const BenchQueue& in = initiator ? pong : ping;
    return PingPongEnds<QueueSender, QueueReceiver>{
        QueueSender(connection, out.name(), options.size_bytes, plan.wait),
        QueueReceiver(connection, in.name(), group, options.size_bytes, plan.wait)};
  };
  return ping_pong(name, options.size_bytes, {options.seconds, options.nice_value, plan.think_ns}, ends);
}

LimitOptions limit_options(const ScenarioOptions& options) { return {options.seconds, options.nice_value}; }

}  // namespace

Result<std::vector<ScenarioLine>> run_ping_pong_spsc(const Scenario& scenario, const ScenarioOptions& options,
                                                     PrivateInstance& instance) {
  // Larger messages have no one-line limit; they are compared with the largest that has.
  const u64 limit_bytes = std::min(options.size_bytes, kOneLinePayloadMax);
  return compare(
      scenario, options,
      {"ring_exchange_one_line", [&] { return ring_exchange_one_line(limit_bytes, limit_options(options)); }},
      {{"spsc", [&] { return queue_ping_pong(instance, scenario.name, {}, options); }}});
}

Result<std::vector<ScenarioLine>> run_ping_pong_mpmc(const Scenario& scenario, const ScenarioOptions& options,
                                                     PrivateInstance& instance) {
  const u64 limit_bytes = std::min(options.size_bytes, kExchangeLineBytes);
  std::vector<KindRun> kinds;
  for (const bool exclusive : {true, false}) {
    const char* kind = exclusive ? "exclusive" : "competing";
    if (!wants_kind(options, kind)) continue;
    const PingPongPlan plan{MOORING_KIND_MPMC, MOORING_WAIT_SPIN, exclusive, 0, false};
    kinds.push_back({kind, [&, plan] { return queue_ping_pong(instance, scenario.name, plan, options); }});
  }
  return compare(
      scenario, options,
      {"ring_exchange_two_line", [&] { return ring_exchange_two_line(limit_bytes, limit_options(options)); }}, kinds);
}

// What the journal beside them costs two queues that do not wait for it; the limit is the same pair, volatile.
Result<std::vector<ScenarioLine>> run_ping_pong_early(const Scenario& scenario, const ScenarioOptions& options,
                                                      PrivateInstance& instance) {
  const PingPongPlan plain{MOORING_KIND_MPMC, MOORING_WAIT_SPIN, true, 0, false};
  PingPongPlan early = plain;
  early.early = true;
  return compare(
      scenario, options,
      {"volatile_ping_pong", [&] { return queue_ping_pong(instance, "volatile_ping_pong", plain, options); }},
      {{"early", [&] { return queue_ping_pong(instance, scenario.name, early, options); }}});
}

Result<std::vector<ScenarioLine>> run_ping_pong_parked(const Scenario& scenario, const ScenarioOptions& options,
                                                       PrivateInstance& instance) {
  const u64 limit_bytes = std::min(options.size_bytes, kOneLinePayloadMax);
  const PingPongPlan plan{MOORING_KIND_SPSC, MOORING_WAIT_SLEEP, true, kParkedThink_ns, false};
  return compare(scenario, options,
                 {"futex_round_trip", [&] { return futex_round_trip(limit_bytes, limit_options(options)); }},
                 {{"spsc", [&] { return queue_ping_pong(instance, scenario.name, plan, options); }}});
}

}  // namespace mooring::bench
