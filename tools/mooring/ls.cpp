// mooring ls: the queues of an instance, a line each.
#include <fmt/format.h>

#include <iostream>

#include "inspect.hpp"

namespace mooring::cli {

void add_ls(CLI::App& app, Context& context) {
  add_command(app, context, "ls", "list the queues of the instance", "mooring ls --json", [&context] {
    const InstanceFiles instance = open_instance_files(context);
    if (!context.json) {
      fmt::print("{:<24} {:<5} {:<8} {:>12} {:>10} {:>10} {:>9} {:>9}\n", "QUEUE", "KIND", "STATE", "PUBLISHED",
                 "READY", "IN FLIGHT", "PRODUCERS", "CONSUMERS");
    }
    int exit_code = kExitOk;
    for (const std::string& name : queue_names(instance)) {
      try {
        const QueueReport report = inspect_queue(instance, name);
        if (context.json) {
          print_json(to_json(report));
          continue;
        }
        std::uint64_t ready = 0;
        std::uint64_t in_flight = 0;
        std::uint64_t consumers = 0;
        for (const GroupReport& group : report.groups) {
          ready += group.ready;
          in_flight += group.in_flight;
          consumers += group.consumers;
        }
        fmt::print("{:<24} {:<5} {:<8} {:>12} {:>10} {:>10} {:>9} {:>9}\n", report.name, report.spsc ? "spsc" : "mpmc",
                   report.life, report.published, ready, in_flight, report.holders.size() - consumers, consumers);
      } catch (const Failure& failure) {
        if (failure.code() == MOORING_ERR_NO_SUCH_QUEUE) continue;  // removed while we looked
        // One damaged queue does not hide the others.
        std::cerr << "mooring: " << failure.what() << '\n';
        exit_code = kExitFailed;
      }
    }
    return exit_code;
  });
}

}  // namespace mooring::cli
