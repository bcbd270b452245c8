"""The native engine: handles around csrc/core. Errors of arguments are ValueError."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

def build_config() -> dict[str, Any]:
    """version, compiler, cpu_kernels that run here (fastest first), cuda_architectures."""

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

# The names with CUDA in them exist in builds with CUDA only: cuda_devices()["built"]. Addresses are
# those of device memory, which the caller keeps; see kernels/cuda/reorganize.h. What the device or
# the driver refuses is a RuntimeError.

CUDA_STATUS_WORDS: int

def cuda_most_values() -> int:
    """Largest number of values of a program."""

class CudaShape:
    """The sizes of a network that matter to the kernels."""

    def __init__(self, *, dim: int, num_blocks: int, growth: int, clamp: float) -> None: ...
    def group(self, *, dtype: str, tier: str, device: int) -> int:
        """Thread blocks that share a tile of tokens; 0 where the device cannot run the tier."""
    def weights_bytes(self, *, dtype: str, group: int) -> int: ...

class CudaPlan:
    """What will run for a number of tokens."""

    @property
    def tier(self) -> str: ...
    @property
    def group(self) -> int: ...
    @property
    def tile(self) -> int: ...
    @property
    def groups(self) -> int: ...
    @property
    def shared_bytes(self) -> int: ...
    @property
    def launches(self) -> int: ...
    @property
    def scratch_bytes(self) -> int: ...

class CudaProgram:
    """A network and a program on one device; any number of threads may share a placed one."""

    def __init__(
        self,
        *,
        shape: CudaShape,
        dtype: str,
        exact: bool,
        tier: str,
        device: int,
        steps: list[tuple[str, list[tuple[int, int, int, int, int]]]],
        num_values: int,
    ) -> None: ...
    @property
    def steps(self) -> bytes:
        """The steps as the kernels read them, to be copied to the device."""
    @property
    def lanes(self) -> bytes:
        """The lanes as the kernels read them, to be copied to the device."""
    def place(self, *, weights: int, constants: int, steps: int, lanes: int) -> None:
        """Say where the device's memory holds them; once, before the first run."""
    def plan(self, tokens: int) -> CudaPlan: ...
    def run(
        self,
        plan: CudaPlan,
        *,
        tokens: int,
        values: list[int],
        scratch: int,
        status: int,
        stream: int,
    ) -> None:
        """Queue the program on a stream of the current device; no GIL inside, nothing waits."""

View = tuple[int, str, tuple[int, ...]]
"""A dense tensor: address, dtype (float32 or bfloat16), shape."""

def network_kernels() -> list[str]:
    """Instruction sets of NetworkPasses that run here, fastest first."""

def multiplies_bfloat16() -> bool:
    """Whether the CPU has AVX512-BF16 or AMX-BF16."""

def winograd_pays() -> bool:
    """Whether winograd() runs here and is faster than a direct convolution."""

def winograd(
    *,
    in_: View,
    weights: View,
    bias: View | None,
    leak: float,
    stride: int,
    out: View,
    threads: int,
) -> None:
    """3x3 convolution, zero padding 1, bfloat16; weights as in kernels/cpu/networks/winograd.h."""

class NetworkPasses:
    """What lies between convolutions, see kernels/cpu/networks/pointwise.h; no GIL inside."""

    def __init__(self, kernels: str = "auto") -> None: ...
    @property
    def kernels(self) -> str: ...
    def finish(
        self,
        *,
        in_: View,
        out: View | None,
        gain: View,
        bias: View,
        noise: View | None,
        next_style: View | None,
        colours: View | None,
        colour_bias: View | None,
        skip: View | None,
        picture: View | None,
        threads: int,
        limit: float = ...,
    ) -> None: ...
    def up_finish(
        self,
        *,
        phases: list[View],
        out: View,
        gain: View,
        bias: View,
        noise: View | None,
        next_style: View,
        threads: int,
        limit: float = ...,
    ) -> None: ...
    def prelu(self, *, in_: View, out: View, bias: View, slope: View, threads: int) -> None: ...
    def row_sums(self, *, in_: View, out: View, threads: int) -> None: ...
    def gated_sum(
        self,
        *,
        in_: View,
        gate: View,
        offset: View,
        shortcut: View,
        stride: int,
        out: View,
        threads: int,
    ) -> None: ...
    def stretched_sum(self, *, fine: View, coarse: View, out: View, threads: int) -> None: ...
