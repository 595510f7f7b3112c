// mooring peek: what waits in a group, without taking it. Reads the files alone: needs no seat and no supervisor, and
// changes nothing. All it says is of a moment; what is overwritten or settled while it looks is said to be gone.
#include <fmt/format.h>

#include <map>
#include <optional>
#include <set>

#include "base/atomics.hpp"
#include "base/time.hpp"
#include "group/group_view.hpp"
#include "group_files.hpp"
#include "operator_commands.hpp"
#include "segment/dead_letters.hpp"
#include "shown_message.hpp"
#include "terminal_text.hpp"

namespace mooring::cli {
namespace {

using A = HardwareAtomics;
using Found = MessagePeek::Found;
using layout::RecordState;

struct Peek {
  std::string queue;
  std::string group = "default";
  std::optional<std::uint64_t> seq;
  std::uint64_t from = 0;
  std::uint64_t count = 10;
  std::uint64_t bytes = 256;
  bool headers = false;
};

// A message in the group. Deliveries and failures as far as shared memory counts them.
struct Waiting {
  std::string state;  // ready, in_flight, failed, retry_wait, delayed; asked for by seq also acked, dead
  std::uint32_t acquired = 0;
  std::optional<std::uint32_t> failed;
  std::uint32_t pid = 0;                // in flight: with whom
  std::uint64_t due_in_ns = 0;          // retry_wait, delayed
  std::uint64_t published_wall_ns = 0;  // 0: not known
  std::optional<MessagePeek::Copy> copy;
  const char* from = nullptr;  // memory, log, park store
  std::string problem;         // why there is no copy
  bool damaged = false;        // the problem is one of the queue, not of having come too late
};

class Window {
 public:
  Window(const Peek& wanted, const GroupFiles& group, const std::string& log)
      : wanted_(wanted), group_(group), files_(group.files), peek_(group.files, log) {
    Result<Mapping> mapping = files_.map_group(group.index, Access::read_only, /*prefault=*/false);
    if (!mapping) throw Failure(static_cast<int>(mapping.error().code), mapping.error().text);
    mapping_ = std::move(*mapping);
    const layout::QueueConstants& constants = files_.constants();
    view_ = view_group(mapping_.data(), constants.words, static_cast<std::uint32_t>(constants.parks));
    mode_ = files_.group_slot(group.index).mode;
  }

  std::map<std::uint64_t, Waiting> look() {
    first_ = wanted_.seq.value_or(wanted_.from);
    look_at_table();
    look_at_store();
    if (!wanted_.seq.has_value() || !found_.contains(*wanted_.seq)) walk();
    while (found_.size() > count()) found_.erase(std::prev(found_.end()));
    fetch_parked();
    return std::move(found_);
  }

 private:
  std::uint64_t count() const { return wanted_.seq.has_value() ? 1 : wanted_.count; }
  bool is_wanted(std::uint64_t seq) const { return wanted_.seq.has_value() ? seq == *wanted_.seq : seq >= first_; }
  std::uint32_t pid_of(std::uint32_t seat) const {
    return seat < files_.constants().seats_max ? files_.seat_slot(seat).pid : 0;
  }

  // Stragglers, and what came back from a wait: in the park table.
  void look_at_table() {
    for (std::uint32_t index = 0; index < view_.parks_count; ++index) {
      const layout::ParkEntry& entry = view_.parks[index];
      const layout::ParkWord park = layout::read_park_word(A::load(entry.word, std::memory_order_acquire));
      Waiting waiting;
      switch (park.state) {
        case layout::ParkState::kReady: waiting.state = "ready"; break;
        case layout::ParkState::kLeased:
          waiting.state = "in_flight";
          waiting.pid = pid_of(park.owner);
          break;
        case layout::ParkState::kNacked: waiting.state = "failed"; break;
        default: continue;
      }
      const std::uint64_t seq = A::load(entry.seq, std::memory_order_relaxed);
      if (!is_wanted(seq)) continue;
      waiting.acquired = park.acquired;
      waiting.failed = park.failed;
      waiting.problem = "gone meanwhile";
      parked_.insert(seq);
      found_.insert_or_assign(seq, std::move(waiting));
    }
  }

  bool is_ours(std::uint32_t group, std::uint32_t generation) const {
    return group == group_.index && generation == group_.generation;
  }

  // What waits for its retry or its time, and dead letters where one is asked for.
  void look_at_store() {
    const auto wants = [this](u32 group, u32 generation, RecordState state) {
      return is_ours(group, generation) && (state == RecordState::kWaiting || state == RecordState::kHeld ||
                                            (state == RecordState::kDead && wanted_.seq.has_value()));
    };
    // A damaged file tells of what lies before the damage.
    static_cast<void>(each_parked(files_, wants, /*with_payload=*/false, [this](const ParkedMessage& message) {
      const layout::ParkRecord& record = message.record;
      if (!is_wanted(record.seq) || found_.contains(record.seq)) return true;
      Waiting waiting;
      const bool not_due = record.last_reason == static_cast<std::uint32_t>(layout::FailReason::kNotDue);
      waiting.state = message.word.state == RecordState::kDead ? "dead" : not_due ? "delayed" : "retry_wait";
      waiting.acquired = message.word.acquired;
      waiting.failed = message.word.failed;
      waiting.published_wall_ns = record.published_wall_ns;
      const std::uint64_t now = boottime_ns();
      if (message.word.state != RecordState::kDead) {
        waiting.due_in_ns = record.due_boottime_ns - std::min(now, record.due_boottime_ns);
      }
      waiting.problem = "gone meanwhile";
      if (message.word.state == RecordState::kHeld) {
        held_.insert_or_assign(record.seq, std::move(waiting));  // in its place in the window
      } else {
        parked_.insert(record.seq);
        found_.emplace(record.seq, std::move(waiting));
      }
      return true;
    }));
  }

  // How the group has the message in its window; nothing: settled, or in the park table or store.
  std::optional<Waiting> in_window(std::uint64_t seq) const {
    Waiting waiting;
    waiting.state = "ready";
    const std::uint64_t word = A::load(view_.word(seq), std::memory_order_acquire);
    const std::int64_t ahead = layout::word_laps_ahead(word, view_.lap(seq));
    const std::uint32_t acquired = layout::aux_acquired(layout::word_aux(word));
    if (mode_ == layout::GroupMode::kExclusive) {
      const bool shown = seq <= A::load(view_.head->shown, std::memory_order_acquire);
      waiting.acquired = shown ? 1 : 0;
      const std::uint32_t pid = consumer_pid();
      if (shown && pid != 0) {
        waiting.state = "in_flight";
        waiting.pid = pid;
      }
    }
    // Beyond the window the words are of other messages, and nobody has touched this one.
    const std::uint64_t base = A::load(view_.head->base, std::memory_order_acquire);
    if (!peek_.counts_positions() && seq >= base + view_.window()) return waiting;
    if (ahead < 0) return waiting;
    if (ahead > 0) return std::nullopt;
    switch (layout::word_kind(word)) {
      case layout::Kind::kAcked:
      case layout::Kind::kMoved: return std::nullopt;
      case layout::Kind::kLeased:
        waiting.state = "in_flight";
        waiting.acquired = acquired;
        if (mode_ == layout::GroupMode::kCompeting) waiting.pid = pid_of(layout::word_owner(word));
        break;
      case layout::Kind::kReady:
        waiting.state = "ready";
        waiting.acquired = acquired;
        waiting.pid = 0;
        break;
      case layout::Kind::kNacked:
        waiting.state = "failed";
        waiting.acquired = acquired;
        waiting.pid = 0;
        break;
      default: break;
    }
    if (const auto held = held_.find(seq); held != held_.end() && waiting.state != "in_flight") {
      const bool due = waiting.state == "ready";
      waiting = held->second;
      if (due) waiting.state = "ready";
    }
    return waiting;
  }

  std::uint32_t consumer_pid() const {
    for (std::uint32_t index = 1; index < files_.constants().seats_max; ++index) {
      const layout::SeatSlot& slot = files_.seat_slot(index);
      if (slot.group == group_.index &&
          layout::slot_life(A::load(slot.slot, std::memory_order_acquire)) == layout::SlotLife::kLive) {
        return slot.pid;
      }
    }
    return 0;
  }

  // From the cursor of the group on. Asked for by seq it may lie before that: settled, and perhaps still there.
  void walk() {
    MessagePeek::Place place = peek_.start_of(view_, mode_);
    if (!peek_.counts_positions()) {
      if (wanted_.seq.has_value()) {
        place.seq = *wanted_.seq;
      } else {
        place.seq = std::max(place.seq, first_);
      }
    }
    std::uint64_t last = 0;
    std::uint64_t restarts = 0;
    // Each step goes on by a message; what others publish meanwhile must not hold us for ever.
    for (std::uint64_t walked = 0, taken = 0; taken < count() && walked < kStepsMax; ++walked) {
      std::optional<Waiting> waiting;
      if (!peek_.counts_positions()) {
        waiting = at(place.seq);
        if (!waiting) {
          ++place.seq;
          continue;
        }
      }
      const std::uint64_t seq_before = place.seq;
      MessagePeek::Copy copy;
      const Result<Found> found = peek_.read(&place, &copy);
      if (found && *found == Found::kEnd) break;
      if (peek_.counts_positions()) {
        if (found && *found == Found::kGone) {  // the group went on, and its publisher: once more from there
          if (++restarts > kRestartsMax) {
            throw Failure(
                MOORING_ERR_CORRUPT,
                fmt::format("queue {}: its messages are overwritten faster than they can be looked at, or its "
                            "lane makes no sense; try again",
                            wanted_.queue));
          }
          place = peek_.start_of(view_, mode_);
          continue;
        }
        if (!found) throw Failure(static_cast<int>(found.error().code), found.error().text);
        if (wanted_.seq.has_value() && copy.seq > *wanted_.seq) break;
        if (!is_wanted(copy.seq) || copy.seq <= last) continue;
        waiting = at(copy.seq);
        if (!waiting) continue;
        last = copy.seq;
        restarts = 0;
        take(copy.seq, std::move(*waiting), std::move(copy));
        ++taken;
        continue;
      }
      if (found && *found == Found::kMessage) {
        take(seq_before, std::move(*waiting), std::move(copy));
      } else if (!found) {
        waiting->problem = found.error().text;
        waiting->damaged = true;
        found_.insert_or_assign(seq_before, std::move(*waiting));
        place.seq = seq_before + 1;
      } else {
        place.seq = seq_before + 1;
        // Settled and overwritten since we looked at its word?
        waiting = at(seq_before);
        if (!waiting) continue;
        waiting->problem = *found == Found::kLost ? "the log has lost it (it was salvaged)" : "gone meanwhile";
        found_.insert_or_assign(seq_before, std::move(*waiting));
      }
      ++taken;
    }
  }

  // How the group has `seq`, wherever the message is. Nothing: not to be shown.
  std::optional<Waiting> at(std::uint64_t seq) const {
    if (found_.contains(seq)) return std::nullopt;
    const bool behind = !peek_.counts_positions() && seq < peek_.start_of(view_, mode_).seq;
    std::optional<Waiting> waiting = behind ? std::nullopt : in_window(seq);
    if (!waiting && wanted_.seq.has_value()) {
      waiting.emplace();
      waiting->state = "acked";
    }
    return waiting;
  }

  void take(std::uint64_t seq, Waiting waiting, MessagePeek::Copy copy) {
    waiting.problem.clear();
    waiting.from = copy.from_log ? "log" : "memory";
    waiting.copy = std::move(copy);
    found_.insert_or_assign(seq, std::move(waiting));
  }

  // The payloads of what is parked: in the park file, or (stragglers of queues with a log) where they ever were.
  void fetch_parked() {
    std::erase_if(parked_, [this](std::uint64_t seq) { return !found_.contains(seq); });
    if (parked_.empty()) return;
    const auto wants = [this](u32 group, u32 generation, RecordState state) {
      return is_ours(group, generation) && (state == RecordState::kWaiting || state == RecordState::kStraggler ||
                                            (state == RecordState::kDead && wanted_.seq.has_value()));
    };
    const auto fetch = [this](const ParkedMessage& message) {
      if (!parked_.contains(message.record.seq)) return true;
      Waiting& waiting = found_.at(message.record.seq);
      MessagePeek::Copy copy;
      copy.seq = message.record.seq;
      copy.frame_flags = message.record.frame_flags;
      copy.bytes.assign(message.payload.begin(), message.payload.end());
      waiting.copy = std::move(copy);
      waiting.from = "park store";
      waiting.published_wall_ns = message.record.published_wall_ns;
      waiting.problem.clear();
      return true;
    };
    static_cast<void>(each_parked(files_, wants, /*with_payload=*/true, fetch));
    if (!layout::has_log(files_.constants())) return;
    for (const std::uint64_t seq : parked_) {
      Waiting& waiting = found_.at(seq);
      if (waiting.copy.has_value()) continue;
      MessagePeek::Place place{seq, 0};
      MessagePeek::Copy copy;
      const Result<Found> found = peek_.read(&place, &copy);
      if (found && *found == Found::kMessage) take(seq, waiting, std::move(copy));
    }
  }

  static constexpr std::uint64_t kStepsMax = std::uint64_t{1} << 32;
  static constexpr std::uint64_t kRestartsMax = 1000;  // without a message between

  const Peek& wanted_;
  const GroupFiles& group_;
  const QueueFiles& files_;
  MessagePeek peek_;
  Mapping mapping_;
  GroupView view_;
  layout::GroupMode mode_ = layout::GroupMode::kCompeting;
  std::uint64_t first_ = 0;
  std::map<std::uint64_t, Waiting> found_;
  std::map<std::uint64_t, Waiting> held_;
  std::set<std::uint64_t> parked_;
};

void print_json_of(const Peek& peek, std::uint64_t seq, const Waiting& waiting) {
  Json json = {{"queue", peek.queue},
               {"group", peek.group},
               {"seq", seq},
               {"state", waiting.state},
               {"acquired", waiting.acquired},
               {"failed", waiting.failed.has_value() ? Json(*waiting.failed) : Json()},
               {"pid", waiting.pid != 0 ? Json(waiting.pid) : Json()}};
  if (waiting.due_in_ns != 0) json["due_in_seconds"] = static_cast<double>(waiting.due_in_ns) / 1e9;
  if (waiting.published_wall_ns != 0) json["published"] = time_text(waiting.published_wall_ns);
  if (waiting.copy.has_value()) {
    json["from"] = waiting.from;
    add_content(json, *waiting.copy);
  } else {
    json["problem"] = waiting.problem;
  }
  print_json(json);
}

void print_line_of(const Peek& peek, std::uint64_t seq, const Waiting& waiting) {
  std::string state = waiting.state;
  if (waiting.pid != 0) state += fmt::format(" ({})", waiting.pid);
  if (waiting.due_in_ns != 0) state += fmt::format(" ({:.1f} s)", static_cast<double>(waiting.due_in_ns) / 1e9);
  const std::string size = waiting.copy.has_value() ? std::to_string(payload_of(*waiting.copy).size()) : "-";
  fmt::print("{:>12}  {:<20} {:>8} {:>9}  {:<24}  {}\n", seq, state, waiting.acquired, size,
             time_text(waiting.published_wall_ns),
             waiting.copy.has_value() ? payload_text(payload_of(*waiting.copy), peek.bytes) : waiting.problem);
  if (!peek.headers || !waiting.copy.has_value()) return;
  std::string lines = header_lines(*waiting.copy);
  for (std::size_t at = 0; at < lines.size();) {
    const std::size_t end = lines.find('\n', at);
    fmt::print("{:>12}  {}\n", "", lines.substr(at, end - at));
    at = end + 1;
  }
}

int run(const Peek& peek, const Context& context) {
  const InstanceFiles instance = open_instance_files(context);
  const GroupFiles group = open_group_files(instance, peek.queue, peek.group);
  const std::string log = log_directory(context, group.files, peek.queue);
  const std::map<std::uint64_t, Waiting> found = Window(peek, group, log).look();
  if (found.empty()) {
    if (!context.json) {
      if (peek.seq.has_value()) {
        std::fprintf(stderr, "mooring: queue %s has no message %llu that group %s has not settled; `mooring info %s`\n",
                     peek.queue.c_str(), static_cast<unsigned long long>(*peek.seq), peek.group.c_str(),
                     peek.queue.c_str());
      } else {
        std::fprintf(stderr, "mooring: nothing waits in group %s of queue %s\n", peek.group.c_str(),
                     peek.queue.c_str());
      }
    }
    return kExitNothing;
  }
  if (!context.json) {
    fmt::print("{:>12}  {:<20} {:>8} {:>9}  {:<24}  {}\n", "SEQ", "STATE", "ACQUIRED", "SIZE", "PUBLISHED", "PAYLOAD");
  }
  bool damaged = false;
  for (const auto& [seq, waiting] : found) {
    if (context.json) {
      print_json_of(peek, seq, waiting);
    } else {
      print_line_of(peek, seq, waiting);
    }
    damaged = damaged || waiting.damaged;
  }
  if (!damaged) return kExitOk;
  throw Failure(MOORING_ERR_CORRUPT,
                fmt::format("some messages of queue {} cannot be read; looked for its log in {} (MOORING_DATA names "
                            "another place); `mooring journal verify` says what is left of a damaged one",
                            peek.queue, log.empty() ? "no place, it has none" : log));
}

}  // namespace

void add_peek(CLI::App& app, Context& context) {
  auto peek = std::make_shared<Peek>();
  CLI::App* command = add_command(app, context, "peek",
                                  "show messages that wait in a group, without taking them; works with every process "
                                  "dead",
                                  "mooring peek orders --group billing --count 3 --headers",
                                  [peek, &context] { return run(*peek, context); });
  command->add_option("queue", peek->queue, "name")->required();
  command->add_option("--group", peek->group, "group in which they wait")->capture_default_str();
  CLI::Option* seq = command->add_option("--seq", peek->seq, "this message, whatever its state in the group");
  command->add_option("--from", peek->from, "only messages from this seq on")->excludes(seq);
  command->add_option("--count", peek->count, "at most so many")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000}))
      ->capture_default_str()
      ->excludes(seq);
  command->add_option("--bytes", peek->bytes, "of each payload at most so many, 0: all (--json: always all)")
      ->capture_default_str();
  command->add_flag("--headers", peek->headers, "print headers below each message (--json: always)");
}

}  // namespace mooring::cli
