// The park file as its one writer keeps it: records whole and apart, room used again, what a successor finds, and files
// that somebody damaged.
#include "supervisor/park_store.hpp"

#include <set>

#include "segment/names.hpp"
#include "segment/queue_fixture.hpp"

namespace mooring {
namespace {

using layout::RecordState;

class ParkStoreTest : public QueueFilesTest {
 protected:
  ParkStoreTest() : files_(make()), store_(files_) {}

  // Messages as large as a step of the file, and few steps.
  QueueFiles make() {
    QueueOptions options = small_options();
    options.max_message_bytes = layout::kParkStepBytes;
    options.lane_bytes = 4 * layout::kParkStepBytes;
    layout::QueueConstants constants = take(plan_queue("parks", options));
    constants.park_store_bytes = 8 * layout::kParkStepBytes;
    MOORING_EXPECT_OK(create_queue(shared(), constants, std::nullopt));
    return attach_as_supervisor("parks");
  }

  u64 place_in(ParkStore& store, u64 seq, u64 len) {
    payload_.assign(len, static_cast<char>('a' + seq % 26));
    FrameView frame;
    frame.payload = reinterpret_cast<const u8*>(payload_.data());
    frame.len = len;
    frame.seq = seq;
    return store.place(frame, 3, 7, 2);
  }
  u64 place(u64 seq, u64 len) { return place_in(store_, seq, len); }
  std::string payload_at(u64 loc) {
    const Mapping park = take(files_.map_park(Access::read_only));
    const auto* record = reinterpret_cast<const layout::ParkRecord*>(park.data() + loc);
    return {reinterpret_cast<const char*>(record) + layout::park_payload_offset(record->attempt_room), record->len};
  }
  // What a successor's walk finds.
  std::set<u64> found(ParkStore& successor) {
    std::set<u64> locs;
    MOORING_EXPECT_OK(successor.load([&](u64 loc) { EXPECT_TRUE(locs.insert(loc).second); }));
    return locs;
  }

  QueueFiles files_;
  ParkStore store_;
  std::string payload_;
};

TEST_F(ParkStoreTest, RecordsAreWholeAndApart) {
  const u64 empty = place(1, 0);
  const u64 small = place(2, 100);
  const u64 large = place(3, layout::kParkStepBytes);  // a chunk of its own
  ASSERT_NE(empty, 0U);
  ASSERT_NE(large, 0U);
  EXPECT_EQ(payload_at(empty), "");
  EXPECT_EQ(payload_at(small), std::string(100, 'c'));
  EXPECT_EQ(payload_at(large), std::string(layout::kParkStepBytes, 'd'));
  EXPECT_EQ(store_.record(small)->group, 3U);
  EXPECT_EQ(store_.record(small)->group_generation, 7U);
  EXPECT_EQ(store_.word(small).state, RecordState::kStraggler);
}

TEST_F(ParkStoreTest, RoomThatIsGivenBackIsUsedAgain) {
  const u64 first = place(1, 1000);
  const u64 second = place(2, 1000);
  store_.release(first);
  EXPECT_EQ(place(3, 1000), first);
  store_.release(second);
  store_.release(second);  // twice is once
  store_.release(12345);   // and what is nobody's changes nothing
  EXPECT_EQ(place(4, 1100), second);
  store_.release(first);
  store_.release(second);
  EXPECT_EQ(store_.used_bytes(), 0U);
}

TEST_F(ParkStoreTest, TheFlagsOfAFrameAreKept) {
  payload_.assign(64, 'h');
  FrameView frame;
  frame.payload = reinterpret_cast<const u8*>(payload_.data());
  frame.len = payload_.size();
  frame.seq = 7;
  frame.flags = layout::kFramePublished | layout::kFrameKept;
  const u64 loc = store_.place(frame, 3, 7, 2);
  const Mapping park = take(files_.map_park(Access::read_only));
  EXPECT_EQ(reinterpret_cast<const layout::ParkRecord*>(park.data() + loc)->frame_flags, frame.flags);
  EXPECT_EQ(payload_at(loc), payload_);
}

TEST_F(ParkStoreTest, FullIsNoPlaceAndRoomComesBack) {
  const u64 bound = files_.constants().park_store_bytes;
  u64 last = 0;
  u64 count = 0;
  for (u64 loc = place(1, 5000); loc != 0; loc = place(1, 5000)) {
    last = loc;
    ASSERT_LE(++count * 5000, bound);
  }
  EXPECT_GT(count * 5000, bound / 2);
  store_.release(last);
  EXPECT_EQ(place(2, 5000), last);
}

// The length comes out of a frame header, which its producer may write over.
TEST_F(ParkStoreTest, AFrameLongerThanAMessageHasNoPlace) {
  const u64 most = files_.constants().max_message_bytes;
  FrameView frame;  // the payload is not looked at
  frame.seq = 1;
  for (const u64 len : {most + 1, layout::kFrameLenMax, ~u64{0} - 7, ~u64{0}}) {
    frame.len = len;
    EXPECT_EQ(store_.place(frame, 0, 1, 8), 0U) << len;
  }
  EXPECT_EQ(store_.used_bytes(), 0U);
  EXPECT_NE(place(1, most), 0U);
}

TEST_F(ParkStoreTest, ASuccessorFindsWhatIsInUseAndUsesTheRest) {
  const u64 first = place(1, 1000);
  const u64 second = place(2, 1000);
  const u64 large = place(3, layout::kParkStepBytes);
  const u64 note = store_.place_note(second, "why");
  store_.set_word(second, {.version = 0, .state = RecordState::kDead, .failed = 3, .acquired = 4, .alone = true});
  store_.release(first);
  ParkStore successor(files_);
  EXPECT_EQ(found(successor), (std::set<u64>{second, large, note}));
  EXPECT_EQ(successor.used_bytes(), store_.used_bytes());
  EXPECT_EQ(successor.word(second).failed, 3U);
  EXPECT_EQ(successor.word(second).acquired, 4U);
  EXPECT_TRUE(successor.word(second).alone);
  EXPECT_EQ(successor.note(note), "why");
  EXPECT_EQ(place_in(successor, 4, 1000), first);
  EXPECT_NE(place_in(successor, 5, 1000), second);
}

TEST_F(ParkStoreTest, OnlyPlacesOfRecordsAreRecords) {
  const u64 loc = place(1, 1000);
  const u64 note = store_.place_note(loc, "text");
  EXPECT_TRUE(store_.is_record(loc, 1));
  EXPECT_FALSE(store_.is_record(loc, 2));  // another seq
  EXPECT_FALSE(store_.is_record(note));
  for (const u64 bad : {loc + 8, loc + 64, u64{0}, ~u64{0} - 63, layout::kParkStepBytes * 1000}) {
    EXPECT_FALSE(store_.is_record(bad)) << bad;
  }
  store_.release(loc);
  EXPECT_FALSE(store_.is_record(loc, 1));
}

TEST_F(ParkStoreTest, ANoteIsCutToWhatIsKept) {
  const u64 loc = place(1, 10);
  const u64 note = store_.place_note(loc, std::string(2000, 'n'));
  EXPECT_EQ(store_.note(note), std::string(layout::kReasonTextMax, 'n'));
  EXPECT_EQ(store_.note(loc), "") << "no note";
}

TEST_F(ParkStoreTest, ADamagedFileIsAnErrorAndTakesNothing) {
  const u64 loc = place(1, 1000);
  const u64 chunk = layout::kParkChunksOffset;
  const std::string path = file_of("parks", std::string(kParkFileName));
  const struct {
    u64 at;
    u64 value;
  } damages[] = {{chunk, ~u64{0}},
                 {chunk, 4096},
                 {chunk, 3},  // chunk_bytes
                 {chunk + 8, 0},
                 {chunk + 8, 100},  // slot_bytes
                 {chunk + 16, u64{1} << 60},
                 {chunk + 16, 5000},    // slots
                 {loc + 32, ~u64{0}}};  // len of a record
  for (const auto& damage : damages) {
    u64 before = 0;
    const Mapping park = take(files_.map_park(Access::read_write));
    std::memcpy(&before, park.data() + damage.at, sizeof before);
    write_bytes(path, damage.at, bytes_of(damage.value));
    ParkStore successor(files_);
    MOORING_EXPECT_FAILS(successor.load([](u64 /*loc*/) {}), Code::kCorrupt, "park file is damaged");
    EXPECT_EQ(place_in(successor, 2, 5000), 0U);
    write_bytes(path, damage.at, bytes_of(before));
  }
  ParkStore mended(files_);
  EXPECT_EQ(found(mended), std::set<u64>{loc});
}

}  // namespace
}  // namespace mooring
