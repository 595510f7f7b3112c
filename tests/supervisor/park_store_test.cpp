// Room in the park file: placed, given back, used again; entries that were written over can do nothing to it.
#include "supervisor/park_store.hpp"

#include "segment/names.hpp"
#include "segment/queue_fixture.hpp"

namespace mooring {
namespace {

class ParkStoreTest : public QueueFilesTest {
 protected:
  ParkStoreTest() : files_(create_whole("parks", options())), store_(files_) {}

  // Messages as large as a step of the file.
  static QueueOptions options() {
    QueueOptions options = small_options();
    options.max_message_bytes = layout::kParkStepBytes;
    options.lane_bytes = 4 * layout::kParkStepBytes;
    return options;
  }

  u64 place(u64 seq, u64 len) {
    payload_.assign(len, static_cast<char>('a' + seq % 26));
    FrameView frame;
    frame.payload = reinterpret_cast<const u8*>(payload_.data());
    frame.len = len;
    frame.seq = seq;
    return store_.place(frame, 0);
  }
  std::string payload_at(u64 loc) {
    const Mapping park = take(files_.map_park(Access::read_only));
    const auto* record = reinterpret_cast<const layout::ParkRecord*>(park.data() + loc);
    return {reinterpret_cast<const char*>(record) + sizeof *record, record->len};
  }

  QueueFiles files_;
  ParkStore store_;
  std::string payload_;
};

TEST_F(ParkStoreTest, RecordsAreWholeAndApart) {
  const u64 empty = place(1, 0);
  const u64 small = place(2, 100);
  const u64 large = place(3, layout::kParkStepBytes);  // the file has to grow for it
  ASSERT_NE(empty, 0U);
  ASSERT_NE(large, 0U);
  EXPECT_EQ(payload_at(empty), "");
  EXPECT_EQ(payload_at(small), std::string(100, 'c'));
  EXPECT_EQ(payload_at(large), std::string(layout::kParkStepBytes, 'd'));
}

TEST_F(ParkStoreTest, RoomThatIsGivenBackIsUsedAgain) {
  const u64 first = place(1, 1000);
  const u64 second = place(2, 1000);
  store_.release(first);
  EXPECT_EQ(place(3, 1000), first);
  store_.release(second);
  store_.release(second);  // twice is once
  store_.release(12345);   // and what is nobody's changes nothing
  EXPECT_EQ(place(4, 900), second);
  store_.release(first);
  store_.release(second);
  EXPECT_EQ(store_.used_bytes(), 0U);
}

TEST_F(ParkStoreTest, FullIsNoPlace) {
  const u64 bound = files_.constants().park_store_bytes;
  u64 placed = 0;
  while (placed <= bound && place(1, layout::kParkStepBytes) != 0) placed += layout::kParkStepBytes;
  EXPECT_GT(placed, bound / 2);
  EXPECT_LE(placed, bound);
}

// The length comes out of a frame header, which its producer may write over.
TEST_F(ParkStoreTest, AFrameLongerThanAMessageHasNoPlace) {
  const u64 most = files_.constants().max_message_bytes;
  FrameView frame;  // the payload is not looked at
  frame.seq = 1;
  for (const u64 len : {most + 1, layout::kFrameLenMax, ~u64{0} - 7, ~u64{0}}) {
    frame.len = len;
    EXPECT_EQ(store_.place(frame, 0), 0U) << len;
  }
  EXPECT_EQ(store_.used_bytes(), 0U);
  EXPECT_NE(place(1, most), 0U);
}

TEST_F(ParkStoreTest, ASuccessorKeepsWhatEntriesName) {
  const u64 first = place(1, 1000);
  const u64 second = place(2, 1000);
  ParkStore successor(files_);
  EXPECT_TRUE(successor.adopt(second, 2));
  FrameView frame;
  frame.payload = reinterpret_cast<const u8*>(payload_.data());
  frame.len = 500;
  frame.seq = 3;
  EXPECT_EQ(successor.place(frame, 0), first);  // nobody named it: free
  EXPECT_NE(successor.place(frame, 0), second);
}

TEST_F(ParkStoreTest, EntriesThatNameNoRecordReserveNothing) {
  const u64 loc = place(1, 1000);
  ParkStore successor(files_);
  EXPECT_FALSE(successor.adopt(loc, 2));  // another seq
  EXPECT_FALSE(successor.adopt(loc + 8, 1));
  EXPECT_FALSE(successor.adopt(0, 1));
  EXPECT_FALSE(successor.adopt(~u64{0} - 63, 1));
  EXPECT_FALSE(successor.adopt(layout::kParkStepBytes * 1000, 1));
  EXPECT_EQ(successor.used_bytes(), 0U);
  EXPECT_TRUE(successor.adopt(loc, 1));
  EXPECT_FALSE(successor.adopt(loc, 1));  // twice
  const u64 used = successor.used_bytes();
  // A record that stands inside another one's room: made of payload bytes, by who wrote the entry.
  layout::ParkRecord fake{};
  fake.seq = 9;
  fake.capacity_bytes = 64;
  write_bytes(file_of("parks", std::string(kParkFileName)), loc + 128, bytes_of(fake));
  EXPECT_FALSE(successor.adopt(loc + 128, 9));
  EXPECT_EQ(successor.used_bytes(), used);
}

}  // namespace
}  // namespace mooring
