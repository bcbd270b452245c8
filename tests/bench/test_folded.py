"""The folded peers compute what the reference network defines."""

from __future__ import annotations

import pytest

import lreorg_fast as lf
from bench import cases
from bench.folded import FoldedRecurrence, weight_elements
from tolerances import tolerance

TOY = lf.CDFNetConfig(dim=24, cond_dim=10, num_blocks=3, growth=5)


def recurrence(hide: list[str], keep: list[str]) -> FoldedRecurrence:
    return FoldedRecurrence(*cases.network(TOY), lf.plan(hide=hide, keep=keep))


@pytest.mark.parametrize(
    ("hide", "keep"),
    [
        (["identity"], ["gender", "age", "expression", "makeup"]),
        (["identity", "age"], ["gender"]),
        (["identity"], []),
        ([], ["gender", "age"]),
    ],
)
def test_equals_the_reference_in_float64(hide: list[str], keep: list[str]) -> None:
    s, f = (x.double() for x in cases.inputs(2, TOY))
    replace = {name: (i + 1) * f for i, name in enumerate(hide)}
    exact = cases.engine("reference", "float64", config=TOY).reorganize(s, replace, keep)
    rows = [x.reshape(-1, TOY.dim) for x in (s, *replace.values())]
    made = recurrence(hide, keep)(*rows)
    assert float((made - exact.reshape(made.shape)).abs().max()) < tolerance(
        "cdfnet fold", "float64"
    )


def test_the_expected_result_of_many_faces_is_that_of_each() -> None:
    faces = cases.DISTINCT_FACES + 3
    s, f = (x.double() for x in cases.inputs(faces, TOY))
    reference = cases.engine("reference", "float64", config=TOY)
    exact = reference.reorganize(s, {cases.HIDE: f}, cases.KEEP)
    difference = (cases.expected(faces, TOY) - exact).abs().max()
    assert float(difference) < tolerance("cdfnet engine", "float64")


def test_counts_the_weights_of_a_step() -> None:
    dim, growth = TOY.dim, TOY.growth
    dense = (4 * growth + dim) * dim + 6 * growth**2 + 4 * growth * dim
    made = weight_elements(recurrence(["identity"], []))
    assert made == TOY.num_blocks * 3 * (dim**2 + dense)
