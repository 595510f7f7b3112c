// Small things that tests of the log share: a log on a simulated disk with messages that tell who they are.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "journal/block_hash.hpp"
#include "journal/recovery.hpp"
#include "journal/segment_pool.hpp"
#include "journal/sim_disk.hpp"
#include "journal/sim_log.hpp"
#include "support/payload.hpp"

namespace mooring::test {

// Collects what a scan shows; payloads are those of their seq.
class SeqVisitor : public journal::LogVisitor {
 public:
  void message(const journal::MessageView& message) override {
    if (message.bytes.size() > kPayloadBytesMax ||
        !std::equal(message.bytes.begin(), message.bytes.end(), payload_of(message.seq, message.bytes.size()))) {
      wrong.push_back(message.seq);
    }
    seqs.push_back(message.seq);
  }
  void block(const journal::BlockHeader& header, u64 offset) override { blocks.push_back({header, offset}); }
  struct Block {
    journal::BlockHeader header;
    u64 offset;
  };
  std::vector<u64> seqs;
  std::vector<u64> wrong;  // seqs whose bytes are not theirs
  std::vector<Block> blocks;
};

inline Status append(journal::LogWriter& writer, u64 len) {
  const u64 seq = writer.next_seq();
  Status done = writer.append_message({seq, 1, 0, {payload_of(seq, len), len}});
  if (done || done.error().code != Code::kFull) return done;
  if (done = writer.flush(); !done) return done;
  return writer.append_message({seq, 1, 0, {payload_of(seq, len), len}});
}

// `count` blocks of one message each.
inline void write_blocks(journal::LogWriter& writer, u64 count, u64 len = 1000) {
  for (u64 i = 0; i < count; ++i) {
    const Status appended = append(writer, len);
    ASSERT_TRUE(appended) << appended.error().text;
    const Status flushed = writer.flush();
    ASSERT_TRUE(flushed) << flushed.error().text;
  }
}

inline Result<journal::OpenLog> open_sim(SimDisk& disk, const journal::LogOptions& options, bool salvage = false) {
  SeqVisitor visitor;
  return journal::open_log(disk, options, visitor, {0, salvage});
}

// A new log with one group, 1, that begins at its first message.
inline std::unique_ptr<journal::LogWriter> new_log_with_a_group(SimDisk& disk, const journal::LogOptions& options) {
  auto open = open_sim(disk, options);
  if (!open) return nullptr;
  journal::GroupState group;
  group.name = "g";
  group.start = options.first_seq;
  const bool entered =
      open->writer->append_group(1, journal::GroupChange::kCreate, group) && open->writer->flush().has_value();
  return entered ? std::move(open->writer) : nullptr;
}

inline Result<journal::LogScan> scan_sim(SimDisk& disk, SeqVisitor& visitor, const journal::LogOptions& options,
                                         bool salvage = false) {
  journal::ScanOptions scan_options{options.uuid};
  scan_options.salvage = salvage;
  return journal::scan_log(disk, scan_options, visitor);
}

inline journal::RecoveryRow row_of(SimDisk& disk, const journal::LogOptions& options) {
  SeqVisitor visitor;
  const auto scan = scan_sim(disk, visitor, options);
  EXPECT_TRUE(scan.has_value()) << scan.error().text;
  EXPECT_EQ(journal::matching_rows(scan->facts).size(), 1u);
  return journal::decide(scan->facts);
}

// Without what a good-natured end would do: nothing of the process runs any more.
inline void drop_as_killed(SimDisk& disk, std::unique_ptr<journal::LogWriter>& writer) {
  Random random(5);
  disk.halt();
  writer.reset();
  disk.process_killed(random, true);
}

inline void flip(SimDisk& disk, const std::string& name, u64 offset, u8 bits = 1) {
  std::vector<u8> bytes = disk.content(name);
  ASSERT_LT(offset, bytes.size());
  bytes[offset] ^= bits;
  disk.set_content(name, std::move(bytes));
}

inline void overwrite(SimDisk& disk, const std::string& name, u64 offset, std::span<const u8> with) {
  std::vector<u8> bytes = disk.content(name);
  ASSERT_LE(offset + with.size(), bytes.size());
  std::memcpy(bytes.data() + offset, with.data(), with.size());
  disk.set_content(name, std::move(bytes));
}

}  // namespace mooring::test
