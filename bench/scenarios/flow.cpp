// WHO WRITES WHAT (FlowBoard, shared anonymous memory)
//   producers[i]   producer i   sent and start, before FINISHED
//   consumers[i]   consumer i   its figures, `received` also whenever it found nothing
//   finished       producers    +1 at the end of each
//
// PAIRINGS   FINISHED: add acq_rel | load acquire: `sent` is final. Figures need none: the parent reads them after the
//            roles ended; `received` of the others is a count that only grows.
//
// IF A PROCESS STOPS   The others give up at their deadline (PollGuard), and the run fails.
#include "bench/scenarios/flow.hpp"

#include <array>

#include "bench/scenarios/batch_source.hpp"
#include "bench/scenarios/role_handles.hpp"
#include "bench/support/clock.hpp"
#include "bench/support/poll_guard.hpp"
#include "bench/support/shared_memory.hpp"

namespace mooring::bench {

namespace {

using Atomics = HardwareAtomics;
constexpr unsigned kSideMax = 31;  // of 64 roles

struct FlowProducer {
  alignas(kLineBytes) u64 sent;
  u64 stamp_sum;
  u64 start_ticks;
};
struct FlowConsumer {
  alignas(kLineBytes) u64 received;
  u64 stamp_sum;
  u64 broken;      // wrong content
  u64 misordered;  // not the producer's next (exclusive groups)
  u64 timed_received;
  u64 timed_ticks;  // when that many had come
};
struct FlowBoard {
  alignas(kLineBytes) u32 finished;
  std::array<FlowProducer, kSideMax> producers;
  std::array<FlowConsumer, kSideMax> consumers;
};

// 0 + 1 + ... of one producer's stamps, wrapping.
u64 stamp_sum_of(unsigned producer, u64 count) {
  const u64 pairs = count % 2 == 0 ? (count / 2) * (count - 1) : count * ((count - 1) / 2);
  return count == 0 ? 0 : count * flow_stamp(producer, 0) + pairs;
}

class Flow {
 public:
  Flow(FlowBoard& board, const FlowPlan& plan, const ScenarioOptions& options, const PrivateInstance& instance,
       std::string queue)
      : board_(board), plan_(plan), options_(options), instance_(instance), queue_(std::move(queue)) {}

  bool exclusive() const { return plan_.settling == Settling::kUpTo; }
  unsigned consumer_count() const { return plan_.groups != 0 ? plan_.groups : plan_.consumers; }

  Status produce(RoleContext& role, unsigned index) {
    Instance connection = instance_.connect();
    Producer producer =
        open_bench_producer(connection, queue_, MOORING_WAIT_ADAPTIVE, plan_.durable ? MOORING_NO_WAIT : 0);
    BatchSource source(index, options_.size_bytes, plan_.publish_batch);
    PollGuard guard(role);
    if (Status started = role.wait_for_start(); !started) return started;
    FlowProducer& own = board_.producers[index];
    own.start_ticks = ticks_now();
    const u64 end_ticks = own.start_ticks + seconds_to_ticks(options_.seconds);
    // A clock read costs as much as a small message: look at it about every 4 KiB.
    const u64 look_every = std::max<u64>(1, 4096 / options_.size_bytes);
    const unsigned batch = plan_.publish_batch;
    u64 until_look = look_every;
    u64 sent = 0;
    for (;;) {
      std::span<const mooring_slice> slices = source.messages(sent, batch);
      if (batch == 1) {
        while (!done(mooring_publish(producer.get(), slices[0].data, slices[0].size, kLookAround_ns, nullptr))) {
          if (guard.look_now()) return fail(Code::kTimeout, "the consumers stopped receiving");
        }
      } else {
        while (!slices.empty()) {
          std::size_t published = 0;
          const bool all =
              done(mooring_publish_batch(producer.get(), slices.data(), slices.size(), kLookAround_ns, &published));
          slices = slices.subspan(published);
          if (!all && guard.look_now()) return fail(Code::kTimeout, "the consumers stopped receiving");
        }
      }
      sent += batch;
      if (until_look > batch) {
        until_look -= batch;
        continue;
      }
      until_look = look_every;
      if (ticks_now() >= end_ticks) break;
    }
    own.sent = sent;
    Atomics::add(board_.finished, u32{1}, std::memory_order_acq_rel);  // FINISHED
    return {};
  }

  template <class Size>
  Status consume(RoleContext& role, unsigned index, Size size) {
    Instance connection = instance_.connect();
    const std::string group = plan_.groups != 0 ? BenchQueue::exclusive_group(index) : "default";
    Consumer consumer = open_bench_consumer(connection, queue_, group, MOORING_WAIT_ADAPTIVE);
    const AlignedBytes copy = aligned_bytes(options_.size_bytes);
    FlowConsumer& own = board_.consumers[index];
    std::array<mooring_message, kFlowBatchMax> messages;
    std::array<u64, kSideMax> next{};
    PollGuard guard(role);
    if (Status started = role.wait_for_start(); !started) return started;
    u64 received = 0;
    u64 until_tick = 0;
    for (;;) {
      std::size_t got = 1;
      const int code = plan_.receive_batch == 1 ? mooring_receive(consumer.get(), messages.data(), kLookAround_ns)
                                                : mooring_receive_batch(consumer.get(), messages.data(),
                                                                        plan_.receive_batch, kLookAround_ns, &got);
      if (!done(code)) {
        Atomics::store(own.received, received, std::memory_order_relaxed);
        if (everything_received(index)) break;
        if (guard.look_now()) return fail(Code::kTimeout, "messages that were published did not come");
        continue;
      }
      for (std::size_t i = 0; i < got; ++i) {
        const mooring_message& message = messages[i];
        const void* bytes = message.data;
        if (__builtin_expect(message.size != options_.size_bytes, false)) {
          ++own.broken;
          continue;
        }
        if ((message.flags & MOORING_IN_PLACE) != 0) {
          std::memcpy(copy.get(), bytes, size);  // As the limits and the peers do; competing groups have copied it.
          bytes = copy.get();
        }
        const u64 stamp = content_stamp(bytes, options_.size_bytes);
        if (!content_is(bytes, size, stamp)) ++own.broken;
        own.stamp_sum += stamp;
        const unsigned producer = producer_of(stamp);
        if (producer >= plan_.producers) {
          ++own.broken;
        } else if (exclusive() && sequence_of(stamp) != next[producer]++) {
          ++own.misordered;
        }
      }
      settle(consumer.get(), std::span(messages.data(), got));
      received += got;
      if (until_tick > got) {
        until_tick -= got;
        continue;
      }
      until_tick = kFlowBatchMax;
      own.timed_received = received;
      own.timed_ticks = ticks_now();
    }
    own.received = received;
    return {};
  }

 private:
  void settle(mooring_consumer* consumer, std::span<const mooring_message> messages) {
    switch (plan_.settling) {
      case Settling::kUpTo: must_settle(mooring_ack_up_to(consumer, &messages.back())); break;
      case Settling::kEach:
        for (const mooring_message& message : messages) must_settle(mooring_ack(consumer, &message));
        break;
      case Settling::kBatch: {
        std::size_t acked = 0;
        must_settle(mooring_ack_batch(consumer, messages.data(), messages.size(), &acked));
        break;
      }
    }
  }
  static void must_settle(int code) {
    if (!done(code)) throw Failure(code, std::string("settling a message: ") + mooring_strerror(code));
  }

  bool everything_received(unsigned index) const {
    if (Atomics::load(board_.finished, std::memory_order_acquire) < plan_.producers) return false;  // FINISHED
    u64 sent = 0;
    for (unsigned i = 0; i < plan_.producers; ++i) sent += board_.producers[i].sent;
    u64 received = 0;
    for (unsigned i = 0; i < consumer_count(); ++i) {
      if (plan_.groups != 0 && i != index) continue;
      received += Atomics::load(board_.consumers[i].received, std::memory_order_relaxed);
    }
    return received >= sent;
  }

  FlowBoard& board_;
  const FlowPlan& plan_;
  const ScenarioOptions& options_;
  const PrivateInstance& instance_;
  std::string queue_;
};

Result<Measurement> judge(const FlowBoard& board, const FlowPlan& plan, unsigned consumers) {
  u64 sent = 0;
  u64 sent_sum = 0;
  u64 start_ticks = kForever;
  for (unsigned i = 0; i < plan.producers; ++i) {
    sent += board.producers[i].sent;
    sent_sum += stamp_sum_of(i, board.producers[i].sent);
    start_ticks = std::min(start_ticks, board.producers[i].start_ticks);
  }
  u64 received = 0;
  u64 received_sum = 0;
  u64 broken = 0;
  u64 misordered = 0;
  u64 timed = 0;
  u64 end_ticks = 0;
  for (unsigned i = 0; i < consumers; ++i) {
    const FlowConsumer& one = board.consumers[i];
    received += one.received;
    received_sum += one.stamp_sum;
    broken += one.broken;
    misordered += one.misordered;
    timed += one.timed_received;
    end_ticks = std::max(end_ticks, one.timed_ticks);
  }
  const u64 deliveries = plan.groups != 0 ? plan.groups : 1;
  if (broken != 0 || misordered != 0 || received != sent * deliveries || received_sum != sent_sum * deliveries) {
    return fail(Code::kCorrupt, plan.name + ": " + std::to_string(sent) + " sent, " + std::to_string(received) +
                                    " received by " + std::to_string(deliveries) + " group(s), " +
                                    std::to_string(broken) + " with wrong content, " + std::to_string(misordered) +
                                    " out of order, sum of stamps " +
                                    (received_sum == sent_sum * deliveries ? "right" : "wrong") +
                                    "; the queue lost, repeated or damaged messages");
  }
  Measurement result;
  result.name = plan.name;
  result.producers = plan.producers;
  result.consumers = consumers;
  result.messages = received;
  result.messages_per_second = rate_per_second(timed, start_ticks, end_ticks) / static_cast<double>(deliveries);
  return result;
}

// A new log writes each byte twice until as much has retired as it needs: zeros first, so that no commit waits for the
// file system, then messages. What is asked here is the rate at which a queue goes on.
constexpr u64 kLogGrowthBytes = u64{256} << 20;
Status grow_log(PrivateInstance& instance, const std::string& queue, const std::string& group, u64 size_bytes) {
  Instance connection = instance.connect();
  Producer producer = open_bench_producer(connection, queue, MOORING_WAIT_ADAPTIVE, MOORING_NO_WAIT);
  Consumer consumer = open_bench_consumer(connection, queue, group, MOORING_WAIT_ADAPTIVE);
  constexpr unsigned kBatch = 64;
  BatchSource source(0, size_bytes, kBatch);
  std::array<mooring_message, kBatch> messages;
  const u64 deadline_ns = monotonic_ns() + 60 * kNsPerSecond;
  u64 sent = 0;
  u64 received = 0;
  while (received < sent || sent * size_bytes < kLogGrowthBytes) {
    if (monotonic_ns() > deadline_ns) return fail(Code::kTimeout, "the log of the queue did not grow in a minute");
    std::size_t moved = 0;
    if (sent * size_bytes < kLogGrowthBytes) {
      const auto slices = source.messages(sent, kBatch);
      (void)done(mooring_publish_batch(producer.get(), slices.data(), slices.size(), kLookAround_ns, &moved));
      sent += moved;
    }
    const u64 wait_ns = sent * size_bytes < kLogGrowthBytes ? 0 : kLookAround_ns;
    if (done(mooring_receive_batch(consumer.get(), messages.data(), messages.size(), wait_ns, &moved))) {
      if (!done(mooring_ack_batch(consumer.get(), messages.data(), moved, &moved))) {
        return fail(Code::kCorrupt, "a message that was just received was not ours to settle");
      }
      received += moved;
    }
  }
  return {};
}

}  // namespace

Result<Measurement> run_flow(PrivateInstance& instance, const FlowPlan& plan, const ScenarioOptions& options) {
  if (options.size_bytes < kStampBytes) {
    return fail(Code::kBadArgument, plan.name + " needs messages of at least " + std::to_string(kStampBytes) +
                                        " bytes: each carries a stamp that is checked");
  }
  if (plan.producers > kSideMax || plan.consumers > kSideMax || plan.groups > kSideMax || plan.producers == 0) {
    return fail(Code::kBadArgument, plan.name + " runs at most " + std::to_string(kSideMax) +
                                        " producers and as many consumers or groups; ask for fewer");
  }
  mooring_queue_options queue_options = bench_queue_options(plan.kind, options.size_bytes);
  if (plan.durable) {
    queue_options.durability = MOORING_DURABLE;
    // While a block of 1 MiB is on its way the ring holds that and takes the next ones (R = J).
    queue_options.lane_bytes = std::max<u64>(queue_options.lane_bytes, u64{8} << 20);
  }
  if (plan.groups > 16) queue_options.groups_max = plan.groups + 1;
  BenchQueue queue(instance, queue_options);
  if (plan.groups != 0) queue.use_exclusive_groups(plan.groups);
  if (plan.durable) {
    const std::string group = plan.groups != 0 ? BenchQueue::exclusive_group(0) : "default";
    if (Status grown = grow_log(instance, queue.name(), group, options.size_bytes); !grown) return fail(grown.error());
  }
  auto board = Shared<FlowBoard>::create();
  if (!board) return fail(board.error());
  Flow flow(**board, plan, options, instance, queue.name());
  const std::vector<int> cpus = cpus_for(plan.producers + flow.consumer_count());
  std::vector<Role> roles;
  for (unsigned i = 0; i < plan.producers; ++i) {
    roles.push_back({plan.name + " producer " + std::to_string(i),
                     [&flow, i](RoleContext& role) { return flow.produce(role, i); }, cpus[roles.size()]});
  }
  for (unsigned i = 0; i < flow.consumer_count(); ++i) {
    roles.push_back({plan.name + " consumer " + std::to_string(i),
                     [&flow, &options, i](RoleContext& role) {
                       return with_size(options.size_bytes, [&](auto size) { return flow.consume(role, i, size); });
                     },
                     cpus[roles.size()]});
  }
  const auto outcome = run_roles(roles, {seconds_to_watchdog_ns(options.seconds), options.nice_value});
  if (!outcome) return fail(outcome.error());
  auto result = judge(**board, plan, flow.consumer_count());
  if (!result) return result;
  result->size_bytes = options.size_bytes;
  result->pinned = outcome->pinned;
  result->bytes_per_second = *result->messages_per_second * static_cast<double>(options.size_bytes);
  return result;
}

}  // namespace mooring::bench
