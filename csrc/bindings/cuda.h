// The CUDA kernels, for Python: addresses and streams as integers.
#pragma once

#include <pybind11/pybind11.h>

namespace lreorg::bindings {

void bind_cuda(pybind11::module_& m);

}  // namespace lreorg::bindings
