// A service around a queue: one process publishes records, any number of workers write each into a ledger. Build and run,
// with Mooring installed:
//
//   c++ -std=c++20 ledger.cpp $(pkg-config --cflags --libs mooring) -o ledger
//   export MOORING_AUTOSTART=1; mooring create records --durability durable
//   printf 'bash\t/bin/bash\nperl\t/usr/bin/perl\n' | ./ledger publish records
//   ./ledger work records default ledger.txt        # until Ctrl-C
//
// What a ledger shows is at-least-once: the line is written before the message is acknowledged, so a worker that is
// killed between the two leaves a line that another worker writes again. Counting lines that differ gives each once.
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <iostream>
#include <mooring/worker.hpp>
#include <string>
#include <system_error>

namespace {

std::uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

// Lines of standard input, "ID<TAB>text": the text is the payload, the ID its correlation id.
int publish(mooring::Instance& instance, const std::string& queue, std::uint64_t rate) {
  mooring_producer_options options;
  mooring_producer_options_init(&options, sizeof options);
  options.flags = MOORING_NO_WAIT;  // many records share a flush; the end waits for all of them
  mooring::Producer producer = instance.open_producer(queue, &options);
  const std::uint64_t began_ns = now_ns();
  std::uint64_t published = 0;
  for (std::string line; std::getline(std::cin, line); ++published) {
    if (rate != 0) {
      // Each in its own time from the start, so a slow moment is caught up, not added.
      const std::uint64_t due_ns = began_ns + published * 1'000'000'000 / rate;
      const timespec due{static_cast<time_t>(due_ns / 1'000'000'000), static_cast<long>(due_ns % 1'000'000'000)};
      if (published % 100 == 0) clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, nullptr);
    }
    const std::size_t tab = line.find('\t');
    if (tab == 0 || tab == std::string::npos) throw std::runtime_error("no ID<TAB>text: " + line);
    const std::string_view id(line.data(), tab);
    const std::string_view text = std::string_view(line).substr(tab + 1);
    const std::string time = std::to_string(now_ns());
    const mooring_header header = mooring::as_header("published-ns", time);
    mooring_publish_options headers = mooring::publish_options();
    headers.correlation_id = mooring::as_slice(id);
    headers.headers = &header;
    headers.headers_count = 1;
    // Nothing comes back only where a signal ended the wait for room.
    while (!producer.publish(text, headers).has_value()) {
    }
  }
  if (published != 0) {
    while (!producer.wait_durable()) {
    }
  }
  std::printf("published %llu records, all on the disk, in %llu ms\n", static_cast<unsigned long long>(published),
              static_cast<unsigned long long>((now_ns() - began_ns) / 1'000'000));
  return 0;
}

void tell_late(const mooring_message* message, std::uint64_t running_ns, void*) {
  std::fprintf(stderr, "record %llu has been in its handler for %llu ms\n",
               static_cast<unsigned long long>(message->seq), static_cast<unsigned long long>(running_ns / 1'000'000));
}

// One line for each record: ID, text, attempt, microseconds since it was published. `strict`: a record that is no path
// is more than this worker knows, so it fails.
int work(mooring::Instance& instance, const std::string& queue, const std::string& group, const std::string& path,
         bool strict) {
  const int ledger = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (ledger < 0) throw std::system_error(errno, std::generic_category(), path);

  mooring_worker_options options = mooring::worker_options();
  options.concurrency = 2;
  options.prefetch = 32;
  options.flags = MOORING_DRAIN_ON_SIGNALS;
  options.drain_timeout_ns = 10'000'000'000;
  options.handler_timeout_ns = 5'000'000'000;
  options.late = &tell_late;
  mooring::Worker worker(instance, queue, group, &options);
  const bool drained = worker.run([&](const mooring_message& message) {
    const std::string_view text(static_cast<const char*>(message.data), message.size);
    if (strict && !text.starts_with('/')) throw std::runtime_error("not a path: " + std::string(text));
    const std::uint64_t published_ns = std::stoull(std::string(mooring::header_of(message, "published-ns").value()));
    std::string line(mooring::as_text(mooring::headers_of(message).correlation_id));
    line.append("\t").append(text).append("\t").append(std::to_string(message.attempt)).append("\t");
    line.append(std::to_string((now_ns() - published_ns) / 1000)).append("\n");
    // One write for each line, so that the threads' lines stay whole. A full disk is a failure that may pass.
    if (::write(ledger, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
      throw std::system_error(errno, std::generic_category(), path);
    }
  });
  const mooring_worker_stats stats = worker.stats();
  std::printf("%llu records done, %llu failures, %llu given back, %llu too late\n",
              static_cast<unsigned long long>(stats.acked),
              static_cast<unsigned long long>(stats.nacked + stats.rejected),
              static_cast<unsigned long long>(stats.released), static_cast<unsigned long long>(stats.stale));
  std::fflush(stdout);
  if (!drained) ::_exit(1);  // a handler still runs: not under the feet of it
  ::close(ledger);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string verb = argc > 1 ? argv[1] : "";
  try {
    mooring::Instance instance;
    if (verb == "publish" && (argc == 3 || argc == 4)) {
      return publish(instance, argv[2], argc == 4 ? std::stoull(argv[3]) : 0);
    }
    if (verb == "work" && (argc == 5 || (argc == 6 && std::string_view(argv[5]) == "strict"))) {
      return work(instance, argv[2], argv[3], argv[4], argc == 6);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ledger %s: %s\n", verb.c_str(), error.what());
    return 1;
  }
  std::fprintf(stderr, "ledger publish QUEUE [RECORDS-A-SECOND] < records\nledger work QUEUE GROUP FILE [strict]\n");
  return 2;
}
