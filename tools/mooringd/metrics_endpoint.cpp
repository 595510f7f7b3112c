#include "metrics_endpoint.hpp"

#include <arpa/inet.h>
#include <prometheus/exposer.h>

#include <charconv>
#include <exception>

#include "metrics/collector.hpp"

namespace mooring {
namespace {

constexpr const char* kThreads = "2";  // scrapes at once; a third one waits

struct Place {
  std::string address;
  unsigned port = 0;
};

tl::unexpected<Error> refuse(const std::string& where) {
  return fail(Code::kBadArgument,
              "--metrics " + where +
                  ": an address and a port, like 127.0.0.1:9464, [::1]:9464 or 0.0.0.0:9464, a port "
                  "alone (of 127.0.0.1), or off");
}

bool is_address(const std::string& text) {
  unsigned char bytes[sizeof(in6_addr)];
  if (text.size() > 2 && text.front() == '[' && text.back() == ']') {
    return ::inet_pton(AF_INET6, text.substr(1, text.size() - 2).c_str(), bytes) == 1;
  }
  return ::inet_pton(AF_INET, text.c_str(), bytes) == 1;
}

// All of it is checked: the server's own syntax knows more than we want to offer.
Result<Place> parse_place(const std::string& where) {
  Place place;
  const std::size_t colon = where.rfind(':');
  place.address = colon == std::string::npos ? "" : where.substr(0, colon);
  if (place.address.empty() || place.address == "localhost") place.address = "127.0.0.1";
  const std::string port = colon == std::string::npos ? where : where.substr(colon + 1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), place.port);
  if (error != std::errc() || end != port.data() + port.size() || place.port > 65535 || !is_address(place.address)) {
    return refuse(where);
  }
  return place;
}

}  // namespace

struct MetricsEndpoint::Server {
  Server(const std::vector<std::string>& options, std::shared_ptr<MetricsCollector> of)
      : collector(std::move(of)), exposer(options) {
    exposer.RegisterCollectable(collector);
  }
  std::shared_ptr<MetricsCollector> collector;  // outlives the server's threads
  prometheus::Exposer exposer;
};

MetricsEndpoint::MetricsEndpoint(std::unique_ptr<Server> server, std::string url)
    : server_(std::move(server)), url_(std::move(url)) {}
MetricsEndpoint::~MetricsEndpoint() = default;

Result<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::open(const std::string& where, const std::string& path) {
  if (where.empty() || where == "off") return nullptr;
  const Result<Place> place = parse_place(where);
  if (!place) return fail(place.error());
  Result<InstanceFiles> instance = find_instance_files(path);
  if (!instance) return fail(instance.error());
  MetricsCollector::Options options;
  options.version = MOORING_VERSION_STRING;
  options.guarded = true;
  auto collector = std::make_shared<MetricsCollector>(std::move(*instance), options);
  try {
    auto server = std::make_unique<Server>(
        std::vector<std::string>{"listening_ports", place->address + ":" + std::to_string(place->port), "num_threads",
                                 kThreads},
        std::move(collector));
    const std::vector<int> ports = server->exposer.GetListeningPorts();
    const int port = ports.empty() ? static_cast<int>(place->port) : ports.front();
    return std::unique_ptr<MetricsEndpoint>(
        new MetricsEndpoint(std::move(server), "http://" + place->address + ":" + std::to_string(port) + "/metrics"));
  } catch (const std::exception&) {
    // The server does not say more.
    return fail(Code::kIo, "cannot serve metrics at " + place->address + ":" + std::to_string(place->port) +
                               ": the port is taken, or the address is not this host's; name another one with "
                               "--metrics, or 0 for any port");
  }
}

}  // namespace mooring
