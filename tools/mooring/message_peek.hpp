// Reads messages of a queue without a seat: takes nothing, holds up nobody, and works with every process dead. Lanes
// and order ring are mapped read-only; what has left memory of a queue with a log is read there.
//
// Nothing pins what is read, so publishers may overwrite it at any time. Every read is a copy that counts only if
// `reclaim` of its lane still is at or below the message afterwards (RECLAIMED, ring/), as for a consumer that may be
// overtaken. What was overtaken is in the log, or gone. Words and lengths are untrusted and bounded before they are
// used.
//
// PAIRINGS   ORDERED, PUBLISHED, RECLAIMED (ring/), DURABLE (group/durable_source.hpp, queue/logged_messages.hpp)
//
// TESTED BY  cli/peek_test
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "group/durable_source.hpp"
#include "journal/backlog_reader.hpp"
#include "segment/queue_files.hpp"

namespace mooring::cli {

class MessagePeek {
 public:
  // A message's, or where the next one will be. Lane positions count on volatile SPSC queues, where the place of a
  // message is known from the one before only; its seq may be 0 there: not known before it is read. Elsewhere: the seq.
  struct Place {
    u64 seq = 0;
    u64 position = 0;
  };
  struct Copy {
    u64 seq = 0;
    u32 frame_flags = 0;
    bool from_log = false;
    std::vector<u8> bytes;  // as in the frame: headers, then the payload
  };
  enum class Found {
    kMessage,
    kEnd,   // nothing is there yet, or nothing that consumers may see
    kGone,  // overwritten, and not in the log either
    kLost,  // the log says that it has not got this one (it was salvaged)
  };

  // `files` outlive this. `log_path`: the directory of its log, where it has one.
  MessagePeek(const QueueFiles& files, std::string log_path);
  MessagePeek(const MessagePeek&) = delete;
  MessagePeek& operator=(const MessagePeek&) = delete;

  bool counts_positions() const { return kind_ == Kind::kLane; }
  // The first message that an exclusive group has not acknowledged, or that lies in a competing one's window.
  Place start_of(const GroupView& group, layout::GroupMode mode) const;
  // Behind the last message, at a moment of this call. kCorrupt.
  Result<Place> end();
  // kMessage, kLost: `place` is the next one's. Else it stays. `copy` null: only looks, and steps over it.
  // kCorrupt: shared memory or the log makes no sense there. Others: the disk's.
  Result<Found> read(Place* place, Copy* copy);

 private:
  using A = HardwareAtomics;
  struct LaneOf {
    MessagePeek* peek;  // (no initialiser here: clang wants the enclosing class whole first)
    const LaneView* operator()(u32 lane) const { return peek->lane(lane); }
  };
  enum class Kind { kLane, kOrder, kLogged };
  struct MappedLane {
    Mapping mapping;
    LaneView view;
  };

  const LaneView* lane(u32 index);
  Result<Found> read_lane(Place* place, Copy* copy);
  Result<Found> read_order(Place* place, Copy* copy);
  Result<Found> read_logged(Place* place, Copy* copy);
  Result<Found> read_log(Place* place, Copy* copy);
  Status open_log();
  Result<Place> end_of_order(u64 from) const;
  Result<Place> walk_to_end(Place from);
  std::optional<Place> furthest_group();
  u64 settled_by_all() const;
  template <class Visit>
  void each_group(const Visit& visit) const;
  static void copy_frame(const FrameView& frame, Copy* copy);
  tl::unexpected<Error> corrupt(const char* what) const;

  const QueueFiles& files_;
  Kind kind_ = Kind::kOrder;
  OrderView order_;
  u64 seq_hint_ = 0;  // near the seqs in the lane
  std::map<u32, MappedLane> lanes_;
  DurableMarks marks_;
  std::optional<DurableSource<A, LaneOf>> source_;
  std::string log_path_;
  std::unique_ptr<journal::Disk> disk_;  // of the log, opened when it is first needed
  std::unique_ptr<journal::BacklogReader> log_;
};

}  // namespace mooring::cli
