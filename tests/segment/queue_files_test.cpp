// Shows the life of the files of a queue: made complete or not at all (killed at every step, or without room), attached
// with what the plan says, files added and grown, modes that let in whom they should, removed for everybody at once.

#include "segment/queue_files.hpp"

#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <algorithm>
#include <iostream>
#include <set>

#include "base/atomics.hpp"
#include "base/time.hpp"
#include "segment/names.hpp"
#include "segment/queue_fixture.hpp"

namespace mooring {
namespace {

using layout::QueueLife;

u64 load(const u64& word) { return HardwareAtomics::load(word, std::memory_order_acquire); }

TEST_F(QueueFilesTest, CreatedQueueIsAttachedWithItsPlan) {
  const layout::QueueConstants planned = take(plan_queue("orders", small_options()));
  const u64 before_ns = wall_ns();
  MOORING_EXPECT_OK(create("orders"));
  const QueueFiles queue = take(attach("orders"));
  EXPECT_STREQ(queue.constants().name, "orders");
  EXPECT_EQ(queue.constants().words, planned.words);
  EXPECT_EQ(queue.constants().first_seq, planned.first_seq);
  EXPECT_GE(queue.constants().created_wall_ns, before_ns);
  EXPECT_NE(queue.uuid(), Uuid{});
  EXPECT_EQ(queue.where(), path("q-orders"));
  EXPECT_EQ(load(queue.state().life), static_cast<u64>(QueueLife::kOpen));
  EXPECT_EQ(load(queue.state().group_epoch), 0U);
  EXPECT_EQ(take(list_queues(shared())), std::vector<std::string>{"orders"});
  EXPECT_EQ(take(list_directory(shared())), std::vector<std::string>{"q-orders"}) << "nothing else is left behind";
  EXPECT_EQ(take(list_directory(queue.directory())), (std::vector<std::string>{"ctl", "order", "wake"}));
}

TEST_F(QueueFilesTest, CellsAreFreeForTheFirstPositionAndTheTailIsThere) {
  MOORING_EXPECT_OK(create("orders"));
  const QueueFiles queue = take(attach("orders"));
  const u64 first = queue.constants().first_seq;
  const unsigned log2 = log2_of_power(queue.constants().cells);
  for (u64 seq = first; seq < first + queue.constants().cells; ++seq) {
    EXPECT_EQ(layout::cell_laps_ahead(load(queue.order_cells()[seq % queue.constants().cells]), seq >> log2), -1);
  }
  EXPECT_EQ(load(queue.order_head()->tail), first);
}

// A queue need not begin at its first lap: the cells of a later one are not zero.
TEST_F(QueueFilesTest, QueueCanBeginInTheMiddleOfALaterLap) {
  layout::QueueConstants constants = take(plan_queue("orders", small_options()));
  constants.first_seq = 1000 * constants.cells + 5;
  MOORING_EXPECT_OK(create_queue(shared(), constants, std::nullopt));
  const QueueFiles queue = take(attach("orders"));
  const unsigned log2 = log2_of_power(constants.cells);
  for (u64 seq = constants.first_seq; seq < constants.first_seq + constants.cells; ++seq) {
    EXPECT_EQ(layout::cell_laps_ahead(load(queue.order_cells()[seq % constants.cells]), seq >> log2), -1) << seq;
  }
}

TEST_F(QueueFilesTest, SpscHasNoOrderFile) {
  QueueOptions options = small_options();
  options.kind = layout::QueueKind::kSpsc;
  options.producers_max = 1;
  MOORING_EXPECT_OK(create("pipe", options));
  const QueueFiles queue = take(attach("pipe"));
  EXPECT_EQ(queue.order_head(), nullptr);
  EXPECT_EQ(queue.order_cells(), nullptr);
  EXPECT_EQ(take(list_directory(queue.directory())), (std::vector<std::string>{"ctl", "wake"}));
}

TEST_F(QueueFilesTest, SlotsAndWakeWordsLieApartAndInsideTheirFiles) {
  const QueueFiles queue = create_whole("orders");
  const auto& constants = queue.constants();
  std::set<const void*> places;
  for (u32 i = 0; i < constants.groups_max; ++i) places.insert(&queue.group_slot(i));
  for (u32 i = 0; i < constants.lanes_max; ++i) places.insert(&queue.lane_slot(i));
  for (u32 i = 0; i < constants.seats_max; ++i) places.insert(&queue.seat_slot(i));
  EXPECT_EQ(places.size(), constants.groups_max + constants.lanes_max + constants.seats_max);
  const auto* ctl = reinterpret_cast<const u8*>(&queue.state()) - offsetof(layout::CtlHead, state);
  const auto* last = reinterpret_cast<const u8*>(&queue.seat_slot(constants.seats_max - 1) + 1);
  EXPECT_LE(static_cast<u64>(last - ctl), static_cast<u64>(look_at(file_of("orders", "ctl")).st_size));
  EXPECT_EQ(layout::slot_life(load(queue.lane_slot(1).slot)), layout::SlotLife::kFree);
  // What one attachment writes, another reads at the same place.
  HardwareAtomics::store(queue.seat_slot(2).slot, u64{77}, std::memory_order_release);
  HardwareAtomics::store(queue.group_wake(1).futex, u32{88}, std::memory_order_release);
  const QueueFiles other = take(attach("orders"));
  EXPECT_EQ(load(other.seat_slot(2).slot), 77U);
  EXPECT_EQ(HardwareAtomics::load(other.group_wake(1).futex, std::memory_order_acquire), 88U);
}

TEST_F(QueueFilesTest, AddedFilesBeginAsTheProtocolSays) {
  const QueueFiles queue = create_whole("orders");
  const Mapping group = take(queue.map_group(0, Access::read_only, true));
  const auto* head = reinterpret_cast<const layout::GroupHead*>(group.data());
  EXPECT_EQ(load(head->base), 0U) << "pinned until it is born";
  EXPECT_EQ(load(head->hint), queue.constants().first_seq);
  EXPECT_EQ(layout::back_seq_lo(load(head->back)), layout::kBackNone);
  const auto* parks =
      reinterpret_cast<const layout::ParkEntry*>(group.data() + layout::group_parks_offset(queue.constants().words));
  for (u64 i = 0; i < queue.constants().parks; ++i) {
    EXPECT_EQ(layout::read_park_word(load(parks[i].word)).state, layout::ParkState::kFree);
  }
  const Mapping lane = take(queue.map_lane(0, Access::read_only, true));
  const auto* lane_head = reinterpret_cast<const layout::LaneHead*>(lane.data());
  EXPECT_EQ(load(lane_head->checkpoint_current), 0U);
  EXPECT_EQ(load(lane_head->reclaim), 0U);
  const std::string after_head = read_bytes(file_of("orders", "lane-0")).substr(sizeof(layout::FileHead));
  EXPECT_EQ(std::count(after_head.begin(), after_head.end(), '\0'), static_cast<std::ptrdiff_t>(after_head.size()));
  MOORING_EXPECT_OK(queue.map_seat(0, Access::read_write));
}

TEST_F(QueueFilesTest, MadeAnewAFileIsAnotherOne) {
  const QueueFiles queue = create_whole("orders");
  const Mapping former = take(queue.map_lane(0, Access::read_write, true));
  u64& former_reclaim = reinterpret_cast<layout::LaneHead*>(former.data())->reclaim;
  HardwareAtomics::store(former_reclaim, u64{5}, std::memory_order_release);
  MOORING_EXPECT_OK(make_lane_file(queue, 0));
  const Mapping lane = take(queue.map_lane(0, Access::read_only, true));
  EXPECT_EQ(load(reinterpret_cast<const layout::LaneHead*>(lane.data())->reclaim), 0U);
  EXPECT_EQ(load(former_reclaim), 5U) << "who still has the former one hurts nobody";
}

TEST_F(QueueFilesTest, FilesThatWereNeverMadeAreSaidToBeMissing) {
  MOORING_EXPECT_OK(create("orders"));
  const QueueFiles queue = attach_as_supervisor("orders");
  MOORING_EXPECT_FAILS(queue.map_group(0, Access::read_only, true), Code::kNoSuchQueue, "group-0");
  MOORING_EXPECT_FAILS(queue.map_lane(1, Access::read_only, true), Code::kNoSuchQueue, "lane-1");
  MOORING_EXPECT_FAILS(queue.map_seat(2, Access::read_only), Code::kNoSuchQueue, "seat-2");
  EXPECT_EQ(take(queue.map_park(Access::read_only)).size_bytes(), 0U);
}

TEST_F(QueueFilesTest, NumbersOutOfRangeAreRefused) {
  MOORING_EXPECT_OK(create("orders"));
  const QueueFiles queue = attach_as_supervisor("orders");
  MOORING_EXPECT_FAILS(queue.map_group(2, Access::read_only, true), Code::kBadArgument, "no group 2");
  MOORING_EXPECT_FAILS(queue.map_lane(~u32{0}, Access::read_only, true), Code::kBadArgument, "no lane");
  MOORING_EXPECT_FAILS(queue.map_seat(4, Access::read_only), Code::kBadArgument, "no seat 4");
  MOORING_EXPECT_FAILS(make_group_file(queue, 2, 16), Code::kBadArgument, "no group 2");
  MOORING_EXPECT_FAILS(make_lane_file(queue, 2), Code::kBadArgument, "no lane 2");
  MOORING_EXPECT_FAILS(make_seat_file(queue, 4), Code::kBadArgument, "no seat 4");
}

TEST_F(QueueFilesTest, ParkFileGrowsByStepsUpToItsBound) {
  layout::QueueConstants constants = take(plan_queue("orders", small_options()));
  constants.park_store_bytes = 2 * layout::kParkStepBytes;
  MOORING_EXPECT_OK(create_queue(shared(), constants, std::nullopt));
  const QueueFiles queue = attach_as_supervisor("orders");
  EXPECT_EQ(take(grow_park_file(queue)), layout::kParkStepBytes);
  EXPECT_EQ(take(queue.map_park(Access::read_only)).size_bytes(), layout::kParkStepBytes);
  write_bytes(file_of("orders", "park"), layout::kParkChunksOffset, "record");
  EXPECT_EQ(take(grow_park_file(queue)), 2 * layout::kParkStepBytes);
  const Mapping park = take(queue.map_park(Access::read_only));
  EXPECT_EQ(park.size_bytes(), 2 * layout::kParkStepBytes);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(park.data() + layout::kParkChunksOffset), 6), "record");
  EXPECT_GE(static_cast<u64>(look_at(file_of("orders", "park")).st_blocks) * 512, 2 * layout::kParkStepBytes);
  MOORING_EXPECT_FAILS(grow_park_file(queue), Code::kDiskFull, "is at its bound of 2097152 bytes");
}

TEST_F(QueueFilesTest, StepOfTheParkFileThatWasOnlyBegunDoesNotCount) {
  const QueueFiles queue = create_whole("orders");
  ASSERT_EQ(::truncate(file_of("orders", "park").c_str(), layout::kParkStepBytes + 5000), 0);
  EXPECT_EQ(take(queue.map_park(Access::read_only)).size_bytes(), layout::kParkStepBytes);
  EXPECT_EQ(take(grow_park_file(queue)), 2 * layout::kParkStepBytes);
}

TEST_F(QueueFilesTest, SecondCreateSaysThatTheQueueExists) {
  MOORING_EXPECT_OK(create("orders"));
  const Uuid uuid = take(attach("orders")).uuid();
  MOORING_EXPECT_FAILS(create("orders"), Code::kExists, "queue orders exists already");
  EXPECT_EQ(take(attach("orders")).uuid(), uuid);
  EXPECT_EQ(take(list_directory(shared())), std::vector<std::string>{"q-orders"});
}

TEST_F(QueueFilesTest, PlansOutOfRangeAreNotCreated) {
  layout::QueueConstants constants = take(plan_queue("orders", small_options()));
  constants.parks = 0;
  MOORING_EXPECT_FAILS(create_queue(shared(), constants, std::nullopt), Code::kBadArgument, "parks = 0");
  EXPECT_TRUE(take(list_directory(shared())).empty());
}

TEST_F(QueueFilesTest, RemovalTellsWhoIsAttachedAndLeavesNothing) {
  const QueueFiles queue = create_whole("orders");
  EXPECT_TRUE(queue.still_current(shared()));
  MOORING_EXPECT_OK(remove_queue(shared(), "orders"));
  EXPECT_EQ(load(queue.state().life), static_cast<u64>(QueueLife::kRemoved));
  EXPECT_FALSE(queue.still_current(shared()));
  EXPECT_TRUE(take(list_directory(shared())).empty());
  MOORING_EXPECT_FAILS(attach("orders"), Code::kNoSuchQueue, "no queue orders");
  MOORING_EXPECT_FAILS(remove_queue(shared(), "orders"), Code::kNoSuchQueue, "nothing to remove");
  MOORING_EXPECT_FAILS(remove_queue(shared(), "../orders"), Code::kBadArgument, "queue name");
}

TEST_F(QueueFilesTest, RecreatedQueueIsAnotherQueue) {
  const QueueFiles former = create_whole("orders");
  // As a supervisor of old would do it that marks nothing: the uuid alone tells.
  std::filesystem::rename(path("q-orders"), path("elsewhere"));
  MOORING_EXPECT_OK(create("orders"));
  EXPECT_FALSE(former.still_current(shared()));
  EXPECT_TRUE(take(attach("orders")).still_current(shared()));
}

TEST_F(QueueFilesTest, DamagedQueueCanBeRemoved) {
  create_whole("orders");
  ASSERT_EQ(::truncate(file_of("orders", "ctl").c_str(), 10), 0);
  MOORING_EXPECT_OK(remove_queue(shared(), "orders"));
  EXPECT_TRUE(take(list_directory(shared())).empty());
}

TEST_F(QueueFilesTest, FailedQueueCanBeLookedAtAndRemovedOneCannot) {
  const QueueFiles queue = create_whole("orders");
  const auto set_life = [&queue](u64 life) {
    HardwareAtomics::store(queue.state().life, life, std::memory_order_release);
  };
  set_life(static_cast<u64>(QueueLife::kFailed));
  MOORING_EXPECT_OK(attach("orders"));
  set_life(static_cast<u64>(QueueLife::kRemoved));
  MOORING_EXPECT_FAILS(attach("orders"), Code::kNoSuchQueue, "being removed");
  set_life(0);
  MOORING_EXPECT_FAILS(attach("orders"), Code::kCorrupt, "life = 0");
}

// ---- modes ------------------------------------------------------------------------------------------------------

TEST_F(QueueFilesTest, PrivateQueueIsPrivate) {
  create_whole("orders");
  EXPECT_EQ(mode_of(path("q-orders")), 0700U);
  for (const std::string name : {"ctl", "order", "wake", "group-0", "lane-0", "seat-0", "park"}) {
    EXPECT_EQ(mode_of(file_of("orders", name)), 0600U) << name;
  }
}

TEST_F(QueueFilesTest, ModesLetTheGroupInButNotIntoWhatTheSupervisorWrites) {
  QueueOptions options = small_options();
  options.file_mode = 0664;
  const mode_t before = ::umask(0077);
  create_whole("orders", options);
  ::umask(before);
  EXPECT_EQ(mode_of(path("q-orders")), 0755U);
  for (const std::string name : {"order", "wake", "group-0", "lane-0", "seat-0"}) {
    EXPECT_EQ(mode_of(file_of("orders", name)), 0664U) << name;
  }
  EXPECT_EQ(mode_of(file_of("orders", "ctl")), 0644U);
  EXPECT_EQ(mode_of(file_of("orders", "park")), 0644U);
}

TEST_F(QueueFilesTest, GivenGroupOwnsEveryFileAndItsMembersGetIn) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to give files to a group that is not ours";
  QueueOptions options = small_options();
  options.file_mode = 0660;
  options.group_id = 4321;
  create_whole("orders", options);
  EXPECT_EQ(mode_of(path("q-orders")), 02750U);
  for (const std::string name : {"", "ctl", "order", "wake", "group-0", "lane-0", "seat-0", "park"}) {
    EXPECT_EQ(look_at(file_of("orders", name)).st_gid, 4321U) << name;
  }
  ASSERT_EQ(::chmod(scratch_.path().c_str(), 0711), 0);
  const auto as_user = [this](gid_t gid, auto&& work) {
    Child child([&] {
      if (::setgid(gid) != 0 || ::setuid(54321) != 0) return 77;
      const auto directory = open_shared_directory(scratch_.path(), 0, false);
      return directory ? work(*directory) : 76;
    });
    return child.exit_code();
  };
  EXPECT_EQ(as_user(4321,
                    [](const File& directory) {
                      const auto queue =
                          QueueFiles::attach(directory, 0, "orders", {.order_access = Access::read_write});
                      if (!queue) return 1;
                      if (!queue->map_lane(0, Access::read_write, true) || !queue->map_park(Access::read_only))
                        return 2;
                      if (list_directory(directory)) return 3;
                      if (QueueFiles::attach(directory, 0, "orders", supervisor_access())) return 4;
                      return create_file(queue->directory(), "lane-1", 0600, 0) ? 5 : 0;
                    }),
            0);
  EXPECT_EQ(as_user(4322,
                    [](const File& directory) {
                      const auto queue = QueueFiles::attach(directory, 0, "orders", {});
                      return !queue && queue.error().code == Code::kPermission ? 0 : 1;
                    }),
            0);
}

// Consumers write too (acks, and the words they sleep on): a group that may only read cannot take part.
TEST_F(QueueFilesTest, AGroupThatMayOnlyReadIsToldWhichModeItNeeds) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become somebody else";
  QueueOptions options = small_options();
  options.file_mode = 0640;
  options.group_id = 4321;
  create_whole("orders", options);
  ASSERT_EQ(::chmod(scratch_.path().c_str(), 0711), 0);
  Child child([&] {
    if (::setgid(4321) != 0 || ::setuid(54321) != 0) return 77;
    const auto directory = open_shared_directory(scratch_.path(), 0, false);
    if (!directory) return 76;
    for (const Access order_access : {Access::read_only, Access::read_write}) {
      const auto queue = QueueFiles::attach(*directory, 0, "orders", {.order_access = order_access});
      if (queue || queue.error().code != Code::kPermission) return 1;
      for (const char* part : {"0640", "0660", "--mode"}) {
        if (queue.error().text.find(part) == std::string::npos) return 2;
      }
    }
    return 0;
  });
  EXPECT_EQ(child.exit_code(), 0);
}

// ---- killed at every step ---------------------------------------------------------------------------------------

std::vector<std::string> seen_points;
std::size_t points_left = 0;

void remember_point(const char* name) { seen_points.emplace_back(name); }
void die_at_point(const char*) {
  if (points_left-- == 0) ::_exit(99);
}

class KilledAtEveryPoint : public QueueFilesTest {
 protected:
  // Runs `work` once undisturbed, to count the kill points on its way, and then once for each of them in a child that
  // dies there. Between runs `prepare` sets the stage; after each `judge` looks at it.
  template <class Prepare, class Work, class Judge>
  void run(Prepare&& prepare, Work&& work, Judge&& judge) {
    prepare();
    seen_points.clear();
    {
      const KillPointGuard guard(&remember_point);
      MOORING_EXPECT_OK(work());
    }
    ASSERT_FALSE(seen_points.empty());
    const std::vector<std::string> points = seen_points;
    for (std::size_t i = 0; i < points.size(); ++i) {
      SCOPED_TRACE("killed at " + std::to_string(i) + ", " + points[i]);
      for (const std::string& name : take(list_directory(shared()))) MOORING_EXPECT_OK(remove_tree(shared(), name));
      prepare();
      Child child([&] {
        points_left = i;
        const KillPointGuard guard(&die_at_point);
        return work() ? 0 : 1;
      });
      EXPECT_EQ(child.exit_code(), 99);
      judge(points[i]);
    }
  }

  // Nothing but what is wanted is left, after a supervisor has started.
  void expect_cleaned(const std::vector<std::string>& wanted) {
    std::vector<std::string> removed;
    MOORING_EXPECT_OK(remove_stale(shared(), ::geteuid(), &removed));
    EXPECT_EQ(take(list_directory(shared())), wanted);
  }
};

TEST_F(KilledAtEveryPoint, CreationLeavesACompleteQueueOrNothingToAttach) {
  std::set<std::string> complete_at;
  run([] {}, [this] { return create("orders"); },
      [&](const std::string& point) {
        const auto queue = attach("orders");
        if (queue) {
          complete_at.insert(point);
          expect_cleaned({"q-orders"});
          MOORING_EXPECT_FAILS(create("orders"), Code::kExists, "orders");
          MOORING_EXPECT_OK(make_lane_file(attach_as_supervisor("orders"), 0));
        } else {
          EXPECT_EQ(queue.error().code, Code::kNoSuchQueue) << queue.error().text;
          EXPECT_TRUE(take(list_queues(shared())).empty());
          // Also without a clean start the name is free.
          MOORING_EXPECT_OK(create("orders"));
          expect_cleaned({"q-orders"});
          MOORING_EXPECT_OK(attach("orders"));
        }
      });
  EXPECT_EQ(complete_at, std::set<std::string>{"segment.create.renamed"});
}

TEST_F(KilledAtEveryPoint, LeftoversOfACreationAreRemovedAtStart) {
  run([] {}, [this] { return create("orders"); },
      [&](const std::string& point) {
        expect_cleaned(point == "segment.create.renamed" ? std::vector<std::string>{"q-orders"}
                                                         : std::vector<std::string>{});
      });
}

TEST_F(KilledAtEveryPoint, RemovalIsFinishedAtStart) {
  run([this] { create_whole("orders"); }, [this] { return remove_queue(shared(), "orders"); },
      [&](const std::string&) {
        MOORING_EXPECT_FAILS(attach("orders"), Code::kNoSuchQueue, "orders");
        expect_cleaned({});
        MOORING_EXPECT_OK(create("orders"));
      });
}

TEST_F(KilledAtEveryPoint, FileAddedToALivingQueueIsWholeOrRefusedAndCanBeMadeAnew) {
  const auto work = [this]() -> Status {
    const QueueFiles queue = attach_as_supervisor("orders");
    if (auto made = make_group_file(queue, 0, 16); !made) return made;
    if (auto made = make_lane_file(queue, 0); !made) return made;
    if (auto made = make_seat_file(queue, 0); !made) return made;
    for (int step = 0; step < 2; ++step) {
      if (auto grown = grow_park_file(queue); !grown) return fail(grown.error());
    }
    return {};
  };
  run([this] { MOORING_EXPECT_OK(create("orders")); }, work,
      [&](const std::string&) {
        const QueueFiles queue = attach_as_supervisor("orders");
        for (const auto& mapping :
             {queue.map_group(0, Access::read_only, true), queue.map_lane(0, Access::read_only, true),
              queue.map_seat(0, Access::read_only), queue.map_park(Access::read_only)}) {
          if (mapping) continue;
          EXPECT_TRUE(mapping.error().code == Code::kNoSuchQueue || mapping.error().code == Code::kCorrupt)
              << mapping.error().text;
        }
        MOORING_EXPECT_OK(work());
        MOORING_EXPECT_OK(queue.map_group(0, Access::read_only, true));
        MOORING_EXPECT_OK(queue.map_lane(0, Access::read_only, true));
        MOORING_EXPECT_OK(queue.map_seat(0, Access::read_only));
        EXPECT_GE(take(queue.map_park(Access::read_only)).size_bytes(), 2 * layout::kParkStepBytes);
      });
}

// ---- no room ----------------------------------------------------------------------------------------------------

class SmallTmpfs : public QueueFilesTest {
 protected:
  // Runs `work` on a tmpfs of this size, in a mount namespace of a child: nothing stays mounted, however it ends.
  template <class Work>
  void run(const std::string& size, Work&& work) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root, to mount a small tmpfs";
    Child child([&] {
      if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
          ::mount("none", scratch_.path().c_str(), "tmpfs", 0, ("size=" + size).c_str()) != 0) {
        return 77;
      }
      return work(take(open_directory(scratch_.path())));
    });
    const int code = child.exit_code();
    if (code == 77) GTEST_SKIP() << "this root may not mount a tmpfs";
    EXPECT_EQ(code, 0);
  }
  static bool says(const Error& error, std::initializer_list<std::string> parts) {
    return error.code == Code::kDiskFull && std::all_of(parts.begin(), parts.end(), [&error](const std::string& part) {
             return error.text.find(part) != std::string::npos;
           });
  }
};

TEST_F(SmallTmpfs, QueueThatDoesNotFitIsRefusedWithWhatToDoAndLeavesNothing) {
  run("200k", [](const File& dir) {
    const auto constants = take(plan_queue("orders", {}));
    const auto made = create_queue(dir, constants, std::nullopt);
    if (made) return 1;
    if (!says(made.error(), {"q-orders", std::to_string(queue_bytes(constants)), "smaller capacity", "/dev/shm"})) {
      std::cerr << made.error().text << "\n";
      return 2;
    }
    if (!take(list_directory(dir)).empty()) return 3;
    // All of the room is back: the smallest queue fits.
    return create_queue(dir, take(plan_queue("orders", {.capacity = kCapacityMin})), std::nullopt) ? 0 : 4;
  });
}

TEST_F(SmallTmpfs, SmallestQueueWorksInTheBytesThatWereCounted) {
  const auto constants = take(plan_queue("orders", {.capacity = kCapacityMin}));
  run(std::to_string(queue_bytes(constants)), [&](const File& dir) {
    if (!create_queue(dir, constants, std::nullopt)) return 1;
    const auto queue = QueueFiles::attach(dir, ::geteuid(), "orders", supervisor_access());
    if (!queue) return 2;
    if (!make_group_file(*queue, 0, constants.first_seq)) return 3;
    if (!make_lane_file(*queue, 0)) return 4;
    if (!make_seat_file(*queue, 0)) return 5;
    // And not a page more.
    const auto lane = make_lane_file(*queue, 1);
    if (lane || !says(lane.error(), {"lane-1", "too small"})) return 6;
    const auto grown = grow_park_file(*queue);
    if (grown || !says(grown.error(), {"park", "too small"})) return 7;
    return queue->map_lane(0, Access::read_write, true) ? 0 : 8;
  });
}

// ---- many -------------------------------------------------------------------------------------------------------

TEST_F(QueueFilesTest, ThousandQueuesLiveSideBySide) {
  constexpr std::size_t kQueues = 1000;
  rlimit files{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = files.rlim_max;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &files), 0);
  // Each attached queue holds its directory open.
  if (files.rlim_cur < kQueues + 100) GTEST_SKIP() << "this process may open " << files.rlim_cur << " files only";

  const u64 start_ns = monotonic_ns();
  for (std::size_t i = 0; i < kQueues; ++i) {
    const auto made = create("queue-" + std::to_string(i), {.capacity = kCapacityMin});
    ASSERT_TRUE(made) << made.error().text;
  }
  const u64 created_ns = monotonic_ns();
  std::vector<QueueFiles> queues;
  for (std::size_t i = 0; i < kQueues; ++i) queues.push_back(attach_as_supervisor("queue-" + std::to_string(i)));
  const u64 attached_ns = monotonic_ns();
  for (const QueueFiles& queue : queues) {
    ASSERT_TRUE(make_group_file(queue, 0, queue.constants().first_seq) && make_lane_file(queue, 0) &&
                make_seat_file(queue, 0));
  }
  const u64 filled_ns = monotonic_ns();
  std::cout << kQueues << " smallest queues: created in " << (created_ns - start_ns) / kNsPerMs << " ms, attached in "
            << (attached_ns - created_ns) / kNsPerMs << " ms, group + lane + seat of each in "
            << (filled_ns - attached_ns) / kNsPerMs << " ms\n";
  EXPECT_EQ(take(list_queues(shared())).size(), kQueues);
  std::set<Uuid> uuids;
  for (const QueueFiles& queue : queues) uuids.insert(queue.uuid());
  EXPECT_EQ(uuids.size(), kQueues);
}

}  // namespace
}  // namespace mooring
