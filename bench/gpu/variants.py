"""What is compared on a GPU, as data, and how each is built.

A builder returns ``prepare(s, f)``, which takes float32 latents and new key features (faces,
tokens, dim) on the device and returns the call that is timed, as :mod:`bench.runtimes` does for
the CPU.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch._dynamo.config
from torch import Tensor, nn

import lreorg_fast as lf
from bench import cases
from bench.runtimes import recurrence_module
from lreorg_fast.cdfnet.backends import BACKENDS, Precision, cuda

Call = Callable[[], Tensor]
Prepare = Callable[[Tensor, Tensor], Call]

AUTO = "auto"
# The graph is captured here, around the whole recurrence.
AUTOTUNE = "max-autotune-no-cudagraphs"

_GRAPHS = 256  # of one compiled direction: numbers of faces times dtypes
_WARM_UP = 3


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        runtime: a backend of ``lf.compile``, "auto", "eager" or "compile".
        dtype: type of the weights; of everything else too, but for the engine.
        network: "engine", or for peers "reference" (14 passes) or "folded" (the engine's algebra as
            plain torch operations, 10 dependent steps).
        tier: how the cuda backend's blocks meet; "" leaves it the choice.
        activations: the engine's option.
        mode: of torch.compile.
        captured: the call is the replay of a CUDA graph of the whole recurrence; the engine then
            has ``faults="nan"``, which does not wait for the device.
        faces: the numbers of faces that it is compiled for, where each takes long; None is all.
        slow: left out by ``--quick``.
    """

    runtime: str
    dtype: str
    network: str = "engine"
    tier: str = ""
    activations: str = "auto"
    mode: str | None = None
    captured: bool = False
    faces: tuple[int, ...] | None = None
    slow: bool = False

    @property
    def name(self) -> str:
        parts = [] if self.network != "folded" else ["folded"]
        parts += [self.runtime, *([self.tier] if self.tier else [])]
        parts += ["max-autotune"] if self.mode == AUTOTUNE else []
        parts.append(self.dtype)
        parts += [f"{self.activations}-activations"] if self.activations != "auto" else []
        parts += ["captured"] if self.captured else []
        return "-".join(parts)

    @property
    def is_engine(self) -> bool:
        return self.network == "engine"


def _engines() -> Iterator[Variant]:
    yield Variant(AUTO, "bfloat16")
    for tier in cuda.TIERS[1:]:  # the first leaves the choice to the backend
        yield Variant("cuda", "bfloat16", tier=tier)
        yield Variant("cuda", "bfloat16", tier=tier, captured=True)
    yield Variant("cuda", "bfloat16", activations="float32")
    for dtype in ("float16", "float32"):
        yield Variant("cuda", dtype)
    yield Variant("triton", "bfloat16")
    yield Variant("triton", "bfloat16", captured=True)
    yield Variant("triton", "float32", slow=True)


PLAIN_BFLOAT16 = Variant("eager", "bfloat16", "reference")
PEERS = (
    Variant("eager", "float32", "reference"),
    PLAIN_BFLOAT16,
    Variant("eager", "bfloat16", "reference", captured=True),
    Variant("eager", "float32", "folded", captured=True),
    Variant("eager", "bfloat16", "folded", captured=True),
    Variant("compile", "bfloat16", "reference"),
    Variant("compile", "bfloat16", "reference", captured=True),
    Variant(
        "compile",
        "bfloat16",
        "reference",
        mode=AUTOTUNE,
        captured=True,
        faces=(1, 8, 64, 256),
        slow=True,
    ),
    Variant(
        "compile", "bfloat16", "folded", mode=AUTOTUNE, captured=True, faces=(1, 256), slow=True
    ),
)
VARIANTS = (*_engines(), *PEERS)


def choose(quick: bool, faces: int) -> list[Variant]:
    """The variants of one number of faces, in table order."""
    return [
        variant
        for variant in VARIANTS
        if not (quick and variant.slow) and (variant.faces is None or faces in variant.faces)
    ]


def missing(variant: Variant) -> str | None:
    """Why this build or device does not offer an engine's variant; None where it does."""
    if not variant.is_engine or variant.runtime == AUTO:
        return None
    (info,) = (info for info in BACKENDS if info.name == variant.runtime)
    reason = info.unavailable()
    if reason is None and not info.offers(Precision(variant.dtype, variant.activations != AUTO)):
        reason = f"backend {info.name} does not offer {variant.dtype} so"
    return reason


def build(variant: Variant, device: str, config: lf.CDFNetConfig) -> tuple[Prepare, Any]:
    """(prepare, what really runs)."""
    builder = _engine if variant.is_engine else _peer
    return builder(variant, device, config)


def _engine(variant: Variant, device: str, config: lf.CDFNetConfig) -> tuple[Prepare, Any]:
    net, keywords = cases.network(config)
    with _tier(variant.tier):
        engine = lf.compile(
            copy.deepcopy(net).to(device),
            {name: k.to(device) for name, k in keywords.items()},
            backend=variant.runtime,
            dtype=variant.dtype,
            activations=variant.activations,
            faults="nan" if variant.captured else "raise",
        )

    def prepare(s: Tensor, f: Tensor) -> Call:
        def call() -> Tensor:
            return engine.reorganize(s, {cases.HIDE: f}, cases.KEEP)

        return capture(call) if variant.captured else call

    return prepare, engine.build_info()


def _peer(variant: Variant, device: str, config: lf.CDFNetConfig) -> tuple[Prepare, Any]:
    dtype = getattr(torch, variant.dtype)
    module = recurrence_module(variant.network, config).to(device, dtype)
    if variant.runtime == "compile":
        compile_blocks(module if variant.network == "folded" else module.net, variant.mode)

    def prepare(s: Tensor, f: Tensor) -> Call:
        inputs = [x.to(dtype).reshape(-1, config.dim) for x in (s, f)]

        def call() -> Tensor:
            with torch.no_grad():
                made: Tensor = module(*inputs)
            return made.reshape(s.shape)

        return capture(call) if variant.captured else call

    return prepare, {"torch": torch.__version__}


class _Compiled(nn.Module):
    """A block whose directions are compiled. All blocks share one graph for each direction: their
    code and shapes are the same, and their parameters are inputs of it."""

    def __init__(self, block: nn.Module, directions: Sequence[str], **options: Any) -> None:
        super().__init__()
        self.block = block
        for name in directions:
            setattr(self, name, torch.compile(getattr(block, name), fullgraph=True, **options))


def compile_blocks(network: nn.Module, mode: str | None, backend: str = "inductor") -> None:
    """Replace every block by its compiled form, in place.

    As one graph, the recurrence takes Inductor many minutes; at the border of two blocks nothing
    could be fused but one addition. Without a mode it is compiled once for any number of rows; an
    autotuned mode chooses its products for each.
    """
    torch._dynamo.config.recompile_limit = _GRAPHS
    directions = ("disentangle", "fuse")
    if isinstance(network, lf.CDFNet):
        directions = ("forward", "inverse")
    blocks: Any = network.blocks
    dynamic = mode is None
    network.blocks = nn.ModuleList(
        _Compiled(block, directions, mode=mode, dynamic=dynamic, backend=backend)
        for block in blocks
    )


def capture(call: Call) -> Call:
    """The replay of ``call`` as a CUDA graph; its result lies in the same memory every time."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # as torch asks for: warm up beside the default stream
        for _ in range(_WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


@contextlib.contextmanager
def _tier(name: str) -> Iterator[None]:
    """Ask the cuda backend for a tier, as users do: through its environment variable."""
    if not name:
        yield
        return
    before = os.environ.get(cuda.TIER_VARIABLE)
    os.environ[cuda.TIER_VARIABLE] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[cuda.TIER_VARIABLE]
        else:
            os.environ[cuda.TIER_VARIABLE] = before
