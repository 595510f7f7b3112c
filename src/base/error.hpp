// Results and errors inside Mooring: no exceptions on any path that touches shared memory.
//
// A failure is a code (the vocabulary of docs, see include/mooring/mooring.h) and one sentence that says what
// happened, to which object, and what to do. Ordinary outcomes of a queue (empty, full) are codes too, small and
// positive, and carry no text: running out is an answer, not an error.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace mooring {

// The numbers are the frozen values of the C API; capi/ asserts that they agree.
enum class Code : int {
  kOk = 0,
  // Ordinary outcomes.
  kEmpty = 1,
  kFull = 2,
  kTimeout = 3,
  kStale = 4,
  kExpired = 5,
  kPaused = 6,
  kDuplicate = 7,
  kInterrupted = 8,
  // Failures. Below -4095, so that they never meet a -errno.
  kNoSuchQueue = -5001,
  kExists = -5002,
  kTooBig = -5003,
  kBadArgument = -5004,
  kPermission = -5005,
  kNoSeat = -5006,
  kVersion = -5007,
  kCorrupt = -5008,
  kNoSupervisor = -5009,
  kIo = -5010,
  kDiskFull = -5011,
  kClosed = -5012,
  kForked = -5013,
  kNoMemory = -5014,
};

// Static text of a code: "no such queue". Never null.
std::string_view code_text(Code code);

struct Error {
  Code code = Code::kOk;
  std::string text;  // what happened, to which object, what to do
};

template <class T>
using Result = tl::expected<T, Error>;
using Status = tl::expected<void, Error>;

// `return fail(Code::kIo, "...")` from any function that returns a Result or a Status.
inline tl::unexpected<Error> fail(Code code, std::string text) {
  return tl::unexpected<Error>(Error{code, std::move(text)});
}
inline tl::unexpected<Error> fail(Error error) { return tl::unexpected<Error>(std::move(error)); }

// The same with the text of an errno value at the end: "cannot open /x/y: Permission denied".
// EACCES and EPERM become kPermission, ENOSPC kDiskFull, ENOMEM/EMFILE/ENFILE kNoMemory, others `otherwise`.
tl::unexpected<Error> fail_errno(int error_number, std::string text, Code otherwise = Code::kIo);

}  // namespace mooring
