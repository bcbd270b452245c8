#include "cpu/openmp.h"

#if defined(__linux__)
#include <dlfcn.h>
#include <link.h>

#include <string_view>
#endif

namespace lreorg::cpu {

#if defined(__linux__)
namespace {

// The library stays loaded, as Python never unloads it.
int find_torch(dl_phdr_info* info, std::size_t, void* handle) {
  if (!std::string_view(info->dlpi_name).ends_with("/libtorch_cpu.so")) return 0;
  *static_cast<void**>(handle) = dlopen(info->dlpi_name, RTLD_NOLOAD | RTLD_LAZY);
  return 1;
}

template <typename Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

// Names are looked up as PyTorch's library sees them: a process may have several runtimes.
bool find_runtime(OpenMP& runtime) {
  void* torch = nullptr;
  dl_iterate_phdr(find_torch, &torch);
  return torch != nullptr && find(torch, "GOMP_parallel", runtime.parallel) &&
         find(torch, "omp_get_max_threads", runtime.max_threads) &&
         find(torch, "omp_get_num_threads", runtime.num_threads) &&
         find(torch, "omp_get_thread_num", runtime.thread_num);
}

}  // namespace

const OpenMP* torch_openmp() {
  static OpenMP runtime;
  static const bool found = find_runtime(runtime);
  return found ? &runtime : nullptr;
}
#else
const OpenMP* torch_openmp() {
  return nullptr;
}
#endif

}  // namespace lreorg::cpu
