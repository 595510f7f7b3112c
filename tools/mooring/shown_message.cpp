#include "shown_message.hpp"

#include "terminal_text.hpp"

namespace mooring::cli {
namespace {

StoredMessage stored(const MessagePeek::Copy& copy) { return stored_message(copy.seq, copy.frame_flags, copy.bytes); }

}  // namespace

std::string_view payload_of(const MessagePeek::Copy& copy) {
  const StoredMessage message = stored(copy);
  return {static_cast<const char*>(message.message.data), message.message.size};
}

void add_content(Json& json, const MessagePeek::Copy& copy) {
  const StoredMessage message = stored(copy);
  const std::string_view payload = payload_of(copy);
  json["size"] = payload.size();
  if (message.has_headers) json["headers"] = message.headers_make_sense ? headers_to_json(message.message) : Json();
  if (is_utf8(payload)) {
    json["data"] = std::string(payload);
  } else {
    json["data_hex"] = hex_text(payload);
  }
}

std::string header_lines(const MessagePeek::Copy& copy) {
  const StoredMessage message = stored(copy);
  if (!message.has_headers) return {};
  if (!message.headers_make_sense) return "headers that make no sense\n";
  const std::string lines = headers_to_text(message.message);
  return lines.substr(lines.find('\n', lines.find('\n') + 1) + 1);  // behind seq and attempt
}

}  // namespace mooring::cli
