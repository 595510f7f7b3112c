// The metrics of an instance, read from its files when somebody asks: nothing runs in between, nobody is asked, and it
// works with every process dead (`mooring metrics`). docs/metrics.md has the table of them; a test compares the two.
//
// Any thread: each look maps the files anew, read-only, shares nothing with the supervisor but the
// table of guarded mappings (platform/fault_guard.hpp), and waits for nobody.
//
// TESTED BY  metrics/metrics_test, metrics/prometheus_test
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <string>
#include <vector>

#include "inspect/queue_report.hpp"

namespace mooring {

class MetricsCollector : public prometheus::Collectable {
 public:
  struct Options {
    std::string version;   // build_info
    bool guarded = false;  // as read_queue_report()
  };
  MetricsCollector(InstanceFiles instance, Options options)
      : instance_(std::move(instance)), options_(std::move(options)) {}

  // Nothing where memory ran out: it is called out of a C library's thread, where an exception would end the process.
  std::vector<prometheus::MetricFamily> Collect() const override;
  // The same as text.
  std::string text() const;

 private:
  std::vector<prometheus::MetricFamily> collect() const;

  InstanceFiles instance_;
  Options options_;
};

}  // namespace mooring
