#include "cuda.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cuda/reorganize.h"

namespace py = pybind11;

namespace lreorg::bindings {
namespace {

using Address = std::uintptr_t;
using LaneTuple = std::tuple<int, int, int, int, int>;
using StepTuple = std::pair<std::string, std::vector<LaneTuple>>;

// In the order of the enumerations of cuda/reorganize.h.
constexpr std::array<const char*, 3> kWeightTypes{"bfloat16", "float16", "float32"};
constexpr std::array<const char*, 3> kTiers{"auto", "cluster", "grid"};
constexpr std::array<const char*, 2> kDirections{"disentangle", "fuse"};

template <std::size_t count>
std::int32_t index_of(const std::array<const char*, count>& names, const std::string& name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) throw std::invalid_argument("'" + name + "' is not a known name.");
  return static_cast<std::int32_t>(found - names.begin());
}

void check(const char* reason) {
  if (reason != nullptr) throw std::runtime_error(reason);
}

// A network and a program on one device. The device's memory belongs to the caller, who keeps it.
class CudaProgram {
 public:
  CudaProgram(const LreorgCudaShape& shape, const std::string& dtype, bool exact,
              const std::string& tier, std::int32_t device, const std::vector<StepTuple>& steps,
              std::int32_t num_values)
      : device_(device) {
    for (const auto& [direction, lanes] : steps) {
      steps_.push_back({index_of(kDirections, direction), static_cast<std::int32_t>(lanes_.size()),
                        static_cast<std::int32_t>(lanes.size())});
      for (const auto& [keyword, in1, in2, out1, out2] : lanes) {
        lanes_.push_back({keyword, in1, in2, out1, out2});
      }
    }
    call_.shape = shape;
    call_.weight_type = index_of(kWeightTypes, dtype);
    call_.exact = exact;
    call_.tier = index_of(kTiers, tier);
    call_.host_steps = steps_.data();
    call_.host_lanes = lanes_.data();
    call_.num_steps = static_cast<std::int32_t>(steps_.size());
    call_.num_lanes = static_cast<std::int32_t>(lanes_.size());
    call_.num_values = num_values;
  }
  CudaProgram(const CudaProgram&) = delete;
  CudaProgram& operator=(const CudaProgram&) = delete;

  py::bytes steps() const { return bytes_of(steps_); }
  py::bytes lanes() const { return bytes_of(lanes_); }

  // Before the first run, and before the program is shared between threads.
  void place(Address weights, Address constants, Address steps, Address lanes) {
    call_.weights = reinterpret_cast<const void*>(weights);
    call_.constants = reinterpret_cast<const float*>(constants);
    call_.steps = reinterpret_cast<const LreorgCudaStep*>(steps);
    call_.lanes = reinterpret_cast<const LreorgCudaLane*>(lanes);
  }

  LreorgCudaPlan plan(std::int64_t tokens) const {
    LreorgCudaCall call = call_;
    call.tokens = tokens;
    LreorgCudaPlan plan{};
    const py::gil_scoped_release release;
    check(lreorg_cuda_plan(&call, device_, &plan));
    return plan;
  }

  void run(const LreorgCudaPlan& plan, std::int64_t tokens, const std::vector<Address>& values,
           Address scratch, Address status, Address stream) const {
    if (values.size() != static_cast<std::size_t>(call_.num_values)) {
      throw std::invalid_argument("the program has another number of values.");
    }
    std::vector<float*> pointers;
    for (const Address value : values) pointers.push_back(reinterpret_cast<float*>(value));
    LreorgCudaCall call = call_;
    call.tokens = tokens;
    call.values = pointers.data();
    call.scratch = reinterpret_cast<void*>(scratch);
    call.scratch_bytes = plan.scratch_bytes;
    call.status = reinterpret_cast<std::int32_t*>(status);
    call.stream = reinterpret_cast<void*>(stream);
    const py::gil_scoped_release release;
    check(lreorg_cuda_run(&call, &plan));
  }

 private:
  template <typename T>
  static py::bytes bytes_of(const std::vector<T>& items) {
    return {reinterpret_cast<const char*>(items.data()), items.size() * sizeof(T)};
  }

  std::int32_t device_;
  std::vector<LreorgCudaStep> steps_;
  std::vector<LreorgCudaLane> lanes_;
  LreorgCudaCall call_{};
};

}  // namespace

void bind_cuda(py::module_& m) {
  m.attr("CUDA_STATUS_WORDS") = static_cast<int>(LREORG_CUDA_STATUS_WORDS);
  m.def("cuda_most_values", &lreorg_cuda_most_values);

  py::class_<LreorgCudaShape>(m, "CudaShape")
      .def(py::init([](std::int32_t dim, std::int32_t num_blocks, std::int32_t growth,
                       float clamp) { return LreorgCudaShape{dim, num_blocks, growth, clamp}; }),
           py::kw_only(), py::arg("dim"), py::arg("num_blocks"), py::arg("growth"),
           py::arg("clamp"))
      .def(
          "group",
          [](const LreorgCudaShape& shape, const std::string& dtype, const std::string& tier,
             std::int32_t device) {
            return lreorg_cuda_group(&shape, index_of(kWeightTypes, dtype), index_of(kTiers, tier),
                                     device);
          },
          py::kw_only(), py::arg("dtype"), py::arg("tier"), py::arg("device"))
      .def(
          "weights_bytes",
          [](const LreorgCudaShape& shape, const std::string& dtype, std::int32_t group) {
            return lreorg_cuda_weights_bytes(&shape, index_of(kWeightTypes, dtype), group);
          },
          py::kw_only(), py::arg("dtype"), py::arg("group"));

  py::class_<LreorgCudaPlan>(m, "CudaPlan")
      .def_property_readonly("tier", [](const LreorgCudaPlan& plan) { return kTiers[plan.tier]; })
      .def_readonly("group", &LreorgCudaPlan::group)
      .def_readonly("tile", &LreorgCudaPlan::tile)
      .def_readonly("groups", &LreorgCudaPlan::groups)
      .def_readonly("shared_bytes", &LreorgCudaPlan::shared_bytes)
      .def_readonly("launches", &LreorgCudaPlan::launches)
      .def_readonly("scratch_bytes", &LreorgCudaPlan::scratch_bytes);

  py::class_<CudaProgram>(m, "CudaProgram")
      .def(py::init<const LreorgCudaShape&, const std::string&, bool, const std::string&,
                    std::int32_t, const std::vector<StepTuple>&, std::int32_t>(),
           py::kw_only(), py::arg("shape"), py::arg("dtype"), py::arg("exact"), py::arg("tier"),
           py::arg("device"), py::arg("steps"), py::arg("num_values"))
      .def_property_readonly("steps", &CudaProgram::steps)
      .def_property_readonly("lanes", &CudaProgram::lanes)
      .def("place", &CudaProgram::place, py::kw_only(), py::arg("weights"), py::arg("constants"),
           py::arg("steps"), py::arg("lanes"))
      .def("plan", &CudaProgram::plan, py::arg("tokens"))
      .def("run", &CudaProgram::run, py::arg("plan"), py::kw_only(), py::arg("tokens"),
           py::arg("values"), py::arg("scratch"), py::arg("status"), py::arg("stream"));
}

}  // namespace lreorg::bindings
