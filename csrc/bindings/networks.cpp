// The passes between the networks' convolutions, for Python. A map comes as (address, dtype,
// shape) of a dense tensor: torch is not linked. Every shape is checked against the others here.
#include "networks.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "cpu/networks/pointwise.h"
#include "cpu/networks/winograd.h"
#include "cpu/team.h"

namespace py = pybind11;

namespace lreorg::bindings {
namespace {

using namespace cpu::networks;

using Shape = std::vector<std::size_t>;
using View = std::tuple<std::uintptr_t, std::string, Shape>;
using OptionalView = std::optional<View>;

const Shape& shape_of(const View& view) {
  return std::get<Shape>(view);
}

Element element_of(const View& view) {
  const std::string& dtype = std::get<std::string>(view);
  if (dtype == "float32") return kFloat32;
  if (dtype == "bfloat16") return kBfloat16;
  throw std::invalid_argument("maps have dtype " + dtype + "; use float32 or bfloat16.");
}

void* address(const View& view, const char* name, Element element, const Shape& shape) {
  if (element_of(view) != element || shape_of(view) != shape) {
    throw std::invalid_argument(std::string(name) + " has another dtype or shape than expected.");
  }
  return reinterpret_cast<void*>(std::get<std::uintptr_t>(view));
}

float* floats(const View& view, const char* name, const Shape& shape) {
  return static_cast<float*>(address(view, name, kFloat32, shape));
}

float* floats(const OptionalView& view, const char* name, const Shape& shape) {
  return view ? floats(*view, name, shape) : nullptr;
}

// The size of a map (pictures, height, width, channels), at least `least` pixels wide and high.
Size size_of(const View& view, const char* name, std::size_t least = 1) {
  const Shape& shape = shape_of(view);
  if (shape.size() != 4 || std::min({shape[0], shape[3]}) == 0 ||
      std::min(shape[1], shape[2]) < least) {
    throw std::invalid_argument(std::string(name) + " is no (pictures, height, width, channels).");
  }
  return {shape[0], shape[1], shape[2], shape[3]};
}

Shape map_shape(const Size& size) {
  return {size.pictures, size.height, size.width, size.channels};
}

// Hands out rows in small pieces: threads that come late or are interrupted take fewer.
template <typename Arguments>
class RowJob final : public cpu::Job {
 public:
  RowJob(RowFunction<Arguments> function, const Arguments& arguments)
      : function_(function), arguments_(arguments), rows_(arguments.size.rows()) {}

  void start(std::size_t size) override {
    piece_ = size == 1 ? rows_ : std::max<std::size_t>(1, rows_ / (size * kPieces));
  }
  void work(std::size_t, std::size_t) override {
    for (std::size_t first; (first = next_.fetch_add(piece_)) < rows_;) {
      function_(arguments_, first, std::min(first + piece_, rows_));
    }
  }

 private:
  static constexpr std::size_t kPieces = 8;

  RowFunction<Arguments> function_;
  const Arguments& arguments_;
  std::size_t rows_;
  std::size_t piece_ = 1;
  std::atomic<std::size_t> next_{0};
};

class Passes {
 public:
  explicit Passes(const std::string& name) : variant_(select(name)) {}

  const char* kernels() const { return variant_.name; }

  void finish(const View& in, const OptionalView& out, const View& gain, const View& bias,
              const OptionalView& noise, const OptionalView& next_style,
              const OptionalView& colours, const OptionalView& colour_bias,
              const OptionalView& skip, const OptionalView& picture, std::size_t threads,
              float limit) const {
    Finish f{};
    f.size = size_of(in, "in");
    const Element element = element_of(in);
    f.in = address(in, "in", element, map_shape(f.size));
    f.out = out ? address(*out, "out", element, map_shape(f.size)) : nullptr;
    f.activation = activation(f.size, gain, bias, noise, next_style, limit);
    if (picture) {
      const std::size_t n = f.size.pictures, h = f.size.height, w = f.size.width;
      f.colour.picture = floats(picture, "picture", {n, 3, h, w});
      f.colour.weights = floats(colours, "colours", {n, 3, f.size.channels});
      f.colour.bias = floats(colour_bias, "colour_bias", {3});
      f.colour.skip = floats(skip, "skip", {n, 3, h / 2, w / 2});
      if (skip && (h % 2 || w % 2)) throw std::invalid_argument("picture has an odd size.");
    }
    if ((picture && !(colours && colour_bias)) || (out && !next_style) || !(picture || out)) {
      throw std::invalid_argument("out goes with next_style, picture with colours and their bias.");
    }
    run(variant_.of[element].finish, f, threads);
  }

  void up_finish(const std::vector<View>& phases, const View& out, const View& gain,
                 const View& bias, const OptionalView& noise, const View& next_style,
                 std::size_t threads, float limit) const {
    UpFinish f{};
    f.size = size_of(out, "out", 2);
    const Element element = element_of(out);
    if (phases.size() != 4 || f.size.height % 2 || f.size.width % 2) {
      throw std::invalid_argument("four phases make a map of even size.");
    }
    for (std::size_t i = 0; i < 4; ++i) {
      f.phases[i] = address(phases[i], "a phase", element,
                            {f.size.pictures, f.size.height / 2 + (i < 2),
                             f.size.width / 2 + (i % 2 == 0), f.size.channels});
    }
    f.out = address(out, "out", element, map_shape(f.size));
    f.activation = activation(f.size, gain, bias, noise, next_style, limit);
    run(variant_.of[element].up_finish, f, threads);
  }

  void prelu(const View& in, const View& out, const View& bias, const View& slope,
             std::size_t threads) const {
    Prelu p{};
    p.size = size_of(in, "in", 2);
    const Element element = element_of(in);
    p.in = address(in, "in", element, map_shape(p.size));
    p.out = address(out, "out", element, map_shape(p.size));
    p.bias = floats(bias, "bias", {9, p.size.channels});
    p.slope = floats(slope, "slope", {p.size.channels});
    run(variant_.of[element].prelu, p, threads);
  }

  void row_sums(const View& in, const View& out, std::size_t threads) const {
    RowSums r{};
    r.size = size_of(in, "in");
    const Element element = element_of(in);
    r.in = address(in, "in", element, map_shape(r.size));
    r.out = floats(out, "out", {r.size.pictures, r.size.height, r.size.channels});
    run(variant_.of[element].row_sums, r, threads);
  }

  void gated_sum(const View& in, const View& gate, const View& offset, const View& shortcut,
                 std::size_t stride, const View& out, std::size_t threads) const {
    GatedSum g{};
    g.size = size_of(in, "in");
    g.stride = stride;
    const Element element = element_of(in);
    g.in = address(in, "in", element, map_shape(g.size));
    g.out = address(out, "out", element, map_shape(g.size));
    g.gate = floats(gate, "gate", {g.size.pictures, g.size.channels});
    g.offset = floats(offset, "offset", {g.size.pictures, g.size.channels});
    g.shortcut =
        address(shortcut, "shortcut", element,
                {g.size.pictures, g.size.height * stride, g.size.width * stride, g.size.channels});
    if (stride == 0) throw std::invalid_argument("stride must be at least 1.");
    run(variant_.of[element].gated_sum, g, threads);
  }

  void stretched_sum(const View& fine, const View& coarse, const View& out,
                     std::size_t threads) const {
    StretchedSum s{};
    s.size = size_of(fine, "fine");
    const Element element = element_of(fine);
    const Size small = size_of(coarse, "coarse");
    s.coarse_height = small.height;
    s.coarse_width = small.width;
    s.fine = address(fine, "fine", element, map_shape(s.size));
    s.coarse = address(coarse, "coarse", element,
                       {s.size.pictures, small.height, small.width, s.size.channels});
    s.out = address(out, "out", element, map_shape(s.size));
    run(variant_.of[element].stretched_sum, s, threads);
  }

 private:
  static const PointwiseVariant& select(const std::string& name) {
    const PointwiseList list = pointwise_variants();
    for (std::size_t i = 0; i < list.size; ++i) {
      const PointwiseVariant& variant = *list.items[i];
      if ((name == "auto" || name == variant.name) && variant.supported()) return variant;
    }
    throw std::invalid_argument("CPU kernels '" + name + "' do not run here.");
  }

  static Activation activation(const Size& size, const View& gain, const View& bias,
                               const OptionalView& noise, const OptionalView& next_style,
                               float limit) {
    if (!(limit > 0)) throw std::invalid_argument("limit must be positive.");
    const Shape table{size.pictures, size.channels};
    Activation a{};
    a.limit = limit;
    a.gain = floats(gain, "gain", table);
    a.bias = floats(bias, "bias", {size.channels});
    a.next_style = floats(next_style, "next_style", table);
    if (noise) {
      const bool shared = !shape_of(*noise).empty() && shape_of(*noise)[0] == 1;
      a.noise = floats(noise, "noise", {shared ? 1 : size.pictures, size.height, size.width});
      a.noise_stride = shared ? 0 : size.height * size.width;
    }
    return a;
  }

  // A pass of a few microseconds is over before other threads have come.
  static std::size_t useful(std::size_t threads, const Size& size) {
    constexpr std::size_t kShare = std::size_t{1} << 18;
    const std::size_t values = size.rows() * size.width * size.channels;
    return std::min(threads, std::max<std::size_t>(1, values / kShare));
  }

  template <typename Arguments>
  static void run(RowFunction<Arguments> function, const Arguments& arguments,
                  std::size_t threads) {
    const py::gil_scoped_release release;
    RowJob<Arguments> job(function, arguments);
    cpu::Team::shared().run(useful(threads, arguments.size), job);
  }

  const PointwiseVariant& variant_;
};

// A thread's scratch lasts: fresh memory at every call would cost more than the transforms.
void* scratch_of_thread(std::size_t bytes) {
  constexpr std::size_t kAlignment = 64;
  thread_local std::vector<std::byte> memory;
  if (memory.size() < bytes + kAlignment) memory.resize(bytes + kAlignment);
  void* start = memory.data();
  std::size_t space = memory.size();
  return std::align(kAlignment, bytes, start, space);
}

class WinogradJob final : public cpu::Job {
 public:
  explicit WinogradJob(const Winograd& arguments) : arguments_(arguments) {}

  // Few tiles are shared evenly; of many, every thread takes one full block after the other.
  void start(std::size_t size) override {
    const std::size_t share = (arguments_.tiles() + size - 1) / size;
    piece_ = std::min(share, arguments_.block());
  }
  void work(std::size_t, std::size_t) override {
    void* scratch = scratch_of_thread(winograd_scratch(arguments_));
    const std::size_t tiles = arguments_.tiles();
    for (std::size_t first; (first = next_.fetch_add(piece_)) < tiles;) {
      winograd(arguments_, first, std::min(first + piece_, tiles), scratch);
    }
  }

 private:
  const Winograd& arguments_;
  std::size_t piece_ = 1;
  std::atomic<std::size_t> next_{0};
};

void run_winograd(const View& in, const View& weights, const OptionalView& bias, float leak,
                  std::size_t stride, const View& out, std::size_t threads) {
  Winograd w{};
  w.size = size_of(in, "in", 2);
  const Size result = size_of(out, "out", 2);
  w.stride = stride;
  w.out_channels = result.channels;
  const std::size_t inputs = w.size.channels, outputs = result.channels;
  if (stride != 1 && stride != 2) throw std::invalid_argument("stride must be 1 or 2.");
  if (w.size.height % (2 * stride) || w.size.width % (2 * stride) || inputs % kWinogradPanel ||
      outputs % kWinogradPanel) {
    throw std::invalid_argument("results must be of even size and channels multiples of 32.");
  }
  if (!winograd_pays()) throw std::invalid_argument("this CPU lacks AVX512-BF16 or has AMX.");
  w.in = address(in, "in", kBfloat16, map_shape(w.size));
  w.weights =
      address(weights, "weights", kBfloat16,
              {outputs / kWinogradPanel, w.edge() * w.edge(), inputs / 2, kWinogradPanel, 2});
  w.bias = floats(bias, "bias", {outputs});
  w.leak = leak;
  w.out = address(out, "out", kBfloat16, {w.size.pictures, w.out_height(), w.out_width(), outputs});
  const py::gil_scoped_release release;
  WinogradJob job(w);
  cpu::Team::shared().run(threads, job);
}

std::vector<std::string> supported_variants() {
  std::vector<std::string> names;
  const PointwiseList list = pointwise_variants();
  for (std::size_t i = 0; i < list.size; ++i) {
    if (list.items[i]->supported()) names.emplace_back(list.items[i]->name);
  }
  return names;
}

}  // namespace

void bind_networks(py::module_& m) {
  m.def("network_kernels", &supported_variants);
  m.def("winograd_pays", &winograd_pays);
  m.def("winograd", &run_winograd, py::kw_only(), py::arg("in_"), py::arg("weights"),
        py::arg("bias"), py::arg("leak"), py::arg("stride"), py::arg("out"), py::arg("threads"));
  m.def("multiplies_bfloat16", &cpu::networks::multiplies_bfloat16);
  py::class_<Passes>(m, "NetworkPasses")
      .def(py::init<const std::string&>(), py::arg("kernels") = "auto")
      .def_property_readonly("kernels", &Passes::kernels)
      .def("finish", &Passes::finish, py::kw_only(), py::arg("in_"), py::arg("out"),
           py::arg("gain"), py::arg("bias"), py::arg("noise"), py::arg("next_style"),
           py::arg("colours"), py::arg("colour_bias"), py::arg("skip"), py::arg("picture"),
           py::arg("threads"), py::arg("limit") = std::numeric_limits<float>::infinity())
      .def("up_finish", &Passes::up_finish, py::kw_only(), py::arg("phases"), py::arg("out"),
           py::arg("gain"), py::arg("bias"), py::arg("noise"), py::arg("next_style"),
           py::arg("threads"), py::arg("limit") = std::numeric_limits<float>::infinity())
      .def("prelu", &Passes::prelu, py::kw_only(), py::arg("in_"), py::arg("out"), py::arg("bias"),
           py::arg("slope"), py::arg("threads"))
      .def("row_sums", &Passes::row_sums, py::kw_only(), py::arg("in_"), py::arg("out"),
           py::arg("threads"))
      .def("gated_sum", &Passes::gated_sum, py::kw_only(), py::arg("in_"), py::arg("gate"),
           py::arg("offset"), py::arg("shortcut"), py::arg("stride"), py::arg("out"),
           py::arg("threads"))
      .def("stretched_sum", &Passes::stretched_sum, py::kw_only(), py::arg("fine"),
           py::arg("coarse"), py::arg("out"), py::arg("threads"));
}

}  // namespace lreorg::bindings
