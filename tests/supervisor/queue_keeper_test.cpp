// One queue and its keeper, without processes: grants, refusals, deaths, groups, what a successor makes of each state.
// The directory is a scratch one; the owners are identities of our choice, since the keeper only compares them.
#include "supervisor/queue_keeper.hpp"

#include "queue/error_detail.hpp"
#include "segment/queue_fixture.hpp"

namespace mooring {
namespace {

constexpr ProcessIdentity kAlice{1001, 10};
constexpr ProcessIdentity kBob{1002, 20};

class QueueKeeperTest : public QueueFilesTest {
 protected:
  std::unique_ptr<QueueKeeper> open(const std::string& name = "kept") {
    return take(QueueKeeper::open(shared(), ::geteuid(), name, 1));
  }
  std::unique_ptr<QueueKeeper> make(const QueueOptions& options = small_options()) {
    MOORING_EXPECT_OK(create("kept", options));
    auto keeper = open();
    std::vector<ProcessIdentity> owners;
    MOORING_EXPECT_OK(keeper->adopt(&owners));
    return keeper;
  }
  // As a client does when it took its grant, or closed it.
  void mark_lane(u32 lane, u64 opened, u64 closed) {
    const QueueFiles files = attach_as_supervisor("kept");
    const Mapping mapping = take(files.map_lane(lane, Access::read_write, false));
    auto* head = reinterpret_cast<layout::LaneHead*>(mapping.data());
    head->opened = opened;
    head->closed = closed;
  }
  void mark_seat(u32 seat, u64 opened, u64 closed) {
    const QueueFiles files = attach_as_supervisor("kept");
    const Mapping mapping = take(files.map_seat(seat, Access::read_write));
    auto* head = reinterpret_cast<layout::SeatHead*>(mapping.data());
    head->opened = opened;
    head->closed = closed;
  }
};

TEST_F(QueueKeeperTest, AQueueWithoutAGroupGetsItsDefault) {
  auto keeper = make();
  MOORING_EXPECT_OK(keeper->open_consumer("default", kAlice));
  MOORING_EXPECT_FAILS(keeper->open_consumer("other", kAlice), Code::kNoSuchQueue, "other");
}

TEST_F(QueueKeeperTest, GrantsDifferAndRunOut) {
  auto keeper = make();  // two lanes, seats 1 to 3
  const LaneGrant first = take(keeper->open_producer(kAlice));
  const LaneGrant second = take(keeper->open_producer(kAlice));
  EXPECT_NE(first.lane, second.lane);
  MOORING_EXPECT_FAILS(keeper->open_producer(kBob), Code::kNoSeat, "producers_max");
  const SeatGrant one = take(keeper->open_consumer("default", kAlice));
  const SeatGrant two = take(keeper->open_consumer("default", kBob));
  EXPECT_NE(one.seat, two.seat);
  (void)take(keeper->open_consumer("default", kBob));
  MOORING_EXPECT_FAILS(keeper->open_consumer("default", kBob), Code::kNoSeat, "consumers_max");
}

TEST_F(QueueKeeperTest, OnlyItsOwnerClosesAGrantAndOnlyThatOne) {
  auto keeper = make();
  const LaneGrant lane = take(keeper->open_producer(kAlice));
  const SeatGrant seat = take(keeper->open_consumer("default", kAlice));
  MOORING_EXPECT_FAILS(keeper->close_producer(kBob, lane.lane, lane.generation), Code::kPermission, "1001");
  MOORING_EXPECT_FAILS(keeper->close_consumer(kBob, seat.seat, seat.generation), Code::kPermission, "1001");
  MOORING_EXPECT_FAILS(keeper->close_producer(kAlice, 99, 1), Code::kBadArgument, "lane");
  MOORING_EXPECT_FAILS(keeper->close_consumer(kAlice, 0, 1), Code::kBadArgument, "seat");
  MOORING_EXPECT_OK(keeper->close_consumer(kAlice, seat.seat, seat.generation + 1));  // not this one: nothing
  EXPECT_EQ(keeper->counts().consumers, 1U);
  MOORING_EXPECT_OK(keeper->close_consumer(kAlice, seat.seat, seat.generation));
  MOORING_EXPECT_OK(keeper->close_consumer(kAlice, seat.seat, seat.generation));
  EXPECT_EQ(keeper->counts().consumers, 0U);
  const SeatGrant again = take(keeper->open_consumer("default", kBob));
  EXPECT_EQ(again.seat, seat.seat);
  EXPECT_NE(again.generation, seat.generation);
}

TEST_F(QueueKeeperTest, ALaneWhoseMessagesWaitIsGrantedOnlyWhenNoneIsFree) {
  using A = HardwareAtomics;
  auto keeper = make();  // two lanes
  const QueueFiles files = attach_as_supervisor("kept");
  const OrderView order{files.order_head(), files.order_cells(), files.constants().cells - 1,
                        log2_of_power(files.constants().cells)};
  const auto publish = [&](const LaneGrant& grant, u64 count) {
    const Mapping mapping = take(files.map_lane(grant.lane, Access::read_write, false));
    const layout::LaneSlot& slot = files.lane_slot(grant.lane);
    OrderWriter<A> writer(order, view_lane(mapping, files.constants().lane_bytes), grant.lane, slot.reclaim_floor);
    EXPECT_EQ(writer.inherit(slot.last_seq), RingOutcome::kOk);
    const auto mark = [&] { return files.constants().first_seq; };  // nobody reads
    RingOutcome why = RingOutcome::kOk;
    u64 last = 0;
    u64 published = 0;
    for (u64 i = 0; i < count; ++i) {
      ASSERT_NE(writer.reserve(100, mark, &why), nullptr);
      writer.append(100);
      ASSERT_EQ(writer.publish(mark, &last, &published), RingOutcome::kOk);
    }
    mark_lane(grant.lane, grant.generation, grant.generation);
  };
  const LaneGrant first = take(keeper->open_producer(kAlice));
  publish(first, 3);
  MOORING_EXPECT_OK(keeper->close_producer(kAlice, first.lane, first.generation));
  const LaneGrant second = take(keeper->open_producer(kAlice));
  EXPECT_NE(second.lane, first.lane) << "there was a free one";
  publish(second, 1);
  keeper->owner_died(kAlice);
  const LaneGrant heir = take(keeper->open_producer(kBob));
  EXPECT_EQ(heir.lane, second.lane) << "the one with more room";
  EXPECT_EQ(heir.generation, second.generation + 1);
  EXPECT_EQ(files.lane_slot(heir.lane).last_seq, files.constants().first_seq + 3);
  // The notice that its owner before closed is old, and so is a request that comes late.
  keeper->tick(1, /*bell=*/true);
  MOORING_EXPECT_OK(keeper->close_producer(kAlice, second.lane, second.generation));
  EXPECT_EQ(keeper->counts().producers, 1U);
  publish(heir, 2);
  const LaneGrant other = take(keeper->open_producer(kBob));
  EXPECT_EQ(other.lane, first.lane) << "both lanes hold three messages: the first of them";
  MOORING_EXPECT_OK(keeper->open_producer(kBob));
  MOORING_EXPECT_FAILS(keeper->open_producer(kBob), Code::kNoSeat, "producers_max");
}

TEST_F(QueueKeeperTest, DeathFreesAllOfOneProcessAndNothingOfAnother) {
  auto keeper = make();
  take(keeper->open_producer(kAlice));
  take(keeper->open_producer(kBob));
  take(keeper->open_consumer("default", kAlice));
  take(keeper->open_consumer("default", kBob));
  keeper->owner_died({kAlice.pid, kAlice.start_time_ticks + 1});  // a later process with her number
  EXPECT_TRUE(keeper->holds_anything(kAlice));
  keeper->owner_died(kAlice);
  EXPECT_FALSE(keeper->holds_anything(kAlice));
  EXPECT_TRUE(keeper->holds_anything(kBob));
  MOORING_EXPECT_OK(keeper->open_producer(kAlice));
  MOORING_EXPECT_OK(keeper->open_consumer("default", kAlice));
}

TEST_F(QueueKeeperTest, GrantsThatWereNeverTakenAreDropped) {
  auto keeper = make();
  const LaneGrant taken = take(keeper->open_producer(kAlice));
  mark_lane(taken.lane, taken.generation, 0);
  take(keeper->open_producer(kAlice));
  const SeatGrant seat = take(keeper->open_consumer("default", kAlice));
  mark_seat(seat.seat, seat.generation, 0);
  take(keeper->open_consumer("default", kAlice));
  keeper->drop_untaken(kAlice);
  EXPECT_EQ(keeper->counts().producers, 1U);
  EXPECT_EQ(keeper->counts().consumers, 1U);
}

TEST_F(QueueKeeperTest, GrantsThatAreNoLongerMappedAreDropped) {
  auto keeper = make();
  const LaneGrant lane = take(keeper->open_producer(kAlice));
  const SeatGrant seat = take(keeper->open_consumer("default", kAlice));
  const auto nothing = [](u64, const std::string&) { return false; };
  EXPECT_EQ(keeper->drop_unmapped(kAlice, nothing), 0U) << "not taken yet, so not mapped yet";
  mark_lane(lane.lane, lane.generation, 0);
  mark_seat(seat.seat, seat.generation, 0);
  EXPECT_EQ(keeper->drop_unmapped(kBob, nothing), 0U);
  EXPECT_EQ(keeper->drop_unmapped(kAlice, [](u64, const std::string& name) { return name == "q-kept/lane-0"; }), 1U);
  EXPECT_EQ(keeper->counts().producers, 1U);
  EXPECT_EQ(keeper->counts().consumers, 0U);
}

TEST_F(QueueKeeperTest, ASuccessorKnowsOwnersAndFindsWhatWasClosed) {
  LaneGrant lane;
  SeatGrant seat;
  {
    auto keeper = make();
    lane = take(keeper->open_producer(kAlice));
    seat = take(keeper->open_consumer("default", kBob));
  }
  auto successor = open();
  std::vector<ProcessIdentity> owners;
  MOORING_EXPECT_OK(successor->adopt(&owners));
  EXPECT_EQ(owners.size(), 2U);
  EXPECT_TRUE(successor->holds_anything(kAlice));
  mark_lane(lane.lane, lane.generation, lane.generation);
  mark_seat(seat.seat, seat.generation, seat.generation);
  successor->tick(1, /*bell=*/true);
  EXPECT_FALSE(successor->holds_anything(kAlice));
  EXPECT_FALSE(successor->holds_anything(kBob));
}

TEST_F(QueueKeeperTest, TheLastGroupStaysAndNamesAreFreeAgain) {
  auto keeper = make();
  MOORING_EXPECT_FAILS(keeper->remove_group("default"), Code::kBadArgument, "last");
  EXPECT_TRUE(take(keeper->create_group("more", layout::GroupMode::kExclusive)));
  EXPECT_FALSE(take(keeper->create_group("more", layout::GroupMode::kExclusive)));
  MOORING_EXPECT_FAILS(keeper->create_group("more", layout::GroupMode::kCompeting), Code::kExists, "exclusive");
  MOORING_EXPECT_FAILS(keeper->create_group("third", layout::GroupMode::kCompeting), Code::kNoSeat, "groups_max");
  MOORING_EXPECT_FAILS(keeper->create_group("../x", layout::GroupMode::kCompeting), Code::kBadArgument, "");
  take(keeper->open_consumer("more", kAlice));
  MOORING_EXPECT_FAILS(keeper->open_consumer("more", kBob), Code::kNoSeat, "1001");
  MOORING_EXPECT_FAILS(keeper->remove_group("more"), Code::kNoSeat, "consumers");
  keeper->owner_died(kAlice);
  MOORING_EXPECT_OK(keeper->remove_group("more"));
  EXPECT_TRUE(take(keeper->create_group("more", layout::GroupMode::kCompeting)));
}

TEST_F(QueueKeeperTest, QuotasAreSharedOut) {
  QueueOptions options = small_options();
  options.capacity = 4096;
  auto keeper = make(options);
  const QueueFiles files = attach_as_supervisor("kept");
  const u64 parks = files.constants().parks;
  take(keeper->open_consumer("default", kAlice));
  EXPECT_EQ(files.group_slot(0).quota, parks / 2);
  take(keeper->open_consumer("default", kBob));
  EXPECT_EQ(files.group_slot(0).quota, parks / 4);
  keeper->owner_died(kAlice);
  EXPECT_EQ(files.group_slot(0).quota, parks / 2);
}

TEST_F(QueueKeeperTest, ADamagedLaneIsAnErrorForANewGroup) {
  QueueOptions options = small_options();
  options.kind = layout::QueueKind::kSpsc;
  options.producers_max = 0;
  auto keeper = make(options);
  {
    const QueueFiles files = attach_as_supervisor("kept");
    const Mapping mapping = take(files.map_lane(0, Access::read_write, false));
    auto* head = reinterpret_cast<layout::LaneHead*>(mapping.data());
    head->checkpoints[0].position = files.constants().lane_bytes - 1;  // a load there would leave the mapping
    head->checkpoints[0].seq = 77;
  }
  MOORING_EXPECT_FAILS(keeper->create_group("late", layout::GroupMode::kExclusive), Code::kCorrupt, "lane");
}

TEST_F(QueueKeeperTest, AFailedQueueStaysFailedForASuccessor) {
  {
    auto keeper = make();
    attach_as_supervisor("kept").state().life = static_cast<u64>(layout::QueueLife::kFailed);
  }
  auto successor = open();
  EXPECT_TRUE(successor->failed());
}

}  // namespace
}  // namespace mooring
