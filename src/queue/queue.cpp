#include "queue/queue.hpp"

#include <fmt/format.h>

namespace mooring {

LaneView view_lane(const Mapping& mapping, u64 lane_bytes) {
  LaneView lane;
  lane.head = reinterpret_cast<layout::LaneHead*>(mapping.data());
  lane.bytes = reinterpret_cast<u8*>(mapping.data()) + layout::kLaneBytesOffset;
  lane.size_bytes = lane_bytes;
  return lane;
}

Result<std::shared_ptr<Queue>> Queue::attach(const File& shared_directory, uid_t owner, const std::string& name,
                                             bool as_supervisor) {
  QueueFiles::AttachOptions options;
  options.as_supervisor = as_supervisor;
  options.order_access = Access::read_write;
  Result<QueueFiles> files = QueueFiles::attach(shared_directory, owner, name, options);
  if (!files) return fail(files.error());
  std::shared_ptr<Queue> queue(new Queue(std::move(*files)));
  queue->name_ = name;
  if (as_supervisor) return queue;
  if (Status open = queue->check_open(); !open) return fail(open.error());
  return queue;
}

OrderView Queue::order() const {
  OrderView order;
  if (is_spsc()) return order;
  order.head = files_.order_head();
  order.cells = files_.order_cells();
  order.mask = constants().cells - 1;
  order.log2 = log2_of_power(constants().cells);
  if (is_durable()) order.recovered_below = constants().first_seq;
  return order;
}

const LaneView* Queue::map_lane(u32 index) const {
  if (index >= constants().lanes_max) return nullptr;
  const std::lock_guard lock(mutex_);
  if (const LaneView* known = lanes_[index].load(std::memory_order_acquire); known != nullptr) return known;
  Result<Mapping> mapping = files_.map_lane(index, Access::read_only, /*prefault=*/true);
  if (!mapping) return nullptr;
  lane_mappings_.push_back(std::move(*mapping));
  lane_views_.push_back(std::make_unique<LaneView>(view_lane(lane_mappings_.back(), constants().lane_bytes)));
  // Release: the view is complete before another thread finds it.
  lanes_[index].store(lane_views_.back().get(), std::memory_order_release);
  return lane_views_.back().get();
}

bool Queue::is_current() const {
  // Acquire: pairs with the supervisor's release when it removes or fails the queue.
  return HardwareAtomics::load(files_.state().life, std::memory_order_acquire) ==
         static_cast<u64>(layout::QueueLife::kOpen);
}

Status Queue::check_open() const {
  const u64 life = HardwareAtomics::load(files_.state().life, std::memory_order_acquire);
  if (life == static_cast<u64>(layout::QueueLife::kOpen)) return {};
  if (life == static_cast<u64>(layout::QueueLife::kRemoved)) {
    return fail(Code::kClosed, fmt::format("queue {} was removed", name_));
  }
  return fail(Code::kCorrupt, fmt::format("queue {} was taken out of service: its shared memory makes no sense; see "
                                          "`mooring info {}` and the log of mooringd",
                                          name_, name_));
}

}  // namespace mooring
