// mooring bench: what a queue does on this machine, beside what the machine can do at all.
#include "bench/scenarios/scenario.hpp"
#include "command.hpp"

#include <cstdio>
#include <iostream>

namespace mooring::cli {
namespace {

struct Bench {
  std::string scenario;
  std::string size;
  bench::ScenarioOptions options;
  bool list = false;
};

void list_scenarios(const Context& context) {
  for (const bench::Scenario& one : bench::scenarios()) {
    if (context.json) {
      print_json({{"scenario", one.name}, {"question", one.question}, {"size_bytes", one.size_bytes},
                  {"kinds", one.kinds}});
      continue;
    }
    std::printf("%-17s %s\n%-17s kinds:", one.name, one.question, "");
    for (const char* kind : one.kinds) std::printf(" %s", kind);
    std::printf("\n");
  }
  std::fflush(stdout);
}

int run(const Bench& asked, const Context& context) {
  if (asked.list) {
    list_scenarios(context);
    return kExitOk;
  }
  bench::ScenarioOptions options = asked.options;
  if (!asked.size.empty()) options.size_bytes = parse_size(asked.size);
  std::vector<const bench::Scenario*> chosen;
  if (asked.scenario.empty()) {
    for (const bench::Scenario& one : bench::scenarios()) chosen.push_back(&one);
  } else if (const bench::Scenario* found = bench::find_scenario(asked.scenario)) {
    chosen.push_back(found);
  } else {
    throw CLI::ValidationError("--scenario", asked.scenario + " is not a scenario; mooring bench --list names them");
  }
  if (asked.scenario.empty() && !options.kind.empty()) {
    throw CLI::ValidationError("--kind", "kinds are of one scenario; name it with --scenario");
  }

  std::vector<bench::ReportLine> lines;
  for (const bench::Scenario* scenario : chosen) {
    const auto results = bench::run_scenario(*scenario, options);
    if (!results) throw Failure(static_cast<int>(results.error().code), results.error().text);
    for (const bench::ScenarioLine& one : *results) {
      if (context.json) {
        std::cout << bench::json_line(one) << std::endl;
      } else {
        lines.push_back(one.report);
      }
    }
  }
  if (!context.json) {
    std::cout << bench::table(lines);
    std::cout << "\nmedians of " << options.repetitions << " interleaved runs of " << options.seconds
              << " s; ratio = within a repetition, to the limit measured in turn with it\n";
  }
  return kExitOk;
}

}  // namespace

void add_bench(CLI::App& app, Context& context) {
  auto asked = std::make_shared<Bench>();
  CLI::App* command = add_command(app, context, "bench", "measure queues on this machine beside its physical limits",
                                  "mooring bench --scenario pingpong-spsc --size 64 --json",
                                  [asked, &context] { return run(*asked, context); });
  bench::ScenarioOptions& options = asked->options;
  command->add_option("--scenario", asked->scenario, "one scenario (default: all, with their own sizes)");
  command->add_flag("--list", asked->list, "list the scenarios, their questions and their kinds");
  command->add_option("--size", asked->size, "bytes of a message, like 64 or 64K");
  command->add_option("--producers", options.producers, "of throughput-mpmc")->check(CLI::Range(1, 31));
  command->add_option("--consumers", options.consumers, "of throughput-mpmc")->check(CLI::Range(1, 31));
  command->add_option("--groups", options.groups, "of fanout: exclusive groups")->check(CLI::Range(1, 31));
  command->add_option("--kind,--group", options.kind, "one kind of the scenario (default: all of them)");
  command->add_option("--seconds", options.seconds, "length of each run")
      ->check(CLI::Range(0.001, 3600.0))
      ->capture_default_str();
  command->add_option("--repetitions", options.repetitions, "interleaved repetitions; medians are printed")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--nice", options.nice_value, "priority of the roles, where permitted; 0 leaves it")
      ->check(CLI::Range(-20, 19))
      ->capture_default_str();
}

}  // namespace mooring::cli
