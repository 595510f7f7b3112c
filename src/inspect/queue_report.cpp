#include "inspect/queue_report.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <fstream>
#include <map>

#include "base/time.hpp"
#include "delivery/breaker.hpp"
#include "delivery/policy.hpp"
#include "group/group_view.hpp"
#include "group/seat_progress.hpp"
#include "platform/fault_guard.hpp"
#include "platform/process_end.hpp"
#include "ring/order_ring.hpp"
#include "segment/dead_letters.hpp"
#include "segment/instance_paths.hpp"
#include "segment/tail_times.hpp"

namespace mooring {
namespace {

using A = HardwareAtomics;

// A supervisor looks at an idle queue each five seconds; this much later it does not.
constexpr std::uint64_t kLooksAtLeastNs = 15 * kNsPerSecond;

// Without ack_wait: from when on somebody may want to know that a consumer stands still.
constexpr std::uint64_t kStandsNs = 30 * kNsPerSecond;

std::string text_of(const char* text, std::size_t size) { return {text, ::strnlen(text, size)}; }

HolderReport holder_of(std::uint32_t pid, std::uint64_t start_time_ticks) {
  HolderReport holder;
  holder.pid = pid;
  const Result<ProcessState> state = process_state({pid, start_time_ticks});
  if (!state) {
    holder.state = "unknown";
  } else {
    switch (*state) {
      case ProcessState::running: holder.state = "running"; break;
      case ProcessState::stopped: holder.state = "stopped"; break;
      case ProcessState::zombie: holder.state = "zombie"; break;
      case ProcessState::gone: holder.state = "gone"; break;
    }
    if (*state != ProcessState::gone) holder.process = process_name(pid);
  }
  return holder;
}

// As the supervisor keeps it in ctl (supervisor/group_breaker.hpp).
void read_breaker(const layout::GroupSlot& slot, std::uint32_t paused, GroupReport* report) {
  report->breaker_opened = A::load(slot.counters.breaker_opened_total, std::memory_order_relaxed);
  if ((paused & layout::kGroupPausedByBreaker) == 0) {
    if (slot.policy.breaker != 0) report->breaker = breaker_state_name(Breaker::State::kClosed);
    return;
  }
  report->breaker_level = layout::breaker_level(paused);
  const std::uint64_t until = A::load(slot.breaker_until_boottime_ns, std::memory_order_relaxed);
  const std::uint64_t now = boottime_ns();
  const bool half_open = (paused & layout::kGroupCanary) != 0 || until <= now;
  report->breaker = breaker_state_name(half_open ? Breaker::State::kHalfOpen : Breaker::State::kOpen);
  if (!half_open) report->breaker_opens_in_ns = until - now;
}

// What each seat holds in a group.
struct InHand {
  std::uint64_t count = 0;
  std::uint64_t oldest_seq = ~std::uint64_t{0};
  void add(std::uint64_t seq) {
    ++count;
    oldest_seq = std::min(oldest_seq, seq);
  }
};
using InHands = std::map<std::uint32_t, InHand>;

// `seq` waits, or is with a consumer.
void add_ready(GroupReport* report, std::uint64_t seq, std::uint64_t count = 1) {
  report->ready += count;
  report->oldest_ready_seq = std::min(report->oldest_ready_seq, seq);
}
void add_in_flight(GroupReport* report, std::uint64_t seq, std::uint64_t count = 1) {
  report->in_flight += count;
  report->oldest_in_flight_seq = std::min(report->oldest_in_flight_seq, seq);
}

void count_parked(const GroupView& group, GroupReport* report, InHands* in_hands) {
  for (std::uint32_t index = 0; index < group.parks_count; ++index) {
    const layout::ParkWord park = layout::read_park_word(A::load(group.parks[index].word, std::memory_order_acquire));
    if (park.state == layout::ParkState::kFree || park.state == layout::ParkState::kAcked) continue;
    ++report->parked;
    const std::uint64_t seq = A::load(group.parks[index].seq, std::memory_order_relaxed);
    if (park.state == layout::ParkState::kLeased) {
      add_in_flight(report, seq);
      (*in_hands)[park.owner].add(seq);
    }
    if (park.state == layout::ParkState::kReady) add_ready(report, seq);
  }
}

// The states of a competing group, by one walk over its window.
void count_competing(const GroupView& group, const OrderView& order, GroupReport* report, InHands* in_hands) {
  const std::uint64_t base = A::load(group.head->base, std::memory_order_acquire);
  for (std::uint64_t seq = base; seq < base + group.window(); ++seq) {
    std::uint64_t cell = 0;
    if (!is_published<A>(order, seq, &cell)) break;
    const std::uint64_t word = A::load(group.word(seq), std::memory_order_acquire);
    if (layout::word_laps_ahead(word, group.lap(seq)) < 0) {
      add_ready(report, seq);
      continue;
    }
    switch (layout::word_kind(word)) {
      case layout::Kind::kLeased:
        add_in_flight(report, seq);
        (*in_hands)[layout::word_owner(word)].add(seq);
        break;
      case layout::Kind::kReady:
      case layout::Kind::kNacked: add_ready(report, seq); break;
      default: ++report->done; break;
    }
  }
  count_parked(group, report, in_hands);
}

void count_exclusive_order(const GroupView& group, const OrderView& order, GroupReport* report) {
  const std::uint64_t acked = std::max(A::load(group.head->acked, std::memory_order_acquire),
                                       A::load(group.head->base, std::memory_order_acquire));
  const std::uint64_t shown = A::load(group.head->shown, std::memory_order_acquire);
  for (std::uint64_t seq = acked; seq < acked + order.count(); ++seq) {
    std::uint64_t cell = 0;
    if (!is_published<A>(order, seq, &cell)) break;
    seq <= shown && report->consumers != 0 ? add_in_flight(report, seq) : add_ready(report, seq);
  }
}

// Behind the last message: nothing from there on is published. At most a ring further than `from`.
std::uint64_t published_end(const OrderView& order, std::uint64_t from) {
  std::uint64_t seq = from;
  std::uint64_t cell = 0;
  while (seq < from + order.count() && is_published<A>(order, seq, &cell)) ++seq;
  return seq;
}

// A queue with a log: everything below `end` is there, in memory or in the log, however far back the group is. (Of a
// durable queue that is the mark: what is not on the disk yet is not counted.)
void count_logged(const GroupView& group, std::uint64_t end, GroupReport* report, InHands* in_hands) {
  if (report->exclusive) {
    const std::uint64_t acked = A::load(group.head->acked, std::memory_order_acquire);
    const std::uint64_t shown = std::min(A::load(group.head->shown, std::memory_order_acquire) + 1, end);
    if (report->consumers != 0 && shown > acked) add_in_flight(report, acked, shown - acked);
    if (end > acked + report->in_flight) {
      add_ready(report, acked + report->in_flight, end - acked - report->in_flight);
    }
    return;
  }
  const std::uint64_t base = A::load(group.head->base, std::memory_order_acquire);
  std::uint64_t seq = base;
  for (; seq < base + group.window() && seq < end; ++seq) {
    const std::uint64_t word = A::load(group.word(seq), std::memory_order_acquire);
    if (layout::word_laps_ahead(word, group.lap(seq)) < 0) break;
    switch (layout::word_kind(word)) {
      case layout::Kind::kLeased:
        add_in_flight(report, seq);
        (*in_hands)[layout::word_owner(word)].add(seq);
        break;
      case layout::Kind::kReady:
      case layout::Kind::kNacked: add_ready(report, seq); break;
      default: ++report->done; break;
    }
  }
  if (end > seq) add_ready(report, seq, end - seq);
  count_parked(group, report, in_hands);
}

void count_exclusive_lane(const GroupView& group, const LaneView& lane, GroupReport* report) {
  const std::uint64_t shown = A::load(group.head->shown, std::memory_order_acquire);
  LaneCursor cursor{std::max(A::load(group.head->acked, std::memory_order_acquire),
                             A::load(group.head->base, std::memory_order_acquire)),
                    0};
  if (cursor.position % layout::kFrameAlignment != 0) return;
  const SpscReader<A> reader(lane, A::load(group.head->base_seq_hint, std::memory_order_acquire));
  FrameView frame;
  for (std::uint64_t steps = 0; steps < lane.size_bytes / layout::kFrameAlignment; ++steps) {
    if (reader.peek(&cursor, &frame) != RingOutcome::kOk) break;
    frame.seq <= shown && report->consumers != 0 ? add_in_flight(report, frame.seq) : add_ready(report, frame.seq);
    reader.step(&cursor, frame);
  }
}

// Of what waits for a retry or for its time, from now.
std::uint64_t next_due(const QueueFiles& files, std::uint32_t group, std::uint32_t generation) {
  const std::uint64_t now = boottime_ns();
  std::uint64_t next = ~std::uint64_t{0};
  const auto wants = [&](u32 of, u32 of_generation, layout::RecordState state) {
    return of == group && of_generation == generation &&
           (state == layout::RecordState::kWaiting || state == layout::RecordState::kHeld);
  };
  // A damaged file tells of what lies before the damage.
  static_cast<void>(each_parked(files, wants, /*with_payload=*/false, [&](const ParkedMessage& message) {
    next = std::min(next, message.record.due_boottime_ns - std::min(message.record.due_boottime_ns, now));
    return true;
  }));
  return next;
}

// What is read of one queue, and all that is mapped for it. Where a look is guarded a file that is cut short meanwhile
// reads as zeros, and the look is void.
class QueueReader {
 public:
  QueueReader(const QueueFiles& files, bool guarded) : files_(files), constants_(files.constants()), guarded_(guarded) {
    const auto* ctl = reinterpret_cast<const u8*>(&files_.state()) - offsetof(layout::CtlHead, state);
    guard(ctl, layout::ctl_file_bytes(constants_.groups_max, constants_.lanes_max, constants_.seats_max));
    if (files_.order_head() != nullptr) guard(files_.order_head(), layout::order_file_bytes(constants_.cells));
  }
  ~QueueReader() {
    for (const void* data : ranges_) unregister_range(data);
  }
  QueueReader(const QueueReader&) = delete;
  QueueReader& operator=(const QueueReader&) = delete;

  Result<QueueReport> read(const InstanceFiles& instance) {
    if (hit_.load(std::memory_order_acquire)) {
      return fail(Code::kNoMemory, files_.where() + ": too many files are guarded to look at this one as well");
    }
    read_constants();
    read_state();
    read_memory();
    read_lanes();
    read_unsynced();
    group_names_.resize(constants_.groups_max);
    consumers_.resize(constants_.groups_max);
    totals_.resize(constants_.groups_max);
    for (std::uint32_t index = 0; index < constants_.groups_max; ++index) {
      const layout::GroupSlot& slot = files_.group_slot(index);
      if (is_live(slot.slot)) group_names_[index] = text_of(slot.name, layout::kNameLengthMax);
      totals_[index] = slot.counters.carried;
    }
    read_seats();
    for (std::uint32_t index = 0; index < constants_.groups_max; ++index) {
      if (is_live(files_.group_slot(index).slot)) read_group(index);
    }
    read_supervisor(instance);
    // Its files go one by one: what is left of it is no part of any sum.
    if (guarded_ &&
        A::load(files_.state().life, std::memory_order_acquire) == static_cast<u64>(layout::QueueLife::kRemoved)) {
      return fail(Code::kNoSuchQueue, files_.where() + ": the queue was removed");
    }
    if (hit_.load(std::memory_order_acquire)) {
      return fail(Code::kCorrupt, files_.where() + ": a file was cut short while it was read");
    }
    return std::move(report_);
  }

 private:
  static bool is_live(const u64& slot) {
    return layout::slot_life(A::load(slot, std::memory_order_acquire)) == layout::SlotLife::kLive;
  }
  static u64 figure(const u64& counter) { return A::load(counter, std::memory_order_relaxed); }

  // False: it cannot be guarded, as too much is, so it must not be looked at; the look is void.
  bool guard(const void* data, std::size_t size_bytes) {
    if (!guarded_) return true;
    if (register_range(data, size_bytes, &hit_)) {
      ranges_.push_back(data);
      return true;
    }
    hit_.store(true, std::memory_order_release);
    return false;
  }
  std::byte* keep(Result<Mapping> mapping) {
    if (!mapping || mapping->data() == nullptr || !guard(mapping->data(), mapping->size_bytes())) return nullptr;
    mappings_.push_back(std::move(*mapping));
    return mappings_.back().data();
  }

  void read_constants() {
    report_.name = text_of(constants_.name, layout::kNameLengthMax);
    report_.where = files_.where();
    report_.spsc = constants_.kind == layout::QueueKind::kSpsc;
    report_.capacity = constants_.words;
    report_.lane_bytes = constants_.lane_bytes;
    report_.max_message_bytes = constants_.max_message_bytes;
    report_.max_backlog_bytes = constants_.max_backlog_bytes;
    report_.dedup_window_ns = constants_.dedup_window_ns;
    report_.dedup_max_messages = constants_.dedup_max_messages;
    report_.overflow = constants_.overflow == layout::Overflow::kSpill    ? "spill"
                       : constants_.overflow == layout::Overflow::kReject ? "reject"
                                                                          : "block";
    report_.durability = "volatile";
    if (constants_.durability == layout::Durability::kDurable) {
      report_.durability = "durable";
      report_.deliver = constants_.deliver == layout::Deliver::kEarly ? "early" : "durable";
      report_.journal_quota_bytes = constants_.journal_quota_bytes;
    }
    if (!report_.spsc) {
      order_.head = files_.order_head();
      order_.cells = files_.order_cells();
      order_.mask = constants_.cells - 1;
      order_.log2 = log2_of_power(constants_.cells);
    }
  }

  void read_state() {
    const layout::QueueState& state = files_.state();
    switch (static_cast<layout::QueueLife>(A::load(state.life, std::memory_order_acquire))) {
      case layout::QueueLife::kOpen: report_.life = "open"; break;
      case layout::QueueLife::kRemoved: report_.life = "removed"; break;
      default: report_.life = "failed"; break;
    }
    tail_times_ = read_tail_times(files_.tail_times());
    report_.fill_milli = figure(state.fill_milli);
    report_.duplicates = figure(state.duplicates_total);
    report_.ids_known = figure(state.ids_known);
    report_.above_high_water = figure(state.above_high_water) != 0;
    report_.high_water_total = figure(state.high_water_total);
    if (!layout::has_log(constants_)) return;
    report_.durable_seq = A::load(state.durable_seq, std::memory_order_acquire);
    report_.journal_syncs = figure(state.journal_syncs_total);
    report_.journal_errors = figure(state.journal_errors_total);
    report_.journal_bytes = figure(state.journal_bytes);
    report_.journal_segments = figure(state.journal_segments);
    report_.journal_backlog_bytes = figure(state.journal_backlog_bytes);
    switch (static_cast<layout::JournalLife>(figure(state.journal_life))) {
      case layout::JournalLife::kRunning: report_.journal = "running"; break;
      case layout::JournalLife::kDiskFull: report_.journal = "disk full"; break;
      case layout::JournalLife::kFailed: report_.journal = "failed"; break;
      case layout::JournalLife::kBacklogFull: report_.journal = "backlog full"; break;
      default: report_.journal = "stopped"; break;
    }
  }

  // What lies behind the durable mark is still in memory.
  void read_unsynced() {
    if (report_.durability != "durable") return;
    if (!report_.spsc) {
      report_.unsynced = published_end(order_, report_.durable_seq) - report_.durable_seq;
    } else if (spsc_lane_.bytes != nullptr) {
      LaneCursor cursor{figure(files_.state().durable_mark), report_.durable_seq};
      if (cursor.position % layout::kFrameAlignment != 0) return;
      const SpscReader<A> reader(spsc_lane_, report_.durable_seq);
      FrameView frame;
      for (; report_.unsynced < spsc_lane_.size_bytes / layout::kFrameAlignment; ++report_.unsynced) {
        if (reader.peek(&cursor, &frame) != RingOutcome::kOk) break;
        reader.step(&cursor, frame);
      }
    }
    if (report_.unsynced != 0) report_.journal_lag_ns = age_of(report_.durable_seq);
  }

  void read_memory() {
    const Result<std::vector<std::string>> files = list_directory(files_.directory());
    if (!files) return;
    for (const std::string& file : *files) {
      const Result<File> opened = open_file(files_.directory(), file, Access::read_only);
      if (opened) report_.memory_bytes += file_size(*opened).value_or(0);
    }
  }

  void read_lanes() {
    for (std::uint32_t index = 0; index < constants_.lanes_max; ++index) {
      const layout::LaneSlot& slot = files_.lane_slot(index);
      if (slot.made == 0) continue;
      std::byte* data = keep(files_.map_lane(index, Access::read_only, /*prefault=*/false));
      if (data == nullptr) {
        if (guarded_) hit_.store(true, std::memory_order_release);  // a sum without it would go back
        continue;
      }
      auto* head = reinterpret_cast<layout::LaneHead*>(data);
      report_.published += figure(head->messages_published);
      report_.bytes_published += figure(head->bytes_published);
      report_.blocked_ns += figure(head->blocked_ns);
      report_.rejected += figure(head->publishes_rejected);
      if (is_live(slot.slot)) {
        HolderReport holder = holder_of(slot.pid, slot.start_time_ticks);
        holder.producer = true;
        holder.number = index;
        holder.messages = figure(head->messages_published);
        holder.waiting_for_room = figure(head->blocked) != 0;
        holder.blocked_ns = figure(head->blocked_ns);
        report_.holders.push_back(holder);
      }
      if (report_.spsc) {
        spsc_lane_.head = head;
        spsc_lane_.bytes = reinterpret_cast<u8*>(data) + layout::kLaneBytesOffset;
        spsc_lane_.size_bytes = constants_.lane_bytes;
      }
    }
  }

  void read_seats() {
    for (std::uint32_t index = 1; index < constants_.seats_max; ++index) {
      const layout::SeatSlot& slot = files_.seat_slot(index);
      if (slot.made == 0) continue;
      const auto* head = reinterpret_cast<const layout::SeatHead*>(keep(files_.map_seat(index, Access::read_only)));
      const std::uint32_t group = slot.group;
      if (head != nullptr && group < constants_.groups_max) add_totals(totals_[group], seat_totals(*head), /*sign=*/1);
      if (!is_live(slot.slot)) continue;
      HolderReport holder = holder_of(slot.pid, slot.start_time_ticks);
      holder.number = index;
      if (group < constants_.groups_max) {
        ++consumers_[group];
        holder.group = group_names_[group];
      }
      if (head != nullptr) {
        holder.messages = figure(head->messages_delivered);
        holder.acked = figure(head->messages_acked);
        holder.handling = figure(head->handling) != 0;
        // It moved since the supervisor looked last: then not known to stand.
        if (seat_progress<A>(*head) == A::load(slot.progress_seen, std::memory_order_acquire)) {  // STANDING
          const std::uint64_t since = figure(slot.standing_since_boottime_ns);
          const std::uint64_t now = boottime_ns();
          holder.standing_ns = since == 0 ? 0 : now - std::min(now, since);
        }
        holder.traced = is_traced({slot.pid, slot.start_time_ticks});
      }
      report_.holders.push_back(holder);
    }
  }

  void read_group(std::uint32_t index) {
    const layout::GroupSlot& slot = files_.group_slot(index);
    GroupReport group;
    group.name = group_names_[index];
    group.exclusive = slot.mode == layout::GroupMode::kExclusive;
    group.consumers = consumers_[index];
    group.totals = totals_[index];
    const layout::GroupCounters& counters = slot.counters;
    group.waiting = figure(counters.waiting);
    group.dead = figure(counters.dead);
    group.store_bytes = figure(counters.store_bytes);
    for (std::uint32_t reason = 0; reason <= layout::kFailReasonMax; ++reason) {
      group.failed_by[reason] = figure(counters.failed_total[reason]);
      group.redelivered_by[reason] = figure(counters.redelivered_total[reason]);
      group.dead_lettered_by[reason] = figure(counters.dead_lettered_total[reason]);
      group.failed += group.failed_by[reason];
      group.dead_lettered += group.dead_lettered_by[reason];
    }
    for (std::uint32_t kind = 0; kind <= layout::kCrashKindMax; ++kind) {
      group.crashes_by[kind] = figure(counters.consumer_crashes_total[kind]);
    }
    group.redriven = figure(counters.redriven_total);
    group.purged = figure(counters.purged_total);
    group.dropped = figure(counters.dropped_total);
    group.stuck_killed = figure(counters.stuck_killed_total);
    const u32 paused = A::load(slot.paused, std::memory_order_acquire);
    group.paused = paused != 0;
    group.paused_by_user = (paused & layout::kGroupPausedByUser) != 0;
    group.paused_by_dlq = (paused & layout::kGroupPausedByDlq) != 0;
    read_breaker(slot, paused, &group);
    group.settings = policy_settings(slot.policy);
    group.dlq_max_messages = slot.policy.dlq_max_messages;
    count_messages(index, &group);
    group.quota = group.exclusive ? 0 : slot.quota;
    group.ack_wait_ns = slot.policy.ack_wait_ns;
    // Not in a guarded look: nobody asks there, and the file of parked messages is large and not guarded.
    if (group.waiting != 0 && !guarded_) {
      group.next_due_ns =
          next_due(files_, index, layout::slot_generation(A::load(slot.slot, std::memory_order_acquire)));
    }
    report_.groups.push_back(std::move(group));
  }

  void count_messages(std::uint32_t index, GroupReport* group) {
    std::byte* data = keep(files_.map_group(index, Access::read_only, /*prefault=*/false));
    if (data == nullptr) return;
    const GroupView view = view_group(data, constants_.words, static_cast<std::uint32_t>(constants_.parks));
    InHands in_hands;
    if (layout::has_log(constants_)) {
      u64 end = report_.durable_seq;
      if (report_.durability != "durable") {
        end = published_end(order_, std::max(end, A::load(view.head->base, std::memory_order_acquire)));
      }
      count_logged(view, end, group, &in_hands);
    } else if (!group->exclusive) {
      count_competing(view, order_, group, &in_hands);
    } else if (!report_.spsc) {
      count_exclusive_order(view, order_, group);
    } else if (spsc_lane_.bytes != nullptr) {
      count_exclusive_lane(view, spsc_lane_, group);
    }
    group->oldest_ready_ns = age_of(group->oldest_ready_seq);
    group->oldest_in_flight_ns = age_of(group->oldest_in_flight_seq);
    for (HolderReport& holder : report_.holders) {
      if (holder.producer || holder.group != group->name) continue;
      holder.in_flight = group->exclusive ? group->in_flight : in_hands[holder.number].count;
      if (const auto held = in_hands.find(holder.number); held != in_hands.end()) {
        holder.oldest_seq = held->second.oldest_seq;
      }
    }
  }

  // 0: there is none, or it came after the supervisor's last look.
  std::uint64_t age_of(std::uint64_t seq) const {
    const std::optional<u64> seen = seq == ~std::uint64_t{0} ? std::nullopt : seen_boottime_ns(tail_times_, seq);
    const std::uint64_t now = boottime_ns();
    return seen.has_value() ? now - std::min(now, *seen) : 0;
  }

  void read_supervisor(const InstanceFiles& instance) {
    const std::uint64_t looked = figure(files_.state().tick_monotonic_ns);
    const std::uint64_t now = monotonic_ns();
    report_.supervisor = supervisor_of(instance);
    report_.supervisor.last_look_ns = now - std::min(now, looked);
    // The number is another's by now, or it does not look.
    if (report_.supervisor.state == "running" && report_.supervisor.last_look_ns >= kLooksAtLeastNs) {
      report_.supervisor.state = "absent";
    }
  }

  const QueueFiles& files_;
  const layout::QueueConstants& constants_;
  const bool guarded_;
  std::atomic<bool> hit_{false};
  std::vector<const void*> ranges_;
  std::deque<Mapping> mappings_;
  QueueReport report_;
  OrderView order_;
  LaneView spsc_lane_;
  TailSamples tail_times_;
  std::vector<std::string> group_names_;
  std::vector<std::uint64_t> consumers_;
  std::vector<layout::SeatTotals> totals_;
};

}  // namespace

Result<InstanceFiles> find_instance_files(const std::string& path) {
  InstanceFiles files;
  const Result<InstancePaths> paths = resolve_instance(path, /*create=*/false);
  if (!paths) return fail(paths.error());
  files.path = paths->directory;
  files.owner = paths->owner;
  Result<File> directory = open_shared_directory(paths->shared_directory, paths->owner, /*create=*/false);
  if (!directory) return fail(directory.error());
  files.shared_directory = std::move(*directory);
  return files;
}

Result<QueueReport> read_queue_report(const InstanceFiles& instance, const std::string& queue, bool guarded) {
  QueueFiles::AttachOptions options;
  options.prefault = false;
  const Result<QueueFiles> files = QueueFiles::attach(instance.shared_directory, instance.owner, queue, options);
  if (!files) return fail(files.error());
  return QueueReader(*files, guarded).read(instance);
}

// As far as the files tell: nobody is asked, and no lock is tried, as one that starts would take us for its rival.
SupervisorReport supervisor_of(const InstanceFiles& instance) {
  SupervisorReport report;
  report.state = "absent";
  std::ifstream file(instance.path + "/mooringd.pid");
  std::uint32_t pid = 0;
  if (!(file >> pid)) return report;
  const Result<ProcessIdentity> identity = identify_process(pid);
  if (!identity) return report;
  const Result<ProcessState> now_is = process_state(*identity);
  if (!now_is || *now_is == ProcessState::gone || *now_is == ProcessState::zombie) return report;
  report.pid = pid;
  report.state = *now_is == ProcessState::stopped ? "stopped" : "running";
  return report;
}

bool is_stuck(const QueueReport& report, const HolderReport& holder, std::uint64_t* patience_ns) {
  std::uint64_t patience = kStandsNs;
  for (const GroupReport& group : report.groups) {
    if (group.name == holder.group && group.ack_wait_ns != 0) patience = group.ack_wait_ns;
  }
  if (patience_ns != nullptr) *patience_ns = patience;
  const bool runs = holder.state != "stopped" && holder.state != "gone" && holder.state != "zombie";
  return runs && (holder.in_flight != 0 || holder.handling) && holder.standing_ns > patience;
}

}  // namespace mooring
