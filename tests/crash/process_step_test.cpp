// Attaching and detaching, killed at its system calls: a client opens an instance, a producer and a consumer, uses
// and closes them; it is killed before and after system calls it makes: the first and the last of each kind, and a
// sample of the others (MOORING_STEP_SEED changes it, MOORING_STEP_ALL=1 takes them all). Afterwards a new client finds
// its one lane and its one seat free, and the message where it should be. (Shared memory is changed by attach only in
// between: the order of its stores is what crash/step_test and supervisor/supervisor_test look at.)
#include <sys/ptrace.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mooring/mooring.hpp>
#include <optional>
#include <random>
#include <set>

#include "support/service.hpp"

namespace mooring {
namespace {

using test::Service;

constexpr std::uint64_t kPatienceNs = 30'000'000'000;
constexpr std::size_t kStopsMost = 150;

std::uint64_t monotonic_ns() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
}

void attach_and_detach(const std::string& path) {
  Instance instance(path);
  Producer producer = instance.open_producer("step");
  Consumer consumer = instance.open_consumer("step");
  producer.publish("mine");
  if (const auto message = consumer.receive(0)) consumer.ack(*message);
}

pid_t start_traced(const std::string& path) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(99);
    ::raise(SIGSTOP);
    try {
      attach_and_detach(path);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "the client: %s\n", error.what());
      ::_exit(1);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFSTOPPED(status)) return -1;
  ::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD);
  return child;
}

// On to the next stop: a system call has two, entry and exit. False: it ended; `status` says how.
bool go_on(pid_t child, int* status) {
  ::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
  return ::waitpid(child, status, 0) == child && WIFSTOPPED(*status);
}

// The stops of one whole life: the number of the system call, doubled, and one more where it is its exit.
std::vector<std::uint64_t> stops_of_a_life(const std::string& path) {
  std::vector<std::uint64_t> stops;
  const pid_t child = start_traced(path);
  int status = 0;
  std::uint64_t call = 0;
  while (child > 0 && go_on(child, &status)) {
    __ptrace_syscall_info info{};
    if (::ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) < 0) break;
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY) call = 2 * info.entry.nr;
    stops.push_back(call + (info.op == PTRACE_SYSCALL_INFO_EXIT ? 1 : 0));
  }
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  return stops;
}

// Runs it to its stop `stops` and kills it there; or to its end, if that comes first: a life may have a stop less.
void kill_at(std::size_t stops, const std::string& path) {
  const pid_t child = start_traced(path);
  ASSERT_GT(child, 0);
  int status = 0;
  for (std::size_t stop = 0; stop < stops; ++stop) {
    if (go_on(child, &status)) continue;
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    return;
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
}

// The first and the last stop of each kind, and as many others as make `most`.
std::vector<std::size_t> choose(const std::vector<std::uint64_t>& stops, std::size_t most, std::mt19937_64* random) {
  std::set<std::size_t> chosen;
  std::map<std::uint64_t, std::size_t> last;
  std::vector<std::size_t> others;
  for (std::size_t at = 0; at < stops.size(); ++at) {
    if (!last.contains(stops[at])) chosen.insert(at + 1);
    last[stops[at]] = at;
    others.push_back(at + 1);
  }
  for (const auto& [kind, at] : last) chosen.insert(at + 1);
  std::shuffle(others.begin(), others.end(), *random);
  for (const std::size_t at : others) {
    if (chosen.size() < most) chosen.insert(at);
  }
  return {chosen.begin(), chosen.end()};
}

template <class Open>
auto open_when_free(Open&& open) -> std::optional<decltype(open())> {
  std::optional<decltype(open())> handle;
  for (const std::uint64_t until = monotonic_ns() + kPatienceNs; !handle && monotonic_ns() < until;) {
    try {
      handle.emplace(open());
    } catch (const Failure& failure) {
      if (failure.code() != MOORING_ERR_NO_SEAT) throw;
      ::sched_yield();  // its death is on its way to the supervisor
    }
  }
  return handle;
}

TEST(ProcessStep, KilledAtSystemCallsOfAttachAndDetachNothingLeaks) {
  const char* given = std::getenv("MOORING_STEP_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : 1;
  std::mt19937_64 random(seed);
  Service service;
  service.start();
  Instance instance(service.path());
  for (const std::uint32_t kind : {MOORING_KIND_SPSC, MOORING_KIND_MPMC}) {
    mooring_queue_options options;
    mooring_queue_options_init(&options, sizeof options);
    options.kind = kind;
    options.capacity = 4096;
    options.producers_max = 1;
    options.consumers_max = 1;
    instance.create_queue("step", options);
    const std::vector<std::uint64_t> stops = stops_of_a_life(service.path());
    EXPECT_GT(stops.size(), 100U);
    const std::size_t most = std::getenv("MOORING_STEP_ALL") != nullptr ? stops.size() : kStopsMost;
    const std::vector<std::size_t> chosen = choose(stops, most, &random);
    std::printf("%zu of %zu stops, seed %lu\n", chosen.size(), stops.size(), static_cast<unsigned long>(seed));
    for (const std::size_t stop : chosen) {
      SCOPED_TRACE("stop " + std::to_string(stop) + " of " + std::to_string(stops.size()) + ", system call " +
                   std::to_string(stops[stop - 1] / 2) + ", seed " + std::to_string(seed));
      kill_at(stop, service.path());
      auto producer = open_when_free([&] { return instance.open_producer("step"); });
      auto consumer = open_when_free([&] { return instance.open_consumer("step"); });
      ASSERT_TRUE(producer && consumer);
      ASSERT_TRUE(producer->publish("ours", kPatienceNs).has_value());
      for (;;) {
        const auto message = consumer->receive(kPatienceNs);
        ASSERT_TRUE(message.has_value());
        const std::string text(static_cast<const char*>(message->data), message->size);
        ASSERT_TRUE(consumer->ack(*message));
        if (text == "ours") break;
        ASSERT_EQ(text, "mine");
      }
      ASSERT_FALSE(consumer->receive(0).has_value());
    }
    instance.remove_queue("step");
  }
}

}  // namespace
}  // namespace mooring
