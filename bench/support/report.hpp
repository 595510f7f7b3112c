// The two faces of a result: one JSON object a line with fixed keys, and an aligned table for people.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>

#include "base/bytes.hpp"
#include "bench/support/machine.hpp"
#include "bench/support/measurement.hpp"

namespace mooring::bench {

// The physical limit measured beside: a latency or a rate.
struct ReportedLimit {
  std::string name;
  std::optional<double> p50_ns;
  std::optional<double> p99_ns;
  std::optional<double> per_second;
};

struct ReportLine {
  std::string scenario;
  std::string kind;  // of the queue: "spsc", "mpmc"; empty (null) where no queue is measured
  u64 size_bytes = 0;
  unsigned producers = 0;
  unsigned consumers = 0;
  std::optional<Percentiles> latency;
  std::optional<double> messages_per_second;
  std::optional<double> bytes_per_second;
  std::optional<ReportedLimit> limit;
  std::optional<double> ratio_to_limit;  // the median of the ratios within repetitions, not the ratio of the medians
  MachineFacts machine;
  std::string version;
};

// A line from a (median) measurement; limit and ratio are for the caller to add.
ReportLine report_line(const Measurement& measurement, std::string kind, const MachineFacts& machine);
ReportedLimit reported_limit(const Measurement& limit);

// Keys, in this order: scenario kind size_bytes producers consumers p50_ns p99_ns p999_ns messages_per_second
// bytes_per_second limit ratio_to_limit machine version. What does not apply is null.
nlohmann::ordered_json to_json(const ReportLine& line);
std::string json_line(const ReportLine& line);  // without the line end

// Header and one row a line, columns aligned, with the line end.
std::string table(std::span<const ReportLine> lines);

}  // namespace mooring::bench
