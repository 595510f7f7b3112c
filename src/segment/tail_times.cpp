#include "segment/tail_times.hpp"

#include <algorithm>

#include "base/atomics.hpp"

namespace mooring {
namespace {

using A = HardwareAtomics;
using layout::kTailSamples;

constexpr u32 kReadsMost = 16;  // a writer that is stopped in the middle is not waited for

// The least time between two samples once they are full: the span over half of their number.
u64 spacing_ns(const TailSamples& samples) {
  if (samples.size() < kTailSamples / 2) return 0;
  return (samples.back().boottime_ns - samples.front().boottime_ns) / kTailSamples;
}

}  // namespace

void note_tail(layout::TailTimes& times, u64 tail, u64 oldest, u64 now_boottime_ns) {
  TailSamples samples = read_tail_times(times);
  if (!samples.empty() && samples.back().seq >= tail) return;
  // The first sample behind `oldest` tells its age; those before it tell nobody's.
  std::erase_if(samples, [&](const layout::TailTimes::Sample& sample) { return sample.seq <= oldest; });
  // The newest one moves on while it is close to the one before it: time runs on evenly spaced.
  const std::size_t count = samples.size();
  if (count >= 2 && now_boottime_ns - samples[count - 2].boottime_ns < spacing_ns(samples)) samples.pop_back();
  if (samples.size() == kTailSamples) {
    for (std::size_t index = 0; 2 * index < kTailSamples; ++index) samples[index] = samples[2 * index];
    samples.resize((kTailSamples + 1) / 2);
  }
  samples.push_back({tail, now_boottime_ns});

  // TAIL_TIMES
  const u64 version = A::load(times.version, std::memory_order_relaxed) | 1U;
  A::store(times.version, version, std::memory_order_relaxed);
  A::overwrite_fence();
  A::store(times.count, u64{samples.size()}, std::memory_order_release);
  for (std::size_t index = 0; index < samples.size(); ++index) {
    A::store(times.samples[index].seq, samples[index].seq, std::memory_order_release);
    A::store(times.samples[index].boottime_ns, samples[index].boottime_ns, std::memory_order_release);
  }
  A::store(times.version, version + 1, std::memory_order_release);
}

TailSamples read_tail_times(const layout::TailTimes& times) {
  TailSamples samples;
  for (u32 reads = 0; reads < kReadsMost; ++reads) {
    // TAIL_TIMES: acquire, each, so that the second look at the version comes after all of them.
    const u64 version = A::load(times.version, std::memory_order_acquire);
    if ((version & 1) != 0) continue;
    samples.clear();
    const u64 count = std::min<u64>(A::load(times.count, std::memory_order_acquire), kTailSamples);
    for (u64 index = 0; index < count; ++index) {
      samples.push_back({A::load(times.samples[index].seq, std::memory_order_acquire),
                         A::load(times.samples[index].boottime_ns, std::memory_order_acquire)});
    }
    if (A::load(times.version, std::memory_order_acquire) == version) return samples;
  }
  return {};
}

std::optional<u64> seen_boottime_ns(const TailSamples& samples, u64 seq) {
  const auto behind = std::upper_bound(samples.begin(), samples.end(), seq,
                                       [](u64 of, const layout::TailTimes::Sample& sample) { return of < sample.seq; });
  if (behind == samples.end()) return std::nullopt;
  return behind->boottime_ns;
}

}  // namespace mooring
