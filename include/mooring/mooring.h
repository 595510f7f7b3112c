/* Mooring: a lock-free shared-memory message queue between processes of one Linux host. */
#ifndef MOORING_MOORING_H
#define MOORING_MOORING_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MOORING_VERSION_MAJOR 0
#define MOORING_VERSION_MINOR 1
#define MOORING_VERSION_PATCH 0
#define MOORING_VERSION ((MOORING_VERSION_MAJOR << 16) | (MOORING_VERSION_MINOR << 8) | MOORING_VERSION_PATCH)

#if defined(__GNUC__)
#define MOORING_API __attribute__((visibility("default")))
#else
#define MOORING_API
#endif

/* Results. */
#define MOORING_OK 0
#define MOORING_EMPTY 1
#define MOORING_FULL 2
#define MOORING_TIMEOUT 3
#define MOORING_STALE 4
#define MOORING_EXPIRED 5
#define MOORING_PAUSED 6
#define MOORING_DUPLICATE 7
#define MOORING_INTERRUPTED 8
#define MOORING_ERR_NO_SUCH_QUEUE (-5001)
#define MOORING_ERR_EXISTS (-5002)
#define MOORING_ERR_TOO_BIG (-5003)
#define MOORING_ERR_BAD_ARGUMENT (-5004)
#define MOORING_ERR_PERMISSION (-5005)
#define MOORING_ERR_NO_SEAT (-5006)
#define MOORING_ERR_VERSION (-5007)
#define MOORING_ERR_CORRUPT (-5008)
#define MOORING_ERR_NO_SUPERVISOR (-5009)
#define MOORING_ERR_IO (-5010)
#define MOORING_ERR_DISK_FULL (-5011)
#define MOORING_ERR_CLOSED (-5012)
#define MOORING_ERR_FORKED (-5013)
#define MOORING_ERR_NO_MEMORY (-5014)

#define MOORING_FOREVER UINT64_MAX

MOORING_API uint32_t mooring_version(void);
MOORING_API const char* mooring_strerror(int code);
MOORING_API const char* mooring_error_detail(void);

/* Instance. */
typedef struct mooring_instance mooring_instance;
#define MOORING_AUTOSTART 1u /* flag: start mooringd on demand (also: environment MOORING_AUTOSTART=1) */
typedef struct mooring_instance_options {
  size_t size;
  const char* path;            /* null: MOORING_INSTANCE, else the default */
  uint32_t flags;
  uint32_t reserved;
  uint64_t request_timeout_ns; /* for each request to the supervisor; 0: 5 s */
} mooring_instance_options;
MOORING_API void mooring_instance_options_init(mooring_instance_options* options, size_t size);
MOORING_API int mooring_instance_open(const mooring_instance_options* options, mooring_instance** instance);
MOORING_API void mooring_instance_close(mooring_instance* instance);
MOORING_API int mooring_supervisor_shutdown(mooring_instance* instance);

/* Queues. */
#define MOORING_KIND_SPSC 1u
#define MOORING_KIND_MPMC 2u
#define MOORING_OVERFLOW_BLOCK 1u
#define MOORING_OVERFLOW_REJECT 2u
typedef struct mooring_queue_options {
  size_t size;
  uint32_t kind;
  uint32_t overflow;
  uint64_t capacity;          /* messages; 0: 65536 */
  uint64_t max_message_bytes; /* 0: a quarter of the lane */
  uint64_t lane_bytes;        /* 0: from capacity */
  uint32_t producers_max;
  uint32_t consumers_max;
  uint32_t groups_max;
  uint32_t file_mode;         /* 0: 0600 */
  int64_t group_id;           /* -1: the supervisor's */
} mooring_queue_options;
MOORING_API void mooring_queue_options_init(mooring_queue_options* options, size_t size);
MOORING_API int mooring_queue_create(mooring_instance* instance, const char* queue,
                                     const mooring_queue_options* options);
MOORING_API int mooring_queue_remove(mooring_instance* instance, const char* queue);

/* Groups. The group "default" is made with the queue: competing on mpmc, exclusive on spsc. */
#define MOORING_MODE_COMPETING 1u
#define MOORING_MODE_EXCLUSIVE 2u
MOORING_API int mooring_group_create(mooring_instance* instance, const char* queue, const char* group, uint32_t mode);
MOORING_API int mooring_group_remove(mooring_instance* instance, const char* queue, const char* group);

/* Waiting. */
#define MOORING_WAIT_ADAPTIVE 0u
#define MOORING_WAIT_SPIN 1u
#define MOORING_WAIT_SLEEP 2u

/* Producers. */
typedef struct mooring_producer mooring_producer;
typedef struct mooring_producer_options {
  size_t size;
  uint32_t wait;
  uint32_t reserved;
  uint64_t spin_ns; /* adaptive: how long to spin before sleeping; 0: 10 us */
} mooring_producer_options;
MOORING_API void mooring_producer_options_init(mooring_producer_options* options, size_t size);
MOORING_API int mooring_producer_open(mooring_instance* instance, const char* queue,
                                      const mooring_producer_options* options, mooring_producer** producer);
MOORING_API void mooring_producer_close(mooring_producer* producer);
MOORING_API int mooring_publish(mooring_producer* producer, const void* data, size_t size, uint64_t timeout_ns,
                                uint64_t* seq);
typedef struct mooring_slice {
  const void* data;
  size_t size;
} mooring_slice;
MOORING_API int mooring_publish_batch(mooring_producer* producer, const mooring_slice* slices, size_t count,
                                      uint64_t timeout_ns, size_t* published);
MOORING_API int mooring_reserve(mooring_producer* producer, size_t size, uint64_t timeout_ns, void** data);
MOORING_API int mooring_commit(mooring_producer* producer, size_t size, uint64_t* seq);
MOORING_API int mooring_abort(mooring_producer* producer);

/* Consumers. */
typedef struct mooring_consumer mooring_consumer;
typedef struct mooring_consumer_options {
  size_t size;
  uint32_t wait;
  uint32_t max_in_flight; /* 0: what the group deals out (see mooring_receive) */
  uint64_t spin_ns;       /* adaptive: how long to spin before sleeping; 0: 10 us */
} mooring_consumer_options;
#define MOORING_REDELIVERED 1u
#define MOORING_IN_PLACE 2u
typedef struct mooring_message {
  const void* data;
  size_t size;
  uint64_t seq;
  uint32_t attempt; /* 1 on the first delivery */
  uint32_t flags;
  uint64_t token[2]; /* names this delivery; opaque */
} mooring_message;
MOORING_API void mooring_consumer_options_init(mooring_consumer_options* options, size_t size);
MOORING_API int mooring_consumer_open(mooring_instance* instance, const char* queue, const char* group,
                                      const mooring_consumer_options* options, mooring_consumer** consumer);
MOORING_API void mooring_consumer_close(mooring_consumer* consumer);
MOORING_API int mooring_receive(mooring_consumer* consumer, mooring_message* message, uint64_t timeout_ns);
MOORING_API int mooring_receive_batch(mooring_consumer* consumer, mooring_message* messages, size_t count,
                                      uint64_t timeout_ns, size_t* received);
MOORING_API int mooring_ack(mooring_consumer* consumer, const mooring_message* message);
MOORING_API int mooring_ack_batch(mooring_consumer* consumer, const mooring_message* messages, size_t count,
                                  size_t* acked);
MOORING_API int mooring_ack_up_to(mooring_consumer* consumer, const mooring_message* message);
MOORING_API int mooring_nack(mooring_consumer* consumer, const mooring_message* message);
MOORING_API int mooring_release(mooring_consumer* consumer, const mooring_message* message);
/* A descriptor that is readable while messages may be ready; for poll, epoll and the like. Owned by the consumer. */
MOORING_API int mooring_consumer_fd(mooring_consumer* consumer, int* fd);

#ifdef __cplusplus
}
#endif
#endif
