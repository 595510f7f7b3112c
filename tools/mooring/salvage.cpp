// mooring journal salvage: what can still be read of a damaged log becomes the log; says what is lost, deletes nothing.
//
// Only for logs that mooringd refuses (recovery rows D and E), and only while nobody serves them: the lock of the
// directory is held meanwhile. Interrupted, it is begun again by the next call: the old files count until the new
// segment is whole.
//
// Exit status: 0 nothing to do, or nothing was lost; 1 salvaged, and messages are lost (listed); 2 refused or failed,
// nothing was changed.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "inspect.hpp"
#include "journal/posix_disk.hpp"
#include "journal/recovery.hpp"
#include "segment/queue_plan.hpp"

namespace mooring::cli {
namespace {

constexpr int kExitLost = 1;
constexpr int kExitRefused = 2;

int refuse(const Context& context, Code code, const std::string& text) {
  if (context.json) print_json({{"error", static_cast<int>(code)}, {"text", text}});
  std::cerr << "mooring: " << text << '\n';
  return kExitRefused;
}

// As queue.json has it; where there is none, as the log itself says.
std::optional<journal::Uuid> uuid_of(const std::string& directory, const journal::LogScan& scan) {
  journal::Uuid uuid = scan.uuid;
  std::ifstream file(directory + "/queue.json");
  const Json config = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (config.is_object() && config.contains("uuid") && config["uuid"].is_string()) {
    const std::string hex = config["uuid"];
    for (std::size_t i = 0; i < uuid.size() && hex.size() == 2 * uuid.size(); ++i) {
      uuid[i] = static_cast<u8>(std::strtoul(hex.substr(2 * i, 2).c_str(), nullptr, 16));
    }
  }
  if (uuid == journal::Uuid{}) return std::nullopt;
  return uuid;
}

// Shared memory that survived goes on where it is, damaged log or not; a salvaged one would not be its log any more.
bool memory_survives(const Context& context, const std::string& directory, const journal::Uuid& uuid) {
  const std::string name = std::filesystem::path(directory).lexically_normal().filename().string();
  if (!name.starts_with("q-")) return false;
  try {
    const InstanceFiles instance = open_instance_files(context);
    QueueFiles::AttachOptions options;
    options.prefault = false;
    const auto files = QueueFiles::attach(instance.shared_directory, instance.owner, name.substr(2), options);
    return files && std::ranges::equal(uuid, files->constants().log_uuid);
  } catch (const Failure&) {
    return false;  // no instance here
  }
}

int salvage(const Context& context, std::string directory) {
  while (directory.size() > 1 && directory.ends_with('/')) directory.pop_back();
  auto disk = journal::PosixDisk::open(directory, {.use_uring = false});
  if (!disk) return refuse(context, disk.error().code, disk.error().text);
  if (auto locked = (*disk)->lock_directory(0); !locked) {
    return refuse(context, locked.error().code,
                  fmt::format("{} is in use: a supervisor serves this queue, or another salvage runs; stop it first "
                              "(mooring shutdown). Nothing was changed",
                              directory));
  }
  journal::LogVisitor nobody;
  const auto scanned = journal::scan_log(**disk, {}, nobody);
  if (!scanned) return refuse(context, scanned.error().code, scanned.error().text);
  const journal::RecoveryRow row = journal::decide(scanned->facts);
  const std::string row_name(1, static_cast<char>(row));
  if (journal::goes_on(row)) {
    if (context.json) {
      print_json({{"row", row_name}, {"text", journal::row_text(row)}, {"salvaged", false}, {"lost", Json::array()}});
    } else {
      fmt::print("nothing to salvage: row {}, {}; nothing was changed\n", row_name, journal::row_text(row));
    }
    return kExitOk;
  }
  const auto uuid = uuid_of(directory, *scanned);
  if (!uuid.has_value()) {
    return refuse(
        context, Code::kCorrupt,
        fmt::format("{}: no segment and no queue.json says whose log this is; restore one of them", directory));
  }
  if (memory_survives(context, directory, *uuid)) {
    return refuse(context, Code::kExists,
                  fmt::format("the queue of {} is still in shared memory: start mooringd, it goes on from there and "
                              "loses nothing. Nothing was changed",
                              directory));
  }
  journal::LogOptions options;
  options.uuid = *uuid;
  options.message_bytes_max = kMessageBytesMax;
  options.segment_bytes = options.small_segment_bytes;  // the next supervisor makes its own
  const auto log = journal::open_log(**disk, options, nobody, {.salvage = true});
  if (!log) return refuse(context, log.error().code, log.error().text);
  const journal::Recovered& recovered = log->recovered;
  Json lost = Json::array();
  for (const journal::LostRange& range : recovered.lost) {
    lost.push_back({{"from_log_pos", range.from_log_pos},
                    {"to_log_pos", range.to_log_pos},
                    {"from_seq", range.from_seq},
                    {"to_seq", range.to_seq}});
  }
  if (context.json) {
    print_json({{"row", row_name},
                {"text", journal::row_text(row)},
                {"salvaged", true},
                {"messages", recovered.messages},
                {"first_seq", recovered.first_seq},
                {"next_seq", recovered.next_seq},
                {"groups", recovered.state.groups.size()},
                {"lost", lost},
                {"quarantined", recovered.quarantined}});
  } else {
    for (const journal::LostRange& range : recovered.lost) {
      fmt::print("lost: log position {} to {}, seq {} to {} (0: not known)\n", range.from_log_pos, range.to_log_pos,
                 range.from_seq, range.to_seq);
    }
    for (const std::string& name : recovered.quarantined) fmt::print("kept aside: {}/{}\n", directory, name);
    fmt::print("salvaged: {} messages, seq {} to {}, {} groups\n", recovered.messages, recovered.first_seq,
               recovered.next_seq, recovered.state.groups.size());
  }
  return recovered.lost.empty() ? kExitOk : kExitLost;
}

}  // namespace

void add_journal_salvage(CLI::App& journal, Context& context) {
  auto directory = std::make_shared<std::string>();
  CLI::App* command = add_command(journal, context, "salvage",
                                  "make a log of what can still be read of a damaged one; says what is lost, and "
                                  "deletes nothing",
                                  "mooring journal salvage /var/lib/mooring/q-orders",
                                  [&context, directory] { return salvage(context, *directory); });
  command->add_option("DIR", *directory, "directory of the log; its queue must not be served")->required();
}

}  // namespace mooring::cli
