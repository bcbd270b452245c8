"""The engine on a GPU: every backend, weight type and tier against the float64 goldens."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cdfnet.conftest import Golden, load_golden, normal
from torch import Tensor

import lreorg_fast as lf
from lreorg_fast.cdfnet.backends import BACKENDS
from lreorg_fast.errors import BackendUnavailable, ConfigError, PrivacyError
from tolerances import tolerance

ON_GPU = [info for info in BACKENDS if info.devices == ("cuda",)]
CASES = [
    pytest.param(info.name, dtype, activations, id=f"{info.name}-{dtype}-{activations}")
    for info in ON_GPU
    for dtype in info.dtypes
    for activations in ("auto", "float32")
    if not (activations == "float32" and dtype in info.rounded_only)
]
every_case = pytest.mark.parametrize(("backend", "dtype", "activations"), CASES)
every_backend = pytest.mark.parametrize("backend", [info.name for info in ON_GPU])
every_tier = pytest.mark.parametrize("tier", ["cluster", "grid"])


def on_gpu(golden: Golden) -> Golden:
    return Golden(
        net=copy.deepcopy(golden.net).cuda(),
        latent=golden.latent.cuda(),
        keywords={name: k.cuda() for name, k in golden.keywords.items()},
        replacement=golden.replacement.cuda(),
        expected={name: value.cuda() for name, value in golden.expected.items()},
    )


@pytest.fixture(scope="module")
def small() -> Golden:
    return on_gpu(load_golden("small"))


@pytest.fixture(scope="module")
def base() -> Golden:
    return on_gpu(load_golden("base"))


def compiled(case: Golden, backend: str, **choices: Any) -> lf.cdfnet.Engine:
    """The engine, or a skipped test where the backend says why it cannot run here."""
    reason = lf.available_backends()[backend]
    if reason is not True:
        pytest.skip(f"{backend}: {reason}")
    return lf.compile(case.net, case.keywords, backend=backend, **choices)


def default_run(engine: lf.cdfnet.Engine, case: Golden) -> Tensor:
    return engine.reorganize(case.latent, {case.hidden: case.replacement}, case.kept)


def rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def check_golden(engine: lf.cdfnet.Engine, case: Golden) -> None:
    made, expected = default_run(engine, case), case.expected["reorganized"]
    if engine.build_info()["activations"] == engine.dtype == "float32":
        assert float((made - expected).abs().max()) < tolerance("cdfnet engine", "float32")
        return
    half = torch.bfloat16
    keywords = {name: k.to(half) for name, k in case.keywords.items()}
    replace = {case.hidden: case.replacement.to(half)}
    net = copy.deepcopy(case.net).to(half)
    plain = net.reorganize(case.latent.to(half), keywords, replace, case.kept)
    kind = "exact" if engine.build_info()["activations"] == "float32" else "rounded"
    limit = tolerance(f"cdfnet {kind} activations ratio to plain bfloat16 PyTorch", engine.dtype)
    assert rms(made - expected) < limit * rms(plain - expected)


@every_case
@pytest.mark.parametrize("size", ["small", "base"])
def test_the_goldens_are_followed(
    request: pytest.FixtureRequest, size: str, backend: str, dtype: str, activations: str
) -> None:
    case = request.getfixturevalue(size)
    check_golden(compiled(case, backend, dtype=dtype, activations=activations), case)


@every_tier
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_every_tier_follows_the_goldens(
    base: Golden, small: Golden, monkeypatch: pytest.MonkeyPatch, tier: str, dtype: str
) -> None:
    monkeypatch.setenv("LREORG_CUDA_TIER", tier)
    for case in (small, base):
        try:
            engine = compiled(case, "cuda", dtype=dtype)
        except BackendUnavailable as error:
            pytest.skip(str(error))
        check_golden(engine, case)
        assert engine.build_info()["last_run"]["tier"] == tier


@every_case
def test_fuse_inverts_disentangle(base: Golden, backend: str, dtype: str, activations: str) -> None:
    engine = compiled(base, backend, dtype=dtype, activations=activations)
    s = base.latent.float()
    loss, back = engine.fuse(*engine.disentangle(s, base.hidden), base.hidden)
    kind = "exact" if engine.build_info()["activations"] == "float32" else "rounded"
    limit = tolerance(f"cdfnet {kind} activations round trip", dtype)
    assert float((back - s).abs().max()) < limit
    assert float(loss.abs().max()) < limit


@every_backend
@pytest.mark.parametrize("tokens", [0, 1, 2, 7, 8, 9, 14, 15, 16, 17, 18, 33, 70, 129, 448, 900])
def test_any_number_of_tokens(base: Golden, backend: str, tokens: int) -> None:
    engine = compiled(base, backend, dtype="float32")
    s = torch.from_numpy(normal(f"tokens {tokens}", (tokens, 512))).cuda()
    replace = {base.hidden: base.replacement[0].float()}
    made = engine.reorganize(s, replace, base.kept)
    expected = base.net.reorganize(
        s.double(), base.keywords, {base.hidden: base.replacement[0].expand(tokens, 512)}, base.kept
    )
    torch.testing.assert_close(
        made.double(), expected, rtol=0, atol=tolerance("cdfnet engine", "float32")
    )


@every_backend
def test_inputs_need_neither_order_nor_alignment(base: Golden, backend: str) -> None:
    engine = compiled(base, backend)
    s = torch.from_numpy(normal("strided", (512, 14))).cuda().T
    memory = torch.empty(14 * 512 + 1, device="cuda")
    shifted = memory[1:].view(14, 512).copy_(s)
    assert shifted.data_ptr() % 16 == 4
    replace = {base.hidden: base.replacement.float()}
    expected = engine.reorganize(s.contiguous(), replace, base.kept)
    assert torch.equal(engine.reorganize(s, replace, base.kept), expected)
    assert torch.equal(engine.reorganize(shifted, replace, base.kept), expected)


@every_case
def test_a_call_repeats_bit_for_bit(
    base: Golden, backend: str, dtype: str, activations: str
) -> None:
    engine = compiled(base, backend, dtype=dtype, activations=activations)
    first = default_run(engine, base)
    for _ in range(20):
        assert torch.equal(default_run(engine, base), first)


@every_backend
def test_streams_do_not_disturb_each_other(base: Golden, backend: str) -> None:
    engine = compiled(base, backend, faults="nan")
    inputs = [torch.from_numpy(normal(f"stream {i}", (14, 512))).cuda() for i in range(6)]
    replace = {base.hidden: base.replacement.float()}
    expected = [engine.reorganize(s, replace, base.kept) for s in inputs]
    streams = [torch.cuda.Stream() for _ in inputs]
    torch.cuda.synchronize()
    made: list[list[Tensor]] = [[] for _ in inputs]
    for _ in range(10):
        for i, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                made[i].append(engine.reorganize(inputs[i], replace, base.kept))
    torch.cuda.synchronize()
    for results, right in zip(made, expected, strict=True):
        assert all(torch.equal(result, right) for result in results)


@every_backend
def test_threads_share_an_engine(base: Golden, backend: str) -> None:
    engine = compiled(base, backend)
    inputs = [torch.from_numpy(normal(f"thread {i}", (14 + i, 512))).cuda() for i in range(4)]
    replace = {base.hidden: base.replacement[0].float()}
    expected = [engine.reorganize(s, replace, base.kept) for s in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(20):
                if not torch.equal(engine.reorganize(inputs[i], replace, base.kept), expected[i]):
                    wrong.append(i)

    torch.cuda.synchronize()
    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@every_backend
def test_a_cuda_graph_records_and_replays_a_call(base: Golden, backend: str) -> None:
    engine = compiled(base, backend, faults="nan")
    replace = {base.hidden: base.replacement.float()}
    s = base.latent.float()
    other = torch.from_numpy(normal("other", (14, 512))).cuda()
    expected = [engine.reorganize(x, replace, base.kept) for x in (s, other)]
    place = s.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = engine.reorganize(place, replace, base.kept)
    for x, right in zip((s, other, s), (*expected, expected[0]), strict=True):
        place.copy_(x)
        graph.replay()
        assert torch.equal(made, right)
    place[0, 0] = float("nan")
    graph.replay()
    assert made.isnan().all()


@every_backend
def test_nothing_waits_for_the_device(base: Golden, backend: str) -> None:
    engine = compiled(base, backend, faults="nan")
    s, replace = base.latent.float(), {base.hidden: base.replacement.float()}
    for _ in range(2):  # compiles, and records where a backend replays
        expected = engine.reorganize(s, replace, base.kept)
    torch.cuda.set_sync_debug_mode("error")
    try:
        made = engine.reorganize(s, replace, base.kept)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(made, expected)


@every_backend
def test_an_engine_that_raises_refuses_to_be_recorded(base: Golden, backend: str) -> None:
    engine = compiled(base, backend)
    default_run(engine, base)
    s, f = base.latent.float(), base.replacement.float()
    with pytest.raises(ConfigError, match="faults='nan'"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        engine.reorganize(s, {base.hidden: f}, base.kept)


@every_case
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_never_get_through(
    base: Golden, backend: str, dtype: str, activations: str, value: float
) -> None:
    choices = {"dtype": dtype, "activations": activations}
    strict = compiled(base, backend, **choices)
    lenient = compiled(base, backend, faults="nan", **choices)
    good = base.latent.float()
    bad = good.clone()
    bad[5, 300] = value
    calls: list[Callable[[lf.cdfnet.Engine], Any]] = [
        lambda engine: engine.reorganize(bad, {base.hidden: good}, base.kept),
        lambda engine: engine.reorganize(good, {base.hidden: bad}, base.kept),
        lambda engine: torch.stack(engine.disentangle(bad, base.hidden)),
        lambda engine: torch.stack(engine.fuse(bad, good, base.hidden)),
        lambda engine: torch.stack(engine.fuse(good, bad, base.hidden)),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="not finite"):
            call(strict)
        assert call(lenient).isnan().all()


@every_backend
def test_an_overflow_releases_nothing(base: Golden, backend: str) -> None:
    engine = compiled(base, backend, dtype="float32")
    with pytest.raises(PrivacyError, match="withheld"):
        engine.reorganize(
            torch.full((2, 512), 3e38, device="cuda"), {base.hidden: base.replacement[0]}, base.kept
        )


@every_backend
def test_every_device_has_its_own_engine(base: Golden, backend: str) -> None:
    count = torch.cuda.device_count()
    if count < 2:
        pytest.skip("one GPU")
    expected = default_run(compiled(base, backend), base).cpu()
    last = f"cuda:{count - 1}"
    keywords = {name: k.to(last) for name, k in base.keywords.items()}
    engine = lf.compile(copy.deepcopy(base.net).to(last), keywords, backend=backend)
    replace = {base.hidden: base.replacement.to(last)}
    made = engine.reorganize(base.latent.to(last), replace, base.kept)
    assert str(made.device) == last
    assert torch.equal(made.cpu(), expected)
    with pytest.raises(ConfigError, match=r"move it with"):
        default_run(engine, base)


def test_auto_runs_few_and_many_tokens(base: Golden) -> None:
    engine = lf.compile(base.net, base.keywords, dtype="float32")
    assert engine.backend in ("cuda", "triton", "reference")
    for faces in (1, 64):
        s = base.latent.float().expand(faces, -1, -1)
        made = engine.reorganize(s, {base.hidden: base.replacement.float()}, base.kept)
        expected = base.expected["reorganized"].expand(faces, -1, -1)
        assert float((made - expected).abs().max()) < tolerance("cdfnet engine", "float32")


def test_keywords_are_added_without_new_weights(base: Golden) -> None:
    first = {base.hidden: base.keywords[base.hidden]}
    engine = compiled(base, "cuda")
    memory = torch.cuda.memory_allocated()
    more = engine.with_keywords(first)
    assert torch.cuda.memory_allocated() - memory < engine.build_info()["packed_bytes"] / 4
    assert torch.equal(default_run(more, base), default_run(engine, base))
