// The memory of the interleaving explorer: what a load may read.
//
// An operational form of the C++ memory model over the words that model threads touch. Each word has the list of its
// stores in modification order, which is the order of execution. Each thread has a vector clock; whatever clock C
// covers happens before whoever holds C.
//
//   a store     remembers the clock it publishes: release = the thread's clock; relaxed = the clock of the thread's
//   last
//               release fence. A read-modify-write adds the clock of the store it replaces (release sequence).
//   a load      may read any store not older than its floor. The floor is the newest store that some thread had read or
//               written at a time which the loader's clock covers: coherence and happens-before are one rule so.
//               acquire joins the clock of the store; relaxed keeps it for the next acquire fence.
//   seq_cst     a load does not pass the last seq_cst store or load of that word, nor what was before a full fence; a
//   load
//               behind a full fence does not pass an earlier seq_cst store.
//   full fence  acquire + release, and a clock that all full fences share, joined both ways.
//   asymmetric  light (publish_fence(false)) and sleep fences are ordered against each other, and not light against
//               light. A light fence is a place of its own: a thread that has none between its store and its load
//               is not ordered by another's membarrier, since there the compiler may swap the two.
//
// NOT SHOWN: a load that reads a store which has not been executed yet (load buffering), and a modification order other
// than the order of execution (2+2W). aarch64 may do both; neither is a pattern that our protocols rest on.
//
// Words are 4 or 8 bytes, naturally aligned, one size for one address. Real memory always has the newest store.
#pragma once

#include <array>
#include <atomic>
#include <vector>

#include "base/bytes.hpp"

namespace mooring::model {

inline constexpr u32 kThreadsMax = 4;
inline constexpr u32 kStoresKept = 8;  // per word; older ones cannot be read any more
inline constexpr u32 kNever = ~u32{0};

struct Clock {
  std::array<u32, kThreadsMax> at{};

  void join(const Clock& other) {
    for (u32 i = 0; i < kThreadsMax; ++i) at[i] = at[i] < other.at[i] ? other.at[i] : at[i];
  }
};

struct Store {
  u64 value;
  Clock published;
  std::array<u32, kThreadsMax> seen_at;  // each thread's own time when it first read or wrote this store
  u32 sc_step;                           // when a seq_cst operation first wrote or read it
};

struct Cell {
  u64 address;
  u32 size;
  u32 count;   // stores kept
  u32 newest;  // index into `stores`, a ring
  std::array<Store, kStoresKept> stores;

  Store& back(u32 distance) { return stores[(newest - distance) % kStoresKept]; }
};

class Memory {
 public:
  Memory();

  void start_execution();

  enum class Access : u8 { kOk, kMixedSizes, kChangedBehindUs };
  // The cell stays valid until the next call of cell(). A word seen first takes its value from real memory.
  Access cell(u64 address, u32 size, Cell*& found);
  // 0 if that aligned 8-byte place was not accessed in this execution.
  u32 size_in_use(u64 address) const;
  u32 cell_index(u64 address, u32 size) const;

  // How many stores, counted from the newest, `thread` may read; at most depth + 1.
  u32 readable(Cell& cell, u32 thread, std::memory_order order, u32 depth) const;
  u64 read(Cell& cell, u32 thread, u32 distance, std::memory_order order);
  void write(Cell& cell, u32 thread, u64 value, std::memory_order order);
  void replace(Cell& cell, u32 thread, u64 value, std::memory_order order);  // reads the newest and writes, as one

  void acquire_fence(u32 thread);
  void release_fence(u32 thread);
  void full_fence(u32 thread);
  void light_fence(u32 thread);
  void sleep_fence(u32 thread);
  void observe_end(u32 observer, u32 ended);

  static u64 read_real(u64 address, u32 size);
  static void write_real(u64 address, u32 size, u64 value);

 private:
  struct ThreadView {
    Clock clock;
    Clock pending;   // read by relaxed loads, waiting for an acquire fence
    Clock released;  // at the last release fence
    u32 fence_step = 0;
  };
  struct Slot {
    u64 key = 0;
    u32 execution = 0;
    u32 size = 0;
    std::array<u32, 2> cells{};
  };

  std::size_t slot_of(u64 key) const;
  u32 add_cell(u64 address, u32 size);
  void grow();
  void append(Cell& cell, u32 thread, u64 value, std::memory_order order, const Clock* chain);
  void see(Store& store, u32 thread, std::memory_order order);

  std::vector<Slot> slots_;
  std::vector<Cell> cells_;
  u32 cells_used_ = 0;
  u32 slots_used_ = 0;
  u32 execution_ = 0;
  u32 sc_step_ = 0;
  Clock full_;
  Clock light_;
  Clock sleep_;
  std::array<ThreadView, kThreadsMax> threads_;
};

}  // namespace mooring::model
