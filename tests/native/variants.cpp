#include "variants.h"

#include <atomic>
#include <deque>

// kernels/cpu/amx.cpp, compiled with LREORG_EMULATE_TILES and amx as another name.
#define DECLARE_EMULATED(name)            \
  namespace lreorg::cpu::name {           \
  extern const Arithmetic bfloat16, int8; \
  void enter_thread();                    \
  void leave_thread();                    \
  }
DECLARE_EMULATED(emulated_amx)
#ifdef LREORG_EMULATE_WITH_VBMI
DECLARE_EMULATED(emulated_amx_vbmi)
#endif

namespace lreorg::test {
namespace {

std::atomic<int> inside{0};

template <void (*Enter)()>
void enter_thread() {
  ++inside;
  Enter();
}

template <void (*Leave)()>
void leave_thread() {
  Leave();
  --inside;
}

// The rest is that of the fastest variant without tiles, as in registry.cpp.
template <void (*Enter)(), void (*Leave)()>
cpu::Kernels emulated(const char* name, cpu::Kernels kernels, const cpu::Arithmetic& bfloat16,
                      const cpu::Arithmetic& int8) {
  kernels.name = name;
  kernels.fast[static_cast<std::size_t>(WeightType::bfloat16)] = bfloat16;
  kernels.fast[static_cast<std::size_t>(WeightType::int8)] = int8;
  kernels.enter_thread = enter_thread<Enter>;
  kernels.leave_thread = leave_thread<Leave>;
  return kernels;
}

std::deque<cpu::Kernels> make_variants() {
  const cpu::KernelList list = cpu::all_kernels();
  std::deque<cpu::Kernels> found;
  for (std::size_t i = 0; i < list.size; ++i) {
    if (list.items[i]->supported()) found.push_back(*list.items[i]);
  }
  const cpu::Kernels rest = found.front();
  namespace plain = cpu::emulated_amx;
  found.push_back(emulated<plain::enter_thread, plain::leave_thread>("amx, emulated", rest,
                                                                     plain::bfloat16, plain::int8));
#ifdef LREORG_EMULATE_WITH_VBMI
  if (__builtin_cpu_supports("avx512vbmi")) {
    namespace vbmi = cpu::emulated_amx_vbmi;
    found.push_back(emulated<vbmi::enter_thread, vbmi::leave_thread>(
        "amx with vbmi, emulated", rest, vbmi::bfloat16, vbmi::int8));
  }
#endif
  return found;
}

}  // namespace

const std::deque<cpu::Kernels>& variants() {
  static const std::deque<cpu::Kernels> made = make_variants();
  return made;
}

int threads_with_tiles() {
  return inside;
}

}  // namespace lreorg::test
