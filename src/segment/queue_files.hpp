// The files of one queue: made by the supervisor, mapped by everybody, believed only after validation.
//
// WHO WRITES WHAT   see layout/: each file has one writer or one kind of writer, and is mapped read-only by all others.
//
// CREATION is all or nothing: everything is made in ".new-q-<name>", fully reserved and initialised, and the directory
// is renamed to its name last. A supervisor killed before the rename leaves ".new-*", which the next one removes; after
// it, a complete queue. REMOVAL sets ctl.life to kRemoved, renames to ".old-*", and unlinks; both leftovers are removed
// at start.
//
// MODES   the directory lets in who may read the files, and only its owner may make names in it; a given Unix group
// is passed on to every file by the set-group-id bit of the directory. ctl and park are writable by the owner alone,
// all other files by whom file_mode says.
//
// ATTACHING checks: a regular file, not a link, owned by the instance's owner, of exactly the size its head says,
// magic, layout version (kVersion names both), kind, index, line size, boot id, uuid of the queue, and the hashes over
// head and constants; then that the constants are in range and the sizes follow from them. What changes later (slots,
// words, hints) is checked where it is used. Heads and constants are read with read(2) before anything is mapped, so
// that a file cut short is an error here.
//
// IF A PROCESS STOPS   the supervisor, dead while it makes or removes a queue or a file: see above and remove_stale;
// only slow: nobody waits for it but who asked. A client has nothing here that another waits for.
//
// TESTED BY  segment/queue_files_test, segment/hostile_attach_test, segment/stale_files_test
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "layout/ctl.hpp"
#include "layout/group.hpp"
#include "layout/lane.hpp"
#include "layout/order.hpp"
#include "layout/park.hpp"
#include "layout/seat.hpp"
#include "layout/wake.hpp"
#include "platform/file.hpp"
#include "platform/mapping.hpp"
#include "segment/file_head.hpp"
#include "segment/queue_plan.hpp"

namespace mooring {

// An attached queue: the directory, ctl, order and wake mapped; lanes, groups and seats mapped on request.
class QueueFiles {
 public:
  // `as_supervisor`: ctl writable. Otherwise ctl read-only; order, wake read-write (producers and consumers both need
  // hints there; a consumer passes `order_access` read_only).
  struct AttachOptions {
    bool as_supervisor = false;
    Access order_access = Access::read_only;
    bool prefault = true;  // of order; ctl and wake always are
  };
  // kNoSuchQueue also for a queue that is being removed. A failed one can be attached: see state().life.
  static Result<QueueFiles> attach(const File& shared_directory, uid_t owner, std::string_view queue,
                                   const AttachOptions& options);

  const layout::QueueConstants& constants() const { return constants_; }  // a private, validated copy
  const Uuid& uuid() const { return uuid_; }
  const std::string& where() const { return where_; }  // path, for messages
  const File& directory() const { return directory_; }

  // An `index` has been compared with constants() before. These are shared memory, writable for the supervisor only.
  layout::QueueState& state() const;
  layout::TailTimes& tail_times() const;
  layout::GroupSlot& group_slot(u32 index) const;
  layout::LaneSlot& lane_slot(u32 index) const;
  layout::SeatSlot& seat_slot(u32 index) const;
  layout::OrderHead* order_head() const;  // null on SPSC queues, as the cells
  u64* order_cells() const;
  layout::WakeHead* wake() const;
  layout::WakeSlot& group_wake(u32 group) const;

  // Map one more file of the queue, validated. The Mapping must outlive every view into it. An index out of range is
  // kBadArgument; a file that was never made is kNoSuchQueue.
  Result<Mapping> map_group(u32 index, Access access, bool prefault) const;
  Result<Mapping> map_lane(u32 index, Access access, bool prefault) const;
  Result<Mapping> map_seat(u32 index, Access access) const;
  // The park file as large as it is now (it grows); read-only for clients. Empty Mapping if there is none yet.
  Result<Mapping> map_park(Access access) const;

  // True if the directory of this name still is the one that was attached (a removed and recreated queue is another).
  bool still_current(const File& shared_directory) const;

 private:
  friend Status make_group_file(const QueueFiles& queue, u32 index, u64 first_seq);
  friend Status make_lane_file(const QueueFiles& queue, u32 index);
  friend Status make_seat_file(const QueueFiles& queue, u32 index);
  friend Result<u64> grow_park_file(const QueueFiles& queue, u64 bytes);

  Result<Mapping> map(const std::string& name, layout::FileKind kind, u64 file_bytes, u32 index, Access access,
                      bool prefault) const;

  File directory_;
  std::string where_;
  layout::QueueConstants constants_{};
  Uuid uuid_{};
  BootId boot_id_{};
  uid_t owner_ = 0;
  Mapping ctl_;
  Mapping order_;
  Mapping wake_;
};

// --- The supervisor's side ------------------------------------------------------------------------------------------

// Makes the queue (all files but lanes, groups, seats and park), complete or not at all, after a look whether there is
// room for queue_bytes(). kExists if the name is taken. Fills in created_wall_ns and check.
Status create_queue(const File& shared_directory, const layout::QueueConstants& constants,
                    const std::optional<u32>& group_id);
// Works on a damaged queue, too.
Status remove_queue(const File& shared_directory, std::string_view queue);
// Make one more file: reserved, zero but for what is said here, head last. An existing file of that name is replaced
// (the slot is not live, so nobody has believed it since). A group is pinned at base 0, with hint = first_seq and no
// READY message; its state words are the supervisor's to initialise.
Status make_group_file(const QueueFiles& queue, u32 index, u64 first_seq);
Status make_lane_file(const QueueFiles& queue, u32 index);
Status make_seat_file(const QueueFiles& queue, u32 index);
// Makes the park file (one step, layout::kParkStepBytes, head page included), or grows it to `bytes`, 0: by one step;
// up to constants.park_store_bytes (kDiskFull beyond). Returns the new file size.
Result<u64> grow_park_file(const QueueFiles& queue, u64 bytes = 0);

// The instance's own files in its shared directory. With `create` the directory is made if need be (0711: users who may
// open a queue reach it by name, nobody else can list). Without, a missing one is kNoSupervisor.
Result<File> open_shared_directory(const std::string& path, uid_t owner, bool create);
// A valid bell of this boot stays, whoever made it: clients that have it mapped go on ringing the right one.
// `file_mode` as for queues: who is not let in does without, and waits for the supervisor's tick.
Status make_bell(const File& shared_directory, const Uuid& instance_uuid, u32 file_mode = 0600);
Result<Mapping> map_bell(const File& shared_directory, uid_t owner);
// Removes what a killed supervisor left half made or half removed, and queues and bells of another boot or another
// layout: they are volatile by definition. Each goes into `removed`, with the reason. Damaged queues of this boot stay,
// for people to look at. For a supervisor at its start: nothing may be in the making.
Status remove_stale(const File& shared_directory, uid_t owner, std::vector<std::string>* removed);
Result<std::vector<std::string>> list_queues(const File& shared_directory);

}  // namespace mooring
