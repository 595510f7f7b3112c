// Peers: the published algorithms of two well-known rings, in our own words, as rings between processes.
//
//   SPSC index ring   (as rigtorp's SPSCQueue describes it) fixed slots, a write and a read index on lines of their
//   own;
//                     each side keeps a private copy of the other's index and reads the real one only when the copy
//                     says full or empty. Plain, and with a consumer that waits 64 pauses after it found nothing.
//   MPMC turn ring    (as rigtorp's MPMCQueue describes it) a ticket from a shared counter names the slot and the turn;
//                     each slot starts with its turn word, next to the payload: even = free for that lap, odd = full.
//                     `ticket` takes the ticket first and waits for its slot; `try` takes it by CAS once the slot is
//                     ready.
//
// They are the scale for "as fast as the best of its kind", measured beside our queues with the same content and
// checks. They are not crash-proof: a process that dies in the middle stops them for ever, and that is the point of
// Mooring.
#pragma once

#include <string>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "bench/support/measurement.hpp"
#include "bench/support/processes.hpp"

namespace mooring::bench {

enum class Peer { kSpscIndexRing, kSpscIndexRingBackOff, kMpmcTicketRing, kMpmcTryRing };

const char* peer_name(Peer peer);
bool peer_is_spsc(Peer peer);

struct PeerOptions {
  double seconds = 0.3;
  u64 ring_bytes = u64{1} << 20;  // payload bytes of the ring, so that all sizes and queues have the same memory
  unsigned producers = 1;         // peer_throughput only
  unsigned consumers = 1;         // peer_throughput only
  int nice_value = kMeasurementNice;
};

// Messages of at least 8 B (they carry a stamp).
// Round trip over two rings, both sides spin. name "<peer>"
Result<Measurement> peer_ping_pong(Peer peer, u64 size_bytes, const PeerOptions& options = {});
// Producers publish one by one until the time is up; consumers copy out and check. Pinned where every role has a CPU.
Result<Measurement> peer_throughput(Peer peer, u64 size_bytes, const PeerOptions& options = {});
// MPMC only: two pinned processes push one and pop one in a loop (contention on both ends). Rate = messages popped.
Result<Measurement> peer_pairs(Peer peer, u64 size_bytes, const PeerOptions& options = {});

}  // namespace mooring::bench
