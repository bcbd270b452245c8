#include "cuda/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define LREORG_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LREORG_ASAN 1
#endif
#endif
#ifdef LREORG_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// void lreorg_switch_stack(void** left, void* resumed): the registers that a called function must
// keep (System V ABI) stay on the stack that is left.
extern "C" void lreorg_switch_stack(void** left, void* resumed);
asm(R"(
.text
.p2align 4
.globl lreorg_switch_stack
.hidden lreorg_switch_stack
.type lreorg_switch_stack, @function
lreorg_switch_stack:
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
.size lreorg_switch_stack, . - lreorg_switch_stack
)");
#endif

namespace lreorg::emulator {
namespace {

void switch_registers(Context& from, Context& to) {
#if defined(__x86_64__)
  lreorg_switch_stack(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.registers, &to.registers);
#endif
}

#ifdef LREORG_ASAN
Context* left;

// What was left may be the thread that resumes the fibers: its stack is only known from here.
void finish_switch(void* shadow) {
  const void* stack = nullptr;
  __sanitizer_finish_switch_fiber(shadow, &stack, &left->stack_bytes);
  left->stack = const_cast<void*>(stack);
}
#endif

}  // namespace

void prepare(Context& context, void* stack, std::size_t bytes, void (*entry)()) {
  context.stack = stack;
  context.stack_bytes = bytes;
  context.shadow = nullptr;
#ifdef LREORG_ASAN
  __asan_unpoison_memory_region(stack, bytes);  // a fiber before it may have left frames
#endif
#if defined(__x86_64__)
  constexpr int kSavedRegisters = 6;
  void** top = reinterpret_cast<void**>(static_cast<std::byte*>(stack) + bytes);
  *--top = nullptr;  // the return address of entry; the stack is aligned as after a call
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  context.stack_pointer = top;
#else
  getcontext(&context.registers);
  context.registers.uc_stack.ss_sp = stack;
  context.registers.uc_stack.ss_size = bytes;
  context.registers.uc_link = nullptr;
  makecontext(&context.registers, entry, 0);
#endif
}

void switch_context(Context& from, Context& to, [[maybe_unused]] bool last) {
#ifdef LREORG_ASAN
  left = &from;
  __sanitizer_start_switch_fiber(last ? nullptr : &from.shadow, to.stack, to.stack_bytes);
#endif
  switch_registers(from, to);
#ifdef LREORG_ASAN
  finish_switch(from.shadow);
#endif
}

void arrived() {
#ifdef LREORG_ASAN
  finish_switch(nullptr);
#endif
}

Stacks::Stacks(std::size_t count, std::size_t bytes)
    : guard_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))),
      stride_((bytes + guard_ - 1) / guard_ * guard_ + guard_),
      total_(count * stride_) {
  void* memory = mmap(nullptr, total_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<std::byte*>(memory);
  for (std::size_t i = 0; i < count; ++i) {
    if (mprotect(memory_ + i * stride_, guard_, PROT_NONE) == 0) continue;
    munmap(memory_, total_);
    throw std::bad_alloc();
  }
}

Stacks::~Stacks() {
#ifdef LREORG_ASAN
  __asan_unpoison_memory_region(memory_, total_);
#endif
  munmap(memory_, total_);
}

}  // namespace lreorg::emulator
