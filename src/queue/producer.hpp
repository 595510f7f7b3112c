// A producer handle: one lane of a queue, for one thread at a time.
//
// The fast path (publish with room, nobody asleep) makes no system call, takes no lock and allocates nothing. Slow
// things (a new group to map, waiting for room) are in producer.cpp.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "group/release_mark.hpp"
#include "message/encoder.hpp"
#include "queue/durable_watch.hpp"
#include "queue/instance.hpp"
#include "queue/logged_messages.hpp"
#include "queue/queue.hpp"
#include "queue/sleeper.hpp"
#include "queue/wait_strategy.hpp"
#include "queue/wake_descriptor.hpp"

namespace mooring {

struct Slice {
  const void* data;
  std::size_t size;
};
// A message of a batch with its headers; null: it has none.
struct Outgoing {
  const void* data;
  std::size_t size;
  const message::PublishOptions* options;
};

class Producer {
 public:
  struct Options {
    WaitStrategy wait = WaitStrategy::kAdaptive;
    u64 spin_ns = kSpinNsDefault;
    bool no_wait = false;  // durable queues: publish returns before the flush; see wait_durable
  };
  static Result<std::unique_ptr<Producer>> open(std::shared_ptr<Instance> instance, const std::string& queue,
                                                const Options& options);
  ~Producer();

  // kDuplicate: published with a message_id that was there already; `seq` is then the first one's.
  // Every Code below 0 left its story in error_detail(). `timeout_ns` 0: never waits (kFull).
  Code publish(const void* data, std::size_t size, u64 timeout_ns, u64* seq);
  // In order, not atomic: `published` says how many went out, also with kFull, kTimeout and failures.
  Code publish_batch(std::span<const Slice> slices, u64 timeout_ns, std::size_t* published);
  // One reservation at a time; reserving again forgets the one before.
  Code reserve(std::size_t size, u64 timeout_ns, u8** data);
  // The same with headers, which count in max_message_bytes. Delay and ttl run from the call; of a reservation too.
  Code publish_with(const void* data, std::size_t size, const message::PublishOptions& options, u64 timeout_ns,
                    u64* seq);
  Code publish_batch_with(std::span<const Outgoing> messages, u64 timeout_ns, std::size_t* published);
  Code reserve_with(std::size_t size, const message::PublishOptions& options, u64 timeout_ns, u8** data);
  Code commit(std::size_t size, u64* seq);
  Code abort();

  // Durable queues: until the message `seq` (kEverything: all of ours) is on the disk. kTimeout: not yet; ask again.
  // kIo: the journal failed.
  static constexpr u64 kEverything = ~u64{0};
  // kDuplicate: of one message, on a queue that looks for them; as first_seq().
  Code wait_durable(u64 seq, u64 timeout_ns);
  // Which message had the message_id of `seq` first. kOk: that one, or nobody knows any more; kDuplicate; kTimeout: not
  // decided yet.
  Code first_seq(u64 seq, u64* first);
  // Every message below is on the disk. 0 on a volatile queue.
  u64 durable_seq();
  // Readable when that has moved since the last durable_seq(). Made on first use; owned by the producer.
  Result<int> durable_descriptor();
  // Calls it whenever that has moved, instead of the one before; an empty one: nobody any more (durable_watch.hpp).
  Status watch_durable(DurableWatch::Call call);

  u32 lane_index() const { return lane_index_; }

 private:
  struct MappedGroup {
    u32 index = 0;
    u32 generation = 0;
    Mapping mapping;
  };

  Producer(std::shared_ptr<Instance> instance, std::shared_ptr<Queue> queue, Options options)
      : instance_(std::move(instance)), queue_(std::move(queue)), options_(options) {}

  Code check_usable() const;
  Code check_size(std::size_t size) const;
  // Room for a frame, waiting for it if need be. Null with the reason.
  u8* room_for(std::size_t size, u64 timeout_ns, Code* code);
  u8* try_room(std::size_t size, RingOutcome* why);
  // Publishes what is appended; waits for cells (MPMC). What cannot go out in time is forgotten; `published` counts.
  Code flush(u64 timeout_ns, u64* last_seq, u64* published);
  // What stands before the payload in the room of a message.
  struct FrameHead {
    u64 bytes = 0;  // of the extension
    u32 flags = 0;  // of layout::kFrameKept
  };
  Code commit_reserved(std::size_t size, FrameHead head, u64 timeout_ns, u64* seq);
  Code commit_apart(std::size_t size, FrameHead head, u64 timeout_ns, u64* seq);  // the same, as a call
  Code reserve_room(std::size_t size, FrameHead head, u64 timeout_ns, u8** room);
  // Headers checked and measured; kTooBig where they do not fit the queue with the payload.
  Code plan_for(std::size_t size, const message::PublishOptions& options, message::Plan* plan) const;
  struct PlainBatch;
  struct HeadedBatch;
  template <class Batch>
  Code publish_all(const Batch& batch, u64 timeout_ns, std::size_t* published);
  // On a durable queue nothing is taken that the journal will not write. kOk, kDiskFull, kIo; kFull: not now.
  Code check_journal() const;
  Code wait_for_journal(u64 timeout_ns);
  Code wait_flushed(u64 seq, u64 timeout_ns);
  u64 mark();
  u64 finished_mark();  // below it every group has finished
  Status refresh_groups();
  void wake_groups(u64 published);
  template <class Try>
  Code wait_for_room(u64 timeout_ns, Try&& try_again);

  std::shared_ptr<Instance> instance_;
  std::shared_ptr<Queue> queue_;
  Options options_;
  u32 lane_index_ = 0;
  u32 lane_generation_ = 0;
  Mapping lane_mapping_;
  LaneView lane_;
  bool spsc_ = false;
  bool durable_ = false;
  bool spills_ = false;
  bool fenced_ = false;
  bool granted_ = false;
  const u8* alive_ = nullptr;  // the instance's page that reads 0 after fork; kept at hand for the fast path
  bool closed_ = false;  // the queue was removed or taken out of service
  u64 max_message_bytes_ = 0;
  SpscWriter<HardwareAtomics> spsc_writer_;
  std::optional<OrderWriter<HardwareAtomics>> order_writer_;

  const u64* group_epoch_word_ = nullptr;  // in ctl; kept at hand for the fast path
  // As of group_epoch_.
  u64 group_epoch_ = ~u64{0};
  std::vector<MappedGroup> mapped_groups_;
  std::vector<GroupBase> bases_;
  std::vector<layout::WakeSlot*> wake_slots_;

  u64 last_seq_ = 0;  // of our last message; kept on durable queues
  std::unique_ptr<LoggedMessages> log_;  // queues that look for duplicates
  std::unique_ptr<WakeDescriptor> durable_descriptor_;
  std::unique_ptr<DurableWatch> durable_watch_;
  std::size_t reserved_bytes_ = 0;  // of payload
  FrameHead reserved_head_;
  bool reserved_has_id_ = false;
  bool reserved_ = false;
};

}  // namespace mooring
