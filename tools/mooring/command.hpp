// What every command of `mooring` has: the instance it speaks to, how it prints, and how it ends.
//
// Exit status: 0 done, 1 failed (one sentence on standard error), 2 wrong arguments, 4 nothing received in time.
#pragma once

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "mooring/mooring.hpp"

namespace mooring::cli {

using Json = nlohmann::ordered_json;

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitNothing = 4;

// Options in front of the command; every command gets --json and --instance itself as well.
struct Context {
  std::string instance;
  bool json = false;
  int exit_code = kExitOk;
};

// Adds the command with --json and --instance. `run` returns the exit status; a thrown Failure becomes its text.
CLI::App* add_command(CLI::App& app, Context& context, const std::string& name, const std::string& description,
                      const std::string& example, std::function<int()> run);

// A connected instance. Throws mooring::Failure (mooring.hpp).
Instance connect(const Context& context);

void print_json(const Json& json);  // one line

// Set by SIGINT and SIGTERM: loops end at the next message, settle what they hold, and leave in good order.
bool interrupted();
void catch_interrupts();

// "64K", "16M", "1G" or plain bytes; as a CLI11 transformation of an option into a number.
std::uint64_t parse_size(const std::string& text);

// A length of time as options are given, in nanoseconds: "250ms", "1h" (delivery/policy.hpp); a plain number is
// seconds. Throws CLI::ValidationError.
std::uint64_t parse_time(const std::string& text);
extern const CLI::Validator time_above_zero;  // of an option that is a length of time

// "2026-11-22T10:15:21.000Z", "-" for 0.
std::string time_text(std::uint64_t wall_ns);

// Each in a file of its own.
void add_create(CLI::App& app, Context& context);
void add_ls(CLI::App& app, Context& context);
void add_info(CLI::App& app, Context& context);
void add_publish(CLI::App& app, Context& context);
void add_receive(CLI::App& app, Context& context);
void add_consumers(CLI::App& app, Context& context);
void add_rm(CLI::App& app, Context& context);
void add_group_settings(CLI::App& app, Context& context);
void add_dlq(CLI::App& app, Context& context);
void add_journal(CLI::App& app, Context& context);
void add_journal_salvage(CLI::App& journal, Context& context);  // a subcommand of it
void add_stats(CLI::App& app, Context& context);
void add_check(CLI::App& app, Context& context);
void add_metrics(CLI::App& app, Context& context);
void add_bench(CLI::App& app, Context& context);
void add_shutdown(CLI::App& app, Context& context);

}  // namespace mooring::cli
