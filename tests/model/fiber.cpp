#include "model/fiber.hpp"

#include <sys/mman.h>

#include "base/check.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define MOORING_MODEL_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MOORING_MODEL_ASAN 1
#endif
#endif
#ifdef MOORING_MODEL_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace mooring::model {
namespace {

constexpr std::size_t kGuardBytes = 4096;

// Who switched last, and to whom: the arriving side tells AddressSanitizer about both.
constinit thread_local Fiber* leaving = nullptr;
constinit thread_local Fiber* arriving = nullptr;

}  // namespace

#ifndef MOORING_MODEL_UCONTEXT
// Saves what the System V ABI lets a callee keep; everything else the compiler has already spilled around the call.
extern "C" void mooring_model_switch(void** save, void* load);
asm(R"(
.text
.p2align 4
.globl mooring_model_switch
.hidden mooring_model_switch
.type mooring_model_switch, @function
mooring_model_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size mooring_model_switch, .-mooring_model_switch
)");
#endif

Fiber::Fiber(std::size_t stack_bytes) : stack_bytes_(stack_bytes) {
  void* memory = ::mmap(nullptr, kGuardBytes + stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  MOORING_CHECK(memory != MAP_FAILED);
  // The page below the stack stays closed, so that an overflow is a fault and not a wrong result.
  MOORING_CHECK(::mprotect(memory, kGuardBytes, PROT_NONE) == 0);
  stack_ = static_cast<std::byte*>(memory) + kGuardBytes;
  bottom_ = stack_;
  bytes_ = stack_bytes;
}

Fiber::~Fiber() {
  if (stack_ == nullptr) return;
#ifdef MOORING_MODEL_ASAN
  __asan_unpoison_memory_region(stack_, stack_bytes_);
#endif
  ::munmap(stack_ - kGuardBytes, kGuardBytes + stack_bytes_);
}

void Fiber::prepare(Entry entry) {
#ifdef MOORING_MODEL_ASAN
  // Frames of an abandoned run left their red zones behind.
  __asan_unpoison_memory_region(stack_, stack_bytes_);
#endif
  fake_stack_ = nullptr;
#ifdef MOORING_MODEL_UCONTEXT
  ::getcontext(&context_);
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = stack_bytes_;
  context_.uc_link = nullptr;
  ::makecontext(&context_, entry, 0);
#else
  auto* top = reinterpret_cast<void**>(stack_ + stack_bytes_);
  // The return address of `entry`, which never returns; its place also gives the alignment the ABI wants at the start.
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);  // where the switch "returns" to
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  stack_pointer_ = top;
#endif
}

void Fiber::arrived([[maybe_unused]] Fiber* self) {
#ifdef MOORING_MODEL_ASAN
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(self->fake_stack_, &bottom, &bytes);
  if (leaving->stack_ == nullptr) {
    leaving->bottom_ = bottom;
    leaving->bytes_ = bytes;
  }
#endif
}

void Fiber::entered() { arrived(arriving); }

void Fiber::switch_to(Fiber& from, Fiber& to, [[maybe_unused]] bool gone) {
  leaving = &from;
  arriving = &to;
#ifdef MOORING_MODEL_ASAN
  __sanitizer_start_switch_fiber(gone ? nullptr : &from.fake_stack_, to.bottom_, to.bytes_);
#endif
#ifdef MOORING_MODEL_UCONTEXT
  ::swapcontext(&from.context_, &to.context_);
#else
  mooring_model_switch(&from.stack_pointer_, to.stack_pointer_);
#endif
  arrived(&from);
}

}  // namespace mooring::model
