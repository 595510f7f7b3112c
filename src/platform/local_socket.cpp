#include "platform/local_socket.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "platform/process.hpp"

namespace mooring {
namespace {

constexpr int kBacklog = 128;

// From the kernel's include/uapi/asm-generic/socket.h; Debian 12 has headers of Linux 6.1, which lack it.
#ifdef SO_PEERPIDFD
constexpr int kPeerPidfdOption = SO_PEERPIDFD;
#else
constexpr int kPeerPidfdOption = 77;
#endif

Result<sockaddr_un> address_of(const File& dir, const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = "/proc/self/fd/" + std::to_string(dir.fd()) + "/" + name;
  if (name.empty() || name.find('/') != std::string::npos || name.find('\0') != std::string::npos ||
      path.size() >= sizeof(address.sun_path)) {
    return fail(Code::kBadArgument,
                "\"" + name + "\" cannot be the name of a socket; give a short name without a slash");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

const sockaddr* as_sockaddr(const sockaddr_un& address) { return reinterpret_cast<const sockaddr*>(&address); }

bool proc_is_mounted(const File& dir) {
  struct stat info {};
  return ::stat(("/proc/self/fd/" + std::to_string(dir.fd())).c_str(), &info) == 0;
}

tl::unexpected<Error> fail_proc() {
  return fail(Code::kIo, "/proc is not mounted, or not for this pid namespace; mooring needs it to reach its socket");
}

tl::unexpected<Error> fail_closed() { return fail(Code::kClosed, "the other side has closed the connection"); }

// False when the deadline has passed first.
Result<bool> wait_for(const File& socket, short events, u64 deadline_ns) {
  while (true) {
    const u64 now_ns = monotonic_ns();
    const u64 left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    timespec left{};
    left.tv_sec = static_cast<time_t>(left_ns / kNsPerSecond);
    left.tv_nsec = static_cast<long>(left_ns % kNsPerSecond);
    pollfd ready{socket.fd(), events, 0};
    const int count = ::ppoll(&ready, 1, deadline_ns == kForever ? nullptr : &left, nullptr);
    if (count > 0) return true;
    if (count == 0) return false;
    if (errno != EINTR) return fail_errno(errno, "cannot wait for a socket");
  }
}

// Mode and group of the socket file, through a descriptor, so that no link can come between.
Status set_socket_mode(const File& dir, const std::string& name, mode_t mode, gid_t gid) {
  const File file(::openat(dir.fd(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!file.is_open()) return fail_errno(errno, "cannot open " + path_text(dir, name));
  return set_group_and_mode(file, mode, gid, path_text(dir, name));
}

}  // namespace

Result<File> listen_local(const File& dir, const std::string& name, mode_t mode, gid_t gid) {
  // Bound under a name of its own and renamed when it listens. What a killed listener left there is unlinked first.
  if (const auto good = address_of(dir, name); !good) return fail(good.error());
  const std::string unready = name + ".new";
  const auto address = address_of(dir, unready);
  if (!address) return fail(address.error());
  const std::string path = path_text(dir, name);

  struct stat info {};
  if (::fstatat(dir.fd(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISSOCK(info.st_mode)) {
    return fail(Code::kExists, path + " is there and is not a socket; remove it by hand");
  }
  File listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.is_open()) return fail_errno(errno, "cannot make a socket");
  if (::unlinkat(dir.fd(), unready.c_str(), 0) != 0 && errno != ENOENT) {
    return fail_errno(errno, "cannot remove the stale socket " + path_text(dir, unready));
  }
  // On Linux the file gets the mode of the socket: nobody connects before the mode is as asked for.
  if (::fchmod(listener.fd(), 0600) != 0) return fail_errno(errno, "cannot set the mode of a socket");
  if (::bind(listener.fd(), as_sockaddr(*address), sizeof(*address)) != 0) {
    const int error_number = errno;
    if (!proc_is_mounted(dir)) return fail_proc();
    return fail_errno(error_number, "cannot bind the socket " + path);
  }
  Status done = set_socket_mode(dir, unready, mode, gid);
  if (done && ::listen(listener.fd(), kBacklog) != 0) done = fail_errno(errno, "cannot listen at " + path);
  if (done && ::renameat(dir.fd(), unready.c_str(), dir.fd(), name.c_str()) != 0) {
    done = fail_errno(errno, "cannot put the socket at " + path);
  }
  if (!done) {
    ::unlinkat(dir.fd(), unready.c_str(), 0);
    return fail(done.error());
  }
  return listener;
}

Result<File> accept_local(const File& listener) {
  File socket;
  do {
    socket = File(::accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  } while (!socket.is_open() && errno == EINTR);
  if (socket.is_open()) return socket;
  if (errno == EAGAIN || errno == ECONNABORTED) return fail(Code::kEmpty, "nobody is waiting to be accepted");
  return fail_errno(errno, "cannot accept a connection");
}

Result<File> connect_local(const File& dir, const std::string& name, u64 timeout_ns) {
  const auto address = address_of(dir, name);
  if (!address) return fail(address.error());
  File socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) return fail_errno(errno, "cannot make a socket");
  // The send timeout is what bounds a connect while the backlog of a stopped supervisor is full. 0 would be no limit.
  const u64 limit_us = std::clamp<u64>(timeout_ns / kNsPerUs, 1, u64{1} << 50);
  timeval limit{};
  limit.tv_sec = static_cast<time_t>(limit_us / 1'000'000);
  limit.tv_usec = static_cast<suseconds_t>(limit_us % 1'000'000);
  if (::setsockopt(socket.fd(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0) {
    return fail_errno(errno, "cannot set the timeout of a socket");
  }
  int outcome = 0;
  do {
    outcome = ::connect(socket.fd(), as_sockaddr(*address), sizeof(*address));
  } while (outcome != 0 && errno == EINTR);
  if (outcome != 0) {
    const int error_number = errno;
    if (error_number == ENOENT || error_number == ECONNREFUSED) {
      if (!proc_is_mounted(dir)) return fail_proc();
      const std::string instance = path_text(dir);
      return fail(Code::kNoSupervisor, "no supervisor is running for " + instance + "; start one with `mooringd " +
                                           "--instance " + instance + "` or set MOORING_AUTOSTART=1");
    }
    if (error_number == EAGAIN) {
      return fail(Code::kTimeout, "the supervisor of " + path_text(dir) + " does not answer; is it stopped?");
    }
    return fail_errno(error_number, "cannot connect to " + path_text(dir, name));
  }
  // From here on both sides are alike: no call blocks but in wait_for().
  const int flags = ::fcntl(socket.fd(), F_GETFL);
  if (flags < 0 || ::fcntl(socket.fd(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return fail_errno(errno, "cannot set a socket non-blocking");
  }
  return socket;
}

Result<PeerCredentials> peer_credentials(const File& socket) {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (::getsockopt(socket.fd(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return fail_errno(errno, "cannot ask who is at the other end of a socket");
  }
  return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

Result<File> open_peer_pidfd(const File& socket) {
  int pidfd = -1;
  socklen_t size = sizeof(pidfd);
  if (::getsockopt(socket.fd(), SOL_SOCKET, kPeerPidfdOption, &pidfd, &size) == 0) return File(pidfd);
  const auto peer = peer_credentials(socket);
  if (!peer) return fail(peer.error());
  if (peer->pid <= 0) {
    return fail(Code::kPermission,
                "the process at the other end of a socket lives in a pid namespace that cannot be "
                "seen from here; run client and supervisor in one pid namespace");
  }
  const auto identity = identify_process(static_cast<u32>(peer->pid));
  if (!identity) return fail(identity.error());
  auto opened = open_pidfd(*identity);
  if (!opened) return opened;
  // Still connected after the pidfd was opened: then the number was not free in between.
  pollfd hangup{socket.fd(), POLLRDHUP, 0};
  if (::poll(&hangup, 1, 0) == 1) return fail_closed();
  return opened;
}

Status send_message(const File& socket, std::string_view message, u64 timeout_ns) {
  if (message.empty()) return fail(Code::kBadArgument, "an empty message cannot be sent");
  const u64 deadline_ns = deadline_after(monotonic_ns(), timeout_ns);
  while (::send(socket.fd(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    if (errno == EINTR) continue;
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) return fail_closed();
    if (errno == EMSGSIZE) {
      return fail(Code::kTooBig,
                  "a message of " + std::to_string(message.size()) + " bytes does not fit the socket; send less");
    }
    if (errno != EAGAIN && errno != ENOBUFS) return fail_errno(errno, "cannot send a message");
    const auto writable = wait_for(socket, POLLOUT, deadline_ns);
    if (!writable) return fail(writable.error());
    if (!*writable || monotonic_ns() >= deadline_ns) {
      return fail(Code::kTimeout, "the other side of the socket does not read; is it stopped?");
    }
  }
  return {};
}

Result<std::string> receive_message(const File& socket, std::size_t max_bytes, u64 timeout_ns) {
  const u64 deadline_ns = deadline_after(monotonic_ns(), timeout_ns);
  std::string message(std::max<std::size_t>(max_bytes, 1), '\0');
  while (true) {
    iovec part{message.data(), message.size()};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    const ssize_t got = ::recvmsg(socket.fd(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got >= 0) {
      if ((header.msg_flags & MSG_TRUNC) != 0) {
        return fail(Code::kTooBig, "a message of more than " + std::to_string(max_bytes) + " bytes arrived; refused");
      }
      if (got == 0) return fail_closed();
      message.resize(static_cast<std::size_t>(got));
      return message;
    }
    if (errno == EINTR) continue;
    if (errno == ECONNRESET || errno == ENOTCONN) return fail_closed();
    if (errno != EAGAIN) return fail_errno(errno, "cannot receive a message");
    const auto readable = wait_for(socket, POLLIN, deadline_ns);
    if (!readable) return fail(readable.error());
    if (!*readable) return fail(Code::kTimeout, "no message arrived in time");
  }
}

}  // namespace mooring
