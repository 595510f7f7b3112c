// Shows that messages arrive whole or as an error, that no peer can hold us up or kill us, and that each way of
// having no supervisor gives the sentence that helps. Both ends in one process, except where it matters who connects.

#include "platform/local_socket.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <cstring>
#include <filesystem>

#include "platform/process.hpp"
#include "scratch.hpp"

namespace mooring {
namespace {

// A listener and the two ends of one connection.
struct Connection {
  Connection() {
    listener = take(listen_local(scratch.dir(), "control", 0600));
    client = take(connect_local(scratch.dir(), "control"));
    server = take(accept_local(listener));
  }
  ScratchDirectory scratch;
  File listener;
  File client;
  File server;
};

mode_t mode_of(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(::lstat(path.c_str(), &info), 0);
  return info.st_mode & 07777;
}

TEST(LocalSocket, CarriesWholeMessagesBothWays) {
  Connection connection;
  MOORING_EXPECT_OK(send_message(connection.client, "one"));
  MOORING_EXPECT_OK(send_message(connection.client, std::string(60000, 'x')));
  MOORING_EXPECT_OK(send_message(connection.server, "answer"));
  EXPECT_EQ(take(receive_message(connection.server, 65536, 0)), "one");
  EXPECT_EQ(take(receive_message(connection.server, 65536, 0)), std::string(60000, 'x'));
  EXPECT_EQ(take(receive_message(connection.client, 65536, 0)), "answer");
}

TEST(LocalSocket, WorksBelowALongPath) {
  ScratchDirectory scratch;
  const std::string path = scratch.path(std::string(100, 'd') + "/" + std::string(100, 'e'));
  ASSERT_TRUE(std::filesystem::create_directories(path));
  const File dir = take(open_directory(path));
  const File listener = take(listen_local(dir, "control", 0600));
  const File client = take(connect_local(dir, "control"));
  MOORING_EXPECT_OK(accept_local(listener));
}

TEST(LocalSocket, HasExactlyTheModeWhateverTheUmask) {
  ScratchDirectory scratch;
  const mode_t before = ::umask(0777);
  const auto listener = listen_local(scratch.dir(), "control", 0660);
  ::umask(before);
  MOORING_EXPECT_OK(listener);
  EXPECT_EQ(mode_of(scratch.path("control")), 0660U);
  EXPECT_EQ(take(list_directory(scratch.dir())), std::vector<std::string>{"control"});
}

TEST(LocalSocket, TakesThePlaceOfAStaleOne) {
  ScratchDirectory scratch;
  { const File dead = take(listen_local(scratch.dir(), "control", 0600)); }
  MOORING_EXPECT_FAILS(connect_local(scratch.dir(), "control"), Code::kNoSupervisor, "no supervisor");
  // And of one that was killed before it was ready.
  ASSERT_EQ(::mknod(scratch.path("control.new").c_str(), S_IFSOCK | 0600, 0), 0);
  const File listener = take(listen_local(scratch.dir(), "control", 0600));
  MOORING_EXPECT_OK(connect_local(scratch.dir(), "control"));
}

TEST(LocalSocket, DoesNotReplaceWhatIsNoSocket) {
  ScratchDirectory scratch;
  MOORING_EXPECT_OK(write_whole_file(scratch.dir(), "control", "precious", 0600));
  MOORING_EXPECT_FAILS(listen_local(scratch.dir(), "control", 0600), Code::kExists, scratch.path("control"));
  EXPECT_EQ(take(read_whole_file(scratch.dir(), "control", 100)), "precious");
}

TEST(LocalSocket, NamesThatDoNotFitAreRefused) {
  ScratchDirectory scratch;
  for (const std::string& name : {std::string(), std::string("a/b"), std::string(200, 'a')}) {
    MOORING_EXPECT_FAILS(listen_local(scratch.dir(), name, 0600), Code::kBadArgument, "socket");
    MOORING_EXPECT_FAILS(connect_local(scratch.dir(), name), Code::kBadArgument, "socket");
  }
}

TEST(LocalSocket, WithoutASupervisorSaysHowToStartOne) {
  ScratchDirectory scratch;
  MOORING_EXPECT_FAILS(connect_local(scratch.dir(), "control"), Code::kNoSupervisor,
                       "mooringd --instance " + scratch.path());
  MOORING_EXPECT_FAILS(connect_local(scratch.dir(), "control"), Code::kNoSupervisor, "MOORING_AUTOSTART=1");
}

TEST(LocalSocket, StoppedSupervisorWithAFullBacklogIsATimeout) {
  ScratchDirectory scratch;
  const File listener = take(listen_local(scratch.dir(), "control", 0600));
  std::vector<File> waiting;
  while (true) {
    auto client = connect_local(scratch.dir(), "control", kNsPerMs);
    if (!client) {
      EXPECT_EQ(client.error().code, Code::kTimeout) << client.error().text;
      break;
    }
    waiting.push_back(std::move(*client));
    ASSERT_LT(waiting.size(), 5000U);
  }
}

TEST(LocalSocket, AcceptDoesNotWait) {
  ScratchDirectory scratch;
  const File listener = take(listen_local(scratch.dir(), "control", 0600));
  MOORING_EXPECT_FAILS(accept_local(listener), Code::kEmpty, "nobody");
}

TEST(LocalSocket, TooLongMessageIsAnErrorAndTheNextOneArrives) {
  Connection connection;
  MOORING_EXPECT_OK(send_message(connection.client, "12345"));
  MOORING_EXPECT_OK(send_message(connection.client, "1234"));
  MOORING_EXPECT_FAILS(receive_message(connection.server, 4, 0), Code::kTooBig, "more than 4 bytes");
  EXPECT_EQ(take(receive_message(connection.server, 4, 0)), "1234");
}

TEST(LocalSocket, MessageThatFitsNoSocketIsRefusedBySend) {
  Connection connection;
  MOORING_EXPECT_FAILS(send_message(connection.client, std::string(64 << 20, 'x')), Code::kTooBig, "67108864");
  MOORING_EXPECT_FAILS(send_message(connection.client, ""), Code::kBadArgument, "empty");
}

TEST(LocalSocket, SilenceIsATimeout) {
  Connection connection;
  MOORING_EXPECT_FAILS(receive_message(connection.server, 100, 0), Code::kTimeout, "in time");
  MOORING_EXPECT_FAILS(receive_message(connection.server, 100, kNsPerMs), Code::kTimeout, "in time");
}

TEST(LocalSocket, PeerThatDoesNotReadIsATimeout) {
  Connection connection;
  Status sent;
  for (int i = 0; i < 10000 && sent; ++i) sent = send_message(connection.server, std::string(1000, 'x'), 0);
  MOORING_EXPECT_FAILS(sent, Code::kTimeout, "does not read");
}

TEST(LocalSocket, PeerThatLeftIsClosedAndNoSignal) {
  Connection connection;
  MOORING_EXPECT_OK(send_message(connection.client, "last words"));
  connection.client = File();
  EXPECT_EQ(take(receive_message(connection.server, 100, kForever)), "last words");
  MOORING_EXPECT_FAILS(receive_message(connection.server, 100, kForever), Code::kClosed, "closed");
  MOORING_EXPECT_FAILS(send_message(connection.server, "hello?"), Code::kClosed, "closed");
}

TEST(LocalSocket, KilledPeerEndsAWaitingReceive) {
  Connection connection;
  Signal ready;
  Child child([&]() -> int {
    connection.server = File();
    ready.notify();
    wait_to_be_killed();
  });
  ready.wait();
  connection.client = File();  // Only the child has this end now.
  child.kill(SIGKILL);
  MOORING_EXPECT_FAILS(receive_message(connection.server, 100, kForever), Code::kClosed, "closed");
}

TEST(LocalSocket, AttachedDescriptorsAreThrownAway) {
  Connection connection;
  char byte = 'x';
  iovec part{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  cmsghdr* const attached = CMSG_FIRSTHDR(&header);
  attached->cmsg_level = SOL_SOCKET;
  attached->cmsg_type = SCM_RIGHTS;
  attached->cmsg_len = CMSG_LEN(sizeof(int));
  const int sent_fd = connection.listener.fd();
  std::memcpy(CMSG_DATA(attached), &sent_fd, sizeof(sent_fd));
  ASSERT_EQ(::sendmsg(connection.client.fd(), &header, 0), 1);

  const auto count_descriptors = [] { return take(list_directory(take(open_directory("/proc/self/fd/")))).size(); };
  const std::size_t before = count_descriptors();
  EXPECT_EQ(take(receive_message(connection.server, 100, 0)), "x");
  EXPECT_EQ(count_descriptors(), before);
}

TEST(LocalSocket, KnowsWhoConnected) {
  ScratchDirectory scratch;
  const File listener = take(listen_local(scratch.dir(), "control", 0600));
  Signal connected;
  Child child([&]() -> int {
    const File client = take(connect_local(scratch.dir(), "control"));
    connected.notify();
    wait_to_be_killed();
  });
  connected.wait();
  const File server = take(accept_local(listener));
  const PeerCredentials peer = take(peer_credentials(server));
  EXPECT_EQ(peer.pid, child.pid());
  EXPECT_EQ(peer.uid, ::geteuid());
  EXPECT_EQ(peer.gid, ::getegid());
  const File pidfd = take(open_peer_pidfd(server));
  EXPECT_FALSE(pidfd_is_dead(pidfd));
  child.kill(SIGKILL);
  child.wait();
  EXPECT_TRUE(pidfd_is_dead(pidfd));
}

}  // namespace
}  // namespace mooring
