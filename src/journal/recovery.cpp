#include "journal/recovery.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_set>

#include "base/check.hpp"
#include "base/kill_point.hpp"
#include "journal/block_hash.hpp"

namespace mooring::journal {
namespace {

// Whether a sync of it ever failed is not written down, and a file whose sync has failed is never to be trusted with a
// sync again: segments of an opening before are removed when they retire, not used once more. (The cuts of
// MOORING_SEED=7, log 39584 found one that was, after a warm restart.)
constexpr bool kPerhapsPoisoned = true;

struct Row {
  RecoveryRow row;
  const char* text;
  bool (*matches)(const LogFacts&);
};

bool is_refused(const LogFacts& f) { return f.version_unknown || f.foreign || f.missing || f.rotten; }
bool has_log(const LogFacts& f) { return f.segments_begun != 0; }

constexpr std::array kRows = {
    Row{RecoveryRow::kEmpty, "empty", [](const LogFacts& f) { return !is_refused(f) && !has_log(f); }},
    Row{RecoveryRow::kUnknownVersion, "unknown format version", [](const LogFacts& f) { return f.version_unknown; }},
    Row{RecoveryRow::kForeign, "another queue's log",
        [](const LogFacts& f) { return !f.version_unknown && f.foreign; }},
    Row{RecoveryRow::kMissing, "a segment is missing",
        [](const LogFacts& f) { return !f.version_unknown && !f.foreign && f.missing; }},
    Row{RecoveryRow::kRotten, "announced data is damaged",
        [](const LogFacts& f) { return !f.version_unknown && !f.foreign && !f.missing && f.rotten; }},
    Row{RecoveryRow::kInterrupted, "an opening was interrupted",
        [](const LogFacts& f) { return !is_refused(f) && has_log(f) && f.unfinished; }},
    Row{RecoveryRow::kGhost, "blocks of an older writer behind the mark",
        [](const LogFacts& f) { return !is_refused(f) && has_log(f) && !f.unfinished && f.ghost; }},
    Row{RecoveryRow::kTorn, "a torn tail",
        [](const LogFacts& f) { return !is_refused(f) && has_log(f) && !f.unfinished && !f.ghost && f.torn; }},
    Row{RecoveryRow::kGarbage, "garbage of an earlier life behind the end",
        [](const LogFacts& f) {
          return !is_refused(f) && has_log(f) && !f.unfinished && !f.ghost && !f.torn && f.stale;
        }},
    Row{RecoveryRow::kClean, "clean",
        [](const LogFacts& f) {
          return !is_refused(f) && has_log(f) && !f.unfinished && !f.ghost && !f.torn && !f.stale;
        }},
};

std::string first_damage(const LogScan& scan) {
  for (const Finding& finding : scan.findings) {
    if (finding.is_damage) {
      return finding.file + " at " + std::to_string(finding.offset) + ": " + finding.text;
    }
  }
  return "no finding";
}

tl::unexpected<Error> refusal(const Disk& disk, RecoveryRow row, const LogScan& scan) {
  const std::string text =
      disk.name() + ": recovery row " + static_cast<char>(row) + ", " + row_text(row) + ": " + first_damage(scan);
  switch (row) {
    case RecoveryRow::kUnknownVersion: return fail(Code::kVersion, text + "; use the version that wrote it");
    case RecoveryRow::kForeign: return fail(Code::kBadArgument, text + "; give each queue a directory of its own");
    default:
      return fail(Code::kCorrupt, text +
                                      "; restore the files from a copy, or give up what is lost: `mooring journal "
                                      "salvage DIR` (`verify` says what that is); nothing was changed");
  }
}

// Waits until every late write of a killed predecessor has landed; then the locks can go.
Status lock_segments(Disk& disk, const std::vector<std::string>& names, u64 wait_ns) {
  for (const std::string& name : names) {
    if (!segment_number(name)) continue;
    auto file = disk.open(name, DiskAccess::read_write);
    if (!file) return fail(file.error());
    if (auto locked = (*file)->lock(wait_ns); !locked) return locked;
  }
  return {};
}

Status remove_disposable(Disk& disk, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (!is_disposable_name(name)) continue;
    if (auto removed = disk.unlink(name); !removed) return removed;
  }
  return {};
}

u64 snapshot_bytes(const LogState& state, const LogOptions& options) {
  u64 bytes = 0;
  for (const auto& part : snapshot_parts(state, 0, options.block_bytes / 2)) {
    bytes += block_bytes_for(record_bytes(part.size()));
  }
  return bytes;
}

Status append_or_flush(LogWriter& writer, const MessageAppend& message) {
  Status done = writer.append_message(message);
  if (done || done.error().code != Code::kFull) return done;
  if (done = writer.flush(); !done) return done;
  return writer.append_message(message);
}

// What was readable behind the last proof of durability, written again.
Status append_tail(LogWriter& writer, const LogScan& scan) {
  for (const std::vector<u8>& body : scan.tail_bodies) {
    std::span<const u8> rest = body;
    MessageIdRecord id{};
    bool has_id = false;
    while (const auto record = next_record(rest)) {
      if (record->type == RecordType::kMessageId && record->body.size() == sizeof(id)) {
        std::memcpy(&id, record->body.data(), sizeof(id));
        has_id = true;
      }
      if (record->type != RecordType::kMessage || record->body.size() < sizeof(MessageRecord)) continue;
      MessageRecord head{};
      std::memcpy(&head, record->body.data(), sizeof(head));
      const bool is_copy = (record->flags & kMessageCopy) != 0;
      if (!is_copy && head.seq < writer.next_seq()) continue;
      MessageAppend again{head.seq, head.lane, head.frame_flags, record->body.subspan(sizeof(head)), is_copy};
      again.duplicate = (record->flags & kMessageDuplicate) != 0;
      if (has_id && id.seq == head.seq) again.id = &id;
      if (auto appended = append_or_flush(writer, again); !appended) return appended;
    }
  }
  return {};
}

// Removes what the interrupted or never begun left, once the log has gone on elsewhere. Unreadable ones are kept aside.
Status tidy(Disk& disk, const LogScan& scan, std::vector<std::string>& quarantined, u64 incarnation) {
  for (const LogScan::SegmentScan& segment : scan.segments) {
    if (segment.begun) continue;
    const std::string name = segment_name(segment.number);
    const bool is_suspect = std::ranges::any_of(scan.findings, [&](const Finding& finding) {
      return finding.file == name && finding.text.starts_with("its header cannot be read");
    });
    if (!is_suspect) {
      if (auto removed = disk.unlink(name); !removed) return removed;
      continue;
    }
    const std::string aside = "quarantine-" + std::to_string(incarnation) + "-" + name;
    if (auto renamed = disk.rename(name, aside); !renamed) return renamed;
    quarantined.push_back(aside);
  }
  return {};
}

// Copies the messages that somebody may still need into the one new segment.
class SalvageVisitor : public LogVisitor {
 public:
  SalvageVisitor(LogWriter& writer, LogVisitor& next) : writer_(writer), next_(next) {
    for (const auto& [key, park] : writer_.state().parks) lost_.insert(key.second);
  }
  void message(const MessageView& message) override {
    if (!status_) return;
    const bool is_copy = (message.record_flags & kMessageCopy) != 0;
    if (is_copy ? message.seq >= writer_.next_seq() : message.seq < writer_.next_seq()) return;
    MessageAppend again{message.seq, message.lane, message.frame_flags, message.bytes, is_copy};
    again.duplicate = (message.record_flags & kMessageDuplicate) != 0;
    status_ = append_or_flush(writer_, again);
    lost_.erase(message.seq);
    if (status_) next_.message(message);
  }
  const Status& status() const { return status_; }
  // Parked messages that could not be read: nothing can come of them any more.
  Status release_lost() {
    const auto parks = writer_.state().parks;
    for (const auto& [key, park] : parks) {
      if (!lost_.contains(key.second)) continue;
      Status released = writer_.append_release(key.first, key.second);
      if (!released && released.error().code == Code::kFull) {
        if (released = writer_.flush(); released) released = writer_.append_release(key.first, key.second);
      }
      if (!released) return released;
    }
    return {};
  }

 private:
  LogWriter& writer_;
  LogVisitor& next_;
  Status status_;
  std::unordered_set<u64> lost_;  // parked, and not met yet
};

Status salvage(Disk& disk, const LogOptions& options, const RecoverOptions& how, const LogScan& scan, LogStart start,
               LogVisitor& visitor, OpenLog& open) {
  u64 total_bytes = 0;
  for (const LogScan::SegmentScan& segment : scan.segments) total_bytes += segment.bytes;
  start.mark = {scan.end.log_pos, scan.first_seq};
  for (auto& [key, park] : start.state.parks) park.message_log_pos = start.mark.log_pos;
  // What says that messages were settled or parked may be there where they are not: their seqs are given again.
  std::erase_if(start.state.parks, [&](const auto& park) { return park.first.second >= scan.end.next_seq; });
  for (auto& [index, group] : start.state.groups) {
    group.base = std::min(group.base, scan.end.next_seq);
    std::erase_if(group.runs, [&](const AckRun& run) { return run.first >= scan.end.next_seq; });
    for (AckRun& run : group.runs) run.count = std::min(run.count, scan.end.next_seq - run.first);
  }
  start.segment_flags = kStartsAnew | kPredecessorUnknown;
  start.prev_check = 0;
  start.predecessor = 0;
  start.retained.clear();
  start.index.clear();
  // Blocks may be cut otherwise than they were: room for the padding of each.
  start.first_segment_bytes =
      align_up(2 * total_bytes + 2 * snapshot_bytes(scan.state, options) + 64 * kBlockAlignment, kBlockAlignment);
  auto writer = LogWriter::start(disk, options, std::move(start));
  if (!writer) return fail(writer.error());
  SalvageVisitor copier(**writer, visitor);
  ScanOptions again{options.uuid, how.from_seq};
  again.salvage = true;
  const auto copied = scan_log(disk, again, copier);
  if (!copied) return fail(copied.error());
  if (!copier.status()) return copier.status();
  if (auto done = copier.release_lost(); !done) return done;
  if (auto done = (*writer)->snapshot(); !done) return done;
  if (auto done = (*writer)->release_header(); !done) return done;
  // Proves all of it: the next opening need not keep it in memory.
  if (auto done = (*writer)->seal(); !done) return done;
  for (const LogScan::SegmentScan& segment : scan.segments) {
    const std::string name = segment_name(segment.number);
    const std::string aside = "quarantine-" + std::to_string((*writer)->incarnation()) + "-" + name;
    if (auto renamed = disk.rename(name, aside); !renamed) return renamed;
    open.recovered.quarantined.push_back(aside);
  }
  if (auto synced = disk.sync_directory(); !synced) return synced;
  open.writer = std::move(*writer);
  return {};
}

}  // namespace

const char* row_text(RecoveryRow row) {
  const auto found = std::ranges::find(kRows, row, &Row::row);
  return found == kRows.end() ? "no such row" : found->text;
}

std::vector<RecoveryRow> matching_rows(const LogFacts& facts) {
  std::vector<RecoveryRow> rows;
  for (const Row& row : kRows) {
    if (row.matches(facts)) rows.push_back(row.row);
  }
  return rows;
}

RecoveryRow decide(const LogFacts& facts) {
  const std::vector<RecoveryRow> rows = matching_rows(facts);
  MOORING_CHECK(rows.size() == 1);
  return rows.front();
}

bool goes_on(RecoveryRow row) {
  switch (row) {
    case RecoveryRow::kUnknownVersion:
    case RecoveryRow::kForeign:
    case RecoveryRow::kMissing:
    case RecoveryRow::kRotten: return false;
    default: return true;
  }
}

Result<OpenLog> open_log(Disk& disk, const LogOptions& options, LogVisitor& visitor, const RecoverOptions& how) {
  if (auto locked = disk.lock_directory(options.lock_wait_ns); !locked) return fail(locked.error());
  const auto names = disk.list();
  if (!names) return fail(names.error());
  if (auto locked = lock_segments(disk, *names, options.lock_wait_ns); !locked) return fail(locked.error());
  if (auto removed = remove_disposable(disk, *names); !removed) return fail(removed.error());
  MOORING_KILL_POINT("journal.locked");

  ScanOptions scan_options{options.uuid, how.from_seq};
  scan_options.index_step_bytes = options.index_step_bytes;
  scan_options.bug = options.bug;
  auto scan = scan_log(disk, scan_options, visitor);
  if (!scan) return fail(scan.error());
  const RecoveryRow row = decide(scan->facts);
  const bool wants_salvage = how.salvage && (row == RecoveryRow::kMissing || row == RecoveryRow::kRotten);
  if (!goes_on(row) && !wants_salvage) return refusal(disk, row, *scan);
  if (wants_salvage) {
    scan_options.salvage = true;
    LogVisitor nobody;
    scan = scan_log(disk, scan_options, nobody);
    if (!scan) return fail(scan.error());
  }
  MOORING_KILL_POINT("journal.scanned");

  LogStart start;
  start.incarnation = scan->incarnation + 1;
  start.next_number = scan->number_max + 1;
  start.hold_header = true;
  if (row == RecoveryRow::kEmpty) {
    start.mark = {0, options.first_seq};
    scan->first_seq = options.first_seq;
    scan->end = start.mark;
  } else {
    start.mark = scan->proven;
    start.prev_check = scan->proven_check;
    start.predecessor = scan->proven_number;
  }
  start.copied_log_pos = scan->end.log_pos;
  start.state = scan->state;
  start.state.forget_ids_from(scan->end.next_seq);
  // What lay behind the mark is written again, in order, from the mark on.
  for (auto& [key, park] : start.state.parks) {
    park.message_log_pos = std::min(park.message_log_pos, start.mark.log_pos);
  }
  start.index = scan->index;
  std::erase_if(start.index, [&](const IndexEntry& entry) { return entry.log_pos >= start.mark.log_pos; });
  for (const LogScan::SegmentScan& segment : scan->segments) {
    if (!segment.begun) continue;
    const u64 end_log_pos = std::max(segment.first_log_pos, std::min(segment.end_log_pos, start.mark.log_pos));
    start.retained.push_back({segment.number, segment.bytes, segment.first_log_pos, end_log_pos,
                              std::min(segment.next_seq, start.mark.next_seq), kPerhapsPoisoned});
  }
  u64 tail_bytes = 0;
  for (const std::vector<u8>& body : scan->tail_bodies) tail_bytes += block_bytes_for(body.size()) + kBlockAlignment;
  start.first_segment_bytes =
      align_up(kSegmentHeaderBytes + 2 * tail_bytes + 2 * snapshot_bytes(scan->state, options) + 8 * kBlockAlignment,
               kBlockAlignment);

  OpenLog open;
  Recovered& recovered = open.recovered;
  recovered.row = row;
  recovered.uuid = options.uuid;
  recovered.findings = scan->findings;
  recovered.messages = scan->messages;
  recovered.bytes_read = scan->bytes_read;
  recovered.first_seq = scan->first_seq;
  if (wants_salvage) {
    recovered.lost = scan->lost;
    if (auto salvaged = salvage(disk, options, how, *scan, std::move(start), visitor, open); !salvaged) {
      return fail(salvaged.error());
    }
  } else {
    auto writer = LogWriter::start(disk, options, std::move(start));
    if (!writer) return fail(writer.error());
    open.writer = std::move(*writer);
    Status done = append_tail(*open.writer, *scan);
    if (done) done = open.writer->snapshot();
    MOORING_KILL_POINT("journal.snapshot_written");
    if (done) done = open.writer->release_header();
    MOORING_KILL_POINT("journal.opened");
    if (done) done = tidy(disk, *scan, recovered.quarantined, open.writer->incarnation());
    if (!done) return fail(done.error());
  }
  recovered.incarnation = open.writer->incarnation();
  recovered.next_log_pos = open.writer->durable().log_pos;
  recovered.next_seq = open.writer->next_seq();
  recovered.state = open.writer->state();
  return open;
}

namespace {

// Of all that a log says, which ids are known. What lies behind the mark was announced to nobody, and is decided again.
class IdsVisitor : public LogVisitor {
 public:
  explicit IdsVisitor(const LogMark& announced) : announced_(announced) {}
  void record(const RecordView& record, u64 block_log_pos) override {
    if (block_log_pos >= announced_.log_pos || !status_) return;
    if (record.type == RecordType::kMessageId) status_ = state_.apply(record);
    if (record.type != RecordType::kSnapshot) return;
    const Result<bool> complete = snapshot_.add(record);
    if (!complete) {
      status_ = fail(complete.error());
    } else if (*complete) {
      state_.ids = snapshot_.finish().ids;
    }
  }
  Result<std::deque<MessageIdRecord>> ids() {
    if (!status_) return fail(status_.error());
    state_.forget_ids_from(announced_.next_seq);
    return std::move(state_.ids);
  }

 private:
  LogMark announced_;
  Status status_;
  LogState state_;
  SnapshotCollector snapshot_;
};

}  // namespace

Result<std::deque<MessageIdRecord>> read_ids(Disk& disk, const Uuid& uuid, const LogMark& announced) {
  IdsVisitor visitor(announced);
  ScanOptions options;
  options.uuid = uuid;
  const auto scan = scan_log(disk, options, visitor);
  if (!scan) return fail(scan.error());
  // Behind the mark a late write may still land, and damage there is nobody's loss.
  const bool is_whole = scan->end.log_pos >= announced.log_pos && !scan->facts.missing && !scan->facts.rotten;
  if (!is_whole) {
    return fail(Code::kCorrupt, disk.name() + ": which message ids are known cannot be read from it: " +
                                    first_damage(*scan) + "; `mooring journal verify` says what is left of the log");
  }
  return visitor.ids();
}

Result<std::unique_ptr<LogWriter>> resume_log(Disk& disk, const LogOptions& options, const LogMark& announced,
                                              LogState state) {
  if (auto locked = disk.lock_directory(options.lock_wait_ns); !locked) return fail(locked.error());
  const auto names = disk.list();
  if (!names) return fail(names.error());
  if (auto removed = remove_disposable(disk, *names); !removed) return fail(removed.error());
  LogStart start;
  u64 incarnation = 0;
  AlignedBuffer page(kSegmentHeaderBytes);
  for (const std::string& name : *names) {
    const auto number = segment_number(name);
    if (!number) continue;
    start.next_number = std::max(start.next_number, *number + 1);
    auto file = disk.open(name, DiskAccess::read_only);
    if (!file) return fail(file.error());
    const auto size = (*file)->size_bytes();
    const auto got = (*file)->read(0, page.span());
    if (!size) return fail(size.error());
    if (!got) return fail(got.error());
    SegmentHeader header{};
    std::memcpy(&header, page.data(), sizeof(header));
    if (*got != kSegmentHeaderBytes || header.magic != kSegmentMagic || header.check != segment_check(header) ||
        header.number != *number) {
      continue;
    }
    if (header.version != kFormatVersion) return fail(Code::kVersion, disk.name() + "/" + name + ": another version");
    if (header.uuid != options.uuid) return fail(Code::kBadArgument, disk.name() + "/" + name + ": another queue's");
    incarnation = std::max(incarnation, header.incarnation);
    // Where a segment ends is where the next one begins, or the mark.
    if (!start.retained.empty()) {
      RetainedSegment& before = start.retained.back();
      before.end_log_pos = std::max(before.first_log_pos, std::min(header.first_log_pos, announced.log_pos));
      before.next_seq = std::min(header.first_seq, announced.next_seq);
    }
    start.retained.push_back({*number, *size, header.first_log_pos, std::max(header.first_log_pos, announced.log_pos),
                              announced.next_seq, kPerhapsPoisoned});
    start.index.push_back({header.first_seq, header.first_log_pos});
    start.predecessor = *number;
  }
  // Memory does not know where a parked message lies in the log: at its seq, or, if that has retired, a copy of it
  // anywhere behind the oldest segment.
  const u64 oldest_seq = start.index.empty() ? ~u64{0} : start.index.front().seq;
  for (auto& [key, park] : state.parks) {
    if (park.message_log_pos != 0 || start.index.empty()) continue;
    const auto after = std::ranges::upper_bound(start.index, key.second, {}, &IndexEntry::seq);
    park.message_log_pos = key.second < oldest_seq ? start.index.front().log_pos : std::prev(after)->log_pos;
  }
  start.incarnation = incarnation + 1;
  start.mark = announced;
  start.segment_flags = kPredecessorUnknown;
  start.state = std::move(state);
  start.first_segment_bytes =
      align_up(kSegmentHeaderBytes + snapshot_bytes(start.state, options) + 8 * kBlockAlignment, kBlockAlignment);
  auto writer = LogWriter::start(disk, options, std::move(start));
  if (!writer) return fail(writer.error());
  if (auto done = (*writer)->snapshot(); !done) return fail(done.error());
  return std::move(*writer);
}

}  // namespace mooring::journal
