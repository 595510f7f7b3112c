// Private buffers for messages that are copied out: one for each message in flight, kept and used again, so that the
// fast path allocates nothing once the sizes have been seen.
//
// A buffer is named by an id with a tag: settling the same delivery twice does not give away the buffer of another.
#pragma once

#include <cstdlib>
#include <vector>

#include "base/bytes.hpp"

namespace mooring {

class CopySlots {
 public:
  static constexpr u32 kNone = ~u32{0};
  static constexpr u32 kSlotsMax = u32{1} << 16;

  CopySlots() = default;
  CopySlots(const CopySlots&) = delete;
  CopySlots& operator=(const CopySlots&) = delete;
  ~CopySlots() {
    for (Slot& slot : slots_) std::free(slot.data);
  }

  // A buffer of at least `size` bytes; null if memory is out.
  u8* take(u64 size, u32* id) {
    if (free_.empty()) {
      if (slots_.size() == kSlotsMax) return nullptr;
      free_.reserve(slots_.size() + 1);
      slots_.push_back(Slot{});
      free_.push_back(static_cast<u32>(slots_.size() - 1));
    }
    const u32 found = free_.back();
    Slot& slot = slots_[found];
    if (slot.capacity < size || slot.data == nullptr) {
      const u64 wanted = align_up(size < 64 ? 64 : size, 64);
      std::free(slot.data);
      slot.data = static_cast<u8*>(std::aligned_alloc(64, wanted));
      slot.capacity = slot.data == nullptr ? 0 : wanted;
      if (slot.data == nullptr) return nullptr;
    }
    free_.pop_back();
    slot.taken = true;
    *id = make_id(found, ++slot.tag);
    return slot.data;
  }

  // Gives a buffer back. False: it is not out.
  bool put(u32 id) {
    const u32 index = id & (kSlotsMax - 1);
    if (index >= slots_.size() || !slots_[index].taken || make_id(index, slots_[index].tag) != id) return false;
    Slot& slot = slots_[index];
    slot.taken = false;
    if (slot.capacity > kLargeBytes && free_.size() > kLargeKept) {
      std::free(slot.data);
      slot.data = nullptr;
      slot.capacity = 0;
    }
    free_.push_back(index);
    return true;
  }

 private:
  // Buffers of rare giants are not kept beside a handful of free ones: 1,024 in flight x 16 MiB would be 16 GiB.
  static constexpr u64 kLargeBytes = u64{1} << 20;
  static constexpr std::size_t kLargeKept = 4;
  struct Slot {
    u8* data = nullptr;
    u64 capacity = 0;
    u16 tag = 0;
    bool taken = false;
  };
  static u32 make_id(u32 index, u16 tag) { return (u32{tag} << 16) | index; }
  std::vector<Slot> slots_;
  std::vector<u32> free_;
};

}  // namespace mooring
