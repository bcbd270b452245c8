"""The method ``reorganize``: each face through the bundle's networks, checked again in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from lreorg_fast.faces.alignment import Alignment
from lreorg_fast.faces.blending import Layer, paste_layer
from lreorg_fast.faces.regions import face_shape
from lreorg_fast.media.pictures import Picture
from lreorg_fast.models.pixels import to_tensor
from lreorg_fast.scene.cutting import Cut, Place, cut_faces
from lreorg_fast.scene.faces import KnownFace, Made, SceneStatus
from lreorg_fast.scene.refinement import Refinement
from lreorg_fast.scene.settings import SceneSettings
from lreorg_fast.settings import IDENTITY

if TYPE_CHECKING:
    from lreorg_fast.pipeline import Anonymizer

_AT_ONCE = 16  # pairs of faces that the recognizer looks at together
STILL_SEEN = "the face in the finished picture still resembles the original"


class Reorganize:
    """A :class:`lreorg_fast.scene.faces.FaceMaker`."""

    status: SceneStatus = "replaced"

    def __init__(self, anonymizer: Anonymizer, settings: SceneSettings) -> None:
        self._anonymizer, self._settings = anonymizer, settings
        resolved = anonymizer.resolve(settings.settings)
        self._hides_identity = IDENTITY in resolved.hide
        domain = anonymizer.bundle.manifest.domain
        self._alignment = Alignment.of_domain(domain.kind, domain.alignment)
        # The border of a portrait is its own background, which says nothing of the light.
        self._matches = settings.colour_match and not self._alignment.portrait
        # FFHQ's square is what its encoders were trained on, and they bear its tolerance.
        self._refinement = Refinement(anonymizer) if self._alignment.points else None

    def make(self, picture: Picture, faces: Sequence[KnownFace]) -> list[Made]:
        """New faces for those that the bundle can represent."""
        cuts = self._cuts(picture, faces, lambda face: self._place(picture, face))
        made = [Made(None, cut) if isinstance(cut, str) else None for cut in cuts]
        whole = [(i, cut) for i, cut in enumerate(cuts) if isinstance(cut, Cut)]
        if whole:
            result = self._anonymizer(
                [cut.image for _, cut in whole],
                tracks=[faces[i].track for i, _ in whole],
                **vars(self._settings.settings),
            )
            for (i, cut), image, face in zip(whole, result.images, result.faces, strict=True):
                if face.status == "filled":
                    made[i] = Made(None, face.reason, face)
                else:
                    made[i] = Made(self._layer(picture, faces[i], cut, image), None, face)
        return [entry for entry in made if entry is not None]

    def doubts(
        self, source: Picture, made: Picture, faces: Sequence[KnownFace]
    ) -> list[str | None]:
        """The recognizer compares each face's square before and after, neighbours included."""
        if not self._hides_identity:
            return [None] * len(faces)

        # Not through the networks: on the picture before and after it must be the same square.
        def place(face: KnownFace) -> NDArray[np.float64]:
            return self._alignment.quad(face.detection.landmarks)

        before, after = (self._cuts(picture, faces, place) for picture in (source, made))
        pairs = {
            i: (old.image, new.image)
            for i, (old, new) in enumerate(zip(before, after, strict=True))
            if isinstance(old, Cut) and isinstance(new, Cut)
        }
        seen = dict(zip(pairs, self._seen(list(pairs.values())), strict=True))
        # What cannot be looked at is not known to be another face.
        return [STILL_SEEN if seen.get(i, True) else None for i in range(len(faces))]

    def _cuts(self, picture: Picture, faces: Sequence[KnownFace], place: Place) -> list[Cut | str]:
        return cut_faces(picture, faces, place, self._anonymizer.resolution)

    def _place(self, picture: Picture, face: KnownFace) -> NDArray[np.float64]:
        quad = self._alignment.quad(face.detection.landmarks)
        if self._refinement is None:
            return quad
        return self._refinement(picture, quad, face.track)

    def _layer(self, picture: Picture, face: KnownFace, cut: Cut, image: Picture) -> Layer:
        shapes = (
            face_shape(face.detection, self._settings.feather),
            *self._alignment.portrait_shapes(cut.quad),
        )
        return paste_layer(picture, image, cut.quad, shapes, self._matches)

    def _seen(self, pairs: Sequence[tuple[Picture, Picture]]) -> list[bool]:
        """Whether each (before, after) shows one person to the bundle's recognizer."""
        seen: list[bool] = []
        with torch.inference_mode():
            for start in range(0, len(pairs), _AT_ONCE):
                part = pairs[start : start + _AT_ONCE]
                before, after = (
                    to_tensor(pictures).to(self._anonymizer.device)
                    for pictures in zip(*part, strict=True)
                )
                seen += self._anonymizer.verification.resembling(after, before)
        return seen
