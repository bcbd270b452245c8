// Packing on the device, its own source on the CPU, against packing element by element.
#include <cstring>
#include <vector>

#include "cuda/packer.h"
#include "cuda/repack.h"
#include "suites.h"
#include "tensorrt/launchers.h"
#include "tensorrt/matrices.h"

namespace lreorg::test {
namespace {

struct Case {
  std::uint32_t dim, growth, blocks, group;
};

template <class P, class Planes>
void check(const Case& which, std::int32_t weight_type) {
  using Weight = typename Planes::Weight;
  const Network network = random_network(which.dim, which.growth, which.blocks, 1);
  const Geometry geometry(which.dim, which.growth, which.blocks, which.group, P::kWeightPlanes);
  const Packer<P> expected(network, geometry);
  const auto bits = [&](const Values& values) {
    const std::vector<std::byte> bytes = launchers::as_weights(values, weight_type);
    std::vector<Weight> result(bytes.size() / sizeof(Weight));
    std::memcpy(result.data(), bytes.data(), bytes.size());
    return result;
  };
  const auto condition = bits(stacked(network, "condition", ""));
  const auto hidden = bits(stacked(network, "dense", ".hidden"));
  const auto chain = bits(chains(network));
  const auto direct = bits(stacked(network, "dense", ".direct"));
  const auto output = bits(stacked(network, "dense", ".output"));
  const Values hidden_bias = stacked(network, "dense", ".hidden_bias");
  const Values output_bias = stacked(network, "dense", ".output_bias");
  const std::vector<float> biases[] = {{hidden_bias.begin(), hidden_bias.end()},
                                       {output_bias.begin(), output_bias.end()}};
  const Repack<Planes> repack(geometry, which.dim, which.growth,
                              {condition.data(), hidden.data(), chain.data(), direct.data(),
                               output.data(), biases[0].data(), biases[1].data()});
  const std::size_t weights = expected.weights.size() * 2, tail = expected.biases.size() * 4;
  std::vector<uint4> blob((weights + tail) / sizeof(uint4) + 1, uint4{~0u, ~0u, ~0u, ~0u});
  constexpr std::uint32_t kThreads = 7;
  for (std::uint32_t part = repack.parts(); part-- > 0;) {
    for (std::uint32_t t = 0; t < kThreads; ++t) repack.write(part, t, kThreads, blob.data());
  }
  const auto* bytes = reinterpret_cast<const std::byte*>(blob.data());
  CHECK(std::memcmp(bytes, expected.weights.data(), weights) == 0);
  CHECK(std::memcmp(bytes + weights, expected.biases.data(), tail) == 0);
  CHECK(bytes[weights + tail] == std::byte{0xFF});
}

void test_repack() {
  for (const Case& which : {Case{40, 5, 2, 1}, Case{72, 20, 2, 4}, Case{33, 16, 1, 2},
                            Case{150, 40, 1, 2}, Case{64, 32, 1, 16}}) {
    check<Bfloat, Planes16>(which, LREORG_CUDA_BFLOAT16);
    check<Half, Planes16>(which, LREORG_CUDA_FLOAT16);
    check<Single, Planes32>(which, LREORG_CUDA_FLOAT32);
  }
}

void test_planes() {
  const auto sum = [](float value) {
    std::uint16_t bits[3];
    Planes32::split(value, bits);
    double result = 0;
    for (const std::uint16_t plane : bits) result += to_float(plane, Bfloat16{});
    return result;
  };
  for (const float value : {0.0f, 1.0f, -3.14159265f, 1.00390625f, 3.0e38f, 1.2345678e-20f}) {
    CHECK(sum(value) == value);
  }
  for (const std::uint32_t word : {0x7FC00000u, 0x7F800001u, 0xFFFFFFFFu, 0x7F800000u}) {
    float value;
    std::memcpy(&value, &word, sizeof(value));
    CHECK(!std::isfinite(sum(value)));
  }
}

}  // namespace

const std::vector<Test> cuda_repack_tests = {
    {"cuda packing of matrices", false, test_repack},
    {"cuda planes of float32", false, test_planes},
};

}  // namespace lreorg::test
