#include "base/error.hpp"

#include <cerrno>
#include <system_error>

namespace mooring {

std::string_view code_text(Code code) {
  switch (code) {
    case Code::kOk: return "ok";
    case Code::kEmpty: return "empty: nothing is ready to be received";
    case Code::kFull: return "full: no room until a consumer acknowledges";
    case Code::kTimeout: return "timed out";
    case Code::kStale: return "stale: this delivery was already settled or taken back";
    case Code::kExpired: return "expired";
    case Code::kPaused: return "paused";
    case Code::kDuplicate: return "duplicate";
    case Code::kInterrupted: return "interrupted by a signal; nothing was taken";
    case Code::kNoSuchQueue: return "no such queue";
    case Code::kExists: return "exists already with other options";
    case Code::kTooBig: return "too big for this queue";
    case Code::kBadArgument: return "bad argument";
    case Code::kPermission: return "permission denied";
    case Code::kNoSeat: return "no seat is free";
    case Code::kVersion: return "version mismatch";
    case Code::kCorrupt: return "corrupt shared data";
    case Code::kNoSupervisor: return "no supervisor is running";
    case Code::kIo: return "input/output failed";
    case Code::kDiskFull: return "disk or shared memory is full";
    case Code::kClosed: return "closed";
    case Code::kForked: return "this handle belongs to the parent process";
    case Code::kNoMemory: return "out of memory";
  }
  return "unknown code";
}

tl::unexpected<Error> fail_errno(int error_number, std::string text, Code otherwise) {
  Code code = otherwise;
  switch (error_number) {
    case EACCES:
    case EPERM: code = Code::kPermission; break;
    case ENOSPC:
    case EDQUOT: code = Code::kDiskFull; break;
    case ENOMEM:
    case EMFILE:
    case ENFILE: code = Code::kNoMemory; break;
    default: break;
  }
  text += ": ";
  text += std::generic_category().message(error_number);
  return fail(code, std::move(text));
}

}  // namespace mooring
