#include "metrics/collector.hpp"

#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <exception>
#include <map>

#include "delivery/crash_kind.hpp"
#include "delivery/decision.hpp"

namespace mooring {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

constexpr MetricType kGauge = MetricType::Gauge;
constexpr MetricType kCounter = MetricType::Counter;

double seconds(u64 ns) { return static_cast<double>(ns) / 1e9; }
double count(u64 value) { return static_cast<double>(value); }
// A sum of differences that is read while it is changed may be below zero for an instant.
double total(u64 value) { return static_cast<i64>(value) < 0 ? 0 : static_cast<double>(value); }

// Figures of which a queue, or a group, has one.
struct QueueFigure {
  const char* name;
  MetricType type;
  const char* help;
  double (*value)(const QueueReport&);
};
struct GroupFigure {
  const char* name;
  MetricType type;
  const char* help;
  double (*value)(const GroupReport&);
};

constexpr QueueFigure kQueueFigures[] = {
    {"mooring_queue_capacity_messages", kGauge, "Places of the ring: unfinished messages that memory has room for.",
     [](const QueueReport& queue) { return count(queue.capacity); }},
    {"mooring_queue_fill_ratio", kGauge,
     "How full the queue is, 0 to 1: of its places, its lanes or its largest backlog.",
     [](const QueueReport& queue) { return count(queue.fill_milli) / 1e3; }},
    {"mooring_queue_above_high_watermark", kGauge, "1 since the fill ratio reached 0.8, until it is 0.6 again.",
     [](const QueueReport& queue) { return queue.above_high_water ? 1.0 : 0.0; }},
    {"mooring_queue_high_watermark_crossed_total", kCounter, "Times the fill ratio reached 0.8.",
     [](const QueueReport& queue) { return count(queue.high_water_total); }},
    {"mooring_queue_memory_bytes", kGauge, "Shared memory of the queue.",
     [](const QueueReport& queue) { return count(queue.memory_bytes); }},
    {"mooring_queue_failed", kGauge, "1: taken out of service, its shared bytes make no sense.",
     [](const QueueReport& queue) { return queue.life == "failed" ? 1.0 : 0.0; }},
    {"mooring_messages_published_total", kCounter, "Messages whose publish was completed.",
     [](const QueueReport& queue) { return count(queue.published); }},
    {"mooring_published_bytes_total", kCounter, "Payload and header bytes of published messages.",
     [](const QueueReport& queue) { return count(queue.bytes_published); }},
    {"mooring_publish_rejected_total", kCounter, "Publishes that were refused or timed out because the queue was full.",
     [](const QueueReport& queue) { return count(queue.rejected); }},
    {"mooring_producer_blocked_seconds_total", kCounter, "Time that producers waited for room.",
     [](const QueueReport& queue) { return seconds(queue.blocked_ns); }},
};

// Of durable queues and of those that spill.
constexpr QueueFigure kLogFigures[] = {
    {"mooring_journal_bytes", kGauge, "Disk space that the journal takes, with its reserve.",
     [](const QueueReport& queue) { return count(queue.journal_bytes); }},
    {"mooring_journal_segments", kGauge, "Segments of the journal that are not free yet.",
     [](const QueueReport& queue) { return count(queue.journal_segments); }},
    {"mooring_journal_backlog_bytes", kGauge, "Messages in the journal that some group has not settled.",
     [](const QueueReport& queue) { return count(queue.journal_backlog_bytes); }},
    {"mooring_journal_max_backlog_bytes", kGauge, "The most that the backlog may be.",
     [](const QueueReport& queue) { return count(queue.max_backlog_bytes); }},
    {"mooring_journal_errors_total", kCounter, "Segments given up after a failed write or flush, mended or not.",
     [](const QueueReport& queue) { return count(queue.journal_errors); }},
};

constexpr QueueFigure kDurableFigures[] = {
    {"mooring_journal_unsynced_messages", kGauge, "Messages published that a power cut would take now.",
     [](const QueueReport& queue) { return count(queue.unsynced); }},
    {"mooring_journal_lag_seconds", kGauge, "Age of the oldest message that is not on the disk yet.",
     [](const QueueReport& queue) { return seconds(queue.journal_lag_ns); }},
    {"mooring_journal_syncs_total", kCounter, "Flushes of the journal.",
     [](const QueueReport& queue) { return count(queue.journal_syncs); }},
};

constexpr GroupFigure kGroupFigures[] = {
    {"mooring_group_lag_messages", kGauge, "Messages that the group has not finished: ready, in flight and waiting.",
     [](const GroupReport& group) { return count(group.lag()); }},
    {"mooring_group_lag_seconds", kGauge, "Age of the oldest message that is ready or in flight.",
     [](const GroupReport& group) { return seconds(std::max(group.oldest_ready_ns, group.oldest_in_flight_ns)); }},
    {"mooring_group_dlq_max_messages", kGauge, "Dead letters that the group may have; 0: no bound.",
     [](const GroupReport& group) { return count(group.dlq_max_messages); }},
    {"mooring_group_park_store_bytes", kGauge, "Shared memory of messages that wait for a retry and of dead letters.",
     [](const GroupReport& group) { return count(group.store_bytes); }},
    {"mooring_group_breaker_opened_total", kCounter, "Times the circuit breaker opened.",
     [](const GroupReport& group) { return count(group.breaker_opened); }},
    {"mooring_messages_delivered_total", kCounter, "Messages given to consumers, again or for the first time.",
     [](const GroupReport& group) { return total(group.totals.delivered); }},
    {"mooring_delivered_bytes_total", kCounter, "Bytes of delivered messages.",
     [](const GroupReport& group) { return total(group.totals.bytes_delivered); }},
    {"mooring_messages_acked_total", kCounter, "Messages acknowledged.",
     [](const GroupReport& group) { return total(group.totals.acked); }},
    {"mooring_messages_nacked_total", kCounter, "Messages that consumers nacked or rejected.",
     [](const GroupReport& group) { return total(group.totals.nacked); }},
    {"mooring_messages_rejected_total", kCounter, "Messages that consumers rejected.",
     [](const GroupReport& group) { return total(group.totals.rejected); }},
    {"mooring_messages_released_total", kCounter, "Messages that consumers released.",
     [](const GroupReport& group) { return total(group.totals.released); }},
    {"mooring_ack_stale_total", kCounter, "Settlements refused as stale: after ack_wait, or for the second time.",
     [](const GroupReport& group) { return total(group.totals.stale); }},
    {"mooring_messages_redriven_total", kCounter, "Dead letters given back to the group.",
     [](const GroupReport& group) { return count(group.redriven); }},
    {"mooring_messages_purged_total", kCounter, "Dead letters purged by somebody.",
     [](const GroupReport& group) { return count(group.purged); }},
    {"mooring_messages_expired_total", kCounter, "Messages whose time to live was over.",
     [](const GroupReport& group) { return count(group.failed_by[static_cast<u32>(FailReason::kExpired)]); }},
    {"mooring_messages_dropped_total", kCounter,
     "Messages dropped because the group's settings or the publisher ask for it.",
     [](const GroupReport& group) { return count(group.dropped); }},
    {"mooring_consumers_stuck_killed_total", kCounter, "Processes killed by stuck=kill.",
     [](const GroupReport& group) { return count(group.stuck_killed); }},
};

constexpr FailReason kFailures[] = {FailReason::kNack,     FailReason::kTimeout, FailReason::kCrash,
                                    FailReason::kRejected, FailReason::kExpired, FailReason::kCorrupt};
constexpr FailReason kRetries[] = {FailReason::kNack, FailReason::kTimeout, FailReason::kCrash};
constexpr DeadReason kDeaths[] = {DeadReason::kRejected, DeadReason::kMaxDeliveries, DeadReason::kCrash,
                                  DeadReason::kExpired,  DeadReason::kCorrupt,       DeadReason::kAdmin};

using Labels = std::vector<ClientMetric::Label>;

// Families in the order in which they were first named; one without a sample is not there.
class Families {
 public:
  void add(const char* name, MetricType type, const char* help, Labels labels, double value) {
    const auto [known, is_new] = index_.try_emplace(name, families_.size());
    if (is_new) families_.push_back({name, help, type, {}});
    ClientMetric metric;
    metric.label = std::move(labels);
    (type == kGauge ? metric.gauge.value : metric.counter.value) = value;
    families_[known->second].metric.push_back(std::move(metric));
  }
  std::vector<MetricFamily> take() { return std::move(families_); }

 private:
  std::map<std::string, std::size_t> index_;
  std::vector<MetricFamily> families_;
};

void add_holders(const QueueReport& queue, Families* families) {
  u64 producers = 0;
  std::map<std::string, std::array<u64, 3>> consumers;  // by group: live, stopped, stuck
  for (const GroupReport& group : queue.groups) consumers[group.name] = {};
  for (const HolderReport& holder : queue.holders) {
    if (holder.state == "gone" || holder.state == "zombie") continue;
    if (holder.producer) {
      ++producers;
    } else if (const auto group = consumers.find(holder.group); group != consumers.end()) {
      ++group->second[holder.state == "stopped" ? 1 : is_stuck(queue, holder) ? 2 : 0];
    }
  }
  families->add("mooring_queue_producers", kGauge, "Producers that are open in living processes.",
                {{"queue", queue.name}}, count(producers));
  constexpr const char* kStates[] = {"live", "stopped", "stuck"};
  for (const auto& [group, counts] : consumers) {
    for (std::size_t state = 0; state < counts.size(); ++state) {
      families->add("mooring_group_consumers", kGauge,
                    "Consumers in living processes: live, stopped (SIGSTOP, a debugger) or stuck (no progress for "
                    "longer than ack_wait with messages in hand).",
                    {{"queue", queue.name}, {"group", group}, {"state", kStates[state]}}, count(counts[state]));
    }
  }
}

void add_group(const QueueReport& queue, const GroupReport& group, Families* families) {
  const Labels labels = {{"queue", queue.name}, {"group", group.name}};
  const auto with = [&](const char* name, const char* value) {
    Labels more = labels;
    more.push_back({name, value});
    return more;
  };
  for (const auto& [state, messages] : {std::pair{"ready", group.ready},
                                        {"in_flight", group.in_flight},
                                        {"waiting", group.waiting},
                                        {"dead", group.dead}}) {
    families->add("mooring_queue_messages", kGauge,
                  "Messages by their state in the group: ready, in_flight, waiting (for a retry or for their time), "
                  "dead (dead letters).",
                  with("state", state), count(messages));
  }
  for (const auto& [state, age_ns] :
       {std::pair{"ready", group.oldest_ready_ns}, {"in_flight", group.oldest_in_flight_ns}}) {
    families->add("mooring_queue_oldest_age_seconds", kGauge,
                  "Age of the oldest message in that state since it was published; 0 if there is none.",
                  with("state", state), seconds(age_ns));
  }
  for (const auto& [cause, is_paused] :
       {std::pair{"user", group.paused_by_user}, {"dlq", group.paused_by_dlq}, {"breaker", group.breaker_level != 0}}) {
    families->add("mooring_queue_paused", kGauge,
                  "1: the group gives nothing out: user (mooring pause), dlq (as many dead letters as it may have), "
                  "breaker (open, or half open).",
                  with("cause", cause), is_paused ? 1 : 0);
  }
  for (const GroupFigure& figure : kGroupFigures) {
    families->add(figure.name, figure.type, figure.help, labels, figure.value(group));
  }
  for (const FailReason cause : kFailures) {
    families->add("mooring_deliveries_failed_total", kCounter, "Deliveries that ended without an acknowledgement.",
                  with("cause", fail_reason_name(cause)), count(group.failed_by[static_cast<u32>(cause)]));
  }
  for (const FailReason cause : kRetries) {
    families->add("mooring_messages_redelivered_total", kCounter,
                  "Messages given out again after their retry delay, by the failure before.",
                  with("cause", fail_reason_name(cause)), count(group.redelivered_by[static_cast<u32>(cause)]));
  }
  for (const DeadReason reason : kDeaths) {
    families->add("mooring_messages_dead_lettered_total", kCounter, "Messages that became dead letters.",
                  with("reason", dead_reason_name(reason)), count(group.dead_lettered_by[static_cast<u32>(reason)]));
  }
  for (u32 kind = 0; kind <= layout::kCrashKindMax; ++kind) {
    families->add("mooring_consumer_crashes_total", kCounter,
                  "Consumers whose process ended with the handle open, by the signal (exit: it ended by itself).",
                  with("signal", crash_kind_name(static_cast<CrashKind>(kind))), count(group.crashes_by[kind]));
  }
}

void add_queue(const QueueReport& queue, Families* families) {
  const Labels labels = {{"queue", queue.name}};
  const auto add = [&](const QueueFigure& figure) {
    families->add(figure.name, figure.type, figure.help, labels, figure.value(queue));
  };
  for (const QueueFigure& figure : kQueueFigures) add(figure);
  if (!queue.journal.empty()) {
    for (const QueueFigure& figure : kLogFigures) add(figure);
    for (const char* state : {"running", "stopped", "disk full", "backlog full", "failed"}) {
      std::string name = state;
      std::replace(name.begin(), name.end(), ' ', '_');
      families->add("mooring_journal_state", kGauge, "1 for the state that the journal is in, 0 for the others.",
                    {{"queue", queue.name}, {"state", name}}, queue.journal == state ? 1 : 0);
    }
  }
  if (queue.durability == "durable") {
    for (const QueueFigure& figure : kDurableFigures) add(figure);
  }
  add_holders(queue, families);
  for (const GroupReport& group : queue.groups) add_group(queue, group, families);
}

}  // namespace

std::vector<MetricFamily> MetricsCollector::Collect() const {
  try {
    return collect();
  } catch (const std::exception&) {
    return {};
  }
}

std::vector<MetricFamily> MetricsCollector::collect() const {
  Families families;
  families.add("mooring_build_info", kGauge, "1, with the version of what reads the metrics.",
               {{"version", options_.version}}, 1);
  const SupervisorReport supervisor = supervisor_of(instance_);
  bool up = supervisor.state == "running";
  std::vector<std::pair<std::string, bool>> readable;
  std::vector<QueueReport> queues;
  // A directory that cannot be listed has no queues to tell of, and no supervisor can work there.
  const Result<std::vector<std::string>> names = list_queues(instance_.shared_directory);
  up = up && names.has_value();
  for (const std::string& name : names ? *names : std::vector<std::string>{}) {
    Result<QueueReport> queue = read_queue_report(instance_, name, options_.guarded);
    if (!queue && queue.error().code == Code::kNoSuchQueue) continue;  // removed while we looked
    readable.emplace_back(name, queue.has_value());
    if (!queue) continue;
    if (queue->life == "open") up = up && queue->supervisor.state == "running";
    queues.push_back(std::move(*queue));
  }
  families.add("mooring_supervisor_up", kGauge,
               "1: mooringd runs and looks at its queues; 0: it is not there, stopped, or does not look.", {},
               up ? 1 : 0);
  for (const auto& [name, is_readable] : readable) {
    families.add("mooring_queue_readable", kGauge, "0: the files of the queue are damaged, or not ours to read.",
                 {{"queue", name}}, is_readable ? 1 : 0);
  }
  for (const QueueReport& queue : queues) add_queue(queue, &families);
  return families.take();
}

std::string MetricsCollector::text() const { return prometheus::TextSerializer().Serialize(Collect()); }

}  // namespace mooring
