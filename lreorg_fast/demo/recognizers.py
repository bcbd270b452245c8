"""What further recognizers say of the demo's pictures, and whether they see what the first sees."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lreorg_fast.demo.figures import Measurement, Named, paired
from lreorg_fast.demo.judge import FIRST, recognizers_of
from lreorg_fast.evaluation import cosine_similarity, true_accept_rate
from lreorg_fast.evaluation.agreement import correlation_figure
from lreorg_fast.models.pixels import to_pictures, to_tensor

# Half height and width of the inner face, brows to mouth, and its centre below the middle, as
# shares of half the picture; the hair line, the ears and nearly every chin are outside.
_INNER, _INNER_CENTRE = 0.52, 0.14
WITHIN = "within another's surroundings"


def further_figures(measurement: Measurement) -> Iterator[Named]:
    """Figures of every recognizer but the first, each begun with its name.

    ``measurement`` is the first's; its people and its draw are looked at, not others.
    """
    further = [name for name in recognizers_of(measurement.anonymizer.bundle) if name != FIRST]
    if further:
        yield from _surroundings(FIRST, measurement)
    for name in further:
        other = measurement.judged_by(name)
        for figure_name, figure in other.identification():
            yield f"{name}: {figure_name}", figure
        yield from _surroundings(name, other)
        yield from _agreement(f"{name} and {FIRST}", measurement, other)


def exchange_surroundings(pictures: Tensor) -> Tensor:
    """Each picture's inner face in the surroundings of the next one, ``(N, 3, S, S)``.

    The border is a rounded rectangle with an edge of about two pixels.
    """
    size = pictures.shape[-1]
    line = (torch.arange(size) + 0.5) * (2.0 / size) - 1
    x, y = line[None, :] / _INNER, (line[:, None] - _INNER_CENTRE) / _INNER
    inside = ((1 - (x**4 + y**4) ** 0.25) * (size / 4)).clamp(0, 1)
    return inside * pictures + (1 - inside) * pictures.roll(-1, dims=0)


def _surroundings(name: str, measurement: Measurement) -> Iterator[Named]:
    """Where the recognizer looks: each probe's inner face in the hair, outline and background of
    the next person's probe, compared with the other picture of both."""
    mixed = to_pictures(exchange_surroundings(to_tensor(measurement.people.probes)))
    found, threshold = measurement.judge.embed(mixed), measurement.random
    inner = paired(found, measurement.others)
    outer = paired(found, np.roll(measurement.others, -1, axis=0))
    label = f"{name}: {WITHIN}"
    yield f"{label}: recognised by the inner face", true_accept_rate(inner, threshold)
    yield f"{label}: recognised by the surroundings", true_accept_rate(outer, threshold)


def _agreement(label: str, first: Measurement, second: Measurement) -> Iterator[Named]:
    """Correlation of the similarities that both give to the same pairs of pictures."""
    genuine = [paired(seen.probes, seen.others) for seen in (first, second)]
    yield f"{label}: correlation, same person", correlation_figure(*genuine)
    strangers = [cosine_similarity(seen.probes, seen.others) for seen in (first, second)]
    yield f"{label}: correlation, strangers", correlation_figure(*strangers)
    kept = [i for i, face in enumerate(first.default.faces) if face.status == "replaced"]
    images = [first.default.images[i] for i in kept]
    if len(kept) > 2:
        anonymized = [paired(m.judge.embed(images), m.others[kept]) for m in (first, second)]
        yield f"{label}: correlation, anonymized and the person", correlation_figure(*anonymized)
