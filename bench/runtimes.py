"""How each variant is built. Imported by worker processes only: each loads just its own library.

A builder returns ``prepare(s, f)``, which takes float32 arrays (rows, dim) and returns the call
that is timed. Inputs are converted to the variant's type in ``prepare``, before the clock starts.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lreorg_fast as lf
from bench import TOKENS
from bench.variants import Variant

Array = NDArray[np.float32]
Call = Callable[[], Any]
Prepare = Callable[[Array, Array], Call]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all variants of a run share.

    Attributes:
        config: the network's shape; its weights follow from it.
        threads: threads that each variant may use.
        folder: holds the exported networks, ``reference.onnx`` and ``folded.onnx``.
    """

    config: lf.CDFNetConfig
    threads: int
    folder: Path

    def exported(self, network: str) -> Path:
        return self.folder / f"{network}.onnx"


def build(variant: Variant, setting: Setting) -> tuple[Prepare, dict[str, Any]]:
    """(prepare, what really runs) of a variant."""
    return _BUILDERS[variant.runtime](variant, setting)


def export(network: str, setting: Setting) -> None:
    """Write the whole recurrence in float32 as one ONNX graph with any number of rows."""
    import warnings

    import torch

    module = recurrence_module(network, setting.config).float()
    rows = torch.zeros(2, setting.config.dim)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer warns of every fixed number of lanes
        torch.onnx.export(
            module,
            (rows, rows),
            str(setting.exported(network)),
            input_names=["s", "f"],
            output_names=["reorganized"],
            dynamic_axes={"s": {0: "rows"}, "f": {0: "rows"}},
            opset_version=17,
            dynamo=False,  # the newer exporter takes minutes for these 20,000 nodes
        )


def as_array(result: Any) -> Array:
    """What a call returned, as float32."""
    array: Array = np.asarray(result if isinstance(result, np.ndarray) else result.float())
    return array


def recurrence_module(network: str, config: lf.CDFNetConfig) -> Any:
    """The recurrence as a module of (s, f)."""
    from torch import nn

    from bench import cases
    from bench.folded import FoldedRecurrence

    net, keywords = cases.network(config)
    if network == "folded":
        return FoldedRecurrence(net, keywords, cases.recurrence()).eval()

    class Reference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = copy.deepcopy(net)
            # One row each: Inductor fails on products with a vector.
            rows = {name: k[None] for name, k in keywords.items()}
            self.keywords = nn.ParameterDict(rows).requires_grad_(False)

        def forward(self, s: Any, f: Any) -> Any:
            features = dict(self.keywords.items())
            return self.net.reorganize(s, features, {cases.HIDE: f}, cases.KEEP)

    return Reference().eval()


def _engine(variant: Variant, setting: Setting) -> tuple[Prepare, dict[str, Any]]:
    import torch

    from bench import cases

    torch.set_num_threads(setting.threads)
    engine = cases.engine("cpu", variant.dtype, variant.activations, setting.config)

    def prepare(s: Array, f: Array) -> Call:
        latent, feature = torch.from_numpy(s), torch.from_numpy(f)
        return lambda: engine.reorganize(latent, {cases.HIDE: feature}, cases.KEEP)

    return prepare, engine.build_info()


def _torch(variant: Variant, setting: Setting, compiled: bool) -> tuple[Prepare, dict[str, Any]]:
    import torch

    from bench.compiled import compile_blocks

    torch.set_num_threads(setting.threads)
    dtype = getattr(torch, variant.dtype)
    module = recurrence_module(variant.network, setting.config).to(dtype)
    if compiled:
        compile_blocks(module if variant.network == "folded" else module.net)

    def prepare(s: Array, f: Array) -> Call:
        inputs = [torch.from_numpy(x).to(dtype) for x in (s, f)]

        def call() -> Any:
            # Not inference_mode: frozen graphs refuse to be shared between it and no_grad.
            with torch.no_grad():
                return module(*inputs)

        return call

    return prepare, {"torch": torch.__version__, "threads": torch.get_num_threads()}


def _onnxruntime(variant: Variant, setting: Setting) -> tuple[Prepare, dict[str, Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setting.threads
    session = onnxruntime.InferenceSession(
        setting.exported(variant.network), options, providers=["CPUExecutionProvider"]
    )

    def prepare(s: Array, f: Array) -> Call:
        return lambda: session.run(None, {"s": s, "f": f})[0]

    return prepare, {"onnxruntime": onnxruntime.__version__, "threads": setting.threads}


def _openvino(variant: Variant, setting: Setting) -> tuple[Prepare, dict[str, Any]]:
    import openvino

    core = openvino.Core()
    model = core.read_model(setting.exported(variant.network))
    options = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[variant.dtype],
        "INFERENCE_NUM_THREADS": setting.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }

    # One face takes a fifth to a third longer with any number of rows than with a fixed one.
    @functools.lru_cache(maxsize=1)
    def request(rows: int) -> Any:
        model.reshape({name: [rows, setting.config.dim] for name in ("s", "f")})
        return core.compile_model(model, "CPU", options).create_infer_request()

    def prepare(s: Array, f: Array) -> Call:
        compiled = request(len(s))
        return lambda: compiled.infer([s, f])[0]

    compiled = request(TOKENS).get_compiled_model()
    facts = {
        "openvino": openvino.__version__,
        "threads": compiled.get_property("INFERENCE_NUM_THREADS"),
        "precision": compiled.get_property("INFERENCE_PRECISION_HINT").to_string(),
    }
    return prepare, facts


_BUILDERS: dict[str, Callable[[Variant, Setting], tuple[Prepare, dict[str, Any]]]] = {
    "engine": _engine,
    "eager": functools.partial(_torch, compiled=False),
    "compile": functools.partial(_torch, compiled=True),
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
