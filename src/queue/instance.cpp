#include "queue/instance.hpp"

#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/atomics.hpp"
#include "platform/futex.hpp"
#include "platform/local_socket.hpp"
#include "platform/process.hpp"
#include "queue/queue.hpp"

namespace mooring {
namespace {

constexpr int kExitTaken = 3;  // mooringd: another one serves this instance
constexpr int kConnectAttempts = 3;
constexpr u64 kStartLeastNs = 5 * kNsPerSecond;

// Where mooringd is: MOORING_MOORINGD, else beside this library or program or in the bin of its prefix (libraries lie
// in lib, or in lib/<triple>), else in PATH.
std::string supervisor_program() {
  if (const char* named = std::getenv("MOORING_MOORINGD"); named != nullptr && *named != '\0') return named;
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(&membarrier_register), &info) != 0 && info.dli_fname != nullptr) {
    std::error_code ignored;
    std::filesystem::path self = std::filesystem::canonical(info.dli_fname, ignored);
    if (ignored) self = std::filesystem::read_symlink("/proc/self/exe", ignored);
    for (const char* place : {"mooringd", "../bin/mooringd", "../../bin/mooringd"}) {
      const std::filesystem::path candidate = self.parent_path() / place;
      if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    }
  }
  return "mooringd";
}

}  // namespace

Result<std::shared_ptr<Instance>> Instance::open(const Options& options) {
  std::shared_ptr<Instance> instance(new Instance);
  instance->options_ = options;
  const char* autostart = std::getenv("MOORING_AUTOSTART");
  if (autostart != nullptr && *autostart != '\0' && *autostart != '0') instance->options_.autostart = true;

  Result<InstancePaths> paths = resolve_instance(options.path, instance->options_.autostart);
  if (!paths) return fail(paths.error());
  instance->paths_ = std::move(*paths);
  Result<File> directory = open_directory(instance->paths_.directory);
  if (!directory) return fail(directory.error());
  instance->directory_ = std::move(*directory);

  void* page = ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return fail(Code::kNoMemory, "cannot map a page for the fork check");
  if (::madvise(page, kPageBytes, MADV_WIPEONFORK) != 0) {
    ::munmap(page, kPageBytes);
    return fail(Code::kVersion, "this kernel has no MADV_WIPEONFORK (Linux 4.14); Mooring needs Linux 6.1");
  }
  *static_cast<u8*>(page) = 1;
  instance->alive_ = static_cast<const u8*>(page);

  instance->membarrier_ = membarrier_register();
  const std::lock_guard lock(instance->mutex_);
  if (Status status = instance->connect(/*for_opening=*/false); !status) return fail(status.error());
  return instance;
}

Instance::~Instance() {
  if (alive_ != nullptr) ::munmap(const_cast<u8*>(alive_), kPageBytes);
}

Status Instance::connect(bool for_opening) {
  for (int attempt = 0;; ++attempt) {
    Result<File> socket = reach_supervisor();
    if (!socket) return fail(socket.error());
    const Status greeted = greet(*socket, for_opening);
    if (greeted) {
      socket_ = std::move(*socket);
      return {};
    }
    // It left (idle) or was killed between our connect and its accept: perhaps there is another one, or none.
    if (greeted.error().code != Code::kClosed || attempt == kConnectAttempts) return greeted;
  }
}

// A connection to the supervisor, started if it is not there and autostart is on.
Result<File> Instance::reach_supervisor() {
  const u64 deadline_ns = deadline_after(monotonic_ns(), std::max(options_.request_timeout_ns, kStartLeastNs));
  u64 pause_ns = kNsPerMs;
  for (;;) {
    Result<File> socket = connect_local(directory_, std::string(kControlSocketName), options_.request_timeout_ns);
    if (socket || socket.error().code != Code::kNoSupervisor || !options_.autostart) return socket;
    bool taken = false;
    if (Status status = start_supervisor(&taken); !status) return fail(status.error());
    if (!taken) continue;
    if (monotonic_ns() >= deadline_ns) {
      return fail(Code::kNoSupervisor,
                  fmt::format("a mooringd holds the lock of {} but does not listen; is it stopped? "
                              "Its process number is in {}/mooringd.pid",
                              paths_.directory, paths_.directory));
    }
    // Nothing tells us when it listens, or has let go of the lock.
    const timespec pause{0, static_cast<long>(pause_ns)};
    ::nanosleep(&pause, nullptr);
    pause_ns = std::min(pause_ns * 2, 50 * kNsPerMs);
  }
}

Status Instance::greet(const File& socket, bool for_opening) {
  const Json hello = {{"op", "hello"},
                      {"protocol", kControlProtocol},
                      {"membarrier", membarrier_},
                      {"settled", openings_.load(std::memory_order_acquire) == (for_opening ? 1 : 0)},
                      {"name", process_name(static_cast<u32>(::getpid()))}};
  if (Status status =
          send_message(socket, hello.dump(-1, ' ', false, Json::error_handler_t::replace), options_.request_timeout_ns);
      !status) {
    return status;
  }
  Result<std::string> packet = receive_message(socket, kControlPacketBytesMax, options_.request_timeout_ns);
  if (!packet) return fail(packet.error());
  Result<Json> json = parse_packet(*packet);
  if (!json) return fail(json.error());
  Result<Json> reply = check_reply(std::move(*json));
  if (!reply) return fail(reply.error());
  if (!shared_directory_.is_open()) {
    Result<File> shared = open_shared_directory(paths_.shared_directory, paths_.owner, /*create=*/false);
    if (!shared) return fail(shared.error());
    Result<Mapping> bell = map_bell(*shared, paths_.owner);
    if (!bell) return fail(bell.error());
    shared_directory_ = std::move(*shared);
    bell_ = std::move(*bell);
  }
  return {};
}

Status Instance::start_supervisor(bool* taken) {
  int exit_code = 0;
  std::string said;
  const std::string program = supervisor_program();
  Status status = spawn_and_wait({program, "--instance", paths_.directory, "--background", "--exit-when-idle"}, {},
                                 &exit_code, &said, 10 * kNsPerSecond);
  if (!status) {
    return fail(Code::kNoSupervisor,
                fmt::format("cannot start {} for {}: {}; install it, or name it in MOORING_MOORINGD", program,
                            paths_.directory, status.error().text));
  }
  // Another client started one at the same moment, or one is just leaving: ours says so and leaves, and that is fine.
  // Unknown where the host waits for all its children itself; then what we can connect to decides.
  *taken = exit_code == kExitTaken || exit_code == kExitUnknown;
  if (exit_code != 0 && !*taken) {
    return fail(Code::kNoSupervisor,
                fmt::format("{} for {} ended with status {}: {}", program, paths_.directory, exit_code, said));
  }
  return {};
}

Result<Json> Instance::request(const Json& request, const Opening* opening) {
  if (is_forked()) return fail(Code::kForked, "this instance was opened by the parent process; open one of your own");
  const std::lock_guard lock(mutex_);
  // A connection that broke is made again once: the supervisor may have been replaced since the last request.
  for (int attempt = 0;; ++attempt) {
    const bool fresh = !socket_.is_open();
    if (fresh) {
      if (Status status = connect(opening != nullptr); !status) return fail(status.error());
    }
    // Names are the caller's, and not necessarily UTF-8.
    Status sent = send_message(socket_, request.dump(-1, ' ', false, Json::error_handler_t::replace),
                               options_.request_timeout_ns);
    if (!sent) {
      socket_.close();
      if (!fresh && attempt == 0 && sent.error().code == Code::kClosed) continue;
      return fail(sent.error());
    }
    Result<std::string> packet = receive_message(socket_, kControlPacketBytesMax, options_.request_timeout_ns);
    if (!packet) {
      // What the supervisor did is not known now; every request may be repeated safely, but not by us behind the
      // caller's back if the time is over.
      socket_.close();
      if (!fresh && attempt == 0 && packet.error().code == Code::kClosed) continue;
      return fail(packet.error());
    }
    Result<Json> json = parse_packet(*packet);
    if (!json) {
      socket_.close();
      return fail(json.error());
    }
    return check_reply(std::move(*json));
  }
}

Result<std::shared_ptr<Queue>> Instance::attach(const std::string& name) {
  const std::lock_guard lock(mutex_);
  if (auto found = queues_.find(name); found != queues_.end()) {
    if (auto queue = found->second.lock(); queue != nullptr && queue->is_current()) return queue;
    queues_.erase(found);
  }
  Result<std::shared_ptr<Queue>> queue = Queue::attach(shared_directory_, paths_.owner, name);
  if (!queue) return fail(queue.error());
  queues_[name] = *queue;
  return queue;
}

void Instance::ring_bell() const {
  auto* bell = reinterpret_cast<layout::BellHead*>(bell_.data());
  HardwareAtomics::add(bell->futex, 1U, std::memory_order_seq_cst);
  // BELL: seq_cst on both sides: the supervisor stores `listening`, then loads `futex`; we add, then load `listening`.
  if (HardwareAtomics::load(bell->listening, std::memory_order_seq_cst) != 0) futex_wake(&bell->futex, 1);
}

}  // namespace mooring
