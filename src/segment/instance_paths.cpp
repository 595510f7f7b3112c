#include "segment/instance_paths.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "segment/checksum.hpp"

namespace mooring {
namespace {

namespace fs = std::filesystem;

struct Wanted {
  std::string path;
  mode_t mode = 0700;
  bool in_tmp = false;  // where anybody could have taken the name first
  bool by_default = false;
};

// A set-user-id host must not be led elsewhere by its caller's environment.
std::string variable(const char* name) {
  const char* value = ::secure_getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

Wanted choose(std::string_view path) {
  if (!path.empty()) return {std::string(path)};
  if (std::string named = variable("MOORING_INSTANCE"); !named.empty()) return {std::move(named)};
  if (::geteuid() == 0) return {"/run/mooring", 0755, false, true};
  // Relative paths there are to be ignored (XDG Base Directory Specification).
  if (std::string runtime = variable("XDG_RUNTIME_DIR"); runtime.starts_with('/'))
    return {runtime + "/mooring", 0700, false, true};
  return {"/tmp/mooring-" + std::to_string(::geteuid()), 0700, true, true};
}

// Default instances lie where nothing outlives a reboot; what is durable does not.
std::string choose_data(const Wanted& wanted, const std::string& instance) {
  if (std::string named = variable("MOORING_DATA"); !named.empty()) return named;
  if (wanted.by_default) {
    if (::geteuid() == 0) return "/var/lib/mooring";
    if (std::string state = variable("XDG_STATE_HOME"); state.starts_with('/')) return state + "/mooring";
    if (std::string home = variable("HOME"); home.starts_with('/')) return home + "/.local/state/mooring";
  }
  return instance + "/data";
}

tl::unexpected<Error> fail_missing(const std::string& path) {
  return fail(Code::kNoSupervisor, "no instance at " + path + ": start a supervisor there (mooringd --instance " +
                                       path + "), or name another one with MOORING_INSTANCE");
}

struct Opened {
  File directory;
  std::string path;  // without any symbolic link in it
};

Result<Opened> open_wanted(const Wanted& wanted, bool create) {
  std::error_code error;
  fs::path path(wanted.path);
  if (!path.has_filename()) path = path.parent_path();  // "a/b/" is a/b.
  if (!wanted.in_tmp) {
    const fs::path canonical = fs::canonical(path, error);
    if (!error) {
      auto dir = open_directory(canonical.string());
      if (!dir) return fail(dir.error());
      return Opened{std::move(*dir), canonical.string()};
    }
    if (error != std::errc::no_such_file_or_directory) {
      return fail_errno(error.value(), "cannot use the instance directory " + wanted.path);
    }
    if (!create) return fail_missing(wanted.path);
  }
  const fs::path parent = fs::canonical(path.has_parent_path() ? path.parent_path() : fs::path("."), error);
  if (error) return fail_errno(error.value(), "cannot make the instance directory " + wanted.path + " in its parent");
  const auto parent_file = open_directory(parent.string());
  if (!parent_file) return fail(parent_file.error());
  const std::string name = path.filename().string();
  if (create) {
    if (auto made = make_directory(*parent_file, name, wanted.mode); !made) return fail(made.error());
  }
  auto dir = open_directory_at(*parent_file, name, ::geteuid());
  if (!dir && dir.error().code == Code::kNoSuchQueue) return fail_missing(wanted.path);
  if (!dir) return fail(dir.error());
  return Opened{std::move(*dir), (parent / name).string()};
}

std::string hex(u64 value) {
  std::string digits;
  for (int shift = 60; shift >= 0; shift -= 4) digits += "0123456789abcdef"[(value >> shift) & 15];
  return digits;
}

}  // namespace

Result<InstancePaths> resolve_instance(std::string_view path, bool create) {
  const Wanted wanted = choose(path);
  const auto opened = open_wanted(wanted, create);
  if (!opened) return fail(opened.error());
  struct stat info {};
  if (::fstat(opened->directory.fd(), &info) != 0) return fail_errno(errno, "cannot look at " + wanted.path);

  std::string root = variable("MOORING_SHM_ROOT");
  if (root.empty()) root = "/dev/shm";
  std::error_code error;
  const fs::path canonical_root = fs::canonical(root, error);
  if (error) {
    return fail_errno(error.value(), "cannot use " + root +
                                         " for shared memory (it needs a tmpfs at /dev/shm, or "
                                         "MOORING_SHM_ROOT)");
  }

  InstancePaths paths;
  paths.directory = opened->path;
  paths.owner = info.st_uid;
  paths.data_directory = choose_data(wanted, paths.directory);
  paths.shared_directory = canonical_root.string() + "/mooring-" + std::to_string(info.st_uid) + "-" +
                           hex(checksum(paths.directory.data(), paths.directory.size()));
  return paths;
}

}  // namespace mooring
