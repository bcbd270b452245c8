"""What a method leaves untouched: CDFNet's residual, and everything around the face.

The attacker trains on people of their own, as in the parrot attack, but is shown nothing that the
method replaced. The features are frozen and Fisher's discriminant is trained on them
(:class:`~lreorg_fast.evaluation.attacks.learning.Projected`): what is asked is whether the identity
is there at all, and a closed form answers without a training that could have gone wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lreorg_fast.evaluation.attacks.learning import Extractor, Projected, TrainingSet
from lreorg_fast.evaluation.attacks.trained import Target, trained_rank_1
from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.evaluation.measured import Measured
from lreorg_fast.evaluation.protocol import FaceFinder
from lreorg_fast.media.pictures import FILL_COLOUR, Picture, resized

if TYPE_CHECKING:
    from torch import Tensor

    from lreorg_fast.pipeline import Anonymizer

IDENTITY = "identity"
_PIXELS = 24
# Of an aligned face, in shares of the picture's width and height: centre, half axes. Chin to
# hairline, ear to ear; hair, neck, clothes and background stay.
_FACE = ((0.5, 0.54), (0.38, 0.46))
# Half axes in distances of the eyes, where there are landmarks.
_REACH = (1.5, 2.1)


def residual(target: Target, training: TrainingSet, anonymizer: Anonymizer) -> list[Measured]:
    """``residual_rank_1``: the person named from r of the output alone.

    Only for methods that run on this bundle: of all others r is not what was left.

    Args:
        target: who is attacked.
        training: the method's outputs for people who are in no test.
        anonymizer: whose encoder and CDFNet take the pictures apart.
    """
    extractor = residual_extractor(anonymizer)
    learner = Projected(extractor, "residual of CDFNet", "r of the identity keyword, all rows")
    note = "discriminant trained on r of originals and outputs of other people"
    return list(trained_rank_1("residual_rank_1", target, training, learner, note))


def residual_extractor(anonymizer: Anonymizer, keyword: str = IDENTITY) -> Extractor:
    """Pictures -> (N, rows * dim) residual features r of the keyword."""

    def extract(pictures: Sequence[Picture]) -> Floats:
        import torch

        with torch.inference_mode():
            latents = encoded(anonymizer, pictures)
            _, r = anonymizer.engine.disentangle(latents, keyword)
            return np.asarray(r.expand_as(latents).flatten(1).double().cpu().numpy())

    return extract


def encoded(anonymizer: Anonymizer, pictures: Sequence[Picture]) -> Tensor:
    """Latents (N, rows, dim) of aligned pictures of any size."""
    from lreorg_fast.models.pixels import to_tensor

    size = anonymizer.encoder.config.input_size
    shown = to_tensor([resized(picture, (size, size)) for picture in pictures])
    latents: Tensor = anonymizer.encoder(shown.to(anonymizer.device))
    return latents


def outside_of_face(
    target: Target, training: TrainingSet, finder: FaceFinder | None = None
) -> list[Measured]:
    """``blanked_rank_1``: the person named from the output with its face blanked.

    Args:
        target: who is attacked.
        training: the method's outputs for people who are in no test.
        finder: blanks where its landmarks are; without landmarks, where an aligned face is.
    """
    name = "pixels around the face"
    learner = Projected(blanked_extractor(finder), name, f"{_PIXELS} x {_PIXELS} pixels")
    note = "discriminant trained on pixels of originals and outputs of other people"
    return list(trained_rank_1("blanked_rank_1", target, training, learner, note))


def blanked_extractor(finder: FaceFinder | None = None) -> Extractor:
    """Pictures -> (N, 24 * 24 * 3) of what surrounds the face.

    No recognizer: it would look for a face, and there is none.
    """

    def extract(pictures: Sequence[Picture]) -> Floats:
        found = None if finder is None else finder.find(pictures)[1]
        return pixels(
            [
                blanked(picture, None if found is None else found[i])
                for i, picture in enumerate(pictures)
            ]
        )

    return extract


def blanked(picture: Picture, landmarks: Floats | None = None) -> Picture:
    """A copy with the face filled in a solid colour.

    Args:
        picture: (H, W, 3) uint8.
        landmarks: (5, 2) in pixels; None or NaN for an aligned face.
    """
    height, width = picture.shape[:2]
    (x, y), (a, b) = np.array(_FACE) * [width, height]
    if landmarks is not None and np.isfinite(landmarks).all():
        eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
        x, y = (eyes + mouth) / 2
        a, b = np.array(_REACH) * max(1.0, float(np.linalg.norm(landmarks[1] - landmarks[0])))
    rows, columns = np.mgrid[:height, :width] + 0.5
    made: Picture = picture.copy()
    made[((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1] = FILL_COLOUR
    return made


def pixels(pictures: Sequence[Picture]) -> Floats:
    """(N, 24 * 24 * 3) in [0, 1], averaged down."""
    small = [
        np.asarray(Image.fromarray(picture).resize((_PIXELS, _PIXELS), Image.Resampling.BOX))
        for picture in pictures
    ]
    return np.stack(small).reshape(len(small), -1) / 255.0
