#include "supervisor/durable_queues.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/kill_point.hpp"
#include "queue/control_protocol.hpp"
#include "segment/names.hpp"

namespace mooring {
namespace {

constexpr const char* kConfigName = "queue.json";
constexpr u64 kConfigBytesMax = 64 << 10;
constexpr u32 kConfigVersion = 1;

std::string hex_of(const journal::Uuid& uuid) {
  std::string text;
  for (const u8 byte : uuid) text += fmt::format("{:02x}", byte);
  return text;
}

std::optional<journal::Uuid> uuid_of(const std::string& hex) {
  journal::Uuid uuid{};
  if (hex.size() != 2 * uuid.size()) return std::nullopt;
  for (std::size_t i = 0; i < hex.size(); ++i) {
    const std::size_t digit = std::string_view("0123456789abcdef").find(hex[i]);
    if (digit == std::string_view::npos) return std::nullopt;
    uuid[i / 2] = static_cast<u8>((u64{uuid[i / 2]} << 4) | digit);
  }
  return uuid;
}

Status sync_directory(const File& directory) {
  if (::fsync(directory.fd()) != 0) return fail_errno(errno, "cannot sync " + path_text(directory));
  return {};
}

// The directory and those above it that are missing, each with its name on the disk before the next one is made: a log
// is worth nothing where a power cut takes the directory. What stands above is synced also when the directory is there:
// who made it may have been killed before.
Status make_durably(const std::string& path) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::absolute(path, error).lexically_normal();
  const std::filesystem::path directory = whole.has_filename() ? whole : whole.parent_path();
  const auto trouble = [&path](int number) {
    return fail_errno(number, "cannot make " + path + " for journals; name a place with MOORING_DATA");
  };
  if (error) return trouble(error.value());
  std::filesystem::path made = directory.root_path();
  for (const std::filesystem::path& name : directory.relative_path()) {
    const std::filesystem::path parent = made;
    made /= name;
    const bool is_last = made == directory;
    if (::mkdir(made.c_str(), is_last ? 0700 : 0777) == 0) {
      MOORING_KILL_POINT("durable.data_made");
    } else if (errno != EEXIST) {
      if (std::filesystem::is_directory(made, error)) continue;  // a read-only file system says so first
      return trouble(errno);
    } else if (!is_last) {
      continue;
    }
    // Not open_directory(): what stands above may be a link. What may not be read was there before us.
    const File above(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!above.is_open() && errno == EACCES) continue;
    if (!above.is_open()) return trouble(errno);
    if (::fsync(above.fd()) != 0 && errno != EINVAL) return trouble(errno);  // EINVAL: it has no such thing
  }
  return {};
}

// The directory of all journals may be gone through, not listed.
Status let_search(const File& directory) {
  struct stat info {};
  if (::fstat(directory.fd(), &info) == 0 && ::fchmod(directory.fd(), (info.st_mode & 07777U) | 0011U) == 0) return {};
  return fail_errno(errno, "cannot let readers of a queue into " + path_text(directory));
}

}  // namespace

Result<DurableQueues> DurableQueues::open(const std::string& path, bool create) {
  if (create) {
    if (Status made = make_durably(path); !made) return fail(made.error());
  }
  Result<File> directory = open_directory(path);
  if (!directory) return fail(directory.error());
  DurableQueues queues;
  queues.path_ = std::filesystem::absolute(path).lexically_normal().string();  // clients are told, wherever they stand
  queues.directory_ = std::move(*directory);
  return queues;
}

std::string DurableQueues::log_path(const std::string& queue) const {
  return path_ + "/" + queue_directory_name(queue);
}

Result<std::vector<std::string>> DurableQueues::adopt() {
  Result<std::vector<std::string>> names = list_directory(directory_);
  if (!names) return fail(names.error());
  std::vector<std::string> queues;
  for (const std::string& name : *names) {
    if (name.starts_with(".new-") || name.starts_with(".old-")) {
      if (Status removed = remove_tree(directory_, name); !removed) return fail(removed.error());
    } else if (name.starts_with(kQueueDirectoryPrefix)) {
      queues.push_back(name.substr(kQueueDirectoryPrefix.size()));
    }
  }
  return queues;
}

Result<DurableQueue> DurableQueues::read(const std::string& queue) const {
  Result<File> directory = open_directory_at(directory_, queue_directory_name(queue));
  if (!directory) return fail(directory.error());
  Result<std::string> text = read_whole_file(*directory, kConfigName, kConfigBytesMax);
  if (!text) return fail(text.error());
  const std::string where = log_path(queue) + "/" + kConfigName;
  const auto bad = [&where](const std::string& what) {
    return fail(Code::kCorrupt, fmt::format("{} is damaged: {}; restore it, or move the directory away", where, what));
  };
  const Json json = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object()) return bad("it is no JSON object");
  Result<u64> version = number_member(json, "version", 0, ~u32{0});
  if (!version) return bad(version.error().text);
  if (*version != kConfigVersion) {
    return fail(Code::kVersion,
                fmt::format("{} has version {}, this program knows version {}", where, *version, kConfigVersion));
  }
  Result<std::string> name = string_member(json, "name");
  if (!name || *name != queue) return bad("it is not of queue " + queue);
  Result<std::string> hex = string_member(json, "uuid");
  const auto uuid = hex ? uuid_of(*hex) : std::nullopt;
  if (!uuid.has_value()) return bad("its uuid is missing or no uuid");
  const auto member = json.find("options");
  if (member == json.end()) return bad("its options are missing");
  Result<QueueOptions> options = queue_options_from_json(*member);
  if (!options) return bad(options.error().text);
  if (options->durability != layout::Durability::kDurable && options->overflow != layout::Overflow::kSpill) {
    return bad("its options are of a volatile queue that does not spill");
  }
  return DurableQueue{queue, *uuid, *options};
}

Status DurableQueues::create(const DurableQueue& queue) const {
  const std::string name = queue_directory_name(queue.name);
  const std::string new_name = ".new-" + name;
  if (Status removed = remove_tree(directory_, new_name); !removed) return removed;
  // Searchable for whoever may read the log; with the group of the queue, which its files take from it (setgid).
  const mode_t readers = log_file_mode(queue.options) & 0044;
  const mode_t mode = 0700 | readers | (readers >> 2) | (queue.options.group_id.has_value() ? 02000U : 0U);
  if (Status made = make_directory(directory_, new_name, mode, queue.options.group_id.value_or(kAnyGroup)); !made) {
    return made;
  }
  if (readers != 0) {
    if (Status opened = let_search(directory_); !opened) return opened;
  }
  MOORING_KILL_POINT("durable.directory_made");
  Result<File> directory = open_directory_at(directory_, new_name);
  if (!directory) return fail(directory.error());
  const Json json = {{"version", kConfigVersion},
                     {"name", queue.name},
                     {"uuid", hex_of(queue.uuid)},
                     {"options", queue_options_to_json(queue.options)}};
  if (Status written = write_whole_file(*directory, kConfigName, json.dump(2) + "\n", 0600); !written) return written;
  if (Status synced = sync_directory(*directory); !synced) return synced;
  MOORING_KILL_POINT("durable.config_written");
  if (Status renamed = rename_in(directory_, new_name, name); !renamed) return renamed;
  MOORING_KILL_POINT("durable.renamed");
  return sync_directory(directory_);
}

Result<bool> DurableQueues::remove(const std::string& queue) const {
  const std::string name = queue_directory_name(queue);
  const std::string old_name = ".old-" + name;
  if (Status removed = remove_tree(directory_, old_name); !removed) return fail(removed.error());
  if (Status renamed = rename_in(directory_, name, old_name); !renamed) {
    if (renamed.error().code == Code::kNoSuchQueue) return false;
    return fail(renamed.error());
  }
  if (Status synced = sync_directory(directory_); !synced) return fail(synced.error());
  MOORING_KILL_POINT("durable.old");
  if (Status removed = remove_tree(directory_, old_name); !removed) return fail(removed.error());
  return true;
}

bool DurableQueues::outlives_power() const {
  struct statfs info {};
  if (::fstatfs(directory_.fd(), &info) != 0) return true;  // not known to be memory
  return info.f_type != TMPFS_MAGIC && info.f_type != RAMFS_MAGIC;
}

}  // namespace mooring
