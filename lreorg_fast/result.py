"""What an anonymization gives back: pictures, and for every face what was done and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.media.pictures import Picture
from lreorg_fast.privacy import json_epsilon

Status = Literal["replaced", "filled"]
KEY_FEATURES_ONLY = "epsilon-local differential privacy of the replaced key features only"


def privacy_of(epsilon: float) -> str:
    """``none`` for a cost without a guarantee, else what epsilon is about."""
    return "none" if math.isinf(epsilon) else KEY_FEATURES_ONLY


@dataclass(frozen=True, eq=False)
class RecoveryKey:
    """The original key features of one face: enough to reverse an anonymization approximately.

    Whoever holds it can bring the person back, so it is made only on request and never written
    by this package; ``features`` maps each hidden keyword, in the order of hiding, to the
    original's (rows, dim) float32.
    """

    features: Mapping[str, NDArray[np.float32]] = field(repr=False)


@dataclass(frozen=True)
class FaceResult:
    """One face.

    Attributes:
        index: position in the batch.
        status: ``replaced`` (a new face, verified) or ``filled`` (a solid colour).
        reason: why it was filled; None for a replaced face.
        track: the person-track that paid for the draw.
        epsilon: cost of the draws for this release, infinity where there is no guarantee.
        mechanism: hidden keyword to the mechanism or rule that replaced it.
        guarantee: one sentence for each hidden keyword, true for these draws.
        hidden, kept: the keywords.
        similarity: cosine of the bundle's recognizer between original and result; None if filled
            before there was a result.
        recovery_key: see :class:`RecoveryKey`; None unless asked for.
    """

    index: int
    status: Status
    reason: str | None
    track: str
    epsilon: float
    mechanism: Mapping[str, str]
    guarantee: Mapping[str, str]
    hidden: tuple[str, ...]
    kept: tuple[str, ...]
    similarity: float | None = None
    recovery_key: RecoveryKey | None = field(default=None, repr=False)

    @property
    def privacy(self) -> str:
        """``none`` where any draw has no guarantee, else what epsilon is about."""
        return privacy_of(self.epsilon)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without the recovery key."""
        return {
            "index": self.index,
            "status": self.status,
            "reason": self.reason,
            "track": self.track,
            "epsilon": json_epsilon(self.epsilon),
            "privacy": self.privacy,
            "mechanism": dict(self.mechanism),
            "guarantee": dict(self.guarantee),
            "hidden": list(self.hidden),
            "kept": list(self.kept),
            "similarity": None if self.similarity is None else round(self.similarity, 4),
        }


@dataclass(frozen=True, eq=False)
class Result:
    """The pictures ``(H, W, 3)`` uint8 RGB, one per input, and one :class:`FaceResult` each.

    ``batched`` says whether several pictures were passed in, be it a list of one.
    """

    images: tuple[Picture, ...]
    faces: tuple[FaceResult, ...]
    batched: bool = False

    @property
    def image(self) -> Picture:
        """In the form of the input: one picture, or ``(N, H, W, 3)`` for a batch of equal sizes."""
        if not self.batched:
            return self.images[0]
        if len({image.shape for image in self.images}) > 1:
            raise AttributeError("the pictures of this result differ in size: use .images")
        return np.stack(self.images)

    @property
    def filled(self) -> tuple[FaceResult, ...]:
        """Faces that could not be replaced and were filled instead."""
        return tuple(face for face in self.faces if face.status == "filled")
