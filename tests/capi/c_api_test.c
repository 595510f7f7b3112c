/* The C API as a C11 program uses it: every call once where it works, and each error where it is provoked.
 * A plain program: it prints what went wrong and where, and ends with 1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mooring/mooring.h>

static int failures = 0;

#define CHECK(condition)                                                                          \
  do {                                                                                            \
    if (!(condition)) {                                                                           \
      fprintf(stderr, "line %d: %s (detail: %s)\n", __LINE__, #condition, mooring_error_detail()); \
      ++failures;                                                                                 \
    }                                                                                             \
  } while (0)
#define CHECK_DETAIL(call, code, part)                           \
  do {                                                           \
    CHECK((call) == (code));                                     \
    CHECK(strstr(mooring_error_detail(), (part)) != NULL);       \
  } while (0)

static void options_of(mooring_instance* instance) {
  mooring_queue_options queue;
  struct {
    mooring_queue_options known;
    uint64_t newer;
  } future;
  struct {
    size_t size;
    uint32_t kind;
  } old = {0, 0};

  mooring_queue_options_init(&queue, sizeof queue);
  CHECK(queue.size == sizeof queue && queue.kind == MOORING_KIND_MPMC && queue.group_id == -1);
  queue.size = 0;
  CHECK(mooring_queue_create(instance, "options", &queue) == MOORING_ERR_BAD_ARGUMENT);
  queue.size = sizeof queue;
  queue.kind = 9;
  CHECK_DETAIL(mooring_queue_create(instance, "options", &queue), MOORING_ERR_BAD_ARGUMENT, "kind");
  queue.kind = MOORING_KIND_MPMC;
  queue.capacity = 1;
  CHECK_DETAIL(mooring_queue_create(instance, "options", &queue), MOORING_ERR_BAD_ARGUMENT, "capacity");

  /* A struct of an older release: shorter, the rest has its defaults. */
  mooring_queue_options_init((mooring_queue_options*)(void*)&old, offsetof(mooring_queue_options, overflow));
  CHECK(old.size == offsetof(mooring_queue_options, overflow) && old.kind == MOORING_KIND_MPMC);
  CHECK(mooring_queue_create(instance, "old", (const mooring_queue_options*)(const void*)&old) == MOORING_OK);

  /* One of a newer release: fine while what we do not know is zero. */
  memset(&future, 0, sizeof future);
  mooring_queue_options_init(&future.known, sizeof future.known);
  future.known.size = sizeof future;
  future.newer = 1;
  CHECK(mooring_queue_create(instance, "future", &future.known) == MOORING_ERR_BAD_ARGUMENT);
  future.newer = 0;
  CHECK(mooring_queue_create(instance, "future", &future.known) == MOORING_OK);
  CHECK(mooring_queue_remove(instance, "future") == MOORING_OK);
  CHECK(mooring_queue_remove(instance, "old") == MOORING_OK);
}

static void nothing_given(void) {
  mooring_instance* instance = NULL;
  mooring_producer* producer = NULL;
  mooring_consumer* consumer = NULL;
  mooring_message message;
  void* room = NULL;
  size_t count = 7;
  int fd = -1;
  memset(&message, 0, sizeof message);
  CHECK(mooring_instance_open(NULL, NULL) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_queue_create(NULL, "q", NULL) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_queue_remove(NULL, "q") == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_group_create(instance, "q", "g", MOORING_MODE_COMPETING) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_group_remove(instance, "q", NULL) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_supervisor_shutdown(NULL) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_producer_open(NULL, "q", NULL, &producer) == MOORING_ERR_BAD_ARGUMENT && producer == NULL);
  CHECK(mooring_consumer_open(NULL, "q", NULL, NULL, &consumer) == MOORING_ERR_BAD_ARGUMENT && consumer == NULL);
  CHECK(mooring_publish(NULL, "x", 1, 0, NULL) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_publish_batch(NULL, NULL, 1, 0, &count) == MOORING_ERR_BAD_ARGUMENT && count == 0);
  CHECK(mooring_reserve(NULL, 1, 0, &room) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_commit(NULL, 1, NULL) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_abort(NULL) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_receive(NULL, &message, 0) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_receive_batch(NULL, &message, 1, 0, &count) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_ack(NULL, &message) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_ack_batch(NULL, &message, 1, &count) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_ack_up_to(NULL, &message) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_nack(NULL, &message) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_release(NULL, &message) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_consumer_fd(NULL, &fd) == MOORING_ERR_BAD_ARGUMENT);
  mooring_producer_close(NULL);
  mooring_consumer_close(NULL);
  mooring_instance_close(NULL);
  CHECK(strlen(mooring_strerror(MOORING_ERR_CLOSED)) > 0 && strlen(mooring_strerror(12345)) > 0);
  CHECK(mooring_version() == MOORING_VERSION);
}

static void one_queue(mooring_instance* instance) {
  mooring_queue_options options;
  mooring_producer* producer = NULL;
  mooring_consumer* consumer = NULL;
  mooring_message message;
  mooring_message messages[8];
  mooring_slice slices[3];
  void* room = NULL;
  uint64_t seq = 0;
  uint64_t before = 0;
  size_t count = 0;
  static char large[64 * 1024];

  CHECK_DETAIL(mooring_producer_open(instance, "orders", NULL, &producer), MOORING_ERR_NO_SUCH_QUEUE, "orders");
  CHECK(mooring_queue_create(instance, "../orders", NULL) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_queue_create(instance, "or\xff" "ders", NULL) == MOORING_ERR_BAD_ARGUMENT);
  mooring_queue_options_init(&options, sizeof options);
  options.capacity = 4096;
  options.max_message_bytes = 4096;
  CHECK(mooring_queue_create(instance, "orders", &options) == MOORING_OK);
  CHECK(mooring_queue_create(instance, "orders", &options) == MOORING_OK);
  options.capacity = 8192;
  CHECK_DETAIL(mooring_queue_create(instance, "orders", &options), MOORING_ERR_EXISTS, "capacity");
  CHECK_DETAIL(mooring_consumer_open(instance, "orders", "nobody", NULL, &consumer), MOORING_ERR_NO_SUCH_QUEUE,
               "nobody");
  CHECK(mooring_producer_open(instance, "orders", NULL, &producer) == MOORING_OK);
  CHECK(mooring_consumer_open(instance, "orders", NULL, NULL, &consumer) == MOORING_OK);
  if (producer == NULL || consumer == NULL) return;

  CHECK(mooring_receive(consumer, &message, 0) == MOORING_EMPTY);
  CHECK(mooring_receive(consumer, &message, 1000000) == MOORING_EMPTY);
  CHECK(mooring_publish(producer, "hello", 5, 0, &seq) == MOORING_OK);
  CHECK(mooring_publish(producer, NULL, 5, 0, &seq) == MOORING_ERR_BAD_ARGUMENT);
  CHECK_DETAIL(mooring_publish(producer, large, sizeof large, 0, NULL), MOORING_ERR_TOO_BIG, "max_message_bytes");
  CHECK(mooring_receive(consumer, &message, MOORING_FOREVER) == MOORING_OK);
  CHECK(message.size == 5 && memcmp(message.data, "hello", 5) == 0 && message.seq == seq && message.attempt == 1);
  CHECK(mooring_ack(consumer, &message) == MOORING_OK);
  CHECK(mooring_ack(consumer, &message) == MOORING_STALE);
  CHECK(mooring_nack(consumer, &message) == MOORING_STALE);
  CHECK_DETAIL(mooring_ack_up_to(consumer, &message), MOORING_ERR_BAD_ARGUMENT, "exclusive");
  memset(&message, 0xa5, sizeof message);
  CHECK(mooring_ack(consumer, &message) == MOORING_STALE);
  CHECK(mooring_release(consumer, &message) == MOORING_STALE);

  /* In place. */
  CHECK(mooring_commit(producer, 1, NULL) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_abort(producer) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_reserve(producer, 100, 0, &room) == MOORING_OK);
  CHECK(mooring_abort(producer) == MOORING_OK);
  CHECK(mooring_reserve(producer, 100, 0, &room) == MOORING_OK);
  memset(room, 'r', 100);
  CHECK(mooring_commit(producer, 101, NULL) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_commit(producer, 60, &seq) == MOORING_OK);
  CHECK(mooring_receive(consumer, &message, MOORING_FOREVER) == MOORING_OK && message.size == 60);
  CHECK(((const char*)message.data)[59] == 'r');
  CHECK(mooring_release(consumer, &message) == MOORING_OK);
  before = message.seq;
  CHECK(mooring_receive(consumer, &message, MOORING_FOREVER) == MOORING_OK && message.seq == before);
  CHECK(message.attempt == 2 && (message.flags & MOORING_REDELIVERED) != 0);
  CHECK(mooring_nack(consumer, &message) == MOORING_OK);
  CHECK(mooring_receive(consumer, &message, MOORING_FOREVER) == MOORING_OK && message.seq == before);
  CHECK(message.attempt == 3);
  CHECK(mooring_ack(consumer, &message) == MOORING_OK);

  /* Batches. */
  slices[0].data = "a";
  slices[0].size = 1;
  slices[1].data = NULL;
  slices[1].size = 0;
  slices[2].data = NULL;
  slices[2].size = 3;
  CHECK(mooring_publish_batch(producer, slices, 3, 0, &count) == MOORING_ERR_BAD_ARGUMENT && count == 0);
  slices[2].data = "ccc";
  CHECK(mooring_publish_batch(producer, slices, 3, 0, &count) == MOORING_OK && count == 3);
  CHECK(mooring_receive_batch(consumer, messages, 0, 0, &count) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_receive_batch(consumer, messages, 8, MOORING_FOREVER, &count) == MOORING_OK && count == 3);
  CHECK(messages[0].size == 1 && messages[1].size == 0 && messages[2].size == 3);
  CHECK(mooring_ack_batch(consumer, messages, 3, &count) == MOORING_OK && count == 3);
  CHECK(mooring_ack_batch(consumer, messages, 3, &count) == MOORING_STALE && count == 0);
  mooring_consumer_close(consumer);

  /* An exclusive group: in order, cumulative. */
  CHECK(mooring_group_create(instance, "orders", "audit", 7) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_group_create(instance, "orders", "audit", MOORING_MODE_EXCLUSIVE) == MOORING_OK);
  CHECK_DETAIL(mooring_group_create(instance, "orders", "audit", MOORING_MODE_COMPETING), MOORING_ERR_EXISTS,
               "exclusive");
  CHECK(mooring_consumer_open(instance, "orders", "audit", NULL, &consumer) == MOORING_OK);
  CHECK(mooring_receive(consumer, &message, 0) == MOORING_EMPTY);
  slices[1].data = "bb";
  slices[1].size = 2;
  CHECK(mooring_publish_batch(producer, slices, 3, 0, &count) == MOORING_OK);
  CHECK(mooring_receive_batch(consumer, messages, 8, MOORING_FOREVER, &count) == MOORING_OK && count == 3);
  CHECK((messages[0].flags & MOORING_IN_PLACE) != 0);
  CHECK(mooring_ack_up_to(consumer, &messages[1]) == MOORING_OK);
  CHECK(mooring_ack(consumer, &messages[0]) == MOORING_STALE);
  CHECK(mooring_ack(consumer, &messages[2]) == MOORING_OK);
  mooring_consumer_close(consumer);
  CHECK(mooring_group_remove(instance, "orders", "audit") == MOORING_OK);
  CHECK(mooring_group_remove(instance, "orders", "audit") == MOORING_ERR_NO_SUCH_QUEUE);
  CHECK(mooring_group_remove(instance, "orders", "default") == MOORING_ERR_BAD_ARGUMENT);

  mooring_producer_close(producer);
  CHECK(mooring_queue_remove(instance, "orders") == MOORING_OK);
  CHECK(mooring_queue_remove(instance, "orders") == MOORING_ERR_NO_SUCH_QUEUE);
}

static int same(mooring_slice slice, const char* text) {
  return slice.size == strlen(text) && memcmp(slice.data, text, slice.size) == 0;
}

/* Headers: in by each way of publishing, out by the accessors, on both kinds of groups. */
static void with_headers(mooring_instance* instance) {
  mooring_queue_options queue;
  mooring_publish_options options;
  mooring_producer* producer = NULL;
  mooring_consumer* competing = NULL;
  mooring_consumer* exclusive = NULL;
  mooring_consumer* consumer = NULL;
  mooring_message message;
  mooring_headers headers;
  mooring_header application[3];
  mooring_header header;
  mooring_outgoing batch[3];
  mooring_slice value;
  struct {
    size_t size;
    uint64_t deliver_at_ns;
  } old = {0, 0};
  void* room = NULL;
  uint64_t cursor = 0;
  uint64_t seq = 0;
  size_t count = 0;
  int turn = 0;
  static char large[4096];

  mooring_queue_options_init(&queue, sizeof queue);
  queue.capacity = 4096;
  queue.max_message_bytes = 4096;
  CHECK(mooring_queue_create(instance, "headers", &queue) == MOORING_OK);
  CHECK(mooring_group_create(instance, "headers", "place", MOORING_MODE_EXCLUSIVE) == MOORING_OK);
  CHECK(mooring_producer_open(instance, "headers", NULL, &producer) == MOORING_OK);
  CHECK(mooring_consumer_open(instance, "headers", NULL, NULL, &competing) == MOORING_OK);
  CHECK(mooring_consumer_open(instance, "headers", "place", NULL, &exclusive) == MOORING_OK);
  if (producer == NULL || competing == NULL || exclusive == NULL) return;

  memset(&options, 0xa5, sizeof options);
  mooring_publish_options_init(&options, sizeof options);
  CHECK(options.size == sizeof options && options.ttl_ns == 0 && options.headers == NULL);
  /* Nothing set, or no options at all: an ordinary message. */
  CHECK(mooring_publish_with(producer, "plain", 5, NULL, 0, &seq) == MOORING_OK && seq != 0);
  CHECK(mooring_publish_with(producer, "plain", 5, &options, 0, &seq) == MOORING_OK);
  for (turn = 0; turn < 4; ++turn) {
    consumer = turn % 2 == 0 ? competing : exclusive;
    CHECK(mooring_receive(consumer, &message, MOORING_FOREVER) == MOORING_OK);
    CHECK(message.size == 5 && message.headers_size == 0);
    memset(&headers, 0xa5, sizeof headers);
    CHECK(mooring_message_headers(&message, &headers, sizeof headers) == MOORING_OK);
    CHECK(headers.size == sizeof headers && headers.type.data == NULL && headers.type.size == 0);
    CHECK(headers.headers_count == 0 && headers.on_expire == 0 && headers.deliver_at_ns == 0);
    CHECK(mooring_message_header(&message, "tenant", &value) == MOORING_EMPTY && value.data == NULL);
    cursor = 0;
    CHECK(mooring_message_next_header(&message, &cursor, &header) == MOORING_EMPTY);
    CHECK(mooring_ack(consumer, &message) == MOORING_OK);
  }

  options.deliver_at_ns = 1000;
  options.ttl_ns = 3600000000000ull;
  options.on_expire = MOORING_ON_EXPIRE_DROP;
  options.schema_version = 3;
  options.priority = 9;
  options.message_id.data = "i\0d";
  options.message_id.size = 4;
  options.correlation_id.data = "correlation";
  options.correlation_id.size = 11;
  options.ordering_key.data = "key";
  options.ordering_key.size = 3;
  options.reply_to = "answers";
  options.content_type = "text/plain";
  options.type = "order.created";
  options.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  memset(application, 0, sizeof application);
  application[0].name = "tenant";
  application[0].value = "blue";
  application[0].value_size = 4;
  application[1].name = "tenants and more";
  application[1].name_size = 6;
  application[1].value = "red";
  application[1].value_size = 3;
  application[2].name = "empty";
  options.headers = application;
  options.headers_count = 3;
  CHECK(mooring_publish_with(producer, "hello", 5, &options, 0, &seq) == MOORING_OK);
  batch[0].data = "hello";
  batch[0].size = 5;
  batch[0].options = &options;
  batch[1] = batch[0];
  batch[2].data = "bare";
  batch[2].size = 4;
  batch[2].options = NULL;
  CHECK(mooring_publish_batch_with(producer, batch, 3, 0, &count) == MOORING_OK && count == 3);
  CHECK(mooring_reserve_with(producer, 100, &options, 0, &room) == MOORING_OK);
  CHECK(room != NULL && (uintptr_t)room % 8 == 0);
  memcpy(room, "hello", 5);
  CHECK(mooring_commit(producer, 101, &seq) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_commit(producer, 5, &seq) == MOORING_OK);
  /* A reservation with headers, abandoned, leaves none to the next one. */
  CHECK(mooring_reserve_with(producer, 100, &options, 0, &room) == MOORING_OK);
  CHECK(mooring_reserve(producer, 4, 0, &room) == MOORING_OK);
  memcpy(room, "bare", 4);
  CHECK(mooring_commit(producer, 4, &seq) == MOORING_OK);
  for (turn = 0; turn < 12; ++turn) {
    const int bare = turn / 2 == 3 || turn / 2 == 5;
    consumer = turn % 2 == 0 ? competing : exclusive;
    CHECK(mooring_receive(consumer, &message, MOORING_FOREVER) == MOORING_OK);
    CHECK((uintptr_t)message.data % (consumer == competing ? 64 : 8) == 0);
    CHECK(message.size == (bare ? 4u : 5u) && memcmp(message.data, bare ? "bare" : "hello", message.size) == 0);
    CHECK(bare == (message.headers_size == 0));
    if (!bare) {
      CHECK(mooring_message_headers(&message, &headers, sizeof headers) == MOORING_OK);
      CHECK(headers.deliver_at_ns == 1000 && headers.expires_at_ns > 3600000000000ull);
      CHECK(headers.on_expire == MOORING_ON_EXPIRE_DROP && headers.schema_version == 3 && headers.priority == 9);
      CHECK(headers.message_id.size == 4 && memcmp(headers.message_id.data, "i\0d", 4) == 0);
      CHECK(same(headers.correlation_id, "correlation") && same(headers.ordering_key, "key"));
      CHECK(same(headers.reply_to, "answers") && same(headers.content_type, "text/plain"));
      CHECK(same(headers.type, "order.created") && same(headers.traceparent, options.traceparent));
      CHECK(headers.headers_count == 3);
      CHECK(mooring_message_header(&message, "tenant", &value) == MOORING_OK && same(value, "blue"));
      CHECK(mooring_message_header(&message, "empty", &value) == MOORING_OK && value.size == 0 && value.data != NULL);
      CHECK(mooring_message_header(&message, "tenants and more", &value) == MOORING_EMPTY);
      cursor = 0;
      CHECK(mooring_message_next_header(&message, &cursor, &header) == MOORING_OK && header.value_size == 4);
      CHECK(mooring_message_next_header(&message, &cursor, &header) == MOORING_OK && header.name_size == 6);
      CHECK(memcmp(header.name, "tenant", 6) == 0 && memcmp(header.value, "red", 3) == 0);
      CHECK(mooring_message_next_header(&message, &cursor, &header) == MOORING_OK && header.name_size == 5);
      CHECK(mooring_message_next_header(&message, &cursor, &header) == MOORING_EMPTY && header.name == NULL);
      /* A program of an older release knows less of them. */
      CHECK(mooring_message_headers(&message, (mooring_headers*)(void*)&old, sizeof old) == MOORING_OK);
      CHECK(old.size == sizeof old && old.deliver_at_ns == 1000);
    }
    CHECK(mooring_ack(consumer, &message) == MOORING_OK);
  }

  /* What is wrong is named, and nothing is published. */
  seq = 7;
  options.traceparent = "00-short";
  CHECK_DETAIL(mooring_publish_with(producer, "x", 1, &options, 0, &seq), MOORING_ERR_BAD_ARGUMENT, "traceparent");
  CHECK(seq == 0);
  batch[1].options = NULL;
  CHECK_DETAIL(mooring_publish_batch_with(producer, batch, 3, 0, &count), MOORING_ERR_BAD_ARGUMENT, "traceparent");
  CHECK(count == 0);
  CHECK_DETAIL(mooring_reserve_with(producer, 1, &options, 0, &room), MOORING_ERR_BAD_ARGUMENT, "traceparent");
  CHECK(room == NULL);
  CHECK(mooring_commit(producer, 1, &seq) == MOORING_ERR_BAD_ARGUMENT);
  options.traceparent = NULL;
  options.on_expire = 3;
  CHECK_DETAIL(mooring_publish_with(producer, "x", 1, &options, 0, &seq), MOORING_ERR_BAD_ARGUMENT, "on_expire");
  options.on_expire = 0;
  options.reserved = 1;
  CHECK_DETAIL(mooring_publish_with(producer, "x", 1, &options, 0, &seq), MOORING_ERR_BAD_ARGUMENT, "reserved");
  options.reserved = 0;
  options.message_id.data = NULL;
  CHECK_DETAIL(mooring_publish_with(producer, "x", 1, &options, 0, &seq), MOORING_ERR_BAD_ARGUMENT, "no bytes");
  mooring_publish_options_init(&options, sizeof options);
  options.headers_count = 1;
  CHECK_DETAIL(mooring_publish_with(producer, "x", 1, &options, 0, &seq), MOORING_ERR_BAD_ARGUMENT, "headers is null");
  options.size = 0;
  CHECK_DETAIL(mooring_publish_with(producer, "x", 1, &options, 0, &seq), MOORING_ERR_BAD_ARGUMENT, "_init");
  /* Payload and headers share the bound: 4096 fit alone, 24 bytes of headers less beside a type. */
  mooring_publish_options_init(&options, sizeof options);
  options.type = "t";
  CHECK(mooring_publish_with(producer, large, sizeof large - 24, &options, 0, &seq) == MOORING_OK);
  CHECK_DETAIL(mooring_publish_with(producer, large, sizeof large - 23, &options, 0, &seq), MOORING_ERR_TOO_BIG,
               "24 bytes of headers");
  CHECK(mooring_publish(producer, large, sizeof large, 0, &seq) == MOORING_OK);
  CHECK(mooring_receive(competing, &message, MOORING_FOREVER) == MOORING_OK && message.size == sizeof large - 24);
  CHECK(mooring_message_headers(&message, &headers, sizeof headers) == MOORING_OK && same(headers.type, "t"));
  CHECK(mooring_ack(competing, &message) == MOORING_OK);

  CHECK(mooring_message_headers(NULL, &headers, sizeof headers) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_message_headers(&message, &headers, 0) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_message_header(&message, NULL, &value) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_message_next_header(&message, NULL, &header) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_publish_with(NULL, "x", 1, NULL, 0, &seq) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_publish_batch_with(NULL, NULL, 1, 0, &count) == MOORING_ERR_BAD_ARGUMENT);
  CHECK(mooring_reserve_with(NULL, 1, NULL, 0, &room) == MOORING_ERR_BAD_ARGUMENT);

  mooring_consumer_close(competing);
  mooring_consumer_close(exclusive);
  mooring_producer_close(producer);
  CHECK(mooring_queue_remove(instance, "headers") == MOORING_OK);
}

/* Rejects the first message, gives the second back once, stops the worker at the third. */
struct turns {
  mooring_worker* worker;
  int calls;
};
static int handle(const mooring_message* message, mooring_worker_call* call, void* user) {
  struct turns* turns = user;
  ++turns->calls;
  if (message->size == 1) {
    call->code = 3;
    strcpy(call->text, "too short");
    return MOORING_REJECT;
  }
  if (message->size == 2 && message->attempt == 1) return MOORING_RELEASE;
  if (message->size == 3) mooring_worker_stop(turns->worker);
  return MOORING_ACK;
}

static void with_a_worker(mooring_instance* instance) {
  mooring_producer* producer = NULL;
  struct turns turns = {NULL, 0};
  mooring_worker_options options;
  mooring_worker_stats stats;
  uint64_t dead = 0;
  mooring_dead_filter filter;
  CHECK(mooring_queue_create(instance, "worked", NULL) == MOORING_OK);
  CHECK(mooring_producer_open(instance, "worked", NULL, &producer) == MOORING_OK);
  CHECK(mooring_publish(producer, "x", 1, 0, NULL) == MOORING_OK);
  CHECK(mooring_publish(producer, "xx", 2, 0, NULL) == MOORING_OK);
  CHECK(mooring_publish(producer, "xxx", 3, 0, NULL) == MOORING_OK);
  mooring_worker_options_init(&options, sizeof options);
  CHECK(options.size == sizeof options && options.concurrency == 0 && options.drain_timeout_ns == MOORING_FOREVER);
  CHECK(mooring_worker_open(instance, "worked", NULL, &options, &turns.worker) == MOORING_OK);
  CHECK(mooring_worker_run(turns.worker, &handle, &turns) == MOORING_OK);
  CHECK(mooring_worker_get_stats(turns.worker, &stats, sizeof stats) == MOORING_OK);
  CHECK(turns.calls == 4 && stats.acked == 2 && stats.rejected == 1 && stats.released == 1 && stats.nacked == 0);
  mooring_worker_close(turns.worker);
  mooring_dead_filter_init(&filter, sizeof filter);
  filter.flags = MOORING_DRY_RUN;
  while (dead == 0) CHECK(mooring_dead_redrive(instance, "worked", NULL, &filter, 0, &dead) == MOORING_OK);
  CHECK(dead == 1);
  mooring_producer_close(producer);
  CHECK(mooring_queue_remove(instance, "worked") == MOORING_OK);
}

int main(int argc, char** argv) {
  /* argv[1]: a directory of its own; tests/capi/CMakeLists.txt passes it, with the environment. */
  mooring_instance_options options;
  mooring_instance* instance = NULL;
  if (argc != 2) {
    fprintf(stderr, "usage: c_api_test DIRECTORY\n");
    return 2;
  }
  nothing_given();
  mooring_instance_options_init(&options, sizeof options);
  options.path = argv[1];
  CHECK_DETAIL(mooring_instance_open(&options, &instance), MOORING_ERR_NO_SUPERVISOR, argv[1]);
  CHECK(instance == NULL);
  options.flags = 0x80;
  CHECK(mooring_instance_open(&options, &instance) == MOORING_ERR_BAD_ARGUMENT);
  options.flags = MOORING_AUTOSTART;
  CHECK(mooring_instance_open(&options, &instance) == MOORING_OK);
  if (instance == NULL) return 1;
  options_of(instance);
  one_queue(instance);
  with_headers(instance);
  with_a_worker(instance);
  CHECK(mooring_supervisor_shutdown(instance) == MOORING_OK);
  mooring_instance_close(instance);
  if (failures != 0) fprintf(stderr, "%d checks failed\n", failures);
  return failures == 0 ? 0 : 1;
}
