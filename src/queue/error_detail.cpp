#include "queue/error_detail.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace mooring {
namespace {

// A fixed buffer: telling of an error must not need memory.
thread_local std::array<char, 1024> detail{};

}  // namespace

Code fail_with(Code code, std::string_view text) {
  const std::size_t size = std::min(text.size(), detail.size() - 1);
  std::memcpy(detail.data(), text.data(), size);
  detail[size] = '\0';
  return code;
}

const char* error_detail() { return detail.data(); }

}  // namespace mooring
