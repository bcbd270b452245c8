// Which variants this build has and how a machine says that it can run one. This file is compiled
// for the baseline, so nothing here runs an instruction that a machine may lack.
#include <cstddef>

#include "cpu/kernels.h"

namespace lreorg::cpu {

#ifdef LREORG_HAVE_AVX512
namespace avx512 {
extern const Kernels kernels;
}
// __builtin_cpu_supports asks CPUID and whether the operating system saves the registers.
bool avx512_supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
#endif

#if defined(LREORG_HAVE_AVX512_BF16) || defined(LREORG_HAVE_AMX)
// The elementwise part and the products with float32 activations stay those of AVX-512.
static Kernels on_avx512(const char* name, bool (*supported)(), const Arithmetic& bfloat16,
                         const Arithmetic& int8) {
  Kernels kernels = avx512::kernels;
  kernels.name = name;
  kernels.supported = supported;
  kernels.fast[static_cast<std::size_t>(WeightType::bfloat16)] = bfloat16;
  kernels.fast[static_cast<std::size_t>(WeightType::int8)] = int8;
  return kernels;
}
#endif

#ifdef LREORG_HAVE_AVX512_BF16
namespace avx512_bf16 {
extern const Arithmetic bfloat16, int8;

static bool supported() {
  return avx512_supported() && __builtin_cpu_supports("avx512bf16") &&
         __builtin_cpu_supports("avx512vnni");
}

static const Kernels& kernels() {
  static const Kernels made = on_avx512("avx512_bf16", supported, bfloat16, int8);
  return made;
}
}  // namespace avx512_bf16
#endif

#ifdef LREORG_HAVE_AMX
namespace amx {
extern const Arithmetic bfloat16, int8;
bool request_permission();
void enter_thread();
void leave_thread();

static bool supported() {
  // CPUID leaf 7, EDX: bit 22 AMX-BF16, bit 24 AMX-TILE. The operating system must agree as well.
  unsigned eax = 7, ebx = 0, ecx = 0, edx = 0;
  __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  constexpr unsigned kNeeded = 1u << 22 | 1u << 24;
  static const bool answer = avx512_supported() && __builtin_cpu_supports("avx512vbmi") &&
                             (edx & kNeeded) == kNeeded && request_permission();
  return answer;
}

static const Kernels& kernels() {
  static const Kernels made = [] {
    Kernels amx = on_avx512("amx", supported, bfloat16, int8);
    amx.enter_thread = enter_thread;
    amx.leave_thread = leave_thread;
    return amx;
  }();
  return made;
}
}  // namespace amx
#endif

#ifdef LREORG_HAVE_AVX2
namespace avx2 {
extern const Kernels kernels;
}
bool avx2_supported() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2");
}
#endif
namespace generic {
extern const Kernels kernels;
}
bool generic_supported() {
  return true;
}

KernelList all_kernels() {
  static const Kernels* const items[] = {
#ifdef LREORG_HAVE_AMX
      &amx::kernels(),
#endif
#ifdef LREORG_HAVE_AVX512_BF16
      &avx512_bf16::kernels(),
#endif
#ifdef LREORG_HAVE_AVX512
      &avx512::kernels,
#endif
#ifdef LREORG_HAVE_AVX2
      &avx2::kernels,
#endif
      &generic::kernels,
  };
  return {items, sizeof(items) / sizeof(items[0])};
}

}  // namespace lreorg::cpu
