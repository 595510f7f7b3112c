#include "command.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iostream>

#include "delivery/policy.hpp"

namespace mooring::cli {
namespace {

// Relaxed: a count, read by the thread that the handler interrupts.
std::atomic<int> interrupt_count{0};
static_assert(std::atomic<int>::is_always_lock_free, "it is used in a signal handler");

void on_interrupt(int number) {
  // The second one ends us at once: whatever we hold is given back by the supervisor.
  if (interrupt_count.fetch_add(1, std::memory_order_relaxed) > 0) std::_Exit(128 + number);
}

}  // namespace

CLI::App* add_command(CLI::App& app, Context& context, const std::string& name, const std::string& description,
                      const std::string& example, std::function<int()> run) {
  CLI::App* command = app.add_subcommand(name, description);
  command->footer("Example:\n  " + example);
  command->add_flag("--json", context.json, "print JSON, one object a line");
  command->add_option("--instance", context.instance, "directory of the instance (default: MOORING_INSTANCE, else the "
                                                      "system's)");
  command->callback([&context, run = std::move(run)] { context.exit_code = run(); });
  return command;
}

Instance connect(const Context& context) { return Instance(context.instance); }

void print_json(const Json& json) {
  std::cout << json.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
  std::cout.flush();
}

bool interrupted() { return interrupt_count.load(std::memory_order_relaxed) != 0; }

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;  // no SA_RESTART: a blocking receive returns MOORING_INTERRUPTED
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

std::uint64_t parse_time(const std::string& text) {
  const bool is_plain = !text.empty() && text.find_first_not_of("0123456789.") == std::string::npos;
  const Result<u64> parsed = parse_duration(is_plain ? text + "s" : text);
  if (!parsed) throw CLI::ValidationError(parsed.error().text);
  return *parsed;
}

const CLI::Validator time_above_zero(
    [](std::string& text) -> std::string {
      try {
        return parse_time(text) != 0 ? "" : "it must be longer than nothing";
      } catch (const CLI::ValidationError& error) {
        return error.what();
      }
    },
    "TIME");

std::string time_text(std::uint64_t wall_ns) {
  if (wall_ns == 0) return "-";
  const auto seconds = static_cast<std::time_t>(wall_ns / 1'000'000'000);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(seconds), wall_ns / 1'000'000 % 1000);
}

std::uint64_t parse_size(const std::string& text) {
  std::size_t used = 0;
  std::uint64_t value = 0;
  try {
    value = std::stoull(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  std::uint64_t factor = 1;
  if (used != 0 && used + 1 == text.size()) {
    switch (text[used]) {
      case 'k': case 'K': factor = std::uint64_t{1} << 10; break;
      case 'm': case 'M': factor = std::uint64_t{1} << 20; break;
      case 'g': case 'G': factor = std::uint64_t{1} << 30; break;
      default: factor = 0; break;
    }
  } else if (used == 0 || used != text.size()) {
    factor = 0;
  }
  if (factor == 0 || text.front() == '-' || (factor > 1 && value > ~std::uint64_t{0} / factor)) {
    throw CLI::ValidationError(fmt::format("{}: a number of bytes, like 4096, 64K or 16M", text));
  }
  return value * factor;
}

}  // namespace mooring::cli
