// The journal of one durable queue: a thread that copies what is published into the log, and says what is on the disk.
//
// WHO WRITES WHAT
//   log (private memory, then files)        this thread alone; segments are prepared by a second one
//   ctl.log_mark, durable_seq, durable_mark this thread, in this order, after the flush
//   ctl.settle_epoch, settled_epoch, journal_life   this thread
//   wake.journal sleepers                   this thread while it has nothing to do; publishers wake it
//
// PAIRINGS
//   ORDERED / PUBLISHED   ring/: a frame is whole when it is found
//   DURABLE        store durable_seq, durable_mark, release | consumers, producers, waiters: load, acquire
//   SLEEPING       queue/sleeper.hpp; for waiters the store of the mark is what was published
//   SETTLE_EPOCH   settle_epoch + 1 seq_cst; scan; flush; store settled_epoch, release | queue/consumer.cpp
// wait_settled
//
// ONE TURN   copy frames from the mark on until the block is full or nothing is there; send the block; copy on into the
// next one while it is in flight; sync; announce. So one lone message waits for nothing, and under load a flush carries
// what came meanwhile. R = J: nothing is overwritten before it is announced, so a block that fails is written again
// from memory (journal/log_writer.hpp).
//
// overflow = spill (volatile queues)   The same thread, log and readers, without flushes and without recovery: the log
// goes with the memory. Nothing is taken while the groups keep up: only when half of the ring is unfinished, or a
// publisher waits for room, the oldest unfinished messages go to the log, until a quarter is left. R = max(J, least
// base): so frames may be overwritten under us once every group has finished them; we copy, then look, and step over.
// That leaves gaps in the log, of messages that nobody wants. GROUP_ENTERED: the least base counts only while no group
// has entered since it was read; one that enters later starts behind it.
//
// WHAT WAITS FOR WHOM   Publishers wait for this thread alone: what is announced they overwrite, whatever the groups
// have read (R = J). Groups that fell behind read the log themselves. A segment goes when every group has settled all
// of it, in the log and in a snapshot; while a group is being born none goes. max_backlog_bytes bounds what waits: then
// nothing more is copied, the ring fills, and publishers wait or are refused until groups have settled some.
//
// DUPLICATES   A queue with a dedup window: each frame with a message_id is judged as it is copied
// (journal/duplicate_filter.hpp). What was decided goes into the log in one block with the message; of a duplicate the
// bytes do not. It is noted in ctl (queue/duplicates.hpp) before the marks pass it, so consumers skip it, and its
// publisher learns whose it is.
//
// IF THE SUPERVISOR STOPS   as the table in journal/log_writer.hpp; the next one resumes at {log_mark, durable_seq}
// (queue_recovery.hpp). Killed between log_mark and durable_seq: messages between the two are logged again.
// Killed between settle_epoch and settled_epoch: who waits in ack_sync waits on, and the successor's first turn begins
// a later epoch, looks at every word, and raises settled_epoch past what is waited for.
//
// TESTED BY  durable/durable_queue_test, durable/backlog_test, durable/durable_disk_test,
// durable/durable_power_cut_test, durable/dedup_test
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "group/settled_scan.hpp"
#include "journal/disk.hpp"
#include "journal/duplicate_filter.hpp"
#include "journal/log_writer.hpp"
#include "journal/park_copies.hpp"
#include "queue/queue.hpp"
#include "queue/sleeper.hpp"
#include "supervisor/park_log.hpp"

namespace mooring {

// Every live group of a queue with what it has settled below `cap`.
Result<journal::LogState> log_state_of(const Queue& queue, u64 cap);

class QueueJournal {
 public:
  // `queue` is attached as supervisor, for this object alone. The marks in ctl are the log's. `parks`: all that waits
  // in the park store; what the log says otherwise is mended (a note that its supervisor took to the grave).
  static Result<std::unique_ptr<QueueJournal>> start(std::shared_ptr<Queue> queue, std::unique_ptr<journal::Disk> disk,
                                                     std::unique_ptr<journal::LogWriter> writer,
                                                     const std::vector<journal::ParkRecord>& parks);
  // Writes what is published, and the acknowledgements, seals the log and ends the threads.
  ~QueueJournal();

  // Any thread; ORDER in supervisor/park_log.hpp.
  void note_park(const journal::ParkRecord& park, u32 generation);
  void note_release(u32 group, u32 generation, u64 seq, u32 reason);

  // Any thread: the messages in the log that some group has not settled, as far as the log was told.
  u64 backlog_bytes_now() const { return backlog_now_.load(std::memory_order_relaxed); }

  // The oldest message that the log has. Once the caller has raised the group epoch and until every group is LIVE or
  // gone again, it stays there. kTimeout, and what may befall a disk.
  Result<u64> oldest_kept(u64 timeout_ns);

  // Groups came or went: returns when the log says so. kTimeout, kIo, kDiskFull.
  Status write_groups(u64 timeout_ns);

 private:
  using A = HardwareAtomics;
  struct Group {
    u32 generation = 0;
    bool competing = false;
    bool replaced = false;  // the log still has the one before
    Mapping mapping;
    GroupView view;
    Settlements written;
  };

  struct ParkNote {
    bool release = false;
    u32 generation = 0;  // of the group
    journal::ParkRecord park{};  // of a release: group, seq and reason
  };

  QueueJournal(std::shared_ptr<Queue> queue, std::unique_ptr<journal::Disk> disk,
               std::unique_ptr<journal::LogWriter> writer);
  void run();
  void prepare_segments();
  bool turn();
  // True if the block took something.
  bool copy_frames();
  Status append_next(bool* appended);
  Status append_frame(const FrameView& frame);
  Status append_judged(const FrameView& frame);
  bool must_spill();
  bool find_floor();
  Status append_spilled(bool* appended);
  Status append_settlements(bool all, bool* capped);
  Status append_groups();
  Status append_settings(u32 index, const layout::GroupSlot& slot);
  // `behind`: bytes of the record that should stand in the same block, if that can be.
  Status append_notes(u64 behind = 0);
  Status append_released();
  template <class Append>
  Status append_or_flush(Append&& append);
  const LaneView* guarded_lane(u32 index);
  u64 lowest_settled() const;
  u64 backlog_bytes();
  void count_backlog(u64 seq, u64 message_bytes);
  bool backlog_is_full();
  void retire();
  void ask_for_segments();
  Status flush();
  void announce();
  void count_flushes();
  void measure();
  void settle_asks();
  void tell_oldest();
  void count_backlog_anew();
  void take_trouble(const Error& error);
  void set_life(layout::JournalLife life);
  void wake_delivery(u64 count);
  void rest();

  std::shared_ptr<Queue> queue_;
  const QueueFiles* files_;
  std::unique_ptr<journal::Disk> disk_;
  std::unique_ptr<journal::LogWriter> writer_;
  journal::BacklogReader reader_;  // of parked messages
  std::optional<journal::DuplicateFilter> duplicates_;  // queues that look for them
  bool spsc_;
  bool spills_;    // the log takes only what holds up publishers
  bool delivers_;  // consumers wait for the mark: this thread wakes them
  OrderView order_;
  LaneCursor lane_at_;     // SPSC: behind the last frame appended
  u64 sent_position_ = 0;  // SPSC: the same of the block in flight
  u64 durable_position_ = 0;
  u64 group_epoch_ = ~u64{0};
  std::vector<Group> groups_;
  std::vector<bool> lane_guarded_;
  u64 settled_ns_ = 0;
  u64 asks_seen_ = 0;   // answered
  u64 asks_tried_ = 0;  // looked at
  u64 quiet_since_ns_ = 0;
  bool is_sealed_ = false;
  bool failed_ = false;
  bool disk_full_ = false;
  bool backlog_full_ = false;
  // Before these seqs so many bytes: log positions when the log was opened, then message records alone.
  std::deque<journal::IndexEntry> backlog_steps_;
  u64 backlog_end_ = 0;
  std::atomic<u64> backlog_now_{0};  // relaxed: a figure
  bool spilling_ = false;      // it took something at the last look
  bool holds_spilled_ = false;  // some message in the log is not settled, or its segment still there
  u64 spill_from_ = 0;         // spills_: every group has finished what is below, or the log has it
  std::vector<u8> spilled_;    // a private copy of a frame that may be overwritten under us
  u64 disk_full_since_ns_ = 0;
  u64 retired_ns_ = 0;
  u64 segment_seen_ = 0;  // the one that was written when segments were last asked for
  u64 syncs_counted_ = 0;
  u64 errors_counted_ = 0;
  std::string copy_trouble_;  // said once

  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  u64 groups_asked_ = 0;  // guarded by mutex_, as the rest
  u64 groups_written_ = 0;
  u64 oldest_asked_ = 0;
  u64 oldest_told_ = 0;
  Result<u64> oldest_ = u64{0};
  bool prepare_asked_ = true;
  std::string trouble_;  // why the journal takes nothing more; empty while it does
  std::vector<ParkNote> notes_;

  std::unique_ptr<std::atomic<bool>> fault_;
  std::vector<const void*> guarded_;
  std::thread writer_thread_;
  std::thread prepare_thread_;
};

}  // namespace mooring
