#include "supervisor/park_store.hpp"

#include <iterator>

#include "base/atomics.hpp"

namespace mooring {
namespace {

constexpr u64 kHeadBytes = sizeof(layout::ParkRecord);
constexpr u64 kRecordAlignment = 64;

}  // namespace

bool ParkStore::map_now() {
  Result<Mapping> mapping = files_->map_park(Access::read_write);
  if (!mapping) return false;
  mapping_ = std::move(*mapping);
  mapped_once_ = true;
  return true;
}

bool ParkStore::adopt(u64 loc, u64 seq) {
  if ((loc & layout::kParkedInLog) != 0) return true;  // nothing of it is here
  if (!mapped_once_ && !map_now()) return false;
  const u64 size = mapping_.size_bytes();
  if (loc < layout::kParkRecordsOffset || loc % kRecordAlignment != 0 || size < kHeadBytes || loc > size - kHeadBytes) {
    return false;
  }
  const auto* record = reinterpret_cast<const layout::ParkRecord*>(mapping_.data() + loc);
  const u64 capacity = record->capacity_bytes;  // our own file: nobody else writes it
  if (record->seq != seq || capacity > size - kHeadBytes - loc) return false;
  // Two entries that name overlapping room: one of them was written over.
  const auto after = used_.upper_bound(loc);
  if (after != used_.end() && after->first - loc < kHeadBytes + capacity) return false;
  if (after != used_.begin() && std::prev(after)->first + std::prev(after)->second > loc) return false;
  used_[loc] = kHeadBytes + capacity;
  used_bytes_ += kHeadBytes + capacity;
  return true;
}

u64 ParkStore::place(const FrameView& frame, u32 group) {
  // The header is its producer's to write over: one garbage length must not take the room of many messages.
  if (frame.len > files_->constants().max_message_bytes) return 0;
  if (!mapped_once_ && !map_now()) return 0;
  const u64 need = kHeadBytes + align_up(frame.len, kRecordAlignment);
  u64 loc = layout::kParkRecordsOffset;
  for (const auto& [used_loc, used_bytes] : used_) {  // the first gap that is large enough
    if (used_loc - loc >= need) break;
    loc = used_loc + used_bytes;
  }
  while (mapping_.size_bytes() < loc + need) {
    if (!grow_park_file(*files_) || !map_now()) return 0;
  }
  auto* record = reinterpret_cast<layout::ParkRecord*>(mapping_.data() + loc);
  // Relaxed: consumers find the record through a park word that is released after all of it (PARKED in repair.hpp).
  using A = HardwareAtomics;
  A::store(record->seq, frame.seq, std::memory_order_relaxed);
  A::store(record->group, group, std::memory_order_relaxed);
  A::store(record->frame_flags, frame.flags, std::memory_order_relaxed);
  A::store(record->len, frame.len, std::memory_order_relaxed);
  A::store(record->capacity_bytes, need - kHeadBytes, std::memory_order_relaxed);
  A::copy_in(reinterpret_cast<u8*>(record) + kHeadBytes, frame.payload, frame.len);
  used_[loc] = need;
  used_bytes_ += need;
  return loc;
}

void ParkStore::release(u64 loc) {
  const auto found = used_.find(loc);
  if (found == used_.end()) return;
  used_bytes_ -= found->second;
  used_.erase(found);
}

}  // namespace mooring
