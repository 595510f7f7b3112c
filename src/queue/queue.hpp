// A queue as one process has it attached, shared by its handles: the files, and the lanes mapped as they are met.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "group/durable_source.hpp"
#include "ring/order_ring.hpp"
#include "segment/queue_files.hpp"

namespace mooring {

class Queue {
 public:
  // `as_supervisor`: with ctl writable, and also where the queue is not open any more.
  static Result<std::shared_ptr<Queue>> attach(const File& shared_directory, uid_t owner, const std::string& name,
                                               bool as_supervisor = false);

  const QueueFiles& files() const { return files_; }
  const layout::QueueConstants& constants() const { return files_.constants(); }
  bool is_spsc() const { return constants().kind == layout::QueueKind::kSpsc; }
  bool is_durable() const { return constants().durability == layout::Durability::kDurable; }
  bool spills() const { return constants().overflow == layout::Overflow::kSpill; }
  bool has_log() const { return layout::has_log(constants()); }
  OrderView order() const;  // empty on SPSC queues
  // The mark that consumers do not look beyond, or null. (SPSC: a lane position.)
  const u64* delivery_limit() const {
    return constants().deliver == layout::Deliver::kDurable ? &files_.state().durable_mark : nullptr;
  }
  DurableMarks durable_marks() const {
    return {&files_.state(), constants().first_seq, constants().deliver == layout::Deliver::kEarly};
  }
  const std::string& name() const { return name_; }

  // The lane `index`, mapped read-only on first use; null if there is none or it is not what it should be. Any thread.
  const LaneView* lane(u32 index) const {
    // Acquire: pairs with the release in map_lane; the view is complete.
    const LaneView* known = lanes_[index].load(std::memory_order_acquire);
    return known != nullptr ? known : map_lane(index);
  }

  // The queue still is the one of its name, and open.
  bool is_current() const;
  // kOpen, or why not: kClosed (removed), kCorrupt (failed), with a detail text.
  Status check_open() const;

 private:
  explicit Queue(QueueFiles files) : files_(std::move(files)) {}
  const LaneView* map_lane(u32 index) const;

  std::string name_;
  QueueFiles files_;
  mutable std::mutex mutex_;
  mutable std::array<std::atomic<const LaneView*>, layout::kLanesMax> lanes_{};
  mutable std::vector<std::unique_ptr<LaneView>> lane_views_;
  mutable std::vector<Mapping> lane_mappings_;
};

LaneView view_lane(const Mapping& mapping, u64 lane_bytes);

}  // namespace mooring
