// Which variants this build has and how a machine says that it can run one.
#include <cstddef>

#include "cpu/kernels.h"

namespace lreorg::cpu {

#ifdef LREORG_HAVE_AVX512
namespace avx512 {
extern const Kernels kernels;
}
bool avx512_supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
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
