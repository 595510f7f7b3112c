#include "message/headers.hpp"

#include <algorithm>

namespace mooring::message {

// version "-" trace-id "-" parent-id "-" flags: 2, 32, 16 and 2 lower-case hexadecimal digits. Version ff is forbidden,
// and so are a trace-id and a parent-id of zeros. What a version above 00 appends begins with "-".
bool is_traceparent(std::string_view text) {
  constexpr std::size_t kBytes = 55;
  if (text.size() < kBytes || text[2] != '-' || text[35] != '-' || text[52] != '-') return false;
  const std::string_view version = text.substr(0, 2);
  const std::string_view trace_id = text.substr(3, 32);
  const std::string_view parent_id = text.substr(36, 16);
  const auto is_hex = [](std::string_view digits) {
    return std::ranges::all_of(digits, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  };
  if (!is_hex(version) || !is_hex(trace_id) || !is_hex(parent_id) || !is_hex(text.substr(53, 2))) return false;
  if (version == "ff") return false;
  const auto is_zero = [](std::string_view digits) { return digits.find_first_not_of('0') == digits.npos; };
  if (is_zero(trace_id) || is_zero(parent_id)) return false;
  return text.size() == kBytes || (version != "00" && text[kBytes] == '-');
}

}  // namespace mooring::message
