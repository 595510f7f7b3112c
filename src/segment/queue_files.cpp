#include "segment/queue_files.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/atomics.hpp"
#include "base/check.hpp"
#include "platform/process.hpp"
#include "segment/checksum.hpp"
#include "segment/names.hpp"

namespace mooring {
namespace {

using layout::FileKind;

// What of ctl never changes, in one piece from its first byte on.
struct CtlBeginning {
  layout::FileHead head;
  layout::QueueConstants constants;
};
static_assert(offsetof(CtlBeginning, constants) == offsetof(layout::CtlHead, constants));

std::string octal(u32 mode) {
  char digits[16];
  std::snprintf(digits, sizeof digits, "%04o", mode);
  return digits;
}

tl::unexpected<Error> fail_no_queue(const std::string& queue, const std::string& text) {
  return fail(Code::kNoSuchQueue,
              "no queue " + queue + " (" + text + "); create it first (mooring create " + queue + ")");
}

tl::unexpected<Error> fail_index(const std::string& where, const char* what, u32 index, u32 max) {
  return fail(Code::kBadArgument, where + " has no " + what + " " + std::to_string(index) + "; there are " +
                                      std::to_string(max) + ", from 0");
}

u64 life_of(const Mapping& ctl) {
  // REMOVED: acquire, with the release of the supervisor that marks the queue.
  return HardwareAtomics::load(reinterpret_cast<const layout::CtlHead*>(ctl.data())->state.life,
                               std::memory_order_acquire);
}

Status check_ctl(const CtlBeginning& ctl, u64 file_bytes, std::string_view queue, const BootId& boot_id,
                 const std::string& where) {
  if (auto good = check_file_head(ctl.head, FileKind::kCtl, file_bytes, 0, nullptr, boot_id, where); !good) return good;
  const layout::QueueConstants& constants = ctl.constants;
  const auto damaged = [&where](const std::string& what) {
    return fail(Code::kCorrupt, where + " is damaged: " + what + "; remove the queue and create it again");
  };
  if (constants.check != checksum(&constants, offsetof(layout::QueueConstants, check))) {
    return damaged("the checksum of its constants is wrong");
  }
  if (auto good = check_constants(constants, where); !good) return good;
  // Nothing below can overflow: every factor is in range.
  if (queue != std::string_view(constants.name)) {
    return damaged("it is of queue " + std::string(constants.name));
  }
  const u64 right_bytes = layout::ctl_file_bytes(constants.groups_max, constants.lanes_max, constants.seats_max);
  if (file_bytes != right_bytes) {
    return damaged("it has " + std::to_string(file_bytes) + " bytes, " + std::to_string(right_bytes) + " are right");
  }
  return {};
}

}  // namespace

Result<QueueFiles> QueueFiles::attach(const File& shared_directory, uid_t owner, std::string_view queue,
                                      const AttachOptions& options) {
  if (auto good = check_name("queue", queue); !good) return fail(good.error());
  const std::string name(queue);
  const auto boot = boot_id();
  if (!boot) return fail(boot.error());

  QueueFiles files;
  files.owner_ = owner;
  files.boot_id_ = *boot;
  auto directory = open_directory_at(shared_directory, queue_directory_name(queue), owner);
  if (!directory) {
    if (directory.error().code == Code::kNoSuchQueue) return fail_no_queue(name, directory.error().text);
    return fail(directory.error());
  }
  files.directory_ = std::move(*directory);
  files.where_ = path_text(files.directory_);

  const Access ctl_access = options.as_supervisor ? Access::read_write : Access::read_only;
  const std::string ctl_where = files.where_ + "/" + std::string(kCtlFileName);
  const auto ctl = open_file(files.directory_, std::string(kCtlFileName), ctl_access, owner);
  if (!ctl) {
    if (ctl.error().code == Code::kNoSuchQueue) return fail_no_queue(name, ctl.error().text);
    return fail(ctl.error());
  }
  CtlBeginning beginning{};
  if (auto read = read_first_bytes(*ctl, &beginning, sizeof beginning, ctl_where); !read) return fail(read.error());
  const auto ctl_bytes = file_size(*ctl);
  if (!ctl_bytes) return fail(ctl_bytes.error());
  if (auto good = check_ctl(beginning, *ctl_bytes, queue, *boot, ctl_where); !good) return fail(good.error());
  files.constants_ = beginning.constants;
  std::copy(std::begin(beginning.head.queue_uuid), std::end(beginning.head.queue_uuid), files.uuid_.begin());

  auto mapping = map_file(*ctl, ctl_access, *ctl_bytes, /*prefault=*/true);
  if (!mapping) return fail(mapping.error());
  files.ctl_ = std::move(*mapping);
  const auto refuse_life = [&]() -> Status {
    const u64 life = life_of(files.ctl_);
    if (life == static_cast<u64>(layout::QueueLife::kRemoved)) return fail_no_queue(name, "it is being removed");
    if (life != static_cast<u64>(layout::QueueLife::kOpen) && life != static_cast<u64>(layout::QueueLife::kFailed)) {
      return fail(Code::kCorrupt, ctl_where + " is damaged: life = " + std::to_string(life) +
                                      " cannot be; remove the queue and create it again");
    }
    return {};
  };
  if (auto living = refuse_life(); !living) return fail(living.error());

  // A queue that is removed meanwhile loses its files after its life: then that is what to tell.
  const auto refuse = [&](Error error) -> Result<QueueFiles> {
    if (error.code == Code::kPermission) {
      // Consumers write as well: the words they sleep on, and their acks.
      error.text += "; whoever takes part writes to these files, and the queue was made with mode " +
                    octal(files.constants_.file_mode) +
                    ": for the members of a Unix group, create it anew with --mode 0660 --owner-group GROUP";
    }
    if (error.code != Code::kNoSuchQueue) return fail(std::move(error));
    if (auto living = refuse_life(); !living) return fail(living.error());
    return fail(Code::kCorrupt, error.text + "; remove the queue and create it again");
  };
  if (files.constants_.cells != 0) {
    mapping = files.map(std::string(kOrderFileName), FileKind::kOrder, layout::order_file_bytes(files.constants_.cells),
                        0, options.order_access, options.prefault);
    if (!mapping) return refuse(mapping.error());
    files.order_ = std::move(*mapping);
  }
  mapping = files.map(std::string(kWakeFileName), FileKind::kWake, layout::wake_file_bytes(files.constants_.groups_max),
                      0, Access::read_write, /*prefault=*/true);
  if (!mapping) return refuse(mapping.error());
  files.wake_ = std::move(*mapping);
  return files;
}

layout::QueueState& QueueFiles::state() const { return reinterpret_cast<layout::CtlHead*>(ctl_.data())->state; }
layout::TailTimes& QueueFiles::tail_times() const {
  return reinterpret_cast<layout::CtlHead*>(ctl_.data())->tail_times;
}
layout::GroupSlot& QueueFiles::group_slot(u32 index) const {
  MOORING_CHECK(index < constants_.groups_max);
  return reinterpret_cast<layout::GroupSlot*>(ctl_.data() + layout::kCtlGroupsOffset)[index];
}
layout::LaneSlot& QueueFiles::lane_slot(u32 index) const {
  MOORING_CHECK(index < constants_.lanes_max);
  return reinterpret_cast<layout::LaneSlot*>(ctl_.data() + layout::ctl_lanes_offset(constants_.groups_max))[index];
}
layout::SeatSlot& QueueFiles::seat_slot(u32 index) const {
  MOORING_CHECK(index < constants_.seats_max);
  const u64 offset = layout::ctl_seats_offset(constants_.groups_max, constants_.lanes_max);
  return reinterpret_cast<layout::SeatSlot*>(ctl_.data() + offset)[index];
}
layout::OrderHead* QueueFiles::order_head() const { return reinterpret_cast<layout::OrderHead*>(order_.data()); }
u64* QueueFiles::order_cells() const {
  if (order_.data() == nullptr) return nullptr;
  return reinterpret_cast<u64*>(order_.data() + layout::kOrderCellsOffset);
}
layout::WakeHead* QueueFiles::wake() const { return reinterpret_cast<layout::WakeHead*>(wake_.data()); }
layout::WakeSlot& QueueFiles::group_wake(u32 group) const {
  MOORING_CHECK(group < constants_.groups_max);
  return reinterpret_cast<layout::WakeSlot*>(wake_.data() + sizeof(layout::WakeHead))[group];
}

Result<Mapping> QueueFiles::map(const std::string& name, FileKind kind, u64 file_bytes, u32 index, Access access,
                                bool prefault) const {
  return map_checked_file(directory_, name, {kind, file_bytes, index, &uuid_, boot_id_, owner_}, access, prefault);
}

Result<Mapping> QueueFiles::map_group(u32 index, Access access, bool prefault) const {
  if (index >= constants_.groups_max) return fail_index(where_, "group", index, constants_.groups_max);
  return map(group_file_name(index), FileKind::kGroup, layout::group_file_bytes(constants_.words, constants_.parks),
             index, access, prefault);
}

Result<Mapping> QueueFiles::map_lane(u32 index, Access access, bool prefault) const {
  if (index >= constants_.lanes_max) return fail_index(where_, "lane", index, constants_.lanes_max);
  return map(lane_file_name(index), FileKind::kLane, layout::lane_file_bytes(constants_.lane_bytes), index, access,
             prefault);
}

Result<Mapping> QueueFiles::map_seat(u32 index, Access access) const {
  if (index >= constants_.seats_max) return fail_index(where_, "seat", index, constants_.seats_max);
  return map(seat_file_name(index), FileKind::kSeat, layout::kSeatFileBytes, index, access, /*prefault=*/true);
}

Result<Mapping> QueueFiles::map_park(Access access) const {
  const std::string name(kParkFileName);
  const auto file = open_file(directory_, name, access, owner_);
  if (!file) {
    if (file.error().code == Code::kNoSuchQueue) return Mapping();
    return fail(file.error());
  }
  // Checks the head and that there is one whole step.
  if (auto first = map(name, FileKind::kPark, layout::kParkStepBytes, 0, access, /*prefault=*/false); !first)
    return first;
  const auto size_bytes = file_size(*file);
  if (!size_bytes) return fail(size_bytes.error());
  if (*size_bytes > constants_.park_store_bytes) {
    return fail(Code::kCorrupt, path_text(*file) + " has " + std::to_string(*size_bytes) + " bytes, at most " +
                                    std::to_string(constants_.park_store_bytes) +
                                    " are right; remove the queue and create it again");
  }
  // A step that was only begun (disk full, a kill) does not count.
  const u64 whole_bytes = *size_bytes - *size_bytes % layout::kParkStepBytes;
  // Most of a large one is never looked at by whoever maps it.
  return map_file(*file, access, whole_bytes, /*prefault=*/whole_bytes <= 4 * layout::kParkStepBytes);
}

bool QueueFiles::still_current(const File& shared_directory) const {
  if (life_of(ctl_) == static_cast<u64>(layout::QueueLife::kRemoved)) return false;
  const auto directory = open_directory_at(shared_directory, queue_directory_name(constants_.name), owner_);
  if (!directory) return false;
  const auto ctl = open_file(*directory, std::string(kCtlFileName), Access::read_only, owner_);
  if (!ctl) return false;
  layout::FileHead head{};
  if (!read_first_bytes(*ctl, &head, sizeof head, where_)) return false;
  return std::equal(uuid_.begin(), uuid_.end(), head.queue_uuid);
}

}  // namespace mooring
