// An instance, a shell in which `mooring` is ours, HTTP, and metrics as text taken apart.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>

#include <map>
#include <set>
#include <sstream>

#include "support/service.hpp"

namespace mooring::test {

struct Ran {
  int exit_code = -1;
  std::string out;
};

// A shell line in the service's directory.
inline Ran run_line(const Service& service, const std::string& line) {
  Ran ran;
  const std::string whole = "PATH=" MOORING_BIN_DIR ":$PATH; cd " + service.root() + "; " + line;
  std::FILE* pipe = ::popen(whole.c_str(), "r");
  if (pipe == nullptr) return ran;
  char buffer[4096];
  for (std::size_t got = 0; (got = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) ran.out.append(buffer, got);
  const int status = ::pclose(pipe);
  ran.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ran;
}

inline bool is_installed(const std::string& program) {
  return std::system(("command -v " + program + " >/dev/null 2>&1").c_str()) == 0;
}

// "http://127.0.0.1:9464/metrics": body of the answer; "" if there is none, or it is not 200.
inline std::string http_get(const std::string& url) {
  const std::size_t host = url.find("//") + 2;
  const std::size_t colon = url.find(':', host);
  const std::size_t slash = url.find('/', host);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(url.substr(colon + 1, slash - colon - 1))));
  ::inet_pton(AF_INET, url.substr(host, colon - host).c_str(), &address.sin_addr);
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  std::string answer;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    const std::string ask = "GET " + url.substr(slash) + " HTTP/1.0\r\nHost: localhost\r\n\r\n";
    if (::write(fd, ask.data(), ask.size()) == static_cast<ssize_t>(ask.size())) {
      char buffer[4096];
      for (ssize_t got = 0; (got = ::read(fd, buffer, sizeof buffer)) > 0;) {
        answer.append(buffer, static_cast<std::size_t>(got));
      }
    }
  }
  ::close(fd);
  const std::size_t body = answer.find("\r\n\r\n");
  if (answer.compare(0, 5, "HTTP/") != 0 || answer.substr(0, 16).find(" 200") == std::string::npos) return {};
  return body == std::string::npos ? std::string() : answer.substr(body + 4);
}

// Asks until `done` says so. No sleep: each round is a scrape or a command of its own.
template <class Ask, class Done>
auto ask_until(const Ask& ask, const Done& done) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(kWatchdogMs);
  auto answer = ask();
  while (!done(answer) && std::chrono::steady_clock::now() < until) {
    ::sched_yield();
    answer = ask();
  }
  return answer;
}

// The exposition format, as far as we use it.
struct Exposition {
  explicit Exposition(const std::string& text) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string first;
      words >> first;
      if (first == "#") {
        std::string kind;
        std::string name;
        words >> kind >> name;
        if (kind == "TYPE") words >> types[name];
        continue;
      }
      const std::size_t space = line.rfind(' ');
      if (space == std::string::npos) continue;
      values[line.substr(0, space)] = std::stod(line.substr(space + 1));
      const std::string name = line.substr(0, line.find_first_of(" {"));
      std::set<std::string>& of = labels[name];
      for (std::size_t at = line.find('{'); at != std::string::npos && line[at] != '}' && at < space;) {
        const std::size_t equals = line.find('=', at);
        of.insert(line.substr(at + 1, equals - at - 1));
        at = line.find_first_of(",}", line.find('"', equals + 2));
      }
    }
  }
  // -1: it is not there.
  double value(const std::string& series) const {
    const auto found = values.find(series);
    return found == values.end() ? -1 : found->second;
  }
  std::map<std::string, std::string> types;
  std::map<std::string, double> values;  // by `name{label="value",...}`
  std::map<std::string, std::set<std::string>> labels;
};

}  // namespace mooring::test
