#include "inspect.hpp"

#include <cstring>

#include "base/atomics.hpp"
#include "delivery/policy.hpp"
#include "group/group_view.hpp"
#include "platform/process.hpp"
#include "ring/order_ring.hpp"
#include "segment/instance_paths.hpp"

namespace mooring::cli {
namespace {

using A = HardwareAtomics;

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

void count_parked(const GroupView& group, GroupReport* report) {
  for (std::uint32_t index = 0; index < group.parks_count; ++index) {
    const layout::ParkState state =
        layout::read_park_word(A::load(group.parks[index].word, std::memory_order_acquire)).state;
    if (state == layout::ParkState::kFree || state == layout::ParkState::kAcked) continue;
    ++report->parked;
    if (state == layout::ParkState::kLeased) ++report->in_flight;
    if (state == layout::ParkState::kReady) ++report->ready;
  }
}

// The states of a competing group, by one walk over its window.
void count_competing(const GroupView& group, const OrderView& order, GroupReport* report) {
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
      case layout::Kind::kLeased: ++report->in_flight; break;
      case layout::Kind::kReady:
      case layout::Kind::kNacked: ++report->ready; break;
      default: ++report->done; break;
    }
  }
  count_parked(group, report);
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
void count_logged(const GroupView& group, std::uint64_t end, GroupReport* report) {
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
      case layout::Kind::kLeased: ++report->in_flight; break;
      case layout::Kind::kReady:
      case layout::Kind::kNacked: ++report->ready; break;
      default: ++report->done; break;
    }
  }
  if (end > seq) report->ready += end - seq;
  count_parked(group, report);
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
    const u32 paused = A::load(slot.paused, std::memory_order_relaxed);
    group.paused = paused != 0;
    group.paused_by_dlq = (paused & layout::kGroupPausedByDlq) != 0;
    if (!group.exclusive) group.settings = policy_settings(slot.policy);
    if (const Result<Mapping> mapping = files.map_group(index, Access::read_only, /*prefault=*/false)) {
      const GroupView view = view_group(mapping->data(), constants.words, static_cast<std::uint32_t>(constants.parks));
      if (layout::has_log(constants)) {
        u64 end = A::load(files.state().durable_seq, std::memory_order_acquire);
        if (!durable) end = published_end(order, std::max(end, A::load(view.head->base, std::memory_order_acquire)));
        count_logged(view, end, &group);
      } else if (!group.exclusive) {
        count_competing(view, order, &group);
      } else if (!report.spsc) {
        count_exclusive_order(view, order, &group);
      } else if (spsc_lane.bytes != nullptr) {
        count_exclusive_lane(view, spsc_lane, &group);
      }
    }
    report.groups.push_back(group);
  }
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
          {"waiting_for_room", holder.producer ? Json(holder.waiting_for_room) : Json()}};
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
               {"path", report.where},
               {"groups", Json::array()}};
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
                              {"failed_total", group.failed},
                              {"dead_lettered_total", group.dead_lettered},
                              {"redriven_total", group.redriven},
                              {"dropped_total", group.dropped}});
    for (const auto& [key, value] : group.settings) json["groups"].back()["settings"][key] = value;
  }
  return json;
}

}  // namespace mooring::cli
