// Numbers in JSON are rounded to what was measured: tenths of a nanosecond, whole messages, thousandths of a ratio.
#include "bench/support/report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <vector>

namespace mooring::bench {

namespace {

using Json = nlohmann::ordered_json;

Json rounded(std::optional<double> value, double steps_per_unit) {
  if (!value || !std::isfinite(*value)) return nullptr;
  return std::round(*value * steps_per_unit) / steps_per_unit;
}
Json whole(std::optional<double> value) {
  if (!value || !std::isfinite(*value) || *value < 0) return nullptr;
  return static_cast<u64>(std::llround(*value));
}
Json text_or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

std::string formatted(double value, int decimals, const char* unit) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.*f%s", decimals, value, unit);
  return buffer.data();
}

std::string nanoseconds(std::optional<double> ns) {
  if (!ns) return "-";
  return *ns < 10'000 ? formatted(*ns, 0, " ns") : formatted(*ns / 1000, 1, " us");
}
std::string rate(std::optional<double> per_second) {
  if (!per_second) return "-";
  return *per_second < 1e6 ? formatted(*per_second / 1e3, 1, " k/s") : formatted(*per_second / 1e6, 2, " M/s");
}
std::string bandwidth(std::optional<double> bytes_per_second) {
  return bytes_per_second ? formatted(*bytes_per_second / 1e9, 2, " GB/s") : "-";
}

}  // namespace

ReportLine report_line(const Measurement& measurement, std::string kind, const MachineFacts& machine) {
  ReportLine line;
  line.scenario = measurement.name;
  line.kind = std::move(kind);
  line.size_bytes = measurement.size_bytes;
  line.producers = measurement.producers;
  line.consumers = measurement.consumers;
  line.latency = measurement.latency;
  line.messages_per_second = measurement.messages_per_second;
  line.bytes_per_second = measurement.bytes_per_second;
  line.machine = machine;
  line.machine.pinned = measurement.pinned;
  line.version = MOORING_VERSION_STRING;
  return line;
}

ReportedLimit reported_limit(const Measurement& limit) {
  ReportedLimit result;
  result.name = limit.name;
  if (limit.latency) {
    result.p50_ns = limit.latency->p50_ns;
    result.p99_ns = limit.latency->p99_ns;
  } else {
    result.per_second = limit.messages_per_second;
  }
  return result;
}

Json to_json(const ReportLine& line) {
  Json json;
  json["scenario"] = line.scenario;
  json["kind"] = text_or_null(line.kind);
  json["size_bytes"] = line.size_bytes;
  json["producers"] = line.producers;
  json["consumers"] = line.consumers;
  const auto latency = [&](double Percentiles::*figure) -> std::optional<double> {
    return line.latency ? std::optional<double>((*line.latency).*figure) : std::nullopt;
  };
  json["p50_ns"] = rounded(latency(&Percentiles::p50_ns), 10);
  json["p99_ns"] = rounded(latency(&Percentiles::p99_ns), 10);
  json["p999_ns"] = rounded(latency(&Percentiles::p999_ns), 10);
  json["messages_per_second"] = whole(line.messages_per_second);
  json["bytes_per_second"] = whole(line.bytes_per_second);
  if (line.limit) {
    Json limit;
    limit["name"] = line.limit->name;
    if (line.limit->p50_ns) {
      limit["p50_ns"] = rounded(line.limit->p50_ns, 10);
      if (line.limit->p99_ns) limit["p99_ns"] = rounded(line.limit->p99_ns, 10);
    } else {
      limit["per_second"] = whole(line.limit->per_second);
    }
    json["limit"] = std::move(limit);
  } else {
    json["limit"] = nullptr;
  }
  json["ratio_to_limit"] = rounded(line.ratio_to_limit, 1000);
  Json machine;
  machine["cpu"] = text_or_null(line.machine.cpu);
  machine["cores"] = line.machine.cores;
  machine["kernel"] = text_or_null(line.machine.kernel);
  machine["compiler"] = text_or_null(line.machine.compiler);
  machine["pinned"] = line.machine.pinned;
  machine["governor"] = text_or_null(line.machine.governor);
  machine["clocksource"] = text_or_null(line.machine.clocksource);
  json["machine"] = std::move(machine);
  json["version"] = line.version;
  return json;
}

std::string json_line(const ReportLine& line) {
  // Names may come from the machine (CPU model): bytes that are not UTF-8 are replaced, never thrown at the user.
  return to_json(line).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string table(std::span<const ReportLine> lines) {
  constexpr std::size_t kColumns = 11;
  using Row = std::array<std::string, kColumns>;
  std::vector<Row> rows;
  rows.push_back({"scenario", "kind", "size", "p:c", "p50", "p99", "p99.9", "messages", "bytes", "limit", "ratio"});
  for (const ReportLine& line : lines) {
    const auto latency = [&](double Percentiles::*figure) -> std::optional<double> {
      return line.latency ? std::optional<double>((*line.latency).*figure) : std::nullopt;
    };
    std::string limit = "-";
    if (line.limit) {
      limit = line.limit->name + " " +
              (line.limit->p50_ns ? nanoseconds(line.limit->p50_ns) : rate(line.limit->per_second));
    }
    rows.push_back({line.scenario, line.kind.empty() ? "-" : line.kind, std::to_string(line.size_bytes),
                    std::to_string(line.producers) + ":" + std::to_string(line.consumers),
                    nanoseconds(latency(&Percentiles::p50_ns)), nanoseconds(latency(&Percentiles::p99_ns)),
                    nanoseconds(latency(&Percentiles::p999_ns)), rate(line.messages_per_second),
                    bandwidth(line.bytes_per_second), limit,
                    line.ratio_to_limit ? formatted(*line.ratio_to_limit, 2, "") : "-"});
  }
  std::array<std::size_t, kColumns> widths{};
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < kColumns; ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < kColumns; ++i) {
      const std::string padding(widths[i] - row[i].size(), ' ');
      const bool left = i == 0 || i == 1 || i == 9;  // Words to the left, figures to the right.
      text += left ? row[i] + padding : padding + row[i];
      text += i + 1 == kColumns ? "\n" : "  ";
    }
  }
  return text;
}

}  // namespace mooring::bench
