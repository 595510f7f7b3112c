// Calls a function of the application when more of a durable queue is on the disk.
//
// One thread of the library makes all these calls of a process, so that one that is slow holds up no others than its
// like: descriptors and wake-ups have a thread of their own (wake_descriptor.hpp), whose descriptors this one polls.
// None exists until somebody asks; it ends with the last watch. It blocks every signal.
//
// NOTHING IS MISSED   The descriptor is armed, then durable_seq is read: what becomes durable after the look makes the
// descriptor readable again. Several steps may come as one call; a position is told once and never goes back.
//
// ENDING A WATCH   The destructor returns when no call of it runs or ever will. On the thread itself, inside the call:
// at once; the call goes on to its end.
//
// TESTED BY  durable/durable_callback_test
#pragma once

#include <functional>
#include <memory>

#include "base/error.hpp"
#include "queue/queue.hpp"

namespace mooring {

class DurableWatch {
 public:
  // Every message below `durable_seq` is on the disk. kOk; last, once: kIo (the journal failed), kClosed (the queue was
  // removed).
  using Call = std::function<void(u64 durable_seq, Code result)>;

  // The first call comes at once, with what is durable by now.
  static Result<std::unique_ptr<DurableWatch>> make(std::shared_ptr<Queue> queue, Call call);
  ~DurableWatch();
  DurableWatch(const DurableWatch&) = delete;
  DurableWatch& operator=(const DurableWatch&) = delete;

 private:
  class Thread;
  struct Watched;
  DurableWatch() = default;

  std::shared_ptr<Thread> thread_;
  std::shared_ptr<Watched> watched_;
};

}  // namespace mooring
