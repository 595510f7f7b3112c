// mooring stats: rates between two looks, and what waits where.
#include <fmt/format.h>
#include <time.h>

#include <map>

#include "base/time.hpp"
#include "inspect.hpp"

namespace mooring::cli {
namespace {

struct Look {
  std::uint64_t at_ns = 0;
  QueueReport queue;
};
using Looks = std::map<std::string, Look>;

// One of them, or all that can be read. A damaged queue does not hide the others.
Looks look_at(const InstanceFiles& instance, const std::string& queue, int* exit_code) {
  Looks looks;
  for (const std::string& name : queue.empty() ? queue_names(instance) : std::vector<std::string>{queue}) {
    try {
      looks[name] = {monotonic_ns(), inspect_queue(instance, name)};
    } catch (const Failure& failure) {
      if (!queue.empty()) throw;
      if (failure.code() == MOORING_ERR_NO_SUCH_QUEUE) continue;  // removed while we looked
      std::cerr << "mooring: " << failure.what() << '\n';
      *exit_code = kExitFailed;
    }
  }
  return looks;
}

// False: interrupted.
bool rest(std::uint64_t ns) {
  const timespec time{static_cast<time_t>(ns / kNsPerSecond), static_cast<long>(ns % kNsPerSecond)};
  ::nanosleep(&time, nullptr);
  return !interrupted();
}

// A queue that was made anew meanwhile has counted less than it had.
double rate(std::uint64_t before, std::uint64_t now, std::uint64_t ns) {
  return now < before || ns == 0 ? 0 : static_cast<double>(now - before) * 1e9 / static_cast<double>(ns);
}

struct GroupRates {
  double delivered = 0;
  double acked = 0;
  double failed = 0;
};
GroupRates rates_of(const Look& before, const Look& now, const GroupReport& group) {
  const std::uint64_t ns = now.at_ns - before.at_ns;
  for (const GroupReport& same : before.queue.groups) {
    if (same.name != group.name) continue;
    return {rate(same.totals.delivered, group.totals.delivered, ns), rate(same.totals.acked, group.totals.acked, ns),
            rate(same.failed, group.failed, ns)};
  }
  return {};  // a new one
}

double oldest_seconds(const GroupReport& group) {
  return static_cast<double>(std::max(group.oldest_ready_ns, group.oldest_in_flight_ns)) / 1e9;
}

void print_header() {
  fmt::print("{:<24} {:<16} {:>11} {:>11} {:>11} {:>9} {:>10} {:>9} {:>8} {:>7} {:>9} {:>10}\n", "QUEUE", "GROUP",
             "PUBLISHED/s", "DELIVERED/s", "ACKED/s", "FAILED/s", "READY", "IN FLIGHT", "WAITING", "DEAD", "OLDEST s",
             "LAG");
}

void print_lines(const Look& before, const Look& now) {
  const double published = rate(before.queue.published, now.queue.published, now.at_ns - before.at_ns);
  if (now.queue.groups.empty()) fmt::print("{:<24} {:<16} {:>11.1f}\n", now.queue.name, "-", published);
  for (const GroupReport& group : now.queue.groups) {
    const GroupRates rates = rates_of(before, now, group);
    fmt::print("{:<24} {:<16} {:>11.1f} {:>11.1f} {:>11.1f} {:>9.1f} {:>10} {:>9} {:>8} {:>7} {:>9.1f} {:>10}\n",
               now.queue.name, group.name, published, rates.delivered, rates.acked, rates.failed, group.ready,
               group.in_flight, group.waiting, group.dead, oldest_seconds(group), group.lag());
  }
}

Json to_json(const Look& before, const Look& now) {
  const std::uint64_t ns = now.at_ns - before.at_ns;
  Json json = {{"queue", now.queue.name},
               {"interval_seconds", static_cast<double>(ns) / 1e9},
               {"published_per_second", rate(before.queue.published, now.queue.published, ns)},
               {"published_bytes_per_second", rate(before.queue.bytes_published, now.queue.bytes_published, ns)},
               {"messages_published_total", now.queue.published},
               {"fill_ratio", static_cast<double>(now.queue.fill_milli) / 1e3},
               {"groups", Json::array()}};
  for (const GroupReport& group : now.queue.groups) {
    const GroupRates rates = rates_of(before, now, group);
    json["groups"].push_back({{"group", group.name},
                              {"delivered_per_second", rates.delivered},
                              {"acked_per_second", rates.acked},
                              {"failed_per_second", rates.failed},
                              {"messages_delivered_total", group.totals.delivered},
                              {"messages_acked_total", group.totals.acked},
                              {"ready", group.ready},
                              {"in_flight", group.in_flight},
                              {"waiting", group.waiting},
                              {"dead", group.dead},
                              {"oldest_age_seconds", oldest_seconds(group)},
                              {"lag_messages", group.lag()}});
  }
  return json;
}

struct StatsOptions {
  std::string queue;
  std::string interval = "1s";
  bool watch = false;
};

int run(const Context& context, const StatsOptions& options) {
  catch_interrupts();
  const InstanceFiles instance = open_instance_files(context);
  const std::uint64_t interval_ns = parse_time(options.interval);
  int exit_code = kExitOk;
  Looks before = look_at(instance, options.queue, &exit_code);
  do {
    if (!rest(interval_ns)) break;
    Looks now = look_at(instance, options.queue, &exit_code);
    if (!context.json) print_header();
    for (const auto& [name, look] : now) {
      const auto known = before.find(name);
      const Look& since = known == before.end() ? look : known->second;
      context.json ? print_json(to_json(since, look)) : print_lines(since, look);
    }
    std::fflush(stdout);
    before = std::move(now);
  } while (options.watch);
  return exit_code;
}

}  // namespace

void add_stats(CLI::App& app, Context& context) {
  auto options = std::make_shared<StatsOptions>();
  CLI::App* command =
      add_command(app, context, "stats", "show rates between two looks, and what waits, by group",
                  "mooring stats orders --watch", [options, &context] { return run(context, *options); });
  command->add_option("queue", options->queue, "name; all of them without it");
  command->add_option("--interval", options->interval, "time between two looks")
      ->check(time_above_zero)
      ->capture_default_str();
  command->add_flag("--watch", options->watch, "go on until Ctrl-C");
}

}  // namespace mooring::cli
