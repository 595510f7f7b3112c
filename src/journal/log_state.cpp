#include "journal/log_state.hpp"

#include <algorithm>
#include <cstring>

namespace mooring::journal {
namespace {

template <class T>
std::span<const u8> bytes_of(const T& value) {
  return {reinterpret_cast<const u8*>(&value), sizeof(value)};
}

template <class T>
bool take(std::span<const u8>& bytes, T& value) {
  if (bytes.size() < sizeof(T)) return false;
  std::memcpy(&value, bytes.data(), sizeof(T));
  bytes = bytes.subspan(sizeof(T));
  return true;
}

tl::unexpected<Error> not_a(const char* what) {
  return fail(Code::kCorrupt, std::string("a ") + what + " record is not what a writer of this format makes");
}

Status apply_cursor(LogState& state, std::span<const u8> body) {
  CursorRecord cursor{};
  if (!take(body, cursor) || body.size() != u64{cursor.run_count} * sizeof(AckRun)) return not_a("CURSOR");
  std::vector<AckRun> runs(cursor.run_count);
  if (!runs.empty()) std::memcpy(runs.data(), body.data(), body.size());
  u64 free_from = cursor.base;
  for (const AckRun& run : runs) {
    if (run.count == 0 || run.first <= free_from || run.first + run.count < run.first) return not_a("CURSOR");
    free_from = run.first + run.count;
  }
  const auto group = state.groups.find(cursor.group);
  if (group == state.groups.end() || cursor.base < group->second.base) return {};
  group->second.base = cursor.base;
  group->second.runs = std::move(runs);
  return {};
}

Status apply_group(LogState& state, std::span<const u8> body) {
  GroupRecord group{};
  if (!take(body, group) || body.size() != u64{group.name_bytes} + group.config_bytes) return not_a("GROUP");
  if (group.change == static_cast<u16>(GroupChange::kRemove)) {
    state.groups.erase(group.group);
    std::erase_if(state.parks, [&](const auto& park) { return park.first.first == group.group; });
    return {};
  }
  if (group.change != static_cast<u16>(GroupChange::kCreate)) return not_a("GROUP");
  GroupState made;
  made.name.assign(reinterpret_cast<const char*>(body.data()), group.name_bytes);
  made.config.assign(reinterpret_cast<const char*>(body.data()) + group.name_bytes, group.config_bytes);
  made.mode = group.mode;
  made.start = group.start;
  made.base = group.start;
  // A second create changes the configuration of a group that stands: its cursor stays.
  if (const auto old = state.groups.find(group.group); old != state.groups.end()) {
    made.base = old->second.base;
    made.runs = old->second.runs;
  }
  state.groups[group.group] = std::move(made);
  return {};
}

// A message that is logged again, by the incarnation that took over, is decided again.
Status apply_id(LogState& state, std::span<const u8> body) {
  MessageIdRecord id{};
  if (!take(body, id) || !body.empty() || id.first > id.seq || id.forget_below > id.seq) return not_a("MESSAGE_ID");
  state.forget_ids_from(id.seq);
  while (!state.ids.empty() && state.ids.front().seq < id.forget_below) state.ids.pop_front();
  id.forget_below = 0;
  if (id.first == id.seq) state.ids.push_back(id);
  return {};
}

}  // namespace

std::optional<RecordView> next_record(std::span<const u8>& bytes) {
  RecordHeader header{};
  if (bytes.size() < sizeof(header)) return std::nullopt;
  std::memcpy(&header, bytes.data(), sizeof(header));
  const u64 padded = align_up(u64{header.bytes}, 8);
  if (header.bytes < sizeof(header) || padded > bytes.size()) return std::nullopt;
  RecordView view;
  view.type = static_cast<RecordType>(header.type);
  view.flags = header.flags;
  view.body = bytes.subspan(sizeof(header), header.bytes - sizeof(header));
  bytes = bytes.subspan(padded);
  return view;
}

void put_record(std::vector<u8>& out, RecordType type, u16 flags, std::span<const u8> head, std::span<const u8> tail) {
  const RecordHeader header{static_cast<u16>(type), flags,
                            static_cast<u32>(sizeof(RecordHeader) + head.size() + tail.size())};
  for (const auto part : {bytes_of(header), head, tail}) out.insert(out.end(), part.begin(), part.end());
  out.resize(align_up(out.size(), 8));
}

Status LogState::apply(const RecordView& record) {
  std::span<const u8> body = record.body;
  switch (record.type) {
    case RecordType::kMessage:
    case RecordType::kSnapshot:
    case RecordType::kSeal: return {};
    case RecordType::kCursor: return apply_cursor(*this, body);
    case RecordType::kGroup: return apply_group(*this, body);
    case RecordType::kPark: {
      ParkRecord park{};
      if (!take(body, park) || !body.empty()) return not_a("PARK");
      if (groups.contains(park.group)) parks[{park.group, park.seq}] = park;
      return {};
    }
    case RecordType::kRelease: {
      ReleaseRecord release{};
      if (!take(body, release) || !body.empty()) return not_a("RELEASE");
      parks.erase({release.group, release.seq});
      return {};
    }
    case RecordType::kMessageId: return apply_id(*this, body);
  }
  if ((record.flags & kRecordSkippable) != 0) return {};
  return fail(Code::kVersion, "the log has a record of type " + std::to_string(static_cast<u16>(record.type)) +
                                  ", which this version does not know and may not skip; use a newer version");
}

void LogState::forget_ids_from(u64 next_seq) {
  while (!ids.empty() && ids.back().seq >= next_seq) ids.pop_back();
}

std::vector<u8> encode_group(u32 group, GroupChange change, const GroupState& state) {
  const GroupRecord head{group,
                         static_cast<u16>(change),
                         state.mode,
                         state.start,
                         static_cast<u32>(state.name.size()),
                         static_cast<u32>(state.config.size())};
  const std::string tail = state.name + state.config;
  std::vector<u8> out;
  put_record(out, RecordType::kGroup, 0, bytes_of(head), {reinterpret_cast<const u8*>(tail.data()), tail.size()});
  return out;
}

std::vector<u8> encode_cursor(u32 group, u64 base, std::span<const AckRun> runs) {
  const CursorRecord head{group, static_cast<u32>(runs.size()), base};
  std::vector<u8> out;
  put_record(out, RecordType::kCursor, 0, bytes_of(head),
             {reinterpret_cast<const u8*>(runs.data()), runs.size_bytes()});
  return out;
}

std::vector<u8> LogState::encode() const {
  std::vector<u8> out;
  for (const auto& [id, group] : groups) {
    const std::vector<u8> made = encode_group(id, GroupChange::kCreate, group);
    out.insert(out.end(), made.begin(), made.end());
    const std::vector<u8> cursor = encode_cursor(id, group.base, group.runs);
    out.insert(out.end(), cursor.begin(), cursor.end());
  }
  for (const auto& [key, park] : parks) put_record(out, RecordType::kPark, 0, bytes_of(park), {});
  for (const MessageIdRecord& id : ids) put_record(out, RecordType::kMessageId, 0, bytes_of(id), {});
  return out;
}

std::optional<u64> LogState::min_base() const {
  std::optional<u64> lowest;
  for (const auto& [id, group] : groups) lowest = std::min(lowest.value_or(group.base), group.base);
  return lowest;
}

std::vector<std::vector<u8>> snapshot_parts(const LogState& state, u64 next_seq, u64 part_bytes) {
  const std::vector<u8> all = state.encode();
  std::vector<std::span<const u8>> cuts;
  std::span<const u8> rest = all;
  std::size_t begin = 0;
  while (!rest.empty()) {
    const std::size_t before = all.size() - rest.size();
    static_cast<void>(next_record(rest));
    const std::size_t after = all.size() - rest.size();
    if (before > begin && after - begin > part_bytes) {
      cuts.push_back(std::span(all).subspan(begin, before - begin));
      begin = before;
    }
  }
  cuts.push_back(std::span(all).subspan(begin));
  std::vector<std::vector<u8>> parts;
  for (const auto& cut : cuts) {
    const SnapshotRecord head{static_cast<u32>(parts.size()), static_cast<u32>(cuts.size()), next_seq};
    std::vector<u8>& part = parts.emplace_back(bytes_of(head).begin(), bytes_of(head).end());
    part.insert(part.end(), cut.begin(), cut.end());
  }
  return parts;
}

Result<bool> SnapshotCollector::add(const RecordView& record) {
  SnapshotRecord head{};
  std::span<const u8> body = record.body;
  if (!take(body, head) || head.part >= head.part_count) return not_a("SNAPSHOT");
  if (head.part == 0) {
    state_ = {};
    parts_seen_ = 0;
  }
  // A part whose first ones are in a retired segment, or were cut off by a crash: not a whole snapshot.
  if (head.part != parts_seen_) {
    parts_seen_ = 0;
    return false;
  }
  while (!body.empty()) {
    const auto nested = next_record(body);
    if (!nested || nested->type == RecordType::kSnapshot) return not_a("SNAPSHOT");
    if (auto applied = state_.apply(*nested); !applied) return fail(applied.error());
  }
  ++parts_seen_;
  if (parts_seen_ != head.part_count) return false;
  parts_seen_ = 0;
  return true;
}

}  // namespace mooring::journal
