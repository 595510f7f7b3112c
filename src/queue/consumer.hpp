// A consumer handle: a seat in a group, for one thread at a time.
//
// Competing groups copy out: a lease pins no ring memory, so a message that left the window (straggler park) is read
// from the park file instead. Exclusive groups of volatile queues read in place: nothing passes them there.
//
// On durable queues publishers wait for the disk and for no group (R = J), so a group that fell behind finds its
// messages overwritten. It reads them from the log itself (journal/backlog_reader.hpp), and everything is copied out:
//
//   COPY               then                                          so
//   from the lane      `reclaim` is at or below its seq (place)      the bytes are the message's
//   overtaken          seq < J, because R = J: read the log          the block's checksum says so
//   parked in the log  the same
//   the log has lost it (salvaged), or it is a duplicate (duplicates.hpp)   it is acknowledged, unseen
//   the log is damaged, or cannot be read   an error that names file and place; the message is given back, and nothing
//                      of it is shown. The group stands there until the log can be read, or the group is removed
//   Then a competing consumer looks at its word once more: what was settled by others may have retired from the log,
//   and an error of that is none.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "group/competing.hpp"
#include "group/durable_source.hpp"
#include "group/exclusive.hpp"
#include "message/decoder.hpp"
#include "queue/copy_slots.hpp"
#include "queue/instance.hpp"
#include "queue/logged_messages.hpp"
#include "queue/queue.hpp"
#include "queue/settlement_notices.hpp"
#include "queue/sleeper.hpp"
#include "queue/wait_strategy.hpp"

namespace mooring {

struct Message {
  const void* data = nullptr;
  std::size_t size = 0;
  u64 seq = 0;
  u32 attempt = 0;
  u32 flags = 0;
  u64 token[2] = {0, 0};  // competing: word as leased; both: park index << 32 | copy slot
  u64 headers_bytes = 0;  // of the extension, which ends where `data` begins; 0: no headers
};

// The headers of a received message, for message/decoder.hpp. Data null: there are none.
inline message::Extension extension_of(const Message& message) {
  if (message.headers_bytes == 0 || message.data == nullptr) return {};
  return {static_cast<const u8*>(message.data) - message.headers_bytes, message.headers_bytes};
}
inline constexpr u32 kMessageRedelivered = 1;
inline constexpr u32 kMessageInPlace = 2;

class WakeDescriptor;

class Consumer {
 public:
  struct Options {
    WaitStrategy wait = WaitStrategy::kAdaptive;
    u64 spin_ns = kSpinNsDefault;
    u32 max_in_flight = 0;  // 0: the group's quota
  };
  static Result<std::unique_ptr<Consumer>> open(std::shared_ptr<Instance> instance, const std::string& queue,
                                                const std::string& group, const Options& options);
  ~Consumer();

  // kEmpty: nothing became ready in time. kFull: this consumer holds as many as it may; settle some.
  Code receive(Message* message, u64 timeout_ns);
  // At least one within the time, then what is there at once, at most `messages.size()`.
  Code receive_batch(std::span<Message> messages, u64 timeout_ns, std::size_t* received);
  Code ack(const Message& message);
  Code ack_up_to(const Message& message);  // exclusive groups only
  // Durable queues: and waits until the acknowledgement is on the disk.
  Code ack_sync(const Message& message, u64 timeout_ns);
  // It failed: again after the group's retry delay, or after `detail.delay_ns`; a dead letter after max_deliveries.
  Code nack(const Message& message, const SettlementDetail& detail = {});
  // It never will succeed: a dead letter at once.
  Code reject(const Message& message, u32 code, std::string_view text);
  Code release(const Message& message);
  // ack_wait begins anew. The message names its delivery as it is now: settle with this one.
  Code extend(Message* message);
  // Of several that were received the application handles this one now: a crash is charged to it alone.
  Code handling(const Message& message);
  // None of them any more: whoever still works at one is not charged for the end of this process.
  Code handling_none();

  // Any thread, while receive waits or not: the wait under way and every later one end with kInterrupted, for good.
  void interrupt();

  bool is_exclusive() const { return group_slot_->mode == layout::GroupMode::kExclusive; }
  // How long a message may be held without an extend, as the group is set now; 0: for ever.
  u64 ack_wait_ns() const;

  // A descriptor that is readable while messages may be ready. Made on first use; owned by the consumer.
  Result<int> descriptor();

  // For the descriptor's thread: may there be work? Looks at shared words only, and at nothing of this handle that the
  // owner's thread changes.
  const layout::WakeSlot& wake_slot() const { return *wake_slot_; }

 private:
  using A = HardwareAtomics;
  struct LaneOf {
    const Queue* queue = nullptr;
    const LaneView* operator()(u32 lane) const { return queue->lane(lane); }
  };
  using Competing = CompetingConsumer<A>;
  using ExclusiveLane = ExclusiveConsumer<A, LaneSource<A>>;
  using ExclusiveOrder = ExclusiveConsumer<A, OrderSource<A, LaneOf>>;
  using ExclusiveDurable = ExclusiveConsumer<A, DurableSource<A, LaneOf>>;

  Consumer(std::shared_ptr<Instance> instance, std::shared_ptr<Queue> queue, std::string log_path, Options options);

  Code check_usable() const;
  Code take_one(Message* message);
  Code take_competing(Competing& group, Message* message);
  template <class Exclusive>
  Code take_exclusive(Exclusive& group, Message* message);
  template <class Exclusive>
  Code take_in_order(Exclusive& group, Message* message);
  Code take_in_order(ExclusiveDurable& group, Message* message);
  Code copy_hot(const ExclusiveDurable& group, const FrameView& frame, Message* message);
  bool is_turn_of_table();
  // While the group's breaker is half open (group/canary.hpp).
  Code take_canary(Competing& group, Message* message);
  template <class Exclusive>
  Code take_exclusive_canary(Exclusive& group, Message* message);
  bool canary_is_open(u64* canary) const;
  // The bytes of a leased message into a copy slot. kStale: it was taken from us meanwhile.
  Code copy_out(Competing& group, const Lease& lease, Message* message);
  Code copy_parked(Competing& group, const Lease& lease, u32 park_index, Message* message);
  // A frame with headers was put into the message as it is: moves `data` over them. kCorrupt, kVersion.
  Code step_over_headers(Message* message) const;
  // As copy_out and take_exclusive do it for a frame without; apart, so that those cost nothing for headers. kStale:
  // overwritten meanwhile.
  Code copy_with_headers(const LaneView& lane, const Lease& lease, const FrameView& frame, Message* message);
  // A frame that lies whole in copy slot `slot`: shown, or the slot given up. kStale with untimely_: not its time.
  // `judged`: it comes from where no duplicates are (the log, the park file); else kEmpty: it is one; kStale: ask the
  // log.
  template <bool judged>
  Code copied(u32 frame_flags, const u8* frame, u64 len, u32 slot, u32 park_index, Message* message);
  template <class Exclusive>
  Code show_with_headers(Exclusive& group, u32 frame_flags, Message* message);
  // What lies before a copied frame in its buffer, so that the payload behind the headers is aligned to 64.
  static u64 copy_lead(u32 frame_flags, const u8* frame, u64 len);
  // From the log. kEmpty: the log has lost it.
  Code copy_from_log(u64 seq, Message* message);
  Code copy_logged(Competing& group, const Lease& lease, Message* message);
  Code window_is_full(u64 in_flight) const;
  void forget_copy(const Message& message);
  Code wait_for_message(u64 timeout_ns, Message* message);
  template <class Group>
  Code spin_for_message(Group& group, Spin& spin, Message* message);
  bool may_have_work();
  void before_sleep();
  void wake_producers();
  Code settled(const Message& message, bool stale, u64* counter);
  Code fail_message(const Message& message, layout::FailReason reason, const SettlementDetail& detail);
  bool is_paused() const;
  // kStale: it is not its time (core.md A19); the caller hands it to the supervisor. Else kOk.
  Code check_times(u32 frame_flags, const u8* frame, u64 len);
  template <class Exclusive>
  Code set_aside(Exclusive& group, u64 seq);
  Code take_from_table(Message* message);
  Code took_competing(Competing& group, const Lease& lease, Message* message);
  // Who settles this message word by word: the competing group, or the park table of an exclusive one. Null: neither.
  Competing* words_of(const Message& message);
  u64 outstanding() const;
  Code wait_settled(u64 timeout_ns);
  // False: no message of this consumer looks like that (the token is the application's memory).
  bool is_plausible(const Message& message) const;
  Code corrupt(std::string_view what) const;
  Status check_seat() const;
  u32 quota() const;

  std::shared_ptr<Instance> instance_;
  std::shared_ptr<Queue> queue_;
  Options options_;
  std::string group_name_;
  u32 group_index_ = 0;
  u32 seat_index_ = 0;
  u32 seat_generation_ = 0;
  bool granted_ = false;
  const u8* alive_ = nullptr;  // the instance's page that reads 0 after fork; kept at hand for the fast path
  bool fenced_ = false;
  bool durable_ = false;  // publishers wait for the journal, not for us
  bool has_log_ = false;  // publishers may overtake us, and what they overwrite is in the log
  bool finds_duplicates_ = false;
  Mapping group_mapping_;
  Mapping seat_mapping_;
  Mapping park_mapping_;
  layout::SeatHead* seat_ = nullptr;
  layout::WakeSlot* wake_slot_ = nullptr;
  layout::WakeSlot* room_ = nullptr;  // where producers sleep
  const layout::GroupSlot* group_slot_ = nullptr;
  std::variant<std::monostate, Competing, ExclusiveLane, ExclusiveOrder, ExclusiveDurable> group_;
  std::optional<Competing> table_;  // exclusive groups: their park table, through which dead letters come back
  u32 takes_ = 0;
  u64 canary_taken_ = 0;  // exclusive groups: the number of the last one
  CopySlots copies_;
  SettlementNotices<A> notices_;
  DrainBackoff backoff_;
  bool drained_short_ = false;  // the last batch ended because nothing more was there
  u32 in_flight_ = 0;
  bool holds_alone_ = false;     // what it holds is given out alone: nothing beside it
  layout::FailReason untimely_ = layout::FailReason::kNone;  // why the message just looked at is not given out
  bool skipped_alone_ = false;   // the last look passed over one that is given out alone
  LoggedMessages log_;
  struct Copied {
    u64 seq = 0;
    u32 slot = 0;
  };
  std::vector<Copied> copied_;   // exclusive groups of queues with a log: what is out, oldest first, for ack_up_to
  std::size_t copied_gone_ = 0;  // so many at its beginning are settled: no memory moves for them
  std::unique_ptr<WakeDescriptor> descriptor_;
  std::atomic<bool> interrupted_ = false;  // by any thread
};

}  // namespace mooring
