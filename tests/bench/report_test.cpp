// The JSON line has exactly the promised keys in their order, null where a figure does not apply, and never anything
// that is not JSON (infinite, not a number, bytes that are not UTF-8).
#include "bench/support/report.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

namespace mooring::bench {
namespace {

std::vector<std::string> keys_of(const nlohmann::ordered_json& json) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : json.items()) keys.push_back(key);
  return keys;
}

TEST(Report, KeysAreThoseOfTheContractInOrder) {
  const auto json = nlohmann::ordered_json::parse(json_line({}));
  EXPECT_EQ(keys_of(json),
            (std::vector<std::string>{"scenario", "kind", "size_bytes", "producers", "consumers", "p50_ns", "p99_ns",
                                      "p999_ns", "messages_per_second", "bytes_per_second", "limit", "ratio_to_limit",
                                      "machine", "version"}));
  EXPECT_EQ(keys_of(json["machine"]),
            (std::vector<std::string>{"cpu", "cores", "kernel", "compiler", "pinned", "governor", "clocksource"}));
  for (const char* key : {"kind", "p50_ns", "messages_per_second", "limit", "ratio_to_limit"}) {
    EXPECT_TRUE(json[key].is_null()) << key;
  }
}

TEST(Report, LatencyLineHasALatencyLimit) {
  Measurement measured;
  measured.name = "pingpong-spsc";
  measured.size_bytes = 64;
  measured.latency = Percentiles{10, 1, 100.26, 200, 300, 400};
  Measurement limit;
  limit.name = "ring_exchange_one_line";
  limit.latency = Percentiles{10, 1, 90, 91, 92, 93};
  ReportLine line = report_line(measured, "spsc", read_machine_facts());
  line.limit = reported_limit(limit);
  line.ratio_to_limit = 1.11149;
  const auto json = to_json(line);
  EXPECT_EQ(json["scenario"], "pingpong-spsc");
  EXPECT_EQ(json["kind"], "spsc");
  EXPECT_EQ(json["p50_ns"], 100.3);
  EXPECT_TRUE(json["messages_per_second"].is_null());
  EXPECT_EQ(keys_of(json["limit"]), (std::vector<std::string>{"name", "p50_ns", "p99_ns"}));
  EXPECT_EQ(json["limit"]["p50_ns"], 90);
  EXPECT_EQ(json["limit"]["p99_ns"], 91);
  EXPECT_EQ(json["ratio_to_limit"], 1.111);
  EXPECT_GE(json["machine"]["cores"], 1);
  EXPECT_TRUE(json["machine"]["kernel"].is_string());
}

TEST(Report, ThroughputLineHasARateLimit) {
  Measurement measured;
  measured.messages_per_second = 1234567.8;
  Measurement limit;
  limit.name = "stream_in_place_16";
  limit.messages_per_second = 2e6;
  ReportLine line = report_line(measured, "mpmc", {});
  line.limit = reported_limit(limit);
  const auto json = to_json(line);
  EXPECT_TRUE(json["p50_ns"].is_null());
  EXPECT_EQ(json["messages_per_second"], 1234568);
  EXPECT_EQ(keys_of(json["limit"]), (std::vector<std::string>{"name", "per_second"}));
  EXPECT_EQ(json["limit"]["per_second"], 2000000);
}

TEST(Report, OddInputIsStillJson) {
  ReportLine line;
  line.machine.cpu = "\xff\xfe";
  line.ratio_to_limit = std::numeric_limits<double>::quiet_NaN();
  line.messages_per_second = std::numeric_limits<double>::infinity();
  const auto json = nlohmann::json::parse(json_line(line));
  EXPECT_TRUE(json["ratio_to_limit"].is_null());
  EXPECT_TRUE(json["messages_per_second"].is_null());
}

TEST(Report, TableColumnsAreAligned) {
  Measurement one;
  one.name = "a";
  one.latency = Percentiles{1, 1, 1, 1, 123456, 123456};
  Measurement other;
  other.name = "a_much_longer_name";
  other.messages_per_second = 12e6;
  other.bytes_per_second = 1e9;
  const std::vector<ReportLine> lines{report_line(one, "", {}), report_line(other, "spsc", {})};
  const std::string text = table(lines);
  const std::size_t width = text.find('\n') + 1;
  ASSERT_EQ(text.size(), 3 * width);
  for (std::size_t row = 0; row < 3; ++row) EXPECT_EQ(text[(row + 1) * width - 1], '\n');
}

}  // namespace
}  // namespace mooring::bench
