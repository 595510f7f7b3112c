// From the bytes before a payload to headers. The bytes are input, whoever wrote them: every length is read once and
// bounded before it is used, so a producer that scribbles over a message in place gets wrong headers to its readers, or
// kCorrupt, and never a read beyond the extension. No other code reads an extension. Nothing here allocates.
//
// Codes: kOk; kEmpty there is none, or no more; kCorrupt; kVersion a `needs` bit that this release does not know.
#pragma once

#include "base/error.hpp"
#include "message/headers.hpp"

namespace mooring::message {

// The bytes of a frame behind its header, or a copy of them: an extension, then the payload. 8-aligned.
struct FrameBytes {
  const u8* data = nullptr;
  u64 len = 0;
};

// Where the payload begins in a frame with kFrameExtension. Looks at one word.
Code extension_of(FrameBytes frame, u64* extension_bytes);

struct Times {
  u64 deliver_at_ns = 0;  // wall clock; 0: at once
  u64 expires_at_ns = 0;  // wall clock; 0: never
  layout::OnExpire on_expire = layout::OnExpire::kDead;
};
// The times of a frame, for whoever decides when it is delivered. Without kFrameTimed in `flags`: none, and not a byte
// is looked at; else five words at most. kCorrupt: the flag is there and no time is.
Code find_times(u32 flags, FrameBytes frame, Times* times);

// An extension as extension_of() found it, of `bytes` bytes.
struct Extension {
  const u8* data = nullptr;
  u64 bytes = 0;
};

// Everything but the application's headers, and how many there are of those; nothing where it is not kOk. Walks all.
Code read_headers(Extension extension, Headers* headers, u64* application_count);
// The next header of the application. `cursor`: 0 at first, then as it was left. kEmpty: that was the last.
Code next_header(Extension extension, u64* cursor, Header* header);
// The first one of this name. kEmpty: there is none.
Code find_header(Extension extension, std::string_view name, Header* header);

}  // namespace mooring::message
