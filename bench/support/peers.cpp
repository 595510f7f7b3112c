// The peer rings and the loops that measure them. See peers.hpp.
//
// WHO WRITES WHAT
//   SPSC  write_index   the producer   slot it writes next        read_index   the consumer   slot it reads next
//   MPMC  head, tail    all producers, all consumers   tickets given out
//         slot.turn     the ticket's owner: 2 * lap + 1 when full, 2 * lap + 2 when free for the next lap
//
// PAIRINGS
//   FILLED   store write_index or turn release | load acquire: the payload is visible to the consumer.
//   FREED    store read_index or turn release | load acquire: the consumer's copy is over before it is overwritten.
//
// IF A PROCESS STOPS
//   The others wait for its slot (turn ring) or its index (index ring) until their deadline; then the run fails.
//
// TESTED BY  tests/bench/limits_test.cpp
#include "bench/support/peers.hpp"

#include <array>
#include <cstring>
#include <span>

#include "base/atomics.hpp"
#include "bench/support/clock.hpp"
#include "bench/support/content.hpp"
#include "bench/support/ping_pong.hpp"
#include "bench/support/poll_guard.hpp"
#include "bench/support/shared_memory.hpp"

namespace mooring::bench {

namespace {

using Atomics = HardwareAtomics;

// The last message of a run tells a consumer to end. No producer reaches this sequence number.
constexpr u64 kPoison = ~u64{0};
constexpr unsigned kProducerShift = 48;
constexpr unsigned kBackOffPauses = 64;
constexpr unsigned kRolesMax = 32;

// ---- SPSC index ring ----------------------------------------------------------------------------------------------

struct SpscIndexes {
  alignas(kLineBytes) u64 write_index;
  alignas(kLineBytes) u64 read_index;
  alignas(kLineBytes) u64 unused;  // keeps read_index's line apart from the slots
};

// One side's handle. Both sides use the same class; each touches its own half of the private state.
template <unsigned kPauses>
class SpscIndexRing {
 public:
  static u64 bytes_for(u64 slots, u64 size_bytes) {
    return sizeof(SpscIndexes) + (slots + 1) * align_up(size_bytes, 8);
  }

  SpscIndexRing(const SharedMemory& memory, u64 slots, u64 size_bytes)
      : indexes_(reinterpret_cast<SpscIndexes*>(memory.data())),
        slots_(memory.data() + sizeof(SpscIndexes)),
        stride_(align_up(size_bytes, 8)),
        slot_count_(slots + 1) {}  // One slot stays empty: full and empty must differ.

  template <class Write, class Size>
  bool push(Write&& write, Size size, PollGuard& guard) {
    const u64 next = index_ + 1 == slot_count_ ? 0 : index_ + 1;
    while (next == other_) {
      other_ = Atomics::load(indexes_->read_index, std::memory_order_acquire);  // FREED
      if (next == other_ && guard.give_up()) return false;
    }
    write(slot(index_, size));
    Atomics::store(indexes_->write_index, next, std::memory_order_release);  // FILLED
    index_ = next;
    return true;
  }
  template <class Size>
  bool pop(void* to, Size size, PollGuard& guard) {
    while (index_ == other_) {
      other_ = Atomics::load(indexes_->write_index, std::memory_order_acquire);  // FILLED
      if (index_ != other_) break;
      for (unsigned i = 0; i < kPauses; ++i) Atomics::pause();
      if (guard.give_up()) return false;
    }
    std::memcpy(to, slot(index_, size), size);
    index_ = index_ + 1 == slot_count_ ? 0 : index_ + 1;
    Atomics::store(indexes_->read_index, index_, std::memory_order_release);  // FREED
    return true;
  }

 private:
  template <class Size>
  u8* slot(u64 index, Size size) {
    if constexpr (std::is_same_v<Size, u64>) {
      return slots_ + index * stride_;
    } else {
      return slots_ + index * align_up(size, 8);
    }
  }

  SpscIndexes* indexes_;
  u8* slots_;
  u64 stride_;
  u64 slot_count_;
  u64 index_ = 0;  // ours: write_index for the producer, read_index for the consumer
  u64 other_ = 0;  // the other side's, as last seen
};

// ---- MPMC turn ring -----------------------------------------------------------------------------------------------

struct Tickets {
  alignas(kLineBytes) u64 head;
  alignas(kLineBytes) u64 tail;
  alignas(kLineBytes) u64 unused;
};

template <bool kTicketFirst>
class MpmcTurnRing {
 public:
  static u64 stride_for(u64 size_bytes) { return align_up(8 + size_bytes, 64); }
  static u64 bytes_for(u64 slots, u64 size_bytes) {
    return sizeof(Tickets) + next_power_of_two(slots) * stride_for(size_bytes);
  }

  MpmcTurnRing(const SharedMemory& memory, u64 slots, u64 size_bytes)
      : tickets_(reinterpret_cast<Tickets*>(memory.data())),
        slots_(memory.data() + sizeof(Tickets)),
        stride_(stride_for(size_bytes)),
        mask_(next_power_of_two(slots) - 1),
        shift_(log2_of_power(next_power_of_two(slots))) {}

  template <class Write, class Size>
  bool push(Write&& write, Size /*size*/, PollGuard& guard) {
    u64 ticket = 0;
    if (!take(tickets_->head, 0, ticket, guard)) return false;
    u8* const slot = slot_of(ticket);
    write(slot + 8);
    Atomics::store(turn_of(slot), 2 * (ticket >> shift_) + 1, std::memory_order_release);  // FILLED
    return true;
  }
  template <class Size>
  bool pop(void* to, Size size, PollGuard& guard) {
    u64 ticket = 0;
    if (!take(tickets_->tail, 1, ticket, guard)) return false;
    u8* const slot = slot_of(ticket);
    std::memcpy(to, slot + 8, size);
    Atomics::store(turn_of(slot), 2 * (ticket >> shift_) + 2, std::memory_order_release);  // FREED
    return true;
  }

 private:
  u8* slot_of(u64 ticket) { return slots_ + (ticket & mask_) * stride_; }
  static u64& turn_of(u8* slot) { return *reinterpret_cast<u64*>(slot); }

  // `parity`: 0 for a producer (waits for turn 2 * lap), 1 for a consumer (2 * lap + 1).
  bool take(u64& counter, u64 parity, u64& ticket, PollGuard& guard) {
    if constexpr (kTicketFirst) {
      // Relaxed: the turn of the slot carries the ordering, the ticket only has to be unique.
      ticket = Atomics::add(counter, u64{1}, std::memory_order_relaxed);
      // FILLED or FREED: acquire.
      while (Atomics::load(turn_of(slot_of(ticket)), std::memory_order_acquire) != 2 * (ticket >> shift_) + parity) {
        if (guard.give_up()) return false;
      }
      return true;
    } else {
      ticket = Atomics::load(counter, std::memory_order_relaxed);
      for (;;) {
        // FILLED or FREED: acquire.
        if (Atomics::load(turn_of(slot_of(ticket)), std::memory_order_acquire) == 2 * (ticket >> shift_) + parity) {
          // Acquire only because the policy's failure order is: the turn carries the ordering.
          if (Atomics::cas(counter, ticket, ticket + 1, std::memory_order_acquire)) return true;
          continue;  // `ticket` was reloaded.
        }
        const u64 before = ticket;
        ticket = Atomics::load(counter, std::memory_order_relaxed);
        if (ticket == before && guard.give_up()) return false;
      }
    }
  }

  Tickets* tickets_;
  u8* slots_;
  u64 stride_;
  u64 mask_;
  unsigned shift_;
};

// ---- what is measured ---------------------------------------------------------------------------------------------

template <class Ring>
class RingSender {
 public:
  RingSender(Ring ring, u64 size_bytes) : ring_(ring), size_bytes_(size_bytes) {}
  template <class Write>
  bool send(u64 /*round*/, Write&& write, PollGuard& guard) {
    return ring_.push(write, size_bytes_, guard);
  }

 private:
  Ring ring_;
  u64 size_bytes_;
};

template <class Ring>
class RingReceiver {
 public:
  explicit RingReceiver(Ring ring) : ring_(ring) {}
  template <class Size>
  bool receive(u64 /*round*/, void* to, Size size, PollGuard& guard) {
    return ring_.pop(to, size, guard);
  }

 private:
  Ring ring_;
};

struct PeerBoard {
  alignas(kLineBytes) u32 producers_running;
  struct alignas(kLineBytes) PerRole {
    u64 messages;
    u64 stamp_sum;
    u64 broken;
    u64 ticks;  // start of a producer, end of a consumer
  };
  std::array<PerRole, kRolesMax> roles;
};

// How many messages go between two looks at the clock.
constexpr u64 look_interval(u64 size_bytes) { return size_bytes >= 4096 ? 1 : 4096 / size_bytes; }

template <class Ring, class Size>
Status run_producer(RoleContext& role, PeerBoard& board, Ring ring, Size size, unsigned consumers, double seconds) {
  PollGuard guard(role);
  auto& mine = board.roles[role.index()];
  SourceMessages source(size);
  if (Status started = role.wait_for_start(); !started) return started;
  mine.ticks = ticks_now();
  const u64 end_ticks = mine.ticks + seconds_to_ticks(seconds);
  u64 stamp = u64{role.index()} << kProducerShift;
  u64 sum = 0;
  u64 messages = 0;
  for (u64 until_look = look_interval(size);;) {
    const void* message = source.message(stamp);
    if (!ring.push([&](void* to) { std::memcpy(to, message, size); }, size, guard)) {
      return fail(Code::kTimeout, "the ring stayed full");
    }
    sum += stamp++;
    ++messages;
    if (--until_look != 0) continue;
    until_look = look_interval(size);
    if (ticks_now() >= end_ticks) break;
  }
  mine.messages = messages;
  mine.stamp_sum = sum;
  // The last producer to end poisons the consumers: acq_rel, so that all pushes come before the poison.
  if (Atomics::add(board.producers_running, ~u32{0}, std::memory_order_acq_rel) == 1) {
    for (unsigned i = 0; i < consumers; ++i) {
      if (!ring.push([&](void* to) { fill_content(to, size, kPoison); }, size, guard)) {
        return fail(Code::kTimeout, "the ring stayed full at the end");
      }
    }
  }
  return {};
}

// True if `stamp` is the next of its producer that this consumer may see: in order, holes where others took them.
class OrderCheck {
 public:
  bool in_order(u64 stamp) {
    const u64 producer = (stamp >> kProducerShift) % kRolesMax;
    const bool good = stamp >= next_[producer];
    next_[producer] = stamp + 1;
    return good;
  }

 private:
  std::array<u64, kRolesMax> next_{};
};

template <class Ring, class Size>
Status run_consumer(RoleContext& role, PeerBoard& board, Ring ring, Size size) {
  PollGuard guard(role);
  auto& mine = board.roles[role.index()];
  const AlignedBytes copy = aligned_bytes(size);
  OrderCheck order;
  if (Status started = role.wait_for_start(); !started) return started;
  u64 sum = 0;
  u64 messages = 0;
  u64 broken = 0;
  for (;;) {
    if (!ring.pop(copy.get(), size, guard)) return fail(Code::kTimeout, "the ring stayed empty");
    const u64 stamp = content_stamp(copy.get(), size);
    if (!content_is(copy.get(), size, stamp)) ++broken;
    if (__builtin_expect(stamp == kPoison, false)) break;
    if (!order.in_order(stamp)) ++broken;
    sum += stamp;
    ++messages;
  }
  mine.ticks = ticks_now();
  mine.messages = messages;
  mine.stamp_sum = sum;
  mine.broken = broken;
  return {};
}

template <class Ring, class Size>
Status run_pair(RoleContext& role, PeerBoard& board, Ring push_ring, Ring pop_ring, Size size, double seconds) {
  PollGuard guard(role);
  auto& mine = board.roles[role.index()];
  SourceMessages source(size);
  const AlignedBytes copy = aligned_bytes(size);
  OrderCheck order;
  if (Status started = role.wait_for_start(); !started) return started;
  const u64 start_ticks = ticks_now();
  const u64 end_ticks = start_ticks + seconds_to_ticks(seconds);
  u64 stamp = u64{role.index()} << kProducerShift;
  u64 sum = 0;
  u64 messages = 0;
  u64 broken = 0;
  for (u64 until_look = 64;;) {
    const void* message = source.message(stamp);
    if (!push_ring.push([&](void* to) { std::memcpy(to, message, size); }, size, guard) ||
        !pop_ring.pop(copy.get(), size, guard)) {
      return fail(Code::kTimeout, "the pair ring stood still");
    }
    const u64 seen = content_stamp(copy.get(), size);
    if (!content_is(copy.get(), size, seen) || !order.in_order(seen)) ++broken;
    sum += stamp++ - seen;  // Zero in all when every message pushed was popped once.
    ++messages;
    if (--until_look != 0) continue;
    until_look = 64;
    if (ticks_now() >= end_ticks) break;
  }
  mine.ticks = ticks_now() - start_ticks;
  mine.messages = messages;
  mine.stamp_sum = sum;
  mine.broken = broken;
  return {};
}

Status check_options(Peer peer, u64 size_bytes, const PeerOptions& options) {
  if (size_bytes < 8 || options.ring_bytes / size_bytes < 4) {
    return fail(Code::kBadArgument, "a peer ring needs messages of at least 8 B and room for 4; size " +
                                        std::to_string(size_bytes) + ", ring " + std::to_string(options.ring_bytes));
  }
  if (options.producers == 0 || options.consumers == 0 || options.producers + options.consumers > kRolesMax ||
      (peer_is_spsc(peer) && options.producers + options.consumers != 2)) {
    return fail(Code::kBadArgument, std::string(peer_name(peer)) + " cannot run with " +
                                        std::to_string(options.producers) + " producers and " +
                                        std::to_string(options.consumers) + " consumers");
  }
  return {};
}

template <class Call>
Result<Measurement> with_ring(Peer peer, Call&& call) {
  switch (peer) {
    case Peer::kSpscIndexRing: return call.template operator()<SpscIndexRing<0>>();
    case Peer::kSpscIndexRingBackOff: return call.template operator()<SpscIndexRing<kBackOffPauses>>();
    case Peer::kMpmcTicketRing: return call.template operator()<MpmcTurnRing<true>>();
    case Peer::kMpmcTryRing: return call.template operator()<MpmcTurnRing<false>>();
  }
  return fail(Code::kBadArgument, "no such peer");
}

Error broken_run(const std::string& name, u64 sent, u64 received, u64 broken) {
  return {Code::kCorrupt, name + ": " + std::to_string(sent) + " sent, " + std::to_string(received) + " received, " +
                              std::to_string(broken) + " with wrong content or order; the ring is broken"};
}

}  // namespace

const char* peer_name(Peer peer) {
  switch (peer) {
    case Peer::kSpscIndexRing: return "peer_spsc_index_ring";
    case Peer::kSpscIndexRingBackOff: return "peer_spsc_index_ring_back_off";
    case Peer::kMpmcTicketRing: return "peer_mpmc_ticket_ring";
    case Peer::kMpmcTryRing: return "peer_mpmc_try_ring";
  }
  return "peer_unknown";
}

bool peer_is_spsc(Peer peer) { return peer == Peer::kSpscIndexRing || peer == Peer::kSpscIndexRingBackOff; }

Result<Measurement> peer_ping_pong(Peer peer, u64 size_bytes, const PeerOptions& options) {
  if (Status ok = check_options(peer, size_bytes, {.ring_bytes = options.ring_bytes}); !ok) return fail(ok.error());
  const u64 slots = options.ring_bytes / size_bytes;
  return with_ring(peer, [&]<class Ring>() -> Result<Measurement> {
    auto ping = SharedMemory::create(Ring::bytes_for(slots, size_bytes));
    auto pong = SharedMemory::create(Ring::bytes_for(slots, size_bytes));
    if (!ping) return fail(ping.error());
    if (!pong) return fail(pong.error());
    const auto ends = [&](bool initiator) {
      ping->map_all_pages();
      pong->map_all_pages();
      const SharedMemory& out = initiator ? *ping : *pong;
      const SharedMemory& in = initiator ? *pong : *ping;
      return PingPongEnds<RingSender<Ring>, RingReceiver<Ring>>{
          RingSender<Ring>(Ring(out, slots, size_bytes), size_bytes), RingReceiver<Ring>(Ring(in, slots, size_bytes))};
    };
    return ping_pong(peer_name(peer), size_bytes, {options.seconds, options.nice_value}, ends);
  });
}

Result<Measurement> peer_throughput(Peer peer, u64 size_bytes, const PeerOptions& options) {
  if (Status ok = check_options(peer, size_bytes, options); !ok) return fail(ok.error());
  const u64 slots = options.ring_bytes / size_bytes;
  const unsigned role_count = options.producers + options.consumers;
  return with_ring(peer, [&]<class Ring>() -> Result<Measurement> {
    auto memory = SharedMemory::create(Ring::bytes_for(slots, size_bytes));
    if (!memory) return fail(memory.error());
    auto shared_board = Shared<PeerBoard>::create();
    if (!shared_board) return fail(shared_board.error());
    PeerBoard& board = **shared_board;
    board.producers_running = options.producers;

    const std::vector<int> cpus = cpus_for(role_count);
    std::vector<Role> roles;
    for (unsigned i = 0; i < role_count; ++i) {
      const bool produces = i < options.producers;
      roles.push_back({std::string(peer_name(peer)) + (produces ? " producer" : " consumer"),
                       [&, produces](RoleContext& role) {
                         memory->map_all_pages();
                         shared_board->map_all_pages();
                         const Ring ring(*memory, slots, size_bytes);
                         return with_size(size_bytes, [&](auto size) {
                           return produces ? run_producer(role, board, ring, size, options.consumers, options.seconds)
                                           : run_consumer(role, board, ring, size);
                         });
                       },
                       cpus[i]});
    }
    const auto outcome = run_roles(roles, {seconds_to_watchdog_ns(options.seconds), options.nice_value});
    if (!outcome) return fail(outcome.error());

    u64 sent = 0;
    u64 received = 0;
    u64 broken = 0;
    u64 sum = 0;
    u64 start_ticks = 0;
    u64 end_ticks = 0;
    for (unsigned i = 0; i < role_count; ++i) {
      const auto& one = board.roles[i];
      if (i < options.producers) {
        sent += one.messages;
        sum += one.stamp_sum;
        start_ticks = start_ticks == 0 ? one.ticks : std::min(start_ticks, one.ticks);
      } else {
        received += one.messages;
        sum -= one.stamp_sum;
        broken += one.broken;
        end_ticks = std::max(end_ticks, one.ticks);
      }
    }
    if (sent != received || sum != 0 || broken != 0) {
      return fail(broken_run(peer_name(peer), sent, received, broken));
    }
    Measurement result;
    result.name = peer_name(peer);
    result.size_bytes = size_bytes;
    result.producers = options.producers;
    result.consumers = options.consumers;
    result.messages = received;
    result.pinned = outcome->pinned;
    result.messages_per_second = rate_per_second(received, start_ticks, end_ticks);
    result.bytes_per_second = *result.messages_per_second * static_cast<double>(size_bytes);
    return result;
  });
}

Result<Measurement> peer_pairs(Peer peer, u64 size_bytes, const PeerOptions& options) {
  if (peer_is_spsc(peer)) return fail(Code::kBadArgument, "pairs need a ring with several producers and consumers");
  if (Status ok = check_options(peer, size_bytes, {.ring_bytes = options.ring_bytes}); !ok) return fail(ok.error());
  const u64 slots = options.ring_bytes / size_bytes;
  return with_ring(peer, [&]<class Ring>() -> Result<Measurement> {
    auto memory = SharedMemory::create(Ring::bytes_for(slots, size_bytes));
    if (!memory) return fail(memory.error());
    auto shared_board = Shared<PeerBoard>::create();
    if (!shared_board) return fail(shared_board.error());
    PeerBoard& board = **shared_board;

    const std::vector<int> cpus = cpus_for(2);
    std::vector<Role> roles;
    for (unsigned i = 0; i < 2; ++i) {
      roles.push_back({std::string(peer_name(peer)) + " pair",
                       [&](RoleContext& role) {
                         memory->map_all_pages();
                         shared_board->map_all_pages();
                         const Ring ring(*memory, slots, size_bytes);
                         return with_size(size_bytes, [&](auto size) {
                           return run_pair(role, board, ring, ring, size, options.seconds);
                         });
                       },
                       cpus[i]});
    }
    const auto outcome = run_roles(roles, {seconds_to_watchdog_ns(options.seconds), options.nice_value});
    if (!outcome) return fail(outcome.error());
    const auto& first = board.roles[0];
    const auto& second = board.roles[1];
    const u64 messages = first.messages + second.messages;
    if (first.stamp_sum + second.stamp_sum != 0 || first.broken + second.broken != 0) {
      return fail(
          broken_run(std::string(peer_name(peer)) + " pairs", messages, messages, first.broken + second.broken));
    }
    Measurement result;
    result.name = std::string(peer_name(peer)) + "_pairs";
    result.size_bytes = size_bytes;
    result.producers = 2;
    result.consumers = 2;
    result.messages = messages;
    result.pinned = outcome->pinned;
    result.messages_per_second =
        rate_per_second(first.messages, 0, first.ticks) + rate_per_second(second.messages, 0, second.ticks);
    result.bytes_per_second = *result.messages_per_second * static_cast<double>(size_bytes);
    return result;
  });
}

}  // namespace mooring::bench
