// Any message of a durable queue that some group has not settled, for the supervisor: from memory while it is there,
// else from the log.
//
// R = J: publishers overwrite whatever is durable. So bytes of the lane are copied first and believed afterwards
// (group/durable_source.hpp), and what was overtaken is read as consumers that fell behind read it.
//
// TESTED BY  delivery/delivery_test, durable/backlog_test
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "group/durable_source.hpp"
#include "queue/logged_messages.hpp"

namespace mooring {

class DurableMessages {
 public:
  using LaneOf = std::function<const LaneView*(u32 lane)>;
  // `log_path`: the directory of the log, opened when it is first needed.
  DurableMessages(const Queue& queue, std::string log_path, LaneOf lane_of);

  // `frame->payload` stays good until the next call. kCorrupt: it is in neither, and should be. Others: the disk's.
  Status find(u64 seq, FrameView* frame);
  // Of a queue that looks for duplicates, below J. Not known: the log cannot be read now.
  std::optional<bool> is_duplicate(u64 seq);

 private:
  using A = HardwareAtomics;
  bool find_in_memory(u64 seq, FrameView* frame);
  Status find_in_log(u64 seq, FrameView* frame);
  Status read_log(u64 seq, FrameView* frame);

  const Queue& queue_;
  std::optional<DurableSource<A, LaneOf>> source_;  // none: its one lane cannot be mapped
  std::vector<u8> copy_;
  LoggedMessages log_;
  // A log that cannot be read is tried again after a while, not at every look: this thread serves other queues, too.
  std::optional<Error> trouble_;
  u64 retry_ns_ = 0;
};

}  // namespace mooring
