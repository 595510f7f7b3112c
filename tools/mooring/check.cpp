// mooring check: is all well? One line and an exit status, as monitoring systems want it.
//
// Exit status: 0 OK, 1 WARNING, 2 CRITICAL (also: wrong arguments, or nothing could be read).
#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "inspect.hpp"

namespace mooring::cli {
namespace {

constexpr int kWarning = 1;
constexpr int kCritical = 2;

// "1000": more is critical. "500,1000": more than the first is a warning.
struct Bound {
  double warning = std::numeric_limits<double>::infinity();
  double critical = std::numeric_limits<double>::infinity();
};

struct Problem {
  int level = kWarning;
  std::string queue;
  std::string group;
  std::string text;
};

double number_of(const std::string& text) {
  std::size_t used = 0;
  double value = -1;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  if (used == 0 || used != text.size() || !(value >= 0)) {
    throw CLI::ValidationError(text + ": a number, or two like 500,1000 (warning, critical)");
  }
  return value;
}
double seconds_of(const std::string& text) { return static_cast<double>(parse_time(text)) / 1e9; }

Bound parse_bound(const std::string& text, double (*parse)(const std::string&)) {
  Bound bound;
  if (text.empty()) return bound;
  const std::size_t comma = text.find(',');
  if (comma != std::string::npos) bound.warning = parse(text.substr(0, comma));
  bound.critical = parse(comma == std::string::npos ? text : text.substr(comma + 1));
  return bound;
}

struct CheckOptions {
  std::string queue;
  std::string max_depth;
  std::string max_age;
  std::string max_dead;
  std::uint64_t min_consumers = 0;
};

class Check {
 public:
  explicit Check(const CheckOptions& options)
      : options_(options),
        depth_(parse_bound(options.max_depth, number_of)),
        age_(parse_bound(options.max_age, seconds_of)),
        dead_(parse_bound(options.max_dead, number_of)) {}

  void look(const Context& context) {
    const InstanceFiles instance = open_instance_files(context);
    const SupervisorReport supervisor = supervisor_of(instance);
    if (supervisor.state != "running") {
      add(kCritical, "", "", supervisor.state == "stopped" ? "mooringd is stopped" : "mooringd does not run");
    }
    for (const std::string& name :
         options_.queue.empty() ? queue_names(instance) : std::vector<std::string>{options_.queue}) {
      try {
        const QueueReport queue = inspect_queue(instance, name);
        if (supervisor.state == "running" && queue.life == "open" && queue.supervisor.state != "running") {
          add(kCritical, name, "", "mooringd has not looked at it for a while");
        }
        look_at(queue);
        ++queues_;
      } catch (const Failure& failure) {
        if (options_.queue.empty() && failure.code() == MOORING_ERR_NO_SUCH_QUEUE) continue;  // removed meanwhile
        add(kCritical, name, "", failure.what());
      }
    }
  }
  void fail(const std::string& text) { add(kCritical, "", "", text); }

  int print(bool as_json) const {
    int level = kExitOk;
    std::string text;
    for (const int now : {kCritical, kWarning}) {
      for (const Problem& problem : problems_) {
        if (problem.level != now) continue;
        level = std::max(level, now);
        const std::string where = problem.group.empty() ? problem.queue : problem.queue + "." + problem.group;
        text += (text.empty() ? "" : "; ") + (where.empty() ? "" : where + ": ") + problem.text;
      }
    }
    const char* verdict = level == kCritical ? "CRITICAL" : level == kWarning ? "WARNING" : "OK";
    if (text.empty()) {
      text = fmt::format("{} queue{}, {} messages unfinished, the oldest {:.1f} s, {} dead letters", queues_,
                         queues_ == 1 ? "" : "s", unfinished_, oldest_seconds_, dead_letters_);
    }
    if (as_json) {
      Json json = {{"verdict", verdict}, {"text", text}, {"problems", Json::array()}};
      for (const Problem& problem : problems_) {
        json["problems"].push_back({{"level", problem.level == kCritical ? "CRITICAL" : "WARNING"},
                                    {"queue", problem.queue.empty() ? Json() : Json(problem.queue)},
                                    {"group", problem.group.empty() ? Json() : Json(problem.group)},
                                    {"text", problem.text}});
      }
      print_json(json);
    } else {
      fmt::print("{}: {}\n", verdict, text);
    }
    return level;
  }

 private:
  void add(int level, const std::string& queue, const std::string& group, std::string text) {
    problems_.push_back({level, queue, group, std::move(text)});
  }
  void compare(const QueueReport& queue, const GroupReport& group, const Bound& bound, double value,
               const char* format) {
    if (!(value > bound.warning) && !(value > bound.critical)) return;
    const bool is_critical = value > bound.critical;
    add(is_critical ? kCritical : kWarning, queue.name, group.name,
        fmt::format(fmt::runtime(format), value, is_critical ? bound.critical : bound.warning));
  }

  void look_at(const QueueReport& queue) {
    if (queue.life == "failed") add(kCritical, queue.name, "", "taken out of service: its shared bytes make no sense");
    if (queue.journal == "failed") add(kCritical, queue.name, "", "its journal failed: publishers are refused");
    if (queue.journal == "disk full") add(kCritical, queue.name, "", "the disk of its journal is full");
    if (queue.journal == "backlog full") add(kCritical, queue.name, "", "its backlog is as large as it may be");
    if (queue.above_high_water) {
      add(kWarning, queue.name, "", fmt::format("{:.0f} % full", static_cast<double>(queue.fill_milli) / 10));
    }
    for (const GroupReport& group : queue.groups) look_at(queue, group);
    for (const HolderReport& holder : queue.holders) {
      if (holder.producer) continue;
      if (holder.state == "stopped") {
        add(kWarning, queue.name, holder.group, fmt::format("consumer {} is stopped", holder.pid));
      } else if (is_stuck(queue, holder)) {
        add(kWarning, queue.name, holder.group,
            fmt::format("consumer {} is stuck for {:.0f} s", holder.pid,
                        static_cast<double>(holder.standing_ns) / 1e9));
      }
    }
  }

  void look_at(const QueueReport& queue, const GroupReport& group) {
    const double age = static_cast<double>(std::max(group.oldest_ready_ns, group.oldest_in_flight_ns)) / 1e9;
    unfinished_ += group.lag();
    oldest_seconds_ = std::max(oldest_seconds_, age);
    dead_letters_ += group.dead;
    if (group.paused_by_user) add(kWarning, queue.name, group.name, "paused");
    if (group.paused_by_dlq) add(kCritical, queue.name, group.name, "paused: as many dead letters as it may have");
    if (group.breaker_level != 0) add(kWarning, queue.name, group.name, "its circuit breaker is " + group.breaker);
    compare(queue, group, depth_, static_cast<double>(group.lag()), "{:.0f} messages unfinished, more than {:.0f}");
    compare(queue, group, age_, age, "the oldest message is {:.1f} s old, more than {} s");
    compare(queue, group, dead_, static_cast<double>(group.dead), "{:.0f} dead letters, more than {:.0f}");
    if (group.consumers < options_.min_consumers) {
      add(kCritical, queue.name, group.name,
          fmt::format("{} consumers, fewer than {}", group.consumers, options_.min_consumers));
    }
  }

  const CheckOptions& options_;
  Bound depth_;
  Bound age_;
  Bound dead_;
  std::vector<Problem> problems_;
  std::uint64_t queues_ = 0;
  std::uint64_t unfinished_ = 0;
  std::uint64_t dead_letters_ = 0;
  double oldest_seconds_ = 0;
};

}  // namespace

void add_check(CLI::App& app, Context& context) {
  auto options = std::make_shared<CheckOptions>();
  CLI::App* command =
      add_command(app, context, "check", "say in a line whether all is well; exit status 0 OK, 1 WARNING, 2 CRITICAL",
                  "mooring check orders --max-depth 500,1000 --max-age 30s,2m --max-dead 0,100", [options, &context] {
                    Check check(*options);
                    try {
                      check.look(context);
                    } catch (const Failure& failure) {
                      check.fail(failure.what());
                    }
                    return check.print(context.json);
                  });
  command->add_option("queue", options->queue, "name; all of them without it");
  command->add_option("--max-depth", options->max_depth,
                      "CRITICAL, or WARNING,CRITICAL: messages that a group has not finished");
  command->add_option("--max-age", options->max_age, "the same: age of a group's oldest message, like 30s,2m");
  command->add_option("--max-dead", options->max_dead, "the same: dead letters of a group");
  command->add_option("--min-consumers", options->min_consumers, "consumers that each group has at least");
}

}  // namespace mooring::cli
