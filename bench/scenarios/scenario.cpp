#include "bench/scenarios/scenario.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace mooring::bench {

namespace {

const std::vector<Scenario>& all_scenarios() {
  static const std::vector<Scenario> list{
      {"pingpong-spsc", "round trip over two SPSC queues, both sides spin", 56, {"spsc"}, run_ping_pong_spsc},
      {"pingpong-mpmc",
       "round trip over two MPMC queues, both sides spin",
       64,
       {"exclusive", "competing"},
       run_ping_pong_mpmc},
      {"pingpong-parked", "round trip over two SPSC queues, both sides sleep", 56, {"spsc"}, run_ping_pong_parked},
      {"throughput-spsc",
       "one-way rate of an SPSC queue, published in batches of 16 (to 1 KiB) and one by one",
       64,
       {"batch16", "one-by-one"},
       run_throughput_spsc},
      {"throughput-mpmc",
       "one-way rate of an MPMC queue into an exclusive or a competing group",
       64,
       {"exclusive", "competing", "competing-batch16", "competing-publish16-batch16"},
       run_throughput_mpmc},
      {"pairs-mpmc",
       "two processes that both publish and receive in a loop",
       64,
       {"one-by-one", "batch8"},
       run_pairs_mpmc},
      {"fanout", "one producer, several exclusive groups that each receive everything", 64, {"exclusive"}, run_fanout},
      {"crash-recovery",
       "kill -9 of a consumer until the messages that it held are received by another",
       64,
       {"competing"},
       run_crash_recovery},
      {"pingpong-early",
       "round trip over two durable queues that deliver early, against the same over volatile ones",
       64,
       {"early"},
       run_ping_pong_early},
      {"durable-latency",
       "publish until it is on the disk, one at a time, publisher asleep or spinning",
       256,
       {"asleep", "spinning"},
       run_durable_latency},
      {"durable-throughput",
       "one-way rate of a durable queue, published without waiting, received when on the disk",
       256,
       {"one-producer", "two-producers"},
       run_durable_throughput},
      {"durable-stalled",
       "publish without waiting while the journal stands, against the same while the disk answers",
       256,
       {"stalled"},
       run_durable_stalled},
  };
  return list;
}

nlohmann::ordered_json rounded(double value) { return std::round(value * 1000) / 1000; }

nlohmann::ordered_json load_average() {
  double loads[1] = {0};
  if (::getloadavg(loads, 1) != 1) return nullptr;
  return rounded(loads[0]);
}

std::string kinds_text(const Scenario& scenario) {
  std::string text;
  for (const char* kind : scenario.kinds) text += (text.empty() ? "" : ", ") + std::string(kind);
  return text;
}

}  // namespace

std::string json_line(const ScenarioLine& line) {
  nlohmann::ordered_json json = to_json(line.report);
  for (const auto& [key, value] : line.extra.items()) json[key] = value;
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::span<const Scenario> scenarios() { return all_scenarios(); }

const Scenario* find_scenario(const std::string& name) {
  for (const Scenario& scenario : all_scenarios()) {
    if (name == scenario.name) return &scenario;
  }
  return nullptr;
}

Result<std::vector<ScenarioLine>> run_scenario(const Scenario& scenario, ScenarioOptions options) {
  if (!options.kind.empty() && std::none_of(scenario.kinds.begin(), scenario.kinds.end(),
                                            [&](const char* kind) { return options.kind == kind; })) {
    return fail(Code::kBadArgument, std::string(scenario.name) + " has no kind " + options.kind + "; it has " +
                                        kinds_text(scenario));
  }
  if (options.size_bytes == kSizeOfScenario) options.size_bytes = scenario.size_bytes;
  auto instance = PrivateInstance::start();
  if (!instance) return fail(instance.error());
  try {
    return scenario.run(scenario, options, **instance);
  } catch (const Failure& failure) {
    return fail(static_cast<Code>(failure.code()), std::string(scenario.name) + ": " + failure.what());
  }
}

Result<std::vector<ScenarioLine>> compare(const Scenario& scenario, const ScenarioOptions& options,
                                          const Contender& limit, const std::vector<KindRun>& kinds,
                                          const Contender& peer) {
  if (kinds.empty()) {
    return fail(Code::kBadArgument, std::string(scenario.name) +
                                        ": this kind does not fit the numbers of producers and consumers; choose "
                                        "another kind or leave it out");
  }
  std::vector<Contender> contenders{limit};
  for (const KindRun& kind : kinds) contenders.push_back({std::string(scenario.name) + " " + kind.kind, kind.run});
  if (!peer.name.empty()) contenders.push_back(peer);
  const auto runs = interleave(contenders, options.repetitions);
  if (!runs) return fail(runs.error());

  const MachineFacts machine = read_machine_facts();
  const Measurement limit_median = runs->median_measurement(0);
  std::vector<ScenarioLine> lines;
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    const std::size_t contender = i + 1;
    const Measurement measured = runs->median_measurement(contender);
    const Metric metric = measured.latency ? &p50_ns : &messages_per_second;
    ScenarioLine line;
    line.report = report_line(measured, kinds[i].kind, machine);
    line.report.scenario = scenario.name;
    line.report.limit = reported_limit(limit_median);
    const Spread ratio = runs->ratio(contender, 0, metric);
    line.report.ratio_to_limit = ratio.median;
    line.extra["ratio_min"] = rounded(ratio.min);
    line.extra["ratio_max"] = rounded(ratio.max);
    if (measured.latency && limit_median.latency) {
      line.extra["ratio_p99"] = rounded(runs->ratio(contender, 0, &p99_ns).median);
    }
    line.extra["messages"] = measured.messages;
    line.extra["repetitions"] = options.repetitions;
    if (!peer.name.empty()) {
      const std::size_t last = contenders.size() - 1;
      nlohmann::ordered_json beside;
      beside["name"] = peer.name;
      beside[measured.latency ? "p50_ns" : "per_second"] = std::round(runs->median(last, metric));
      line.extra["peer"] = std::move(beside);
      line.extra["ratio_to_peer"] = rounded(runs->ratio(contender, last, metric).median);
    }
    if (kinds[i].describe) kinds[i].describe(line.extra);
    line.extra["load_average"] = load_average();
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace mooring::bench
