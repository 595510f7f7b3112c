// mooring tail: shows new messages as they are published, and takes none. It holds up nobody, so a publisher may lap
// it: then it says how many it missed. Reads the files alone, like peek.
#include <fmt/format.h>
#include <poll.h>
#include <stdio_ext.h>
#include <unistd.h>

#include <csignal>
#include <iostream>

#include "base/atomics.hpp"
#include "group_files.hpp"
#include "operator_commands.hpp"
#include "shown_message.hpp"
#include "terminal_text.hpp"

namespace mooring::cli {
namespace {

using Found = MessagePeek::Found;

// Nobody wakes a reader without a seat: it looks again so soon.
constexpr int kLookAgainMs = 10;

struct Tail {
  std::string queue;
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;
  bool headers = false;
};

template <class T>
T take(Result<T> result) {
  if (!result) throw Failure(static_cast<int>(result.error().code), result.error().text);
  return std::move(*result);
}

void show(const Tail& tail, const MessagePeek::Copy& copy, bool json) {
  if (json) {
    Json line = {{"queue", tail.queue}, {"seq", copy.seq}};
    add_content(line, copy);
    print_json(line);
    return;
  }
  if (tail.headers) std::cout << "seq: " << copy.seq << '\n' << header_lines(copy) << '\n';
  std::cout << payload_text(payload_of(copy), tail.bytes) << '\n';
  std::cout.flush();
}

void show_missed(const Tail& tail, std::uint64_t missed, bool json) {
  if (json) {
    print_json({{"queue", tail.queue}, {"missed", missed}});
  } else {
    std::cerr << "mooring: " << missed << " messages were overwritten before they could be shown\n";
  }
}

// Waits for a moment. False: whoever read our output has closed it.
bool wait_for_more() {
  pollfd output{STDOUT_FILENO, 0, 0};
  const int ready = ::poll(&output, 1, kLookAgainMs);
  return ready <= 0 || (output.revents & (POLLERR | POLLNVAL)) == 0;
}

int run(const Tail& tail, const Context& context) {
  catch_interrupts();
  std::signal(SIGPIPE, SIG_IGN);
  const InstanceFiles instance = open_instance_files(context);
  const QueueFiles files = open_queue_files(instance, tail.queue);
  MessagePeek peek(files, log_directory(context, files, tail.queue));
  MessagePeek::Place place = take(peek.end());
  // From here on nothing is missed without saying so: scripts may wait for this line.
  std::cerr << "mooring: following queue " << tail.queue << "; Ctrl-C ends" << std::endl;
  std::uint64_t shown = 0;
  std::uint64_t next = place.seq;  // 0: not known before the first message
  MessagePeek::Copy copy;
  while (!interrupted() && (tail.count == 0 || shown < tail.count)) {
    const Found found = take(peek.read(&place, &copy));
    if (found == Found::kMessage) {
      if (next != 0 && copy.seq > next) show_missed(tail, copy.seq - next, context.json);
      next = copy.seq + 1;
      show(tail, copy, context.json);
      ++shown;
    } else if (found == Found::kGone) {
      place = take(peek.end());  // the seq of the next message tells how many are missing
    } else if (found == Found::kEnd) {
      if (HardwareAtomics::load(files.state().life, std::memory_order_acquire) !=
          static_cast<u64>(layout::QueueLife::kOpen)) {
        throw Failure(MOORING_ERR_CLOSED,
                      fmt::format("queue {} was removed, or taken out of service; `mooring ls`", tail.queue));
      }
      if (!wait_for_more()) break;
    }
    if (!std::cout) {  // the reader of our output left: so do we, and nobody wants the rest
      ::__fpurge(stdout);
      std::cout.clear();
      break;
    }
  }
  return kExitOk;
}

}  // namespace

void add_tail(CLI::App& app, Context& context) {
  auto tail = std::make_shared<Tail>();
  CLI::App* command = add_command(app, context, "tail",
                                  "follow what is published, without taking it, until Ctrl-C; says how many messages "
                                  "it missed where it could not keep up",
                                  "mooring tail orders --headers", [tail, &context] { return run(*tail, context); });
  command->add_option("queue", tail->queue, "name")->required();
  command->add_option("--count", tail->count, "end after so many")->check(CLI::PositiveNumber);
  command->add_option("--bytes", tail->bytes, "of each payload at most so many, 0: all (--json: always all)")
      ->capture_default_str();
  command->add_flag("--headers", tail->headers,
                    "print seq and headers before each message, and an empty line between (--json: always)");
}

}  // namespace mooring::cli
