#include "journal/sim_log.hpp"

#include <algorithm>
#include <utility>

namespace mooring::test {

using journal::AckRun;
using journal::GroupChange;
using journal::GroupState;
using journal::LogOptions;
using journal::LogScan;
using journal::LogState;
using journal::MessageView;
using journal::ParkRecord;
using journal::RecoveryRow;
using journal::ScanOptions;

LogOptions tiny_log_options(u64 seed) {
  LogOptions options;
  for (std::size_t i = 0; i < options.uuid.size(); ++i) options.uuid[i] = static_cast<u8>(mix(seed) >> (i % 8));
  options.first_seq = 1000;
  options.segment_bytes = 64 << 10;
  options.small_segment_bytes = 24 << 10;
  options.block_bytes = 16 << 10;
  options.message_bytes_max = 30'000;
  options.direct_write_bytes_max = 8 << 10;
  options.snapshot_interval_bytes = 40 << 10;
  options.index_step_bytes = 16 << 10;
  options.lock_wait_ns = 0;
  options.times = [now = u64{0}]() mutable {
    now += 1000;
    return journal::LogTimes{1'700'000'000'000'000'000ULL + now, now};
  };
  options.random = [at = mix(seed)]() mutable { return at = mix(at); };
  return options;
}

class SimLog::Reader : public journal::LogVisitor {
 public:
  explicit Reader(const SimLog& log) : log_(log) {}
  void message(const MessageView& message) override {
    if (!wrong.empty()) return;
    const auto sent = log_.sent_.find(message.seq);
    if (sent == log_.sent_.end()) {
      wrong = "phantom: message " + std::to_string(message.seq) + " was never appended";
    } else if (message.bytes.size() != sent->second.len || message.lane != sent->second.lane ||
               !std::equal(message.bytes.begin(), message.bytes.end(),
                           payload_of(sent->second.key, sent->second.len))) {
      wrong = "phantom: message " + std::to_string(message.seq) + " has other bytes than were appended";
    } else if (first_ && message.seq != last_ + 1) {
      wrong = "hole: message " + std::to_string(message.seq) + " follows " + std::to_string(last_);
    }
    if (!first_) first_ = message.seq;
    last_ = message.seq;
  }
  std::string wrong;
  std::optional<u64> first_;
  u64 last_ = 0;

 private:
  const SimLog& log_;
};

SimLog::SimLog(u64 seed, SimLogOptions options)
    : random_(seed), options_(options), log_options_(tiny_log_options(seed)), disk_(std::make_unique<SimDisk>()) {
  log_options_.bug = options.bug;
  log_options_.reserve_count = static_cast<u32>(random_.below(3));
  if (options.small_writes_only) log_options_.direct_write_bytes_max = u64{1} << 30;
  if (random_.one_in(3)) log_options_.quota_bytes = (300 << 10) + (random_.below(200) << 10);
  announced_.next_seq = log_options_.first_seq;
  lives_long_ = mix(seed) % 32 == 0;
  if (lives_long_) {
    log_options_.segment_bytes = log_options_.small_segment_bytes;  // all of one size: none is unlinked
    options_.steps_max *= 5;
  }
}

void SimLog::note(const Status& status) {
  if (status) return;
  if (status.error().code == Code::kDiskFull) ++counts_.disk_full;
}

// A flush that has just begun, or is about to, carries all of this.
void SimLog::point_now() {
  if (writer_) flushed_.push_back({writer_->next_seq(), writer_->state()});
}

void SimLog::flushed() {
  const u64 next_seq = writer_->durable().next_seq;
  ++counts_.announced;
  announced_ = flushed_.empty() ? announced_ : flushed_.back();
  announced_.next_seq = next_seq;
  announced_mark_ = writer_->durable();
  flushed_.clear();
}

void SimLog::append_something() {
  const u64 kind = random_.below(20);
  u64 len = random_.below(300);
  if (kind == 0)
    len = random_.below(log_options_.message_bytes_max);
  else if (kind < (lives_long_ ? 10 : 4))
    len = random_.below(6000);
  Sent sent{next_key_++, len, static_cast<u32>(random_.below(5))};
  const u64 seq = writer_->next_seq();
  // After a warm restart the ring still has what was published: it is logged again, the same.
  if (const auto again = sent_.find(seq); again != sent_.end()) sent = again->second;
  len = sent.len;
  const Status done = writer_->append_message({seq, sent.lane, 7, {payload_of(sent.key, len), len}});
  if (done)
    sent_[seq] = sent;
  else
    note(done);
}

void SimLog::change_something() {
  const LogState& state = writer_->state();
  const u64 next_seq = writer_->next_seq();
  if (state.groups.empty() || random_.one_in(40)) {
    GroupState group;
    group.name = "g" + std::to_string(next_group_);
    group.start = next_seq;
    group.config = std::string(random_.below(50), 'c');
    note(writer_->append_group(next_group_++, GroupChange::kCreate, group));
    return;
  }
  const auto picked = std::next(state.groups.begin(), static_cast<std::ptrdiff_t>(random_.below(state.groups.size())));
  const u32 id = picked->first;
  if (state.groups.size() > 3) {
    note(writer_->append_group(id, GroupChange::kRemove, picked->second));
    return;
  }
  switch (random_.below(4)) {
    case 0: {
      ParkRecord park{};
      park.group = id;
      park.state = static_cast<u32>(random_.below(4));
      park.seq = next_seq - std::min<u64>(next_seq - log_options_.first_seq, random_.below(10));
      park.failed = static_cast<u32>(random_.below(9));
      park.message_log_pos = writer_->locate(park.seq);
      note(writer_->append_park(park));
      break;
    }
    case 1:
      if (!state.parks.empty()) {
        const auto park = state.parks.begin()->first;
        note(writer_->append_release(park.first, park.second));
      }
      break;
    default: {
      // Only what is in the log may be acknowledged (S6): up to the last announced message.
      const u64 durable = std::max(announced_.next_seq, picked->second.base);
      u64 base = picked->second.base + random_.below(durable - picked->second.base + 1);
      std::vector<AckRun> runs;
      for (u64 at = base; runs.size() < 5;) {
        const u64 first = at + 1 + random_.below(3);
        const u64 count = 1 + random_.below(3);
        if (first + count > durable) break;
        runs.push_back({first, count});
        at = first + count;
      }
      note(writer_->append_cursor(id, base, runs));
      break;
    }
  }
}

// Everybody acknowledges all that is durable, and what nobody needs any more is let go.
void SimLog::let_go() {
  std::vector<std::pair<u32, u64>> bases;
  for (const auto& [id, group] : writer_->state().groups) {
    bases.emplace_back(id, std::max(announced_.next_seq, group.base));
  }
  for (const auto& [id, base] : bases) note(writer_->append_cursor(id, base, {}));
  while (!writer_->state().parks.empty()) {
    const auto park = writer_->state().parks.begin()->first;
    const Status released = writer_->append_release(park.first, park.second);
    note(released);
    if (!released) break;
  }
  point_now();
  const Status done = writer_->snapshot();
  note(done);
  if (!done) return;
  flushed();
  const auto base = writer_->state().min_base();
  if (const auto retired = writer_->retire(base.value_or(log_options_.first_seq))) counts_.retired += *retired;
  note(writer_->prepare());
}

std::optional<std::string> SimLog::step() {
  const u64 before = writer_->next_seq();
  if (lives_long_ && random_.one_in(20)) {
    let_go();
    return std::nullopt;
  }
  switch (random_.below(24)) {
    case 0: note(writer_->prepare()); break;
    case 1: {
      const auto base = writer_->state().min_base();
      if (const auto retired = writer_->retire(base.value_or(log_options_.first_seq))) counts_.retired += *retired;
      break;
    }
    case 2:
      if (writer_->snapshot_due() || random_.one_in(8)) {
        point_now();
        const Status done = writer_->snapshot();
        note(done);
        if (done) flushed();
      }
      break;
    case 3: {
      point_now();
      const Status done = writer_->seal();
      note(done);
      if (done) flushed();
      break;
    }
    case 4:
    case 5:
    case 6: {
      point_now();
      const Status done = writer_->flush();
      note(done);
      if (done) flushed();
      break;
    }
    case 7:
    case 8:
    case 9: {
      // One is on its way while the next fills.
      if (writer_->is_in_flight()) {
        const Point in_flight = flushed_.empty() ? announced_ : flushed_.back();
        if (const Status done = writer_->finish_flush(); done) {
          flushed_ = {in_flight};
          flushed();
        }
      } else {
        point_now();
        note(writer_->begin_flush());
      }
      break;
    }
    case 10:
    case 11:
    case 12:
    case 13: change_something(); break;
    default: append_something(); break;
  }
  if (writer_->next_seq() < before) return "the next seq went back";
  if (!disk_->is_off() && writer_->durable().next_seq > announced_.next_seq && flushed_.empty()) {
    return "durable went ahead of every flush";
  }
  return std::nullopt;
}

std::optional<std::string> SimLog::open() {
  is_opening_ = true;
  writer_.reset();
  Reader reader(*this);
  auto opened = journal::open_log(*disk_, log_options_, reader);
  if (!opened) {
    if (disk_->is_off() || disk_->counts().faults != 0 || opened.error().code == Code::kDiskFull) return std::nullopt;
    return "opening failed: " + opened.error().text;
  }
  is_opening_ = false;
  has_opened_ = true;
  ++counts_.opened;
  ++counts_.rows[static_cast<char>(opened->recovered.row)];
  if (!reader.wrong.empty()) return reader.wrong;
  writer_ = std::move(opened->writer);
  if (opened->recovered.next_seq < announced_.next_seq) {
    return "lost: the log goes on at " + std::to_string(opened->recovered.next_seq) + ", announced was " +
           std::to_string(announced_.next_seq);
  }
  // What it found is history from now on, and told to everybody.
  announced_ = {opened->recovered.next_seq, opened->recovered.state};
  announced_mark_ = writer_->durable();
  must_have_ = announced_.next_seq;
  flushed_.clear();
  sent_.erase(sent_.lower_bound(announced_.next_seq), sent_.end());
  return std::nullopt;
}

// Where the message of a park lies is said as "at or before": a resumed log may say it more coarsely.
static LogState without_places(LogState state) {
  for (auto& [key, park] : state.parks) park.message_log_pos = 0;
  return state;
}

// What was published and not announced is still in the ring; groups and parks are those of shared memory, which is
// never behind what was announced.
std::optional<std::string> SimLog::resume() {
  is_opening_ = true;
  auto resumed = journal::resume_log(*disk_, log_options_, announced_mark_, announced_.state);
  if (!resumed) {
    if (disk_->is_off() || disk_->counts().faults != 0 || resumed.error().code == Code::kDiskFull) return std::nullopt;
    return "resuming failed: " + resumed.error().text;
  }
  is_opening_ = false;
  ++counts_.resumed;
  writer_ = std::move(*resumed);
  if (writer_->next_seq() != announced_.next_seq) return "resumed at another seq than was announced";
  announced_mark_ = writer_->durable();
  flushed_.clear();
  return std::nullopt;
}

std::optional<std::string> SimLog::work() {
  const u64 steps = 1 + random_.below(options_.steps_max);
  for (u64 i = 0; i < steps && !disk_->is_off() && writer_ && !writer_->has_failed(); ++i) {
    if (auto wrong = step()) return wrong;
  }
  if (writer_ && writer_->has_failed() && !disk_->is_off()) ++counts_.failed_logs;
  return std::nullopt;
}

std::optional<std::string> SimLog::verify(bool after_power_cut) {
  Reader reader(*this);
  ScanOptions scan_options{log_options_.uuid};
  scan_options.bug = log_options_.bug;
  const auto scan = journal::scan_log(*disk_, scan_options, reader);
  if (!scan) return "cannot be read: " + scan.error().text;
  if (journal::matching_rows(scan->facts).size() != 1) return "not exactly one row matches";
  const RecoveryRow row = journal::decide(scan->facts);
  if (row == RecoveryRow::kEmpty && !has_opened_) return std::nullopt;
  if (!journal::goes_on(row)) {
    std::string text = std::string("refusal: row ") + static_cast<char>(row);
    for (const auto& finding : scan->findings) text += "; " + finding.file + ": " + finding.text;
    for (const auto& one : scan->segments) {
      text += "\n    " + std::to_string(one.number) + (one.begun ? " incarnation " : " not begun ") +
              std::to_string(one.incarnation) + " log position " + std::to_string(one.first_log_pos) + " to " +
              std::to_string(one.end_log_pos) + " blocks " + std::to_string(one.blocks);
    }
    return text;
  }
  if (!reader.wrong.empty()) return reader.wrong;
  const u64 next_seq = row == RecoveryRow::kEmpty ? log_options_.first_seq : scan->end.next_seq;
  if (next_seq < announced_.next_seq) {
    return "lost: the log ends before " + std::to_string(next_seq) + ", announced was " +
           std::to_string(announced_.next_seq);
  }
  if (next_seq < must_have_) {
    return "forgetful: the log ends before " + std::to_string(next_seq) + ", after an earlier cut it ended before " +
           std::to_string(must_have_);
  }
  if (const auto base = scan->state.min_base(); base && *base < next_seq) {
    if (!reader.first_ || *reader.first_ > *base)
      return "lost: message " + std::to_string(*base) + " is needed and gone";
  }
  if (reader.first_ && reader.last_ + 1 != next_seq) return "hole: the end of the log is not behind its last message";
  const LogState found = without_places(scan->state);
  const auto is_it = [&](const Point& point) {
    return next_seq == point.next_seq && found == without_places(point.state);
  };
  const bool known = is_it(announced_) || std::any_of(flushed_.begin(), flushed_.end(), is_it);
  if (!known) return "prefix: groups, cursors and parks are not those of any point that was flushed";
  if (next_seq > announced_.next_seq) ++counts_.found_more;
  if (after_power_cut) must_have_ = next_seq;
  return std::nullopt;
}

std::optional<std::string> SimLog::die() {
  disk_->halt();
  writer_.reset();
  if (options_.with_kills && random_.one_in(5)) {
    ++counts_.kills;
    disk_->process_killed(random_, random_.one_in(2));
    may_resume_ = !is_opening_;
    return verify(false);
  }
  ++counts_.cuts;
  if (is_opening_) ++counts_.cuts_in_recovery;
  disk_->power_cut(random_);
  return verify(true);
}

std::optional<std::string> SimLog::live_and_die() {
  const u64 now = disk_->operations();
  disk_->power_off_at(now + 1 + (random_.one_in(3) ? random_.below(25) : random_.below(lives_long_ ? 600 : 120)));
  if (options_.with_faults && random_.one_in(3)) {
    const u64 count = 1 + random_.below(2);
    for (u64 i = 0; i < count; ++i) {
      const DiskFault fault = random_.one_in(3)   ? DiskFault::kShort
                              : random_.one_in(3) ? DiskFault::kNoSpace
                                                  : DiskFault::kIo;
      const u64 at = now + random_.below(80);
      disk_->fault_at(at, fault);
      // Faults come in twos, too: the second one while the first is being mended.
      if (random_.one_in(3)) disk_->fault_at(at + 1 + random_.below(4), fault);
    }
  }
  if (options_.with_faults && random_.one_in(6))
    disk_->full_from(now + random_.below(60));
  else
    disk_->not_full();
  if (std::exchange(may_resume_, false) && options_.with_resume && random_.one_in(2)) {
    if (auto wrong = resume()) return wrong;
  } else if (auto wrong = open()) {
    return wrong;
  }
  if (writer_) {
    if (auto wrong = work()) return wrong;
  }
  return die();
}

}  // namespace mooring::test
