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
        if (report.overflow == "spill") {
          fmt::print("spill log         {}, has taken messages up to {}\n", report.journal, report.durable_seq);
        } else if (!report.journal.empty()) {
          fmt::print("journal           {}, delivers {}, on the disk are all messages below {}\njournal quota     {}\n",
                     report.journal, report.deliver == "early" ? "early" : "what is on the disk", report.durable_seq,
                     report.journal_quota_bytes == 0 ? "none"
                                                     : fmt::format("{} bytes", report.journal_quota_bytes));
        }
        if (report.max_backlog_bytes != 0) {
          fmt::print("largest backlog   {} bytes\n", report.max_backlog_bytes);
        }
        for (const GroupReport& group : report.groups) {
          fmt::print("group             {} ({}): {} ready, {} in flight, {} parked, {} consumers\n", group.name,
                     group.exclusive ? "exclusive" : "competing", group.ready, group.in_flight, group.parked,
                     group.consumers);
          if (group.exclusive) continue;
          fmt::print(
              "  failed          {} deliveries; {} messages wait for a retry, {} dead letters ({} ever, {} "
              "redriven, {} dropped)\n",
              group.failed, group.waiting, group.dead, group.dead_lettered, group.redriven, group.dropped);
          if (group.paused) {
            fmt::print("  paused          {}\n",
                       group.paused_by_dlq
                           ? "it has as many dead letters as it may (dlq_max_messages): see `mooring dlq ls`"
                           : "by `mooring pause`; `mooring resume` lets it go on");
          }
          std::string settings;
          for (const auto& [key, value] : group.settings) settings += fmt::format(" {}={}", key, value);
          fmt::print("  settings       {}\n", settings);
        }
        return kExitOk;
      });
  command->add_option("queue", *queue, "name")->required();
}

}  // namespace mooring::cli
