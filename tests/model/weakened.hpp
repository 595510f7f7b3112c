// Explorer policies with one thing taken away. A scenario that passes with ExplorerAtomics proves something only if it
// fails with the policy that lacks what it is about.
//
// Each side of a scenario takes its own policy, so that exactly one half of one pairing is weak.
#pragma once

#include "model/explorer.hpp"

namespace mooring::model {

template <SeededBug kBug>
struct WithBug : ExplorerAtomics {
  static constexpr SeededBug kSeededBug = kBug;
};

struct RelaxedStores : ExplorerAtomics {
  template <class T>
  static void store(T& word, T value, std::memory_order /*order*/) {
    ExplorerAtomics::store(word, value, std::memory_order_relaxed);
  }
};

struct RelaxedLoads : ExplorerAtomics {
  template <class T>
  static T load(const T& word, std::memory_order /*order*/) {
    return ExplorerAtomics::load(word, std::memory_order_relaxed);
  }
};

struct RelaxedCas : ExplorerAtomics {
  template <class T>
  static bool cas(T& word, T& expected, T desired, std::memory_order /*order*/) {
    return ExplorerAtomics::cas(word, expected, desired, std::memory_order_relaxed);
  }
};

struct NoOverwriteFence : ExplorerAtomics {
  static void overwrite_fence() {}
};

struct NoOverreadFence : ExplorerAtomics {
  static void overread_fence() {}
};

}  // namespace mooring::model
