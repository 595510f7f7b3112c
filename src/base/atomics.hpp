// The Atomics policy: every access to a shared word, and every copy of shared bytes, goes through it.
//
// Ring and group code is a template on this policy, so that three things drive the shipped code and not a copy:
// the processes that use it (HardwareAtomics), the interleaving explorer of tests/model (stale reads, kills and stops
// as events), and the kill tests (named kill points).
//
// Shared words are plain naturally aligned integers in the layout structs, accessed through std::atomic_ref here, and
// not std::atomic members: the policy then needs nothing but an address, and one layout serves every policy.
//
// WHAT A POLICY PROVIDES (T is u64 or u32)
//   load(word, order)  store(word, value, order)
//   cas(word, expected&, desired, order)      strong; failure reloads `expected` with acquire
//   add(word, delta, order) -> old            wrapping
//   publish_fence()     orders the stores before it with the loads after it, on the side that is hot. Its pair is
//   sleep_fence()       the cold side. (Asymmetric Dekker: the hot side is a compiler barrier, the cold side
//                       makes every registered process pass a barrier: membarrier(2), PRIVATE/GLOBAL_EXPEDITED.)
//   overwrite_fence()   release fence between `reclaim` and the bytes overwritten after it.
//   overread_fence()    acquire fence between bytes copied and `reclaim` read after it. These two are the only
//                       stand-alone fences of the protocol (core.md 9); TSan builds order by the words instead.
//   copy_in(shared, private, size)   copy_out(private, shared, size)   payload bytes; relaxed, torn reads possible
//   prefetch_read(p)  prefetch_write(p)  pause()  kill_point(name)
#pragma once

#include <atomic>
#include <cstring>

#include "base/bytes.hpp"

#if defined(__SANITIZE_THREAD__)
#define MOORING_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MOORING_TSAN 1
#endif
#endif

namespace mooring {

// Bugs that a test policy may build into the shipped templates (`static constexpr SeededBug kSeededBug = ...`), to show
// that the suite which should find them does. Policies that name none, as HardwareAtomics, compile to the plain code.
enum class SeededBug {
  kNone,
  kTwoWayLapTest,     // OrderWriter::publish takes any cell that is not of its own lap for a free one
  kHelpOverMoved,     // CompetingConsumer::help_base steps over MOVED
  kNoRoomForZero,     // SpscWriter::reserve does not ask for the 8 bytes of the zero ahead
  kNoCheckpoint,      // SpscWriter never renews its checkpoint
  kClearBackUntagged, // CompetingConsumer clears `back` whatever was given back meanwhile
  kHeaderBeforeZero,  // SpscWriter::publish releases the header before it zeroes the next one
};
template <class A>
constexpr bool has_bug(SeededBug bug) {
  if constexpr (requires { A::kSeededBug; }) {
    return A::kSeededBug == bug;
  } else {
    return false;
  }
}

// The cold half of the asymmetric pair; defined in base/atomics.cpp. True if membarrier(2) reaches every process that
// called membarrier_register(); false where the kernel or a seccomp filter denies it (then every publisher must run in
// fence mode: see HardwareAtomics::publish_fence).
bool membarrier_register();
void membarrier_or_fence();

struct HardwareAtomics {
  template <class T>
  static T load(const T& word, std::memory_order order) {
    return std::atomic_ref<T>(const_cast<T&>(word)).load(order);
  }
  template <class T>
  static void store(T& word, T value, std::memory_order order) {
    std::atomic_ref<T>(word).store(value, order);
  }
  template <class T>
  static bool cas(T& word, T& expected, T desired, std::memory_order order) {
    return std::atomic_ref<T>(word).compare_exchange_strong(expected, desired, order, std::memory_order_acquire);
  }
  template <class T>
  static T add(T& word, T delta, std::memory_order order) {
    return std::atomic_ref<T>(word).fetch_add(delta, order);
  }

  // `fenced`: some process of this instance cannot be reached by membarrier, so the hot side pays a full fence.
  static void publish_fence(bool fenced) {
    if (__builtin_expect(fenced, false)) {
      full_fence();
    } else {
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }
  }
  static void sleep_fence() { membarrier_or_fence(); }

#ifdef MOORING_TSAN
  // TSan does not model fences; copies go word by word with acquire/release there (copy_in, copy_out).
  static void full_fence() {
    static u64 fence_word = 0;
    std::atomic_ref<u64>(fence_word).fetch_add(1, std::memory_order_seq_cst);
  }
  static void overwrite_fence() {}
  static void overread_fence() {}
#else
  static void full_fence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
  static void overwrite_fence() { std::atomic_thread_fence(std::memory_order_release); }
  static void overread_fence() { std::atomic_thread_fence(std::memory_order_acquire); }
#endif

#ifdef MOORING_TSAN
  static void copy_in(void* shared, const void* from, std::size_t size) {
    auto* to_bytes = static_cast<u8*>(shared);
    auto* from_bytes = static_cast<const u8*>(from);
    for (std::size_t i = 0; i < size; ++i) {
      std::atomic_ref<u8>(to_bytes[i]).store(from_bytes[i], std::memory_order_release);
    }
  }
  static void copy_out(void* to, const void* shared, std::size_t size) {
    auto* to_bytes = static_cast<u8*>(to);
    auto* from_bytes = static_cast<u8*>(const_cast<void*>(shared));
    for (std::size_t i = 0; i < size; ++i) {
      to_bytes[i] = std::atomic_ref<u8>(from_bytes[i]).load(std::memory_order_acquire);
    }
  }
#else
  static void copy_in(void* shared, const void* from, std::size_t size) { std::memcpy(shared, from, size); }
  static void copy_out(void* to, const void* shared, std::size_t size) { std::memcpy(to, shared, size); }
#endif

  static void prefetch_read(const void* address) { __builtin_prefetch(address, 0, 3); }
  static void prefetch_write(const void* address) {
#if defined(__x86_64__)
    // Written out: for a portable build the compiler's builtin is a read prefetch, which does not bring ownership.
    // A processor without it takes it for a no-op.
    asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(address)));
#else
    __builtin_prefetch(address, 1, 3);
#endif
  }
  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb" ::: "memory");  // `yield` is a no-op on most cores
#endif
  }
  static void kill_point(const char* /*name*/) {}
};

}  // namespace mooring
