from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import lreorg_fast as lf
from lreorg_fast import _native, log
from lreorg_fast.cdfnet.backends import BACKENDS
from lreorg_fast.errors import BackendUnavailable, ConfigError, PrivacyError
from tolerances import tolerance

# Those that take tensors of the CPU; what runs on a GPU is tested in tests/gpu.
RUNNABLE = [
    (info.name, dtype)
    for info in BACKENDS
    if info.unavailable() is None and "cpu" in (info.devices or ("cpu",))
    for dtype in info.dtypes
]
ROUNDED = ("bfloat16", "float16", "int8")
every_backend = pytest.mark.parametrize(("backend", "dtype"), RUNNABLE)


def largest(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max())


def precise(dtype: str) -> torch.dtype:
    return torch.float64 if dtype == "float64" else torch.float32


def default_run(engine: Any, case: Any) -> Tensor:
    return engine.reorganize(case.latent, {case.hidden: case.replacement}, case.kept)


def plain_bfloat16_error(case: Any) -> float:
    """RMS error of the reference network run as users would in bfloat16 PyTorch."""
    half = torch.bfloat16
    keywords = {name: k.to(half) for name, k in case.keywords.items()}
    net = copy.deepcopy(case.net).to(half)
    replace = {case.hidden: case.replacement.to(half)}
    made = net.reorganize(case.latent.to(half), keywords, replace, case.kept)
    return rms(made.double() - case.expected["reorganized"])


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def test_the_cpu_backend_runs_here() -> None:
    assert lf.available_backends()["cpu"] is True
    assert lf.available_backends()["reference"] is True


def check_golden(case: Any, backend: str, dtype: str) -> None:
    engine = lf.compile(case.net, case.keywords, backend=backend, dtype=dtype)
    made, expected = default_run(engine, case), case.expected["reorganized"]
    if dtype in ROUNDED:
        name = f"cdfnet {activations(engine)} ratio to plain bfloat16 PyTorch"
        assert rms(made - expected) < tolerance(name, dtype) * plain_bfloat16_error(case)
    else:
        assert largest(made, expected) < tolerance("cdfnet engine", dtype)


def activations(engine: Any) -> str:
    """Whether products read the streams as they are: what the entries of the tolerances ask."""
    exact = engine.build_info()["activations"] in ("float32", "float64")
    return "exact activations" if exact else "rounded activations"


@every_backend
def test_every_backend_follows_the_small_golden(small: Any, backend: str, dtype: str) -> None:
    check_golden(small, backend, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_the_cpu_backend_follows_the_base_golden(base: Any, dtype: str) -> None:
    check_golden(base, "cpu", dtype)


@every_backend
def test_single_passes_follow_the_golden(small: Any, backend: str, dtype: str) -> None:
    if dtype in ROUNDED:
        dtype = "float32"
    engine = lf.compile(small.net, small.keywords, backend=backend, dtype=dtype)
    f, r = engine.disentangle(small.latent, small.hidden)
    loss, fused = engine.fuse(small.replacement, r, small.hidden)
    limit = tolerance("cdfnet engine", dtype)
    for name, made in {"key_feature": f, "residual": r, "loss": loss, "fused": fused}.items():
        assert largest(made, small.expected[name]) < limit


@every_backend
def test_fuse_inverts_disentangle(small: Any, backend: str, dtype: str) -> None:
    engine = lf.compile(small.net, small.keywords, backend=backend, dtype=dtype)
    s = small.latent.to(precise(dtype))
    loss, back = engine.fuse(*engine.disentangle(s, small.hidden), small.hidden)
    limit = tolerance(f"cdfnet {activations(engine)} round trip", dtype)
    assert largest(back, s) < limit
    assert largest(loss, torch.zeros_like(s)) < limit


@given(
    dim=st.integers(1, 40),
    cond_dim=st.integers(1, 5),
    blocks=st.integers(1, 3),
    growth=st.integers(1, 20),
    tokens=st.integers(0, 70),
    kept=st.integers(0, 3),
)
def test_the_cpu_backend_follows_the_reference_at_any_size(
    make_net: Callable[..., Any],
    make_latent: Callable[..., Tensor],
    dim: int,
    cond_dim: int,
    blocks: int,
    growth: int,
    tokens: int,
    kept: int,
) -> None:
    config = lf.CDFNetConfig(dim, cond_dim, blocks, growth, clamp=1.5)
    net = make_net(config)
    keywords = {str(i): make_latent(f"k{i}", cond_dim) for i in range(kept + 1)}
    s, f = make_latent("s", tokens, dim), make_latent("f", tokens, dim)
    engine = lf.compile(net, keywords, backend="cpu", dtype="float32")
    expected = net.reorganize(s, keywords, {"0": f}, list(keywords)[1:])
    made = engine.reorganize(s, {"0": f}, list(keywords)[1:])
    torch.testing.assert_close(made, expected, rtol=0, atol=tolerance("cdfnet engine", "float32"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_a_batch_equals_single_faces_bit_for_bit(
    small: Any, make_latent: Callable[..., Tensor], dtype: str
) -> None:
    engine = lf.compile(small.net, small.keywords, backend="cpu", dtype=dtype)
    s = make_latent("faces", 23, 5, 64).float()  # 115 tokens: more than one chunk of the executor
    f = make_latent("donors", 23, 1, 64).float()
    batch = engine.reorganize(s, {small.hidden: f}, small.kept)
    for i in (0, 7, 22):
        one = engine.reorganize(s[i], {small.hidden: f[i]}, small.kept)
        assert torch.equal(batch[i], one)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_tokens_are_equivariant_bit_for_bit(small: Any, dtype: str) -> None:
    engine = lf.compile(small.net, small.keywords, backend="cpu", dtype=dtype)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    replace = {small.hidden: small.replacement}
    straight = engine.reorganize(small.latent, replace, small.kept)
    replace = {small.hidden: small.replacement[order]}
    assert torch.equal(engine.reorganize(small.latent[order], replace, small.kept), straight[order])


def test_threads_share_an_engine(small: Any, make_latent: Callable[..., Tensor]) -> None:
    engine = lf.compile(small.net, small.keywords, backend="cpu")
    inputs = [make_latent(f"thread {i}", 5 + i, 64).float() for i in range(6)]
    donor = make_latent("donor", 64).float()
    expected = [engine.reorganize(s, {small.hidden: donor}, small.kept) for s in inputs]
    start = threading.Barrier(len(inputs))
    wrong: list[int] = []

    def work(i: int) -> None:
        start.wait()
        for _ in range(20):
            made = engine.reorganize(inputs[i], {small.hidden: donor}, small.kept)
            if not torch.equal(made, expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@every_backend
@pytest.mark.parametrize("shape", [(64,), (1, 64), (6, 64), (2, 3, 64), (0, 64), (2, 0, 64)])
def test_results_have_the_latents_shape_and_dtype(
    small: Any, make_latent: Callable[..., Tensor], backend: str, dtype: str, shape: tuple[int, ...]
) -> None:
    engine = lf.compile(small.net, small.keywords, backend=backend, dtype=dtype)
    for latent_dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        s = make_latent("s", *shape).to(latent_dtype)
        before = s.clone()
        made = engine.reorganize(s, {small.hidden: torch.zeros(64)}, small.kept)
        f, r = engine.disentangle(s, small.hidden)
        assert made.shape == f.shape == r.shape == s.shape
        assert made.dtype == f.dtype == r.dtype == latent_dtype
        assert torch.equal(s, before)


def test_latents_need_not_be_contiguous(small: Any, make_latent: Callable[..., Tensor]) -> None:
    engine = lf.compile(small.net, small.keywords, backend="cpu")
    s = make_latent("wide", 64, 9).float().T
    donor = make_latent("donor", 128).float()[::2]
    made = engine.reorganize(s, {small.hidden: donor}, small.kept)
    same = engine.reorganize(s.contiguous(), {small.hidden: donor.contiguous()}, small.kept)
    assert torch.equal(made, same)


def test_nothing_to_do_returns_the_latent(small: Any) -> None:
    engine = lf.compile(small.net, small.keywords, backend="cpu")
    s = small.latent.float()
    assert torch.equal(engine.reorganize(s, {}, []), s)
    assert largest(engine.reorganize(s, {}, small.kept), s) < 1e-4


def test_results_carry_no_gradient(small: Any) -> None:
    s = small.latent.float().requires_grad_()
    for backend in ("cpu", "reference"):
        engine = lf.compile(small.net, small.keywords, backend=backend)
        assert not default_run(engine, small).requires_grad
        assert not engine.disentangle(s, small.hidden)[0].requires_grad


@every_backend
def test_the_network_is_copied(small: Any, backend: str, dtype: str) -> None:
    net = copy.deepcopy(small.net)
    keywords = {name: k.clone() for name, k in small.keywords.items()}
    engine = lf.compile(net, keywords, backend=backend, dtype=dtype)
    before = default_run(engine, small)
    for tensor in (*net.parameters(), *keywords.values()):
        tensor.zero_()
    assert torch.equal(default_run(engine, small), before)


@every_backend
def test_keywords_can_be_added(small: Any, backend: str, dtype: str) -> None:
    first = {small.hidden: small.keywords[small.hidden]}
    engine = lf.compile(small.net, first, backend=backend, dtype=dtype)
    with pytest.raises(ConfigError, match="with_keywords"):
        default_run(engine, small)
    more = engine.with_keywords({name: small.keywords[name] for name in small.kept})
    whole = lf.compile(small.net, small.keywords, backend=backend, dtype=dtype)
    assert torch.equal(default_run(more, small), default_run(whole, small))
    assert engine.keywords == (small.hidden,)
    assert more.keywords == tuple(small.keywords)


@every_backend
def test_build_info_says_what_runs(small: Any, backend: str, dtype: str) -> None:
    engine = lf.compile(small.net, small.keywords, backend=backend, dtype=dtype)
    info = engine.build_info()
    assert (engine.backend, engine.dtype) == (info["backend"], info["dtype"]) == (backend, dtype)
    assert info["version"] == lf.__version__
    assert info["threads"] >= 1
    if backend == "cpu":
        assert info["threads"] == 1
        assert info["kernels"] == _native.build_config()["cpu_kernels"][0]
        assert info["activations"] in ("float32", "bfloat16", "int8")
        weights = sum(p.numel() for p in small.net.parameters())
        assert 0 < info["packed_bytes"] < 8 * weights


@pytest.mark.parametrize("kernels", _native.build_config()["cpu_kernels"])
def test_the_environment_chooses_the_instruction_set(
    small: Any, monkeypatch: pytest.MonkeyPatch, kernels: str
) -> None:
    monkeypatch.setenv("LREORG_CPU_ISA", kernels)
    engine = lf.compile(small.net, small.keywords, backend="cpu")
    assert engine.build_info()["kernels"] == kernels
    assert engine.with_keywords(small.keywords).build_info()["kernels"] == kernels


@pytest.mark.parametrize("name", ["sse9", "auto", ""])
def test_an_unknown_instruction_set_is_refused(
    small: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("LREORG_CPU_ISA", name)
    message = rf"LREORG_CPU_ISA is '{name}'.*unset it or choose one of .*generic"
    with pytest.raises(BackendUnavailable, match=message):
        lf.compile(small.net, small.keywords, backend="cpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_float32_activations_are_never_rounded(small: Any, dtype: str) -> None:
    engine = lf.compile(
        small.net, small.keywords, backend="cpu", dtype=dtype, activations="float32"
    )
    assert engine.build_info()["activations"] == "float32"
    assert engine.with_keywords(small.keywords).build_info()["activations"] == "float32"
    loss, back = engine.fuse(*engine.disentangle(small.latent, small.hidden), small.hidden)
    limit = tolerance("cdfnet exact activations round trip", dtype)
    assert largest(back, small.latent) < limit
    assert largest(loss, torch.zeros_like(loss)) < limit


def test_auto_says_once_what_it_chose(small: Any, caplog: pytest.LogCaptureFixture) -> None:
    log._said.clear()
    with caplog.at_level(logging.INFO, logger="lreorg_fast"):
        engine = lf.compile(small.net, small.keywords)
        lf.compile(small.net, small.keywords)
    assert engine.backend == "cpu"
    assert engine.dtype == "bfloat16"
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert "chose 'cpu'" in messages[0]
    for other in ("cuda", "triton"):
        reason = lf.available_backends()[other]
        expected = "the network is on cpu" if reason is True else reason
        assert f"{other}: {expected}" in messages[0]


def test_auto_takes_the_reference_for_float64(small: Any) -> None:
    assert lf.compile(small.net, small.keywords, dtype="float64").backend == "reference"


def test_an_explicit_backend_never_falls_back(small: Any) -> None:
    for backend, reason in lf.available_backends().items():
        if reason is not True:
            with pytest.raises(BackendUnavailable) as caught:
                lf.compile(small.net, small.keywords, backend=backend)
            assert str(reason) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": "tpu"}, "'tpu'; allowed are auto, cuda"),
        ({"dtype": "int4"}, "'int4'; allowed are bfloat16, float16, float32, float64, int8"),
        ({"faults": "ignore"}, "faults is 'ignore'; allowed are raise, nan"),
        ({"backend": "cpu", "dtype": "float16"}, "float16 is offered by cuda, triton, reference"),
        ({"activations": "int8"}, "activations is 'int8'; allowed are auto, float32"),
        ({"backend": "cpu", "dtype": "float64"}, "int8; float64 is offered by reference"),
        ({"backend": "reference", "dtype": "int8"}, "float64; int8 is offered by cpu"),
        ({"keywords": {}}, "keywords is empty"),
        ({"keywords": {"age": torch.zeros(31)}}, r"'age' is \(31,\)"),
        ({"keywords": {"age": torch.zeros(1, 32)}}, r"'age' is \(1, 32\)"),
        ({"keywords": {"age": [0.0] * 32}}, "'age' is list"),
        ({"keywords": {"age": torch.full((32,), float("nan"))}}, "not finite"),
        ({"net": torch.nn.Linear(2, 2)}, "net is a Linear"),
    ],
)
def test_compile_explains_errors(small: Any, changes: dict[str, Any], message: str) -> None:
    arguments = {"net": small.net, "keywords": small.keywords} | changes
    with pytest.raises(ConfigError, match=message):
        lf.compile(**arguments)


@every_backend
@pytest.mark.parametrize(
    ("s", "message"),
    [
        (torch.zeros(3, 63), "dim = 64"),
        (torch.tensor(0.0), "dim = 64"),
        (torch.zeros(3, 64, dtype=torch.int32), "int32"),
        (torch.full((3, 64), float("nan")), "not finite"),
        (torch.full((3, 64), float("inf")), "not finite"),
        (torch.zeros(3, 64, device="meta"), "on meta"),
        ([[0.0] * 64], "is a list"),
    ],
)
def test_wrong_latents_are_refused(
    small: Any, backend: str, dtype: str, s: Any, message: str
) -> None:
    engine = lf.compile(small.net, small.keywords, backend=backend, dtype=dtype)
    good = torch.zeros(3, 64)
    calls = [
        lambda: engine.disentangle(s, small.hidden),
        lambda: engine.fuse(s, good, small.hidden),
        lambda: engine.fuse(good, s, small.hidden),
        lambda: engine.reorganize(s, {}, small.kept),
        lambda: engine.reorganize(good, {small.hidden: s}, small.kept),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=message):
            call()


def test_wrong_calls_are_refused(small: Any) -> None:
    engine = lf.compile(small.net, small.keywords, backend="cpu")
    s = torch.zeros(3, 64)
    with pytest.raises(ConfigError, match="unknown keyword 'beard'"):
        engine.disentangle(s, "beard")
    with pytest.raises(ConfigError, match="does not broadcast"):
        engine.reorganize(s, {small.hidden: torch.zeros(2, 64)}, [])
    with pytest.raises(ConfigError, match="does not broadcast"):
        engine.reorganize(s[0], {small.hidden: torch.zeros(2, 64)}, [])
    with pytest.raises(ConfigError, match="both hidden and kept"):
        engine.reorganize(s, {small.hidden: s}, [small.hidden])


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_an_overflow_releases_nothing(small: Any, backend: str) -> None:
    engine = lf.compile(small.net, small.keywords, backend=backend, dtype="float32")
    with pytest.raises(PrivacyError, match="withheld"):
        engine.reorganize(torch.full((2, 64), 3e38), {small.hidden: torch.zeros(64)}, small.kept)


@every_backend
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_faults_can_be_nan_instead_of_an_error(
    small: Any, backend: str, dtype: str, value: float
) -> None:
    engine = lf.compile(small.net, small.keywords, backend=backend, dtype=dtype, faults="nan")
    assert engine.with_keywords(small.keywords).faults == engine.faults == "nan"
    bad = small.latent.clone()
    bad[3, 7] = value
    replace = {small.hidden: small.replacement}
    made = [
        engine.reorganize(bad, replace, small.kept),
        engine.reorganize(small.latent, {small.hidden: bad}, small.kept),
        *engine.disentangle(bad, small.hidden),
        *engine.fuse(bad, small.latent, small.hidden),
        *engine.fuse(small.latent, bad, small.hidden),
    ]
    for result in made:
        assert result.isnan().all()


@every_backend
def test_results_without_a_fault_do_not_depend_on_what_faults_become(
    small: Any, backend: str, dtype: str
) -> None:
    strict, lenient = (
        lf.compile(small.net, small.keywords, backend=backend, dtype=dtype, faults=faults)
        for faults in ("raise", "nan")
    )
    assert torch.equal(default_run(strict, small), default_run(lenient, small))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_an_overflow_can_be_nan_as_a_whole(small: Any, backend: str) -> None:
    engine = lf.compile(small.net, small.keywords, backend=backend, dtype="float32", faults="nan")
    s = torch.zeros(2, 64)
    s[1] = 3e38  # the other row alone would be fine
    made = engine.reorganize(s, {small.hidden: torch.zeros(64)}, small.kept)
    assert made.isnan().all()


def test_a_result_that_its_dtype_cannot_hold_is_withheld(small: Any) -> None:
    engine = lf.compile(small.net, small.keywords, backend="cpu", dtype="float32")
    s = torch.full((2, 64), 6.5e4, dtype=torch.float16)
    with pytest.raises(PrivacyError, match="withheld"):
        engine.disentangle(s, small.hidden)
