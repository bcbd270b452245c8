"""The method ``reorganize``: each face through the bundle's networks, checked again in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lreorg_fast.faces.alignment import Alignment
from lreorg_fast.faces.detection import Detection
from lreorg_fast.faces.regions import Shape, face_shape
from lreorg_fast.privacy.randomness import check_tracks
from lreorg_fast.scene.canvas import Canvas, DrawnLayer
from lreorg_fast.scene.cutting import Cut, cut_faces
from lreorg_fast.scene.faces import STILL_SEEN, KnownFace, Made, SceneStatus
from lreorg_fast.scene.refinement import Refinement
from lreorg_fast.scene.settings import SceneSettings
from lreorg_fast.settings import IDENTITY, ResolvedSettings

if TYPE_CHECKING:
    from lreorg_fast.pipeline import Anonymizer, LatentFilter

Quad = NDArray[np.float64]
_AT_ONCE = 16  # pairs of faces that the recognizer looks at together


def new_face_shapes(
    face: Detection, feather: float, alignment: Alignment, quad: Quad
) -> tuple[Shape, ...]:
    """What of a picture a new face is seen through."""
    return (face_shape(face, feather), *alignment.portrait_shapes(quad))


class Reorganize:
    """A :class:`lreorg_fast.scene.faces.FaceMaker`; the arguments are those of
    :class:`lreorg_fast.scene.SceneAnonymizer`."""

    status: SceneStatus = "replaced"

    def __init__(
        self,
        anonymizer: Anonymizer,
        settings: SceneSettings,
        latent_filter: LatentFilter | None = None,
        recovery: bool = False,
    ) -> None:
        self._anonymizer, self._settings = anonymizer, settings
        self._latent_filter, self._recovery = latent_filter, recovery
        self._pseudonyms: dict[str, ResolvedSettings] = {}
        self._resolved = anonymizer.resolve(settings.settings)
        domain = anonymizer.bundle.manifest.domain
        self._alignment = Alignment.of_domain(domain.kind, domain.alignment)
        if self._alignment.portrait:
            settings.refuse_borders(f"with portraits (the bundle's domain is '{domain.kind}')")
        # The border of a portrait is its own background, which says nothing of the light.
        self._matches = settings.colour_match and not self._alignment.portrait
        # FFHQ's square is what its encoders were trained on, and they bear its tolerance.
        self._refinement = Refinement(anonymizer) if self._alignment.points else None

    def make(self, canvas: Canvas, faces: Sequence[KnownFace]) -> list[Made]:
        """New faces for those that the bundle can represent."""
        cuts = cut_faces(
            canvas, faces, lambda face: self._place(canvas, face), self._anonymizer.resolution
        )
        made = [Made(None, cut if isinstance(cut, str) else None) for cut in cuts]
        whole = [(i, cut) for i, cut in enumerate(cuts) if isinstance(cut, Cut)]
        images, results = self._anonymizer.on_device(
            [cut.image for _, cut in whole],
            [faces[i].track for i, _ in whole],
            self._resolved,
            self._latent_filter,
            own=self._own(faces),
            recovery=self._recovery,
        )
        for (i, cut), image, result in zip(whole, images, results, strict=True):
            layer = None if image is None else self._layer(canvas, faces[i], cut.quad, image)
            made[i] = Made(layer, result.reason, result, cut.quad)
        return made

    def doubts(self, source: Canvas, finished: Canvas, made: Sequence[Made]) -> list[str | None]:
        """The recognizer compares each face's square before and after, neighbours included."""
        if IDENTITY not in self._resolved.hide:
            return [None] * len(made)
        return [STILL_SEEN if seen else None for seen in self._seen(source, finished, made)]

    def _own(self, faces: Sequence[KnownFace]) -> dict[str, ResolvedSettings]:
        """Of pseudonyms; their draws are held by the ledger, so this is only made once."""
        for face in faces:
            if face.sampler is None or face.track in self._pseudonyms:
                continue
            check_tracks(face.sampler, [face.track])
            resolved = self._anonymizer.resolve(self._settings.settings, face.sampler)
            self._pseudonyms[face.track] = resolved
        named = {face.track for face in faces if face.sampler is not None}
        return {track: self._pseudonyms[track] for track in named}

    def _place(self, canvas: Canvas, face: KnownFace) -> NDArray[np.float64]:
        quad = self._alignment.quad(face.detection.landmarks)
        if self._refinement is None:
            return quad
        return self._refinement(canvas, quad, face.track)

    def _layer(
        self, canvas: Canvas, face: KnownFace, quad: NDArray[np.float64], image: Tensor
    ) -> DrawnLayer:
        shapes = new_face_shapes(face.detection, self._settings.feather, self._alignment, quad)
        return canvas.paste(image, quad, shapes, self._matches)

    def _seen(self, source: Canvas, finished: Canvas, made: Sequence[Made]) -> list[bool]:
        """Whether each face before and after is one person to the bundle's recognizer."""
        size, device = self._anonymizer.resolution, self._anonymizer.device
        seen: list[bool] = []
        with torch.inference_mode():
            for start in range(0, len(made), _AT_ONCE):
                quads = [entry.quad for entry in made[start : start + _AT_ONCE]]
                before, after = (
                    torch.stack([canvas.cut(quad, size) for quad in quads if quad is not None])
                    for canvas in (source, finished)
                )
                seen += self._anonymizer.verification.resembling(
                    after.to(device), before.to(device)
                )
        return seen
