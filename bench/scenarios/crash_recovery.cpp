// crash-recovery: kill -9 of a consumer that holds leases, until each of its messages is received by another one, which
// already waits and sleeps. Limit: kill -9 of a process until a process that polls its pidfd knows.
//
// One round (roles: the killer, who also publishes; the survivor)
//   killer    forks the victim, a consumer of the same group
//   killer    publishes kHeld messages; the victim receives all of them and says so (HELD), and sleeps
//   survivor  calls receive (ARMED); the killer waits until the kernel says that it sleeps
//   killer    notes the time, kills, and waits for the victim's end and for the survivor's DONE
//   survivor  notes the time of each message, checks and settles it; DONE after the last
// Nobody is pinned: killer, victim, supervisor and survivor each run when the others wait.
//
// WHO WRITES WHAT (CrashBoard)   step: whoever ends a step stores the next one; killed_ticks: the killer, before the
// kill; figures: the survivor (or the watcher of the limit).
// PAIRINGS   STEP: store release | load acquire, with a futex wake and wait, because nobody may spin beside the others.
//
// IF A PROCESS STOPS   The waits for a step end at the deadline; the victim dies with the killer (PR_SET_PDEATHSIG).
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>

#include "base/atomics.hpp"
#include "bench/scenarios/batch_source.hpp"
#include "bench/scenarios/role_handles.hpp"
#include "bench/scenarios/scenario.hpp"
#include "bench/support/clock.hpp"
#include "bench/support/poll_guard.hpp"
#include "bench/support/samples.hpp"
#include "bench/support/shared_memory.hpp"

namespace mooring::bench {

namespace {

using Atomics = HardwareAtomics;

constexpr unsigned kHeld = 8;
constexpr unsigned kKills = 50;
constexpr unsigned kKillsOfAShortRun = 5;
constexpr double kShortRun_seconds = 0.1;

struct CrashBoard {
  alignas(kLineBytes) u32 step;  // 4 a round: see Step
  u32 victim_failed;             // by the victim
  u32 victim_pid;                // by the killer, for the watcher of the limit
  u64 killed_ticks;              // by the killer, before the kill
  char victim_text[256];
  alignas(kLineBytes) LatencyHistogram recovered;
  u64 messages;
  u64 redelivered;
  u64 wrong;
};

enum Step : u32 { kHolding = 1, kArmed = 2, kDone = 3, kStepsOfARound = 4 };

void set_step(CrashBoard& board, u32 step) {
  Atomics::store(board.step, step, std::memory_order_release);  // STEP
  ::syscall(SYS_futex, &board.step, FUTEX_WAKE, 8, nullptr, nullptr, 0);
}

// True once the step was reached; false at the deadline.
bool wait_for_step(const CrashBoard& board, u32 step, PollGuard& guard) {
  for (;;) {
    const u32 seen = Atomics::load(board.step, std::memory_order_acquire);  // STEP
    if (static_cast<int>(seen - step) >= 0) return true;
    const timespec longest{0, static_cast<long>(kLookAround_ns)};
    if (::syscall(SYS_futex, &board.step, FUTEX_WAIT, seen, &longest, nullptr, 0) != 0 && errno == ETIMEDOUT &&
        guard.look_now()) {
      return false;
    }
  }
}

// Until the kernel shows the process asleep (it said before that it is about to).
bool wait_until_asleep(pid_t pid, PollGuard& guard) {
  for (;;) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string line;
    std::getline(stat, line);
    const std::size_t after_name = line.rfind(')');
    if (after_name != std::string::npos && line.size() > after_name + 2 && line[after_name + 2] == 'S') return true;
    if (guard.look_now()) return false;
    ::poll(nullptr, 0, 1);
  }
}

// Kills the child that it owns, at the latest when it goes out of scope.
class Victim {
 public:
  explicit Victim(pid_t pid) : pid_(pid) {}
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;
  ~Victim() { kill_and_wait(); }
  pid_t pid() const { return pid_; }
  void kill_and_wait() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
  }

 private:
  pid_t pid_;
};

// Runs `body` in a child; it never returns from it.
template <class Body>
pid_t fork_victim(CrashBoard& board, Body&& body) {
  const pid_t killer = ::getpid();
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != killer) ::_exit(2);
  try {
    body();
  } catch (const std::exception& problem) {
    std::snprintf(board.victim_text, sizeof board.victim_text, "%s", problem.what());
    Atomics::store(board.victim_failed, u32{1}, std::memory_order_release);
  }
  for (;;) ::pause();
}

void hold_messages(CrashBoard& board, const PrivateInstance& instance, const std::string& queue, u32 first_step) {
  Instance connection = instance.connect();
  Consumer consumer = open_bench_consumer(connection, queue, "default", MOORING_WAIT_SLEEP);
  std::array<mooring_message, kHeld> messages;
  std::size_t held = 0;
  while (held < kHeld) {
    std::size_t got = 0;
    if (done(mooring_receive_batch(consumer.get(), messages.data() + held, kHeld - held, kLookAround_ns, &got))) {
      held += got;
    }
  }
  set_step(board, first_step + kHolding);
  for (;;) ::pause();
}

Status kill_consumers(RoleContext& role, CrashBoard& board, const PrivateInstance& instance, const std::string& queue,
                      unsigned kills, u64 size_bytes) {
  Instance connection = instance.connect();
  Producer producer = open_bench_producer(connection, queue, MOORING_WAIT_ADAPTIVE);
  BatchSource source(0, size_bytes, kHeld);
  PollGuard guard(role);
  if (Status started = role.wait_for_start(); !started) return started;
  const auto late = [&](const char* what) {
    const std::string text = Atomics::load(board.victim_failed, std::memory_order_acquire) != 0
                                 ? std::string(" (victim: ") + board.victim_text + ")"
                                 : "";
    return fail(Code::kTimeout, what + text);
  };
  for (unsigned round = 0; round < kills; ++round) {
    const u32 step = round * kStepsOfARound;
    std::span<const mooring_slice> slices = source.messages(u64{round} * kHeld, kHeld);
    while (!slices.empty()) {
      std::size_t published = 0;
      const bool all =
          done(mooring_publish_batch(producer.get(), slices.data(), slices.size(), kLookAround_ns, &published));
      slices = slices.subspan(published);
      if (!all && guard.look_now()) return late("no room in a queue that is never full");
    }
    Victim victim(fork_victim(board, [&] { hold_messages(board, instance, queue, step); }));
    if (victim.pid() < 0) return fail_errno(errno, "cannot fork the consumer that is to be killed");
    if (!wait_for_step(board, step + kArmed, guard)) return late("the victim or the survivor did not get ready");
    if (!wait_until_asleep(role.pid_of(1), guard)) return late("the survivor did not fall asleep");
    board.killed_ticks = ticks_now();
    victim.kill_and_wait();
    if (!wait_for_step(board, step + kDone, guard)) return late("the messages of a killed consumer did not come back");
  }
  return {};
}

Status survive(RoleContext& role, CrashBoard& board, const PrivateInstance& instance, const std::string& queue,
               unsigned kills, u64 size_bytes) {
  Instance connection = instance.connect();
  Consumer consumer = open_bench_consumer(connection, queue, "default", MOORING_WAIT_SLEEP);
  board.recovered = LatencyHistogram{};  // Touches its pages.
  PollGuard guard(role);
  if (Status started = role.wait_for_start(); !started) return started;
  for (unsigned round = 0; round < kills; ++round) {
    const u32 step = round * kStepsOfARound;
    if (!wait_for_step(board, step + kHolding, guard)) return fail(Code::kTimeout, "no victim holds messages");
    set_step(board, step + kArmed);
    for (unsigned i = 0; i < kHeld;) {
      mooring_message message;
      if (!done(mooring_receive(consumer.get(), &message, kLookAround_ns))) {
        if (guard.look_now()) return fail(Code::kTimeout, "the messages of a killed consumer did not come back");
        continue;
      }
      board.recovered.record(ticks_now() - board.killed_ticks);
      if ((message.flags & MOORING_REDELIVERED) != 0) ++board.redelivered;
      const u64 stamp = u64{round} * kHeld + i;  // Leases are taken in order, and given back so.
      if (message.size != size_bytes || !content_is(message.data, message.size, stamp)) ++board.wrong;
      if (!done(mooring_ack(consumer.get(), &message))) ++board.wrong;
      ++board.messages;
      ++i;
    }
    set_step(board, step + kDone);
  }
  return {};
}

// ---- the limit: who polls the pidfd knows ---------------------------------------------------------------------------

Status kill_bare_processes(RoleContext& role, CrashBoard& board, unsigned kills) {
  PollGuard guard(role);
  if (Status started = role.wait_for_start(); !started) return started;
  for (unsigned round = 0; round < kills; ++round) {
    const u32 step = round * kStepsOfARound;
    Victim victim(fork_victim(board, [] {}));
    if (victim.pid() < 0) return fail_errno(errno, "cannot fork the process that is to be killed");
    board.victim_pid = static_cast<u32>(victim.pid());
    set_step(board, step + kHolding);
    if (!wait_for_step(board, step + kArmed, guard) || !wait_until_asleep(role.pid_of(1), guard) ||
        !wait_until_asleep(victim.pid(), guard)) {
      return fail(Code::kTimeout, "the watcher did not get ready");
    }
    board.killed_ticks = ticks_now();
    victim.kill_and_wait();
    if (!wait_for_step(board, step + kDone, guard)) return fail(Code::kTimeout, "the watcher did not see the death");
  }
  return {};
}

Status watch_bare_processes(RoleContext& role, CrashBoard& board, unsigned kills) {
  board.recovered = LatencyHistogram{};
  PollGuard guard(role);
  if (Status started = role.wait_for_start(); !started) return started;
  for (unsigned round = 0; round < kills; ++round) {
    const u32 step = round * kStepsOfARound;
    if (!wait_for_step(board, step + kHolding, guard)) return fail(Code::kTimeout, "there is no process to watch");
    pollfd watched{static_cast<int>(::syscall(SYS_pidfd_open, board.victim_pid, 0)), POLLIN, 0};
    if (watched.fd < 0) return fail_errno(errno, "cannot open a pidfd; Linux 5.3 or newer is needed");
    set_step(board, step + kArmed);
    int ready = 0;
    while ((ready = ::poll(&watched, 1, 20)) <= 0) {
      if (guard.look_now()) break;
    }
    board.recovered.record(ticks_now() - board.killed_ticks);
    ::close(watched.fd);
    if (ready <= 0) return fail(Code::kTimeout, "a killed process did not end");
    ++board.messages;
    set_step(board, step + kDone);
  }
  return {};
}

Result<Measurement> run_crashes(const std::string& name, CrashBoard& board, const Role& killer, const Role& survivor,
                                const ScenarioOptions& options) {
  const std::array<Role, 2> roles{killer, survivor};
  const auto outcome = run_roles(roles, {seconds_to_watchdog_ns(options.seconds) + 20 * kNsPerSecond,
                                         options.nice_value});
  if (!outcome) return fail(outcome.error());
  Measurement result;
  result.name = name;
  result.messages = board.messages;
  result.latency = board.recovered.summary();
  return result;
}

}  // namespace

Result<std::vector<ScenarioLine>> run_crash_recovery(const Scenario& scenario, const ScenarioOptions& options,
                                                     PrivateInstance& instance) {
  if (options.size_bytes < kStampBytes) {
    return fail(Code::kBadArgument, std::string(scenario.name) + " needs messages of at least " +
                                        std::to_string(kStampBytes) + " bytes: each carries a stamp that is checked");
  }
  const unsigned kills = options.seconds < kShortRun_seconds ? kKillsOfAShortRun : kKills;
  u64 redelivered = 0;
  const auto recover = [&]() -> Result<Measurement> {
    BenchQueue queue(instance, bench_queue_options(MOORING_KIND_MPMC, options.size_bytes));
    auto board = Shared<CrashBoard>::create();
    if (!board) return fail(board.error());
    auto result = run_crashes(
        scenario.name, **board,
        {"killer",
         [&](RoleContext& role) {
           return kill_consumers(role, **board, instance, queue.name(), kills, options.size_bytes);
         }},
        {"survivor",
         [&](RoleContext& role) { return survive(role, **board, instance, queue.name(), kills, options.size_bytes); }},
        options);
    if (!result) return result;
    if ((*board)->wrong != 0 || (*board)->messages != u64{kills} * kHeld) {
      return fail(Code::kCorrupt, std::string(scenario.name) + ": " + std::to_string((*board)->messages) + " of " +
                                      std::to_string(kills * kHeld) + " messages came back, " +
                                      std::to_string((*board)->wrong) + " wrong or out of order");
    }
    redelivered += (*board)->redelivered;
    result->size_bytes = options.size_bytes;
    result->consumers = 2;
    return result;
  };
  const auto notify = [&]() -> Result<Measurement> {
    auto board = Shared<CrashBoard>::create();
    if (!board) return fail(board.error());
    return run_crashes(
        "pidfd_notification", **board,
        {"killer", [&](RoleContext& role) { return kill_bare_processes(role, **board, kills); }},
        {"watcher", [&](RoleContext& role) { return watch_bare_processes(role, **board, kills); }}, options);
  };
  KindRun kind{"competing", recover, [&](nlohmann::ordered_json& extra) {
                 extra["kills"] = kills * options.repetitions;
                 extra["messages_held"] = kHeld;
                 extra["redelivered"] = redelivered;
               }};
  return compare(scenario, options, {"pidfd_notification", notify}, {kind});
}

}  // namespace mooring::bench
