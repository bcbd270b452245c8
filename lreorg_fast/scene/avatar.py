"""The method ``avatar``: a random person of the bundle's generator in the place of each head.

Nothing of the face goes in, so nothing of the identity comes out: no encoder, no recognizer, no
epsilon. What is kept is what was asked for and named.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from lreorg_fast.errors import ConfigError, LReorgError, PrivacyError
from lreorg_fast.faces.alignment import Alignment
from lreorg_fast.faces.regions import Shape, face_shape, head_shapes
from lreorg_fast.privacy.replacement import Replacement
from lreorg_fast.scene.canvas import Canvas, DrawnLayer
from lreorg_fast.scene.cutting import cut_faces
from lreorg_fast.scene.faces import KnownFace, Made, SceneStatus
from lreorg_fast.scene.settings import SceneSettings

if TYPE_CHECKING:
    from lreorg_fast.pipeline import Anonymizer
    from lreorg_fast.scene.attributes import PhotographAttributes

Floats = NDArray[np.float64]

AVATAR = "avatar"  # the keyword under which the ledger holds a track's avatar
GUARANTEE = (
    "the new face is drawn without looking at the old one, except for the kept keywords: identity "
    "is independent of it (epsilon 0)"
)
# Portraits that are drawn for one track before it is given up; of the demo's about 1 in 100 is
# refused by its detector.
_MOST_DRAWS = 8
# With kept keywords: portraits among which one is chosen that has them.
_CHOICE = 48
# The portrait grows by at most this to cover the whole head; what is left is filled.
_MOST_GROWTH = 1.35
_COVERED = 0.9  # share of the half side up to which a portrait is surely opaque


class Avatar:
    """A :class:`lreorg_fast.scene.faces.FaceMaker`.

    Args:
        anonymizer: its generator draws, its ledger holds one avatar per track.
        settings: ``keep`` names the keywords to carry over; by default none.
        attributes: reads them off photographs; needed if ``keep`` names any.
        gauss: a standard normal number; for tests only, by default from the operating system.

    Raises:
        ConfigError: ``keep`` without ``attributes``, or keywords that cannot be carried over.
    """

    status: SceneStatus = "replaced"

    def __init__(
        self,
        anonymizer: Anonymizer,
        settings: SceneSettings,
        attributes: PhotographAttributes | None = None,
        gauss: Callable[[], float] | None = None,
    ) -> None:
        self._anonymizer, self._settings = anonymizer, settings
        self._gauss = gauss or (lambda: random.SystemRandom().gauss(0.0, 1.0))
        domain = anonymizer.bundle.manifest.domain
        self._alignment = Alignment.of_domain(domain.kind, domain.alignment)
        self._keep = _kept(settings)
        if self._keep and attributes is None:
            raise ConfigError(
                f"keeping {', '.join(self._keep)} with the method 'avatar' needs a CLIP model for "
                "photographs, which sees them; give one with --clip, or leave keep out"
            )
        if attributes is not None:
            if not self._keep:
                raise ConfigError("a CLIP model has no effect: keep names no keyword")
            attributes.check(self._keep)
        self._attributes = attributes

    def make(self, canvas: Canvas, faces: Sequence[KnownFace]) -> list[Made]:
        """A held avatar per track; a face that cannot be placed is given up."""
        return [self._made(canvas, face) for face in faces]

    def doubts(self, source: Canvas, finished: Canvas, made: Sequence[Made]) -> list[str | None]:
        """None: the new face never knew the old one, and its mask covers the whole head."""
        return [None] * len(made)

    def _made(self, canvas: Canvas, face: KnownFace) -> Made:
        try:
            heads = head_shapes(face.detection)
            quad = covering(self._alignment.quad(face.detection.landmarks), heads)
            portrait = self._portrait(self._held(canvas, face))
            return Made(self._layer(canvas, face, portrait, quad))
        except LReorgError as error:
            return Made(None, str(error))

    def _layer(
        self, canvas: Canvas, face: KnownFace, portrait: torch.Tensor, quad: Floats
    ) -> DrawnLayer:
        shapes = (
            face_shape(face.detection),
            *head_shapes(face.detection),
            *self._alignment.portrait_shapes(quad),
        )
        return canvas.paste(portrait, quad, shapes)

    def _held(self, canvas: Canvas, face: KnownFace) -> NDArray[np.float32]:
        ledger = self._anonymizer.ledger
        held = ledger.drawn(face.track).get(AVATAR)
        if held is None:
            # The ledger is locked while it draws, and a generator that hangs must not hold it.
            new = self._drawn(canvas, face)
            held = ledger.held(face.track, lambda: new, 0.0, AVATAR)
        return held.feature

    def _drawn(self, canvas: Canvas, face: KnownFace) -> Replacement:
        if self._attributes is None or not self._keep:
            z = self._faces(1)[0]
        else:
            (cut,) = cut_faces(canvas, [face], _ffhq, self._attributes.size)
            if isinstance(cut, str):
                raise PrivacyError(f"its attributes cannot be seen: {cut}")
            wanted = self._attributes.of_photograph(cut.image, self._keep)
            candidates = self._faces(_CHOICE)
            pictures = self._synthesis(candidates)
            z = candidates[self._attributes.nearest(pictures, wanted)]
        return Replacement(z.numpy(), None, 0.0, AVATAR, GUARANTEE)

    def _faces(self, count: int) -> torch.Tensor:
        """(count, z_dim) that give faces, as far as the bundle can tell."""
        found: list[torch.Tensor] = []
        for _ in range(_MOST_DRAWS):
            z = torch.tensor([[self._gauss() for _ in range(self._z_dim)] for _ in range(count)])
            with torch.inference_mode():
                made, verification = self._synthesis(z), self._anonymizer.verification
                good = verification.evidence.of_results(made, verification.features(made))
            found.extend(row for row, is_face in zip(z, good.tolist(), strict=True) if is_face)
            if len(found) >= count:
                return torch.stack(found[:count])
        raise PrivacyError("the bundle's generator made no face; use another bundle")

    @property
    def _z_dim(self) -> int:
        return int(self._anonymizer.generator.config.z_dim)

    def _synthesis(self, z: torch.Tensor) -> torch.Tensor:
        """(N, 3, R, R) in [-1, 1] of (N, z_dim)."""
        generator = self._anonymizer.generator
        with torch.inference_mode():
            w = generator.mapping(z.to(self._anonymizer.device))
            made: torch.Tensor = generator.synthesis(w).clamp(-1, 1)
        return made

    def _portrait(self, z: NDArray[np.float32]) -> torch.Tensor:
        made = self._synthesis(torch.tensor(z)[None])
        if not bool(torch.isfinite(made).all()):
            raise PrivacyError("the generator gave no finite picture")
        return made[0]


def _kept(settings: SceneSettings) -> tuple[str, ...]:
    keep = settings.keep
    if keep is None:
        return ()
    return (keep,) if isinstance(keep, str) else tuple(keep)


def _ffhq(face: KnownFace) -> Floats:
    return Alignment().quad(face.detection.landmarks)


def covering(quad: Floats, shapes: Sequence[Shape]) -> Floats:
    """The square, grown around its centre so far that it covers the shapes, within a limit."""
    centre = quad.mean(axis=0)
    right, down = (quad[3] - quad[0]) / 2, (quad[1] - quad[0]) / 2
    corners = np.concatenate([shape.corners for shape in shapes]) - centre
    reach = np.abs(corners @ np.stack([right, down], axis=1)) / float(right @ right)
    growth = np.clip(reach.max() / _COVERED, 1.0, _MOST_GROWTH)
    return np.asarray(centre + growth * (quad - centre))
