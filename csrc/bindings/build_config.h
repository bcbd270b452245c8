// What this build can do and what the machine offers, as Python dicts.
#pragma once

#include <pybind11/pybind11.h>

namespace lreorg::bindings {

pybind11::dict build_config();
pybind11::dict cuda_devices();

}  // namespace lreorg::bindings
