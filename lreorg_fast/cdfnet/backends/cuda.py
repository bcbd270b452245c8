"""The ``cuda`` backend: the latency kernels of kernels/cuda on torch's memory and streams.

Weights are packed and uploaded once, a plan's program once per plan. A call takes its memory from
torch's allocator and queues its launches on torch's current stream; nothing in it waits for the
device, so it can be captured in a CUDA graph, which the engine must outlive. Memory that a call has
used goes back to the allocator while the kernels may still be running, which is safe because the
allocator hands it out again to the same stream only; of the weights it is told who reads them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lreorg_fast.cdfnet.backends import cpu
from lreorg_fast.cdfnet.backends.base import Precision, Run
from lreorg_fast.cdfnet.backends.program import Lane, NumberedPlan, constants, number
from lreorg_fast.cdfnet.folding import KeywordFold, fold
from lreorg_fast.cdfnet.reference import CDFNet
from lreorg_fast.cdfnet.schedule import Plan
from lreorg_fast.errors import BackendUnavailable, ConfigError

if TYPE_CHECKING:
    from lreorg_fast import _native

# Names one of TIERS, for tests and comparisons.
TIER_VARIABLE = "LREORG_CUDA_TIER"
TIERS = ("auto", "cluster", "grid")

# What the kernels' loads and copies of 16 bytes ask of values, and the header of scratch.
_VALUE_BYTES = 16
_SCRATCH_BYTES = 256

# By the first word of LreorgCudaStatus.
_WAITED_FOR = {1: "weights", 2: "other thread blocks"}
_PHASES = ("condition add", "condition scale and shift", "dense add", "dense scale and shift")


def unavailable() -> str | None:
    """Why no CUDA device can be used, or None where at least one can."""
    missing = cpu.unavailable()
    if missing is not None:
        return missing
    from lreorg_fast import _native

    cuda = _native.cuda_devices()
    if not cuda["built"]:
        return f"built without CUDA ({cuda['reason']})"
    if not cuda["devices"]:
        return _without_devices(cuda)
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is built without CUDA; install one with CUDA"
    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} cannot use the CUDA device; see torch.cuda.init()"
    built = _native.build_config()["cuda_architectures"]
    reasons = [_unserved(device, built) for device in cuda["devices"]]
    return None if None in reasons else reasons[0]


def serves(architecture: str, capability: tuple[int, int]) -> bool:
    """Whether code built for one of CMAKE_CUDA_ARCHITECTURES runs on a compute capability.

    ``80`` holds machine code and PTX, which later devices compile when they load it; ``-real``
    leaves the PTX out, and ``90a`` is for that very capability, ``100f`` for its family.
    """
    match = re.fullmatch(r"(\d+)(\d)([af]?)(-real|-virtual)?", architecture)
    if match is None:
        return False
    built, suffix, kind = (int(match[1]), int(match[2])), match[3], match[4]
    if suffix == "a":
        return capability == built
    if suffix == "f" or kind == "-real":
        return capability[0] == built[0] and capability >= built
    return capability >= built


@dataclasses.dataclass(frozen=True)
class CudaWeights:
    """A folded network in a device's memory, in the order in which the kernels stream it.

    Attributes:
        shape: the network's sizes.
        dtype: how weights are stored.
        exact: products read float32 activations.
        tier: one of TIERS.
        group: thread blocks that share a tile of tokens; the blob is packed for it.
        blob: uint8, on the device.
        keywords: makes the constants of keywords.
    """

    shape: _native.CudaShape
    dtype: str
    exact: bool
    tier: str
    group: int
    blob: Tensor
    keywords: KeywordFold

    @property
    def activations(self) -> str:
        """What products read."""
        return "float32" if self.exact or self.dtype == "float32" else self.dtype


class CudaRunner:
    """One network on one CUDA device; safe to use from any thread and on any stream."""

    compute_dtype = torch.float32

    def __init__(self, weights: CudaWeights, keywords: Mapping[str, Tensor]) -> None:
        self.device = weights.blob.device
        self._weights = weights
        self._index = {name: i for i, name in enumerate(keywords)}
        self._constants = torch.from_numpy(constants(weights.keywords, keywords)).to(self.device)
        self._last = threading.local()
        self._ran: dict[str, Any] | None = None

    @classmethod
    def build(cls, net: CDFNet, keywords: Mapping[str, Tensor], precision: Precision) -> CudaRunner:
        """On the network's device, or on the current CUDA device where it is on none."""
        from lreorg_fast import _native
        from lreorg_fast.cdfnet import cuda_packing

        device = _device(next(net.parameters()).device)
        tier = _tier()
        config = net.config
        shape = _native.CudaShape(
            dim=config.dim,
            num_blocks=config.num_blocks,
            growth=config.growth,
            clamp=config.clamp,
        )
        # Occupancy is asked of the current device's context.
        with torch.cuda.device(device):
            _refuse_if_too_large(shape, precision, tier, device)
            group = shape.group(dtype=precision.dtype, tier=tier, device=device.index)
        folded = fold(net)
        blob = cuda_packing.pack(folded, precision.dtype, group)
        expected = shape.weights_bytes(dtype=precision.dtype, group=group)
        if blob.nbytes != expected:
            raise BackendUnavailable(
                f"backend 'cuda' cannot run: packed weights have {blob.nbytes} bytes and the "
                f"native module reads {expected}, so it is of another version; reinstall with "
                "'pip install .'."
            )
        weights = CudaWeights(
            shape=shape,
            dtype=precision.dtype,
            exact=precision.exact,
            tier=tier,
            group=group,
            blob=torch.from_numpy(blob).to(device),
            keywords=folded.keywords,
        )
        return cls(weights, keywords)

    def prepare(self, plan: Plan) -> Run:
        prepared = _Prepared(self._weights, self._constants, number(plan, self._index))

        def run(inputs: Sequence[Tensor]) -> list[Tensor]:
            call = prepared(inputs)
            self._last.status, self._ran = call.status, call.what
            return call.results

        return run

    def fault(self) -> str | None:
        status = getattr(self._last, "status", None)
        words = None if status is None else status.tolist()
        if words is None or words[0] == 0:
            return None
        reason, block, step, layer, phase, expected = words[:6]
        return (
            f"the CUDA kernel gave up: thread block {block} waited for "
            f"{_WAITED_FOR.get(reason, 'something unknown')} (number {expected}) in step {step}, "
            f"network block {layer}, {_PHASES[phase % len(_PHASES)]}"
        )

    def build_info(self) -> dict[str, Any]:
        from lreorg_fast import _native

        return {
            "device": str(self.device),
            "device_name": torch.cuda.get_device_name(self.device),
            "activations": self._weights.activations,
            "tier": self._weights.tier,
            "group": self._weights.group,
            "packed_bytes": self._weights.blob.numel(),
            "architectures": _native.build_config()["cuda_architectures"],
            "last_run": self._ran,
        }

    def with_keywords(self, keywords: Mapping[str, Tensor]) -> CudaRunner:
        return CudaRunner(self._weights, keywords)


@dataclasses.dataclass(frozen=True)
class _Call:
    """What a run has queued: its results, its status words and what it consists of."""

    results: list[Tensor]
    status: Tensor | None
    what: dict[str, Any] | None


class _Prepared:
    """A program with everything on the device that it reads, to be run with any inputs."""

    def __init__(self, weights: CudaWeights, constants: Tensor, plan: NumberedPlan) -> None:
        from lreorg_fast import _native

        most = _native.cuda_most_values()
        if plan.num_values > most:
            raise ConfigError(
                f"the reorganization has {plan.num_values} values and backend 'cuda' takes at "
                f"most {most}; hide and keep fewer keywords in one call."
            )
        steps: list[tuple[str, list[Lane]]] = [*plan.steps]
        self._plan = plan
        self._device = weights.blob.device
        self._program = _native.CudaProgram(
            shape=weights.shape,
            dtype=weights.dtype,
            exact=weights.exact,
            tier=weights.tier,
            device=self._device.index,
            steps=steps,
            num_values=plan.num_values,
        )
        # The program knows addresses only: these keep the memory.
        self._held = [
            weights.blob,
            constants,
            *(_upload(data, self._device) for data in (self._program.steps, self._program.lanes)),
        ]
        blob, table, on_steps, on_lanes = (tensor.data_ptr() for tensor in self._held)
        self._program.place(weights=blob, constants=table, steps=on_steps, lanes=on_lanes)
        self._plans: dict[int, _native.CudaPlan] = {}
        self._streams: set[int] = set()

    def __call__(self, inputs: Sequence[Tensor]) -> _Call:
        tokens = len(inputs[0])
        if tokens == 0:
            return _Call([torch.empty_like(inputs[0]) for _ in self._plan.outputs], None, None)
        if not self._plan.steps:
            return _Call([inputs[i].clone() for i in self._plan.outputs], None, None)
        with torch.cuda.device(self._device):
            return self._queue([_aligned(x) for x in inputs], tokens)

    def _queue(self, inputs: list[Tensor], tokens: int) -> _Call:
        from lreorg_fast import _native

        stream = torch.cuda.current_stream(self._device)
        self._keep_for(stream)
        plan = self._sizes(tokens)
        made = {i: torch.empty_like(inputs[0]) for i in self._plan.outputs}
        between = [i for i in range(len(inputs), self._plan.num_values) if i not in made]
        # Rows of 256 bytes, so that every value and the scratch memory begin at a multiple.
        stride = -(-inputs[0].nbytes // _SCRATCH_BYTES) * _SCRATCH_BYTES
        space = torch.empty(
            stride * len(between) + plan.scratch_bytes, dtype=torch.uint8, device=self._device
        )
        status = torch.empty(_native.CUDA_STATUS_WORDS, dtype=torch.int32, device=self._device)
        start = space.data_ptr()
        address = {i: tensor.data_ptr() for i, tensor in (made | dict(enumerate(inputs))).items()}
        address |= {i: start + stride * row for row, i in enumerate(between)}
        with self._refused(tokens):
            self._program.run(
                plan,
                tokens=tokens,
                values=[address[i] for i in range(self._plan.num_values)],
                scratch=start + stride * len(between),
                status=status.data_ptr(),
                stream=stream.cuda_stream,
            )
        return _Call(list(made.values()), status, {"tokens": tokens, **_described(plan)})

    def _keep_for(self, stream: torch.cuda.Stream) -> None:
        """Tells the allocator that this stream reads what another one's may have been given."""
        if stream.cuda_stream in self._streams or torch.cuda.is_current_stream_capturing():
            return
        for tensor in self._held:
            tensor.record_stream(stream)
        self._streams.add(stream.cuda_stream)

    def _sizes(self, tokens: int) -> _native.CudaPlan:
        # Two threads may both ask; they store equal things.
        if tokens not in self._plans:
            with self._refused(tokens):
                self._plans[tokens] = self._program.plan(tokens)
        return self._plans[tokens]

    @contextlib.contextmanager
    def _refused(self, tokens: int) -> Iterator[None]:
        """Says what was asked of the device where it, or its driver, gives a reason."""
        try:
            yield
        except RuntimeError as error:
            raise BackendUnavailable(
                f"backend 'cuda' cannot run {tokens} tokens on {self._device}: {error}; use "
                "another backend."
            ) from error


def _refuse_if_too_large(
    shape: _native.CudaShape, precision: Precision, tier: str, device: torch.device
) -> None:
    """What a device has too little shared memory for is known before weights are packed."""
    from lreorg_fast import _native

    program = _native.CudaProgram(
        shape=shape,
        dtype=precision.dtype,
        exact=precision.exact,
        tier=tier,
        device=device.index,
        steps=[("disentangle", [(0, -1, 0, 1, 2)])],
        num_values=3,
    )
    try:
        program.plan(1)
    except RuntimeError as error:
        raise BackendUnavailable(
            f"backend 'cuda' cannot run this network on {device} with tier {tier!r}: {error}; "
            f"unset {TIER_VARIABLE} or use another backend."
        ) from error


def _described(plan: _native.CudaPlan) -> dict[str, Any]:
    names = ("tier", "group", "tile", "groups", "shared_bytes", "scratch_bytes", "launches")
    return {name: getattr(plan, name) for name in names}


def _upload(data: bytes, device: torch.device) -> Tensor:
    # Waits, as copies from ordinary memory do: any stream may read it afterwards. A byte more, as
    # a program without steps has no data and must have an address.
    return torch.from_numpy(np.frombuffer(data + b"\0", dtype=np.uint8).copy()).to(device)


def _aligned(x: Tensor) -> Tensor:
    """Without a copy where the rows follow each other and begin where the kernels can load."""
    x = x.detach().contiguous()
    return x if x.data_ptr() % _VALUE_BYTES == 0 else x.clone()


def _device(of_network: torch.device) -> torch.device:
    """Where to run, with its index; it must be one for which the kernels were built."""
    from lreorg_fast import _native

    index = of_network.index if of_network.type == "cuda" else torch.cuda.current_device()
    device = torch.device("cuda", index)
    built = _native.build_config()["cuda_architectures"]
    reason = _unserved(_native.cuda_devices()["devices"][device.index], built)
    if reason is not None:
        raise BackendUnavailable(
            f"backend 'cuda' cannot run on {device}: {reason}; move the network to another device."
        )
    return device


def _unserved(device: Mapping[str, Any], built: str) -> str | None:
    """Why the kernels cannot run on a device of cuda_devices(), or None."""
    major, minor = device["compute_capability"]
    if any(serves(architecture, (major, minor)) for architecture in built.split()):
        return None
    return (
        f"{device['name']} has compute capability {major}.{minor}, and the kernels are built for "
        f"{built}; set LREORG_CUDA_ARCHS when building, 80 is the least"
    )


def _without_devices(cuda: Mapping[str, Any]) -> str:
    driver, runtime = cuda["driver"], cuda["runtime"]
    if driver is not None and int(driver.split(".")[0]) < int(runtime.split(".")[0]):
        return (
            f"the driver is too old: it supports CUDA {driver} and the kernels are built with "
            f"{runtime}; update it, or build with an older toolkit"
        )
    return f"no CUDA device ({cuda['reason']})"


def _tier() -> str:
    tier = os.environ.get(TIER_VARIABLE, TIERS[0])
    if tier not in TIERS:
        raise BackendUnavailable(
            f"{TIER_VARIABLE} is {tier!r}; unset it or choose one of {', '.join(TIERS)}."
        )
    return tier
