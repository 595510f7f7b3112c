// Does it matter how much waits? Publishes into, and consumes from, durable queues that differ only in their backlog,
// in turn; medians, and ratios to the queue with the smallest backlog.
//
//   backlog_bench [--size BYTES] [messages...]     default: 256; 1000 10000 100000 1000000 10000000
//
// Queues of 4,096 cells, so that of a larger backlog what is consumed comes from the log. A turn
// publishes 4,000 messages without waiting, waits for their flush, and consumes 4,000 older ones with acknowledgements:
// the backlog is the same before each turn. The journals lie below /tmp.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bench/scenarios/private_instance.hpp"

namespace mooring::bench {
namespace {

constexpr u64 kTurns = 41;
constexpr u64 kMessagesOfTurn = 4000;
constexpr u64 kPatienceNs = 60'000'000'000;

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

class Backlog {
 public:
  Backlog(PrivateInstance& instance, u64 messages, u64 size_bytes)
      : messages_(messages), queue_(instance, options()), text_(size_bytes, 'x') {
    mooring_producer_options no_wait;
    mooring_producer_options_init(&no_wait, sizeof no_wait);
    no_wait.flags = MOORING_NO_WAIT;
    producer_ = std::make_unique<Producer>(instance.connection().open_producer(queue_.name(), &no_wait));
    consumer_ = std::make_unique<Consumer>(instance.connection().open_consumer(queue_.name()));
    publish(messages);
  }

  void turn() {
    double began = now_s();
    publish(kMessagesOfTurn);
    publishes_.push_back((now_s() - began) / static_cast<double>(kMessagesOfTurn));
    began = now_s();
    for (u64 i = 0; i < kMessagesOfTurn; ++i) {
      const auto message = consumer_->receive(kPatienceNs);
      u64 number = 0;
      if (message.has_value()) std::memcpy(&number, message->data, sizeof number);
      if (!message.has_value() || number != consumed_++ || !consumer_->ack(*message)) {
        throw Failure(MOORING_ERR_CORRUPT, "what is consumed is not what was published");
      }
    }
    consumes_.push_back((now_s() - began) / static_cast<double>(kMessagesOfTurn));
  }

  u64 messages() const { return messages_; }
  double publish_s() const { return median(publishes_); }
  double consume_s() const { return median(consumes_); }

 private:
  static mooring_queue_options options() {
    mooring_queue_options made;
    mooring_queue_options_init(&made, sizeof made);
    made.durability = MOORING_DURABLE;
    made.capacity = 4096;
    made.lane_bytes = u64{4} << 20;
    made.max_backlog_bytes = u64{32} << 30;
    return made;
  }
  void publish(u64 count) {
    for (u64 i = 0; i < count; ++i, ++published_) {
      std::memcpy(text_.data(), &published_, sizeof published_);
      if (!producer_->publish(text_).has_value()) throw Failure(MOORING_TIMEOUT, "there is no room");
    }
    if (const int code = mooring_wait_durable(producer_->get(), MOORING_EVERYTHING, MOORING_FOREVER); code != 0) {
      throw Failure(code, Failure::detail_of(code));
    }
  }

  u64 messages_;
  BenchQueue queue_;
  std::unique_ptr<Producer> producer_;
  std::unique_ptr<Consumer> consumer_;
  std::string text_;
  u64 published_ = 0;
  u64 consumed_ = 0;
  std::vector<double> publishes_;
  std::vector<double> consumes_;
};

int run(const std::vector<u64>& sizes, u64 size_bytes) try {
  auto instance = PrivateInstance::start();
  if (!instance) {
    std::fprintf(stderr, "backlog_bench: %s\n", instance.error().text.c_str());
    return 1;
  }
  std::vector<std::unique_ptr<Backlog>> backlogs;
  for (const u64 messages : sizes) backlogs.push_back(std::make_unique<Backlog>(**instance, messages, size_bytes));
  for (u64 turn = 0; turn < kTurns; ++turn) {
    for (const auto& backlog : backlogs) backlog->turn();
  }
  std::printf("%12s %14s %8s %14s %8s\n", "backlog", "publish ns", "ratio", "consume ns", "ratio");
  for (const auto& backlog : backlogs) {
    std::printf("%12lu %14.0f %8.2f %14.0f %8.2f\n", static_cast<unsigned long>(backlog->messages()),
                backlog->publish_s() * 1e9, backlog->publish_s() / backlogs.front()->publish_s(),
                backlog->consume_s() * 1e9, backlog->consume_s() / backlogs.front()->consume_s());
  }
  return 0;
} catch (const Failure& failure) {
  std::fprintf(stderr, "backlog_bench: %s\n", failure.what());
  return 1;
}

}  // namespace
}  // namespace mooring::bench

int main(int argc, char** argv) {
  std::vector<mooring::u64> sizes;
  mooring::u64 size_bytes = 256;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--size") == 0 && i + 1 < argc) {
      size_bytes = std::max<mooring::u64>(sizeof(mooring::u64), std::strtoull(argv[++i], nullptr, 10));
    } else {
      sizes.push_back(std::strtoull(argv[i], nullptr, 10));
    }
  }
  if (sizes.empty()) sizes = {1'000, 10'000, 100'000, 1'000'000, 10'000'000};
  return mooring::bench::run(sizes, size_bytes);
}
