// One parked message must not pin the log for ever: what only parks hold of the oldest segment is written once more at
// the end of the log, and the segment can retire.
//
// A message that waits for a retry, or a dead letter, is a PARK record that names a place in the log. Brought forward
// it is a MESSAGE with kMessageCopy, then the PARK again with the new place. Readers of the sequence step over copies.
//
// IF THE WRITER STOPS   after the copy: nothing names it, the old PARK stands, and the old segment: it retires only
// once a snapshot is durable that has no park in it. After the PARK: both places are good.
//
// TESTED BY  journal/backlog_reader_test
#pragma once

#include "journal/backlog_reader.hpp"
#include "journal/log_writer.hpp"

namespace mooring::journal {

// The message of a park: by its seq while that is there, else from the place that its record names.
Result<BacklogReader::Found> find_parked(const LogWriter& writer, BacklogReader& reader, const ParkRecord& park,
                                         MessageView* message);

// On a full disk so much may be copied into the reserve, which is for acknowledgements first: what it has beyond one
// full block (LogOptions::small_segment_bytes).
inline constexpr u64 kUrgentCopyBytes = u64{256} << 10;
// Parks may pin this many segments before they are copied, and half of the log: what is parked for good is copied once
// whenever as much has gone through, not round and round.
inline constexpr u64 kParksPinSegments = 4;

// `seq`: every group has settled what is below. At most `most` parks; how many were brought. kDiskFull: later.
Result<u64> bring_parks_forward(LogWriter& writer, BacklogReader& reader, u64 seq, u64 most);

}  // namespace mooring::journal
