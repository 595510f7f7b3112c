// The C API: C in, C++ out, no logic. Checks pointers and option sizes, turns results into codes, and lets nothing
// escape: no exception crosses this file (std::bad_alloc becomes MOORING_ERR_NO_MEMORY).
#include <mooring/mooring.h>

#include <cstring>
#include <memory>
#include <new>
#include <span>

#include "queue/consumer.hpp"
#include "queue/error_detail.hpp"
#include "queue/instance.hpp"
#include "queue/producer.hpp"

struct mooring_instance {
  std::shared_ptr<mooring::Instance> instance;
};
struct mooring_producer {
  std::unique_ptr<mooring::Producer> producer;
};
struct mooring_consumer {
  std::unique_ptr<mooring::Consumer> consumer;
};

namespace {

using mooring::Code;
using mooring::fail_with;

static_assert(MOORING_EMPTY == static_cast<int>(Code::kEmpty) && MOORING_FULL == static_cast<int>(Code::kFull) &&
              MOORING_TIMEOUT == static_cast<int>(Code::kTimeout) && MOORING_STALE == static_cast<int>(Code::kStale) &&
              MOORING_EXPIRED == static_cast<int>(Code::kExpired) &&
              MOORING_PAUSED == static_cast<int>(Code::kPaused) &&
              MOORING_DUPLICATE == static_cast<int>(Code::kDuplicate) &&
              MOORING_INTERRUPTED == static_cast<int>(Code::kInterrupted));
static_assert(MOORING_ERR_NO_SUCH_QUEUE == static_cast<int>(Code::kNoSuchQueue) &&
              MOORING_ERR_EXISTS == static_cast<int>(Code::kExists) &&
              MOORING_ERR_TOO_BIG == static_cast<int>(Code::kTooBig) &&
              MOORING_ERR_BAD_ARGUMENT == static_cast<int>(Code::kBadArgument) &&
              MOORING_ERR_PERMISSION == static_cast<int>(Code::kPermission) &&
              MOORING_ERR_NO_SEAT == static_cast<int>(Code::kNoSeat) &&
              MOORING_ERR_VERSION == static_cast<int>(Code::kVersion) &&
              MOORING_ERR_CORRUPT == static_cast<int>(Code::kCorrupt) &&
              MOORING_ERR_NO_SUPERVISOR == static_cast<int>(Code::kNoSupervisor) &&
              MOORING_ERR_IO == static_cast<int>(Code::kIo) &&
              MOORING_ERR_DISK_FULL == static_cast<int>(Code::kDiskFull) &&
              MOORING_ERR_CLOSED == static_cast<int>(Code::kClosed) &&
              MOORING_ERR_FORKED == static_cast<int>(Code::kForked) &&
              MOORING_ERR_NO_MEMORY == static_cast<int>(Code::kNoMemory));

// The layouts agree, so that messages and slices pass without a copy.
static_assert(sizeof(mooring_message) == sizeof(mooring::Message));
static_assert(offsetof(mooring_message, seq) == offsetof(mooring::Message, seq));
static_assert(offsetof(mooring_message, attempt) == offsetof(mooring::Message, attempt));
static_assert(offsetof(mooring_message, token) == offsetof(mooring::Message, token));
static_assert(sizeof(mooring_slice) == sizeof(mooring::Slice));
static_assert(MOORING_REDELIVERED == mooring::kMessageRedelivered && MOORING_IN_PLACE == mooring::kMessageInPlace);
static_assert(MOORING_FOREVER == mooring::kForever);

int bad(const char* text) { return static_cast<int>(fail_with(Code::kBadArgument, text)); }

// Runs `body`, which returns a Code.
template <class Body>
int guarded(Body&& body) noexcept {
  try {
    return static_cast<int>(body());
  } catch (const std::bad_alloc&) {
    return static_cast<int>(fail_with(Code::kNoMemory, "out of memory"));
  } catch (const std::exception& error) {
    return static_cast<int>(fail_with(Code::kIo, error.what()));
  }
}

template <class Value>
Code code_of(const mooring::Result<Value>& result) {
  return result ? Code::kOk : fail_with(result.error());
}

// Options as the caller knows them: a shorter struct of an older release is filled up with defaults, a longer one of a
// newer release is taken as far as we know it, if the rest is zero.
template <class Options>
bool read_options(const Options* given, Options* known) {
  if (given == nullptr) return true;
  if (given->size < sizeof(std::size_t)) return false;
  const std::size_t common = given->size < sizeof(Options) ? given->size : sizeof(Options);
  std::memcpy(known, given, common);
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t i = common; i < given->size && given->size <= 4096; ++i) {
    if (bytes[i] != 0) return false;
  }
  return given->size <= 4096;
}
constexpr const char* kBadOptions =
    "options: call the matching _init function first (size is wrong, or an option is newer than this library)";

template <class Options>
void init_options(Options* options, std::size_t size, const Options& defaults) {
  if (options == nullptr || size < sizeof(std::size_t)) return;
  std::memset(options, 0, size);
  std::memcpy(options, &defaults, size < sizeof defaults ? size : sizeof defaults);
  options->size = size;
}

mooring_instance_options instance_defaults() { return {sizeof(mooring_instance_options), nullptr, 0, 0, 0}; }
mooring_queue_options queue_defaults() {
  mooring_queue_options options{};
  options.size = sizeof options;
  options.kind = MOORING_KIND_MPMC;
  options.overflow = MOORING_OVERFLOW_BLOCK;
  options.group_id = -1;
  return options;
}
mooring_producer_options producer_defaults() {
  return {sizeof(mooring_producer_options), MOORING_WAIT_ADAPTIVE, 0, 0};
}
mooring_consumer_options consumer_defaults() {
  return {sizeof(mooring_consumer_options), MOORING_WAIT_ADAPTIVE, 0, 0};
}

mooring::Message* cpp(mooring_message* message) { return reinterpret_cast<mooring::Message*>(message); }
const mooring::Message& cpp(const mooring_message* message) {
  return *reinterpret_cast<const mooring::Message*>(message);
}

}  // namespace

extern "C" {

uint32_t mooring_version(void) { return MOORING_VERSION; }

const char* mooring_strerror(int code) { return mooring::code_text(static_cast<Code>(code)).data(); }

const char* mooring_error_detail(void) { return mooring::error_detail(); }

void mooring_instance_options_init(mooring_instance_options* options, size_t size) {
  init_options(options, size, instance_defaults());
}
void mooring_queue_options_init(mooring_queue_options* options, size_t size) {
  init_options(options, size, queue_defaults());
}
void mooring_producer_options_init(mooring_producer_options* options, size_t size) {
  init_options(options, size, producer_defaults());
}
void mooring_consumer_options_init(mooring_consumer_options* options, size_t size) {
  init_options(options, size, consumer_defaults());
}

int mooring_instance_open(const mooring_instance_options* options, mooring_instance** instance) {
  if (instance == nullptr) return bad("instance_open: the out-parameter is null");
  *instance = nullptr;
  mooring_instance_options known = instance_defaults();
  if (!read_options(options, &known)) return bad(kBadOptions);
  if ((known.flags & ~MOORING_AUTOSTART) != 0) return bad("instance_open: unknown flag");
  return guarded([&] {
    mooring::Instance::Options wanted;
    if (known.path != nullptr) wanted.path = known.path;
    wanted.autostart = (known.flags & MOORING_AUTOSTART) != 0;
    if (known.request_timeout_ns != 0) wanted.request_timeout_ns = known.request_timeout_ns;
    auto opened = mooring::Instance::open(wanted);
    if (!opened) return code_of(opened);
    *instance = new mooring_instance{std::move(*opened)};
    return Code::kOk;
  });
}

void mooring_instance_close(mooring_instance* instance) { delete instance; }

int mooring_supervisor_shutdown(mooring_instance* instance) {
  if (instance == nullptr) return bad("supervisor_shutdown: instance is null");
  return guarded([&] { return code_of(instance->instance->request({{"op", "shutdown"}})); });
}

int mooring_queue_create(mooring_instance* instance, const char* queue, const mooring_queue_options* options) {
  if (instance == nullptr || queue == nullptr) return bad("queue_create: instance or name is null");
  mooring_queue_options known = queue_defaults();
  if (!read_options(options, &known)) return bad(kBadOptions);
  return guarded([&] {
    mooring::QueueOptions wanted;
    wanted.kind = static_cast<mooring::layout::QueueKind>(known.kind);
    wanted.overflow = static_cast<mooring::layout::Overflow>(known.overflow);
    if (known.capacity != 0) wanted.capacity = known.capacity;
    wanted.max_message_bytes = known.max_message_bytes;
    wanted.lane_bytes = known.lane_bytes;
    wanted.max_backlog_bytes = known.max_backlog_bytes;
    wanted.producers_max = known.producers_max;
    wanted.consumers_max = known.consumers_max;
    wanted.groups_max = known.groups_max;
    if (known.file_mode != 0) wanted.file_mode = known.file_mode;
    if (known.durability != 0) wanted.durability = static_cast<mooring::layout::Durability>(known.durability);
    if (known.deliver != 0) wanted.deliver = static_cast<mooring::layout::Deliver>(known.deliver);
    if (known.group_id >= 0) wanted.group_id = static_cast<mooring::u32>(known.group_id);
    return code_of(instance->instance->request({{"op", "create_queue"},
                                                {"queue", queue},
                                                {"options", mooring::queue_options_to_json(wanted)}}));
  });
}

int mooring_queue_remove(mooring_instance* instance, const char* queue) {
  if (instance == nullptr || queue == nullptr) return bad("queue_remove: instance or name is null");
  return guarded([&] { return code_of(instance->instance->request({{"op", "remove_queue"}, {"queue", queue}})); });
}

int mooring_group_create(mooring_instance* instance, const char* queue, const char* group, uint32_t mode) {
  if (instance == nullptr || queue == nullptr || group == nullptr) return bad("group_create: an argument is null");
  return guarded([&] {
    return code_of(instance->instance->request(
        {{"op", "create_group"}, {"queue", queue}, {"group", group}, {"mode", mode}}));
  });
}

int mooring_group_remove(mooring_instance* instance, const char* queue, const char* group) {
  if (instance == nullptr || queue == nullptr || group == nullptr) return bad("group_remove: an argument is null");
  return guarded([&] {
    return code_of(instance->instance->request({{"op", "remove_group"}, {"queue", queue}, {"group", group}}));
  });
}

int mooring_producer_open(mooring_instance* instance, const char* queue, const mooring_producer_options* options,
                          mooring_producer** producer) {
  if (producer == nullptr) return bad("producer_open: the out-parameter is null");
  *producer = nullptr;
  if (instance == nullptr || queue == nullptr) return bad("producer_open: instance or queue is null");
  mooring_producer_options known = producer_defaults();
  if (!read_options(options, &known)) return bad(kBadOptions);
  if (known.wait > MOORING_WAIT_SLEEP) return bad("producer_open: unknown wait strategy");
  if ((known.flags & ~MOORING_NO_WAIT) != 0) return bad("producer_open: unknown flag");
  return guarded([&] {
    mooring::Producer::Options wanted;
    wanted.wait = static_cast<mooring::WaitStrategy>(known.wait);
    if (known.spin_ns != 0) wanted.spin_ns = known.spin_ns;
    wanted.no_wait = (known.flags & MOORING_NO_WAIT) != 0;
    auto opened = mooring::Producer::open(instance->instance, queue, wanted);
    if (!opened) return code_of(opened);
    *producer = new mooring_producer{std::move(*opened)};
    return Code::kOk;
  });
}

void mooring_producer_close(mooring_producer* producer) {
  (void)guarded([&] {
    delete producer;
    return Code::kOk;
  });
}

int mooring_publish(mooring_producer* producer, const void* data, size_t size, uint64_t timeout_ns, uint64_t* seq) {
  if (producer == nullptr || (data == nullptr && size != 0)) return bad("publish: producer or data is null");
  return guarded([&] { return producer->producer->publish(data, size, timeout_ns, seq); });
}

int mooring_publish_batch(mooring_producer* producer, const mooring_slice* slices, size_t count, uint64_t timeout_ns,
                          size_t* published) {
  if (published != nullptr) *published = 0;
  if (producer == nullptr || (slices == nullptr && count != 0)) return bad("publish_batch: producer or slices is null");
  return guarded([&] {
    for (size_t i = 0; i < count; ++i) {
      if (slices[i].data == nullptr && slices[i].size != 0) {
        return fail_with(Code::kBadArgument, "publish_batch: a slice has a size but no data");
      }
    }
    size_t went_out = 0;
    const Code code = producer->producer->publish_batch(
        std::span(reinterpret_cast<const mooring::Slice*>(slices), count), timeout_ns, &went_out);
    if (published != nullptr) *published = went_out;
    return code;
  });
}

int mooring_wait_durable(mooring_producer* producer, uint64_t seq, uint64_t timeout_ns) {
  if (producer == nullptr) return bad("wait_durable: producer is null");
  return guarded([&] { return producer->producer->wait_durable(seq, timeout_ns); });
}

int mooring_durable_seq(mooring_producer* producer, uint64_t* seq) {
  if (producer == nullptr || seq == nullptr) return bad("durable_seq: producer or the out-parameter is null");
  return guarded([&] {
    *seq = producer->producer->durable_seq();
    return Code::kOk;
  });
}

int mooring_durable_fd(mooring_producer* producer, int* fd) {
  if (producer == nullptr || fd == nullptr) return bad("durable_fd: producer or the out-parameter is null");
  return guarded([&] {
    const auto descriptor = producer->producer->durable_descriptor();
    if (!descriptor) return code_of(descriptor);
    *fd = *descriptor;
    return Code::kOk;
  });
}

int mooring_reserve(mooring_producer* producer, size_t size, uint64_t timeout_ns, void** data) {
  if (producer == nullptr || data == nullptr) return bad("reserve: producer or the out-parameter is null");
  return guarded([&] {
    mooring::u8* room = nullptr;
    const Code code = producer->producer->reserve(size, timeout_ns, &room);
    *data = room;
    return code;
  });
}

int mooring_commit(mooring_producer* producer, size_t size, uint64_t* seq) {
  if (producer == nullptr) return bad("commit: producer is null");
  return guarded([&] { return producer->producer->commit(size, seq); });
}

int mooring_abort(mooring_producer* producer) {
  if (producer == nullptr) return bad("abort: producer is null");
  return guarded([&] { return producer->producer->abort(); });
}

int mooring_consumer_open(mooring_instance* instance, const char* queue, const char* group,
                          const mooring_consumer_options* options, mooring_consumer** consumer) {
  if (consumer == nullptr) return bad("consumer_open: the out-parameter is null");
  *consumer = nullptr;
  if (instance == nullptr || queue == nullptr) return bad("consumer_open: instance or queue is null");
  mooring_consumer_options known = consumer_defaults();
  if (!read_options(options, &known)) return bad(kBadOptions);
  if (known.wait > MOORING_WAIT_SLEEP) return bad("consumer_open: unknown wait strategy");
  return guarded([&] {
    mooring::Consumer::Options wanted;
    wanted.wait = static_cast<mooring::WaitStrategy>(known.wait);
    if (known.spin_ns != 0) wanted.spin_ns = known.spin_ns;
    wanted.max_in_flight = known.max_in_flight;
    auto opened =
        mooring::Consumer::open(instance->instance, queue, group == nullptr ? "default" : group, wanted);
    if (!opened) return code_of(opened);
    *consumer = new mooring_consumer{std::move(*opened)};
    return Code::kOk;
  });
}

void mooring_consumer_close(mooring_consumer* consumer) {
  (void)guarded([&] {
    delete consumer;
    return Code::kOk;
  });
}

int mooring_receive(mooring_consumer* consumer, mooring_message* message, uint64_t timeout_ns) {
  if (consumer == nullptr || message == nullptr) return bad("receive: consumer or message is null");
  return guarded([&] { return consumer->consumer->receive(cpp(message), timeout_ns); });
}

int mooring_receive_batch(mooring_consumer* consumer, mooring_message* messages, size_t count, uint64_t timeout_ns,
                          size_t* received) {
  if (received == nullptr) return bad("receive_batch: the out-parameter is null");
  *received = 0;
  if (consumer == nullptr || messages == nullptr) return bad("receive_batch: consumer or messages is null");
  return guarded(
      [&] { return consumer->consumer->receive_batch(std::span(cpp(messages), count), timeout_ns, received); });
}

int mooring_ack(mooring_consumer* consumer, const mooring_message* message) {
  if (consumer == nullptr || message == nullptr) return bad("ack: consumer or message is null");
  return guarded([&] { return consumer->consumer->ack(cpp(message)); });
}

int mooring_ack_sync(mooring_consumer* consumer, const mooring_message* message, uint64_t timeout_ns) {
  if (consumer == nullptr || message == nullptr) return bad("ack_sync: consumer or message is null");
  return guarded([&] { return consumer->consumer->ack_sync(cpp(message), timeout_ns); });
}

int mooring_ack_batch(mooring_consumer* consumer, const mooring_message* messages, size_t count, size_t* acked) {
  if (acked != nullptr) *acked = 0;
  if (consumer == nullptr || (messages == nullptr && count != 0)) return bad("ack_batch: consumer or messages is null");
  return guarded([&] {
    Code worst = Code::kOk;
    for (size_t i = 0; i < count; ++i) {
      const Code code = consumer->consumer->ack(cpp(&messages[i]));
      if (code == Code::kOk) {
        if (acked != nullptr) ++*acked;
      } else if (code == Code::kStale) {
        worst = code;
      } else {
        return code;
      }
    }
    return worst;
  });
}

int mooring_ack_up_to(mooring_consumer* consumer, const mooring_message* message) {
  if (consumer == nullptr || message == nullptr) return bad("ack_up_to: consumer or message is null");
  return guarded([&] { return consumer->consumer->ack_up_to(cpp(message)); });
}

int mooring_nack(mooring_consumer* consumer, const mooring_message* message) {
  if (consumer == nullptr || message == nullptr) return bad("nack: consumer or message is null");
  return guarded([&] { return consumer->consumer->nack(cpp(message)); });
}

int mooring_release(mooring_consumer* consumer, const mooring_message* message) {
  if (consumer == nullptr || message == nullptr) return bad("release: consumer or message is null");
  return guarded([&] { return consumer->consumer->release(cpp(message)); });
}

int mooring_consumer_fd(mooring_consumer* consumer, int* fd) {
  if (consumer == nullptr || fd == nullptr) return bad("consumer_fd: consumer or the out-parameter is null");
  return guarded([&] {
    const auto descriptor = consumer->consumer->descriptor();
    if (!descriptor) return code_of(descriptor);
    *fd = *descriptor;
    return Code::kOk;
  });
}

}  // extern "C"
