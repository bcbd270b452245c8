// Counts what the program takes from the heap.
#pragma once

#include <cstddef>

namespace lreorg::test {

// Calls of operator new by any thread since the start.
std::size_t allocations();

}  // namespace lreorg::test
