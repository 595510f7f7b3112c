// Atomics for "killed anywhere" inside one test: the policy of the running code, which throws Cut instead of doing its
// n-th change of shared memory, or at a kill point of a given name. The objects of the dead are then dropped by the
// stack, the shared bytes stay as a kill would leave them, and the test goes on as the successor.
//
// One thread only. The crash tests do the same with real processes and SIGKILL; this shows every single step in
// microseconds.
#pragma once

#include <cstring>
#include <functional>
#include <utility>

#include "base/atomics.hpp"

namespace mooring::test {

struct Cut {};

struct CutAtomics : HardwareAtomics {
  static constexpr u64 kNever = ~u64{0};
  static inline u64 steps = 0;                                   // changes of shared memory so far
  static inline u64 cut_at_step = kNever;                        // the step that is not done any more
  static inline const char* cut_at = nullptr;                    // or the kill point
  static inline std::function<void(const char*)> at_kill_point;  // or: what else happens at any kill point

  static void step() {
    if (++steps == cut_at_step) throw Cut{};
  }
  template <class T>
  static void store(T& word, T value, std::memory_order order) {
    step();
    HardwareAtomics::store(word, value, order);
  }
  template <class T>
  static bool cas(T& word, T& expected, T desired, std::memory_order order) {
    step();
    return HardwareAtomics::cas(word, expected, desired, order);
  }
  template <class T>
  static T add(T& word, T delta, std::memory_order order) {
    step();
    return HardwareAtomics::add(word, delta, order);
  }
  static void copy_in(void* shared, const void* from, std::size_t size) {
    step();
    HardwareAtomics::copy_in(shared, from, size / 2);  // killed in the middle of a payload
    step();
    HardwareAtomics::copy_in(static_cast<u8*>(shared) + size / 2, static_cast<const u8*>(from) + size / 2,
                             size - size / 2);
  }
  static void kill_point(const char* name) {
    if (cut_at != nullptr && std::strcmp(name, cut_at) == 0) throw Cut{};
    if (at_kill_point) {
      const auto once = std::exchange(at_kill_point, nullptr);  // what it runs passes kill points too
      once(name);
    }
  }
};

// Runs `work` and kills it before its step `step` (1 is the first). True: it was cut, false: it came to its end.
template <class Work>
bool cut_before_step(u64 step, const Work& work) {
  CutAtomics::steps = 0;
  CutAtomics::cut_at_step = step;
  bool cut = false;
  try {
    work();
  } catch (const Cut&) {
    cut = true;
  }
  CutAtomics::cut_at_step = CutAtomics::kNever;
  return cut;
}

// Runs `work` and kills it at the kill point `name`. True: it came there.
template <class Work>
bool cut_at_kill_point(const char* name, const Work& work) {
  CutAtomics::cut_at = name;
  bool cut = false;
  try {
    work();
  } catch (const Cut&) {
    cut = true;
  }
  CutAtomics::cut_at = nullptr;
  return cut;
}

}  // namespace mooring::test
