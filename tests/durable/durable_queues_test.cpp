// The directory of the durable queues: what is created is read again, what is damaged is refused with its name, and a
// supervisor killed between any two steps leaves a queue or none.
#include "supervisor/durable_queues.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/kill_point.hpp"
#include "platform/scratch.hpp"

namespace mooring {
namespace {

DurableQueue example(const std::string& name, u8 mark = 7) {
  DurableQueue queue;
  queue.name = name;
  for (std::size_t i = 0; i < queue.uuid.size(); ++i) queue.uuid[i] = static_cast<u8>(mark + 17 * i);
  queue.options.durability = layout::Durability::kDurable;
  queue.options.deliver = layout::Deliver::kEarly;
  queue.options.kind = layout::QueueKind::kSpsc;
  queue.options.overflow = layout::Overflow::kReject;
  queue.options.capacity = 8192;
  queue.options.max_message_bytes = 1000;
  queue.options.lane_bytes = 1 << 20;
  queue.options.producers_max = 1;
  queue.options.consumers_max = 5;
  queue.options.groups_max = 3;
  queue.options.file_mode = 0640;
  queue.options.group_id = 0;
  return queue;
}

class DurableQueuesTest : public ::testing::Test {
 protected:
  ScratchDirectory scratch_;
  std::string path_ = scratch_.path("a/b/data");
  DurableQueues queues_ = take(DurableQueues::open(path_, /*create=*/true));

  std::string config(const std::string& queue) const { return path_ + "/q-" + queue + "/queue.json"; }
  void write_config(const std::string& queue, const std::string& text) const {
    std::ofstream(config(queue), std::ios::trunc) << text;
  }
  std::string text_of(const std::string& queue) const {
    std::ifstream in(config(queue));
    return {std::istreambuf_iterator<char>(in), {}};
  }
};

TEST_F(DurableQueuesTest, TheDirectoryIsMadeForItsOwnerOnlyWhenAsked) {
  EXPECT_EQ(std::filesystem::status(path_).permissions(), std::filesystem::perms::owner_all);
  MOORING_EXPECT_FAILS(DurableQueues::open(scratch_.path("none"), false), Code::kNoSuchQueue, "none");
  EXPECT_FALSE(std::filesystem::exists(scratch_.path("none")));
  std::ofstream(scratch_.path("file")) << "x";
  EXPECT_FALSE(DurableQueues::open(scratch_.path("file/data"), true).has_value());
}

TEST_F(DurableQueuesTest, WhatWasCreatedIsReadAgain) {
  const DurableQueue made = example("kept");
  MOORING_EXPECT_OK(queues_.create(made));
  const DurableQueue read = take(queues_.read("kept"));
  EXPECT_EQ(read.name, made.name);
  EXPECT_EQ(read.uuid, made.uuid);
  EXPECT_EQ(read.options.kind, made.options.kind);
  EXPECT_EQ(read.options.overflow, made.options.overflow);
  EXPECT_EQ(read.options.durability, made.options.durability);
  EXPECT_EQ(read.options.deliver, made.options.deliver);
  EXPECT_EQ(read.options.capacity, made.options.capacity);
  EXPECT_EQ(read.options.max_message_bytes, made.options.max_message_bytes);
  EXPECT_EQ(read.options.lane_bytes, made.options.lane_bytes);
  EXPECT_EQ(read.options.producers_max, made.options.producers_max);
  EXPECT_EQ(read.options.consumers_max, made.options.consumers_max);
  EXPECT_EQ(read.options.groups_max, made.options.groups_max);
  EXPECT_EQ(read.options.file_mode, made.options.file_mode);
  EXPECT_EQ(read.options.group_id, made.options.group_id);
  EXPECT_EQ(take(queues_.adopt()), (std::vector<std::string>{"kept"}));
}

TEST_F(DurableQueuesTest, NamesComeInOrderAndLeftoversGo) {
  for (const char* name : {"b", "a", "c.d-e"}) MOORING_EXPECT_OK(queues_.create(example(name)));
  for (const char* left : {".new-q-x", ".old-q-y"}) {
    std::filesystem::create_directories(path_ + "/" + left);
    std::ofstream(path_ + "/" + left + "/log-0000000001") << "left";
  }
  std::filesystem::create_directories(path_ + "/lost+found");
  EXPECT_EQ(take(queues_.adopt()), (std::vector<std::string>{"a", "b", "c.d-e"}));
  EXPECT_FALSE(std::filesystem::exists(path_ + "/.new-q-x"));
  EXPECT_FALSE(std::filesystem::exists(path_ + "/.old-q-y"));
  EXPECT_TRUE(std::filesystem::exists(path_ + "/lost+found"));
}

TEST_F(DurableQueuesTest, ASecondOneOfANameIsRefusedAndTheFirstStays) {
  MOORING_EXPECT_OK(queues_.create(example("kept", 1)));
  EXPECT_FALSE(queues_.create(example("kept", 2)).has_value());
  EXPECT_EQ(take(queues_.read("kept")).uuid, example("kept", 1).uuid);
}

TEST_F(DurableQueuesTest, RemovedIsGoneAndMayComeAgain) {
  EXPECT_FALSE(take(queues_.remove("kept")));
  MOORING_EXPECT_OK(queues_.create(example("kept", 1)));
  std::ofstream(path_ + "/q-kept/log-0000000001") << "log";
  EXPECT_TRUE(take(queues_.remove("kept")));
  EXPECT_TRUE(std::filesystem::is_empty(path_));
  MOORING_EXPECT_FAILS(queues_.read("kept"), Code::kNoSuchQueue, "kept");
  MOORING_EXPECT_OK(queues_.create(example("kept", 2)));
  EXPECT_EQ(take(queues_.read("kept")).uuid, example("kept", 2).uuid);
}

TEST_F(DurableQueuesTest, ADamagedConfigIsRefusedAndNamed) {
  MOORING_EXPECT_OK(queues_.create(example("kept")));
  const std::string good = text_of("kept");
  const auto replaced = [&](const std::string& what, const std::string& with) {
    std::string text = good;
    const auto at = text.find(what);
    EXPECT_NE(at, std::string::npos) << what;
    return text.replace(at, what.size(), with);
  };
  const std::vector<std::pair<std::string, std::string>> damages = {
      {"", "JSON"},
      {"[]", "JSON"},
      {"\0\0\0\0", "JSON"},
      {good.substr(0, good.size() / 2), "JSON"},
      {replaced("\"uuid\"", "\"guid\""), "uuid"},
      {replaced("\"uuid\": \"0718", "\"uuid\": \"zz18"), "uuid"},
      {replaced("\"uuid\": \"0718", "\"uuid\": \"07"), "uuid"},
      {replaced("\"name\": \"kept\"", "\"name\": \"other\""), "kept"},
      {replaced("\"options\"", "\"optiona\""), "options"},
      {replaced("\"capacity\": 8192", "\"capacity\": \"many\""), "capacity"},
  };
  for (const auto& [text, word] : damages) {
    write_config("kept", text);
    MOORING_EXPECT_FAILS(queues_.read("kept"), Code::kCorrupt, word);
  }
  write_config("kept", replaced("\"version\": 1", "\"version\": 2"));
  MOORING_EXPECT_FAILS(queues_.read("kept"), Code::kVersion, "version 2");
  write_config("kept", std::string(100 << 10, ' ') + good);
  EXPECT_FALSE(queues_.read("kept").has_value());
  write_config("kept", good);
  MOORING_EXPECT_OK(queues_.read("kept"));
}

TEST_F(DurableQueuesTest, EveryByteOfTheConfigMayBeWrongWithoutACrash) {
  MOORING_EXPECT_OK(queues_.create(example("kept")));
  const std::string good = text_of("kept");
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (const char wrong : {'\0', '"', '9', static_cast<char>(good[at] ^ 0x80)}) {
      std::string text = good;
      text[at] = wrong;
      write_config("kept", text);
      const auto read = queues_.read("kept");
      if (read) {
        EXPECT_EQ(read->name, "kept");
      }
    }
  }
}

int points_left = 0;
void kill_at_point(const char*) {
  if (--points_left == 0) ::raise(SIGKILL);
}

// Runs `work` in a child that is killed at its `point`-th step; false: it came to its end.
template <class Work>
bool killed_at(int point, Work&& work) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    points_left = point;
    kill_point_hook.store(&kill_at_point, std::memory_order_relaxed);
    work();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFSIGNALED(status);
}

TEST_F(DurableQueuesTest, KilledWhileCreatingThereIsAWholeQueueOrNone) {
  int whole = 0;
  int none = 0;
  for (int point = 1; killed_at(point, [&] { (void)queues_.create(example("kept")); }); ++point) {
    const auto names = take(queues_.adopt());
    if (names.empty()) {
      ++none;
      EXPECT_TRUE(std::filesystem::is_empty(path_));
      MOORING_EXPECT_OK(queues_.create(example("kept")));
    } else {
      ++whole;
    }
    MOORING_EXPECT_OK(queues_.read("kept"));
    EXPECT_TRUE(take(queues_.remove("kept")));
  }
  EXPECT_GE(none, 2);
  EXPECT_GE(whole, 1);
}

TEST_F(DurableQueuesTest, KilledWhileRemovingItIsGone) {
  int points = 0;
  MOORING_EXPECT_OK(queues_.create(example("kept")));
  for (int point = 1; killed_at(point, [&] { (void)queues_.remove("kept"); }); ++point) {
    ++points;
    EXPECT_TRUE(take(queues_.adopt()).empty());
    EXPECT_TRUE(std::filesystem::is_empty(path_));
    MOORING_EXPECT_OK(queues_.create(example("kept")));
  }
  EXPECT_GE(points, 1);
}

}  // namespace
}  // namespace mooring
