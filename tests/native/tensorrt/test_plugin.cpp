// The plugin library through TensorRT's interface alone, as TensorRT calls it: creation, shapes,
// formats, workspace, serialization, contexts; and its results against networks computed naively.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "allocations.h"
#include "cuda/reorganize.h"
#include "suites.h"
#include "tensorrt/given_node.h"
#include "tensorrt/launchers.h"

extern "C" void setLoggerFinder(nvinfer1::ILoggerFinder* finder);
extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(std::int32_t& count);

namespace lreorg::test {
namespace {

using namespace nvinfer1;
using Plugin = std::unique_ptr<IPluginV3>;

class Log final : public ILogger {
 public:
  void log(Severity severity, const AsciiChar* message) noexcept override {
    CHECK(severity == Severity::kERROR);
    last = message;
  }
  std::string last;
};

class Finder final : public ILoggerFinder {
 public:
  ILogger* findLogger() override { return &log; }
  Log log;
};

Finder& finder() {
  static Finder one;
  setLoggerFinder(&one);
  return one;
}

// Takes what was said since it was last asked.
std::string said() {
  return std::exchange(finder().log.last, "");
}

IPluginCreatorV3One& creator() {
  finder();
  std::int32_t count = 0;
  IPluginCreatorInterface* const* creators = getCreators(count);
  CHECK(count == 1);
  CHECK(std::string(creators[0]->getInterfaceInfo().kind) == "PLUGIN CREATOR_V3ONE");
  return *static_cast<IPluginCreatorV3One*>(creators[0]);
}

// Replace keyword 0's feature by input 1 and recover keyword 1: outputs the result, and the input.
const std::vector<std::int32_t> kProgram = {2, 8,  2, 7,  0,  4,      //
                                            0, 2,  0, -1, 0,  -1, 2,  //
                                            1, -1, 0, 3,  -1,         //
                                            1, 1,  0, 1,  2,  4,  5,  //
                                            0, 1,  1, -1, 5,  -1, 6,  //
                                            1, 1,  1, 3,  6,  -1, 7};
constexpr std::int32_t kOutputs = 2;
constexpr float kClamp = 1.0f;  // of random_network, and not the default

Plugin make(const std::vector<PluginField>& fields) {
  const PluginFieldCollection collection{static_cast<std::int32_t>(fields.size()), fields.data()};
  return Plugin(creator().createPlugin("node", &collection, TensorRTPhase::kBUILD));
}

PluginField program_field(const std::vector<std::int32_t>& program) {
  return {"program", program.data(), PluginFieldType::kINT32,
          static_cast<std::int32_t>(program.size())};
}

Plugin make(const std::vector<std::int32_t>& program = kProgram, float clamp = kClamp) {
  return make({{"clamp", &clamp, PluginFieldType::kFLOAT32, 1}, program_field(program)});
}

IPluginV3OneBuild& build_of(const Plugin& plugin) {
  return *static_cast<IPluginV3OneBuild*>(
      plugin->getCapabilityInterface(PluginCapabilityType::kBUILD));
}
IPluginV3OneRuntime& runtime_of(const Plugin& plugin) {
  return *static_cast<IPluginV3OneRuntime*>(
      plugin->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
}

std::vector<float> random_values(std::size_t count, unsigned long long seed) {
  Random random(seed);
  std::vector<float> result(count);
  for (float& x : result) x = static_cast<float>(random.next());
  return result;
}

struct Given {
  Network network;
  Node node;
};

Given given(std::int32_t weight_type, std::int64_t faces, std::int64_t rows = 3) {
  const Network network = random_network(40, 5, 2, 2);
  const auto count = static_cast<std::size_t>(faces * rows) * network.shape.dim;
  return {network, Node(network, 2, weight_type, faces, rows,
                        {random_values(count, 1), random_values(count, 2)})};
}

// Configures, attaches and runs once as an engine does; false where a step refuses.
struct Ran {
  bool ok = false;
  std::size_t workspace_bytes = 0;
  std::vector<std::vector<float>> outputs;
};

std::vector<DynamicPluginTensorDesc> output_descs(const Node& node) {
  DynamicPluginTensorDesc one{};
  one.desc = node.descs()[0];
  return std::vector<DynamicPluginTensorDesc>(kOutputs, one);
}

Ran enqueue(const Plugin& attached, const Node& node, std::size_t workspace_bytes) {
  Ran result;
  result.workspace_bytes = workspace_bytes;
  const auto in = node.descs();
  const std::vector<PluginTensorDesc> out(kOutputs, in[0]);
  IPluginV3OneRuntime& runtime = runtime_of(attached);
  const auto inputs = static_cast<std::int32_t>(in.size());
  if (runtime.onShapeChange(in.data(), inputs, out.data(), kOutputs) != 0) return result;
  // A mark behind the workspace and each output shows what writes too far.
  constexpr std::size_t kMark = 64;
  std::vector<std::max_align_t> workspace((workspace_bytes + kMark) / sizeof(std::max_align_t) + 1);
  std::memset(workspace.data(), 0x5A, workspace_bytes + kMark);
  result.outputs.assign(kOutputs, std::vector<float>(node.inputs[0].data.size() / 4 + 1, 7.5f));
  std::vector<void*> outputs;
  for (std::vector<float>& output : result.outputs) outputs.push_back(output.data());
  const auto addresses = node.addresses();
  const Node before = node;
  const std::size_t uploads = launchers::uploads();
  result.ok = runtime.enqueue(in.data(), out.data(), addresses.data(), outputs.data(),
                              workspace.data(), nullptr) == 0;
  CHECK(launchers::uploads() == uploads);
  const auto* end = reinterpret_cast<const unsigned char*>(workspace.data()) + workspace_bytes;
  CHECK(std::all_of(end, end + kMark, [](unsigned char byte) { return byte == 0x5A; }));
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    CHECK(node.inputs[i].data == before.inputs[i].data);
  }
  for (std::vector<float>& output : result.outputs) {
    CHECK(output.back() == 7.5f);
    output.pop_back();
  }
  return result;
}

Ran run(const Plugin& plugin, const Node& node, std::int64_t most) {
  const auto in = node.dynamic(most);
  const auto out = output_descs(node);
  const auto inputs = static_cast<std::int32_t>(in.size());
  IPluginV3OneBuild& build = build_of(plugin);
  if (build.configurePlugin(in.data(), inputs, out.data(), kOutputs) != 0) return {};
  const std::size_t bytes = build.getWorkspaceSize(in.data(), inputs, out.data(), kOutputs);
  const Plugin attached(runtime_of(plugin).attachToContext(nullptr));
  return attached == nullptr ? Ran{} : enqueue(attached, node, bytes);
}

// The largest difference of the first output from the network in double precision.
double error(const Network& network, const Node& node, const std::vector<float>& found) {
  const std::size_t dim = network.shape.dim;
  const auto* s = reinterpret_cast<const float*>(node.inputs[0].data.data());
  const auto* f = reinterpret_cast<const float*>(node.inputs[1].data.data());
  double worst = 0;
  for (std::size_t token = 0; token * dim < found.size(); ++token) {
    const Values original(s + token * dim, s + (token + 1) * dim);
    Values lost(dim, 0.0), residual = original;
    network.disentangle(lost, residual, 0);
    Values feature(dim, 0.0), other = original;
    network.disentangle(feature, other, 1);
    Values replaced(f + token * dim, f + (token + 1) * dim);
    network.fuse(replaced, residual, 0);
    Values again(dim, 0.0);
    network.disentangle(again, residual, 1);
    network.fuse(feature, residual, 1);
    for (std::size_t c = 0; c < dim; ++c) {
      const double difference = std::abs(found[token * dim + c] - residual[c]);
      worst = difference <= worst ? worst : difference;  // also takes what is not a number
    }
  }
  return worst;
}

void test_results() {
  struct Case {
    std::int32_t weight_type;
    double limit;  // as of the same kernels in cuda/test_reorganize.cpp
  };
  for (const auto& [weight_type, limit] :
       {Case{LREORG_CUDA_FLOAT32, 5e-5}, Case{LREORG_CUDA_FLOAT16, 2e-2},
        Case{LREORG_CUDA_BFLOAT16, 0.15}}) {
    for (const std::int64_t faces : {1, 6}) {
      const auto [network, node] = given(weight_type, faces);
      const Ran ran = run(make(), node, 6);
      CHECK(ran.ok);
      const double worst = error(launchers::kept(network, weight_type), node, ran.outputs[0]);
      if (!(worst <= limit)) std::fprintf(stderr, "type %d: error %g\n", weight_type, worst);
      CHECK(worst <= limit);
      // The second output is the latent itself.
      CHECK(std::memcmp(ran.outputs[1].data(), node.inputs[0].data.data(),
                        node.inputs[0].data.size()) == 0);
    }
  }
}

// What is not finite stays so: who uses the result looks for it.
void test_not_finite() {
  auto [network, node] = given(LREORG_CUDA_FLOAT32, 1);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(node.inputs[0].data.data(), &nan, sizeof(nan));
  const Ran ran = run(make(), node, 1);
  CHECK(ran.ok && std::isnan(ran.outputs[0][0]));
}

void test_serialization() {
  const auto [network, node] = given(LREORG_CUDA_FLOAT32, 2);
  const Plugin first = make();
  const Ran expected = run(first, node, 4);
  CHECK(expected.ok);
  // Into bytes and back, as an engine file.
  const PluginFieldCollection& saved = *runtime_of(first).getFieldsToSerialize();
  std::vector<std::string> names;
  std::vector<std::vector<char>> data;
  std::vector<PluginField> loaded;
  for (std::int32_t i = 0; i < saved.nbFields; ++i) {
    const PluginField& field = saved.fields[i];
    const int size = field.type == PluginFieldType::kINT64 ? 8 : 4;
    const auto* bytes = static_cast<const char*>(field.data);
    names.emplace_back(field.name);
    data.emplace_back(bytes, bytes + field.length * size);
  }
  for (std::int32_t i = 0; i < saved.nbFields; ++i) {
    loaded.push_back(
        {names[i].c_str(), data[i].data(), saved.fields[i].type, saved.fields[i].length});
  }
  const PluginFieldCollection collection{saved.nbFields, loaded.data()};
  const Plugin second(creator().createPlugin("node", &collection, TensorRTPhase::kRUNTIME));
  CHECK(second != nullptr);
  const Plugin copy(second->clone());
  for (const Plugin* plugin : {&second, &copy}) {
    const Plugin attached(runtime_of(*plugin).attachToContext(nullptr));
    const Ran ran = enqueue(attached, node, expected.workspace_bytes);
    CHECK(ran.ok && ran.outputs == expected.outputs);
    // A clone of what is attached can run as well, and outlives it.
    const Plugin of_attached(attached->clone());
    CHECK(enqueue(of_attached, node, expected.workspace_bytes).outputs == expected.outputs);
  }
  // A device that needs more than the engine has is refused before anything runs.
  launchers::more_scratch() = expected.workspace_bytes;
  const Plugin attached(runtime_of(second).attachToContext(nullptr));
  CHECK(!enqueue(attached, node, expected.workspace_bytes).ok);
  CHECK(said().find("build it on this device") != std::string::npos);
  launchers::more_scratch() = 0;
}

void test_uploads_are_freed() {
  const std::size_t before = launchers::uploads();
  {
    const Plugin plugin = make();
    CHECK(launchers::uploads() == before);
    const Plugin attached(runtime_of(plugin).attachToContext(nullptr));
    const Plugin copy(attached->clone());
    CHECK(launchers::uploads() == before + 2);
  }
  CHECK(launchers::uploads() == before);
}

void test_nothing_is_allocated_in_enqueue() {
  const auto [network, node] = given(LREORG_CUDA_FLOAT32, 1);
  const auto in = node.dynamic(1);
  const auto inputs = static_cast<std::int32_t>(in.size());
  const auto out = output_descs(node);
  const Plugin plugin = make();
  CHECK(build_of(plugin).configurePlugin(in.data(), inputs, out.data(), kOutputs) == 0);
  const std::size_t bytes =
      build_of(plugin).getWorkspaceSize(in.data(), inputs, out.data(), kOutputs);
  const Plugin attached(runtime_of(plugin).attachToContext(nullptr));
  const auto descs = node.descs();
  CHECK(runtime_of(attached).onShapeChange(descs.data(), inputs, descs.data(), kOutputs) == 0);
  std::vector<std::max_align_t> workspace(bytes / sizeof(std::max_align_t) + 1);
  std::vector<float> output(node.inputs[0].data.size() / 4), second(output.size());
  void* outputs[] = {output.data(), second.data()};
  const auto addresses = node.addresses();
  // Up to the launch, and not in it: the emulator allocates, and so does saying what failed.
  launchers::failures().run = "as told";
  const std::size_t before = allocations();
  CHECK(runtime_of(attached).enqueue(descs.data(), descs.data(), addresses.data(), outputs,
                                     workspace.data(), nullptr) != 0);
  CHECK(launchers::allocations_at_run() == before);
  CHECK(said().find("as told") != std::string::npos);
}

void test_formats() {
  const auto [network, node] = given(LREORG_CUDA_FLOAT16, 1);
  const Plugin plugin = make();
  std::vector<DynamicPluginTensorDesc> all = node.dynamic(4);
  const auto inputs = static_cast<std::int32_t>(all.size());
  for (const DynamicPluginTensorDesc& desc : output_descs(node)) all.push_back(desc);
  const auto supported = [&](std::size_t position) {
    return build_of(plugin).supportsFormatCombination(static_cast<std::int32_t>(position),
                                                      all.data(), inputs, kOutputs);
  };
  for (std::size_t i = 0; i < all.size(); ++i) {
    CHECK(supported(i));
    const DynamicPluginTensorDesc good = all[i];
    all[i].desc.format = TensorFormat::kCHW2;
    CHECK(!supported(i));
    all[i] = good;
    for (const DataType type : {DataType::kINT8, DataType::kINT32, DataType::kBF16}) {
      all[i].desc.type = type;
      // The first matrix decides for all.
      CHECK(supported(i) == (type == DataType::kBF16 && i == 3));
      all[i] = good;
    }
  }
  CHECK(!build_of(plugin).supportsFormatCombination(0, all.data(), inputs - 1, kOutputs));
  DataType types[kOutputs] = {};
  CHECK(build_of(plugin).getOutputDataTypes(types, kOutputs, nullptr, inputs) == 0);
  CHECK(types[0] == DataType::kFLOAT && types[1] == DataType::kFLOAT);
  CHECK(build_of(plugin).getNbOutputs() == kOutputs);
}

void test_shapes() {
  const auto [network, node] = given(LREORG_CUDA_FLOAT32, 1);
  const Plugin plugin = make();
  const auto inputs = static_cast<std::int32_t>(node.inputs.size());
  std::vector<DimsExprs> in(node.inputs.size());
  char marks[3];
  for (DimsExprs& shape : in) shape = {1, {}};
  in[0].nbDims = 3;
  for (int i = 0; i < 3; ++i) in[0].d[i] = reinterpret_cast<const IDimensionExpr*>(marks + i);
  alignas(16) char storage[64] = {};  // never used by the plugin
  auto& builder = *reinterpret_cast<IExprBuilder*>(storage);
  DimsExprs out[kOutputs] = {};
  const auto shapes = [&](std::int32_t given_inputs) {
    return build_of(plugin).getOutputShapes(in.data(), given_inputs, nullptr, 0, out, kOutputs,
                                            builder);
  };
  CHECK(shapes(inputs) == 0);
  for (const DimsExprs& shape : out) {
    CHECK(shape.nbDims == 3 && std::equal(shape.d, shape.d + 3, in[0].d));
  }
  CHECK(shapes(inputs - 1) != 0 && said().find("export the file again") != std::string::npos);
}

void test_wrong_inputs() {
  for (std::size_t i = 0; i < given(LREORG_CUDA_FLOAT32, 1).node.inputs.size(); ++i) {
    auto [network, node] = given(LREORG_CUDA_FLOAT32, 1);
    node.inputs[i].extents.back() += 1;
    CHECK(!run(make(), node, 1).ok && said().find("has shape") != std::string::npos);
    node.inputs[i].extents.pop_back();
    CHECK(!run(make(), node, 1).ok && said().find("has shape") != std::string::npos);
  }
  auto [network, node] = given(LREORG_CUDA_FLOAT32, 1);
  node.inputs.pop_back();
  CHECK(!run(make(), node, 1).ok && said().find("its program asks for") != std::string::npos);
  // Fewer keywords than the program names.
  auto [other, few] = given(LREORG_CUDA_FLOAT32, 1);
  few.inputs[2].extents[0] = 1;
  CHECK(!run(make(), few, 1).ok && said().find("2 keywords at least") != std::string::npos);
}

void test_no_face() {
  auto [network, node] = given(LREORG_CUDA_FLOAT32, 1);
  const Ran one = run(make(), node, 1);
  for (int i = 0; i < 2; ++i) {
    node.inputs[i].extents[0] = 0;
    node.inputs[i].data.clear();
  }
  const Plugin attached(runtime_of(make()).attachToContext(nullptr));
  CHECK(enqueue(attached, node, one.workspace_bytes).ok);
}

void test_failures_are_said() {
  const auto [network, node] = given(LREORG_CUDA_FLOAT32, 1);
  for (const char* launchers::Failures::* which :
       {&launchers::Failures::upload, &launchers::Failures::plan, &launchers::Failures::pack,
        &launchers::Failures::run}) {
    launchers::failures().*which = "the device is on fire";
    CHECK(!run(make(), node, 1).ok);
    CHECK(said().find("the device is on fire") != std::string::npos);
  }
  // Not attached: refused, not a crash.
  CHECK(!enqueue(make(), node, run(make(), node, 1).workspace_bytes).ok);
  CHECK(said().find("not attached") != std::string::npos);
}

void test_fields() {
  const PluginFieldCollection& names = *creator().getFieldNames();
  CHECK(names.nbFields == 2 && std::string(names.fields[0].name) == "clamp" &&
        std::string(names.fields[1].name) == "program");
  CHECK(std::string(creator().getPluginName()) == "LreorgReorganize" &&
        std::string(creator().getPluginVersion()) == "1" &&
        std::string(creator().getPluginNamespace()) == "lreorg");
  const float clamp = 2.0f, zero = 0.0f;
  const std::vector<std::int64_t> wide(kProgram.begin(), kProgram.end());
  const PluginField wide_field{"program", wide.data(), PluginFieldType::kINT64,
                               static_cast<std::int32_t>(wide.size())};
  CHECK(make({wide_field}) != nullptr);  // and clamp by default
  std::vector<std::int64_t> beyond = wide;
  beyond[1] = std::int64_t{1} << 32;
  const PluginField beyond_field{"program", beyond.data(), PluginFieldType::kINT64, 2};
  const auto refused = [](const std::vector<PluginField>& fields, const char* why) {
    const Plugin made = make(fields);
    return made == nullptr && said().find(why) != std::string::npos;
  };
  CHECK(refused({}, "'program' is missing"));
  CHECK(refused({beyond_field}, "beyond 32 bits"));
  CHECK(refused({{"program", &clamp, PluginFieldType::kFLOAT32, 1}}, "must be integers"));
  CHECK(refused({program_field(kProgram), {"clamp", &zero, PluginFieldType::kFLOAT32, 1}},
                "'clamp'"));
  CHECK(refused({program_field(kProgram), {"clamp", wide.data(), PluginFieldType::kINT64, 1}},
                "another type"));
}

// Whatever word of a program is damaged, it is refused or still a program: never a crash.
void test_damaged_programs() {
  std::size_t refused = 0;
  for (std::size_t i = 0; i < kProgram.size(); ++i) {
    for (const std::int32_t value : {-1, -2, 0, 1, 100, std::numeric_limits<std::int32_t>::max(),
                                     std::numeric_limits<std::int32_t>::min()}) {
      std::vector<std::int32_t> damaged = kProgram;
      damaged[i] = value;
      if (make(damaged) == nullptr) ++refused;
    }
    const std::vector<std::int32_t> shorter(kProgram.begin(), kProgram.begin() + i);
    CHECK(make(shorter) == nullptr);
  }
  CHECK(refused > 4 * kProgram.size());
  std::vector<std::int32_t> longer = kProgram;
  longer.push_back(0);
  CHECK(make(longer) == nullptr);
  said();
}

}  // namespace

const std::vector<Test> tensorrt_tests = {
    {"tensorrt results", false, test_results},
    {"tensorrt values that are not finite", false, test_not_finite},
    {"tensorrt serialization", false, test_serialization},
    {"tensorrt uploads", false, test_uploads_are_freed},
    {"tensorrt allocations", false, test_nothing_is_allocated_in_enqueue},
    {"tensorrt formats", false, test_formats},
    {"tensorrt shapes", false, test_shapes},
    {"tensorrt wrong inputs", false, test_wrong_inputs},
    {"tensorrt no face", false, test_no_face},
    {"tensorrt failures", false, test_failures_are_said},
    {"tensorrt fields", false, test_fields},
    {"tensorrt damaged programs", false, test_damaged_programs},
};

}  // namespace lreorg::test
