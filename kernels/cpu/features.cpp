// Compiled for the baseline, so nothing here runs an instruction that a machine may lack.
#include "cpu/features.h"

namespace lreorg::cpu {

#if defined(__x86_64__)
// __builtin_cpu_supports asks CPUID and whether the operating system saves the registers.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2");
}

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

bool has_avx512_bf16() {
  return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

bool has_amx_bf16() {
  // CPUID leaf 7, EDX: bit 22 AMX-BF16, bit 24 AMX-TILE.
  unsigned eax = 7, ebx = 0, ecx = 0, edx = 0;
  __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  constexpr unsigned kNeeded = 1u << 22 | 1u << 24;
  return has_avx512() && (edx & kNeeded) == kNeeded;
}
#else
bool has_avx2() {
  return false;
}
bool has_avx512() {
  return false;
}
bool has_avx512_bf16() {
  return false;
}
bool has_amx_bf16() {
  return false;
}
#endif

}  // namespace lreorg::cpu
