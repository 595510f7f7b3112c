// A whole tiny queue in one block of memory: lanes, order ring, groups with their park tables and records, wake line,
// group epoch, and room for a test's own notes. No files, no supervisor, and sizes far below what a queue may have, so
// that wraps and full rings come every few messages.
//
// The block is one MAP_SHARED|MAP_ANONYMOUS mapping: a child of fork() works on the same queue, and memcpy of
// [data(), data() + size_bytes()) takes a snapshot or puts one back (views stay valid: the block never moves).
// Whatever is in the block survives a killed process; the views and writers are private to each.
#pragma once

#include <sys/mman.h>

#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "base/check.hpp"
#include "group/competing.hpp"
#include "group/exclusive.hpp"
#include "group/release_mark.hpp"
#include "layout/ctl.hpp"
#include "layout/park.hpp"
#include "layout/wake.hpp"
#include "ring/lane.hpp"
#include "ring/order_ring.hpp"

namespace mooring::test {

using layout::GroupMode;
using layout::QueueKind;

struct Shape {
  QueueKind kind = QueueKind::kMpmc;  // kSpsc: `cells` is not used, lane 0 is the queue, bases count lane positions
  u64 cells = 16;                     // N, a power of two, at least 4
  u64 words = 16;                     // NG, a power of two, at least 4
  u32 parks = 4;                      // X
  u64 lane_bytes = 256;               // a power of two, at least kLaneBytesMin
  u32 lanes = 2;
  std::vector<GroupMode> groups = {GroupMode::kCompeting};
  u64 first_seq = 0;  // 0: the larger of N and NG
  u64 notes = 0;      // zeroed u64 words for the test's own use, in the same block
};

class QueueMemory {
 public:
  explicit QueueMemory(Shape shape) : shape_(std::move(shape)) {
    if (shape_.kind == QueueKind::kSpsc) {
      shape_.cells = 0;
      shape_.lanes = 1;
    }
    if (shape_.first_seq == 0) shape_.first_seq = std::max(shape_.cells, shape_.words);
    size_bytes_ = kPageBytes;  // QueueState
    const u64 order_at = claim(layout::order_file_bytes(shape_.cells));
    const u64 wake_at = claim(layout::wake_file_bytes(shape_.groups.size()));
    const u64 lanes_at = claim(shape_.lanes * layout::lane_file_bytes(shape_.lane_bytes));
    const u64 groups_at = claim(shape_.groups.size() * layout::group_file_bytes(shape_.words, shape_.parks));
    records_at_ = claim(shape_.groups.size() * records_count() * record_bytes());
    const u64 notes_at = claim(shape_.notes * sizeof(u64));

    void* block = mmap(nullptr, size_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MOORING_CHECK(block != MAP_FAILED);
    data_ = static_cast<u8*>(block);
    state = reinterpret_cast<layout::QueueState*>(data_);
    wake = reinterpret_cast<layout::WakeHead*>(data_ + wake_at);
    notes = reinterpret_cast<u64*>(data_ + notes_at);
    state->group_epoch = 1;

    order.head = reinterpret_cast<layout::OrderHead*>(data_ + order_at);
    order.cells = reinterpret_cast<u64*>(data_ + order_at + layout::kOrderCellsOffset);
    if (shape_.kind == QueueKind::kMpmc) {
      order.mask = shape_.cells - 1;
      order.log2 = log2_of_power(shape_.cells);
      order.head->tail = shape_.first_seq;
      initialise_cells(order, shape_.first_seq);
    }
    for (u32 index = 0; index < shape_.lanes; ++index) {
      u8* file = data_ + lanes_at + index * layout::lane_file_bytes(shape_.lane_bytes);
      lanes_.push_back(
          LaneView{reinterpret_cast<layout::LaneHead*>(file), file + layout::kLaneBytesOffset, shape_.lane_bytes});
    }
    for (std::size_t k = 0; k < shape_.groups.size(); ++k) {
      u8* file = data_ + groups_at + k * layout::group_file_bytes(shape_.words, shape_.parks);
      const GroupView group = view_group(file, shape_.words, shape_.parks);
      initialise_words(group, shape_.first_seq);
      const u64 start = shape_.kind == QueueKind::kSpsc ? 0 : shape_.first_seq;
      group.head->base = start;
      group.head->acked = start;
      group.head->base_seq_hint = shape_.first_seq;
      bases_.push_back(GroupBase{group, shape_.groups[k] == GroupMode::kCompeting});
    }
  }
  ~QueueMemory() { munmap(data_, size_bytes_); }
  QueueMemory(const QueueMemory&) = delete;
  QueueMemory& operator=(const QueueMemory&) = delete;

  u8* data() const { return data_; }
  u64 size_bytes() const { return size_bytes_; }
  const Shape& shape() const { return shape_; }
  u64 first_seq() const { return shape_.first_seq; }

  OrderView order;
  layout::QueueState* state = nullptr;  // group_epoch lives there
  layout::WakeHead* wake = nullptr;
  u64* notes = nullptr;

  const GroupView& group(std::size_t k = 0) const { return bases_[k].group; }
  const LaneView& lane(u32 index = 0) const { return lanes_[index]; }
  u64& group_epoch() const { return state->group_epoch; }

  // `lane_of(u32) -> const LaneView*`, as OrderSource and GroupRepair want it.
  struct LaneOf {
    const QueueMemory* memory = nullptr;
    const LaneView* operator()(u32 index) const {
      return index < memory->lanes_.size() ? &memory->lanes_[index] : nullptr;
    }
  };
  LaneOf lane_of() const { return LaneOf{this}; }

  // The release mark over all groups, to be passed to reserve() and publish().
  template <class A>
  auto mark() const {
    return [this] {
      const u64 epoch = A::load(state->group_epoch, std::memory_order_acquire);
      return release_mark<A>(bases_, state->group_epoch, epoch);
    };
  }

  template <class A>
  OrderWriter<A> writer(u32 lane_index, u64 reclaim_floor = 0) const {
    return OrderWriter<A>(order, lanes_[lane_index], lane_index, reclaim_floor);
  }
  template <class A>
  CompetingConsumer<A> competing(std::size_t k, u32 owner) const {
    return CompetingConsumer<A>(group(k), order, owner);
  }
  template <class A>
  using OrderedReader = ExclusiveConsumer<A, OrderSource<A, LaneOf>>;
  template <class A>
  OrderedReader<A> exclusive(std::size_t k) const {
    return OrderedReader<A>(group(k), OrderSource<A, LaneOf>(order, lane_of()));
  }
  template <class A>
  using LaneReader = ExclusiveConsumer<A, LaneSource<A>>;
  template <class A>
  LaneReader<A> lane_reader(std::size_t k) const {
    const u64 seq_hint = A::load(group(k).head->base_seq_hint, std::memory_order_relaxed);
    return LaneReader<A>(group(k), LaneSource<A>(lanes_[0], seq_hint));
  }

  // --- The park records of group k: one slot more than X has entries.
  // A slot is free if no entry names it; nothing else is remembered, so a kill between K1 and K2 leaks nothing.

  // `place(frame) -> loc` for GroupRepair::park_straggler. 0: no slot is free, or the owner settled meanwhile and the
  // frame's header is already overwritten with something longer than any message.
  template <class A>
  auto place(std::size_t k) const {
    return [this, k](const FrameView& frame) -> u64 {
      if (frame.len > shape_.lane_bytes / 2) return 0;
      for (u64 slot = 0; slot < records_count(); ++slot) {
        const u64 loc = records_at_ + (k * records_count() + slot) * record_bytes();
        if (loc_is_named<A>(k, loc)) continue;
        auto* record = reinterpret_cast<layout::ParkRecord*>(data_ + loc);
        std::vector<u8> copy(frame.len);
        A::copy_out(copy.data(), frame.payload, frame.len);
        // Relaxed: PARKED, ordered by the entry's word.
        A::store(record->seq, frame.seq, std::memory_order_relaxed);
        A::store(record->len, frame.len, std::memory_order_relaxed);
        A::copy_in(data_ + loc + sizeof(layout::ParkRecord), copy.data(), frame.len);
        return loc;
      }
      return 0;
    };
  }

  // Copies what `lease` of group k names, from its lane or from its park record. False: neither has it (the protocol
  // is broken, or the lease is stale).
  template <class A>
  bool read(std::size_t k, const Lease& lease, std::vector<u8>* payload) const {
    if (!lease.parked()) {
      const LaneView* lane = lane_of()(layout::cell_lane(lease.cell));
      FrameView frame;
      if (lane != nullptr && frame_of_cell<A>(*lane, lease.cell, lease.seq, &frame) == RingOutcome::kOk) {
        payload->resize(frame.len);
        A::copy_out(payload->data(), frame.payload, frame.len);
        if (still_there<A>(*lane, lease.seq)) return true;
      }
    }
    for (u32 index = 0; index < shape_.parks; ++index) {
      if (lease.parked() && lease.park_index != index) continue;
      const layout::ParkEntry& entry = group(k).parks[index];
      const layout::ParkState park = layout::read_park_word(A::load(entry.word, std::memory_order_acquire)).state;
      if (park == layout::ParkState::kFree || A::load(entry.seq, std::memory_order_relaxed) != lease.seq) continue;
      const u64 loc = A::load(entry.loc, std::memory_order_relaxed);
      const auto* record = reinterpret_cast<const layout::ParkRecord*>(data_ + loc);
      if (A::load(record->seq, std::memory_order_relaxed) != lease.seq) continue;
      payload->resize(A::load(record->len, std::memory_order_relaxed));
      A::copy_out(payload->data(), data_ + loc + sizeof(layout::ParkRecord), payload->size());
      return true;
    }
    return false;
  }

  std::vector<u8> snapshot() const { return std::vector<u8>(data_, data_ + size_bytes_); }
  void restore(const std::vector<u8>& snapshot) const { std::memcpy(data_, snapshot.data(), size_bytes_); }

 private:
  u64 claim(u64 bytes) {
    const u64 at = size_bytes_;
    size_bytes_ += align_up(bytes, kPageBytes);
    return at;
  }
  u64 records_count() const { return u64{shape_.parks} + 1; }
  u64 record_bytes() const { return sizeof(layout::ParkRecord) + align_up(shape_.lane_bytes / 2, 64); }

  template <class A>
  bool loc_is_named(std::size_t k, u64 loc) const {
    for (u32 index = 0; index < shape_.parks; ++index) {
      const layout::ParkEntry& entry = group(k).parks[index];
      if (layout::read_park_word(A::load(entry.word, std::memory_order_acquire)).state != layout::ParkState::kFree &&
          A::load(entry.loc, std::memory_order_relaxed) == loc) {
        return true;
      }
    }
    return false;
  }

  Shape shape_;
  u64 size_bytes_ = 0;
  u64 records_at_ = 0;
  u8* data_ = nullptr;
  std::vector<LaneView> lanes_;
  std::vector<GroupBase> bases_;
};

}  // namespace mooring::test
