// mooring publish: one message from the argument, or one a line from a file or standard input.
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <deque>
#include <fstream>
#include <iostream>

#include "command.hpp"
#include "headers.hpp"

namespace mooring::cli {
namespace {

struct Publish {
  std::string queue;
  std::string message;
  bool has_message = false;
  std::string file;
  double rate = 0;
  std::string timeout;
  std::string progress_file;
  HeaderOptions headers;
};

// How many of our messages are acknowledged, in a file that is replaced at once: after a crash, however it came, the
// number in it is at most what the queue owes us. Written each 10 ms while it grows, and at the end.
class Progress {
 public:
  explicit Progress(std::string path) : path_(std::move(path)) {}

  void published(std::uint64_t seq) { waiting_.push_back(seq); }
  // All below `durable_seq` are acknowledged.
  void acknowledged(std::uint64_t durable_seq, std::uint64_t now, bool at_once) {
    while (!waiting_.empty() && waiting_.front() < durable_seq) {
      waiting_.pop_front();
      ++count_;
    }
    if (path_.empty() || (count_ == written_ && !at_once) || (!at_once && now < next_write_ns_)) return;
    next_write_ns_ = now + 10'000'000;
    const std::string new_path = path_ + ".new";
    std::ofstream file(new_path, std::ios::trunc);
    file << count_ << "\n";
    file.close();
    if (!file || std::rename(new_path.c_str(), path_.c_str()) != 0) {
      throw Failure(MOORING_ERR_IO, fmt::format("cannot write the progress to {}: {}", path_, std::strerror(errno)));
    }
    written_ = count_;
  }
  std::uint64_t count() const { return count_; }

 private:
  std::string path_;
  std::deque<std::uint64_t> waiting_;
  std::uint64_t count_ = 0;
  std::uint64_t written_ = 0;
  std::uint64_t next_write_ns_ = 0;
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
  // On a durable queue many messages share a flush: publish without waiting, and wait at the end.
  mooring_producer_options producer_options;
  mooring_producer_options_init(&producer_options, sizeof producer_options);
  producer_options.flags = MOORING_NO_WAIT;
  Producer producer = instance.open_producer(publish.queue, &producer_options);
  const bool durable = producer.durable_seq() != 0;
  Progress progress(publish.progress_file);
  const std::uint64_t timeout_ns = publish.timeout.empty() ? MOORING_FOREVER : parse_time(publish.timeout);
  const HeaderOptions::Filled filled(publish.headers);
  const mooring_publish_options& headers = filled.options();
  std::uint64_t published = 0;
  std::uint64_t bytes = 0;
  std::uint64_t seq = 0;
  // False: stopped by a signal, or no room in time (then the failure is thrown, with the count).
  auto send = [&](const std::string& text) {
    const std::uint64_t began_ns = now_ns();
    for (;;) {
      // In slices, so that the progress is told while a full queue holds us up.
      const std::uint64_t waited_ns = now_ns() - began_ns;
      const std::uint64_t left_ns = timeout_ns > waited_ns ? timeout_ns - waited_ns : 0;
      const int code =
          producer.try_publish(text.data(), text.size(), headers, std::min<std::uint64_t>(left_ns, 100'000'000), &seq);
      if (code == MOORING_OK) break;
      if (code == MOORING_TIMEOUT && left_ns > 100'000'000 && !interrupted()) {
        progress.acknowledged(durable ? producer.durable_seq() : ~std::uint64_t{0}, now_ns(), false);
        continue;
      }
      if (code == MOORING_INTERRUPTED || (code == MOORING_TIMEOUT && interrupted())) {
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
    progress.published(seq);
    const bool look = !durable || published % 64 == 0;
    if (look) progress.acknowledged(durable ? producer.durable_seq() : seq + 1, now_ns(), false);
    return true;
  };
  // Everything that went out is acknowledged, or the failure says how much is.
  auto finish = [&] {
    progress.acknowledged(durable ? producer.durable_seq() : ~std::uint64_t{0}, now_ns(), true);
    while (durable && progress.count() < published) {
      const int code =
          mooring_wait_durable(producer.get(), MOORING_EVERYTHING, std::min<std::uint64_t>(timeout_ns, 100'000'000));
      progress.acknowledged(producer.durable_seq(), now_ns(), true);
      if (code == MOORING_OK || code == MOORING_TIMEOUT || code == MOORING_INTERRUPTED) {
        if (code != MOORING_OK && (interrupted() || !publish.timeout.empty())) break;
        continue;
      }
      throw Failure(code, fmt::format("{} published, {} of them are on the disk, then: {}", published, progress.count(),
                                      Failure::detail_of(code)));
    }
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
  finish();
  if (durable && progress.count() < published && !interrupted()) {
    throw Failure(MOORING_TIMEOUT, fmt::format("{} published, {} of them are on the disk so far: is the supervisor up, "
                                               "and the disk well?",
                                               published, progress.count()));
  }
  // Only a single message has an id, so it is the last one if any.
  std::uint64_t first_seq = seq;
  const bool asks = durable && !publish.headers.message_id.empty() && progress.count() == 1;
  const bool duplicate = asks && mooring_first_seq(producer.get(), seq, &first_seq) == MOORING_DUPLICATE;
  if (context.json) {
    Json json = {{"queue", publish.queue},
                 {"published", published},
                 {"acknowledged", progress.count()},
                 {"duplicates", duplicate ? 1 : 0},
                 {"bytes", bytes},
                 {"last_seq", published != 0 ? Json(seq) : Json()}};
    if (duplicate) json["first_seq"] = first_seq;
    print_json(json);
  } else if (duplicate) {
    fmt::print("1 published, a duplicate: message {} had this message-id first, and is on the disk\n", first_seq);
  } else if (durable) {
    fmt::print("{} published, {} of them on the disk\n", published, progress.count());
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
  command
      ->add_option("--timeout", publish->timeout, "how long to wait for room, as in 500ms or 10s (default: for ever)")
      ->check([](const std::string& text) -> std::string {
        static_cast<void>(parse_time(text));
        return "";
      });
  command->add_option("--progress-file", publish->progress_file,
                      "keep in this file how many of the messages are acknowledged (durable queues: on the disk)");
  add_header_options(*command, *message, publish->headers);
  command->preparse_callback([publish](std::size_t) { publish->has_message = false; });
  message->each([publish](const std::string&) { publish->has_message = true; });
}

}  // namespace mooring::cli
