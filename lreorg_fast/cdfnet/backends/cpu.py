"""The ``cpu`` backend: the C++ engine of csrc/core and kernels/cpu."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor

from lreorg_fast.cdfnet.backends.base import Precision, Run
from lreorg_fast.cdfnet.backends.program import Lane, constants, number
from lreorg_fast.cdfnet.folding import KeywordFold, fold
from lreorg_fast.cdfnet.reference import CDFNet
from lreorg_fast.cdfnet.schedule import Plan
from lreorg_fast.errors import BackendUnavailable

if TYPE_CHECKING:
    from lreorg_fast import _native

# Names one of the instruction sets of build_config()["cpu_kernels"], for tests and comparisons.
ISA_VARIABLE = "LREORG_CPU_ISA"


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
        self._executor = _native.Executor(
            weights,
            constants(fold, keywords),
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


def native_program(plan: Plan, keywords: Mapping[str, int]) -> _native.Program:
    """A plan as the C++ engine takes it; ``keywords`` are the rows of its constants."""
    from lreorg_fast import _native

    numbered = number(plan, keywords)
    steps: list[tuple[str, list[Lane]]] = [*numbered.steps]
    return _native.Program(num_inputs=numbered.num_inputs, steps=steps, outputs=numbered.outputs)


def unavailable() -> str | None:
    """Why the native module cannot be used, or None."""
    try:
        from lreorg_fast import _native  # noqa: F401
    except ImportError as error:
        return f"the native module does not load ({error}); reinstall with 'pip install .'"
    return None


def _instruction_set(supported: Sequence[str]) -> str:
    """What the environment asks for, else the fastest."""
    name = os.environ.get(ISA_VARIABLE, supported[0])
    if name not in supported:
        raise BackendUnavailable(
            f"{ISA_VARIABLE} is {name!r}, which this machine or build cannot run; unset it or "
            f"choose one of {', '.join(supported)}."
        )
    return name
