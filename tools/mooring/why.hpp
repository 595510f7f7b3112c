// Why a group or a consumer does nothing, in a sentence, from what the files of a queue and /proc say: nobody is asked,
// so it works with every process dead. Dead, stopped and stuck are three things:
//
//   dead      its process is gone; the supervisor gives back what it held (at once, or when there is one again)
//   stopped   it lives and does not run (SIGSTOP, a debugger): what it holds stays its own
//   stuck     it runs, and has received, extended and settled nothing for longer than ack_wait with messages in hand
//
// TESTED BY  cli/why_test
#pragma once

#include <string>
#include <vector>

#include "inspect.hpp"

namespace mooring::cli {

// `state` is for programs and does not change, `text` is for people.
struct Reason {
  std::string state;
  std::string text;
};

struct WhyReport {
  std::vector<Reason> queue;  // that touch all of it; empty: none
  struct Group {
    std::string name;
    std::vector<Reason> reasons;  // the first one is the one to look at
  };
  std::vector<Group> groups;
  struct Consumer {
    HolderReport holder;
    Reason reason;
  };
  std::vector<Consumer> consumers;
};

WhyReport explain(const QueueReport& report);
Json to_json(const WhyReport& why);
void print(const WhyReport& why);

}  // namespace mooring::cli
