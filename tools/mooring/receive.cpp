// mooring receive: print messages, or run a command for each; settle them as asked.
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>

#include <cerrno>
#include <cstring>
#include <iostream>

#include "command.hpp"
#include "delivery/policy.hpp"
#include "headers.hpp"

extern char** environ;

namespace mooring::cli {
namespace {

constexpr std::uint64_t kSliceNs = 100'000'000;

struct Receive {
  std::string queue;
  std::string group = "default";
  std::uint64_t count = 0;
  bool follow = false;
  bool ack = false;
  bool nack = false;
  bool reject = false;
  std::uint32_t code = 0;
  std::string reason;
  std::string delay;
  std::string exec;
  std::string timeout;
  bool headers = false;
};

// Runs `command` with the message on standard input and its headers in the environment; true if it ended with status 0.
bool run_command(const std::string& command, const mooring_message& message) {
  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0) {
    throw Failure(MOORING_ERR_NO_MEMORY, fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipe_fds[0], STDIN_FILENO);
  std::vector<std::string> ours = environment_of(message);
  std::vector<char*> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!is_message_variable(*entry)) environment.push_back(*entry);
  }
  for (std::string& entry : ours) environment.push_back(entry.data());
  environment.push_back(nullptr);
  const char* argv[] = {"/bin/sh", "-c", command.c_str(), nullptr};
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, "/bin/sh", &actions, nullptr, const_cast<char**>(argv), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  ::close(pipe_fds[0]);
  if (error != 0) {
    ::close(pipe_fds[1]);
    throw Failure(MOORING_ERR_NO_MEMORY, fmt::format("cannot run /bin/sh: {}", std::strerror(error)));
  }
  // A command that does not read its input gets a broken pipe here, which is its own affair (SIGPIPE is ignored).
  const char* bytes = static_cast<const char*>(message.data);
  for (std::size_t written = 0; written < message.size;) {
    const ssize_t wrote = ::write(pipe_fds[1], bytes + written, message.size - written);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) break;
    written += static_cast<std::size_t>(wrote);
  }
  ::close(pipe_fds[1]);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void print_message(const mooring_message& message, bool headers, const Context& context) {
  const std::string_view text(static_cast<const char*>(message.data), message.size);
  if (context.json) {
    Json json{{"seq", message.seq},
              {"attempt", message.attempt},
              {"redelivered", (message.flags & MOORING_REDELIVERED) != 0},
              {"size", message.size},
              {"data", std::string(text)}};
    if (message.headers_size != 0) json["headers"] = headers_to_json(message);
    print_json(json);
  } else {
    if (headers) std::cout << headers_to_text(message) << '\n';
    std::cout << text << '\n';
  }
}

int run(const Receive& receive, const Context& context) {
  catch_interrupts();
  std::signal(SIGPIPE, SIG_IGN);
  Instance instance = connect(context);
  Consumer consumer = instance.open_consumer(receive.queue, receive.group);
  // Without a wish: what is there. --follow and --count wait for more.
  std::uint64_t timeout_ns = receive.follow || receive.count != 0 ? MOORING_FOREVER : 0;
  if (!receive.timeout.empty()) timeout_ns = parse_time(receive.timeout);
  const std::uint64_t delay_ns = receive.delay.empty() ? MOORING_BY_POLICY : parse_time(receive.delay);
  const bool gives_back = receive.nack || receive.reject;
  std::uint64_t received = 0;
  std::uint64_t acknowledged = 0;
  std::uint64_t waited_ns = 0;  // since the last message
  while (!interrupted()) {
    if (receive.count != 0 && (gives_back ? received : acknowledged) >= receive.count) break;
    mooring_message message{};
    // In slices: a signal that comes between the look above and the sleep would wake nobody.
    const std::uint64_t slice_ns = std::min(timeout_ns - waited_ns, kSliceNs);
    const int code = consumer.try_receive(&message, slice_ns);
    if (code == MOORING_INTERRUPTED) continue;
    if (code == MOORING_EMPTY || code == MOORING_PAUSED) {
      waited_ns += slice_ns;
      if (waited_ns >= timeout_ns) break;
      continue;
    }
    waited_ns = 0;
    if (code != MOORING_OK) throw Failure(code, Failure::detail_of(code));
    ++received;
    bool ack = !receive.nack && !receive.reject;
    if (!receive.exec.empty()) {
      ack = run_command(receive.exec, message);
    } else {
      print_message(message, receive.headers, context);
      std::cout.flush();
      if (!std::cout) {
        // Nobody saw it: it goes back, uncounted.
        consumer.release(message);
        throw Failure(MOORING_ERR_IO, "cannot write to standard output; the message was given back");
      }
    }
    if (ack) {
      if (consumer.ack(message)) ++acknowledged;
    } else {
      const char* text = receive.reason.empty() ? nullptr : receive.reason.c_str();
      if (receive.reject) {
        consumer.reject(message, receive.code, text);
      } else {
        consumer.nack(message, delay_ns, receive.code, text);
      }
    }
  }
  if (received == 0 && !interrupted() && !receive.follow) return kExitNothing;
  return interrupted() ? 130 : kExitOk;
}

}  // namespace

void add_receive(CLI::App& app, Context& context) {
  auto receive = std::make_shared<Receive>();
  CLI::App* command = add_command(app, context, "receive", "receive messages, print each on a line, and acknowledge it",
                                  "mooring receive orders --group billing --count 10 --exec './bill.sh'",
                                  [receive, &context] { return run(*receive, context); });
  command->add_option("queue", receive->queue, "name")->required();
  command->add_option("--group", receive->group, "group to receive in")->capture_default_str();
  command->add_option("--count", receive->count, "end after this many acknowledged (with --nack, --reject: received)")
      ->check(CLI::PositiveNumber);
  command->add_flag("--follow", receive->follow, "wait for more, until interrupted");
  CLI::Option* ack = command->add_flag("--ack", receive->ack, "acknowledge what was printed (the default)");
  CLI::Option* nack = command->add_flag("--nack", receive->nack, "give each back as failed")->excludes(ack);
  CLI::Option* reject =
      command->add_flag("--reject", receive->reject, "make each a dead letter")->excludes(ack)->excludes(nack);
  command->add_option("--delay", receive->delay,
                      "with --nack or --exec: this delay before it comes again, not the group's");
  command->add_option("--code", receive->code, "a number for the history of what is given back");
  command->add_option("--reason", receive->reason, "a text for the history of what is given back");
  command
      ->add_option("--exec", receive->exec,
                   "run this shell command for each message, on its standard input: exit "
                   "status 0 acknowledges, any other gives it back as failed; its environment has MOORING_SEQ, "
                   "MOORING_ATTEMPT and the headers: MOORING_CORRELATION_ID, ... (docs/operating.md)")
      ->excludes(ack)
      ->excludes(nack)
      ->excludes(reject);
  command->add_flag("--headers", receive->headers,
                    "print seq, attempt and headers before each message, and an empty line between (--json: always)");
  command->add_option("--timeout", receive->timeout, "end after this long without a message, as in 500ms or 10s")
      ->check(time_above_zero);
}

}  // namespace mooring::cli
