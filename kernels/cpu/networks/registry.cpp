// Which variants of the networks' passes this build has, and what this CPU multiplies.
#include <stdexcept>

#include "cpu/features.h"
#include "cpu/networks/pointwise.h"
#include "cpu/networks/winograd.h"

namespace lreorg::cpu::networks {

#ifdef LREORG_HAVE_AVX512
namespace avx512 {
extern const PointwiseVariant pointwise;
}
#endif
#ifdef LREORG_HAVE_AVX2
namespace avx2 {
extern const PointwiseVariant pointwise;
}
#endif
namespace generic {
extern const PointwiseVariant pointwise;
}

PointwiseList pointwise_variants() {
  static const PointwiseVariant* const items[] = {
#ifdef LREORG_HAVE_AVX512
      &avx512::pointwise,
#endif
#ifdef LREORG_HAVE_AVX2
      &avx2::pointwise,
#endif
      &generic::pointwise,
  };
  return {items, sizeof(items) / sizeof(items[0])};
}

bool multiplies_bfloat16() {
  return has_avx512_bf16() || has_amx_bf16();
}

#ifdef LREORG_HAVE_AVX512_BF16
bool winograd_pays() {
  return has_avx512_bf16() && !has_amx_bf16();
}
#else
bool winograd_pays() {
  return false;
}
std::size_t winograd_scratch(const Winograd&) {
  throw std::logic_error("this build has no Winograd convolution.");
}
void winograd(const Winograd&, std::size_t, std::size_t, void*) {
  throw std::logic_error("this build has no Winograd convolution.");
}
#endif

}  // namespace lreorg::cpu::networks
