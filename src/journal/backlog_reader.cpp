#include "journal/backlog_reader.hpp"

#include <algorithm>
#include <cstring>

#include "journal/block_window.hpp"
#include "journal/log_state.hpp"
#include "journal/segment_pool.hpp"

namespace mooring::journal {
namespace {

// Where to begin to walk for a seq, noted each time a walk has come this much further.
constexpr u64 kIndexStepBytes = u64{256} << 10;

}  // namespace

struct BacklogReader::Segment {
  std::string name;
  SegmentHeader header{};
  u64 file_bytes = 0;
  std::vector<IndexEntry> index;  // rising
};

// One open file, and the block in it that was found whole.
struct BacklogReader::Place {
  Segment* segment = nullptr;
  u64 end_seq = 0;  // messages of the segment at or past this count in a newer one, or are not known
  std::unique_ptr<DiskFile> file;
  std::unique_ptr<Window> window;
  BlockView block;  // body points into the window
  bool has_block = false;
  std::span<const u8> rest;  // records behind the one that was shown last
  u64 next_seq = 0;          // lowest that may be in `rest`
};

BacklogReader::BacklogReader(Disk& disk, const Uuid& uuid, u64 window_bytes)
    : disk_(disk), uuid_(uuid), window_bytes_(window_bytes) {}
BacklogReader::~BacklogReader() = default;

u64 BacklogReader::duplicate_of(const MessageView& message) {
  u64 first = 0;
  std::memcpy(&first, message.bytes.data(), std::min(sizeof first, message.bytes.size()));
  return first;
}

u64 BacklogReader::bytes_read() const {
  return bytes_read_ + (place_ != nullptr && place_->window != nullptr ? place_->window->bytes_read() : 0);
}

tl::unexpected<Error> BacklogReader::not_there(const std::string& what) const {
  return fail(Code::kCorrupt, disk_.name() + ": " + what);
}

void BacklogReader::forget() {
  bytes_read_ = bytes_read();
  place_.reset();
  segments_.clear();
  known_ = {};
}

// --- Segments -------------------------------------------------------------------------------------------------------

// `durable` was loaded before this lists the directory.
Status BacklogReader::refresh(const LogMark& durable) {
  const auto names = disk_.list();
  if (!names) return fail(names.error());
  std::map<u64, std::unique_ptr<Segment>> found;
  AlignedBuffer page(kSegmentHeaderBytes);
  u64 first_counting = 0;
  for (const std::string& name : *names) {
    const auto number = segment_number(name);
    if (!number) continue;
    // A number is given once: what is known under it is what it was.
    if (auto known = segments_.find(*number); known != segments_.end()) {
      if ((known->second->header.flags & kStartsAnew) != 0) first_counting = std::max(first_counting, *number);
      found.emplace(*number, std::move(known->second));
      continue;
    }
    auto file = disk_.open(name, DiskAccess::read_only);
    if (!file) {
      if (file.error().code == Code::kNoSuchQueue) continue;  // It retired while we looked.
      return fail(file.error());
    }
    const auto size = (*file)->size_bytes();
    if (!size) return fail(size.error());
    const auto got = (*file)->read(0, page.span());
    if (!got) return fail(got.error());
    auto segment = std::make_unique<Segment>();
    SegmentHeader& header = segment->header;
    std::memcpy(&header, page.data(), sizeof(header));
    // Not begun (prepared, or used again and its header still of the earlier life): nothing in it is announced.
    if (*got != kSegmentHeaderBytes || header.magic != kSegmentMagic || header.check != segment_check(header) ||
        header.number != *number) {
      continue;
    }
    if (header.version != kFormatVersion) {
      return fail(Code::kVersion, disk_.name() + "/" + name + " is of format version " +
                                      std::to_string(header.version) + "; use the version that wrote it");
    }
    if (header.uuid != uuid_) return not_there(name + " belongs to another queue");
    segment->name = name;
    segment->file_bytes = *size;
    if ((header.flags & kStartsAnew) != 0) first_counting = std::max(first_counting, *number);
    found.emplace(*number, std::move(segment));
  }
  std::erase_if(found, [&](const auto& entry) { return entry.first < first_counting; });
  segments_ = std::move(found);
  known_ = durable;
  if (place_ == nullptr) return {};
  // It may have retired, or have got a successor.
  const bool is_there =
      std::ranges::any_of(segments_, [&](const auto& entry) { return entry.second.get() == place_->segment; });
  if (!is_there || segment_of_seq(place_->segment->header.first_seq, &place_->end_seq) != place_->segment) {
    bytes_read_ = bytes_read();
    place_.reset();
  }
  return {};
}

// Lists anew if what is known says nothing about this seq or place.
Status BacklogReader::know(u64 seq, u64 log_pos, const LogMark& durable) {
  if (seq < known_.next_seq && log_pos < known_.log_pos) return {};
  return refresh(durable);
}

// The newest that begins at or below: no MESSAGE of an older one with this seq counts.
BacklogReader::Segment* BacklogReader::segment_of_seq(u64 seq, u64* end_seq) const {
  *end_seq = known_.next_seq;
  for (auto at = segments_.rbegin(); at != segments_.rend(); ++at) {
    if (at->second->header.first_seq <= seq) return at->second.get();
    *end_seq = std::min(*end_seq, at->second->header.first_seq);
  }
  return nullptr;
}

BacklogReader::Segment* BacklogReader::segment_at(u64 log_pos) const {
  for (auto at = segments_.rbegin(); at != segments_.rend(); ++at) {
    if (at->second->header.first_log_pos <= log_pos) return at->second.get();
  }
  return nullptr;
}

// What counts of it ends where a newer one begins, or at the mark.
u64 BacklogReader::end_of(const Segment& segment) const {
  u64 end = known_.log_pos;
  for (auto next = segments_.upper_bound(segment.header.number); next != segments_.end(); ++next) {
    end = std::min(end, next->second->header.first_log_pos);
  }
  return end;
}

// --- Blocks ---------------------------------------------------------------------------------------------------------

// The block at `log_pos`, below the end of the segment; whole, or kCorrupt.
Status BacklogReader::load(Segment& segment, u64 log_pos, u64 end_seq) {
  const u64 end_offset =
      std::min(segment.file_bytes, kSegmentHeaderBytes + (end_of(segment) - segment.header.first_log_pos));
  if (place_ == nullptr || place_->segment != &segment) {
    bytes_read_ = bytes_read();
    place_.reset();
    auto file = disk_.open(segment.name, DiskAccess::read_only);
    if (!file) {
      if (file.error().code == Code::kNoSuchQueue) return not_there(segment.name + " is gone: it has retired");
      return fail(file.error());
    }
    place_ = std::make_unique<Place>();
    place_->segment = &segment;
    place_->file = std::move(*file);
    place_->window = std::make_unique<Window>(*place_->file, end_offset, window_bytes_);
  }
  place_->has_block = false;
  place_->end_seq = end_seq;
  place_->window->extend_to(end_offset);
  const u64 offset = kSegmentHeaderBytes + (log_pos - segment.header.first_log_pos);
  const BlockState state = block_at(*place_->window, offset, uuid_, true, place_->block);
  if (state == BlockState::kUnreadable) {
    return fail(Code::kIo, disk_.name() + "/" + segment.name + " cannot be read at " + std::to_string(offset) +
                               "; see the kernel's log");
  }
  if (state != BlockState::kWhole || !belongs_to(place_->block.header, segment.header, offset)) {
    return not_there(segment.name + ": no whole block at " + std::to_string(offset) + " (log position " +
                     std::to_string(log_pos) + ")");
  }
  place_->has_block = true;
  place_->rest = place_->block.body;
  place_->next_seq = place_->block.header.first_seq;
  return {};
}

Result<BacklogReader::Found> BacklogReader::find_once(u64 seq, const LogMark& durable, MessageView* message) {
  if (Status known = know(seq, 0, durable); !known) return fail(known.error());
  const bool is_near = place_ != nullptr && place_->has_block && seq >= place_->block.header.first_seq &&
                       seq < place_->end_seq;
  u64 end_seq = 0;
  Segment* found = nullptr;
  if (is_near) {
    found = place_->segment;
    end_seq = place_->end_seq;
  } else {
    found = segment_of_seq(seq, &end_seq);
  }
  if (found == nullptr) return not_there("no segment has message " + std::to_string(seq));
  Segment& segment = *found;
  if (!is_near) {
    const auto after = std::ranges::upper_bound(segment.index, seq, {}, &IndexEntry::seq);
    const u64 from = after == segment.index.begin() ? segment.header.first_log_pos : std::prev(after)->log_pos;
    if (from >= end_of(segment)) return not_there(segment.name + " has no message " + std::to_string(seq));
    if (Status loaded = load(segment, from, end_seq); !loaded) return fail(loaded.error());
  } else if (seq < place_->next_seq) {
    place_->rest = place_->block.body;
    place_->next_seq = place_->block.header.first_seq;
  }
  for (;;) {
    const BlockHeader& header = place_->block.header;
    while (const auto record = next_record(place_->rest)) {
      MessageRecord head{};
      if (record->type != RecordType::kMessage || (record->flags & kMessageCopy) != 0) continue;
      if (record->body.size() < sizeof(head)) return not_there(segment.name + ": a MESSAGE record that is too short");
      std::memcpy(&head, record->body.data(), sizeof(head));
      if (head.seq < seq) continue;
      place_->next_seq = head.seq + 1;
      if (head.seq == seq) {
        *message = {head.seq,      head.lane, head.frame_flags, record->flags,
                    header.log_pos, record->body.subspan(sizeof(head))};
        if ((record->flags & kMessageDuplicate) == 0) return Found::kMessage;
        if (message->bytes.size() == sizeof(u64)) return Found::kDuplicate;
        return not_there(segment.name + ": a duplicate that does not say of which message");
      }
      // Behind it: the log knows that it is not there, or something is wrong.
      place_->rest = place_->block.body;
      place_->next_seq = header.first_seq;
      if ((record->flags & kMessageGapBefore) != 0) return Found::kLost;
      return not_there(segment.name + ": message " + std::to_string(head.seq) + " where " + std::to_string(seq) +
                       " was to be");
    }
    place_->next_seq = std::max(place_->next_seq, seq);
    const u64 next = header.log_pos + header.bytes;
    if (next >= known_.log_pos && next < durable.log_pos) {
      // The log has grown, perhaps into another segment.
      if (Status known = refresh(durable); !known) return fail(known.error());
      return find_once(seq, durable, message);
    }
    if (next >= end_of(segment)) return not_there(segment.name + " ends before message " + std::to_string(seq));
    if (Status loaded = load(segment, next, end_seq); !loaded) return fail(loaded.error());
    const BlockHeader& loaded = place_->block.header;
    if (segment.index.empty() ? loaded.log_pos - segment.header.first_log_pos >= kIndexStepBytes
                              : loaded.log_pos >= segment.index.back().log_pos + kIndexStepBytes) {
      segment.index.push_back({loaded.first_seq, loaded.log_pos});
    }
  }
}

Result<BacklogReader::Found> BacklogReader::find_from_once(u64 log_pos, u64 seq, const LogMark& durable,
                                                           MessageView* message) {
  if (Status known = know(0, durable.log_pos - 1, durable); !known) return fail(known.error());
  while (log_pos < durable.log_pos) {
    Segment* segment = segment_at(log_pos);
    if (segment == nullptr) return not_there("no segment has log position " + std::to_string(log_pos));
    if (Status loaded = load(*segment, log_pos, 0); !loaded) return fail(loaded.error());
    const BlockHeader& header = place_->block.header;
    std::span<const u8> rest = place_->block.body;
    while (const auto record = next_record(rest)) {
      MessageRecord head{};
      if (record->type != RecordType::kMessage || record->body.size() < sizeof(head)) continue;
      std::memcpy(&head, record->body.data(), sizeof(head));
      if (head.seq != seq) continue;
      *message = {head.seq, head.lane, head.frame_flags, record->flags, log_pos, record->body.subspan(sizeof(head))};
      return (record->flags & kMessageDuplicate) == 0 ? Found::kMessage : Found::kDuplicate;
    }
    log_pos += header.bytes;
  }
  return not_there("no message " + std::to_string(seq) + " behind the place that was noted of it");
}

Result<u64> BacklogReader::oldest(const LogMark& durable) {
  if (Status known = refresh(durable); !known) return fail(known.error());
  u64 oldest = durable.next_seq;
  for (const auto& [number, segment] : segments_) oldest = std::min(oldest, segment->header.first_seq);
  return oldest;
}

Result<BacklogReader::Found> BacklogReader::find(u64 seq, const LogMark& durable, MessageView* message) {
  if (seq >= durable.next_seq) {
    return not_there("message " + std::to_string(seq) + " is not announced; the log has come to " +
                     std::to_string(durable.next_seq));
  }
  Result<Found> found = find_once(seq, durable, message);
  if (found || found.error().code != Code::kCorrupt) return found;
  forget();
  return find_once(seq, durable, message);
}

Result<BacklogReader::Found> BacklogReader::find_from(u64 log_pos, u64 seq, const LogMark& durable,
                                                      MessageView* message) {
  Result<Found> found = find_from_once(log_pos, seq, durable, message);
  if (found || found.error().code != Code::kCorrupt) return found;
  forget();
  return find_from_once(log_pos, seq, durable, message);
}

}  // namespace mooring::journal
