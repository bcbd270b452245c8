"""What is checked of a face before and after it is replaced: fail closed on every doubt.

That a picture shows a face at all is judged by a detector where the bundle has one. Photographs
have none that may be trusted, so there the networks themselves are asked: what they can represent,
and recognize again in their own picture of it, is a face of their kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.models.inference import inference_backbone
from lreorg_fast.models.views import encoded, recognized, squared_error
from lreorg_fast.weights.bundle import Bundle

DETECTOR = "attributes"
RECOGNIZER = "identity:training"
# Reasons that say that the picture is not of the bundle's domain.
NO_FACE = "no face of the bundle's kind was found"
NOT_REPRESENTED = "the bundle's networks cannot represent this picture"
OUT_OF_DOMAIN = (NO_FACE, NOT_REPRESENTED)


class Evidence(Protocol):
    """Whether pictures ``(N, 3, R, R)`` show a face of the bundle's kind: ``(N,)`` boolean.

    NaN and infinity anywhere make it False.
    """

    def of_originals(self, pictures: Tensor, back: Tensor, features: Tensor) -> Tensor:
        """``back``: what encoder and generator make of ``pictures``.

        ``features``: the recognizer's of ``pictures``, which is not asked twice.
        """

    def of_results(self, made: Tensor, features: Tensor) -> Tensor:
        """``made``: by the generator, from a reorganized latent; ``features`` as above."""


class FaceLogit:
    """The bundle's own detector: the last output of its attribute network."""

    def __init__(self, detector: Any, limit: float) -> None:
        self.detector = detector
        self._limit = limit

    def of_originals(self, pictures: Tensor, back: Tensor, features: Tensor) -> Tensor:
        return self.of_results(pictures, features)

    def of_results(self, made: Tensor, features: Tensor) -> Tensor:
        logits: Tensor = self.detector(made)[:, -1]
        return logits > self._limit


class Representation:
    """A face is what comes back from encoder and generator as the same person.

    That an original comes back as about the same pixels is checked for every bundle; this adds
    the person, which is not the same in a picture without a face.
    """

    def __init__(
        self,
        recognizer: Any,
        reconstruct: Callable[[Tensor], Tensor],
        least_similarity: float,
        largest_error: float,
    ) -> None:
        self.recognizer = recognizer
        self._reconstruct = reconstruct
        self._least_similarity = least_similarity
        self._largest_error = largest_error

    def of_originals(self, pictures: Tensor, back: Tensor, features: Tensor) -> Tensor:
        again = recognized(self.recognizer, back)
        return F.cosine_similarity(features, again) >= self._least_similarity

    def of_results(self, made: Tensor, features: Tensor) -> Tensor:
        back = self._reconstruct(made).clamp(-1, 1)
        close = squared_error(back, made) <= self._largest_error
        return close & self.of_originals(made, back, features)


class Verification:
    """Every check of one bundle, with its calibrated limits.

    A safety net and not a measurement: the recognizer is the one that CDFNet was trained against.
    """

    def __init__(
        self,
        bundle: Bundle,
        load: Callable[[str], nn.Module],
        encoder: Any,
        generator: Any,
    ) -> None:
        """``load`` gives the network of a part, on the device of ``encoder`` and ``generator``."""
        self.recognizer: Any = inference_backbone(load(RECOGNIZER))
        self.evidence: Evidence
        self._threshold = bundle.calibrated("verify.similarity")
        self._error_limit = bundle.calibrated("verify.reconstruction")
        if DETECTOR in bundle.manifest.parts:
            self.evidence = FaceLogit(
                inference_backbone(load(DETECTOR)), bundle.calibrated("verify.face")
            )
        else:
            self.evidence = Representation(
                self.recognizer,
                lambda pictures: generator.synthesis(encoded(encoder, pictures)),
                bundle.calibrated("verify.represented"),
                self._error_limit,
            )

    def features(self, pictures: Tensor) -> Tensor:
        """The recognizer's features ``(N, outputs)`` of pictures ``(N, 3, R, R)``."""
        return recognized(self.recognizer, pictures)

    def refusals(
        self, pictures: Tensor, codes: Tensor, back: Tensor, features: Tensor
    ) -> list[str | None]:
        """Why each original ``(N, 3, R, R)`` cannot be worked on; None where it can.

        Args:
            pictures: the originals.
            codes: their latents ``(N, num_ws, style_dim)``.
            back: the generator's pictures of these.
            features: of ``pictures``, from :meth:`features`.
        """
        faces = self.evidence.of_originals(pictures, back, features)
        errors = squared_error(back, pictures)
        return _reasons(
            (torch.isfinite(codes).flatten(1).all(dim=1), "the encoder gave no finite latent"),
            (faces, NO_FACE),
            (
                errors <= self._error_limit,
                NOT_REPRESENTED,
            ),
        )

    def resembling(self, made: Tensor, originals: Tensor) -> list[bool]:
        """Whether each picture ``(N, 3, R, R)`` is taken for the original, or cannot be judged."""
        similarity = F.cosine_similarity(self.features(made), self.features(originals))
        other: list[bool] = (similarity < self._threshold).tolist()
        return [not passed for passed in other]

    def failures(
        self, made: Tensor, features: Tensor, similarity: Tensor, hides_identity: bool
    ) -> list[str | None]:
        """Why each result ``(N, 3, R, R)`` may not leave; None where it may.

        Args:
            made: the results.
            features: of them, from :meth:`features`.
            similarity: ``(N,)`` cosine of these with those of the originals.
            hides_identity: a result that resembles its original may not leave.
        """
        finite = torch.isfinite(made).flatten(1).all(dim=1)
        other = similarity < self._threshold
        return _reasons(
            (finite & self.evidence.of_results(made, features), "the result is not a face"),
            (
                other if hides_identity else torch.ones_like(other),
                "the result still resembles the original",
            ),
        )


def _reasons(*checks: tuple[Tensor, str]) -> list[str | None]:
    """The reason of the first check that each row failed."""
    columns: Sequence[Sequence[bool]] = [passed.tolist() for passed, _ in checks]
    reasons = [reason for _, reason in checks]
    return [
        next((reason for good, reason in zip(row, reasons, strict=True) if not good), None)
        for row in zip(*columns, strict=True)
    ]
