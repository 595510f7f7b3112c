#include "journal/park_copies.hpp"

#include <algorithm>

#include "base/kill_point.hpp"

namespace mooring::journal {
namespace {

template <class Append>
Status append_or_flush(LogWriter& writer, Append&& append) {
  Status done = append();
  if (done || done.error().code != Code::kFull) return done;
  if (done = writer.flush(); !done) return done;
  return append();
}

Status read_parked(LogWriter& writer, BacklogReader& reader, const ParkRecord& park, MessageView* message) {
  auto found = find_parked(writer, reader, park, message);
  if (!found) return fail(found.error());
  if (*found == BacklogReader::Found::kMessage) return {};
  return fail(Code::kCorrupt, "the log has lost message " + std::to_string(park.seq) + ", which is parked");
}

// All of it twice, and no more is parked: then copying would go round and round.
bool is_worth_it(const LogWriter& writer) {
  if (writer.retained().size() < kParksPinSegments) return false;
  const u64 bytes = writer.durable().log_pos - writer.oldest_log_pos();
  const u64 first_seq = writer.index().empty() ? 0 : writer.index().front().seq;
  const u64 messages = std::max<u64>(writer.next_seq() - std::min(first_seq, writer.next_seq()), 1);
  return bytes / 2 >= bytes / messages * writer.state().parks.size();
}

}  // namespace

Result<BacklogReader::Found> find_parked(const LogWriter& writer, BacklogReader& reader, const ParkRecord& park,
                                         MessageView* message) {
  // By its seq there is an index; behind a place every block is looked at.
  if (park.message_log_pos == 0 || writer.holds(park.seq)) return reader.find(park.seq, writer.durable(), message);
  return reader.find_from(park.message_log_pos, park.seq, writer.durable(), message);
}

Result<u64> bring_parks_forward(LogWriter& writer, BacklogReader& reader, u64 seq, u64 most) {
  if (!is_worth_it(writer)) return 0;
  const RetainedSegment& oldest = writer.retained().front();
  if (oldest.next_seq > std::min(seq, writer.state().min_base().value_or(seq))) return 0;
  std::vector<ParkRecord> pinning;
  bool is_all = true;
  for (const auto& [key, park] : writer.state().parks) {
    if (park.message_log_pos >= oldest.end_log_pos) continue;
    is_all = pinning.size() < most;
    if (!is_all) break;
    pinning.push_back(park);
  }
  // On a full disk a copy may take from the reserve where that surely lets the segment go.
  const auto fits_reserve = [&]() -> Result<bool> {
    u64 bytes = 0;
    for (const ParkRecord& park : pinning) {
      MessageView message;
      if (Status read = read_parked(writer, reader, park, &message); !read) return fail(read.error());
      bytes += record_bytes(sizeof(MessageRecord) + message.bytes.size()) + record_bytes(sizeof(ParkRecord));
    }
    return is_all && bytes <= kUrgentCopyBytes;
  };
  bool urgent = false;
  for (ParkRecord& park : pinning) {
    MessageView message;
    if (Status read = read_parked(writer, reader, park, &message); !read) return fail(read.error());
    const auto copy = [&] {
      return append_or_flush(writer, [&] {
        return writer.append_message(
            {message.seq, message.lane, message.frame_flags, message.bytes, /*copy=*/true, urgent});
      });
    };
    Status copied = copy();
    if (!copied && copied.error().code == Code::kDiskFull && !urgent) {
      const Result<bool> fits = fits_reserve();
      if (!fits) return fail(fits.error());
      if (!*fits) return fail(copied.error());
      urgent = true;
      if (Status read = read_parked(writer, reader, park, &message); !read) return fail(read.error());
      copied = copy();
    }
    if (!copied) return fail(copied.error());
    MOORING_KILL_POINT("journal.park_copied");
    // Where the block that fills will lie: behind everything that was sent.
    park.message_log_pos = writer.written().log_pos;
    if (const Status parked = append_or_flush(writer, [&] { return writer.append_park(park); }); !parked) {
      return fail(parked.error());
    }
  }
  return pinning.size();
}

}  // namespace mooring::journal
