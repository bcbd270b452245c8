// Fuzzes the reader of packed weights. The checksum is set right first, since it is there against
// damage and not against malice, and everything behind it must hold by itself.
//
// With libFuzzer, by hand:
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -Icsrc -Ikernels \
//     tests/fuzz/packed_fuzzer.cpp csrc/core/{packed,layout,memory}.cpp -o packed_fuzzer
//   ./packed_fuzzer -max_len=65536 -rss_limit_mb=512 -max_total_time=60 NEW tests/data/fuzz/packed
// With -DLREORG_REPLAY it has a main that reads files once, for compilers without libFuzzer.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>

#include "core/packed.h"

namespace {

// As csrc/core/packed.cpp: FNV-1a over words, with the field itself taken as 0.
void set_checksum(std::string& bytes) {
  lreorg::PackedHeader header;
  if (bytes.size() < sizeof(header)) return;
  std::memcpy(&header, bytes.data(), sizeof(header));
  header.checksum = 0;
  std::memcpy(bytes.data(), &header, sizeof(header));
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (std::size_t i = 0; i + sizeof(hash) <= bytes.size(); i += sizeof(hash)) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data() + i, sizeof(word));
    hash = (hash ^ word) * 0x100000001b3u;
  }
  header.checksum = hash;
  std::memcpy(bytes.data(), &header, sizeof(header));
}

// What was accepted must be readable in every place that its layout names.
void read_all(const lreorg::PackedWeights& weights) {
  unsigned sum = 0;
  const auto add = [&sum](const void* from, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) sum += static_cast<const unsigned char*>(from)[i];
  };
  for (const lreorg::BlockTensors& block : weights.layout().blocks) {
    block.for_each([&](const lreorg::Tensor& tensor) {
      add(weights.data(tensor),
          tensor.is_vector() ? tensor.outputs * sizeof(float)
                             : lreorg::matrix_bytes(weights.type(), tensor.outputs, tensor.inputs));
    });
  }
  if (weights.bytes().size() == sum) std::abort();  // so that the sum is not left out
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  for (int checked = 0; checked < 2; ++checked) {
    try {
      const lreorg::PackedWeights weights = lreorg::PackedWeights::from_bytes(bytes);
      read_all(weights);
      if (weights.bytes() != std::string_view(bytes)) std::abort();
    } catch (const std::invalid_argument&) {
    }
    set_checksum(bytes);
  }
  return 0;
}

#ifdef LREORG_REPLAY
#include <cstdio>
#include <fstream>
#include <iterator>

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  }
  std::printf("%d inputs read\n", argc - 1);
}
#endif
