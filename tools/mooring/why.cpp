#include "why.hpp"

#include <fmt/format.h>

#include "base/time.hpp"

namespace mooring::cli {
namespace {

std::string seconds(std::uint64_t ns) { return fmt::format("{:.1f} s", static_cast<double>(ns) / 1e9); }
std::string messages(std::uint64_t count) { return fmt::format("{} message{}", count, count == 1 ? "" : "s"); }
std::string who(const HolderReport& holder) {
  return holder.process.empty() ? fmt::format("pid {}", holder.pid)
                                : fmt::format("{} (pid {})", holder.process, holder.pid);
}

const GroupReport* group_of(const QueueReport& report, const HolderReport& holder) {
  for (const GroupReport& group : report.groups) {
    if (group.name == holder.group) return &group;
  }
  return nullptr;
}

std::string in_hand(const HolderReport& holder) {
  std::string text = "holds " + messages(holder.in_flight);
  if (holder.oldest_seq != 0) text += fmt::format(", the oldest is {}", holder.oldest_seq);
  if (holder.standing_ns != 0) text += ", without progress for " + seconds(holder.standing_ns);
  return text;
}

Reason explain_consumer(const QueueReport& report, const HolderReport& holder) {
  const GroupReport* group = group_of(report, holder);
  if (holder.state == "gone" || holder.state == "zombie") {
    return {"dead", report.supervisor.state == "running"
                        ? "dead; what it held is being given back"
                        : "dead; what it held is given back once a supervisor runs: start mooringd"};
  }
  if (holder.state == "stopped") {
    return {"stopped", fmt::format("stopped ({}): {}; `kill -CONT {}` lets it go on",
                                   holder.traced ? "by a debugger" : "SIGSTOP", in_hand(holder), holder.pid)};
  }
  const bool holds = holder.in_flight != 0;
  const bool has_ack_wait = group != nullptr && group->ack_wait_ns != 0;
  std::uint64_t patience = 0;
  // What was taken from it by ack_wait it no longer holds; its application still has it.
  if (is_stuck(report, holder, &patience)) {
    return {"stuck", fmt::format("stuck: it runs, and {} (ack_wait is {})", in_hand(holder),
                                 has_ack_wait ? seconds(patience) : "off")};
  }
  if (group != nullptr && group->quota != 0 && holder.in_flight >= group->quota) {
    return {"full", fmt::format("holds {}, as many as it may: it gets no more until it settles some",
                                messages(holder.in_flight))};
  }
  if (holds || holder.handling) return {"working", "at work: " + in_hand(holder)};
  return {"idle", "waits for messages"};
}

std::string holders_text(const std::vector<WhyReport::Consumer>& consumers, const std::string& group) {
  std::string text;
  for (const WhyReport::Consumer& consumer : consumers) {
    if (consumer.holder.group != group || consumer.holder.in_flight == 0) continue;
    text += fmt::format("{}{}: {}", text.empty() ? "" : "; ", who(consumer.holder), consumer.reason.text);
  }
  return text;
}

void explain_pauses(const GroupReport& group, const QueueReport& report, std::vector<Reason>* reasons) {
  if (group.paused_by_user) {
    reasons->push_back({"paused_by_user", fmt::format("paused by `mooring pause`; `mooring resume {} --group {}` lets "
                                                      "it go on",
                                                      report.name, group.name)});
  }
  if (group.paused_by_dlq) {
    reasons->push_back({"paused_by_dlq", fmt::format("paused: it has {} dead letters, as many as it may "
                                                     "(dlq_max_messages); see `mooring dlq ls {} --group {}`",
                                                     group.dead, report.name, group.name)});
  }
  if (group.breaker == "open") {
    reasons->push_back(
        {"breaker_open", fmt::format("its circuit breaker is open, as what it does fails: one message is "
                                     "let through in {}",
                                     seconds(group.breaker_opens_in_ns))});
  }
  if (group.breaker == "half_open") {
    reasons->push_back({"breaker_half_open",
                        "its circuit breaker is half open: one message is let through, and the rest when that is "
                        "acknowledged"});
  }
}

void explain_messages(const GroupReport& group, const QueueReport& report, const WhyReport& why,
                      std::vector<Reason>* reasons) {
  std::uint64_t able = 0;
  std::string unable;
  for (const WhyReport::Consumer& consumer : why.consumers) {
    if (consumer.holder.group != group.name) continue;
    if (consumer.reason.state == "idle" || consumer.reason.state == "working") {
      ++able;
    } else {
      unable += fmt::format("{}{}: {}", unable.empty() ? "" : "; ", who(consumer.holder), consumer.reason.text);
    }
  }
  const std::string held = holders_text(why.consumers, group.name);
  if (group.consumers == 0 && group.ready + group.waiting != 0) {
    reasons->push_back({"no_consumer", fmt::format("nobody consumes: {} ready, {} waiting for a retry",
                                                   messages(group.ready), messages(group.waiting))});
  }
  if (group.exclusive && group.waiting != 0) {
    reasons->push_back(
        {"held_retry", fmt::format("a message that failed is held, and nothing later comes before it{}",
                                   group.next_due_ns == ~std::uint64_t{0} ? std::string()
                                                                          : "; due in " + seconds(group.next_due_ns))});
  }
  if (group.consumers != 0 && able == 0) {
    reasons->push_back(
        {"consumers_stand", fmt::format("none of its {} consumers goes on: {}", group.consumers, unable)});
  } else if (group.exclusive && group.in_flight != 0) {
    reasons->push_back({"held", fmt::format("its seat belongs to {}", held)});
  } else if (group.ready != 0 && able != 0) {
    reasons->push_back({"flowing", messages(group.ready) + " ready, and consumers that take them"});
  } else if (group.ready == 0 && group.in_flight != 0) {
    reasons->push_back({"in_flight", "all there is, is in hand: " + held});
  }
  if (group.ready == 0 && group.in_flight == 0 && group.waiting != 0) {
    reasons->push_back({"retries_waiting", group.next_due_ns == ~std::uint64_t{0}
                                               ? messages(group.waiting) + " waiting for a retry"
                                               : fmt::format("only retries: {} waiting, the next is due in {}",
                                                             messages(group.waiting), seconds(group.next_due_ns))});
  }
  if (group.ready + group.in_flight + group.waiting == 0) {
    reasons->push_back({"empty", group.dead == 0 ? "empty: all messages are acknowledged"
                                                 : fmt::format("empty, but for {} dead letters", group.dead)});
  }
  if (report.durability == "durable" && report.deliver == "durable" && report.journal != "running" &&
      group.ready != 0) {
    reasons->push_back(
        {"not_durable", "what is not on the disk yet is not given out, and the journal is " + report.journal});
  }
}

}  // namespace

WhyReport explain(const QueueReport& report) {
  WhyReport why;
  if (report.life != "open") {
    why.queue.push_back({report.life, "the queue is " + report.life + ": nothing is published or given out"});
  }
  const std::string last_look = fmt::format("; its last look was {} ago", seconds(report.supervisor.last_look_ns));
  if (report.supervisor.state == "stopped") {
    why.queue.push_back({"supervisor_stopped",
                         fmt::format("the supervisor (pid {}) is stopped: retries, repairs, durability and opening "
                                     "wait{}",
                                     report.supervisor.pid, last_look)});
  } else if (report.supervisor.state == "absent") {
    why.queue.push_back(
        {"supervisor_absent", "no supervisor: retries, repairs, durability and opening wait for one" + last_look});
  }
  if (report.journal == "disk full") {
    why.queue.push_back({"journal_disk_full", "the journal's disk or quota is full: publishers get DISK_FULL"});
  } else if (report.journal == "backlog full") {
    why.queue.push_back({"backlog_full",
                         "as much waits in the log as may (max_backlog_bytes): publishers wait or get "
                         "FULL until the slowest group has settled some"});
  } else if (report.journal == "failed") {
    why.queue.push_back({"journal_failed", "the journal failed: publishers get IO; see mooringd's log"});
  } else if (report.journal == "stopped" && report.supervisor.state == "running") {
    why.queue.push_back({"journal_stopped", "the journal does not run; see mooringd's log"});
  }
  for (const HolderReport& holder : report.holders) {
    if (!holder.producer) why.consumers.push_back({holder, explain_consumer(report, holder)});
  }
  for (const GroupReport& group : report.groups) {
    WhyReport::Group of{group.name, {}};
    explain_pauses(group, report, &of.reasons);
    explain_messages(group, report, why, &of.reasons);
    why.groups.push_back(std::move(of));
  }
  return why;
}

Json to_json(const WhyReport& why) {
  const auto reasons = [](const std::vector<Reason>& all) {
    Json list = Json::array();
    for (const Reason& reason : all) list.push_back({{"state", reason.state}, {"text", reason.text}});
    return list;
  };
  Json json = {{"queue", reasons(why.queue)}, {"groups", Json::array()}, {"consumers", Json::array()}};
  for (const WhyReport::Group& group : why.groups) {
    json["groups"].push_back({{"group", group.name}, {"reasons", reasons(group.reasons)}});
  }
  for (const WhyReport::Consumer& consumer : why.consumers) {
    json["consumers"].push_back({{"number", consumer.holder.number},
                                 {"pid", consumer.holder.pid},
                                 {"process", consumer.holder.process},
                                 {"group", consumer.holder.group},
                                 {"state", consumer.reason.state},
                                 {"in_flight", consumer.holder.in_flight},
                                 {"standing_seconds", static_cast<double>(consumer.holder.standing_ns) / 1e9},
                                 {"text", consumer.reason.text}});
  }
  return json;
}

void print(const WhyReport& why) {
  for (const Reason& reason : why.queue) fmt::print("queue: {}\n", reason.text);
  for (const WhyReport::Group& group : why.groups) {
    for (const Reason& reason : group.reasons) fmt::print("group {}: {}\n", group.name, reason.text);
    for (const WhyReport::Consumer& consumer : why.consumers) {
      if (consumer.holder.group != group.name) continue;
      fmt::print("  consumer {}, {}: {}\n", consumer.holder.number, who(consumer.holder), consumer.reason.text);
    }
  }
}

}  // namespace mooring::cli
