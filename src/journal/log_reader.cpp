#include "journal/log_reader.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "journal/block_hash.hpp"
#include "journal/segment_pool.hpp"

namespace mooring::journal {
namespace {

constexpr u64 kNoEnd = std::numeric_limits<u64>::max();

// A file read through a sliding window: sequential, one read a megabyte, and a block larger than it in one piece.
class Window {
 public:
  Window(DiskFile& file, u64 file_bytes, u64 window_bytes)
      : file_(file), file_bytes_(file_bytes), window_bytes_(std::max(window_bytes, kBlockAlignment)) {}

  // Empty: cannot be read (the disk says no). Shorter than asked: the end of the file.
  std::optional<std::span<const u8>> at(u64 offset, u64 bytes) {
    if (offset >= file_bytes_) return std::span<const u8>{};
    bytes = std::min(bytes, file_bytes_ - offset);
    if (offset < begin_ || offset + bytes > begin_ + size_) {
      const u64 wanted = align_up(std::min(std::max(bytes, window_bytes_), file_bytes_ - offset), kBlockAlignment);
      if (!load(offset, wanted) && !load(offset, align_up(bytes, kBlockAlignment))) return std::nullopt;
    }
    const u64 there = std::min(bytes, begin_ + size_ - offset);
    return std::span<const u8>(buffer_.data() + (offset - begin_), there);
  }
  u64 file_bytes() const { return file_bytes_; }
  u64 bytes_read() const { return bytes_read_; }

 private:
  bool load(u64 offset, u64 bytes) {
    if (buffer_.size() < bytes) buffer_ = AlignedBuffer(bytes);
    begin_ = offset;
    size_ = 0;
    while (size_ < bytes) {
      const auto got = file_.read(offset + size_, buffer_.span().subspan(size_, bytes - size_));
      if (!got) return false;
      if (*got == 0) break;
      size_ += *got;
      bytes_read_ += *got;
      if (size_ % kBlockAlignment != 0) break;
    }
    return true;
  }

  DiskFile& file_;
  u64 file_bytes_;
  u64 window_bytes_;
  AlignedBuffer buffer_;
  u64 begin_ = 0;
  u64 size_ = 0;
  u64 bytes_read_ = 0;
};

bool is_zero(std::span<const u8> bytes) {
  return std::ranges::all_of(bytes, [](u8 byte) { return byte == 0; });
}

struct SegmentFile {
  std::string name;
  u64 number = 0;
  std::unique_ptr<DiskFile> file;
  std::unique_ptr<Window> window;
  SegmentHeader header{};
  bool is_readable = true;
  bool begun = false;
};

// What stands where a block should be.
enum class BlockState { kWhole, kBodyBad, kNone, kUnreadable, kEnd };

struct BlockView {
  BlockHeader header{};
  std::span<const u8> body;
};

bool lengths_fit(const BlockHeader& header, u64 room) {
  return header.header_bytes == kBlockHeaderBytes && header.bytes % kBlockAlignment == 0 &&
         header.bytes == block_bytes_for(header.body_bytes) && header.bytes <= room && header.bytes <= kBlockBytesMax;
}

// Whole by itself: magic, queue, place in its file, both checks. Whether it belongs here is asked elsewhere.
BlockState block_at(Window& window, u64 offset, const Uuid& uuid, bool check, BlockView& view) {
  if (offset >= window.file_bytes()) return BlockState::kEnd;
  const auto page = window.at(offset, kBlockAlignment);
  if (!page) return BlockState::kUnreadable;
  if (page->size() < kBlockHeaderBytes) return BlockState::kNone;
  std::memcpy(&view.header, page->data(), kBlockHeaderBytes);
  const BlockHeader& header = view.header;
  if (header.magic != kBlockMagic || header.uuid != uuid) return BlockState::kNone;
  if (!lengths_fit(header, window.file_bytes() - offset)) return BlockState::kNone;
  if (check && header.check != block_check(header)) return BlockState::kNone;
  const auto all = window.at(offset, header.bytes);
  if (!all) return BlockState::kUnreadable;
  if (all->size() < header.bytes) return BlockState::kBodyBad;
  view.body = all->subspan(kBlockHeaderBytes, header.body_bytes);
  if (check) {
    if (hash_bytes(view.body, hash_seed(uuid, header.log_pos)) != header.body_check) return BlockState::kBodyBad;
    if (!is_zero(all->subspan(kBlockHeaderBytes + header.body_bytes))) return BlockState::kBodyBad;
  }
  return BlockState::kWhole;
}

bool belongs_to(const BlockHeader& block, const SegmentHeader& segment, u64 offset) {
  return block.number == segment.number && block.salt == segment.salt && block.incarnation == segment.incarnation &&
         block.log_pos == segment.first_log_pos + (offset - kSegmentHeaderBytes);
}

class Scanner {
 public:
  Scanner(Disk& disk, const ScanOptions& options, LogVisitor& visitor)
      : disk_(disk), options_(options), visitor_(visitor), check_(options.bug != JournalBug::kNoChecksum) {}

  Result<LogScan> run() {
    if (auto opened = open_files(); !opened) return fail(opened.error());
    if (scan_.facts.version_unknown || scan_.facts.foreign) return finish();
    choose_segments();
    for (const std::unique_ptr<SegmentFile>& file : files_) {
      if (!file->begun) look_at_unbegun(*file);
    }
    if (!walk_order_.empty()) {
      if (auto walked = walk(); !walked) return fail(walked.error());
      judge_completeness();
    }
    return finish();
  }

 private:
  void find(const SegmentFile& file, u64 offset, u64 log_pos, bool is_damage, std::string text) {
    scan_.findings.push_back({file.name, offset, log_pos, is_damage, std::move(text)});
  }

  Status open_files() {
    const auto names = disk_.list();
    if (!names) return fail(names.error());
    for (const std::string& name : *names) {
      const auto number = segment_number(name);
      if (!number) continue;
      auto file = std::make_unique<SegmentFile>();
      file->name = name;
      file->number = *number;
      auto opened = disk_.open(name, DiskAccess::read_only);
      if (!opened) {
        if (opened.error().code == Code::kNoSuchQueue) continue;  // It retired while we looked.
        return fail(opened.error());
      }
      file->file = std::move(*opened);
      const auto size = file->file->size_bytes();
      if (!size) return fail(size.error());
      file->window = std::make_unique<Window>(*file->file, *size, options_.window_bytes);
      scan_.number_max = std::max(scan_.number_max, *number);
      read_header(*file);
      files_.push_back(std::move(file));
    }
    std::ranges::sort(files_, {}, [](const auto& file) { return file->number; });
    return {};
  }

  void read_header(SegmentFile& file) {
    const auto page = file.window->at(0, kSegmentHeaderBytes);
    if (!page) {
      file.is_readable = false;
      return;
    }
    if (page->size() < kSegmentHeaderBytes) return;
    SegmentHeader& header = file.header;
    std::memcpy(&header, page->data(), sizeof(header));
    if (header.magic != kSegmentMagic || header.check != segment_check(header)) return;
    if (header.version != kFormatVersion) {
      scan_.facts.version_unknown = true;
      scan_.format_version = header.version;
      find(file, 8, 0, true,
           "format version " + std::to_string(header.version) + "; this program knows version " +
               std::to_string(kFormatVersion));
      return;
    }
    if (options_.uuid && header.uuid != *options_.uuid) {
      scan_.facts.foreign = true;
      find(file, 16, 0, true, "belongs to another queue (its uuid is a different one)");
      return;
    }
    if (!uuid_known_) {
      scan_.uuid = header.uuid;
      uuid_known_ = true;
    } else if (header.uuid != scan_.uuid) {
      scan_.facts.foreign = true;
      find(file, 16, 0, true, "belongs to another queue than the other segments");
      return;
    }
    if (header.number != file.number) return;  // Recycled: its header is of an earlier life.
    file.begun = true;
    scan_.incarnation = std::max(scan_.incarnation, header.incarnation);
    ++scan_.facts.segments_begun;
  }

  // Which segments count, and up to where.
  void choose_segments() {
    std::size_t first = 0;
    for (std::size_t i = 0; i < files_.size(); ++i) {
      if (files_[i]->begun && (files_[i]->header.flags & kStartsAnew) != 0) first = i;
    }
    u64 end_log_pos = kNoEnd;
    u64 end_seq = kNoEnd;
    u64 incarnation = kNoEnd;
    for (std::size_t i = files_.size(); i-- > first;) {
      const SegmentFile& file = *files_[i];
      if (!file.begun) continue;
      if (file.header.incarnation > incarnation) {
        scan_.facts.rotten = true;
        find(file, 32, file.header.first_log_pos, true,
             "incarnation " + std::to_string(file.header.incarnation) + " before a smaller one");
      }
      incarnation = file.header.incarnation;
      limits_.insert(limits_.begin(), {end_log_pos, end_seq});
      walk_order_.insert(walk_order_.begin(), files_[i].get());
      end_log_pos = std::min(end_log_pos, file.header.first_log_pos);
      end_seq = std::min(end_seq, file.header.first_seq);
    }
    first_counting_ = first;
  }

  // No header of its own: prepared, recycled, an opening that did not finish, or a header that has rotted.
  void look_at_unbegun(SegmentFile& file) {
    if (!uuid_known_ && options_.uuid) scan_.uuid = *options_.uuid;
    u64 proof = 0;
    bool any = false;
    u64 incarnation = 0;
    for (u64 offset = kSegmentHeaderBytes; offset < file.window->file_bytes();) {
      BlockView view;
      const BlockState state = block_at(*file.window, offset, scan_.uuid, check_, view);
      if (state == BlockState::kWhole && view.header.number == file.number &&
          view.header.log_pos >= offset - kSegmentHeaderBytes) {
        any = true;
        incarnation = std::max(incarnation, view.header.incarnation);
        const u64 first_log_pos = view.header.log_pos - (offset - kSegmentHeaderBytes);
        if (view.header.durable_before > first_log_pos) proof = std::max(proof, view.header.durable_before);
        offset += view.header.bytes;
      } else {
        offset += kBlockAlignment;
      }
    }
    if (proof != 0) {
      scan_.facts.rotten = true;
      find(file, 0, proof, true, "its header is not whole, and blocks in it prove that it was in use");
    } else if (any) {
      scan_.facts.unfinished = scan_.facts.unfinished || incarnation > scan_.incarnation;
      find(file, 0, 0, false, "begun and never finished: nothing in it was announced");
    } else if (!file.is_readable) {
      find(file, 0, 0, false, "its header cannot be read; no block in it is whole");
    }
    scan_.incarnation = std::max(scan_.incarnation, incarnation);
  }

  Status walk() {
    const SegmentHeader& oldest = walk_order_.front()->header;
    scan_.first_log_pos = oldest.first_log_pos;
    scan_.first_seq = oldest.first_seq;
    at_ = {oldest.first_log_pos, oldest.first_seq};
    check_at_ = oldest.prev_check;
    number_at_ = oldest.predecessor;
    bool is_first = true;
    for (std::size_t i = 0; i < walk_order_.size(); ++i) {
      SegmentFile& file = *walk_order_[i];
      const SegmentHeader& header = file.header;
      const auto [end_log_pos, end_seq] = limits_[i];
      LogScan::SegmentScan report{header.number,
                                  file.window->file_bytes(),
                                  header.first_log_pos,
                                  header.first_log_pos,
                                  header.first_seq,
                                  0,
                                  0,
                                  header.incarnation,
                                  true};
      visitor_.segment(file.name, header);
      if (header.first_log_pos >= end_log_pos) {
        look_for_ghost(file, i);
        scan_.segments.push_back(report);
        continue;
      }
      if (is_first) {
        // The first that counts: segments before it that do not may have known less of the chain.
        check_at_ = header.prev_check;
        number_at_ = header.predecessor;
      } else {
        join(file);
      }
      is_first = false;
      at_ = {header.first_log_pos, header.first_seq};
      if (auto walked = walk_segment(file, end_log_pos, end_seq, report); !walked) return walked;
      scan_.segments.push_back(report);
      if (end_log_pos == kNoEnd) continue;
      if (at_.log_pos != end_log_pos) explain_hole(file, i, end_log_pos);
      look_for_ghost(file, i);
    }
    scan_.end = at_;
    return {};
  }

  // From the end of one segment to the beginning of the next that counts.
  void join(const SegmentFile& file) {
    const SegmentHeader& header = file.header;
    const bool chained = (header.flags & kPredecessorUnknown) != 0 || header.prev_check == check_at_;
    if (at_.log_pos == header.first_log_pos && (!chained || header.first_seq > at_.next_seq)) {
      scan_.facts.rotten = true;
      find(file, 96, header.first_log_pos, true, "does not follow the block before it (another hash, or another seq)");
    }
    // A writer that did not know the chain did not break it either.
    if ((header.flags & kPredecessorUnknown) != 0 && at_.log_pos == header.first_log_pos) return;
    check_at_ = header.prev_check;
    number_at_ = header.predecessor;
  }

  void explain_hole(const SegmentFile& file, std::size_t i, u64 end_log_pos) {
    const SegmentHeader& next = next_counting(i)->header;
    const bool is_missing = next.predecessor != file.number && std::ranges::none_of(files_, [&](const auto& one) {
                              return one->number == next.predecessor;
                            });
    LostRange lost{at_.log_pos, end_log_pos, at_.next_seq, next.first_seq};
    scan_.lost.push_back(lost);
    if (is_missing) {
      scan_.facts.missing = true;
      find(file, file.window->file_bytes(), at_.log_pos, true,
           segment_name(next.predecessor) + " is missing: it ended at log position " + std::to_string(end_log_pos));
    } else {
      scan_.facts.rotten = true;
      find(file, kSegmentHeaderBytes + (at_.log_pos - file.header.first_log_pos), at_.log_pos, true,
           "the block here was durable once and is not whole now; the log goes on at log position " +
               std::to_string(end_log_pos) + ", seq " + std::to_string(next.first_seq));
    }
  }

  const SegmentFile* next_counting(std::size_t i) const {
    for (std::size_t j = i + 1; j < walk_order_.size(); ++j) {
      if (walk_order_[j]->header.first_log_pos < limits_[j].first) return walk_order_[j];
    }
    return walk_order_.back();
  }

  // Of a segment that was cut: is there a block behind what whoever took over found there? It does not count.
  void look_for_ghost(SegmentFile& file, std::size_t i) {
    u64 from = std::max(limits_[i].first, file.header.first_log_pos);
    for (std::size_t j = i + 1; j < walk_order_.size(); ++j) {
      from = std::max(
          from, walk_order_[j]->header.first_log_pos == limits_[i].first ? walk_order_[j]->header.copied_log_pos : 0);
    }
    const u64 offset = kSegmentHeaderBytes + (from - file.header.first_log_pos);
    BlockView view;
    if (block_at(*file.window, offset, scan_.uuid, check_, view) == BlockState::kWhole &&
        belongs_to(view.header, file.header, offset)) {
      scan_.facts.ghost = true;
      find(file, offset, view.header.log_pos, false,
           "blocks behind the mark where a newer segment took over; they do not count");
    }
  }

  Status walk_segment(SegmentFile& file, u64 end_log_pos, u64 end_seq, LogScan::SegmentScan& report) {
    const SegmentHeader& header = file.header;
    const bool is_last = end_log_pos == kNoEnd;
    if (is_last) prove({header.first_log_pos, header.first_seq}, check_at_, number_at_);
    while (at_.log_pos < end_log_pos) {
      const u64 offset = kSegmentHeaderBytes + (at_.log_pos - header.first_log_pos);
      BlockView view;
      const BlockState state = block_at(*file.window, offset, scan_.uuid, check_, view);
      const bool counts = state == BlockState::kWhole && belongs_to(view.header, header, offset) &&
                          (!check_ || view.header.prev_check == check_at_ ||
                           ((header.flags & kPredecessorUnknown) != 0 && at_.log_pos == header.first_log_pos)) &&
                          view.header.bytes <= end_log_pos - at_.log_pos;
      if (!counts) {
        if (is_last) {
          const std::optional<u64> go_on = judge_tail(file, offset, state);
          if (go_on) {
            at_.log_pos = header.first_log_pos + (*go_on - kSegmentHeaderBytes);
            continue;
          }
        } else if (options_.salvage) {
          if (const auto go_on = next_block(file, offset, end_log_pos)) {
            lose(file, *go_on);
            at_.log_pos = header.first_log_pos + (*go_on - kSegmentHeaderBytes);
            continue;
          }
        }
        break;
      }
      if (is_last && view.header.durable_before > scan_.proven.log_pos) {
        prove_up_to(view.header.durable_before);
      }
      const LogMark before = at_;
      if (auto taken = take_block(file, view, offset, end_seq, report); !taken) return taken;
      if (is_last) {
        tail_.push_back({before, check_at_, number_at_, {view.body.begin(), view.body.end()}});
      }
      at_.log_pos += view.header.bytes;
      check_at_ = view.header.check;
      number_at_ = header.number;
      report.end_log_pos = at_.log_pos;
      report.next_seq = at_.next_seq;
      ++report.blocks;
      ++scan_.blocks;
    }
    scan_.bytes_read += file.window->bytes_read();
    return {};
  }

  void prove(LogMark mark, u64 check, u64 number) {
    scan_.proven = mark;
    scan_.proven_check = check;
    scan_.proven_number = number;
    tail_.clear();
  }

  // A block says that everything below `log_pos` was announced: what was kept of it need not be written again.
  void prove_up_to(u64 log_pos) {
    if (log_pos == at_.log_pos) {
      prove(at_, check_at_, number_at_);
      return;
    }
    for (std::size_t i = 0; i < tail_.size(); ++i) {
      if (tail_[i].begin.log_pos != log_pos) continue;
      scan_.proven = tail_[i].begin;
      scan_.proven_check = tail_[i].prev_check;
      scan_.proven_number = tail_[i].prev_number;
      tail_.erase(tail_.begin(), tail_.begin() + static_cast<std::ptrdiff_t>(i));
      return;
    }
  }

  Status take_block(SegmentFile& file, const BlockView& view, u64 offset, u64 end_seq, LogScan::SegmentScan& report) {
    visitor_.block(view.header, offset);
    std::span<const u8> rest = view.body;
    u32 count = 0;
    while (!rest.empty()) {
      const auto record = next_record(rest);
      if (!record) {
        scan_.facts.rotten = true;
        find(file, offset, view.header.log_pos, true, "its checksum is good and its records are not: a writer's error");
        return {};
      }
      ++count;
      visitor_.record(*record, view.header.log_pos);
      if (record->type == RecordType::kMessage) {
        take_message(file, *record, view, offset, end_seq, report);
      } else if (record->type == RecordType::kSnapshot) {
        auto complete = snapshot_.add(*record);
        if (!complete) return annotate(complete.error(), file, offset);
        if (*complete) {
          scan_.state = snapshot_.finish();
          scan_.snapshot_seen = true;
        }
      } else if (auto applied = scan_.state.apply(*record); !applied) {
        return annotate(applied.error(), file, offset);
      }
    }
    if (count != view.header.record_count) {
      scan_.facts.rotten = true;
      find(file, offset, view.header.log_pos, true, "another number of records than its header says");
    }
    return {};
  }

  // A record that may not be skipped, or one that no writer of ours makes, inside a block with good checksums.
  static Status annotate(const Error& error, const SegmentFile& file, u64 offset) {
    return fail(error.code, file.name + " at " + std::to_string(offset) + ": " + error.text);
  }

  void take_message(SegmentFile& file, const RecordView& record, const BlockView& view, u64 offset, u64 end_seq,
                    LogScan::SegmentScan& report) {
    MessageRecord head{};
    if (record.body.size() < sizeof(head)) {
      scan_.facts.rotten = true;
      find(file, offset, view.header.log_pos, true, "a MESSAGE record that is too short");
      return;
    }
    std::memcpy(&head, record.body.data(), sizeof(head));
    const bool is_copy = (record.flags & kMessageCopy) != 0;
    if (!is_copy) {
      if (head.seq >= end_seq) return;  // It was logged again by the incarnation that took over.
      const bool gap_is_known = (record.flags & kMessageGapBefore) != 0 || resuming_;
      if (head.seq < at_.next_seq || (head.seq != at_.next_seq && !gap_is_known)) {
        scan_.facts.rotten = true;
        find(file, offset, view.header.log_pos, true,
             "message " + std::to_string(head.seq) + " where " + std::to_string(at_.next_seq) + " was to follow");
      }
      resuming_ = false;
      if (!scan_.lost.empty() && scan_.lost.back().to_seq == 0) scan_.lost.back().to_seq = head.seq;
      if (scan_.index.empty() || view.header.log_pos - scan_.index.back().log_pos >= options_.index_step_bytes) {
        scan_.index.push_back({head.seq, view.header.log_pos});
      }
      at_.next_seq = std::max(at_.next_seq, head.seq + 1);
    }
    ++report.messages;
    ++scan_.messages;
    if (head.seq < options_.from_seq) return;
    visitor_.message(
        {head.seq, head.lane, head.frame_flags, record.flags, view.header.log_pos, record.body.subspan(sizeof(head))});
  }

  // The offset of the next block of this segment that is whole on its own; `end_log_pos` bounds it.
  std::optional<u64> next_block(SegmentFile& file, u64 offset, u64 end_log_pos) {
    for (offset += kBlockAlignment; offset < file.window->file_bytes(); offset += kBlockAlignment) {
      if (file.header.first_log_pos + (offset - kSegmentHeaderBytes) >= end_log_pos) return std::nullopt;
      BlockView view;
      if (block_at(*file.window, offset, scan_.uuid, check_, view) == BlockState::kWhole &&
          belongs_to(view.header, file.header, offset)) {
        return offset;
      }
    }
    return std::nullopt;
  }

  void lose(const SegmentFile& file, u64 go_on) {
    BlockView view;
    static_cast<void>(block_at(*file.window, go_on, scan_.uuid, check_, view));
    scan_.facts.rotten = true;
    scan_.lost.push_back({at_.log_pos, view.header.log_pos, at_.next_seq, view.header.first_seq});
    find(file, kSegmentHeaderBytes + (at_.log_pos - file.header.first_log_pos), at_.log_pos, true,
         "not whole up to log position " + std::to_string(view.header.log_pos));
    check_at_ = view.header.prev_check;
    resuming_ = true;
  }

  // The log ends in this segment, at `offset`. Says why; with salvage, where to go on.
  std::optional<u64> judge_tail(SegmentFile& file, u64 offset, BlockState state) {
    const u64 place = at_.log_pos;
    if (state == BlockState::kUnreadable) {
      scan_.facts.rotten = true;
      find(file, offset, place, true, "cannot be read; it may have been announced");
      scan_.lost.push_back({place, 0, at_.next_seq, 0});
    }
    bool ours = false;
    bool stale = false;
    bool nonzero = false;
    std::optional<u64> proof_offset;
    std::optional<u64> whole_offset;
    for (u64 at = offset; at < file.window->file_bytes();) {
      BlockView view;
      const BlockState there = block_at(*file.window, at, scan_.uuid, check_, view);
      if (there == BlockState::kWhole || there == BlockState::kBodyBad) {
        if (belongs_to(view.header, file.header, at)) {
          ours = true;
          if (view.header.durable_before > place && !proof_offset) proof_offset = at;
          if (there == BlockState::kWhole && at > offset && !whole_offset) whole_offset = at;
        } else {
          stale = true;
        }
        at += there == BlockState::kWhole && at > offset ? view.header.bytes : kBlockAlignment;
        continue;
      }
      if (there == BlockState::kNone && !nonzero) {
        const auto page = file.window->at(at, kBlockAlignment);
        nonzero = page && !is_zero(*page);
      }
      at += kBlockAlignment;
    }
    if (proof_offset) {
      if (!scan_.facts.rotten || scan_.lost.empty() || scan_.lost.back().from_log_pos != place) {
        scan_.lost.push_back({place, 0, at_.next_seq, 0});
      }
      scan_.facts.rotten = true;
      find(file, offset, place, true,
           "not whole, and the block at " + std::to_string(*proof_offset) + " proves that it was announced");
      if (options_.salvage && whole_offset) {
        BlockView view;
        static_cast<void>(block_at(*file.window, *whole_offset, scan_.uuid, check_, view));
        scan_.lost.back().to_log_pos = view.header.log_pos;
        check_at_ = view.header.prev_check;
        resuming_ = true;
        return whole_offset;
      }
      return std::nullopt;
    }
    if (scan_.facts.rotten) return std::nullopt;
    if (ours || (nonzero && !stale)) {
      scan_.facts.torn = true;
      find(file, offset, place, false, "a torn block: written and never announced; the log ends here");
    } else if (stale) {
      scan_.facts.stale = true;
      find(file, offset, place, false, "blocks of the file's earlier life; the log ends here");
    }
    return std::nullopt;
  }

  void judge_completeness() {
    const SegmentFile& oldest = *walk_order_.front();
    const auto lowest = scan_.state.min_base();
    const bool damaged = scan_.facts.missing || scan_.facts.rotten;
    if (!damaged && (!scan_.snapshot_seen || (lowest && *lowest < scan_.first_seq))) {
      scan_.facts.missing = true;
      find(oldest, 0, scan_.first_log_pos, true,
           !scan_.snapshot_seen
               ? "segments before this one are missing: there is no snapshot in what is left"
               : "segments before this one are missing: a group still needs message " + std::to_string(*lowest));
      scan_.lost.push_back({0, scan_.first_log_pos, lowest.value_or(0), scan_.first_seq});
    }
  }

  Result<LogScan> finish() {
    for (const auto& file : files_) {
      if (file->begun) continue;
      scan_.segments.push_back({file->number, file->window->file_bytes()});
    }
    std::ranges::sort(scan_.segments, {}, &LogScan::SegmentScan::number);
    for (Tail& tail : tail_) scan_.tail_bodies.push_back(std::move(tail.body));
    return std::move(scan_);
  }

  struct Tail {
    LogMark begin;
    u64 prev_check = 0;
    u64 prev_number = 0;
    std::vector<u8> body;
  };

  Disk& disk_;
  const ScanOptions& options_;
  LogVisitor& visitor_;
  bool check_;
  LogScan scan_;
  bool uuid_known_ = false;
  std::vector<std::unique_ptr<SegmentFile>> files_;
  std::vector<SegmentFile*> walk_order_;
  std::vector<std::pair<u64, u64>> limits_;  // beside walk_order_: end log_pos, end seq
  std::size_t first_counting_ = 0;
  LogMark at_;
  u64 check_at_ = 0;
  u64 number_at_ = 0;
  bool resuming_ = false;  // the first block behind damage: its seqs may jump
  std::vector<Tail> tail_;
  SnapshotCollector snapshot_;
};

}  // namespace

Result<LogScan> scan_log(Disk& disk, const ScanOptions& options, LogVisitor& visitor) {
  return Scanner(disk, options, visitor).run();
}

// ---- reading beside a writer ------------------------------------------------------------------------------------

struct LogReader::Source {
  SegmentHeader header{};
  std::unique_ptr<DiskFile> file;
  std::unique_ptr<Window> window;
};

LogReader::LogReader(Disk& disk, const Uuid& uuid) : disk_(disk), uuid_(uuid) {}
LogReader::~LogReader() = default;

Status LogReader::refresh() {
  sources_.clear();
  const auto names = disk_.list();
  if (!names) return fail(names.error());
  std::map<u64, std::string> by_number;
  for (const std::string& name : *names) {
    if (const auto number = segment_number(name)) by_number.emplace(*number, name);
  }
  for (const auto& [number, name] : by_number) {
    auto file = disk_.open(name, DiskAccess::read_only);
    if (!file) continue;  // It retired while we looked.
    AlignedBuffer page(kSegmentHeaderBytes);
    const auto size = (*file)->size_bytes();
    const auto got = (*file)->read(0, page.span());
    if (!size || !got || *got != kSegmentHeaderBytes) continue;
    auto source = std::make_unique<Source>();
    std::memcpy(&source->header, page.data(), sizeof(source->header));
    const SegmentHeader& header = source->header;
    if (header.magic != kSegmentMagic || header.check != segment_check(header) || header.version != kFormatVersion ||
        header.uuid != uuid_ || header.number != number) {
      continue;
    }
    source->file = std::move(*file);
    source->window = std::make_unique<Window>(*source->file, *size, u64{256} << 10);
    // What an older segment has at or past the beginning of a newer one does not count.
    sources_.erase(sources_.lower_bound(header.first_log_pos), sources_.end());
    sources_[header.first_log_pos] = std::move(source);
  }
  return {};
}

Result<LogReader::Source*> LogReader::source_of(u64 log_pos, u64 durable_log_pos) {
  if (log_pos >= known_log_pos_ || sources_.empty()) {
    if (auto refreshed = refresh(); !refreshed) return fail(refreshed.error());
    known_log_pos_ = durable_log_pos;
  }
  const auto after = sources_.upper_bound(log_pos);
  if (after == sources_.begin()) {
    return fail(Code::kCorrupt, disk_.name() + ": no segment has log position " + std::to_string(log_pos) +
                                    "; it has retired, or is missing");
  }
  return std::prev(after)->second.get();
}

Result<LogMark> LogReader::read(LogMark from, LogMark durable, const std::function<bool(const MessageView&)>& more) {
  LogMark at = from;
  bool wants_more = true;
  while (wants_more && at.log_pos < durable.log_pos) {
    const auto source = source_of(at.log_pos, durable.log_pos);
    if (!source) return fail(source.error());
    const u64 offset = kSegmentHeaderBytes + (at.log_pos - (*source)->header.first_log_pos);
    BlockView view;
    if (block_at(*(*source)->window, offset, uuid_, true, view) != BlockState::kWhole ||
        !belongs_to(view.header, (*source)->header, offset)) {
      sources_.clear();
      return fail(Code::kCorrupt, disk_.name() + ": no whole block at log position " + std::to_string(at.log_pos) +
                                      "; it has retired or rotted");
    }
    std::span<const u8> rest = view.body;
    while (const auto record = next_record(rest)) {
      MessageRecord head{};
      if (record->type != RecordType::kMessage || record->body.size() < sizeof(head)) continue;
      std::memcpy(&head, record->body.data(), sizeof(head));
      if ((record->flags & kMessageCopy) != 0 || head.seq < at.next_seq) continue;
      if (head.seq >= durable.next_seq) break;
      wants_more = more({head.seq, head.lane, head.frame_flags, record->flags, view.header.log_pos,
                         record->body.subspan(sizeof(head))});
      // The same block again next time, from the message after it.
      at.next_seq = head.seq + 1;
      if (!wants_more) return at;
    }
    at.log_pos += view.header.bytes;
  }
  return at;
}

}  // namespace mooring::journal
