// mooring publish: one message from the argument, or one a line from a file or standard input.
#include <fmt/format.h>
#include <time.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>

#include "command.hpp"

namespace mooring::cli {
namespace {

struct Publish {
  std::string queue;
  std::string message;
  bool has_message = false;
  std::string file;
  double rate = 0;
  double timeout_seconds = -1;
};

std::uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

// Sleeps until `due_ns`, CLOCK_MONOTONIC; ends early on a signal.
void sleep_until(std::uint64_t due_ns) {
  timespec due{static_cast<time_t>(due_ns / 1'000'000'000), static_cast<long>(due_ns % 1'000'000'000)};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, nullptr);
}

int run(const Publish& publish, const Context& context) {
  catch_interrupts();
  Instance instance = connect(context);
  Producer producer = instance.open_producer(publish.queue);
  const std::uint64_t timeout_ns =
      publish.timeout_seconds < 0 ? MOORING_FOREVER : static_cast<std::uint64_t>(publish.timeout_seconds * 1e9);
  std::uint64_t published = 0;
  std::uint64_t bytes = 0;
  std::uint64_t seq = 0;
  // False: stopped by a signal, or no room in time (then the failure is thrown, with the count).
  auto send = [&](const std::string& text) {
    for (;;) {
      const int code = producer.try_publish(text.data(), text.size(), timeout_ns, &seq);
      if (code == MOORING_OK) break;
      if (code == MOORING_INTERRUPTED) {
        if (interrupted()) return false;
        continue;
      }
      throw Failure(code, fmt::format("{} published, then: {}", published,
                                      code == MOORING_FULL || code == MOORING_TIMEOUT
                                          ? fmt::format("queue {} has no room: its consumers are behind", publish.queue)
                                          : Failure::detail_of(code)));
    }
    ++published;
    bytes += text.size();
    return true;
  };
  if (publish.has_message) {
    send(publish.message);
  } else {
    std::ifstream file;
    std::istream* input = &std::cin;
    if (!publish.file.empty() && publish.file != "-") {
      file.open(publish.file, std::ios::binary);
      if (!file) {
        throw Failure(MOORING_ERR_BAD_ARGUMENT, fmt::format("cannot read {}: {}", publish.file, std::strerror(errno)));
      }
      input = &file;
    }
    std::ios::sync_with_stdio(false);
    const std::uint64_t began_ns = now_ns();
    std::string line;
    while (!interrupted() && std::getline(*input, line)) {
      // Message n is due at its own time from the start, so a slow moment is caught up, not added.
      if (publish.rate > 0) {
        sleep_until(began_ns + static_cast<std::uint64_t>(static_cast<double>(published) * 1e9 / publish.rate));
      }
      if (!send(line)) break;
    }
    if (input->bad()) throw Failure(MOORING_ERR_IO, fmt::format("reading failed after {} lines", published));
  }
  if (context.json) {
    print_json({{"queue", publish.queue},
                {"published", published},
                {"bytes", bytes},
                {"last_seq", published != 0 ? Json(seq) : Json()}});
  } else {
    fmt::print("{} published\n", published);
  }
  return interrupted() ? 130 : kExitOk;
}

}  // namespace

void add_publish(CLI::App& app, Context& context) {
  auto publish = std::make_shared<Publish>();
  CLI::App* command = add_command(
      app, context, "publish", "publish a message, or each line of a file or of standard input",
      "mooring publish orders --file orders.txt --rate 1000", [publish, &context] { return run(*publish, context); });
  command->add_option("queue", publish->queue, "name")->required();
  CLI::Option* message =
      command->add_option("message", publish->message, "the message; without: lines of standard input");
  command->add_option("--file", publish->file, "publish each line of this file; - is standard input")
      ->excludes(message);
  command->add_option("--rate", publish->rate, "messages per second")->check(CLI::PositiveNumber);
  command->add_option("--timeout", publish->timeout_seconds, "seconds to wait for room (default: for ever)")
      ->check(CLI::NonNegativeNumber);
  command->preparse_callback([publish](std::size_t) { publish->has_message = false; });
  message->each([publish](const std::string&) { publish->has_message = true; });
}

}  // namespace mooring::cli
