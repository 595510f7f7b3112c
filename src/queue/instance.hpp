// A client's side of an instance: the connection to the supervisor, and the memory it leads to.
//
// The connection is for slow things only. When the supervisor dies, handles that are open go on; the next request
// connects again (and starts a supervisor, where autostart is on).
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "base/time.hpp"
#include "queue/control_protocol.hpp"
#include "segment/instance_paths.hpp"
#include "segment/queue_files.hpp"

namespace mooring {

class Queue;

class Instance {
 public:
  struct Options {
    std::string path;  // empty: see resolve_instance
    bool autostart = false;
    u64 request_timeout_ns = 5 * kNsPerSecond;
  };
  static Result<std::shared_ptr<Instance>> open(const Options& options);
  ~Instance();

  // Held while a handle is being opened, from before the request until the grant is taken (`opened` is stored).
  // A hello says whether there is any such besides the request it is made for: if not, grants of this process that were
  // never taken are leftovers of a supervisor that died before its reply arrived, and are dropped.
  class Opening {
   public:
    Opening() { openings_.fetch_add(1, std::memory_order_acq_rel); }
    ~Opening() { openings_.fetch_sub(1, std::memory_order_acq_rel); }
    Opening(const Opening&) = delete;
    Opening& operator=(const Opening&) = delete;
  };

  // One request, one reply. Connects first where needed. Safe from several threads, one at a time.
  Result<Json> request(const Json& request, const Opening* opening = nullptr);

  // The queue as this process has it attached; shared by all its handles.
  Result<std::shared_ptr<Queue>> attach(const std::string& queue);

  // Asks the supervisor to look around now: a nack, a producer that waits for room. Costs a system call only where the
  // supervisor sleeps.
  void ring_bell() const;

  // True in a child of the process that opened this: its mappings are gone there (MADV_DONTFORK).
  bool is_forked() const { return *alive_ == 0; }
  const u8* alive_page() const { return alive_; }

  const File& shared_directory() const { return shared_directory_; }
  uid_t owner() const { return paths_.owner; }
  const std::string& path() const { return paths_.directory; }

 private:
  Instance() = default;
  Status connect(bool for_opening);
  Result<File> reach_supervisor();
  Status greet(const File& socket, bool for_opening);
  // `taken`: another one holds the lock of the instance; it is about to serve, or about to be gone.
  Status start_supervisor(bool* taken);

  Options options_;
  InstancePaths paths_;
  File directory_;
  File shared_directory_;
  Mapping bell_;
  const u8* alive_ = nullptr;  // one page, MADV_WIPEONFORK: reads 0 in a child
  std::mutex mutex_;
  File socket_;
  bool membarrier_ = false;
  // Of the whole process, which is what grants belong to. acq_rel: counted before the request is sent, until the grant
  // is taken.
  inline static std::atomic<int> openings_{0};
  std::unordered_map<std::string, std::weak_ptr<Queue>> queues_;
};

}  // namespace mooring
