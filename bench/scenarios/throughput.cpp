// throughput-spsc, throughput-mpmc, fanout: how many messages a second, against a stream written in place.
#include "bench/scenarios/flow.hpp"
#include "bench/support/limits.hpp"
#include "bench/support/peers.hpp"

namespace mooring::bench {

namespace {

constexpr u64 kBatchedBytesMax = 1024;
constexpr unsigned kPublishBatch = 16;

// Of large chunks four at a time are published: the ring holds only 16.
Contender stream_limit(const ScenarioOptions& options) {
  StreamOptions stream;
  stream.ring_bytes = bench_ring_bytes(options.size_bytes);
  stream.publish_every = options.size_bytes >= 65536 ? 4 : 16;
  return {"stream_in_place",
          [&options, stream] {
            return stream_in_place(options.size_bytes, stream, {options.seconds, options.nice_value});
          }};
}

Contender peer_of(const ScenarioOptions& options, Peer peer, unsigned producers, unsigned consumers) {
  PeerOptions beside;
  beside.seconds = options.seconds;
  beside.ring_bytes = bench_ring_bytes(options.size_bytes);
  beside.producers = producers;
  beside.consumers = consumers;
  beside.nice_value = options.nice_value;
  return {peer_name(peer), [&options, peer, beside] { return peer_throughput(peer, options.size_bytes, beside); }};
}

KindRun flow_kind(const char* kind, PrivateInstance& instance, const ScenarioOptions& options, const FlowPlan& plan) {
  return {kind, [&instance, &options, plan] { return run_flow(instance, plan, options); }};
}

}  // namespace

Result<std::vector<ScenarioLine>> run_throughput_spsc(const Scenario& scenario, const ScenarioOptions& options,
                                                      PrivateInstance& instance) {
  FlowPlan plan;
  plan.name = scenario.name;
  plan.kind = MOORING_KIND_SPSC;
  std::vector<KindRun> kinds;
  if (wants_kind(options, "batch16") && options.size_bytes <= kBatchedBytesMax) {
    plan.publish_batch = kPublishBatch;
    kinds.push_back(flow_kind("batch16", instance, options, plan));
  }
  if (wants_kind(options, "one-by-one")) {
    plan.publish_batch = 1;
    kinds.push_back(flow_kind("one-by-one", instance, options, plan));
  }
  return compare(scenario, options, stream_limit(options), kinds,
                 peer_of(options, Peer::kSpscIndexRingBackOff, 1, 1));
}

Result<std::vector<ScenarioLine>> run_throughput_mpmc(const Scenario& scenario, const ScenarioOptions& options,
                                                      PrivateInstance& instance) {
  FlowPlan plan;
  plan.name = scenario.name;
  plan.producers = options.producers != 0 ? options.producers : 1;
  plan.consumers = options.consumers != 0 ? options.consumers : 1;
  std::vector<KindRun> kinds;
  const auto add = [&](const char* kind, const FlowPlan& one) {
    if (wants_kind(options, kind)) kinds.push_back(flow_kind(kind, instance, options, one));
  };
  if (plan.consumers == 1) {  // An exclusive group has one consumer.
    FlowPlan exclusive = plan;
    exclusive.groups = 1;
    add("exclusive", exclusive);
  }
  plan.receive_batch = 1;
  plan.settling = Settling::kEach;
  add("competing", plan);
  plan.receive_batch = 16;
  plan.settling = Settling::kBatch;
  add("competing-batch16", plan);
  plan.publish_batch = kPublishBatch;
  add("competing-publish16-batch16", plan);
  return compare(scenario, options, stream_limit(options), kinds,
                 peer_of(options, Peer::kMpmcTryRing, plan.producers, plan.consumers));
}

Result<std::vector<ScenarioLine>> run_fanout(const Scenario& scenario, const ScenarioOptions& options,
                                             PrivateInstance& instance) {
  FlowPlan plan;
  plan.name = scenario.name;
  plan.groups = options.groups != 0 ? options.groups : 2;
  KindRun kind = flow_kind("exclusive", instance, options, plan);
  kind.describe = [&plan](nlohmann::ordered_json& extra) { extra["groups"] = plan.groups; };
  return compare(scenario, options, stream_limit(options), {kind});
}

}  // namespace mooring::bench
