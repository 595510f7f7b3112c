#include "journal/log_reader.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "journal/block_hash.hpp"
#include "journal/block_window.hpp"
#include "journal/segment_pool.hpp"

namespace mooring::journal {
namespace {

constexpr u64 kNoEnd = std::numeric_limits<u64>::max();

struct SegmentFile {
  std::string name;
  u64 number = 0;
  std::unique_ptr<DiskFile> file;
  std::unique_ptr<Window> window;
  SegmentHeader header{};
  bool is_readable = true;
  bool begun = false;
};

class Scanner {
 public:
  Scanner(Disk& disk, const ScanOptions& options, LogVisitor& visitor)
      : disk_(disk), options_(options), visitor_(visitor), check_(options.bug != JournalBug::kNoChecksum) {}

  Result<LogScan> run() {
    if (auto opened = open_files(); !opened) return fail(opened.error());
    if (scan_.facts.version_unknown || scan_.facts.foreign) return finish();
    choose_segments();
    for (const std::unique_ptr<SegmentFile>& file : files_) {
      if (file->begun) continue;
      file->window->lend(std::exchange(memory_, {}));
      look_at_unbegun(*file);
      memory_ = file->window->release();
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
      file->window = std::make_unique<Window>(*file->file, *size, options_.window_bytes, /*reads_ahead=*/true);
      scan_.number_max = std::max(scan_.number_max, *number);
      read_header(*file);
      files_.push_back(std::move(file));
    }
    std::ranges::sort(files_, {}, [](const auto& file) { return file->number; });
    return {};
  }

  // By itself: a log has many segments, and a window of each would be read, and kept, before its turn.
  void read_header(SegmentFile& file) {
    const auto got = file.file->read(0, page_.span());
    if (!got) {
      file.is_readable = false;
      return;
    }
    scan_.bytes_read += *got;
    if (*got < kSegmentHeaderBytes) return;
    SegmentHeader& header = file.header;
    std::memcpy(&header, page_.data(), sizeof(header));
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
      file.window->lend(std::exchange(memory_, {}));
      if (header.first_log_pos >= end_log_pos) {
        look_for_ghost(file, i);
        memory_ = file.window->release();
        scan_.segments.push_back(report);
        continue;
      }
      if (is_first) {
        // The first that counts: segments before it that do not may have known less of the chain, and begun later in
        // the log than it does.
        scan_.first_log_pos = header.first_log_pos;
        scan_.first_seq = header.first_seq;
        check_at_ = header.prev_check;
        number_at_ = header.predecessor;
      } else {
        join(file);
      }
      is_first = false;
      at_ = {header.first_log_pos, header.first_seq};
      if (auto walked = walk_segment(file, end_log_pos, end_seq, report); !walked) return walked;
      scan_.segments.push_back(report);
      if (end_log_pos != kNoEnd) {
        if (at_.log_pos != end_log_pos) explain_hole(file, i, end_log_pos);
        look_for_ghost(file, i);
      }
      memory_ = file.window->release();
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
        keep(before, view.body);
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
    forget(tail_.size());
  }

  // What may have to be written again.
  void keep(const LogMark& begin, std::span<const u8> body) {
    std::vector<u8> copy = std::exchange(spare_body_, {});
    copy.assign(body.begin(), body.end());
    tail_.push_back({begin, check_at_, number_at_, std::move(copy)});
  }

  // The memory of one is kept: each block is copied, and the next one proves most of them.
  void forget(std::size_t count) {
    if (count == 0) return;
    spare_body_ = std::move(tail_.front().body);
    tail_.erase(tail_.begin(), tail_.begin() + static_cast<std::ptrdiff_t>(count));
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
      forget(i);
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
  AlignedBuffer page_{kSegmentHeaderBytes};
  AlignedBuffer memory_;  // of the window of the file that is being read
  std::vector<std::unique_ptr<SegmentFile>> files_;
  std::vector<SegmentFile*> walk_order_;
  std::vector<std::pair<u64, u64>> limits_;  // beside walk_order_: end log_pos, end seq
  std::size_t first_counting_ = 0;
  LogMark at_;
  u64 check_at_ = 0;
  u64 number_at_ = 0;
  bool resuming_ = false;  // the first block behind damage: its seqs may jump
  std::vector<Tail> tail_;
  std::vector<u8> spare_body_;
  SnapshotCollector snapshot_;
};

}  // namespace

Result<LogScan> scan_log(Disk& disk, const ScanOptions& options, LogVisitor& visitor) {
  return Scanner(disk, options, visitor).run();
}

}  // namespace mooring::journal
