// mooringd --metrics: the metrics of its instance over HTTP, for Prometheus.
//
// The threads are the HTTP server's own and read the files as any other process would (metrics/collector.hpp): the
// supervisor's loop neither waits for a scrape nor knows of it, and one that hangs or never ends harms nobody.
#pragma once

#include <memory>
#include <string>

#include "base/error.hpp"

namespace mooring {

class MetricsEndpoint {
 public:
  // `where`: "ADDRESS:PORT", "[ADDRESS]:PORT", ":PORT" or "PORT" (of 127.0.0.1); port 0: one that is free. "off" or "":
  // a null pointer. `path`: the instance, which is served. kBadArgument; kIo: nobody can listen there.
  static Result<std::unique_ptr<MetricsEndpoint>> open(const std::string& where, const std::string& path);
  ~MetricsEndpoint();

  const std::string& url() const { return url_; }

 private:
  struct Server;
  MetricsEndpoint(std::unique_ptr<Server> server, std::string url);
  std::unique_ptr<Server> server_;
  std::string url_;
};

}  // namespace mooring
