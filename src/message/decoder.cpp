#include "message/decoder.hpp"

#include "base/atomics.hpp"

namespace mooring::message {
namespace {

using layout::TlvNumber;

// Relaxed: the frame was acquired by whoever found it. A load through the policy, so that a length is read once: what
// was checked is what is used, also while somebody writes there.
u64 word_at(const u8* at) {
  return HardwareAtomics::load(*reinterpret_cast<const u64*>(at), std::memory_order_relaxed);
}
bool is_aligned(const u8* at) { return reinterpret_cast<std::uintptr_t>(at) % 8 == 0; }

struct Tlv {
  u16 number = 0;
  u64 name_bytes = 0;
  const u8* value = nullptr;
  u64 bytes = 0;

  std::string_view text() const { return {reinterpret_cast<const char*>(value), bytes}; }
};

// One TLV after the other, inside the extension whatever the bytes say.
class Walk {
 public:
  explicit Walk(Extension extension, u64 at = layout::kExtensionHeadBytes) : extension_(extension), at_(at) {}

  // The extension itself makes sense: what the caller passes may be an application's memory.
  bool is_sound() const {
    return extension_.data != nullptr && is_aligned(extension_.data) && extension_.bytes % 8 == 0 &&
           extension_.bytes >= layout::kExtensionHeadBytes && extension_.bytes <= layout::kExtensionBytesMax &&
           at_ >= layout::kExtensionHeadBytes && at_ % 8 == 0 && at_ <= extension_.bytes;
  }
  Code next(Tlv* tlv) {
    if (at_ == extension_.bytes) return Code::kEmpty;
    const u64 head = word_at(extension_.data + at_);  // at_ is a multiple of 8 below bytes, which is one: 8 are there
    const u64 bytes = layout::tlv_bytes(head);
    const u16 number = layout::tlv_number(head);
    if (layout::tlv_size(bytes) > extension_.bytes - at_) return Code::kCorrupt;
    const bool repeats = number == before_ && number == static_cast<u16>(TlvNumber::kHeader);
    if (number <= before_ && !repeats) return Code::kCorrupt;
    before_ = number;
    *tlv = {number, layout::tlv_name_bytes(head), extension_.data + at_ + layout::kTlvHeadBytes, bytes};
    at_ += layout::tlv_size(bytes);
    return Code::kOk;
  }
  u64 at() const { return at_; }

 private:
  Extension extension_;
  u64 at_;
  u16 before_ = 0;
};

Code read_number(const Tlv& tlv, u64 most, u64* value) {
  if (tlv.bytes != sizeof(u64)) return Code::kCorrupt;
  *value = word_at(tlv.value);
  return *value <= most ? Code::kOk : Code::kCorrupt;
}
Code read_number(const Tlv& tlv, u64 most, u32* value) {
  u64 wide = 0;
  const Code code = read_number(tlv, most, &wide);
  *value = static_cast<u32>(wide);
  return code;
}
Code read_text(const Tlv& tlv, std::string_view* text) {
  if (tlv.bytes == 0 || tlv.bytes > layout::kHeaderTextMax) return Code::kCorrupt;
  *text = tlv.text();
  return Code::kOk;
}
Code read_expiry(const Tlv& tlv, u64* expires_at_ns, layout::OnExpire* on_expire) {
  if (tlv.bytes != 2 * sizeof(u64)) return Code::kCorrupt;
  const u64 what = word_at(tlv.value + sizeof(u64));
  if (what != static_cast<u64>(layout::OnExpire::kDead) && what != static_cast<u64>(layout::OnExpire::kDrop)) {
    return Code::kCorrupt;
  }
  *expires_at_ns = word_at(tlv.value);
  *on_expire = static_cast<layout::OnExpire>(what);
  return Code::kOk;
}
Code read_header(const Tlv& tlv, Header* header) {
  if (tlv.name_bytes == 0 || tlv.name_bytes > layout::kHeaderTextMax || tlv.name_bytes > tlv.bytes) {
    return Code::kCorrupt;
  }
  *header = {reinterpret_cast<const char*>(tlv.value), tlv.name_bytes, tlv.value + tlv.name_bytes,
             tlv.bytes - tlv.name_bytes};
  return Code::kOk;
}

}  // namespace

Code extension_of(FrameBytes frame, u64* extension_bytes) {
  if (frame.len < layout::kExtensionHeadBytes || !is_aligned(frame.data)) return Code::kCorrupt;
  const u64 head = word_at(frame.data);
  const u64 bytes = layout::extension_bytes(head);
  if (bytes < layout::kExtensionHeadBytes || bytes % 8 != 0 || bytes > layout::kExtensionBytesMax ||
      bytes > frame.len) {
    return Code::kCorrupt;
  }
  if ((layout::extension_needs(head) & ~layout::kExtensionNeedsKnown) != 0) return Code::kVersion;
  *extension_bytes = bytes;
  return Code::kOk;
}

Code find_times(u32 flags, FrameBytes frame, Times* times) {
  *times = {};
  if ((flags & layout::kFrameTimed) == 0) return Code::kOk;
  if ((flags & layout::kFrameExtension) == 0) return Code::kCorrupt;
  u64 bytes = 0;
  if (Code code = extension_of(frame, &bytes); code != Code::kOk) return code;
  Walk walk(Extension{frame.data, bytes});
  bool any = false;
  for (;;) {
    Tlv tlv;
    const Code found = walk.next(&tlv);
    if (found == Code::kEmpty || (found == Code::kOk && tlv.number > static_cast<u16>(TlvNumber::kExpiresAt))) break;
    if (found != Code::kOk) return found;
    const Code code = tlv.number == static_cast<u16>(TlvNumber::kDeliverAt)
                          ? read_number(tlv, ~u64{0}, &times->deliver_at_ns)
                          : read_expiry(tlv, &times->expires_at_ns, &times->on_expire);
    if (code != Code::kOk) return code;
    any = true;
  }
  return any ? Code::kOk : Code::kCorrupt;
}

namespace {

Code read_all(Extension extension, Headers* headers, u64* application_count) {
  Walk walk(extension);
  if (!walk.is_sound()) return Code::kCorrupt;
  for (;;) {
    Tlv tlv;
    const Code found = walk.next(&tlv);
    if (found == Code::kEmpty) return Code::kOk;
    if (found != Code::kOk) return found;
    Code code = Code::kOk;
    switch (static_cast<TlvNumber>(tlv.number)) {
      case TlvNumber::kDeliverAt: code = read_number(tlv, ~u64{0}, &headers->deliver_at_ns); break;
      case TlvNumber::kExpiresAt: code = read_expiry(tlv, &headers->expires_at_ns, &headers->on_expire); break;
      case TlvNumber::kMessageId: code = read_text(tlv, &headers->message_id); break;
      case TlvNumber::kCorrelationId: code = read_text(tlv, &headers->correlation_id); break;
      case TlvNumber::kReplyTo: code = read_text(tlv, &headers->reply_to); break;
      case TlvNumber::kContentType: code = read_text(tlv, &headers->content_type); break;
      case TlvNumber::kType: code = read_text(tlv, &headers->type); break;
      case TlvNumber::kSchemaVersion: code = read_number(tlv, ~u32{0}, &headers->schema_version); break;
      case TlvNumber::kTraceparent:
        code = read_text(tlv, &headers->traceparent);
        if (code == Code::kOk && !is_traceparent(headers->traceparent)) code = Code::kCorrupt;
        break;
      case TlvNumber::kOrderingKey: code = read_text(tlv, &headers->ordering_key); break;
      case TlvNumber::kPriority: code = read_number(tlv, layout::kPriorityMax, &headers->priority); break;
      case TlvNumber::kHeader: {
        Header header;
        code = read_header(tlv, &header);
        ++*application_count;
        break;
      }
      default: break;  // of a later release, and said to be skippable by `needs`
    }
    if (code != Code::kOk) return code;
  }
}

}  // namespace

Code read_headers(Extension extension, Headers* headers, u64* application_count) {
  *headers = {};
  *application_count = 0;
  const Code code = read_all(extension, headers, application_count);
  if (code != Code::kOk) {  // all or nothing
    *headers = {};
    *application_count = 0;
  }
  return code;
}

Code next_header(Extension extension, u64* cursor, Header* header) {
  Walk walk(extension, *cursor == 0 ? layout::kExtensionHeadBytes : *cursor);
  if (!walk.is_sound()) return Code::kCorrupt;
  for (;;) {
    Tlv tlv;
    const Code found = walk.next(&tlv);
    if (found != Code::kOk) return found;
    *cursor = walk.at();
    if (tlv.number == static_cast<u16>(TlvNumber::kHeader)) return read_header(tlv, header);
  }
}

Code find_header(Extension extension, std::string_view name, Header* header) {
  for (u64 cursor = 0;;) {
    const Code code = next_header(extension, &cursor, header);
    if (code != Code::kOk || name == std::string_view{header->name, header->name_bytes}) return code;
  }
}

}  // namespace mooring::message
