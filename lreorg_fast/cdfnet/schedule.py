"""Which passes a reorganization needs, in which order, and which of them can run together.

The recurrence of the paper: anonymize (AR), s_{i+1} = fuse(f'_i, r_i, k_i) with r_i from s_i, for
every hidden keyword; then recover (RR), s_{i+1} = fuse(f_i, r_i, k_i) with r_i from s_i and f_i
from the original s_0, for every kept keyword. A disentangling of s_0 does not wait for the
recurrence, so all of them run as one batch with the first pass.

A :class:`Plan` is plain data: people print it, :func:`execute` runs it in float64, and the native
engine runs the same list of steps.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from lreorg_fast.errors import ConfigError

if TYPE_CHECKING:
    from lreorg_fast.cdfnet.folding import Array, FoldedCDFNet

Direction = Literal["disentangle", "fuse"]

_ORIGINAL = "s0"

# The two results of each direction, by stream.
RESULTS: dict[Direction, tuple[str, str]] = {"disentangle": ("f", "r"), "fuse": ("loss", "s")}


@dataclasses.dataclass(frozen=True)
class Pass:
    """One pass of CDFNet over the tokens of a latent.

    Attributes:
        index: position in the plan, from 0.
        step: the dependent step; passes of one step run as one batch.
        direction: "disentangle" (Eq. 1, 2) or "fuse" (Eq. 3, 4).
        keyword: name of the keyword that conditions it.
        reads: names of the values that streams 1 and 2 start from; None is zeros.
        writes: names of the values that streams 1 and 2 end as; None is a half that nobody uses.
        depends_on: indices of the passes that make what it reads.
    """

    index: int
    step: int
    direction: Direction
    keyword: str
    reads: tuple[str | None, str]
    writes: tuple[str | None, str | None]
    depends_on: tuple[int, ...]

    @property
    def uses(self) -> str:
        """The used half or halves, such as "r" or "f+r"."""
        halves = zip(RESULTS[self.direction], self.writes, strict=True)
        return "+".join(half for half, value in halves if value is not None)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The passes of one reorganization, ordered by step.

    Attributes:
        hide: keywords whose key feature is replaced, in order.
        keep: keywords that are recovered from the original, in order.
        inputs: names of the given values: the latent, then one replacement per hidden keyword.
        passes: what runs.
        outputs: names of the resulting values.
    """

    hide: tuple[str, ...]
    keep: tuple[str, ...]
    inputs: tuple[str, ...]
    passes: tuple[Pass, ...]
    outputs: tuple[str, ...]

    @property
    def steps(self) -> tuple[tuple[Pass, ...], ...]:
        """The passes grouped by step: what runs as one batch."""
        groups = itertools.groupby(self.passes, key=lambda item: item.step)
        return tuple(tuple(group) for _, group in groups)

    @property
    def keywords(self) -> tuple[str, ...]:
        """The keywords in order of first use."""
        return tuple(dict.fromkeys(item.keyword for item in self.passes))

    def __str__(self) -> str:
        head = ("pass", "step", "direction", "keyword", "reads", "uses", "makes", "waits for")
        rows = [head, *(_row(item) for item in self.passes)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        title = (
            f"hide {', '.join(self.hide) or 'nothing'}; keep {', '.join(self.keep) or 'nothing'}"
        )
        count = f"{len(self.passes)} passes in {len(self.steps)} dependent steps"
        return "\n".join([f"{title}: {count}", *lines])


def plan(hide: Iterable[str], keep: Iterable[str] = ()) -> Plan:
    """Plan a reorganization.

    Args:
        hide: keywords whose key feature is replaced (AR), in order.
        keep: keywords that are recovered from the original (RR), in order.

    Raises:
        ConfigError: a keyword is listed twice, or is both hidden and kept.
    """
    hidden, kept = _names("hide", hide), _names("keep", keep)
    both = [name for name in hidden if name in kept]
    if both:
        raise ConfigError(f"keyword {both[0]!r} is both hidden and kept; list it once.")
    builder = _Builder()
    replacements, current = _anonymize(builder, hidden)
    for i, name in enumerate(kept, start=len(hidden)):
        residual, recovered, following = f"r({name})", f"f0({name})", f"s{i + 1}"
        if current == _ORIGINAL:
            builder.add("disentangle", name, (None, _ORIGINAL), (recovered, residual))
        else:
            builder.add("disentangle", name, (None, current), (None, residual))
            builder.add("disentangle", name, (None, _ORIGINAL), (recovered, None))
        builder.add("fuse", name, (recovered, residual), (None, following))
        current = following
    return Plan(hidden, kept, (_ORIGINAL, *replacements), builder.passes(), (current,))


def key_feature(hide: Iterable[str]) -> Plan:
    """The plan of the key feature from which the last hidden keyword's replacement is chosen.

    As published, it is that of the latent in which the keywords before it are already replaced;
    their replacements are inputs.

    Raises:
        ConfigError: hide is empty or names a keyword twice.
    """
    hidden = _names("hide", hide)
    if not hidden:
        raise ConfigError("hide is empty, so no key feature is needed; name a keyword.")
    builder, feature = _Builder(), f"f({hidden[-1]})"
    replacements, current = _anonymize(builder, hidden[:-1])
    builder.add("disentangle", hidden[-1], (None, current), (feature, None))
    return Plan(hidden, (), (_ORIGINAL, *replacements), builder.passes(), (feature,))


def _anonymize(builder: _Builder, hidden: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Adds the passes of AR; gives the names of the replacements and of the resulting latent."""
    current = _ORIGINAL
    replacements = tuple(f"f'({name})" for name in hidden)
    for i, name in enumerate(hidden):
        residual, following = f"r({name})", f"s{i + 1}"
        builder.add("disentangle", name, (None, current), (None, residual))
        builder.add("fuse", name, (replacements[i], residual), (None, following))
        current = following
    return replacements, current


def single(direction: Direction, keyword: str) -> Plan:
    """The plan of one full pass: inputs ("s",) or ("f", "r"), outputs both halves."""
    reads: tuple[str | None, str] = (None, "s") if direction == "disentangle" else ("f", "r")
    builder = _Builder()
    builder.add(direction, keyword, reads, RESULTS[direction])
    inputs = tuple(name for name in reads if name is not None)
    return Plan((), (), inputs, builder.passes(), RESULTS[direction])


def execute(
    plan: Plan, network: FoldedCDFNet, tables: Mapping[str, Array], inputs: Mapping[str, Array]
) -> dict[str, Array]:
    """Run a plan on a folded network in float64, batch by batch as the native engine does.

    Args:
        plan: what to run.
        network: the folded network.
        tables: constants c(k) of each keyword, (num_blocks, 3, D).
        inputs: the plan's inputs by name, each (tokens, D).

    Returns:
        Every value that the plan made, by name, and the inputs; each (tokens, D).
    """
    import numpy as np

    values = dict(inputs)
    for step in plan.steps:
        second = [values[item.reads[1]] for item in step]
        first = [
            np.zeros_like(row) if item.reads[0] is None else values[item.reads[0]]
            for item, row in zip(step, second, strict=True)
        ]
        constants = [
            np.repeat(tables[item.keyword][None], len(row), axis=0)
            for item, row in zip(step, second, strict=True)
        ]
        run = network.disentangle if step[0].direction == "disentangle" else network.fuse
        streams = run(np.concatenate(first), np.concatenate(second), np.concatenate(constants))
        for stream, result in enumerate(streams):
            for item, row in zip(step, np.split(result, len(step)), strict=True):
                name = item.writes[stream]
                if name is not None:
                    values[name] = row
    return values


class _Builder:
    """Collects passes in the order of the recurrence and gives each its step."""

    def __init__(self) -> None:
        self._drafts: list[Pass] = []
        self._ready: dict[str, int] = {}  # the first step that can read a value; inputs: 0

    def add(
        self,
        direction: Direction,
        keyword: str,
        reads: tuple[str | None, str],
        writes: tuple[str | None, str | None],
    ) -> None:
        step = max(self._ready.get(name, 0) for name in reads if name is not None)
        self._ready.update({name: step + 1 for name in writes if name is not None})
        self._drafts.append(Pass(len(self._drafts), step, direction, keyword, reads, writes, ()))

    def passes(self) -> tuple[Pass, ...]:
        """The passes by step, with their final indices and dependencies."""
        maker: dict[str, int] = {}
        result = []
        for index, draft in enumerate(sorted(self._drafts, key=lambda item: item.step)):
            needed = sorted({maker[name] for name in draft.reads if name in maker})
            result.append(dataclasses.replace(draft, index=index, depends_on=tuple(needed)))
            maker.update({name: index for name in draft.writes if name is not None})
        return tuple(result)


def _names(field: str, names: Iterable[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise ConfigError(f"{field} is the string {names!r}; pass a list such as [{names!r}].")
    listed = tuple(names)
    for name in listed:
        if not isinstance(name, str):
            raise ConfigError(f"{field} holds {name!r}; keywords are strings.")
        if listed.count(name) > 1:
            raise ConfigError(f"{field} names {name!r} twice; list it once.")
    return listed


def _row(item: Pass) -> tuple[str, ...]:
    made = [value for value in item.writes if value is not None]
    return (
        str(item.index + 1),
        str(item.step + 1),
        item.direction,
        item.keyword,
        ", ".join(value for value in item.reads if value is not None),
        item.uses,
        ", ".join(made),
        ", ".join(str(index + 1) for index in item.depends_on) or "-",
    )
