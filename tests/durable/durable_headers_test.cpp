// Headers on durable queues: they are in the log with their message, and there again after a reboot, whether recovery
// puts the message back into a lane or, too old for the window, into the park file; and after a mere restart.
#include <gtest/gtest.h>

#include "durable_service.hpp"

namespace mooring {
namespace {

using namespace test;

class DurableHeaders : public ::testing::TestWithParam<std::uint32_t> {
 protected:
  DurableService service_;
  void SetUp() override { service_.start(); }
};
INSTANTIATE_TEST_SUITE_P(Kinds, DurableHeaders, ::testing::Values(MOORING_KIND_SPSC, MOORING_KIND_MPMC),
                         [](const auto& kind) { return kind.param == MOORING_KIND_SPSC ? "Spsc" : "Mpmc"; });

void publish_with_headers(Producer& producer, const std::string& text) {
  mooring_publish_options options = publish_options();
  const mooring_header header = as_header("number", text);
  options.type = "numbered";
  options.deliver_at_ns = 7;
  options.headers = &header;
  options.headers_count = 1;
  ASSERT_TRUE(producer.publish(text, options).has_value());
}

void expect_headers(const mooring_message& message, const std::string& text) {
  EXPECT_EQ(text_of(message), text);
  const mooring_headers headers = headers_of(message);
  EXPECT_EQ(as_text(headers.type), "numbered");
  EXPECT_EQ(headers.deliver_at_ns, 7U);
  EXPECT_EQ(header_of(message, "number"), text);
}

TEST_P(DurableHeaders, AreThereAfterARestartAndAfterAReboot) {
  {
    Instance instance(service_.path());
    instance.create_queue("q", durable_options(GetParam()));
    Producer producer = instance.open_producer("q");
    for (const std::string& text : numbered(0, 15)) {
      publish_with_headers(producer, text);
      ASSERT_TRUE(producer.publish("plain " + text).has_value());
    }
  }
  for (const bool reboot : {false, true, true}) {
    if (reboot) {
      service_.reboot();
    } else {
      service_.kill_supervisor();
      service_.start();
    }
    Instance instance(service_.path());
    Consumer consumer = instance.open_consumer("q");
    std::vector<mooring_message> messages;  // fewer than a consumer may hold
    for (const std::string& text : numbered(0, 15)) {
      messages.push_back(*consumer.receive(kPatienceNs));
      expect_headers(messages.back(), text);
      messages.push_back(*consumer.receive(kPatienceNs));
      EXPECT_EQ(text_of(messages.back()), "plain " + text);
      EXPECT_EQ(messages.back().headers_size, 0U);
    }
    EXPECT_FALSE(consumer.receive(0).has_value());
    for (const mooring_message& message : messages) EXPECT_TRUE(consumer.release(message));
  }
}

TEST(DurableHeadersParked, AMessageTooOldForTheWindowComesBackWithThem) {
  DurableService service;
  service.start();
  {
    Instance instance(service.path());
    instance.create_queue("q", durable_options(MOORING_KIND_MPMC));
    const mooring_producer_options options = no_wait();
    Producer producer = instance.open_producer("q", &options);
    Consumer holder = instance.open_consumer("q");
    publish_with_headers(producer, "held");
    const auto held = holder.receive(kPatienceNs);
    ASSERT_TRUE(held.has_value());
    expect_headers(*held, "held");
    Consumer consumer = instance.open_consumer("q");
    for (int i = 0; i < 3 * 4096; ++i) {
      ASSERT_EQ(producer.try_publish("x", 1, kPatienceNs, nullptr), MOORING_OK);
      if (i % 64 != 63) continue;
      for (int j = 0; j < 64; ++j) {
        const auto message = consumer.receive(kPatienceNs);
        ASSERT_TRUE(message.has_value());
        ASSERT_TRUE(j != 63 || i != 3 * 4096 - 1 ? consumer.ack(*message) : consumer.ack_sync(*message));
      }
    }
  }
  service.reboot();
  Instance instance(service.path());
  Consumer consumer = instance.open_consumer("q");
  const auto message = consumer.receive(kPatienceNs);
  ASSERT_TRUE(message.has_value());
  expect_headers(*message, "held");
  EXPECT_NE(message->flags & MOORING_REDELIVERED, 0U);
  EXPECT_TRUE(consumer.ack(*message));
  EXPECT_FALSE(consumer.receive(0).has_value());
}

}  // namespace
}  // namespace mooring
