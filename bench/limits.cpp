// bench_limits: how fast can two processes on this machine exchange lines, streams and wake-ups at all, and how close
// do the published ring algorithms come? All contenders run interleaved; each ratio is taken within a repetition.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "bench/support/interleave.hpp"
#include "bench/support/limits.hpp"
#include "bench/support/machine.hpp"
#include "bench/support/peers.hpp"
#include "bench/support/report.hpp"

namespace {

using namespace mooring;
using namespace mooring::bench;

struct Entry {
  Contender contender;
  std::string kind;   // of the queue; empty for a limit
  std::size_t limit;  // index of the entry it is compared with; its own for a limit
};

class Plan {
 public:
  std::size_t limit(std::string name, std::function<Result<Measurement>()> run) {
    entries_.push_back({{std::move(name), std::move(run)}, "", entries_.size()});
    return entries_.size() - 1;
  }
  void against(std::size_t limit, std::string kind, std::string name, std::function<Result<Measurement>()> run) {
    entries_.push_back({{std::move(name), std::move(run)}, std::move(kind), limit});
  }
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  std::vector<Entry> entries_;
};

Plan make_plan(const LimitOptions& options, bool with_peers) {
  Plan plan;
  PeerOptions peer_options;
  peer_options.seconds = options.seconds;
  peer_options.nice_value = options.nice_value;
  constexpr Peer kPeers[] = {Peer::kSpscIndexRing, Peer::kSpscIndexRingBackOff, Peer::kMpmcTicketRing,
                             Peer::kMpmcTryRing};
  const auto kind_of = [](Peer peer) { return peer_is_spsc(peer) ? "spsc" : "mpmc"; };

  plan.limit("one line", [=] { return ring_exchange_one_line(kOneLinePayloadMax, options); });
  const std::size_t two_line = plan.limit("two lines", [=] { return ring_exchange_two_line(64, options); });
  for (const Peer peer : kPeers) {
    if (!with_peers) break;
    plan.against(two_line, kind_of(peer), "ping-pong", [=] { return peer_ping_pong(peer, 64, peer_options); });
  }
  plan.limit("futex", [=] { return futex_round_trip(kOneLinePayloadMax, options); });

  for (const u64 size_bytes : {u64{8}, u64{64}, u64{1024}, u64{65536}}) {
    const std::size_t stream =
        plan.limit("stream per 16", [=] { return stream_in_place(size_bytes, {.publish_every = 16}, options); });
    plan.against(stream, "", "stream per 1",
                 [=] { return stream_in_place(size_bytes, {.publish_every = 1}, options); });
    for (const Peer peer : kPeers) {
      if (!with_peers) break;
      plan.against(stream, kind_of(peer), "throughput",
                   [=] { return peer_throughput(peer, size_bytes, peer_options); });
    }
    if (!with_peers || size_bytes > 64) continue;
    for (const Peer peer : {Peer::kMpmcTicketRing, Peer::kMpmcTryRing}) {
      plan.against(stream, "mpmc", "pairs", [=] { return peer_pairs(peer, size_bytes, peer_options); });
      for (const unsigned consumers : {1U, 2U}) {
        PeerOptions crowd = peer_options;
        crowd.producers = 2;
        crowd.consumers = consumers;
        plan.against(stream, "mpmc", "crowd", [=] { return peer_throughput(peer, size_bytes, crowd); });
      }
    }
  }
  return plan;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"The physical limits of this machine, and published ring algorithms beside them"};
  LimitOptions options;
  unsigned repetitions = 5;
  bool as_json = false;
  bool limits_only = false;
  app.add_option("--repetitions", repetitions, "interleaved repetitions; medians are printed")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "length of each run")
      ->check(CLI::Range(0.001, 3600.0))
      ->capture_default_str();
  app.add_option("--nice", options.nice_value, "priority of the roles, where permitted; 0 leaves it")
      ->check(CLI::Range(-20, 19))
      ->capture_default_str();
  app.add_flag("--limits-only", limits_only, "leave the peers out");
  app.add_flag("--json", as_json, "one JSON object a line");
  CLI11_PARSE(app, argc, argv);

  const Plan plan = make_plan(options, !limits_only);
  std::vector<Contender> contenders;
  for (const Entry& entry : plan.entries()) contenders.push_back(entry.contender);
  const auto runs = interleave(contenders, repetitions);
  if (!runs) {
    std::fprintf(stderr, "bench_limits: %s\n", runs.error().text.c_str());
    return 1;
  }

  const MachineFacts machine = read_machine_facts();
  std::vector<ReportLine> lines;
  for (std::size_t i = 0; i < plan.entries().size(); ++i) {
    const Entry& entry = plan.entries()[i];
    ReportLine line = report_line(runs->median_measurement(i), entry.kind, machine);
    if (entry.limit != i) {
      const Measurement limit = runs->median_measurement(entry.limit);
      line.limit = reported_limit(limit);
      line.ratio_to_limit = runs->ratio(i, entry.limit, limit.latency ? &p50_ns : &messages_per_second).median;
    }
    lines.push_back(std::move(line));
  }
  if (as_json) {
    for (const ReportLine& line : lines) std::printf("%s\n", json_line(line).c_str());
  } else {
    std::fputs(table(lines).c_str(), stdout);
    std::printf("\n%s, %u CPUs, %s, clock source %s; medians of %u interleaved runs of %g s\n", machine.cpu.c_str(),
                machine.cores, machine.kernel.c_str(), machine.clocksource.c_str(), repetitions, options.seconds);
  }
  return 0;
}
