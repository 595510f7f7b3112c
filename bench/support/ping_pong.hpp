// The two loops of a ping-pong, for any pair of one-way channels: the limits, the peers and Mooring's own queues run
// through the same code, so that their ratio is the ratio of the channels.
//
// A channel has two ends, used by one role each:
//   sender.send(round, write, guard) -> bool           `write(void* to)` puts the payload where the channel wants it;
//   receiver.receive(round, to, size, guard) -> bool   waits by `guard`, copies the payload out. Rounds count from 1.
// Either returns false only if the guard gave up.
//
// Method: one clock read a round, samples are differences of successive reads (with think_ns: from the end of the
// thinking), the first 5 % of the time is warm-up.
// The initiator generates the payload of each round; the echoer copies it out, checks it and sends its copy back; the
// initiator copies that out and checks it.
#pragma once

#include <array>
#include <cstring>
#include <string>

#include "base/atomics.hpp"
#include "bench/support/clock.hpp"
#include "bench/support/content.hpp"
#include "bench/support/measurement.hpp"
#include "bench/support/poll_guard.hpp"
#include "bench/support/processes.hpp"
#include "bench/support/samples.hpp"
#include "bench/support/shared_memory.hpp"

namespace mooring::bench {

struct PingPongOptions {
  double seconds = 0.3;
  int nice_value = kMeasurementNice;
  // The initiator spins this long before each round, outside the measured time. For channels that sleep: a waker that
  // comes back within a system call finds its partner not yet asleep, and the two then never sleep at all.
  u64 think_ns = 0;
};
// Long enough to fall asleep, short enough that the idle CPU has not gone into a deep state.
inline constexpr u64 kParkedThink_ns = 20'000;

template <class Sender, class Receiver>
struct PingPongEnds {
  Sender sender;
  Receiver receiver;
};

struct PingPongBoard {
  alignas(kLineBytes) u32 stop;
  alignas(kLineBytes) u64 rounds;
  u64 wrong_answers;
  LatencyHistogram round_trips;
  alignas(kLineBytes) u64 echoed;
  u64 wrong_questions;
};

template <class Size, class Ends>
Status initiate(RoleContext& role, PingPongBoard& board, Ends ends, Size size, const PingPongOptions& options) {
  PollGuard guard(role);
  const u64 size_bytes = size;
  const AlignedBytes answer = aligned_bytes(size_bytes);
  board.round_trips = LatencyHistogram{};  // Touches its pages.
  if (Status started = role.wait_for_start(); !started) return started;
  u64 last = ticks_now();
  const u64 length = seconds_to_ticks(options.seconds);
  const u64 think = ns_to_ticks(options.think_ns);
  const u64 warm = last + length / 20;
  const u64 end = last + length;
  u64 wrong = 0;
  u64 round = 1;
  for (;; ++round) {
    if (think != 0) {
      const u64 until = last + think;
      while ((last = ticks_now()) < until) HardwareAtomics::pause();
    }
    const bool sent = ends.sender.send(
        round, [&](void* to) { fill_content(to, size, round); }, guard);
    if (!sent || !ends.receiver.receive(round, answer.get(), size, guard)) {
      return fail(Code::kTimeout, "no answer to round " + std::to_string(round) + " of the ping-pong");
    }
    if (!content_is(answer.get(), size, round)) ++wrong;
    const u64 now = ticks_now();
    if (now >= warm) board.round_trips.record(now - last);
    last = now;
    if (now >= end) break;
  }
  board.rounds = round;
  board.wrong_answers = wrong;
  // STOP: release; pairs with the echoer's PollGuard.
  HardwareAtomics::store(board.stop, u32{1}, std::memory_order_release);
  return {};
}

template <class Size, class Ends>
Status echo(RoleContext& role, PingPongBoard& board, Ends ends, Size size) {
  PollGuard guard(role, &board.stop);
  const u64 size_bytes = size;
  const AlignedBytes copy = aligned_bytes(size_bytes);
  if (Status started = role.wait_for_start(); !started) return started;
  u64 wrong = 0;
  u64 round = 1;
  for (;; ++round) {
    if (!ends.receiver.receive(round, copy.get(), size, guard)) break;
    const bool sent = ends.sender.send(
        round, [&](void* to) { std::memcpy(to, copy.get(), size); }, guard);
    // Checked after the answer has left, while the initiator works: it must not be part of the round trip twice.
    if (!content_is(copy.get(), size, round)) ++wrong;
    if (!sent) break;
  }
  if (guard.timed_out()) return fail(Code::kTimeout, "round " + std::to_string(round) + " of the ping-pong never came");
  board.echoed = round - 1;
  board.wrong_questions = wrong;
  return {};
}

// `ends(bool initiator)` is called in the role's process, before the start, and returns its PingPongEnds.
template <class MakeEnds>
Result<Measurement> ping_pong(std::string name, u64 size_bytes, const PingPongOptions& options, MakeEnds&& ends) {
  auto shared_board = Shared<PingPongBoard>::create();
  if (!shared_board) return fail(std::move(shared_board.error()));
  PingPongBoard& board = **shared_board;
  const std::vector<int> cpus = cpus_for(2);
  const std::array<Role, 2> roles{
      Role{name + " initiator",
           [&](RoleContext& role) {
             return with_size(size_bytes, [&](auto size) { return initiate(role, board, ends(true), size, options); });
           },
           cpus[0]},
      Role{name + " echoer",
           [&](RoleContext& role) {
             return with_size(size_bytes, [&](auto size) { return echo(role, board, ends(false), size); });
           },
           cpus[1]}};
  const auto outcome = run_roles(roles, {seconds_to_watchdog_ns(options.seconds), options.nice_value});
  if (!outcome) return fail(outcome.error());
  if (board.wrong_answers != 0 || board.wrong_questions != 0 || board.rounds != board.echoed) {
    return fail(Code::kCorrupt, name + ": " + std::to_string(board.rounds) + " rounds, " +
                                    std::to_string(board.echoed) + " echoed, " + std::to_string(board.wrong_answers) +
                                    " answers and " + std::to_string(board.wrong_questions) +
                                    " questions with wrong content; the channel is broken");
  }
  Measurement result;
  result.name = std::move(name);
  result.size_bytes = size_bytes;
  result.messages = board.rounds;
  result.pinned = outcome->pinned;
  result.latency = board.round_trips.summary();
  return result;
}

}  // namespace mooring::bench
