#include "headers.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "message/decoder.hpp"
#include "terminal_text.hpp"

namespace mooring::cli {
namespace {

constexpr std::string_view kHeaderVariable = "MOORING_HEADER_";

std::string on_expire_text(std::uint32_t on_expire) { return on_expire == MOORING_ON_EXPIRE_DROP ? "drop" : "dead"; }

// The texts among the headers, in the order in which they are shown: "correlation-id", text.
template <class Visit>
void each_text(const mooring_headers& headers, const Visit& visit) {
  const std::pair<const char*, const mooring_slice*> all[] = {
      {"message-id", &headers.message_id},
      {"correlation-id", &headers.correlation_id},
      {"reply-to", &headers.reply_to},
      {"content-type", &headers.content_type},
      {"type", &headers.type},
      {"traceparent", &headers.traceparent},
      {"ordering-key", &headers.ordering_key},
  };
  for (const auto& [name, slice] : all) {
    if (slice->size != 0) visit(name, as_text(*slice));
  }
}

// The numbers: "schema-version", 7.
template <class Visit>
void each_number(const mooring_headers& headers, const Visit& visit) {
  if (headers.schema_version != 0) visit("schema-version", headers.schema_version);
  if (headers.priority != 0) visit("priority", headers.priority);
}

std::string with(std::string_view name, char from, char to) {
  std::string changed(name);
  std::ranges::replace(changed, from, to);
  return changed;
}

// "correlation-id" and "X-Tenant" as the end of a variable's name.
std::string variable_name(std::string_view name) {
  std::string variable;
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    variable += std::isalnum(byte) != 0 && byte < 0x80 ? static_cast<char>(std::toupper(byte)) : '_';
  }
  return variable;
}

}  // namespace

HeaderOptions::Filled::Filled(const HeaderOptions& given) : options_(publish_options()) {
  if (!given.delay.empty()) options_.delay_ns = parse_time(given.delay);
  if (!given.ttl.empty()) options_.ttl_ns = parse_time(given.ttl);
  if (!given.on_expire.empty()) {
    options_.on_expire = given.on_expire == "drop" ? MOORING_ON_EXPIRE_DROP : MOORING_ON_EXPIRE_DEAD;
  }
  options_.schema_version = given.schema_version;
  options_.priority = given.priority;
  options_.message_id = as_slice(given.message_id);
  options_.correlation_id = as_slice(given.correlation_id);
  options_.ordering_key = as_slice(given.ordering_key);
  options_.reply_to = given.reply_to.c_str();
  options_.content_type = given.content_type.c_str();
  options_.type = given.type.c_str();
  options_.traceparent = given.traceparent.c_str();
  for (const std::string& pair : given.headers) {
    const std::size_t equals = pair.find('=');
    headers_.push_back(as_header(std::string_view(pair).substr(0, equals), std::string_view(pair).substr(equals + 1)));
  }
  options_.headers = headers_.data();
  options_.headers_count = headers_.size();
}

void add_header_options(CLI::App& command, CLI::Option& message, HeaderOptions& options) {
  const std::string group = "Headers (carried with each message)";
  const auto add = [&](const std::string& name, auto& value, const std::string& description) {
    return command.add_option(name, value, description)->group(group);
  };
  add("--message-id", options.message_id, "names this one message")->needs(&message);
  add("--correlation-id", options.correlation_id, "names what it belongs to, or answers");
  add("--reply-to", options.reply_to, "where an answer is wanted, such as a queue");
  add("--content-type", options.content_type, "media type of the payload");
  add("--type", options.type, "type of the event or command");
  add("--schema-version", options.schema_version, "of the payload");
  add("--traceparent", options.traceparent, "W3C Trace Context, 00-<32 hex>-<16 hex>-<2 hex>");
  add("--key", options.ordering_key, "ordering key");
  add("--priority", options.priority, "0 to 255");
  CLI::Option* ttl = add("--ttl", options.ttl, "time until it expires, as in 90s or 1h")->check(time_above_zero);
  add("--on-expire", options.on_expire, "what becomes of it then: dead (the default) or drop")
      ->check(CLI::IsMember({"dead", "drop"}))
      ->needs(ttl);
  add("--delay", options.delay, "time before it is delivered, as in 500ms")->check(time_above_zero);
  add("--header", options.headers, "NAME=VALUE, a header of the application; may be given again")
      ->allow_extra_args(false)
      ->check([](const std::string& pair) {
        const std::size_t equals = pair.find('=');
        return equals == std::string::npos || equals == 0 ? pair + ": NAME=VALUE is needed" : std::string();
      });
}

StoredMessage stored_message(std::uint64_t seq, std::uint32_t frame_flags, std::span<const std::uint8_t> bytes) {
  StoredMessage stored;
  stored.message.seq = seq;
  stored.message.data = bytes.data();
  stored.message.size = bytes.size();
  stored.has_headers = (frame_flags & layout::kFrameExtension) != 0;
  if (!stored.has_headers) return stored;
  std::uint64_t headers_bytes = 0;
  mooring_headers headers;
  stored.headers_make_sense = message::extension_of({bytes.data(), bytes.size()}, &headers_bytes) == Code::kOk;
  stored.message.data = bytes.data() + headers_bytes;
  stored.message.size = bytes.size() - headers_bytes;
  stored.message.headers_size = headers_bytes;
  if (stored.headers_make_sense) {
    stored.headers_make_sense = mooring_message_headers(&stored.message, &headers, sizeof headers) == MOORING_OK;
  }
  return stored;
}

Json headers_to_json(const mooring_message& message) {
  const mooring_headers headers = headers_of(message);
  Json json = Json::object();
  each_text(headers, [&](const char* name, std::string_view text) { json[with(name, '-', '_')] = std::string(text); });
  each_number(headers, [&](const char* name, std::uint32_t number) { json[with(name, '-', '_')] = number; });
  if (headers.deliver_at_ns != 0) json["deliver_at_ns"] = headers.deliver_at_ns;
  if (headers.expires_at_ns != 0) {
    json["expires_at_ns"] = headers.expires_at_ns;
    json["on_expire"] = on_expire_text(headers.on_expire);
  }
  if (headers.headers_count != 0) {
    Json list = Json::array();
    each_header(message, [&](std::string_view name, std::string_view value) {
      list.push_back({{"name", std::string(name)}, {"value", std::string(value)}});
    });
    json["application"] = std::move(list);
  }
  return json;
}

std::string headers_to_text(const mooring_message& message) {
  std::string lines = fmt::format("seq: {}\nattempt: {}\n", message.seq, message.attempt);
  const auto line = [&](std::string_view name, std::string_view value) {
    lines += fmt::format("{}: {}\n", printable(name), printable(value));
  };
  const mooring_headers headers = headers_of(message);
  each_text(headers, line);
  each_number(headers, [&](const char* name, std::uint32_t number) { line(name, std::to_string(number)); });
  if (headers.deliver_at_ns != 0) line("deliver-at", time_text(headers.deliver_at_ns));
  if (headers.expires_at_ns != 0) {
    line("expires-at", time_text(headers.expires_at_ns));
    line("on-expire", on_expire_text(headers.on_expire));
  }
  each_header(message,
              [&](std::string_view name, std::string_view value) { line("header " + std::string(name), value); });
  return lines;
}

std::vector<std::string> environment_of(const mooring_message& message) {
  std::vector<std::string> variables;
  const auto add = [&](std::string_view name, std::string_view value) {
    if (value.find('\0') != value.npos) return;  // no environment can hold it
    const std::string entry = fmt::format("{}={}", name, value);
    const std::string_view key = std::string_view(entry).substr(0, name.size() + 1);
    // Two headers that make one variable: the first, as mooring_message_header gives it.
    for (const std::string& before : variables) {
      if (before.starts_with(key)) return;
    }
    variables.push_back(entry);
  };
  const auto add_header = [&](std::string_view name, std::string_view value) {
    add("MOORING_" + variable_name(name), value);
  };
  add("MOORING_SEQ", std::to_string(message.seq));
  add("MOORING_ATTEMPT", std::to_string(message.attempt));
  const mooring_headers headers = headers_of(message);
  each_text(headers, add_header);
  each_number(headers, [&](const char* name, std::uint32_t number) { add_header(name, std::to_string(number)); });
  if (headers.deliver_at_ns != 0) add("MOORING_DELIVER_AT_NS", std::to_string(headers.deliver_at_ns));
  if (headers.expires_at_ns != 0) {
    add("MOORING_EXPIRES_AT_NS", std::to_string(headers.expires_at_ns));
    add("MOORING_ON_EXPIRE", on_expire_text(headers.on_expire));
  }
  each_header(message, [&](std::string_view name, std::string_view value) {
    add(std::string(kHeaderVariable) + variable_name(name), value);
  });
  return variables;
}

bool is_message_variable(std::string_view entry) {
  static constexpr std::array<std::string_view, 14> kNames = {
      "MOORING_SEQ",           "MOORING_ATTEMPT",        "MOORING_MESSAGE_ID", "MOORING_CORRELATION_ID",
      "MOORING_REPLY_TO",      "MOORING_CONTENT_TYPE",   "MOORING_TYPE",       "MOORING_TRACEPARENT",
      "MOORING_ORDERING_KEY",  "MOORING_SCHEMA_VERSION", "MOORING_PRIORITY",   "MOORING_DELIVER_AT_NS",
      "MOORING_EXPIRES_AT_NS", "MOORING_ON_EXPIRE",
  };
  const std::string_view name = entry.substr(0, entry.find('='));
  return name.starts_with(kHeaderVariable) || std::ranges::find(kNames, name) != kNames.end();
}

}  // namespace mooring::cli
