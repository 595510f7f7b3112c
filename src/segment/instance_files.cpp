// The instance's side of queue_files.hpp: the directory in shared memory, the bell, and which queues there are.

#include <unistd.h>

#include <filesystem>

#include "layout/wake.hpp"
#include "platform/process.hpp"
#include "segment/names.hpp"
#include "segment/queue_files.hpp"

namespace mooring {
namespace {

// The bell itself is at fault, and not, say, this process without memory.
bool is_useless(const Error& error) {
  return error.code == Code::kNoSuchQueue || error.code == Code::kCorrupt || error.code == Code::kVersion ||
         error.code == Code::kPermission;
}

}  // namespace

Result<File> open_shared_directory(const std::string& path, uid_t owner, bool create) {
  const std::filesystem::path whole(path);
  const auto parent = open_directory(whole.parent_path().string());
  if (!parent) return fail(parent.error());
  const std::string name = whole.filename().string();
  if (create) {
    if (::geteuid() != owner) {
      return fail(Code::kPermission, "the instance belongs to user " + std::to_string(owner) +
                                         ": run its supervisor as that user, not as user " +
                                         std::to_string(::geteuid()));
    }
    // 0711: users who may open a queue reach it by its name, and nobody else can list.
    if (auto made = make_directory(*parent, name, 0711); !made) return fail(made.error());
  }
  auto directory = open_directory_at(*parent, name, owner);
  if (!directory && directory.error().code == Code::kNoSuchQueue) {
    return fail(Code::kNoSupervisor, path + " does not exist: no supervisor has run for this instance since the host " +
                                         "was started; start one (mooringd)");
  }
  return directory;
}

Status make_bell(const File& shared_directory, const Uuid& instance_uuid, u32 file_mode) {
  const auto former_bell = map_bell(shared_directory, ::geteuid());
  if (former_bell) return {};
  if (!is_useless(former_bell.error())) return fail(former_bell.error());
  const auto boot = boot_id();
  if (!boot) return fail(boot.error());
  const std::string name(kBellFileName);
  const std::string new_name = ".new-" + name;
  for (const std::string& in_the_way : {name, new_name}) {
    if (auto removed = remove_tree(shared_directory, in_the_way); !removed) return removed;
  }
  const auto file = create_file(shared_directory, new_name, file_mode, layout::kBellFileBytes);
  if (!file) return fail(file.error());
  const auto mapping = map_file(*file, Access::read_write, layout::kBellFileBytes, /*prefault=*/true);
  if (!mapping) return fail(mapping.error());
  write_file_head(*mapping, make_file_head(layout::FileKind::kBell, layout::kBellFileBytes, 0, instance_uuid, *boot));
  return rename_in(shared_directory, new_name, name);
}

Result<Mapping> map_bell(const File& shared_directory, uid_t owner) {
  const auto boot = boot_id();
  if (!boot) return fail(boot.error());
  return map_checked_file(shared_directory, std::string(kBellFileName),
                          {layout::FileKind::kBell, layout::kBellFileBytes, 0, nullptr, *boot, owner},
                          Access::read_write, /*prefault=*/true);
}

Result<std::vector<std::string>> list_queues(const File& shared_directory) {
  auto names = list_directory(shared_directory);
  if (!names) return names;
  std::vector<std::string> queues;
  for (const std::string& name : *names) {
    if (!name.starts_with(kQueueDirectoryPrefix)) continue;
    std::string queue = name.substr(kQueueDirectoryPrefix.size());
    if (check_name("queue", queue)) queues.push_back(std::move(queue));
  }
  return queues;
}

}  // namespace mooring
