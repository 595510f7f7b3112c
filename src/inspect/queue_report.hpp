// What the files of a queue say, read without asking anybody: works with every process dead. For the command line and
// for metrics.
//
// Everything read here may change meanwhile or be garbage: figures are a moment's guess, bounded and never trusted.
//
// TESTED BY  cli/cli_test, cli/why_test, metrics/metrics_test
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "group/seat_totals.hpp"
#include "segment/queue_files.hpp"

namespace mooring {

struct GroupReport {
  std::string name;
  bool exclusive = false;
  std::uint64_t ready = 0;      // published and in nobody's hands
  std::uint64_t in_flight = 0;  // with a consumer
  std::uint64_t done = 0;       // acknowledged, still in the window
  std::uint64_t parked = 0;     // left the window: with a standing consumer, or back from a wait
  std::uint64_t waiting = 0;    // for their retry
  std::uint64_t dead = 0;       // dead letters
  std::uint64_t store_bytes = 0;
  bool paused = false;  // for whatever reason
  bool paused_by_user = false;
  bool paused_by_dlq = false;
  std::string breaker = "off";            // closed, open, half_open
  std::uint32_t breaker_level = 0;        // times it opened in a row
  std::uint64_t breaker_opens_in_ns = 0;  // open: until a message is let through
  std::uint64_t breaker_opened = 0;       // ever
  std::uint64_t stuck_killed = 0;          // processes that stuck = kill ended
  std::uint64_t failed = 0;       // deliveries that failed, ever
  std::uint64_t dead_lettered = 0;
  std::uint64_t redriven = 0;
  std::uint64_t purged = 0;
  std::uint64_t dropped = 0;
  std::array<std::uint64_t, layout::kFailReasonMax + 1> failed_by{};         // by FailReason
  std::array<std::uint64_t, layout::kFailReasonMax + 1> redelivered_by{};    // by FailReason
  std::array<std::uint64_t, layout::kFailReasonMax + 1> dead_lettered_by{};  // by DeadReason
  std::array<std::uint64_t, layout::kCrashKindMax + 1> crashes_by{};         // by CrashKind
  layout::SeatTotals totals{};  // of all its consumers, also those that are gone
  std::uint64_t oldest_ready_seq = ~std::uint64_t{0};  // ~0: none
  std::uint64_t oldest_in_flight_seq = ~std::uint64_t{0};
  std::uint64_t oldest_ready_ns = 0;  // age; 0: none, or it came after the supervisor's last look
  std::uint64_t oldest_in_flight_ns = 0;
  std::uint64_t dlq_max_messages = 0;  // 0: no bound

  std::uint64_t lag() const { return ready + in_flight + waiting; }  // not finished
  std::vector<std::pair<std::string, std::string>> settings;
  std::uint64_t consumers = 0;
  std::uint32_t quota = 0;  // messages that each consumer may hold; 0: no bound (exclusive)
  std::uint64_t ack_wait_ns = 0;
  std::uint64_t next_due_ns = ~std::uint64_t{0};  // from now, of what waits; ~0: nothing does
};

struct HolderReport {
  bool producer = false;
  std::uint32_t number = 0;  // lane or seat
  std::uint32_t pid = 0;
  std::string process;       // command name, "" if it is gone
  std::string state;         // running, stopped, zombie, gone
  std::string group;
  std::uint64_t messages = 0;  // published or delivered through this lane or seat, by all its owners
  std::uint64_t acked = 0;
  bool waiting_for_room = false;
  std::uint64_t blocked_ns = 0;   // producers: time that all owners of the lane waited for room
  std::uint64_t in_flight = 0;   // consumers: messages it holds
  std::uint64_t oldest_seq = 0;  // of those
  bool handling = false;         // its application has one before it
  bool traced = false;
  std::uint64_t standing_ns = 0;  // without progress, as far as the supervisor saw; 0: it moved since
};

struct SupervisorReport {
  std::string state;  // running, stopped, absent
  std::uint32_t pid = 0;
  std::uint64_t last_look_ns = 0;  // ago, at this queue
};

struct QueueReport {
  std::string name;
  std::string where;
  std::string life;
  bool spsc = false;
  std::uint64_t capacity = 0;
  std::uint64_t lane_bytes = 0;
  std::uint64_t max_message_bytes = 0;
  std::string overflow;
  std::string durability;  // volatile, durable
  std::string deliver;     // of a durable queue: durable, early
  std::string journal;     // of a queue with a log: running, stopped, disk full, backlog full, failed
  std::uint64_t durable_seq = 0;
  std::uint64_t unsynced = 0;        // durable queues: published and not on the disk yet
  std::uint64_t journal_lag_ns = 0;  // age of the oldest of those
  std::uint64_t journal_syncs = 0;
  std::uint64_t journal_errors = 0;
  std::uint64_t journal_bytes = 0;
  std::uint64_t journal_segments = 0;
  std::uint64_t journal_backlog_bytes = 0;
  std::uint64_t journal_quota_bytes = 0;  // 0: no bound
  std::uint64_t max_backlog_bytes = 0;    // 0: volatile
  std::uint64_t dedup_window_ns = 0;      // 0: it does not look for duplicates, as all that follow
  std::uint64_t dedup_max_messages = 0;
  std::uint64_t duplicates = 0;
  std::uint64_t ids_known = 0;
  std::uint64_t published = 0;
  std::uint64_t bytes_published = 0;
  std::uint64_t blocked_ns = 0;
  std::uint64_t rejected = 0;
  std::uint64_t fill_milli = 0;  // how full it was at the supervisor's last look that measured it
  bool above_high_water = false;
  std::uint64_t high_water_total = 0;
  std::uint64_t memory_bytes = 0;
  std::vector<GroupReport> groups;
  std::vector<HolderReport> holders;
  SupervisorReport supervisor;
};

struct InstanceFiles {
  std::string path;
  uid_t owner = 0;
  File shared_directory;
};
// `path` as resolve_instance() takes it.
Result<InstanceFiles> find_instance_files(const std::string& path);

// `guarded`: for a process that must not die of a file that somebody cuts short while it is read; it has
// install_fault_guard(). kCorrupt then. Any thread.
Result<QueueReport> read_queue_report(const InstanceFiles& instance, const std::string& queue, bool guarded);

SupervisorReport supervisor_of(const InstanceFiles& instance);  // without last_look_ns

// It runs, and has received, extended and settled nothing for longer than ack_wait with messages in hand. `patience_ns`
// (may be null) gets what it was measured by.
bool is_stuck(const QueueReport& report, const HolderReport& holder, std::uint64_t* patience_ns = nullptr);

}  // namespace mooring
