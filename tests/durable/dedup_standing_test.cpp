// A consumer that took a duplicate and stood before it came to look: the supervisor takes it back when ack_wait
// is over, and settles it. Nobody sees it, and it is no failure. How: the word is leased as a consumer leases it, and
// then nothing is done.
#include <gtest/gtest.h>
#include <mooring/mooring.h>
#include <unistd.h>

#include "base/time.hpp"
#include "group/competing.hpp"
#include "queue/queue.hpp"
#include "segment/instance_paths.hpp"
#include "support/service.hpp"

namespace mooring {
namespace {

using namespace test;
using A = HardwareAtomics;

constexpr std::uint64_t kPatienceNs = 60'000'000'000;

TEST(DedupStanding, ADuplicateInTheHandsOfAStandingConsumerIsSettled) {
  Service service;
  ::setenv("MOORING_DATA", (service.root() + "/data").c_str(), 1);
  service.start();
  mooring_instance* instance = nullptr;
  ASSERT_EQ(mooring_instance_open(nullptr, &instance), MOORING_OK);
  mooring_queue_options options;
  mooring_queue_options_init(&options, sizeof options);
  options.capacity = 4096;
  options.durability = MOORING_DURABLE;
  options.dedup_max_messages = 100;
  ASSERT_EQ(mooring_queue_create(instance, "q", &options), MOORING_OK) << mooring_error_detail();
  ASSERT_EQ(mooring_group_set(instance, "q", "default", "ack_wait", "100ms"), MOORING_OK) << mooring_error_detail();
  mooring_producer* producer = nullptr;
  ASSERT_EQ(mooring_producer_open(instance, "q", nullptr, &producer), MOORING_OK) << mooring_error_detail();
  mooring_consumer* consumer = nullptr;
  ASSERT_EQ(mooring_consumer_open(instance, "q", "default", nullptr, &consumer), MOORING_OK) << mooring_error_detail();
  mooring_publish_options headers;
  mooring_publish_options_init(&headers, sizeof headers);
  headers.message_id = {"a", 1};
  std::uint64_t first = 0;
  ASSERT_EQ(mooring_publish_with(producer, "1", 1, &headers, kPatienceNs, &first), MOORING_OK);
  ASSERT_EQ(mooring_publish_with(producer, "2", 1, &headers, kPatienceNs, nullptr), MOORING_DUPLICATE);
  mooring_message message;
  ASSERT_EQ(mooring_receive(consumer, &message, kPatienceNs), MOORING_OK);
  EXPECT_EQ(message.seq, first);
  ASSERT_EQ(mooring_ack(consumer, &message), MOORING_OK);

  const auto paths = resolve_instance(service.path(), /*create=*/false);
  ASSERT_TRUE(paths) << paths.error().text;
  const auto shared = open_shared_directory(paths->shared_directory, paths->owner, /*create=*/false);
  ASSERT_TRUE(shared) << shared.error().text;
  const auto queue = Queue::attach(*shared, ::geteuid(), "q");
  ASSERT_TRUE(queue) << queue.error().text;
  const auto mapping = (*queue)->files().map_group(0, Access::read_write, /*prefault=*/true);
  ASSERT_TRUE(mapping) << mapping.error().text;
  const layout::QueueConstants& constants = (*queue)->constants();
  const GroupView view = view_group(mapping->data(), constants.words, static_cast<u32>(constants.parks));
  OrderView order = (*queue)->order();
  order.limit = (*queue)->delivery_limit();
  constexpr u32 kFirstSeat = 1;
  CompetingConsumer<A> standing(view, order, kFirstSeat);
  Lease lease;
  ASSERT_EQ(standing.lease(&lease), LeaseOutcome::kLeased);
  ASSERT_EQ(lease.seq, first + 1);

  layout::Kind kind{};
  const u64 until = monotonic_ns() + u64{kWatchdogMs} * kNsPerMs;
  do {
    ASSERT_LT(monotonic_ns(), until);
    ::sched_yield();
    kind = layout::word_kind(A::load(view.word(lease.seq), std::memory_order_acquire));
  } while (kind == layout::Kind::kLeased || kind == layout::Kind::kNacked);
  EXPECT_EQ(kind, layout::Kind::kAcked);
  EXPECT_EQ(A::load((*queue)->files().group_slot(0).counters.waiting, std::memory_order_relaxed), 0U);
  EXPECT_EQ(mooring_receive(consumer, &message, 0), MOORING_EMPTY);
  mooring_consumer_close(consumer);
  mooring_producer_close(producer);
  mooring_instance_close(instance);
  ::unsetenv("MOORING_DATA");
}

}  // namespace
}  // namespace mooring
