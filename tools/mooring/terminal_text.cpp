#include "terminal_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace mooring::cli {
namespace {

// How many bytes of the character at the front steer: C0, DEL, C1 (C2 80 to C2 9F), and what changes the direction of
// text (U+200E, U+200F, U+2028 to U+202E, U+2066 to U+2069).
std::size_t steering_bytes(std::string_view text) {
  const auto byte = [text](std::size_t at) { return at < text.size() ? static_cast<unsigned char>(text[at]) : 0U; };
  if (byte(0) < 0x20 || byte(0) == 0x7f) return 1;
  if (byte(0) == 0xc2 && byte(1) >= 0x80 && byte(1) <= 0x9f) return 2;
  if (byte(0) != 0xe2) return 0;
  const bool marks = byte(1) == 0x80 && (byte(2) == 0x8e || byte(2) == 0x8f || (byte(2) >= 0xa8 && byte(2) <= 0xae));
  const bool isolates = byte(1) == 0x81 && byte(2) >= 0xa6 && byte(2) <= 0xa9;
  return marks || isolates ? 3 : 0;
}

}  // namespace

bool is_utf8(std::string_view bytes) {
  try {
    static_cast<void>(nlohmann::json(bytes).dump());  // strict: throws on anything else
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

std::string printable(std::string_view text) {
  std::string shown;
  const bool whole = is_utf8(text);
  while (!text.empty()) {
    std::size_t steering = steering_bytes(text);
    // Stray bytes: eight-bit terminals have C1 there.
    if (!whole && steering == 0 && static_cast<unsigned char>(text[0]) >= 0x80) steering = 1;
    for (std::size_t at = 0; at < std::max<std::size_t>(steering, 1); ++at) {
      if (steering == 0) {
        shown += text[at];
      } else {
        shown += fmt::format("\\x{:02x}", static_cast<unsigned>(static_cast<unsigned char>(text[at])));
      }
    }
    text.remove_prefix(std::max<std::size_t>(steering, 1));
  }
  return shown;
}

std::string hex_text(std::string_view bytes) {
  std::string digits;
  for (const char c : bytes) digits += fmt::format("{:02x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
  return digits;
}

std::string payload_text(std::string_view payload, std::size_t bytes_max) {
  std::string_view first = bytes_max == 0 ? payload : payload.substr(0, bytes_max);
  if (first.size() < payload.size()) {
    // Not in the middle of a character.
    for (int back = 0;
         back < 3 && !first.empty() && (static_cast<unsigned char>(payload[first.size()]) & 0xc0U) == 0x80; ++back) {
      first.remove_suffix(1);
    }
  }
  const bool text = is_utf8(first);
  std::string shown = text ? printable(first) : "hex " + hex_text(first);
  if (first.size() < payload.size()) shown += fmt::format(" ... and {} bytes more", payload.size() - first.size());
  return shown;
}

}  // namespace mooring::cli
