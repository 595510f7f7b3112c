#include "worker/worker_loop.hpp"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cstring>
#include <exception>

#include "platform/stop_signals.hpp"
#include "queue/error_detail.hpp"

namespace mooring {
namespace {

// The watch looks around four times in each time that it keeps, and no more often than this, and no more seldom: a
// setting of the group may have become shorter.
constexpr u64 kLookSoonestNs = kNsPerMs;
constexpr u64 kLookLatestNs = kNsPerSecond;

// Counted under the seat's mutex, read by anybody at any time.
void count(std::atomic<u64>& counter) {
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

}  // namespace

Result<std::shared_ptr<WorkerLoop>> WorkerLoop::open(const std::shared_ptr<Instance>& instance,
                                                     const std::string& queue, const std::string& group,
                                                     const Options& options) {
  if (options.concurrency == 0 || options.concurrency > kConcurrencyMax) {
    return mooring::fail(Code::kBadArgument, fmt::format("worker: concurrency is {}, and may be 1 to {}",
                                                         options.concurrency, kConcurrencyMax));
  }
  if (options.prefetch == 0 || options.prefetch > kPrefetchMax) {
    return mooring::fail(Code::kBadArgument,
                         fmt::format("worker: prefetch is {}, and may be 1 to {}", options.prefetch, kPrefetchMax));
  }
  std::shared_ptr<WorkerLoop> loop(new WorkerLoop(options));
  Consumer::Options consumer_options;
  consumer_options.wait = options.wait;
  consumer_options.spin_ns = options.spin_ns;
  for (u32 index = 0; index < options.concurrency; ++index) {
    Result<std::unique_ptr<Consumer>> consumer = Consumer::open(instance, queue, group, consumer_options);
    if (!consumer) return mooring::fail(consumer.error());
    if ((*consumer)->is_exclusive() && options.concurrency != 1) {
      return mooring::fail(Code::kBadArgument,
                           fmt::format("worker: group {} of queue {} is exclusive, one consumer handles its messages "
                                       "in their order, so concurrency must be 1 and not {}",
                                       group, queue, options.concurrency));
    }
    loop->exclusive_ = (*consumer)->is_exclusive();
    auto seat = std::make_unique<Seat>();
    seat->consumer = std::move(*consumer);
    seat->batch.resize(options.prefetch);
    loop->seats_.push_back(std::move(seat));
  }
  return loop;
}

Code WorkerLoop::run(Handler handler) {
  if (ran_.exchange(true, std::memory_order_acq_rel)) {
    return fail_with(Code::kBadArgument, "worker_run: this worker has run; open another one");
  }
  handler_ = std::move(handler);
  std::optional<StopSignals> signals;
  if (options_.drain_on_signals) signals.emplace();
  start();

  u64 leave_at_ns = kForever;
  bool left_behind = false;
  for (;;) {
    const u32 bell = look_at_bell();
    // Acquire: the threads' last stores, before their ends.
    if (serving_.load(std::memory_order_acquire) == 0) break;
    const u64 now_ns = monotonic_ns();
    const u32 signalled = signals.has_value() ? signals->count() : 0;
    if (!draining_.load(std::memory_order_relaxed) && (signalled != 0 || stop_asked_.load(std::memory_order_acquire))) {
      if (signalled != 0) signal_number_.store(signals->last(), std::memory_order_relaxed);
      begin_drain();
      leave_at_ns = deadline_after(now_ns, options_.drain_timeout_ns);
    }
    // Somebody who asks twice means it.
    if (draining_.load(std::memory_order_relaxed) && (now_ns >= leave_at_ns || signalled > 1)) {
      leave_behind();
      left_behind = true;
      break;
    }
    wait_for_bell(bell, std::min(look_after_all(now_ns), leave_at_ns));
  }
  for (const auto& seat : seats_) {
    if (!seat->thread.joinable()) continue;
    // Acquire: `ended` is the thread's last word.
    if (!left_behind || seat->ended.load(std::memory_order_acquire)) {
      seat->thread.join();
    } else {
      seat->thread.detach();
    }
  }
  const std::lock_guard lock(failure_mutex_);
  if (failure_.has_value()) return fail_with(*failure_);
  return left_behind ? Code::kTimeout : Code::kOk;
}

void WorkerLoop::start() {
  serving_.store(static_cast<u32>(seats_.size()), std::memory_order_relaxed);
  for (u32 index = 0; index < seats_.size(); ++index) {
    try {
      // The object lives as long as a handler may run in it.
      seats_[index]->thread =
          std::thread([self = shared_from_this(), index] { self->serve(*self->seats_[index], index); });
    } catch (const std::exception& error) {
      // Those that run are drained, as after any failure.
      serving_.fetch_sub(static_cast<u32>(seats_.size()) - index, std::memory_order_release);
      fail(Code::kNoMemory,
           fmt::format("worker: cannot start thread {} of {}: {}", index + 1, seats_.size(), error.what()));
      return;
    }
  }
}

void WorkerLoop::stop() {
  stop_asked_.store(true, std::memory_order_release);
  ring_bell();
}

bool WorkerLoop::is_stopping() const {
  return stop_asked_.load(std::memory_order_acquire) || draining_.load(std::memory_order_acquire);
}

void WorkerLoop::fail(Code code, std::string text) {
  {
    const std::lock_guard lock(failure_mutex_);
    if (!failure_.has_value()) failure_ = Error{code, std::move(text)};
  }
  stop();
}

// ---- A serving thread --------------------------------------------------------------------------------------------

void WorkerLoop::serve(Seat& seat, u32 thread) {
  WorkerCall call;
  call.thread = thread;
  try {
    while (!is_stopping()) receive_and_handle(seat, &call);
  } catch (const std::exception& error) {
    // Memory is out. What this seat holds goes back as it closes.
    seat.handling.store(false, std::memory_order_relaxed);
    fail(Code::kNoMemory, fmt::format("worker: thread {} cannot go on: {}", thread, error.what()));
  }
  std::unique_ptr<Consumer> done;
  {
    const std::lock_guard lock(seat.mutex);
    done = std::move(seat.consumer);
  }
  done.reset();  // asks the supervisor, so the watch is not kept waiting
  seat.ended.store(true, std::memory_order_release);
  serving_.fetch_sub(1, std::memory_order_release);
  ring_bell();
}

void WorkerLoop::receive_and_handle(Seat& seat, WorkerCall* call) {
  std::size_t received = 0;
  const Code code = seat.consumer->receive_batch(seat.batch, kForever, &received);
  if (code == Code::kOk) {
    std::unique_lock lock(seat.mutex);
    seat.in_hand = 0;
    seat.end = received;
    handle_batch(seat, lock, call);
  } else if (code == Code::kFull) {
    // Only a whole window of messages that failed, of an exclusive group: their time comes.
    (void)::poll(nullptr, 0, 1);
  } else if (static_cast<int>(code) < 0) {
    fail(code, error_detail());
  }
}

void WorkerLoop::handle_batch(Seat& seat, std::unique_lock<std::mutex>& lock, WorkerCall* call) {
  const bool several = options_.prefetch > 1;  // one alone is marked by its receive
  while (seat.in_hand < seat.end) {
    if (is_stopping()) {
      // None of them was begun.
      while (seat.in_hand < seat.end) settle(seat, static_cast<int>(Verdict::kRelease), *call);
      return;
    }
    if (several) (void)seat.consumer->handling(seat.batch[seat.in_hand]);
    ++seat.calls;
    seat.handling.store(true, std::memory_order_relaxed);
    const Message message = seat.batch[seat.in_hand];  // the watch changes the token of the other one
    call->code = 0;
    call->delay_ns = layout::kNoDelay;
    call->text[0] = '\0';
    lock.unlock();
    const int verdict = handler_(message, call);
    lock.lock();
    seat.handling.store(false, std::memory_order_relaxed);
    settle(seat, verdict, *call);
    // In an exclusive group it comes again before anything later: what we have of that goes back, too.
    const bool comes_again =
        verdict != static_cast<int>(Verdict::kAck) && verdict != static_cast<int>(Verdict::kReject);
    if (exclusive_ && comes_again) {
      while (seat.in_hand < seat.end) settle(seat, static_cast<int>(Verdict::kRelease), *call);
    }
  }
}

// The message in hand; then the next one is.
void WorkerLoop::settle(Seat& seat, int verdict, const WorkerCall& call) {
  const Message& message = seat.batch[seat.in_hand++];
  Consumer& consumer = *seat.consumer;
  const std::string_view text(call.text, ::strnlen(call.text, sizeof call.text));
  std::atomic<u64>* counter = &seat.nacked;
  Code code = Code::kOk;
  switch (static_cast<Verdict>(verdict)) {
    case Verdict::kAck:
      counter = &seat.acked;
      code = consumer.ack(message);
      break;
    case Verdict::kNack:
      code = consumer.nack(message, {.delay_ns = call.delay_ns, .code = call.code, .text = text});
      break;
    case Verdict::kReject:
      counter = &seat.rejected;
      code = consumer.reject(message, call.code, text);
      break;
    case Verdict::kRelease:
      counter = &seat.released;
      code = consumer.release(message);
      break;
    default: {
      const std::string said = fmt::format("the handler returned {}", verdict);
      code = consumer.nack(message, {.delay_ns = call.delay_ns,
                                     .code = static_cast<u32>(verdict),
                                     .text = text.empty() ? std::string_view(said) : text});
    }
  }
  if (static_cast<int>(code) < 0) {
    fail(code, error_detail());
    return;
  }
  count(code == Code::kStale ? seat.stale : *counter);
}

// ---- The watch ---------------------------------------------------------------------------------------------------

// What waits behind the message that the handler has, back to the group.
void WorkerLoop::release_behind(Seat& seat) {
  if (exclusive_) return;  // nobody else could take it before this seat is given up
  while (seat.end > seat.in_hand + 1) {
    const bool stale = seat.consumer->release(seat.batch[--seat.end]) == Code::kStale;
    count(stale ? seat.stale : seat.released);
  }
}

void WorkerLoop::begin_drain() {
  draining_.store(true, std::memory_order_release);
  for (const auto& seat : seats_) {
    const std::lock_guard lock(seat->mutex);
    if (seat->consumer == nullptr) continue;
    seat->consumer->interrupt();
    if (seat->handling.load(std::memory_order_relaxed)) release_behind(*seat);
  }
}

// Returns when to look again.
u64 WorkerLoop::look_after_all(u64 now_ns) {
  u64 ack_wait_ns = 0;
  for (const auto& seat : seats_) {
    const std::lock_guard lock(seat->mutex);
    if (seat->consumer == nullptr) continue;
    ack_wait_ns = seat->consumer->ack_wait_ns();
    if (seat->handling.load(std::memory_order_relaxed)) look_after(*seat, now_ns, ack_wait_ns);
  }
  u64 pause_ns = kLookLatestNs;
  for (const u64 kept_ns : {ack_wait_ns, options_.handler_timeout_ns}) {
    if (kept_ns != 0) pause_ns = std::min(pause_ns, std::max(kept_ns / 4, kLookSoonestNs));
  }
  return now_ns + pause_ns;
}

void WorkerLoop::look_after(Seat& seat, u64 now_ns, u64 ack_wait_ns) {
  // The clock of a call begins with our first look at it: nobody reads one for each message.
  if (seat.seen_call != seat.calls) {
    seat.seen_call = seat.calls;
    seat.seen_ns = now_ns;
    seat.late = false;
  }
  const u64 running_ns = now_ns - seat.seen_ns;
  if (!seat.late && options_.handler_timeout_ns != 0 && running_ns >= options_.handler_timeout_ns) {
    seat.late = true;
    count(seat.late_calls);
    release_behind(seat);
    if (options_.late) options_.late(seat.batch[seat.in_hand], running_ns);
  }
  if (seat.late || ack_wait_ns == 0) return;
  // Stale: it was taken back, because this process stood still. The handler's own settlement will say so; what waits
  // behind it is with others now, and is not begun here.
  (void)seat.consumer->extend(&seat.batch[seat.in_hand]);
  std::size_t kept = seat.in_hand + 1;
  for (std::size_t i = kept; i < seat.end; ++i) {
    if (seat.consumer->extend(&seat.batch[i]) == Code::kOk) {
      if (kept != i) seat.batch[kept] = seat.batch[i];
      ++kept;
    } else {
      (void)seat.consumer->release(seat.batch[i]);  // its buffer
      count(seat.stale);
    }
  }
  seat.end = kept;
}

void WorkerLoop::leave_behind() {
  for (const auto& seat : seats_) {
    const std::lock_guard lock(seat->mutex);
    if (seat->consumer != nullptr) (void)seat->consumer->handling_none();
  }
}

WorkerStats WorkerLoop::stats() const {
  WorkerStats stats;
  // Relaxed: each number by itself is true, at some time about now.
  const auto of = [](const auto& counter) { return counter.load(std::memory_order_relaxed); };
  for (const auto& seat : seats_) {
    stats.acked += of(seat->acked);
    stats.nacked += of(seat->nacked);
    stats.rejected += of(seat->rejected);
    stats.released += of(seat->released);
    stats.stale += of(seat->stale);
    stats.late += of(seat->late_calls);
    stats.handling += of(seat->handling) ? 1U : 0U;
  }
  stats.signal_number = signal_number_.load(std::memory_order_relaxed);
  return stats;
}

}  // namespace mooring
