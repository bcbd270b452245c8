"""The limits of verification, from generated pictures alone: no label, no picture of anybody.

Generated people are different people, so their pairs tell how alike strangers are; and what
encoder and generator make of generated pictures tells how well they represent anything at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation import cosine_similarity, threshold_at_far
from lreorg_fast.evaluation.figures import Figure, Floats, mean_figure, share_figure
from lreorg_fast.evaluation.metrics import MIN_ACCEPTED_IMPOSTORS
from lreorg_fast.models.pixels import to_bytes, to_unit
from lreorg_fast.models.views import encoded, recognized, squared_error
from lreorg_fast.training.tables import Progress, picture_chunks, silent

# Times the largest error of a generated picture: photographs come back a little worse.
RECONSTRUCTION_MARGIN = 1.5


@dataclass(frozen=True)
class CalibrationSizes:
    """How much is measured.

    Args:
        seed: of the people; other people than those of the tables.
        people: generated people.
        reconstructions: how many of them are encoded and generated again.
        far: false accept rate of the two thresholds.

    Raises:
        ConfigError: too few pairs of different people to tell ``far`` from zero.
    """

    seed: int = 900_071
    people: int = 1_500
    reconstructions: int = 500
    far: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.far < 1:
            raise ConfigError(f"far = {self.far} must lie between 0 and 1, for example 1e-3")
        if not 1 <= self.reconstructions <= self.people:
            raise ConfigError(
                f"reconstructions = {self.reconstructions} must be 1 to people = {self.people}"
            )
        needed = math.ceil(MIN_ACCEPTED_IMPOSTORS / self.far - 1e-9)
        for what, pairs in (
            ("people", self.people * (self.people - 1) // 2),
            ("reconstructions", self.reconstructions * (self.people - 1)),
        ):
            if pairs < needed:
                raise ConfigError(
                    f"{what} = {getattr(self, what)} make {pairs} pairs of different people, and "
                    f"far = {self.far:g} needs {needed}; raise it"
                )


@dataclass(frozen=True)
class Calibration:
    """``limits`` for the manifest's calibration, and what they mean in ``figures``."""

    limits: Mapping[str, float]
    figures: Mapping[str, Mapping[str, Any]]


@torch.inference_mode()
def calibrate(
    sizes: CalibrationSizes,
    encoder: Any,
    generator: Any,
    recognizer: Any,
    evaluation: Any | None = None,
    progress: Progress = silent,
) -> Calibration:
    """Measure every limit that a bundle without a face detector needs.

    ``verify.similarity``: what at most a share ``far`` of the pairs of different generated people
    exceed. ``verify.represented``: the same of the pairs of one person's picture with somebody
    else's reconstruction, so that an original must come back as itself and not as anybody.
    ``verify.reconstruction``: 1.5 times the largest mean squared error of a reconstruction.
    ``evaluation.threshold.random``: as ``verify.similarity``, for ``evaluation`` if it is given.
    """
    looks = {"verify.similarity": recognizer}
    if evaluation is not None:
        looks["evaluation.threshold.random"] = evaluation
    features: dict[str, list[Tensor]] = {name: [] for name in looks}
    backs: list[Tensor] = []
    errors: list[Tensor] = []
    done = 0
    for part in picture_chunks(_people(sizes, generator), generator.config.resolution):
        pictures = _as_stored(generator.synthesis(part))
        for name, net in looks.items():
            features[name].append(recognized(net, pictures).cpu())
        again = pictures[: max(sizes.reconstructions - done, 0)]
        if len(again):
            back = generator.synthesis(encoded(encoder, again))
            errors.append(squared_error(back, again).cpu())
            backs.append(recognized(recognizer, back).cpu())
        done += len(part)
        progress("calibration pictures", done, sizes.people)
    limits: dict[str, float] = {}
    figures: dict[str, Figure] = {}
    for name, parts in features.items():
        rows = torch.cat(parts).double().numpy()
        scores = cosine_similarity(rows, rows)[np.triu_indices(len(rows), 1)]
        limits[name] = threshold_at_far(scores, sizes.far)
        figures[name] = _above(scores, limits[name], f"{len(rows)} generated people")
    own = torch.cat(features["verify.similarity"]).double().numpy()
    limits |= _representation(sizes, torch.cat(backs), torch.cat(errors), own, figures)
    return Calibration(limits, {f"calibration: {n}": asdict(f) for n, f in figures.items()})


def _representation(
    sizes: CalibrationSizes,
    backs: Tensor,
    errors: Tensor,
    own: Floats,
    figures: dict[str, Figure],
) -> dict[str, float]:
    """The limits about reconstructions; their figures are added to ``figures``."""
    similarity = cosine_similarity(backs.double().numpy(), own)
    genuine = np.diagonal(similarity)
    strangers = similarity[np.not_equal(*np.indices(similarity.shape))]
    represented = threshold_at_far(strangers, sizes.far)
    largest = RECONSTRUCTION_MARGIN * float(errors.max())
    who = f"{len(backs)} reconstructions and {len(own)} generated people"
    figures["verify.represented"] = _above(strangers, represented, who)
    note = f"reconstructions recognized above {represented:.4g}"
    figures["represented"] = share_figure(genuine >= represented, note=note)
    note = f"mean squared error in [-1, 1]; the limit {largest:.4g} is 1.5 times the largest"
    figures["verify.reconstruction"] = mean_figure(errors.double().numpy(), note=note)
    return {"verify.represented": represented, "verify.reconstruction": largest}


def _people(sizes: CalibrationSizes, generator: Any) -> Tensor:
    random = torch.Generator().manual_seed(sizes.seed)
    z = torch.randn(sizes.people, generator.config.z_dim, generator=random)
    w: Tensor = generator.mapping(z)
    return w


def _as_stored(pictures: Tensor) -> Tensor:
    """Rounded to 8 bits, as every picture that the pipeline is given."""
    return to_unit(to_bytes(pictures))


def _above(scores: Floats, threshold: float, who: str) -> Figure:
    note = (
        f"pairs of different people above {threshold:.4g}; {who}, whose pairs are not independent"
    )
    return share_figure(scores > threshold, note=note)
