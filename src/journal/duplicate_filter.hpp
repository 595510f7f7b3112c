// Which message repeats another: decided in the order of the queue, in one place, from the ids that the log knows.
//
//   DuplicateFilter filter(bounds, writer.state().ids);
//   const MessageIdRecord record = filter.judge(seq, id, wall_ns, durable_seq);   // first != seq: a duplicate
//   writer.append_message({..., .id = &record}) && filter.accept(record);         // together, or not at all
//
// WINDOW   An id is known among the newest `messages_max` that were accepted, and for `window_ns` of the wall clock; a
// clock that was set back makes nobody older. A duplicate does not renew what it repeats.
//
// DECIDED AGAIN   What was decided and not announced is decided again by the next supervisor, for the same messages. So
// an id leaves only once it is out of the window of everything announced: as many more are kept as are not announced
// yet. The record says from where on they are kept (forget_below), so that a reader of the log forgets the same.
//
// IDS are compared by 128 bits of XXH3, seeded with the queue: two that differ are one in 2^-128 of the pairs.
//
// TESTED BY  journal/duplicate_filter_test, durable/dedup_test
#pragma once

#include <array>
#include <deque>
#include <span>
#include <unordered_map>

#include "journal/format.hpp"

namespace mooring::journal {

using MessageIdHash = std::array<u64, 2>;
MessageIdHash hash_id(const Uuid& uuid, std::span<const u8> id);

struct DuplicateBounds {
  u64 messages_max = 0;
  u64 window_ns = 0;
};

class DuplicateFilter {
 public:
  // `known`: as LogState has them, rising by seq.
  DuplicateFilter(const DuplicateBounds& bounds, const std::deque<MessageIdRecord>& known);

  // `durable_seq`: below it all was announced.
  MessageIdRecord judge(u64 seq, const MessageIdHash& id, u64 wall_ns, u64 durable_seq) const;
  // The next record of the log.
  void accept(const MessageIdRecord& record);

  u64 size() const { return known_.size(); }

 private:
  struct Known {
    u64 seq = 0;
    u64 wall_ns = 0;
    MessageIdHash id{};
  };
  struct HashOfHash {
    std::size_t operator()(const MessageIdHash& id) const { return id[0]; }
  };

  bool is_expired(const Known& known, u64 wall_ns) const;
  // Where `known_` has the message, which must be there; counted from its beginning.
  u64 place_of(u64 seq) const;

  DuplicateBounds bounds_;
  std::deque<Known> known_;
  std::unordered_map<MessageIdHash, u64, HashOfHash> newest_;  // the newest of `known_` with an id
};

}  // namespace mooring::journal
