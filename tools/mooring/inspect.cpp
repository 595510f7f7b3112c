#include "inspect.hpp"

namespace mooring::cli {
namespace {

template <class T>
T take(Result<T> result) {
  if (!result) throw Failure(static_cast<int>(result.error().code), result.error().text);
  return std::move(*result);
}

}  // namespace

InstanceFiles open_instance_files(const Context& context) { return take(find_instance_files(context.instance)); }

std::vector<std::string> queue_names(const InstanceFiles& instance) {
  return take(list_queues(instance.shared_directory));
}

QueueReport inspect_queue(const InstanceFiles& instance, const std::string& queue) {
  return take(read_queue_report(instance, queue, /*guarded=*/false));
}

Json to_json(const HolderReport& holder) {
  return {{"role", holder.producer ? "producer" : "consumer"},
          {"number", holder.number},
          {"pid", holder.pid},
          {"process", holder.process},
          {"state", holder.state},
          {"group", holder.producer ? Json() : Json(holder.group)},
          {"messages", holder.messages},
          {"acked", holder.producer ? Json() : Json(holder.acked)},
          {"in_flight", holder.producer ? Json() : Json(holder.in_flight)},
          {"waiting_for_room", holder.producer ? Json(holder.waiting_for_room) : Json()},
          {"blocked_seconds_total", holder.producer ? Json(static_cast<double>(holder.blocked_ns) / 1e9) : Json()}};
}

Json to_json(const QueueReport& report) {
  Json json = {{"queue", report.name},
               {"kind", report.spsc ? "spsc" : "mpmc"},
               {"durability", report.durability},
               {"max_backlog_bytes", report.max_backlog_bytes},
               {"state", report.life},
               {"overflow", report.overflow},
               {"capacity_messages", report.capacity},
               {"lane_bytes", report.lane_bytes},
               {"max_message_bytes", report.max_message_bytes},
               {"memory_bytes", report.memory_bytes},
               {"messages_published_total", report.published},
               {"bytes_published_total", report.bytes_published},
               {"publish_rejected_total", report.rejected},
               {"producer_blocked_seconds_total", static_cast<double>(report.blocked_ns) / 1e9},
               {"fill_ratio", static_cast<double>(report.fill_milli) / 1e3},
               {"above_high_water", report.above_high_water},
               {"high_water_total", report.high_water_total},
               {"path", report.where},
               {"groups", Json::array()}};
  if (report.dedup_max_messages != 0) {
    json["dedup_window_seconds"] = static_cast<double>(report.dedup_window_ns) / 1e9;
    json["dedup_max_messages"] = report.dedup_max_messages;
    json["dedup_ids_known"] = report.ids_known;
    json["duplicates_total"] = report.duplicates;
  }
  if (!report.journal.empty()) {
    json["deliver"] = report.deliver;
    json["journal"] = report.journal;
    json["durable_seq"] = report.durable_seq;
    json["journal_quota_bytes"] = report.journal_quota_bytes != 0 ? Json(report.journal_quota_bytes) : Json();
  }
  for (const GroupReport& group : report.groups) {
    json["groups"].push_back({{"group", group.name},
                              {"mode", group.exclusive ? "exclusive" : "competing"},
                              {"consumers", group.consumers},
                              {"ready", group.ready},
                              {"in_flight", group.in_flight},
                              {"parked", group.parked},
                              {"waiting", group.waiting},
                              {"dead", group.dead},
                              {"park_store_bytes", group.store_bytes},
                              {"paused", group.paused},
                              {"paused_by", Json::array()},
                              {"breaker", group.breaker},
                              {"breaker_level", group.breaker_level},
                              {"breaker_opened_total", group.breaker_opened},
                              {"stuck_killed_total", group.stuck_killed},
                              {"failed_total", group.failed},
                              {"dead_lettered_total", group.dead_lettered},
                              {"redriven_total", group.redriven},
                              {"dropped_total", group.dropped}});
    Json& of_group = json["groups"].back();
    if (group.paused_by_user) of_group["paused_by"].push_back("user");
    if (group.paused_by_dlq) of_group["paused_by"].push_back("dlq");
    if (group.breaker_level != 0) of_group["paused_by"].push_back("breaker");
    if (group.breaker == "open") {
      of_group["breaker_half_open_in_seconds"] = static_cast<double>(group.breaker_opens_in_ns) / 1e9;
    }
    for (const auto& [key, value] : group.settings) of_group["settings"][key] = value;
  }
  return json;
}

}  // namespace mooring::cli
