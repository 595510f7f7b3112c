// Is a queue getting full? High above 0.8, low again below 0.6: between the two it stays what it was, so that a queue
// that breathes about one mark says so once. Pure.
//
// TESTED BY  delivery/watermark_test
#pragma once

#include "base/bytes.hpp"

namespace mooring {

inline constexpr u64 kHighWaterMilli = 800;
inline constexpr u64 kLowWaterMilli = 600;

class Watermark {
 public:
  // What a supervisor before had said: not to be said again.
  void adopt(bool above) { above_ = above; }
  bool above() const { return above_; }
  // True: a mark was crossed.
  bool look(u64 fill_milli) {
    const bool before = above_;
    if (fill_milli >= kHighWaterMilli) above_ = true;
    if (fill_milli <= kLowWaterMilli) above_ = false;
    return above_ != before;
  }

 private:
  bool above_ = false;
};

// `used` of `bound` in thousandths; garbage in shared memory is full.
constexpr u64 fill_milli(u64 used, u64 bound) {
  if (bound == 0) return 0;
  return used >= bound ? 1000 : used * 1000 / bound;
}

}  // namespace mooring
