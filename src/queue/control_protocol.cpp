#include "queue/control_protocol.hpp"

#include <fmt/format.h>

namespace mooring {

Result<Json> parse_packet(std::string_view packet) {
  Json json = Json::parse(packet, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object()) {
    return fail(Code::kBadArgument, "control packet is not a JSON object; the other side speaks another protocol");
  }
  return json;
}

Result<std::string> string_member(const Json& object, std::string_view name) {
  const auto member = object.find(name);
  if (member == object.end() || !member->is_string()) {
    return fail(Code::kBadArgument, fmt::format("control packet: member \"{}\" is missing or not a string", name));
  }
  return member->get<std::string>();
}

Result<u64> number_member(const Json& object, std::string_view name, u64 least, u64 most) {
  const auto member = object.find(name);
  if (member == object.end() || !member->is_number_unsigned()) {
    return fail(Code::kBadArgument,
                fmt::format("control packet: member \"{}\" is missing or not a whole number", name));
  }
  const u64 value = member->get<u64>();
  if (value < least || value > most) {
    return fail(Code::kBadArgument,
                fmt::format("control packet: \"{}\" is {}, allowed is {} to {}", name, value, least, most));
  }
  return value;
}

Result<bool> bool_member(const Json& object, std::string_view name) {
  const auto member = object.find(name);
  if (member == object.end() || !member->is_boolean()) {
    return fail(Code::kBadArgument, fmt::format("control packet: member \"{}\" is missing or not a boolean", name));
  }
  return member->get<bool>();
}

Json queue_options_to_json(const QueueOptions& options) {
  Json json = {{"kind", static_cast<u32>(options.kind)}, {"overflow", static_cast<u32>(options.overflow)},
               {"durability", static_cast<u32>(options.durability)}, {"deliver", static_cast<u32>(options.deliver)},
               {"capacity", options.capacity},           {"max_message_bytes", options.max_message_bytes},
               {"lane_bytes", options.lane_bytes},       {"max_backlog_bytes", options.max_backlog_bytes},
               {"producers_max", options.producers_max},
               {"consumers_max", options.consumers_max}, {"groups_max", options.groups_max},
               {"file_mode", options.file_mode},         {"small_for_tests", options.small_for_tests}};
  if (options.journal_quota_bytes != 0) json["journal_quota_bytes"] = options.journal_quota_bytes;
  if (options.dedup_window_ns != 0) json["dedup_window_ns"] = options.dedup_window_ns;
  if (options.dedup_max_messages != 0) json["dedup_max_messages"] = options.dedup_max_messages;
  if (options.group_id.has_value()) json["group_id"] = *options.group_id;
  return json;
}

Result<QueueOptions> queue_options_from_json(const Json& object) {
  if (!object.is_object()) return fail(Code::kBadArgument, "control packet: \"options\" is not an object");
  QueueOptions options;
  constexpr u64 kAny = ~u64{0};
  constexpr u64 kAny32 = ~u32{0};
  auto read32 = [&](std::string_view name, u32* value) -> Status {
    const auto number = number_member(object, name, 0, kAny32);
    if (!number) return fail(number.error());
    *value = static_cast<u32>(*number);
    return {};
  };
  u32 kind = 0;
  u32 overflow = 0;
  u32 durability = 0;
  u32 deliver = 0;
  for (const auto& [name, value] : {std::pair<std::string_view, u32*>{"kind", &kind},
                                    {"overflow", &overflow},
                                    {"durability", &durability},
                                    {"deliver", &deliver},
                                    {"producers_max", &options.producers_max},
                                    {"consumers_max", &options.consumers_max},
                                    {"groups_max", &options.groups_max},
                                    {"file_mode", &options.file_mode}}) {
    if (Status status = read32(name, value); !status) return fail(status.error());
  }
  for (const auto& [name, value] : {std::pair<std::string_view, u64*>{"capacity", &options.capacity},
                                    {"max_message_bytes", &options.max_message_bytes},
                                    {"lane_bytes", &options.lane_bytes}}) {
    const auto number = number_member(object, name, 0, kAny);
    if (!number) return fail(number.error());
    *value = *number;
  }
  if (kind != 1 && kind != 2) return fail(Code::kBadArgument, "queue option kind: neither spsc nor mpmc");
  if (overflow < 1 || overflow > 3)
    return fail(Code::kBadArgument, "queue option overflow: neither block, reject nor spill");
  options.kind = static_cast<layout::QueueKind>(kind);
  options.overflow = static_cast<layout::Overflow>(overflow);
  options.durability = static_cast<layout::Durability>(durability);  // plan_queue refuses what it does not know
  options.deliver = static_cast<layout::Deliver>(deliver);
  if (object.contains("journal_quota_bytes")) {
    const auto quota = number_member(object, "journal_quota_bytes", 0, kAny);
    if (!quota) return fail(quota.error());
    options.journal_quota_bytes = *quota;
  }
  if (object.contains("max_backlog_bytes")) {  // not in the files of 0.1
    const auto number = number_member(object, "max_backlog_bytes", 0, kAny);
    if (!number) return fail(number.error());
    options.max_backlog_bytes = *number;
  }
  for (const auto& [name, value] : {std::pair<std::string_view, u64*>{"dedup_window_ns", &options.dedup_window_ns},
                                    {"dedup_max_messages", &options.dedup_max_messages}}) {
    if (!object.contains(name)) continue;
    const auto number = number_member(object, name, 0, kAny);
    if (!number) return fail(number.error());
    *value = *number;
  }
  if (object.contains("group_id")) {
    const auto group = number_member(object, "group_id", 0, kAny32);
    if (!group) return fail(group.error());
    options.group_id = static_cast<u32>(*group);
  }
  if (object.contains("small_for_tests")) {
    const auto small = bool_member(object, "small_for_tests");
    if (!small) return fail(small.error());
    options.small_for_tests = *small;
  }
  return options;
}

Json reply_ok() { return Json{{"code", 0}}; }

Json reply_error(const Error& error) { return Json{{"code", static_cast<int>(error.code)}, {"text", error.text}}; }

Result<Json> check_reply(Json reply) {
  const auto code = reply.find("code");
  if (code == reply.end() || !code->is_number_integer()) {
    return fail(Code::kIo, "the supervisor's reply has no \"code\"; it speaks another protocol");
  }
  const int value = code->get<int>();
  if (value == 0) return reply;
  const auto text = reply.find("text");
  return fail(static_cast<Code>(value),
              text != reply.end() && text->is_string() ? text->get<std::string>() : std::string("refused"));
}

}  // namespace mooring
