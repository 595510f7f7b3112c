// The audit of what the programs ask of the kernel: strace watches mooringd and the command line from the first start
// on, and the trace is read for the order of things.
//
//   an acknowledgement (what `mooring publish` prints when it was told, what it writes to --progress-file) comes after
//     a flush of the file that holds the message, begun after the last write of it had ended; and that file stood under
//     its name in a directory that was synced since
//   a queue is said to be there after its directory, its queue.json and every directory above that mooringd made are
//
// Where a message lies is read from the files afterwards: a block is written once, so the last write over its place is
// the one that counts. Writes through io_uring do not show in a trace; so strace denies io_uring_setup, and every write
// is a pwrite (journal/posix_disk_test and the power cuts see the ring). Flushes are slowed by strace, so that who
// tells too early is seen to.
// Whether the audit would notice is tried, too: strace says "done" to a flush and does not pass it on.
#include <algorithm>
#include <map>
#include <optional>
#include <sstream>

#include "support/service.hpp"

namespace mooring {
namespace {

using test::Service;

constexpr int kSingle = 30;
constexpr int kPipelined = 1500;
constexpr const char* kCalls =
    "openat,mkdir,mkdirat,rename,renameat,renameat2,write,pwrite64,fsync,fdatasync,io_uring_setup";

std::string text_of(int number) {
  std::string digits = std::to_string(number);
  return "audit-" + std::string(6 - digits.size(), '0') + digits + ".";
}

// One call; places are numbers of lines in the trace.
struct Call {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::string name;
  std::string arguments;
  std::string result;
  bool done() const { return result.find("INJECTED") == std::string::npos && result[0] != '-' && result[0] != '?'; }
};

// "PID name(arguments) = result", or its two halves around what others did meanwhile.
std::vector<Call> calls_of(const std::string& path) {
  std::vector<Call> calls;
  std::map<std::string, Call> unfinished;
  std::ifstream trace(path);
  std::string line;
  for (std::size_t number = 0; std::getline(trace, line); ++number) {
    const std::size_t space = line.find(' ');
    if (space == std::string::npos) continue;
    const std::string pid = line.substr(0, space);
    std::string rest = line.substr(line.find_first_not_of(' ', space));
    Call call;
    if (rest.starts_with("<... ")) {
      const auto found = unfinished.find(pid);
      if (found == unfinished.end()) continue;
      call = found->second;
      unfinished.erase(found);
      rest = call.arguments + rest.substr(std::min(rest.find('>') + 1, rest.size()));
    } else {
      const std::size_t open = rest.find('(');
      if (open == std::string::npos || rest.starts_with("+++") || rest.starts_with("---")) continue;
      call.name = rest.substr(0, open);
      call.begin = number;
      rest = rest.substr(open + 1);
    }
    if (const std::size_t cut = rest.find(" <unfinished ...>"); cut != std::string::npos) {
      call.arguments = rest.substr(0, cut);
      unfinished[pid] = call;
      continue;
    }
    const std::size_t equals = rest.rfind(" = ");
    if (equals == std::string::npos) continue;
    call.end = number;
    call.arguments = rest.substr(0, equals);
    call.result = rest.substr(equals + 3);
    calls.push_back(call);
  }
  std::ranges::sort(calls, {}, &Call::end);
  return calls;
}

// The path that strace shows behind a descriptor: 7</path>.
std::string path_at(const std::string& text) {
  const std::size_t open = text.find('<');
  const std::size_t close = text.find('>', open);
  return open == std::string::npos || close == std::string::npos ? "" : text.substr(open + 1, close - open - 1);
}

std::vector<std::string> quoted(const std::string& text) {
  std::vector<std::string> found;
  for (std::size_t at = text.find('"'); at != std::string::npos;) {
    const std::size_t end = text.find('"', at + 1);
    if (end == std::string::npos) break;
    found.push_back(text.substr(at + 1, end - at - 1));
    at = text.find('"', end + 1);
  }
  return found;
}

struct Span {
  std::size_t begin = 0;
  std::size_t end = 0;
};

// A file or directory, whatever it is called: what was written into it and when it was synced.
struct Inode {
  struct Write : Span {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
  };
  std::string name;
  int directory = -1;   // that holds its name
  Span named;           // when it got it
  bool is_new = false;  // made while we watched
  std::vector<Write> writes;
  std::vector<Span> syncs;
};

class Audit {
 public:
  explicit Audit(const std::string& root) : root_(root) {
    for (const Call& call : calls_of(root + "/trace")) take(call);
    find_messages();
    for (const auto& [line, number] : acknowledged_) check_message(line, number);
    if (created_ == 0) {
      problems_.push_back("nobody was told of the queue");
    } else {
      for (const auto& [path, id] : ids_) {
        if (!path.starts_with(root_ + "/data")) continue;
        if (path.ends_with("/queue.json")) check_synced(created_, id, 0, "queue.json");
        if (path.ends_with("/q-q") || path.ends_with("/queue.json") || path.ends_with("/data")) {
          check_named(created_, id);
        }
      }
    }
  }
  const std::vector<std::string>& problems() const { return problems_; }
  std::size_t messages_seen() const { return places_.size(); }
  std::size_t acknowledgements() const { return acknowledged_.size(); }
  std::size_t named() const { return names_checked_; }
  std::string some() const {
    std::string text;
    for (std::size_t i = 0; i < std::min<std::size_t>(problems_.size(), 5); ++i) text += problems_[i] + "\n";
    return text;
  }

 private:
  struct Place {
    int id = -1;
    std::uint64_t offset = 0;
  };

  int id_of(const std::string& path) {
    const auto [found, is_new] = ids_.emplace(path, static_cast<int>(inodes_.size()));
    if (is_new) inodes_.push_back({.name = path});
    return found->second;
  }
  void name(int id, const std::string& path, const Call& call) {
    const int directory = id_of(path.substr(0, path.rfind('/')));
    Inode& inode = inodes_[static_cast<std::size_t>(id)];
    inode.name = path;
    inode.directory = directory;
    inode.named = {call.begin, call.end};
    inode.is_new = true;
  }
  void rename(const std::string& from, const std::string& to, const Call& call) {
    const int id = id_of(from);
    std::map<std::string, int> now;
    for (const auto& [path, known] : ids_) {
      const bool moves = path == from || path.starts_with(from + "/");
      if (path != to || moves) now[moves ? to + path.substr(from.size()) : path] = known;
    }
    ids_ = std::move(now);
    name(id, to, call);
  }
  static std::string absolute(const std::string& directory, const std::string& name) {
    return name.starts_with('/') ? name : directory + "/" + name;
  }

  void take(const Call& call) {
    if (call.name == "io_uring_setup") {
      if (call.done()) problems_.push_back("io_uring was not denied: its writes do not show");
      return;
    }
    const bool is_sync = call.name == "fsync" || call.name == "fdatasync";
    if (!call.done()) return;
    if (call.name == "openat" && call.arguments.find("O_CREAT") != std::string::npos) {
      const std::string path = path_at(call.result);
      // With O_TRUNC alone it may have been there; ours are made with O_EXCL, or renamed into place.
      if (!path.starts_with(root_)) return;
      if (call.arguments.find("O_EXCL") != std::string::npos) {
        ids_.erase(path);
        name(id_of(path), path, call);
      }
    } else if (call.name == "mkdir" || call.name == "mkdirat") {
      const std::string path = absolute(path_at(call.arguments), quoted(call.arguments).at(0));
      if (path.starts_with(root_)) name(id_of(path), path, call);
    } else if (call.name.starts_with("rename")) {
      const auto names = quoted(call.arguments);
      const std::string from = absolute(path_at(call.arguments), names.at(0));
      const std::string to = absolute(path_at(call.arguments), names.at(1));
      if (from.starts_with(root_)) rename(from, to, call);
    } else if (is_sync) {
      inodes_[static_cast<std::size_t>(id_of(path_at(call.arguments)))].syncs.push_back({call.begin, call.end});
    } else if (call.name == "write" || call.name == "pwrite64") {
      write(call);
    }
  }

  void write(const Call& call) {
    const std::string path = path_at(call.arguments);
    if (path == root_ + "/created") created_ = call.begin;
    if (path == root_ + "/acked") acknowledged_.emplace_back(call.begin, ++singles_);
    if (path == root_ + "/progress.new") {
      const int count = std::stoi(quoted(call.arguments).at(0));
      for (; progress_ < count; ++progress_) acknowledged_.emplace_back(call.begin, kSingle + 1 + progress_);
    }
    if (!path.starts_with(root_ + "/data/")) return;
    Inode::Write write{{call.begin, call.end}, 0, std::stoull(call.result)};
    Inode& inode = inodes_[static_cast<std::size_t>(id_of(path))];
    if (call.name == "pwrite64") {
      write.offset = std::stoull(call.arguments.substr(call.arguments.rfind(", ") + 2));
    } else if (!inode.writes.empty()) {
      write.offset = inode.writes.back().offset + inode.writes.back().bytes;
    }
    inode.writes.push_back(write);
  }

  // In the files as they lie there now.
  void find_messages() {
    for (const auto& [path, id] : ids_) {
      if (path.find("/q-q/log-") == std::string::npos) continue;
      std::ifstream file(path, std::ios::binary);
      std::stringstream bytes;
      bytes << file.rdbuf();
      const std::string content = bytes.str();
      for (std::size_t at = content.find("audit-"); at != std::string::npos; at = content.find("audit-", at + 1)) {
        if (at + 13 > content.size() || content[at + 12] != '.') continue;
        places_[std::stoi(content.substr(at + 6, 6))].push_back({id, at});
      }
    }
  }

  // Nothing if the bytes at `offset` were flushed before `line`.
  std::optional<std::string> unsynced(std::size_t line, int id, std::uint64_t offset) const {
    const Inode& inode = inodes_[static_cast<std::size_t>(id)];
    const Inode::Write* last = nullptr;
    for (const Inode::Write& one : inode.writes) {
      if (one.offset <= offset && offset < one.offset + one.bytes) last = &one;
    }
    if (last == nullptr) return "nobody wrote it";
    for (const Span& sync : inode.syncs) {
      if (sync.begin > last->end && sync.end < line) return std::nullopt;
    }
    return "no flush between its write (line " + std::to_string(last->end + 1) + ") and then";
  }
  std::optional<std::string> unnamed(std::size_t line, int id) const {
    const Inode& inode = inodes_[static_cast<std::size_t>(id)];
    if (!inode.is_new) return std::nullopt;
    for (const Span& sync : inodes_[static_cast<std::size_t>(inode.directory)].syncs) {
      if (sync.begin > inode.named.end && sync.end < line) return std::nullopt;
    }
    return "its name (line " + std::to_string(inode.named.end + 1) + ") was not synced";
  }
  void check_synced(std::size_t line, int id, std::uint64_t offset, const std::string& what) {
    if (const auto why = unsynced(line, id, offset)) {
      problems_.push_back(what + ": told in line " + std::to_string(line + 1) + ", " + *why);
    }
  }
  void check_named(std::size_t line, int id) {
    ++names_checked_;
    if (const auto why = unnamed(line, id)) {
      problems_.push_back(inodes_[static_cast<std::size_t>(id)].name + ": told in line " + std::to_string(line + 1) +
                          ", " + *why);
    }
  }
  // In one of its places (a recovery writes what is not proved once more) everything is as it should be.
  void check_message(std::size_t line, int number) {
    std::string why = "it is in no file";
    for (const Place& place : places_[number]) {
      const auto bytes = unsynced(line, place.id, place.offset);
      const auto name = unnamed(line, place.id);
      if (!bytes && !name) return;
      why = bytes ? *bytes : *name;
    }
    problems_.push_back("message " + std::to_string(number) + ": acknowledged in line " + std::to_string(line + 1) +
                        ", " + why);
  }

  std::string root_;
  std::map<std::string, int> ids_;
  std::vector<Inode> inodes_;
  std::map<int, std::vector<Place>> places_;
  std::vector<std::pair<std::size_t, int>> acknowledged_;  // line, message
  std::size_t created_ = 0;
  int singles_ = 0;
  int progress_ = 0;
  std::size_t names_checked_ = 0;
  std::vector<std::string> problems_;
};

class DurableTrace : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::system("strace -o /dev/null true >/dev/null 2>&1") != 0) {
      GTEST_SKIP() << "strace is not there (tools/setup) or may not trace here";
    }
  }
  // A queue is made, with a group that nobody reads, so that the log keeps every message for the audit; messages are
  // published one by one and pipelined, mooringd is killed and the memory lost, the log
  // recovered, and everything received. `inject`: what strace makes of flushes.
  void run(const std::string& inject) {
    ::setenv("MOORING_DATA", (service_.root() + "/data").c_str(), 1);
    {
      std::ofstream lines(service_.root() + "/lines");
      for (int i = 1; i <= kPipelined; ++i) {
        lines << text_of(kSingle + i) << std::string(static_cast<std::size_t>(i * 37 % 3000), 'x') << "\n";
      }
    }
    std::ofstream script(service_.root() + "/script");
    script << "cd " << service_.root() << "\nexport PATH=" MOORING_BIN_DIR ":$PATH\n"
           << "mooringd 2>first.log & supervisor=$!\n"
           << "until mooring create q --durability durable --capacity 4096 --lane 8M >created 2>/dev/null; do :; done\n"
           << "mooring create q --group audit >>created || exit 1\n"
           << "i=1; while [ $i -le " << kSingle << " ]; do\n"
           << "  mooring publish q audit-$(printf %06d $i). >>acked || exit 1; i=$((i+1)); done\n"
           << "mooring publish q --file lines --progress-file progress >published || exit 1\n"
           << "kill -9 $supervisor; wait $supervisor; rm -rf shm/*\n"
           << "mooringd 2>second.log &\n"
           << "until mooring receive q --count " << kSingle + kPipelined << " >received 2>/dev/null; do :; done\n"
           << "mooring shutdown >/dev/null; wait\n";
    script.close();
    const std::string strace = "timeout 100 strace -f -y -s 16 --seccomp-bpf -o " + service_.root() +
                               "/trace -e trace=" + kCalls + " -e signal=none -e inject=io_uring_setup:error=EPERM " +
                               inject + " sh " + service_.root() + "/script 2>" + service_.root() + "/said";
    status_ = std::system(strace.c_str());
  }
  std::string said(const std::string& name) const {
    std::ifstream file(service_.root() + "/" + name);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  Service service_;
  int status_ = -1;
};

TEST_F(DurableTrace, AFlushComesBeforeEveryAcknowledgementAndDirectoriesAreSynced) {
  run("-e inject=fdatasync:delay_enter=2000");
  ASSERT_EQ(status_, 0) << said("said") << said("first.log") << said("second.log");
  const Audit audit(service_.root());
  const std::string received = said("received");
  EXPECT_EQ(std::ranges::count(received, '\n'), kSingle + kPipelined);
  EXPECT_EQ(audit.messages_seen(), static_cast<std::size_t>(kSingle + kPipelined));
  EXPECT_EQ(audit.acknowledgements(), static_cast<std::size_t>(kSingle + kPipelined));
  EXPECT_GE(audit.named(), 3U);
  EXPECT_EQ(audit.problems().size(), 0U) << audit.some();
}

TEST_F(DurableTrace, TheAuditNoticesAMissingFlush) {
  run("-e inject=fdatasync:retval=0");
  ASSERT_EQ(status_, 0) << said("said") << said("first.log") << said("second.log");
  const Audit audit(service_.root());
  EXPECT_GE(audit.problems().size(), static_cast<std::size_t>(kSingle));
  EXPECT_NE(audit.some().find("no flush"), std::string::npos) << audit.some();
}

TEST_F(DurableTrace, TheAuditNoticesADirectoryThatIsNotSynced) {
  run("-e inject=fsync:retval=0");
  ASSERT_EQ(status_, 0) << said("said") << said("first.log") << said("second.log");
  const Audit audit(service_.root());
  EXPECT_GE(audit.problems().size(), static_cast<std::size_t>(kSingle));
  EXPECT_NE(audit.some().find("not synced"), std::string::npos) << audit.some();
}

}  // namespace
}  // namespace mooring
