// Bytes of others on a terminal, which takes control characters for orders.
#pragma once

#include <string>
#include <string_view>

namespace mooring::cli {

bool is_utf8(std::string_view bytes);
// On one line, with what could steer a terminal or turn the order of letters around written as \xNN, byte by byte.
std::string printable(std::string_view text);
// The first `bytes_max` bytes (0: all): as printable() where it is text, else as hexadecimal digits, and what is left
// out.
std::string payload_text(std::string_view payload, std::size_t bytes_max);
std::string hex_text(std::string_view bytes);

}  // namespace mooring::cli
