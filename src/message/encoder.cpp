#include "message/encoder.hpp"

#include <string>

#include "base/atomics.hpp"
#include "base/time.hpp"

namespace mooring::message {
namespace {

using layout::TlvNumber;
using A = HardwareAtomics;

// Every header that has a text, in the order of the numbers. `visit(number, name, text)`; one list for the check, the
// size and the bytes.
template <class Visit>
void each_text_before_schema(const Headers& headers, Visit&& visit) {
  visit(TlvNumber::kMessageId, "message_id", headers.message_id);
  visit(TlvNumber::kCorrelationId, "correlation_id", headers.correlation_id);
  visit(TlvNumber::kReplyTo, "reply_to", headers.reply_to);
  visit(TlvNumber::kContentType, "content_type", headers.content_type);
  visit(TlvNumber::kType, "type", headers.type);
}
template <class Visit>
void each_text_after_schema(const Headers& headers, Visit&& visit) {
  visit(TlvNumber::kTraceparent, "traceparent", headers.traceparent);
  visit(TlvNumber::kOrderingKey, "ordering_key", headers.ordering_key);
}

// Appends TLVs in shared memory: every byte through the policy, as all that lies in a lane.
class Pen {
 public:
  explicit Pen(u8* at) : at_(at) {}

  void word(u64 value) {
    // Relaxed: what publishes the frame orders it (PUBLISHED, ORDERED).
    A::store(*reinterpret_cast<u64*>(at_), value, std::memory_order_relaxed);
    at_ += sizeof value;
  }
  void number(TlvNumber number, u64 value) {
    if (value == 0) return;
    word(layout::make_tlv(number, sizeof value));
    word(value);
  }
  void text(TlvNumber number, std::string_view text) {
    if (text.empty()) return;
    word(layout::make_tlv(number, text.size()));
    bytes(text.data(), text.size());
    pad(text.size());
  }
  void header(const Header& header) {
    const u64 size = header.name_bytes + header.value_bytes;
    word(layout::make_tlv(TlvNumber::kHeader, size, header.name_bytes));
    bytes(header.name, header.name_bytes);
    bytes(header.value, header.value_bytes);
    pad(size);
  }

 private:
  void bytes(const void* from, u64 size) {
    if (size == 0) return;
    A::copy_in(at_, from, size);
    at_ += size;
  }
  // Zeros: the same headers are the same bytes, and nothing of older frames gets into the log.
  void pad(u64 size) {
    static constexpr u8 kZeros[8] = {};
    bytes(kZeros, align_up(size, 8) - size);
  }

  u8* at_;
};

}  // namespace

Result<Plan> plan(const PublishOptions& options) {
  return plan_at(options, options.delay_ns != 0 || options.ttl_ns != 0 ? wall_ns() : 0);
}

Result<Plan> plan_at(const PublishOptions& options, u64 wall_now_ns) {
  Plan plan;
  plan.headers = options.headers;
  plan.application = options.application;
  Headers& headers = plan.headers;
  const auto bad = [](std::string text) { return fail(Code::kBadArgument, std::move(text)); };
  if (options.deliver_at_ns != 0 && options.delay_ns != 0) {
    return bad("publish options: deliver_at and delay are both given; one says when");
  }
  if (options.delay_ns > kForever - wall_now_ns || options.ttl_ns > kForever - wall_now_ns) {
    return bad("publish options: delay or ttl reaches beyond the end of time; 0 is the one that means never");
  }
  headers.deliver_at_ns = options.delay_ns != 0 ? wall_now_ns + options.delay_ns : options.deliver_at_ns;
  headers.expires_at_ns = options.ttl_ns != 0 ? wall_now_ns + options.ttl_ns : 0;
  if (headers.expires_at_ns != 0 && headers.expires_at_ns <= headers.deliver_at_ns) {
    return bad("publish options: the message would expire before it is delivered; make ttl longer than the delay");
  }
  if (headers.on_expire != layout::OnExpire::kDead && headers.on_expire != layout::OnExpire::kDrop) {
    return bad("publish options: on_expire is neither dead nor drop");
  }
  if (headers.priority > layout::kPriorityMax) {
    return bad("publish options: priority " + std::to_string(headers.priority) + " is above 255");
  }
  if (!headers.traceparent.empty() && !is_traceparent(headers.traceparent)) {
    return bad("publish options: traceparent is not of the form 00-<32 hex>-<16 hex>-<2 hex> (W3C Trace Context)");
  }
  u64 bytes = 0;
  std::string wrong;
  const auto add_text = [&](TlvNumber /*number*/, const char* name, std::string_view text) {
    if (text.empty()) return;
    if (text.size() > layout::kHeaderTextMax && wrong.empty()) {
      wrong = std::string("publish options: ") + name + " has " + std::to_string(text.size()) + " bytes, at most 255";
    }
    bytes += layout::tlv_size(text.size());
  };
  const auto add_number = [&](u64 value) {
    if (value != 0) bytes += layout::tlv_size(sizeof(u64));
  };
  add_number(headers.deliver_at_ns);
  if (headers.expires_at_ns != 0) bytes += layout::tlv_size(2 * sizeof(u64));
  each_text_before_schema(headers, add_text);
  add_number(headers.schema_version);
  each_text_after_schema(headers, add_text);
  add_number(headers.priority);
  if (!wrong.empty()) return bad(std::move(wrong));
  const auto too_big = [] {
    return fail(Code::kTooBig,
                "publish options: the headers of a message take at most 64 KiB together; put data into "
                "the payload");
  };
  for (const Header& header : plan.application) {
    if (header.name == nullptr || header.name_bytes == 0 || header.name_bytes > layout::kHeaderTextMax) {
      return bad("publish options: the name of a header has " + std::to_string(header.name_bytes) +
                 " bytes, 1 to 255 are needed");
    }
    if (header.value == nullptr && header.value_bytes != 0) {
      return bad("publish options: header " + std::string(header.name, header.name_bytes) + " has a size but no bytes");
    }
    // Before the sum, which must not wrap.
    if (header.value_bytes > layout::kExtensionBytesMax || bytes > layout::kExtensionBytesMax) return too_big();
    bytes += layout::tlv_size(header.name_bytes + header.value_bytes);
  }
  if (bytes == 0) return plan;
  bytes += layout::kExtensionHeadBytes;
  if (bytes > layout::kExtensionBytesMax) return too_big();
  plan.bytes = bytes;
  plan.flags = layout::kFrameExtension;
  if (headers.deliver_at_ns != 0 || headers.expires_at_ns != 0) plan.flags |= layout::kFrameTimed;
  return plan;
}

void encode(const Plan& plan, u8* to) {
  Pen pen(to);
  const Headers& headers = plan.headers;
  pen.word(layout::make_extension_head(plan.bytes, 0));
  pen.number(TlvNumber::kDeliverAt, headers.deliver_at_ns);
  if (headers.expires_at_ns != 0) {
    pen.word(layout::make_tlv(TlvNumber::kExpiresAt, 2 * sizeof(u64)));
    pen.word(headers.expires_at_ns);
    pen.word(static_cast<u64>(headers.on_expire));
  }
  const auto write = [&](TlvNumber number, const char* /*name*/, std::string_view text) { pen.text(number, text); };
  each_text_before_schema(headers, write);
  pen.number(TlvNumber::kSchemaVersion, headers.schema_version);
  each_text_after_schema(headers, write);
  pen.number(TlvNumber::kPriority, headers.priority);
  for (const Header& header : plan.application) pen.header(header);
}

}  // namespace mooring::message
