"""Run as a program: TensorRT's real Python bindings over a stand-in library, asked as JSON.

``python trt_probe.py ORDERS`` with a JSON object: ``folder`` (of the stand-in's libraries),
``bindings`` (folder to import ``tensorrt_bindings`` from, or null for the installed one) and
``plugin`` (the plugin library, or null: then only names are told).
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

# What lreorg_fast/export uses, by class; "" is the module. trt_names.json has all their members.
CLASSES = (
    "",
    "Builder",
    "BuilderFlag",
    "DataType",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "ILayer",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IPluginRegistry",
    "ITensor",
    "ITimingCache",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "OnnxParserRefitter",
    "Refitter",
    "Runtime",
    "TensorIOMode",
)
# A program of one pass, docs/export.md: the residual of keyword 0.
PROGRAM = [1, 2, 1, 1, 1, 0, 1, 0, -1, 0, -1, 1]


def load(orders: dict[str, Any]) -> Any:
    """The bindings; their libraries' names are taken by the stand-in's before they ask for them."""
    for library in sorted(Path(orders["folder"]).glob("lib*.so.*")):
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    if orders["bindings"] is not None:
        sys.path.insert(0, orders["bindings"])
    import tensorrt_bindings

    return tensorrt_bindings


def names(trt: Any) -> dict[str, list[str]]:
    """Public members by class."""
    classes = {name: trt if name == "" else getattr(trt, name) for name in CLASSES}
    return {
        name: [member for member in dir(of) if not member.startswith("_")]
        for name, of in classes.items()
    }


def plugin(trt: Any, library: str, said: Any) -> dict[str, Any]:
    """What the real bindings see of the plugin library."""
    import numpy as np

    registry = trt.get_plugin_registry()
    # As hosts do that ask a library for nothing.
    ctypes.CDLL(library)
    opened = registry.get_creator("LreorgReorganize", "1", "lreorg") is not None
    loaded = registry.load_library(library)
    creator = registry.get_creator("LreorgReorganize", "1", "lreorg")

    def make(program: list[int] | None, clamp: float, phase: Any) -> Any:
        fields = [
            trt.PluginField("clamp", np.float32([clamp]), trt.PluginFieldType.FLOAT32),
        ]
        if program is not None:
            numbers = np.asarray(program, dtype=np.int32)
            fields.append(trt.PluginField("program", numbers, trt.PluginFieldType.INT32))
        return creator.create_plugin("node", trt.PluginFieldCollection(fields), phase)

    def refused(program: list[int] | None, clamp: float) -> str:
        try:
            made = make(program, clamp, trt.TensorRTPhase.BUILD)
        except (RuntimeError, TypeError, ValueError) as error:
            made, told = None, str(error)
        else:
            told = ""
        return f"{'made' if made is not None else 'none'}: {said() or told}"

    made = make(PROGRAM, 2.0, trt.TensorRTPhase.BUILD)
    core, build, runtime = (
        made.get_capability_interface(kind)
        for kind in (
            trt.PluginCapabilityType.CORE,
            trt.PluginCapabilityType.BUILD,
            trt.PluginCapabilityType.RUNTIME,
        )
    )
    return {
        "registered_when_opened": opened,
        "loaded": loaded is not None,
        "unknown": registry.get_creator("LreorgReorganize", "1", "") is None,
        "creator": [creator.name, creator.plugin_version, creator.plugin_namespace],
        "fields": [[field.name, field.type.name, field.size] for field in creator.field_names],
        "core": [core.plugin_name, core.plugin_version, core.plugin_namespace],
        "outputs": build.num_outputs,
        "format_combination_limit": build.format_combination_limit,
        "interfaces": [
            [info.kind, info.major, info.minor]
            for info in (each.interface_info for each in (creator, made, core, build, runtime))
        ],
        "at_run_time": make(PROGRAM, 2.0, trt.TensorRTPhase.RUNTIME) is not None,
        "without_program": refused(None, 2.0),
        "damaged": refused([*PROGRAM, 7], 2.0),
        "clamp": refused(PROGRAM, -1.0),
    }


def builder(trt: Any) -> list[str]:
    """What the bindings do where TensorRT gives nothing: as on a machine without a driver."""

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            raise AssertionError((severity, message))

    found = []
    for make in (trt.Builder, trt.Runtime):
        try:
            make(Logger())
        except TypeError as error:
            found.append(type(error).__name__)
    return found


def main() -> None:
    orders = json.loads(sys.argv[1])
    trt = load(orders)
    found: dict[str, Any] = {
        "version": trt.__version__,
        "names": names(trt),
        "severities": sorted(trt.ILogger.Severity.__members__),
        "strongly_typed": 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED),
        "without_driver": builder(trt),
    }
    if orders["plugin"] is not None:
        (standin,) = Path(orders["folder"]).glob("libnvinfer.so.*")
        said = ctypes.CDLL(str(standin)).standin_said
        said.restype = ctypes.c_char_p
        found["plugin"] = plugin(trt, orders["plugin"], lambda: said().decode())
    print(json.dumps(found))


if __name__ == "__main__":
    main()
