// The C API: C in, C++ out, no logic. Checks pointers and option sizes, turns results into codes, and lets nothing
// escape: no exception crosses this file (std::bad_alloc becomes MOORING_ERR_NO_MEMORY).
#include <mooring/mooring.h>

#include <cstring>
#include <deque>
#include <memory>
#include <new>
#include <span>

#include "queue/consumer.hpp"
#include "queue/error_detail.hpp"
#include "queue/instance.hpp"
#include "queue/producer.hpp"
#include "worker/worker_loop.hpp"

struct mooring_instance {
  std::shared_ptr<mooring::Instance> instance;
};
struct mooring_producer {
  std::unique_ptr<mooring::Producer> producer;
};
struct mooring_consumer {
  std::unique_ptr<mooring::Consumer> consumer;
};
struct mooring_worker {
  std::shared_ptr<mooring::WorkerLoop> loop;
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
static_assert(offsetof(mooring_message, headers_size) == offsetof(mooring::Message, headers_bytes));
static_assert(sizeof(mooring_slice) == sizeof(mooring::Slice));
static_assert(MOORING_ON_EXPIRE_DEAD == static_cast<mooring::u64>(mooring::layout::OnExpire::kDead) &&
              MOORING_ON_EXPIRE_DROP == static_cast<mooring::u64>(mooring::layout::OnExpire::kDrop));
static_assert(MOORING_REDELIVERED == mooring::kMessageRedelivered && MOORING_IN_PLACE == mooring::kMessageInPlace);
static_assert(MOORING_FOREVER == mooring::kForever);
static_assert(sizeof(mooring_worker_call) == sizeof(mooring::WorkerCall));
static_assert(offsetof(mooring_worker_call, code) == offsetof(mooring::WorkerCall, code));
static_assert(offsetof(mooring_worker_call, delay_ns) == offsetof(mooring::WorkerCall, delay_ns));
static_assert(offsetof(mooring_worker_call, text) == offsetof(mooring::WorkerCall, text));
static_assert(MOORING_ACK == static_cast<int>(mooring::Verdict::kAck) &&
              MOORING_NACK == static_cast<int>(mooring::Verdict::kNack) &&
              MOORING_REJECT == static_cast<int>(mooring::Verdict::kReject) &&
              MOORING_RELEASE == static_cast<int>(mooring::Verdict::kRelease));

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
mooring_group_options group_defaults() {
  return {sizeof(mooring_group_options), MOORING_MODE_COMPETING, MOORING_START_TAIL, 0};
}
mooring_producer_options producer_defaults() {
  return {sizeof(mooring_producer_options), MOORING_WAIT_ADAPTIVE, 0, 0};
}
mooring_consumer_options consumer_defaults() {
  return {sizeof(mooring_consumer_options), MOORING_WAIT_ADAPTIVE, 0, 0};
}

mooring_worker_options worker_defaults() {
  mooring_worker_options options{};
  options.size = sizeof options;
  options.drain_timeout_ns = MOORING_FOREVER;
  return options;
}

mooring_publish_options publish_defaults() {
  mooring_publish_options options{};
  options.size = sizeof options;
  return options;
}

// Publish options as C++ has them. The application's headers, of which there may be many, are kept here.
class PublishOptions {
 public:
  // kOk, kBadArgument. What `given` points at must stay as long as this.
  Code read(const mooring_publish_options* given) {
    mooring_publish_options known = publish_defaults();
    if (!read_options(given, &known)) return fail_with(Code::kBadArgument, kBadOptions);
    if (known.reserved != 0) return fail_with(Code::kBadArgument, "publish options: reserved is not 0");
    options_.deliver_at_ns = known.deliver_at_ns;
    options_.delay_ns = known.delay_ns;
    options_.ttl_ns = known.ttl_ns;
    mooring::message::Headers& headers = options_.headers;
    if (known.on_expire != 0) headers.on_expire = static_cast<mooring::layout::OnExpire>(known.on_expire);
    headers.schema_version = known.schema_version;
    headers.priority = known.priority;
    if (!view(known.message_id, &headers.message_id) || !view(known.correlation_id, &headers.correlation_id) ||
        !view(known.ordering_key, &headers.ordering_key)) {
      return fail_with(Code::kBadArgument, "publish options: an id or key has a size but no bytes");
    }
    headers.reply_to = text(known.reply_to);
    headers.content_type = text(known.content_type);
    headers.type = text(known.type);
    headers.traceparent = text(known.traceparent);
    if (known.headers == nullptr && known.headers_count != 0) {
      return fail_with(Code::kBadArgument, "publish options: headers_count is not 0, but headers is null");
    }
    if (known.headers_count > mooring::layout::kExtensionBytesMax) {
      return fail_with(Code::kTooBig, "publish options: more headers than 64 KiB hold");
    }
    // Nothing is allocated up to a handful of them.
    mooring::message::Header* to = few_;
    if (known.headers_count > std::size(few_)) {
      many_.reset(new mooring::message::Header[known.headers_count]);
      to = many_.get();
    }
    for (std::size_t i = 0; i < known.headers_count; ++i) {
      const mooring_header& header = known.headers[i];
      const bool measure = header.name != nullptr && header.name_size == 0;
      to[i] = {header.name, measure ? std::strlen(header.name) : header.name_size, header.value, header.value_size};
    }
    options_.application = {to, known.headers_count};
    return Code::kOk;
  }
  const mooring::message::PublishOptions& options() const { return options_; }

 private:
  static bool view(const mooring_slice& slice, std::string_view* text) {
    if (slice.data == nullptr && slice.size != 0) return false;
    *text = {static_cast<const char*>(slice.data), slice.size};
    return true;
  }
  static std::string_view text(const char* given) { return given == nullptr ? std::string_view() : given; }

  mooring::message::PublishOptions options_;
  mooring::message::Header few_[8];
  std::unique_ptr<mooring::message::Header[]> many_;
};

mooring_slice slice_of(std::string_view text) { return {text.empty() ? nullptr : text.data(), text.size()}; }
mooring_header header_of(const mooring::message::Header& header) {
  return {header.name, header.name_bytes, header.value, header.value_bytes};
}
Code told(Code code) {
  if (code != Code::kCorrupt) return code;
  return fail_with(code, "the headers of this message make no sense: somebody wrote over them, or it is settled");
}

mooring::Message* cpp(mooring_message* message) { return reinterpret_cast<mooring::Message*>(message); }
const mooring::Message& cpp(const mooring_message* message) {
  return *reinterpret_cast<const mooring::Message*>(message);
}
const mooring_message* c(const mooring::Message& message) { return reinterpret_cast<const mooring_message*>(&message); }

mooring_nack_options nack_defaults() { return {sizeof(mooring_nack_options), MOORING_BY_POLICY, 0, 0, nullptr}; }
mooring_dead_filter dead_filter_defaults() {
  mooring_dead_filter filter{};
  filter.size = sizeof filter;
  return filter;
}

// Each of them; MOORING_STALE if one or more were stale.
template <class Settle>
int settle_batch(mooring_consumer* consumer, const mooring_message* messages, size_t count, size_t* settled,
                 Settle&& settle) {
  if (settled != nullptr) *settled = 0;
  if (consumer == nullptr || (messages == nullptr && count != 0)) return bad("batch: consumer or messages is null");
  return guarded([&] {
    Code worst = Code::kOk;
    for (size_t i = 0; i < count; ++i) {
      const Code code = settle(messages[i]);
      if (code == Code::kOk) {
        if (settled != nullptr) ++*settled;
      } else if (code == Code::kStale) {
        worst = code;
      } else {
        return code;
      }
    }
    return worst;
  });
}

// A request about one group; `count`: out, may be null, the member of that name in the reply.
Code group_request(mooring_instance* instance, const char* queue, const char* group, mooring::Json request,
                   uint64_t* count = nullptr) {
  request["queue"] = queue;
  request["group"] = group == nullptr ? "default" : group;
  const mooring::Result<mooring::Json> reply = instance->instance->request(request);
  if (!reply) return code_of(reply);
  if (count != nullptr) {
    const mooring::Result<mooring::u64> number = mooring::number_member(*reply, "count", 0, ~mooring::u64{0});
    if (!number) return code_of(number);
    *count = *number;
  }
  return Code::kOk;
}

bool read_filter(const mooring_dead_filter* filter, mooring::Json* request) {
  mooring_dead_filter known = dead_filter_defaults();
  if (!read_options(filter, &known) || known.seq_count > mooring::kSeqsOfFilterMax ||
      (known.seqs == nullptr && known.seq_count != 0)) {
    return false;
  }
  (*request)["dry_run"] = (known.flags & MOORING_DRY_RUN) != 0;
  (*request)["reason"] = known.reason;
  (*request)["older_than_ns"] = known.older_than_ns;
  (*request)["limit"] = known.limit == 0 ? ~mooring::u64{0} : known.limit;
  (*request)["seqs"] = mooring::Json::array();
  for (size_t i = 0; i < known.seq_count; ++i) (*request)["seqs"].push_back(known.seqs[i]);
  return true;
}
constexpr const char* kBadFilter = "filter: call mooring_dead_filter_init first, and name 4096 messages at most";

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
    wanted.dedup_window_ns = known.dedup_window_ns;
    wanted.dedup_max_messages = known.dedup_max_messages;
    wanted.producers_max = known.producers_max;
    wanted.consumers_max = known.consumers_max;
    wanted.groups_max = known.groups_max;
    if (known.file_mode != 0) wanted.file_mode = known.file_mode;
    if (known.durability != 0) wanted.durability = static_cast<mooring::layout::Durability>(known.durability);
    if (known.deliver != 0) wanted.deliver = static_cast<mooring::layout::Deliver>(known.deliver);
    wanted.journal_quota_bytes = known.journal_quota_bytes;
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

void mooring_group_options_init(mooring_group_options* options, size_t size) {
  init_options(options, size, group_defaults());
}

int mooring_group_create_with(mooring_instance* instance, const char* queue, const char* group,
                              const mooring_group_options* options, uint64_t* first) {
  if (first != nullptr) *first = 0;
  if (instance == nullptr || queue == nullptr || group == nullptr) return bad("group_create_with: an argument is null");
  mooring_group_options known = group_defaults();
  if (!read_options(options, &known)) return bad(kBadOptions);
  if (known.start > MOORING_START_SEQ) return bad("group_create_with: unknown start");
  if (known.seq != 0 && known.start != MOORING_START_SEQ) {
    return bad("group_create_with: seq is given, but start is not MOORING_START_SEQ");
  }
  return guarded([&] {
    const auto reply = instance->instance->request({{"op", "create_group"},
                                                    {"queue", queue},
                                                    {"group", group},
                                                    {"mode", known.mode},
                                                    {"start", known.start},
                                                    {"seq", known.seq}});
    if (!reply) return code_of(reply);
    const auto begins = mooring::number_member(*reply, "first", 0, ~mooring::u64{0});
    if (!begins) return code_of(begins);
    if (first != nullptr) *first = *begins;
    return Code::kOk;
  });
}

int mooring_group_remove(mooring_instance* instance, const char* queue, const char* group) {
  if (instance == nullptr || queue == nullptr || group == nullptr) return bad("group_remove: an argument is null");
  return guarded([&] {
    return code_of(instance->instance->request({{"op", "remove_group"}, {"queue", queue}, {"group", group}}));
  });
}

int mooring_group_set(mooring_instance* instance, const char* queue, const char* group, const char* key,
                      const char* value) {
  if (instance == nullptr || queue == nullptr || key == nullptr || value == nullptr) {
    return bad("group_set: instance, queue, key or value is null");
  }
  return guarded([&] {
    mooring::Json settings = mooring::Json::object();
    settings[key] = value;
    return group_request(instance, queue, group, {{"op", "set_group"}, {"settings", settings}});
  });
}

int mooring_group_pause(mooring_instance* instance, const char* queue, const char* group) {
  if (instance == nullptr || queue == nullptr) return bad("group_pause: instance or queue is null");
  return guarded([&] { return group_request(instance, queue, group, {{"op", "pause_group"}, {"pause", true}}); });
}

int mooring_group_resume(mooring_instance* instance, const char* queue, const char* group) {
  if (instance == nullptr || queue == nullptr) return bad("group_resume: instance or queue is null");
  return guarded([&] { return group_request(instance, queue, group, {{"op", "pause_group"}, {"pause", false}}); });
}

void mooring_dead_filter_init(mooring_dead_filter* filter, size_t size) {
  init_options(filter, size, dead_filter_defaults());
}

int mooring_dead_redrive(mooring_instance* instance, const char* queue, const char* group,
                         const mooring_dead_filter* filter, uint64_t rate, uint64_t* count) {
  if (count != nullptr) *count = 0;
  if (instance == nullptr || queue == nullptr) return bad("dead_redrive: instance or queue is null");
  return guarded([&] {
    mooring::Json request = {{"op", "redrive"}, {"rate", rate}};
    if (!read_filter(filter, &request)) return fail_with(Code::kBadArgument, kBadFilter);
    return group_request(instance, queue, group, request, count);
  });
}

int mooring_dead_redrive_cancel(mooring_instance* instance, const char* queue, const char* group, uint64_t* left) {
  if (left != nullptr) *left = 0;
  if (instance == nullptr || queue == nullptr) return bad("dead_redrive_cancel: instance or queue is null");
  return guarded([&] { return group_request(instance, queue, group, {{"op", "cancel_redrive"}}, left); });
}

int mooring_dead_purge(mooring_instance* instance, const char* queue, const char* group,
                       const mooring_dead_filter* filter, uint64_t* count) {
  if (count != nullptr) *count = 0;
  if (instance == nullptr || queue == nullptr) return bad("dead_purge: instance or queue is null");
  return guarded([&] {
    mooring::Json request = {{"op", "purge_dead"}};
    if (!read_filter(filter, &request)) return fail_with(Code::kBadArgument, kBadFilter);
    return group_request(instance, queue, group, request, count);
  });
}

void mooring_nack_options_init(mooring_nack_options* options, size_t size) {
  init_options(options, size, nack_defaults());
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

void mooring_publish_options_init(mooring_publish_options* options, size_t size) {
  init_options(options, size, publish_defaults());
}

int mooring_publish_with(mooring_producer* producer, const void* data, size_t size,
                         const mooring_publish_options* options, uint64_t timeout_ns, uint64_t* seq) {
  if (seq != nullptr) *seq = 0;
  if (producer == nullptr || (data == nullptr && size != 0)) return bad("publish_with: producer or data is null");
  return guarded([&] {
    PublishOptions known;
    if (Code code = known.read(options); code != Code::kOk) return code;
    return producer->producer->publish_with(data, size, known.options(), timeout_ns, seq);
  });
}

int mooring_publish_batch_with(mooring_producer* producer, const mooring_outgoing* messages, size_t count,
                               uint64_t timeout_ns, size_t* published) {
  if (published != nullptr) *published = 0;
  if (producer == nullptr || (messages == nullptr && count != 0)) {
    return bad("publish_batch_with: producer or messages is null");
  }
  return guarded([&] {
    std::deque<PublishOptions> options;  // stays where it is as it grows
    const mooring_publish_options* before = nullptr;
    std::unique_ptr<mooring::Outgoing[]> outgoing(new mooring::Outgoing[count]);
    for (size_t i = 0; i < count; ++i) {
      if (messages[i].data == nullptr && messages[i].size != 0) {
        return fail_with(Code::kBadArgument, "publish_batch_with: a message has a size but no data");
      }
      outgoing[i] = {messages[i].data, messages[i].size, nullptr};
      if (messages[i].options == nullptr) continue;
      if (messages[i].options != before) {
        before = messages[i].options;
        if (Code code = options.emplace_back().read(before); code != Code::kOk) return code;
      }
      outgoing[i].options = &options.back().options();
    }
    size_t went_out = 0;
    const Code code =
        producer->producer->publish_batch_with(std::span(outgoing.get(), count), timeout_ns, &went_out);
    if (published != nullptr) *published = went_out;
    return code;
  });
}

int mooring_reserve_with(mooring_producer* producer, size_t size, const mooring_publish_options* options,
                         uint64_t timeout_ns, void** data) {
  if (producer == nullptr || data == nullptr) return bad("reserve_with: producer or the out-parameter is null");
  return guarded([&] {
    *data = nullptr;
    PublishOptions known;
    if (Code code = known.read(options); code != Code::kOk) return code;
    mooring::u8* room = nullptr;
    const Code code = producer->producer->reserve_with(size, known.options(), timeout_ns, &room);
    *data = room;
    return code;
  });
}

int mooring_first_seq(mooring_producer* producer, uint64_t seq, uint64_t* first) {
  if (producer == nullptr) return bad("first_seq: producer is null");
  return guarded([&] { return producer->producer->first_seq(seq, first); });
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

int mooring_durable_callback(mooring_producer* producer, mooring_durable_call call, void* user) {
  if (producer == nullptr) return bad("durable_callback: producer is null");
  return guarded([&] {
    mooring::DurableWatch::Call wanted;
    if (call != nullptr) {
      wanted = [call, user](mooring::u64 seq, Code result) { call(seq, static_cast<int>(result), user); };
    }
    return code_of(producer->producer->watch_durable(std::move(wanted)));
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

int mooring_message_headers(const mooring_message* message, mooring_headers* headers, size_t size) {
  if (message == nullptr || headers == nullptr || size < sizeof(size_t)) {
    return bad("message_headers: message or headers is null, or size is not that of the struct");
  }
  mooring_headers known{};
  Code code = Code::kOk;
  if (message->headers_size != 0) {
    mooring::message::Headers found;
    mooring::u64 count = 0;
    code = told(mooring::message::read_headers(mooring::extension_of(cpp(message)), &found, &count));
    if (code == Code::kOk) {
      known.deliver_at_ns = found.deliver_at_ns;
      known.expires_at_ns = found.expires_at_ns;
      known.on_expire = found.expires_at_ns != 0 ? static_cast<uint32_t>(found.on_expire) : 0;
      known.schema_version = found.schema_version;
      known.priority = found.priority;
      known.message_id = slice_of(found.message_id);
      known.correlation_id = slice_of(found.correlation_id);
      known.ordering_key = slice_of(found.ordering_key);
      known.reply_to = slice_of(found.reply_to);
      known.content_type = slice_of(found.content_type);
      known.type = slice_of(found.type);
      known.traceparent = slice_of(found.traceparent);
      known.headers_count = count;
    }
  }
  init_options(headers, size, known);
  return static_cast<int>(code);
}

int mooring_message_header(const mooring_message* message, const char* name, mooring_slice* value) {
  if (value != nullptr) *value = {nullptr, 0};
  if (message == nullptr || name == nullptr || value == nullptr) return bad("message_header: an argument is null");
  if (message->headers_size == 0) return MOORING_EMPTY;
  mooring::message::Header header;
  const Code code = told(mooring::message::find_header(mooring::extension_of(cpp(message)), name, &header));
  if (code == Code::kOk) *value = {header.value, header.value_bytes};
  return static_cast<int>(code);
}

int mooring_message_next_header(const mooring_message* message, uint64_t* cursor, mooring_header* header) {
  if (header != nullptr) *header = {nullptr, 0, nullptr, 0};
  if (message == nullptr || cursor == nullptr || header == nullptr) {
    return bad("message_next_header: an argument is null");
  }
  if (message->headers_size == 0) return MOORING_EMPTY;
  mooring::message::Header found;
  mooring::u64 at = *cursor;
  const Code code = told(mooring::message::next_header(mooring::extension_of(cpp(message)), &at, &found));
  *cursor = at;
  if (code == Code::kOk) *header = header_of(found);
  return static_cast<int>(code);
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
  return settle_batch(consumer, messages, count, acked,
                      [&](const mooring_message& one) { return consumer->consumer->ack(cpp(&one)); });
}

int mooring_ack_up_to(mooring_consumer* consumer, const mooring_message* message) {
  if (consumer == nullptr || message == nullptr) return bad("ack_up_to: consumer or message is null");
  return guarded([&] { return consumer->consumer->ack_up_to(cpp(message)); });
}

int mooring_nack(mooring_consumer* consumer, const mooring_message* message) {
  if (consumer == nullptr || message == nullptr) return bad("nack: consumer or message is null");
  return guarded([&] { return consumer->consumer->nack(cpp(message)); });
}

int mooring_nack_with(mooring_consumer* consumer, const mooring_message* message,
                      const mooring_nack_options* options) {
  if (consumer == nullptr || message == nullptr) return bad("nack: consumer or message is null");
  mooring_nack_options known = nack_defaults();
  if (!read_options(options, &known)) return bad(kBadOptions);
  return guarded([&] {
    mooring::SettlementDetail detail;
    detail.delay_ns = known.delay_ns;
    detail.code = known.code;
    if (known.text != nullptr) detail.text = known.text;
    return consumer->consumer->nack(cpp(message), detail);
  });
}

int mooring_reject(mooring_consumer* consumer, const mooring_message* message, uint32_t code, const char* text) {
  if (consumer == nullptr || message == nullptr) return bad("reject: consumer or message is null");
  return guarded([&] { return consumer->consumer->reject(cpp(message), code, text == nullptr ? "" : text); });
}

int mooring_extend(mooring_consumer* consumer, mooring_message* message) {
  if (consumer == nullptr || message == nullptr) return bad("extend: consumer or message is null");
  return guarded([&] { return consumer->consumer->extend(cpp(message)); });
}

int mooring_handling(mooring_consumer* consumer, const mooring_message* message) {
  if (consumer == nullptr || message == nullptr) return bad("handling: consumer or message is null");
  return guarded([&] { return consumer->consumer->handling(cpp(message)); });
}

int mooring_nack_batch(mooring_consumer* consumer, const mooring_message* messages, size_t count, size_t* settled) {
  return settle_batch(consumer, messages, count, settled,
                      [&](const mooring_message& one) { return consumer->consumer->nack(cpp(&one)); });
}

int mooring_release_batch(mooring_consumer* consumer, const mooring_message* messages, size_t count,
                          size_t* settled) {
  return settle_batch(consumer, messages, count, settled,
                      [&](const mooring_message& one) { return consumer->consumer->release(cpp(&one)); });
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

void mooring_worker_options_init(mooring_worker_options* options, size_t size) {
  init_options(options, size, worker_defaults());
}

int mooring_worker_open(mooring_instance* instance, const char* queue, const char* group,
                        const mooring_worker_options* options, mooring_worker** worker) {
  if (worker == nullptr) return bad("worker_open: the out-parameter is null");
  *worker = nullptr;
  if (instance == nullptr || queue == nullptr) return bad("worker_open: instance or queue is null");
  mooring_worker_options known = worker_defaults();
  if (!read_options(options, &known)) return bad(kBadOptions);
  if (known.wait > MOORING_WAIT_SLEEP) return bad("worker_open: unknown wait strategy");
  if ((known.flags & ~MOORING_DRAIN_ON_SIGNALS) != 0) return bad("worker_open: unknown flag");
  return guarded([&] {
    mooring::WorkerLoop::Options wanted;
    if (known.concurrency != 0) wanted.concurrency = known.concurrency;
    if (known.prefetch != 0) wanted.prefetch = known.prefetch;
    wanted.drain_on_signals = (known.flags & MOORING_DRAIN_ON_SIGNALS) != 0;
    wanted.wait = static_cast<mooring::WaitStrategy>(known.wait);
    if (known.spin_ns != 0) wanted.spin_ns = known.spin_ns;
    wanted.handler_timeout_ns = known.handler_timeout_ns;
    wanted.drain_timeout_ns = known.drain_timeout_ns;
    if (known.late != nullptr) {
      wanted.late = [late = known.late, user = known.late_user](const mooring::Message& message,
                                                               mooring::u64 running_ns) {
        late(c(message), running_ns, user);
      };
    }
    auto opened =
        mooring::WorkerLoop::open(instance->instance, queue, group == nullptr ? "default" : group, wanted);
    if (!opened) return code_of(opened);
    *worker = new mooring_worker{std::move(*opened)};
    return Code::kOk;
  });
}

int mooring_worker_run(mooring_worker* worker, mooring_worker_handler handler, void* user) {
  if (worker == nullptr || handler == nullptr) return bad("worker_run: worker or handler is null");
  return guarded([&] {
    return worker->loop->run([handler, user](const mooring::Message& message, mooring::WorkerCall* call) {
      return handler(c(message), reinterpret_cast<mooring_worker_call*>(call), user);
    });
  });
}

void mooring_worker_stop(mooring_worker* worker) {
  if (worker != nullptr) worker->loop->stop();
}

int mooring_worker_is_stopping(const mooring_worker* worker) {
  return worker != nullptr && worker->loop->is_stopping() ? 1 : 0;
}

int mooring_worker_get_stats(const mooring_worker* worker, mooring_worker_stats* stats, size_t size) {
  if (worker == nullptr || stats == nullptr || size < sizeof(size_t)) {
    return bad("worker_get_stats: worker or stats is null, or size is not that of the struct");
  }
  const mooring::WorkerStats now = worker->loop->stats();
  const mooring_worker_stats known = {sizeof known, now.acked, now.nacked,   now.rejected,     now.released,
                                      now.stale,    now.late,  now.handling, now.signal_number};
  init_options(stats, size, known);
  return MOORING_OK;
}

void mooring_worker_close(mooring_worker* worker) {
  (void)guarded([&] {
    delete worker;
    return Code::kOk;
  });
}

}  // extern "C"
