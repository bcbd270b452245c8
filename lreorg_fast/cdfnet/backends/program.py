"""A plan in integers, as csrc/core/program.h and kernels/cuda/reorganize.h take it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lreorg_fast.cdfnet.folding import KeywordFold
from lreorg_fast.cdfnet.schedule import Direction, Plan

Lane = tuple[int, int, int, int, int]


@dataclasses.dataclass(frozen=True)
class NumberedPlan:
    """A plan whose values are numbered: inputs first, then in the order of writing.

    Attributes:
        num_inputs: how many values are given.
        num_values: how many there are, with those that lanes write.
        steps: direction and lanes of each step; a lane is (keyword, in1, in2, out1, out2), -1 for
            none.
        outputs: which values are wanted.
    """

    num_inputs: int
    num_values: int
    steps: list[tuple[Direction, list[Lane]]]
    outputs: list[int]


def number(plan: Plan, keywords: Mapping[str, int]) -> NumberedPlan:
    """Number the values of a plan; ``keywords`` are the rows of the table of constants."""
    names: list[str | None] = [None, *plan.inputs]
    steps: list[tuple[Direction, list[Lane]]] = []
    for step in plan.steps:
        lanes: list[Lane] = []
        for item in step:
            names += [name for name in item.writes if name is not None]
            in1, in2, out1, out2 = (names.index(name) - 1 for name in (*item.reads, *item.writes))
            lanes.append((keywords[item.keyword], in1, in2, out1, out2))
        steps.append((step[0].direction, lanes))
    outputs = [names.index(name) - 1 for name in plan.outputs]
    return NumberedPlan(len(plan.inputs), len(names) - 1, steps, outputs)


def constants(fold: KeywordFold, keywords: Mapping[str, Tensor]) -> NDArray[np.float32]:
    """c(k) of every keyword, in order: (keywords, num_blocks, 3, dim)."""
    tables = [fold.table(k.detach().cpu().double().numpy()) for k in keywords.values()]
    return np.asarray(tables, dtype=np.float32)
