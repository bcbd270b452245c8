#include "cpu/openmp.h"

#if defined(__linux__)
#include <dlfcn.h>
#endif

namespace lreorg::cpu {
namespace {

#if defined(__linux__)
template <typename Function>
bool find(const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
  return function != nullptr;
}
#endif

}  // namespace

const OpenMP* loaded_openmp() {
#if defined(__linux__)
  static OpenMP runtime;
  static const bool found = find("GOMP_parallel", runtime.parallel) &&
                            find("omp_get_max_threads", runtime.max_threads) &&
                            find("omp_get_num_threads", runtime.num_threads) &&
                            find("omp_get_thread_num", runtime.thread_num);
  return found ? &runtime : nullptr;
#else
  return nullptr;
#endif
}

}  // namespace lreorg::cpu
