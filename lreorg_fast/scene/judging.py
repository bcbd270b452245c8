"""What the bundle's recognizer says of a face in a whole picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lreorg_fast.errors import LReorgError
from lreorg_fast.faces.alignment import Alignment
from lreorg_fast.faces.detection import Detection
from lreorg_fast.media.pictures import Picture
from lreorg_fast.models.views import encoded, recognized
from lreorg_fast.scene.canvas import canvas_of
from lreorg_fast.scene.refinement import Refinement

if TYPE_CHECKING:
    from lreorg_fast.pipeline import Anonymizer


class Recognition:
    """The recognizer of a bundle, on faces that are cut out as its domain says.

    Args:
        anonymizer: its bundle.
        refined: look for the square that the networks know best, see
            :class:`lreorg_fast.scene.refinement.Refinement`; takes about 0.1 s for a face.
    """

    def __init__(self, anonymizer: Anonymizer, refined: bool = False) -> None:
        self._anonymizer = anonymizer
        domain = anonymizer.bundle.manifest.domain
        self._alignment = Alignment.of_domain(domain.kind, domain.alignment)
        refines = refined and self._alignment.points is not None
        self._refinement = Refinement(anonymizer) if refines else None

    def vector(self, picture: Picture, face: Detection) -> NDArray[np.float64] | None:
        """(dim,) unit vector of the face; None if it cannot be cut out or gives no number."""
        cut = self._cut(picture, self._quad(picture, face))
        if cut is None:
            return None
        with torch.inference_mode():
            features = recognized(self._anonymizer.verification.recognizer, cut)
            vector = F.normalize(features[0].double(), dim=0).cpu().numpy()
        return vector if np.isfinite(vector).all() else None

    def resembling(self, source: Picture, made: Picture, face: Detection) -> bool:
        """Whether the face of ``made`` is taken for that of ``source``, or cannot be judged."""
        quad = self._quad(source, face)
        cuts = self._cut(source, quad), self._cut(made, quad)
        if cuts[0] is None or cuts[1] is None:
            return True
        with torch.inference_mode():
            (seen,) = self._anonymizer.verification.resembling(cuts[1], cuts[0])
        return seen

    def knows(self, picture: Picture, face: Detection) -> bool:
        """Whether the face is of the bundle's domain, so that the recognizer's word counts."""
        cut = self._cut(picture, self._quad(picture, face))
        if cut is None:
            return False
        with torch.inference_mode():
            codes = encoded(self._anonymizer.encoder, cut)
            back = self._anonymizer.generator.synthesis(codes)
            verification = self._anonymizer.verification
            (reason,) = verification.refusals(cut, codes, back, verification.features(cut))
        return reason is None

    def _quad(self, picture: Picture, face: Detection) -> NDArray[np.float64] | None:
        try:
            quad = self._alignment.quad(face.landmarks)
            if self._refinement is not None:
                return self._refinement(canvas_of(picture), quad, "")
        except (LReorgError, ValueError, OSError, MemoryError):
            return None
        return quad

    def _cut(self, picture: Picture, quad: NDArray[np.float64] | None) -> Tensor | None:
        if quad is None:
            return None
        try:
            cut = canvas_of(picture).cut(quad, self._anonymizer.resolution)
        except (LReorgError, ValueError, OSError, MemoryError):
            return None
        return cut[None].to(self._anonymizer.device)
