"""The ``cuda`` backend without a GPU: its reasons, and what it hands to the kernels.

The native program is replaced by one that runs in float64 on the CPU from the very addresses that
the backend passes: uploaded steps and lanes, constants, values, scratch and status.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lreorg_fast as lf
from lreorg_fast import _native
from lreorg_fast.cdfnet import cuda_packing
from lreorg_fast.cdfnet.backends import cuda, registry
from lreorg_fast.cdfnet.folding import FoldedCDFNet, fold
from lreorg_fast.errors import BackendUnavailable, ConfigError, PrivacyError
from tolerances import tolerance

GROUP = 4
SCRATCH = 768
STREAM = 1234
H200 = {"name": "NVIDIA H200", "compute_capability": (9, 0)}
T4 = {"name": "Tesla T4", "compute_capability": (7, 5)}


def at(address: int, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """The memory at an address."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = (ctypes.c_char * size).from_address(address)
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


class FakePlan:
    tier, group, tile, groups, shared_bytes, launches = "cluster", GROUP, 16, 2, 1000, 1
    scratch_bytes = SCRATCH


class FakeShape:
    program: type[FakeProgram]

    def __init__(self, **sizes: float) -> None:
        self.sizes = sizes

    def group(self, *, dtype: str, tier: str, device: int) -> int:
        return GROUP

    def weights_bytes(self, *, dtype: str, group: int) -> int:
        return self.program.weights.nbytes


class FakeProgram:
    """What kernels/cuda/reorganize.h promises, from the addresses alone."""

    folded: FoldedCDFNet
    weights: np.ndarray
    runs: list[dict[str, Any]]
    reason: str | None
    refused_from: int
    kept: list[tuple[Tensor, Any]]
    failing: tuple[int, ...]

    def __init__(self, **given: Any) -> None:
        self.given = given
        lanes = [lane for _, lanes in given["steps"] for lane in lanes]
        rows, first = [], 0
        for direction, of_step in given["steps"]:
            rows.append((("disentangle", "fuse").index(direction), first, len(of_step)))
            first += len(of_step)
        self.counts = (len(rows), len(lanes))
        self.steps = np.asarray(rows, dtype=np.int32).tobytes()
        self.lanes = np.asarray(lanes, dtype=np.int32).tobytes()

    def place(self, **addresses: int) -> None:
        self.placed = addresses

    def plan(self, tokens: int) -> FakePlan:
        if self.given["tier"] == "grid":
            raise RuntimeError("the device has no cooperative launch")
        if self.reason is not None and tokens >= self.refused_from:
            raise RuntimeError(self.reason)
        return FakePlan()

    def run(self, plan: FakePlan, **call: Any) -> None:
        self.runs.append(self.given | call)
        config = self.folded.config
        shape = (call["tokens"], config.dim)
        assert np.array_equal(
            at(self.placed["weights"], self.weights.shape, np.uint8), self.weights
        )
        values = [at(address, shape) for address in call["values"]]
        scratch = at(call["scratch"], (SCRATCH,), np.uint8)
        status = at(call["status"], (8,), np.int32)
        # Memory comes as it is: nothing may count on zeros, and nothing may overlap.
        for i, value in enumerate(values):
            assert call["values"][i] % 16 == 0
            if i in self._written():
                value[:] = np.nan
        before = [value.copy() for value in values]
        assert call["scratch"] % 64 == 0  # as far as the CPU's allocator goes; the GPU's: 512
        scratch[:] = 0xFF
        status[:] = 0
        for value, same in zip(values, before, strict=True):
            assert np.array_equal(value, same, equal_nan=True)
        self._execute(values, shape)
        status[: len(self.failing)] = self.failing
        if self.failing:
            for i in self._written():
                values[i][0, 0] = np.nan

    def _written(self) -> list[int]:
        return [i for lane in self._lanes() for i in lane[3:] if i >= 0]

    def _lanes(self) -> np.ndarray:
        return at(self.placed["lanes"], (self.counts[1], 5), np.int32)

    def _execute(self, values: list[np.ndarray], shape: tuple[int, int]) -> None:
        config = self.folded.config
        table = (config.num_blocks, 3, config.dim)
        for direction, first, count in at(self.placed["steps"], (self.counts[0], 3), np.int32):
            run = self.folded.fuse if direction else self.folded.disentangle
            for keyword, in1, in2, out1, out2 in self._lanes()[first : first + count]:
                size = int(np.prod(table)) * 4
                constants = at(self.placed["constants"] + int(keyword) * size, table)
                tables = np.repeat(constants.astype(np.float64)[None], shape[0], axis=0)
                h1 = np.zeros(shape) if in1 < 0 else values[in1].astype(np.float64)
                results = run(h1, values[in2].astype(np.float64), tables)
                for target, result in zip((out1, out2), results, strict=True):
                    if target >= 0:
                        values[target][:] = result


@pytest.fixture
def fake(small: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeProgram]]:
    """A machine that seems to have one CUDA device; its memory is the CPU's."""

    class Program(FakeProgram):
        folded = fold(small.net)
        runs: list[dict[str, Any]] = []  # noqa: RUF012
        reason = None
        refused_from = 0
        kept: list[tuple[Tensor, Any]] = []  # noqa: RUF012
        failing = ()

    pack = cuda_packing.pack

    def packed(*arguments: Any) -> np.ndarray:
        Program.weights = pack(*arguments)
        return Program.weights

    monkeypatch.setattr(cuda_packing, "pack", packed)
    FakeShape.program = Program
    names = {
        "CudaShape": FakeShape,
        "CudaProgram": Program,
        "CUDA_STATUS_WORDS": 8,
        "cuda_most_values": lambda: 64,
    }
    for name, value in names.items():
        monkeypatch.setattr(_native, name, value, raising=False)
    monkeypatch.setattr(cuda, "_device", lambda of_network: torch.device("cpu", 0))
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    stream = types.SimpleNamespace(cuda_stream=STREAM)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda x, on: Program.kept.append((x, on)))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "fake")
    entry, *others = registry.BACKENDS
    assert entry.name == "cuda"
    available = type(entry)(**{**vars(entry), "unavailable": lambda: None})
    monkeypatch.setattr(registry, "BACKENDS", (available, *others))
    return Program


def compiled(small: Any, backend: str = "cuda", **choices: Any) -> lf.cdfnet.Engine:
    return lf.compile(small.net, small.keywords, backend, **choices)


def default_run(engine: Any, case: Any) -> Tensor:
    return engine.reorganize(case.latent, {case.hidden: case.replacement}, case.kept)


def test_a_whole_reorganization_arrives_at_the_kernels(small: Any, fake: type[FakeProgram]) -> None:
    engine = compiled(small, dtype="float32")
    made = default_run(engine, small)
    difference = (made - small.expected["reorganized"]).abs().max()
    assert float(difference) < tolerance("cdfnet engine", "float32")
    (run,) = fake.runs
    assert run["stream"] == STREAM
    assert (run["dtype"], run["exact"], run["tier"]) == ("float32", False, "auto")
    names = ("dim", "num_blocks", "growth", "clamp")
    assert run["shape"].sizes == {name: getattr(small.net.config, name) for name in names}


def test_single_passes_arrive_at_the_kernels(small: Any, fake: type[FakeProgram]) -> None:
    engine = compiled(small)
    f, r = engine.disentangle(small.latent, small.hidden)
    loss, fused = engine.fuse(small.replacement, r, small.hidden)
    limit = tolerance("cdfnet engine", "float32")
    for name, made in {"key_feature": f, "residual": r, "loss": loss, "fused": fused}.items():
        assert float((made - small.expected[name]).abs().max()) < limit


@pytest.mark.parametrize(
    ("dtype", "activations", "reads"),
    [
        ("bfloat16", "auto", "bfloat16"),
        ("bfloat16", "float32", "float32"),
        ("float16", "auto", "float16"),
        ("float32", "auto", "float32"),
        ("float32", "float32", "float32"),
    ],
)
def test_precision_is_passed_on_and_said(
    small: Any, fake: type[FakeProgram], dtype: str, activations: str, reads: str
) -> None:
    engine = compiled(small, dtype=dtype, activations=activations)
    default_run(engine, small)
    assert fake.runs[-1]["dtype"] == dtype
    assert fake.runs[-1]["exact"] == (activations == "float32")
    assert engine.build_info()["activations"] == reads


def test_float16_cannot_read_float32(small: Any, fake: type[FakeProgram]) -> None:
    with pytest.raises(ConfigError, match="'float16' with float32 activations"):
        compiled(small, dtype="float16", activations="float32")


def test_build_info_says_what_ran(small: Any, fake: type[FakeProgram]) -> None:
    engine = compiled(small)
    info = engine.build_info()
    assert info["last_run"] is None
    assert info["packed_bytes"] == fake.weights.size
    assert (info["tier"], info["group"]) == ("auto", GROUP)
    default_run(engine, small)
    assert engine.build_info()["last_run"] == {
        "tokens": 6,
        "tier": "cluster",
        "group": GROUP,
        "tile": 16,
        "groups": 2,
        "shared_bytes": 1000,
        "scratch_bytes": SCRATCH,
        "launches": 1,
    }


def test_rows_may_lie_anywhere(
    small: Any, fake: type[FakeProgram], make_latent: Callable[..., Tensor]
) -> None:
    engine = compiled(small)
    replace = {small.hidden: small.replacement.float()}
    straight = small.latent.float()
    expected = engine.reorganize(straight, replace, small.kept)
    assert fake.runs[-1]["values"][0] == straight.data_ptr()  # no copy
    shifted = torch.empty(6 * 64 + 1)[1:].view(6, 64).copy_(straight)
    strided = straight.T.contiguous().T
    for s in (shifted, strided):
        assert torch.equal(engine.reorganize(s, replace, small.kept), expected)
    one_row = {small.hidden: small.replacement[0].float()}
    every_row = {small.hidden: small.replacement[0].float().expand(6, 64).contiguous()}
    made = [engine.reorganize(straight, each, small.kept) for each in (one_row, every_row)]
    assert torch.equal(*made)


@pytest.mark.parametrize("shape", [(64,), (1, 64), (3, 64), (2, 5, 64), (0, 64), (2, 0, 64)])
def test_any_shape(
    small: Any, fake: type[FakeProgram], make_latent: Callable[..., Tensor], shape: tuple[int, ...]
) -> None:
    s, f = make_latent("s", *shape).float(), make_latent("f", 64).float()
    made = compiled(small).reorganize(s, {small.hidden: f}, small.kept)
    replace = {small.hidden: f.double()}
    expected = small.net.reorganize(s.double(), small.keywords, replace, small.kept)
    limit = tolerance("cdfnet engine", "float32")
    torch.testing.assert_close(made.double(), expected, rtol=0, atol=limit)


def test_nothing_to_do_copies_the_latent(small: Any, fake: type[FakeProgram]) -> None:
    s = small.latent.float()
    made = compiled(small).reorganize(s, {}, [])
    assert torch.equal(made, s)
    assert made.data_ptr() != s.data_ptr()
    assert not fake.runs


def test_memory_is_kept_for_the_streams_that_read_it(
    small: Any, fake: type[FakeProgram], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = compiled(small)
    default_run(engine, small)
    default_run(engine, small)
    first = [on.cuda_stream for _, on in fake.kept]
    assert set(first) == {STREAM}
    assert {x.numel() for x, _ in fake.kept} >= {fake.weights.size}
    other = types.SimpleNamespace(cuda_stream=STREAM + 1)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: other)
    default_run(engine, small)
    assert [on.cuda_stream for _, on in fake.kept] == first + [STREAM + 1] * len(first)


def test_new_keywords_share_the_weights(small: Any, fake: type[FakeProgram]) -> None:
    engine = lf.compile(
        small.net, {small.hidden: small.keywords[small.hidden]}, backend="cuda", dtype="float32"
    )
    packed = fake.weights
    more = engine.with_keywords(small.keywords)
    assert torch.equal(default_run(more, small), default_run(compiled(small), small))
    assert fake.weights is not packed  # the second engine's own
    assert more._runner._weights.blob is engine._runner._weights.blob


def test_a_kernel_that_gave_up_is_told(small: Any, fake: type[FakeProgram]) -> None:
    fake.failing = (2, 17, 1, 3, 2, 99)
    message = (
        r"thread block 17 waited for other thread blocks \(number 99\) in step 1, "
        r"network block 3, dense add; the result is withheld"
    )
    with pytest.raises(PrivacyError, match=message):
        default_run(compiled(small), small)
    assert default_run(compiled(small, faults="nan"), small).isnan().all()
    fake.failing = ()
    engine = compiled(small)
    with pytest.raises(ConfigError, match="s holds values that are not finite"):
        engine.reorganize(torch.full((2, 64), float("nan")), {}, small.kept)
    assert default_run(engine, small).isfinite().all()


def test_what_the_device_refuses_is_told(small: Any, fake: type[FakeProgram]) -> None:
    fake.reason, fake.refused_from = "too many tokens", 2
    engine = compiled(small)
    with pytest.raises(BackendUnavailable, match="cannot run 6 tokens on cpu: too many tokens"):
        default_run(engine, small)


def test_a_network_that_does_not_fit_is_refused_at_once(
    small: Any, fake: type[FakeProgram]
) -> None:
    fake.reason = "not enough shared memory"
    with pytest.raises(BackendUnavailable, match=r"cannot run this network on cpu:?.*not enough"):
        compiled(small)


def test_auto_goes_on_to_what_takes_the_network(
    small: Any, fake: type[FakeProgram], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.reason = "not enough shared memory"
    entry, *others = registry.BACKENDS
    anywhere = type(entry)(**{**vars(entry), "devices": None})
    monkeypatch.setattr(registry, "BACKENDS", (anywhere, *others))
    assert compiled(small, backend="auto").backend == "cpu"
    fake.reason = None
    assert compiled(small, backend="auto").backend == "cuda"


def test_a_program_has_a_largest_size(
    small: Any, fake: type[FakeProgram], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_native, "cuda_most_values", lambda: 3, raising=False)
    with pytest.raises(ConfigError, match="at most 3; hide and keep fewer keywords"):
        default_run(compiled(small), small)


def test_a_native_module_of_another_version_is_refused(
    small: Any, fake: type[FakeProgram], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeShape, "weights_bytes", lambda self, dtype, group: 12)
    with pytest.raises(BackendUnavailable, match=r"module reads 12, so it is of another version"):
        compiled(small)


def test_the_environment_chooses_the_tier(
    small: Any, fake: type[FakeProgram], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LREORG_CUDA_TIER", "cluster")
    default_run(compiled(small), small)
    assert fake.runs[-1]["tier"] == "cluster"
    monkeypatch.setenv("LREORG_CUDA_TIER", "grid")
    with pytest.raises(BackendUnavailable, match=r"'grid': .* launch; unset LREORG_CUDA"):
        compiled(small)
    monkeypatch.setenv("LREORG_CUDA_TIER", "block")
    with pytest.raises(BackendUnavailable, match=r"is 'block'; unset it or choose one of auto, cl"):
        compiled(small)


# ---- why it cannot run


@pytest.mark.parametrize(
    ("architecture", "served", "unserved"),
    [
        ("80", [(8, 0), (8, 9), (9, 0), (12, 0)], [(7, 5)]),
        ("86", [(8, 6), (8, 9), (10, 0)], [(8, 0)]),
        ("90a", [(9, 0)], [(8, 9), (10, 0), (12, 0)]),
        ("100f", [(10, 0), (10, 3)], [(9, 0), (12, 0)]),
        ("80-real", [(8, 0), (8, 6)], [(9, 0), (7, 5)]),
        ("86-real", [(8, 6), (8, 9)], [(8, 0), (9, 0)]),
        ("120-virtual", [(12, 0), (12, 1), (13, 0)], [(10, 0)]),
        ("native", [], [(9, 0)]),
    ],
)
def test_architectures_serve_capabilities(
    architecture: str, served: list[tuple[int, int]], unserved: list[tuple[int, int]]
) -> None:
    assert all(cuda.serves(architecture, capability) for capability in served)
    assert not any(cuda.serves(architecture, capability) for capability in unserved)


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ({"built": False, "reason": "no compiler"}, r"^built without CUDA \(no compiler\)$"),
        ({"devices": [], "reason": "no driver"}, r"^no CUDA device \(no driver\)$"),
        (
            {"devices": [], "driver": "12.4", "reason": "insufficient driver"},
            r"^the driver is too old: it supports CUDA 12.4 and the kernels are built with 13.0",
        ),
        (
            {"devices": [], "driver": "13.1", "reason": "all are hidden"},
            r"^no CUDA device \(all are hidden\)$",
        ),
        ({"devices": [T4]}, r"^Tesla T4 has compute capability 7.5, and .* built for 80 90a; set"),
        ({"devices": [T4, H200]}, None),
        ({"devices": [H200]}, None),
    ],
)
def test_reasons(
    monkeypatch: pytest.MonkeyPatch, devices: dict[str, Any], message: str | None
) -> None:
    described = {"built": True, "runtime": "13.0", "driver": None, "reason": None} | devices
    monkeypatch.setattr(_native, "cuda_devices", lambda: described)
    monkeypatch.setattr(_native, "build_config", lambda: {"cuda_architectures": "80 90a"})
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    reason = cuda.unavailable()
    if message is None or reason is None:
        assert message is reason is None
    else:
        assert re.search(message, reason)


def test_pytorch_must_have_cuda_too(monkeypatch: pytest.MonkeyPatch) -> None:
    described = {"built": True, "runtime": "13.0", "driver": "13.0", "reason": None}
    monkeypatch.setattr(_native, "cuda_devices", lambda: described | {"devices": [H200]})
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "is built without CUDA; install one with CUDA" in str(cuda.unavailable())
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "cannot use the CUDA device" in str(cuda.unavailable())


def test_a_network_on_a_device_that_is_too_old_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_native, "cuda_devices", lambda: {"devices": [H200, T4]})
    monkeypatch.setattr(_native, "build_config", lambda: {"cuda_architectures": "80 90a"})
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert cuda._device(torch.device("cuda", 0)) == torch.device("cuda", 0)
    assert cuda._device(torch.device("cpu")) == torch.device("cuda", 0)
    with pytest.raises(BackendUnavailable, match=r"on cuda:1: Tesla T4 has .* another device\."):
        cuda._device(torch.device("cuda", 1))
