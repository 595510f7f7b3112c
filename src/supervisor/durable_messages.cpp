#include "supervisor/durable_messages.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/time.hpp"
#include "queue/duplicates.hpp"

namespace mooring {
namespace {

constexpr u64 kRetryNs = kNsPerSecond;

}  // namespace

DurableMessages::DurableMessages(const Queue& queue, std::string log_path, LaneOf lane_of)
    : queue_(queue), log_(queue, std::move(log_path)) {
  if (!queue_.is_spsc()) {
    source_.emplace(queue_.durable_marks(), queue_.order(), std::move(lane_of));
  } else if (const LaneView* lane = lane_of(0); lane != nullptr) {
    source_.emplace(queue_.durable_marks(), *lane);
  }
}

Status DurableMessages::find(u64 seq, FrameView* frame) {
  return find_in_memory(seq, frame) ? Status{} : find_in_log(seq, frame);
}

std::optional<bool> DurableMessages::is_duplicate(u64 seq) {
  u64 first = 0;
  const DuplicateAnswer answer = ask_duplicate<A>(queue_.files().state(), seq, &first);
  if (answer != DuplicateAnswer::kAskLog) return answer == DuplicateAnswer::kYes;
  FrameView frame;
  if (find_in_memory(seq, &frame) && (frame.flags & layout::kFrameExtension) == 0) return false;
  journal::MessageView message;
  const auto found = log_.find(seq, &message);
  if (!found) return std::nullopt;
  return *found == journal::BacklogReader::Found::kDuplicate;
}

bool DurableMessages::find_in_memory(u64 seq, FrameView* frame) {
  const DurableSource<A, LaneOf>::Cursor at{seq};
  if (!source_.has_value() || source_->peek(&at, frame) != RingOutcome::kOk || frame->payload == nullptr ||
      frame->len > queue_.constants().max_message_bytes) {
    return false;
  }
  copy_.resize(frame->len);
  A::copy_out(copy_.data(), frame->payload, frame->len);
  if (!source_->still_there(*frame)) return false;
  frame->payload = copy_.data();
  return true;
}

Status DurableMessages::find_in_log(u64 seq, FrameView* frame) {
  const u64 now_ns = monotonic_ns();
  if (trouble_.has_value() && now_ns < retry_ns_) return fail(*trouble_);
  Status read = read_log(seq, frame);
  if (read) {
    trouble_.reset();
    return read;
  }
  if (!trouble_.has_value() || trouble_->text != read.error().text) {
    spdlog::error("queue {}: message {}, which failed, cannot be read: {}; it stays where it is", queue_.name(), seq,
                  read.error().text);
  }
  trouble_ = read.error();
  retry_ns_ = now_ns + kRetryNs;
  return read;
}

Status DurableMessages::read_log(u64 seq, FrameView* frame) {
  journal::MessageView message;
  const auto found = log_.find(seq, &message);
  if (!found) return fail(found.error());
  if (*found == journal::BacklogReader::Found::kLost) {
    return fail(Code::kCorrupt, fmt::format("the log has lost message {} (it was salvaged)", seq));
  }
  if (*found == journal::BacklogReader::Found::kDuplicate) {
    return fail(Code::kCorrupt, fmt::format("message {} is a duplicate, and failed all the same", seq));
  }
  *frame = FrameView{};
  frame->payload = message.bytes.data();
  frame->len = message.bytes.size();
  frame->seq = seq;
  frame->flags = message.frame_flags;
  return {};
}

}  // namespace mooring
