// mooring dlq: dead letters: look at them, give them back, export and drop them. ls, show and export read the queue's
// files themselves, so they work with every process dead.
#include <fmt/format.h>
#include <sys/wait.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <optional>

#include "base/atomics.hpp"
#include "base/time.hpp"
#include "delivery/decision.hpp"
#include "headers.hpp"
#include "inspect.hpp"
#include "platform/process_end.hpp"
#include "segment/dead_letters.hpp"

namespace mooring::cli {
namespace {

struct Dlq {
  std::string queue;
  std::string group = "default";
  std::string reason;
  std::string older_than;
  std::vector<std::uint64_t> seqs;
  std::uint64_t limit = 0;
  std::uint64_t canary = 0;
  std::uint64_t skip = 0;
  std::uint64_t seq = 0;
  double rate = 0;
  bool dry_run = false;
  bool all = false;
  bool cancel = false;
  std::string file;
};

DeadReason reason_of(const std::string& text) {
  for (std::uint32_t number = 1; number <= kDeadReasonMax; ++number) {
    if (text == dead_reason_name(static_cast<DeadReason>(number))) return static_cast<DeadReason>(number);
  }
  throw Failure(MOORING_ERR_BAD_ARGUMENT,
                fmt::format("\"{}\" is no reason of a dead letter; give rejected, max_deliveries, crash, expired, "
                            "corrupt or admin",
                            text));
}

struct GroupFiles {
  QueueFiles files;
  std::uint32_t index = 0;
  std::uint32_t generation = 0;
};

GroupFiles open_group(const Dlq& dlq, const Context& context) {
  const InstanceFiles instance = open_instance_files(context);
  QueueFiles::AttachOptions options;
  options.prefault = false;
  Result<QueueFiles> files = QueueFiles::attach(instance.shared_directory, instance.owner, dlq.queue, options);
  if (!files) throw Failure(static_cast<int>(files.error().code), files.error().text);
  for (std::uint32_t index = 0; index < files->constants().groups_max; ++index) {
    const layout::GroupSlot& slot = files->group_slot(index);
    const u64 life = HardwareAtomics::load(slot.slot, std::memory_order_acquire);
    if (layout::slot_life(life) == layout::SlotLife::kLive &&
        std::string_view(slot.name, ::strnlen(slot.name, sizeof slot.name)) == dlq.group) {
      return {std::move(*files), index, layout::slot_generation(life)};
    }
  }
  throw Failure(MOORING_ERR_NO_SUCH_QUEUE,
                fmt::format("queue {} has no group {}; `mooring info {}` lists them", dlq.queue, dlq.group, dlq.queue));
}

bool matches(const Dlq& dlq, const ParkedMessage& message, std::optional<DeadReason> reason, std::uint64_t older_ns) {
  if (reason.has_value() && message.record.dead_reason != static_cast<std::uint32_t>(*reason)) return false;
  const std::uint64_t now = wall_ns();
  if (older_ns != 0 && now - std::min(now, message.record.dead_wall_ns) < older_ns) return false;
  return dlq.seqs.empty() || std::find(dlq.seqs.begin(), dlq.seqs.end(), message.record.seq) != dlq.seqs.end();
}

// Those that match, the oldest first.
std::vector<ParkedMessage> dead_letters(const Dlq& dlq, const GroupFiles& group, bool with_payload) {
  std::optional<DeadReason> reason;
  if (!dlq.reason.empty()) reason = reason_of(dlq.reason);
  const std::uint64_t older_ns = dlq.older_than.empty() ? 0 : parse_time(dlq.older_than);
  std::vector<ParkedMessage> found;
  const Status walked = each_parked(group.files, group.index, group.generation, layout::RecordState::kDead,
                                    with_payload, [&](const ParkedMessage& message) {
                                      if (matches(dlq, message, reason, older_ns)) found.push_back(message);
                                      return true;
                                    });
  if (!walked) throw Failure(static_cast<int>(walked.error().code), walked.error().text);
  std::sort(found.begin(), found.end(), [](const ParkedMessage& a, const ParkedMessage& b) {
    return std::pair(a.record.dead_wall_ns, a.record.seq) < std::pair(b.record.dead_wall_ns, b.record.seq);
  });
  const std::size_t first = std::min<std::size_t>(dlq.skip, found.size());
  found.erase(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(first));
  if (dlq.limit != 0 && found.size() > dlq.limit) found.resize(dlq.limit);
  return found;
}

std::string attempt_consumer(const layout::ParkAttempt& attempt) {
  return {attempt.consumer, ::strnlen(attempt.consumer, sizeof attempt.consumer)};
}

// How the consumer ended that crashed with it.
std::string exit_of(const layout::ParkAttempt& attempt) {
  if ((attempt.exit & layout::kExitKnown) == 0) return "how it ended is not known";
  return exit_text(attempt.exit & ~layout::kExitKnown);
}
Json exit_json(const layout::ParkAttempt& attempt) {
  if ((attempt.exit & layout::kExitKnown) == 0) return Json();
  const auto status = static_cast<int>(attempt.exit & ~layout::kExitKnown);
  if (WIFSIGNALED(status)) return {{"signal", WTERMSIG(status)}, {"core_dumped", WCOREDUMP(status) != 0}};
  return {{"code", WEXITSTATUS(status)}};
}

StoredMessage as_stored(const ParkedMessage& message) {
  return stored_message(message.record.seq, message.record.frame_flags,
                        {reinterpret_cast<const std::uint8_t*>(message.payload.data()), message.payload.size()});
}
std::string payload_of(const StoredMessage& stored) {
  return {static_cast<const char*>(stored.message.data), stored.message.size};
}

Json to_json(const Dlq& dlq, const ParkedMessage& message, bool with_payload) {
  const layout::ParkRecord& record = message.record;
  Json json = {{"queue", dlq.queue},
               {"group", dlq.group},
               {"seq", record.seq},
               {"reason", dead_reason_name(static_cast<DeadReason>(record.dead_reason))},
               {"last_failure", fail_reason_name(static_cast<layout::FailReason>(record.last_reason))},
               {"code", record.code},
               {"text", message.text},
               {"acquired", message.word.acquired},
               {"failed", message.word.failed},
               {"size", record.len},
               {"first_failed", time_text(record.first_failed_wall_ns)},
               {"last_failed", time_text(record.last_failed_wall_ns)},
               {"dead_since", time_text(record.dead_wall_ns)},
               {"redriven", record.redriven},
               {"attempts", Json::array()}};
  for (const layout::ParkAttempt& attempt : message.attempts) {
    json["attempts"].push_back({{"time", time_text(attempt.wall_ns)},
                                {"outcome", fail_reason_name(static_cast<layout::FailReason>(attempt.reason))},
                                {"consumer", attempt_consumer(attempt)},
                                {"pid", attempt.pid},
                                {"seat", attempt.seat},
                                {"code", attempt.code},
                                {"exit", exit_json(attempt)}});
  }
  if (with_payload) {
    const StoredMessage stored = as_stored(message);
    json["size"] = stored.message.size;
    if (stored.has_headers) json["headers"] = stored.headers_make_sense ? headers_to_json(stored.message) : Json();
    json["data"] = payload_of(stored);
  }
  return json;
}

int run_ls(const Dlq& dlq, const Context& context) {
  const GroupFiles group = open_group(dlq, context);
  const std::vector<ParkedMessage> found = dead_letters(dlq, group, /*with_payload=*/false);
  if (!context.json)
    fmt::print("{:>12}  {:<15} {:>6} {:>8}  {:<24}  {}\n", "SEQ", "REASON", "FAILED", "SIZE", "SINCE", "TEXT");
  for (const ParkedMessage& message : found) {
    if (context.json) {
      print_json(to_json(dlq, message, /*with_payload=*/false));
      continue;
    }
    fmt::print("{:>12}  {:<15} {:>6} {:>8}  {:<24}  {}\n", message.record.seq,
               dead_reason_name(static_cast<DeadReason>(message.record.dead_reason)), message.word.failed,
               message.record.len, time_text(message.record.dead_wall_ns), message.text);
  }
  const std::uint64_t total =
      HardwareAtomics::load(group.files.group_slot(group.index).counters.dead, std::memory_order_relaxed);
  if (!context.json && total > found.size()) {
    fmt::print("{} of {} dead letters; --limit and --skip page through them\n", found.size(), total);
  }
  return kExitOk;
}

int run_show(Dlq dlq, const Context& context) {
  const GroupFiles group = open_group(dlq, context);
  dlq.seqs = {dlq.seq};
  const std::vector<ParkedMessage> found = dead_letters(dlq, group, /*with_payload=*/true);
  if (found.empty()) {
    throw Failure(MOORING_ERR_BAD_ARGUMENT,
                  fmt::format("group {} of queue {} has no dead letter {}; `mooring dlq ls {}`"
                              " lists them",
                              dlq.group, dlq.queue, dlq.seq, dlq.queue));
  }
  const ParkedMessage& message = found.front();
  if (context.json) {
    print_json(to_json(dlq, message, /*with_payload=*/true));
    return kExitOk;
  }
  const layout::ParkRecord& record = message.record;
  fmt::print(
      "message       {} of queue {}, dead in group {}\nreason        {} (last failure: {}, code {})\ntext          {}\n"
      "failed        {} times, given out {} times, redriven {} times\nfirst failed  {}\nlast failed   {}\n"
      "dead since    {}\nsize          {} bytes\n",
      record.seq, dlq.queue, dlq.group, dead_reason_name(static_cast<DeadReason>(record.dead_reason)),
      fail_reason_name(static_cast<layout::FailReason>(record.last_reason)), record.code,
      message.text.empty() ? "-" : message.text, message.word.failed, message.word.acquired, record.redriven,
      time_text(record.first_failed_wall_ns), time_text(record.last_failed_wall_ns), time_text(record.dead_wall_ns),
      record.len);
  for (const layout::ParkAttempt& attempt : message.attempts) {
    const bool crash = attempt.reason == static_cast<std::uint16_t>(layout::FailReason::kCrash);
    fmt::print("attempt       {}  {:<9} by pid {} ({}), {}\n", time_text(attempt.wall_ns),
               fail_reason_name(static_cast<layout::FailReason>(attempt.reason)), attempt.pid,
               attempt_consumer(attempt), crash ? exit_of(attempt) : fmt::format("code {}", attempt.code));
  }
  const StoredMessage stored = as_stored(message);
  if (stored.has_headers && stored.headers_make_sense) {
    fmt::print("headers\n{}\n", headers_to_json(stored.message).dump(2, ' ', false, Json::error_handler_t::replace));
  }
  fmt::print("payload\n{}\n", payload_of(stored));
  return kExitOk;
}

int run_export(const Dlq& dlq, const Context& context) {
  const GroupFiles group = open_group(dlq, context);
  const std::vector<ParkedMessage> found = dead_letters(dlq, group, /*with_payload=*/true);
  std::ofstream file;
  if (!dlq.file.empty()) {
    file.open(dlq.file, std::ios::trunc | std::ios::binary);
    if (!file) throw Failure(MOORING_ERR_IO, fmt::format("cannot write {}", dlq.file));
  }
  std::ostream& out = dlq.file.empty() ? std::cout : file;
  for (const ParkedMessage& message : found) {
    out << to_json(dlq, message, /*with_payload=*/true).dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
  }
  out.flush();
  if (!out)
    throw Failure(MOORING_ERR_IO, fmt::format("cannot write {}", dlq.file.empty() ? "standard output" : dlq.file));
  if (!dlq.file.empty() && !context.json) fmt::print("{} dead letters written to {}\n", found.size(), dlq.file);
  return kExitOk;
}

mooring_dead_filter filter_of(const Dlq& dlq) {
  mooring_dead_filter filter;
  mooring_dead_filter_init(&filter, sizeof filter);
  if (dlq.dry_run) filter.flags |= MOORING_DRY_RUN;
  if (!dlq.reason.empty()) filter.reason = static_cast<std::uint32_t>(reason_of(dlq.reason));
  if (!dlq.older_than.empty()) filter.older_than_ns = parse_time(dlq.older_than);
  filter.limit = dlq.canary != 0 ? dlq.canary : dlq.limit;
  filter.seqs = dlq.seqs.data();
  filter.seq_count = dlq.seqs.size();
  return filter;
}

int run_redrive(const Dlq& dlq, const Context& context) {
  Instance instance = connect(context);
  if (dlq.cancel) {
    const std::uint64_t left = instance.cancel_redrive(dlq.queue, dlq.group);
    if (context.json) {
      print_json({{"queue", dlq.queue}, {"group", dlq.group}, {"left", left}});
    } else {
      fmt::print("cancelled: {} messages were not reached and stay dead letters\n", left);
    }
    return kExitOk;
  }
  const mooring_dead_filter filter = filter_of(dlq);
  const std::uint64_t count =
      instance.redrive(dlq.queue, dlq.group, &filter,
                       dlq.rate <= 0 ? 0 : std::max<std::uint64_t>(1, static_cast<std::uint64_t>(dlq.rate)));
  if (context.json) {
    print_json({{"queue", dlq.queue}, {"group", dlq.group}, {"redriven", count}, {"dry_run", dlq.dry_run}});
  } else if (dlq.dry_run) {
    fmt::print("{} dead letters would go back to group {}\n", count, dlq.group);
  } else if (dlq.rate > 0) {
    fmt::print("{} dead letters go back to group {}, {} a second; `mooring dlq redrive {} --cancel` stops it\n", count,
               dlq.group, dlq.rate, dlq.queue);
  } else {
    fmt::print("{} dead letters are back in group {}\n", count, dlq.group);
  }
  return kExitOk;
}

int run_purge(const Dlq& dlq, const Context& context) {
  if (!dlq.all && dlq.reason.empty() && dlq.older_than.empty() && dlq.seqs.empty() && dlq.limit == 0) {
    throw Failure(MOORING_ERR_BAD_ARGUMENT,
                  "purge drops dead letters for good; say which (--reason, --older-than, --seq, --limit), or --all");
  }
  Instance instance = connect(context);
  const mooring_dead_filter filter = filter_of(dlq);
  const std::uint64_t count = instance.purge_dead(dlq.queue, dlq.group, &filter);
  if (context.json) {
    print_json({{"queue", dlq.queue}, {"group", dlq.group}, {"purged", count}, {"dry_run", dlq.dry_run}});
  } else {
    fmt::print("{} dead letters {}\n", count, dlq.dry_run ? "would be dropped" : "are dropped");
  }
  return kExitOk;
}

void add_filter(CLI::App* command, const std::shared_ptr<Dlq>& dlq) {
  command->add_option("--reason", dlq->reason, "rejected, max_deliveries, crash, expired, corrupt or admin");
  command->add_option("--older-than", dlq->older_than, "dead for at least this long, as in 90s or 7d")
      ->check(time_above_zero);
  command->add_option("--seq", dlq->seqs, "these messages")->delimiter(',');
  command->add_option("--limit", dlq->limit, "the oldest this many")->check(CLI::PositiveNumber);
}

}  // namespace

void add_dlq(CLI::App& app, Context& context) {
  CLI::App* dlq_app = app.add_subcommand("dlq", "dead letters of a group: ls, show, redrive, export, purge");
  dlq_app->require_subcommand(1);
  auto dlq = std::make_shared<Dlq>();
  const auto add = [&](const std::string& name, const std::string& description, const std::string& example,
                       std::function<int()> run) {
    CLI::App* command = add_command(*dlq_app, context, name, description, example, std::move(run));
    command->add_option("queue", dlq->queue, "name")->required();
    command->add_option("--group", dlq->group, "group that failed them")->capture_default_str();
    return command;
  };
  CLI::App* ls = add("ls", "list dead letters, the oldest first", "mooring dlq ls orders --reason crash --limit 20",
                     [dlq, &context] { return run_ls(*dlq, context); });
  add_filter(ls, dlq);
  ls->add_option("--skip", dlq->skip, "leave out the oldest this many");
  CLI::App* show = add("show", "one dead letter, with its history and payload", "mooring dlq show orders 65790",
                       [dlq, &context] { return run_show(*dlq, context); });
  show->add_option("seq", dlq->seq, "number of the message")->required();
  CLI::App* redrive = add("redrive", "give dead letters back to the group that failed them",
                          "mooring dlq redrive orders --reason crash --rate 100",
                          [dlq, &context] { return run_redrive(*dlq, context); });
  add_filter(redrive, dlq);
  redrive->add_option("--rate", dlq->rate, "messages a second; without it as fast as may be")
      ->check(CLI::PositiveNumber);
  redrive->add_flag("--dry-run", dlq->dry_run, "only count");
  redrive->add_option("--canary", dlq->canary, "only this many, to see whether the fix holds")
      ->check(CLI::PositiveNumber);
  redrive->add_flag("--cancel", dlq->cancel, "stop a redrive that is under way");
  CLI::App* out = add("export", "write dead letters as lines of JSON", "mooring dlq export orders --file dead.jsonl",
                      [dlq, &context] { return run_export(*dlq, context); });
  add_filter(out, dlq);
  out->add_option("--file", dlq->file, "write there instead of to standard output");
  CLI::App* purge = add("purge", "drop dead letters for good", "mooring dlq purge orders --older-than 30d --dry-run",
                        [dlq, &context] { return run_purge(*dlq, context); });
  add_filter(purge, dlq);
  purge->add_flag("--dry-run", dlq->dry_run, "only count");
  purge->add_flag("--all", dlq->all, "all of them");
}

}  // namespace mooring::cli
