// One-way flow: producers that publish as fast as they can for a time, and consumers that take, check and settle
// everything. What throughput-spsc, throughput-mpmc and fanout are made of.
#pragma once

#include "bench/scenarios/scenario.hpp"

namespace mooring::bench {

enum class Settling { kUpTo, kEach, kBatch };  // ack_up_to (exclusive groups), ack one by one, ack_batch

struct FlowPlan {
  std::string name;
  unsigned kind = MOORING_KIND_MPMC;
  unsigned producers = 1;
  unsigned consumers = 1;   // of the competing group; ignored where there are exclusive groups
  unsigned groups = 0;      // exclusive groups with one consumer each; 0: the queue's own group
  unsigned publish_batch = 1;
  unsigned receive_batch = 64;
  Settling settling = Settling::kUpTo;
  bool durable = false;  // published without waiting, delivered when it is on the disk; one group
};
inline constexpr unsigned kFlowBatchMax = 64;

// messages_per_second counts messages published; with several groups each of them is delivered once to each.
Result<Measurement> run_flow(PrivateInstance& instance, const FlowPlan& plan, const ScenarioOptions& options);

}  // namespace mooring::bench
