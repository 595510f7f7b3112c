// Latency recorder: a log-linear histogram of clock ticks, with a fixed size and no allocation.
//
// Plain data, so that a role writes it in shared memory and the parent reads it after the role ended. Values below 512
// ticks are exact; above, each octave has 256 buckets (0.4 %).
// A histogram and not an array of samples: a run is bounded by time, not by a count, and the few lines that a
// steady latency touches stay in the cache.
#pragma once

#include <algorithm>
#include <array>
#include <bit>

#include "base/bytes.hpp"
#include "bench/support/clock.hpp"
#include "bench/support/measurement.hpp"

namespace mooring::bench {

class LatencyHistogram {
 public:
  void record(u64 ticks) {
    const u64 value = std::min(ticks, kValueMax);
    ++buckets_[bucket_of(value)];
    ++count_;
    min_ = std::min(min_, value);
    max_ = std::max(max_, value);
  }

  u64 count() const { return count_; }

  // `fraction` in [0, 1]. In ticks; 0 if nothing was recorded. Interpolated between the middles of neighbouring values:
  // counters step by 10 ns and more on some machines (about 20 ticks on Zen 5), while a ratio needs the nanoseconds.
  double percentile(double fraction) const {
    if (count_ == 0) return 0;
    const double rank = fraction * static_cast<double>(count_);
    double before = 0;
    double last_rank = 0;
    auto last_value = static_cast<double>(min_);
    for (std::size_t bucket = 0; bucket < kBucketCount; ++bucket) {
      if (buckets_[bucket] == 0) continue;
      const auto here = static_cast<double>(buckets_[bucket]);
      const double middle_rank = before + here / 2;
      const double value = std::clamp(middle_of(bucket), static_cast<double>(min_), static_cast<double>(max_));
      if (middle_rank >= rank) {
        return last_value + (value - last_value) * (rank - last_rank) / (middle_rank - last_rank);
      }
      before += here;
      last_rank = middle_rank;
      last_value = value;
    }
    const auto end_rank = static_cast<double>(count_);
    return last_value + (static_cast<double>(max_) - last_value) * (rank - last_rank) / (end_rank - last_rank);
  }

  Percentiles summary() const {
    if (count_ == 0) return {};
    const double rate = ns_per_tick();
    return {count_,
            static_cast<double>(min_) * rate,
            percentile(0.50) * rate,
            percentile(0.99) * rate,
            percentile(0.999) * rate,
            static_cast<double>(max_) * rate};
  }

 private:
  static constexpr unsigned kSubBits = 8;
  static constexpr u64 kSubCount = u64{1} << kSubBits;
  static constexpr unsigned kValueBits = 44;  // an hour of a 4 GHz counter
  static constexpr u64 kValueMax = (u64{1} << kValueBits) - 1;
  static constexpr std::size_t kBucketCount = (kValueBits - kSubBits - 1) * kSubCount + 2 * kSubCount;

  static std::size_t bucket_of(u64 value) {
    if (value < 2 * kSubCount) return static_cast<std::size_t>(value);
    const auto shift = static_cast<unsigned>(std::bit_width(value)) - kSubBits - 1;
    return static_cast<std::size_t>(shift * kSubCount + (value >> shift));
  }
  static double middle_of(std::size_t bucket) {
    if (bucket < 2 * kSubCount) return static_cast<double>(bucket);
    const u64 shift = bucket / kSubCount - 1;
    return static_cast<double>((bucket - shift * kSubCount) << shift) + static_cast<double>(u64{1} << (shift - 1));
  }

  std::array<u32, kBucketCount> buckets_{};
  u64 count_ = 0;
  u64 min_ = kForever;
  u64 max_ = 0;
};

}  // namespace mooring::bench
