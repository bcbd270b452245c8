"""The method's own network run backwards by somebody who has it, but not the key.

CDFNet is public and invertible, and an output is f' and r. Without the key the attacker does not
know the f that was replaced, and puts in what is most like everybody's: the mean feature. The
control runs the same way and keeps the output's own feature, which reverses nothing; what it finds
is what encoder and generator leave anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lreorg_fast.evaluation.attacks.learning import Extractor
from lreorg_fast.evaluation.attacks.residual import IDENTITY, encoded
from lreorg_fast.evaluation.attacks.trained import (
    ORIGINALS_ENROLLED,
    Sight,
    Target,
    looked_at,
    rank_1,
)
from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.evaluation.measured import Measured
from lreorg_fast.evaluation.protocol import Judges, Observed, Recognizer
from lreorg_fast.media.pictures import Picture, resized

if TYPE_CHECKING:
    from torch import Tensor

    from lreorg_fast.pipeline import Anonymizer

MEAN, OWN = "mean feature", "own feature"
CONVENTIONS: Mapping[str, str] = {
    MEAN: "the mean of the public codebook in the place of the identity",
    OWN: "the output's own identity feature: the control, which reverses nothing",
}


def reversal(
    target: Target, originals: Observed, judges: Judges, anonymizer: Anonymizer
) -> list[Measured]:
    """``reversal_rank_1`` of every recognizer and of both conventions.

    Only for methods that run on this bundle.

    Args:
        target: who is attacked.
        originals: what the judges said of the originals, which are enrolled.
        judges: whose recognizers name the reversed pictures.
        anonymizer: with the networks.
    """
    found = []
    for convention, note in CONVENTIONS.items():
        for recognizer in judges.recognizers:
            extract = _seen_reversed(recognizer, anonymizer, convention)
            outputs = looked_at(extract, target.outputs, target.usable)
            sight = Sight(originals.embeddings[recognizer.name], outputs)
            where = {"recognizer": recognizer.name, "convention": convention}
            found.append(rank_1("reversal_rank_1", sight, target, where, ORIGINALS_ENROLLED, note))
    return found


def _seen_reversed(recognizer: Recognizer, anonymizer: Anonymizer, convention: str) -> Extractor:
    def extract(pictures: Sequence[Picture]) -> Floats:
        return recognizer.embed(reversed_without_key(anonymizer, pictures, convention))

    return extract


def reversed_without_key(
    anonymizer: Anonymizer, pictures: Sequence[Picture], convention: str
) -> list[Picture]:
    """What the network makes of outputs backwards, at their sizes."""
    import torch

    from lreorg_fast.models.pixels import to_pictures

    with torch.inference_mode():
        latents = encoded(anonymizer, pictures)
        feature = _feature(anonymizer, latents, convention)
        back = anonymizer.engine.reorganize(latents, {IDENTITY: feature}, [])
        made = to_pictures(anonymizer.generator.synthesis(back).clamp(-1, 1))
    return [
        resized(picture, given.shape[1::-1]) for picture, given in zip(made, pictures, strict=True)
    ]


def _feature(anonymizer: Anonymizer, latents: Tensor, convention: str) -> Tensor:
    """(N, 1 or rows, dim) that takes the place of f'."""
    import torch

    if convention == OWN:
        return anonymizer.engine.disentangle(latents, IDENTITY)[0]
    members = anonymizer.codebook.members.reshape(-1, anonymizer.codebook.dim)
    mean = torch.from_numpy(members.mean(axis=0, dtype="float64")).to(latents)
    return mean.expand(len(latents), 1, -1)
