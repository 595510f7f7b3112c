// A small queue in a directory of its own, with one file of each kind: what the tests of this room look at and damage.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <string>

#include "base/kill_point.hpp"
#include "platform/process.hpp"
#include "platform/scratch.hpp"
#include "segment/queue_files.hpp"

namespace mooring {

inline QueueOptions small_options() {
  QueueOptions options;
  options.capacity = 16;
  options.lane_bytes = 4096;
  options.producers_max = 2;
  options.consumers_max = 3;
  options.groups_max = 2;
  options.small_for_tests = true;
  return options;
}

inline QueueFiles::AttachOptions supervisor_access() {
  return {.as_supervisor = true, .order_access = Access::read_write, .prefault = true};
}

inline struct stat look_at(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(::lstat(path.c_str(), &info), 0) << path;
  return info;
}
inline mode_t mode_of(const std::string& path) { return look_at(path).st_mode & 07777; }

inline std::string read_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}
// In place: the file stays the same one, and keeps its owner and mode.
inline void write_bytes(const std::string& path, std::size_t offset, std::string_view bytes) {
  std::fstream out(path, std::ios::binary | std::ios::in | std::ios::out);
  out.seekp(static_cast<std::streamoff>(offset));
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.flush();
  EXPECT_TRUE(out.good()) << path;
}
template <class T>
std::string_view bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

class QueueFilesTest : public testing::Test {
 protected:
  const File& shared() const { return scratch_.dir(); }
  std::string path(const std::string& below) const { return scratch_.path(below); }
  std::string file_of(const std::string& queue, std::string_view name) const {
    return scratch_.path("q-" + queue + "/" + std::string(name));
  }

  Status create(const std::string& name, const QueueOptions& options = small_options()) const {
    auto constants = plan_queue(name, options);
    if (!constants) return fail(constants.error());
    return create_queue(shared(), *constants, options.group_id);
  }
  Result<QueueFiles> attach(const std::string& name) const {
    return QueueFiles::attach(shared(), ::geteuid(), name, {});
  }
  QueueFiles attach_as_supervisor(const std::string& name) const {
    return take(QueueFiles::attach(shared(), ::geteuid(), name, supervisor_access()));
  }
  // The queue with one group, lane, seat and park step.
  QueueFiles create_whole(const std::string& name, const QueueOptions& options = small_options()) const {
    MOORING_EXPECT_OK(create(name, options));
    QueueFiles queue = attach_as_supervisor(name);
    MOORING_EXPECT_OK(make_group_file(queue, 0, queue.constants().first_seq));
    MOORING_EXPECT_OK(make_lane_file(queue, 0));
    MOORING_EXPECT_OK(make_seat_file(queue, 0));
    MOORING_EXPECT_OK(grow_park_file(queue));
    return queue;
  }

  ScratchDirectory scratch_;
};

// Puts the hook of base/kill_point.hpp in place for the life of a test.
class KillPointGuard {
 public:
  // Relaxed: the code under test runs in this thread.
  explicit KillPointGuard(KillPointHook hook) { kill_point_hook.store(hook, std::memory_order_relaxed); }
  ~KillPointGuard() { kill_point_hook.store(nullptr, std::memory_order_relaxed); }
  KillPointGuard(const KillPointGuard&) = delete;
  KillPointGuard& operator=(const KillPointGuard&) = delete;
};

}  // namespace mooring
