// Shows that a supervisor at its start tells what still lives in its shared directory from what another boot, another
// layout or a killed predecessor left there, removes the latter and says so; and that its bell outlives it.

#include <algorithm>

#include "base/atomics.hpp"
#include "segment/checksum.hpp"
#include "segment/names.hpp"
#include "segment/queue_fixture.hpp"

namespace mooring {
namespace {

using layout::FileHead;

class StaleFilesTest : public QueueFilesTest {
 protected:
  // Another head for the file, `check` made right again.
  template <class Change>
  void change_head(const std::string& file, Change&& change) {
    FileHead head{};
    const std::string bytes = read_bytes(file);
    ASSERT_GE(bytes.size(), sizeof head);
    std::copy_n(bytes.data(), sizeof head, reinterpret_cast<char*>(&head));
    change(head);
    head.check = checksum(&head, offsetof(FileHead, check));
    write_bytes(file, 0, bytes_of(head));
  }
  std::vector<std::string> clean() {
    std::vector<std::string> removed;
    MOORING_EXPECT_OK(remove_stale(shared(), ::geteuid(), &removed));
    return removed;
  }
};

TEST_F(StaleFilesTest, LivingQueuesAndBellStay) {
  const QueueFiles queue = create_whole("orders");
  MOORING_EXPECT_OK(make_bell(shared(), Uuid{1}));
  EXPECT_TRUE(clean().empty());
  EXPECT_TRUE(queue.still_current(shared()));
  MOORING_EXPECT_OK(map_bell(shared(), ::geteuid()));
}

TEST_F(StaleFilesTest, QueueOfAnotherBootIsRemovedAndListed) {
  create_whole("orders");
  create_whole("living");
  change_head(file_of("orders", "ctl"), [](FileHead& head) { head.boot_id[3] ^= 1; });
  MOORING_EXPECT_FAILS(attach("orders"), Code::kCorrupt, "another boot");
  EXPECT_EQ(clean(), std::vector<std::string>{path("q-orders") + ": made on another boot"});
  EXPECT_EQ(take(list_queues(shared())), std::vector<std::string>{"living"});
  MOORING_EXPECT_OK(create("orders"));
}

TEST_F(StaleFilesTest, QueueOfAnotherLayoutIsRemovedAndListed) {
  create_whole("orders");
  change_head(file_of("orders", "ctl"), [](FileHead& head) { head.layout_version = 9; });
  EXPECT_EQ(clean(), std::vector<std::string>{path("q-orders") + ": made with layout version 9, this is version " +
                                              std::to_string(layout::kLayoutVersion)});
  EXPECT_TRUE(take(list_directory(shared())).empty());
}

TEST_F(StaleFilesTest, HalfRemovedQueueIsRemoved) {
  const QueueFiles queue = create_whole("orders");
  HardwareAtomics::store(queue.state().life, static_cast<u64>(layout::QueueLife::kRemoved), std::memory_order_release);
  EXPECT_EQ(clean(), std::vector<std::string>{path("q-orders") + ": half removed"});
  EXPECT_TRUE(take(list_directory(shared())).empty());
}

TEST_F(StaleFilesTest, LeftoversOfBothKindsAreRemoved) {
  ASSERT_EQ(::mkdir(path(".new-q-a").c_str(), 0700), 0);
  ASSERT_EQ(::mkdir(path(".old-q-b").c_str(), 0700), 0);
  MOORING_EXPECT_OK(create_file(shared(), ".new-bell", 0600, 4096));
  EXPECT_EQ(clean().size(), 3U);
  EXPECT_TRUE(take(list_directory(shared())).empty());
}

TEST_F(StaleFilesTest, DamagedQueueAndStrangeFilesStayForPeopleToLookAt) {
  create_whole("orders");
  write_bytes(file_of("orders", "ctl"), offsetof(FileHead, check), "?");
  ASSERT_EQ(::mkdir(path("q-empty").c_str(), 0700), 0);
  MOORING_EXPECT_OK(create_file(shared(), "notes", 0600, 0));
  MOORING_EXPECT_OK(create_file(shared(), "q-file", 0600, 0));
  EXPECT_TRUE(clean().empty());
  EXPECT_EQ(take(list_directory(shared())).size(), 4U);
}

TEST_F(StaleFilesTest, ListShowsQueuesInOrderAndNothingElse) {
  for (const std::string name : {"b", "a", "c"}) MOORING_EXPECT_OK(create(name));
  MOORING_EXPECT_OK(make_bell(shared(), Uuid{1}));
  ASSERT_EQ(::mkdir(path("q-.hidden").c_str(), 0700), 0);
  ASSERT_EQ(::mkdir(path(".new-q-d").c_str(), 0700), 0);
  EXPECT_EQ(take(list_queues(shared())), (std::vector<std::string>{"a", "b", "c"}));
}

TEST_F(StaleFilesTest, BellOfThisBootOutlivesItsSupervisor) {
  MOORING_EXPECT_OK(make_bell(shared(), Uuid{1}));
  const Mapping client = take(map_bell(shared(), ::geteuid()));
  MOORING_EXPECT_OK(make_bell(shared(), Uuid{2}));
  const Mapping supervisor = take(map_bell(shared(), ::geteuid()));
  const auto futex_of = [](const Mapping& bell) -> u32& {
    return reinterpret_cast<layout::BellHead*>(bell.data())->futex;
  };
  HardwareAtomics::add(futex_of(client), u32{1}, std::memory_order_release);
  EXPECT_EQ(HardwareAtomics::load(futex_of(supervisor), std::memory_order_acquire), 1U);
}

TEST_F(StaleFilesTest, BellOfAnotherBootIsRemovedOrReplaced) {
  const auto spoil = [this] { change_head(path("bell"), [](FileHead& head) { head.boot_id[0] ^= 1; }); };
  MOORING_EXPECT_OK(make_bell(shared(), Uuid{1}));
  EXPECT_EQ(mode_of(path("bell")), 0600U);
  spoil();
  EXPECT_EQ(clean(), std::vector<std::string>{path("bell") + ": of another boot or layout"});
  MOORING_EXPECT_OK(make_bell(shared(), Uuid{1}));
  spoil();
  MOORING_EXPECT_FAILS(map_bell(shared(), ::geteuid()), Code::kCorrupt, "another boot");
  MOORING_EXPECT_OK(make_bell(shared(), Uuid{1}, 0660));
  MOORING_EXPECT_OK(map_bell(shared(), ::geteuid()));
  EXPECT_EQ(mode_of(path("bell")), 0660U);
}

TEST_F(StaleFilesTest, WhatLiesInTheWayOfTheBellIsReplaced) {
  ASSERT_EQ(::symlink("/etc/passwd", path("bell").c_str()), 0);
  MOORING_EXPECT_OK(make_bell(shared(), Uuid{1}));
  MOORING_EXPECT_OK(map_bell(shared(), ::geteuid()));
}

}  // namespace
}  // namespace mooring
