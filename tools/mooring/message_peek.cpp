#include "message_peek.hpp"

#include <algorithm>

#include "journal/reading_disk.hpp"

namespace mooring::cli {
namespace {

// Overtaken so often in a row while it copies, a reader gives the message up.
constexpr int kTriesMax = 8;

}  // namespace

MessagePeek::MessagePeek(const QueueFiles& files, std::string log_path)
    : files_(files), log_path_(std::move(log_path)) {
  const layout::QueueConstants& constants = files.constants();
  const bool spsc = constants.kind == layout::QueueKind::kSpsc;
  const bool durable = constants.durability == layout::Durability::kDurable;
  const bool early = constants.deliver != layout::Deliver::kDurable;
  if (!spsc) {
    order_.head = files.order_head();
    order_.cells = files.order_cells();
    order_.mask = constants.cells - 1;
    order_.log2 = log2_of_power(constants.cells);
    if (durable) order_.recovered_below = constants.first_seq;
    if (!early) order_.limit = &files.state().durable_mark;
  }
  if (!layout::has_log(constants)) {
    kind_ = spsc ? Kind::kLane : Kind::kOrder;
    return;
  }
  kind_ = Kind::kLogged;
  marks_ = {&files.state(), constants.first_seq, early};
  if (!spsc) source_.emplace(marks_, order_, LaneOf{this});
}

const LaneView* MessagePeek::lane(u32 index) {
  if (index >= files_.constants().lanes_max) return nullptr;
  if (const auto known = lanes_.find(index); known != lanes_.end()) return &known->second.view;
  Result<Mapping> mapping = files_.map_lane(index, Access::read_only, /*prefault=*/false);
  if (!mapping) return nullptr;
  LaneView view;
  view.head = reinterpret_cast<layout::LaneHead*>(mapping->data());
  view.bytes = reinterpret_cast<u8*>(mapping->data()) + layout::kLaneBytesOffset;
  view.size_bytes = files_.constants().lane_bytes;
  return &lanes_.emplace(index, MappedLane{std::move(*mapping), view}).first->second.view;
}

tl::unexpected<Error> MessagePeek::corrupt(const char* what) const {
  return fail(Code::kCorrupt,
              "queue " + std::string(files_.constants().name) + " at " + files_.where() + " makes no sense: " + what);
}

void MessagePeek::copy_frame(const FrameView& frame, Copy* copy) {
  if (copy == nullptr) return;
  copy->seq = frame.seq;
  copy->frame_flags = frame.flags;
  copy->from_log = false;
  copy->bytes.resize(frame.len);
  A::copy_out(copy->bytes.data(), frame.payload, frame.len);
}

template <class Visit>
void MessagePeek::each_group(const Visit& visit) const {
  const layout::QueueConstants& constants = files_.constants();
  for (u32 index = 0; index < constants.groups_max; ++index) {
    const layout::GroupSlot& slot = files_.group_slot(index);
    if (layout::slot_life(A::load(slot.slot, std::memory_order_acquire)) != layout::SlotLife::kLive) continue;
    const Result<Mapping> mapping = files_.map_group(index, Access::read_only, /*prefault=*/false);
    if (!mapping) continue;
    visit(view_group(mapping->data(), constants.words, static_cast<u32>(constants.parks)), slot.mode);
  }
}

MessagePeek::Place MessagePeek::start_of(const GroupView& group, layout::GroupMode mode) const {
  u64 unit = A::load(group.head->base, std::memory_order_acquire);
  if (mode == layout::GroupMode::kExclusive) {
    unit = std::max(unit, A::load(group.head->acked, std::memory_order_acquire));
  }
  // Aligned, whatever the shared word says.
  if (counts_positions()) return {0, unit & ~(layout::kFrameAlignment - 1)};
  return {unit, 0};
}

std::optional<MessagePeek::Place> MessagePeek::furthest_group() {
  std::optional<Place> furthest;
  each_group([&](const GroupView& group, layout::GroupMode mode) {
    const Place place = start_of(group, mode);
    if (furthest.has_value() && furthest->position >= place.position) return;
    furthest = place;
    seq_hint_ = A::load(group.head->base_seq_hint, std::memory_order_acquire);
  });
  return furthest;
}

u64 MessagePeek::settled_by_all() const {
  u64 least = ~u64{0};
  each_group(
      [&](const GroupView& group, layout::GroupMode mode) { least = std::min(least, start_of(group, mode).seq); });
  return least == ~u64{0} ? 0 : least;
}

Result<MessagePeek::Place> MessagePeek::end_of_order(u64 from) const {
  u64 seq = from;
  u64 cell = 0;
  for (u64 steps = 0; is_published<A>(order_, seq, &cell); ++seq) {
    if (++steps > 4 * order_.count() + 1024) return corrupt("the order ring has no end");  // honest ones: a lap or two
  }
  return Place{seq, 0};
}

Result<MessagePeek::Place> MessagePeek::walk_to_end(Place from) {
  for (u64 steps = 0;; ++steps) {
    if (steps > files_.constants().lane_bytes) return corrupt("its lane has no end");
    const Result<Found> found = read(&from, nullptr);
    if (!found) return fail(found.error());
    if (*found == Found::kEnd) return from;
    if (*found == Found::kGone) return Place{0, ~u64{0}};  // overtaken
  }
}

Result<MessagePeek::Place> MessagePeek::end() {
  const layout::QueueState& state = files_.state();
  if (kind_ == Kind::kOrder) return end_of_order(A::load(order_.head->tail, std::memory_order_acquire));
  if (kind_ == Kind::kLogged) {
    const u64 durable = std::max(A::load(state.durable_seq, std::memory_order_acquire), files_.constants().first_seq);
    if (!marks_.early) return Place{durable, 0};
    if (order_.cells == nullptr) return walk_to_end({durable, 0});
    return end_of_order(std::max(durable, A::load(order_.head->tail, std::memory_order_acquire)));
  }
  for (int tries = 0; tries < kTriesMax; ++tries) {
    const std::optional<Place> from = furthest_group();
    if (!from) return corrupt("it has no group");
    Result<Place> end = walk_to_end(*from);
    if (!end || end->position != ~u64{0}) return end;
  }
  return fail(Code::kStale, "queue " + std::string(files_.constants().name) +
                                " is written faster than it can be read here; try again");
}

Result<MessagePeek::Found> MessagePeek::read(Place* place, Copy* copy) {
  switch (kind_) {
    case Kind::kLane: return read_lane(place, copy);
    case Kind::kOrder: return read_order(place, copy);
    case Kind::kLogged: return read_logged(place, copy);
  }
  return Found::kEnd;
}

Result<MessagePeek::Found> MessagePeek::read_lane(Place* place, Copy* copy) {
  const LaneView* only = lane(0);
  if (only == nullptr) return Found::kEnd;  // nobody has opened a producer yet
  if (place->seq == 0 && seq_hint_ == 0) furthest_group();
  const SpscReader<A> reader(*only, seq_hint_);
  LaneCursor cursor{place->position, place->seq};
  FrameView frame;
  const RingOutcome outcome = reader.peek(&cursor, &frame);
  // RECLAIMED: after the header, a zero as much as any other.
  if (!still_there<A>(*only, place->position)) return Found::kGone;
  if (outcome == RingOutcome::kEmpty) return Found::kEnd;
  if (outcome != RingOutcome::kOk) return corrupt("there is no message where one should be in its lane");
  copy_frame(frame, copy);
  if (!still_there<A>(*only, place->position)) return Found::kGone;
  seq_hint_ = frame.seq;
  *place = {frame.seq + 1, frame.end};
  return Found::kMessage;
}

Result<MessagePeek::Found> MessagePeek::read_order(Place* place, Copy* copy) {
  const u64 seq = place->seq;
  const u64 cell = A::load(order_.cell(seq), std::memory_order_acquire);  // ORDERED
  const i64 ahead = layout::cell_laps_ahead(cell, order_.lap(seq));
  if (ahead < 0) return Found::kEnd;
  if (ahead > 0) return Found::kGone;
  const LaneView* of = lane(layout::cell_lane(cell));
  FrameView frame;
  const bool found = of != nullptr && frame_of_cell<A>(*of, cell, seq, &frame) == RingOutcome::kOk;
  if (found) copy_frame(frame, copy);
  if (of != nullptr && !still_there<A>(*of, seq)) return Found::kGone;
  if (!found) return corrupt("an order cell points at something that is no message");
  ++place->seq;
  return Found::kMessage;
}

Result<MessagePeek::Found> MessagePeek::read_logged(Place* place, Copy* copy) {
  if (!source_.has_value()) {
    if (const LaneView* only = lane(0); only != nullptr) source_.emplace(marks_, *only);
  }
  if (!source_.has_value()) {  // SPSC, before its first producer; what was recovered is in the log
    const u64 durable = A::load(files_.state().durable_seq, std::memory_order_acquire);
    if (place->seq >= durable) return Found::kEnd;
    return read_log(place, copy);
  }
  for (int tries = 0; tries < kTriesMax; ++tries) {
    const DurableSource<A, LaneOf>::Cursor cursor{place->seq};
    FrameView frame;
    const RingOutcome outcome = source_->peek(&cursor, &frame);
    if (outcome == RingOutcome::kEmpty) return Found::kEnd;
    if (outcome != RingOutcome::kOk) return corrupt("there is no message where one should be");
    if (frame.payload == nullptr) return read_log(place, copy);
    copy_frame(frame, copy);
    if (!source_->still_there(frame)) continue;  // overtaken: then it is in the log
    DurableSource<A, LaneOf>::Cursor next = cursor;
    source_->step(&next, frame);
    place->seq = next.seq;
    return Found::kMessage;
  }
  return Found::kGone;
}

Status MessagePeek::open_log() {
  if (log_ != nullptr) return {};
  Result<std::unique_ptr<journal::ReadingDisk>> disk = journal::ReadingDisk::open(log_path_);
  if (!disk) return fail(disk.error());
  journal::Uuid uuid{};
  std::copy(std::begin(files_.constants().log_uuid), std::end(files_.constants().log_uuid), uuid.begin());
  disk_ = std::move(*disk);
  log_ = std::make_unique<journal::BacklogReader>(*disk_, uuid);
  return {};
}

Result<MessagePeek::Found> MessagePeek::read_log(Place* place, Copy* copy) {
  if (copy == nullptr) {
    ++place->seq;
    return Found::kMessage;
  }
  const layout::QueueState& state = files_.state();
  journal::LogMark durable;
  durable.next_seq = A::load(state.durable_seq, std::memory_order_acquire);  // DURABLE
  durable.log_pos = A::load(state.log_mark, std::memory_order_acquire);      // DURABLE
  if (Status opened = open_log(); !opened) return fail(opened.error());
  journal::MessageView view;
  const auto found = log_->find(place->seq, durable, &view);
  if (!found) {
    // What every group has settled may have retired from the log.
    if (place->seq < settled_by_all()) return Found::kGone;
    return fail(found.error());
  }
  if (*found == journal::BacklogReader::Found::kMessage) {
    copy->seq = place->seq;
    copy->frame_flags = view.frame_flags;
    copy->from_log = true;
    copy->bytes.assign(view.bytes.begin(), view.bytes.end());
  }
  ++place->seq;
  return *found == journal::BacklogReader::Found::kMessage ? Found::kMessage : Found::kLost;
}

}  // namespace mooring::cli
