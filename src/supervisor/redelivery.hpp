// What becomes of the messages of one group that failed: they wait and come again, or are dead letters.
//
// COMPETING
//   S[seq] NACKED ---fail---> record in the park store (WAITING | DEAD), S[seq] = MOVED(store)
//   WAITING, due ---return--> X[x] READY -> LEASED(consumer) -> ACKED: the record is freed, then the entry
//                                                           -> NACKED: the record is decided anew, then the entry freed
//   DEAD --redrive--> WAITING, due now, failed = 0
//        --purge----> freed
//
// EXCLUSIVE (on_failure = hold): the message stays in its place, and nothing later comes before it
//   S[seq] NACKED ---fail---> record HELD, due ---> S[seq] READY -> the consumer delivers it again
//                             record DEAD      ---> S[seq] ACKED; redriven it comes through X, as above
//
// WHO WRITES WHAT   The supervisor alone writes the store and frees entries; consumers CAS the entries they lease.
//   Every step is one store of a record's word, one CAS of a state word or one store of an entry's word, in this order,
//   so that after a kill anywhere the next supervisor's adopt() finds one of:
//
//   KILLED BETWEEN                            ADOPT
//   record WAITING or DEAD | S[seq] MOVED     S[seq] says NACKED: the record is freed, the failure decided again
//   record decided anew    | entry freed      the entry says NACKED, with the `failed` of before: decided again, alike
//   record freed (ack)     | entry freed      the entry says ACKED and names no record: freed
//   record is due          | entry READY      WAITING and no entry names it: returned when due
//   note written           | record names it  no record names the note: freed
//   word taken back        | record           S[seq] or the entry says NACKED(timeout): a failure like any other
//   record HELD or DEAD    | S[seq] decided   S[seq] says NACKED, `acquired` as in the record: decided, carried out
//   S[seq] settled         | HELD freed       S[seq] is settled: freed
//   dropped: S[seq] ACKED  | its record freed the same (exclusive), or there was none (competing)
//   redrive, purge                            one store each
//
// PAIRINGS as in group/repair.hpp (PARKED) and supervisor/park_log.hpp (ORDER); MAILBOX: a notice is stored before the
// NACKED word (release, there) that is acquired before the notice is read here, and used again once that word changed.
//
// COST   A look walks the window only after a nack, a crash or a time-out, X only while it has entries; what waits
// costs nothing until it is due (a heap, 24 bytes a message).
//
// TESTED BY  delivery/delivery_test, delivery/delivery_kill_points_test, delivery/delivery_storm_test
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <queue>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "delivery/decision.hpp"
#include "group/repair.hpp"
#include "platform/process.hpp"
#include "supervisor/park_log.hpp"
#include "supervisor/park_store.hpp"

namespace mooring {

// Which dead letters a redrive or purge is about. Empty: all.
struct DeadFilter {
  std::optional<DeadReason> reason;
  u64 older_than_ns = 0;
  std::vector<u64> seqs;  // sorted; empty: any
  u64 limit = ~u64{0};
};

class Redelivery {
 public:
  using A = HardwareAtomics;
  // Of the consumer in a seat, as far as it is known; for the history of a message.
  struct Holder {
    ProcessIdentity process;
    std::string name;
    u32 exit = 0;  // as in ParkAttempt
  };
  // The queue around the group.
  struct Surroundings {
    std::function<bool(u64 seq, FrameView* frame)> frame;  // of a message in the window; false: it makes no sense
    // May be null: never. Not known: it stays where it is.
    std::function<std::optional<bool>(u64 seq)> is_duplicate;
    std::function<u64()> acked_seq;                        // exclusive groups: all below is acknowledged
    std::function<const layout::SeatHead*(u32 seat)> seat;  // with its mailbox behind; null: not made
    std::function<Holder(u32 seat)> holder;
    std::function<void(u64 count)> wake;  // consumers of the group
    std::function<void(u64 seq, FailReason reason)> failed;  // a delivery, decided now
    ParkLog* log = nullptr;               // durable queues
    u64 max_message_bytes = 0;
    std::string where;                    // "queue q: group g", for the log
  };

  Redelivery(u32 group, layout::GroupSlot& slot, GroupView view, OrderView order, ParkStore& store,
             Surroundings surroundings);
  bool is_exclusive() const { return slot_.mode == layout::GroupMode::kExclusive; }

  // After a restart: the records that the store's walk found for this group, in any order.
  void adopt(const std::vector<u64>& locs, u64 now_boottime_ns);

  // Looks around. `failures`: some delivery may have failed since the last look. Returns when to look again at the
  // latest (CLOCK_BOOTTIME).
  u64 look(bool failures, u64 now_boottime_ns);
  bool is_busy() const { return in_table_ != 0 || !leases_.empty() || stuck_failures_; }
  // The message of a consumer that stands, whose word was read as `word`, into X. False: it stays where it is.
  bool park_straggler(u64 seq, u64 word);

  // Dead letters back into the group, `rate` a second (0: at once); one job at a time, a new one replaces it. Returns
  // how many will go (or would: `dry_run`).
  u64 redrive(const DeadFilter& filter, u64 rate, bool dry_run, u64 now_boottime_ns);
  u64 cancel_redrive();
  u64 purge(const DeadFilter& filter, bool dry_run);
  // The group goes: all it has in the store.
  void drop_all();
  // Settings changed.
  void policy_changed(u64 now_boottime_ns);

  const layout::GroupCounters& counters() const { return slot_.counters; }

 private:
  struct Due {
    u64 boottime_ns;
    u64 loc;
    u32 version;  // of the record's word: another one, and this is old
    bool operator<(const Due& other) const { return boottime_ns > other.boottime_ns; }  // the earliest on top
  };
  struct Dead {
    u64 wall_ns;
    u64 loc;
    u32 version;
  };
  struct Leased {
    u64 word = 0;
    u64 since_ns = 0;
    bool seen = false;
  };
  struct Notice {
    u64 delay_ns = layout::kNoDelay;
    u32 code = 0;
    std::string text;
  };

  void take_failures(u64 now_ns);
  enum class Settling { kNoDuplicate, kSettled, kNotKnown };
  Settling settle_duplicate(u64 seq, u64 word);
  bool fail_in_window(u64 seq, u64 word, u64 now_ns);
  FailedDelivery failure_of(FailReason reason, u32 failed_before, const Notice& notice);
  void read_times(u32 frame_flags, const u8* frame, u64 len, FailedDelivery* failure) const;
  bool bury_expired(u64 loc, u64 now_ns);
  bool place_message(u64 seq, u64* loc);
  bool is_settled_in_place(u64 seq) const;
  void fail_held(u64 seq, u64 word, u64 now_ns);
  void settle_held();
  bool return_held(u64 seq, const layout::RecordWord& record);
  void look_at_table(u64 now_ns);
  void fail_in_table(u32 index, u64 word, u64 now_ns);
  void take_back_leases(u64 now_ns);
  bool leased_too_long(u64 key, u64 word, u64 now_ns);
  void return_due(u64 now_ns);
  void keep_dlq_bounds();
  void go_on_redriving(u64 now_ns);
  void redrive_one(u64 loc, u64 now_ns);
  Notice notice_of(u32 seat, u64 seq, u32 acquired) const;
  // Everything of a failed delivery but the word.
  void write_failure(u64 loc, const Decision& decision, FailReason reason, u32 seat, const Notice& notice, u64 now_ns);
  void commit(u64 loc, const Decision& decision, u32 acquired, bool alone,
              layout::RecordState waits = layout::RecordState::kWaiting);
  void drop_record(u64 loc);
  std::vector<u64> select(const DeadFilter& filter);
  bool is_ours(u64 loc) const;
  void count(u64& counter, i64 by);

  u32 group_;
  u32 generation_;
  layout::GroupSlot& slot_;
  GroupRepair<A> repair_;
  GroupView view_;
  ParkStore& store_;
  Surroundings around_;
  std::priority_queue<Due> due_;
  std::deque<Dead> dead_;  // oldest first
  std::unordered_map<u64, Leased> leases_;          // competing: what is leased, and since when
  std::unordered_map<u64, u64> held_records_;   // exclusive: seq -> record
  u64 leases_looked_ns_ = 0;
  u64 in_table_ = 0;
  u32 table_hint_ = 0;
  bool table_full_ = false;
  bool stuck_failures_ = false;  // something NACKED had to wait for room
  struct Redriving {
    u64 loc;
    u32 version;
  };
  std::deque<Redriving> redrives_;
  u64 redrive_rate_ = 0;
  u64 redrive_began_ns_ = 0;
  u64 redriven_ = 0;
  u64 bounds_looked_ns_ = 0;
  u64 looked_ns_ = 0;
  std::mt19937_64 random_;
};

}  // namespace mooring
