"""The plugin against TensorRT's real headers, and the stand-in's headers against them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import trt_standin

HEADERS = trt_standin.folders_of(trt_standin.HEADERS_VARIABLE)
WITHOUT = f"{trt_standin.HEADERS_VARIABLE} names no folder with TensorRT's headers"


def symbols(library: Path, kind: str) -> set[str]:
    done = subprocess.run(
        ["nm", "--dynamic", kind, str(library)], capture_output=True, text=True, check=True
    )
    return {line.split()[-1].split("@")[0] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("major", [10, 11])
def test_the_library_exports_two_functions_and_needs_no_tensorrt(
    major: int, tmp_path: Path
) -> None:
    library = trt_standin.build_plugin(tmp_path, None, major)
    assert symbols(library, "--defined-only") == {"setLoggerFinder", "getCreators"}
    needed = subprocess.run(
        ["readelf", "--dynamic", str(library)], capture_output=True, text=True, check=True
    ).stdout
    assert "NEEDED" in needed
    assert "nvinfer" not in needed
    assert "cuda" not in needed


@pytest.mark.skipif(not HEADERS, reason=WITHOUT)
@pytest.mark.parametrize("headers", HEADERS, ids=str)
def test_the_plugin_compiles_with_the_real_headers(headers: Path, tmp_path: Path) -> None:
    """Also the stand-in, so that its interfaces are complete and its overrides are ones."""
    library = trt_standin.build_plugin(tmp_path, headers, 99)
    assert symbols(library, "--defined-only") == {"setLoggerFinder", "getCreators"}
    trt_standin.build_libraries(tmp_path, headers, 99)


@pytest.mark.skipif(not HEADERS, reason=WITHOUT)
@pytest.mark.parametrize("headers", HEADERS, ids=str)
def test_the_example_compiles_with_the_real_headers(headers: Path, tmp_path: Path) -> None:
    source = trt_standin.ROOT / "examples" / "tensorrt_cpp" / "main.cpp"
    assert trt_standin.compile_cpp(
        "-fsyntax-only", *trt_standin.header_flags(headers, 99), source
    ) == ""  # fmt: skip


# Printed by the same program with both kinds of headers: sizes, values, and where the functions
# lie in the tables of virtual functions that cross the border.
PROBE = """
#include <NvInferRuntime.h>
#include <cstddef>
#include <cstdio>
using namespace nvinfer1;
template <class Member>
long place(Member member) {
  union { Member member; long place; } both{member};
  return both.place;
}
#define SIZE(type) std::printf(#type " %zu\\n", sizeof(type));
#define AT(type, member) std::printf(#type "." #member " %zu\\n", offsetof(type, member));
#define VALUE(name) std::printf(#name " %d\\n", static_cast<int>(name));
#define SLOT(type, member) std::printf(#type "::" #member " %ld\\n", place(&type::member));
struct Finder : ILoggerFinder { ILogger* findLogger() override { return nullptr; } };
int main() {
  SIZE(Dims) SIZE(PluginField) SIZE(PluginFieldCollection) SIZE(PluginTensorDesc)
  SIZE(DynamicPluginTensorDesc) SIZE(DimsExprs) SIZE(InterfaceInfo)
  AT(Dims, d) AT(PluginField, data) AT(PluginField, type) AT(PluginField, length)
  AT(PluginFieldCollection, fields) AT(PluginTensorDesc, type) AT(PluginTensorDesc, format)
  AT(DynamicPluginTensorDesc, min) AT(DynamicPluginTensorDesc, max)
  AT(DynamicPluginTensorDesc, opt) AT(DimsExprs, d) AT(InterfaceInfo, major)
  VALUE(DataType::kFLOAT) VALUE(DataType::kHALF) VALUE(DataType::kINT8) VALUE(DataType::kINT32)
  VALUE(DataType::kBF16) VALUE(DataType::kINT64)
  VALUE(TensorFormat::kLINEAR) VALUE(TensorFormat::kCHW2)
  VALUE(PluginFieldType::kFLOAT16) VALUE(PluginFieldType::kFLOAT32)
  VALUE(PluginFieldType::kINT32) VALUE(PluginFieldType::kCHAR) VALUE(PluginFieldType::kUNKNOWN)
  VALUE(PluginFieldType::kINT64)
  VALUE(TensorRTPhase::kBUILD) VALUE(TensorRTPhase::kRUNTIME)
  VALUE(PluginCapabilityType::kCORE) VALUE(PluginCapabilityType::kBUILD)
  VALUE(PluginCapabilityType::kRUNTIME)
  VALUE(ILogger::Severity::kINTERNAL_ERROR) VALUE(ILogger::Severity::kERROR)
  VALUE(ILogger::Severity::kVERBOSE)
  SLOT(IVersionedInterface, getInterfaceInfo) SLOT(IVersionedInterface, getAPILanguage)
  SLOT(ILogger, log) SLOT(Finder, findLogger)
  SLOT(IPluginV3, getCapabilityInterface) SLOT(IPluginV3, clone)
  SLOT(IPluginV3OneCore, getPluginName) SLOT(IPluginV3OneCore, getPluginVersion)
  SLOT(IPluginV3OneCore, getPluginNamespace)
  SLOT(IPluginV3OneBuild, configurePlugin) SLOT(IPluginV3OneBuild, getOutputDataTypes)
  SLOT(IPluginV3OneBuild, getOutputShapes) SLOT(IPluginV3OneBuild, supportsFormatCombination)
  SLOT(IPluginV3OneBuild, getNbOutputs) SLOT(IPluginV3OneBuild, getWorkspaceSize)
  SLOT(IPluginV3OneBuild, getValidTactics) SLOT(IPluginV3OneBuild, getNbTactics)
  SLOT(IPluginV3OneBuild, getTimingCacheID) SLOT(IPluginV3OneBuild, getFormatCombinationLimit)
  SLOT(IPluginV3OneBuild, getMetadataString)
  SLOT(IPluginV3OneRuntime, setTactic) SLOT(IPluginV3OneRuntime, onShapeChange)
  SLOT(IPluginV3OneRuntime, enqueue) SLOT(IPluginV3OneRuntime, attachToContext)
  SLOT(IPluginV3OneRuntime, getFieldsToSerialize)
  SLOT(IPluginCreatorV3One, createPlugin) SLOT(IPluginCreatorV3One, getFieldNames)
  SLOT(IPluginCreatorV3One, getPluginName) SLOT(IPluginCreatorV3One, getPluginVersion)
  SLOT(IPluginCreatorV3One, getPluginNamespace)
  SLOT(IPluginRegistry, loadLibrary) SLOT(IPluginRegistry, deregisterLibrary)
  SLOT(IPluginRegistry, getAllCreators) SLOT(IPluginRegistry, getCreator)
  SLOT(IPluginRegistry, acquirePluginResource) SLOT(IPluginRegistry, releasePluginResource)
  SLOT(IPluginResourceContext, getGpuAllocator) SLOT(IPluginResourceContext, getErrorRecorder)
  std::printf("major %d\\n", NV_TENSORRT_MAJOR);
}
"""


def printed(folder: Path, headers: Path | None, major: int) -> str:
    source, program = folder / "probe.cpp", folder / "probe"
    source.write_text(PROBE)
    # The union reads a pointer to a member, which GCC's size warnings and -Winvalid-offsetof know.
    quiet = ("-Wno-invalid-offsetof", "-Wno-missing-field-initializers")
    trt_standin.compile_cpp(
        "-O0", *quiet, *trt_standin.header_flags(headers, major), source, "-o", program
    )
    return subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not HEADERS, reason=WITHOUT)
@pytest.mark.parametrize("headers", HEADERS, ids=str)
def test_the_stand_in_has_the_binary_interface_of_the_real_headers(
    headers: Path, tmp_path: Path
) -> None:
    real = printed(tmp_path, headers, 0)
    major = int(real.split()[-1])
    assert printed(tmp_path, None, major) == real
    # The comparison sees a change of the interface: the logger's finder moved in 11.
    assert printed(tmp_path, None, 21 - major) != real
