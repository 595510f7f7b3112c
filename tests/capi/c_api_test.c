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
  CHECK(mooring_supervisor_shutdown(instance) == MOORING_OK);
  mooring_instance_close(instance);
  if (failures != 0) fprintf(stderr, "%d checks failed\n", failures);
  return failures == 0 ? 0 : 1;
}
