// mooring consumers: who holds the lanes and seats of a queue.
#include <fmt/format.h>

#include "inspect.hpp"

namespace mooring::cli {

void add_consumers(CLI::App& app, Context& context) {
  auto queue = std::make_shared<std::string>();
  CLI::App* command =
      add_command(app, context, "consumers", "list the consumers and producers of a queue, with process and state",
                  "mooring consumers orders", [queue, &context] {
                    const QueueReport report = inspect_queue(open_instance_files(context), *queue);
                    if (!context.json) {
                      fmt::print("{:<9} {:>6} {:>8} {:<16} {:<8} {:<16} {:>12} {:>12}\n", "ROLE", "NUMBER", "PID",
                                 "PROCESS", "STATE", "GROUP", "MESSAGES", "ACKED");
                    }
                    for (const HolderReport& holder : report.holders) {
                      if (context.json) {
                        print_json(to_json(holder));
                      } else {
                        fmt::print("{:<9} {:>6} {:>8} {:<16} {:<8} {:<16} {:>12} {:>12}\n",
                                   holder.producer ? "producer" : "consumer", holder.number, holder.pid, holder.process,
                                   holder.state, holder.producer ? "-" : holder.group, holder.messages,
                                   holder.producer ? std::string("-") : fmt::format("{}", holder.acked));
                      }
                    }
                    return kExitOk;
                  });
  command->add_option("queue", *queue, "name")->required();
}

}  // namespace mooring::cli
