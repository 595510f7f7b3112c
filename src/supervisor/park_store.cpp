#include "supervisor/park_store.hpp"

#include <algorithm>
#include <bit>
#include <iterator>

#include "base/atomics.hpp"
#include "base/kill_point.hpp"

namespace mooring {
namespace {

using A = HardwareAtomics;

constexpr u64 kChunkHeadBytes = sizeof(layout::ParkChunk);
constexpr u64 kSlotBytesMin = 256;
constexpr u64 kSharedChunkSlotMax = u64{256} << 10;  // larger records have a chunk of their own
constexpr u64 kChunkBytesMost = u64{8} << 20;

// Four sizes a doubling: at most a fifth is lost to rounding.
u64 slot_bytes_for(u64 bytes) {
  const u64 need = align_up(std::max(bytes, kSlotBytesMin), layout::kParkSlotAlignment);
  if (need > kSharedChunkSlotMax) return align_up(need + kChunkHeadBytes, layout::kParkStepBytes) - kChunkHeadBytes;
  const u64 quarter = std::bit_floor(need) / 4;
  return align_up(need, std::max(quarter, layout::kParkSlotAlignment));
}

}  // namespace

Status ParkStore::map_now() {
  Result<Mapping> mapping = files_->map_park(Access::read_write);
  if (!mapping) return fail(mapping.error());
  if (on_map_) on_map_(mapping_, *mapping);
  mapping_ = std::move(*mapping);
  mapped_once_ = true;
  return {};
}

Status ParkStore::load(const std::function<void(u64 loc)>& visit) {
  if (Status mapped = map_now(); !mapped) return mapped;  // (no file is an empty mapping)
  const u64 size = mapping_.size_bytes();
  const auto damaged = [&](u64 at) {
    damaged_ = true;
    return fail(Code::kCorrupt, "queue " + std::string(files_->constants().name) + ": its park file is damaged at " +
                                    std::to_string(at) +
                                    ": what lies behind is not delivered; remove the queue and "
                                    "create it again");
  };
  while (end_ + kChunkHeadBytes <= size) {
    const auto* head = reinterpret_cast<const layout::ParkChunk*>(mapping_.data() + end_);
    const u64 slots = A::load(head->slots, std::memory_order_acquire);
    if (slots == 0) break;
    const Chunk chunk{head->chunk_bytes, head->slot_bytes, slots};
    if (chunk.slot_bytes < kSlotBytesMin || chunk.slot_bytes % layout::kParkSlotAlignment != 0 ||
        chunk.bytes % kPageBytes != 0 || chunk.bytes > size - end_ || chunk.bytes < kChunkHeadBytes ||
        chunk.slots > (chunk.bytes - kChunkHeadBytes) / chunk.slot_bytes) {
      return damaged(end_);
    }
    chunks_[end_] = chunk;
    for (u64 slot = chunk.slots; slot-- > 0;) {
      const u64 loc = end_ + kChunkHeadBytes + slot * chunk.slot_bytes;
      if (word(loc).state == layout::RecordState::kFree) {
        free_[chunk.slot_bytes].push_back(loc);
        continue;
      }
      const auto* found = record(loc);
      const bool fits = word(loc).state == layout::RecordState::kNote
                            ? reinterpret_cast<const layout::ParkNote*>(found)->len <= layout::kReasonTextMax &&
                                  sizeof(layout::ParkNote) + reinterpret_cast<const layout::ParkNote*>(found)->len <=
                                      chunk.slot_bytes
                            : found->attempt_room <= layout::kAttemptsMax && found->len <= chunk.slot_bytes &&
                                  layout::park_record_bytes(found->attempt_room, found->len) <= chunk.slot_bytes;
      if (!fits) return damaged(loc);
      used_bytes_ += chunk.slot_bytes;
      visit(loc);
    }
    end_ += chunk.bytes;
  }
  return {};
}

bool ParkStore::add_chunk(u64 slot_bytes) {
  if (damaged_ || (!mapped_once_ && !map_now())) return false;
  const u64 whole = layout::kParkStepBytes;
  u64 bytes = slot_bytes > kSharedChunkSlotMax ? slot_bytes + kChunkHeadBytes
                                               : std::clamp(align_up(end_ / 8, whole), whole, kChunkBytesMost);
  // The first chunk begins behind the file's head.
  const u64 bound = files_->constants().park_store_bytes;
  if (end_ + bytes > bound && slot_bytes <= kSharedChunkSlotMax) bytes = bound > end_ ? bound - end_ : 0;
  bytes -= bytes % kPageBytes;
  if (bytes < kChunkHeadBytes + slot_bytes || end_ + bytes > bound) return false;
  while (mapping_.size_bytes() < end_ + bytes) {
    if (!grow_park_file(*files_, align_up(end_ + bytes, whole)) || !map_now()) return false;
  }
  auto* head = reinterpret_cast<layout::ParkChunk*>(mapping_.data() + end_);
  const Chunk chunk{bytes, slot_bytes, (bytes - kChunkHeadBytes) / slot_bytes};
  // What lies there may be of a chunk that was never finished; slots begin FREE.
  for (u64 slot = 0; slot < chunk.slots; ++slot) {
    const u64 loc = end_ + kChunkHeadBytes + slot * slot_bytes;
    A::store(record(loc)->word, u64{0}, std::memory_order_relaxed);
  }
  A::store(head->chunk_bytes, chunk.bytes, std::memory_order_relaxed);
  A::store(head->slot_bytes, chunk.slot_bytes, std::memory_order_relaxed);
  MOORING_KILL_POINT("park.chunk_sized");
  // Release: who walks the file acquires it and finds the sizes and the free slots.
  A::store(head->slots, chunk.slots, std::memory_order_release);
  MOORING_KILL_POINT("park.chunk_made");
  chunks_[end_] = chunk;
  std::vector<u64>& places = free_[slot_bytes];
  for (u64 slot = chunk.slots; slot-- > 0;) places.push_back(end_ + kChunkHeadBytes + slot * slot_bytes);
  end_ += bytes;
  return true;
}

u64 ParkStore::take(u64 bytes) {
  const u64 slot_bytes = slot_bytes_for(bytes);
  std::vector<u64>& places = free_[slot_bytes];
  if (places.empty() && !add_chunk(slot_bytes)) return 0;
  std::vector<u64>& now = free_[slot_bytes];
  const u64 loc = now.back();
  now.pop_back();
  used_bytes_ += slot_bytes;
  return loc;
}

u64 ParkStore::place(const FrameView& frame, u32 group, u32 group_generation, u32 attempt_room) {
  // The header is its producer's to write over: one garbage length must not take the room of many messages.
  if (frame.len > files_->constants().max_message_bytes) return 0;
  attempt_room = std::min(attempt_room, layout::kAttemptsMax);
  const u64 loc = take(layout::park_record_bytes(attempt_room, frame.len));
  if (loc == 0) return 0;
  layout::ParkRecord made{};
  made.word = A::load(record(loc)->word, std::memory_order_relaxed);  // our own file; FREE
  made.seq = frame.seq;
  made.group = group;
  made.group_generation = group_generation;
  made.frame_flags = frame.flags;
  made.attempt_room = attempt_room;
  made.len = frame.len;
  A::copy_in(record(loc), &made, sizeof made);
  A::copy_in(reinterpret_cast<u8*>(record(loc)) + layout::park_payload_offset(attempt_room), frame.payload, frame.len);
  set_word(loc, {.version = 0, .state = layout::RecordState::kStraggler, .failed = 0, .acquired = 0, .alone = false});
  return loc;
}

u64 ParkStore::place_note(u64 record_loc, std::string_view text) {
  text = text.substr(0, layout::kReasonTextMax);
  const u64 loc = take(sizeof(layout::ParkNote) + text.size());
  if (loc == 0) return 0;
  auto* note = reinterpret_cast<layout::ParkNote*>(mapping_.data() + loc);
  A::store(note->record, record_loc, std::memory_order_relaxed);
  A::store(note->len, u64{text.size()}, std::memory_order_relaxed);
  A::copy_in(reinterpret_cast<u8*>(note) + sizeof *note, text.data(), text.size());
  set_word(loc, {.version = 0, .state = layout::RecordState::kNote, .failed = 0, .acquired = 0, .alone = false});
  return loc;
}

std::string_view ParkStore::note(u64 loc) const {
  if (!is_slot(loc) || word(loc).state != layout::RecordState::kNote) return {};
  const auto* note = reinterpret_cast<const layout::ParkNote*>(mapping_.data() + loc);
  return {reinterpret_cast<const char*>(note) + sizeof *note, std::min(note->len, layout::kReasonTextMax)};
}

void ParkStore::each_used(const std::function<void(u64 loc)>& visit) {
  for (const auto& [place, chunk] : chunks_) {
    for (u64 slot = 0; slot < chunk.slots; ++slot) {
      const u64 loc = place + kChunkHeadBytes + slot * chunk.slot_bytes;
      if (word(loc).state != layout::RecordState::kFree) visit(loc);
    }
  }
}

void ParkStore::release(u64 loc) {
  if (!is_slot(loc) || word(loc).state == layout::RecordState::kFree) return;
  set_word(loc, {.version = 0, .state = layout::RecordState::kFree, .failed = 0, .acquired = 0, .alone = false});
  A::full_fence();  // PARKED: a reader that sees what is written here next sees FREE, too
  free_[slot_bytes(loc)].push_back(loc);
  used_bytes_ -= slot_bytes(loc);
}

void ParkStore::set_word(u64 loc, layout::RecordWord word) {
  u64& shared = record(loc)->word;
  word.version = layout::read_record_word(A::load(shared, std::memory_order_relaxed)).version + 1;  // own word
  A::store(shared, layout::make_record_word(word), std::memory_order_release);                      // PARKED
}

layout::RecordWord ParkStore::word(u64 loc) const {
  const auto* found = reinterpret_cast<const layout::ParkRecord*>(mapping_.data() + loc);
  return layout::read_record_word(A::load(found->word, std::memory_order_acquire));
}

bool ParkStore::is_slot(u64 loc) const {
  const auto after = chunks_.upper_bound(loc);
  if (after == chunks_.begin()) return false;
  const auto& [place, chunk] = *std::prev(after);
  const u64 first = place + kChunkHeadBytes;
  return loc >= first && (loc - first) % chunk.slot_bytes == 0 && (loc - first) / chunk.slot_bytes < chunk.slots;
}

bool ParkStore::is_record(u64 loc) const {
  if (!is_slot(loc)) return false;
  const layout::RecordState state = word(loc).state;
  return state != layout::RecordState::kFree && state != layout::RecordState::kNote;
}

bool ParkStore::is_record(u64 loc, u64 seq) const {
  return is_record(loc) && reinterpret_cast<const layout::ParkRecord*>(mapping_.data() + loc)->seq == seq;
}

u64 ParkStore::slot_bytes(u64 loc) const {
  const auto after = chunks_.upper_bound(loc);
  return after == chunks_.begin() ? 0 : std::prev(after)->second.slot_bytes;
}

}  // namespace mooring
