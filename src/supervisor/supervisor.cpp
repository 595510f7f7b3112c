#include "supervisor/supervisor.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>

#include "base/kill_point.hpp"
#include "platform/fault_guard.hpp"
#include "platform/futex.hpp"
#include "platform/process_end.hpp"
#include "segment/names.hpp"
#include "supervisor/durable_opening.hpp"

namespace mooring {
namespace {

using A = HardwareAtomics;

constexpr const char* kPidFileName = "mooringd.pid";
// The bell thread looks up from its futex this often at least: a bell rung by a process that was stopped between the
// bump and the wake is heard then.
constexpr u64 kBellBoundNs = kNsPerSecond;
// Whoever may connect may also connect too often, or say nothing.
constexpr u64 kStrangersMax = 64;
constexpr u64 kConnectionsOfProcessMax = 64;
constexpr u64 kListenAgainNs = 100 * kNsPerMs;

// A killed supervisor keeps its lock until its last thread has left the kernel, and that may be in a flush of a slow
// disk. Right after the kill it still looks alive.
constexpr u64 kDyingNs = 100 * kNsPerMs;
constexpr u64 kLockLingersNs = 10 * kNsPerSecond;

bool is_ending(u32 pid) {
  const Result<ProcessIdentity> identity = identify_process(pid);
  if (!identity) return identity.error().code == Code::kClosed;
  const Result<ProcessState> state = process_state(*identity);
  return state && (*state == ProcessState::zombie || *state == ProcessState::gone);
}

// Each client costs two descriptors, and the usual soft limit is 1024.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  static_cast<void>(::setrlimit(RLIMIT_NOFILE, &limit));  // then it stays as it is
}

}  // namespace

Result<std::unique_ptr<Supervisor>> Supervisor::start(const Options& options) {
  Result<EventLoop> loop = EventLoop::create();
  if (!loop) return fail(loop.error());
  std::unique_ptr<Supervisor> supervisor(new Supervisor(std::move(*loop)));
  supervisor->options_ = options;
  Result<InstancePaths> paths = resolve_instance(options.path, /*create=*/true);
  if (!paths) return fail(paths.error());
  supervisor->paths_ = std::move(*paths);
  if (::geteuid() != supervisor->paths_.owner && ::geteuid() != 0) {
    return fail(Code::kPermission, fmt::format("instance {} belongs to uid {}; run mooringd as that user",
                                               supervisor->paths_.directory, supervisor->paths_.owner));
  }
  if (Status status = supervisor->take_lock(); !status) return fail(status.error());
  MOORING_KILL_POINT("supervisor.locked");
  if (Status status = install_fault_guard(); !status) return fail(status.error());
  raise_descriptor_limit();
  membarrier_register();
  supervisor->started_ns_ = monotonic_ns();
  supervisor->idle_since_ns_ = supervisor->started_ns_;
  supervisor->incarnation_ = wall_ns();

  for (File* event : {&supervisor->bell_event_, &supervisor->stop_event_}) {
    Result<File> made = make_event();
    if (!made) return fail(made.error());
    *event = std::move(*made);
  }
  if (Status status = supervisor->adopt_queues(); !status) return fail(status.error());
  MOORING_KILL_POINT("supervisor.adopted");

  Supervisor* self = supervisor.get();
  Result<File> listener = listen_local(supervisor->directory_, std::string(kControlSocketName), options.socket_mode,
                                       options.group_id.value_or(kAnyGroup));
  if (!listener) return fail(listener.error());
  supervisor->listener_ = std::move(*listener);
  MOORING_KILL_POINT("supervisor.listening");
  for (const auto& [fd, callback] :
       {std::pair<int, EventLoop::Callback>{supervisor->listener_.fd(), [self] { self->accept_clients(); }},
        {supervisor->bell_event_.fd(),
         [self] {
           take_count(self->bell_event_);
           self->bell_rang_ = true;
         }},
        {supervisor->stop_event_.fd(), [self] { take_count(self->stop_event_); }}}) {
    if (Status status = supervisor->loop_.add(fd, callback); !status) return fail(status.error());
  }
  supervisor->listening_ = true;
  supervisor->bell_thread_ = std::thread([self] { self->listen_to_bell(); });
  return supervisor;
}

Supervisor::~Supervisor() {
  stop();
  if (bell_thread_.joinable()) bell_thread_.join();
  if (bell_.data() != nullptr) unregister_range(bell_.data());
}

void Supervisor::stop() {
  stopping_.store(true, std::memory_order_release);
  if (stop_event_.is_open()) notify_event(stop_event_);
  if (bell_.data() != nullptr) {
    auto* bell = reinterpret_cast<layout::BellHead*>(bell_.data());
    A::add(bell->futex, 1U, std::memory_order_seq_cst);
    futex_wake(&bell->futex, 1);
  }
}

Status Supervisor::take_lock() {
  // The directory itself is locked: a lock file could be removed and made again under us.
  Result<File> directory = open_directory(paths_.directory);
  if (!directory) return fail(directory.error());
  const u64 began_ns = monotonic_ns();
  for (;;) {
    Result<bool> locked = try_lock(*directory);
    if (!locked) return fail(locked.error());
    if (*locked) break;
    const Result<std::string> pid = read_whole_file(*directory, kPidFileName, 32);
    const u32 number = pid ? static_cast<u32>(std::strtoul(pid->c_str(), nullptr, 10)) : 0;
    const u64 waited_ns = monotonic_ns() - began_ns;
    if (waited_ns < kDyingNs || (waited_ns < kLockLingersNs && is_ending(number))) {
      ::poll(nullptr, 0, 1);
      continue;
    }
    return fail(Code::kExists,
                fmt::format("instance {} is served already by pid {} ({}); use it, stop it with `mooring shutdown "
                            "--instance {}`, or name another instance",
                            paths_.directory, number, process_name(number), paths_.directory));
  }
  directory_ = std::move(*directory);
  return write_whole_file(directory_, kPidFileName, fmt::format("{}\n", ::getpid()), 0644);
}

Status Supervisor::adopt_queues() {
  Result<File> shared = open_shared_directory(paths_.shared_directory, paths_.owner, /*create=*/true);
  if (!shared) return fail(shared.error());
  shared_directory_ = std::move(*shared);
  // Two containers with one /dev/shm, the same user and the same instance path, but separate file systems: their
  // instance locks differ, their memory does not.
  Result<bool> alone = try_lock(shared_directory_);
  if (!alone) return fail(alone.error());
  if (!*alone) {
    return fail(Code::kExists, fmt::format("the shared memory {} is served already, by a supervisor that does not see "
                                           "{} (another container?); name another instance path, or set "
                                           "MOORING_SHM_ROOT",
                                           paths_.shared_directory, paths_.directory));
  }
  std::vector<std::string> removed;
  if (Status status = remove_stale(shared_directory_, paths_.owner, &removed); !status) return status;
  for (const std::string& name : removed) spdlog::info("removed {}, left by another boot or an unfinished step", name);

  Result<Mapping> bell = map_bell(shared_directory_, paths_.owner);
  if (!bell) {
    Result<std::array<u8, 16>> uuid = random_uuid();
    if (!uuid) return fail(uuid.error());
    if (Status status = make_bell(shared_directory_, *uuid, options_.socket_mode & 0666); !status) return status;
    bell = map_bell(shared_directory_, paths_.owner);
    if (!bell) return fail(bell.error());
  }
  bell_ = std::move(*bell);
  // Cut short, it is a bell nobody hears any more: the ticks go on.
  static_cast<void>(register_range(bell_.data(), bell_.size_bytes(), &bell_fault_));

  Result<std::vector<std::string>> names = list_queues(shared_directory_);
  if (!names) return fail(names.error());
  if (Status status = open_durable_queues(/*create=*/false); !status) return status;
  std::set<std::string> durable;
  if (durable_.has_value()) {
    Result<std::vector<std::string>> on_disk = durable_->adopt();
    if (!on_disk) return fail(on_disk.error());
    for (const std::string& name : *on_disk) {
      // The log of a volatile queue is worth nothing without its memory: that of another boot, or removed by hand.
      const bool in_memory = std::ranges::binary_search(*names, name);
      const auto spills = [&] {
        const Result<DurableQueue> config = durable_->read(name);
        return config && config->options.overflow == layout::Overflow::kSpill;
      };
      if (!in_memory && spills()) {
        spdlog::info("queue {}: volatile, and its memory is gone: what it had spilled is removed", name);
        if (auto gone = durable_->remove(name); !gone) return fail(gone.error());
        continue;
      }
      durable.insert(name);
    }
  }
  for (const std::string& name : *names) {
    if (!durable.contains(name)) adopt_queue(name, /*durable=*/false);
  }
  for (const std::string& name : durable) adopt_queue(name, /*durable=*/true);
  return {};
}

// A data directory that is not there yet holds no queues.
Status Supervisor::open_durable_queues(bool create) {
  if (durable_.has_value()) return {};
  Result<DurableQueues> opened = DurableQueues::open(paths_.data_directory, create);
  if (!opened && !create && opened.error().code == Code::kNoSuchQueue) return {};
  if (!opened) return fail(opened.error());
  durable_ = std::move(*opened);
  if (!durable_->outlives_power()) {
    spdlog::warn(
        "{} lies in memory: durable queues there survive processes, not a power cut; name a place on a disk "
        "with MOORING_DATA",
        paths_.data_directory);
  }
  return {};
}

Result<std::unique_ptr<QueueKeeper>> Supervisor::open_queue(const std::string& name, bool durable,
                                                            std::vector<ProcessIdentity>* owners) {
  if (!durable) {
    Result<std::unique_ptr<QueueKeeper>> keeper =
        QueueKeeper::open(shared_directory_, paths_.owner, name, incarnation_);
    if (!keeper) return fail(keeper.error());
    if (Status status = (*keeper)->adopt(owners); !status) return fail(status.error());
    return keeper;
  }
  Result<DurableOpening> opening = open_durable(shared_directory_, paths_.owner, *durable_, name, incarnation_);
  if (!opening) return fail(opening.error());
  if (Status status = opening->keeper->adopt(owners); !status) return fail(status.error());
  if (opening->writer == nullptr) {
    spdlog::error("queue {}: its log cannot go on: {}; what it holds can be received, nothing is published", name,
                  opening->trouble);
    return std::move(opening->keeper);
  }
  Result<std::shared_ptr<Queue>> queue = Queue::attach(shared_directory_, paths_.owner, name, /*as_supervisor=*/true);
  if (!queue) return fail(queue.error());
  if (Status status =
          opening->keeper->start_journal(std::move(opening->disk), std::move(opening->writer), std::move(*queue));
      !status) {
    return fail(status.error());
  }
  return std::move(opening->keeper);
}

void Supervisor::adopt_queue(const std::string& name, bool durable) {
  std::vector<ProcessIdentity> owners;
  Result<std::unique_ptr<QueueKeeper>> keeper = open_queue(name, durable, &owners);
  if (!keeper) {
    // One bad queue does not keep the others from being served; its files stay for a look.
    spdlog::error("queue {} cannot be served: {}", name, keeper.error().text);
    return;
  }
  if (!durable && layout::has_log((*keeper)->constants())) {
    spdlog::warn(
        "queue {}: its log is not in {}: a removal was cut short, or MOORING_DATA was another; the shared "
        "memory stays until the queue is removed",
        name, paths_.data_directory);
    return;
  }
  queues_[name] = std::move(*keeper);
  for (const ProcessIdentity& owner : owners) {
    // Gone (or its number is another's now): dead, as certain as a pidfd.
    if (Status status = watch(owner); status) {
      watched_[key(owner)].lost_socket = true;  // it may have called exec while nobody looked
    } else if (status.error().code == Code::kClosed) {
      queues_[name]->owner_died(owner);
    } else {
      spdlog::error("queue {}: pid {} cannot be watched, and keeps what it holds: {}", name, owner.pid,
                    status.error().text);
    }
  }
}

void Supervisor::listen_to_bell() {
  auto* bell = reinterpret_cast<layout::BellHead*>(bell_.data());
  u32 heard = A::load(bell->futex, std::memory_order_seq_cst);
  while (!stopping_.load(std::memory_order_acquire)) {
    // BELL: seq_cst on both sides, as in Instance::ring_bell.
    A::store(bell->listening, 1U, std::memory_order_seq_cst);
    const u32 now = A::load(bell->futex, std::memory_order_seq_cst);
    if (now == heard) futex_wait(&bell->futex, heard, monotonic_ns() + kBellBoundNs);
    A::store(bell->listening, 0U, std::memory_order_seq_cst);
    const u32 word = A::load(bell->futex, std::memory_order_seq_cst);
    if (word != heard) {
      heard = word;
      notify_event(bell_event_);
    }
  }
}

Status Supervisor::run() {
  u64 wait_ns = 0;
  while (!stopping_.load(std::memory_order_acquire)) {
    Result<std::size_t> ran = loop_.run_once(wait_ns);
    if (!ran) return fail(ran.error());
    const u64 now_ns = monotonic_ns();
    wait_ns = kNsPerSecond;
    const bool bell = std::exchange(bell_rang_, false);
    for (auto& [name, keeper] : queues_) {
      wait_ns = std::min(wait_ns, keeper->tick(now_ns, bell));
      kill_stuck(*keeper);
    }
    for (auto watched = watched_.begin(); watched != watched_.end();) {
      const ProcessIdentity identity{watched->first.first, watched->first.second};
      const bool lost = watched->second.lost_socket;
      ++watched;  // look_for_exec may erase
      if (lost) look_for_exec(identity);
    }
    if (!listening_) {
      listen_again(now_ns);
      wait_ns = std::min(wait_ns, kListenAgainNs);
    }
    if (options_.exit_when_idle) {
      if (!is_idle()) {
        idle_since_ns_ = now_ns;
      } else if (now_ns - idle_since_ns_ >= options_.idle_ns) {
        spdlog::info("nobody is connected and nobody holds anything: leaving");
        break;
      }
    }
  }
  listener_.close();
  return {};
}

bool Supervisor::is_idle() const { return clients_.empty() && watched_.empty(); }

// --- Connections ----------------------------------------------------------------------------------------------------

void Supervisor::accept_clients() {
  for (int accepted = 0; accepted < 64; ++accepted) {
    Result<File> socket = accept_local(listener_);
    if (!socket) {
      if (socket.error().code == Code::kEmpty) return;
      // Out of descriptors, most likely. It would be readable again at once: look at it later.
      spdlog::warn("a connection was not accepted: {}", socket.error().text);
      drop_oldest_stranger();
      loop_.remove(listener_.fd());
      listening_ = false;
      listen_again_ns_ = monotonic_ns() + kListenAgainNs;
      return;
    }
    Result<PeerCredentials> credentials = peer_credentials(*socket);
    if (!credentials) continue;
    auto client = std::make_unique<Client>();
    client->credentials = *credentials;
    if (credentials->pid <= 0) {
      (void)send_message(*socket, reply_error({Code::kPermission,
                                               "the client lives in a pid namespace that the supervisor cannot see, so "
                                               "its death could not be told; share the pid namespace"})
                                      .dump());
      continue;
    }
    Result<ProcessIdentity> identity = identify_process(static_cast<u32>(credentials->pid));
    if (!identity) continue;  // gone already
    client->identity = *identity;
    client->socket = std::move(*socket);
    client->serial = next_serial_++;
    const int fd = client->socket.fd();
    if (!loop_.add(fd, [this, fd] { serve(fd); })) continue;
    clients_[fd] = std::move(client);
    if (++strangers_ > kStrangersMax) drop_oldest_stranger();
  }
}

void Supervisor::drop_oldest_stranger() {
  int oldest = -1;
  u64 serial = ~u64{0};
  for (const auto& [fd, client] : clients_) {
    if (client->greeted || client->serial >= serial) continue;
    serial = client->serial;
    oldest = fd;
  }
  if (oldest >= 0) drop_client(oldest);
}

void Supervisor::listen_again(u64 now_ns) {
  if (now_ns < listen_again_ns_) return;
  listening_ = loop_.add(listener_.fd(), [this] { accept_clients(); }).has_value();
}

void Supervisor::serve(int fd) {
  const auto found = clients_.find(fd);
  if (found == clients_.end()) return;
  Client& client = *found->second;
  Result<std::string> packet = receive_message(client.socket, kControlPacketBytesMax, 0);
  if (!packet) {
    if (packet.error().code == Code::kTimeout) return;
    if (packet.error().code == Code::kTooBig) {
      if (!send_message(client.socket, reply_error(packet.error()).dump(), 0)) drop_client(fd);
      return;
    }
    drop_client(fd);
    return;
  }
  Json reply;
  const Result<Json> request = parse_packet(*packet);
  if (!request) {
    reply = reply_error(request.error());
  } else {
    Result<Json> handled = handle(client, *request);
    reply = handled ? std::move(*handled) : reply_error(handled.error());
  }
  // A client that does not take its reply (a full socket buffer, stopped) loses its connection, not our time.
  if (!send_message(client.socket, reply.dump(-1, ' ', false, Json::error_handler_t::replace), 0)) {
    if (request) take_back(client, *request, reply);
    drop_client(fd);
  }
}

// A grant whose reply could not be sent: nobody knows of it, so nobody will take it.
void Supervisor::take_back(Client& client, const Json& request, const Json& reply) {
  const auto generation = number_member(reply, "generation", 0, ~u32{0});
  const auto lane = number_member(reply, "lane", 0, ~u32{0});
  const auto seat = number_member(reply, "seat", 0, ~u32{0});
  if (!generation || (!lane && !seat)) return;
  const Result<QueueKeeper*> keeper = keeper_of(request);
  if (!keeper) return;
  const auto number = static_cast<u32>(*generation);
  static_cast<void>(lane ? (*keeper)->close_producer(client.identity, static_cast<u32>(*lane), number)
                         : (*keeper)->close_consumer(client.identity, static_cast<u32>(*seat), number));
}

void Supervisor::drop_client(int fd) {
  const auto found = clients_.find(fd);
  if (found == clients_.end()) return;
  const ProcessIdentity identity = found->second->identity;
  const bool greeted = found->second->greeted;
  loop_.remove(fd);
  clients_.erase(found);
  if (!greeted) {
    --strangers_;
    return;
  }
  const auto watched = watched_.find(key(identity));
  if (watched == watched_.end()) return;
  if (watched->second.connections != 0) --watched->second.connections;
  if (pidfd_is_dead(watched->second.pidfd)) {
    died(identity);
    return;
  }
  watched->second.lost_socket = true;
  if (watched->second.connections == 0 && !holds_anything(identity)) unwatch(identity);
}

// --- Who is alive ---------------------------------------------------------------------------------------------------

Status Supervisor::watch(const ProcessIdentity& identity) {
  if (watched_.contains(key(identity))) return {};
  Result<File> pidfd = open_pidfd(identity);
  if (!pidfd) return fail(pidfd.error());
  const int fd = pidfd->fd();
  if (Status status = loop_.add(fd, [this, identity] { died(identity); }); !status) return status;
  watched_[key(identity)].pidfd = std::move(*pidfd);
  return {};
}

void Supervisor::unwatch(const ProcessIdentity& identity) {
  const auto watched = watched_.find(key(identity));
  if (watched == watched_.end()) return;
  loop_.remove(watched->second.pidfd.fd());
  watched_.erase(watched);
}

bool Supervisor::holds_anything(const ProcessIdentity& identity) const {
  return std::any_of(queues_.begin(), queues_.end(),
                     [&](const auto& entry) { return entry.second->holds_anything(identity); });
}

void Supervisor::died(const ProcessIdentity& identity) {
  std::optional<u32> status;
  if (const auto watched = watched_.find(key(identity)); watched != watched_.end()) {
    status = exit_status(identity, watched->second.pidfd);
  }
  // Who closed its handles has nothing left, and leaves without a word.
  if (holds_anything(identity)) {
    spdlog::info("pid {} died ({}); what it held is given back", identity.pid,
                 status.has_value() ? exit_text(*status) : "how is not known");
  }
  unwatch(identity);
  for (auto& [name, keeper] : queues_) keeper->owner_died(identity, status);
  for (auto client = clients_.begin(); client != clients_.end();) {
    if (client->second->identity == identity) {
      if (!client->second->greeted) --strangers_;
      loop_.remove(client->first);
      client = clients_.erase(client);
    } else {
      ++client;
    }
  }
}

void Supervisor::kill_stuck(QueueKeeper& keeper) {
  for (const QueueKeeper::StuckConsumer& stuck : keeper.take_stuck()) {
    const auto watched = watched_.find(key(stuck.process));
    if (watched == watched_.end()) continue;
    const std::string what =
        fmt::format("{}: pid {} ({}) holds messages and made no progress for {:.1f} s", keeper.group_text(stuck.group),
                    stuck.process.pid, process_name(stuck.process.pid), static_cast<double>(stuck.standing_ns) / 1e9);
    if (is_traced(stuck.process)) {
      spdlog::warn("{}; it is traced, so somebody looks at it: it is left alone", what);
      continue;
    }
    const Status killed = kill_process(stuck.process, watched->second.pidfd);
    if (!killed) {
      spdlog::error("{}; {}", what, killed.error().text);
      continue;
    }
    keeper.killed_stuck(stuck.group);
    spdlog::warn("{}; it was killed (stuck=kill)", what);
  }
}

// A living process that lost a connection: does it still map the files of its grants for writing? Unreadable counts as
// yes, and so does a likeness in either inode or name: a file system may show other numbers there, a container other
// names. The new image of an exec may have opened handles of its own already, so each file is asked for by itself.
void Supervisor::look_for_exec(const ProcessIdentity& identity) {
  const auto watched = watched_.find(key(identity));
  if (watched == watched_.end()) return;
  watched->second.lost_socket = false;  // one look for each connection that ended
  std::ifstream maps(fmt::format("/proc/{}/maps", identity.pid));
  if (!maps) return;
  std::set<u64> inodes;
  std::string names;
  std::string line;
  bool has_memory = false;
  while (std::getline(maps, line)) {
    has_memory = true;
    // address permissions offset device inode path
    std::istringstream fields(line);
    std::string address, permissions, offset, device, path;
    u64 inode = 0;
    fields >> address >> permissions >> offset >> device >> inode;
    if (!fields || permissions.size() < 4 || permissions[1] != 'w' || permissions[3] != 's') continue;
    std::getline(fields, path);
    inodes.insert(inode);
    names += path + "\n";
  }
  // A process without any memory is on its way out: it closes its sockets behind that. The pidfd will say so.
  if (maps.bad() || !has_memory) return;
  const Result<ProcessIdentity> now = identify_process(identity.pid);
  if (!now || *now != identity) return;  // dying; the pidfd will say so
  u64 dropped = 0;
  for (auto& [name, keeper] : queues_) {
    dropped += keeper->drop_unmapped(identity, [&](u64 inode, const std::string& file) {
      return inodes.contains(inode) || names.find(file + "\n") != std::string::npos;
    });
  }
  if (dropped == 0) return;
  spdlog::info("pid {} lives but no longer maps {} of its lanes and seats (exec): they are given up", identity.pid,
               dropped);
  if (watched->second.connections == 0 && !holds_anything(identity)) unwatch(identity);
}

// --- Requests -------------------------------------------------------------------------------------------------------

Result<Json> Supervisor::handle(Client& client, const Json& request) {
  Result<std::string> op = string_member(request, "op");
  if (!op) return fail(op.error());
  if (*op == "hello") return hello(client, request);
  if (!client.greeted) return fail(Code::kBadArgument, "the first packet of a connection is a hello");
  if (*op == "status") return status();
  if (*op == "shutdown") {
    if (Status allowed = check_admin(client, "shut down this instance"); !allowed) return fail(allowed.error());
    spdlog::info("shutdown asked for by pid {} ({})", client.identity.pid, client.name);
    stopping_.store(true, std::memory_order_release);
    return reply_ok();
  }
  if (*op == "create_queue") return create_queue_request(client, request);
  if (*op == "remove_queue") return remove_queue_request(client, request);

  Result<QueueKeeper*> keeper = keeper_of(request);
  if (!keeper) return fail(keeper.error());
  Json reply = reply_ok();
  if (*op == "create_group" || *op == "remove_group") {
    if (Status allowed = check_admin(client, "change groups"); !allowed) return fail(allowed.error());
    Result<std::string> group = string_member(request, "group");
    if (!group) return fail(group.error());
    if (*op == "remove_group") {
      if (Status status = (*keeper)->remove_group(*group); !status) return fail(status.error());
      return reply;
    }
    Result<u64> mode = number_member(request, "mode", 1, 2);
    if (!mode) return fail(mode.error());
    GroupStart start;
    if (request.contains("start")) {
      Result<u64> at = number_member(request, "start", 0, static_cast<u64>(GroupStart::At::kSeq));
      if (!at) return fail(at.error());
      Result<u64> seq = number_member(request, "seq", 0, ~u64{0});
      if (!seq) return fail(seq.error());
      start = {static_cast<GroupStart::At>(*at), *seq};
    }
    Result<u64> first = (*keeper)->create_group(*group, static_cast<layout::GroupMode>(*mode), start);
    if (!first) return fail(first.error());
    reply["created"] = *first != 0;
    reply["first"] = *first;
    return reply;
  }
  if (*op == "set_group" || *op == "pause_group" || *op == "redrive" || *op == "cancel_redrive" ||
      *op == "purge_dead") {
    if (Status allowed = check_admin(client, "change groups"); !allowed) return fail(allowed.error());
    return group_request(**keeper, *op, request);
  }
  if (*op == "open_producer") {
    if (Status status = watch(client.identity); !status) return fail(status.error());
    Result<LaneGrant> grant = (*keeper)->open_producer(client.identity);
    if (!grant) return fail(grant.error());
    reply["lane"] = grant->lane;
    reply["generation"] = grant->generation;
    // Whose message was a duplicate, and of which one, is read there.
    if (layout::finds_duplicates((*keeper)->constants()) && durable_.has_value()) {
      reply["log"] = durable_->log_path((*keeper)->name());
    }
    return reply;
  }
  if (*op == "open_consumer") {
    Result<std::string> group = string_member(request, "group");
    if (!group) return fail(group.error());
    if (Status status = watch(client.identity); !status) return fail(status.error());
    Result<SeatGrant> grant = (*keeper)->open_consumer(*group, client.identity);
    if (!grant) return fail(grant.error());
    reply["seat"] = grant->seat;
    reply["generation"] = grant->generation;
    reply["group"] = grant->group;
    // Whoever falls behind shared memory reads there.
    if (layout::has_log((*keeper)->constants()) && durable_.has_value()) {
      reply["log"] = durable_->log_path((*keeper)->name());
    }
    return reply;
  }
  if (*op == "close_producer" || *op == "close_consumer") {
    const bool producer = *op == "close_producer";
    Result<u64> index = number_member(request, producer ? "lane" : "seat", 0, ~u32{0});
    if (!index) return fail(index.error());
    Result<u64> generation = number_member(request, "generation", 0, ~u32{0});
    if (!generation) return fail(generation.error());
    const Status status =
        producer ? (*keeper)->close_producer(client.identity, static_cast<u32>(*index), static_cast<u32>(*generation))
                 : (*keeper)->close_consumer(client.identity, static_cast<u32>(*index), static_cast<u32>(*generation));
    if (!status) return fail(status.error());
    return reply;
  }
  return fail(Code::kBadArgument,
              fmt::format("unknown request \"{}\"; client and supervisor are of different versions", *op));
}

// Which dead letters (DeadFilter), from untrusted members.
Result<DeadFilter> Supervisor::dead_filter(const Json& request) {
  DeadFilter filter;
  Result<u64> reason = number_member(request, "reason", 0, kDeadReasonMax);
  if (!reason) return fail(reason.error());
  if (*reason != 0) filter.reason = static_cast<DeadReason>(*reason);
  Result<u64> older = number_member(request, "older_than_ns", 0, ~u64{0});
  if (!older) return fail(older.error());
  filter.older_than_ns = *older;
  Result<u64> limit = number_member(request, "limit", 0, ~u64{0});
  if (!limit) return fail(limit.error());
  filter.limit = *limit;
  const auto seqs = request.find("seqs");
  if (seqs == request.end() || !seqs->is_array() || seqs->size() > kSeqsOfFilterMax) {
    return fail(Code::kBadArgument,
                fmt::format("member \"seqs\" is not a list of {} numbers at most", kSeqsOfFilterMax));
  }
  for (const Json& seq : *seqs) {
    if (!seq.is_number_unsigned()) return fail(Code::kBadArgument, "member \"seqs\" holds what is no number");
    filter.seqs.push_back(seq.get<u64>());
  }
  std::sort(filter.seqs.begin(), filter.seqs.end());
  return filter;
}

Result<Json> Supervisor::group_request(QueueKeeper& keeper, const std::string& op, const Json& request) {
  Result<std::string> group = string_member(request, "group");
  if (!group) return fail(group.error());
  Json reply = reply_ok();
  if (op == "set_group") {
    const auto settings = request.find("settings");
    if (settings == request.end() || !settings->is_object()) {
      return fail(Code::kBadArgument, "set_group: member \"settings\" is not an object");
    }
    std::vector<std::pair<std::string, std::string>> pairs;
    for (const auto& [key, value] : settings->items()) {
      if (!value.is_string()) return fail(Code::kBadArgument, fmt::format("setting {} is not a text", key));
      pairs.emplace_back(key, value.get<std::string>());
    }
    if (Status set = keeper.set_group(*group, pairs); !set) return fail(set.error());
    return reply;
  }
  if (op == "pause_group") {
    Result<bool> pause = bool_member(request, "pause");
    if (!pause) return fail(pause.error());
    if (Status paused = keeper.pause_group(*group, *pause); !paused) return fail(paused.error());
    return reply;
  }
  Result<u64> count = u64{0};
  if (op == "cancel_redrive") {
    count = keeper.cancel_redrive(*group);
  } else {
    Result<DeadFilter> filter = dead_filter(request);
    if (!filter) return fail(filter.error());
    Result<bool> dry_run = bool_member(request, "dry_run");
    if (!dry_run) return fail(dry_run.error());
    if (op == "purge_dead") {
      count = keeper.purge_dead(*group, *filter, *dry_run);
    } else {
      Result<u64> rate = number_member(request, "rate", 0, ~u64{0});
      if (!rate) return fail(rate.error());
      count = keeper.redrive(*group, *filter, *rate, *dry_run);
    }
  }
  if (!count) return fail(count.error());
  reply["count"] = *count;
  return reply;
}

Result<Json> Supervisor::hello(Client& client, const Json& request) {
  Result<u64> protocol = number_member(request, "protocol", 0, ~u32{0});
  if (!protocol) return fail(protocol.error());
  if (*protocol != kControlProtocol) {
    return fail(Code::kVersion, fmt::format("the supervisor speaks control protocol {}, the client {}; use the library "
                                            "of the same release",
                                            kControlProtocol, *protocol));
  }
  Result<bool> membarrier = bool_member(request, "membarrier");
  if (!membarrier) return fail(membarrier.error());
  Result<bool> settled = bool_member(request, "settled");
  if (!settled) return fail(settled.error());
  Result<std::string> name = string_member(request, "name");
  if (!name) return fail(name.error());
  client.name = name->substr(0, 64);
  if (!client.greeted) {
    if (Status status = watch(client.identity); !status) return fail(status.error());
    if (watched_[key(client.identity)].connections >= kConnectionsOfProcessMax) {
      return fail(Code::kNoSeat, fmt::format("pid {} has {} connections to the supervisor already; share one instance "
                                             "handle between threads",
                                             client.identity.pid, kConnectionsOfProcessMax));
    }
    ++watched_[key(client.identity)].connections;
    client.greeted = true;
    --strangers_;
  }
  if (!*membarrier && !fence_mode_) {
    fence_mode_ = true;
    spdlog::warn("pid {} ({}) cannot use membarrier(2): publishers fence from now on", client.identity.pid,
                 client.name);
    for (auto& [queue, keeper] : queues_) keeper->set_fence_mode();
  }
  // Only the process's one connection can tell: another instance handle of it may be opening something just now.
  if (*settled && watched_[key(client.identity)].connections == 1) {
    for (auto& [queue, keeper] : queues_) keeper->drop_untaken(client.identity);
  }
  Json reply = reply_ok();
  reply["protocol"] = kControlProtocol;
  reply["pid"] = ::getpid();
  reply["incarnation"] = incarnation_;
  return reply;
}

Status Supervisor::check_admin(const Client& client, std::string_view what) const {
  if (client.credentials.uid == paths_.owner || client.credentials.uid == 0) return {};
  return fail(Code::kPermission, fmt::format("uid {} may not {}: instance {} belongs to uid {}", client.credentials.uid,
                                             what, paths_.directory, paths_.owner));
}

Result<QueueKeeper*> Supervisor::keeper_of(const Json& request) {
  Result<std::string> name = string_member(request, "queue");
  if (!name) return fail(name.error());
  if (Status status = check_name("queue", *name); !status) return fail(status.error());
  const auto found = queues_.find(*name);
  if (found == queues_.end()) {
    return fail(Code::kNoSuchQueue, fmt::format("instance {} has no queue {}; create it with `mooring create {}`",
                                                paths_.directory, *name, *name));
  }
  if (found->second->failed()) {
    return fail(Code::kCorrupt, fmt::format("queue {} was taken out of service; remove it with `mooring rm {}` and "
                                            "create it again",
                                            *name, *name));
  }
  return found->second.get();
}

Result<Json> Supervisor::create_queue_request(const Client& client, const Json& request) {
  if (Status allowed = check_admin(client, "create queues"); !allowed) return fail(allowed.error());
  Result<std::string> name = string_member(request, "queue");
  if (!name) return fail(name.error());
  if (Status status = check_name("queue", *name); !status) return fail(status.error());
  const auto member = request.find("options");
  if (member == request.end()) return fail(Code::kBadArgument, "create_queue: member \"options\" is missing");
  Result<QueueOptions> options = queue_options_from_json(*member);
  if (!options) return fail(options.error());
  Result<layout::QueueConstants> plan = plan_queue(*name, *options);
  if (!plan) return fail(plan.error());

  Json reply = reply_ok();
  if (const auto found = queues_.find(*name); found != queues_.end()) {
    const layout::QueueConstants& have = found->second->constants();
    const auto differs = [&](std::string_view option, auto has, auto wanted) {
      return fail(Code::kExists, fmt::format("queue {} exists with {} {}, not {}; remove it first, or use it as it is",
                                             *name, option, has, wanted));
    };
    if (have.kind != plan->kind) {
      return differs("kind", have.kind == layout::QueueKind::kSpsc ? "spsc" : "mpmc",
                     plan->kind == layout::QueueKind::kSpsc ? "spsc" : "mpmc");
    }
    if (have.overflow != plan->overflow) {
      const auto text = [](layout::Overflow overflow) {
        if (overflow == layout::Overflow::kSpill) return "spill";
        return overflow == layout::Overflow::kBlock ? "block" : "reject";
      };
      return differs("overflow", text(have.overflow), text(plan->overflow));
    }
    const auto durability = [](const layout::QueueConstants& of) {
      if (of.durability == layout::Durability::kVolatile) return "volatile";
      return of.deliver == layout::Deliver::kEarly ? "durable (deliver early)" : "durable (deliver durable)";
    };
    if (have.durability != plan->durability || have.deliver != plan->deliver) {
      return differs("durability", durability(have), durability(*plan));
    }
    if (have.journal_quota_bytes != plan->journal_quota_bytes) {
      return differs("journal_quota_bytes", have.journal_quota_bytes, plan->journal_quota_bytes);
    }
    if (have.words != plan->words) return differs("capacity", have.words, plan->words);
    if (have.lane_bytes != plan->lane_bytes) return differs("lane_bytes", have.lane_bytes, plan->lane_bytes);
    if (have.max_message_bytes != plan->max_message_bytes) {
      return differs("max_message_bytes", have.max_message_bytes, plan->max_message_bytes);
    }
    if (have.max_backlog_bytes != plan->max_backlog_bytes) {
      return differs("max_backlog_bytes", have.max_backlog_bytes, plan->max_backlog_bytes);
    }
    if (have.dedup_window_ns != plan->dedup_window_ns) {
      return differs("dedup_window_ns", have.dedup_window_ns, plan->dedup_window_ns);
    }
    if (have.dedup_max_messages != plan->dedup_max_messages) {
      return differs("dedup_max_messages", have.dedup_max_messages, plan->dedup_max_messages);
    }
    if (have.lanes_max != plan->lanes_max) return differs("producers_max", have.lanes_max, plan->lanes_max);
    if (have.seats_max != plan->seats_max) return differs("consumers_max", have.seats_max - 1, plan->seats_max - 1);
    if (have.groups_max != plan->groups_max) return differs("groups_max", have.groups_max, plan->groups_max);
    if (have.file_mode != plan->file_mode)
      return differs("mode (octal)", fmt::format("{:o}", have.file_mode), fmt::format("{:o}", plan->file_mode));
    reply["created"] = false;
    return reply;
  }
  const bool durable = layout::has_log(*plan);
  if (durable) {
    // The log first: what it says becomes the shared memory.
    if (Status status = make_durable(*name, *options); !status) return fail(status.error());
  } else if (Status status = create_queue(shared_directory_, *plan, options->group_id); !status) {
    return fail(status.error());
  }
  MOORING_KILL_POINT("supervisor.queue_created");
  std::vector<ProcessIdentity> owners;
  Result<std::unique_ptr<QueueKeeper>> keeper = open_queue(*name, durable, &owners);  // makes the group "default"
  if (keeper) {
    if (Status written = (*keeper)->write_groups(); !written) keeper = fail(written.error());
  }
  if (!keeper) {
    (void)remove_queue(shared_directory_, *name);
    if (durable) (void)durable_->remove(*name);
    return fail(keeper.error());
  }
  if (fence_mode_) (*keeper)->set_fence_mode();
  queues_[*name] = std::move(*keeper);
  reply["created"] = true;
  return reply;
}

Status Supervisor::make_durable(const std::string& name, const QueueOptions& options) {
  if (Status status = open_durable_queues(/*create=*/true); !status) return status;
  Result<std::shared_ptr<Queue>> left = Queue::attach(shared_directory_, paths_.owner, name, /*as_supervisor=*/true);
  if (left && !(*left)->has_log()) {
    return fail(Code::kExists, fmt::format("shared memory of a volatile queue {} is left over in {}; remove it first "
                                           "(`mooring rm {}`)",
                                           name, paths_.shared_directory, name));
  }
  if (left) {
    // Killed between the two halves of a removal. (Or MOORING_DATA was another: then the log there has all that was
    // acknowledged.)
    (*left).reset();
    if (Status removed = remove_queue(shared_directory_, name); !removed) return removed;
  }
  Result<std::array<u8, 16>> uuid = random_uuid();
  if (!uuid) return fail(uuid.error());
  return durable_->create({name, *uuid, options});
}

Result<Json> Supervisor::remove_queue_request(const Client& client, const Json& request) {
  if (Status allowed = check_admin(client, "remove queues"); !allowed) return fail(allowed.error());
  Result<std::string> name = string_member(request, "queue");
  if (!name) return fail(name.error());
  if (Status status = check_name("queue", *name); !status) return fail(status.error());
  if (const auto found = queues_.find(*name); found != queues_.end()) {
    found->second->mark_removed();
    queues_.erase(found);
  }
  // The log first: without it a durable queue is none, whatever a crash leaves of the memory.
  bool had_log = false;
  if (durable_.has_value()) {
    Result<bool> removed = durable_->remove(*name);
    if (!removed) return fail(removed.error());
    had_log = *removed;
  }
  // Also one that cannot be served (damaged files): removing it is the way out.
  if (Status status = remove_queue(shared_directory_, *name);
      !status && !(had_log && status.error().code == Code::kNoSuchQueue)) {
    return fail(status.error());
  }
  return reply_ok();
}

Json Supervisor::status() const {
  Json reply = reply_ok();
  reply["pid"] = ::getpid();
  reply["instance"] = paths_.directory;
  reply["uptime_seconds"] = static_cast<double>(monotonic_ns() - started_ns_) / 1e9;
  reply["connections"] = clients_.size();
  reply["watched_processes"] = watched_.size();
  reply["queues"] = Json::array();
  for (const auto& [name, keeper] : queues_) {
    const QueueKeeper::Counts counts = keeper->counts();
    if (reply["queues"].size() < 256) {  // a reply fits one packet; `mooring ls` reads the files themselves
      reply["queues"].push_back({{"name", name},
                                 {"producers", counts.producers},
                                 {"consumers", counts.consumers},
                                 {"parked", counts.parked},
                                 {"failed", keeper->failed()}});
    }
  }
  reply["queue_count"] = queues_.size();
  return reply;
}

}  // namespace mooring
