#include "crash/history.hpp"

#include <array>
#include <atomic>
#include <cstring>
#include <optional>
#include <vector>

namespace mooring::test {

namespace {

constexpr u32 kProducersMax = 4;
constexpr u32 kConsumersMax = 4;
constexpr u64 kIndicesMax = 256;
constexpr u64 kSeqsMax = 512;

constexpr u64 mixed(u64 x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}
constexpr u64 payload_word(u64 id, u64 index) { return mixed(id * 64 + index); }

std::string name_of(u64 id) {
  return "message " + std::to_string(id_producer(id)) + "." + std::to_string(id_index(id));
}

struct Message {
  bool begun = false;
  bool confirmed = false;
  bool refused = false;
  bool acked = false;
  bool maybe_acked = false;  // whoever acknowledged it died before it was told
  u32 attempts = 0;
  int holder = -1;
  u64 seq = 0;
};

struct Batch {
  u64 first = 0;
  u32 count = 0;
  bool open = false;
};

class Judge {
 public:
  explicit Judge(const HistoryRules& rules)
      : rules_(rules),
        messages_(kProducersMax * kIndicesMax),
        ids_(kSeqsMax, 0),
        next_first_delivery_(rules.first_seq) {}

  std::string judge(std::span<const Event> events) {
    for (number_ = 0; number_ < events.size() && broken_.empty(); ++number_) look_at(events[number_]);
    if (broken_.empty()) look_at_the_end();
    return broken_;
  }

 private:
  void broken(const std::string& what) {
    if (broken_.empty()) broken_ = what + " (event " + std::to_string(number_) + ")";
  }

  Message& message(u64 id) { return messages_[(id_producer(id) % kProducersMax) * kIndicesMax + id_index(id)]; }
  bool known(u64 id) const { return id_producer(id) < kProducersMax && id_index(id) < kIndicesMax; }

  void look_at(const Event& event) {
    switch (event.kind) {
      case EventKind::kNone: break;
      case EventKind::kPublishing:
        if (!known(event.id + event.count)) return broken("too many messages for this oracle");
        for (u32 i = 0; i < event.count; ++i) message(event.id + i).begun = true;
        publishing_[event.party] = Batch{event.id, event.count, true};
        break;
      case EventKind::kPublished:
        for (u32 i = 0; i < publishing_[event.party].count; ++i) {
          (i < event.count ? message(event.id + i).confirmed : message(event.id + i).refused) = true;
        }
        publishing_[event.party].open = false;
        break;
      case EventKind::kProducerDied:
        if (publishing_[event.party].open) cut_.push_back(publishing_[event.party]);
        publishing_[event.party].open = false;
        break;
      case EventKind::kTaking: taking_[event.party] = true; break;
      case EventKind::kDelivered: look_at_delivery(event); break;
      case EventKind::kSettling: settling_[event.party] = event; break;
      case EventKind::kSettled: look_at_settlement(event); break;
      case EventKind::kConsumerDied: look_at_death(event.party); break;
      case EventKind::kCorrupt: broken("a call found garbage, place " + std::to_string(event.detail)); break;
    }
  }

  void look_at_delivery(const Event& event) {
    taking_[event.party] = false;
    if (event.detail != 1) return broken("seq " + std::to_string(event.seq) + " was delivered with foreign bytes");
    if (!known(event.id)) return broken("a message nobody published");
    Message& m = message(event.id);
    if (!m.begun || m.refused) return broken(name_of(event.id) + " was delivered and never published");
    if (m.acked) return broken(name_of(event.id) + " was delivered again after it was acknowledged");
    // Its holder may have given it back and be stopped before it could write that down.
    if (m.holder >= 0 && !is_giving_back(static_cast<u32>(m.holder), event.seq)) {
      return broken(name_of(event.id) + " was delivered while another consumer holds it");
    }
    const u64 place = event.seq - rules_.first_seq;
    if (place >= kSeqsMax) return broken(name_of(event.id) + " has an impossible seq");
    if (ids_[place] != 0 && ids_[place] != event.id + 1) return broken("two messages have one seq");
    if (m.seq != 0 && m.seq != event.seq) return broken(name_of(event.id) + " has two seqs");
    ids_[place] = event.id + 1;
    m.maybe_acked = false;
    if (event.attempt == m.attempts + 2 && lost_takes_ != 0) {
      --lost_takes_;  // the take that was cut had counted this one
    } else if (event.attempt != m.attempts + 1) {
      return broken(name_of(event.id) + " is attempt " + std::to_string(event.attempt) + " after " +
                    std::to_string(m.attempts) + " deliveries");
    }
    if (rules_.exclusive && m.seq == 0) {
      if (event.seq != next_first_delivery_) {
        return broken(name_of(event.id) + " came out of order, as seq " + std::to_string(event.seq) + " before seq " +
                      std::to_string(next_first_delivery_));
      }
      ++next_first_delivery_;
    }
    m.seq = event.seq;
    m.attempts = static_cast<u32>(event.attempt);
    m.holder = event.party;
  }

  bool is_giving_back(u32 party, u64 seq) const {
    const std::optional<Event>& settling = settling_[party];
    return settling.has_value() && settling->detail != static_cast<u8>(Settle::kAck) && settling->seq == seq;
  }

  // Visits what a settlement of `party` speaks of.
  template <class Visit>
  void each_settled(const Event& event, const Visit& visit) {
    for (u64 seq = event.seq; seq <= event.attempt && seq - rules_.first_seq < kSeqsMax; ++seq) {
      const u64 id = ids_[seq - rules_.first_seq];
      if (id == 0) continue;
      Message& m = message(id - 1);
      // ack_up_to settles what was given back below it, too.
      if (!m.acked && (m.holder == event.party || rules_.exclusive)) visit(m);
    }
  }

  void look_at_settlement(const Event& event) {
    settling_[event.party].reset();
    if (event.count == 0) return broken("a living holder was told that seq " + std::to_string(event.seq) + " is stale");
    const bool ack = event.detail == static_cast<u8>(Settle::kAck);
    u64 count = 0;
    each_settled(event, [&](Message& m) {
      ++count;
      m.holder = -1;
      m.acked = ack;
    });
    if (count == 0 && ack) broken("seq " + std::to_string(event.seq) + " was settled twice");
  }

  void look_at_death(u8 party) {
    if (taking_[party]) ++lost_takes_;
    taking_[party] = false;
    if (settling_[party].has_value() && settling_[party]->detail == static_cast<u8>(Settle::kAck)) {
      each_settled(*settling_[party], [](Message& m) { m.maybe_acked = true; });
    }
    settling_[party].reset();
    for (Message& m : messages_) {
      if (m.holder == party) m.holder = -1;
    }
  }

  void look_at_the_end() {
    for (u32 producer = 0; producer < kProducersMax; ++producer) {
      for (u64 index = 0; index < kIndicesMax; ++index) {
        const u64 id = message_id(producer, index);
        const Message& m = message(id);
        if (m.confirmed && m.attempts == 0) return broken(name_of(id) + " was published and never delivered: lost");
        if (m.attempts != 0 && !m.acked && !m.maybe_acked) {
          return broken(name_of(id) +
                        (m.holder >= 0 ? " is still held by somebody" : " was not delivered again: lost"));
        }
      }
    }
    for (const Batch& batch : cut_) {
      u32 there = 0;
      for (u32 i = 0; i < batch.count; ++i) {
        if (message(batch.first + i).attempts == 0) continue;
        if (i != there) return broken(name_of(batch.first + i) + " of a cut batch is there, one before it is not");
        ++there;
      }
      if (rules_.batch_at_once && there != 0 && there != batch.count) return broken("half of a cut batch is there");
    }
    std::array<u64, kProducersMax> last{};
    bool ended = false;
    for (u64 place = 0; place < kSeqsMax; ++place) {
      if (ids_[place] == 0) {
        ended = true;
        continue;
      }
      const u64 id = ids_[place] - 1;
      if (ended) return broken("there is a hole before seq " + std::to_string(rules_.first_seq + place));
      u64& before = last[id_producer(id)];
      if (id_index(id) + 1 <= before) return broken(name_of(id) + " came after a later one of the same producer");
      before = id_index(id) + 1;
    }
  }

  HistoryRules rules_;
  std::vector<Message> messages_;
  std::vector<u64> ids_;  // id + 1 of each seq from first_seq on; 0: never delivered
  std::array<Batch, kProducersMax> publishing_{};
  std::array<bool, kConsumersMax> taking_{};
  std::array<std::optional<Event>, kConsumersMax> settling_{};
  std::vector<Batch> cut_;
  u64 next_first_delivery_ = 0;
  u32 lost_takes_ = 0;  // takes cut by a death, which may have counted one attempt each
  u64 number_ = 0;
  std::string broken_;
};

}  // namespace

void write_payload(u8* to, u64 id) {
  const u64 len = payload_bytes(id);
  std::memcpy(to, &id, sizeof id);
  for (u64 at = 8; at < len; at += 8) {
    const u64 word = payload_word(id, at);
    std::memcpy(to + at, &word, len - at < 8 ? len - at : 8);
  }
}

bool payload_is_whole(const u8* bytes, u64 len, u64* id) {
  if (len < 8 || len > kPayloadBytesMax) return false;
  std::memcpy(id, bytes, sizeof *id);
  if (id_producer(*id) >= kProducersMax || id_index(*id) >= kIndicesMax || payload_bytes(*id) != len) return false;
  std::array<u8, kPayloadBytesMax> expected{};
  write_payload(expected.data(), *id);
  return std::memcmp(bytes, expected.data(), len) == 0;
}

u64 History::append(const Event& event) {
  // Relaxed, and release below only for the compiler: the parties of one history never run at the same time.
  const u64 number = std::atomic_ref<u64>(words_[0]).fetch_add(1, std::memory_order_relaxed);
  if (number >= capacity_) return number;  // the judge sees the count
  u64* place = words_ + 1 + number * 4;
  std::array<u64, 4> words{};
  std::memcpy(words.data(), &event, sizeof event);
  for (std::size_t i = 1; i < words.size(); ++i) {
    std::atomic_ref<u64>(place[i]).store(words[i], std::memory_order_relaxed);
  }
  std::atomic_ref<u64>(place[0]).store(words[0], std::memory_order_release);  // has the kind
  return number;
}

void History::retract(u64 number) {
  if (number >= capacity_) return;
  std::atomic_ref<u64>(words_[1 + number * 4]).store(0, std::memory_order_relaxed);
  // Gives the place back if it is still the last one; else it stays empty.
  u64 count = number + 1;
  std::atomic_ref<u64>(words_[0]).compare_exchange_strong(count, number, std::memory_order_relaxed);
}

std::string broken_promise(std::span<const Event> events, const HistoryRules& rules) {
  return Judge(rules).judge(events);
}

}  // namespace mooring::test
