// Mooring for C++: a thin RAII skin over mooring.h, header only, with nothing of its own.
//
// Handles close themselves. What the C API calls a failure (a negative code) is thrown as mooring::Failure; ordinary
// outcomes (empty, full, stale) are return values. The try_ functions return the C code of everything and throw
// nothing. Threads, crashes and lifetimes: as mooring.h says for the function of the same name.
#ifndef MOORING_MOORING_HPP
#define MOORING_MOORING_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "mooring.h"

// The inline namespace gives these classes symbols of their own: libmooring.a has a mooring::Producer inside that is
// another class, and a linker that took its destructor for ours would not say so.
namespace mooring {
inline namespace cxx_v1 {

// A failed call: its code, and as text the sentence of mooring_error_detail().
class Failure : public std::runtime_error {
 public:
  Failure(int code, const std::string& text) : std::runtime_error(text), code_(code) {}
  int code() const noexcept { return code_; }

  // The story of the calling thread's last failure, or what the code means in general.
  static std::string detail_of(int code) {
    const char* detail = mooring_error_detail();
    return code < 0 && *detail != '\0' ? detail : mooring_strerror(code);
  }

 private:
  int code_;
};

namespace detail {

inline int checked(int code) {
  if (code < 0) throw Failure(code, Failure::detail_of(code));
  return code;
}

// Owns a C handle.
template <class Handle, void (*Close)(Handle*)>
class Owner {
 public:
  explicit Owner(Handle* handle = nullptr) noexcept : handle_(handle) {}
  Owner(Owner&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Owner& operator=(Owner&& other) noexcept {
    if (this != &other) {
      reset();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  ~Owner() { reset(); }

  Handle* get() const noexcept { return handle_; }
  void reset() noexcept {
    if (handle_ != nullptr) Close(std::exchange(handle_, nullptr));
  }

 private:
  Handle* handle_;
};

}  // namespace detail

// Publish options with nothing set, to be filled in.
inline mooring_publish_options publish_options() noexcept {
  mooring_publish_options options;
  mooring_publish_options_init(&options, sizeof options);
  return options;
}
// Options of a group that begins at `seq`, or at a MOORING_START_... place.
inline mooring_group_options group_options(std::uint32_t mode, std::uint32_t start, std::uint64_t seq = 0) noexcept {
  mooring_group_options options;
  mooring_group_options_init(&options, sizeof options);
  options.mode = mode;
  options.start = start;
  options.seq = seq;
  return options;
}
// For ids and keys. The text stays the caller's.
inline mooring_slice as_slice(std::string_view text) noexcept { return {text.data(), text.size()}; }
inline mooring_header as_header(std::string_view name, std::string_view value) noexcept {
  return {name.data(), name.size(), value.data(), value.size()};
}
inline std::string_view as_text(const mooring_slice& slice) noexcept {
  return {static_cast<const char*>(slice.data), slice.size};
}

// The headers of a received message; views are valid as long as its data.
inline mooring_headers headers_of(const mooring_message& message) {
  mooring_headers headers;
  detail::checked(mooring_message_headers(&message, &headers, sizeof headers));
  return headers;
}
// A header of the application, the first of its name; nothing where there is none.
inline std::optional<std::string_view> header_of(const mooring_message& message, const std::string& name) {
  mooring_slice value;
  if (detail::checked(mooring_message_header(&message, name.c_str(), &value)) != MOORING_OK) return std::nullopt;
  return as_text(value);
}
// Each header of the application in its order: visit(std::string_view name, std::string_view value).
template <class Visit>
void each_header(const mooring_message& message, Visit&& visit) {
  std::uint64_t cursor = 0;
  mooring_header found;
  while (detail::checked(mooring_message_next_header(&message, &cursor, &found)) == MOORING_OK) {
    visit(std::string_view(found.name, found.name_size),
          std::string_view(static_cast<const char*>(found.value), found.value_size));
  }
}

class Producer {
 public:
  explicit Producer(mooring_producer* handle) : handle_(handle) {}

  // The seq, or nothing where there was no room in time.
  std::optional<std::uint64_t> publish(std::string_view data, std::uint64_t timeout_ns = MOORING_FOREVER) {
    std::uint64_t seq = 0;
    if (detail::checked(try_publish(data.data(), data.size(), timeout_ns, &seq)) != MOORING_OK) return std::nullopt;
    return seq;
  }
  int try_publish(const void* data, std::size_t size, std::uint64_t timeout_ns, std::uint64_t* seq) noexcept {
    return mooring_publish(handle_.get(), data, size, timeout_ns, seq);
  }
  // The same with headers. Of a duplicate (queues with deduplication): the seq of the message that it repeats.
  std::optional<std::uint64_t> publish(std::string_view data, const mooring_publish_options& options,
                                       std::uint64_t timeout_ns = MOORING_FOREVER) {
    std::uint64_t seq = 0;
    const int code = detail::checked(try_publish(data.data(), data.size(), options, timeout_ns, &seq));
    if (code != MOORING_OK && code != MOORING_DUPLICATE) return std::nullopt;
    return seq;
  }
  int try_publish(const void* data, std::size_t size, const mooring_publish_options& options, std::uint64_t timeout_ns,
                  std::uint64_t* seq) noexcept {
    return mooring_publish_with(handle_.get(), data, size, &options, timeout_ns, seq);
  }
  // How many of them went out; fewer than all where there was no room in time.
  std::size_t publish_batch(std::span<const mooring_slice> slices, std::uint64_t timeout_ns = MOORING_FOREVER) {
    std::size_t published = 0;
    detail::checked(mooring_publish_batch(handle_.get(), slices.data(), slices.size(), timeout_ns, &published));
    return published;
  }
  std::size_t publish_batch(std::span<const mooring_outgoing> messages, std::uint64_t timeout_ns = MOORING_FOREVER) {
    std::size_t published = 0;
    detail::checked(
        mooring_publish_batch_with(handle_.get(), messages.data(), messages.size(), timeout_ns, &published));
    return published;
  }
  // Room in the lane itself, to be filled and committed; empty where there was none in time.
  std::span<std::byte> reserve(std::size_t size, std::uint64_t timeout_ns = MOORING_FOREVER) {
    void* data = nullptr;
    if (detail::checked(mooring_reserve(handle_.get(), size, timeout_ns, &data)) != MOORING_OK) return {};
    return {static_cast<std::byte*>(data), size};
  }
  std::span<std::byte> reserve(std::size_t size, const mooring_publish_options& options,
                               std::uint64_t timeout_ns = MOORING_FOREVER) {
    void* data = nullptr;
    const int code = mooring_reserve_with(handle_.get(), size, &options, timeout_ns, &data);
    if (detail::checked(code) != MOORING_OK) return {};
    return {static_cast<std::byte*>(data), size};
  }
  std::uint64_t commit(std::size_t size) {
    std::uint64_t seq = 0;
    detail::checked(mooring_commit(handle_.get(), size, &seq));
    return seq;
  }
  void abort() { detail::checked(mooring_abort(handle_.get())); }

  // Durable queues. False: not on the disk in time.
  bool wait_durable(std::uint64_t seq = MOORING_EVERYTHING, std::uint64_t timeout_ns = MOORING_FOREVER) {
    const int code = detail::checked(mooring_wait_durable(handle_.get(), seq, timeout_ns));
    return code == MOORING_OK || code == MOORING_DUPLICATE;
  }
  // The message that was first with the message_id of `seq`: another one if that is a duplicate. Nothing: it is not on
  // the disk yet. See mooring_first_seq.
  std::optional<std::uint64_t> first_seq(std::uint64_t seq) {
    std::uint64_t first = 0;
    const int code = detail::checked(mooring_first_seq(handle_.get(), seq, &first));
    if (code != MOORING_OK && code != MOORING_DUPLICATE) return std::nullopt;
    return first;
  }
  // Every message below it is on the disk.
  std::uint64_t durable_seq() const {
    std::uint64_t seq = 0;
    detail::checked(mooring_durable_seq(handle_.get(), &seq));
    return seq;
  }

  // Readable when more has become durable since the last durable_seq(); see mooring_durable_fd.
  int durable_fd() const {
    int fd = -1;
    detail::checked(mooring_durable_fd(handle_.get(), &fd));
    return fd;
  }

  // `call` runs on a thread of the library when more has become durable; null ends it. See mooring_durable_callback.
  void set_durable_callback(mooring_durable_call call, void* user) {
    detail::checked(mooring_durable_callback(handle_.get(), call, user));
  }

  mooring_producer* get() const noexcept { return handle_.get(); }
  void close() noexcept { handle_.reset(); }

 private:
  detail::Owner<mooring_producer, mooring_producer_close> handle_;
};

class Consumer {
 public:
  explicit Consumer(mooring_consumer* handle) : handle_(handle) {}

  // The next message, or nothing: none in time, a signal came, or this consumer holds as many as it may.
  std::optional<mooring_message> receive(std::uint64_t timeout_ns = MOORING_FOREVER) {
    mooring_message message;
    if (detail::checked(try_receive(&message, timeout_ns)) != MOORING_OK) return std::nullopt;
    return message;
  }
  int try_receive(mooring_message* message, std::uint64_t timeout_ns) noexcept {
    return mooring_receive(handle_.get(), message, timeout_ns);
  }
  std::size_t receive_batch(std::span<mooring_message> messages, std::uint64_t timeout_ns = MOORING_FOREVER) {
    std::size_t received = 0;
    detail::checked(mooring_receive_batch(handle_.get(), messages.data(), messages.size(), timeout_ns, &received));
    return received;
  }

  // Settlements: false where the delivery was settled before, or was taken back (stale).
  bool ack(const mooring_message& message) { return settled(mooring_ack(handle_.get(), &message)); }
  // Durable queues: true when a power cut cannot bring the message back.
  bool ack_sync(const mooring_message& message, std::uint64_t timeout_ns = MOORING_FOREVER) {
    return settled(mooring_ack_sync(handle_.get(), &message, timeout_ns));
  }
  bool ack_up_to(const mooring_message& message) { return settled(mooring_ack_up_to(handle_.get(), &message)); }
  bool nack(const mooring_message& message) { return settled(mooring_nack(handle_.get(), &message)); }
  // Again after `delay_ns`, or by the group's settings (MOORING_BY_POLICY); code and text go into its history.
  bool nack(const mooring_message& message, std::uint64_t delay_ns, std::uint32_t code = 0,
            const char* text = nullptr) {
    mooring_nack_options options;
    mooring_nack_options_init(&options, sizeof options);
    options.delay_ns = delay_ns;
    options.code = code;
    options.text = text;
    return settled(mooring_nack_with(handle_.get(), &message, &options));
  }
  // A dead letter at once.
  bool reject(const mooring_message& message, std::uint32_t code = 0, const char* text = nullptr) {
    return settled(mooring_reject(handle_.get(), &message, code, text));
  }
  bool release(const mooring_message& message) { return settled(mooring_release(handle_.get(), &message)); }
  // ack_wait begins anew; settle with this message, as it is now.
  bool extend(mooring_message& message) { return settled(mooring_extend(handle_.get(), &message)); }
  // Of several messages the application begins with this one: a crash is charged to it alone.
  void handling(const mooring_message& message) { detail::checked(mooring_handling(handle_.get(), &message)); }

  // Readable while messages may be ready; see mooring_consumer_fd.
  int fd() const {
    int fd = -1;
    detail::checked(mooring_consumer_fd(handle_.get(), &fd));
    return fd;
  }

  mooring_consumer* get() const noexcept { return handle_.get(); }
  void close() noexcept { handle_.reset(); }

 private:
  static bool settled(int code) { return detail::checked(code) == MOORING_OK; }

  detail::Owner<mooring_consumer, mooring_consumer_close> handle_;
};

class Instance {
 public:
  // `path` empty: MOORING_INSTANCE, else the default.
  explicit Instance(const std::string& path = {}, std::uint32_t flags = 0) {
    mooring_instance_options options;
    mooring_instance_options_init(&options, sizeof options);
    options.path = path.empty() ? nullptr : path.c_str();
    options.flags = flags;
    mooring_instance* handle = nullptr;
    detail::checked(mooring_instance_open(&options, &handle));
    handle_ = detail::Owner<mooring_instance, mooring_instance_close>(handle);
  }

  void create_queue(const std::string& queue, const mooring_queue_options& options) {
    detail::checked(mooring_queue_create(handle_.get(), queue.c_str(), &options));
  }
  void create_queue(const std::string& queue) {
    detail::checked(mooring_queue_create(handle_.get(), queue.c_str(), nullptr));
  }
  void remove_queue(const std::string& queue) { detail::checked(mooring_queue_remove(handle_.get(), queue.c_str())); }
  void create_group(const std::string& queue, const std::string& group, std::uint32_t mode) {
    detail::checked(mooring_group_create(handle_.get(), queue.c_str(), group.c_str(), mode));
  }
  // Beginning where the options say; returns the message it begins with, 0 where it was there with this mode.
  std::uint64_t create_group(const std::string& queue, const std::string& group, const mooring_group_options& options) {
    std::uint64_t first = 0;
    detail::checked(mooring_group_create_with(handle_.get(), queue.c_str(), group.c_str(), &options, &first));
    return first;
  }
  void remove_group(const std::string& queue, const std::string& group) {
    detail::checked(mooring_group_remove(handle_.get(), queue.c_str(), group.c_str()));
  }

  // One setting of a group, as text (mooring_group_set lists them).
  void set_group(const std::string& queue, const std::string& group, const std::string& key,
                 const std::string& value) {
    detail::checked(mooring_group_set(handle_.get(), queue.c_str(), group.c_str(), key.c_str(), value.c_str()));
  }
  void pause_group(const std::string& queue, const std::string& group) {
    detail::checked(mooring_group_pause(handle_.get(), queue.c_str(), group.c_str()));
  }
  // False: it stays paused, because it has as many dead letters as it may, or its circuit breaker is open.
  bool resume_group(const std::string& queue, const std::string& group) {
    return detail::checked(mooring_group_resume(handle_.get(), queue.c_str(), group.c_str())) == MOORING_OK;
  }
  // Dead letters back to the group that failed them; returns how many go (with MOORING_DRY_RUN: would go).
  std::uint64_t redrive(const std::string& queue, const std::string& group,
                        const mooring_dead_filter* filter = nullptr, std::uint64_t rate = 0) {
    std::uint64_t count = 0;
    detail::checked(mooring_dead_redrive(handle_.get(), queue.c_str(), group.c_str(), filter, rate, &count));
    return count;
  }
  std::uint64_t cancel_redrive(const std::string& queue, const std::string& group) {
    std::uint64_t left = 0;
    detail::checked(mooring_dead_redrive_cancel(handle_.get(), queue.c_str(), group.c_str(), &left));
    return left;
  }
  std::uint64_t purge_dead(const std::string& queue, const std::string& group,
                           const mooring_dead_filter* filter = nullptr) {
    std::uint64_t count = 0;
    detail::checked(mooring_dead_purge(handle_.get(), queue.c_str(), group.c_str(), filter, &count));
    return count;
  }

  Producer open_producer(const std::string& queue, const mooring_producer_options* options = nullptr) {
    mooring_producer* producer = nullptr;
    detail::checked(mooring_producer_open(handle_.get(), queue.c_str(), options, &producer));
    return Producer(producer);
  }
  Consumer open_consumer(const std::string& queue, const std::string& group = "default",
                         const mooring_consumer_options* options = nullptr) {
    mooring_consumer* consumer = nullptr;
    detail::checked(mooring_consumer_open(handle_.get(), queue.c_str(), group.c_str(), options, &consumer));
    return Consumer(consumer);
  }

  // Asks the supervisor to leave; shared memory and open handles stay.
  void shutdown_supervisor() { detail::checked(mooring_supervisor_shutdown(handle_.get())); }

  mooring_instance* get() const noexcept { return handle_.get(); }

 private:
  detail::Owner<mooring_instance, mooring_instance_close> handle_;
};

}  // namespace cxx_v1
}  // namespace mooring

#endif
