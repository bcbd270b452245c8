"""The registry: reasons, what "auto" takes, and engines of two tiers. No GPU is needed."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import lreorg_fast as lf
from lreorg_fast import log
from lreorg_fast.cdfnet.backends import BackendInfo, Precision, Run, registry, triton
from lreorg_fast.cdfnet.schedule import Plan
from lreorg_fast.errors import BackendUnavailable, ConfigError


class Constant:
    """A runner whose results are all one number, and that may report a fault."""

    device = torch.device("cpu")
    compute_dtype = torch.float32

    def __init__(self, value: float, reason: str | None = None) -> None:
        self.value, self.reason = value, reason
        self.prepared = 0

    def prepare(self, plan: Plan) -> Run:
        self.prepared += 1

        def run(inputs: Sequence[Tensor]) -> list[Tensor]:
            return [torch.full_like(inputs[0], self.value) for _ in plan.outputs]

        return run

    def fault(self) -> str | None:
        return self.reason

    def build_info(self) -> dict[str, Any]:
        return {"value": self.value}

    def with_keywords(self, keywords: Mapping[str, Tensor]) -> Constant:
        return Constant(self.value + 10)


def info(name: str, runner: Any, reason: str | None = None, **changes: Any) -> BackendInfo:
    return dataclasses.replace(
        BackendInfo(
            name=name,
            unavailable=lambda: reason,
            dtypes=("bfloat16", "float16"),
            rounded_only=(),
            devices=None,
            build=lambda net, keywords, precision: runner,
        ),
        **changes,
    )


def register(monkeypatch: pytest.MonkeyPatch, *infos: BackendInfo) -> None:
    monkeypatch.setattr(registry, "BACKENDS", infos)


def filled(engine: Any, small: Any, tokens: int) -> float:
    made = engine.reorganize(torch.zeros(tokens, 64), {small.hidden: torch.zeros(64)}, [])
    assert made.shape == (tokens, 64)
    return float(made.unique())


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> tuple[Constant, Constant]:
    few, many = Constant(1), Constant(2)
    register(monkeypatch, info("few", few), info("many", many))
    monkeypatch.setattr(registry, "CROSSOVERS", {("few", "many"): {"bfloat16": 5}})
    return few, many


def test_the_number_of_tokens_decides_between_two(small: Any, two: Any) -> None:
    engine = lf.compile(small.net, small.keywords)
    assert engine.backend == "few"
    assert [filled(engine, small, tokens) for tokens in (1, 5, 6, 500, 5)] == [1, 1, 2, 2, 1]
    assert [runner.prepared for runner in two] == [1, 1]
    more = engine.with_keywords(small.keywords)
    assert [filled(more, small, tokens) for tokens in (5, 6)] == [11, 12]
    info = engine.build_info()
    assert info["value"] == 1
    assert [(row["backend"], row["most_tokens"]) for row in info["by_tokens"]] == [
        ("few", 5),
        ("many", None),
    ]
    assert info["crossover"] == registry.CROSSOVERS_FROM


def test_only_what_is_needed_is_prepared(small: Any, two: Any) -> None:
    filled(lf.compile(small.net, small.keywords), small, 3)
    assert [runner.prepared for runner in two] == [1, 0]


def test_a_named_backend_takes_any_number_of_tokens(small: Any, two: Any) -> None:
    engine = lf.compile(small.net, small.keywords, backend="few")
    assert filled(engine, small, 500) == 1
    assert "by_tokens" not in engine.build_info()


def test_without_a_row_in_the_table_the_first_takes_all(small: Any, two: Any) -> None:
    engine = lf.compile(small.net, small.keywords, dtype="float16")
    assert filled(engine, small, 500) == 1


def test_auto_says_both_names(small: Any, two: Any, caplog: pytest.LogCaptureFixture) -> None:
    log._said.clear()
    with caplog.at_level(logging.INFO, logger="lreorg_fast"):
        lf.compile(small.net, small.keywords)
    assert "chose 'few' up to 5 tokens, 'many': it is the first choice" in caplog.text


def test_a_fault_of_either_tier_is_told(small: Any, two: Any) -> None:
    few, many = two
    few.value = many.value = float("nan")
    many.reason = "the kernel gave up"
    engine = lf.compile(small.net, small.keywords)
    with pytest.raises(lf.errors.PrivacyError, match=r"the kernel gave up; the result is withheld"):
        filled(engine, small, 9)


def test_a_fault_of_the_tier_that_did_not_run_is_not_told(small: Any, two: Any) -> None:
    few, many = two
    few.reason, many.value = "the kernel gave up", float("nan")
    engine = lf.compile(small.net, small.keywords)
    filled(engine, small, 1)
    with pytest.raises(lf.errors.PrivacyError) as raised:
        filled(engine, small, 9)
    assert "gave up" not in str(raised.value)


def test_auto_passes_over_what_cannot_run(
    small: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log._said.clear()
    register(
        monkeypatch,
        info("broken", Constant(1), "its cable is loose"),
        info("elsewhere", Constant(2), devices=("cuda",)),
        info("coarse", Constant(3), rounded_only=("float16",)),
        info("last", Constant(4)),
    )
    with caplog.at_level(logging.INFO, logger="lreorg_fast"):
        engine = lf.compile(small.net, small.keywords, dtype="float16", activations="float32")
    assert engine.backend == "last"
    assert (
        "chose 'last': broken: its cable is loose; elsewhere: the network is on cpu; "
        "coarse: no dtype 'float16' with float32 activations"
    ) in caplog.text
    assert lf.compile(small.net, small.keywords, dtype="float16").backend == "coarse"
    assert lf.available_backends()["broken"] == "its cable is loose"


def test_auto_without_any_backend_is_an_error(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, info("broken", Constant(1), "its cable is loose"))
    with pytest.raises(BackendUnavailable, match="no backend can run: broken: its cable is loose"):
        lf.compile(small.net, small.keywords)


def test_an_explicit_backend_says_what_it_lacks(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(
        monkeypatch,
        info("coarse", Constant(1), rounded_only=("float16",)),
        info("other", Constant(2)),
    )
    message = (
        r"'coarse' does not offer dtype 'float16' with float32 activations; .*"
        r"float16 is offered by other\."
    )
    with pytest.raises(ConfigError, match=message):
        lf.compile(
            small.net, small.keywords, backend="coarse", dtype="float16", activations="float32"
        )


def test_the_table_names_backends_and_their_dtypes() -> None:
    by_name = {info.name: info for info in registry.BACKENDS}
    order = list(by_name)
    for (first, second), limits in registry.CROSSOVERS.items():
        assert order.index(first) < order.index(second)
        for dtype, tokens in limits.items():
            for name in (first, second):
                assert by_name[name].offers(Precision(dtype, exact=False))
            assert tokens > 0


def test_triton_gives_a_reason_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    reason = triton.unavailable()
    assert (reason is None) == (lf.available_backends()["triton"] is True)
    if not torch.cuda.is_available():
        assert reason is not None


def test_triton_does_not_run_networks_of_the_cpu(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(BackendUnavailable, match=r"which is cpu; move it with \.cuda\(\)"):
        triton.build(small.net, small.keywords, Precision("float32", exact=False))
