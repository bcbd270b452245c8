"""What can run a CDFNet: the backends as data, and the runners that they build.

A runner turns a :class:`~lreorg_fast.cdfnet.schedule.Plan` into a function on (tokens, dim)
tensors. ``dtype`` names how weights are stored; streams and sums are float32 (float64 for
"float64"), as spec/kernels.md asks: bfloat16 weights cost accuracy once, not in every block.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from lreorg_fast.cdfnet.folding import KeywordFold, fold
from lreorg_fast.cdfnet.reference import CDFNet
from lreorg_fast.cdfnet.schedule import Plan
from lreorg_fast.errors import BackendUnavailable

if TYPE_CHECKING:
    from lreorg_fast import _native

Run = Callable[[Sequence[Tensor]], list[Tensor]]

# Names one of the instruction sets of build_config()["cpu_kernels"], for tests and comparisons.
ISA_VARIABLE = "LREORG_CPU_ISA"


@dataclasses.dataclass(frozen=True)
class Precision:
    """What a runner is asked for.

    Attributes:
        dtype: how weights are stored.
        exact: products read float32 activations even where rounded ones are faster.
    """

    dtype: str
    exact: bool


class Runner(Protocol):
    """One network on one backend."""

    @property
    def device(self) -> torch.device:
        """Where inputs must be."""

    @property
    def compute_dtype(self) -> torch.dtype:
        """What inputs must be converted to."""

    def prepare(self, plan: Plan) -> Run:
        """A thread-safe function from the plan's inputs to its outputs, all (tokens, dim)."""

    def build_info(self) -> dict[str, Any]:
        """What really runs, beyond the backend's name and dtype."""

    def with_keywords(self, keywords: Mapping[str, Tensor]) -> Runner:
        """A runner for exactly these keywords that shares the weights."""


@dataclasses.dataclass(frozen=True)
class BackendInfo:
    """A backend as data.

    Attributes:
        name: what users pass as ``backend=``.
        unavailable: None where it can run, else the reason, in words that end a sentence.
        dtypes: the weight types that it offers.
        devices: torch device types that its inputs may be on; None means any.
        build: makes a runner; None while a version has no kernels for the backend, in which case
            ``unavailable`` always gives a reason.
    """

    name: str
    unavailable: Callable[[], str | None]
    dtypes: tuple[str, ...]
    devices: tuple[str, ...] | None
    build: Callable[[CDFNet, Mapping[str, Tensor], Precision], Runner] | None


class ReferenceRunner:
    """The reference network, pass by pass. bfloat16 here means weights rounded to bfloat16;
    activations are never rounded."""

    def __init__(self, net: CDFNet, keywords: Mapping[str, Tensor]) -> None:
        self._net = net
        parameter = next(net.parameters())
        self.device, self.compute_dtype = parameter.device, parameter.dtype
        self._keywords = {
            name: k.to(device=self.device, dtype=self.compute_dtype) for name, k in keywords.items()
        }

    @classmethod
    def build(
        cls, net: CDFNet, keywords: Mapping[str, Tensor], precision: Precision
    ) -> ReferenceRunner:
        own = copy.deepcopy(net).eval().requires_grad_(False)
        if precision.dtype == "bfloat16":
            own = own.to(torch.bfloat16)
        double = precision.dtype == "float64"
        return cls(own.to(torch.float64 if double else torch.float32), keywords)

    def prepare(self, plan: Plan) -> Run:
        def run(inputs: Sequence[Tensor]) -> list[Tensor]:
            values = dict(zip(plan.inputs, inputs, strict=True))
            with torch.no_grad():
                for item in plan.passes:
                    k, second = self._keywords[item.keyword], values[item.reads[1]]
                    if item.direction == "disentangle":
                        results = self._net.disentangle(second, k)
                    else:
                        results = self._net.fuse(values[cast(str, item.reads[0])], second, k)
                    for name, result in zip(item.writes, results, strict=True):
                        if name is not None:
                            values[name] = result
            return [values[name] for name in plan.outputs]

        return run

    def build_info(self) -> dict[str, Any]:
        return {
            "device": str(self.device),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "activations": str(self.compute_dtype).removeprefix("torch."),
        }

    def with_keywords(self, keywords: Mapping[str, Tensor]) -> ReferenceRunner:
        return ReferenceRunner(self._net, keywords)


class NativeRunner:
    """The C++ engine: folded weights packed once, a whole plan in one call without the GIL.

    At most ``torch.get_num_threads()`` threads work on a call; results do not depend on how many.
    """

    device = torch.device("cpu")
    compute_dtype = torch.float32

    def __init__(
        self,
        weights: _native.PackedWeights,
        fold: KeywordFold,
        keywords: Mapping[str, Tensor],
        exact: bool,
    ) -> None:
        from lreorg_fast import _native

        self._weights = weights
        self._fold = fold
        self._exact = exact
        self._index = {name: i for i, name in enumerate(keywords)}
        tables = [fold.table(k.detach().cpu().double().numpy()) for k in keywords.values()]
        self._executor = _native.Executor(
            weights,
            np.asarray(tables, dtype=np.float32),
            kernels=_instruction_set(_native.build_config()["cpu_kernels"]),
            exact=exact,
        )

    @classmethod
    def build(
        cls, net: CDFNet, keywords: Mapping[str, Tensor], precision: Precision
    ) -> NativeRunner:
        from lreorg_fast import _native

        folded = fold(net)
        weights = _native.PackedWeights.pack(
            **net.config.to_dict(),
            dtype=cast(Literal["float32", "bfloat16", "int8"], precision.dtype),
            tensors=folded.tensors(),
        )
        return cls(weights, folded.keywords, keywords, precision.exact)

    def prepare(self, plan: Plan) -> Run:
        program = native_program(plan, self._index)

        def run(inputs: Sequence[Tensor]) -> list[Tensor]:
            arrays = [tensor.detach().contiguous().numpy() for tensor in inputs]
            results = self._executor.run(program, arrays, torch.get_num_threads())
            return [torch.from_numpy(array) for array in results]

        return run

    def build_info(self) -> dict[str, Any]:
        from lreorg_fast import _native

        config = _native.build_config()
        return {
            "device": "cpu",
            "kernels": self._executor.kernels,
            "activations": self._executor.activations,
            "compiler": config["compiler"],
            "threads": torch.get_num_threads(),
            "packed_bytes": self._weights.nbytes,
        }

    def with_keywords(self, keywords: Mapping[str, Tensor]) -> NativeRunner:
        return NativeRunner(self._weights, self._fold, keywords, self._exact)


def _instruction_set(supported: Sequence[str]) -> str:
    """What the environment asks for, else the fastest."""
    name = os.environ.get(ISA_VARIABLE, supported[0])
    if name not in supported:
        raise BackendUnavailable(
            f"{ISA_VARIABLE} is {name!r}, which this machine or build cannot run; unset it or "
            f"choose one of {', '.join(supported)}."
        )
    return name


def native_program(plan: Plan, keywords: Mapping[str, int]) -> _native.Program:
    """A plan in the integers of csrc/core/program.h: values numbered in the order of writing."""
    from lreorg_fast import _native

    names: list[str | None] = [None, *plan.inputs]
    steps: list[tuple[str, list[tuple[int, int, int, int, int]]]] = []
    for step in plan.steps:
        lanes = []
        for item in step:
            names += [name for name in item.writes if name is not None]
            streams = [names.index(name) - 1 for name in (*item.reads, *item.writes)]
            in1, in2, out1, out2 = streams
            lanes.append((keywords[item.keyword], in1, in2, out1, out2))
        steps.append((step[0].direction, lanes))
    outputs = [names.index(name) - 1 for name in plan.outputs]
    return _native.Program(num_inputs=len(plan.inputs), steps=steps, outputs=outputs)


def _cpu_unavailable() -> str | None:
    try:
        from lreorg_fast import _native  # noqa: F401
    except ImportError as error:
        return f"the native module does not load ({error}); reinstall with 'pip install .'"
    return None


def _cuda_unavailable() -> str | None:
    missing = _cpu_unavailable()
    if missing is not None:
        return missing
    from lreorg_fast import _native

    cuda = _native.cuda_devices()
    if not cuda["built"]:
        return f"built without CUDA ({cuda['reason']})"
    if not cuda["devices"]:
        return f"no CUDA device ({cuda['reason']})"
    return "this version has no CUDA kernels yet"


def _triton_unavailable() -> str | None:
    return "this version has no Triton kernels yet"


# "auto" takes the first that can run: fastest first.
BACKENDS: tuple[BackendInfo, ...] = (
    BackendInfo("cuda", _cuda_unavailable, ("bfloat16",), ("cuda",), None),
    BackendInfo("triton", _triton_unavailable, ("bfloat16",), ("cuda",), None),
    BackendInfo(
        "cpu",
        _cpu_unavailable,
        ("float32", "bfloat16", "int8"),
        ("cpu",),
        NativeRunner.build,
    ),
    BackendInfo(
        "reference", lambda: None, ("float32", "bfloat16", "float64"), None, ReferenceRunner.build
    ),
)
