// durable-stalled: what a disk that stalls does to who publishes without waiting (MOORING_NO_WAIT, deliver early): the
// time of a publish while the journal stands, against the same while it goes on. Nothing, until the ring is full.
//
// The journal stands because its supervisor is stopped (SIGSTOP) for the whole measurement. To publishers that is a
// disk that does not answer, only harder: nobody else answers them either. (A disk that does not answer, below a real
// file system, is in tests/durable/durable_slow_disk_test; it needs root.) The messages of one measurement fit the
// ring, spread over its seconds; each is received and acknowledged at once, as `early` queues do, and all of them are
// on the disk in the end.
#include <signal.h>

#include <fstream>

#include "bench/scenarios/flow.hpp"
#include "bench/scenarios/role_handles.hpp"
#include "bench/support/content.hpp"
#include "bench/support/samples.hpp"
#include "bench/support/shared_memory.hpp"

namespace mooring::bench {
namespace {

constexpr u64 kMessagesMost = 32768;  // half of the ring
constexpr u64 kPaceLeast_ns = 20 * kNsPerUs;

struct StallBoard {
  LatencyHistogram publishes;
  u64 published;
};

// Stopped until the end of its life.
class StoppedSupervisor {
 public:
  explicit StoppedSupervisor(const std::string& instance) {
    std::ifstream file(instance + "/mooringd.pid");
    if (!(file >> pid_) || ::kill(pid_, SIGSTOP) != 0) pid_ = -1;
  }
  ~StoppedSupervisor() { go_on(); }
  StoppedSupervisor(const StoppedSupervisor&) = delete;
  StoppedSupervisor& operator=(const StoppedSupervisor&) = delete;
  bool is_stopped() const { return pid_ > 0; }
  void go_on() {
    if (pid_ > 0) ::kill(pid_, SIGCONT);
    pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
};

Result<Measurement> publish_beside(PrivateInstance& instance, const char* name, bool stalled,
                                   const ScenarioOptions& options) {
  mooring_queue_options queue_options = bench_queue_options(MOORING_KIND_MPMC, options.size_bytes);
  queue_options.durability = MOORING_DURABLE;
  queue_options.deliver = MOORING_DELIVER_EARLY;
  queue_options.capacity = 2 * kMessagesMost;
  queue_options.lane_bytes = 2 * kMessagesMost * (options.size_bytes + 64);
  BenchQueue queue(instance, queue_options);
  auto shared_board = Shared<StallBoard>::create();
  if (!shared_board) return fail(shared_board.error());
  StallBoard& board = **shared_board;
  const auto publish = [&](RoleContext& role) -> Status {
    Instance connection = instance.connect();
    Producer producer = open_bench_producer(connection, queue.name(), MOORING_WAIT_SLEEP, MOORING_NO_WAIT);
    Consumer consumer = open_bench_consumer(connection, queue.name(), "default", MOORING_WAIT_SLEEP);
    const AlignedBytes message = aligned_bytes(options.size_bytes);
    board.publishes = LatencyHistogram{};
    const u64 messages = std::clamp<u64>(static_cast<u64>(options.seconds * 1e9) / kPaceLeast_ns, 1, kMessagesMost);
    const u64 pace = seconds_to_ticks(options.seconds) / messages;
    if (Status started = role.wait_for_start(); !started) return started;
    std::optional<StoppedSupervisor> stopped;
    if (stalled) {
      stopped.emplace(instance.path());
      if (!stopped->is_stopped()) return fail(Code::kIo, "the supervisor of the benchmark cannot be stopped");
    }
    const u64 start = ticks_now();
    for (u64 round = 0; round < messages; ++round) {
      std::memcpy(message.get(), &round, std::min<std::size_t>(sizeof round, options.size_bytes));
      while (ticks_now() < start + round * pace) {
      }
      std::uint64_t seq = 0;
      const u64 began = ticks_now();
      const int code = mooring_publish(producer.get(), message.get(), options.size_bytes, 0, &seq);
      board.publishes.record(ticks_now() - began);
      if (!done(code)) return fail(Code::kFull, "the ring was full, which it cannot be");
      ++board.published;
      mooring_message received;
      if (!done(mooring_receive(consumer.get(), &received, 0)) || received.seq != seq ||
          !done(mooring_ack(consumer.get(), &received))) {
        return fail(Code::kCorrupt, "what was published is not what is received");
      }
    }
    stopped.reset();
    if (!done(mooring_wait_durable(producer.get(), MOORING_EVERYTHING, 60 * kNsPerSecond))) {
      return fail(Code::kTimeout, "the messages did not become durable once the journal went on");
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

Result<std::vector<ScenarioLine>> run_durable_stalled(const Scenario& scenario, const ScenarioOptions& options,
                                                      PrivateInstance& instance) {
  std::vector<KindRun> kinds;
  if (wants_kind(options, "stalled")) {
    kinds.push_back({"stalled", [&] { return publish_beside(instance, scenario.name, /*stalled=*/true, options); }});
  }
  return compare(scenario, options,
                 {"publish_while_the_disk_answers",
                  [&] { return publish_beside(instance, scenario.name, /*stalled=*/false, options); }},
                 kinds);
}

}  // namespace mooring::bench
