// The watermarks of a queue with a real mooringd: told in the log and in the files when crossed, up and down, once
// each, by places and by bytes; and not told again by the next supervisor.
#include <gtest/gtest.h>

#include "base/atomics.hpp"
#include "durable/durable_service.hpp"
#include "segment/instance_paths.hpp"
#include "segment/queue_files.hpp"

namespace mooring {
namespace {

using namespace test;

struct HighWater : ::testing::TestWithParam<std::tuple<std::uint32_t, std::size_t>> {
  QueueFiles files() const {
    const InstancePaths paths = *resolve_instance(service.path(), false);
    const File shared = std::move(*open_shared_directory(paths.shared_directory, paths.owner, false));
    QueueFiles::AttachOptions options;
    return std::move(*QueueFiles::attach(shared, paths.owner, "q", options));
  }
  DurableService service;
};
// Small ones fill the places of an mpmc queue, large ones the lane.
INSTANTIATE_TEST_SUITE_P(Queues, HighWater,
                         ::testing::Combine(::testing::Values(MOORING_KIND_SPSC, MOORING_KIND_MPMC),
                                            ::testing::Values(std::size_t{8}, std::size_t{2000})));

TEST_P(HighWater, IsToldOnceUpAndOnceDown) {
  const auto [kind, size] = GetParam();
  service.start();
  Instance instance(service.path());
  mooring_queue_options options;
  mooring_queue_options_init(&options, sizeof options);
  options.kind = kind;
  options.capacity = 4096;
  instance.create_queue("q", options);
  Producer producer = instance.open_producer("q");
  Consumer consumer = instance.open_consumer("q");
  const std::string payload(size, 'x');
  std::size_t held = 0;
  while (producer.publish(payload, 0).has_value()) ++held;  // until it is full
  ASSERT_GT(held, 10U);
  EXPECT_TRUE(service.logged("above its high watermark; group default holds most of it"));
  const QueueFiles queue = files();
  const auto& state = queue.state();
  const auto now = [](const u64& word) { return HardwareAtomics::load(word, std::memory_order_relaxed); };
  EXPECT_TRUE(eventually([&] { return now(state.above_high_water) == 1; }));
  EXPECT_GE(now(state.fill_milli), 800U);
  service.kill_supervisor();
  service.start();
  for (std::size_t i = 0; i < held; ++i) {
    const auto message = consumer.receive(kPatienceNs);
    ASSERT_TRUE(message.has_value() && consumer.ack(*message));
  }
  EXPECT_FALSE(consumer.receive(0).has_value());  // what was left lazy is made exact
  EXPECT_TRUE(service.logged("below its low watermark again"));
  EXPECT_TRUE(eventually([&] { return now(state.above_high_water) == 0; }));
  EXPECT_EQ(now(state.high_water_total), 1U) << "the second supervisor had nothing new to tell";
}

}  // namespace
}  // namespace mooring
