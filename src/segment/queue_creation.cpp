// The supervisor's side of queue_files.hpp: files are made, grown and removed here.

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/atomics.hpp"
#include "base/kill_point.hpp"
#include "base/time.hpp"
#include "layout/words.hpp"
#include "platform/process.hpp"
#include "segment/checksum.hpp"
#include "segment/names.hpp"
#include "segment/queue_files.hpp"

namespace mooring {
namespace {

using layout::FileKind;
using layout::QueueConstants;

// Group and others may look names up and make none: a directory they filled could not be removed any more.
mode_t directory_mode(u32 file_mode) {
  mode_t mode = 0700;
  if ((file_mode & 0040) != 0) mode |= 0050;
  if ((file_mode & 0004) != 0) mode |= 0005;
  return mode;
}

// For what only the supervisor writes.
mode_t owner_written_mode(u32 file_mode) { return file_mode & ~mode_t{0022}; }

// One queue in the making, in its own directory.
struct Construction {
  const File& directory;
  const QueueConstants& constants;
  Uuid uuid;
  BootId boot_id;
};

// Every file is made like this: reserved, mapped, `fill`ed, and last of all its head.
template <class Fill>
Status make_file(const File& dir, const std::string& name, mode_t mode, const layout::FileHead& head, Fill&& fill) {
  const auto file = create_file(dir, name, mode, head.file_bytes);
  if (!file) return fail(file.error());
  MOORING_KILL_POINT("segment.make.reserved");
  const auto mapping = map_file(*file, Access::read_write, head.file_bytes, /*prefault=*/false);
  if (!mapping) return fail(mapping.error());
  fill(mapping->data());
  MOORING_KILL_POINT("segment.make.filled");
  write_file_head(*mapping, head);
  MOORING_KILL_POINT("segment.make.headed");
  return {};
}

constexpr auto kNothing = [](std::byte*) {};

// Relaxed throughout: nobody looks before the head (HEADED) or the rename.
Status make_order(const Construction& queue) {
  const QueueConstants& constants = queue.constants;
  const u64 file_bytes = layout::order_file_bytes(constants.cells);
  return make_file(queue.directory, std::string(kOrderFileName), constants.file_mode,
                   make_file_head(FileKind::kOrder, file_bytes, 0, queue.uuid, queue.boot_id), [&](std::byte* bytes) {
                     auto* cells = reinterpret_cast<u64*>(bytes + layout::kOrderCellsOffset);
                     const unsigned log2 = log2_of_power(constants.cells);
                     // Free is the lap before the next position of the cell, which need not be a zero.
                     for (u64 seq = constants.first_seq; seq < constants.first_seq + constants.cells; ++seq) {
                       HardwareAtomics::store(cells[seq & (constants.cells - 1)],
                                              layout::make_cell((seq >> log2) - 1, 0, 0), std::memory_order_relaxed);
                     }
                     HardwareAtomics::store(reinterpret_cast<layout::OrderHead*>(bytes)->tail, constants.first_seq,
                                            std::memory_order_relaxed);
                   });
}

Status make_wake(const Construction& queue) {
  const u64 file_bytes = layout::wake_file_bytes(queue.constants.groups_max);
  return make_file(queue.directory, std::string(kWakeFileName), queue.constants.file_mode,
                   make_file_head(FileKind::kWake, file_bytes, 0, queue.uuid, queue.boot_id), kNothing);
}

Status make_ctl(const Construction& queue) {
  QueueConstants constants = queue.constants;
  constants.created_wall_ns = wall_ns();
  constants.check = checksum(&constants, offsetof(QueueConstants, check));
  const u64 file_bytes = layout::ctl_file_bytes(constants.groups_max, constants.lanes_max, constants.seats_max);
  return make_file(queue.directory, std::string(kCtlFileName), owner_written_mode(constants.file_mode),
                   make_file_head(FileKind::kCtl, file_bytes, 0, queue.uuid, queue.boot_id), [&](std::byte* bytes) {
                     auto* ctl = reinterpret_cast<layout::CtlHead*>(bytes);
                     HardwareAtomics::copy_in(&ctl->constants, &constants, sizeof constants);
                     HardwareAtomics::store(ctl->state.life, static_cast<u64>(layout::QueueLife::kOpen),
                                            std::memory_order_relaxed);
                   });
}

Status fill_directory(const Construction& queue) {
  // Files come one by one later; whether there is room for a queue that works is a question for now.
  const std::string reserve = "reserve";
  if (auto room = create_file(queue.directory, reserve, 0600, queue_bytes(queue.constants)); !room) {
    return fail(room.error());
  }
  MOORING_KILL_POINT("segment.create.reserved");
  if (auto removed = remove_tree(queue.directory, reserve); !removed) return removed;
  MOORING_KILL_POINT("segment.create.released");
  if (queue.constants.cells != 0) {
    if (auto made = make_order(queue); !made) return made;
  }
  if (auto made = make_wake(queue); !made) return made;
  return make_ctl(queue);
}

// Out of sight in one step, then gone in many.
Status retire(const File& shared_directory, const std::string& name) {
  const std::string old_name = ".old-" + name;
  if (auto removed = remove_tree(shared_directory, old_name); !removed) return removed;
  if (auto renamed = rename_in(shared_directory, name, old_name); !renamed) return renamed;
  MOORING_KILL_POINT("segment.remove.renamed");
  return remove_tree(shared_directory, old_name);
}

// Tells who is attached. Not done, and not needed, where ctl is no ctl of this boot and layout.
void mark_removed(const File& directory, const BootId& boot_id) {
  const std::string where = path_text(directory, kCtlFileName);
  const auto ctl = open_file(directory, std::string(kCtlFileName), Access::read_write, ::geteuid());
  if (!ctl) return;
  layout::FileHead head{};
  const auto size_bytes = file_size(*ctl);
  if (!size_bytes || *size_bytes < sizeof(layout::CtlHead)) return;
  if (!read_first_bytes(*ctl, &head, sizeof head, where)) return;
  if (!check_file_head(head, FileKind::kCtl, *size_bytes, 0, nullptr, boot_id, where)) return;
  const auto mapping = map_file(*ctl, Access::read_write, sizeof(layout::CtlHead), /*prefault=*/true);
  if (!mapping) return;
  // REMOVED: release; who sees it takes the files for gone.
  HardwareAtomics::store(reinterpret_cast<layout::CtlHead*>(mapping->data())->state.life,
                         static_cast<u64>(layout::QueueLife::kRemoved), std::memory_order_release);
}

// Why a queue is of no use to anybody on this boot with this program; empty if it may be.
std::string stale_reason(const File& shared_directory, const std::string& name, uid_t owner, const BootId& boot_id) {
  const auto directory = open_directory_at(shared_directory, name, owner);
  if (!directory) return {};
  const auto ctl = open_file(*directory, std::string(kCtlFileName), Access::read_only, owner);
  if (!ctl) return {};
  layout::FileHead head{};
  const std::string where = path_text(*directory, kCtlFileName);
  if (!read_first_bytes(*ctl, &head, sizeof head, where) || head.magic != layout::kMagic) return {};
  if (head.layout_version != layout::kLayoutVersion) {
    return "made with layout version " + std::to_string(head.layout_version) + ", this is version " +
           std::to_string(layout::kLayoutVersion);
  }
  BootId made_on{};
  std::copy(std::begin(head.boot_id), std::end(head.boot_id), made_on.begin());
  if (!check_file_head(head, FileKind::kCtl, head.file_bytes, 0, nullptr, made_on, where)) return {};
  if (made_on != boot_id) return "made on another boot";
  const auto size_bytes = file_size(*ctl);
  if (!size_bytes || *size_bytes < sizeof(layout::CtlHead)) return {};
  const auto mapping = map_file(*ctl, Access::read_only, sizeof(layout::CtlHead), /*prefault=*/true);
  if (!mapping) return {};
  // REMOVED: acquire, with the release in mark_removed.
  const u64 life = HardwareAtomics::load(reinterpret_cast<const layout::CtlHead*>(mapping->data())->state.life,
                                         std::memory_order_acquire);
  return life == static_cast<u64>(layout::QueueLife::kRemoved) ? "half removed" : "";
}

}  // namespace

Status create_queue(const File& shared_directory, const QueueConstants& constants, const std::optional<u32>& group_id) {
  if (auto good = check_constants(constants, "the plan of the queue"); !good) {
    return fail(Code::kBadArgument, good.error().text);
  }
  const std::string name = queue_directory_name(constants.name);
  const std::string new_name = ".new-" + name;
  const auto fail_exists = [&] {
    return fail(Code::kExists, "queue " + std::string(constants.name) + " exists already in " +
                                   path_text(shared_directory) + "; attach to it, or remove it first");
  };
  const auto uuid = random_uuid();
  if (!uuid) return fail(uuid.error());
  const auto boot = boot_id();
  if (!boot) return fail(boot.error());
  // The rename below decides; this saves the work.
  if (open_directory_at(shared_directory, name)) return fail_exists();

  if (auto removed = remove_tree(shared_directory, new_name); !removed) return removed;
  MOORING_KILL_POINT("segment.create.begun");
  const mode_t set_group_id = group_id ? 02000 : 0;
  Status done = make_directory(shared_directory, new_name, directory_mode(constants.file_mode) | set_group_id,
                               group_id.value_or(kAnyGroup));
  if (done) {
    MOORING_KILL_POINT("segment.create.directory");
    const auto directory = open_directory_at(shared_directory, new_name, ::geteuid());
    done = directory ? fill_directory({*directory, constants, *uuid, *boot}) : Status(fail(directory.error()));
  }
  if (done) {
    MOORING_KILL_POINT("segment.create.filled");
    done = rename_in(shared_directory, new_name, name);
    if (!done && done.error().code == Code::kExists) done = fail_exists();
  }
  if (!done) {
    // The first error is the one to tell; remove_stale takes what is left.
    static_cast<void>(remove_tree(shared_directory, new_name));
    return done;
  }
  MOORING_KILL_POINT("segment.create.renamed");
  return {};
}

Status remove_queue(const File& shared_directory, std::string_view queue) {
  if (auto good = check_name("queue", queue); !good) return good;
  const std::string name = queue_directory_name(queue);
  const auto boot = boot_id();
  if (!boot) return fail(boot.error());
  {
    const auto directory = open_directory_at(shared_directory, name, ::geteuid());
    if (!directory) {
      if (directory.error().code != Code::kNoSuchQueue) return fail(directory.error());
      return fail(Code::kNoSuchQueue,
                  "no queue " + std::string(queue) + " in " + path_text(shared_directory) + ": nothing to remove");
    }
    mark_removed(*directory, *boot);
  }
  MOORING_KILL_POINT("segment.remove.marked");
  if (auto retired = retire(shared_directory, name); !retired) return retired;
  MOORING_KILL_POINT("segment.remove.done");
  return {};
}

Status make_group_file(const QueueFiles& queue, u32 index, u64 first_seq) {
  const QueueConstants& constants = queue.constants();
  if (index >= constants.groups_max) {
    return fail(Code::kBadArgument, queue.where() + " has no group " + std::to_string(index));
  }
  const std::string name = group_file_name(index);
  if (auto removed = remove_tree(queue.directory(), name); !removed) return removed;
  const u64 file_bytes = layout::group_file_bytes(constants.words, constants.parks);
  return make_file(
      queue.directory(), name, constants.file_mode,
      make_file_head(FileKind::kGroup, file_bytes, index, queue.uuid(), queue.boot_id_), [&](std::byte* bytes) {
        // base stays 0, which pins every release mark; park entries stay 0, which is kFree.
        auto* group = reinterpret_cast<layout::GroupHead*>(bytes);
        HardwareAtomics::store(group->hint, first_seq, std::memory_order_relaxed);
        HardwareAtomics::store(group->back, layout::make_back(0, layout::kBackNone), std::memory_order_relaxed);
      });
}

Status make_lane_file(const QueueFiles& queue, u32 index) {
  const QueueConstants& constants = queue.constants();
  if (index >= constants.lanes_max) {
    return fail(Code::kBadArgument, queue.where() + " has no lane " + std::to_string(index));
  }
  const std::string name = lane_file_name(index);
  if (auto removed = remove_tree(queue.directory(), name); !removed) return removed;
  const u64 file_bytes = layout::lane_file_bytes(constants.lane_bytes);
  return make_file(queue.directory(), name, constants.file_mode,
                   make_file_head(FileKind::kLane, file_bytes, index, queue.uuid(), queue.boot_id_), kNothing);
}

Status make_seat_file(const QueueFiles& queue, u32 index) {
  const QueueConstants& constants = queue.constants();
  if (index >= constants.seats_max) {
    return fail(Code::kBadArgument, queue.where() + " has no seat " + std::to_string(index));
  }
  const std::string name = seat_file_name(index);
  if (auto removed = remove_tree(queue.directory(), name); !removed) return removed;
  return make_file(queue.directory(), name, constants.file_mode,
                   make_file_head(FileKind::kSeat, layout::kSeatFileBytes, index, queue.uuid(), queue.boot_id_),
                   kNothing);
}

Result<u64> grow_park_file(const QueueFiles& queue, u64 bytes) {
  const QueueConstants& constants = queue.constants();
  const std::string name(kParkFileName);
  const auto mapping = queue.map_park(Access::read_write);
  if (!mapping) return fail(mapping.error());
  if (mapping->size_bytes() == 0) {
    const auto head = make_file_head(FileKind::kPark, layout::kParkStepBytes, 0, queue.uuid(), queue.boot_id_);
    // Under another name first: unlike the other files it is looked for while nobody has been told of it.
    const std::string new_name = ".new-" + name;
    if (auto removed = remove_tree(queue.directory(), new_name); !removed) return fail(removed.error());
    if (auto made = make_file(queue.directory(), new_name, owner_written_mode(constants.file_mode), head, kNothing);
        !made) {
      return fail(made.error());
    }
    if (auto renamed = rename_in(queue.directory(), new_name, name); !renamed) return fail(renamed.error());
    return layout::kParkStepBytes;
  }
  const u64 size_bytes = bytes == 0 ? mapping->size_bytes() + layout::kParkStepBytes
                                    : std::max(align_up(bytes, layout::kParkStepBytes), mapping->size_bytes());
  if (size_bytes > constants.park_store_bytes) {
    return fail(Code::kDiskFull, path_text(queue.directory(), name) + " is at its bound of " +
                                     std::to_string(constants.park_store_bytes) +
                                     " bytes: consumers that hold messages for long must settle them");
  }
  const auto file = open_file(queue.directory(), name, Access::read_write, queue.owner_);
  if (!file) return fail(file.error());
  if (auto grown = grow_file(*file, size_bytes); !grown) return fail(grown.error());
  MOORING_KILL_POINT("segment.park.grown");
  return size_bytes;
}

Status remove_stale(const File& shared_directory, uid_t owner, std::vector<std::string>* removed) {
  const auto boot = boot_id();
  if (!boot) return fail(boot.error());
  const auto names = list_directory(shared_directory);
  if (!names) return fail(names.error());
  Status outcome;
  // One that cannot be removed keeps no other from being removed; the first error is told.
  const auto account = [&](const std::string& name, const std::string& reason, Status done) {
    if (!done) {
      if (outcome) outcome = std::move(done);
    } else if (removed != nullptr) {
      removed->push_back(path_text(shared_directory, name) + ": " + reason);
    }
  };
  for (const std::string& name : *names) {
    if (name.starts_with(".new-")) {
      account(name, "half made", remove_tree(shared_directory, name));
    } else if (name.starts_with(".old-")) {
      account(name, "half removed", remove_tree(shared_directory, name));
    } else if (name == kBellFileName) {
      const auto bell = map_bell(shared_directory, owner);
      if (!bell && (bell.error().code == Code::kCorrupt || bell.error().code == Code::kVersion)) {
        account(name, "of another boot or layout", remove_tree(shared_directory, name));
      }
    } else if (name.starts_with(kQueueDirectoryPrefix)) {
      const std::string reason = stale_reason(shared_directory, name, owner, *boot);
      if (!reason.empty()) account(name, reason, retire(shared_directory, name));
    }
  }
  return outcome;
}

}  // namespace mooring
