// Workers for C++: the loop around a handler, as mooring_worker_run of mooring.h describes it.
//
// A handler that returns has done its message: it is acknowledged. One that throws has not:
//   PermanentError        it never will go well: rejected, a dead letter at once, with the error's code and what().
//   RetryAfter            it failed: again after the delay that the error names.
//   any other exception   it failed: again by the group's retry settings. What std::exception::what() says is kept.
// A handler may also return an int, MOORING_ACK, MOORING_NACK, MOORING_REJECT or MOORING_RELEASE, and take the call as
// its second argument, for code, delay and text.
#ifndef MOORING_WORKER_HPP
#define MOORING_WORKER_HPP

#include <cstring>
#include <exception>
#include <memory>
#include <type_traits>

#include "mooring.hpp"

namespace mooring {
inline namespace cxx_v1 {

class PermanentError : public std::runtime_error {
 public:
  explicit PermanentError(const std::string& text, std::uint32_t code = 0) : std::runtime_error(text), code_(code) {}
  std::uint32_t code() const noexcept { return code_; }

 private:
  std::uint32_t code_;
};

class RetryAfter : public std::runtime_error {
 public:
  RetryAfter(std::chrono::nanoseconds delay, const std::string& text, std::uint32_t code = 0)
      : std::runtime_error(text), delay_(delay), code_(code) {}
  std::chrono::nanoseconds delay() const noexcept { return delay_; }
  std::uint32_t code() const noexcept { return code_; }

 private:
  std::chrono::nanoseconds delay_;
  std::uint32_t code_;
};

// Worker options with nothing set, to be filled in.
inline mooring_worker_options worker_options() noexcept {
  mooring_worker_options options;
  mooring_worker_options_init(&options, sizeof options);
  return options;
}

class Worker {
 public:
  // Takes the seats. Null options: one thread, one message at a time.
  Worker(const Instance& instance, const std::string& queue, const std::string& group = "default",
         const mooring_worker_options* options = nullptr) {
    mooring_worker* handle = nullptr;
    detail::checked(mooring_worker_open(instance.get(), queue.c_str(), group.c_str(), options, &handle));
    handle_ = detail::Owner<mooring_worker, mooring_worker_close>(handle);
  }

  // Handles messages until the worker is stopped: handle(const mooring_message&), or with a second argument,
  // mooring_worker_call&. `handle` is not copied; it is called from several threads at once where concurrency is above
  // 1. False: drain_timeout_ns was over and handlers still run; then `handle` must last until the process ends, as also
  // after a Failure with stats().handling above 0.
  template <class Handle>
  bool run(Handle&& handle) {
    using Called = std::remove_reference_t<Handle>;
    void* user = nullptr;
    if constexpr (std::is_function_v<Called>) {
      user = reinterpret_cast<void*>(&handle);  // POSIX: a function's address fits
    } else {
      user = const_cast<void*>(static_cast<const void*>(std::addressof(handle)));
    }
    return detail::checked(mooring_worker_run(handle_.get(), &call<Called>, user)) == MOORING_OK;
  }

  // Any thread, also a handler of this worker, also a signal handler.
  void stop() noexcept { mooring_worker_stop(handle_.get()); }
  bool is_stopping() const noexcept { return mooring_worker_is_stopping(handle_.get()) != 0; }

  mooring_worker_stats stats() const {
    mooring_worker_stats stats;
    detail::checked(mooring_worker_get_stats(handle_.get(), &stats, sizeof stats));
    return stats;
  }

  mooring_worker* get() const noexcept { return handle_.get(); }

 private:
  template <class Handle>
  static int invoke(Handle& handle, const mooring_message& message, mooring_worker_call& call) {
    if constexpr (std::is_invocable_v<Handle&, const mooring_message&, mooring_worker_call&>) {
      if constexpr (std::is_void_v<std::invoke_result_t<Handle&, const mooring_message&, mooring_worker_call&>>) {
        handle(message, call);
        return MOORING_ACK;
      } else {
        return handle(message, call);
      }
    } else if constexpr (std::is_void_v<std::invoke_result_t<Handle&, const mooring_message&>>) {
      handle(message);
      return MOORING_ACK;
    } else {
      return handle(message);
    }
  }

  template <class Handle>
  static int call(const mooring_message* message, mooring_worker_call* call, void* user) noexcept {
    try {
      return invoke(*reinterpret_cast<Handle*>(user), *message, *call);
    } catch (const PermanentError& error) {
      return failed(MOORING_REJECT, error.code(), error.what(), call);
    } catch (const RetryAfter& error) {
      call->delay_ns = static_cast<std::uint64_t>(error.delay().count() < 0 ? 0 : error.delay().count());
      return failed(MOORING_NACK, error.code(), error.what(), call);
    } catch (const std::exception& error) {
      return failed(MOORING_NACK, call->code, error.what(), call);
    } catch (...) {
      return failed(MOORING_NACK, call->code, "the handler threw something that is no std::exception", call);
    }
  }

  static int failed(int verdict, std::uint32_t code, const char* text, mooring_worker_call* call) noexcept {
    call->code = code;
    std::strncpy(call->text, text, sizeof call->text - 1);
    call->text[sizeof call->text - 1] = '\0';
    return verdict;
  }

  detail::Owner<mooring_worker, mooring_worker_close> handle_;
};

}  // namespace cxx_v1
}  // namespace mooring

#endif
