// mooring metrics: what mooringd --metrics serves, as text, with every process dead, too.
#include <fmt/format.h>

#include "inspect.hpp"
#include "metrics/collector.hpp"

namespace mooring::cli {

void add_metrics(CLI::App& app, Context& context) {
  add_command(app, context, "metrics", "print the metrics of the instance as Prometheus reads them (docs/metrics.md)",
              "mooring metrics | promtool check metrics", [&context] {
                MetricsCollector::Options options;
                options.version = MOORING_VERSION_STRING;
                const MetricsCollector collector(open_instance_files(context), options);
                if (!context.json) {
                  fmt::print("{}", collector.text());
                  return kExitOk;
                }
                for (const prometheus::MetricFamily& family : collector.Collect()) {
                  const bool is_gauge = family.type == prometheus::MetricType::Gauge;
                  for (const prometheus::ClientMetric& metric : family.metric) {
                    Json labels = Json::object();
                    for (const auto& label : metric.label) labels[label.name] = label.value;
                    print_json({{"metric", family.name},
                                {"type", is_gauge ? "gauge" : "counter"},
                                {"labels", labels},
                                {"value", is_gauge ? metric.gauge.value : metric.counter.value}});
                  }
                }
                return kExitOk;
              });
}

}  // namespace mooring::cli
