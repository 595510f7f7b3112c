/* Mooring: message queues in shared memory, between the processes of one Linux host.
 *
 * A queue is a sequence of messages that any number of groups read; in a competing group each message goes to one
 * consumer, in an exclusive group one consumer reads everything in order. A consumer acknowledges what it has done;
 * what it held when it died is given to another at once (the one it was handling: after its retry delay). Publishing
 * and receiving make no system call while there is room and somebody is awake.
 *
 * WHAT IT PROMISES
 *   - A message whose publish returned MOORING_OK survives the death of every process, also of the supervisor. On a
 *     volatile queue it does not survive a reboot: that lives in /dev/shm. On a durable queue publish returns after the
 *     journal's flush, and the message survives a power cut.
 *   - At least once: a message is delivered until a consumer of the group acknowledged it. Every delivery but the first
 *     carries MOORING_REDELIVERED and an `attempt` above 1.
 *   - Order: messages of one producer are in the order of its calls, and every group sees the same order of first
 *     deliveries. In competing groups redelivered messages come again as soon as possible, so after later ones.
 *   - Any process may die or be stopped at any instruction: nobody else hangs, nothing is corrupted. Death is confirmed
 *     through a pidfd, never guessed from a timeout. No memory, seat or lock is taken from a process that lives; a
 *     message held longer than ack_wait is given out again, and the late settlement is MOORING_STALE.
 *   - Nothing is dropped unless a setting says so (on_expire, on_dead, on_dlq_full, dlq_max_age), and then it is
 *     counted: a full queue blocks or refuses the publisher, as its creator chose.
 *
 * CONVENTIONS
 *   1. Functions return an int: 0 (MOORING_OK), a small positive number for an ordinary outcome (empty, full), or a
 *      negative one for a failure. mooring_strerror() says what a number means, mooring_error_detail() what happened to
 *      which object and what to do, for the last failure of the calling thread.
 *   2. Times are nanoseconds. A timeout of 0 never waits; MOORING_FOREVER does not time out.
 *   3. Option structs begin with their size and are filled by their _init function; null means all defaults. New
 *      options are added at the end: programs built against an older header go on working.
 *   4. Handles are opaque. An instance may be used by several threads at once; a producer or a consumer by one thread
 *      at a time. Closing null does nothing. Nothing here but mooring_worker_stop is async-signal-safe; a signal ends a
 *      wait with MOORING_INTERRUPTED.
 *   5. Nothing aborts, exits, prints or throws. Shared memory is read with distrust: garbage in it is
 *      MOORING_ERR_CORRUPT, never a crash. (A file of a queue that is cut short by its owner while it is mapped is the
 *      exception: the kernel sends SIGBUS. The supervisor survives that; a client's signal handlers are its own.)
 *
 * CAVEATS, each with its remedy
 *   - fork: mappings do not cross it. In the child every call on the parent's handles returns MOORING_ERR_FORKED; open
 *     an instance of its own there. Close in the child only what it opened.
 *   - A thread that ends inside a call, or is cancelled there, is a death that nobody can see while its process lives.
 *     Do not cancel threads in calls.
 *   - Closing a producer or consumer, and anything that opens, creates or removes, asks the supervisor and may take a
 *     request_timeout_ns. Publishing, receiving and settling never ask it.
 *   - A message held for ever holds its place in its group. In a competing group the supervisor moves it aside when
 *     others need the room; an exclusive group waits for its consumer, and with it the publishers (the bound is yours).
 *   - Containers: the pid namespace must be the supervisor's or below it, and /dev/shm must be shared and large enough
 *     (a default queue takes about 2.3 MiB, and each producer beyond the first 1 MiB).
 *   - systemd: for services that are not system users, set RemoveIPC=no, or logind removes their shared memory.
 *
 * WHERE THINGS ARE   An instance is a directory: it names one supervisor (mooringd), its control socket and its memory
 * under /dev/shm. Default: /run/mooring for root, $XDG_RUNTIME_DIR/mooring or /tmp/mooring-<uid> for others;
 * MOORING_INSTANCE or mooring_instance_options.path name another.
 *
 * A first program: docs/examples. Since 0.1 for everything below unless it says otherwise.
 */
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

/* ---- Results: frozen values. Ordinary outcomes are small and positive. ------------------------------------------- */

#define MOORING_OK 0
#define MOORING_EMPTY 1 /* nothing became ready in time */
#define MOORING_FULL 2 /* no room (publish), or this consumer holds as many as it may (receive) */
#define MOORING_TIMEOUT 3 /* the time was over before there was room */
#define MOORING_STALE 4 /* this delivery was settled before, or was taken back: ignore, or undo its effect */
#define MOORING_EXPIRED 5 /* reserved for messages with a time to live */
#define MOORING_PAUSED 6 /* the group is paused: nothing is given out until it is resumed */
#define MOORING_DUPLICATE 7 /* the queue has a message with this message_id already; this one is not delivered */
#define MOORING_INTERRUPTED 8 /* a signal handler ran while waiting; nothing was taken or published */
/* Failures. Below -4095, so that they never meet a -errno. */
#define MOORING_ERR_NO_SUCH_QUEUE (-5001) /* create it first (mooring_queue_create, mooring create) */
#define MOORING_ERR_EXISTS (-5002) /* it is there with other options; the detail says which */
#define MOORING_ERR_TOO_BIG (-5003) /* with its headers larger than max_message_bytes of the queue */
#define MOORING_ERR_BAD_ARGUMENT (-5004) /* the detail says which */
#define MOORING_ERR_PERMISSION (-5005) /* owner, mode or group of the instance or of the queue */
#define MOORING_ERR_NO_SEAT (-5006) /* all taken, or the one seat; the detail says by whom */
#define MOORING_ERR_VERSION (-5007) /* library, supervisor and files are of different releases */
#define MOORING_ERR_CORRUPT (-5008) /* shared bytes make no sense: remove and create the queue */
#define MOORING_ERR_NO_SUPERVISOR (-5009) /* start mooringd, or use MOORING_AUTOSTART */
#define MOORING_ERR_IO (-5010) /* a system call failed; the detail has its reason */
#define MOORING_ERR_DISK_FULL (-5011) /* /dev/shm is too small: enlarge it, or make smaller queues */
#define MOORING_ERR_CLOSED (-5012) /* the queue or group was removed, or the supervisor hung up */
#define MOORING_ERR_FORKED (-5013) /* the handle belongs to the parent process */
#define MOORING_ERR_NO_MEMORY (-5014) /* memory or descriptors ran out */

#define MOORING_FOREVER UINT64_MAX

/* mooring_version: MOORING_VERSION of the library at run time, to compare with that of the header. */
MOORING_API uint32_t mooring_version(void);

/* mooring_strerror: what a result means in general. Static text, never null, also for numbers that are none. */
MOORING_API const char* mooring_strerror(int code);

/* mooring_error_detail: the calling thread's last failure in a sentence: what happened, to which object, what to do.
 * Never null; empty if no call of this thread failed yet. Valid until the thread's next failure; 1023 bytes at most. */
MOORING_API const char* mooring_error_detail(void);

/* ---- Instance ---------------------------------------------------------------------------------------------------- */

typedef struct mooring_instance mooring_instance;

/* Flag: where no supervisor runs, start `mooringd --exit-when-idle` (also: environment MOORING_AUTOSTART=1). It is
 * searched in MOORING_MOORINGD, beside the library or program, and in PATH. */
#define MOORING_AUTOSTART 1u

typedef struct mooring_instance_options {
  size_t size;
  const char* path;            /* null: MOORING_INSTANCE, else the default */
  uint32_t flags;
  uint32_t reserved;
  uint64_t request_timeout_ns; /* for each request to the supervisor; 0: 5 s */
} mooring_instance_options;

/* mooring_..._options_init: fills a struct of `size` bytes (sizeof, as the caller knows it) with the defaults. */
MOORING_API void mooring_instance_options_init(mooring_instance_options* options, size_t size);

/* mooring_instance_open: connect to an instance.
 *   options    null: the default instance.
 *   instance   out; null on failure. Close it after every handle that came from it.
 * Returns   MOORING_OK
 *           MOORING_ERR_NO_SUPERVISOR  none runs there, or the one started on demand failed: the detail has its words.
 *           MOORING_ERR_VERSION        the supervisor is of another release.
 *           MOORING_ERR_PERMISSION     the control socket is not for this user.
 * Crash     nothing is held before a producer or consumer is opened.   Threads   any. */
MOORING_API int mooring_instance_open(const mooring_instance_options* options, mooring_instance** instance);
MOORING_API void mooring_instance_close(mooring_instance* instance);

/* mooring_supervisor_shutdown: ask the supervisor to leave. Queues stay in shared memory and open handles go on; what
 * needs a supervisor (opening, redelivery after a death) waits for the next one.
 * Returns   MOORING_OK, MOORING_ERR_PERMISSION (only the instance's owner and root may). */
MOORING_API int mooring_supervisor_shutdown(mooring_instance* instance);

/* ---- Queues ------------------------------------------------------------------------------------------------------ */

#define MOORING_KIND_SPSC 1u       /* one producer, exclusive groups: the fastest */
#define MOORING_KIND_MPMC 2u       /* many producers, competing and exclusive groups */
#define MOORING_OVERFLOW_BLOCK 1u  /* a full queue lets the publisher wait, up to its timeout */
#define MOORING_OVERFLOW_REJECT 2u /* a full queue returns MOORING_FULL at once */
#define MOORING_OVERFLOW_SPILL 3u  /* volatile mpmc queues: what consumers left lying goes to files, and makes room */
#define MOORING_VOLATILE 1u        /* in shared memory: survives processes, not a reboot */
#define MOORING_DURABLE 2u         /* and in a journal on the disk: survives a power cut */
#define MOORING_DELIVER_EARLY 1u   /* durable queues: consumers see a message before it is on the disk */
#define MOORING_DELIVER_DURABLE 2u /* durable queues, the default: they see only what a power cut does not take back */

typedef struct mooring_queue_options {
  size_t size;
  uint32_t kind;
  uint32_t overflow;
  uint64_t capacity;          /* messages in the ring; rounded up to a power of two, 4096 to 2^24; 0: 65536 */
  uint64_t max_message_bytes; /* payload and headers together; 0: a quarter of the lane; at most 32 MiB */
  uint64_t lane_bytes;        /* payload memory of each producer; 0: 16 bytes x capacity, at least 4 messages */
  uint32_t producers_max;     /* 0: 64 (16 below 65536 messages); at most 1023 */
  uint32_t consumers_max;     /* over all groups; 0: 256 (15 below 65536 messages); at most 2047 */
  uint32_t groups_max;        /* 0: 16 (4 below 65536 messages); at most 64 */
  uint32_t file_mode;         /* read and write bits of the queue's files; 0: 0600 */
  int64_t group_id;           /* Unix group of the queue's files; -1: the supervisor's */
  uint32_t durability;        /* MOORING_VOLATILE, MOORING_DURABLE; 0: volatile */
  uint32_t deliver;           /* MOORING_DELIVER_...; looked at on durable queues; 0: durable */
  uint64_t journal_quota_bytes; /* durable queues: bytes of disk the journal's messages may take, at least 16 MiB and
                                   8 of the largest messages; 0: no bound. Used up, publishers get
                                   MOORING_ERR_DISK_FULL until consumers have acknowledged enough; what consumers
                                   write may go a few MiB beyond. Another value is another queue (ERR_EXISTS). */
  uint64_t max_backlog_bytes; /* durable and spilling queues: bytes of messages in the log, 24 and more of head for
                               * each, that wait for the slowest group; reached, publishers wait or get MOORING_FULL as
                               * `overflow` says (spill: they wait), until groups have settled some. 0: 64 GiB; 1 MiB
                               * to 2^50. Not on other queues. */
  /* Deduplication by message_id, of durable queues that deliver what is durable; both 0: off, one 0: its default.
   * Of several messages with one id the first in the queue's order is delivered, and no other: not one that comes
   * within dedup_window_ns after it (wall clock; 1 ms to 30 days; 10 minutes), while at most dedup_max_messages newer
   * ids were accepted (1 to 2^20; 65536). What is remembered outlives the supervisor and power cuts. Such a queue takes
   * messages without an id as ever. */
  uint64_t dedup_window_ns;
  uint64_t dedup_max_messages;
} mooring_queue_options;
MOORING_API void mooring_queue_options_init(mooring_queue_options* options, size_t size);

/* mooring_queue_create: make a queue, or find it there with the same options.
 *   queue      1 to 64 of [A-Za-z0-9._-], not beginning with '.' or '-', not ending in ".dlq".
 *   options    null: an mpmc queue of 65536 messages that blocks when full, about 2.3 MiB.
 * All memory is reserved here: a full /dev/shm is an error now, never a fault later.
 * Returns   MOORING_OK                 it is there, with these options.
 *           MOORING_ERR_EXISTS         it is there with others.
 *           MOORING_ERR_BAD_ARGUMENT   an option is out of range.
 *           MOORING_ERR_DISK_FULL, MOORING_ERR_PERMISSION (only the instance's owner and root may)
 * Crash     a supervisor killed meanwhile leaves the whole queue or none of it; call again. */
MOORING_API int mooring_queue_create(mooring_instance* instance, const char* queue,
                                     const mooring_queue_options* options);

/* mooring_queue_remove: remove a queue with its messages. Open handles return MOORING_ERR_CLOSED at their next wait. */
MOORING_API int mooring_queue_remove(mooring_instance* instance, const char* queue);

/* ---- Groups: the group "default" is made with the queue: competing on mpmc, exclusive on spsc. ------------------- */

#define MOORING_MODE_COMPETING 1u /* each message to one of its consumers */
#define MOORING_MODE_EXCLUSIVE 2u /* one consumer, strict order, cumulative acknowledgement; no copy without a log */

/* mooring_group_create: one more reader of the whole queue (fan-out: the payload is stored once). It begins at the
 * queue's end: it sees what is published after this call returns. Found there with the same mode: MOORING_OK.
 * Every group holds messages until it is done with them: a group nobody reads fills a volatile queue, and makes the log
 * of a durable or spilling one long, up to max_backlog_bytes.
 * Returns   MOORING_OK, MOORING_ERR_EXISTS (other mode), MOORING_ERR_NO_SEAT (groups_max are there),
 *           MOORING_ERR_BAD_ARGUMENT (a competing group on an spsc queue), MOORING_ERR_NO_SUCH_QUEUE */
MOORING_API int mooring_group_create(mooring_instance* instance, const char* queue, const char* group, uint32_t mode);

#define MOORING_START_TAIL 0u   /* what is published after the call returns */
#define MOORING_START_OLDEST 1u /* the oldest message that the queue keeps, and all after it */
#define MOORING_START_SEQ 2u    /* message `seq`, and all after it */

typedef struct mooring_group_options {
  size_t size;
  uint32_t mode;  /* MOORING_MODE_...; competing as it comes, which an spsc queue has not */
  uint32_t start; /* MOORING_START_...; 0: the tail */
  uint64_t seq;   /* MOORING_START_SEQ: as mooring_publish and mooring_receive give it; else 0 */
} mooring_group_options;
MOORING_API void mooring_group_options_init(mooring_group_options* options, size_t size);

/* mooring_group_create_with: mooring_group_create, beginning elsewhere than at the queue's end.
 *   options   null: as it comes from _init, a competing group at the tail.
 *   first     out, may be null: the message that the group begins with, or the next one to come; 0: the group was there
 *             with the same mode, wherever it had begun.
 * What is kept: of a durable queue what its log holds, also messages that every other group has acknowledged, until
 * their segment of the log goes (there is no promise how long that is); of a volatile queue what some group has not
 * acknowledged. From its birth on the group holds what it has not acknowledged, as any group does. What another group
 * has as a retry or a dead letter is a message like any other to this one, if it is kept.
 * Returns   as mooring_group_create. MOORING_ERR_BAD_ARGUMENT: `seq` is no longer kept, or not published yet: the
 *           detail says which message a group can start at. MOORING_ERR_IO: the log cannot be read.
 * Crash     the group is there, begun where it was asked to, or not at all: call again. */
MOORING_API int mooring_group_create_with(mooring_instance* instance, const char* queue, const char* group,
                                          const mooring_group_options* options, uint64_t* first);

/* mooring_group_remove: what only this group still needed is let go. Refused while it has consumers (NO_SEAT), and for
 * the last group of a queue (BAD_ARGUMENT). */
MOORING_API int mooring_group_remove(mooring_instance* instance, const char* queue, const char* group);

/* mooring_group_set: one setting of a group, as text; it holds from now on. What waits for a retry keeps
 * the time it has; its next failure goes by the new settings.
 *   key                value (default)         meaning
 *   retry_initial      duration (100ms)        delay before the second delivery; 0: at once
 *   retry_multiplier   1 to 100 (2.0)          each further delay is that much longer
 *   retry_max          duration (60s)          no delay is longer
 *   retry_jitter       0 to 1 (0.15)           each delay is longer or shorter by up to this part of it
 *   backoff            list (none)             delays instead of the four above, as in 1s,5s,30s; the last one repeats
 *   max_deliveries     0 to 255 (5)            failures after which a message is a dead letter; 0: never
 *   ack_wait           duration (30s)          a message held longer by a living consumer is given out again; 0: never
 *   dlq_max_messages   count (1000000)         dead letters the group keeps; 0: no bound
 *   dlq_max_age        duration (0s)           older dead letters are dropped, and counted; 0: never
 *   on_dlq_full        pause, drop_oldest      what happens at that bound (pause)
 *   on_dead            keep, drop              dead letters are kept, or dropped and counted (keep)
 *   breaker            off, on                 circuit breaker: pauses the group while what it does fails (off)
 *   breaker_failure_ratio
 *                      0.001 to 1 (0.5)        it opens when this part of the messages settled in the window failed
 *   breaker_minimum    1 to 4096 (10)          and at least so many different ones did
 *   breaker_window     100ms to 1d (10s)       what counts as recent
 *   breaker_delay      1ms to 1d (5s)          how long nothing is given out; then one message is: acknowledged, the
 *                                              breaker closes; failed, it opens again for twice as long
 *   breaker_delay_max  1ms to 7d (5m)          no delay of the breaker is longer
 *   stuck              off, kill               kill (SIGKILL) the process of a consumer that holds messages and does
 *                                              nothing (no receive, extend, settlement) for stuck_after x ack_wait, be
 *                                              it stopped or running; never one that is traced (off)
 *   stuck_after        1 to 1000 (4)           how many ack_wait that is
 * A duration is a number and ns, us, ms, s, m, h or d. Settings of a durable queue are in its journal. ack_wait is for
 * competing groups: from the one consumer of an exclusive group nothing is taken back. A group whose messages are held
 * in order fails with one message at a time: give it breaker_minimum 1.
 * Returns   MOORING_OK, MOORING_ERR_BAD_ARGUMENT (the detail names the nearest key, or what the value may be),
 *           MOORING_ERR_NO_SUCH_QUEUE (also: no such group) */
MOORING_API int mooring_group_set(mooring_instance* instance, const char* queue, const char* group, const char* key,
                                  const char* value);

/* mooring_group_pause, mooring_group_resume: a paused group gives nothing out; mooring_receive waits, and returns
 * MOORING_PAUSED when its time is over. What consumers hold they may settle. A group pauses by itself when it has
 * dlq_max_messages dead letters (on_dlq_full), and when its circuit breaker opens: then resume takes back the pause of
 * mooring_group_pause alone, and returns MOORING_PAUSED; the detail says what else there is. A pause is not in the
 * journal: after a reboot or a power cut the group goes on. */
MOORING_API int mooring_group_pause(mooring_instance* instance, const char* queue, const char* group);
MOORING_API int mooring_group_resume(mooring_instance* instance, const char* queue, const char* group);

/* ---- Dead letters: messages that failed max_deliveries times, or were rejected. A state of the message in its group,
 * not a copy: it is there exactly once, payload and history with it, until it is redriven or purged. --------------- */

#define MOORING_DEAD_REJECTED 1u
#define MOORING_DEAD_MAX_DELIVERIES 2u
#define MOORING_DEAD_CRASH 3u
#define MOORING_DEAD_EXPIRED 4u
#define MOORING_DEAD_CORRUPT 5u
#define MOORING_DEAD_ADMIN 6u

#define MOORING_DRY_RUN 1u /* flag: only count */

/* Which dead letters; all that match every field that is not 0. */
typedef struct mooring_dead_filter {
  size_t size;
  uint32_t flags;         /* MOORING_DRY_RUN */
  uint32_t reason;        /* MOORING_DEAD_... */
  uint64_t older_than_ns; /* dead for at least this long */
  uint64_t limit;         /* the oldest this many */
  const uint64_t* seqs;   /* these messages; 4096 at most */
  size_t seq_count;
} mooring_dead_filter;
MOORING_API void mooring_dead_filter_init(mooring_dead_filter* filter, size_t size);

/* mooring_dead_redrive: give dead letters to the group again: failures are counted anew, the history is kept.
 *   filter   null: all.
 *   rate     messages a second, 0: as fast as may be. The supervisor goes on with it after this call returned; another
 *            redrive of the group takes its place, mooring_dead_redrive_cancel ends it. What was not reached yet stays
 *            a dead letter, also when the supervisor is killed: call again.
 *   count    out, may be null: how many go (MOORING_DRY_RUN: would go). */
MOORING_API int mooring_dead_redrive(mooring_instance* instance, const char* queue, const char* group,
                                     const mooring_dead_filter* filter, uint64_t rate, uint64_t* count);
/* `left`: out, may be null: how many were not reached. */
MOORING_API int mooring_dead_redrive_cancel(mooring_instance* instance, const char* queue, const char* group,
                                            uint64_t* left);
/* mooring_dead_purge: drop dead letters for good. */
MOORING_API int mooring_dead_purge(mooring_instance* instance, const char* queue, const char* group,
                                   const mooring_dead_filter* filter, uint64_t* count);

/* ---- Waiting ----------------------------------------------------------------------------------------------------- */

#define MOORING_WAIT_ADAPTIVE 0u /* poll for spin_ns, then sleep; whoever publishes makes a system call only to wake */
#define MOORING_WAIT_SPIN 1u     /* poll until there is something: a whole core, the lowest latency */
#define MOORING_WAIT_SLEEP 2u    /* sleep at once */

/* ---- Producers --------------------------------------------------------------------------------------------------- */

/* A producer owns a lane of the queue; its messages are published in the order of its calls. */
typedef struct mooring_producer mooring_producer;
typedef struct mooring_producer_options {
  size_t size;
  uint32_t wait;
  uint32_t flags;   /* MOORING_NO_WAIT */
  uint64_t spin_ns; /* adaptive: how long to spin before sleeping; 0: 10 us (docs/decisions/0004-waiting.md) */
} mooring_producer_options;
/* Durable queues: publish returns before the flush; mooring_wait_durable tells when it is over. Pipelines. */
#define MOORING_NO_WAIT 1u
MOORING_API void mooring_producer_options_init(mooring_producer_options* options, size_t size);

/* mooring_producer_open: take a lane. MOORING_ERR_NO_SEAT where all are taken (spsc: the one; the detail names its
 * process), MOORING_ERR_NO_SUCH_QUEUE, MOORING_ERR_PERMISSION (mode of the queue's files).
 * Crash     the lane of a dead process is used again once its messages are done. */
MOORING_API int mooring_producer_open(mooring_instance* instance, const char* queue,
                                      const mooring_producer_options* options, mooring_producer** producer);
MOORING_API void mooring_producer_close(mooring_producer* producer);

/* mooring_publish: publish one message.
 *   data, size  copied; 0 bytes are a message too. `data` is the caller's again at return.
 *   timeout_ns  how long to wait for room; on a durable queue also for the flush, each as long.
 *   seq         out, may be null: the message's number in the queue; 0 where nothing was published.
 * Returns   MOORING_OK           the message survives any process from here on, on a durable queue a power cut too
 * (with
 *                                MOORING_NO_WAIT: any process).
 *           MOORING_FULL         no room, and timeout_ns is 0 or the queue rejects. Nothing was published.
 *           MOORING_TIMEOUT      no room in time, nothing was published; or, on a durable queue where `seq` is not 0:
 *                                published, and not known to be on the disk yet (mooring_wait_durable goes on waiting).
 *           MOORING_INTERRUPTED  a signal came; as MOORING_TIMEOUT.
 *           MOORING_ERR_DISK_FULL  the disk of the journal is full: nothing was published. It ends by itself.
 *           MOORING_ERR_IO       the journal failed. `seq` 0: nothing was published; else it may be lost.
 *           MOORING_ERR_TOO_BIG, MOORING_ERR_CLOSED, MOORING_ERR_CORRUPT, MOORING_ERR_FORKED
 * Crash     killed inside: the message is there completely or not at all; who was not told must take both as possible.
 * Threads   one at a time for each producer. */
MOORING_API int mooring_publish(mooring_producer* producer, const void* data, size_t size, uint64_t timeout_ns,
                                uint64_t* seq);
typedef struct mooring_slice {
  const void* data;
  size_t size;
} mooring_slice;

/* mooring_publish_batch: publish several messages, in order.
 *   published   out, may be null: how many went out, the first ones; also with MOORING_FULL, MOORING_TIMEOUT and
 *               failures. Not atomic: a crash may leave a prefix (on spsc, messages that fit the lane together appear
 *               at once). Returns as mooring_publish. */
MOORING_API int mooring_publish_batch(mooring_producer* producer, const mooring_slice* slices, size_t count,
                                      uint64_t timeout_ns, size_t* published);

/* ---- Headers: what a message carries beside its payload. A message without any costs nothing for them. ----------- */

#define MOORING_ON_EXPIRE_DEAD 1u /* an expired message becomes a dead letter, the default */
#define MOORING_ON_EXPIRE_DROP 2u /* it is dropped, and counted */

/* A header of the application: a name of 1 to 255 bytes and a value of any bytes. */
typedef struct mooring_header {
  const char* name;
  size_t name_size; /* publishing: 0 takes the length of a NUL-terminated name */
  const void* value;
  size_t value_size;
} mooring_header;

/* What a message may be published with. A field of 0 or null is not there. Texts and ids are 1 to 255 bytes, carried as
 * they are; a name may come several times among `headers`. All of it together takes at most 64 KiB (each header 8 bytes
 * beside its own, rounded up to 8) and counts in max_message_bytes.
 * Times follow the wall clock. Before its time, or after it, a message is not given out: it waits with the supervisor
 * (precision: a few milliseconds), or is a dead letter. A consumer that meets it says so, so in a group without
 * consumers nothing expires until one comes; in an exclusive group a delayed message holds back those behind it.
 * message_id is acted on by queues with deduplication, else carried and shown; ordering_key and priority are carried,
 * and shown, in this version not yet acted on. */
typedef struct mooring_publish_options {
  size_t size;
  uint64_t deliver_at_ns;       /* not before this time of the wall clock (nanoseconds since 1970) */
  uint64_t delay_ns;            /* or: not before so long from now; give one of the two */
  uint64_t ttl_ns;              /* expires so long from now, by the wall clock; longer than the delay */
  uint32_t on_expire;           /* MOORING_ON_EXPIRE_...; 0: dead */
  uint32_t schema_version;      /* of the payload */
  uint32_t priority;            /* at most 255 */
  uint32_t reserved;            /* 0 */
  mooring_slice message_id;     /* names the message to its publisher: any bytes */
  mooring_slice correlation_id; /* names what it belongs to, or answers */
  mooring_slice ordering_key;   /* messages of one key belong together in order */
  const char* reply_to;         /* where an answer is wanted: the name of a queue, say. NUL-terminated, as below */
  const char* content_type;     /* of the payload: a media type */
  const char* type;             /* of the event or command: "order.created" */
  const char* traceparent;      /* W3C Trace Context: 00-<32 hex>-<16 hex>-<2 hex>; other forms are refused */
  const mooring_header* headers;
  size_t headers_count;
} mooring_publish_options;
MOORING_API void mooring_publish_options_init(mooring_publish_options* options, size_t size);

/* mooring_publish_with: mooring_publish, with headers.
 *   options     copied; null, or nothing set: as mooring_publish.
 * Returns   as mooring_publish. MOORING_ERR_BAD_ARGUMENT: the detail says which header, and why.
 *           MOORING_DUPLICATE (queues with deduplication, not with MOORING_NO_WAIT): the message_id was there already,
 *           and `seq` is the number of the message that had it first. That one is on the disk; this one is not
 *           delivered. So a publisher that was killed, or was not told, publishes again with the same message_id: the
 *           message is there once, whether it gets MOORING_OK or MOORING_DUPLICATE.
 *           MOORING_ERR_TOO_BIG: payload and headers do not fit max_message_bytes, or the headers 64 KiB.
 * Crash     the message is there with its headers, or not at all. */
MOORING_API int mooring_publish_with(mooring_producer* producer, const void* data, size_t size,
                                     const mooring_publish_options* options, uint64_t timeout_ns, uint64_t* seq);

/* A message of a batch. */
typedef struct mooring_outgoing {
  const void* data;
  size_t size;
  const mooring_publish_options* options; /* null: no headers; several messages may have the same */
} mooring_outgoing;

/* mooring_publish_batch_with: mooring_publish_batch, each message with headers of its own. Headers of all are checked
 * before the first is published. */
MOORING_API int mooring_publish_batch_with(mooring_producer* producer, const mooring_outgoing* messages, size_t count,
                                           uint64_t timeout_ns, size_t* published);

/* mooring_wait_durable: wait until a message of a durable queue is on the disk.
 *   seq         as mooring_publish gave it; MOORING_EVERYTHING: all that this producer published.
 *   timeout_ns  0 only asks.
 * Returns   MOORING_OK, MOORING_TIMEOUT (not yet), MOORING_INTERRUPTED, MOORING_ERR_IO (the journal failed: it may be
 *           lost), MOORING_DUPLICATE (of one `seq`, where the queue looks for them; see mooring_first_seq),
 *           MOORING_ERR_BAD_ARGUMENT (a volatile queue), MOORING_ERR_CLOSED, MOORING_ERR_FORKED
 * A full disk and a supervisor that is down do not end the wait: both may come right. */
#define MOORING_EVERYTHING UINT64_MAX
MOORING_API int mooring_wait_durable(mooring_producer* producer, uint64_t seq, uint64_t timeout_ns);

/* mooring_first_seq: of which message is `seq` a duplicate? For messages of a batch, or published with MOORING_NO_WAIT.
 *   first       out, may be null: the number of the message that was first with its message_id; `seq` itself where it
 *               was the first, or has no id.
 * Returns   MOORING_OK (it is no duplicate), MOORING_DUPLICATE, MOORING_TIMEOUT (not on the disk yet, so not decided),
 *           MOORING_ERR_BAD_ARGUMENT (a volatile queue), as mooring_wait_durable. Ask soon: once all groups are done
 *           with a message its part of the log goes, and then it is MOORING_OK. */
MOORING_API int mooring_first_seq(mooring_producer* producer, uint64_t seq, uint64_t* first);

/* mooring_durable_seq: every message with a number below `seq` is on the disk. No system call. 0: a volatile queue. */
MOORING_API int mooring_durable_seq(mooring_producer* producer, uint64_t* seq);

/* mooring_durable_fd: a descriptor that is readable when more has become durable since the last mooring_durable_seq of
 * this producer, for poll, epoll and event loops. Owned by the producer; do not read or close it. A readiness may be
 * spurious. MOORING_ERR_BAD_ARGUMENT on a volatile queue. */
MOORING_API int mooring_durable_fd(mooring_producer* producer, int* fd);

/* mooring_durable_callback: have a function called when more has become durable.
 *   call        null: call nobody any more. One for each producer handle; a new one takes the place of the one before.
 *   user        passed on.
 * The function gets `durable_seq`, below which every message of the queue is on the disk (also those of other
 * producers), and `result`: MOORING_OK, or once, as its last call, MOORING_ERR_IO (the journal failed: nothing more
 * becomes durable; what is not below durable_seq may be lost) or MOORING_ERR_CLOSED (the queue was removed). The first
 * call comes at once with what is durable by now. Positions rise from call to call; several steps may come as one call.
 * Threads   one library thread makes all these calls of a process, one after the other, with every signal blocked. The
 *           function may call anything but functions of this producer (a handle belongs to one thread at a time) and
 *           must not throw. While it runs, other such calls of the process wait; nothing else does.
 *           mooring_durable_callback and mooring_producer_close return when no call of the function before runs or ever
 *           will; so do not hold a lock that the function takes.
 * Crash     the calls end with the process, and a child of fork makes none. A supervisor that is down is no failure:
 *           the calls go on with the next one. A call is no acknowledgement to others: who must know after a crash
 *           what was acknowledged notes it.
 * Returns   MOORING_OK, MOORING_ERR_BAD_ARGUMENT (a volatile queue), MOORING_ERR_NO_MEMORY (no thread, no descriptor),
 *           MOORING_ERR_FORKED */
typedef void (*mooring_durable_call)(uint64_t durable_seq, int result, void* user);
MOORING_API int mooring_durable_callback(mooring_producer* producer, mooring_durable_call call, void* user);

/* mooring_reserve, mooring_commit, mooring_abort: publish without a copy, by writing into the lane.
 *   data        out: `size` bytes, aligned to 8, the caller's until commit, abort, or any other publish or reserve of
 *               this producer. One reservation at a time. No asynchronous I/O into it: it could land after a death.
 *   size        of commit: at most what was reserved.
 * A reservation is nothing to others: a process that dies or stops with one holds nobody up.
 * Returns   as mooring_publish; MOORING_ERR_BAD_ARGUMENT for commit or abort without a reservation. */
MOORING_API int mooring_reserve(mooring_producer* producer, size_t size, uint64_t timeout_ns, void** data);
MOORING_API int mooring_commit(mooring_producer* producer, size_t size, uint64_t* seq);

/* mooring_reserve_with: mooring_reserve, with headers; commit and abort as ever. Delay and ttl run from here, not from
 * the commit. */
MOORING_API int mooring_reserve_with(mooring_producer* producer, size_t size, const mooring_publish_options* options,
                                     uint64_t timeout_ns, void** data);
MOORING_API int mooring_abort(mooring_producer* producer);

/* ---- Consumers --------------------------------------------------------------------------------------------------- */

/* A consumer owns a seat in a group. */
typedef struct mooring_consumer mooring_consumer;
typedef struct mooring_consumer_options {
  size_t size;
  uint32_t wait;
  uint32_t max_in_flight; /* competing: most messages held at a time; 0: what the group deals out, 1024 / consumers
                             or so (X / 2 over its consumers: docs/protocol.md) */
  uint64_t spin_ns;       /* adaptive: how long to spin before sleeping; 0: 10 us */
} mooring_consumer_options;

#define MOORING_REDELIVERED 1u /* flag: may have been handed out before */
#define MOORING_IN_PLACE 2u    /* flag: data points into the queue itself (exclusive groups, no log) */
typedef struct mooring_message {
  const void* data;
  size_t size;
  uint64_t seq;
  uint32_t attempt;  /* 1 on the first delivery; exact up to 4095 */
  uint32_t flags;    /* MOORING_REDELIVERED, MOORING_IN_PLACE */
  uint64_t token[2]; /* names this delivery; opaque */
  uint64_t headers_size; /* bytes of headers, which lie before data; 0: none. Read them with the functions below */
} mooring_message;

MOORING_API void mooring_consumer_options_init(mooring_consumer_options* options, size_t size);

/* mooring_consumer_open: take a seat in a group (null: "default"). MOORING_ERR_NO_SEAT where all are taken, or the one
 * of an exclusive group (the detail names its process). */
MOORING_API int mooring_consumer_open(mooring_instance* instance, const char* queue, const char* group,
                                      const mooring_consumer_options* options, mooring_consumer** consumer);

/* mooring_consumer_close: what it holds goes back at once, uncounted; its message data are invalid from here on. */
MOORING_API void mooring_consumer_close(mooring_consumer* consumer);

/* mooring_receive: take the next message.
 *   message     out. data: `size` bytes, not NUL-terminated, valid until the message is settled or the consumer closed.
 *               Competing: a private copy, aligned to 64. Exclusive: in the queue itself, read-only, aligned to 8,
 *               unless the queue has a log (durable or spilling): then a copy.
 *   timeout_ns  how long to wait for one.
 * Returns   MOORING_OK           it is this consumer's until settled, in a competing group for ack_wait at most.
 *           MOORING_PAUSED       the group is paused, and the time is over.
 *           MOORING_EMPTY        nothing became ready in time; not a failure.
 *           MOORING_FULL         this consumer holds as many as it may: settle some.
 *           MOORING_INTERRUPTED  a signal came while waiting; nothing was taken.
 *           MOORING_ERR_CLOSED   the queue or the group was removed.
 *           MOORING_ERR_VERSION  it has a header of a later release that may not be skipped; the message went back.
 *           MOORING_ERR_CORRUPT, MOORING_ERR_NO_MEMORY (the message went back), MOORING_ERR_FORKED
 *           Of a durable queue, a message that left shared memory and cannot be read from its log: MOORING_ERR_CORRUPT
 *           (damaged), MOORING_ERR_IO, MOORING_ERR_PERMISSION; it went back, and the detail names file and place.
 * Crash     killed or ended at any point from here to the settlement: another consumer gets it, marked redelivered.
 * Threads   one at a time for each consumer. */
MOORING_API int mooring_receive(mooring_consumer* consumer, mooring_message* message, uint64_t timeout_ns);

/* mooring_receive_batch: at least one message within the time, then what is ready at once, at most `count`. */
MOORING_API int mooring_receive_batch(mooring_consumer* consumer, mooring_message* messages, size_t count,
                                      uint64_t timeout_ns, size_t* received);

/* Reading headers. These functions allocate nothing and make no system call. What they give points into the message and
 * is valid as long as its data; texts are not NUL-terminated. Where data are in place, a producer that scribbles over
 * its own messages can change headers under their reader, as it can the payload: expect any bytes, not any address.
 * Returns   MOORING_OK, MOORING_EMPTY (not there), MOORING_ERR_BAD_ARGUMENT (a null pointer),
 *           MOORING_ERR_CORRUPT (they make no sense: somebody wrote over them; the payload is as it is)
 * Threads   any, while the message is not settled. */

typedef struct mooring_headers {
  size_t size;
  uint64_t deliver_at_ns; /* times of the wall clock; 0: not there */
  uint64_t expires_at_ns;
  uint32_t on_expire;     /* MOORING_ON_EXPIRE_...; 0 where the message does not expire */
  uint32_t schema_version;
  uint32_t priority;
  uint32_t reserved;
  mooring_slice message_id; /* data null and size 0: not there, as for all that follow */
  mooring_slice correlation_id;
  mooring_slice ordering_key;
  mooring_slice reply_to;
  mooring_slice content_type;
  mooring_slice type;
  mooring_slice traceparent;
  size_t headers_count; /* of the application's headers */
} mooring_headers;

/* mooring_message_headers: all but the application's headers, in one look.
 *   headers     out, all of it, also where the message has none (then all is 0 and the result is MOORING_OK).
 *   size        sizeof *headers as the caller knows it. */
MOORING_API int mooring_message_headers(const mooring_message* message, mooring_headers* headers, size_t size);

/* mooring_message_header: the application's header of this name, the first where there are several.
 *   name        NUL-terminated; compared byte by byte.
 *   value       out; null data and size 0 with MOORING_EMPTY. */
MOORING_API int mooring_message_header(const mooring_message* message, const char* name, mooring_slice* value);

/* mooring_message_next_header: one of the application's headers after the other, in the order they were given.
 *   cursor      in and out; 0 before the first.
 *   header      out. MOORING_EMPTY: there are no more. */
MOORING_API int mooring_message_next_header(const mooring_message* message, uint64_t* cursor, mooring_header* header);

/* mooring_ack: the message is done in this group, for good.
 *   message     as it was received; its data are invalid from here on.
 * Returns   MOORING_OK     no consumer of the group will see it again, whatever is killed.
 *           MOORING_STALE  this delivery was settled before. */
MOORING_API int mooring_ack(mooring_consumer* consumer, const mooring_message* message);

/* mooring_ack_sync: mooring_ack, and return when a power cut cannot bring the message back (durable queues).
 * Returns   as mooring_ack; MOORING_TIMEOUT, MOORING_INTERRUPTED: acknowledged, not known to be on the disk yet, and a
 *           power cut may deliver it once more; MOORING_ERR_IO: the same, the journal failed;
 *           MOORING_ERR_BAD_ARGUMENT: a volatile queue (nothing was acknowledged). */
MOORING_API int mooring_ack_sync(mooring_consumer* consumer, const mooring_message* message, uint64_t timeout_ns);

/* mooring_ack_batch: each of them. `acked` (may be null) counts those that were settled by this call; MOORING_STALE if
 * it is not all. */
MOORING_API int mooring_ack_batch(mooring_consumer* consumer, const mooring_message* messages, size_t count,
                                  size_t* acked);

/* mooring_ack_up_to: this message and everything delivered before it. Exclusive groups only. */
MOORING_API int mooring_ack_up_to(mooring_consumer* consumer, const mooring_message* message);

/* Three ways to give a message back. In a competing group any consumer may get it then, and others go on meanwhile; in
 * an exclusive group it comes again before anything later, which waits as long (the order is kept).
 *   mooring_nack      it failed: again after the group's retry delay, a dead letter after max_deliveries failures.
 *   mooring_reject    it never will succeed: a dead letter at once, with a code and a text of the application's.
 *   mooring_release   not done, and not a failure (shutting down, not mine): READY again at once, uncounted.
 *   text       null or NUL-terminated; 512 bytes of it are kept.
 *   options    null: as mooring_nack.
 * Returns   MOORING_OK, MOORING_STALE (this delivery was settled before, or taken back after ack_wait).
 * Crash     as mooring_ack: settled, or not, and then another consumer gets it. A delay, code or text is kept with the
 *           settlement or lost with it; while more than 256 of a consumer's settlements wait for the supervisor,
 *           further ones lose these details, never the settlement. */
typedef struct mooring_nack_options {
  size_t size;
  uint64_t delay_ns; /* before the next delivery; MOORING_BY_POLICY */
  uint32_t code;     /* of the application; kept in the message's history */
  uint32_t reserved;
  const char* text;
} mooring_nack_options;
#define MOORING_BY_POLICY UINT64_MAX
MOORING_API void mooring_nack_options_init(mooring_nack_options* options, size_t size);
MOORING_API int mooring_nack(mooring_consumer* consumer, const mooring_message* message);
MOORING_API int mooring_nack_with(mooring_consumer* consumer, const mooring_message* message,
                                  const mooring_nack_options* options);
MOORING_API int mooring_reject(mooring_consumer* consumer, const mooring_message* message, uint32_t code,
                               const char* text);
MOORING_API int mooring_release(mooring_consumer* consumer, const mooring_message* message);
/* Each of them, as mooring_ack_batch. */
MOORING_API int mooring_nack_batch(mooring_consumer* consumer, const mooring_message* messages, size_t count,
                                   size_t* settled);
MOORING_API int mooring_release_batch(mooring_consumer* consumer, const mooring_message* messages, size_t count,
                                      size_t* settled);

/* mooring_extend: still at it: ack_wait begins anew.
 *   message    in and out: it names its delivery as it is from here on; settle with this one. Exclusive groups: nothing
 *              to do, MOORING_OK.
 * Returns   MOORING_OK, MOORING_STALE (taken back meanwhile). No system call. */
MOORING_API int mooring_extend(mooring_consumer* consumer, mooring_message* message);

/* mooring_handling: of several messages that this consumer holds, the application begins with this one. If the process
 * dies now, only this one counts a failure. Without it, when a process dies that had received more than one, none is
 * charged, and each comes back alone: to a consumer that holds nothing else, so that the next crash tells. */
MOORING_API int mooring_handling(mooring_consumer* consumer, const mooring_message* message);

/* mooring_consumer_fd: a descriptor that is readable while messages may be ready, for poll, epoll and event loops.
 *   fd          out. Owned by the consumer; do not read or close it. Level-triggered: it stays readable until a
 *               mooring_receive with timeout 0 returned MOORING_EMPTY, so receive in a loop until then.
 * The first call of a process starts a library thread that serves all its descriptors. A readiness may be spurious (one
 * each five seconds in an idle queue, so that a publisher stopped half-way cannot make it deaf). */
MOORING_API int mooring_consumer_fd(mooring_consumer* consumer, int* fd);

/* ---- Workers: the loop around a handler. It receives, calls the handler, and settles by what that returns; it extends
 * leases, drains at a signal, and leaves exact blame behind when it is killed. C++: mooring/worker.hpp. ------------ */

typedef struct mooring_worker mooring_worker;

/* What a handler returns. Any other number is a failure, too: MOORING_NACK with the number as its code. */
#define MOORING_ACK 0     /* done: acknowledged */
#define MOORING_NACK 1    /* failed, and may go well another time: again by the group's settings, or after delay_ns */
#define MOORING_REJECT 2  /* never will go well: a dead letter at once, with code and text */
#define MOORING_RELEASE 3 /* not done, and no failure (not mine, stopping): READY again at once, uncounted, for any
                             consumer, also this one */

/* One call of a handler. The library fills in what comes first; the handler may set the rest, which is kept in the
 * message's history. */
typedef struct mooring_worker_call {
  uint32_t thread;   /* which of the worker's threads this is: 0 to concurrency - 1 */
  uint32_t code;     /* MOORING_NACK, MOORING_REJECT: of the application; 0 as it comes */
  uint64_t delay_ns; /* MOORING_NACK: before the next delivery; MOORING_BY_POLICY as it comes */
  char text[512];    /* MOORING_NACK, MOORING_REJECT: NUL-terminated; empty as it comes */
} mooring_worker_call;

/* The handler.
 *   message   as mooring_receive gives it; its data are valid until the handler returns. The worker settles it: do not.
 *   user      as mooring_worker_run was given it.
 * Threads   it runs in `concurrency` threads at once, each with the signal mask of mooring_worker_run's caller. It must
 *           not throw, and must not end its thread. */
typedef int (*mooring_worker_handler)(const mooring_message* message, mooring_worker_call* call, void* user);

/* Called once for a call of the handler that takes longer than handler_timeout_ns, from the thread of
 * mooring_worker_run, while the handler runs on: to log it, to cancel what it waits for, to end the process.
 *   running_ns   for how long it has run at least.
 * Keep it short: no lease of this worker is extended while it runs, and the handler's settlement waits for it. */
typedef void (*mooring_worker_late)(const mooring_message* message, uint64_t running_ns, void* user);

#define MOORING_DRAIN_ON_SIGNALS 1u /* flag: SIGTERM and SIGINT drain the worker, see mooring_worker_run */

typedef struct mooring_worker_options {
  size_t size;
  uint32_t concurrency;        /* threads, each with a seat of its own; 0: 1; at most 1024. Exclusive groups: 1 */
  uint32_t prefetch;           /* messages that a thread takes at once; 0: 1; at most 4096, and what the group deals
                                  out. Above 1 pays where a handler takes microseconds; what waits behind a slow one
                                  waits with it */
  uint32_t flags;              /* MOORING_DRAIN_ON_SIGNALS */
  uint32_t wait;               /* MOORING_WAIT_... */
  uint64_t spin_ns;            /* adaptive: how long to spin before sleeping; 0: 10 us */
  uint64_t handler_timeout_ns; /* a call that takes longer is late, see below; 0: none is */
  uint64_t drain_timeout_ns;   /* how long a drain waits for handlers; MOORING_FOREVER (default) */
  mooring_worker_late late;    /* null: nobody is told */
  void* late_user;             /* for `late` */
} mooring_worker_options;
MOORING_API void mooring_worker_options_init(mooring_worker_options* options, size_t size);

/* mooring_worker_open: take the seats for a worker of a group (null: "default").
 *   options   null: one thread, one message at a time.
 *   worker    out; null on failure. Nothing is received before mooring_worker_run.
 * Returns   MOORING_OK
 *           MOORING_ERR_BAD_ARGUMENT  an option is out of range, or concurrency is above 1 and the group exclusive.
 *           MOORING_ERR_NO_SEAT       not as many seats as threads are free (consumers_max of the queue; the one of an
 *                                     exclusive group): fewer threads, or close consumers. None is kept.
 *           as mooring_consumer_open  for the rest. */
MOORING_API int mooring_worker_open(mooring_instance* instance, const char* queue, const char* group,
                                    const mooring_worker_options* options, mooring_worker** worker);

/* mooring_worker_run: handle messages until the worker is stopped. It runs once.
 *   handler, user   what to call for each message. The calling thread handles none: it watches.
 *
 * Leases    While a call takes longer than the group's ack_wait, the worker extends its lease and those of what it took
 *           beside it: nothing is given out again because it takes long.
 * Late      A call that takes longer than handler_timeout_ns (never less; half as much more at most while this process
 *           gets its share of a core) cannot be ended from outside, and its message is not taken from it: `late` is
 *           told, its lease is extended no more, and what waits behind it is released. In a competing group with an
 *           ack_wait the message is then given out again after ack_wait, one failure counted; the handler's settlement,
 *           if it still comes, is MOORING_STALE and only counted. In an exclusive group, or without ack_wait, `late` is
 *           all that happens.
 * Order     In an exclusive group a message that is nacked or released comes again before anything later, whatever
 *           `prefetch` is.
 * Drain     Begun by mooring_worker_stop, by a failure, or with MOORING_DRAIN_ON_SIGNALS by SIGTERM or SIGINT: nothing
 *           more is received, what no handler has begun with is released uncounted, handlers may end and are settled as
 *           ever, seats are closed. After drain_timeout_ns, or at a second signal, the handlers that still run are left
 *           behind: see MOORING_TIMEOUT.
 * Signals   With the flag, sigaction for SIGTERM and SIGINT is set when this begins and put back when it returns. An
 *           action of the application's is called as well; a signal that it ignores stays ignored. Without the flag
 *           nothing is touched. Which signal it was: mooring_worker_get_stats.
 * Returns   MOORING_OK       stopped and drained: it holds nothing any more.
 *           MOORING_TIMEOUT  the drain's time was over and handlers still run, in threads that keep their seats. What
 *                            returns yet is settled; if the process ends, what does not comes again at once, uncounted.
 *                            `handler`, `user` and what they use must last until the process ends; end it soon.
 *           MOORING_ERR_BAD_ARGUMENT  a null pointer, or this worker has run: open another.
 *           MOORING_ERR_NO_MEMORY     no thread could be started, or as below.
 *           as mooring_receive        a failure in one thread: the others are drained, and the detail is that one's.
 *                                     Handlers left behind then are told by `handling` of mooring_worker_get_stats.
 * Crash     the message in the handler is charged with a failure, and nothing else: what was taken beside it comes
 *           again at once, uncounted. The same holds for each thread.
 * Threads   any, one at a time for each worker. */
MOORING_API int mooring_worker_run(mooring_worker* worker, mooring_worker_handler handler, void* user);

/* mooring_worker_stop: begin the drain; returns at once. Before mooring_worker_run it makes that return at once.
 * Threads   any, also a handler of this worker. Async-signal-safe. The worker must not be closed meanwhile. */
MOORING_API void mooring_worker_stop(mooring_worker* worker);

/* mooring_worker_is_stopping: 1 once the drain is asked for or has begun, else 0. For handlers that take long: they may
 * return MOORING_RELEASE. Threads any. */
MOORING_API int mooring_worker_is_stopping(const mooring_worker* worker);

typedef struct mooring_worker_stats {
  size_t size;
  uint64_t acked; /* messages by how they were settled */
  uint64_t nacked;
  uint64_t rejected;
  uint64_t released;
  uint64_t stale;    /* settled too late, given out again meanwhile: raise ack_wait, or look who stops this process */
  uint64_t late;     /* calls that took longer than handler_timeout_ns */
  uint32_t handling; /* handlers that run now */
  int signal_number; /* that began the drain; 0: none */
} mooring_worker_stats;

/* mooring_worker_get_stats: counts since mooring_worker_open, also while it runs, and after.
 *   stats     out, all of it.
 *   size      sizeof *stats as the caller knows it.
 * Returns   MOORING_OK, MOORING_ERR_BAD_ARGUMENT (a null pointer). Threads any. */
MOORING_API int mooring_worker_get_stats(const mooring_worker* worker, mooring_worker_stats* stats, size_t size);

/* mooring_worker_close: after mooring_worker_run returned, or without it: gives back its seats. After MOORING_TIMEOUT
 * the handlers left behind keep theirs. */
MOORING_API void mooring_worker_close(mooring_worker* worker);

#ifdef __cplusplus
}
#endif
#endif
