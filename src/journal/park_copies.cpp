#include "journal/park_copies.hpp"

#include <algorithm>

namespace mooring::journal {
namespace {

template <class Append>
Status append_or_flush(LogWriter& writer, Append&& append) {
  Status done = append();
  if (done || done.error().code != Code::kFull) return done;
  if (done = writer.flush(); !done) return done;
  return append();
}

}  // namespace

Result<u64> bring_parks_forward(LogWriter& writer, BacklogReader& reader, u64 seq, u64 most) {
  if (writer.retained().size() < kParksPinSegments) return 0;
  const RetainedSegment& oldest = writer.retained().front();
  if (oldest.next_seq > std::min(seq, writer.state().min_base().value_or(seq))) return 0;
  std::vector<ParkRecord> pinning;
  for (const auto& [key, park] : writer.state().parks) {
    if (park.message_log_pos < oldest.end_log_pos && pinning.size() < most) pinning.push_back(park);
  }
  for (ParkRecord& park : pinning) {
    MessageView message;
    const auto found = reader.find_from(park.message_log_pos, park.seq, writer.durable(), &message);
    if (!found) return fail(found.error());
    const Status copied = append_or_flush(writer, [&] {
      return writer.append_message({message.seq, message.lane, message.frame_flags, message.bytes, /*copy=*/true});
    });
    if (!copied) return fail(copied.error());
    // Where the block that fills will lie: behind everything that was sent.
    park.message_log_pos = writer.written().log_pos;
    if (const Status parked = append_or_flush(writer, [&] { return writer.append_park(park); }); !parked) {
      return fail(parked.error());
    }
  }
  return pinning.size();
}

}  // namespace mooring::journal
