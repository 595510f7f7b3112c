// An instance for one benchmark: a directory of its own below /tmp, a mooringd of its own, and nothing left afterwards.
//
// A keeper process, forked first, starts the supervisor (autostart: found beside the program) and waits for the end of
// a pipe that only the benchmark's processes hold. However those end (an error, Ctrl-C, kill -9), the keeper then shuts
// the supervisor down, waits for it, and removes the directory and the shared files.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "mooring/mooring.hpp"

namespace mooring::bench {

class PrivateInstance {
 public:
  static Result<std::unique_ptr<PrivateInstance>> start();
  PrivateInstance(const PrivateInstance&) = delete;
  PrivateInstance& operator=(const PrivateInstance&) = delete;
  ~PrivateInstance();

  const std::string& path() const { return path_; }
  // The connection of the process that started it, which creates and removes queues. Roles connect for themselves.
  Instance& connection() { return *connection_; }
  Instance connect() const { return Instance(path_); }
  std::string next_queue_name() { return "bench-" + std::to_string(++queue_count_); }

 private:
  PrivateInstance() = default;
  std::string path_;
  pid_t keeper_ = -1;
  int life_fd_ = -1;  // the keeper reads the other end
  std::optional<Instance> connection_;
  unsigned queue_count_ = 0;
};

// A queue of the private instance, made by the parent before the roles start and removed after they ended.
class BenchQueue {
 public:
  BenchQueue(PrivateInstance& instance, const mooring_queue_options& options)
      : instance_(&instance), name_(instance.next_queue_name()) {
    instance.connection().create_queue(name_, options);
  }
  BenchQueue(const BenchQueue&) = delete;
  BenchQueue& operator=(const BenchQueue&) = delete;
  ~BenchQueue() { mooring_queue_remove(instance_->connection().get(), name_.c_str()); }

  // Instead of the competing group that every MPMC queue is born with.
  void use_exclusive_groups(unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
      instance_->connection().create_group(name_, exclusive_group(i), MOORING_MODE_EXCLUSIVE);
    }
    instance_->connection().remove_group(name_, "default");
  }
  static std::string exclusive_group(unsigned index) { return "exclusive-" + std::to_string(index); }

  const std::string& name() const { return name_; }

 private:
  PrivateInstance* instance_;
  std::string name_;
};

// Options of a queue for messages of this size: the default lane of 1 MiB (the ring of the limits and peers), or 16
// messages where that is more.
mooring_queue_options bench_queue_options(unsigned kind, u64 size_bytes);
u64 bench_ring_bytes(u64 size_bytes);

}  // namespace mooring::bench
