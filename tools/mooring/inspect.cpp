#include "inspect.hpp"

#include <cstring>
#include <fstream>
#include <map>

#include "base/atomics.hpp"
#include "base/time.hpp"
#include "delivery/breaker.hpp"
#include "delivery/policy.hpp"
#include "group/group_view.hpp"
#include "group/seat_progress.hpp"
#include "platform/process_end.hpp"
#include "ring/order_ring.hpp"
#include "segment/dead_letters.hpp"
#include "segment/instance_paths.hpp"

namespace mooring::cli {
namespace {

using A = HardwareAtomics;

// A supervisor looks at an idle queue each five seconds; this much later it does not.
constexpr std::uint64_t kLooksAtLeastNs = 15 * kNsPerSecond;

template <class T>
T take(Result<T> result) {
  if (!result) throw Failure(static_cast<int>(result.error().code), result.error().text);
  return std::move(*result);
}

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

void count_parked(const GroupView& group, GroupReport* report, InHands* in_hands) {
  for (std::uint32_t index = 0; index < group.parks_count; ++index) {
    const layout::ParkWord park = layout::read_park_word(A::load(group.parks[index].word, std::memory_order_acquire));
    if (park.state == layout::ParkState::kFree || park.state == layout::ParkState::kAcked) continue;
    ++report->parked;
    if (park.state == layout::ParkState::kLeased) {
      ++report->in_flight;
      (*in_hands)[park.owner].add(A::load(group.parks[index].seq, std::memory_order_relaxed));
    }
    if (park.state == layout::ParkState::kReady) ++report->ready;
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
      ++report->ready;
      continue;
    }
    switch (layout::word_kind(word)) {
      case layout::Kind::kLeased:
        ++report->in_flight;
        (*in_hands)[layout::word_owner(word)].add(seq);
        break;
      case layout::Kind::kReady:
      case layout::Kind::kNacked: ++report->ready; break;
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
    ++(seq <= shown && report->consumers != 0 ? report->in_flight : report->ready);
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
    if (report->consumers != 0 && shown > acked) report->in_flight = shown - acked;
    if (end > acked) report->ready = end - acked - report->in_flight;
    return;
  }
  const std::uint64_t base = A::load(group.head->base, std::memory_order_acquire);
  std::uint64_t seq = base;
  for (; seq < base + group.window() && seq < end; ++seq) {
    const std::uint64_t word = A::load(group.word(seq), std::memory_order_acquire);
    if (layout::word_laps_ahead(word, group.lap(seq)) < 0) break;
    switch (layout::word_kind(word)) {
      case layout::Kind::kLeased:
        ++report->in_flight;
        (*in_hands)[layout::word_owner(word)].add(seq);
        break;
      case layout::Kind::kReady:
      case layout::Kind::kNacked: ++report->ready; break;
      default: ++report->done; break;
    }
  }
  if (end > seq) report->ready += end - seq;
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
    ++(frame.seq <= shown && report->consumers != 0 ? report->in_flight : report->ready);
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

// Who serves the instance, as far as its files tell: nobody is asked, and no lock is tried, as one that starts would
// take us for its rival.
SupervisorReport supervisor_of(const InstanceFiles& instance, const layout::QueueState& state) {
  SupervisorReport report;
  const std::uint64_t looked = A::load(state.tick_monotonic_ns, std::memory_order_relaxed);
  const std::uint64_t now = monotonic_ns();
  report.last_look_ns = now - std::min(now, looked);
  report.state = "absent";
  std::ifstream file(instance.path + "/mooringd.pid");
  std::uint32_t pid = 0;
  if (!(file >> pid)) return report;
  const Result<ProcessIdentity> identity = identify_process(pid);
  if (!identity) return report;
  const Result<ProcessState> now_is = process_state(*identity);
  if (!now_is || *now_is == ProcessState::gone || *now_is == ProcessState::zombie) return report;
  report.pid = pid;
  if (*now_is == ProcessState::stopped) {
    report.state = "stopped";
  } else if (report.last_look_ns < kLooksAtLeastNs) {
    report.state = "running";  // else the number is another's by now, or it does not look
  }
  return report;
}

}  // namespace

InstanceFiles open_instance_files(const Context& context) {
  InstanceFiles files;
  const InstancePaths paths = take(resolve_instance(context.instance, /*create=*/false));
  files.path = paths.directory;
  files.owner = paths.owner;
  files.shared_directory = take(open_shared_directory(paths.shared_directory, paths.owner, /*create=*/false));
  return files;
}

std::vector<std::string> queue_names(const InstanceFiles& instance) {
  return take(list_queues(instance.shared_directory));
}

QueueReport inspect_queue(const InstanceFiles& instance, const std::string& name) {
  QueueFiles::AttachOptions options;
  options.prefault = false;
  const QueueFiles files = take(QueueFiles::attach(instance.shared_directory, instance.owner, name, options));
  const layout::QueueConstants& constants = files.constants();
  QueueReport report;
  report.name = name;
  report.where = files.where();
  report.spsc = constants.kind == layout::QueueKind::kSpsc;
  report.capacity = constants.words;
  report.lane_bytes = constants.lane_bytes;
  report.max_message_bytes = constants.max_message_bytes;
  report.max_backlog_bytes = constants.max_backlog_bytes;
  report.dedup_window_ns = constants.dedup_window_ns;
  report.dedup_max_messages = constants.dedup_max_messages;
  report.duplicates = A::load(files.state().duplicates_total, std::memory_order_relaxed);
  report.ids_known = A::load(files.state().ids_known, std::memory_order_relaxed);
  report.overflow = constants.overflow == layout::Overflow::kSpill    ? "spill"
                    : constants.overflow == layout::Overflow::kReject ? "reject"
                                                                      : "block";
  switch (static_cast<layout::QueueLife>(A::load(files.state().life, std::memory_order_acquire))) {
    case layout::QueueLife::kOpen: report.life = "open"; break;
    case layout::QueueLife::kRemoved: report.life = "removed"; break;
    default: report.life = "failed"; break;
  }
  report.durability = "volatile";
  const bool durable = constants.durability == layout::Durability::kDurable;
  if (durable) {
    report.durability = "durable";
    report.deliver = constants.deliver == layout::Deliver::kEarly ? "early" : "durable";
    report.journal_quota_bytes = constants.journal_quota_bytes;
  }
  if (layout::has_log(constants)) {
    report.durable_seq = A::load(files.state().durable_seq, std::memory_order_acquire);
    switch (static_cast<layout::JournalLife>(A::load(files.state().journal_life, std::memory_order_relaxed))) {
      case layout::JournalLife::kRunning: report.journal = "running"; break;
      case layout::JournalLife::kDiskFull: report.journal = "disk full"; break;
      case layout::JournalLife::kFailed: report.journal = "failed"; break;
      case layout::JournalLife::kBacklogFull: report.journal = "backlog full"; break;
      default: report.journal = "stopped"; break;
    }
  }
  for (const std::string& file : take(list_directory(files.directory()))) {
    const Result<File> opened = open_file(files.directory(), file, Access::read_only);
    if (opened) report.memory_bytes += file_size(*opened).value_or(0);
  }

  std::vector<std::string> group_names(constants.groups_max);
  for (std::uint32_t index = 0; index < constants.groups_max; ++index) {
    const layout::GroupSlot& slot = files.group_slot(index);
    if (layout::slot_life(A::load(slot.slot, std::memory_order_acquire)) == layout::SlotLife::kLive) {
      group_names[index] = text_of(slot.name, layout::kNameLengthMax);
    }
  }
  std::vector<std::uint64_t> consumers(constants.groups_max, 0);
  LaneView spsc_lane;
  Mapping spsc_mapping;
  for (std::uint32_t index = 0; index < constants.lanes_max; ++index) {
    const layout::LaneSlot& slot = files.lane_slot(index);
    if (slot.made == 0) continue;
    Result<Mapping> mapping = files.map_lane(index, Access::read_only, /*prefault=*/false);
    if (!mapping) continue;
    const auto* head = reinterpret_cast<const layout::LaneHead*>(mapping->data());
    report.published += A::load(head->messages_published, std::memory_order_relaxed);
    report.bytes_published += A::load(head->bytes_published, std::memory_order_relaxed);
    report.blocked_ns += A::load(head->blocked_ns, std::memory_order_relaxed);
    report.rejected += A::load(head->publishes_rejected, std::memory_order_relaxed);
    if (layout::slot_life(A::load(slot.slot, std::memory_order_acquire)) == layout::SlotLife::kLive) {
      HolderReport holder = holder_of(slot.pid, slot.start_time_ticks);
      holder.producer = true;
      holder.number = index;
      holder.messages = A::load(head->messages_published, std::memory_order_relaxed);
      holder.waiting_for_room = A::load(head->blocked, std::memory_order_relaxed) != 0;
      holder.blocked_ns = A::load(head->blocked_ns, std::memory_order_relaxed);
      report.holders.push_back(holder);
    }
    if (report.spsc) {
      spsc_mapping = std::move(*mapping);
      spsc_lane.head = reinterpret_cast<layout::LaneHead*>(spsc_mapping.data());
      spsc_lane.bytes = reinterpret_cast<u8*>(spsc_mapping.data()) + layout::kLaneBytesOffset;
      spsc_lane.size_bytes = constants.lane_bytes;
    }
  }
  for (std::uint32_t index = 1; index < constants.seats_max; ++index) {
    const layout::SeatSlot& slot = files.seat_slot(index);
    if (layout::slot_life(A::load(slot.slot, std::memory_order_acquire)) != layout::SlotLife::kLive) continue;
    HolderReport holder = holder_of(slot.pid, slot.start_time_ticks);
    holder.number = index;
    if (slot.group < constants.groups_max) {
      ++consumers[slot.group];
      holder.group = group_names[slot.group];
    }
    if (const Result<Mapping> mapping = files.map_seat(index, Access::read_only)) {
      const auto* head = reinterpret_cast<const layout::SeatHead*>(mapping->data());
      holder.messages = A::load(head->messages_delivered, std::memory_order_relaxed);
      holder.acked = A::load(head->messages_acked, std::memory_order_relaxed);
      holder.handling = A::load(head->handling, std::memory_order_relaxed) != 0;
      // It moved since the supervisor looked last: then not known to stand.
      if (seat_progress<A>(*head) == A::load(slot.progress_seen, std::memory_order_acquire)) {  // STANDING
        const std::uint64_t since = A::load(slot.standing_since_boottime_ns, std::memory_order_relaxed);
        const std::uint64_t now = boottime_ns();
        holder.standing_ns = since == 0 ? 0 : now - std::min(now, since);
      }
      holder.traced = is_traced({slot.pid, slot.start_time_ticks});
    }
    report.holders.push_back(holder);
  }

  OrderView order;
  if (!report.spsc) {
    order.head = files.order_head();
    order.cells = files.order_cells();
    order.mask = constants.cells - 1;
    order.log2 = log2_of_power(constants.cells);
  }
  for (std::uint32_t index = 0; index < constants.groups_max; ++index) {
    const layout::GroupSlot& slot = files.group_slot(index);
    if (layout::slot_life(A::load(slot.slot, std::memory_order_acquire)) != layout::SlotLife::kLive) continue;
    GroupReport group;
    group.name = group_names[index];
    group.exclusive = slot.mode == layout::GroupMode::kExclusive;
    group.consumers = consumers[index];
    const layout::GroupCounters& counters = slot.counters;
    const auto figure = [](const u64& counter) { return A::load(counter, std::memory_order_relaxed); };
    group.waiting = figure(counters.waiting);
    group.dead = figure(counters.dead);
    group.store_bytes = figure(counters.store_bytes);
    for (const u64& counter : counters.failed_total) group.failed += figure(counter);
    for (const u64& counter : counters.dead_lettered_total) group.dead_lettered += figure(counter);
    group.redriven = figure(counters.redriven_total);
    group.dropped = figure(counters.dropped_total);
    group.stuck_killed = figure(counters.stuck_killed_total);
    const u32 paused = A::load(slot.paused, std::memory_order_acquire);
    group.paused = paused != 0;
    group.paused_by_user = (paused & layout::kGroupPausedByUser) != 0;
    group.paused_by_dlq = (paused & layout::kGroupPausedByDlq) != 0;
    read_breaker(slot, paused, &group);
    group.settings = policy_settings(slot.policy);
    if (const Result<Mapping> mapping = files.map_group(index, Access::read_only, /*prefault=*/false)) {
      const GroupView view = view_group(mapping->data(), constants.words, static_cast<std::uint32_t>(constants.parks));
      InHands in_hands;
      if (layout::has_log(constants)) {
        u64 end = A::load(files.state().durable_seq, std::memory_order_acquire);
        if (!durable) end = published_end(order, std::max(end, A::load(view.head->base, std::memory_order_acquire)));
        count_logged(view, end, &group, &in_hands);
      } else if (!group.exclusive) {
        count_competing(view, order, &group, &in_hands);
      } else if (!report.spsc) {
        count_exclusive_order(view, order, &group);
      } else if (spsc_lane.bytes != nullptr) {
        count_exclusive_lane(view, spsc_lane, &group);
      }
      for (HolderReport& holder : report.holders) {
        if (holder.producer || holder.group != group.name) continue;
        holder.in_flight = group.exclusive ? group.in_flight : in_hands[holder.number].count;
        if (const auto held = in_hands.find(holder.number); held != in_hands.end()) {
          holder.oldest_seq = held->second.oldest_seq;
        }
      }
    }
    group.quota = group.exclusive ? 0 : slot.quota;
    group.ack_wait_ns = slot.policy.ack_wait_ns;
    if (group.waiting != 0) {
      group.next_due_ns =
          next_due(files, index, layout::slot_generation(A::load(slot.slot, std::memory_order_acquire)));
    }
    report.groups.push_back(group);
  }
  report.supervisor = supervisor_of(instance, files.state());
  report.fill_milli = A::load(files.state().fill_milli, std::memory_order_relaxed);
  report.above_high_water = A::load(files.state().above_high_water, std::memory_order_relaxed) != 0;
  report.high_water_total = A::load(files.state().high_water_total, std::memory_order_relaxed);
  return report;
}

Json to_json(const HolderReport& holder) {
  return {{"role", holder.producer ? "producer" : "consumer"},
          {"number", holder.number},
          {"pid", holder.pid},
          {"process", holder.process},
          {"state", holder.state},
          {"group", holder.producer ? Json() : Json(holder.group)},
          {"messages", holder.messages},
          {"acked", holder.producer ? Json() : Json(holder.acked)},
          {"in_flight", holder.producer ? Json() : Json(holder.in_flight)},
          {"waiting_for_room", holder.producer ? Json(holder.waiting_for_room) : Json()},
          {"blocked_seconds_total", holder.producer ? Json(static_cast<double>(holder.blocked_ns) / 1e9) : Json()}};
}

Json to_json(const QueueReport& report) {
  Json json = {{"queue", report.name},
               {"kind", report.spsc ? "spsc" : "mpmc"},
               {"durability", report.durability},
               {"max_backlog_bytes", report.max_backlog_bytes},
               {"state", report.life},
               {"overflow", report.overflow},
               {"capacity_messages", report.capacity},
               {"lane_bytes", report.lane_bytes},
               {"max_message_bytes", report.max_message_bytes},
               {"memory_bytes", report.memory_bytes},
               {"messages_published_total", report.published},
               {"bytes_published_total", report.bytes_published},
               {"publish_rejected_total", report.rejected},
               {"producer_blocked_seconds_total", static_cast<double>(report.blocked_ns) / 1e9},
               {"fill_ratio", static_cast<double>(report.fill_milli) / 1e3},
               {"above_high_water", report.above_high_water},
               {"high_water_total", report.high_water_total},
               {"path", report.where},
               {"groups", Json::array()}};
  if (report.dedup_max_messages != 0) {
    json["dedup_window_seconds"] = static_cast<double>(report.dedup_window_ns) / 1e9;
    json["dedup_max_messages"] = report.dedup_max_messages;
    json["dedup_ids_known"] = report.ids_known;
    json["duplicates_total"] = report.duplicates;
  }
  if (!report.journal.empty()) {
    json["deliver"] = report.deliver;
    json["journal"] = report.journal;
    json["durable_seq"] = report.durable_seq;
    json["journal_quota_bytes"] = report.journal_quota_bytes != 0 ? Json(report.journal_quota_bytes) : Json();
  }
  for (const GroupReport& group : report.groups) {
    json["groups"].push_back({{"group", group.name},
                              {"mode", group.exclusive ? "exclusive" : "competing"},
                              {"consumers", group.consumers},
                              {"ready", group.ready},
                              {"in_flight", group.in_flight},
                              {"parked", group.parked},
                              {"waiting", group.waiting},
                              {"dead", group.dead},
                              {"park_store_bytes", group.store_bytes},
                              {"paused", group.paused},
                              {"paused_by", Json::array()},
                              {"breaker", group.breaker},
                              {"breaker_level", group.breaker_level},
                              {"breaker_opened_total", group.breaker_opened},
                              {"stuck_killed_total", group.stuck_killed},
                              {"failed_total", group.failed},
                              {"dead_lettered_total", group.dead_lettered},
                              {"redriven_total", group.redriven},
                              {"dropped_total", group.dropped}});
    Json& of_group = json["groups"].back();
    if (group.paused_by_user) of_group["paused_by"].push_back("user");
    if (group.paused_by_dlq) of_group["paused_by"].push_back("dlq");
    if (group.breaker_level != 0) of_group["paused_by"].push_back("breaker");
    if (group.breaker == "open") {
      of_group["breaker_half_open_in_seconds"] = static_cast<double>(group.breaker_opens_in_ns) / 1e9;
    }
    for (const auto& [key, value] : group.settings) of_group["settings"][key] = value;
  }
  return json;
}

}  // namespace mooring::cli
