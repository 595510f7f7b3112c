// Shows: the bytes are those of docs/format.md, which has one block in hex; and the golden files of the format, made
// once and committed, are still read, and would be written the same today. How: the example is built by the shipped
// builder with fixed clocks, and compared with the document's text.
//
//   MOORING_WRITE_GOLDEN=tests/journal/golden/v1 journal_test --gtest_filter=Golden.*     after a change of the format
#include "journal/format.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "journal/block_builder.hpp"
#include "journal/log_on_sim.hpp"

namespace mooring::test {
namespace {

using journal::BlockBuilder;
using journal::BlockHeader;
using journal::GroupChange;
using journal::GroupState;
using journal::kBlockHeaderBytes;
using journal::LogOptions;
using journal::MessageRecord;
using journal::RecordType;

namespace fs = std::filesystem;

std::string read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// Sixteen bytes a line, with the offset before them, as in the document.
std::string hex_of(std::span<const u8> bytes) {
  std::string text;
  std::array<char, 32> part{};
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i % 16 == 0) {
      std::snprintf(part.data(), part.size(), "%s%04zx ", i == 0 ? "" : "\n", i);
      text += part.data();
    }
    std::snprintf(part.data(), part.size(), " %02x", static_cast<unsigned>(bytes[i]));
    text += part.data();
  }
  return text + "\n";
}

TEST(Format, TheExampleInTheDocumentIsWhatTheWriterMakes) {
  BlockHeader header{};
  for (std::size_t i = 0; i < header.uuid.size(); ++i) header.uuid[i] = static_cast<u8>(0xa0 + i);
  header.incarnation = 1;
  header.number = 2;
  header.salt = 0x1122334455667788;
  header.log_pos = 8192;
  header.prev_check = 0x0102030405060708;
  header.durable_before = 8192;
  header.wall_ns = 1'700'000'000'000'000'000;
  header.boottime_ns = 5'000'000'000;
  BlockBuilder block(8192);
  block.start(journal::hash_seed(header.uuid, header.log_pos), 7);
  const MessageRecord message{7, 3, 0x20};
  const std::string text = "hello";
  block.add(RecordType::kMessage, 0, {reinterpret_cast<const u8*>(&message), sizeof(message)},
            {reinterpret_cast<const u8*>(text.data()), text.size()});
  block.seal(header);
  EXPECT_EQ(block.bytes().size(), 4096u);
  const std::string example = hex_of(block.bytes().first(kBlockHeaderBytes + block.body_bytes()));
  const std::string document = read_text(fs::path(MOORING_SOURCE_DIR) / "docs/format.md");
  EXPECT_NE(document.find(example), std::string::npos) << "docs/format.md should have:\n" << example;
}

TEST(Format, TheDocumentNamesEveryRecord) {
  const std::string document = read_text(fs::path(MOORING_SOURCE_DIR) / "docs/format.md");
  for (const char* name : {"MESSAGE", "CURSOR", "PARK", "RELEASE", "GROUP", "SNAPSHOT", "SEAL"}) {
    EXPECT_NE(document.find(std::string("| ") + name), std::string::npos) << name;
  }
}

// A block of a later version's records behind what we know.
void write_strange_record(SimDisk& disk, const LogOptions& options, u16 flags) {
  auto open = open_sim(disk, options);
  ASSERT_TRUE(open);
  write_blocks(*open->writer, 2);
  drop_as_killed(disk, open->writer);
  SeqVisitor visitor;
  ASSERT_TRUE(scan_sim(disk, visitor, options));
  const auto last = visitor.blocks.back();
  BlockHeader header = last.header;
  header.prev_check = last.header.check;
  header.log_pos += last.header.bytes;
  header.durable_before = header.log_pos;
  BlockBuilder block(8192);
  block.start(journal::hash_seed(header.uuid, header.log_pos), open->recovered.next_seq);
  block.add(static_cast<RecordType>(99), flags, {}, std::vector<u8>(24));
  block.seal(header);
  overwrite(disk, journal::segment_name(header.number), last.offset + last.header.bytes, block.bytes());
}

TEST(Format, UnknownRecordsAreSkippedIfTheyMayBe) {
  SimDisk disk;
  const LogOptions options = tiny_log_options(8);
  write_strange_record(disk, options, journal::kRecordSkippable);
  const auto open = open_sim(disk, options);
  ASSERT_TRUE(open) << open.error().text;
  EXPECT_EQ(open->recovered.next_seq, options.first_seq + 2);
}

TEST(Format, UnknownRecordsAreRefusedOtherwise) {
  SimDisk disk;
  const LogOptions options = tiny_log_options(8);
  write_strange_record(disk, options, 0);
  const auto open = open_sim(disk, options);
  ASSERT_FALSE(open);
  EXPECT_EQ(open.error().code, Code::kVersion);
}

// Every kind of record, two incarnations, two segments and a torn tail.
void make_golden(SimDisk& disk) {
  LogOptions options = tiny_log_options(2026);
  options.segment_bytes = options.small_segment_bytes;
  auto open = open_sim(disk, options);
  ASSERT_TRUE(open);
  GroupState group;
  group.name = "orders";
  group.config = "{\"on_failure\":\"park\"}";
  group.mode = 1;
  group.start = options.first_seq;
  ASSERT_TRUE(open->writer->append_group(1, GroupChange::kCreate, group));
  ASSERT_TRUE(open->writer->append_group(2, GroupChange::kCreate, group));
  write_blocks(*open->writer, 2, 100);
  const std::array runs = {journal::AckRun{1002, 1}};
  ASSERT_TRUE(open->writer->append_cursor(1, 1001, {}));
  ASSERT_TRUE(open->writer->append_park({1, 3, 1001, 4096, 2, 1, 1'700'000'001'000'000'000, 9, 4, 0}));
  ASSERT_TRUE(open->writer->append_park({2, 1, 1000, 4096, 1, 1, 0, 0, 1, 0}));
  ASSERT_TRUE(open->writer->append_release(2, 1000));
  ASSERT_TRUE(open->writer->append_group(2, GroupChange::kRemove, group));
  write_blocks(*open->writer, 3, 700);
  ASSERT_TRUE(open->writer->append_cursor(1, 1001, runs));
  ASSERT_TRUE(open->writer->seal());
  drop_as_killed(disk, open->writer);
  open = open_sim(disk, options);
  ASSERT_TRUE(open);
  write_blocks(*open->writer, 2, 1500);
  drop_as_killed(disk, open->writer);
  SeqVisitor visitor;
  ASSERT_TRUE(scan_sim(disk, visitor, options));
  overwrite(disk, journal::segment_name(visitor.blocks.back().header.number), visitor.blocks.back().offset + 512,
            std::vector<u8>(512));
}

TEST(Golden, FilesOfVersionOneAreReadAndWouldBeWrittenTheSame) {
  const fs::path folder = fs::path(MOORING_SOURCE_DIR) / "tests/journal/golden/v1";
  SimDisk made;
  ASSERT_NO_FATAL_FAILURE(make_golden(made));
  if (const char* where = std::getenv("MOORING_WRITE_GOLDEN"); where != nullptr) {
    fs::create_directories(where);
    for (const std::string& name : made.files()) {
      const auto bytes = made.content(name);
      std::ofstream(fs::path(where) / name, std::ios::binary)
          .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    }
  }
  SimDisk golden;
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string bytes = read_text(entry.path());
    const std::string name = entry.path().filename().string();
    golden.set_content(name, {bytes.begin(), bytes.end()});
    ASSERT_EQ(std::vector<u8>(bytes.begin(), bytes.end()), made.content(name)) << name << " would be written otherwise";
    ++files;
  }
  EXPECT_EQ(files, made.files().size());
  SeqVisitor visitor;
  const auto scan = scan_sim(golden, visitor, tiny_log_options(2026));
  ASSERT_TRUE(scan) << scan.error().text;
  EXPECT_EQ(journal::decide(scan->facts), journal::RecoveryRow::kTorn);
  EXPECT_EQ(visitor.seqs, (std::vector<u64>{1000, 1001, 1002, 1003, 1004, 1005}));
  EXPECT_TRUE(visitor.wrong.empty());
  ASSERT_EQ(scan->state.groups.size(), 1u);
  EXPECT_EQ(scan->state.groups.at(1).name, "orders");
  EXPECT_EQ(scan->state.groups.at(1).base, 1001u);
  EXPECT_EQ(scan->state.groups.at(1).runs.size(), 1u);
  ASSERT_EQ(scan->state.parks.size(), 1u);
  EXPECT_EQ(scan->state.parks.begin()->second.failed, 1u);
}

}  // namespace
}  // namespace mooring::test
