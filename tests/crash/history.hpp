// What the parties of a kill test did, as a list of events in the shared block, and the oracle: a pure function of it.
//
// Each party writes an event before and one after whatever it does, with the same instructions that are stepped and
// killed; so an operation that was cut shows as a beginning without an end, and the oracle knows no more about it than
// the process that was killed would have told.
#pragma once

#include <span>
#include <string>

#include "base/bytes.hpp"

namespace mooring::test {

enum class EventKind : u8 {
  kNone = 0,      // a place that was taken and not (yet) written, or taken back
  kPublishing,    // party, id of the first, count
  kPublished,     // the same; count: how many of them the call confirmed
  kTaking,        // party
  kDelivered,     // party, seq, id, attempt; detail 1: the bytes are whole
  kSettling,      // party, seq .. last_seq; detail: Settle
  kSettled,       // the same; count 0: refused as stale
  kProducerDied,  // party
  kConsumerDied,  // party
  kCorrupt,       // party; detail: where. Never right: nobody scribbles here.
};
enum class Settle : u8 { kAck = 0, kGiveBack = 1, kNack = 2 };

struct Event {
  EventKind kind;
  u8 party = 0;
  u8 detail = 0;
  u32 count = 0;
  u64 seq = 0;
  u64 id = 0;       // message_id
  u64 attempt = 0;  // kSettling, kSettled: last seq
};
static_assert(sizeof(Event) == 32);

constexpr u64 message_id(u32 producer, u64 index) { return (u64{producer} << 32) | index; }
constexpr u32 id_producer(u64 id) { return static_cast<u32>(id >> 32); }
constexpr u64 id_index(u64 id) { return id & 0xffffffffU; }

// Payloads say whose they are, and every word of them hangs on that, so a foreign byte shows.
inline constexpr u64 kPayloadBytesMax = 48;
constexpr u64 payload_bytes(u64 id) { return 8 + 8 * ((id_index(id) * 3 + id_producer(id)) % 5) + id_index(id) % 3; }
void write_payload(u8* to, u64 id);
bool payload_is_whole(const u8* bytes, u64 len, u64* id);

// A process may be stopped in the middle of writing an event, while others write theirs: a place is taken by one atomic
// instruction, and counts once its kind is written, which comes last.
class History {
 public:
  History() = default;
  History(u64* words, u64 count) : words_(words), capacity_((count - 1) / 4) {}

  u64 append(const Event& event);  // the number of the event
  void retract(u64 number);        // the event came to nothing
  std::span<const Event> events() const {
    return {reinterpret_cast<const Event*>(words_ + 1), words_[0] < capacity_ ? words_[0] : capacity_};
  }
  bool is_full() const { return words_[0] >= capacity_; }

 private:
  u64* words_ = nullptr;  // the number of events, then the events
  u64 capacity_ = 0;
};

struct HistoryRules {
  bool exclusive = false;      // one consumer, in order
  bool batch_at_once = false;  // a killed batch is there as a whole or not at all; else a prefix
  u64 first_seq = 0;
};

// Judges a history that ends with an empty queue. Empty: all promises were kept.
std::string broken_promise(std::span<const Event> events, const HistoryRules& rules);

}  // namespace mooring::test
