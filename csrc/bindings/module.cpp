// lreorg_fast._native: handles around csrc/core. Nothing is computed here.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "build_config.h"
#include "core/executor.h"
#include "networks.h"
#ifdef LREORG_CUDA
#include "cuda.h"
#endif

namespace py = pybind11;
using namespace lreorg;

namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;
using LaneTuple = std::tuple<int, int, int, int, int>;
using StepTuple = std::pair<std::string, std::vector<LaneTuple>>;

PackedWeights pack(std::uint32_t dim, std::uint32_t cond_dim, std::uint32_t num_blocks,
                   std::uint32_t growth, float clamp, const std::string& dtype,
                   const py::dict& tensors) {
  // Keeps the arrays alive, as `tensors` may make them on the fly.
  std::vector<Array<double>> held;
  const auto find = [&](const std::string& name) {
    if (!tensors.contains(name)) throw std::invalid_argument("it is missing.");
    held.push_back(py::cast<Array<double>>(tensors[name.c_str()]));
    const Array<double>& array = held.back();
    if (array.ndim() != 1 && array.ndim() != 2) {
      throw std::invalid_argument("it must be a vector or a matrix.");
    }
    const std::size_t columns = array.ndim() == 2 ? static_cast<std::size_t>(array.shape(1)) : 0;
    return Source{array.data(), static_cast<std::size_t>(array.shape(0)), columns};
  };
  const Shape shape{dim, cond_dim, num_blocks, growth, clamp};
  return PackedWeights::pack(shape, weight_type(dtype), find);
}

Program make_program(int num_inputs, const std::vector<StepTuple>& steps,
                     const std::vector<int>& outputs) {
  std::vector<Step> converted;
  for (const auto& [direction, lanes] : steps) {
    if (direction != "disentangle" && direction != "fuse") {
      throw std::invalid_argument("direction '" + direction +
                                  "' is unknown; use disentangle or fuse.");
    }
    Step step{direction == "fuse" ? Direction::fuse : Direction::disentangle, {}};
    for (const auto& [keyword, in1, in2, out1, out2] : lanes) {
      step.lanes.push_back({keyword, in1, in2, out1, out2});
    }
    converted.push_back(std::move(step));
  }
  return Program(num_inputs, std::move(converted), outputs);
}

const cpu::Kernels& select_kernels(const std::string& name) {
  const cpu::KernelList list = cpu::all_kernels();
  for (std::size_t i = 0; i < list.size; ++i) {
    const cpu::Kernels& kernels = *list.items[i];
    if ((name == "auto" || name == kernels.name) && kernels.supported()) return kernels;
  }
  throw std::invalid_argument("CPU kernels '" + name +
                              "' do not run here; see build_config()['cpu_kernels'].");
}

std::unique_ptr<Executor> make_executor(std::shared_ptr<PackedWeights> weights,
                                        const Array<float>& constants, const std::string& kernels,
                                        bool exact) {
  std::vector<float> copy(constants.data(), constants.data() + constants.size());
  return std::make_unique<Executor>(std::move(weights), std::move(copy), select_kernels(kernels),
                                    exact);
}

std::vector<Array<float>> run(const Executor& executor, const Program& program,
                              const std::vector<Array<float>>& inputs, std::size_t threads) {
  const py::ssize_t dim = executor.weights().shape().dim;
  const py::ssize_t tokens = inputs.empty() ? 0 : inputs.front().size() / dim;
  std::vector<const float*> in;
  for (const Array<float>& input : inputs) {
    if (input.ndim() != 2 || input.shape(0) != tokens || input.shape(1) != dim) {
      throw std::invalid_argument("every input must be (tokens, dim) with the same tokens.");
    }
    in.push_back(input.data());
  }
  std::vector<Array<float>> results;
  std::vector<float*> out;
  for (std::size_t i = 0; i < program.outputs().size(); ++i) {
    results.emplace_back(std::vector<py::ssize_t>{tokens, dim});
    out.push_back(results.back().mutable_data());
  }
  {
    const py::gil_scoped_release release;
    executor.run(program, in, out, static_cast<std::size_t>(tokens), threads);
  }
  return results;
}

const char* name(cpu::OperandType type) {
  static const char* const names[] = {"float32", "bfloat16", "int8"};
  return names[static_cast<std::size_t>(type)];
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Native engine of lreorg_fast: handles only; see lreorg_fast.cdfnet.engine.";
  m.def("build_config", &bindings::build_config);
  m.def("cuda_devices", &bindings::cuda_devices);
  bindings::bind_networks(m);
#ifdef LREORG_CUDA
  bindings::bind_cuda(m);
#endif

  py::class_<PackedWeights, std::shared_ptr<PackedWeights>>(m, "PackedWeights")
      .def_static("pack", &pack, py::kw_only(), py::arg("dim"), py::arg("cond_dim"),
                  py::arg("num_blocks"), py::arg("growth"), py::arg("clamp"), py::arg("dtype"),
                  py::arg("tensors"))
      .def_static(
          "from_bytes",
          [](const py::bytes& bytes) { return PackedWeights::from_bytes(std::string_view(bytes)); },
          py::arg("data"))
      .def("to_bytes", [](const PackedWeights& w) { return py::bytes(w.bytes()); })
      .def_property_readonly("nbytes", [](const PackedWeights& w) { return w.bytes().size(); })
      .def_property_readonly("dtype",
                             [](const PackedWeights& w) { return weight_type_name(w.type()); });

  py::class_<Program>(m, "Program")
      .def(py::init(&make_program), py::kw_only(), py::arg("num_inputs"), py::arg("steps"),
           py::arg("outputs"));

  py::class_<Executor>(m, "Executor")
      .def(py::init(&make_executor), py::arg("weights"), py::arg("constants"), py::kw_only(),
           py::arg("kernels") = "auto", py::arg("exact") = false)
      .def("run", &run, py::arg("program"), py::arg("inputs"), py::arg("threads") = 1)
      .def_property_readonly("activations", [](const Executor& e) { return name(e.operand()); })
      .def_property_readonly("kernels", [](const Executor& e) { return e.kernels().name; });
}
