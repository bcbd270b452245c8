// PyTorch's OpenMP runtime, found at run time.
//
// PyTorch's operators run on OpenMP threads, and those keep spinning for milliseconds after each
// operator, in case another one follows. Threads of our own would have to share cores with them:
// one face right after a convolution took 46 to 66 ms on two cores instead of 35. On the same
// threads it takes 35. Nothing links to OpenMP: there would be two runtimes, each with threads of
// its own.
#pragma once

namespace lreorg::cpu {

struct OpenMP {
  // The interface between compilers and GNU's runtime, stable since GCC 4.9; LLVM's runtime has it
  // as well on Linux. Calls body(data) on `threads` threads or fewer.
  void (*parallel)(void (*body)(void*), void* data, unsigned threads, unsigned flags);
  int (*max_threads)();  // of the calling thread's next region; torch.set_num_threads sets it
  int (*num_threads)();  // of the running region
  int (*thread_num)();
};

// Null where PyTorch is not loaded, or not on Linux, or has another runtime.
const OpenMP* torch_openmp();

}  // namespace lreorg::cpu
