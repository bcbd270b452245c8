// What the processor has and the operating system enables.
#pragma once

namespace lreorg::cpu {

bool has_avx2();         // with FMA and BMI2
bool has_avx512();       // F, BW, CD, DQ, VL
bool has_avx512_bf16();  // and AVX-512 as above
bool has_amx_bf16();     // in the processor: a process still has to ask the system for the tiles

}  // namespace lreorg::cpu
