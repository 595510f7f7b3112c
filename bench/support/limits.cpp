// The physical limits, written out by hand. See limits.hpp for what each one is.
//
// WHO WRITES WHAT
//   ping lines, ping index    the initiator        flag or index = number of the round, from 1, never reused
//   pong lines, pong index    the echoer           the same; payload = the initiator's, copied out and sent back
//   stream chunks, written    the producer         `written` counts chunks published
//   read                      the consumer         `read` counts chunks copied out
//   stop, sent                the initiator/producer, once, at its end
//
// PAIRINGS
//   SENT    store flag/index/written release | load acquire: the payload is visible with its number.
//   FREED   store read release | load acquire: the copy is over before the chunk is written again.
//           (A ping-pong needs none: the answer to round r is that round's FREED, and 4095 more rounds pass.)
//   STOP    store stop release | PollGuard's load acquire: `sent` is final.
//
// IF A PROCESS STOPS   Nothing is repaired: the other one gives up at its deadline and the run fails.
//
// TESTED BY  tests/bench/limits_test.cpp
#include "bench/support/limits.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>

#include "base/atomics.hpp"
#include "bench/support/clock.hpp"
#include "bench/support/content.hpp"
#include "bench/support/ping_pong.hpp"
#include "bench/support/poll_guard.hpp"
#include "bench/support/samples.hpp"
#include "bench/support/shared_memory.hpp"

namespace mooring::bench {

namespace {

using Atomics = HardwareAtomics;

Status check_size(const char* limit, u64 size_bytes, u64 size_bytes_max) {
  if (size_bytes <= size_bytes_max) return {};
  return fail(Code::kTooBig, std::string(limit) + " carries at most " + std::to_string(size_bytes_max) +
                                 " bytes, not " + std::to_string(size_bytes) + "; choose a smaller size");
}

// ---- one line: flag and payload together --------------------------------------------------------------------------

struct alignas(kExchangeLineBytes) FlaggedLine {
  u64 flag;
  std::array<u8, kOneLinePayloadMax> payload;
};
static_assert(sizeof(FlaggedLine) == kExchangeLineBytes);

struct OneLineRing {
  alignas(kPageBytes) std::array<FlaggedLine, kExchangeLines> lines;
};

class OneLineSender {
 public:
  explicit OneLineSender(OneLineRing& ring) : ring_(&ring) {}
  template <class Write>
  bool send(u64 round, Write&& write, PollGuard& /*guard*/) {
    FlaggedLine& line = ring_->lines[round % kExchangeLines];
    write(line.payload.data());
    // SENT: release, so that the payload is there before its flag.
    Atomics::store(line.flag, round, std::memory_order_release);
    return true;
  }

 private:
  OneLineRing* ring_;
};

class OneLineReceiver {
 public:
  explicit OneLineReceiver(OneLineRing& ring) : ring_(&ring) {}
  template <class Size>
  bool receive(u64 round, void* to, Size size, PollGuard& guard) {
    FlaggedLine& line = ring_->lines[round % kExchangeLines];
    // SENT: acquire, so that the payload is read after its flag.
    while (Atomics::load(line.flag, std::memory_order_acquire) != round) {
      if (guard.give_up()) return false;
    }
    std::memcpy(to, line.payload.data(), size);
    return true;
  }

 private:
  OneLineRing* ring_;
};

// ---- two lines: an index line, and a ring of payload lines --------------------------------------------------------

struct TwoLineRing {
  alignas(kPageBytes) u64 index;
  alignas(kPageBytes) std::array<std::array<u8, kExchangeLineBytes>, kExchangeLines> lines;
};

class TwoLineSender {
 public:
  explicit TwoLineSender(TwoLineRing& ring) : ring_(&ring) {}
  template <class Write>
  bool send(u64 round, Write&& write, PollGuard& /*guard*/) {
    write(ring_->lines[round % kExchangeLines].data());
    // SENT: release, so that the payload is there before the index that counts it.
    Atomics::store(ring_->index, round, std::memory_order_release);
    return true;
  }

 private:
  TwoLineRing* ring_;
};

class TwoLineReceiver {
 public:
  explicit TwoLineReceiver(TwoLineRing& ring) : ring_(&ring) {}
  template <class Size>
  bool receive(u64 round, void* to, Size size, PollGuard& guard) {
    // SENT: acquire, so that the payload is read after the index that counts it.
    while (Atomics::load(ring_->index, std::memory_order_acquire) != round) {
      if (guard.give_up()) return false;
    }
    std::memcpy(to, ring_->lines[round % kExchangeLines].data(), size);
    return true;
  }

 private:
  TwoLineRing* ring_;
};

// ---- parked: one line, and the waiting side sleeps in the kernel ---------------------------------------------------

struct ParkedLine {
  alignas(kPageBytes) u32 flag;  // the round's low 32 bits: a futex word has 32
  alignas(8) std::array<u8, kOneLinePayloadMax> payload;
  alignas(kLineBytes) u64 sleeps;  // counted by the receiver
};

class ParkedSender {
 public:
  explicit ParkedSender(ParkedLine& line) : line_(&line) {}
  template <class Write>
  bool send(u64 round, Write&& write, PollGuard& /*guard*/) {
    write(line_->payload.data());
    // SENT: release, so that the payload is there before its flag.
    Atomics::store(line_->flag, static_cast<u32>(round), std::memory_order_release);
    return ::syscall(SYS_futex, &line_->flag, FUTEX_WAKE, 1, nullptr, nullptr, 0) >= 0;
  }

 private:
  ParkedLine* line_;
};

class ParkedReceiver {
 public:
  explicit ParkedReceiver(ParkedLine& line) : line_(&line) {}
  template <class Size>
  bool receive(u64 round, void* to, Size size, PollGuard& guard) {
    const auto wanted = static_cast<u32>(round);
    for (;;) {
      // SENT: acquire, so that the payload is read after its flag.
      const u32 seen = Atomics::load(line_->flag, std::memory_order_acquire);
      if (seen == wanted) break;
      // A limit on each sleep, so that the stop word and the deadline are looked at: nobody wakes us for them.
      const timespec longest{0, 20 * static_cast<long>(kNsPerMs)};
      if (::syscall(SYS_futex, &line_->flag, FUTEX_WAIT, seen, &longest, nullptr, 0) == 0) {
        ++line_->sleeps;
        continue;
      }
      if (errno == ETIMEDOUT && guard.look_now()) return false;
    }
    std::memcpy(to, line_->payload.data(), size);
    return true;
  }

 private:
  ParkedLine* line_;
};

template <class Ring>
struct BothWays {
  Ring ping;
  Ring pong;
};

template <class Sender, class Receiver, class Ring>
Result<Measurement> exchange(const char* name, u64 size_bytes, const PingPongOptions& options,
                             const Shared<BothWays<Ring>>& rings) {
  const auto ends = [&](bool initiator) {
    rings.map_all_pages();
    return initiator ? PingPongEnds<Sender, Receiver>{Sender(rings->ping), Receiver(rings->pong)}
                     : PingPongEnds<Sender, Receiver>{Sender(rings->pong), Receiver(rings->ping)};
  };
  return ping_pong(name, size_bytes, options, ends);
}

// ---- stream -------------------------------------------------------------------------------------------------------

struct StreamBoard {
  alignas(kLineBytes) u64 written;
  alignas(kLineBytes) u64 read;
  alignas(kLineBytes) u32 stop;
  u64 sent;         // by the producer, before STOP
  u64 start_ticks;  // by the producer
  alignas(kLineBytes) u64 received;
  u64 broken;
  u64 end_ticks;
};

template <class Size>
Status produce_stream(RoleContext& role, StreamBoard& board, u8* ring, u64 chunks, Size size, u64 publish_every,
                      double seconds) {
  PollGuard guard(role);
  const bool by_copy = size >= kStreamCopyBytesMin;
  SourceMessages source(by_copy ? static_cast<u64>(size) : 0);
  if (Status started = role.wait_for_start(); !started) return started;
  u64 now_ticks = ticks_now();
  board.start_ticks = now_ticks;
  const u64 end_ticks = now_ticks + seconds_to_ticks(seconds);
  const u64 size_bytes = size;
  // A clock read costs as much as a small chunk: look at it about every 4 KiB.
  const u64 look_every = std::max<u64>(1, 4096 / std::max<u64>(1, size_bytes));
  u64 until_look = look_every;
  u64 until_publish = publish_every;
  u64 written = 0;
  u64 read_seen = 0;
  u64 slot = 0;
  for (;;) {
    if (written - read_seen == chunks) {
      // All chunks are full. What is not yet published must be, or both sides wait.
      Atomics::store(board.written, written, std::memory_order_release);  // SENT
      until_publish = publish_every;
      // FREED: acquire, so that our next write comes after the consumer's copy.
      while ((read_seen = Atomics::load(board.read, std::memory_order_acquire)) + chunks == written) {
        if (guard.give_up()) return fail(Code::kTimeout, "the consumer of the stream stopped reading");
      }
    }
    if (by_copy) {
      std::memcpy(ring + slot * size_bytes, source.message(written), size);
    } else {
      fill_content(ring + slot * size_bytes, size, written);
    }
    if (++slot == chunks) slot = 0;
    ++written;
    if (--until_publish == 0) {
      Atomics::store(board.written, written, std::memory_order_release);  // SENT: the chunks before it are visible.
      until_publish = publish_every;
    }
    if (--until_look == 0) {
      until_look = look_every;
      if (ticks_now() >= end_ticks) break;
    }
  }
  Atomics::store(board.written, written, std::memory_order_release);  // SENT
  board.sent = written;
  Atomics::store(board.stop, u32{1}, std::memory_order_release);  // STOP: `sent` is final.
  return {};
}

template <class Size>
Status consume_stream(RoleContext& role, StreamBoard& board, const u8* ring, u64 chunks, Size size,
                      unsigned back_off_pauses) {
  PollGuard guard(role, &board.stop);
  const u64 size_bytes = size;
  const AlignedBytes copy = aligned_bytes(size_bytes);
  // Space is given back an eighth of the ring at a time: the producer asks only when the ring is full.
  const u64 give_back_every = std::max<u64>(1, chunks / 8);
  if (Status started = role.wait_for_start(); !started) return started;
  u64 read = 0;
  u64 given_back = 0;
  u64 slot = 0;
  u64 broken = 0;
  for (;;) {
    u64 written = Atomics::load(board.written, std::memory_order_acquire);  // SENT
    if (written == read) {
      if (given_back != read) {
        Atomics::store(board.read, read, std::memory_order_release);  // FREED
        given_back = read;
      }
      for (unsigned i = 0; i < back_off_pauses; ++i) Atomics::pause();
      if (!guard.give_up()) continue;
      if (guard.timed_out()) return fail(Code::kTimeout, "the producer of the stream stopped writing");
      written = Atomics::load(board.written, std::memory_order_acquire);  // SENT; after STOP it is final.
      if (written == read) break;
    }
    while (read != written) {
      std::memcpy(copy.get(), ring + slot * size_bytes, size);
      if (!content_is(copy.get(), size, read)) ++broken;
      if (++slot == chunks) slot = 0;
      ++read;
      if (read - given_back >= give_back_every) {
        Atomics::store(board.read, read, std::memory_order_release);  // FREED: our copies are over.
        given_back = read;
      }
    }
    board.end_ticks = ticks_now();
  }
  board.received = read;
  board.broken = broken;
  return {};
}

}  // namespace

Result<Measurement> ring_exchange_one_line(u64 size_bytes, const LimitOptions& options) {
  if (Status ok = check_size("ring_exchange_one_line", size_bytes, kOneLinePayloadMax); !ok) return fail(ok.error());
  const auto rings = Shared<BothWays<OneLineRing>>::create();
  if (!rings) return fail(rings.error());
  return exchange<OneLineSender, OneLineReceiver>("ring_exchange_one_line", size_bytes,
                                                  {options.seconds, options.nice_value}, *rings);
}

Result<Measurement> ring_exchange_two_line(u64 size_bytes, const LimitOptions& options) {
  if (Status ok = check_size("ring_exchange_two_line", size_bytes, kExchangeLineBytes); !ok) return fail(ok.error());
  const auto rings = Shared<BothWays<TwoLineRing>>::create();
  if (!rings) return fail(rings.error());
  return exchange<TwoLineSender, TwoLineReceiver>("ring_exchange_two_line", size_bytes,
                                                  {options.seconds, options.nice_value}, *rings);
}

Result<Measurement> futex_round_trip(u64 size_bytes, const LimitOptions& options) {
  if (Status ok = check_size("futex_round_trip", size_bytes, kOneLinePayloadMax); !ok) return fail(ok.error());
  const auto lines = Shared<BothWays<ParkedLine>>::create();
  if (!lines) return fail(lines.error());
  auto result = exchange<ParkedSender, ParkedReceiver>("futex_round_trip", size_bytes,
                                                       {options.seconds, options.nice_value, kParkedThink_ns}, *lines);
  if (result) {
    const u64 sleeps = (*lines)->ping.sleeps + (*lines)->pong.sleeps;
    result->sleeps_per_round = static_cast<double>(sleeps) / static_cast<double>(result->messages);
  }
  return result;
}

Result<Measurement> stream_in_place(u64 size_bytes, const StreamOptions& stream, const LimitOptions& options) {
  if (size_bytes == 0 || stream.ring_bytes / size_bytes < 4) {
    return fail(Code::kBadArgument, "a stream needs chunks of at least 1 byte and a ring of at least 4 chunks; size " +
                                        std::to_string(size_bytes) + ", ring " + std::to_string(stream.ring_bytes));
  }
  const u64 chunks = stream.ring_bytes / size_bytes;
  const u64 publish_every = std::clamp<u64>(stream.publish_every, 1, chunks / 4);
  auto ring = SharedMemory::create(stream.ring_bytes);
  if (!ring) return fail(std::move(ring.error()));
  auto shared_board = Shared<StreamBoard>::create();
  if (!shared_board) return fail(std::move(shared_board.error()));
  StreamBoard& board = **shared_board;

  const std::vector<int> cpus = cpus_for(2);
  const std::array<Role, 2> roles{
      Role{"stream producer",
           [&](RoleContext& role) {
             ring->map_all_pages();
             shared_board->map_all_pages();
             return with_size(size_bytes, [&](auto size) {
               return produce_stream(role, board, ring->data(), chunks, size, publish_every, options.seconds);
             });
           },
           cpus[0]},
      Role{"stream consumer",
           [&](RoleContext& role) {
             ring->map_all_pages();
             shared_board->map_all_pages();
             return with_size(size_bytes, [&](auto size) {
               return consume_stream(role, board, ring->data(), chunks, size, stream.back_off_pauses);
             });
           },
           cpus[1]}};
  const auto outcome = run_roles(roles, {seconds_to_watchdog_ns(options.seconds), options.nice_value});
  if (!outcome) return fail(outcome.error());
  if (board.broken != 0 || board.received != board.sent) {
    return fail(Code::kCorrupt, "stream of " + std::to_string(size_bytes) + " B chunks: " + std::to_string(board.sent) +
                                    " sent, " + std::to_string(board.received) + " received, " +
                                    std::to_string(board.broken) +
                                    " with wrong content; this machine's memory or the "
                                    "benchmark is broken");
  }
  Measurement result;
  result.name = "stream_in_place_" + std::to_string(publish_every) + (stream.back_off_pauses != 0 ? "_back_off" : "");
  result.size_bytes = size_bytes;
  result.messages = board.received;
  result.pinned = outcome->pinned;
  result.messages_per_second = rate_per_second(board.received, board.start_ticks, board.end_ticks);
  result.bytes_per_second = *result.messages_per_second * static_cast<double>(size_bytes);
  return result;
}

}  // namespace mooring::bench
