#include "cpu/networks/threads.h"

#include <exception>
#include <mutex>
#include <string_view>

#if defined(__linux__)
#include <dlfcn.h>
#include <link.h>
#endif

namespace lreorg::cpu::networks {
namespace {

struct OpenMp {
  void (*parallel)(void (*)(void*), void*, unsigned, unsigned) = nullptr;
  int (*rank)() = nullptr;
  int (*size)() = nullptr;
  explicit operator bool() const { return parallel && rank && size; }
};

#if defined(__linux__)

// The library stays loaded, as Python never unloads it.
int find_torch(dl_phdr_info* info, std::size_t, void* handle) {
  if (!std::string_view(info->dlpi_name).ends_with("/libtorch_cpu.so")) return 0;
  *static_cast<void**>(handle) = dlopen(info->dlpi_name, RTLD_NOLOAD | RTLD_LAZY);
  return 1;
}

// Names are looked up as PyTorch's library sees them: a process may have several OpenMPs.
OpenMp torch_openmp() {
  void* torch = nullptr;
  dl_iterate_phdr(find_torch, &torch);
  if (torch == nullptr) return {};
  OpenMp found;
  found.parallel = reinterpret_cast<decltype(OpenMp::parallel)>(dlsym(torch, "GOMP_parallel"));
  found.rank = reinterpret_cast<decltype(OpenMp::rank)>(dlsym(torch, "omp_get_thread_num"));
  found.size = reinterpret_cast<decltype(OpenMp::size)>(dlsym(torch, "omp_get_num_threads"));
  return found;
}

#else

OpenMp torch_openmp() {
  return {};
}

#endif

// An exception may not leave a parallel region: the first one is kept and thrown after it.
struct Region {
  const OpenMp& openmp;
  Job& job;
  std::mutex mutex;
  std::exception_ptr error;

  static void enter(void* region) { static_cast<Region*>(region)->work(); }
  void work() {
    try {
      job.work(static_cast<std::size_t>(openmp.rank()), static_cast<std::size_t>(openmp.size()));
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
      job.cancel();
    }
  }
};

}  // namespace

void run_beside_torch(std::size_t threads, Job& job) {
  static const OpenMp openmp = torch_openmp();
  if (!openmp || threads <= 1) {
    Team::shared().run(threads, job);
    return;
  }
  job.start(threads);
  Region region{openmp, job, {}, nullptr};
  openmp.parallel(Region::enter, &region, static_cast<unsigned>(threads), 0);
  if (region.error) std::rethrow_exception(region.error);
}

}  // namespace lreorg::cpu::networks
