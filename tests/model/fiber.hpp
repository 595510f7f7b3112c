// Fibers for the interleaving explorer: several stacks on one OS thread, switched by hand.
//
// swapcontext(3) makes a system call at each switch (it saves the signal mask), which would be most of the time of an
// exploration; x86-64 therefore has a switch of its own, and other machines use ucontext.
// A fiber may be abandoned: nothing on its stack is destroyed, as nothing is when a process is killed.
#pragma once

#include <cstddef>

#if !defined(__x86_64__) && !defined(MOORING_MODEL_UCONTEXT)
#define MOORING_MODEL_UCONTEXT 1
#endif
#ifdef MOORING_MODEL_UCONTEXT
#include <ucontext.h>
#endif

namespace mooring::model {

class Fiber {
 public:
  using Entry = void (*)();

  Fiber() = default;  // the stack of the caller
  explicit Fiber(std::size_t stack_bytes);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next switch to this fiber starts `entry` on an empty stack. `entry` calls Fiber::entered() first and never
  // returns.
  void prepare(Entry entry);
  static void entered();

  // `gone`: nobody switches back to `from` before it is prepared again.
  static void switch_to(Fiber& from, Fiber& to, bool gone);

 private:
  static void arrived(Fiber* self);

  std::byte* stack_ = nullptr;
  std::size_t stack_bytes_ = 0;
#ifdef MOORING_MODEL_UCONTEXT
  ucontext_t context_{};
#else
  void* stack_pointer_ = nullptr;
#endif
  // What AddressSanitizer wants to know about a stack.
  void* fake_stack_ = nullptr;
  const void* bottom_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace mooring::model
