#include "queue/instance.hpp"

#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/mman.h>
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

// Where mooringd is: MOORING_MOORINGD, else beside this library or program, else in PATH.
std::string supervisor_program() {
  if (const char* named = std::getenv("MOORING_MOORINGD"); named != nullptr && *named != '\0') return named;
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(&membarrier_register), &info) != 0 && info.dli_fname != nullptr) {
    std::error_code ignored;
    std::filesystem::path self = std::filesystem::canonical(info.dli_fname, ignored);
    if (ignored) self = std::filesystem::read_symlink("/proc/self/exe", ignored);
    for (const char* place : {"mooringd", "../bin/mooringd"}) {
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
  Result<File> socket = connect_local(directory_, std::string(kControlSocketName), options_.request_timeout_ns);
  if (!socket && socket.error().code == Code::kNoSupervisor && options_.autostart) {
    if (Status status = start_supervisor(); !status) return status;
    socket = connect_local(directory_, std::string(kControlSocketName), options_.request_timeout_ns);
  }
  if (!socket) return fail(socket.error());
  const Json hello = {{"op", "hello"},
                      {"protocol", kControlProtocol},
                      {"membarrier", membarrier_},
                      {"settled", openings_.load(std::memory_order_acquire) == (for_opening ? 1 : 0)},
                      {"name", process_name(static_cast<u32>(::getpid()))}};
  if (Status status = send_message(*socket, hello.dump(), options_.request_timeout_ns); !status) return status;
  Result<std::string> packet = receive_message(*socket, kControlPacketBytesMax, options_.request_timeout_ns);
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
  socket_ = std::move(*socket);
  return {};
}

Status Instance::start_supervisor() {
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
  // Another client may have started one at the same moment: then ours says so and leaves, and that is fine.
  if (exit_code != 0 && exit_code != kExitUnknown) {
    Result<File> other = connect_local(directory_, std::string(kControlSocketName), options_.request_timeout_ns);
    if (other) return {};
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
    Status sent = send_message(socket_, request.dump(), options_.request_timeout_ns);
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
