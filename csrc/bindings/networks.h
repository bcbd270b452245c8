// The passes between the networks' convolutions, for Python.
#pragma once

#include <pybind11/pybind11.h>

namespace lreorg::bindings {

void bind_networks(pybind11::module_& m);

}  // namespace lreorg::bindings
