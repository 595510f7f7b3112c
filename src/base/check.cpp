#include "base/check.hpp"

#include <cstdio>
#include <cstdlib>

namespace mooring {

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "mooring: internal check failed: %s (%s:%d); please report this\n", condition, file, line);
  std::abort();
}

}  // namespace mooring
