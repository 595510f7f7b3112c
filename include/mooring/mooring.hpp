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
  // How many of them went out; fewer than all where there was no room in time.
  std::size_t publish_batch(std::span<const mooring_slice> slices, std::uint64_t timeout_ns = MOORING_FOREVER) {
    std::size_t published = 0;
    detail::checked(mooring_publish_batch(handle_.get(), slices.data(), slices.size(), timeout_ns, &published));
    return published;
  }
  // Room in the lane itself, to be filled and committed; empty where there was none in time.
  std::span<std::byte> reserve(std::size_t size, std::uint64_t timeout_ns = MOORING_FOREVER) {
    void* data = nullptr;
    if (detail::checked(mooring_reserve(handle_.get(), size, timeout_ns, &data)) != MOORING_OK) return {};
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
    return detail::checked(mooring_wait_durable(handle_.get(), seq, timeout_ns)) == MOORING_OK;
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
  bool release(const mooring_message& message) { return settled(mooring_release(handle_.get(), &message)); }

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
  void remove_group(const std::string& queue, const std::string& group) {
    detail::checked(mooring_group_remove(handle_.get(), queue.c_str(), group.c_str()));
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
