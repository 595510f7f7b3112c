#include "journal/segment_pool.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "base/kill_point.hpp"

namespace mooring::journal {
namespace {

constexpr std::string_view kSegmentPrefix = "log-";
constexpr std::size_t kNumberDigits = 10;
constexpr u64 kZeroBytes = u64{1} << 20;

}  // namespace

std::string segment_name(u64 number) {
  std::string digits = std::to_string(number);
  if (digits.size() < kNumberDigits) digits.insert(0, kNumberDigits - digits.size(), '0');
  return std::string(kSegmentPrefix) + digits;
}

std::optional<u64> segment_number(const std::string& name) {
  if (!name.starts_with(kSegmentPrefix)) return std::nullopt;
  u64 number = 0;
  const char* end = name.data() + name.size();
  const auto [last, error] = std::from_chars(name.data() + kSegmentPrefix.size(), end, number);
  if (error != std::errc{} || last != end || segment_name(number) != name) return std::nullopt;
  return number;
}

bool is_disposable_name(const std::string& name) {
  return name.starts_with("new-") || name.starts_with("reserve-") || name.starts_with("spare-");
}

SegmentPool::SegmentPool(Disk& disk, const LogOptions& options, u64 next_number, u64 live_bytes)
    : disk_(disk),
      options_(options),
      next_number_(next_number),
      total_bytes_(live_bytes),
      growing_bytes_(std::min(options.segment_bytes, 2 * options.small_segment_bytes)) {}

u64 SegmentPool::next_bytes() const {
  const std::scoped_lock lock(mutex_);
  return growing_bytes_;
}

// Without the mutex: whoever calls has reserved the bytes in total_bytes_.
Result<SegmentPool::Waiting> SegmentPool::make(u64 bytes, SegmentUse use) {
  Waiting made;
  made.bytes = bytes;
  {
    const std::scoped_lock lock(mutex_);
    // A try on a full disk is not free, and every message would make one.
    if (is_full_) return fail(Code::kDiskFull, disk_.name() + ": the disk was full when a segment was last made");
    if (use == SegmentUse::kMessages && options_.quota_bytes != 0 && total_bytes_ + bytes > options_.quota_bytes) {
      is_full_ = true;
      return fail(Code::kDiskFull, disk_.name() + ": the log may have " + std::to_string(options_.quota_bytes) +
                                       " bytes and has " + std::to_string(total_bytes_) +
                                       "; acknowledge messages, or raise the quota");
    }
    total_bytes_ += bytes;
    made.name = "new-" + std::to_string(next_id_++);
  }
  Status done;
  if (auto file = disk_.create(made.name); file) {
    made.file = std::move(*file);
    MOORING_KILL_POINT("journal.segment_created");
    done = made.file->lock(options_.lock_wait_ns);
    // Written, not only allocated: the first write into an unwritten extent costs a metadata commit.
    AlignedBuffer zeros(std::min(bytes, kZeroBytes));
    for (u64 at = 0; done && at < bytes; at += zeros.size()) {
      done = made.file->write(at, zeros.span().first(std::min(zeros.size(), bytes - at)));
    }
    if (done && options_.bug != JournalBug::kNoSync) done = made.file->sync();
    MOORING_KILL_POINT("journal.segment_zeroed");
  } else {
    done = fail(file.error());
  }
  if (!done) {
    drop(made);
    const std::scoped_lock lock(mutex_);
    is_full_ = done.error().code == Code::kDiskFull;
    return fail(done.error());
  }
  return made;
}

// A half-made file may hold every block that was free.
void SegmentPool::drop(Waiting& waiting) {
  if (waiting.file) static_cast<void>(disk_.unlink(waiting.name));
  waiting.file.reset();
  const std::scoped_lock lock(mutex_);
  total_bytes_ -= waiting.bytes;
}

Status SegmentPool::rename_for_good(const std::string& from, const std::string& to) {
  if (auto renamed = disk_.rename(from, to); !renamed) return renamed;
  MOORING_KILL_POINT("journal.segment_renamed");
  if (options_.bug == JournalBug::kNoDirectorySync) return {};
  return disk_.sync_directory();
}

Status SegmentPool::fill_reserve() {
  while (true) {
    {
      const std::scoped_lock lock(mutex_);
      if (reserve_.size() >= options_.reserve_count) return {};
    }
    auto made = make(options_.small_segment_bytes, SegmentUse::kControl);
    if (!made) return fail(made.error());
    const std::scoped_lock lock(mutex_);
    const std::string name = "reserve-" + made->name.substr(4);
    if (auto renamed = disk_.rename(made->name, name); !renamed) {
      total_bytes_ -= made->bytes;
      return renamed;
    }
    made->name = name;
    reserve_.push_back(std::move(*made));
  }
}

Status SegmentPool::make_next(u64 bytes, SegmentUse use) {
  Waiting waiting;
  {
    const std::scoped_lock lock(mutex_);
    if (next_) return {};
    const auto spare = std::ranges::find_if(spares_, [&](const Waiting& one) { return one.bytes >= bytes; });
    if (spare != spares_.end()) {
      waiting = std::move(*spare);
      spares_.erase(spare);
    }
  }
  if (!waiting.name.empty() && !waiting.file) {
    auto file = disk_.open(waiting.name, DiskAccess::read_write);
    if (file) {
      waiting.file = std::move(*file);
      if (auto locked = waiting.file->lock(options_.lock_wait_ns); !locked) waiting.file.reset();
    }
    if (!waiting.file) {
      static_cast<void>(disk_.unlink(waiting.name));
      const std::scoped_lock lock(mutex_);
      total_bytes_ -= waiting.bytes;
    }
  }
  if (!waiting.file) {
    auto made = make(bytes, use);
    if (!made) return fail(made.error());
    waiting = std::move(*made);
  }
  const std::scoped_lock lock(mutex_);
  if (next_) {  // The writer made one meanwhile.
    waiting.file.reset();
    if (waiting.name.starts_with("new-")) {
      const std::string name = "spare-" + waiting.name.substr(4);
      if (auto renamed = disk_.rename(waiting.name, name); !renamed) return renamed;
      waiting.name = name;
    }
    spares_.push_back(std::move(waiting));
    return {};
  }
  const std::string name = segment_name(next_number_);
  if (auto renamed = rename_for_good(waiting.name, name); !renamed) {
    // Under which name it would come back is not known: it is left for the next opening, and its number with it.
    ++next_number_;
    return renamed;
  }
  waiting.name = name;
  next_ = std::move(waiting);
  return {};
}

Status SegmentPool::prepare() {
  {
    const std::scoped_lock lock(mutex_);
    is_full_ = false;
  }
  if (auto filled = fill_reserve(); !filled) return filled;
  return make_next(next_bytes(), SegmentUse::kMessages);
}

bool SegmentPool::reserve_is_whole() const {
  const std::scoped_lock lock(mutex_);
  return reserve_.size() >= options_.reserve_count;
}

Result<PreparedSegment> SegmentPool::take(u64 bytes, SegmentUse use) {
  if (use == SegmentUse::kMessages) {
    if (auto filled = fill_reserve(); !filled) return fail(filled.error());
  }
  // Too small for a very large message. No number has to be there that was never begun.
  Waiting too_small;
  {
    const std::scoped_lock lock(mutex_);
    if (next_ && next_->bytes < bytes) {
      too_small = std::move(*next_);
      next_.reset();
      ++next_number_;
    }
  }
  drop(too_small);
  Status made =
      make_next(std::max(bytes, use == SegmentUse::kMessages ? next_bytes() : options_.small_segment_bytes), use);
  const std::scoped_lock lock(mutex_);
  if (made && next_) {
    PreparedSegment taken{std::move(next_->file), next_number_, next_->bytes, false};
    next_.reset();
    ++next_number_;
    if (use == SegmentUse::kMessages) growing_bytes_ = std::min(options_.segment_bytes, 2 * growing_bytes_);
    return taken;
  }
  if (use == SegmentUse::kMessages || reserve_.empty() || reserve_.back().bytes < bytes) return fail(made.error());
  Waiting last = std::move(reserve_.back());
  reserve_.pop_back();
  const u64 number = next_number_++;
  if (auto renamed = rename_for_good(last.name, segment_name(number)); !renamed) return fail(renamed.error());
  return PreparedSegment{std::move(last.file), number, last.bytes, true};
}

Status SegmentPool::recycle(u64 number, u64 bytes, bool reusable) {
  const std::scoped_lock lock(mutex_);
  is_full_ = false;
  const std::string name = segment_name(number);
  if (reusable && bytes == options_.segment_bytes && spares_.size() < options_.spare_count_max) {
    Waiting spare;
    spare.name = "spare-" + std::to_string(next_id_++);
    spare.bytes = bytes;
    if (auto renamed = disk_.rename(name, spare.name); !renamed) return renamed;
    spares_.push_back(std::move(spare));
    return {};
  }
  if (auto removed = disk_.unlink(name); !removed) return removed;
  total_bytes_ -= std::min(total_bytes_, bytes);
  return {};
}

u64 SegmentPool::total_bytes() const {
  const std::scoped_lock lock(mutex_);
  return total_bytes_;
}

}  // namespace mooring::journal
