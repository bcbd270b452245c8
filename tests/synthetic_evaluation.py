"""An evaluation with every metric, missing figures and hostile names, made of random numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lreorg_fast.evaluation import Figure
from lreorg_fast.evaluation.measured import (
    METRICS,
    Evaluation,
    Measured,
    MethodResult,
    unavailable,
)
from lreorg_fast.media.pictures import Picture

HOSTILE = (
    "<script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(2)>",
    "](javascript:alert(3)) | `break` \n## heading \\",
    "\u202egnp.exe\x00\x1b[31m \udcff ünï " + "x" * 900,
)
RECOGNIZERS = ("ring-net <b>A</b>", "demo identity:evaluation-2")
ATTRIBUTES = ("gender", "age", "expression", "makeup")
RATES = ("0.001", "0.0001")
REASON = "no such net is installed; pip install 'lreorg_fast[faces]' & try <again>."
# Name: where its protection and usefulness lie.
METHODS = {
    "original": (0.03, 0.99),
    "blur": (0.93, 0.71),
    "pixelate": (0.95, 0.66),
    "laplace": (0.88, 0.80),
    "k-anonymity": (0.985, 0.65),
    "lreorg": (0.991, 0.853),
    "lreorg-not-recovered": (0.995, 0.62),
    HOSTILE[0]: (0.97, 0.73),
    HOSTILE[1]: (0.9, 0.7),
    HOSTILE[2]: (0.98, 0.85),
}
JOINT = [f"lreorg+{name}{kind}" for kind in ("", "-not-recovered") for name in ATTRIBUTES]
ALONE = [f"hide-{name}" for name in ATTRIBUTES]
PARTS = {"psr", "similarity", "similarity_gap", "rank_1", "rank_5", "psr_closed_set", "rank_last"}


def evaluation(seed: int = 0, thin: bool = False, domain: str = "avatars") -> Evaluation:
    """Random figures; ``thin``: nothing but reasons."""
    random = np.random.default_rng(seed)
    places = METHODS | dict.fromkeys(JOINT, (0.99, 0.5)) | dict.fromkeys(ALONE, (0.3, 0.9))
    methods = [
        MethodResult(
            name,
            name.upper() if name == "lreorg" else name,
            f"Made up for tests: {name}",
            "epsilon 1 for the identity" if name == "lreorg" else "none",
            f"lreorg anonymize --method {name}",
            tuple(_missing() if thin else _measured(name, *place, random)),
        )
        for name, place in places.items()
    ]
    # Nothing is released by a solid colour, so nothing can be measured of it.
    gone = tuple(unavailable(METRICS, "nothing was released"))
    methods.insert(3, MethodResult("fill", "fill", "A solid colour", "hides all", "x", gone))
    judged = [
        _share("tar", rate, random, recognizer=name, far=far)
        for name, rate in zip(RECOGNIZERS, (0.97, 0.43), strict=True)
        for far in RATES
    ]
    judged += unavailable(["detection"], REASON)
    return Evaluation(
        {
            "name": f"avatars {HOSTILE[0]}",
            "domain": domain,
            "pictures": 2000,
            "subjects": 1000,
            "statement": "Drawn faces of people whom no network has seen.",
        },
        {
            "recognizers": [{"name": name, "description": "made up"} for name in RECOGNIZERS],
            "attributes": "a net for 4 attributes",
            "detector": REASON,
            "fid": {"name": "pytorch-fid", "description": HOSTILE[1]},
        },
        tuple(judged),
        tuple(methods),
        {
            "command": f"lreorg evaluate --demo -o {HOSTILE[0]!r} `x`",
            "version": "0.9",
            "machine": {"cpu": "2 cores", "memory_gib": 24.0},
            "seconds": 512.25,
            "date": "2026-11-28",
        },
    )


def samples(columns: int = 9, seed: int = 0) -> dict[str, list[Picture | None]]:
    """Smooth pictures of several shapes; each method misses one."""
    random = np.random.default_rng(seed)
    rows: dict[str, list[Picture | None]] = {}
    for row, name in enumerate(METHODS):
        made: list[Picture | None] = []
        for column in range(columns):
            colours = random.uniform(30, 220, (2, 3))
            ramp = np.linspace(0, 1, 64 + 40 * (column % 2))[:, None, None]
            picture = np.broadcast_to(
                colours[0] * ramp + colours[1] * (1 - ramp), (len(ramp), 64, 3)
            )
            made.append(None if column == row else picture.astype(np.uint8).copy())
        rows[name] = made
    return rows


def _missing() -> Iterator[Measured]:
    yield from unavailable(METRICS, REASON)


def _measured(
    name: str, protection: float, usefulness: float, random: np.random.Generator
) -> Iterator[Measured]:
    for recognizer in RECOGNIZERS:
        for far in RATES:
            yield _share("psr", protection, random, recognizer=recognizer, far=far)
            yield _share("parrot_tar", 0.1, random, recognizer=recognizer, far=far)
        yield _share("psr_closed_set", protection, random, recognizer=recognizer)
        for metric in ("rank_1", "rank_5", "reverse_rank_1", "rank_last", "blanked_rank_1"):
            yield _share(metric, 1 - protection, random, recognizer=recognizer)
        for metric in ("similarity", "similarity_gap"):
            yield _mean(metric, 0.1, random, recognizer=recognizer)
        for group in ("gender: female", "gender: male", f"skin: {HOSTILE[0]}"):
            yield _share(
                "psr", protection, random, recognizer=recognizer, far=RATES[0], group=group
            )
    if name == "blur":
        yield from unavailable(["parrot_rank_1", "linkage_auc"], REASON)
    else:
        yield _share("parrot_rank_1", 1.3 * (1 - protection) % 1, random, recognizer="parrot")
        yield _mean("linkage_auc", 0.55, random, recognizer=RECOGNIZERS[0])
    for attribute in ATTRIBUTES:
        yield _share("apr", usefulness, random, attribute=attribute)
        yield _share("attribute_inference", 0.6, random, attribute=attribute)
        if name == "lreorg":
            yield _share("recovery", 0.97, random, attribute=attribute)
    if name == "lreorg":
        yield _share("recovery", 0.7, random, attribute="identity", recognizer=RECOGNIZERS[0])
        yield _mean("audit_epsilon", 0.8, random, layer="black box")
        yield _share("reversal_rank_1", 0.02, random, recognizer=RECOGNIZERS[0])
    else:
        yield from unavailable(["recovery"], "it has no reversal")
        yield from unavailable(["audit_epsilon"], "it promises nothing")
    yield _share("residual_rank_1", 0.2, random, recognizer=RECOGNIZERS[0], part="residual")
    yield _share("released", 1.0, random)
    yield _share("detection", 0.999, random)
    yield _share("apr_mean", usefulness, random)
    yield _mean("feature_distance", 40.0, random, convention="attribute net")
    yield from unavailable(["fid"], REASON, convention="pytorch-fid")
    yield from unavailable(["fid"], REASON, convention="clean-fid")
    yield _mean("landmark_error", 0.04, random)
    yield _mean("diversity", 0.9, random)
    yield from unavailable(["flicker_identity", "flicker_landmarks"], "these are no videos")
    # Twice about the same: the second must not be lost.
    yield _share("released", 0.25, random)


def _share(metric: str, about: float, random: np.random.Generator, **where: str) -> Measured:
    value = float(np.clip(about + random.normal(0, 0.004), 0, 1))
    half = 0.003 + 1.96 * np.sqrt(value * (1 - value) / 1000)
    figure = Figure(
        value,
        int(random.integers(900, 1001)),
        max(0.0, value - half),
        min(1.0, value + half),
        "filled faces are left out" if metric == "psr" else "",
    )
    return Measured(metric, figure, where)


def _mean(metric: str, about: float, random: np.random.Generator, **where: str) -> Measured:
    value = float(about * random.uniform(0.9, 1.1))
    return Measured(metric, Figure(value, 1000, 0.95 * value, 1.05 * value), where)
