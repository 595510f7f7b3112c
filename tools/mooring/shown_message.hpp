// A message that was read beside its consumers, as peek and tail show it.
#pragma once

#include "headers.hpp"
#include "message_peek.hpp"

namespace mooring::cli {

// Size, headers, payload ("data", or "data_hex" where it is no text) into `json`.
void add_content(Json& json, const MessagePeek::Copy& copy);
// Headers a line each, as `receive --headers` has them but for seq and attempt; "" without any.
std::string header_lines(const MessagePeek::Copy& copy);
std::string_view payload_of(const MessagePeek::Copy& copy);

}  // namespace mooring::cli
