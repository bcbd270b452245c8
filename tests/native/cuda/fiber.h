// A computation with a stack of its own that can be left and resumed: what a CUDA thread is here.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace lreorg::emulator {

// Where a computation stands. AddressSanitizer is told of every change of stack.
struct Context {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t registers;
#endif
  void* stack = nullptr;  // lowest address; unknown for the thread that resumes the fibers
  std::size_t stack_bytes = 0;
  void* shadow = nullptr;  // AddressSanitizer's
};

// Makes `context` start in `entry`, which never returns, when it is first resumed.
void prepare(Context& context, void* stack, std::size_t bytes, void (*entry)());

// Leaves `from` until something switches to it again. `last`: it will never be.
void switch_context(Context& from, Context& to, bool last = false);

// To be called first thing in an entry.
void arrived();

// Stacks of equal size, each above a page that cannot be touched.
class Stacks {
 public:
  Stacks(std::size_t count, std::size_t bytes);
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;
  ~Stacks();

  void* stack(std::size_t index) const { return memory_ + index * stride_ + guard_; }
  std::size_t bytes() const { return stride_ - guard_; }

 private:
  std::size_t guard_;
  std::size_t stride_;
  std::size_t total_;
  std::byte* memory_;
};

}  // namespace lreorg::emulator
