#include "core/memory.h"

#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace lreorg {
namespace {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t alignment_of(std::size_t bytes) {
  return bytes >= kHugePage ? kHugePage : kCacheLine;
}

}  // namespace

Memory::Memory(std::size_t bytes)
    : memory_(
          static_cast<std::byte*>(::operator new[](bytes, std::align_val_t{alignment_of(bytes)})),
          Release{alignment_of(bytes)}),
      size_(bytes) {
#if defined(__linux__)
  // Advice: where it is refused the memory works as well, only slower.
  if (bytes >= kHugePage) madvise(memory_.get(), bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  std::memset(memory_.get(), 0, bytes);
}

void Memory::Release::operator()(std::byte* memory) const {
  ::operator delete[](memory, std::align_val_t{alignment});
}

}  // namespace lreorg
