// mooring: the command line of Mooring. One file a command.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>

#include "command.hpp"
#include "operator_commands.hpp"

int main(int argc, char** argv) {
  CLI::App app{"mooring: queues in shared memory, between the processes of one host."};
  app.set_version_flag("--version", std::string("mooring ") + MOORING_VERSION_STRING);
  app.require_subcommand(1);
  app.footer(
      "Example:\n  export MOORING_AUTOSTART=1\n  mooring create orders\n  mooring publish orders 'hello'\n  mooring "
      "receive orders --ack\n\nOne command's options: mooring COMMAND --help");
  mooring::cli::Context context;
  mooring::cli::add_create(app, context);
  mooring::cli::add_ls(app, context);
  mooring::cli::add_info(app, context);
  mooring::cli::add_publish(app, context);
  mooring::cli::add_receive(app, context);
  mooring::cli::add_operator_commands(app, context);
  mooring::cli::add_consumers(app, context);
  mooring::cli::add_rm(app, context);
  mooring::cli::add_group_settings(app, context);
  mooring::cli::add_dlq(app, context);
  mooring::cli::add_journal(app, context);
  mooring::cli::add_stats(app, context);
  mooring::cli::add_check(app, context);
  mooring::cli::add_metrics(app, context);
  mooring::cli::add_bench(app, context);
  mooring::cli::add_shutdown(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : mooring::cli::kExitUsage;
  } catch (const mooring::Failure& failure) {
    if (context.json) {
      mooring::cli::print_json({{"error", failure.code()}, {"text", failure.what()}});
    }
    std::cerr << "mooring: " << failure.what() << '\n';
    return mooring::cli::kExitFailed;
  } catch (const std::exception& error) {
    std::cerr << "mooring: " << error.what() << '\n';
    return mooring::cli::kExitFailed;
  }
  std::cout.flush();
  if (!std::cout) {
    std::cerr << "mooring: cannot write to standard output\n";
    return mooring::cli::kExitFailed;
  }
  return context.exit_code;
}
