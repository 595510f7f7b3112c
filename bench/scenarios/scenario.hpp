// The scenarios of `mooring bench`: each asks one question about a queue between processes, and answers it as a ratio
// to a physical limit that is measured in turn with it.
//
// Method: roles are processes (bench/support/processes.hpp) with a connection of their own to a private instance;
// every byte is written, read and checked; a count or a sum that does not fit fails the run. All runs of one scenario
// are interleaved (limit, kind, kind, peer, limit, ...), ratios are taken inside a repetition, medians are reported.
//
// TESTED BY  tests/bench/scenarios_test.cpp
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "bench/scenarios/private_instance.hpp"
#include "bench/support/interleave.hpp"
#include "bench/support/processes.hpp"
#include "bench/support/report.hpp"

namespace mooring::bench {

inline constexpr u64 kSizeOfScenario = ~u64{0};

struct ScenarioOptions {
  u64 size_bytes = kSizeOfScenario;
  // 0: the scenario's own number.
  unsigned producers = 0;
  unsigned consumers = 0;
  unsigned groups = 0;
  std::string kind;  // empty: all kinds of the scenario
  double seconds = 0.3;
  unsigned repetitions = 5;
  int nice_value = kMeasurementNice;
};

// What is reported: the fixed keys, then what only some scenarios have to say (spreads, peers, redeliveries).
struct ScenarioLine {
  ReportLine report;
  nlohmann::ordered_json extra;
};
std::string json_line(const ScenarioLine& line);

struct Scenario {
  const char* name;
  const char* question;
  u64 size_bytes;
  std::vector<const char*> kinds;  // in the order in which they are measured
  Result<std::vector<ScenarioLine>> (*run)(const Scenario& scenario, const ScenarioOptions& options,
                                           PrivateInstance& instance);
};

std::span<const Scenario> scenarios();
// Null if there is none of this name.
const Scenario* find_scenario(const std::string& name);

// Starts a private instance, runs the scenario, removes the instance. The caller is single-threaded (this forks).
Result<std::vector<ScenarioLine>> run_scenario(const Scenario& scenario, ScenarioOptions options);

// ---- for the scenarios themselves ---------------------------------------------------------------------------------

struct KindRun {
  std::string kind;
  std::function<Result<Measurement>()> run;
  std::function<void(nlohmann::ordered_json& extra)> describe = {};  // called once after all repetitions
};

// Interleaves limit, kinds and, if it has a name, the peer; one line a kind.
Result<std::vector<ScenarioLine>> compare(const Scenario& scenario, const ScenarioOptions& options,
                                          const Contender& limit, const std::vector<KindRun>& kinds,
                                          const Contender& peer = {});

// True if the user asked for this kind or for all.
inline bool wants_kind(const ScenarioOptions& options, const char* kind) {
  return options.kind.empty() || options.kind == kind;
}

// Messages of these scenarios carry a stamp.
inline constexpr u64 kStampBytes = 8;

// By question, each in a file of its own.
Result<std::vector<ScenarioLine>> run_ping_pong_spsc(const Scenario&, const ScenarioOptions&, PrivateInstance&);
Result<std::vector<ScenarioLine>> run_ping_pong_mpmc(const Scenario&, const ScenarioOptions&, PrivateInstance&);
Result<std::vector<ScenarioLine>> run_ping_pong_parked(const Scenario&, const ScenarioOptions&, PrivateInstance&);
Result<std::vector<ScenarioLine>> run_throughput_spsc(const Scenario&, const ScenarioOptions&, PrivateInstance&);
Result<std::vector<ScenarioLine>> run_throughput_mpmc(const Scenario&, const ScenarioOptions&, PrivateInstance&);
Result<std::vector<ScenarioLine>> run_pairs_mpmc(const Scenario&, const ScenarioOptions&, PrivateInstance&);
Result<std::vector<ScenarioLine>> run_fanout(const Scenario&, const ScenarioOptions&, PrivateInstance&);
Result<std::vector<ScenarioLine>> run_ping_pong_early(const Scenario&, const ScenarioOptions&, PrivateInstance&);
Result<std::vector<ScenarioLine>> run_durable_latency(const Scenario&, const ScenarioOptions&, PrivateInstance&);
Result<std::vector<ScenarioLine>> run_durable_stalled(const Scenario&, const ScenarioOptions&, PrivateInstance&);
Result<std::vector<ScenarioLine>> run_durable_throughput(const Scenario&, const ScenarioOptions&, PrivateInstance&);
Result<std::vector<ScenarioLine>> run_crash_recovery(const Scenario&, const ScenarioOptions&, PrivateInstance&);

}  // namespace mooring::bench
