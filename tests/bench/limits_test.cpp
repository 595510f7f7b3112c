// The benchmark support library at its smallest: every limit and every peer runs for some milliseconds between real
// processes, and itself verifies the count and the content of all its messages; here we check that it ran, that what it
// reports fits together, and that its checks do find what is broken (a wrong byte, a dead role, a role that hangs).
// Nothing here asserts how fast anything is.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bench/support/content.hpp"
#include "bench/support/interleave.hpp"
#include "bench/support/limits.hpp"
#include "bench/support/peers.hpp"
#include "bench/support/processes.hpp"
#include "bench/support/samples.hpp"
#include "bench/support/shared_memory.hpp"

namespace mooring::bench {
namespace {

constexpr LimitOptions kTiny{.seconds = 0.005, .nice_value = 0};

PeerOptions tiny_peer(u64 ring_bytes = u64{1} << 16) {
  PeerOptions options;
  options.seconds = 0.005;
  options.nice_value = 0;
  options.ring_bytes = ring_bytes;
  return options;
}

void expect_round_trips(const Result<Measurement>& measured) {
  ASSERT_TRUE(measured) << measured.error().text;
  EXPECT_GT(measured->messages, 0U);
  ASSERT_TRUE(measured->latency);
  EXPECT_LE(measured->latency->min_ns, measured->latency->p50_ns);
  EXPECT_LE(measured->latency->p50_ns, measured->latency->p99_ns);
  EXPECT_LE(measured->latency->p99_ns, measured->latency->p999_ns);
  EXPECT_LE(measured->latency->p999_ns, measured->latency->max_ns);
  EXPECT_FALSE(measured->messages_per_second);
}

void expect_rate(const Result<Measurement>& measured, u64 size_bytes) {
  ASSERT_TRUE(measured) << measured.error().text;
  EXPECT_GT(measured->messages, 0U);
  EXPECT_FALSE(measured->latency);
  ASSERT_TRUE(measured->messages_per_second);
  ASSERT_TRUE(measured->bytes_per_second);
  EXPECT_GT(*measured->messages_per_second, 0);
  EXPECT_DOUBLE_EQ(*measured->bytes_per_second, *measured->messages_per_second * static_cast<double>(size_bytes));
}

// ---- limits and peers ---------------------------------------------------------------------------------------------

TEST(Limits, ExchangesVerifyEveryRoundAtEverySize) {
  for (const u64 size_bytes : {u64{0}, u64{1}, u64{8}, u64{13}, u64{56}}) {
    SCOPED_TRACE(size_bytes);
    expect_round_trips(ring_exchange_one_line(size_bytes, kTiny));
    expect_round_trips(ring_exchange_two_line(size_bytes, kTiny));
    expect_round_trips(futex_round_trip(size_bytes, kTiny));
  }
  expect_round_trips(ring_exchange_two_line(64, kTiny));
}

TEST(Limits, ExchangesRefuseWhatDoesNotFitTheirLines) {
  EXPECT_EQ(ring_exchange_one_line(57, kTiny).error().code, Code::kTooBig);
  EXPECT_EQ(ring_exchange_two_line(65, kTiny).error().code, Code::kTooBig);
  EXPECT_EQ(futex_round_trip(57, kTiny).error().code, Code::kTooBig);
}

TEST(Limits, StreamsVerifyEveryChunkAtEverySize) {
  for (const u64 publish_every : {u64{1}, u64{16}}) {
    for (const u64 size_bytes : {u64{3}, u64{8}, u64{64}, u64{100}, u64{1024}, u64{65536}}) {
      SCOPED_TRACE(std::to_string(size_bytes) + " B, published every " + std::to_string(publish_every));
      expect_rate(stream_in_place(size_bytes, {.publish_every = publish_every}, kTiny), size_bytes);
    }
  }
  expect_rate(stream_in_place(64, {.publish_every = 16, .back_off_pauses = 64}, kTiny), 64);
}

TEST(Limits, StreamOverARingOfFourChunksStillEnds) {
  expect_rate(stream_in_place(64, {.publish_every = 16, .ring_bytes = 256}, kTiny), 64);
  EXPECT_EQ(stream_in_place(64, {.ring_bytes = 192}, kTiny).error().code, Code::kBadArgument);
  EXPECT_EQ(stream_in_place(0, {}, kTiny).error().code, Code::kBadArgument);
}

class EachPeer : public testing::TestWithParam<Peer> {};

TEST_P(EachPeer, VerifiesEveryRoundAndEveryMessage) {
  for (const u64 size_bytes : {u64{8}, u64{20}, u64{64}, u64{4096}}) {
    SCOPED_TRACE(size_bytes);
    expect_round_trips(peer_ping_pong(GetParam(), size_bytes, tiny_peer()));
    expect_rate(peer_throughput(GetParam(), size_bytes, tiny_peer()), size_bytes);
    expect_rate(peer_throughput(GetParam(), size_bytes, tiny_peer(4 * size_bytes)), size_bytes);
  }
  EXPECT_EQ(peer_throughput(GetParam(), 7, tiny_peer()).error().code, Code::kBadArgument);
}

TEST_P(EachPeer, TakesSeveralProducersAndConsumersOnlyIfItIsBuiltForThem) {
  PeerOptions crowd = tiny_peer();
  crowd.producers = 2;
  crowd.consumers = 2;
  if (peer_is_spsc(GetParam())) {
    EXPECT_EQ(peer_throughput(GetParam(), 64, crowd).error().code, Code::kBadArgument);
    EXPECT_EQ(peer_pairs(GetParam(), 64, tiny_peer()).error().code, Code::kBadArgument);
    return;
  }
  expect_rate(peer_throughput(GetParam(), 64, crowd), 64);
  expect_rate(peer_pairs(GetParam(), 64, tiny_peer()), 64);
}

INSTANTIATE_TEST_SUITE_P(Peers, EachPeer,
                         testing::Values(Peer::kSpscIndexRing, Peer::kSpscIndexRingBackOff, Peer::kMpmcTicketRing,
                                         Peer::kMpmcTryRing),
                         [](const auto& one) { return std::string(peer_name(one.param)); });

TEST(Limits, FutexRoundTripReallySleeps) {
  const auto measured = futex_round_trip(8, kTiny);
  ASSERT_TRUE(measured) << measured.error().text;
  ASSERT_TRUE(measured->sleeps_per_round);
  EXPECT_GT(*measured->sleeps_per_round, 0);
}

// ---- the checks themselves ----------------------------------------------------------------------------------------

TEST(Content, AnyChangedByteIsFound) {
  for (u64 size_bytes = 1; size_bytes <= 200; ++size_bytes) {
    std::vector<u8> message(size_bytes);
    const u64 stamp = 0x0102030405060708U + size_bytes;
    fill_content(message.data(), size_bytes, stamp);
    ASSERT_TRUE(content_is(message.data(), size_bytes, stamp)) << size_bytes;
    for (u8& byte : message) {
      byte = static_cast<u8>(byte ^ 0x10U);
      EXPECT_FALSE(content_is(message.data(), size_bytes, stamp)) << size_bytes;
      byte = static_cast<u8>(byte ^ 0x10U);
    }
    EXPECT_FALSE(content_is(message.data(), size_bytes, stamp + 1)) << size_bytes;
  }
}

TEST(Content, PreparedAndGeneratedMessagesAreTheSame) {
  for (const u64 size_bytes : {u64{1}, u64{7}, u64{8}, u64{9}, u64{56}, u64{64}, u64{1000}}) {
    SourceMessages source(size_bytes);
    std::vector<u8> generated(size_bytes);
    for (u64 stamp = 0; stamp < 10; ++stamp) {
      fill_content(generated.data(), size_bytes, stamp);
      EXPECT_EQ(std::memcmp(source.message(stamp), generated.data(), size_bytes), 0) << size_bytes << ", " << stamp;
    }
  }
}

TEST(LatencyHistogram, PercentilesAreWithinHalfAPercent) {
  const auto histogram = std::make_unique<LatencyHistogram>();
  for (u64 value = 1; value <= 100'000; ++value) histogram->record(value);
  for (const double fraction : {0.001, 0.01, 0.5, 0.9, 0.99, 0.999}) {
    const double exact = fraction * 100'000;
    EXPECT_NEAR(histogram->percentile(fraction), exact, 1 + exact * 0.005) << fraction;
  }
  EXPECT_EQ(histogram->percentile(1.0), 100'000);
  histogram->record(~u64{0});  // Longer than any run: counted, not lost and not out of bounds.
  EXPECT_EQ(histogram->count(), 100'001U);
}

TEST(LatencyHistogram, CoarseClockDoesNotHideTheMedian) {
  // A counter that steps by 20 shows a steady 390 as 380 and 400 in turn.
  const auto histogram = std::make_unique<LatencyHistogram>();
  for (int i = 0; i < 100; ++i) histogram->record(i % 2 == 0 ? 380 : 400);
  EXPECT_DOUBLE_EQ(histogram->percentile(0.5), 390);
  const auto constant = std::make_unique<LatencyHistogram>();
  for (int i = 0; i < 100; ++i) constant->record(777);
  EXPECT_NEAR(constant->percentile(0.5), 777, 0);
  EXPECT_NEAR(constant->percentile(0.999), 777, 0);
}

// ---- processes ----------------------------------------------------------------------------------------------------

TEST(Processes, ResultsOfAllRolesComeBackThroughSharedMemory) {
  auto sums = Shared<std::array<u64, 3>>::create();
  ASSERT_TRUE(sums);
  std::vector<Role> roles;
  for (u64 i = 0; i < 3; ++i) {
    roles.push_back({"adder", [&sums, i](RoleContext& role) -> Status {
                       if (Status started = role.wait_for_start(); !started) return started;
                       (**sums)[i] = 10 + i;
                       return {};
                     }});
  }
  const auto outcome = run_roles(roles, {.nice_value = 0});
  ASSERT_TRUE(outcome) << outcome.error().text;
  EXPECT_FALSE(outcome->pinned);
  EXPECT_EQ((**sums)[0] + (**sums)[1] + (**sums)[2], 33U);
}

Status wait_for_ever(RoleContext& role) {
  if (Status started = role.wait_for_start(); !started) return started;
  for (;;) ::pause();
}

TEST(Processes, FailureOfOneRoleEndsAllAndItsTextArrives) {
  const std::vector<Role> roles{
      {"sleeper", wait_for_ever},
      {"failing", [](RoleContext&) -> Status { return fail(Code::kCorrupt, "byte 7 of message 3 is wrong"); }}};
  const auto outcome = run_roles(roles, {.nice_value = 0});
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, Code::kCorrupt);
  EXPECT_NE(outcome.error().text.find("failing"), std::string::npos) << outcome.error().text;
  EXPECT_NE(outcome.error().text.find("byte 7 of message 3 is wrong"), std::string::npos) << outcome.error().text;
}

TEST(Processes, KilledRoleIsAFailureUnlessThatIsItsPart) {
  for (const bool may_be_killed : {false, true}) {
    std::vector<Role> roles{{"victim", wait_for_ever}, {"killer", [](RoleContext& role) -> Status {
                                                          if (Status started = role.wait_for_start(); !started)
                                                            return started;
                                                          if (::kill(role.pid_of(0), SIGKILL) != 0)
                                                            return fail(Code::kIo, "cannot kill");
                                                          return {};
                                                        }}};
    roles[0].may_be_killed = may_be_killed;
    const auto outcome = run_roles(roles, {.nice_value = 0});
    EXPECT_EQ(outcome.has_value(), may_be_killed);
  }
}

TEST(Processes, WatchdogEndsARoleThatHangs) {
  const std::vector<Role> roles{{"sleeper", wait_for_ever}};
  const auto outcome = run_roles(roles, {.watchdog_ns = kNsPerMs, .nice_value = 0});
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, Code::kTimeout);
}

// ---- interleaving -------------------------------------------------------------------------------------------------

TEST(Interleave, RunsInTurnAndComparesWithinTheRepetition) {
  // The machine doubles its speed each repetition; A always takes 1.5 times as long as B.
  std::string order;
  double speed = 1;
  const auto took = [](double ns) {
    Measurement one;
    one.latency = Percentiles{};
    one.latency->p50_ns = ns;
    return one;
  };
  const std::vector<Contender> contenders{{"A",
                                           [&]() -> Result<Measurement> {
                                             order += 'A';
                                             return took(150 / speed);
                                           }},
                                          {"B", [&]() -> Result<Measurement> {
                                             order += 'B';
                                             const Measurement one = took(100 / speed);
                                             speed *= 2;
                                             return one;
                                           }}};
  const auto runs = interleave(contenders, 3);
  ASSERT_TRUE(runs);
  EXPECT_EQ(order, "ABABAB");
  EXPECT_DOUBLE_EQ(runs->ratio(0, 1, &p50_ns).min, 1.5);
  EXPECT_DOUBLE_EQ(runs->ratio(0, 1, &p50_ns).max, 1.5);
  EXPECT_DOUBLE_EQ(runs->median(1, &p50_ns), 50);
  EXPECT_DOUBLE_EQ(runs->median_measurement(0).latency->p50_ns, 75);
}

TEST(Interleave, FailureNamesTheContender) {
  const std::vector<Contender> contenders{
      {"the broken one", []() -> Result<Measurement> { return fail(Code::kCorrupt, "lost a message"); }}};
  const auto runs = interleave(contenders, 2);
  ASSERT_FALSE(runs);
  EXPECT_EQ(runs.error().text, "the broken one: lost a message");
}

}  // namespace
}  // namespace mooring::bench
