// The application's side of a publish: prepared messages, of which only the stamp changes (bench/support/content.hpp).
//
// A batch needs as many messages at once as it has, so the buffers are a ring of them: a multiple of three, so that
// each buffer keeps its variant of the content. Slices of a batch that wraps lie behind the last one once more: a batch
// is then one span, and nothing but stamps is written for it.
#pragma once

#include <span>
#include <vector>

#include "bench/support/content.hpp"
#include "mooring/mooring.h"

namespace mooring::bench {

inline constexpr unsigned kProducerShift = 48;
constexpr u64 flow_stamp(unsigned producer, u64 sequence) { return (u64{producer} << kProducerShift) | sequence; }
constexpr unsigned producer_of(u64 stamp) { return static_cast<unsigned>(stamp >> kProducerShift); }
constexpr u64 sequence_of(u64 stamp) { return stamp & ((u64{1} << kProducerShift) - 1); }

class BatchSource {
 public:
  BatchSource(unsigned producer, u64 size_bytes, unsigned batch_max)
      : producer_(producer), count_((batch_max + kContentVariants - 1) / kContentVariants * kContentVariants) {
    const u64 stride = align_up(size_bytes, kLineBytes);
    memory_ = aligned_bytes(stride * count_);
    for (u64 i = 0; i < 2 * count_; ++i) slices_.push_back({memory_.get() + (i % count_) * stride, size_bytes});
    for (u64 i = 0; i < count_; ++i) fill_content(memory_.get() + i * stride, size_bytes, flow_stamp(producer, i));
  }

  // The next `batch` messages, with the stamps from `sequence` on. Valid until the next call.
  std::span<const mooring_slice> messages(u64 sequence, unsigned batch) {
    for (unsigned i = 0; i < batch; ++i) {
      const u64 stamp = flow_stamp(producer_, sequence + i);
      std::memcpy(const_cast<void*>(slices_[position_ + i].data), &stamp, sizeof stamp);
    }
    const std::span<const mooring_slice> found(slices_.data() + position_, batch);
    position_ += batch;
    if (position_ >= count_) position_ -= count_;
    return found;
  }

 private:
  unsigned producer_;
  u64 count_;
  u64 position_ = 0;  // sequence mod count_
  AlignedBytes memory_;
  std::vector<mooring_slice> slices_;
};

}  // namespace mooring::bench
