/* Two processes exchange messages through a queue. Build and run, with Mooring installed:
 *
 *   cc exchange.c $(pkg-config --cflags --libs mooring) -o exchange && MOORING_AUTOSTART=1 ./exchange
 *
 * A worker (the child) receives and acknowledges; the parent publishes. Each opens an instance of its own after the
 * fork: handles do not cross it. */
#include <mooring/mooring.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MESSAGES = 1000 };

static int failed(const char *step, int code) {
  fprintf(stderr, "%s: %s: %s\n", step, mooring_strerror(code), mooring_error_detail());
  return 1;
}

static int worker(void) {
  mooring_instance *instance = NULL;
  mooring_consumer *consumer = NULL;
  unsigned long sum = 0;
  int code = mooring_instance_open(NULL, &instance);
  if (code != MOORING_OK) return failed("open", code);
  code = mooring_consumer_open(instance, "exchange", NULL, NULL, &consumer);
  if (code != MOORING_OK) return failed("consumer", code);
  for (int i = 0; i < MESSAGES; ++i) {
    mooring_message message;
    code = mooring_receive(consumer, &message, MOORING_FOREVER);
    if (code != MOORING_OK) return failed("receive", code);
    sum += *(const unsigned long *)message.data;
    /* After the effect, never before: what is not acknowledged is delivered again. */
    code = mooring_ack(consumer, &message);
    if (code != MOORING_OK) return failed("ack", code);
  }
  printf("received %d messages, sum %lu\n", MESSAGES, sum);
  mooring_consumer_close(consumer);
  mooring_instance_close(instance);
  return sum == (unsigned long)MESSAGES * (MESSAGES - 1) / 2 ? 0 : 1;
}

static int publish_all(void) {
  mooring_instance *instance = NULL;
  mooring_producer *producer = NULL;
  int code = mooring_instance_open(NULL, &instance);
  if (code != MOORING_OK) return failed("open", code);
  code = mooring_producer_open(instance, "exchange", NULL, &producer);
  if (code != MOORING_OK) return failed("producer", code);
  for (unsigned long i = 0; i < MESSAGES; ++i) {
    code = mooring_publish(producer, &i, sizeof i, MOORING_FOREVER, NULL);
    if (code != MOORING_OK) return failed("publish", code);
  }
  mooring_producer_close(producer);
  mooring_instance_close(instance);
  return 0;
}

int main(void) {
  mooring_instance *instance = NULL;
  int code = mooring_instance_open(NULL, &instance);
  if (code != MOORING_OK) return failed("open", code);
  code = mooring_queue_create(instance, "exchange", NULL);
  if (code != MOORING_OK) return failed("create", code);

  fflush(stdout);
  pid_t child = fork();
  if (child == 0) return worker();
  int result = publish_all();
  int status = 1;
  waitpid(child, &status, 0);

  mooring_queue_remove(instance, "exchange");
  mooring_instance_close(instance);
  return result != 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}
