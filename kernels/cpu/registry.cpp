// Which variants this build has and when a machine can run one.
#include <cstddef>

#include "cpu/features.h"
#include "cpu/kernels.h"

namespace lreorg::cpu {

#ifdef LREORG_HAVE_AVX512
namespace avx512 {
extern const Kernels kernels;
}
bool avx512_supported() {
  return has_avx512();
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
  return has_avx512_bf16() && __builtin_cpu_supports("avx512vnni");
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
  static const bool answer =
      has_amx_bf16() && __builtin_cpu_supports("avx512vbmi") && request_permission();
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
  return has_avx2();
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
