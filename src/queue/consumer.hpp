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
//   the log has lost it (salvaged)   it is acknowledged, unseen
//   the log is damaged, or cannot be read   an error that names file and place; the message is given back, and nothing
//                      of it is shown. The group stands there until the log can be read, or the group is removed
//   Then a competing consumer looks at its word once more: what was settled by others may have retired from the log,
//   and an error of that is none.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <string>
#include <variant>

#include "group/competing.hpp"
#include "group/durable_source.hpp"
#include "group/exclusive.hpp"
#include "journal/backlog_reader.hpp"
#include "queue/copy_slots.hpp"
#include "queue/instance.hpp"
#include "queue/queue.hpp"
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
};
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
  Code nack(const Message& message);
  Code release(const Message& message);

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

  Consumer(std::shared_ptr<Instance> instance, std::shared_ptr<Queue> queue, Options options);

  Code check_usable() const;
  Code take_one(Message* message);
  Code take_competing(Competing& group, Message* message);
  template <class Exclusive>
  Code take_exclusive(Exclusive& group, Message* message);
  Code take_durable(ExclusiveDurable& group, Message* message);
  // The bytes of a leased message into a copy slot. kStale: it was taken from us meanwhile.
  Code copy_out(Competing& group, const Lease& lease, Message* message);
  Code copy_parked(Competing& group, const Lease& lease, u32 park_index, Message* message);
  // From the log. `log_pos` 0: by its seq. kEmpty: the log has lost it.
  Code copy_from_log(u64 seq, u64 log_pos, Message* message);
  Code copy_logged(Competing& group, const Lease& lease, u64 log_pos, Message* message);
  Status open_log();
  void forget_copy(const Message& message);
  Code wait_for_message(u64 timeout_ns, Message* message);
  template <class Group>
  Code spin_for_message(Group& group, Spin& spin, Message* message);
  bool may_have_work();
  void before_sleep();
  void wake_producers();
  Code settled(const Message& message, bool stale, u64* counter);
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
  bool durable_ = false;
  Mapping group_mapping_;
  Mapping seat_mapping_;
  Mapping park_mapping_;
  layout::SeatHead* seat_ = nullptr;
  layout::WakeSlot* wake_slot_ = nullptr;
  layout::WakeSlot* room_ = nullptr;  // where producers sleep
  const layout::GroupSlot* group_slot_ = nullptr;
  std::variant<std::monostate, Competing, ExclusiveLane, ExclusiveOrder, ExclusiveDurable> group_;
  CopySlots copies_;
  DrainBackoff backoff_;
  bool drained_short_ = false;  // the last batch ended because nothing more was there
  u32 in_flight_ = 0;
  // Durable queues. The log is opened when it is first needed.
  std::string log_path_;
  std::unique_ptr<journal::Disk> log_disk_;
  std::unique_ptr<journal::BacklogReader> log_;
  struct Copied {
    u64 seq = 0;
    u32 slot = 0;
  };
  std::deque<Copied> copied_;  // exclusive groups: what is out, for ack_up_to
  std::unique_ptr<WakeDescriptor> descriptor_;
};

}  // namespace mooring
