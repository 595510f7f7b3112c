// The Atomics policy with a fault in it: what the protocol would be if one of its words or rules were missing. The
// shipped templates run on it unchanged, so a mutant differs from the product by that one thing only.
#pragma once

#include <array>

#include "base/atomics.hpp"
#include "base/check.hpp"

namespace mooring::test {

enum class Fault {
  kNone,
  kWordNeverStored,   // stores to, and successful compare-and-swaps of, `word` do nothing
  kNoZeroes,          // a relaxed store of 0 does nothing: a lane without the zero ahead
  kReleaseIsRelaxed,  // what was written before a release becomes visible after it
  kSplitSwap,         // compare-and-swap is a compare, and then a store
};

struct BrokenAtomics : HardwareAtomics {
  // Per process: a child of fork() has its own.
  static inline Fault fault = Fault::kNone;
  static inline const void* word = nullptr;

  // What is late lands; or is forgotten, because another run starts.
  static void land() { flush_late(); }
  static void forget() { late_count_ = 0; }

  template <class T>
  static T load(const T& from, std::memory_order order) {
    // A process sees its own stores, late or not.
    for (std::size_t i = late_count_; i-- > 0;) {
      if (late_[i].to == &from && late_[i].size == sizeof(T)) {
        T value{};
        std::memcpy(&value, late_[i].bytes.data(), sizeof(T));
        return value;
      }
    }
    return HardwareAtomics::load(from, order);
  }
  template <class T>
  static void store(T& to, T value, std::memory_order order) {
    if (fault == Fault::kWordNeverStored && &to == word) return;
    if (fault == Fault::kNoZeroes && value == 0 && order == std::memory_order_relaxed) return;
    if (fault == Fault::kReleaseIsRelaxed && order == std::memory_order_relaxed)
      return put_late(&to, &value, sizeof value);
    HardwareAtomics::store(to, value, order);
    flush_late();
  }
  template <class T>
  static bool cas(T& to, T& expected, T desired, std::memory_order order) {
    if (fault == Fault::kWordNeverStored && &to == word) {
      // It looks like success to the caller.
      const T now = HardwareAtomics::load(to, std::memory_order_acquire);
      const bool same = now == expected;
      expected = now;
      return same;
    }
    if (fault == Fault::kSplitSwap) {
      const T now = HardwareAtomics::load(to, std::memory_order_acquire);
      if (now != expected) {
        expected = now;
        return false;
      }
      HardwareAtomics::store(to, desired, std::memory_order_release);
      return true;
    }
    const bool done = HardwareAtomics::cas(to, expected, desired, order);
    if (done) flush_late();
    return done;
  }
  static void copy_in(void* shared, const void* from, std::size_t size) {
    if (fault == Fault::kReleaseIsRelaxed) return put_late(shared, from, size);
    HardwareAtomics::copy_in(shared, from, size);
  }

 private:
  struct Late {
    void* to;
    std::size_t size;
    std::array<unsigned char, 64> bytes;
  };

  static void put_late(void* to, const void* from, std::size_t size) {
    if (late_count_ == late_.size()) flush_late();
    Late& late = late_[late_count_++];
    MOORING_CHECK(size <= late.bytes.size());
    late.to = to;
    late.size = size;
    std::memcpy(late.bytes.data(), from, size);
  }
  static void flush_late() {
    for (std::size_t i = 0; i < late_count_; ++i) {
      // Volatile-like: one after the other, so that a kill finds some of them missing.
      std::memcpy(late_[i].to, late_[i].bytes.data(), late_[i].size);
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }
    late_count_ = 0;
  }

  static inline std::array<Late, 16> late_{};
  static inline std::size_t late_count_ = 0;
};

}  // namespace mooring::test
