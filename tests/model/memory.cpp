#include "model/memory.hpp"

#include <cstring>

namespace mooring::model {
namespace {

bool acquires(std::memory_order order) {
  return order == std::memory_order_acquire || order == std::memory_order_acq_rel ||
         order == std::memory_order_seq_cst || order == std::memory_order_consume;
}

bool releases(std::memory_order order) {
  return order == std::memory_order_release || order == std::memory_order_acq_rel || order == std::memory_order_seq_cst;
}

bool covered(const std::array<u32, kThreadsMax>& seen_at, const Clock& clock) {
  bool is_covered = false;
  for (u32 i = 0; i < kThreadsMax; ++i) is_covered |= seen_at[i] <= clock.at[i];
  return is_covered;
}

}  // namespace

Memory::Memory() : slots_(256), cells_(64) {}

void Memory::start_execution() {
  ++execution_;
  if (execution_ == 0) {  // wrapped: old slots must not look like ours
    for (Slot& slot : slots_) slot = Slot{};
    execution_ = 1;
  }
  cells_used_ = 0;
  slots_used_ = 0;
  sc_step_ = 0;
  full_ = light_ = sleep_ = Clock{};
  for (ThreadView& view : threads_) view = ThreadView{};
}

std::size_t Memory::slot_of(u64 key) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t i = static_cast<std::size_t>((key * 0x9E3779B97F4A7C15u) >> 32) & mask;
  while (slots_[i].execution == execution_ && slots_[i].key != key) i = (i + 1) & mask;
  return i;
}

void Memory::grow() {
  std::vector<Slot> old(slots_.size() * 2);
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.execution == execution_) slots_[slot_of(slot.key)] = slot;
  }
}

u32 Memory::add_cell(u64 address, u32 size) {
  if (cells_used_ == cells_.size()) cells_.resize(cells_.size() * 2);
  Cell& cell = cells_[cells_used_];
  cell.address = address;
  cell.size = size;
  cell.count = 1;
  cell.newest = 0;
  // The value before the first thread ran is before everything.
  cell.stores[0] = Store{read_real(address, size), Clock{}, {}, kNever};
  return cells_used_++;
}

Memory::Access Memory::cell(u64 address, u32 size, Cell*& found) {
  const u64 key = address >> 3;
  std::size_t i = slot_of(key);
  if (slots_[i].execution != execution_) {
    if (++slots_used_ * 2 > slots_.size()) {
      grow();
      i = slot_of(key);
    }
    slots_[i] = Slot{key, execution_, size, {kNever, kNever}};
  }
  if (slots_[i].size != size) return Access::kMixedSizes;
  u32& index = slots_[i].cells[(address >> 2) & 1];
  if (index == kNever) index = add_cell(address, size);
  found = &cells_[index];
  return found->back(0).value == read_real(found->address, size) ? Access::kOk : Access::kChangedBehindUs;
}

u32 Memory::size_in_use(u64 address) const {
  const Slot& slot = slots_[slot_of(address >> 3)];
  return slot.execution == execution_ ? slot.size : 0;
}

u32 Memory::cell_index(u64 address, u32 size) const {
  const Slot& slot = slots_[slot_of(address >> 3)];
  return slot.execution == execution_ && slot.size == size ? slot.cells[(address >> 2) & 1] : kNever;
}

u32 Memory::readable(Cell& cell, u32 thread, std::memory_order order, u32 depth) const {
  const ThreadView& view = threads_[thread];
  const bool sc = order == std::memory_order_seq_cst;
  const u32 most = cell.count < depth + 1 ? cell.count : depth + 1;
  u32 count = 1;
  while (count < most) {
    const Store& newer = cell.back(count - 1);
    if (covered(newer.seen_at, view.clock) || newer.sc_step <= view.fence_step) break;
    if (sc && (newer.sc_step != kNever || covered(newer.seen_at, full_))) break;
    ++count;
  }
  return count;
}

void Memory::see(Store& store, u32 thread, std::memory_order order) {
  ThreadView& view = threads_[thread];
  u32& seen = store.seen_at[thread];
  if (view.clock.at[thread] < seen) seen = view.clock.at[thread];
  if (acquires(order)) {
    view.clock.join(store.published);
  } else {
    view.pending.join(store.published);
  }
  if (order == std::memory_order_seq_cst) {
    ++sc_step_;
    if (store.sc_step == kNever) store.sc_step = sc_step_;
  }
}

u64 Memory::read(Cell& cell, u32 thread, u32 distance, std::memory_order order) {
  ++threads_[thread].clock.at[thread];
  Store& store = cell.back(distance);
  see(store, thread, order);
  return store.value;
}

void Memory::append(Cell& cell, u32 thread, u64 value, std::memory_order order, const Clock* chain) {
  ThreadView& view = threads_[thread];
  Store store{value, releases(order) ? view.clock : view.released, {}, kNever};
  if (chain != nullptr) store.published.join(*chain);
  store.seen_at.fill(kNever);
  store.seen_at[thread] = view.clock.at[thread];
  if (order == std::memory_order_seq_cst) store.sc_step = ++sc_step_;
  cell.newest = (cell.newest + 1) % kStoresKept;
  if (cell.count < kStoresKept) ++cell.count;
  cell.stores[cell.newest] = store;
  write_real(cell.address, cell.size, value);
}

void Memory::write(Cell& cell, u32 thread, u64 value, std::memory_order order) {
  ++threads_[thread].clock.at[thread];
  append(cell, thread, value, order, nullptr);
}

void Memory::replace(Cell& cell, u32 thread, u64 value, std::memory_order order) {
  ++threads_[thread].clock.at[thread];
  Store& replaced = cell.back(0);
  see(replaced, thread, order);
  const Clock chain = replaced.published;
  append(cell, thread, value, order, &chain);
}

void Memory::acquire_fence(u32 thread) { threads_[thread].clock.join(threads_[thread].pending); }

void Memory::release_fence(u32 thread) { threads_[thread].released = threads_[thread].clock; }

void Memory::full_fence(u32 thread) {
  ThreadView& view = threads_[thread];
  view.clock.join(view.pending);
  view.clock.join(full_);
  full_.join(view.clock);
  view.released = view.clock;
  view.fence_step = ++sc_step_;
}

void Memory::light_fence(u32 thread) {
  ThreadView& view = threads_[thread];
  view.clock.join(sleep_);
  light_.join(view.clock);
}

void Memory::sleep_fence(u32 thread) {
  ThreadView& view = threads_[thread];
  view.clock.join(light_);
  full_fence(thread);
  sleep_.join(view.clock);
}

void Memory::observe_end(u32 observer, u32 ended) {
  // The kernel reports a death after the dead thread's last store reached memory.
  threads_[observer].clock.join(threads_[ended].clock);
}

u64 Memory::read_real(u64 address, u32 size) {
  u64 value = 0;
  // Cells are keyed by address, so it is a number here. NOLINTNEXTLINE(performance-no-int-to-ptr)
  std::memcpy(&value, reinterpret_cast<const void*>(address), size);
  return value;
}

void Memory::write_real(u64 address, u32 size, u64 value) {
  // As in read_real(). NOLINTNEXTLINE(performance-no-int-to-ptr)
  std::memcpy(reinterpret_cast<void*>(address), &value, size);
}

}  // namespace mooring::model
