#include "segment/dead_letters.hpp"

#include <algorithm>

#include "base/atomics.hpp"

namespace mooring {
namespace {

using A = HardwareAtomics;

std::string note_at(const Mapping& park, u64 loc, u64 record_loc) {
  if (loc == 0 || loc % layout::kParkSlotAlignment != 0 || loc > park.size_bytes() - sizeof(layout::ParkNote))
    return {};
  const auto* note = reinterpret_cast<const layout::ParkNote*>(park.data() + loc);
  const u64 len = std::min(A::load(note->len, std::memory_order_relaxed), layout::kReasonTextMax);
  const auto word = layout::read_record_word(A::load(note->word, std::memory_order_acquire));
  if (word.state != layout::RecordState::kNote || A::load(note->record, std::memory_order_relaxed) != record_loc ||
      len > park.size_bytes() - loc - sizeof *note) {
    return {};
  }
  std::string text(len, '\0');
  A::copy_out(text.data(), reinterpret_cast<const u8*>(note) + sizeof *note, len);
  return text;
}

// False: it changed under us, or is not what is looked for.
bool read_record(const Mapping& park, u64 loc, u64 slot_bytes, const WantsParked& wants, bool with_payload,
                 ParkedMessage* message) {
  const auto* shared = reinterpret_cast<const layout::ParkRecord*>(park.data() + loc);
  const u64 word = A::load(shared->word, std::memory_order_acquire);  // PARKED
  message->word = layout::read_record_word(word);
  const layout::RecordState state = message->word.state;
  if (state == layout::RecordState::kFree || state == layout::RecordState::kNote ||
      !wants(A::load(shared->group, std::memory_order_relaxed),
             A::load(shared->group_generation, std::memory_order_relaxed), state)) {
    return false;
  }
  A::copy_out(&message->record, shared, sizeof message->record);
  const layout::ParkRecord& record = message->record;
  if (record.attempt_room > layout::kAttemptsMax || record.len > slot_bytes ||
      layout::park_record_bytes(record.attempt_room, record.len) > slot_bytes) {
    return false;
  }
  const auto* attempts = reinterpret_cast<const layout::ParkAttempt*>(shared + 1);
  message->attempts.clear();
  const u32 kept = std::min(record.attempts, record.attempt_room);
  for (u32 index = record.attempts - kept; index < record.attempts; ++index) {
    layout::ParkAttempt attempt;
    A::copy_out(&attempt, &attempts[index % record.attempt_room], sizeof attempt);
    if (attempt.wall_ns != 0) message->attempts.push_back(attempt);  // 0: made before a power cut
  }
  message->text = note_at(park, record.note, loc);
  message->payload.clear();
  if (with_payload) {
    message->payload.resize(record.len);
    A::copy_out(message->payload.data(), park.data() + loc + layout::park_payload_offset(record.attempt_room),
                record.len);
  }
  A::overread_fence();
  return A::load(shared->word, std::memory_order_relaxed) == word;
}

}  // namespace

Status each_parked(const QueueFiles& files, u32 group, u32 generation, layout::RecordState state, bool with_payload,
                   const std::function<bool(const ParkedMessage&)>& visit) {
  const auto wants = [&](u32 of, u32 of_generation, layout::RecordState in) {
    return of == group && of_generation == generation && in == state;
  };
  return each_parked(files, wants, with_payload, visit);
}

Status each_parked(const QueueFiles& files, const WantsParked& wants, bool with_payload,
                   const std::function<bool(const ParkedMessage&)>& visit) {
  Result<Mapping> park = files.map_park(Access::read_only);
  if (!park) return fail(park.error());
  const u64 size = park->size_bytes();
  ParkedMessage message;
  for (u64 at = layout::kParkChunksOffset; at + sizeof(layout::ParkChunk) <= size;) {
    const auto* head = reinterpret_cast<const layout::ParkChunk*>(park->data() + at);
    const u64 slots = A::load(head->slots, std::memory_order_acquire);
    if (slots == 0) break;
    const u64 slot_bytes = A::load(head->slot_bytes, std::memory_order_relaxed);
    const u64 bytes = A::load(head->chunk_bytes, std::memory_order_relaxed);
    if (bytes > size - at && bytes % kPageBytes == 0) break;  // it grew since it was mapped
    if (slot_bytes < sizeof(layout::ParkRecord) || slot_bytes % layout::kParkSlotAlignment != 0 || bytes > size - at ||
        bytes < sizeof *head || bytes % kPageBytes != 0 || slots > (bytes - sizeof *head) / slot_bytes) {
      return fail(Code::kCorrupt, "queue " + std::string(files.constants().name) + ": its park file is damaged at " +
                                      std::to_string(at));
    }
    for (u64 slot = 0; slot < slots; ++slot) {
      const u64 loc = at + sizeof *head + slot * slot_bytes;
      if (read_record(*park, loc, slot_bytes, wants, with_payload, &message) && !visit(message)) return {};
    }
    at += bytes;
  }
  return {};
}

}  // namespace mooring
