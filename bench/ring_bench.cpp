// The pieces of a message's way on one core, all lines warm: what our instructions cost when no line has to travel.
// What they cost between cores is for `mooring bench`.
#include <benchmark/benchmark.h>

#include <array>
#include <vector>

#include "bench/support/content.hpp"
#include "group/competing.hpp"
#include "group/exclusive.hpp"
#include "ring/lane.hpp"
#include "ring/order_ring.hpp"

namespace mooring {
namespace {

using A = HardwareAtomics;

constexpr u64 kLaneBytes = u64{1} << 18;
constexpr u64 kMessages = u64{1} << 12;  // cells and words
constexpr u64 kFirstSeq = kMessages;

// A queue of one lane and one group, in private memory.
class PrivateQueue {
 public:
  PrivateQueue()
      : lane_memory_(bench::aligned_bytes(layout::lane_file_bytes(kLaneBytes))),
        order_memory_(bench::aligned_bytes(layout::order_file_bytes(kMessages))),
        group_memory_(bench::aligned_bytes(layout::group_file_bytes(kMessages, kParks))) {
    lane = {reinterpret_cast<layout::LaneHead*>(lane_memory_.get()), lane_memory_.get() + layout::kLaneBytesOffset,
            kLaneBytes};
    order.head = reinterpret_cast<layout::OrderHead*>(order_memory_.get());
    order.cells = reinterpret_cast<u64*>(order_memory_.get() + layout::kOrderCellsOffset);
    order.mask = kMessages - 1;
    order.log2 = log2_of_power(kMessages);
    order.head->tail = kFirstSeq;
    initialise_cells(order, kFirstSeq);
    group = view_group(group_memory_.get(), kMessages, kParks);
    initialise_words(group, kFirstSeq);
  }
  // From where a group of this mode starts: a lane position (SPSC) or a seq.
  void start_group(u64 unit) {
    group.head->base = unit;
    group.head->acked = unit;
    group.head->base_seq_hint = kFirstSeq;
  }

  LaneView lane;
  OrderView order;
  GroupView group;

 private:
  static constexpr u32 kParks = 16;
  bench::AlignedBytes lane_memory_;
  bench::AlignedBytes order_memory_;
  bench::AlignedBytes group_memory_;
};

void count_messages(benchmark::State& state, u64 size_bytes) {
  state.SetItemsProcessed(state.iterations());
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(size_bytes));
}

// Writes a message into the lane, publishes it, takes it, acknowledges it.
void lane_publish_take_ack(benchmark::State& state) {
  const auto size_bytes = static_cast<u64>(state.range(0));
  PrivateQueue queue;
  queue.start_group(0);
  SpscWriter<A> writer;
  if (SpscWriter<A>::recover(queue.lane, kFirstSeq, &writer) != RingOutcome::kOk) {
    state.SkipWithError("the lane cannot be walked");
    return;
  }
  ExclusiveConsumer<A, LaneSource<A>> consumer(queue.group, LaneSource<A>(queue.lane, kFirstSeq));
  const bench::AlignedBytes message = bench::aligned_bytes(size_bytes);
  const auto release = [&] { return A::load(queue.group.head->base, std::memory_order_acquire); };
  for (auto _ : state) {
    RingOutcome why = RingOutcome::kOk;
    u8* room = writer.reserve(size_bytes, release, &why);
    if (room == nullptr) {
      state.SkipWithError("no room in a lane that is read");
      return;
    }
    A::copy_in(room, message.get(), size_bytes);
    writer.append(size_bytes);
    writer.publish();
    FrameView frame;
    u32 attempt = 0;
    if (consumer.take(&frame, &attempt) != TakeOutcome::kTaken || !consumer.ack(frame.seq)) {
      state.SkipWithError("what was published did not come");
      return;
    }
    benchmark::DoNotOptimize(frame.payload);
  }
  count_messages(state, size_bytes);
}
BENCHMARK(lane_publish_take_ack)->Arg(8)->Arg(64)->Arg(1024);

// The same with 16 messages in one publish.
void lane_publish_16_take_ack(benchmark::State& state) {
  constexpr u64 kBatch = 16;
  const auto size_bytes = static_cast<u64>(state.range(0));
  PrivateQueue queue;
  queue.start_group(0);
  SpscWriter<A> writer;
  if (SpscWriter<A>::recover(queue.lane, kFirstSeq, &writer) != RingOutcome::kOk) {
    state.SkipWithError("the lane cannot be walked");
    return;
  }
  ExclusiveConsumer<A, LaneSource<A>> consumer(queue.group, LaneSource<A>(queue.lane, kFirstSeq));
  const bench::AlignedBytes message = bench::aligned_bytes(size_bytes);
  const auto release = [&] { return A::load(queue.group.head->base, std::memory_order_acquire); };
  for (auto _ : state) {
    for (u64 i = 0; i < kBatch; ++i) {
      RingOutcome why = RingOutcome::kOk;
      u8* room = writer.reserve(size_bytes, release, &why);
      if (room == nullptr) {
        state.SkipWithError("no room in a lane that is read");
        return;
      }
      A::copy_in(room, message.get(), size_bytes);
      writer.append(size_bytes);
    }
    writer.publish();
    u64 last = 0;
    for (u64 i = 0; i < kBatch; ++i) {
      FrameView frame;
      u32 attempt = 0;
      if (consumer.take(&frame, &attempt) != TakeOutcome::kTaken) {
        state.SkipWithError("what was published did not come");
        return;
      }
      last = frame.seq;
    }
    benchmark::DoNotOptimize(consumer.ack_up_to(last));
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kBatch));
}
BENCHMARK(lane_publish_16_take_ack)->Arg(8)->Arg(64);

// Frame, cell CAS, lease CAS, copy-out, ack CAS.
void order_publish_lease_ack(benchmark::State& state) {
  const auto size_bytes = static_cast<u64>(state.range(0));
  PrivateQueue queue;
  queue.start_group(kFirstSeq);
  OrderWriter<A> writer(queue.order, queue.lane, 0, 0);
  CompetingConsumer<A> consumer(queue.group, queue.order, 1);
  const bench::AlignedBytes message = bench::aligned_bytes(size_bytes);
  const bench::AlignedBytes copy = bench::aligned_bytes(size_bytes);
  const auto release = [&] { return effective_base<A>(queue.group); };
  for (auto _ : state) {
    RingOutcome why = RingOutcome::kOk;
    u8* room = writer.reserve(size_bytes, release, &why);
    u64 seq = 0;
    u64 published = 0;
    if (room == nullptr) {
      state.SkipWithError("no room in a lane that is read");
      return;
    }
    A::copy_in(room, message.get(), size_bytes);
    writer.append(size_bytes);
    Lease lease;
    FrameView frame;
    if (writer.publish(release, &seq, &published) != RingOutcome::kOk ||
        consumer.lease(&lease) != LeaseOutcome::kLeased ||
        frame_of_cell<A>(queue.lane, lease.cell, lease.seq, &frame) != RingOutcome::kOk) {
      state.SkipWithError("what was published did not come");
      return;
    }
    A::copy_out(copy.get(), frame.payload, frame.len);
    if (!still_there<A>(queue.lane, lease.seq) || consumer.ack(lease) != Settled::kYes) {
      state.SkipWithError("a lease was lost though nobody else is there");
      return;
    }
    benchmark::DoNotOptimize(consumer.help_base(false));
  }
  count_messages(state, size_bytes);
}
BENCHMARK(order_publish_lease_ack)->Arg(8)->Arg(64)->Arg(1024);

// The header of a frame: made, and taken apart with its checks.
void frame_header_encode_decode(benchmark::State& state) {
  u64 seq = kFirstSeq;
  u64 len = 64;
  for (auto _ : state) {
    benchmark::DoNotOptimize(len);
    u64 header = layout::make_frame_header(len, layout::kFramePublished, seq);
    benchmark::DoNotOptimize(header);
    benchmark::DoNotOptimize(layout::frame_bytes(layout::frame_len(header)));
    benchmark::DoNotOptimize(layout::extend(layout::frame_seq_lo(header), 32, seq));
    ++seq;
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(frame_header_encode_decode);

}  // namespace
}  // namespace mooring
