// One queue as its supervisor keeps it: grants, repairs, and a look around each tick.
//
// The supervisor writes ctl alone, so its own steps there need no CAS; but it may be killed between any two stores, and
// its successor runs `adopt()` over what it finds. So every step is ordered such that doing it again is harmless:
//
//   STEP                KILLED AFTER                    ADOPT DOES
//   grant a lane/seat   identity stored, slot not LIVE  nothing: the slot is free
//                       slot LIVE, reply not sent       the owner's next hello says it holds no such thing: freed
//   owner died          some leases given back          all of it again: READY words stay READY
//                       slot FREE                       done
//   lane is inherited   as a grant; last_seq stays      still LEAVING, or LIVE with its heir: what was granted
//   lane leaves         slot LEAVING                    looks for its last seq again, frees when R passed it
//   group is born       slot ENTERING                   finishes the birth: start = max(tail, every base)
//   and not at the tail slot ENTERING                   takes it out again (slot.start says so): its creator was told
//                                                       nothing, and what it asked for may be gone
//   group is removed    slot LEAVING                    frees its seats and the slot
//   park                K1..K4                          GroupRepair::reconcile
//   settings            some of them stored         goes by what is there: each is in its bounds by itself
//   pause               -                           one store
//   circuit breaker     group_breaker.hpp           group_breaker.hpp
//   stuck = kill        nothing done, nothing kept  counts anew how long somebody stands still
//   progress is noted   its time is stored          looks again: the time of a later look
//   seat is swept       the dead one is charged     a word that says NACKED is charged no second time
//
// STANDING   a seat's `progress_seen` is stored behind its time, release | `mooring info` loads it first, acquire: a
//            seat that stands still never seems to do so for longer than it does.
//
// TESTED BY  durable/group_start_test, supervisor/queue_keeper_test, supervisor/supervisor_test,
// durable/durable_kill_points_test
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "delivery/watermark.hpp"
#include "group/release_mark.hpp"
#include "group/repair.hpp"
#include "platform/process.hpp"
#include "queue/queue.hpp"
#include "segment/queue_files.hpp"
#include "supervisor/durable_messages.hpp"
#include "supervisor/group_breaker.hpp"
#include "supervisor/park_store.hpp"
#include "supervisor/queue_journal.hpp"
#include "supervisor/redelivery.hpp"

namespace mooring {

struct SeatGrant {
  u32 seat = 0;
  u32 generation = 0;
  u32 group = 0;
};
struct LaneGrant {
  u32 lane = 0;
  u32 generation = 0;
};

// Where a group begins to read.
struct GroupStart {
  enum class At : u32 {
    kTail = 0,    // what is published from now on
    kOldest = 1,  // the oldest message that is kept
    kSeq = 2,     // this message
  };
  At at = At::kTail;
  u64 seq = 0;  // kSeq
};

class QueueKeeper {
 public:
  static Result<std::unique_ptr<QueueKeeper>> open(const File& shared_directory, uid_t owner, const std::string& name,
                                                   u64 incarnation);
  ~QueueKeeper();

  const std::string& name() const { return name_; }
  const layout::QueueConstants& constants() const { return files_->constants(); }

  // After open: settles what a supervisor before left half done. `owners` gets every process that holds something.
  Status adopt(std::vector<ProcessIdentity>* owners);

  // The seq that it begins with; 0: there with the same mode. kBadArgument: the queue has no such place; the text says
  // which it has.
  Result<u64> create_group(const std::string& group, layout::GroupMode mode, const GroupStart& start = {});
  Status remove_group(const std::string& group);
  Result<LaneGrant> open_producer(const ProcessIdentity& owner);
  Status close_producer(const ProcessIdentity& owner, u32 lane, u32 generation);
  Result<SeatGrant> open_consumer(const std::string& group, const ProcessIdentity& owner);
  Status close_consumer(const ProcessIdentity& owner, u32 seat, u32 generation);

  // Everything of a process whose death is confirmed. `wait_status`: how it ended, if that is known.
  void owner_died(const ProcessIdentity& owner, std::optional<u32> wait_status = std::nullopt);
  // Grants to `owner` that it never took (the supervisor died before its reply arrived).
  void drop_untaken(const ProcessIdentity& owner);
  bool holds_anything(const ProcessIdentity& owner) const;
  // Grants that `owner` took and has no writable mapping of any more (it called exec). `maps(inode, name)`: does it
  // have one of this file?
  using MapsFile = std::function<bool(u64 inode, const std::string& name)>;
  u64 drop_unmapped(const ProcessIdentity& owner, const MapsFile& maps);

  // --- Failed messages (redelivery.hpp).
  // Settings by name (delivery/policy.hpp); a refused one changes nothing.
  Status set_group(const std::string& group, const std::vector<std::pair<std::string, std::string>>& settings);
  Status pause_group(const std::string& group, bool pause);
  Result<u64> redrive(const std::string& group, const DeadFilter& filter, u64 rate, bool dry_run);
  Result<u64> cancel_redrive(const std::string& group);
  Result<u64> purge_dead(const std::string& group, const DeadFilter& filter, bool dry_run);

  void set_fence_mode();
  // The queue is gone: handles that are open say CLOSED.
  void mark_removed();

  // Durable queues, before adopt(): where what has left memory is found.
  void set_log_path(std::string path);
  // Durable queues, after adopt(): from here on what is published goes into the log.
  Status start_journal(std::unique_ptr<journal::Disk> disk, std::unique_ptr<journal::LogWriter> writer,
                       std::shared_ptr<Queue> queue);
  // Returns when the log knows every group: before anybody is told that a queue or a group is there. kTimeout: a slow
  // disk. Nothing to do for a volatile queue.
  Status write_groups();

  // Looks around; returns how long to rest (ns) until the next look. `bell`: somebody asked for one.
  u64 tick(u64 now_ns, bool bell);

  // Consumers of groups with stuck = kill that hold messages and stood still for too long, since the last call. Whoever
  // kills one says so: it is counted.
  struct StuckConsumer {
    ProcessIdentity process;
    u32 group = 0;
    u64 standing_ns = 0;
  };
  std::vector<StuckConsumer> take_stuck() { return std::exchange(stuck_, {}); }
  void killed_stuck(u32 group);
  std::string group_text(u32 group) const;  // for the log

  struct Counts {
    u64 producers = 0;
    u64 consumers = 0;
    u64 parked = 0;
  };
  Counts counts() const;
  bool failed() const { return fault_->load(std::memory_order_acquire) || failed_; }

 private:
  struct Group {
    bool mapped = false;
    u32 generation = 0;
    Mapping mapping;
    GroupView view;
    // What the last look saw at base, and for how many looks it stood there.
    u64 stuck_seq = 0;
    u64 stuck_word = 0;
    u32 stuck_looks = 0;
    u64 last_base = 0;
    u32 unheard_looks = 0;
    std::unique_ptr<Redelivery> redelivery;
    std::unique_ptr<GroupBreaker> breaker;
    bool failures = false;                   // a delivery was charged since the last look
    u64 due_boottime_ns = ~u64{0};           // when its redelivery wants to look next
  };

  QueueKeeper(std::string name, std::shared_ptr<Queue> queue);
  const LaneView* lane(u32 index);
  const layout::SeatHead* seat(u32 index);
  void guard(const void* data, u64 size_bytes);
  Group* group(u32 index);
  GroupRepair<HardwareAtomics> repair(Group& group) const { return {group.view, queue_->order()}; }
  bool is_competing(u32 index) const;
  Result<u32> group_called(const std::string& name) const;
  Result<Redelivery*> redelivery_of(const std::string& group);
  std::unique_ptr<Redelivery> make_redelivery(u32 index, const GroupView& view);
  std::unique_ptr<GroupBreaker> make_breaker(u32 index, const GroupView& view);
  const layout::SeatHead* consumer_of(u32 group);
  void note_acks(u32 seat_index);
  u64 note_progress(u32 seat_index, u64 now_ns);
  Status adopt_parked();
  u64 acked_seq_of(u32 index);
  bool frame_of(u32 index, u64 seq, FrameView* frame);
  void look_now() { next_look_ns_ = 0; }
  std::optional<u32> find_group(const std::string& name) const;
  // A seq, and where a group keeps that: the seq again, or on volatile SPSC queues a lane position.
  struct Place {
    u64 unit = 0;
    u64 seq = 0;
  };
  Result<Place> finish_birth(u32 index, const GroupStart& start);
  Result<Place> tail_place(u32 index);
  Result<Place> place_asked(u32 index, const GroupStart& start, const Place& tail);
  Result<Place> oldest_place(u32 index, const Place& tail);
  std::optional<Place> place_in_lane(const Place& oldest, u64 seq);
  void finish_removal(u32 index);
  void free_seat(u32 index);
  void retire_lane(u32 index);
  u32 lane_to_inherit();
  u64 last_seq_of_lane(u32 lane, u64* newest) const;
  std::optional<u64> tail_now(LaneCursor* lane_tail);
  u64 release_mark_now();
  void free_left_lanes();
  void free_closed();
  void deal_quotas(u32 group);
  void wake_group(u32 index, u64 count);
  void wake_room();
  bool look_at_group(u32 index, bool pressure);
  bool any_lane_blocked() const;
  void look_at_fill(u64 now_ns, u64 moved);
  void note_tail_now(u64 now_ns, u64 published);
  void carry_counters(u32 seat_index, u32 to_group);
  void forget_counters_of_seats(u32 group_index);
  void count_crash(u32 seat_index, std::optional<u32> wait_status);
  std::string slowest_text();
  std::string holder_text(u32 pid) const;
  void set_slot(u64& slot, u32 generation, layout::SlotLife life);
  void fail_queue(const std::string& why);
  void end_life(layout::QueueLife life);

  std::string name_;
  std::shared_ptr<Queue> queue_;
  const QueueFiles* files_ = nullptr;
  ParkStore parks_;
  std::vector<Group> groups_;
  std::vector<Mapping> seat_mappings_;
  std::vector<std::string> seat_names_;  // of the processes that hold them
  std::vector<std::optional<u64>> seat_acks_;  // as counted last
  std::vector<u32> seat_exits_;                // ParkAttempt::exit of the owner that died there
  // How long a seat's owner made no progress with messages in hand, counted while somebody looked: a supervisor that
  // was stopped itself blames nobody for that time.
  struct Standing {
    u64 looked_ns = 0;  // monotonic
    u64 ns = 0;
  };
  std::vector<Standing> standing_;
  std::vector<StuckConsumer> stuck_;
  std::vector<bool> lane_guarded_;
  std::unique_ptr<std::atomic<bool>> fault_;
  std::vector<const void*> guarded_;
  bool failed_ = false;
  u64 nacks_seen_ = 0;
  u64 rest_ns_ = 0;
  u64 fingerprint_ = 0;
  Watermark watermark_;
  u64 filled_ns_ = 0;           // when that was looked at,
  u64 filled_fingerprint_ = 0;  // and what had moved until then
  u64 tail_noted_ns_ = 0;       // when the end of the queue was noted,
  u64 tail_noted_at_ = ~u64{0};  // and what had been published until then
  u64 next_look_ns_ = 0;
  std::unique_ptr<DurableMessages> durable_messages_;  // durable queues
  std::unique_ptr<QueueJournal> journal_;              // ends first
  // Notes of the park store go to the journal, once it runs.
  struct Notes : ParkLog {
    explicit Notes(QueueKeeper& of) : keeper(of) {}
    void note_park(const journal::ParkRecord& park, u32 generation) override;
    void note_release(u32 group, u32 generation, u64 seq, u32 reason) override;
    QueueKeeper& keeper;
  };
  Notes notes_{*this};
};

}  // namespace mooring
