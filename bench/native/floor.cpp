// What the machine can do at best, for the floors of docs/benchmarks.md. x86-64, GCC or Clang:
//
//   floor read BYTES THREADS        GB/s of reading BYTES of memory again and again
//   floor rate INSTRUCTION THREADS  1e9 operations a second (a multiply and an add are two), or
//                                   "unsupported" where CPUID or the system does not offer it
//
// Prints one number. The loops of `rate` are assembly without operands in memory: a compiler that
// spills an accumulator would halve the figure.

#include <immintrin.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int kSamples = 12;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Seconds of `work(thread)` on every thread at once, from the first one's start to the last one's
// end; the least of a few samples, because what disturbs a sample only ever slows it down. The
// threads live through all samples: the system takes a while to give each a processor of its own.
double best_seconds(int threads, const std::function<void(int)>& work) {
  std::atomic<int> arrived{0};
  std::vector<std::array<double, kSamples>> start(threads), end(threads);
  std::vector<std::thread> team;
  for (int t = 0; t < threads; ++t) {
    team.emplace_back([&, t] {
      for (int sample = 0; sample < kSamples; ++sample) {
        arrived.fetch_add(1);
        while (arrived.load() < (sample + 1) * threads) std::this_thread::yield();
        start[t][sample] = now();
        work(t);
        end[t][sample] = now();
      }
    });
  }
  for (std::thread& thread : team) thread.join();
  double best = 1e300;
  for (int sample = 0; sample < kSamples; ++sample) {
    double first = start[0][sample], last = end[0][sample];
    for (int t = 1; t < threads; ++t) {
      first = std::min(first, start[t][sample]);
      last = std::max(last, end[t][sample]);
    }
    best = std::min(best, last - first);
  }
  return best;
}

// ---- reading memory

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kLine = 64;
constexpr int kPasses = 10;  // as many as the dependent steps of the default reorganization

volatile std::uint64_t sink;

__attribute__((target("avx512f"))) void read_avx512(const char* from, const char* to) {
  __m512i sum[4] = {};
  for (; from < to; from += 4 * kLine) {
    for (int i = 0; i < 4; ++i) {
      _mm_prefetch(from + 2048 + i * kLine, _MM_HINT_T0);
      sum[i] = _mm512_or_si512(sum[i], _mm512_load_si512(from + i * kLine));
    }
  }
  const __m512i all =
      _mm512_or_si512(_mm512_or_si512(sum[0], sum[1]), _mm512_or_si512(sum[2], sum[3]));
  sink = static_cast<std::uint64_t>(_mm512_reduce_or_epi64(all));
}

// Two loads a line are not what limits this: it runs where there is no AVX-512.
void read_sse2(const char* from, const char* to) {
  __m128i sum[4] = {};
  for (; from < to; from += kLine) {
    _mm_prefetch(from + 2048, _MM_HINT_T0);
    for (int i = 0; i < 4; ++i) {
      const __m128i* at = reinterpret_cast<const __m128i*>(from) + i;
      sum[i] = _mm_or_si128(sum[i], _mm_load_si128(at));
    }
  }
  const __m128i all = _mm_or_si128(_mm_or_si128(sum[0], sum[1]), _mm_or_si128(sum[2], sum[3]));
  sink = static_cast<std::uint64_t>(_mm_cvtsi128_si64(all));
}

int read_memory(std::size_t bytes, int threads) {
  const std::size_t chunk = (bytes / threads) / (4 * kLine) * (4 * kLine);
  const std::size_t mapped = (bytes + 2 * kHugePage) / kHugePage * kHugePage;
  void* memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("mmap");
    return 1;
  }
  const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(memory);
  char* begin = reinterpret_cast<char*>((address + kHugePage - 1) / kHugePage * kHugePage);
  madvise(begin, mapped - (begin - static_cast<char*>(memory)), MADV_HUGEPAGE);
  std::memset(begin, 1, chunk * threads);
  const auto read = __builtin_cpu_supports("avx512f") ? read_avx512 : read_sse2;
  const double seconds = best_seconds(threads, [&](int t) {
    for (int pass = 0; pass < kPasses; ++pass) read(begin + t * chunk, begin + (t + 1) * chunk);
  });
  std::printf("%.2f\n", 1e-9 * kPasses * chunk * threads / seconds);
  return 0;
}

// ---- arithmetic

// 12 and 20 accumulators cover latency x width of every x86-64 core so far.
#define TIMES_12(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11)
#define TIMES_20(F) TIMES_12(F) F(12) F(13) F(14) F(15) F(16) F(17) F(18) F(19)

#define LOOP(NAME, ZERO, BODY, ...)                                               \
  void NAME(std::int64_t count) {                                                 \
    asm volatile(ZERO "1:\n" BODY "dec %0\njnz 1b\n" : "+r"(count)::__VA_ARGS__); \
  }

// Zeros in, zeros out: no denormal and no overflow slows an instruction down.
#define ZERO_YMM(i) "vxorps %%ymm" #i ",%%ymm" #i ",%%ymm" #i "\n"
#define ZERO_ZMM(i) "vpxord %%zmm" #i ",%%zmm" #i ",%%zmm" #i "\n"
#define ZERO_256 TIMES_12(ZERO_YMM) ZERO_YMM(14) ZERO_YMM(15)
#define ZERO_512 TIMES_20(ZERO_ZMM) ZERO_ZMM(30) ZERO_ZMM(31)

#define FMA_256(i) "vfmadd231ps %%ymm14,%%ymm15,%%ymm" #i "\n"
#define FMA_512(i) "vfmadd231ps %%zmm30,%%zmm31,%%zmm" #i "\n"
#define BF16_512(i) "vdpbf16ps %%zmm30,%%zmm31,%%zmm" #i "\n"
#define INT8_512(i) "vpdpbusd %%zmm30,%%zmm31,%%zmm" #i "\n"

#define XMM_LOW                                                                            \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

// The upper sixteen registers cannot be named as clobbered without -mavx512f; nothing else in this
// file keeps values there across a call.
LOOP(fma_256, ZERO_256, TIMES_12(FMA_256), "cc", XMM_LOW)
LOOP(fma_512, ZERO_512, TIMES_20(FMA_512), "cc", XMM_LOW)
LOOP(bf16_512, ZERO_512, TIMES_20(BF16_512), "cc", XMM_LOW)
LOOP(int8_512, ZERO_512, TIMES_20(INT8_512), "cc", XMM_LOW)

// Tiles of 16 rows x 64 bytes: four accumulators, two left and two right operands.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

#define ZERO_TILE(i) "tilezero %%tmm" #i "\n"
#define ZERO_TILES \
  ZERO_TILE(0)     \
  ZERO_TILE(1) ZERO_TILE(2) ZERO_TILE(3) ZERO_TILE(4) ZERO_TILE(5) ZERO_TILE(6) ZERO_TILE(7)
#define TILES(OP)                                                                           \
  OP " %%tmm6,%%tmm4,%%tmm0\n" OP " %%tmm7,%%tmm4,%%tmm1\n" OP " %%tmm6,%%tmm5,%%tmm2\n" OP \
     " %%tmm7,%%tmm5,%%tmm3\n"
#define TILE_LOOP(NAME, OP)                                                                   \
  void NAME(std::int64_t count) {                                                             \
    const TileConfig config;                                                                  \
    asm volatile("ldtilecfg %1\n" ZERO_TILES "1:\n" TILES(OP) "dec %0\njnz 1b\ntilerelease\n" \
                 : "+r"(count)                                                                \
                 : "m"(config)                                                                \
                 : "cc");                                                                     \
  }
TILE_LOOP(amx_bf16, "tdpbf16ps")
TILE_LOOP(amx_int8, "tdpbssd")

bool cpuid_bit(unsigned leaf, unsigned subleaf, int which, int bit) {
  unsigned eax, ebx, ecx, edx;
  asm volatile("cpuid" : "=a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx) : "a"(leaf), "c"(subleaf));
  const unsigned registers[4] = {eax, ebx, ecx, edx};
  return (registers[which] >> bit) & 1u;
}

enum Register { kEax, kEbx, kEcx, kEdx };

bool has_avx2_fma() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

bool has_avx512() {
  return __builtin_cpu_supports("avx512f");
}

bool has_avx512_bf16() {
  return has_avx512() && cpuid_bit(7, 1, kEax, 5);
}

bool has_avx512_vnni() {
  return has_avx512() && cpuid_bit(7, 0, kEcx, 11);
}

// Linux gives a process its tile registers when it asks.
bool has_amx(int bit) {
#ifdef __linux__
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return cpuid_bit(7, 0, kEdx, 24) && cpuid_bit(7, 0, kEdx, bit) &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

struct Instruction {
  const char* name;
  bool (*supported)();
  void (*loop)(std::int64_t);
  double operations;  // of one iteration
  std::int64_t count;
};

constexpr Instruction kInstructions[] = {
    {"fma-256", has_avx2_fma, fma_256, 12 * 16, 2'000'000},
    {"fma-512", has_avx512, fma_512, 20 * 32, 1'000'000},
    {"vdpbf16ps", has_avx512_bf16, bf16_512, 20 * 64, 1'000'000},
    {"vpdpbusd", has_avx512_vnni, int8_512, 20 * 128, 1'000'000},
    {"tdpbf16ps", [] { return has_amx(22); }, amx_bf16, 4 * 2.0 * 16 * 16 * 32, 200'000},
    {"tdpbssd", [] { return has_amx(25); }, amx_int8, 4 * 2.0 * 16 * 16 * 64, 200'000},
};

int measure_rate(const std::string& name, int threads) {
  for (const Instruction& each : kInstructions) {
    if (name != each.name) continue;
    if (!each.supported()) {
      std::puts("unsupported");
      return 0;
    }
    const double seconds = best_seconds(threads, [&](int) { each.loop(each.count); });
    std::printf("%.2f\n", 1e-9 * each.operations * each.count * threads / seconds);
    return 0;
  }
  std::fprintf(stderr, "floor: no instruction is called %s\n", name.c_str());
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc == 4 ? argv[1] : "";
  const int threads = argc == 4 ? std::atoi(argv[3]) : 0;
  if (threads > 0 && what == "read")
    return read_memory(std::strtoull(argv[2], nullptr, 10), threads);
  if (threads > 0 && what == "rate") return measure_rate(argv[2], threads);
  std::fputs("usage: floor read BYTES THREADS | floor rate INSTRUCTION THREADS\n", stderr);
  return 2;
}
