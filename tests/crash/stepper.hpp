// Runs one operation in a child process, one machine instruction at a time: kill it, or leave it stopped, wherever you
// like. (Reliability design, appendix B.)
//
// The child is a fork of the test, so it has the same handles and the same shared block at the same addresses, and the
// same operation takes the same number of instructions each time. The operation stands between two stops that the child
// makes itself; a repeated string instruction counts once for each repetition.
//
// While the child is stopped nobody else runs in it: the parent may change the shared block (others work on), or change
// it and put it back (what would recovery make of it now?).
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "base/bytes.hpp"

namespace mooring::test {

class Stepper {
 public:
  enum class Step { kStepped, kEnded, kCrashed };

  // Forks. The child waits before the first instruction of `operation`; `afterwards` runs after the second stop,
  // unwatched, and then the child exits.
  Stepper(const std::function<void()>& operation, const std::function<void()>& afterwards);
  ~Stepper() { kill(); }  // whatever is left of the child
  Stepper(const Stepper&) = delete;
  Stepper& operator=(const Stepper&) = delete;

  // One instruction. kEnded: the operation is over.
  Step step();
  // `count` instructions, or fewer if the operation ends before.
  Step steps(u64 count);
  // Where the next instruction stands.
  u64 address() const;
  // Runs at full speed to where `address` is reached for the `occurrence`-th time (0: the first; where the child stands
  // now counts), as steps() would get there, but some hundred times faster: a breakpoint. kStepped, kEnded or kCrashed.
  Step run_to(u64 address, u64 occurrence);
  static constexpr bool can_run_to();
  // On to the end of the operation at full speed; true if it got there.
  bool run_to_end();
  // `afterwards` and exit; true if the child left with status 0. Only after the end was reached.
  bool finish();
  // SIGKILL, and waits until the child is gone.
  void kill();

  // What went wrong, for a message; empty if nothing did.
  const std::string& trouble() const { return trouble_; }

  // Why processes cannot be stepped here, or empty.
  static std::string unavailable();
  // Address randomisation off for this process and its children, by running the program again. False: not permitted;
  // counts are then the same within one run only.
  static bool pin_addresses(char** argv);

 private:
  bool wait_for_marker();
  int wait_past_outsiders();  // waits for a stop or an end that is the child's own; its status
  Step crashed(int status);
  Step wait_for_breakpoint(u64 address);

  pid_t child_ = -1;
  bool ended_ = false;
  std::string trouble_;
};

constexpr bool Stepper::can_run_to() {
#if defined(__x86_64__)
  return true;
#else
  return false;  // step instead
#endif
}

}  // namespace mooring::test
