// mooring info: all about one queue.
#include <fmt/format.h>

#include "why.hpp"

namespace mooring::cli {
namespace {

std::string breaker_text(const GroupReport& group) {
  if (group.breaker == "open") {
    return fmt::format("open, for the {}. time in a row: gives nothing out for {:.1f} s, then one message",
                       group.breaker_level, static_cast<double>(group.breaker_opens_in_ns) / 1e9);
  }
  if (group.breaker == "half_open") return "half open: gives one message out, and goes on when that is acknowledged";
  return group.breaker;
}

}  // namespace

void add_info(CLI::App& app, Context& context) {
  auto queue = std::make_shared<std::string>();
  auto why = std::make_shared<bool>(false);
  CLI::App* command = add_command(
      app, context, "info", "show a queue: its sizes, counters and groups, and why they stand still",
      "mooring info orders --why", [queue, why, &context] {
        const QueueReport report = inspect_queue(open_instance_files(context), *queue);
        if (*why) {
          const WhyReport reasons = explain(report);
          if (context.json) {
            print_json({{"queue", report.name}, {"supervisor", report.supervisor.state}, {"why", to_json(reasons)}});
          } else {
            print(reasons);
          }
          return kExitOk;
        }
        if (context.json) {
          print_json(to_json(report));
          return kExitOk;
        }
        fmt::print(
            "queue             {}\nkind              {}\ndurability        {}\nstate             {}\n"
            "capacity          {} messages\nlane              {} bytes for each producer\n"
            "largest message   {} bytes\nwhen full         {}\nmemory            {} bytes\n"
            "published         {} messages, {} bytes\nrejected          {}\n"
            "filled            {:.0f} %{}\nwaited for room   {:.3f} s\nfiles             {}\n",
            report.name, report.spsc ? "spsc" : "mpmc", report.durability, report.life, report.capacity,
            report.lane_bytes,
            report.max_message_bytes, report.overflow, report.memory_bytes, report.published, report.bytes_published,
            report.rejected, static_cast<double>(report.fill_milli) / 10,
            report.above_high_water ? ", above its high watermark" : "", static_cast<double>(report.blocked_ns) / 1e9,
            report.where);
        if (report.overflow == "spill") {
          fmt::print("spill log         {}, has taken messages up to {}\n", report.journal, report.durable_seq);
        } else if (!report.journal.empty()) {
          fmt::print("journal           {}, delivers {}, on the disk are all messages below {}\njournal quota     {}\n",
                     report.journal, report.deliver == "early" ? "early" : "what is on the disk", report.durable_seq,
                     report.journal_quota_bytes == 0 ? "none"
                                                     : fmt::format("{} bytes", report.journal_quota_bytes));
        }
        if (report.dedup_max_messages != 0) {
          fmt::print("duplicates        {} so far; it knows {} message-ids, for {:g} s, at most {}\n",
                     report.duplicates, report.ids_known, static_cast<double>(report.dedup_window_ns) / 1e9,
                     report.dedup_max_messages);
        }
        if (report.max_backlog_bytes != 0) {
          fmt::print("largest backlog   {} bytes\n", report.max_backlog_bytes);
        }
        for (const GroupReport& group : report.groups) {
          fmt::print("group             {} ({}): {} ready, {} in flight, {} parked, {} consumers\n", group.name,
                     group.exclusive ? "exclusive" : "competing", group.ready, group.in_flight, group.parked,
                     group.consumers);
          fmt::print(
              "  failed          {} deliveries; {} messages wait for a retry, {} dead letters ({} ever, {} "
              "redriven, {} dropped)\n",
              group.failed, group.waiting, group.dead, group.dead_lettered, group.redriven, group.dropped);
          if (group.paused_by_user) {
            fmt::print("  paused          by `mooring pause`; `mooring resume` lets it go on\n");
          }
          if (group.paused_by_dlq) {
            fmt::print(
                "  paused          it has as many dead letters as it may (dlq_max_messages): see `mooring dlq ls`\n");
          }
          if (group.breaker != "off" || group.breaker_opened != 0) {
            fmt::print("  breaker         {}, opened {} times\n", breaker_text(group), group.breaker_opened);
          }
          std::string settings;
          for (const auto& [key, value] : group.settings) settings += fmt::format(" {}={}", key, value);
          fmt::print("  settings       {}\n", settings);
        }
        return kExitOk;
      });
  command->add_option("queue", *queue, "name")->required();
  command->add_flag("--why", *why, "say in a sentence for each group and consumer why it does not go on");
}

}  // namespace mooring::cli
