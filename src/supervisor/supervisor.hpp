// The supervisor of an instance: grants, watches, repairs. Exactly one at a time, by a lock on the instance directory.
//
//   - the control socket: one JSON object a packet (queue/control_protocol.hpp), every member checked
//   - a pidfd for each process that holds a seat or a lane: readable = dead, confirmed; nothing else ever is
//   - the bell: a futex in shared memory that clients bump when they want a look around (a nack, no room)
//   - a tick per queue: 10 ms while something moves there, up to five seconds while nothing does
//
// It kills nobody but where a group's user asked for it (stuck = kill), through the pidfd; the death is then confirmed
// and repaired like any other.
//
// It may be killed at any instruction: the lock is gone with it, clients go on, and the next one adopts every queue
// (queue_keeper.hpp says what it finds). A supervisor that is merely stopped keeps the lock: nobody replaces it.
//
// A connection that ends while its process lives means: the socket was closed, or the process called exec. If the
// process still maps the files of its grants it keeps them; if it maps none of them any more, it cannot use them, and
// they are treated as a dead owner's (core.md section 7).
//
// TESTED BY  supervisor/supervisor_test, durable/durable_kill_points_test, crash/process_step_test
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "platform/event_loop.hpp"
#include "platform/local_socket.hpp"
#include "platform/process.hpp"
#include "queue/control_protocol.hpp"
#include "segment/instance_paths.hpp"
#include "supervisor/durable_queues.hpp"
#include "supervisor/queue_keeper.hpp"

namespace mooring {

class Supervisor {
 public:
  struct Options {
    std::string path;             // instance; empty: see resolve_instance
    bool exit_when_idle = false;  // leave when nobody is connected and nobody holds anything
    u64 idle_ns = 10 * kNsPerSecond;
    u32 socket_mode = 0600;
    std::optional<u32> group_id;  // of the socket
  };
  // Takes the lock, adopts what is there, listens. kExists: another one serves this instance (the text says which pid).
  static Result<std::unique_ptr<Supervisor>> start(const Options& options);
  ~Supervisor();

  // Serves until stop(), a shutdown request, or idleness.
  Status run();
  // From any thread or a signal handler.
  void stop();

  const std::string& path() const { return paths_.directory; }
  u64 queue_count() const { return queues_.size(); }

 private:
  struct Client {
    File socket;
    ProcessIdentity identity;
    PeerCredentials credentials;
    std::string name;
    bool greeted = false;
    u64 serial = 0;  // in order of arrival
  };
  struct Watched {
    File pidfd;
    u64 connections = 0;
    bool lost_socket = false;  // a connection of it ended, or it was there before us: look at its maps
  };

  explicit Supervisor(EventLoop loop) : loop_(std::move(loop)) {}
  Status take_lock();
  Status adopt_queues();
  void adopt_queue(const std::string& name, bool durable);
  // The queue as a keeper, with its journal running where it has one; its processes are not watched yet.
  Result<std::unique_ptr<QueueKeeper>> open_queue(const std::string& name, bool durable,
                                                  std::vector<ProcessIdentity>* owners);
  Status open_durable_queues(bool create);
  Status make_durable(const std::string& name, const QueueOptions& options);
  void listen_to_bell();
  void accept_clients();
  void serve(int fd);
  void drop_client(int fd);
  void drop_oldest_stranger();
  void take_back(Client& client, const Json& request, const Json& reply);
  void listen_again(u64 now_ns);
  Result<Json> handle(Client& client, const Json& request);
  Result<Json> hello(Client& client, const Json& request);
  static Result<Json> group_request(QueueKeeper& keeper, const std::string& op, const Json& request);
  static Result<DeadFilter> dead_filter(const Json& request);
  Result<Json> create_queue_request(const Client& client, const Json& request);
  Result<Json> remove_queue_request(const Client& client, const Json& request);
  Json status() const;
  Result<QueueKeeper*> keeper_of(const Json& request);
  Status check_admin(const Client& client, std::string_view what) const;
  Status watch(const ProcessIdentity& identity);
  void unwatch(const ProcessIdentity& identity);
  void died(const ProcessIdentity& identity);
  void kill_stuck(QueueKeeper& keeper);
  void look_for_exec(const ProcessIdentity& identity);
  bool holds_anything(const ProcessIdentity& identity) const;
  bool is_idle() const;

  using Key = std::pair<u32, u64>;
  static Key key(const ProcessIdentity& identity) { return {identity.pid, identity.start_time_ticks}; }

  Options options_;
  InstancePaths paths_;
  File directory_;  // holds the lock for as long as we live
  File shared_directory_;
  std::optional<DurableQueues> durable_;  // once there is or was a durable queue
  Mapping bell_;
  File bell_event_;
  std::thread bell_thread_;
  std::atomic<bool> stopping_{false};  // release by stop(), acquire by both threads
  File stop_event_;
  File listener_;
  bool listening_ = false;
  u64 listen_again_ns_ = 0;
  u64 strangers_ = 0;  // connections that have not said hello
  u64 next_serial_ = 0;
  std::atomic<bool> bell_fault_{false};
  EventLoop loop_;
  u64 incarnation_ = 0;
  u64 started_ns_ = 0;
  u64 idle_since_ns_ = 0;
  bool fence_mode_ = false;
  bool bell_rang_ = false;
  std::map<std::string, std::unique_ptr<QueueKeeper>> queues_;
  std::map<int, std::unique_ptr<Client>> clients_;
  std::map<Key, Watched> watched_;
};

}  // namespace mooring
