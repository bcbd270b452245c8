from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lreorg_fast as lf
from lreorg_fast.cdfnet.folding import fold
from lreorg_fast.cdfnet.schedule import execute, key_feature, single
from lreorg_fast.errors import ConfigError
from tolerances import tolerance

DEFAULT_KEEP = ["gender", "age", "expression", "makeup"]
NAMES = st.lists(st.sampled_from("abcdefg"), unique=True)


def test_the_default_has_the_papers_14_passes_in_10_steps() -> None:
    plan = lf.plan(hide=["identity"], keep=DEFAULT_KEEP)
    assert len(plan.passes) == 14
    assert [len(step) for step in plan.steps] == [5, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    assert [item.uses for item in plan.steps[0]] == ["r", "f", "f", "f", "f"]


def test_the_plan_prints_as_a_table() -> None:
    lines = str(lf.plan(hide=["identity"], keep=DEFAULT_KEEP)).splitlines()
    assert lines[0].endswith("14 passes in 10 dependent steps")
    assert len(lines) == 2 + 14
    assert lines[2].split() == ["1", "1", "disentangle", "identity", "s0", "r", "r(identity)", "-"]
    assert lines[-1].split()[:4] == ["14", "10", "fuse", "makeup"]
    assert max(map(len, lines)) < 120


def test_an_untouched_latent_is_disentangled_once() -> None:
    plan = lf.plan(hide=[], keep=["age", "gender"])
    assert [item.uses for item in plan.passes] == ["f+r", "f", "s", "r", "s"]


def test_a_key_feature_is_taken_where_those_before_are_replaced() -> None:
    plan = key_feature(["a", "b"])
    assert plan.inputs == ("s0", "f'(a)")
    assert [(item.direction, item.keyword, item.uses) for item in plan.passes] == [
        ("disentangle", "a", "r"),
        ("fuse", "a", "s"),
        ("disentangle", "b", "f"),
    ]
    assert plan.passes[2].reads == (None, "s1")
    assert [item.uses for item in key_feature(["a"]).passes] == ["f"]
    with pytest.raises(ConfigError, match="hide is empty"):
        key_feature([])


@given(NAMES, st.integers(0, 7))
def test_every_plan_is_sound(names: list[str], split: int) -> None:
    plan = lf.plan(hide=names[:split], keep=names[split:])
    known = set(plan.inputs)
    maker: dict[str, int] = {}
    for step in plan.steps:
        assert len({item.direction for item in step}) == 1
        for item in step:
            reads = {name for name in item.reads if name is not None}
            assert reads <= known
            assert set(item.depends_on) == {maker[name] for name in reads if name in maker}
        for item in step:
            made = [name for name in item.writes if name is not None]
            assert made
            assert not known.intersection(made)
            known.update(made)
            maker.update(dict.fromkeys(made, item.index))
    assert [item.index for item in plan.passes] == list(range(len(plan.passes)))
    assert set(plan.outputs) <= known
    assert plan == lf.plan(hide=tuple(names[:split]), keep=tuple(names[split:]))


@pytest.mark.parametrize(
    ("hide", "keep", "message"),
    [
        (["age"], ["age"], "both hidden and kept"),
        (["age", "age"], [], "hide names 'age' twice"),
        (["age"], ["gender", "gender"], "keep names 'gender' twice"),
        ("identity", [], r"pass a list such as \['identity'\]"),
        ([3], [], "keywords are strings"),
    ],
)
def test_contradictions_are_explained(hide: Any, keep: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        lf.plan(hide=hide, keep=keep)


def test_the_folded_twin_follows_the_goldens(golden: Any) -> None:
    folded = fold(golden.net)
    tables = {n: folded.keywords.table(k.numpy()) for n, k in golden.keywords.items()}
    plan = lf.plan(hide=[golden.hidden], keep=golden.kept)
    latent = golden.latent.numpy()
    inputs = dict(zip(plan.inputs, [latent, golden.replacement.numpy()], strict=True))
    values = execute(plan, folded, tables, inputs)
    limit = tolerance("cdfnet fold", "float64")
    made = values[plan.outputs[0]]
    np.testing.assert_allclose(made, golden.expected["reorganized"], rtol=0, atol=limit)
    residual = values[f"r({golden.hidden})"]
    np.testing.assert_allclose(residual, golden.expected["residual"], rtol=0, atol=limit)
    both = execute(single("disentangle", golden.hidden), folded, tables, {"s": latent})
    np.testing.assert_allclose(both["f"], golden.expected["key_feature"], rtol=0, atol=limit)


@pytest.mark.parametrize(
    ("hide", "keep"),
    [
        (["keyword0", "keyword2"], []),
        (["keyword2", "keyword1", "keyword0"], []),
        ([], ["keyword1", "keyword0"]),
        (["keyword1"], ["keyword2", "keyword0"]),
        ([], []),
    ],
)
def test_the_twin_runs_any_plan_as_the_reference_does(
    small: Any, hide: list[str], keep: list[str]
) -> None:
    folded = fold(small.net)
    tables = {n: folded.keywords.table(k.numpy()) for n, k in small.keywords.items()}
    replace = {name: small.replacement * (i + 1) for i, name in enumerate(hide)}
    plan = lf.plan(hide=hide, keep=keep)
    arrays = [small.latent.numpy(), *(f.numpy() for f in replace.values())]
    values = execute(plan, folded, tables, dict(zip(plan.inputs, arrays, strict=True)))
    expected = small.net.reorganize(small.latent, small.keywords, replace, keep)
    torch.testing.assert_close(
        torch.from_numpy(values[plan.outputs[0]]), expected, rtol=0, atol=1e-9
    )
