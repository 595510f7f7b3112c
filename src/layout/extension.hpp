// The extension of a frame: the headers of a message, before its payload in the same frame. A message without headers
// has none; a bit in the frame header (kFrameExtension) says that there is one, so who reads frames tests one bit.
//
//   frame      = frame header  extension  payload        len = bytes of extension and payload together
//   extension  = head  TLV*                              a multiple of 8 bytes, so the payload stays 8-aligned
//   head       = needs:32 | bytes:32                     bytes: of the whole extension, this word included
//   TLV        = bytes:32 | name_bytes:16 | number:16    one word, then `bytes` of value, zeros up to 8
//
// RULES for who reads one. Frames are written by any producer of the queue: all of it is input.
//   - `bytes` is at least 8, a multiple of 8, at most kExtensionBytesMax and at most the frame's len. Else the frame is
//     damaged: where its payload begins is not known.
//   - TLVs fill the extension exactly. Their numbers rise; only kTlvHeader repeats. Hence one walk, one meaning, and
//     the times are the first two.
//   - An unknown number is skipped. What a reader must not skip also sets a bit in `needs`: a reader that meets a bit
//     it does not know refuses the message (VERSION) and gives it back. No bit is in use yet.
//   - A value of a known number has the size said below, or the extension is damaged.
//
// The journal and the park store carry the extension as a part of the frame's bytes, with the frame's flags beside it.
//
// TESTED BY  message/extension_test, message/extension_fuzz_test
#pragma once

#include "layout/words.hpp"

namespace mooring::layout {

// A walk over all TLVs stays short (8192 at most), and an extension is no place for data: that is the payload's.
inline constexpr u64 kExtensionBytesMax = u64{64} << 10;
inline constexpr u64 kExtensionHeadBytes = 8;
inline constexpr u64 kTlvHeadBytes = 8;

constexpr u64 make_extension_head(u64 bytes, u32 needs) { return (u64{needs} << 32) | bytes; }
constexpr u64 extension_bytes(u64 head) { return head & ~u32{0}; }
constexpr u32 extension_needs(u64 head) { return static_cast<u32>(head >> 32); }
inline constexpr u32 kExtensionNeedsKnown = 0;

// Numbers are never used for anything else again. Times are nanoseconds of the wall clock (Unix time).
enum class TlvNumber : u16 {
  kDeliverAt = 1,  // u64: not before. Sets kFrameTimed
  kExpiresAt = 2,  // u64, u64 OnExpire: not after. Sets kFrameTimed
  kMessageId = 3,  // 1 to 255 bytes, as all that follow unless they say otherwise
  kCorrelationId = 4,
  kReplyTo = 5,
  kContentType = 6,
  kType = 7,
  kSchemaVersion = 8,  // u64, at most 2^32 - 1
  kTraceparent = 9,    // text of the W3C recommendation Trace Context
  kOrderingKey = 10,
  kPriority = 11,  // u64, at most 255
  kHeader = 64,    // of the application: `name_bytes` (1 to 255) of name, the rest is the value
};

enum class OnExpire : u64 { kDead = 1, kDrop = 2 };

inline constexpr u64 kHeaderTextMax = 255;  // one length for all: what brokers with a length byte take, too
inline constexpr u32 kPriorityMax = 255;

constexpr u64 make_tlv(TlvNumber number, u64 bytes, u64 name_bytes = 0) {
  return (bytes << 32) | (name_bytes << 16) | static_cast<u64>(number);
}
constexpr u16 tlv_number(u64 head) { return static_cast<u16>(head); }
constexpr u64 tlv_name_bytes(u64 head) { return (head >> 16) & 0xffffU; }
constexpr u64 tlv_bytes(u64 head) { return head >> 32; }
constexpr u64 tlv_size(u64 bytes) { return kTlvHeadBytes + align_up(bytes, 8); }
static_assert(tlv_number(make_tlv(TlvNumber::kHeader, 7, 5)) == 64);
static_assert(tlv_name_bytes(make_tlv(TlvNumber::kHeader, 7, 5)) == 5);
static_assert(tlv_bytes(make_tlv(TlvNumber::kHeader, 7, 5)) == 7);
static_assert(kExtensionBytesMax <= kFrameLenMax && kExtensionBytesMax % kFrameAlignment == 0);

}  // namespace mooring::layout
