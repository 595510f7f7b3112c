// The one producer of a single-threaded group test: the content of each message follows from its seq.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "support/payload.hpp"
#include "support/queue_memory.hpp"

namespace mooring::test {

inline constexpr u64 kLen = 12;

template <class P = HardwareAtomics>
class Publisher {
 public:
  explicit Publisher(const QueueMemory& memory, u32 lane = 0) : memory_(memory), writer_(memory.writer<P>(lane)) {}

  // False: there is no room.
  bool send(u64 len = kLen) {
    RingOutcome why = RingOutcome::kOk;
    u8* payload = writer_.reserve(len, memory_.mark<P>(), &why);
    if (payload == nullptr) return false;
    write_payload<P>(payload, memory_.first_seq() + sent_, len);
    writer_.append(len);
    u64 last_seq = 0;
    u64 published = 0;
    if (writer_.publish(memory_.mark<P>(), &last_seq, &published) != RingOutcome::kOk) {
      writer_.forget_pending();
      return false;
    }
    EXPECT_EQ(last_seq, memory_.first_seq() + sent_);
    ++sent_;
    return true;
  }
  void send_many(u64 count) {
    for (u64 i = 0; i < count; ++i) ASSERT_TRUE(send());
  }
  u64 fill() {
    u64 count = 0;
    while (send()) ++count;
    return count;
  }
  u64 sent() const { return sent_; }

 private:
  const QueueMemory& memory_;
  OrderWriter<P> writer_;
  u64 sent_ = 0;
};

// The content that `lease` names is there, from its lane or from its park record, and it is the right one.
inline bool content_is_right(const QueueMemory& memory, const Lease& lease, std::size_t k = 0) {
  std::vector<u8> payload;
  return memory.read<HardwareAtomics>(k, lease, &payload) &&
         payload_is<HardwareAtomics>(payload.data(), payload.size(), lease.seq);
}

}  // namespace mooring::test
