"""The native engine: handles around csrc/core. Errors of arguments are ValueError."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

def build_config() -> dict[str, Any]:
    """version, compiler, cpu_kernels that run here (widest first), cuda_architectures."""

def cuda_devices() -> dict[str, Any]:
    """built, runtime, driver, devices (list of dicts), and reason (str) where there are none."""

class PackedWeights:
    """Folded weights in one self-describing block of memory."""

    @staticmethod
    def pack(
        *,
        dim: int,
        cond_dim: int,
        num_blocks: int,
        growth: int,
        clamp: float,
        dtype: Literal["float32", "bfloat16", "int8"],
        tensors: dict[str, NDArray[np.float64]],
    ) -> PackedWeights: ...
    @staticmethod
    def from_bytes(data: bytes) -> PackedWeights: ...
    def to_bytes(self) -> bytes: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def dtype(self) -> str: ...

class Program:
    """A reorganization in integers; a lane is (keyword, in1, in2, out1, out2), -1 for none."""

    def __init__(
        self,
        *,
        num_inputs: int,
        steps: list[tuple[str, list[tuple[int, int, int, int, int]]]],
        outputs: list[int],
    ) -> None: ...

class Executor:
    """Runs programs; any number of threads may share one."""

    def __init__(
        self,
        weights: PackedWeights,
        constants: NDArray[np.float32],
        *,
        kernels: str = "auto",
        exact: bool = False,
    ) -> None: ...
    def run(
        self, program: Program, inputs: list[NDArray[np.float32]], threads: int = 1
    ) -> list[NDArray[np.float32]]:
        """inputs (tokens, dim) float32 C-contiguous -> outputs of the same shape; no GIL inside.

        At most ``threads`` threads work on it; results do not depend on how many.
        """
    @property
    def activations(self) -> str:
        """What products read: float32, or copies that are rounded to bfloat16 or int8."""
    @property
    def kernels(self) -> str: ...
