// mooring info: all about one queue.
#include <fmt/format.h>

#include "inspect.hpp"

namespace mooring::cli {

void add_info(CLI::App& app, Context& context) {
  auto queue = std::make_shared<std::string>();
  CLI::App* command = add_command(
      app, context, "info", "show a queue: its sizes, counters and groups", "mooring info orders", [queue, &context] {
        const QueueReport report = inspect_queue(open_instance_files(context), *queue);
        if (context.json) {
          print_json(to_json(report));
          return kExitOk;
        }
        fmt::print(
            "queue             {}\nkind              {}\ndurability        {}\nstate             {}\n"
            "capacity          {} messages\nlane              {} bytes for each producer\n"
            "largest message   {} bytes\nwhen full         {}\nmemory            {} bytes\n"
            "published         {} messages, {} bytes\nrejected          {}\n"
            "waited for room   {:.3f} s\nfiles             {}\n",
            report.name, report.spsc ? "spsc" : "mpmc", report.durability, report.life, report.capacity,
            report.lane_bytes,
            report.max_message_bytes, report.overflow, report.memory_bytes, report.published, report.bytes_published,
            report.rejected, static_cast<double>(report.blocked_ns) / 1e9, report.where);
        if (report.max_backlog_bytes != 0) {
          fmt::print("largest backlog   {} bytes\n", report.max_backlog_bytes);
        }
        for (const GroupReport& group : report.groups) {
          fmt::print("group             {} ({}): {} ready, {} in flight, {} parked, {} consumers\n", group.name,
                     group.exclusive ? "exclusive" : "competing", group.ready, group.in_flight, group.parked,
                     group.consumers);
        }
        return kExitOk;
      });
  command->add_option("queue", *queue, "name")->required();
}

}  // namespace mooring::cli
