// Facts about the machine that belong beside every number.
#pragma once

#include <string>

namespace mooring::bench {

struct MachineFacts {
  std::string cpu;          // model name; empty if it cannot be read
  unsigned cores = 0;       // CPUs this process may use
  std::string kernel;       // uname release
  std::string compiler;     // and whether assertions or sanitizers slow the program down
  bool pinned = false;      // every role of this measurement had its own CPU; set by whoever measured
  std::string governor;     // empty if not readable (most guests)
  std::string clocksource;  // empty if not readable
};

MachineFacts read_machine_facts();

}  // namespace mooring::bench
