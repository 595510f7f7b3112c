// The loop around a handler: threads that receive, call it, and settle by what it says; one that watches over them.
//
// WHO DOES WHAT
//   a serving thread   one for each seat: receives a batch, and for each message of it marks it as the one in hand,
//                      calls the handler (holding no lock), settles. Sleeps in receive with nothing in hand.
//   the watch          the thread that called run(): extends the lease of what is in hand or waits behind it, tells of
//                      handlers that take too long, ends it all.
//   stop()             any thread or signal handler: a flag and the bell. The watch does the rest.
//
// A consumer belongs to one thread at a time: `mutex` of its seat says which. A serving thread holds it to settle and
// to mark, never in the handler and never while it receives; then the seat holds nothing, and the watch leaves its
// consumer alone, but for interrupt(), which any thread may call.
//
// IF A HANDLER DOES NOT END   Nothing can take a thread back from it, and nothing is taken from it that it may still
//   settle. After handler_timeout its lease is not extended any more: the group gives the message out again after
//   ack_wait, and the settlement that comes after all is stale. After drain_timeout the loop is left: the thread keeps
//   its seat and this object until the handler returns, and the seat's marker is cleared, so that the end of the
//   process charges nobody.
// IF THE PROCESS DIES         The marker names the one message in hand: that one counts a failure, what waited behind
//   it does not.
//
// TESTED BY  worker/worker_test
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "queue/consumer.hpp"

namespace mooring {

// What the handler says beyond its verdict. The shape of mooring_worker_call.
inline constexpr std::size_t kWorkerTextBytes = 512;
struct WorkerCall {
  u32 thread = 0;
  u32 code = 0;
  u64 delay_ns = layout::kNoDelay;
  char text[kWorkerTextBytes] = {0};
};

// What the handler returns; any other number is a failure, with the number as its code.
enum class Verdict : int { kAck = 0, kNack = 1, kReject = 2, kRelease = 3 };

struct WorkerStats {
  u64 acked = 0;
  u64 nacked = 0;
  u64 rejected = 0;
  u64 released = 0;
  u64 stale = 0;
  u64 late = 0;
  u32 handling = 0;
  int signal_number = 0;
};

class WorkerLoop : public std::enable_shared_from_this<WorkerLoop> {
 public:
  using Handler = std::function<int(const Message& message, WorkerCall* call)>;
  using Late = std::function<void(const Message& message, u64 running_ns)>;
  struct Options {
    u32 concurrency = 1;
    u32 prefetch = 1;
    bool drain_on_signals = false;
    WaitStrategy wait = WaitStrategy::kAdaptive;
    u64 spin_ns = kSpinNsDefault;
    u64 handler_timeout_ns = 0;  // 0: none
    u64 drain_timeout_ns = kForever;
    Late late;  // may be empty
  };
  static constexpr u32 kConcurrencyMax = 1024;
  static constexpr u32 kPrefetchMax = 4096;

  // Takes the seats. kBadArgument: more than one thread for an exclusive group, or an option out of range.
  static Result<std::shared_ptr<WorkerLoop>> open(const std::shared_ptr<Instance>& instance, const std::string& queue,
                                                  const std::string& group, const Options& options);

  // Serves until it is stopped, once. kOk: drained. kTimeout: drain_timeout was over, handlers still run.
  Code run(Handler handler);
  void stop();  // async-signal-safe
  bool is_stopping() const;
  WorkerStats stats() const;

 private:
  // On lines of its own: two seats are busy in two threads.
  struct alignas(kLineBytes) Seat {
    std::mutex mutex;
    std::unique_ptr<Consumer> consumer;
    // [in_hand, end) of the batch is held; the first of it is with the handler while `handling`.
    std::vector<Message> batch;
    std::size_t in_hand = 0;
    std::size_t end = 0;
    u64 calls = 0;  // of the handler, with the one that runs
    std::atomic<bool> handling = false;
    // The watch's own: which call it saw, since when, and whether that one is late.
    u64 seen_call = 0;
    u64 seen_ns = 0;
    bool late = false;
    std::atomic<u64> acked = 0;
    std::atomic<u64> nacked = 0;
    std::atomic<u64> rejected = 0;
    std::atomic<u64> released = 0;
    std::atomic<u64> stale = 0;
    std::atomic<u64> late_calls = 0;
    std::atomic<bool> ended = false;
    std::thread thread;
  };

  explicit WorkerLoop(Options options) : options_(std::move(options)) {}

  void start();
  void serve(Seat& seat, u32 thread);
  void receive_and_handle(Seat& seat, WorkerCall* call);
  void handle_batch(Seat& seat, std::unique_lock<std::mutex>& lock, WorkerCall* call);
  void settle(Seat& seat, int verdict, const WorkerCall& call);
  void release_behind(Seat& seat);
  void begin_drain();
  u64 look_after_all(u64 now_ns);
  void look_after(Seat& seat, u64 now_ns, u64 ack_wait_ns);
  void leave_behind();
  void fail(Code code, std::string text);

  Options options_;
  bool exclusive_ = false;
  Handler handler_;
  std::vector<std::unique_ptr<Seat>> seats_;
  std::atomic<bool> ran_ = false;
  std::atomic<bool> stop_asked_ = false;  // by anybody
  std::atomic<bool> draining_ = false;    // by the watch
  std::atomic<u32> serving_ = 0;
  std::atomic<int> signal_number_ = 0;
  std::mutex failure_mutex_;
  std::optional<Error> failure_;  // the first
};

}  // namespace mooring
