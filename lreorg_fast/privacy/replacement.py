"""What an anonymizer hands back for one face and one keyword."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lreorg_fast.privacy.arrays import Float32Array


@dataclass(frozen=True, eq=False)
class Replacement:
    """A replacement feature together with what its draw cost and what it guarantees.

    Attributes:
        feature: (dim,) float32, read-only, on the scale of the key features that the codebook or
            the means were made from; it replaces the face's key feature on every token.
            ``torch.tensor(replacement.feature)`` copies it.
        group: index of the group or content that was drawn; None where nothing was chosen.
        epsilon: cost of the draw, infinity where there is no guarantee.
        mechanism: name of the mechanism or rule.
        guarantee: one sentence, true for this draw.
    """

    feature: Float32Array
    group: int | None
    epsilon: float
    mechanism: str
    guarantee: str

    def __post_init__(self) -> None:
        feature = np.array(self.feature, dtype=np.float32)
        # One replacement is held for a whole track: nobody may change it on the way.
        feature.setflags(write=False)
        object.__setattr__(self, "feature", feature)
