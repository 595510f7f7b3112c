// Runs contenders in turn (A, B, C, A, B, C, ...) and compares them inside each repetition.
//
// The machines are shared and change speed by up to 2x within tens of seconds, so two medians taken one after the other
// compare two phases. A ratio of two neighbours in one repetition cancels most of the phase; the median over the
// repetitions drops the ones in which it changed in between.
#pragma once

#include <algorithm>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "bench/support/measurement.hpp"

namespace mooring::bench {

struct Contender {
  std::string name;
  std::function<Result<Measurement>()> run;
};

struct Spread {
  double median = 0;
  double min = 0;
  double max = 0;
};

// Of an even number of values the median is the mean of the middle two. All zero if there are none.
inline Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  const double median = values.size() % 2 != 0 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

using Metric = double (*)(const Measurement&);

class InterleavedRuns {
 public:
  explicit InterleavedRuns(std::vector<std::vector<Measurement>> runs) : runs_(std::move(runs)) {}

  // All repetitions of one contender, in the order of the span given to interleave().
  std::span<const Measurement> of(std::size_t contender) const { return runs_[contender]; }

  Spread spread(std::size_t contender, Metric metric) const {
    std::vector<double> values;
    for (const Measurement& one : runs_[contender]) values.push_back(metric(one));
    return spread_of(std::move(values));
  }
  double median(std::size_t contender, Metric metric) const { return spread(contender, metric).median; }

  // metric(contender) / metric(base) in the same repetition.
  Spread ratio(std::size_t contender, std::size_t base, Metric metric) const {
    std::vector<double> values;
    for (std::size_t i = 0; i < runs_[contender].size(); ++i) {
      const double below = metric(runs_[base][i]);
      if (below > 0) values.push_back(metric(runs_[contender][i]) / below);
    }
    return spread_of(std::move(values));
  }

  // One measurement whose every figure is the median over the repetitions; counts are those of all together.
  Measurement median_measurement(std::size_t contender) const {
    Measurement result = runs_[contender].front();
    result.messages = 0;
    for (const Measurement& one : runs_[contender]) {
      result.messages += one.messages;
      result.pinned = result.pinned && one.pinned;
    }
    const auto median_of = [&](auto&& figure) {
      std::vector<double> values;
      for (const Measurement& one : runs_[contender]) values.push_back(figure(one));
      return spread_of(std::move(values)).median;
    };
    if (result.latency) {
      u64 count = 0;
      for (const Measurement& one : runs_[contender]) count += one.latency->count;
      result.latency = Percentiles{count,
                                   median_of([](const Measurement& one) { return one.latency->min_ns; }),
                                   median_of([](const Measurement& one) { return one.latency->p50_ns; }),
                                   median_of([](const Measurement& one) { return one.latency->p99_ns; }),
                                   median_of([](const Measurement& one) { return one.latency->p999_ns; }),
                                   median_of([](const Measurement& one) { return one.latency->max_ns; })};
    }
    if (result.messages_per_second) {
      result.messages_per_second = median_of([](const Measurement& one) { return *one.messages_per_second; });
    }
    if (result.bytes_per_second) {
      result.bytes_per_second = median_of([](const Measurement& one) { return *one.bytes_per_second; });
    }
    return result;
  }

 private:
  std::vector<std::vector<Measurement>> runs_;
};

// Ends at the first run that fails, with its error.
inline Result<InterleavedRuns> interleave(std::span<const Contender> contenders, unsigned repetitions) {
  if (contenders.empty() || repetitions == 0) {
    return fail(Code::kBadArgument, "interleaving needs at least one contender and one repetition");
  }
  std::vector<std::vector<Measurement>> runs(contenders.size());
  for (unsigned repetition = 0; repetition < repetitions; ++repetition) {
    for (std::size_t i = 0; i < contenders.size(); ++i) {
      auto one = contenders[i].run();
      if (!one) return fail(one.error().code, contenders[i].name + ": " + one.error().text);
      runs[i].push_back(std::move(*one));
    }
  }
  return InterleavedRuns(std::move(runs));
}

}  // namespace mooring::bench
