// The headers of a message as C++ sees them: what a publisher gives, and what a reader finds. No bytes are owned here:
// views point into the publisher's memory, or into the extension of a received message.
#pragma once

#include <string_view>

#include "layout/extension.hpp"

namespace mooring::message {

// Of the application: a name and any bytes.
struct Header {
  const char* name = nullptr;
  std::size_t name_bytes = 0;
  const void* value = nullptr;
  std::size_t value_bytes = 0;
};

// Empty, or 0: not there.
struct Headers {
  u64 deliver_at_ns = 0;  // wall clock
  u64 expires_at_ns = 0;  // wall clock
  layout::OnExpire on_expire = layout::OnExpire::kDead;
  u32 schema_version = 0;
  u32 priority = 0;
  std::string_view message_id;
  std::string_view correlation_id;
  std::string_view ordering_key;
  std::string_view reply_to;
  std::string_view content_type;
  std::string_view type;
  std::string_view traceparent;
};

// The text of a traceparent header as W3C Trace Context has it: version "00" exactly, later versions as far as a
// reader of version 00 may read them.
bool is_traceparent(std::string_view text);

}  // namespace mooring::message
