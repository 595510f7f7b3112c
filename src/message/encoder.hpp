// From publish options to the bytes before the payload: first the plan (everything checked, the size known), then, when
// the room is there, the bytes. No other code writes an extension.
#pragma once

#include <span>

#include "base/error.hpp"
#include "message/headers.hpp"

namespace mooring::message {

// What a publisher asks for. `delay_ns` and `ttl_ns` are relative to the publish; the extension has wall-clock times.
struct PublishOptions {
  u64 deliver_at_ns = 0;  // or delay_ns, not both
  u64 delay_ns = 0;
  u64 ttl_ns = 0;   // 0: does not expire
  Headers headers;  // its times are filled in by the plan
  std::span<const Header> application;
};

struct Plan {
  Headers headers;
  std::span<const Header> application;
  u64 bytes = 0;  // of the extension; 0: no header is given, so there is none
  u32 flags = 0;  // for the frame header
};

// kBadArgument: the text says which header, and why. kTooBig: more than kExtensionBytesMax. The clock is read only
// where a delay or a ttl is given.
Result<Plan> plan(const PublishOptions& options);
Result<Plan> plan_at(const PublishOptions& options, u64 wall_now_ns);

// Writes plan.bytes bytes to `to`, which is 8-aligned and may be shared memory that is not published yet.
void encode(const Plan& plan, u8* to);

}  // namespace mooring::message
