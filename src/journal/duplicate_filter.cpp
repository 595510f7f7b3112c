#include "journal/duplicate_filter.hpp"

#include <algorithm>

// The streaming functions pass force-inlined ones as values, which a compiler that optimises less cannot inline.
#ifndef NDEBUG
#define XXH_NO_INLINE_HINTS 1
#endif
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "journal/block_hash.hpp"

namespace mooring::journal {

MessageIdHash hash_id(const Uuid& uuid, std::span<const u8> id) {
  const XXH128_hash_t hash = XXH3_128bits_withSeed(id.data(), id.size(), hash_seed(uuid, 0));
  return {hash.low64, hash.high64};
}

DuplicateFilter::DuplicateFilter(const DuplicateBounds& bounds, const std::deque<MessageIdRecord>& known)
    : bounds_(bounds) {
  for (const MessageIdRecord& record : known) {
    known_.push_back({record.seq, record.wall_ns, {record.id[0], record.id[1]}});
    newest_[known_.back().id] = record.seq;
  }
}

bool DuplicateFilter::is_expired(const Known& known, u64 wall_ns) const {
  return wall_ns > known.wall_ns && wall_ns - known.wall_ns >= bounds_.window_ns;
}

u64 DuplicateFilter::place_of(u64 seq) const {
  return static_cast<u64>(std::ranges::lower_bound(known_, seq, {}, &Known::seq) - known_.begin());
}

MessageIdRecord DuplicateFilter::judge(u64 seq, const MessageIdHash& id, u64 wall_ns, u64 durable_seq) const {
  MessageIdRecord record{seq, seq, wall_ns, 0, {id[0], id[1]}};
  if (const auto found = newest_.find(id); found != newest_.end()) {
    const u64 place = place_of(found->second);
    if (known_.size() - place <= bounds_.messages_max && !is_expired(known_[place], wall_ns))
      record.first = found->second;
  }
  const u64 announced = place_of(durable_seq);
  const u64 accepted = record.first == seq ? 1 : 0;
  const u64 keep = bounds_.messages_max + (known_.size() - announced) + accepted;
  u64 gone = known_.size() + accepted > keep ? known_.size() + accepted - keep : 0;
  // Of what is not announced nothing goes, however old: it is decided again by another clock.
  while (gone < announced && is_expired(known_[gone], wall_ns)) ++gone;
  record.forget_below = gone < known_.size() ? known_[gone].seq : seq;
  return record;
}

void DuplicateFilter::accept(const MessageIdRecord& record) {
  while (!known_.empty() && known_.front().seq < record.forget_below) {
    const auto newest = newest_.find(known_.front().id);
    if (newest != newest_.end() && newest->second == known_.front().seq) newest_.erase(newest);
    known_.pop_front();
  }
  if (record.first != record.seq) return;
  known_.push_back({record.seq, record.wall_ns, {record.id[0], record.id[1]}});
  newest_[known_.back().id] = record.seq;
}

}  // namespace mooring::journal
