#include "journal/log_writer.hpp"

#include <algorithm>
#include <cstring>

#include "base/check.hpp"
#include "base/kill_point.hpp"

namespace mooring::journal {
namespace {

template <class T>
std::span<const u8> bytes_of(const T& value) {
  return {reinterpret_cast<const u8*>(&value), sizeof(value)};
}

tl::unexpected<Error> block_is_full() { return tl::unexpected<Error>(Error{Code::kFull, {}}); }

constexpr u64 kSealRecordBytes = record_bytes(sizeof(SealRecord));

}  // namespace

LogWriter::LogWriter(Disk& disk, LogOptions options, LogStart start)
    : disk_(disk),
      options_(std::move(options)),
      start_(std::move(start)),
      pool_(disk_, options_, start_.next_number,
            [&] {
              u64 live_bytes = 0;
              for (const RetainedSegment& segment : start_.retained) live_bytes += segment.bytes;
              return live_bytes;
            }()),
      salt_(options_.random()),
      blocks_{std::make_unique<BlockBuilder>(options_.block_bytes),
              std::make_unique<BlockBuilder>(options_.block_bytes)},
      filling_(blocks_[0].get()),
      sending_(blocks_[1].get()),
      durable_(start_.mark),
      written_(start_.mark),
      durable_check_(start_.prev_check),
      written_check_(start_.prev_check),
      last_block_number_(start_.predecessor),
      next_seq_(start_.mark.next_seq),
      state_(std::move(start_.state)),
      retained_(start_.retained.begin(), start_.retained.end()),
      index_(std::move(start_.index)) {}

LogWriter::~LogWriter() {
  if (in_flight_ && in_flight_->is_submitted) static_cast<void>(current_.file->reap());
  disk_.register_buffers({});
}

Result<std::unique_ptr<LogWriter>> LogWriter::start(Disk& disk, LogOptions options, LogStart start) {
  if (options.block_bytes < 2 * kBlockAlignment || options.block_bytes % kBlockAlignment != 0 ||
      options.small_segment_bytes < kSegmentHeaderBytes + options.block_bytes ||
      options.segment_bytes < options.small_segment_bytes || options.segment_bytes % kBlockAlignment != 0 ||
      options.small_segment_bytes % kBlockAlignment != 0 ||
      block_bytes_for(record_bytes(sizeof(MessageRecord) + options.message_bytes_max)) > kBlockBytesMax) {
    return fail(Code::kBadArgument, disk.name() + ": sizes of block, segment and message do not fit one another");
  }
  std::unique_ptr<LogWriter> writer(new LogWriter(disk, std::move(options), std::move(start)));
  const std::array<std::span<u8>, 2> buffers = {writer->blocks_[0]->memory(), writer->blocks_[1]->memory()};
  disk.register_buffers(buffers);
  auto prepared = writer->pool_.take(std::max(writer->start_.first_segment_bytes, writer->options_.small_segment_bytes),
                                     SegmentUse::kControl);
  if (!prepared) return fail(prepared.error());
  const u64 copied_log_pos = std::max(writer->start_.copied_log_pos, writer->durable_.log_pos);
  if (auto begun = writer->begin_segment(std::move(*prepared), copied_log_pos); !begun) return fail(begun.error());
  return writer;
}

// ---- segments ---------------------------------------------------------------------------------------------------

// At the durable mark.
Status LogWriter::begin_segment(PreparedSegment prepared, u64 copied_log_pos) {
  const LogMark& mark = durable_;
  current_ = {std::move(prepared.file), prepared.number, prepared.bytes, mark.log_pos, prepared.from_reserve};
  const LogTimes now = options_.times();
  header_ = {};
  header_.magic = kSegmentMagic;
  header_.version = kFormatVersion;
  header_.header_bytes = kSegmentHeaderBytes;
  header_.uuid = options_.uuid;
  header_.incarnation = start_.incarnation;
  header_.generation = generation_;
  header_.number = current_.number;
  header_.salt = salt_;
  header_.segment_bytes = current_.bytes;
  header_.first_log_pos = mark.log_pos;
  header_.first_seq = mark.next_seq;
  header_.predecessor = last_block_number_;
  header_.prev_check = durable_check_;
  header_.copied_log_pos = copied_log_pos;
  header_.flags = start_.segment_flags;
  header_.wall_ns = now.wall_ns;
  header_.boottime_ns = now.boottime_ns;
  header_.check = segment_check(header_);
  header_written_ = false;
  ++counters_.segments;
  if (start_.hold_header) return {};
  return write_header();
}

Status LogWriter::write_header() {
  AlignedBuffer page(kSegmentHeaderBytes);
  std::memcpy(page.data(), &header_, sizeof(header_));
  if (auto written = current_.file->write(0, page.span()); !written) return written;
  header_written_ = true;
  MOORING_KILL_POINT("journal.header_written");
  return {};
}

Status LogWriter::release_header() {
  if (failed_) return failed_status();
  if (header_written_) return {};
  Status done = write_header();
  if (done && !has_bug(JournalBug::kNoSync)) done = current_.file->sync();
  if (!done) return fail_for_good(done.error());
  start_.hold_header = false;
  return {};
}

void LogWriter::close_current(bool poisoned) {
  retained_.push_back(
      {current_.number, current_.bytes, current_.first_log_pos, durable_.log_pos, durable_.next_seq, poisoned});
  current_.file.reset();
}

u64 LogWriter::room_in_current() const {
  const u64 offset = kSegmentHeaderBytes + (written_.log_pos - current_.first_log_pos);
  return offset >= current_.bytes ? 0 : current_.bytes - offset;
}

// ---- filling ----------------------------------------------------------------------------------------------------

void LogWriter::open_block() { filling_->start(hash_seed(options_.uuid, written_.log_pos), next_seq_); }

// After this the record fits into the block that fills, and the block has its place on the disk.
Status LogWriter::make_room(u64 bytes, SegmentUse use) {
  if (failed_) return failed_status();
  const u64 block = block_bytes_for((filling_->is_empty() ? 0 : filling_->body_bytes()) + bytes);
  // A reserve segment is for records that help to free space; messages wait until prepare() has made it whole again.
  const bool on_reserve = next_ && !filling_->is_empty() ? next_->from_reserve : current_.from_reserve;
  if (use == SegmentUse::kMessages && on_reserve && !pool_.reserve_is_whole()) {
    ++counters_.disk_full;
    return fail(Code::kDiskFull, disk_.name() + ": the disk is full; acknowledge messages or free space");
  }
  if (!filling_->is_empty()) {
    const u64 room = next_ ? next_->bytes - kSegmentHeaderBytes : room_in_current();
    if (block > filling_->capacity_bytes() || block > room) return block_is_full();
    return {};
  }
  next_.reset();
  if (block > room_in_current()) {
    auto taken = pool_.take(kSegmentHeaderBytes + block, use);
    if (!taken) {
      if (taken.error().code == Code::kDiskFull) ++counters_.disk_full;
      return fail(taken.error());
    }
    next_ = std::move(*taken);
  }
  filling_->reserve(block);
  open_block();
  return {};
}

Status LogWriter::append_message(const MessageAppend& message) {
  if (message.bytes.size() > options_.message_bytes_max) {
    return fail(Code::kTooBig, "a message of " + std::to_string(message.bytes.size()) + " bytes; this log takes " +
                                   std::to_string(options_.message_bytes_max));
  }
  if (message.copy ? message.seq >= next_seq_ : message.seq < next_seq_) {
    return fail(Code::kBadArgument, "message " + std::to_string(message.seq) + " cannot follow; the log has come to " +
                                        std::to_string(next_seq_));
  }
  const MessageRecord head{message.seq, message.lane, message.frame_flags};
  const u64 id_bytes = message.id == nullptr ? 0 : record_bytes(sizeof(*message.id));
  if (auto room = make_room(id_bytes + record_bytes(sizeof(head) + message.bytes.size()),
                            message.urgent ? SegmentUse::kControl : SegmentUse::kMessages);
      !room) {
    return room;
  }
  u16 flags = 0;
  if (message.copy)
    flags = kMessageCopy;
  else if (message.seq != next_seq_)
    flags = kMessageGapBefore;
  if (message.duplicate) flags |= kMessageDuplicate;
  if (message.id != nullptr) {
    filling_->add(RecordType::kMessageId, 0, bytes_of(*message.id), {});
    const Status applied = state_.apply({RecordType::kMessageId, 0, bytes_of(*message.id)});
    MOORING_CHECK(applied.has_value());
  }
  filling_->add(RecordType::kMessage, flags, bytes_of(head), message.bytes);
  if (!message.copy) next_seq_ = message.seq + 1;
  ++counters_.messages;
  counters_.message_bytes += message.bytes.size();
  return {};
}

bool LogWriter::fits(u64 bytes) const {
  if (filling_->is_empty()) return true;
  const u64 block = block_bytes_for(filling_->body_bytes() + bytes);
  const u64 room = next_ ? next_->bytes - kSegmentHeaderBytes : room_in_current();
  return block <= filling_->capacity_bytes() && block <= room;
}

Status LogWriter::append_control(std::span<const u8> record) {
  if (block_bytes_for(record.size()) > kBlockBytesMax) {
    return fail(Code::kTooBig, "a control record of " + std::to_string(record.size()) + " bytes");
  }
  if (auto room = make_room(record.size(), SegmentUse::kControl); !room) return room;
  filling_->add_encoded(record);
  std::span<const u8> bytes = record;
  if (const auto view = next_record(bytes)) {
    const Status applied = state_.apply(*view);
    MOORING_CHECK(applied.has_value());
  }
  return {};
}

Status LogWriter::append_group(u32 group, GroupChange change, const GroupState& state) {
  return append_control(encode_group(group, change, state));
}

Status LogWriter::append_cursor(u32 group, u64 base, std::span<const AckRun> runs) {
  u64 free_from = base;
  for (const AckRun& run : runs) {
    if (run.count == 0 || run.first <= free_from || run.first + run.count < run.first) {
      return fail(Code::kBadArgument, "the acknowledged runs of group " + std::to_string(group) +
                                          " must rise, stand apart and lie above its base");
    }
    free_from = run.first + run.count;
  }
  return append_control(encode_cursor(group, base, runs));
}

Status LogWriter::append_park(const ParkRecord& park) {
  std::vector<u8> record;
  put_record(record, RecordType::kPark, 0, bytes_of(park), {});
  return append_control(record);
}

Status LogWriter::append_release(u32 group, u64 seq, u32 reason) {
  std::vector<u8> record;
  put_record(record, RecordType::kRelease, 0, bytes_of(ReleaseRecord{group, reason, seq}), {});
  return append_control(record);
}

// ---- flushing ---------------------------------------------------------------------------------------------------

BlockHeader LogWriter::block_header() const {
  const LogTimes now = options_.times();
  BlockHeader header{};
  header.uuid = options_.uuid;
  header.incarnation = start_.incarnation;
  header.generation = generation_;
  header.number = current_.number;
  header.salt = salt_;
  header.log_pos = durable_.log_pos;
  header.prev_check = durable_check_;
  // While the header of the segment is held back nothing in it is proved by anything.
  header.durable_before = start_.hold_header ? current_.first_log_pos : durable_.log_pos;
  header.wall_ns = now.wall_ns;
  header.boottime_ns = now.boottime_ns;
  return header;
}

void LogWriter::send(BlockBuilder& block) {
  in_flight_->check = block.seal(block_header());
  const u64 offset = kSegmentHeaderBytes + (durable_.log_pos - current_.first_log_pos);
  in_flight_->is_submitted = false;
  MOORING_KILL_POINT("journal.sealed");
  if (block.block_bytes() <= options_.direct_write_bytes_max) {
    in_flight_->sent = current_.file->write(offset, block.bytes());
  } else {
    in_flight_->sent = current_.file->submit(offset, block.bytes());
    in_flight_->is_submitted = in_flight_->sent.has_value();
  }
  MOORING_KILL_POINT("journal.sent");
}

Status LogWriter::begin_flush() {
  if (failed_) return failed_status();
  if (in_flight_) {
    if (auto finished = finish_flush(); !finished) return finished;
  }
  if (filling_->is_empty()) return {};
  // After a rescue the current segment may be a smaller one than the block was meant for.
  if (!next_ && filling_->block_bytes() > room_in_current()) {
    auto taken = pool_.take(kSegmentHeaderBytes + filling_->block_bytes(), SegmentUse::kControl);
    if (!taken) return fail(taken.error());
    next_ = std::move(*taken);
  }
  in_flight_ = InFlight{};
  if (next_) {
    close_current(false);
    PreparedSegment prepared = std::move(*next_);
    next_.reset();
    in_flight_->sent = begin_segment(std::move(prepared), durable_.log_pos);
  }
  std::swap(filling_, sending_);
  in_flight_->end = {durable_.log_pos + sending_->block_bytes(), next_seq_};
  in_flight_->snapshot_log_pos = filling_snapshot_;
  filling_snapshot_.reset();
  if (in_flight_->sent) {
    send(*sending_);
  }
  written_ = in_flight_->end;
  written_check_ = in_flight_->check;
  filling_->start(0, next_seq_);
  sealed_ = false;
  return {};
}

Status LogWriter::reap_and_sync() {
  Status done = in_flight_->sent;
  if (done && in_flight_->is_submitted) done = current_.file->reap();
  in_flight_->is_submitted = false;
  if (!done) return done;
  MOORING_KILL_POINT("journal.written");
  if (has_bug(JournalBug::kNoSync)) return {};
  ++counters_.syncs;
  done = current_.file->sync();
  if (!done && has_bug(JournalBug::kSyncRetried)) done = current_.file->sync();
  return done;
}

Status LogWriter::finish_flush() {
  if (failed_) return failed_status();
  if (!in_flight_) return {};
  if (auto done = reap_and_sync(); !done) {
    if (auto rescued = rescue(); !rescued) {
      return fail_for_good({Code::kIo, done.error().text + "; and again on a new segment: " + rescued.error().text});
    }
  }
  MOORING_KILL_POINT("journal.synced");
  count_durable();
  return {};
}

// Never again a write or a sync on this file: what a sync says after a failed one is worth nothing. The block is still
// in memory; it goes to a new segment, which begins at the durable mark.
Status LogWriter::rescue() {
  ++counters_.segments_poisoned;
  ++generation_;
  if (start_.hold_header) return fail(Code::kIo, "while the log was being opened");
  const u64 wanted =
      kSegmentHeaderBytes + sending_->block_bytes() + (filling_->is_empty() ? 0 : filling_->block_bytes());
  close_current(true);
  std::optional<PreparedSegment> prepared;
  if (next_ && next_->bytes >= wanted) {
    prepared = std::move(*next_);
  } else {
    // One that was meant for the block that fills and is too small for both stays behind, not begun.
    auto taken = pool_.take(wanted, SegmentUse::kControl);
    if (!taken) return fail(taken.error());
    prepared = std::move(*taken);
  }
  next_.reset();
  MOORING_KILL_POINT("journal.poisoned");
  if (auto begun = begin_segment(std::move(*prepared), in_flight_->end.log_pos); !begun) return begun;
  send(*sending_);
  return reap_and_sync();
}

void LogWriter::count_durable() {
  const u64 begin = durable_.log_pos;
  const u64 first_seq = durable_.next_seq;
  durable_ = in_flight_->end;
  written_ = durable_;
  durable_check_ = in_flight_->check;
  written_check_ = durable_check_;
  last_block_number_ = current_.number;
  // From here on the hash of the block before the next segment is known, and this one has begun what it begins.
  start_.segment_flags = 0;
  if (durable_.next_seq != first_seq &&
      (index_.empty() || begin - index_.back().log_pos >= options_.index_step_bytes)) {
    index_.push_back({first_seq, begin});
  }
  if (in_flight_->snapshot_log_pos && pending_snapshot_) {
    pending_snapshot_->end_log_pos = durable_.log_pos;
    snapshot_ = std::move(pending_snapshot_);
    pending_snapshot_.reset();
    ++counters_.snapshots;
  }
  ++counters_.blocks;
  counters_.block_bytes += durable_.log_pos - begin;
  if (sealing_) sealed_ = true;
  sealing_ = false;
  in_flight_.reset();
}

Status LogWriter::flush() {
  if (auto begun = begin_flush(); !begun) return begun;
  return finish_flush();
}

Status LogWriter::seal(SealReason reason) {
  if (auto flushed = flush(); !flushed) return flushed;
  if (sealed_) return {};
  if (auto room = make_room(kSealRecordBytes, SegmentUse::kControl); !room) return room;
  filling_->add(RecordType::kSeal, 0, bytes_of(SealRecord{static_cast<u64>(reason)}), {});
  if (auto begun = begin_flush(); !begun) return begun;
  sealing_ = true;
  return finish_flush();
}

Status LogWriter::fail_for_good(const Error& error) {
  failed_ = Error{Code::kIo, disk_.name() + ": the log has failed and takes nothing more: " + error.text +
                                 "; what was announced is safe; restart the supervisor once the disk is well"};
  in_flight_.reset();
  return failed_status();
}

// ---- snapshots and retention ------------------------------------------------------------------------------------

bool LogWriter::snapshot_due() const {
  if (!snapshot_) return true;
  return durable_.log_pos - snapshot_->end_log_pos >= std::max(snapshot_->bytes, options_.snapshot_interval_bytes);
}

Status LogWriter::snapshot() {
  if (failed_) return failed_status();
  // What is in the block that fills is in the state too; parts may not be mixed with control records.
  if (auto flushed = flush(); !flushed) return flushed;
  const auto parts = snapshot_parts(state_, next_seq_, options_.block_bytes / 2);
  SnapshotBounds bounds;
  bounds.min_base = state_.min_base();
  for (const auto& [key, park] : state_.parks) bounds.park_log_pos.push_back(park.message_log_pos);
  std::ranges::sort(bounds.park_log_pos);
  bounds.begin_log_pos = durable_.log_pos;
  for (std::size_t part = 0; part < parts.size(); ++part) {
    if (auto room = make_room(record_bytes(parts[part].size()), SegmentUse::kControl); !room) return room;
    filling_->add(RecordType::kSnapshot, 0, parts[part], {});
    bounds.bytes += parts[part].size();
    if (part + 1 == parts.size()) {
      filling_snapshot_ = bounds.begin_log_pos;
      pending_snapshot_ = std::move(bounds);
    }
    if (auto flushed = flush(); !flushed) return flushed;
  }
  return {};
}

bool LogWriter::snapshot_frees(u64 seq) const {
  if (!snapshot_ || retained_.empty()) return false;
  const RetainedSegment& oldest = retained_.front();
  // All that would go: the first segments are small, and ids make a snapshot large.
  u64 drained_bytes = 0;
  for (const RetainedSegment& segment : retained_) {
    if (segment.next_seq > std::min(seq, state_.min_base().value_or(seq))) break;
    drained_bytes += segment.bytes;
  }
  if (drained_bytes == 0 || snapshot_->bytes > drained_bytes) return false;
  if (oldest.next_seq <= snapshot_->min_base.value_or(seq) && oldest.end_log_pos <= snapshot_->begin_log_pos &&
      snapshot_->park_log_pos.empty()) {
    return false;  // it goes by itself
  }
  return !is_pinned(oldest);
}

bool LogWriter::is_pinned(const RetainedSegment& segment) const {
  return std::ranges::any_of(state_.parks, [&](const auto& park) {
    return park.second.message_log_pos >= segment.first_log_pos && park.second.message_log_pos < segment.end_log_pos;
  });
}

Result<u64> LogWriter::retire(u64 seq) {
  if (failed_) return fail(*failed_);
  if (!snapshot_) return 0;
  const u64 mark = std::min(seq, snapshot_->min_base.value_or(seq));
  u64 count = 0;
  while (!retained_.empty()) {
    const RetainedSegment& oldest = retained_.front();
    if (oldest.next_seq > mark || oldest.end_log_pos > snapshot_->begin_log_pos) break;
    const auto park = std::ranges::lower_bound(snapshot_->park_log_pos, oldest.first_log_pos);
    if (park != snapshot_->park_log_pos.end() && *park < oldest.end_log_pos) break;
    if (is_pinned(oldest)) break;  // parked since that snapshot
    if (auto recycled = pool_.recycle(oldest.number, oldest.bytes, !oldest.poisoned); !recycled) {
      return fail(recycled.error());
    }
    retained_.pop_front();
    ++count;
  }
  counters_.segments_retired += count;
  const u64 oldest_log_pos = this->oldest_log_pos();
  const auto keep =
      std::ranges::find_if(index_, [&](const IndexEntry& entry) { return entry.log_pos >= oldest_log_pos; });
  // The last one before it stays: it says where the messages between it and the next one begin at the earliest.
  if (keep != index_.begin()) index_.erase(index_.begin(), std::prev(keep));
  return count;
}

u64 LogWriter::locate(u64 seq) const {
  const auto after = std::ranges::upper_bound(index_, seq, {}, &IndexEntry::seq);
  return std::max(oldest_log_pos(), after == index_.begin() ? 0 : std::prev(after)->log_pos);
}

bool LogWriter::holds(u64 seq) const {
  const auto first =
      std::ranges::find_if(index_, [&](const IndexEntry& entry) { return entry.log_pos >= this->oldest_log_pos(); });
  return first != index_.end() && seq >= first->seq;
}

}  // namespace mooring::journal
