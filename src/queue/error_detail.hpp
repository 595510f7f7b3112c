// The thread's last story: what mooring_error_detail() returns.
#pragma once

#include <string>
#include <string_view>

#include "base/error.hpp"

namespace mooring {

// Keeps `text` for this thread and returns `code`, so that a fast path can say `return fail_with(...)`.
Code fail_with(Code code, std::string_view text);
inline Code fail_with(const Error& error) { return fail_with(error.code, error.text); }
// Never null; empty if no call of this thread has failed yet.
const char* error_detail();

}  // namespace mooring
