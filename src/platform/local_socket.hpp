// Messages between processes of this host: AF_UNIX, SOCK_SEQPACKET. One send is one message, and a half one is
// never seen. The supervisor's slow path (connect, create, grants) runs over it.
//
// Addresses are given as a directory and a name and go through /proc/self/fd, so that a long instance path does not
// meet the 108 bytes of a socket address. No call raises SIGPIPE and none waits without a limit. Descriptors that a
// peer attaches to a message are thrown away by the kernel, since nobody here asks for them.
//
// Codes: kClosed the peer has gone, kTimeout the time is over, kTooBig a message that does not fit, kNoSupervisor
// nobody listens.
//
// TESTED BY  platform/local_socket_test
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "base/time.hpp"
#include "platform/file.hpp"

namespace mooring {

inline constexpr u64 kSocketTimeoutNs = 5 * kNsPerSecond;

struct PeerCredentials {
  pid_t pid = 0;  // of the process that connected; 0 if it lives in a pid namespace that is not below ours
  uid_t uid = 0;
  gid_t gid = 0;
};

// Listens at `name`, with exactly `mode` and, if given, the group. Takes the place of a socket that is there already,
// at once and without a moment in which nobody listens: the caller holds the instance lock, so that one is stale.
// Anything but a socket under that name is kExists. The listener does not block.
Result<File> listen_local(const File& dir, const std::string& name, mode_t mode, gid_t gid = kAnyGroup);
// kEmpty when nobody is waiting to be accepted.
Result<File> accept_local(const File& listener);

Result<File> connect_local(const File& dir, const std::string& name, u64 timeout_ns = kSocketTimeoutNs);

Result<PeerCredentials> peer_credentials(const File& socket);
// A pidfd of the process that connected: from the socket itself (Linux 6.5), else by its number, which the kernel may
// have given to another process if the peer has died meanwhile. Then kClosed, wherever that can be seen.
Result<File> open_peer_pidfd(const File& socket);

// An empty message is kBadArgument: the receiver could not tell it from the end.
Status send_message(const File& socket, std::string_view message, u64 timeout_ns = kSocketTimeoutNs);
// With a timeout of 0 it takes what is there. A longer message is gone afterwards, and an error.
Result<std::string> receive_message(const File& socket, std::size_t max_bytes, u64 timeout_ns);

}  // namespace mooring
