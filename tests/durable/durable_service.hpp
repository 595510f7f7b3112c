// A private mooringd with durable queues, its journals in a place of the test's choice, and the ways it may end:
// killed, stopped in good order, and a reboot (killed, and the shared memory gone with everything else in memory).
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <mooring/mooring.hpp>
#include <string>
#include <vector>

#include "base/time.hpp"
#include "support/service.hpp"

namespace mooring::test {

inline constexpr std::uint64_t kPatienceNs = 60'000'000'000;

class DurableService : public Service {
 public:
  // `data`: where the journals go; empty: beside the instance (in memory: quick, and enough where only processes die).
  explicit DurableService(const std::string& data = {}) : data_(data.empty() ? root() + "/data" : data) {
    ::setenv("MOORING_DATA", data_.c_str(), 1);
  }
  ~DurableService() { ::unsetenv("MOORING_DATA"); }

  const std::string& data() const { return data_; }
  // Close every handle first: no process survives a reboot.
  void lose_memory() const {
    for (const auto& entry : std::filesystem::directory_iterator(root() + "/shm")) {
      std::filesystem::remove_all(entry.path());
    }
  }
  void reboot() {
    kill_supervisor();
    lose_memory();
    start();
  }

 private:
  std::string data_;
};

inline mooring_queue_options durable_options(std::uint32_t kind = MOORING_KIND_MPMC,
                                             std::uint32_t deliver = MOORING_DELIVER_DURABLE) {
  mooring_queue_options options;
  mooring_queue_options_init(&options, sizeof options);
  options.kind = kind;
  options.capacity = 4096;
  options.durability = MOORING_DURABLE;
  options.deliver = deliver;
  return options;
}

inline mooring_producer_options no_wait() {
  mooring_producer_options options;
  mooring_producer_options_init(&options, sizeof options);
  options.flags = MOORING_NO_WAIT;
  return options;
}

inline std::string text_of(const mooring_message& message) {
  return {static_cast<const char*>(message.data), message.size};
}

inline std::vector<std::string> numbered(std::uint64_t from, std::uint64_t to) {
  std::vector<std::string> texts;
  for (std::uint64_t i = from; i < to; ++i) texts.push_back(std::to_string(i));
  return texts;
}

// A payload that tells which message it is, of about 20 to 420 bytes.
inline std::string body_of(std::uint64_t number) {
  std::uint64_t state = number * 0x9e3779b97f4a7c15ULL + 1;
  std::string body = std::to_string(number) + ":";
  const std::uint64_t length = 16 + (state >> 33) % 400;
  while (body.size() < length) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    body.append(reinterpret_cast<const char*>(&state), sizeof state);
  }
  return body;
}

// Receives and acknowledges what is there.
inline std::vector<std::string> drain(Consumer& consumer, bool all_redelivered = false) {
  std::vector<std::string> texts;
  while (const auto message = consumer.receive(0)) {
    texts.push_back(text_of(*message));
    if (all_redelivered) {
      EXPECT_NE(message->flags & MOORING_REDELIVERED, 0U) << texts.back();
    }
    EXPECT_TRUE(consumer.ack(*message));
  }
  return texts;
}

// Takes and settles [from, to), messages of body_of, which must be all that is there next.
inline void take(Consumer& consumer, std::uint64_t from, std::uint64_t to) {
  for (std::uint64_t i = from; i < to; ++i) {
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message.has_value()) << i;
    ASSERT_EQ(text_of(*message), body_of(i)) << i;
    ASSERT_TRUE(consumer.ack(*message)) << i;
  }
}

// True once `ready()`; false when the watchdog bites.
template <class Ready>
bool eventually(Ready&& ready) {
  const std::uint64_t until = monotonic_ns() + std::uint64_t{kWatchdogMs} * 1'000'000;
  while (!ready()) {
    if (monotonic_ns() > until) return false;
    ::sched_yield();
  }
  return true;
}

// A T that the processes of a test share.
template <class T>
T* shared_by_processes() {
  void* place = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return place == MAP_FAILED ? nullptr : new (place) T;
}

}  // namespace mooring::test
