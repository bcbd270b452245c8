"""A pretended ``tensorrt`` package: it "builds" and runs networks y = w x on the CPU.

Only what lreorg_fast/export calls is there, under the real names: test_trt_bindings.py compares
every class and member with those of the real bindings, so that this cannot drift from them. Plans
are JSON; contexts compute with the memory at the addresses that they are given.
"""

from __future__ import annotations

import ctypes
import enum
import json
import types
from pathlib import Path
from typing import Any

import numpy as np

NODE = "LreorgReorganize"


class Severity(enum.Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    def log(self, severity: Severity, message: str) -> None:
        raise NotImplementedError


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BF16 = 7


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class LayerType(enum.Enum):
    ELEMENTWISE = 0
    PLUGIN_V3 = 1


class BuilderFlag(enum.Enum):
    REFIT = 0


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class World:
    """What the pretended machine does, and what was done to it.

    Attributes:
        fail: names of steps that fail.
        built: number of builds.
        launches: streams of the calls that ran.
        contexts: how many were made.
        expands: the parser runs a node's function although there is a plugin.
        loaded_by_others: a plugin is registered before anything is loaded.
        output_type: of y.
    """

    def __init__(self) -> None:
        self.fail: set[str] = set()
        self.built = 0
        self.launches: list[int] = []
        self.contexts = 0
        self.expands = False
        self.loaded_by_others = False
        self.output_type = DataType.FLOAT
        self.settings: dict[str, Any] = {}


def package(world: World, version: str = "11.4.0.106") -> types.ModuleType:
    """The package, bound to a world."""
    module = types.ModuleType("tensorrt")

    def failing(step: str, logger: ILogger | None = None) -> bool:
        if step in world.fail and logger is not None:
            logger.log(Severity.ERROR, f"pretended failure of {step}.")
        return step in world.fail

    class IPluginRegistry:
        def __init__(self) -> None:
            self._libraries: list[str] = []

        def load_library(self, path: str) -> object:
            if Path(path).read_bytes().startswith(b"wrong"):
                return None
            self._libraries.append(path)
            return object()

        def get_creator(self, name: str, version: str, plugin_namespace: str = "") -> object:
            assert (name, version, plugin_namespace) == (NODE, "1", "lreorg")
            return object() if self._libraries or world.loaded_by_others else None

    class ITensor:
        def __init__(self, name: str, shape: tuple[int, ...]) -> None:
            self.name, self.shape = name, shape

    class ILayer:
        def __init__(self, kind: LayerType) -> None:
            self.type = kind

    class INetworkDefinition:
        def __init__(self, registry: IPluginRegistry) -> None:
            self._registry = registry
            self._inputs: list[ITensor] = []
            self._layers: list[ILayer] = []
            self._parsed: dict[str, Any] = {}

        @property
        def num_inputs(self) -> int:
            return len(self._inputs)

        @property
        def num_layers(self) -> int:
            return len(self._layers)

        def get_input(self, index: int) -> ITensor:
            return self._inputs[index]

        def get_layer(self, index: int) -> ILayer:
            return self._layers[index]

    class IOptimizationProfile:
        def __init__(self) -> None:
            self._shapes: dict[str, list[list[int]]] = {}

        def set_shape(
            self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]
        ) -> None:
            self._shapes[input] = [list(shape) for shape in (min, opt, max)]

    class ITimingCache:
        def __init__(self, content: bytes) -> None:
            self._content = content

        def serialize(self) -> bytes:
            return self._content + b"measured"

    class IBuilderConfig:
        def __init__(self) -> None:
            self._profiles: list[dict[str, list[list[int]]]] = []
            self._flags: set[BuilderFlag] = set()
            self.builder_optimization_level = -1

        def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
            world.settings[pool.name] = pool_size

        def set_flag(self, flag: BuilderFlag) -> None:
            self._flags.add(flag)

        def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
            if failing("profile"):
                return -1
            self._profiles.append(profile._shapes)
            return len(self._profiles) - 1

        def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
            return ITimingCache(bytes(serialized_timing_cache))

        def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
            assert ignore_mismatch is False
            world.settings["timing_cache"] = cache._content
            return not failing("timing_cache")

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            if failing("builder", logger):
                raise TypeError("pybind11::init(): factory function returned nullptr")
            self._logger = logger
            self._registry = IPluginRegistry()

        def get_plugin_registry(self) -> IPluginRegistry:
            return self._registry

        def create_network(self, flags: int = 0) -> INetworkDefinition:
            world.settings["flags"] = flags
            return INetworkDefinition(self._registry)

        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig()

        def create_optimization_profile(self) -> IOptimizationProfile:
            return IOptimizationProfile()

        def build_serialized_network(
            self, network: INetworkDefinition, config: IBuilderConfig
        ) -> bytes | None:
            if failing("build", self._logger):
                return None
            world.built += 1
            world.settings["optimization_level"] = config.builder_optimization_level
            plan = network._parsed | {
                "profiles": config._profiles,
                "refittable": BuilderFlag.REFIT in config._flags,
                "needs_plugin": any(layer.type is LayerType.PLUGIN_V3 for layer in network._layers),
            }
            return json.dumps(plan).encode()

    class Problem:
        def desc(self) -> str:
            return "no such\n operator"

    class OnnxParser:
        def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
            self._network = network
            self.num_errors = 0

        def parse_from_file(self, model: str) -> bool:
            if failing("parse"):
                self.num_errors = 1
                return False
            import onnx

            graph = onnx.load(model).graph
            network = self._network
            for info in graph.input:
                dims = info.type.tensor_type.shape.dim
                shape = tuple(-1 if d.dim_param else d.dim_value for d in dims)
                network._inputs.append(ITensor(info.name, shape))
            for node in graph.node:
                registry = network._registry
                plugged = registry.get_creator(NODE, "1", "lreorg") is not None
                used = node.op_type == NODE and plugged and not world.expands
                network._layers.append(
                    ILayer(LayerType.PLUGIN_V3 if used else LayerType.ELEMENTWISE)
                )
            network._parsed = {
                "inputs": [[tensor.name, tensor.shape] for tensor in network._inputs],
                "weight": weight_of(graph),
            }
            return True

        def get_error(self, index: int) -> Problem:
            assert index < self.num_errors
            return Problem()

    def weight_of(graph: Any) -> float:
        from onnx import numpy_helper

        return float(numpy_helper.to_array(graph.initializer[0]).reshape(-1)[0])

    class IExecutionContext:
        def __init__(self, plan: dict[str, Any]) -> None:
            self._plan = plan
            self._shapes: dict[str, tuple[int, ...]] = {}
            self._addresses: dict[str, int] = {}
            self._profile = 0

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            self._profile = profile_index
            return True

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            if self._plan["profiles"]:
                least, _, most = self._plan["profiles"][self._profile][name]
                if not least[0] <= shape[0] <= most[0]:
                    return False
            self._shapes[name] = shape
            return True

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._addresses[name] = memory
            return memory != 0

        def infer_shapes(self) -> list[str]:
            return [name for name, _ in self._plan["inputs"] if name not in self._shapes]

        def execute_async_v3(self, stream_handle: int) -> bool:
            if failing("launch"):
                return False
            world.launches.append(stream_handle)
            count = int(np.prod(next(iter(self._shapes.values()))))

            def floats(name: str) -> Any:
                pointer = ctypes.cast(self._addresses[name], ctypes.POINTER(ctypes.c_float))
                return np.ctypeslib.as_array(pointer, (count,))

            given = [floats(name) for name in self._shapes]
            floats("y")[:] = self._plan["weight"] * np.sum(given, axis=0)
            return True

    class ICudaEngine:
        def __init__(self, plan: dict[str, Any], logger: ILogger) -> None:
            self._plan, self._logger = plan, logger
            self._shapes = {name: tuple(shape) for name, shape in plan["inputs"]}
            self._shapes["y"] = next(iter(self._shapes.values()))

        @property
        def num_io_tensors(self) -> int:
            return len(self._shapes)

        @property
        def refittable(self) -> bool:
            return bool(self._plan["refittable"])

        def get_tensor_name(self, index: int) -> str:
            return list(self._shapes)[index]

        def get_tensor_mode(self, name: str) -> TensorIOMode:
            return TensorIOMode.OUTPUT if name == "y" else TensorIOMode.INPUT

        def get_tensor_dtype(self, name: str) -> DataType:
            return world.output_type if name == "y" else DataType.FLOAT

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self._shapes[name]

        def create_execution_context(self) -> IExecutionContext | None:
            if failing("context", self._logger):
                return None
            world.contexts += 1
            return IExecutionContext(self._plan)

        def serialize(self) -> bytes:
            return json.dumps(self._plan).encode()

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            self._logger, self._registry = logger, IPluginRegistry()

        def get_plugin_registry(self) -> IPluginRegistry:
            return self._registry

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
            plan = json.loads(serialized_engine)
            if plan["needs_plugin"] and self._registry.get_creator(NODE, "1", "lreorg") is None:
                self._logger.log(Severity.ERROR, "no plugin.")
                return None
            return ICudaEngine(plan, self._logger)

    class Refitter:
        def __init__(self, engine: ICudaEngine, logger: ILogger) -> None:
            self._engine = engine
            self._weight: float | None = None

        def get_missing_weights(self) -> list[str]:
            return ["w"] if self._weight is None or failing("missing") else []

        def refit_cuda_engine(self) -> bool:
            self._engine._plan["weight"] = self._weight
            return not failing("refit")

    class OnnxParserRefitter:
        def __init__(self, refitter: Refitter, logger: ILogger) -> None:
            self._refitter = refitter
            self.num_errors = 0

        def refit_from_file(self, model: str) -> bool:
            if failing("refit_parse"):
                self.num_errors = 1
                return False
            import onnx

            self._refitter._weight = weight_of(onnx.load(model).graph)
            return True

        def get_error(self, index: int) -> Problem:
            return Problem()

    named = (IPluginRegistry, ITensor, ILayer, INetworkDefinition, IOptimizationProfile)
    named += (ITimingCache, IBuilderConfig, Builder, OnnxParser, IExecutionContext)  # type: ignore[assignment]
    named += (ICudaEngine, Runtime, Refitter, OnnxParserRefitter)  # type: ignore[assignment]
    named += (ILogger, DataType, TensorIOMode, LayerType, BuilderFlag)  # type: ignore[assignment]
    named += (MemoryPoolType, NetworkDefinitionCreationFlag)  # type: ignore[assignment]
    for each in named:
        setattr(module, each.__name__, each)
    vars(module)["__version__"] = version
    return module


# Attributes that are set in a constructor and that the class therefore does not show.
_FIELDS = {
    ("ITensor", "name"),
    ("ITensor", "shape"),
    ("ILayer", "type"),
    ("IBuilderConfig", "builder_optimization_level"),
    ("OnnxParser", "num_errors"),
    ("OnnxParserRefitter", "num_errors"),
}


def members() -> set[tuple[str, str]]:
    """(class, member) of everything public that is pretended."""
    found = set(_FIELDS)
    for name, of in vars(package(World())).items():
        if isinstance(of, type) and of is not ILogger:
            found.add(("", name))
            own = of.__members__ if issubclass(of, enum.Enum) else vars(of)
            found |= {(name, member) for member in own if not member.startswith("_")}
    return found
