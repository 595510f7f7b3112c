// pairs-mpmc: two processes that publish and then receive and settle as many, in a loop: contention on both ends of an
// MPMC queue without more processes than CPUs.
//
// Nobody starves: who has published n and received fewer leaves at least one message for himself, whoever takes which.
#include <array>

#include "bench/scenarios/batch_source.hpp"
#include "bench/scenarios/role_handles.hpp"
#include "bench/scenarios/scenario.hpp"
#include "bench/support/clock.hpp"
#include "bench/support/limits.hpp"
#include "bench/support/peers.hpp"
#include "bench/support/poll_guard.hpp"
#include "bench/support/shared_memory.hpp"

namespace mooring::bench {

namespace {

constexpr unsigned kPairs = 2;
constexpr unsigned kBatch = 8;

struct PairSide {
  alignas(kLineBytes) u64 messages;
  u64 sent_sum;
  u64 received_sum;
  u64 broken;
  u64 start_ticks;
  u64 end_ticks;
};
struct PairBoard {
  std::array<PairSide, kPairs> sides;
};

template <class Size>
Status run_side(RoleContext& role, PairSide& own, unsigned index, const PrivateInstance& instance,
                const std::string& queue, unsigned batch, double seconds, Size size) {
  const u64 size_bytes = size;
  Instance connection = instance.connect();
  Producer producer = open_bench_producer(connection, queue, MOORING_WAIT_ADAPTIVE);
  Consumer consumer = open_bench_consumer(connection, queue, "default", MOORING_WAIT_ADAPTIVE);
  BatchSource source(index, size_bytes, batch);
  std::array<mooring_message, kBatch> messages;
  PollGuard guard(role);
  if (Status started = role.wait_for_start(); !started) return started;
  own.start_ticks = ticks_now();
  const u64 end_ticks = own.start_ticks + seconds_to_ticks(seconds);
  u64 count = 0;
  u64 until_look = 64;
  for (;;) {
    std::span<const mooring_slice> slices = source.messages(count, batch);
    for (unsigned i = 0; i < batch; ++i) own.sent_sum += flow_stamp(index, count + i);
    while (!slices.empty()) {
      std::size_t published = 1;
      const bool all =
          batch == 1
              ? done(mooring_publish(producer.get(), slices[0].data, slices[0].size, kLookAround_ns, nullptr))
              : done(mooring_publish_batch(producer.get(), slices.data(), slices.size(), kLookAround_ns, &published));
      if (all || batch != 1) slices = slices.subspan(published);
      if (!all && guard.look_now()) return fail(Code::kTimeout, "no room in a queue that is never full");
    }
    for (std::size_t left = batch; left > 0;) {
      std::size_t got = 1;
      const bool any = batch == 1 ? done(mooring_receive(consumer.get(), messages.data(), kLookAround_ns))
                                  : done(mooring_receive_batch(consumer.get(), messages.data(), left, kLookAround_ns,
                                                               &got));
      if (!any) {
        if (guard.look_now()) return fail(Code::kTimeout, "as many messages as were published did not come");
        continue;
      }
      for (std::size_t i = 0; i < got; ++i) {
        const u64 stamp = content_stamp(messages[i].data, messages[i].size);
        if (messages[i].size != size_bytes || !content_is(messages[i].data, size, stamp)) ++own.broken;
        own.received_sum += stamp;
      }
      std::size_t acked = got;
      const bool settled = batch == 1 ? done(mooring_ack(consumer.get(), messages.data()))
                                      : done(mooring_ack_batch(consumer.get(), messages.data(), got, &acked));
      if (!settled || acked != got) return fail(Code::kStale, "a delivery was taken from its consumer");
      left -= got;
    }
    count += batch;
    if (until_look > batch) {
      until_look -= batch;
      continue;
    }
    until_look = 64;
    if (ticks_now() >= end_ticks) break;
  }
  own.messages = count;
  own.end_ticks = ticks_now();
  return {};
}

Result<Measurement> run_pairs(PrivateInstance& instance, const Scenario& scenario, unsigned batch,
                              const ScenarioOptions& options) {
  BenchQueue queue(instance, bench_queue_options(MOORING_KIND_MPMC, options.size_bytes));
  auto board = Shared<PairBoard>::create();
  if (!board) return fail(board.error());
  const std::vector<int> cpus = cpus_for(kPairs);
  std::vector<Role> roles;
  for (unsigned i = 0; i < kPairs; ++i) {
    roles.push_back({std::string(scenario.name) + " process " + std::to_string(i),
                     [&, i](RoleContext& role) {
                       return with_size(options.size_bytes, [&](auto size) {
                         return run_side(role, (*board)->sides[i], i, instance, queue.name(), batch, options.seconds,
                                         size);
                       });
                     },
                     cpus[i]});
  }
  const auto outcome = run_roles(roles, {seconds_to_watchdog_ns(options.seconds), options.nice_value});
  if (!outcome) return fail(outcome.error());
  const PairSide& one = (*board)->sides[0];
  const PairSide& two = (*board)->sides[1];
  if (one.broken + two.broken != 0 || one.sent_sum + two.sent_sum != one.received_sum + two.received_sum) {
    return fail(Code::kCorrupt, std::string(scenario.name) + ": " + std::to_string(one.broken + two.broken) +
                                    " messages with wrong content, or the sums of what was sent and received differ; "
                                    "the queue lost, repeated or damaged messages");
  }
  Measurement result;
  result.name = scenario.name;
  result.size_bytes = options.size_bytes;
  result.producers = kPairs;
  result.consumers = kPairs;
  result.messages = one.messages + two.messages;
  result.pinned = outcome->pinned;
  result.messages_per_second = rate_per_second(result.messages, std::min(one.start_ticks, two.start_ticks),
                                               std::max(one.end_ticks, two.end_ticks));
  result.bytes_per_second = *result.messages_per_second * static_cast<double>(options.size_bytes);
  return result;
}

}  // namespace

Result<std::vector<ScenarioLine>> run_pairs_mpmc(const Scenario& scenario, const ScenarioOptions& options,
                                                 PrivateInstance& instance) {
  if (options.size_bytes < kStampBytes) {
    return fail(Code::kBadArgument, std::string(scenario.name) + " needs messages of at least " +
                                        std::to_string(kStampBytes) + " bytes: each carries a stamp that is checked");
  }
  std::vector<KindRun> kinds;
  for (const unsigned batch : {1U, kBatch}) {
    const char* kind = batch == 1 ? "one-by-one" : "batch8";
    if (!wants_kind(options, kind)) continue;
    kinds.push_back({kind, [&, batch] { return run_pairs(instance, scenario, batch, options); }});
  }
  StreamOptions stream{.publish_every = 16, .ring_bytes = bench_ring_bytes(options.size_bytes)};
  PeerOptions beside;
  beside.seconds = options.seconds;
  beside.ring_bytes = stream.ring_bytes;
  beside.nice_value = options.nice_value;
  return compare(scenario, options,
                 {"stream_in_place",
                  [&] {
                    return stream_in_place(options.size_bytes, stream, {options.seconds, options.nice_value});
                  }},
                 kinds,
                 {peer_name(Peer::kMpmcTicketRing),
                  [&] { return peer_pairs(Peer::kMpmcTicketRing, options.size_bytes, beside); }});
}

}  // namespace mooring::bench
